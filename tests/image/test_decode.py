"""Whatever a user hands over comes out as the pixels a person sees, or as an error that says what to do."""

from __future__ import annotations

import concurrent.futures
import errno
import hashlib
import io
import os
import pathlib
import socket
import struct
import sys
import threading
import time
import warnings
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from assay.errors import InputError
from assay.image import colour, container
from assay.image.decode import Limits, decode

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)
FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"]


def encode(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.copy().save(buffer, form, **options)
    return buffer.getvalue()


def encode_heic(image: Image.Image, **options: Any) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer, **options)
    return buffer.getvalue()


def corners(width: int = 48, height: int = 32) -> Image.Image:
    """Red upper left, green upper right, blue lower left, white lower right."""
    image = Image.new("RGB", (width, height), WHITE)
    image.paste(RED, (0, 0, width // 2, height // 2))
    image.paste(GREEN, (width // 2, 0, width, height // 2))
    image.paste(BLUE, (0, height // 2, width // 2, height))
    return image


def noise(width: int = 80, height: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8))


def pixels(source: Any, **limits: int) -> np.ndarray:
    return decode(source, Limits(**limits)).pixels


def near(found: Any, expected: tuple[int, int, int], within: int = 6) -> bool:
    return bool(np.abs(np.asarray(found, int) - expected).max() <= within)


def refused(source: Any, kind: str, **limits: int) -> str:
    with pytest.raises(InputError) as caught:
        decode(source, Limits(**limits))
    message = str(caught.value)
    assert caught.value.kind == kind, message
    assert 0 < len(message) < 300
    assert "\n" not in message
    return message


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(data: bytes, *chunks: bytes) -> bytes:
    """Puts chunks right behind the header chunk."""
    return data[:33] + b"".join(chunks) + data[33:]


def png_of(width: int, height: int, depth: int, colour_type: int, rows: bytes, *chunks: bytes) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0))
    body = png_chunk(b"IDAT", zlib.compress(rows)) if rows else b""
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + body + png_chunk(b"IEND", b"")


# ── formats ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_shows_its_corners(form: str) -> None:
    data = encode(corners(), form)
    picture = decode(data)
    assert picture.format == form
    assert picture.sha256 == hashlib.sha256(data).hexdigest()
    assert (picture.width, picture.height, picture.frame_count, picture.frame_numbers) == (48, 32, 1, (0,))
    shown = picture.pixels
    assert shown.dtype == np.uint8
    assert shown.flags.c_contiguous
    for place, expected in (((4, 4), RED), ((4, 43), GREEN), ((27, 4), BLUE), ((27, 43), WHITE)):
        assert near(shown[place], expected), (place, shown[place])


def test_heic_shows_its_corners() -> None:
    picture = decode(encode_heic(corners(64, 64), quality=95))
    assert picture.format == "HEIF"
    assert near(picture.pixels[8, 8], RED, 12)
    assert near(picture.pixels[8, 56], GREEN, 12)
    assert near(picture.pixels[56, 8], BLUE, 12)


def test_heic_without_the_extra_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode_heic(corners(64, 64))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert 'pip install "assay[heic]"' in refused(data, "needs_extra")


def test_heic_under_a_generic_brand_is_still_heic() -> None:
    data = encode_heic(corners(64, 64))
    end = int.from_bytes(data[:4], "big")
    assert decode(data[:end].replace(b"heic", b"mif1") + data[end:]).format == "HEIF"


def test_avif_under_a_generic_brand_is_still_avif() -> None:
    data = encode(corners(), "AVIF")
    assert decode(data.replace(b"ftypavif", b"ftypmif1", 1)).format == "AVIF"


def test_heic_is_read_without_an_entry_in_pillows_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    # Another library of the same process may have made one.
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    decode(encode_heic(corners(64, 64)))
    assert "HEIF" not in Image.OPEN


def test_a_phones_mpo_counts_as_jpeg_and_shows_its_main_picture() -> None:
    data = encode(Image.new("RGB", (32, 16), RED), "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8), BLUE)])
    picture = decode(data)
    assert (picture.format, picture.frame_count) == ("JPEG", 1)
    assert near(picture.pixels[0, 0], RED)


@pytest.mark.parametrize("form", FORMATS)
def test_wrong_extension_does_not_matter(form: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "picture.psd.txt"
    path.write_bytes(encode(corners(), form))
    assert decode(path).format == form


@pytest.mark.parametrize("form", FORMATS)
def test_image_smaller_than_the_view_1_by_1_is_decoded(form: str) -> None:
    assert near(pixels(encode(Image.new("RGB", (1, 1), GREEN), form))[0, 0], GREEN)


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_bytes_of_every_kind_are_a_files_content(wrap: Any) -> None:
    data = encode(corners(), "PNG")
    assert decode(wrap(data)).sha256 == hashlib.sha256(data).hexdigest()


# ── orientation ──────────────────────────────────────────────────────────────────────────────────────────────────────

T = Image.Transpose
STORED = {
    1: None,
    2: T.FLIP_LEFT_RIGHT,
    3: T.ROTATE_180,
    4: T.FLIP_TOP_BOTTOM,
    5: T.TRANSPOSE,
    6: T.ROTATE_90,
    7: T.TRANSVERSE,
    8: T.ROTATE_270,
}


def exif_of(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize(("form", "options"), [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})])
def test_exif_rotation_puts_every_pixel_where_a_person_sees_it(form: str, options: Any, orientation: int) -> None:
    upright, turn = noise(23, 11), STORED[orientation]
    stored = upright if turn is None else upright.transpose(turn)
    shown = pixels(encode(stored, form, exif=exif_of(orientation), **options))
    np.testing.assert_array_equal(shown, np.asarray(upright))


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("form", ["JPEG", "AVIF"])
def test_exif_rotation_of_lossy_formats_keeps_red_upper_left(form: str, orientation: int) -> None:
    turn = STORED[orientation]
    stored = corners() if turn is None else corners().transpose(turn)
    shown = pixels(encode(stored, form, exif=exif_of(orientation), quality=95))
    assert shown.shape == (32, 48, 3)
    assert near(shown[3, 3], RED, 12)
    assert near(shown[3, 44], GREEN, 12)
    assert near(shown[28, 3], BLUE, 12)


def test_heic_rotation_is_applied_once() -> None:
    image = corners(64, 48).transpose(T.ROTATE_90)
    data = encode_heic(image, quality=95, exif=exif_of(6).tobytes())
    assert b"irot" in data
    shown = pixels(data)
    assert shown.shape == (48, 64, 3)
    assert near(shown[6, 6], RED, 12)
    assert near(shown[6, 58], GREEN, 12)


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"", b"Exif\0\0II*\0\xff\xff\xff\xff", b"\0" * 40])
def test_broken_exif_is_ignored(exif: bytes) -> None:
    assert near(pixels(encode(corners(), "JPEG", exif=exif, quality=95))[3, 3], RED, 12)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_impossible_orientation_is_ignored(value: int) -> None:
    assert near(pixels(encode(corners(), "JPEG", exif=exif_of(value), quality=95))[3, 3], RED, 12)


# ── colour ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_cmyk_red_is_red() -> None:
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert near(pixels(encode(cmyk, "JPEG", quality=95))[8, 8], RED)
    assert near(pixels(encode(cmyk, "TIFF"))[8, 8], RED, 0)


def test_ycck_jpeg_red_is_red() -> None:
    # Pillow writes CMYK JPEG only, inverted. In YCCK, told apart by the transform byte of the Adobe marker, the first
    # three inks are inverted once more and then turned into YCbCr.
    inverted = np.full((16, 16, 4), 255, np.uint8)
    inverted[..., :3] = np.asarray(Image.new("RGB", (16, 16), (0, 255, 255)).convert("YCbCr"))
    data = encode(Image.fromarray(255 - inverted, "CMYK"), "JPEG", quality=100)
    at = data.index(b"Adobe") + 11
    assert near(pixels(data[:at] + b"\2" + data[at + 1 :])[8, 8], RED)


def test_16_bit_mid_grey_png_is_128() -> None:
    grey = Image.fromarray(np.full((4, 5), 32768, np.uint16))
    assert pixels(encode(grey, "PNG")).tolist() == [[[128] * 3] * 5] * 4


def test_16_bit_rgb_png_keeps_its_high_bytes() -> None:
    row = b"\0" + struct.pack(">HHH", 65535, 32768, 255) * 3
    assert pixels(png_of(3, 2, 16, 2, row * 2))[1, 2].tolist() == [255, 128, 0]


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_16_bit_mid_grey_tiff_is_128_in_both_byte_orders(mode: str) -> None:
    grey = Image.new(mode, (5, 4), 32768)
    assert pixels(encode(grey, "TIFF"))[3, 4].tolist() == [128, 128, 128]


def test_16_bit_white_is_zero_tiff_is_turned_round() -> None:
    grey = Image.fromarray(np.full((4, 4), 0x1000, np.uint16))
    assert pixels(encode(grey, "TIFF", tiffinfo={262: 0}))[0, 0].tolist() == [239, 239, 239]


def test_16_bit_grey_key_is_transparent_and_lies_on_white() -> None:
    rows = b"".join(b"\0" + struct.pack(">HH", 700, 701) for _ in range(2))
    shown = pixels(png_of(2, 2, 16, 0, rows, png_chunk(b"tRNS", struct.pack(">H", 700))))
    assert shown[0].tolist() == [[255] * 3, [2] * 3]


def test_16_bit_rgb_key_is_transparent_and_lies_on_white() -> None:
    rows = b"\0" + struct.pack(">HHHHHH", 0x8000, 0, 0, 0, 0x8000, 0)
    key = png_chunk(b"tRNS", struct.pack(">HHH", 0x8000, 0, 0))
    assert pixels(png_of(2, 1, 16, 2, rows, key))[0].tolist() == [[255, 255, 255], [0, 128, 0]]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 100.4, 255.0], [0, 100, 255]),
        ([-2.0, 0.0, 2.0], [0, 128, 255]),
        ([10.0, 510.0, 1010.0], [0, 128, 255]),
        ([float("nan"), 0.5, float("inf")], [0, 128, 255]),
        ([7000.0, 7000.0, 7000.0], [0, 0, 0]),
    ],
)
def test_float_tiff_is_scaled_by_the_stated_rule(values: list[float], expected: list[int]) -> None:
    image = Image.fromarray(np.asarray([values], np.float32))
    assert pixels(encode(image, "TIFF"))[0, :, 0].tolist() == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0, 7, 255], [0, 7, 255]), ([0, 32768, 65535], [0, 128, 255]), ([-100, 0, 100], [0, 128, 255])],
)
def test_32_bit_integer_tiff_is_scaled_by_the_stated_rule(values: list[int], expected: list[int]) -> None:
    image = Image.fromarray(np.asarray([values], np.int32))
    assert pixels(encode(image, "TIFF"))[0, :, 0].tolist() == expected


