"""What scanning costs by the million and the billion: measured, reckoned, simulated, and the simulation held against
real runs.

    python bench/fleet.py cost
    python bench/fleet.py cost --bytes 500000 --gpu 2000 --json
    python bench/fleet.py check --save measured.json
    python bench/fleet.py simulate --measured measured.json

`cost` measures the processor time of a picture piece by piece (read, decode, crops, networks, row), with one thread,
for pictures of several sizes, under the detector that ships and a ViT-Tiny with random weights (needs torch); and what
a driver's share of a chunk is. The rest is arithmetic: what loads of a day need, and at how many pictures a second each
piece is full. What a machine, a network and a store can do is assumed, and can be set. Nothing is measured on a GPU:
`--gpu` takes a rate, and puts it into the formula.

`check` measures service times in scans on a cluster of Ray's with one worker in this machine, then makes other scans
(other sizes, two workers, workers killed), and holds the whole time of each against what the simulation says. Nothing
of the scans that it is judged on goes into it but how many inputs, workers and kills there were to be.

`simulate` plays scans of a million inputs with more workers than there are here, and a billion a day with the fleet
that `cost` gives. It knows what `assay.cluster` does: inputs are planned first, in chunks that grow; a free worker gets
the next chunk from the one driver; a killed one is started again and does its chunk anew; a lost machine's workers,
with their chunks, wait for cores, which are free where there are spare ones, or once others find no more to do.

Prints the tables of docs/scale.md on standard output. Times move with whatever else runs on the machine.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import json
import math
import os
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import simpy
from PIL import Image
from rich.console import Console

import assay
from assay.cluster import inputs, plan
from assay.cluster.parts import Part
from assay.cluster.storage import Folder
from assay.cluster.work import CAREFUL
from assay.image import counting, memory
from assay.judge.scan import Summary, scan
from assay.measure.block import line
from assay.types import Verdict
from speed import made_up, photographs

DAY = 86_400.0

LOADS = (10**6, 10**9)
"""Pictures a day."""

MEGAPIXELS = (0.3, 2.0, 12.0)

BATCH = 8

REQUESTS = 8
"""To a store, of each chunk whatever it holds: its line-up written and read, its part looked for and written, the plan
read, its note read, written and removed."""

PATIENCE = 300.0
"""Seconds that a scan's workers should wait at most for its plan; larger ones are better several scans."""

STRIKES = 4
"""Kills in a scan that is measured, or held against the simulation, at most: on a busy machine workers may take longer
to start than kills are apart, and the scan would never end."""

WORKERS, KILLS = (2, 16, 128, 1024), (0.0, 1.0, 10.0)
"""What a million inputs are simulated with: workers, and kills of each a day."""

_STRETCH = 2
"""Neighbours in the sample of service times that are drawn together, as what slows one slows the next."""

Measured = dict[str, Any]
Event = Generator[simpy.Event, Any, None]
T = TypeVar("T")

# ── what a picture costs ─────────────────────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass(frozen=True, slots=True)
class Cost:
    """What a picture costs one core.

    Args:
        detector: whose name.
        megapixels: of the pictures.
        read, decode, network, row: seconds of processor time; `decode` is decoding, as far as the detector looks, and
            cutting; `row` its result, written as Parquet.
        rest: what a scan of the same files takes beyond these: threads and hand-over. Below 0 where they help.
        size: bytes of its file.
        result: bytes of its row in a part.
    """

    detector: str
    megapixels: float
    read: float
    decode: float
    network: float
    row: float
    rest: float
    size: float
    result: float

    @property
    def core(self) -> float:
        """Seconds of a core in all."""
        return self.read + self.decode + self.network + self.row + self.rest


def pictures(folder: Path, megapixels: float, count: int, seed: int = 0) -> list[Path]:
    """`count` different JPEG files of 4 : 3, quality 85 to 95: pieces of photographs, enlarged, with a sensor's grain,
    without which large ones would be smaller files than a camera's."""
    draw = np.random.default_rng(seed)
    found = photographs()
    folder.mkdir(parents=True)
    width = round(math.sqrt(megapixels * 1e6 * 4 / 3))
    height = width * 3 // 4
    files = []
    for number in range(count):
        photograph = found[number % len(found)]
        high = draw.uniform(0.5, 0.74) * photograph.height
        wide = min(high * 4 / 3, photograph.width)
        left, top = draw.uniform(0, photograph.width - wide), draw.uniform(0, photograph.height - high)
        box = (left, top, left + wide, top + high)
        smooth = np.asarray(photograph.resize((width, height), Image.Resampling.BICUBIC, box), np.int16)
        grain = draw.integers(-5, 6, smooth.shape, np.int16)
        file = folder / f"{number:05}.jpg"
        Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8)).save(file, quality=int(draw.integers(85, 96)))
        files.append(file)
    return files


def cost(detector: assay.Detector, files: Sequence[Path], megapixels: float, rounds: int) -> Cost:
    """Medians of some rounds, after one that is not counted."""
    found: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        spent, result = _pieces(detector, files)
        begun = time.process_time()
        summary = scan(detector, map(str, files), Part(), batch=BATCH)
        whole = (time.process_time() - begun) / len(files)
        if summary.failed:
            raise SystemExit(f"{summary.failed} of the pictures could not be judged")
        if number:
            for name, seconds in (spent | {"rest": whole - sum(spent.values())}).items():
                found.setdefault(name, []).append(seconds)
    size = statistics.mean(file.stat().st_size for file in files)
    pieces = {name: statistics.median(seconds) for name, seconds in found.items()}
    return Cost(detector.name, megapixels, **pieces, size=size, result=result)


def _pieces(detector: assay.Detector, files: Sequence[Path]) -> tuple[dict[str, float], float]:
    """Processor seconds of each piece, a picture, one after the other in one thread; bytes of a result."""
    spent: dict[str, float] = collections.defaultdict(float)

    def clocked(name: str, work: Callable[..., T], *given: Any) -> T:
        begun = time.process_time()
        found = work(*given)
        spent[name] += (time.process_time() - begun) / len(files)
        return found

    verdicts: list[Verdict] = []
    for start in range(0, len(files), BATCH):
        prepared = []
        for file in files[start : start + BATCH]:
            prepared.append(clocked("decode", detector.prepare, clocked("read", file.read_bytes)))
        verdicts += clocked("network", detector.judge_prepared, prepared)
    whole = clocked("row", _written, verdicts)
    half = len(verdicts) // 2
    each = (whole - _written(verdicts[:half])) / (len(verdicts) - half)
    # What a file has beside rows, it has once in 256 of them.
    return dict(spent), each + max(whole - each * len(verdicts), 0) / 256


