"""Copies of real pictures that were resampled and nothing else: fakes that bear the trace of interpolation alone.

A generator's decoder doubles its size several times over, and what that leaves among neighbouring pixels resembles
what resizing a photograph leaves. Whether training on the latter helps to find the former is a question to ask, not a
fact: photographs are resized every day, and a detector that calls all of them fake is of no use. Hence a generator and
a group of their own for these copies: leave them out, or measure them apart.

A copy has its original's size, split, origin and format, and where it is a JPEG its tables
(`assay.data.derivations.augment.like`).
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from PIL import Image

from assay.data.derivations import Derivation, Outcome, Piece, Source, passed_over
from assay.data.derivations.augment import like
from assay.data.table import Table
from assay.errors import RecipeError
from assay.image.cut import cut
from assay.types import Box, Pixels, Sample

GROUP = "resampled"

GENERATOR = "resampled"

KERNELS = (
    Image.Resampling.NEAREST,
    Image.Resampling.BILINEAR,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
    Image.Resampling.BOX,
)
"""Equally likely; the way down and the way up take two different ones."""

_TURNING = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)


@dataclasses.dataclass(frozen=True)
class Chain:
    """What is done to one picture, in order.

    Args:
        degrees: turned by so much anticlockwise, mirrored where the corners come in; 0 turns nothing.
        turning: by which kernel.
        factor: of both sides on the way down, in (0, 1].
        down, up: kernels of the two ways.
        stages: on the way up; two go by way of the geometric mean of both sizes.
    """

    degrees: float
    turning: Image.Resampling
    factor: float
    down: Image.Resampling
    up: Image.Resampling
    stages: int

    def apply(self, pixels: Pixels) -> Pixels:
        """The resampled picture: uint8 (height, width, 3) in and out, the same shape, a new array."""
        height, width = pixels.shape[:2]
        image = Image.fromarray(_turned(pixels, self.degrees, self.turning) if self.degrees else pixels)
        image = image.resize(_scaled(width, height, self.factor), self.down)
        for stage in range(1, self.stages):
            image = image.resize(_scaled(width, height, self.factor ** (1 - stage / self.stages)), self.up)
        return np.array(image.resize((width, height), self.up))


@dataclasses.dataclass(frozen=True)
class Resampled(Derivation):
    """All rows of the source, and of some real training rows a copy that went down in size and up again.

    Args:
        share: of the n real training rows, in [0, 1]: just round(share × n) of them, chosen by content.
        factor: bounds of the factor on the way down, each in (0, 1]; uniform between them.
        turned: with this chance a copy is turned too.
        degrees: by at most so much, to either side; below 45.
        twice: with this chance a copy comes up in two stages.

    Raises:
        RecipeError: a number that does not hold.
    """

    name = "resample"
    summary = "all rows, and resampled copies of real training pictures: fakes by interpolation alone"

    share: float = 0.5
    factor: tuple[float, float] = (0.25, 0.9)
    turned: float = 0.25
    degrees: float = 0.9
    twice: float = 0.25

    def __post_init__(self) -> None:
        for name in ("share", "turned", "twice"):
            if not 0 <= getattr(self, name) <= 1:
                raise RecipeError(f"{name} {getattr(self, name)} does not hold; give 0 to 1")
        if not 0 < self.factor[0] <= self.factor[1] <= 1:
            raise RecipeError(f"factor {self.factor} does not hold; give (low, high) within (0, 1]")
        if not 0 < self.degrees < 45:
            raise RecipeError(f"degrees {self.degrees} does not hold; give more than 0 and less than 45")

    @property
    def drawn(self) -> float:
        return self.share

    def unread(self, sample: Sample) -> Outcome | None:
        return passed_over(sample, GROUP)

    def derive(self, source: Source, rng: np.random.Generator) -> Outcome:
        if not source.drawn:
            return Outcome(keep={GROUP: "0"})
        pixels = source.still()
        resampled = self.draw(rng).apply(pixels)
        if np.array_equal(resampled, pixels):
            return Outcome(keep={GROUP: "0"})
        data, suffix = like(source.data, source.picture, resampled)
        return Outcome((Piece(data, suffix, GENERATOR, groups={GROUP: "1"}),), keep={GROUP: "0"})

    def draw(self, rng: np.random.Generator) -> Chain:
        """What is done to one picture. Always as many draws, so that one parameter does not change what others give."""
        turns, comes_twice = rng.random(2) < (self.turned, self.twice)
        degrees, turning = float(rng.uniform(-self.degrees, self.degrees)), _TURNING[int(rng.integers(2))]
        factor = float(rng.uniform(*self.factor))
        down, up = (KERNELS[index] for index in rng.permutation(len(KERNELS))[:2].tolist())
        return Chain(degrees if turns else 0.0, turning, factor, down, up, 2 if comes_twice else 1)

    def tally(self, rows: Table) -> dict[str, int]:
        return {"resampled copies": int((rows.column(GROUP) == "1").sum())}


def _scaled(width: int, height: int, factor: float) -> tuple[int, int]:
    return max(1, round(width * factor)), max(1, round(height * factor))


def _turned(pixels: Pixels, degrees: float, kernel: Image.Resampling) -> Pixels:
    """Of the same shape: turned with a mirrored border as wide as the corners need, which is cut off again."""
    height, width = pixels.shape[:2]
    border = math.ceil(max(height, width) * abs(math.sin(math.radians(degrees)))) + 2
    wide = Image.fromarray(cut(pixels, Box(-border, -border, width + border, height + border)))
    turned = np.asarray(wide.rotate(degrees, kernel))
    return turned[border : border + height, border : border + width]


DERIVATION = Resampled