@pytest.mark.parametrize("form", ["PNG", "GIF", "BMP", "TIFF"])
def test_palette_shows_its_colours(form: str) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([*RED, *GREEN, 10, 20, 30])
    image.putdata([0, 1, 2])
    assert pixels(encode(image, form))[0].tolist() == [list(RED), list(GREEN), [10, 20, 30]]


@pytest.mark.parametrize("form", ["PNG", "GIF"])
def test_palette_entry_without_cover_is_white(form: str) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *BLUE])
    image.putdata([0, 1])
    assert pixels(encode(image, form, transparency=0))[0].tolist() == [list(WHITE), list(BLUE)]


def test_palette_with_an_alpha_for_each_entry_is_mixed_with_white() -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([*RED, *BLUE, *BLACK])
    image.putdata([0, 1, 2])
    shown = pixels(encode(image, "PNG", transparency=bytes([255, 0, 128])))[0]
    assert shown.tolist() == [list(RED), list(WHITE), [127, 127, 127]]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_alpha_lies_on_white(mode: str) -> None:
    rgba = Image.new("RGBA", (3, 1), (0, 0, 0, 255))
    rgba.putpixel((1, 0), (0, 0, 0, 128))
    rgba.putpixel((2, 0), (90, 90, 90, 0))
    image = rgba.convert(mode)
    shown = decode(image).pixels if mode == "PA" else pixels(encode(image, "PNG"))
    assert shown[0].tolist() == [[0] * 3, [127] * 3, [255] * 3]


