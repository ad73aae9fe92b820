"""What the table alone tells: a fault is found in the row where it is, and what is sound is not called faulty."""

from __future__ import annotations

import dataclasses
import io
import warnings
from pathlib import Path

import numpy as np
import pytest

from assay.data import manifest
from assay.data.table import TEXT, Table
from assay.measure.check import check
from assay.measure.check import report as printed
from checked import ERROR, FAKE, REAL, WARNING, both, kinds, only, read, row, where


def test_a_sound_table_has_no_fault() -> None:
    rows = [*both("train", 0, source="a"), *both("tune", 2, source="b"), *both("test", 4, source="c")]
    report = read(rows)
    assert report.honest
    assert report.findings == ()
    assert report.counts["tune"] == {"real": 1, "fake": 1, "": 0}


@pytest.mark.parametrize("column", ["origin", "subject", "video", "record", "original"])
@pytest.mark.parametrize("second", ["tune", "test"])
def test_what_must_stay_together_and_stands_in_two_splits_is_an_error(column: str, second: str) -> None:
    value = "ab" * 32
    rows = [*both("train", 0), *both(second, 2), row(4, split="train", **{column: value})]
    assert read(rows).honest
    report = read([*rows, row(5, FAKE, split=second, generator="g", **{column: value}), row(6, **{column: value})])
    assert kinds(report, ERROR) == {f"{column}_across_splits"}
    found = only(report, f"{column}_across_splits")
    assert where(found) == [(7, 6)]
    assert found.details == [f"{value} (1 train, 1 {second})"]
    assert f"--by {column}" in found.message


def test_a_subject_of_a_swap_leaks_by_each_of_its_people() -> None:
    rows = [*both("train", 0), *both("test", 2)]
    rows += [row(4, split="train", subject="id1"), row(5, FAKE, split="test", generator="g", subject="id7+id1")]
    assert where(only(read(rows), "subject_across_splits")) == [(7, 6)]


def test_a_column_that_names_a_category_can_be_left_out() -> None:
    rows = [*both("train", 0, subject="cats"), *both("test", 2, subject="cats")]
    assert not read(rows).honest
    assert read(rows, related=("origin", "video")).honest


def test_a_fake_may_share_origin_subject_and_video_with_its_real() -> None:
    shared = {"origin": "ab" * 32, "subject": "id1", "video": "v"}
    assert read([*both("train", 0, **shared), *both("test", 2)]).findings == ()


def test_an_original_and_what_was_made_of_it_are_one_origin_even_if_the_original_does_not_say_so() -> None:
    rows = [*both("train", 0), *both("test", 2), row(4, split="train", sha256="ab" * 32)]
    rows.append(row(5, FAKE, split="test", generator="g", sha256="cd" * 32, origin="AB" * 32))
    assert where(only(read(rows), "origin_across_splits")) == [(7, 6)]


def test_one_file_in_two_splits_is_told_once() -> None:
    digest = "ab" * 32
    rows = [*both("train", 0), *both("test", 2)]
    rows += [row(4, split="train", sha256=digest, origin=digest), row(5, split="test", sha256=digest, origin=digest)]
    report = read(rows)
    assert kinds(report, ERROR, WARNING) == {"bytes_across_splits"}
    assert where(only(report, "bytes_across_splits")) == [(7, 6)]


def test_copies_within_a_split_are_a_warning_for_each_further_copy() -> None:
    rows = [*both("train", 0), *(row(number, sha256="ab" * 32, split="train") for number in (2, 3, 4))]
    report = read(rows)
    assert report.honest
    assert where(only(report, "same_bytes")) == [(5, 4), (6, 4)]


def test_one_file_with_both_labels_is_an_error() -> None:
    rows = [*both("train", 0), row(2, REAL, sha256="ab" * 32), row(3, FAKE, sha256="ab" * 32, generator="g")]
    assert where(only(read(rows), "contradictory_label")) == [(5, 4)]


def test_a_path_in_two_rows_is_an_error_however_it_is_written() -> None:
    rows = [row(0), row(1, FAKE), dataclasses.replace(row(0, FAKE), place="./0.png")]
    found = only(read(rows), "repeated_path")
    assert where(found) == [(4, 2)]
    assert "fake here, real there" in found.details[0]


