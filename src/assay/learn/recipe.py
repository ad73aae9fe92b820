"""A recipe: everything that makes a detector, as one Python value.

A recipe is data. The stages of a paper are items of a list; the machinery that runs them (`assay.learn.train`) knows
the stages, never the papers. Fields are checked when a recipe is made, and `Recipe.set` reaches every one of them by
name.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeVar

import pydantic

from assay.errors import RecipeError, unknown
from assay.image import augment
from assay.image.align import Align
from assay.image.alter import T
from assay.image.augment import Augment
from assay.image.degrade import Degrade
from assay.image.view import View
from assay.judge.rule import Pool
from assay.judge.vote import Method
from assay.settings import replaced


class Part(pydantic.BaseModel):
    """A frozen piece of a recipe; unknown fields are refused."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    @pydantic.model_serializer(mode="wrap")
    def _with_its_kind(
        self, dump: pydantic.SerializerFunctionWrapHandler, info: pydantic.SerializationInfo
    ) -> dict[str, Any]:
        told: dict[str, Any] = dump(self)
        if info.exclude_defaults:
            # It still has to tell which of several parts it is.
            told = {tag: getattr(self, tag) for tag in ("kind", "stage") if tag in type(self).model_fields} | told
        return told


class LoRA(Part):
    """Low-rank adaptation (Hu et al., ICLR 2022): the network stays, small matrices beside some of its layers learn.

    They are merged into the layers before the network is exported, so that judging knows nothing of them. The values
    are those of drift (*release*: khoalephanminh/ntire26-deepfake-challenge, `training/config/detector`).

    Args:
        rank: of each pair of matrices.
        alpha: their product counts alpha / rank.
        dropout: of what goes into them, in training.
        targets: the layers' names, as a regular expression for the whole of a name. timm's transformers hold query, key
            and value in one layer, `qkv`; `proj` is the release's "dense".
    """

    rank: int = pydantic.Field(32, ge=1)
    alpha: float = pydantic.Field(64, gt=0)
    dropout: float = pydantic.Field(0.15, ge=0, lt=1)
    targets: str = r"blocks\.\d+\.attn\.(qkv|proj)"


class Backbone(Part):
    """The network under a head.

    Args:
        name: any timm model, "trace_cnn" (`assay.learn.nn.trace`), "patch_cnn" (`assay.learn.nn.patch`), "cooccurrence"
            (`assay.learn.nn.cooccurrence`) or "genconvit" (`assay.learn.nn.genconvit`).
        front: what the network is shown: "pixels"; "residual", the picture minus what its neighbours predict
            (three fixed high-pass filters a channel, `assay.learn.nn.front`); "both"; or "chroma", the residual of luma
            and colour differences.
        pretrained: weights by timm's name from its hub (asks the network) instead of random ones.
        weights: a local safetensors file in timm's naming instead.
        norm_eps: epsilon of every LayerNorm; None keeps the network's own (timm's ViTs have 1e-6, transformers' 1e-12).
        fields: further keyword arguments of the network's constructor. Of "genconvit" also "weights": safetensors files
            for parts of it ("convnext", "swin"), by the part's name.
        lora: trains matrices beside its layers in place of the layers; None trains the network itself.
    """

    name: str = "vit_tiny_patch16_224"
    front: Literal["pixels", "residual", "both", "chroma"] = "pixels"
    pretrained: bool = False
    weights: str = ""
    norm_eps: float | None = pydantic.Field(None, gt=0)
    fields: dict[str, Any] = {}
    lora: LoRA | None = None


class Beside(Part):
    """A second network, never trained, whose embedding is put beside the first one's (drift, *release*: CLIP's vision
    transformer beside DINOv2).

    Args:
        backbone: the network.
        mean, std: per channel, of samples in [0, 1], as it wants its pictures; those of CLIP.
    """

    backbone: Backbone
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)


class Pooled(Part):
    """The network's own embedding: its class token, or the mean over its map."""

    kind: Literal["pooled"] = "pooled"


