"""IPTC-IIM: the older block of a press picture's data (IPTC-NAA Information Interchange Model 4.2, 1.5 and 6)."""

from __future__ import annotations

import re

from assay.image.provenance.blocks import Blocks
from assay.image.provenance.sign import SOURCES, Sign, credited, filled, generator_named, source_type

_FIELDS = {65: "program", 80: "by", 110: "credit", 115: "from"}
"""Data sets of record 2."""

_MOST_SETS = 1000
_URI = re.compile(r"digitalsourcetype/(\w+)", re.IGNORECASE)


def read(block: bytes) -> dict[str, str]:
    """The fields of a block by short names, as far as it holds together."""
    fields: dict[str, str] = {}
    at = 0
    for _ in range(_MOST_SETS):
        if block[at : at + 1] != b"\x1c" or at + 5 > len(block):
            break
        record, number, size = block[at + 1], block[at + 2], int.from_bytes(block[at + 3 : at + 5], "big")
        if size & 0x8000:  # the length of a length, for data that do not belong into a picture's block
            break
        text = block[at + 5 : at + 5 + size].decode("utf-8", "replace").strip("\0 ")
        if record == 2 and number in _FIELDS and text:
            fields.setdefault(_FIELDS[number], text)
        if uri := _URI.search(text):  # the model has no data set of its own for it; programs put it anywhere
            fields.setdefault("source", uri[1])
        at += 5 + size
    return fields


def signs(found: Blocks, of_tiff: bytes) -> list[Sign]:
    """At most one, of the block in a JPEG or in a TIFF's tag, where it names a source type or a generator."""
    fields = read(found.iptc or of_tiff)
    code = source_type(fields.get("source", ""))
    named = next(filter(None, (generator_named(fields.get(name, "")) for name in _FIELDS.values())), "")
    shown = filled({"source": code, "named": named, "credit": fields.get("credit"), "program": fields.get("program")})
    if code:
        says, words = SOURCES[code]
        return [Sign("iptc", says, f"Its IPTC data say that the picture {words}.", shown)]
    if credited(fields.get("credit", "")) == "edited":
        return [Sign("iptc", "edited", "Its IPTC data credit an AI with editing the picture.", shown)]
    if named:
        return [Sign("iptc", "generated", f"Its IPTC data name an image generator, {named}.", shown)]
    return []
