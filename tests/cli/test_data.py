"""`assay data`: what a person types, what comes out, and with which exit status."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from assay import cli
from assay.data import layouts, manifest, shards
from assay.data.derivations import derivations


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli.app, ["data", *arguments], catch_exceptions=False)


def picture(path: Path, seed: int, size: tuple[int, int] = (70, 60), **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 7, 3), dtype=np.uint8))
    coarse.resize(size).save(path, **options)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """An ImageFolder: six reals as JPEG, six fakes as PNG of another size, one of them torn, and a text file."""
    root = tmp_path / "set"
    for number in range(6):
        picture(root / "real" / f"{number}.jpg", number, quality=70 + number)
        picture(root / "fake" / f"{number}.png", 100 + number, (64, 64))
    (root / "fake" / "notes.txt").write_text("not a picture")
    return root


@pytest.fixture
def table(tree: Path) -> Path:
    out = tree.parent / "manifest.csv"
    assert run("read", "imagefolder", str(tree), "--out", str(out)).exit_code == 0
    return out


def test_layouts_are_listed_with_a_line_each_and_shown_whole_by_name() -> None:
    listed = run("layouts").stdout
    assert [line.split()[0] for line in listed.splitlines()] == list(layouts.layouts())
    shown = run("layouts", "celebdf").stdout
    assert "List_of_testing_videos.txt" in shown
    assert "read from: " in shown
    assert json.loads(run("layouts", "celebdf", "--json").stdout)["name"] == "celebdf"
    unknown = run("layouts", "celebd")
    assert unknown.exit_code == 2
    assert "did you mean celebdf" in unknown.stderr


def test_reading_says_what_was_found_and_what_was_left_out(tree: Path) -> None:
    out = tree.parent / "manifest.parquet"
    result = run("read", "imagefolder", str(tree), "--out", str(out))
    assert result.exit_code == 0, result.output
    assert "6 real" in result.stdout
    assert "6 fake" in result.stdout
    assert "left out 1: " in result.stdout
    assert "notes.txt" in result.stdout
    assert len(manifest.read(out)) == 12
    told = json.loads(run("read", "imagefolder", str(tree), "--out", str(out), "--json").stdout)
    assert told["rows"] == 12
    assert [left["count"] for left in told["left_out"]] == [1]


def test_a_tree_of_another_shape_is_refused_with_what_was_expected(tree: Path) -> None:
    result = run("read", "celebdf", str(tree), "--out", str(tree.parent / "m.csv"))
    assert result.exit_code == 2
    assert "is not laid out as celebdf" in result.stderr
    assert "Celeb-synthesis" in result.stderr
    assert not (tree.parent / "m.csv").exists()


def test_an_output_that_is_no_manifest_is_refused_before_anything_is_read(tree: Path) -> None:
    result = run("read", "imagefolder", str(tree), "--out", "table.xlsx")
    assert result.exit_code == 2
    assert ".parquet" in result.stderr
    result = run("read", "imagefolder", str(tree), "--out", "m.csv", "--set", "reel=x")
    assert result.exit_code == 2
    assert "did you mean real" in result.stderr


def test_a_check_names_rows_and_decides_the_exit_status(table: Path, tree: Path) -> None:
    rows = list(manifest.read(table))
    clean = run("check", str(table), "--json")
    assert json.loads(clean.stdout)["honest"] is (clean.exit_code == 0)
    (tree / "fake" / "0.png").write_bytes(b"torn")
    result = run("check", str(table))
    assert result.exit_code == 1
    assert "not fit to train or measure on" in result.stdout
    row = next(number for number, sample in enumerate(rows, start=2) if sample.place.endswith("fake/0.png"))
    assert f"row {row}" in result.stdout
    quick = run("check", str(table), "--table")
    assert "the pictures were not looked at" in quick.stdout
    assert quick.exit_code == 0


def test_a_faulty_manifest_is_checked_and_not_refused(table: Path) -> None:
    table.write_text(table.read_text().replace("real,", "reel,", 1))
    result = run("check", str(table), "--table")
    assert result.exit_code == 1
    assert "did you mean real" in result.stdout


def test_splits_are_shared_out_and_stay(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "split.csv"
    result = run("split", str(table), "--by", "path", "--shares", "0.5,0.2,0.3", "--out", str(out))
    assert result.exit_code == 0, result.output
    assert "12 rows by path" in result.stdout
    first = {Path(sample.place).name: sample.split for sample in manifest.read(out)}
    assert set(first.values()) <= {"train", "tune", "test"}
    again = run("split", str(table), "--by", "path", "--shares", "0.5,0.2,0.3", "--out", str(out), "--json")
    assert sum(part["rows"] for part in json.loads(again.stdout)["counts"]) == 12
    assert first == {Path(sample.place).name: sample.split for sample in manifest.read(out)}
    for wrong in (["--shares", "1,2"], ["--leave-out", "generator"], []):
        assert run("split", str(table), "--out", str(out), *wrong).exit_code == 2


def test_a_generator_is_left_out_for_the_test(table: Path, tmp_path: Path) -> None:
    rows = manifest.read(table)
    generator = np.where(rows.labels == 1, np.where(np.arange(12) % 2, "sdxl", "flux"), "")
    manifest.write(table, rows.with_column("generator", generator))
    result = run("split", str(table), "--leave-out", "generator=sdxl", "--shares", "0.5,0,0.5", "--out", str(table))
    assert result.exit_code == 0, result.output
    tested = {sample.generator for sample in manifest.select(manifest.read(table), split="test", label=1)}  # type: ignore[arg-type]
    assert tested == {"sdxl"}
    wrong = run("split", str(table), "--leave-out", "generator=sdx", "--out", str(table))
    assert wrong.exit_code == 2
    assert "did you mean sdxl" in wrong.stderr


def test_shards_are_written_and_written_again(table: Path, tmp_path: Path) -> None:
    for _ in range(2):
        result = run("shard", str(table), "--out", str(tmp_path / "shards"), "--most", "4")
        assert result.exit_code == 0, result.output
        assert "12 samples in 4 shards" in result.stdout
    assert shards.Index.open(tmp_path / "shards").samples == 12
    other = run("shard", str(table), "--out", str(tmp_path / "shards"), "--most", "5")
    assert other.exit_code == 2
    assert "most" in other.stderr


def test_every_derivation_is_a_verb_that_tells_its_parameters() -> None:
    listed = run("--help").stdout
    for name in derivations():
        assert f"\n  {name} " in listed
        shown = run(name, "--help").stdout
        assert "Parameters, for --set:" in shown
        assert f"assay data {name} manifest.csv" in shown


def test_aligning_flattens_what_the_files_tell(table: Path, tmp_path: Path) -> None:
    arguments = ["align", str(table), "--out", str(tmp_path / "aligned"), "--workers", "0"]
    result = run(*arguments, "--set", "side=48", "--set", "draw.quality=[60,80]")
    assert result.exit_code == 0, result.output
    assert "12 files made, 12 rows" in result.stdout
    rows = manifest.read(tmp_path / "aligned" / "manifest.csv")
    assert {Image.open(sample.place).size for sample in rows} == {(48, 48)}
    assert all(sample.origin and sample.origin != sample.sha256 for sample in rows)


def test_a_parameter_that_does_not_exist_names_the_nearest(table: Path, tmp_path: Path) -> None:
    for setting, words in (("sid=3", "did you mean side"), ("side", "write KEY=VALUE"), ("draw.quality=9", "quality")):
        result = run("align", str(table), "--out", str(tmp_path / "a"), "--set", setting)
        assert result.exit_code == 2
        assert words in result.stderr
    assert not (tmp_path / "a").exists()


def test_rows_that_fail_are_listed_and_may_be_left_out(table: Path, tree: Path, tmp_path: Path) -> None:
    (tree / "fake" / "0.png").write_bytes(b"torn")
    arguments = ["degrade", str(table), "--out", str(tmp_path / "degraded"), "--workers", "0"]
    refused = run(*arguments)
    assert refused.exit_code == 2
    assert "0.png" in refused.stderr
    kept = run(*arguments, "--skip")
    assert kept.exit_code == 1
    assert "11 files made" in kept.stdout
    assert len(manifest.read(tmp_path / "degraded" / "manifest.csv")) == 11


def test_a_folder_of_shards_or_copies_stands_for_its_manifest(table: Path, tmp_path: Path) -> None:
    run("shard", str(table), "--out", str(tmp_path / "shards"))
    assert json.loads(run("check", str(tmp_path / "shards"), "--json").stdout)["rows"] == 12
