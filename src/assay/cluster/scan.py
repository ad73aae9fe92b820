"""A scan on a cluster: plan, judge, write; gone on with after whatever stopped it.

The driver, which is this process, holds numbers of chunks and tallies: names go from the plan's files to the workers,
results from the workers to the parts. So its memory does not grow with the inputs, and a part that is there is all that
says what is done.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import assay
from assay.cluster import apart, inputs, parts, plan, start
from assay.cluster.parts import Tally
from assay.cluster.plan import MOST, Plan
from assay.cluster.start import Crew
from assay.cluster.storage import Folder, local
from assay.cluster.work import Job, Worker
from assay.data import lock
from assay.errors import AssayError, words
from assay.image.decode import DEFAULT, Limits
from assay.judge import bundle
from assay.judge.scan import STDIN, Summary
from assay.types import EngineName

_READERS = 16
_BLOCK = 1 << 20
"""Bytes that Ray is told to expect of a block: it holds back workers for which the store would be too small by its own
guess, 128 MiB each."""


def scan(
    detector: str | os.PathLike[str] | None,
    paths: Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    address: str | None = None,
    head: str | None = None,
    vote: str | None = None,
    skip: bool = False,
    threads: int | None = None,
    workers: int | None = None,
    engine: EngineName = "auto",
    limits: Limits = DEFAULT,
    batch: int = 8,
    every: float | None = None,
    column: str | None = None,
    fresh: bool = False,
    stdin: BinaryIO | None = None,
    null: bool = False,
    most: int = MOST,
    planned: Callable[[Plan], None] | None = None,
    progress: Callable[[Summary], None] | None = None,
) -> Summary:
    """Judge every input once, on a cluster, into a folder of Parquet files (`assay.cluster.parts.SCHEMA`).

    What was stopped, by whatever, goes on with the same call: the inputs are those that were gathered the first time.

    Ray runs in a process of its own, unless this one is connected to a cluster already. A script that calls this
    therefore has to do so under `if __name__ == "__main__"`.

    Args:
        detector, head, vote, skip, engine: as in `assay.load`. The bundle travels to the workers.
        paths: see `assay.cluster.inputs`. Paths must lead to the same files on all machines; addresses do.
        out: a folder, at a path that all machines share or at an address.
        address: see `assay.cluster.start.connected`; None starts a cluster on this machine.
        threads: cores of a worker; None for 1, or for a GPU's share.
        workers: at most so many; None for as many as the cluster has room for when the scan begins.
        limits, batch, every: as in `assay.judge.scan.scan`.
        column, stdin, null: as in `assay.cluster.inputs.gather`.
        fresh: throw away the scan that `out` holds.
        most: inputs of a chunk.
        planned: told of the plan before anything is judged.
        progress: called with the tally after each chunk. One object, updated in place.

    Raises:
        OutputError: `out` holds something else, or another detector's results; another process writes to it; it cannot
            be written, or a worker does not see it.
        BundleError: the detector does not read, or a worker cannot run it.
        AssayError: kind "cluster" (no cluster, or it was lost), "needs_extra", "manifest".
        MissingExtra: the extra "cluster" is not installed.
    """
    begun = time.monotonic()
    found = bundle.find(detector)
    # The hashes are checked here, and again by each worker.
    loaded = assay.load(found, head=head, vote=vote, skip=skip, threads=1, engine=engine)
    names = [*loaded.card.files, bundle.CARD]
    base = str(Path.cwd())
    given = [os.fspath(path) for path in paths]
    asked = [name if name == STDIN else plan.absolute(local(name), base) for name in given]
    folder = Folder(_place(out, base))
    summary = Summary()
    with _held(folder):
        if fresh and folder.names(plan.FOLDER):
            plan.clear(folder)
        whole = plan.find(folder, loaded.sha256, asked)
        if whole is None:
            whole = plan.make(
                folder,
                lambda add: inputs.gather(given, add, column=column, stdin=stdin, null=null, rows=most),
                detector=loaded.sha256,
                asked=asked,
                base=base,
                batch=batch,
                most=most,
            )
        if planned is not None:
            planned(whole)
        done = _done(folder, whole)
        for tally in done.values():
            summary.judged_before += tally.judged
            summary.failed_before += tally.failed
        todo = [number for number in range(whole.chunks) if number not in done]
        if todo:
            job = Job(
                out=folder.place,
                plan=whole.id,
                base=whole.base,
                detector=whole.detector,
                head=head,
                vote=vote,
                skip=skip,
                engine=engine,
                limits=limits,
                batch=whole.batch,
                every=every,
            )
            files = {name: (found / name).read_bytes() for name in names}
            # Closed whatever happens, so that nobody judges any more once the folder is let go.
            with contextlib.closing(_judged(job, files, todo, address, threads, workers)) as tallies:
                for told in tallies:
                    _count(summary, told, time.monotonic() - begun)
                    if progress is not None:
                        progress(summary)
        _swept(folder, whole)
    summary.seconds = time.monotonic() - begun
    return summary


def _place(out: str | os.PathLike[str], base: str) -> str:
    return plan.absolute(local(os.fspath(out)), base).rstrip("/") or "/"


@contextlib.contextmanager
def _held(folder: Folder) -> Iterator[None]:
    """The folder is there, and no other scan on this machine writes to it."""
    folder.make()
    if folder.path is None:
        yield
        return
    with lock.held(folder.path):
        yield


def _done(folder: Folder, whole: Plan) -> dict[int, Tally]:
    """The chunks that have a part, with what it holds; what killed processes left is removed."""
    for name in folder.names():
        if name.startswith(".") and name.endswith(".part"):
            folder.remove(name)
    for name in folder.names(plan.FOLDER):
        if name.endswith((".tries", ".part")):
            folder.remove(f"{plan.FOLDER}/{name}")
    names = [name for name in folder.names() if plan.is_part(name)]
    with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
        tallies = pool.map(lambda name: parts.tally(folder, name), names)
        return {tally.chunk: tally for tally in tallies if tally is not None and tally.plan == whole.id}


def _swept(folder: Folder, whole: Plan) -> None:
    """Removes parts that are not of the plan, as a worker of an older one may have written last."""
    for name in folder.names():
        if plan.is_part(name) and plan.number_of(name) >= whole.chunks:
            folder.remove(name)


def _count(summary: Summary, told: Mapping[str, Any], seconds: float) -> None:
    if "error" in told:
        raise AssayError(told["error"]["message"], kind=told["error"]["kind"])
    tally = Tally(**told)
    summary.add(tally.judged, tally.failed, tally.verdicts)
    summary.seconds = seconds


# ── Ray ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _judged(
    job: Job,
    files: dict[str, bytes],
    todo: Sequence[int],
    address: str | None,
    threads: int | None,
    workers: int | None,
) -> Generator[dict[str, Any]]:
    """What the workers tell of each chunk, as they finish. To be closed."""
    if start.is_connected():
        return _driven(job, files, todo, address, threads, workers)
    lost = "the cluster was lost, and Ray with it; run the same command again to go on"
    return apart.each(lost, _driven, job, files, todo, address, threads, workers)


def _driven(
    job: Job,
    files: dict[str, bytes],
    todo: Sequence[int],
    address: str | None,
    threads: int | None,
    workers: int | None,
) -> Generator[dict[str, Any]]:
    """The same, by this process."""
    size = sum(map(len, files.values()))
    with start.connected(address, size) as ray:
        try:
            crew = start.crew(ray, threads, min(len(todo), workers or len(todo)))
            job = dataclasses.replace(job, threads=crew.cores, device="cuda" if crew.gpus else "cpu")
            sent = ray.put(files)
            files.clear()
            if ray.util.client.ray.is_connected():
                yield from _from_afar(ray, job, sent, todo, crew)
            else:
                yield from _mapped(job, sent, todo, crew)
        except (ray.exceptions.RayError, ConnectionError) as error:
            raise _lost(error) from error


def _mapped(job: Job, files: Any, todo: Sequence[int], crew: Crew) -> Generator[dict[str, Any]]:
    """Ray Data over the chunks' numbers. It starts workers again that die, on other machines where theirs is gone, and
    gives them the chunk that they had."""
    import ray.data

    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.target_max_block_size = _BLOCK
    with ray.data.DataContext.current(context):
        numbers = ray.data.from_items([{"chunk": number} for number in todo], override_num_blocks=len(todo))
        told = numbers.map_batches(
            Mapped,
            fn_constructor_kwargs={"job": job, "files": files},
            batch_size=1,
            num_cpus=crew.cores,
            num_gpus=crew.gpus,
            # As many as there are from first to last, since a pool that may shrink does. One chunk at a time each, so
            # that the last ones are not waiting behind each other.
            compute=ray.data.ActorPoolStrategy(size=crew.size, max_tasks_in_flight_per_actor=1),
        )
        for block in told.iter_batches(batch_size=None, prefetch_batches=0):
            yield from map(json.loads, block["told"].tolist())


class Mapped:
    """A `Worker` as Ray Data wants it: from a batch of columns to another."""

    def __init__(self, job: Job, files: Any) -> None:
        import ray

        self._worker = Worker(job, ray.get(files))

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        told = [self._worker.judge(int(number)) for number in batch["chunk"]]
        return {"chunk": list(batch["chunk"]), "told": list(map(json.dumps, told))}


class _Far:
    """The driver's part where Ray Data cannot run in this process: on the cluster, asked from here."""

    def __init__(self, job: Job, files: list[Any], todo: Sequence[int], crew: Crew) -> None:
        # In a list: Ray would hand over the content of a bare reference.
        self._told = _mapped(job, files[0], todo, crew)

    def next(self) -> dict[str, Any] | None:
        return next(self._told, None)


def _from_afar(ray: Any, job: Job, files: Any, todo: Sequence[int], crew: Crew) -> Iterator[dict[str, Any]]:
    far = ray.remote(num_cpus=0)(_Far).remote(job, [files], todo, crew)
    while (told := ray.get(far.next.remote())) is not None:
        yield told


def _lost(error: Exception) -> AssayError:
    import ray

    cause = getattr(error, "cause", None)
    if isinstance(cause, ImportError) or "ModuleNotFoundError" in str(error):
        return AssayError(
            "the cluster's machines lack assay, or another library that it needs there: install the same "
            f'"assay[cluster]" on each ({cause or str(error).strip().splitlines()[-1]})',
            kind="cluster",
        )
    if isinstance(error, ray.exceptions.RayTaskError):
        raise error  # a fault of ours, worth its traceback
    return AssayError(
        f"the cluster was lost ({words(error, 200)}); run the same command again to go on", kind="cluster"
    )
