"""A set with remade copies: fakes that a maker decoded, aligned with their originals in all but its trace."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, JpegImagePlugin

from assay.data import manifest
from assay.data.derivations import Source
from assay.data.derive import derive
from assay.data.table import Table
from assay.errors import BundleError, ManifestError, OutputError, RecipeError
from assay.image.decode import decode
from assay.learn import remake
from assay.learn.maker import Maker, MakerFields, load, save
from assay.learn.remake import GROUP, MAKERS, WHY, Remake, makers_in, matched, recipe, train_makers
from assay.types import Label, Pixels, Sample

TINY = {"width": 4, "latent": 4, "blocks": 0, "crop": 16, "batch": 2, "adversarial": 0.0, "precision": "fp32"}
FIELDS = {
    "plain": MakerFields.model_validate(TINY | {"factor": 2}),
    "taken": MakerFields.model_validate(TINY | {"factor": 4, "upsampler": "transposed", "decoder": "diffusion"}),
}
NAMES = {"assay-nearest-x2", "assay-transposed-x4-diffusion"}


def picture(seed: int, height: int = 48, width: int = 56) -> Pixels:
    """Soft colours under noise."""
    draw = np.random.default_rng(seed)
    coarse = Image.fromarray(draw.integers(60, 180, (5, 6, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int64)
    return np.clip(pixels + draw.integers(-20, 21, pixels.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def makers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two makers that were not trained."""
    folder = tmp_path_factory.mktemp("makers")
    for seed, (name, fields) in enumerate(FIELDS.items()):
        torch.manual_seed(seed)
        save(Maker(fields), folder / name)
    return folder


@pytest.fixture
def rows(tmp_path: Path) -> Table:
    """Twelve training reals as JPEG, PNG and WebP, and two each of training fakes, tuning, test and other reals."""
    (tmp_path / "set").mkdir()
    kinds = [(Label.REAL, "train")] * 12 + [(Label.FAKE, "train")] * 2
    kinds += [(Label.REAL, split) for split in ("tune", "test", "") for _ in range(2)]
    made = []
    for number, (label, split) in enumerate(kinds):
        name, options = (("a.jpg", {"quality": 77}), ("a.png", {}), ("a.webp", {"lossless": True}))[number % 3]
        path = tmp_path / "set" / f"{number}{name}"
        Image.fromarray(picture(number)).save(path, **options)
        made.append(Sample(str(path), label, "gan" if label else "", f"s{number}", split=split, groups={"kind": "x"}))
    return Table.of(made)


def remaking(makers: Path, **changes: Any) -> Remake:
    return Remake(makers_in(makers), **({"share": 1.0} | changes))


def source(path: Path, drawn: bool = True) -> Source:
    return Source(
        Sample(str(path), Label.REAL, split="train"), path.read_bytes(), remake.Remake(("x",)).limits, drawn=drawn
    )


# ── the set ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_training_reals_get_a_fake_copy_by_one_of_the_makers_and_every_row_stays(
    rows: Table, makers: Path, tmp_path: Path
) -> None:
    result = derive(rows, tmp_path / "out", remaking(makers), workers=0)
    stayed = manifest.select(result.table, **{GROUP: "0"})
    copies = manifest.select(result.table, **{GROUP: "1"})
    assert stayed.column("path").tolist() == rows.column("path").tolist()
    assert stayed.labels.tolist() == rows.labels.tolist()
    assert (len(copies), result.made) == (12, 12)
    assert set(copies.column("generator").tolist()) == NAMES
    known = {sample.source: sample for sample in stayed}
    for copy in copies:
        original = known[copy.source]
        assert (copy.label, copy.split) == (Label.FAKE, "train")
        assert (original.label, original.split) == (Label.REAL, "train")
        assert copy.origin == original.origin == original.sha256 != copy.sha256
        assert (copy.groups["derivation"], copy.groups["kind"]) == ("remake", "x")
    tally = remaking(makers).tally(result.table)
    assert tally["remade copies"] == sum(tally[f"by {name}"] for name in NAMES) == 12
    assert list(manifest.read(result.manifest)) == list(result.table)


