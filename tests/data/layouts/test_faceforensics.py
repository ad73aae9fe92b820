"""FaceForensics++: folders say what is fake, names say who is shown, the official lists say the split."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from assay.data import layouts
from assay.data.layouts.faceforensics import who
from assay.errors import LayoutError
from assay.types import Label, Sample

CLIPS = (
    "original_sequences/youtube/c23/videos/033.mp4",
    "original_sequences/youtube/c23/videos/097.mp4",
    "original_sequences/youtube/c23/videos/720.mp4",
    "original_sequences/youtube/c23/videos/953.mp4",
    "original_sequences/actors/c23/videos/01__walk.mp4",
    "manipulated_sequences/Deepfakes/c23/videos/033_097.mp4",
    "manipulated_sequences/NeuralTextures/c40/videos/097_033.mp4",
    "manipulated_sequences/DeepFakeDetection/c23/videos/01_02__walk__ABCDEFGH.mp4",
)
LISTS = {"train": [["033", "097"]], "val": [["720", "672"]], "test": [["953", "974"]]}


def tree(root: Path, *names: str, lists: str | None = "splits") -> Path:
    for name in names or CLIPS:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"clip")
    if lists is not None:
        (root / lists).mkdir(exist_ok=True, parents=True)
        for name, pairs in LISTS.items():
            (root / lists / f"{name}.json").write_text(json.dumps(pairs))
    return root


def by_video(found: layouts.Found) -> dict[str, Sample]:
    return {sample.video: sample for sample in found.samples}


def test_originals_are_real_and_manipulations_are_fakes_of_their_method(tmp_path: Path) -> None:
    found = layouts.read("faceforensics", tree(tmp_path))
    assert {sample.video: (sample.label, sample.generator) for sample in found.samples} == {
        "youtube/c23/033": (Label.REAL, ""),
        "youtube/c23/097": (Label.REAL, ""),
        "youtube/c23/720": (Label.REAL, ""),
        "youtube/c23/953": (Label.REAL, ""),
        "actors/c23/01__walk": (Label.REAL, ""),
        "Deepfakes/c23/033_097": (Label.FAKE, "Deepfakes"),
        "NeuralTextures/c40/097_033": (Label.FAKE, "NeuralTextures"),
        "DeepFakeDetection/c23/01_02__walk__ABCDEFGH": (Label.FAKE, "DeepFakeDetection"),
    }
    assert not found.left_out


def test_names_say_target_and_source_and_the_target_s_clip_is_the_original() -> None:
    assert who("033_097") == ("033+097", "033")
    assert who("033") == ("033", "033")
    assert who("01_02__exit_room__ABCDEFGH") == ("actor-01+actor-02", "01__exit_room")
    assert who("01__exit_room") == ("actor-01", "01__exit_room")
    assert who("33_97") is None


def test_subjects_compressions_and_sources_are_kept(tmp_path: Path) -> None:
    found = by_video(layouts.read("faceforensics", tree(tmp_path)))
    fake = found["NeuralTextures/c40/097_033"]
    assert (fake.subject, fake.source) == ("097+033", "FaceForensics++")
    assert fake.groups == {"compression": "c40", "original": "097"}
    assert found["DeepFakeDetection/c23/01_02__walk__ABCDEFGH"].source == "DeepFakeDetection"


@pytest.mark.parametrize("lists", ["", "splits", "dataset/splits"])
def test_the_official_lists_give_the_split_and_val_is_for_tuning(tmp_path: Path, lists: str) -> None:
    found = by_video(layouts.read("faceforensics", tree(tmp_path, lists=lists)))
    assert {name: sample.split for name, sample in found.items()} == {
        "youtube/c23/033": "train",
        "youtube/c23/097": "train",
        "youtube/c23/720": "tune",
        "youtube/c23/953": "test",
        "actors/c23/01__walk": "",
        "Deepfakes/c23/033_097": "train",
        "NeuralTextures/c40/097_033": "train",
        "DeepFakeDetection/c23/01_02__walk__ABCDEFGH": "",
    }


def test_without_the_lists_every_split_is_empty_and_that_is_said(tmp_path: Path) -> None:
    found = layouts.read("faceforensics", tree(tmp_path, lists=None))
    assert {sample.split for sample in found.samples} == {""}
    assert any("every split is empty" in reason for reason in found.left_out)
    tree(tmp_path / "other", CLIPS[0])
    there = layouts.read("faceforensics", tmp_path, splits=str(tmp_path / "other/splits"))
    assert "test" in {sample.split for sample in there.samples}


def test_a_swap_across_two_splits_is_left_out(tmp_path: Path) -> None:
    tree(tmp_path, CLIPS[0], "manipulated_sequences/FaceSwap/c23/videos/033_953.mp4")
    found = layouts.read("faceforensics", tmp_path)
    assert found.left_out == {"its two videos are in different splits": 1}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("val.json", None, "val.json is missing"),
        ("val.json", '[["033", "111"]]', "video 033 is in the lists of two splits"),
        ("val.json", '["033"]', "not a list of pairs"),
        ("val.json", "[[", "cannot be read as JSON"),
    ],
)
def test_lists_that_cannot_be_the_official_ones_are_refused(
    tmp_path: Path, name: str, text: str | None, message: str
) -> None:
    path = tree(tmp_path) / "splits" / name
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(LayoutError, match=message):
        layouts.read("faceforensics", tmp_path)


@pytest.mark.parametrize("form", ["images", "frames"])
def test_frames_are_samples_with_the_number_in_their_name(tmp_path: Path, form: str) -> None:
    tree(
        tmp_path,
        f"manipulated_sequences/Face2Face/c0/{form}/033_097/10.png",
        f"manipulated_sequences/Face2Face/c0/{form}/033_097/9.png",
        "manipulated_sequences/Face2Face/c0/masks/033_097/0002.png",
    )
    found = layouts.read("faceforensics", tmp_path)
    assert [(sample.video, sample.frame) for sample in found.samples] == [
        ("Face2Face/raw/033_097", 9),
        ("Face2Face/raw/033_097", 10),
    ]
    assert found.left_out == {"a folder that holds no clips (masks, landmarks, models)": 1}


def test_only_the_asked_compressions_and_methods_are_given(tmp_path: Path) -> None:
    tree(tmp_path)
    level = layouts.read("faceforensics", tmp_path, compression="c40")
    assert [sample.video for sample in level.samples] == ["NeuralTextures/c40/097_033"]
    method = layouts.read("faceforensics", tmp_path, methods="Deepfakes")
    assert {sample.video.split("/")[0] for sample in method.samples} == {"youtube", "Deepfakes"}
    actors = layouts.read("faceforensics", tmp_path, methods="DeepFakeDetection")
    assert {sample.video.split("/")[0] for sample in actors.samples} == {"actors", "DeepFakeDetection"}
    assert method.left_out == {"of a method that was not asked for": 3}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": "Deepfake"}, "did you mean Deepfakes"),
        ({"methods": "FaceShifter"}, "FaceShifter was asked for and is not there"),
        ({"compression": "c24"}, "no compression called 'c24'"),
        ({"splits": "nowhere"}, "holds none of train.json"),
    ],
)
def test_an_option_that_fits_nothing_is_refused(tmp_path: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(LayoutError, match=message):
        layouts.read("faceforensics", tree(tmp_path), **options)


def test_a_folder_of_another_shape_is_refused_with_what_was_expected(tmp_path: Path) -> None:
    (tmp_path / "Deepfakes").mkdir()
    with pytest.raises(LayoutError, match="neither original_sequences nor manipulated_sequences"):
        layouts.read("faceforensics", tmp_path)


def test_what_is_no_published_part_is_left_out_with_a_reason(tmp_path: Path) -> None:
    tree(
        tmp_path,
        CLIPS[0],
        "manipulated_sequences/MyMethod/c23/videos/033_097.mp4",
        "manipulated_sequences/Deepfakes/masks/videos/033_097.mp4",
        "manipulated_sequences/Deepfakes/c23/videos/033.mp4",
        "manipulated_sequences/DeepFakeDetection/c23/videos/033_097.mp4",
        "manipulated_sequences/Deepfakes/c23/videos/list.txt",
    )
    assert layouts.read("faceforensics", tmp_path).left_out == {
        "not a part of manipulated_sequences as published": 1,
        "not a compression (raw, c0, c23, c40)": 1,
        "its name is not of the published form": 2,
        "not a video": 1,
    }
