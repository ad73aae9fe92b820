"""Places: a file, a member of a tar file, a cell of a Parquet table, each read without unpacking anything."""

from __future__ import annotations

import collections
import concurrent.futures
import io
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from assay.errors import InputError
from assay.image import place
from assay.image.decode import Limits, decode


def picture(grey: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (9, 7), (grey, grey, grey)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    path = tmp_path / "shard.tar"
    with tarfile.open(path, "w") as out:
        for number in range(3):
            data = picture(50 * number)
            member = tarfile.TarInfo(f"sub/{number}.png")
            member.size = len(data)
            out.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        out.addfile(link)
    return path


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    path = tmp_path / "train-0000.parquet"
    struct = pa.array([{"bytes": picture(number), "path": f"{number}.png"} for number in range(7)] + [None])
    plain = pa.array([*(picture(100 + number) for number in range(7)), None], pa.binary())
    table = pa.table({"image": struct, "raw": plain, "id": [str(n) for n in range(8)]})
    parquet.write_table(table, path, row_group_size=3)
    return path


def kind(where: str) -> str:
    with pytest.raises(InputError) as caught:
        place.read(where)
    return caught.value.kind


def test_a_file_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"abcdef")
    assert place.read(str(path)) == b"abcdef"
    assert place.read(str(path), 2) == b"ab"
    assert place.stat(str(path)) == (6, path.stat().st_mtime_ns)


def test_a_member_is_read_without_unpacking_the_tar_file(tar: Path) -> None:
    where = place.join(tar, "sub/2.png")
    assert place.read(where) == picture(100)
    assert place.stat(where) == (len(picture(100)), tar.stat().st_mtime_ns)
    assert place.read(where, 5) == picture(100)[:5]
    assert decode(where).pixels[0, 0].tolist() == [100] * 3


def test_a_cell_is_read_from_whichever_row_group_it_lies_in(cells: Path) -> None:
    for row in (0, 2, 3, 6):
        assert decode(place.join(cells, f"{row}/image")).pixels[0, 0, 0] == row
        assert decode(place.join(cells, f"{row}/raw")).pixels[0, 0, 0] == 100 + row


def test_a_file_whose_name_looks_like_an_address_is_that_file(tar: Path) -> None:
    odd = tar.parent / "shard.tar::sub"
    odd.mkdir()
    (odd / "2.png").write_bytes(b"mine")
    assert place.read(f"{tar}::sub/2.png") == b"mine"
    assert place.split("a/b.png") == ("a/b.png", "")


def test_a_tar_file_that_was_rewritten_is_read_anew(tar: Path) -> None:
    where = place.join(tar, "sub/0.png")
    assert place.read(where) == picture(0)
    with tarfile.open(tar, "w") as out:
        out.addfile(tarfile.TarInfo("padding"))
        member = tarfile.TarInfo("sub/0.png")
        member.size = 3
        out.addfile(member, io.BytesIO(b"new"))
    os.utime(tar, ns=(1, 1))
    assert place.read(where) == b"new"


def test_what_is_not_there_is_missing_and_says_so(tar: Path, cells: Path, tmp_path: Path) -> None:
    assert kind(str(tmp_path / "none.png")) == "missing"
    assert kind(str(tmp_path / "none.tar::a")) == "missing"
    assert kind(place.join(tar, "sub/9.png")) == "missing"
    assert kind(place.join(cells, "99/image")) == "missing"
    assert kind(place.join(cells, "0/nothing")) == "missing"
    assert kind(place.join(cells, "image")) == "missing"
    assert kind(place.join(cells, "7/image")) == "empty"
    assert kind(place.join(cells, "0/id")) == "empty"
    assert kind(str(tmp_path)) == "not_a_file"


def test_links_inside_a_tar_file_lead_nowhere(tar: Path) -> None:
    assert kind(place.join(tar, "link.png")) == "missing"


