"""Made-up pictures that a tiny network can tell apart, and a recipe that is done with them in seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from assay.data import shards
from assay.data.index import Index
from assay.data.table import Table
from assay.image.alter import T
from assay.image.view import View
from assay.learn import tiles
from assay.learn.descend import Data
from assay.learn.recipe import (
    Backbone,
    Calibrate,
    Crops,
    Descend,
    Fit,
    InfoNCE,
    Optimiser,
    Recipe,
    Stream,
    Tiles,
)
from assay.types import Label, Pixels, Sample
from tiny import OfViews

Picture = Callable[..., Pixels]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """So small a network waits longer for its threads than it computes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def made(seed: int, fake: bool = False, height: int = 72, width: int = 80) -> Pixels:
    """Soft colours under a little noise; a fake has a grid of brighter dots besides."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(60, 180, (5, 6, 3), dtype=np.uint8))
    pixels = np.array(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int64)
    pixels += rng.integers(-6, 7, pixels.shape)
    if fake:
        pixels[::2, ::2] += 50
    return np.clip(pixels, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def picture() -> Picture:
    """`picture(seed, fake, height, width)`: uint8 (height, width, 3), the same each time."""
    return made


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """Sixteen training and eight tuning pictures, reals and fakes in turn, from two sources each."""
    folder = tmp_path_factory.mktemp("pictures")
    rows = []
    for number in range(24):
        fake = bool(number % 2)
        place = folder / f"{number:02d}.png"
        Image.fromarray(made(number, fake, 60 + 3 * number, 84)).save(place)
        rows.append(
            Sample(
                place=str(place),
                label=Label(fake),
                generator="dots" if fake else "",
                source=f"source {number % 4}",
                origin=f"{number:064x}",
                split="train" if number < 16 else "tune",
            )
        )
    return rows


@pytest.fixture(scope="session")
def table(samples: list[Sample]) -> Table:
    """The same as columns."""
    return Table.of(samples)


@pytest.fixture(scope="session")
def index(samples: list[Sample], tmp_path_factory: pytest.TempPathFactory) -> Index:
    """The same as shards of three."""
    return shards.write(samples, tmp_path_factory.mktemp("shards"), most=3)


@pytest.fixture(scope="session")
def small_tiles() -> Tiles:
    """At most 64 px a side, two of each picture."""
    return Tiles(side=64, each=2, reduce_above=90)


@pytest.fixture(scope="session")
def data(samples: list[Sample], small_tiles: Tiles, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Data]:
    """`data(split)`: the samples of a split with their tiles."""
    folder = tmp_path_factory.mktemp("tiles")
    found = {}
    for split in ("train", "tune"):
        rows = [sample for sample in samples if sample.split == split]
        found[split] = Data(rows, tiles.build(rows, small_tiles, folder, seed=0, workers=0))
    return lambda split: found[split]


@pytest.fixture(scope="session")
def recipe(small_tiles: Tiles) -> Recipe:
    """One small CNN on crops of 32 px: two epochs of three steps."""
    return Recipe(
        name="tiny",
        summary="A tiny recipe",
        streams=(
            Stream(
                name="a",
                view=View(size=32, layout="grid", across=2),
                backbone=Backbone(name="trace_cnn", front="both", fields={"widths": (8, 8, 16), "blocks": (1, 1)}),
            ),
        ),
        stages=(
            Descend(
                stream="a",
                loss=InfoNCE(bce=1.0),
                crops=Crops(base=48, local=24),
                alter=T(max_ops=1, size=32, resize=None, crop="random"),
                tiles=small_tiles,
                optimiser=Optimiser(learning_rate=1e-3),
                pairs=4,
                steps=3,
                epochs=2,
            ),
            Fit(stream="a", records=16, altered=1),
            Calibrate(fpr=0.25),
        ),
    )


class Mean(OfViews):
    """An engine whose embedding is the mean of each channel."""

    def run(self, batch: Any) -> Any:
        return batch.mean(axis=(2, 3))


@pytest.fixture
def mean_engine() -> Any:
    """Stands for `Engine`: the embedding of a view is its mean red, green and blue."""
    return Mean()
