"""A scatter of points by group as SVG: no script, no font file, no address; it opens anywhere.

Groups differ by colour and by shape, so that the picture is read without colours too. The colours are those of Okabe
and Ito ("Color Universal Design", 2008) that stand out on white.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from xml.sax.saxutils import escape

import numpy as np
import numpy.typing as npt

from assay.judge.sink import printable

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
SHAPES = ("circle", "triangle", "square", "diamond")
GROUPS = len(COLOURS) * len(SHAPES)
"""Looks that can be told apart: 7 colours and 4 shapes have no common divisor, so that stepping through both at once
meets every pair."""

OTHERS = "(others)"
SIDE, MARGIN, TOP, LEGEND, ROW = 640, 24, 64, 300, 20
_RADIUS = 3.2
_LONGEST = 32


def svg(
    points: npt.ArrayLike,
    groups: Sequence[str],
    *,
    title: str,
    note: str = "",
    hollow: Sequence[bool] | npt.NDArray[np.bool_] | None = None,
    hollow_means: str = "",
    first: Sequence[str] = (),
) -> str:
    """Draw points.

    Args:
        points: (n, 2), finite. Both axes have one scale.
        groups: of each point. With more than `GROUPS` of them the smallest are drawn as one, `OTHERS`.
        title: n is added to it.
        note: a line under it.
        hollow: points that are drawn as outlines, (n,).
        hollow_means: what these are, for the legend.
        first: groups that come first in the legend and have the first looks; the others follow by size.

    Returns:
        The text of an SVG file. Names that hold control characters are shown escaped.

    Raises:
        ValueError: shapes differ, or a point is not finite.
    """
    places = np.asarray(points, np.float64)
    if places.shape != (len(groups), 2) or not np.isfinite(places).all():
        raise ValueError(f"{len(groups)} groups need finite points of shape ({len(groups)}, 2), not {places.shape}")
    outlined = np.zeros(len(groups), np.bool_) if hollow is None else np.asarray(hollow, np.bool_)
    if outlined.shape != (len(groups),):
        raise ValueError(f"{outlined.shape} marks of hollow points for {len(groups)} points")
    order, shown = _named(groups, first)
    look = {name: (COLOURS[i % len(COLOURS)], SHAPES[i % len(SHAPES)]) for i, name in enumerate(order)}
    counts = Counter(shown)
    spots = _spots(places)
    # In a shuffled order, so that no group lies on top of the others.
    marks = [
        _mark(spots[row, 0], spots[row, 1], *look[shown[row]], hollow=bool(outlined[row]))
        for row in np.random.default_rng(0).permutation(len(shown)).tolist()
    ]
    x, y = SIDE + 2 * MARGIN, TOP + MARGIN
    legend = []
    for number, name in enumerate(order):
        legend.append(_mark(x, y + ROW * number, *look[name], hollow=False))
        legend.append(_text(x + 12, y + ROW * number + 4, f"{_short(name)} (n = {counts[name]})"))
    if outlined.any():
        below = y + ROW * (len(order) + 0.5)
        legend.append(_mark(x, below, "#555555", "circle", hollow=True))
        legend.append(_text(x + 12, below + 4, f"{hollow_means} (n = {int(outlined.sum())})"))
    width, height = SIDE + 2 * MARGIN + LEGEND, TOP + max(SIDE, ROW * (len(order) + 3)) + MARGIN
    headline = f"{title}, n = {len(groups)}"
    frame = f'<rect x="{MARGIN / 2}" y="{TOP}" width="{SIDE + MARGIN}" height="{SIDE}" fill="none" stroke="#cccccc"/>'
    body = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'role="img" font-family="sans-serif" font-size="12">',
        f"<title>{_escaped(headline)}</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        _text(MARGIN / 2, 24, headline, "font-size='16' font-weight='bold'"),
        _text(MARGIN / 2, 46, note, "fill='#555555'"),
        frame,
        "<g>",
        *marks,
        "</g>",
        *legend,
        "</svg>",
    ]
    return "\n".join(body) + "\n"


def _named(groups: Sequence[str], first: Sequence[str]) -> tuple[list[str], list[str]]:
    """The groups of the legend in order, and the one that each point is drawn as."""
    counts = Counter(groups)
    order = [name for name in first if name in counts]
    order += sorted(set(counts) - set(order), key=lambda name: (-counts[name], name))
    if len(order) <= GROUPS:
        return order, list(groups)
    kept = order[: GROUPS - 1]
    inside = set(kept)
    return [*kept, OTHERS], [name if name in inside else OTHERS for name in groups]


def _spots(places: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Points in px of the page, in the middle of the frame."""
    if not len(places):
        return places
    low, high = places.min(axis=0), places.max(axis=0)
    scale = (SIDE - 2 * MARGIN) / (float((high - low).max()) or 1.0)
    centre = np.array([MARGIN + SIDE / 2, TOP + SIDE / 2])
    # Pixels count downwards.
    return np.asarray(centre + (places - (low + high) / 2) * scale * (1, -1), np.float64)


def _mark(x: float, y: float, colour: str, shape: str, *, hollow: bool) -> str:
    paint = f'fill="none" stroke="{colour}" stroke-width="1.3"' if hollow else f'fill="{colour}" fill-opacity="0.7"'
    return _DRAWN[shape](x, y, paint)


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


def _text(x: float, y: float, text: str, style: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{_escaped(text)}</text>'


def _escaped(text: str) -> str:
    """Text that XML may hold: it has no place for control characters and halves of surrogate pairs."""
    return escape(printable(text))


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
