"""An evaluation as a person reads it: aligned tables for a terminal, Markdown for a card."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.text import Text

from assay.judge.sink import printable
from assay.measure import block as tables
from assay.measure import fairness
from assay.measure.block import Block, escaped
from assay.measure.controls import Control, Controls
from assay.measure.evaluate import Evaluation, Trouble
from assay.measure.fairness import Audit
from assay.metrics import Interval

NAMES = {
    "auc": "AUC",
    "balanced_accuracy": "balanced accuracy",
    "ece": "calibration error (ECE)",
    "brier": "Brier score",
    "fpr": "FPR at the threshold",
    "tpr": "TPR at the threshold",
    "tpr_at_fpr_1": "TPR at 1 % FPR",
    "tpr_at_fpr_5": "TPR at 5 % FPR",
    "coverage": "coverage (not uncertain)",
    "false_fake": "decided reals called fake",
    "false_real": "decided fakes called real",
    "base_rate_precision": "precision at 1 in 100",
}
AFTER = {
    "accuracy": "accuracy",
    "flips": "changed",
    "real_to_fake": "real to fake",
    "fake_to_real": "fake to real",
    "to_uncertain": "to uncertain",
    "from_uncertain": "from uncertain",
}
"""What is measured after alteration beside these."""
SHARES = frozenset({*NAMES, *AFTER, "fnr", "gap"}) - {"auc", "ece", "brier"}
"""Shown in percent; the others as fractions of 1."""
CONDITION_COLUMNS = ("auc", "balanced_accuracy", "accuracy", "ece", "fpr", "tpr", "coverage")
_LISTED = 10


def show(evaluation: Evaluation, console: Console) -> None:
    """Print an evaluation on a terminal."""
    console.print(Text(printable(heading(evaluation)), style="bold"))
    console.print(Text(counts(evaluation)))
    for block in blocks(evaluation):
        console.print()
        tables.show(block, console)
    show_troubles(evaluation, "without a score", console)


def show_troubles(evaluation: Evaluation, title: str, console: Console) -> None:
    """Print which rows have no score, and why; nothing where all have one."""
    if lines := troubles(evaluation):
        console.print()
        console.print(Text(printable(title), style="bold"))
        for line in lines:
            console.print(Text(f"  {printable(line)}"), soft_wrap=True)


def text(evaluation: Evaluation, width: int = 100) -> str:
    """The same tables as plain text without colour, `width` columns wide."""
    return tables.plain(lambda console: show(evaluation, console), width)


def markdown(evaluation: Evaluation, level: int = 2) -> str:
    """The same tables as Markdown.

    Args:
        level: of the headings, 1 to 6.
    """
    parts = [f"**{escaped(heading(evaluation))}**", escaped(counts(evaluation))]
    parts += [tables.markdown(block, level) for block in blocks(evaluation)]
    if lines := troubles(evaluation):
        parts.append("\n".join([f"{'#' * level} without a score", "", *(f"- {escaped(line)}" for line in lines)]))
    return "\n\n".join(parts) + "\n"


def heading(evaluation: Evaluation) -> str:
    """What was measured, in one line."""
    detector = evaluation.detector
    version = f" {detector['version']}" if detector.get("version") else ""
    digest = f" ({detector['sha256'][:12]})" if detector.get("sha256") else ""
    low, high = evaluation.doubt
    doubt = f", uncertain from {low:.3f} to {high:.3f}" if low < high else ""
    return (
        f"{detector.get('name', '')}{version}{digest}: fake from {evaluation.threshold:.3f} "
        f"(chosen for {percent(evaluation.fpr)} FPR){doubt}"
    )


def counts(evaluation: Evaluation) -> str:
    """How many rows there were and what became of them, in one line."""
    rows = evaluation.rows
    parts = [f"{rows.n} rows: {rows.n_real} real, {rows.n_fake} fake"]
    if rows.failures:
        parts.append(f"{len(rows.failures)} could not be judged")
    if rows.not_applicable:
        parts.append(f"{len(rows.not_applicable)} not applicable")
    if rows.unlabelled:
        parts.append(f"{rows.unlabelled} without a label left out")
    if rows.seen:
        parts.append(f"{rows.seen} SEEN in making the detector, so this is no test")
    return "; ".join(parts)


def blocks(evaluation: Evaluation) -> Iterator[Block]:
    """The tables of a report, in order."""
    yield Block(
        "figures",
        ("", "value", "95 % interval", "rows"),
        [
            (NAMES.get(name, name), _value(interval, name), _range(interval, name), str(interval.n))
            for name, interval in evaluation.metrics.items()
        ],
        evaluation.base_rate_line,
    )
    for column, groups in evaluation.groups.items():
        if not groups:
            continue
        figures = [name for name in ("auc", "fpr", "tpr") if any(name in group.figures for group in groups.values())]
        rows = [
            (
                name + (" *" if group.small else ""),
                str(group.n_real) if column != "generator" else str(group.n_fake),
                *([str(group.n_fake)] if column not in ("generator", "source") else []),
                *(both(group.figures.get(figure), figure) for figure in figures),
            )
            for name, group in groups.items()
        ]
        sizes = {"generator": ["fake"], "source": ["real"]}.get(column, ["real", "fake"])
        title = {"generator": "by generator, against all reals", "source": "reals by source"}.get(
            column, f"by {column}"
        )
        note = "* fewer than 20 rows: means little" if any(group.small for group in groups.values()) else ""
        yield Block(title, (column, *sizes, *(figure.upper() for figure in figures)), rows, note)
    for column, audit in evaluation.fairness.items():
        yield from fairness_blocks(column, audit)
    yield from _after(evaluation.robustness)
    if evaluation.controls is not None:
        yield controls_block(evaluation.controls)


def controls_block(controls: Controls) -> Block:
    """What file and subject alone tell."""
    named = [(f"{name.replace('_', ' ')} alone", control) for name, control in controls.alone.items()]
    named += [("metadata classifier", controls.metadata), ("16 px thumbnail classifier", controls.thumbnail)]
    return Block(
        "controls: what file and subject alone tell",
        ("", "AUC", "95 % interval", "either way", "rows"),
        [_control(name, control) for name, control in named],
        f"the classifiers were fitted {controls.fitted}; a detector earns trust by what it adds to these",
    )


def troubles(evaluation: Evaluation) -> list[str]:
    """One line for each row that has no score, the first few of each kind."""
    return listed(evaluation.rows.failures) + listed(evaluation.rows.not_applicable, "not applicable: ")


def listed(found: Sequence[Trouble], what: str = "") -> list[str]:
    """One line for each trouble, the first few, each message after the words `what`."""
    lines = [f"{trouble.place}: {what}{trouble.message}" for trouble in found[:_LISTED]]
    return lines + ([f"… and {len(found) - _LISTED} more"] if len(found) > _LISTED else [])


def _after(robustness: Mapping[str, Mapping[str, Interval]]) -> Iterator[Block]:
    """The figures under each condition, and how often a verdict's word changed."""
    if not robustness:
        return
    names = {**NAMES, **AFTER}
    yield Block(
        "after alteration",
        ("condition", *(names[name] for name in CONDITION_COLUMNS), "rows"),
        [
            (name, *(_value(found[column], column) for column in CONDITION_COLUMNS), str(found["auc"].n))
            for name, found in robustness.items()
        ],
    )
    kinds = tuple(name for name in AFTER if name not in ("accuracy", "flips"))
    yield Block(
        "verdicts that alteration changes",
        ("condition", AFTER["flips"], *(AFTER[name] for name in kinds), "rows"),
        [
            (name, both(found["flips"], "flips"), *(_value(found[kind], kind) for kind in kinds), str(found["flips"].n))
            for name, found in robustness.items()
        ],
        "against the verdict on the same picture as it is",
    )


