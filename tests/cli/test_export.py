"""`assay export` and what `assay detectors` measures and remembers. (What is exported: tests/learn/test_variant.py.)"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

import assay
from assay import cli
from assay.judge import bundle, probe


def run(*arguments: object) -> Any:
    return CliRunner().invoke(cli.app, [str(each) for each in arguments], catch_exceptions=False)


def told(result: Any) -> str:
    """What stands on standard error, on one line and without a frame."""
    return " ".join(result.stderr.replace("│", " ").split())


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands run in the test's own folder, and remember below it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def data(here: Path, flat: Callable[..., Any]) -> str:
    """Dark reals and bright fakes in `m.csv`: 4 rows to train, 8 to tune."""
    rows = ["path,label,split,source"]
    for number in range(12):
        fake, split = number % 2, "train" if number < 4 else "tune"
        Image.fromarray(flat(3 * number + 140 * fake)).save(f"{number}.png")
        rows.append(f"{number}.png,{'fake' if fake else 'real'},{split},s{number}")
    Path("m.csv").write_text("\n".join(rows))
    return "m.csv"


def export(folder: Path, precision: str, *more: object) -> Any:
    return run("export", folder, "--precision", precision, "--data", "m.csv", "--out", "out", "--rounds", 20, *more)


# ── export


def test_a_variant_is_written_and_the_table_says_how_far_scores_move(bundle_folder: Path, data: str) -> None:
    result = export(bundle_folder, "int8", "--name", "tiny-small", "--bound", "0.05")
    assert result.exit_code == 0, result.output
    assert "on 8 tuning rows; a score may move by 0.05" in result.stdout
    assert "written" in result.stdout
    assert "tiny: 0 of 1 layers stay in float" in result.stdout
    assert result.stderr.splitlines()[-1] == "next: assay evaluate out --data m.csv"
    assert bundle.read("out").card.name == "tiny-small"
    assert json.loads(run("scan", "11.png", "-d", "./out", "--json").stdout)["verdict"] == "fake"


def test_where_the_bound_is_exceeded_it_says_by_how_much_exits_with_1_and_writes_nothing(
    bundle_folder: Path, data: str
) -> None:
    result = export(bundle_folder, "int8", "--bound", "0.00001")
    assert result.exit_code == 1
    assert "nothing was written: scores move by more than 1e-05" in result.stderr
    assert "int8" in result.stdout
    assert "written" not in result.stdout
    assert not Path("out").exists()


def test_json_has_every_attempt(bundle_folder: Path, data: str) -> None:
    found = json.loads(export(bundle_folder, "fp16", "--json").stdout)
    assert (found["bundle"], found["bound"], found["failed"]) == ("out", 0.02, [])
    [attempt] = found["attempts"]
    assert (attempt["what"], attempt["kept"]) == ("weights in fp16", {})
    assert attempt["changes"]["default"]["rows"] == 8
    assert attempt["changes"]["default"]["auc_change"]["value"] == 0
    refused = export(bundle_folder, "int8", "--bound", "0", "--json")
    assert refused.exit_code == 1
    assert json.loads(refused.stdout)["bundle"] is None


def test_rows_that_cannot_be_judged_are_said(bundle_folder: Path, data: str) -> None:
    Path("9.png").write_bytes(b"no picture")
    result = export(bundle_folder, "fp16")
    assert result.exit_code == 0
    assert "1 tuning rows could not be judged" in result.stderr
    assert "9.png" in result.stderr


@pytest.mark.parametrize(
    ("precision", "message"),
    [
        ("bf16", "scan --engine openvino-bf16"),
        ("int4", "none of fp32, fp16 and int8"),
    ],
)
def test_another_precision_is_a_usage_error(bundle_folder: Path, data: str, precision: str, message: str) -> None:
    result = export(bundle_folder, precision)
    assert result.exit_code == 2
    assert message in told(result)


def test_exporting_needs_no_torch_and_names_its_extra(bundle_folder: Path, data: str) -> None:
    hide = (
        "import sys\n"
        "from importlib.machinery import PathFinder\n"
        "whole, hidden = PathFinder.find_spec, sys.argv.pop(1).split(',')\n"
        "PathFinder.find_spec = lambda name, *rest: None if name.partition('.')[0] in hidden else whole(name, *rest)\n"
        "from assay.cli import main; main()"
    )
    options = ["--precision", "int8", "--data", "m.csv", "--out", "out", "--bound", "0.05"]
    done = [
        subprocess.run(
            [sys.executable, "-c", hide, hidden, "export", str(bundle_folder), *options],
            capture_output=True,
            text=True,
            check=False,
        )
        for hidden in ("onnx", "torch,torchvision,timm,sklearn,scipy,nncf,openvino")
    ]
    assert [each.returncode for each in done] == [2, 0], done[1].stderr
    assert done[0].stderr == 'assay: exporting needs an extra: pip install "assay[export]"\n'


# ── detectors --probe, --forget


@pytest.fixture
def installed(bundle_folder: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The hash of the tiny bundle, which alone is installed."""
    (here / "none").mkdir()
    monkeypatch.setattr(bundle, "_SHIPPED", here / "none")
    monkeypatch.setenv(bundle.SEARCH, str(bundle_folder.parent))
    monkeypatch.setattr(probe, "SECONDS", 0.1)
    return bundle.read(bundle_folder).card.sha256


