"""The samples of an epoch, shuffled and dealt out among consumers, as the bytes of their files.

Shards are read from front to back, from disk or over HTTP, and checked as they pass. Where several consumers read (the
workers of a loader, on several machines), each has a `Share`; together they get every sample of an epoch once, whatever
their number. What comes depends on seed, epoch and share alone, so an epoch that was stopped is gone on with by `skip`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import heapq
import itertools
import json
import random
import tarfile
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from assay.data import remote
from assay.data.index import LARGEST_SAMPLE, SUFFIXES, Index, Shard
from assay.data.layouts import PICTURES, VIDEOS
from assay.data.order import Ints, blocks, gathered, permutation
from assay.data.table import OWN, Table, among
from assay.errors import InputError, ManifestError
from assay.image import place
from assay.types import Label, Sample

LARGEST_NOTE = 1 << 20
"""Bytes of a sample's JSON object."""

_CHUNK = 1 << 20
_PIECE = 1 << 15
"""Bytes that tarfile asks for at once. It copies what is left of them at each read: 1 MiB is three times slower."""
_MEDIA = PICTURES | VIDEOS | {f".{suffix}" for suffix in SUFFIXES.values()}
_AGAIN = "copy it again, or run the command that wrote the shards again, which mends what is damaged"


@dataclasses.dataclass(frozen=True, slots=True)
class Share:
    """Which of several consumers this is.

    Args:
        number: from 0. With several workers on several machines: rank x workers + worker.
        count: of all consumers.

    Raises:
        ValueError: no such number.
    """

    number: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.number < self.count:
            raise ValueError(f"consumer {self.number} of {self.count}; numbers go from 0 to below the count")


WHOLE = Share()

Data = Index | Sequence[Sample]

Item = tuple[Sample, bytes]

_T = TypeVar("_T")
_Had = npt.NDArray[np.bool_]
"""Which samples of a share were had before, (samples,)."""


def stream(
    data: Data,
    *,
    split: str | Collection[str] | None = None,
    label: Label | None = None,
    epoch: int = 0,
    seed: int = 0,
    share: Share = WHOLE,
    buffer: int = 256,
    skip: int = 0,
) -> Iterator[Item]:
    """One consumer's samples of one epoch, each with the bytes of its file.

    Of shards: their order is drawn for the epoch. Where there are as many as consumers or more, whole shards are dealt
    out, the next to whoever has the fewest samples so far; else several consumers read one shard, and each takes every
    k-th sample. Shares then differ in length by up to a shard (`length` tells). Inside a share, samples come out of a
    shuffle buffer. A sample's bytes are checked against its own SHA-256 before it comes out, a shard against the
    index's at its end. **What came out of a shard before an error was read right, but its labels are vouched for only
    by the end of the shard**: discard what was learnt from it where an altered shard is more than an accident.

    Of a table or list: a permutation drawn for the epoch, of which every n-th is read. Shares differ by one at most.
    That holds for files and members of tar files. Where there are cells of Parquet tables, whole row groups are
    shuffled, and the rows inside each; a share is a stretch of that order, so that a row group is read once, by one
    consumer (by two where one's share ends and the next begins), and samples go through a shuffle buffer besides.

    Args:
        data: shards, a manifest's table, or any sequence of samples.
        split: one split or several; None takes all.
        label: a class; None takes all, those of unknown class too.
        epoch, seed: of the shuffle.
        share: which consumer this is.
        buffer: samples held for shuffling, of shards and of cells; all else is shuffled as a whole. 1 keeps the order
            of shards and row groups.
        skip: samples that this consumer had of this epoch before. The rest is what it would have been; shards and row
            groups that were used up are not opened again.

    Returns:
        An iterator of sample and bytes. The place of a sample is its address (of a remote shard: `URL::member`).

    Raises:
        ManifestError: nothing is of that split and class (at once, not while reading).
        InputError: while reading: a shard or file is missing or cannot be read; a shard is torn (kind "truncated") or
            is not what the index says ("corrupt").
        ValueError: `buffer` below 1 or `skip` below 0.
    """
    if buffer < 1 or skip < 0:
        raise ValueError(f"buffer {buffer} and skip {skip}; give a buffer of 1 or more and a skip of 0 or more")
    key = f"{seed} {epoch} {share.number} {share.count}"
    if isinstance(data, Index):
        parts = _dealt(data.select(split=split, label=label), seed, epoch, share)
        total = sum(part.samples for part in parts)
        return _mixed(lambda had: _from_shards(data, parts, had), total, key, buffer, skip)
    rows = _chosen(data, split, label)
    order = permutation(len(rows), "rows", seed, epoch)
    near = blocks(_places(data, rows))
    if near is None:
        return _from_rows(data, rows[order][share.number :: share.count][skip:])
    mine = rows[gathered(order, near)][_stretch(len(rows), share)]
    return _mixed(lambda had: _from_cells(data, mine, had), len(mine), key, buffer, skip)


