"""The rows that a recipe trains on: a data set's own, those of a secondary one, and what derivations make of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from assay.data import derivations
from assay.data.derive import derive
from assay.data.manifest import select
from assay.data.table import Table, concatenated
from assay.errors import ManifestError
from assay.learn.progress import Progress
from assay.learn.rows import FEWEST, SECONDARY
from assay.types import Label, Sample


def with_secondary(rows: Mapping[str, Table], secondary: Iterable[Sample], first: Table) -> dict[str, Table]:
    """The rows with those of a secondary data set among the training rows, marked in the group "secondary".

    Its rows of split "train" are taken; all of them where it has no splits. It tunes nothing and tests nothing.

    Args:
        rows: training and tuning rows of the first data set, by split.
        secondary: its rows, labelled.
        first: all rows of the first data set.

    Raises:
        ManifestError: it has no such rows, some have no label, or are pictures (by hash or origin) that the first one
            tunes or tests on.
    """
    table = Table.of(secondary)
    splits = table.column("split")
    mine = table if not (splits != "").any() else select(table, split="train")
    if not len(mine):
        raise ManifestError("the secondary data set has no row of split train; leave its splits empty to take all rows")
    unlabelled = [sample.place for sample in mine if sample.label is None]
    held = _identities(first[np.flatnonzero(first.column("split") != "train")])
    shared = [sample.place for sample in mine if {sample.sha256, sample.origin} & held]
    problems = [f"{place}: no label" for place in unlabelled]
    problems += [f"{place}: a picture that the first data set tunes or tests on" for place in shared]
    if problems:
        raise ManifestError(
            "cannot train on the secondary data set; mend or leave out:\n  " + "\n  ".join(problems[:20]), problems
        )
    marked = mine.with_column("split", np.full(len(mine), "train")).with_column(SECONDARY, np.full(len(mine), "1"))
    return {**rows, "train": concatenated([rows["train"], marked])}


def imbalanced(rows: Mapping[str, Table], ratio: float) -> dict[str, Table]:
    """The rows, those of training with `ratio` fakes for every real: of the class that there is too much of, rows are
    left out. Which ones follows from their names, so that all seeds leave out the same.

    Raises:
        ManifestError: fewer than `FEWEST` rows of a class would be left.
    """
    train = rows["train"]
    classes = {label: np.flatnonzero(train.labels == label) for label in Label}
    reals, fakes = len(classes[Label.REAL]), len(classes[Label.FAKE])
    most = {Label.REAL: round(fakes / ratio), Label.FAKE: round(reals * ratio)}
    names = np.array([hashlib.sha256(Path(place).name.encode()).hexdigest() for place in train.column("path")])
    kept = []
    for label, mine in classes.items():
        count = min(len(mine), most[label])
        if count < FEWEST:
            raise ManifestError(
                f"{ratio:g} fakes for every real would leave {count} {label.name.lower()} rows to train on; give "
                "imbalance another value"
            )
        kept.append(mine[np.argsort(names[mine], kind="stable")[:count]])
    return {**rows, "train": train[np.sort(np.concatenate(kept))]}


def _identities(table: Table) -> set[str]:
    return {*table.column("sha256").tolist(), *table.column("origin").tolist()} - {""}


def derived(
    rows: Mapping[str, Table], names: Iterable[str], folder: Path, *, seed: int, workers: int
) -> dict[str, Table]:
    """Training rows after derivations with their own defaults, in order; other rows stay as they are.

    Args:
        names: as `assay.data.derivations.find` knows them.
        folder: where copies are kept; runs on the same rows share them, and go on where one was stopped.

    Raises:
        RecipeError: no such derivation.
        ManifestError: a picture cannot be derived; all are in `problems`.
    """
    train = rows["train"]
    for name in names:
        derivation = derivations.find(name)()
        told = [name, derivation.fingerprint(), seed, [[sample.place, sample.sha256] for sample in train]]
        key = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]
        with Progress(f"deriving: {derivation.summary}", len(train)) as progress:

            def step(done: int, total: int, progress: Progress = progress) -> None:
                progress.step()

            made = derive(train, folder / f"{name}-{key}", derivation, seed=seed, workers=workers, progress=step)
        train = made.table
    return {**rows, "train": train}
