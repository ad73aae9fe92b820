"""The wheel that users install: built from a copy of the checkout, with one more bundle in it."""

from __future__ import annotations

import email.parser
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST = 16 * 1000 * 1000
"""Bytes that a wheel may have: the detector that ships, and little else."""

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("hatchling") is None, reason="needs hatchling, which the group dev installs"
)


@pytest.fixture
def built(tmp_path: Path, bundle_folder: Path) -> Path:
    """The wheel."""
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns("__pycache__", "*.part")
    for name in ("src", "tests", "samples", "bench", "docs"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copyfile(ROOT / name, source / name)
    shutil.copytree(bundle_folder, source / "src/assay/bundles/tiny")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [wheel] = (tmp_path / "dist").iterdir()
    return wheel


def test_a_wheel_holds_the_package_with_its_bundles_and_nothing_else(built: Path) -> None:
    with zipfile.ZipFile(built) as wheel:
        names = set(wheel.namelist())
        [about] = [name for name in names if name.endswith(".dist-info/METADATA")]
        metadata = email.parser.Parser().parsestr(wheel.read(about).decode())
        commands = wheel.read(about.replace("METADATA", "entry_points.txt")).decode()
    source = built.parents[1] / "source" / "src"
    package = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    tiny = {f"assay/bundles/tiny/{name}" for name in ("card.json", "judge.json", "heads.npz", "seen.npz")}
    tiny |= {f"assay/bundles/tiny/tiny.{name}" for name in ("judge.onnx", "explain.onnx", "weights")}
    assert tiny < package
    assert {name for name in names if ".dist-info/" not in name} == package
    assert "assay/py.typed" in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert "assay = assay.cli:main" in commands
    assert metadata["Name"] == "assay"
    required = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert not any(line.startswith(("torch", "timm", "onnx>", "onnx ", "scikit")) for line in required)
    assert built.stat().st_size <= MOST


def test_the_package_in_a_wheel_finds_its_bundles_and_their_hashes_hold(built: Path, tmp_path: Path) -> None:
    place = tmp_path / "installed"
    with zipfile.ZipFile(built) as wheel:
        wheel.extractall(place)
    environment = {**os.environ, "PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("ASSAY_BUNDLES", None)
    command = [sys.executable, "-m", "assay", "detectors", "--json"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    cards = {card["name"]: card for card in map(json.loads, done.stdout.splitlines())}
    assert Path(cards["tiny"]["folder"]) == place / "assay/bundles/tiny"