def _written(verdicts: Sequence[Verdict]) -> int:
    """Bytes of a part."""
    part = Part()
    for verdict in verdicts:
        part.write(verdict)
    return len(part.finished("0" * 16, 0, Summary())[1])


# ── what loads need ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass(frozen=True, slots=True)
class Site:
    """What is assumed of where it runs.

    Args:
        cores: of a machine.
        busy: share of them that is to be at work, in (0, 1]; the rest is for peaks and lost machines.
        gbit: of a machine's network, 10^9 bits a second.
        prefix: requests a second that an object store answers below one prefix.
        requests: to the store for a file: its size is asked for, then it is read.
        tar: pictures of a tar, where they come in such.
        gpu: pictures a second that one GPU, one a machine, would judge; None where nobody said.
    """

    cores: int = 16
    busy: float = 0.8
    gbit: float = 10.0
    prefix: float = 5500.0
    requests: float = 2.0
    tar: int = 1024
    gpu: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Driver:
    """What a scan's driver spends, in seconds.

    Args:
        name: on an input, when it plans.
        block: on a chunk, before the first is judged: its line-up is written, its number laid out for Ray Data.
        hand: on a chunk, processor time, when it hands it out and takes its tally.
        held: bytes of its memory for a chunk.
    """

    name: float
    block: float
    hand: float
    held: float

    def ahead(self, count: float, tar: int | None = None) -> float:
        """Seconds until the first chunk of a scan of so many pictures is handed out; `tar` as for `most`."""
        return count * self._before(tar)

    def most(self, tar: int | None = None) -> float:
        """Pictures a second at which it does nothing else, in files or in tars of so many: its time goes by one after
        the other."""
        return 1 / (self._before(tar) + self.hand / (tar or plan.MOST))

    def _before(self, tar: int | None) -> float:
        return self.name + self.block / plan.MOST if tar is None else (self.name + self.block) / tar


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """Pictures a second at which each piece is full.

    Args:
        cores, decoding, network: of a machine; `decoding` if it read and decoded only.
        gpu: of a machine whose networks ran on one GPU; None where its rate is not known.
        prefix: of a store, below one prefix; of files, of tars.
        driver: of one scan's; of files, of tars.
    """

    cores: float
    decoding: float
    network: float
    gpu: float | None
    prefix: tuple[float, float]
    driver: tuple[float, float]

    @property
    def machine(self) -> float:
        return min(self.cores, self.network)

    @property
    def first(self) -> str:
        """What of a machine is full first."""
        return "cores" if self.cores <= self.network else "network"


def asked(site: Site, tar: int | None = None) -> float:
    """Requests to the store for a picture that is a file, or in a tar of so many, which is a chunk by itself."""
    return site.requests + REQUESTS / plan.MOST if tar is None else (site.requests + REQUESTS) / tar


