"""Bootstrap intervals of many rounds at once, and of what one detector has more than another.

The draws are those of `assay.metrics.bootstrap`: whole sources with replacement, within each class. Instead of the
drawn rows of a round, one after another, it is counted how often each score comes up in each of many rounds; every
statistic here follows from these counts. Rounds go by in parts, so memory does not grow with them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from assay import metrics
from assay.metrics import Floats, Interval, Labels

Counts = npt.NDArray[np.int64]

_CELLS = 2_000_000
"""Rows times rounds that are held at once."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """How often each score was drawn.

    Args:
        values: the scores, each once, ascending, (u,).
        real, fake: how often each came up among the reals and the fakes of each round, (rounds, u).
    """

    values: Floats
    real: Counts
    fake: Counts


@dataclasses.dataclass(frozen=True, slots=True)
class Statistic:
    """A statistic in two forms.

    Args:
        plain: of (labels, scores).
        drawn: of a tally, (rounds,); the same number for the same rows, NaN where it is not defined.
    """

    plain: metrics.Statistic
    drawn: Callable[[Tally], Floats]


def bootstrap(
    statistic: Statistic,
    labels: Labels,
    scores: Floats,
    *,
    clusters: Sequence[object],
    rounds: int = 1000,
    seed: int = 0,
) -> Interval:
    """`assay.metrics.bootstrap` of a statistic, in less time: the same value, draws and 95 % interval."""
    value = float(statistic.plain(labels, scores))
    if math.isnan(value):
        return Interval(value, math.nan, math.nan, len(labels))
    return interval(value, drawn(statistic, labels, scores, clusters=clusters, rounds=rounds, seed=seed), len(labels))


def drawn(
    statistic: Statistic,
    labels: Labels,
    scores: Floats,
    *,
    clusters: Sequence[object],
    rounds: int = 1000,
    seed: int = 0,
) -> Floats:
    """The statistic in each round, (rounds,). The same labels, clusters and seed draw the same rows, whatever the
    scores: what two detectors have in a round can be subtracted.

    Args:
        labels, scores: (n,), 1 = fake; no NaN.
        clusters: a hashable name for each row, such as its source.
    """
    if not len(labels):
        return np.empty(0)
    values, place = np.unique(scores, return_inverse=True)
    order = np.argsort(place, kind="stable")
    starts = np.searchsorted(place[order], np.arange(len(values)))
    fake = labels[order] == 1
    parts = []
    for counts in _draws(labels, clusters, rounds, seed):
        sorted_counts = counts[:, order]
        tally = Tally(
            values,
            np.add.reduceat(sorted_counts * ~fake, starts, axis=1),
            np.add.reduceat(sorted_counts * fake, starts, axis=1),
        )
        parts.append(statistic.drawn(tally))
    return np.concatenate(parts) if parts else np.empty(0)


def interval(value: float, found: Floats, n: int) -> Interval:
    """A value with the middle 95 % of what the rounds found; NaN for the ends where no round found anything."""
    found = found[~np.isnan(found)]
    if not len(found):
        return Interval(value, math.nan, math.nan, n)
    low, high = np.quantile(found, [0.025, 0.975])
    return Interval(value, float(low), float(high), n)


def _draws(labels: Labels, clusters: Sequence[object], rounds: int, seed: int) -> Iterator[Counts]:
    """How often each row is drawn, (rounds of a part, n), part by part."""
    strata = [np.flatnonzero(labels == label) for label in (0, 1)]
    strata = [rows for rows in strata if len(rows)]
    units = [_units([clusters[row] for row in rows.tolist()]) for rows in strata]
    random = np.random.default_rng(seed)
    at_once = max(1, _CELLS // len(labels))
    for start in range(0, rounds, at_once):
        count = min(at_once, rounds - start)
        sizes = [int(unit.max()) + 1 for unit in units]
        chosen = [np.empty((count, size), np.intp) for size in sizes]
        for number in range(count):
            for table, size in zip(chosen, sizes, strict=True):
                table[number] = random.integers(size, size=size)
        counts = np.empty((count, len(labels)), np.int64)
        for rows, unit, size, table in zip(strata, units, sizes, chosen, strict=True):
            of_round = size * np.arange(count)[:, None]
            times = np.bincount((table + of_round).ravel(), minlength=size * count).reshape(count, size)
            counts[:, rows] = times[:, unit]
        yield counts


def _units(names: Sequence[object]) -> npt.NDArray[np.intp]:
    """The number of the cluster of each row of a class; of the row itself where they are all of one cluster."""
    numbers: dict[object, int] = {}
    found = np.array([numbers.setdefault(name, len(numbers)) for name in names], np.intp)
    return found if len(numbers) > 1 else np.arange(len(names), dtype=np.intp)


def _share(part: npt.NDArray[np.generic], whole: npt.NDArray[np.generic]) -> Floats:
    """One by the other, NaN where the other is 0."""
    found = np.full(len(whole), math.nan)
    np.divide(part, whole, out=found, where=np.asarray(whole) > 0)
    return found


def _mean(tally: Tally) -> Floats:
    both = tally.real + tally.fake
    return _share(both @ tally.values, both.sum(axis=1))


def _auc(tally: Tally) -> Floats:
    # Twice the pairs that a fake wins, so that a tie's half is a whole number.
    won = (tally.fake * (2 * np.cumsum(tally.real, axis=1) - tally.real)).sum(axis=1)
    return _share(won / 2, tally.real.sum(axis=1) * tally.fake.sum(axis=1))


def _balanced(tally: Tally) -> Floats:
    fpr, tpr = (_share(part @ tally.values, part.sum(axis=1)) for part in (tally.real, tally.fake))
    return (1 - fpr + tpr) / 2


def _ece(tally: Tally, bins: int = 15) -> Floats:
    both = tally.real + tally.fake
    n = both.sum(axis=1, keepdims=True)
    # A score that was not drawn may come to lie beyond the last bin, with nothing in it.
    bin_of = np.minimum(np.floor((np.cumsum(both, axis=1) - both / 2) / n * bins), bins - 1).astype(np.intp)
    bin_of += bins * np.arange(len(both))[:, None]
    gaps = np.bincount(bin_of.ravel(), (both * tally.values - tally.fake).ravel(), bins * len(both))
    return np.asarray(np.abs(gaps.reshape(-1, bins)).sum(axis=1) / n[:, 0], np.float64)


def _brier(tally: Tally) -> Floats:
    squares = tally.real @ tally.values**2 + tally.fake @ (1 - tally.values) ** 2
    return _share(squares, (tally.real + tally.fake).sum(axis=1))


def _tpr_at(fpr: float) -> Callable[[Tally], Floats]:
    def drawn(tally: Tally) -> Floats:
        reals, fakes = tally.real.sum(axis=1), tally.fake.sum(axis=1)
        allowed = np.floor(fpr * reals + 1e-9)
        # From the highest score down, the first at which more reals than allowed have come by.
        reached = np.cumsum(tally.real[:, ::-1], axis=1) > allowed[:, None]
        first = np.where(reached.any(axis=1), reached.argmax(axis=1), len(tally.values))
        above = np.arange(len(tally.values)) < first[:, None]
        found = _share((tally.fake[:, ::-1] * above).sum(axis=1), fakes)
        return np.where(reals > 0, found, math.nan)

    return drawn


MEAN = Statistic(lambda _, scores: float(scores.mean()) if len(scores) else math.nan, _mean)
"""The mean of all rows' numbers: a share, where they are 0 and 1."""
AUC = Statistic(metrics.auc, _auc)
ECE = Statistic(metrics.expected_calibration_error, _ece)
BRIER = Statistic(metrics.brier, _brier)
BALANCED = Statistic(lambda labels, calls: metrics.balanced_accuracy(labels, calls, 0.5), _balanced)
"""Balanced accuracy of calls, 1 where a row is called fake, 0 elsewhere."""


def tpr_at_fpr(fpr: float) -> Statistic:
    """`assay.metrics.tpr_at_fpr` at a rate in [0, 1]."""
    return Statistic(lambda labels, scores: metrics.tpr_at_fpr(labels, scores, fpr), _tpr_at(fpr))
