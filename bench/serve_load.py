"""Puts `assay serve` under load: how fast it judges, whether it loses anything when too much comes, and whether its
memory stays flat.

    python bench/serve_load.py
    python bench/serve_load.py --quick
    python bench/serve_load.py --only load --detector ./bundle --files 200 --repeat 5 --json load.json
    python bench/serve_load.py --only memory --requests 50000

Three questions, each asked of the real command, started anew for each:

1. load: pictures a second and latencies at 1 to 32 requests in flight, and of one job of many pictures, against
   `assay scan` of the same files. Clients are in a closed loop: each sends its next request once it has its answer.
   Every measurement stands between two scans, and its ratio is taken to their mean. Starts are not counted, neither the
   scan's nor the server's.
2. overload: many more clients than there are places, which come again at once and not after Retry-After, and jobs
   beside them; then the same with SIGTERM in the midst. Each request must be judged rightly or refused with 429 and
   Retry-After, and each input of a job that was accepted must have one result, be it after the next start.
3. memory: resident memory of the server and its processes over many requests for small pictures and broken files.

"Rightly" is: the verdict is the scan's of the same file, or the error has the same kind.

The clients are one process beside the server, and share the cores with it. They parse no more of HTTP than they need,
and what they cost is told. What else runs on the machine moves every figure: trust ratios.

Prints Markdown on standard output, and how it goes on standard error. Exit status 1 where anything was lost, doubled or
wrong, or memory grew.
"""

from __future__ import annotations

import argparse
import asyncio
import concurrent.futures
import contextlib
import dataclasses
import http.client
import importlib.metadata
import io
import itertools
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console

import assay
import kills
import speed
from assay.errors import AssayError
from assay.judge.scan import scan
from assay.judge.sink import Results
from assay.measure.block import line

CONCURRENCY = (1, 2, 4, 8, 16, 32)
"""Requests in flight; 32 are all that one client may have (`Settings.queue_client`)."""

PROVENANCE = 8
"""In flight where the server reads metadata as well, as it does unless asked not to; a scan does not."""

AIM = 0.8
"""Of a scan's rate, which the server should reach."""

QUEUE, CLIENTS = 16, 128
"""Places of the overloaded server, of which one address gets half, and the clients that want them."""

BURST, INPUTS = 6, 8
"""Jobs that are handed in together, every second, and the files of each."""

AGAIN = 0.1
"""Seconds after which a refused client comes again, whatever Retry-After says."""

STEP = 500
"""Requests between two looks at memory."""

FLAT, ENOUGH = 1.0, 5_000
"""MiB by which memory may grow in 1,000 requests after the first quarter of them; and how many are needed to tell."""

JUDGE, PLAIN = "/v1/judge", "/v1/judge?provenance=false"

Measured = dict[str, Any]

Expected = Sequence[Mapping[str, Any]]
"""A scan's results, by the numbers of the files."""

_ANSWER, _JOBS, _STOP = 150.0, 600.0, 90.0
"""Seconds to wait for an answer (the server gives up at 120), for all jobs, and for the server's end (60)."""

_BOUNDARY = "assay-serve-load-7d1c0f5e2b9a4863"
_FORM = f"multipart/form-data; boundary={_BOUNDARY}"

# ── the clients ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What a request came to.

    Args:
        number: of the file that was sent.
        begun, ended: `time.monotonic()`, which processes share.
        status: of HTTP; 0 where no answer came.
        again: its Retry-After; None where there was none.
        body: as it came.
    """

    number: int
    begun: float
    ended: float
    status: int
    again: str | None = None
    body: str = ""


class Clients:
    """A process of clients, which lives as long as the block.

    Args:
        files: what they send, one after another, and again from the first.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files

    def __enter__(self) -> Clients:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--clients"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._say(list(map(str, self._files)))
        return self

    def __exit__(self, *_: object) -> None:
        # Closes its standard input, which ends it.
        self._process.communicate()

    def begin(
        self, port: int, path: str, count: int, *, requests: int | None = None, seconds: float | None = None
    ) -> None:
        """`count` clients at once, until so many requests have their answer, or for so many seconds."""
        self._say({"port": port, "path": path, "count": count, "requests": requests, "seconds": seconds})

    def end(self) -> tuple[list[Answer], float]:
        """Their answers in the order in which they came, and the processor time that they took in seconds."""
        assert self._process.stdout is not None
        told = json.loads(self._process.stdout.readline())
        return [Answer(*each) for each in told["answers"]], told["cpu"]

    def run(self, port: int, path: str, count: int, requests: int) -> tuple[list[Answer], float]:
        self.begin(port, path, count, requests=requests)
        return self.end()

    def _say(self, told: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(told) + "\n")
        self._process.stdin.flush()


