"""A trade-off as people read it: a table for a terminal, Markdown for a card, and a figure of accuracy against cost.

The figure is SVG: no script, no font file, no address; it opens anywhere.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from assay.judge.sink import printable
from assay.measure import block as tables
from assay.measure.block import Block, escaped
from assay.measure.draw import COLOURS, page, span, steps, stroke, text
from assay.measure.report import NAMES
from assay.measure.tradeoff import Tradeoff
from assay.metrics import Interval

NONE = "–"
SIDE, HEIGHT, LEFT, GAP, TOP = 280, 240, 56, 72, 84
"""Of a panel, and what lies around it, in px."""
_CHARACTER = 6.5


class Point(NamedTuple):
    """A detector in a panel: its name, what it costs (> 0), and its AUC."""

    name: str
    cost: float
    auc: Interval


def front(costs: Sequence[float], values: Sequence[float]) -> list[int]:
    """The Pareto front: points that no other one beats by costing less at no lower value, or by more value at no higher
    cost; from the cheapest to the dearest. Of points that are the same the first counts.

    Args:
        costs, values: (n,), finite.
    """
    order = sorted(range(len(costs)), key=lambda number: (costs[number], -values[number], number))
    best = -math.inf
    found = []
    for number in order:
        if values[number] > best:
            best = values[number]
            found.append(number)
    return found


def blocks(found: Tradeoff) -> Iterator[Block]:
    """The tables, in order."""
    robust = ["robust_auc"] if any(row.conditions for row in found.rows) else []
    figures = ["auc", "balanced_accuracy", *robust, "ece", "brier"]
    words = {**NAMES, "robust_auc": "mean AUC, altered"}
    first = found.rows[0].name
    yield Block(
        "accuracy and calibration",
        ("detector", *(words[name] for name in figures)),
        [(row.name, *(_cell(row.metrics[name]) for name in figures)) for row in found.rows],
        "balanced accuracy at a score of one half"
        + (f"; altered: {', '.join(found.rows[0].conditions)}" if robust else ""),
    )
    if len(found.rows) > 1:
        compared = ["auc", "balanced_accuracy", *robust]
        yield Block(
            f"more than {first}, on the same pictures",
            ("detector", *(words[name] for name in compared), "AUC kept", "balanced accuracy kept"),
            [
                (
                    row.name,
                    *(_cell(row.differences[name], "+.3f") for name in compared),
                    *(_share(row.kept[name]) for name in ("auc", "balanced_accuracy")),
                )
                for row in found.rows[1:]
            ],
            f"kept: of what the AUC of {first} has above one half; of its balanced accuracy",
        )
    if robust:
        names = list(found.rows[0].conditions)
        yield Block(
            "AUC after alteration",
            ("detector", *names),
            [(row.name, *(_cell(row.conditions[name]) for name in names)) for row in found.rows],
        )
    note = f"times: the median of {len(found.rows[0].milliseconds)} rounds of {found.timed} pictures, in turn"
    yield Block(
        "cost",
        ("detector", "parameters", "MB", "ms a picture", "times faster"),
        [
            (
                row.name,
                f"{row.parameters / 1e6:.2f} M",
                f"{row.bytes / 1e6:.2f}",
                *map(_plain, (row.pace, row.times_faster)),
            )
            for row in found.rows
        ],
        note if found.timed else "",
    )


def counts(found: Tradeoff) -> str:
    """How many rows there were and what became of them, in one line."""
    parts = [f"{found.n_real + found.n_fake} rows: {found.n_real} real, {found.n_fake} fake"]
    parts += [f"{found.left_out} left out, as not all detectors have a score for them"] if found.left_out else []
    parts += [f"{found.unlabelled} without a label left out"] if found.unlabelled else []
    parts += [f"{row.seen} SEEN in making {row.name}, so this is no test" for row in found.rows if row.seen]
    return "; ".join(parts)


def show(found: Tradeoff, console: Console) -> None:
    """Print a trade-off on a terminal."""
    console.print(Text(printable(counts(found)), style="bold" if found.seen else ""))
    for block in blocks(found):
        console.print()
        tables.show(block, console)


def table(found: Tradeoff, width: int = 150) -> str:
    """The tables as plain text without colour, `width` columns wide."""
    return tables.plain(lambda console: show(found, console), width)


def markdown(found: Tradeoff, level: int = 2) -> str:
    """The tables as Markdown.

    Args:
        level: of the headings, 1 to 6.
    """
    parts = [escaped(counts(found)), *(tables.markdown(block, level) for block in blocks(found))]
    return "\n\n".join(parts) + "\n"


def figure(found: Tradeoff) -> str:
    """AUC against parameters, milliseconds a picture and bytes, as SVG.

    Costs are on logarithmic axes; upright bars are 95 % intervals; the step line is the Pareto front: what is reached
    at each cost. A detector without an AUC, or without the cost, is not in a panel.
    """
    told = ("parameters", "ms a picture", "bytes")
    width, height = LEFT + 3 * SIDE + 2 * GAP + 24, TOP + HEIGHT + 60
    n = found.n_real + found.n_fake
    headline = f"AUC against cost, n = {n}" + (", SEEN rows among them: no test" if found.seen else "")
    colours = {row.name: COLOURS[number % len(COLOURS)] for number, row in enumerate(found.rows)}
    body = [
        text(12, 24, headline, style="font-size='16' font-weight='bold'"),
        text(12, 46, "bars: 95 % intervals; step line: Pareto front; costs logarithmic", style="fill='#555555'"),
    ]
    low, high = span(row.metrics["auc"] for row in found.rows)
    for number, what in enumerate(told):
        points = [
            Point(row.name, cost, row.metrics["auc"])
            for row in found.rows
            for cost in [(row.parameters, row.pace, row.bytes)[number]]
            if cost > 0 and math.isfinite(row.metrics["auc"].value)
        ]
        body += _panel(points, what, LEFT + number * (SIDE + GAP), low, high, colours)
    return page(width, height, headline, body)


def _panel(
    points: Sequence[Point], what: str, left: float, low: float, high: float, colours: dict[str, str]
) -> list[str]:
    """One cost: its axes, the front, and each point with its interval and name."""
    logs = [math.log10(point.cost) for point in points] or [0.0]
    # A tenth of the way on either side, and enough about a single point to hold a round number.
    edge = max(0.1 * (max(logs) - min(logs)), 0.2)
    start, end = min(logs) - edge, max(logs) + edge

    def across(cost: float) -> float:
        return left + SIDE * (math.log10(cost) - start) / (end - start)

    def up(value: float) -> float:
        return TOP + HEIGHT * (high - value) / (high - low)

    body = [f'<g><rect x="{left}" y="{TOP}" width="{SIDE}" height="{HEIGHT}" fill="none" stroke="#cccccc"/>']
    for tick in steps(low, high):
        body.append(stroke(left, up(tick), left + SIDE, up(tick), "#eeeeee"))
        body.append(text(left - 8, up(tick) + 4, f"{tick:.3g}", "end"))
    for cost in _decades(10**start, 10**end):
        body.append(stroke(across(cost), TOP + HEIGHT, across(cost), TOP + HEIGHT + 5, "#888888"))
        body.append(text(across(cost), TOP + HEIGHT + 19, _short(cost), "middle"))
    body.append(text(left + SIDE / 2, TOP + HEIGHT + 42, what, "middle"))
    best = [points[number] for number in front([point.cost for point in points], [point.auc.value for point in points])]
    if best:
        corners = [f"{across(best[0].cost):.1f},{up(best[0].auc.value):.1f}"]
        for before, after in itertools.pairwise(best):
            corners += [f"{across(after.cost):.1f},{up(value):.1f}" for value in (before.auc.value, after.auc.value)]
        corners.append(f"{left + SIDE:.1f},{up(best[-1].auc.value):.1f}")
        body.append(f'<polyline points="{" ".join(corners)}" fill="none" stroke="#888888" stroke-dasharray="4 3"/>')
    taken: list[tuple[float, float, float]] = []
    for point in points:
        x, y, colour = across(point.cost), up(point.auc.value), colours[point.name]
        if math.isfinite(point.auc.low):
            body.append(stroke(x, up(point.auc.low), x, up(point.auc.high), colour))
        body.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>')
        body.append(_name(point.name, x, y, left, colour, taken))
    return [*body, "</g>"]


def _name(name: str, x: float, y: float, left: float, colour: str, taken: list[tuple[float, float, float]]) -> str:
    """A name beside its point, on the side with more room, moved down where another one stands there already."""
    right = x < left + SIDE / 2
    width = _CHARACTER * len(name)
    start = x + 8 if right else x - 8 - width
    level = y - 6
    while any(abs(level - other) < 13 and start < until and begin < start + width for begin, until, other in taken):
        level += 13
    taken.append((start, start + width, level))
    # With a white rim, which keeps it legible on lines.
    paint = f"fill='{colour}' stroke='#ffffff' stroke-width='3' paint-order='stroke'"
    return text(x + 8 if right else x - 8, level, name, "start" if right else "end", paint)


def _decades(low: float, high: float) -> list[float]:
    """Round costs between two: 1, 2 and 5 times powers of ten, or those powers alone where these are many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    fine = [digit * 10.0**power for power in powers for digit in (1, 2, 5) if low <= digit * 10.0**power <= high]
    return fine if len(fine) <= 6 else [10.0**power for power in powers if low <= 10.0**power <= high]


def _short(cost: float) -> str:
    """2e6 as 2 M."""
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if cost >= size * 0.9999:
            return f"{cost / size:g}{letter}"
    return f"{cost:g}"


def _cell(found: Interval, form: str = ".3f") -> str:
    if math.isnan(found.value):
        return NONE
    within = "" if math.isnan(found.low) else f" ({found.low:{form}} to {found.high:{form}})"
    return f"{found.value:{form}}{within}"


def _share(found: Interval) -> str:
    """A ratio in percent."""
    cell = _cell(Interval(100 * found.value, 100 * found.low, 100 * found.high, found.n), ".1f")
    return cell if cell == NONE else f"{cell} %"


def _plain(value: float) -> str:
    return NONE if math.isnan(value) else f"{value:.3g}"
