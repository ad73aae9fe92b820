"""Figures of arms over their seeds, and arms against each other on the same rows.

Accuracy is taken at a score of one half, as in CoDE's tables; its shares of reals and of fakes say what the ratio of
the classes hides in the overall figure. Intervals are bootstrapped by source within each class (`assay.metrics`);
seeds are not resampled: an interval speaks of other pictures, the spread over seeds of other trainings.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from assay import metrics
from assay.metrics import Floats, Interval, Labels
from assay.studies.result import Result

THRESHOLD = 0.5
"""Paper: accuracy is taken where the linear head says one half."""


class Series(NamedTuple):
    """What is compared: an arm under one head and one condition."""

    arm: str
    head: str
    condition: str


@dataclasses.dataclass(frozen=True)
class Scores:
    """The scores of a series.

    Args:
        places, sources, groups: of each row, (n,).
        labels: (n,), 1 = fake.
        values: P(fake), (seeds, n); no NaN.
        seeds: their numbers.
    """

    places: tuple[str, ...]
    labels: Labels
    sources: tuple[str, ...]
    groups: tuple[str, ...]
    values: Floats
    seeds: tuple[int, ...]

    def where(self, kept: npt.NDArray[np.bool_]) -> Scores:
        """Some of the rows."""

        def those(column: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(cell for cell, keep in zip(column, kept.tolist(), strict=True) if keep)

        return Scores(
            those(self.places),
            self.labels[kept],
            those(self.sources),
            those(self.groups),
            self.values[:, kept],
            self.seeds,
        )

    def of_seeds(self, seeds: Sequence[int]) -> Scores:
        """Some of the seeds, in that order."""
        rows = [self.seeds.index(seed) for seed in seeds]
        return dataclasses.replace(self, values=self.values[rows], seeds=tuple(seeds))


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure of a series.

    Args:
        interval: the mean over seeds, its 95 % interval over pictures, and the number of rows.
        seeds: the figure of each seed.
    """

    interval: Interval
    seeds: tuple[float, ...]

    @property
    def spread(self) -> float:
        """Standard deviation over seeds (n - 1); NaN with one seed."""
        return float(np.std(self.seeds, ddof=1)) if len(self.seeds) > 1 else math.nan

    def to_dict(self) -> dict[str, Any]:
        finite = [value if math.isfinite(value) else None for value in self.seeds]
        spread = self.spread if math.isfinite(self.spread) else None
        return self.interval.to_dict() | {"seeds": finite, "spread": spread}


def scores_of(results: Sequence[Result], head: str, condition: str) -> Scores | None:
    """The scores that runs of one arm share: rows that every seed has a score for; None where there are none."""
    mine = [result for result in results if condition in result.scores.get(head, {})]
    if not mine:
        return None
    tables = [
        {row.place: score for row, score in zip(result.rows, result.scores[head][condition], strict=True)}
        for result in mine
    ]
    rows = [row for row in mine[0].rows if all(table.get(row.place) is not None for table in tables)]
    if not rows:
        return None
    return Scores(
        places=tuple(row.place for row in rows),
        labels=np.array([row.label for row in rows], np.int8),
        sources=tuple(row.source for row in rows),
        groups=tuple(row.group for row in rows),
        values=np.array([[table[row.place] for row in rows] for table in tables], np.float64),
        seeds=tuple(result.seed for result in mine),
    )


def accuracy(labels: Labels, scores: Floats) -> float:
    """The share of rows on the right side of one half; NaN without rows."""
    return float(((scores >= THRESHOLD) == (labels == 1)).mean()) if len(labels) else math.nan


def balanced(labels: Labels, scores: Floats) -> float:
    """The mean of the accuracies of reals and of fakes; NaN where a class is absent."""
    return metrics.balanced_accuracy(labels, scores, THRESHOLD)


