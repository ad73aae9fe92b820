"""An augmented set: all rows as they were, and copies of some reals that no file's format gives away."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from assay.data import manifest
from assay.data.derivations import Source
from assay.data.derivations.augment import PLAIN, VOCABULARY, Augmented, like
from assay.data.derive import derive
from assay.data.table import Table
from assay.errors import RecipeError
from assay.image import place
from assay.image.decode import decode
from assay.types import Label, Pixels, Sample

PIXELS: Pixels = np.asarray(
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)).resize((64, 48))
)


def saved(pixels: Pixels, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


def source(data: bytes) -> Source:
    return Source(Sample("a", Label.REAL, split="train"), data, Augmented().limits, drawn=True)


def all_copied(**changes: Any) -> Augmented:
    return Augmented(share=1, **changes)


@pytest.fixture
def rows(tmp_path: Path) -> Table:
    """120 training reals, and 4 each of training fakes, tuning reals, test reals and reals without a split."""
    (tmp_path / "set").mkdir()
    made = []
    kinds = [(Label.REAL, "train")] * 120 + [(Label.FAKE, "train")] * 4
    kinds += [(Label.REAL, split) for split in ("tune", "test", "") for _ in range(4)]
    for number, (label, split) in enumerate(kinds):
        path = tmp_path / "set" / f"{number}.jpg"
        path.write_bytes(saved(PIXELS[:16, :16] ^ number, "JPEG", quality=80))
        made.append(Sample(str(path), label, split=split, source=f"s{number}"))
    return Table.of(made)


def test_half_of_the_training_reals_get_one_copy_and_all_rows_stay(rows: Table, tmp_path: Path) -> None:
    result = derive(rows, tmp_path / "out", Augmented(), workers=0)
    stayed = manifest.select(result.table, augmented="0")
    copies = manifest.select(result.table, augmented="1")
    assert stayed.column("path").tolist() == rows.column("path").tolist()
    assert len(copies) == 60
    assert {(copy.label, copy.split) for copy in copies} == {(Label.REAL, "train")}
    assert len(set(copies.column("source").tolist())) == len(copies)
    known = {sample.source: sample for sample in stayed}
    for copy in copies:
        original = known[copy.source]
        assert copy.origin == original.origin == original.sha256
        assert copy.sha256 != original.sha256
    assert list(manifest.read(result.manifest)) == list(result.table)


def copied(table: Table) -> set[str]:
    """Sources of the rows that got a copy; a row's source is its own here."""
    return set(manifest.select(table, augmented="1").column("source").tolist())


def test_which_reals_are_copied_is_drawn_by_content(rows: Table, tmp_path: Path) -> None:
    everything = copied(derive(rows, tmp_path / "all", Augmented(), workers=0).table)
    turned = copied(derive(rows[::-1], tmp_path / "turned", Augmented(), workers=0).table)
    assert turned == everything
    hashes = [hashlib.sha256(Path(sample.place).read_bytes()).hexdigest().upper() for sample in rows]
    stated = derive(rows.with_column("sha256", hashes), tmp_path / "stated", Augmented(), workers=0)
    assert copied(stated.table) == everything
    other = copied(derive(rows, tmp_path / "seed", Augmented(), workers=0, seed=1).table)
    assert 15 < len(other & everything) < 45
    fewer = copied(derive(rows, tmp_path / "fewer", Augmented(share=0.2), workers=0).table)
    assert len(fewer) == 24
    assert fewer < everything


def test_rows_that_are_added_change_the_choice_only_at_its_edge(rows: Table, tmp_path: Path) -> None:
    def drawn(table: Table, name: str) -> set[str]:
        return copied(derive(table, tmp_path / name, Augmented(), workers=0).table)

    before, after = drawn(rows[:110], "before"), drawn(rows[:120], "after")
    assert (len(before), len(after)) == (55, 60)
    assert len(before - after) <= 5


@pytest.mark.parametrize(("share", "copies"), [(0, 0), (0.0041, 0), (0.0042, 1), (0.3, 36), (1, 120)])
def test_the_share_is_met_to_the_row(rows: Table, tmp_path: Path, share: float, copies: int) -> None:
    assert derive(rows, tmp_path / "out", Augmented(share=share), workers=0).made == copies


def test_equal_files_do_not_change_the_number_of_copies(rows: Table, tmp_path: Path) -> None:
    for number in range(1, 9):
        Path(rows[number].place).write_bytes(Path(rows[0].place).read_bytes())
    assert derive(rows[:9], tmp_path / "out", Augmented(), workers=0).made == 4


