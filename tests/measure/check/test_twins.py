"""Pictures that look the same are found across splits, classes and rows, unless the table ties them already."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assay.data.table import TEXT, Table
from assay.image import fingerprint
from assay.measure.check import check, pictures, twins
from assay.types import Sample
from checked import ERROR, FAKE, NOTE, REAL, WARNING, Put, kinds, only, where


def test_the_same_picture_in_another_format_across_a_split_is_an_error(put: Put) -> None:
    rows = [put("a.png", 0, split="train"), put("b.png", 1, FAKE, split="train", generator="g")]
    rows += [put("c.jpg", 0, side=128, split="test"), put("d.png", 3, FAKE, split="test", generator="g")]
    report = check(Table.of(rows), rounds=0)
    assert kinds(report, ERROR) == {"near_duplicate_across_splits"}
    assert where(only(report, "near_duplicate_across_splits")) == [(4, 2)]
    within = [dataclasses.replace(sample, split="train") for sample in rows]
    assert check(Table.of(within), rounds=0).honest


def test_near_duplicates_of_one_origin_are_told_as_its_origin(put: Put) -> None:
    rows = [put("a.png", 0, split="train", origin="ab" * 32), put("b.png", 1, FAKE, split="train", generator="g")]
    rows += [put("c.jpg", 0, split="test", origin="ab" * 32), put("d.png", 3, FAKE, split="test", generator="g")]
    assert kinds(check(Table.of(rows), rounds=0), ERROR) == {"origin_across_splits"}
    # A third copy of no known origin is near both.
    rows.append(put("e.jpg", 0, side=128, quality=85, split="test"))
    found = only(check(Table.of(rows), rounds=0), "near_duplicate_across_splits")
    assert where(found) == [(6, 2)]


@pytest.mark.parametrize("seed", range(5))
def test_a_near_duplicate_is_found_behind_one_of_the_same_origin(put: Put, seed: int) -> None:
    rows = [put("a.png", seed, split="train", origin="ab" * 32), put("b.png", 91, FAKE, split="train", generator="g")]
    rows += [put("c.bmp", seed, split="train", origin="cd" * 32)]
    rows += [put("d.jpg", seed, quality=25, split="test", origin="ab" * 32)]
    rows += [put("e.png", 93, FAKE, split="test", generator="g")]
    assert where(only(check(Table.of(rows), rounds=0), "near_duplicate_across_splits")) == [(5, 4)]
    swapped = [dataclasses.replace(found, split={"train": "test", "test": "train"}[found.split]) for found in rows]
    assert where(only(check(Table.of(swapped), rounds=0), "near_duplicate_across_splits")) == [(4, 5)]


def test_equal_bytes_with_both_labels_are_not_told_again_as_looking_alike(put: Put) -> None:
    rows = [put("a.png", 0, origin="ab" * 32), put("b.png", 0, FAKE, generator="g", origin="cd" * 32)]
    assert kinds(check(Table.of(rows), rounds=0), ERROR, WARNING) == {"contradictory_label", "same_bytes"}


def test_a_fake_that_looks_like_a_real_is_a_warning_unless_an_origin_ties_them(put: Put) -> None:
    rows = [put("a.png", 0, split="train"), put("b.jpg", 0, FAKE, split="train", generator="vae")]
    report = check(Table.of(rows), rounds=0)
    assert kinds(report, WARNING) == {"looks_real_and_fake"}
    assert where(only(report, "looks_real_and_fake")) == [(3, 2)]
    tied = [dataclasses.replace(sample, origin="ab" * 32) for sample in rows]
    assert "looks_real_and_fake" not in kinds(check(Table.of(tied), rounds=0))


def test_blank_pictures_are_not_taken_for_each_other(tmp_path: Path) -> None:
    rows = []
    for number, (split, label) in enumerate([("train", REAL), ("train", FAKE), ("test", REAL), ("test", FAKE)]):
        Image.new("RGB", (40 + number, 40), (number * 30,) * 3).save(tmp_path / f"{number}.png")
        about = {"generator": "g"} if label else {}
        rows.append(Sample(str(tmp_path / f"{number}.png"), label, split=split, **about))
    assert check(Table.of(rows), rounds=0).findings == ()


def test_pictures_that_look_the_same_within_a_split_and_class_are_noted_for_each_further_one(put: Put) -> None:
    rows = [put("a.png", 0, split="train"), put("b.jpg", 0, split="train"), put("c.bmp", 0, split="train")]
    rows += [put("d.png", 1, split="train"), put("e.png", 2, FAKE, split="train", generator="g")]
    found = only(check(Table.of(rows), rounds=0), "near_duplicate_within_split")
    assert where(found) == [(3, 2), (4, 2)]
    assert found.severity is NOTE
    assert [Path(name).name for name in found.details] == ["b.jpg", "c.bmp"]


@pytest.mark.parametrize(
    "apart",
    [
        {"split": "tune"},
        {"label": FAKE, "generator": "g"},
        {"label": None},
        {"origin": "ab" * 32},
        {"video": "clip 1"},
    ],
)
def test_another_split_or_class_or_one_origin_or_clip_is_no_duplicate_within_a_split(
    put: Put, apart: dict[str, object]
) -> None:
    first = put("a.png", 0, split="train", origin="ab" * 32, video="clip 1")
    second = dataclasses.replace(put("b.jpg", 0, split="train"), **apart)
    assert "near_duplicate_within_split" not in kinds(check(Table.of([first, second]), rounds=0))
    plain = dataclasses.replace(second, split="train", label=REAL, origin="", video="")
    assert "near_duplicate_within_split" in kinds(check(Table.of([first, plain]), rounds=0))


def test_copies_byte_for_byte_are_not_told_again_as_looking_the_same(put: Put) -> None:
    rows = [put("a.png", 0, split="train", origin="ab" * 32), put("b.png", 0, split="train", origin="cd" * 32)]
    assert kinds(check(Table.of(rows), rounds=0)) & {"same_bytes", "near_duplicate_within_split"} == {"same_bytes"}


def test_a_clip_that_may_cross_splits_does_not_excuse_its_frames(put: Put) -> None:
    rows = [put("a.png", 0, split="train", video="v"), put("b.jpg", 0, split="test", video="v")]
    told = kinds(check(Table.of(rows), rounds=0))
    assert told & {"video_across_splits", "near_duplicate_across_splits"} == {"video_across_splits"}
    assert "near_duplicate_across_splits" in kinds(check(Table.of(rows), rounds=0, related=("origin",)))


@pytest.mark.parametrize("seed", range(6))
def test_twins_are_those_that_comparing_every_row_with_every_other_finds(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Pairs come in parts of a million; here in parts of a few.
    monkeypatch.setattr(fingerprint, "_PART", 1 + seed * 20)
    random = np.random.default_rng(seed)
    count, near = 160, 3
    base = random.integers(0, 1 << 63, 12, dtype=np.uint64)
    flips = np.array(
        [np.bitwise_or.reduce(np.uint64(1) << random.integers(0, 64, bits, dtype=np.uint64)) for bits in (1, 2, 2, 3)]
    )
    hashes = base[random.integers(0, 12, count)] ^ np.append(flips, np.uint64(0))[random.integers(0, 5, count)]
    hashable = random.random(count) < 0.9
    splits = random.choice(["train", "tune", "test", ""], count)
    labels = random.choice([-1, 0, 1], count).astype(np.int8)
    origin = random.choice(["", "a", "b", "c"], count, p=[0.4, 0.2, 0.2, 0.2])
    columns = {"path": [f"{n}.png" for n in range(count)], "split": splits, "origin": origin}
    table = Table({name: np.array(cells, TEXT) for name, cells in columns.items()}, labels)
    seen = pictures.Seen([""] * count, hashes, hashable, {}, {})
    found = {each.kind: where(each) for each in twins.findings(table, seen, near, ())}

    def alike(a: int, b: int, bits: int = near) -> bool:
        tied = origin[a] != "" and origin[a] == origin[b]
        return bool(hashable[a] and hashable[b] and not tied and int(hashes[a] ^ hashes[b]).bit_count() <= bits)

    order = ["train", "tune", "test"]
    across, within, both = [], [], []
    for a in range(count):
        before = [b for b in range(count) if splits[a] and splits[b] and alike(a, b)]
        before = [b for b in before if order.index(splits[b]) < order.index(splits[a])]
        if before:
            across.append((a + 2, 2 + min(before, key=lambda b: (order.index(splits[b]), b))))
        kin = [b for b in range(a) if alike(a, b) and splits[a] == splits[b] and labels[a] == labels[b]]
        within += [(a + 2, kin[0] + 2)] if kin else []
        real = [b for b in range(count) if labels[a] == 1 and labels[b] == 0 and alike(a, b, 0)]
        both += [(a + 2, real[0] + 2)] if real else []
    assert found == {
        "near_duplicate_across_splits": across,
        "looks_real_and_fake": both,
        "near_duplicate_within_split": within,
    }
