"""A data set as a few large files that are read from front to back: WebDataset tars with an index.

    train-fake-000000.tar    two members a sample: KEY.jpg, the file's own bytes, and KEY.json, what is known of it
    train-real-000000.tar    a tar holds rows of one split and one class only, in an order shuffled once
    shards.json              the index: what was asked for, and size and SHA-256 of each tar
    manifest.csv             the same samples as a manifest, for whatever reads them one by one

Splits are `train`, `tune`, `test` and `none`, classes `real`, `fake` and `unlabelled`: whoever wants balanced batches
reads two sets of tars and needs no buffer for it. KEY is the SHA-256 of the bytes (a picture that stands in a tar twice
gets `-1`, `-2`, …), the suffix comes from the content, and the JSON object is flat, as a manifest's row is: `label`
("real", "fake" or null), the other fields of a sample but its place, and its groups. The format of the tars is
WebDataset's (webdataset/webdataset@1.0: members of one key stand together); classes apart, the index and the manifest
are ours.

The same rows give the same bytes on every machine: no times, no owners, a shuffle of our own.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import hashlib
import itertools
import json
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from assay.data import index, lock, manifest
from assay.data.index import (
    INDEX,
    LARGEST_SAMPLE,
    LARGEST_SHARD,
    SUFFIXES,
    UNFINISHED,
    Document,
    Index,
    LeftOutRow,
    Plan,
    Shard,
    group,
    misfit,
    refusal,
    save,
    word,
)
from assay.data.order import Ints, blocks, gathered, permutation
from assay.data.table import OWN, TEXT, UNKNOWN, Table, among
from assay.errors import InputError, ManifestError, OutputError
from assay.image import container, place
from assay.types import Label, Sample

_BLOCK = tarfile.BLOCKSIZE
_END = 2 * _BLOCK
_AHEAD = 256 << 20
"""Bytes that are read before they are written."""
_LOOKED = 2048


def write(
    samples: Iterable[Sample],
    out: str | os.PathLike[str],
    *,
    largest: int = 512 << 20,
    most: int = 10_000,
    seed: int = 0,
    workers: int = 4,
    skip: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Index:
    """Write samples as shards, an index and a manifest into a folder of their own.

    Every file is looked for before anything is written. Its bytes go into the tar as they are. `sha256` is taken on
    the way and is the `origin` of a sample that has none. Stopped at any moment, the same call goes on where it was:
    tars that are whole (their SHA-256 is taken again) are kept, others are made again. On a finished folder it proves
    the shards, and mends what is damaged.

    Files and members of tar files are read in an order that is shuffled through and through. Cells of Parquet tables
    are shuffled row group by row group, and inside each; so a row group is read once for each split and class that it
    has rows of, and its cells stand near each other in the tars. `stream` shuffles tars, and through a buffer.

    Args:
        samples: a table or any samples; their splits are "train", "tune", "test" or empty.
        out: a folder that is empty, does not exist yet, or holds shards of the same call.
        largest: bytes that a tar may have; a sample that is larger gets one of its own.
        most: samples that a tar may have.
        seed: of the shuffle inside each split and class.
        workers: threads that read files.
        skip: leave out rows that cannot be read. They stand in the index's `left_out`. A later call tries them again.
        progress: called with rows done and rows in all.

    Raises:
        ManifestError: rows that cannot be read, are empty or no picture or clip, or do not have the SHA-256 that their
            row names; `problems` lists each with its row number. What can be told without reading is told before
            anything is written. What comes up on the way is told at the end, and until then all other rows are
            written, so that a call with `skip`, or after the files are mended, has little left to do. There is no
            index before there is a call without a problem. Also where there is no row, or none that can be read.
        OutputError: the folder holds something else, or shards of other rows or parameters (the message says what
            differs); another call writes to it at this moment; or writing failed (kind "disk"), and the same call goes
            on.
        ValueError: `largest`, `most` or `workers` below 1, or `largest` above 64 GiB.
    """
    for name, value in (("largest", largest), ("most", most), ("workers", workers)):
        if value < 1:
            raise ValueError(f"{name} is {value}; give 1 or more")
    if largest > LARGEST_SHARD:
        raise ValueError(f"largest is {largest}; give at most {LARGEST_SHARD}")
    table = Table.of(samples)
    _check_splits(table)
    sizes, unread = _looked(table, workers)
    if unread and not skip:
        raise _unreadable(table, unread, "nothing was written")
    near = blocks(table.column("path").tolist())
    plan = Plan(rows=len(table), rows_sha256=_digest(table, sizes, near), seed=seed, largest=largest, most=most)
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; give a folder for the shards")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with lock.held(folder):
            writer = _Writer(table, sizes, near, folder, plan, workers, progress or (lambda done, total: None))
            writer.run()
            if writer.unread and not skip:
                raise _unreadable(table, writer.unread, "the other rows are written, and kept for the next run")
            if not writer.shards:
                raise _unreadable(table, writer.unread, "nothing can be written")
            return writer.publish()
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written ({error.strerror or error}); make room or check its permissions, and run the "
            "same command again",
            kind="disk",
        ) from error


# ── looking before ───────────────────────────────────────────────────────────────────────────────────────────────────


def _check_splits(table: Table) -> None:
    if not len(table):
        raise ManifestError("no rows to write; choose others")
    known = among(table.column("split"), ("train", "tune", "test", ""))
    if not known.all():
        row = int(np.flatnonzero(~known)[0])
        raise ManifestError(
            f"row {table.row_numbers[row]}: the split {str(table.column('split')[row])!r} is not train, tune or test"
        )


def _looked(table: Table, workers: int) -> tuple[Ints, dict[int, InputError]]:
    """Size of each row's file, (rows,), and what is wrong with those that cannot be there."""
    places = table.column("path")

    def look(start: int) -> list[int | InputError]:
        return [_size(where) for where in places[start : start + _LOOKED].tolist()]

    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        found = list(itertools.chain.from_iterable(pool.map(look, range(0, len(table), _LOOKED))))
    unread = {row: size for row, size in enumerate(found) if isinstance(size, InputError)}
    return np.array([0 if isinstance(size, InputError) else size for size in found], np.int64), unread


