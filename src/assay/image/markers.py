"""What a JPEG's markers say: whether the file reaches its end, and whether it is of the plain kind.

A plain file is one of which it is known, from its markers alone, that libjpeg decodes it without an error once it has
begun: the Huffman-coded data of a scan raises none whatever its bits are (damage is filled in), so an error can only
come from what stands between scans, or from a missing end. That is what decoding a part of a file rests on
(`assay.image.region`): nobody reads the rest of it, and still nothing passes that would otherwise be refused.

Source: ITU-T T.81, annex B.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from assay.errors import InputError

MOST_SCANS = 100
"""Scans of one JPEG. Encoders write about 10; each costs a pass over the whole picture and may take a dozen bytes."""

_STEP = 1 << 18
"""Bytes of entropy-coded data that are looked through at a time."""

_EOI, _SOS, _DRI, _DHT, _DQT, _COM = 0xD9, 0xDA, 0xDD, 0xC4, 0xDB, 0xFE
_TABLES = frozenset((_DHT, _DQT, _DRI, _COM, *range(0xE0, 0xF0)))
_SEQUENTIAL, _PROGRESSIVE = (0xC0, 0xC1), 0xC2

_UNSEEN = 14
"""Bits of a coefficient that are still to come before its first scan; no scan can leave as many."""

_SAMPLING = frozenset((0x11, 0x21, 0x22))
"""Factors of luminance beside chrominance at 1 x 1: 4:4:4, 4:2:2 and 4:2:0."""


@dataclasses.dataclass(frozen=True, slots=True)
class Markers:
    """What was found.

    Args:
        whole: the end is there. False does not yet mean that pixels are missing.
        plain: of 8 bits, grey or of three components in a usual subsampling, Huffman-coded, in one scan or progressive,
            and nothing in it but what belongs there.
        progressive: in many scans, each of which a decoder has to read for any part of the picture.
        size: (width, height) in px as the frame's header has them; (0, 0) where there is none.
    """

    whole: bool
    plain: bool = False
    progressive: bool = False
    size: tuple[int, int] = (0, 0)


def read(data: bytes) -> Markers:
    """The markers of a JPEG up to its end; it begins with one, as `container.identify` has seen.

    Raises:
        InputError: unsupported, more than `MOST_SCANS` scans.
    """
    at, scans, frame, plain, coded = 2, 0, 0, True, False
    size, left = (0, 0), dict[int, list[int]]()
    while (found := _next(data, at)) is not None:
        code = data[found]
        # Between segments there is nothing but fill bytes, which are FF too; behind a scan's header its data.
        plain = plain and (coded or data.count(b"\xff", at, found) == found - at)
        at, coded = found + 1, False
        if code == _EOI:
            # Where bits of a coefficient are missing, libjpeg smooths over the edges of its blocks.
            return Markers(True, plain and scans > 0 and not any(map(any, left.values())), frame == _PROGRESSIVE, size)
        segment = data[at : at + int.from_bytes(data[at : at + 2], "big")]
        if code == _SOS:
            scans += 1
            if scans > MOST_SCANS:
                raise InputError(
                    f"a JPEG of more than {MOST_SCANS} scans, which no camera writes; save it again", kind="unsupported"
                )
            coded = True
            plain = plain and frame != 0 and _takes(segment, left, frame == _PROGRESSIVE)
        elif code in (*_SEQUENTIAL, _PROGRESSIVE):
            plain = plain and not frame and _usual(segment)
            frame, left = code, {number: [_UNSEEN] * 64 for number in segment[8::3]}
            size = (int.from_bytes(segment[5:7], "big"), int.from_bytes(segment[3:5], "big"))
        else:
            # Behind the one scan of a sequential picture only its end is expected.
            plain = plain and code in _TABLES and (scans == 0 or frame == _PROGRESSIVE)
        if code not in (0x01, 0xD8):  # all others carry their length
            at += int.from_bytes(data[at : at + 2], "big")
    return Markers(False, False, frame == _PROGRESSIVE, size)


def _usual(header: bytes) -> bool:
    """Whether a frame's header, from its length on, is of a kind whose parts are known to come out as in the whole."""
    components = header[7] if len(header) > 7 else 0
    factors = header[9::3]
    return (
        len(header) == 8 + 3 * components
        and header[2] == 8
        and bool(int.from_bytes(header[3:5], "big"))
        and (factors == b"\x11" if components == 1 else components == 3 and factors[0] in _SAMPLING)
        and factors[1:] in (b"", b"\x11\x11")
    )


def _takes(header: bytes, left: dict[int, list[int]], progressive: bool) -> bool:
    """Whether a scan's header, from its length on, is as expected; notes in `left` the bits that it leaves of each
    component's coefficients."""
    count = header[2] if len(header) > 2 else 0
    if len(header) != 6 + 2 * count or not {*header[3:-3:2]} <= {*left}:
        return False
    first, last, bits = header[-3:]
    if not progressive and (count != len(left) or any(part[0] != _UNSEEN for part in left.values())):
        return False  # several scans, or more than its own
    if first > last or last > 63:
        return False
    for number in header[3:-3:2]:
        left[number][first : last + 1] = [bits & 15] * (last + 1 - first)
    return True


def _next(data: bytes, at: int) -> int | None:
    """Where the code of the next marker stands: behind FF, neither 00, FF nor a restart marker's."""
    if data[at : at + 1] == b"\xff" and at + 1 < len(data) and not _stuffed(data[at + 1]):
        return at + 1
    for start in range(at, len(data), _STEP):
        part = np.frombuffer(data, np.uint8, min(_STEP + 1, len(data) - start), start)
        behind = np.flatnonzero(part[:-1] == 0xFF) + 1
        codes = part[behind]
        real = behind[(codes != 0) & (codes != 0xFF) & (codes & 0xF8 != 0xD0)]
        if real.size:
            return start + int(real[0])
    return None


def _stuffed(code: int) -> bool:
    return code in (0x00, 0xFF) or code & 0xF8 == 0xD0
