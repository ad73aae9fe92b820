"""Clips: how good a detector is frame by frame and clip by clip, and how steady what it says is over a clip.

A row is a video file, or a frame of one (or a crop of a frame), which the column `video` gathers. Of each clip 15
frames are judged, evenly. *Paper*: a clip's score is the mean over 15 frames (GenConViT, arXiv 2307.07036; the
masked-eye study on it, arXiv 2410.05466, which does not say which class its F1 takes for the positive one, nor whether
it counts frames or clips: so F1 of both classes and of both levels stands here). *Ours*: the median, the mean of the
highest few and the maximum beside it, and the detector's own rule for a clip (`Verdict.score`), where files are judged.

- **Threshold**: the detector's own, for frames and for every aggregate alike. It was chosen for single pictures or for
  the detector's own rule, so the rate it promises does not hold for another aggregate: a maximum of 15 lies higher than
  a mean. Thresholds can be chosen anew, for the same rate, on clips of the split "tune".
- **Intervals** are bootstrapped by person (of a swap the one named first, whose clip it was), else by source. Where a
  class has one of these alone, clips are drawn instead, and where it has one clip, nothing has an interval. Frames are
  never drawn apart from their clip.
- **No frame, no score**: a clip in which nothing could be judged is counted and listed, and no aggregate knows of it.
- Of a frame that has several rows (crops of several faces) the highest score counts, as a face stream's own rule has
  it (*ours*).
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.text import Text

from assay import metrics
from assay.data.keys import JOINER
from assay.data.layouts import VIDEOS
from assay.errors import ManifestError, OverlapError
from assay.image import place
from assay.image.decode import Limits
from assay.judge.sink import printable
from assay.measure import block as tables
from assay.measure import resample
from assay.measure.block import Block, escaped
from assay.measure.evaluate import Calibrated, Memory, Options, Progress, Table, Trouble, evaluate
from assay.measure.report import both, listed, percent
from assay.measure.resample import Tally
from assay.metrics import Floats, Interval
from assay.types import Failure, Label, Sample, Verdict, consistency

FRAMES = 15
"""Judged of each clip, as by GenConViT."""
SHARE = 5
"""One in so many of a clip's frames, rounded up, is what "top" takes the mean of where nothing else is asked for."""

WAYS: Mapping[str, str] = {
    "mean": "mean",
    "median": "median",
    "top": "highest few",
    "max": "maximum",
    "own": "its own rule",
}
"""Ways to make one score of a clip's frames, and what tables call them; "own" is the detector's rule for the file."""

FIGURES: Mapping[str, str] = {
    "auc": "AUC",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "f1_fake": "F1, fake positive",
    "f1_real": "F1, real positive",
    "f1_macro": "F1, mean of both",
}

STEADY: Mapping[str, str] = {"deviation": "standard deviation", "change": "change from frame to frame"}
"""Of the scores of a clip's frames (`assay.types.consistency`)."""


class JudgingClips(Calibrated, Protocol):
    """What measuring clips needs of a detector."""

    def judge_many(self, sources: Iterable[Any], *, limits: Limits) -> Iterator[Verdict | Failure]:
        """One answer a source, in the order of the sources."""


class _Said(NamedTuple):
    """What is kept of an answer: `Verdict`'s, and why there is no score."""

    score: float | None
    frames: tuple[tuple[int, float], ...]
    threshold: float
    reason: str
    failed: str


