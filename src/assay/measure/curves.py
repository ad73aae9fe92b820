"""Robustness as a figure: a panel a family of conditions, the level along its axis, a line a detector.

Conditions that have no second level beside them, chains and everyday ones, share a last panel as points. Detectors
differ by colour, by shape and by dashes. The figure is SVG: no script, no font file, no address; it opens anywhere.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from assay.errors import RecipeError, unknown
from assay.measure.draw import COLOURS, SHAPES, mark, page, path, span, steps, stroke, text
from assay.measure.robustness import FAMILIES
from assay.metrics import Interval

STATISTICS: Mapping[str, str] = {
    "auc": "AUC",
    "accuracy": "accuracy at the threshold",
    "balanced_accuracy": "balanced accuracy at the threshold",
    "fpr": "false-positive rate at the threshold",
    "ece": "calibration error (ECE)",
    "flips": "verdicts changed",
}
"""What can be drawn."""

SIDE, HEIGHT, LEFT, GAP, BELOW, ACROSS, ROW = 300, 200, 56, 64, 76, 3, 24
"""Of a panel and what lies around it, in px; panels beside each other; a line of names."""
NAMES = 220
"""Room for the names of the points, in px."""

_CLEAN = "clean"
_FALLING = ("jpeg", "webp", "scale", "fit")
"""Families whose smaller numbers are the worse ones."""
_FROM_NOTHING = ("fpr", "ece", "flips")

Figures = Mapping[str, Mapping[str, Interval]]
"""By condition and statistic, as `assay.measure.robustness.robustness` gives them."""


def families(conditions: Iterable[str]) -> dict[str, list[tuple[float, str]]]:
    """The families of which there are several levels: (number, condition) of each, from the mildest to the worst."""
    found: dict[str, list[tuple[float, str]]] = {}
    for name in conditions:
        match = re.fullmatch(r"([a-z_]+)([0-9.]+)", name)
        if match and match[1] in FAMILIES:
            found.setdefault(match[1], []).append((float(match[2]), name))
    return {family: sorted(levels, reverse=family in _FALLING) for family, levels in found.items() if len(levels) > 1}


def svg(detectors: Mapping[str, Figures], statistic: str = "auc") -> str:
    """Draw one statistic of each detector under each condition.

    Args:
        detectors: by name; all under the same conditions.
        statistic: a key of `STATISTICS`.

    Returns:
        The text of an SVG file. What is not defined is left out; names that hold control characters are shown escaped.

    Raises:
        RecipeError: no such statistic.
    """
    if statistic not in STATISTICS:
        raise RecipeError(unknown("statistic", statistic, STATISTICS))
    conditions = list(dict.fromkeys(name for found in detectors.values() for name in found))
    drawn = {
        name: {condition: figures[statistic] for condition, figures in found.items()}
        for name, found in detectors.items()
    }
    low, high = span(interval for found in drawn.values() for interval in found.values())
    low = 0.0 if statistic in _FROM_NOTHING else low
    lines = families(conditions)
    in_lines = {condition for levels in lines.values() for _, condition in levels}
    points = [condition for condition in conditions if condition not in in_lines]
    width = LEFT + ACROSS * SIDE + (ACROSS - 1) * GAP + 24
    n = max((interval.n for found in drawn.values() for interval in found.values()), default=0)
    headline = f"{STATISTICS[statistic]} after alteration, n = {n}"
    dotted = "; faint dots: the pictures as they are" if _CLEAN in conditions and lines else ""
    body = [
        text(12, 24, headline, style="font-size='16' font-weight='bold'"),
        text(12, 46, f"bands and bars: 95 % intervals{dotted}", style="fill='#555555'"),
    ]
    for number, name in enumerate(drawn):
        y = 70 + ROW * number
        body += [path([(14, y), (54, y)], number), _mark(34, y, number), text(64, y + 4, name)]
    top = 90 + ROW * len(drawn)
    for place, (family, levels) in enumerate(lines.items()):
        at = LEFT + place % ACROSS * (SIDE + GAP), top + place // ACROSS * (HEIGHT + BELOW)
        body += _curves(drawn, family, levels, at, (low, high))
    top += math.ceil(len(lines) / ACROSS) * (HEIGHT + BELOW)
    if points:
        each = max(ROW, 9 * (len(drawn) + 1))
        body += _points(drawn, points, (top, each, width), (low, high), STATISTICS[statistic])
        top += each * len(points) + BELOW
    return page(width, top, headline, body)


def _curves(
    drawn: Mapping[str, Mapping[str, Interval]],
    family: str,
    levels: Sequence[tuple[float, str]],
    at: tuple[float, float],
    ends: tuple[float, float],
) -> list[str]:
    """A family: its axes, and of each detector the line, the band about it and the value where nothing is altered."""
    (left, top), (low, high) = at, ends
    first, last = levels[0][0], levels[-1][0]

    def across(level: float) -> float:
        return left + 14 + (SIDE - 28) * (level - first) / ((last - first) or 1)

    def up(value: float) -> float:
        return top + HEIGHT * (high - value) / (high - low)

    body = [f'<g><rect x="{left}" y="{top}" width="{SIDE}" height="{HEIGHT}" fill="none" stroke="#cccccc"/>']
    for tick in steps(low, high):
        body += [stroke(left, up(tick), left + SIDE, up(tick), "#eeeeee"), _tick(left - 8, up(tick) + 4, tick, "end")]
    for level, _ in levels:
        body.append(stroke(across(level), top + HEIGHT, across(level), top + HEIGHT + 5, "#888888"))
    body += [_tick(across(level), top + HEIGHT + 19, level, "middle") for level in _apart(levels, across)]
    body.append(text(left + SIDE / 2, top + HEIGHT + 40, f"{family}: {FAMILIES[family].what}", "middle"))
    for number, found in enumerate(drawn.values()):
        clean = found.get(_CLEAN)
        if clean is not None and math.isfinite(clean.value):
            dots = "stroke-dasharray='1 4' stroke-opacity='0.8'"
            body.append(stroke(left, up(clean.value), left + SIDE, up(clean.value), _colour(number), dots))
        for run in _runs([(level, found.get(condition)) for level, condition in levels]):
            edges = [(across(level), up(_or(interval.high, interval.value))) for level, interval in run]
            edges += [(across(level), up(_or(interval.low, interval.value))) for level, interval in reversed(run)]
            body.append(f'<polygon points="{_corners(edges)}" fill="{_colour(number)}" fill-opacity="0.13"/>')
            middle = [(across(level), up(interval.value)) for level, interval in run]
            body += [path(middle, number), *(_mark(x, y, number) for x, y in middle)]
    return [*body, "</g>"]


def _points(
    drawn: Mapping[str, Mapping[str, Interval]],
    conditions: Sequence[str],
    place: tuple[float, float, float],
    ends: tuple[float, float],
    words: str,
) -> list[str]:
    """Conditions one under another: of each detector a point and a bar. `place`: where they begin, the height of each,
    and the width of the page."""
    (top, each, width), (low, high) = place, ends
    left, right, bottom = NAMES, width - 24, top + each * len(conditions)

    def across(value: float) -> float:
        return left + (right - left) * (value - low) / (high - low)

    body = [
        f'<g><rect x="{left}" y="{top}" width="{right - left}" height="{bottom - top}" fill="none" stroke="#cccccc"/>'
    ]
    for tick in steps(low, high):
        body += [stroke(across(tick), top, across(tick), bottom, "#eeeeee"), _tick(across(tick), bottom + 17, tick)]
    body.append(text((left + right) / 2, bottom + 38, words, "middle"))
    for row, condition in enumerate(conditions):
        body.append(text(left - 10, top + each * (row + 0.5) + 4, condition, "end"))
        body.append(stroke(left, top + each * row, right, top + each * row, "#cccccc"))
        for number, found in enumerate(drawn.values()):
            interval = found.get(condition)
            if interval is None or not math.isfinite(interval.value):
                continue
            y = top + each * (row + (number + 1) / (len(drawn) + 1))
            if math.isfinite(interval.low):
                body.append(stroke(across(interval.low), y, across(interval.high), y, _colour(number)))
            body.append(_mark(across(interval.value), y, number))
    return [*body, "</g>"]


def _runs(found: Sequence[tuple[float, Interval | None]]) -> list[list[tuple[float, Interval]]]:
    """The stretches without a gap: a line does not pass over what is not defined."""
    runs: list[list[tuple[float, Interval]]] = [[]]
    for level, interval in found:
        if interval is not None and math.isfinite(interval.value):
            runs[-1].append((level, interval))
        else:
            runs.append([])
    return [run for run in runs if run]


def _apart(levels: Sequence[tuple[float, str]], across: Callable[[float], float]) -> list[float]:
    """The levels whose numbers have room, from the worst on."""
    kept: list[float] = []
    for level, _ in reversed(levels):
        if not kept or across(kept[-1]) - across(level) >= 24:
            kept.append(level)
    return kept


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _mark(x: float, y: float, number: int) -> str:
    return mark(x, y, _colour(number), SHAPES[number % len(SHAPES)], hollow=False)


def _corners(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _tick(x: float, y: float, number: float, anchor: str = "middle") -> str:
    return text(x, y, f"{number:.3g}", anchor)


def _or(value: float, other: float) -> float:
    return value if math.isfinite(value) else other
