"""Self-blended faces: fakes like face swaps, made of real pictures alone (arXiv 2204.08376, section 3).

*Paper*: a face is pasted over itself. One copy, the source, is changed in colour and in detail, resized and moved by a
few percent; a mask, the hull of the face's landmarks, is bent, eroded or dilated, blurred and weakened by a blending
ratio; source × mask + target × (1 − mask) shows what every face swap has: an edge of blending, landmarks that do not
fit, colours and detail that differ inside and outside.

*Release* (mapooon/SelfBlendedImages@249281e8d40e, `src/utils/sbi.py`, `blend.py`, `funcs.py`): RGB ± 20 for 3 in 10,
brightness and contrast ± 0.1, then detail lost (1/2 or 1/4 of both sides, nearest, and back) or sharpened; 0.95 to
1/0.95 of each side, moved by 3 % and 1.5 % of a crop twice as wide as the face; a mask of 192 to 256 px a side, of
which the first blur keeps what stays 1 (an erosion by its window), the second blurs by a window of its own; ratios
1/4, 1/2, 3/4, 1, 1, 1.

*Ours*: the hull. Five landmarks do not show a face's contour, so an average face's (`HALVES`) is laid on them, in
distances between the eyes, turned, scaled and slanted with the face; its four shapes stand for the release's four
hulls. It is bent at its edge, not as a whole picture. Hue and saturation really move (the release gives shares of 1
where whole numbers are taken: they stay). Only the source is changed, and the target stays as it was (the release
changes one or the other), so that nothing outside the mask differs from the real picture. The second blur is even over
its window (the release's is nearly so: σ is 5 px and more). Detail is lost to between 1/4 and 1/2.

Such fakes know one kind of forgery: something pasted into a real picture. What a network drew as a whole has no edge of
blending, and a detector that saw only these fakes knows nothing of it; nor do they show what a swap's network leaves
inside the face. A blend at a ratio of 1/4 may not be visible, and is called fake all the same.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from assay.errors import RecipeError, unknown
from assay.image.augment import OPERATIONS, Augment, Transform
from assay.image.cut import cut
from assay.image.eyes import EYES_TO_MOUTH
from assay.image.faces import Face
from assay.types import Box, Pixels

Points = npt.NDArray[np.float64]
Rng = np.random.Generator

Mask = npt.NDArray[np.float32]
"""(height, width): the source's share in [0, 1]."""

HALVES: Mapping[str, tuple[tuple[float, float], ...]] = {
    "face": ((0, -0.5), (0.5, -0.52), (0.95, -0.3), (1.06, 0.1), (1.0, 0.6), (0.86, 1.1), (0.55, 1.6), (0, 1.85)),
    "brow": ((0, -1.0), (0.5, -0.92), (0.9, -0.6), (1.06, 0), (1.0, 0.6), (0.86, 1.1), (0.55, 1.6), (0, 1.85)),
    "inner": ((0, -0.4), (0.6, -0.45), (0.85, -0.2), (0.7, 0.4), (0.5, 1.1), (0.3, 1.4), (0, 1.5)),
    "lower": ((0, 0.2), (0.35, 0.35), (0.9, 0.65), (0.86, 1.1), (0.55, 1.6), (0, 1.85)),
}
"""The right half, from top to bottom, of each shape's contour: x from the middle of the face, y down from the eyes, in
distances between the eyes of an average face (*ours*). "face" reaches from the brows to the chin, "brow" takes in most
of the forehead, "inner" is eyes, nose and mouth, "lower" what lies below the eyes."""

COLOUR = Augment(
    (
        Transform("RGBShift", 0.3),
        Transform("HueSaturationValue", 1.0, {"hue_shift_limit": 4, "sat_shift_limit": 20, "val_shift_limit": 10}),
        Transform("RandomBrightnessContrast", 1.0, {"brightness_limit": 0.1, "contrast_limit": 0.1}),
    )
)

DETAIL = (
    Transform("Downscale", 1.0, {"scale_range": (0.25, 0.5), "interpolation_pair": {"downscale": 0, "upscale": 1}}),
    Transform("Sharpen", 1.0),
)

_RASTER = (192, 256)
"""Bounds in px of the sides that masks are drawn at, whatever the size of the face."""

