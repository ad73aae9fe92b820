"""Detectors side by side on the same rows: what a smaller or faster one gives up of the first, and what it saves.

The first detector is what the others are measured by, such as the teacher they were distilled from. Figures rest on the
rows that all of them have a score for; differences are paired: each round of the bootstrap draws the same pictures for
all, so what makes a picture hard for every detector cancels. Which figures stand for a trade-off is *ours*.
"""

from __future__ import annotations

import dataclasses
import math
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from assay import metrics
from assay.errors import InputError, ManifestError, OverlapError
from assay.image.decode import decode
from assay.measure import robustness
from assay.measure.controls import look_at_all
from assay.measure.evaluate import Judging, Progress, overlaps
from assay.metrics import Floats, Interval, Labels
from assay.types import Pixels, Sample, Verdict

if TYPE_CHECKING:
    from assay.judge.detector import Detector

CONDITIONS = ("jpeg50", "half", "blur1")
"""What robustness is measured under where nothing else is asked for."""
HALF = 0.5
"""Balanced accuracy is taken at this score: detectors whose thresholds were chosen for other rates compare by it."""
TIMED, TURNS = 32, 7
"""Pictures that are timed, and how often."""

Numbers = npt.NDArray[np.intp]
Statistic = Callable[[Labels, Numbers], float]
"""A number of the labels of drawn rows and their numbers."""

_SHOWN = 20


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Contender:
    """A detector to compare.

    Args:
        name: what the comparison calls it.
        detector: loaded; with as many threads as the others, or times mean little.
        parameters: of its trunks, each counted once.
        bytes: of its bundle's folder.
        sha256: of its card.
    """

    name: str
    detector: Judging
    parameters: int
    bytes: int
    sha256: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """What was measured of one detector.

    Args:
        name, sha256, parameters, bytes: as the contender's.
        metrics: "auc", "balanced_accuracy" (at one half), "ece", "brier", and "robust_auc", the mean AUC over the
            conditions, where there are any.
        differences: how much more it has of each than the first detector; empty for the first.
        kept: "auc", (AUC − 0.5) / (AUC of the first − 0.5), and "balanced_accuracy", the ratio of the two: 1 is all of
            the first's; empty for the first. NaN where the first is no better than chance.
        conditions: the AUC under each.
        milliseconds: a picture, decoding included, in each round of timing; empty where nothing was timed.
        times_faster: the first one's time over its own, the median over rounds; NaN where nothing was timed.
        unscored: labelled rows that it has no score for.
        seen: rows that it was made with; above 0 only where that was allowed.
    """

    name: str
    sha256: str
    metrics: dict[str, Interval]
    differences: dict[str, Interval]
    kept: dict[str, Interval]
    conditions: dict[str, Interval]
    parameters: int
    bytes: int
    milliseconds: tuple[float, ...]
    times_faster: float
    unscored: int
    seen: int

    @property
    def pace(self) -> float:
        """Milliseconds a picture, the median over rounds; NaN where nothing was timed."""
        return statistics.median(self.milliseconds) if self.milliseconds else math.nan

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready object; what is not defined is None, never NaN."""
        parts = ("metrics", "differences", "kept", "conditions")
        return {
            "name": self.name,
            "sha256": self.sha256,
            **{part: {name: found.to_dict() for name, found in getattr(self, part).items()} for part in parts},
            "parameters": self.parameters,
            "bytes": self.bytes,
            "milliseconds": metrics.finite(self.pace),
            "milliseconds_by_round": list(self.milliseconds),
            "times_faster": metrics.finite(self.times_faster),
            "unscored": self.unscored,
            "seen": self.seen,
        }


@dataclasses.dataclass(frozen=True, slots=True)
class Tradeoff:
    """Detectors side by side.

    Args:
        rows: one a detector, in the order given.
        n_real, n_fake: rows that every detector has a score for.
        left_out: labelled rows that not all of them have one for.
        unlabelled: rows of unknown class, which are left out.
        timed: pictures in one round of timing.
    """

    rows: tuple[Row, ...]
    n_real: int
    n_fake: int
    left_out: int
    unlabelled: int
    timed: int

    @property
    def seen(self) -> bool:
        """Whether a detector was made with some of the rows, so that this is no test."""
        return any(row.seen for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready object; what is not defined is None, never NaN."""
        counts = ("n_real", "n_fake", "left_out", "unlabelled", "timed", "seen")
        return {name: getattr(self, name) for name in counts} | {"detectors": [row.to_dict() for row in self.rows]}


