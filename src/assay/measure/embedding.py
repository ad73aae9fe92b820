"""How far real and fake lie apart in an embedding, in numbers.

An embedding may separate the classes in more ways than one head can use, or in none. These figures look at it without
the detector's own head: a linear probe and nearest neighbours, fitted on the rows at hand and never asked about a
source they have met; how many rows lie among the other class; how tight classes and generators cluster. Overlap of
real and fake is a failure sign of a contrastive training (CoDE, arXiv 2407.20337); which figures, and their bounds, are
*ours*.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from assay import metrics
from assay.measure import logistic
from assay.measure.controls import FEWEST as FEWEST_TO_FIT
from assay.measure.evaluate import FEWEST, SMALL, UNNAMED
from assay.measure.folds import by_source
from assay.metrics import Floats, Interval, Statistic

NEIGHBOURS = 5
OVERLAP = 0.35
"""Real and fake overlap where a larger share of the rows lies among the other class. 0.5 is no separation at all."""
RIDGE = 1 / 0.316
"""Of the linear probe: the C of CoDE's linear head (release), on standardised features (ours)."""

Vectors = npt.NDArray[Any]
"""Embeddings, (n, d), float32 or float64."""

_BLOCK = 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Generator:
    """How well the linear probe tells one generator's fakes from all reals.

    Args:
        n_fake: its rows.
        auc: of the cross-fitted probe; without an interval for fewer than 5 fakes.
    """

    n_fake: int
    auc: Interval

    @property
    def small(self) -> bool:
        """Whether its figure rests on fewer than 20 fakes."""
        return self.n_fake < SMALL

    def to_dict(self) -> dict[str, Any]:
        return {"n_fake": self.n_fake, "small": self.small, "auc": self.auc.to_dict()}


