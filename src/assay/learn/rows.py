"""The rows of a manifest that learning looks at: training and tuning rows, each with a label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.data.manifest import select
from assay.errors import ManifestError
from assay.types import Label, Sample

SPLITS = ("train", "tune")

FEWEST = 2
"""Rows of each class that a split needs."""


def learning_rows(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """The training and the tuning rows, by split; rows of other splits are left alone.

    Raises:
        ManifestError: a row has no label, or a split lacks a class; all faults are listed.
    """
    rows = {split: select(samples, split=split) for split in SPLITS}
    problems = []
    for split, part in rows.items():
        problems += [f"{sample.place}: no label" for sample in part if sample.label is None]
        for label in Label:
            count = sum(sample.label == label for sample in part)
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
    labels = []
    for sample in samples:
        if sample.label is None:
            raise ManifestError(f"{sample.place} has no label; training and tuning rows need one")
        labels.append(int(sample.label))
    return np.array(labels, np.int64)


def described(rows: dict[str, list[Sample]]) -> dict[str, Any]:
    """Counts by split, class and source, and by licence: what a card says of its data."""
    table: dict[str, Any] = {}
    for split, part in rows.items():
        table[split] = {
            label.name.lower(): dict(
                sorted(Counter(sample.generator or sample.source for sample in part if sample.label == label).items())
            )
            for label in Label
        }
    licences = Counter(sample.groups.get("licence", "") or "not recorded" for part in rows.values() for sample in part)
    return table | {"licences": dict(sorted(licences.items()))}
