from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from answering import Reply, Server, encoded
from assay.errors import AssayError, InputError, OutputError

fsspec = pytest.importorskip("fsspec", reason="needs fsspec, which the extra cluster installs")

from assay.cluster import storage  # noqa: E402
from assay.cluster.storage import Folder, is_address, local  # noqa: E402


@pytest.fixture
def memory() -> Iterator[str]:
    """An address in this process's memory, empty again afterwards."""
    files = fsspec.filesystem("memory")
    yield "memory://results"
    files.store.clear()
    files.pseudo_dirs[:] = [""]


@pytest.fixture(params=["path", "memory", "local"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, memory: str) -> Folder:
    """A folder on a disk, and two at addresses: folders need not be made in one, and have to be in the other."""
    path = str(tmp_path / "new" / "out")
    made = Folder({"path": path, "memory": memory, "local": f"local://{path}"}[request.param])
    made.make()
    return made


def test_an_address_is_told_from_a_path() -> None:
    assert all(map(is_address, ("s3://bucket/a.jpg", "HTTP://host/a", "a+b://c")))
    assert not any(map(is_address, ("a.jpg", "/a//b", "./s3:/a", "://x", "1s://x", "a b://c")))
    assert local("file:///a%20b/c.jpg") == "/a b/c.jpg"
    assert local("s3://a/b") == "s3://a/b"


def test_what_is_written_is_read_and_listed(folder: Folder) -> None:
    assert folder.names() == folder.names("below") == []
    assert folder.read("a") is None
    folder.write("b", b"1")
    folder.write("a", b"2", lasting=False)
    folder.make("below")
    folder.make("below")
    folder.write("below/c", b"3")
    folder.write("b", b"4")
    assert folder.names() == ["a", "b", "below"]
    assert folder.names("below") == ["c"]
    assert (folder.read("a"), folder.read("b"), folder.read("below/c")) == (b"2", b"4", b"3")
    with folder.opened("b") as file:
        assert file.read() == b"4"
    folder.remove("b")
    folder.remove("b")
    assert folder.names() == ["a", "below"]


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder(str(tmp_path))
    folder.write("a", b"before")

    def full(handle: int) -> None:
        assert folder.read("a") == b"before"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left") as caught:
        folder.write("a", b"after")
    assert caught.value.kind == "disk"
    assert "make room" in str(caught.value)
    assert folder.read("a") == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("status", "kind"), [(404, "missing"), (410, "missing"), (403, "permission"), (500, "unreadable")]
)
def test_what_cannot_be_fetched_says_why(
    server: Server, monkeypatch: pytest.MonkeyPatch, status: int, kind: str
) -> None:
    monkeypatch.setattr(storage, "WAITS", (0.0,))
    address = server.put("/a.jpg", Reply(b"", status))
    with pytest.raises(InputError) as caught:
        storage.read(address, 10)
    assert caught.value.kind == kind


def test_a_fault_that_passes_is_tried_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "WAITS", (0.0,))
    picture = encoded("PNG")
    # It is asked how much there is, and then for it; each may fail once.
    address = server.put("/a.png", Reply(b"", 503), Reply(picture))
    assert storage.read(address, 1 << 20) == picture
    assert storage.read(address, 4) == picture[:4]


def test_an_address_of_no_known_kind_or_inside_another_is_refused() -> None:
    for address in ("nonsense://a/b", "zip://a.jpg::s3://bucket/a.zip"):
        with pytest.raises(InputError) as caught:
            storage.read(address, 1)
        assert caught.value.kind == "unsupported"
    with pytest.raises(OutputError):
        Folder("nonsense://a")


def test_a_library_that_is_missing_is_no_fault_of_an_input(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*_: object, **__: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", lacking)
    with pytest.raises(AssayError, match="Install s3fs") as caught:
        storage.read("s3://bucket/a.jpg", 1)
    assert not isinstance(caught.value, InputError)
    assert caught.value.kind == "needs_extra"
