"""Uploads are whole under a random name, or not there at all."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from assay.errors import InputError, OutputError
from assay.image.decode import DEFAULT
from assay.serve import spool as module
from assay.serve.spool import Spool, Spooled
from serving import put

DATA = bytes(range(256)) * 4096


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def names(spool: Spool) -> list[str]:
    return sorted(path.name for path in spool.folder.iterdir())


def aged(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


def full(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_an_upload_comes_back_with_its_length_and_hash(spool: Spool) -> None:
    file = put(spool, DATA)
    assert spool.path(file.key).read_bytes() == DATA
    assert (file.bytes, file.sha256) == (len(DATA), hashlib.sha256(DATA).hexdigest())
    assert re.fullmatch("[0-9a-f]{32}", file.key)
    assert names(spool) == [file.key]


def test_an_upload_may_come_in_chunks_of_any_size(spool: Spool) -> None:
    with spool.writer() as writer:
        for start in range(0, len(DATA), 100_003):
            writer.write(DATA[start : start + 100_003])
        writer.write(b"")
        file = writer.finish()
    assert (file.bytes, file.sha256) == (len(DATA), hashlib.sha256(DATA).hexdigest())
    assert spool.path(file.key).read_bytes() == DATA


def test_an_upload_that_is_not_finished_has_no_key_and_leaves_nothing(spool: Spool) -> None:
    def cut() -> None:
        with spool.writer() as writer:
            writer.write(DATA)
            [name] = names(spool)
            assert re.fullmatch(r"\.[0-9a-f]{32}\.part", name)
            raise ConnectionError

    with pytest.raises(ConnectionError):
        cut()
    assert names(spool) == []


def test_the_limit_holds_while_the_upload_comes_in(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", most=10)
    spool.remove(put(spool, b"0123456789").key)
    with spool.writer() as writer:
        writer.write(b"0123456789")
        with pytest.raises(InputError, match="more than 10 bytes; make it smaller or raise the limit") as caught:
            writer.write(b"a")
        assert caught.value.kind == "too_many_bytes"
        assert names(spool) == [], "what was written of it is gone at once"
        with pytest.raises(ValueError, match="is finished"):
            writer.write(b"")
        with pytest.raises(ValueError, match="is finished"):
            writer.finish()


def test_a_spool_has_a_limit_of_its_own(tmp_path: Path) -> None:
    assert Spool(tmp_path).most == DEFAULT.bytes
    small = Spool(tmp_path, most=3)
    with pytest.raises(InputError):
        put(small, b"four")
    assert put(small, b"two").bytes == 3
    with pytest.raises(ValueError, match="give 1 or more"):
        Spool(tmp_path, most=0)


def test_the_file_and_its_name_are_on_the_disk_before_its_key_is_told(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    real, rename = os.fsync, Path.rename

    def fsync(handle: int) -> None:
        told.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else f"{os.fstat(handle).st_size} bytes")
        real(handle)

    def renamed(path: Path, target: Path) -> Path:
        told.append("name")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", renamed)
    put(spool, DATA)
    assert told == [f"{len(DATA)} bytes", "name", "folder"]


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_full_disk_is_told_and_leaves_nothing(spool: Spool, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    monkeypatch.setattr(os, call, full)
    with pytest.raises(OutputError, match="make room and send it again") as caught:
        put(spool, DATA)
    assert caught.value.kind == "disk"
    assert names(spool) == []


def test_a_name_that_does_not_reach_the_disk_is_none(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_sync", full)
    with pytest.raises(OutputError):
        put(spool, DATA)
    assert names(spool) == []


# ── who may read it ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.skipif(os.name == "nt", reason="no permissions of this kind")
def test_nobody_else_may_look_in(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        spool = Spool(tmp_path / "deep" / "spool")
        with spool.writer() as writer:
            writer.write(DATA)
            [part] = spool.folder.iterdir()
            assert stat.S_IMODE(part.stat().st_mode) == 0o600
            file = writer.finish()
    finally:
        os.umask(before)
    assert stat.S_IMODE(spool.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(spool.path(file.key).stat().st_mode) == 0o600


@pytest.mark.skipif(os.name == "nt", reason="no permissions of this kind")
def test_a_folder_that_was_open_is_closed_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o755)
    Spool(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700
    tmp_path.chmod(0o755)
    monkeypatch.setattr(Path, "chmod", lambda *_: None)
    with pytest.raises(OutputError, match="stays open to other users"):
        Spool(tmp_path)


def test_a_link_in_place_of_the_folder_is_refused_at_any_time(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(OutputError, match="a symbolic link; give the folder itself"):
        Spool(tmp_path / "link")
    spool = Spool(tmp_path / "spool")
    spool.folder.rename(tmp_path / "moved")
    spool.folder.symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(OutputError, match="a symbolic link"):
        put(spool, DATA)
    with pytest.raises(OutputError, match="a symbolic link"):
        spool.sweep(())
    assert not list((tmp_path / "elsewhere").iterdir())


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        Spool(tmp_path / "file")
    with pytest.raises(OutputError):
        Spool(tmp_path / "file" / "spool")


@pytest.mark.skipif(os.name == "nt", reason="no users of this kind")
def test_the_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(OutputError, match="belongs to another user"):
        Spool(tmp_path)


def test_a_folder_that_vanished_is_told(spool: Spool) -> None:
    spool.folder.rmdir()
    with pytest.raises(OutputError, match="cannot keep uploads") as caught:
        put(spool, DATA)
    assert caught.value.kind == "disk"


@pytest.mark.parametrize(
    "key", ["", "..", "../" + "a" * 29, "/etc/passwd", "a" * 31, "a" * 33, "A" * 32, "a" * 32 + "\n"]
)
def test_what_is_no_key_is_no_path(spool: Spool, key: str) -> None:
    with pytest.raises(ValueError, match="no key"):
        spool.path(key)
    with pytest.raises(ValueError, match="no key"):
        spool.remove(key)


# ── removing ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_upload_is_removed_once(spool: Spool) -> None:
    one, two = put(spool, b"1"), put(spool, b"2")
    assert spool.remove(one.key)
    assert not spool.remove(one.key)
    assert names(spool) == [two.key]


def test_sweeping_takes_old_orphans_alone(spool: Spool) -> None:
    known, orphan, fresh = (put(spool, text) for text in (b"known", b"orphan", b"fresh"))
    torn, writing, foreign = (spool.folder / name for name in (f".{'a' * 32}.part", f".{'b' * 32}.part", "notes.txt"))
    for path in (torn, writing, foreign):
        path.touch()
    for path in (spool.path(known.key), spool.path(orphan.key), torn, foreign):
        aged(path, 101)
    for path in (spool.path(fresh.key), writing):
        aged(path, 80)
    assert spool.sweep({known.key}, grace=100) == 2
    assert names(spool) == sorted([known.key, fresh.key, writing.name, foreign.name])
    assert spool.sweep({known.key}, grace=0) == 2
    assert names(spool) == sorted([known.key, foreign.name])
    assert spool.sweep({known.key}, grace=0) == 0


def test_sweeping_leaves_a_day_for_a_job_to_be_made(spool: Spool) -> None:
    for hours in (1, 23, 25):
        aged(spool.path(put(spool, b"").key), hours * 3600)
    assert spool.sweep(()) == 1


def test_threads_write_and_sweep_at_once(spool: Spool) -> None:
    kept: list[Spooled] = []

    def write(number: int) -> None:
        kept.extend(put(spool, b"%d" % number * 1000) for _ in range(5))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        spool.sweep((), grace=60)
        time.sleep(0.01)
    assert len({file.key for file in kept}) == 20
    assert names(spool) == sorted(file.key for file in kept)
    for file in kept:
        assert hashlib.sha256(spool.path(file.key).read_bytes()).hexdigest() == file.sha256