def as_clients() -> None:
    """What the process of `Clients` does."""
    bodies = [form([Path(file)]) for file in json.loads(sys.stdin.readline())]
    for said in sys.stdin:
        before = time.process_time()
        answers = asyncio.run(crowd(bodies, **json.loads(said)))
        cpu = time.process_time() - before
        print(json.dumps({"answers": [dataclasses.astuple(each) for each in answers], "cpu": cpu}), flush=True)


async def crowd(
    bodies: Sequence[bytes], port: int, path: str, count: int, requests: int | None, seconds: float | None
) -> list[Answer]:
    """A closed loop of clients, as `Clients.begin` asks for it."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {_FORM}\r\n"
    ready = [f"{head}Content-Length: {len(body)}\r\n\r\n".encode("ascii") + body for body in bodies]
    connections = [Connection(port) for _ in range(count)]
    await asyncio.gather(*(each.open() for each in connections))
    numbers = itertools.count() if requests is None else iter(range(requests))
    until = math.inf if seconds is None else time.monotonic() + seconds
    answers: list[Answer] = []

    async def client(connection: Connection) -> None:
        for turn in numbers:
            number, begun = turn % len(ready), time.monotonic()
            status, again, body = await connection.ask(ready[number])
            answers.append(Answer(number, begun, time.monotonic(), status, again, body.decode()))
            if time.monotonic() >= until:
                break
            if status in (0, 429, 503):
                await asyncio.sleep(AGAIN)
        connection.close()

    await asyncio.gather(*map(client, connections))
    return answers


class Connection:
    """As much of HTTP/1.1 as the server's answers need. It is opened anew where it was closed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def open(self) -> None:
        if self._streams is None:
            with contextlib.suppress(OSError):
                self._streams = await asyncio.open_connection("127.0.0.1", self._port)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def ask(self, request: bytes) -> tuple[int, str | None, bytes]:
        """Status, Retry-After and body; status 0 where no answer came."""
        try:
            async with asyncio.timeout(_ANSWER):
                await self.open()
                if self._streams is None:
                    return 0, None, b""
                reader, writer = self._streams
                # Not waited for: an answer may come before all of it is taken.
                writer.write(request)
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in head[1:])}
                body = await reader.readexactly(int(headers["content-length"]))
        except (OSError, EOFError, TimeoutError, KeyError, ValueError):
            self.close()
            return 0, None, b""
        if headers.get("connection", "").lower() == "close":
            self.close()
        return int(head[0].split()[1]), headers.get("retry-after"), body


def form(files: Sequence[Path]) -> bytes:
    """The body of a request with these files."""
    parts = io.BytesIO()
    for file in files:
        head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{file.name}"\r\n\r\n'
        parts.write(head.encode() + file.read_bytes() + b"\r\n")
    parts.write(f"--{_BOUNDARY}--\r\n".encode())
    return parts.getvalue()


def ask(port: int, method: str, path: str, files: Sequence[Path] = ()) -> Answer:
    """One request of this process."""
    begun = time.monotonic()
    status, again, body = 0, None, ""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ANSWER)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request(method, path, form(files) if files else None, {"Content-Type": _FORM} if files else {})
        answer = connection.getresponse()
        body, again, status = answer.read().decode(), answer.headers["Retry-After"], answer.status
    return Answer(0, begun, time.monotonic(), status, again, body)


