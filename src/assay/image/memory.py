"""The C library's memory, kept for the next picture or step.

glibc gives large blocks back to the system when they are freed, and the system clears every page anew for the next one:
a thousand pages for a picture of 512 px, which takes as long as decoding it or longer, and a fifth of a step of RegNetY
(docs/log.md). It is a matter of the whole process, so commands ask for it and the library's functions do not.
"""

from __future__ import annotations

import ctypes
import functools

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
"""As glibc's malloc.h names them; see mallopt(3)."""

_FREED, _BLOCK = 64 << 20, 32 << 20


@functools.cache
def keep(*, everything: bool = False) -> bool:
    """Let this process keep memory that it frees; whether the C library can (musl, macOS and Windows cannot).

    Args:
        everything: however much it is, as training does. Else at most 64 MiB, and no block of 32 MiB or more: enough
            for the next picture, and little for a process that waits.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    if everything:
        return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
    return bool(mallopt(_M_TRIM_THRESHOLD, _FREED) and mallopt(_M_MMAP_THRESHOLD, _BLOCK))
