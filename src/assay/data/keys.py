"""Which rows of a data set belong together, because a column says the same of them.

A key is what a column says of a row: a subject, a clip, an original. A row has none where its cell is empty, and
several where a subject's cell joins them by "+", as in a face swap.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from assay.data.table import TEXT, Table, Text, distinct

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

JOINER = "+"
IDENTITY = ("origin", "sha256", "path")
"""What tells pictures apart where nothing else is said of them, the best first."""

_HASHES = ("origin", "sha256")


@dataclasses.dataclass(frozen=True, slots=True)
class Keys:
    """The keys of rows: row `rows[i]` holds the key `names[keys[i]]`.

    Args:
        names: shape (keys,), sorted, each once.
        rows: shape (pairs,), ascending; a row of several keys stands there several times.
        keys: shape (pairs,).
    """

    names: Text
    rows: Ints
    keys: Ints


def keys(table: Table, column: str, where: Bools | None = None) -> Keys:
    """The keys that a column gives.

    Hashes are compared in lower case. A path's key is its last two parts, so that it stays when the data set moves.

    Args:
        table: of any length; a million rows take about a second.
        column: "subject" may hold several keys a cell; of every other column the whole cell is one.
        where: shape (rows,): the rows to look at; all by default.

    Raises:
        ManifestError: no such column.
    """
    cells = table.column(column)
    asked = cells != ""
    rows = np.flatnonzero(asked if where is None else asked & where)
    cells = cells[rows]
    if column in _HASHES:
        cells = np.strings.lower(cells)
    elif column == "path":
        cells = np.array(["/".join(path.replace("\\", "/").rsplit("/", 2)[-2:]) for path in cells.tolist()], TEXT)
    names, place = distinct(cells)
    found = Keys(names, rows.astype(np.int64), place)
    return _parted(found) if column == "subject" else found


def first_said(table: Table, columns: Sequence[str], where: Bools) -> Keys:
    """What the first of `columns` says of each row of `where` that says anything. Rows without any are not there."""
    open_rows = where.copy()
    parts = []
    for column in columns:
        part = keys(table, column, open_rows)
        open_rows[part.rows] = False
        parts.append(part)
    return joined(parts)


def joined(parts: Sequence[Keys]) -> Keys:
    """The keys of several columns as one; the same text is the same key, whichever column says it."""
    names, place = distinct(np.concatenate([part.names for part in parts]))
    starts = np.cumsum([0, *(len(part.names) for part in parts)])
    rows = np.concatenate([part.rows for part in parts])
    numbers = np.concatenate([place[start + part.keys] for start, part in zip(starts, parts, strict=False)])
    order = np.argsort(rows, kind="stable")
    return Keys(names, rows[order], numbers[order])


def families(found: Keys) -> Keys:
    """The same rows, each with one key: the first in the alphabet of all that it is linked to, by any chain of rows.

    Two rows have one key exactly if a chain of rows, each sharing a key with the next, leads from one to the other.
    """
    if not len(found.rows):
        return found
    label = np.arange(len(found.names))
    starts = np.flatnonzero(np.diff(found.rows, prepend=-1))
    by_key = np.argsort(found.keys, kind="stable")
    key_starts = np.flatnonzero(np.diff(found.keys[by_key], prepend=-1))
    members = found.keys[by_key][key_starts]
    row_place = np.cumsum(np.diff(found.rows, prepend=found.rows[0]) > 0)
    while True:
        of_row = np.minimum.reduceat(label[found.keys], starts)
        of_key = label.copy()
        of_key[members] = np.minimum.reduceat(of_row[row_place][by_key], key_starts)
        # What a label was known by takes the smaller label too, so that long chains halve instead of creeping.
        np.minimum.at(of_key, label, of_key.copy())
        of_key = of_key[of_key]
        if np.array_equal(of_key, label):
            return Keys(found.names, found.rows[starts], of_row.astype(np.int64))
        label = of_key


def repeated_paths(table: Table) -> tuple[Ints, Ints]:
    """Rows that name the file of a row before them, and the first row of that file; "./a" and "b/../a" are "a"."""
    paths = table.column("path")
    odd = np.strings.startswith(paths, ".") | np.strings.endswith(paths, "/")
    for sign in ("//", "/."):
        odd |= np.strings.find(paths, sign) >= 0
    if odd.any():
        paths = paths.copy()
        paths[odd] = np.array([os.path.normpath(path) for path in paths[odd].tolist()], TEXT)
    names, place = distinct(paths)
    first = np.zeros(len(names), np.int64)
    rows = np.arange(len(paths))
    # Of several values for one place the last stays, so the rows are written backwards.
    first[place[::-1]] = rows[::-1]
    again = np.flatnonzero(first[place] != rows)
    return again, first[place[again]]


def _parted(found: Keys) -> Keys:
    """Keys of cells that name several, taken apart; one named twice in a cell counts once."""
    parts = [sorted({part.strip() for part in name.split(JOINER)} - {""}) for name in found.names.tolist()]
    counts = np.array([len(part) for part in parts], np.int64)
    if not counts.size:
        return found
    names, place = distinct(np.array([name for part in parts for name in part], TEXT))
    starts = np.cumsum(counts) - counts
    times = counts[found.keys]
    rows = np.repeat(found.rows, times)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(times) - times, times)
    return Keys(names, rows, place[np.repeat(starts[found.keys], times) + within])
