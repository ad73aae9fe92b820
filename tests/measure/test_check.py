"""Checks: a fault is found in the row where it is, a shortcut with its size, and what is sound is not called faulty."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assay.data import manifest
from assay.data.table import TEXT, Table
from assay.image import place as addresses
from assay.measure import check_report, check_shortcuts
from assay.measure.check import Finding, Report, Severity, check
from assay.measure.controls import Control
from assay.measure.findings import surely
from assay.metrics import Interval
from assay.types import Label, Sample

REAL, FAKE = Label.REAL, Label.FAKE
ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE

Put = Callable[..., Sample]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Write a picture and give its row: put("a.png", seed, Label.REAL, …); one seed, one look."""

    def write(name: str, seed: int, label: Label | None = REAL, *, side: int = 64, quality: int = 90, **about: object):
        blocks = np.random.default_rng(seed).integers(20, 236, (8, 8, 3), dtype=np.uint8)
        image = Image.fromarray(blocks).resize((side, side), Image.Resampling.BICUBIC)
        options = {"quality": quality} if name.endswith("jpg") else {}
        image.save(tmp_path / name, **options)
        return Sample(str(tmp_path / name), label, **about)

    return write


def row(number: int, label: Label | None = REAL, **about: object) -> Sample:
    """A row whose file nobody looks at."""
    groups = {name: about.pop(name) for name in list(about) if name not in Sample.__slots__}
    return Sample(f"{number}.png", label, groups=groups, **about)


def both(split: str, start: int, **about: object) -> list[Sample]:
    return [row(start, REAL, split=split, **about), row(start + 1, FAKE, split=split, generator="g", **about)]


def read(rows: list[Sample], **options: object) -> Report:
    return check(Table.of(rows), look=False, **options)


def kinds(report: Report, *severities: Severity) -> set[str]:
    return {found.kind for found in report.findings if not severities or found.severity in severities}


def only(report: Report, kind: str) -> Finding:
    (found,) = [found for found in report.findings if found.kind == kind]
    return found


def where(found: Finding) -> list[tuple[int, int]]:
    others = found.others if len(found.others) else np.zeros(len(found.rows), np.int64)
    return list(zip(found.rows.tolist(), others.tolist(), strict=True))


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
    assert kinds(report, ERROR) == {"bytes_across_splits"}
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


def test_looking_finds_files_that_are_missing_torn_or_changed(put: Put, tmp_path: Path) -> None:
    rows = [put(f"{n}.png", n, Label(n % 2), generator="g" if n % 2 else "") for n in range(6)]
    (tmp_path / "1.png").unlink()
    (tmp_path / "3.png").write_bytes((tmp_path / "3.png").read_bytes()[:90])
    rows[4] = dataclasses.replace(rows[4], sha256="ab" * 32)
    report = check(Table.of(rows), rounds=0)
    assert only(report, "missing").rows.tolist() == [3]
    assert only(report, "truncated").rows.tolist() == [5]
    assert only(report, "changed_file").rows.tolist() == [6]
    assert kinds(report, ERROR) == {"missing", "truncated", "changed_file"}


def test_looking_finds_equal_bytes_that_the_table_does_not_know(put: Put) -> None:
    rows = [put("a.png", 0, split="train"), put("b.png", 1, FAKE, split="train", generator="g")]
    rows += [put("c.png", 0, split="test"), put("d.png", 3, FAKE, split="test", generator="g")]
    rows += [put("e.png", 3, split="test")]
    report = check(Table.of(rows), rounds=0)
    assert where(only(report, "bytes_across_splits")) == [(4, 2)]
    assert where(only(report, "contradictory_label")) == [(5, 6)]
    assert kinds(report, ERROR) == {"bytes_across_splits", "contradictory_label"}


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


def many(put: Put, real: str, fake: str, count: int = 40, **splits: str) -> list[Sample]:
    about = [{"label": REAL, "source": "camera"}, {"label": FAKE, "source": "site", "generator": "g"}]
    made = []
    for number in range(count):
        suffix = (real, fake)[number % 2]
        known = about[number % 2] | {"source": f"{about[number % 2]['source']} {number // 2 % 4}"}
        made.append(put(f"{number}.{suffix}", number, split="test" if number < count / 2 else "train", **known))
    return made


def test_a_format_that_gives_the_class_away_is_an_error_that_names_the_cure(put: Put) -> None:
    report = check(Table.of(many(put, "jpg", "png")), rounds=50)
    assert kinds(report, ERROR) == {"shortcut"}
    found = only(report, "shortcut")
    assert "assay data align" in found.message
    assert any(line.startswith("format, all rows: AUC 1.000") for line in found.details)
    graves = {(short.part, short.name): short.severity for short in report.shortcuts}
    assert graves["all rows", "format"] == graves["test rows", "metadata"] == ERROR
    assert graves["all rows", "exif"] == NOTE
    assert {short.fitted for short in report.shortcuts if short.part == "test rows"} == {"", "on 20 other rows"}


