"""Keys: rows that a column ties together are found, whatever the cells hold."""

from __future__ import annotations

import numpy as np
import pytest

from assay.data.keys import Keys, families, keys, repeated_paths
from assay.data.table import TEXT, Table
from assay.errors import ManifestError


def table(**columns: list[str]) -> Table:
    rows = len(next(iter(columns.values())))
    given = {name: np.array(cells, TEXT) for name, cells in columns.items()}
    paths = np.array([f"{row}.png" for row in range(rows)], TEXT)
    return Table({"path": paths} | given, np.zeros(rows, np.int8))


def pairs(found: Keys) -> list[tuple[int, str]]:
    return [(int(row), str(found.names[key])) for row, key in zip(found.rows, found.keys, strict=True)]


def test_a_row_holds_what_its_cell_says_and_an_empty_cell_says_nothing() -> None:
    assert pairs(keys(table(video=["b", "", "a", "b"]), "video")) == [(0, "b"), (2, "a"), (3, "b")]


def test_a_subject_of_several_holds_each_of_them_once() -> None:
    found = keys(table(subject=["id2+id1", "id1", "", " id3 + id3 +", "+"]), "subject")
    assert pairs(found) == [(0, "id1"), (0, "id2"), (1, "id1"), (3, "id3")]


def test_a_plus_in_another_column_is_part_of_the_name() -> None:
    assert pairs(keys(table(video=["a+b"]), "video")) == [(0, "a+b")]


def test_hashes_are_the_same_in_either_case() -> None:
    assert len(keys(table(origin=["ab" * 32, "AB" * 32]), "origin").names) == 1


def test_a_path_is_known_by_its_folder_and_name_so_that_a_set_can_move() -> None:
    here = keys(table(path=["set/real/1.png", "set/fake/1.png"]), "path")
    there = keys(table(path=["/mnt/other/real/1.png", "D:\\set\\fake\\1.png"]), "path")
    assert pairs(here) == pairs(there) == [(0, "real/1.png"), (1, "fake/1.png")]


def test_only_the_rows_asked_for_are_looked_at() -> None:
    where = np.array([True, False, True])
    assert pairs(keys(table(video=["a", "b", "a"]), "video", where)) == [(0, "a"), (2, "a")]


def test_an_unknown_column_is_refused_with_the_nearest() -> None:
    with pytest.raises(ManifestError, match="subject"):
        keys(table(subject=["a"]), "subjct")


def test_families_are_what_walking_from_row_to_row_finds() -> None:
    random = np.random.default_rng(0)
    for count in (3, 30, 120):
        cells = [
            "+".join(f"id{key:03d}" for key in random.integers(0, count, random.integers(1, 4)))
            for _ in range(count // 2)
        ]
        found = families(keys(table(subject=cells), "subject"))
        left = {row: set(cell.split("+")) for row, cell in enumerate(cells)}
        expected = {}
        while left:
            _, names = left.popitem()
            linked = True
            while linked:
                linked = {row for row, other in left.items() if other & names}
                names |= set().union(*(left.pop(row) for row in linked))
            expected |= {name: min(names) for name in names}
        assert pairs(found) == [(row, expected[cell.split("+")[0]]) for row, cell in enumerate(cells)]


def test_a_long_chain_is_one_family() -> None:
    cells = [f"id{number:05d}+id{number + 1:05d}" for number in range(20_000)]
    found = families(keys(table(subject=cells), "subject"))
    assert set(found.keys.tolist()) == {0}


def test_no_rows_have_no_keys_and_no_families() -> None:
    assert pairs(families(keys(table(subject=["", ""]), "subject"))) == []


def test_a_path_is_the_same_however_it_is_written() -> None:
    paths = ["a.png", "b/c.png", "./a.png", "b//c.png", "d/../a.png", "b/./c.png", ".a.png", "a.png.", "b/c.png/"]
    again, first = repeated_paths(table(path=paths))
    assert list(zip(again.tolist(), first.tolist(), strict=True)) == [(2, 0), (3, 1), (4, 0), (5, 1), (8, 1)]


def test_a_member_of_an_archive_is_no_file_of_that_name() -> None:
    again, _ = repeated_paths(table(path=["a.tar::1.png", "a.tar", "1.png", "b.tar::1.png"]))
    assert not again.size
