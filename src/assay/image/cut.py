"""Cutting a rectangle out of a picture, also where it reaches beyond it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from assay.types import Box, Pixels


def cut(pixels: Pixels, box: Box) -> Pixels:
    """The pixels inside a box; where it reaches beyond the picture, the picture mirrored at its edges.

    Args:
        pixels: (height, width, channels), at least one pixel.

    Returns:
        (box.height, box.width, channels), a copy.
    """
    height, width = pixels.shape[:2]
    if box.left >= 0 and box.top >= 0 and box.right <= width and box.bottom <= height:
        return pixels[box.top : box.bottom, box.left : box.right].copy()
    rows = _mirrored(box.top, box.bottom, height)
    columns = _mirrored(box.left, box.right, width)
    return pixels[np.ix_(rows, columns)]


def _mirrored(start: int, stop: int, extent: int) -> npt.NDArray[np.intp]:
    """Indices start … stop-1 folded back into [0, extent) without repeating the edge sample (…2 1 0 1 2…)."""
    if extent == 1:
        return np.zeros(stop - start, np.intp)
    period = 2 * (extent - 1)
    index = np.arange(start, stop) % period
    return np.where(index < extent, index, period - index).astype(np.intp)
