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
import re
import tarfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
import pydantic

from assay.data import manifest, remote
from assay.data.table import OWN, TEXT, UNKNOWN, Table, among
from assay.errors import InputError, ManifestError, OutputError
from assay.image import container, place
from assay.types import Label, Sample

INDEX = "shards.json"
UNFINISHED = "unfinished.json"
"""Stands in place of the index until all shards are there."""

FORMAT, VERSION = "assay-shards", 1

LARGEST_SAMPLE = 1 << 30
"""Bytes of one sample. A clip of a gigabyte is better cut into frames first: samples are held in memory whole."""

LARGEST_SHARD = 64 << 30
"""Bytes of one tar that an index may claim."""

LARGEST_INDEX = 64 << 20
"""Bytes of `shards.json`: about 200,000 shards."""

SUFFIXES = {
    "JPEG": "jpg",
    "PNG": "png",
    "WEBP": "webp",
    "GIF": "gif",
    "BMP": "bmp",
    "TIFF": "tif",
    "AVIF": "avif",
    "HEIF": "heic",
    "MP4": "mp4",
    "MOV": "mov",
    "MKV": "mkv",
    "WEBM": "webm",
    "AVI": "avi",
    "MPEG": "mpg",
    "MPEGTS": "ts",
    "FLV": "flv",
}
"""What a member is called, by the format that `assay.image.container.identify` sees in its bytes."""

_BLOCK = tarfile.BLOCKSIZE
_END = 2 * _BLOCK
_AHEAD = 256 << 20
"""Bytes that are read before they are written."""
_LOOKED = 2048
_SHOWN = 20

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.tar\Z")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_HEX = r"^[0-9a-f]{64}$"

Ints = npt.NDArray[np.int64]


def _label(word: object) -> object:
    return (
        {"real": Label.REAL, "fake": Label.FAKE, None: None}.get(word, word) if isinstance(word, str | None) else word
    )


def _word(label: Label | None) -> str | None:
    return None if label is None else label.name.lower()


def _plain(name: str) -> str:
    if not _NAME.match(name):
        raise ValueError("a shard's name must be a plain file name that ends in .tar")
    return name


class Shard(pydantic.BaseModel):
    """One tar.

    Args:
        name: of the file, in the folder of the index.
        split: of all its samples; empty where they have none.
        label: of all its samples; None where it is not known.
        samples: how many it holds.
        bytes: of the file.
        sha256: of the file, 64 hexadecimal digits.
        first, rows: which rows of its split and class it was made of, in their shuffled order; those left out count.
    """

    model_config = pydantic.ConfigDict(frozen=True)

    name: Annotated[str, pydantic.AfterValidator(_plain)]
    split: Literal["train", "tune", "test", ""]
    label: Annotated[Label | None, pydantic.BeforeValidator(_label), pydantic.PlainSerializer(_word)]
    samples: int = pydantic.Field(ge=1)
    bytes: int = pydantic.Field(ge=1, le=LARGEST_SHARD)
    sha256: str = pydantic.Field(pattern=_HEX)
    first: int = pydantic.Field(0, ge=0)
    rows: int = pydantic.Field(0, ge=0)


class LeftOutRow(pydantic.BaseModel):
    """A row that could not be read: its number in the manifest (the header is row 1), and the kind of `InputError`."""

    model_config = pydantic.ConfigDict(frozen=True)

    row: int
    kind: str


class Plan(pydantic.BaseModel):
    """What decides the shards: the same plan gives the same bytes.

    Args:
        rows: how many there were.
        rows_sha256: of what is known of them, and the files' sizes. The data set may have moved as a whole.
        seed: of the shuffle.
        largest: bytes that a tar may have, unless one sample alone has more.
        most: samples that a tar may have.
    """

    model_config = pydantic.ConfigDict(frozen=True)

    rows: int
    rows_sha256: str
    seed: int
    largest: int
    most: int

    def differences(self, other: Plan) -> list[str]:
        """What tells two plans apart, with both values."""
        found = [
            f"{name} {getattr(self, name):,}, now {getattr(other, name):,}"
            for name in ("rows", "seed", "largest", "most")
            if getattr(self, name) != getattr(other, name)
        ]
        if self.rows == other.rows and self.rows_sha256 != other.rows_sha256:
            found.append("other rows (their order, what is said of them, or the files' sizes)")
        return found


