"""The faces of a data set, each picture searched once.

What was found stands beside the manifest, in `MANIFEST.faces.jsonl`: one line of JSON for each picture and each way of
searching, only ever added to. A line's key is the SHA-256 of the picture's file and the name of the detector (model,
settings, retries), so that it stays true when files are moved and is not taken for what another detector would find.
A line that was torn by a crash is passed over and its picture searched again; several processes may write at once.
The file holds places of faces, no pictures, and may be deleted at any time.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from assay.data.manifest import NAME
from assay.errors import AssayError, OutputError, RecipeError
from assay.image import faces
from assay.image.decode import DEFAULT, Limits, decode
from assay.image.faces import Face, FaceDetector, Found
from assay.types import Failure, Picture, Sample

ENDING = ".faces.jsonl"

_AHEAD = 4
"""Samples in work at a time, for each worker."""


@dataclasses.dataclass(frozen=True, slots=True)
class Faces:
    """What was found in one file.

    Args:
        sha256: of the file.
        width, height: in px, upright, of every frame.
        frames: what each decoded frame shows, by the frame's number in the file; a still picture has frame 0.
        frame_count: how many frames the file holds.
        asked: which of them were asked for: `asked` of the limits that it was decoded with.
    """

    sha256: str
    width: int
    height: int
    frames: tuple[tuple[int, Found], ...]
    frame_count: int = 1
    asked: str = ""

    @property
    def first(self) -> Found:
        """What the first decoded frame shows."""
        return self.frames[0][1]

    @property
    def any(self) -> bool:
        """Whether any frame shows a face."""
        return any(found.faces for _, found in self.frames)

    def at(self, frame: int) -> Found | None:
        """What that frame of the file shows; None where it was not searched."""
        return dict(self.frames).get(frame)

    def serves(self, limits: Limits) -> bool:
        """Whether decoding with those limits would give just these frames."""
        every = len(self.frames) == self.frame_count <= min(limits.frames, limits.video_frames)
        return every or self.asked == asked(limits)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready object."""
        return {
            "sha256": self.sha256,
            "width": self.width,
            "height": self.height,
            "frame_count": self.frame_count,
            "asked": self.asked,
            "frames": [
                {"frame": number, "how": found.how, "faces": [face.to_dict() for face in found.faces]}
                for number, found in self.frames
            ],
        }

    @classmethod
    def from_dict(cls, line: dict[str, Any]) -> Faces:
        """Raises ValueError where `line` is not what `to_dict` gives."""
        try:
            frames = tuple(
                (int(frame["frame"]), Found(tuple(Face.from_dict(face) for face in frame["faces"]), str(frame["how"])))
                for frame in line["frames"]
            )
            if not frames:
                raise ValueError("no frame")
            width, height, count = (int(line[name]) for name in ("width", "height", "frame_count"))
            return cls(str(line["sha256"]), width, height, frames, count, str(line["asked"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not what was found in a picture: {error!r}") from error


class FaceCache:
    """The lines beside one manifest that one way of searching left. Calls from several threads are safe.

    Only the lines' places are held in memory (some 150 bytes a picture); lines that other processes add are seen.

    Args:
        manifest: the manifest's path, or a folder that holds one; it need not exist.
        searcher: name of the way of searching, `searcher` of this module.

    Raises:
        OutputError: the file cannot be read, or holds something else.
    """

    def __init__(self, manifest: str | os.PathLike[str], searcher: str) -> None:
        self.path = beside(manifest)
        self.searcher = searcher
        self._places: dict[bytes, int] = {}
        self._read_to = 0
        self._reading: int | None = None
        self._writing: int | None = None
        self._lock = threading.Lock()
        self._catch_up()

    def __enter__(self) -> FaceCache:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._places)

    def close(self) -> None:
        """Ends the use of the file; every line is already in it."""
        with self._lock:
            for handle in (self._reading, self._writing):
                if handle is not None:
                    os.close(handle)
            self._reading = self._writing = None

    def get(self, sha256: str, limits: Limits = DEFAULT) -> Faces | None:
        """What was found in the file of that hash, in the frames that decoding with `limits` gives.

        None where they were not searched.
        """
        keys = _key(sha256), _key(sha256, asked(limits))
        with self._lock:
            if not any(key in self._places for key in keys):
                self._catch_up()
            for key in keys:
                held = self._held(key)
                if held is not None and held.serves(limits):
                    return held
        return None

    def put(self, found: Faces) -> None:
        """Adds a line.

        Raises:
            OutputError: it cannot be written; what was added before is kept.
        """
        record = {"sha256": found.sha256, "detector": self.searcher} | found.to_dict()
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            try:
                if self._writing is None:
                    self._writing = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | _BINARY, 0o666)
                with _alone(self._writing):
                    size = os.fstat(self._writing).st_size
                    if size and _read_at(self._writing, size - 1, 1) != b"\n":
                        line = b"\n" + line  # What a crash left of the line before must not spoil this one.
                    if os.write(self._writing, line) < len(line):
                        raise OSError("the disk is full")
            except OSError as error:
                raise OutputError(
                    f"{self.path} can't be written ({error.strerror or error}); make room or give yourself the right "
                    "to write there, and run again: what was found so far is kept",
                    kind="disk",
                ) from error

    def _held(self, key: bytes) -> Faces | None:
        place = self._places.get(key)
        if place is None or self._reading is None:
            return None
        data = b""
        while b"\n" not in data:
            part = _read_at(self._reading, place + len(data), _LINE)
            if not part:
                return None
            data += part
        try:
            return Faces.from_dict(json.loads(data[: data.index(b"\n")]))
        except ValueError:  # Somebody wrote over it: not known after all.
            return None

    def _catch_up(self) -> None:
        """Takes in the whole lines that were added since the file was last looked at."""
        try:
            if self._reading is None:
                if not self.path.exists():
                    return
                self._reading = os.open(self.path, os.O_RDONLY | _BINARY)
            if os.fstat(self._reading).st_size <= self._read_to:
                return
            with os.fdopen(os.dup(self._reading), "rb") as file:
                file.seek(self._read_to)
                for line in file:
                    if not line.endswith(b"\n"):  # Torn, or still being written.
                        break
                    self._take(line)
                    self._read_to += len(line)
        except OSError as error:
            raise OutputError(
                f"{self.path} can't be read ({error.strerror or error}); mend its permissions or delete it"
            ) from error

    def _take(self, line: bytes) -> None:
        try:
            record = json.loads(line)
        except ValueError:  # Torn by a crash.
            return
        if not isinstance(record, dict) or not isinstance(record.get("detector"), str):
            raise self._other()
        if record["detector"] == self.searcher:
            try:
                every = len(record["frames"]) == record["frame_count"]
                self._places[_key(record["sha256"], "" if every else record["asked"])] = self._read_to
            except (KeyError, TypeError, AttributeError):
                raise self._other() from None

    def _other(self) -> OutputError:
        return OutputError(f"{self.path} holds something else than found faces; move it away and run again")


@dataclasses.dataclass
class Progress:
    """How a search stands.

    Args:
        searched: samples whose picture was searched in this run.
        known: samples whose picture had been searched before.
        failed: samples that could not be read.
        without: searched or known samples that show no face.
    """

    searched: int = 0
    known: int = 0
    failed: int = 0
    without: int = 0

    @property
    def done(self) -> int:
        return self.searched + self.known + self.failed


def beside(manifest: str | os.PathLike[str]) -> Path:
    """Where the faces of that manifest's pictures stand; the manifest may be given as the folder that holds it."""
    path = Path(manifest)
    if (path / NAME).is_file():
        path /= NAME
    return path.with_name(path.name + ENDING)


def can_keep(manifest: str | os.PathLike[str]) -> bool:
    """Whether what is found can be written down beside that manifest."""
    path = beside(manifest)
    return os.access(path if path.exists() else path.parent, os.W_OK)


def asked(limits: Limits) -> str:
    """Which frames of a file those limits ask for, as far as they say so."""
    return f"{limits.frames}/{limits.video_frames}"


def searcher(detector: FaceDetector, *, retry: bool = True) -> str:
    """Name of a way of searching: what a cache's lines are kept under."""
    return f"{detector.name} {faces.RETRIES_NAME}" if retry else detector.name


def faces_in(
    picture: Picture,
    detector: FaceDetector,
    cache: FaceCache | None = None,
    *,
    retry: bool = True,
    limits: Limits = DEFAULT,
) -> tuple[Faces, bool]:
    """The faces of one decoded file: as the cache knows them, or looked for now and added to it.

    Args:
        picture: the file, decoded with `limits`.
        detector: what searches.
        cache: opened for `searcher(detector, retry=retry)`; None keeps nothing.
        retry: also search enhanced copies (`assay.image.faces.find`).
        limits: which frames were asked for.

    Returns:
        What each decoded frame shows, and whether it was searched just now.

    Raises:
        OutputError: the cache cannot be read or written.
    """
    held = None if cache is None else cache.get(picture.sha256, limits)
    if held is not None:
        return held, False
    frames = tuple(
        (number, faces.find(frame, detector, retries=faces.RETRIES if retry else ()))
        for number, frame in zip(picture.frame_numbers, picture.frames, strict=True)
    )
    found = Faces(picture.sha256, picture.width, picture.height, frames, picture.frame_count, asked(limits))
    if cache is not None:
        cache.put(found)
    return found, True


def faces_of(
    samples: Iterable[Sample],
    manifest: str | os.PathLike[str],
    detector: FaceDetector,
    *,
    retry: bool = True,
    limits: Limits = DEFAULT,
    workers: int = 2,
    progress: Callable[[Progress], None] | None = None,
) -> Iterator[tuple[Sample, Faces | Failure]]:
    """The faces of every sample, in order, lazily, from the cache beside the manifest or by looking.

    A picture is searched once, however many samples, runs and processes ask for it. Where a sample says its SHA-256 and
    the picture is known, its file is not opened. A file that cannot be read is a `Failure`, never a picture without a
    face; it is not written down, so that it is tried again once it is mended.

    Args:
        samples: rows of a data set; a place may be a video or lie in an archive.
        manifest: where the cache stands; see `FaceCache`.
        detector: safe to call from several threads.
        retry: also search enhanced copies (`assay.image.faces.find`).
        limits: what a file may cost, and how many frames of one are searched.
        workers: threads that decode and search.
        progress: called with the tally after each sample. One object, updated in place.

    Raises:
        OutputError: the cache cannot be read or written.
        RecipeError: `workers` is below 1.
    """
    if workers < 1:
        raise RecipeError(f"{workers} workers can't search; give 1 or more")
    search = _Search(FaceCache(manifest, searcher(detector, retry=retry)), detector, retry, limits)
    return _in_order(samples, search, workers, progress)


def _in_order(
    samples: Iterable[Sample], search: _Search, workers: int, progress: Callable[[Progress], None] | None
) -> Iterator[tuple[Sample, Faces | Failure]]:
    tally = Progress()
    waiting: collections.deque[tuple[Sample, concurrent.futures.Future[_Result] | _Result]] = collections.deque()

    def finished() -> tuple[Sample, Faces | Failure]:
        sample, work = waiting.popleft()
        result, fresh = work.result() if isinstance(work, concurrent.futures.Future) else work
        if isinstance(result, Failure):
            tally.failed += 1
        else:
            tally.searched += fresh
            tally.known += not fresh
            tally.without += not result.any
        if progress is not None:
            progress(tally)
        return sample, result

    with search.cache, concurrent.futures.ThreadPoolExecutor(workers, thread_name_prefix="assay-faces") as pool:
        try:
            for sample in samples:
                held = search.known(sample)
                waiting.append((sample, (held, False) if held is not None else pool.submit(search, sample)))
                if len(waiting) > _AHEAD * workers:
                    yield finished()
            while waiting:
                yield finished()
        finally:
            for _, work in waiting:
                if isinstance(work, concurrent.futures.Future):
                    work.cancel()


_Result = tuple[Faces | Failure, bool]
"""What a sample shows, and whether it was searched just now."""


class _Search:
    """Decodes and searches one sample, unless another thread is at the same picture."""

    def __init__(self, cache: FaceCache, detector: FaceDetector, retry: bool, limits: Limits) -> None:
        self.cache = cache
        self._detector = detector
        self._retry = retry
        self._limits = limits
        self._lock = threading.Lock()
        self._at_work: dict[str, concurrent.futures.Future[Faces]] = {}

    def known(self, sample: Sample) -> Faces | None:
        """From the cache, where the sample says which file it is."""
        return self.cache.get(sample.sha256, self._limits) if sample.sha256 else None

    def __call__(self, sample: Sample) -> _Result:
        try:
            return self._of(decode(sample.place, self._limits))
        except OutputError:
            raise
        except AssayError as error:
            return Failure(sample.place, error.kind, str(error)), False

    def _of(self, picture: Picture) -> _Result:
        with self._lock:
            other = self._at_work.get(picture.sha256)
            if other is None:
                mine = self._at_work[picture.sha256] = concurrent.futures.Future()
        if other is not None:
            return other.result(), False
        try:
            result = faces_in(picture, self._detector, self.cache, retry=self._retry, limits=self._limits)
        except BaseException as error:
            mine.set_exception(error)
            raise
        else:
            mine.set_result(result[0])
        finally:
            with self._lock:
                del self._at_work[picture.sha256]
        return result


_BINARY = getattr(os, "O_BINARY", 0)


_LINE = 1 << 12
"""Bytes read at a time; the line of a picture with one face takes some 350."""


def _key(sha256: str, asked: str = "") -> bytes:
    """128 bits of the hash; and which frames were asked for where they are not all that there are."""
    return (sha256[:32].lower() + asked).encode()


def _read_at(handle: int, place: int, count: int) -> bytes:
    os.lseek(handle, place, os.SEEK_SET)
    return os.read(handle, count)


@contextlib.contextmanager
def _alone(handle: int) -> Iterator[None]:
    """Keeps other processes from writing meanwhile, where the system has such locks."""
    try:
        import fcntl
    except ImportError:  # Windows: lines are short and appended in one call.
        yield
        return
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(handle, fcntl.LOCK_UN)
