"""Knowing a picture again: a perceptual hash that survives re-encoding, and how to look one up among many.

The hash is used to refuse an evaluation on pictures that a detector was made with, even where the file's bytes have
changed, and to find the same picture on both sides of a split. It does not survive cropping, mirroring or rotation.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image

from assay.types import Pixels

Keys = npt.NDArray[np.uint64]

SIDE = 32
FLAT = 2.0
"""Pictures whose detail, as the RMS in grey levels of the frequencies that are hashed, is below this have no hash."""

Pairs = npt.NDArray[np.intp]
"""Rows that belong together, shape (pairs, 2)."""

BITS = 64

# Pairs looked at in one step: 2 MiB of differences, which stays in a core's cache.
_PAIRS = 1 << 18
# Neighbours compared in one step of `near_pairs`: three arrays of 128 KiB and less.
_RUN = 1 << 14
# Pairs handed out at once by `near_pairs_in_parts`.
_PART = 1 << 20


def perceptual_hash(pixels: Pixels) -> int | None:
    """A 64-bit fingerprint of what a picture looks like at low frequency.

    The picture is shrunk to 32 × 32 grey levels; of its cosine transform the 8 × 8 block that follows the first row
    and column is kept, and each bit says whether a coefficient exceeds the block's median (Zauner, "Implementation and
    Benchmarking of Perceptual Image Hash Functions", 2010, section 3.2.1).

    Args:
        pixels: shape (height, width, 3), uint8.

    Returns:
        An integer in [0, 2⁶⁴), or None where the picture is too flat for its bits to be more than noise (blank
        pages, plain gradients): such pictures would all look alike.
    """
    grey = Image.fromarray(pixels).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    levels = np.asarray(grey, dtype=np.float64)
    block = (_COSINES @ levels @ _COSINES.T)[1:9, 1:9]
    # The transform is orthonormal, so this is the RMS over the picture's 32 × 32 levels.
    if math.sqrt(float((block**2).sum())) / SIDE < FLAT:
        return None
    bits = (block > np.median(block)).ravel()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def hamming(a: int, b: int) -> int:
    """How many of the 64 bits differ."""
    return (int(a) ^ int(b)).bit_count()


def near(query: Keys, known: Keys, distance: int) -> npt.NDArray[np.bool_]:
    """Which of `query` lie within `distance` bits of any of `known`.

    Args:
        query: hashes, shape (q,), uint64.
        known: hashes, shape (k,), uint64, sorted ascending.
        distance: the largest Hamming distance that counts, in bits.

    Returns:
        shape (q,). Memory stays bounded whatever q and k are.
    """
    query = np.asarray(query, dtype=np.uint64)
    known = np.asarray(known, dtype=np.uint64)
    found = np.zeros(len(query), dtype=np.bool_)
    if not len(known) or not len(query) or distance < 0:
        return found
    place = np.minimum(np.searchsorted(known, query), len(known) - 1)
    found |= known[place] == query
    if distance == 0:
        return found
    for start in range(0, len(known), _PAIRS):
        part = known[start : start + _PAIRS]
        open_rows = np.flatnonzero(~found)
        step = max(1, _PAIRS // len(part))
        for first in range(0, len(open_rows), step):
            rows = open_rows[first : first + step]
            bits = np.bitwise_count(query[rows, None] ^ part[None, :])
            found[rows] = bits.min(axis=1) <= distance
    return found


def near_pairs(hashes: Keys, distance: int) -> Pairs:
    """All pairs of near hashes, each row that repeats a hash standing only beside the first row of that hash.

    Exact: whether two rows lie within `distance` bits of each other is known from the pair of their hashes' first
    rows. n rows of one hash give n − 1 pairs, not n² / 2.

    Args:
        hashes: shape (n,), uint64.
        distance: the largest Hamming distance that counts, in bits, 0 to 63.

    Returns:
        shape (pairs, 2), the smaller row number first, sorted. All of it is held in memory; `near_pairs_in_parts`
        holds a part at a time.

    Raises:
        ValueError: a distance out of range.
    """
    keys = np.asarray(hashes, dtype=np.uint64)
    _, first, place = np.unique(keys, return_index=True, return_inverse=True)
    repeated = np.setdiff1d(np.arange(len(keys)), first)
    parts = [np.column_stack([first[place[repeated]], repeated])]
    parts += [np.sort(first[part], axis=1) for part in near_pairs_in_parts(keys[first], distance)]
    pairs = np.concatenate(parts)
    found: Pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    return found


def near_pairs_in_parts(hashes: Keys, distance: int) -> Iterator[Pairs]:
    """Every pair of distinct hashes within `distance` bits, once each, in no particular order and never all in memory.

    Multi-index hashing (Norouzi, Punjani, Fleet, CVPR 2012, section 2; pigeonhole): of `distance` + 1 bands of the
    64 bits, two hashes that differ in at most `distance` bits agree in one band whole. For each band the hashes are
    put next to those that share it, and every run is compared with itself, shifted by one place, two, and so on.

    Args:
        hashes: distinct, shape (n,), uint64.
        distance: in bits, 0 to 63.

    Yields:
        shape (pairs, 2): places in `hashes`. A part holds about a million pairs at most.

    Raises:
        ValueError: a distance out of range.
    """
    if not 0 <= distance < BITS:
        raise ValueError(f"a distance between 64-bit hashes lies in 0 to {BITS - 1}, not {distance}")
    keys = np.asarray(hashes, dtype=np.uint64)
    masks = _bands(distance + 1)
    waiting: list[Pairs] = []
    held = 0
    for band in range(len(masks)):
        for pairs in _agreeing(keys, distance, masks, band):
            waiting.append(pairs)
            held += len(pairs)
            if held >= _PART:
                yield np.concatenate(waiting)
                waiting, held = [], 0
    if waiting:
        yield np.concatenate(waiting)


def origin_key(sha256: str) -> np.uint64:
    """The first 8 bytes of a SHA-256 given in hexadecimal, as a number: enough to tell a data set's pictures apart."""
    return np.uint64(int(sha256[:16], 16))


