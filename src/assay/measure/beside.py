"""Detectors side by side on the same rows, each as it ships, and each compared with the first of them.

A comparison rests on the rows that both have a score for, and is paired: each round of the bootstrap draws the same
pictures for both, so what makes a picture hard for both cancels. Beside the intervals stand DeLong's test of the AUCs
and McNemar's of the mistakes at the detectors' own thresholds (`assay.measure.paired`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from assay.measure import resample, robustness
from assay.measure.evaluate import Evaluation, Judged, Judging, Progress, Table, evaluate_each
from assay.measure.paired import Delong, McNemar, delong, mcnemar, newcombe
from assay.measure.robustness import Condition, Words
from assay.metrics import Floats, Interval
from assay.types import Label, Sample

UNDER = ("auc", "balanced_accuracy", "accuracy", "ece", "fpr", "flips")
"""What is compared under each condition."""


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """What a detector has more than another.

    Args:
        first, second: their names.
        n_real, n_fake: rows that both have a score for.
        left_out: labelled rows that not both have one for.
        differences: the second's figure less the first's: "auc", "balanced_accuracy", "accuracy", "fpr" and "tpr" at
            their own thresholds, "ece" and "brier"; intervals bootstrapped by source.
        delong: of the AUCs.
        mcnemar: of the calls at their own thresholds on "all" rows, the "real" and the "fake" ones.
        robustness: under each condition the differences named in `UNDER`.
    """

    first: str
    second: str
    n_real: int
    n_fake: int
    left_out: int
    differences: dict[str, Interval]
    delong: Delong
    mcnemar: dict[str, McNemar]
    robustness: dict[str, dict[str, Interval]] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready object; what is not defined is None, never NaN."""
        counts = ("first", "second", "n_real", "n_fake", "left_out")
        line: dict[str, Any] = {name: getattr(self, name) for name in counts}
        line["differences"] = _plain(self.differences)
        line["delong"] = self.delong.to_dict()
        line["mcnemar"] = {name: found.to_dict() for name, found in self.mcnemar.items()}
        if self.robustness:
            line["robustness"] = {condition: _plain(found) for condition, found in self.robustness.items()}
        return line


@dataclasses.dataclass(frozen=True, slots=True)
class Beside:
    """Detectors side by side.

    Args:
        evaluations: one a detector, by name, in the order given.
        compared: each but the first with the first.
    """

    evaluations: dict[str, Evaluation]
    compared: tuple[Comparison, ...]

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready object; what is not defined is None, never NaN."""
        return {
            "detectors": [{"name": name} | found.to_dict() for name, found in self.evaluations.items()],
            "compared": [found.to_dict() for found in self.compared],
        }


def beside(
    detectors: Mapping[str, Judging],
    samples: Sequence[Sample],
    *,
    conditions: Mapping[str, Condition] | None = None,
    by: Sequence[str] = (),
    allow_seen: bool = False,
    with_controls: bool = True,
    control_fit: Sequence[Sample] | None = None,
    rounds: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Beside:
    """Evaluate detectors on the same labelled rows, and again under each condition, and compare them.

    Args:
        detectors: by what the tables call them; the first is what the others are compared with.
        conditions: alterations of the decoded pixels by name (`assay.measure.robustness`); none for no robustness.
        samples, by, allow_seen, with_controls, control_fit, rounds, seed: as `assay.measure.evaluate.evaluate` takes
            them.
        progress: told how far it is: the stages of the evaluation, then (condition, done, total).

    Raises:
        ManifestError: no sample has a label, or no sample has a column named in `by`.
        OverlapError: a detector was made with some of the rows, and `allow_seen` is false.
        ValueError: no detector.
    """
    if not detectors:
        raise ValueError("no detector to evaluate")
    evaluations = evaluate_each(
        list(detectors.values()),
        samples,
        by=by,
        allow_seen=allow_seen,
        with_controls=with_controls,
        control_fit=control_fit,
        rounds=rounds,
        seed=seed,
        progress=progress,
    )
    after: list[dict[str, dict[str, Interval]]] = [{} for _ in detectors]
    differences: list[dict[str, dict[str, Interval]]] = [{} for _ in detectors]
    if conditions:
        for name, found in robustness.passes(list(detectors.values()), samples, conditions, progress=progress):
            if name not in conditions:
                continue
            for number, (judged, words) in enumerate(found):
                after[number][name] = robustness.after(judged, words, rounds=rounds, seed=seed)
                if number:
                    differences[number][name] = _under(found[0], found[number], rounds, seed)
    evaluations = [dataclasses.replace(each, robustness=mine) for each, mine in zip(evaluations, after, strict=True)]
    names = list(detectors)
    compared = [
        compare(names[0], evaluations[0], name, each, differences[number], rounds=rounds, seed=seed)
        for number, (name, each) in enumerate(zip(names, evaluations, strict=True))
        if number
    ]
    return Beside(dict(zip(names, evaluations, strict=True)), tuple(compared))


def compare(
    first: str,
    one: Evaluation,
    second: str,
    other: Evaluation,
    after: Mapping[str, dict[str, Interval]] | None = None,
    *,
    rounds: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Compare two evaluations of the same rows.

    Args:
        first, second: the detectors' names.
        after: for `Comparison.robustness`.
        rounds, seed: of the bootstrap.
    """
    ours, theirs = _both(one.judged, other.judged)
    table = Table.of(ours)
    right = [np.array([row.right for row in rows], np.bool_) for rows in (ours, theirs)]
    parts = {"all": table.labels >= 0, "real": table.labels == 0, "fake": table.labels == 1}
    return Comparison(
        first=first,
        second=second,
        n_real=int(parts["real"].sum()),
        n_fake=int(parts["fake"].sum()),
        left_out=one.rows.n - len(ours),
        differences=_differences(tuple(_OF), ours, theirs, rounds, seed),
        delong=delong(table.labels, table.scores, Table.of(theirs).scores),
        mcnemar={name: mcnemar(right[0][part], right[1][part]) for name, part in parts.items()},
        robustness=dict(after or {}),
    )


