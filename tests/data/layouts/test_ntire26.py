"""NTIRE 2026: names carry the training labels, label files the others, and 1 is fake unless told otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay.data import layouts
from assay.errors import LayoutError
from assay.types import Label, Sample

REAL, FAKE = Label.REAL, Label.FAKE


def tree(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"picture")
    return root


def labels(found: layouts.Found) -> dict[str, Label | None]:
    return {Path(sample.place).name: sample.label for sample in found.samples}


def by_name(found: layouts.Found) -> dict[str, Sample]:
    return {Path(sample.place).name: sample for sample in found.samples}


def test_training_pictures_are_what_their_names_say(tmp_path: Path) -> None:
    tree(tmp_path / "training_data_final", "0000_real.png", "0003_fake.png", "0004fake.jpg", "0005real.jpg")
    found = by_name(layouts.read("ntire26", tmp_path))
    assert {name: sample.label for name, sample in found.items()} == {
        "0000_real.png": REAL,
        "0003_fake.png": FAKE,
        "0004fake.jpg": FAKE,
        "0005real.jpg": REAL,
    }
    assert {(sample.split, sample.groups["part"]) for sample in found.values()} == {("train", "training_data_final")}


@pytest.mark.parametrize(
    ("folder", "split"),
    [
        ("validation_data_final", "tune"),
        ("publictest_data_final", "test"),
        ("privatetest_data_final", "test"),
        ("val", "tune"),
        ("valid", "tune"),
        ("test", "test"),
    ],
)
def test_pictures_of_the_other_parts_have_no_label_of_their_own(tmp_path: Path, folder: str, split: str) -> None:
    tree(tmp_path / folder, "0000.png")
    for root in (tmp_path, tmp_path / folder):
        (sample,) = layouts.read("ntire26", root).samples
        assert (sample.label, sample.split) == (None, split)


def test_parts_one_folder_further_down_are_found(tmp_path: Path) -> None:
    tree(tmp_path / "trainval_data_final", "training_data_final/0000_real.png", "validation_data_final/0000.png")
    assert [sample.split for sample in layouts.read("ntire26", tmp_path).samples] == ["train", "tune"]


@pytest.mark.parametrize("classes", [("real", "fake"), ("Real", "FAKE")])
def test_class_folders_say_the_label(tmp_path: Path, classes: tuple[str, str]) -> None:
    real, fake = classes
    tree(tmp_path, f"train/{real}/a.png", f"train/{fake}/b.png", f"test/{fake}/c.png")
    assert labels(layouts.read("ntire26", tmp_path)) == {"a.png": REAL, "b.png": FAKE, "c.png": FAKE}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.csv", "filename,label\n0000.png,0\n0001.png,1\n"),
        ("labels.csv", "0000.png,0\n0001.png,1\n"),
        ("labels.csv", "target,x,image\n0,?,0000.png\n1,?,0001.png\n"),
        ("labels.txt", "0000 0\n0001 1\n"),
        ("labels.txt", "0000.png\treal\n0001.png\tfake\n"),
        ("labels.txt", "0\n1\n"),
        ("labels.json", '{"0000.png": 0, "0001": "fake"}'),
        ("labels.json", '{"0000.png": false, "0001.png": true}'),
    ],
)
def test_in_a_label_file_one_is_fake(tmp_path: Path, name: str, text: str) -> None:
    tree(tmp_path / "publictest_data_final", "0000.png", "0001.png")
    (tmp_path / name).write_text(text)
    found = layouts.read("ntire26", tmp_path, labels=str(tmp_path / name))
    assert labels(found) == {"0000.png": REAL, "0001.png": FAKE}
    (tmp_path / name).rename(tmp_path / "publictest_data_final" / name)
    beside = layouts.read("ntire26", tmp_path)
    assert labels(beside) == labels(found)
    assert not beside.left_out


def test_a_label_file_of_the_other_polarity_is_converted_when_it_is_said(tmp_path: Path) -> None:
    tree(tmp_path, "pictures/0000.png", "pictures/0001.png", "pictures/0002.png")
    (tmp_path / "given.csv").write_text("0000.png,0\n0001.png,1\n0002.png,real\n")
    found = layouts.read("ntire26", tmp_path / "pictures", labels=str(tmp_path / "given.csv"), polarity="real")
    assert labels(found) == {"0000.png": FAKE, "0001.png": REAL, "0002.png": REAL}
    with pytest.raises(LayoutError, match="polarity=1"):
        layouts.read("ntire26", tmp_path / "pictures", labels=str(tmp_path / "given.csv"), polarity="1")


def test_the_line_of_a_bare_list_is_the_number_of_the_picture_not_its_rank(tmp_path: Path) -> None:
    tree(tmp_path / "publictest_data_final", "0001.png", "0003.png", "0009.png", "cover.png")
    (tmp_path / "truth.txt").write_text("0\n1\n0\n0\n")
    found = layouts.read("ntire26", tmp_path, labels=str(tmp_path / "truth.txt"))
    assert labels(found) == {"0001.png": FAKE, "0003.png": REAL}
    assert found.left_out == {"not in the label file": 2}


def test_a_label_file_that_contradicts_a_name_is_an_error_that_names_the_polarity(tmp_path: Path) -> None:
    tree(tmp_path / "training_data_final", "0000_real.png")
    (tmp_path / "given.csv").write_text("0000_real.png,1\n")
    with pytest.raises(LayoutError, match=r"is real by its name or folder and fake in .*polarity=real"):
        layouts.read("ntire26", tmp_path, labels=str(tmp_path / "given.csv"))


def test_a_name_that_contradicts_its_folder_is_an_error(tmp_path: Path) -> None:
    tree(tmp_path, "train/real/0000_fake.png")
    with pytest.raises(LayoutError, match="is named fake and lies in real"):
        layouts.read("ntire26", tmp_path)


def test_a_label_that_could_be_for_several_folders_is_refused_and_a_path_settles_it(tmp_path: Path) -> None:
    tree(tmp_path, "validation_data_final/0000.png", "publictest_data_final/0000.png")
    given = tmp_path / "given.csv"
    for text in ("1\n", "0000.png,1\n"):
        given.write_text(text)
        with pytest.raises(LayoutError, match="does not say which of"):
            layouts.read("ntire26", tmp_path, labels=str(given))
    given.write_text("publictest_data_final/0000.png,1\nvalidation_data_final/0000.png,0\n")
    found = layouts.read("ntire26", tmp_path, labels=str(given))
    assert [(sample.split, sample.label) for sample in found.samples] == [("test", FAKE), ("tune", REAL)]


def test_what_gives_no_sample_is_left_out_with_a_reason(tmp_path: Path) -> None:
    tree(tmp_path / "training_data_final", "0000_real.png", "0000_real_face0.png", "0001.png", "notes.md")
    found = layouts.read("ntire26", tmp_path)
    assert found.left_out == {
        "a face crop that a participant's preprocessing wrote": 1,
        "a training picture without real or fake in its name": 1,
        "not a picture": 1,
    }
    (tmp_path / "given.csv").write_text("0000_real.png,0\n0007.png,1\n")
    told = layouts.read("ntire26", tmp_path, labels=str(tmp_path / "given.csv")).left_out
    assert told["labelled, but no such picture is there"] == 1
    assert told["not in the label file"] == 1


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("l.csv", "0000.png,0.93\n", "line 1: the label '0.93' is none of 0, 1, real, fake"),
        ("l.csv", "name,score\n0000.png,1\n", "has the columns name, score; expected one of"),
        ("l.csv", "0000.png,1\n0000.png,0\n", "line 2: 0000.png is named twice"),
        ("l.csv", "0000.png,1\n0001.png\n", "line 2: a name or a label is missing"),
        ("l.csv", "\n", "is empty"),
        ("l.json", '[{"name": "0000.png"}]', "is not of the form"),
        ("l.json", "{", "cannot be read as JSON"),
    ],
)
def test_a_label_file_that_cannot_be_understood_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    tree(tmp_path / "test", "0000.png", "0001.png")
    (tmp_path / name).write_text(text)
    with pytest.raises(LayoutError, match=message):
        layouts.read("ntire26", tmp_path, labels=str(tmp_path / name))


def test_a_folder_of_another_shape_is_refused_with_what_was_expected(tmp_path: Path) -> None:
    tree(tmp_path, "pictures/a.png", "b.png")
    with pytest.raises(LayoutError, match=r"no training, validation or test folder[^$]*Expected:\nROOT/"):
        layouts.read("ntire26", tmp_path)
    with pytest.raises(LayoutError, match="it is not a folder"):
        layouts.read("ntire26", tmp_path / "b.png")