def _bands(count: int) -> list[np.uint64]:
    """Masks of `count` bands that cover 64 bits, as equal in width as can be."""
    edges = [BITS * band // count for band in range(count + 1)]
    return [np.uint64((1 << high) - (1 << low)) for low, high in itertools.pairwise(edges)]


def _agreeing(keys: Keys, distance: int, masks: list[np.uint64], band: int) -> Iterator[Pairs]:
    """Near pairs whose first common band is `band`."""
    _, place, sizes = np.unique(keys & masks[band], return_inverse=True, return_counts=True)
    # The largest runs stand first, so the hashes that still have a neighbour `shift` places on are a prefix.
    rank = np.empty(len(sizes), dtype=np.intp)
    largest = np.argsort(-sizes, kind="stable")
    rank[largest] = np.arange(len(sizes))
    order = np.argsort(rank[place], kind="stable")
    ordered, sizes = keys[order], sizes[largest]
    ends = np.cumsum(sizes)
    runs = len(sizes)
    for shift in range(1, int(sizes[0]) if runs else 0):
        while sizes[runs - 1] <= shift:
            runs -= 1
        end = int(ends[runs - 1]) - shift
        for start in range(0, end, _RUN):
            stop = min(start + _RUN, end)
            differ = ordered[start:stop] ^ ordered[start + shift : stop + shift]
            near = np.flatnonzero(np.bitwise_count(differ) <= distance)
            if not len(near):
                continue
            # Neighbours of two runs are compared too, and pairs may agree in several bands: each counts once.
            kept = (differ[near] & masks[band]) == 0
            for mask in masks[:band]:
                kept &= (differ[near] & mask) != 0
            left = near[kept] + start
            if len(left):
                yield np.column_stack([order[left], order[left + shift]])


def _cosines() -> npt.NDArray[np.float64]:
    """The orthonormal DCT-II matrix, shape (SIDE, SIDE)."""
    frequency = np.arange(SIDE)[:, None]
    place = np.arange(SIDE)[None, :]
    matrix = np.cos(np.pi * (2 * place + 1) * frequency / (2 * SIDE)) * math.sqrt(2 / SIDE)
    matrix[0] /= math.sqrt(2)
    return matrix


_COSINES = _cosines()