def fairness_blocks(column: str, audit: Audit) -> Iterator[Block]:
    """The tables of one column's audit: each group's errors, the gaps between them, and what is not applied."""
    few = any(_few(count) for part in audit.groups.values() for count in (part.n_real, part.n_fake))
    yield Block(
        f"fairness by {column}: errors at the detector's threshold",
        (column, "real", "fake", "reals called fake", "fakes not called", "called fake", "uncertain"),
        [
            (
                name,
                str(part.n_real),
                str(part.n_fake),
                both(part.fpr, "fpr") + _few(part.n_real),
                both(part.fnr, "fnr") + _few(part.n_fake),
                percent(part.called),
                percent(part.uncertain),
            )
            for name, part in audit.groups.items()
        ],
        f"* fewer than {fairness.SMALL} rows of the class: too few to say" if few else "",
    )
    gaps: list[tuple[str, ...]] = []
    for rate, gap in audit.gaps.items():
        if gap is not None:
            sizes = (_value(gap.gap, "gap"), _range(gap.gap, "gap"), _ratio(gap.ratio))
            gaps.append((fairness.RATES[rate][0], *sizes, gap.lowest, gap.highest))
    if not math.isnan(audit.difference):
        gaps.append(("equalized odds", percent(audit.difference), "", _ratio(audit.ratio), "", ""))
    yield Block(
        f"fairness by {column}: largest gaps",
        ("", "gap", "95 % interval", "lowest / highest", "lowest", "highest"),
        gaps,
        "; ".join(audit.warnings),
    )
    if audit.fpr is not None:
        yield Block(
            f"fairness by {column}: thresholds for {percent(audit.fpr)} FPR in each group, NOT APPLIED",
            (column, "threshold", "TPR there"),
            [
                (name, "–" if part.own.threshold is None else f"{part.own.threshold:.3f}", percent(part.own.tpr))
                for name, part in audit.groups.items()
                if part.own is not None
            ],
            fairness.NOT_APPLIED,
        )


def _few(count: int) -> str:
    return " *" if 0 < count < fairness.SMALL else ""


def _ratio(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


def _control(name: str, control: Control) -> tuple[str, ...]:
    auc = control.auc
    return name, _value(auc, "auc"), _range(auc, "auc"), _number(control.oriented, "auc"), str(auc.n)


def percent(value: float) -> str:
    """A share; a dash for NaN."""
    return "–" if math.isnan(value) else f"{100 * value:.1f} %"


def _number(value: float, name: str) -> str:
    if name in SHARES:
        return percent(value)
    return "–" if math.isnan(value) else f"{value:.3f}"


def _value(interval: Interval, name: str) -> str:
    return _number(interval.value, name)


def _range(interval: Interval, name: str) -> str:
    if math.isnan(interval.low):
        return "–"
    return f"{_number(interval.low, name)} to {_number(interval.high, name)}"


def both(interval: Interval | None, name: str) -> str:
    """A figure's value and interval; a dash where there is none."""
    if interval is None:
        return "–"
    within = "" if math.isnan(interval.low) else f" ({_range(interval, name)})"
    return _value(interval, name) + within
