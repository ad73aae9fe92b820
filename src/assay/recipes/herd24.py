"""Herd24: GenConViT on faces, first without their eyes, by "Herd mentality" (arXiv 2410.05466).

Sees: faces, each cropped as a square and resized to 224 px. In training first with the eyes black, then whole; turned
and flipped, and nothing else, as noise and light are said to disturb what is looked for. Judging never masks.

Claims: 98.36 % accuracy and an F1 of 95.21 on Celeb-DF v2: 1.71 points of F1 and 4.34 of accuracy over GenConViT. Which
class is the positive one and which clips were tested is not stated; the figures imply 16 to 18 % positives, and the
official list has 34 % reals. GenConViT's own figures on Celeb-DF: 90.95 % accuracy, AUC .981.

Learns: two nets, each a ConvNeXt and a Swin transformer over a picture and a drawing of it: an autoencoder's (net A)
and a variational one's (net B), by cross-entropy in which a real weighs 1.85, and what the drawing misses. The lessons
of the curriculum go on from each other's best weights; the releases' schedule is masked, whole, masked.

Expects: more false alarms on reals or low recall where it fails, and that turning and flipping makes it no worse.

Departs: both halves of the hybrid are used (`assay.learn.nn.genconvit`). The release weighs class 0, which its folders
make fake, and then replaces the weighted loss by a plain one; here real weighs 1.85, as the paper says. Crops have a
margin of 1.3, since a swap's seam lies at a face's edge. The most fake of several faces decides; a clip's track is the
mean over its frames, as GenConViT has 15. The small size has a thin hybrid on faces of 64 px. As there are no published
weights to begin with, it is trained first on whole faces by a plain cross-entropy, and then goes through the lessons;
both by AdamW.
"""

from __future__ import annotations

from typing import Any

from assay.image.align import Align
from assay.image.alter import T
from assay.image.augment import PLAIN, STRONG
from assay.image.view import View
from assay.learn.recipe import (
    Backbone,
    Calibrate,
    Crops,
    CrossEntropy,
    Descend,
    Expected,
    Fit,
    Lesson,
    Linear,
    Optimiser,
    Pretrain,
    Recipe,
    Stream,
    Tiles,
)

NETS = ("autoencoder", "variational")
"""Net A and net B: 58 and 687 M parameters at 224 px."""

MASKED, WHOLE = Lesson(eyes="masked"), Lesson(eyes="shown")

CURRICULA: dict[str, tuple[Lesson, ...]] = {
    "paper": (MASKED, WHOLE),
    "release": (Lesson(eyes="masked", share=20), Lesson(eyes="shown", share=15), Lesson(eyes="masked", share=15)),
    "whole": (),
}

REAL_WEIGHT = {"real": 1.85}

THIN: dict[str, Any] = {
    "convnext": "convnext_atto",
    "convnext_fields": {"output_stride": 16, "dims": [16, 32, 64, 96], "depths": [1, 1, 2, 1]},
    "swin_fields": {"window_size": 4, "embed_dim": 32, "depths": [1, 1, 2], "num_heads": [2, 4, 8]},
    "features": 64,
    "hidden": 64,
    "widths": [8, 16, 32, 32, 32],
    "latent": 16,
}
"""Fields of a hybrid for faces of 64 px: maps of 4 × 4."""


def _descend(net: str) -> Descend:
    return Descend(
        stream=net,
        # *Release*: net B alone is asked for a likeness.
        loss=CrossEntropy(weights=REAL_WEIGHT, reconstruction=float(net == "variational")),
        crops=Crops(base=None),
        alter=T(max_ops=0, size=224, resize=None, crop="random"),
        augment=PLAIN,
        curriculum=CURRICULA["paper"],
        optimiser=Optimiser(
            kind="sgd",
            learning_rate=1e-4,
            momentum=0.9,
            weight_decay=0.05,
            warmup=0.0,
            schedule="steps",
            every=5,
            factor=0.1,
        ),
        pairs=16,
        steps=2000,
        epochs=35,
        patience=35,
        tiles=Tiles(side=512, each=1, reduce_above=None),
    )


