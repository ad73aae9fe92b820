"""Fairness: whether a detector errs more on some groups of pictures than on others.

For each group: the false-positive rate (FPR), the share of its reals called fake, and the false-negative rate (FNR),
the share of its fakes that are not, both at the detector's own threshold. Across groups: the largest gap of each, and
what both say together, equalized odds (Hardt, Price and Srebro, "Equality of Opportunity in Supervised Learning",
NeurIPS 2016). A gap is claimed only between groups that are named and large enough to say.

A group is whatever a column says: skin tone, sex, camera, language, format. The audit finds gaps in the errors on these
rows; it does not say why there is one, and finding none is no proof of fairness.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from assay import metrics
from assay.metrics import Floats, Interval

SMALL = 20
"""With fewer rows of a class than this a group is too small to say anything of that class's rate."""
UNNAMED = "(not named)"
"""The group of the rows whose cell is empty. It is shown, and is never an end of a gap."""
NOT_APPLIED = (
    "not applied: each is chosen on the very rows it is measured on, and whether to judge by a group's own threshold "
    "is a decision for people, and often unlawful"
)
"""Why a group's own threshold is shown only."""
RATES = {"fpr": ("false-positive rate", "reals"), "fnr": ("false-negative rate", "fakes")}
"""Each rate in words, and whose share it is."""

_LISTED = 10
_BLOCK = 1 << 20
_CONFIDENCE = 0.95

Ints = npt.NDArray[np.intp]
Bools = npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True, slots=True)
class Own:
    """The threshold that would give a group the rate asked for, and the TPR it would reach there.

    Args:
        threshold: `metrics.threshold_at_fpr` of the group's reals; None where they are too few to promise the rate.
        tpr: the share of the group's fakes at or above it; NaN without a threshold or without fakes.
    """

    threshold: float | None
    tpr: float


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """One group.

    Args:
        n_real, n_fake: rows with a score, by class.
        fpr: the share of reals called fake; NaN without reals.
        fnr: the share of fakes not called fake; NaN without fakes.
        called: the share of all rows with a score that is called fake (the selection rate); it follows the mix of the
            classes as well as the detector.
        uncertain: the share of all rows, with a score or without, whose verdict is "uncertain"; NaN where that was not
            handed in.
        own: the group's own threshold, which nothing applies; None where no rate was asked for.
    """

    n_real: int
    n_fake: int
    fpr: Interval
    fnr: Interval
    called: float
    uncertain: float
    own: Own | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "n_real": self.n_real,
            "n_fake": self.n_fake,
            "fpr": self.fpr.to_dict(),
            "fnr": self.fnr.to_dict(),
            "called": metrics.finite(self.called),
            "uncertain": metrics.finite(self.uncertain),
        }


@dataclasses.dataclass(frozen=True, slots=True)
class Gap:
    """The largest difference of a rate between groups.

    Args:
        gap: the highest rate minus the lowest; `n` rows of the class in all groups compared.
        ratio: the lowest rate over the highest; NaN where both are 0.
        lowest, highest: the groups at both ends.
        chance: whether the two groups' intervals overlap, or the gap's own reaches 0.
    """

    gap: Interval
    ratio: float
    lowest: str
    highest: str
    chance: bool

    def to_dict(self) -> dict[str, Any]:
        return {
            "gap": self.gap.to_dict(),
            "ratio": metrics.finite(self.ratio),
            "lowest": self.lowest,
            "highest": self.highest,
            "chance": self.chance,
        }


