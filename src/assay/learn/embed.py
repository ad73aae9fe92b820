"""Embeddings by the shipped graph: what a head is fitted on and calibrated with is what judges."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from assay.image.view import View
from assay.judge.engine import Engine
from assay.learn.progress import Progress
from assay.types import Pixels

Item = TypeVar("Item")


def embed(
    items: Sequence[Item],
    crops_of: Callable[[Item], Pixels],
    view: View,
    engine: Engine,
    *,
    what: str,
    workers: int = 2,
    kept: Path | None = None,
) -> list[npt.NDArray[np.float32]]:
    """The embeddings of each item's crops, in order.

    Args:
        crops_of: an item's crops, (n, size, size, 3) uint8, n >= 0; called in threads.
        what: for the progress line.
        kept: a file of these embeddings (`Kept.file`), taken where it is there and made where it is not.

    Returns:
        One array an item, (n, dim); (0, 0) for an item without crops.
    """
    if kept is not None and kept.exists():
        return _read(kept)
    out: list[npt.NDArray[np.float32]] = []
    with Progress(what, len(items)) as progress, ThreadPoolExecutor(max(1, workers)) as pool:
        for crops in _ahead(pool, crops_of, items, 4 * max(1, workers)):
            out.append(engine.embed(view, crops) if len(crops) else np.empty((0, 0), np.float32))
            progress.step()
    if kept is not None:
        _write(kept, out)
    return out


@dataclasses.dataclass(frozen=True)
class Kept:
    """Where embeddings are kept, so that another head costs seconds.

    A file is named by all that its embeddings follow from: the network, the view, the pictures, and how crops are
    drawn. Whatever changes upstream, the file has another name, and the old one is gone.

    Args:
        folder: made where it is missing.
        stream: whose network.
        upstream: hash of the graph that makes them.
    """

    folder: Path
    stream: str
    upstream: str

    def file(self, what: str, **made_of: Any) -> Path:
        """The file of some embeddings.

        Args:
            what: which of the stream's, a word.
            made_of: everything but the network, as JSON.
        """
        told = json.dumps([self.upstream, importlib.metadata.version("assay"), made_of], sort_keys=True)
        key = hashlib.sha256(told.encode()).hexdigest()[:16]
        return self.folder / f"{self.stream}.{what}.{key}.npz"


def _write(file: Path, parts: Sequence[npt.NDArray[np.float32]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    stem = file.name.rsplit(".", 2)[0]
    for old in file.parent.glob(f"{stem}.*.npz"):
        old.unlink()
    there = [part for part in parts if len(part)]
    part_of = file.with_suffix(".part")
    with part_of.open("wb") as out:
        vectors = np.concatenate(there) if there else np.empty((0, 0), np.float32)
        np.savez(out, vectors=vectors, counts=np.array([len(part) for part in parts], np.int64))
    part_of.replace(file)


def _read(file: Path) -> list[npt.NDArray[np.float32]]:
    with np.load(file, allow_pickle=False) as stored:
        vectors, counts = stored["vectors"], stored["counts"]
    empty = np.empty((0, 0), np.float32)
    parts = np.split(vectors, np.cumsum(counts)[:-1])
    return [part if len(part) else empty for part in parts]


def _ahead(
    pool: ThreadPoolExecutor, work: Callable[[Item], Pixels], items: Sequence[Item], most: int
) -> Iterator[Pixels]:
    """`map` that never holds more than `most` results: crops of a whole data set would not fit into memory."""
    rest = iter(items)
    pending: deque[Future[Pixels]] = deque(pool.submit(work, item) for item in islice(rest, most))
    while pending:
        yield pending.popleft().result()
        pending.extend(pool.submit(work, item) for item in islice(rest, 1))
