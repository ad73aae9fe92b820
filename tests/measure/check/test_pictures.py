"""Looking at the files: what is missing, torn, changed or a copy is found, and only where it was asked for."""

from __future__ import annotations

import dataclasses
import hashlib
import tarfile
from pathlib import Path

import numpy as np
import pytest

from assay.data.table import Table
from assay.errors import InputError
from assay.image import place as addresses
from assay.measure.check import check, pictures
from assay.measure.check import report as printed
from assay.types import Label
from checked import ERROR, FAKE, WARNING, Many, Put, both, kinds, only, read, row, where


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


def test_pictures_in_an_archive_are_looked_at_as_files_are(many: Many, tmp_path: Path) -> None:
    rows = many("jpg", "png")
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        for sample in rows:
            tar.add(sample.place, Path(sample.place).name)
    packed = [
        dataclasses.replace(sample, place=addresses.join(tmp_path / "all.tar", Path(sample.place).name))
        for sample in rows
    ]
    plain, archived = check(Table.of(rows), rounds=20), check(Table.of(packed), rounds=20)
    assert [short.to_dict() for short in archived.shortcuts] == [short.to_dict() for short in plain.shortcuts]


def test_progress_counts_every_picture(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_BLOCK", 2)
    steps: list[tuple[str, int, int]] = []
    rows = [put(f"{number}.png", number) for number in range(5)]
    check(Table.of(rows), rounds=0, progress=lambda *step: steps.append(step))
    assert steps == [("looking", done, 5) for done in range(1, 6)]


def test_looking_never_happens_unasked(tmp_path: Path) -> None:
    report = read(both("train", 0) + both("test", 2))
    assert "missing" not in kinds(report)
    assert not report.looked
    assert "pictures were not looked at" in printed.verdict(report)


def test_a_hash_in_capitals_is_the_same_file(put: Put) -> None:
    sample = put("a.png", 0)
    digest = hashlib.sha256(Path(sample.place).read_bytes()).hexdigest().upper()
    assert "changed_file" not in kinds(check(Table.of([dataclasses.replace(sample, sha256=digest)]), rounds=0))


def test_what_this_installation_cannot_decode_is_a_warning_and_no_fault_of_the_data() -> None:
    seen = pictures.Seen([""], np.zeros(1, np.uint64), np.zeros(1, np.bool_), {}, {})
    seen.errors[0] = InputError("needs an extra", kind="needs_extra")
    (found,) = seen.findings(Table.of([row(0)]))
    assert (found.kind, found.severity) == ("needs_extra", WARNING)
