"""DFDC: words and numbers both say fake rightly, and all fakes of one clip stay with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from assay.data import layouts
from assay.errors import LayoutError
from assay.types import Label, Sample

ENTRIES: dict[str, Any] = {
    "aaa.mp4": {"label": "FAKE", "split": "train", "original": "ccc.mp4"},
    "bbb.mp4": {"label": "FAKE", "split": "train", "original": "ccc.mp4"},
    "ccc.mp4": {"label": "REAL", "split": "train", "original": None},
}


def part(folder: Path, entries: dict[str, Any] | None = None, clips: tuple[str, ...] | None = None) -> Path:
    entries = ENTRIES if entries is None else entries
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metadata.json").write_text(json.dumps(entries))
    for name in entries if clips is None else clips:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"clip")
    return folder


def labelled(folder: Path, text: str, *clips: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "labels.csv").write_text(text)
    for name in clips:
        (folder / name).write_bytes(b"clip")


def by_video(found: layouts.Found) -> dict[str, Sample]:
    return {sample.video: sample for sample in found.samples}


def test_the_words_of_the_metadata_are_the_labels(tmp_path: Path) -> None:
    found = by_video(layouts.read("dfdc", part(tmp_path)))
    assert {name: (sample.label, sample.generator) for name, sample in found.items()} == {
        "aaa": (Label.FAKE, "DFDC"),
        "bbb": (Label.FAKE, "DFDC"),
        "ccc": (Label.REAL, ""),
    }
    assert {sample.split for sample in found.values()} == {"train"}


def test_fakes_share_subject_and_original_with_the_clip_they_were_made_from(tmp_path: Path) -> None:
    found = layouts.read("dfdc", part(tmp_path / "dfdc_train_part_0"))
    assert {(sample.subject, sample.groups["original"]) for sample in layouts.read("dfdc", tmp_path).samples} == {
        ("ccc", "ccc")
    }
    assert {sample.groups["part"] for sample in found.samples} == {"dfdc_train_part_0"}


def test_in_labels_csv_one_is_fake(tmp_path: Path) -> None:
    labelled(tmp_path / "test", "filename,label\nxxx.mp4,1\nyyy.mp4,0\n", "xxx.mp4", "yyy.mp4")
    found = by_video(layouts.read("dfdc", tmp_path))
    assert (found["xxx"].label, found["yyy"].label) == (Label.FAKE, Label.REAL)
    assert {sample.split for sample in found.values()} == {"test"}
    assert (found["xxx"].subject, found["yyy"].subject) == ("", "yyy")


@pytest.mark.parametrize("above", ["", "train"])
def test_parts_are_found_at_the_root_and_one_folder_down(tmp_path: Path, above: str) -> None:
    part(tmp_path / above / "dfdc_train_part_0", {"a.mp4": {"label": "REAL"}})
    part(tmp_path / above / "dfdc_train_part_1", {"b.mp4": {"label": "REAL"}})
    assert [sample.video for sample in layouts.read("dfdc", tmp_path).samples] == ["a", "b"]


def test_frames_in_folders_give_a_sample_each(tmp_path: Path) -> None:
    part(tmp_path, clips=("frames/aaa/007.png", "frames/ccc/000.png", "landmarks/aaa/007.npy"))
    found = layouts.read("dfdc", tmp_path)
    assert [(sample.video, sample.frame, sample.label) for sample in found.samples] == [
        ("aaa", 7, Label.FAKE),
        ("ccc", 0, Label.REAL),
    ]
    assert found.left_out == {
        "in metadata.json, but not there": 1,
        "a folder that holds no clips (masks, landmarks, models)": 1,
    }


def test_missing_clips_and_clips_without_an_entry_are_left_out(tmp_path: Path) -> None:
    part(tmp_path, clips=("aaa.mp4", "ccc.mp4", "stray.mp4", "notes.txt"))
    found = layouts.read("dfdc", tmp_path)
    assert len(found.samples) == 2
    assert found.left_out == {"in metadata.json, but not there": 1, "no entry in metadata.json": 1, "not a clip": 1}
    assert found.examples["in metadata.json, but not there"].endswith("bbb")


def test_parts_below_a_part_are_read_and_not_told_as_left_out(tmp_path: Path) -> None:
    part(tmp_path)
    part(tmp_path / "more", {"ddd.mp4": {"label": "REAL"}})
    found = layouts.read("dfdc", tmp_path)
    assert len(found.samples) == 4
    assert not found.left_out


def test_a_clip_in_two_parts_is_given_once_and_never_under_two_labels(tmp_path: Path) -> None:
    part(tmp_path / "a", {"x.mp4": {"label": "REAL"}})
    part(tmp_path / "b", {"x.mp4": {"label": "REAL"}})
    found = layouts.read("dfdc", tmp_path)
    assert len(found.samples) == 1
    assert found.left_out == {"the same clip is in another part": 1}
    part(tmp_path / "b", {"x.mp4": {"label": "FAKE"}})
    with pytest.raises(LayoutError, match="x is fake here and real in another part"):
        layouts.read("dfdc", tmp_path)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"a.mp4": {"label": "fake?"}}, 'expected "REAL" or "FAKE"'),
        ({"a.mp4": {"label": 1}}, 'expected "REAL" or "FAKE"'),
        ({"a.mp4": {"label": ["FAKE"]}}, 'expected "REAL" or "FAKE"'),
        ({"a.mp4": {"label": "REAL", "split": "dev"}}, "split 'dev'"),
        ({"a.mp4": {"label": "REAL", "original": "b.mp4"}}, "only fakes have one"),
        ({"a.mp4": "FAKE"}, "not of the form"),
    ],
)
def test_metadata_of_another_form_is_refused(tmp_path: Path, entries: dict[str, Any], message: str) -> None:
    with pytest.raises(LayoutError, match=message):
        layouts.read("dfdc", part(tmp_path, entries))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("filename,target\na.mp4,1\n", "has the columns filename, target; expected filename and label"),
        ("filename,label\na.mp4,0.7\n", "line 2: 'a.mp4' has the label '0.7'"),
        ("filename,label\na.mp4\n", "line 2"),
    ],
)
def test_labels_of_another_form_are_refused(tmp_path: Path, text: str, message: str) -> None:
    labelled(tmp_path, text, "a.mp4")
    with pytest.raises(LayoutError, match=message):
        layouts.read("dfdc", tmp_path)


def test_a_folder_of_another_shape_is_refused_with_what_was_expected(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"clip")
    with pytest.raises(LayoutError, match=r"no metadata.json and no labels.csv[^$]*Expected:\nROOT/"):
        layouts.read("dfdc", tmp_path)
