"""How often small differences of colour and texture stand beside each other, counted in whole numbers.

Pixels are whole, and so are the weights and steps here: no processor, runtime or order of adding can round a difference
to another step, and what is counted is the same everywhere. `assay.learn.nn.cooccurrence` counts the same as a network,
place by place; this is for judging, where the counts of a whole crop are all that is wanted.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt
import pydantic

from assay.image.view import IMAGENET_MEAN, IMAGENET_STD
from assay.types import Pixels

LEVELS = 5
"""A residual is one of these many: -2 to 2 steps, what is beyond them counted as 2."""

LUMA_UNITS, COLOUR_UNITS = 16, 64
"""Of luma and of the colour differences to one level of 0–255."""

MIX = ((5, 9, 2), (-11, -21, 32), (32, -27, -5))
"""Red, green and blue to luma, Cb and Cr, in these units: BT.601's weights to whole numbers. All that is made of them
fits into 16 bits."""


_AT_ONCE = 4
"""Crops that are counted together: calls enough for Python not to matter, in memory that caches hold."""


class Runs(pydantic.BaseModel):
    """Runs of four neighbouring residuals that are counted.

    - Of Cb and Cr: first differences, in steps of `colour`; runs in the direction of the difference, and runs at right
      angles to it. 4 × 169 numbers.
    - Of luma: the residual "square 3 × 3", in steps of `luma`; runs along rows and columns together. 169 numbers.

    Residuals are rounded to -2 … 2 steps, halves to the even one, and counted is how often each of the 5⁴ runs of four
    comes up; a run, its mirror image and its negative are one (`classes`). The square root of each share makes the
    embedding (Hellinger). Source: the spatial rich model (Fridrich and Kodovský, IEEE TIFS 2012), of which these are a
    few submodels; that colour differences tell generated faces by such counts: Li et al., "Identification of deep
    network generated images using disparities in color components", Signal Processing 2020. Steps and the choice of
    submodels are *ours*.

    Args:
        colour, luma: steps of rounding, in levels of 0–255, multiples of 1/64 and of 1/16; 0 leaves these runs out.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    colour: float = pydantic.Field(0.5, ge=0, le=64, multiple_of=1 / COLOUR_UNITS)
    luma: float = pydantic.Field(4.0, ge=0, le=255, multiple_of=1 / LUMA_UNITS)

    @property
    def width(self) -> int:
        """Length of the embedding."""
        return len(members()) * (4 * bool(self.colour) + bool(self.luma))

    @property
    def steps(self) -> tuple[int, int]:
        """Of the colour differences and of luma, in their units."""
        return round(self.colour * COLOUR_UNITS), round(self.luma * LUMA_UNITS)

    def count(self, crops: Pixels) -> npt.NDArray[np.int64]:
        """How often each run comes up in crops (n, h, w, 3) uint8 of at least 6 px a side: (n, sets of runs, 625), the
        first level of a run the most significant digit to base 5. The sets are Cb's along and across its differences,
        Cr's, and luma's."""
        parts = [crops[start : start + _AT_ONCE] for start in range(0, len(crops), _AT_ONCE)]
        return np.concatenate([self._counted(part.transpose(3, 0, 1, 2).astype(np.int16, "C")) for part in parts])

    def embedding(self, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Counts (n, sets of runs, 625) to embeddings (n, width)."""
        # A last column of nothing, for classes of fewer members than others.
        merged = np.pad(counts, ((0, 0), (0, 0), (0, 1)))[..., members()].sum(-1).astype(np.float32)
        merged /= counts.sum(-1, keepdims=True).astype(np.float32)
        embedding: npt.NDArray[np.float32] = np.sqrt(merged.reshape(len(counts), -1))
        return embedding

    def _counted(self, planes: npt.NDArray[np.int16]) -> npt.NDArray[np.int64]:
        """Of crops' red, green and blue, (3, n, h, w)."""
        colour, luma = self.steps
        found = []
        for weights in MIX[1:] if colour else ():
            plane = _mixed(planes, weights)
            across = _levels(plane[..., 1:] - plane[..., :-1], colour)
            down = _levels(plane[:, 1:] - plane[:, :-1], colour)
            found += [_runs(across, down), _runs(down, across)]
        if luma:
            residual = _levels(_square(_mixed(planes, MIX[0])), luma)
            found.append(_runs(residual, residual))
        return np.stack(found, 1)


def pixels(views: npt.NDArray[np.float32]) -> Pixels:
    """Crops (n, h, w, 3) of views (n, 3, h, w) that a `View` normalised as it does unless it is told otherwise."""
    scale, shift = (255 * np.asarray(each, np.float32)[:, None, None] for each in (IMAGENET_STD, IMAGENET_MEAN))
    whole = np.clip(np.rint(views * scale + shift), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(whole.transpose(0, 2, 3, 1))


def _mixed(planes: npt.NDArray[np.int16], weights: tuple[int, int, int]) -> npt.NDArray[np.int16]:
    mixed: npt.NDArray[np.int16] = planes[0] * np.int16(weights[0])
    mixed += planes[1] * np.int16(weights[1])
    mixed += planes[2] * np.int16(weights[2])
    return mixed


def _square(plane: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    """Second differences along rows of second differences along columns, negated."""
    across: npt.NDArray[np.int16] = np.int16(2) * plane[..., 1:-1]
    across -= plane[..., :-2]
    across -= plane[..., 2:]
    down: npt.NDArray[np.int16] = across[:, :-2] + across[:, 2:]
    down -= np.int16(2) * across[:, 1:-1]
    return down


def _levels(residual: npt.NDArray[np.int16], step: int) -> npt.NDArray[np.uint8]:
    """0 to 4 for -2 to 2 steps."""
    one, two = step // 2, (3 * step + 1) // 2
    # Comparing is several times as fast as dividing, rounding and clipping.
    level = (residual > one).view(np.uint8)
    for further in (residual >= two, residual >= -one, residual > -two):
        level += further.view(np.uint8)
    return level


def _runs(along_rows: npt.NDArray[np.uint8], along_columns: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """How often each run of levels (n, h, w) comes up along rows of the one and columns of the other, all together:
    (n, 625)."""
    number, base = len(along_rows), np.uint8(LEVELS)
    pairs = along_rows[..., :-1] * base
    pairs += along_rows[..., 1:]
    rows = pairs[..., :-2] * np.uint16(LEVELS**2)
    rows += pairs[..., 2:]
    pairs = along_columns[:, :-1] * base
    pairs += along_columns[:, 1:]
    columns = pairs[:, :-2] * np.uint16(LEVELS**2)
    columns += pairs[:, 2:]
    counts = np.zeros((number, LEVELS**4), np.int64)
    for run in (rows, columns):
        run += np.arange(0, counts.size, LEVELS**4, dtype=np.uint16)[:, None, None]
        counts += np.bincount(run.ravel(), minlength=counts.size).reshape(counts.shape)
    return counts


@functools.cache
def classes() -> npt.NDArray[np.int64]:
    """The class of each run of four levels, (625,), the first level the most significant digit to base 5: a run, its
    mirror image and the negatives of both are one class. There are 169."""
    runs = np.arange(LEVELS**4).reshape((LEVELS,) * 4)
    negative, mirrored = runs[::-1, ::-1, ::-1, ::-1], runs.transpose(3, 2, 1, 0)
    both = negative.transpose(3, 2, 1, 0)
    least = np.minimum(np.minimum(runs, negative), np.minimum(mirrored, both)).ravel()
    _, place = np.unique(least, return_inverse=True)
    place = np.asarray(place, np.int64).ravel()
    place.flags.writeable = False
    return place


@functools.cache
def members() -> npt.NDArray[np.int64]:
    """The runs of each class, (169, 4); 5⁴, which is none, where a class has fewer."""
    place = classes()
    found = np.full((place.max() + 1, 4), len(place))
    for kind, row in enumerate(found):
        (mine,) = np.nonzero(place == kind)
        row[: len(mine)] = mine
    found.flags.writeable = False
    return found