@pytest.mark.parametrize("form", ["WEBP", "AVIF", "TIFF"])
def test_alpha_lies_on_white_in_other_formats(form: str) -> None:
    image = Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    assert near(pixels(encode(image, form))[8, 8], WHITE, 0)


def test_colour_key_of_an_rgb_png_is_white() -> None:
    image = Image.new("RGB", (2, 1), RED)
    image.putpixel((1, 0), BLUE)
    assert pixels(encode(image, "PNG", transparency=RED))[0].tolist() == [list(WHITE), list(BLUE)]


def test_1_bit_and_grey_are_black_to_white() -> None:
    assert pixels(encode(Image.new("1", (2, 2), 1), "PNG"))[0, 0].tolist() == [255] * 3
    assert pixels(encode(Image.new("L", (2, 2), 77), "PNG"))[0, 0].tolist() == [77] * 3


@pytest.mark.parametrize("mode", ["YCbCr", "HSV", "LAB", "RGBX", "RGBa", "La"])
def test_other_modes_of_pillow_images_are_converted(mode: str) -> None:
    source = Image.new("RGB", (4, 4), (60, 60, 60))
    middle = {"RGBa": "RGBA", "La": "LA"}.get(mode, mode)
    image = source.convert(middle).convert(mode)
    assert near(decode(image).pixels[0, 0], (60, 60, 60), 2)


def srgb_icc() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def swapped_icc() -> bytes:
    """sRGB with the red and blue primaries exchanged."""
    return srgb_icc().replace(b"rXYZ", b"????").replace(b"bXYZ", b"rXYZ").replace(b"????", b"bXYZ")


def icc_of(space: bytes, pcs: bytes, kind: bytes, tags: dict[bytes, bytes]) -> bytes:
    d50 = struct.pack(">iii", 0xF6D6, 0x10000, 0xD32D)
    tags = {b"wtpt": b"XYZ \0\0\0\0" + d50, **tags}
    table, body, at = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += name + struct.pack(">II", at + len(body), len(data))
        body += data
    header = bytes(4) + struct.pack(">I", 0x02400000) + kind + space + pcs + bytes(12) + b"acsp" + bytes(28) + d50
    size = struct.pack(">I", 128 + len(table) + len(body))
    return (size + header).ljust(128, b"\0") + table + body


def linear_grey_icc() -> bytes:
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, 0x100)
    return icc_of(b"GRAY", b"XYZ ", b"mntr", {b"kTRC": curve})


def linear_rgb_icc() -> bytes:
    """The primaries of sRGB, without its curve."""
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, 0x100)
    primaries = {b"r": (0x6FA2, 0x38F5, 0x0390), b"g": (0x6299, 0xB785, 0x18DA), b"b": (0x24A0, 0x0F84, 0xB6CF)}
    tags = {name + b"XYZ": b"XYZ \0\0\0\0" + struct.pack(">iii", *xyz) for name, xyz in primaries.items()}
    return icc_of(b"RGB ", b"XYZ ", b"mntr", tags | {name + b"TRC": curve for name in primaries})


def cyan_only_cmyk_icc() -> bytes:
    """A press on which cyan prints black and the other inks print nothing."""
    ramp = bytes(range(256))
    grid = b"".join(bytes([0 if node & 8 else 255, 128, 128]) for node in range(16))
    matrix = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + matrix + ramp * 4 + grid + ramp * 3
    return icc_of(b"CMYK", b"Lab ", b"prtr", {b"A2B0": lut})


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_embedded_colour_profile_that_swaps_red_and_blue_shows_blue(form: str) -> None:
    shown = pixels(encode(Image.new("RGB", (16, 16), RED), form, icc_profile=swapped_icc()))
    assert near(shown[8, 8], BLUE)


def test_embedded_colour_profile_of_heic_is_applied() -> None:
    image = Image.new("RGB", (64, 64), RED)
    image.info["icc_profile"] = swapped_icc()
    assert near(pixels(encode_heic(image, quality=95))[8, 8], BLUE, 12)


def test_profile_is_applied_below_alpha_and_palettes() -> None:
    rgba = Image.new("RGBA", (4, 4), (*RED, 255))
    rgba.putpixel((0, 0), (*RED, 0))
    shown = pixels(encode(rgba, "PNG", icc_profile=swapped_icc()))
    assert near(shown[1, 1], BLUE)
    assert near(shown[0, 0], WHITE, 0)
    palette = Image.new("P", (2, 2))
    palette.putpalette(list(RED))
    assert near(pixels(encode(palette, "PNG", icc_profile=swapped_icc()))[0, 0], BLUE)


