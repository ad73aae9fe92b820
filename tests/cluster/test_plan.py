from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from assay.errors import OutputError
from assay.types import Failure

pytest.importorskip("fsspec", reason="needs fsspec, which the extra cluster installs")

from assay.cluster import plan
from assay.cluster.plan import Item, Plan, Rows, Tar
from assay.cluster.storage import Folder


@pytest.fixture(params=["path", "address"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    """The same folder by its path, and as one at an address."""
    return Folder(str(tmp_path) if request.param == "path" else f"local://{tmp_path}")


def make(folder: Folder, items: Iterable[Item], batch: int = 8, **options: Any) -> Plan:
    def gather(add: Any) -> None:
        for item in items:
            add(item)

    given: dict[str, Any] = {"detector": "d", "asked": ["/a"], "base": "/", "batch": batch}
    return plan.make(folder, gather, **given | options)


def sizes(folder: Folder, made: Plan) -> list[int]:
    return [len(list(plan.chunk(folder, number))) for number in range(made.chunks)]


def test_chunks_hold_every_item_once_and_in_order(folder: Folder) -> None:
    items: list[Item] = [
        "a.jpg",
        "odd \udcff\udcfe.jpg",
        "new\nline\r\u2028.jpg",
        Failure("f", "missing", "no such file \udcff"),
        "s3://bucket/b.jpg",
        Tar("s3://bucket/c.tar"),
        Rows("d.parquet", "image", (2, 5), 200, 150),
        "e.jpg",
    ]
    made = make(folder, items)
    assert [item for number in range(made.chunks) for item in plan.chunk(folder, number)] == items
    assert made.chunks == 4  # a tar and a table's rows are one each
    assert made.inputs is None  # nobody knows what is in the tar
    assert make(folder, [Rows("d", "image", (0, 1), 0, 7), "e"]).inputs == 8


def test_chunks_grow_with_the_number_of_inputs_and_hold_whole_batches(folder: Folder) -> None:
    made = make(folder, map(str, range(20_000)), batch=6)
    found = sizes(folder, made)
    assert sum(found) == made.inputs == 20_000
    assert found[0] == 36  # 32 and what fills the batch
    assert all(size % 6 == 0 for size in found[:-1])
    assert found[:-1] == sorted(found[:-1])
    assert max(found) <= 20_000 / 64 + 6
    assert max(sizes(folder, make(folder, map(str, range(500)), most=10, batch=1))) == 10


def test_failures_take_no_place_in_a_batch(folder: Folder) -> None:
    items: list[Item] = [str(number) if number % 3 else Failure(str(number), "x", "y") for number in range(300)]
    made = make(folder, items, batch=8)
    for number in range(made.chunks - 1):
        assert sum(isinstance(item, str) for item in plan.chunk(folder, number)) % 8 == 0
    made = make(folder, [Failure(str(number), "x", "y") for number in range(999)] + ["a"], batch=8)
    assert max(sizes(folder, made)) < 200


def test_a_plan_is_found_again_by_who_asks_for_the_same(folder: Folder) -> None:
    assert plan.find(folder, "d", ["/a"]) is None
    made = make(folder, ["a"])
    assert plan.find(folder, "d", ["/a"]) == made
    assert plan.current(folder) == made.id
    with pytest.raises(OutputError, match="another detector"):
        plan.find(folder, "other", ["/a"])
    with pytest.raises(OutputError, match="other inputs"):
        plan.find(folder, "d", ["/a", "/b"])


def test_a_plan_that_was_not_finished_is_none(folder: Folder, tmp_path: Path) -> None:
    def stops() -> Iterable[str]:
        yield from map(str, range(100))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(folder, stops())
    assert list((tmp_path / "_plan").iterdir())
    assert plan.find(folder, "d", ["/a"]) is None
    made = make(folder, ["a"])
    assert sorted(path.name for path in (tmp_path / "_plan").iterdir()) == ["000000.jsonl", "plan.json"]
    assert sizes(folder, made) == [1]


def test_a_folder_of_something_else_is_left_alone(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "part-000000.parquet").write_bytes(b"of somebody else")
    with pytest.raises(OutputError, match=r"part-000000\.parquet"):
        plan.find(folder, "d", ["/a"])


def test_clearing_takes_a_scan_and_nothing_else(folder: Folder, tmp_path: Path) -> None:
    make(folder, ["a"])
    for name in ("part-000000.parquet", "part-00000-abc.parquet", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    plan.clear(folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["_plan", "notes.txt", "part-00000-abc.parquet"]
    assert not list((tmp_path / "_plan").iterdir())


@pytest.mark.parametrize("spoilt", ["{", "[]", '{"format": 2}', '{"format": 1, "id": "a"}'])
def test_a_spoilt_plan_is_refused(folder: Folder, tmp_path: Path, spoilt: str) -> None:
    make(folder, ["a"])
    (tmp_path / "_plan" / "plan.json").write_text(spoilt)
    with pytest.raises(OutputError, match="no plan of this assay"):
        plan.find(folder, "d", ["/a"])


def test_a_chunk_that_is_gone_or_spoilt_is_refused(folder: Folder, tmp_path: Path) -> None:
    make(folder, ["a"])
    with pytest.raises(OutputError, match="lacks chunk 1"):
        list(plan.chunk(folder, 1))
    (tmp_path / "_plan" / "000000.jsonl").write_text(json.dumps({"x": 1}) + "\n")
    with pytest.raises(OutputError, match="damaged"):
        list(plan.chunk(folder, 0))
