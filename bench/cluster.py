"""A scan on a cluster: what it costs beside an ordinary scan, where its time goes, what kills do to it, and what its
driver holds.

    python bench/cluster.py
    python bench/cluster.py --quick
    python bench/cluster.py --million --json

Speed: the same JPEGs of 512 px are judged by an ordinary scan with one thread, by one with all cores, and by a cluster
in this machine with one worker and with two, of one core each, in turns. A rate is taken from the first chunk's end to
the last's, so that the start of Ray and of its workers is not in it; the whole time stands beside. Efficiency is the
rate over that of the ordinary scan of one thread, over the number of workers, in the same turn.

Service: the times that a simulation of larger clusters needs, in seconds. Of scans with one worker of one core, each in
a process of its own with a cluster of its own: `cluster`, until Ray runs, its import included; `worker`, from the
plan's end until the first chunk is begun, which holds the import of libraries in the worker, and `load`, the bundle. Of
the worker's own code, in this process: `picture`, a picture of the speed's; `chunk`, what comes to those of a chunk:
its plan read, the notes beside it, its part written. On a cluster: `turn`, from a part's end until the same worker
begins the next chunk, which passes through Ray and the driver; `again`, from the kill of a worker until another in its
place begins the chunk that it had.

Kills: a cluster of two nodes scans small pictures and broken files (`bench/kills.py`) while workers are killed at
random moments, and once a round a node with all that runs on it; further scans, of the real command, have their driver
killed. Every input must be in the results once, with the verdict of an ordinary scan, and its score within 1e-5.

Memory: the driver's peak, in a process of its own with Ray in it, for Parquet tables of 10^4 and 10^5 rows
(`--million`: 10^6 too), and for plans of lists of as many web addresses, of which none is fetched. The rows hold a
hundred tiny pictures over and over, and a **stub** judges them, a network of one matrix: the driver sees numbers of
chunks and tallies whoever judges.

Exit status 1 where anything was lost, doubled or different, or where the driver's peak for the most rows is more than
a quarter above that for the fewest.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib
import importlib.metadata
import io
import json
import multiprocessing
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

# Read when Ray is imported: it listens on loopback, and asks for a token.
os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token"}
os.environ |= {"RAY_BACKEND_LOG_LEVEL": "fatal"}
os.environ.setdefault("RAY_AUTH_TOKEN", os.urandom(32).hex())

import numpy as np
import onnx
import pyarrow
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from pyarrow import parquet

import assay
from assay.cluster import inputs, parts, plan, scan, start, work
from assay.cluster.storage import Folder
from assay.image.memory import keep
from assay.image.view import View
from assay.judge import bundle
from assay.judge.card import Card, HeadCard, StreamCard
from assay.judge.heads import LinearHead
from assay.judge.rule import EnsembleRule, Errors, Judge, Rows, StreamRule
from assay.judge.scan import Summary, expand
from assay.judge.scan import scan as ordinary
from assay.judge.seen import Seen
from assay.judge.sink import Results
from kills import make

SECTIONS = ("speed", "service", "kills", "memory")
TOLERANCE = 1e-5
GROWTH = 1.25
_STORE = 80 << 20
_DISTINCT = 100
_CHUNK = 8
"""Pictures of a chunk, where what a chunk and a start take is measured: one batch."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=640, help="for the speed")
    parser.add_argument("--rounds", type=int, default=3, help="of each way, for the speed")
    parser.add_argument("--kills", type=int, default=30, help="of workers; a node goes once a round")
    parser.add_argument("--drivers", type=int, default=5, help="kills of the real command")
    parser.add_argument("--million", action="store_true", help="10^6 rows too")
    parser.add_argument("--quick", action="store_true", help="few of everything, to see that it works")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--detector", help="a name or a folder; the default detector otherwise")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="for machines")
    asked = parser.parse_args()
    if asked.quick:
        asked.pictures, asked.rounds, asked.kills, asked.drivers = 96, 1, 3, 1
    sizes = [100, 1000] if asked.quick else [10_000, 100_000, *([1_000_000] if asked.million else [])]
    told: dict[str, Any] = {}
    # Ray prints there of each process that dies.
    with contextlib.redirect_stdout(sys.stderr), tempfile.TemporaryDirectory() as scratch:
        if "speed" in asked.only:
            told["speed"] = speed(Path(scratch), asked.detector, asked.pictures, asked.rounds)
        if "service" in asked.only:
            told["service"] = service(Path(scratch), asked.detector, min(asked.pictures, 240), asked.rounds)
        if "kills" in asked.only:
            told["kills"] = killed(Path(scratch), asked.detector, asked.kills, asked.drivers, asked.seed)
        if "memory" in asked.only:
            told["memory"] = memory(Path(scratch), sizes)
    told["ray"] = importlib.metadata.version("ray")
    print(json.dumps(told) if asked.json else shown(told))
    return 1 if faulty(told, strict=not asked.quick) else 0


