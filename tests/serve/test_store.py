"""Every input gets one result, whoever dies on the way."""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import os
import random
import signal
import sqlite3
import stat
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from assay.errors import JobError, OutputError
from assay.serve.jobs import WORDS, Claimed, Job, News, Upload
from assay.serve.spool import Spool
from assay.serve.store import SCHEMA, Store
from assay.types import Failure, Ruling, Verdict
from serving import put

OWNER = "ab" * 32
NAMES = ["a.jpg", "../../etc/passwd", "line\nbreak.png", "stray\udcff.jpg", "nul\0.gif", "", "ü – 雨.webp", 'quo"te']


class Clock:
    """Time that passes when it is told to."""

    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of uploads need not each wait for the disk; SQLite does all the same."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs" / "jobs.sqlite3"


@pytest.fixture
def store(path: Path, spool: Spool, clock: Clock) -> Iterator[Store]:
    with Store(path, spool, clock=clock) as store:
        yield store


def upload(spool: Spool, name: str, data: bytes = b"data") -> Upload:
    return Upload(name, put(spool, data))


def make(store: Store, count: int = 3, owner: str = OWNER, **options: Any) -> Job:
    inputs = [upload(store._spool, f"{number}.jpg") for number in range(count)]
    return store.create(owner, "pictures", {}, inputs, **options)


def verdict(name: str = "a.jpg", score: float = 0.93) -> dict[str, Any]:
    about = {"name": "tiny", "version": "1", "sha256": "cd" * 32}
    doubt, size = (0.3, 0.7), (640, 480)
    return Verdict(Ruling.FAKE, score, 0.7, doubt, 0.05, (), (), about, name, "ef" * 32, *size).to_dict()


FAILURE = Failure("b.jpg", "truncated", "the file ends early").to_dict()


def counted(**counts: int) -> dict[str, int]:
    return dict.fromkeys(WORDS, 0) | counts


def jobs_of(store: Store, owner: str = OWNER) -> list[Job]:
    with store._read() as db:
        ids = db.execute("SELECT id FROM job WHERE owner = ? ORDER BY number DESC", (owner,)).fetchall()
    return [store.job(id, owner) for (id,) in ids]


def spooled(spool: Spool) -> set[str]:
    return {path.name for path in spool.folder.iterdir()}


def places(claimed: list[Claimed]) -> list[tuple[str, int]]:
    return [(claim.job, claim.number) for claim in claimed]


def gone(call: Callable[[], object]) -> None:
    with pytest.raises(JobError, match="no such job") as caught:
        call()
    assert caught.value.kind == "missing"


# ── making a job ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_job_comes_back_as_it_was_made(store: Store, spool: Spool, clock: Clock) -> None:
    options = {"detector": "tiny", "every": 0.5, "text": "\udcff"}
    inputs = [upload(spool, name, name.encode("utf-8", "surrogatepass")) for name in NAMES]
    job = store.create(OWNER, "video", options, inputs, True)
    assert job == Job(job.id, OWNER, "video", options, True, "queued", clock.now, None, None, len(NAMES), counted(), 1)
    assert store.job(job.id, OWNER) == job
    found = store.results(job.id, OWNER)
    assert [given.number for given in found] == list(range(len(NAMES)))
    assert [given.name for given in found] == NAMES
    assert [(given.key, given.bytes, given.sha256) for given in found] == [
        (given.file.key, given.file.bytes, given.file.sha256) for given in inputs
    ]
    assert {(given.state, given.result, given.version) for given in found} == {("waiting", None, None)}


def test_no_part_of_a_name_is_in_a_path(store: Store, spool: Spool) -> None:
    store.create(OWNER, "pictures", {}, [upload(spool, name) for name in NAMES])
    assert all(len(name) == 32 and name.isalnum() for name in spooled(spool))


def test_ids_cannot_be_guessed_and_fit_a_url(store: Store) -> None:
    ids = {make(store, 1).id for _ in range(20)}
    assert len(ids) == 20
    assert all(len(id) == 24 and id.replace("-", "").replace("_", "").isalnum() for id in ids)