RECIPE = Recipe(
    name="herd24",
    summary="Herd: GenConViT on faces, eyes masked first, real weighed 1.85, turned and flipped",
    streams=tuple(
        Stream(
            name=net,
            view=View(size=224, layout="faces"),
            backbone=Backbone(name="genconvit", pretrained=True, fields={"net": net}),
            heads=(Linear(trained=True),),
            pool="max",
        )
        for net in NETS
    ),
    stages=(
        *(_descend(net) for net in NETS),
        *(Fit(stream=net, records=20_000, altered=1) for net in NETS),
        Calibrate(rule="mean"),
    ),
    expects=(
        Expected(table="celeb-df", what="F1, Celeb-DF v2", value=95.21, source="arXiv 2410.05466"),
        Expected(table="celeb-df", what="accuracy, Celeb-DF v2", value=98.36, source="arXiv 2410.05466"),
    ),
)


def small(recipe: Recipe) -> Recipe:
    """The same lessons within minutes of one core: a thin hybrid on faces of 64 px, trained before them."""
    common: dict[str, Any] = {
        "align": Align(probability=0.3, quality=(60, 98), scale=(0.6, 1.1), scale_probability=0.4),
        "source_power": 0.5,
        "tiles": Tiles(side=128, each=1, reduce_above=None),
        "pairs": 16,
    }
    changes: dict[str, Any] = {f"descend__{field}": value for field, value in common.items()}
    first = []
    for stream in recipe.streams:
        own = stream.backbone.fields
        fields = THIN | own
        if own["net"] == "variational":
            fields["widths"] = [8, 16, 32, 32]
        changes[f"{stream.name}__backbone"] = Backbone(name="genconvit", front="both", fields=fields)
        changes[f"{stream.name}__view__size"] = 64
        first.append(
            Pretrain(
                stream=stream.name,
                loss=CrossEntropy(),
                crops=Crops(base=None),
                alter=T(max_ops=0, size=64, resize=None, crop="random"),
                optimiser=Optimiser(learning_rate=3e-3, weight_decay=0.05, warmup=0.1),
                steps=150,
                epochs=6,
                patience=6,
                **common,
            )
        )
    recipe = recipe.set(
        **changes,
        descend__optimiser=Optimiser(learning_rate=1e-3, weight_decay=0.05, warmup=0.1),
        descend__steps=60,
        descend__epochs=6,
        descend__patience=6,
        fit__records=2000,
    )
    return recipe.model_copy(update={"stages": (*first, *recipe.stages)})


def _one(net: str) -> Recipe:
    """One of the nets alone, as the authors offer."""
    stages = tuple(stage for stage in RECIPE.stages if getattr(stage, "stream", net) == net)
    return RECIPE.set(summary=f"Herd, the {net} net alone", streams=(RECIPE.stream(net),), stages=stages)


def _divergent(weight: float) -> Recipe:
    """With the divergence of net B's latent in its loss, which the release computes and leaves out."""
    stages = tuple(
        stage.model_copy(update={"loss": stage.loss.model_copy(update={"kl": weight})})
        if isinstance(stage, Descend) and stage.stream == "variational"
        else stage
        for stage in RECIPE.stages
    )
    return RECIPE.set(summary=f"Herd, the latent's divergence weighed {weight:g}", stages=stages)


def _halves(*halves: str) -> Recipe:
    changes = {f"{net}__backbone__fields__halves": list(halves) for net in NETS}
    return RECIPE.set(summary=f"Herd with {' and '.join(halves)} alone", **changes)


VARIANTS = {
    **{net: _one(net) for net in NETS},
    "release": RECIPE.set(
        summary="Herd with the release's lessons: masked, whole, masked, for 20, 15 and 15 epochs",
        descend__curriculum=CURRICULA["release"],
        descend__epochs=50,
        descend__patience=50,
    ),
    "genconvit": RECIPE.set(
        summary="GenConViT: no lessons, no weights, noise and light among its augmentation",
        descend__curriculum=CURRICULA["whole"],
        descend__loss__weights={},
        descend__augment=STRONG,
    ),
    "kl": _divergent(1e-3),
    "convnext": _halves("convnext"),
    "swin": _halves("swin"),
}