class _Document(pydantic.BaseModel):
    format: str = FORMAT
    version: int = VERSION
    plan: Plan
    shards: tuple[Shard, ...]
    left_out: tuple[LeftOutRow, ...] = ()

    @pydantic.model_validator(mode="after")
    def _no_name_twice(self) -> _Document:
        names = [shard.name for shard in self.shards]
        if len(set(names)) < len(names):
            raise ValueError("a shard stands there twice")
        return self


@dataclasses.dataclass(frozen=True)
class Index:
    """A set of shards.

    Args:
        source: path or address of its `shards.json`.
        plan: what they were made from.
        shards: every tar, those of one split and class together.
        left_out: rows that could not be read and were left out on request.
    """

    source: str
    plan: Plan
    shards: tuple[Shard, ...]
    left_out: tuple[LeftOutRow, ...] = ()

    @classmethod
    def open(cls, where: str | os.PathLike[str]) -> Index:
        """The index of shards that `write` made.

        Args:
            where: their folder, its `shards.json`, or the http or https address of either. Only an address opens a
                connection; no other scheme is known.

        Raises:
            ManifestError: there is none; it is not finished, not valid or of a later version; a tar beside it is
                missing or has another size.
        """
        text = os.fspath(where)
        if remote.is_address(text):
            return cls._fetched(text)
        if _SCHEME.match(text) and not Path(text).exists():
            raise ManifestError(f"{text}: shards are read from a folder or an http(s) address; copy them to one")
        file = Path(text) / INDEX if Path(text).is_dir() else Path(text)
        if not file.exists() and file.with_name(UNFINISHED).exists():
            raise ManifestError(f"{file.parent}: its shards are not finished; run the command that writes them again")
        index = cls._parsed(str(file), _content(file))
        problems = [problem for shard in index.shards if (problem := _misfit(file.with_name(shard.name), shard))]
        if problems:
            raise _refusal(f"{file}: ", problems, "; copy them again, or run the command that wrote them again")
        return index

    @classmethod
    def _fetched(cls, address: str) -> Index:
        if not address.partition("?")[0].endswith(".json"):
            address = remote.beside(address.partition("?")[0].rstrip("/") + "/" + _query(address), INDEX)
        try:
            return cls._parsed(address, remote.fetch(address, LARGEST_INDEX))
        except InputError as error:
            raise ManifestError(str(error)) from None

    @classmethod
    def _parsed(cls, source: str, data: bytes) -> Index:
        document = _parse(source, data)
        if not document.shards:
            raise ManifestError(f"{source}: names no shard; write the shards again")
        return cls(source, document.plan, document.shards, document.left_out)

    @property
    def samples(self) -> int:
        """How many samples all shards hold."""
        return sum(shard.samples for shard in self.shards)

    def place(self, shard: Shard) -> str:
        """Path or address of a shard."""
        if remote.is_address(self.source):
            return remote.beside(self.source, shard.name)
        return str(Path(self.source).with_name(shard.name))

    def select(self, *, split: str | Collection[str] | None = None, label: Label | None = None) -> tuple[Shard, ...]:
        """The shards of a split (or several) and a class; None takes all.

        Raises:
            ManifestError: there are none.
        """
        splits = None if split is None else {split} if isinstance(split, str) else set(split)
        chosen = tuple(
            shard
            for shard in self.shards
            if (splits is None or shard.split in splits) and (label is None or shard.label == label)
        )
        if not chosen:
            there = sorted({group(shard.split, shard.label) for shard in self.shards})
            wanted = f"{' or '.join(sorted(splits)) if splits else 'any split'}, {_word(label) or 'any class'}"
            raise ManifestError(f"{self.source}: no shard of {wanted}; there are {', '.join(there)}")
        return chosen