def test_a_job_that_cannot_be_made_leaves_nothing(store: Store, spool: Spool) -> None:
    fine = upload(spool, "a.jpg")
    for inputs, kind, options, message in (
        ([], "pictures", {}, "without inputs"),
        ([fine], "music", {}, "known: pictures, video"),
        ([fine], "pictures", {"every": float("nan")}, "JSON"),
        ([upload(spool, "b.jpg"), fine, fine], "pictures", {}, "an input already"),
    ):
        with pytest.raises(ValueError, match=message):
            store.create(OWNER, kind, options, inputs)  # type: ignore[arg-type]
    assert jobs_of(store) == []
    assert store.usage().waiting == 0
    assert store.claim() == []
    store.create(OWNER, "pictures", {}, [fine])
    with pytest.raises(ValueError, match="an input already"):
        store.create(OWNER, "pictures", {}, [fine])


def test_an_input_that_failed_on_the_way_is_done_from_the_start(store: Store, spool: Spool) -> None:
    late = [Failure(f"{number}.jpg", "too_many_bytes", "more than 10 bytes") for number in range(3)]
    job = store.create(OWNER, "pictures", {}, [late[0], upload(spool, "fine.jpg"), late[1], late[2]])
    assert (job.state, job.done, job.total) == ("queued", 3, 4)
    assert [claim.number for claim in store.claim()] == [1]
    found = store.results(job.id, OWNER)
    assert [given.result for given in found] == [late[0].to_dict(), None, late[1].to_dict(), late[2].to_dict()]
    assert (found[0].key, found[0].bytes, found[0].sha256) == (None, 0, "")
    assert store.finish(job.id, 1, verdict())
    assert store.job(job.id, OWNER).state == "done"
    assert [given.number for given in follow(store, job.id, limit=1)] == [0, 2, 3, 1]


def test_a_job_of_failures_alone_is_done(store: Store, clock: Clock) -> None:
    job = store.create(OWNER, "pictures", {}, [Failure("a", "empty", "no bytes")])
    assert (job.state, job.finished, job.started) == ("done", clock.now, None)
    assert store.claim() == []


# ── claims ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_claim_tells_all_that_judging_needs(store: Store, spool: Spool, clock: Clock) -> None:
    given = upload(spool, NAMES[1], b"picture")
    job = store.create(OWNER, "video", {"every": 2}, [given])
    clock.now += 5
    [claim] = store.claim()
    assert claim == Claimed(job.id, {"every": 2}, 0, NAMES[1], given.file.key, tries=1)
    assert store.results(job.id, OWNER)[0].state == "claimed"
    running = store.job(job.id, OWNER)
    assert (running.state, running.started, running.version) == ("running", clock.now, 2)
    clock.now += 5
    store.give_back(tried=True)
    store.claim()
    assert store.job(job.id, OWNER) == running


def test_inputs_are_given_out_in_order_as_many_as_asked_for(store: Store) -> None:
    job = make(store, 5)
    assert places(store.claim(2)) == [(job.id, 0), (job.id, 1)]
    assert places(store.claim(2)) == [(job.id, 2), (job.id, 3)]
    assert places(store.claim(2)) == [(job.id, 4)]
    assert store.claim(2) == []


def test_jobs_take_turns_the_oldest_first(store: Store) -> None:
    folder, pair, single = make(store, 100), make(store, 2), make(store, 1)
    assert places(store.claim(7)) == [
        *[(folder.id, 0), (pair.id, 0), (single.id, 0)],
        *[(folder.id, 1), (pair.id, 1)],
        *[(folder.id, 2), (folder.id, 3)],
    ]


def test_a_picture_waits_for_one_of_a_folder_not_for_all(store: Store) -> None:
    folder = make(store, 100)
    for number in range(5):
        assert places(store.claim(1)) == [(folder.id, number)]
    single = make(store, 1)
    assert single.id in [job for job, _ in places(store.claim(1) + store.claim(1))]


def test_a_stream_of_pictures_does_not_starve_a_folder(store: Store) -> None:
    folder = make(store, 100)
    seen = []
    for _ in range(20):
        for _ in range(2):
            make(store, 1)
        seen += [claim.job for claim in store.claim(2)]
    assert seen.count(folder.id) >= 4, "although as many come in as are judged"


def test_what_is_given_back_is_given_out_again_and_a_kill_counts_as_a_try(store: Store) -> None:
    job = make(store, 3)
    assert len(store.claim(2)) == 2
    assert store.give_back(tried=False) == 2
    assert store.give_back(tried=False) == 0
    again = store.claim(2)
    assert places(again) == [(job.id, 0), (job.id, 1)]
    assert [claim.tries for claim in again] == [1, 1], "a stop is nobody's fault"
    assert store.finish(job.id, 1, verdict())
    assert store.give_back(tried=True) == 1
    assert [(claim.number, claim.tries) for claim in store.claim()] == [(0, 2), (2, 1)]


