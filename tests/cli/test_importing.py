"""`assay import`: what it is given, and what it says at the end. (The import itself: tests/learn.)"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from assay import cli
from assay.cli import importing
from assay.data import manifest
from assay.learn.released import systems
from assay.types import Label, Sample


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli.app, ["import", *arguments, "--out", "out"], catch_exceptions=False)


@pytest.fixture
def rows(tmp_path: Path) -> str:
    samples = []
    for number in range(2):
        place = tmp_path / f"{number}.png"
        Image.new("RGB", (20, 20), (number, 0, 0)).save(place)
        samples.append(Sample(place=str(place), label=Label(number), split="train"))
    manifest.write(tmp_path / "m.csv", samples)
    return str(tmp_path / "m.csv")


@pytest.fixture
def brought(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, Any]]]:
    """Puts something else in place of the import, which gives what it was given."""

    def instead(end: BaseException | None = None) -> list[dict[str, Any]]:
        given: list[dict[str, Any]] = []

        def bring(system: str, weights: str, data: Any, out: Path, **options: Any) -> Path:
            given.append({"system": system, "weights": weights, "rows": len(data), "out": out} | options)
            if end is not None:
                raise end
            return out / "bundle"

        monkeypatch.setattr(importing, "_importer", lambda: bring)
        return given

    return instead


def test_system_weights_and_settings_are_handed_on(rows: str, brought: Callable[..., list[dict[str, Any]]]) -> None:
    given = brought()
    settings = ["--set", "fit.records=8", "--seed", "3", "--precision", "fp32", "--workers", "0", "--cache", "c"]
    result = run("code24", "aimagelab/CoDE@v1", "--data", rows, *settings, "--fresh")
    assert (result.exit_code, result.stdout) == (0, "")
    assert given == [
        {
            "system": "code24",
            "weights": "aimagelab/CoDE@v1",
            "rows": 2,
            "out": Path("out"),
            "settings": {"fit.records": "8"},
            "name": "",
            "precision": "fp32",
            "device": "auto",
            "seed": 3,
            "workers": 0,
            "cache": Path("c"),
            "resume": False,
        }
    ]


def test_the_end_names_the_bundle_and_what_comes_next(rows: str, brought: Callable[..., Any]) -> None:
    brought()
    assert run("code24", "w", "--data", rows).stderr == "next: assay evaluate out/bundle --data MANIFEST\n"
    told = json.loads(run("code24", "w", "--data", rows, "--json").stdout)
    assert told == {"bundle": "out/bundle", "system": "code24", "weights": "w"}


def test_ctrl_c_says_that_the_same_command_goes_on(rows: str, brought: Callable[..., Any]) -> None:
    brought(KeyboardInterrupt())
    stopped = run("code24", "w", "--data", rows)
    assert stopped.exit_code == 130
    assert "kept in out: run the same command again to go on" in stopped.stderr


def test_without_torch_the_extra_is_named(rows: str, brought: Callable[..., Any]) -> None:
    brought(ModuleNotFoundError("No module named 'torch'", name="torch"))
    refused = run("code24", "w", "--data", rows)
    assert refused.exit_code == 2
    assert refused.stderr == 'assay: importing weights needs an extra: pip install "assay[train]"\n'


@pytest.mark.parametrize("option", [("--device", "tpu"), ("--precision", "int4"), ("--set", "records")])
def test_an_option_of_no_known_value_is_a_usage_error(
    option: tuple[str, str], rows: str, brought: Callable[..., Any]
) -> None:
    given = brought()
    assert run("code24", "w", "--data", rows, *option).exit_code == 2
    assert given == []


def test_weights_that_are_a_pickle_are_refused_in_one_line(rows: str, tmp_path: Path) -> None:
    (tmp_path / "head.sav").write_bytes(b"")
    refused = run("code24", str(tmp_path / "head.sav"), "--data", rows)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr.count("\n") == 1
    assert "is a pickle, and opening one can run code" in refused.stderr


def test_the_help_names_every_system() -> None:
    shown = CliRunner().invoke(cli.app, ["import", "--help"], catch_exceptions=False).stdout
    assert all(name in shown for name in systems())