def test_a_torn_or_compressed_archive_says_what_to_do(tar: Path, cells: Path) -> None:
    torn = tar.with_name("torn.tar")
    torn.write_bytes(tar.read_bytes()[: 512 + 40])
    with pytest.raises(InputError, match=r"fetch the archive again|torn"):
        place.read(place.join(torn, "sub/0.png"))
    zipped = tar.with_name("zipped.tar")
    with tarfile.open(zipped, "w:gz") as out:
        out.add(tar, "a")
    with pytest.raises(InputError, match="decompressed"):
        place.read(place.join(zipped, "a"))
    cells.write_bytes(cells.read_bytes()[:-9])
    with pytest.raises(InputError, match="torn or no Parquet table"):
        place.read(place.join(cells, "0/image"))


def test_the_limit_on_bytes_holds_inside_archives_too(tar: Path, cells: Path) -> None:
    for where in (place.join(tar, "sub/0.png"), place.join(cells, "0/image")):
        with pytest.raises(InputError) as caught:
            decode(where, Limits(bytes=20))
        assert caught.value.kind == "too_many_bytes"
        assert np.array_equal(decode(where).pixels, np.zeros((7, 9, 3), np.uint8))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> collections.Counter[tuple[int, str]]:
    """How often each row group's column is read."""
    counted: collections.Counter[tuple[int, str]] = collections.Counter()
    truly = parquet.ParquetFile.read_row_group

    def counting(self: Any, group: int, columns: list[str]) -> Any:
        counted[group, columns[0]] += 1
        return truly(self, group, columns=columns)

    monkeypatch.setattr(parquet.ParquetFile, "read_row_group", counting)
    return counted


def test_neighbours_are_read_once_however_many_threads_ask(
    cells: Path, reads: collections.Counter[tuple[int, str]]
) -> None:
    places = [place.join(cells, f"{row}/{column}") for row in range(6) for column in ("image", "raw")]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(place.read, places * 5)) == [place.read(where) for where in places] * 5
    assert reads == {(group, column): 1 for group in (0, 1) for column in ("image", "raw")}


def test_large_row_groups_are_let_go_and_the_last_ones_are_kept(
    cells: Path, reads: collections.Counter[tuple[int, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    table = tmp_path / "many.parquet"
    parquet.write_table(pa.table({"image": pa.array([b"x"] * 5, pa.binary())}), table, row_group_size=1)
    monkeypatch.setattr(place, "_HELD", 0)
    for row in (0, 1, 0, 2, 0, 3, 0, 1):
        place.read(place.join(table, f"{row}/image"))
    assert reads == {(0, "image"): 1, (1, "image"): 2, (2, "image"): 1, (3, "image"): 1}


def test_looking_for_a_cell_reads_no_pictures(cells: Path, reads: collections.Counter[tuple[int, str]]) -> None:
    assert place.stat(place.join(cells, "4/image"))[0] == cells.stat().st_size
    with pytest.raises(InputError, match="no column 'nothing'"):
        place.stat(place.join(cells, "4/nothing"))
    assert place.neighbourhoods([place.join(cells, "4/image")]) == [0]
    assert not reads


def test_a_reading_that_failed_is_tried_again(cells: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(parquet.ParquetFile, "read_row_group", lost)
        assert kind(place.join(cells, "0/image")) == "unreadable"
    assert place.read(place.join(cells, "0/image")) == picture(0)


def test_a_table_that_was_rewritten_is_read_anew(cells: Path) -> None:
    assert place.read(place.join(cells, "0/raw")) == picture(100)
    parquet.write_table(pa.table({"raw": pa.array([b"new"], pa.binary())}), cells)
    assert place.read(place.join(cells, "0/raw")) == b"new"
    assert kind(place.join(cells, "1/raw")) == "missing"


def test_neighbours_are_the_cells_of_a_row_group_in_any_column(cells: Path, tar: Path) -> None:
    places = [place.join(cells, where) for where in ("0/image", "3/image", "2/raw", "5/raw", "7/image")]
    assert place.neighbourhoods(places) == [0, 1, 0, 1, 2]
    alone = [str(cells), place.join(tar, "sub/0.png"), place.join(cells, "8/image"), place.join(cells, "image")]
    assert place.neighbourhoods([*alone, f"{cells}.parquet::0/image"]) == [-1] * 5
