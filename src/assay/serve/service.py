"""The one process that owns it all: what waits, what is judged, what is kept.

Uploads wait in `decoding`'s turns, pictures in `worker`'s. Jobs are one more client there, so a picture that is judged
at once waits for one of theirs, not for all. What is accepted has a place in a gate or in the store until it has its
answer; a stop lets nothing more in and waits for the gates to empty. Jobs that are not done by then go on at the next
start.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import functools
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool

from assay.data import lock
from assay.errors import AssayError, BundleError, InputError, unknown
from assay.image import container
from assay.judge import bundle
from assay.judge.bundle import Bundle
from assay.judge.detector import Detector
from assay.judge.explain import Explanation
from assay.judge.scorecam import Toward
from assay.serve import refusal
from assay.serve.decoding import Decoded, Decoders, Task
from assay.serve.guard import Keys
from assay.serve.jobs import CLAIM, Claimed, Input, Job, Kind, Upload
from assay.serve.metrics import Metrics
from assay.serve.queue import Bucket, Full, Gate, Over
from assay.serve.refusal import Refused
from assay.serve.settings import Settings
from assay.serve.spool import Spool
from assay.serve.store import Store
from assay.serve.uploads import Caps, Received
from assay.serve.worker import Networks
from assay.types import Failure, Verdict

JOBS, FILMS = "jobs", "films"
"""The clients that all pictures of jobs are together, and all their videos, where clients take turns. No key's hash and
no address is called so."""

WORDS = ("fake", "real", "uncertain", "failed")

_log = logging.getLogger(__name__)

_REMEMBERED = 1_000
_HEAD = 1 << 16
_AT_ONCE = 100
_IDLE, _AGAIN = 2.0, 5.0
_FILMS = 64
"""Videos of jobs in work or waiting in memory, beside pictures, so that they do not keep those from being claimed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """The verdict on an upload, and what its file says of where it comes from, where that was asked for."""

    verdict: Verdict
    provenance: Mapping[str, Any] | None = None
    preview: bytes = b""


@dataclasses.dataclass(slots=True, eq=False)
class _Work:
    """An input of a job that is being judged.

    Args:
        over: set when it was deleted, or is another's by now.
        film: whether it is a video.
        task: that judges it.
    """

    over: threading.Event
    film: bool
    task: asyncio.Task[None] | None = None


