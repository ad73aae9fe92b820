"""`assay data makers` and `assay data remake`: what a person types, what comes out, and with which exit status."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from assay import cli
from assay.data import manifest
from assay.learn import remake
from assay.learn.maker import MakerFields, load
from assay.types import Label, Sample

TINY = MakerFields.model_validate(
    {"width": 4, "latent": 4, "blocks": 0, "crop": 16, "batch": 2, "adversarial": 0.0, "factor": 2}
)
RECIPES = {"first": TINY, "second": TINY.model_copy(update={"upsampler": "subpixel"})}


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli.app, ["data", *arguments], catch_exceptions=False)


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None) -> Path:
    """Six training reals, two test reals and two training fakes; and two small recipes instead of the usual ones."""
    monkeypatch.setattr(remake, "MAKERS", RECIPES)
    rows = []
    for number in range(10):
        place = tmp_path / "set" / f"{number}.png"
        place.parent.mkdir(exist_ok=True)
        coarse = np.random.default_rng(number).integers(0, 256, (5, 5, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((60, 50)).save(place)
        label, split = ((Label.REAL, "train"), (Label.REAL, "test"), (Label.FAKE, "train"))[max(0, number // 2 - 2)]
        rows.append(Sample(str(place), label, "gan" if label else "", split=split))
    manifest.write(tmp_path / "rows.csv", rows)
    return tmp_path / "rows.csv"


def test_makers_are_trained_on_the_real_training_rows_and_then_remake_them(table: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "makers", tmp_path / "remade"
    trained = run("makers", str(table), "--out", str(folder), "--minutes-each", "0.01", "--json")
    assert trained.exit_code == 0, trained.output
    told = [json.loads(line) for line in trained.stdout.splitlines()]
    assert [(each["name"], each["record"]["pictures"]) for each in told] == [("first", 5), ("second", 5)]
    assert f"next: assay data remake {table} --makers {folder}" in trained.stderr

    arguments = ("remake", str(table), "--makers", str(folder), "--out", str(out), "--workers", "0")
    made = run(*arguments, "--share", "0.5", "--match", "0", "--side", "32", "--seed", "3")
    assert made.exit_code == 0, made.output
    assert "3 files made, 13 rows" in made.stdout
    assert "3 remade copies" in made.stdout
    rows = manifest.read(out)
    assert Counter((row.label, row.split) for row in rows) == Counter(
        {(Label.REAL, "train"): 6, (Label.REAL, "test"): 2, (Label.FAKE, "train"): 5}
    )
    copies = manifest.select(rows, remade="1")
    assert {Image.open(copy.place).size for copy in copies} == {(32, 32)}
    plan = json.loads((out / "derivation.json").read_text(encoding="utf-8"))
    assert plan["seed"] == 3
    assert {name: plan["parameters"][name] for name in ("share", "match", "side")} == {
        "share": 0.5,
        "match": 0.0,
        "side": 32,
    }


def test_one_maker_is_trained_by_name_and_one_that_is_there_is_kept(table: Path, tmp_path: Path) -> None:
    arguments = ("makers", str(table), "--out", str(tmp_path / "makers"), "--minutes-each", "0.01")
    assert run(*arguments, "--only", "second").exit_code == 0
    assert [path.name for path in (tmp_path / "makers").iterdir()] == ["second"]
    before = (tmp_path / "makers" / "second" / "maker.safetensors").stat().st_ino
    told = run(*arguments)
    assert told.exit_code == 0
    assert [line.split()[0] for line in told.stdout.splitlines()] == ["first", "second"]
    assert "dB on pictures held out" in told.stdout
    assert (tmp_path / "makers" / "second" / "maker.safetensors").stat().st_ino == before
    assert load(tmp_path / "makers" / "second").fields == RECIPES["second"]


def test_makers_are_trained_for_minutes_or_for_steps_and_not_for_both(table: Path, tmp_path: Path) -> None:
    arguments = ("makers", str(table), "--out", str(tmp_path / "makers"), "--only", "first", "--steps-each", "3")
    both = run(*arguments, "--minutes-each", "1")
    assert (both.exit_code, both.stdout) == (2, "")
    assert "either minutes or steps" in both.stderr
    assert "after 3 steps" in run(*arguments).stdout


def test_what_is_not_there_is_told_in_one_line(table: Path, tmp_path: Path) -> None:
    wrong = run("makers", str(table), "--out", str(tmp_path / "makers"), "--only", "secnd")
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert "did you mean second" in wrong.stderr
    (tmp_path / "empty").mkdir()
    none = run("remake", str(table), "--makers", str(tmp_path / "empty"), "--out", str(tmp_path / "out"))
    assert (none.exit_code, none.stdout) == (2, "")
    assert "assay data makers" in none.stderr
    assert not (tmp_path / "out").exists()


def test_ctrl_c_keeps_the_makers_that_are_whole(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = remake.train_maker

    def stopping(pictures: Any, fields: MakerFields, **options: Any) -> Any:
        if fields == RECIPES["second"]:
            raise KeyboardInterrupt
        return train(pictures, fields, **options)

    monkeypatch.setattr(remake, "train_maker", stopping)
    result = run("makers", str(table), "--out", str(tmp_path / "makers"), "--minutes-each", "0.01")
    assert result.exit_code == 130
    assert "run the same command again to go on" in result.stderr
    assert [path.name for path in (tmp_path / "makers").iterdir()] == ["first"]


def test_asking_for_help_imports_no_torch() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from assay import cli; "
        "told = [CliRunner().invoke(cli.app, ['data', verb, '--help']).exit_code for verb in ('makers', 'remake')]; "
        "print(told, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "[0, 0] False\n"
