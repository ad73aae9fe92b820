"""`assay scan --on`, and the report of what it writes."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from assay import cli


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flat: Callable[..., Any]) -> Path:
    """A folder with two good pictures and a torn one."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    Path("photos").mkdir()
    Image.fromarray(flat(20)).save("photos/dark.png")
    Image.fromarray(flat(240)).save("photos/light.png")
    Path("photos/torn.png").write_bytes(Path("photos/dark.png").read_bytes()[:300])
    return folder


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli.app, list(arguments), catch_exceptions=False)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--on", "ray"], "it needs --out FOLDER"),
        (["--on", "ray", "--out", "r.jsonl"], "give --out a folder's name"),
        (["--on", "ray", "--out", "r", "--json"], "leave out --json and --csv"),
        (["--on", "dask", "--out", "r"], "write --on ray, --on ray://HOST:PORT or --on ray://auto"),
        (["--on", "ray://", "--out", "r"], "write --on ray"),
        (["--column", "image", "--out", "r.jsonl"], "--column goes with --on"),
    ],
)
def test_a_wrong_use_is_told_before_anything_starts(arguments: list[str], told: str) -> None:
    done = run("scan", "photos", *arguments)
    assert done.exit_code == 2
    assert told in re.sub(r"[\s│]+", " ", done.stderr)
    assert not Path("r").exists()


WITHOUT = """
import sys
from importlib.machinery import PathFinder

whole = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name.partition(".")[0] in ("ray", "fsspec") else whole(name, *rest)

from assay import cli
sys.argv[0] = "assay"
cli.main()
"""


def without(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT, *arguments], capture_output=True, text=True, check=False, env=_environment()
    )


def test_what_is_not_installed_is_named_and_nothing_is_done(bundle_folder: Path) -> None:
    done = without("scan", "-d", str(bundle_folder), "photos", "--on", "ray", "--out", "r")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == 'assay: a scan on a cluster needs an extra: pip install "assay[cluster]"\n'
    assert not Path("r").exists()


def _environment() -> dict[str, str]:
    """The command finds what is tested from any folder."""
    import assay

    source = str(Path(assay.__file__).parent.parent)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}  # of tests' own clusters
    return kept | {"PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])}


class Watched:
    """A scan's process with all that it started."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.judging: set[int] = set()
        """Process ids of workers."""
        self.addresses: set[str] = set()
        """At which they listened, as hexadecimal digits."""
        self.scratch: dict[Path, int] = {}
        """Where Ray's folders are, and who may enter there."""

    def look(self) -> None:
        parents, ours = dict(self._parents()), {self._process.pid}
        while more := {number for number, parent in parents.items() if parent in ours} - ours:
            ours |= more
        sockets = set()
        for number in ours:
            with contextlib.suppress(OSError):
                place = Path(f"/proc/{number}")
                if b"MapWorker" in (place / "cmdline").read_bytes():
                    self.judging.add(number)
                sockets |= {str(handle.readlink()) for handle in (place / "fd").iterdir()}
        for session in Path("/tmp").glob("assay-ray-*/r/session_*_*"):
            if int(session.name.rpartition("_")[2]) in ours:
                self.scratch[session.parent.parent] = session.parent.parent.stat().st_mode & 0o077
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                cells = line.split()
                if cells[3] == "0A" and f"socket:[{cells[9]}]" in sockets:
                    self.addresses.add(cells[1].partition(":")[0])

    @staticmethod
    def _parents() -> Iterator[tuple[int, int]]:
        for place in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                yield int(place.name), int((place / "stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs /proc")
def test_a_scan_on_the_cores_of_this_machine_listens_on_loopback_and_ends_with_all_it_started(
    bundle_folder: Path,
) -> None:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("needs ray, which the extra cluster installs")
    command = [sys.executable, "-m", "assay", "scan", "-d", str(bundle_folder), "photos", "--on", "ray", "--out", "r"]
    home = Path("home").resolve()
    home.mkdir()
    environment = _environment() | {"HOME": str(home)}
    killed: set[int] = set()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        watched = Watched(process)
        while process.poll() is None:
            watched.look()
            for worker in watched.judging if not killed else ():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
                    killed.add(worker)
            time.sleep(0.3)
        stdout, stderr = process.communicate()
    assert process.returncode == 1, stderr
    assert killed  # of which nothing is said
    assert stdout == ""
    assert re.fullmatch(r"2 judged: 1 fake, 1 real, 0 uncertain; 1 could not be judged; \d+\.\d s\n", stderr), stderr
    # 127.0.0.1, as IPv4 and mapped to IPv6.
    assert watched.addresses
    assert watched.addresses <= {"0100007F", "0000000000000000FFFF00000100007F"}
    assert set(watched.scratch.values()) == {0}
    assert not any(place.exists() for place in watched.scratch)
    assert not list(home.iterdir())  # no token is left there
    # Again: all is there, and no cluster is started.
    again = run("scan", "-d", str(bundle_folder), "photos", "--on", "ray", "--out", "r")
    assert again.exit_code == 1
    assert "3 were in r before, 1 of them not judged" in again.stderr
    other = run("scan", "-d", str(bundle_folder), "photos/dark.png", "--on", "ray", "--out", "r")
    assert other.exit_code == 2
    assert "holds a scan of other inputs" in other.stderr
    _reported()


def _reported() -> None:
    done = run("report", "r", "--out", "r.html", "--json")
    assert done.exit_code == 0, done.stderr
    [section] = json.loads(done.stdout)["sections"]
    assert section["input"] == "r"
    assert section["kind"] == "scan"
    text = Path("r.html").read_text()
    assert "photos/light.png" in text
    assert "torn.png" in text


def test_a_folder_without_results_makes_no_report() -> None:
    done = run("report", "photos", "--out", "r.html")
    assert done.exit_code == 1
    assert "holds no results of assay scan --on" in done.stderr