# ── the server ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Server:
    """`assay serve` with no limit on requests a minute, for as long as the block lasts.

    Args:
        detector: name or folder.
        data: folder of its jobs.
        options: of the command.

    Attributes:
        port: where it listens.
    """

    def __init__(self, detector: str, data: Path, *options: str) -> None:
        self._command = [sys.executable, "-m", "assay", "serve", "--detector", detector, "--data", str(data)]
        self._command += ["--port", "0", "--rate", "0", "--json", *options]

    def __enter__(self) -> Server:
        self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        if not said:
            raise SystemExit(f"{' '.join(self._command)} ended with status {self._process.wait()}")
        self.port = int(json.loads(said)["url"].rpartition(":")[2])
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._process.kill()
        self.stop()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def stop(self) -> int:
        """Asks it to end (SIGTERM) where it has not, and gives its exit status; -9 where it had to be killed."""
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(_STOP)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def ended(self, job: str, until: float) -> Measured:
        """A job once it has ended, or as it stands at that `time.monotonic()`."""
        while True:
            answer = ask(self.port, "GET", f"/v1/jobs/{job}")
            if answer.status != 200:
                raise SystemExit(f"a job that was accepted is answered with status {answer.status}")
            told: Measured = json.loads(answer.body)
            if told["ended"] is not None or time.monotonic() >= until:
                return told
            time.sleep(0.2)

    def results(self, job: str) -> list[Measured]:
        """All results of a job of up to 1,000 inputs."""
        found: list[Measured] = json.loads(ask(self.port, "GET", f"/v1/jobs/{job}/results?limit=1000").body)["results"]
        return found

    @property
    def cpu(self) -> float:
        """Seconds of processor time that its processes took."""
        ticks = 0
        for pid in self._processes():
            with contextlib.suppress(OSError):
                ticks += cpu_of(Path(f"/proc/{pid}/stat").read_text())
        return ticks / os.sysconf("SC_CLK_TCK")

    @property
    def memory(self) -> tuple[float, float]:
        """Resident MiB of the server itself, and of its other processes together."""
        mib = []
        for pid in self._processes():
            with contextlib.suppress(OSError):
                mib.append(resident(Path(f"/proc/{pid}/status").read_text()))
        return mib[0], sum(mib[1:])

    def _processes(self) -> list[int]:
        """Its own id, then its children's and theirs."""
        pids = [self._process.pid]
        for pid in pids:
            # Those that a thread began are that thread's.
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                with contextlib.suppress(OSError):
                    pids += map(int, children.read_text().split())
        return pids


def cpu_of(stat: str) -> int:
    """Ticks of processor time, the user's and the system's, that /proc/PID/stat tells of."""
    # The name in brackets may hold anything.
    return sum(map(int, stat.rpartition(")")[2].split()[11:13]))


def resident(status: str) -> float:
    """Resident MiB that /proc/PID/status tells of; 0 of a process that has ended."""
    held = [each.split()[1] for each in status.splitlines() if each.startswith("VmRSS:")]
    return int(held[0]) / 1024 if held else 0.0


# ── what is right ────────────────────────────────────────────────────────────────────────────────────────────────────


def uploads(folder: Path, count: int) -> list[Path]:
    """Up to `count` small files: pictures of six formats, and broken ones."""
    kills.make(folder / "made", count, random.Random(0))
    files: list[Path] = []
    for made in sorted((folder / "made").rglob("*")):
        if made.is_file() and os.access(made, os.R_OK):
            files.append(folder / f"{len(files):05}{made.suffix}")
            shutil.copyfile(made, files[-1])
    return files


def expected_of(detector: assay.Detector, files: Sequence[Path], scratch: Path) -> Expected:
    """What a scan finds."""
    out = scratch / "expected.jsonl"
    with Results(out, "json", detector.sha256) as results:
        scan(detector, map(str, files), results)
    found = [json.loads(told) for told in out.read_text("utf-8").splitlines()]
    out.unlink()
    return found


def right(found: object, expected: Mapping[str, Any]) -> bool:
    """Whether a result is the scan's; of errors the kinds are compared, as messages name limits and files."""
    if not isinstance(found, dict):
        return False
    if "error" in expected:
        return "score" not in found and found.get("error", {}).get("kind") == expected["error"]["kind"]
    return kills.alike({**found, "input": ""}, {**expected, "input": ""})


def says_when(again: str | None) -> bool:
    """Whether that is a Retry-After of whole seconds."""
    return again is not None and again.isdecimal() and int(again) >= 1


def sort(answer: Answer, stopped: float | None) -> Literal["accepted", "refused", "away"]:
    """Whether a request was accepted: every one was that nobody refused.

    Args:
        stopped: when the server was told to stop. From then on it may say 503, and whoever begins later than that may
            find nobody ("away").
    """
    if answer.status == 429 or (answer.status == 503 and stopped is not None and answer.ended >= stopped):
        return "refused"
    return "away" if not answer.status and stopped is not None and answer.begun >= stopped else "accepted"


