"""One writer at a time to a file or an output folder."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from assay.errors import OutputError


def take(handle: int, out: Path, *, wait: bool = False) -> None:
    """Locks an open file, or folder, until it is closed or the process ends, however it ends.

    Where there are no locks (Windows, some network file systems) nothing happens, and a second writer is the user's to
    avoid.

    Args:
        out: what the message names.
        wait: for whoever holds it to let go, as long as that takes.

    Raises:
        OutputError: another process, or another call in this one, holds it, and nobody is to wait.
    """
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OutputError(
            f"{out}: another process is writing to it; wait until it is done, or write elsewhere"
        ) from error
    except OSError as error:
        # EBADF: NFS locks no folder, since none can be opened for writing.
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.EBADF):
            raise


@contextlib.contextmanager
def held(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Locks a folder for a while, leaving nothing in it.

    Args:
        wait: as `take`.

    Raises:
        OutputError: as `take`.
    """
    if os.name == "nt":  # opens no folders
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        take(handle, folder, wait=wait)
        yield
    finally:
        os.close(handle)
