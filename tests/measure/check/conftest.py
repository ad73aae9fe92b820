"""Small pictures on disk, with their rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assay.types import Label, Sample
from checked import FAKE, REAL, Many, Put


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Write a picture and give its row: put("a.png", seed, Label.REAL, …); one seed, one look."""

    def write(name: str, seed: int, label: Label | None = REAL, *, side: int = 64, quality: int = 90, **about: object):
        blocks = np.random.default_rng(seed).integers(20, 236, (8, 8, 3), dtype=np.uint8)
        image = Image.fromarray(blocks).resize((side, side), Image.Resampling.BICUBIC)
        options = {"quality": quality} if name.endswith("jpg") else {}
        image.save(tmp_path / name, **options)
        return Sample(str(tmp_path / name), label, **about)

    return write


@pytest.fixture
def many(put: Put) -> Many:
    """As many reals as fakes in train and test, of two suffixes: many("jpg", "png")."""

    def write(real: str, fake: str, count: int = 40) -> list[Sample]:
        about = [{"label": REAL, "source": "camera"}, {"label": FAKE, "source": "site", "generator": "g"}]
        made = []
        for number in range(count):
            suffix = (real, fake)[number % 2]
            known = about[number % 2] | {"source": f"{about[number % 2]['source']} {number // 2 % 4}"}
            made.append(put(f"{number}.{suffix}", number, split="test" if number < count / 2 else "train", **known))
        return made

    return write
