"""Detectors side by side as a person reads them: one column a detector, and each compared with the first."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from assay.judge.sink import printable
from assay.measure import block as tables
from assay.measure.beside import Beside, Comparison
from assay.measure.block import Block, escaped
from assay.measure.curves import STATISTICS
from assay.measure.evaluate import Evaluation
from assay.measure.report import NAMES, both, controls_block, counts, fairness_blocks, heading, show_troubles, troubles
from assay.metrics import Interval

_WORDS = {**NAMES, "accuracy": "accuracy at the threshold"}
_GROUPED = {"auc": "AUC", "fpr": "reals called fake", "tpr": "fakes called fake"}
_COMPARED = ("auc", "flips")
"""What of the differences under each condition is shown; the others are in the JSON object."""
_NOTE = "95 % intervals bootstrapped by source, the same pictures for both"


def show(found: Beside, console: Console) -> None:
    """Print the tables on a terminal."""
    for name, evaluation in found.evaluations.items():
        console.print(Text(printable(_heading(name, evaluation)), style="bold"))
        console.print(Text(counts(evaluation)))
    for block in blocks(found):
        console.print()
        tables.show(block, console)
    for name, evaluation in found.evaluations.items():
        show_troubles(evaluation, f"without a score of {name}", console)


def text(found: Beside, width: int = 120) -> str:
    """The same tables as plain text without colour, `width` columns wide."""
    return tables.plain(lambda console: show(found, console), width)


def markdown(found: Beside, level: int = 2) -> str:
    """The same tables as Markdown.

    Args:
        level: of the headings, 1 to 6.
    """
    parts = []
    for name, evaluation in found.evaluations.items():
        parts += [f"**{escaped(_heading(name, evaluation))}**", escaped(counts(evaluation))]
    for block in blocks(found):
        # Here columns are named by detectors.
        named = block._replace(columns=tuple(escaped(column) for column in block.columns))
        parts.append(tables.markdown(named, level))
    for name, evaluation in found.evaluations.items():
        if listed := troubles(evaluation):
            title = f"{'#' * level} {escaped(f'without a score of {name}')}"
            parts.append("\n".join([title, "", *(f"- {escaped(each)}" for each in listed)]))
    return "\n\n".join(parts) + "\n"


def blocks(found: Beside) -> Iterator[Block]:
    """The tables, in order."""
    evaluations = found.evaluations
    names = tuple(evaluations)
    of = list(evaluations.values())
    yield Block(
        "figures",
        ("", *names),
        [(words, *(both(each.metrics[name], name) for each in of)) for name, words in NAMES.items()],
        "; ".join(f"{name}: {each.base_rate_line}" for name, each in evaluations.items()),
    )
    yield from _compared(found.compared)
    yield from _groups(of, names)
    for statistic, words in STATISTICS.items():
        if of[0].robustness:
            yield Block(
                f"{words}, after alteration",
                ("condition", *names),
                [
                    (condition, *(both(each.robustness[condition][statistic], statistic) for each in of))
                    for condition in of[0].robustness
                ],
            )
    if found.compared and found.compared[0].robustness:
        yield from _compared_after(found.compared)
    for name, each in evaluations.items():
        for column, audit in each.fairness.items():
            for block in fairness_blocks(column, audit):
                yield block._replace(title=f"{name}: {block.title}")
    if of[0].controls is not None:
        yield controls_block(of[0].controls)


def _heading(name: str, evaluation: Evaluation) -> str:
    """What was measured, by the name of its column."""
    return heading(dataclasses.replace(evaluation, detector={**evaluation.detector, "name": name}))


def _compared(compared: tuple[Comparison, ...]) -> Iterator[Block]:
    """Differences from the first detector, and the tests of them."""
    if not compared:
        return
    first = compared[0].first
    yield Block(
        f"more than {first}, on the rows that both have a score for",
        ("", *(each.second for each in compared)),
        [(_WORDS[name], *(_signed(each.differences[name]) for each in compared)) for name in compared[0].differences]
        + [("rows", *(str(each.n_real + each.n_fake) for each in compared))],
        _NOTE,
    )
    yield Block(
        f"tests against {first}",
        ("", "DeLong z", "DeLong p", "only first right", "only it right", "McNemar p", "reals p", "fakes p"),
        [
            (
                each.second,
                "–" if math.isnan(each.delong.z) else f"{each.delong.z:.2f}",
                _p(each.delong.p),
                str(each.mcnemar["all"].first_only),
                str(each.mcnemar["all"].second_only),
                *(_p(each.mcnemar[part].p) for part in ("all", "real", "fake")),
            )
            for each in compared
        ],
        "of the AUCs, and of the mistakes at each one's own threshold; both take pictures for independent, which those "
        "of one source are not" + ("; p is not corrected for several tests" if len(compared) > 1 else ""),
    )


def _groups(of: list[Evaluation], names: tuple[str, ...]) -> Iterator[Block]:
    """A figure of each part of the rows: one table a figure."""
    titles = {"generator": "by generator, against all reals", "source": "reals by source"}
    for column in of[0].groups:
        parts = list(dict.fromkeys(part for each in of for part in each.groups[column]))
        for figure, words in _GROUPED.items():
            rows = []
            for part in parts:
                groups = [each.groups[column].get(part) for each in of]
                found = [None if group is None else group.figures.get(figure) for group in groups]
                few = any(group is not None and group.small for group in groups)
                if any(found):
                    rows.append((part + (" *" if few else ""), *(both(each, figure) for each in found)))
            if rows:
                note = "* fewer than 20 rows: means little" if any(row[0].endswith(" *") for row in rows) else ""
                yield Block(f"{titles.get(column, f'by {column}')}: {words}", (column, *names), rows, note)


def _compared_after(compared: tuple[Comparison, ...]) -> Iterator[Block]:
    for statistic in _COMPARED:
        yield Block(
            f"{STATISTICS[statistic]}, after alteration: more than {compared[0].first}",
            ("condition", *(each.second for each in compared)),
            [
                (condition, *(_signed(each.robustness[condition][statistic]) for each in compared))
                for condition in compared[0].robustness
            ],
            _NOTE,
        )


def _signed(interval: Interval) -> str:
    """A difference, as a fraction of 1."""
    if math.isnan(interval.value):
        return "–"
    within = "" if math.isnan(interval.low) else f" ({interval.low:+.3f} to {interval.high:+.3f})"
    return f"{interval.value:+.3f}{within}"


def _p(value: float) -> str:
    if math.isnan(value):
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
