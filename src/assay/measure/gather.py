"""Gather the embeddings of a data set's pictures: by the detector's own decoding, views and networks, as it judges."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from assay.errors import InputError, OutputError
from assay.image.decode import decode
from assay.image.fingerprint import perceptual_hash
from assay.measure.evaluate import Progress, Trouble
from assay.types import Sample

if TYPE_CHECKING:
    from assay.image.view import View
    from assay.judge.card import StreamCard
from assay.judge.detector import Detector, Prepared

UNKNOWN = -1
"""In `Embedding.labels`: not known."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """What one network of a detector makes of the rows that it applies to.

    Args:
        stream: the stream, or the first of those that share this run.
        shared: all streams that share trunk and view, `stream` among them.
        vectors: (n, d) float32, finite: of each picture the mean over its crops (and frames).
        samples: the rows, n.
        seen: whether the detector was made with the row, (n,).
        not_applicable: rows that have no embedding, with the reason.
    """

    stream: str
    shared: tuple[str, ...]
    vectors: npt.NDArray[np.float32]
    samples: tuple[Sample, ...]
    seen: npt.NDArray[np.bool_]
    not_applicable: tuple[Trouble, ...] = ()

    @property
    def labels(self) -> npt.NDArray[np.int8]:
        """0 real, 1 fake, -1 not known, (n,)."""
        return np.array([UNKNOWN if row.label is None else int(row.label) for row in self.samples], np.int8)

    @property
    def generators(self) -> tuple[str, ...]:
        return tuple(row.generator for row in self.samples)

    @property
    def sources(self) -> tuple[str, ...]:
        """What pictures that resemble each other share: the source, else the clip, else the origin, else nothing."""
        return tuple(row.source or row.video or row.origin or f"\0{number}" for number, row in enumerate(self.samples))


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Gathered:
    """The embeddings of a data set.

    Args:
        detector: name, version and sha256 of what made them.
        streams: one embedding for each trunk, view and part of the trunk's embedding, in the card's order.
        n: rows handed in.
        seen: of those that could be decoded, rows that the detector was made with.
        failures: rows that could not be decoded.
    """

    detector: dict[str, str]
    streams: tuple[Embedding, ...]
    n: int
    seen: int
    failures: tuple[Trouble, ...]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Looked:
    """One picture, cut, and why the detector counts it as seen."""

    sample: Sample
    prepared: Prepared
    seen: bool


@dataclasses.dataclass(slots=True, eq=False)
class _Run:
    """What is gathered of one trunk, view and part of the trunk's embedding."""

    card: StreamCard
    streams: list[str] = dataclasses.field(default_factory=list)
    vectors: list[npt.NDArray[np.float32]] = dataclasses.field(default_factory=list)
    rows: list[_Looked] = dataclasses.field(default_factory=list)
    absent: list[Trouble] = dataclasses.field(default_factory=list)


def gather(
    detector: Detector,
    samples: Sequence[Sample],
    *,
    batch: int = 8,
    workers: int = 2,
    progress: Progress | None = None,
) -> Gathered:
    """Embed every sample, labelled or not.

    Each file is decoded once, for its crops and for the hashes by which the detector knows what it was made with. Such
    rows are marked, not refused: this is a view, not a test.

    Args:
        batch: pictures in one run of the networks, >= 1.
        workers: threads that decode.
        progress: told how far it is.

    Raises:
        BundleError: the detector's networks can't be run.
    """
    runs: dict[tuple[str, View, tuple[int, int] | None], _Run] = {}
    for stream in detector.streams:
        runs.setdefault((stream.trunk, stream.view, stream.part), _Run(stream)).streams.append(stream.name)
    failures: list[Trouble] = []
    seen = done = 0
    for answers in _looked_at(detector, samples, batch, workers):
        failures += [answer for answer in answers if isinstance(answer, Trouble)]
        looked = [answer for answer in answers if isinstance(answer, _Looked)]
        seen += sum(one.seen for one in looked)
        embeddings = detector.embed_prepared([one.prepared for one in looked])
        for run in runs.values():
            _take(run, looked, embeddings.get((run.card.trunk, run.card.view)))
        done += len(answers)
        if progress is not None:
            progress("embedding", done, len(samples))
    return Gathered(
        detector={"name": detector.name, "version": detector.version, "sha256": detector.sha256},
        streams=tuple(
            Embedding(
                stream=run.streams[0],
                shared=tuple(run.streams),
                vectors=np.stack(run.vectors) if run.vectors else np.zeros((0, run.card.embedding), np.float32),
                samples=tuple(one.sample for one in run.rows),
                seen=np.array([one.seen for one in run.rows], np.bool_),
                not_applicable=tuple(run.absent),
            )
            for run in runs.values()
        ),
        n=len(samples),
        seen=seen,
        failures=tuple(failures),
    )


