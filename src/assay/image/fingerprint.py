"""Knowing a picture again: a perceptual hash that survives re-encoding, and how to look one up among many.

The hash is used to refuse an evaluation on pictures that a detector was made with, even where the file's bytes have
changed. It does not survive cropping, mirroring or rotation.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from PIL import Image

from assay.types import Pixels

Keys = npt.NDArray[np.uint64]

SIDE = 32
FLAT = 2.0
"""Pictures whose detail, as the RMS in grey levels of the frequencies that are hashed, is below this have no hash."""

# Pairs looked at in one step: 2 MiB of differences, which stays in a core's cache.
_PAIRS = 1 << 18


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


def origin_key(sha256: str) -> np.uint64:
    """The first 8 bytes of a SHA-256 given in hexadecimal, as a number: enough to tell a data set's pictures apart."""
    return np.uint64(int(sha256[:16], 16))


def _cosines() -> npt.NDArray[np.float64]:
    """The orthonormal DCT-II matrix, shape (SIDE, SIDE)."""
    frequency = np.arange(SIDE)[:, None]
    place = np.arange(SIDE)[None, :]
    matrix = np.cos(np.pi * (2 * place + 1) * frequency / (2 * SIDE)) * math.sqrt(2 / SIDE)
    matrix[0] /= math.sqrt(2)
    return matrix


_COSINES = _cosines()