def limits(cost: Cost, site: Site, driver: Driver) -> Limits:
    at_work = site.cores * site.busy
    network = site.gbit * 1e9 / 8 / cost.size
    # Beside a GPU the cores do all but the networks.
    gpu = None if site.gpu is None else min(site.gpu, at_work / (cost.core - cost.network), network)
    return Limits(
        cores=at_work / cost.core,
        decoding=at_work / (cost.read + cost.decode),
        network=network,
        gpu=gpu,
        prefix=(site.prefix / asked(site), site.prefix / asked(site, site.tar)),
        driver=(driver.most(), driver.most(site.tar)),
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Need:
    """What a load needs.

    Args:
        rate: pictures a second, spread evenly over the day.
        cores: at work all the time.
        machines: so that each has some of its cores to spare, and its network is enough.
        gpus: machines with one GPU each in their place; None where the GPU's rate is not known.
        gbit: 10^9 bits a second that are read in all.
        requests: a second, to the store; of files, of tars.
        written: bytes of results a day.
        prefixes: how many, that none is over-full; of files, of tars.
        scans: how many a day, so that no driver is over-full, and none takes longer than `PATIENCE` to plan; of files,
            of tars.
    """

    rate: float
    cores: float
    machines: int
    gpus: int | None
    gbit: float
    requests: tuple[float, float]
    written: float
    prefixes: tuple[int, int]
    scans: tuple[int, int]


def need(cost: Cost, site: Site, driver: Driver, a_day: float) -> Need:
    rate, most = a_day / DAY, limits(cost, site, driver)
    return Need(
        rate=rate,
        cores=rate * cost.core,
        machines=math.ceil(rate / most.machine),
        gpus=None if most.gpu is None else math.ceil(rate / most.gpu),
        gbit=rate * cost.size * 8 / 1e9,
        requests=(rate * asked(site), rate * asked(site, site.tar)),
        written=a_day * cost.result,
        prefixes=(math.ceil(rate / most.prefix[0]), math.ceil(rate / most.prefix[1])),
        scans=(
            math.ceil(max(rate / most.driver[0], driver.ahead(a_day) / PATIENCE)),
            math.ceil(max(rate / most.driver[1], driver.ahead(a_day, site.tar) / PATIENCE)),
        ),
    )


# ── the simulation ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass(frozen=True, slots=True)
class Times:
    """What things take, in seconds, as measured with one worker.

    Args:
        pictures: a sample, in the order in which they were judged, of what `sample` pictures took.
        sample: how many.
        drawn: processor seconds in a second of a worker that judges; above 1 its threads work side by side.
        careful: how much longer pictures take one by one, as in a chunk that ended two processes.
        chunk: a chunk, beside its pictures and the driver's share.
        hand, name, block: see `Driver`; `hand` as far as the worker waits for it.
        begin, end: a scan, before it plans and after its last chunk.
        start, again: samples of a worker's start, and of its start in place of one that was killed.
    """

    pictures: tuple[float, ...]
    sample: int
    drawn: float = 1.0
    careful: float = 1.0
    chunk: float = 0.0
    hand: float = 0.0
    name: float = 0.0
    block: float = 0.0
    begin: float = 0.0
    end: float = 0.0
    start: tuple[float, ...] = (0.0,)
    again: tuple[float, ...] = (0.0,)

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Times:
        """From JSON."""
        fields: dict[str, Any] = {name: tuple(each) if isinstance(each, list) else each for name, each in told.items()}
        return cls(**fields)

    @property
    def picture(self) -> float:
        return statistics.mean(self.pictures) / self.sample


@dataclasses.dataclass(frozen=True, slots=True)
class Fleet:
    """Who judges, and what happens to them.

    Args:
        workers: how many, spread evenly over the machines.
        machines: how many.
        cores: of each. Workers that want more share them; those without a worker wait for workers of lost machines.
        kills: of each worker a day.
        losses: of each machine an hour.
        back: seconds until another stands in a lost machine's place; None for never.
        killed, lost: moments, in seconds from the scan's call, at which a worker or machine drawn at random goes as
            well.
    """

    workers: int
    machines: int = 1
    cores: int = 16
    kills: float = 0.0
    losses: float = 0.0
    back: float | None = None
    killed: tuple[float, ...] = ()
    lost: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """How a simulated scan went.

    Args:
        seconds: from its call to its return.
        inputs: how many results there were in the end.
        useful, wasted: seconds in which workers judged what is in the results, and what was lost with a process.
        idle: seconds of workers that had found no more to do, before the last one had.
        workers: how many there were.
        kills, losses: of workers that were up, and of machines.
        repeated: chunks that were begun anew.
    """

    seconds: float
    inputs: int
    useful: float
    wasted: float
    idle: float
    workers: int
    kills: int
    losses: int
    repeated: int

    @property
    def rate(self) -> float:
        return self.inputs / self.seconds

    @property
    def efficiency(self) -> float:
        """The share of the workers' time in which they judged what is in the results."""
        return self.useful / (self.workers * self.seconds)

    @property
    def twice(self) -> float:
        """The share of judging that was for nothing."""
        return self.wasted / (self.useful + self.wasted)

    @property
    def waiting(self) -> float:
        """The share of the workers' time that went by at the end without work."""
        return self.idle / (self.workers * self.seconds)


def sizes(count: int, most: int = plan.MOST, batch: int = BATCH) -> list[int]:
    """How many inputs each chunk of a plan has, where each is a file by itself (`assay.cluster.plan`)."""
    found: list[int] = []
    done = size = 0
    least = min(plan.LEAST, most)
    while done < count:
        size = max(size, 1)
        while size < min(most, max(least, (done + size) // 64)) or size % batch:
            size += 1
        found.append(min(size, count - done))
        done += size
    return found


def simulated(times: Times, fleet: Fleet, chunks: Sequence[int], seed: int | Sequence[int] = 0) -> Outcome:
    """One scan of chunks of so many inputs.

    Raises:
        ValueError: every machine was lost, and none takes its place: the scan would wait for ever.
    """
    return _Scan(times, fleet, chunks, np.random.default_rng(seed)).run()


class _Worker:
    """One of the pool: where it is, what it has, what it does."""

    def __init__(self, machine: int) -> None:
        self.machine = machine
        self.chunk: int | None = None
        self.up = self.gone = False
        self.process: simpy.Process
        self.left = 0.0


class _Scan:
    def __init__(self, times: Times, fleet: Fleet, chunks: Sequence[int], draw: np.random.Generator) -> None:
        self._times, self._fleet, self._chunks, self._draw = times, fleet, chunks, draw
        self._env = simpy.Environment()
        self._driver = simpy.Resource(self._env)
        self._todo = collections.deque(range(len(chunks)))
        self._done: Counter[int] = Counter()
        self._tries: Counter[int] = Counter()
        self._finished = self._env.event()
        each = [len(range(machine, fleet.workers, fleet.machines)) for machine in range(fleet.machines)]
        # A core that no worker has, by its machine.
        self._spare = simpy.Store(self._env)
        for machine, count in enumerate(each):
            self._spare.items += [machine] * (fleet.cores - count)
        self._alive = set(range(fleet.machines))
        self._slower = max(1.0, max(each) * times.drawn / fleet.cores)
        # A stretch may begin anywhere; the sample's end is followed by its beginning.
        sample = np.resize(np.asarray(times.pictures), len(times.pictures) + _STRETCH)
        self._sums = np.concatenate([[0.0], np.cumsum(sample)])
        self._workers = [_Worker(number % fleet.machines) for number in range(fleet.workers)]
        self._useful = self._wasted = 0.0
        self._kills = self._losses = self._repeated = 0

    def run(self) -> Outcome:
        self._env.process(self._scan())
        self._env.run(self._finished)
        last = float(self._env.now)
        assert len(self._done) == len(self._chunks) == self._done.total()
        return Outcome(
            seconds=last + self._times.end,
            inputs=sum(self._chunks[number] for number in self._done),
            useful=self._useful,
            wasted=self._wasted,
            idle=sum(last - worker.left for worker in self._workers if worker.gone),
            workers=self._fleet.workers,
            kills=self._kills,
            losses=self._losses,
            repeated=self._repeated,
        )

    def _scan(self) -> Event:
        times = self._times
        for moments, rate, strike in (
            (self._fleet.killed, self._fleet.kills * self._fleet.workers / DAY, self._kill),
            (self._fleet.lost, self._fleet.losses * self._fleet.machines / 3600, self._lose),
        ):
            for moment in moments:
                self._env.process(self._once(moment, strike))
            if rate:
                self._env.process(self._ever(rate, strike))
        yield self._env.timeout(times.begin + times.name * sum(self._chunks) + times.block * len(self._chunks))
        for worker in self._workers:
            worker.process = self._env.process(self._work(worker))

    def _work(self, worker: _Worker) -> Event:
        """A worker's lives, one after the other."""
        delay = self._one_of(self._times.start)
        while True:
            begun: float | None = None
            try:
                worker.up = True
                yield self._env.timeout(delay)
                while worker.chunk is not None or self._todo:
                    if worker.chunk is None:
                        worker.chunk = self._todo.popleft()
                        with self._driver.request() as turn:
                            yield turn
                            yield self._env.timeout(self._times.hand)
                    yield self._env.timeout(self._times.chunk)
                    self._tries[worker.chunk] += 1
                    seconds = self._seconds(self._chunks[worker.chunk], careful=self._tries[worker.chunk] > CAREFUL)
                    begun = self._env.now
                    yield self._env.timeout(seconds)
                    self._finish(worker.chunk, seconds)
                    worker.chunk = begun = None
                break
            except simpy.Interrupt as interrupt:
                self._wasted += 0.0 if begun is None else self._env.now - begun
                self._repeated += worker.chunk is not None
                delay = self._one_of(self._times.again)
                if interrupt.cause == "machine":
                    worker.machine = yield self._spare.get()
                    while worker.machine not in self._alive:
                        worker.machine = yield self._spare.get()
        worker.up, worker.gone, worker.left = False, True, self._env.now
        self._spare.put(worker.machine)

    def _finish(self, chunk: int, seconds: float) -> None:
        self._done[chunk] += 1
        self._useful += seconds
        if len(self._done) == len(self._chunks):
            self._finished.succeed()

    def _once(self, moment: float, strike: Callable[[bool], None]) -> Event:
        yield self._env.timeout(moment)
        strike(True)

    def _ever(self, rate: float, strike: Callable[[bool], None]) -> Event:
        while True:
            yield self._env.timeout(self._draw.exponential(1 / rate))
            strike(False)

    def _kill(self, sure: bool) -> None:
        """One of the workers that are up; or of all, so that each has its own rate whoever else is down."""
        worker = self._drawn([worker for worker in self._workers if worker.up or not sure])
        if worker is not None and worker.up:
            self._kills += 1
            self._interrupt(worker, "process")

    def _interrupt(self, worker: _Worker, cause: str) -> None:
        worker.up = False
        worker.process.interrupt(cause)

    def _lose(self, sure: bool) -> None:
        machine = self._drawn(sorted(self._alive) if sure else range(self._fleet.machines))
        if machine not in self._alive:
            return
        self._losses += 1
        self._alive.remove(machine)
        self._spare.items = [spare for spare in self._spare.items if spare != machine]
        for worker in self._workers:
            if worker.up and worker.machine == machine:
                self._interrupt(worker, "machine")
        if self._fleet.back is not None:
            self._env.process(self._replaced(machine, self._fleet.back))
        elif not self._alive:
            self._finished.fail(ValueError("every machine is lost; say after how long others stand in their place"))

    def _replaced(self, machine: int, back: float) -> Event:
        yield self._env.timeout(back)
        self._alive.add(machine)
        for _ in range(self._fleet.cores):
            self._spare.put(machine)

    def _drawn(self, among: Sequence[T]) -> T | None:
        return among[int(self._draw.integers(len(among)))] if among else None

    def _one_of(self, sample: Sequence[float]) -> float:
        return sample[int(self._draw.integers(len(sample)))]

    def _seconds(self, count: int, *, careful: bool) -> float:
        """What a chunk's pictures take, drawn from the sample."""
        samples, over = divmod(count, self._times.sample)
        stretches, few = divmod(samples, _STRETCH)
        begins = self._draw.integers(len(self._times.pictures), size=stretches + 2)
        whole = self._sums[begins[2:] + _STRETCH] - self._sums[begins[2:]]
        rest = self._sums[begins[0] + few] - self._sums[begins[0]]
        piece = (self._sums[begins[1] + 1] - self._sums[begins[1]]) * over / self._times.sample
        return float(whole.sum() + rest + piece) * self._slower * (self._times.careful if careful else 1.0)


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, 5 % and 95 % point."""
    low, middle, high = np.quantile(values, (0.05, 0.5, 0.95))
    return float(middle), float(low), float(high)


# ── real scans ───────────────────────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def started() -> Iterator[Any]:
    """A cluster in this machine with room for two workers."""
    from cluster import cluster

    # Ray tells of each worker that is killed, where the tables go.
    with contextlib.redirect_stdout(sys.stderr), cluster(2) as made:
        yield made


@dataclasses.dataclass(frozen=True, slots=True)
class Real:
    """A scan that was made, in seconds.

    Args:
        seconds: from its call to its return.
        planned: from its call until its plan was whole.
        ends: from its call, when each part was written, in that order. The driver is told later, of one with the next.
        kills: moments at which a worker was killed.
        chunks, lasted, judging, driver: how many parts were written while the driver was told of the first to the last,
            the seconds of that, and the processor seconds of workers and driver meanwhile.
    """

    seconds: float
    planned: float
    ends: tuple[float, ...]
    kills: tuple[float, ...]
    chunks: int
    lasted: float
    judging: float
    driver: float


def real(
    made: Any,
    detector: str | None,
    paths: Sequence[Path],
    out: Path,
    workers: int,
    *,
    batch: int = BATCH,
    moments: Sequence[float] = (),
    after: Mapping[int, float] | None = None,
    seed: int = 0,
) -> Real:
    """Scan on the cluster, and kill workers drawn at random.

    Args:
        moments: seconds from the call at which one is killed.
        after: so many seconds after the driver was told of so many chunks, too.
    """
    from assay.cluster import scan as clustered
    from cluster import raylets
    from cluster import workers as processes

    draw, over = random.Random(seed), threading.Event()
    planned: list[float] = []
    kills: list[float] = []
    marks: list[tuple[float, float, float]] = []
    judging: list[int] = []
    timers: list[threading.Timer] = []

    def strike() -> None:
        alive = processes(raylets(made.list_all_nodes()))
        if alive and not over.is_set():
            with contextlib.suppress(ProcessLookupError):
                os.kill(draw.choice(alive), signal.SIGKILL)
                kills.append(time.perf_counter() - begun)

    def later(seconds: float) -> None:
        timer = threading.Timer(seconds, strike)
        timer.daemon = True
        timer.start()
        timers.append(timer)

    def told(_: Summary) -> None:
        if not judging:
            judging.extend(processes(raylets(made.list_all_nodes())))
        marks.append((time.perf_counter() - begun, sum(map(_spent, judging)), time.process_time()))
        if after is not None and len(marks) in after:
            later(after[len(marks)])

    begun, date = time.perf_counter(), time.time()
    for moment in moments:
        later(moment)
    try:
        summary = clustered.scan(
            detector,
            paths,
            out,
            workers=workers,
            batch=batch,
            engine="onnxruntime",
            planned=lambda _: planned.append(time.perf_counter() - begun),
            progress=told,
        )
    finally:
        over.set()
        for timer in timers:
            timer.cancel()
    seconds = time.perf_counter() - begun
    assert summary.done == summary.judged + summary.failed
    ends = sorted(part.stat().st_mtime - date for part in out.glob("part-*"))
    first, last = marks[0], marks[-1]
    return Real(
        seconds=seconds,
        planned=planned[0],
        ends=tuple(ends),
        kills=tuple(kills),
        chunks=sum(first[0] < end <= last[0] for end in ends),
        lasted=last[0] - first[0],
        judging=last[1] - first[1],
        driver=last[2] - first[2],
    )


def _spent(process: int) -> float:
    """Processor seconds of a process until now; 0 where it is gone."""
    try:
        cells = (Path("/proc") / str(process) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(cells[11]) + int(cells[12])) / os.sysconf("SC_CLK_TCK")


def driver(made: Any, scratch: Path, chunks: int) -> tuple[Driver, Real]:
    """What a driver spends, and a scan of `chunks` chunks of one file each that is not there.

    Its processor time goes on while it waits. What a chunk adds is told from a second scan, of a tenth as many chunks
    that take longer, as each has a thousand such files.
    """
    empty = real(made, None, [_missing(scratch, chunks)], scratch / "none", 1, batch=1)
    many = real(made, None, [_missing(scratch, chunks // 10 * plan.MOST)], scratch / "many", 1, batch=plan.MOST)
    block, held = _blocks(2_000)
    return Driver(_name(scratch, 20_000), block + _write(scratch), handing(empty, many), held), empty


def handing(short: Real, long: Real) -> float:
    """Processor seconds that a chunk costs the driver, where two scans' are so much a chunk and so much a second."""
    shares = [(run.chunks, run.lasted) for run in (short, long)]
    try:
        found, _ = np.linalg.solve(shares, [short.driver, long.driver])
    except np.linalg.LinAlgError:
        found = math.inf
    most = short.driver / short.chunks
    return float(found) if 0 < found < most else most


def _missing(scratch: Path, count: int) -> Path:
    listed = scratch / f"none-{count}.txt"
    listed.write_text("".join(f"{scratch}/none/{number}.jpg\n" for number in range(count)))
    return listed


def _name(scratch: Path, count: int) -> float:
    """Processor seconds of planning an input that is an address in a list."""
    listed = scratch / "names.txt"
    listed.write_text("".join(f"https://pictures.invalid/{number:09}.jpg\n" for number in range(count)))
    folder = Folder(str(scratch / "plan"))
    folder.make()
    begun = time.process_time()
    plan.make(folder, lambda add: inputs.gather([listed], add), detector="", asked=["names"], base="/", batch=BATCH)
    return (time.process_time() - begun) / count


def _write(scratch: Path) -> float:
    """Seconds until a chunk's line-up is on the disk."""
    folder, took = Folder(str(scratch / "plan")), []
    for number in range(20):
        begun = time.perf_counter()
        folder.write(f"{plan.FOLDER}/{number:06d}.jsonl", b"x" * 50 * plan.MOST)
        took.append(time.perf_counter() - begun)
    return statistics.median(took)


def _blocks(count: int) -> tuple[float, float]:
    """Seconds and bytes of a chunk's number, laid out for Ray Data as a scan does."""
    import ray.data

    before, begun = _resident(), time.perf_counter()
    numbers = ray.data.from_items([{"chunk": number} for number in range(count)], override_num_blocks=count)
    seconds = (time.perf_counter() - begun) / count
    held = (_resident() - before) / count
    del numbers
    return seconds, max(held, 0.0)


def _resident() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def calibrated(made: Any, files: Sequence[Path], scratch: Path, chunks: int) -> tuple[Times, Driver, float]:
    """What things take, from three scans with one worker: of nothing, of `files`, and of these with workers killed; and
    the seconds of the second."""
    spent, empty = driver(made, scratch, chunks)
    turn = (empty.ends[-1] - empty.ends[0]) / (len(empty.ends) - 1)
    hand = min(spent.hand, turn)
    folder = files[0].parent
    steady = real(made, None, [folder], scratch / "steady", 1)
    planned = sizes(len(files))
    gaps = np.diff(steady.ends) - turn
    whole = [max(float(gap), 1e-6) for gap, size in zip(gaps, planned[1:], strict=True) if size == plan.LEAST]
    middle = statistics.mean(whole) + turn
    # In the middle of a chunk.
    after = {len(planned) * strike // (STRIKES + 1): middle / 2 for strike in range(1, STRIKES + 1)}
    struck = real(made, None, [folder], scratch / "struck", 1, after=after)
    again = []
    for moment in struck.kills:
        later = [end for end in struck.ends if end > moment]
        if later:
            # The chunk is judged anew, whole.
            again.append(max(later[0] - moment - middle, 0.0))
    if not again:
        raise SystemExit("no worker was killed in time; give more --inputs")
    first = [run.ends[0] - run.planned - spent.block * len(run.ends) for run in (empty, steady)]
    loaded = assay.load(None, threads=1, engine="onnxruntime")
    times = Times(
        pictures=tuple(whole),
        sample=plan.LEAST,
        drawn=steady.judging / steady.lasted,
        careful=_careful(loaded, files[: 4 * BATCH]),
        chunk=turn - hand,
        hand=hand,
        name=spent.name,
        block=spent.block,
        begin=max(steady.planned - spent.name * len(files), 0.0),
        end=statistics.mean(run.seconds - run.ends[-1] for run in (empty, steady)),
        start=(max(first[0] - turn, 0.0), max(first[1] - middle, 0.0)),
        again=tuple(again),
    )
    return times, spent, steady.seconds


def _careful(detector: assay.Detector, files: Sequence[Path]) -> float:
    """How much longer a scan of the files takes one by one."""
    took = {}
    for batch, threads in ((BATCH, 2), (1, 1), (BATCH, 2), (1, 1)):
        begun = time.perf_counter()
        scan(detector, map(str, files), Part(), batch=batch, workers=threads)
        took[batch] = time.perf_counter() - begun
    return took[1] / took[BATCH]


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """A scan that was made, and what was said of it.

    Args:
        inputs, workers: how many.
        every: seconds between kills; None where nothing was killed.
        kills: how many there were.
        seconds: what it took.
        said: of the simulation, median, 5 % and 95 % point.
    """

    inputs: int
    workers: int
    every: float | None
    kills: int
    seconds: float
    said: tuple[float, float, float]

    @property
    def error(self) -> float:
        """What was said, over what it took, less 1."""
        return self.said[0] / self.seconds - 1


def checked(
    made: Any,
    times: Times,
    files: Sequence[Path],
    scratch: Path,
    runs: Sequence[tuple[int, int, float | None]],
    draws: int,
    note: Callable[[str], None],
) -> Iterator[Check]:
    """Real scans of so many inputs with so many workers, killed every so many seconds, beside simulated ones."""
    for number, (count, size, every) in enumerate(runs):
        folder = scratch / f"run-{number}"
        folder.mkdir()
        for place in range(count):
            (folder / f"{place:06}.jpg").hardlink_to(files[place % len(files)])
        moments = () if every is None else tuple(every * turn for turn in range(1, STRIKES + 1))
        fleet = Fleet(workers=size, cores=os.cpu_count() or 1, killed=moments)
        outcomes = [simulated(times, fleet, sizes(count), [number, draw]) for draw in range(draws)]
        took = real(made, None, [folder], scratch / f"out-{number}", size, moments=moments, seed=number)
        said = spread([outcome.seconds for outcome in outcomes])
        found = Check(count, size, every, len(took.kills), took.seconds, said)
        note(f"{count} inputs, {size} workers: {found.seconds:.1f} s, said {said[0]:.1f}")
        yield found


# ── what if ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def played(times: Times, fleet: Fleet, chunks: Sequence[int], draws: int, seed: int) -> list[Outcome]:
    return [simulated(times, fleet, chunks, [seed, draw]) for draw in range(draws)]


def whatifs(times: Times, site: Site, draws: int, seed: int) -> list[tuple[str, Fleet, list[Outcome]]]:
    """A million inputs, each with what is said of its chunks."""
    found = []
    for most in (plan.MOST, 128):
        chunks = sizes(10**6, most)
        for workers in WORKERS if most == plan.MOST else WORKERS[-1:]:
            for kills in KILLS:
                fleet = Fleet(workers, math.ceil(workers / site.cores), min(site.cores, workers), kills)
                found.append((f"{most:,}", fleet, played(times, fleet, chunks, draws, seed)))
    return found


def billion(times: Times, wanted: Need, site: Site, losses: float, seed: int) -> tuple[Fleet, list[Outcome]]:
    """A day of a billion pictures in tars, as that many scans side by side, each with its share of the machines."""
    scans = wanted.scans[1]
    machines = math.ceil(wanted.machines / scans)
    fleet = Fleet(machines * site.cores, machines, site.cores, KILLS[1], losses, back=600.0)
    # Of a tar its name is planned.
    of_tars = dataclasses.replace(times, name=times.name / site.tar)
    return fleet, played(of_tars, fleet, [site.tar] * math.ceil(LOADS[1] / scans / site.tar), scans, seed)


# ── telling ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join([line(columns), line(["---"] * len(columns)), *map(line, rows)]) + "\n"


def figure(value: float | None, scale: float = 1.0) -> str:
    """Three figures, or two of what is below 10."""
    if value is None:
        return "–"
    value *= scale
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2g}"


def tens(value: float) -> str:
    return f"10^{round(math.log10(value))}"


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def ranged(values: Sequence[float]) -> str:
    """Median, and where nine of ten lie."""
    middle, low, high = spread(values)
    return figure(middle) if figure(low) == figure(high) else f"{figure(middle)} ({figure(low)}–{figure(high)})"


def of_costs(costs: Sequence[Cost]) -> str:
    pieces = ("read", "decode", "network", "row", "rest")
    return table(
        (
            "detector",
            "megapixels",
            "file in kB",
            *pieces,
            "ms of a core in all",
            "pictures/s of a core",
            "result in bytes",
        ),
        [
            (
                each.detector,
                f"{each.megapixels:g}",
                figure(each.size / 1e3),
                *(figure(getattr(each, piece), 1e3) for piece in pieces),
                figure(each.core, 1e3),
                figure(1 / each.core),
                figure(each.result),
            )
            for each in costs
        ],
    )


def of_limits(costs: Sequence[Cost], site: Site, driver: Driver) -> str:
    rows = []
    for each in costs:
        most = limits(each, site, driver)
        numbers = (most.cores, most.decoding, most.network)
        rows.append((each.detector, f"{each.megapixels:g}", *map(figure, numbers), most.first, figure(most.gpu)))
    machine = table(
        (
            *(
                "detector",
                "megapixels",
                f"{site.cores} cores, {100 * site.busy:g} % at work",
                "the same, decoding alone",
            ),
            *(f"{site.gbit:g} Gbit/s", "full first", "with a GPU"),
        ),
        rows,
    )
    most = limits(costs[0], site, driver)
    forms = {"files": None, f"tars of {site.tar:,}": site.tar}
    shared = []
    for (form, tar), rate in zip(forms.items(), most.prefix, strict=True):
        told = f"{figure(asked(site, tar))} requests a picture, {site.prefix:,.0f} a second"
        shared.append(("a store's prefix", form, figure(rate), figure(rate * DAY, 1e-6), told))
    for (form, tar), rate in zip(forms.items(), most.driver, strict=True):
        ahead = driver.ahead(LOADS[1], tar) / 3600
        told = f"{figure(ahead)} hours before the first chunk of {tens(LOADS[1])} is judged"
        shared.append(("a scan's driver", form, figure(rate), figure(rate * DAY, 1e-6), told))
    spent = table(
        ("a driver's", "takes"),
        [
            ("input to plan, an address in a list", f"{figure(driver.name, 1e6)} µs"),
            ("chunk before the first is judged", f"{figure(driver.block, 1e3)} ms, {figure(driver.held, 1e-3)} kB"),
            ("chunk to hand out", f"{figure(driver.hand, 1e3)} ms"),
        ],
    )
    return "\n".join([machine, table(("shared by all", "of", "pictures/s", "millions a day", ""), shared), spent])


def of_needs(costs: Sequence[Cost], site: Site, driver: Driver) -> str:
    rows = []
    for load in LOADS:
        for each in costs:
            wanted = need(each, site, driver, load)
            rows.append(
                (
                    tens(load),
                    each.detector,
                    f"{each.megapixels:g}",
                    figure(wanted.rate),
                    figure(wanted.cores),
                    f"{wanted.machines:,}",
                    "–" if wanted.gpus is None else f"{wanted.gpus:,}",
                    figure(wanted.gbit),
                    figure(wanted.written, 1e-9),
                    *("{:,.0f}, {:,.0f}".format(*each) for each in (wanted.requests, wanted.prefixes, wanted.scans)),
                )
            )
    return table(
        (
            *("a day", "detector", "megapixels", "pictures/s", "cores at work", f"machines of {site.cores}"),
            *("with a GPU", "Gbit/s read", "GB of results a day", "requests/s of files, of tars", "prefixes", "scans"),
        ),
        rows,
    )


def of_outcomes(played: Sequence[tuple[str, Fleet, list[Outcome]]]) -> str:
    rows = []
    for chunks, fleet, outcomes in played:
        rows.append(
            (
                f"{fleet.workers:,}",
                chunks,
                f"{fleet.kills:g}",
                ranged([each.seconds for each in outcomes]),
                ranged([each.rate for each in outcomes]),
                percent(statistics.median(each.efficiency for each in outcomes)),
                percent(statistics.median(each.twice for each in outcomes)),
                percent(statistics.median(each.waiting for each in outcomes)),
            )
        )
    return table(
        (
            *("workers", "inputs of a chunk at most", "kills a worker-day", "seconds", "pictures/s"),
            *("efficiency", "judged for nothing", "idle at the end"),
        ),
        rows,
    )


def of_billion(fleet: Fleet, outcomes: Sequence[Outcome]) -> str:
    return table(
        (
            *("scans", "machines of each", "workers of each", "kills", "machines lost", "hours, the longest"),
            *("efficiency", "judged for nothing", "idle at the end"),
        ),
        [
            (
                f"{len(outcomes):,}",
                f"{fleet.machines:,}",
                f"{fleet.workers:,}",
                f"{sum(each.kills for each in outcomes):,}",
                f"{sum(each.losses for each in outcomes):,}",
                f"{max(each.seconds for each in outcomes) / 3600:.1f}",
                *(
                    percent(statistics.median(getattr(each, name) for each in outcomes))
                    for name in ("efficiency", "twice", "waiting")
                ),
            )
        ],
    )


def of_times(times: Times) -> str:
    return table(
        ("measured with one worker", "seconds"),
        [
            ("a picture", f"{ranged([each / times.sample for each in times.pictures])}, {len(times.pictures)} samples"),
            ("processor time in a second of it", figure(times.drawn)),
            ("a picture one by one : in batches", figure(times.careful)),
            ("a chunk beside its pictures", figure(times.chunk + times.hand)),
            ("a worker's start", ranged(times.start)),
            ("its start after a kill", f"{ranged(times.again)}, {len(times.again)} kills"),
            ("a scan before it plans, and after its last chunk", f"{figure(times.begin)}, {figure(times.end)}"),
        ],
    )


def of_checks(checks: Sequence[Check], first: float, again: float) -> str:
    """With what the same scan took at first and at last, as no error can be told from what lies between the two."""
    rows = [
        (
            f"{each.inputs:,}",
            f"{each.workers}",
            "–" if each.every is None else f"every {each.every:g} s: {each.kills}",
            figure(each.seconds),
            f"{figure(each.said[0])} ({figure(each.said[1])}–{figure(each.said[2])})",
            f"{100 * each.error:+.1f} %",
        )
        for each in checks
    ]
    mean = statistics.mean(abs(each.error) for each in checks)
    worst = max(abs(each.error) for each in checks)
    told = f"Mean absolute error {percent(mean)}, largest {percent(worst)}. "
    told += f"The scan that was measured took {figure(first)} s, once more after the others {figure(again)} s.\n"
    return table(("inputs", "workers", "killed", "seconds", "said", "error"), rows) + "\n" + told


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--seed", type=int, default=0)
    common.add_argument("--rounds", type=int, default=3, help="of what is measured in turns")
    common.add_argument("--quick", action="store_true", help="few of everything, to see that it works")
    common.add_argument("--json", action="store_true", help="for machines")
    site = argparse.ArgumentParser(add_help=False)
    for field in dataclasses.fields(Site):
        kind = int if field.name == "cores" else float
        site.add_argument(f"--{field.name}", type=kind, default=field.default, help="assumed: see `Site`")
    one = verbs.add_parser("cost", parents=[common, site], help="what a picture costs, and what loads need")
    one.add_argument("--bytes", type=float, help="a picture's file; as measured otherwise")
    one.add_argument("--megapixels", type=float, nargs="+", default=list(MEGAPIXELS))
    two = verbs.add_parser("check", parents=[common], help="real scans beside simulated ones")
    two.add_argument("--inputs", type=int, default=640, help="of the scan that is measured")
    two.add_argument("--draws", type=int, default=40)
    two.add_argument("--save", type=Path, metavar="FILE", help="what was measured, for simulate")
    three = verbs.add_parser("simulate", parents=[common, site], help="a million, and a billion a day")
    three.add_argument("--measured", type=Path, metavar="FILE", help="of check; measured anew otherwise")
    three.add_argument("--inputs", type=int, default=640, help="of the scan that is measured")
    three.add_argument("--draws", type=int, default=10)
    three.add_argument("--losses", type=float, default=1e-3, help="of each machine an hour, in the billion")
    asked = parser.parse_args()
    if asked.verb != "cost" and asked.inputs < plan.LEAST * (STRIKES + 1):
        parser.error(f"--inputs must be {plan.LEAST * (STRIKES + 1)} or more")
    if asked.quick:
        asked.rounds = 1
        if asked.verb == "cost":
            asked.megapixels = asked.megapixels[:1]
        else:
            asked.inputs, asked.draws = min(asked.inputs, 384), 5
    note = Console(stderr=True, highlight=False).print
    with tempfile.TemporaryDirectory() as scratch:
        told, shown = {"cost": _cost, "check": _check, "simulate": _simulate}[asked.verb](asked, Path(scratch), note)
    print(json.dumps(told) if asked.json else shown)
    return 0


def _site(asked: argparse.Namespace) -> Site:
    return Site(**{field.name: getattr(asked, field.name) for field in dataclasses.fields(Site)})


def _cost(asked: argparse.Namespace, scratch: Path, note: Callable[[str], None]) -> tuple[Measured, str]:
    memory.keep()  # as a command that judges does
    ours = assay.load(None, threads=1, device="cpu")
    detectors = {ours.name: ours}
    note(f"runs are counted by {counting.settle()}")
    try:
        made = made_up(scratch / "vit", "vit")
    except ImportError:
        note('no torch here: no ViT-Tiny beside; pip install "assay[train]"')
    else:
        detectors["ViT-Tiny"] = assay.load(made, threads=1, device="cpu", engine="onnxruntime")
    costs = []
    for megapixels in asked.megapixels:
        count = max(16, min(64, round(40 / megapixels))) if not asked.quick else 16
        files = pictures(scratch / f"{megapixels:g}", megapixels, count, asked.seed)
        for name, detector in detectors.items():
            note(f"{name}, {count} pictures of {megapixels:g} megapixels")
            each = cost(detector, files, megapixels, asked.rounds)
            costs.append(dataclasses.replace(each, detector=name))
    costs.sort(key=lambda each: list(detectors).index(each.detector))
    if asked.bytes is not None:
        costs = [dataclasses.replace(each, size=asked.bytes) for each in costs]
    note("a scan of nothing on a cluster")
    with started() as cluster:
        spent, _ = driver(cluster, scratch, 50 if asked.quick else 300)
    site = _site(asked)
    told = {
        "costs": [dataclasses.asdict(each) for each in costs],
        "driver": dataclasses.asdict(spent),
        "site": dataclasses.asdict(site),
        "needs": [
            {"a_day": load, "detector": each.detector, "megapixels": each.megapixels}
            | dataclasses.asdict(need(each, site, spent, load))
            for load in LOADS
            for each in costs
        ],
    }
    return told, "\n".join([of_costs(costs), of_needs(costs, site, spent), of_limits(costs, site, spent)])


def _measured(
    asked: argparse.Namespace, made: Any, scratch: Path, note: Callable[[str], None]
) -> tuple[Times, Driver, float, Cost, list[Path]]:
    files = pictures(scratch / "pictures", MEGAPIXELS[0], asked.inputs, asked.seed)
    note("what things take with one worker")
    times, spent, took = calibrated(made, files, scratch, 50 if asked.quick else 200)
    loaded = assay.load(None, threads=1, device="cpu", engine="onnxruntime")
    return times, spent, took, cost(loaded, files[:64], MEGAPIXELS[0], asked.rounds), files


def _check(asked: argparse.Namespace, scratch: Path, note: Callable[[str], None]) -> tuple[Measured, str]:
    with started() as made:
        times, spent, took, each, files = _measured(asked, made, scratch, note)
        measured: Measured = {
            "times": dataclasses.asdict(times),
            "driver": dataclasses.asdict(spent),
            "cost": dataclasses.asdict(each),
        }
        if asked.save is not None:
            asked.save.write_text(json.dumps(measured))
        size = asked.inputs
        # So far apart that a worker is up again, mostly: a matter of what is tried, not of what is said of it.
        apart = math.ceil(statistics.mean(times.start) + 3 * plan.LEAST * times.picture)
        runs: list[tuple[int, int, float | None]] = [
            *((size // 2, 1, None), (2 * size, 1, None), (size, 2, None), (3 * size, 2, None)),
            *((2 * size, 1, 2.0 * apart), (3 * size, 2, float(apart))),
        ]
        checks = list(checked(made, times, files, scratch, runs[1::2] if asked.quick else runs, asked.draws, note))
        note("the scan that was measured once more")
        again = real(made, None, [files[0].parent], scratch / "again", 1).seconds
    told = measured | {"checks": [dataclasses.asdict(each) | {"error": each.error} for each in checks]}
    told["repeated"] = {"first": took, "again": again}
    return told, of_times(times) + "\n" + of_checks(checks, took, again)


def _simulate(asked: argparse.Namespace, scratch: Path, note: Callable[[str], None]) -> tuple[Measured, str]:
    if asked.measured is None:
        with started() as made:
            times, spent, _, each, _ = _measured(asked, made, scratch, note)
    else:
        told = json.loads(asked.measured.read_text())
        times, spent, each = Times.of(told["times"]), Driver(**told["driver"]), Cost(**told["cost"])
    site = _site(asked)
    note("a million inputs")
    million = whatifs(times, site, asked.draws, asked.seed)
    note("a billion a day")
    wanted = need(each, site, spent, LOADS[1])
    fleet, days = billion(times, wanted, site, asked.losses, asked.seed)
    told = {
        "million": [
            {"most": most, "fleet": dataclasses.asdict(who), "outcomes": list(map(dataclasses.asdict, outcomes))}
            for most, who, outcomes in million
        ],
        "billion": {"fleet": dataclasses.asdict(fleet), "outcomes": list(map(dataclasses.asdict, days))},
    }
    return told, of_outcomes(million) + "\n" + of_billion(fleet, days)


if __name__ == "__main__":
    sys.exit(main())
