"""A degraded set: the engine's pixels, nothing on top of them, and a note of what was done."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assay.data.derivations import Source
from assay.data.derivations.degrade import Degraded
from assay.data.derive import derive
from assay.errors import RecipeError
from assay.image.align import encode
from assay.image.decode import decode
from assay.image.degrade import Degrade, Mix
from assay.types import Label, Pixels, Sample

PIXELS: Pixels = np.random.default_rng(0).integers(0, 256, (48, 60, 3), np.uint8)
SOURCE = Source(Sample("a.png", Label.REAL), encode(PIXELS, "PNG", 100), Degraded().limits)


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
@pytest.mark.parametrize("engine", [Degrade(probability=1.0), Degrade().at(0.4), Mix(0.5)])
def test_the_file_holds_the_engines_pixels_without_loss(form: str, engine: Degrade | Mix) -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        rng.random()
        expected = engine(PIXELS, rng)
        (piece,) = Degraded(engine, form=form).derive(SOURCE, np.random.default_rng(seed)).pieces  # type: ignore[arg-type]
        picture = decode(piece.data)
        assert picture.format == form
        np.testing.assert_array_equal(picture.pixels, expected)


def test_a_row_says_what_was_done_in_order() -> None:
    only = Degrade(probability=1.0, each=1.0, stages=("damage",), operations=("vignette", "banding"))
    orders = set()
    for seed in range(12):
        (piece,) = Degraded(only).derive(SOURCE, np.random.default_rng(seed)).pieces
        assert piece.groups["degraded"] == "1"
        orders.add(piece.groups["damage"])
        assert not np.array_equal(decode(piece.data).pixels, PIXELS)
    assert orders == {"vignette+banding", "banding+vignette"}


def test_the_share_that_is_not_degraded_is_stored_the_same_way(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    rows = []
    for number in range(60):
        path = tmp_path / "set" / f"{number}.jpg"
        Image.fromarray(PIXELS[:16, number : number + 1].repeat(16, axis=1) ^ number).save(path)
        rows.append(Sample(str(path), Label(number % 2)))
    engine = Degrade(probability=1.0, each=1.0)
    table = derive(rows, tmp_path / "out", Degraded(engine, share=0.5), workers=0).table
    degraded = [row.groups["degraded"] for row in table]
    assert 18 <= degraded.count("1") <= 42
    for row, before in zip(table, rows, strict=True):
        picture = decode(row.place)
        assert picture.format == "PNG"
        same = np.array_equal(picture.pixels, decode(before.place).pixels)
        assert same == (row.groups["degraded"] == "0")
        assert row.label == before.label


def test_no_row_is_degraded_at_share_0_and_every_row_at_share_1() -> None:
    engine = Degrade(probability=1.0, each=1.0)
    for share, word in ((0.0, "0"), (1.0, "1")):
        for seed in range(5):
            (piece,) = Degraded(engine, share=share).derive(SOURCE, np.random.default_rng(seed)).pieces
            assert piece.groups["degraded"] == word


def test_values_that_do_not_hold_are_refused_and_all_count_for_the_fingerprint() -> None:
    with pytest.raises(RecipeError, match=r"share 1\.5"):
        Degraded(share=1.5)
    with pytest.raises(RecipeError, match="no lossless format"):
        Degraded(form="JPEG")  # type: ignore[arg-type]
    made = [Degraded(), Degraded(Mix(0.5)), Degraded(Mix(0.6)), Degraded(Degrade().at(0.5)), Degraded(share=0.5)]
    assert len({derivation.fingerprint() for derivation in made}) == 5
