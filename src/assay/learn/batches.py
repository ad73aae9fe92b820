"""Batches of views: the same step gives the same batch, in whichever process it is made.

That is what makes a run that was killed reach the loss of one that was not: the state of the data is the number of the
step.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from assay.data.stream import WHOLE, Share
from assay.data.table import Table, distinct
from assay.errors import ManifestError, RecipeError
from assay.image.eyes import mask
from assay.image.view import View
from assay.learn.recipe import Descent
from assay.learn.rows import SECONDARY, labels_of
from assay.learn.tiles import TileStore
from assay.learn.views import draw, names
from assay.types import Label, Pixels, Sample

TEACHER = "teacher"
"""The column with a teacher's P(fake) of each picture (`assay.learn.distill`)."""


class Batch(NamedTuple):
    """One step's pictures: the reals first, then as many fakes; or mixed, where they are drawn as they come.

    Args:
        views: by name, (2 * pairs, side, side, 3) uint8.
        methods: a number for what made each picture, (2 * pairs,): -1 for reals, alike for fakes of one generator.
        teacher: a teacher's P(fake) of each picture, (2 * pairs,); NaN where there is none.
    """

    views: dict[str, Pixels]
    methods: npt.NDArray[np.int64]
    teacher: npt.NDArray[np.float64]

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Of each picture, (2 * pairs,), 1 = fake."""
        return (self.methods >= 0).astype(np.int64)

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
        within: the samples that are drawn from, (n,); None: all.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        power: float,
        secondary: float = 1.0,
        within: npt.NDArray[np.int64] | None = None,
    ) -> None:
        table = Table.of(samples)
        drawn = np.ones(len(table), np.bool_) if within is None else np.isin(np.arange(len(table)), within)
        second = table.column(SECONDARY) == "1" if SECONDARY in table.groups else np.zeros(len(table), np.bool_)
        self.rows: dict[Label, npt.NDArray[np.int64]] = {}
        self.chances: dict[Label, npt.NDArray[np.float64]] = {}
        for label in Label:
            rows = np.flatnonzero(drawn & (table.labels == label))
            names = np.strings.add(np.strings.add(table.column("generator"), "\n"), table.column("source"))[rows]
            _, place = distinct(names)
            sizes = np.bincount(place)
            # A row's share of its source's weight, n ** power over n rows.
            weights = sizes[place].astype(np.float64) ** (power - 1) * np.where(second[rows], secondary, 1.0)
            self.rows[label] = rows
            self.chances[label] = weights / weights.sum()

    def draw(
        self, pairs: int, rng: np.random.Generator, sampling: Literal["balanced", "natural"] = "balanced"
    ) -> npt.NDArray[np.int64]:
        """`pairs` rows of reals, then as many of fakes, or so many of both as they come; of one kind without repeats
        where there are enough."""
        if sampling == "natural":
            every = np.concatenate(list(self.rows.values()))
            sizes = np.array([len(rows) for rows in self.rows.values()])
            chances = [chance * size / sizes.sum() for chance, size in zip(self.chances.values(), sizes, strict=True)]
            return rng.choice(every, 2 * pairs, replace=len(every) < 2 * pairs, p=np.concatenate(chances))
        halves = []
        for label in (Label.REAL, Label.FAKE):
            rows = self.rows[label]
            halves.append(rng.choice(rows, pairs, replace=len(rows) < pairs, p=self.chances[label]))
        return np.concatenate(halves)

    def weighted(self, most: int, rng: np.random.Generator) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Every row once, or `most` of them drawn evenly, in order; and what each weighs: as often as it would be
        drawn, each class as much as the other, 1 on average."""
        rows = np.concatenate(list(self.rows.values()))
        chances = np.concatenate(list(self.chances.values()))
        kind = np.repeat(np.arange(len(self.rows)), [len(part) for part in self.rows.values()])
        order = np.argsort(rows)
        if len(rows) > most:
            order = order[np.sort(rng.choice(len(rows), most, replace=False))]
        rows, chances, kind = rows[order], chances[order], kind[order]
        sums = np.bincount(kind, chances)
        return rows, chances / sums[kind] * len(rows) / len(sums)


def own(stage: Descent, share: Share) -> npt.NDArray[np.int64]:
    """The places in a batch of a rank's pairs: of each part that goes through the network, every so many-th.

    Raises:
        RecipeError: a part has fewer pairs than there are ranks.
    """
    part = stage.pairs // stage.accumulate
    if part < share.count:
        raise RecipeError(
            f"{part} pairs go through the network at a time, and {share.count} devices cannot share them; set "
            "descend.pairs higher or descend.accumulate lower, or give fewer --devices"
        )
    places = np.arange(stage.pairs)
    mine: npt.NDArray[np.int64] = places[places % part % share.count == share.number]
    return mine


class Batches(Dataset[Batch]):
    """Item i is the batch of step i, or a rank's share of it.

    What is drawn of a picture follows from seed, step and its place in the batch, so that ranks, however many, see
    together what one would.

    Args:
        store: tiles of `samples`; where the stage has lessons that mask eyes, with the places of eyes.
        view: the stream's.
        seed: of the run.

    Raises:
        ManifestError: eyes are to be masked, and too few pictures of a class show some.
    """

    def __init__(self, store: TileStore, samples: Sequence[Sample], stage: Descent, view: View, seed: int) -> None:
        self.store, self.stage, self.view, self.seed = store, stage, view, seed
        self.total = stage.steps * stage.epochs
        self.share = WHOLE
        self.balanced = Balanced(samples, stage.source_power, stage.secondary_weight)
        self.with_eyes = self.balanced
        if stage.masks:
            seen = store.with_eyes
            if len(set(labels_of(samples)[seen])) < len(Label):
                raise ManifestError("eyes are to be masked, and no picture of one class shows any; see curriculum")
            self.with_eyes = Balanced(samples, stage.source_power, stage.secondary_weight, seen)
        # Not the rows: what is kept here goes to every loader process.
        self.methods, self.teacher = told(samples)

    def over(self, total: int) -> Batches:
        """The same for a run of so many steps, which decides when each lesson of a curriculum comes."""
        other = copy.copy(self)
        other.total = total
        return other

    def of(self, share: Share) -> Batches:
        """A rank's share of each.

        Raises:
            RecipeError: as `own`.
        """
        own(self.stage, share)
        other = copy.copy(self)
        other.share = share
        return other

    def masked(self, step: int) -> bool:
        """Whether the eyes are masked in the batch of a step."""
        lesson, _, _ = self.stage.lesson(step, self.total)
        return lesson.eyes == "masked"

    def __getitem__(self, step: int) -> Batch:
        masked = self.masked(step)
        drawn_from, chance = self.with_eyes if masked else self.balanced, np.random.default_rng([self.seed, step])
        rows = drawn_from.draw(self.stage.pairs, chance, self.stage.sampling)
        pairs = own(self.stage, self.share)
        places = np.concatenate([pairs, self.stage.pairs + pairs])
        views: dict[str, list[Pixels]] = {name: [] for name in names(self.stage)}
        for place, row in zip(places.tolist(), (rows := rows[places]), strict=True):
            # From 1: NumPy takes a seed that ends in 0 for the one without it.
            rng = np.random.default_rng([self.seed, step, 1 + place])
            which = int(rng.integers(self.store.count(int(row))))
            tile = self.store.tile(int(row), which)
            if masked:
                tile = mask(tile, self.store.eyes_in(int(row), which))
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
