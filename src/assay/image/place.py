"""Where a picture is: a file, or an address inside an archive that need not be unpacked.

    photo.jpg                        a file
    shard-000001.tar::000123.jpg     a member of a tar file (uncompressed, so that it can be reached without the rest)
    train-0000.parquet::17/image     row 17 (from 0) of a Parquet table, a cell of bytes or a struct with `bytes`

A file whose own name holds "::" is that file: an address is only looked for where there is none.

What a reading costs:

- a file: itself;
- a member: an opening, a seek and its own bytes, in any order, once a process has listed the tar (its headers);
- a cell: **its column of the whole row group**, since Parquet packs those cells together. The row groups read last are
  kept, so cells are cheap where neighbours follow each other (`neighbourhoods` tells who they are), and as dear as a
  row group each where they do not. Memory goes with the size of row groups: a table that was written as a single one is
  better written anew with some hundred rows in each.
"""

from __future__ import annotations

import bisect
import collections
import concurrent.futures
import dataclasses
import functools
import itertools
import os
import tarfile
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from assay.errors import InputError, MissingExtra, words

SEPARATOR = "::"
TABLES = (".parquet",)

_ARCHIVES = 32
"""Tar files whose lists of members a process keeps."""

_FOOTERS = 1 << 14
"""Parquet tables whose row groups a process remembers: where they begin, not what they hold."""

_GROUPS = 3
"""Row groups whose cells a process keeps in any case: of two readings at once, while one goes on to its next."""

_HELD = 256 << 20
"""Bytes of cells up to which more row groups than those are kept."""

_DIGITS = 18
"""Of a row's number: more is no row of any table."""

_Version = tuple[str, int, int]
"""An archive as it is now: path, size in bytes, time of change in ns."""


def join(archive: str | os.PathLike[str], member: str) -> str:
    """The address of a member (of a tar file) or a cell ("ROW/COLUMN", of a Parquet table)."""
    return f"{os.fspath(archive)}{SEPARATOR}{member}"


def split(place: str) -> tuple[str, str]:
    """The file that has to be opened, and what is wanted inside it: empty for a plain file."""
    archive, separator, member = place.partition(SEPARATOR)
    if not separator or not archive or not member or os.path.lexists(place):
        return place, ""
    return archive, member


def stat(place: str) -> tuple[int, int]:
    """Size in bytes, and when the file that holds it was last changed, in ns.

    Raises:
        InputError: there is no such file or member. Of a Parquet cell only the row and the column are looked for: its
            size is then that of the table.
    """
    archive, member = split(place)
    try:
        status = Path(archive).stat()
        if not member:
            if not Path(archive).is_file():
                raise InputError("not a file; give the files in it", kind="not_a_file")
            return status.st_size, status.st_mtime_ns
        if archive.lower().endswith(TABLES):
            _cell(archive, member)
            return status.st_size, status.st_mtime_ns
        return _found(archive, member)[1], status.st_mtime_ns
    except (OSError, ValueError) as error:
        raise _cannot(archive, error) from None


def read(place: str, limit: int | None = None) -> bytes:
    """The bytes of a file, a member or a cell.

    Args:
        place: path or address.
        limit: at most so many bytes are read of a file or member, so that a caller who wants no more than n asks for
            n + 1 and looks at the length. None reads all.

    Raises:
        InputError: nothing is there, or the archive cannot be read (kinds missing, permission, not_a_file, unreadable,
            corrupt, unsupported, needs_extra).
    """
    archive, member = split(place)
    try:
        if not member:
            with Path(archive).open("rb") as file:
                return file.read(-1 if limit is None else limit)
        if archive.lower().endswith(TABLES):
            return _cell_bytes(archive, member)
        offset, size = _found(archive, member)
        with Path(archive).open("rb") as file:
            file.seek(offset)
            data = file.read(size if limit is None else min(size, limit))
    except (OSError, ValueError) as error:
        raise _cannot(archive, error) from None
    if limit is None and len(data) < size:
        raise InputError(f"{archive} ends inside {member}; fetch the archive again", kind="truncated")
    return data


def neighbourhoods(places: Iterable[str]) -> list[int]:
    """Which places are read together: the cells, of any column, of one row group of a Parquet table.

    Of each table only the footer is read.

    Returns:
        A number for each place, from 0 in the order in which they come up, the same for neighbours. -1 for what has no
        neighbours (files and members of tar files) and for cells of which it cannot be told (`read` says why).
    """
    numbers: dict[tuple[str, int], int] = {}
    tables: dict[str, tuple[int, ...]] = {}
    found = []
    for where in places:
        # A file that is called like a cell is taken for one here: it is read none the worse.
        archive, _, member = where.partition(SEPARATOR)
        group = -1
        if member and archive.lower().endswith(TABLES):
            if archive not in tables:
                tables[archive] = _ends_or_none(archive)
            group = _group(tables[archive], member.partition("/")[0])
        found.append(-1 if group < 0 else numbers.setdefault((archive, group), len(numbers)))
    return found


def _found(archive: str, member: str) -> tuple[int, int]:
    offsets = _members(*_version(archive))
    if member not in offsets:
        raise InputError(f"{archive} has no member {member!r}; list it with tar -tf", kind="missing")
    return offsets[member]


@functools.lru_cache(maxsize=_ARCHIVES)
def _members(archive: str, size: int, mtime: int) -> dict[str, tuple[int, int]]:
    """Offset and size in bytes of each regular member. Size and time of the archive are there for the cache alone."""
    offsets = {}
    try:
        with tarfile.open(archive, "r:") as tar:
            for member in tar:
                if member.isreg() and not member.issparse():
                    offsets[member.name] = (member.offset_data, member.size)
    except tarfile.CompressionError as error:
        raise InputError(f"{archive}: {error}; decompress it first", kind="unsupported") from None
    except (tarfile.TarError, EOFError) as error:
        raise InputError(
            f"{archive} is torn or no tar file ({error}); a compressed one must be decompressed first", kind="corrupt"
        ) from None
    return offsets


