"""How a stream sees a picture: which regions, at what size, normalised how.

Written once and used in both wings: training draws its own crops, but everything that is fitted, calibrated, measured
or judged after the network is trained goes through `View.crops` and `View.tensor`. The layouts "centre" and "grid"
never rescale: the traces that detectors live on do not survive resampling (CoDE's release crops 224 px from the centre
for the same reason). The layouts "whole" and "faces" do, as drift's streams (arXiv 2604.25889) are shown a picture or a
face whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
import pydantic
from PIL import Image

from assay.image.cut import cut
from assay.image.faces import MARGIN, Face, crop_box, share
from assay.types import Box, Pixels

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class View(pydantic.BaseModel):
    """Square crops, at native resolution or of the whole.

    Args:
        size: side of a crop in pixels.
        layout: "centre" takes one crop from the middle. "grid" spreads crops evenly over the picture, one for about
            every `size` pixels along each axis and at most `across` an axis; the first and last touch the edges.
            "whole" is the picture resized, its sides' ratio given up. "faces" is each face, cropped as a square and
            resized.
        across: most crops along one axis of a grid.
        minimum: pictures whose shorter side, and faces whose square's side, is below this do not apply: so little of
            them is left that a verdict would rest on the mirrored border, or on what resizing made up. Between
            `minimum` and `size` a crop's picture is mirrored at its edges.
        mean, std: per channel, of samples scaled to [0, 1].
        margin: side of a face's square over its box's longer side (drift: 1.3).
        least: share of the picture's area that a face's box must cover (drift: 1/9 where `fallback` holds).
        fallback: the picture stands in for its faces where it has none to show (drift); else the view does not apply.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    size: int = pydantic.Field(224, ge=8, le=2048)
    layout: Literal["centre", "grid", "whole", "faces"] = "centre"
    across: int = pydantic.Field(3, ge=1, le=16)
    minimum: int = pydantic.Field(32, ge=1)
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    margin: float = pydantic.Field(MARGIN, ge=1, le=4)
    least: float = pydantic.Field(0.0, ge=0, le=1)
    fallback: bool = False

    @property
    def resized(self) -> bool:
        """Whether crops are resized to `size`, so that one shows all there is."""
        return self.layout in ("whole", "faces")

    def of_region(self) -> Self:
        """The view of a region that was cut from a picture for this one: its middle, or all of a face or picture."""
        return self.model_copy(update={"layout": "whole" if self.resized else "centre"})

    def why_not(self, width: int, height: int, faces: Sequence[Face] = ()) -> str:
        """Why this view does not apply to a picture of that size with those faces; empty where it does."""
        if min(width, height) < self.minimum:
            return f"the picture is {width} x {height} px; this detector needs {self.minimum} px on the shorter side"
        if self.boxes(width, height, faces):
            return ""
        if not faces:
            return "no face found"
        largest = max(faces, key=lambda face: face.area)
        covered = share(largest, width, height)
        if covered < self.least:
            return f"the largest face covers {covered:.1%} of the picture; this stream needs {self.least:.1%}"
        side = crop_box(largest, self.margin).width
        return f"the largest face is seen in {side} px; this stream needs {self.minimum} px"

    def boxes(self, width: int, height: int, faces: Sequence[Face] = ()) -> tuple[Box, ...]:
        """Where the crops lie: row by row, or face by face. A box may reach beyond the picture: that part is
        mirrored."""
        if self.layout == "whole":
            return (Box(0, 0, width, height),)
        if self.layout == "faces":
            large = [face for face in faces if share(face, width, height) >= self.least]
            squares = [box for box in (crop_box(face, self.margin) for face in large) if box.width >= self.minimum]
            return tuple(squares or [Box(0, 0, width, height)] * self.fallback)
        xs, ys = self._starts(width), self._starts(height)
        return tuple(Box(x, y, x + self.size, y + self.size) for y in ys for x in xs)

    def needed(self, width: int, height: int) -> tuple[Box, ...] | None:
        """What `crops` reads of a picture of that size: boxes inside it; None for all of it. Where faces are is not
        known before they are looked for, which takes all of it too."""
        if self.resized:
            return None
        # A box reaches beyond the picture only on an axis that is shorter than itself, and then shows all of that axis.
        return tuple(
            Box(max(0, box.left), max(0, box.top), min(width, box.right), min(height, box.bottom))
            for box in self.boxes(width, height)
        )

    def _starts(self, extent: int) -> list[int]:
        slack = extent - self.size
        count = 1 if self.layout == "centre" else min(self.across, max(1, round(extent / self.size)))
        if count == 1:
            return [slack // 2]
        return [round(slack * i / (count - 1)) for i in range(count)]

    def crops(self, pixels: Pixels, faces: Sequence[Face] = ()) -> Pixels:
        """Crops of one picture.

        Args:
            pixels: (height, width, 3) uint8, at least one pixel.
            faces: of this picture; only the layout "faces" looks at them.

        Returns:
            (n, size, size, 3) uint8, in the order of `boxes`; n is 0 where the layout "faces" has none to show.
        """
        height, width = pixels.shape[:2]
        shown = [self.fitted(cut(pixels, box)) for box in self.boxes(width, height, faces)]
        return np.stack(shown) if shown else np.empty((0, self.size, self.size, 3), np.uint8)

    def fitted(self, pixels: Pixels) -> Pixels:
        """A region as the network gets it: resized (bicubic, antialiased) where it is not `size` px a side."""
        if pixels.shape[:2] == (self.size, self.size):
            return pixels
        return np.asarray(Image.fromarray(pixels).resize((self.size, self.size), Image.Resampling.BICUBIC))

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
