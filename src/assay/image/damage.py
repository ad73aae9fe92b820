"""The operations of the degradation engine, each driven by one strength.

They are those of "drift" (arXiv 2604.25889). *Release* is khoalephanminh/ntire26-deepfake-challenge@364d5a3,
training/dataset/noise_augment_wrapper.py. Below, s is the strength in [0, 1], U a fresh uniform number in [0, 1), and σ
of noise is in levels of 0–255. What follows "release" is what it does where ours departs from it.

- gaussian_blur: variance 30 s U px² along x and along y (σ up to 5.5 px), one for both half of the time.
  Release: turned to any angle; the round one σ 30 s U px, cut by a window of 7–25 px.
- box_blur: side 1 + 28 s U px, odd. Release: 3 … 30 s px.
- motion_blur: length 1 + 12 s px, any angle. Release: 3 … 13 px; near the upright few points of the line remain.
- speckle: σ s (2 + 23 U) / 255 of the value; 4 in 10 alike in all channels. Release: 1 in 5 correlated channels.
- poisson: 10^(4 − 2 s) photons at white; half alike in all channels, by the luma. Release: 10^(2 + 2 U), whatever s.
- salt_and_pepper: 0.1 s of the pixels, black or white.
- resize: both sides × 1 − 0.75 s U (7 in 10), × 1 + s U (2 in 10), or stays; a random filter, nearest for half of the
  shrinking. Release: shrinks by U(0.25 / s, 1), enlarges by 1 + U.
- colour_shift: 1 in 5 saturation 1 − s; of the others 3 in 10 saturation 1 − 0.9 s U, the rest each channel
  × 1 ± 0.4 s U. Release: grey whatever s, saturation from 0.1 at any s, 1 in 5 of the casts (0.8, 1.2, 0.8).
- gaussian_noise: σ s (60 + 40 U), or 1 in 5 s (2 + 98 U); 1 in 5 alike in all channels. Release: 1 in 10 correlated.
- jpeg: quality 95 − 85 s, chroma 4:2:0. Release: uniform over 10–95, whatever s. (Strengths of the engine's Beta
  distribution give nearly that.)
- chroma_subsampling: 4:2:2 below s = 0.5, 4:2:0 from there. Release: 4:2:0, whatever s.
- banding: 256^(1 − s) × 16^s levels a channel. Release: 32 − 14 s, and left out with probability s.
- over_enhancement: 45 in 100 brightness 1 − 0.98 s U; 45 brightness 1 + 1.5 s U, then contrast 1 − s (0.2 + 0.7 U); 10
  either of both × 1 ± 0.5 s U. Release: the second contrast at most 0.8 at any s.
- chromatic_aberration: red 4 s px down and right, blue up and left. Release: at least 1 px.
- moire: 0.15 s of a sine grating, 0.5–3 rad/px, any angle.
- glitch: 10 s runs of up to 8 s rows: rolled by up to 30 s px, or (4 in 10) lost to black, white or grey.
- vignette: corners lose 0.8 s of their light, the centre none. Release: 0.4 + 0.4 s.
- text: one to ten characters 0.7 s U of the shorter side tall. Release: any size whatever s, often out of sight.
- patch: the picture itself, mirrored, shrunk to s (0.08 + 0.32 U) of the shorter side. Release: another picture of the
  data set, 20–100 px.

The departures are ours: they let strength 0 leave (nearly) everything as it is and 1 be the engine's worst, make an
operation faster, or free it of a second picture. Every operation takes uint8 (height, width, 3) of any size from 1 × 1
and gives a new array; only `resize` gives another shape. Parameters are drawn apart from their application and never
look at the picture.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import statistics
import string
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

from assay.errors import RecipeError
from assay.image.align import codec_round_trip
from assay.types import Pixels

Parameters = Mapping[str, float]
"""One value for each of an operation's parameters; whole numbers are int."""

Rng = np.random.Generator
Table = npt.NDArray[np.floating[Any]]

LONGEST_SIDE = 4096
"""Enlarging makes no side longer than this, in px. (A picture that comes in larger is not made smaller.)"""

