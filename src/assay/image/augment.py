"""Online augmentation in Albumentations' vocabulary: a list of transforms, each with its own probability.

DFCon (arXiv 2501.16704) trains with "online augmentation"; which transforms, and how strong, is not published. A
pipeline that works elsewhere can be written down here name by name: transforms and parameters are called as in
Albumentations 2.0.8, mean the same and have the same defaults, and where a transform's parameters define its pixels,
these are Albumentations' pixels but for the rounding of colours and the interpolation of resampling.

Albumentations is not needed: its maintained successor has a licence that ours cannot follow. Of the 23 transforms here
these parameters are missing: `shift_limit_x`, `shift_limit_y`, `rotate_method` and all of masks; `translate_px`,
`fit_output` and `balanced_scale` of Affine, and its bounds by axis; `crop_border` of Rotate; `ensure_safe_range`;
`tile_grid_size` (8 × 8 as by default); `method` (the default); `blur_limit` of GaussianBlur (sigma decides);
`mean_range` and `noise_scale_factor` of GaussNoise; holes in px and `fill` by name or channel of CoarseDropout.
Transforms that change the size are left out: training crops by itself.

*Ours*: HueSaturationValue does not round to OpenCV's 180 hues on the way, ImageCompression takes red for red
(Albumentations hands red to the encoder as blue), Downscale filters before it shrinks unless the nearest is asked for,
Affine rounds down, scales stay within 1/4 to 4 and shear within 30°. Every transform takes uint8 (height, width, 3) of
any size from 1 × 1 and gives a new array of the same shape.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from assay.errors import RecipeError, unknown
from assay.image import damage
from assay.image.align import codec_round_trip
from assay.image.cut import cut
from assay.types import Box, Pixels

Value = bool | int | float | str | tuple[float, ...] | dict[str, int]
"""Of a parameter: (low, high) of what is drawn, one number where Albumentations takes one, or a choice."""

Rng = np.random.Generator
Table = npt.NDArray[np.float32]

INTERPOLATIONS = (
    Image.Resampling.NEAREST,
    Image.Resampling.BILINEAR,
    Image.Resampling.BICUBIC,
    Image.Resampling.BOX,
    Image.Resampling.LANCZOS,
)
"""By OpenCV's number, as Albumentations has it: nearest, linear, cubic, area, Lanczos."""

BORDERS: tuple[Literal["constant", "edge", "symmetric", "wrap", "reflect"], ...] = (
    "constant",
    "edge",
    "symmetric",
    "wrap",
    "reflect",
)
"""numpy's names of OpenCV's borders by number, 0 to 4."""


