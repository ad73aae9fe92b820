"""Shards: every row goes in once, as it is, to the same bytes each time, and nothing is lost on the way."""

from __future__ import annotations

import collections
import hashlib
import json
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pyarrow
import pytest
import webdataset
from pyarrow import parquet

from assay.data import manifest, shards
from assay.data.index import Index
from assay.data.order import permutation
from assay.data.table import Table
from assay.errors import ManifestError, OutputError
from assay.image import place
from assay.types import Label, Sample

JPEG = b"\xff\xd8\xff\xe0"


def picture(folder: Path, name: str, size: int = 40) -> Path:
    """A file that begins as a JPEG does; what follows is its name."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((JPEG + name.encode()).ljust(size, b"."))
    return path


def rows(folder: Path, reals: int = 5, fakes: int = 7, split: str = "train") -> list[Sample]:
    words = ["real"] * reals + ["fake"] * fakes
    return [
        Sample(
            str(picture(folder, f"{split}-{number}.jpg")),
            Label[word.upper()],
            generator="sdxl" if word == "fake" else "",
            source="site, one",
            subject="ann+bob",
            video="v1",
            frame=number,
            split=split,
            groups={"compression": "c23"},
        )
        for number, word in enumerate(words)
    ]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def notes(folder: Path) -> list[dict[str, Any]]:
    found = []
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith(".json"):
                    file = tar.extractfile(member)
                    assert file
                    found.append(json.loads(file.read()))
    return found


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(ManifestError) as caught:
        call()
    return str(caught.value)


# ── what is written ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_each_tar_holds_one_split_and_one_class(tmp_path: Path) -> None:
    unknown = Sample(str(picture(tmp_path, "odd.jpg")), None)
    samples = [*rows(tmp_path), *rows(tmp_path, 2, 1, "tune"), *rows(tmp_path, 1, 0, "test"), unknown]
    index = shards.write(samples, tmp_path / "out", most=4)
    assert {shard.name: (shard.split, shard.label, shard.samples) for shard in index.shards} == {
        "train-real-000000.tar": ("train", Label.REAL, 4),
        "train-real-000001.tar": ("train", Label.REAL, 1),
        "train-fake-000000.tar": ("train", Label.FAKE, 4),
        "train-fake-000001.tar": ("train", Label.FAKE, 3),
        "tune-real-000000.tar": ("tune", Label.REAL, 2),
        "tune-fake-000000.tar": ("tune", Label.FAKE, 1),
        "test-real-000000.tar": ("test", Label.REAL, 1),
        "none-unlabelled-000000.tar": ("", None, 1),
    }
    assert set(contents(tmp_path / "out")) == {shard.name for shard in index.shards} | {"shards.json", "manifest.csv"}
    assert index.samples == len(samples)


def test_the_index_names_size_and_hash_of_each_tar(tmp_path: Path) -> None:
    index = shards.write(rows(tmp_path), tmp_path / "out")
    for shard in index.shards:
        data = Path(index.place(shard)).read_bytes()
        assert (shard.bytes, shard.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert Index.open(tmp_path / "out") == index == Index.open(tmp_path / "out" / "shards.json")


def test_the_reference_implementation_reads_every_sample_with_its_own_bytes(tmp_path: Path) -> None:
    samples = rows(tmp_path)
    index = shards.write(samples, tmp_path / "out", most=4)
    tars = [index.place(shard) for shard in index.shards]
    read = list(webdataset.WebDataset(tars, shardshuffle=False, empty_check=False))
    assert len(read) == len(samples)
    by_hash = {hashlib.sha256(Path(sample.place).read_bytes()).hexdigest(): sample for sample in samples}
    for item in read:
        note = json.loads(item["json"])
        sample = by_hash.pop(hashlib.sha256(item["jpg"]).hexdigest())
        assert item["__key__"] == note["sha256"] == note["origin"]
        assert sample.label is not None
        assert note | {"sha256": "", "origin": ""} == {
            "label": sample.label.name.lower(),
            "generator": sample.generator,
            "source": "site, one",
            "subject": "ann+bob",
            "video": "v1",
            "frame": sample.frame,
            "origin": "",
            "sha256": "",
            "split": "train",
            "compression": "c23",
        }
    assert not by_hash


def test_the_manifest_beside_the_shards_reads_the_same_samples_by_address(tmp_path: Path) -> None:
    samples = rows(tmp_path)
    shards.write(samples, tmp_path / "out", most=4)
    (tmp_path / "out").rename(tmp_path / "moved")
    read = manifest.read(tmp_path / "moved" / "manifest.csv")
    told = {place.read(sample.place): sample for sample in read}
    assert len(told) == len(samples)
    for sample in samples:
        data = Path(sample.place).read_bytes()
        found = told[data]
        assert found.sha256 == found.origin == hashlib.sha256(data).hexdigest()
        assert (found.label, found.frame, found.groups) == (sample.label, sample.frame, dict(sample.groups))


def test_an_origin_that_is_known_travels_and_the_hash_is_the_files_own(tmp_path: Path) -> None:
    path = picture(tmp_path, "crop.jpg")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    shards.write([Sample(str(path), Label.REAL, origin="ab" * 32, sha256=digest.upper())], tmp_path / "out")
    [note] = notes(tmp_path / "out")
    assert (note["origin"], note["sha256"]) == ("ab" * 32, digest)
    assert manifest.read(tmp_path / "out" / "manifest.csv")[0].origin == "ab" * 32


def test_members_are_named_by_content_not_by_the_files_suffix(tmp_path: Path) -> None:
    png = tmp_path / "a.jpg"
    png.write_bytes(b"\x89PNG\r\n\x1a\n and so on")
    clip = tmp_path / "b.MP4"
    clip.write_bytes(b"\0\0\0\x18ftypmp42 and so on")
    shards.write([Sample(str(png), None), Sample(str(clip), None)], tmp_path / "out")
    with tarfile.open(tmp_path / "out" / "none-unlabelled-000000.tar") as tar:
        names = {Path(name).suffix for name in tar.getnames()}
    assert names == {".png", ".mp4", ".json"}


def test_a_picture_that_stands_there_twice_is_two_samples(tmp_path: Path) -> None:
    path = picture(tmp_path, "a.jpg")
    (tmp_path / "b.jpg").write_bytes(path.read_bytes())
    index = shards.write([Sample(str(path), None), Sample(str(tmp_path / "b.jpg"), None)], tmp_path / "out")
    assert index.samples == 2
    assert len(manifest.read(tmp_path / "out" / "manifest.csv")) == 2
    assert len(list(webdataset.WebDataset([index.place(index.shards[0])], shardshuffle=False, empty_check=False))) == 2


def test_members_of_an_archive_go_in_without_unpacking(tmp_path: Path) -> None:
    first = shards.write(rows(tmp_path), tmp_path / "first")
    again = shards.write(manifest.read(tmp_path / "first" / "manifest.csv"), tmp_path / "again")
    assert again.samples == first.samples
    assert {note["sha256"] for note in notes(tmp_path / "again")} == {
        note["sha256"] for note in notes(tmp_path / "first")
    }


def test_cells_of_a_table_go_in_as_files_do(tmp_path: Path) -> None:
    samples = cells(tmp_path / "t.parquet", 6, columns=1)
    shards.write(samples, tmp_path / "out", most=4)
    read = manifest.read(tmp_path / "out" / "manifest.csv")
    assert {place.read(sample.place) for sample in read} == {place.read(sample.place) for sample in samples}
    assert len(read) == 6
    gone = Sample(place.join(tmp_path / "t.parquet", "6/gen0"), None)
    with pytest.raises(ManifestError, match="no row 6"):
        shards.write([*samples, gone], tmp_path / "more")


def test_a_tar_ends_before_it_grows_too_large_and_a_large_sample_has_its_own(tmp_path: Path) -> None:
    samples = [
        Sample(str(picture(tmp_path, f"{i}.jpg", size)), None) for i, size in enumerate([900] * 9 + [20_000, 30_000])
    ]
    index = shards.write(samples, tmp_path / "out", largest=9_000)
    assert index.samples == len(samples)
    assert all(shard.bytes <= 9_000 or shard.samples == 1 for shard in index.shards)
    assert sum(shard.bytes > 9_000 for shard in index.shards) == 2
    assert max(shard.samples for shard in index.shards) > 1


# ── the same bytes ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_same_rows_give_the_same_bytes_wherever_they_lie(tmp_path: Path) -> None:
    shards.write(rows(tmp_path / "a"), tmp_path / "one", most=3, workers=1)
    shards.write(Table.of(rows(tmp_path / "b")), tmp_path / "two", most=3, workers=7)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_the_bytes_of_a_version_are_those_of_the_next(tmp_path: Path) -> None:
    """Published checksums must hold: this one changes only with the format's version."""
    index = shards.write(rows(tmp_path, reals=9, fakes=0), tmp_path / "out")
    assert index.shards[0].sha256 == "c1060a8bed899c748b2d8fd2ae4ebe8dbc43769ec98a1dfb2f6d5b1d606655e4"


