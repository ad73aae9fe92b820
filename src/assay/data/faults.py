"""What can be wrong with the rows of a data set, found before any work starts.

Each function looks at whole columns and gives one line a fault, with the row's number.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.data import keys
from assay.data.keys import Bools, Ints
from assay.data.table import Table, Text, distinct
from assay.errors import InputError, unknown
from assay.image import place

HASHES = ("origin", "sha256")

_HASH = re.compile(r"[0-9a-fA-F]{64}\Z")
_HEAD = 4096


def of_values(name: str, column: Text, known: dict[str, Any]) -> dict[int, str]:
    """Cells of a column that holds one of a few words, and does not: index to fault."""
    words, places = distinct(column)
    bad = {i: unknown(name, str(word), [w for w in known if w]) for i, word in enumerate(words) if word not in known}
    if not bad:
        return {}
    return {int(row): bad[int(places[row])] for row in np.flatnonzero(np.isin(places, list(bad)))}


def of_hash(name: str, column: Text) -> dict[int, str]:
    """Cells that are no SHA-256."""
    return {
        row: f"{name} must be 64 hexadecimal digits, not {cell!r}"
        for row, cell in enumerate(column.tolist())
        if cell and not _HASH.match(cell)
    }


def of_frames(column: Text) -> dict[int, str]:
    """Cells that are no whole number."""
    bad = (column != "") & ~np.strings.isdecimal(column)
    return {int(row): f"frame must be a whole number from 0, not {column[row]!r}" for row in np.flatnonzero(bad)}


def of_paths(column: Text) -> dict[int, str]:
    """Cells that name no file."""
    faults = {int(row): "no path" for row in np.flatnonzero(column == "")}
    return faults | {row: "the path holds a NUL byte" for row, path in enumerate(column.tolist()) if "\0" in path}


def repeated_paths(table: Table) -> list[str]:
    """Rows that name the file of a row before them."""
    paths, numbers = table.column("path"), table.row_numbers
    return [
        f"row {numbers[row]}: the same path as row {numbers[first]}: {paths[row]}"
        for row, first in zip(*keys.repeated_paths(table), strict=True)
    ]


def shared_across_splits(table: Table, name: str) -> list[str]:
    """Test rows that share a column's value with a training or tuning row."""
    return _shared(table, table.column(name), name)


def _shared(table: Table, keys: Text, what: str) -> list[str]:
    splits = table.column("split")
    named = np.flatnonzero((keys != "") & (splits != ""))
    if not named.size:
        return []
    _, group = distinct(keys[named])
    tested = splits[named] == "test"
    seen = np.full(int(group.max()) + 1, -1, np.int64)
    learned = np.flatnonzero(~tested)[::-1]
    seen[group[learned]] = named[learned]
    return [
        f"row {table.row_numbers[named[i]]}: a test row with the same {what} as row {table.row_numbers[other]} "
        f"({splits[other]})"
        for i in np.flatnonzero(tested)
        if (other := seen[group[i]]) >= 0
    ]


def of_files(table: Table) -> list[str]:
    """Rows whose file is not there, and test rows with the bytes of a training or tuning row."""
    problems = []
    sizes = np.full(len(table), -1, np.int64)
    for row, path in enumerate(table.column("path").tolist()):
        try:
            sizes[row] = place.stat(path)[0]
        except InputError as error:
            state = {"missing": "no such file", "not_a_file": "not a file"}.get(error.kind)
            told = f"{state}: {path}" if state else f"cannot be looked at ({error}): {path}"
            problems.append(f"row {table.row_numbers[row]}: {told}")
    return problems + _twins_across_splits(table, sizes)


def _twins_across_splits(table: Table, sizes: Ints) -> list[str]:
    """Test files with the bytes of a training or tuning file.

    Only files of equal size are looked at, and of these the head first: files of equal size are common, files of equal
    head are not. Rows with a hash are the business of `shared_across_splits`.
    """
    tested = table.column("split") == "test"
    open_rows = (sizes >= 0) & (table.column("split") != "") & (table.column("sha256") == "")
    paths = table.column("path")
    digests = np.zeros(len(table), paths.dtype)
    for alike in _across(np.flatnonzero(open_rows), sizes, tested):
        heads = np.array([_digest(str(paths[row]), whole=False) for row in alike])
        for twins in _across(alike, heads, tested[alike], local=True):
            digests[twins] = [_digest(str(paths[row]), whole=True) for row in twins]
    return _shared(table, digests, "bytes")


def _across(rows: Ints, keys: npt.NDArray[Any], tested: Bools, *, local: bool = False) -> Iterator[Ints]:
    """Groups of rows of one key that stand on both sides of the test split.

    `keys` and `tested` are of all rows, or of `rows` alone where `local`.
    """
    mine, test = (keys, tested) if local else (keys[rows], tested[rows])
    order = np.argsort(mine, kind="stable")
    for group in np.split(order, np.flatnonzero(mine[order][1:] != mine[order][:-1]) + 1):
        if group.size > 1 and test[group].any() and not test[group].all():
            yield rows[np.sort(group)]


def _digest(path: str, *, whole: bool) -> str:
    try:
        archive, member = place.split(path)
        if member:
            return hashlib.sha256(place.read(path, None if whole else _HEAD)).hexdigest()
        with Path(archive).open("rb") as file:
            if whole:
                return hashlib.file_digest(file, "sha256").hexdigest()
            return hashlib.sha256(file.read(_HEAD)).hexdigest()
    except (OSError, InputError):
        # A file that cannot be read is the judging's to report; here it is only unlike every other.
        return f"unreadable {path}"
