"""Decoding and cutting in processes of their own, which may be killed.

A picture's bytes are the one thing in a server that strangers choose. So the decoders, and whatever reads a file's
metadata, run where they hold nothing: a process that knows the detectors' views and no more, with a limit on its
memory, which is killed when it takes too long. Such an end is that input's failure (`too_slow`, `crashed`,
`too_much_memory`); the process is replaced, and the other inputs go on.

A file's bytes go there as they are, or as a path in the spool; what comes back is JSON and arrays (`assay.serve.wire`),
checked before it is used. A process that decodes ends with the server, however that ends.
"""

from __future__ import annotations

import atexit
import concurrent.futures
import contextlib
import dataclasses
import functools
import io
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

import assay
from assay.errors import AssayError, InputError
from assay.image.alter import OPERATIONS
from assay.image.decode import Limits, one, parts
from assay.image.provenance import provenance
from assay.image.view import View
from assay.judge.detector import Detector
from assay.judge.prepared import Prepared
from assay.serve import wire
from assay.serve.queue import Over, Turns
from assay.types import Picture, Pixels

Do = Literal["cut", "alter", "frame"]

_log = logging.getLogger(__name__)

PREVIEW = 512
"""Longer side in px of the preview of an altered picture."""

_LARGEST = 1 << 29
"""Bytes of one message from a process."""

_START = 120.0
"""Seconds in which a process must have begun."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What a process is to do.

    Args:
        do: "cut" a picture or clip for a detector; "alter" a picture and cut that; or give one "frame" of it.
        source: its bytes, or its path.
        detector: its number.
        name: of the input.
        every: of a video one frame every so many seconds.
        changes: for "alter": of "scale", "blur" and "jpeg" those that are wanted.
        number: for "frame": its number; None for the first that is read.
        origin: whether to read what the file says of where it comes from (`assay.image.provenance`).
        each: for "cut": takes each part of a clip, in the lane that reads it.
        long: may take minutes, as a film does. One lane takes no such tasks where there are several.
        over: set when nobody waits any more.
    """

    do: Do
    source: bytes | Path
    detector: int = 0
    name: str = "<bytes>"
    every: float | None = None
    changes: Mapping[str, float] = dataclasses.field(default_factory=dict)
    number: int | None = None
    origin: bool = False
    each: Callable[[Prepared], None] | None = None
    long: bool = False
    over: threading.Event = dataclasses.field(default_factory=threading.Event)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """What a process made of an input.

    Args:
        still: the picture, cut; None for a clip, whose parts went to `Task.each`.
        pixels: for "frame": (height, width, 3) uint8.
        preview: for "alter": a JPEG file.
        about: for "frame": "sha256", "frame", "frames", "time", "width" and "height".
        provenance: `Provenance.to_dict()` where it was asked for.
    """

    still: Prepared | None = None
    pixels: Pixels | None = None
    preview: bytes = b""
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    provenance: Mapping[str, Any] | None = None