class Service:
    """A server without its routes.

    Args:
        settings: of it.

    Raises:
        BundleError: there is no such detector.
        OutputError: the file of keys cannot be read.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folders = [bundle.find(name) for name in settings.detectors or (None,)]
        self.keys = Keys(settings.keys)
        self.metrics = Metrics()
        self.gate = Gate(settings.queue, settings.queue_client)
        self.explaining = Gate(settings.explanations, max(1, settings.explanations // 2))
        self.fetching = Gate(settings.fetches, max(1, settings.fetches // 2))
        self.uploading = Gate(settings.job_uploads, max(1, settings.job_uploads // 2))
        self.listening = Gate(settings.streams, settings.streams_client)
        self.bucket = Bucket(settings.rate, settings.burst)
        self.bundles: dict[str, Bundle] = {}
        self.failed: Exception | None = None
        self.on_ready: Callable[[], None] = lambda: None
        self.on_failure: Callable[[], None] = lambda: None
        self.ready = self.stopping = False
        self._held = contextlib.ExitStack()
        self._worker = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._tasks: list[asyncio.Task[None]] = []
        self._working: dict[tuple[str, int], _Work] = {}
        self._more = asyncio.Event()
        self._news: dict[str, set[asyncio.Event]] = collections.defaultdict(set)
        self._counts: collections.OrderedDict[str, tuple[int, dict[str, int]]] = collections.OrderedDict()
        self._counting = threading.Lock()

    # ── beginning and end ────────────────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Begins to load; `ready` says when that is done, `failed` that it cannot be."""
        self._tasks.append(asyncio.create_task(self._load()))

    async def _load(self) -> None:
        try:
            await run_in_threadpool(self._open)
        except Exception as error:
            self.failed = error
            self.on_failure()
            return
        self.ready = True
        self.on_ready()
        for work in (self._run_jobs, self._renew, self._sweep):
            task = asyncio.create_task(work())
            task.add_done_callback(_ended)
            self._tasks.append(task)

    def _open(self) -> None:
        settings = self.settings
        self.bundles = {}
        detectors = []
        for folder in self.folders:
            read = bundle.read(folder)
            if read.card.name in self.bundles:
                raise BundleError(f"two detectors are called {read.card.name!r}; serve one of them", kind="invalid")
            self.bundles[read.card.name] = read
            detectors.append(Detector(read, threads=settings.threads, device=settings.device, engine=settings.engine))
        self.spool = Spool(settings.data / "spool", most=max(settings.videos, settings.pictures))
        # The store locks its own folder at times.
        self._held.enter_context(lock.held(self.spool.folder))
        self.store = self._held.enter_context(Store(settings.data / "jobs.sqlite", self.spool))
        self.store.recover(everything=True)
        # Nobody else writes here, so what no job knows is left from a kill.
        self.spool.sweep(self.store.keys(), grace=0)
        self.networks = Networks(detectors, crops=settings.crops, linger=settings.linger, ran=self._ran)
        self.decoders = Decoders(
            detectors,
            self.folders,
            settings.limits,
            trusted=settings.trusted,
            count=settings.decoders,
            memory=settings.memory,
            seconds=settings.decode,
            clip=settings.clip,
            restarted=self.metrics.restarts.inc,
        )
        self._held.callback(self.networks.stop)
        self._held.callback(self.decoders.stop, now=True)
        self.networks.start()
        self.decoders.start()
        self.metrics.queue("decode", lambda: len(self.decoders))
        self.metrics.queue("judge", lambda: len(self.networks))
        self.metrics.queue("at once", lambda: len(self.gate))
        self.metrics.queue("explain", lambda: len(self.explaining))
        self.metrics.queue("jobs", lambda: self.store.usage().waiting)
        self.metrics.spool(lambda: self.store.usage().bytes)

    def _ran(self, pictures: int, crops: int, seconds: float) -> None:
        self.metrics.batch_pictures.observe(pictures)
        self.metrics.batch_crops.observe(crops)
        self.metrics.batch_seconds.observe(seconds)

    async def drain(self) -> None:
        """Takes no more work, and returns when what was accepted is done, or `Settings.stop` seconds later."""
        self.stopping = True
        self._more.set()
        for events in list(self._news.values()):
            for event in events:
                event.set()
        for work in self._working.values():
            if work.film and work.task is not None:  # it may take long, and goes on at the next start
                work.over.set()
                work.task.cancel()
        until = time.monotonic() + self.settings.stop
        while time.monotonic() < until and (
            len(self.gate) or len(self.explaining) or len(self.uploading) or self._working
        ):
            await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """Ends. What jobs have not done is kept, and goes on at the next start."""
        await self.drain()
        self.ready = False
        tasks = [*self._tasks, *(work.task for work in self._working.values() if work.task is not None)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if hasattr(self, "store"):
            with contextlib.suppress(AssayError):
                await run_in_threadpool(self.store.release, self._worker)
        await run_in_threadpool(self._held.close)

    def refusal(self, path: str, method: str) -> Refused | None:
        """Why nothing can be asked now; None where it can."""
        if self.stopping and method == "POST":
            return refusal.stopping()
        if not self.ready and path.startswith("/v1/"):
            return Refused(503, "starting", "the server is loading its detector; try again in a moment", seconds=2)
        return None

    # ── one upload ───────────────────────────────────────────────────────────────────────────────────────────────────

    def number(self, detector: str | None) -> int:
        """The detector of that name, or the default one, by its place.

        Raises:
            BundleError: unknown.
        """
        if detector is None:
            return 0
        if detector not in self.bundles:
            raise BundleError(unknown("detector", detector, self.bundles), kind="unknown")
        return list(self.bundles).index(detector)

    def caps(self, job: bool = False) -> Caps:
        """What a request may bring."""
        settings = self.settings
        return Caps(
            files=settings.files if job else 1,
            pictures=settings.pictures,
            videos=settings.videos if job else settings.pictures,
            total=settings.job_bytes if job else settings.pictures,
            in_memory=0 if job else settings.in_memory,
            stall=settings.stall,
            seconds=settings.job_upload if job else settings.upload,
        )

    @contextlib.contextmanager
    def accepted(self, client: str, gate: Gate) -> Iterator[None]:
        """Counts a request of a client against its rate, and holds its place in a gate.

        Raises:
            Refused: 429.
        """
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(gate.entered(client))
                self.bucket.take(client)
            except Full as full:
                raise Refused(
                    429, "busy", f"too much is waiting; try again in {full.seconds} s", seconds=full.seconds
                ) from None
            yield

    async def judge(self, client: str, received: Received, detector: int, *, origin: bool) -> Answer:
        """The verdict on an upload.

        Raises:
            InputError: it could not be judged.
            BundleError: the networks can't be run.
            Refused: 408.
        """
        source = received.source(self.spool)
        async with self._in_time(self.settings.answer):
            return await self._judged(client, source, received.name, detector, origin=origin)

    async def alter(self, client: str, received: Received, detector: int, changes: Mapping[str, float]) -> Answer:
        """The verdict on an upload after changes ("scale", "blur", "jpeg"), and a preview of it. Raises as `judge`."""
        task = Task("alter", received.source(self.spool), detector, received.name, changes=changes)
        async with self._in_time(self.settings.answer):
            decoded = await self._decoded(client, task)
            assert decoded.still is not None
            verdict = await asyncio.wrap_future(self.networks.judge(client, detector, decoded.still))
            return Answer(verdict, preview=decoded.preview)

    async def explain(self, client: str, received: Received, detector: int, toward: Toward) -> Explanation:
        """Where a detector looked in an upload; of a clip, in the frame that says most clearly what is asked. Raises as
        `judge`."""
        source, over = received.source(self.spool), threading.Event()
        verdict, number = None, None
        try:
            async with self._in_time(self.settings.explain):
                first = await self._decoded(client, Task("frame", source, detector, received.name, over=over))
                if first.about["frames"] > 1:
                    verdict = (await self._judged(client, source, received.name, detector, over=over)).verdict
                    number = _clearest(verdict, toward)
                    task = Task("frame", source, detector, received.name, number=number, over=over)
                    first = await self._decoded(client, task)
                assert first.pixels is not None
                found = await asyncio.wrap_future(self.networks.explain(detector, first.pixels, toward, over))
        finally:
            over.set()
        return _of_upload(found, verdict, received.name, first)

    async def _judged(
        self,
        client: str,
        source: bytes | Path,
        name: str,
        detector: int,
        *,
        every: float | None = None,
        origin: bool = False,
        over: threading.Event | None = None,
        long: bool = False,
    ) -> Answer:
        over = over or threading.Event()
        clip = self.networks.watch(client, detector)
        take = functools.partial(clip.take, most=self.settings.clip_frames)
        task = Task("cut", source, detector, name, every=every, origin=origin, each=take, long=long, over=over)
        try:
            decoded = await self._decoded(client, task)
            if decoded.still is not None:
                verdict = await asyncio.wrap_future(self.networks.judge(client, detector, decoded.still))
            else:
                verdict = await run_in_threadpool(clip.verdict)
        except InputError as error:
            self.metrics.failures.labels(error.kind).inc()
            raise
        except asyncio.CancelledError:
            over.set()
            raise
        self.metrics.verdicts.labels(str(verdict.verdict)).inc()
        return Answer(verdict, decoded.provenance)

    async def _decoded(self, client: str, task: Task) -> Decoded:
        return await asyncio.wrap_future(self.decoders.submit(client, task))

    @contextlib.asynccontextmanager
    async def _in_time(self, seconds: float) -> Any:
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError:
            raise refusal.late() from None

    # ── jobs ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def room(self) -> None:
        """Raises Refused (429) where too many inputs wait, or uploads take too much room."""
        usage = await run_in_threadpool(self.store.usage)
        if usage.waiting >= self.settings.backlog or usage.bytes >= self.settings.spool_bytes:
            raise Refused(429, "busy", "too much is waiting or kept; try again later, or delete jobs", seconds=60)

    async def create(
        self,
        owner: str,
        files: Sequence[Received],
        detector: int,
        *,
        keep: bool,
        every: float | None,
        idempotency: str | None,
    ) -> Job:
        """A job. Raises as `Jobs.create`."""
        kind: Kind = "video" if len(files) == 1 and files[0].is_video else "pictures"
        inputs: list[Upload | Failure] = []
        for each in files:
            if each.failure is not None:
                inputs.append(Failure(each.name, each.failure.kind, str(each.failure)))
            elif each.file is not None:
                inputs.append(Upload(each.name, each.file))
        options = {"detector": list(self.bundles)[detector], "every": every}
        make = functools.partial(self.store.create, owner, kind, options, inputs, keep, idempotency=idempotency)
        job = await run_in_threadpool(make)
        for given in inputs:
            if isinstance(given, Failure):
                self.metrics.failures.labels(given.kind).inc()
        self._more.set()
        return job

    async def delete(self, id: str, owner: str) -> None:
        """Ends a job where it runs, and deletes it. Raises JobError: missing."""
        await run_in_threadpool(self.store.delete, id, owner)
        for (job, _), work in self._working.items():
            if job == id:
                work.over.set()
        self._tell(id)

    def counted(self, job: Job) -> tuple[Job, dict[str, int]]:
        """A job as it stands, and how many of its inputs have each verdict, or failed. Looks only at what is new since
        the last time."""
        with self._counting:
            version, counts = self._counts.pop(job.id, (0, dict.fromkeys(WORDS, 0)))
            counts = dict(counts)
            while version < job.version:
                news = self.store.since(job.id, job.owner, version)
                for each in news.inputs:
                    counts[word_of(each)] += 1
                job, version = news.job, news.version
            self._counts[job.id] = version, counts
            while len(self._counts) > _REMEMBERED:
                self._counts.popitem(last=False)
            return job, dict(counts)

    def told(self, job: Job) -> dict[str, Any]:
        """A job as clients see it."""
        job, counts = self.counted(job)
        return {
            "id": job.id,
            "kind": job.kind,
            "state": job.state,
            "total": job.total,
            "finished": job.done,
            "created": job.created,
            "started": job.started,
            "ended": job.finished,
            "counts": counts,
            "detector": job.options.get("detector"),
            "every": job.options.get("every"),
            "keep": job.kept,
        }

    def since(self, id: str, owner: str, version: int) -> tuple[dict[str, Any], list[tuple[int, Input]], int, bool]:
        """What happened to a job since a version: the job; inputs that are done, each with the version to go on from
        after it; the version to go on from; and whether that is all for now and the job has ended."""
        found: list[tuple[int, Input]] = []
        for _ in range(_AT_ONCE):
            # One at a time, as each must be a place to go on from.
            news = self.store.since(id, owner, version, limit=1)
            version = news.version
            if not news.inputs:
                break
            found += [(version, each) for each in news.inputs]
        over = news.job.finished is not None and version >= news.job.version
        return self.told(news.job), found, version, over

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

    async def _run_jobs(self) -> None:
        while not self.stopping:
            self._more.clear()
            films = sum(work.film for work in self._working.values())
            room = 0 if films >= _FILMS else self.settings.at_once - (len(self._working) - films)
            claimed: list[Claimed] = []
            if room > 0:
                try:
                    claimed = await run_in_threadpool(self.store.claim, self._worker, room, CLAIM)
                except AssayError as error:
                    _log.error("jobs wait: %s", error)
            for each in claimed:
                which = each.job, each.number
                film = await run_in_threadpool(_is_video, self.spool.path(each.key))
                self._working[which] = work = _Work(threading.Event(), film)
                work.task = asyncio.create_task(self._work(each, work))
                work.task.add_done_callback(functools.partial(self._worked, which))
            for id in {each.job for each in claimed}:
                self._tell(id)
            if len(claimed) < room or room <= 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._more.wait(), _IDLE)

    def _worked(self, which: tuple[str, int], task: asyncio.Task[None]) -> None:
        self._working.pop(which, None)
        self._more.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("input %d of job %s could not be finished", which[1], which[0], exc_info=error)

    async def _work(self, claimed: Claimed, work: _Work) -> None:
        try:
            result: Verdict | Failure = await self._result(claimed, work)
        except Over:  # deleted, or another's by now
            return
        while True:
            try:
                await run_in_threadpool(self.store.finish, claimed.job, claimed.number, result.to_dict())
            except AssayError as error:
                _log.error("a result waits: %s", error)
                await asyncio.sleep(_AGAIN)
            else:
                break
        self._tell(claimed.job)

    async def _result(self, claimed: Claimed, work: _Work) -> Verdict | Failure:
        if claimed.tries > self.settings.tries:
            return Failure(claimed.name, "crashed", "the server went down whenever it was judged; leave it out")
        source, every = self.spool.path(claimed.key), claimed.options.get("every")
        try:
            detector = self.number(claimed.options.get("detector"))
            client = FILMS if work.film else JOBS
            judging = self._judged(client, source, claimed.name, detector, every=every, over=work.over, long=work.film)
            return (await judging).verdict
        except InputError as error:
            return Failure(claimed.name, error.kind, str(error))
        except (BundleError, ValueError) as error:
            self.metrics.failures.labels("detector").inc()
            _log.error("input %d of job %s: %s", claimed.number, claimed.job, error)
            return Failure(claimed.name, "detector", "the detector could not be run on it, or is not served any more")
        except Over:
            raise
        except Exception:  # a fault of ours, which must not hold up the others
            if self.stopping:
                raise
            _log.exception("input %d of job %s", claimed.number, claimed.job)
            return Failure(claimed.name, "internal", "the server failed on it; tell whoever runs it")

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(CLAIM / 3)
            try:
                held = await run_in_threadpool(self.store.renew, self._worker, CLAIM)
            except AssayError as error:
                _log.error("%s", error)
                continue
            for which, work in self._working.items():
                if which not in held:
                    work.over.set()

    async def _sweep(self) -> None:
        while True:
            try:
                await run_in_threadpool(self.store.expire, seconds=self.settings.keep)
                await run_in_threadpool(self._sweep_spool)
            except AssayError as error:
                _log.error("%s", error)
            await asyncio.sleep(self.settings.sweep)

    def _sweep_spool(self) -> None:
        # By the store first: a file that comes in between is too young.
        self.spool.sweep(self.store.keys())


def _ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("jobs are not looked after any more", exc_info=error)


def word_of(each: Input) -> str:
    """An input's verdict, or "failed"; it is done."""
    assert each.result is not None
    return "failed" if "error" in each.result else str(each.result["verdict"])


def _is_video(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return container.identify(file.read(_HEAD)) in container.VIDEOS
    except (OSError, InputError):
        return False


def _clearest(verdict: Verdict, toward: Toward) -> int | None:
    """The frame that says most clearly what is asked; None for the first, where none has a score."""
    if not verdict.frames:
        return None
    return (max if toward == "fake" else min)(verdict.frames, key=lambda frame: frame[1])[0]


def _of_upload(found: Explanation, verdict: Verdict | None, name: str, frame: Decoded) -> Explanation:
    """An explanation of pixels as that of the file that they are from."""
    if verdict is None:
        verdict = dataclasses.replace(found.verdict, input=name, sha256=str(frame.about["sha256"]))
    scores = {stream.name: stream.score for stream in verdict.streams}
    return dataclasses.replace(
        found,
        verdict=verdict,
        frame=int(frame.about["frame"]),
        time=frame.about["time"],
        streams=tuple(dataclasses.replace(look, score=scores.get(look.name)) for look in found.streams),
    )