def test_a_probe_shows_every_way_and_remembers_one(installed: str) -> None:
    result = run("detectors", "--probe")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("tiny: crops a second, median of")
    assert sum("onnxruntime" in line for line in lines) == 3 * len({1, probe.cores()})
    assert sum(" taken" in line for line in lines) == 1
    assert probe.recall(installed) is not None
    assert "grey" in run("detectors", "tiny").stdout


def test_a_probe_for_machines_is_a_json_line_a_detector(installed: str) -> None:
    found = json.loads(run("detectors", "tiny", "--probe", "--json").stdout)
    assert (found["name"], found["sha256"]) == ("tiny", installed)
    setting = probe.recall(installed)
    assert setting is not None
    assert {name: found["taken"][name] for name in ("engine", "threads", "crops")} == setting.model_dump()
    assert found["timings"][0]["times"] == 1


def test_a_detector_that_only_counts_has_nothing_to_choose(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "cache"))
    result = run("detectors", "assay-texture", "--probe", "--json")
    sha256 = bundle.read(bundle.find("assay-texture")).card.sha256
    assert json.loads(result.stdout) == {"name": "assay-texture", "sha256": sha256, "taken": None, "timings": []}
    assert "assay-texture only counts, which takes no runtime" in result.stderr
    assert result.exit_code == 0
    assert not (here / "cache").exists()


def test_what_was_remembered_is_forgotten(installed: str) -> None:
    run("detectors", "--probe")
    assert "forgotten: 1" in run("detectors", "tiny", "--forget").stderr
    assert probe.recall(installed) is None
    assert json.loads(run("detectors", "--forget", "--json").stdout) == {"forgotten": 0}
    assert "nothing was remembered" in run("detectors", "--forget").stderr


def test_a_spoilt_file_is_said_on_a_line_and_forgetting_removes_it(installed: str, here: Path) -> None:
    file = here / "cache" / "assay" / "engines.json"
    file.parent.mkdir(parents=True)
    file.write_text("{")
    assert run("detectors", "--forget").exit_code == 0
    assert not file.exists()


def test_probing_and_forgetting_at_once_is_a_usage_error(installed: str) -> None:
    result = run("detectors", "--probe", "--forget")
    assert result.exit_code == 2
    assert "choose one" in told(result)


# ── --engine


@pytest.mark.parametrize(
    "verb", [["scan", "11.png", "-d", "tiny"], ["evaluate", "tiny", "--data", "m.csv", "--split", "tune"]]
)
def test_the_engine_that_is_asked_for_reaches_the_detector(
    verb: list[str], installed: str, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    load = assay.load
    monkeypatch.setattr(assay, "load", lambda *given, **more: asked.append(more["engine"]) or load(*given, **more))
    for more in ((), ("--engine", "onnxruntime")):
        run(*verb, *more)
    assert asked == ["auto", "onnxruntime"]
    result = run(*verb, "--engine", "tensorrt")
    assert result.exit_code == 2
    assert "none of auto, onnxruntime, openvino, openvino-bf16" in told(result)


def test_a_server_is_told_the_engine(installed: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("uvicorn")
    from assay.serve import running

    given: list[Any] = []
    monkeypatch.setattr(running, "run", lambda settings, ready: given.append(settings.engine))
    for more in ((), ("--engine", "openvino")):
        assert run("serve", "--data", here / "jobs", *more).exit_code == 0
    assert given == ["auto", "openvino"]