def tallied(answers: Sequence[Answer], expected: Expected, stopped: float | None = None) -> Measured:
    """What became of requests for `/v1/judge`.

    Args:
        stopped: as in `sort`.

    Returns:
        "requests"; "refused", "away" and "accepted"; "answered": accepted and judged rightly; "statuses": how often
        each came, "0" for no answer; "faults": "lost" (accepted, and no answer), "differing" (another result than the
        scan's), "failed" (a status that does not belong to the result), "unsaid" (refused without a Retry-After).
    """
    counts, faults = Counter(sort(each, stopped) for each in answers), Counter[str]()
    for each in answers:
        match sort(each, stopped):
            case "refused" if not says_when(each.again):
                faults["unsaid"] += 1
            case "accepted":
                faults[_fault(each, expected[each.number])] += 1
    answered = faults.pop("", 0)
    return {
        "requests": len(answers),
        **{name: counts[name] for name in ("refused", "away", "accepted")},
        "answered": answered,
        "statuses": dict(sorted(Counter(str(each.status) for each in answers).items())),
        "faults": {name: faults[name] for name in ("lost", "differing", "failed", "unsaid")},
    }


def _fault(answer: Answer, expected: Mapping[str, Any]) -> str:
    """What is wrong with the answer to an accepted request; "" where nothing is."""
    if not answer.status:
        return "lost"
    if answer.status >= 500 or (answer.status == 200) != ("error" not in expected):
        return "failed"
    told = json.loads(answer.body)
    return "" if right(told["verdict"] if answer.status == 200 else told, expected) else "differing"


def checked(
    results: Sequence[Mapping[str, Any]], sent: Sequence[int], files: Sequence[Path], expected: Expected
) -> Counter[str]:
    """What is wrong with a job's results: inputs that were "lost", are "doubled", or are "differing" from the scan's.

    Args:
        results: as `/v1/jobs/{id}/results` gives them.
        sent: the numbers of its files, in their order.
    """
    faults: Counter[str] = Counter()
    done = [each for each in results if each["result"] is not None]
    times = Counter(each["number"] for each in done)
    faults["lost"] = sum(not times[place] for place in range(len(sent)))
    faults["doubled"] = len(done) - len(times)
    for each in done:
        if not 0 <= each["number"] < len(sent):
            faults["differing"] += 1
            continue
        number = sent[each["number"]]
        named = each["name"] == each["result"]["input"] == files[number].name
        faults["differing"] += not (named and right(each["result"], expected[number]))
    return faults


# ── load ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass
class Row:
    """What was measured with so many requests in flight, round by round.

    Args:
        rates: pictures a second.
        ratios: of a scan's.
        server, clients: seconds of processor time for each picture.
        latencies: seconds, of each request of all rounds.
    """

    rates: list[float] = dataclasses.field(default_factory=list)
    ratios: list[float] = dataclasses.field(default_factory=list)
    server: list[float] = dataclasses.field(default_factory=list)
    clients: list[float] = dataclasses.field(default_factory=list)
    latencies: list[float] = dataclasses.field(default_factory=list)

    def told(self) -> Measured:
        found: Measured = {
            "pictures_per_second": speed.spread(self.rates),
            "times_scan": speed.spread(self.ratios),
            "cpu_seconds_per_picture": speed.spread(self.server),
            "client_cpu_seconds_per_picture": speed.spread(self.clients),
        }
        if self.latencies:
            middle, late = np.percentile(self.latencies, (50, 99)).tolist()
            found |= {"p50_ms": round(1000 * middle, 1), "p99_ms": round(1000 * late, 1)}
        return found


def beside(rates: Sequence[float], scans: Sequence[float]) -> list[float]:
    """Ratios of rates to the mean of the scans before and after each; there is one scan more than rates."""
    return [2 * rate / (scans[place] + scans[place + 1]) for place, rate in enumerate(rates)]


def span(answers: Sequence[Answer]) -> float:
    """Seconds from the first request to the last answer."""
    return max(each.ended for each in answers) - min(each.begun for each in answers)


