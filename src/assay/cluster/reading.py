"""What a worker reads of a chunk: paths as they are, everything else as bytes, fetched ahead of the judging."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import tarfile
from collections.abc import Generator, Iterable, Iterator
from typing import Any

import pyarrow
from pyarrow import parquet

from assay.cluster.plan import Item, Rows, Tar, absolute
from assay.cluster.storage import is_address, opened, read
from assay.errors import InputError, words
from assay.image import place
from assay.image.decode import Limits
from assay.judge.scan import Judging, is_listed
from assay.judge.sink import Result
from assay.types import Failure

FETCHERS = 8
"""Files at addresses that a worker fetches at once."""

_CELLS = 64
_PIECE = 1 << 15
_AGAIN = "fetch or write it again"

Source = str | bytes
Later = concurrent.futures.Future[bytes]


class Reading:
    """A chunk's inputs by name, and a detector that judges what is behind each: an ordinary scan is given both.

    Args:
        detector: what judges.
        items: the chunk.
        base: the folder that relative paths are relative to.
        limits: nothing is fetched that is larger.
        patient: a tar or table whose connection breaks off raises, so that the chunk can be done again; else what came
            until then stays, and the rest is a `Failure`.
    """

    def __init__(
        self, detector: Judging, items: Iterable[Item], base: str, limits: Limits, *, patient: bool = False
    ) -> None:
        self._detector, self._items = detector, items
        self._base, self._limits, self._patient = base, limits, patient
        self._given: collections.deque[Source] = collections.deque()

    def inputs(self) -> Generator[str | Failure]:
        """Each input's name, or why there is none to judge. To be closed."""
        with concurrent.futures.ThreadPoolExecutor(FETCHERS, thread_name_prefix="assay-fetch") as pool:
            ahead: collections.deque[tuple[str | Failure, Source | Later]] = collections.deque()
            try:
                for name, source in self._sources():
                    later = pool.submit(self._fetched, str(name)) if source is None else source
                    ahead.append((name, later))
                    while len(ahead) > FETCHERS or (ahead and not isinstance(ahead[0][1], concurrent.futures.Future)):
                        yield self._settled(*ahead.popleft())
                while ahead:
                    yield self._settled(*ahead.popleft())
            finally:
                for _, later in ahead:
                    if isinstance(later, concurrent.futures.Future):
                        later.cancel()

    def judge_many(self, sources: Iterable[str], **options: Any) -> Iterator[Result]:
        """As the detector's own; its results are called "<bytes>" where bytes were judged."""
        return self._detector.judge_many((self._given.popleft() for _ in sources), **options)  # type: ignore[misc]

    def passed_over(self) -> None:
        """The input that came last is not judged after all."""
        self._given.pop()

    def _settled(self, name: str | Failure, source: Source | Later) -> str | Failure:
        if isinstance(name, Failure):
            return name
        try:
            self._given.append(source.result() if isinstance(source, concurrent.futures.Future) else source)
        except InputError as error:
            return Failure(name, error.kind, str(error))
        return name

    def _fetched(self, address: str) -> bytes:
        # One byte more than is allowed tells that there are more; decoding refuses it then.
        return read(address, self._limits.bytes + 1)

    def _sources(self) -> Iterator[tuple[str | Failure, Source | None]]:
        """Name and what to judge; None where it is still to be fetched."""
        for item in self._items:
            if isinstance(item, Tar | Rows):
                yield from self._held(item)
            elif isinstance(item, Failure):
                yield item, ""
            else:
                yield item, None if is_address(item) else absolute(item, self._base)

    def _held(self, item: Tar | Rows) -> Iterator[tuple[str | Failure, Source]]:
        where = absolute(item.place, self._base)
        try:
            with opened(where, through=isinstance(item, Tar)) as file:
                yield from self._members(item, file) if isinstance(item, Tar) else self._cells(item, file)
        except InputError as error:
            if self._patient and error.kind == "unreadable":
                raise
            yield Failure(item.place, error.kind, str(error)), ""

    def _members(self, item: Tar, file: Any) -> Iterator[tuple[str | Failure, Source]]:
        try:
            tar: Any
            with tarfile.open(fileobj=file, mode="r|", bufsize=_PIECE) as tar:
                while (member := tar.next()) is not None:
                    tar.members = []  # else a tar of a million members is held by its headers
                    # A sparse member gives more bytes than it takes.
                    if member.isreg() and not member.issparse() and is_listed(member.name.rpartition("/")[2]):
                        yield self._member(place.join(item.place, member.name), tar, member)
        except (tarfile.TarError, EOFError) as error:
            raise InputError(f"torn or no tar file ({error}); {_AGAIN}", kind="corrupt") from None

    def _member(self, name: str, tar: tarfile.TarFile, member: tarfile.TarInfo) -> tuple[str | Failure, Source]:
        most = self._limits.bytes
        content = tar.extractfile(member)
        assert content is not None, "members that are no files are passed over"
        data = content.read(min(member.size, most + 1))
        if len(data) < min(member.size, most + 1):
            raise tarfile.ReadError(f"it ends inside {member.name}")
        return name, data

    def _cells(self, item: Rows, file: Any) -> Iterator[tuple[str | Failure, Source]]:
        number = item.first
        try:
            with contextlib.closing(parquet.ParquetFile(file)) as table:
                groups = range(*item.groups)
                for batch in table.iter_batches(batch_size=_CELLS, row_groups=groups, columns=[item.column]):
                    for cell in batch.column(0).to_pylist():
                        yield self._cell(item, number, cell.get("bytes") if isinstance(cell, dict) else cell)
                        number += 1
        except pyarrow.ArrowException as error:
            raise InputError(f"torn or no Parquet table ({words(error)}); {_AGAIN}", kind="corrupt") from None
        if number != item.first + item.count:
            raise InputError("it has other rows than when the scan began; scan it anew", kind="corrupt")

    @staticmethod
    def _cell(item: Rows, number: int, cell: object) -> tuple[str | Failure, Source]:
        name = place.join(item.place, f"{number}/{item.column}")
        if not isinstance(cell, bytes):
            return Failure(name, "empty", "no bytes in this row; the cell is empty"), ""
        return name, cell
