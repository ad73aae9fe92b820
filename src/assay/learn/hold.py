"""What a training on flowing data has to have at hand: rows to tune on, rows to fit heads on, and a memory of all.

Tuning rows and the rows that heads are fitted on are looked at again and again, so they are read one by one like any
data set's; of shards at an address that takes copies. The memory (file, origin and perceptual hash of every training
row) is what the bundle refuses to be tested on.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import multiprocessing
import tempfile
from pathlib import Path

import numpy as np

from assay.data import manifest, remote
from assay.data.index import Index
from assay.data.order import permutation
from assay.data.stream import Share, length, stream
from assay.data.table import Table
from assay.errors import InputError, ManifestError
from assay.image import place
from assay.image.decode import decode
from assay.image.fingerprint import perceptual_hash
from assay.learn.progress import Progress
from assay.learn.tiles import undecodable
from assay.types import Label, Sample

LARGEST_MANIFEST = 8 << 30
"""Bytes of a manifest that is fetched from an address."""

_PARTS = 64
"""Pieces that a data set is looked through in, whatever the number of processes."""


def rows_of(index: Index) -> Table:
    """What is known of every sample of some shards.

    Raises:
        ManifestError: the manifest beside the index cannot be read, or does not fit it.
    """
    if remote.is_address(index.source):
        with tempfile.TemporaryDirectory() as scratch:
            copy = Path(scratch) / manifest.NAME
            copy.write_bytes(remote.fetch(remote.beside(index.source, manifest.NAME), LARGEST_MANIFEST))
            rows = manifest.read(copy, check=False)
    else:
        rows = manifest.read(Path(index.source).with_name(manifest.NAME), check=False)
    if len(rows) != index.samples:
        raise ManifestError(
            f"{index.source} counts {index.samples} samples and the manifest beside it {len(rows)}; write the shards "
            "again"
        )
    return rows


def held(data: Index | Table, rows: Table, split: str, folder: Path, *, most: int | None = None, seed: int) -> Table:
    """Rows of a split that can be read one by one.

    Args:
        data: what flows; `rows` are its rows.
        folder: where copies go, of shards at an address only. Copies that are there are taken as they are.
        most: at most so many, half of each class; the same for the same seed. None takes all.
    """
    if isinstance(data, Index) and remote.is_address(data.source):
        copies: list[Sample] = []
        for label in Label:
            for sample, content in stream(data, split=split, label=label, seed=seed):
                if most is not None and sum(copy.label == label for copy in copies) >= most // 2:
                    break
                copies.append(_copied(sample, content, folder))
        return Table.of(copies)
    mine = manifest.select(rows, split=split)
    if most is None:
        return mine
    chosen = []
    for label in Label:
        ours = np.flatnonzero(mine.labels == label)
        chosen.append(ours[permutation(len(ours), "held", seed, split)][: most // 2])
    return mine[np.sort(np.concatenate(chosen))]


def _copied(sample: Sample, content: bytes, folder: Path) -> Sample:
    path = folder / sample.sha256[:2] / f"{sample.sha256}.{sample.place.rpartition('.')[2]}"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_bytes(content)
        part.replace(path)
    return dataclasses.replace(sample, place=str(path))


@dataclasses.dataclass(frozen=True)
class Memory:
    """Of each training row: SHA-256 of its file and of its origin, and its perceptual hash (None: too flat)."""

    files: tuple[str, ...]
    origins: tuple[str, ...]
    phashes: tuple[int | None, ...]

    def save(self, path: Path) -> None:
        """Keep it in a file that appears whole or not at all."""
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            np.savez(
                file,
                files=np.array(self.files, "S64"),
                origins=np.array(self.origins, "S64"),
                phashes=np.array([phash or 0 for phash in self.phashes], np.uint64),
                flat=np.array([phash is None for phash in self.phashes]),
            )
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> Memory:
        """What `save` kept."""
        with np.load(path, allow_pickle=False) as kept:
            pairs = zip(kept["phashes"].tolist(), kept["flat"].tolist(), strict=True)
            return cls(
                tuple(name.decode() for name in kept["files"].tolist()),
                tuple(name.decode() for name in kept["origins"].tolist()),
                tuple(None if flat else phash for phash, flat in pairs),
            )


def remember(data: Index | Table, folder: Path, *, workers: int) -> Memory:
    """Decode every training row once, or take up what an earlier run on the same data left in `folder`.

    Raises:
        ManifestError: some cannot be decoded; all are in `problems`.
        InputError: a shard cannot be read.
    """
    kept = folder / f"memory-{_key(data)}.npz"
    if kept.exists():
        return Memory.load(kept)
    total = length(data, split="train")
    # A shard that several processes share is read by each of them as a whole.
    parts = len(data.select(split="train")) if isinstance(data, Index) else _PARTS
    count = min(total, max(1, workers, min(_PARTS, parts)))
    found: list[_Look] = []
    with Progress("looking at every picture once", total) as progress, _pool(workers) as pool:
        for job in [pool.submit(_looked, data, Share(number, count)) for number in range(count)]:
            looks = job.result()
            found += looks
            for _ in looks:
                progress.step()
    problems = [problem for *_, problem in found if problem]
    if problems:
        raise undecodable(problems)
    memory = Memory(*(tuple(column) for column in list(zip(*found, strict=True))[:3]))
    folder.mkdir(parents=True, exist_ok=True)
    memory.save(kept)
    return memory


_Look = tuple[str, str, int | None, str]
"""SHA-256 of file and origin, perceptual hash, and what is wrong."""


def _key(data: Index | Table) -> str:
    """Of what the pictures are: the shards' hashes, or places with sizes and times."""
    digest = hashlib.sha256()
    if isinstance(data, Index):
        digest.update(" ".join(shard.sha256 for shard in data.shards).encode())
    else:
        for where in manifest.select(data, split="train").column("path").tolist():
            try:
                digest.update(f"{where} {place.stat(where)}\0".encode())
            except InputError as error:
                raise undecodable([f"{where}: {error}"]) from None
    return digest.hexdigest()[:16]


def _pool(workers: int) -> concurrent.futures.Executor:
    if not workers:
        return concurrent.futures.ThreadPoolExecutor(1)
    # Not forked: the parent may hold threads of the network's runtime.
    return concurrent.futures.ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def _looked(data: Index | Table, share: Share) -> list[_Look]:
    found: list[_Look] = []
    for sample, content in stream(data, split="train", share=share, buffer=1):
        try:
            picture = decode(content)
        except InputError as error:
            found.append(("", "", None, f"{sample.place}: {error}"))
        else:
            found.append((picture.sha256, sample.origin, perceptual_hash(picture.pixels), ""))
    return found
