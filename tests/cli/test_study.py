"""`assay study`: what it lists, what it is given, and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from assay import cli
from assay.data import manifest
from assay.studies import run
from assay.studies.run import Asked, Plan, Report
from assay.types import Label, Sample


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(cli.app, ["study", *arguments], catch_exceptions=False)


@pytest.fixture
def data(tmp_path: Path) -> str:
    samples = []
    for number in range(12):
        place = tmp_path / f"{number}.png"
        Image.new("RGB", (40, 40), (number * 9, 0, 0)).save(place)
        split = ("train", "tune", "test")[number % 3]
        samples.append(Sample(str(place), Label(number // 6), split=split, generator="g" * (number // 6)))
    manifest.write(tmp_path / "manifest.csv", samples)
    return str(tmp_path / "manifest.csv")


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Puts something else in place of running, and gives what it was given."""

    def instead(failed: tuple[str, ...] = (), end: BaseException | None = None) -> dict[str, Any]:
        given: dict[str, Any] = {}

        def pretend(study: Any, rows: Any, out: Path, **options: Any) -> Report:
            given.update(options, study=study, out=out)
            if end is not None:
                raise end
            out.mkdir(exist_ok=True)
            asked = Asked(
                study=study.name,
                size="small",
                settings={},
                quick=False,
                minutes=None,
                views=None,
                equal="views",
                manifest="",
            )
            return Report(study, {}, dict.fromkeys(failed, "why"), failed, (2, 2), Plan(asked=asked), 1)

        monkeypatch.setattr(run, "run", pretend)
        return given

    return instead


def test_without_a_name_studies_are_listed_with_question_and_arms() -> None:
    text = invoke().stdout
    assert "code24-ablation" in text
    assert "what do the multi-scale term" in text
    assert "arms: full, global-only, global-only-real-to-fake" in text
    told = [json.loads(line) for line in invoke("--json").stdout.splitlines()]
    counts = {"code24": 10, "dfcon25": 5, "drift26": 7, "herd24": 7}
    assert [each["name"].partition("-")[0] for each in told] == [name for name, n in counts.items() for _ in range(n)]
    assert told[0]["arms"][3] == {
        "name": "pretrained",
        "what": "from pre-trained weights",
        "weights": "vit_tiny",
    }


def test_a_name_alone_describes_the_study() -> None:
    text = invoke("code24-foundation").stdout
    assert "clip-vit-b16" in text
    assert "needs --weights clip-vit-b16=FILE" in text
    assert "all arms get the same: views" in text


def test_listing_loads_no_network() -> None:
    code = "import sys; from assay.cli import main; sys.argv = ['assay', 'study']\n"
    code += "try: main()\nexcept SystemExit: pass\n"
    code += "print([name for name in ('torch', 'sklearn', 'timm', 'onnxruntime') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_what_is_given_reaches_the_runner(data: str, tmp_path: Path, ran: Callable[..., dict[str, Any]]) -> None:
    given = ran()
    weights = tmp_path / "v.safetensors"
    weights.write_bytes(b"")
    out = tmp_path / "out"
    result = invoke(
        *("code24-ablation", "--data", data, "--out", str(out), "--minutes", "2.5", "--seeds", "3", "--arm", "full"),
        *("--base", "code24:pocket", "--by", "generator", "--shared", str(tmp_path / "shared")),
        *("--equal", "compute", "--set", "descend.pairs=4", "--weights", f"vit_tiny={weights}", "--weights", "x=hub"),
    )
    assert result.exit_code == 0, result.output
    assert (given["minutes"], given["seeds"], given["only"], given["equal"]) == (2.5, 3, ("full",), "compute")
    assert (given["base"], given["by"], given["shared"]) == ("code24:pocket", "generator", tmp_path / "shared")
    assert given["settings"] == {"descend.pairs": "4"}
    assert given["weights"] == {"vit_tiny": str(weights), "x": "hub"}
    # The log's row names no place of this machine.
    row = (out / "log.md").read_text()
    command = "assay study code24-ablation --base code24:pocket --by generator --minutes 2.5 --equal compute --seeds 3"
    assert f"`{command} --set descend.pairs=4`" in row
    assert (out / "table.txt").read_text() == result.stdout
    assert result.stderr == f"wrote table.txt, table.md, report.json, figure.svg, log.md in {out}\n"


def test_json_is_one_object_on_standard_output(data: str, tmp_path: Path, ran: Callable[..., dict[str, Any]]) -> None:
    ran()
    told = json.loads(invoke("code24-heads", "--data", data, "--out", str(tmp_path / "out"), "--json").stdout)
    assert told["study"] == "code24-heads"
    assert told["paper"]


def test_a_study_that_teaches_lists_its_students_and_is_run_like_any_other(
    data: str, tmp_path: Path, ran: Callable[..., dict[str, Any]]
) -> None:
    text = invoke("dfcon25-distill").stdout
    assert "MobileNetV3-small, taught by the vote" in text
    assert "TraceCNN, taught by labels" in text
    given = ran()
    result = invoke("dfcon25-distill", "--data", data, "--out", str(tmp_path / "out"), "--base", "dfcon25:pocket")
    assert result.exit_code == 0, result.output
    assert given["base"] == "dfcon25:pocket"
    assert [arm.name for arm in given["study"].arms if arm.teacher] == [
        "mobilenet",
        "mobilenet-labels",
        "trace",
        "trace-labels",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--equal", "steps"], "none of views, compute"),
        (["--size", "huge"], "none of small, paper"),
        (["--weights", "vit_tiny=nowhere.safetensors"], "no file nowhere.safetensors"),
        (["--weights", "vit_tiny"], "write NAME=FILE"),
        (["--minutes", "1", "--views", "9"], "give either minutes or views"),
        (["--arm", "fool"], "did you mean full"),
        (["--base", "code24:pockets"], "did you mean pocket"),
        (["--by", "camera"], "no column"),
    ],
)
def test_what_does_not_hold_is_refused_before_any_work(
    arguments: list[str], message: str, data: str, tmp_path: Path
) -> None:
    result = invoke("code24-ablation", "--data", data, "--out", str(tmp_path / "out"), *arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert not (tmp_path / "out").exists()


def test_a_study_needs_data_and_a_folder(data: str) -> None:
    result = invoke("code24-ablation", "--data", data)
    assert result.exit_code == 2
    assert "--out" in result.stderr


def test_an_arm_that_failed_shows_in_the_exit_status(
    data: str, tmp_path: Path, ran: Callable[..., dict[str, Any]]
) -> None:
    ran(failed=("full",))
    result = invoke("code24-ablation", "--data", data, "--out", str(tmp_path / "out"))
    assert result.exit_code == 1
    assert "full: why" in result.stdout


def test_ctrl_c_says_that_the_same_command_goes_on(
    data: str, tmp_path: Path, ran: Callable[..., dict[str, Any]]
) -> None:
    ran(end=KeyboardInterrupt())
    result = invoke("code24-ablation", "--data", data, "--out", str(tmp_path / "out"))
    assert result.exit_code == 130
    assert "run the same command again to go on" in result.stderr
