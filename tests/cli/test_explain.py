"""`assay explain`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from assay import cli
from assay.image import mtcnn
from assay.image.faces import Face
from assay.types import Box


def run(*line: object) -> Any:
    words = ["explain", *map(str, line), "--threads", "1"]
    return CliRunner().invoke(cli.app, words, catch_exceptions=False)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """Dark, with a bright square at the left."""
    pixels = np.random.default_rng(0).integers(20, 40, (96, 96, 3), dtype=np.uint8)
    pixels[40:56, 8:24] = 230
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def faces(monkeypatch: pytest.MonkeyPatch, *found: Face) -> None:
    monkeypatch.setattr(mtcnn, "look", lambda pixels: found)


def test_verdict_and_where_it_looked_are_printed_and_a_picture_lies_here(
    bundle_folder: Path, photo: Path, here: Path
) -> None:
    told = run(photo, "-d", bundle_folder)
    assert told.exit_code == 0, told.stderr
    first, *rest = told.stdout.splitlines()
    assert first.startswith("real 0.")
    assert first.endswith(str(photo))
    assert any("lies above all here: left " in line for line in rest)
    assert any("the most at the left: x 0-32, y 32-64 px" in line for line in rest)
    assert told.stderr == "written: photo.explain.png\n"
    assert [path.name for path in here.iterdir()] == ["photo.explain.png"]
    drawn = np.asarray(Image.open("photo.explain.png"))
    assert drawn.shape == (96, 96, 3)
    assert np.ptp(drawn, axis=-1).max() > 100


def test_pictures_pages_and_arrays_are_written_as_their_names_say(bundle_folder: Path, photo: Path, here: Path) -> None:
    told = run(photo, "-d", bundle_folder, "--out", "a.PNG", "--out", "b.html", "--out", "c.npz", "--quiet")
    assert (told.exit_code, told.stderr) == (0, "")
    assert {path.name for path in here.iterdir()} == {"a.PNG", "b.html", "c.npz"}
    assert Path("b.html").read_text().startswith("<!doctype html>")
    with np.load("c.npz", allow_pickle=False) as arrays:
        assert arrays["grey.map"].shape == (96, 96)
        row, column = np.unravel_index(arrays["grey.map"].argmax(), (96, 96))
    assert 40 <= row < 56
    assert 8 <= column < 24


def test_machines_get_one_object(bundle_folder: Path, photo: Path) -> None:
    told = run(photo, "-d", bundle_folder, "--json", "--toward", "real", "--channels", "2")
    found = json.loads(told.stdout)
    assert found["verdict"]["input"] == str(photo)
    assert (found["toward"], found["channels"]) == ("real", 2)
    assert found["files"] == ["photo.explain.png"]
    assert len(found["streams"][0]["crops"]) == 9
    assert "noise" not in found
    assert "faces" not in found
    assert json.loads(run(photo, "-d", bundle_folder, "--json", "--channels", "0").stdout)["channels"] is None
    assert json.loads(run(photo, "-d", bundle_folder, "--json").stdout)["channels"] == 64


def test_noise_says_what_stays(bundle_folder: Path, photo: Path) -> None:
    told = run(photo, "-d", bundle_folder, "--noise", "--out", "a.html")
    assert told.exit_code == 0
    assert "grey under noise:" in told.stdout
    assert "cosine of the embeddings at noise 0.5: " in told.stdout
    assert "of the map's top tenth stays at noise 1: " in told.stdout
    assert "grey under noise" in Path("a.html").read_text()
    found = json.loads(run(photo, "-d", bundle_folder, "--noise", "--json").stdout)["noise"]["grey"]
    assert found["stability"][0] == [0, pytest.approx(1)]
    assert [each["strength"] for each in found["drift"]] == [0.5, 1]


def test_shares_on_faces_are_told_clean_and_noisy(
    bundle_folder: Path, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = ((12.0, 44.0), (20.0, 44.0), (16.0, 48.0), (13.0, 52.0), (19.0, 52.0))
    faces(monkeypatch, Face(Box(0, 32, 32, 64), 0.95, marks))
    found = json.loads(run(photo, "-d", bundle_folder, "--faces", "--noise", "--json").stdout)["faces"]
    assert found["area"]["face"] == pytest.approx(1 / 9)
    assert set(found["streams"]["grey"]) == {"clean", "noise 0.5", "noise 1"}
    assert found["streams"]["grey"]["clean"]["face"] > 0.5
    assert found["found"][0]["box"] == [0, 32, 32, 64]
    told = run(photo, "-d", bundle_folder, "--faces").stdout
    assert "Share of the map of grey:" in told
    assert "clean: face 11%, eyes" in told


def test_a_picture_without_a_face_says_so(bundle_folder: Path, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faces(monkeypatch)
    told = run(photo, "-d", bundle_folder, "--faces")
    assert (told.exit_code, "found: none" in told.stdout) == (0, True)


def test_without_the_extra_faces_name_it(
    bundle_folder: Path, photo: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mtcnn.shared.cache_clear()
    monkeypatch.setattr(mtcnn.importlib.util, "find_spec", lambda name: None)
    told = run(photo, "-d", bundle_folder, "--faces")
    assert (told.exit_code, told.stdout) == (2, "")
    assert told.stderr.endswith('needs an extra: pip install "assay[faces]"\n')
    assert not list(here.iterdir())


def test_several_streams_are_compared_and_one_can_be_looked_into_alone(voters: Path, photo: Path) -> None:
    found = json.loads(run(photo, "-d", voters, "--json").stdout)
    assert len(found["cosines"]) == 3
    assert "grey and red: " in run(photo, "-d", voters).stdout
    one = json.loads(run(photo, "-d", voters, "--json", "--stream", "red").stdout)
    assert [stream["name"] for stream in one["streams"]] == ["red"]
    assert len(one["verdict"]["streams"]) == 3
    assert "cosines" not in one


def test_a_picture_that_shows_nothing_is_told_and_nothing_is_written(bundle_folder: Path, here: Path) -> None:
    Image.new("RGB", (9, 40)).save("thin.png")
    told = run("thin.png", "-d", bundle_folder, "--noise")
    assert told.exit_code == 1
    assert told.stdout.startswith("uncertain –  thin.png\n")
    assert "grey shows nothing: the picture is 9 x 40 px" in told.stdout
    assert "nothing was written" in told.stderr
    assert [path.name for path in here.iterdir()] == ["thin.png"]


def test_what_cannot_be_judged_is_one_line_and_status_1(bundle_folder: Path, here: Path) -> None:
    Path("torn.png").write_bytes(b"no picture")
    for name in ("torn.png", "absent.png"):
        told = run(name, "-d", bundle_folder)
        assert (told.exit_code, told.stdout, told.stderr.count("\n")) == (1, "", 1)
    assert [path.name for path in here.iterdir()] == ["torn.png"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["--out", "a.gif"], "end the name in .png, .html, .npz"),
        (["--out", "nowhere/a.png"], "there is no folder nowhere"),
        (["--stream", "gray"], "did you mean grey"),
        (["--toward", "faek"], "write fake or real"),
        (["--channels", "-1"], "--channels"),
    ],
)
def test_wrong_usage_is_told_before_any_work(
    bundle_folder: Path, photo: Path, here: Path, line: list[str], message: str
) -> None:
    told = run(photo, "-d", bundle_folder, *line)
    assert (told.exit_code, told.stdout) == (2, "")
    assert message in told.stderr
    assert not list(here.iterdir())


def test_the_picture_itself_is_never_written_over(bundle_folder: Path, photo: Path) -> None:
    before = photo.read_bytes()
    told = run(photo, "-d", bundle_folder, "--out", photo.parent / "work" / ".." / "photo.png")
    assert told.exit_code == 2
    assert "that is the picture itself" in told.stderr
    assert photo.read_bytes() == before


def test_a_name_cannot_steer_the_terminal_or_the_page(bundle_folder: Path, flat: Callable[..., Any]) -> None:
    name = "a\x1b[31m<b>.png"
    Image.fromarray(flat(90)).save(name)
    told = run(name, "-d", bundle_folder, "--out", "a.html")
    assert "\x1b" not in told.stdout
    page = Path("a.html").read_text()
    assert "<b>" not in page
    assert "\x1b" not in page


@pytest.fixture
def film(here: Path) -> Path:
    """A video of four frames, half a second each: dark, bright, darker, grey."""
    av = pytest.importorskip("av")
    with av.open("film.avi", "w") as file:
        stream = file.add_stream("rawvideo", rate=2)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "bgr24"
        for number, level in enumerate((60, 220, 20, 120)):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), level, np.uint8), format="bgr24")
            frame.pts = number
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return Path("film.avi")


def test_the_frame_that_is_asked_for_is_looked_into_and_the_verdict_is_the_clips(
    bundle_folder: Path, film: Path
) -> None:
    default = json.loads(run(film, "-d", bundle_folder, "--json").stdout)
    assert (default["frame"], default["time"]) == (1, 0.5)
    for asked in (("--frame", 2), ("--time", "1.2")):
        found = json.loads(run(film, "-d", bundle_folder, "--json", *asked).stdout)
        assert (found["frame"], found["time"]) == (2, 1.0)
        assert found["verdict"] == default["verdict"]
        assert found["streams"][0]["crops"][0]["score"] == found["verdict"]["frames"][2]["score"]
    fewer = json.loads(run(film, "-d", bundle_folder, "--json", "--every", "1").stdout)
    assert [frame["frame"] for frame in fewer["verdict"]["frames"]] == [0, 2]
    told = run(film, "-d", bundle_folder, "--frame", 2, "--out", "a.html").stdout
    assert "  frame 2 (1.00 s) was looked into\n" in told
    assert "  0.00 s " in told
    page = Path("a.html").read_text()
    assert "frame 2 (1.00 s)" in page
    assert "1.50 s, lowest 0.0" in page


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["--frame", "4"], "no frame 4 in it; it has 4, counted from 0"),
        (["--time", "2.5"], "no second 2.5 in it; its frames run from 0 to 1.50 s"),
    ],
)
def test_a_frame_that_is_not_there_is_told_and_nothing_is_written(
    bundle_folder: Path, film: Path, here: Path, asked: list[str], message: str
) -> None:
    told = run(film, "-d", bundle_folder, *asked)
    assert (told.exit_code, told.stdout, told.stderr) == (1, "", f"assay: {message}\n")
    assert [path.name for path in here.iterdir()] == ["film.avi"]
    picture = run(film, "-d", bundle_folder, "--frame", "1", "--time", "1")
    assert (picture.exit_code, "choose one" in picture.stderr) == (2, True)


def test_a_still_picture_has_frame_0_alone(bundle_folder: Path, photo: Path) -> None:
    assert run(photo, "-d", bundle_folder, "--frame", "0").exit_code == 0
    told = run(photo, "-d", bundle_folder, "--frame", "1")
    assert (told.exit_code, told.stderr) == (1, "assay: no frame 1 in it; it has 1, counted from 0\n")


def test_torch_is_not_needed(bundle_folder: Path, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torch", "sklearn", "scipy", "onnx"):
        monkeypatch.setitem(sys.modules, name, None)
    assert run(photo, "-d", bundle_folder, "--noise", "--out", "a.html").exit_code == 0