def _size(where: str) -> int | InputError:
    archive, member = place.split(where)
    cell = bool(member) and archive.lower().endswith(place.TABLES)
    try:
        # A cell has no size before it is read; that its table is there is all that is asked.
        size = place.stat(archive if cell else where)[0]
        _check_size(size)
    except InputError as error:
        return error
    return 0 if cell else size


def _check_size(size: int) -> None:
    if not size:
        raise InputError(f"empty, not one byte; {container.AGAIN}", kind="empty")
    if size > LARGEST_SAMPLE:
        raise InputError(
            f"more than {LARGEST_SAMPLE:,} bytes, too large for a sample; take frames of it", kind="too_many_bytes"
        )


def _digest(table: Table, sizes: Ints, near: Ints | None) -> str:
    places = table.column("path").tolist()
    # What all places begin with may change: a data set that was moved is still the same.
    front = len(os.path.commonprefix([min(places), max(places)]))  # noqa: RUF071 (addresses are no paths)
    columns: dict[str, Any] = {name: table.column(name).tolist() for name in table.columns if name != "path"}
    columns |= {"path": [where[front:] for where in places], "size": sizes.tolist()}
    if near is not None:
        # Row groups decide the order, and cells have no size of their own.
        tables = dict.fromkeys(where.partition(place.SEPARATOR)[0] for where in places if place.SEPARATOR in where)
        columns |= {"near": near.tolist(), "tables": [_table_size(opened) for opened in tables]}
    digest = hashlib.sha256()
    for name, cells in sorted(columns.items()):
        digest.update(json.dumps([name, cells]).encode())
    return digest.hexdigest()


def _table_size(opened: str) -> int:
    try:
        return place.stat(opened)[0]
    except InputError:
        return -1


def _unreadable(table: Table, unread: Mapping[int, InputError], done: str) -> ManifestError:
    places = table.column("path")
    lines = []
    for row, error in sorted(unread.items()):
        told = str(error) if str(places[row]) in str(error) else f"{places[row]}: {error}"
        lines.append(f"row {table.row_numbers[row]}: {told}")
    return refusal("", lines, f"; {done}. Mend the rows, or leave them out with skip")


# ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass(frozen=True)
class _Packed:
    """A sample's bytes with what they are called."""

    data: bytes
    sha256: str
    suffix: str
    note: bytes

    @property
    def size(self) -> int:
        """Bytes it takes in a tar."""
        return 2 * _BLOCK + sum(-(-len(part) // _BLOCK) * _BLOCK for part in (self.data, self.note))


class _Writer:
    """One call of `write`, or several that were stopped."""

    def __init__(
        self,
        table: Table,
        sizes: Ints,
        near: Ints | None,
        folder: Path,
        plan: Plan,
        workers: int,
        progress: Callable[[int, int], None],
    ) -> None:
        self.table, self.sizes, self.near, self.folder, self.plan = table, sizes, near, folder, plan
        self.workers, self.progress = workers, progress
        self.shards: list[Shard] = []
        self.unread: dict[int, InputError] = {}
        self._rows: list[int] = []
        self._members: list[str] = []
        self._digests: list[str] = []
        self._done = 0
        before = _before(folder, plan)
        self._before = {shard.name: shard for shard in before.shards}
        self._left_out = {left.row: left for left in before.left_out}

    def run(self) -> None:
        splits = self.table.column("split")
        for split in ("train", "tune", "test", ""):
            for number in (int(Label.REAL), int(Label.FAKE), UNKNOWN):
                rows = np.flatnonzero((splits == split) & (self.table.labels == number))
                if len(rows):
                    self._group(split, None if number < 0 else Label(number), rows)

    def publish(self) -> Index:
        rows = self.table[np.array(self._rows, np.int64)]
        digests = np.array(self._digests, TEXT)
        origins = rows.column("origin")
        rows = rows.with_column("path", np.array(self._members, TEXT)).with_column("sha256", digests)
        manifest.write(
            self.folder / manifest.NAME, rows.with_column("origin", np.where(origins == "", digests, origins))
        )
        document = self._document()
        save(self.folder / INDEX, document)
        (self.folder / UNFINISHED).unlink(missing_ok=True)
        for left in self.folder.glob("*.part"):  # by a run that was killed
            left.unlink()
        for name in self._before.keys() - {shard.name for shard in self.shards}:
            (self.folder / name).unlink(missing_ok=True)
        return Index(str(self.folder / INDEX), self.plan, document.shards, document.left_out)

    def _group(self, split: str, label: Label | None, rows: Ints) -> None:
        name = group(split, label)
        order = permutation(len(rows), "shards", self.plan.seed, name)
        order = rows[order if self.near is None else gathered(order, self.near[rows])]
        first, numbers = 0, itertools.count()
        while first < len(order):
            file = self.folder / f"{name}-{next(numbers):06d}.tar"
            shard = self._before.get(file.name)
            if shard and shard.first == first and self._whole(file, shard, order[first : first + shard.rows]):
                self.shards.append(shard)
            else:
                self._withdraw()
                shard = self._made(file, split, label, order, first)
                if shard is None:  # no row that is left can be read
                    break
                self.shards.append(shard)
                save(self.folder / UNFINISHED, self._document())
            first += shard.rows

    def _whole(self, file: Path, shard: Shard, rows: Ints) -> bool:
        """Whether a tar of an earlier run is as it was, and holds all of its rows that can be read today."""
        if misfit(file, shard):
            return False
        with file.open("rb") as tar:
            if hashlib.file_digest(tar, "sha256").hexdigest() != shard.sha256:
                return False
        read, unread = [], {}
        for row in rows.tolist():
            if int(self.table.row_numbers[row]) in self._left_out:
                try:
                    _pack(self.table[row])
                    return False
                except InputError as error:
                    unread[row] = error
            else:
                read.append(row)
        with tarfile.open(file, "r:") as tar:
            members = [member.name for member in tar if not member.name.endswith(".json")]
        if len(members) != len(read):
            return False
        self._rows += read
        self._members += [place.join(file, member) for member in members]
        self._digests += [member[:64] for member in members]
        self.unread |= unread
        self._step(len(rows))
        return True

    def _made(self, file: Path, split: str, label: Label | None, order: Ints, first: int) -> Shard | None:
        part = file.with_name(f"{file.name}.part")
        keys: collections.Counter[str] = collections.Counter()
        samples = used = 0
        with part.open("wb") as raw:
            tar = _Tar(raw)
            for row, packed in self._ahead(order[first:]):
                if isinstance(packed, InputError):
                    self.unread[row] = packed
                else:
                    if samples == self.plan.most or (samples and tar.size + packed.size + _END > self.plan.largest):
                        break
                    key = packed.sha256 + (f"-{keys[packed.sha256]}" if keys[packed.sha256] else "")
                    keys[packed.sha256] += 1
                    tar.add(f"{key}.{packed.suffix}", packed.data)
                    tar.add(f"{key}.json", packed.note)
                    self._rows.append(row)
                    self._members.append(place.join(file, f"{key}.{packed.suffix}"))
                    self._digests.append(packed.sha256)
                    samples += 1
                used += 1
                self._step(1)
            tar.end()
            raw.flush()
            os.fsync(raw.fileno())
        if not samples:
            part.unlink()
            return None
        part.replace(file)
        return Shard(
            name=file.name,
            split=split,
            label=label,
            samples=samples,
            bytes=tar.size,
            sha256=tar.sha256,
            first=first,
            rows=used,
        )

    def _ahead(self, rows: Ints) -> Iterator[tuple[int, _Packed | InputError]]:
        """Rows in their order, each packed or with what is wrong with it, read by several threads."""
        waiting: collections.deque[tuple[int, concurrent.futures.Future[_Packed]]] = collections.deque()
        held = at = 0
        pool = concurrent.futures.ThreadPoolExecutor(self.workers)
        try:
            while waiting or at < len(rows):
                while at < len(rows) and len(waiting) < 4 * self.workers and (not waiting or held < _AHEAD):
                    row = int(rows[at])
                    waiting.append((row, pool.submit(_pack, self.table[row])))
                    held += int(self.sizes[row])
                    at += 1
                row, future = waiting.popleft()
                try:
                    yield row, future.result()
                except InputError as error:
                    yield row, error
                held -= int(self.sizes[row])
        finally:
            pool.shutdown(cancel_futures=True)

    def _withdraw(self) -> None:
        """No index while a tar is being made again: whoever opens the folder then is told."""
        if (self.folder / INDEX).exists():
            save(self.folder / UNFINISHED, self._document())
            (self.folder / INDEX).unlink()
            (self.folder / manifest.NAME).unlink(missing_ok=True)

    def _document(self) -> Document:
        """As far as it is known: this run's, and what an earlier run left that this one has not come to."""
        mine = {shard.name for shard in self.shards}
        left: dict[int, LeftOutRow] = {}
        rest: list[Shard] = []
        if self._done < len(self.table):
            left |= self._left_out
            rest += [shard for name, shard in self._before.items() if name not in mine]
        for row, error in self.unread.items():
            number = int(self.table.row_numbers[row])
            left[number] = LeftOutRow(row=number, kind=error.kind)
        told = tuple(left[row] for row in sorted(left))
        return Document(plan=self.plan, shards=(*self.shards, *rest), left_out=told)

    def _step(self, rows: int) -> None:
        self._done += rows
        self.progress(self._done, len(self.table))


class _Tar:
    """A tar that only grows, hashed as it does."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def add(self, name: str, data: bytes) -> None:
        member = tarfile.TarInfo(name)  # no time, no owner, rw-r--r--
        member.size = len(data)
        self._put(member.tobuf(tarfile.USTAR_FORMAT))
        self._put(data)
        self._put(bytes(-len(data) % _BLOCK))

    def end(self) -> None:
        self._put(bytes(_END))

    def _put(self, data: bytes) -> None:
        self._raw.write(data)
        self._hash.update(data)
        self.size += len(data)


def _pack(sample: Sample) -> _Packed:
    """Raises InputError where the sample's bytes cannot be read or cannot be meant."""
    data = place.read(sample.place, LARGEST_SAMPLE + 1)
    _check_size(len(data))
    digest = hashlib.sha256(data).hexdigest()
    if sample.sha256 and sample.sha256.lower() != digest:
        raise InputError(
            f"not the file that its row names by SHA-256 ({sample.sha256[:12]}…, found {digest[:12]}…); "
            f"{container.AGAIN}, or take its hash again",
            kind="corrupt",
        )
    return _Packed(data, digest, SUFFIXES[container.identify(data)], _note(sample, digest))


def _note(sample: Sample, digest: str) -> bytes:
    fields: dict[str, Any] = {"label": word(sample.label)}
    for name in OWN[2:]:
        fields[name] = getattr(sample, name)
    fields |= {"origin": sample.origin or digest, "sha256": digest}
    return json.dumps(fields | {name: sample.groups[name] for name in sorted(sample.groups)}).encode()


def _before(folder: Path, plan: Plan) -> Document:
    """What an earlier run of the same plan left in the folder; begins one where it is empty."""
    for note in (folder / INDEX, folder / UNFINISHED):
        if not note.exists():
            continue
        try:
            document = index.read(note)
        except ManifestError as error:
            raise OutputError(str(error)) from None
        differences = document.plan.differences(plan)
        if differences:
            raise OutputError(f"{folder} holds other shards: {'; '.join(differences)}. Give another folder")
        return document
    if any(not path.name.endswith(".part") for path in folder.iterdir()):
        raise OutputError(f"{folder} is not empty and holds no shards; give another folder")
    document = Document(plan=plan, shards=())
    save(folder / UNFINISHED, document)
    return document
