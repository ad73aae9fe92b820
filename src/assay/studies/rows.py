"""Which rows an arm is trained on, and which ones it is tested on.

The manifest's test rows are never trained or tuned on by any arm, and all arms are tested on them: that is what makes
paired comparisons possible.
"""

from __future__ import annotations

import numpy as np

from assay.data.manifest import select
from assay.data.order import permutation
from assay.data.split import leave_out
from assay.data.table import UNKNOWN, Table, distinct
from assay.errors import ManifestError
from assay.types import Label

SHARES = {"train": 0.9, "test": 0.1}
"""Where the value left out shares families with other rows, and for the class it does not hold (`leave_out`)."""

TRIES = 8

FEWEST = 20
"""Training and tuning pictures that a value needs for an arm without it to tell something."""

QUICK = {"train": 48, "tune": 24, "test": 32}
"""Rows of each class that a quick study keeps of a split."""


def without(table: Table, column: str, value: str, seed: int = 0) -> Table:
    """The manifest with every row of a value taken out of training and tuning.

    `assay.data.split.leave_out` says which training and tuning rows become test rows, so that what shows the same thing
    stays on one side; rows that stay keep the split that the manifest gave them, and its test rows stay test rows.

    Raises:
        ManifestError: no training or tuning row has the value, or nothing is left to train on.
    """
    split = table.column("split")
    mine = np.flatnonzero((split == "train") | (split == "tune"))
    learning = table[mine]
    given = _left_out(learning, column, value, seed).column("split")
    new = split.copy()
    new[mine] = np.where((given == "test") | (given == ""), given, learning.column("split"))
    return table.with_column("split", new)


def _left_out(learning: Table, column: str, value: str, seed: int) -> Table:
    # A tenth of few families can be none at all; another hash then shares them out, the same one each time.
    for attempt in range(TRIES):
        try:
            return leave_out(learning, SHARES, seed * TRIES + attempt, **{column: value}).table
        except ManifestError:
            if attempt == TRIES - 1:
                raise
    raise AssertionError


def values_of(table: Table, column: str, fewest: int = FEWEST) -> list[str]:
    """Values of a column that at least `fewest` training and tuning rows have, the most frequent first.

    Raises:
        ManifestError: the manifest has no such column.
    """
    split = table.column("split")
    cells = table.column(column)[(split == "train") | (split == "tune")]
    if not len(cells):
        return []
    names, place = distinct(cells)
    counts = np.bincount(place, minlength=len(names)).tolist()
    found = [(-count, str(name)) for name, count in zip(names, counts, strict=True) if name != "" and count >= fewest]
    return [name for _, name in sorted(found)]


def test_rows(table: Table) -> Table:
    """The labelled rows of split "test".

    Raises:
        ManifestError: a class is absent.
    """
    tested = select(table, split="test")
    tested = tested[np.flatnonzero(tested.labels != UNKNOWN)]
    for label in Label:
        if not (tested.labels == label).any():
            raise ManifestError(
                f"no {label.name.lower()} row has the split test, so there is nothing to measure on; run: "
                "assay data split MANIFEST"
            )
    return tested


def few(table: Table, most: dict[str, int] = QUICK) -> Table:
    """At most so many rows of each split and class, the same ones each time."""
    split = table.column("split")
    kept = []
    for name, count in most.items():
        for label in Label:
            rows = np.flatnonzero((split == name) & (table.labels == label))
            kept.append(rows[permutation(len(rows), "study", name, int(label))[:count]])
    return table[np.sort(np.concatenate(kept))]
