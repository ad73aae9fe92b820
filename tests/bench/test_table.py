"""The table of all benches: what stands in a row, what meets an aim, and that a bench that fails is not left out."""

from __future__ import annotations

import copy
import io
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from benches import BENCH, loaded


@pytest.fixture(scope="module")
def table(beside: None) -> ModuleType:
    return loaded("table")


def spread(value: float, low: float = 0.0, high: float = 0.0) -> dict[str, float]:
    return {"value": value, "low": low or value, "high": high or value}


def rate(value: float) -> dict[str, Any]:
    return {"pictures_per_second": spread(value), "cpu_seconds_per_picture": spread(2 / value)}


SPEED: dict[str, Any] = {
    "detector": {"name": "tiny", "version": "1", "sha256": "ab"},
    "engine": {"runtime": "openvino", "threads": 2, "crops": 8, "times_usual": 1.2},
    "speed": {
        **rate(60),
        "files": 96,
        "side": 512,
        "rounds": 5,
        "product_gflops": spread(194),
        "decode": rate(500),
        "pillow": rate(550),
        "decode_times_pillow": spread(0.91, 0.9, 0.92),
        "network": rate(70),
        "slower": "network",
        "share_of_slower": spread(0.857, 0.82, 0.9),
        "share_of_both": spread(0.977),
        "published": [
            {"name": "FerretNet-S", **rate(3), "times": spread(20, 18, 21), "batch": 1},
            {"name": "FerretNet-S, batches", **rate(6), "times": spread(10, 9, 12), "batch": 32},
            {"name": "Tiny-LaDeDa (WildRF)", "note": "not given"},
        ],
        "eager": rate(15) | {"threads": 2},
        "times_eager": spread(4.9, 4.5, 5.3),
        "batched": rate(40) | {"batch": 8, "compiled": False, "note": "RuntimeError: no compiler"},
        "times_batched": spread(1.5, 1.4, 1.6),
        "macs_per_picture": 1_260_000_000,
        "share_of_product": spread(0.44),
        "network_share_of_product": spread(0.5),
    },
    "start": {"seconds": spread(0.46), "libraries": {"seconds": spread(0.3)}, "times_libraries": spread(1.5)},
}


def shown(rows: list[Any]) -> list[tuple[str, ...]]:
    return [row.cells("a") for row in rows]


@pytest.mark.parametrize(
    ("value", "bounds", "aim", "met"),
    [
        (5.0, {"least": 5.0}, "≥ 5 ×", "met"),
        (4.99, {"least": 5.0}, "≥ 5 ×", "missed"),
        (1.1, {"most": 1.1}, "≤ 1.1 ×", "met"),
        (1.11, {"most": 1.1}, "≤ 1.1 ×", "missed"),
        (0.8, {"least": 0.8, "share": True}, "≥ 80 %", "met"),
        (4.0, {}, "", ""),
    ],
)
def test_an_aim_is_met_by_the_median(
    table: ModuleType, value: float, bounds: dict[str, Any], aim: str, met: str
) -> None:
    cells = table.Row("scan", "9 a second", "eager", spread(value, 0.1, 99), **bounds).cells("scan")
    assert cells[-2:] == (aim, met)
    assert len(cells) == len(table.COLUMNS)


def test_an_aim_without_a_ratio_is_neither_met_nor_missed(table: ModuleType) -> None:
    assert table.Row("scan", "no torch here", "eager", None, least=5.0).cells("scan")[-2:] == ("≥ 5 ×", "")