def length(
    data: Data,
    *,
    split: str | Collection[str] | None = None,
    label: Label | None = None,
    epoch: int = 0,
    seed: int = 0,
    share: Share = WHOLE,
) -> int:
    """How many samples `stream` gives for the same arguments, without reading any.

    Raises:
        ManifestError: as `stream`.
    """
    if isinstance(data, Index):
        return sum(part.samples for part in _dealt(data.select(split=split, label=label), seed, epoch, share))
    return len(range(share.number, len(_chosen(data, split, label)), share.count))


# ── dealing out ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass(frozen=True, slots=True)
class _Part:
    """Samples `first`, `first` + `step`, … of a shard."""

    shard: Shard
    first: int = 0
    step: int = 1

    @property
    def samples(self) -> int:
        return len(range(self.first, self.shard.samples, self.step))


def _dealt(shards: Sequence[Shard], seed: int, epoch: int, share: Share) -> list[_Part]:
    """What a consumer reads, in its order. Every consumer deals for all, so that none has to be asked."""
    drawn = [shards[i] for i in permutation(len(shards), "shards", seed, epoch)]
    if len(drawn) >= share.count:
        mine = []
        hands = [(0, consumer) for consumer in range(share.count)]
        for shard in drawn:
            held, consumer = heapq.heappop(hands)
            heapq.heappush(hands, (held + shard.samples, consumer))
            if consumer == share.number:
                mine.append(_Part(shard))
        return mine
    readers = [1] * len(drawn)
    crowd = [(-shard.samples, at) for at, shard in enumerate(drawn)]
    heapq.heapify(crowd)
    for _ in range(share.count - len(drawn)):  # one more to where each has most to do
        _, at = heapq.heappop(crowd)
        readers[at] += 1
        heapq.heappush(crowd, (-drawn[at].samples / readers[at], at))
    number = share.number
    for shard, step in zip(drawn, readers, strict=True):
        if number < step:
            return [_Part(shard, number, step)]
        number -= step
    raise AssertionError("every consumer has a shard")


def _chosen(data: Sequence[Sample], split: str | Collection[str] | None, label: Label | None) -> Ints:
    """Which rows are of that split and class; no sample is made for it where the rows are a table."""
    splits = None if split is None else [split] if isinstance(split, str) else list(split)
    if isinstance(data, Table):
        kept = np.ones(len(data), np.bool_) if label is None else data.labels == int(label)
        if splits is not None and len(data):
            kept &= among(data.column("split"), splits)
    else:
        kept = np.array(
            [
                (splits is None or sample.split in splits) and (label is None or sample.label == label)
                for sample in data
            ],
            np.bool_,
        )
    rows = np.flatnonzero(kept)
    if not len(rows):
        wanted = f"{' or '.join(splits) if splits else 'any split'}, {label.name.lower() if label else 'any class'}"
        raise ManifestError(f"no row of {wanted} among {len(data):,}; choose another split or class")
    return rows


def _places(data: Sequence[Sample], rows: Ints) -> list[str]:
    if isinstance(data, Table):
        places: list[str] = data.column("path")[rows].tolist()
        return places
    return [data[row].place for row in rows.tolist()]


def _stretch(rows: int, share: Share) -> slice:
    """A consumer's part of a row of rows, as many as of every n-th."""
    least, more = divmod(rows, share.count)
    start = share.number * least + min(share.number, more)
    return slice(start, start + least + (share.number < more))


def _from_rows(data: Sequence[Sample], order: Ints) -> Iterator[Item]:
    for row in order.tolist():
        yield _item(data[row])


def _from_cells(data: Sequence[Sample], order: Ints, had: _Had) -> Generator[Item | None, None, None]:
    for row, before in zip(order.tolist(), had.tolist(), strict=True):
        yield None if before else _item(data[row])


def _item(sample: Sample) -> Item:
    try:
        return sample, place.read(sample.place)
    except InputError as error:
        told = str(error) if sample.place in str(error) else f"{sample.place}: {error}"
        raise InputError(told, kind=error.kind) from None


