"""Streams: every sample of an epoch once, over all consumers, in an order that can be taken up again."""

from __future__ import annotations

import collections
import contextlib
import copy
import dataclasses
import functools
import hashlib
import http.server
import io
import itertools
import json
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from assay.data import manifest, remote, shards
from assay.data.index import Index
from assay.data.stream import Share, length, stream, unpack
from assay.data.table import TEXT, Table
from assay.errors import InputError, ManifestError
from assay.image import place
from assay.types import Label, Sample


def write(folder: Path, reals: int, fakes: int, most: int) -> Index:
    (folder / "pictures").mkdir(parents=True)
    samples = []
    for number in range(reals + fakes):
        path = folder / "pictures" / f"{number}.jpg"
        path.write_bytes(b"\xff\xd8\xff" + f"picture {number}".encode() * 3)
        samples.append(Sample(str(path), Label(number >= reals), frame=number, split="train", groups={"c": "23"}))
    return shards.write(samples, folder / "out", most=most)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, int, int], Index]:
    """`sets(reals, fakes, most)`: shards that tests only read."""
    return functools.cache(lambda *numbers: write(tmp_path_factory.mktemp("set"), *numbers))


def frames(items: Iterator[tuple[Sample, bytes]]) -> list[int]:
    found = []
    for sample, data in items:
        assert data == b"\xff\xd8\xff" + f"picture {sample.frame}".encode() * 3
        assert sample.frame is not None
        found.append(sample.frame)
    return found


def error(items: Iterator[Any]) -> InputError:
    with pytest.raises(InputError) as caught:
        list(items)
    return caught.value


# ── every sample once ────────────────────────────────────────────────────────────────────────────────────────────────


@settings(deadline=None, max_examples=60)
@given(
    shape=st.sampled_from([(1, 0, 1), (5, 8, 3), (7, 0, 7), (20, 3, 4), (2, 2, 100)]),
    count=st.integers(1, 30),
    epoch=st.integers(0, 5),
    seed=st.integers(-3, 3),
    buffer=st.integers(1, 30),
    table=st.booleans(),
)
def test_every_sample_comes_once_an_epoch_whatever_the_consumers(
    sets: Callable[[int, int, int], Index],
    shape: tuple[int, int, int],
    count: int,
    epoch: int,
    seed: int,
    buffer: int,
    table: bool,
) -> None:
    index = sets(*shape)
    data = manifest.read(Path(index.source).with_name("manifest.csv")) if table else index
    shares = [
        frames(stream(data, epoch=epoch, seed=seed, share=Share(number, count), buffer=buffer))
        for number in range(count)
    ]
    assert sorted(itertools.chain(*shares)) == list(range(shape[0] + shape[1]))
    told = [length(data, epoch=epoch, seed=seed, share=Share(number, count)) for number in range(count)]
    assert told == [len(share) for share in shares]


@settings(deadline=None, max_examples=40)
@given(
    count=st.integers(1, 9),
    skip=st.integers(0, 30),
    buffer=st.integers(1, 12),
    table=st.booleans(),
    data=st.data(),
)
def test_what_is_skipped_changes_nothing_of_what_follows(
    sets: Callable[[int, int, int], Index], count: int, skip: int, buffer: int, table: bool, data: st.DataObject
) -> None:
    index = sets(20, 3, 4)
    rows = manifest.read(Path(index.source).with_name("manifest.csv")) if table else index
    share = Share(data.draw(st.integers(0, count - 1)), count)
    whole = frames(stream(rows, share=share, buffer=buffer))
    assert frames(stream(rows, share=share, buffer=buffer, skip=skip)) == whole[skip:]


def test_shards_that_were_used_up_are_not_opened_again(tmp_path: Path) -> None:
    index = write(tmp_path, 20, 0, 5)
    whole = [sample.place for sample, _ in stream(index, buffer=2)]
    used = {place.partition("::")[0] for place in whole[:13]} - {place.partition("::")[0] for place in whole[12:]}
    assert used
    for tar in used:
        Path(tar).unlink()
    assert [sample.place for sample, _ in stream(index, buffer=2, skip=13)] == whole[13:]