def shown(told: dict[str, Any]) -> str:
    lines = []
    for name, way in told.get("speed", {}).items():
        efficiency = f", efficiency {way['efficiency']:.2f}" if "efficiency" in way else ""
        lines.append(f"{name:<22} {way['rate']:7.1f} pictures/s, whole {way['seconds']:.1f} s{efficiency}")
    for name, each in told.get("service", {}).items():
        lines.append(
            f"{name:<22} {each['median']:7.3f} s ({each['lowest']:.3f} to {each['highest']:.3f}; {each['count']})"
        )
    if "kills" in told:
        lines.append("kills: " + ", ".join(f"{count} {name}" for name, count in told["kills"].items()))
    for row in told.get("memory", ()):
        lines.append(
            f"{row['what']:<10} {row['rows']:>9,} rows  {row['peak'] / 2**20:6.0f} MiB  {row['seconds']:.1f} s"
        )
    return "\n".join(lines)


def faulty(told: dict[str, Any], *, strict: bool) -> bool:
    faults = sum(told["kills"][name] for name in ("lost", "doubled", "differing")) if "kills" in told else 0
    for what in ("table", "list"):
        peaks = [row["peak"] for row in told.get("memory", ()) if row["what"] == what]
        # A list costs 16 bytes a name, which is said.
        faults += strict and what == "table" and len(peaks) > 1 and peaks[-1] > GROWTH * peaks[0]
    return bool(faults)


# ── clusters ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def cluster(nodes: int) -> Iterator[Any]:
    """Nodes of one core each in this machine, with a driver connected to the first."""
    ray: Any = importlib.import_module("ray")
    from ray.cluster_utils import Cluster

    place = tempfile.mkdtemp(prefix="ray-", dir="/tmp" if Path("/tmp").is_dir() else None)
    common: dict[str, Any] = {"num_cpus": 1, "object_store_memory": _STORE}
    head = common | {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True, "temp_dir": place}
    settings = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 300, "health_check_failure_threshold": 4}
    # Ray notes the address of the last cluster below this folder, and expects it to be there.
    (Path(place) / "ray").mkdir()
    with mock.patch.dict(os.environ, RAY_TMPDIR=place):
        made: Any = Cluster(initialize_head=True, head_node_args=head | {"_system_config": settings})
        try:
            for _ in range(nodes - 1):
                made.add_node(**common)
            ray.init(address=made.address, configure_logging=False, log_to_driver=False)
            while ray.cluster_resources().get("CPU") != nodes:
                time.sleep(0.1)
            yield made
        finally:
            ray.shutdown()
            made.shutdown()
            shutil.rmtree(place, ignore_errors=True)


def workers(raylets: set[int], marked: bytes = b"MapWorker") -> list[int]:
    """Process ids of what judges on some nodes; of all that runs there, where the mark is empty."""
    found = []
    for place in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            if parent in raylets and marked in (place / "cmdline").read_bytes():
                found.append(int(place.name))
    return found


def raylets(nodes: list[Any]) -> set[int]:
    return {node.all_processes["raylet"][0].process.pid for node in nodes}


