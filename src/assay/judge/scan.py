"""Many inputs: what paths stand for, and a run over them that may be stopped and gone on with."""

# Names go through as they were given; pathlib would rewrite them ("./a" to "a").
# ruff: noqa: PTH100, PTH112, PTH116, PTH118, PTH119, PTH122, PTH207

from __future__ import annotations

import collections
import contextlib
import dataclasses
import glob
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, BinaryIO, Protocol

from assay.image.decode import DEFAULT, Limits
from assay.judge.sink import Keys, Result, Sink
from assay.types import Failure

PICTURES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff"),
        *(".avif", ".avifs", ".heic", ".heif", ".hif", ".jp2", ".j2k", ".jxl", ".pgm", ".pnm", ".ppm"),
    )
)
"""Endings by which a file inside a folder is taken for a picture: of the formats that are read, and of formats of
photographs that are not, so that none is passed over in silence. A file named outright is always tried."""

VIDEOS = frozenset(
    (
        *(".mp4", ".m4v", ".f4v", ".3gp", ".3g2", ".mov", ".qt", ".webm", ".mkv", ".avi", ".mpg", ".mpeg", ".vob"),
        *(".mts", ".m2ts", ".flv", ".wmv", ".asf", ".ogv"),
    )
)
"""The same for videos. ".ts" is left out: in most folders it is TypeScript; name such a recording outright."""

STDIN = "-"

_CHUNK = 1 << 16


class Judging(Protocol):
    """The part of `Detector` that a scan needs."""

    def judge_many(
        self,
        sources: Iterable[str],
        *,
        limits: Limits = DEFAULT,
        batch: int = 8,
        workers: int = 2,
        every: float | None = None,
    ) -> Iterator[Result]:
        """One result a source, in order, lazily."""
        ...


@dataclasses.dataclass
class Summary:
    """How a scan stands.

    Args:
        judged, failed: inputs done in this run.
        verdicts: how many of `judged` got each verdict.
        judged_before, failed_before: inputs that the results file already held.
        seconds: wall time since the start.
    """

    judged: int = 0
    failed: int = 0
    verdicts: dict[str, int] = dataclasses.field(default_factory=lambda: {"fake": 0, "real": 0, "uncertain": 0})
    judged_before: int = 0
    failed_before: int = 0
    seconds: float = 0.0

    @property
    def done(self) -> int:
        """Inputs that have a result, this run's and those before."""
        return self.judged + self.failed + self.judged_before + self.failed_before

    def add(self, judged: int, failed: int, verdicts: Mapping[str, int]) -> None:
        """Count what was done elsewhere."""
        self.judged += judged
        self.failed += failed
        for word, count in verdicts.items():
            self.verdicts[word] += count

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def scan(
    detector: Judging,
    inputs: Iterable[str | Failure],
    sink: Sink,
    *,
    limits: Limits = DEFAULT,
    batch: int = 8,
    workers: int = 2,
    every: float | None = None,
    progress: Callable[[Summary], None] | None = None,
) -> Summary:
    """Judge every input once and hand each result to the sink, in the inputs' order.

    Memory does not grow with the number of inputs. An input that cannot be judged is a `Failure` in the sink, and the
    run goes on. What stops the run (Ctrl-C, a full disk) leaves every result so far in the sink.

    Args:
        detector: from `assay.load`.
        inputs: each name once, as `expand` gives them; those that the sink already holds are passed over.
        sink: not closed here.
        limits, batch, workers, every: as in `Detector.judge_many`.
        progress: called with the tally after each result. One object, updated in place.

    Raises:
        OutputError: the results cannot be written.
    """
    begun = time.monotonic()
    summary = Summary()
    waiting: collections.deque[str | Failure] = collections.deque()

    def feed() -> Iterator[str]:
        for item in inputs:
            before = sink.holds(item.input if isinstance(item, Failure) else item)
            if before == "judged":
                summary.judged_before += 1
            elif before == "failed":
                summary.failed_before += 1
            else:
                waiting.append(item)
                if isinstance(item, str):
                    yield item

    def record(result: Result) -> None:
        sink.write(result)
        if isinstance(result, Failure):
            summary.failed += 1
        else:
            summary.judged += 1
            summary.verdicts[str(result.verdict)] += 1
        summary.seconds = time.monotonic() - begun
        if progress is not None:
            progress(summary)

    def next_judged() -> str | None:
        """The input that the detector's next result is for; failures of the expansion before it are recorded."""
        while waiting:
            item = waiting.popleft()
            if isinstance(item, str):
                return item
            record(item)
        return None

    results = detector.judge_many(feed(), limits=limits, batch=batch, workers=workers, every=every)
    # Closing it ends the threads that decode ahead, whatever stopped the run.
    with contextlib.ExitStack() as stack:
        if hasattr(results, "close"):
            stack.callback(results.close)
        for result in results:
            name = next_judged()
            assert name is not None, "the detector gave more results than there were inputs"
            record(result if result.input == name else dataclasses.replace(result, input=name))
    unjudged = next_judged()
    assert unjudged is None, "the detector gave fewer results than there were inputs"
    summary.seconds = time.monotonic() - begun
    return summary


