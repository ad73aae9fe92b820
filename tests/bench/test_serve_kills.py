"""Kills of a server: what is wrong with a job is seen, at which state a kill fell is told, and a real one is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import assay
from assay.serve.jobs import Upload
from assay.serve.spool import Spool
from assay.serve.store import Store
from assay.types import Failure
from benches import loaded

pytest.importorskip("av")


@pytest.fixture(scope="module")
def bench(beside: None) -> ModuleType:
    return loaded("serve_kills")


def verdict(name: str, score: float) -> dict[str, Any]:
    return {"input": name, "verdict": "fake", "score": score}


EXPECTED = (verdict("a", 0.9), verdict("b", 0.8), {"input": "c", "error": {"kind": "corrupt", "message": "damaged"}})
CRASHED = {"input": "b", "error": {"kind": "crashed", "message": "the server went down"}}


def job(results: list[Any], **changes: Any) -> tuple[dict[str, Any], list[Any], list[Any]]:
    """A job with these results, its pages and its download."""
    failed = sum("error" in each for each in results)
    counts = {"fake": len(results) - failed, "real": 0, "uncertain": 0, "failed": failed}
    told = {"state": "done", "total": len(results), "finished": len(results), "counts": counts, **changes}
    rows = [{"number": number, "name": each["input"], "result": each} for number, each in enumerate(results)]
    return told, rows, results


def test_a_job_that_is_as_undisturbed_has_no_fault(bench: ModuleType) -> None:
    near = [verdict("a", 0.9 + 1e-6), *EXPECTED[1:]]
    for results in (list(EXPECTED), near):
        assert not bench.compared(*job(results), EXPECTED, Counter())


@pytest.mark.parametrize(
    ("change", "faults"),
    [
        (lambda told, rows, lines: rows.pop(), {"lost", "wrong"}),
        (lambda told, rows, lines: lines.pop(), {"lost"}),
        (lambda told, rows, lines: rows.append(rows[-1]), {"doubled", "wrong"}),
        (lambda told, rows, lines: lines.append(lines[-1]), {"doubled"}),
        (lambda told, rows, lines: rows.reverse(), {"wrong"}),
        (lambda told, rows, lines: rows[1].update(name="x"), {"wrong"}),
        (lambda told, rows, lines: rows[1].update(result=None), {"lost", "wrong"}),
        (lambda told, rows, lines: told.update(state="running"), {"wrong"}),
        (lambda told, rows, lines: told.update(finished=2), {"wrong"}),
        (lambda told, rows, lines: told["counts"].update(failed=0, real=1), {"wrong"}),
    ],
)
def test_what_is_amiss_is_called_so(bench: ModuleType, change: Any, faults: set[str]) -> None:
    told, rows, lines = job(list(EXPECTED))
    change(told, rows, lines)
    assert set(bench.compared(told, rows, lines, EXPECTED, Counter())) == faults


def test_another_score_or_word_is_wrong(bench: ModuleType) -> None:
    for other in (verdict("b", 0.8001), verdict("x", 0.8), {"input": "b", "error": {"kind": "corrupt", "message": ""}}):
        assert bench.compared(*job([EXPECTED[0], other, EXPECTED[2]]), EXPECTED, Counter()) == {"wrong": 1}


def test_an_input_may_be_given_up_only_where_enough_kills_hit_it(bench: ModuleType) -> None:
    found = job([EXPECTED[0], CRASHED, EXPECTED[2]])
    assert not bench.compared(*found, EXPECTED, Counter({1: 3}))
    assert bench.compared(*found, EXPECTED, Counter({1: 2, 0: 3})) == {"wrong": 1}


def test_a_snapshot_tells_the_state_of_a_kill_and_what_was_in_work(bench: ModuleType, tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert bench.state_of(bench.snapshot(data), "one", up=False) == "starting"
    assert bench.state_of(bench.snapshot(data), "one", up=True) == "upload"
    spool = Spool(data / "spool")

    def upload(name: str) -> Any:
        with spool.writer() as writer:
            writer.write(b"data")
            return Upload(name, writer.finish())

    with Store(data / "jobs.sqlite", spool) as store:
        made = store.create(
            "", "pictures", {}, [upload("a"), upload("b"), Failure("c", "corrupt", "")], idempotency="one"
        )

        def state() -> str:
            return str(bench.state_of(bench.snapshot(data), "one", up=True))

        assert state() == "queued"
        store.claim(1)
        assert state() == "running"
        assert bench.snapshot(data).claimed == {(made.id, 0)}
        assert bench.snapshot(data).inputs == {made.id: 3}
        for number in (0, 1):
            store.finish(made.id, number, {"verdict": "real", "score": 0.1})
        assert state() == "finished"
        assert bench.snapshot(data).sound == "ok"


def test_a_damaged_store_is_seen(bench: ModuleType, tmp_path: Path) -> None:
    with Store(tmp_path / "jobs.sqlite", Spool(tmp_path / "spool")) as store:
        store.create("", "pictures", {}, [Failure(f"{number}", "corrupt", "x" * 500) for number in range(200)])
    whole = (tmp_path / "jobs.sqlite").read_bytes()
    assert bench.snapshot(tmp_path).sound == "ok"
    (tmp_path / "jobs.sqlite").write_bytes(whole[:20_000] + bytes(8_192) + whole[28_192:])
    assert bench.snapshot(tmp_path).sound != "ok"


def test_what_is_left_behind_is_listed(bench: ModuleType, tmp_path: Path) -> None:
    server = bench.Server(tmp_path)
    (server.data / "spool").mkdir(parents=True)
    for name in ("data/jobs.sqlite", "data/jobs.sqlite-wal", "stderr"):
        (tmp_path / name).touch()
    assert bench.left_behind(server) == []
    for name in ("data/spool/.0.part", "home/x", "tmp/y"):
        (tmp_path / name).touch()
    assert bench.left_behind(server) == ["data/spool/.0.part", "home/x", "tmp/y"]


def test_a_form_names_its_files_as_browsers_do(bench: ModuleType) -> None:
    body = bench.form([('a"\n.png', b"1"), ("b", b"2")])
    assert body.count(b"--" + bench.BOUNDARY.encode()) == 3
    assert b'filename="a%22%0A.png"\r\n\r\n1\r\n' in body


def test_tracebacks_count_where_they_go_through_our_own_code(bench: ModuleType) -> None:
    other = 'Traceback (most recent call last):\n  File "/lib/spawn.py", line 1, in main\nEOFError\n'
    own = other.replace("/lib/spawn.py", str(Path(assay.__file__).parent / "serve" / "app.py"))
    assert bench.tracebacks("serving\n" + other + own + "Process x:\n" + other) == [own + "Process x:\n"]


def test_processes_of_a_group_are_found_until_they_end(bench: ModuleType) -> None:
    child = subprocess.Popen(["sleep", "60"], start_new_session=True)
    assert bench.group(child.pid) == [child.pid]
    os.killpg(child.pid, 9)
    child.wait()
    assert bench.group(child.pid) == []


class Lossy:
    """Answers like a server for one job that has ended, and knows no other."""

    def __init__(self, bench: ModuleType, results: list[Any]) -> None:
        told, rows, lines = job(results)
        ends = "".join("event: result\n" for _ in results)
        self._told = {
            "": json.dumps(told),
            "/results?offset=0&limit=7": json.dumps({"results": rows}),
            "/results.jsonl": "".join(json.dumps(line) + "\n" for line in lines),
            "/events": ends,
        }
        self._answer = bench.Answer

    def ask(self, method: str, target: str) -> Any:
        known = self._told.get(target.removeprefix("/v1/jobs/one"), json.dumps({"results": []}))
        if not target.startswith("/v1/jobs/one"):
            return self._answer(404, {}, b'{"error": {"kind": "missing", "message": ""}}')
        return self._answer(200, {}, known.encode())


def test_a_job_is_lost_or_short_where_the_server_says_so(bench: ModuleType) -> None:
    work = bench.Work((), "", EXPECTED)
    assert bench.ended(Lossy(bench, list(EXPECTED)), "one", work, Counter()) == (Counter(), 0)
    assert bench.ended(Lossy(bench, list(EXPECTED)), "two", work, Counter()) == (Counter(lost=3), 0)
    faults, given_up = bench.ended(Lossy(bench, [EXPECTED[0], CRASHED]), "one", work, Counter({1: 3}))
    assert faults["lost"] >= 3
    assert given_up == 1


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_real_server_is_killed_and_loses_nothing(
    bench: ModuleType, bundle_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    line = ["--kills", "1", "--pictures", "6", "--pool", "10", "--detector", str(bundle_folder), "--json", str(out)]
    assert bench.main(line) == 0, capsys.readouterr().err
    told = json.loads(out.read_text())
    assert told["kills"] == sum(told["states"].values()) == 1
    assert not any(told["faults"].values())
    assert "| jobs | 1 |" in capsys.readouterr().out
