"""The bench of runtimes, on the tiny detector: every way is measured beside float32, and what there is not is said."""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from assay.data import manifest
from assay.judge.engine import runtimes

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(BENCH))
    spec = importlib.util.spec_from_file_location("bench_engines", BENCH / "engines.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "product", lambda: 1e9)
    monkeypatch.setattr(module.Eager, "of", classmethod(lambda cls, *given: argparse.Namespace(macs=1_000_000)))
    yield module
    del sys.modules[spec.name]


def test_every_way_is_measured_beside_float32_in_one_table(
    engines: ModuleType, bundle_folder: Path, flat: Callable[..., Any], tmp_path: Path
) -> None:
    rows = ["path,label,split,source"]
    for number in range(18):
        fake, split = number % 2, ("train", "tune", "test")[number // 6]
        Image.fromarray(flat(3 * number + 120 * fake)).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{'fake' if fake else 'real'},{split},s{number}")
    (tmp_path / "m.csv").write_text("\n".join(rows))
    few = {"rows": 4, "pictures": 2, "rounds": 2, "resamples": 10}
    asked = argparse.Namespace(split="test", bound=1e-6, seed=0, precision=None, **few)
    told: list[str] = []
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    table = manifest.read(tmp_path / "m.csv")
    found = engines.measured(str(bundle_folder), table, asked, scratch, told.append)
    assert (found["detector"]["name"], found["rows"], found["pictures"]) == ("tiny", 4, 2)
    ways = [(way["precision"], way["engine"]) for way in found["ways"]]
    assert ways[0] == ("fp32", "onnxruntime")
    assert {way for way in ways if way[1] != "openvino-bf16"} == {
        (precision, engine) for precision in ("fp32", "fp16") for engine in runtimes() if engine != "openvino-bf16"
    }
    assert "more than 1e-06" in found["missing"]["int8"]
    first = found["ways"][0]
    assert first["times_fp32"]["value"] == 1
    assert (first["flips"], first["largest"], first["rows"]) == (0, 0, 4)
    share, rate = first["share_of_product"]["value"], first["pictures_per_second"]["value"]
    assert share == pytest.approx(2e6 * rate / 1e9, rel=1e-3)
    shown = io.StringIO()
    engines.show({"machine": {"cpu": "here"}, "bundles": [found]}, Console(file=shown, width=200))
    assert "not int8: scores move by" in shown.getvalue()
    json.dumps(found, allow_nan=False)


def test_only_the_precisions_asked_for_are_made(
    engines: ModuleType, bundle_folder: Path, flat: Callable[..., Any], tmp_path: Path
) -> None:
    for number, grey in enumerate((40, 200)):
        Image.fromarray(flat(grey)).save(tmp_path / f"{number}.png")
    (tmp_path / "m.csv").write_text("path,label,split\n0.png,real,tune\n1.png,fake,tune\n")
    rows = manifest.read(tmp_path / "m.csv")
    (tmp_path / "scratch").mkdir()
    found, missing = engines.runners(str(bundle_folder), rows, tmp_path / "scratch", 1.0, lambda told: None, ["fp32"])
    assert {runner.precision for runner in found} == {"fp32"}
    assert not missing


def test_pieces_of_the_samples_have_all_splits_and_keep_a_picture_together(engines: ModuleType, tmp_path: Path) -> None:
    rows = manifest.read(engines.pieces(tmp_path / "pieces"))
    assert len(rows) == 12 * engines.PIECES
    splits: dict[str, set[str]] = {}
    labels: dict[str, set[int]] = {}
    for sample in rows:
        splits.setdefault(sample.source, set()).add(sample.split)
        labels.setdefault(sample.split, set()).add(int(sample.label))
    assert all(len(found) == 1 for found in splits.values())
    assert labels == {split: {0, 1} for split in ("train", "tune", "test")}
    with Image.open(rows[0].place) as image:
        assert image.size == (engines.PIECE, engines.PIECE)
