"""Memory that a step frees is there for the next one."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

CODE = """
import resource
from assay.image import memory
{keep}
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        blocks = [bytearray({size} << 20) for _ in range({count})]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


def faults(keep: str, size: int, count: int) -> int:
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(keep=keep, size=size, count=count)],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout.split()[-1])


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
@pytest.mark.parametrize(("keep", "size", "count"), [("keep()", 1, 8), ("keep(everything=True)", 64, 1)])
def test_memory_is_not_given_back_and_asked_for_anew(keep: str, size: int, count: int) -> None:
    assert faults(f"assert memory.{keep}", size, count) < faults("", size, count) / 4


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_very_large_memory_is_given_back_unless_everything_is_kept() -> None:
    assert faults("memory.keep()", 64, 1) > 4 * faults("memory.keep(everything=True)", 64, 1)


def test_where_the_c_library_cannot_be_told_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    from assay.image import memory

    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    assert memory.keep.__wrapped__() is False
