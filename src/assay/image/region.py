"""Decodes rectangles of a JPEG, and nothing else of it (extra "crops").

nvImageCodec runs libjpeg-turbo, as Pillow does, and skips what is not asked for: rows before a rectangle are read from
the Huffman code but not transformed, columns beside it likewise, and nothing behind it is read at all. The pixels are
those of Pillow's whole picture to the bit, edges included. Both libraries can change, so that is not taken on trust:
before the first picture some made-up ones are decoded both ways, and where a bit differs, as where the library is not
installed, everything is decoded whole.

Only plain files are taken (`assay.image.markers`), so whatever would be refused as a whole still is. Of a progressive
picture every scan has to be read, which leaves less to gain.

The library is told to keep to the CPU. Of damage, and of parts of CUDA that it misses, it writes to the C library's
standard error by itself, past Python; where that is glibc, it finds nowhere to write as long as it works here.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import os
import platform
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from assay.image.markers import Markers
from assay.image.quiet import Exchange
from assay.types import Box

WORTH, WORTH_PROGRESSIVE = 0.7, 0.8
"""Most that decoding in parts may cost, as a share of decoding whole, and most of a progressive picture's area."""

_READING, _TRANSFORMING = 0.25, 0.5
"""Shares of the time for a whole picture, painted, that reading all of its code and transforming all of its blocks take
where parts are decoded. Measured on 12 megapixels in 4:2:0 and 4:4:4."""

_here = threading.local()
_readying = threading.Lock()


def bands(boxes: Sequence[Box], markers: Markers) -> list[Box]:
    """What to decode for these boxes: rectangles whose rows do not overlap, from top to bottom.

    Args:
        boxes: inside the picture as it is stored.

    Returns:
        None of them where decoding the whole is as good, or the only way.
    """
    if not boxes or not markers.plain or not _ready():
        return []
    width, height = markers.size
    found: list[Box] = []
    for box in sorted(boxes, key=lambda box: box.top):
        if found and (markers.progressive or box.top < found[-1].bottom):
            found[-1] = _around(found[-1], box)
        else:
            found.append(box)
    area = sum(band.width * band.height for band in found) / (width * height)
    if markers.progressive:
        return found if area <= WORTH_PROGRESSIVE else []
    cost = sum(band.bottom / height for band in found) * _READING + area * _TRANSFORMING
    return found if cost <= WORTH else []


def decoded(data: bytes, mode: str, regions: Sequence[Box]) -> list[npt.NDArray[np.uint8]] | None:
    """The samples of rectangles of a plain JPEG as it is stored, before any colour profile.

    Args:
        mode: "L" or "RGB", as Pillow has it.
        regions: from `bands`.

    Returns:
        Of each, shape (height, width) or (height, width, 3); None where the library does not decode it, for whatever
        reason.
    """
    if mode not in ("L", "RGB"):
        return None
    try:
        return _decoded(data, mode, regions)
    except Exception:  # the library raises what it likes; Pillow then says what is wrong with the file
        return None


def _around(one: Box, other: Box) -> Box:
    return Box(
        min(one.left, other.left),
        min(one.top, other.top),
        max(one.right, other.right),
        max(one.bottom, other.bottom),
    )


def _decoded(data: bytes, mode: str, regions: Sequence[Box]) -> list[npt.NDArray[np.uint8]] | None:
    library = _library()
    if not hasattr(_here, "decoder"):  # one a thread: it is not said that threads may share one
        _here.decoder = library.Decoder(
            device_id=library.NVIMGCODEC_DEVICE_CPU_ONLY,
            max_num_cpu_threads=1,
            backends=[library.Backend(library.BackendKind.CPU_ONLY)],
        )
    wanted = library.DecodeParams(
        apply_exif_orientation=False,
        color_spec=library.ColorSpec.GRAY if mode == "L" else library.ColorSpec.SRGB,
    )
    with _silent():
        stream = library.CodeStream(data)
        if stream.num_images != 1:
            return None
        found = _here.decoder.decode(
            [
                stream.get_sub_code_stream(region=library.Region(box.top, box.left, box.bottom, box.right))
                for box in regions
            ],
            params=wanted,
        )
    shown: list[npt.NDArray[np.uint8]] = []
    for box, each in zip(regions, found, strict=True):
        pixels: npt.NDArray[np.uint8] = np.asarray(each.cpu()) if each is not None else np.empty(0, np.uint8)
        if pixels.shape != (box.height, box.width, 1 if mode == "L" else 3):
            return None
        shown.append(pixels[..., 0] if mode == "L" else pixels)
    return shown


# ── whether it can be used ───────────────────────────────────────────────────────────────────────────────────────────


@functools.cache
def _library() -> Any:
    # Read once, when it is imported; without it the library tells of every codec of CUDA that is not there.
    os.environ.setdefault("PYNVIMGCODEC_VERBOSITY", "0")
    with _silent():
        from nvidia import nvimgcodec
    return nvimgcodec


def _ready() -> bool:
    with _readying:
        return _agrees()


@functools.cache
def _agrees() -> bool:
    """Whether the library is there and gives what Pillow gives, to the bit."""
    try:
        return all(_alike(*made) for made in _made())
    except Exception:  # not installed, or built for another machine
        return False


def _made() -> Iterator[tuple[bytes, str]]:
    """JPEGs of all kinds that Pillow writes, small, of noise over a ramp, with sides that no block divides."""
    height, width = 83, 109
    noise = np.random.default_rng(0).integers(0, 64, (height, width, 3))
    picture = Image.fromarray((noise + np.arange(width)[None, :, None] * 190 // width).astype(np.uint8))
    kinds: list[tuple[str, dict[str, Any]]] = [("RGB", {"subsampling": each}) for each in (0, 1, 2)]
    kinds += [("L", {}), ("RGB", {"progressive": True}), ("RGB", {"restart_marker_blocks": 3})]
    for mode, options in kinds:
        file = io.BytesIO()
        picture.convert(mode).save(file, "JPEG", quality=83, **options)
        yield file.getvalue(), mode


def _alike(data: bytes, mode: str) -> bool:
    with Image.open(io.BytesIO(data)) as image:
        whole = np.asarray(image)
    boxes = (Box(0, 0, 109, 5), Box(17, 33, 68, 66), Box(40, 18, 57, 49), Box(90, 66, 109, 83))
    found = _decoded(data, mode, boxes)
    if found is None:
        return False
    parts = (whole[box.top : box.bottom, box.left : box.right] for box in boxes)
    return all(np.array_equal(each, part) for each, part in zip(found, parts, strict=True))


# ── silence ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@functools.cache
def _stderr() -> Exchange | None:
    """glibc's variable `stderr`, which leads nowhere meanwhile; None with other C libraries, where it is a constant or
    has no such name."""
    if platform.libc_ver()[0] != "glibc":
        return None
    library = ctypes.CDLL(None)
    library.fopen.restype = ctypes.c_void_p
    nowhere = library.fopen(os.fsencode(os.devnull), b"w")
    if not nowhere:
        return None
    variable = ctypes.c_void_p.in_dll(library, "stderr")

    def change(stream: int | None) -> int | None:
        before, variable.value = variable.value, stream
        return before

    return Exchange(change, nowhere)


def _silent() -> contextlib.AbstractContextManager[None]:
    """C code that writes to `stderr` by its name writes nowhere, for the whole process as long as the block lasts.
    Python and C++ have their own way to it."""
    stderr = _stderr()  # first called by one thread, in `_ready`
    return contextlib.nullcontext() if stderr is None else stderr.inside()
