"""Alignment on disk: both classes cut to one size and saved once by one draw of codecs.

Afterwards neither format nor size, shape, quality or metadata tells the classes apart. Every file is the encoder's own
output: its pixels were saved once more, not decoded and saved again. What this cannot take away:

- *Bytes per pixel* still follows the content: a smooth picture takes fewer bytes at the same quality, and a photograph
  of 12 megapixels is smoother, pixel by pixel, than one of 200 × 200 px.
- A class that was saved lossily before carries that first saving beneath the new one. The place of the cut is random,
  so its 8 × 8 grid lies anywhere; it is weaker, and not gone.

Ours throughout. CoDE (arXiv 2407.20337, the paper's data set D3) draws its fakes' aspect ratios and encodings to match
those of its reals; here both classes take the same draw, for collections that were not made so.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from PIL import Image

from assay.data.derivations import SUFFIXES, Derivation, Outcome, Piece, Source
from assay.errors import RecipeError
from assay.image.align import Align, Alignment, encode
from assay.types import Pixels

ALWAYS = Align(probability=1.0, scale_probability=0.0)
"""Every picture saved once, at the resolution that it has."""


@dataclasses.dataclass(frozen=True)
class Aligned(Derivation):
    """Both classes through the same size, codec and quality.

    Where sizes differ by class, a random scale leaves them different; so every picture gives one square window of
    `side` px, cut at a random place. What is done never depends on how large a picture is: one that cannot hold the
    largest window of the draw is left out and counted, as enlarging it, mirroring its edges or scaling it less than
    others would mark it.

    Args:
        draw: of codec, quality and scale. By default it does not scale. Where it does, the window is cut so much larger
            or smaller and resampled to `side` once, and pictures must hold `side` / lowest scale. A picture that it
            does not align (a probability below 1) is cut all the same and stored as PNG.
        side: of the window in px; 256 leaves the 224 px that the four systems see room to move. None keeps each
            picture's own size and shape, scaled as drawn: right only where both classes come in the same sizes.

    Raises:
        RecipeError: `side` is below 16.
    """

    name = "align"
    summary = "both classes through one size, codec and quality, so that the file tells nothing"

    draw: Align = ALWAYS
    side: int | None = 256

    def __post_init__(self) -> None:
        if self.side is not None and self.side < 16:
            raise RecipeError(f"side {self.side} px does not hold; give 16 or more, or None to keep every size")

    @property
    def least(self) -> int:
        """What the shorter side of a picture must have, in px, to be cut; 1 where nothing is cut."""
        if self.side is None:
            return 1
        scales = self.draw.probability > 0 and self.draw.scale_probability > 0
        return max(self.side, round(self.side / self.draw.scale[0])) if scales else self.side

    def derive(self, source: Source, rng: np.random.Generator) -> Outcome:
        pixels = source.still()
        alignment = self.draw.draw(rng)
        across, down = rng.random(2)
        if self.side is None:
            pixels = dataclasses.replace(alignment, codec=None).apply(pixels, self.draw.minimum)
        elif min(pixels.shape[:2]) < self.least:
            return Outcome(reason=f"its shorter side is below {self.least} px; a smaller side would keep it")
        else:
            pixels = window(pixels, self.side, alignment, across, down)
        codec = alignment.codec or "PNG"
        data = encode(pixels, codec, alignment.quality, subsampling=alignment.subsampling, method=alignment.method)
        return Outcome((Piece(data, SUFFIXES[codec]),))


def window(pixels: Pixels, side: int, alignment: Alignment, across: float, down: float) -> Pixels:
    """A square of `side` px, scaled as drawn.

    Args:
        pixels: (height, width, 3), both sides at least `side` / scale.
        side: in px.
        alignment: its scale and filter.
        across, down: place of the window in [0, 1), from its leftmost (topmost) to its rightmost (lowest).

    Returns:
        (side, side, 3), a copy. Without a scale these are the picture's own pixels.
    """
    height, width = pixels.shape[:2]
    extent = side if alignment.scale is None else round(side / alignment.scale)
    left, top = int(across * (width - extent + 1)), int(down * (height - extent + 1))
    cut = pixels[top : top + extent, left : left + extent]
    if extent == side:
        return cut.copy()
    return np.array(Image.fromarray(cut).resize((side, side), alignment.filter))


DERIVATION = Aligned
