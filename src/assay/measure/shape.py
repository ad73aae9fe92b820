"""What an evaluation's figures are the short form of: the ROC curve and the calibration, as points to draw.

Few enough to be stored beside the figures, and true to them: the bins are those of the calibration error, and the
curve's corners are measured points, none of them smoothed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from assay import metrics
from assay.metrics import Interval, finite

CORNERS = 200
"""Most corners of a curve that are kept."""

BINS = 15
"""Of the calibration, as in `assay.metrics.expected_calibration_error`."""


class Corner(NamedTuple):
    """A point of the ROC curve.

    Args:
        fpr, tpr: the share of reals, and of fakes, called fake.
        threshold: what scores are compared with there; NaN where nothing is called fake.
    """

    fpr: float
    tpr: float
    threshold: float


class Bin(NamedTuple):
    """Rows of about equal scores.

    Args:
        score: their mean.
        fakes: the share of fakes among them, with Wilson's interval, which takes rows for independent.
    """

    score: float
    fakes: Interval


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """Points to draw.

    Args:
        roc: from (0, 0) to (1, 1); empty where a class is absent.
        reliability: from the lowest scores to the highest; empty without rows.
    """

    roc: tuple[Corner, ...]
    reliability: tuple[Bin, ...]

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready object; what is not defined is None, never NaN."""
        return {
            "roc": [[corner.fpr, corner.tpr, finite(corner.threshold)] for corner in self.roc],
            "reliability": [{"score": each.score} | each.fakes.to_dict() for each in self.reliability],
        }

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Shape:
        """What `to_dict` gave.

        Raises:
            KeyError, TypeError, ValueError: it is something else, or holds a share beyond [0, 1].
        """
        roc = tuple(
            Corner(_share(fpr), _share(tpr), np.nan if threshold is None else float(threshold))
            for fpr, tpr, threshold in told["roc"]
        )
        bins = []
        for each in told["reliability"]:
            value, low, high = (_share(each[end]) for end in ("value", "low", "high"))
            bins.append(Bin(_share(each["score"]), Interval(value, low, high, int(each["n"]))))
        return cls(roc, tuple(bins))


def shape(labels: npt.ArrayLike, scores: npt.ArrayLike) -> Shape:
    """The points of scores.

    Args:
        labels: (n,), 1 = fake.
        scores: P(fake), (n,).

    Raises:
        ValueError: lengths differ, a score is NaN, or a label is neither 0 nor 1.
    """
    # Checks both.
    metrics.brier(labels, scores)
    truth, score = np.asarray(labels, np.int8), np.asarray(scores, np.float64)
    return Shape(_roc(truth, score), _reliability(truth, score))


def _roc(truth: metrics.Labels, score: metrics.Floats) -> tuple[Corner, ...]:
    fakes = int(truth.sum())
    reals = len(truth) - fakes
    if not fakes or not reals:
        return ()
    values, place = np.unique(-score, return_inverse=True)
    hits = [0, *np.cumsum(np.bincount(place[truth == 1], minlength=len(values))).tolist()]
    alarms = [0, *np.cumsum(np.bincount(place[truth == 0], minlength=len(values))).tolist()]
    thresholds = [np.nan, *(-values).tolist()]
    # A point on the straight line between its neighbours is no corner; whole numbers tell that without rounding.
    turns = [
        at
        for at in range(1, len(hits) - 1)
        if (alarms[at] - alarms[at - 1]) * (hits[at + 1] - hits[at])
        != (hits[at] - hits[at - 1]) * (alarms[at + 1] - alarms[at])
    ]
    corners = [
        Corner(alarm / reals, hit / fakes, threshold)
        for alarm, hit, threshold in zip(alarms, hits, thresholds, strict=True)
    ]
    if len(turns) > CORNERS - 2:
        # Evenly along the curve, whose length in steps of either class is the sum of both shares.
        along = np.array([corners[number].fpr + corners[number].tpr for number in turns])
        wanted = np.linspace(0, 2, CORNERS)[1:-1]
        turns = sorted({turns[min(int(at), len(turns) - 1)] for at in np.searchsorted(along, wanted)})
    return (corners[0], *(corners[number] for number in turns), corners[-1])


def _reliability(truth: metrics.Labels, score: metrics.Floats) -> tuple[Bin, ...]:
    if not len(score):
        return ()
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    middle = (np.cumsum(counts) - counts / 2) / len(score)
    bin_of = np.floor(middle * BINS).astype(np.intp)[place]
    return tuple(
        Bin(float(score[bin_of == number].mean()), metrics.wilson(int(truth[bin_of == number].sum()), int(n)))
        for number, n in enumerate(np.bincount(bin_of))
        if n
    )


def _share(told: Any) -> float:
    value = float(told)
    if not 0 <= value <= 1:
        raise ValueError(f"{value} is no share of 1")
    return value