def test_rows_are_shuffled_by_the_seed(tmp_path: Path) -> None:
    samples = rows(tmp_path, reals=20, fakes=0)
    orders = []
    for seed in (0, 1):
        shards.write(samples, tmp_path / f"out{seed}", seed=seed)
        orders.append([note["frame"] for note in notes(tmp_path / f"out{seed}")])
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(20)) != orders[0]


# ── neighbours in Parquet tables ─────────────────────────────────────────────────────────────────────────────────────


def cells(table: Path, rows: int, columns: int = 4, group: int = 10) -> list[Sample]:
    """Fakes as D3's hub has them: some columns of pictures, `group` rows in a row group."""
    names = [f"gen{column}" for column in range(columns)]
    pictures = {
        name: [{"bytes": JPEG + f"{table.name}{name}{row}".encode(), "path": None} for row in range(rows)]
        for name in names
    }
    parquet.write_table(pyarrow.table(pictures), table, row_group_size=group)
    return [
        Sample(
            place.join(table, f"{row}/{name}"),
            Label.FAKE,
            generator=name,
            split="train",
            groups={"row": f"{table.stem}{row}"},
        )
        for row in range(rows)
        for name in names
    ]


Reads = collections.Counter[tuple[int, str]]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """How often each column of a row group is read where row groups are large, so that few are kept."""
    counted: Reads = collections.Counter()
    truly = parquet.ParquetFile.read_row_group

    def counting(self: Any, group: int, columns: list[str]) -> Any:
        counted[group, columns[0]] += 1
        return truly(self, group, columns=columns)

    monkeypatch.setattr(parquet.ParquetFile, "read_row_group", counting)
    monkeypatch.setattr(place, "_HELD", 0)
    return counted


