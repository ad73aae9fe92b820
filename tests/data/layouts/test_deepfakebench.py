"""DeepfakeBench's lists: names are labels, and a clip listed for testing is never trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from assay.data import layouts
from assay.errors import LayoutError
from assay.types import Label, Sample

FF: dict[str, Any] = {
    "FF-DF": {
        "FF-real": {
            "train": {"c23": {"033": {"label": "FF-real", "frames": ["ff/r/c23/033/10.png", "ff/r/c23/033/9.png"]}}},
            "val": {"c23": {"720": {"label": "FF-real", "frames": ["ff/r/c23/720/000.png"]}}},
            "test": {"c23": {}},
        },
        "FF-DF": {
            "train": {
                "c23": {"033_097": {"label": "FF-DF", "frames": ["ff/df/c23/033_097/000.png"], "masks": []}},
                "c40": {"033_097": {"label": "FF-DF", "frames": ["ff/df/c40/033_097/000.png"]}},
            },
            "val": {},
            "test": {"c23": {"953_974": {"label": "FF-DF", "frames": ["ff/df/c23/953_974/000.png"]}}},
        },
    }
}  # fmt: skip


def entry(label: str, *frames: str) -> dict[str, Any]:
    return {"label": label, "frames": list(frames)}


def tree(root: Path, content: Any, name: str = "LIST.json", frames: Path | None = None, cut: str = "") -> Path:
    """Writes a list, and every frame that it names."""
    (root / name).write_text(json.dumps(content))

    def write(value: Any) -> None:
        for key, inner in value.items() if isinstance(value, dict) else ():
            for frame in inner if key == "frames" else ():
                path = (frames or root) / frame.replace("\\", "/").removeprefix(cut).lstrip("/")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"frame")
            write(inner)

    write(content)
    return root / name


def by_video(found: layouts.Found) -> dict[str, Sample]:
    return {sample.video: sample for sample in found.samples}


def of(label: str, **splits: dict[str, Any]) -> dict[str, Any]:
    return {"SET": {label: {"train": {}, "val": {}, "test": {}, **splits}}}


def test_label_names_are_real_or_fake_and_the_method_is_the_generator(tmp_path: Path) -> None:
    found = by_video(layouts.read("deepfakebench", tree(tmp_path, FF)))
    assert {name: (sample.label, sample.generator, sample.split) for name, sample in found.items()} == {
        "FF-real/c23/033": (Label.REAL, "", "train"),
        "FF-real/c23/720": (Label.REAL, "", "tune"),
        "FF-DF/c23/033_097": (Label.FAKE, "Deepfakes", "train"),
        "FF-DF/c40/033_097": (Label.FAKE, "Deepfakes", "train"),
        "FF-DF/c23/953_974": (Label.FAKE, "Deepfakes", "test"),
    }
    assert {sample.source for sample in found.values()} == {"FF-DF"}


def test_frames_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    found = layouts.read("deepfakebench", tree(tmp_path, FF))
    real = [sample for sample in found.samples if sample.video == "FF-real/c23/033"]
    assert [(sample.frame, Path(sample.place).name) for sample in real] == [(9, "9.png"), (10, "10.png")]


def test_subjects_come_from_the_names_that_tell_them(tmp_path: Path) -> None:
    fake = by_video(layouts.read("deepfakebench", tree(tmp_path, FF)))["FF-DF/c40/033_097"]
    assert fake.subject == "033+097"
    assert fake.groups == {"compression": "c40", "original": "033"}
    celeb = of("CelebDFv2_fake", test={"id0_id1_0000": entry("CelebDFv2_fake", "c/id0_id1_0000/000.png")})
    (sample,) = layouts.read("deepfakebench", tree(tmp_path, celeb)).samples
    assert (sample.subject, sample.groups, sample.generator) == ("id0+id1", {"original": "id0_0000"}, "Celeb-DF")


@pytest.mark.parametrize(
    ("name", "label", "generator"),
    [
        ("DFDCP_FakeA", Label.FAKE, "DFDCP method A"),
        ("DFDC_Real", Label.REAL, ""),
        ("FF-FH", Label.FAKE, "FaceShifter"),
        ("simswap_Fake", Label.FAKE, "simswap"),
        ("simswap_Real", Label.REAL, ""),
        ("fake", Label.FAKE, "SET"),
        ("1_fake", Label.FAKE, "SET"),
        ("real", Label.REAL, ""),
    ],
)
def test_every_label_name_has_the_polarity_of_the_official_table(
    tmp_path: Path, name: str, label: Label, generator: str
) -> None:
    path = tree(tmp_path, of(name, train={"a": entry(name, "a/0.png")}))
    (sample,) = layouts.read("deepfakebench", path).samples
    assert (sample.label, sample.generator) == (label, generator)


def test_a_label_name_of_no_meaning_is_refused_until_it_is_given_one(tmp_path: Path) -> None:
    path = tree(tmp_path, of("dummy", test={"0000": entry("dummy", "p/0000.png")}))
    with pytest.raises(LayoutError, match=r"'dummy' is not one of.*unlabelled=dummy"):
        layouts.read("deepfakebench", path)
    for option, label in (("real", Label.REAL), ("fake", Label.FAKE), ("unlabelled", None)):
        assert layouts.read("deepfakebench", path, **{option: "dummy"}).samples[0].label is label
    with pytest.raises(LayoutError, match="given two meanings"):
        layouts.read("deepfakebench", path, real="dummy", fake="dummy")


def test_a_clip_filed_under_the_other_polarity_is_an_error(tmp_path: Path) -> None:
    path = tree(tmp_path, of("UADFV_Real", train={"a": entry("UADFV_Fake", "a/0.png")}))
    with pytest.raises(LayoutError, match="filed under 'UADFV_Real', of the other polarity"):
        layouts.read("deepfakebench", path)


def test_one_clip_that_is_real_and_fake_is_an_error(tmp_path: Path) -> None:
    content = of("UADFV_Real", train={"a": entry("UADFV_Real", "a/0.png")})
    content["SET"]["UADFV_Fake"] = {"train": {"b": entry("UADFV_Fake", "a/0.png")}}
    with pytest.raises(LayoutError, match="real in one place of the lists and fake in another"):
        layouts.read("deepfakebench", tree(tmp_path, content))


def test_a_clip_listed_for_training_and_testing_is_only_tested_on(tmp_path: Path) -> None:
    both = entry("CelebDFv2_real", "c/id0_0000/000.png", "c/id0_0000/010.png")
    turned = entry("CelebDFv2_real", "c/id0_0000/010.png", "c/id0_0000/000.png")
    alone = entry("CelebDFv2_real", "c/id2_0000/000.png")
    content = of(
        "CelebDFv2_real",
        train={"id0_0000": both, "id2_0000": alone},
        val={"id0_0000": turned},
        test={"id0_0000": turned},
    )
    found = layouts.read("deepfakebench", tree(tmp_path, content))
    assert [(sample.video, sample.split) for sample in found.samples] == [
        ("CelebDFv2_real/id2_0000", "train"),
        ("CelebDFv2_real/id0_0000", "test"),
        ("CelebDFv2_real/id0_0000", "test"),
    ]
    assert found.left_out == {"listed for test as well, which is the stricter split": 2}


def test_a_clip_of_two_lists_is_given_once_and_in_the_stricter_split(tmp_path: Path) -> None:
    real = {"033": entry("FF-real", "ff/033/000.png")}
    tree(tmp_path, {"A": {"FF-real": {"train": {"c23": real}}}}, "A.json")
    tree(tmp_path, {"B": {"FF-real": {"val": {"c23": real}}}}, "B.json")
    found = layouts.read("deepfakebench", tmp_path, dataset="A,B")
    assert [(sample.source, sample.split) for sample in found.samples] == [("B", "tune")]
    tree(tmp_path, {"C": {"FF-real": {"val": {"c23": real}}}}, "C.json")
    again = layouts.read("deepfakebench", tmp_path, dataset="B,C")
    assert [sample.source for sample in again.samples] == ["B"]
    assert again.left_out == {"listed twice": 1}
    with pytest.raises(LayoutError, match=r"the lists of A, B, C.*dataset=A,B"):
        layouts.read("deepfakebench", tmp_path)
    with pytest.raises(LayoutError, match="no list of DeepfakeBench called 'D'"):
        layouts.read("deepfakebench", tmp_path, dataset="D")


def test_the_bare_clip_that_the_official_script_writes_over_a_split_is_left_out(tmp_path: Path) -> None:
    content = of("DFDC_Fake", test={"a": entry("DFDC_Fake", "a/0.png")}, val=entry("DFDC_Fake", "a/0.png"))
    found = layouts.read("deepfakebench", tree(tmp_path, content))
    assert len(found.samples) == 1
    assert found.left_out == {"not a clip with a label and frames": 2}


def test_paths_of_another_machine_are_cut_and_joined_to_the_folder_of_the_frames(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    content = of("UADFV_Fake", test={"a": entry("UADFV_Fake", "/data/them/UADFV/fake/frames/a/000.png")})
    path = tree(tmp_path / "lists", content, frames=tmp_path / "rgb", cut="/data/them/")
    with pytest.raises(LayoutError, match="listed, but not there; say where the frames are with root=FOLDER"):
        layouts.read("deepfakebench", path)
    with pytest.raises(LayoutError, match="say with prefix=TEXT what to cut"):
        layouts.read("deepfakebench", path, root=str(tmp_path / "rgb"))
    with pytest.raises(LayoutError, match="does not begin with"):
        layouts.read("deepfakebench", path, root=str(tmp_path / "rgb"), prefix="/data/us")
    (sample,) = layouts.read("deepfakebench", path, root=str(tmp_path / "rgb"), prefix="/data/them/").samples
    assert sample.place == str(tmp_path / "rgb/UADFV/fake/frames/a/000.png")


def test_lists_that_were_written_on_windows_are_read(tmp_path: Path) -> None:
    content = of("UADFV_Fake", test={"a": entry("UADFV_Fake", "UADFV\\fake\\frames\\a\\007.png")})
    (sample,) = layouts.read("deepfakebench", tree(tmp_path, content)).samples
    assert (sample.place, sample.frame) == (str(tmp_path / "UADFV/fake/frames/a/007.png"), 7)


def test_missing_frames_empty_clips_and_other_compressions_are_left_out(tmp_path: Path) -> None:
    path = tree(tmp_path, FF)
    (tmp_path / "ff/r/c23/033/9.png").unlink()
    found = layouts.read("deepfakebench", path, compression="c23")
    assert len(found.samples) == 4
    assert found.left_out["of a compression that was not asked for"] == 1
    assert sum(count for reason, count in found.left_out.items() if reason.startswith("listed, but not there")) == 1
    empty = of("UADFV_Fake", test={"a": entry("UADFV_Fake"), "b": entry("UADFV_Fake", "b/0.png")})
    assert layouts.read("deepfakebench", tree(tmp_path, empty)).left_out == {"a clip without frames": 1}
    with pytest.raises(LayoutError, match="no compression called 'c1'"):
        layouts.read("deepfakebench", path, compression="c1")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "not an object of data sets"),
        ({"SET": {"real": ["a"]}}, "does not hold label names with their splits"),
        ({"SET": {"real": {"dev": {}}}}, "is not one of the splits train, val, test"),
    ],
)
def test_json_of_another_shape_is_refused_with_what_was_expected(tmp_path: Path, content: object, message: str) -> None:
    (tmp_path / "LIST.json").write_text(json.dumps(content))
    with pytest.raises(LayoutError, match=rf"{message}[^$]*Expected:\nROOT is a list"):
        layouts.read("deepfakebench", tmp_path)


def test_a_folder_without_lists_and_a_file_that_is_no_json_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="there is no JSON file in it"):
        layouts.read("deepfakebench", tmp_path)
    (tmp_path / "LIST.json").write_text("{")
    with pytest.raises(LayoutError, match="cannot be read as JSON"):
        layouts.read("deepfakebench", tmp_path)
