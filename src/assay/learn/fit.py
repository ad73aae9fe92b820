"""Fitting heads on frozen embeddings of training rows."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.svm import OneClassSVM

from assay.errors import ManifestError, RecipeError
from assay.judge.engine import Engine
from assay.judge.heads import Head, LinearHead, MLPHead, NearestHead, OneClassHead
from assay.learn.batches import TEACHER, Balanced, teacher_of
from assay.learn.embed import Kept, embed
from assay.learn.recipe import MLP, Fit, Linear, Nearest, OneClass, Shown, Stream
from assay.learn.recipe import Head as HeadRecipe
from assay.learn.rows import labels_of
from assay.learn.tiles import TileStore
from assay.learn.views import changed, plain, random_region
from assay.types import Label, Pixels, Sample

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

HELD_OUT = 8
"""A nearest-neighbour head is checked on every so-many-th picture, kept from its references for that."""

TOLERANCE = 1e-3
"""Where libsvm stops: scikit-learn's default."""


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A stream's heads, and what they were fitted on.

    Args:
        settings, heads: by the name that each has in a bundle.
        embeddings: (n, d).
        labels: (n,), 1 = fake.
        pictures: number of the picture that each embedding is of, (n,).
    """

    settings: Mapping[str, HeadRecipe]
    heads: Mapping[str, Head]
    embeddings: Floats
    labels: Labels
    pictures: npt.NDArray[np.int64]

    def known(self, name: str) -> tuple[Floats, Labels]:
        """A head's raw scores of rows that it was fitted on, (m,), and their labels, (m,).

        A row among the references is its own nearest neighbour, which says nothing; so for a nearest-neighbour head
        the rows are a part of the pictures, scored by what the others alone would have made.
        """
        head, settings = self.heads[name], self.settings[name]
        if not isinstance(settings, Nearest):
            return head.raw(self.embeddings), self.labels
        apart = np.unique(self.pictures, return_inverse=True)[1] % HELD_OUT == 0
        if len(np.unique(self.labels[~apart])) < 2 or len(np.unique(self.labels[apart])) < 2:
            return head.raw(self.embeddings), self.labels
        others = nearest(self.embeddings[~apart], self.labels[~apart], settings)
        return others.raw(self.embeddings[apart]), self.labels[apart]


def linear(
    embeddings: Floats,
    labels: Labels,
    head: Linear,
    targets: Floats | None = None,
    weights: Floats | None = None,
) -> LinearHead:
    """Logistic regression on un-normalised embeddings (CoDE, released code: C 0.316, balanced, 1,500 iterations).

    Args:
        embeddings: (n, d).
        labels: (n,), 1 = fake; both classes present.
        targets: P(fake) to be fitted to instead, (n,). Each row then counts as both classes, with these weights.
        weights: of each row, (n,); the classes then weigh what these say, whatever the recipe does.
    """
    weight = "balanced" if head.balanced and weights is None else None
    model = LogisticRegression(C=head.C, class_weight=weight, max_iter=head.iterations)
    mean, scale = np.zeros(embeddings.shape[1]), np.ones(embeddings.shape[1])
    if head.standardised:
        mean, scale = embeddings.mean(axis=0), embeddings.std(axis=0)
        # What hardly ever differs would weigh most where it does.
        scale = np.maximum(scale, 0.1 * np.median(scale)) if np.median(scale) else np.where(scale > 0, scale, 1.0)
        embeddings = (embeddings - mean) / scale
    if targets is None:
        model.fit(embeddings, labels, weights)
    else:
        shares = np.concatenate([1 - targets, targets]) * np.tile(
            np.ones(len(labels)) if weights is None else weights, 2
        )
        both = np.repeat([Label.REAL, Label.FAKE], len(targets))
        model.fit(np.concatenate([embeddings, embeddings])[shares > 0], both[shares > 0], shares[shares > 0])
    return LinearHead.standardised(model.coef_[0], float(model.intercept_[0]), mean, scale)


def nearest(embeddings: Floats, labels: Labels, head: Nearest, seed: int = 0) -> NearestHead:
    """One nearest neighbour by cosine (CoDE, released code), on all rows or a draw of `head.most`.

    References are kept as directions in float16: cosine knows no lengths, and embeddings of any size fit.

    Args:
        embeddings: (n, d).
        labels: (n,), 1 = fake; both classes present.
        seed: of the draw.
    """
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    directions = (embeddings / np.where(lengths > 0, lengths, 1.0)).astype(np.float16)
    chance = np.random.default_rng([seed, 4])
    kept = []
    for label in Label:
        rows = np.flatnonzero(labels == label)
        share = max(1, head.most * len(rows) // len(labels))
        kept.append(directions[_drawn(rows, share, chance)])
    return NearestHead(*kept)


def one_class(embeddings: Floats, labels: Labels, head: OneClass, seed: int = 0) -> OneClassHead:
    """A one-class SVM on the reals alone, all of them or a draw of `head.most` (CoDE, released code).

    Embeddings come as they are, as in the release. libsvm stops at a fixed gradient, which is as good as none where
    all kernel values are tiny, and the support vectors would be the first rows that came; so for embeddings of less
    than unit scale the tolerance shrinks with the kernel (ours). Scaling a kernel leaves the optimum where it is.

    Args:
        embeddings: (n, d).
        labels: (n,), 1 = fake; reals present.
        seed: of the draw.

    Raises:
        RecipeError: its numbers run out of range on such embeddings.
    """
    reals = embeddings[_drawn(np.flatnonzero(labels == Label.REAL), head.most, np.random.default_rng([seed, 5]))]
    gamma = head.gamma
    if not isinstance(gamma, float):
        spread = float(reals.var()) if gamma == "scale" else 1.0
        gamma = 1 / (reals.shape[1] * (spread or 1.0))
    with np.errstate(over="ignore"):
        own = (gamma * (reals**2).sum(axis=1) + head.coef0) ** head.degree
    scale = min(1.0, float(np.mean(np.abs(own)))) or 1.0
    model = OneClassSVM(
        kernel="poly", nu=head.nu, degree=head.degree, gamma=gamma, coef0=head.coef0, tol=TOLERANCE * scale
    )
    try:
        model.fit(reals)
    except ValueError as error:
        raise RecipeError(
            f"a one-class SVM cannot be fitted on these embeddings ({error}); set heads.one_class.gamma to scale, or "
            "leave that head out"
        ) from error
    return OneClassHead(
        support=model.support_vectors_,
        dual=model.dual_coef_[0],
        intercept=float(model.intercept_[0]),
        gamma=gamma,
        degree=head.degree,
        coef0=head.coef0,
    )


def mlp(embeddings: Floats, labels: Labels, head: MLP, seed: int = 0) -> MLPHead:
    """A multi-layer perceptron on standardised embeddings, by binary cross-entropy (DFCon, stage 2).

    Args:
        embeddings: (n, d).
        labels: (n,), 1 = fake; both classes present.
        seed: of its first weights and of its batches.
    """
    mean, scale = embeddings.mean(axis=0), embeddings.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    model = MLPClassifier(
        head.hidden,
        alpha=head.penalty,
        batch_size=min(head.batch, len(labels)),
        learning_rate_init=head.learning_rate,
        max_iter=head.epochs,
        random_state=seed,
    )
    with warnings.catch_warnings():
        # Its epochs are a budget, not a promise that the loss stands still.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit((embeddings - mean) / scale, labels)
    return MLPHead.standardised(model.coefs_, model.intercepts_, mean, scale)


def fit(
    stream: Stream,
    stage: Fit,
    shown: Shown,
    samples: Sequence[Sample],
    store: TileStore,
    engine: Engine,
    *,
    seed: int,
    workers: int,
    kept: Kept | None = None,
    trained: LinearHead | None = None,
) -> Fitted:
    """Fit a stream's heads, all on the same embeddings.

    Rows are drawn as training draws them (classes alike, sources by `shown.source_power`), or weighed so, that no head
    leans to the largest source. Each row gives one plain crop, and `stage.altered` more that went through alignment and
    T.

    Args:
        kept: where embeddings are kept, for the next fit.
        trained: the layer that the network was trained with; taken by linear heads that ask for it.

    Raises:
        ManifestError: a class is absent, or the teacher's scores that the stage asks for are.
        RecipeError: a head cannot be fitted on such embeddings.
    """
    pairs = min(stage.records // 2, *(sum(sample.label == label for sample in samples) for label in Label))
    weights = None
    if not pairs:
        raise ManifestError("a head needs labelled training rows of both classes; check the manifest's label column")
    balanced, chance = Balanced(samples, shown.source_power, shown.secondary_weight), np.random.default_rng([seed, 1])
    if stage.drawing == "weighted":
        rows, weights = balanced.weighted(stage.records, chance)
    else:
        rows = balanced.draw(pairs, chance)
    size, whole = stream.view.size, stream.view.resized

    def crops(row: int) -> Pixels:
        chance = np.random.default_rng([seed, 2, row])
        tile = store.tile(row, int(chance.integers(store.count(row))))
        out = [plain(tile, size, chance, whole=whole)]
        for _ in range(stage.altered):
            region = random_region(tile, shown.crops.base, chance)
            if shown.align is not None:
                region = shown.align(region, chance)
            out.append(changed(region, shown, size, chance, whole=whole))
        return np.stack(out)

    what = f"embedding rows for {stream.name}"
    file = (
        None
        if kept is None
        else kept.file(
            "fitted",
            view=stream.view.model_dump(mode="json"),
            shown=shown.model_dump(mode="json", include=set(Shown.model_fields)),
            pictures=[store.sha256[row] for row in rows],
            altered=stage.altered,
            seed=seed,
        )
    )
    parts = embed([int(row) for row in rows], crops, stream.view, engine, what=what, workers=workers, kept=file)
    embeddings = np.concatenate(parts).astype(np.float64)
    counts = [len(part) for part in parts]
    labels = np.repeat(labels_of([samples[row] for row in rows]), counts)
    targets = None
    if stage.teacher:
        taught = np.repeat([teacher_of(samples[row]) for row in rows], counts)
        if np.isnan(taught).any():
            raise ManifestError(
                f"fit.teacher asks for the column {TEACHER}, which is empty; make it with assay distill"
            )
        targets = (1 - stage.teacher) * labels + stage.teacher * taught
    weights = None if weights is None else np.repeat(weights, counts)
    heads = {
        name: _head(embeddings, labels, settings, seed, targets, weights, trained)
        for name, settings in stream.named.items()
    }
    return Fitted(stream.named, heads, embeddings, labels, np.repeat(rows, counts))


def _head(
    embeddings: Floats,
    labels: Labels,
    settings: HeadRecipe,
    seed: int,
    targets: Floats | None,
    weights: Floats | None,
    trained: LinearHead | None,
) -> Head:
    match settings:
        case Linear(trained=True):
            if trained is None:
                raise RecipeError("heads.linear.trained asks for a trained layer, and the network is not trained here")
            return trained
        case Linear():
            return linear(embeddings, labels, settings, targets, weights)
        case MLP():
            return mlp(embeddings, labels, settings, seed)
        case Nearest():
            return nearest(embeddings, labels, settings, seed)
        case OneClass():
            return one_class(embeddings, labels, settings, seed)


def _drawn(rows: npt.NDArray[np.int64], most: int, chance: np.random.Generator) -> npt.NDArray[np.int64]:
    """At most so many of the rows, in their order."""
    return rows if len(rows) <= most else np.sort(chance.choice(rows, most, replace=False))