def alone(work: Callable[..., dict[str, float]], *given: object) -> dict[str, float]:
    """What `work` gives in a process of its own, which prints nothing on standard output."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=_unheard) as pool:
        return pool.submit(work, *given).result()


def _unheard() -> None:
    sys.stdout = sys.stderr


# ── speed ────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Clock:
    """Takes a scan's progress; the rate between its first and its last word."""

    def __init__(self) -> None:
        self.begun = time.perf_counter()
        self.words: list[tuple[float, int]] = []

    def __call__(self, summary: Summary) -> None:
        self.words.append((time.perf_counter(), summary.done))

    def told(self, chunk: int) -> dict[str, float]:
        # An ordinary scan tells of each picture; a chunk's worth is left out of both.
        first = next(word for word in self.words if word[1] >= chunk)
        last = self.words[-1]
        return {"rate": (last[1] - first[1]) / (last[0] - first[0]), "seconds": last[0] - self.begun}


def pictures(folder: Path, count: int) -> Path:
    """So many JPEGs of 512 px."""
    folder.mkdir()
    noise = np.random.default_rng(0)
    for number in range(count):
        coarse = noise.integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(coarse).resize((512, 512), Image.Resampling.BICUBIC).save(
            folder / f"{number:05}.jpg", quality=90
        )
    return folder


def speed(scratch: Path, detector: str | None, count: int, rounds: int) -> dict[str, Any]:
    folder = pictures(scratch / "pictures", count)
    chunk = plan.LEAST

    def plain(threads: int | None) -> dict[str, float]:
        clock, out = Clock(), scratch / "plain.jsonl"
        keep()  # as the command does
        loaded = assay.load(detector, threads=threads)
        with Results(out, "json", loaded.sha256, fresh=True) as results:
            ordinary(loaded, expand([folder]), results, progress=clock)
        return clock.told(chunk)

    def on_cluster(size: int) -> dict[str, float]:
        clock, out = Clock(), scratch / "parts"
        scan.scan(detector, [folder], out, fresh=True, workers=size, most=chunk, progress=clock)
        return clock.told(chunk)

    ways: dict[str, Callable[[], dict[str, float]]] = {
        "ordinary, one thread": lambda: plain(1),
        "ordinary, all cores": lambda: plain(None),
        "cluster, one worker": lambda: on_cluster(1),
        "cluster, two workers": lambda: on_cluster(2),
    }
    turns: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    with cluster(2):
        for turn in range(rounds):
            for name in ways if turn % 2 == 0 else reversed(ways):
                turns[name].append(ways[name]())
    base = [turn["rate"] for turn in turns["ordinary, one thread"]]
    told: dict[str, Any] = {}
    for name, found in turns.items():
        rates = [turn["rate"] for turn in found]
        told[name] = {"rate": statistics.median(rates), "seconds": statistics.median(turn["seconds"] for turn in found)}
        told[name]["n"] = f"{count} files × {rounds} rounds"
        if name.startswith("cluster"):
            size = 2 if "two" in name else 1
            each = [rate / size / one for rate, one in zip(rates, base, strict=True)]
            told[name] |= {"efficiency": statistics.median(each), "lowest": min(each), "highest": max(each)}
    return told


# ── service ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Notes:
    """Sees, while a scan runs, when its chunks are begun: a worker then writes a note beside the plan, which goes once
    the chunk is done."""

    def __init__(self, out: Path) -> None:
        self.begun: dict[int, list[float]] = {}
        """Moments of each chunk, in seconds of the clock that files have."""
        self._out, self._over = out, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Notes:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def parts(self) -> dict[int, float]:
        """When each chunk's part was written."""
        return {plan.number_of(part.name): part.stat().st_mtime for part in self._out.glob("part-*")}

    def _watch(self) -> None:
        while not self._over.wait(0.005):
            for note in self._out.glob("_plan/*.tries"):
                with contextlib.suppress(OSError):
                    moment, moments = note.stat().st_mtime, self.begun.setdefault(int(note.stem), [])
                    if moment not in moments:
                        moments.append(moment)


