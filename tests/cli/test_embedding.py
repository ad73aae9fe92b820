"""`assay embedding`."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from assay import cli
from assay.data import manifest
from assay.judge.seen import Seen
from assay.types import Label, Sample


def run(*line: object) -> Any:
    words = ["embedding", *map(str, line), "--threads", "1", "--rounds", "20"]
    return CliRunner().invoke(cli.app, words, catch_exceptions=False)


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """Red reals and blue fakes of two generators, two thirds of each for testing."""
    rows = []
    (tmp_path / "set").mkdir()
    for number in range(48):
        fake = number % 2
        noise = np.random.default_rng(number).integers(-20, 21, (48, 48, 3))
        colour = np.array([60, 60, 200] if fake else [200, 60, 60]) + number % 7
        place = tmp_path / "set" / f"{number}.png"
        Image.fromarray(np.clip(noise + colour, 0, 255).astype(np.uint8)).save(place)
        generator = ("cat", "dog")[number // 2 % 2] if fake else ""
        split = "test" if number < 32 else "train"
        rows.append(Sample(str(place), Label(fake), generator=generator, source=f"site {number // 4}", split=split))
    return rows


@pytest.fixture
def table(samples: list[Sample], tmp_path: Path) -> Path:
    manifest.write(tmp_path / "rows.csv", samples)
    return tmp_path / "rows.csv"


def test_figures_arrays_and_pictures_of_a_detector(bundle_folder: Path, table: Path, tmp_path: Path) -> None:
    told = run(bundle_folder, "--data", table, "--out", tmp_path / "view")
    assert told.exit_code == 0, told.stderr
    words = " ".join(told.stdout.split())
    assert "grey: 4 numbers a picture; 48 rows: 24 real, 24 fake" in words
    assert "linear probe, AUC of cat (12 fakes) * 1.000" in words
    assert "no overlap of real and fake" in words
    assert "none of the 48 rows was seen" in words
    assert "perplexity 15.7" in words
    view = tmp_path / "view"
    assert {path.name for path in view.iterdir()} == {
        "embedding.json",
        "grey.npz",
        "grey.label.svg",
        "grey.generator.svg",
    }
    with np.load(view / "grey.npz", allow_pickle=False) as arrays:
        assert arrays["embedding"].shape == (48, 4)
        assert np.isfinite(arrays["tsne"]).all()
    by_label, by_generator = ((view / f"grey.{by}.svg").read_text() for by in ("label", "generator"))
    assert "tiny · grey, by label, n = 48" in by_label
    assert "fake (n = 24)" in by_label
    for name in ("real (n = 24)", "cat (n = 12)", "dog (n = 12)", "perplexity 15.7, seed 0"):
        assert name in by_generator
    ElementTree.fromstring(by_generator)


def test_machines_get_the_object_that_is_written(bundle_folder: Path, table: Path, tmp_path: Path) -> None:
    line = (bundle_folder, "--data", table, "--split", "test", "--out", tmp_path / "view", "--json", "--quiet")
    told = run(*line)
    assert told.stderr == ""
    found = json.loads(told.stdout)
    assert found == json.loads((tmp_path / "view" / "embedding.json").read_text())
    stream = found["streams"]["grey"]
    assert found["rows"]["n"] == stream["n"] == 32
    assert stream["metrics"]["probe_auc"]["n"] == 32
    assert stream["metrics"]["overlap"]["value"] == 0
    assert stream["overlapping"] is False
    assert stream["tsne"]["n"] == 32
    again = run(*line)
    assert again.exit_code == 0
    assert again.stdout == told.stdout


def test_whether_fakes_form_one_manifold_is_told_for_each_stream(
    bundle_folder: Path, table: Path, tmp_path: Path
) -> None:
    told = run(bundle_folder, "--data", table, "--out", tmp_path / "view", "--most", 0)
    words = " ".join(told.stdout.split())
    found = json.loads((tmp_path / "view" / "embedding.json").read_text())["streams"]["grey"]["manifold"]
    assert (found["n"], found["generators"]) == (24, 2)
    assert found["sign"] in words
    neighbours = found["metrics"]["neighbours"]
    between = f"{neighbours['low']:.3f} to {neighbours['high']:.3f}"
    assert f"5 nearest fakes, of the same generator {neighbours['value']:.3f} {between} 24" in words
    assert words.count("silhouette of the generator") == 1
    told = run(bundle_folder, "--data", table, "--out", tmp_path / "view", "--most", 0, "--split", "test")
    assert "it takes 20 fakes, of two or more named generators" in " ".join(told.stdout.split())


def test_fakes_without_a_named_generator_leave_the_question_open(
    bundle_folder: Path, samples: list[Sample], tmp_path: Path
) -> None:
    for rows, why in ((samples, "no fake's generator is named"), (samples[::2], "there are no fakes")):
        unnamed = [Sample(row.place, row.label, source=row.source) for row in rows]
        manifest.write(tmp_path / "unnamed.csv", unnamed)
        told = run(bundle_folder, "--data", tmp_path / "unnamed.csv", "--out", tmp_path / "view", "--most", 0)
        assert told.exit_code == 0
        assert f"one manifold or a cluster for each method: not measured: {why}" in " ".join(told.stdout.split())
        found = json.loads((tmp_path / "view" / "embedding.json").read_text())
        assert found["streams"]["grey"]["manifold"] == {"skipped": why}


def test_overlap_is_named_in_words(bundle_folder: Path, samples: list[Sample], tmp_path: Path) -> None:
    shuffled = np.random.default_rng(1).permutation(48)
    rows = [Sample(row.place, Label(int(n % 2)), source=row.source) for n, row in zip(shuffled, samples, strict=True)]
    manifest.write(tmp_path / "mixed.csv", rows)
    told = run(bundle_folder, "--data", tmp_path / "mixed.csv", "--out", tmp_path / "view", "--most", 0)
    assert "OVERLAP: real and fake overlap in this embedding" in " ".join(told.stdout.split())


def test_seen_rows_are_marked_and_counted_not_refused(
    parts: Any, samples: list[Sample], table: Path, tmp_path: Path
) -> None:
    digests = [hashlib.sha256(Path(row.place).read_bytes()).hexdigest() for row in samples[24:]]
    parts.seen = Seen.of(files=digests)
    folder = parts.write(tmp_path / "seen").folder
    told = run(folder, "--data", table, "--out", tmp_path / "view")
    assert told.exit_code == 0
    words = " ".join(told.stdout.split())
    assert "24 (seen)" in words
    assert "24 of 48 rows are SEEN" in words
    assert "no test" in words
    assert "outline: seen in making the detector (n = 24)" in (tmp_path / "view" / "grey.label.svg").read_text()
    found = json.loads((tmp_path / "view" / "embedding.json").read_text())
    assert (found["rows"]["seen"], found["streams"]["grey"]["seen"]) == (24, 24)


def test_a_row_that_cannot_be_embedded_is_listed_and_the_status_is_1(
    bundle_folder: Path, samples: list[Sample], tmp_path: Path
) -> None:
    Path(samples[3].place).write_bytes(b"no picture")
    manifest.write(tmp_path / "torn.csv", [*samples, Sample(str(tmp_path / "set" / "0.png"), None)][:48])
    told = run(bundle_folder, "--data", tmp_path / "torn.csv", "--out", tmp_path / "view")
    assert told.exit_code == 1
    assert "47 rows: 24 real, 23 fake" in " ".join(told.stdout.split())
    assert "1 rows could not be embedded" in told.stderr
    found = json.loads((tmp_path / "view" / "embedding.json").read_text())
    assert found["rows"]["failures"][0]["place"].endswith("3.png")


def test_the_picture_holds_at_most_so_many_rows_of_classes_alike(
    bundle_folder: Path, table: Path, tmp_path: Path
) -> None:
    run(bundle_folder, "--data", table, "--out", tmp_path / "view", "--most", 20)
    assert "real (n = 10)" in (tmp_path / "view" / "grey.label.svg").read_text()
    with np.load(tmp_path / "view" / "grey.npz") as arrays:
        drawn = np.isfinite(arrays["tsne"]).all(axis=1)
        assert np.bincount(arrays["labels"][drawn]).tolist() == [10, 10]


def test_without_scikit_learn_a_picture_names_the_extra_before_any_work_and_figures_go_without(
    bundle_folder: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("sklearn", "sklearn.cluster"):
        monkeypatch.setitem(sys.modules, name, None)
    told = run(bundle_folder, "--data", table, "--out", tmp_path / "view")
    assert (told.exit_code, told.stdout) == (2, "")
    assert 'pip install "assay[measure]"' in told.stderr
    assert "--most 0" in told.stderr
    assert not (tmp_path / "view").exists()
    told = run(bundle_folder, "--data", table, "--out", tmp_path / "view", "--most", 0)
    assert told.exit_code == 0
    assert {path.name for path in (tmp_path / "view").iterdir()} == {"embedding.json", "grey.npz"}
    assert 'not measured: clustering the fakes needs an extra: pip install "assay[measure]"' in " ".join(
        told.stdout.split()
    )


def test_a_view_without_a_picture_leaves_none_of_an_earlier_one(
    bundle_folder: Path, table: Path, tmp_path: Path
) -> None:
    run(bundle_folder, "--data", table, "--out", tmp_path / "view")
    run(bundle_folder, "--data", table, "--out", tmp_path / "view", "--most", 0)
    assert not list((tmp_path / "view").glob("*.svg"))


def test_a_folder_that_holds_other_files_is_left_alone(bundle_folder: Path, table: Path, tmp_path: Path) -> None:
    told = run(bundle_folder, "--data", table, "--out", tmp_path / "set")
    assert told.exit_code == 2
    assert "holds other files" in told.stderr
    assert not list((tmp_path / "set").glob("*.npz"))


def test_names_cannot_steer_the_terminal(
    bundle_folder: Path, samples: list[Sample], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        Sample(row.place, row.label, generator="[red]x\x1b[31m" if row.label else "", source=row.source)
        for row in samples
    ]
    manifest.write(tmp_path / "bad.csv", rows)
    told = run(bundle_folder, "--data", tmp_path / "bad.csv", "--out", tmp_path / "view", "--most", 0)
    assert "\x1b" not in told.stdout
    assert r"[red]x\x1b[31m" in "".join(told.stdout.split())


def test_the_manifest_and_split_are_those_of_other_verbs(
    bundle_folder: Path, table: Path, tmp_path: Path, flat: Callable[..., Any]
) -> None:
    told = run(bundle_folder, "--data", table, "--split", "tset", "--out", tmp_path / "view")
    assert told.exit_code == 2
    assert "did you mean test" in told.stderr