def save(embedding: Embedding, path: Path, plane: npt.NDArray[np.float64] | None = None) -> None:
    """Write an embedding as .npz, whole or not at all; `numpy.load(path, allow_pickle=False)` reads it.

    It holds `embedding` (n, d) float32; `paths`, `generators`, `sources` and `splits`, text, (n,); `labels` (n,) int8,
    -1 where not known; `seen` (n,) bool; and `tsne` (n, 2) float64, NaN for rows that were not drawn.

    Raises:
        OutputError: it cannot be written (kind "disk").
    """
    rows = embedding.samples
    arrays: dict[str, Any] = {
        "embedding": embedding.vectors,
        "paths": np.array([row.place for row in rows], np.str_),
        "labels": embedding.labels,
        "generators": np.array(embedding.generators, np.str_),
        "sources": np.array([row.source for row in rows], np.str_),
        "splits": np.array([row.split for row in rows], np.str_),
        "seen": embedding.seen,
        "tsne": np.full((len(rows), 2), np.nan) if plane is None else plane,
    }
    put(path, lambda file: np.savez(file, allow_pickle=False, **arrays))


def put(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let `write` fill a file that appears whole or not at all. Raises OutputError (kind "disk") where that fails."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            write(file)
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}); make room", kind="disk") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _looked_at(
    detector: Detector, samples: Sequence[Sample], batch: int, workers: int
) -> Iterator[list[_Looked | Trouble]]:
    """Prepared rows, batch by batch; the next batch is decoded while the networks look at this one."""
    waiting: collections.deque[list[concurrent.futures.Future[_Looked | Trouble]]] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(max(1, workers), thread_name_prefix="assay-decode") as pool:
        for start in range(0, len(samples), batch):
            waiting.append([pool.submit(_look, detector, sample) for sample in samples[start : start + batch]])
            if len(waiting) > 1:
                yield [future.result() for future in waiting.popleft()]
        while waiting:
            yield [future.result() for future in waiting.popleft()]


def _look(detector: Detector, sample: Sample) -> _Looked | Trouble:
    try:
        picture = decode(sample.place)
    except InputError as error:
        return Trouble(sample.place, error.kind, str(error))
    why = detector.seen.overlaps(picture.sha256, sample.origin or picture.sha256, perceptual_hash(picture.pixels))
    return _Looked(sample, detector.cut(picture, sample.place), why is not None)


def _take(run: _Run, looked: Sequence[_Looked], embeddings: npt.NDArray[np.float32] | None) -> None:
    """Of each picture of a batch that has the view, the mean over its crops' embeddings; why the others have none."""
    view = run.card.view
    there: list[_Looked] = []
    for one in looked:
        if view in one.prepared.crops:
            there.append(one)
        else:
            run.absent.append(Trouble(one.sample.place, "not_applicable", one.prepared.absent[view]))
    if embeddings is None:
        return
    ends = np.cumsum([len(one.prepared.crops[view]) for one in there])[:-1]
    for one, part in zip(there, np.split(run.card.own(embeddings), ends), strict=True):
        vector = part.mean(axis=0, dtype=np.float64).astype(np.float32)
        if np.isfinite(vector).all():
            run.rows.append(one)
            run.vectors.append(vector)
        else:
            reason = "its network gave no finite number for this picture"
            run.absent.append(Trouble(one.sample.place, "not_applicable", reason))
