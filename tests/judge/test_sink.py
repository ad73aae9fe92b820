from __future__ import annotations

import csv
import dataclasses
import errno
import io
import json
import multiprocessing
import os
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from assay.errors import OutputError
from assay.judge import sink
from assay.judge.sink import COLUMNS, Csv, JsonLines, Keys, Results, Stream, Table, format_of, printable
from assay.types import Box, Failure, Glimpse, Ruling, StreamScore, Track, Verdict

BUNDLE = "ab" * 32
NAMES = [
    "a.jpg",
    "line\nbreak.png",
    'quo"te,d.png',
    "stray\udcff\udc80.jpg",
    "return\r.jpg",
    "ü – 雨.webp",
    "\x1b[2Jx.gif",
]


def verdict(name: str, bundle: str = BUNDLE) -> Verdict:
    return Verdict(
        verdict=Ruling.FAKE,
        score=0.93,
        threshold=0.71,
        doubt=(0.3, 0.71),
        fpr=0.05,
        streams=(StreamScore("code", 0.93), StreamScore("face", None, "no face found")),
        reasons=("score 0.93 is at or above the threshold 0.71", "second"),
        detector={"name": "tiny", "version": "1", "sha256": bundle},
        input=name,
        sha256="cd" * 32,
        width=640,
        height=480,
    )


def failure(name: str) -> Failure:
    return Failure(name, "truncated", 'the file ends "early"\n, get it again')


def result(number: int, name: str) -> Verdict | Failure:
    return failure(name) if number % 3 == 1 else verdict(name)