def figures(scores: Scores, *, rounds: int = 1000, seed: int = 0) -> dict[str, Figure]:
    """The figures of a series by name: "overall", "real", "fake" (accuracies), "auc", and the accuracy on the rows of
    each group, as "group:NAME"."""
    everything = np.ones(len(scores.labels), np.bool_)
    found = {
        "overall": share(scores, everything, rounds=rounds, seed=seed),
        "real": share(scores, scores.labels == 0, rounds=rounds, seed=seed),
        "fake": share(scores, scores.labels == 1, rounds=rounds, seed=seed),
        "auc": figure(scores, metrics.auc, rounds=rounds, seed=seed),
    }
    for name in sorted(set(scores.groups) - {""}):
        kept = np.array([group == name for group in scores.groups])
        found[f"group:{name}"] = share(scores, kept, rounds=rounds, seed=seed)
    return found


def figure(scores: Scores, statistic: metrics.Statistic, *, rounds: int = 1000, seed: int = 0) -> Figure:
    """A statistic of (labels, scores): its mean over seeds, with the interval of that mean over pictures."""
    each = tuple(float(statistic(scores.labels, values)) for values in scores.values)

    def mean(labels: Labels, rows: npt.NDArray[np.intp]) -> float:
        return float(np.mean([statistic(labels, values[rows]) for values in scores.values]))

    return Figure(drawn(mean, scores, rounds, seed), each)


def share(scores: Scores, kept: npt.NDArray[np.bool_], *, rounds: int = 1000, seed: int = 0) -> Figure:
    """Accuracy on some rows. The interval is the wider of the bootstrap's and Wilson's: 30 of 30 is no certainty."""
    inside = scores.where(kept)
    found = figure(inside, accuracy, rounds=rounds, seed=seed)
    n = len(inside.labels)
    if not n:
        return found
    exact = metrics.wilson(round(found.interval.value * n), n)
    low, high = np.fmin(found.interval.low, exact.low), np.fmax(found.interval.high, exact.high)
    return dataclasses.replace(found, interval=Interval(found.interval.value, float(low), float(high), n))


def paired(
    first: Scores, second: Scores, statistic: metrics.Statistic, *, rounds: int = 1000, seed: int = 0
) -> Interval | None:
    """How much more `second` has of a statistic than `first`, on the rows and seeds that both have.

    Each round draws the same pictures for both, so what makes a picture hard for both cancels. The same seeds stand
    beside each other; where two series share none, each has the mean of its own.

    Returns:
        The difference, its 95 % interval and the number of shared rows; None where they share none.
    """
    shared = set(first.places) & set(second.places)
    if not shared:
        return None
    seeds = [number for number in first.seeds if number in second.seeds]
    if seeds:
        first, second = first.of_seeds(seeds), second.of_seeds(seeds)
    first = first.where(np.array([place in shared for place in first.places]))
    at = {place: row for row, place in enumerate(second.places)}
    order = [at[place] for place in first.places]
    theirs = second.values[:, order]

    def difference(labels: Labels, rows: npt.NDArray[np.intp]) -> float:
        more = np.mean([statistic(labels, values[rows]) for values in theirs])
        return float(more - np.mean([statistic(labels, values[rows]) for values in first.values]))

    return drawn(difference, first, rounds, seed)


def drawn(
    statistic: Callable[[Labels, npt.NDArray[np.intp]], float], scores: Scores, rounds: int, seed: int
) -> Interval:
    """`assay.metrics.bootstrap` of a statistic of (labels, numbers of rows), so that several scores of a row are drawn
    together."""
    numbers = np.arange(len(scores.labels), dtype=np.float64)
    return metrics.bootstrap(
        lambda labels, rows: statistic(labels, rows.astype(np.intp)),
        scores.labels,
        numbers,
        clusters=[source or f"\0{place}" for source, place in zip(scores.sources, scores.places, strict=True)],
        rounds=rounds,
        seed=seed,
    )
