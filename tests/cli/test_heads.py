"""`--head`, and what the card of a detector with several heads says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from assay import cli


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli.app, list(arguments), catch_exceptions=False)


@pytest.fixture
def folder(parts: Any, tmp_path: Path, greys: Callable[[Path], None]) -> Path:
    """A folder with bundles "one" and "three", named by the heads of their stream, pictures and their manifest."""
    parts.write(tmp_path / "one")
    parts.add_heads()
    parts.write(tmp_path / "three")
    greys(tmp_path)
    return tmp_path


def test_a_scan_judges_with_the_head_that_is_asked_for(folder: Path) -> None:
    picture, bundle = str(folder / "0.png"), str(folder / "three")
    default = json.loads(run("scan", picture, "-d", bundle, "--json").stdout)
    other = json.loads(run("scan", picture, "-d", bundle, "--json", "--head", "nearest").stdout)
    assert [stream["name"] for stream in default["streams"]] == ["grey"]
    assert [stream["name"] for stream in other["streams"]] == ["grey-nearest"]
    assert (default["threshold"], other["threshold"]) == (0.7, 0.9)
    assert (default["detector"]["name"], other["detector"]["name"]) == ("tiny", "tiny-nearest")


def test_results_of_two_heads_do_not_go_into_one_file(folder: Path) -> None:
    arguments = ["scan", str(folder / "0.png"), "-d", str(folder / "three"), "--out", str(folder / "results.csv")]
    assert run(*arguments).exit_code == 0
    assert "results of another detector" in run(*arguments, "--head", "nearest").stderr


def test_an_unknown_head_is_a_usage_error_that_names_the_known_ones(folder: Path) -> None:
    for verb in (["scan", str(folder / "0.png"), "-d"], ["evaluate", "--data", str(folder / "manifest.csv")]):
        result = run(*verb, str(folder / "three"), "--head", "knn")
        assert result.exit_code == 2
        assert "no head called 'knn'; known: linear, nearest, one_class" in result.stderr


def test_an_evaluation_measures_the_head_that_is_asked_for(folder: Path) -> None:
    arguments = ["evaluate", str(folder / "three"), "--data", str(folder / "manifest.csv"), "--json", "--rounds", "5"]
    for head, threshold in (("linear", 0.7), ("nearest", 0.9), ("one_class", 0.6)):
        found = json.loads(run(*arguments, "--head", head).stdout)
        assert found["threshold"] == threshold


def test_detectors_tells_which_head_judges_and_which_others_could(folder: Path) -> None:
    text = run("detectors", str(folder / "three")).stdout
    assert "linear by default, the first of the recipe; by --head: nearest, one_class" in text
    assert "nearest (grey-nearest): fake from 0.9000, real below 0.2000" in text
    assert "--head" not in run("detectors", str(folder / "one")).stdout


def test_the_list_of_detectors_names_the_heads_in_a_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_BUNDLES", str(folder))
    three, one = (
        next(part for part in run("detectors").stdout.split("\n\n") if f"in {folder / name}" in part)
        for name in ("three", "one")
    )
    assert "heads      linear by default, the first of the recipe; by --head: nearest, one_class" in three
    assert three.count("mean colour") == 1
    assert "heads" not in one


def test_machines_are_told_the_bar_of_each_head(folder: Path) -> None:
    heads = json.loads(run("detectors", str(folder / "three"), "--json").stdout)["heads"]
    assert heads["nearest"] == {"threshold": 0.9, "doubt": [0.2, 0.9], "fpr": 0.05}
    assert list(heads) == ["linear", "nearest", "one_class"]