def test_each_row_group_of_a_table_is_read_once(tmp_path: Path, reads: Reads) -> None:
    index = shards.write(cells(tmp_path / "t.parquet", 120), tmp_path / "out", most=70, workers=4)
    assert index.samples == 480
    assert reads == {(group, f"gen{column}"): 1 for group in range(12) for column in range(4)}


def test_row_groups_are_shuffled_and_so_are_the_cells_inside(tmp_path: Path) -> None:
    samples = cells(tmp_path / "t.parquet", 120)
    orders = []
    for seed in (0, 1):
        shards.write(samples, tmp_path / f"out{seed}", seed=seed)
        orders.append([(int(note["row"][1:]), note["generator"]) for note in notes(tmp_path / f"out{seed}")])
    for order in orders:
        blocks = [[row // 10 for row, _ in order[start : start + 40]] for start in range(0, 480, 40)]
        assert all(len(set(block)) == 1 for block in blocks)
        assert sorted(block[0] for block in blocks) == list(range(12)) != [block[0] for block in blocks]
        assert len({name for _, name in order[:10]}) > 2
        assert sorted(order) == sorted({(row, f"gen{column}") for row in range(120) for column in range(4)})
    assert orders[0] != orders[1]


def test_files_among_cells_all_go_in(tmp_path: Path, reads: Reads) -> None:
    samples = [*rows(tmp_path, reals=3, fakes=50), *cells(tmp_path / "t.parquet", 30, columns=1)]
    index = shards.write(samples, tmp_path / "out", most=15)
    assert index.samples == 83
    assert len({note["sha256"] for note in notes(tmp_path / "out")}) == 83
    assert set(reads.values()) == {1}


def test_writing_cells_that_was_stopped_is_gone_on_with_to_the_same_bytes(tmp_path: Path) -> None:
    samples = cells(tmp_path / "t.parquet", 12, group=5)
    shards.write(samples, tmp_path / "whole", most=7)

    def stop(done: int, total: int) -> None:
        if done == 31:
            raise Stopped

    with pytest.raises(Stopped):
        shards.write(samples, tmp_path / "out", most=7, progress=stop)
    shards.write(samples, tmp_path / "out", most=7)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize("change", [{"group": 4}, {"rows": 13}])
def test_a_table_that_was_written_anew_is_other_rows(tmp_path: Path, change: dict[str, int]) -> None:
    samples = cells(tmp_path / "t.parquet", 12, group=5)
    shards.write(samples, tmp_path / "out", most=7)
    shards.write(samples, tmp_path / "out", most=7)
    cells(tmp_path / "t.parquet", **{"rows": 12, "group": 5, **change})
    with pytest.raises(OutputError, match="other rows"):
        shards.write(samples, tmp_path / "out", most=7)


def test_a_table_of_the_same_size_with_other_row_groups_is_other_rows_too(tmp_path: Path) -> None:
    table = pyarrow.table({"gen0": [JPEG + b"%d" % number for number in range(5)]})
    samples = [Sample(place.join(tmp_path / "t.parquet", f"{row}/gen0"), None) for row in range(5)]
    sizes = []
    for first in (2, 3):
        with parquet.ParquetWriter(tmp_path / "t.parquet", table.schema, write_statistics=False) as writer:
            writer.write_table(table.slice(0, first))
            writer.write_table(table.slice(first))
        sizes.append((tmp_path / "t.parquet").stat().st_size)
        if first == 2:
            shards.write(samples, tmp_path / "out")
    assert sizes[0] == sizes[1]
    with pytest.raises(OutputError, match="other rows"):
        shards.write(samples, tmp_path / "out")


# ── stopped and gone on with ─────────────────────────────────────────────────────────────────────────────────────────


class Stopped(BaseException):
    """As Ctrl-C or a kill would come: nothing in between may catch it."""


@pytest.mark.parametrize("after", [1, 3, 4, 5, 8, 11])
def test_a_run_that_was_stopped_is_gone_on_with_to_the_same_bytes(tmp_path: Path, after: int) -> None:
    samples = rows(tmp_path)
    shards.write(samples, tmp_path / "whole", most=3)

    def stop(done: int, total: int) -> None:
        assert total == len(samples)
        if done == after:
            raise Stopped

    with pytest.raises(Stopped):
        shards.write(samples, tmp_path / "out", most=3, progress=stop)
    assert "not finished" in refused(lambda: Index.open(tmp_path / "out"))
    finished = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.tar")}
    steps: list[int] = []
    shards.write(samples, tmp_path / "out", most=3, progress=lambda done, total: steps.append(done))
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert all(path.stat().st_mtime_ns == time for path, time in finished.items())
    assert steps[-1] == len(samples)
    assert len(finished) == {1: 0, 3: 0, 4: 1, 5: 1, 8: 2, 11: 3}[after]


def test_a_process_that_was_killed_leaves_nothing_behind_that_the_next_does_not_mend(tmp_path: Path) -> None:
    samples = rows(tmp_path)
    manifest.write(tmp_path / "rows.csv", samples)
    script = (
        "import os, signal, sys\n"
        "from assay.data import manifest, shards\n"
        "stop = lambda done, total: done == 8 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "shards.write(manifest.read(sys.argv[1]), sys.argv[2], most=3, progress=stop)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "rows.csv", tmp_path / "out"], check=False)
    assert done.returncode == -signal.SIGKILL
    (tmp_path / "out" / ".manifest.csv.1.part").write_text("torn")
    assert "train-fake-000000.tar.part" in contents(tmp_path / "out")
    table = manifest.read(tmp_path / "rows.csv")
    shards.write(table, tmp_path / "out", most=3)
    shards.write(table, tmp_path / "whole", most=3)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_finished_set_is_proved_and_what_is_damaged_is_made_again(tmp_path: Path) -> None:
    samples = rows(tmp_path)
    shards.write(samples, tmp_path / "out", most=3)
    before = contents(tmp_path / "out")
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.tar")}
    tar = tmp_path / "out" / "train-fake-000001.tar"
    data = bytearray(tar.read_bytes())
    data[600] ^= 1
    tar.write_bytes(data)
    (tmp_path / "out" / "train-real-000000.tar").unlink()
    shards.write(samples, tmp_path / "out", most=3)
    assert contents(tmp_path / "out") == before
    kept = {path.name for path in (tmp_path / "out").glob("*.tar") if path.stat().st_mtime_ns == times[path.name]}
    assert kept == set(times) - {"train-fake-000001.tar", "train-real-000000.tar"}


def test_no_index_stands_while_a_damaged_tar_is_made_again(tmp_path: Path) -> None:
    samples = rows(tmp_path)
    shards.write(samples, tmp_path / "out", most=3)
    before = contents(tmp_path / "out")
    (tmp_path / "out" / "train-real-000001.tar").write_bytes(b"")

    def stop(done: int, total: int) -> None:
        if done == 4:
            raise Stopped

    with pytest.raises(Stopped):
        shards.write(samples, tmp_path / "out", most=3, progress=stop)
    assert "not finished" in refused(lambda: Index.open(tmp_path / "out"))
    shards.write(samples, tmp_path / "out", most=3)
    assert contents(tmp_path / "out") == before


def test_mending_that_is_stopped_forgets_nothing_of_what_it_had_not_come_to(tmp_path: Path) -> None:
    samples = rows(tmp_path)
    Path(samples[-1].place).write_bytes(b"?" * 40)
    shards.write(samples, tmp_path / "out", most=3, skip=True)
    before = contents(tmp_path / "out")
    (tmp_path / "out" / "train-real-000000.tar").write_bytes(b"")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("train-fake-*.tar")}

    def stop(done: int, total: int) -> None:
        if done == 5:
            raise Stopped

    with pytest.raises(Stopped):
        shards.write(samples, tmp_path / "out", most=3, skip=True, progress=stop)
    shards.write(samples, tmp_path / "out", most=3, skip=True)
    assert contents(tmp_path / "out") == before
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("train-fake-*.tar")} == times


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seed": 1}, "seed 0, now 1"),
        ({"most": 4}, "most 3, now 4"),
        ({"largest": 10**6}, "largest 536,870,912, now 1,000,000"),
    ],
)
def test_other_parameters_in_the_same_folder_are_refused(tmp_path: Path, change: dict[str, int], told: str) -> None:
    samples = rows(tmp_path)
    shards.write(samples, tmp_path / "out", most=3)
    before = contents(tmp_path / "out")
    with pytest.raises(OutputError, match=told):
        shards.write(samples, tmp_path / "out", **cast(Any, {"most": 3, **change}))
    assert contents(tmp_path / "out") == before


