"""What a process of the cluster does: it judges chunks of a plan, one after the other, and writes their parts.

The judging is that of an ordinary scan, `assay.judge.scan.scan` over `Detector.judge_many`; nothing here decodes,
batches or scores. As chunks hold whole batches, the same engine with the same threads gives the same scores to the bit.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import assay
from assay.cluster import parts, plan
from assay.cluster.parts import Part, Tally
from assay.cluster.plan import Item
from assay.cluster.reading import Reading
from assay.cluster.storage import Folder
from assay.data.remote import WAITS
from assay.errors import AssayError, BundleError, InputError, OutputError
from assay.image.decode import Limits
from assay.image.memory import keep
from assay.judge.scan import Summary, scan
from assay.types import EngineName, Failure

CAREFUL = 2
"""Tries of a chunk that may end without a word before it is judged input by input, to find what ends them."""

DEATHS = 2
"""So often a process has to end over one input, judged by itself, before that input is called a failure."""


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """What every worker is told.

    Args:
        out: the folder of the plan and the results.
        plan: its id.
        base: the folder that relative names are relative to.
        detector: sha256 that the detector must have.
        head, vote, skip, threads, engine, device: as in `assay.load`.
        limits, batch, workers, every: as in `assay.judge.scan.scan`.
    """

    out: str
    plan: str
    base: str
    detector: str
    head: str | None = None
    vote: str | None = None
    skip: bool = False
    threads: int = 1
    engine: EngineName = "auto"
    device: Literal["auto", "cpu", "cuda"] = "cpu"
    limits: Limits = dataclasses.field(default_factory=Limits)
    batch: int = 8
    workers: int = 2
    every: float | None = None


class Worker:
    """Judges chunks. Errors that stop the whole scan are told, not raised: Ray would wrap them.

    Args:
        job: what to do.
        files: the bundle's files, content by name.
    """

    def __init__(self, job: Job, files: Mapping[str, bytes]) -> None:
        self._job = job
        self._stopped: AssayError | None = None
        try:
            self._folder = Folder(job.out)
            self._check_folder()
            keep()
            self._detector = loaded(job, files)
        except AssayError as error:
            self._stopped = error

    def judge(self, number: int) -> dict[str, Any]:
        """What came of a chunk: the part's tally, or {"error": {"kind", "message"}}."""
        try:
            if self._stopped is not None:
                raise self._stopped
            return self._judged(number).to_dict()
        except AssayError as error:
            return {"error": {"kind": error.kind, "message": f"{error} (on {socket.gethostname()})"}}

    def _judged(self, number: int) -> Tally:
        name = plan.part(number)
        # A worker may have died after it wrote the part and before it told.
        found = parts.tally(self._folder, name)
        if found is not None and found.plan == self._job.plan:
            return found
        items = list(plan.chunk(self._folder, number))
        with _Watch(self._folder, number) as watch:
            part, summary = self._careful(items, watch) if watch.tries > CAREFUL else self._tried(items)
            told, content = part.finished(self._job.plan, number, summary)
            # Begun anew by --fresh meanwhile: this result is nobody's.
            self._check_folder()
            self._folder.write(name, content)
        return told

    def _tried(self, items: list[Item]) -> tuple[Part, Summary]:
        """A chunk as an ordinary scan; anew where the connection to a tar or table broke off."""
        for wait in (*WAITS, None):
            part = Part()
            try:
                return part, self._scanned(items, part, patient=wait is not None)
            except InputError:
                part.close()
                if wait is None:
                    raise
            time.sleep(wait)
        raise AssertionError("unreachable")

    def _careful(self, items: list[Item], watch: _Watch) -> tuple[Part, Summary]:
        """Input by input, each noted before it is judged."""
        part, total = Part(), Summary()
        reading = self._reading(items, patient=False)
        with contextlib.closing(reading.inputs()) as inputs:
            for place, name in enumerate(inputs):
                if watch.ended(place) >= DEATHS and isinstance(name, str):
                    name = Failure(
                        name,
                        "crashed",
                        f"the process that judged it ended {DEATHS} times without a word, by a crash or for want of "
                        "memory; look at this file by itself",
                    )
                    reading.passed_over()
                watch.at(place)
                one = scan(reading, [name], part, **self._options | {"batch": 1, "workers": 1})
                total.add(one.judged, one.failed, one.verdicts)
        return part, total

    def _scanned(self, items: list[Item], part: Part, *, patient: bool) -> Summary:
        reading = self._reading(items, patient=patient)
        with contextlib.closing(reading.inputs()) as inputs:
            return scan(reading, inputs, part, **self._options)

    def _reading(self, items: list[Item], *, patient: bool) -> Reading:
        return Reading(self._detector, items, self._job.base, self._job.limits, patient=patient)

    @property
    def _options(self) -> dict[str, Any]:
        return {name: getattr(self._job, name) for name in ("limits", "batch", "workers", "every")}

    def _check_folder(self) -> None:
        if plan.current(self._folder) != self._job.plan:
            raise OutputError(
                f"{self._job.out}: a worker does not find this scan there; on several machines give --out a folder "
                "that all of them share, or an address such as s3://bucket/folder"
            )


def loaded(job: Job, files: Mapping[str, bytes]) -> assay.Detector:
    """The detector of a bundle that came as bytes, every hash checked, its networks ready.

    Raises:
        BundleError: it is not the one that was sent, or can't be run.
        AssayError: as `assay.load`.
    """
    with tempfile.TemporaryDirectory(prefix="assay-bundle-") as scratch:
        for name, content in files.items():
            (Path(scratch) / name).write_bytes(content)
        detector = assay.load(
            scratch,
            head=job.head,
            vote=job.vote,
            skip=job.skip,
            threads=job.threads,
            device=job.device,
            engine=job.engine,
        )
        if detector.sha256 != job.detector:
            raise BundleError(
                f"a worker has another detector ({detector.sha256[:12]}…, not {job.detector[:12]}…); install the same "
                "assay on every machine",
                kind="tampered",
            )
        # Networks are read on first use, and the files go now, so that a worker that is killed leaves none behind.
        detector.warm()
    return detector


class _Watch:
    """A note beside the plan of how often a chunk was begun, and over which inputs processes ended. It goes once the
    chunk is done."""

    def __init__(self, folder: Folder, number: int) -> None:
        self._folder, self._name = folder, f"{plan.FOLDER}/{number:06d}.tries"
        told = _parsed(folder.read(self._name))
        self.tries = int(told.get("tries", 0)) + 1
        self._ended: dict[str, int] = dict(told.get("ended", {}))
        if "at" in told:
            last = str(told["at"])
            self._ended[last] = self._ended.get(last, 0) + 1
        self._note()

    def ended(self, place: int) -> int:
        """How many processes ended over the chunk's input of that place."""
        return self._ended.get(str(place), 0)

    def at(self, place: int) -> None:
        self._note({"at": place})

    def _note(self, further: Mapping[str, Any] | None = None) -> None:
        told = {"tries": self.tries, "ended": self._ended} | dict(further or {})
        self._folder.write(self._name, json.dumps(told).encode(), lasting=False)

    def __enter__(self) -> _Watch:
        return self

    def __exit__(self, *_: object) -> None:
        # Also after an error that was told: only what ends a process leaves a note.
        self._folder.remove(self._name)


def _parsed(content: bytes | None) -> dict[str, Any]:
    try:
        told = json.loads(content or b"{}")
    except ValueError:
        told = {}
    return told if isinstance(told, dict) else {}
