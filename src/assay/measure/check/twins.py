"""Pictures that look the same: a perceptual hash finds copies that were re-encoded, resized or brightened.

Rows that share an origin, bytes or a clip are known to belong together and are told of as such; here is only what
nothing in the table gives away. All of it is *ours*.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from assay.data.keys import Ints, families, joined, keys
from assay.data.split import SPLITS, codes
from assay.data.table import Table
from assay.image.fingerprint import near_pairs_in_parts
from assay.measure.check.findings import Finding, Severity
from assay.measure.check.pictures import Seen
from assay.types import Label

Hashes = npt.NDArray[np.uint64]

_NOBODY = np.iinfo(np.int64).max
"""In place of a row where there is none: later than every row."""


def findings(samples: Table, seen: Seen, near: int, related: Sequence[str]) -> Iterator[Finding]:
    """Pictures that look the same in two splits, in both classes, and within a split and class.

    Args:
        samples: with the hashes of the files.
        seen: what looking left.
        near: bits up to which two pictures look the same.
        related: columns whose values must not stand in two splits; where "video" is one, frames of a clip are known
            to belong together.
    """
    rows = np.flatnonzero(seen.hashable)
    if not rows.size:
        return
    identity = _identity(samples, related)
    split = codes(samples.column("split"))[rows]
    label = samples.labels[rows].astype(np.int64)
    path, splits, numbers = samples.column("path"), samples.column("split"), samples.row_numbers
    hashes, place = np.unique(seen.phash[rows], return_inverse=True)

    # A class of a split is what a figure's n counts; the rows of no split are one more.
    group = (split + 1) * 3 + label + 1
    reach = _reach(hashes, place, group, (len(SPLITS) + 1) * 3, rows, identity, near)
    # Each row of a later split, beside the first row of the first split that holds its like.
    other = np.full(len(rows), _NOBODY)
    for number in range(len(SPLITS) - 1, -1, -1):
        start = (number + 1) * 3
        twin = _unlike(reach[place, start : start + 3].reshape(-1, 6), rows, identity)
        other = np.where((twin < _NOBODY) & (split > number), twin, other)
    across = np.flatnonzero(other < _NOBODY)
    if across.size:
        mine, twin = rows[across], other[across]
        bits = np.bitwise_count(seen.phash[mine] ^ seen.phash[twin])
        yield Finding(
            "near_duplicate_across_splits",
            Severity.ERROR,
            f"pictures that look the same (at most {near} of 64 bits apart) stand in several splits, and no origin "
            "says that they are one; keep one side, or give them one origin and split by it",
            numbers[mine],
            numbers[twin],
            [
                f"{path[a]} ({splits[a]}) and {path[b]} ({splits[b]}), {apart} bits apart"
                for a, b, apart in zip(mine.tolist(), twin.tolist(), bits.tolist(), strict=True)
            ],
        )
    fakes, reals = np.flatnonzero(label == Label.FAKE), np.flatnonzero(label == Label.REAL)
    first = _two_first(place[reals], rows[reals], identity, len(hashes))
    twin = _unlike(first[place[fakes]], rows[fakes], identity)
    alike = twin < _NOBODY
    if alike.any():
        mine, twin = rows[fakes[alike]], twin[alike]
        yield Finding(
            "looks_real_and_fake",
            Severity.WARNING,
            "a fake and a real look the same to the last bit of their perceptual hash, and no origin ties them: if "
            "the fake was made from the real, give both one origin; if not, a label is wrong",
            numbers[mine],
            numbers[twin],
            path[mine].tolist(),
        )
    twin = _unlike(reach[place, group], rows, identity)
    again = np.flatnonzero(twin < rows)
    if again.size:
        mine, twin = rows[again], twin[again]
        yield Finding(
            "near_duplicate_within_split",
            Severity.NOTE,
            f"rows look the same (at most {near} of 64 bits apart) as one before them of their split and class: they "
            "count twice, so n is smaller than it seems and intervals come out too narrow; keep one, or give them one "
            "origin",
            numbers[mine],
            numbers[twin],
            path[mine].tolist(),
        )


def _identity(samples: Table, related: Sequence[str]) -> Ints:
    """A number a row, the same for rows that are known to show one thing; shape (rows,)."""
    tied = ["origin", "sha256", *(["video"] if "video" in related and "video" in samples.columns else [])]
    known = families(joined([keys(samples, column) for column in tied]))
    identity = np.arange(len(known.names), len(known.names) + len(samples))
    identity[known.rows] = known.keys
    return identity


def _reach(hashes: Hashes, place: Ints, group: Ints, groups: int, rows: Ints, identity: Ints, near: int) -> Ints:
    """For each hash and group the two first rows of different identity that look like it, (hashes, groups, 2).

    Two are enough: of whatever identity a row is, one of them has another, and is the first that has.

    Args:
        hashes: distinct, shape (hashes,).
        place, group, rows: shape (pictures,): which of `hashes` each has, its group, its row.
        identity: shape (rows of the table,).
    """
    own = _two_first(place * groups + group, rows, identity, len(hashes) * groups).reshape(-1, groups, 2)
    found = own.copy()
    for pairs in near_pairs_in_parts(hashes, near):
        ends = np.concatenate([pairs, pairs[:, ::-1]])
        for number in range(groups):
            some = own[ends[:, 1], number, 0] < _NOBODY
            touched, short = np.unique(ends[some, 0], return_inverse=True)
            offered = np.concatenate([own[ends[some, 1], number], found[touched, number]])
            cells = np.concatenate([short, np.arange(len(touched))])
            there = offered < _NOBODY
            found[touched, number] = _two_first(
                np.broadcast_to(cells[:, None], there.shape)[there], offered[there], identity, len(touched)
            )
    return found


def _two_first(cell: Ints, rows: Ints, identity: Ints, cells: int) -> Ints:
    """Of each cell the first row, and the first of another identity, shape (cells, 2)."""
    found = np.full((cells, 2), _NOBODY)
    # Of several values for one place the last stays, so the rows are written backwards.
    order = np.argsort(-rows, kind="stable")
    cell, rows = cell[order], rows[order]
    found[cell, 0] = rows
    other = identity[rows] != identity[found[cell, 0]]
    found[cell[other], 1] = rows[other]
    return found


def _unlike(others: Ints, rows: Ints, identity: Ints) -> Ints:
    """Of each line of `others`, (n, k), the first row whose identity is not that of the row in `rows`, (n,)."""
    there = others < _NOBODY
    unlike = there & (identity[np.where(there, others, 0)] != identity[rows][:, None])
    first: Ints = np.where(unlike, others, _NOBODY).min(axis=1)
    return first
