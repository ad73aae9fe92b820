"""Embedding many pictures: in order, and never many at a time."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.image.view import View
from assay.learn.embed import Kept, embed
from assay.types import Pixels
from tiny import OfViews

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

    class Slow(OfViews):
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


# ── kept ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_kept_comes_back_to_the_bit_items_without_crops_included(mean_engine: Any, tmp_path: Path) -> None:
    file = Kept(tmp_path / "new", "a", "graph").file("fitted", rows=3)

    def never(number: int) -> Pixels:
        raise AssertionError("cut again")

    for items in (range(8), range(1, 4), [0, 3]):
        file.unlink(missing_ok=True)
        first = embed(items, crops, VIEW, mean_engine, what="testing", kept=file)
        again = embed(items, never, VIEW, mean_engine, what="testing", kept=file)
        assert [part.shape for part in again] == [part.shape for part in first]
        assert all(part.tobytes() == other.tobytes() for part, other in zip(first, again, strict=True))
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_file_is_named_by_all_that_its_embeddings_follow_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Kept(tmp_path, "a", "graph")
    file = kept.file("fitted", rows=[1, 2], view={"size": 8, "layout": "grid"})
    assert file == kept.file("fitted", view={"layout": "grid", "size": 8}, rows=[1, 2])
    others = [
        kept.file("fitted", rows=[2, 1], view={"size": 8, "layout": "grid"}),
        kept.file("fitted", rows=[1, 2], view={"size": 9, "layout": "grid"}),
        kept.file("scored", rows=[1, 2], view={"size": 8, "layout": "grid"}),
        Kept(tmp_path, "b", "graph").file("fitted", rows=[1, 2], view={"size": 8, "layout": "grid"}),
        Kept(tmp_path, "a", "other").file("fitted", rows=[1, 2], view={"size": 8, "layout": "grid"}),
    ]
    # A later version may cut or normalise otherwise.
    monkeypatch.setattr("importlib.metadata.version", lambda _: "99")
    others.append(kept.file("fitted", rows=[1, 2], view={"size": 8, "layout": "grid"}))
    assert len({file, *others}) == 7


def test_new_embeddings_take_the_place_of_the_old_of_that_stream_and_use_alone(
    mean_engine: Any, tmp_path: Path
) -> None:
    old, new = (Kept(tmp_path, "a", graph).file("fitted") for graph in ("old", "new"))
    beside = [Kept(tmp_path, "a", "old").file("scored"), Kept(tmp_path, "ab", "old").file("fitted")]
    for file in (old, *beside, new):
        embed(range(3), crops, VIEW, mean_engine, what="testing", kept=file)
    assert {path.name for path in tmp_path.iterdir()} == {file.name for file in (new, *beside)}