@pytest.fixture(params=["json", "csv"])
def format(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of resumed runs need not each wait for the disk."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)


def fill(path: Path, format: str, names: list[str] = NAMES) -> None:
    with Results(path, format, BUNDLE) as results:
        for number, name in enumerate(names):
            if results.holds(name) is None:
                results.write(result(number, name))


def inputs_of(path: Path, format: str) -> list[str]:
    """The inputs in a results file, read by the standard library alone."""
    data = path.read_bytes()
    assert data.endswith(b"\n")
    if format == "json":
        return [json.loads(line)["input"] for line in data.splitlines()]
    return [row["input"] for row in csv.DictReader(io.StringIO(data.decode(), newline=""), strict=True)]


# ── records ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_json_line_has_the_keys_of_the_product() -> None:
    line = json.loads(JsonLines().encode(verdict("a.jpg")))
    assert line["input"] == "a.jpg"
    assert line["verdict"] == "fake"
    assert line["score"] == 0.93
    assert line["threshold"] == 0.71
    assert line["fpr"] == 0.05
    assert line["streams"] == [
        {"name": "code", "score": 0.93},
        {"name": "face", "applies": False, "reason": "no face found"},
    ]
    assert line["detector"] == {"name": "tiny", "version": "1", "sha256": BUNDLE}
    assert (line["width"], line["height"], line["sha256"]) == (640, 480, "cd" * 32)


def test_a_failure_is_an_error_and_never_a_score() -> None:
    line = json.loads(JsonLines().encode(failure("b.jpg")))
    assert line == {"input": "b.jpg", "error": {"kind": "truncated", "message": failure("b.jpg").message}}
    [row] = csv.DictReader(io.StringIO(Csv().header.decode() + Csv().encode(failure("b.jpg")).decode(), newline=""))
    assert (row["error_kind"], row["verdict"], row["score"]) == ("truncated", "", "")


@pytest.mark.parametrize("name", NAMES)
def test_any_file_name_comes_back_from_its_record(name: str, format: str) -> None:
    form = sink.FORMATS[format]()
    for given in (verdict(name), failure(name)):
        assert form.decode(form.encode(given)).key == form.key(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_json_line_is_ascii_on_one_line_and_keeps_the_name(name: str) -> None:
    record = JsonLines().encode(verdict(name))
    assert record.isascii()
    assert record.count(b"\n") == 1
    assert json.loads(record)["input"] == name


def test_csv_names_differ_where_file_names_differ() -> None:
    names = ["\udcff", "\\udcff", "\\\\udcff", "\\\udcff", "\\\\\udcff", "\0", "\\u0000", "\\x", "C:\\users\\a", "\\"]
    stored = [Csv().key(name) for name in names]
    assert len(set(stored)) == len(names)
    assert all("\0" not in name and name.encode() for name in stored)
    assert stored[-3:] == names[-3:]


def test_csv_has_one_row_a_result_under_stable_columns() -> None:
    text = Csv().header + Csv().encode(verdict("a.jpg"))
    [row] = csv.DictReader(io.StringIO(text.decode(), newline=""))
    assert tuple(row) == COLUMNS
    assert row["score"] == "0.93"
    assert row["reasons"] == "score 0.93 is at or above the threshold 0.71; second"
    assert row["detector_sha256"] == BUNDLE


# ── a file that resumes ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_finished_file_holds_every_input_and_is_gone_on_with(tmp_path: Path, format: str) -> None:
    path = tmp_path / "r"
    fill(path, format)
    before = path.read_bytes()
    with Results(path, format, BUNDLE) as results:
        assert [results.holds(name) for name in NAMES] == [
            "failed" if number % 3 == 1 else "judged" for number in range(len(NAMES))
        ]
        assert results.holds("another.jpg") is None
        results.write(verdict("another.jpg"))
    assert path.read_bytes().startswith(before)
    assert len(inputs_of(path, format)) == len(NAMES) + 1


@pytest.mark.usefixtures("quick_disk")
@pytest.mark.parametrize("names", [NAMES, NAMES[:1], ['"\n"', '""\n"']])
def test_a_file_cut_at_any_byte_of_its_last_records_resumes_to_the_same_file(
    tmp_path: Path, format: str, names: list[str]
) -> None:
    path = tmp_path / "r"
    fill(path, format, names)
    whole = path.read_bytes()
    form = sink.FORMATS[format]()
    tail = sum(len(form.encode(result(number, names[number]))) for number in range(len(names))[-2:])
    for kept in range(max(0, len(whole) - tail - 2), len(whole) + 1):
        path.write_bytes(whole[:kept])
        fill(path, format, names)
        assert path.read_bytes() == whole, f"cut after {kept} bytes"


@pytest.mark.usefixtures("quick_disk")
def test_a_file_cut_at_any_byte_of_its_head_resumes(tmp_path: Path, format: str) -> None:
    path = tmp_path / "r"
    fill(path, format, NAMES[:2])
    whole = path.read_bytes()
    for kept in range(200):
        path.write_bytes(whole[:kept])
        fill(path, format, NAMES[:2])
        assert path.read_bytes() == whole


def test_a_tail_of_nul_bytes_as_a_power_cut_leaves_is_cut_off(tmp_path: Path, format: str) -> None:
    path = tmp_path / "r"
    fill(path, format)
    whole = path.read_bytes()
    half = len(whole) - 40
    for damaged in (
        whole[:half] + bytes(4096),
        whole + bytes(100),
        bytes(4096),
        whole[:half] + bytes(20) + whole[half + 20 :],
        whole[: half - 200] + bytes(100) + whole[half - 100 :],
    ):
        path.write_bytes(damaged)
        fill(path, format)
        assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "content", [b"my diary\n", b"my diary", b'{"input": 1}\n{"a": 2}\n', b"a,b\r\n1,2\r\n", b"\n\n", b"[]", b"\xff\xfe"]
)
def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path: Path, format: str, content: bytes) -> None:
    path = tmp_path / "r"
    path.write_bytes(content)
    with pytest.raises(OutputError, match=r"not a result of assay scan.*--fresh"):
        Results(path, format, BUNDLE)
    assert path.read_bytes() == content
    Results(path, format, BUNDLE, fresh=True).close()
    assert b"diary" not in path.read_bytes()


def test_damage_in_the_middle_is_refused_rather_than_cut(tmp_path: Path, format: str) -> None:
    path = tmp_path / "r"
    fill(path, format, ["a.jpg", "b.jpg", "c.jpg"])
    whole = path.read_bytes()
    last = len(sink.FORMATS[format]().encode(verdict("c.jpg")))
    path.write_bytes(whole[:-last] + b"oops\n" + whole[-last:])
    with pytest.raises(OutputError, match=f"record {4 if format == 'csv' else 3} is not a result"):
        Results(path, format, BUNDLE)


def test_results_of_another_detector_are_refused_unless_fresh(tmp_path: Path, format: str) -> None:
    path = tmp_path / "r"
    fill(path, format)
    before = path.read_bytes()
    with pytest.raises(OutputError, match=r"another detector.*--fresh"):
        Results(path, format, "ee" * 32)
    assert path.read_bytes() == before
    with Results(path, format, "ee" * 32, fresh=True) as results:
        assert results.holds(NAMES[0]) is None
        results.write(verdict(NAMES[0], "ee" * 32))
    assert len(inputs_of(path, format)) == 1


