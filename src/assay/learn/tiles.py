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
import math
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from assay.errors import InputError, ManifestError, RecipeError
from assay.image import mtcnn, place
from assay.image.cut import cut
from assay.image.decode import decode
from assay.image.eyes import boxes_of_centres
from assay.image.faces import RETRIES_NAME, Face, shrunk
from assay.image.fingerprint import perceptual_hash
from assay.image.view import View
from assay.learn.progress import Progress
from assay.learn.recipe import Tiles
from assay.learn.views import random_region
from assay.types import Box, Pixels, Sample

NATIVE = View()
"""Any view that does not resize: its tiles are regions of pictures, whatever its size."""

_SHOWN = 20
_DEAD = 3600.0

Job = tuple[str, Tiles, View, int, bool]
"""A picture's place, how to tile it, for which view, the seed of where, and whether eyes are looked for."""


@dataclasses.dataclass(frozen=True)
class TileStore:
    """Tiles of a list of samples, in its order.

    Args:
        file: the tiles' bytes, one after another.
        places: (tiles, 4): a number that one picture's tiles share, offset in bytes, height, width.
        first: (samples + 1,): where each sample's tiles begin in `places`; a picture without a face has none in a store
            of faces.
        sha256: of each sample's file.
        phashes: perceptual hash of each sample, or None for a flat picture.
        eyes: of each of `places`, the boxes of `assay.image.eyes` of every face in the tile, in px of the tile, (boxes,
            4) as left, top, right, bottom; empty where a store was made without looking for them.
    """

    file: Path
    places: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    sha256: tuple[str, ...]
    phashes: tuple[int | None, ...]
    eyes: tuple[npt.NDArray[np.int64], ...] = ()

    def __len__(self) -> int:
        return len(self.sha256)

    def count(self, sample: int) -> int:
        """How many tiles a sample has."""
        return int(self.first[sample + 1] - self.first[sample])

    @property
    def shown(self) -> npt.NDArray[np.int64]:
        """The samples that have tiles."""
        return np.flatnonzero(np.diff(self.first))

    def of(self, samples: npt.NDArray[np.int64]) -> TileStore:
        """The store of some of the samples, in their order."""
        places = [self.places[self.first[row] : self.first[row + 1]] for row in samples]
        first = np.concatenate([[0], np.cumsum([len(part) for part in places])]).astype(np.int64)
        every = np.concatenate(places) if places else self.places[:0]
        sha256, phashes = ([column[row] for row in samples] for column in (self.sha256, self.phashes))
        eyes = [part for row in samples for part in self.eyes[self.first[row] : self.first[row + 1]]]
        return TileStore(self.file, every, first, tuple(sha256), tuple(phashes), tuple(eyes))

    @property
    def with_eyes(self) -> npt.NDArray[np.int64]:
        """The samples that show eyes in every tile."""
        shown = np.array([len(boxes) > 0 for boxes in self.eyes], np.bool_)
        return np.array([row for row in self.shown if shown[self.first[row] : self.first[row + 1]].all()], np.int64)

    def eyes_in(self, sample: int, which: int) -> list[Box]:
        """Boxes of the eyes in a tile, in its px; they may reach beyond it."""
        return [Box(*edges) for edges in self.eyes[self.first[sample] + which].tolist()]

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
    eyes: list[list[list[int]]]


def build(
    samples: Sequence[Sample],
    tiles: Tiles,
    folder: Path,
    *,
    seed: int,
    workers: int = 2,
    view: View = NATIVE,
    eyes: bool = False,
) -> TileStore:
    """Decode every sample into tiles under `folder`, or take up what an earlier run left there of the same files.

    A store appears whole or not at all, and several processes may build in one folder.

    Args:
        seed: of where tiles are cut.
        workers: decoding processes; 0 decodes in this one.
        view: of the stream. One that resizes has whole pictures or faces for tiles, shrunk to `tiles.side` where they
            are larger, whatever the seed.
        eyes: note where the eyes of faces are, for views that resize; of a view of faces they are always noted.

    Raises:
        MissingExtra: faces are to be found, and the networks that find them are not installed.
        RecipeError: eyes are asked for of a view that does not resize.
        ManifestError: some pictures cannot be decoded; all are in `problems`.
    """
    if eyes and not view.resized:
        raise RecipeError("eyes are masked for streams that see faces or the whole picture; set curriculum to []")
    eyes = eyes or view.layout == "faces"
    keys = [_key(sample) for sample in samples]
    how = hashlib.sha256(_how(tiles, view, seed, eyes).encode()).hexdigest()[:12]
    if eyes:
        mtcnn.shared()
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
            table = _decode_all(samples, tiles, view, out, seed=seed, workers=workers, eyes=eyes)
        index_part.write_text(json.dumps({"keys": keys} | table))
        part.replace(file)
        index_part.replace(index)
    finally:
        part.unlink(missing_ok=True)
        index_part.unlink(missing_ok=True)
    store = _taken(index, keys)
    assert store is not None
    return store


