"""The rows of a manifest that learning looks at: training and tuning rows, each with a label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.data.manifest import select
from assay.data.table import UNKNOWN, Table, distinct
from assay.errors import ManifestError
from assay.types import Label, Sample

SPLITS = ("train", "tune")

SECONDARY = "secondary"
"""The group that marks a row of the secondary data set, with "1"."""

FEWEST = 2
"""Rows of each class that a split needs."""


def learning_rows(samples: Iterable[Sample]) -> dict[str, Table]:
    """The training and the tuning rows, by split; rows of other splits are left alone.

    Raises:
        ManifestError: a row has no label, or a split lacks a class; all faults are listed.
    """
    table = Table.of(samples)
    rows = {split: select(table, split=split) for split in SPLITS}
    problems = []
    for split, part in rows.items():
        problems += [f"{place}: no label" for place in part.column("path")[part.labels == UNKNOWN]]
        for label in Label:
            count = int((part.labels == label).sum())
            if count < FEWEST:
                problems.append(
                    f"split {split!r} has {count} {label.name.lower()} rows; training needs {FEWEST} or more of each "
                    "class"
                )
    if problems:
        raise ManifestError("cannot train on this manifest:\n  " + "\n  ".join(problems[:20]), problems)
    return rows


def labels_of(samples: Sequence[Sample]) -> npt.NDArray[np.int64]:
    """Labels, (samples,), 1 = fake.

    Raises:
        ManifestError: a sample has none.
    """
    table = Table.of(samples)
    for place in table.column("path")[table.labels == UNKNOWN]:
        raise ManifestError(f"{place} has no label; training and tuning rows need one")
    return table.labels.astype(np.int64)


def described(rows: Mapping[str, Table]) -> dict[str, Any]:
    """Counts by split, class and source, and by licence: what a card says of its data."""
    told: dict[str, Any] = {}
    licences: Counter[str] = Counter()
    for split, part in rows.items():
        told[split] = {}
        for label in Label:
            mine = part[part.labels == label]
            generator = mine.column("generator")
            told[split][label.name.lower()] = _counts(np.where(generator == "", mine.column("source"), generator))
        if "licence" in part.groups:
            licence = part.column("licence")
            licences.update(_counts(np.where(licence == "", "not recorded", licence)))
        else:
            licences["not recorded"] += len(part)
    return told | {"licences": dict(sorted(licences.items()))}


def _counts(column: npt.NDArray[Any]) -> dict[str, int]:
    names, place = distinct(column)
    counts = np.bincount(place, minlength=len(names))
    return {str(name): int(count) for name, count in zip(names, counts, strict=True)}
