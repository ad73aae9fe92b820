"""`assay evaluate` of several detectors, through chains and sweeps, into tables, files and figures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from assay import cli
from assay.measure.robustness import COMPOUND, CONDITIONS, SWEEP


def run(*arguments: object, code: int = 0) -> Any:
    words = ["evaluate", *map(str, arguments), "--rounds", "5", "--threads", "1"]
    result = CliRunner().invoke(cli.app, words, catch_exceptions=False)
    assert result.exit_code == code, result.stderr
    return result


@pytest.fixture
def folder(parts: Any, tmp_path: Path, greys: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in with pictures, their manifest, and bundles: "one" and "three" of one name, and "other"."""
    parts.write(tmp_path / "one")
    parts.add_votes()
    parts.write(tmp_path / "three")
    parts.card = parts.card.model_copy(update={"name": "other"})
    parts.write(tmp_path / "other")
    greys(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


DATA = ("--data", "manifest.csv")


def test_several_detectors_are_one_object_with_what_compares_them(folder: Path) -> None:
    alone = [json.loads(run(name, *DATA, "--json").stdout) for name in ("one", "other")]
    found = json.loads(run("one", "other", *DATA, "--json").stdout)
    assert set(found) == {"detectors", "compared"}
    assert [each.pop("name") for each in found["detectors"]] == ["tiny", "other"]
    assert found["detectors"] == alone
    [compared] = found["compared"]
    assert (compared["first"], compared["second"], compared["n_real"]) == ("tiny", "other", 3)
    assert compared["delong"]["n"] == 6
    assert "robustness" not in compared


def test_one_detector_is_told_as_before_with_what_alteration_adds(folder: Path) -> None:
    found = json.loads(run("one", *DATA, "--json", "--condition", "half+jpeg50+noise10").stdout)
    assert {"detector", "threshold", "doubt", "fpr", "rows", "metrics", "groups", "fairness", "controls"} < set(found)
    assert list(found["robustness"]) == ["half+jpeg50+noise10"]
    altered = found["robustness"]["half+jpeg50+noise10"]
    assert {"auc", "balanced_accuracy", "accuracy", "ece", "fpr", "flips", "real_to_fake"} <= set(altered)
    assert set(altered["flips"]) == {"value", "low", "high", "n"}


def test_detectors_of_one_name_are_told_apart_by_what_was_given_and_no_one_twice(folder: Path) -> None:
    found = json.loads(run("one", "./three", "other", *DATA, "--json").stdout)
    assert [each["name"] for each in found["detectors"]] == ["tiny (one)", "tiny (./three)", "other"]
    assert [each["second"] for each in found["compared"]] == ["tiny (./three)", "other"]
    twice = run("one", "./one", *DATA, code=2)
    assert "./one and one are the same detector" in twice.stderr


def test_people_get_a_column_a_detector(folder: Path) -> None:
    text = run("one", "other", *DATA, "--condition", "half").stdout
    assert "more than tiny, on the rows that both have a score for" in " ".join(text.split())
    assert "tests against tiny" in text
    assert "AUC, after alteration" in text
    assert "more than" not in run("one", *DATA).stdout


def test_a_sweep_is_what_it_is_called(folder: Path) -> None:
    def conditions(*options: str) -> set[str]:
        return set(json.loads(run("one", *DATA, "--json", "--rounds", "0", *options).stdout).get("robustness", ()))

    everyday = {*CONDITIONS, *COMPOUND}
    assert conditions("--robustness") == everyday
    assert conditions("--sweep", "full") == {*everyday, *SWEEP}
    assert conditions("--sweep", "everyday", "--condition", "jpeg30") == {*everyday, "jpeg30"}
    assert conditions("--condition", "sweep") == set(SWEEP)
    assert conditions() == set()


def test_the_figure_and_the_tables_go_to_files(folder: Path) -> None:
    options = ("--condition", "jpeg90", "--condition", "jpeg10", "--condition", "half+jpeg50", "--json")
    told = run("one", "other", *DATA, *options, "--figure", "f.svg", "--statistic", "flips", "--out", "t.md").stdout
    figure = (folder / "f.svg").read_text()
    assert len(ElementTree.fromstring(figure).findall("{http://www.w3.org/2000/svg}g")) == 2
    assert "verdicts changed after alteration, n = 6" in figure
    table = (folder / "t.md").read_text()
    assert "| jpeg10 |" in table
    assert "## tests against tiny" in table
    run("one", "other", *DATA, *options, "--out", "t.json")
    assert json.loads((folder / "t.json").read_text()) == json.loads(told)
    run("one", *DATA, "--out", "t.md")
    assert (folder / "t.md").read_text().startswith("**tiny 1 (")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--sweep", "everything"), "neither everyday nor full"),
        (("--condition", "half+jpg50"), "did you mean jpeg50"),
        (("--figure", "f.svg"), "give --robustness or --condition too"),
        (("--robustness", "--figure", "f.png"), "does not end in .svg"),
        (("--robustness", "--statistic", "acu"), "none of auc, accuracy"),
        (("--out", "t.html"), "does not end in .md or .json"),
        (("--out", "gone/t.md"), "there is no such folder"),
    ],
)
def test_what_cannot_be_done_is_told_before_any_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], message: str
) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("too late")

    monkeypatch.setattr(cli.evaluate.assay, "load", load)
    result = run("one", *DATA, *options, code=2)
    assert message in " ".join(result.stderr.replace("│", "").split())


def test_a_row_that_no_detector_can_judge_is_counted_once(folder: Path) -> None:
    (folder / "0.png").write_bytes(b"no picture")
    result = run("one", "other", *DATA, "--json", code=1)
    assert "1 rows could not be judged" in result.stderr
    assert [each["rows"]["failed"] for each in json.loads(result.stdout)["detectors"]] == [1, 1]
