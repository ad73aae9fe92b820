"""What a training on flowing data keeps at hand: rows to look at again, and a memory of every row."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from assay.data import manifest, shards
from assay.data.index import Index
from assay.data.table import Table
from assay.errors import ManifestError
from assay.learn import hold
from assay.learn.hold import Memory, held, remember, rows_of
from assay.types import Sample


def test_some_rows_are_held_half_of_each_class_and_the_same_each_time(table: Table, tmp_path: Path) -> None:
    some = held(table, table, "train", tmp_path, most=6, seed=4)
    assert Counter(some.labels.tolist()) == {0: 3, 1: 3}
    assert list(some) == list(held(table, table, "train", tmp_path, most=6, seed=4))
    assert list(some) != list(held(table, table, "train", tmp_path, most=6, seed=5))
    assert len(held(table, table, "tune", tmp_path, seed=4)) == 8


def test_rows_of_local_shards_can_be_read_one_by_one(index: Index, samples: list[Sample], tmp_path: Path) -> None:
    rows = rows_of(index)
    assert len(rows) == len(samples)
    some = held(index, rows, "train", tmp_path, most=4, seed=0)
    assert manifest.read(Path(index.source).with_name("manifest.csv"))
    assert all("::" in sample.place for sample in some)


def test_a_manifest_that_does_not_fit_its_shards_is_refused(
    index: Index, samples: list[Sample], tmp_path: Path
) -> None:
    other = shards.write(samples[:4], tmp_path / "other")
    manifest.write(tmp_path / "other" / "manifest.csv", samples[:3])
    with pytest.raises(ManifestError, match="write the shards again"):
        rows_of(other)


def test_every_training_row_is_remembered_and_looked_at_once(
    table: Table, samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flat = tmp_path / "flat.png"
    Image.new("RGB", (50, 50), "white").save(flat)
    rows = Table.of([*samples, dataclasses.replace(samples[0], place=str(flat), origin="ab" * 32)])
    memory = remember(rows, tmp_path, workers=0)
    assert len(memory.files) == 17
    assert set(memory.origins) == {sample.origin for sample in samples[:16]} | {"ab" * 32}
    assert sum(phash is None for phash in memory.phashes) == 1
    assert 0 not in memory.phashes
    looked: list[object] = []
    monkeypatch.setattr(hold, "decode", looked.append)
    assert remember(rows, tmp_path, workers=0) == memory
    assert not looked


def test_a_data_set_that_changed_is_looked_at_anew(samples: list[Sample], tmp_path: Path) -> None:
    rows = []
    for number, sample in enumerate(samples[:2]):
        copy = tmp_path / f"{number}.png"
        copy.write_bytes(Path(sample.place).read_bytes())
        rows.append(dataclasses.replace(sample, place=str(copy)))
    before = remember(Table.of(rows), tmp_path, workers=0)
    Path(rows[0].place).write_bytes(Path(samples[2].place).read_bytes())
    assert remember(Table.of(rows), tmp_path, workers=0).files != before.files


def test_all_pictures_that_cannot_be_decoded_are_listed_before_training(samples: list[Sample], tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    rows = Table.of([*samples, *(dataclasses.replace(samples[i], place=str(broken)) for i in range(2))])
    with pytest.raises(ManifestError) as caught:
        remember(rows, tmp_path, workers=0)
    assert len(caught.value.problems) == 2
    assert not list(tmp_path.glob("memory-*"))


def test_a_memory_is_kept_without_loss(tmp_path: Path) -> None:
    memory = Memory(("0a" * 32, "0b" * 32), ("0c" * 32, ""), (2**64 - 1, None))
    memory.save(tmp_path / "m.npz")
    assert Memory.load(tmp_path / "m.npz") == memory
