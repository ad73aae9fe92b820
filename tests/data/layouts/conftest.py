from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def picture() -> Callable[[Path], Path]:
    """Writes a small picture, in the format of the suffix, and the folders above it."""

    def put(path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (len(path.name) * 7 % 256, 90, 30)).save(path)
        return path

    return put