SHORTEST_SIDE = 10
"""Shrinking makes no side shorter than this, in px, as in the release. (Nor is a smaller picture enlarged to it.)"""

FILTERS = (Image.Resampling.NEAREST, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.BOX)
"""What `resize` resamples with, by number."""


@dataclasses.dataclass(frozen=True)
class Operation:
    """One kind of damage.

    Args:
        name: as recipes and conditions name it.
        change: pixels and the parameters by name, to new pixels. Deterministic; the input stays as it is.
        parameters: of a strength in [0, 1] and chance. Takes as many numbers from the generator whatever the
            strength, so that one seed at two strengths differs in strength alone.
    """

    name: str
    change: Callable[..., Pixels]
    parameters: Callable[[float, Rng], dict[str, float]]

    def draw(self, rng: Rng, strength: float) -> dict[str, float]:
        """Parameters for a strength in [0, 1]; see the module's table.

        Raises:
            RecipeError: a strength beyond [0, 1].
        """
        if not 0 <= strength <= 1:
            raise RecipeError(f"strength {strength} of {self.name} does not hold; give 0 to 1")
        return self.parameters(float(strength), rng)

    def apply(self, pixels: Pixels, parameters: Parameters) -> Pixels:
        """The damaged picture: uint8 (height, width, 3) in and out, a new array.

        Raises:
            InputError: "jpeg", and a side is longer than the 65,500 px that JPEG holds.
        """
        return self.change(pixels, **parameters)


def _seed(rng: Rng) -> int:
    return int(rng.integers(2**32))


