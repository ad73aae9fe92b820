"""Where a picture is: a file, or an address inside an archive that need not be unpacked.

    photo.jpg                        a file
    shard-000001.tar::000123.jpg     a member of a tar file (uncompressed, so that it can be reached without the rest)
    train-0000.parquet::17/image     row 17 (from 0) of a Parquet table, a cell of bytes or a struct with `bytes`

A file whose own name holds "::" is that file: an address is only looked for where there is none.
"""

from __future__ import annotations

import functools
import os
import tarfile
from pathlib import Path
from typing import Any

from assay.errors import InputError, MissingExtra

SEPARATOR = "::"
TABLES = (".parquet",)

_ARCHIVES = 32
"""Tar files whose lists of members a process keeps."""

_GROUPS = 4
"""Row groups of Parquet tables whose cells a process keeps: neighbours are read together."""


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


def _found(archive: str, member: str) -> tuple[int, int]:
    status = os.stat(archive)  # noqa: PTH116 (its ValueError for a NUL is caught above)
    offsets = _members(archive, status.st_size, status.st_mtime_ns)
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


def _cell(archive: str, member: str) -> tuple[Any, int]:
    """The column's chunk of one row group, and the row's place in it."""
    row, separator, column = member.partition("/")
    if not separator or not row.isdecimal():
        raise InputError(f"{member!r} names no cell; write ROW/COLUMN after {archive}{SEPARATOR}", kind="missing")
    status = os.stat(archive)  # noqa: PTH116
    starts = _groups(archive, status.st_size, status.st_mtime_ns)
    for group, (start, count) in enumerate(starts):
        if int(row) < start + count:
            return _chunk(archive, status.st_size, status.st_mtime_ns, group, column), int(row) - start
    raise InputError(f"{archive} has no row {row}; it ends at {sum(starts[-1]) - 1 if starts else 0}", kind="missing")


def _cell_bytes(archive: str, member: str) -> bytes:
    chunk, row = _cell(archive, member)
    value = chunk[row].as_py()
    if isinstance(value, dict):
        value = value.get("bytes")
    if not isinstance(value, bytes):
        raise InputError(f"{archive} holds no bytes at {member}; the cell is empty or of another type", kind="empty")
    return value


@functools.lru_cache(maxsize=_ARCHIVES)
def _groups(archive: str, size: int, mtime: int) -> list[tuple[int, int]]:
    """First row and number of rows of each row group."""
    parquet = _parquet("a picture in a Parquet table")
    try:
        metadata = parquet.ParquetFile(archive).metadata
    except Exception as error:
        raise _no_table(archive, error) from None
    counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    return [(sum(counts[:group]), count) for group, count in enumerate(counts)]


@functools.lru_cache(maxsize=_GROUPS)
def _chunk(archive: str, size: int, mtime: int, group: int, column: str) -> Any:
    parquet = _parquet("a picture in a Parquet table")
    try:
        file = parquet.ParquetFile(archive)
        if column not in file.schema_arrow.names:
            raise InputError(f"{archive} has no column {column!r}; it has {', '.join(file.schema_arrow.names)}")
        return file.read_row_group(group, columns=[column]).column(column)
    except InputError:
        raise
    except Exception as error:
        raise _no_table(archive, error) from None


def _no_table(archive: str, error: Exception) -> InputError:
    if isinstance(error, OSError) and error.errno is not None:
        return _cannot(archive, error)
    words = " ".join(str(error).split())[:100]
    return InputError(f"{archive} is torn or no Parquet table ({words}); fetch it again", kind="corrupt")


def _cannot(archive: str, error: Exception) -> InputError:
    if isinstance(error, FileNotFoundError | NotADirectoryError | ValueError):
        return InputError(f"{archive}: no such file; it was moved, removed or misspelt", kind="missing")
    if isinstance(error, PermissionError):
        return InputError(f"{archive}: no permission to read it; ask its owner", kind="permission")
    if isinstance(error, IsADirectoryError):
        return InputError(f"{archive}: a folder, not a file; give the files in it", kind="not_a_file")
    words = getattr(error, "strerror", None) or error
    return InputError(f"{archive}: could not be read ({words}); check the disk and try again", kind="unreadable")