def test_a_scan_stands_beside_everything_it_is_compared_with(table: ModuleType) -> None:
    rows = shown(table.of_speed(SPEED))
    by_other = {row[3].partition(":")[0]: row for row in rows}
    assert rows[0][1] == "scan, tiny, openvino (2 threads, 8 crops, 1.2 × the usual way)"
    assert by_other["eager torch, one picture at a time"][3:] == (
        *("eager torch, one picture at a time: 15 pictures/s", "4.9 ×", "4.5 × to 5.3 ×"),
        *("96 files, 5 rounds", "≥ 5 ×", "missed"),
    )
    assert by_other["torch in batches of 8, not compiled (RuntimeError"][4] == "1.5 ×"
    assert by_other["FerretNet-S, one picture at a time"][3:5] == (
        *("FerretNet-S, one picture at a time: 3 pictures/s", "20 ×"),
    )
    assert by_other["FerretNet-S, in batches of 32"][4] == "10 ×"
    assert by_other["Tiny-LaDeDa (WildRF)"][2:5] == ("not given", "Tiny-LaDeDa (WildRF)", "")
    assert by_other["the slower by itself, networks alone"][4:] == (
        *("85.7 %", "82 % to 90 %", "96 files, 5 rounds", "≥ 80 %", "met"),
    )
    assert by_other["Pillow alone, all of a picture"][4] == "0.91 ×"
    assert ("scan, tiny, bfloat16", "nothing here multiplies in bfloat16") in [row[1:3] for row in rows]
    assert by_other["Python and the libraries alone"][2] == "0.46 s"


def test_without_torch_the_rows_say_so(table: ModuleType) -> None:
    found = copy.deepcopy(SPEED)
    found["speed"] |= {"eager": None, "note": "no torch here"}
    assert ("scan, tiny", "no torch here", "eager torch") in [row[1:4] for row in shown(table.of_speed(found))]


def test_growth_is_held_against_the_smallest_size(table: ModuleType) -> None:
    def size(files: int, times: float, mib: float) -> dict[str, Any]:
        cost = {"seconds_per_file": spread(0.006), "times_first": spread(times)}
        return {"files": files, **cost, "mib": spread(100 * mib), "mib_times_first": spread(mib)}

    def large(format: str, megapixels: float, times: float) -> dict[str, Any]:
        paces = {f"seconds_per_{of}": spread(0.05) for of in ("picture", "megapixel")}
        more = {"per_megapixel_times_first": spread(times), "mib": spread(200), "pictures": 8}
        return {"format": format, "megapixels": megapixels, **paces, **more}

    found = {
        "files": {"side": 96, "rounds": 3, "sizes": [size(100, 1, 1), size(10_000, 1.05, 1.2)]},
        "pixels": {"rounds": 3, "sizes": [large("JPEG", 0.3, 1), large("JPEG", 12, 0.4), large("PNG", 0.3, 1)]},
    }
    rows = shown(table.of_growth(found))
    assert [row[1] for row in rows] == [
        *("100 files of 96 px", "100 files of 96 px", "10,000 files of 96 px", "10,000 files of 96 px"),
        *("JPEG of 0.3 MP", "JPEG of 12 MP", "PNG of 0.3 MP"),
    ]
    assert [row[-1] for row in rows[:4]] == ["", "", "met", "missed"]
    assert rows[2][2:5] == ("6 ms a file", "100 files", "1.05 ×")
    assert rows[5][2:5] == (*("50 ms a picture, 50 ms a megapixel, 200 MiB at most", "a megapixel of 0.3 MP", "0.4 ×"),)
    assert rows[6][3] == ""


def precision(data: str, name: str) -> dict[str, Any]:
    change = {"value": -0.002, "low": -0.01, "high": 0.003, "n": 400}
    ways = [
        {"precision": kind, "engine": "onnxruntime", **rate(pace), "times_fp32": spread(pace / 100)}
        | {"flips": 3, "auc_change": change}
        for kind, pace in (("fp32", 100), ("int8", 160))
    ]
    each = {"detector": {"name": name}, "ways": ways, "rows": 400, "pictures": 32, "rounds": 5}
    return {"data": data, "bundles": [each | {"missing": {"int8, openvino": "it is far off"}}]}