@dataclasses.dataclass(frozen=True)
class Bounds:
    """A parameter that is drawn, uniformly between two bounds.

    Args:
        default: the bounds where none are given.
        within: what neither bound may lie beyond.
        alone: what a number n means in place of two: (-n, n), (n, n), or (a, n) where this is a number a; None refuses.
        step: 0 draws real numbers, 1 whole ones, 2 odd ones (an even bound counts as the next odd number).
        axes: drawn for x and y apart.
        levels: bounds that both lie within ±1 are shares of 255.
        drawn: False leaves drawing to the operation, which draws several times and is handed the bounds.
    """

    default: tuple[float, float]
    within: tuple[float, float]
    alone: Literal["either side", "exact"] | float | None = None
    step: int = 0
    axes: bool = False
    levels: bool = False
    drawn: bool = True

    def checked(self, value: Any) -> tuple[float, float]:
        """The bounds that a value means. Raises ValueError, which says what to give, where it means none."""
        if self.alone is not None and isinstance(value, int | float):
            value = (-value if self.alone == "either side" else value if self.alone == "exact" else self.alone, value)
        whole = "whole numbers " if self.step else ""
        least, most = self.within
        if (
            not isinstance(value, tuple | list)
            or len(value) != 2
            or any(isinstance(bound, bool) or not isinstance(bound, int | float) for bound in value)
            or not least <= value[0] <= value[1] <= most
            or (self.step and any(bound != int(bound) for bound in value))
        ):
            raise ValueError(f"give (low, high), {whole}within {least:g} to {most:g}")
        if self.step:
            return int(value[0]) | (self.step - 1), int(value[1]) | (self.step - 1)
        return float(value[0]), float(value[1])

    def names(self, name: str) -> tuple[str, ...]:
        """What the drawn numbers are called: the parameter's name without "limit" or "range"."""
        short = name.removesuffix("_limit").removesuffix("_range") if self.drawn else name
        return (f"{short}_x", f"{short}_y") if self.axes else (short,)

    def draw(self, bounds: Any, rng: Rng) -> Any:
        """A number between checked bounds; the bounds where it is not drawn here."""
        low, high = bounds
        if not self.drawn:
            return bounds
        if self.step:
            return low + self.step * int(rng.integers((high - low) // self.step + 1))
        scale = 255 if self.levels and max(abs(low), abs(high)) <= 1 else 1
        return scale * float(rng.uniform(low, high))


@dataclasses.dataclass(frozen=True)
class Choice:
    """A parameter that is not drawn.

    Args:
        default: the value where none is given.
        among: the values that hold.
        says: those values, for a message.
    """

    default: Any
    among: Sequence[Any]
    says: str

    def checked(self, value: Any) -> Any:
        """The one of `among` that equals a value. Raises ValueError where there is none."""
        if value not in self.among:
            raise ValueError(f"give {self.says}")
        return self.among[self.among.index(value)]

    def names(self, name: str) -> tuple[str, ...]:
        """The parameter's own name."""
        return (name,)

    def draw(self, value: Any, rng: Rng) -> Any:
        """The value as it is."""
        return value


@dataclasses.dataclass(frozen=True)
class Operation:
    """What a name of the vocabulary does.

    Args:
        name: Albumentations' name.
        change: the operation itself: pixels and the drawn parameters by name, to new pixels. Deterministic; the input
            stays as it is.
        options: the parameters that a pipeline may give.
        chance: further numbers that are drawn, always within their default.
    """

    name: str
    change: Callable[..., Pixels]
    options: Mapping[str, Bounds | Choice] = dataclasses.field(default_factory=dict)
    chance: Mapping[str, Bounds] = dataclasses.field(default_factory=dict)

    def draw(self, parameters: Mapping[str, Any], rng: Rng) -> dict[str, Any]:
        """What `apply` takes, drawn for checked parameters, of which there is one for each option."""
        drawn = {
            name: option.draw(parameters[given], rng)
            for given, option in self.options.items()
            for name in option.names(given)
        }
        return drawn | {name: bounds.draw(bounds.default, rng) for name, bounds in self.chance.items()}

    def apply(self, pixels: Pixels, parameters: Mapping[str, Any]) -> Pixels:
        """The changed picture: uint8 (height, width, 3) in and out, a new array.

        Raises:
            InputError: "ImageCompression", and a side is longer than the codec holds.
        """
        return self.change(pixels, **parameters)


# Place


def _horizontal_flip(pixels: Pixels) -> Pixels:
    # A plane at a time is five times as fast as all three.
    flipped = np.empty(pixels.shape, np.uint8)
    for channel in range(3):
        flipped[..., channel] = pixels[:, ::-1, channel]
    return flipped


def _vertical_flip(pixels: Pixels) -> Pixels:
    return pixels[::-1].copy()


def _rotate_90(pixels: Pixels, quarters: int) -> Pixels:
    """Turned by quarters, anticlockwise; what is not square is turned by halves, which keep its shape (*ours*)."""
    if pixels.shape[0] != pixels.shape[1]:
        quarters = 2 * (quarters // 2)
    return np.array(np.rot90(pixels, quarters), order="C")


def _transpose(pixels: Pixels) -> Pixels:
    """Rows for columns; what is not square is turned by a half, which keeps its shape (*ours*)."""
    square = pixels.shape[0] == pixels.shape[1]
    return np.array(pixels.transpose(1, 0, 2) if square else pixels[::-1, ::-1], order="C")


def _affine(
    pixels: Pixels,
    *,
    interpolation: int,
    border_mode: int,
    fill: int,
    keep_ratio: bool = False,
    scale_x: float = 1.0,
    scale_y: float = 1.0,
    translate_percent_x: float = 0.0,
    translate_percent_y: float = 0.0,
    rotate: float = 0.0,
    shear_x: float = 0.0,
    shear_y: float = 0.0,
) -> Pixels:
    """Scaled, turned (degrees, anticlockwise), sheared (degrees) and moved (shares of the sides, whole px)."""
    height, width = pixels.shape[:2]
    sine, cosine = math.sin(math.radians(rotate)), math.cos(math.radians(rotate))
    shear = np.array([[1.0, -math.tan(math.radians(shear_x))], [-math.tan(math.radians(shear_y)), 1.0]])
    scale = np.diag([scale_x, scale_x if keep_ratio else scale_y])
    centre, moved = np.array([width, height]) / 2, np.trunc([translate_percent_x * width, translate_percent_y * height])
    # Pillow asks where a pixel comes from.
    back = np.linalg.inv(shear @ [[cosine, sine], [-sine, cosine]] @ scale)
    corners = (np.array([[0, 0], [width, 0], [0, height], [width, height]]) - centre - moved) @ back.T + centre
    if border_mode:
        # One px beyond what is seen is interpolated with; bicubic takes two.
        before = np.maximum(0, np.ceil(2 - corners.min(axis=0))).astype(int)
        after = np.maximum(0, np.ceil(corners.max(axis=0) + 2 - [width, height])).astype(int)
        frame = ((int(before[1]), int(after[1])), (int(before[0]), int(after[0])), (0, 0))
        framed = np.pad(pixels, frame, BORDERS[border_mode])
    else:
        before = np.array([2, 2])
        framed = np.pad(pixels, ((2, 2), (2, 2), (0, 0)), constant_values=fill)
    offset = centre - back @ (centre + moved) + before
    rows = (*back[0].tolist(), float(offset[0]), *back[1].tolist(), float(offset[1]))
    image = Image.fromarray(framed)
    image = image.transform(
        (width, height), Image.Transform.AFFINE, rows, INTERPOLATIONS[interpolation], fillcolor=(fill, fill, fill)
    )
    return np.array(image)


def _shift_scale_rotate(
    pixels: Pixels, shift_x: float, shift_y: float, scale_x: float, scale_y: float, rotate: float, **border: Any
) -> Pixels:
    return _affine(
        pixels,
        scale_x=1 + scale_x,
        scale_y=1 + scale_y,
        translate_percent_x=shift_x,
        translate_percent_y=shift_y,
        rotate=rotate,
        **border,
    )


def _rotate(pixels: Pixels, limit: float, **border: Any) -> Pixels:
    return _affine(pixels, rotate=limit, **border)


# Colour and light


def _mapped(pixels: Pixels, *tables: npt.NDArray[Any]) -> Pixels:
    """Each value replaced by that of a table of 256, cut to 0–255 and to whole numbers; one table, or one a channel."""
    values = np.clip(tables, 0, 255).astype(np.uint8)
    if len(tables) > 1:
        return np.array(Image.fromarray(pixels).point(values.ravel().tolist()))
    # Four times as fast as looking up with arrays.
    mapped = bytearray(pixels.tobytes().translate(values.tobytes()))
    return np.frombuffer(mapped, np.uint8).reshape(pixels.shape)


def _brightness_contrast(pixels: Pixels, brightness: float, contrast: float, brightness_by_max: bool) -> Pixels:
    """Values × (1 + contrast) + brightness × 255, or × the picture's mean."""
    light = 255 if brightness_by_max else float(pixels.mean())
    return _mapped(pixels, np.arange(256, dtype=np.float32) * np.float32(1 + contrast) + np.float32(brightness * light))


def _gamma(pixels: Pixels, gamma: float) -> Pixels:
    """`gamma` is in hundredths."""
    return _mapped(pixels, (np.arange(256) / 255) ** (gamma / 100) * 255)


def _rgb_shift(pixels: Pixels, r_shift: float, g_shift: float, b_shift: float) -> Pixels:
    return _mapped(pixels, *(np.arange(256) + math.trunc(shift) for shift in (r_shift, g_shift, b_shift)))


def _hexagon(pixels: Pixels) -> tuple[Table, Table, Table]:
    """Hue in sixths of the circle (0 where grey), greatest value and chroma, both in levels."""
    red, green, blue = (pixels[..., channel].astype(np.float32) for channel in range(3))
    value = np.maximum(np.maximum(red, green), blue)
    chroma = value - np.minimum(np.minimum(red, green), blue)
    hue = np.where(value == red, green - blue, np.where(value == green, blue - red, red - green))
    hue /= np.maximum(chroma, 1)
    hue += np.where(value == red, np.float32(0), np.where(value == green, np.float32(2), np.float32(4)))
    return hue, value, chroma


def _from_hexagon(hue: Table, value: Table, chroma: Table) -> Pixels:
    hue = hue - 6 * np.floor(hue / 6)
    pixels = np.empty((*hue.shape, 3), np.uint8)
    missing = (2 - np.abs(hue - 3), np.abs(hue - 2) - 1, np.abs(hue - 4) - 1)
    for channel, share in enumerate(missing):
        np.clip(share, 0, 1, out=share)
        share *= -chroma
        share += value
        pixels[..., channel] = np.clip(np.rint(share, out=share), 0, 255, out=share)
    return pixels


def _hue_saturation_value(pixels: Pixels, hue_shift: float, sat_shift: float, val_shift: float) -> Pixels:
    """Hue moved by steps of 2°, saturation and value by steps of a 255th. Grey stays grey."""
    hue, value, chroma = _hexagon(pixels)
    saturation = chroma * 255
    saturation /= np.maximum(value, 1)
    saturation += np.float32(sat_shift)
    np.clip(saturation, 0, 255, out=saturation)
    saturation[chroma == 0] = 0
    value = np.clip(value + np.float32(val_shift), 0, 255)
    return _from_hexagon(hue + np.float32(hue_shift / 30), value, saturation * value / 255)


def _to_gray(pixels: Pixels) -> Pixels:
    grey = np.array(Image.fromarray(pixels).convert("L"))
    return np.repeat(grey[..., None], 3, axis=2)


def _posterize(pixels: Pixels, num_bits: int) -> Pixels:
    """Only the highest bits of every value."""
    return pixels & np.uint8(256 - 2 ** (8 - num_bits))


WHITE = np.array([0.950456, 1.0, 1.088754])
LUMA = np.array([0.212671, 0.715160, 0.072169])
TO_XYZ = np.array([[0.412453, 0.357580, 0.180423], LUMA, [0.019334, 0.119193, 0.950227]]) / WHITE[:, None]
"""From linear sRGB to XYZ relative to white (D65, as OpenCV has it)."""

STEPS = 2040
"""OpenCV's steps of light from black to white on the way to an 8-bit lightness."""

TILES = 8


def _root(light: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """CIE's f: L* is 116 f(Y) - 16."""
    root: npt.NDArray[Any] = np.where(light > 216 / 24389, np.cbrt(light), light * (24389 / 27 / 116) + 16 / 116)
    return root


@functools.cache
def _curves() -> tuple[Table, npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Light of the 256 values; the 8-bit lightness of OpenCV's steps of light; the values of 4,096 steps of light."""
    value, light = np.arange(256) / 255, np.arange(4096) / 4095
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    curved = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    # 296 for 116 × 2.55 is OpenCV's rounding.
    levels = np.clip(np.rint(296 * _root(np.arange(STEPS + 1) / STEPS) - 40.8), 0, 255)
    return linear.astype(np.float32), levels.astype(np.uint8), np.rint(curved * 255).astype(np.uint8)


def _clahe(pixels: Pixels, clip: float) -> Pixels:
    """The lightness L* equalised in 8 × 8 tiles, none of a tile's 256 bins above `clip` times the mean; a*, b* stay."""
    linear, levels, values = _curves()
    steps = np.rint(linear * STEPS)[pixels] @ LUMA.astype(np.float32)
    level = levels[np.rint(steps).astype(np.uint16)]
    root = _root(linear[pixels] @ TO_XYZ.T.astype(np.float32))
    root += ((_equalised(level, clip) - level) / np.float32(2.55 * 116))[..., None]
    light = np.where(root > 6 / 29, root**3, (root - 16 / 116) * (116 * 27 / 24389))
    # 4,096 steps are so fine that an unchanged value comes back as it was, in the dark too.
    back = np.clip(light @ np.linalg.inv(TO_XYZ).T.astype(np.float32), 0, 1)
    equalised: Pixels = values[np.rint(back * 4095).astype(np.uint16)]
    return equalised


def _equalised(level: npt.NDArray[np.uint8], clip: float) -> Table:
    """Contrast-limited adaptive histogram equalisation of one channel (height, width), as OpenCV does it."""
    height, width = level.shape
    # Where one side is no multiple of 8, the other grows too, by all of 8 px where it is one.
    more = [TILES - side % TILES if height % TILES or width % TILES else 0 for side in (height, width)]
    padded = np.pad(level, ((0, more[0]), (0, more[1])), "reflect")
    tall, wide = (side // TILES for side in padded.shape)
    tiles = padded.reshape(TILES, tall, TILES, wide).transpose(0, 2, 1, 3).reshape(TILES**2, tall * wide)
    numbered = tiles + 256 * np.arange(TILES**2)[:, None]
    counts = np.bincount(numbered.ravel(), minlength=256 * TILES**2).reshape(-1, 256)
    limit = max(1, int(clip * tall * wide / 256))
    excess = np.maximum(counts - limit, 0).sum(axis=1, keepdims=True)
    # What was cut off goes to all bins alike, and the rest of that to bins evenly apart.
    rest = excess % 256
    step = np.maximum(256 // np.maximum(rest, 1), 1)
    bins = np.arange(256)
    counts = np.minimum(counts, limit) + excess // 256 + ((bins % step == 0) & (bins // step < rest))
    tables = np.rint(np.cumsum(counts, axis=1) * np.float32(255 / (tall * wide))).clip(0, 255).astype(np.float32)
    down, across = (_between(side, extent) for side, extent in ((height, tall), (width, wide)))
    equalised = np.zeros(level.shape, np.float32)
    for row, row_share in down:
        for column, column_share in across:
            index = 256 * (TILES * row[:, None] + column) + level
            equalised += tables.ravel()[index] * (row_share[:, None] * column_share)
    return np.rint(equalised)


def _between(side: int, extent: int) -> list[tuple[npt.NDArray[np.intp], Table]]:
    """The two tiles that each place along a side lies between, each with its share."""
    place = (np.arange(side) / extent - 0.5).astype(np.float32)
    first = np.floor(place)
    share = place - first
    tiles = (np.clip(first + later, 0, TILES - 1).astype(np.intp) for later in (0, 1))
    return list(zip(tiles, (1 - share, share), strict=True))


# Blur, noise and loss


def _gaussian_blur(pixels: Pixels, sigma: float) -> Pixels:
    # It repeats the edge; Albumentations mirrors it.
    height, width = pixels.shape[:2]
    reach = math.ceil(2.8 * sigma)
    framed = cut(pixels, Box(-reach, -reach, width + reach, height + reach))
    blurred = damage.OPERATIONS["gaussian_blur"].apply(framed, {"sigma_x": sigma, "sigma_y": sigma})
    return blurred[reach : reach + height, reach : reach + width].copy()


def _motion_blur(
    pixels: Pixels, blur: int, angle: float, direction: float, allow_shifted: bool, shift_x: float, shift_y: float
) -> Pixels:
    """The mean along a line of `blur` px at `angle`, clockwise; -1 and 1 of `direction` leave it one half of it."""
    half, turn = blur // 2, math.radians(angle)
    along = np.linspace(-half * (1 - max(direction, 0.0)), half * (1 + min(direction, 0.0)), blur)
    shift = half / 2 if allow_shifted else 0.0
    rows, columns = (
        np.clip(np.round(half + step * along + shift * part), 0, 2 * half).astype(int)
        for step, part in ((math.sin(turn), shift_y), (math.cos(turn), shift_x))
    )
    height, width = pixels.shape[:2]
    points = set(zip(rows.tolist(), columns.tolist(), strict=True))
    framed = cut(pixels, Box(-half, -half, width + half, height + half))
    # At most 255 values of 255 and a half of them: 16 bits hold the sum.
    total = np.full(pixels.shape, len(points) // 2, np.uint16)
    for row, column in points:
        total += framed[row : row + height, column : column + width]
    total //= np.uint16(len(points))
    blurred: Pixels = total.astype(np.uint8)
    return blurred


def _gauss_noise(pixels: Pixels, std: float, per_channel: bool, seed: int) -> Pixels:
    """`std` is a share of 255."""
    return damage.OPERATIONS["gaussian_noise"].apply(
        pixels, {"sigma": 255 * std, "grey": int(not per_channel), "seed": seed}
    )


def _iso_noise(pixels: Pixels, color_shift: float, intensity: float, seed: int) -> Pixels:
    """Grain: lightness by Poisson counts, hue by normal numbers of degrees; the spread of lightness scales them."""
    rng = np.random.default_rng(seed)
    hue, value, chroma = _hexagon(pixels)
    light = (value - chroma / 2) / 255
    room = 1 - np.abs(2 * light - 1)
    saturation = chroma / 255 / np.maximum(room, np.float32(1e-6))
    grain = rng.poisson(float(light.std(dtype=np.float64)) * intensity, light.shape).astype(np.float32)
    turn = rng.normal(0, color_shift * intensity, light.shape).astype(np.float32)
    light = np.minimum(light + grain * np.float32(intensity) * (1 - light), 1)
    chroma = saturation * (1 - np.abs(2 * light - 1))
    return _from_hexagon(hue + turn / np.float32(60), 255 * (light + chroma / 2), 255 * chroma)


def _image_compression(pixels: Pixels, compression_type: str, quality: int) -> Pixels:
    return codec_round_trip(pixels, compression_type.upper(), quality)


def _downscale(pixels: Pixels, scale: float, interpolation_pair: Mapping[str, int]) -> Pixels:
    """Down to `scale` of both sides and up again."""
    height, width = pixels.shape[:2]
    small = (max(1, round(width * scale)), max(1, round(height * scale)))
    shrunk = _resampled(pixels, small, (1 / scale, 1 / scale), interpolation_pair["downscale"])
    # OpenCV's order of divisions: where a px falls on an edge, it decides.
    back = (1 / (width / small[0]), 1 / (height / small[1]))
    return _resampled(shrunk, (width, height), back, interpolation_pair["upscale"])


def _resampled(pixels: Pixels, size: tuple[int, int], steps: tuple[float, float], interpolation: int) -> Pixels:
    """To (width, height), a px of which is `steps` of the picture's px along x and y."""
    if interpolation:
        return np.array(Image.fromarray(pixels).resize(size, INTERPOLATIONS[interpolation]))
    # OpenCV's nearest is that of a px's first corner, Pillow's that of its middle.
    columns, rows = (
        np.minimum((np.arange(extent) * step).astype(np.intp), side - 1)
        for extent, step, side in zip(size, steps, pixels.shape[1::-1], strict=True)
    )
    nearest: Pixels = pixels[rows[:, None], columns]
    return nearest


def _sharpen(pixels: Pixels, alpha: float, lightness: float) -> Pixels:
    """`alpha` of a 3 × 3 Laplacian, whose middle has `lightness` more than 8, and the picture for the rest."""
    height, width = pixels.shape[:2]
    rows = cut(pixels, Box(-1, -1, width + 1, height + 1)).astype(np.int16)
    columns = rows[:-2] + rows[1:-1] + rows[2:]
    total = (columns[:, :-2] + columns[:, 1:-1] + columns[:, 2:]) * np.float32(-alpha)
    total += pixels * np.float32(1 + alpha * (8 + lightness))
    sharp: Pixels = np.clip(np.rint(total, out=total), 0, 255, out=total).astype(np.uint8)
    return sharp


def _emboss(pixels: Pixels, alpha: float, strength: float) -> Pixels:
    """`alpha` of what lights a picture as a relief from above and left, and the picture for the rest."""
    height, width = pixels.shape[:2]
    framed = cut(pixels, Box(-1, -1, width + 1, height + 1)).astype(np.float32)
    kernel = np.array([[-1, 0, 0], [0, 1, 0], [0, 0, 1]]) + strength * np.array([[-1, -1, 0], [-1, 0, 1], [0, 1, 1]])
    total = pixels * np.float32(1 - alpha)
    for row, column in np.ndindex(3, 3):
        if kernel[row, column]:
            total += framed[row : row + height, column : column + width] * np.float32(alpha * kernel[row, column])
    relief: Pixels = np.clip(np.rint(total, out=total), 0, 255, out=total).astype(np.uint8)
    return relief


def _coarse_dropout(
    pixels: Pixels,
    num_holes: int,
    hole_height_range: tuple[float, float],
    hole_width_range: tuple[float, float],
    fill: int,
    seed: int,
) -> Pixels:
    """Rectangles of one grey level, their sides shares of the picture's."""
    rng, holed = np.random.default_rng(seed), pixels.copy()
    height, width = pixels.shape[:2]
    for _ in range(num_holes):
        tall, wide = int(height * rng.uniform(*hole_height_range)), int(width * rng.uniform(*hole_width_range))
        top, left = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
        holed[top : top + tall, left : left + wide] = fill
    return holed


YES_NO = ((True, False), "true or false")
LEVEL: Choice = Choice(0, range(256), "a whole number from 0 to 255")
BORDER: Mapping[str, Choice] = {
    "interpolation": Choice(1, (0, 1, 2), "0 (nearest), 1 (linear) or 2 (cubic)"),
    "border_mode": Choice(0, range(5), "0 (fill), 1 (edge), 2 (mirrored), 3 (wrapped) or 4 (mirrored at the edge px)"),
    "fill": LEVEL,
}
PAIRS = Choice(
    {"downscale": 0, "upscale": 0},
    tuple({"downscale": down, "upscale": up} for down in range(5) for up in range(5)),
    '{"downscale": d, "upscale": u}, each 0 (nearest), 1 (linear), 2 (cubic), 3 (area) or 4 (Lanczos)',
)
SEED = {"seed": Bounds((0, 2**32 - 1), (0, 2**32 - 1), step=1)}

OPERATIONS: Mapping[str, Operation] = {
    operation.name: operation
    for operation in (
        Operation("HorizontalFlip", _horizontal_flip),
        Operation("VerticalFlip", _vertical_flip),
        Operation("RandomRotate90", _rotate_90, chance={"quarters": Bounds((0, 3), (0, 3), step=1)}),
        Operation("Transpose", _transpose),
        Operation("Rotate", _rotate, {"limit": Bounds((-90, 90), (-360, 360), "either side"), **BORDER}),
        Operation(
            "ShiftScaleRotate",
            _shift_scale_rotate,
            {
                "shift_limit": Bounds((-0.0625, 0.0625), (-1, 1), "either side", axes=True),
                "scale_limit": Bounds((-0.1, 0.1), (-0.75, 3), "either side", axes=True),
                "rotate_limit": Bounds((-45, 45), (-360, 360), "either side"),
                **BORDER,
            },
        ),
        Operation(
            "Affine",
            _affine,
            {
                "scale": Bounds((1, 1), (0.25, 4), "exact", axes=True),
                "translate_percent": Bounds((0, 0), (-1, 1), "exact", axes=True),
                "rotate": Bounds((0, 0), (-360, 360), "exact"),
                # Twice 45° would leave nothing of the picture.
                "shear": Bounds((0, 0), (-30, 30), "exact", axes=True),
                "keep_ratio": Choice(False, *YES_NO),
                **BORDER,
            },
        ),
        Operation(
            "RandomBrightnessContrast",
            _brightness_contrast,
            {
                "brightness_limit": Bounds((-0.2, 0.2), (-1, 1), "either side"),
                "contrast_limit": Bounds((-0.2, 0.2), (-1, 1), "either side"),
                "brightness_by_max": Choice(True, *YES_NO),
            },
        ),
        Operation(
            "HueSaturationValue",
            _hue_saturation_value,
            {
                "hue_shift_limit": Bounds((-20, 20), (-180, 180), "either side"),
                "sat_shift_limit": Bounds((-30, 30), (-255, 255), "either side"),
                "val_shift_limit": Bounds((-20, 20), (-255, 255), "either side"),
            },
        ),
        Operation(
            "RGBShift",
            _rgb_shift,
            {
                f"{channel}_shift_limit": Bounds((-20, 20), (-255, 255), "either side", levels=True)
                for channel in ("r", "g", "b")
            },
        ),
        Operation("RandomGamma", _gamma, {"gamma_limit": Bounds((80, 120), (1, 1000), 1)}),
        Operation("CLAHE", _clahe, {"clip_limit": Bounds((1, 4), (1, 256), 1)}),
        Operation("ToGray", _to_gray),
        Operation("Posterize", _posterize, {"num_bits": Bounds((4, 4), (1, 7), "exact", step=1)}),
        Operation("GaussianBlur", _gaussian_blur, {"sigma_limit": Bounds((0.5, 3), (0, 25), 0)}),
        Operation(
            "MotionBlur",
            _motion_blur,
            {
                "blur_limit": Bounds((3, 7), (3, 255), 3, step=2),
                "angle_range": Bounds((0, 360), (0, 360)),
                "direction_range": Bounds((-1, 1), (-1, 1)),
                "allow_shifted": Choice(True, *YES_NO),
            },
            {name: Bounds((-1, 1), (-1, 1)) for name in ("shift_x", "shift_y")},
        ),
        Operation(
            "GaussNoise",
            _gauss_noise,
            {"std_range": Bounds((0.2, 0.44), (0, 1)), "per_channel": Choice(True, *YES_NO)},
            SEED,
        ),
        Operation(
            "ISONoise",
            _iso_noise,
            {"color_shift": Bounds((0.01, 0.05), (0, 1)), "intensity": Bounds((0.1, 0.5), (0, 10))},
            SEED,
        ),
        Operation(
            "ImageCompression",
            _image_compression,
            {
                "compression_type": Choice("jpeg", ("jpeg", "webp"), '"jpeg" or "webp"'),
                "quality_range": Bounds((99, 100), (1, 100), step=1),
            },
        ),
        Operation(
            "Downscale",
            _downscale,
            {"scale_range": Bounds((0.25, 0.25), (0.01, 1)), "interpolation_pair": PAIRS},
        ),
        Operation("Emboss", _emboss, {"alpha": Bounds((0.2, 0.5), (0, 1)), "strength": Bounds((0.2, 0.7), (0, 100))}),
        Operation("Sharpen", _sharpen, {"alpha": Bounds((0.2, 0.5), (0, 1)), "lightness": Bounds((0.5, 1), (0, 100))}),
        Operation(
            "CoarseDropout",
            _coarse_dropout,
            {
                "num_holes_range": Bounds((1, 2), (1, 1000), step=1),
                "hole_height_range": Bounds((0.1, 0.2), (0, 1), drawn=False),
                "hole_width_range": Bounds((0.1, 0.2), (0, 1), drawn=False),
                "fill": LEVEL,
            },
            SEED,
        ),
    )
}
"""The vocabulary by name. Defaults are those of Albumentations 2.0.8."""


@dataclasses.dataclass(frozen=True)
class Transform:
    """One step of a pipeline.

    Args:
        kind: a name out of `OPERATIONS`.
        p: chance in [0, 1] that it happens.
        parameters: by Albumentations' names; what is not named has Albumentations' default. Kept whole, with both
            bounds of everything that is drawn.

    Raises:
        RecipeError: a transform or parameter that does not exist, or values that do not hold.
    """

    kind: str
    p: float = 0.5
    parameters: Mapping[str, Value] = dataclasses.field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.kind not in OPERATIONS:
            raise RecipeError(unknown("transform", self.kind, OPERATIONS))
        if not 0 <= self.p <= 1:
            raise RecipeError(f"p {self.p} of {self.kind} is not a probability; give 0 to 1")
        options = OPERATIONS[self.kind].options
        for name in self.parameters:
            if name not in options:
                raise RecipeError(unknown(f"parameter of {self.kind}", name, options))
        whole = {name: self._checked(name, option) for name, option in options.items()}
        object.__setattr__(self, "parameters", whole)

    def _checked(self, name: str, option: Bounds | Choice) -> Any:
        value = self.parameters.get(name, option.default)
        try:
            return option.checked(value)
        except ValueError as error:
            raise RecipeError(f"{name} {value!r} of {self.kind} does not hold; {error}") from None

    def draw(self, rng: Rng) -> tuple[Operation, dict[str, Any]]:
        """The operation and what to apply it with, for a time that it happens."""
        operation = OPERATIONS[self.kind]
        return operation, operation.draw(self.parameters, rng)


@dataclasses.dataclass(frozen=True)
class OneOf:
    """One step of a pipeline that is one of several.

    Args:
        one_of: the choices, each as likely as its own `p` says against the others'.
        p: chance in [0, 1] that one of them happens.

    Raises:
        RecipeError: there is none, or p is no probability.
    """

    one_of: tuple[Transform, ...]
    p: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise RecipeError(f"p {self.p} of OneOf is not a probability; give 0 to 1")
        if not sum(choice.p for choice in self.one_of) > 0:
            raise RecipeError("OneOf has nothing to choose from; name transforms with a p above 0")

    def draw(self, rng: Rng) -> tuple[Operation, dict[str, Any]]:
        """The operation and what to apply it with, for a time that one happens."""
        weights = np.array([choice.p for choice in self.one_of])
        return self.one_of[int(rng.choice(len(weights), p=weights / weights.sum()))].draw(rng)


@dataclasses.dataclass(frozen=True)
class Augment:
    """A pipeline, called as augment(pixels, rng).

    Args:
        transforms: in the order in which they are applied, each by its own chance.
        p: chance in [0, 1] that the pipeline is run at all.

    Raises:
        RecipeError: p is no probability.
    """

    transforms: tuple[Transform | OneOf, ...] = ()
    p: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise RecipeError(f"p {self.p} of a pipeline is not a probability; give 0 to 1")

    def draw(self, rng: Rng) -> list[tuple[Operation, dict[str, Any]]]:
        """What is done to the next picture, whichever it is, in order; empty where it stays as it is."""
        if self.p < 1 and rng.random() >= self.p:
            return []
        chances = rng.random(len(self.transforms)).tolist()
        return [
            transform.draw(rng)
            for transform, chance in zip(self.transforms, chances, strict=True)
            if chance < transform.p
        ]

    def __call__(self, pixels: Pixels, rng: Rng) -> Pixels:
        """One picture, uint8 (height, width, 3), augmented: the same shape, a new array. `rng` is all its randomness.

        Raises:
            InputError: "ImageCompression" was drawn, and a side is longer than the 65,500 px that JPEG holds, or the
                16,383 of WebP.
        """
        augmented = pixels
        for operation, parameters in self.draw(rng):
            augmented = operation.apply(augmented, parameters)
        return pixels.copy() if augmented is pixels else augmented


DFCON = Augment(
    (
        Transform("HorizontalFlip"),
        Transform(
            "ShiftScaleRotate",
            0.1,
            {"shift_limit": 0.05, "scale_limit": 0.05, "rotate_limit": 8, "interpolation": 2, "border_mode": 4},
        ),
        Transform("RandomBrightnessContrast", 0.3, {"brightness_limit": 0.1, "contrast_limit": 0.15}),
        Transform("HueSaturationValue", 0.15, {"hue_shift_limit": 4, "sat_shift_limit": 15, "val_shift_limit": 8}),
        Transform("RGBShift", 0.1, {"r_shift_limit": 8, "g_shift_limit": 8, "b_shift_limit": 8}),
        Transform("RandomGamma", 0.1, {"gamma_limit": (85, 115)}),
        Transform("ToGray", 0.03),
        Transform("GaussianBlur", 0.1, {"sigma_limit": (0.2, 0.8)}),
        Transform(
            "Downscale",
            0.1,
            {"scale_range": (0.75, 0.95), "interpolation_pair": {"downscale": 3, "upscale": 2}},
        ),
        Transform("Sharpen", 0.05, {"alpha": (0.03, 0.1), "lightness": (1.0, 1.0)}),
        Transform("GaussNoise", 0.1, {"std_range": (0.004, 0.016)}),
        Transform("CoarseDropout", 0.1, {"hole_height_range": (0.05, 0.15), "hole_width_range": (0.05, 0.15)}),
        Transform("ImageCompression", 0.3, {"quality_range": (70, 98)}),
    )
)
"""The pipeline for DFCon's recipe. *Paper*: that there is one. *Ours*: what it holds, mild enough that the traces of
making stay. 44 of 100 pictures keep their detail: they get at most a flip, other colours or light, and a hole."""

_PLACED = (
    Transform("RandomRotate90", 0.2),
    Transform("Transpose", 0.2),
    Transform("HorizontalFlip", 0.5),
    Transform("VerticalFlip", 0.5),
)
_TURNED = Transform("ShiftScaleRotate", 0.2, {"border_mode": 4})

PLAIN = Augment((*_PLACED, _TURNED), 0.9)
"""The pipeline of "Herd mentality" (arXiv 2410.05466): rotation and flips alone, as noise and light are said to disturb
what a detector looks for. *Release* (Monu-Khicher-1/multi-stage-learning@4d64ed8c63ef, dataset/loader.py, weak_aug)."""

STRONG = Augment(
    (
        *_PLACED,
        Transform("GaussNoise", 0.2, {"std_range": (10**0.5 / 255, 50**0.5 / 255)}),
        _TURNED,
        OneOf(
            (
                Transform("CLAHE", 0.5, {"clip_limit": 2}),
                Transform("Sharpen"),
                Transform("Emboss"),
                Transform("RandomBrightnessContrast"),
            ),
            0.2,
        ),
        Transform("HueSaturationValue", 0.2),
    ),
    0.9,
)
"""GenConViT's own, which "Herd mentality" left behind: the same with noise, sharpness, light and colour. *Release*
(the same file, strong_aug); noise as Albumentations had it then, a variance of 10 to 50 grey levels."""
