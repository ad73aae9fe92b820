"""A small picture of what was judged, where its file is still there and still the same."""

from __future__ import annotations

import io

from PIL import Image

from assay.errors import InputError
from assay.image.decode import Limits, decode

SIDE = 96
"""Longest side in px."""

_LIMITS = Limits(frames=1, video_frames=1, video_bytes=256 << 20)
"""A thumbnail is not worth reading an hour of film for."""

_WORDS = {"missing": "no longer there", "too_many_bytes": "too large for a thumbnail"}


def thumbnail(name: str, sha256: str) -> bytes | str:
    """A JPEG file of at most `SIDE` px a side, of the first frame where there are several; or why there is none.

    Args:
        name: what was judged, a path as it was given.
        sha256: of the file's bytes when it was judged. Another file at that path is not shown.
    """
    try:
        picture = decode(name, _LIMITS)
    except InputError as error:
        return _WORDS.get(error.kind, "cannot be read here")
    if picture.sha256 != sha256:
        return "changed since"
    image = Image.fromarray(picture.pixels)
    image.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=75)
    return file.getvalue()
