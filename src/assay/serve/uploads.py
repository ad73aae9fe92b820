"""Uploads on their way in: multipart/form-data, part by part to the spool, never whole in memory.

What a file is, its first bytes say; what the client calls it is data and no more. Source: RFC 7578.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from assay.errors import InputError
from assay.image import container
from assay.serve.refusal import Refused
from assay.serve.spool import Spool, Spooled, Writer

FIELD = "file"

_HEAD = 1 << 16
"""Bytes that tell what a file is."""

_LONGEST = 255
"""Characters of a name that are kept."""

_HEADERS = 16
_HEADER_BYTES = 4096
_SMALL, _OTHERS = 1 << 16, 100
"""Bytes and fields beside the files that a request may have, and that are passed over."""

_LINGER, _LINGER_BYTES = 2.0, 32 << 20
"""Seconds and bytes for which an upload that is too large is still taken, so that its sender hears why."""


@dataclasses.dataclass(frozen=True, slots=True)
class Caps:
    """What one request may bring, and how long it may take.

    Args:
        files: at most.
        pictures, videos: bytes of one picture, and of one video.
        total: bytes of all together.
        in_memory: bytes up to which a file stays in memory.
        stall: seconds without a byte.
        seconds: for all of it.
    """

    files: int
    pictures: int
    videos: int
    total: int
    in_memory: int
    stall: float
    seconds: float


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Received:
    """A file as it came.

    Args:
        name: as the client called it.
        form: which format, as `assay.image.container.identify` says it; empty for a failure.
        data: its bytes, where it stayed in memory.
        file: where it is else; None with `data`, and for a failure.
        failure: why it is no picture or video, or too large.
    """

    name: str
    form: str = ""
    data: bytes = b""
    file: Spooled | None = None
    failure: InputError | None = None

    @property
    def is_video(self) -> bool:
        return self.form in container.VIDEOS

    def source(self, spool: Spool) -> bytes | Path:
        """What is to be decoded."""
        return self.data if self.file is None else spool.path(self.file.key)


class Uploads:
    """The files of a request; used with `async with`. What is spooled is deleted at the end unless it is kept.

    Args:
        request: whose body was not read yet.
        spool: for files that do not stay in memory.
        caps: what it may bring.
    """

    def __init__(self, request: Request, spool: Spool, caps: Caps) -> None:
        self._request, self._spool, self._caps = request, spool, caps
        self.kept = False
        self.files: list[Received] = []

    @property
    def one(self) -> Received:
        """The only file. Raises InputError where it is no picture or video, or too large."""
        (received,) = self.files
        if received.failure is not None:
            raise received.failure
        return received

    async def __aenter__(self) -> Self:
        """Reads them all.

        Raises:
            Refused: 400 (no such form, or no file), 408 (too slow), 413 (too many or too large).
            OutputError: the disk is full or failed.
        """
        try:
            async with asyncio.timeout(self._caps.seconds):
                await self._read()
        except TimeoutError:
            await self._delete()
            raise Refused(408, "slow", "the upload took too long; send it faster, or less of it", close=True) from None
        except Refused as refused:
            await self._delete()
            if refused.status == 413:
                await self._linger()
            raise
        except BaseException:
            await self._delete()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.kept:
            await self._delete()

    async def gone(self) -> None:
        """Returns when the client is not there any more. Once all is read."""
        while (await self._request.receive())["type"] != "http.disconnect":
            pass

    async def _delete(self) -> None:
        for each in self.files:
            if each.file is not None:
                await run_in_threadpool(self._spool.remove, each.file.key)

    async def _linger(self) -> None:
        """Takes a little more: where a connection is closed on what was not read, the answer is lost."""
        left = _LINGER_BYTES
        with contextlib.suppress(TimeoutError, ClientDisconnect, RuntimeError):  # the last: it was all there was
            async with asyncio.timeout(_LINGER):
                async for chunk in self._request.stream():
                    left -= len(chunk)
                    if left < 0:
                        return

    async def _read(self) -> None:
        declared = self._request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > self._caps.total + _SMALL:
            raise _too_large(self._caps.total)
        parser, passed, others = _Parser(self._request), 0, 0
        sink: _Sink | None = None
        try:
            async for chunk in self._chunks():
                for event, data in parser.events(chunk):
                    if event == "begin":
                        if not isinstance(data, str):
                            others += 1
                            continue
                        if len(self.files) >= self._caps.files:
                            raise self._too_many()
                        sink = _Sink(data, self._spool, self._caps)
                    elif event == "data" and isinstance(data, bytes):
                        passed += 0 if sink is not None else len(data)
                        if sink is not None:
                            await sink.write(data)
                    elif event == "end" and sink is not None:
                        self.files.append(await sink.finish())
                        sink = None
                if passed > _SMALL or others > _OTHERS:
                    raise Refused(413, "too_large", f"too much beside the field {FIELD!r}; send none", close=True)
        finally:
            if sink is not None:
                sink.leave()
        parser.finish()
        if not self.files:
            raise Refused(400, "field", f"no file in it; send multipart/form-data with the field {FIELD!r}")

    def _too_many(self) -> Refused:
        if self._caps.files == 1:
            return Refused(400, "field", "more than one file; send one, or a job of many", close=True)
        return Refused(413, "too_many_files", f"more than {self._caps.files:,} files; send fewer", close=True)

    async def _chunks(self) -> AsyncIterator[bytes]:
        total = 0
        coming = self._request.stream()
        while True:
            try:
                chunk = await asyncio.wait_for(anext(coming), self._caps.stall)
            except StopAsyncIteration:
                return
            except ClientDisconnect:
                raise Refused(400, "disconnected", "the upload broke off; send it again", close=True) from None
            total += len(chunk)
            if total > self._caps.total + _SMALL + 1024 * self._caps.files:
                raise _too_large(self._caps.total)
            if chunk:
                yield chunk


def _too_large(most: int) -> Refused:
    return Refused(413, "too_many_bytes", f"more than {most:,} bytes; send less, or smaller files", close=True)


class _Parser:
    """Turns chunks of a body into events: ("begin", name of a file; None for another field), ("data", bytes) and
    ("end", None)."""

    def __init__(self, request: Request) -> None:
        kind, options = parse_options_header(request.headers.get("content-type"))
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/form-data" or not boundary:
            raise Refused(400, "field", f"not multipart/form-data; send it as a form with the field {FIELD!r}")
        self._events: list[tuple[str, Any]] = []
        self._headers: dict[bytes, bytes] = {}
        self._field, self._value = b"", b""
        self._complete = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._headers.clear,
                    "on_header_field": self._on_field,
                    "on_header_value": self._on_value,
                    "on_header_end": self._on_header,
                    "on_headers_finished": self._on_headers,
                    "on_part_data": lambda data, start, end: self._events.append(("data", data[start:end])),
                    "on_part_end": lambda: self._events.append(("end", None)),
                    "on_end": self._on_end,
                },
                max_header_count=_HEADERS,
                max_header_size=_HEADER_BYTES,
            )
        except FormParserError as error:
            raise _malformed() from error

    def events(self, chunk: bytes) -> Iterator[tuple[str, Any]]:
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise _malformed() from error
        events, self._events = self._events, []
        yield from events

    def finish(self) -> None:
        if not self._complete:
            raise Refused(400, "field", "the form has no end; send it again")

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field, self._value = b"", b""

    def _on_headers(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        mine = options.get(b"name", b"") == FIELD.encode()
        name = options.get(b"filename", b"").decode("utf-8", "replace")[:_LONGEST]
        self._events.append(("begin", (name or FIELD) if mine else None))

    def _on_end(self) -> None:
        self._complete = True


def _malformed() -> Refused:
    return Refused(400, "field", "the form is malformed; send multipart/form-data as RFC 7578 says", close=True)


class _Sink:
    """Takes one file. Where it turns out to be too large, or no picture, the rest is passed over."""

    def __init__(self, name: str, spool: Spool, caps: Caps) -> None:
        self._name, self._spool, self._caps = name, spool, caps
        self._data = bytearray()
        self._form = ""
        self._sniffed = False
        self._writer: Writer | None = None
        self._file: Spooled | None = None
        self._bytes = 0
        self._failure: InputError | None = None

    async def write(self, data: bytes) -> None:
        if self._failure is not None:
            return
        self._bytes += len(data)
        self._data += data
        if not self._sniffed and len(self._data) < _HEAD:
            return
        self._check()
        in_memory = _HEAD if self._writer is not None else self._caps.in_memory
        if self._failure is None and len(self._data) > in_memory:
            await self._flush()

    async def finish(self) -> Received:
        self._check()
        if self._failure is not None:
            return Received(self._name, failure=self._failure)
        if self._writer is None and len(self._data) <= self._caps.in_memory:
            return Received(self._name, self._form, bytes(self._data))
        await self._flush()
        await _settled(self._finish)
        return Received(self._name, self._form, file=self._file)

    def leave(self) -> None:
        """Leaves nothing of it."""
        if self._writer is not None:
            self._writer.__exit__(None, None, None)
        if self._file is not None:
            self._spool.remove(self._file.key)

    def _check(self) -> None:
        try:
            if not self._sniffed:
                self._sniffed = True
                if not self._data:
                    raise InputError(f"empty, not one byte; {container.AGAIN}", kind="empty")
                self._form = container.identify(bytes(self._data))
            most = self._caps.videos if self._form in container.VIDEOS else self._caps.pictures
            if self._bytes > most:
                raise InputError(f"more than {most:,} bytes; make it smaller", kind="too_many_bytes")
        except InputError as error:
            self._failure = error
            self._data.clear()
            self.leave()

    async def _flush(self) -> None:
        await _settled(self._write)

    def _write(self) -> None:
        if self._writer is None:
            self._writer = self._spool.writer()
        self._writer.write(bytes(self._data))
        self._data.clear()

    def _finish(self) -> None:
        assert self._writer is not None
        self._file = self._writer.finish()


async def _settled(call: Callable[[], None]) -> None:
    """Runs it in a thread and, where that is cut short, waits all the same: nobody else may touch what it is at."""
    running = asyncio.ensure_future(run_in_threadpool(call))
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # heard
        raise