def load(
    detector: assay.Detector,
    named: str,
    folder: Path,
    concurrency: Sequence[int],
    repeat: int,
    scratch: Path,
    note: Callable[[str], None],
) -> Measured:
    """Rounds of: a scan, so many clients, a scan, so many others, a scan; up and down."""
    files = sorted(folder.iterdir())
    expected = expected_of(detector, files, scratch)
    rows = {str(count): Row() for count in concurrency} | {"provenance": Row(), "job": Row()}
    scans: list[float] = []
    busy: list[float] = []
    faults: Counter[str] = Counter()

    def scanned() -> float:
        time.sleep(speed._REST)
        before = time.process_time()
        scans.append(len(files) / speed.scanned(detector, folder, scratch))
        busy.append((time.process_time() - before) / len(files))
        time.sleep(speed._REST)
        return scans[-1]

    def judged(path: str, count: int, row: Row) -> float:
        answers, cpu = clients.run(server.port, path, count, len(files))
        row.clients.append(cpu / len(files))
        row.latencies += [each.ended - each.begun for each in answers]
        found = tallied(answers, expected)
        faults.update(found["faults"] | {"refused": found["refused"]})
        return len(answers) / span(answers)

    def one_job(row: Row) -> float:
        begun, before = time.time(), time.process_time()
        answer = ask(server.port, "POST", "/v1/jobs", files)
        if answer.status != 202:
            raise SystemExit(f"an idle server answered a job with status {answer.status}")
        told = server.ended(json.loads(answer.body)["id"], time.monotonic() + _JOBS)
        row.clients.append((time.process_time() - before) / len(files))
        faults.update(checked(server.results(told["id"]), range(len(files)), files, expected))
        return len(files) / ((told["ended"] or math.inf) - begun)

    def measured(name: str) -> float:
        row, before = rows[name], server.cpu
        if name == "job":
            rate = one_job(row)
        elif name == "provenance":
            rate = judged(JUDGE, PROVENANCE, row)
        else:
            rate = judged(PLAIN, int(name), row)
        row.server.append((server.cpu - before) / len(files))
        return rate

    with Server(named, scratch / "load") as server, Clients(files) as clients:
        clients.run(server.port, JUDGE, concurrency[-1], len(files))
        for number in range(repeat):
            order = sorted(rows, key=list(rows).index, reverse=bool(number % 2))
            around, rates = [scanned()], []
            for name in order:
                rates.append(measured(name))
                around.append(scanned())
            for name, rate, ratio in zip(order, rates, beside(rates, around), strict=True):
                rows[name].rates.append(rate)
                rows[name].ratios.append(ratio)
            ratios = ", ".join(f"{name} {row.ratios[-1]:.2f}" for name, row in rows.items())
            note(f"round {number + 1} of {repeat}, {np.mean(around):.3g} pictures a second scanned; of that: {ratios}")
        status = server.stop()
    return {
        "files": len(files),
        "rounds": repeat,
        "scan": {"pictures_per_second": speed.spread(scans), "cpu_seconds_per_picture": speed.spread(busy)},
        "rows": {name: row.told() for name, row in rows.items()},
        "faults": dict(faults) | {"status": abs(status)},
    }


# ── overload ─────────────────────────────────────────────────────────────────────────────────────────────────────────

Posts = Sequence[tuple[Sequence[int], Answer]]
"""Jobs that were handed in: the numbers of the files of each, and its answer."""


def overload(
    detector: assay.Detector,
    named: str,
    files: Sequence[Path],
    seconds: float,
    scratch: Path,
    note: Callable[[str], None],
) -> Measured:
    """Too many clients for some seconds, with jobs beside them; then the same again with SIGTERM in the midst."""
    expected, data = expected_of(detector, files, scratch), scratch / "overload"
    options = ("--queue", str(QUEUE))
    with Clients(files) as clients, concurrent.futures.ThreadPoolExecutor(1) as pool:
        with Server(named, data, *options) as server:
            note(f"{CLIENTS} clients for {seconds:g} s")
            clients.begin(server.port, PLAIN, CLIENTS, seconds=seconds)
            posts = handed_in(server.port, files, seconds)
            answers, _ = clients.end()
            requests = tallied(answers, expected) | {"seconds": round(span(answers), 1)}
            jobs = followed(server, posts, files, expected)

            note(f"again, with SIGTERM after {seconds / 2:g} s")
            clients.begin(server.port, PLAIN, CLIENTS, seconds=seconds)
            posting = pool.submit(handed_in, server.port, files, seconds)
            time.sleep(seconds / 2)
            stopped = time.monotonic()
            status = server.stop()
            took = time.monotonic() - stopped
            posts = posting.result()
            answers, _ = clients.end()
        stop: Measured = {
            "seconds": round(took, 1),
            "answered_after": sum(each.status == 200 and each.ended >= stopped for each in answers),
            "requests": tallied(answers, expected, stopped),
            "faults": {"status": abs(status)},
        }
        note("the next start finishes what jobs had left")
        with Server(named, data, *options) as server:
            stop["jobs"] = followed(server, posts, files, expected, stopped)
    return {
        "clients": CLIENTS,
        "places": QUEUE,
        "requests": requests,
        "jobs": jobs,
        "stop": stop,
        "faults": {"status": abs(server.stop()), "left": sum(1 for _ in (data / "spool").iterdir())},
    }


