"""Uploads on the disk, under names that no client had a part in.

An upload is written under a temporary name, counted and hashed on the way, and gets its name only once it is whole and
on the disk. So a file under a key is never part of an upload, whenever the process was killed; what a kill leaves
behind is an orphan, and `Spool.sweep` deletes it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import os
import re
import secrets
import stat
import time
from collections.abc import Container
from pathlib import Path
from typing import Self

from assay.errors import InputError, OutputError
from assay.image.decode import DEFAULT

GRACE = 86_400.0
"""Seconds that a file which no job knows is left alone: the first file of a slow request of many waits for the last
before there is a job that knows it."""

_KEY = re.compile(r"[0-9a-f]{32}")
_PART = re.compile(r"\.[0-9a-f]{32}\.part")


@dataclasses.dataclass(frozen=True, slots=True)
class Spooled:
    """An upload that is whole and on the disk.

    Args:
        key: its name in the spool, 32 random hexadecimal digits.
        bytes: its length.
        sha256: of its bytes, 64 hexadecimal digits.
    """

    key: str
    bytes: int
    sha256: str


class Spool:
    """A folder of uploads, readable by its owner alone (0700, files 0600). Usable from several threads and processes.

    Args:
        folder: made where it is not there; closed to others where it is open to them.
        most: bytes of one upload. 256 MiB: what `assay.image.decode.Limits` lets a picture have.

    Raises:
        OutputError: the folder is a symbolic link, no folder, or another user's, or cannot be made or closed to others.
        ValueError: `most` is below 1.
    """

    def __init__(self, folder: str | os.PathLike[str], *, most: int = DEFAULT.bytes) -> None:
        if most < 1:
            raise ValueError(f"an upload of at most {most} bytes; give 1 or more")
        self.folder = Path(folder).absolute()
        self.most = most
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self.folder.mkdir(mode=0o700, exist_ok=True)
            self._check()
            if os.name != "nt" and self.folder.stat().st_mode & 0o077:
                self.folder.chmod(0o700)
                if self.folder.stat().st_mode & 0o077:  # Some mounts take no permissions, and say nothing.
                    raise OutputError(f"{self.folder}: stays open to other users; choose a folder that can be closed")
        except OSError as error:
            raise self._cannot(error) from error

    def writer(self) -> Writer:
        """Takes one upload chunk by chunk; used with `with`, and what was not finished leaves nothing.

        Raises:
            OutputError: the folder became something else, or cannot be written to.
        """
        self._check()
        return Writer(self)

    def path(self, key: str) -> Path:
        """Where an upload is, whether it is there or not.

        Raises:
            ValueError: that is no key.
        """
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} is no key of a spool")
        return self.folder / key

    def remove(self, key: str) -> bool:
        """Deletes an upload.

        Returns:
            False where there is none, or where it cannot be deleted now: then `sweep` does it.

        Raises:
            ValueError: that is no key.
        """
        try:
            self.path(key).unlink()
        except OSError:
            return False
        return True

    def sweep(self, known: Container[str], grace: float = GRACE) -> int:
        """Deletes orphans: uploads that no job knows, and those that were never finished. Other files are let be.

        Args:
            known: the keys of all uploads that are needed (`assay.serve.store.Store.keys`).
            grace: seconds since they were last written to.

        Returns:
            How many were deleted.

        Raises:
            OutputError: the folder became something else, or cannot be read.
        """
        self._check()
        latest, count = time.time() - grace, 0
        try:
            with os.scandir(self.folder) as entries:
                found = [entry for entry in entries if _PART.fullmatch(entry.name) or _KEY.fullmatch(entry.name)]
        except OSError as error:
            raise self._cannot(error) from error
        for entry in found:
            with contextlib.suppress(OSError):  # Another process may sweep too.
                if entry.name not in known and entry.stat(follow_symlinks=False).st_mtime <= latest:
                    Path(entry.path).unlink()
                    count += 1
        return count

    def _check(self) -> None:
        """Refuses a folder that is not ours: what is written through a link lands where its maker wants it."""
        try:
            status = self.folder.lstat()
        except OSError as error:
            raise self._cannot(error) from error
        if stat.S_ISLNK(status.st_mode):
            raise OutputError(f"{self.folder}: a symbolic link; give the folder itself")
        if not stat.S_ISDIR(status.st_mode):
            raise OutputError(f"{self.folder}: not a folder; choose another place for uploads")
        if os.name != "nt" and status.st_uid != os.geteuid():
            raise OutputError(f"{self.folder}: belongs to another user; choose another place for uploads")

    def _cannot(self, error: OSError) -> OutputError:
        todo = "make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "mend that"
        message = f"{self.folder}: cannot keep uploads ({error.strerror}); {todo} and send it again"
        return OutputError(message, kind="disk")


class Writer:
    """One upload on its way to the disk, for one thread at a time. `Spool.writer` makes it."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._key = secrets.token_hex(16)
        self._part = spool.folder / f".{self._key}.part"
        self._hash, self._bytes = hashlib.sha256(), 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        try:
            self._file = os.open(self._part, flags, 0o600)
        except OSError as error:
            raise spool._cannot(error) from error

    def write(self, chunk: bytes) -> None:
        """Takes the next bytes.

        Raises:
            InputError: too_many_bytes: it is longer than allowed. It was not written, and nothing of it is left.
            OutputError: the disk is full or failed.
            ValueError: it is finished.
        """
        if self._file < 0:
            raise ValueError("this upload is finished")
        self._bytes += len(chunk)
        if self._bytes > self._spool.most:
            self._leave()
            message = f"more than {self._spool.most:,} bytes; make it smaller or raise the limit on bytes"
            raise InputError(message, kind="too_many_bytes")
        self._hash.update(chunk)
        try:
            rest = memoryview(chunk)
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError as error:
            self._leave()
            raise self._spool._cannot(error) from error

    def finish(self) -> Spooled:
        """The upload under its key, on the disk.

        Raises:
            OutputError: the disk is full or failed; nothing of it is left.
            ValueError: it is finished.
        """
        if self._file < 0:
            raise ValueError("this upload is finished")
        try:
            os.fsync(self._file)
            self._part.rename(self._spool.path(self._key))
            _sync(self._spool.folder)
        except OSError as error:
            self._spool.remove(self._key)
            self._leave()
            raise self._spool._cannot(error) from error
        self._leave()
        return Spooled(self._key, self._bytes, self._hash.hexdigest())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()

    def _leave(self) -> None:
        """Closes the file, and deletes it where it still has its temporary name."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            with contextlib.suppress(OSError):
                self._part.unlink()


def _sync(folder: Path) -> None:
    """A file's name reaches the disk with its folder."""
    if os.name == "nt":  # opens no folders
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