class Conv(Part):
    """Convolutions over the network's feature map, then the mean over places (drift, *paper*: a shallow one for the
    whole picture, a deeper one for a face). Widths and kernels are *ours*.

    Args:
        widths: channels of each 3 x 3 convolution, which batch normalisation and a rectifier follow; the last is the
            embedding's length.
        dropout: of the embedding, in training.
    """

    kind: Literal["conv"] = "conv"
    widths: tuple[Annotated[int, pydantic.Field(ge=1)], ...] = pydantic.Field((256, 128), min_length=1)
    dropout: float = pydantic.Field(0.1, ge=0, lt=1)


class Text(Part):
    """Texts' embeddings look at the network's feature map through transformer blocks (drift, *paper*: DINOv2's features
    with CLIP's text embeddings in a "transformer-style fusion block"). Blocks, width and heads are *ours*.

    Each block lets the texts attend to one another, then to the places of the map. The embedding is what becomes of
    them, one after another. The texts are embedded once, in training (`assay.learn.text`), and lie in the bundle as
    numbers.

    Args:
        prompts: the texts.
        weights: whose text embeddings: a folder with a CLIP text model and its tokenizer as transformers saves them, a
            safetensors file that holds "embeddings" (one row a prompt), or a repository of the hub (asks the network).
            Empty: directions drawn from the prompts' letters, that mean nothing.
        width: of the blocks; the embedding is as long as width x prompts.
        heads: of attention.
        depth: blocks.
        dropout: in training.
    """

    kind: Literal["text"] = "text"
    prompts: tuple[str, ...] = pydantic.Field(("real face", "synthetic face"), min_length=1)
    weights: str = ""
    width: int = pydantic.Field(256, ge=1)
    heads: int = pydantic.Field(8, ge=1)
    depth: int = pydantic.Field(2, ge=1)
    dropout: float = pydantic.Field(0.1, ge=0, lt=1)

    @pydantic.model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"a width of {self.width} cannot be shared by {self.heads} heads")
        return self


class Projection(Part):
    """Layers over the embedding, each with a rectifier (drift, *release*: 2,560 to 512).

    Args:
        widths: of each layer; the last is the embedding's length.
        dropout: before each layer, in training.
    """

    kind: Literal["projection"] = "projection"
    widths: tuple[Annotated[int, pydantic.Field(ge=1)], ...] = pydantic.Field((512,), min_length=1)
    dropout: float = pydantic.Field(0.0, ge=0, lt=1)


Neck = Annotated[Pooled | Conv | Text | Projection, pydantic.Field(discriminator="kind")]
"""What makes a stream's embedding of what its network gives."""


class Linear(Part):
    """Logistic regression, on un-normalised embeddings unless another thing is said.

    Source: CoDE, section 3.3 (paper); the values are those of aimagelab/CoDE@f1c0566,
    src/quantitative_evaluation/linear_training.py (release).

    Args:
        C: inverse strength of the penalty on the weights.
        balanced: weighs the classes alike.
        iterations: at most.
        standardised: bring each number of the embedding to mean 0 and deviation 1 first, so that the penalty weighs all
            alike (*ours*): for embeddings of numbers of several kinds.
        trained: take the layer that the network was trained with, as it is, in place of a regression (drift). Its loss
            must have one: a cross-entropy.
    """

    kind: Literal["linear"] = "linear"
    C: float = pydantic.Field(0.316, gt=0)
    balanced: bool = True
    standardised: bool = False
    iterations: int = pydantic.Field(1500, ge=1)
    trained: bool = False


class Nearest(Part):
    """One nearest neighbour by cosine: a picture is what the reference closest to it is.

    Source: CoDE, section 3.3 (paper): KNeighborsClassifier(1, metric="cosine") of aimagelab/CoDE@f1c0566,
    src/quantitative_evaluation/linear_training.py (release). That references may be fewer than the rows is ours.

    Args:
        most: references kept, at most, drawn from what the head is fitted on, each class by its share. All are looked
            at for every crop that is judged, and they travel with the bundle: 2 bytes for each of their numbers.
    """

    kind: Literal["nearest"] = "nearest"
    most: int = pydantic.Field(50_000, ge=2)


