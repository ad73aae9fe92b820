"""A set with resampled copies: fakes by interpolation alone, of their originals' size, split and format."""

from __future__ import annotations

import dataclasses
import io
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from assay.data import manifest
from assay.data.derivations import Source
from assay.data.derivations.resample import GENERATOR, GROUP, KERNELS, Chain, Resampled
from assay.data.derive import derive
from assay.data.table import Table
from assay.errors import RecipeError
from assay.image.decode import decode
from assay.types import Label, Pixels, Sample

PIXELS: Pixels = np.asarray(
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)).resize((64, 48))
)
NEAREST, BILINEAR, BICUBIC = (
    Image.Resampling.NEAREST,
    Image.Resampling.BILINEAR,
    Image.Resampling.BICUBIC,
)


def chain(**changes: Any) -> Chain:
    return dataclasses.replace(Chain(0.0, BICUBIC, 0.5, BILINEAR, BICUBIC, 1), **changes)


def saved(pixels: Pixels, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


def source(data: bytes, drawn: bool = True) -> Source:
    return Source(Sample("a", Label.REAL, split="train"), data, Resampled().limits, drawn=drawn)


@pytest.fixture
def rows(tmp_path: Path) -> Table:
    """Ten training reals, and two each of training fakes, tuning reals, test reals and reals without a split."""
    (tmp_path / "set").mkdir()
    kinds = [(Label.REAL, "train")] * 10 + [(Label.FAKE, "train")] * 2
    kinds += [(Label.REAL, split) for split in ("tune", "test", "") for _ in range(2)]
    made = []
    for number, (label, split) in enumerate(kinds):
        path = tmp_path / "set" / f"{number}.jpg"
        path.write_bytes(saved(PIXELS ^ number, "JPEG", quality=70 + number))
        made.append(Sample(str(path), label, generator="gan" if label else "", split=split, source=f"s{number}"))
    return Table.of(made)


def test_a_share_of_the_training_reals_gets_a_fake_copy_and_every_row_stays(rows: Table, tmp_path: Path) -> None:
    result = derive(rows, tmp_path / "out", Resampled(share=0.6), workers=0)
    stayed = manifest.select(result.table, **{GROUP: "0"})
    copies = manifest.select(result.table, **{GROUP: "1"})
    assert stayed.column("path").tolist() == rows.column("path").tolist()
    assert stayed.labels.tolist() == rows.labels.tolist()
    assert (len(copies), result.made) == (6, 6)
    known = {sample.source: sample for sample in stayed}
    for copy in copies:
        original = known[copy.source]
        assert (copy.label, copy.generator, copy.split) == (Label.FAKE, GENERATOR, "train")
        assert (original.label, original.split) == (Label.REAL, "train")
        assert copy.origin == original.origin == original.sha256 != copy.sha256
        with Image.open(original.place) as first, Image.open(copy.place) as other:
            assert (first.format, first.size) == (other.format, other.size)
            assert isinstance(first, JpegImagePlugin.JpegImageFile)
            assert isinstance(other, JpegImagePlugin.JpegImageFile)
            assert first.quantization == other.quantization
    assert Resampled().tally(result.table) == {"resampled copies": 6}
    assert list(manifest.read(result.manifest)) == list(result.table)


def test_a_copy_is_not_copied_and_stays_one(rows: Table, tmp_path: Path) -> None:
    once = derive(rows, tmp_path / "once", Resampled(share=1), workers=0).table
    again = derive(once, tmp_path / "again", Resampled(share=1), workers=0).table
    assert Counter(again.column(GROUP).tolist()) == {"0": 18, "1": 20}


def test_the_same_content_and_seed_give_the_same_copies_whatever_the_order(rows: Table, tmp_path: Path) -> None:
    def made(table: Table, name: str, seed: int = 0) -> set[str]:
        found = derive(table, tmp_path / name, Resampled(), seed=seed, workers=0).table
        return set(manifest.select(found, **{GROUP: "1"}).column("sha256").tolist())

    first = made(rows, "first")
    assert made(rows[::-1], "turned") == first
    assert made(rows, "seed", 1) != first


def test_a_chain_goes_down_by_one_kernel_and_up_by_another() -> None:
    expected = Image.fromarray(PIXELS).resize((32, 24), NEAREST).resize((64, 48), BICUBIC)
    np.testing.assert_array_equal(chain(down=NEAREST).apply(PIXELS), np.asarray(expected))


def test_two_stages_go_up_by_way_of_the_size_between() -> None:
    down = Image.fromarray(PIXELS).resize((16, 12), BILINEAR)
    expected = down.resize((32, 24), BICUBIC).resize((64, 48), BICUBIC)
    np.testing.assert_array_equal(chain(factor=0.25, stages=2).apply(PIXELS), np.asarray(expected))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 40), (41, 57)])