class Noted:
    """A detector that keeps what it said of files, so that clips are measured without judging them twice.

    Args:
        detector: what judges.
        frames: judged of each clip, >= 1, evenly.
    """

    def __init__(self, detector: JudgingClips, frames: int = FRAMES) -> None:
        self._detector = detector
        self._limits = Limits(frames=frames, video_frames=frames)
        self.frames = frames
        self.said: dict[str, _Said] = {}

    @property
    def name(self) -> str:
        return self._detector.name

    @property
    def threshold(self) -> float:
        return self._detector.threshold

    @property
    def doubt(self) -> tuple[float, float]:
        return self._detector.doubt

    @property
    def fpr(self) -> float:
        return self._detector.fpr

    @property
    def seen(self) -> Memory:
        return self._detector.seen

    def judge_many(self, sources: Iterable[Any]) -> Iterator[Verdict | Failure]:
        """As the detector's own, with that many frames of each clip."""
        asked: collections.deque[Any] = collections.deque()

        def drawn() -> Iterator[Any]:
            for source in sources:
                asked.append(source if isinstance(source, str) else None)
                yield source

        for answer in self._detector.judge_many(drawn(), limits=self._limits):
            name = asked.popleft()
            if name is not None:
                self.said[name] = _said(answer)
            yield answer


@dataclasses.dataclass(frozen=True, slots=True)
class Clip:
    """One clip and what was said of its frames.

    Args:
        name: the file's place, or what the column `video` says.
        label: what it is known to be.
        person: whom it shows first, or its source; empty where neither is known.
        frames: (number, P(fake)) of each judged frame, in order; empty where there is none.
        threshold: what the scores are compared with; the mean of its frames' where these differ.
        own: the detector's own score for the whole file; None of frames that are files.
        reason: why no frame was judged.
        failed: the kind of the failure where that was one; empty where nothing failed, or frames are left.
    """

    name: str
    label: Label
    person: str
    frames: tuple[tuple[int, float], ...]
    threshold: float
    own: float | None = None
    reason: str = ""
    failed: str = ""

    @property
    def scores(self) -> tuple[float, ...]:
        return tuple(score for _, score in self.frames)


