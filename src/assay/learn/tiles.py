"""Pictures at hand for training: each decoded once, into native-resolution tiles on disk.

Decoding a photograph costs far more than a training step can wait for, and training only ever looks at regions of it.
So a first pass decodes every picture, keeps a few tiles as plain bytes in one memory-mapped file, and takes the
fingerprints that a bundle remembers it by.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
from PIL import Image

from assay.errors import InputError, ManifestError
from assay.image import place
from assay.image.decode import decode
from assay.image.fingerprint import perceptual_hash
from assay.learn.progress import Progress
from assay.learn.recipe import Tiles
from assay.learn.views import random_region
from assay.types import Pixels, Sample

_SHOWN = 20
_DEAD = 3600.0

Job = tuple[str, Tiles, int]
"""A picture's place, how to tile it, and the seed of where."""


@dataclasses.dataclass(frozen=True)
class TileStore:
    """Tiles of a list of samples, in its order.

    Args:
        file: the tiles' bytes, one after another.
        places: (tiles, 4): a number that one picture's tiles share, offset in bytes, height, width.
        first: (samples + 1,): where each sample's tiles begin in `places`.
        sha256: of each sample's file.
        phashes: perceptual hash of each sample, or None for a flat picture.
    """

    file: Path
    places: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    sha256: tuple[str, ...]
    phashes: tuple[int | None, ...]

    def __len__(self) -> int:
        return len(self.sha256)

    def count(self, sample: int) -> int:
        """How many tiles a sample has; at least one."""
        return int(self.first[sample + 1] - self.first[sample])

    def tile(self, sample: int, which: int) -> Pixels:
        """(height, width, 3) uint8, read-only."""
        _, offset, height, width = (int(x) for x in self.places[self.first[sample] + which])
        # Opened anew each time: a map costs microseconds, and the object stays safe to send to loader processes.
        return np.memmap(self.file, np.uint8, "r", offset, (height, width, 3))


@dataclasses.dataclass(frozen=True)
class Decoded:
    """What is kept of one picture."""

    sha256: str
    phash: int | None
    tiles: list[Pixels]


def build(samples: Sequence[Sample], tiles: Tiles, folder: Path, *, seed: int, workers: int = 2) -> TileStore:
    """Decode every sample into tiles under `folder`, or take up what an earlier run left there of the same files.

    A store appears whole or not at all, and several processes may build in one folder.

    Args:
        seed: of where tiles are cut.
        workers: decoding processes; 0 decodes in this one.

    Raises:
        ManifestError: some pictures cannot be decoded; all are in `problems`.
    """
    keys = [_key(sample) for sample in samples]
    how = hashlib.sha256(f"{tiles.model_dump_json()} {seed} by content".encode()).hexdigest()[:12]
    for index in sorted(folder.glob(f"tiles-{how}-*.json")):
        found = _taken(index, keys)
        if found is not None:
            return found
    folder.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    file = folder / f"tiles-{how}-{hashlib.sha256(' '.join(keys).encode()).hexdigest()[:12]}.bin"
    index = file.with_suffix(".json")
    # Two processes may build the same store at once; each has its own parts, and the last to finish wins.
    part, index_part = file.with_suffix(f".{os.getpid()}.bin.part"), file.with_suffix(f".{os.getpid()}.json.part")
    try:
        with part.open("wb") as out:
            table = _decode_all(samples, tiles, out, seed=seed, workers=workers)
        index_part.write_text(json.dumps({"keys": keys} | table))
        part.replace(file)
        index_part.replace(index)
    finally:
        part.unlink(missing_ok=True)
        index_part.unlink(missing_ok=True)
    store = _taken(index, keys)
    assert store is not None
    return store


def cut_tiles(pixels: Pixels, tiles: Tiles, rng: np.random.Generator) -> list[Pixels]:
    """At most `tiles.each` regions of a picture; a picture no larger than a tile gives one, itself."""
    shorter = min(pixels.shape[:2])
    if max(pixels.shape[:2]) <= tiles.side:
        return [pixels]
    reduced = pixels
    if tiles.reduce_above is not None and shorter > tiles.reduce_above and tiles.each > 1:
        factor = float(np.exp(rng.uniform(np.log(tiles.side), np.log(tiles.reduce_above)))) / shorter
        size = (max(1, round(pixels.shape[1] * factor)), max(1, round(pixels.shape[0] * factor)))
        reduced = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))
    return [random_region(reduced if i % 2 else pixels, tiles.side, rng) for i in range(tiles.each)]