def test_any_size_comes_back_as_it_was(height: int, width: int) -> None:
    pixels = PIXELS[:height, :width] if height <= 48 and width <= 64 else PIXELS
    for each in (chain(), chain(factor=0.25, stages=2), chain(degrees=-0.9)):
        result = each.apply(pixels)
        assert result.shape == pixels.shape
        assert result.dtype == np.uint8
        assert not np.shares_memory(result, pixels)


def test_a_turn_moves_the_edges_and_not_the_middle_and_leaves_no_black_corner() -> None:
    flat = np.full((120, 160, 3), 200, np.uint8)
    flat[:, 80:] = 100
    turned = chain(factor=1.0, degrees=0.9).apply(flat)
    assert turned.min() > 80
    # The boundary tilts: anticlockwise, its upper end goes to the left.
    assert turned[0, 79].max() < 110
    assert turned[119, 80].min() > 190
    assert chain(factor=1.0, degrees=8.0).apply(flat).min() > 80
    assert np.abs(turned[58:62, 70:76].astype(int) - 200).max() <= 1


def test_what_is_drawn_covers_the_whole_family_and_keeps_its_bounds() -> None:
    chains = [Resampled().draw(np.random.default_rng(seed)) for seed in range(600)]
    pairs = Counter((each.down, each.up) for each in chains)
    assert all(down != up for down, up in pairs)
    assert len(pairs) == len(KERNELS) * (len(KERNELS) - 1)
    factors = [each.factor for each in chains]
    assert 0.25 <= min(factors) < 0.27
    assert 0.88 < max(factors) <= 0.9
    turned = [each.degrees for each in chains if each.degrees]
    assert len(turned) == pytest.approx(150, abs=45)
    assert -0.9 <= min(turned) < 0 < max(turned) <= 0.9
    assert sum(each.stages == 2 for each in chains) == pytest.approx(150, abs=45)
    never = [Resampled(turned=0, twice=0).draw(np.random.default_rng(seed)) for seed in range(50)]
    assert {(each.degrees, each.stages) for each in never} == {(0.0, 1)}
    assert [each.factor for each in never] == factors[:50]


def test_what_resampling_leaves_as_it_was_is_no_fake() -> None:
    flat = source(saved(np.full((30, 40, 3), 90, np.uint8), "PNG"))
    outcome = Resampled().derive(flat, np.random.default_rng(0))
    assert (outcome.pieces, outcome.keep) == ((), {GROUP: "0"})


def test_a_copy_shows_what_its_original_shows() -> None:
    (piece,) = Resampled().derive(source(saved(PIXELS, "PNG")), np.random.default_rng(3)).pieces
    pixels = decode(piece.data).pixels
    assert not np.array_equal(pixels, PIXELS)
    assert np.corrcoef(pixels.ravel(), PIXELS.ravel())[0, 1] > 0.8


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"share": 1.5}, r"share 1\.5"),
        ({"turned": -0.1}, r"turned -0\.1"),
        ({"twice": 2}, "twice 2"),
        ({"factor": (0.9, 0.2)}, "within"),
        ({"factor": (0.0, 0.5)}, "within"),
        ({"factor": (0.5, 1.5)}, "within"),
        ({"degrees": 45}, "degrees 45"),
        ({"degrees": 0}, "degrees 0"),
    ],
)
def test_values_that_do_not_hold_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        Resampled(**values)
