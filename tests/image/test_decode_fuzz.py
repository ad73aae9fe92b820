"""Damaged files of every format give a picture or a typed error, in bounded time and memory, and nothing else."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import textwrap
from typing import Any

import pytest

BENCH = pathlib.Path(__file__).parents[2] / "bench" / "mutate.py"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="memory limits are set by resource, which is Unix only")


def mutate(*arguments: object, path: pathlib.Path | None = None) -> tuple[int, dict[str, Any]]:
    """Runs the fuzzer; its exit status and summary."""
    done = subprocess.run(
        [sys.executable, str(BENCH), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=200,
        env=None if path is None else {"PYTHONPATH": str(path), "PATH": ""},
        check=False,
    )
    assert done.stdout.startswith("{"), done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize("seed", [101, 202])
def test_only_pictures_and_input_errors_come_out_of_a_thousand_damaged_files(seed: int) -> None:
    status, summary = mutate("--count", 1000, "--seed", seed, "--processes", 1, "--memory", 2048, "--seconds", 5)
    assert summary["faults"] == []
    assert summary["stderr"] == ""
    assert status == 0
    assert summary["files"] == 1000
    # Without both, the mutants would be too wild or too tame to prove anything.
    assert summary["pictures"] > 100
    assert summary["refusals"]["corrupt"] > 100
    assert summary["refusals"]["truncated"] > 100
    # 16 million pixels, the limit here, are 48 MB as an array and 64 MB within Pillow.
    assert summary["max_rss"] < 600 << 20


def test_same_seed_gives_the_same_mutants(tmp_path: pathlib.Path) -> None:
    for name in ("a", "b"):
        subprocess.run([sys.executable, str(BENCH), "--seed", "3", "--save", "77", str(tmp_path / name)], check=True)
    subprocess.run([sys.executable, str(BENCH), "--seed", "4", "--save", "77", str(tmp_path / "c")], check=True)
    first, second, other = ((tmp_path / name).read_bytes() for name in "abc")
    assert first == second != other


@pytest.mark.parametrize(
    ("body", "count"),
    [
        ("os.abort()", "crashes"),
        ("time.sleep(60)", "hangs"),
        ("raise ValueError('leaked')", "others"),
        ("return types.SimpleNamespace(frames=(), frame_numbers=(), frame_count=1)", "others"),
        ("bytearray(8 << 30)", "others"),
        ("raise InputError('two\\nlines', kind='corrupt')", "others"),
        ("raise InputError('message', kind='made up')", "others"),
        ("os.write(2, b'noise')", "stderr_bytes"),
    ],
)
def test_fuzzer_finds_a_planted_fault_and_goes_on(body: str, count: str, tmp_path: pathlib.Path) -> None:
    source = """
        import os, time, types
        from assay.errors import InputError
        calls = 0
        def decode(data, limits):
            global calls
            calls += 1
            if calls == 3:
                BODY
            raise InputError("fine", kind="corrupt")
    """
    (tmp_path / "planted.py").write_text(textwrap.dedent(source).replace("BODY", body))
    status, summary = mutate(
        "--count", 5, "--processes", 1, "--seconds", 1, "--decoder", "planted:decode", path=tmp_path
    )
    assert status == 1
    assert summary[count] >= 1
    assert summary["files"] == 5