class _Of(NamedTuple):
    """A figure: its statistic, the number of a row that it takes, and the class it is of, None for both."""

    statistic: resample.Statistic
    number: Callable[[Judged], float | None]
    label: Label | None = None


_OF: Mapping[str, _Of] = {
    "auc": _Of(resample.AUC, lambda row: row.score),
    "balanced_accuracy": _Of(resample.BALANCED, lambda row: row.called),
    "accuracy": _Of(resample.MEAN, lambda row: row.right),
    "fpr": _Of(resample.MEAN, lambda row: row.called, Label.REAL),
    "tpr": _Of(resample.MEAN, lambda row: row.called, Label.FAKE),
    "ece": _Of(resample.ECE, lambda row: row.score),
    "brier": _Of(resample.BRIER, lambda row: row.score),
}


def _both(first: Sequence[Judged], second: Sequence[Judged]) -> tuple[list[Judged], list[Judged]]:
    """The rows that both have a score for, as each judged them."""
    theirs = {row.sample.place: row for row in second if row.score is not None}
    shared = [row for row in first if row.score is not None and row.sample.place in theirs]
    return shared, [theirs[row.sample.place] for row in shared]


def _differences(
    names: Sequence[str], first: Sequence[Judged], second: Sequence[Judged], rounds: int, seed: int
) -> dict[str, Interval]:
    """What the second has more of each figure, of the same scored rows in the same order."""
    found = {}
    for name in names:
        of = _OF[name]
        pairs = [pair for pair in zip(first, second, strict=True) if of.label in (None, pair[0].sample.label)]
        ours, theirs = (np.array([of.number(pair[which]) for pair in pairs], np.float64) for which in (0, 1))
        found[name] = _difference(of.statistic, [one for one, _ in pairs], ours, theirs, rounds, seed)
    return found


def _difference(
    statistic: resample.Statistic, rows: Sequence[Judged], ours: Floats, theirs: Floats, rounds: int, seed: int
) -> Interval:
    """The statistic of their numbers less that of ours; each round draws the same rows for both. Of shares the wider
    of this interval and Newcombe's, so that two detectors without a mistake are not taken for the same."""
    table = Table.of(rows)
    value = statistic.plain(table.labels, theirs) - statistic.plain(table.labels, ours)
    before, now = (
        resample.drawn(statistic, table.labels, numbers, clusters=table.sources, rounds=rounds, seed=seed)
        for numbers in (ours, theirs)
    )
    found = resample.interval(value, now - before, len(rows))
    if statistic is not resample.MEAN:
        return found
    wide = newcombe(ours, theirs)
    return Interval(value, float(np.fmin(found.low, wide.low)), float(np.fmax(found.high, wide.high)), len(rows))


def _under(
    first: tuple[Sequence[Judged], Words], second: tuple[Sequence[Judged], Words], rounds: int, seed: int
) -> dict[str, Interval]:
    """The differences under a condition; a verdict's word can change where there is no score too."""
    names = [name for name in UNDER if name in _OF]
    found = _differences(names, *_both(first[0], second[0]), rounds, seed)
    flipped, others = (
        {row.sample.place: row.verdict is not words[row.sample.place] for row in judged if row.sample.place in words}
        for judged, words in (first, second)
    )
    rows = [row for row in first[0] if row.sample.place in flipped and row.sample.place in others]
    ours, theirs = (np.array([flips[row.sample.place] for row in rows], np.float64) for flips in (flipped, others))
    return found | {"flips": _difference(resample.MEAN, rows, ours, theirs, rounds, seed)}


def _plain(found: Mapping[str, Interval]) -> dict[str, Any]:
    return {name: interval.to_dict() for name, interval in found.items()}
