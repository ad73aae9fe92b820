"""What a file's bytes say before any decoder sees them: which format, whether it is all there, how much it claims.

Decoders differ in what they forgive. Pillow skips the checksums of PNG pixel data, counts GIF frames one by one, lets
libwebp allocate the canvas that a header asks for, and shows what it has of a GIF without an end. These walks over the
containers' own structure give one answer for all of them, in time linear in the file and without unpacking anything.

Sources: PNG (W3C, third edition, 5 and 13), GIF89a (CompuServe, 1990), JPEG (ITU-T T.81, annex B), WebP (RFC 9649, 2),
TIFF 6.0 (section 2), ISO base media file format (ISO/IEC 14496-12, 4.2 and 4.3), QuickTime File Format (Apple, 2016,
"Atoms"), Matroska (RFC 8794, 4 to 6; RFC 9559, 5), AVI (OpenDML 1.02), MPEG systems (ISO/IEC 13818-1, 2.4 and 2.5).
"""

from __future__ import annotations

import dataclasses
import re
import struct
import zlib
from collections.abc import Iterator

from assay.errors import InputError

AGAIN = "get the file again from where it came from"

MOST_CHUNKS = 200_000
"""Chunks of one PNG. Encoders write pixels in chunks of 8 KiB or more, so this leaves room for over a gigabyte. Also
how many parts of one video are walked over: boxes, clusters or chunks on its outermost level, of seconds each."""

_AVIF = {b"avif", b"avis"}
_HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_HEIF = {b"mif1", b"msf1"}

