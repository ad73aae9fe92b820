"""How a stream sees a picture: which regions, at what size, normalised how.

Written once and used in both wings: training draws its own crops, but everything that is fitted, calibrated, measured
or judged after the network is trained goes through `View.crops` and `View.tensor`. A view never rescales: the traces
that detectors live on do not survive resampling (CoDE's release crops 224 px from the centre for the same reason).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import pydantic

from assay.types import Box, Pixels

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class View(pydantic.BaseModel):
    """Square crops at native resolution.

    Args:
        size: side of a crop in pixels.
        layout: "centre" takes one crop from the middle. "grid" spreads crops evenly over the picture, one for about
            every `size` pixels along each axis and at most `across` an axis; the first and last touch the edges.
        across: most crops along one axis of a grid.
        minimum: pictures whose shorter side is below this do not apply: so little of them is left that a verdict
            would rest on the mirrored border. Between `minimum` and `size` the picture is mirrored at its edges.
        mean, std: per channel, of samples scaled to [0, 1].
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    size: int = pydantic.Field(224, ge=8, le=2048)
    layout: Literal["centre", "grid"] = "centre"
    across: int = pydantic.Field(3, ge=1, le=16)
    minimum: int = pydantic.Field(32, ge=1)
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def why_not(self, width: int, height: int) -> str:
        """Why this view does not apply to a picture of that size; empty where it does."""
        if min(width, height) < self.minimum:
            return f"the picture is {width} x {height} px; this detector needs {self.minimum} px on the shorter side"
        return ""

    def boxes(self, width: int, height: int) -> tuple[Box, ...]:
        """Where the crops lie, row by row. A box may reach beyond a small picture: that part is mirrored."""
        xs, ys = self._starts(width), self._starts(height)
        return tuple(Box(x, y, x + self.size, y + self.size) for y in ys for x in xs)

    def _starts(self, extent: int) -> list[int]:
        slack = extent - self.size
        count = 1 if self.layout == "centre" else min(self.across, max(1, round(extent / self.size)))
        if count == 1:
            return [slack // 2]
        return [round(slack * i / (count - 1)) for i in range(count)]

    def crops(self, pixels: Pixels) -> Pixels:
        """Crops of one picture.

        Args:
            pixels: (height, width, 3) uint8, at least one pixel.

        Returns:
            (n, size, size, 3) uint8, in the order of `boxes`.
        """
        height, width = pixels.shape[:2]
        return np.stack([cut(pixels, box) for box in self.boxes(width, height)])

    def tensor(self, crops: Pixels) -> npt.NDArray[np.float32]:
        """(n, size, size, 3) uint8 to what the network takes: (n, 3, size, size) float32, normalised."""
        std = np.asarray(self.std, np.float32)
        scale = np.asarray(1 / (255 * std), np.float32)
        shift = np.asarray(np.asarray(self.mean, np.float32) / std, np.float32)
        # Made contiguous as bytes: doing it as floats, here or in the runtime, takes several times as long.
        batch = np.ascontiguousarray(crops.transpose(0, 3, 1, 2)).astype(np.float32)
        batch *= scale[:, None, None]
        batch -= shift[:, None, None]
        return batch


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
