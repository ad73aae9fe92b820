"""`assay report`: what it takes, what it writes and what it leaves alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from assay import cli
from webpage import Read, check_closed, check_readable


def run(*line: object, code: int = 0) -> Any:
    result = CliRunner().invoke(cli.app, [*map(str, line)], catch_exceptions=False)
    assert result.exit_code == code, result.stderr
    return result


def report(*line: object, code: int = 0) -> Any:
    return run("report", *line, code=code)


@pytest.fixture
def folder(parts: Any, tmp_path: Path, greys: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in with six pictures, no picture, their manifest, two bundles, and what was said of them."""
    parts.write(tmp_path / "one")
    parts.card = parts.card.model_copy(update={"name": "other"})
    parts.write(tmp_path / "other")
    greys(tmp_path)
    (tmp_path / "torn.png").write_bytes(b"no picture")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASSAY_BUNDLES", str(tmp_path))
    run("scan", "-d", "./one", "*.png", "--out", "r.jsonl", "--threads", "1", code=1)
    return tmp_path


def read_of(file: Path) -> Read:
    read = Read(file.read_text("utf-8"))
    check_closed(read)
    check_readable(read)
    return read


def test_a_scan_becomes_a_page_with_pictures_and_the_detectors_card(folder: Path) -> None:
    result = report("r.jsonl")
    assert (result.stdout, result.stderr) == ("", "written: report.html\n")
    read = read_of(folder / "report.html")
    assert "7 inputs: 6 judged, 1 could not be judged." in read.words
    assert "not a picture or video by its content" in read.words
    assert "It can't tell real from fake." in read.words
    assert len(read.all("img")) == 6
    assert [path.name for path in folder.iterdir() if path.name.endswith(".part")] == []


def test_a_csv_and_the_figures_of_one_and_of_several_detectors_are_told_apart(folder: Path) -> None:
    run("scan", "-d", "./one", "0.png", "5.png", "--out", "r.csv", "--threads", "1")
    measuring = ("--data", "manifest.csv", "--rounds", "5", "--threads", "1", "--condition", "half")
    (folder / "one.json").write_text(run("evaluate", "one", *measuring, "--json").stdout)
    run("evaluate", "one", "other", *measuring, "--out", "both.json")
    told = json.loads(report("r.csv", "one.json", "both.json", "--out", "all.HTML", "--json", "--quiet").stdout)
    assert told["file"] == "all.HTML"
    assert [(each["input"], each["kind"]) for each in told["sections"]] == [
        ("r.csv", "scan"),
        ("one.json", "evaluation"),
        ("both.json", "comparison"),
    ]
    assert told["sections"][0]["thumbnails"] == 2
    assert told["sections"][2]["detectors"] == ["tiny", "other"]
    read = read_of(folder / "all.HTML")
    for words in ("Scan: r.csv", "Evaluation: one.json", "Comparison of detectors: both.json", "tests against tiny"):
        assert words in read.words


def test_title_rows_and_thumbnails_are_as_asked_for(folder: Path) -> None:
    report("r.jsonl", "--title", "A & <b>", "--rows", 2, "--no-thumbnails", "-q")
    read = read_of(folder / "report.html")
    assert read.inside("title")[0] == "A & <b>"
    assert "2 of 6 results" in read.words
    assert not read.all("img")


def test_by_default_as_many_rows_are_shown_as_the_help_says(folder: Path) -> None:
    line = (folder / "r.jsonl").read_text().splitlines()[0]
    (folder / "many.jsonl").write_text((line + "\n") * 250)
    report("many.jsonl", "--no-thumbnails")
    assert "200 of 250 results" in read_of(folder / "report.html").words
    assert "[default: 200]" in " ".join(report("--help").stdout.split())


def test_what_is_there_stays_unless_it_is_to_be_replaced(folder: Path) -> None:
    page = folder / "report.html"
    page.write_text("mine")
    assert "report.html: is there already; give --out another name, or --force" in report("r.jsonl", code=2).stderr
    assert page.read_text() == "mine"
    report("r.jsonl", "--force")
    assert page.read_text().startswith("<!doctype html>")
    (folder / "link.html").symlink_to(folder / "nowhere.html")
    assert "is there already" in report("r.jsonl", "--out", "link.html", code=2).stderr


def test_an_input_that_cannot_be_used_leaves_nothing_behind_and_harms_nothing(folder: Path) -> None:
    (folder / "bad.jsonl").write_text('{"input": "a", "verdict": "fake"}\n')
    (folder / "report.html").write_text("mine")
    before = sorted(folder.iterdir())
    for name, message in (("bad.jsonl", "result 1 is not one of assay scan"), ("none.jsonl", "cannot be read")):
        stderr = report("r.jsonl", name, "--force", code=1).stderr
        assert message in stderr
        assert stderr.startswith(f"assay: {name}: ")
        assert "Traceback" not in stderr
    assert sorted(folder.iterdir()) == before
    assert (folder / "report.html").read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("r.jsonl", "--out", "r.pdf"), "end its name in .html"),
        (("r.jsonl", "--out", "gone/r.html"), "there is no folder gone"),
        (("r.jsonl", "--out", "d.html", "--force"), "that is a folder"),
        (("r.html", "--out", "r.html", "--force"), "that is an input"),
        (("r.jsonl", "--rows", "-1"), "--rows"),
        ((), "Missing argument"),
    ],
)
def test_what_cannot_be_done_is_told_before_any_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], message: str
) -> None:
    def of_file(*_: object, **__: object) -> None:
        raise AssertionError("too late")

    monkeypatch.setattr("assay.measure.page.of_file", of_file)
    (folder / "d.html").mkdir()
    (folder / "r.html").write_text((folder / "r.jsonl").read_text())
    assert message in " ".join(report(*options, code=2).stderr.replace("│", "").split())