def test_a_file_that_is_named_twice_is_not_told_again_as_a_copy() -> None:
    rows = [*both("train", 0), *(row(2, split="train", sha256="ab" * 32) for _ in range(2))]
    assert kinds(read(rows)) == {"repeated_path"}


def test_a_split_without_a_class_is_an_error_that_names_it() -> None:
    rows = [*both("train", 0), row(2, split="test"), row(3, FAKE, split="tune")]
    assert only(read(rows), "lacking_class").details == ["tune: 0 real, 1 fake", "test: 1 real, 0 fake"]
    assert only(read([row(0), row(1)]), "lacking_class").details == ["all rows: 2 real, 0 fake"]
    assert not read([]).honest


def test_rows_of_unknown_class_a_generator_of_a_real_and_a_nameless_fake_are_told() -> None:
    rows = [*both("train", 0), row(2, None), row(3, generator="sd"), row(4, FAKE)]
    report = read(rows)
    assert report.honest
    assert where(only(report, "unknown_label")) == [(4, 0)]
    assert where(only(report, "generator_of_real")) == [(5, 0)]
    assert where(only(report, "fake_without_generator")) == [(6, 0)]
    assert where(only(report, "without_split")) == [(4, 0), (5, 0), (6, 0)]


def test_generators_of_one_side_and_sources_of_one_class_are_noted() -> None:
    rows = [row(0, split="train", source="a"), row(1, FAKE, split="train", generator="old", source="b")]
    rows += [row(2, split="test", source="a"), row(3, FAKE, split="test", generator="new", source="c")]
    report = read(rows)
    assert only(report, "generators_in_test_only").details == ["new"]
    assert only(report, "generators_without_test").details == ["old"]
    assert "3 sources" in only(report, "one_sided_sources").message
    assert "one_sided_sources" not in kinds(read([*rows, row(4, FAKE, source="a", generator="old")]))


def test_faults_of_a_manifest_become_findings_once_each(tmp_path: Path) -> None:
    lines = ["path,label,split,origin", "a.png,real,train,", "b.png,fake,train,", "c.png,reel,train,"]
    lines += ["d.png,real,test," + "ab" * 32, "e.png,fake,test,", "f.png,real,train," + "AB" * 32, "a.png,real,train,"]
    (tmp_path / "m.csv").write_text("\n".join(lines))
    report = check(manifest.read(tmp_path / "m.csv", check=False, strict=False), look=False)
    assert kinds(report, ERROR) == {"faulty_row", "origin_across_splits", "repeated_path"}
    found = only(report, "faulty_row")
    assert found.rows.tolist() == [4]
    assert "did you mean real" in found.details[0]
    assert where(only(report, "origin_across_splits")) == [(5, 7)]
    assert where(only(report, "repeated_path")) == [(8, 2)]


def test_a_million_rows_are_checked_in_whole_columns() -> None:
    # A tenth of it here: a row at a time this would take most of a minute.
    count = 100_000
    numbers = np.arange(count)
    columns = {
        "path": np.array([f"{number // 1000}/{number}.jpg" for number in range(count)], TEXT),
        "subject": np.array([f"id{number // 20}" for number in range(count)], TEXT),
        "origin": np.array([f"{number // 2:064x}" for number in range(count)], TEXT),
        "split": np.array(["train", "test"], TEXT)[numbers // 2 % 10 // 9],
        "generator": np.array(["", "g"], TEXT)[numbers % 2],
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = check(Table(columns, (numbers % 2).astype(np.int8)), look=False)
    assert kinds(report, ERROR) == {"subject_across_splits"}
    assert only(report, "subject_across_splits").count == count // 20
    assert len(io.StringIO(printed.text(report)).readlines()) < 60


def test_a_generator_of_tuning_rows_is_no_unseen_one() -> None:
    rows = [*both("train", 0), *both("test", 2)]
    for split in ("tune", "test"):
        rows += [row(len(rows), split=split), row(len(rows) + 1, FAKE, split=split, generator="tuned")]
    assert "generators_in_test_only" not in kinds(read(rows))