def group(split: str, label: Label | None) -> str:
    """How shards of a split and a class are called, without their number."""
    return f"{split or 'none'}-{_word(label) or 'unlabelled'}"


def permutation(count: int, *key: object) -> Ints:
    """Numbers 0 … count - 1, shape (count,), shuffled the same way for the same key on every machine.

    NumPy's own shuffles may change from version to version; this one is the order of SplitMix64's output (Steele, Lea
    and Flood, "Fast splittable pseudorandom number generators", 2014, figure 17), which repeats nothing in 2^64.
    """
    seed = int.from_bytes(hashlib.sha256(json.dumps(key).encode()).digest()[:8], "little")
    state = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.argsort(state ^ (state >> np.uint64(31)), kind="stable")


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
    the shards, and mends what is damaged. Do not run it twice at once in one folder.

    Files are read in shuffled order. From a Parquet table that costs a row group a picture; write such a data set to
    files first where it is large.

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
            differs); or writing failed (kind "disk"), and the same call goes on.
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
    plan = Plan(rows=len(table), rows_sha256=_digest(table, sizes), seed=seed, largest=largest, most=most)
    folder = Path(out)
    try:
        writer = _Writer(table, sizes, folder, plan, workers, progress or (lambda done, total: None))
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


def _digest(table: Table, sizes: Ints) -> str:
    places = table.column("path").tolist()
    # What all places begin with may change: a data set that was moved is still the same.
    front = len(os.path.commonprefix([min(places), max(places)]))  # noqa: RUF071 (addresses are no paths)
    columns: dict[str, Any] = {name: table.column(name).tolist() for name in table.columns if name != "path"}
    columns |= {"path": [where[front:] for where in places], "size": sizes.tolist()}
    digest = hashlib.sha256()
    for name, cells in sorted(columns.items()):
        digest.update(json.dumps([name, cells]).encode())
    return digest.hexdigest()


def _unreadable(table: Table, unread: Mapping[int, InputError], done: str) -> ManifestError:
    places = table.column("path")
    lines = []
    for row, error in sorted(unread.items()):
        told = str(error) if str(places[row]) in str(error) else f"{places[row]}: {error}"
        lines.append(f"row {table.row_numbers[row]}: {told}")
    return _refusal("", lines, f"; {done}. Mend the rows, or leave them out with skip")


def _refusal(before: str, problems: Sequence[str], advice: str) -> ManifestError:
    shown = "\n".join(f"  {problem}" for problem in problems[:_SHOWN])
    more = f"\n  … and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return ManifestError(f"{before}{count}{advice}:\n{shown}{more}", problems)


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
        self, table: Table, sizes: Ints, folder: Path, plan: Plan, workers: int, progress: Callable[[int, int], None]
    ) -> None:
        self.table, self.sizes, self.folder, self.plan = table, sizes, folder, plan
        self.workers, self.progress = workers, progress
        self.shards: list[Shard] = []
        self.unread: dict[int, InputError] = {}
        self._rows: list[int] = []
        self._members: list[str] = []
        self._digests: list[str] = []
        self._done = 0
        before = _claim(folder, plan)
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
        _save(self.folder / INDEX, self._document())
        (self.folder / UNFINISHED).unlink(missing_ok=True)
        for left in self.folder.glob("*.part"):  # by a run that was killed
            left.unlink()
        for name in self._before.keys() - {shard.name for shard in self.shards}:
            (self.folder / name).unlink(missing_ok=True)
        document = self._document()
        return Index(str(self.folder / INDEX), self.plan, document.shards, document.left_out)

    def _group(self, split: str, label: Label | None, rows: Ints) -> None:
        name = group(split, label)
        order = rows[permutation(len(rows), "shards", self.plan.seed, name)]
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
                _save(self.folder / UNFINISHED, self._document())
            first += shard.rows

    def _whole(self, file: Path, shard: Shard, rows: Ints) -> bool:
        """Whether a tar of an earlier run is as it was, and holds all of its rows that can be read today."""
        if _misfit(file, shard):
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
            _save(self.folder / UNFINISHED, self._document())
            (self.folder / INDEX).unlink()
            (self.folder / manifest.NAME).unlink(missing_ok=True)

    def _document(self) -> _Document:
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
        return _Document(plan=self.plan, shards=(*self.shards, *rest), left_out=told)

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
    fields: dict[str, Any] = {"label": _word(sample.label)}
    for name in OWN[2:]:
        fields[name] = getattr(sample, name)
    fields |= {"origin": sample.origin or digest, "sha256": digest}
    return json.dumps(fields | {name: sample.groups[name] for name in sorted(sample.groups)}).encode()