def test_the_number_holds_again_once_broken_files_are_mended(rows: Table, tmp_path: Path) -> None:
    content = {row: Path(rows[row].place).read_bytes() for row in range(0, 40, 2)}
    for row in content:
        Path(rows[row].place).unlink()
    assert derive(rows, tmp_path / "out", Augmented(), workers=0, skip=True).made == 50
    for row, data in content.items():
        Path(rows[row].place).write_bytes(data)
    mended = derive(rows, tmp_path / "out", Augmented(), workers=0)
    whole = derive(rows, tmp_path / "whole", Augmented(), workers=0)
    assert copied(mended.table) == copied(whole.table)
    assert mended.made == 60
    names = [{path.name for path in (tmp_path / folder).rglob("*.jpg")} for folder in ("out", "whole")]
    assert names[0] == names[1]


def test_a_run_that_was_stopped_goes_on_with_the_same_choice(rows: Table, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 50:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        derive(rows, tmp_path / "out", Augmented(), workers=0, progress=stop)
    before = {path: path.stat().st_ino for path in (tmp_path / "out").rglob("*.jpg")}
    went_on = derive(rows, tmp_path / "out", Augmented(), workers=0)
    assert len(before) > 10
    assert all(path.stat().st_ino == inode for path, inode in before.items())
    assert copied(went_on.table) == copied(derive(rows, tmp_path / "whole", Augmented(), workers=0).table)


def test_files_are_read_beforehand_only_where_neither_row_nor_journal_knows_them(
    rows: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: Counter[str] = Counter()
    read = place.read

    def counting(address: str, limit: int | None = None) -> bytes:
        reads[address] += 1
        return read(address, limit)

    monkeypatch.setattr(place, "read", counting)
    first = derive(rows[:20], tmp_path / "out", Augmented(), workers=0)
    assert set(reads.values()) == {2}
    reads.clear()
    derive(rows[:20], tmp_path / "out", Augmented(), workers=0)
    assert not reads
    stated = rows[:20].with_column("sha256", manifest.select(first.table, augmented="0").column("sha256"))
    derive(stated, tmp_path / "stated", Augmented(), workers=0)
    assert set(reads.values()) == {1}


def test_a_copy_is_not_copied_again(rows: Table, tmp_path: Path) -> None:
    first = derive(rows[:30], tmp_path / "first", all_copied(), workers=0).table
    again = derive(first, tmp_path / "again", all_copied(), workers=0).table
    assert Counter(again.column("augmented").tolist()) == {"0": 30, "1": 60}


def test_fakes_can_be_asked_for_instead(rows: Table, tmp_path: Path) -> None:
    result = derive(rows, tmp_path / "out", all_copied(label="fake"), workers=0)
    copies = manifest.select(result.table, augmented="1")
    assert {copy.label for copy in copies} == {Label.FAKE}
    assert len(copies) == 4


@pytest.mark.parametrize("quality", [35, 75, 95])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_a_jpegs_copy_has_its_originals_tables_and_subsampling(quality: int, subsampling: int) -> None:
    data = saved(PIXELS, "JPEG", quality=quality, subsampling=subsampling)
    (piece,) = all_copied().derive(source(data), np.random.default_rng(1)).pieces
    with Image.open(io.BytesIO(data)) as original, Image.open(io.BytesIO(piece.data)) as copy:
        assert isinstance(original, JpegImagePlugin.JpegImageFile)
        assert isinstance(copy, JpegImagePlugin.JpegImageFile)
        assert copy.quantization == original.quantization
        assert JpegImagePlugin.get_sampling(copy) == subsampling
    assert piece.suffix == ".jpg"


def test_a_grey_jpegs_copy_is_grey() -> None:
    data = saved(PIXELS[..., 0], "JPEG", quality=60)
    (piece,) = all_copied().derive(source(data), np.random.default_rng(1)).pieces
    with Image.open(io.BytesIO(data)) as original, Image.open(io.BytesIO(piece.data)) as copy:
        assert copy.mode == "L"
        assert copy.quantization == original.quantization  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("form", "options", "expected", "exact"),
    [
        ("PNG", {}, "PNG", True),
        ("BMP", {}, "PNG", True),
        ("WEBP", {"lossless": True}, "WEBP", True),
        ("WEBP", {"quality": 80}, "WEBP", False),
        ("WEBP", {"quality": 80, "exif": Image.Exif().tobytes() + b"\0\0"}, "WEBP", False),
        ("WEBP", {"lossless": True, "exif": Image.Exif().tobytes() + b"\0\0"}, "WEBP", True),
    ],
)
def test_a_copy_has_its_originals_format(form: str, options: dict[str, Any], expected: str, exact: bool) -> None:
    data = saved(PIXELS, form, **options)
    changed = PIXELS[::-1].copy()
    copy, suffix = like(data, decode(data), changed)
    picture = decode(copy)
    assert picture.format == expected
    assert suffix == f".{expected.lower()}"
    assert np.array_equal(picture.pixels, changed) == exact


@pytest.mark.parametrize("name", PLAIN)
def test_every_operation_of_the_vocabulary_changes_a_picture_a_little(name: str) -> None:
    data = saved(PIXELS, "PNG")
    changes = []
    for seed in range(6):
        (piece,) = (
            all_copied(operations={name: PLAIN[name]}, most=1).derive(source(data), np.random.default_rng(seed)).pieces
        )
        pixels = decode(piece.data).pixels
        assert pixels.shape == PIXELS.shape
        assert np.abs(pixels.astype(float).mean() - PIXELS.mean()) < 30
        changes.append(not np.array_equal(pixels, PIXELS))
    assert sum(changes) >= 5


def test_what_changes_the_size_is_cut_off_or_mirrored_around_the_middle() -> None:
    for factor in (2.0, 0.5):
        only = all_copied(operations={"scale": {"factor": (factor, factor)}}, most=1)
        (piece,) = only.derive(source(saved(PIXELS, "PNG")), np.random.default_rng(0)).pieces
        whole = VOCABULARY["scale"].apply(PIXELS, {"factor": factor})
        mirrored = np.pad(whole, ((12, 12), (16, 16), (0, 0)), "reflect")
        expected = whole[24:72, 32:96] if factor > 1 else mirrored
        np.testing.assert_array_equal(decode(piece.data).pixels, expected)


def test_a_copy_gets_one_to_three_distinct_operations() -> None:
    counts = Counter()
    flips: dict[str, Any] = {name: PLAIN[name] for name in ("horizontal_flip", "brightness", "blur", "noise")}
    seen: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        for name in flips:
            wrapped = VOCABULARY[name]

            def change(pixels: Pixels, _name: str = name, **_: float) -> Pixels:
                seen.append(_name)
                return pixels

            patch.setitem(VOCABULARY, name, type(wrapped)(name, change, wrapped.ranges))  # type: ignore[arg-type]
        for seed in range(200):
            seen.clear()
            all_copied(operations=flips).derive(source(saved(PIXELS, "PNG")), np.random.default_rng(seed))
            assert len(set(seen)) == len(seen)
            counts[len(seen)] += 1
    assert counts.keys() == {1, 2, 3}
    assert min(counts.values()) > 45


def test_albumentations_names_are_taken_beside_ours_and_have_defaults() -> None:
    both: dict[str, Any] = {"RandomGamma": {"gamma_limit": (50.0, 50.0)}, "VerticalFlip": {}}
    for name in both:
        only = all_copied(operations={name: both[name]}, most=1)
        (piece,) = only.derive(source(saved(PIXELS, "PNG")), np.random.default_rng(0)).pieces
        expected = PIXELS[::-1] if name == "VerticalFlip" else (255 * (PIXELS / 255) ** 0.5).astype(np.uint8)
        np.testing.assert_array_equal(decode(piece.data).pixels, expected)
    assert all_copied(operations={**both, "blur": PLAIN["blur"]}, most=3).most == 3


def test_a_copy_is_what_it_was_when_the_version_was_given() -> None:
    # Three operations that no release of Pillow changes by a level.
    operations = {name: PLAIN[name] for name in ("horizontal_flip", "shift", "noise")}
    data = saved(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8), "PNG")
    made = hashlib.sha256()
    for seed in range(40):
        (piece,) = all_copied(operations=operations).derive(source(data), np.random.default_rng(seed)).pieces
        made.update(decode(piece.data).pixels.tobytes())
    assert Augmented.version == 2
    assert made.hexdigest() == "295684d9cc08685a0dbdcd31cc972fb6824e3b6c75fbb40b0331f738ccfce2a3"