# ── shuffling ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _mixed(
    read: Callable[[_Had], Generator[Item | None, None, None]], total: int, key: str, buffer: int, skip: int
) -> Iterator[Item]:
    """What `read` gives, through a shuffle buffer. It is told which samples were had before, for which None will do."""
    # The shuffle asks for nothing but numbers, so which samples were had before is known without reading any.
    had = np.zeros(total, np.bool_)
    had[np.fromiter(itertools.islice(_shuffled(iter(range(total)), key, buffer), skip), np.int64)] = True
    with contextlib.closing(read(had)) as items:
        for number, item in enumerate(_shuffled(items, key, buffer)):
            if number >= skip:
                assert item is not None, "only what is skipped is not read"
                yield item


def _from_shards(index: Index, parts: Sequence[_Part], had: _Had) -> Generator[Item | None, None, None]:
    start = 0
    for part in parts:
        stop = start + part.samples
        if had[start:stop].all():
            yield from [None] * part.samples
        else:
            with contextlib.closing(_read(index, part)) as samples:
                yield from samples
        start = stop


def _shuffled(items: Iterator[_T], key: str, buffer: int) -> Iterator[_T]:
    # Of Python's generator, only `random` is promised to stay as it is.
    chance = random.Random(key)
    held: list[_T] = []
    for item in items:
        if len(held) < buffer:
            held.append(item)
            continue
        at = int(chance.random() * buffer)
        held[at], item = item, held[at]
        yield item
    while held:
        at = int(chance.random() * len(held))
        held[at], held[-1] = held[-1], held[at]
        yield held.pop()


# ── reading a tar ────────────────────────────────────────────────────────────────────────────────────────────────────


class Readable(Protocol):
    """Gives bytes from front to back."""

    def read(self, count: int, /) -> bytes: ...


def unpack(file: Readable, where: str, *, first: int = 0, step: int = 1) -> Iterator[Item]:
    """The samples of a WebDataset tar, read from front to back, whoever wrote it.

    Of each key, the picture or clip (by suffix) and the JSON object are taken; all other members, links and keys that
    lack either are passed over. What the object says beside a sample's fields becomes its groups.

    Args:
        file: an uncompressed tar; need not seek.
        where: its path or address, for the samples' places.
        first, step: only samples `first`, `first` + `step`, … are unpacked.

    Raises:
        InputError: no tar, or a member ends early (corrupt); a member is too large (too_many_bytes); a sample's object
            is no JSON object, its label is not real, fake, 0, 1 or nothing, or its bytes do not have the SHA-256 that
            it names (corrupt).
    """
    count, key = 0, ""
    media = note = None
    for name, size, content in _members(file, where):
        stem, _, suffix = name.rpartition("/")[2].partition(".")
        named = name[: len(name) - len(suffix)]
        suffix = f".{suffix.lower()}"
        if named != key:
            key, media, note = named, None, None
        if not stem or (suffix != ".json" and suffix not in _MEDIA):
            continue
        _check_size(size, LARGEST_NOTE if suffix == ".json" else LARGEST_SAMPLE, f"{where}: {name}")
        if suffix == ".json":
            if note is not None:
                continue
            note = content()
        else:
            if media is not None:
                continue
            # What another consumer takes is not copied.
            media = (name, content() if count % step == first else b"")
        if media is not None and note is not None:
            if count % step == first:
                yield _sample(note, media[1], place.join(where, media[0])), media[1]
            count += 1


def _members(file: Readable, where: str) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    """Name, size and (until the next is asked for) content of each regular member."""
    try:
        with tarfile.open(fileobj=file, mode="r|", bufsize=_PIECE) as tar:  # type: ignore[call-overload]
            while (member := tar.next()) is not None:
                tar.members = []  # else a shard of a million members is held by its headers
                # A sparse member is a bomb: it gives more bytes than it takes.
                if member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse():
                    yield member.name, member.size, _content(tar, member, where)
    except (InputError, OSError):
        raise
    except Exception as error:  # tarfile's own errors, and whatever else hostile headers make it raise
        raise _corrupt(f"{where} is torn or no tar file ({error})") from None


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo, where: str) -> Callable[[], bytes]:
    def content() -> bytes:
        file = tar.extractfile(member)
        try:
            data = file.read() if file else b""
        except tarfile.TarError:
            data = b""
        if len(data) != member.size:
            raise _corrupt(f"{where} ends inside {member.name}")
        return data

    return content


