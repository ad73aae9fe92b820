"""Celeb-DF: its list says 1 = real, its names say who is shown, and nothing is passed over in silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay.data import layouts
from assay.errors import LayoutError
from assay.types import Label, Sample

CLIPS = (
    "Celeb-real/id0_0000.mp4",
    "Celeb-real/id1_0003.mp4",
    "YouTube-real/00007.mp4",
    "Celeb-synthesis/id0_id1_0000.mp4",
    "Celeb-synthesis/id1_id0_0003.mp4",
)
LIST = "1 Celeb-real/id1_0003.mp4\n0 Celeb-synthesis/id0_id1_0000.mp4\n"


def tree(root: Path, *names: str, testing: str | None = LIST) -> Path:
    for folder in ("Celeb-real", "YouTube-real", "Celeb-synthesis"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name in names or CLIPS:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"clip")
    if testing is not None:
        (root / "List_of_testing_videos.txt").write_text(testing)
    return root


def by_video(found: layouts.Found) -> dict[str, Sample]:
    return {sample.video: sample for sample in found.samples}


def test_celebrities_and_youtube_are_real_and_syntheses_are_fake(tmp_path: Path) -> None:
    found = by_video(layouts.read("celebdf", tree(tmp_path)))
    assert {name: sample.label for name, sample in found.items()} == {
        "id0_0000": Label.REAL,
        "id1_0003": Label.REAL,
        "00007": Label.REAL,
        "id0_id1_0000": Label.FAKE,
        "id1_id0_0003": Label.FAKE,
    }
    assert found["id0_id1_0000"].place == str(tmp_path / "Celeb-synthesis/id0_id1_0000.mp4")
    assert {sample.generator for sample in found.values() if sample.label is Label.FAKE} == {"Celeb-DF"}
    assert {sample.generator for sample in found.values() if sample.label is Label.REAL} == {""}


def test_what_the_list_names_is_tested_on_and_the_rest_is_trained_on(tmp_path: Path) -> None:
    found = by_video(layouts.read("celebdf", tree(tmp_path)))
    assert {name for name, sample in found.items() if sample.split == "test"} == {"id1_0003", "id0_id1_0000"}
    assert {sample.split for sample in found.values()} == {"train", "test"}


def test_a_synthesis_shows_the_target_and_the_donor_and_comes_from_the_target_s_clip(tmp_path: Path) -> None:
    found = by_video(layouts.read("celebdf", tree(tmp_path)))
    assert found["id0_0000"].subject == "id0"
    assert found["id0_id1_0000"].subject == "id0+id1"
    assert found["00007"].subject == "youtube-00007"
    assert found["id0_id1_0000"].groups == {"part": "Celeb-synthesis", "original": "id0_0000"}
    assert found["id0_0000"].groups == {"part": "Celeb-real", "original": "id0_0000"}


@pytest.mark.parametrize(
    ("line", "said"), [("0 Celeb-real/id0_0000.mp4", "says fake"), ("1 Celeb-synthesis/id0_id1_0000.mp4", "says real")]
)
def test_a_line_whose_polarity_contradicts_its_folder_is_an_error_that_says_so(
    tmp_path: Path, line: str, said: str
) -> None:
    with pytest.raises(LayoutError, match=rf"line 2.*{said} \(in this list 1 = real"):
        layouts.read("celebdf", tree(tmp_path, testing=f"1 YouTube-real/00007.mp4\n{line}\n"))


@pytest.mark.parametrize("line", ["Celeb-real/id0_0000.mp4", "2 Celeb-real/id0_0000.mp4", "1 Elsewhere/id0_0000.mp4"])
def test_a_line_of_another_form_is_refused_with_its_number(tmp_path: Path, line: str) -> None:
    with pytest.raises(LayoutError, match="line 1"):
        layouts.read("celebdf", tree(tmp_path, testing=line))


def test_without_the_list_nothing_is_read_and_the_message_says_where_to_put_it(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=r"List_of_testing_videos.txt is missing.*option testing"):
        layouts.read("celebdf", tree(tmp_path, testing=None))
    (tmp_path / "elsewhere.txt").write_text(LIST)
    found = layouts.read("celebdf", tmp_path, testing=str(tmp_path / "elsewhere.txt"))
    assert sum(sample.split == "test" for sample in found.samples) == 2


def test_a_folder_of_another_shape_is_refused_with_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "Celeb-real").mkdir()
    with pytest.raises(LayoutError, match=r"YouTube-real and Celeb-synthesis are missing. Expected:\nROOT/"):
        layouts.read("celebdf", tmp_path)


def test_frames_in_folders_give_a_sample_each_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    tree(
        tmp_path,
        "Celeb-synthesis/frames/id0_id1_0000/100.png",
        "Celeb-synthesis/frames/id0_id1_0000/020.png",
        "Celeb-synthesis/frames/id0_id1_0000/notes.txt",
        "Celeb-synthesis/landmarks/id0_id1_0000/020.npy",
        "Celeb-real/videos/id1_0003.mp4",
    )
    (tmp_path / "Celeb-synthesis/frames/id1_id0_0009").mkdir()
    found = layouts.read("celebdf", tmp_path)
    frames = [(sample.video, sample.frame, sample.split) for sample in found.samples if sample.label is Label.FAKE]
    assert frames == [("id0_id1_0000", 20, "test"), ("id0_id1_0000", 100, "test")]
    assert set(found.left_out) == {
        "not a picture",
        "a clip without frames",
        "a folder that holds no clips (masks, landmarks, models)",
    }


def test_clips_that_are_there_twice_are_taken_once_in_the_form_that_was_asked_for(tmp_path: Path) -> None:
    tree(tmp_path, "Celeb-real/id0_0000.mp4", "Celeb-real/frames/id0_0000/000.png", testing="")
    clip = layouts.read("celebdf", tmp_path)
    assert [sample.frame for sample in clip.samples] == [None]
    assert clip.left_out == {"another form of the same clips; choose it with the option form": 1}
    frame = layouts.read("celebdf", tmp_path, form="frames")
    assert [sample.frame for sample in frame.samples] == [0]
    with pytest.raises(LayoutError, match="did you mean videos"):
        layouts.read("celebdf", tmp_path, form="video")


def test_what_is_no_clip_of_the_data_set_is_left_out_with_a_reason(tmp_path: Path) -> None:
    tree(tmp_path, *CLIPS, "Celeb-real/copy of id0.mp4", "Celeb-real/00001.mp4", "Celeb-real/readme.txt")
    (tmp_path / "List_of_testing_videos.txt").write_text(LIST + "1 YouTube-real/00099.mp4\n")
    assert layouts.read("celebdf", tmp_path).left_out == {
        "its name is not of the form that this folder's clips have": 2,
        "not a clip": 1,
        "listed for testing, but not there": 1,
    }


def test_tuning_holds_out_whole_people_and_leaves_out_what_mixes_them_with_others(tmp_path: Path) -> None:
    people = range(12)
    tree(
        tmp_path,
        *(f"Celeb-real/id{a}_0000.mp4" for a in people),
        *(f"Celeb-synthesis/id{a}_id{b}_0000.mp4" for a in people for b in people if a != b),
        testing="0 Celeb-synthesis/id0_id1_0000.mp4\n",
    )
    found = layouts.read("celebdf", tmp_path, tune="0.4")
    seen = {
        split: {name for sample in found.samples if sample.split == split for name in sample.subject.split("+")}
        for split in ("train", "tune")
    }
    assert seen["train"]
    assert seen["tune"]
    assert not seen["train"] & seen["tune"]
    assert [sample.video for sample in found.samples if sample.split == "test"] == ["id0_id1_0000"]
    mixed = found.left_out["a swap between a person held out for tuning and one who is not"]
    assert len(found.samples) + mixed == len(people) ** 2
    assert mixed > 0
    assert list(found.samples) == list(layouts.read("celebdf", tmp_path, tune="0.4").samples)


@pytest.mark.parametrize("tune", ["1", "-0.1", "nan", "a tenth"])
def test_a_share_that_is_none_is_refused(tmp_path: Path, tune: str) -> None:
    with pytest.raises(LayoutError, match=r"as in tune=0\.1"):
        layouts.read("celebdf", tree(tmp_path), tune=tune)
