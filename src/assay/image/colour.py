"""From whatever colours a file holds to the sRGB that a person sees on a screen.

The rules, one for every kind of picture:

- **Embedded ICC profiles** (RGB, grey, CMYK) are applied by LittleCMS with the perceptual intent. A profile that moves
  no colour by more than 2/255 is sRGB under another name and is left out, so that rounding adds no pattern of its own.
  A profile that is broken, or made for another kind of picture, is ignored. Other hints (PNG gAMA and cHRM, colour tags
  of video codecs) are not used.
- **Transparency** (alpha, palette entries, colour keys) lies on white, mixed in sRGB after colour management.
- **16 bits** keep their high byte, so mid grey 32768 is 128. 12-bit TIFF is scaled the same way.
- **32-bit integers** within 0…255 stay, within 0…65535 keep their high byte; **32-bit floats** within 0…1 are
  multiplied by 255, within 0…255 rounded. Anything else is stretched from its least to its greatest finite value; a
  value that is not a number is black.
- **CMYK** without a profile is the plain product, R = (1 - C)(1 - K).
- "White is zero" TIFF pictures are turned round.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

from assay.types import Pixels

_BAND = 1 << 20
"""Pixels a step: small beside a large picture, large beside the cost of a step."""

_SAME = 2
"""Levels of 255 by which a profile may move colours and still be taken for sRGB."""

_DEEP = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")
_GREY = ("1", "L", "LA", "La", *_DEEP)
_WHITE_IS_ZERO, _PHOTOMETRIC, _BITS = 0, 262, 258

Change = Callable[[Image.Image], Image.Image]
Painter = Callable[[Image.Image, Pixels], None]


def paint(image: Image.Image, out: Pixels) -> None:
    """Writes the colours of a loaded picture into `out`.

    Goes band by band, so that beside the decoded picture and `out` nothing as large exists.

    Args:
        image: any mode of Pillow's.
        out: (height, width, 3) uint8; may be a view with any strides. Where it is smaller than the picture, it gets
            the upper left part.

    Raises:
        ValueError: a mode that cannot be converted.
    """
    painter(image)(image, out)


def painter(image: Image.Image) -> Painter:
    """`paint` for parts of a picture, which come out as in the whole. It has to be loaded where its samples are of more
    than 16 bits; of others mode, profile and tags tell all."""
    change = _change(image)

    def paint(part: Image.Image, out: Pixels) -> None:
        for top, band in _bands(part, out.shape[1], out.shape[0]):
            out[top : top + band.height] = np.asarray(change(band))

    return paint


def _bands(image: Image.Image, width: int, height: int) -> Iterator[tuple[int, Image.Image]]:
    rows = max(1, _BAND // width)
    if (width, height) == image.size and height <= rows and "transparency" not in image.info:
        yield 0, image  # as it is: a band would be a copy, and only of keys to transparency does a change take note
        return
    for top in range(0, height, rows):
        yield top, image.crop((0, top, width, min(top + rows, height)))


def _change(image: Image.Image) -> Change:
    flatten = _eight_bits(image) if image.mode in _DEEP else _flatten
    manage = _manager(image)

    def change(band: Image.Image) -> Image.Image:
        band = flatten(band)
        if band.mode not in ("LA", "RGBA"):
            return manage(band)
        alpha = band.getchannel("A")
        page = Image.new("RGB", band.size, "white")
        page.paste(manage(band.convert("RGB") if band.mode == "RGBA" else band.getchannel("L")), mask=alpha)
        return page

    return change


def _flatten(band: Image.Image) -> Image.Image:
    """Palettes, keys, bits and multiplied alpha away: L, LA, RGB, RGBA, CMYK or another plain mode is left."""
    if band.mode in ("P", "PA"):
        return band.convert("RGBA" if band.has_transparency_data else "RGB")
    if band.mode in ("La", "RGBa"):
        return band.convert(band.mode.upper())
    if "transparency" in band.info and band.mode in ("1", "L", "RGB"):
        key = band.info["transparency"]
        if isinstance(key, tuple) and max(key) > 255:  # a key for 16-bit samples, which are 8-bit by now
            band.info["transparency"] = tuple(level >> 8 for level in key)
        return band.convert("RGBA" if band.mode == "RGB" else "LA")
    return band.convert("L") if band.mode == "1" else band


def _eight_bits(image: Image.Image) -> Change:
    tags: Any = getattr(image, "tag_v2", {})
    white_is_zero = tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    key = image.info.get("transparency")
    scale = _sixteen(12 if tags.get(_BITS) == (12,) else 16) if image.mode.startswith("I;16") else _thirty_two(image)

    def change(band: Image.Image) -> Image.Image:
        deep = np.asarray(band)
        grey = Image.fromarray(255 - scale(deep) if white_is_zero else scale(deep))
        if isinstance(key, int):
            grey.putalpha(Image.fromarray(np.where(deep == key, np.uint8(0), np.uint8(255))))
        return grey

    return change


def _sixteen(bits: int) -> Callable[[npt.NDArray[Any]], npt.NDArray[np.uint8]]:
    return lambda deep: (deep >> (bits - 8)).astype(np.uint8)


def _thirty_two(image: Image.Image) -> Callable[[npt.NDArray[Any]], npt.NDArray[np.uint8]]:
    low, high = np.inf, -np.inf
    for _, band in _bands(image, *image.size):
        deep = np.asarray(band)
        finite = deep[np.isfinite(deep)]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    if low > high:  # no finite value at all
        low, high = 0.0, 1.0
    if low >= 0 and high <= 1 and image.mode == "F":
        low, high = 0.0, 1.0
    elif low >= 0 and high <= 255:
        low, high = 0.0, 255.0
    elif low >= 0 and high <= 65535 and image.mode == "I":
        return _sixteen(16)

    def scale(deep: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        # In float64 the span of any two finite float32 values is finite.
        share = (deep.astype(np.float64) - low) / (high - low) if high > low else np.zeros(deep.shape)
        return np.rint(np.clip(np.nan_to_num(share, nan=0.0, posinf=1.0, neginf=0.0), 0, 1) * 255).astype(np.uint8)

    return scale


def _manager(image: Image.Image) -> Change:
    """What turns L, RGB, CMYK or another plain mode into sRGB: the embedded profile where there is a usable one."""
    icc = image.info.get("icc_profile")
    if isinstance(icc, bytes) and icc:
        try:
            return _profile(icc, image.mode) or _plain
        except Exception:  # LittleCMS, through Pillow, raises what it likes; no profile is worth a picture
            return _plain
    return _plain


def _plain(band: Image.Image) -> Image.Image:
    return band if band.mode == "RGB" else band.convert("RGB")  # which would copy it


def _profile(icc: bytes, mode: str) -> Change | None:
    profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    space = profile.profile.xcolor_space.strip()
    holds = "L" if mode in _GREY else mode if mode in ("CMYK", "LAB") else "RGB"
    made_for = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}.get(space)
    if made_for is None or (made_for != holds and (made_for, holds) != ("RGB", "L")):
        return None
    transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), made_for, "RGB")

    def manage(band: Image.Image) -> Image.Image:
        managed = ImageCms.applyTransform(band if band.mode == made_for else band.convert(made_for), transform)
        assert managed is not None  # only an in-place transform gives nothing
        return managed

    probe = _probe(made_for)
    if made_for != "CMYK":
        moved = np.asarray(manage(probe)).astype(np.int16) - np.asarray(probe.convert("RGB"))
        if np.abs(moved).max() <= _SAME:
            return None
    return manage


def _probe(mode: str) -> Image.Image:
    """A picture of colours from all over the space: a ramp for grey, a 16-level grid for the rest."""
    ramp = np.arange(0, 256, 17, dtype=np.uint8)
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    grid = np.stack(np.meshgrid(ramp, ramp, ramp, indexing="ij"), axis=-1)
    return Image.fromarray(grid.reshape(16, 256, 3))
