"""The jobs at work: claimed in turn, judged as everything else is, told of, and deleted when their time is over.

Nothing that goes wrong here ends it: the disk may be full for a while, and jobs wait.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import functools
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool

from assay.errors import AssayError, BundleError, InputError, OutputError
from assay.image import container
from assay.serve import refusal
from assay.serve.jobs import Claimed, Job, Kind, Upload
from assay.serve.metrics import Metrics
from assay.serve.queue import Over
from assay.serve.refusal import NO_PROCESS
from assay.serve.settings import Settings
from assay.serve.spool import Spool
from assay.serve.store import Store
from assay.serve.uploads import Received
from assay.types import Failure

if TYPE_CHECKING:
    from assay.serve.service import Answer

JOBS, FILMS = "jobs", "films"
"""The clients that all pictures of jobs are together, and all their videos, where clients take turns. No key's hash and
no address is called so."""

_log = logging.getLogger(__name__)

_HEAD = 1 << 16
_IDLE, _AGAIN = 2.0, 5.0
"""Seconds between two looks for work that nobody told of, and until what failed is tried again."""

_FILMS = 64
"""Videos of jobs in work or waiting in memory, beside pictures, so that they do not keep those from being claimed."""


class _Work:
    """An input of a job that is being judged.

    Args:
        film: whether it is a video.
    """

    def __init__(self, film: bool) -> None:
        self.film = film
        self.over = threading.Event()
        """Set when it was deleted."""
        self.task: asyncio.Task[None] | None = None


class Backlog:
    """The jobs of a server.

    Args:
        settings: of it.
        store, spool: where they are.
        judge: judges a file for a client, by the name of a detector; with `every`, `origin`, `over` and `long` as in
            `assay.serve.decoding.Task`.
        metrics: that count what failed.
    """

    def __init__(
        self, settings: Settings, store: Store, spool: Spool, judge: Callable[..., Awaitable[Answer]], metrics: Metrics
    ) -> None:
        self._settings, self._store, self._spool, self._judge, self._metrics = settings, store, spool, judge, metrics
        self._working: dict[tuple[str, int], _Work] = {}
        self._running: asyncio.Task[None] | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self._more = asyncio.Event()
        self._news: dict[str, set[asyncio.Event]] = collections.defaultdict(set)
        self._draining = False

    def __len__(self) -> int:
        """How many inputs are in work."""
        return len(self._working)

    # ── beginning and end ────────────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Begins with what the store has."""
        self._running = asyncio.create_task(self._run())
        self._sweeping = asyncio.create_task(self._sweep())

    def drain(self) -> None:
        """Takes no more into work, ends the streams of events, and leaves videos, which may take long."""
        self._draining = True
        self._more.set()
        for events in self._news.values():
            for event in events:
                event.set()
        for work in self._working.values():
            if work.film and work.task is not None:
                work.over.set()
                work.task.cancel()

    async def stop(self) -> None:
        """Ends. What is not done is there at the next start."""
        if self._running is not None:
            await self._running  # what it claims just now is given back too
        tasks = [self._sweeping, *(work.task for work in self._working.values())]
        ending = [task for task in tasks if task is not None and task.cancel()]
        await asyncio.gather(*ending, return_exceptions=True)
        with contextlib.suppress(AssayError):
            await run_in_threadpool(self._store.give_back, tried=False)

    # ── what clients ask for ─────────────────────────────────────────────────────────────────────────────────────────

    async def room(self) -> None:
        """Raises Refused (429) where too many inputs wait, or uploads take too much room."""
        usage = await run_in_threadpool(self._store.usage)
        if usage.waiting >= self._settings.backlog or usage.bytes >= self._settings.spool_bytes:
            raise refusal.busy("too much is waiting or kept; delete jobs", 60)

    async def create(
        self,
        owner: str,
        files: Sequence[Received],
        options: Mapping[str, Any],
        *,
        keep: bool,
        idempotency: str | None,
    ) -> Job:
        """A job. Raises as `Store.create`."""
        kind: Kind = "video" if len(files) == 1 and files[0].is_video else "pictures"
        inputs: list[Upload | Failure] = []
        for each in files:
            if each.failure is not None:
                inputs.append(Failure(each.name, each.failure.kind, str(each.failure)))
            elif each.file is not None:
                inputs.append(Upload(each.name, each.file))
        make = functools.partial(self._store.create, owner, kind, options, inputs, keep, idempotency=idempotency)
        job = await run_in_threadpool(make)
        for given in inputs:
            if isinstance(given, Failure):
                self._metrics.failures.labels(given.kind).inc()
        self._more.set()
        return job

    async def delete(self, id: str, owner: str) -> None:
        """Ends a job where it runs, and deletes it. Raises JobError: missing."""
        await run_in_threadpool(self._store.delete, id, owner)
        for (job, _), work in self._working.items():
            if job == id:
                work.over.set()
        self._tell(id)

    @contextlib.contextmanager
    def listener(self, id: str) -> Iterator[asyncio.Event]:
        """Set whenever something happens to a job."""
        event = asyncio.Event()
        self._news[id].add(event)
        try:
            yield event
        finally:
            self._news[id].discard(event)
            if not self._news[id]:
                del self._news[id]

    def _tell(self, id: str) -> None:
        for event in self._news.get(id, ()):
            event.set()

    # ── at work ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _run(self) -> None:
        while not self._draining:
            self._more.clear()
            films = sum(work.film for work in self._working.values())
            room = 0 if films >= _FILMS else self._settings.at_once - (len(self._working) - films)
            claimed: list[tuple[Claimed, bool]] = []
            try:
                if room > 0:
                    claimed = await run_in_threadpool(self._claim, room)
            except AssayError as error:
                _log.error("jobs wait: %s", error)
            except Exception:
                _log.exception("jobs wait")
            if self._draining:  # the stop gives it back
                return
            for each, film in claimed:
                which = each.job, each.number
                self._working[which] = work = _Work(film)
                work.task = asyncio.create_task(self._work(each, work))
                work.task.add_done_callback(functools.partial(self._worked, which))
            for id in {each.job for each, _ in claimed}:
                self._tell(id)
            if len(claimed) < room or room <= 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._more.wait(), _IDLE)

    def _claim(self, room: int) -> list[tuple[Claimed, bool]]:
        """Inputs, and whether each is a video."""
        return [(each, _is_video(self._spool.path(each.key))) for each in self._store.claim(room)]

    def _worked(self, which: tuple[str, int], task: asyncio.Task[None]) -> None:
        self._working.pop(which, None)
        self._more.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("input %d of job %s could not be finished", which[1], which[0], exc_info=error)

    async def _work(self, claimed: Claimed, work: _Work) -> None:
        origin = None
        try:
            result, origin = await self._result(claimed, work)
        except Over:  # deleted
            return
        while True:
            try:
                await run_in_threadpool(self._store.finish, claimed.job, claimed.number, result, origin)
                break
            except OutputError as error:
                _log.error("a result waits: %s", error)
            except Exception:  # it cannot be stored, and something must be said
                _log.exception("input %d of job %s", claimed.number, claimed.job)
                result, origin = _internal(claimed), None
            await asyncio.sleep(_AGAIN)
        self._tell(claimed.job)

    async def _result(self, claimed: Claimed, work: _Work) -> tuple[Mapping[str, Any], Mapping[str, Any] | None]:
        """A verdict or a failure, and what the file says of its origin, as their `to_dict` gives them."""
        name, options = claimed.name, claimed.options
        if claimed.tries > self._settings.tries:
            message = "the server went down whenever it was judged; leave it out"
            return Failure(name, "crashed", message).to_dict(), None
        client, source = FILMS if work.film else JOBS, self._spool.path(claimed.key)
        while True:
            try:
                answer = await self._judge(
                    client,
                    source,
                    name,
                    options.get("detector"),
                    every=options.get("every"),
                    origin=bool(options.get("provenance")),
                    over=work.over,
                    long=work.film,
                )
                return answer.verdict.to_dict(), answer.provenance
            except InputError as error:
                return Failure(name, error.kind, str(error)).to_dict(), None
            except (BundleError, ValueError) as error:
                self._metrics.failures.labels("detector").inc()
                _log.error("input %d of job %s: %s", claimed.number, claimed.job, error)
                message = "the detector could not be run on it, or is not served any more"
                return Failure(name, "detector", message).to_dict(), None
            except Over:
                raise
            except Exception as error:
                if self._draining:
                    raise
                if not (isinstance(error, AssayError) and error.kind == NO_PROCESS):
                    # A fault of ours, which must not hold up the others.
                    _log.exception("input %d of job %s", claimed.number, claimed.job)
                    return _internal(claimed), None
            await asyncio.sleep(_AGAIN)  # no fault of the input's

    async def _sweep(self) -> None:
        while True:
            try:
                await run_in_threadpool(self._store.expire, self._settings.keep)
                # By the store first: a file that comes in between is too young.
                keys = await run_in_threadpool(self._store.keys)
                await run_in_threadpool(self._spool.sweep, keys)
            except AssayError as error:
                _log.error("%s", error)
            except Exception:
                _log.exception("what is over is not deleted")
            await asyncio.sleep(self._settings.sweep)


def _internal(claimed: Claimed) -> Mapping[str, Any]:
    return Failure(claimed.name, "internal", "the server failed on it; tell whoever runs it").to_dict()


def _is_video(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return container.identify(file.read(_HEAD)) in container.VIDEOS
    except (OSError, InputError):
        return False