class Decoders:
    """Processes that decode, one lane for each. Usable from several threads.

    Args:
        detectors: as they will judge; the processes read the same folders.
        folders: of their bundles.
        limits: what decoding one input may cost.
        trusted: as in `assay.image.provenance.provenance`.
        count: of processes.
        memory: bytes of data that one may hold.
        seconds: for one picture, or the next part of a clip.
        clip: seconds for a whole clip.
        restarted: told whenever a process was replaced.
    """

    def __init__(
        self,
        detectors: Sequence[Detector],
        folders: Sequence[Path],
        limits: Limits,
        *,
        trusted: str = "",
        count: int = 2,
        memory: int = 3 << 30,
        seconds: float = 20,
        clip: float = 1_800,
        restarted: Callable[[], None] = lambda: None,
    ) -> None:
        self._views = [views_of(detector) for detector in detectors]
        self._begin = functools.partial(_Process, list(map(str, folders)), limits, trusted, memory)
        self._seconds, self._clip, self._restarted = seconds, clip, restarted
        self._turns: Turns[tuple[Task, concurrent.futures.Future[Decoded]]] = Turns()
        self._lanes = [
            threading.Thread(
                target=self._lane, args=(number > 0 or count == 1,), name=f"assay-decode-{number}", daemon=True
            )
            for number in range(count)
        ]
        self._first: list[_Process] = []
        self._processes: set[_Process] = set()
        self._changing = threading.Lock()
        self._ended = threading.Event()

    def __len__(self) -> int:
        """How many inputs wait."""
        return len(self._turns)

    @property
    def pids(self) -> list[int]:
        """Of the processes there are."""
        with self._changing:
            return [process.pid for process in self._processes]

    def start(self) -> None:
        """Begins, and waits for the first process; the others follow.

        Raises:
            AssayError: it did not begin; the message says why.
        """
        self._first = [self._begun()]
        for lane in self._lanes:
            lane.start()

    def submit(self, client: str, task: Task) -> concurrent.futures.Future[Decoded]:
        """What will become of a task, in the client's turn.

        Its errors are InputError (as of `assay.image.decode`, and too_slow, crashed, too_much_memory) and whatever
        `Task.each` raises; Over, where that was set.
        """
        future: concurrent.futures.Future[Decoded] = concurrent.futures.Future()
        self._turns.put(client, (task, future))
        return future

    def stop(self, now: bool = False) -> None:
        """Returns when what was submitted is done.

        Args:
            now: does not wait for it; what is in work or waits fails as crashed.
        """
        self._turns.close()
        if now:
            self._ended.set()
            with self._changing:
                for process in self._processes:
                    process.kill()
        for lane in self._lanes:
            if lane.ident is not None:
                lane.join()
        for process in self._first:
            process.kill()

    # ── one lane ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _lane(self, takes_long: bool) -> None:
        process: _Process | None = None
        with contextlib.suppress(IndexError):
            process = self._first.pop()
        while True:
            # Before a task comes, so that none waits for it.
            process = self._sound(process)
            taken = self._turns.take(fits=lambda waiting: takes_long or not waiting[0].long)
            if taken is None:
                break
            task, future = taken
            if not future.set_running_or_notify_cancel():
                continue
            process = self._sound(process)
            try:
                if task.over.is_set():
                    raise Over
                if process is None:
                    raise InputError("no process could be begun to decode it; try again in a moment", kind="crashed")
                future.set_result(self._done(process, task))
            except BaseException as error:
                future.set_exception(error)
        self._let_go(process)

    def _sound(self, process: _Process | None) -> _Process | None:
        """The process where it lives, or another one; None where none can be begun."""
        if process is not None and process.alive:
            return process
        if process is not None:
            self._let_go(process)
            self._restarted()
        if self._ended.is_set():
            return None
        try:
            return self._begun()
        except (AssayError, OSError):
            _log.exception("a process that decodes could not be begun")
            return None

    def _begun(self) -> _Process:
        process = self._begin()
        with self._changing:
            self._processes.add(process)
        if self._ended.is_set():
            process.kill()
        return process

    def _let_go(self, process: _Process | None) -> None:
        if process is not None:
            process.kill()
            with self._changing:
                self._processes.discard(process)

    def _done(self, process: _Process, task: Task) -> Decoded:
        until = time.monotonic() + self._clip
        message, found, said_all = _asked(task), Decoded(), False
        try:
            while True:
                answer = process.ask(message, max(0.0, min(self._seconds, until - time.monotonic())))
                message = b""
                part = self._read(answer, task)
                del answer
                if isinstance(part, Prepared):
                    if part.frame_count == 1:
                        found = dataclasses.replace(found, still=part)
                    elif task.over.is_set():
                        raise Over
                    elif task.each is not None:
                        task.each(part)
                    continue
                said_all = True
                if isinstance(part, InputError):
                    raise part
                return dataclasses.replace(part, still=found.still)
        except _Late:
            raise InputError(
                "it took too long to decode; make it smaller, or save it again in an ordinary format", kind="too_slow"
            ) from None
        except EOFError:
            raise InputError(
                "whatever decoded it broke down; save it again in an ordinary format", kind="crashed"
            ) from None
        finally:
            if not said_all:
                process.kill()

    def _read(self, answer: bytes, task: Task) -> Prepared | Decoded | InputError:
        """What a process says, in our own words. Raises InputError where it makes no sense."""
        try:
            head, arrays = wire.unpack(answer)
            match head:
                case {"error": {"kind": str(kind), "message": str(message)}}:
                    return InputError(message, kind=kind)
                case {"picture": _}:
                    return wire.unpack_picture(head, arrays, self._views[task.detector], task.name)
                case {"end": {"origin": origin, "about": dict(about)}}:
                    return _decoded(task, about, origin, arrays)
            raise ValueError("neither a picture, nor an error, nor the end")
        except (ValueError, TypeError) as error:
            raise InputError("what came back from decoding it makes no sense", kind="crashed") from error


