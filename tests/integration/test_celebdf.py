"""Celeb-DF v2 from its folders to a table: read, frames, faces searched once, trained on crops, tested on clips."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import assay
from assay import cli
from assay.data import manifest
from assay.errors import OverlapError
from assay.image.mtcnn import Mtcnn
from assay.measure.clips import FIGURES, evaluate_clips
from assay.types import Label, Pixels

RECIPE, STREAM = "herd24:autoencoder", "autoencoder"

SETTINGS = {
    f"{STREAM}.backbone.fields.features": "16",
    "pretrain.steps": "4",
    "pretrain.epochs": "1",
    "pretrain.pairs": "4",
    "descend.pairs": "4",
    "descend.steps": "4",
    "descend.epochs": "2",
    "fit.records": "16",
    "calibrate.fpr": "0.2",
}

PORTRAIT = Path(__file__).parent.parent.parent / "samples" / "real" / "astronaut.jpg"
FACE = (150, 35, 300, 200)
"""Around the face of the portrait, in its px: left, top, right, bottom."""

TRAIN = ("Celeb-real/id0_0000", "Celeb-real/id1_0000", "YouTube-real/00003")
TRAIN += ("Celeb-synthesis/id0_id1_0000", "Celeb-synthesis/id1_id0_0000", "Celeb-synthesis/id2_id0_0001")
TUNE = ("Celeb-real/id3_0000", "Celeb-real/id4_0000", "Celeb-synthesis/id3_id4_0000", "Celeb-synthesis/id4_id3_0000")
"""Of people whom the layout holds out where three in ten are asked for."""
TEST = ("Celeb-real/id5_0000", "YouTube-real/00007", "Celeb-synthesis/id5_id6_0000", "Celeb-synthesis/id6_id5_0000")
FACELESS = "YouTube-real/00005"

pytestmark = pytest.mark.usefixtures("one_thread")


def shown(rng: np.random.Generator, face: Pixels | None, place: tuple[int, int]) -> Pixels:
    """A frame, 208 x 160: soft colours, and the face on them."""
    coarse = Image.fromarray(rng.integers(40, 200, (4, 5, 3), dtype=np.uint8))
    frame = np.array(coarse.resize((208, 160), Image.Resampling.BICUBIC))
    if face is not None:
        height, width = face.shape[:2]
        frame[place[1] : place[1] + height, place[0] : place[0] + width] = face
    return frame


def clip(path: Path, seed: int, frames: int, *, fake: bool, faceless: bool = False) -> None:
    """A face that slides over a picture; a fake one has a pattern of squares."""
    rng = np.random.default_rng(seed)
    with Image.open(PORTRAIT) as portrait:
        face = np.array(portrait.crop(FACE).resize((100 + seed % 3, 110), Image.Resampling.BICUBIC)).astype(np.int64)
    if fake:
        rows, columns = np.indices(face.shape[:2]) // 6
        face += np.where((rows + columns) % 2, 30, -30)[..., None]
    pixels = np.clip(face, 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=10, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = 208, 160, "yuv420p"
        start = rng.integers(0, (80, 40))
        for number in range(frames):
            place = (int(start[0]) + number, int(start[1]) + number // 2)
            frame = shown(np.random.default_rng(seed), None if faceless else pixels, place)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode(None))


def run(*words: object) -> str:
    result = CliRunner().invoke(cli.app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@dataclasses.dataclass
class Made:
    """What each step left."""

    root: Path
    read: dict[str, Any]
    frames: dict[str, Any]
    crops: dict[str, Any]
    again: dict[str, Any]
    searched: tuple[int, int]

    @property
    def clips(self) -> Path:
        return self.root / "celebdf.csv"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("celebdf")
    tree = root / "Celeb-DF-v2"
    for seed, name in enumerate((*TRAIN, *TUNE, *TEST, FACELESS)):
        # Those that are tested on have more frames than are judged.
        frames = 18 if name in TEST else 5
        clip(tree / f"{name}.mp4", seed, frames, fake="synthesis" in name, faceless=name == FACELESS)
    # As published: 1 = real.
    lines = [f"{int('synthesis' not in name)} {name}.mp4" for name in (*TEST, FACELESS)]
    (tree / "List_of_testing_videos.txt").write_text("\n".join(lines) + "\n")
    searches: list[None] = []
    search = Mtcnn.detect

    def counted(self: Mtcnn, pixels: Pixels) -> Any:
        searches.append(None)
        return search(self, pixels)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Mtcnn, "detect", counted)
        read = run("data", "read", "celebdf", tree, "--out", root / "celebdf.csv", "--set", "tune=0.3", "--json")
        frames = run("data", "frames", root / "celebdf.csv", "--out", root / "frames", "--workers", 0, "--json")
        wanted = ("data", "faces", root / "frames" / "manifest.csv", "--set", "which=all", "--workers", 0, "--json")
        crops = run(*wanted, "--out", root / "crops")
        first = len(searches)
        again = run(*wanted, "--set", "margin=1.5", "--out", root / "wider")
    told = [json.loads(each) for each in (read, frames, crops, again)]
    return Made(root, *told, searched=(first, len(searches) - first))


@pytest.fixture(scope="module")
def trained(made: Made) -> Path:
    settings = [word for place, value in SETTINGS.items() for word in ("--set", f"{place}={value}")]
    run(
        *("train", RECIPE, "--data", made.root / "crops" / "manifest.csv", "--out", made.root / "run"),
        *("--workers", 0, "--device", "cpu", "--seed", 5, "--name", "celeb", "--precision", "fp32", *settings),
    )
    return made.root / "run" / "bundle"


def counts(told: dict[str, Any]) -> dict[tuple[str, str], int]:
    return {(part["split"], part["label"]): part["rows"] for part in told["counts"]}


def test_the_official_list_makes_the_test_split_and_whole_people_are_held_out(made: Made) -> None:
    assert counts(made.read) == {
        ("train", "real"): 3,
        ("train", "fake"): 3,
        ("tune", "real"): 2,
        ("tune", "fake"): 2,
        ("test", "real"): 3,
        ("test", "fake"): 2,
    }
    rows = {row.video: row for row in manifest.read(made.clips)}
    assert {name for name, row in rows.items() if row.split == "test"} == {
        Path(name).name for name in (*TEST, FACELESS)
    }
    assert rows["id5_0000"].label is Label.REAL
    assert rows["id5_id6_0000"].label is Label.FAKE


def test_fifteen_frames_come_of_a_clip_and_a_crop_of_each_that_shows_a_face(made: Made) -> None:
    assert counts(made.frames)["test", "real"] == 15 + 15 + 5
    assert counts(made.frames)["train", "fake"] == 3 * 5
    rows = list(manifest.read(made.root / "crops"))
    assert {Path(FACELESS).name} == {row.video for row in manifest.read(made.root / "frames")} - {
        row.video for row in rows
    }
    assert made.crops["left_out"] == [{"reason": "no face found", "count": 5}]
    assert len(rows) == made.frames["rows"] - 5
    # All that a clip was cut into is known as that clip's.
    assert len({row.origin for row in rows if row.video == "id0_0000"}) == 1


def test_no_picture_is_searched_twice(made: Made) -> None:
    first, second = made.searched
    # Where no face is found enhanced copies are searched too.
    assert first >= made.frames["rows"]
    assert second == 0
    assert made.again["rows"] == made.crops["rows"]


def test_the_official_test_clips_are_measured_by_frame_and_by_clip(made: Made, trained: Path) -> None:
    detector = assay.load(trained, threads=1)
    test = manifest.select(manifest.read(made.clips), split="test")
    found = evaluate_clips(detector, list(test), rounds=20)
    assert (found.n_real, found.n_fake, found.judged) == (3, 2, 4 * 15)
    [without] = found.without
    assert Path(without.place).stem == Path(FACELESS).name
    assert "face" in without.message
    assert not found.failures
    assert found.by_frame["auc"].n == 60
    assert {way: figures["auc"].n for way, figures in found.by_clip.items()} == dict.fromkeys(
        ("mean", "median", "top", "max", "own"), 4
    )
    told = [*found.by_frame.items(), *(pair for figures in found.by_clip.values() for pair in figures.items())]
    assert {name for name, _ in told} == set(FIGURES)
    assert all(0 <= interval.value <= 1 for _, interval in told)
    # A pattern so coarse is seen after eighteen steps.
    assert found.by_clip["mean"]["auc"].value == 1
    assert found.steady["real"]["deviation"].n == found.steady["fake"]["deviation"].n == 2


def test_the_command_says_the_same_beside_the_usual(made: Made, trained: Path) -> None:
    asked = ("evaluate", trained, "--data", made.clips, "--rounds", 20, "--threads", 1)
    told = json.loads(run(*asked, "--clips", "--retune", "--json"))
    found = told["clips"]
    assert told["rows"]["n"] == found["n_real"] + found["n_fake"] == 5
    assert [trouble["place"] for trouble in found["without_a_frame"]] == [
        trouble["place"] for trouble in told["rows"]["not_applicable"]
    ]
    assert found["by_clip"]["own"]["auc"] == told["metrics"]["auc"]
    assert found["chosen"]["on"] == {"real": 2, "fake": 2}


def test_clips_whose_frames_were_trained_on_are_refused(made: Made, trained: Path) -> None:
    detector = assay.load(trained, threads=1)
    rows = list(manifest.select(manifest.read(made.clips), split="train"))
    with pytest.raises(OverlapError, match="made with 6 of these 6 rows"):
        evaluate_clips(detector, rows, rounds=5)
