"""What a picture's file says of its own origin: evidence beside the pixels, which no score ever takes into account.

A file can carry a signed record (C2PA), what a camera or an editor wrote into it (Exif, XMP, IPTC), and the settings of
the program that generated it. Each of them is a `Sign` here, in plain words. Two things hold for all of them:

- **Nothing found says nothing.** Most sites and messengers strip all of it, and few generators write any.
- **It can be forged.** Whoever has the file can write any of it. Of a signed record one can tell whether it still fits
  the file and who signed it, but not whether the signer tells the truth.

Nothing is fetched from anywhere. A file is held in memory whole, its pixels are not unpacked, and of all texts in it no
more than `blocks.MOST_TEXT` bytes are read, inflated ones included; a record's own compression is the library's, held
to `c2pa.SETTINGS`. What is there and cannot be read is named in `Provenance.unread`; it neither stops the rest nor
counts as a sign.
"""

from __future__ import annotations

import os

from assay.errors import InputError
from assay.image import container, place
from assay.image.decode import DEFAULT, Limits
from assay.image.provenance import blocks, c2pa, exif, generator, iptc, xmp
from assay.image.provenance.sign import Kind, Provenance, Says, Sign, Verified
from assay.image.quiet import quiet

__all__ = ["Kind", "Provenance", "Says", "Sign", "Verified", "provenance"]


def provenance(source: str | os.PathLike[str] | bytes, limits: Limits = DEFAULT, *, trusted: str = "") -> Provenance:
    """The signs of origin in a picture's file, or a video's.

    Of videos the C2PA record and the XMP packet are read. A file may be cut off or damaged: what is left is read.

    Args:
        source: a path, an address inside an archive (`assay.image.place`), or a file's content.
        limits: of these only `bytes` counts, for videos too.
        trusted: certificates in PEM, one after the other, of the authorities whose signatures are to be "valid". None
            are built in: without it, a record that fits its file is "untrusted".

    Raises:
        InputError: no picture or video (not_an_image, unsupported, empty), too_many_bytes, or a file that cannot be
            read (missing, permission, not_a_file, unreadable, corrupt, needs_extra).
        ValueError: `trusted` holds no certificates, or damaged ones.
        TypeError: `source` is neither a path nor bytes.
    """
    if trusted and not c2pa.holds_certificates(trusted):
        raise ValueError("trusted holds no certificates, or damaged ones; give PEM")
    data = _read(source, limits)
    form = container.identify(data)
    with quiet():
        found = blocks.gather(data, form)
        tags = exif.read(found)
        packet = xmp.read(found)
        signs = [
            *c2pa.signs(data, form, packet.get("provenance", ""), trusted, found),
            *generator.signs({**found.texts, **tags.texts}, packet.get("description", "")),
            *xmp.signs(packet),
            *iptc.signs(found, tags.iptc),
            *exif.signs(tags),
        ]
    return Provenance(tuple(signs), tuple(found.unread))


def _read(source: str | os.PathLike[str] | bytes, limits: Limits) -> bytes:
    if isinstance(source, bytes):
        data = source
    elif isinstance(source, str | os.PathLike):
        name = os.fspath(source)
        place.stat(name)  # before it is opened: a named pipe would never end
        data = place.read(name, limits.bytes + 1)
    else:
        raise TypeError(f"cannot read a {type(source).__name__}; give a path or a file's bytes")
    if len(data) > limits.bytes:
        raise InputError(f"more than {limits.bytes:,} bytes; raise the limit on bytes", kind="too_many_bytes")
    if not data:
        raise InputError(f"empty, not one byte; {container.AGAIN}", kind="empty")
    return data
