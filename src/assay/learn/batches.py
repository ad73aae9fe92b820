"""Batches of views: the same step gives the same batch, in whichever process it is made.

That is what makes a run that was killed reach the loss of one that was not: the state of the data is the number of the
step.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from assay.data.table import Table, distinct
from assay.errors import ManifestError
from assay.image.view import View
from assay.learn.recipe import Descent
from assay.learn.rows import SECONDARY
from assay.learn.tiles import TileStore
from assay.learn.views import draw, names
from assay.types import Label, Pixels, Sample

TEACHER = "teacher"
"""The column with a teacher's P(fake) of each picture (`assay.learn.distill`)."""


class Batch(NamedTuple):
    """One step's pictures: the reals first, then as many fakes.

    Args:
        views: by name, (2 * pairs, side, side, 3) uint8.
        methods: a number for what made each picture, (2 * pairs,): -1 for reals, alike for fakes of one generator.
        teacher: a teacher's P(fake) of each picture, (2 * pairs,); NaN where there is none.
    """

    views: dict[str, Pixels]
    methods: npt.NDArray[np.int64]
    teacher: npt.NDArray[np.float64]

    def parts(self, count: int) -> Iterator[Batch]:
        """The batch in `count` parts, each with its share of reals and of fakes; `count` divides both."""
        if count == 1:
            yield self
            return
        each = len(self.methods) // (2 * count)
        half = len(self.methods) // 2
        for start in range(0, half, each):
            mine = np.r_[start : start + each, half + start : half + start + each]
            views = {name: pixels[mine] for name, pixels in self.views.items()}
            yield Batch(views, self.methods[mine], self.teacher[mine])


def method_of(sample: Sample) -> int:
    """The same number for the same generator, in whichever process; -1 for a real."""
    return -1 if sample.label == Label.REAL else _number(sample.generator)


def _number(generator: str) -> int:
    return int.from_bytes(hashlib.sha256(generator.encode("utf-8", "surrogateescape")).digest()[:4], "big")


def teacher_of(sample: Sample) -> float:
    """The teacher's P(fake) of a picture; NaN where it has none.

    Raises:
        ManifestError: the column holds something else.
    """
    told = sample.groups.get(TEACHER, "")
    if not told:
        return math.nan
    try:
        score = float(told)
    except ValueError:
        score = math.nan
    if not 0 <= score <= 1:
        raise ManifestError(f"{sample.place}: {TEACHER} is {told!r}, not a P(fake) from 0 to 1; make the column anew")
    return score


class Balanced:
    """Draws as many reals as fakes, and within a class weighs sources by their size to a power.

    Args:
        samples: labelled, both classes present; a real's source is its `source`, a fake's is its generator and its
            source.
        power: weight of a source with n pictures is n ** power.
        secondary: what a picture of the secondary data set (`assay.learn.rows.SECONDARY`) weighs against one of the
            first.
    """

    def __init__(self, samples: Sequence[Sample], power: float, secondary: float = 1.0) -> None:
        table = Table.of(samples)
        second = table.column(SECONDARY) == "1" if SECONDARY in table.groups else np.zeros(len(table), np.bool_)
        self.rows: dict[Label, npt.NDArray[np.int64]] = {}
        self.chances: dict[Label, npt.NDArray[np.float64]] = {}
        for label in Label:
            rows = np.flatnonzero(table.labels == label)
            names = np.strings.add(np.strings.add(table.column("generator"), "\n"), table.column("source"))[rows]
            _, place = distinct(names)
            sizes = np.bincount(place)
            # A row's share of its source's weight, n ** power over n rows.
            weights = sizes[place].astype(np.float64) ** (power - 1) * np.where(second[rows], secondary, 1.0)
            self.rows[label] = rows
            self.chances[label] = weights / weights.sum()

    def draw(self, pairs: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """`pairs` rows of reals, then as many of fakes; within a class without repeats where it has enough."""
        halves = []
        for label in (Label.REAL, Label.FAKE):
            rows = self.rows[label]
            halves.append(rng.choice(rows, pairs, replace=len(rows) < pairs, p=self.chances[label]))
        return np.concatenate(halves)


class Batches(Dataset[Batch]):
    """Item i is the batch of step i.

    Args:
        store: tiles of `samples`.
        view: the stream's.
        seed: of the run.
    """

    def __init__(self, store: TileStore, samples: Sequence[Sample], stage: Descent, view: View, seed: int) -> None:
        self.store, self.stage, self.view, self.seed = store, stage, view, seed
        self.balanced = Balanced(samples, stage.source_power, stage.secondary_weight)
        # Not the rows: what is kept here goes to every loader process.
        self.methods, self.teacher = told(samples)

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng([self.seed, step])
        rows = self.balanced.draw(self.stage.pairs, rng)
        views: dict[str, list[Pixels]] = {name: [] for name in names(self.stage)}
        for row in rows:
            tile = self.store.tile(int(row), int(rng.integers(self.store.count(int(row)))))
            drawn = draw(tile, self.stage, self.view.size, rng, whole=self.view.resized)
            for name, pixels in drawn.items():
                views[name].append(pixels)
        return Batch(stacked(views), self.methods[rows], self.teacher[rows])

    def stream(self, first: int, last: int, workers: int) -> Iterator[Batch]:
        """The batches of steps first … last-1, in order, made ahead by `workers` processes (0: in this one)."""
        if first >= last:
            return
        yield from DataLoader(
            self,
            batch_size=None,
            sampler=range(first, last),
            num_workers=workers,
            prefetch_factor=2 if workers else None,
            multiprocessing_context="spawn" if workers else None,
            worker_init_fn=one_thread,
            collate_fn=as_is,
        )


def told(samples: Sequence[Sample]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """`method_of` and `teacher_of` of samples, (n,) each."""
    table = Table.of(samples)
    generators, place = distinct(table.column("generator"))
    numbers = np.array([_number(str(generator)) for generator in generators], np.int64)
    teacher = np.full(len(table), np.nan)
    if TEACHER in table.groups:
        teacher[:] = [teacher_of(sample) for sample in table]
    return np.where(table.labels == Label.REAL, -1, numbers[place]), teacher


def stacked(views: Mapping[str, Sequence[Pixels]]) -> dict[str, Pixels]:
    """Each view's pictures as one array."""
    return {name: np.stack(pixels) for name, pixels in views.items()}


def one_thread(worker: int) -> None:
    """A loader process computes on its own core only."""
    torch.set_num_threads(1)


def as_is(batch: Any) -> Any:
    """In place of a conversion to tensors."""
    return batch