def _parquet(what: str) -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise InputError(str(MissingExtra(what, "data")), kind="needs_extra") from None
    return pyarrow.parquet


@dataclasses.dataclass(frozen=True)
class _Footer:
    """What a Parquet table says of itself: where each row group ends (row, exclusive), and its columns."""

    ends: tuple[int, ...]
    columns: tuple[str, ...]


def _cell(archive: str, member: str) -> tuple[_Version, int, str, int]:
    """The table, the number of the row group, the column, and the row's place in the group."""
    row, separator, column = member.partition("/")
    if not separator or not row.isdecimal():
        raise InputError(f"{member!r} names no cell; write ROW/COLUMN after {archive}{SEPARATOR}", kind="missing")
    version = _version(archive)
    footer = _footer(*version)
    group = _group(footer.ends, row)
    if group < 0:
        end = footer.ends[-1] if footer.ends else 0
        raise InputError(f"{archive} has no row {row}; it holds {end:,}, counted from 0", kind="missing")
    if column not in footer.columns:
        raise InputError(f"{archive} has no column {column!r}; it has {', '.join(footer.columns)}", kind="missing")
    return version, group, column, int(row) - (footer.ends[group - 1] if group else 0)


def _group(ends: tuple[int, ...], row: str) -> int:
    """The row group that a row lies in; -1 where there is none."""
    if not row.isdecimal() or len(row) > _DIGITS:
        return -1
    group = bisect.bisect_right(ends, int(row))
    return group if group < len(ends) else -1


def _cell_bytes(archive: str, member: str) -> bytes:
    version, group, column, row = _cell(archive, member)
    value = _cells.column(version, group, column)[row].as_py()
    if isinstance(value, dict):
        value = value.get("bytes")
    if not isinstance(value, bytes):
        raise InputError(f"{archive} holds no bytes at {member}; the cell is empty or of another type", kind="empty")
    return value


def _version(archive: str) -> _Version:
    status = os.stat(archive)  # noqa: PTH116 (its ValueError for a NUL is caught above)
    return archive, status.st_size, status.st_mtime_ns


def _ends_or_none(archive: str) -> tuple[int, ...]:
    try:
        return _footer(*_version(archive)).ends
    except (InputError, OSError, ValueError):
        return ()


@functools.lru_cache(maxsize=_FOOTERS)
def _footer(archive: str, size: int, mtime: int) -> _Footer:
    """Size and time of the table are there for the cache alone."""
    parquet = _parquet("a picture in a Parquet table")
    try:
        with parquet.ParquetFile(archive) as file:
            counts = [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]
            return _Footer(tuple(itertools.accumulate(counts)), tuple(file.schema_arrow.names))
    except Exception as error:
        raise _no_table(archive, error) from None


def _chunk(archive: str, group: int, column: str) -> Any:
    """The cells of one column and row group, an Arrow array in memory."""
    parquet = _parquet("a picture in a Parquet table")
    try:
        with parquet.ParquetFile(archive) as file:
            return file.read_row_group(group, columns=[column]).column(column)
    except Exception as error:
        raise _no_table(archive, error) from None


class _Columns:
    """The columns of one row group that somebody asked for."""

    def __init__(self) -> None:
        self.chunks: dict[str, concurrent.futures.Future[Any]] = {}
        self.bytes = 0


class _Cells:
    """The row groups read last. Each column of them is read by one thread, and others that want it wait."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self._lock = threading.Lock()
        self._held: collections.OrderedDict[tuple[_Version, int], _Columns] = collections.OrderedDict()

    def column(self, version: _Version, group: int, column: str) -> Any:
        key = version, group
        with self._lock:
            columns = self._held.setdefault(key, _Columns())
            self._held.move_to_end(key)
            chunk = columns.chunks.get(column)
            ours = chunk is None
            if chunk is None:
                chunk = columns.chunks[column] = concurrent.futures.Future()
        if ours:
            try:
                cells = _chunk(version[0], group, column)
            except BaseException as error:
                with self._lock:
                    del columns.chunks[column]
                chunk.set_exception(error)
            else:
                with self._lock:
                    columns.bytes += cells.nbytes
                    while len(self._held) > _GROUPS and sum(held.bytes for held in self._held.values()) > _HELD:
                        self._held.popitem(last=False)
                chunk.set_result(cells)
        return chunk.result()


_cells = _Cells()
if hasattr(os, "register_at_fork"):
    # A thread that reads for the others is not there in the child, nor whoever holds the lock.
    os.register_at_fork(after_in_child=_cells.clear)


def _no_table(archive: str, error: Exception) -> InputError:
    if isinstance(error, OSError) and error.errno is not None:
        return _cannot(archive, error)
    return InputError(f"{archive} is torn or no Parquet table ({words(error)}); fetch it again", kind="corrupt")


def _cannot(archive: str, error: Exception) -> InputError:
    if isinstance(error, FileNotFoundError | NotADirectoryError | ValueError):
        return InputError(f"{archive}: no such file; it was moved, removed or misspelt", kind="missing")
    if isinstance(error, PermissionError):
        return InputError(f"{archive}: no permission to read it; ask its owner", kind="permission")
    if isinstance(error, IsADirectoryError):
        return InputError(f"{archive}: a folder, not a file; give the files in it", kind="not_a_file")
    told = getattr(error, "strerror", None) or error
    return InputError(f"{archive}: could not be read ({told}); check the disk and try again", kind="unreadable")
