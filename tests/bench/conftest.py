from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from benches import BENCH


@pytest.fixture(scope="package", autouse=True)
def beside() -> Iterator[None]:
    """Benches import each other by name."""
    sys.path.insert(0, str(BENCH))
    yield
    sys.path.remove(str(BENCH))
