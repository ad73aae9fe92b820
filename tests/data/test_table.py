"""Tables: the same samples as columns, a million of them without strain."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from assay.data.table import TEXT, Table, among, concatenated, distinct, field
from assay.errors import ManifestError
from assay.types import Label, Sample

SAMPLES = [
    Sample("a.png", Label.REAL, "", "camera", "ann", "clip", 0, "0a" * 32, "0b" * 32, "train", {"tone": "light"}),
    Sample("b.png", Label.FAKE, "sdxl", frame=12, split="test"),
    Sample("c.png", None, groups={"age": "30"}),
]


def test_samples_go_in_and_the_same_come_out() -> None:
    table = Table.of(SAMPLES)
    assert list(table) == SAMPLES
    assert [table[i] for i in range(3)] == SAMPLES
    assert table[-1] == SAMPLES[-1]
    assert Table.of(table) is table
    with pytest.raises(IndexError):
        table[3]


def test_rows_are_taken_by_number_mask_or_slice_and_remember_their_row() -> None:
    table = Table.of(SAMPLES)
    assert list(table[np.array([2, 0])]) == [SAMPLES[2], SAMPLES[0]]
    assert list(table[table.labels == 1]) == [SAMPLES[1]]
    assert list(table[1:]) == SAMPLES[1:]
    assert list(table[[]]) == []
    assert table[1:].row_numbers.tolist() == [3, 4]


def test_columns_are_text_and_those_that_nobody_filled_are_empty() -> None:
    table = Table.of(SAMPLES)
    assert table.column("label").tolist() == ["real", "fake", ""]
    assert table.labels.tolist() == [0, 1, -1]
    assert table.column("frame").tolist() == ["0", "12", ""]
    assert table.column("tone").tolist() == ["light", "", ""]
    assert Table.of(SAMPLES[2:]).column("video").tolist() == [""]
    assert set(table.groups) == {"tone", "age"}
    assert "video" in table.columns
    assert "video" not in Table.of(SAMPLES[2:]).columns
    with pytest.raises(ManifestError, match="no column called 'ton'; did you mean tone"):
        table.column("ton")


@pytest.mark.parametrize("name", ["path", "label", "generator", "frame", "split", "tone", "age"])
def test_a_sample_and_its_row_say_the_same_under_a_columns_name(name: str) -> None:
    assert [field(sample, name) for sample in SAMPLES] == Table.of(SAMPLES).column(name).tolist()


def test_a_column_is_put_in_place_in_a_copy() -> None:
    table = Table.of(SAMPLES)
    other = table.with_column("split", ["train", "tune", "test"])
    assert [sample.split for sample in other] == ["train", "tune", "test"]
    assert table[1].split == "test"
    with pytest.raises(ValueError, match="must have shape"):
        table.with_column("split", ["train"])


def test_tables_with_other_columns_are_joined() -> None:
    both = concatenated([Table.of(SAMPLES[:1]), Table.of(SAMPLES[1:])])
    assert list(both) == SAMPLES


def test_a_table_travels_to_another_process() -> None:
    assert list(pickle.loads(pickle.dumps(Table.of(SAMPLES)))) == SAMPLES  # noqa: S301


def test_no_rows_are_a_table_too() -> None:
    table = Table.of([])
    assert len(table) == 0
    assert list(table) == []
    assert table.column("source").tolist() == []


def test_a_group_that_is_named_like_a_field_is_refused() -> None:
    with pytest.raises(ManifestError, match="cannot be called 'video'"):
        Table.of([Sample("a", None, groups={"video": "x"})])


def test_the_texts_of_a_column_are_told_apart_whatever_they_are() -> None:
    names, place = distinct(np.array(["b", "", "a", "b"], TEXT))
    assert names.tolist() == ["", "a", "b"]
    assert place.tolist() == [2, 0, 1, 2]
    assert among(np.array(["b", "", "a", "b"], TEXT), ["a", ""]).tolist() == [False, True, True, False]
    # On this column NumPy 2.4.6 ends the process where it does not sort stably.
    paths = np.array([f"{number // 1000}/{number}.jpg" for number in range(200_000)], TEXT)
    assert len(distinct(paths)[0]) == 200_000
    assert among(paths, [f"{number // 1000}/{number}.jpg" for number in range(1000)]).sum() == 1000