class OneClass(Part):
    """A one-class SVM with a polynomial kernel that knows reals only: whatever lies apart from them is fake.

    Source: CoDE, section 3.3 (paper): OneClassSVM(nu=0.1, kernel="poly", gamma="auto") of aimagelab/CoDE@f1c0566,
    src/quantitative_evaluation/linear_training.py, whose degree and constant are scikit-learn's (release).

    Args:
        nu: share of the reals that may lie outside, at most; and of those that become support vectors, at least.
        degree, coef0, gamma: of the kernel (gamma · a · b + coef0) ^ degree. gamma "auto" is 1 / d, made for embeddings
            whose numbers have a variance near 1, as a LayerNorm leaves them; "scale" is 1 / (d · variance).
        most: reals that it is fitted on, at most, drawn from all: time and memory grow by their square. The release
            has about as many.
    """

    kind: Literal["one_class"] = "one_class"
    nu: float = pydantic.Field(0.1, gt=0, lt=1)
    degree: int = pydantic.Field(3, ge=1)
    gamma: Literal["auto", "scale"] | Annotated[float, pydantic.Field(gt=0)] = "auto"
    coef0: float = 0.0
    most: int = pydantic.Field(10_000, ge=2)


class MLP(Part):
    """A multi-layer perceptron on standardised embeddings, by binary cross-entropy.

    Source: DFCon (arXiv 2501.16704), stage 2: an MLP on the frozen backbone's embedding. Its shape and optimiser are
    not published; these are *ours*. scikit-learn's MLPClassifier fits it (Adam).

    Args:
        hidden: width of each hidden layer.
        learning_rate: of Adam.
        penalty: on the squared weights.
        batch: rows of a step.
        epochs: at most; it stops before where the loss no longer falls.
    """

    kind: Literal["mlp"] = "mlp"
    hidden: tuple[Annotated[int, pydantic.Field(ge=1)], ...] = (256,)
    learning_rate: float = pydantic.Field(1e-3, gt=0)
    penalty: float = pydantic.Field(1e-3, ge=0)
    batch: int = pydantic.Field(256, ge=1)
    epochs: int = pydantic.Field(60, ge=1)


Head = Annotated[Linear | Nearest | OneClass | MLP, pydantic.Field(discriminator="kind")]


class Stream(Part):
    """A view, a network, its heads, and how the scores of several crops become one.

    Args:
        beside: a second network; its embedding follows the first one's.
        neck: what makes the stream's embedding of it. It is trained with the network.
        heads: no kind twice. The first is the default: it votes. The others judge where they are asked for.
    """

    name: str
    view: View
    backbone: Backbone
    beside: Beside | None = None
    neck: Neck = Pooled()
    heads: tuple[Head, ...] = pydantic.Field((Linear(),), min_length=1)
    pool: Pool = "mean"

    @pydantic.model_validator(mode="after")
    def _no_kind_twice(self) -> Self:
        kinds = [head.kind for head in self.heads]
        if len(set(kinds)) < len(kinds):
            raise ValueError(f"heads of one stream must differ in kind, not {', '.join(kinds)}")
        return self

    @property
    def bare(self) -> bool:
        """Whether its embedding is the network's own."""
        return self.beside is None and isinstance(self.neck, Pooled)

    @property
    def keeps_layer(self) -> bool:
        """Whether a head is the layer that the network was trained with."""
        return any(isinstance(head, Linear) and head.trained for head in self.heads)

    @property
    def named(self) -> dict[str, Head]:
        """Each head by the name of the stream that it makes in a bundle: NAME for the first, NAME-KIND for others."""
        first, *others = self.heads
        return {self.name: first} | {f"{self.name}-{head.kind}": head for head in others}


class InfoNCE(Part):
    """CoDE's loss (arXiv 2407.20337, section 3).

    Args:
        temperature: tau.
        multi_scale: share of the multi-scale term; the global term has the rest. 0 leaves global only.
        halves: which classes serve as anchors. The full loss has both.
        contrastive: weight of all the above. 0 leaves the cross-entropy alone (*paper*: the model that CoDE is compared
            with, "ViT-T (BCE)").
        bce: weight of a binary cross-entropy of all views, through a linear layer that is thrown away after
            training. 0 in the paper.
    """

    kind: Literal["info_nce"] = "info_nce"
    temperature: float = pydantic.Field(0.1, gt=0)
    multi_scale: float = pydantic.Field(0.5, ge=0, le=1)
    halves: tuple[Literal["real", "fake"], ...] = pydantic.Field(("real", "fake"), min_length=1)
    contrastive: float = pydantic.Field(1.0, ge=0)
    bce: float = pydantic.Field(0.0, ge=0)

    @pydantic.model_validator(mode="after")
    def _something_left(self) -> Self:
        if not self.contrastive and not self.bce:
            raise ValueError("contrastive and bce cannot both weigh nothing")
        return self


