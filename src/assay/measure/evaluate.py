"""Measure a detector on labelled pictures it has never met.

What is measured is the detector as it ships: its own decoding, its own threshold, its own word "uncertain". Rows that
it was made with are refused before anything is judged; what could not be judged is counted and listed, and is never
a score.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from assay import metrics
from assay.data.table import FIELDS, field
from assay.errors import InputError, ManifestError, OverlapError, unknown
from assay.measure import fairness, resample, shape
from assay.measure.controls import Controls, Facts, Row, controls, look_at_all
from assay.measure.fairness import Audit
from assay.metrics import Floats, Interval, Labels
from assay.types import Failure, Label, Ruling, Sample, Verdict

BASE_RATE = 0.01
"""The share of fakes that the base-rate line assumes: 1 picture in 100."""
SMALL = fairness.SMALL
"""A group with fewer rows than this is flagged: its figure means little."""
FEWEST = 5
"""With fewer rows of a class than this a group's AUC has no interval: resampling one row says nothing of others."""
UNNAMED = fairness.UNNAMED
FORMAT = "format"
"""The column that every file fills: where the manifest has none of that name, it is the format as decoded."""

Progress = Callable[[str, int, int], None]
"""Called with the stage ("looking", "judging"), how many rows are done, and how many there are."""

_SHOWN = 20


class Memory(Protocol):
    """What a detector remembers of the rows it was made with."""

    def overlaps(self, sha256: str, origin: str, phash: int | None) -> str | None:
        """Why a picture counts as seen, or None."""


class Calibrated(Protocol):
    """What a detector says of itself."""

    @property
    def name(self) -> str: ...
    @property
    def threshold(self) -> float: ...
    @property
    def doubt(self) -> tuple[float, float]: ...
    @property
    def fpr(self) -> float: ...
    @property
    def seen(self) -> Memory: ...


class Judging(Calibrated, Protocol):
    """What an evaluation needs of a detector."""

    def judge_many(self, sources: Iterable[Any]) -> Iterator[Verdict | Failure]:
        """One answer a source, in the order of the sources."""


@dataclasses.dataclass(frozen=True, slots=True)
class Trouble:
    """A row that has no score: it could not be judged, or no stream applied."""

    place: str
    kind: str
    message: str

    def to_dict(self) -> dict[str, str]:
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, slots=True)
class Judged:
    """A labelled row and what the detector said of it.

    Args:
        sample: the row.
        score: P(fake), or None where no stream applied.
        threshold: what this row's score was compared with; it can differ from row to row where not every stream
            applies to all of them.
        verdict: real, fake or uncertain.
    """

    sample: Sample
    score: float | None
    threshold: float
    verdict: Ruling

    @property
    def called(self) -> bool:
        """Whether the score reaches the threshold."""
        return self.score is not None and self.score >= self.threshold

    @property
    def right(self) -> bool:
        """Whether `called` is what the row is known to be."""
        return self.called == (self.sample.label is Label.FAKE)


@dataclasses.dataclass(frozen=True, slots=True)
class Rows:
    """How many rows there were, and what became of them.

    Args:
        n: labelled rows handed in; n = scored + not_applicable + failed.
        n_real, n_fake: of `n`, by class.
        scored: rows with a score.
        unlabelled: rows of unknown class, which are left out.
        seen: rows that the detector was made with; above 0 only where that was allowed.
        failures: rows that could not be judged, with the reason.
        not_applicable: rows to which no stream applied, with the reason; their verdict is "uncertain".
    """

    n: int
    n_real: int
    n_fake: int
    scored: int
    unlabelled: int
    seen: int
    failures: tuple[Trouble, ...]
    not_applicable: tuple[Trouble, ...]

    def to_dict(self) -> dict[str, Any]:
        counts = {name: getattr(self, name) for name in ("n", "n_real", "n_fake", "scored", "unlabelled", "seen")}
        return counts | {
            "failed": len(self.failures),
            "failures": [trouble.to_dict() for trouble in self.failures],
            "not_applicable": [trouble.to_dict() for trouble in self.not_applicable],
        }


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """The figures of one part of the rows.

    Args:
        n_real, n_fake: scored rows of the group, by class.
        figures: "auc", "fpr" and "tpr", as far as they are defined for the group.
    """

    n_real: int
    n_fake: int
    figures: dict[str, Interval]

    @property
    def small(self) -> bool:
        """Whether a class that the group holds has fewer than `SMALL` rows."""
        return min((count for count in (self.n_real, self.n_fake) if count), default=0) < SMALL

    def to_dict(self) -> dict[str, Any]:
        counts = {"n_real": self.n_real, "n_fake": self.n_fake, "small": self.small}
        return counts | {name: figure.to_dict() for name, figure in self.figures.items()}


