"""Batches of views: the same step gives the same batch, in whichever process it is made.

That is what makes a run that was killed reach the loss of one that was not: the state of the data is the number of the
step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from assay.data.table import Table, distinct
from assay.learn.recipe import Descend
from assay.learn.tiles import TileStore
from assay.learn.views import draw, names
from assay.types import Label, Pixels, Sample

Batch = dict[str, Pixels]
"""For each view, (2 * pairs, side, side, 3) uint8: the reals first, then as many fakes."""


class Balanced:
    """Draws as many reals as fakes, and within a class weighs sources by their size to a power.

    Args:
        samples: labelled, both classes present; a real's source is its `source`, a fake's is its generator and its
            source.
        power: weight of a source with n pictures is n ** power.
    """

    def __init__(self, samples: Sequence[Sample], power: float) -> None:
        table = Table.of(samples)
        self.rows: dict[Label, npt.NDArray[np.int64]] = {}
        self.chances: dict[Label, npt.NDArray[np.float64]] = {}
        for label in Label:
            rows = np.flatnonzero(table.labels == label)
            names = np.strings.add(np.strings.add(table.column("generator"), "\n"), table.column("source"))[rows]
            _, place = distinct(names)
            sizes = np.bincount(place)
            # A row's share of its source's weight, n ** power over n rows.
            weights = sizes[place].astype(np.float64) ** (power - 1)
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
        size: side of the large views.
        seed: of the run.
    """

    def __init__(self, store: TileStore, samples: Sequence[Sample], stage: Descend, size: int, seed: int) -> None:
        self.store, self.stage, self.size, self.seed = store, stage, size, seed
        self.balanced = Balanced(samples, stage.source_power)

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng([self.seed, step])
        rows = self.balanced.draw(self.stage.pairs, rng)
        views: dict[str, list[Pixels]] = {name: [] for name in names(self.stage.crops)}
        for row in rows:
            tile = self.store.tile(int(row), int(rng.integers(self.store.count(int(row)))))
            for name, pixels in draw(tile, self.stage, self.size, rng).items():
                views[name].append(pixels)
        return {name: np.stack(pixels) for name, pixels in views.items()}

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


def one_thread(worker: int) -> None:
    """A loader process computes on its own core only."""
    torch.set_num_threads(1)


def as_is(batch: Any) -> Any:
    """In place of a conversion to tensors."""
    return batch