class SupCon(Part):
    """Supervised contrastive loss (Khosla et al., NeurIPS 2020, equation 2) on projections of the embedding.

    Source: DFCon (arXiv 2501.16704), stage 1. The paper gives no temperature; that of Khosla et al. stands here
    (*ours*). `focal` and `unified` are *ours*.

    Args:
        temperature: tau.
        views: augmented views of each picture.
        projection: widths of the layers that the loss looks through, the last one its own; thrown away after training.
            The hidden ones have a rectifier.
        norm: batch normalisation after each of these layers (*ours*, as SimCLR has it). Where all projections of a
            batch have fallen onto one point, the loss stands still; centred, they cannot.
        focal: gamma. An anchor weighs (1 - p) ** gamma, p the share of its softmax that its positives have: anchors
            that already lie among their own count for less. 0 weighs all alike.
        unified: draws a fake to fakes of *other* methods alone, and neither to nor from those of its own, so that
            methods have no reason to form clusters of their own.
    """

    kind: Literal["sup_con"] = "sup_con"
    temperature: float = pydantic.Field(0.07, gt=0)
    views: int = pydantic.Field(2, ge=2, le=16)
    projection: tuple[Annotated[int, pydantic.Field(ge=1)], ...] = pydantic.Field((512, 128), min_length=1)
    norm: bool = True
    focal: float = pydantic.Field(0.0, ge=0)
    unified: bool = False


class CrossEntropy(Part):
    """Binary cross-entropy through one linear layer, which is thrown away after training unless the head is to be it
    (`Linear.trained`).

    Its target is the label, or a teacher's P(fake) (distillation: Hinton, Vinyals, Dean, "Distilling the Knowledge in a
    Neural Network", 2015), or something between.

    Args:
        views: augmented views of each picture.
        teacher: weight of the teacher's P(fake), which the manifest has in its column "teacher"; the label has the
            rest.
        focal: gamma. A view weighs (1 - p) ** gamma, p the probability that the layer gives its class: what is known
            already counts for less (Lin et al., ICCV 2017; drift, *release*: 2). 0 weighs all alike.
        weights: of a class, by its name; 1 where it is not named. A batch's loss is the weighted mean (herd: 1.85 on
            real).
        reconstruction: weight of the mean squared error of what a network draws of its pictures, for one that does
            (GenConViT, *release*: 1 for net B).
        kl: weight of the divergence of a variational network's latent (GenConViT's code has it, switched off).
    """

    kind: Literal["cross_entropy"] = "cross_entropy"
    views: int = pydantic.Field(1, ge=1, le=16)
    focal: float = pydantic.Field(0.0, ge=0)
    teacher: float = pydantic.Field(0.0, ge=0, le=1)
    weights: dict[Literal["real", "fake"], Annotated[float, pydantic.Field(gt=0)]] = {}
    reconstruction: float = pydantic.Field(0.0, ge=0)
    kl: float = pydantic.Field(0.0, ge=0)

    @property
    def penalties(self) -> dict[str, float]:
        """Weights of what the network itself is to keep small, by name; those that count."""
        return {name: weight for name in ("reconstruction", "kl") if (weight := getattr(self, name))}


def _loss(given: Any) -> str:
    # Recipes that were written before there was another loss do not say which they have.
    return str(given.get("kind", "info_nce") if isinstance(given, dict) else getattr(given, "kind", ""))


Loss = Annotated[
    Annotated[InfoNCE, pydantic.Tag("info_nce")]
    | Annotated[SupCon, pydantic.Tag("sup_con")]
    | Annotated[CrossEntropy, pydantic.Tag("cross_entropy")],
    pydantic.Discriminator(_loss),
]


def _ordered(share: tuple[float, float]) -> tuple[float, float]:
    if not 0 < share[0] <= share[1] <= 1:
        raise ValueError("a range of shares must be (low, high) with 0 < low <= high <= 1")
    return share


Shares = Annotated[tuple[float, float], pydantic.AfterValidator(_ordered)]
"""Bounds of a share of an area, in (0, 1]."""