def expand(
    paths: Iterable[str | os.PathLike[str]], *, stdin: BinaryIO | None = None, null: bool = False
) -> Iterator[str | Failure]:
    """The inputs that paths stand for, lazily and in a stable order.

    - A file is itself, whatever its name; one that does not exist too, so that judging it says so.
    - A folder is the pictures and videos in it (by their endings, `PICTURES` and `VIDEOS`) and in its folders, by name;
      hidden ones are passed over. Links to folders are followed, and no folder is walked twice.
    - A pattern (`*`, `?`, `[…]`, `**` for any depth) that names no file is what it matches, by name.
    - "-" is one path a line on `stdin`, each a file or a folder.

    An entry of a folder that several paths lead to comes once, under the first. Memory grows by 16 bytes for each path
    that is named outright and with the number of folders, not with the files in them.

    Args:
        stdin: binary; needed where a path is "-".
        null: paths on stdin are separated by NUL bytes instead of line ends.

    Yields:
        Names as the file system knows them, or a `Failure` for a folder that cannot be read or that a link leads back
        to.
    """
    walk = _Walk()
    for path in paths:
        name = os.fspath(path)
        if name == STDIN:
            if stdin is None:
                raise ValueError("a path is '-', but there is no stdin")
            for part in _split(stdin, b"\0" if null else b"\n"):
                yield from walk.path(os.fsdecode(part))
        elif glob.has_magic(name) and not os.path.lexists(name):
            matches = sorted(glob.glob(name, recursive=True))
            for match in matches:
                yield from walk.path(match)
            if not matches:
                yield Failure(
                    name, "missing", "no file matches this pattern; check the path, and quote it for the shell"
                )
        else:
            yield from walk.path(name)


class _Walk:
    """Gives each entry of a folder once.

    The identity of an entry is its folder (by device and inode) and its name there: two links to one picture are two
    inputs, two ways to one folder are not.
    """

    def __init__(self) -> None:
        self._named = Keys()
        self._walked: set[tuple[int, int]] = set()

    def path(self, name: str) -> Iterator[str | Failure]:
        """What a path that was named outright stands for."""
        try:
            folder = os.path.isdir(name)
        except ValueError:  # A NUL byte, from a list on stdin.
            folder = False
        if folder:
            yield from self._folder(name)
            return
        parent, last = os.path.split(name)
        try:
            place = _place(parent or os.curdir)
        except (OSError, ValueError):
            identity = os.path.abspath(name) if "\0" not in name else name
        else:
            if place in self._walked and is_listed(last):
                return
            identity = _identity(place, last)
        if identity not in self._named:
            self._named.add(identity)
            yield name

    def _folder(self, top: str) -> Iterator[str | Failure]:
        # A stack of listings, not recursion: trees may be deeper than Python's stack. Beside each listing stands its
        # folder, so that the stack is also the way down from the top.
        stack: list[tuple[tuple[int, int], Iterator[tuple[str, bool]]]] = []
        opened = self._open(top, [])
        while True:
            if isinstance(opened, Failure):
                yield opened
            elif opened is not None:
                stack.append(opened)
            opened = None
            while stack and opened is None:
                place, listing = stack[-1]
                item = next(listing, None)
                if item is None:
                    stack.pop()
                    continue
                path, is_folder = item
                if is_folder:
                    opened = self._open(path, [above for above, _ in stack])
                elif not len(self._named) or _identity(place, os.path.basename(path)) not in self._named:
                    yield path
            if opened is None:
                return

    def _open(
        self, path: str, above: list[tuple[int, int]]
    ) -> tuple[tuple[int, int], Iterator[tuple[str, bool]]] | Failure | None:
        """A folder's listing, a Failure where it has none, or None where it was walked already."""
        try:
            place = _place(path)
            if place in above:
                return Failure(path, "not_a_file", "a link that leads back to a folder it lies in; not followed")
            if place in self._walked:
                return None
            self._walked.add(place)
            with os.scandir(path) as entries:
                kept = sorted((entry.name, _is_folder(entry)) for entry in entries if not entry.name.startswith("."))
        except PermissionError:
            return Failure(path, "permission", "no permission to read this folder; ask its owner, or leave it out")
        except OSError as error:
            kind = "missing" if isinstance(error, FileNotFoundError) else "unreadable"
            return Failure(path, kind, f"this folder cannot be read ({error.strerror}); check it and run again")
        listing = ((os.path.join(path, name), is_folder) for name, is_folder in kept if is_folder or is_listed(name))
        return place, listing


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # A link that leads to itself, or through a folder without permission.
        return False


def is_listed(name: str) -> bool:
    """Whether a folder's walk gives a file of that name."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in PICTURES | VIDEOS


def _place(folder: str) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _identity(place: tuple[int, int], name: str) -> str:
    return f"{place[0]}:{place[1]}/{name}"


def _split(stream: BinaryIO, separator: bytes) -> Iterator[bytes]:
    """What stands between separators, as it arrives; nothing for empty parts."""
    read = getattr(stream, "read1", stream.read)
    rest = b""
    while chunk := read(_CHUNK):
        *parts, rest = (rest + chunk).split(separator)
        yield from (part for part in parts if part)
    if rest:
        yield rest