def test_shift_mirrors_what_comes_in_and_noise_has_the_asked_strength() -> None:
    shift, noise = VOCABULARY["shift"], VOCABULARY["noise"]
    moved = shift.apply(PIXELS, {"x": 0.125, "y": -0.25})
    np.testing.assert_array_equal(moved[12:, :56], PIXELS[:36, 8:])
    np.testing.assert_array_equal(moved[11, :56], PIXELS[1, 8:])
    grey = np.full((200, 200, 3), 128, np.uint8)
    assert noise.apply(grey, {"sigma": 6.0, "seed": 3}).std() == pytest.approx(6, rel=0.03)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"share": 1.2}, r"share 1\.2"),
        ({"label": "deepfake"}, "no label called"),
        ({"split": "val"}, "no split called"),
        ({"most": 0}, "most 0"),
        ({"most": 11}, "give 1 to 10"),
        ({"operations": {"blurr": {}}, "most": 1}, "did you mean blur"),
        ({"operations": {"GausBlur": {}}, "most": 1}, "did you mean GaussianBlur"),
        ({"operations": {"GaussianBlur": {"sigma": (0, 1)}}, "most": 1}, "did you mean sigma_limit"),
        ({"operations": {"blur": {"radius": (0, 1)}}, "most": 1}, "takes bounds of sigma"),
        ({"operations": {"blur": {}}, "most": 1}, "takes bounds of sigma"),
        ({"operations": {"blur": {"sigma": (2, 1)}}, "most": 1}, "give \\(low, high\\)"),
    ],
)
def test_values_that_do_not_hold_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Augmented(**values)