@pytest.mark.parametrize(
    ("data", "name", "tells"),
    [("manifest", "tiny", True), ("samples", "tiny", False), ("manifest", "made-up-vit", False)],
)
def test_flips_are_told_only_where_they_mean_something(table: ModuleType, data: str, name: str, tells: bool) -> None:
    rows = shown(table.of_precision(precision(data, name)))
    assert rows[0][1:5] == (
        f"networks of {name}, int8, onnxruntime",
        "160 pictures/s, 3 flips of 400, AUC -0.0020 (-0.0100 to +0.0030)"
        if tells
        else "160 pictures/s, flips and AUC: no data",
        "fp32, onnxruntime: 100 pictures/s",
        "1.6 ×",
    )
    assert [row[1:3] for row in rows[1:]] == [
        (f"networks of {name}, int8, openvino", "not: it is far off"),
        (f"networks of {name}, bfloat16", "nothing here multiplies in bfloat16"),
    ]


def test_a_cluster_is_read_by_what_it_has(table: ModuleType) -> None:
    one = {"rate": 20.0, "seconds": 30.0, "efficiency": 0.95, "lowest": 0.9, "highest": 1.0}
    ways = {"ordinary, one thread": {"rate": 21.0, "seconds": 29.0}, "cluster, one worker": one, "note": "more"}
    kills = {"inputs": 400, "workers": 12, "nodes": 2, "drivers": 3, "lost": 0, "doubled": 1, "differing": 2}
    rows = shown(table.of_cluster({"speed": ways, "service": {}, "kills": kills}))
    killed = "killed: 12 workers, 2 nodes, 3 drivers"
    assert [row[1] for row in rows] == ["ordinary, one thread", "cluster, one worker", killed]
    assert rows[2][2] == "inputs: 0 lost, 1 doubled, 2 differing"
    assert rows[1][4:6] == ("0.95 ×", "0.9 × to 1 ×")
    with pytest.raises(KeyError):
        table.of_cluster({"speed": {"ordinary, one thread": ways["ordinary, one thread"]}, "kills": kills})


def test_training_has_its_rate_and_its_waiting(table: ModuleType) -> None:
    names = ("pictures_a_second_with_loaders", "share_waiting_for_loaders", "share_of_matrix_rate")
    figures = {
        name: {"middle": value, "least": 0.01, "most": 99.0} for name, value in zip(names, (42, 0.03, 0.5), strict=True)
    }
    told = {"recipe": "code24", "size": "small", "network": "vit", "rounds": 5, "pictures_a_step": 32}
    rows = shown(table.of_training(told | {"figures": figures}))
    assert [(row[2], row[4]) for row in rows] == [("42 pictures/s", ""), ("42 pictures/s", "3 %"), ("", "50 %")]


def command(script: str) -> list[str]:
    return [sys.executable, "-c", script]


def test_what_a_bench_prints_last_is_taken(table: ModuleType, capfd: pytest.CaptureFixture[str]) -> None:
    script = "import sys; print('starting'); print('{\"a\": 1}'); print('a note', file=sys.stderr)"
    assert table.ran(command(script)) == {"a": 1}
    assert "a note" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("raise SystemExit('no pictures\\n')", "status 1: no pictures"),
        ("print('{\"a\": 1}'); raise SystemExit(3)", "status 3"),
        ("print('done')", "no JSON"),
        ("pass", "no JSON"),
        ("print('[1]')", "no JSON object"),
    ],
)
def test_a_bench_that_fails_says_why(table: ModuleType, script: str, message: str) -> None:
    with pytest.raises(table.Failed, match=message):
        table.ran(command(script))


def runs(process: int) -> bool:
    """Whether it does; one that nobody waited for may be over and still stand in the list."""
    try:
        os.kill(process, 0)
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


