from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from assay.data import layouts
from assay.errors import LayoutError
from assay.types import Label

Put = Callable[[Path], Path]


@pytest.mark.parametrize(
    "folders",
    [
        ("train_real", "train_fake", "valid_real", "valid_fake"),
        ("Train-Real", "TRAIN_FAKE", "val_real", "validation_fake"),
        ("train/real", "train/fake", "valid/real", "valid/fake"),
        ("DFWild-Cup/training/real", "DFWild-Cup/training/fake", "DFWild-Cup/val/real", "DFWild-Cup/val/fake"),
    ],
)
def test_every_spelling_of_the_four_folders_is_read(tmp_path: Path, picture: Put, folders: tuple[str, ...]) -> None:
    for folder in folders:
        picture(tmp_path / folder / "a.png")

    samples = layouts.read("dfwildcup", tmp_path).samples

    by_folder = {Path(sample.place).parent.relative_to(tmp_path).as_posix(): sample for sample in samples}
    assert [(by_folder[folder].label, by_folder[folder].split) for folder in folders] == [
        (Label.REAL, "train"),
        (Label.FAKE, "train"),
        (Label.REAL, "tune"),
        (Label.FAKE, "tune"),
    ]
    assert {sample.source for sample in samples} == {"DFWild-Cup"}
    assert all(sample.groups == {} for sample in samples)


def test_the_data_set_below_the_class_is_kept(tmp_path: Path, picture: Put) -> None:
    picture(tmp_path / "train_fake/UADFV/a.png")
    picture(tmp_path / "valid/real/Celeb-DF-v1/b.png")

    samples = layouts.read("dfwildcup", tmp_path).samples

    assert [sample.groups for sample in samples] == [{"dataset": "UADFV"}, {"dataset": "Celeb-DF-v1"}]


def test_the_validation_set_can_be_measured_on_as_dfcon_does(tmp_path: Path, picture: Put) -> None:
    picture(tmp_path / "train_real/a.png")
    picture(tmp_path / "valid_fake/b.png")

    samples = layouts.read("dfwildcup", tmp_path, validation="test").samples

    assert [sample.split for sample in samples] == ["train", "test"]


@pytest.mark.parametrize("folder", ["eval", "Evaluation", "test", "eval_set", "DFWild/test_images"])
def test_evaluation_pictures_have_no_label(tmp_path: Path, picture: Put, folder: str) -> None:
    picture(tmp_path / folder / "a.png")

    (sample,) = layouts.read("dfwildcup", tmp_path).samples

    assert (sample.label, sample.split) == (None, "test")


@pytest.mark.parametrize("folder", ["eval_fake", "evaluation/fake", "test_fake"])
def test_evaluation_pictures_in_a_class_folder_have_its_label(tmp_path: Path, picture: Put, folder: str) -> None:
    picture(tmp_path / folder / "a.png")

    (sample,) = layouts.read("dfwildcup", tmp_path).samples

    assert (sample.label, sample.split, sample.groups) == (Label.FAKE, "test", {})


@pytest.mark.parametrize(
    "key", ["name,label\na.png,1\nb.png,0\n", "a 1.0\nb 0.0\n", "a.png real\nb.png fake\n", "a.png,REAL\n\nb.png,FAKE"]
)
def test_the_numbers_of_a_key_are_higher_for_real_and_are_turned_round(tmp_path: Path, picture: Put, key: str) -> None:
    picture(tmp_path / "set/eval/a.png")
    picture(tmp_path / "set/eval/b.png")
    picture(tmp_path / "set/eval/c.png")
    (tmp_path / "key.txt").write_text(key)

    found = layouts.read("dfwildcup", tmp_path / "set", key=str(tmp_path / "key.txt"))

    assert [sample.label for sample in found.samples] == [Label.REAL, Label.FAKE]
    assert dict(found.left_out) == {"an evaluation picture that the key does not name": 1}


def test_a_list_of_scores_is_no_key(tmp_path: Path, picture: Put) -> None:
    picture(tmp_path / "eval/a.png")
    (tmp_path / "scores.txt").write_text("a.png 0.93\nb.png 0\n")

    with pytest.raises(LayoutError, match=r"line 1: 'a.png 0.93'.*a list of scores is no key"):
        layouts.read("dfwildcup", tmp_path, key=str(tmp_path / "scores.txt"))


def test_a_key_that_is_not_there_is_refused(tmp_path: Path, picture: Put) -> None:
    picture(tmp_path / "eval/a.png")

    with pytest.raises(LayoutError, match="cannot be read"):
        layouts.read("dfwildcup", tmp_path, key=str(tmp_path / "none.txt"))


def test_what_is_in_none_of_the_folders_is_left_out(tmp_path: Path, picture: Put) -> None:
    for name in ("train_real/a.png", "readme.png", "train/unlabelled/b.png"):
        picture(tmp_path / name)
    (tmp_path / "train_real/list.txt").write_text("x")

    assert dict(layouts.read("dfwildcup", tmp_path).left_out) == {
        "in no folder of the training, validation or evaluation set": 2,
        "not a picture by its suffix": 1,
    }


def test_another_tree_is_refused_naming_what_was_expected(tmp_path: Path, picture: Put) -> None:
    picture(tmp_path / "real/a.png")

    with pytest.raises(LayoutError, match=r"there is no train_real(.|\n)*\{train,valid\}_\{real,fake\}"):
        layouts.read("dfwildcup", tmp_path)


def test_a_wrong_split_for_validation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="did you mean test"):
        layouts.read("dfwildcup", tmp_path, validation="tests")
