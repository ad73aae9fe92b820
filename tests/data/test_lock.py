"""A folder has one writer at a time, however the one before it ended."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from assay.data import lock
from assay.errors import OutputError


def test_a_folder_that_is_written_to_is_refused_until_it_is_let_go(tmp_path: Path) -> None:
    with lock.held(tmp_path):
        with pytest.raises(OutputError, match="another process is writing to it"), lock.held(tmp_path):
            pass
        with lock.held(tmp_path.parent):
            pass
    with lock.held(tmp_path):
        assert not list(tmp_path.iterdir())


def test_whoever_is_to_wait_goes_on_when_the_folder_is_let_go(tmp_path: Path) -> None:
    order: list[str] = []

    def second() -> None:
        with lock.held(tmp_path, wait=True):
            order.append("second")

    waiting = threading.Thread(target=second)
    with lock.held(tmp_path):
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
        order.append("first")
    waiting.join(10)
    assert order == ["first", "second"]


def test_a_writer_that_was_killed_leaves_its_folder_free(tmp_path: Path) -> None:
    script = (
        "import pathlib, sys\n"
        "from assay.data import lock\n"
        "with lock.held(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(OutputError), lock.held(tmp_path):
            pass
        other.send_signal(signal.SIGKILL)
    with lock.held(tmp_path):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.EBADF])
def test_where_a_file_system_has_no_locks_writing_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def none(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", none)
    with lock.held(tmp_path):
        pass
