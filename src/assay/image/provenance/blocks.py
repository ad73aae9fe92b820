"""Where a file keeps what it says of itself: blocks of Exif, XMP and IPTC, and texts, cut out of the container.

Decoders give them only for pictures that they can open, and some unpack pixels or allocate a canvas on the way. These
walks take a file as far as it goes, in time linear in it, and inflate no more than `MOST_TEXT` bytes of it.

Sources: PNG (W3C, third edition, 11.3.3), JPEG (ITU-T T.81, annex B), Exif 2.32 (4.7.2), XMP (ISO 16684-1; part 3 of
Adobe's specification, 1.1 and 2.6), WebP (RFC 9649, 2.7), IPTC-IIM 4.2 (1.5) in Photoshop's image resources.
"""

from __future__ import annotations

import dataclasses
import io
import re
import zlib
from collections.abc import Callable

from PIL import AvifImagePlugin, ImageFile, features

from assay.errors import MissingExtra
from assay.image.container import MOST_CHUNKS

MOST_TEXT = 4 << 20
"""Bytes of text that are read of one file, inflated or not. A generator's whole workflow takes up to a megabyte."""

_MOST_UNREAD = 20
_MOST_RESOURCES = 1 << 20
"""Bytes of Photoshop's resources; the block of IPTC is among the first."""

_XMP_NAME = b"http://ns.adobe.com/xap/1.0/\0"
_EXIF_NAME = b"Exif\0\0"
_PHOTOSHOP_NAME = b"Photoshop 3.0\0"
_IIM = 0x0404
_XMP_KEY = "XML:com.adobe.xmp"
_PACKET = re.compile(rb"<(x:xmpmeta|x:xapmeta|rdf:RDF)[\s>]")


@dataclasses.dataclass
class Blocks:
    """What was cut out; each is empty where there is none. `unread` collects what could not be, `left` counts down."""

    form: str
    exif: bytes = b""
    xmp: bytes = b""
    iptc: bytes = b""
    texts: dict[str, str] = dataclasses.field(default_factory=dict)
    unread: list[str] = dataclasses.field(default_factory=list)
    left: int = MOST_TEXT

    def miss(self, what: str) -> None:
        """Notes what could not be read, unless it is noted, or much is."""
        if what not in self.unread and len(self.unread) < _MOST_UNREAD:
            self.unread.append(what)

    def takes(self, what: str, size: int) -> bool:
        """Whether there is room for a text of so many bytes, which are then counted."""
        if size > self.left:
            self.miss(f"{what[:40]}: it is too long")
            return False
        self.left -= size
        return True

    def add(self, name: str, text: bytes) -> None:
        """Keeps a text, the first of its name, if there is room for it."""
        if self.takes(name, len(text)):
            self.texts.setdefault(name, text.decode("utf-8", "replace"))

    def inflate(self, name: str, packed: bytes) -> bytes:
        """A compressed text, counted; empty where it is damaged or larger than the room that is left."""
        if self.left < 1:  # to zlib no limit at all
            self.miss(f"{name[:40]}: it is too long")
            return b""
        unpacker = zlib.decompressobj()
        try:
            text = unpacker.decompress(packed, self.left)
        except zlib.error:
            self.miss(f"{name[:40]}: it is damaged")
            return b""
        # What is inflated for nothing counts as well: a thousand bombs cost no more than one.
        self.left -= len(text)
        if not unpacker.eof:
            self.miss(f"{name[:40]}: it is too long, or cut off")
            return b""
        return text


def gather(data: bytes, form: str) -> Blocks:
    """The blocks of a file whose format `assay.image.container.identify` gave as `form`."""
    found = Blocks(form)
    if form == "JPEG":
        _jpeg(data, found)
    elif form == "PNG":
        _png(data, found)
    elif form == "WEBP":
        _webp(data, found)
    elif form == "TIFF":
        found.exif = data  # the file is one such block, and its tags hold the rest
    elif form in ("AVIF", "HEIF"):
        _boxes(data, found)
    elif form == "GIF":
        _gif(data, found)
    if form not in ("JPEG", "PNG", "WEBP"):
        found.xmp = _packet(data)
    if form != "PNG" and not found.takes("XMP", len(found.xmp)):
        found.xmp = b""
    return found


def _packet(data: bytes) -> bytes:
    """The first XMP packet, found by its outermost element, as the standard means it to be found in any format."""
    start = _PACKET.search(data)
    if start is None:
        return b""
    end = data.find(b"</" + start[1] + b">", start.end(), start.end() + MOST_TEXT)
    return b"" if end < 0 else data[start.start() : end + len(start[1]) + 3]