def test_srgb_profile_leaves_every_pixel_as_it_is() -> None:
    np.testing.assert_array_equal(pixels(encode(noise(), "PNG", icc_profile=srgb_icc())), np.asarray(noise()))


def test_linear_grey_profile_lightens_mid_grey() -> None:
    assert near(pixels(encode(Image.new("L", (4, 4), 128), "PNG", icc_profile=linear_grey_icc()))[0, 0], (188,) * 3, 1)
    deep = Image.fromarray(np.full((4, 4), 32768, np.uint16))
    assert near(pixels(encode(deep, "PNG", icc_profile=linear_grey_icc()))[0, 0], (188,) * 3, 1)


def test_rgb_profile_on_a_grey_picture_is_applied() -> None:
    assert near(pixels(encode(Image.new("L", (4, 4), 128), "JPEG", icc_profile=linear_rgb_icc()))[0, 0], (188,) * 3, 1)


def test_profile_that_is_srgb_but_for_rounding_leaves_every_pixel_as_it_is() -> None:
    icc = bytearray(srgb_icc())
    entry = icc.index(b"rXYZ")
    at = int.from_bytes(icc[entry + 4 : entry + 8], "big") + 8
    icc[at : at + 4] = (int.from_bytes(icc[at : at + 4], "big") + 24).to_bytes(4, "big")
    profile = ImageCms.ImageCmsProfile(io.BytesIO(bytes(icc)))
    managed = ImageCms.profileToProfile(noise(), profile, ImageCms.createProfile("sRGB"))
    assert managed is not None
    assert (np.asarray(managed) != np.asarray(noise())).any()
    np.testing.assert_array_equal(pixels(encode(noise(), "PNG", icc_profile=bytes(icc))), np.asarray(noise()))


def test_cmyk_profile_decides_what_the_inks_look_like() -> None:
    key = Image.new("CMYK", (16, 16), (0, 0, 0, 255))
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    assert near(pixels(encode(key, "TIFF"))[0, 0], BLACK)
    assert near(pixels(encode(key, "TIFF", icc_profile=cyan_only_cmyk_icc()))[0, 0], WHITE)
    assert near(pixels(encode(cyan, "JPEG", icc_profile=cyan_only_cmyk_icc()))[8, 8], BLACK)


@pytest.mark.parametrize(
    "icc",
    [b"not a profile", b"\0" * 200, srgb_icc()[:200], linear_grey_icc(), cyan_only_cmyk_icc()],
    ids=["text", "zeros", "cut", "grey", "cmyk"],
)
def test_broken_or_foreign_profile_is_ignored(icc: bytes) -> None:
    assert near(pixels(encode(corners(), "PNG", icc_profile=icc))[0, 0], RED, 0)


def test_bands_of_a_picture_fit_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colour, "_BAND", 200)
    stored = noise(31, 47).transpose(T.ROTATE_90)
    np.testing.assert_array_equal(pixels(encode(stored, "PNG", exif=exif_of(6))), np.asarray(noise(31, 47)))


# ── animations and pages ─────────────────────────────────────────────────────────────────────────────────────────────


def shades(count: int, size: tuple[int, int] = (16, 12)) -> list[Image.Image]:
    return [Image.new("RGB", size, (number * 5, 255 - number * 5, 40)) for number in range(count)]


def animation(form: str, frames: list[Image.Image], **options: Any) -> bytes:
    return encode(frames[0], form, save_all=True, append_images=frames[1:], **options)


ANIMATED: dict[str, dict[str, Any]] = {
    "GIF": {},
    "PNG": {},
    "WEBP": {"lossless": True},
    "AVIF": {"quality": 100},
    "TIFF": {},
}


@pytest.mark.parametrize("form", ANIMATED)
def test_animated_frames_are_evenly_spaced_with_the_first(form: str) -> None:
    picture = decode(animation(form, shades(40), **ANIMATED[form]), Limits(frames=4))
    assert picture.frame_count == 40
    assert picture.frame_numbers == (0, 10, 20, 30)
    for number, frame in zip(picture.frame_numbers, picture.frames, strict=True):
        assert near(frame[5, 5], (number * 5, 255 - number * 5, 40), 4)


def test_animated_gif_of_16_frames_or_fewer_is_decoded_whole() -> None:
    assert decode(animation("GIF", shades(16))).frame_numbers == tuple(range(16))
    assert len(decode(animation("GIF", shades(17))).frames) == 16


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP"])
def test_animated_frames_are_composited_as_shown(form: str) -> None:
    below, above = Image.new("RGBA", (20, 20), (*RED, 255)), Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    above.paste((*BLUE, 255), (5, 5, 10, 10))
    options: dict[str, dict[str, Any]] = {"PNG": {"blend": 1}, "WEBP": {"lossless": True}, "GIF": {"disposal": 1}}
    if form == "WEBP":  # Pillow's encoder writes whole frames, so give it the composition
        above = Image.alpha_composite(below, above)
    first, second = decode(animation(form, [below, above], **options[form])).frames
    assert near(first[7, 7], RED)
    assert near(second[7, 7], BLUE)
    assert near(second[0, 0], RED)


def test_animated_gif_that_clears_its_frame_shows_white_there() -> None:
    frames = [Image.new("RGBA", (20, 20), (0, 0, 0, 0)) for _ in range(2)]
    frames[0].paste((*RED, 255), (0, 0, 10, 20))
    frames[1].paste((*BLUE, 255), (10, 0, 20, 20))
    second = decode(animation("GIF", frames, disposal=2)).frames[1]
    assert near(second[5, 15], BLUE)
    assert near(second[5, 5], WHITE)