def test_eight_are_claimed_where_nothing_else_is_said(store: Store) -> None:
    make(store, 20)
    assert len(store.claim()) == 8


# ── results ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_first_result_stays(store: Store) -> None:
    job = make(store, 2)
    store.claim(1)
    assert store.finish(job.id, 0, verdict(score=0.9))
    before = store.job(job.id, OWNER)
    assert not store.finish(job.id, 0, verdict(score=0.1))
    assert not store.finish(job.id, 0, FAILURE)
    assert store.job(job.id, OWNER) == before
    assert store.results(job.id, OWNER)[0].result == verdict(score=0.9)
    store.give_back(tried=True)
    assert [claim.number for claim in store.claim()] == [1], "it is never given out again"


def test_the_last_result_ends_the_job(store: Store, clock: Clock) -> None:
    job = make(store, 3)
    store.claim()
    for number, result in ((2, verdict()), (0, FAILURE)):
        clock.now += 1
        assert store.finish(job.id, number, result)
    running = store.job(job.id, OWNER)
    assert (running.state, running.done, running.finished, running.version) == ("running", 2, None, 4)
    clock.now += 1
    assert store.finish(job.id, 1, verdict())
    done = store.job(job.id, OWNER)
    assert (done.state, done.done, done.finished, done.version) == ("done", 3, clock.now, 5)
    clock.now += 1
    assert not store.finish(job.id, 1, verdict())
    store.give_back(tried=True)
    assert store.claim() == []
    assert store.job(job.id, OWNER) == done
    assert [given.result for given in store.results(job.id, OWNER)] == [FAILURE, verdict(), verdict()]


def test_a_result_without_a_claim_counts(store: Store, clock: Clock) -> None:
    job = make(store, 2)
    assert store.finish(job.id, 1, verdict())
    begun = store.job(job.id, OWNER)
    assert (begun.state, begun.started) == ("running", clock.now)


def test_a_result_for_what_is_not_there_changes_nothing(store: Store) -> None:
    job, deleted = make(store, 1), make(store, 1)
    store.claim()
    store.delete(deleted.id, OWNER)
    for id, number in ((job.id, 1), (job.id, -1), ("nobody's", 0), (deleted.id, 0)):
        assert not store.finish(id, number, verdict())


@pytest.mark.parametrize(
    "result",
    [
        *({}, {"score": 0.5}, {"error": "no"}, {"error": {"message": "no kind"}}),
        *(verdict() | FAILURE, FAILURE | {"score": 0.5}, verdict() | {"score": float("nan")}),
        verdict() | {"verdict": "perhaps"},
    ],
)
def test_what_is_no_result_is_refused(store: Store, result: dict[str, Any]) -> None:
    job = make(store, 1)
    with pytest.raises(ValueError, match=r"verdict nor a failure|JSON"):
        store.finish(job.id, 0, result)
    assert store.job(job.id, OWNER) == job


def test_results_are_counted_by_what_they_say(store: Store, spool: Spool) -> None:
    failed = Failure("late.jpg", "too_many_bytes", "more than 10 bytes")
    job = store.create(OWNER, "pictures", {}, [failed, *(upload(spool, f"{number}.jpg") for number in range(5))])
    assert job.counts == counted(failed=1)
    for number, word in enumerate(("fake", "real", "uncertain", "real"), start=1):
        store.finish(job.id, number, verdict() | {"verdict": word})
    store.finish(job.id, 1, verdict())
    store.finish(job.id, 5, FAILURE)
    assert store.job(job.id, OWNER).counts == {"fake": 1, "real": 2, "uncertain": 1, "failed": 2}


def test_what_a_file_says_of_its_origin_is_kept_beside_its_result(store: Store) -> None:
    job, said = make(store, 2), {"signs": [{"says": "camera"}], "unread": [], "told": "\udcff"}
    store.finish(job.id, 0, verdict(), said)
    store.finish(job.id, 0, verdict(), {"signs": []})
    store.finish(job.id, 1, verdict())
    for found in (store.results(job.id, OWNER), store.since(job.id, OWNER).inputs):
        assert [(given.result, given.provenance) for given in found] == [(verdict(), said), (verdict(), None)]


