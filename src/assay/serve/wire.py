"""What travels between the server and its decoding processes: JSON and arrays, laid out as said here, never pickled.

A message is the length of its head (4 bytes, little-endian), the head (a JSON object, ASCII), then the arrays that the
head lists under "arrays" as [type, shape], each in C order without gaps. A picture that was cut is such a message.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.image.view import View
from assay.judge.detector import Detector
from assay.judge.prepared import Prepared
from assay.judge.tracks import Sight
from assay.types import Box

Arrays = Sequence[npt.NDArray[Any]]

_TYPES: dict[str, np.dtype[Any]] = {"u1": np.dtype("u1"), "f4": np.dtype("<f4")}
_NAMES = {type: name for name, type in _TYPES.items()}


def pack(head: Mapping[str, Any], arrays: Arrays = ()) -> bytes:
    """A message.

    Args:
        head: a JSON object without "arrays".
        arrays: of uint8 or float32.
    """
    listed = [[_NAMES[array.dtype], list(array.shape)] for array in arrays]
    text = json.dumps({**head, "arrays": listed}, allow_nan=False).encode("ascii")
    whole: list[Any] = [np.ascontiguousarray(array).data for array in arrays]
    return b"".join([len(text).to_bytes(4, "little"), text, *whole])


def unpack(message: bytes) -> tuple[dict[str, Any], list[npt.NDArray[Any]]]:
    """Its head and its arrays, which are parts of `message` and not writable.

    Raises:
        ValueError: that is no message.
    """
    end = 4 + int.from_bytes(message[:4], "little")
    try:
        head = json.loads(message[4:end], parse_constant=_none)
    except RecursionError as error:
        raise ValueError("not a message (nested too deep)") from error
    try:
        listed = [(_TYPES[name], tuple(map(int, shape))) for name, shape in head.pop("arrays")]
    except (AttributeError, KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"not a message ({error!r})") from error
    arrays = []
    for type, shape in listed:
        count = math.prod(shape)
        if not 0 <= count <= len(message):
            raise ValueError(f"an array of shape {shape}")
        arrays.append(np.frombuffer(message, type, count, end).reshape(shape))
        end += count * type.itemsize
    if end != len(message):
        raise ValueError(f"{len(message)} bytes, not the {end} that are listed")
    return head, arrays


def _none(number: str) -> object:
    raise ValueError(f"{number} is no number")


def views_of(detector: Detector) -> list[View]:
    """The views of a detector's streams, each once, in an order that every process gives."""
    return list(dict.fromkeys(stream.view for stream in detector.streams))


def pack_picture(picture: Prepared, views: Sequence[View]) -> bytes:
    """A picture, or a part of a clip, without the name of its input.

    Args:
        views: of the detector, in its order; both ends know them.
    """
    numbers = {view: number for number, view in enumerate(views)}
    faces = [look for sight in picture.sights for look in sight.looks]
    head = {
        "sha256": picture.sha256,
        "width": picture.width,
        "height": picture.height,
        "frame_numbers": picture.frame_numbers,
        "frame_count": picture.frame_count,
        "times": picture.times,
        "absent": [[numbers[view], reason] for view, reason in picture.absent.items()],
        "boxes": [[numbers[view], [_rows(frame) for frame in frames]] for view, frames in picture.boxes.items()],
        "shown": [[numbers[view], frames] for view, frames in picture.shown.items()],
        "sights": [[_rows(sight.boxes), sight.time] for sight in picture.sights],
    }
    arrays = [picture.crops[view] for view in picture.boxes]
    if picture.sights:
        arrays.append(np.stack([sight.coarse for sight in picture.sights]))
        arrays.append(np.stack(faces) if faces else np.empty((0, 0), np.float32))
    return pack({"picture": head}, arrays)


def unpack_picture(head: Mapping[str, Any], arrays: Arrays, views: Sequence[View], name: str) -> Prepared:
    """The picture that `pack_picture` made a message of.

    Args:
        head, arrays: of the message.
        name: of the input, as its verdict will have it.

    Raises:
        ValueError: that is none.
    """
    try:
        told = head["picture"]
        boxes = {views[number]: tuple(_boxes(frame) for frame in frames) for number, frames in told["boxes"]}
        left = list(arrays)
        crops = {view: left.pop(0) for view in boxes}
        for view, crop in crops.items():
            if crop.shape != (sum(map(len, boxes[view])), view.size, view.size, 3) or crop.dtype != np.uint8:
                raise ValueError(f"crops of shape {crop.shape}")
        return Prepared(
            input=name,
            sha256=str(told["sha256"]),
            width=int(told["width"]),
            height=int(told["height"]),
            frame_numbers=tuple(map(int, told["frame_numbers"])),
            frame_count=int(told["frame_count"]),
            crops=crops,
            boxes=boxes,
            absent={views[number]: str(reason) for number, reason in told["absent"]},
            times=tuple(map(float, told["times"])),
            sights=_sights(told["sights"], left),
            shown={views[number]: tuple(map(tuple, frames)) for number, frames in told["shown"]},
        )
    except (KeyError, IndexError, TypeError, OverflowError) as error:
        raise ValueError(f"not a picture ({error!r})") from error


def bare(picture: Prepared) -> Prepared:
    """The picture with the names of its views, but without their crops."""
    nothing = {view: np.empty((0, view.size, view.size, 3), np.uint8) for view in picture.boxes}
    return dataclasses.replace(picture, crops=nothing)


def _rows(boxes: Sequence[Box]) -> list[tuple[int, int, int, int]]:
    return [(box.left, box.top, box.right, box.bottom) for box in boxes]


def _boxes(rows: Sequence[Sequence[int]]) -> tuple[Box, ...]:
    return tuple(Box(*map(int, row)) for row in rows)


def _sights(told: Sequence[Any], arrays: Arrays) -> tuple[Sight, ...]:
    if not told:
        return ()
    coarse, looks = arrays
    faces = iter(looks)
    return tuple(
        Sight(frame, _boxes(rows), tuple(next(faces) for _ in rows), time)
        for frame, (rows, time) in zip(coarse, told, strict=True)
    )