def _how(tiles: Tiles, view: View, seed: int, eyes: bool) -> str:
    if not view.resized:
        return f"{tiles.model_dump_json()} {seed} by content"
    found = f"{mtcnn.shared().name}, {RETRIES_NAME}, with eyes, " if eyes else ""
    if view.layout == "whole":
        return f"{found}whole, side {tiles.side}"
    fields = ("margin", "least", "fallback", "minimum")
    return f"{found}side {tiles.side}, {view.model_dump_json(include=set(fields))}"


def shown_tiles(pixels: Pixels, tiles: Tiles, view: View, faces: Sequence[Face] = ()) -> list[Pixels]:
    """What a view that resizes shows of a picture with those faces: the whole of it, or each face; none where it has no
    face."""
    height, width = pixels.shape[:2]
    return [np.asarray(shrunk(cut(pixels, box), tiles.side)) for box in view.boxes(width, height, faces)]


def eyes_shown(pixels: Pixels, tiles: Tiles, view: View, faces: Sequence[Face]) -> list[list[list[int]]]:
    """For each of `shown_tiles`, the boxes of all eyes that lie in it, in px of the tile."""
    height, width = pixels.shape[:2]
    boxes = [box for face in faces for box in boxes_of_centres(face)]
    found = []
    for tile in view.boxes(width, height, faces):
        scale = min(1.0, tiles.side / max(tile.width, tile.height))
        inside = [
            box
            for box in boxes
            if box.left < tile.right and box.right > tile.left and box.top < tile.bottom and box.bottom > tile.top
        ]
        found.append(
            [
                [
                    math.floor((box.left - tile.left) * scale),
                    math.floor((box.top - tile.top) * scale),
                    math.ceil((box.right - tile.left) * scale),
                    math.ceil((box.bottom - tile.top) * scale),
                ]
                for box in inside
            ]
        )
    return found


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
    samples: Sequence[Sample], tiles: Tiles, view: View, out: IO[bytes], *, seed: int, workers: int, eyes: bool
) -> dict[str, list[Any]]:
    """Write every sample's tiles to `out`; returns the columns of the index."""
    table: dict[str, list[Any]] = {"places": [], "sha256": [], "phashes": [], "eyes": []}
    problems, offset = [], 0
    jobs = [(sample.place, tiles, view, seed, eyes) for sample in samples]
    with Progress("decoding pictures", len(jobs)) as progress, _mapped(jobs, workers) as results:
        for i, decoded in enumerate(results):
            progress.step()
            if isinstance(decoded, str):
                problems.append(f"{samples[i].place}: {decoded}")
                continue
            table["sha256"].append(decoded.sha256)
            table["phashes"].append(decoded.phash)
            table["eyes"].extend(decoded.eyes)
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
    where, tiles, view, seed, eyes = job
    try:
        picture = decode(where)
    except InputError as error:
        return str(error)
    # By content, not by place: the same pictures give the same tiles wherever they lie.
    rng = np.random.default_rng([seed, int(picture.sha256[:16], 16)])
    hashed = perceptual_hash(picture.pixels)
    if not view.resized:
        return Decoded(picture.sha256, hashed, cut_tiles(picture.pixels, tiles, rng), [])
    faces = mtcnn.look(picture.pixels) if eyes else ()
    cuts = shown_tiles(picture.pixels, tiles, view, faces)
    return Decoded(picture.sha256, hashed, cuts, eyes_shown(picture.pixels, tiles, view, faces) if eyes else [])


def _taken(index: Path, keys: Sequence[str]) -> TileStore | None:
    """The samples of those keys out of a store, or None where it lacks one."""
    file = index.with_suffix(".bin")
    data = json.loads(index.read_text())
    row_of = {key: row for row, key in enumerate(data["keys"])}
    stored = np.asarray(data["places"], np.int64).reshape(-1, 4)
    size = int(stored[-1, 1] + 3 * stored[-1, 2] * stored[-1, 3]) if len(stored) else 0
    if not file.exists() or file.stat().st_size != size or any(key not in row_of for key in keys):
        return None
    starts = np.searchsorted(stored[:, 0], np.arange(len(data["keys"]) + 1))
    eyes = tuple(np.asarray(boxes, np.int64).reshape(-1, 4) for boxes in data.get("eyes", ()))
    whole = TileStore(file, stored, starts.astype(np.int64), tuple(data["sha256"]), tuple(data["phashes"]), eyes)
    return whole.of(np.array([row_of[key] for key in keys], np.int64))


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