class Crops(Part):
    """The views that training draws of one picture.

    CoDE's loss has a clean, a transformed, a global and local ones. Other losses have as many as they say, each cut by
    T from the whole region (`base`), and no other field says anything of them.

    Args:
        base: side in pixels of the native-resolution region that all views of a picture are cut from; None takes the
            whole stored tile.
        global_area, local_area: range of the share of that region's area.
        local: side in pixels of a local view (*paper*: 96, *release*: 224); the global view has the stream's.
        count: local views of a picture (*paper*: 1); the multi-scale term is their mean.
        altered: the views that T is applied to; the others are only cropped and resized.
    """

    base: int | None = pydantic.Field(None, ge=8)
    global_area: Shares = (0.4, 1.0)
    local_area: Shares = (0.05, 0.4)
    local: int = pydantic.Field(96, ge=8)
    count: int = pydantic.Field(1, ge=1, le=16)
    altered: tuple[Literal["transformed", "global", "local"], ...] = ("transformed", "global", "local")


class Optimiser(Part):
    """Steps along the gradient, and how long they are: by default AdamW with linear warm-up and a cosine to zero.

    Args:
        kind: "adamw", or "sgd" with momentum.
        learning_rate: at its highest.
        schedule: after warm-up, "cosine" falls to zero; "steps" multiplies by `factor` after every `every` epochs
            (GenConViT).
        trunk: that of the network under the neck, or of its LoRA's matrices; the neck and the loss's layers keep
            `learning_rate`. None: the same for all. 0 freezes the network, its norms' statistics too.
        weight_decay: 0 makes it Adam.
        momentum: of "sgd".
    """

    kind: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = pydantic.Field(2e-3, gt=0)
    trunk: float | None = pydantic.Field(None, ge=0)
    weight_decay: float = pydantic.Field(2e-5, ge=0)
    warmup: float = pydantic.Field(5 / 150, ge=0, lt=1, description="share of all steps")
    clip: float = pydantic.Field(1.0, gt=0, description="largest norm of the gradient")
    momentum: float = pydantic.Field(0.9, ge=0, lt=1)
    schedule: Literal["cosine", "steps"] = "cosine"
    every: int = pydantic.Field(5, ge=1)
    factor: float = pydantic.Field(0.1, gt=0, le=1)


class Tiles(Part):
    """How pictures are held for training: decoded once into native-resolution tiles.

    Args:
        side: largest side of a tile in pixels.
        each: tiles kept of one picture.
        reduce_above: of a picture whose shorter side exceeds this, every second tile is cut from a copy reduced to a
            shorter side between `side` and this, so that a class whose pictures are large does not show only soft
            details. None never reduces.
    """

    side: int = pydantic.Field(512, ge=64)
    each: int = pydantic.Field(2, ge=1)
    reduce_above: int | None = 1024


AUGMENTATIONS: Mapping[str, Augment | Degrade | None] = {
    "none": None,
    "plain": augment.PLAIN,
    "strong": augment.STRONG,
    "dfcon": augment.DFCON,
    "degrade": Degrade(),
}
"""What `Shown.augment` may be called: rotation and flips (herd), those with noise, light and colour (what herd leaves
out), DFCon's, drift's degradation."""


def _augmentation(given: Any) -> Any:
    if not isinstance(given, str):
        return given
    if given not in AUGMENTATIONS:
        raise ValueError(unknown("augmentation", given, AUGMENTATIONS))
    return AUGMENTATIONS[given]


class Lesson(Part):
    """A part of a curriculum.

    Args:
        eyes: "masked" blackens the eyes of every face in training pictures (`assay.image.eyes`), and leaves pictures
            without a face out; "shown" leaves them as they are.
        share: of the stage's steps, against those of the other lessons.
    """

    eyes: Literal["shown", "masked"] = "shown"
    share: float = pydantic.Field(1.0, gt=0)


