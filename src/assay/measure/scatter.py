"""A scatter of points by group as SVG: no script, no font file, no address; it opens anywhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from assay.measure.draw import COLOURS, SHAPES, mark, page, text

GROUPS = len(COLOURS) * len(SHAPES)
"""Looks that can be told apart: 7 colours and 4 shapes have no common divisor, so that stepping through both at once
meets every pair."""

OTHERS = "(others)"
SIDE, MARGIN, TOP, LEGEND, ROW = 640, 24, 64, 300, 20
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
        mark(spots[row, 0], spots[row, 1], *look[shown[row]], hollow=bool(outlined[row]))
        for row in np.random.default_rng(0).permutation(len(shown)).tolist()
    ]
    x, y = SIDE + 2 * MARGIN, TOP + MARGIN
    legend = []
    for number, name in enumerate(order):
        legend.append(mark(x, y + ROW * number, *look[name], hollow=False))
        legend.append(text(x + 12, y + ROW * number + 4, f"{_short(name)} (n = {counts[name]})"))
    if outlined.any():
        below = y + ROW * (len(order) + 0.5)
        legend.append(mark(x, below, "#555555", "circle", hollow=True))
        legend.append(text(x + 12, below + 4, f"{hollow_means} (n = {int(outlined.sum())})"))
    width, height = SIDE + 2 * MARGIN + LEGEND, TOP + max(SIDE, ROW * (len(order) + 3)) + MARGIN
    headline = f"{title}, n = {len(groups)}"
    frame = f'<rect x="{MARGIN / 2}" y="{TOP}" width="{SIDE + MARGIN}" height="{SIDE}" fill="none" stroke="#cccccc"/>'
    body = [
        text(MARGIN / 2, 24, headline, style="font-size='16' font-weight='bold'"),
        text(MARGIN / 2, 46, note, style="fill='#555555'"),
        frame,
        "<g>",
        *marks,
        "</g>",
        *legend,
    ]
    return page(width, height, headline, body)


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


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
