from __future__ import annotations

import itertools
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import assay
from assay.cluster import apart
from assay.errors import AssayError, InputError
from assay.image.decode import decode


def test_what_is_given_there_comes_here() -> None:
    assert list(apart.each("lost", range, 3)) == [0, 1, 2]
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("produce", "given", "kind", "told"),
    [(os._exit, 1, "cluster", "all is lost"), (decode, b"no picture", "not_an_image", "")],
)
def test_an_end_without_a_word_is_an_error_like_those_that_are_told(
    produce: Callable[..., object], given: object, kind: str, told: str
) -> None:
    with pytest.raises(AssayError, match=told) as caught:
        list(apart.each("all is lost", produce, given))  # type: ignore[arg-type]
    assert caught.value.kind == kind
    assert not isinstance(caught.value, InputError)  # it stops all


def test_a_fault_of_ours_comes_with_its_traceback() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)Traceback .*ValueError: invalid literal"):
        list(apart.each("lost", int, "x"))  # type: ignore[arg-type]


def test_closing_ends_the_process() -> None:
    numbers = apart.each("lost", itertools.count)
    assert [next(numbers) for _ in range(3)] == [0, 1, 2]
    [process] = multiprocessing.active_children()
    numbers.close()
    assert process.exitcode in (0, 1)  # it was not killed


KILLED = """
import multiprocessing, os, threading, time
from assay.cluster import apart

threading.Thread(target=lambda: list(apart.each("lost", time.sleep, 1_000)), daemon=True).start()
while not multiprocessing.active_children():
    time.sleep(0.01)
print(multiprocessing.active_children()[0].pid, flush=True)
os._exit(0)
"""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_it_ends_with_a_process_that_is_killed() -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(assay.__file__).parent.parent)}
    done = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True, check=True, env=environment)
    place = Path("/proc", done.stdout.strip())
    deadline = time.monotonic() + 100
    while place.exists() and "(zombie)" not in (place / "status").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
