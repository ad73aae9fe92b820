"""Where results go: a file that resumes, a stream, or a table to read.

A results file survives being killed at any moment. One result is one record, one record is one `write()` at the end of
the file, and on opening an unfinished last record is cut off; so every record in the file is whole, and the inputs
it names are done.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import errno
import hashlib
import io
import json
import os
import re
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal, Protocol, Self, TextIO

import numpy as np

from assay.data import lock
from assay.data.lasting import settle
from assay.errors import OutputError
from assay.judge import film
from assay.types import Failure, Ruling, Verdict

Result = Verdict | Failure
State = Literal["judged", "failed"]

SUFFIXES = {".jsonl": "json", ".json": "json", ".ndjson": "json", ".csv": "csv"}
COLUMNS = (
    *("input", "verdict", "score", "threshold", "doubt_low", "fpr", "reasons", "error_kind", "error_message"),
    *("sha256", "width", "height", "detector", "version", "detector_sha256"),
)

_STYLES = {Ruling.FAKE: "bold red", Ruling.REAL: "green", Ruling.UNCERTAIN: "yellow"}
_INDENT = " " * 17
_SYNC_SECONDS = 5.0
_DIGEST_BYTES = 16


class Sink(Protocol):
    """What takes results."""

    def holds(self, name: str) -> State | None:
        """What an earlier run said of that input; None where it is still to be done."""
        ...

    def write(self, result: Result) -> None:
        """Take one result. When it returns, a kill of this process no longer loses the result."""
        ...

    def close(self) -> None: ...


class Format(Protocol):
    """How results become records and back."""

    header: bytes
    opening: bytes
    """What every file of this format starts with."""
    quotes_newlines: bool

    def encode(self, result: Result) -> bytes:
        """One record, its line end included."""
        ...

    def decode(self, record: bytes) -> Entry:
        """What a record says.

        Raises:
            ValueError: it is torn, or none of ours.
        """
        ...

    def key(self, name: str) -> str:
        """An input's name as `Entry.key` will give it back."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """What a resumed run must know of a record: which input, whether it was judged, and by which bundle."""

    key: str
    failed: bool
    detector: str


class JsonLines:
    """One JSON object a line, ASCII only: bytes of a file name that are no UTF-8 stay as \\udcXX escapes."""

    header = b""
    opening = b'{"input": "'
    quotes_newlines = False

    def encode(self, result: Result) -> bytes:
        return json.dumps(result.to_dict(), ensure_ascii=True, allow_nan=False).encode("ascii") + b"\n"

    def decode(self, record: bytes) -> Entry:
        if not record.endswith(b"\n"):
            raise ValueError("the line has no end")
        line = json.loads(record)
        match line:
            case {"input": str(name), "error": {"kind": str()}}:
                return Entry(name, True, "")
            case {"input": str(name), "verdict": str(), "detector": {"sha256": str(sha256)}}:
                return Entry(name, False, sha256)
        raise ValueError("not a result")

    def key(self, name: str) -> str:
        return name