def test_a_file_of_failures_alone_belongs_to_any_detector(tmp_path: Path, format: str) -> None:
    path = tmp_path / "r"
    with Results(path, format, BUNDLE) as results:
        results.write(failure("a.jpg"))
    with Results(path, format, "ee" * 32) as results:
        assert results.holds("a.jpg") == "failed"


def _hold(path: Path, ready: Any, done: Any) -> None:
    with Results(path, "json", BUNDLE) as results:
        results.write(verdict("a.jpg"))
        ready.set()
        done.wait(240)


def test_a_second_process_on_the_same_file_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "r"
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(path, ready, done))
    other.start()
    try:
        assert ready.wait(240)
        for fresh in (False, True):
            with pytest.raises(OutputError, match="another process is writing"):
                Results(path, "json", BUNDLE, fresh=fresh)
    finally:
        done.set()
        other.join(30)
    assert inputs_of(path, "json") == ["a.jpg"]
    Results(path, "json", BUNDLE).close()


def test_a_full_disk_is_a_clear_error_and_leaves_no_torn_record(
    tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r"
    real_write = os.write
    room = len(Csv().header) + 700

    def write(fd: int, data: bytes) -> int:
        nonlocal room
        if room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = min(room, len(data))
        room -= taken
        return real_write(fd, data[:taken])

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(OutputError, match=r"No space left.*results written in this run are kept.*again") as caught:
        fill(path, format)
    assert caught.value.kind == "disk"
    done = inputs_of(path, format)
    assert 0 < len(done) < len(NAMES)
    monkeypatch.undo()
    fill(path, format)
    assert len(inputs_of(path, format)) == len(NAMES)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_device_that_is_full_is_a_clear_error() -> None:
    with Results("/dev/full", "json", BUNDLE) as results, pytest.raises(OutputError, match="No space left"):
        results.write(verdict("a.jpg"))


def test_one_record_is_one_write_at_the_end(tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[bytes] = []
    real_write = os.write

    def write(fd: int, data: bytes) -> int:
        writes.append(data)
        return real_write(fd, data)

    monkeypatch.setattr(os, "write", write)
    path = tmp_path / "r"
    with Results(path, format, BUNDLE) as results:
        for number, name in enumerate(NAMES):
            results.write(result(number, name))
            assert path.read_bytes() == b"".join(writes), "a result is in the file when write() returns"
    assert len(writes) == len(NAMES) + (format == "csv")


def test_the_disk_is_told_to_keep_results_now_and_then_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    real_sync = os.fsync
    path = tmp_path / "r"

    def fsync(fd: int) -> None:
        synced.append(path.stat().st_size)
        real_sync(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(sink, "_SYNC_SECONDS", 0.0)
    with Results(path, "json", BUNDLE) as results:
        results.write(verdict("a.jpg"))
        assert synced[-1] == path.stat().st_size
        monkeypatch.setattr(sink, "_SYNC_SECONDS", 1e9)
        results.write(verdict("b.jpg"))
        assert synced[-1] < path.stat().st_size
    assert synced[-1] == path.stat().st_size


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="make it first"):
        Results(tmp_path / "none" / "r.jsonl", "json", BUNDLE)
    with pytest.raises(OutputError, match="cannot be opened for writing"):
        Results(tmp_path, "json", BUNDLE)


def test_a_pipe_takes_results_without_being_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with Results(path, "json", BUNDLE) as results:
        results.write(verdict("a.jpg"))
    assert json.loads(os.read(reader, 1 << 16))["input"] == "a.jpg"
    os.close(reader)


# ── what a long run remembers ────────────────────────────────────────────────────────────────────────────────────────


def test_keys_hold_what_was_added_and_nothing_else() -> None:
    keys = Keys()
    for number in range(20_000):
        keys.add(f"folder/{number}.jpg")
    keys.add("folder/7.jpg")
    assert len(keys) == 20_000
    assert all(f"folder/{number}.jpg" in keys for number in range(0, 20_000, 7))
    assert not any(f"folder/{number}.png" in keys for number in range(0, 20_000, 7))


def test_keys_with_zero_bytes_in_their_hashes_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    digests = {str(n): bytes(random.Random(n).choices((0, 1), k=16)) for n in range(5000)}
    monkeypatch.setattr(sink, "_digest", digests.__getitem__)
    keys = Keys()
    added = list(digests)[:4200]
    for text in added:
        keys.add(text)
    held = {digests[text] for text in added}
    assert all((text in keys) == (digests[text] in held) for text in digests)


def test_a_million_results_cost_tens_of_megabytes_to_go_on_with() -> None:
    keys = Keys()
    tracemalloc.start()
    for number in range(30_000):
        keys.add(str(number))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 40 * 30_000


# ── streams and tables ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_stream_gets_each_record_at_once(format: str) -> None:
    class Pipe(io.BytesIO):
        flushed = 0

        def flush(self) -> None:
            self.flushed += 1

    pipe = Pipe()
    stream = Stream(pipe, format)
    stream.write(verdict("a.jpg"))
    stream.write(failure("b.jpg"))
    assert pipe.flushed == 2
    assert pipe.getvalue().count(b"a.jpg") == 1
    assert stream.holds("a.jpg") is None


def test_a_table_has_verdict_score_file_and_then_why() -> None:
    text = io.StringIO()
    table = Table(text)
    table.write(verdict("a.jpg"))
    table.write(failure("b.jpg"))
    head, first, second = text.getvalue().splitlines()
    assert head.split() == ["verdict", "score", "file", "why"]
    assert first.split()[:4] == ["fake", "0.930", "a.jpg", "score"]
    assert second.split()[:4] == ["error", "–", "b.jpg", "the"]
    assert "\x1b" not in text.getvalue()


def test_below_a_clips_row_stand_its_scores_over_time_and_a_line_a_track() -> None:
    box = Box(0, 0, 9, 9)
    frames = ((0, 0.1), (15, 0.9), (30, 0.5))
    steady = Track(1, tuple(Glimpse(number, number / 30, box, 0.1) for number, _ in frames), 0.1, Ruling.REAL, 0.0)
    once = Track(2, (Glimpse(15, 0.5, box, 0.9),), 0.9, Ruling.FAKE, 0.0, counts=False)
    clip = dataclasses.replace(verdict("a.mp4"), frames=frames, times=(0.0, 0.5, 1.0), tracks=(steady, once))
    text = io.StringIO()
    table = Table(text)
    table.write(clip)
    table.write(verdict("b.jpg"))
    _, row, course, first, second, still = text.getvalue().splitlines()
    assert row.split()[:3] == ["fake", "0.930", "a.mp4"]
    assert course.strip() == "0.00 s ▁█▅ 1.00 s, lowest 0.10, highest 0.90"
    assert first.strip() == "track 1: 0.00-1.00 s, 3 frames, 0.100 real ± 0.000"
    assert second.strip() == "track 2: 0.50 s, 1 frame, 0.900 fake ± 0.000, no say"
    # Under the file's name.
    assert {len(line) - len(line.lstrip()) for line in (course, first, second)} == {row.index("a.mp4")}
    assert still.split()[2] == "b.jpg"
    styles: list[list[tuple[str, str]]] = []
    Table(text, styles.append).write(clip)
    assert [row[-1][1] for row in styles[2:]] == ["dim", "green", "dim"]
    line = json.loads(JsonLines().encode(clip))
    assert [each["time"] for each in line["frames"]] == [0.0, 0.5, 1.0]
    assert [track["counts"] for track in line["tracks"]] == [True, False]


def test_a_name_cannot_steer_the_terminal_or_add_a_row() -> None:
    text = io.StringIO()
    Table(text).write(verdict("a\x1b[31m\nb\u202egpj.\udcff\x9b.jpg"))
    assert text.getvalue().count("\n") == 2
    assert "a\\x1b[31m\\nb\\u202egpj.\\udcff\\x9b.jpg" in text.getvalue()
    assert all(line.isprintable() for line in text.getvalue().splitlines())


def test_printable_text_stays_as_it_is() -> None:
    assert printable("ü – 雨 [bold]x[/]") == "ü – 雨 [bold]x[/]"


# ── choosing a format ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("path", "asked", "format"),
    [
        ("r.jsonl", None, "json"),
        ("r.JSON", None, "json"),
        ("r.csv", None, "csv"),
        ("r.txt", "csv", "csv"),
        ("r", "json", "json"),
        ("r.csv", "csv", "csv"),
    ],
)
def test_the_format_follows_the_suffix_or_what_was_asked(path: str, asked: str | None, format: str) -> None:
    assert format_of(path, asked) == format


@pytest.mark.parametrize(
    ("path", "asked", "message"), [("r.csv", "json", "does not go with"), ("r.txt", None, r"\.csv")]
)
def test_an_unclear_format_is_refused(path: str, asked: str | None, message: str) -> None:
    with pytest.raises(OutputError, match=message):
        format_of(path, asked)


def test_closing_twice_is_fine(tmp_path: Path) -> None:
    results = Results(tmp_path / "r", "json", BUNDLE)
    results.close()
    results.close()
