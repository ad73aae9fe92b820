"""Where a class token looks, and how widely."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from assay.judge.attention import entropy, of_class_token


def attention(prefix: int, seed: int = 0) -> np.ndarray:
    """Two crops, three heads, `prefix` tokens before 4 × 5 patches; each row sums to one."""
    scores = np.random.default_rng(seed).random((2, 3, prefix + 20, prefix + 20)).astype(np.float32) ** 4
    return scores / scores.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("prefix", [1, 5])
def test_the_entropy_is_scipys_of_the_mean_over_heads_without_the_prefix_tokens(prefix: int) -> None:
    given = attention(prefix)
    maps = of_class_token(given, 4, 5)
    assert maps.shape == (2, 4, 5)
    assert maps.sum(axis=(1, 2)) == pytest.approx([1, 1])
    for crop in range(2):
        to_patches = given[crop, :, 0, prefix:].astype(np.float64).mean(axis=0)
        assert np.allclose(maps[crop].ravel(), to_patches / to_patches.sum())
        assert entropy(maps)[crop] == pytest.approx(stats.entropy(to_patches), abs=1e-9)


def test_looking_everywhere_alike_has_the_logarithm_of_the_patches_and_at_one_patch_nothing() -> None:
    even, one = np.full((4, 5), 1 / 20), np.zeros((4, 5))
    one[2, 3] = 1
    assert entropy(np.stack([even, one])) == pytest.approx([math.log(20), 0])


def test_a_class_token_that_gives_patches_nothing_looks_everywhere_alike() -> None:
    given = np.zeros((1, 2, 21, 21), np.float32)
    given[..., 0] = 1
    assert np.allclose(of_class_token(given, 4, 5), 1 / 20)


def test_a_map_without_a_class_token_before_it_is_refused() -> None:
    with pytest.raises(ValueError, match="20 tokens"):
        of_class_token(attention(1)[:, :, :20, :20], 4, 5)
