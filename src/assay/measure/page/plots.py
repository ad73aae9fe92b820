"""The plots of a report, as SVG: a scan's histogram, ROC curves, calibration, and intervals one under another.

Whatever differs by colour differs by place, shape or dashes too; the words beside it say which is which.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from assay.measure.draw import COLOURS, SHAPES, mark, page, path, span, steps, stroke, text
from assay.measure.page.tally import BINS, Bar
from assay.measure.shape import Bin, Corner
from assay.metrics import Interval
from assay.types import Ruling

WIDTH, SIDE, HEIGHT, LEFT, ROW, NAMES = 640, 360, 220, 64, 22, 264
"""Of a plot, of a square one, of a histogram, what lies left of the axes, a line of words, room for names; in px."""

LOOKS: Mapping[Ruling, str] = {Ruling.FAKE: COLOURS[1], Ruling.UNCERTAIN: COLOURS[4], Ruling.REAL: COLOURS[0]}

_TOP = 44
_GRID, _EDGE = "#eeeeee", "#cccccc"
_LONGEST = 38

Point = tuple[float, float]


def histogram(bins: Mapping[Ruling, Sequence[int]], bar: Bar | None, title: str) -> str:
    """Scores, a bar for each of `BINS` steps of [0, 1], in it a part a verdict; lines at threshold and doubt."""
    heights = [sum(counts) for counts in zip(*bins.values(), strict=True)]
    highest: int = max(1, *heights)
    top, right = _TOP + ROW, WIDTH - 24
    bottom: float = top + HEIGHT

    def across(score: float) -> float:
        return LEFT + (right - LEFT) * score

    def up(count: float) -> float:
        return bottom - HEIGHT * count / highest

    body = [text(12, 24, title, style="font-size='16' font-weight='bold'")]
    for number, (word, colour) in enumerate(LOOKS.items()):
        body += [_rect(LEFT + 130 * number, _TOP, 12, 12, colour), text(LEFT + 18 + 130 * number, _TOP + 11, word)]
    for count in _counts(highest):
        body += [stroke(LEFT, up(count), right, up(count), _GRID), text(LEFT - 8, up(count) + 4, f"{count:,}", "end")]
    for place in range(BINS):
        below = 0
        for word, colour in LOOKS.items():
            count = bins[word][place]
            left, width = across(place / BINS), across(1 / BINS) - LEFT
            if count:
                body.append(_rect(left + 1, up(below + count), width - 2, up(below) - up(below + count), colour))
            below += count
    body.append(stroke(LEFT, bottom, right, bottom, "#888888"))
    for tick in steps(0, 1):
        body.append(text(across(tick), bottom + 18, f"{tick:.1f}", "middle"))
    body.append(text(across(0.5), bottom + 38, "score, P(fake)", "middle"))
    if bar is not None:
        for value, dashes in ((bar.threshold, ""), (bar.low, "stroke-dasharray='4 3'")):
            if value <= 1 and (dashes == "" or value < bar.threshold):
                body.append(
                    stroke(across(value), top - 4, across(value), bottom, "#000000", f"stroke-width='2' {dashes}")
                )
        band = f"; dashed: real below {bar.low:.3f}, uncertain between" if bar.low < bar.threshold else ""
        body.append(text(LEFT, bottom + 60, f"line: fake from {bar.threshold:.3f}{band}"))
    return page(WIDTH, bottom + 74, title, body)


def roc(
    curves: Mapping[str, Sequence[Corner]], points: Mapping[str, Sequence[tuple[Interval, Interval]]], title: str
) -> str:
    """Curves where they are known, and points with their intervals, by detector.

    Args:
        curves: corners from (0, 0) to (1, 1); may be empty.
        points: (FPR, TPR), the first at the detector's threshold.
    """
    names = list(points)
    body, at = _square(names, title, "reals called fake (FPR)", "fakes called fake (TPR)")
    for number, name in enumerate(names):
        colour, shape = _look(number)
        if corners := curves.get(name):
            body.append(path([at(corner.fpr, corner.tpr) for corner in corners], number))
        for place, (fpr, tpr) in enumerate(points[name]):
            if not (math.isfinite(fpr.value) and math.isfinite(tpr.value)):
                continue
            for (low, high), along in (((fpr.low, fpr.high), True), ((tpr.low, tpr.high), False)):
                if math.isfinite(low) and math.isfinite(high):
                    ends = [at(end, tpr.value) if along else at(fpr.value, end) for end in (low, high)]
                    body.append(stroke(*ends[0], *ends[1], colour))
            body.append(mark(*at(fpr.value, tpr.value), colour, shape, hollow=place > 0))
    return page(WIDTH, _below(names), title, body)


def reliability(bins: Mapping[str, Sequence[Bin]], title: str) -> str:
    """Of each detector the share of fakes among rows of about equal scores; the diagonal is where both are the same."""
    names = list(bins)
    body, at = _square(names, title, "mean score, P(fake)", "share of fakes")
    for number, found in enumerate(bins.values()):
        colour, shape = _look(number)
        body.append(path([at(each.score, each.fakes.value) for each in found], number))
        for each in found:
            body.append(stroke(*at(each.score, each.fakes.low), *at(each.score, each.fakes.high), colour))
            body.append(mark(*at(each.score, each.fakes.value), colour, shape, hollow=False))
    return page(WIDTH, _below(names), title, body)


def intervals(rows: Sequence[tuple[str, Mapping[str, Interval]]], title: str, words: str) -> str:
    """Names one under another, and of each detector a point with its interval.

    Args:
        rows: (name, by detector); where one is not known it is left out.
        words: what the axis shows, in [0, 1].
    """
    names = list(dict.fromkeys(detector for _, found in rows for detector in found))
    low, high = span(each for _, found in rows for each in found.values())
    several = len(names) > 1
    top = _TOP + (ROW * len(names) if several else 0)
    each, right = max(ROW, 9 * (len(names) + 1)), WIDTH - 24
    bottom = top + each * len(rows)

    def across(value: float) -> float:
        return NAMES + (right - NAMES) * (value - low) / (high - low)

    body = [text(12, 24, title, style="font-size='16' font-weight='bold'"), *(_legend(names) if several else ())]
    for tick in steps(low, high):
        body += [
            stroke(across(tick), top, across(tick), bottom, _GRID),
            text(across(tick), bottom + 17, f"{tick:.2f}", "middle"),
        ]
    body.append(text((NAMES + right) / 2, bottom + 38, words, "middle"))
    for row, (name, found) in enumerate(rows):
        body.append(text(NAMES - 10, top + each * (row + 0.5) + 4, _short(name), "end"))
        body.append(stroke(NAMES, top + each * row, right, top + each * row, _EDGE))
        for number, detector in enumerate(names):
            interval = found.get(detector)
            if interval is None or not math.isfinite(interval.value):
                continue
            colour, shape = _look(number)
            y = top + each * (row + (number + 1) / (len(names) + 1))
            if math.isfinite(interval.low) and math.isfinite(interval.high):
                body.append(stroke(across(interval.low), y, across(interval.high), y, colour))
            body.append(mark(across(interval.value), y, colour, shape, hollow=False))
    if low < 0.5 < high:
        body.append(stroke(across(0.5), top, across(0.5), bottom, "#888888", "stroke-dasharray='4 3'"))
    return page(WIDTH, bottom + 50, title, body)


def _square(names: Sequence[str], title: str, below: str, beside: str) -> tuple[list[str], _At]:
    """Axes from 0 to 1 and the diagonal, under the names of the detectors."""
    at = _At(_TOP + ROW * len(names))
    body = [text(12, 24, title, style="font-size='16' font-weight='bold'"), *_legend(names)]
    for tick in steps(0, 1):
        (x, _), (_, y) = at(tick, 0), at(0, tick)
        body += [stroke(*at(tick, 0), *at(tick, 1), _GRID), stroke(*at(0, tick), *at(1, tick), _GRID)]
        body += [text(x, at.bottom + 18, f"{tick:.1f}", "middle"), text(LEFT - 8, y + 4, f"{tick:.1f}", "end")]
    body += [
        stroke(*at(0, 0), *at(1, 1), "#888888", "stroke-dasharray='4 3'"),
        text(LEFT + SIDE / 2, at.bottom + 38, below, "middle"),
        text(LEFT + SIDE + 12, at.bottom - SIDE + 12, f"up: {beside}"),
    ]
    return body, at


class _At:
    """Where a point of the unit square lies, in px."""

    def __init__(self, top: float) -> None:
        self.bottom = top + SIDE

    def __call__(self, right: float, up: float) -> Point:
        return LEFT + SIDE * right, self.bottom - SIDE * up


def _below(names: Sequence[str]) -> float:
    return _TOP + ROW * len(names) + SIDE + 50


def _legend(names: Sequence[str]) -> list[str]:
    drawn = []
    for number, name in enumerate(names):
        y = _TOP + ROW * number
        drawn += [path([(14, y), (54, y)], number), mark(34, y, *_look(number), hollow=False)]
        drawn.append(text(64, y + 4, _short(name)))
    return drawn


def _look(number: int) -> tuple[str, str]:
    return COLOURS[number % len(COLOURS)], SHAPES[number % len(SHAPES)]


def _rect(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'


def _counts(highest: int) -> list[int]:
    """Round numbers up to a count, 6 of them at most."""
    step = next(base * 10**power for power in range(20) for base in (1, 2, 5) if highest <= 5 * base * 10**power)
    return list(range(0, highest + 1, step))


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