def test_the_same_arguments_give_the_same_order_and_others_another(sets: Callable[[int, int, int], Index]) -> None:
    index = sets(20, 3, 4)
    table = manifest.read(Path(index.source).with_name("manifest.csv"))
    for data in (index, table, list(table), copy.deepcopy(index)):  # as a loader's workers get it
        first = frames(stream(data, epoch=1, seed=2))
        assert first == frames(stream(data, epoch=1, seed=2))
        assert first != frames(stream(data, epoch=2, seed=2))
        assert first != frames(stream(data, epoch=1, seed=3))
    assert frames(stream(table, seed=2)) == frames(stream(list(table), seed=2))


def test_whole_shards_are_dealt_out_so_that_shares_are_alike(sets: Callable[[int, int, int], Index]) -> None:
    index = sets(20, 3, 4)  # shards of 4, 4, 4, 4, 4 and 3
    for epoch in range(5):
        tars = [
            {sample.place.partition("::")[0] for sample, _ in stream(index, epoch=epoch, share=Share(number, 3))}
            for number in range(3)
        ]
        assert [len(part) for part in tars] == [2, 2, 2]
        assert len(set.union(*tars)) == 6


def test_more_consumers_than_shards_crowd_where_there_is_most_to_read(tmp_path: Path) -> None:
    index = write(tmp_path, 22, 0, 20)  # shards of 20 and 2
    lengths = sorted(length(index, share=Share(number, 6)) for number in range(6))
    assert lengths == [2, 4, 4, 4, 4, 4]
    alike = write(tmp_path / "alike", 12, 8, 100)
    assert [length(alike, share=Share(number, 5)) for number in range(5)] == [4] * 5


def test_each_epoch_draws_both_the_shards_and_the_buffer_anew(sets: Callable[[int, int, int], Index]) -> None:
    many, one = sets(20, 3, 4), sets(20, 0, 100)
    assert len({tuple(frames(stream(many, epoch=epoch, buffer=1))) for epoch in range(4)}) == 4
    assert len({tuple(frames(stream(one, epoch=epoch, buffer=8))) for epoch in range(4)}) == 4


def test_a_shuffle_buffer_mixes_and_one_of_a_single_sample_keeps_the_shards_order(
    sets: Callable[[int, int, int], Index],
) -> None:
    index = sets(20, 0, 100)
    with tarfile.open(index.place(index.shards[0])) as tar:
        names = [name for name in tar.getnames() if name.endswith(".jpg")]
    kept = [sample.place.partition("::")[2] for sample, _ in stream(index, buffer=1)]
    mixed = [sample.place.partition("::")[2] for sample, _ in stream(index, buffer=8)]
    assert kept == names != mixed
    assert sorted(mixed) == sorted(names)


def test_a_class_and_a_split_can_be_read_alone(sets: Callable[[int, int, int], Index]) -> None:
    index = sets(5, 8, 3)
    table = manifest.read(Path(index.source).with_name("manifest.csv"))
    for data in (index, table, list(table)):
        assert sorted(frames(stream(data, label=Label.REAL, split="train"))) == list(range(5))
        assert sorted(frames(stream(data, label=Label.FAKE, split=["train", "tune"]))) == list(range(5, 13))
        with pytest.raises(ManifestError, match="test"):
            stream(data, split="test")


def test_a_streamed_sample_is_the_manifests(sets: Callable[[int, int, int], Index]) -> None:
    index = sets(5, 8, 3)
    table = manifest.read(Path(index.source).with_name("manifest.csv"))
    assert {sample.place: sample for sample, _ in stream(index)} == {sample.place: sample for sample in table}


def test_a_million_rows_are_shuffled_without_making_samples_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(Table, "_sample", lambda self, cells, label: made.append(cells["path"]))
    places = np.arange(1_000_000).astype(TEXT)
    table = Table({"path": places}, np.zeros(1_000_000, np.int8))
    rest = stream(table, label=Label.REAL, share=Share(3, 8), skip=10)
    assert length(table, share=Share(3, 8)) == 125_000
    with pytest.raises(AttributeError):  # None has no place
        next(rest)
    assert len(made) == 1


# ── neighbours in Parquet tables ─────────────────────────────────────────────────────────────────────────────────────