def test_files_that_say_nothing_of_their_class_are_no_shortcut(put: Put) -> None:
    report = check(Table.of(many(put, "png", "png")), rounds=50)
    assert report.honest
    assert "shortcut" not in kinds(report)
    assert {short.part for short in report.shortcuts} == {"all rows", "test rows"}


def test_the_bound_says_what_is_an_error_and_without_intervals_nothing_is(put: Put) -> None:
    table = Table.of(many(put, "jpg", "png"))
    assert check(table, rounds=50, bound=1.0).honest
    assert "shortcut" in kinds(check(table, rounds=50, bound=1.0), WARNING)
    assert check(table, rounds=0).honest


def test_what_the_pictures_show_is_a_warning_and_never_an_error(put: Put, tmp_path: Path) -> None:
    rows = many(put, "png", "png")
    for number, sample in enumerate(rows):
        if sample.label is FAKE:
            bright = np.asarray(Image.open(sample.place)) // 4 + 190
            Image.fromarray(bright.astype(np.uint8)).save(tmp_path / f"{number}.png")
    report = check(Table.of(rows), rounds=50)
    graves = {(short.part, short.name): short.severity for short in report.shortcuts}
    assert graves["all rows", "thumbnail"] == WARNING
    assert "subject_shortcut" in kinds(report, WARNING)


def test_a_shortcut_the_other_way_round_is_as_sure() -> None:
    assert surely(Control(Interval(0.05, 0.0, 0.1, 40))) == pytest.approx(0.9)
    assert surely(Control(Interval(0.95, 0.9, 1.0, 40))) == pytest.approx(0.9)
    assert surely(Control(Interval(0.5, 0.4, 0.7, 40))) < 0.5
    assert math.isnan(surely(Control(Interval(0.95, math.nan, math.nan, 40))))


def test_only_so_many_rows_of_a_class_are_measured(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_shortcuts, "MOST", 12)
    report = check(Table.of(many(put, "png", "png", 60)), rounds=10)
    assert {short.control.auc.n for short in report.shortcuts if short.name == "pixels"} == {24}


def test_pictures_in_an_archive_are_looked_at_as_files_are(put: Put, tmp_path: Path) -> None:
    rows = many(put, "jpg", "png")
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        for sample in rows:
            tar.add(sample.place, Path(sample.place).name)
    packed = [
        dataclasses.replace(sample, place=addresses.join(tmp_path / "all.tar", Path(sample.place).name))
        for sample in rows
    ]
    plain, archived = check(Table.of(rows), rounds=20), check(Table.of(packed), rounds=20)
    assert [short.to_dict() for short in archived.shortcuts] == [short.to_dict() for short in plain.shortcuts]


def test_progress_counts_every_picture(put: Put) -> None:
    steps: list[tuple[str, int, int]] = []
    rows = [put(f"{number}.png", number) for number in range(5)]
    check(Table.of(rows), rounds=0, progress=lambda *step: steps.append(step))
    assert steps == [("looking", done, 5) for done in range(1, 6)]


def test_looking_never_happens_unasked(tmp_path: Path) -> None:
    report = read(both("train", 0) + both("test", 2))
    assert "missing" not in kinds(report)
    assert not report.looked
    assert "pictures were not looked at" in check_report.verdict(report)


@pytest.mark.parametrize("wrong", [{"near": -1}, {"near": 64}, {"bound": 0.4}, {"bound": 1.1}])
def test_values_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        read([], **wrong)


def test_a_report_is_json_that_holds_every_problem(put: Put) -> None:
    rows = [*many(put, "jpg", "png", 24), row(900, None, subject="x")]
    told = json.loads(json.dumps(check(Table.of(rows), rounds=10).to_dict(), allow_nan=False))
    assert told["honest"] is False
    assert told["counts"]["train"] == {"real": 6, "fake": 6, "": 0}
    missing = next(found for found in told["findings"] if found["kind"] == "missing")
    assert missing["count"] == 1
    assert missing["problems"][0]["row"] == 26
    assert [found["severity"] for found in told["findings"]] == sorted(
        (found["severity"] for found in told["findings"]), key=["error", "warning", "note"].index
    )


def test_the_printed_report_names_kinds_counts_rows_and_shortcuts(put: Put) -> None:
    rows = many(put, "jpg", "png", 40) + [row(900 + number, None) for number in range(14)]
    text = check_report.text(check(Table.of(rows), rounds=20), width=120)
    assert "error: missing (14): pictures that cannot be read" in text
    assert "  row 42: 900.png: " in text
    assert "… and 4 more" in text
    line = next(line for line in text.splitlines() if line.startswith("    format"))
    assert line.split() == ["format", "1.000", "1.000", "to", "1.000", "40", "error"]
    assert text.rstrip().splitlines()[-1].startswith("not fit to train or measure on as it stands: 2 errors, ")


def test_a_name_cannot_steer_the_terminal_or_become_markup() -> None:
    rows = both("train", 0, video="[red]\x1b[2Jv") + both("test", 2, video="[red]\x1b[2Jv")
    text = check_report.text(read(rows))
    assert "[red]\\x1b[2Jv (2 train, 2 test)" in text


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
    assert len(io.StringIO(check_report.text(report)).readlines()) < 60