_STEPS, _BENDS = 96, 12
"""Points of a contour, and how many of them are moved apart from each other when it is bent."""


@dataclasses.dataclass(frozen=True)
class SelfBlend:
    """Pastes faces over themselves; called as blend(pixels, faces, rng).

    Args:
        shapes: names out of `HALVES`, equally likely.
        ratios: of blending, each in (0, 1], equally likely.
        window: bounds in px, odd, of the windows of erosion and blur in a mask that is 192 to 256 px a side and twice
            as wide and high as the face.
        bend: standard deviation of what the contour is bent by, in distances between the eyes.
        scale: the source's sides become 1 - scale to 1/(1 - scale) of what they were, each by a draw of its own.
        shift: how far the source is moved at most along x and y, in shares of the mask's sides.
        colour: done to the source.
        detail: of these one is done to the source, equally likely.

    Raises:
        RecipeError: a shape that does not exist, or numbers that do not hold.
    """

    shapes: tuple[str, ...] = tuple(HALVES)
    ratios: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0, 1.0, 1.0)
    window: tuple[int, int] = (5, 25)
    bend: float = 0.04
    scale: float = 0.05
    shift: tuple[float, float] = (0.03, 0.015)
    colour: Augment = COLOUR
    detail: tuple[Transform, ...] = DETAIL

    def __post_init__(self) -> None:
        for name in self.shapes:
            if name not in HALVES:
                raise RecipeError(unknown("shape of a mask", name, HALVES))
        for name in ("shapes", "ratios", "detail"):
            if not getattr(self, name):
                raise RecipeError(f"{name} is empty; give one or more")
        if not all(0 < ratio <= 1 for ratio in self.ratios):
            raise RecipeError(f"ratios {self.ratios} do not hold; give each above 0 and up to 1")
        low, high = self.window
        if not (1 <= low <= high <= 63 and low % 2 and high % 2):
            raise RecipeError(f"window {self.window} does not hold; give (low, high), odd, within 1 to 63 px")
        if not 0 <= self.bend <= 0.2:
            raise RecipeError(f"bend {self.bend} does not hold; give 0 to 0.2")
        if not 0 <= self.scale <= 0.5:
            raise RecipeError(f"scale {self.scale} does not hold; give 0 to 0.5")
        if not all(0 <= share <= 0.25 for share in self.shift):
            raise RecipeError(f"shift {self.shift} does not hold; give two shares from 0 to 0.25")

    def __call__(self, pixels: Pixels, faces: Iterable[Face], rng: Rng) -> Pixels:
        """The picture with those faces blended.

        Args:
            pixels: (height, width, 3) uint8.
            faces: of that picture; of each just what lies within the picture is blended. None leaves a plain copy.
            rng: all the chance there is.

        Returns:
            The same shape, a new array; equal to `pixels` wherever `masked` gives 0.
        """
        return self.masked(pixels, faces, rng)[0]

    def masked(self, pixels: Pixels, faces: Iterable[Face], rng: Rng) -> tuple[Pixels, Mask]:
        """What a call gives, and the source's share of every pixel: the largest, where masks overlap."""
        blended, whole = pixels.copy(), np.zeros(pixels.shape[:2], np.float32)
        for face in faces:
            self._paste(blended, whole, face, rng)
        return blended, whole

    def _paste(self, blended: Pixels, whole: Mask, face: Face, rng: Rng) -> None:
        """Blends one face, in place."""
        # A generator of its own: how much of it a face takes hangs on its size, and no other face shall feel it.
        chance = np.random.default_rng(rng.integers(2**63))
        outline = self._outline(face, chance)
        box = _around(outline)
        scale = np.exp(chance.uniform(-1, 1, 2) * -math.log1p(-self.scale))
        shift = chance.uniform(-1, 1, 2) * self.shift
        mask = self._mask(outline, box, scale, shift, chance)
        height, width = blended.shape[:2]
        inside = Box(max(0, box.left), max(0, box.top), min(width, box.right), min(height, box.bottom))
        if inside.left >= inside.right or inside.top >= inside.bottom:
            return
        source = self._source(cut(blended, box), scale, shift, chance)
        here = np.s_[inside.top : inside.bottom, inside.left : inside.right]
        there = np.s_[inside.top - box.top : inside.bottom - box.top, inside.left - box.left : inside.right - box.left]
        share = mask[there]
        target = blended[here].astype(np.float32)
        mixed = target + share[..., None] * (source[there] - target)
        blended[here] = np.rint(mixed).astype(np.uint8)
        np.maximum(whole[here], share, out=whole[here])

    def _outline(self, face: Face, chance: Rng) -> Points:
        """The bent contour of the face, in px of the picture, (points, 2)."""
        half = np.array(HALVES[self.shapes[int(chance.integers(len(self.shapes)))]])
        contour = np.concatenate([half, half[-2:0:-1] * (-1, 1)])
        bends = chance.normal(0, self.bend, (_BENDS, 2))
        return _placed(_stepped(contour) + _stepped(bends), face)

    def _mask(self, outline: Points, box: Box, scale: Points, shift: Points, chance: Rng) -> Mask:
        """The source's share of each px of `box`; the mask goes where the source goes."""
        columns, rows = chance.integers(_RASTER[0], _RASTER[1] + 1, 2).tolist()
        low, high = self.window
        erode, blur = (2 * chance.integers(low // 2, high // 2 + 1, 2) + 1).tolist()
        ratio = self.ratios[int(chance.integers(len(self.ratios)))]
        sides = np.array([box.width, box.height])
        # From 0 to 1 over the box; px of a picture are counted from their middles.
        unit = (outline + 0.5 - (box.left, box.top)) / sides
        unit = (unit - 0.5) * scale + 0.5 + np.trunc(shift * sides) / sides
        image = Image.new("L", (columns, rows))
        ImageDraw.Draw(image).polygon([(x * columns - 0.5, y * rows - 0.5) for x, y in unit.tolist()], fill=255)
        image = image.filter(ImageFilter.MinFilter(erode)).filter(ImageFilter.BoxBlur(blur // 2))
        image = image.resize((box.width, box.height), Image.Resampling.BILINEAR)
        return np.asarray(image, np.float32) * np.float32(ratio / 255)

    def _source(self, patch: Pixels, scale: Points, shift: Points, chance: Rng) -> Pixels:
        """A copy of what is pasted: other colours, other detail, resized and moved."""
        operation, parameters = self.detail[int(chance.integers(len(self.detail)))].draw(chance)
        changed = operation.apply(self.colour(patch, chance), parameters)
        return OPERATIONS["Affine"].apply(
            changed,
            {
                "scale_x": float(scale[0]),
                "scale_y": float(scale[1]),
                "translate_percent_x": float(shift[0]),
                "translate_percent_y": float(shift[1]),
                "interpolation": 1,
                "border_mode": 4,
                "fill": 0,
            },
        )


def _stepped(ring: Points) -> Points:
    """`_STEPS` points evenly along a closed line, by its points' numbers."""
    places = np.linspace(0, len(ring), _STEPS, endpoint=False)
    numbers = np.arange(len(ring))
    return np.stack([np.interp(places, numbers, column, period=len(ring)) for column in ring.T], axis=1)


def _placed(contour: Points, face: Face) -> Points:
    """Points in distances between an average face's eyes, laid on a face: px of the picture.

    Across goes with the line between the eyes, down with the one from there to the middle of the mouth. Where the eyes
    draw together, in a face turned to the side, the face does too, but not beyond the half of what its height says.
    """
    marks = np.asarray(face.landmarks, np.float64)
    middle = (marks[0] + marks[1]) / 2
    across = marks[1] - marks[0]
    down = ((marks[3] + marks[4]) / 2 - middle) / EYES_TO_MOUTH
    wide, high = math.hypot(*across), math.hypot(*down)
    if wide < high / 2:
        across = np.array([down[1], -down[0]]) / 2
    elif high < wide / 2:
        down = np.array([-across[1], across[0]]) / 2
    placed: Points = middle + contour @ np.stack([across, down])
    return placed


def _around(outline: Points) -> Box:
    """The part of the picture that a source is taken from: twice as wide and high as the contour."""
    low, high = outline.min(axis=0), outline.max(axis=0)
    middle, half = (low + high) / 2 + 0.5, np.maximum(high - low, 1)
    left, top = np.floor(middle - half).astype(int).tolist()
    right, bottom = np.ceil(middle + half).astype(int).tolist()
    return Box(left, top, right, bottom)