def cells(folder: Path, files: int, rows: int, group: int) -> Table:
    """Pictures in two columns of some Parquet tables; a sample's frame is what its picture says."""
    samples = []
    for file in range(files):
        first = 2 * rows * file
        columns = {
            name: [b"\xff\xd8\xff" + f"picture {first + 2 * row + column}".encode() * 3 for row in range(rows)]
            for column, name in enumerate(("one", "two"))
        }
        path = folder / f"{file}.parquet"
        parquet.write_table(pyarrow.table(columns), path, row_group_size=group)
        samples += [
            Sample(place.join(path, f"{row}/{name}"), Label.FAKE, frame=first + 2 * row + column, split="train")
            for row in range(rows)
            for column, name in enumerate(("one", "two"))
        ]
    return Table.of(samples)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, int, int], Table]:
    """`tables(files, rows, group)`: cells that tests only read."""
    return functools.cache(lambda *numbers: cells(tmp_path_factory.mktemp("cells"), *numbers))


Reads = collections.Counter[tuple[str, int, str]]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """How often a row group's column is read where one row group is kept."""
    counted: Reads = collections.Counter()
    truly = place._chunk

    def counting(archive: str, group: int, column: str) -> Any:
        counted[archive, group, column] += 1
        return truly(archive, group, column)

    monkeypatch.setattr(place, "_chunk", counting)
    monkeypatch.setattr(place, "_HELD", 0)
    monkeypatch.setattr(place, "_GROUPS", 1)
    place._cells.clear()
    return counted


@settings(deadline=None, max_examples=60)
@given(
    shape=st.sampled_from([(1, 1, 1), (2, 7, 3), (3, 10, 10), (1, 20, 4)]),
    count=st.integers(1, 30),
    epoch=st.integers(0, 5),
    buffer=st.integers(1, 30),
    skip=st.integers(0, 20),
)
def test_every_cell_comes_once_an_epoch_and_what_is_skipped_changes_nothing(
    tables: Callable[[int, int, int], Table],
    shape: tuple[int, int, int],
    count: int,
    epoch: int,
    buffer: int,
    skip: int,
) -> None:
    table = tables(*shape)
    shares = [Share(number, count) for number in range(count)]
    found = [frames(stream(table, epoch=epoch, share=share, buffer=buffer)) for share in shares]
    assert sorted(itertools.chain(*found)) == list(range(2 * shape[0] * shape[1]))
    assert [length(table, epoch=epoch, share=share) for share in shares] == [len(part) for part in found]
    for share, part in zip(shares, found, strict=True):
        assert frames(stream(table, epoch=epoch, share=share, buffer=buffer, skip=skip)) == part[skip:]


@pytest.mark.parametrize("count", [1, 4, 7])
def test_a_row_group_is_read_by_one_consumer_or_by_two_where_shares_meet(
    tables: Callable[[int, int, int], Table], reads: Reads, count: int
) -> None:
    table = tables(3, 40, 5)
    for number in range(count):
        frames(stream(table, share=Share(number, count), buffer=16))
    assert len(reads) == 3 * 8 * 2
    assert sum(reads.values()) <= 3 * 8 * 2 + 2 * (count - 1)


def test_row_groups_that_were_used_up_are_not_read_again(
    tables: Callable[[int, int, int], Table], reads: Reads
) -> None:
    table = tables(3, 40, 5)
    whole = frames(stream(table, buffer=8))
    reads.clear()
    assert frames(stream(table, buffer=8, skip=120)) == whole[120:]
    assert 24 <= sum(reads.values()) <= 28


