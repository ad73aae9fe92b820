"""`--vote`, and what the card of a detector whose streams can vote in several ways says."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from assay import cli

BARS = {
    "modified_majority": 0.7,
    "majority": 0.65,
    "mean": 0.6,
    "plain_mean": 0.55,
    "best": 0.85,
    "grey": 0.8,
    "red": 0.85,
    "blue": 0.9,
}


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli.app, list(arguments), catch_exceptions=False)


@pytest.fixture
def folder(parts: Any, tmp_path: Path, greys: Callable[[Path], None]) -> Path:
    """A folder with bundles "one" and "three", named by their number of streams, pictures and their manifest."""
    parts.write(tmp_path / "one")
    parts.add_votes()
    parts.write(tmp_path / "three")
    greys(tmp_path)
    # Its reds are dark, its blues a little bright.
    mixed = np.broadcast_to(np.array([0, 250, 110], np.uint8), (64, 80, 3))
    Image.fromarray(mixed.copy()).save(tmp_path / "mixed.bmp")
    return tmp_path


def test_a_scan_lets_the_streams_vote_as_it_is_asked_to(folder: Path) -> None:
    scan = ("scan", str(folder / "mixed.bmp"), "-d", str(folder / "three"), "--json")
    default = json.loads(run(*scan).stdout)
    found = {name: json.loads(run(*scan, "--vote", name).stdout) for name in BARS}
    assert found["modified_majority"] == default
    assert {name: verdict["threshold"] for name, verdict in found.items()} == BARS
    assert [stream["name"] for stream in found["majority"]["streams"]] == ["grey", "red", "blue"]
    assert [stream["name"] for stream in found["best"]["streams"]] == ["red"]
    assert default["score"] < 0.5 < found["majority"]["score"]
    assert (default["detector"]["name"], found["majority"]["detector"]["name"]) == ("tiny", "tiny-majority")
    assert "vote" not in default["detector"]
    assert found["majority"]["detector"]["vote"] == "majority"


def test_results_of_two_votes_do_not_go_into_one_file(folder: Path) -> None:
    results = folder / "results.csv"
    arguments = ["scan", str(folder / "0.png"), "-d", str(folder / "three"), "--out", str(results)]
    assert run(*arguments, "--vote", "majority").exit_code == 0
    written = results.read_bytes()
    for vote in ([], ["--vote", "mean"], ["--vote", "grey"]):
        result = run(*arguments, *vote)
        assert result.exit_code == 2
        assert "results of another detector" in result.stderr
    assert results.read_bytes() == written
    assert run(*arguments, "--vote", "majority").exit_code == 0
    assert len(list(csv.DictReader(results.open()))) == 1


def test_an_unknown_rule_is_a_usage_error_that_names_the_known_ones(folder: Path) -> None:
    for verb in (["scan", str(folder / "0.png"), "-d"], ["evaluate", "--data", str(folder / "manifest.csv")]):
        result = run(*verb, str(folder / "three"), "--vote", "xyz")
        assert result.exit_code == 2
        known = "known: best, blue, grey, majority, mean, modified_majority, plain_mean, red"
        assert f"no rule called 'xyz'; {known}" in result.stderr
    alone = run("scan", str(folder / "0.png"), "-d", str(folder / "one"), "--vote", "majority")
    assert (alone.exit_code, "no rule called 'majority'; known: mean" in alone.stderr) == (2, True)


def test_a_head_and_a_rule_together_are_a_usage_error(folder: Path) -> None:
    for verb in (["scan", str(folder / "0.png"), "-d"], ["evaluate", "--data", str(folder / "manifest.csv")]):
        result = run(*verb, str(folder / "three"), "--vote", "mean", "--head", "linear")
        assert result.exit_code == 2
        assert "give a head or a rule to vote by, not both" in result.stderr


def test_an_evaluation_measures_the_vote_that_is_asked_for(folder: Path) -> None:
    arguments = ["evaluate", str(folder / "three"), "--data", str(folder / "manifest.csv"), "--json", "--rounds", "5"]
    for name in ("modified_majority", "majority", "mean", "blue"):
        found = json.loads(run(*arguments, "--vote", name).stdout)
        assert found["threshold"] == BARS[name]
        assert found["detector"]["name"] == ("tiny" if name == "modified_majority" else f"tiny-{name}")


def test_detectors_tells_the_ways_to_vote_the_default_first(folder: Path) -> None:
    text = run("detectors", str(folder / "three")).stdout
    ways = text.split("Votes, the first by default\n")[1].split("\n\n")[0].splitlines()
    assert [line.split(":")[0].strip() for line in ways] == [
        "modified_majority",
        "majority",
        "mean",
        "plain_mean",
        "best (red)",
        "grey (grey)",
        "red (red)",
        "blue (blue)",
    ]
    assert ways[1].startswith(
        "  majority: fake from 0.6500, real below 0.3000; errors on tuning pictures: false_fake: 0.04"
    )
    assert "Votes" not in run("detectors", str(folder / "one")).stdout


def test_the_list_of_detectors_names_the_ways_to_vote_in_a_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_BUNDLES", str(folder))
    three, one = (
        next(part for part in run("detectors").stdout.split("\n\n") if f"in {folder / name}" in part)
        for name in ("three", "one")
    )
    assert "modified_majority; by --vote: majority, mean, plain_mean, best, grey, red, blue" in three
    assert "votes by" not in one


def test_machines_are_told_the_bar_of_each_way_to_vote(folder: Path) -> None:
    votes = json.loads(run("detectors", str(folder / "three"), "--json").stdout)["votes"]
    assert list(votes) == list(BARS)
    assert votes["plain_mean"] == {"threshold": 0.55, "doubt": [0.3, 0.55], "fpr": 0.05}
    assert json.loads(run("detectors", str(folder / "one"), "--json").stdout)["votes"] == {}