_RAW = {b"crx "}
_MOVIE = {b"ftyp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"pnot", b"uuid", b"styp", b"sidx"}

VIDEOS = frozenset(("MP4", "MOV", "MKV", "WEBM", "AVI", "MPEG", "MPEGTS", "FLV"))
"""What `identify` may give that is a video."""

_TS_PACKETS = 5
"""Packets of an MPEG transport stream that must begin with its sync byte; chance gives one file in 256^5."""

MOST_FRAMES = 1_000_000
"""Frames of one video: four and a half hours at 60 a second. Their time stamps are held in memory."""

_BMP_HEADERS = {12, 40, 52, 56, 64, 108, 124}

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_ELSEWHERE = (
    (b"8BPS", "a Photoshop document"),
    (b"%!PS", "PostScript"),
    (b"%PDF", "a PDF"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\1\0", "a Windows icon"),
    (b"icns", "a Mac icon"),
    (b"SIMPLE  =", "FITS"),
    (b"v/1\x01", "OpenEXR"),
    (b"DDS ", "a DirectDraw surface"),
    (b"qoif", "QOI"),
    (b"<svg", "an SVG drawing"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "a Windows Media video"),
    (b"OggS", "an Ogg video"),
    (b".RMF", "a RealMedia video"),
)
_NETPBM = re.compile(rb"P[1-7][\s#]")
_SVG = re.compile(rb"\s*<\?xml[^<]*(<!--.*?-->|<!DOCTYPE svg|\s)*<svg", re.DOTALL)


@dataclasses.dataclass(frozen=True, slots=True)
class Outline:
    """What the structure claims.

    Args:
        whole: the file reaches as far as its structure says. False does not yet mean that pixels are missing.
        size: (width, height) in pixels, where it must be known before the decoder is made; else None.
        frames: how many frames were counted, where the decoder's own count cannot be trusted with it; else None.
    """

    whole: bool
    size: tuple[int, int] | None = None
    frames: int | None = None


def identify(data: bytes) -> str:
    """The format by content: JPEG, PNG, WEBP, GIF, BMP, TIFF, AVIF or HEIF, in Pillow's words, or one of `VIDEOS`.

    Raises:
        InputError: unsupported (another kind of picture or video), not_an_image.
    """
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    if data.startswith(_TIFF):
        if data[8:10] == b"CR":
            raise _elsewhere("a camera's raw file")
        return "TIFF"
    if data.startswith(b"BM") and int.from_bytes(data[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if data[4:8] == b"ftyp":
        return _identify_boxes(data)
    if (video := _identify_video(data)) is not None:
        return video
    for magic, what in _ELSEWHERE:
        if data.startswith(magic):
            raise _elsewhere(what)
    if _NETPBM.match(data):
        raise _elsewhere("a Netpbm picture")
    if _SVG.match(data[:4096]):
        raise _elsewhere("an SVG drawing")
    raise InputError(
        "not a picture or video by its content; give a JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIC file, "
        "or an MP4, MOV, WebM, MKV, AVI, MPEG or FLV video",
        kind="not_an_image",
    )


def _identify_boxes(data: bytes) -> str:
    end = min(int.from_bytes(data[:4], "big"), 1024)
    major, others = data[8:12], {data[at : at + 4] for at in range(16, end, 4)}
    for brands in ({major}, others):
        if brands & _AVIF:
            return "AVIF"
        if brands & _HEIC:
            return "HEIF"
    if (others | {major}) & _HEIF:
        return "HEIF"
    if (others | {major}) & _RAW:
        raise _elsewhere("a camera's raw file")
    # Dozens of brands stand for a video (isom, mp42, avc1, M4V, 3gp4, …), and more come; no other box file is read.
    return "MOV" if major == b"qt  " else "MP4"


def _identify_video(data: bytes) -> str | None:
    if data.startswith(b"\x1aE\xdf\xa3"):
        return "WEBM" if b"webm" in data[:64] else "MKV"
    if data.startswith(b"RIFF") and data[8:12] == b"AVI ":
        return "AVI"
    if data.startswith(b"\0\0\1\xba"):
        return "MPEG"
    if data.startswith(b"FLV\x01"):
        return "FLV"
    if data[4:8] in _MOVIE:  # QuickTime before it had "ftyp"
        size = int.from_bytes(data[:4], "big")
        if data[4:8] in (b"moov", b"mdat", b"wide") or data[size + 4 : size + 8] in _MOVIE:
            return "MOV"
    for start, length in ((0, 188), (4, 192)):  # as broadcast; with a time code before each packet, as on discs
        if (
            len(data) >= length * _TS_PACKETS
            and data[start : start + length * _TS_PACKETS : length] == b"G" * _TS_PACKETS
        ):
            return "MPEGTS"
    return None


def _elsewhere(what: str) -> InputError:
    if what.endswith("video"):
        return InputError(
            f"{what}, which is not read; convert it first: ffmpeg -i IN -crf 10 OUT.mp4", kind="unsupported"
        )
    return InputError(f"{what}, which is not read as a picture; save it as PNG or JPEG first", kind="unsupported")


def outline(form: str, data: bytes, most_frames: int) -> Outline:
    """Walks the structure of `data`, whose format `identify` gave as `form`; a JPEG's is `assay.image.markers`'s.

    Raises:
        InputError: truncated (PNG, GIF and videos without their end), corrupt (a PNG checksum that does not fit, a GIF
            without a frame), too_many_frames (a GIF or TIFF of more than `most_frames`).
    """
    if form == "PNG":
        return _png(data)
    if form == "GIF":
        return _gif(data, most_frames)
    if form == "WEBP":
        return Outline(whole=int.from_bytes(data[4:8], "little") + 8 <= len(data), size=_webp_size(data))
    if form == "TIFF":
        return _tiff(data, most_frames)
    if form in VIDEOS:
        return _video(form, data)
    if form == "BMP":
        return Outline(whole=int.from_bytes(data[2:6], "little") <= len(data))
    return Outline(whole=_boxes_fit(data))


def truncated(form: str) -> InputError:
    """The error of a file that ends before its picture does."""
    return InputError(f"the {form} file ends before its picture does; {AGAIN}", kind="truncated")


def corrupt(form: str, why: str) -> InputError:
    """The error of a file whose bytes cannot be right."""
    return InputError(f"the {form} file is damaged ({why}); {AGAIN}", kind="corrupt")


def _png(data: bytes) -> Outline:
    view = memoryview(data)
    at = 8
    for _ in range(MOST_CHUNKS):
        if at + 12 > len(data):
            raise truncated("PNG")
        length = int.from_bytes(data[at : at + 4], "big")
        end = at + 12 + length
        if length > 0x7FFF_FFFF:
            raise corrupt("PNG", "a chunk's length is impossible")
        if end > len(data):
            raise truncated("PNG")
        if zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise corrupt("PNG", "a checksum does not fit")
        if data[at + 4 : at + 8] == b"IEND":
            return Outline(whole=True)
        at = end
    raise corrupt("PNG", f"more than {MOST_CHUNKS:,} chunks")


def _gif(data: bytes, most_frames: int) -> Outline:
    def table(flags: int) -> int:
        return 3 << (flags & 7) + 1 if flags & 0x80 else 0

    frames = 0
    try:
        at = 13 + table(data[10])
        while (block := data[at]) != 0x3B:  # until the trailer
            if block == 0x21:  # an extension: its label, then data blocks
                at += 2
            elif block == 0x2C:  # a frame: descriptor, colour table, code size, then data blocks
                frames += 1
                if frames > most_frames:
                    raise too_many_frames(most_frames)
                at += 11 + table(data[at + 9])
            else:  # padding, which every reader steps over
                at += 1
                continue
            while length := data[at]:
                at += length + 1
            at += 1
    except IndexError:
        raise truncated("GIF") from None
    if not frames:
        raise corrupt("GIF", "no frame in it")
    return Outline(whole=True, frames=frames)


def too_many_frames(most: int) -> InputError:
    """The error of a file that claims more than `most` frames or pages."""
    return InputError(
        f"claims more than {most:,} frames or pages; cut it into parts or raise the limit", kind="too_many_frames"
    )


def too_long() -> InputError:
    """The error of a video that claims more than `MOST_FRAMES`."""
    return InputError(f"claims more than {MOST_FRAMES:,} frames; cut it into parts", kind="too_many_frames")


def _webp_size(data: bytes) -> tuple[int, int] | None:
    chunk = data[12:16]
    if len(data) < 30:
        return None
    if chunk == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if chunk == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _tiff(data: bytes, most_pages: int) -> Outline:
    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], "little" if data.startswith(b"II") else "big")

    # Sizes of: an offset, a count of entries, an entry.
    offset, count, entry = (4, 2, 12) if 42 in data[2:4] else (8, 8, 20)
    at, seen = number(offset, offset), set[int]()
    while at and at not in seen:
        seen.add(at)
        if len(seen) > most_pages:
            raise too_many_frames(most_pages)
        end = at + count + entry * number(at, count)
        if end + offset > len(data):
            return Outline(whole=False, frames=len(seen))
        at = number(end, offset)
    return Outline(whole=True, frames=len(seen))


def _boxes_fit(data: bytes) -> bool:
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size == 0:  # the last box, up to the end of the file
            return True
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        if size < 8:
            return True  # not a box: broken, but not by a missing end
        at += size
    return at <= len(data)


# ── videos ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _video(form: str, data: bytes) -> Outline:
    # Decoders show what there is of a clip and end without a word, so a missing end has to be seen here. MPEG and FLV
    # are streams without a stated length: of these any beginning is whole.
    walks = {"MP4": _movie_end, "MOV": _movie_end, "MKV": _matroska_end, "WEBM": _matroska_end, "AVI": _avi_end}
    if form in walks and walks[form](data) > len(data):
        raise InputError(
            f"the {form} video ends before its last frame; {AGAIN}, "
            "or make a whole clip of what is there: ffmpeg -i IN -c copy OUT",
            kind="truncated",
        )
    return Outline(whole=True)


def _movie_end(data: bytes) -> int:
    """Where the last box with pictures or their index ends. What the index claims is checked on the way."""
    last, runs, indexed = 0, 0, False
    for kind, start, end in _boxes(data, 0, len(data)):
        if kind in (b"moov", b"moof", b"mdat"):
            last = end
        if kind == b"moov":
            indexed = True
            _check_tracks(data, start, end)
        elif kind == b"moof":
            runs += sum(_number(data, run + 4) for run, _ in _inside(data, start, end, b"traf", b"trun"))
            if runs > 4 * MOST_FRAMES:  # of all tracks; sound has more
                raise too_long()
    if not indexed:  # recorders write it last
        raise InputError(f"the video's index is missing, as in a recording that was cut off; {AGAIN}", kind="truncated")
    return last


def _check_tracks(data: bytes, start: int, end: int) -> None:
    # FFmpeg makes an entry of 24 bytes for each sample that a track claims, before it reads one.
    for _ in _inside(data, start, end, b"cmov"):
        raise _elsewhere("a QuickTime file with a compressed index, a video")
    for track, track_end in _inside(data, start, end, b"trak"):
        media = list(_inside(data, track, track_end, b"mdia"))
        pictures = any(data[at + 8 : at + 12] == b"vide" for mdia in media for at, _ in _inside(data, *mdia, b"hdlr"))
        for mdia in media:
            for at, _ in _inside(data, *mdia, b"minf", b"stbl", b"stsz"):
                size, count = _number(data, at + 4), _number(data, at + 8)
                if pictures and count > MOST_FRAMES:
                    raise too_long()
                if size * count > len(data):
                    raise corrupt("video", "its index claims more than the file holds")


def _number(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start of the content and end of each box; the end may lie behind `end`."""
    for _ in range(MOST_CHUNKS):
        if at + 8 > end:
            return
        size, kind, head = _number(data, at), data[at + 4 : at + 8], 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        elif size == 0:  # up to the end of what it lies in
            size = end - at
        if size < head:
            return
        yield kind, at + head, at + size
        at += size


def _inside(data: bytes, start: int, end: int, *path: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of the content of all boxes that a path of kinds leads to."""
    for kind, inner, inner_end in _boxes(data, start, min(end, len(data))):
        if kind == path[0]:
            if path[1:]:
                yield from _inside(data, inner, inner_end, *path[1:])
            else:
                yield inner, inner_end


def _avi_end(data: bytes) -> int:
    at = 0
    for _ in range(MOST_CHUNKS):
        if data[at : at + 4] != b"RIFF":
            break
        at += 8 + int.from_bytes(data[at + 4 : at + 8], "little")
    return at - 8  # some writers count the chunk's own head as well


_SEGMENT = 0x18538067


def _matroska_end(data: bytes) -> int:
    """Where the segment ends, or its last cluster where it was written without knowing its own length."""
    at = 0
    for _ in range(MOST_CHUNKS):
        if at + 2 > len(data):
            break
        kind, at = _ebml_number(data, at, keep=True)
        size, at = _ebml_number(data, at)
        if kind == _SEGMENT:
            if size is not None:
                return at + size
        elif size is None or kind is None:  # a cluster of a live recording, whose end nobody wrote down; or damage
            return len(data)
        else:
            at += size
    return at


def _ebml_number(data: bytes, at: int, *, keep: bool = False) -> tuple[int | None, int]:
    """A number of EBML's variable length and what follows it. None: "unknown". `keep`: with its marker, as ids are."""
    first = data[at] if at < len(data) else 0
    length = 9 - first.bit_length()
    if length > 8:
        return None, at + 1
    value, ones = int.from_bytes(data[at : at + length], "big"), (1 << 7 * length) - 1
    if keep:
        return value, at + length
    return None if value & ones == ones else value & ones, at + length
