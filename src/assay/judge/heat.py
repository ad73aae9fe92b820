"""Heat over a picture: a map as colours, laid over the pixels it speaks of.

The colour map is ours: eight anchors from night blue over red to pale yellow, each lighter than the one before, so that
more is lighter in grey print and to eyes that tell no red from green. The picture beneath is grey: colour is heat and
nothing else. What the detector was not shown is dim.
"""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from assay.types import Pixels

ANCHORS = (
    (12, 8, 56),
    (58, 15, 105),
    (112, 26, 116),
    (163, 42, 101),
    (208, 66, 71),
    (236, 109, 36),
    (248, 168, 34),
    (252, 238, 150),
)
"""sRGB of the values 0, 1/7, …, 1."""

STRENGTH = 0.75
"""Opacity of the colour of value 1."""

DIM = 0.6
"""Opacity of the shadow over what was not seen."""

LONGEST = 2048
"""Longer side in px of pictures that are drawn; larger ones are shrunk."""


def colours(values: npt.NDArray[np.float32]) -> Pixels:
    """The colour of values in [0, 1], (...) to (..., 3) uint8; what lies beyond is taken as 0 or 1."""
    # A table, as interpolating three channels of millions of pixels takes seconds.
    steps = np.linspace(0, 1, len(ANCHORS))
    table = np.stack([np.interp(np.linspace(0, 1, 256), steps, channel) for channel in np.transpose(ANCHORS)], axis=-1)
    places = np.rint(255 * np.clip(values, 0, 1)).astype(np.intp)
    return np.asarray(np.rint(table).astype(np.uint8)[places])


def overlay(
    pixels: Pixels, map: npt.NDArray[np.float32], seen: npt.NDArray[np.bool_], strength: float = STRENGTH
) -> Pixels:
    """A picture under a map: the higher the value, the less of the picture shows.

    Args:
        pixels: (height, width, 3) uint8.
        map: (height, width) in [0, 1].
        seen: (height, width), which pixels the detector was shown.
        strength: opacity of the value 1, in [0, 1].

    Returns:
        (h, w, 3) uint8, the longer side at most `LONGEST`.
    """
    values, shown = _shrunk(map, LONGEST)[..., None], _shrunk(seen.astype(np.float32), LONGEST)[..., None] >= 0.5
    ground = grey(pixels, LONGEST)[..., None].astype(np.float32)
    alpha = strength * np.clip(values, 0, 1)
    mixed = ground * (1 - alpha) + colours(values[..., 0]) * alpha
    return np.rint(np.where(shown, mixed, ground * (1 - DIM))).astype(np.uint8)


def layer(map: npt.NDArray[np.float32], longest: int, *, even: bool = False) -> npt.NDArray[np.uint8]:
    """A map by itself, (h, w, 4) uint8, to lay over a picture; NaN is a shadow.

    Args:
        map: (height, width) in [0, 1].
        longest: px of the longer side at most.
        even: opaque whatever the value; else the opacity is the value.
    """
    values = _shrunk(np.nan_to_num(map), longest)
    shown = _shrunk((~np.isnan(map)).astype(np.float32), longest) >= 0.5
    alpha = np.where(shown, 1.0 if even else np.clip(values, 0, 1), DIM)
    drawn = np.where(shown[..., None], colours(values), 0)
    return np.dstack([drawn, np.rint(255 * alpha)]).astype(np.uint8)


def grey(pixels: Pixels, longest: int) -> npt.NDArray[np.uint8]:
    """A picture in grey, (h, w) uint8, its longer side at most `longest` px."""
    height, width = pixels.shape[:2]
    size = _fitted(width, height, longest)
    image = Image.fromarray(pixels).convert("L")
    return np.asarray(image if image.size == size else image.resize(size, Image.Resampling.BOX))


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """A PNG file of (height, width) grey, (height, width, 3) or, with opacity, (height, width, 4) uint8."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _shrunk(map: npt.NDArray[np.float32], longest: int) -> npt.NDArray[np.float32]:
    height, width = map.shape
    size = _fitted(width, height, longest)
    if size == (width, height):
        return map
    return np.asarray(Image.fromarray(map.astype(np.float32)).resize(size, Image.Resampling.BOX))


def _fitted(width: int, height: int, longest: int) -> tuple[int, int]:
    scale = min(1.0, longest / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))
