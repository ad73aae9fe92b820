"""Judging leaves nothing behind and tells nobody: no records of use, no caches, no connection, whatever runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

JUDGE = """
import sys
met = []
sys.addaudithook(lambda event, given: met.append(event) if event.startswith("socket.") else None)
import assay
print(assay.load(sys.argv[1], engine=sys.argv[2]).judge(sys.argv[3]).verdict)
print(met, "openvino_telemetry" in sys.modules, "openvino" in sys.modules)
"""
PORTRAIT = Path(__file__).parent.parent.parent / "samples" / "real" / "astronaut.jpg"


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_judging_writes_nothing_and_calls_nobody(bundle_folder: Path, tmp_path: Path, engine: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "ORT_"))}
    done = subprocess.run(
        [sys.executable, "-B", "-c", JUDGE, str(bundle_folder), engine, str(PORTRAIT)],
        env=kept | {"HOME": str(home), "TMPDIR": str(home)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    verdict, told = done.stdout.splitlines() or ("", done.stderr)
    assert verdict in ("fake", "real", "uncertain")
    assert told == f"[] False {engine == 'openvino'}"
    assert sorted(home.rglob("*")) == []
