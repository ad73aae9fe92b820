"""How good a detector is, in numbers: ranking, errors at a threshold, calibration, and how sure the number itself is.

Everywhere `labels` holds 0 (real) and 1 (fake), `scores` holds P(fake), both of shape (n,); a score at or above the
threshold is called fake. The positive class is *fake*: the false-positive rate (FPR) is the share of reals called
fake, the true-positive rate (TPR) the share of fakes called fake. A statistic of a class that is absent is NaN.

All functions raise ValueError where the arrays differ in length, hold a NaN, or hold a label other than 0 and 1.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int8]
Statistic = Callable[[Labels, Floats], float]
"""A number of (labels, scores), NaN where it is not defined."""

NEVER = math.nextafter(1.0, math.inf)
"""The threshold that no score in [0, 1] reaches."""


class Rates(NamedTuple):
    """Errors at one threshold: the share of reals, and of fakes, that are called fake."""

    fpr: float
    tpr: float


@dataclasses.dataclass(frozen=True, slots=True)
class Interval:
    """A measured value, its confidence interval [low, high], and the number of rows it rests on."""

    value: float
    low: float
    high: float
    n: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: what is not a finite number becomes None."""
        return {
            "value": finite(self.value),
            "low": finite(self.low),
            "high": finite(self.high),
            "n": self.n,
        }


def auc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Area under the ROC curve: P(a fake scores above a real), a tie counting one half.

    Mann–Whitney's U from mid-ranks, so the order of equal scores cannot move it.
    """
    truth, score = _checked(labels, scores)
    fakes = int(truth.sum())
    reals = len(truth) - fakes
    if not fakes or not reals:
        return math.nan
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2
    rank_sum = float(middle[place[truth == 1]].sum())
    return (rank_sum - fakes * (fakes + 1) / 2) / (fakes * reals)


def rates(labels: npt.ArrayLike, scores: npt.ArrayLike, threshold: float) -> Rates:
    """The false- and true-positive rates of calling fake what scores at or above `threshold`."""
    truth, score = _checked(labels, scores)
    called = score >= threshold
    return Rates(fpr=_mean(called[truth == 0]), tpr=_mean(called[truth == 1]))


def balanced_accuracy(labels: npt.ArrayLike, scores: npt.ArrayLike, threshold: float) -> float:
    """The mean of the two classes' accuracies at `threshold`: .5 is chance, whatever the share of fakes."""
    fpr, tpr = rates(labels, scores, threshold)
    return (1 - fpr + tpr) / 2


def f1(labels: npt.ArrayLike, scores: npt.ArrayLike, threshold: float, of: int = 1) -> float:
    """F1 of one class: twice its hits over its rows and the rows called so, in [0, 1]; NaN where there is neither.

    Args:
        of: the class that counts as positive, 1 = fake. Papers often leave it out, and the two differ wherever classes
            do in size.
    """
    label, score = _checked(labels, scores)
    truth, called = label == of, (score >= threshold) == (of == 1)
    whole = int(truth.sum()) + int(called.sum())
    return 2 * int((truth & called).sum()) / whole if whole else math.nan


def macro_f1(labels: npt.ArrayLike, scores: npt.ArrayLike, threshold: float) -> float:
    """The mean of the F1 of reals and of fakes, in [0, 1]; NaN where one is."""
    return (f1(labels, scores, threshold, 0) + f1(labels, scores, threshold, 1)) / 2


def threshold_at_fpr(real_scores: npt.ArrayLike, fpr: float) -> float:
    """The lowest threshold whose expected false-positive rate on further reals is at most `fpr`.

    Split-conformal: a score s is called fake where (1 + #{reals >= s}) / (n + 1) <= fpr. If the further reals are
    exchangeable with these, the guarantee holds for every n and with ties, on average over draws of the n reals
    (Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World", 2005, section 2.2). It says nothing of reals
    from elsewhere.

    Args:
        real_scores: scores in [0, 1] of real pictures that nothing else was chosen on, shape (n,).
        fpr: the rate asked for, in [0, 1].

    Returns:
        A threshold for `score >= threshold`. With fewer than 1 / fpr - 1 reals no threshold can promise the rate,
        and `NEVER` comes back: nothing is called fake.
    """
    if not 0 <= fpr <= 1:
        raise ValueError(f"fpr must lie in [0, 1], not {fpr}")
    reals = np.sort(_vector(real_scores, "real_scores"))[::-1]
    # The little extra keeps a product such as .29 * 100 = 28.999… from losing a whole row.
    allowed = math.floor(fpr * (len(reals) + 1) + 1e-9) - 1
    if allowed < 0:
        return NEVER
    if allowed >= len(reals):
        return 0.0
    return float(np.nextafter(reals[allowed], np.inf))


