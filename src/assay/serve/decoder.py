"""What runs in a process that decodes: `assay.serve.decoding` begins it, asks it, and may kill it."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import assay
from assay.errors import AssayError, InputError
from assay.image.alter import OPERATIONS
from assay.image.decode import Limits, one, parts
from assay.image.memory import keep as _keep
from assay.image.provenance import provenance
from assay.judge.detector import Detector
from assay.serve import wire
from assay.types import Picture, Pixels

PREVIEW = 512
"""Longer side in px of the preview of an altered picture."""


def work(connection: Connection, folders: Sequence[str], limits: Limits, trusted: str, memory: int) -> None:
    """Answers until nobody asks any more. Whatever is not expected ends the process."""
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        detectors = [assay.load(folder, threads=1, device="cpu") for folder in folders]
    except AssayError as error:
        connection.send_bytes(_error(error))
        return
    _bound(memory)
    _keep()
    with contextlib.suppress(ConnectionError):  # the server was killed
        connection.send_bytes(wire.pack({"ready": True}))
        _serve(connection, detectors, limits, trusted)


def _serve(connection: Connection, detectors: Sequence[Detector], limits: Limits, trusted: str) -> None:
    while True:
        try:
            asked, arrays = wire.unpack(connection.recv_bytes())
        except EOFError:
            return
        try:
            for answer in _answers(asked, arrays, detectors, limits, trusted):
                connection.send_bytes(answer)
        except InputError as error:
            connection.send_bytes(_error(_large() if isinstance(error.__cause__, MemoryError) else error))
        except MemoryError:
            connection.send_bytes(_error(_large()))


def _large() -> InputError:
    return InputError("it takes too much memory to decode; make it smaller", kind="too_much_memory")


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _bound(memory: int) -> None:
    """Limits what this process may take; where a system has no such limits, nothing happens."""
    try:
        import resource
    except ImportError:
        return
    # Not the address space: of that, threads reserve more than they use.
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _error(error: AssayError) -> bytes:
    return wire.pack({"error": {"kind": error.kind, "message": str(error)}})


def _answers(
    asked: Mapping[str, Any], arrays: wire.Arrays, detectors: Sequence[Detector], limits: Limits, trusted: str
) -> Iterator[bytes]:
    source: bytes | Path = arrays[0].tobytes() if asked["path"] is None else Path(asked["path"])
    detector = detectors[asked["detector"]]
    origin = _origin(source, limits, trusted) if asked["origin"] else None
    if asked["do"] == "cut":
        with contextlib.closing(parts(source, limits, every=asked["every"])) as coming:
            for part in coming:
                yield wire.pack_picture(detector.cut(part, ""), wire.views_of(detector))
                del part  # before the next one is decoded
        yield wire.pack({"end": {"origin": origin, "about": {}}})
        return
    picture = _frame(source, limits, asked["number"])
    if asked["do"] == "frame":
        about = {
            "sha256": picture.sha256,
            "width": picture.width,
            "height": picture.height,
            "frame": picture.frame_numbers[0],
            "frames": picture.frame_count,
            "time": picture.times[0] if picture.times else None,
        }
        yield wire.pack({"end": {"origin": origin, "about": about}}, [picture.pixels])
        return
    pixels = _altered(picture.pixels, asked["changes"])
    still = dataclasses.replace(picture, frames=(pixels,), frame_numbers=(0,), frame_count=1, times=())
    yield wire.pack_picture(detector.cut(still, ""), wire.views_of(detector))
    yield wire.pack({"end": {"origin": origin, "about": {}}}, [np.frombuffer(_preview(pixels), np.uint8)])


def _origin(source: bytes | Path, limits: Limits, trusted: str) -> dict[str, Any] | None:
    """What a file says of its origin; None where it cannot be read for that, which stops nothing."""
    try:
        return provenance(source, limits, trusted=trusted).to_dict()
    except Exception:  # whatever it is: the picture is to be judged
        return None


def _frame(source: bytes | Path, limits: Limits, number: int | None) -> Picture:
    if number is not None:
        return one(source, limits, frame=number)
    with contextlib.closing(parts(source, limits)) as coming:
        part = next(coming)
    times = part.times[:1]
    return dataclasses.replace(part, frames=part.frames[:1], frame_numbers=part.frame_numbers[:1], times=times)


_CHANGES = {"scale": "factor", "blur": "sigma", "jpeg": "quality"}
"""What may be done to a picture, in this order, and the name of its one parameter (`assay.image.alter`)."""


def _altered(pixels: Pixels, changes: Mapping[str, float]) -> Pixels:
    for name, parameter in _CHANGES.items():
        if name in changes:
            pixels = OPERATIONS[name].apply(pixels, {parameter: changes[name]})
    return pixels


def _preview(pixels: Pixels) -> bytes:
    image, file = Image.fromarray(pixels), io.BytesIO()
    image.thumbnail((PREVIEW, PREVIEW))
    image.save(file, "JPEG", quality=90)
    return file.getvalue()