def test_gif_frame_beyond_the_canvas_is_cut_to_the_canvas() -> None:
    data = bytearray(animation("GIF", shades(2)))
    second = data.rindex(b"\x2c\0\0\0\0" + struct.pack("<HH", 16, 12))
    data[second + 1 : second + 3] = struct.pack("<H", 9)
    picture = decode(bytes(data))
    assert [frame.shape for frame in picture.frames] == [(12, 16, 3)] * 2
    assert near(picture.frames[1][5, 12], (5, 250, 40), 4)


def test_default_image_of_an_apng_is_left_out_of_its_animation() -> None:
    picture = decode(animation("PNG", shades(4), default_image=True))
    assert (picture.frame_count, picture.frame_numbers) == (3, (0, 1, 2))
    assert near(picture.frames[0][0, 0], (5, 250, 40), 0)


def test_apng_that_claims_frames_it_has_not_is_corrupt() -> None:
    data = animation("PNG", shades(3))
    at = data.index(b"acTL") + 4
    claim = png_chunk(b"acTL", struct.pack(">I", 9) + data[at + 4 : at + 8])
    refused(data[: at - 8] + claim + data[at + 12 :], "corrupt")


def test_100_page_tiff_gives_evenly_spaced_pages() -> None:
    picture = decode(animation("TIFF", shades(100, (4, 4))))
    assert picture.frame_count == 100
    assert len(picture.frames) == 16
    assert picture.frame_numbers[:3] == (0, 6, 12)


def test_tiff_pages_of_another_shape_are_left_out() -> None:
    pages = [
        Image.new("RGB", (8, 6), RED),
        Image.new("RGB", (6, 8), BLUE),
        Image.new("L", (8, 6), 9),
        Image.new("1", (4, 4)),
    ]
    picture = decode(animation("TIFF", pages))
    assert (picture.frame_count, picture.frame_numbers) == (4, (0, 2))
    assert [frame[0, 0].tolist() for frame in picture.frames] == [list(RED), [9, 9, 9]]


@pytest.mark.parametrize("form", ANIMATED)
def test_more_frames_than_the_limit_are_refused(form: str) -> None:
    data = animation(form, shades(12), **ANIMATED[form])
    refused(data, "too_many_frames", total_frames=11)
    assert decode(data, Limits(total_frames=12)).frame_count == 12


@pytest.mark.parametrize("form", ["GIF", "TIFF"])
def test_counting_frames_stops_at_the_limit(form: str) -> None:
    with pytest.raises(InputError) as caught:
        container.outline(form, animation(form, shades(12)), most_frames=11)
    assert caught.value.kind == "too_many_frames"


def test_apng_that_claims_a_billion_frames_is_refused_at_once() -> None:
    data = animation("PNG", shades(3))
    at = data.index(b"acTL") + 4
    claim = png_chunk(b"acTL", struct.pack(">I", 10**9) + data[at + 4 : at + 8])
    refused(data[: at - 8] + claim + data[at + 12 :], "too_many_frames")


def test_frames_together_hold_at_most_twice_the_pixels_of_the_limit() -> None:
    data = animation("GIF", shades(12))
    assert decode(data, Limits(pixels=16 * 12)).frame_numbers == (0, 5)
    assert decode(data, Limits(pixels=16 * 12 * 2)).frame_numbers == (0, 3, 6, 9)


def test_tail_of_a_very_long_animation_is_not_walked() -> None:
    picture = decode(animation("GIF", shades(40)), Limits(pixels=16 * 12))
    assert (picture.frame_count, picture.frame_numbers) == (40, (0, 5))


# ── limits ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def with_size(form: str, width: int, height: int) -> bytes:
    """A small file whose header claims width x height pixels."""
    if form == "PNG":
        return png_of(width, height, 8, 2, b"\0")
    if form == "WEBP":
        chunk = b"\0\0\0\0" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        return b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + chunk
    data = bytearray(encode_heic(corners(64, 64)) if form == "HEIF" else encode(corners(64, 64), form))
    if form == "JPEG":
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = struct.pack(">HH", height, width)
    elif form == "GIF":
        data[6:10] = struct.pack("<HH", width, height)
    elif form == "BMP":
        data[18:26] = struct.pack("<II", width, height)
    elif form == "TIFF":
        for tag, value in ((256, width), (257, height)):
            at = data.index(struct.pack("<HHI", tag, 4, 1)) if struct.pack("<HHI", tag, 4, 1) in data else -1
            at = at if at >= 0 else data.index(struct.pack("<HHI", tag, 3, 1))
            data[at : at + 12] = struct.pack("<HHII", tag, 4, 1, value)
    else:
        at = data.index(b"ispe") + 8
        data[at : at + 8] = struct.pack(">II", width, height)
    return bytes(data)


@pytest.mark.parametrize("form", [*FORMATS, "HEIF"])
def test_decompression_bomb_is_refused_by_its_header(form: str) -> None:
    started = time.perf_counter()
    message = refused(with_size(form, 15_000, 15_000), "too_many_pixels")
    assert "15000 x 15000" in message
    assert time.perf_counter() - started < 1


def test_decompression_bomb_of_a_long_side_is_refused() -> None:
    refused(png_of(60_001, 1, 8, 0, b"\0"), "too_many_pixels")


def test_30000_px_panorama_is_decoded() -> None:
    assert pixels(encode(Image.new("L", (30_000, 20), 9), "PNG")).shape == (20, 30_000, 3)