def service(scratch: Path, detector: str | None, count: int, rounds: int) -> dict[str, Any]:
    folder = pictures(scratch / "served", count - count % _CHUNK)
    times: dict[str, list[float]] = {name: [] for name in ("cluster", "worker", "load", "picture", "chunk")}
    for turn in range(rounds):
        for name, seconds in alone(_begun, detector, folder, scratch / f"begun-{turn}").items():
            times[name].append(seconds)
        for name, found in _within(detector, folder, scratch / f"within-{turn}").items():
            times[name] += found
    with cluster(1) as made:
        times["turn"], times["again"] = _between(made, detector, folder, scratch / "between", rounds)
    return {name: spread(found) for name, found in times.items()}


def spread(found: list[float]) -> dict[str, float]:
    return {"median": statistics.median(found), "lowest": min(found), "highest": max(found), "count": len(found)}


class Enough(Exception):
    """Ends a scan of which no more is wanted."""


def _enough(_: Summary) -> None:
    raise Enough


def _begun(detector: str | None, folder: Path, out: Path) -> dict[str, float]:
    """The start of a cluster, and of a scan on it."""
    moments: dict[str, float] = {}
    begun = time.time()
    with start.connected(None, 0), Notes(out) as notes, contextlib.suppress(Enough):
        running = time.time()
        scan.scan(
            detector,
            [folder],
            out,
            workers=1,
            most=_CHUNK,
            planned=lambda _: moments.update(planned=time.time()),
            progress=_enough,
        )
    first = min(min(found) for found in notes.begun.values())
    return {"cluster": running - begun, "worker": first - moments["planned"]}


def _within(detector: str | None, folder: Path, out: Path) -> dict[str, list[float]]:
    """A worker's own time, without Ray around it."""
    found = bundle.find(detector)
    loaded = assay.load(found, threads=1)
    files = {name: (found / name).read_bytes() for name in (*loaded.card.files, bundle.CARD)}
    place = Folder(str(out))
    place.make()
    made = plan.make(
        place,
        lambda add: inputs.gather([folder], add),
        detector=loaded.sha256,
        asked=[],
        base="/",
        batch=_CHUNK,
        most=_CHUNK,
    )
    judging: list[float] = []

    def timed(*given: Any, **options: Any) -> Summary:
        begun = time.perf_counter()
        summary = ordinary(*given, **options)
        judging.append(time.perf_counter() - begun)
        return summary

    begun = time.perf_counter()
    worker = work.Worker(work.Job(place.place, made.id, "/", loaded.sha256), files)
    load = time.perf_counter() - begun
    whole: list[float] = []
    with mock.patch.object(work, "scan", timed):
        for number in range(made.chunks):
            begun = time.perf_counter()
            told = worker.judge(number)
            whole.append(time.perf_counter() - begun)
            assert told["judged"] == _CHUNK, told
    return {
        "load": [load],
        "picture": [seconds / _CHUNK for seconds in judging],
        "chunk": [one - other for one, other in zip(whole, judging, strict=True)],
    }


def _between(made: Any, detector: str | None, folder: Path, out: Path, kills: int) -> tuple[list[float], list[float]]:
    """Of a scan with one worker, killed after every third part: what lies between chunks, and what follows kills."""
    killed: list[float] = []
    over = threading.Event()

    def kill() -> None:
        while len(killed) < kills and not over.wait(0.01):
            if len(list(out.glob("part-*"))) >= 3 * (len(killed) + 1):
                for process in workers(raylets(made.list_all_nodes())):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
                killed.append(time.time())

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    with Notes(out) as notes:
        scan.scan(detector, [folder], out, workers=1, most=_CHUNK)
    over.set()
    killer.join()
    begun = sorted(moment for moments in notes.begun.values() for moment in moments)
    again = [min(moment for moment in begun if moment > end) - end for end in killed]
    turns = []
    for end in notes.parts().values():
        following = next((moment for moment in begun if moment > end), None)
        if following is not None and not any(end <= moment <= following for moment in killed):
            turns.append(following - end)
    return turns, again


