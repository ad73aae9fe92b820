"""Where inputs and results of a cluster lie: paths, and addresses such as s3://bucket/photo.jpg that fsspec reads.

The workers of a cluster are other processes, mostly on other machines: a path means something to them only where all of
them have that folder, an address everywhere.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec

from assay.data.lasting import settle
from assay.data.remote import TIMEOUT, WAITS
from assay.errors import AssayError, InputError, OutputError, words
from assay.image.place import SEPARATOR

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def is_address(name: str) -> bool:
    """Whether a name is an address; all else is a path."""
    return bool(_ADDRESS.match(name))


def local(name: str) -> str:
    """The path in a file:// address; anything else as it is."""
    if not name.lower().startswith("file://"):
        return name
    return urllib.request.url2pathname(urllib.parse.urlsplit(name).path)


def system(address: str) -> tuple[Any, str]:
    """The file system that an address belongs to, and the path in it.

    Raises:
        AssayError: kind "needs_extra": the library for such addresses is not installed.
        InputError: no such kind of address is known, or it leads into an archive.
    """
    if SEPARATOR in address:
        raise InputError("an address inside another file; give that file itself", kind="unsupported")
    scheme = address.partition("://")[0].lower()
    try:
        return fsspec.core.url_to_fs(address, **(_web() if _is_web(address) else {}))  # type: ignore[no-any-return]
    except ImportError as error:
        raise AssayError(
            f"{scheme}:// addresses need a library on every machine of the cluster ({_words(error)})",
            kind="needs_extra",
        ) from None
    except ValueError as error:
        raise InputError(f"no address that can be read ({_words(error)})", kind="unsupported") from None


def _is_web(address: str) -> bool:
    return address.lower().startswith(("http://", "https://"))


def _web() -> dict[str, Any]:
    import aiohttp

    # Else a server that does not answer holds a worker for five minutes.
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT, sock_read=TIMEOUT)
    return {"client_kwargs": {"timeout": timeout, "trust_env": True}}


@contextlib.contextmanager
def opened(name: str, *, through: bool = False) -> Iterator[Any]:
    """A file at a path or an address, open for reading its bytes.

    Args:
        through: it is read from front to back; a read may then give less than was asked for. Else it can seek.

    Raises:
        InputError: it cannot be opened, or read inside the block (kinds missing, permission, not_a_file, unreadable,
            unsupported).
        AssayError: as `system` does.
    """
    try:
        if is_address(name):
            files, path = system(name)
            # Without a size, a web server would be asked for it first, and whatever it answers taken for a 404.
            straight = {"block_size": 0, "size": 1} if through and _is_web(name) else {}
            with files.open(path, "rb", **straight) as file:
                yield file
        else:
            with Path(name).open("rb") as file:
                yield file
    except (AssayError, GeneratorExit):
        raise
    except Exception as error:  # file systems have errors of their own, which share no root
        raise cannot(error) from None


def read(address: str, most: int) -> bytes:
    """The first `most` bytes of what is at an address, after some more tries where the fault may pass.

    Raises:
        InputError, AssayError: as `opened` does.
    """
    for wait in (*WAITS, None):
        try:
            with opened(address, through=True) as file:
                return _front(file, most)
        except InputError as error:
            if wait is None or error.kind != "unreadable":
                raise
        time.sleep(wait)
    raise AssertionError("unreachable")


def _front(file: Any, most: int) -> bytes:
    held: list[bytes] = []
    while most > 0 and (piece := file.read(most)):
        held.append(piece)
        most -= len(piece)
    return b"".join(held)


def cannot(error: BaseException) -> InputError:
    """What to tell where a file cannot be read."""
    status = getattr(error, "status", None)  # of an answer over HTTP
    if isinstance(error, FileNotFoundError) and error.__cause__ is not None:
        return cannot(error.__cause__)  # fsspec says so of every fault of a server's
    if isinstance(error, FileNotFoundError | NotADirectoryError) or status in (404, 410):
        return InputError("no such file; it was moved, removed or misspelt", kind="missing")
    if isinstance(error, PermissionError) or status in (401, 403, 407):
        return InputError("no permission to read it; ask its owner, or run as a user who may", kind="permission")
    if isinstance(error, IsADirectoryError):
        return InputError("a folder, not a file; give the files in it", kind="not_a_file")
    return InputError(f"could not be read ({_words(error)}); check the connection and try again", kind="unreadable")


