"""Do the fakes form one manifold, or does each method make a cluster of its own?

A contrastive training that knows two classes only may draw all fakes together, or leave each generator where its traces
put it. Three looks at the embeddings of fakes: the clusters they fall into by themselves, set against the generators'
names; how tight generators lie; and whose fakes a fake's nearest are. All by cosine, each beside what chance gives.
Which figures, and the bounds of the verdict in words, are *ours*. scikit-learn (extra "measure") does the clustering.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from assay import metrics
from assay.errors import MissingExtra
from assay.measure.embedding import NEIGHBOURS, Vectors, silhouette
from assay.measure.evaluate import SMALL
from assay.metrics import Floats, Interval

FEWEST = SMALL
"""Named fakes below which there is nothing to say."""
MOST = 12
"""Clusters that are tried at most, or the number of generators where that is larger."""
SPLIT = 0.5
"""Fakes fall into clusters where the mean silhouette is above this. Up to it structure is "weak and could be
artificial" (Kaufman and Rousseeuw, "Finding groups in data", 1990, chapter 2): a cloud without any reaches 0.5 in four
dimensions. That it decides between one cluster and several is *ours*."""
MIXED = 0.2
"""Methods are mixed where a fake's neighbours go at most this share of the way from chance to all of its method
(*ours*)."""
APART = 0.75
"""Methods lie apart where as many clusters as there are generators tell at least this much of the generator's name, in
adjusted mutual information (*ours*)."""

Form = Literal["one", "each", "between"]
Numbers = npt.NDArray[np.intp]

METRICS = (
    "purity",
    "purity_by_chance",
    "mutual_information",
    "purity_at_generators",
    "purity_at_generators_by_chance",
    "mutual_information_at_generators",
    "silhouette_generator",
    "neighbours",
    "neighbours_by_chance",
)
"""The names of all figures, in order."""

_PERMUTATIONS = 200
_STARTS = 5
_BLOCK = 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Manifold:
    """How the fakes of an embedding lie to one another.

    Intervals are bootstrapped by source over the rows' outcomes; clusters and neighbours stay as they are.

    Args:
        n: fakes whose generator is named; no others are looked at.
        unnamed: the others.
        generators: how many names there are.
        clusters: how many the fakes fall into, >= 1; None where this can't be told.
        silhouettes: the mean silhouette with 2, 3, … clusters, by their number.
        metrics: see `figures`.
    """

    n: int
    unnamed: int
    generators: int
    clusters: int | None
    silhouettes: dict[int, float]
    metrics: dict[str, Interval]

    @property
    def form(self) -> Form | None:
        """The answer: "each" where methods lie apart (`APART`), be it in clusters of clusters; "one" where fakes make
        one cluster with methods mixed in it (`MIXED`); else "between". None where this can't be told."""
        if self.clusters is None:
            return None
        found, chance = self.metrics["neighbours"].value, self.metrics["neighbours_by_chance"].value
        if self.metrics["mutual_information_at_generators"].value >= APART:
            return "each"
        return "one" if self.clusters == 1 and found - chance <= MIXED * (1 - chance) else "between"

    @property
    def sign(self) -> str:
        """The form in words."""
        if self.form is None or self.clusters is None:
            return (
                "one manifold or a cluster for each method: not known, as it takes "
                f"{FEWEST} fakes, of two or more named generators"
            )
        found, chance = self.metrics["neighbours"].value, self.metrics["neighbours_by_chance"].value
        words = {
            "one": "the fakes form one manifold",
            "each": "a cluster for each method",
            "between": "between one manifold and a cluster for each method",
        }
        clusters = "1 cluster" if self.clusters == 1 else f"{self.clusters} clusters"
        return (
            f"{words[self.form]}: {self.generators} methods, {clusters}; "
            f"{100 * found:.0f} % of a fake's nearest fakes are of its method (by chance {100 * chance:.0f} %)"
        )

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready object; what is not defined is None, never NaN."""
        return {
            "n": self.n,
            "unnamed": self.unnamed,
            "generators": self.generators,
            "clusters": self.clusters,
            "silhouettes": {str(count): value for count, value in self.silhouettes.items()},
            "metrics": {name: interval.to_dict() for name, interval in self.metrics.items()},
            "form": self.form,
            "sign": self.sign,
        }


def figures(
    embeddings: Vectors,
    sources: Sequence[str],
    generators: Sequence[str],
    *,
    rounds: int = 1000,
    seed: int = 0,
) -> Manifold:
    """Measure how fakes lie to one another. The order of the rows moves nothing.

    Clusters are those of k-means on vectors of length 1. Their number is the k from 2 to `MOST` whose mean silhouette
    is the largest, or 1 where that is not above `SPLIT`. A stretched cloud may still pass for several.

    `purity`: the share of fakes that are of their cluster's commonest generator. `mutual_information`: of clusters and
    generators, adjusted for chance (Vinh, Epps and Bailey, JMLR 2010): 0 by chance, 1 where they are the same. Both
    also `_at_generators`: with as many clusters as there are generators. `silhouette_generator`: as
    `assay.measure.embedding.silhouette`. `neighbours`: the share of a fake's 5 nearest that are of its generator (see
    `kin`). `_by_chance`: the mean over 200 permutations of the names, and for neighbours what drawing them blindly
    gives.

    Args:
        embeddings: of fakes, (n, d), finite.
        sources: of each row, for neighbours and intervals.
        generators: of each row; rows where it is empty are left out.
        rounds, seed: of the bootstrap; the seed also of the clusters and permutations.

    Returns:
        Figures that are NaN, and no clusters, with fewer than `FEWEST` named fakes or two generators.

    Raises:
        MissingExtra: there is no scikit-learn.
    """
    try:
        from sklearn.cluster import KMeans
        from sklearn.metrics import adjusted_mutual_info_score
    except ImportError as error:
        raise MissingExtra("clustering the fakes", "measure") from error

    unit = _unit(embeddings)
    # Clusters start at random rows and intervals draw them: in an order of their own the same rows give the same.
    keys = [(row.tobytes(), name, source) for row, name, source in zip(unit, generators, sources, strict=True)]
    order = sorted((row for row in range(len(unit)) if generators[row]), key=keys.__getitem__)
    unit, clusters = unit[order], [sources[row] for row in order]
    names, made = np.unique(np.array([generators[row] for row in order], np.str_), return_inverse=True)
    distinct = len({keys[row][0] for row in order})
    enough = len(order) >= FEWEST and len(names) > 1

    def interval(values: Floats) -> Interval:
        ones = np.ones(len(values), np.int8)
        return metrics.bootstrap(
            lambda _, drawn: _mean(drawn), ones, values, clusters=clusters, rounds=rounds, seed=seed
        )

    def plain(value: float) -> Interval:
        return Interval(value, math.nan, math.nan, len(order))

    def split(count: int) -> Numbers:
        return np.asarray(KMeans(count, n_init=_STARTS, random_state=seed).fit_predict(unit), np.intp)

    if not enough:
        nothing = dict.fromkeys(METRICS, plain(math.nan))
        return Manifold(len(order), len(keys) - len(order), len(names), None, {}, nothing)
    tried = {count: split(count) for count in range(1, min(max(MOST, len(names)), distinct) + 1)}
    silhouettes = {count: float(silhouette(unit, parts).mean()) for count, parts in tried.items() if count > 1}
    best = max(silhouettes, key=silhouettes.__getitem__, default=1)
    best = best if silhouettes.get(best, 0.0) > SPLIT else 1
    found: dict[str, Interval] = {}
    for parts, where in ((tried[best], ""), (tried[min(len(names), distinct)], "_at_generators")):
        found[f"purity{where}"] = interval(common(parts, made))
        found[f"purity{where}_by_chance"] = plain(_by_chance(parts, made, seed))
        found[f"mutual_information{where}"] = plain(float(adjusted_mutual_info_score(made, parts)))
    found["silhouette_generator"] = interval(silhouette(unit, made))
    near, chance = kin(unit, made, clusters)
    found["neighbours"], found["neighbours_by_chance"] = interval(near), plain(_mean(chance))
    return Manifold(len(order), len(keys) - len(order), len(names), best, silhouettes, found)


def common(parts: npt.ArrayLike, generators: npt.ArrayLike) -> Floats:
    """1 for each row that is of its cluster's commonest generator, else 0, (n,); the mean is the purity.

    Of generators that are equally common the first is taken.

    Args:
        parts: the cluster of each row, (n,).
        generators: of each row, (n,).
    """
    _, part = np.unique(np.asarray(parts), return_inverse=True)
    _, made = np.unique(np.asarray(generators), return_inverse=True)
    return np.asarray(_counts(part, made).argmax(axis=1)[part] == made, np.float64)


def kin(
    embeddings: Vectors, generators: npt.ArrayLike, sources: Sequence[str], neighbours: int = NEIGHBOURS
) -> tuple[Floats, Floats]:
    """The share of each row's nearest (cosine) that are of its generator, and what drawing blindly gives, (n,) each.

    Neighbours are rows of other sources where those hold rows of the generator; else all others, as a generator of a
    single source could have none of its own.

    Args:
        embeddings: (n, d), n >= 2.
        generators: of each row, (n,).
        sources: of each row.
        neighbours: how many, >= 1; fewer where other sources hold fewer rows.
    """
    unit = _unit(embeddings)
    _, made = np.unique(np.asarray(generators), return_inverse=True)
    _, place = np.unique(np.asarray(sources, dtype=object), return_inverse=True)
    elsewhere = np.bincount(made)[made] > _counts(made, place)[made, place]
    # A row that may look anywhere has itself as its only source.
    k = min(neighbours, len(unit) - 1)
    near, chance = np.empty(len(unit)), np.empty(len(unit))
    # In blocks: all likenesses at once would take memory by the square of the rows.
    for start in range(0, len(unit), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(unit)))
        barred = elsewhere[rows][:, None] & (place[rows][:, None] == place)
        barred[np.arange(len(rows)), rows] = True
        same = (made[rows][:, None] == made) & ~barred
        likeness = np.where(barred, -np.inf, unit[rows] @ unit.T)
        nearest = np.argpartition(-likeness, k - 1, axis=1)[:, :k]
        count = (~np.take_along_axis(barred, nearest, axis=1)).sum(axis=1)
        near[rows] = np.take_along_axis(same, nearest, axis=1).sum(axis=1) / count
        chance[rows] = same.sum(axis=1) / (~barred).sum(axis=1)
    return near, chance


def _by_chance(parts: Numbers, made: Numbers, seed: int) -> float:
    """The mean purity of these clusters where names are dealt at random."""
    random = np.random.default_rng(seed)
    return float(np.mean([common(parts, random.permutation(made)).mean() for _ in range(_PERMUTATIONS)]))


def _counts(rows: Numbers, columns: Numbers) -> Numbers:
    """How often each pair of numbers occurs."""
    table = np.zeros((rows.max() + 1, columns.max() + 1), np.intp)
    np.add.at(table, (rows, columns), 1)
    return table


def _unit(embeddings: Vectors) -> Floats:
    """Vectors of length 1 to six digits, what float32 holds: rows that differ by less are one point."""
    rows = np.asarray(embeddings, np.float64)
    lengths = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    # Adding 0 makes a plain zero of a negative one.
    return np.asarray((rows / lengths).round(6) + 0.0, np.float64)


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else math.nan
