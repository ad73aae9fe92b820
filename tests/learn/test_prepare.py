"""The rows that are trained on: those of a secondary data set, and copies that derivations make."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from assay.data.table import Table
from assay.errors import ManifestError, RecipeError
from assay.learn.prepare import derived, imbalanced, with_secondary
from assay.learn.rows import learning_rows
from assay.types import Label, Sample


@pytest.fixture
def first(samples: list[Sample]) -> Table:
    """Sixteen training, eight tuning and two test rows; those that are not trained on have a hash and an origin."""
    test = [dataclasses.replace(sample, split="test", origin=f"{n:064x}") for n, sample in enumerate(samples[:2], 90)]
    rows = [*samples, *test]
    return Table.of(
        sample if sample.split == "train" else dataclasses.replace(sample, sha256=f"{number:064d}")
        for number, sample in enumerate(rows)
    )


def second(count: int = 4, **fields: Any) -> list[Sample]:
    return [
        Sample(f"second/{n}.png", Label(n % 2), source="second", sha256=f"{n:063d}f", **fields) for n in range(count)
    ]


# ── a secondary data set ─────────────────────────────────────────────────────────────────────────────────────────────


def test_secondary_rows_are_trained_on_and_marked(first: Table) -> None:
    rows = learning_rows(first)
    found = with_secondary(rows, second(), first)
    assert found["tune"] is rows["tune"]
    train = list(found["train"])
    assert train[:16] == list(rows["train"])
    assert [sample.place for sample in train[16:]] == [f"second/{n}.png" for n in range(4)]
    assert {(sample.split, sample.groups["secondary"]) for sample in train[16:]} == {("train", "1")}
    assert not any(sample.groups.get("secondary") for sample in train[:16])
    assert len(rows["train"]) == 16


def test_of_a_secondary_set_with_splits_only_training_rows_are_taken(first: Table) -> None:
    splits = ["train", "tune", "test", "train"]
    rows = [dataclasses.replace(sample, split=split) for sample, split in zip(second(), splits, strict=True)]
    taken = list(with_secondary(learning_rows(first), rows, first)["train"])[16:]
    assert [sample.place for sample in taken] == ["second/0.png", "second/3.png"]


def test_a_secondary_set_without_training_rows_is_refused(first: Table) -> None:
    with pytest.raises(ManifestError, match="no row of split train; leave its splits empty to take all rows"):
        with_secondary(learning_rows(first), second(split="test"), first)


@pytest.mark.parametrize("split", ["tune", "test"])
@pytest.mark.parametrize(("mine", "theirs"), [("sha256", "sha256"), ("origin", "origin"), ("origin", "sha256")])
def test_a_picture_that_the_first_set_tunes_or_tests_on_is_not_trained_on(
    split: str, mine: str, theirs: str, first: Table
) -> None:
    held = next(sample for sample in first if sample.split == split)
    rows = second()
    rows[2] = dataclasses.replace(rows[2], **{mine: getattr(held, theirs)})
    with pytest.raises(ManifestError) as caught:
        with_secondary(learning_rows(first), rows, first)
    assert caught.value.problems == ("second/2.png: a picture that the first data set tunes or tests on",)
    assert "second/2.png" in str(caught.value)


def test_a_picture_that_the_first_set_trains_on_may_come_again(first: Table) -> None:
    rows = second()
    rows[2] = dataclasses.replace(rows[2], origin=first[0].origin)
    assert len(with_secondary(learning_rows(first), rows, first)["train"]) == 20


def test_every_row_without_a_label_is_listed(first: Table) -> None:
    rows = second()
    rows[1], rows[3] = (dataclasses.replace(rows[n], label=None) for n in (1, 3))
    with pytest.raises(ManifestError) as caught:
        with_secondary(learning_rows(first), rows, first)
    assert caught.value.problems == ("second/1.png: no label", "second/3.png: no label")


# ── derivations ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_half_of_the_training_reals_get_a_copy_and_tuning_rows_stay(samples: list[Sample], tmp_path: Path) -> None:
    rows = learning_rows(samples)
    found = derived(rows, ("augment",), tmp_path, seed=0, workers=0)
    assert found["tune"] is rows["tune"]
    train = list(found["train"])
    copies = [sample for sample in train if sample.groups["augmented"] == "1"]
    assert len(train) == 16 + 4
    assert len(copies) == 4
    originals = {sample.place: sample for sample in samples if sample.split == "train"}
    assert [sample.place for sample in train if sample.groups["augmented"] == "0"] == list(originals)
    by_origin = {sample.origin: sample for sample in originals.values()}
    for copy in copies:
        original = by_origin[copy.origin]
        assert (copy.label, copy.split, copy.source) == (Label.REAL, "train", original.source)
        one, other = (np.asarray(Image.open(place)) for place in (copy.place, original.place))
        assert one.shape == other.shape
        assert not np.array_equal(one, other)


def test_a_second_run_on_the_same_rows_takes_the_copies_that_are_there(samples: list[Sample], tmp_path: Path) -> None:
    rows = learning_rows(samples)
    first = derived(rows, ("augment",), tmp_path, seed=0, workers=0)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    assert len(files) == 4
    again = derived(rows, ("augment",), tmp_path, seed=0, workers=0)
    assert list(again["train"]) == list(first["train"])
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")} == files


def test_other_rows_and_another_seed_have_copies_of_their_own(samples: list[Sample], tmp_path: Path) -> None:
    rows = learning_rows(samples)
    for given, seed in ((rows, 0), (rows, 1), (rows | {"train": rows["train"][:8]}, 0)):
        derived(given, ("augment",), tmp_path, seed=seed, workers=0)
    assert len(list(tmp_path.iterdir())) == 3


def test_secondary_reals_are_derived_from_too_and_stay_marked(samples: list[Sample], tmp_path: Path) -> None:
    first = Table.of(sample for sample in samples if sample.place not in {s.place for s in samples[:4]})
    rows = with_secondary(learning_rows(first), [dataclasses.replace(s, split="") for s in samples[:4]], first)
    found = list(derived(rows, ("augment",), tmp_path, seed=0, workers=0)["train"])
    copies = [sample for sample in found if sample.groups["augmented"] == "1"]
    marked = {sample.origin for sample in samples[:4]}
    assert len(copies) == 4
    assert all((copy.groups.get("secondary") == "1") is (copy.origin in marked) for copy in copies)


def test_without_derivations_rows_stay_as_they_are(samples: list[Sample], tmp_path: Path) -> None:
    rows = learning_rows(samples)
    assert derived(rows, (), tmp_path, seed=0, workers=0) == rows
    assert not list(tmp_path.iterdir())


def test_a_derivation_that_does_not_exist_is_named(samples: list[Sample], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="'augmant'; did you mean augment"):
        derived(learning_rows(samples), ("augmant",), tmp_path, seed=0, workers=0)


def rows_of(reals: int, fakes: int) -> dict[str, Table]:
    samples = [Sample(f"r{n}.png", Label.REAL, split="train") for n in range(reals)]
    samples += [Sample(f"f{n}.png", Label.FAKE, "g", split="train") for n in range(fakes)]
    tune = [Sample("t0.png", Label.REAL, split="tune"), Sample("t1.png", Label.FAKE, "g", split="tune")]
    return {"train": Table.of(samples), "tune": Table.of(tune)}


@pytest.mark.parametrize(
    ("ratio", "reals", "fakes"), [(1.0, 20, 20), (2.0, 20, 40), (10.0, 4, 40), (20.0, 2, 40), (0.5, 20, 10)]
)
def test_training_rows_have_as_many_fakes_for_a_real_as_asked(ratio: float, reals: int, fakes: int) -> None:
    rows = rows_of(20, 40)
    found = imbalanced(rows, ratio)
    labels = found["train"].labels
    assert (int((labels == 0).sum()), int((labels == 1).sum())) == (reals, fakes)
    assert found["tune"] is rows["tune"]
    kept = set(found["train"].column("path").tolist())
    # The same ones wherever they lie and however many others there are.
    again = imbalanced({**rows, "train": rows["train"][np.arange(60)[::-1]]}, ratio)
    assert set(again["train"].column("path").tolist()) == kept


def test_a_ratio_that_leaves_a_class_empty_is_refused() -> None:
    with pytest.raises(ManifestError, match="would leave 1 real rows"):
        imbalanced(rows_of(20, 40), 40.0)
