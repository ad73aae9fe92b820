"""Alignment: one draw of sizes and codecs for both classes, so that neither can be told by its file.

Collections of reals and fakes differ in how they were saved: reals arrive as JPEG of many sizes, fakes as PNG of one.
A detector trained on them learns the container instead of the content. `Align` sends every picture, real or fake,
through the same random resize and the same lossy codec before anything else sees it.
"""

from __future__ import annotations

import dataclasses
import io
from typing import Literal, TypedDict, Unpack

import numpy as np
from PIL import Image

from assay.errors import InputError, RecipeError, unknown
from assay.types import Pixels

Subsampling = Literal["4:4:4", "4:2:2", "4:2:0"]

LONGEST_SIDE = {"JPEG": 65_500, "WEBP": 16_383, "PNG": 2**31 - 1}
"""The codecs, and the longest side in pixels that each can hold as Pillow writes it."""

FILTERS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS, Image.Resampling.BOX)
SUBSAMPLINGS: tuple[Subsampling, ...] = ("4:4:4", "4:2:2", "4:2:0")
WEBP_METHODS = (0, 4)
"""Effort of the WebP encoder, first and last that are drawn. 5 and 6 cost far more time for the same artefacts."""


class CodecOptions(TypedDict, total=False):
    """Options of one codec; the other codecs ignore them.

    `subsampling` is of JPEG (4:2:0 where it is not given), `method` is of WebP: effort 0–6 (4 where it is not given).
    """

    subsampling: Subsampling
    method: int


def encode(pixels: Pixels, codec: str, quality: int, **options: Unpack[CodecOptions]) -> bytes:
    """The file that `codec` makes of a picture.

    Args:
        pixels: uint8, shape (height, width, 3).
        codec: "JPEG", "WEBP" (lossy) or "PNG" (lossless, without regard to quality).
        quality: 1 (worst) to 100, on the codec's own scale.
        options: see `CodecOptions`.

    Raises:
        RecipeError: no such codec, or the quality is out of range.
        InputError: the picture is larger than the codec can hold (kind "unsupported").
    """
    if codec not in LONGEST_SIDE:
        raise RecipeError(unknown("codec", codec, LONGEST_SIDE))
    if not 1 <= quality <= 100:
        raise RecipeError(f"quality {quality} is out of range; give 1 to 100")
    height, width = pixels.shape[:2]
    if max(height, width) > LONGEST_SIDE[codec]:
        raise InputError(
            f"{codec} holds at most {LONGEST_SIDE[codec]} px a side and the picture has {width}×{height}; "
            "resize it first or choose another codec",
            kind="unsupported",
        )
    image, file = Image.fromarray(pixels), io.BytesIO()
    match codec:
        case "JPEG":
            image.save(file, "JPEG", quality=quality, subsampling=options.get("subsampling", "4:2:0"))
        case "WEBP":
            image.save(file, "WEBP", quality=quality, method=options.get("method", 4))
        case _:
            image.save(file, "PNG")
    return file.getvalue()


def codec_round_trip(pixels: Pixels, codec: str, quality: int, **options: Unpack[CodecOptions]) -> Pixels:
    """What is left of a picture after it was saved by `codec` and opened again; same shape, a new array.

    Arguments and errors are those of `encode`. PNG keeps every pixel.
    """
    if codec == "PNG":
        return pixels.copy()
    with Image.open(io.BytesIO(encode(pixels, codec, quality, **options)), formats=[codec]) as image:
        return np.array(image.convert("RGB"))


@dataclasses.dataclass(frozen=True, slots=True)
class Alignment:
    """One draw of `Align`: what is done to a picture, whichever it is.

    Args:
        scale: factor of both sides; None where the size stays.
        filter: the resampling filter of that resize.
        codec, quality: the round trip; None where the picture is not saved.
        subsampling, method: options of the codec.
    """

    scale: float | None
    filter: Image.Resampling
    codec: str | None
    quality: int
    subsampling: Subsampling
    method: int

    def apply(self, pixels: Pixels, minimum: int = 1) -> Pixels:
        """The aligned picture. Scaling takes no side below `minimum` px, nor enlarges a smaller picture to it."""
        if self.scale is not None:
            height, width = pixels.shape[:2]
            scale = max(self.scale, min(1.0, minimum / min(height, width)))
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            pixels = np.array(Image.fromarray(pixels).resize(size, self.filter))
        if self.codec is not None:
            return codec_round_trip(pixels, self.codec, self.quality, subsampling=self.subsampling, method=self.method)
        return pixels.copy() if self.scale is None else pixels


@dataclasses.dataclass(frozen=True)
class Align:
    """Takes the traces of size and format away from a training picture.

    The draw never looks at the picture: it takes the same numbers from the generator whatever comes in, so a real and
    a fake at the same place of the stream are treated alike.

    Args:
        probability: chance in [0, 1] that a picture is aligned at all; aligned pictures are always saved once.
        codecs: names of codecs, equally likely.
        quality: first and last quality, both included, uniform. The scale is the codec's own.
        scale: bounds of the factor of both sides, uniform.
        scale_probability: chance in [0, 1] that an aligned picture is resized before it is saved.
        minimum: scaling takes no side below this many px.

    Raises:
        RecipeError: an unknown codec, or bounds that do not hold.
    """

    probability: float = 0.8
    codecs: tuple[str, ...] = ("JPEG", "WEBP")
    quality: tuple[int, int] = (50, 98)
    scale: tuple[float, float] = (0.5, 1.1)
    scale_probability: float = 0.5
    minimum: int = 64

    def __post_init__(self) -> None:
        for name in ("probability", "scale_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise RecipeError(f"{name} {getattr(self, name)} is not a probability; give 0 to 1")
        if not self.codecs:
            raise RecipeError("no codec to align with; name one, or leave the alignment out")
        for codec in self.codecs:
            if codec not in LONGEST_SIDE:
                raise RecipeError(unknown("codec", codec, LONGEST_SIDE))
        if not 1 <= self.quality[0] <= self.quality[1] <= 100:
            raise RecipeError(f"quality {self.quality} does not hold; give (first, last) within 1 to 100")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise RecipeError(f"scale {self.scale} does not hold; give (low, high), both above 0")
        if self.minimum < 1:
            raise RecipeError(f"minimum {self.minimum} px does not hold; give 1 or more")

    def draw(self, rng: np.random.Generator) -> Alignment:
        """What is done to the next picture. Takes seven numbers from `rng`, always."""
        aligned = rng.random() < self.probability
        scaled = rng.random() < self.scale_probability
        alignment = Alignment(
            scale=float(rng.uniform(*self.scale)),
            filter=FILTERS[rng.integers(len(FILTERS))],
            codec=self.codecs[rng.integers(len(self.codecs))],
            quality=int(rng.integers(self.quality[0], self.quality[1] + 1)),
            subsampling=SUBSAMPLINGS[rng.integers(len(SUBSAMPLINGS))],
            method=int(rng.integers(WEBP_METHODS[0], WEBP_METHODS[1] + 1)),
        )
        return dataclasses.replace(
            alignment,
            scale=alignment.scale if aligned and scaled else None,
            codec=alignment.codec if aligned else None,
        )

    def __call__(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        """One picture, aligned: uint8 (height, width, 3) in and out, a new array; the sides may change."""
        return self.draw(rng).apply(pixels, self.minimum)
