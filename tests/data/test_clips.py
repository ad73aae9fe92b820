"""Clips as they lie in folders: one form of each, in order, and what is no clip told."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay.data.clips import Clip, clips, frame_number, listing, load_json
from assay.data.layouts import LeftOut
from assay.errors import LayoutError


def tree(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"content")
    return root


def names(found: list[Clip | LeftOut]) -> list[str]:
    return [clip.name for clip in found if isinstance(clip, Clip)]


def reasons(found: list[Clip | LeftOut]) -> dict[str, str]:
    return {Path(left.place).name: left.reason for left in found if isinstance(left, LeftOut)}


def test_videos_lie_in_the_folder_or_in_one_called_videos(tmp_path: Path) -> None:
    found = list(clips(tree(tmp_path, "b.mp4", "a.AVI", "videos/c.mp4", "videos/notes.txt", "list.csv", "odd.bin")))
    assert names(found) == ["a", "b", "c"]
    assert reasons(found) == {"notes.txt": "not a video", "list.csv": "not a clip", "odd.bin": "not a clip"}
    assert "list.csv" not in reasons(list(clips(tmp_path, beside=["list.csv"])))


def test_frames_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    found = list(clips(tree(tmp_path, "frames/x/10.png", "frames/x/9.png", "frames/x/cover.png", "frames/x/a.npy")))
    assert [clip.frame for clip in found if isinstance(clip, Clip)] == [None, 9, 10]
    assert names(found) == ["x", "x", "x"]
    assert reasons(found) == {"a.npy": "not a picture"}


def test_of_several_forms_one_is_taken_and_the_others_are_told(tmp_path: Path) -> None:
    tree(tmp_path, "a.mp4", "images/a/0.png", "frames/a/0.png", "masks/a/0.png")
    first = list(clips(tmp_path))
    assert [clip.frame for clip in first if isinstance(clip, Clip)] == [None]
    another = "another form of the same clips; choose it with the option form"
    assert reasons(first) == {"images": another, "frames": another, "masks": reasons(first)["masks"]}
    assert "holds no clips" in reasons(first)["masks"]
    chosen = list(clips(tmp_path, "images"))
    assert [clip.place.parent.parent.name for clip in chosen if isinstance(clip, Clip)] == ["images"]
    assert reasons(chosen) == {"a.mp4": another, "frames": another, "masks": reasons(first)["masks"]}
    with pytest.raises(LayoutError, match="did you mean images"):
        list(clips(tmp_path, "image"))


def test_a_form_that_was_asked_for_and_is_not_there_gives_no_clip(tmp_path: Path) -> None:
    assert names(list(clips(tree(tmp_path, "a.mp4"), "frames"))) == []


def test_a_frame_s_number_is_the_only_number_in_its_name() -> None:
    assert [frame_number(stem) for stem in ("0012", "frame12", "12_0", "cover")] == [12, 12, None, None]


def test_hidden_files_are_not_listed_and_a_folder_that_is_gone_is_an_error(tmp_path: Path) -> None:
    assert [path.name for path in listing(tree(tmp_path, "b", "a", ".DS_Store"))] == ["a", "b"]
    with pytest.raises(LayoutError, match="cannot be listed"):
        listing(tmp_path / "gone")


def test_json_that_cannot_be_read_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("\ufeff[1]", encoding="utf-8")
    assert load_json(tmp_path / "a.json") == [1]
    for torn in ("[1", "[" * 100_000):
        (tmp_path / "a.json").write_text(torn)
        with pytest.raises(LayoutError, match=r"a\.json cannot be read as JSON"):
            load_json(tmp_path / "a.json")
    with pytest.raises(LayoutError, match="cannot be read as JSON"):
        load_json(tmp_path / "gone.json")
