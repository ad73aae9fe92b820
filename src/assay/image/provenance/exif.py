"""Exif: what a camera, or a program after it, wrote into a picture (Exif 2.32, 4.6; TIFF 6.0, 2; BigTIFF).

Only the few tags that matter are unpacked, none above its size: readers of all tags can be made to hold a file many
times over, or to turn it into millions of numbers. Anybody can write any of it. Of places (GPS), serial numbers and
names nothing is given out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Literal

from PIL import ExifTags

from assay.image.provenance.blocks import Blocks
from assay.image.provenance.sign import EDITORS, Says, Sign, cut, filled, generator_named

_IPTC = 33723
_NAMES = {
    ExifTags.Base.Make: "make",
    ExifTags.Base.Model: "model",
    ExifTags.Base.Software: "software",
    ExifTags.Base.Artist: "artist",
    ExifTags.Base.ImageDescription: "ImageDescription",
    ExifTags.Base.DateTimeOriginal: "taken",
    ExifTags.Base.LensModel: "lens",
    ExifTags.Base.UserComment: "UserComment",
}
_LONG_TEXTS = ("ImageDescription", "UserComment")

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 13: 4, 16: 8, 18: 8}
"""Bytes of one value, by its type."""

_MOST_TAGS = 4096

_HIDDEN = ("prompt:", "workflow:")
"""ComfyUI writes its graphs into the camera's fields of a WebP, behind these words."""


@dataclasses.dataclass
class Tags:
    """Exif that matters here: `fields` by short names, longer `texts` by Exif's, a TIFF's block of IPTC."""

    fields: dict[str, str] = dataclasses.field(default_factory=dict)
    texts: dict[str, str] = dataclasses.field(default_factory=dict)
    iptc: bytes = b""


def read(found: Blocks) -> Tags:
    """The tags of a block; none, and a line in `unread`, where it is none."""
    tags = Tags()
    if not found.exif:
        return tags
    values = _values(found)
    tags.iptc = values.pop(_IPTC, b"")
    for tag, value in values.items():
        name = _NAMES[ExifTags.Base(tag)]
        text = _comment(value) if name == "UserComment" else _text(value)
        hidden = next((word for word in _HIDDEN if text.startswith(word)), "")
        if hidden:
            tags.texts[hidden[:-1]] = text[len(hidden) :]
        elif text:
            (tags.texts if name in _LONG_TEXTS else tags.fields)[name] = text
    return tags


def _values(found: Blocks) -> dict[int, bytes]:
    """The bytes of the wanted tags, of the first directory and the one for Exif that it points to."""
    head = found.exif[:16]
    order: Literal["little", "big"] = "little" if head.startswith(b"II") else "big"
    version = int.from_bytes(head[2:4], order)
    if head[:2] not in (b"II", b"MM") or version not in (42, 43):
        found.miss("Exif: it is damaged")
        return {}
    wide = version == 43
    first = int.from_bytes(head[8:16] if wide else head[4:8], order)
    values = _directory(found, first, order, wide, {*_NAMES, _IPTC, ExifTags.IFD.Exif})
    inner = values.pop(ExifTags.IFD.Exif, b"")
    return values | _directory(found, int.from_bytes(inner, order), order, wide, _NAMES) if inner else values


def _directory(
    found: Blocks, at: int, order: Literal["little", "big"], wide: bool, wanted: Collection[int]
) -> dict[int, bytes]:
    """The bytes of the wanted tags of one directory. Outside the block there are none: slices end at its end."""

    def number(start: int, size: int) -> int:
        return int.from_bytes(found.exif[start : start + size], order)

    # Sizes of: a count of entries, an entry, an offset or the value in its place.
    count, entry, offset = (8, 20, 8) if wide else (2, 12, 4)
    values: dict[int, bytes] = {}
    for index in range(min(number(at, count), _MOST_TAGS)):
        place = at + count + index * entry
        if place + entry > len(found.exif):
            break
        tag = number(place, 2)
        size = number(place + 4, offset) * _SIZES.get(number(place + 2, 2), 0)
        if tag not in wanted or tag in values or not size:
            continue
        start = place + 4 + offset if size <= offset else number(place + 4 + offset, offset)
        value = found.exif[start : start + min(size, len(found.exif))]
        if found.takes(f"Exif, tag {tag}", len(value)):
            values[tag] = value
    return values


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace").replace("\0", " ").strip()


def _comment(value: bytes) -> str:
    """A user comment: its first eight bytes name its characters (Exif 2.32, 4.6.5, table 9)."""
    code, rest = value[:8], value[8:]
    if code.startswith(b"UNICODE"):
        # The standard does not say in which order the bytes of a character stand, and programs differ.
        order = "utf-16-be" if rest[0::2].count(0) >= rest[1::2].count(0) else "utf-16-le"
        return rest.decode(order, "replace").strip("\ufeff\0 ")
    return _text(rest if code in (b"ASCII\0\0\0", b"JIS\0\0\0\0\0", bytes(8)) else value)


def signs(tags: Tags) -> list[Sign]:
    """At most one: what made the picture, by these tags."""
    fields = tags.fields
    make, model, software = (fields.get(name, "") for name in ("make", "model", "software"))
    named = next(filter(None, (generator_named(fields.get(name, "")) for name in ("software", "make", "artist"))), "")
    mentioned = next(filter(None, (generator_named(text, field=False) for text in tags.texts.values())), "")
    # Many programs repeat the maker's name in the model's.
    camera = model if model.lower().startswith(make.lower()) else f"{make} {model}"
    says: Says = "nothing certain"
    if named:
        says, title = "generated", f"Its Exif data name an image generator, {named}."
    elif EDITORS.search(software[:200]):
        says, title = "edited", "Its Exif data name a program for editing pictures."
    elif make and model:
        says, title = "camera", f"Its Exif data say that a camera took it: {cut(camera)}."
    elif mentioned:
        title = f"Its description mentions {mentioned}; that alone does not say what made it."
    elif software or fields.get("taken"):
        title = "It holds Exif data, but they name neither a camera nor a generator."
    else:
        return []
    shown = {name: fields.get(name, "") for name in ("make", "model", "lens", "taken", "software")}
    return [Sign("exif", says, title, filled({**shown, "named": named or mentioned}))]
