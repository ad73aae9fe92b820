"""`assay distill`: from a teacher to students and their trade-off. (Soft labels themselves: tests/learn.)"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image
from typer.testing import CliRunner

import assay
from assay import cli
from assay.cli.distill import SUMMARY
from assay.data import manifest
from assay.judge import bundle
from assay.learn import train as training
from assay.learn.descend import Training
from assay.learn.recipe import Recipe
from assay.types import Label, Sample

SMALL = {
    "descend.pairs": "4",
    "descend.steps": "2",
    "descend.epochs": "1",
    "descend.tiles.each": "1",
    "descend.tiles.side": "64",
    "descend.tiles.reduce_above": "null",
    "fit.records": "16",
    "calibrate.fpr": "0.25",
}
"""A recipe that is done in seconds."""


def invoke(teacher: Path, *arguments: str) -> Any:
    given = ["distill", str(teacher), *arguments, "--out", "students"]
    return CliRunner().invoke(cli.app, given, catch_exceptions=False)


def told(result: Any) -> str:
    """What stands on standard error, on one line and without a frame."""
    return " ".join(result.stderr.replace("│", " ").split())


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands run in the test's own folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def data(here: Path, flat: Callable[..., Any]) -> list[Sample]:
    """Dark reals and bright fakes: 16 rows to train, 8 to tune, 8 to test, in `manifest.csv`; without the test rows in
    `untested.csv`."""
    samples = []
    for number in range(32):
        fake = bool(number % 2)
        Image.fromarray(flat(number * 3 + 140 * fake)).save(here / f"{number:02d}.png")
        split = "train" if number < 16 else "tune" if number < 24 else "test"
        samples.append(
            Sample(str(here / f"{number:02d}.png"), Label(fake), "lamp" * fake, f"s{number % 4}", split=split)
        )
    manifest.write(here / "manifest.csv", samples)
    manifest.write(here / "untested.csv", samples[:24])
    return samples


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that any detector was given to judge."""
    noted: list[str] = []
    real = assay.Detector.judge_many

    def noting(self: assay.Detector, sources: Any, **options: Any) -> Any:
        given = list(sources)
        noted.extend(Path(source).name for source in given if isinstance(source, str))
        return real(self, given, **options)

    monkeypatch.setattr(assay.Detector, "judge_many", noting)
    return noted


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Puts notes of what it was given in place of training."""
    noted: list[dict[str, Any]] = []

    def train(recipe: Recipe, rows: Any, out: Path, **options: Any) -> Path:
        noted.append({"recipe": recipe, "rows": rows, "out": out, **options})
        return out / bundle.MADE

    monkeypatch.setattr(training, "train", train)
    return noted


def test_students_are_made_compared_with_their_teacher_and_not_made_again(
    bundle_folder: Path, data: list[Sample], judged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    real = Training.advance
    monkeypatch.setattr(Training, "advance", lambda self, *given: taken.append(1) or real(self, *given))
    arguments = [
        *("--student", "trace_cnn", "--data", "manifest.csv", "--workers", "0", "--device", "cpu"),
        *("--condition", "jpeg50", "--rounds", "20", "--json"),
        *(word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")),
    ]
    result = invoke(bundle_folder, *arguments, "--student", "test_vit")
    assert result.exit_code == 0, result.output
    out = Path("students")
    found = json.loads(result.stdout)
    assert found["bundles"] == {name: f"students/{name}/bundle" for name in ("trace_cnn", "test_vit")}
    first, *students = found["tradeoff"]["detectors"]
    assert [row["name"] for row in (first, *students)] == ["teacher", "trace_cnn", "test_vit"]
    assert (found["tradeoff"]["n_real"], found["tradeoff"]["n_fake"]) == (4, 4)
    assert list(first["conditions"]) == ["jpeg50"]
    # The tiny teacher tells dark from bright.
    assert first["metrics"]["auc"]["value"] == 1
    for row in students:
        made = assay.load(found["bundles"][row["name"]], device="cpu")
        assert row["sha256"] == made.sha256
        assert made.name == f"tiny-{row['name']}"
        assert made.card.training["teacher"]["sha256"] == first["sha256"]
        assert made.streams[0].view.size == 32
        assert made.judge(data[-1].place).score is not None
        assert row["parameters"] == made.card.streams[0].parameters
    assert json.loads((out / "tradeoff.json").read_text()) == found["tradeoff"]
    assert "test_vit" in (out / "tradeoff.md").read_text().replace("\\", "")
    assert ElementTree.fromstring((out / "tradeoff.svg").read_text()).tag.endswith("svg")
    assert result.stderr.splitlines()[-1] == "next: assay scan PATH -d students/trace_cnn/bundle"

    train = {Path(sample.place).name for sample in data if sample.split == "train"}
    assert sum(name in train for name in judged) == 16
    assert len(taken) == 2 * 2
    labels = (out / "taught.csv").read_bytes()
    judged.clear()
    taken.clear()
    again = invoke(bundle_folder, *arguments)
    assert again.exit_code == 0, again.output
    assert not train & set(judged)
    assert not taken
    assert (out / "taught.csv").read_bytes() == labels
    sha256s = [row["sha256"] for row in (first, students[0])]
    assert [row["sha256"] for row in json.loads(again.stdout)["tradeoff"]["detectors"]] == sha256s


def test_without_test_rows_students_are_made_and_nothing_is_compared(
    bundle_folder: Path, data: list[Sample], trained: list[dict[str, Any]]
) -> None:
    result = invoke(bundle_folder, "--student", "trace_cnn", "--data", "untested.csv", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"bundles": {"trace_cnn": "students/trace_cnn/bundle"}, "tradeoff": None}
    assert not [name for name in SUMMARY if Path("students", name).exists()]
    plain = invoke(bundle_folder, "--student", "trace_cnn", "--data", "untested.csv")
    assert plain.stdout == ""
    assert "the manifest has no test rows, so teacher and students were not compared" in plain.stderr


def test_what_is_given_reaches_training(
    voters: Path, data: list[Sample], trained: list[dict[str, Any]], here: Path
) -> None:
    (here / "shared").mkdir()
    result = invoke(
        voters,
        *("--student", "trace_cnn", "--student", "test_vit", "--data", "untested.csv", "--vote", "majority"),
        *("--minutes", "2.5", "--fresh", "--seed", "3", "--workers", "0", "--device", "cpu", "--precision", "fp32"),
        *("--size", "paper", "--set", "descend.pairs=5", "--cache", "shared"),
    )
    assert result.exit_code == 0, result.output
    assert [each["out"] for each in trained] == [Path("students/trace_cnn"), Path("students/test_vit")]
    teacher = assay.load(voters, vote="majority", device="cpu")
    for each, network in zip(trained, ("trace_cnn", "test_vit"), strict=True):
        recipe = each["recipe"]
        assert (recipe.streams[0].backbone.name, recipe.streams[0].view.size) == (network, 32)
        assert (recipe.streams[0].view.layout, recipe.descend("student").pairs) == ("centre", 5)
        assert each["name"] == f"tiny-majority-{network}"
        assert each["teacher"].sha256 == teacher.sha256
        assert (each["minutes"], each["resume"], each["seed"], each["workers"]) == (2.5, False, 3, 0)
        assert (each["precision"], each["device"], each["cache"]) == ("fp32", "cpu", Path("shared"))
        cells = each["rows"].column("teacher").tolist()
        assert float(cells[1]) == teacher.judge(data[1].place).score
        assert cells[16:] == [""] * 8


def test_students_share_decoded_pictures_where_no_other_place_is_named(
    bundle_folder: Path, data: list[Sample], trained: list[dict[str, Any]]
) -> None:
    invoke(bundle_folder, "--student", "trace_cnn", "--student", "test_vit", "--data", "untested.csv")
    assert [each["cache"] for each in trained] == [Path("students/tiles")] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--student", "mobilenetv3_smal_100"], "no network called 'mobilenetv3_smal_100'; did you mean"),
        (["--student", "test_vit", "--set", "student.view.size=36"], "takes no views of 36 px"),
        (["--student", "trace_cnn", "--set", "descend.pair=4"], "did you mean pairs"),
        (["--student", "timm/net", "--student", "timm:net"], "would share the folder timm-net"),
        (["--student", "trace_cnn", "--set", "descend.pairs"], "write KEY=VALUE"),
        (["--student", "trace_cnn", "--size", "huge"], "neither small nor paper"),
        (["--student", "trace_cnn", "--device", "tpu"], "none of auto, cpu, cuda"),
        (["--student", "trace_cnn", "--vote", "majority"], "no rule called 'majority'"),
        ([], "Missing option"),
    ],
)
def test_what_does_not_hold_is_told_before_the_teacher_judges_anything(
    arguments: list[str],
    message: str,
    bundle_folder: Path,
    data: list[Sample],
    judged: list[str],
    trained: list[dict[str, Any]],
) -> None:
    result = invoke(bundle_folder, "--data", "manifest.csv", *arguments)
    assert result.exit_code == 2
    assert message in told(result)
    assert (judged, trained) == ([], [])
    assert not Path("students").exists()


def test_pictures_that_the_teacher_cannot_judge_are_named_and_no_student_is_made(
    bundle_folder: Path, data: list[Sample], trained: list[dict[str, Any]]
) -> None:
    Path(data[3].place).write_bytes(b"no picture")
    result = invoke(bundle_folder, "--student", "trace_cnn", "--data", "manifest.csv")
    assert result.exit_code == 2
    assert "1 training picture cannot be judged" in result.stderr
    assert "03.png" in result.stderr
    assert trained == []


def test_ctrl_c_says_that_the_same_command_goes_on(
    bundle_folder: Path, data: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*given: Any, **options: Any) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train", stopped)
    result = invoke(bundle_folder, "--student", "trace_cnn", "--data", "manifest.csv")
    assert result.exit_code == 130
    assert "kept in students: run the same command again to go on" in result.stderr
    assert Path("students", "taught.csv").exists()
