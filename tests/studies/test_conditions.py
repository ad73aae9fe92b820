"""What test rows go through."""

from __future__ import annotations

import numpy as np
import pytest

from assay.errors import RecipeError
from assay.image.alter import T
from assay.studies.conditions import conditions, family_of, number_of


def noise(seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def test_transforms_follow_from_the_picture_and_from_nothing_else() -> None:
    change = conditions(["transforms"])["transforms"]
    first = [change(noise(seed)) for seed in range(12)]
    again = [change(noise(seed)) for seed in reversed(range(12))][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    untouched = sum(np.array_equal(a, noise(seed)) for seed, a in enumerate(first))
    # A third of all pictures get no operation.
    assert 0 < untouched < 12
    assert T().max_ops == 2


def test_a_size_is_the_shorter_sides() -> None:
    for side in (20, 80):
        assert conditions([f"size{side}"])[f"size{side}"](noise(0)).shape == (side, side * 3 // 2, 3)


def test_the_other_conditions_are_those_of_evaluate() -> None:
    assert list(conditions(["clean", "jpeg50", "size64"])) == ["clean", "jpeg50", "size64"]
    with pytest.raises(RecipeError, match="no condition called"):
        conditions(["jpag50"])
    with pytest.raises(RecipeError, match="16 to 4096"):
        conditions(["size8"])


def test_a_name_says_where_it_stands_on_a_curve() -> None:
    assert [(family_of(name), number_of(name)) for name in ("jpeg50", "size256", "clean")] == [
        ("jpeg", 50),
        ("size", 256),
        ("clean", None),
    ]
