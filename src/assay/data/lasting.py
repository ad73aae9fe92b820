"""What has to be there after a power cut."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def settle(folder: Path) -> None:
    """See that the names in a folder reach the disk, where the system can do that for a folder."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
