"""A JPEG's markers, and how a plain file is told from any that a decoder might refuse half-way."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
import pytest
from PIL import Image

from assay.errors import InputError
from assay.image import markers

END = b"\xff\xd9"


def jpeg(width: int = 90, height: int = 61, mode: str = "RGB", **options: Any) -> bytes:
    noise = np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


def scan(data: bytes) -> int:
    """Where the first scan's header begins, at its marker."""
    return data.index(b"\xff\xda")


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("RGB", {"subsampling": 0}),
        ("RGB", {"subsampling": 1}),
        ("RGB", {"subsampling": 2}),
        ("RGB", {"keep_rgb": True}),
        ("RGB", {"restart_marker_blocks": 3}),
        ("RGB", {"comment": b"a word \xff\xd9 \xff\xda", "optimize": True}),
        ("L", {}),
    ],
)
def test_what_cameras_and_programs_write_is_plain(mode: str, options: dict[str, Any]) -> None:
    data = jpeg(mode=mode, **options)
    assert markers.read(data) == markers.Markers(whole=True, plain=True, size=(90, 61))
    assert markers.read(data + b"and more") == markers.read(data)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_progressive_picture_is_plain_once_all_of_its_bits_are_there(mode: str) -> None:
    data = jpeg(mode=mode, progressive=True)
    assert markers.read(data) == markers.Markers(whole=True, plain=True, progressive=True, size=(90, 61))
    assert not markers.read(data[: data.rindex(b"\xff\xda")] + END).plain


def test_a_file_without_its_end_is_neither_whole_nor_plain() -> None:
    data = jpeg()
    for length in (3, 30, scan(data), scan(data) + 1, len(data) - 1):
        assert markers.read(data[:length]) == markers.Markers(False, size=markers.read(data[:length]).size)


@pytest.mark.parametrize(
    "spoilt",
    [
        lambda data: data[: scan(data)] + b"\0" + data[scan(data) :],
        lambda data: data[:-2] + b"\xff\xc4\0\2" + END,
        lambda data: data[:-2] + data[scan(data) :],
        lambda data: data[: scan(data)] + END,
        lambda data: b"\xff\xd8" + END,
        lambda data: data.replace(b"\xff\xc0", b"\xff\xc9"),
        lambda data: data.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"),
        lambda data: data.replace(b"\xff\xc0\0\x11\x08\0\x3d", b"\xff\xc0\0\x11\x08\0\0"),
        lambda data: data.replace(b"\x03\x01\x22", b"\x03\x01\x42"),
        lambda data: data.replace(b"\x02\x11\x01", b"\x02\x21\x01"),
        lambda data: data.replace(b"\xff\xda\0\x0c\x03\x01", b"\xff\xda\0\x0c\x03\x07"),
        lambda data: data[: scan(data) + 4] + b"\1" + data[scan(data) + 5 :],
    ],
    ids=(
        *(
            "garbage",
            "table behind the scan",
            "second scan",
            "no scan",
            "nothing",
            "arithmetic",
            "12 bits",
            "no height",
        ),
        *("odd luminance", "odd chrominance", "unknown component", "fewer components"),
    ),
)
def test_anything_else_is_not(spoilt: Any) -> None:
    data = jpeg()
    assert spoilt(data) != data
    assert markers.read(spoilt(data)).whole
    assert not markers.read(spoilt(data)).plain


def test_cmyk_is_not_plain() -> None:
    assert not markers.read(jpeg(mode="CMYK")).plain


def test_a_jpeg_of_more_scans_than_any_camera_writes_is_refused() -> None:
    data = jpeg(progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    with pytest.raises(InputError, match="scans"):
        markers.read(data[:-2] + last * markers.MOST_SCANS + END)


def reaches_its_end(data: bytes) -> bool:
    """By a regular expression: in entropy-coded data FF is followed by 00 or a restart, so another marker ends it."""
    at = 2
    while marker := re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]", re.DOTALL).search(data, at):
        at, code = marker.end(), data[marker.end() - 1]
        if code == 0xD9:
            return True
        if code not in (0x01, 0xD8):
            at += int.from_bytes(data[at : at + 2], "big")
    return False


def test_damaged_files_are_as_whole_as_a_walk_by_a_regular_expression_says() -> None:
    draw = np.random.default_rng(0)
    for data in (jpeg(), jpeg(progressive=True), jpeg(restart_marker_blocks=2), jpeg(700, 500, quality=98)):
        for _ in range(150):
            spoilt = bytearray(data)
            for place in draw.integers(2, len(data), int(draw.integers(1, 20))):
                spoilt[place] = 0xFF if draw.random() < 0.5 else int(draw.integers(256))
            del spoilt[int(draw.integers(len(data) // 2, 2 * len(data))) :]
            found = markers.read(bytes(spoilt))
            assert found.whole == reaches_its_end(bytes(spoilt))
            assert found.whole or not found.plain


def test_a_marker_across_the_edge_of_what_is_looked_through_at_a_time_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    data = jpeg()
    for step in range(1, 9):
        monkeypatch.setattr(markers, "_STEP", step)
        assert markers.read(data) == markers.Markers(whole=True, plain=True, size=(90, 61))