def test_row_groups_come_in_another_order_each_epoch_and_cells_mix_inside(
    tables: Callable[[int, int, int], Table],
) -> None:
    table = tables(3, 40, 5)
    epochs = [frames(stream(table, epoch=epoch, buffer=1)) for epoch in range(3)]
    orders = [[epoch[start] // 10 for start in range(0, 240, 10)] for epoch in epochs]
    assert len({tuple(order) for order in orders}) == 3
    for epoch in epochs:
        groups = [{frame // 10 for frame in epoch[start : start + 10]} for start in range(0, 240, 10)]
        assert all(len(group) == 1 for group in groups)
        assert epoch[:10] != sorted(epoch[:10])
    mixed = frames(stream(table, buffer=30))
    assert len({frame // 10 for frame in mixed[:10]}) > 1
    assert mixed == frames(stream(list(table), buffer=30))


def test_files_among_cells_come_once_too(tmp_path: Path, tables: Callable[[int, int, int], Table]) -> None:
    table = tables(1, 20, 4)
    path = tmp_path / "a.jpg"
    path.write_bytes(b"\xff\xd8\xff" + b"picture 40" * 3)
    both = [*table, Sample(str(path), Label.FAKE, frame=40, split="train")]
    assert sorted(frame for number in range(3) for frame in frames(stream(both, share=Share(number, 3)))) == list(
        range(41)
    )


def test_a_cell_that_is_not_there_is_an_error_that_names_it(tables: Callable[[int, int, int], Table]) -> None:
    sample = tables(1, 20, 4)[0]
    gone = dataclasses.replace(sample, place=sample.place.replace("::0/", "::99/"))
    caught = error(stream([sample, gone]))
    assert caught.kind == "missing"
    assert gone.place in str(caught)


# ── what is asked for ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("number", "count"), [(-1, 2), (2, 2), (0, 0)])
def test_a_share_that_does_not_exist_is_refused(number: int, count: int) -> None:
    with pytest.raises(ValueError, match="consumer"):
        Share(number, count)


def test_a_file_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path) -> None:
    gone = Sample(str(tmp_path / "gone.jpg"), Label.REAL)
    caught = error(stream([gone]))
    assert caught.kind == "missing"
    assert gone.place in str(caught)


# ── torn, altered and hostile shards ─────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return write(tmp_path, 6, 0, 100)


def tar_of(index: Index) -> Path:
    return Path(index.place(index.shards[0]))


@pytest.mark.parametrize("left", [0, 100, 512, 700, 1600, 5000, -512, -1])
def test_a_torn_shard_is_an_error_that_says_what_to_do(index: Index, left: int) -> None:
    data = tar_of(index).read_bytes()
    tar_of(index).write_bytes(data[:left])
    caught = error(stream(index))
    assert caught.kind == "truncated"
    assert "train-real-000000.tar" in str(caught)
    assert "run the command" in str(caught)


@pytest.mark.parametrize("size", [29_000, 30_000, 30_500, 31_000, 31_500])
def test_a_shard_is_read_to_its_end_however_its_blocks_fall(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"\xff\xd8\xff" + bytes(size))
    index = shards.write([Sample(str(path), None)], tmp_path / "out")
    assert [len(data) for _, data in stream(index)] == [size + 3]


@pytest.mark.parametrize("share", [Share(), Share(1, 3)])
def test_any_flipped_bit_is_noticed(index: Index, share: Share) -> None:
    whole = tar_of(index).read_bytes()
    for at in range(0, len(whole), 97):
        data = bytearray(whole)
        data[at] ^= 4
        tar_of(index).write_bytes(data)
        assert error(stream(index, share=share, buffer=1)).kind == "corrupt", at


def test_a_shard_that_is_longer_is_not_the_one(index: Index) -> None:
    tar_of(index).write_bytes(tar_of(index).read_bytes() + b"\0")
    assert error(stream(index)).kind == "corrupt"


def test_a_picture_whose_bytes_were_altered_never_comes_out(index: Index) -> None:
    data = tar_of(index).read_bytes()
    at = data.index(b"picture 3")
    tar_of(index).write_bytes(data[:at] + b"Picture 3" + data[at + 9 :])
    had: list[int | None] = []

    def noted() -> Iterator[None]:
        for sample, _ in stream(index, buffer=1):
            had.append(sample.frame)
            yield

    assert error(noted()).kind == "corrupt"
    assert 3 not in had


def test_a_shard_that_holds_other_samples_than_its_index_says_is_refused(index: Index) -> None:
    shard = index.shards[0].model_copy(update={"samples": 7})
    caught = error(stream(Index(index.source, index.plan, (shard,))))
    assert caught.kind == "corrupt"
    assert "other samples" in str(caught)


def test_a_shard_that_vanished_is_missing(index: Index) -> None:
    tar_of(index).unlink()
    assert error(stream(index)).kind == "missing"


def packed(*members: tuple[str | tarfile.TarInfo, bytes]) -> io.BytesIO:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, data in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    file.seek(0)
    return file


def test_a_tar_of_the_reference_implementation_is_read(tmp_path: Path) -> None:
    with webdataset.TarWriter(str(tmp_path / "x.tar"), encoder=False) as writer:
        for number in range(5):
            note = {"label": number % 2, "generator": "sdxl", "quality": 75, "seen": None}
            key = f"set/{number:03d}"
            writer.write({"__key__": key, "jpg": b"\xff\xd8%d" % number, "json": json.dumps(note).encode()})
    with (tmp_path / "x.tar").open("rb") as file:
        found = list(unpack(file, "x.tar"))
    assert [data for _, data in found] == [b"\xff\xd8%d" % number for number in range(5)]
    assert found[3][0] == Sample("x.tar::set/003.jpg", Label.FAKE, generator="sdxl", groups={"quality": "75"})
    assert [sample.label for sample, _ in found] == [0, 1, 0, 1, 0]


def test_members_that_belong_to_no_sample_are_passed_over() -> None:
    link = tarfile.TarInfo("c.jpg")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    file = packed(
        ("readme.txt", b"hello"),
        ("a.json", b'{"label": "real"}'),
        ("a.cls", b"1"),
        ("a.jpg", b"A"),
        ("a.png", b"second picture"),
        ("lonely.jpg", b"no note"),
        ("b.jpg", b"B"),
        ("b.json", b"{}"),
        (link, b""),
        ("c.json", b"{}"),
    )
    assert [(sample.place, sample.label, data) for sample, data in unpack(file, "t.tar")] == [
        ("t.tar::a.jpg", Label.REAL, b"A"),
        ("t.tar::b.jpg", None, b"B"),
    ]


@pytest.mark.parametrize(
    "note", [b"", b"[]", b"{", b"\xff", b'{"label": "cat"}', b'{"label": 2}', b'{"frame": "x"}', b'{"frame": 1e999}']
)
def test_a_note_that_cannot_be_meant_is_an_error_that_names_its_sample(note: bytes) -> None:
    caught = error(unpack(packed(("a.jpg", b"A"), ("a.json", note)), "t.tar"))
    assert caught.kind == "corrupt"
    assert "t.tar::a.jpg" in str(caught)


def test_a_member_that_claims_to_be_huge_is_refused_before_it_is_read() -> None:
    info = tarfile.TarInfo("a.jpg")
    info.size = 1 << 40
    caught = error(unpack(io.BytesIO(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024)), "t.tar"))
    assert caught.kind == "too_many_bytes"
    large = packed(("a.jpg", b"A"), ("a.json", b" " * (1 << 20) + b"{}"))
    assert error(unpack(large, "t.tar")).kind == "too_many_bytes"


def test_a_sparse_member_which_is_small_on_disk_and_huge_in_memory_is_passed_over() -> None:
    info = tarfile.TarInfo("a.jpg")
    info.size = 1
    info.pax_headers = {
        "GNU.sparse.map": "0,1",
        "GNU.sparse.size": str(1 << 29),
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
    }
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info, io.BytesIO(b"A"))
        note = tarfile.TarInfo("a.json")
        note.size = 2
        tar.addfile(note, io.BytesIO(b"{}"))
    file.seek(0)
    with tarfile.open(fileobj=file) as tar:
        assert tar.getmember("a.jpg").size == 1 << 29
    file.seek(0)
    assert list(unpack(file, "t.tar")) == []


@settings(deadline=None, max_examples=200)
@given(data=st.binary(max_size=1500), at=st.integers(0, 4000))
def test_no_bytes_make_anything_but_samples_or_an_input_error(data: bytes, at: int) -> None:
    whole = packed(("a.jpg", b"A"), ("a.json", b"{}"), ("é" * 150 + ".jpg", b"B"), ("b.json", b"{}")).getvalue()
    file = io.BytesIO(whole[:at] + data + whole[at + len(data) :])
    with contextlib.suppress(InputError):
        for sample, _ in unpack(file, "t.tar"):
            assert sample.place.startswith("t.tar::")


# ── over HTTP ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Server(http.server.ThreadingHTTPServer):
    """Serves a folder, and misbehaves where it is asked to: `cuts` answers end early, `busy` answers are 503."""

    daemon_threads = True
    cuts = busy = sent = 0
    ranges = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    seen: list[str] = []  # noqa: RUF012 (replaced for each server)
    folder: Path

    def do_GET(self) -> None:
        self.seen.append(self.path)
        if self.path.startswith("/away"):
            self.send_response(302)
            self.send_header("Location", "file:///etc/passwd" if "file" in self.path else "ftp://127.0.0.1/x")
            self.end_headers()
            return
        path = self.folder / self.path.partition("?")[0].lstrip("/")
        if self.server.busy or not path.is_file():
            self.send_error(503 if self.server.busy else 404)
            self.server.busy = max(0, self.server.busy - 1)
            return
        data = path.read_bytes()
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1]) if self.server.ranges else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if self.server.cuts and path.suffix == ".tar":
            self.server.cuts -= 1
            self.server.sent += 3000
            self.wfile.write(data[start : start + 3000])
            return
        self.server.sent += len(data) - start
        self.wfile.write(data[start:])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    write(tmp_path, 20, 3, 8)
    monkeypatch.setattr(remote, "WAITS", (0.0, 0.0, 0.0))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    handler = type("Here", (Handler,), {"folder": tmp_path / "out", "seen": []})
    with Server(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=functools.partial(running.serve_forever, poll_interval=0.01))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def asked(server: Server) -> list[str]:
    found: list[str] = server.RequestHandlerClass.seen  # type: ignore[attr-defined]
    return found


def test_shards_behind_an_address_give_the_same_samples_in_the_same_order(server: Server, tmp_path: Path) -> None:
    here = Index.open(tmp_path / "out")
    for address in (server.url, f"{server.url}/", f"{server.url}/shards.json"):
        there = Index.open(address)
        assert there.shards == here.shards
    assert frames(stream(there, seed=1)) == frames(stream(here, seed=1))
    sample, _ = next(iter(stream(there)))
    assert sample.place.startswith(f"{server.url}/train-")
    assert "::" in sample.place


def test_a_token_in_the_address_goes_with_every_request(server: Server) -> None:
    frames(stream(Index.open(f"{server.url}/shards.json?token=a%20b")))
    frames(stream(Index.open(f"{server.url}?token=a%20b")))
    assert len(asked(server)) == 10
    assert all(path.endswith("?token=a%20b") for path in asked(server))


@pytest.mark.parametrize("ranges", [True, False])
def test_a_lost_connection_is_taken_up_where_it_was_lost(server: Server, ranges: bool) -> None:
    index = Index.open(server.url)
    server.cuts, server.ranges, server.sent = 3, ranges, 0
    assert sorted(frames(stream(index, buffer=1))) == list(range(23))
    assert server.cuts == 0
    if ranges:
        assert server.sent == sum(shard.bytes for shard in index.shards)


def test_a_connection_that_is_lost_again_and_again_is_an_error(server: Server) -> None:
    index = Index.open(server.url)
    server.cuts, server.ranges = 99, False
    assert error(stream(index)).kind == "unreadable"


def test_a_server_that_is_busy_is_asked_again(server: Server) -> None:
    server.busy = 2
    assert Index.open(server.url).samples == 23
    server.busy = 99
    with pytest.raises(ManifestError, match="503"):
        Index.open(server.url)


def test_what_is_not_there_is_missing_and_asked_for_once(server: Server, tmp_path: Path) -> None:
    index = Index.open(server.url)
    for path in (tmp_path / "out").glob("*.tar"):
        path.unlink()
    assert error(stream(index)).kind == "missing"
    with pytest.raises(ManifestError, match="404"):
        Index.open(f"{server.url}/elsewhere")
    assert len(asked(server)) == 3


def test_a_shard_that_was_cut_or_altered_on_the_server_is_told_apart(server: Server, tmp_path: Path) -> None:
    index = Index.open(server.url)
    tars = sorted((tmp_path / "out").glob("*.tar"))
    whole = {path: path.read_bytes() for path in tars}
    for path, data in whole.items():
        path.write_bytes(data[:-700])
    assert error(stream(index)).kind == "truncated"
    for path, data in whole.items():
        path.write_bytes(data + b"more")
    assert error(stream(index)).kind == "corrupt"


@pytest.mark.parametrize("way", ["file", "ftp"])
def test_a_redirection_to_anything_but_http_is_not_followed(server: Server, way: str) -> None:
    with pytest.raises(ManifestError, match=r"not followed|not allowed"):
        Index.open(f"{server.url}/away-{way}/shards.json")


def test_an_index_that_never_ends_is_not_read_to_its_end(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.data.index.LARGEST_INDEX", 100)
    with pytest.raises(ManifestError, match="longer than 100 bytes"):
        Index.open(server.url)


def test_no_address_is_opened_but_the_users_own(server: Server, tmp_path: Path) -> None:
    index = Index.open(tmp_path / "out")
    list(stream(index))
    assert asked(server) == []
    assert hashlib.sha256(tar_of(index).read_bytes()).hexdigest() == index.shards[0].sha256