def test_a_copy_is_the_makers_reconstruction_in_its_originals_format(rows: Table, makers: Path, tmp_path: Path) -> None:
    only = Remake(makers_in(makers / "plain"), share=1, match=0)
    result = derive(rows, tmp_path / "out", only, workers=0)
    known = {sample.source: sample for sample in manifest.select(result.table, **{GROUP: "0"})}
    for copy in manifest.select(result.table, **{GROUP: "1"}):
        original = known[copy.source]
        with Image.open(original.place) as first, Image.open(copy.place) as other:
            assert (first.format, first.size) == (other.format, other.size)
            if isinstance(first, JpegImagePlugin.JpegImageFile):
                assert isinstance(other, JpegImagePlugin.JpegImageFile)
                assert first.quantization == other.quantization
        expected = load(makers / "plain").reconstruct(decode(original.place).pixels)
        difference = np.abs(decode(copy.place).pixels.astype(float) - expected)
        assert difference.mean() < 10 if original.place.endswith("jpg") else not difference.any()


def test_a_share_is_met_to_the_row_and_a_copy_is_not_copied(rows: Table, makers: Path, tmp_path: Path) -> None:
    once = derive(rows, tmp_path / "once", remaking(makers, share=0.25), workers=0)
    assert once.made == 3
    again = derive(once.table, tmp_path / "again", remaking(makers, share=0.25), workers=0)
    assert again.made == 3
    assert Counter(again.table.column(GROUP).tolist()) == {"0": 20, "1": 6}


def test_spawned_workers_make_the_same_files(rows: Table, makers: Path, tmp_path: Path) -> None:
    here = derive(rows[:5], tmp_path / "here", remaking(makers), workers=0)
    there = derive(rows[:5], tmp_path / "there", remaking(makers), workers=1)
    assert there.table.column("sha256").tolist() == here.table.column("sha256").tolist()


def test_the_set_is_the_same_where_its_makers_moved_and_another_where_one_is_another(
    makers: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "elsewhere"
    for name in FIELDS:
        save(load(makers / name), moved / name, note="moved")
    assert remaking(moved).fingerprint() == remaking(makers).fingerprint()
    torch.manual_seed(9)
    save(Maker(FIELDS["plain"]), tmp_path / "other" / "plain")
    save(load(makers / "taken"), tmp_path / "other" / "taken")
    assert remaking(tmp_path / "other").fingerprint() != remaking(makers).fingerprint()
    assert str(makers) not in json.dumps(remaking(makers).parameters())


def test_of_a_large_picture_a_region_on_the_grid_of_its_blocks_is_remade(
    makers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, columns = np.mgrid[:150, :200]
    # A pixel says where it is.
    Image.fromarray(np.stack([rows, columns, rows], axis=2).astype(np.uint8)).save(tmp_path / "large.png")
    places: set[tuple[int, int]] = set()
    reconstruct = Maker.reconstruct

    def noting(maker: Maker, pixels: Pixels) -> Pixels:
        places.add((int(pixels[0, 0, 0]), int(pixels[0, 0, 1])))
        return reconstruct(maker, pixels)

    monkeypatch.setattr(Maker, "reconstruct", noting)
    for seed in range(12):
        (piece,) = remaking(makers, side=64).derive(source(tmp_path / "large.png"), np.random.default_rng(seed)).pieces
        assert decode(piece.data).pixels.shape == (64, 64, 3)
    assert len(places) > 6
    assert all(top % 16 == left % 16 == 0 and top + 64 <= 150 and left + 64 <= 200 for top, left in places)
    (piece,) = remaking(makers, side=160).derive(source(tmp_path / "large.png"), np.random.default_rng(0)).pieces
    assert decode(piece.data).pixels.shape == (150, 160, 3)


def test_what_decoding_leaves_as_it_was_is_no_fake(
    rows: Table, makers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Maker, "reconstruct", lambda maker, pixels: pixels.copy())
    result = derive(rows[:3], tmp_path / "out", remaking(makers), workers=0)
    assert (result.made, result.table.column(WHY).tolist()) == (0, ["decoding left it as it was"] * 3)
    assert remaking(makers).tally(result.table) == {
        "remade copies": 0,
        "drawn and not remade: decoding left it as it was": 3,
    }


def test_torchs_threads_are_one_while_decoding_and_the_callers_own_afterwards(
    rows: Table, makers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    reconstruct = Maker.reconstruct

    def counting(maker: Maker, pixels: Pixels) -> Pixels:
        threads.append(torch.get_num_threads())
        return reconstruct(maker, pixels)

    monkeypatch.setattr(Maker, "reconstruct", counting)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        remaking(makers).derive(source(Path(rows[0].place)), np.random.default_rng(0))
        assert (threads, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"makers": ()}, "no makers"),
        ({"share": 1.5}, r"share 1\.5"),
        ({"match": -0.5}, r"match -0\.5"),
        ({"side": 16}, "side 16"),
    ],
)
def test_values_that_do_not_hold_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        Remake(**({"makers": ("x",)} | values))