@dataclasses.dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured.

    Args:
        detector: name, version and sha256 of what judged.
        threshold, doubt, fpr: the detector's own, as in a `Verdict`.
        metrics: see `figures`.
        groups: "generator" (each against all reals of the rows), "source" (of reals), and each column asked for.
        controls: None where they were not asked for.
        judged: every row that was judged, in order, for further analysis. Not in `to_dict`, but for the "curves" that
            `assay.measure.shape` draws from it.
        robustness: `metrics` under each named condition, where that was measured.
        fairness: how evenly the errors fall on the groups of each column asked for.
    """

    detector: Mapping[str, str]
    threshold: float
    doubt: tuple[float, float]
    fpr: float
    rows: Rows
    metrics: dict[str, Interval]
    groups: dict[str, dict[str, Group]]
    controls: Controls | None
    judged: tuple[Judged, ...] = ()
    robustness: dict[str, dict[str, Interval]] = dataclasses.field(default_factory=dict)
    fairness: dict[str, Audit] = dataclasses.field(default_factory=dict)

    @property
    def base_rate_line(self) -> str:
        """What a "fake" verdict is worth where fakes are rare, as a sentence."""
        right = self.metrics["base_rate_precision"]
        where = f"where 1 picture in {round(1 / BASE_RATE)} is fake"
        if math.isnan(right.value):
            return f"{where}: nothing was called fake on these rows, so what such a verdict is worth is not known"
        between = "" if math.isnan(right.low) else f" (between {100 * right.low:.1f} % and {100 * right.high:.1f} %)"
        return f'{where}, a "fake" verdict is right {100 * right.value:.1f} % of the time{between}'

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready object; what is not defined is None, never NaN."""
        line: dict[str, Any] = {
            "detector": dict(self.detector),
            "threshold": self.threshold,
            "doubt": list(self.doubt),
            "fpr": self.fpr,
            "rows": self.rows.to_dict(),
            "metrics": {name: interval.to_dict() for name, interval in self.metrics.items()},
            "base_rate_line": self.base_rate_line,
            "groups": {
                column: {name: group.to_dict() for name, group in parts.items()}
                for column, parts in self.groups.items()
            },
            "fairness": {column: found.to_dict() for column, found in self.fairness.items()},
            "controls": None if self.controls is None else self.controls.to_dict(),
        }
        if self.judged:
            scored = Table.of(self.judged).scored
            line["curves"] = shape.shape(scored.labels, scored.scores).to_dict()
        if self.robustness:
            line["robustness"] = {
                condition: {name: interval.to_dict() for name, interval in found.items()}
                for condition, found in self.robustness.items()
            }
        return line