def handed_in(port: int, files: Sequence[Path], seconds: float) -> Posts:
    """Every second BURST jobs at once, of INPUTS files each."""
    draw = random.Random(0)

    def post(sent: Sequence[int]) -> tuple[Sequence[int], Answer]:
        return sent, ask(port, "POST", "/v1/jobs", [files[number] for number in sent])

    begun, posts = time.monotonic(), []
    with concurrent.futures.ThreadPoolExecutor(BURST) as pool:
        for second in range(math.ceil(seconds)):
            time.sleep(max(0.0, begun + second - time.monotonic()))
            posts += [pool.submit(post, draw.choices(range(len(files)), k=INPUTS)) for _ in range(BURST)]
        return [each.result() for each in posts]


def followed(
    server: Server, posts: Posts, files: Sequence[Path], expected: Expected, stopped: float | None = None
) -> Measured:
    """What became of jobs, once all that were accepted have ended.

    Args:
        stopped: as in `sort`.

    Returns:
        "jobs"; "refused", "away" and "accepted"; "inputs" of those that were accepted; "answered" of these, rightly and
        once; "faults": those of `checked`, "failed" (jobs with another status) and "unsaid" (as in `tallied`). The
        inputs of a job without an answer are lost.
    """
    counts, faults = Counter(sort(answer, stopped) for _, answer in posts), Counter[str]()
    inputs, until = 0, time.monotonic() + _JOBS
    for sent, answer in posts:
        match sort(answer, stopped), answer.status:
            case "refused", _:
                faults["unsaid"] += not says_when(answer.again)
            case "accepted", 202:
                told = server.ended(json.loads(answer.body)["id"], until)
                faults.update(checked(server.results(told["id"]), sent, files, expected))
                inputs += len(sent)
            case "accepted", 0:
                faults["lost"] += len(sent)
                inputs += len(sent)
            case "accepted", _:
                faults["failed"] += 1
    wrong = {name: faults[name] for name in ("lost", "doubled", "differing", "failed", "unsaid")}
    return {
        "jobs": len(posts),
        **{name: counts[name] for name in ("refused", "away", "accepted")},
        "inputs": inputs,
        "answered": inputs - wrong["lost"] - wrong["doubled"] - wrong["differing"],
        "faults": wrong,
    }


# ── memory ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def memory(
    detector: assay.Detector,
    named: str,
    files: Sequence[Path],
    requests: int,
    scratch: Path,
    note: Callable[[str], None],
) -> Measured:
    """Requests for small files, 8 in flight, with a look at memory after every STEP of them."""
    expected = expected_of(detector, files, scratch)
    done: list[int] = []
    own: list[float] = []
    other: list[float] = []
    faults: Counter[str] = Counter()
    begun = time.monotonic()
    with Server(named, scratch / "memory") as server, Clients(files) as clients:
        while sum(done[-1:]) < requests:
            answers, _ = clients.run(server.port, JUDGE, 8, min(STEP, requests - sum(done[-1:])))
            found = tallied(answers, expected)
            faults.update(found["faults"] | {"refused": found["refused"]})
            done.append(sum(done[-1:]) + len(answers))
            for mib, held in zip((own, other), server.memory, strict=True):
                mib.append(round(held, 1))
            if not len(done) % 10:
                note(f"{done[-1]} requests, {own[-1] + other[-1]:.0f} MiB")
        status = server.stop()
    return {
        "requests": done[-1],
        "broken": round(sum("error" in each for each in expected) / len(expected), 3),
        "seconds": round(time.monotonic() - begun, 1),
        **trend(done, [sum(each) for each in zip(own, other, strict=True)]),
        "server_mib": own,
        "other_mib": other,
        "every": STEP,
        "faults": dict(faults) | {"status": abs(status)},
    }


