"""Two detectors on the same rows: whether they differ by more than chance, and between what limits two shares differ.

All of it takes pictures for independent. Where many share a source they are not, and p comes out too small; intervals
bootstrapped by source (`assay.measure.beside`) do not have that fault. No p is corrected for several tests.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from assay import metrics
from assay.metrics import Floats, Interval, finite


@dataclasses.dataclass(frozen=True, slots=True)
class Delong:
    """DeLong's test of two AUCs.

    Args:
        difference: the second's AUC less the first's; NaN without a real and a fake.
        error: its standard error; NaN with fewer than two reals or two fakes.
        z: difference / error. 0 where neither has any spread and the AUCs are equal, NaN where they are not.
        p: two-sided.
        n: rows.
    """

    difference: float
    error: float
    z: float
    p: float
    n: int

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready object; what is not defined is None, never NaN."""
        return {name: finite(getattr(self, name)) for name in ("difference", "error", "z", "p")} | {"n": self.n}


@dataclasses.dataclass(frozen=True, slots=True)
class McNemar:
    """McNemar's exact test of two detectors' mistakes.

    Args:
        first_only, second_only: rows that only this one is right about.
        p: two-sided: how often a fair coin splits these rows at least as unevenly; 1 where there are none.
        n: rows, those on which both are right, or wrong, among them.
    """

    first_only: int
    second_only: int
    p: float
    n: int

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def delong(labels: npt.ArrayLike, first: npt.ArrayLike, second: npt.ArrayLike) -> Delong:
    """Whether two scores of the same rows rank fakes above reals equally well (DeLong, DeLong, Clarke-Pearson,
    Biometrics 44, 1988), by mid-ranks (Sun, Xu, IEEE Signal Processing Letters 21, 2014), so ties count one half.

    Args:
        labels: (n,), 1 = fake.
        first, second: scores, (n,); higher = more fake.

    Raises:
        ValueError: lengths differ, a score is NaN, or a label is neither 0 nor 1.
    """
    difference = metrics.auc(labels, second) - metrics.auc(labels, first)
    truth = np.asarray(labels) == 1
    n = len(truth)
    fakes = int(truth.sum())
    if min(fakes, n - fakes) < 2:
        return Delong(difference, math.nan, math.nan, math.nan, n)
    above = _above(truth, np.asarray(second, np.float64)) - _above(truth, np.asarray(first, np.float64))
    error = math.sqrt(sum(float(np.var(part, ddof=1)) / len(part) for part in (above[truth], above[~truth])))
    without = 0.0 if difference == 0 else math.nan
    z = difference / error if error > 0 else without
    return Delong(difference, error, z, math.erfc(abs(z) / math.sqrt(2)), n)


def mcnemar(first: npt.ArrayLike, second: npt.ArrayLike) -> McNemar:
    """Whether two detectors err equally often on the same rows (McNemar, Psychometrika 12, 1947), from the binomial
    distribution itself.

    Args:
        first, second: whether each is right about a row, (n,).

    Raises:
        ValueError: lengths differ.
    """
    one, other = np.asarray(first, np.bool_), np.asarray(second, np.bool_)
    if one.shape != other.shape:
        raise ValueError(f"{other.shape} answers against {one.shape}")
    counts = int((one & ~other).sum()), int((other & ~one).sum())
    split, fewer = sum(counts), min(counts)
    # Logarithms, as 2^n does not fit a float for long.
    taken = np.arange(fewer, dtype=np.float64)
    ways = np.concatenate([[0.0], np.cumsum(np.log((split - taken) / (taken + 1)))])
    return McNemar(*counts, min(1.0, 2 * float(np.exp(ways - split * math.log(2)).sum())), len(one))


def newcombe(first: npt.ArrayLike, second: npt.ArrayLike) -> Interval:
    """The second's share less the first's on the same rows, with its 95 % interval: Wilson's of both, joined by their
    correlation (Newcombe, Statistics in Medicine 17, 1998, pages 2635-2650, method 10). It has a width where both
    shares are 0 too.

    Args:
        first, second: what is counted of each row, (n,), true or false.

    Raises:
        ValueError: lengths differ.
    """
    one, other = np.asarray(first, np.bool_), np.asarray(second, np.bool_)
    if one.shape != other.shape:
        raise ValueError(f"{other.shape} answers against {one.shape}")
    n = len(one)
    ours, theirs = (metrics.wilson(int(flags.sum()), n) for flags in (one, other))
    if n == 0:
        return ours
    together = int((one & other).sum()) * int((~one & ~other).sum())
    apart = int((one & ~other).sum()) * int((other & ~one).sum())
    excess = max(together - apart - n / 2, 0.0) if together > apart else float(together - apart)
    margins = math.prod(int(flags.sum()) for flags in (one, ~one, other, ~other))
    phi = excess / math.sqrt(margins) if margins else 0.0

    def reach(up: float, down: float) -> float:
        return math.sqrt(max(up**2 - 2 * phi * up * down + down**2, 0.0))

    difference = theirs.value - ours.value
    return Interval(
        difference,
        difference - reach(theirs.value - theirs.low, ours.high - ours.value),
        difference + reach(theirs.high - theirs.value, ours.value - ours.low),
        n,
    )


def _above(truth: npt.NDArray[np.bool_], scores: Floats) -> Floats:
    """Of each fake the share of reals that it scores above, of each real the share of fakes that score above it."""
    fakes = int(truth.sum())
    ranks = _middle_ranks(scores)
    found = np.empty(len(truth))
    found[truth] = (ranks[truth] - _middle_ranks(scores[truth])) / (len(truth) - fakes)
    found[~truth] = 1 - (ranks[~truth] - _middle_ranks(scores[~truth])) / fakes
    return found


def _middle_ranks(scores: Floats) -> Floats:
    """Ranks from 1; equal scores have the middle of theirs."""
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[place], np.float64)