class Csv:
    """One row a result under `COLUMNS`, RFC 4180, UTF-8.

    A name that UTF-8 cannot hold is stored with its backslashes doubled and each stray byte as \\udcXX; so is a name
    that could be taken for such.
    """

    quotes_newlines = True
    _odd = re.compile(r"[\ud800-\udfff\0]")
    _alike = re.compile(r"\\u[0-9a-f]{4}")

    def __init__(self) -> None:
        self.header = self.opening = _row(COLUMNS)

    def encode(self, result: Result) -> bytes:
        cells: dict[str, object] = {"input": self.key(result.input)}
        if isinstance(result, Failure):
            cells |= {"error_kind": result.kind, "error_message": self.key(result.message)}
        else:
            cells |= {
                "verdict": str(result.verdict),
                "score": result.score,
                "threshold": result.threshold,
                "doubt_low": result.doubt[0],
                "fpr": result.fpr,
                "reasons": self.key("; ".join(result.reasons)),
                "sha256": result.sha256,
                "width": result.width,
                "height": result.height,
                "detector": result.detector.get("name"),
                "version": result.detector.get("version"),
                "detector_sha256": result.detector.get("sha256"),
            }
        return _row([cells.get(name) for name in COLUMNS])

    def decode(self, record: bytes) -> Entry:
        if not record.endswith(b"\r\n"):
            raise ValueError("the row has no end")
        if b"\0" in record:
            raise ValueError("the row holds NUL bytes")
        before = csv.field_size_limit(sys.maxsize)
        try:
            rows = list(csv.reader(io.StringIO(record.decode(), newline=""), strict=True))
        except csv.Error as error:
            raise ValueError(str(error)) from error
        finally:
            csv.field_size_limit(before)
        if len(rows) != 1 or len(rows[0]) != len(COLUMNS):
            raise ValueError("not a result")
        cells = dict(zip(COLUMNS, rows[0], strict=True))
        if not (cells["verdict"] or cells["error_kind"]):
            raise ValueError("not a result")
        return Entry(cells["input"], bool(cells["error_kind"]), cells["detector_sha256"])

    def key(self, name: str) -> str:
        if self._odd.search(name) or self._alike.search(name):
            return self._odd.sub(lambda found: f"\\u{ord(found[0]):04x}", name.replace("\\", "\\\\"))
        return name


FORMATS: dict[str, Callable[[], Format]] = {"json": JsonLines, "csv": Csv}


