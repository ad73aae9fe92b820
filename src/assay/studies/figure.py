"""A study's figure as SVG: no script, no font file, no address; it opens anywhere and stays small.

"points": a line for each arm and head, a dot and its 95 % interval for each condition, published values as open
diamonds. "curve": the conditions of one family (JPEG quality, px) along the axis, a curve for each arm. "parameters":
those of each arm's networks along the axis, a colour for each head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape

from assay.metrics import Interval
from assay.studies import published
from assay.studies.compare import Series
from assay.studies.conditions import CLEAN, WORDS, family_of, number_of
from assay.studies.table import QUICK, Tables

COLOURS = ("#1b6ca8", "#c8553d", "#3a7d44", "#8a5a9e", "#b8860b", "#4a4a4a", "#d1495b", "#00798c")
"""Told apart in print and by most people who see colours differently."""

WIDTH, LEFT, RIGHT, ROW, TOP = 760, 250, 30, 22, 64
PANEL, GAP = 180, 70
NEAR = 60
"""Where the axes begin in a figure without names beside them."""
_STYLE = 'font-family="sans-serif" font-size="12"'


def svg(tables: Tables) -> str:
    """The figure of a study: overall accuracy in percent, with its interval."""
    return {"points": _points, "curve": _curve, "parameters": _parameters}[tables.report.study.figure](tables)


def _points(tables: Tables) -> str:
    study = tables.report.study
    conditions = [condition for condition in study.conditions if condition in WORDS]
    colours = dict(zip(conditions, COLOURS, strict=False))
    lines = [(arm, head) for arm in study.arms for head in study.heads if _any(tables, arm.name, head, conditions)]
    height = TOP + ROW * len(lines) + 56
    body = []
    for number, (arm, head) in enumerate(lines):
        y = TOP + ROW * (number + 0.5)
        body.append(_text(LEFT - 10, y + 4, f"{arm.name} · {head}", "end"))
        for shift, condition in zip(_shifts(len(conditions)), conditions, strict=True):
            mine = tables.figures.get(Series(arm.name, head, condition))
            if mine is not None:
                body.append(_dot(mine["overall"].interval, y + shift, colours[condition]))
            cells = published.of(study.table, arm.paper, head, condition) if study.table and arm.paper else None
            if cells is not None and "overall" in cells.values:
                body.append(_diamond(_x(cells.values["overall"]), y + shift, colours[condition]))
    bottom = TOP + ROW * len(lines)
    axis = [part for value in range(0, 101, 20) for part in _tick(_x(value), bottom, f"{value}")]
    axis.append(_text((LEFT + WIDTH - RIGHT) / 2, bottom + 36, "accuracy at one half, %", "middle"))
    keys = [(colours[condition], WORDS[condition]) for condition in conditions]
    paper = (
        [_diamond(LEFT + 330, 47, "#444444"), _text(LEFT + 340, 51, "paper, on its own pictures")]
        if study.table
        else []
    )
    legend = [part for place, key in enumerate(keys) for part in _key(LEFT + 160 * place, 47, *key)]
    return _page(tables, height, [*legend, *paper, *axis, *body])


def _curve(tables: Tables) -> str:
    study = tables.report.study
    families: dict[str, list[tuple[float, str]]] = {}
    for condition in study.conditions:
        number = number_of(condition)
        if number is not None:
            families.setdefault(family_of(condition), []).append((number, condition))
    lines = [
        (arm.name, head) for arm in study.arms for head in study.heads if _any(tables, arm.name, head, study.conditions)
    ]
    body = []
    for place, (arm, head) in enumerate(lines):
        body += _key(LEFT, 47 + ROW * place, COLOURS[place % len(COLOURS)], f"{arm} · {head}")
    top = TOP + ROW * len(lines)
    for family, marks in families.items():
        body += _panel(tables, lines, family, sorted(marks), top)
        top += PANEL + GAP
    return _page(tables, top, body)


def _panel(
    tables: Tables, lines: Sequence[tuple[str, str]], family: str, marks: Sequence[tuple[float, str]], top: float
) -> list[str]:
    """One family of conditions: a curve for each arm and head, with an upright interval at each number."""
    low, high = marks[0][0], marks[-1][0]

    def across(number: float) -> float:
        return LEFT + 20 + (number - low) / ((high - low) or 1) * (WIDTH - LEFT - RIGHT - 40)

    def up(percent: float) -> float:
        return top + PANEL * (1 - percent / 100)

    body = []
    for percent in (0, 50, 100):
        body.append(_stroke(LEFT, up(percent), WIDTH - RIGHT, up(percent), "#dddddd"))
        body.append(_text(LEFT - 10, up(percent) + 4, f"{percent}", "end"))
    body += [_text(across(number), top + PANEL + 16, f"{number:g}", "middle") for number, _ in marks]
    body.append(_text((LEFT + WIDTH - RIGHT) / 2, top + PANEL + 36, f"{family}: accuracy at one half, %", "middle"))
    for place, (arm, head) in enumerate(lines):
        colour = COLOURS[place % len(COLOURS)]
        points = []
        for number, condition in marks:
            mine = tables.figures.get(Series(arm, head, condition))
            if mine is not None:
                found, x = mine["overall"].interval, across(number)
                points.append(f"{x:.1f},{up(100 * found.value):.1f}")
                body.append(_stroke(x, up(100 * found.low), x, up(100 * found.high), colour))
                body.append(f'<circle cx="{x:.1f}" cy="{up(100 * found.value):.1f}" r="3" fill="{colour}"/>')
        body.append(f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}"/>')
    return body


def _parameters(tables: Tables) -> str:
    """Accuracy without transforms against millions of parameters, on a logarithmic axis."""
    study, results = tables.report.study, tables.report.results
    sizes = {arm.name: results[arm.name][0].cost.parameters / 1e6 for arm in study.arms if results.get(arm.name)}
    heads = [head for head in study.heads if any(_any(tables, arm, head, [CLEAN]) for arm in sizes)]
    body = []
    for place, head in enumerate(heads):
        body += _key(NEAR + 160 * place, 47, COLOURS[place % len(COLOURS)], head)
    bottom = TOP + 2 * PANEL

    def up(percent: float) -> float:
        return bottom - 2 * PANEL * percent / 100

    for percent in range(0, 101, 20):
        body.append(_stroke(NEAR, up(percent), WIDTH - RIGHT, up(percent), "#dddddd"))
        body.append(_text(NEAR - 10, up(percent) + 4, f"{percent}", "end"))
    if not sizes:
        return _page(tables, bottom, body)
    low, high = math.log10(min(sizes.values())), math.log10(max(sizes.values()))
    ends: list[float] = []
    x = -math.inf
    for arm, millions in sorted(sizes.items(), key=lambda item: item[1]):
        share = (math.log10(millions) - low) / ((high - low) or 1)
        # Networks of one size stand side by side.
        x = max(NEAR + 20 + share * (WIDTH - NEAR - RIGHT - 190), x + 6 * len(heads) + 8)
        for shift, colour, head in zip(_shifts(len(heads)), COLOURS, heads, strict=False):
            mine = tables.figures.get(Series(arm, head, CLEAN))
            if mine is not None:
                found = mine["overall"].interval
                body.append(_stroke(x + shift, up(100 * found.low), x + shift, up(100 * found.high), colour))
                body.append(f'<circle cx="{x + shift:.1f}" cy="{up(100 * found.value):.1f}" r="3.5" fill="{colour}"/>')
        # A name goes into the first line where it has room.
        name, ends = f"{arm} · {millions:.1f} M", [*ends, -math.inf]
        row = next(row for row, end in enumerate(ends) if end < x)
        ends[row] = x + 10 + 7 * len(name)
        body.append(_stroke(x, bottom, x, bottom + 6 + 16 * row, "#dddddd"))
        body.append(_text(x, bottom + 16 * (row + 1) + 4, name))
    bottom += 16 * (1 + sum(end > -math.inf for end in ends)) + 20
    told = "accuracy at one half, %, without transforms, against parameters (logarithmic)"
    body.append(_text((NEAR + WIDTH - RIGHT) / 2, bottom, told, "middle"))
    return _page(tables, bottom + 20, body)


def _any(tables: Tables, arm: str, head: str, conditions: Sequence[str]) -> bool:
    return any(Series(arm, head, condition) in tables.figures for condition in conditions)


def _x(percent: float) -> float:
    return LEFT + percent / 100 * (WIDTH - LEFT - RIGHT)


def _shifts(count: int) -> list[float]:
    """Where the marks of one line stand, so that they do not cover each other."""
    return [6.0 * (place - (count - 1) / 2) for place in range(count)]


def _dot(found: Interval, y: float, colour: str) -> str:
    bar = _stroke(_x(100 * found.low), y, _x(100 * found.high), y, colour)
    return f'{bar}<circle cx="{_x(100 * found.value):.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>'


def _diamond(x: float, y: float, colour: str) -> str:
    points = f"{x - 5:.1f},{y:.1f} {x:.1f},{y - 5:.1f} {x + 5:.1f},{y:.1f} {x:.1f},{y + 5:.1f}"
    return f'<polygon points="{points}" fill="none" stroke="{colour}"/>'


def _tick(x: float, bottom: float, label: str) -> list[str]:
    return [_stroke(x, TOP, x, bottom, "#dddddd"), _text(x, bottom + 16, label, "middle")]


def _key(x: float, y: float, colour: str, name: str) -> list[str]:
    return [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>', _text(x + 10, y + 4, name)]


def _stroke(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _text(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _page(tables: Tables, height: float, body: Sequence[str]) -> str:
    report = tables.report
    real, fake = report.tested
    told = f"{report.study.name} · {real} real, {fake} fake · {report.seeds} seeds · bars: 95 % intervals"
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" {_STYLE}>',
        f"<title>{escape(report.study.question)}</title>",
        f'<rect width="{WIDTH}" height="{height:.0f}" fill="white"/>',
        _text(10, 22, QUICK if report.plan.asked.quick else told),
    ]
    return "\n".join([*head, *body, "</svg>"]) + "\n"