def test_a_bench_that_takes_too_long_is_ended_with_what_it_started(table: ModuleType, tmp_path: Path) -> None:
    script = (
        "import pathlib, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"pathlib.Path({str(tmp_path / 'child')!r}).write_text(str(child.pid))\n"
        "time.sleep(60)\n"
    )
    begun = time.monotonic()
    with pytest.raises(table.Failed, match="stopped after 3 s"):
        table.ran(command(script), patience=3.0)
    assert time.monotonic() - begun < 30
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 20
    while runs(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def benches(table: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three benches: one gives a row, one fails, one gives something else."""
    (tmp_path / "good.py").write_text("import json, sys; print(json.dumps({'ratio': 2.0, 'told': sys.argv[1:]}))")
    (tmp_path / "bad.py").write_text("raise SystemExit('the disk is full')")
    (tmp_path / "odd.py").write_text("print('{}')")

    def rows(found: dict[str, Any]) -> list[Any]:
        return [table.Row(f"told {found['told']}", "9 a second", "eager", spread(found["ratio"]), least=5.0)]

    def options(asked: Any) -> list[str]:
        return ["--quick"] * asked.quick

    made = {name: table.Bench(f"{name}.py", options, rows) for name in ("bad", "good", "odd")}
    monkeypatch.setattr(table, "BENCHES", made)
    monkeypatch.setattr(table, "HERE", tmp_path)
    return tmp_path


def test_a_bench_that_fails_is_a_row_and_the_others_go_on(
    table: ModuleType, benches: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, whole = benches / "table.md", benches / "all.json"
    assert table.main(["--quick", "--out", str(out), "--json", str(whole)]) == 1
    printed = capsys.readouterr().out
    assert out.read_text() == printed
    lines = printed.splitlines()
    assert len(lines) == 9
    assert lines[2] == "| " + " | ".join(table.COLUMNS) + " |"
    assert lines[4] == "| bad | bench/bad.py | failed: status 1: the disk is full |  |  |  |  |  |  |"
    assert lines[5].startswith("| good | told \\['--quick'\\] | 9 a second | eager | 2 × |")
    assert lines[5].endswith("| ≥ 5 × | missed |")
    assert lines[6].startswith("| odd | bench/odd.py | failed: its JSON is not what was expected: KeyError")
    assert lines[8].endswith("commit unknown. Measured quickly, which claims nothing.")
    given = json.loads(whole.read_text())["benches"]
    assert given == {"bad": None, "good": {"ratio": 2.0, "told": ["--quick"]}, "odd": None}


def test_an_aim_that_is_missed_is_no_failure(
    table: ModuleType, benches: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert table.main(["--only", "good"]) == 0
    assert "missed" in capsys.readouterr().out


def test_each_bench_knows_the_options_it_is_given(table: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*more: str) -> dict[str, list[str]]:
        told: dict[str, list[str]] = {}

        def ran(command: list[str], patience: float) -> None:
            told[Path(command[1]).name + " --made-up" * ("--made-up" in command)] = command[2:]
            raise table.Failed

        monkeypatch.setattr(table, "ran", ran)
        monkeypatch.setattr(sys, "stdout", io.StringIO())
        assert table.main(list(more)) == 1
        return told

    given = asked("--data", "m.csv", "--ferretnet", "ferret", "--full")
    assert set(given) == {
        *("speed.py", "speed.py --made-up", "growth.py", "engines.py --made-up", "cluster.py", "training.py"),
    }
    assert given["engines.py --made-up"][3:5] == ["--data", "m.csv"]
    assert given["speed.py"][-2:] == ["--ferretnet", "ferret"]
    assert given["growth.py"] == ["--full"]
    few = asked("--quick", "--network", "bundle")
    assert "--detector" in few["speed.py"]
    assert all("--quick" in few[name] for name in ("growth.py", "cluster.py", "training.py"))
    assert "--data" not in few["engines.py"]


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
@pytest.mark.parametrize(("given", "expected"), [((), ""), (("DATA=m.csv", "ARGS=--quick"), "--data m.csv --quick")])
def test_make_bench_passes_a_manifest_on_only_where_one_is_given(given: tuple[str, ...], expected: str) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DATA", "ARGS", "MAKE"))}
    told = subprocess.run(
        ["make", "-n", "--no-print-directory", "bench", *given],
        cwd=BENCH.parent,
        env=kept,
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.splitlines()[-1].split()[1:] == ["bench/table.py", *expected.split()]
