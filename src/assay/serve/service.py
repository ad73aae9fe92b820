"""The one process that owns it all: what is judged at once, and by whom.

Uploads wait in `decoding`'s turns, pictures in `worker`'s. Jobs (`assay.serve.backlog`) are one more client there, so a
picture that is judged at once waits for one of theirs, not for all. What is accepted has a place in a gate or in the
store until it has its answer; a stop lets nothing more in and waits for the gates to empty. Jobs that are not done by
then go on at the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sized
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool

from assay.data import lock
from assay.errors import BundleError, InputError, unknown
from assay.judge import bundle
from assay.judge.bundle import Bundle
from assay.judge.detector import Detector
from assay.judge.explain import Explanation
from assay.judge.scorecam import Toward
from assay.serve import refusal
from assay.serve.backlog import Backlog
from assay.serve.decoding import Decoded, Decoders, Task
from assay.serve.guard import Keys
from assay.serve.metrics import Metrics
from assay.serve.queue import Full, Gate, Rate
from assay.serve.refusal import Refused
from assay.serve.settings import Settings
from assay.serve.spool import Spool
from assay.serve.store import Store
from assay.serve.uploads import Caps, Received
from assay.serve.worker import Networks
from assay.types import Verdict

Gone = Callable[[], Awaitable[None]]
"""Returns when nobody waits any more."""


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """The verdict on an upload, and what its file says of where it comes from, where that was asked for."""

    verdict: Verdict
    provenance: Mapping[str, Any] | None = None
    preview: bytes = b""


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
        self.rate = Rate(settings.rate, settings.burst)
        self.bundles: dict[str, Bundle] = {}
        self.failed: Exception | None = None
        self.on_ready: Callable[[], None] = lambda: None
        self.on_failure: Callable[[], None] = lambda: None
        self.ready = self.stopping = False
        self.backlog: Backlog | None = None
        self._held = contextlib.ExitStack()
        self._loading: asyncio.Task[None] | None = None

    # ── beginning and end ────────────────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Begins to load; `ready` says when that is done, `failed` that it cannot be."""
        self._loading = asyncio.create_task(self._load())

    async def _load(self) -> None:
        try:
            await run_in_threadpool(self._open)
        except Exception as error:
            self.failed = error
            self.on_failure()
            return
        if not self.stopping:
            self.ready = True
            self.on_ready()
            self.jobs.start()

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
        self._held.enter_context(lock.held(self.spool.folder))
        self.store = self._held.enter_context(Store(settings.data / "jobs.sqlite", self.spool))
        self.store.give_back(tried=True)
        # Nobody else writes here, so what no job knows is left from a kill.
        self.spool.sweep(self.store.keys(), grace=0)
        self.networks = Networks(
            detectors,
            crops=settings.crops,
            linger=settings.linger,
            coming=lambda: self.decoders.coming,
            ran=self._ran,
        )
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
        self.backlog = Backlog(settings, self.store, self.spool, self._of_job, self.metrics)
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
        accepted: list[Sized] = [self.gate, self.explaining, self.fetching, self.uploading]
        if self.backlog is not None:
            self.backlog.drain()
            accepted.append(self.backlog)
        until = time.monotonic() + self.settings.stop
        while time.monotonic() < until and any(map(len, accepted)):
            await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """Ends. What jobs have not done is kept, and goes on at the next start."""
        await self.drain()
        self.ready = False
        if self._loading is not None:
            await asyncio.wait([self._loading])  # a thread is at it, which nothing cuts short
        if self.backlog is not None:
            await self.backlog.stop()
        await run_in_threadpool(self._held.close)

    @property
    def jobs(self) -> Backlog:
        """Of a server that is ready."""
        assert self.backlog is not None
        return self.backlog

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
                self.rate.take(client)
            except Full as full:
                raise refusal.busy("too many requests", full.seconds) from None
            try:
                held.enter_context(gate.entered(client))
            except Full as full:
                raise refusal.busy("too much is waiting", full.seconds) from None
            yield

    async def judge(self, client: str, received: Received, detector: int, *, origin: bool, gone: Gone) -> Answer:
        """The verdict on an upload.

        Raises:
            InputError: it could not be judged.
            BundleError: the networks can't be run.
            Refused: 408; 400 once its client is gone.
        """
        source = received.source(self.spool)
        async with _in_time(self.settings.answer, gone):
            return await self._judged(client, source, received.name, detector, origin=origin)

    async def alter(
        self, client: str, received: Received, detector: int, changes: Mapping[str, float], *, gone: Gone
    ) -> Answer:
        """The verdict on an upload after changes ("scale", "blur", "jpeg"), and a preview of it. Raises as `judge`."""
        task = Task("alter", received.source(self.spool), detector, received.name, changes=changes)
        async with _in_time(self.settings.answer, gone):
            decoded = await self._decoded(client, task)
            assert decoded.still is not None
            verdict = await asyncio.wrap_future(self.networks.judge(client, detector, decoded.still))
            return Answer(verdict, preview=decoded.preview)

    async def explain(
        self, client: str, received: Received, detector: int, toward: Toward, *, gone: Gone
    ) -> Explanation:
        """Where a detector looked in an upload; of a clip, in the frame that says most clearly what is asked. Raises as
        `judge`."""
        source, over = received.source(self.spool), threading.Event()
        verdict, number = None, None
        try:
            async with _in_time(self.settings.explain, gone):
                first = await self._decoded(client, Task("frame", source, detector, received.name, over=over))
                if first.about["frames"] > 1:
                    verdict = (await self._judged(client, source, received.name, detector, over=over)).verdict
                    number = _clearest(verdict, toward)
                    task = Task("frame", source, detector, received.name, number=number, over=over)
                    first = await self._decoded(client, task)
                assert first.pixels is not None
                height, width, _ = first.pixels.shape
                if height * width > (most := self.settings.explained):
                    told = f"{width} x {height} px, more than {most:,} that can be explained here; cut out what matters"
                    raise InputError(told, kind="too_many_pixels")
                found = await asyncio.wrap_future(self.networks.explain(detector, first.pixels, toward, over))
        finally:
            over.set()
        return _of_upload(found, verdict, received.name, first)

    async def _of_job(self, client: str, source: Path, name: str, detector: str | None, **more: Any) -> Answer:
        return await self._judged(client, source, name, self.number(detector), **more)

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
async def _in_time(seconds: float, gone: Gone) -> AsyncIterator[None]:
    """Ends the block when its time is over, or nobody waits for it any more."""

    async def watch(limit: asyncio.Timeout) -> None:
        await gone()
        limit.reschedule(0)

    watching: asyncio.Task[None] | None = None
    try:
        async with asyncio.timeout(seconds) as limit:
            watching = asyncio.create_task(watch(limit))
            yield
    except TimeoutError:
        assert watching is not None
        raise (refusal.gone() if watching.done() else refusal.late()) from None
    finally:
        if watching is not None:
            watching.cancel()


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