class Keys:
    """A growing set of texts at about 16 bytes each, so that a run over millions of files stays small.

    Only a 128-bit hash of each text is kept: among 10^9 texts two collide with a probability of about 10^-21.
    """

    def __init__(self) -> None:
        self._sorted = np.empty(0, f"S{_DIGEST_BYTES}")
        self._recent: set[bytes] = set()

    def add(self, text: str) -> None:
        digest = _digest(text)
        if self._holds(digest):
            return
        self._recent.add(digest)
        if len(self._recent) >= max(4096, len(self._sorted) // 8):
            recent = np.frombuffer(b"".join(self._recent), self._sorted.dtype)
            self._sorted = np.sort(np.concatenate([self._sorted, recent]))
            self._recent.clear()

    def __contains__(self, text: str) -> bool:
        return self._holds(_digest(text))

    def _holds(self, digest: bytes) -> bool:
        if digest in self._recent:
            return True
        key = np.frombuffer(digest, self._sorted.dtype)
        place = int(np.searchsorted(self._sorted, key)[0])
        return place < len(self._sorted) and bool(self._sorted[place : place + 1] == key)

    def __len__(self) -> int:
        return len(self._sorted) + len(self._recent)


class Results:
    """A results file that may be killed at any moment and gone on with.

    Args:
        path: made where it is not there; else gone on with. A pipe or a device is written to, and not gone on with.
        format: "json" (JSON lines) or "csv".
        detector: sha256 of the bundle that judges. A file of another bundle's results is refused: scores of two
            detectors do not belong in one table.
        fresh: throw away what the file holds.

    Raises:
        OutputError: another process writes to the file, it holds another detector's results or something else than
            results, or it cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str], format: str, detector: str, *, fresh: bool = False) -> None:
        self.path = Path(path)
        self.count = 0
        self._format = FORMATS[format]()
        self._done, self._failed = Keys(), Keys()
        self._end = 0
        self._fd = _opened(self.path)
        try:
            self._regular = stat.S_ISREG(os.fstat(self._fd).st_mode)
            if self._regular:
                lock.take(self._fd, self.path)
                if fresh:
                    os.ftruncate(self._fd, 0)
                self._recover(detector)
            if self._end == 0 and self._format.header:
                self._append(self._format.header)
            self._sync()
        except BaseException:
            os.close(self._fd)
            raise

    def holds(self, name: str) -> State | None:
        key = self._format.key(name)
        if key not in self._done:
            return None
        return "failed" if key in self._failed else "judged"

    def write(self, result: Result) -> None:
        """Append one record.

        Raises:
            OutputError: the disk is full or failed. What was written before stays whole.
        """
        self._append(self._format.encode(result))
        self.count += 1
        if time.monotonic() - self._synced > _SYNC_SECONDS:
            self._sync()

    def close(self) -> None:
        if self._fd < 0:
            return
        try:
            self._sync()
        finally:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _append(self, record: bytes) -> None:
        """One `write()`. Only a disk that fills up takes part of a record, and that part is taken back."""
        written = 0
        try:
            while written < len(record):
                written += os.write(self._fd, record[written:])
        except OSError as error:
            if self._regular:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._fd, self._end)
            raise self._disk(error) from error
        self._end += len(record)

    def _sync(self) -> None:
        self._synced = time.monotonic()
        if self._regular:
            try:
                os.fsync(self._fd)
            except OSError as error:
                raise self._disk(error) from error

    def _disk(self, error: OSError) -> OutputError:
        kept = f"the {self.count} results written in this run are kept; " if self._regular else ""
        todo = "make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "mend that"
        return OutputError(
            f"{self.path}: cannot write ({error.strerror}); {kept}{todo} and run the same command again to go on",
            kind="disk",
        )

    def _recover(self, detector: str) -> None:
        """Learn what the file holds, and cut off an unfinished last record."""
        size = os.fstat(self._fd).st_size
        with os.fdopen(os.dup(self._fd), "rb") as file:
            file.seek(0)
            for number, record in enumerate(_records(file, self._format.quotes_newlines), start=1):
                if self._end == 0 and self._format.header:
                    if record == self._format.header:
                        self._end = len(record)
                        continue
                    self._refuse_unless_torn(record, number, self._end + len(record) == size)
                    break
                try:
                    entry = self._format.decode(record)
                except ValueError:
                    self._refuse_unless_torn(record, number, self._end + len(record) == size)
                    break
                if entry.detector and entry.detector != detector:
                    raise OutputError(
                        f"{self.path}: holds results of another detector ({entry.detector[:12]}…, not "
                        f"{detector[:12]}…); choose another --out, or --fresh to throw them away"
                    )
                self._done.add(entry.key)
                if entry.failed:
                    self._failed.add(entry.key)
                self._end += len(record)
        if self._end < size:
            os.ftruncate(self._fd, self._end)

    def _refuse_unless_torn(self, record: bytes, number: int, last: bool) -> None:
        """Tell what a kill or a power cut leaves from a file that was never ours, which must not be cut.

        A kill leaves part of a last record; a power cut may leave NUL bytes where data had not reached the disk.
        """
        ours = self._end > 0 or record.startswith(self._format.opening) or self._format.opening.startswith(record)
        blank = record.lstrip(b"\0") == b""
        if blank or (ours and (last or b"\0" in record)):
            return
        raise OutputError(
            f"{self.path}: record {number} is not a result of assay scan; choose another --out, "
            "or --fresh to throw away what the file holds"
        )


class Stream:
    """Records to a stream, each flushed at once so that what reads the pipe sees it.

    Args:
        stream: binary, as `sys.stdout.buffer`.
        format: "json" (JSON lines) or "csv".
    """

    def __init__(self, stream: BinaryIO, format: str) -> None:
        self._stream = stream
        self._format = FORMATS[format]()
        self._stream.write(self._format.header)

    def holds(self, name: str) -> State | None:
        return None

    def write(self, result: Result) -> None:
        self._stream.write(self._format.encode(result))
        self._stream.flush()

    def close(self) -> None:
        self._stream.flush()


class Table:
    """Rows for a person: verdict, score, file, then why; below a clip's its scores over time, and a line a track. One
    row at a time, so memory stays flat.

    Args:
        emit: takes the row's cells as (text, style) pairs; the texts together are the row. None writes plain text to
            `stream`.
        stream: where plain rows go.
    """

    def __init__(self, stream: TextIO, emit: Callable[[list[tuple[str, str]]], None] | None = None) -> None:
        self._stream = stream
        self._emit = emit or self._plain
        self._begun = False

    def holds(self, name: str) -> State | None:
        return None

    def write(self, result: Result) -> None:
        if not self._begun:
            self._begun = True
            self._emit(_cells("verdict", "score", "file", "why", ("bold", "bold", "bold")))
        name = printable(result.input)
        if isinstance(result, Failure):
            self._emit(_cells("error", "–", name, printable(result.message), ("magenta", "", "")))
        else:
            score = "–" if result.score is None else f"{result.score:.3f}"
            style = _STYLES[result.verdict]
            why = "; ".join(printable(reason) for reason in result.reasons)
            self._emit(_cells(str(result.verdict), score, name, why, (style, style, "")))
            if course := film.course(result):
                self._emit([(_INDENT, ""), (course, "dim")])
            for track in result.tracks:
                self._emit([(_INDENT, ""), (film.described(track), _STYLES[track.verdict] if track.counts else "dim")])

    def close(self) -> None:
        self._stream.flush()

    def _plain(self, cells: list[tuple[str, str]]) -> None:
        self._stream.write("".join(text for text, _ in cells).rstrip() + "\n")
        self._stream.flush()


def format_of(path: str | os.PathLike[str], asked: str | None = None) -> str:
    """The format of a results file, by its suffix or as asked for.

    Args:
        asked: "json", "csv" or None.

    Raises:
        OutputError: the two disagree, or neither says.
    """
    suffix = Path(path).suffix.lower()
    by_suffix = SUFFIXES.get(suffix)
    if by_suffix and asked and by_suffix != asked:
        raise OutputError(f"{os.fspath(path)}: --{asked} does not go with {suffix}; leave out one of the two")
    chosen = asked or by_suffix
    if not chosen:
        raise OutputError(
            f"{os.fspath(path)}: say how to write it: end the name in .jsonl or .csv, or add --json or --csv"
        )
    return chosen


def printable(text: str) -> str:
    """Text with all that could steer a terminal escaped: control characters, bidirectional marks, stray bytes."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def _cells(verdict: str, score: str, name: str, why: str, styles: tuple[str, str, str]) -> list[tuple[str, str]]:
    row = [(f"{verdict:<10}", styles[0]), (f"{score:>5}  ", styles[1]), (f"{name:<40}", styles[2])]
    return [*row, (f"  {why}", "dim")] if why else row


def _row(cells: object) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerow(cells)  # type: ignore[arg-type]
    return text.getvalue().encode()


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()


def _opened(path: Path) -> int:
    flags = os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    try:
        # A pipe opened for reading too would never tell that its reader has gone.
        readable = path.is_file() or not path.exists()
        fd = os.open(path, flags | (os.O_RDWR if readable else os.O_WRONLY), 0o666)
    except FileNotFoundError as error:
        raise OutputError(f"{path}: there is no folder {path.parent}; make it first") from error
    except OSError as error:
        raise OutputError(f"{path}: cannot be opened for writing ({error.strerror}); choose another --out") from error
    # The file's name reaches the disk with its folder.
    settle(path.parent)
    return fd


def _records(file: BinaryIO, quotes_newlines: bool) -> Iterator[bytes]:
    """A file's records. Where a quoted field may hold newlines, a record ends at a line end with all quotes closed."""
    if not quotes_newlines:
        yield from file
        return
    lines: list[bytes] = []
    open_quote = False
    for line in file:
        lines.append(line)
        open_quote ^= line.count(b'"') % 2 == 1
        if not open_quote:
            yield b"".join(lines)
            lines.clear()
    if lines:
        yield b"".join(lines)