def test_a_maker_that_is_not_there_is_told_before_any_work(rows: Table, makers: Path, tmp_path: Path) -> None:
    gone = Remake((str(makers / "plain"), str(makers / "gone")))
    with pytest.raises(BundleError, match="gone"):
        derive(rows, tmp_path / "out", gone, workers=0)
    assert not (tmp_path / "out").exists()
    with pytest.raises(BundleError, match="no maker there"):
        makers_in(tmp_path)


# ── the spectrum ─────────────────────────────────────────────────────────────────────────────────────────────────────


def high(pixels: Pixels) -> float:
    """Power above a quarter of the sampling rate, all channels."""
    height, width = pixels.shape[:2]
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :])
    power = np.abs(np.fft.fft2(pixels.astype(float), axes=(0, 1))) ** 2
    return float(power[radius > 0.25].sum())


def soft(pixels: Pixels) -> Pixels:
    image = Image.fromarray(pixels)
    return np.asarray(image.resize((image.width // 2, image.height // 2)).resize(image.size, Image.Resampling.BICUBIC))


@pytest.mark.parametrize("shape", [(96, 120), (61, 47)])
def test_matching_takes_high_frequencies_as_far_back_as_it_is_asked(shape: tuple[int, int]) -> None:
    original = picture(1, *shape)
    fake = Image.fromarray(original).resize((shape[1] * 4 // 5, shape[0] * 4 // 5)).resize(shape[::-1])
    fake = np.asarray(fake)
    powers = [high(matched(fake, original, match)) / high(original) for match in (0, 0.5, 1)]
    assert powers[0] < 0.4
    assert powers[0] * 1.3 < powers[1] < powers[2] * 0.8
    assert powers[2] == pytest.approx(1, abs=0.25)


def test_matching_takes_too_much_detail_away_as_well() -> None:
    original = soft(picture(1, 96, 120))
    rough = picture(1, 96, 120)
    assert high(matched(rough, original, 1)) < 0.5 * high(rough)


def test_without_matching_a_copy_stays_as_it_was_decoded_and_a_match_of_itself_too() -> None:
    fake = picture(2)
    np.testing.assert_array_equal(matched(fake, picture(1), 0), fake)
    np.testing.assert_array_equal(matched(fake, fake, 1), fake)


def test_matching_keeps_brightness_the_picture_and_the_peaks_of_upsampling() -> None:
    original = picture(1, 96, 96)
    fake = soft(original).astype(int)
    # What nearest upsampling leaves: a lattice at half the sampling rate.
    fake = np.clip(fake + 6 * (np.arange(96) % 2)[None, :, None], 0, 255).astype(np.uint8)
    result = matched(fake, original, 0.5)
    assert np.abs(result.mean((0, 1)) - fake.mean((0, 1))).max() < 0.5
    assert np.corrcoef(result.ravel(), fake.ravel())[0, 1] > 0.9
    spectrum = np.abs(np.fft.fft2(result.astype(float).sum(axis=2)))
    assert spectrum[0, 48] > 10 * np.median(spectrum[1:40, 48])


def test_matching_is_bounded_and_takes_any_size() -> None:
    flat, rough = np.full((40, 40, 3), 100, np.uint8), picture(1, 40, 40)
    np.testing.assert_array_equal(matched(flat, rough, 1), flat)
    almost = flat.copy()
    almost[20, 20] += 1
    assert np.abs(matched(almost, rough, 1).astype(int) - flat).max() <= remake._MOST
    for height, width in ((1, 1), (1, 9), (2, 2), (7, 3)):
        assert matched(picture(1, height, width), picture(2, height, width), 1).shape == (height, width, 3)


# ── the makers ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def reals(rows: Table) -> list[Sample]:
    return list(manifest.select(rows, split="train", label=Label.REAL))


def test_makers_are_trained_each_in_its_folder_and_measured_on_what_none_has_seen(
    reals: list[Sample], tmp_path: Path
) -> None:
    seen: list[str] = []
    folders = train_makers(
        reals, tmp_path, steps_each=2, recipes=FIELDS, on_step=lambda name, step, steps, loss: seen.append(name)
    )
    assert folders == {name: tmp_path / name for name in FIELDS}
    assert seen == ["plain", "plain", "taken", "taken"]
    for name, folder in folders.items():
        assert load(folder).fields == FIELDS[name]
        record = json.loads((folder / "maker.json").read_text(encoding="utf-8"))["record"]
        assert (record["pictures"], record["steps"]) == (11, 2)
        assert 3 < record["psnr"] < 40
    assert makers_in(tmp_path) == tuple(str(tmp_path / name) for name in sorted(FIELDS))


def test_a_maker_that_is_there_is_kept_and_one_of_other_fields_refused(reals: list[Sample], tmp_path: Path) -> None:
    train_makers(reals, tmp_path, steps_each=1, recipes={"plain": FIELDS["plain"]})
    before = (tmp_path / "plain" / "maker.safetensors").stat().st_ino
    (tmp_path / "taken.part").mkdir()
    train_makers(reals, tmp_path, steps_each=1, recipes=FIELDS)
    assert (tmp_path / "plain" / "maker.safetensors").stat().st_ino == before
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir() and path.name != "set") == [*sorted(FIELDS)]
    with pytest.raises(OutputError, match="of other fields"):
        train_makers(reals, tmp_path, steps_each=1, recipes={"plain": FIELDS["taken"]})


def test_a_stop_leaves_no_half_maker(reals: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(name: str, step: int, steps: int, loss: float) -> None:
        if name == "taken":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_makers(reals, tmp_path / "out", steps_each=1, recipes=FIELDS, on_step=stop)
    assert makers_in(tmp_path / "out") == (str(tmp_path / "out" / "plain"),)


def test_copies_of_a_picture_are_not_held_out_from_a_maker_that_saw_it(reals: list[Sample]) -> None:
    copies = [dataclasses.replace(sample, origin=f"{number // 2:064x}") for number, sample in enumerate(reals)]
    for seed in range(5):
        learnt, held_out = remake._apart(copies, seed)
        assert len(learnt) + len(held_out) == 12
        assert len(held_out) == 2
        assert not {sample.origin for sample in learnt} & {sample.origin for sample in held_out}
    assert remake._apart(copies, 1)[1] != remake._apart(copies, 2)[1]


def test_makers_learn_from_training_reals_alone(rows: Table, reals: list[Sample], tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="real pictures of the training split"):
        train_makers(list(rows), tmp_path / "out", steps_each=1, recipes=FIELDS)
    with pytest.raises(ManifestError, match="two real training pictures or more"):
        train_makers(reals[:1], tmp_path / "out", steps_each=1, recipes=FIELDS)
    with pytest.raises(RecipeError, match="either minutes or steps"):
        train_makers(reals, tmp_path / "out", recipes=FIELDS)


def test_every_recipe_leaves_another_trace_and_small_ones_are_small() -> None:
    assert len({fields.name for fields in MAKERS.values()}) == len(MAKERS)
    assert {fields.upsampler for fields in MAKERS.values()} == {"nearest", "transposed", "subpixel"}
    for fields in MAKERS.values():
        # Copying the fields over does not validate them.
        assert MakerFields.model_validate(fields.model_dump()) == fields
        assert sum(parameter.numel() for parameter in Maker(fields).parameters()) < 1e6
    assert recipe("nearest-x4") == MAKERS["nearest-x4"]
    with pytest.raises(RecipeError, match="did you mean nearest-x4"):
        recipe("nearest-4")
