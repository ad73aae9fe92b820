"""What a check is asked for, and what it refuses."""

from __future__ import annotations

import pytest

from checked import read


@pytest.mark.parametrize("wrong", [{"near": -1}, {"near": 64}, {"bound": 0.4}, {"bound": 1.1}])
def test_values_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        read([], **wrong)
