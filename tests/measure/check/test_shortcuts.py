"""Shortcuts: what tells the classes apart without a trace has its size, its severity and its cure."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assay.data.table import Table
from assay.measure.check import Severity, check, shortcuts
from assay.measure.check.findings import surely
from assay.measure.controls import Control
from assay.metrics import Interval
from checked import ERROR, FAKE, NOTE, WARNING, Many, Put, kinds, only


def test_a_format_that_gives_the_class_away_is_an_error_that_names_the_cure(many: Many) -> None:
    report = check(Table.of(many("jpg", "png")), rounds=50)
    assert kinds(report, ERROR) == {"shortcut"}
    found = only(report, "shortcut")
    assert "assay data align" in found.message
    assert any(line.startswith("format, all rows: AUC 1.000") for line in found.details)
    graves = {(short.part, short.name): short.severity for short in report.shortcuts}
    assert graves["all rows", "format"] == graves["test rows", "metadata"] == ERROR
    assert graves["all rows", "exif"] == NOTE
    assert {short.fitted for short in report.shortcuts if short.part == "test rows"} == {"", "on 20 other rows"}


def test_files_that_say_nothing_of_their_class_are_no_shortcut(many: Many) -> None:
    report = check(Table.of(many("png", "png")), rounds=50)
    assert report.honest
    assert "shortcut" not in kinds(report)
    assert {short.part for short in report.shortcuts} == {"all rows", "test rows"}


def test_the_bound_says_what_is_an_error_and_without_intervals_nothing_is(many: Many) -> None:
    table = Table.of(many("jpg", "png"))
    assert check(table, rounds=50, bound=1.0).honest
    assert "shortcut" in kinds(check(table, rounds=50, bound=1.0), WARNING)
    assert check(table, rounds=0).honest


def test_what_the_pictures_show_is_a_warning_and_never_an_error(many: Many, tmp_path: Path) -> None:
    rows = many("png", "png")
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


def test_only_so_many_rows_of_a_class_are_measured(many: Many, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shortcuts, "MOST", 12)
    report = check(Table.of(many("png", "png", 60)), rounds=10)
    assert {short.control.auc.n for short in report.shortcuts if short.name == "pixels"} == {24}


def test_a_shortcut_says_how_many_rows_of_each_class_it_rests_on(put: Put) -> None:
    rows = [put(f"r{n}.jpg" if n < 18 else f"r{n}.png", n) for n in range(25)]
    rows += [put(f"f{n}.jpg" if n < 11 else f"f{n}.png", 100 + n, FAKE, generator="g") for n in range(13)]
    counts = {short.name: (short.reals, short.fakes) for short in check(Table.of(rows), rounds=0).shortcuts}
    assert counts["jpeg_quality"] == (18, 11)
    assert counts["format"] == counts["metadata"] == (25, 13)


def test_aligning_is_named_as_the_cure_only_where_it_cures() -> None:
    def cure(*names: str) -> str:
        surely = Control(Interval(0.95, 0.9, 1.0, 40))
        found = [shortcuts.Shortcut(name, "all rows", surely, ERROR, 20, 20) for name in names]
        (told,) = shortcuts.findings(found, 0.8)
        return told.message

    for names in (["format"], ["jpeg_quality", "bytes_per_pixel"], ["metadata"], ["exif", "metadata"]):
        assert "assay data align" in cure(*names)
    for names in (["bytes_per_pixel"], ["bytes_per_pixel", "metadata"]):
        assert "aligning files cures nothing" in cure(*names)
        assert "assay data align" not in cure(*names)


def test_where_a_fold_cannot_be_fitted_the_classes_of_the_rest_are_not_claimed(put: Put) -> None:
    rows = [put(f"r{n}.png", n, source="a" if n < 12 else "b") for n in range(15)]
    rows += [put(f"f{n}.png", 100 + n, FAKE, generator="g", source="cd"[n % 2]) for n in range(24)]
    found = {short.name: short for short in check(Table.of(rows), rounds=0).shortcuts}
    assert found["metadata"].control.auc.n < 39
    assert (found["metadata"].reals, found["metadata"].fakes) == (None, None)
    assert (found["pixels"].reals, found["pixels"].fakes) == (15, 24)


def test_nothing_is_fitted_on_a_file_that_is_also_tested(many: Many) -> None:
    rows = many("png", "png", 48)
    tested, fitted = (next(each for each in rows if each.split == split) for split in ("test", "train"))
    Path(fitted.place).write_bytes(Path(tested.place).read_bytes())
    report = check(Table.of(rows), rounds=0)
    assert {short.fitted for short in report.shortcuts if short.part == "test rows"} == {"", "on 23 other rows"}


def test_a_fact_of_a_few_rows_is_never_more_than_a_note(put: Put) -> None:
    rows = [put(f"r{n}.jpg" if n < 4 else f"r{n}.png", n, quality=60) for n in range(12)]
    rows += [put(f"f{n}.jpg" if n < 4 else f"f{n}.png", 100 + n, FAKE, generator="g", quality=95) for n in range(12)]
    found = {short.name: short for short in check(Table.of(rows), rounds=50).shortcuts}
    assert found["jpeg_quality"].control.auc.value == found["jpeg_quality"].surely == 1
    assert found["jpeg_quality"].severity is NOTE


@pytest.mark.parametrize(
    ("low", "high", "severity"), [(0.81, 0.9, ERROR), (0.7, 0.9, WARNING), (0.1, 0.3, WARNING), (0.6, 0.9, NOTE)]
)
def test_how_grave_a_shortcut_is_goes_by_what_it_surely_is(low: float, high: float, severity: Severity) -> None:
    assert shortcuts._severity(Control(Interval((low + high) / 2, low, high, 40)), 0.8) is severity
