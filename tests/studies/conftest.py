"""Pictures that a tiny network tells apart, and a study of two arms that is done with them in seconds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from assay.data.table import Table
from assay.image.alter import T
from assay.image.view import View
from assay.learn.recipe import Backbone, Calibrate, Crops, Descend, Fit, InfoNCE, Optimiser, Recipe, Stream, Tiles
from assay.studies.study import Arm, Study
from assay.types import Label, Pixels, Sample

GENERATORS = ("dots", "bars")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """So small a network waits longer for its threads than it computes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def picture(seed: int, generator: str = "") -> Pixels:
    """Soft colours under a little noise, 72 x 64; "dots" and "bars" are brighter in every second place or row."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(60, 180, (5, 6, 3), dtype=np.uint8))
    pixels = np.array(coarse.resize((72, 64), Image.Resampling.BICUBIC)).astype(np.int64)
    pixels += rng.integers(-6, 7, pixels.shape)
    if generator:
        pixels[::2, :: 2 if generator == "dots" else 1] += 60
    return np.clip(pixels, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """Forty rows: 20 to train, 8 to tune, 12 to test; reals and fakes in turn, fakes by two generators in turn."""
    folder = tmp_path_factory.mktemp("pictures")
    rows = []
    for number in range(40):
        generator = GENERATORS[number // 2 % 2] if number % 2 else ""
        place = folder / f"{number:02d}.png"
        Image.fromarray(picture(number, generator)).save(place)
        split = "train" if number < 20 else "tune" if number < 28 else "test"
        rows.append(
            Sample(
                str(place),
                Label(bool(generator)),
                generator,
                f"source {number % 3}",
                origin=hashlib.sha256(bytes([number])).hexdigest(),
                split=split,
                groups={"domain": "x-ray" if number % 4 < 2 else "satellite"},
            )
        )
    return Table.of(rows)


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    """One small CNN on crops of 32 px, two epochs of two steps."""
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
                tiles=Tiles(side=64, each=1, reduce_above=None),
                optimiser=Optimiser(learning_rate=3e-3),
                pairs=4,
                steps=2,
                epochs=2,
            ),
            Fit(stream="a", records=20, altered=1),
            Calibrate(fpr=0.25),
        ),
    )


@pytest.fixture(scope="session")
def study(recipe: Recipe) -> Study:
    """Two arms that train, the second with twice the pictures in a batch, and one that needs weights."""
    return Study(
        name="tiny",
        question="does a larger batch help?",
        table="ablation",
        arms=(
            Arm("full", "as it is", base=recipe, paper="CoDE"),
            Arm("wide", "eight pairs", base=recipe, changes={"descend__pairs": 8}),
            Arm("given", "from weights", base=recipe, weights="tiny"),
        ),
        heads=("linear", "nearest"),
    )


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"