@dataclasses.dataclass(frozen=True, slots=True)
class Audit:
    """How evenly the errors fall on the groups of one column.

    Args:
        groups: by name.
        gaps: "fpr" and "fnr"; None where fewer than two groups are large enough.
        difference: of equalized odds, the larger of the two gaps; NaN unless there are both.
        ratio: of equalized odds, the smaller of the ratios of the FPRs and of the TPRs; NaN unless both are defined.
        fpr: the rate that the groups' own thresholds would keep, or None.
        warnings: what these figures cannot say, in sentences.
    """

    groups: dict[str, Part]
    gaps: dict[str, Gap | None]
    difference: float
    ratio: float
    fpr: float | None
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready object; what is not defined is None."""
        own = {name: part.own for name, part in self.groups.items() if part.own is not None}
        thresholds = {
            "why": NOT_APPLIED,
            "fpr": self.fpr,
            "groups": {
                name: {"threshold": made.threshold, "tpr": metrics.finite(made.tpr)} for name, made in own.items()
            },
        }
        return {
            "groups": {name: part.to_dict() for name, part in self.groups.items()},
            "gaps": {rate: None if gap is None else gap.to_dict() for rate, gap in self.gaps.items()},
            "equalized_odds": {"difference": metrics.finite(self.difference), "ratio": metrics.finite(self.ratio)},
            "warnings": list(self.warnings),
            "thresholds_not_applied": None if self.fpr is None else thresholds,
        }


def audit(
    labels: npt.ArrayLike,
    groups: Sequence[str],
    *,
    scores: npt.ArrayLike | None = None,
    thresholds: npt.ArrayLike | None = None,
    called: npt.ArrayLike | None = None,
    uncertain: npt.ArrayLike | None = None,
    sources: Sequence[str] | None = None,
    fpr: float | None = None,
    rounds: int = 1000,
    seed: int = 0,
) -> Audit:
    """Compare a detector's errors across groups of rows.

    A group's rates have the wider of two intervals at each end: Clopper and Pearson's, which takes the rows for
    independent, and the percentile bootstrap's, which draws whole sources within the group (rows, where the group has
    a single source: it then speaks of that source only). A group of fewer than `SMALL` rows of the class has the first
    alone.

    A gap's interval holds whichever groups turn out to be its ends: the gap plus and minus the 95 % quantile of the
    range, over groups, of the bootstrap's deviations, as in Tukey's range test. Groups are drawn independently of each
    other. It is widened to Newcombe's (Statistics in Medicine 17, 1998, method 10) from the intervals of the groups at
    both ends where that is wider, so that 0 of 30 against 0 of 30 is not taken for certainty.

    Args:
        labels: 0 (real) or 1 (fake), shape (n,).
        groups: a name for each row; empty where it is not known.
        scores: P(fake), shape (n,); NaN for a row to which no stream applied, which counts in `uncertain` alone.
        thresholds: what the scores are compared with, one number or shape (n,).
        called: instead of `thresholds`: whether each row is called fake, shape (n,).
        uncertain: whether each row's verdict is "uncertain", shape (n,).
        sources: where each row was collected; a row of no known source is a source of its own.
        fpr: the rate that the groups' own thresholds would keep, in [0, 1]; needs `scores`.
        rounds, seed: of the bootstrap; 0 rounds leave it out.

    Raises:
        ValueError: arrays differ in length, hold a NaN where none is allowed or a label other than 0 and 1; not exactly
            one of `thresholds` and `called` was given; or `scores` are missing.
    """
    truth = np.asarray(labels)
    if truth.ndim != 1:
        raise ValueError(f"labels must have shape (n,), not {truth.shape}")
    if not np.isin(truth, (0, 1)).all():
        raise ValueError("labels must be 0 (real) or 1 (fake)")
    if (thresholds is None) == (called is None):
        raise ValueError("give either thresholds or called")
    if scores is None and (thresholds is not None or fpr is not None):
        raise ValueError("thresholds need scores")
    for what, given in (("groups", groups), ("sources", sources)):
        if given is not None and len(given) != len(truth):
            raise ValueError(f"{len(given)} {what} for {len(truth)} labels")
    score = _column(np.zeros(len(truth)) if scores is None else scores, "scores", len(truth), unknown=True)
    scored = ~np.isnan(score)
    if called is not None:
        calls = _column(called, "called", len(truth)).astype(np.bool_)
    else:
        bars = np.asarray(thresholds, dtype=np.float64)
        calls = score >= _column(np.full(len(truth), bars) if bars.ndim == 0 else bars, "thresholds", len(truth))
    doubted = None if uncertain is None else _column(uncertain, "uncertain", len(truth)).astype(np.bool_)

    named = [name or UNNAMED for name in groups]
    names = sorted(set(named))
    place = {name: number for number, name in enumerate(names)}
    group = np.array([place[name] for name in named], dtype=np.intp)
    source = _numbered(sources, len(truth))

    def counted(rows: Bools) -> Ints:
        return np.bincount(group[rows], minlength=len(names))

    real, fake = scored & (truth == 0), scored & (truth == 1)
    found: dict[str, list[Interval]] = {}
    gaps: dict[str, Gap | None] = {}
    warnings: list[str] = []
    for rate, inside, wrong in (("fpr", real, calls), ("fnr", fake, ~calls)):
        count = counted(inside)
        drawn = _drawn(wrong[inside], group[inside], source[inside], count, rounds, seed)
        found[rate] = _intervals(counted(inside & wrong), count, drawn)
        gaps[rate] = _gap(found[rate], names, drawn)
        warnings += _warnings(rate, names, count, gaps[rate])

    parts = {}
    # Splitting no rows gives one empty part, for which there is no name.
    members = np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1])
    for number, (name, rows) in enumerate(zip(names, members, strict=False)):
        parts[name] = Part(
            n_real=found["fpr"][number].n,
            n_fake=found["fnr"][number].n,
            fpr=found["fpr"][number],
            fnr=found["fnr"][number],
            called=_share(calls[rows[scored[rows]]]),
            uncertain=math.nan if doubted is None else _share(doubted[rows]),
            own=None if fpr is None else _own(score[rows[real[rows]]], score[rows[fake[rows]]], fpr),
        )
    return Audit(parts, gaps, *_equalized_odds(gaps, parts), fpr, tuple(warnings))


def _drawn(flags: Bools, group: Ints, source: Ints, count: Ints, rounds: int, seed: int) -> Floats:
    """The share of `flags` in each group under resampling, shape (rounds, groups); NaN for groups too small."""
    shares = np.full((max(rounds, 0), len(count)), math.nan)
    kept = count[group] >= SMALL
    flags, group, source = flags[kept], group[kept], source[kept]
    if not len(flags) or rounds < 1:
        return shares
    width = int(source.max()) + 1
    pairs = np.unique(group * width + source)
    single = np.bincount(pairs // width, minlength=len(count)) == 1
    # Where a group has one source its rows are drawn, so each becomes a source of its own.
    source = np.where(single[group], width + np.arange(len(source)), source)
    width += len(source)
    pairs, unit = np.unique(group * width + source, return_inverse=True)
    owner = pairs // width
    size = np.bincount(unit).astype(np.float64)
    hits = np.bincount(unit, weights=flags)
    many = np.bincount(owner, minlength=len(count))
    start = np.cumsum(many) - many
    large = np.flatnonzero(many)
    random = np.random.default_rng(seed)
    # Units stand group by group, so a group's sum is that of one stretch.
    block = max(1, _BLOCK // len(owner))
    for first in range(0, rounds, block):
        last = min(rounds, first + block)
        chosen = start[owner] + random.integers(many[owner], size=(last - first, len(owner)))
        top = np.add.reduceat(hits[chosen], start[large], axis=1)
        shares[first:last, large] = top / np.add.reduceat(size[chosen], start[large], axis=1)
    return shares


def _intervals(hits: Ints, count: Ints, drawn: Floats) -> list[Interval]:
    """The rate of each group: the wider of Clopper and Pearson's interval and the bootstrap's."""
    tail = (1 - _CONFIDENCE) / 2
    found = []
    for number, (top, n) in enumerate(zip(hits.tolist(), count.tolist(), strict=True)):
        exact = metrics.exact(top, n, _CONFIDENCE)
        if n >= SMALL and len(drawn):
            low, high = np.quantile(drawn[:, number], [tail, 1 - tail])
            exact = dataclasses.replace(exact, low=min(exact.low, float(low)), high=max(exact.high, float(high)))
        found.append(exact)
    return found


def _gap(rates: Sequence[Interval], names: Sequence[str], drawn: Floats) -> Gap | None:
    large = [number for number, name in enumerate(names) if rates[number].n >= SMALL and name != UNNAMED]
    if len(large) < 2:
        return None
    order = sorted(large, key=lambda number: rates[number].value)
    low, high = rates[order[0]], rates[order[-1]]
    value = high.value - low.value
    down = math.hypot(high.value - high.low, low.high - low.value)
    up = math.hypot(high.high - high.value, low.value - low.low)
    if len(drawn):
        away = drawn[:, large] - np.array([rates[number].value for number in large])
        reach = float(np.quantile(away.max(axis=1) - away.min(axis=1), _CONFIDENCE))
        down, up = max(down, reach), max(up, reach)
    least = max(0.0, value - down)
    return Gap(
        gap=Interval(value, least, min(1.0, value + up), sum(rates[number].n for number in large)),
        ratio=low.value / high.value if high.value > 0 else math.nan,
        lowest=names[order[0]],
        highest=names[order[-1]],
        chance=low.high >= high.low or least == 0,
    )


def _equalized_odds(gaps: dict[str, Gap | None], parts: dict[str, Part]) -> tuple[float, float]:
    alarms, misses = gaps["fpr"], gaps["fnr"]
    if alarms is None or misses is None:
        return math.nan, math.nan
    most = 1 - parts[misses.lowest].fnr.value
    hits = (1 - parts[misses.highest].fnr.value) / most if most > 0 else math.nan
    # Python's min of a NaN depends on the order, so it is asked for.
    ratio = math.nan if math.isnan(alarms.ratio + hits) else min(alarms.ratio, hits)
    return max(alarms.gap.value, misses.gap.value), ratio


def _warnings(rate: str, names: Sequence[str], count: Ints, gap: Gap | None) -> list[str]:
    words, rows = RATES[rate]
    found = []
    few = [(name, n) for name, n in zip(names, count.tolist(), strict=True) if n < SMALL and name != UNNAMED]
    if few:
        listed = ", ".join(f'"{name}" ({n})' for name, n in few[:_LISTED])
        more = f" and {len(few) - _LISTED} more" if len(few) > _LISTED else ""
        found.append(
            f"{words}: fewer than {SMALL} {rows}, too few to say, in {listed}{more}; no gap is claimed from them"
        )
    if gap is None:
        found.append(f"{words}: fewer than two named groups have {SMALL} {rows}, so no gap can be told")
    elif gap.chance and gap.gap.value > 0:
        found.append(
            f'{words}: the gap between "{gap.lowest}" and "{gap.highest}" may be chance: '
            f"{'its interval reaches 0' if gap.gap.low == 0 else 'their intervals overlap'}"
        )
    return found


def _own(reals: Floats, fakes: Floats, fpr: float) -> Own:
    threshold = metrics.threshold_at_fpr(reals, fpr)
    if threshold == metrics.NEVER:
        return Own(None, math.nan)
    return Own(threshold, _share(fakes >= threshold))


def _numbered(sources: Sequence[str] | None, n: int) -> Ints:
    """A number for each row's source, from 0."""
    if sources is None:
        return np.arange(n, dtype=np.intp)
    numbers: dict[object, int] = {}
    return np.array(
        [numbers.setdefault(source or row, len(numbers)) for row, source in enumerate(sources)], dtype=np.intp
    )


def _column(values: npt.ArrayLike, name: str, n: int, *, unknown: bool = False) -> Floats:
    column = np.asarray(values, dtype=np.float64)
    if column.shape != (n,):
        raise ValueError(f"{name} must have shape ({n},), not {column.shape}")
    if not unknown and np.isnan(column).any():
        raise ValueError(f"{name} holds a NaN")
    return column


def _share(flags: Bools) -> float:
    return float(flags.mean()) if len(flags) else math.nan