@dataclasses.dataclass(frozen=True, slots=True)
class Clips:
    """What was measured of a detector on clips.

    Args:
        detector: its name.
        threshold, fpr: its own.
        frames: judged of each clip at most.
        top: how many of a clip's frames "top" takes; None for one in five, rounded up.
        n_real, n_fake: clips by class, those without a score among them.
        judged: frames with a score.
        still: rows that are neither clips nor frames of one; left out.
        without: clips in which no frame could be judged, with the reason. Never a score.
        failures: clips that could not be read.
        by_frame: the `FIGURES` over frames.
        by_clip: the same over clips, for each of `WAYS`; "own" where files were judged.
        steady: "real" and "fake": `STEADY`, each the mean over clips of two judged frames or more.
        chosen: thresholds chosen anew for `fpr` on tuning clips, by way; above 1 where too few reals were there to
            promise it. Empty where that was not asked for.
        tuned: (real, fake) clips that they were chosen on; only reals matter.
        by_clip_chosen: as `by_clip`, at these thresholds.
        clips: each of them. Not in `to_dict`.
    """

    detector: str
    threshold: float
    fpr: float
    frames: int
    top: int | None
    n_real: int
    n_fake: int
    judged: int
    still: int
    without: tuple[Trouble, ...]
    failures: tuple[Trouble, ...]
    by_frame: dict[str, Interval]
    by_clip: dict[str, dict[str, Interval]]
    steady: dict[str, dict[str, Interval]]
    chosen: dict[str, float] = dataclasses.field(default_factory=dict)
    tuned: tuple[int, int] = (0, 0)
    by_clip_chosen: dict[str, dict[str, Interval]] = dataclasses.field(default_factory=dict)
    clips: tuple[Clip, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready object; what is not defined is None, never NaN."""
        named = ("detector", "threshold", "fpr", "frames", "top", "n_real", "n_fake", "judged", "still")
        told: dict[str, Any] = {name: getattr(self, name) for name in named}
        told["without_a_frame"] = [trouble.to_dict() for trouble in self.without]
        told["failures"] = [trouble.to_dict() for trouble in self.failures]
        told["by_frame"] = _plain(self.by_frame)
        told["by_clip"] = {way: _plain(found) for way, found in self.by_clip.items()}
        told["consistency"] = {label: _plain(found) for label, found in self.steady.items()}
        if self.chosen:
            told["chosen"] = {
                "on": {"real": self.tuned[0], "fake": self.tuned[1]},
                "thresholds": dict(self.chosen),
                "by_clip": {way: _plain(found) for way, found in self.by_clip_chosen.items()},
            }
        return told


def evaluate_clips(
    detector: JudgingClips,
    samples: Sequence[Sample],
    *,
    frames: int = FRAMES,
    top: int | None = None,
    tune: Sequence[Sample] = (),
    allow_seen: bool = False,
    rounds: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Clips:
    """Judge labelled clips and measure what was said.

    Of a clip whose frames are rows only `frames` of them, evenly, are looked at. Rows that the detector was made with
    are refused, as `assay.measure.evaluate` does it.

    Args:
        samples: rows to test on; those without a label are left out.
        frames: judged of each clip at most.
        top: how many frames "top" takes, >= 1; None for one in five, rounded up.
        tune: rows of the split "tune" to choose thresholds anew on; the detector may have been tuned on them.
        allow_seen: measure on rows that the detector was made with as well; such figures are no test.
        rounds, seed: of the bootstrap.
        progress: told how far it is.

    Raises:
        ManifestError: no sample has a label, none is a clip, or one of `tune` is of another split.
        OverlapError: the detector was made with some of the rows, and `allow_seen` is false; or rows are in both.
    """
    noted = Noted(detector, frames)
    chosen = spread(samples, frames)
    evaluate(noted, chosen, allow_seen=allow_seen, with_controls=False, rounds=0, progress=progress)
    return measure(noted, chosen, top=top, tune=tune, rounds=rounds, seed=seed, progress=progress)


def measure(
    noted: Noted,
    samples: Sequence[Sample],
    *,
    top: int | None = None,
    tune: Sequence[Sample] = (),
    rounds: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Clips:
    """Measure what a detector has said of clips.

    Args:
        noted: it has answered for every labelled row of `samples`.
        samples, top, tune, rounds, seed, progress: as in `evaluate_clips`. `tune` is judged here.

    Raises:
        ManifestError, OverlapError: as there.
    """
    if top is not None and top < 1:
        raise ManifestError(f"the mean of the {top} highest frames does not hold; give 1 or more")
    clips, still = clips_of(noted, samples)
    if not clips:
        raise ManifestError(
            f"none of {len(samples)} rows is a labelled clip or a frame of one; frames need the column video"
        )
    tuning: list[Clip] = []
    if tune:
        _check_apart(samples, tune)
        rows = spread([row for row in tune if row.label is not None], noted.frames)
        for done, _ in enumerate(noted.judge_many([row.place for row in rows]), 1):
            if progress is not None:
                progress("tuning clips", done, len(rows))
        tuning = clips_of(noted, rows)[0]
    options = Options(rounds, seed)
    scored = [clip for clip in clips if clip.frames]
    ways = [way for way in WAYS if way != "own" or any(clip.own is not None for clip in scored)]
    bars = {way: _bar(tuning, way, top, noted.fpr) for way in ways} if tune else {}
    labels = Counter(clip.label for clip in clips)
    return Clips(
        detector=noted.name,
        threshold=noted.threshold,
        fpr=noted.fpr,
        frames=noted.frames,
        top=top,
        n_real=labels[Label.REAL],
        n_fake=labels[Label.FAKE],
        judged=sum(len(clip.frames) for clip in scored),
        still=still,
        without=tuple(
            Trouble(clip.name, "not_applicable", clip.reason) for clip in clips if not clip.frames and not clip.failed
        ),
        failures=tuple(Trouble(clip.name, clip.failed, clip.reason) for clip in clips if clip.failed),
        by_frame=_figures(
            scored,
            [np.array(clip.scores) for clip in scored],
            [np.array(clip.scores) >= clip.threshold for clip in scored],
            options,
        ),
        by_clip={way: _of_way(scored, way, top, options) for way in ways},
        steady={label.name.lower(): _steady(scored, label, options) for label in Label},
        chosen=bars,
        tuned=(sum(clip.label is Label.REAL for clip in tuning), sum(clip.label is Label.FAKE for clip in tuning)),
        by_clip_chosen={way: _of_way(scored, way, top, options, bar) for way, bar in bars.items()},
        clips=tuple(clips),
    )


# ── rows to clips ────────────────────────────────────────────────────────────────────────────────────────────────────


def grouped(samples: Sequence[Sample]) -> list[tuple[Sample, ...]]:
    """Rows as clips, in the order in which these begin: each file by itself, the frames of one clip together, in their
    order.

    Frames are of one clip where `video`, label, source, generator, split and the group "derivation" are the same: a
    clip and its degraded copy are two. A row without a `video` stands alone.
    """
    found: dict[object, list[Sample]] = {}
    for number, row in enumerate(samples):
        key: object = number
        if row.video and not _is_video(row):
            key = (row.video, row.label, row.source, row.generator, row.split, row.groups.get("derivation", ""))
        found.setdefault(key, []).append(row)
    return [tuple(sorted(rows, key=_order)) for rows in found.values()]


def spread(samples: Sequence[Sample], frames: int = FRAMES) -> list[Sample]:
    """The rows without the frames beyond `frames` of each clip, evenly from its first to its last, as `assay.image`
    takes them from a file; all rows of a frame stay."""
    kept: list[Sample] = []
    for rows in grouped(samples):
        by_frame: dict[object, list[Sample]] = {}
        for row in rows:
            by_frame.setdefault(row.place if row.frame is None else row.frame, []).append(row)
        every = list(by_frame.values())
        places = np.linspace(0, len(every) - 1, min(frames, len(every)), dtype=int).tolist()
        kept += [row for place in places for row in every[place]]
    return kept


def clips_of(noted: Noted, samples: Sequence[Sample]) -> tuple[list[Clip], int]:
    """The labelled clips, each with what was said of its frames, and how many labelled rows are no clips.

    Args:
        noted: it has answered for every labelled row.
    """
    clips: list[Clip] = []
    still = 0
    for rows in grouped(spread([row for row in samples if row.label is not None], noted.frames)):
        frames = []
        for row in rows:
            said = noted.said[row.place]
            # A file of several frames is a clip, whatever it is called; one without a judged frame can't tell.
            if said.frames or _is_video(row):
                clips.append(_whole(row, said))
            elif row.video:
                frames.append((row, said))
            else:
                still += 1
        if frames:
            clips.append(_gathered(frames))
    return clips, still


def person(sample: Sample) -> str:
    """Whom a row shows, the first where it names several; else its source; empty where it has neither."""
    return sample.subject.split(JOINER)[0] or sample.source


def _is_video(sample: Sample) -> bool:
    archive, member = place.split(sample.place)
    return PurePath(member or archive).suffix.lower() in VIDEOS


def _order(row: Sample) -> tuple[float, str]:
    return (math.inf if row.frame is None else row.frame, row.place)


def _said(answer: Verdict | Failure) -> _Said:
    if isinstance(answer, Failure):
        return _Said(None, (), math.nan, answer.message, answer.kind)
    reason = "" if answer.score is not None else "; ".join(answer.reasons) or "no stream applied"
    return _Said(answer.score, answer.frames, answer.threshold, reason, "")


def _whole(row: Sample, said: _Said) -> Clip:
    """A file that is a clip; one of a single frame has that frame's score."""
    assert row.label is not None
    frames = said.frames or (() if said.score is None else ((0, said.score),))
    return Clip(row.place, row.label, person(row), frames, said.threshold, said.score, said.reason, said.failed)


def _gathered(rows: Sequence[tuple[Sample, _Said]]) -> Clip:
    """A clip whose frames are files."""
    first = rows[0][0]
    assert first.label is not None
    scores: dict[object, tuple[float, float]] = {}
    for row, said in rows:
        if said.score is not None:
            frame = row.place if row.frame is None else row.frame
            scores[frame] = max(scores.get(frame, (-math.inf, 0.0)), (said.score, said.threshold))
    failed = next((said for _, said in rows if said.failed), None)
    absent = next((said for _, said in rows if said.reason and not said.failed), failed)
    numbers = [frame if isinstance(frame, int) else place for place, frame in enumerate(scores)]
    return Clip(
        name=first.video,
        label=first.label,
        person=person(first),
        frames=tuple(zip(numbers, (score for score, _ in scores.values()), strict=True)),
        threshold=float(np.mean([bar for _, bar in scores.values()])) if scores else math.nan,
        reason="" if scores or absent is None else absent.reason,
        failed="" if scores or absent is None else absent.failed,
    )


def _check_apart(samples: Sequence[Sample], tune: Sequence[Sample]) -> None:
    for row in tune:
        if row.split != "tune":
            raise ManifestError(
                f"{row.place} is of the split {row.split or 'none'!r}; thresholds are chosen on tune rows"
            )
    tested = {name for row in samples for name in (row.place, row.sha256, row.origin) if name}
    both = [row.place for row in tune if tested & {row.place, row.sha256, row.origin}]
    if both:
        raise OverlapError(f"{len(both)} of the tested rows are tuning rows too, such as {both[0]}", both)


# ── figures ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def aggregate(scores: npt.ArrayLike, way: str, top: int | None = None) -> float:
    """One score of a clip's frames.

    Args:
        scores: P(fake), or any score that is higher for fakes, (frames,), at least one.
        way: "mean", "median", "top" or "max".
        top: how many of the highest "top" takes; None for one in five, rounded up. All, where there are fewer.

    Raises:
        KeyError: no such way.
    """
    values = np.asarray(scores, np.float64)
    return float(_AGGREGATES[way](values, math.ceil(len(values) / SHARE) if top is None else top))


_AGGREGATES: Mapping[str, Callable[[Floats, int], float]] = {
    "mean": lambda scores, _: float(scores.mean()),
    "median": lambda scores, _: float(np.median(scores)),
    "top": lambda scores, top: float(np.sort(scores)[-top:].mean()),
    "max": lambda scores, _: float(scores.max()),
}


def _score(clip: Clip, way: str, top: int | None) -> float | None:
    return clip.own if way == "own" else aggregate(clip.scores, way, top)


def _bar(clips: Sequence[Clip], way: str, top: int | None, fpr: float) -> float:
    """The threshold of a way for that false-positive rate on tuning clips."""
    reals = [_score(clip, way, top) for clip in clips if clip.frames and clip.label is Label.REAL]
    return metrics.threshold_at_fpr([score for score in reals if score is not None], fpr)


def _of_way(
    clips: Sequence[Clip], way: str, top: int | None, options: Options, bar: float | None = None
) -> dict[str, Interval]:
    """The figures of clips that have a score by that way; `bar` in place of the detector's own threshold."""
    pairs = [(clip, score) for clip in clips if (score := _score(clip, way, top)) is not None]
    scores = [np.array([score]) for _, score in pairs]
    calls = [np.array([score >= (clip.threshold if bar is None else bar)]) for clip, score in pairs]
    return _figures([clip for clip, _ in pairs], scores, calls, options)


def _figures(
    clips: Sequence[Clip], scores: Sequence[Floats], calls: Sequence[npt.NDArray[np.bool_]], options: Options
) -> dict[str, Interval]:
    """The `FIGURES` of scores, one or more a clip, and of what each is called."""
    table, options = _table(clips, scores), _where_several(clips, options)
    called = np.concatenate([np.zeros(0, np.bool_), *calls])

    def of(statistic: resample.Statistic, numbers: Floats) -> Interval:
        return options.bootstrap(statistic, table.labels, numbers, table.sources)

    return {
        "auc": of(resample.AUC, table.scores),
        "accuracy": _accuracy(called == (table.labels == 1), table, options),
        "balanced_accuracy": of(resample.BALANCED, called.astype(np.float64)),
        **{name: of(statistic, called.astype(np.float64)) for name, statistic in _F1.items()},
    }


def _where_several(clips: Sequence[Clip], options: Options) -> Options:
    """No intervals where a class has a single clip, of which drawing frames would say nothing of others."""
    few = 1 in Counter(clip.label for clip in clips).values()
    return dataclasses.replace(options, rounds=0) if few else options


def _accuracy(right: npt.NDArray[np.bool_], table: Table, options: Options) -> Interval:
    if not options.rounds:
        return Interval(float(right.mean()) if len(right) else math.nan, math.nan, math.nan, len(right))
    return options.share(right, table, np.ones(len(right), np.bool_))


def _steady(clips: Sequence[Clip], label: Label, options: Options) -> dict[str, Interval]:
    """How steady the scores of a class's clips are, where a clip has two judged frames or more."""
    mine = [clip for clip in clips if clip.label is label and len(clip.frames) > 1]
    each, options = [consistency(clip.scores) for clip in mine], _where_several(mine, options)
    found = {}
    for name in STEADY:
        table = _table(mine, [np.array([one[name]]) for one in each])
        found[name] = options.bootstrap(resample.MEAN, table.labels, table.scores, table.sources)
    return found


def _table(clips: Sequence[Clip], scores: Sequence[Floats]) -> Table:
    """Scores as columns, with what is drawn together as their sources."""
    persons = {label: {clip.person or clip for clip in clips if clip.label is label} for label in Label}
    sources: list[str] = []
    for number, (clip, mine) in enumerate(zip(clips, scores, strict=True)):
        alone = not clip.person or len(persons[clip.label]) == 1
        sources += [f"\0{number}" if alone else clip.person] * len(mine)
    labels = np.repeat(np.array([int(clip.label) for clip in clips], np.int8), [len(mine) for mine in scores])
    return Table(labels, np.concatenate([np.zeros(0), *scores]), tuple(sources))


def _share(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> Floats:
    found = np.full(len(whole), math.nan)
    np.divide(part, whole, out=found, where=whole > 0)
    return found


def _f1_drawn(of: Label) -> Callable[[Tally], Floats]:
    def drawn(tally: Tally) -> Floats:
        right, wrong = (tally.fake, tally.real) if of is Label.FAKE else (tally.real, tally.fake)
        calls = tally.values if of is Label.FAKE else 1 - tally.values
        hits = right @ calls
        return _share(2 * hits, right.sum(axis=1) + hits + wrong @ calls)

    return drawn


def _macro_drawn(tally: Tally) -> Floats:
    return (_f1_drawn(Label.REAL)(tally) + _f1_drawn(Label.FAKE)(tally)) / 2


_F1: Mapping[str, resample.Statistic] = {
    "f1_fake": resample.Statistic(lambda labels, calls: metrics.f1(labels, calls, 0.5, 1), _f1_drawn(Label.FAKE)),
    "f1_real": resample.Statistic(lambda labels, calls: metrics.f1(labels, calls, 0.5, 0), _f1_drawn(Label.REAL)),
    "f1_macro": resample.Statistic(lambda labels, calls: metrics.macro_f1(labels, calls, 0.5), _macro_drawn),
}
"""Of calls, 1 where a row is called fake, 0 elsewhere."""


def _plain(found: Mapping[str, Interval]) -> dict[str, Any]:
    return {name: interval.to_dict() for name, interval in found.items()}


# ── as a person reads it ─────────────────────────────────────────────────────────────────────────────────────────────


def show(found: Clips, console: Console) -> None:
    """Print what was measured on a terminal."""
    console.print()
    console.print(Text(printable(heading(found)), style="bold"))
    console.print(Text(counts(found)))
    for block in blocks(found):
        console.print()
        tables.show(block, console)
    for line in troubles(found):
        console.print(Text(f"  {printable(line)}"), soft_wrap=True)


def markdown(found: Clips, level: int = 2) -> str:
    """The same as Markdown.

    Args:
        level: of the headings, 1 to 6.
    """
    parts = [f"**{escaped(heading(found))}**", escaped(counts(found))]
    parts += [tables.markdown(block, level) for block in blocks(found)]
    if lines := troubles(found):
        parts.append("\n".join(f"- {escaped(line)}" for line in lines))
    return "\n\n".join(parts) + "\n"


def heading(found: Clips) -> str:
    """What was measured, in one line."""
    return (
        f"clips, by {found.detector}: {found.frames} frames each at most, fake from {found.threshold:.3f}, "
        "whichever way frames make a clip's score"
    )


def counts(found: Clips) -> str:
    """How many clips there were and what became of them, in one line."""
    parts = [f"{found.n_real + found.n_fake} clips: {found.n_real} real, {found.n_fake} fake"]
    parts.append(f"{found.judged} frames judged")
    if found.without:
        parts.append(f"{len(found.without)} without a frame that could be judged, and so without a score")
    if found.failures:
        parts.append(f"{len(found.failures)} could not be read")
    if found.still:
        parts.append(f"{found.still} rows that are no clips left out")
    return "; ".join(parts)


def blocks(found: Clips) -> Iterator[Block]:
    """The tables, in order."""
    top = f"highest {found.top}" if found.top else "highest fifth"
    names = {way: top if way == "top" else WAYS[way] for way in found.by_clip}
    columns = ("", "frames", *names.values())
    levels = [found.by_frame, *found.by_clip.values()]
    rows = [(words, *(_value(level[name], name) for level in levels)) for name, words in FIGURES.items()]
    rows.append(("n", *(str(level["auc"].n) for level in levels)))
    yield Block(
        "clips: by frame, and by clip as the frames' scores are put together",
        columns,
        rows,
        "the detector's own threshold, which promises its rate for its own rule alone",
    )
    yield Block(
        "clips: 95 % intervals, by person or source",
        columns,
        [(words, *(_range(level[name], name) for level in levels)) for name, words in FIGURES.items()],
    )
    if found.chosen:
        yield Block(
            f"clips: at thresholds chosen for {percent(found.fpr)} FPR on {found.tuned[0]} real tuning clips",
            ("", *names.values()),
            [
                ("threshold", *("none" if bar > 1 else f"{bar:.3f}" for bar in found.chosen.values())),
                *(
                    (words, *(_value(level[name], name) for level in found.by_clip_chosen.values()))
                    for name, words in FIGURES.items()
                    if name != "auc"
                ),
            ],
            "none: too few real tuning clips to promise the rate, so nothing is called fake"
            if any(bar > 1 for bar in found.chosen.values())
            else "",
        )
    yield Block(
        "clips: how steady the scores are over a clip",
        ("", *STEADY.values(), "clips"),
        [
            (label, *(both(of[name], name) for name in STEADY), str(of["change"].n))
            for label, of in found.steady.items()
        ],
    )


def troubles(found: Clips) -> list[str]:
    """One line for each clip without a score, the first few of each kind."""
    return listed(found.failures) + listed(found.without)


def _value(interval: Interval, name: str) -> str:
    if math.isnan(interval.value):
        return "–"
    return f"{interval.value:.3f}" if name == "auc" else percent(interval.value)


def _range(interval: Interval, name: str) -> str:
    if math.isnan(interval.low):
        return "–"
    if name == "auc":
        return f"{interval.low:.2f} to {interval.high:.2f}"
    return f"{100 * interval.low:.0f} to {100 * interval.high:.0f} %"
