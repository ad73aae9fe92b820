"""Starting ranks: what they are told, and how all of them end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from assay.errors import RecipeError
from assay.learn import launch

PYTHON = (sys.executable, "-S", "-c")
LONG = "import time; time.sleep(120)"


def started(first: str, second: str, devices: int = 2) -> tuple[int, str]:
    """Rank 0 runs the first, all others the second."""
    code = f"import os, sys, time; exec({first!r} if os.environ['RANK'] == '0' else {second!r})"
    return launch.start(devices, [code], PYTHON)


def test_each_rank_is_told_which_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "OMP_NUM_THREADS", "MASTER_ADDR", "MASTER_PORT")
    code = f"open({str(tmp_path)!r} + '/' + os.environ['RANK'], 'w').write(' '.join(os.environ[n] for n in {names}))"
    assert started(code, code, 3) == (0, "")
    told = [(tmp_path / str(rank)).read_text().split() for rank in range(3)]
    assert [line[:3] for line in told] == [[str(rank), str(rank), "3"] for rank in range(3)]
    assert {line[3] for line in told} == {"1"}
    assert len({tuple(line[4:]) for line in told}) == 1


@pytest.mark.parametrize(
    ("first", "second", "ended"),
    [
        (LONG, "sys.exit(3)", (3, "rank 1 ended with status 3")),
        ("sys.exit(1)", LONG, (1, "rank 0 ended with status 1")),
        (LONG, "os.kill(os.getpid(), 9)", (137, "rank 1 was ended by SIGKILL")),
        # Who lost another is no cause.
        (f"time.sleep(0.1); sys.exit({launch.LOST})", "sys.exit(2)", (2, "rank 1 ended with status 2")),
    ],
)
def test_all_end_when_one_fails_and_the_cause_is_named(first: str, second: str, ended: tuple[int, str]) -> None:
    began = time.monotonic()
    assert started(first, second) == ended
    assert time.monotonic() - began < 60


STOPPED = """
import sys
from assay.learn import launch
code = "import os, pathlib, signal, time\\n"
code += "signal.signal(signal.SIGINT, signal.default_int_handler)\\n"
code += "place = pathlib.Path(os.environ['PLACE']) / os.environ['RANK']\\n"
code += "place.touch()\\n"
code += "try: time.sleep(120)\\nexcept KeyboardInterrupt: place.write_text('kept')\\n"
print(launch.start(2, [code], (sys.executable, "-S", "-c")))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_reach_all(number: signal.Signals, tmp_path: Path) -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", STOPPED], stdout=subprocess.PIPE, text=True, env=os.environ | {"PLACE": str(tmp_path)}
    )
    while len(list(tmp_path.iterdir())) < 2:
        assert run.poll() is None
        time.sleep(0.1)
    run.send_signal(number)
    told, _ = run.communicate(timeout=100)
    assert told == f"({128 + number}, '')\n"
    left = [path.read_text() for path in sorted(tmp_path.iterdir())]
    assert left == (["kept"] * 2 if number == signal.SIGINT else [""] * 2)


def test_more_devices_than_there_are_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch.torch.cuda, "device_count", lambda: 2)
    with pytest.raises(RecipeError, match="this machine has 2 GPUs, not 3; give --devices 2, or --device cpu"):
        launch.fit(3, "auto")
    launch.fit(2, "cuda")
    launch.fit(3, "cpu")
    monkeypatch.setattr(launch.torch.cuda, "device_count", lambda: 0)
    launch.fit(3, "auto")


LOSING = """
import os, signal, sys, typer
from assay.cli.train import _one_of_several
from assay.learn import ranks

try:
    with ranks.joined("cpu") as found, _one_of_several(leads=found.lead):
        found.wait()
        if found.number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        with found.among():
            found.wait()
except typer.Exit as end:
    open(sys.argv[1], "w").write(str(end.exit_code))
    sys.exit(end.exit_code)
"""


def test_a_rank_whose_fellow_was_killed_ends_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # It is told to stop while it waits for that: here it goes on.
    code = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)" + LOSING
    end = launch.start(2, [code, str(tmp_path / "status")], (sys.executable, "-c"))
    assert end == (137, "rank 1 was ended by SIGKILL")
    assert (tmp_path / "status").read_text() == str(launch.LOST)
    assert capfd.readouterr() == ("", "")
