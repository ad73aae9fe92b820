"""The C library's memory, kept for the next step.

A training step on a CPU asks for the same large tensors again and again. glibc gives memory of that size back to the
system each time, and the system clears every page anew: a fifth of a step of RegNetY (docs/log.md).
"""

from __future__ import annotations

import ctypes
import functools

# The names of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


@functools.cache
def keep() -> bool:
    """Let this process keep memory that it frees; whether the C library can (musl, macOS and Windows cannot)."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