class Shown(Part):
    """How the pictures of a data set are held, and what a stream is shown of one.

    Args:
        source_power: a source with n pictures is drawn with weight n ** source_power: 1 draws pictures alike, 0
            sources alike.
        augment: online augmentation of every view, before `alter`: a pipeline, the degradation engine, or one of
            `AUGMENTATIONS` by name.
        secondary_weight: what a picture of the secondary data set weighs against one of the first when batches are
            drawn.
        align: sends both classes through one codec, quality and size draw, so that neither is told by its file.
        degrade: the degradation engine of drift, on the region that all views of a picture are cut from.
        decode: "once" keeps every picture decoded, as tiles on disk; "always" decodes it each time it comes up, from
            files or shards, once an epoch, for data sets that no disk holds decoded.
    """

    crops: Crops = Crops()
    alter: T = T()
    augment: Annotated[Augment | Degrade | None, pydantic.BeforeValidator(_augmentation)] = None
    align: Align | None = None
    degrade: Degrade | None = None
    decode: Literal["once", "always"] = "once"
    tiles: Tiles = Tiles()
    source_power: float = pydantic.Field(1.0, ge=0, le=1)
    secondary_weight: float = pydantic.Field(1.0, gt=0)


class Descent(Shown):
    """Gradient descent on what a stream is shown.

    Args:
        stream: whose network.
        curriculum: what is shown first and what later, in order (herd). Each lesson begins with the best weights of the
            one before, a new optimiser and the learning rate's schedule anew; what the last one leaves at its best is
            kept. Empty: one lesson, with eyes.
        sampling: "balanced" draws as many reals as fakes; "natural" draws them as they come, for a loss that can do
            without pairs: a cross-entropy.
        pairs: reals in a batch, and as many fakes; half of a batch where they come as they are.
        accumulate: parts that a batch goes through the network in, one after another, before the step: memory for one
            part, the gradient of all of them. A contrastive loss compares within a part alone, and so does batch
            normalisation.
        steps: an epoch; the tuning figure (the AUC of a quick linear probe) is looked at after each.
        epochs: at most.
        patience: epochs without a better tuning figure before stopping.
    """

    stream: str
    loss: Loss = InfoNCE()
    optimiser: Optimiser = Optimiser()
    curriculum: tuple[Lesson, ...] = ()
    sampling: Literal["balanced", "natural"] = "balanced"
    pairs: int = pydantic.Field(128, ge=2)
    accumulate: int = pydantic.Field(1, ge=1)
    steps: int = pydantic.Field(1700, ge=1)
    epochs: int = pydantic.Field(150, ge=1)
    patience: int = pydantic.Field(6, ge=1)

    @pydantic.model_validator(mode="after")
    def _parts_have_pairs(self) -> Self:
        if self.pairs % self.accumulate:
            raise ValueError(f"{self.pairs} pairs cannot go through in {self.accumulate} equal parts")
        if self.sampling == "natural" and not isinstance(self.loss, CrossEntropy):
            raise ValueError("a contrastive loss compares reals with fakes; set sampling to balanced")
        return self

    @property
    def masks(self) -> bool:
        """Whether some lesson masks eyes."""
        return any(lesson.eyes == "masked" for lesson in self.curriculum)

    def lessons(self, total: int) -> tuple[tuple[Lesson, int], ...]:
        """Each lesson with the step that it ends before, of `total` steps; every one has a step at least, where there
        are enough."""
        lessons = self.curriculum or (Lesson(),)
        whole, ends, done = sum(lesson.share for lesson in lessons), [], 0.0
        for place, lesson in enumerate(lessons, 1):
            done += lesson.share
            ends.append(max(min(place, total), min(round(total * done / whole), total - len(lessons) + place)))
        return tuple(zip(lessons, ends, strict=True))

    def lesson(self, step: int, total: int) -> tuple[Lesson, int, int]:
        """The lesson of a step, of `total`, with the steps that it begins with and ends before; behind the end, the
        last."""
        lessons = self.lessons(total)
        place = next((place for place, (_, end) in enumerate(lessons) if step < end), len(lessons) - 1)
        lesson, end = lessons[place]
        return lesson, lessons[place - 1][1] if place else 0, end


class Pretrain(Descent):
    """Train a network before any stream has it: every stream whose backbone equals that of `stream`, but for LoRA,
    begins with it. For networks whose published weights are not at hand."""

    stage: Literal["pretrain"] = "pretrain"


class Descend(Descent):
    """Train a stream's network by gradient descent.

    A stream without this stage has a frozen network: it stays as its backbone's weights make it, and heads alone are
    fitted.
    """

    stage: Literal["descend"] = "descend"


