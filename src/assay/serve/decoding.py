"""Decoding and cutting in processes of their own, which may be killed.

A picture's bytes are the one thing in a server that strangers choose. So the decoders, and whatever reads a file's
metadata, run where they hold nothing (`assay.serve.decoder`): a process that knows the detectors' views and no more,
with a limit on its memory, which is killed when it takes too long. Such an end is that input's failure (`too_slow`,
`crashed`, `too_much_memory`); the process is replaced, and the other inputs go on.

A file's bytes go there as they are, or as a path in the spool; what comes back is JSON and arrays (`assay.serve.wire`),
checked before it is used. A process that decodes ends with the server, however that ends.
"""

from __future__ import annotations

import atexit
import concurrent.futures
import contextlib
import dataclasses
import functools
import logging
import math
import multiprocessing
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from assay.errors import AssayError, InputError
from assay.image.decode import Limits
from assay.image.provenance import Says
from assay.judge.detector import Detector
from assay.judge.prepared import Prepared
from assay.serve import decoder, wire
from assay.serve.queue import Over, Turns
from assay.serve.refusal import NO_PROCESS
from assay.types import Pixels

Do = Literal["cut", "alter", "frame"]

_log = logging.getLogger(__name__)

_LARGEST = 1 << 29
"""Bytes of one message from a process, beside a frame's."""

_START = 120.0
"""Seconds in which a process must have begun."""

_CONTEXT = multiprocessing.get_context("spawn")
"""A process begins anew: nothing of the server's memory is in it, and its own lies elsewhere each time."""


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
        self._views = [wire.views_of(detector) for detector in detectors]
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
        self._coming = 0
        self._ended = threading.Event()

    def __len__(self) -> int:
        """How many inputs wait."""
        return len(self._turns)

    @property
    def coming(self) -> bool:
        """Whether an input waits or is in work."""
        return self._coming > 0

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
        `Task.each` raises; Over, where that was set; AssayError (`NO_PROCESS`).
        """
        future: concurrent.futures.Future[Decoded] = concurrent.futures.Future()
        self._turns.put(client, (task, future))
        with self._changing:
            self._coming += 1
        future.add_done_callback(self._came)
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

    def _came(self, future: concurrent.futures.Future[Decoded]) -> None:
        with self._changing:
            self._coming -= 1

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
                    raise AssayError("no process could be begun to decode it; try again in a moment", kind=NO_PROCESS)
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


def _decoded(task: Task, about: Mapping[str, Any], told: object, arrays: wire.Arrays) -> Decoded:
    origin = None if told is None else _provenance(told)
    if task.do == "cut":
        return Decoded(provenance=origin)
    (array,) = arrays
    if task.do == "alter" and array.dtype == np.uint8:
        return Decoded(preview=array.tobytes(), provenance=origin)
    if task.do == "frame" and array.dtype == np.uint8 and array.shape == (about["height"], about["width"], 3):
        return Decoded(pixels=array, about=about, provenance=origin)
    raise ValueError(f"an array of {array.dtype}, {array.shape}")


def _provenance(told: object) -> Mapping[str, Any]:
    match told:
        case {"signs": [*signs], "unread": [*_], "told": str()} if all(
            isinstance(sign, dict) and sign.get("says") in get_args(Says) for sign in signs
        ):
            assert isinstance(told, dict)
            return told
    raise ValueError("no provenance")


class _Late(Exception):
    """A process did not answer in time, and was killed."""


class _Process:
    """One process, begun and ready. Raises AssayError where it did not begin."""

    def __init__(self, folders: Sequence[str], limits: Limits, trusted: str, memory: int) -> None:
        self._connection, theirs = _CONTEXT.Pipe()
        self._largest = _LARGEST + 3 * limits.pixels
        arguments = (theirs, folders, limits, trusted, memory)
        self._process = _CONTEXT.Process(target=decoder.work, args=arguments, name="assay-decode", daemon=True)
        self._watch = _Watch(self._process.kill)
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
                kind=NO_PROCESS,
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
        self._watch.close()
        if self._process.pid is not None:
            self._process.kill()
            self._process.join()

    def ask(self, message: bytes, seconds: float) -> bytes:
        """Its next answer, to a message or, where that is empty, to the one before.

        Raises:
            _Late: it took longer, and was killed.
            EOFError: it ended.
        """
        self._watch.begin(seconds)
        try:
            if message:
                self._connection.send_bytes(message)
            answer = self._connection.recv_bytes(self._largest)
        except (EOFError, OSError) as error:
            if self._watch.late:
                raise _Late from error
            raise EOFError from error
        finally:
            self._watch.end()
        if self._watch.late:  # it was killed all the same, and must not be asked again
            raise _Late
        return answer


class _Watch:
    """Calls a function once something takes too long.

    One thread for all that a process is asked: a `threading.Timer` for each question cost as much as reading the
    answer. It is not woken for each either; it looks again when the time of an earlier one is over.

    Args:
        end: called once at most.
    """

    def __init__(self, end: Callable[[], object]) -> None:
        self._end = end
        self._until = self._wakes = math.inf
        self._over = False
        self._changed = threading.Condition()
        self.late = False
        threading.Thread(target=self._look, name="assay-watch", daemon=True).start()

    def begin(self, seconds: float) -> None:
        """From now on, it may take so long."""
        with self._changed:
            self._until = time.monotonic() + seconds
            if self._until < self._wakes:
                self._changed.notify()

    def end(self) -> None:
        """It is done."""
        with self._changed:
            self._until = math.inf

    def close(self) -> None:
        """Ends the thread. Closing twice does nothing."""
        with self._changed:
            self._over = True
            self._changed.notify()

    def _look(self) -> None:
        with self._changed:
            while not self._over:
                left = self._until - time.monotonic()
                if left <= 0:
                    self.late = True
                    self._end()
                    return
                self._wakes = self._until
                self._changed.wait(None if left == math.inf else left)
