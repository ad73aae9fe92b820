"""Orders that are drawn by a key and are the same on every machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from assay.image import place

Ints = npt.NDArray[np.int64]


def permutation(count: int, *key: object) -> Ints:
    """Numbers 0 … count - 1, shape (count,), shuffled the same way for the same key on every machine.

    NumPy's own shuffles may change from version to version; this one is the order of SplitMix64's output (Steele, Lea
    and Flood, "Fast splittable pseudorandom number generators", 2014, figure 17), which repeats nothing in 2^64.
    """
    seed = int.from_bytes(hashlib.sha256(json.dumps(key).encode()).digest()[:8], "little")
    state = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.argsort(state ^ (state >> np.uint64(31)), kind="stable")


def blocks(places: Sequence[str]) -> Ints | None:
    """Which rows are best read together: a number for each, the same for cells of one row group of a Parquet table.

    Args:
        places: of the rows.

    Returns:
        Shape (rows,); a row without neighbours has a number of its own. None where that holds for all.
    """
    if not any(place.SEPARATOR in where for where in places):
        return None
    found = np.array(place.neighbourhoods(places), np.int64)
    alone = found < 0
    if alone.all():
        return None
    found[alone] = found.max() + 1 + np.arange(alone.sum())
    return found


def gathered(order: Ints, rows: Ints) -> Ints:
    """A permutation with the rows of each block brought together, where its first row stands: whole blocks are shuffled
    then, and the rows inside each. Blocks of one row stay where they are to each other.

    Args:
        order: a permutation of 0 … count - 1.
        rows: the block of each number, as `blocks` gives it, shape (count,).
    """
    at = np.empty(len(order), np.int64)
    at[order] = np.arange(len(order))
    _, first, which = np.unique(rows, return_index=True, return_inverse=True)
    # The first in number, not the first in order: large blocks would else come before small ones.
    return order[np.argsort(at[first][which][order], kind="stable")]
