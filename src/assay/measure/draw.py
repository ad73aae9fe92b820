"""What figures are drawn with, as SVG: marks, lines, words and axes. No name can break out of them.

Groups differ by colour, by shape and by dashes, so that a picture is read without colours too. The colours are those of
Okabe and Ito ("Color Universal Design", 2008) that stand out on white.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from xml.sax.saxutils import escape

from assay.judge.sink import printable
from assay.metrics import Interval

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
SHAPES = ("circle", "triangle", "square", "diamond")
DASHES = ("", "7 3", "2 3", "9 3 2 3", "5 5")

_RADIUS = 3.2


def page(width: float, height: float, title: str, body: Sequence[str]) -> str:
    """A whole file: no script, no font file, no address; it opens anywhere."""
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'role="img" font-family="sans-serif" font-size="12">',
        f"<title>{_escaped(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    return "\n".join([*head, *body, "</svg>"]) + "\n"


def mark(x: float, y: float, colour: str, shape: str, *, hollow: bool) -> str:
    """A point in one of `SHAPES`, filled or as an outline."""
    paint = f'fill="none" stroke="{colour}" stroke-width="1.3"' if hollow else f'fill="{colour}" fill-opacity="0.7"'
    return _DRAWN[shape](x, y, paint)


def stroke(x1: float, y1: float, x2: float, y2: float, colour: str, style: str = "") -> str:
    """A straight line."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" {style}/>'


def path(corners: Iterable[tuple[float, float]], number: int) -> str:
    """A line through points, in the colour and the dashes of the group of that number."""
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
    dashes = DASHES[number % len(DASHES)]
    style = f' stroke-dasharray="{dashes}"' if dashes else ""
    colour = COLOURS[number % len(COLOURS)]
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"{style}/>'


def text(x: float, y: float, words: str, anchor: str = "start", style: str = "") -> str:
    """Words whose start, middle or end is at a point."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {style}>{_escaped(words)}</text>'


def span(found: Iterable[Interval]) -> tuple[float, float]:
    """The ends of an axis within [0, 1]: what holds every value and interval, in steps of 0.05."""
    known = [each for each in found if math.isfinite(each.value)]
    ends = [end for each in known for end in (each.value, each.low, each.high) if math.isfinite(end)] or [0.5, 1.0]
    low, high = math.floor(min(ends) * 20 - 0.2) / 20, math.ceil(max(ends) * 20) / 20
    low = max(0.0, low)
    return low, min(1.0, max(high, low + 0.05))


def steps(low: float, high: float) -> list[float]:
    """Round numbers between the ends of an axis at most 1.2 long, 7 of them at most."""
    step = next(step for step in (0.01, 0.02, 0.05, 0.1, 0.2) if (high - low) / step <= 6)
    return [step * number for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _circle(x: float, y: float, paint: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{_RADIUS}" {paint}/>'


def _polygon(*corners: tuple[float, float]) -> Callable[[float, float, str], str]:
    def draw(x: float, y: float, paint: str) -> str:
        at = " ".join(f"{x + _RADIUS * right:.1f},{y + _RADIUS * down:.1f}" for right, down in corners)
        return f'<polygon points="{at}" {paint}/>'

    return draw


# Of about one area.
_DRAWN: dict[str, Callable[[float, float, str], str]] = {
    "circle": _circle,
    "triangle": _polygon((0, -1.4), (1.3, 0.9), (-1.3, 0.9)),
    "square": _polygon((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    "diamond": _polygon((0, -1.35), (1.35, 0), (0, 1.35), (-1.35, 0)),
}


def _escaped(words: str) -> str:
    """Text that XML may hold: it has no place for control characters and halves of surrogate pairs."""
    return escape(printable(words))
