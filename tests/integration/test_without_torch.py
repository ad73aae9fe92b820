"""Judging where none of the training libraries is installed: they are hidden from a fresh interpreter."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from assay.data import manifest
from assay.types import Label, Sample

HIDDEN = ("torch", "torchvision", "timm", "sklearn", "onnx", "onnxscript", "safetensors", "kornia", "scipy", "skimage")

WITHOUT = f"""
import importlib.abc, sys

class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HIDDEN!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hidden())
"""


def python(script: str, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """What a script says in an interpreter without the hidden libraries."""
    command = [sys.executable, "-c", WITHOUT + script, *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def assay(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    return python("from assay.cli import main; main()", *arguments, code=code)


@pytest.fixture
def rows(tmp_path: Path, flat: Callable[..., Any]) -> Path:
    """A manifest of dark reals and bright fakes."""
    samples = []
    for number in range(12):
        grey = 10 + 5 * number if number % 2 else 240 - 5 * number
        place = tmp_path / f"{number}.png"
        Image.fromarray(flat(grey)).save(place)
        samples.append(Sample(place=str(place), label=Label.REAL if number % 2 else Label.FAKE))
    table = tmp_path / "rows.csv"
    manifest.write(table, samples)
    return table


def test_the_libraries_are_hidden_indeed() -> None:
    script = """
import importlib
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        print(error.name)
"""
    assert python(script, *HIDDEN).stdout.split() == list(HIDDEN)


def test_three_lines_of_python_judge_a_picture(bundle_folder: Path, rows: Path) -> None:
    script = """
import sys, assay
detector = assay.load(sys.argv[1])
print(detector.judge(sys.argv[2]).verdict, *[result.verdict for result in detector.judge_many(sys.argv[2:])])
"""
    folder = rows.parent
    told = python(script, str(bundle_folder), str(folder / "0.png"), str(folder / "1.png"))
    assert told.stdout.split() == ["fake", "fake", "real"]


def test_the_command_scans_a_folder(bundle_folder: Path, rows: Path) -> None:
    told = assay("scan", str(rows.parent), "-d", str(bundle_folder), "--json")
    verdicts = {Path(line["input"]).stem: line["verdict"] for line in map(json.loads, told.stdout.splitlines())}
    assert verdicts == {str(number): "real" if number % 2 else "fake" for number in range(12)}


def test_the_command_describes_a_detector(bundle_folder: Path) -> None:
    [card] = map(json.loads, assay("detectors", str(bundle_folder), "--json").stdout.splitlines())
    assert card["name"] == "tiny"


def test_the_command_evaluates_a_detector_and_prints_tables(bundle_folder: Path, rows: Path) -> None:
    options = ("--data", str(rows), "--rounds", "20", "--robustness")
    found = json.loads(assay("evaluate", str(bundle_folder), *options, "--json").stdout)
    assert found["metrics"]["auc"]["value"] == 1
    assert assay("evaluate", str(bundle_folder), *options).stdout


def test_training_names_the_extra_that_it_needs(rows: Path, tmp_path: Path) -> None:
    told = assay("train", "code24", "--data", str(rows), "--out", str(tmp_path / "out"), code=2)
    assert 'pip install "assay[train]"' in told.stderr