def contender(detector: Detector, folder: str | os.PathLike[str], name: str = "") -> Contender:
    """A loaded detector and what it costs to keep.

    Args:
        folder: of its bundle.
        name: what the comparison calls it; empty for its own name.
    """
    trunks = {stream.trunk: stream.parameters for stream in detector.card.streams}
    size = sum(path.stat().st_size for path in Path(folder).iterdir())
    return Contender(name or detector.name, detector, sum(trunks.values()), size, detector.sha256)


def tradeoff(
    contenders: Sequence[Contender],
    samples: Sequence[Sample],
    *,
    conditions: Sequence[str] = CONDITIONS,
    allow_seen: bool = False,
    rounds: int = 1000,
    turns: int = TURNS,
    timed: int = TIMED,
    seed: int = 0,
    progress: Progress | None = None,
) -> Tradeoff:
    """Measure detectors on the same labelled rows.

    Intervals are bootstrapped by source within each class. Times are taken with the detectors in turn, each round from
    the next of them on, so that other load on the machine hits all alike.

    Args:
        contenders: the first is what the others are measured by; names differ.
        samples: rows to test on; those without a label are left out and counted.
        conditions: by name, as `assay.measure.robustness.conditions` takes them; none for no robustness.
        allow_seen: measure on rows that a detector was made with as well; such figures are no test.
        rounds, seed: of the bootstrap; the seed also of the pictures that are timed.
        turns: rounds of timing; 0 for none.
        timed: pictures in one of them at most, >= 1.
        progress: told ("NAME: CONDITION", done, total), and of the stages "looking" and "timing".

    Raises:
        ManifestError: no sample has a label.
        OverlapError: a detector was made with some of the rows, and `allow_seen` is false.
        RecipeError: a condition that is not known.
        ValueError: no contender, or two of one name.
    """
    if not contenders or len({one.name for one in contenders}) < len(contenders):
        raise ValueError(f"it takes detectors of different names, not {[one.name for one in contenders]}")
    under = robustness.conditions(conditions)
    known = [sample for sample in samples if sample.label is not None]
    if not known:
        raise ManifestError("no row has a label, so there is nothing to measure; fill in the column label")
    seen = _seen(contenders, known, allow_seen, progress)
    clean = [_scores(one, "clean", known, None, progress) for one in contenders]
    hard = [{name: _scores(one, name, known, under[name], progress) for name in under} for one in contenders]
    shared = _all_there(clean)
    judged = _all_there([*clean, *(scores for mine in hard for scores in mine.values())])
    drawing = _Drawing(
        np.array([sample.label for sample in known], np.int8),
        # A row of no known source is a source of its own.
        [sample.source or f"\0{number}" for number, sample in enumerate(known)],
        rounds,
        seed,
    )
    among = np.random.default_rng(seed).permutation(np.flatnonzero(shared))[:timed]
    times = _times(contenders, [known[row].place for row in np.sort(among)], turns, progress)
    first = _of_scores(clean[0], hard[0])
    rows = []
    for number, one in enumerate(contenders):
        mine = _of_scores(clean[number], hard[number])
        where = {name: judged if name == "robust_auc" else shared for name in mine}
        rows.append(
            Row(
                name=one.name,
                sha256=one.sha256,
                metrics={name: drawing.interval(mine[name], where[name]) for name in mine},
                differences={
                    name: drawing.interval(_less(mine[name], first[name]), where[name]) for name in mine if number
                },
                kept={
                    name: drawing.interval(_over(mine[name], first[name], floor), shared)
                    for name, floor in (("auc", 0.5), ("balanced_accuracy", 0.0))
                    if number
                },
                conditions={name: drawing.interval(_auc(scores), judged) for name, scores in hard[number].items()},
                parameters=one.parameters,
                bytes=one.bytes,
                milliseconds=tuple(times[number]),
                times_faster=_median(theirs / own for theirs, own in zip(times[0], times[number], strict=True)),
                unscored=int(np.isnan(clean[number]).sum()),
                seen=seen[number],
            )
        )
    return Tradeoff(
        rows=tuple(rows),
        n_real=int((drawing.labels[shared] == 0).sum()),
        n_fake=int((drawing.labels[shared] == 1).sum()),
        left_out=int((~shared).sum()),
        unlabelled=len(samples) - len(known),
        timed=len(among) if turns else 0,
    )


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Drawing:
    """The rows, and how intervals are taken of them: the same rows draw the same pictures each time."""

    labels: Labels
    sources: Sequence[str]
    rounds: int
    seed: int

    def interval(self, statistic: Statistic, among: npt.NDArray[np.bool_]) -> Interval:
        numbers = np.flatnonzero(among)
        return metrics.bootstrap(
            lambda labels, rows: statistic(labels, rows.astype(np.intp)),
            self.labels[numbers],
            numbers.astype(np.float64),
            clusters=[self.sources[number] for number in numbers.tolist()],
            rounds=self.rounds,
            seed=self.seed,
        )