class Fit(Part):
    """Fit a stream's heads on frozen embeddings.

    Args:
        records: at most this many pictures.
        drawing: "balanced" draws as many reals as fakes, sources by `source_power`; "weighted" takes every picture, and
            a linear head weighs it as often as it would have been drawn (heads of other kinds count all alike), so that
            where one class is small all of the other has a say.
        altered: views of each picture after augmentation and T, beside the one plain view.
        teacher: weight of a teacher's P(fake), the manifest's column "teacher", in what a linear head is fitted to; the
            label has the rest. Heads of other kinds know labels only.
        shown: for a frozen network: how pictures are held and drawn (`degrade` has no part in fitting). Where "always"
            decodes them, only the `records` are read at all. A stream with a descend stage takes that stage's.
    """

    stage: Literal["fit"] = "fit"
    stream: str
    records: int = pydantic.Field(50_000, ge=2)
    drawing: Literal["balanced", "weighted"] = "balanced"
    altered: int = pydantic.Field(1, ge=0)
    teacher: float = pydantic.Field(0.0, ge=0, le=1)
    shown: Shown = Shown()


Scaling = Literal["platt", "temperature", "none"]


class Calibrate(Part):
    """Fit slope and offset of each stream, then threshold and doubt band, all on tuning rows.

    Args:
        rule: how the streams vote (`assay.judge.vote`). Where there are several, the bundle has all rules, and this one
            judges unless another is asked for.
        scaling: "platt" fits a slope and an offset to each stream's raw scores; "temperature" the slope alone (Guo et
            al., ICML 2017; drift); "none" leaves P(fake) = sigmoid(raw).
        skip: the share of verdicts that may change where streams are left out that hardly matter (`assay.judge.skip`).
        weights: of the streams, by name, where they vote by "tenths" (drift, *release*); 1 where none is given. By
            "levels" they weigh as the tuning rows say.
        fpr: the false-positive rate that the threshold is chosen for.
        decided: least share of tuning rows (classes weighted alike) that must get a verdict.
    """

    stage: Literal["calibrate"] = "calibrate"
    rule: Method = "mean"
    scaling: Scaling = "platt"
    weights: dict[str, Annotated[float, pydantic.Field(gt=0)]] = {}
    skip: float = pydantic.Field(0.005, ge=0, lt=1)
    fpr: float = pydantic.Field(0.05, gt=0, lt=1)
    decided: float = pydantic.Field(0.70, ge=0, le=1)


Kind = TypeVar("Kind", bound=Part)
Stage = Annotated[Pretrain | Descend | Fit | Calibrate, pydantic.Field(discriminator="stage")]


class Expected(Part):
    """A published figure, shown beside ours as the paper's."""

    table: str
    what: str
    value: float
    source: str


