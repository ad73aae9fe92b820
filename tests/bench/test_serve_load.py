"""The load bench's arithmetic: what counts as accepted, answered, lost and wrong, on answers that were made up."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import assay
from benches import loaded

FAKE = {"input": "/in/a.jpg", "verdict": "fake", "score": 0.91, "streams": [{"name": "trace", "score": 0.91}]}
BROKEN = {"input": "/in/b.jpg", "error": {"kind": "corrupt", "message": "/in/b.jpg is cut short"}}
EXPECTED = [FAKE, BROKEN]
RIGHT = json.dumps({"verdict": FAKE | {"input": "a.jpg"}, "provenance": None, "faces": None})
REFUSED = json.dumps({"error": {"kind": "busy", "message": "too much is waiting"}})


@pytest.fixture(scope="module")
def bench(beside: None) -> ModuleType:
    return loaded("serve_load")


def judged(score: float) -> str:
    return json.dumps({"verdict": FAKE | {"score": score}, "provenance": None, "faces": None})


def wrong(kind: str) -> str:
    return json.dumps({"error": {"kind": kind, "message": "the upload is cut short"}})


def counted(tally: dict[str, Any]) -> dict[str, int]:
    """What there is of anything, by its name."""
    flat = tally | tally["faults"]
    return {name: count for name, count in flat.items() if isinstance(count, int) and count and name != "requests"}


@pytest.mark.parametrize(
    ("status", "again", "body", "number", "found"),
    [
        (200, None, RIGHT, 0, {"accepted": 1, "answered": 1}),
        (200, None, judged(0.91 + 1e-6), 0, {"accepted": 1, "answered": 1}),
        (200, None, judged(0.92), 0, {"accepted": 1, "differing": 1}),
        (200, None, RIGHT, 1, {"accepted": 1, "failed": 1}),
        (422, None, wrong("corrupt"), 1, {"accepted": 1, "answered": 1}),
        (422, None, wrong("empty"), 1, {"accepted": 1, "differing": 1}),
        (422, None, wrong("corrupt"), 0, {"accepted": 1, "failed": 1}),
        (500, None, wrong("corrupt"), 1, {"accepted": 1, "failed": 1}),
        (408, None, wrong("timeout"), 0, {"accepted": 1, "failed": 1}),
        (503, "5", REFUSED, 0, {"accepted": 1, "failed": 1}),
        (0, None, "", 0, {"accepted": 1, "lost": 1}),
        (429, "3", REFUSED, 0, {"refused": 1}),
        (429, None, REFUSED, 0, {"refused": 1, "unsaid": 1}),
        (429, "0", REFUSED, 0, {"refused": 1, "unsaid": 1}),
        (429, "soon", REFUSED, 1, {"refused": 1, "unsaid": 1}),
    ],
)
def test_a_request_is_judged_rightly_or_refused_or_counts_as_a_fault(
    bench: ModuleType, status: int, again: str | None, body: str, number: int, found: dict[str, int]
) -> None:
    tally = bench.tallied([bench.Answer(number, 1.0, 2.0, status, again, body)], EXPECTED)
    assert counted(tally) == found
    assert tally["statuses"] == {str(status): 1}


@pytest.mark.parametrize(
    ("begun", "ended", "status", "found"),
    [
        (9.0, 11.0, 503, "refused"),
        (9.0, 9.5, 503, "failed"),
        (9.0, 11.0, 0, "lost"),
        (10.5, 11.0, 0, "away"),
        (9.0, 11.0, 200, "answered"),
        (10.5, 11.0, 200, "answered"),
    ],
)
def test_only_what_was_sent_after_the_stop_may_find_nobody(
    bench: ModuleType, begun: float, ended: float, status: int, found: str
) -> None:
    answer = bench.Answer(0, begun, ended, status, "5" if status == 503 else None, RIGHT)
    assert counted(bench.tallied([answer], EXPECTED, 10.0))[found] == 1


def results(*each: tuple[int, str, Any]) -> list[dict[str, Any]]:
    return [
        {"number": number, "name": name, "result": result and result | {"input": name}} for number, name, result in each
    ]


def test_every_input_of_a_job_has_its_own_result_once(bench: ModuleType) -> None:
    files, sent = [Path("a.jpg"), Path("b.jpg")], [0, 1, 0]

    def faults(*each: tuple[int, str, Any]) -> dict[str, int]:
        return {name: count for name, count in bench.checked(results(*each), sent, files, EXPECTED).items() if count}

    whole = ((0, "a.jpg", FAKE), (1, "b.jpg", BROKEN), (2, "a.jpg", FAKE))
    assert faults(*whole) == {}
    assert faults(*whole[:2]) == {"lost": 1}
    assert faults(*whole[:2], (2, "a.jpg", None)) == {"lost": 1}
    assert faults(*whole, whole[1]) == {"doubled": 1}
    assert faults(*whole[:2], (2, "a.jpg", FAKE | {"score": 0.5})) == {"differing": 1}
    assert faults(*whole[:2], (2, "b.jpg", FAKE)) == {"differing": 1}
    assert faults(whole[0], (1, "b.jpg", FAKE), whole[2]) == {"differing": 1}
    assert faults(*whole, (3, "a.jpg", FAKE)) == {"differing": 1}


def test_an_error_with_a_score_is_never_right(bench: ModuleType) -> None:
    assert bench.right(BROKEN, BROKEN)
    assert not bench.right(BROKEN | {"score": 0.5}, BROKEN)
    assert not bench.right(None, BROKEN)


class Kept:
    """A server that has the jobs it was given."""

    def __init__(self, kept: dict[str, list[dict[str, Any]]]) -> None:
        self.kept = kept

    def ended(self, id: str, until: float) -> dict[str, Any]:
        return {"id": id}

    def results(self, id: str) -> list[dict[str, Any]]:
        return self.kept[id]


def test_jobs_that_were_accepted_are_followed_to_their_end(bench: ModuleType) -> None:
    def answer(status: int, id: str = "", again: str | None = None) -> Any:
        return bench.Answer(0, 1.0, 2.0, status, again, json.dumps({"id": id}))

    server = Kept({"whole": results((0, "a.jpg", FAKE), (1, "b.jpg", BROKEN)), "half": results((0, "a.jpg", FAKE))})
    posts = [
        ([0, 1], answer(202, "whole")),
        ([0, 1], answer(202, "half")),
        ([0, 1], answer(0)),
        ([0], answer(429, again="1")),
        ([0], answer(429)),
        ([0], answer(500)),
    ]
    found = bench.followed(server, posts, [Path("a.jpg"), Path("b.jpg")], EXPECTED)
    assert counted(found) == {
        "jobs": 6, "refused": 2, "accepted": 4, "inputs": 6, "answered": 3, "lost": 3, "failed": 1, "unsaid": 1
    }  # fmt: skip


def test_a_ratio_is_taken_to_the_scans_on_both_sides(bench: ModuleType) -> None:
    assert bench.beside([9.0, 10.0], [10.0, 20.0, 30.0]) == pytest.approx([0.6, 0.4])


def test_the_slope_of_memory_leaves_out_its_first_quarter(bench: ModuleType) -> None:
    requests = list(range(500, 20_001, 500))
    level = [300.0 + 10 * min(each, 5_000) / 1_000 for each in requests]
    assert bench.trend(requests, level) == {
        "first": 305.0, "last": 350.0, "peak": 350.0, "mib_per_1000": pytest.approx(0, abs=1e-9), "flat": True
    }  # fmt: skip
    growing = bench.trend(requests, [300 + 1.5 * each / 1_000 for each in requests])
    assert growing["mib_per_1000"] == pytest.approx(1.5)
    assert growing["flat"] is False
    assert bench.trend([500, 1000], [300.0, 320.0])["flat"] is None


def test_every_fault_is_found_wherever_it_is_told_of(bench: ModuleType) -> None:
    found = {
        "load": {"faults": {"lost": 0, "status": 0}},
        "overload": {"stop": {"jobs": {"faults": {"doubled": 2}}, "faults": {"status": 9}}, "faults": {"left": 0}},
        "memory": {"flat": False, "faults": {"lost": 1}},
    }
    assert bench.faults_of(found) == {"doubled": 2, "status": 9, "lost": 1, "grown": 1}
    found["memory"] = {"flat": None, "faults": {"lost": 0}}
    del found["overload"]
    assert not bench.faults_of(found)


def test_memory_and_processor_time_are_read_as_the_system_writes_them(bench: ModuleType) -> None:
    assert bench.resident("Name:\tpython\nVmRSS:\t  204800 kB\nThreads:\t3\n") == 200
    assert bench.resident("Name:\tpython\nState:\tZ (zombie)\n") == 0
    assert bench.cpu_of("7 (a) b (c) S 1 7 7 0 -1 4 100 0 0 0 250 50 9 9 20 0 12 0 1 1 1") == 300


def test_small_uploads_are_as_a_scan_finds_them(bench: ModuleType, tmp_path: Path) -> None:
    files = bench.uploads(tmp_path, 100)
    assert len({file.name for file in files}) == len(files) > 90
    assert all(file.name.isascii() and os.access(file, os.R_OK) for file in files)
    detector = assay.load(threads=1)
    for some in (files[:10], files[10:20]):
        expected = bench.expected_of(detector, some, tmp_path)
        assert [each["input"] for each in expected] == list(map(str, some))
        assert sum("error" in each for each in expected) == 1


# ── the clients ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def crowded(bench: ModuleType, server: Any, **asked: Any) -> Any:
    listening = await asyncio.start_server(server, "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        given = {"path": "/v1/judge", "count": 3, "requests": None, "seconds": None}
        return await bench.crowd([b"first", b"second"], port, **given | asked)


def test_clients_send_each_file_in_turn_and_take_what_comes(bench: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "AGAIN", 0.01)
    inside = most = count = 0

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal inside, most, count
        while head := await reader.readline():
            while not head.endswith(b"\r\n\r\n"):
                head += await reader.readline()
            assert head.startswith(b"POST /v1/judge HTTP/1.1\r\nHost: 127.0.0.1:")
            count += 1
            mine, inside = count, inside + 1
            most = max(most, inside)
            length = next(
                int(each.split(b":")[1]) for each in head.split(b"\r\n") if each.startswith(b"Content-Length")
            )
            body = await reader.readexactly(length)
            await asyncio.sleep(0.02)
            inside -= 1
            if mine == 4:
                writer.write(b"HTTP/1.1 429 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            elif mine != 5:
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
            if mine in (4, 5):
                break
        writer.close()

    answers = asyncio.run(crowded(bench, server, requests=12))
    assert most == 3
    assert sorted(each.status for each in answers) == [0, *[200] * 10, 429]
    assert [each.again for each in answers if each.status == 429] == ["7"]
    assert all(each.body == ("first", "second")[each.number] for each in answers if each.status == 200)
    assert all(each.ended - each.begun >= 0.02 for each in answers)
    assert bench.span(answers) >= 4 * 0.02


def test_clients_that_find_nobody_go_on_until_their_time_is_over(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "AGAIN", 0.02)

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    answers = asyncio.run(crowded(bench, server, seconds=0.2))
    assert len(answers) > 6
    assert {each.status for each in answers} == {0}
    assert bench.span(answers) < 2