def _check_size(size: int, most: int, where: str) -> None:
    if size > most:
        raise InputError(f"{where} has {size:,} bytes, more than {most:,}; leave it out", kind="too_many_bytes")


def _sample(note: bytes, data: bytes, where: str) -> Sample:
    try:
        cells = json.loads(note)
        if not isinstance(cells, dict):
            raise ValueError("its note is no JSON object")
        words = {name: cell if isinstance(cell, str) else json.dumps(cell) for name, cell in cells.items()}
        label = cells.get("label")
        frame = cells.get("frame")
        sample = Sample(
            place=where,
            label=_LABELS[words["label"].lower()] if label is not None else None,
            frame=None if frame in (None, "") else int(frame),
            **{name: words[name] for name in _TEXTS if cells.get(name) is not None},
            groups={name: word for name, word in words.items() if name not in OWN and cells[name] not in (None, "")},
        )
    except KeyError:
        raise _corrupt(f"{where} has the label {label!r}, which is not real, fake, 0 or 1") from None
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise _corrupt(f"{where}: what is said of it cannot be read ({error})") from None
    if sample.sha256 and hashlib.sha256(data).hexdigest() != sample.sha256.lower():
        raise _corrupt(f"{where} does not have the bytes that its SHA-256 names")
    return sample


_LABELS = {"real": Label.REAL, "0": Label.REAL, "fake": Label.FAKE, "1": Label.FAKE, "": None}
_TEXTS = tuple(name for name in OWN if name not in ("path", "label", "frame"))


def _corrupt(what: str) -> InputError:
    return InputError(f"{what}; {_AGAIN}", kind="corrupt")


# ── reading a shard ──────────────────────────────────────────────────────────────────────────────────────────────────


def _read(index: Index, part: _Part) -> Generator[Item, None, None]:
    """A part of a shard; the whole shard passes, so that its hash can be taken."""
    shard, where = part.shard, index.place(part.shard)
    count = 0
    with contextlib.closing(_opened(where, shard.bytes)) as file:
        checked = _Checked(file, shard.bytes, where)
        try:
            for item in unpack(checked, where, first=part.first, step=part.step):
                count += 1
                yield item
            checked.finish()
        except InputError as error:
            if error.kind != "corrupt":
                raise
            # A shard that ends early is told from one that was altered, which asks for the rest of it.
            checked.finish()
            raise (_fault(where, shard, checked) or error) from None
        fault = _fault(where, shard, checked)
        if fault is not None:
            raise fault
        if count != part.samples:
            raise InputError(
                f"{where} holds other samples than its index says; write the shards again to another folder",
                kind="corrupt",
            )


def _opened(where: str, size: int) -> Any:
    if remote.is_address(where):
        return remote.Remote(where, size)
    try:
        if not Path(where).is_file():
            raise FileNotFoundError(where)
        return Path(where).open("rb", buffering=0)
    except OSError as error:
        raise _cannot(where, error) from None


def _cannot(where: str, error: OSError) -> InputError:
    if isinstance(error, FileNotFoundError):
        return InputError(f"{where}: no such shard; {_AGAIN}", kind="missing")
    if isinstance(error, PermissionError):
        return InputError(f"{where}: no permission to read it; ask its owner", kind="permission")
    return InputError(f"{where}: could not be read ({error.strerror or error}); check the disk", kind="unreadable")


class _Checked:
    """Hashes what passes, and stops one byte after the size that was promised."""

    def __init__(self, file: Readable, size: int, where: str) -> None:
        self._file, self._most, self._where = file, size + 1, where
        self._hash = hashlib.sha256()
        self.seen = 0

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def read(self, count: int) -> bytes:
        try:
            data = self._file.read(min(count, self._most - self.seen))
        except OSError as error:
            raise _cannot(self._where, error) from None
        self._hash.update(data)
        self.seen += len(data)
        return data

    def finish(self) -> None:
        while self.read(_CHUNK):
            pass


def _fault(where: str, shard: Shard, checked: _Checked) -> InputError | None:
    if checked.seen < shard.bytes:
        return InputError(f"{where} ends after {checked.seen:,} of {shard.bytes:,} bytes; {_AGAIN}", kind="truncated")
    if checked.seen > shard.bytes or checked.sha256 != shard.sha256:
        return InputError(f"{where} is not the shard that the index names by its SHA-256; {_AGAIN}", kind="corrupt")
    return None