def test_an_upload_goes_when_its_result_is_there_and_not_before(
    store: Store, path: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make(store, 2)
    seen: list[str] = []
    real = spool.remove

    def remove(key: str) -> bool:
        with Store(path, spool) as other:
            seen.extend(given.state for given in other.results(job.id, OWNER))
        return real(key)

    monkeypatch.setattr(spool, "remove", remove)
    _, second = store.claim()
    store.finish(job.id, 0, verdict())
    assert seen == ["done", "claimed"]
    assert spooled(spool) == store.keys() == {second.key}
    found = store.results(job.id, OWNER)
    assert (found[0].key, found[0].sha256) == (None, hashlib.sha256(b"data").hexdigest())
    store.finish(job.id, 0, verdict())
    store.finish(job.id, 1, verdict())
    assert spooled(spool) == store.keys() == set()


def test_an_upload_that_cannot_be_removed_now_is_an_orphan_for_later(
    store: Store, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make(store, 1)
    with monkeypatch.context() as patch:

        def refuse(*_: Any, **__: Any) -> None:
            raise PermissionError

        patch.setattr(Path, "unlink", refuse)
        assert store.finish(job.id, 0, verdict())
    assert len(spooled(spool)) == 1
    assert spool.sweep(store.keys(), grace=0) == 1


def test_a_job_may_keep_its_uploads(store: Store, spool: Spool) -> None:
    job = make(store, 3, keep=True)
    keys = {claim.key for claim in store.claim()}
    for number in range(3):
        store.finish(job.id, number, verdict())
    assert spooled(spool) == store.keys() == keys
    assert spool.sweep(store.keys(), grace=0) == 0
    assert {given.key for given in store.results(job.id, OWNER)} == keys
    store.delete(job.id, OWNER)
    assert spooled(spool) == set()


# ── asking ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def follow(store: Store, id: str, limit: int = 100) -> list[Any]:
    """All inputs that a stream of events would tell of."""
    version, told = 0, []
    while True:
        news = store.since(id, OWNER, version, limit)
        told.extend(news.inputs)
        assert news.version >= version
        if news.version == version:
            return told
        version = news.version


def test_a_job_is_its_owners_alone(store: Store) -> None:
    job = make(store)
    other = "cd" * 32
    for call in (store.job, store.results, store.since, store.delete):
        for id, owner in ((job.id, other), (job.id, ""), ("", OWNER), (job.id[:-1], OWNER), ("%", OWNER)):
            gone(lambda call=call, id=id, owner=owner: call(id, owner))  # type: ignore[misc]
    assert store.job(job.id, OWNER) == job
    assert store.job(make(store, owner="").id, "").owner == ""


def test_results_come_in_the_inputs_order_in_pages(store: Store) -> None:
    job = make(store, 5)
    for number in (4, 1, 2):
        store.finish(job.id, number, verdict(f"{number}.jpg"))
    found = store.results(job.id, OWNER)
    assert [given.name for given in found] == [f"{number}.jpg" for number in range(5)]
    assert [given.state for given in found] == ["waiting", "done", "done", "waiting", "done"]
    assert [given.result and given.result["input"] for given in found] == [None, "1.jpg", "2.jpg", None, "4.jpg"]
    assert store.results(job.id, OWNER, 1, 2) == found[1:3]
    assert store.results(job.id, OWNER, 3, 10**30) == found[3:]
    assert store.results(job.id, OWNER, 5) == []


@pytest.mark.parametrize("page", [(-1, 1), (0, 0), (0, -1)])
def test_a_page_that_is_none_is_refused(store: Store, page: tuple[int, int]) -> None:
    job = make(store, 1)
    for call in (
        lambda: store.results(job.id, OWNER, *page),
        lambda: store.since(job.id, OWNER, *page),
    ):
        with pytest.raises(ValueError, match="give 1 or more"):
            call()


def test_a_stream_tells_of_each_result_once_whenever_it_asks(store: Store) -> None:
    job = make(store, 9)
    order = [3, 0, 8, 1, 2, 7, 4, 6, 5]
    news, told, states = store.since(job.id, OWNER, limit=2), [], []
    assert news == News(job, (), 1)
    assert store.since(job.id, OWNER, news.version) == news
    for step, number in enumerate(order):
        store.claim(1)
        assert store.finish(job.id, number, verdict(f"{number}.jpg"))
        if step % 4 == 3:
            news = store.since(job.id, OWNER, news.version, limit=2)
            told += [given.number for given in news.inputs]
            states.append(news.job.state)
    while news.version < news.job.version:
        news = store.since(job.id, OWNER, news.version, limit=2)
        told += [given.number for given in news.inputs]
        states.append(news.job.state)
    assert told == order
    assert states[-1] == "done"
    found = follow(store, job.id)
    assert [given.number for given in found] == order
    for place, given in enumerate(found):
        assert store.since(job.id, OWNER, given.version).inputs == tuple(found[place + 1 :])
    assert store.since(job.id, OWNER, 10**30).inputs == ()


def test_every_change_of_a_job_has_a_version(store: Store) -> None:
    job = make(store, 2)
    versions = [job.version]
    for change in (
        lambda: store.claim(),
        lambda: store.finish(job.id, 0, verdict()),
        lambda: store.finish(job.id, 1, FAILURE),
    ):
        change()
        versions.append(store.since(job.id, OWNER, versions[-1]).version)
    assert versions == [1, 2, 3, 4]


def test_usage_counts_what_is_there(store: Store, spool: Spool) -> None:
    empty = store.usage()
    assert (empty.waiting, empty.bytes) == (0, 0)
    sizes = [upload(spool, "a", b"x" * size) for size in (1, 10, 100)]
    running = store.create(OWNER, "pictures", {}, sizes)
    store.claim(2)
    queued, done = make(store, 4), make(store, 1, keep=True)
    store.finish(done.id, 0, verdict())
    store.finish(running.id, 0, verdict())
    usage = store.usage()
    assert usage.waiting == queued.total + 1
    assert usage.bytes == 110 + 4 * 4 + 4
    assert usage.bytes == sum(path.stat().st_size for path in spool.folder.iterdir())


# ── an end ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_deleted_job_leaves_no_row_and_no_file(store: Store, spool: Spool, path: Path) -> None:
    job, other = make(store, 3, keep=True), make(store, 2)
    store.claim(4)
    store.finish(job.id, 0, verdict())
    store.delete(job.id, OWNER)
    gone(lambda: store.job(job.id, OWNER))
    gone(lambda: store.delete(job.id, OWNER))
    assert spooled(spool) == store.keys()
    assert len(store.keys()) == 2
    assert rows(path) == {"job": 1, "input": 2}
    store.delete(other.id, OWNER)
    assert rows(path) == {"job": 0, "input": 0}
    assert spooled(spool) == set()


def rows(path: Path) -> dict[str, int]:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return {table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("job", "input")}


def test_what_ended_long_ago_expires(store: Store, spool: Spool, clock: Clock) -> None:
    done, failed, late, waiting = (make(store, 1, keep=True) for _ in range(4))
    store.finish(done.id, 0, verdict())
    store.finish(failed.id, 0, FAILURE)
    clock.now += 50
    store.finish(late.id, 0, verdict())
    assert store.expire(51) == 0
    assert store.expire(50) == 2
    assert jobs_of(store) == [store.job(waiting.id, OWNER), store.job(late.id, OWNER)]
    assert spooled(spool) == store.keys()
    clock.now += 50
    assert store.expire(50) == 1
    clock.now += 1e9
    assert store.expire(0) == 0, "what waits has not ended"
    assert len(spooled(spool)) == 1


# ── the same request twice ───────────────────────────────────────────────────────────────────────────────────────────


def test_the_same_request_twice_makes_one_job(store: Store, spool: Spool) -> None:
    def ask(owner: str = OWNER, key: str | None = "k") -> Job:
        return store.create(owner, "pictures", {"a": 1, "b": 2}, [upload(spool, "a.jpg")], idempotency=key)

    job = ask()
    files = spooled(spool)
    assert ask() == job
    assert spooled(spool) == files, "what came the second time is removed"
    store.finish(job.id, 0, verdict())
    assert ask() == store.job(job.id, OWNER)
    assert spooled(spool) == set()
    others = {ask("").id, ask(key="other").id, ask(key=None).id, ask(key=None).id}
    assert len(others | {job.id}) == 5
    store.delete(job.id, OWNER)
    assert ask().id != job.id


def test_asking_again_with_the_very_uploads_keeps_them(store: Store, spool: Spool) -> None:
    inputs = [upload(spool, "a.jpg")]
    job = store.create(OWNER, "pictures", {}, inputs, idempotency="k")
    assert store.create(OWNER, "pictures", {}, inputs, idempotency="k") == job
    assert spooled(spool) == store.keys() == {inputs[0].file.key}


@pytest.mark.parametrize("change", ["bytes", "name", "options", "kind", "keep", "number", "failure"])
def test_another_request_under_the_same_key_is_refused(store: Store, spool: Spool, change: str) -> None:
    store.create(OWNER, "pictures", {"a": 1}, [upload(spool, "a.jpg")], idempotency="k")
    files = spooled(spool)
    name, data = "b.jpg" if change == "name" else "a.jpg", b"other" if change == "bytes" else b"data"
    inputs: list[Any] = [Failure(name, "empty", "no bytes") if change == "failure" else upload(spool, name, data)]
    if change == "number":
        inputs.append(upload(spool, "b.jpg"))
    with pytest.raises(JobError, match="used before, with other inputs or options") as caught:
        store.create(
            OWNER,
            "video" if change == "kind" else "pictures",
            {"a": 2 if change == "options" else 1},
            inputs,
            change == "keep",
            idempotency="k",
        )
    assert caught.value.kind == "conflict"
    assert len(jobs_of(store)) == 1
    assert spooled(spool) == files


def test_the_same_request_from_many_threads_at_once_makes_one_job(store: Store, spool: Spool) -> None:
    found: list[Job] = []

    def ask() -> None:
        found.append(store.create(OWNER, "pictures", {}, [upload(spool, "a.jpg")], idempotency="k"))

    together([ask] * 8)
    assert len({job.id for job in found}) == 1
    assert len(found) == 8
    assert spooled(spool) == store.keys()


def together(calls: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)


# ── the file ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_stored_is_there_when_the_store_is_opened_again(path: Path, spool: Spool) -> None:
    with Store(path, spool) as store:
        job = make(store, 2)
        store.finish(job.id, 0, verdict())
        before = store.job(job.id, OWNER), store.results(job.id, OWNER)
    with Store(path, spool) as store:
        assert (store.job(job.id, OWNER), store.results(job.id, OWNER)) == before


def test_a_commit_is_on_the_disk_before_it_is_told(store: Store) -> None:
    with store._connection() as db:
        assert db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert db.execute("PRAGMA foreign_keys").fetchone() == (1,)
        assert db.execute("PRAGMA busy_timeout").fetchone() == (10_000,)


@pytest.mark.skipif(os.name == "nt", reason="no permissions of this kind")
def test_nobody_else_may_read_the_store(path: Path, spool: Spool) -> None:
    before = os.umask(0)
    try:
        with Store(path, spool) as store:
            make(store)
            assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
            assert len(list(path.parent.iterdir())) == 3
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_store_of_a_newer_version_is_refused_and_unchanged(path: Path, spool: Spool) -> None:
    with Store(path, spool) as store:
        make(store)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    before = path.read_bytes()
    with pytest.raises(
        OutputError, match=f"newer assay .*version {SCHEMA + 1}, known here is {SCHEMA}.*upgrade"
    ) as caught:
        Store(path, spool)
    assert caught.value.kind == "output"
    assert path.read_bytes() == before


def test_a_file_of_something_else_is_refused_and_unchanged(tmp_path: Path, spool: Spool) -> None:
    text, other, folder = tmp_path / "notes.txt", tmp_path / "other.sqlite3", tmp_path / "folder"
    text.write_text("my notes\n" * 1000)
    folder.mkdir()
    with contextlib.closing(sqlite3.connect(other)) as db:
        db.execute("CREATE TABLE notes (text)")
    before = text.read_bytes(), other.read_bytes()
    for path in (text, other):
        with pytest.raises(OutputError, match="not a store of jobs; choose another place"):
            Store(path, spool)
    with pytest.raises(OutputError, match="cannot be opened") as caught:
        Store(folder, spool)
    assert caught.value.kind == "disk"
    with pytest.raises(OutputError, match="choose another place"):
        Store(text / "jobs.sqlite3", spool)
    assert (text.read_bytes(), other.read_bytes()) == before


def test_a_damaged_store_is_told(path: Path, spool: Spool) -> None:
    with Store(path, spool) as store:
        make(store)
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    with Store(path, spool) as store, pytest.raises(OutputError, match="damaged") as caught:
        jobs_of(store)
    assert caught.value.kind == "output"


def test_an_old_sqlite_is_refused(path: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 36, 9))
    with pytest.raises(OutputError, match="too old"):
        Store(path, spool)


def test_a_store_that_another_holds_for_long_is_busy(path: Path, spool: Spool) -> None:
    with Store(path, spool, busy=0.05) as store, contextlib.closing(sqlite3.connect(path)) as other:
        job = make(store, 1)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(OutputError, match="try again in a moment") as caught:
            store.finish(job.id, 0, verdict())
        assert caught.value.kind == "busy"
        assert store.job(job.id, OWNER) == job, "reading goes on"
        other.rollback()
        assert store.finish(job.id, 0, verdict())


def test_on_a_full_disk_nothing_changes(store: Store, spool: Spool) -> None:
    job = make(store, 2)
    [db] = store._idle
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count = {pages}")
    long = verdict() | {"reasons": ["x" * 100_000]}
    with pytest.raises(OutputError, match="make room") as caught:
        store.finish(job.id, 0, long)
    assert caught.value.kind == "disk"
    assert store.job(job.id, OWNER) == job
    assert len(spooled(spool)) == 2, "and the upload is still there"
    db.execute("PRAGMA max_page_count = 1000000")
    assert store.finish(job.id, 0, long)


def test_a_closed_store_says_so(path: Path, spool: Spool) -> None:
    store = Store(path, spool)
    store.close()
    store.close()
    with pytest.raises(ValueError, match="closed"):
        jobs_of(store)
    with pytest.raises(ValueError, match="closed"):
        store.claim()


# ── threads and processes ────────────────────────────────────────────────────────────────────────────────────────────


def test_threads_share_the_work_and_nothing_is_done_twice(store: Store, spool: Spool) -> None:
    jobs = [make(store, 20), make(store, 20), make(store, 1)]
    won: list[tuple[str, int]] = []
    versions: list[int] = []

    def work() -> None:
        while claimed := store.claim(2):
            for job, number in places(claimed):
                if store.finish(job, number, verdict(score=0.5)):
                    won.append((job, number))

    def watch() -> None:
        while store.job(jobs[0].id, OWNER).state != "done":
            versions.append(store.since(jobs[0].id, OWNER).version)
            time.sleep(0.001)

    together([*[work] * 4, watch])
    assert Counter(won) == Counter((job.id, number) for job in jobs for number in range(job.total))
    assert {store.job(job.id, OWNER).version for job in jobs[:2]} == {1 + 1 + 20}
    assert versions == sorted(versions)
    assert spooled(spool) == set()


FORKS = hasattr(os, "fork") and "fork" in multiprocessing.get_all_start_methods()
forks = pytest.mark.skipif(not FORKS, reason="this system has no fork, and starting Python anew takes too long")


def start(target: Callable[..., None], *args: object) -> Any:
    """A process, at once. No store may be open here when it starts."""
    process = multiprocessing.get_context("fork").Process(target=target, args=args, daemon=True)  # type: ignore[attr-defined]
    process.start()
    return process


def note(log: Path, *what: object) -> None:
    """A line of JSON in one write, so that a kill leaves it whole or not there."""
    handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(handle, json.dumps(what).encode() + b"\n")
    os.close(handle)


def notes(log: Path) -> list[tuple[Any, ...]]:
    return [tuple(json.loads(line)) for line in log.read_text().splitlines()] if log.exists() else []


# ── kill -9 ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def work(path: Path, spool: Spool, log: Path) -> None:
    """What a server does until all jobs have ended: everything that waits, once."""
    with Store(path, spool) as store:
        store.give_back(tried=True)
        while claimed := store.claim(3):
            for claim in claimed:
                data = spool.path(claim.key).read_bytes()
                time.sleep(0.003)
                bad = claim.number % 5 == 4
                result = Failure(claim.name, "corrupt", "no").to_dict() if bad else verdict()
                result["input"] = data.decode()
                assert store.finish(claim.job, claim.number, result, {"told": data.decode()})
                note(log, claim.job, claim.number)


def killed(process: Any, seconds: float, ready: Callable[[], bool] = lambda: True) -> bool:
    """Kills a process a while after it is ready. False where it had come to its end before."""
    deadline = time.monotonic() + 60
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.join(seconds)
    if process.exitcode is None:
        os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    assert process.exitcode in (0, -signal.SIGKILL)
    return bool(process.exitcode)


@forks
def test_kill_minus_9_at_any_moment_loses_nothing_and_doubles_nothing(path: Path, spool: Spool, tmp_path: Path) -> None:
    log, chance = tmp_path / "log", random.Random(0)
    with Store(path, spool) as store:
        jobs = {}
        for count, keep in ((240, False), (120, True), (1, False)):
            texts = [f"{count}/{number}" for number in range(count)]
            inputs = [upload(spool, text, text.encode()) for text in texts]
            jobs[store.create(OWNER, "pictures", {}, inputs, keep).id] = texts
    versions, told = dict.fromkeys(jobs, 0), {id: [] for id in jobs}
    ends: Counter[str] = Counter()

    def watch(store: Store) -> None:
        """A stream of events to a client, which outlives the workers."""
        for id in jobs:
            news = store.since(id, OWNER, versions[id], limit=1000)
            ends[id] += news.job.state == "done" and news.version > versions[id]
            versions[id] = news.version
            told[id].extend(news.inputs)

    kills = 0
    for turn in range(25):
        before = len(notes(log))
        # Some are killed as they begin, the others at work.
        ready = (lambda: True) if turn % 3 == 0 else lambda before=before: len(notes(log)) > before
        kills += killed(start(work, path, spool, log), chance.uniform(0.0, 0.05), ready)
        with Store(path, spool) as store:
            watch(store)
            assert store.keys() <= spooled(spool), "nothing is missing that is still to be judged"
    assert kills == 25, "every kill came before the end"
    process = start(work, path, spool, log)
    process.join(60)
    assert process.exitcode == 0
    with Store(path, spool) as store:
        watch(store)
        for id, texts in jobs.items():
            job, found = store.job(id, OWNER), store.results(id, OWNER, 0, 1000)
            assert (job.state, job.done, job.total) == ("done", len(texts), len(texts))
            assert [given.result and given.result["input"] for given in found] == texts
            assert ["error" in (given.result or ()) for given in found] == [n % 5 == 4 for n in range(len(texts))]
            assert [given.provenance for given in found] == [{"told": text} for text in texts]
            assert job.version == 2 + len(texts), "made, begun, and one change a result"
            assert sorted(told[id], key=lambda given: given.number) == found
        assert set(ends.values()) == {1}
        assert max(Counter(notes(log)).values()) == 1
        spool.sweep(store.keys(), grace=0)
        assert spooled(spool) == store.keys()
        assert len(spooled(spool)) == 120
        assert store.usage().waiting == 0


def hand_in(path: Path, spool: Spool, log: Path) -> None:
    """What a server does with requests: uploads, then a job, then the client is told."""
    with Store(path, spool) as store:
        while True:
            inputs = [upload(spool, f"{number}.jpg", b"x" * 50_000) for number in range(4)]
            note(log, store.create(OWNER, "pictures", {}, inputs).id)


@forks
def test_kill_minus_9_while_jobs_are_handed_in_leaves_whole_ones(path: Path, spool: Spool, tmp_path: Path) -> None:
    log, chance = tmp_path / "log", random.Random(0)
    for turn in range(12):
        before = len(notes(log))
        ready = (lambda: True) if turn % 3 == 0 else lambda before=before: len(notes(log)) > before
        assert killed(start(hand_in, path, spool, log), chance.uniform(0.0, 0.05), ready)
    with Store(path, spool) as store:
        jobs = jobs_of(store)
        assert {id for (id,) in notes(log)} <= {job.id for job in jobs}, "what a client was told of is there"
        orphans = spooled(spool) - store.keys()
        assert spool.sweep(store.keys(), grace=0) == len(orphans)
        assert spooled(spool) == store.keys()
        for job in jobs:
            found = store.results(job.id, OWNER)
            assert [given.number for given in found] == [0, 1, 2, 3]
            assert {spool.path(str(given.key)).stat().st_size for given in found} == {50_000}
        assert len(store.keys()) == 4 * len(jobs)


def clear(path: Path, spool: Spool) -> None:
    with Store(path, spool) as store:
        for job in jobs_of(store):
            store.delete(job.id, OWNER)


@forks
def test_kill_minus_9_while_jobs_are_deleted_leaves_no_half_of_one(path: Path, spool: Spool) -> None:
    with Store(path, spool) as store:
        for _ in range(30):
            make(store, 5)
    chance, kills = random.Random(0), 0
    for turn in range(8):
        kills += killed(start(clear, path, spool), chance.uniform(0.0, 0.03) if turn else 0.0)
        with Store(path, spool) as store:
            jobs = jobs_of(store)
            assert len(store.keys()) == 5 * len(jobs)
            assert store.keys() <= spooled(spool)
    assert kills
    clear(path, spool)
    with Store(path, spool) as store:
        spool.sweep(store.keys(), grace=0)
        assert spooled(spool) == set()
        assert jobs_of(store) == []