def views_of(detector: Detector) -> list[View]:
    """The views of a detector's streams, each once, in an order that every process gives."""
    return list(dict.fromkeys(stream.view for stream in detector.streams))


def _asked(task: Task) -> bytes:
    in_memory = isinstance(task.source, bytes)
    asked = {
        "do": task.do,
        "path": None if in_memory else str(task.source),
        "detector": task.detector,
        "every": task.every,
        "changes": dict(task.changes),
        "number": task.number,
        "origin": task.origin,
    }
    return wire.pack(asked, [np.frombuffer(task.source, np.uint8)] if isinstance(task.source, bytes) else [])


def _decoded(task: Task, about: Mapping[str, Any], origin: object, arrays: wire.Arrays) -> Decoded:
    if not (origin is None or isinstance(origin, dict)):
        raise ValueError("provenance that is no object")
    if task.do == "cut":
        return Decoded(provenance=origin)
    (array,) = arrays
    if task.do == "alter" and array.dtype == np.uint8:
        return Decoded(preview=array.tobytes(), provenance=origin)
    if task.do == "frame" and array.dtype == np.uint8 and array.shape == (about["height"], about["width"], 3):
        return Decoded(pixels=array, about=about, provenance=origin)
    raise ValueError(f"an array of {array.dtype}, {array.shape}")


class _Late(Exception):
    """A process did not answer in time, and was killed."""


class _Process:
    """One process, begun and ready. Raises AssayError where it did not begin."""

    def __init__(self, folders: Sequence[str], limits: Limits, trusted: str, memory: int) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._connection, theirs = spawn.Pipe()
        arguments = (theirs, folders, limits, trusted, memory)
        self._process = spawn.Process(target=_work, args=arguments, name="assay-decode", daemon=True)
        # It takes no hint to end, so that a signal to all does not cut short what was accepted.
        atexit.register(self.kill)
        try:
            self._process.start()
            theirs.close()
            told, _ = wire.unpack(self.ask(b"", _START))
        except (EOFError, _Late) as error:
            self.kill()
            raise AssayError(
                "a process that decodes did not begin: too little memory, or the calling script lacks "
                '`if __name__ == "__main__":`',
                kind="decoder",
            ) from error
        except BaseException:
            self.kill()
            raise
        if "error" in told:
            self.kill()
            raise AssayError(str(told["error"]["message"]), kind=str(told["error"]["kind"]))

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def kill(self) -> None:
        """Ends it, wherever it is. Killing twice does nothing."""
        atexit.unregister(self.kill)
        if self._process.pid is not None:
            self._process.kill()
            self._process.join()

    def ask(self, message: bytes, seconds: float) -> bytes:
        """Its next answer, to a message or, where that is empty, to the one before.

        Raises:
            _Late: it took longer, and was killed.
            EOFError: it ended.
        """
        late = threading.Event()

        def end() -> None:
            late.set()
            self._process.kill()

        watch = threading.Timer(seconds, end)
        watch.daemon = True
        watch.start()
        try:
            if message:
                self._connection.send_bytes(message)
            return self._connection.recv_bytes(_LARGEST)
        except (EOFError, OSError) as error:
            if late.is_set():
                raise _Late from error
            raise EOFError from error
        finally:
            watch.cancel()


# ── in the process ───────────────────────────────────────────────────────────────────────────────────────────────────


def _work(connection: Connection, folders: Sequence[str], limits: Limits, trusted: str, memory: int) -> None:
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
    connection.send_bytes(wire.pack({"ready": True}))
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
                yield wire.pack_picture(detector.cut(part, ""), views_of(detector))
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
    yield wire.pack_picture(detector.cut(still, ""), views_of(detector))
    yield wire.pack({"end": {"origin": origin, "about": {}}}, [np.frombuffer(_preview(pixels), np.uint8)])


def _origin(source: bytes | Path, limits: Limits, trusted: str) -> dict[str, Any] | None:
    """What a file says of its origin; None where it cannot be read for that, which stops nothing."""
    try:
        return provenance(source, limits, trusted=trusted).to_dict()
    except (InputError, MemoryError):
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