def test_other_rows_in_the_same_folder_are_refused(tmp_path: Path) -> None:
    samples = rows(tmp_path)
    shards.write(samples, tmp_path / "out")
    with pytest.raises(OutputError, match="rows 12, now 11"):
        shards.write(samples[1:], tmp_path / "out")
    with pytest.raises(OutputError, match="other rows"):
        shards.write(samples[::-1], tmp_path / "out")
    picture(tmp_path, "train-3.jpg", 41)
    with pytest.raises(OutputError, match="files' sizes"):
        shards.write(samples, tmp_path / "out")


def test_a_second_call_in_the_same_folder_at_once_is_refused(tmp_path: Path) -> None:
    samples = rows(tmp_path)

    def second(done: int, total: int) -> None:
        if done == 3:
            with pytest.raises(OutputError, match="another process is writing"):
                shards.write(samples, tmp_path / "out", most=2)

    assert shards.write(samples, tmp_path / "out", most=2, progress=second).samples == 12
    assert shards.write(samples, tmp_path / "out", most=2).samples == 12


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    samples = rows(tmp_path / "pictures")
    (tmp_path / "manifest.csv").write_text("mine")
    with pytest.raises(OutputError, match="holds no shards"):
        shards.write(samples, tmp_path)
    assert (tmp_path / "manifest.csv").read_text() == "mine"
    with pytest.raises(OutputError, match="is a file"):
        shards.write(samples, samples[0].place)


