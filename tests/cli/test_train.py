"""`assay train`: what it is given, and what it says at the end. (Training itself: tests/learn, tests/integration.)"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from assay import cli
from assay.cli import train as training
from assay.data import manifest, shards
from assay.errors import InputError
from assay.learn import launch
from assay.learn.ranks import RankLost
from assay.types import Label, Sample


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli.app, ["train", "code24", *arguments, "--out", "run"], catch_exceptions=False)


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    """A folder of copies, as `assay data` writes it."""
    samples = []
    for number in range(2):
        place = tmp_path / "copies" / f"{number}.png"
        place.parent.mkdir(exist_ok=True)
        Image.new("RGB", (20, 20), (number, 0, 0)).save(place)
        samples.append(Sample(place=str(place), label=Label(number), split="train"))
    manifest.write(tmp_path / "copies" / "manifest.csv", samples)
    return tmp_path / "copies"


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[Any]]:
    """Puts something else in place of training, which gives what it was given for data."""

    def instead(end: Any = None) -> list[Any]:
        given: list[Any] = []

        def train(recipe: Any, data: Any, out: Path, **options: Any) -> Path:
            given.append(data)
            if end is not None:
                raise end
            return out / "bundle"

        monkeypatch.setattr(training, "_trainer", lambda: train)
        return given

    return instead


def test_a_folder_of_copies_or_of_shards_is_trained_on(
    copies: Path, tmp_path: Path, trained: Callable[..., list[Any]]
) -> None:
    given = trained()
    shards.write(manifest.read(copies), tmp_path / "shards")
    assert run("--data", str(copies)).exit_code == 0
    assert run("--data", str(tmp_path / "shards")).exit_code == 0
    assert len(given[0]) == given[1].samples == 2


def test_the_end_names_the_bundle_and_what_comes_next(copies: Path, trained: Callable[..., list[Any]]) -> None:
    trained()
    result = run("--data", str(copies))
    assert result.stdout == ""
    assert result.stderr == "next: assay evaluate run/bundle --data MANIFEST\n"
    assert json.loads(run("--data", str(copies), "--json").stdout)["bundle"] == "run/bundle"


def test_ctrl_c_says_that_the_same_command_goes_on_where_it_does(
    copies: Path, trained: Callable[..., list[Any]]
) -> None:
    trained(KeyboardInterrupt())
    stopped = run("--data", str(copies))
    assert stopped.exit_code == 130
    assert "kept in run: run the same command again to go on" in stopped.stderr
    anew = run("--data", str(copies), "--fresh")
    assert anew.exit_code == 130
    assert "again" not in anew.stderr


def test_a_secondary_data_set_is_read_and_handed_on(
    copies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[dict[str, Any]] = []

    def train(recipe: Any, data: Any, out: Path, **options: Any) -> Path:
        given.append({"recipe": recipe, "data": data} | options)
        return out / "bundle"

    monkeypatch.setattr(training, "_trainer", lambda: train)
    rows = [Sample(place=str(tmp_path / f"{n}.png"), label=Label(n % 2)) for n in range(3)]
    for row in rows:
        Image.new("RGB", (20, 20)).save(row.place)
    manifest.write(tmp_path / "second.csv", rows)
    second = str(tmp_path / "second.csv")
    words = ["train", "dfcon25", "--data", str(copies), "--out", "run", "--secondary", second]
    words += ["--set", "descend.secondary_weight=0.25", "--set", "derive=[]"]
    assert CliRunner().invoke(cli.app, words, catch_exceptions=False).exit_code == 0
    assert CliRunner().invoke(cli.app, words[:6], catch_exceptions=False).exit_code == 0
    assert [sample.place for sample in given[0]["secondary"]] == [sample.place for sample in rows]
    assert len(given[0]["data"]) == 2
    assert {stage.secondary_weight for stage in given[0]["recipe"].stages if stage.stage == "descend"} == {0.25}
    assert given[0]["recipe"].derive == ()
    assert "secondary" not in given[1]


def test_a_secondary_data_set_that_is_not_there_is_refused(copies: Path, trained: Callable[..., list[Any]]) -> None:
    given = trained()
    result = run("--data", str(copies), "--secondary", "nowhere.csv")
    assert result.exit_code == 2
    assert "nowhere.csv" in result.stderr
    assert given == []


# ── several devices ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """Puts something else in place of starting ranks, which gives what it was given."""
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)

    def instead(status: int = 0, told: str = "") -> list[Any]:
        given: list[Any] = []

        def start(devices: int, arguments: list[str]) -> tuple[int, str]:
            given.append((devices, arguments))
            return status, told

        monkeypatch.setattr(launch, "start", start)
        monkeypatch.setattr("sys.argv", ["assay", "train", "as", "it", "was"])
        return given

    return instead


def test_several_devices_each_run_the_command_as_it_was_given(copies: Path, started: Callable[..., list[Any]]) -> None:
    given = started()
    result = run("--data", str(copies), "--devices", "3", "--device", "cpu")
    assert given == [(3, ["train", "as", "it", "was"])]
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("status", "told", "line"),
    [
        (137, "rank 1 was ended by SIGKILL", "assay: rank 1 was ended by SIGKILL, and the others were stopped"),
        (143, "", "assay: stopped"),
        # Whoever is interrupted says so.
        (130, "", ""),
    ],
)
def test_how_ranks_ended_is_said_once_and_is_the_status(
    status: int, told: str, line: str, copies: Path, started: Callable[..., list[Any]]
) -> None:
    started(status, told)
    result = run("--data", str(copies), "--devices", "2", "--device", "cpu")
    kept = "; what is done is kept in run: run the same command again to go on\n" if line else ""
    assert (result.exit_code, result.stderr) == (status, line + kept)
    anew = run("--data", str(copies), "--devices", "2", "--device", "cpu", "--fresh")
    assert anew.stderr == (line + "\n" if line else "")


@pytest.fixture
def rank(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, BaseException | None], list[dict[str, Any]]]:
    """This process as one of two that were started, and what training is then given; it may end in an error."""

    def be(number: int, end: BaseException | None = None) -> list[dict[str, Any]]:
        given: list[dict[str, Any]] = []

        def train(recipe: Any, data: Any, out: Path, **options: Any) -> Path:
            given.append({"data": data} | options)
            if end is not None:
                raise end
            return out / "bundle"

        monkeypatch.setattr(training, "_trainer", lambda: train)
        monkeypatch.setattr(training, "_GRACE", 0.0)
        monkeypatch.setenv("RANK", str(number))
        monkeypatch.setenv("WORLD_SIZE", "2")
        return given

    return be


def test_the_first_rank_alone_reads_and_prints(copies: Path, rank: Callable[..., list[dict[str, Any]]]) -> None:
    ways = ("--devices", "2", "--shard", "--checkpoint-activations", "--compile", "--json")
    given = rank(0)
    lead = run("--data", str(copies), *ways)
    assert len(given[0]["data"]) == 2
    assert json.loads(lead.stdout)["bundle"] == "run/bundle"
    given = rank(1)
    other = run("--data", "not even there", *ways)
    assert (other.exit_code, other.output) == (0, "")
    assert len(given[0]["data"]) == 0
    assert [given[0][way] for way in ("shard", "recompute", "compiled")] == [True] * 3


def test_what_ends_all_ranks_is_told_once(copies: Path, rank: Callable[..., list[dict[str, Any]]]) -> None:
    data = ("--data", str(copies))
    for number in (0, 1):
        rank(number, RankLost("rank 0 of 2 has lost another one"))
        assert (run(*data).exit_code, run(*data).output) == (75, "")
    rank(0, KeyboardInterrupt())
    assert "run the same command again" in run(*data).stderr
    rank(1, KeyboardInterrupt())
    assert (run(*data).exit_code, run(*data).output) == (130, "")
    # A fault of its own is its own to tell, if nobody has stopped it by then.
    rank(1, InputError("a.png: torn", kind="corrupt"))
    assert (run(*data).exit_code, run(*data).stderr) == (1, "assay: a.png: torn\n")


def test_as_many_devices_as_there_are_processes_already(
    copies: Path, rank: Callable[..., list[dict[str, Any]]]
) -> None:
    rank(0)
    assert run("--data", str(copies), "--devices", "2").exit_code == 0
    refused = run("--data", str(copies), "--devices", "4")
    assert refused.exit_code == 2
    assert "there are 2 processes already" in refused.stderr


def test_without_more_devices_nothing_is_asked_of_training(
    copies: Path, rank: Callable[..., list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = rank(0)
    monkeypatch.delenv("WORLD_SIZE")
    assert run("--data", str(copies)).exit_code == 0
    assert not {"shard", "recompute", "compiled"} & given[0].keys()