def trend(requests: Sequence[int], mib: Sequence[float]) -> Measured:
    """The course of memory.

    Returns:
        "first", "last" and "peak" in MiB; "mib_per_1000": the slope after the first quarter, by least squares; "flat":
        whether it is below FLAT. The last two are None where there were not ENOUGH requests.
    """
    found: Measured = {"first": round(mib[0], 1), "last": round(mib[-1], 1), "peak": round(max(mib), 1)}
    late = np.asarray(requests) > requests[-1] / 4
    if requests[-1] < ENOUGH or late.sum() < 2:
        return found | {"mib_per_1000": None, "flat": None}
    slope = float(np.polyfit(np.asarray(requests)[late] / 1000, np.asarray(mib)[late], 1)[0])
    return found | {"mib_per_1000": round(slope, 3), "flat": slope < FLAT}


# ── telling ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def faults_of(found: object) -> Counter[str]:
    """All faults, wherever they are told of."""
    faults: Counter[str] = Counter()
    if isinstance(found, dict):
        for name, part in found.items():
            faults.update(part if name == "faults" else faults_of(part))
        faults["grown"] += found.get("flat") is False
    return +faults


def markdown(found: Mapping[str, Any]) -> str:
    """The figures as tables."""
    on, detector = found["machine"], found["detector"]
    versions = ", ".join(f"{name} {version}" for name, version in on["versions"].items())
    lines = [
        f"{detector['name']} {detector['version']} ({detector['sha256'][:12]}) on {on['cpu']}, {on['cores']} cores, "
        f"load {on['load']} before this began; Python {on['python']}, {versions}.",
    ]
    for name, table in (("load", _load), ("overload", _overload), ("memory", _memory)):
        if name in found:
            lines += ["", *table(found[name])]
    faults = faults_of(found)
    told = ", ".join(f"{count} {name}" for name, count in sorted(faults.items()))
    return "\n".join([*lines, "", f"**Wrong: {told}.**" if faults else "Nothing was lost, doubled or wrong."])


def _load(found: Mapping[str, Any]) -> list[str]:
    scan, rows = found["scan"], found["rows"]
    lines = [
        f"A scan: {_spread(scan['pictures_per_second'])} pictures a second, "
        f"{_spread(scan['cpu_seconds_per_picture'], 1000)} ms of processor time for each. {found['files']} pictures, "
        f"rounds: {found['rounds']}; in brackets the lowest and highest.",
        "",
        line(["in flight", "pictures/s", "of a scan's", "p50 ms", "p99 ms", "processor ms", "clients' ms"]),
        "|---" + "|---:" * 6 + "|",
    ]
    told = {"provenance": f"{PROVENANCE}, with metadata", "job": f"a job of {found['files']}"}
    for name, row in rows.items():
        times = [f"{row[key]:.0f}" if key in row else "" for key in ("p50_ms", "p99_ms")]
        busy = [_spread(row[f"{whose}cpu_seconds_per_picture"], 1000) for whose in ("", "client_")]
        cells = [_spread(row[key]) for key in ("pictures_per_second", "times_scan")]
        lines.append(line([told.get(name, name), *cells, *times, *busy]))
    best = max(rows[name]["times_scan"]["value"] for name in rows if name not in told)
    return [*lines, "", f"The best is {best:.2f} of a scan's rate; {AIM} is {'' if best >= AIM else 'not '}reached."]


def _overload(found: Mapping[str, Any]) -> list[str]:
    requests, jobs, stop = found["requests"], found["jobs"], found["stop"]
    lines = [
        f"{found['clients']} clients of one address for {requests['seconds']:g} s, {found['places']} places, half of "
        "them for one address.",
        "",
        line(["", "sent", "refused", "found nobody", "accepted", "answered", "faults", "statuses"]),
        "|---" + "|---:" * 6 + "|---|",
    ]
    for name, part in {
        "requests": requests,
        "inputs of jobs": jobs,
        "requests, with SIGTERM": stop["requests"],
        "inputs of jobs, with SIGTERM": stop["jobs"],
    }.items():
        sent = part["requests"] if "requests" in part else f"{part['jobs']} jobs"
        accepted = part["accepted"] if "requests" in part else f"{part['inputs']} of {part['accepted']} jobs"
        faults = ", ".join(f"{count} {what}" for what, count in part["faults"].items() if count) or "0"
        statuses = ", ".join(f"{status}: {count}" for status, count in part.get("statuses", {}).items())
        cells = (sent, part["refused"], part["away"], accepted, part["answered"], faults, statuses)
        lines.append(line([name, *map(str, cells)]))
    return [
        *lines,
        "",
        f"{requests['answered'] / requests['seconds']:.1f} requests a second were judged meanwhile. After SIGTERM "
        f"{stop['answered_after']} more verdicts were given, and the server ended after {stop['seconds']} s with "
        f"status {stop['faults']['status']}. {found['faults']['left']} uploads were left in the spool.",
    ]


