"""Splits that hold: what belongs together stays together, and a row keeps its split when others come and go.

A key (a subject, a clip, an original, a generator) is hashed with the seed, and the hash alone says its split. Nothing
depends on the order of the rows or on which others there are, so a data set that grows keeps its test rows.

All of it is *ours*: published data sets bring their own splits, which the layouts read, and those are what a published
figure is compared on.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from assay.data.keys import IDENTITY, Ints, Keys, families, first_said, joined, keys
from assay.data.table import TEXT, UNKNOWN, Table, Text, distinct
from assay.errors import ManifestError, unknown
from assay.types import Label

SPLITS = ("train", "tune", "test")
SHARES: Mapping[str, float] = {"train": 0.8, "tune": 0.1, "test": 0.1}
RELATED = ("origin", "video", "subject", "record", "original")
"""Columns of which two rows that share a value show the same thing: what must not stand on both sides of a split."""

_APART = -1


@dataclasses.dataclass(frozen=True)
class Assigned:
    """A table with its new splits, and what became of the rows.

    Args:
        table: every row, with the column split; empty for rows that can stand in none.
        keyed: how many rows took their key from each column, in the order in which the columns were tried; of
            `leave_out`, how many rows have the value.
        left_out: shape (n,), int64: which rows of `table` have no split, because any would be a leak.
        across: how many values of each of `RELATED` stand in more than one split all the same, where any do: the
            columns that were split by do not hold them together.
    """

    table: Table
    keyed: dict[str, int]
    left_out: Ints
    across: dict[str, int]


class Part(NamedTuple):
    """How many rows of a class stand in a split.

    Args:
        split: empty for rows in none.
        label: None where it is not known.
        key: a value of the column that was asked for; empty where none was asked for, or none is known.
        rows: how many.
    """

    split: str
    label: Label | None
    key: str
    rows: int


def assign(
    samples: Table,
    by: str | Sequence[str] = "subject",
    shares: Mapping[str, float] = SHARES,
    seed: int = 0,
    *,
    together: bool = False,
) -> Assigned:
    """Give every row a split by its key.

    A row's key is what the first of `by` that is not empty says, else its origin, its sha256, or its path's last two
    parts. `generator` keys fakes only; reals go on to the next column (`by=("generator", "source")` splits reals by
    source, `by="generator"` by origin).

    A subject of several ("id1+id2") has several keys. Where they fall into different splits the row can stand in none
    without showing one of them on both sides, and is left out: with shares of .8, .1 and .1 a third of face swaps
    between random people. `together` loses none: rows linked by any chain of shared values, of any column of `by`, get
    one split. The price is that a new row may link what was apart, which moves rows to another split; and where
    everybody is linked with everybody, all rows get the same one.

    Args:
        samples: a million rows take seconds.
        by: columns to try in order.
        shares: of the keys (not of the rows), by split; they add up to 1.
        seed: another seed, other splits.

    Raises:
        ManifestError: no such column or split; shares that do not add up to 1.
    """
    columns = list(dict.fromkeys([by] if isinstance(by, str) else by))
    limits = _limits(shares)
    tried = [*columns, *(name for name in IDENTITY if name not in columns)]
    code = np.full(len(samples), _APART, np.int64)
    keyed: dict[str, int] = {}
    open_rows = np.ones(len(samples), np.bool_)
    parts: list[Keys] = []
    for name in tried:
        wanted = open_rows & (samples.labels != Label.REAL) if name == "generator" else open_rows
        found = keys(samples, name, wanted)
        mine = np.unique(found.rows)
        if mine.size:
            keyed[name] = len(mine)
        if together:
            # Every column that is asked for links, not only the first that says something.
            linked = (samples.labels != Label.REAL) if name == "generator" else None
            parts.append(keys(samples, name, linked) if name in columns else found)
        elif mine.size:
            code[mine] = _agreed(found, _splits(found.names, limits, seed))
        open_rows[mine] = False
    if together and len(samples):
        whole = families(joined(parts))
        used, place = np.unique(whole.keys, return_inverse=True)
        code[whole.rows] = _splits(whole.names[used], limits, seed)[place]
    return _assigned(samples, code, keyed)


def leave_out(
    samples: Table,
    shares: Mapping[str, float] = SHARES,
    seed: int = 0,
    related: Sequence[str] = RELATED,
    **column: str | Collection[str],
) -> Assigned:
    """Splits that test on what training has never met: `leave_out(table, generator="sdxl")`.

    - Rows of that value are test rows, and no other row of their classes is: the other fakes are trained and tuned on.
    - A class that the value does not hold (reals, for a generator) is shared out by hash, so that both are tested.
    - Rows that are linked by `related`, by any chain of shared values, stay on one side. Where a real has fakes by
      several generators, its family falls on one side by hash: on the test side its other fakes are left out, on the
      training side the rows of that value are. Give test a larger share (`shares={"train": .5, "test": .5}`) where
      this costs too many.

    Args:
        samples: rows.
        shares: by split, of the families; train and test need one.
        seed: another seed, other splits.
        related: columns that link rows; those that the table lacks are passed over. Leave out a column (such as
            subject, in a set where everybody meets everybody) that links everything.
        column: one column, with the value or values to leave out.

    Raises:
        ManifestError: not one column; no such column, value or split; shares that do not hold; or train or test rows
            of one class only, because there is no other generator, or everything is linked with everything.
    """
    if len(column) != 1:
        raise ManifestError(f"leave one column's value out, such as generator=…, not {len(column)} columns")
    ((name, value),) = column.items()
    values = [value] if isinstance(value, str) else list(value)
    limits = _limits(shares)
    if limits[0] <= 0 or limits[2] - limits[1] <= 0:
        raise ManifestError("to leave something out for the test, train and test both need a share above 0")
    said, place = distinct(samples.column(name))
    texts = said.tolist()
    for wanted in values:
        if not wanted or wanted not in texts:
            raise ManifestError(unknown(name, wanted, set(texts) - {""}))
    held = np.isin(place, [texts.index(wanted) for wanted in values])
    family, names = _families(samples, related)
    count = len(names)
    beside = np.bincount(family, weights=~held, minlength=count) > 0
    with_held = np.bincount(family, weights=held, minlength=count) > 0
    side = _splits(names, limits, seed)
    tested = np.isin(samples.labels, np.unique(samples.labels[held]))
    shared = np.bincount(family, weights=~tested, minlength=count) > 0
    # Families that have nothing to be tested give their test share to train and tune.
    trained = _splits(names, np.minimum(limits / limits[1], 1.0), seed)
    side = np.where(~with_held & ~shared, trained, side)
    side = np.where(with_held & ~beside, 2, side)
    code = side[family]
    other = ~held & (tested | (samples.labels == UNKNOWN))
    code[(held & (code != 2)) | (other & (code == 2))] = _APART
    for number in (0, 2):
        inside = (code == number) & (samples.labels != UNKNOWN)
        if len(np.unique(samples.labels[inside])) < 2:
            linked = ", ".join(part for part in related if part in samples.columns) or "nothing"
            raise ManifestError(
                f"leaving out {name}={', '.join(values)} gives {SPLITS[number]} rows of one class or none (rows are "
                f"linked by {linked}); change the shares or the seed, or name fewer columns that link rows"
            )
    return _assigned(samples, code, {name: int(held.sum())})


def summary(samples: Table, by: str = "") -> list[Part]:
    """How many rows stand where: by split and class, and by the values of a column where one is named.

    Sorted: train, tune, test, none; real, fake, not known; then by value.

    Raises:
        ManifestError: no such column.
    """
    if not len(samples):
        return []
    splits, split_of = distinct(samples.column("split"))
    cells = samples.column(by) if by else np.zeros(len(samples), TEXT)
    values, value_of = distinct(cells)
    label_of = np.where(samples.labels == UNKNOWN, 2, samples.labels).astype(np.int64)
    counts = np.bincount((split_of * 3 + label_of) * len(values) + value_of)
    found = [
        Part(str(splits[split]), (Label.REAL, Label.FAKE, None)[label], str(values[value]), int(counts[place]))
        for place in np.flatnonzero(counts)
        for rest, value in [divmod(int(place), len(values))]
        for split, label in [divmod(rest, 3)]
    ]
    order = {name: number for number, name in enumerate((*SPLITS, ""))}
    return sorted(
        found,
        key=lambda part: (order.get(part.split, 4), part.split, 2 if part.label is None else part.label, part.key),
    )


def across(samples: Table, column: str) -> int:
    """How many values of a column stand in more than one split."""
    return int(((split_counts(samples, keys(samples, column)) > 0).sum(axis=1) > 1).sum())


def split_counts(samples: Table, found: Keys) -> Ints:
    """How many rows of each key stand in train, tune and test, shape (keys, 3)."""
    code = codes(samples.column("split"))[found.rows]
    inside = code >= 0
    flat = np.bincount(found.keys[inside] * 3 + code[inside], minlength=len(found.names) * 3)
    return flat.reshape(-1, 3).astype(np.int64)


def codes(splits: Text) -> Ints:
    """The place of each split in `SPLITS`, -1 for none."""
    names = np.array(SPLITS, TEXT)
    return np.select([splits == name for name in names], [0, 1, 2], _APART).astype(np.int64)


def _families(samples: Table, related: Sequence[str]) -> tuple[Ints, Text]:
    """The family of each row, shape (rows,), and the name of each family."""
    known = set(samples.columns)
    parts = [keys(samples, name) for name in related if name in known]
    alone = np.ones(len(samples), np.bool_)
    for part in parts:
        alone[part.rows] = False
    whole = families(joined([*parts, first_said(samples, IDENTITY, alone)]))
    used, place = np.unique(whole.keys, return_inverse=True)
    return place.astype(np.int64), whole.names[used]


def _limits(shares: Mapping[str, float]) -> npt.NDArray[np.float64]:
    """Where train, tune and test end in [0, 1], shape (3,)."""
    for name in shares:
        if name not in SPLITS:
            raise ManifestError(unknown("split", name, SPLITS))
    wanted = [float(shares.get(name, 0.0)) for name in SPLITS]
    if not all(math.isfinite(share) and share >= 0 for share in wanted) or abs(sum(wanted) - 1) > 1e-6:
        told = ", ".join(f"{name} {share:g}" for name, share in zip(SPLITS, wanted, strict=True))
        raise ManifestError(f"shares are at least 0 and add up to 1, not {sum(wanted):g} ({told})")
    return np.cumsum(wanted)


def _splits(names: Text, limits: npt.NDArray[np.float64], seed: int) -> Ints:
    """The split of each key: its hash as a number in [0, 1), and the first limit above it."""
    drawn = np.array([_draw(name, seed) for name in names.tolist()], np.float64)
    # The shares' sum may lie a rounding below 1; the last split that has a share takes what is above.
    last = int(np.flatnonzero(np.diff(limits, prepend=0.0) > 0)[-1])
    return np.minimum(np.searchsorted(limits, drawn, side="right"), last).astype(np.int64)


def _draw(name: str, seed: int) -> float:
    digest = hashlib.blake2b(f"{seed}\n{name}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)


def _agreed(found: Keys, side: Ints) -> Ints:
    """The split of each row of `found` if all of its keys have it, else none."""
    starts = np.flatnonzero(np.diff(found.rows, prepend=-1))
    mine = side[found.keys]
    low, high = np.minimum.reduceat(mine, starts), np.maximum.reduceat(mine, starts)
    return np.where(low == high, low, _APART)


def _assigned(samples: Table, code: Ints, keyed: dict[str, int]) -> Assigned:
    words: npt.NDArray[Any] = np.array([*SPLITS, ""], TEXT)
    table = samples.with_column("split", words[code])
    known = set(table.columns)
    leaks = {name: across(table, name) for name in RELATED if name in known}
    return Assigned(
        table, keyed, np.flatnonzero(code == _APART).astype(np.int64), {name: n for name, n in leaks.items() if n}
    )