def _jpeg(data: bytes, found: Blocks) -> None:
    at, resources = 2, bytearray()
    for _ in range(MOST_CHUNKS):
        if at + 4 > len(data) or data[at] != 0xFF:
            break
        code, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if code == 0xFF:  # padding
            at += 1
            continue
        if code in (0xD9, 0xDA) or length < 2:  # the end, or pixels: what matters stands before
            break
        body = data[at + 4 : at + 2 + length]
        if code == 0xE1 and body.startswith(_EXIF_NAME):
            found.exif = found.exif or body[len(_EXIF_NAME) :]
        elif code == 0xE1 and body.startswith(_XMP_NAME):
            found.xmp = found.xmp or body[len(_XMP_NAME) :]
        elif code == 0xED and body.startswith(_PHOTOSHOP_NAME) and len(resources) < _MOST_RESOURCES:
            resources += body[len(_PHOTOSHOP_NAME) :]
        elif code == 0xFE:
            found.add("comment", body)
        at += 2 + length
    found.iptc = _resource(bytes(resources))


def _resource(resources: bytes) -> bytes:
    """The IPTC block among Photoshop's image resources."""
    at = 0
    while resources[at : at + 4] == b"8BIM" and at + 8 <= len(resources):
        number = int.from_bytes(resources[at + 4 : at + 6], "big")
        at += 6 + (resources[at + 6] + 2) // 2 * 2  # a name, padded to an even length
        size = int.from_bytes(resources[at : at + 4], "big")
        if number == _IIM:
            return resources[at + 4 : at + 4 + size]
        at += 4 + size + size % 2
    return b""


def _png(data: bytes, found: Blocks) -> None:
    at = 8
    for _ in range(MOST_CHUNKS):
        if at + 8 > len(data):
            return
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if kind in (b"tEXt", b"zTXt", b"iTXt", b"eXIf"):
            body = data[at + 8 : at + 8 + length]
            if kind == b"eXIf":
                found.exif = found.exif or body.removeprefix(_EXIF_NAME)
            else:
                _png_text(kind, body, found)
        at += 12 + length


def _png_text(kind: bytes, body: bytes, found: Blocks) -> None:
    key, _, rest = body.partition(b"\0")
    name = key[:79].decode("latin-1")
    if kind == b"tEXt":
        packed, text = False, rest
    elif kind == b"zTXt":
        packed, text = True, rest[1:]
    else:
        packed, text = rest[:1] == b"\1", rest[2:].split(b"\0", 2)[-1]
    if packed:
        text = found.inflate(name, text)
    elif not found.takes(name, len(text)):
        return
    if not text:
        return
    if kind == b"iTXt" and name == _XMP_KEY:
        found.xmp = found.xmp or text
        return
    try:
        # The standard says Latin-1 for two of the three; ComfyUI and others write UTF-8 there as well.
        found.texts.setdefault(name, text.decode())
    except UnicodeDecodeError:
        found.texts.setdefault(name, text.decode("latin-1"))


def _webp(data: bytes, found: Blocks) -> None:
    at = 12
    for _ in range(MOST_CHUNKS):
        if at + 8 > len(data):
            return
        kind, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if kind == b"EXIF":
            found.exif = found.exif or data[at + 8 : at + 8 + length].removeprefix(_EXIF_NAME)
        elif kind == b"XMP ":
            found.xmp = found.xmp or data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


def _gif(data: bytes, found: Blocks) -> None:
    """The first comment of a GIF."""
    at = data.find(b"\x21\xfe")
    if at < 0:
        return
    at, comment = at + 2, bytearray()
    while at < len(data) and (length := data[at]) and len(comment) <= MOST_TEXT:
        comment += data[at + 1 : at + 1 + length]
        at += length + 1
    if comment:
        found.add("comment", bytes(comment))


def _boxes(data: bytes, found: Blocks) -> None:
    """Exif of AVIF and HEIC, where it is an item that only their libraries know the place of. Pixels stay packed."""
    try:
        if found.form == "HEIF":
            try:
                import pillow_heif
            except ImportError:
                found.miss(f"Exif: {MissingExtra('a HEIC picture', 'heic')}")
                return
            opened: Callable[[io.BytesIO], ImageFile.ImageFile] = pillow_heif.HeifImageFile
            block = opened(io.BytesIO(data)).info.get("exif")
        elif features.check("avif"):
            block = AvifImagePlugin.AvifImageFile(io.BytesIO(data)).info.get("exif")
        else:
            found.miss("Exif: the installed Pillow was built without AVIF; install its wheel")
            return
    except Exception:
        found.miss(f"Exif: the {found.form} file is damaged")
        return
    found.exif = bytes(block or b"").removeprefix(_EXIF_NAME)