@dataclasses.dataclass(frozen=True, slots=True)
class Figures:
    """What an embedding separates.

    Intervals are bootstrapped by source over the rows' outcomes; neighbours and fits stay as they are.

    Args:
        n_real, n_fake: labelled rows.
        metrics: see `figures`.
        generators: by name.
        fitted: how the linear probe was fitted.
    """

    n_real: int
    n_fake: int
    metrics: dict[str, Interval]
    generators: dict[str, Generator]
    fitted: str

    @property
    def overlapping(self) -> bool:
        """The failure sign "overlap"."""
        return self.metrics["overlap"].value > OVERLAP

    @property
    def sign(self) -> str:
        """The overlap in words."""
        found = self.metrics["overlap"]
        if math.isnan(found.value):
            return "overlap: not known, as it takes labelled rows of both classes"
        within = "" if math.isnan(found.low) else f", 95 % interval {100 * found.low:.0f} to {100 * found.high:.0f} %"
        share = f"{100 * found.value:.0f} % of the rows lie among the other class (50 %: no separation{within}"
        if self.overlapping:
            return f"OVERLAP: real and fake overlap in this embedding: {share}; bound {100 * OVERLAP:.0f} %)"
        return f"no overlap of real and fake beyond the bound of {100 * OVERLAP:.0f} %: {share})"

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready object; what is not defined is None, never NaN."""
        return {
            "n_real": self.n_real,
            "n_fake": self.n_fake,
            "metrics": {name: interval.to_dict() for name, interval in self.metrics.items()},
            "generators": {name: generator.to_dict() for name, generator in self.generators.items()},
            "fitted": self.fitted,
            "overlapping": self.overlapping,
            "sign": self.sign,
        }


def figures(
    embeddings: Vectors,
    labels: npt.ArrayLike,
    sources: Sequence[str],
    generators: Sequence[str],
    *,
    rounds: int = 1000,
    seed: int = 0,
) -> Figures:
    """Measure an embedding.

    `probe_auc` and `probe_balanced_accuracy` (at one half): the linear probe, cross-fitted by source.
    `knn_balanced_accuracy`: the vote of the 5 nearest rows of other sources (`votes`). `overlap`: as `overlap`, of all
    rows. `silhouette_label`, and `silhouette_generator` among the fakes whose generator is named: `silhouette`.

    Args:
        embeddings: (n, d), finite.
        labels: 0 real, 1 fake, (n,).
        sources: of each row, for folds, neighbours and intervals.
        generators: of each row; empty where not named. Those of reals are not looked at.
        rounds, seed: of the bootstrap.

    Returns:
        Figures that are NaN where a class is absent or too small for them.
    """
    truth = np.asarray(labels, np.int8)
    names = np.asarray(generators, dtype=object)
    clusters = np.asarray(sources, dtype=object)
    both = len(set(truth.tolist())) == 2

    def interval(statistic: Statistic, values: Floats, among: npt.NDArray[np.bool_] | None = None) -> Interval:
        kept = ~np.isnan(values) if among is None else among & ~np.isnan(values)
        counts = np.bincount(truth[kept], minlength=2)
        few = counts[counts > 0].min(initial=len(truth)) < FEWEST
        return metrics.bootstrap(
            statistic, truth[kept], values[kept], clusters=clusters[kept], rounds=0 if few else rounds, seed=seed
        )

    nothing = np.full(len(truth), math.nan)
    fitted, probed = _probe(embeddings, truth, sources, seed) if both else ("not fitted: a class is absent", nothing)
    lost = strays(embeddings, truth).astype(np.float64) if both else nothing
    voted = votes(embeddings, truth, sources) if both else nothing
    named = (truth == 1) & (names != "")
    apart = nothing.copy()
    apart[named] = silhouette(embeddings[named], names[named])
    made = np.where(names == "", UNNAMED, names)
    return Figures(
        n_real=int((truth == 0).sum()),
        n_fake=int((truth == 1).sum()),
        metrics={
            "probe_auc": interval(metrics.auc, probed),
            "probe_balanced_accuracy": interval(_at_half, probed),
            "knn_balanced_accuracy": interval(_at_half, voted),
            "overlap": interval(_of_classes, lost),
            "silhouette_label": interval(_mean, silhouette(embeddings, truth)),
            "silhouette_generator": interval(_mean, apart),
        },
        generators={
            name: Generator(int(mine.sum()), interval(metrics.auc, probed, mine | (truth == 0)))
            for name in sorted(set(made[truth == 1].tolist()))
            for mine in [(truth == 1) & (made == name)]
        },
        fitted=fitted,
    )


def overlap(embeddings: Vectors, labels: npt.ArrayLike, neighbours: int = NEIGHBOURS) -> float:
    """Share of an embedding's rows whose nearest neighbours (cosine) are mostly of the other class, classes alike.

    0: the classes lie apart; 0.5: they lie on one another.

    Args:
        embeddings: (n, d), n >= 2.
        labels: (n,), 1 = fake; both classes present.
    """
    truth = np.asarray(labels, np.int8)
    return _of_classes(truth, strays(embeddings, truth, neighbours).astype(np.float64))


def strays(embeddings: Vectors, labels: npt.ArrayLike, neighbours: int = NEIGHBOURS) -> npt.NDArray[np.bool_]:
    """Whether most of each row's nearest neighbours (cosine) are of the other class, (n,).

    Args:
        embeddings: (n, d), n >= 2.
        labels: (n,).
    """
    truth = np.asarray(labels)
    nearest, _ = _nearest(embeddings, neighbours, np.arange(len(truth)))
    wrong: npt.NDArray[np.bool_] = (truth[nearest] != truth[:, None]).mean(axis=1) > 0.5
    return wrong


def votes(embeddings: Vectors, labels: npt.ArrayLike, sources: Sequence[str], neighbours: int = NEIGHBOURS) -> Floats:
    """Leave-one-source-out nearest neighbours: the share of fakes among each row's nearest of other sources, (n,).

    Fewer neighbours vote where other sources hold fewer rows, always an odd number; NaN where they hold none.

    Args:
        embeddings: (n, d), compared by cosine.
        labels: 0 or 1, (n,).
        sources: of each row.
    """
    truth = np.asarray(labels, np.float64)
    if len(truth) < 2:
        return np.full(len(truth), math.nan)
    _, place = np.unique(np.asarray(sources, dtype=object), return_inverse=True)
    nearest, there = _nearest(embeddings, neighbours, place)
    # The nearest come first, so dropping the last of an even number drops the farthest.
    count = there.sum(axis=1)
    count -= (count > 0) & (count % 2 == 0)
    asked = np.arange(nearest.shape[1]) < count[:, None]
    fakes = np.where(asked, truth[nearest], 0).sum(axis=1)
    return np.where(count > 0, fakes / np.maximum(count, 1), math.nan)


def silhouette(embeddings: Vectors, clusters: npt.ArrayLike) -> Floats:
    """Each row's silhouette by cosine distance, (n,), in [−1, 1]; NaN where there are fewer than two clusters.

    (b − a) / max(a, b), a the mean distance to the row's own cluster, b to the nearest other one (Rousseeuw, 1987);
    0 for the only row of a cluster. The same values as scikit-learn's `silhouette_samples(metric="cosine")`, in time
    linear in n: a mean of cosine distances is one less a cosine with a sum of unit vectors.

    Args:
        embeddings: (n, d).
        clusters: the cluster of each row, (n,).
    """
    names, place = np.unique(np.asarray(clusters), return_inverse=True)
    if len(names) < 2:
        return np.full(len(place), math.nan)
    unit = _unit(embeddings).astype(np.float64)
    sums = np.zeros((len(names), unit.shape[1]))
    np.add.at(sums, place, unit)
    sizes = np.bincount(place)
    likeness = unit @ sums.T
    rows = np.arange(len(place))
    own, itself = sizes[place], np.einsum("nd,nd->n", unit, unit)
    within = 1 - (likeness[rows, place] - itself) / np.maximum(own - 1, 1)
    distances = 1 - likeness / sizes
    distances[rows, place] = np.inf
    between = distances.min(axis=1)
    larger = np.maximum(within, between)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.where((own > 1) & (larger > 0), (between - within) / larger, 0.0)
    return np.asarray(found, np.float64)


def alike(labels: npt.ArrayLike, most: int, seed: int = 0) -> npt.NDArray[np.intp]:
    """Rows to draw, in order: as many of each class as the smaller one has, `most` in all at most.

    Args:
        labels: 0 or 1, (n,).
        most: rows; an odd one is left out.
    """
    truth = np.asarray(labels)
    random = np.random.default_rng(seed)
    rows = [np.flatnonzero(truth == label) for label in (0, 1)]
    count = min(most // 2, *(len(part) for part in rows))
    return np.sort(np.concatenate([random.permutation(part)[:count] for part in rows]))


def _probe(embeddings: Vectors, truth: npt.NDArray[np.int8], sources: Sequence[str], seed: int) -> tuple[str, Floats]:
    """How the linear probe is fitted, and P(fake) of each row by one that has not met it; NaN where none could be
    fitted."""
    folds = by_source(truth, sources, seed=seed)
    scores = np.full(len(truth), math.nan)
    for fold in range(folds.count):
        inside = folds.number == fold
        if inside.any() and np.bincount(truth[~inside], minlength=2).min() >= FEWEST_TO_FIT:
            scores[inside] = logistic.fit(embeddings[~inside], truth[~inside], ridge=RIDGE).predict(embeddings[inside])
    if np.isnan(scores).all():
        return f"not fitted: it takes {FEWEST_TO_FIT} rows of each class to fit on", scores
    return f"cross-fitted on these rows, {folds}", scores


def _nearest(
    embeddings: Vectors, neighbours: int, groups: npt.NDArray[np.intp]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """Each row's nearest rows of other groups by cosine, the nearest first, and which of these there are, (n, k)."""
    unit = _unit(embeddings)
    k = min(neighbours, len(unit) - 1)
    nearest = np.empty((len(unit), k), np.intp)
    there = np.empty((len(unit), k), np.bool_)
    # In blocks: all likenesses at once would take memory by the square of the rows.
    for start in range(0, len(unit), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(unit)))
        likeness = unit[rows] @ unit.T
        likeness[groups[rows][:, None] == groups] = -np.inf
        found = np.argpartition(-likeness, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(likeness, found, axis=1), axis=1, kind="stable")
        nearest[rows] = np.take_along_axis(found, order, axis=1)
        there[rows] = np.take_along_axis(likeness, nearest[rows], axis=1) > -np.inf
    return nearest, there


def _unit(embeddings: Vectors) -> Vectors:
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return np.asarray(embeddings / np.maximum(lengths, 1e-12))


def _at_half(labels: npt.NDArray[np.int8], scores: Floats) -> float:
    return metrics.balanced_accuracy(labels, scores, 0.5)


def _of_classes(labels: npt.NDArray[np.int8], values: Floats) -> float:
    """The mean of the two classes' means."""
    if len(set(labels.tolist())) < 2:
        return math.nan
    return float(np.mean([values[labels == label].mean() for label in (0, 1)]))


def _mean(_: npt.NDArray[np.int8], values: Floats) -> float:
    return float(values.mean()) if len(values) else math.nan