# ── the index on disk ────────────────────────────────────────────────────────────────────────────────────────────────


def _claim(folder: Path, plan: Plan) -> _Document:
    """What an earlier run left in the folder, which is made where there is none."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; give a folder for the shards")
    for note in (folder / INDEX, folder / UNFINISHED):
        if not note.exists():
            continue
        try:
            document = _parse(str(note), _content(note))
        except ManifestError as error:
            raise OutputError(str(error)) from None
        differences = document.plan.differences(plan)
        if differences:
            raise OutputError(f"{folder} holds other shards: {'; '.join(differences)}. Give another folder")
        return document
    if folder.exists() and any(not path.name.endswith(".part") for path in folder.iterdir()):
        raise OutputError(f"{folder} is not empty and holds no shards; give another folder")
    folder.mkdir(parents=True, exist_ok=True)
    document = _Document(plan=plan, shards=())
    _save(folder / UNFINISHED, document)
    return document


def _save(file: Path, document: _Document) -> None:
    part = file.with_name(f"{file.name}.part")
    with part.open("wb") as raw:
        raw.write(document.model_dump_json(indent=1).encode())
        raw.flush()
        os.fsync(raw.fileno())
    part.replace(file)


def _content(file: Path) -> bytes:
    try:
        if not file.is_file():
            raise ManifestError(f"{file}: no such index; give the folder that holds {INDEX}, or write the shards first")
        with file.open("rb") as raw:
            data = raw.read(LARGEST_INDEX + 1)
    except OSError as error:
        raise ManifestError(f"{file}: cannot be read ({error.strerror}); check its permissions") from error
    if len(data) > LARGEST_INDEX:
        raise ManifestError(f"{file} is longer than {LARGEST_INDEX:,} bytes, which no index is; write the shards again")
    return data


def _parse(source: str, data: bytes) -> _Document:
    again = "copy it again, or write the shards again to another folder"
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{source} is torn or no JSON ({error}); {again}") from None
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        raise ManifestError(f"{source} is no index of shards; {again}")
    if raw.get("version") != VERSION:
        raise ManifestError(
            f"{source} has version {raw.get('version')!r}, and this assay reads {VERSION}; get a later assay"
        )
    try:
        return _Document.model_validate(raw)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        at = ".".join(str(part) for part in first["loc"])
        raise ManifestError(f"{source} is not valid at {at or 'its top'}: {first['msg']}; {again}") from None


def _misfit(file: Path, shard: Shard) -> str:
    """What is wrong with a shard's file as far as its size tells; empty where nothing is."""
    try:
        size = file.stat().st_size if file.is_file() else None
    except OSError as error:
        return f"{shard.name}: cannot be looked at ({error.strerror})"
    if size is None:
        return f"{shard.name}: no such file"
    return "" if size == shard.bytes else f"{shard.name}: {size:,} bytes, not {shard.bytes:,}"


def _query(address: str) -> str:
    return "".join(address.partition("?")[1:])
