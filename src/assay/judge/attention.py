"""What the class token of a transformer attends to.

Of the attention in the last block: the mean over the heads, the class token's row, what it gives to patches; prefix
tokens (the class token itself, registers) are left out and the rest sums to one again. Its entropy, in nats, says how
widely it looks: ln(patches) where it looks everywhere alike, 0 where at one patch only. "drift" (arXiv 2604.25889)
tells its streams apart by it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def of_class_token(attention: npt.NDArray[np.float32], height: int, width: int) -> Floats:
    """Where the class token looks.

    Args:
        attention: (n, heads, tokens, tokens), rows summing to one; the class token is the first, patches come last,
            row by row.
        height, width: of the map of patches.

    Returns:
        (n, height, width) float64, each map summing to one; even where a class token gives patches nothing.

    Raises:
        ValueError: there are fewer tokens than patches.
    """
    patches = height * width
    prefix = attention.shape[-1] - patches
    if prefix < 1:
        raise ValueError(f"{attention.shape[-1]} tokens are not a class token and {height} x {width} patches")
    given = attention[:, :, 0, prefix:].astype(np.float64).mean(axis=1)
    total = given.sum(axis=1, keepdims=True)
    shared = np.where(total > 0, given / np.where(total > 0, total, 1), 1 / patches)
    return np.asarray(shared.reshape(-1, height, width), np.float64)


def entropy(shares: Floats) -> Floats:
    """Of maps (n, height, width) that each sum to one: (n,), in nats (natural logarithm)."""
    # The logarithm of nothing is never taken, and adds nothing.
    terms = shares * np.log(np.where(shares > 0, shares, 1))
    return np.asarray(-terms.sum(axis=(1, 2)), np.float64)
