"""How streams vote: from P(fake) of each stream to one number for the picture.

- "mean": the mean of the calibrated scores.
- "plain_mean": the mean of the scores before calibration.
- "majority": each stream says fake or real at one half; the side with more votes wins, a tie goes to the mean.
- "modified_majority": the same, except that the mean decides as well where the winning side is less sure than the
  losing one, and where a stream abstains.
- "levels": each stream says 0, 1 or 2 (below one third, between, above two thirds); the mean of what they say, halved,
  each weighing as much as it is reliable.
- "tenths": each score rounded to a tenth; their weighted mean, rounded to a tenth again.

A stream that abstains has no part: the weights of the others stand as they are to one another.

Source: drift (arXiv 2604.25889) for the last two. *Paper*: calibrated scores become the votes 0, 1 and 2, which are
weighed by each stream's reliability on held-out data; where the bounds lie is not said (*ours*: thirds). *Release*
(khoalephanminh/ntire26-deepfake-challenge): tenths, weights 2 : 1 : 2. Rounding makes ties.

DFCon (arXiv 2501.16704) names a "modified majority voting" and does not say what it is. *Ours*: the rule above, and
the number that stands for a vote: the share of fake votes, pictures of one share ordered by their mean. With such a
rule the modified majority has the same winner as the mean, always. Where the majority stands, its votes are more, and
surer on average, than the others', so they pull the mean to their side of one half; where it does not stand, the mean
decides. What differs is the order of pictures, and with it thresholds and AUC: agreement comes first.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

Method = Literal["mean", "plain_mean", "majority", "modified_majority", "levels", "tenths"]

WEIGHTED: tuple[Method, ...] = ("levels", "tenths")
"""The rules that weigh streams."""

THIRDS = (1 / 3, 2 / 3)
"""Where "levels" turns from 0 to 1, and from 1 to 2."""

HALF = 0.5

ORDER = 0.05
"""Weight of the mean against the share of votes: so little that, with up to nine streams (six where some of a majority
abstain, which brings shares closer), it orders pictures of one share and never lifts one over another share."""


def value(method: Method, scores: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Floats:
    """What a vote comes to, in [0, 1]; one half or more means that fake wins.

    Args:
        scores: P(fake) of each stream, shape (streams, n); before calibration for "plain_mean", after it for the
            others. NaN where a stream abstains; of each picture at least one does not.
        weights: of each stream, above 0, shape (streams,), for the rules of `WEIGHTED`; None: all alike.

    Returns:
        Shape (n,).

    Raises:
        ValueError: all streams abstain.
    """
    given = np.atleast_2d(np.asarray(scores, np.float64))
    if np.isnan(given).all(axis=0).any():
        raise ValueError("a vote needs one stream at least that does not abstain")
    if method == "levels":
        levels = np.where(np.isnan(given), np.nan, np.digitize(given, THIRDS).astype(np.float64))
        return _weighed(levels, weights) / 2
    if method == "tenths":
        return np.round(_weighed(np.round(given, 1), weights), 1)
    mean = np.asarray(np.nanmean(given, axis=0), np.float64)
    if method in ("mean", "plain_mean"):
        return mean
    shares = share(given)
    if method == "modified_majority":
        shares = np.where(unsettled(given), HALF, shares)
    return (1 - ORDER) * shares + ORDER * mean


def _weighed(values: Floats, weights: npt.ArrayLike | None) -> Floats:
    """The weighted mean over the streams that do not abstain, shape (n,)."""
    mine = np.ones(len(values)) if weights is None else np.asarray(weights, np.float64)
    there = np.where(np.isnan(values), 0.0, mine[:, None])
    # Sums of tenths miss halves by the last bit, which the next rounding would make a tenth of.
    return np.asarray(np.round((np.nan_to_num(values) * there).sum(axis=0) / there.sum(axis=0), 9), np.float64)


def share(scores: Floats) -> Floats:
    """The share of fake votes among those of the streams that do not abstain, shape (n,)."""
    there = ~np.isnan(scores)
    return np.asarray((there & (scores >= HALF)).sum(axis=0) / there.sum(axis=0), np.float64)


def unsettled(scores: Floats) -> npt.NDArray[np.bool_]:
    """Whether the mean decides in place of the majority, shape (n,): a stream abstains, or the winning side's mean
    confidence lies below the losing side's. The confidence of a vote is how far its score lies from one half."""
    confidence = np.abs(scores - HALF)
    fake = scores >= HALF
    there = ~np.isnan(scores)
    real = there & ~fake
    with np.errstate(invalid="ignore"):
        # A side without votes has no mean, and compares as false: a unanimous vote is settled.
        for_fake = np.where(fake, confidence, 0).sum(axis=0) / fake.sum(axis=0)
        for_real = np.where(real, confidence, 0).sum(axis=0) / real.sum(axis=0)
    wins = share(scores) > HALF
    weaker = np.where(wins, for_fake < for_real, for_real < for_fake)
    return np.asarray(~there.all(axis=0) | weaker, np.bool_)