def _memory(found: Mapping[str, Any]) -> list[str]:
    verdict = {True: "flat", False: "NOT flat", None: f"too few requests to tell; {ENOUGH:,} are enough"}[found["flat"]]
    slope = "" if found["mib_per_1000"] is None else f"{found['mib_per_1000']:+.2f}"
    return [
        f"{found['requests']:,} requests, {100 * found['broken']:.0f} % of them for broken files, in "
        f"{found['seconds']:.0f} s. Resident memory of all processes after every {found['every']}; flat is less than "
        f"{FLAT:g} MiB more in 1,000 requests after the first quarter, by least squares.",
        "",
        line(["first MiB", "last", "peak", "MiB in 1,000", ""]),
        "|---:" * 4 + "|---|",
        line([*(f"{found[key]:.0f}" for key in ("first", "last", "peak")), slope, verdict]),
    ]


def _spread(figure: Mapping[str, float], scale: float = 1) -> str:
    return "{:.3g} ({:.3g}–{:.3g})".format(*(scale * figure[key] for key in ("value", "low", "high")))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("load", "overload", "memory"), help="one of the three questions")
    parser.add_argument("--quick", action="store_true", help="a small run of each, to see that all works")
    parser.add_argument("--detector", metavar="NAME|FOLDER", help="the default detector where none is named")
    parser.add_argument("--files", type=int, help="pictures in each measurement of load, up to 1,000; 200")
    parser.add_argument("--repeat", type=int, help="rounds of load; 5")
    parser.add_argument("--seconds", type=float, help="of overload; 15")
    parser.add_argument("--requests", type=int, help="of memory; 20,000")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument("--clients", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.clients:
        as_clients()
        return 0
    small = {"files": 24, "repeat": 1, "seconds": 4.0, "requests": 1_000}
    large = {"files": 200, "repeat": 5, "seconds": 15.0, "requests": 20_000}
    for name, usual in (small if asked.quick else large).items():
        if getattr(asked, name) is None:
            setattr(asked, name, usual)
    if min(asked.files, asked.repeat, asked.seconds, asked.requests) < 1 or asked.files > 1_000:
        parser.error("--files, --repeat, --seconds and --requests must be 1 or more, and --files 1,000 or less")

    note = Console(stderr=True, highlight=False).print
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        try:
            detector = assay.load(asked.detector)
        except AssayError as error:
            raise SystemExit(str(error)) from None
        named = asked.detector or detector.name
        found: Measured = {
            "detector": {"name": detector.name, "version": detector.version, "sha256": detector.sha256},
            "machine": speed.machine(),
        }
        for library in ("uvicorn", "starlette"):
            found["machine"]["versions"][library] = importlib.metadata.version(library)
        if asked.only in (None, "load"):
            note(f"making {asked.files} pictures")
            speed.pictures(scratch / "pictures", asked.files)
            counts = CONCURRENCY[::3] if asked.quick else CONCURRENCY
            found["load"] = load(detector, named, scratch / "pictures", counts, asked.repeat, scratch, note)
        if asked.only in (None, "overload"):
            speed.pictures(scratch / "mixed", 32, seed=1)
            files = sorted((scratch / "mixed").iterdir()) + uploads(scratch / "few", 64)
            found["overload"] = overload(detector, named, files, asked.seconds, scratch, note)
        if asked.only in (None, "memory"):
            note(f"{asked.requests} requests, with a look at memory after every {STEP}")
            files = uploads(scratch / "small", 200)
            found["memory"] = memory(detector, named, files, asked.requests, scratch, note)
    if asked.json is not None:
        asked.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    print(markdown(found))
    return 1 if faults_of(found) else 0


if __name__ == "__main__":
    sys.exit(main())
