"""Pictures at hand for training: each decoded once, into native-resolution tiles on disk.

Decoding a photograph costs far more than a training step can wait for, and training only ever looks at regions of it.
So a first pass decodes every picture, keeps a few tiles as plain bytes in one memory-mapped file, and takes the
fingerprints that a bundle remembers it by.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from assay.errors import InputError, ManifestError
from assay.image.decode import decode
from assay.image.fingerprint import perceptual_hash
from assay.image.view import cut
from assay.learn.progress import Progress
from assay.learn.recipe import Tiles
from assay.types import Box, Pixels, Sample


@dataclasses.dataclass(frozen=True)
class TileStore:
    """Tiles of a list of samples, in its order.

    Attributes:
        sha256: of each sample's file.
        phashes: perceptual hash of each sample, or None for a flat picture.
    """

    file: Path
    places: npt.NDArray[np.int64]
    """(tiles, 4): a number, offset in bytes, height, width; those of one sample follow each other."""
    first: npt.NDArray[np.int64]
    """(samples + 1,): where each sample's tiles begin in `places`."""
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


def build(samples: Sequence[Sample], tiles: Tiles, folder: Path, *, seed: int, workers: int = 2) -> TileStore:
    """Decode every sample into tiles under `folder`, or take up what an earlier run left there of the same files.

    Raises:
        ManifestError: some pictures cannot be decoded; all are listed.
    """
    keys = [_key(sample) for sample in samples]
    how = f"{hashlib.sha256(f'{tiles.model_dump_json()} {seed}'.encode()).hexdigest()[:12]}"
    for index in sorted(folder.glob(f"tiles-{how}-*.json")):
        found = _taken(index, keys)
        if found is not None:
            return found
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"tiles-{how}-{hashlib.sha256(' '.join(keys).encode()).hexdigest()[:12]}.bin"
    part = file.with_suffix(f".{os.getpid()}.part")
    places, hashes, phashes, problems, offset = [], [], [], [], 0
    jobs = [(sample.place, tiles, [seed, int(key, 16)]) for sample, key in zip(samples, keys, strict=True)]
    with (
        part.open("wb") as out,
        Progress("decoding pictures", len(jobs)) as progress,
        # Not forked: the parent may hold threads of the network's runtime.
        ProcessPoolExecutor(max(1, workers), mp_context=multiprocessing.get_context("spawn")) as pool,
    ):
        for i, result in enumerate(pool.map(_tiles_of, jobs, chunksize=16)):
            progress.step()
            if isinstance(result, str):
                problems.append(f"{samples[i].place}: {result}")
                continue
            sha256, phash, cuts = result
            hashes.append(sha256)
            phashes.append(phash)
            for pixels in cuts:
                places.append([i, offset, *pixels.shape[:2]])
                out.write(pixels.tobytes())
                offset += pixels.nbytes
    if problems:
        part.unlink()
        listed = "\n  ".join(problems[:20])
        message = f"{len(problems)} pictures cannot be decoded; take them out of the manifest:\n  {listed}"
        raise ManifestError(message, problems)
    part.replace(file)
    index = file.with_suffix(".json")
    index_part = file.with_suffix(f".{os.getpid()}.json.part")
    index_part.write_text(json.dumps({"keys": keys, "places": places, "sha256": hashes, "phashes": phashes}))
    index_part.replace(index)
    store = _taken(index, keys)
    assert store is not None
    return store


def _taken(index: Path, keys: Sequence[str]) -> TileStore | None:
    """The samples of those keys out of a store, or None where it lacks one."""
    file = index.with_suffix(".bin")
    data = json.loads(index.read_text())
    row_of = {key: row for row, key in enumerate(data["keys"])}
    if not file.exists() or any(key not in row_of for key in keys):
        return None
    stored = np.asarray(data["places"], np.int64)
    starts = np.searchsorted(stored[:, 0], np.arange(len(row_of) + 1))
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
    status = Path(sample.place).stat()
    name = f"{Path(sample.place).resolve()}\0{status.st_size}\0{status.st_mtime_ns}"
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _tiles_of(job: tuple[str, Tiles, list[int]]) -> tuple[str, int | None, list[Pixels]] | str:
    place, tiles, seed = job
    try:
        picture = decode(place)
    except InputError as error:
        return str(error)
    rng = np.random.default_rng(seed)
    return picture.sha256, perceptual_hash(picture.pixels), cut_tiles(picture.pixels, tiles, rng)


def cut_tiles(pixels: Pixels, tiles: Tiles, rng: np.random.Generator) -> list[Pixels]:
    """At most `tiles.each` regions of a picture; a picture no larger than a tile gives one, itself."""
    shorter = min(pixels.shape[:2])
    if max(pixels.shape[:2]) <= tiles.side:
        return [np.ascontiguousarray(pixels)]
    reduced = pixels
    if tiles.reduce_above is not None and shorter > tiles.reduce_above and tiles.each > 1:
        factor = float(np.exp(rng.uniform(np.log(tiles.side), np.log(tiles.reduce_above)))) / shorter
        size = (max(1, round(pixels.shape[1] * factor)), max(1, round(pixels.shape[0] * factor)))
        reduced = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))
    return [_region(reduced if i % 2 else pixels, tiles.side, rng) for i in range(tiles.each)]


def _region(pixels: Pixels, side: int, rng: np.random.Generator) -> Pixels:
    height, width = pixels.shape[:2]
    h, w = min(side, height), min(side, width)
    top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
    return cut(pixels, Box(left, top, left + w, top + h))