def test_gif_frame_with_an_enormous_canvas_is_refused() -> None:
    data = bytearray(animation("GIF", shades(2)))
    second = data.rindex(b"\x2c\0\0\0\0" + struct.pack("<HH", 16, 12))
    data[second + 1 : second + 5] = struct.pack("<HH", 12_000, 12_000)
    refused(bytes(data), "too_many_pixels")
    data[second + 1 : second + 5] = struct.pack("<HH", 65_000, 65_000)
    refused(bytes(data), "too_many_pixels")


def test_decompression_bomb_in_a_text_chunk_is_refused() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "a" * 5_000_000, zip=True)
    refused(encode(corners(), "PNG", pnginfo=info), "too_many_bytes")


def test_decompression_bomb_in_a_colour_profile_is_refused() -> None:
    bomb = png_chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(5_000_000)))
    refused(png_with(encode(corners(), "PNG"), bomb), "too_many_bytes")


def test_jpeg_of_a_thousand_scans_is_refused() -> None:
    data = encode(noise(), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    assert decode(data[:-2] + data[last:-2] * 5 + data[-2:]).format == "JPEG"
    refused(data[:-2] + data[last:-2] * 1000 + data[-2:], "unsupported")


def test_file_of_too_many_bytes_is_refused_before_it_is_read(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "huge.png"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    refused(path, "too_many_bytes")
    refused(b"\xff" * 101, "too_many_bytes", bytes=100)


def test_limits_of_pixels_and_side_hold_for_memory_too() -> None:
    refused(corners(), "too_many_pixels", pixels=1000)
    refused(np.zeros((10, 200), np.uint8), "too_many_pixels", side=199)


def test_limits_below_1_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="limit 'frames' is 0"):
        Limits(frames=0)


def test_pillows_own_lower_ceiling_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    refused(encode(corners(), "TIFF"), "too_many_pixels")


# ── damaged files ────────────────────────────────────────────────────────────────────────────────────────────────────


def whole(form: str) -> bytes:
    if form == "HEIF":
        return encode_heic(noise(), quality=90)
    options: dict[str, tuple[str, dict[str, Any]]] = {
        "TIFF-LZW": ("TIFF", {"compression": "tiff_lzw"}),
        "JPEG-P": ("JPEG", {"progressive": True}),
    }
    name, extra = options.get(form, (form, {}))
    return encode(noise(), name, **extra)


@pytest.mark.parametrize("form", [*FORMATS, "HEIF", "TIFF-LZW", "JPEG-P"])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_truncated_file_is_refused_as_truncated(form: str, share: float) -> None:
    data = whole(form)
    assert decode(data).pixels.shape == (64, 80, 3)
    assert "again" in refused(data[: int(len(data) * share)], "truncated")


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "AVIF", "TIFF"])
def test_truncated_animation_is_refused_as_truncated(form: str) -> None:
    data = animation(form, [noise().rotate(turn) for turn in (0, 90, 180, 270)])
    refused(data[: len(data) * 3 // 4], "truncated")


@pytest.mark.parametrize("length", [1, 2, 3, 8, 20])
@pytest.mark.parametrize("form", [*FORMATS, "HEIF"])
def test_truncated_header_is_an_error_of_that_file(form: str, length: int) -> None:
    with pytest.raises(InputError) as caught:
        decode(whole(form)[:length])
    assert caught.value.kind in ("truncated", "not_an_image", "corrupt", "unsupported")


def test_truncated_tiff_with_its_tags_in_front_is_truncated() -> None:
    raw = encode(noise().convert("L"), "TIFF")
    data = raw[: raw.index(np.asarray(noise().convert("L")).tobytes())]
    packed = zlib.compress(np.asarray(noise().convert("L")).tobytes())
    for tag, value in ((259, 8), (279, len(packed))):
        at = data.index(struct.pack("<H", tag), 8)
        data = data[: at + 8] + struct.pack("<I", value) + data[at + 12 :]
    assert decode(data + packed).pixels.shape == (64, 80, 3)
    refused(data + packed[:-100], "truncated")


def test_corrupt_png_checksum_is_corrupt() -> None:
    data = bytearray(encode(noise(), "PNG"))
    data[data.index(b"IDAT") + 3000] ^= 1
    assert "checksum" in refused(bytes(data), "corrupt")


def test_corrupt_png_data_under_right_checksums_is_corrupt() -> None:
    refused(
        png_of(8, 8, 8, 2, b"").replace(b"IEND", b"IEND")[:33]
        + png_chunk(b"IDAT", b"junk" * 9)
        + png_chunk(b"IEND", b""),
        "corrupt",
    )


@pytest.mark.parametrize("form", ["JPEG", "GIF", "WEBP", "AVIF", "HEIF", "TIFF-LZW"])
def test_corrupt_file_of_right_length_is_corrupt(form: str) -> None:
    data = bytearray(whole(form))
    start = {"JPEG": 160, "GIF": 850, "WEBP": 20, "AVIF": 60, "HEIF": 60, "TIFF-LZW": 8}[form]
    data[start : start + 400] = b"\x5a" * 400
    with pytest.raises(InputError) as caught:
        decode(bytes(data))
    assert caught.value.kind in ("corrupt", "truncated")


def test_zero_byte_file_is_empty(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.jpg"
    path.touch()
    refused(path, "empty")
    refused(b"", "empty")


@pytest.mark.parametrize(
    "data", [b"hello, this is a text\n" * 20, b"\0" * 100, b"PK\3\4" + b"\0" * 99, b"BMW drives", b"x"]
)
def test_file_that_is_not_an_image_says_what_would_be(data: bytes) -> None:
    assert "JPEG" in refused(data, "not_an_image")


@pytest.mark.parametrize(
    "head",
    [
        b"8BPS\0\1",
        b"%!PS-Adobe",
        b"%PDF-1.7",
        b"\0\0\1\0",
        b"P6 3 3 255 ",
        b"<svg xmlns",
        b"<?xml version='1.0'?>\n<svg ",
    ],
)
def test_picture_of_another_kind_is_unsupported_and_never_reaches_its_decoder(head: bytes) -> None:
    assert "save it as PNG" in refused(head + bytes(300), "unsupported")


@pytest.mark.parametrize("form", ["PPM", "ICO", "TGA", "JPEG2000", "EPS", "SGI", "PCX"])
def test_obscure_formats_of_pillow_are_not_read(form: str) -> None:
    with pytest.raises(InputError) as caught:
        decode(encode(corners(), form))
    assert caught.value.kind in ("unsupported", "not_an_image")


@pytest.mark.parametrize("brand", [b"isom", b"mp42", b"qt  "])
def test_the_head_of_a_video_alone_is_a_video_cut_off(brand: bytes) -> None:
    assert "video" in refused(b"\0\0\0\x18ftyp" + brand + bytes(12), "truncated")


def test_camera_raw_with_a_preview_in_front_is_unsupported() -> None:
    refused(encode(corners(), "TIFF", tiffinfo={254: 1}), "unsupported")


def test_kind_of_tiff_that_pillow_cannot_read_is_unsupported() -> None:
    data = bytearray(encode(Image.new("L", (8, 8)), "TIFF"))
    at = data.index(struct.pack("<HHI", 258, 3, 1))
    data[at + 8] = 24
    assert "save it as PNG" in refused(bytes(data), "unsupported")


@pytest.mark.parametrize(
    "error",
    [SyntaxError, struct.error, OverflowError, ValueError, IndexError, zlib.error, RecursionError, AssertionError],
)
def test_whatever_pillow_raises_becomes_corrupt(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Any) -> None:
        raise error("boom")

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load_prepare", fail)
    assert "boom" in refused(encode(corners(), "PNG"), "corrupt")


def test_lack_of_memory_is_not_called_corrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load_prepare", fail)
    assert "memory" in refused(encode(corners(), "PNG"), "unreadable")


def test_bytes_behind_the_end_of_a_picture_do_not_matter() -> None:
    for form in FORMATS:
        assert decode(encode(corners(), form) + b"\0trailer").format == form


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_missing_file_is_missing(tmp_path: pathlib.Path) -> None:
    refused(tmp_path / "no.jpg", "missing")
    refused("", "missing")
    refused("a\0b.jpg", "missing")
    (tmp_path / "file").touch()
    refused(tmp_path / "file" / "below.jpg", "missing")


def test_vanished_file_is_missing(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encode(corners(), "PNG"))
    status = path.stat()
    monkeypatch.setattr(os, "stat", lambda _: status)
    path.unlink()
    refused(path, "missing")


def test_permission_denied_is_permission(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encode(corners(), "PNG"))
    path.chmod(0)
    if os.access(path, os.R_OK):  # root may read everything

        def deny(*_: Any) -> int:
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(os, "open", deny)
    refused(path, "permission")


def test_symlink_loop_is_an_error_line(tmp_path: pathlib.Path) -> None:
    first, second = tmp_path / "a.jpg", tmp_path / "b.jpg"
    first.symlink_to(second)
    second.symlink_to(first)
    assert "loop" in refused(first, "unreadable")


def test_symlink_to_a_picture_is_followed_and_a_dangling_one_is_missing(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.png").write_bytes(encode(corners(), "PNG"))
    (tmp_path / "link").symlink_to("a.png")
    assert decode(tmp_path / "link").format == "PNG"
    (tmp_path / "dangling").symlink_to("gone.png")
    refused(tmp_path / "dangling", "missing")


def test_folder_is_not_a_file(tmp_path: pathlib.Path) -> None:
    assert "folder" in refused(tmp_path, "not_a_file")


def test_named_pipe_device_and_socket_never_block(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "not_a_file")
    refused("/dev/zero", "not_a_file")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        refused(tmp_path / "s", "not_a_file")


@pytest.mark.timeout(20)
def test_file_exchanged_for_a_pipe_after_the_check_never_blocks(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    status = (tmp_path / "a.png").stat()
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(os, "stat", lambda _: status)
    refused(tmp_path / "pipe", "not_a_file")


def test_disk_error_is_unreadable(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"x")

    def fail(*_: Any) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "open", fail)
    assert "Input/output error" in refused(path, "unreadable")


@pytest.mark.parametrize("name", [b"two\nlines.png", b"caf\xe9.png", b"-rf *.png", "夏.png".encode()])
def test_newline_and_non_utf8_names_are_just_names(name: bytes, tmp_path: pathlib.Path) -> None:
    path = os.path.join(os.fsencode(tmp_path), name)  # noqa: PTH118 (a name that is not text)
    with open(path, "wb") as file:  # noqa: PTH123
        file.write(encode(corners(), "PNG"))
    assert decode(os.fsdecode(path)).format == "PNG"
    os.unlink(path)  # noqa: PTH108
    refused(os.fsdecode(path), "missing")


def test_open_files_do_not_pile_up(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(animation("TIFF", shades(3)))
    before = len(os.listdir("/proc/self/fd")) if pathlib.Path("/proc/self/fd").exists() else 0  # noqa: PTH208
    for _ in range(20):
        decode(path)
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208


# ── memory ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 1)])
def test_grey_arrays_become_three_equal_channels(shape: tuple[int, ...]) -> None:
    array = np.arange(12, dtype=np.uint8).reshape(shape)
    picture = decode(array)
    assert picture.format == "array"
    np.testing.assert_array_equal(picture.pixels, np.repeat(array.reshape(3, 4, 1), 3, axis=2))


def test_rgb_array_is_copied_so_that_later_changes_do_not_show() -> None:
    array = np.asarray(noise()).copy()
    picture = decode(array[:, ::-1])
    expected = array[:, ::-1].copy()
    array[:] = 0
    np.testing.assert_array_equal(picture.pixels, expected)
    assert picture.pixels.flags.c_contiguous


def test_rgba_array_lies_on_white() -> None:
    array = np.zeros((1, 3, 4), np.uint8)
    array[0, :, 3] = (255, 128, 0)
    assert decode(array).pixels[0].tolist() == [[0] * 3, [127] * 3, [255] * 3]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint16, bool])
def test_array_of_another_type_is_refused_with_the_way_to_convert(dtype: Any) -> None:
    assert 'astype("uint8")' in refused(np.zeros((4, 4, 3), dtype), "unsupported")


@pytest.mark.parametrize("shape", [(4,), (4, 4, 2), (4, 4, 5), (2, 4, 4, 3), ()])
def test_array_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    assert "height, width" in refused(np.zeros(shape, np.uint8), "unsupported")


def test_nothing_in_memory_is_empty() -> None:
    refused(np.zeros((0, 5, 3), np.uint8), "empty")
    refused(Image.new("RGB", (0, 5)), "empty")


def test_pillow_image_is_upright_srgb_and_left_as_it_was() -> None:
    image = corners().transpose(T.ROTATE_90)
    image.info["exif"] = exif_of(6).tobytes()
    image.info["icc_profile"] = swapped_icc()
    before = image.tobytes()
    picture = decode(image)
    assert picture.format == "image"
    assert near(picture.pixels[3, 3], BLUE)
    assert (image.tobytes(), image.size) == (before, (32, 48))


def test_pillow_image_whose_file_is_damaged_is_an_error_of_ours() -> None:
    data = encode(noise(), "JPEG")
    refused(Image.open(io.BytesIO(data[: len(data) // 2])), "truncated")


def test_hash_of_pixels_depends_on_shape_and_values_alone() -> None:
    array = np.asarray(corners())
    assert decode(array).sha256 == decode(corners()).sha256 == decode(np.asfortranarray(array)).sha256
    assert decode(np.zeros((2, 8), np.uint8)).sha256 != decode(np.zeros((4, 4), np.uint8)).sha256


def test_source_of_another_type_is_a_mistake_of_the_program() -> None:
    with pytest.raises(TypeError, match="give a path"):
        decode(42)  # type: ignore[arg-type]


# ── a good guest ─────────────────────────────────────────────────────────────────────────────────────────────────────


def noisy() -> list[bytes]:
    """Files over which Pillow warns, logs or lets libtiff print."""
    samples = bytearray(encode(corners(), "TIFF"))
    at = samples.index(struct.pack("<HHI", 277, 3, 1))
    samples[at + 8 : at + 10] = struct.pack("<H", 999)
    fax = bytearray(encode(noise().convert("1"), "TIFF", compression="group4"))
    middle = len(fax) // 3
    fax[middle : middle + 40] = b"\x5a" * 40
    twice = animation("PNG", shades(2))
    at = twice.index(b"acTL")
    return [bytes(samples), bytes(fax), png_with(twice, twice[at - 4 : at + 16])]


def test_nothing_is_printed_warned_or_logged(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # below the 48 x 32 of a picture: Pillow warns
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        decode(encode(corners(), "TIFF"))
        for data in noisy():
            try:
                decode(data)
            except InputError:
                continue
    assert [str(warning.message) for warning in caught] == []
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


def test_host_that_turns_warnings_into_errors_still_gets_its_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(encode(corners(), "TIFF")).format == "TIFF"


def test_warnings_of_the_host_are_heard_while_and_after_we_decode() -> None:
    data, stop, heard = encode(noise(400, 400), "PNG"), threading.Event(), []

    def busy() -> None:
        while not stop.is_set():
            decode(data)

    with warnings.catch_warnings(record=True) as caught, concurrent.futures.ThreadPoolExecutor(1) as pool:
        warnings.simplefilter("always")
        running = pool.submit(busy)
        for number in range(50):
            warnings.warn(f"host {number}", UserWarning, stacklevel=1)
            time.sleep(0.001)
        stop.set()
        running.result()
        heard = [str(warning.message) for warning in caught]
    assert heard == [f"host {number}" for number in range(50)]


def test_pillows_settings_are_left_alone() -> None:
    from PIL import ImageFile

    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(Image.ID))
    for form in FORMATS:
        decode(encode(corners(), form))
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(Image.ID)) == before


def test_threads_decode_at_once_and_get_their_own_pictures() -> None:
    files = [animation(form, shades(5), **ANIMATED[form]) for form in ANIMATED] + [encode(noise(), "JPEG")] + noisy()

    def answer(data: bytes) -> Any:
        try:
            return [frame.tobytes() for frame in decode(data).frames]
        except InputError as error:
            return error.kind

    expected = [answer(data) for data in files] * 8
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(answer, files * 8)) == expected


def test_bands_keep_a_large_picture_in_memory_about_twice() -> None:
    import tracemalloc

    data = encode(Image.new("L", (3000, 3000), 9), "PNG")
    tracemalloc.start()
    try:
        shown = pixels(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < shown.nbytes * 1.6  # Pillow's own copy is not traced
