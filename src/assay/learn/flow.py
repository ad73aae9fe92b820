"""Batches straight from files or shards: for data sets too large to be decoded once and kept.

Every picture is decoded each time it comes up, in the process that cuts its views. Reals and fakes flow apart, each
class through its own epochs: within one, every picture comes exactly once, over all loader processes and ranks.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from assay.data.index import Index
from assay.data.stream import WHOLE, Share, length, stream
from assay.data.table import Table
from assay.errors import InputError, ManifestError, RecipeError
from assay.image.decode import decode
from assay.image.view import View
from assay.learn.batches import Batch, as_is, one_thread, own, stacked, told
from assay.learn.recipe import Descent
from assay.learn.views import draw, names
from assay.types import Label, Pixels, Sample

SPLIT = "train"


@dataclasses.dataclass(frozen=True)
class Flow:
    """Batches of the training rows of a data set.

    The batches of a run follow from seed, rank and the numbers of ranks and of loader processes: a resumed run with as
    many of them goes on with the pictures that an unbroken one would have come to.

    Args:
        data: shards, local or at an address; or a manifest's rows.
        stage: how views are cut; its `pairs` reals and as many fakes make a batch, of which each rank has its share
            (`assay.learn.batches.own`).
        view: the stream's.
        seed: of the run.
        share: which of several ranks that train together this is.

    Raises:
        RecipeError: the stage weighs sources (pictures that come exactly once cannot be drawn more often) or draws
            classes as they come (they flow apart), or faces are judged or eyes masked (they are looked for once, and
            kept).
    """

    data: Index | Table
    stage: Descent
    view: View
    seed: int
    share: Share = WHOLE

    def __post_init__(self) -> None:
        if self.view.layout == "faces" or self.stage.masks:
            raise RecipeError("faces are found once and kept; set descend.decode to once where faces or eyes are")
        if self.stage.sampling != "balanced":
            raise RecipeError("descend.decode always lets the classes flow apart; set descend.sampling to balanced")
        if self.stage.source_power != 1 or self.stage.secondary_weight != 1:
            raise RecipeError(
                "descend.decode always goes through every picture once an epoch, so sources cannot be weighed; set "
                "descend.source_power and descend.secondary_weight to 1, or descend.decode to once"
            )

    def over(self, total: int) -> Flow:
        """The same for a run of so many steps: there is no curriculum that could depend on it."""
        return self

    def of(self, share: Share) -> Flow:
        """A rank's share.

        Raises:
            RecipeError: as `assay.learn.batches.own`.
        """
        own(self.stage, share)
        return dataclasses.replace(self, share=share)

    def stream(self, first: int, last: int, workers: int) -> Iterator[Batch]:
        """The batches of steps first … last-1, in order, made ahead by `workers` processes (0: in this one).

        Raises:
            ManifestError: a class has fewer pictures than there are processes.
            InputError: a picture or shard cannot be read.
        """
        if first >= last:
            return
        yield from DataLoader(
            _Lanes(self, first, last),
            batch_size=None,
            num_workers=workers,
            prefetch_factor=2 if workers else None,
            multiprocessing_context="spawn" if workers else None,
            worker_init_fn=one_thread,
            collate_fn=as_is,
        )

    def lane(self, number: int, count: int, first: int, last: int) -> Iterator[Batch]:
        """The batches of every `count`-th step from first … last-1: those that leave `number` when divided by it."""
        before = len(range(number, first, count))
        share = Share(self.share.number * count + number, self.share.count * count)
        pairs = len(own(self.stage, self.share))
        classes = [self._endless(label, share, before * pairs) for label in (Label.REAL, Label.FAKE)]
        for step in range(first + (number - first) % count, last, count):
            rng = np.random.default_rng([self.seed, self.share.number, step])
            views: dict[str, list[Pixels]] = {name: [] for name in names(self.stage)}
            drawn: list[Sample] = []
            for samples in classes:
                for sample, data in itertools.islice(samples, pairs):
                    drawn.append(sample)
                    pixels = self._pixels(sample, data, rng)
                    for name, shown in draw(pixels, self.stage, self.view.size, rng, whole=self.view.resized).items():
                        views[name].append(shown)
            yield Batch(stacked(views), *told(drawn))

    def _endless(self, label: Label, share: Share, skip: int) -> Iterator[tuple[Sample, bytes]]:
        """A class's pictures, epoch after epoch, without the first `skip`."""
        for epoch in itertools.count():
            count = length(self.data, split=SPLIT, label=label, epoch=epoch, seed=self.seed, share=share)
            if not count:
                raise ManifestError(
                    f"{share.count} loader processes share fewer {label.name.lower()} pictures; give fewer --workers "
                    "or --devices"
                )
            if skip >= count:
                skip -= count
                continue
            yield from stream(self.data, split=SPLIT, label=label, epoch=epoch, seed=self.seed, share=share, skip=skip)
            skip = 0

    @staticmethod
    def _pixels(sample: Sample, data: bytes, rng: np.random.Generator) -> Pixels:
        try:
            frames = decode(data).frames
        except InputError as error:
            raise InputError(f"{sample.place}: {error}", kind=error.kind) from None
        return frames[int(rng.integers(len(frames)))] if len(frames) > 1 else frames[0]


class _Lanes(IterableDataset[Batch]):
    """One lane a loader process, numbered so that taking turns gives the steps in order."""

    def __init__(self, flow: Flow, first: int, last: int) -> None:
        self.flow, self.first, self.last = flow, first, last

    def __iter__(self) -> Iterator[Batch]:
        info = get_worker_info()
        worker, count = (info.id, info.num_workers) if info else (0, 1)
        return self.flow.lane((self.first + worker) % count, count, self.first, self.last)