def _sweep(folder: Path) -> None:
    """Remove what builds that were killed left behind: parts that nothing was written to for an hour."""
    for part in folder.glob("tiles-*.part"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - part.stat().st_mtime > _DEAD:
                part.unlink()


def _decode_all(
    samples: Sequence[Sample], tiles: Tiles, out: IO[bytes], *, seed: int, workers: int
) -> dict[str, list[object]]:
    """Write every sample's tiles to `out`; returns the columns of the index."""
    table: dict[str, list[object]] = {"places": [], "sha256": [], "phashes": []}
    problems, offset = [], 0
    jobs = [(sample.place, tiles, seed) for sample in samples]
    with Progress("decoding pictures", len(jobs)) as progress, _mapped(jobs, workers) as results:
        for i, decoded in enumerate(results):
            progress.step()
            if isinstance(decoded, str):
                problems.append(f"{samples[i].place}: {decoded}")
                continue
            table["sha256"].append(decoded.sha256)
            table["phashes"].append(decoded.phash)
            for pixels in decoded.tiles:
                table["places"].append([i, offset, *pixels.shape[:2]])
                out.write(pixels.tobytes())
                offset += pixels.nbytes
    if problems:
        raise undecodable(problems)
    return table


@contextlib.contextmanager
def _mapped(jobs: Sequence[Job], workers: int) -> Iterator[Iterator[Decoded | str]]:
    if not workers:
        yield map(_decoded, jobs)
        return
    # Not forked: the parent may hold threads of the network's runtime.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool.map(_decoded, jobs, chunksize=16)


def _decoded(job: Job) -> Decoded | str:
    """One picture's part of the store, or why there is none."""
    where, tiles, seed = job
    try:
        picture = decode(where)
    except InputError as error:
        return str(error)
    # By content, not by place: the same pictures give the same tiles wherever they lie.
    rng = np.random.default_rng([seed, int(picture.sha256[:16], 16)])
    cuts = cut_tiles(picture.pixels, tiles, rng)
    return Decoded(picture.sha256, perceptual_hash(picture.pixels), cuts)


def _taken(index: Path, keys: Sequence[str]) -> TileStore | None:
    """The samples of those keys out of a store, or None where it lacks one."""
    file = index.with_suffix(".bin")
    data = json.loads(index.read_text())
    row_of = {key: row for row, key in enumerate(data["keys"])}
    stored = np.asarray(data["places"], np.int64)
    size = int(stored[-1, 1] + 3 * stored[-1, 2] * stored[-1, 3])
    if not file.exists() or file.stat().st_size != size or any(key not in row_of for key in keys):
        return None
    starts = np.searchsorted(stored[:, 0], np.arange(len(data["keys"]) + 1))
    rows = [row_of[key] for key in keys]
    places = [stored[starts[row] : starts[row + 1]] for row in rows]
    first = np.concatenate([[0], np.cumsum([len(part) for part in places])])
    return TileStore(
        file,
        np.concatenate(places),
        first.astype(np.int64),
        tuple(data["sha256"][row] for row in rows),
        tuple(data["phashes"][row] for row in rows),
    )


def _key(sample: Sample) -> str:
    """A file as it stands: its place, size and time of change."""
    try:
        size, changed = place.stat(sample.place)
    except InputError:
        # No store holds this key; decoding will say what is wrong, with all the other faults.
        return "0" * 16
    name = f"{Path(sample.place).resolve()}\0{size}\0{changed}"
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def undecodable(problems: Sequence[str]) -> ManifestError:
    """The error for pictures of a data set that cannot be decoded."""
    shown = "\n  ".join(problems[:_SHOWN])
    more = f"\n  … and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return ManifestError(
        f"{len(problems)} pictures cannot be decoded; take them out of the manifest:\n  {shown}{more}", problems
    )