# ── kills ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def killed(scratch: Path, detector: str | None, kills: int, drivers: int, seed: int) -> dict[str, Any]:
    draw = random.Random(seed)
    folder = scratch / "in"
    make(folder, 400, draw)
    loaded = assay.load(detector, threads=1)
    reference = scratch / "reference.jsonl"
    with Results(reference, "json", loaded.sha256) as results:
        ordinary(loaded, expand([folder]), results)
    expected = [json.loads(line) for line in reference.read_text().splitlines()]
    faults: Counter[str] = Counter(workers=0, nodes=0, drivers=0, rounds=0, lost=0, doubled=0, differing=0)
    with cluster(2) as made:
        while faults["workers"] < kills:
            out = scratch / f"round-{faults['rounds']}"
            faults.update(disturbed(made, detector, folder, out, kills - faults["workers"], draw))
            faults.update(compared(out, expected))
            faults["rounds"] += 1
    while faults["drivers"] < drivers:
        out = scratch / f"driver-{faults['drivers']}"
        faults["drivers"] += commanded(detector, folder, out, drivers - faults["drivers"], draw)
        faults.update(compared(out, expected))
        faults["rounds"] += 1
    return {"inputs": len(expected), **{name: faults[name] for name in sorted(faults)}}


def disturbed(made: Any, detector: str | None, folder: Path, out: Path, most: int, draw: random.Random) -> Counter[str]:
    """One scan, during which workers are killed, a few each time, and a node."""
    done: Counter[str] = Counter()
    ended = threading.Event()
    node = next(iter(made.worker_nodes))

    def kill() -> None:
        doomed = draw.randrange(2, 5)
        while not ended.wait(draw.uniform(0.2, 2.0)) and done["workers"] < min(most, 6):
            alive = workers(raylets(made.list_all_nodes()))
            if alive:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(draw.choice(alive), signal.SIGKILL)
                    done["workers"] += 1
            if done["workers"] >= min(doomed, most) and not done["nodes"]:
                lost = workers(raylets([node]), b"")  # with those that are just starting
                made.remove_node(node, allow_graceful=False)
                for process in lost:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
                done["nodes"] += 1

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    scan.scan(detector, [folder], out, most=8)
    ended.set()
    killer.join()
    if done["nodes"]:
        made.add_node(num_cpus=1, object_store_memory=_STORE)
    return done


def commanded(detector: str | None, folder: Path, out: Path, most: int, draw: random.Random) -> int:
    """Scans by the real command into one folder, killed until one comes to its end; how many were killed."""
    named = ["-d", detector] if detector else []
    command = [sys.executable, "-m", "assay", "scan", *named, str(folder), "--on", "ray", "--out", str(out), "-q"]
    kills = 0
    while True:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
        if kills < min(most, 3):
            before, goal = len(list(out.glob("part-*"))), draw.randrange(0, 4)
            while process.poll() is None and len(list(out.glob("part-*"))) <= before + goal:
                time.sleep(0.02)
            if process.poll() is None:
                process.kill()
                kills += 1
        status = process.wait()
        if status in (0, 1):
            return kills
        if status != -signal.SIGKILL:
            raise SystemExit(f"a scan ended with status {status}")


def compared(out: Path, expected: list[dict[str, Any]]) -> Counter[str]:
    """What is wrong with the results in a folder."""
    found = list(parts.results(out))
    counts = Counter(result["input"] for result in found)
    faults: Counter[str] = Counter()
    faults["lost"] = sum(counts[result["input"]] == 0 for result in expected)
    faults["doubled"] = sum(count > 1 for count in counts.values())
    by_name = {result["input"]: result for result in found}
    faults["differing"] = sum(not alike(by_name.get(result["input"], {}), result) for result in expected)
    return faults


def alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    if one.get("error") != other.get("error") or one.get("verdict") != other.get("verdict"):
        return False
    first, second = one.get("score"), other.get("score")
    return first == second or (first is not None and second is not None and abs(first - second) <= TOLERANCE)