def test_a_full_disk_is_told_and_the_rest_is_done_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = rows(tmp_path)

    def full(handle: int) -> None:
        if len(list((tmp_path / "out").glob("*.tar"))) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="No space left") as caught:
        shards.write(samples, tmp_path / "out", most=3)
    assert caught.value.kind == "disk"
    monkeypatch.undo()
    shards.write(samples, tmp_path / "out", most=3)
    shards.write(samples, tmp_path / "whole", most=3)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


# ── what cannot be read ──────────────────────────────────────────────────────────────────────────────────────────────


def test_missing_and_empty_files_are_all_listed_before_anything_is_written(tmp_path: Path) -> None:
    samples = rows(tmp_path)
    Path(samples[2].place).unlink()
    Path(samples[9].place).write_bytes(b"")
    with pytest.raises(ManifestError, match="nothing was written") as caught:
        shards.write(samples, tmp_path / "out")
    assert [line.partition(":")[0] for line in caught.value.problems] == ["row 4", "row 11"]
    assert samples[2].place in caught.value.problems[0]
    assert "empty" in caught.value.problems[1]
    assert not (tmp_path / "out").exists()


def test_rows_that_turn_out_unfit_are_all_told_at_the_end_and_the_rest_is_kept(tmp_path: Path) -> None:
    samples = rows(tmp_path)
    page = Path(samples[1].place)
    page.write_bytes(b"<html>404".ljust(40))
    samples[6] = Sample(samples[6].place, Label.FAKE, sha256="ab" * 32, split="train")
    with pytest.raises(ManifestError, match="other rows are written") as caught:
        shards.write(samples, tmp_path / "out", most=3)
    assert [line.partition(":")[0] for line in caught.value.problems] == ["row 3", "row 8"]
    assert "SHA-256" in caught.value.problems[1]
    assert "not finished" in refused(lambda: Index.open(tmp_path / "out"))
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.tar")}
    index = shards.write(samples, tmp_path / "out", most=3, skip=True)
    assert index.samples == 10
    assert [(left.row, left.kind) for left in index.left_out] == [(3, "not_an_image"), (8, "corrupt")]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.tar")} == times


