"""Orders: each number once, the same on every machine, and rows that are read together stay together."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from assay.data.order import blocks, gathered, permutation
from assay.image import place


def mixed(seed: int, step: int) -> int:
    state = (seed + step * 0x9E3779B97F4A7C15) % 2**64
    state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    state = (state ^ state >> 27) * 0x94D049BB133111EB % 2**64
    return state ^ state >> 31


def splitmix(count: int, key: list[Any]) -> list[int]:
    seed = int.from_bytes(hashlib.sha256(json.dumps(key).encode()).digest()[:8], "little")
    return sorted(range(count), key=lambda number: mixed(seed, number + 1))


def test_a_permutation_holds_each_number_once_and_does_not_change_with_numpy() -> None:
    for count in (0, 1, 2, 1000):
        assert sorted(permutation(count, "x", 3).tolist()) == list(range(count))
    assert permutation(8, "a", 1).tolist() == splitmix(8, ["a", 1])
    # Its first outputs for the seeds 0 and 1234567, as published with Java's SplittableRandom and Vigna's C.
    assert [mixed(0, 1), mixed(1234567, 1)] == [0xE220A8397B1DCDAF, 6457827717110365317]
    first = [int(permutation(10, seed)[0]) for seed in range(2000)]
    assert np.bincount(first, minlength=10).min() > 150  # 200 expected, 13 a standard deviation


@given(st.lists(st.integers(0, 6), max_size=40), st.integers(0, 9))
def test_gathered_rows_stand_once_each_and_those_of_a_block_together(rows: list[int], seed: int) -> None:
    order = gathered(permutation(len(rows), seed), np.array(rows, np.int64))
    assert sorted(order.tolist()) == list(range(len(rows)))
    runs = [rows[at] for at in order.tolist()]
    assert sum(a != b for a, b in itertools.pairwise(runs)) == max(0, len(set(rows)) - 1)


def test_rows_that_stand_alone_are_left_in_their_order() -> None:
    order = permutation(50, "x")
    assert gathered(order, np.arange(50)[::-1].copy()).tolist() == order.tolist()


def test_a_block_comes_early_as_often_as_late_whatever_its_size() -> None:
    rows = np.array([0] * 30 + list(range(1, 31)))
    before = [np.flatnonzero(rows[gathered(permutation(60, seed), rows)] == 0)[0] for seed in range(400)]
    assert 13 < np.mean(before) < 17  # of 30 others, 15 are expected; 0.45 a standard deviation


def test_rows_inside_a_block_are_shuffled() -> None:
    rows = np.repeat(np.arange(4), 10)
    first = [gathered(permutation(40, seed), rows)[0] % 10 for seed in range(600)]
    assert np.bincount(first, minlength=10).min() > 0


def test_cells_of_a_row_group_are_a_block_and_everything_else_stands_alone(tmp_path: Path) -> None:
    for name in ("a", "b"):
        cells = pa.array([b"x"] * 7, pa.binary())
        parquet.write_table(pa.table({"one": cells, "two": cells}), tmp_path / f"{name}.parquet", row_group_size=3)
    a, b = tmp_path / "a.parquet", tmp_path / "b.parquet"
    places = [f"{a}::0/one", "photo.jpg", f"{a}::3/one", f"{a}::2/two", "x.tar::1.jpg", f"{b}::2/one", f"{a}::5/two"]
    found = blocks(
        [*places, f"{a}::7/one", str(tmp_path / "gone.parquet::0/one"), f"{a}::x/one", f"{a}::{'9' * 5000}/one"]
    )
    assert found is not None
    first, _, second, *_ = found
    assert np.flatnonzero(found == first).tolist() == [0, 3]
    assert np.flatnonzero(found == second).tolist() == [2, 6]
    assert len(set(found.tolist())) == len(found) - 2


def test_without_cells_there_are_no_blocks() -> None:
    assert blocks(["a.jpg", place.join("x.tar", "a.jpg"), place.join("gone.parquet", "0/image")]) is None
    assert blocks([]) is None
