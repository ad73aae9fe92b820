"""T, the transform operator of CoDE (arXiv 2407.20337): up to two of 19 everyday operations, then a square crop.

The vocabulary is AugLy's image module, with which the authors work; each operation here gives AugLy's pixels for the
same parameters where AugLy defines them. An operation's parameters are drawn apart from its application, so that what
happened to a picture can be repeated, listed and tested.

Paper: n ~ U{0, 1, 2} distinct operations in random order (the release applies them in table order); uniform parameters
(the release draws from an evenly spaced grid). Ours: pictures smaller than a crop at native resolution are mirrored
(the release fills white), the pixels to shuffle are drawn anew each time (the release fixes their seed), and the sizes
are bounded.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from assay.errors import RecipeError, unknown
from assay.image.align import codec_round_trip
from assay.image.cut import cut
from assay.types import Box, Pixels

MAX_SIDE = 4096
"""No operation makes a side longer than this, in px. (A picture that comes in larger is not made smaller.)"""

Parameters = Mapping[str, float]
"""One value for each of an operation's parameters; whole numbers are int."""


@dataclasses.dataclass(frozen=True)
class Operation:
    """One of the 19.

    Args:
        name: as recipes name it.
        change: the operation itself: pixels and the parameters by name, to new pixels. Deterministic; the input stays
            as it is.
        ranges: bounds of each parameter. Where they are int, whole numbers are drawn, both bounds included.
    """

    name: str
    change: Callable[..., Pixels]
    ranges: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)

    def draw(self, rng: np.random.Generator) -> dict[str, float]:
        """Parameters, each uniform over its range."""
        return {
            name: int(rng.integers(low, high + 1))
            if isinstance(low, int) and isinstance(high, int)
            else float(rng.uniform(low, high))
            for name, (low, high) in self.ranges.items()
        }

    def apply(self, pixels: Pixels, parameters: Parameters) -> Pixels:
        """The changed picture: uint8 (height, width, 3) in and out, a new array; the sides may change."""
        return self.change(pixels, **parameters)


def _resized(pixels: Pixels, width: float, height: float, resample: Image.Resampling) -> Pixels:
    """The picture at about this size: cut to whole pixels, at least 1 a side, shrunk alike where a side is too long."""
    longest = max(MAX_SIDE, *pixels.shape[:2])
    shrink = min(1.0, longest / max(width, height))
    size = (max(1, int(width * shrink)), max(1, int(height * shrink)))
    return np.array(Image.fromarray(pixels).resize(size, resample))


def _enhanced(enhancer: Callable[[Image.Image], Any]) -> Callable[..., Pixels]:
    def change(pixels: Pixels, factor: float) -> Pixels:
        return np.array(enhancer(Image.fromarray(pixels)).enhance(factor))

    return change


def _blur(pixels: Pixels, sigma: float) -> Pixels:
    return np.array(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(sigma)))