def _bands(pixels: Pixels) -> Iterator[slice]:
    """Rows few enough at a time that a band and what is computed from it stay in the processor's cache."""
    height, width = pixels.shape[:2]
    rows = max(16, 2**15 // width)
    return (slice(top, min(top + rows, height)) for top in range(0, height, rows))


def _channel_wise(image: Image.Image, red: Table, green: Table, blue: Table) -> Pixels:
    """Each of a channel's 256 values replaced by that of its table, rounded and cut to 0–255."""
    return np.array(image.point(np.clip(np.rint([red, green, blue]), 0, 255).astype(int).ravel().tolist()))


# Blur
#
# Sums of shifted rows in 16 bits: a quarter of the time of Pillow's filters at the sizes that detectors see, and nearer
# to the true Gaussian than its repeated boxes.


def _separable(pixels: Pixels, across: list[int], down: list[int]) -> Pixels:
    """A symmetric kernel along each axis: its whole weights from the middle outwards, at most 257 in all of both sides.

    The edge is repeated beyond the picture.
    """
    width, wide, tall = pixels.shape[1], len(across) - 1, len(down) - 1
    padded = np.pad(pixels, ((tall, tall), (wide, wide), (0, 0)), mode="edge")
    blurred = np.empty_like(pixels)
    for rows in _bands(pixels):
        band = padded[rows.start : rows.stop + 2 * tall].astype(np.uint16)
        upright = _weighted(band, down, rows.stop - rows.start)
        blurred[rows] = _weighted(upright.swapaxes(0, 1), across, width).swapaxes(0, 1)
    return blurred


def _weighted(band: npt.NDArray[np.uint16], weights: list[int], extent: int) -> npt.NDArray[np.uint16]:
    """The weighted mean along the first axis, `extent` of it."""
    middle = len(weights) - 1
    if not middle:
        return band
    total = band[middle : middle + extent] * np.uint16(weights[0])
    pair = np.empty_like(total)
    for away, weight in enumerate(weights[1:], start=1):
        before, after = middle - away, middle + away
        np.add(band[before : before + extent], band[after : after + extent], out=pair)
        pair *= np.uint16(weight)
        total += pair
    whole = weights[0] + 2 * sum(weights[1:])
    total += np.uint16(whole // 2)
    total //= np.uint16(whole)
    return total


def _bell(sigma: float) -> list[int]:
    """Weights of a Gaussian in 256ths."""
    if sigma < 0.1:
        return [256]
    # Half a percent lies beyond 2.8 σ; whole weights that sum to 256 need whatever the others leave in the middle.
    weights = np.exp(-0.5 * (np.arange(math.ceil(2.8 * sigma) + 1) / sigma) ** 2)
    weights *= 256 / (2 * weights.sum() - weights[0])
    outer = np.rint(weights[1:]).astype(int).tolist()
    return [256 - 2 * sum(outer), *outer]


def _gaussian_blur(pixels: Pixels, sigma_x: float, sigma_y: float) -> Pixels:
    return _separable(pixels, _bell(sigma_x), _bell(sigma_y))


def _gaussian_blur_parameters(strength: float, rng: Rng) -> dict[str, float]:
    first, second = (math.sqrt(30 * strength * part) for part in rng.random(2))
    return {"sigma_x": first, "sigma_y": first if rng.random() < 0.5 else second}


def _box_blur(pixels: Pixels, side: int) -> Pixels:
    """The mean of `side` × `side` px, an odd number below 257."""
    weights = [1] * (side // 2 + 1)
    return _separable(pixels, weights, weights)


def _box_blur_parameters(strength: float, rng: Rng) -> dict[str, float]:
    return {"side": 1 + 2 * round(14 * strength * rng.random())}


def line(length: float, degrees: float) -> list[tuple[int, int]]:
    """The kernel of a motion blur: (row, column) of each of `length` equal weights, the middle at (0, 0).

    Args:
        length: of the line in px, rounded.
        degrees: its direction; 0 is level, 90 upright, anticlockwise.
    """
    count = max(1, round(length))
    along = np.arange(count) - (count - 1) // 2
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    rows, columns = np.rint(-sine * along).astype(int), np.rint(cosine * along).astype(int)
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def _motion_blur(pixels: Pixels, length: float, degrees: float) -> Pixels:
    points = line(length, degrees)
    reach = max(max(abs(row), abs(column)) for row, column in points)
    padded = np.pad(pixels, ((reach, reach), (reach, reach), (0, 0)), mode="symmetric")
    blurred, width = np.empty_like(pixels), pixels.shape[1]
    for rows in _bands(pixels):
        # At most a few hundred values of 255: sums of a line of 257 px still fit.
        total = np.full(pixels[rows].shape, len(points) // 2, np.uint16)
        for row, column in points:
            top, left = reach + rows.start + row, reach + column
            total += padded[top : top + len(total), left : left + width]
        total //= len(points)
        blurred[rows] = total
    return blurred


def _motion_blur_parameters(strength: float, rng: Rng) -> dict[str, float]:
    return {"length": round(1 + 12 * strength), "degrees": rng.uniform(0, 180)}


# Noise
#
# Drawing a normal number for every value takes longer than decoding the picture. Instead equally likely quantiles are
# computed once (a table), and random bytes say which of them each value gets.


@functools.cache
def _normal(count: int) -> npt.NDArray[np.float32]:
    """As many equally likely values of a normal distribution, variance 1."""
    inverse = statistics.NormalDist().inv_cdf
    upper = np.array([inverse((count // 2 + part + 0.5) / count) for part in range(count // 2)])
    values = np.concatenate([-upper[::-1], upper])
    scaled: npt.NDArray[np.float32] = (values / values.std()).astype(np.float32)
    return scaled


def _words(seed: int, dtype: str) -> Callable[[tuple[int, int, int]], npt.NDArray[np.uint16]]:
    """Uniform over all values of an unsigned type, by the fastest generator there is; of the shape asked for."""
    source, itemsize = np.random.Generator(np.random.SFC64(seed)), np.dtype(dtype).itemsize

    def draw(shape: tuple[int, int, int]) -> npt.NDArray[np.uint16]:
        words = np.frombuffer(source.bytes(math.prod(shape) * itemsize), dtype)
        return words.astype(np.uint16, copy=False).reshape(shape)

    return draw


def _add(pixels: Pixels, table: npt.NDArray[np.int16], index: Callable[[slice], npt.NDArray[np.uint16]]) -> Pixels:
    """The picture plus table[index], cut to 0–255. The index is of a band of rows; one channel of it serves all."""
    noisy = np.empty_like(pixels)
    for rows in _bands(pixels):
        total = np.take(table, index(rows)) + pixels[rows]
        np.clip(total, 0, 255, out=total)
        noisy[rows] = total
    return noisy


def _gaussian_noise(pixels: Pixels, sigma: float, grey: float, seed: int) -> Pixels:
    words, channels = _words(seed, "<u2"), 1 if grey else 3
    table = np.rint(sigma * _normal(2**16)).astype(np.int16)
    return _add(pixels, table, lambda rows: words((rows.stop - rows.start, pixels.shape[1], channels)))


def _gaussian_noise_parameters(strength: float, rng: Rng) -> dict[str, float]:
    lowest = 2 if rng.random() < 0.2 else 60
    sigma = strength * (lowest + (100 - lowest) * rng.random())
    return {"sigma": sigma, "grey": int(rng.random() < 0.2), "seed": _seed(rng)}


def _add_by_value(pixels: Pixels, values: npt.NDArray[np.uint8], table: Table, grey: float, seed: int) -> Pixels:
    """Noise that depends on the value: row v of the table (256, 256) holds the quantiles of the noise of value v."""
    words, channels = _words(seed, "u1"), 1 if grey else 3

    def index(rows: slice) -> npt.NDArray[np.uint16]:
        places: npt.NDArray[np.uint16] = values[rows].astype(np.uint16)
        places <<= 8
        return places | words((*places.shape[:2], channels))

    return _add(pixels, np.rint(table).astype(np.int16).ravel(), index)


def _speckle(pixels: Pixels, sigma: float, grey: float, seed: int) -> Pixels:
    """Multiplicative: σ is a share of the value."""
    return _add_by_value(pixels, pixels, np.outer(np.arange(256), sigma * _normal(256)), grey, seed)


def _speckle_parameters(strength: float, rng: Rng) -> dict[str, float]:
    return {
        "sigma": strength * (2 + 23 * rng.random()) / 255,
        "grey": int(rng.random() < 0.4),
        "seed": _seed(rng),
    }


def _poisson_quantiles(mean: Table) -> Table:
    """256 equally likely counts of each Poisson distribution: shape (means, 256)."""
    # Cornish and Fisher's expansion to the second order holds from a mean of about 10.
    normal, spread = _normal(256), np.sqrt(np.maximum(mean, 1))[:, None]
    counts: Table = np.rint(mean[:, None] + spread * normal + (normal**2 - 1) / 6 - (normal**3 - normal) / 72 / spread)
    few = np.flatnonzero(mean < 10)
    steps = np.arange(48)
    logarithms = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, 48)))])
    shares = (np.arange(256) + 0.5) / 256
    for row in few.tolist():
        weights = np.exp(steps * math.log(max(mean[row], 1e-12)) - mean[row] - logarithms)
        counts[row] = np.searchsorted(np.cumsum(weights), shares)
    return counts


def _poisson(pixels: Pixels, photons: float, grey: float, seed: int) -> Pixels:
    """Shot noise: a value v is the mean of v / 255 × `photons` counts. Where grey, by the luma, on all channels."""
    values = np.arange(256)
    noise = _poisson_quantiles(values * photons / 255) * 255 / photons - values[:, None]
    source = np.array(Image.fromarray(pixels).convert("L"))[..., None] if grey else pixels
    return _add_by_value(pixels, source, noise, grey, seed)


def _poisson_parameters(strength: float, rng: Rng) -> dict[str, float]:
    return {"photons": 10 ** (4 - 2 * strength), "grey": int(rng.random() < 0.5), "seed": _seed(rng)}


def _salt_and_pepper(pixels: Pixels, share: float, seed: int) -> Pixels:
    """`share` (below 1) of the pixels become black or white, equally likely."""
    rng, noisy = np.random.default_rng(seed), pixels.copy()
    flat = noisy.reshape(-1, 3)
    # Places are drawn with repeats, which is far faster than a choice without: so many that `share` of them differ.
    places = rng.integers(len(flat), size=round(-math.log1p(-share) * len(flat)))
    flat[places] = rng.integers(2, size=(len(places), 1), dtype=np.uint8) * np.uint8(255)
    return noisy


def _salt_and_pepper_parameters(strength: float, rng: Rng) -> dict[str, float]:
    return {"share": 0.1 * strength, "seed": _seed(rng)}


# Sampling and compression


def _resize(pixels: Pixels, factor: float, filter: int) -> Pixels:
    height, width = pixels.shape[:2]
    least = min(1.0, SHORTEST_SIDE / min(height, width))
    most = max(1.0, LONGEST_SIDE / max(height, width))
    factor = min(max(factor, least), most)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.array(Image.fromarray(pixels).resize(size, FILTERS[filter]))


def _resize_parameters(strength: float, rng: Rng) -> dict[str, float]:
    kind, part, nearest, other = rng.random(4)
    factor = 1 - 0.75 * strength * part if kind < 0.7 else 1 + strength * part if kind > 0.8 else 1.0
    sharp = factor < 1 and nearest < 0.5
    return {"factor": factor, "filter": 0 if sharp else 1 + int(3 * other)}


def _jpeg(pixels: Pixels, quality: int) -> Pixels:
    return codec_round_trip(pixels, "JPEG", quality)


def _jpeg_parameters(strength: float, rng: Rng) -> dict[str, float]:
    return {"quality": round(95 - 85 * strength)}


def _chroma_subsampling(pixels: Pixels, columns: int, rows: int) -> Pixels:
    """Cb and Cr averaged over blocks of `columns` × `rows` px; the luma stays."""
    if columns * rows == 1:
        return pixels.copy()
    luma, *chroma = Image.fromarray(pixels).convert("YCbCr").split()
    # reduce() rounds odd sides up; the box is the part of the small plane that the picture covers.
    covered = (0.0, 0.0, luma.width / columns, luma.height / rows)
    coarse = [plane.reduce((columns, rows)).resize(luma.size, Image.Resampling.NEAREST, covered) for plane in chroma]
    return np.array(Image.merge("YCbCr", (luma, *coarse)).convert("RGB"))


def _chroma_subsampling_parameters(strength: float, rng: Rng) -> dict[str, float]:
    return {"columns": 2 if strength > 0 else 1, "rows": 2 if strength >= 0.5 else 1}


# Colour and light


def _colour_shift(pixels: Pixels, saturation: float, red: float, green: float, blue: float) -> Pixels:
    image = Image.fromarray(pixels)
    if saturation != 1:
        image = ImageEnhance.Color(image).enhance(saturation)
    values = np.arange(256)
    return _channel_wise(image, red * values, green * values, blue * values)


def _colour_shift_parameters(strength: float, rng: Rng) -> dict[str, float]:
    kind, part, *gains = rng.random(5)
    shift = {"saturation": 1.0, "red": 1.0, "green": 1.0, "blue": 1.0}
    if kind < 0.2:
        return shift | {"saturation": 1 - strength}
    if kind < 0.2 + 0.8 * 0.3:
        return shift | {"saturation": 1 - 0.9 * strength * part}
    names = ("red", "green", "blue")
    return shift | {name: 1 + 0.4 * strength * (2 * gain - 1) for name, gain in zip(names, gains, strict=True)}


def _banding(pixels: Pixels, levels: int) -> Pixels:
    """The nearest of so many evenly spaced levels a channel, black and white among them."""
    steps = levels - 1
    nearest = np.rint(np.arange(256) * steps / 255) * 255 / steps
    return _channel_wise(Image.fromarray(pixels), nearest, nearest, nearest)


def _banding_parameters(strength: float, rng: Rng) -> dict[str, float]:
    return {"levels": round(256 ** (1 - strength) * 16**strength)}


def _over_enhancement(pixels: Pixels, brightness: float, contrast: float) -> Pixels:
    image = Image.fromarray(pixels)
    if brightness != 1:
        image = ImageEnhance.Brightness(image).enhance(brightness)
    if contrast != 1:
        image = ImageEnhance.Contrast(image).enhance(contrast)
    return np.array(image)


def _over_enhancement_parameters(strength: float, rng: Rng) -> dict[str, float]:
    kind, first, second = rng.random(3)
    if kind < 0.45:
        return {"brightness": 1 - 0.98 * strength * first, "contrast": 1.0}
    if kind < 0.9:
        return {"brightness": 1 + 1.5 * strength * first, "contrast": 1 - strength * (0.2 + 0.7 * second)}
    factor = 1 + 0.5 * strength * (2 * first - 1)
    return {"brightness": factor, "contrast": 1.0} if second < 0.5 else {"brightness": 1.0, "contrast": factor}


def _vignette(pixels: Pixels, depth: float) -> Pixels:
    """Darkens in proportion to the distance from the centre; corners lose `depth` of their light."""
    across, down = (
        ((np.arange(side, dtype=np.float32) - (side - 1) / 2) / max(side - 1, 1)) ** 2 for side in pixels.shape[1::-1]
    )
    # A corner lies at 1/4 + 1/4 on this scale: its root times √2 is 1.
    light = down[:, None] + across
    np.sqrt(light, out=light)
    light *= -255 * math.sqrt(2) * depth
    light += 255.5
    dark = Image.new("RGB", pixels.shape[1::-1])
    return np.array(Image.composite(Image.fromarray(pixels), dark, Image.fromarray(light.astype(np.uint8))))


def _vignette_parameters(strength: float, rng: Rng) -> dict[str, float]:
    return {"depth": 0.8 * strength}


# Lens, screen and transmission


def _chromatic_aberration(pixels: Pixels, shift: int) -> Pixels:
    """Red moves down and right, blue up and left; where nothing moves in, the old values stay."""
    shifted, shift = pixels.copy(), min(shift, *(side - 1 for side in pixels.shape[:2]))
    if shift:
        shifted[shift:, shift:, 0] = pixels[:-shift, :-shift, 0]
        shifted[:-shift, :-shift, 2] = pixels[shift:, shift:, 2]
    return shifted


def _chromatic_aberration_parameters(strength: float, rng: Rng) -> dict[str, float]:
    return {"shift": round(4 * strength)}


def _moire(pixels: Pixels, share: float, frequency: float, degrees: float) -> Pixels:
    """`share` of a sine grating between black and white, `frequency` in rad/px along `degrees`."""
    along = (frequency * math.cos(math.radians(degrees)), frequency * math.sin(math.radians(degrees)))
    x, y = (np.arange(side, dtype=np.float32) * step for side, step in zip(pixels.shape[1::-1], along, strict=True))
    # sin(x + y) for all pixels by two sines and two cosines a row and a column.
    wave = np.outer(np.sin(y), 127.4 * np.cos(x))
    wave += np.outer(np.cos(y), 127.4 * np.sin(x))
    wave += 127.5
    grating = Image.fromarray(wave.astype(np.uint8))
    return np.array(Image.blend(Image.fromarray(pixels), Image.merge("RGB", (grating, grating, grating)), share))


def _moire_parameters(strength: float, rng: Rng) -> dict[str, float]:
    return {"share": 0.15 * strength, "frequency": rng.uniform(0.5, 3.0), "degrees": rng.uniform(0, 180)}


def _glitch(pixels: Pixels, bands: int, thickness: int, reach: int, seed: int) -> Pixels:
    """`bands` runs of 1 to `thickness` rows, each rolled sideways by up to `reach` px or lost."""
    rng, glitched = np.random.default_rng(seed), pixels.copy()
    for _ in range(bands):
        top = int(rng.integers(len(pixels)))
        rows = slice(top, top + 1 + int(rng.integers(thickness)))
        if rng.random() < 0.4:
            glitched[rows] = (0, 255, rng.integers(51, 205))[rng.integers(3)]
        else:
            glitched[rows] = np.roll(glitched[rows], rng.integers(-reach, reach + 1), axis=1)
    return glitched


def _glitch_parameters(strength: float, rng: Rng) -> dict[str, float]:
    return {
        "bands": round(10 * strength),
        "thickness": max(2, round(8 * strength)),
        "reach": round(30 * strength),
        "seed": _seed(rng),
    }


# Distractors

CHARACTERS = string.digits + string.ascii_letters + string.punctuation + " "


def _text(pixels: Pixels, height: float, length: int, x: float, y: float, seed: int) -> Pixels:
    """`length` random characters in one random colour, `height` of the shorter side tall.

    `x` and `y` in [0, 1] place the text between the left and right (upper and lower) edge.
    """
    size = min(round(height * min(pixels.shape[:2])), 512)
    if size < 1:
        return pixels.copy()
    rng, image = np.random.default_rng(seed), Image.fromarray(pixels)
    text = "".join(CHARACTERS[place] for place in rng.integers(len(CHARACTERS), size=length))
    red, green, blue = rng.integers(256, size=3).tolist()
    font, canvas = ImageFont.load_default(size), ImageDraw.Draw(image)
    left, top, right, bottom = canvas.textbbox((0, 0), text, font)
    origin = (x * (image.width - (right - left)) - left, y * (image.height - (bottom - top)) - top)
    canvas.text(origin, text, (red, green, blue), font)
    return np.array(image)


def _text_parameters(strength: float, rng: Rng) -> dict[str, float]:
    tall, long, x, y = rng.random(4)
    return {"height": 0.7 * strength * tall, "length": 1 + int(10 * long), "x": x, "y": y, "seed": _seed(rng)}


def _patch(pixels: Pixels, width: float, aspect: float, x: float, y: float) -> Pixels:
    """The picture, mirrored and shrunk to `width` of the shorter side and `aspect` times as tall, lies on itself.

    `x` and `y` in [0, 1] place it between the left and right (upper and lower) edge.
    """
    image, across = Image.fromarray(pixels), round(width * min(pixels.shape[:2]))
    if across < 1:
        return pixels.copy()
    size = (across, max(1, min(round(across * aspect), image.height)))
    small = image.resize(size, Image.Resampling.BICUBIC).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    image.paste(small, (round(x * (image.width - size[0])), round(y * (image.height - size[1]))))
    return np.array(image)


def _patch_parameters(strength: float, rng: Rng) -> dict[str, float]:
    wide, tall, x, y = rng.random(4)
    return {"width": strength * (0.08 + 0.32 * wide), "aspect": 0.8 + 0.4 * tall, "x": x, "y": y}


OPERATIONS: Mapping[str, Operation] = {
    operation.name: operation
    for operation in (
        Operation("gaussian_blur", _gaussian_blur, _gaussian_blur_parameters),
        Operation("box_blur", _box_blur, _box_blur_parameters),
        Operation("motion_blur", _motion_blur, _motion_blur_parameters),
        Operation("speckle", _speckle, _speckle_parameters),
        Operation("poisson", _poisson, _poisson_parameters),
        Operation("salt_and_pepper", _salt_and_pepper, _salt_and_pepper_parameters),
        Operation("resize", _resize, _resize_parameters),
        Operation("colour_shift", _colour_shift, _colour_shift_parameters),
        Operation("gaussian_noise", _gaussian_noise, _gaussian_noise_parameters),
        Operation("jpeg", _jpeg, _jpeg_parameters),
        Operation("chroma_subsampling", _chroma_subsampling, _chroma_subsampling_parameters),
        Operation("banding", _banding, _banding_parameters),
        Operation("over_enhancement", _over_enhancement, _over_enhancement_parameters),
        Operation("chromatic_aberration", _chromatic_aberration, _chromatic_aberration_parameters),
        Operation("moire", _moire, _moire_parameters),
        Operation("glitch", _glitch, _glitch_parameters),
        Operation("vignette", _vignette, _vignette_parameters),
        Operation("text", _text, _text_parameters),
        Operation("patch", _patch, _patch_parameters),
    )
}
"""The engine's operations by name."""
