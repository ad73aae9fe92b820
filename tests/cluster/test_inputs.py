from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from answering import Reply, Server
from assay.errors import AssayError, ManifestError
from assay.judge.scan import expand
from assay.types import Failure

fsspec = pytest.importorskip("fsspec", reason="needs fsspec, which the extra cluster installs")
pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow, which the extra cluster installs")

from pyarrow import parquet  # noqa: E402

from assay.cluster import inputs  # noqa: E402
from assay.cluster.plan import Item, Rows, Tar  # noqa: E402


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Tests name files relative to an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def memory() -> Iterator[Any]:
    """fsspec's file system in this process's memory, empty again afterwards."""
    files = fsspec.filesystem("memory")
    yield files
    files.store.clear()
    files.pseudo_dirs[:] = [""]


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"")


def gathered(*paths: str, **options: Any) -> list[Item]:
    found: list[Item] = []
    inputs.gather(paths, found.append, **options)
    return found


def kinds(items: list[Item]) -> list[tuple[str, str]]:
    return [(item.input, item.kind) for item in items if isinstance(item, Failure)]


def test_files_folders_and_patterns_are_those_of_an_ordinary_scan() -> None:
    touch("f/b.jpg", "f/a.PNG", "f/notes.txt", "f/shard.tar", "f/c/z.webp", "g.jpg", "h/no ending")
    for paths in (["f"], ["f/c", "f", "f/b.jpg"], ["./f", "*.jpg", "gone.jpg", "no*.jpg", "h/no ending"]):
        assert gathered(*paths) == list(expand(paths))


def test_names_on_stdin_come_where_the_dash_stands() -> None:
    touch("a.jpg", "b.jpg", "f/c.jpg", "z.jpg")
    lines = b"b.jpg\n\nf\na.jpg\r\nhttp://host/d.jpg\n-\n\xff.jpg"
    assert gathered("z.jpg", "-", "a.jpg", stdin=io.BytesIO(lines)) == [
        *("z.jpg", "b.jpg", "f/c.jpg", "a.jpg\r", "http://host/d.jpg", "./-", "\udcff.jpg", "a.jpg")
    ]
    assert gathered("-", stdin=io.BytesIO(b"b.jpg\0a\nb.jpg\0"), null=True) == ["b.jpg", "a\nb.jpg"]
    with pytest.raises(ValueError, match="no stdin"):
        gathered("-")


def test_a_list_holds_paths_beside_it_and_addresses() -> None:
    touch("f/a.jpg", "f/g/b.jpg", "c.jpg")
    Path("f/list.txt").write_bytes(b"a.jpg\r\ng\n../c.jpg\nhttp://host/d.jpg?x=1\nmore.txt\na.jpg\n")
    Path("f/more.txt").write_text("list.txt\ne.jpg\n")  # lists may name each other
    found = gathered("f/list.txt", "c.jpg")
    assert found == ["f/a.jpg", "f/g/b.jpg", "f/../c.jpg", "http://host/d.jpg?x=1", "f/e.jpg"]


def test_a_csv_holds_a_column_of_them() -> None:
    Path("f").mkdir()
    rows = ["label,path,note", "real,a.jpg,", "fake,nonsense://b/c.jpg,x", "fake,,", "real,/d/e.jpg,"]
    Path("f/manifest.csv").write_text("\n".join(rows), "utf-8-sig")
    with pytest.raises(AssayError):
        gathered("f/manifest.csv", column="picture")
    found = gathered("f/manifest.csv")
    assert [item for item in found if isinstance(item, str)] == ["f/a.jpg", "/d/e.jpg"]
    assert kinds(found) == [("nonsense://b/c.jpg", "unsupported")]
    Path("broken.csv").write_bytes(b"path\na.jpg\n\xff\xfe\n")
    assert kinds(gathered("broken.csv")) == [("broken.csv", "corrupt")]


def test_a_table_holds_paths_or_bytes() -> None:
    Path("f").mkdir()
    cells = [b"%d" % number for number in range(25)]
    struct = pyarrow.array([{"bytes": cell, "path": "x"} for cell in cells])
    table = pyarrow.table({"image": struct, "jpg": cells, "path": [f"{n}.jpg" for n in range(25)], "label": range(25)})
    parquet.write_table(table, "f/t.parquet", row_group_size=4)
    assert gathered("f/t.parquet", rows=10) == [
        Rows("f/t.parquet", "image", (0, 2), 0, 8),
        Rows("f/t.parquet", "image", (2, 4), 8, 8),
        Rows("f/t.parquet", "image", (4, 7), 16, 9),
    ]
    assert gathered("f/t.parquet", rows=3)[:2] == [
        Rows("f/t.parquet", "image", (0, 1), 0, 4),
        Rows("f/t.parquet", "image", (1, 2), 4, 4),
    ]
    assert gathered("f/t.parquet", column="jpg") == [Rows("f/t.parquet", "jpg", (0, 7), 0, 25)]
    assert gathered("f/t.parquet", column="path") == [f"f/{number}.jpg" for number in range(25)]
    for column, told in (("label", "neither bytes nor paths"), ("picture", "it has image, jpg, path, label")):
        with pytest.raises(ManifestError, match=told):
            gathered("f/t.parquet", column=column)