def _aspect_ratio(pixels: Pixels, ratio: float) -> Pixels:
    """Width : height becomes `ratio`, whatever it was; the area stays."""
    height, width = pixels.shape[:2]
    new_width = max(1, int(math.sqrt(ratio * width * height)))
    return _resized(pixels, new_width, max(1, width * height // new_width), Image.Resampling.BICUBIC)


def _pixelisation(pixels: Pixels, ratio: float) -> Pixels:
    """Down to `ratio` of both sides and up again."""
    height, width = pixels.shape[:2]
    small = (max(1, int(width * ratio)), max(1, int(height * ratio)))
    image = Image.fromarray(pixels).resize(small, Image.Resampling.BICUBIC)
    return np.array(image.resize((width, height), Image.Resampling.BICUBIC))


def _rotation(pixels: Pixels, degrees: float) -> Pixels:
    """Anticlockwise, and of the turned picture the largest upright rectangle without a black corner."""
    height, width = pixels.shape[:2]
    turned = Image.fromarray(pixels).rotate(degrees, expand=True)
    sine, cosine = abs(math.sin(math.radians(degrees))), abs(math.cos(math.radians(degrees)))
    long, short = max(width, height), min(width, height)
    if short <= 2 * sine * cosine * long or abs(sine - cosine) < 1e-10:
        # Two corners of the rectangle touch the long sides; the other two lie on the midline between them.
        along, across = short / (2 * sine), short / (2 * cosine)
        inner_width, inner_height = (along, across) if width >= height else (across, along)
    else:
        # All four corners touch, one on each side.
        double = cosine * cosine - sine * sine
        inner_width = (width * cosine - height * sine) / double
        inner_height = (height * cosine - width * sine) / double
    left, top = int((turned.width - inner_width) / 2), int((turned.height - inner_height) / 2)
    right, bottom = int((turned.width + inner_width) / 2), int((turned.height + inner_height) / 2)
    return np.array(turned.crop((left, top, max(left + 1, right), max(top + 1, bottom))))


def _jpeg(pixels: Pixels, quality: int) -> Pixels:
    return codec_round_trip(pixels, "JPEG", quality)


def _greyscale(pixels: Pixels) -> Pixels:
    return np.array(Image.fromarray(pixels).convert("L").convert("RGB"))


def _horizontal_flip(pixels: Pixels) -> Pixels:
    return pixels[:, ::-1].copy()


def _opacity(pixels: Pixels, level: float) -> Pixels:
    """The picture, `level` opaque, on white."""
    image = Image.fromarray(pixels)
    white = Image.new("RGB", image.size, "white")
    return np.array(Image.composite(image, white, Image.new("L", image.size, int(255 * level))))


def _stripes(pixels: Pixels, width: float) -> Pixels:
    """White horizontal bands, one every half of the shorter side, each covering `width` of its period."""
    height = pixels.shape[0]
    phase = (np.arange(height) - height / 2) / (0.5 * min(pixels.shape[:2]))
    striped = pixels.copy()
    striped[np.cos(2 * math.pi * phase) > math.cos(math.pi * width)] = 255
    return striped


def _pad(pixels: Pixels, fraction: float) -> Pixels:
    """A black border, left and right `fraction` of the width, above and below `fraction` of the height."""
    borders = [min(int(fraction * side), max(0, MAX_SIDE - side) // 2) for side in pixels.shape[:2]]
    return np.pad(pixels, [(border, border) for border in borders] + [(0, 0)])


def _resize(pixels: Pixels, side: int) -> Pixels:
    """A square, whatever the aspect was."""
    return _resized(pixels, side, side, Image.Resampling.BICUBIC)


def _crop(pixels: Pixels, side: int, x: float, y: float) -> Pixels:
    """A square window; black where it reaches beyond the picture, which then lies within it as a whole.

    `x` and `y` in [0, 1] place the window between its leftmost (topmost) and its rightmost (lowest) position.
    """
    height, width = pixels.shape[:2]
    left, top = round(x * (width - side)), round(y * (height - side))
    return np.array(Image.fromarray(pixels).crop((left, top, left + side, top + side)))


def _scale(pixels: Pixels, factor: float) -> Pixels:
    resample = Image.Resampling.LANCZOS if factor < 1 else Image.Resampling.BILINEAR
    return _resized(pixels, pixels.shape[1] * factor, pixels.shape[0] * factor, resample)


def _shuffle(pixels: Pixels, fraction: float, seed: int) -> Pixels:
    """Permutes `fraction` of the pixels, chosen at random; the others stay."""
    rng = np.random.default_rng(seed)
    shuffled = pixels.copy().reshape(-1, 3)
    chosen = rng.choice(len(shuffled), size=int(fraction * len(shuffled)), replace=False, shuffle=False)
    shuffled[chosen] = shuffled[rng.permutation(chosen)]
    return shuffled.reshape(pixels.shape)


def _skew(pixels: Pixels, factor: float) -> Pixels:
    """A horizontal shear about the middle row, black where nothing is: rows move by `factor` times their distance."""
    image = Image.fromarray(pixels)
    shear = (1, factor, -factor * image.height / 2, 0, 1, 0)
    return np.array(image.transform(image.size, Image.Transform.AFFINE, shear, Image.Resampling.BILINEAR))


OPERATIONS: Mapping[str, Operation] = {
    operation.name: operation
    for operation in (
        Operation("blur", _blur, {"sigma": (0.1, 2.0)}),
        Operation("brightness", _enhanced(ImageEnhance.Brightness), {"factor": (0.5, 2.0)}),
        Operation("aspect_ratio", _aspect_ratio, {"ratio": (0.75, 2.0)}),
        Operation("pixelisation", _pixelisation, {"ratio": (0.3, 1.0)}),
        Operation("rotation", _rotation, {"degrees": (90.0, 270.0)}),
        Operation("contrast", _enhanced(ImageEnhance.Contrast), {"factor": (0.5, 1.5)}),
        Operation("saturation", _enhanced(ImageEnhance.Color), {"factor": (0.5, 1.5)}),
        Operation("jpeg", _jpeg, {"quality": (40, 100)}),
        Operation("greyscale", _greyscale),
        Operation("horizontal_flip", _horizontal_flip),
        Operation("opacity", _opacity, {"level": (0.2, 1.0)}),
        Operation("stripes", _stripes, {"width": (0.05, 0.35)}),
        Operation("pad", _pad, {"fraction": (0.01, 0.25)}),
        Operation("resize", _resize, {"side": (64, 512)}),
        Operation("crop", _crop, {"side": (64, 512), "x": (0.0, 1.0), "y": (0.0, 1.0)}),
        Operation("scale", _scale, {"factor": (0.5, 1.5)}),
        Operation("sharpen", _enhanced(ImageEnhance.Sharpness), {"factor": (1.2, 2.0)}),
        Operation("shuffle", _shuffle, {"fraction": (0.0, 0.35), "seed": (0, 2**32 - 1)}),
        Operation("skew", _skew, {"factor": (-1.0, 1.0)}),
    )
}
"""The 19 operations of CoDE by name, with the paper's ranges."""


@dataclasses.dataclass(frozen=True)
class T:
    """The transform operator: n ~ U{0 … max_ops} distinct operations in random order, then resize and crop.

    Args:
        max_ops: the most operations a picture gets; 0 leaves only resize and crop.
        size: side of the square that comes out, in px.
        resize: the shorter side becomes this many px (bicubic, aspect kept) before the crop. None crops at native
            resolution, as `View` does; a picture that is smaller than the crop is mirrored at its edges.
        crop: where the crop is taken.
        operations: names out of `OPERATIONS`, equally likely.

    Raises:
        RecipeError: an operation that does not exist or stands twice, or numbers that do not hold.
    """

    max_ops: int = 2
    size: int = 224
    resize: int | None = 248
    crop: Literal["centre", "random"] = "centre"
    operations: tuple[str, ...] = tuple(OPERATIONS)

    def __post_init__(self) -> None:
        for name in self.operations:
            if name not in OPERATIONS:
                raise RecipeError(unknown("operation", name, OPERATIONS))
        if len(set(self.operations)) < len(self.operations):
            raise RecipeError("an operation stands twice; operations are drawn without repeats, so name each once")
        if not 0 <= self.max_ops <= len(self.operations):
            raise RecipeError(
                f"max_ops {self.max_ops} does not hold; give 0 to {len(self.operations)}, the number of operations"
            )
        if self.crop not in ("centre", "random"):
            raise RecipeError(unknown("crop", self.crop, ("centre", "random")))
        if self.size < 1:
            raise RecipeError(f"size {self.size} px does not hold; give 1 or more")
        if self.resize is not None and self.resize < self.size:
            raise RecipeError(
                f"resize {self.resize} leaves less than the crop of {self.size} px; give {self.size} or more, or None"
            )

    def draw(self, rng: np.random.Generator) -> list[tuple[Operation, dict[str, float]]]:
        """The operations of the next picture in order, each with its parameters."""
        count = rng.integers(self.max_ops + 1)
        chosen = rng.permutation(len(self.operations))[:count]
        operations = [OPERATIONS[self.operations[index]] for index in chosen]
        return [(operation, operation.draw(rng)) for operation in operations]

    def operate(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        """Only the operations: uint8 (height, width, 3) in and out; the sides may change.

        Where no operation is drawn, the very array that came in.

        Raises:
            InputError: a side is longer than the 65,500 px that JPEG holds, and "jpeg" was drawn.
        """
        for operation, parameters in self.draw(rng):
            pixels = operation.apply(pixels, parameters)
        return pixels

    def __call__(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        """One picture, uint8 (height, width, 3), transformed: uint8 (size, size, 3). `rng` is all its randomness."""
        pixels = self.operate(pixels, rng)
        return self._native_crop(pixels, rng) if self.resize is None else self._resized_crop(pixels, self.resize, rng)

    def _start(self, slack: int, rng: np.random.Generator) -> int:
        return slack // 2 if self.crop == "centre" or slack <= 0 else int(rng.integers(slack + 1))

    def _native_crop(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        top, left = (self._start(side - self.size, rng) for side in pixels.shape[:2])
        return cut(pixels, Box(left, top, left + self.size, top + self.size))

    def _resized_crop(self, pixels: Pixels, shorter: int, rng: np.random.Generator) -> Pixels:
        height, width = pixels.shape[:2]
        rows, columns = (shorter * side // min(height, width) for side in (height, width))
        top, left = (self._start(extent - self.size, rng) for extent in (rows, columns))
        # Only the part that the crop keeps is resampled: the whole of a 1 × 4,096 picture would be 248 × 1,015,808.
        box = (
            left * width / columns,
            top * height / rows,
            (left + self.size) * width / columns,
            (top + self.size) * height / rows,
        )
        image = Image.fromarray(pixels).resize((self.size, self.size), Image.Resampling.BICUBIC, box)
        return np.array(image)
