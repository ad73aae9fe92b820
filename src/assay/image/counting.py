"""Counting runs in compiled loops, once there is much to count (extra "fast": numba).

The loops count what `assay.image.runs.Runs.count` does, to the last one, in half of its time. Compiling them takes
seconds, so it begins in a thread of its own once NumPy has counted for about as long: a single picture never waits for
it. Nothing compiled is kept on the disk.
"""

from __future__ import annotations

import importlib.util
import logging
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.image.runs import LEVELS, MIX, Runs, pixels
from assay.types import Pixels

WORTH = 8_000
"""Crops of this process after which loops are compiled: what compiling takes is what NumPy takes longer for these."""

_log = logging.getLogger(__name__)

_changing = threading.Lock()
_counted = 0
_loops: Callable[..., None] | None = None
_compiling: threading.Thread | None = None


class Counter:
    """What a trunk that only counts makes of crops, in one thread. Several may use it at a time."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    def embed(self, crops: Pixels) -> npt.NDArray[np.float32]:
        """Embeddings (n, d) of crops (n, h, w, 3) uint8."""
        _note(len(crops))
        counts = self._runs.count(crops) if _loops is None else _compiled(_loops, self._runs, crops)
        return self._runs.embedding(counts)

    def embed_views(self, views: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The same of views (n, 3, h, w) float32, normalised."""
        return self.embed(pixels(views))


def installed() -> bool:
    """Whether there is something to compile with."""
    return importlib.util.find_spec("numba") is not None


def settle() -> str:
    """Compile now, and wait for it; what counts from then on, "numba" or "numpy". For what measures a rate."""
    _begin()
    if _compiling is not None:
        _compiling.join()
    return "numpy" if _loops is None else "numba"


def _note(crops: int) -> None:
    global _counted
    if _compiling is None:
        _counted += crops  # threads may lose some of each other's, which only defers
        if _counted >= WORTH:
            _begin()


def _begin() -> None:
    global _compiling
    with _changing:
        if _compiling is None and installed():
            _compiling = threading.Thread(target=_compile, name="assay-compile")
            _compiling.start()


def _compile() -> None:
    global _loops
    try:
        import numba

        loops: Any = numba.njit(nogil=True)(_count)
        # Compiled on its first call, for arrays of these types.
        _compiled(loops, Runs(), np.zeros((1, 8, 8, 3), np.uint8))
        _loops = loops
    except Exception as error:  # a library that does not fit its neighbours may fail in any way
        _log.warning("numba can't compile what counts (%s), so NumPy goes on counting", error)


def _compiled(loops: Callable[..., None], runs: Runs, crops: Pixels) -> npt.NDArray[np.int64]:
    colour, luma = runs.steps
    counts = np.zeros((len(crops), 4 * bool(colour) + bool(luma), LEVELS**4), np.int64)
    loops(np.ascontiguousarray(crops), np.array(MIX, np.int32), colour, luma, counts)
    return counts


def _count(crops: Pixels, mix: npt.NDArray[np.int32], colour: int, luma: int, counts: npt.NDArray[np.int64]) -> None:
    """Add up runs of crops (n, h, w, 3) in counts (n, sets, 625), all zero."""
    number, height, width = crops.shape[:3]
    plane = np.empty((height, width), np.int32)
    level = np.empty((height, width), np.uint16)
    run = np.empty(width, np.uint16)
    first = 0 if colour > 0 else 4
    for n in range(number):
        # Kinds of residuals: Cb across, Cb down, Cr across, Cr down, luma.
        for kind in range(first, 5 if luma > 0 else 4):
            if kind % 2 == 0:
                red, green, blue = mix[(kind // 2 + 1) % 3]
                for y in range(height):
                    for x in range(width):
                        plane[y, x] = red * crops[n, y, x, 0] + green * crops[n, y, x, 1] + blue * crops[n, y, x, 2]
            step = luma if kind == 4 else colour
            one, two = step // 2, (3 * step + 1) // 2
            if kind == 4:
                rows, columns = height - 2, width - 2
                for y in range(rows):
                    for x in range(columns):
                        beside = plane[y, x + 1] + plane[y + 2, x + 1] + plane[y + 1, x] + plane[y + 1, x + 2]
                        corners = plane[y, x] + plane[y, x + 2] + plane[y + 2, x] + plane[y + 2, x + 2]
                        residual = 2 * beside - corners - 4 * plane[y + 1, x + 1]
                        level[y, x] = (residual > one) + (residual >= two) + (residual >= -one) + (residual > -two)
            else:
                right, under = 1 - kind % 2, kind % 2
                rows, columns = height - under, width - right
                for y in range(rows):
                    for x in range(columns):
                        residual = plane[y + under, x + right] - plane[y, x]
                        level[y, x] = (residual > one) + (residual >= two) + (residual >= -one) + (residual > -two)
            # A set has runs in the direction of the difference or at right angles to it, so both kinds of a plane.
            along_rows = counts[n, kind - first]
            along_columns = counts[n, kind - first if kind == 4 else kind + 1 - 2 * (kind % 2)]
            for y in range(rows):
                for x in range(columns - 3):
                    run[x] = ((level[y, x] * 5 + level[y, x + 1]) * 5 + level[y, x + 2]) * 5 + level[y, x + 3]
                for x in range(columns - 3):
                    along_rows[run[x]] += 1
            for y in range(rows - 3):
                for x in range(columns):
                    run[x] = ((level[y, x] * 5 + level[y + 1, x]) * 5 + level[y + 2, x]) * 5 + level[y + 3, x]
                for x in range(columns):
                    along_columns[run[x]] += 1