def tpr_at_fpr(labels: npt.ArrayLike, scores: npt.ArrayLike, fpr: float) -> float:
    """The best true-positive rate among these rows' thresholds whose false-positive rate on them is at most `fpr`.

    A point of the empirical ROC curve, not interpolated. It describes the ranking; the threshold is chosen on the very
    rows it is measured on, so it is no promise (`threshold_at_fpr` makes one).
    """
    truth, score = _checked(labels, scores)
    fakes = score[truth == 1]
    reals = np.sort(score[truth == 0])[::-1]
    if not len(reals) or not len(fakes):
        return math.nan
    allowed = math.floor(fpr * len(reals) + 1e-9)
    if allowed >= len(reals):
        return 1.0
    return _mean(fakes > reals[allowed])


def expected_calibration_error(labels: npt.ArrayLike, scores: npt.ArrayLike, bins: int = 15) -> float:
    """The mean gap between score and frequency, over bins that hold about equally many rows.

    Σ_b (n_b / n) · |mean score − share of fakes| in bin b (Naeini et al., AAAI 2015; bins of equal mass as in Nixon et
    al., CVPR workshops 2019). Equal scores always fall in one bin, so the order of the rows cannot move it.
    """
    truth, score = _checked(labels, scores)
    if not len(score):
        return math.nan
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    middle = (np.cumsum(counts) - counts / 2) / len(score)
    bin_of = np.floor(middle * bins).astype(np.intp)[place]
    gaps = np.bincount(bin_of, weights=score - truth, minlength=bins)
    return float(np.abs(gaps).sum() / len(score))


