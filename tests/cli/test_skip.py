"""`--skip`: streams that can hardly change the verdict are left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import assay
from assay import cli
from assay.image.view import View
from assay.judge.skip import Skip


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli.app, list(arguments), catch_exceptions=False)


@pytest.fixture
def folder(parts: Any, tmp_path: Path, greys: Callable[[Path], None]) -> Path:
    """A folder with bundles "one" and "two", named by their number of streams, pictures and their manifest."""
    parts.write(tmp_path / "one")
    parts.add("red", view=View(size=32, minimum=16))
    skip = Skip(order=(("grey",), ("red",)), reach=((0.1, 0.1),), budget=0, changed=0, saved=0.5, rows=9)
    parts.judge = parts.judge.model_copy(update={"skip": skip})
    parts.write(tmp_path / "two")
    greys(tmp_path)
    return tmp_path


def test_a_scan_leaves_out_what_can_hardly_matter_where_it_is_asked_to(folder: Path) -> None:
    scan = ("scan", str(folder), "-d", str(folder / "two"), "--json")
    default, skipping = (
        [json.loads(line) for line in run(*scan, *more).stdout.splitlines()] for more in ((), ("--skip",))
    )
    assert len(default) == len(skipping) == 6
    assert [each["verdict"] for each in skipping] == [each["verdict"] for each in default]
    # All of them are dark or bright all over, so that one stream tells.
    reason = "left out, as it could not have changed the verdict"
    for each, other in zip(skipping, default, strict=True):
        assert each["streams"][1] == {"name": "red", "applies": False, "reason": reason}
        assert f"red has no part in this: {reason}" in each["reasons"]
        assert other["streams"][1]["score"] is not None


def test_a_scan_hands_on_whether_streams_may_be_left_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    load = assay.load
    monkeypatch.setattr(assay, "load", lambda *given, **more: asked.append(more["skip"]) or load(*given, **more))
    for more in ((), ("--skip",)):
        assert run("scan", str(folder / "0.png"), "-d", str(folder / "two"), *more).exit_code == 0
    assert asked == [False, True]


def test_a_detector_that_can_leave_nothing_out_is_a_usage_error(folder: Path) -> None:
    result = run("scan", str(folder / "0.png"), "-d", str(folder / "one"), "--skip")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "tiny: no stream of it can be left out; judge without skipping" in result.stderr


def test_help_says_what_skipping_does() -> None:
    told = " ".join(run("scan", "--help").stdout.split())
    assert "--skip" in told
    assert "Leave out streams where they can hardly" in told
