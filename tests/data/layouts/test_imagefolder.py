from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from assay.data import layouts
from assay.errors import LayoutError
from assay.types import Label, Sample

Put = Callable[[Path], Path]


def read(root: Path, picture: Put, *names: str, **options: str) -> dict[str, Sample]:
    """Samples by path below the root, of a tree of these files."""
    for name in names:
        picture(root / name)
    samples = layouts.read("imagefolder", root, **options).samples
    return {Path(sample.place).relative_to(root).as_posix(): sample for sample in samples}


def test_fake_is_one_although_image_folders_would_number_it_zero(tmp_path: Path, picture: Put) -> None:
    found = read(tmp_path, picture, "train/fake/a.png", "train/real/b.png", "valid/fake/c.jpg", "test/real/d.jpg")

    assert {name: int(sample.label or 0) for name, sample in found.items()} == {
        "train/fake/a.png": 1,
        "train/real/b.png": 0,
        "valid/fake/c.jpg": 1,
        "test/real/d.jpg": 0,
    }
    assert [sample.split for sample in found.values()] == ["test", "train", "train", "tune"]


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("0_real", Label.REAL),
        ("Original", Label.REAL),
        ("nature", Label.REAL),
        ("authentic_images", Label.REAL),
        ("genuine", Label.REAL),
        ("1_fake", Label.FAKE),
        ("AI-Generated", Label.FAKE),
        ("synthetic faces", Label.FAKE),
        ("DeepFakes", Label.FAKE),
        ("manipulated", Label.FAKE),
    ],
)
def test_classes_go_by_their_usual_names(tmp_path: Path, picture: Put, name: str, label: Label) -> None:
    (sample,) = read(tmp_path, picture, f"{name}/a.png").values()

    assert sample.label is label


def test_the_folder_above_cnndetections_classes_is_the_generator_of_fakes(tmp_path: Path, picture: Put) -> None:
    found = read(tmp_path, picture, "cyclegan/apple/0_real/a.png", "cyclegan/apple/1_fake/b.png", "san/1_fake/c.png")

    assert [sample.generator for sample in found.values()] == ["", "cyclegan", "san"]
    assert [sample.groups for sample in found.values()] == [
        {"subset": "cyclegan", "category": "apple"},
        {"subset": "cyclegan", "category": "apple"},
        {"subset": "san"},
    ]


def test_a_folder_above_other_class_names_is_no_generator(tmp_path: Path, picture: Put) -> None:
    (sample,) = read(tmp_path, picture, "downloads/fake/a.png").values()

    assert (sample.generator, sample.groups) == ("", {"subset": "downloads"})


def test_pictures_of_trains_do_not_become_training_rows(tmp_path: Path, picture: Put) -> None:
    found = read(
        tmp_path, picture, "progan/train/1_fake/a.png", "progan/airplane/1_fake/b.png", "progan/cat/0_real/c.png"
    )

    assert {sample.split for sample in found.values()} == {""}
    assert [sample.groups["category"] for sample in found.values()] == ["airplane", "cat", "train"]


def test_an_object_class_is_no_generator_and_trains_are_one_inside_the_training_set(
    tmp_path: Path, picture: Put
) -> None:
    found = read(tmp_path, picture, "train/train/1_fake/a.png", "train/horse/1_fake/b.png", generator="progan")

    assert {(sample.split, sample.generator) for sample in found.values()} == {("train", "progan")}
    assert [sample.groups for sample in found.values()] == [{"category": "horse"}, {"category": "train"}]


def test_folders_below_the_class_are_kept(tmp_path: Path, picture: Put) -> None:
    (sample,) = read(tmp_path, picture, "real/person7/clip3/a.png").values()

    assert sample.groups == {"folder": "person7/clip3"}


def test_a_clip_is_one_sample_and_its_own_video(tmp_path: Path) -> None:
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake/a.mp4").write_bytes(b"clip")

    (sample,) = layouts.read("imagefolder", tmp_path).samples

    assert (sample.label, sample.video) == (Label.FAKE, "fake/a.mp4")


def test_options_name_further_classes(tmp_path: Path, picture: Put) -> None:
    found = read(tmp_path, picture, "0/a.png", "1/b.png", "celeb/c.png", real="1, CELEB", fake="0")

    assert [sample.label for sample in found.values()] == [Label.FAKE, Label.REAL, Label.REAL]


@pytest.mark.parametrize("name", ["real_vs_fake", "not_real", "0", "celeb"])
def test_a_folder_whose_class_cannot_be_told_is_refused_by_name(tmp_path: Path, picture: Put, name: str) -> None:
    with pytest.raises(LayoutError, match=f"cannot be told of {name}; say it by real=NAME or fake=NAME"):
        read(tmp_path, picture, "real/a.png", "fake/b.png", f"{name}/c.png")


def test_an_object_class_without_a_class_is_refused_too(tmp_path: Path, picture: Put) -> None:
    with pytest.raises(LayoutError, match="cannot be told of horse"):
        read(tmp_path, picture, "real/a.png", "horse/b.png")


def test_a_path_that_says_both_classes_is_refused_unless_an_option_decides(tmp_path: Path, picture: Put) -> None:
    with pytest.raises(LayoutError, match="fake/original says real and fake both"):
        read(tmp_path, picture, "fake/original/a.png")

    (sample,) = read(tmp_path, picture, fake="fake").values()
    assert sample.label is Label.FAKE


def test_a_path_that_says_two_splits_is_refused(tmp_path: Path, picture: Put) -> None:
    with pytest.raises(LayoutError, match="train/test/real says train and test both"):
        read(tmp_path, picture, "train/test/real/a.png")


def test_pictures_beside_the_classes_are_left_out(tmp_path: Path, picture: Put) -> None:
    for name in ("real/a.png", "montage.png", "test/b.png"):
        picture(tmp_path / name)
    (tmp_path / "real/list.csv").write_text("x")

    assert dict(layouts.read("imagefolder", tmp_path).left_out) == {
        "it lies beside the class folders, not in one": 2,
        "neither a picture nor a clip by its suffix": 1,
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [({"real": "fake,x", "fake": "x"}, "both name 'x'"), ({"real": "reel"}, "no folder .* is called 'reel'")],
)
def test_options_that_do_not_hold_are_refused(
    tmp_path: Path, picture: Put, options: dict[str, str], message: str
) -> None:
    with pytest.raises(LayoutError, match=message):
        read(tmp_path, picture, "real/a.png", **options)


def test_a_folder_without_classes_is_refused_naming_what_was_expected(tmp_path: Path, picture: Put) -> None:
    with pytest.raises(LayoutError, match=r"no folder of pictures is named after a class; there is cats(.|\n)*0_real"):
        read(tmp_path, picture, "cats/a.png")


def test_a_folder_without_a_picture_says_so_and_not_that_no_class_is_named(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/notes.txt").write_text("none")
    with pytest.raises(LayoutError, match="there is no picture or clip in it"):
        layouts.read("imagefolder", tmp_path)