# ── memory ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def memory(scratch: Path, sizes: list[int]) -> list[dict[str, Any]]:
    stub = scratch / "stub"
    _stub(stub)
    found = []
    for rows in sizes:
        table, listed = scratch / f"{rows}.parquet", scratch / f"{rows}.txt"
        _table(table, rows)
        with listed.open("w") as file:
            file.writelines(f"https://pictures.invalid/{number:07}.jpg\n" for number in range(rows))
        for what, stage in (("table", _scanned), ("list", _planned)):
            told = alone(stage, stub, table if what == "table" else listed, scratch / f"{what}-{rows}")
            found.append({"what": what, "rows": rows, **told})
        shutil.rmtree(scratch / f"table-{rows}")
    return found


def _scanned(stub: Path, table: Path, out: Path) -> dict[str, float]:
    begun = time.perf_counter()
    with start.connected(None, 0):  # else Ray would be in another process
        summary = scan.scan(stub, [table], out)
    assert not summary.failed
    return {"peak": _peak(), "seconds": time.perf_counter() - begun, "judged": summary.judged}


def _planned(_: Path, listed: Path, out: Path) -> dict[str, float]:
    begun = time.perf_counter()
    folder = Folder(str(out))
    folder.make()
    made = plan.make(
        folder, lambda add: inputs.gather([listed], add), detector="", asked=[str(listed)], base="/", batch=8
    )
    return {"peak": _peak(), "seconds": time.perf_counter() - begun, "inputs": made.inputs or 0}


def _peak() -> int:
    """Most memory this process ever held, in bytes, Ray's shared memory included."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def _table(file: Path, rows: int) -> None:
    cells = []
    for number in range(_DISTINCT):
        raw = io.BytesIO()
        grey = np.random.default_rng(number).integers(0, 256, (32, 32, 1), np.uint8)
        Image.fromarray(np.repeat(grey, 3, axis=2)).save(raw, "PNG")
        cells.append(raw.getvalue())
    schema = pyarrow.schema([("image", pyarrow.binary())])
    with parquet.ParquetWriter(file, schema) as writer:
        for start in range(0, rows, 1000):
            part = [cells[row % _DISTINCT] for row in range(start, min(start + 1000, rows))]
            writer.write_table(pyarrow.table({"image": part}, schema))


def _stub(folder: Path) -> None:
    """A bundle whose network gives a picture's mean colours."""
    matrix = numpy_helper.from_array(np.eye(3, dtype=np.float32), "matrix")
    nodes = [
        helper.make_node("ReduceMean", ["views"], ["means"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["means", "matrix"], ["embedding"]),
    ]
    taken = [helper.make_tensor_value_info("views", TensorProto.FLOAT, ["n", 3, "height", "width"])]
    given = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 3])]
    graph = helper.make_graph(nodes, "stub", taken, given, [matrix])
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    stream = StreamCard(
        name="grey",
        view=View(size=32, minimum=16),
        trunk="stub",
        head=HeadCard(kind="linear"),
        parameters=9,
        embedding=3,
        backbone="mean colour",
    )
    bar = {"threshold": 0.7, "doubt_low": 0.3, "fpr": 0.05}
    errors = Errors(false_fake=0.05, false_real=0.1, decided=0.8)
    bundle.write(
        folder,
        Card(
            name="stub",
            version="1",
            description="Knows nothing of pictures; it measures what stands around a detector.",
            recipe="none",
            created=datetime.date(2026, 1, 1),
            assay="0",
            streams=(stream,),
            engine="onnxruntime",
        ),
        Judge(
            streams={"grey": StreamRule(**bar)},
            ensemble=EnsembleRule(**bar, errors=errors, rows=Rows(real=1, fake=1)),
        ),
        files={"stub.judge.onnx": model.SerializeToString()},
        heads={"grey": LinearHead(np.ones(3), 0.0)},
        seen=Seen.of(files=[], origins=[], phashes=[]),
    )


if __name__ == "__main__":
    sys.exit(main())