class Recipe(Part):
    """What makes a detector: data, streams, stages, and the result that its paper reports.

    Args:
        derive: derivations (`assay.data.derivations`) that training rows go through first, in order.
        imbalance: fakes for every real among training rows; of the class that there is too much of, rows are left out,
            the same ones each time. None keeps all.
        shared: streams over the same frozen network, with views of one size, have one copy of it, and run it once for
            all where their views are equal; else each has its own.
    """

    name: str
    summary: str
    derive: tuple[str, ...] = ()
    imbalance: float | None = pydantic.Field(None, gt=0)
    shared: bool = True
    streams: tuple[Stream, ...] = pydantic.Field(min_length=1)
    stages: tuple[Stage, ...]
    expects: tuple[Expected, ...] = ()

    def stream(self, name: str) -> Stream:
        for stream in self.streams:
            if stream.name == name:
                return stream
        raise RecipeError(unknown("stream", name, [s.name for s in self.streams]))

    def descend(self, stream: str) -> Descend:
        """The stage that trains a stream's network. Raises RecipeError where there is not exactly one."""
        return _only([s for s in self.stages if isinstance(s, Descend) and s.stream == stream], "descend", stream)

    @property
    def pretrained(self) -> tuple[Pretrain, ...]:
        """The stages that train networks before streams have them."""
        return tuple(stage for stage in self.stages if isinstance(stage, Pretrain))

    def frozen(self, stream: str) -> bool:
        """Whether no stage trains a stream's network."""
        return not any(isinstance(s, Descend) and s.stream == stream for s in self.stages)

    def shown(self, stream: str) -> Shown:
        """What a stream is shown of a picture: its descend stage's fields, or its fit stage's where it is frozen.

        Raises:
            RecipeError: not exactly one such stage; or both have such fields.
        """
        fitting = self.fit(stream)
        if self.frozen(stream):
            return fitting.shown
        if fitting.shown != Shown():
            raise RecipeError(
                f"fit.shown is for a frozen network, and {stream!r} has a descend stage; set the fields of descend"
            )
        return self.descend(stream)

    def fit(self, stream: str) -> Fit:
        """The stage that fits a stream's heads. Raises RecipeError where there is not exactly one."""
        return _only([s for s in self.stages if isinstance(s, Fit) and s.stream == stream], "fit", stream)

    def calibrate(self) -> Calibrate:
        """The stage that ends a recipe. Raises RecipeError where there is not exactly one."""
        return _only([s for s in self.stages if isinstance(s, Calibrate)], "calibrate")

    def set(self, **fields: Any) -> Self:
        """A copy with fields changed, named by dotted place with `__` for the dot.

        A stage is named by its kind, a stream by its name, a head by its kind:
        `recipe.set(descend__optimiser__learning_rate=1e-3)`, `recipe.set(code__view__size=160)`,
        `recipe.set(code__heads__nearest__most=1000)`.
        """
        recipe = self
        for place, value in fields.items():
            recipe = recipe.with_field(place.replace("__", "."), value)
        return recipe

    def with_field(self, place: str, value: Any) -> Self:
        """A copy with one field changed.

        Args:
            place: dotted, as in "descend.pairs".
            value: of the field's type, or text as a command line gives it: JSON ("null", "[1, 2]", "0.5"), else the
                text itself.

        Raises:
            RecipeError: no such field (the nearest are named), or the value does not fit it.
        """
        first, _, rest = place.partition(".")
        for slot, key in (("streams", "name"), ("stages", "stage")):
            items = getattr(self, slot)
            if not any(getattr(item, key) == first for item in items):
                continue
            if not rest:
                raise RecipeError(f"cannot set {place!r} as a whole; name a field of it, as in {place}.FIELD")
            changed = tuple(
                replaced(item, rest, value, place) if getattr(item, key) == first else item for item in items
            )
            return self.model_copy(update={slot: changed})
        if first not in type(self).model_fields:
            known = [*type(self).model_fields, *(s.name for s in self.streams), *(s.stage for s in self.stages)]
            raise RecipeError(f"cannot set {place!r}: " + unknown("field", first, known))
        copy: Self = replaced(self, place, value, place)
        return copy


def _only(stages: list[Kind], kind: str, stream: str = "") -> Kind:
    if len(stages) != 1:
        of = f" for the stream {stream!r}" if stream else ""
        raise RecipeError(f"a recipe needs exactly one {kind} stage{of}; this one has {len(stages)}")
    return stages[0]


def names() -> dict[str, str]:
    """Every recipe that `find` knows, with its one-line summary. A variant is named "recipe:variant"."""
    found: dict[str, str] = {}
    for module in _modules():
        found[module.RECIPE.name] = module.RECIPE.summary
        found |= {f"{module.RECIPE.name}:{name}": variant.summary for name, variant in module.VARIANTS.items()}
    return found


def find(name: str, size: Literal["small", "paper"] = "small") -> Recipe:
    """The recipe of that name, at the size for one small machine or at the paper's.

    Raises:
        RecipeError: no such recipe or variant.
    """
    base, _, variant = name.partition(":")
    for module in _modules():
        if module.RECIPE.name != base:
            continue
        if variant and variant not in module.VARIANTS:
            raise RecipeError(unknown("variant", variant, module.VARIANTS))
        # A card names the recipe that made it, so a variant goes by its full name.
        recipe: Recipe = module.VARIANTS[variant].set(name=name) if variant else module.RECIPE
        return module.small(recipe) if size == "small" else recipe
    raise RecipeError(unknown("recipe", name, names()))


def _modules() -> list[Any]:
    package = importlib.import_module("assay.recipes")
    return [
        importlib.import_module(f"assay.recipes.{info.name}")
        for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda info: info.name)
    ]