def brier(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """The mean squared difference of score and label: 0 is perfect, .25 is what a constant .5 gets."""
    truth, score = _checked(labels, scores)
    return _mean((score - truth) ** 2)


def precision_at_base_rate(fpr: float, tpr: float, base_rate: float) -> float:
    """The share of "fake" verdicts that are right where `base_rate` of all pictures are fake (Bayes).

    NaN where no picture would be called fake at all.
    """
    right = tpr * base_rate
    called = right + fpr * (1 - base_rate)
    return right / called if called > 0 else math.nan


def bootstrap(
    statistic: Statistic,
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    *,
    clusters: Sequence[object] | npt.NDArray[Any] | None = None,
    rounds: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """A percentile-bootstrap interval of `statistic`.

    Resamples within each class, so the share of fakes stays as it is. With `clusters`, whole clusters are drawn with
    replacement within each class: pictures of one source resemble each other, and an interval that ignores it is too
    narrow. Where a class has a single cluster its rows are drawn instead; the interval then speaks of that source
    only. With fewer than about ten clusters a class the interval is a rough guide and still somewhat too narrow.

    Args:
        statistic: a function of (labels, scores).
        clusters: a hashable name for each row, such as its source.
        rounds: how often to resample; 0 leaves `low` and `high` NaN.
        confidence: of the interval.
        seed: the same seed gives the same interval.

    Returns:
        The statistic of all rows and its interval. Rounds in which the statistic is NaN are left out; all NaN where a
        class is absent and the statistic needs it.
    """
    truth, score = _checked(labels, scores)
    value = float(statistic(truth, score))
    nothing = Interval(value, math.nan, math.nan, len(truth))
    if not len(truth) or rounds < 1 or math.isnan(value):
        return nothing
    if clusters is not None and len(clusters) != len(truth):
        raise ValueError(f"{len(clusters)} clusters for {len(truth)} rows")
    strata = [_units(np.flatnonzero(truth == label), clusters) for label in (0, 1) if np.any(truth == label)]
    random = np.random.default_rng(seed)
    found = np.empty(rounds)
    count = _auc_by_counting(score) if statistic is auc else None
    for number in range(rounds):
        drawn = [_draw(units, random) for units in strata]
        if count is None:
            rows = np.concatenate(drawn)
            found[number] = statistic(truth[rows], score[rows])
        else:
            found[number] = count(*drawn)
    found = found[~np.isnan(found)]
    if not len(found):
        return nothing
    tail = (1 - confidence) / 2
    low, high = np.quantile(found, [tail, 1 - tail])
    return Interval(value, float(low), float(high), len(truth))


def wilson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a share, `successes` of `n` independent rows. It holds at 0 % and 100 % too."""
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}")
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    z = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At the ends the formula gives the end itself, but for rounding.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return Interval(share, low, high, n)


def exact(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Clopper and Pearson's interval of a share, `successes` of `n` independent rows (Biometrika 26, 1934).

    It covers the true share at least as often as it says, for every n and every share; Wilson's does on average.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}")
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    tail = (1 - confidence) / 2
    return Interval(successes / n, _least_share(successes, n, tail), 1 - _least_share(n - successes, n, tail), n)


@functools.lru_cache(maxsize=4096)
def _least_share(successes: int, n: int, tail: float) -> float:
    """The share at which `successes` or more of `n` come up with probability `tail`; 0 for no success.

    Bisection of the binomial tail, which rises with the share.
    """
    if successes == 0:
        return 0.0
    counts = np.arange(successes, n + 1, dtype=np.float64)
    first = math.lgamma(n + 1) - math.lgamma(successes + 1) - math.lgamma(n - successes + 1)
    ways = first + np.concatenate([[0.0], np.cumsum(np.log((n - counts[:-1]) / counts[1:]))])
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if np.exp(ways + counts * math.log(middle) + (n - counts) * math.log1p(-middle)).sum() < tail:
            low = middle
        else:
            high = middle
    return low


def _auc_by_counting(score: Floats) -> Callable[[npt.NDArray[np.intp], npt.NDArray[np.intp]], float]:
    """The AUC of drawn reals and fakes, as row numbers: `auc` to the bit, for scores that are sorted once for all."""
    values, place = np.unique(score, return_inverse=True)

    def count(reals: npt.NDArray[np.intp], fakes: npt.NDArray[np.intp]) -> float:
        real = np.bincount(place[reals], minlength=len(values))
        fake = np.bincount(place[fakes], minlength=len(values))
        # Twice the pairs that a fake wins, so that a tie's half is a whole number.
        return int(fake @ (2 * np.cumsum(real) - real)) / 2 / (len(reals) * len(fakes))

    return count


Units = npt.NDArray[np.intp] | list[npt.NDArray[np.intp]]


def _units(rows: npt.NDArray[np.intp], clusters: Sequence[object] | npt.NDArray[Any] | None) -> Units:
    """What one class is resampled by: its rows, or a list with the rows of each cluster."""
    if clusters is None:
        return rows
    members: dict[object, list[int]] = {}
    for row in rows.tolist():
        members.setdefault(clusters[row], []).append(row)
    if len(members) < 2:
        return rows
    return [np.array(part, dtype=np.intp) for part in members.values()]


def _draw(units: Units, random: np.random.Generator) -> npt.NDArray[np.intp]:
    chosen = random.integers(len(units), size=len(units))
    if isinstance(units, list):
        return np.concatenate([units[index] for index in chosen.tolist()])
    return units[chosen]


def _vector(values: npt.ArrayLike, name: str) -> Floats:
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1:
        raise ValueError(f"{name} must have shape (n,), not {vector.shape}")
    if np.isnan(vector).any():
        raise ValueError(f"{name} holds a NaN: a picture that could not be judged has no score; leave its row out")
    return vector


def _checked(labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[Labels, Floats]:
    score = _vector(scores, "scores")
    truth = _vector(labels, "labels")
    if len(truth) != len(score):
        raise ValueError(f"{len(truth)} labels for {len(score)} scores")
    if not np.isin(truth, (0, 1)).all():
        raise ValueError("labels must be 0 (real) or 1 (fake)")
    return truth.astype(np.int8), score


def _mean(values: npt.NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else math.nan


def finite(value: float) -> float | None:
    """A number as JSON can hold it: None where it is not finite."""
    return value if math.isfinite(value) else None