def test_what_holds_inputs_and_breaks_is_a_failure_and_the_rest_goes_on() -> None:
    touch("a.jpg", "empty.parquet")
    Path("torn.parquet").write_bytes(b"PAR1 and no more")
    found = gathered("gone.txt", "gone.csv", "gone.parquet", "empty.parquet", "torn.parquet", "gone.tar", "a.jpg")
    assert kinds(found) == [
        *((f"gone.{suffix}", "missing") for suffix in ("txt", "csv", "parquet")),
        *((f"{name}.parquet", "corrupt") for name in ("empty", "torn")),
    ]
    assert found[-2:] == [Tar("gone.tar"), "a.jpg"]  # its judging will say so


def test_a_folder_that_is_called_like_a_list_is_a_folder() -> None:
    touch("odd.txt/a.jpg", "odd.tar/b.jpg")
    assert gathered("odd.txt", "odd.tar") == ["odd.txt/a.jpg", "odd.tar/b.jpg"]


def test_what_is_inside_an_archive_is_an_input() -> None:
    assert gathered("s.tar::a.txt", "t.parquet::3/image.tar") == ["s.tar::a.txt", "t.parquet::3/image.tar"]


def test_a_folder_at_an_address_is_the_pictures_in_it(memory: Any) -> None:
    for name in ("b.jpg", "a.PNG", "notes.txt", ".hidden.jpg", ".git/x.jpg", "c/z.webp", "c/deep/x.mp4", "s.tar"):
        memory.pipe_file(f"/photos/{name}", b"")
    whole = [f"memory://photos/{name}" for name in ("a.PNG", "b.jpg", "c/z.webp", "c/deep/x.mp4")]
    whole = [name.replace("memory://", "memory:///") for name in whole]
    for paths in (["memory://photos/"], ["memory://photos"], ["memory://photos/", "memory://photos"]):
        assert gathered(*paths) == whole
    assert gathered("memory://photos/b.jpg", "memory://photos/") == [
        "memory://photos/b.jpg",
        *(name for name in whole if not name.endswith("b.jpg")),
    ]
    assert gathered("memory://photos/", "memory://photos/b.jpg", "memory://photos/notes") == [
        *whole,
        "memory://photos/notes",
    ]
    assert kinds(gathered("memory://gone/")) == [("memory:///gone", "missing")]


def test_listings_are_not_kept(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[str] = []
    listed = type(memory).ls

    def ls(self: Any, path: str, **options: Any) -> Any:
        assert not kept, "as stores' file systems keep them, until they are told not to"
        kept.append(path)
        return listed(self, path, **options)

    monkeypatch.setattr(type(memory), "ls", ls)
    monkeypatch.setattr(type(memory), "invalidate_cache", lambda self, path=None: kept.clear())
    for name in ("a.jpg", "b/c.jpg", "b/d/e.jpg"):
        memory.pipe_file(f"/p/{name}", b"")
    assert len(gathered("memory://p/")) == 3
    assert not kept


def test_a_pattern_at_an_address_is_what_it_matches(memory: Any) -> None:
    for name in ("b.jpg", "a.jpg", "c/d.jpg", "odd [1].jpg"):
        memory.pipe_file(f"/p/{name}", b"")
    assert gathered("memory://p/*.jpg")[:2] == ["memory:///p/a.jpg", "memory:///p/b.jpg"]
    assert gathered("memory://p/**/d.jpg") == ["memory:///p/c/d.jpg"]
    assert gathered("memory://p/odd [1].jpg") == ["memory://p/odd [1].jpg"]
    assert kinds(gathered("memory://p/*.png")) == [("memory://p/*.png", "missing")]


def test_lists_and_tables_at_an_address_are_read_there(memory: Any) -> None:
    memory.pipe_file("/d/list.txt", b"a.jpg\nsub/b.jpg\nmemory://e/f.jpg\nt.parquet\n/abs.jpg\n")
    table = io.BytesIO()
    parquet.write_table(pyarrow.table({"bytes": [b"1", b"2"]}), table)
    memory.pipe_file("/d/t.parquet", table.getvalue())
    memory.pipe_file("/d/m.csv", b"url\nx.jpg\n")
    assert gathered("memory://d/list.txt", "memory://d/m.csv", "memory://d/s.tar") == [
        "memory://d/a.jpg",
        "memory://d/sub/b.jpg",
        "memory://e/f.jpg",
        Rows("memory://d/t.parquet", "bytes", (0, 1), 0, 2),
        "/abs.jpg",
        "memory://d/x.jpg",
        Tar("memory://d/s.tar"),
    ]


def test_a_list_of_web_addresses_may_itself_be_at_one(server: Server) -> None:
    pictures = [server.url(f"/{number}.jpg?size=*") for number in range(3)]
    listed = server.put("/list.txt?token=1", Reply("\n".join([*pictures, pictures[0]]).encode()))
    assert gathered(listed) == pictures
    assert [path for _, path, _ in server.asked] == ["/list.txt?token=1"]  # no picture is looked at
    assert kinds(gathered(server.url("/gone.csv"))) == [(server.url("/gone.csv"), "missing")]


def test_addresses_that_differ_in_a_query_alone_are_two() -> None:
    found = ["http://h/a?u=x//y", "http://h/a?u=x/y", "http://h/a?u=x/./y"]
    assert gathered(*found, *found) == found


def test_a_library_that_is_missing_stops_the_gathering(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*_: object, **__: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", lacking)
    with pytest.raises(AssayError, match=r"s3:// addresses need a library.*Install s3fs"):
        gathered("s3://bucket/a.jpg")


def test_an_address_on_this_disk_is_a_path(here: Path) -> None:
    touch("a b.jpg")
    assert gathered(f"file://{here}/a%20b.jpg", "a b.jpg") == [f"{here}/a b.jpg"]
