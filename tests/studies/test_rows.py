"""Which rows an arm is trained and tested on."""

from __future__ import annotations

import dataclasses

import pytest

from assay.data.table import Table
from assay.errors import ManifestError
from assay.studies.rows import few, values_of, without
from assay.studies.rows import test_rows as rows_to_test
from assay.types import Label


def test_what_is_left_out_is_tested_and_what_the_manifest_tests_stays_tested(table: Table) -> None:
    before = {sample.place: sample.split for sample in table}
    after = {sample.place: sample for sample in without(table, "generator", "dots")}
    for place, sample in after.items():
        if before[place] == "test":
            assert sample.split == "test"
        elif sample.generator == "dots":
            assert sample.split in ("test", "")
        else:
            # Nothing moves between training and tuning.
            assert sample.split in (before[place], "test", "")
    assert {s.generator for s in after.values() if s.split == "train"} == {"", "bars"}


def test_rows_linked_to_what_is_left_out_are_not_trained_on_beside_it(table: Table) -> None:
    linked = [
        dataclasses.replace(sample, origin="a" * 64) if sample.place.endswith(("01.png", "02.png")) else sample
        for sample in table
    ]
    for seed in range(5):
        given = without(Table.of(linked), "generator", "dots", seed)
        assert not [s for s in given if s.generator == "dots" and s.split in ("train", "tune")]
        assert len({s.split for s in given if s.origin == "a" * 64} - {""}) == 1


def test_values_are_those_that_training_has_enough_of(table: Table) -> None:
    assert values_of(table, "generator", 7) == ["bars", "dots"]
    assert values_of(table, "generator", 8) == []
    assert values_of(table, "domain", 10) == ["satellite", "x-ray"]
    with pytest.raises(ManifestError, match="no column called 'domian'"):
        values_of(table, "domian")


def test_a_manifest_without_test_rows_of_both_classes_says_how_to_get_some(table: Table) -> None:
    assert len(rows_to_test(table)) == 12
    with pytest.raises(ManifestError, match="no real row has the split test"):
        rows_to_test(table[[row for row, s in enumerate(table) if s.split != "test" or s.label is Label.FAKE]])


def test_a_few_rows_are_the_same_few_and_hold_both_classes(table: Table) -> None:
    chosen = few(table, {"train": 3, "tune": 2, "test": 1})
    counts: dict[tuple[str, Label | None], int] = {}
    for sample in chosen:
        counts[sample.split, sample.label] = counts.get((sample.split, sample.label), 0) + 1
    assert counts == {
        (split, label): count for split, count in (("train", 3), ("tune", 2), ("test", 1)) for label in Label
    }
    assert [s.place for s in few(table, {"train": 3})] == [s.place for s in few(table, {"train": 3})]
