"""A check of a data set as a person reads it: what is wrong, in which rows, and what gives the classes away."""

from __future__ import annotations

import io
import math

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from assay.judge.sink import printable
from assay.measure.check.findings import Finding, Report, Severity, Shortcut

MOST = 10
"""Problems of a kind that are printed; `Report.to_dict` holds all of them."""

_CLASSES = ("real", "fake")

STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "dim"}


def show(report: Report, console: Console, most: int = MOST) -> None:
    """Print a report on a terminal.

    Args:
        report: of a check.
        console: where to.
        most: problems of a kind that are printed.
    """
    console.print(_counts(report))
    if report.shortcuts:
        console.print(_shortcuts(report))
        console.print(Text(_fitted(report)))
    for finding in report.findings:
        console.print()
        console.print(_heading(finding), soft_wrap=True)
        for line in finding.problems(most):
            console.print(Text(f"  {printable(line)}"), soft_wrap=True)
        if finding.count > most:
            console.print(Text(f"  … and {finding.count - most} more"))
    console.print()
    console.print(Text(verdict(report), style="bold"), soft_wrap=True)


def text(report: Report, width: int = 100, most: int = MOST) -> str:
    """The same as plain text without colour, `width` columns wide."""
    file = io.StringIO()
    console = Console(file=file, width=width, color_system=None, force_terminal=False, legacy_windows=False)
    show(report, console, most)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def verdict(report: Report) -> str:
    """How many findings of each severity there are, in one line."""
    kinds = {severity: [found for found in report.findings if found.severity is severity] for severity in Severity}
    told = ", ".join(_several(len(found), str(severity)) for severity, found in kinds.items())
    if not report.honest:
        word = "not fit to train or measure on as it stands"
    elif report.looked:
        word = "nothing found that makes it unfit to train or measure on"
    else:
        word = "nothing found in the table that makes it unfit"
    if not report.looked:
        word += "; files were not looked for, and the pictures were not looked at"
    return f"{word}: {told}"


def _counts(report: Report) -> Table:
    table = _table(_several(report.rows, "row"), ("split", *_CLASSES, "not known"))
    for name, counts in report.counts.items():
        table.add_row(name or "none", *(str(counts[label]) for label in ("real", "fake", "")))
    return table


def _shortcuts(report: Report) -> Table:
    table = _table("what tells the classes apart without a trace of a generator", ("", "AUC", "95 %", *_CLASSES, ""))
    part = ""
    for shortcut in report.shortcuts:
        if shortcut.part != part:
            part = shortcut.part
            table.add_row(Text(part, style="bold"))
        grave = "" if shortcut.severity is Severity.NOTE else str(shortcut.severity)
        table.add_row(
            f"  {_name(shortcut)}",
            _figure(shortcut.control.oriented),
            _interval(shortcut),
            *("–" if count is None else str(count) for count in (shortcut.reals, shortcut.fakes)),
            Text(grave, style=STYLES[shortcut.severity]),
        )
    return table


def _fitted(report: Report) -> str:
    told = {found.part: found.fitted for found in report.shortcuts if found.fitted}
    lines = [f"{part}: the classifiers were fitted {fitted}" for part, fitted in told.items()]
    side = f"AUC on the side above .5, which is chance; an error where all of its interval lies above {report.bound:g}"
    return "\n".join([*lines, side])


def _table(title: str, columns: tuple[str, ...]) -> Table:
    table = Table(title=Text(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for number, column in enumerate(columns):
        table.add_column(Text(column), justify="left" if number == 0 else "right", overflow="fold")
    return table


def _heading(finding: Finding) -> Text:
    count = f" ({finding.count})" if finding.count else ""
    kind = finding.kind.replace("_", " ")
    start = Text(f"{finding.severity}: ", style=STYLES[finding.severity])
    return start.append(Text(printable(f"{kind}{count}: {finding.message}"), style="default"))


def _name(shortcut: Shortcut) -> str:
    name = shortcut.name.replace("_", " ")
    return {"metadata": "metadata classifier", "thumbnail": "thumbnail classifier"}.get(name, name)


def _interval(shortcut: Shortcut) -> str:
    """The interval, turned to the side to which the AUC is."""
    auc = shortcut.control.auc
    low, high = (auc.low, auc.high) if auc.value >= 0.5 else (1 - auc.high, 1 - auc.low)
    return "–" if math.isnan(low) else f"{low:.3f}–{high:.3f}"


def _figure(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _several(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