class Folder:
    """A folder that a scan writes to, at a path or an address. On a disk and in stores of objects, a file in it appears
    whole or not at all, also where several processes write it at once; on a disk it is there after a power cut too.

    Args:
        place: a path, absolute because workers have other working directories, or an address.

    Raises:
        OutputError: no such kind of address can be written to.
        AssayError: as `system` does.
    """

    def __init__(self, place: str) -> None:
        self.place = place
        self._files: Any
        try:
            self._files, self._root = system(place) if is_address(place) else (None, place)
        except InputError as error:
            raise OutputError(f"{place}: {error}") from None

    @property
    def path(self) -> Path | None:
        """Where it is on a disk; None where it is at an address."""
        return None if self._files is not None else Path(self._root)

    def make(self, below: str = "") -> None:
        """Make it, or a folder in it, where that is not there."""
        with self._told():
            if self._files is None:
                Path(self._at(below)).mkdir(parents=True, exist_ok=True)
            else:
                self._files.makedirs(self._at(below), exist_ok=True)

    def names(self, below: str = "") -> list[str]:
        """What is in it, or in a folder of it, by name; nothing where that is not there."""
        with self._told():
            try:
                if self._files is None:
                    return sorted(entry.name for entry in Path(self._at(below)).iterdir())
                self._files.invalidate_cache()
                paths = self._files.ls(self._at(below), detail=False)
            except FileNotFoundError:
                return []
        # Object stores may list the folder itself.
        found = {path.rstrip("/").rpartition("/")[2] for path in paths if path.rstrip("/") != self._at(below)}
        return sorted(found)

    def read(self, name: str) -> bytes | None:
        """A file's bytes; None where it is not there."""
        with self._told():
            try:
                if self._files is None:
                    return Path(self._at(name)).read_bytes()
                return self._files.cat_file(self._at(name))  # type: ignore[no-any-return]
            except FileNotFoundError:
                return None

    @contextlib.contextmanager
    def opened(self, name: str) -> Iterator[Any]:
        """A file, open for reading its bytes. Raises FileNotFoundError."""
        if self._files is None:
            with Path(self._at(name)).open("rb") as file:
                yield file
        else:
            with self._files.open(self._at(name), "rb") as file:
                yield file

    def write(self, name: str, content: bytes, *, lasting: bool = True) -> None:
        """Write a file, in place of one that may be there.

        Args:
            lasting: it has to survive a power cut.
        """
        with self._told():
            if self._files is None:
                _put(Path(self._at(name)), content, lasting)
            else:
                # Stores of objects show an object once it is whole.
                self._files.pipe_file(self._at(name), content)

    def remove(self, name: str) -> None:
        """Remove a file, where it is there."""
        with self._told(), contextlib.suppress(FileNotFoundError):
            if self._files is None:
                Path(self._at(name)).unlink()
            else:
                self._files.rm_file(self._at(name))

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except AssayError:
            raise
        except Exception as error:
            full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
            todo = "make room" if full else "mend that"
            raise OutputError(
                f"{self.place}: cannot be written ({_words(error)}); what is done is kept; {todo} and run the same "
                "command again to go on",
                kind="disk",
            ) from error


def _put(file: Path, content: bytes, lasting: bool) -> None:
    file.parent.mkdir(exist_ok=True)
    # Hidden, so that whoever reads the folder passes it over; one name a writer, as a chunk may be done twice at once.
    part = file.with_name(f".{file.name}.{secrets.token_hex(6)}.part")
    try:
        with part.open("xb") as raw:
            raw.write(content)
            raw.flush()
            if lasting:
                os.fsync(raw.fileno())
        part.replace(file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    if lasting:
        settle(file.parent)


def _words(error: BaseException) -> str:
    told = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return words(told, 200)