def evaluate(
    detector: Judging,
    samples: Sequence[Sample],
    *,
    by: Sequence[str] = (),
    allow_seen: bool = False,
    with_controls: bool = True,
    control_fit: Sequence[Sample] | None = None,
    rounds: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """Judge every labelled sample and measure the verdicts.

    Every file is first looked at (hashed, fingerprinted), so that rows the detector was made with are refused before
    any is judged. Intervals are bootstrapped by source.

    Args:
        samples: rows to test on; those without a label are left out and counted.
        by: columns to break the figures down by and to audit the errors across (`assay.measure.fairness`), such as
            "kind"; "sex*age" crosses two. "format" is that of the file where no column is called so.
        allow_seen: measure on rows that the detector was made with as well; such figures are no test.
        with_controls: also measure what file and subject alone tell (`assay.measure.controls`).
        control_fit: labelled rows to fit the controls on; by default they are cross-fitted on the evaluated rows.
        rounds, seed: of the bootstrap.
        progress: told how far it is.

    Raises:
        ManifestError: no sample has a label, or no sample has a column named in `by`.
        OverlapError: the detector was made with some of the rows, and `allow_seen` is false.
    """
    [found] = evaluate_each(
        [detector],
        samples,
        by=by,
        allow_seen=allow_seen,
        with_controls=with_controls,
        control_fit=control_fit,
        rounds=rounds,
        seed=seed,
        progress=progress,
    )
    return found


def evaluate_each(
    detectors: Sequence[Judging],
    samples: Sequence[Sample],
    *,
    by: Sequence[str] = (),
    allow_seen: bool = False,
    with_controls: bool = True,
    control_fit: Sequence[Sample] | None = None,
    rounds: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Evaluation]:
    """`evaluate` of several detectors on the same rows: looked at once, and judged by none where one was made with
    some of them. The controls, which know no detector, are the same in all. Of several, each one's judging is a stage
    with its number: "judging 1/2"."""
    known = [sample for sample in samples if sample.label is not None]
    if not known:
        raise ManifestError("no row has a label, so there is nothing to measure; fill in the column label")
    by = tuple(dict.fromkeys(by))
    columns = {"generator", "source", "split"}.union(*(sample.groups for sample in known))
    columns.update(name for name in FIELDS if any(field(sample, name) for sample in known))
    for column in by:
        for part in _crossed(column, columns):
            if part not in columns and part != FORMAT:
                raise ManifestError(unknown("column", part, columns | {FORMAT}))
    facts = look_at_all([sample.place for sample in known], _stage(progress, "looking"))
    seen = [overlaps(detector, known, facts) for detector in detectors]
    for detector, rows in zip(detectors, seen, strict=True):
        if rows and not allow_seen:
            raise _refusal(detector, known, rows)
    cells = {column: _cells(known, facts, column, columns) for column in by}
    found = None
    if with_controls:
        found = _controls(known, facts, control_fit, rounds, seed)
    evaluations = []
    for number, (detector, rows) in enumerate(zip(detectors, seen, strict=True), 1):
        stage = "judging" if len(detectors) == 1 else f"judging {number}/{len(detectors)}"
        answers: list[Verdict | Failure] = []
        for answer in detector.judge_many([sample.place for sample in known]):
            answers.append(answer)
            if progress is not None:
                progress(stage, len(answers), len(known))
        evaluations.append(
            _evaluation(
                detector,
                known,
                answers,
                cells,
                found,
                unlabelled=len(samples) - len(known),
                seen=len(rows),
                rounds=rounds,
                seed=seed,
            )
        )
    return evaluations


def _controls(
    known: Sequence[Sample],
    facts: Sequence[Facts | InputError],
    control_fit: Sequence[Sample] | None,
    rounds: int,
    seed: int,
) -> Controls:
    rows = _control_rows(known, facts)
    fit_rows = None
    if control_fit is not None:
        extra = [sample for sample in control_fit if sample.label is not None]
        fit_rows = _control_rows(extra, look_at_all([sample.place for sample in extra]))
        tested = {row.facts.sha256 for row in rows}
        fit_rows = [row for row in fit_rows if row.facts.sha256 not in tested]
    return controls(rows, fit_rows, rounds=rounds, seed=seed)


def _evaluation(
    detector: Judging,
    known: Sequence[Sample],
    answers: Sequence[Verdict | Failure],
    cells: Mapping[str, Sequence[str]],
    found: Controls | None,
    *,
    unlabelled: int,
    seen: int,
    rounds: int,
    seed: int,
) -> Evaluation:
    """What the answers to all labelled rows come to; `cells` are theirs under each column asked for."""
    judged, failures = sort_answers(known, answers)
    verdicts = [answer for answer in answers if isinstance(answer, Verdict)]
    labels = Counter(sample.label for sample in known)
    answered = [isinstance(answer, Verdict) for answer in answers]
    kept = {
        column: [cell for cell, there in zip(column_cells, answered, strict=True) if there]
        for column, column_cells in cells.items()
    }
    return Evaluation(
        detector=dict(verdicts[0].detector) if verdicts else {"name": detector.name},
        threshold=detector.threshold,
        doubt=detector.doubt,
        fpr=detector.fpr,
        rows=Rows(
            n=len(known),
            n_real=labels[Label.REAL],
            n_fake=labels[Label.FAKE],
            scored=sum(row.score is not None for row in judged),
            unlabelled=unlabelled,
            seen=seen,
            failures=tuple(failures),
            not_applicable=tuple(
                Trouble(sample.place, "not_applicable", "; ".join(answer.reasons) or _stream_reasons(answer))
                for sample, answer in zip(known, answers, strict=True)
                if isinstance(answer, Verdict) and answer.score is None
            ),
        ),
        metrics=figures(judged, rounds=rounds, seed=seed),
        groups=_groups(judged, kept, rounds, seed),
        controls=found,
        judged=tuple(judged),
        fairness=_audits(judged, kept, detector.fpr, rounds, seed),
    )


def overlaps(
    detector: Judging, samples: Sequence[Sample], facts: Sequence[Facts | InputError]
) -> list[tuple[int, str]]:
    """The rows that a detector was made with: (index of the sample, why), in order.

    A row is known by its file's hash, by the origin it shares with a crop or copy, or by its perceptual hash. Rows
    that cannot be decoded have no score to spoil and are passed over.
    """
    found = []
    for index, (sample, fact) in enumerate(zip(samples, facts, strict=True)):
        if isinstance(fact, Facts):
            why = detector.seen.overlaps(fact.sha256, sample.origin or fact.sha256, fact.phash)
            if why is not None:
                found.append((index, why))
    return found


def sort_answers(samples: Sequence[Sample], answers: Sequence[Verdict | Failure]) -> tuple[list[Judged], list[Trouble]]:
    """Pair samples with a detector's answers: those judged, and those that failed."""
    judged, failures = [], []
    for sample, answer in zip(samples, answers, strict=True):
        if isinstance(answer, Failure):
            failures.append(Trouble(sample.place, answer.kind, answer.message))
        else:
            judged.append(Judged(sample, answer.score, answer.threshold, answer.verdict))
    return judged, failures


def figures(judged: Sequence[Judged], *, rounds: int = 1000, seed: int = 0) -> dict[str, Interval]:
    """The figures of an evaluation, by name.

    Of the rows that have a score: `auc`, `ece` and `brier`; `balanced_accuracy`, `fpr` and `tpr` at the detector's
    threshold; `tpr_at_fpr_1` and `tpr_at_fpr_5` (at 1 % and 5 % FPR on these rows' own ROC curve).

    Of the verdicts, rows to which no stream applied being uncertain: `coverage`, the share that is not "uncertain";
    `false_fake`, the share of the decided reals that is called fake; `false_real`, the share of the decided fakes
    that is called real; `base_rate_precision`, the share of "fake" verdicts that is right where 1 picture in 100 is
    fake. The last one's interval takes the worse end of both rates at once, so it is wider than 95 %.

    Intervals are bootstrapped by source within each class; those of plain shares are widened to Wilson's where that is
    wider, so that 0 of 30 is not taken for certainty.
    """
    table = Table.of(judged)
    scored = table.scored
    options = Options(rounds, seed)

    def of_scores(statistic: resample.Statistic, scores: Floats = scored.scores) -> Interval:
        return options.bootstrap(statistic, scored.labels, scores, scored.sources)

    fake = np.array([row.verdict is Ruling.FAKE for row in judged], dtype=np.bool_)
    decided = np.array([row.verdict is not Ruling.UNCERTAIN for row in judged], dtype=np.bool_)
    called = np.array([row.called for row in judged if row.score is not None], dtype=np.bool_)
    false_alarms = options.share(fake, table, table.labels == 0)
    hits = options.share(fake, table, table.labels == 1)
    return {
        "auc": of_scores(resample.AUC),
        "balanced_accuracy": of_scores(resample.BALANCED, called.astype(np.float64)),
        "ece": of_scores(resample.ECE),
        "brier": of_scores(resample.BRIER),
        "fpr": options.share(called, scored, scored.labels == 0),
        "tpr": options.share(called, scored, scored.labels == 1),
        "tpr_at_fpr_1": of_scores(resample.tpr_at_fpr(0.01)),
        "tpr_at_fpr_5": of_scores(resample.tpr_at_fpr(0.05)),
        "coverage": options.share(decided, table, np.ones(len(judged), dtype=np.bool_)),
        "false_fake": options.share(fake, table, (table.labels == 0) & decided),
        "false_real": options.share(~fake, table, (table.labels == 1) & decided),
        "base_rate_precision": Interval(
            metrics.precision_at_base_rate(false_alarms.value, hits.value, BASE_RATE),
            metrics.precision_at_base_rate(false_alarms.high, hits.low, BASE_RATE),
            metrics.precision_at_base_rate(false_alarms.low, hits.high, BASE_RATE),
            len(judged),
        ),
    }


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """Judged rows as columns; `scores` is NaN where there is none."""

    labels: Labels
    scores: Floats
    sources: tuple[str, ...]

    @classmethod
    def of(cls, judged: Sequence[Judged]) -> Table:
        labels = np.array([row.sample.label for row in judged], dtype=np.int8)
        scores = np.array([math.nan if row.score is None else row.score for row in judged], dtype=np.float64)
        # A row of no known source is a source of its own.
        sources = tuple(row.sample.source or f"\0{number}" for number, row in enumerate(judged))
        return cls(labels, scores, sources)

    def where(self, kept: npt.NDArray[np.bool_]) -> Table:
        sources = tuple(source for source, keep in zip(self.sources, kept.tolist(), strict=True) if keep)
        return Table(self.labels[kept], self.scores[kept], sources)

    @property
    def scored(self) -> Table:
        return self.where(~np.isnan(self.scores))


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """How intervals are taken."""

    rounds: int
    seed: int

    def bootstrap(
        self, statistic: resample.Statistic, labels: Labels, scores: Floats, sources: Sequence[str]
    ) -> Interval:
        return resample.bootstrap(statistic, labels, scores, clusters=sources, rounds=self.rounds, seed=self.seed)

    def share(self, flags: npt.NDArray[np.bool_], table: Table, among: npt.NDArray[np.bool_]) -> Interval:
        """The share of `flags` among the rows chosen: the wider of the clustered bootstrap's interval and Wilson's."""
        inside = table.where(among)
        values = flags[among].astype(np.float64)
        exact = metrics.wilson(int(values.sum()), len(values))
        if not len(values) or self.rounds < 1:
            return exact
        drawn = self.bootstrap(resample.MEAN, inside.labels, values, inside.sources)
        return Interval(exact.value, min(exact.low, drawn.low), max(exact.high, drawn.high), exact.n)


def _crossed(column: str, columns: Collection[str]) -> list[str]:
    """The columns whose crossing is asked for; a column of the very name wins."""
    return [column] if column in columns else [part.strip() for part in column.split("*")]


def _cells(
    samples: Sequence[Sample], facts: Sequence[Facts | InputError], column: str, columns: Collection[str]
) -> list[str]:
    """What each row says under a column, or under each of several crossed; empty where one says nothing."""

    def one(part: str) -> list[str]:
        if part == FORMAT and part not in columns:
            return [fact.format if isinstance(fact, Facts) else "" for fact in facts]
        return [field(sample, part) for sample in samples]

    parts = [one(part) for part in _crossed(column, columns)]
    if len(parts) == 1:
        return parts[0]
    # A star within a cell is marked, so that no two crossings share a name.
    return [
        "*".join(re.sub(r"([*\\])", r"\\\1", cell) for cell in cells) if all(cells) else ""
        for cells in zip(*parts, strict=True)
    ]


def _audits(
    judged: Sequence[Judged], cells: Mapping[str, Sequence[str]], fpr: float, rounds: int, seed: int
) -> dict[str, Audit]:
    table = Table.of(judged)
    return {
        column: fairness.audit(
            table.labels,
            names,
            scores=table.scores,
            thresholds=np.array([row.threshold for row in judged], dtype=np.float64),
            uncertain=np.array([row.verdict is Ruling.UNCERTAIN for row in judged], dtype=np.bool_),
            sources=table.sources,
            fpr=fpr,
            rounds=rounds,
            seed=seed,
        )
        for column, names in cells.items()
    }


def _groups(
    judged: Sequence[Judged], cells: Mapping[str, Sequence[str]], rounds: int, seed: int
) -> dict[str, dict[str, Group]]:
    kept = [row.score is not None for row in judged]
    rows = [row for row in judged if row.score is not None]
    table = Table.of(rows)
    options = Options(rounds, seed)
    real, fake = table.labels == 0, table.labels == 1
    called = np.array([row.called for row in rows], dtype=np.bool_)

    def group(inside: npt.NDArray[np.bool_], wanted: Iterable[str], against: npt.NDArray[np.bool_]) -> Group:
        made: dict[str, Interval] = {}
        for name in wanted:
            if name == "auc" and (part := inside | against).any() and len(set(table.labels[part].tolist())) == 2:
                chosen = table.where(part)
                few = np.bincount(chosen.labels).min() < FEWEST
                taken = dataclasses.replace(options, rounds=0) if few else options
                made["auc"] = taken.bootstrap(resample.AUC, chosen.labels, chosen.scores, chosen.sources)
            if name == "fpr" and (inside & real).any():
                made["fpr"] = options.share(called, table, inside & real)
            if name == "tpr" and (inside & fake).any():
                made["tpr"] = options.share(called, table, inside & fake)
        return Group(int((inside & real).sum()), int((inside & fake).sum()), made)

    def parts(cells: Iterable[str], among: npt.NDArray[np.bool_]) -> dict[str, npt.NDArray[np.bool_]]:
        names = np.array([cell or UNNAMED for cell in cells], dtype=object)
        return {name: (names == name) & among for name in sorted(set(names[among].tolist()))}

    nobody = np.zeros(len(rows), dtype=np.bool_)
    everybody = ~nobody
    generators = parts((row.sample.generator for row in rows), fake)
    found = {
        "generator": {name: group(part, ("auc", "tpr"), real) for name, part in generators.items()},
        "source": {
            name: group(part, ("fpr",), nobody)
            for name, part in parts((row.sample.source for row in rows), real).items()
        },
    }
    for column, names in cells.items():
        if column not in found:
            inside = parts((cell for cell, keep in zip(names, kept, strict=True) if keep), everybody)
            found[column] = {name: group(part, ("auc", "fpr", "tpr"), nobody) for name, part in inside.items()}
    return found


def _control_rows(samples: Sequence[Sample], facts: Sequence[Facts | InputError]) -> list[Row]:
    return [
        Row(sample.label, sample.source, fact)
        for sample, fact in zip(samples, facts, strict=True)
        if sample.label is not None and isinstance(fact, Facts)
    ]


def _stream_reasons(verdict: Verdict) -> str:
    return "; ".join(f"{stream.name}: {stream.reason}" for stream in verdict.streams if stream.reason)


def _stage(progress: Progress | None, name: str) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda done, total: progress(name, done, total)


def _refusal(detector: Judging, samples: Sequence[Sample], seen: Sequence[tuple[int, str]]) -> OverlapError:
    shown = "\n".join(f"  {samples[index].place}: {why}" for index, why in seen[:_SHOWN])
    rest = f"\n  … and {len(seen) - _SHOWN} more" if len(seen) > _SHOWN else ""
    return OverlapError(
        f"{detector.name} was made with {len(seen)} of these {len(samples)} rows; nothing was judged. Leave them out, "
        f"or allow seen rows and call the result no test:\n{shown}{rest}",
        [samples[index].place for index, _ in seen],
    )