def test_a_row_that_was_left_out_comes_in_when_its_file_is_mended(tmp_path: Path) -> None:
    samples = rows(tmp_path)
    bad = Path(samples[4].place)
    good = bad.read_bytes()
    bad.write_bytes(b"?" * len(good))
    assert shards.write(samples, tmp_path / "out", most=3, skip=True).samples == 11
    bad.write_bytes(good)
    index = shards.write(samples, tmp_path / "out", most=3)
    assert (index.samples, index.left_out) == (12, ())
    shards.write(samples, tmp_path / "whole", most=3)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_rows_of_which_none_can_be_read_give_no_shards(tmp_path: Path) -> None:
    samples = [Sample(str(tmp_path / "gone.jpg"), None)]
    assert "gone.jpg" in refused(lambda: shards.write(samples, tmp_path / "out", skip=True))
    assert "no rows" in refused(lambda: shards.write([], tmp_path / "none"))


def test_the_last_rows_may_all_be_unreadable(tmp_path: Path) -> None:
    samples = rows(tmp_path, reals=3, fakes=0)
    order = permutation(3, "shards", 0, "train-real").tolist()
    Path(samples[order[2]].place).write_bytes(b"?" * 40)
    index = shards.write(samples, tmp_path / "out", most=2, skip=True)
    assert (index.samples, len(index.left_out), len(index.shards)) == (2, 1, 1)
    assert shards.write(samples, tmp_path / "out", most=2, skip=True) == index


def test_a_split_of_another_name_is_refused(tmp_path: Path) -> None:
    samples = [Sample(str(picture(tmp_path, "a.jpg")), None, split="../train")]
    assert "row 2" in refused(lambda: shards.write(samples, tmp_path / "out"))


@pytest.mark.parametrize("wrong", [{"most": 0}, {"largest": 0}, {"workers": 0}, {"largest": 1 << 50}])
def test_limits_that_make_no_sense_are_refused(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        shards.write(rows(tmp_path), tmp_path / "out", **cast(Any, wrong))
