"""The verbs where no extra is installed: pyarrow, PyAV, the face networks and torch are hidden from an interpreter."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest
from PIL import Image

from assay.data import manifest
from assay.data.derivations import derivations
from assay.types import Label, Sample

HIDDEN = ("pyarrow", "av", "mtcnnruntime", "torch", "torchvision", "timm", "sklearn", "onnx", "cv2", "kornia", "scipy")

WITHOUT = f"""
import json, sys
from importlib.machinery import PathFinder

whole = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name.partition(".")[0] in {HIDDEN!r} else whole(name, *rest)

from typer.testing import CliRunner
from assay import cli

told = []
for line in json.load(sys.stdin):
    result = CliRunner().invoke(cli.app, line, catch_exceptions=False)
    told.append((result.exit_code, result.stdout, result.stderr))
print(json.dumps(told))
"""


class Told(NamedTuple):
    status: int
    stdout: str
    stderr: str


def run(*lines: list[str]) -> list[Told]:
    """What each command says, all in one interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT],
        input=json.dumps(lines),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [Told(*each) for each in json.loads(done.stdout)]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Six reals and six fakes of 300 px, with splits."""
    samples = []
    for number in range(12):
        place = tmp_path / "set" / ("fake" if number % 2 else "real") / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        coarse = np.random.default_rng(number).integers(0, 256, (5, 5, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((300, 300)).save(place)
        samples.append(Sample(place=str(place), label=Label(number % 2), split=("train", "train", "test")[number // 4]))
    manifest.write(tmp_path / "rows.csv", samples)
    return tmp_path / "rows.csv"


def test_layouts_and_help_need_no_extra() -> None:
    lines = [["data", "layouts"], ["data", "layouts", "d3"], ["--help"], ["data", "--help"]]
    lines += [["data", name, "--help"] for name in derivations()]
    told = run(*lines)
    assert [(each.status, each.stderr) for each in told] == [(0, "")] * len(lines)
    assert "columns" in told[0].stdout


def test_stills_in_a_csv_go_the_whole_way_without_an_extra(rows: Path, tmp_path: Path, bundle_folder: Path) -> None:
    table, shards = str(tmp_path / "read.csv"), str(tmp_path / "shards")
    lines = [
        ["data", "read", "imagefolder", str(rows.parent / "set"), "--out", table],
        ["data", "split", table, "--by", "path", "--shares", "0.5,0.25,0.25", "--out", table],
        ["data", "check", table, "--workers", "0"],
        *(["data", name, str(rows), "--out", str(tmp_path / name), "--workers", "0"] for name in STILLS),
        ["data", "shard", str(rows), "--out", shards],
        ["data", "check", shards, "--table"],
        ["evaluate", str(bundle_folder), "--data", shards, "--rounds", "5"],
    ]
    for line, told in zip(lines, run(*lines), strict=True):
        assert told.status in ((0, 1) if "check" in line else (0,)), (line, told)
        assert told.stdout
        assert "needs an extra" not in told.stderr


STILLS = ("align", "augment", "degrade", "frames", "resample")


def test_what_needs_an_extra_names_it_in_one_line_and_does_nothing(rows: Path, tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "train-0.parquet").write_bytes(b"PAR1")
    read = ["data", "read", "imagefolder", str(rows.parent / "set"), "--out"]
    needs = {
        "faces": ["data", "faces", str(rows), "--out", str(tmp_path / "faces")],
        "faces ": ["data", "eyes", str(rows), "--out", str(tmp_path / "eyes")],
        "data": ["data", "read", "columns", str(tmp_path / "hub"), "--out", str(tmp_path / "m.csv")],
        "data ": [*read, str(tmp_path / "m.parquet")],
        "data  ": ["data", "check", str(tmp_path / "hub" / "train-0.parquet")],
        "train": ["train", "code24", "--data", str(rows), "--out", str(tmp_path / "run")],
        "train ": ["data", "makers", str(rows), "--out", str(tmp_path / "makers")],
        "train  ": ["data", "remake", str(rows), "--makers", "makers", "--out", str(tmp_path / "remade")],
    }
    for extra, told in zip(needs, run(*needs.values()), strict=True):
        assert (told.status, told.stdout) == (2, ""), told
        assert told.stderr.endswith(f'needs an extra: pip install "assay[{extra.strip()}]"\n')
        assert told.stderr.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"set", "rows.csv", "hub"}


def test_a_clip_among_stills_is_a_row_that_names_the_extra(rows: Path, tmp_path: Path) -> None:
    clip = tmp_path / "set" / "fake" / "clip.mp4"
    with av.open(str(clip), "w") as file:
        stream = file.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        for grey in (50, 60, None):
            frame = None if grey is None else av.VideoFrame.from_ndarray(np.full((64, 64, 3), grey, np.uint8))
            file.mux(stream.encode(frame))
    with rows.open("a") as table:
        table.write(f"{clip},fake" + "," * 8 + "\r\n")
    lines = [
        ["data", name, str(rows), "--out", str(tmp_path / name), "--workers", "0"] for name in ("frames", "degrade")
    ]
    refused = run(*lines, *([*line, "--skip"] for line in lines))
    assert [each.status for each in refused] == [1, 1, 1, 1]
    for each in refused:
        assert f"row 14: {clip}: " in each.stderr
        assert 'pip install "assay[video]"' in each.stderr
    assert "12 files made" in refused[3].stdout
