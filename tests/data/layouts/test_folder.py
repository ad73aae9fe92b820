from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from assay.data import layouts
from assay.errors import LayoutError
from assay.types import Label

Put = Callable[[Path], Path]


def test_every_picture_and_clip_is_a_sample_of_no_known_class(tmp_path: Path, picture: Put) -> None:
    picture(tmp_path / "b.png")
    picture(tmp_path / "a/deep/c.jpg")
    (tmp_path / "clip.mp4").write_bytes(b"clip")

    found = layouts.read("folder", tmp_path)

    assert [Path(sample.place).relative_to(tmp_path).as_posix() for sample in found.samples] == [
        "a/deep/c.jpg",
        "b.png",
        "clip.mp4",
    ]
    assert {sample.label for sample in found.samples} == {None}
    assert [sample.groups.get("folder", "") for sample in found.samples] == ["a/deep", "", ""]
    assert [sample.video for sample in found.samples] == ["", "", "clip.mp4"]


def test_options_say_label_generator_and_source_for_all(tmp_path: Path, picture: Put) -> None:
    picture(tmp_path / "a.png")

    (sample,) = layouts.read("folder", tmp_path, label="fake", generator="sdxl", source="mine").samples

    assert (sample.label, sample.generator, sample.source) == (Label.FAKE, "sdxl", "mine")


def test_one_file_is_a_folder_of_one(tmp_path: Path, picture: Put) -> None:
    (sample,) = layouts.read("folder", picture(tmp_path / "a.png")).samples

    assert sample.place == str(tmp_path / "a.png")


def test_what_is_no_picture_is_left_out_and_counted(tmp_path: Path, picture: Put) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / ".DS_Store").write_text("x")

    found = layouts.read("folder", tmp_path)

    assert dict(found.left_out) == {"neither a picture nor a clip by its suffix": 1}
    assert found.examples["neither a picture nor a clip by its suffix"].endswith("notes.txt")


def test_folders_that_link_to_themselves_end(tmp_path: Path, picture: Put) -> None:
    picture(tmp_path / "in/a.png")
    (tmp_path / "in/again").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "self.png").symlink_to(tmp_path / "self.png")

    assert len(layouts.read("folder", tmp_path).samples) == 1


def test_folders_that_link_elsewhere_are_followed(tmp_path: Path, picture: Put) -> None:
    picture(tmp_path / "disk/a.png")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/linked").symlink_to(tmp_path / "disk", target_is_directory=True)

    (sample,) = layouts.read("folder", tmp_path / "root").samples

    assert sample.place == str(tmp_path / "root/linked/a.png")


def test_a_label_that_is_none_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="fake"):
        layouts.read("folder", tmp_path, label="fakes")


def test_a_generator_of_reals_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="add label=fake"):
        layouts.read("folder", tmp_path, label="real", generator="sdxl")


def test_an_empty_folder_is_refused_naming_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=r"it is empty(.|\n)*FOLDER/\*\*"):
        layouts.read("folder", tmp_path)


def test_links_to_files_that_are_not_there_are_counted_with_what_to_do(tmp_path: Path, picture: Put) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(".git/annex/objects/b.png")

    found = layouts.read("folder", tmp_path)

    assert [Path(sample.place).name for sample in found.samples] == ["a.png"]
    assert found.left_out == {layouts.DANGLING: 1}
    assert found.examples[layouts.DANGLING].endswith("b.png")
    (tmp_path / "a.png").unlink()
    with pytest.raises(LayoutError, match="git annex get"):
        layouts.read("folder", tmp_path)
