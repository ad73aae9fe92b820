"""Embedding many pictures: in order, and never many at a time."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from assay.image.view import View
from assay.learn.embed import embed
from assay.types import Pixels

VIEW = View(size=8)


def crops(number: int) -> Pixels:
    return np.full((number % 3, 8, 8, 3), number, np.uint8)


def test_embeddings_come_in_the_order_of_their_items(mean_engine: Any) -> None:
    found = embed(range(20), crops, VIEW, mean_engine, what="testing", workers=3)
    for number, embedding in enumerate(found):
        expected = mean_engine.run(VIEW.tensor(crops(number))) if number % 3 else np.empty((0, 0))
        assert np.array_equal(embedding, expected)


def test_no_more_is_cut_ahead_than_a_few_a_worker() -> None:
    lock, ahead, most = threading.Lock(), [0], [0]

    def cut(number: int) -> Pixels:
        with lock:
            ahead[0] += 1
            most[0] = max(most[0], ahead[0])
        return crops(1)

    class Slow:
        def run(self, batch: Any) -> Any:
            with lock:
                ahead[0] -= 1
            return batch.mean(axis=(2, 3))

    engine: Any = Slow()
    embed(range(100), cut, VIEW, engine, what="testing", workers=2)
    assert most[0] <= 9


def test_an_error_in_one_item_is_not_swallowed(mean_engine: Any) -> None:
    def failing(number: int) -> Pixels:
        raise RuntimeError(f"item {number}")

    with pytest.raises(RuntimeError, match="item 0"):
        embed([0], failing, VIEW, mean_engine, what="testing")