def _seen(
    contenders: Sequence[Contender], known: Sequence[Sample], allow_seen: bool, progress: Progress | None
) -> list[int]:
    """How many of the rows each detector was made with."""
    stage = None if progress is None else lambda done, total: progress("looking", done, total)
    facts = look_at_all([sample.place for sample in known], stage)
    found = [overlaps(one.detector, known, facts) for one in contenders]
    rows = sorted({index for each in found for index, _ in each})
    if rows and not allow_seen:
        told = [
            f"  {known[index].place}: {one.name}: {why}"
            for one, each in zip(contenders, found, strict=True)
            for index, why in each
        ]
        rest = f"\n  … and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
        raise OverlapError(
            f"{len(rows)} of these {len(known)} rows were used to make a detector; nothing was judged. Leave them out, "
            "or allow seen rows and call the result no test:\n" + "\n".join(told[:_SHOWN]) + rest,
            [known[index].place for index in rows],
        )
    return [len(each) for each in found]


def _scores(
    one: Contender,
    name: str,
    known: Sequence[Sample],
    condition: robustness.Condition | None,
    progress: Progress | None,
) -> Floats:
    """P(fake) of each row under a condition, (n,); NaN where there is none."""
    kept: list[int] = []

    def pictures() -> Iterator[str | Pixels]:
        for row, sample in enumerate(known):
            try:
                picture = sample.place if condition is None else condition(decode(sample.place).pixels)
            except InputError:
                continue
            kept.append(row)
            yield picture

    scores: list[float] = []
    for answer in one.detector.judge_many(pictures()):
        score = answer.score if isinstance(answer, Verdict) else None
        scores.append(math.nan if score is None else score)
        if progress is not None:
            progress(f"{one.name}: {name}", len(scores), len(known))
    found = np.full(len(known), math.nan)
    found[kept] = scores
    return found


def _times(
    contenders: Sequence[Contender], places: Sequence[str], turns: int, progress: Progress | None
) -> list[list[float]]:
    """Milliseconds a picture of each detector, round by round; networks and files are warm from judging before."""
    times: list[list[float]] = [[] for _ in contenders]
    for turn in range(turns if places else 0):
        for place in range(len(contenders)):
            number = (turn + place) % len(contenders)
            start = time.perf_counter()
            for _ in contenders[number].detector.judge_many(places):
                pass
            times[number].append(1000 * (time.perf_counter() - start) / len(places))
        if progress is not None:
            progress("timing", turn + 1, turns)
    return times


def _all_there(scores: Sequence[Floats]) -> npt.NDArray[np.bool_]:
    """Which rows have every score, (n,)."""
    return np.asarray(~np.isnan(scores).any(axis=0), np.bool_)


def _of_scores(clean: Floats, hard: dict[str, Floats]) -> dict[str, Statistic]:
    """The figures of a detector as statistics of drawn rows."""
    found: dict[str, Statistic] = {
        "auc": _auc(clean),
        "balanced_accuracy": lambda labels, rows: metrics.balanced_accuracy(labels, clean[rows], HALF),
        "ece": lambda labels, rows: metrics.expected_calibration_error(labels, clean[rows]),
        "brier": lambda labels, rows: metrics.brier(labels, clean[rows]),
    }
    if hard:
        found["robust_auc"] = lambda labels, rows: float(
            np.mean([metrics.auc(labels, scores[rows]) for scores in hard.values()])
        )
    return found


def _auc(scores: Floats) -> Statistic:
    return lambda labels, rows: metrics.auc(labels, scores[rows])


def _less(mine: Statistic, first: Statistic) -> Statistic:
    return lambda labels, rows: mine(labels, rows) - first(labels, rows)


def _over(mine: Statistic, first: Statistic, floor: float) -> Statistic:
    """What is left of the first one's figure above `floor`; NaN where that has nothing above it."""

    def ratio(labels: Labels, rows: Numbers) -> float:
        whole = first(labels, rows) - floor
        return (mine(labels, rows) - floor) / whole if whole > 0 else math.nan

    return ratio


def _median(values: Iterable[float]) -> float:
    found = list(values)
    return statistics.median(found) if found else math.nan
