"""Kills `assay serve` at random moments of its jobs and checks that nothing is lost, nothing doubled, nothing changed.

    python bench/serve_kills.py --kills 100
    python bench/serve_kills.py --quick

The real command listens on this machine, with a data folder of its own. First it judges all inputs without disturbance.
Then jobs of small pictures, some of them broken, and in every fifth round a small video, are handed in slowly; the
server is killed (SIGKILL) once to four times on the way and started again on the same folder and port until the job
ends. One half of the kills takes its decoding processes with it, the other half leaves them behind, and they must end
by themselves. A third of the moments is uniform over the job's whole life; the others are aimed: at the upload, at the
moment in which the job is accepted, at a result that is being written, at the end of a job, at the start of the server.

The client sends its upload again, under the same Idempotency-Key, until it is accepted. Then the job must end, with
each input once, in order, with the result of the undisturbed run; the spool must be empty, and nothing else be left
anywhere; SQLite's own check must hold after every kill, and all jobs be whole at the end. An input that was in work at
three kills or more may be given up, which is a failure of kind "crashed" and counted apart: it may have been the cause.

Prints a table in Markdown; exit status 1 where anything is amiss. Looks into /proc, so Linux only; needs the extras
"serve" and "video".
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import http.client
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import av
import numpy as np

import assay
import kills

TRIES = 3
"""Kills at which an input may be given up (`assay.serve.settings.Settings.tries`)."""

PATIENCE, ORPHAN = 180.0, 30.0
"""Seconds in which whatever is waited for must happen, and in which processes must end that were left behind."""

STATES = ("starting", "upload", "queued", "running", "finished")
FAULTS = ("lost", "doubled", "wrong", "damaged", "stray", "orphans", "stuck", "tracebacks")

_NAMES = {"queued": "queued", "running": "running", "done": "finished", "cancelled": "finished"}
_STORE = ("jobs.sqlite", "jobs.sqlite-wal", "jobs.sqlite-shm")


class Stuck(Exception):
    """What had to happen did not."""


# ── a server, and what is said to it ─────────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a server answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Server:
    """`assay serve`, and whatever it starts, in a process group of its own. Its home, its working directory and its
    temporary folder are empty folders beside its data.

    Args:
        place: an empty folder.
        options: of the command.
    """

    def __init__(self, place: Path, options: Sequence[str] = ()) -> None:
        self.place, self.data, self.log = place, place / "data", place / "stderr"
        self._options, self.port = options, 0
        self.up = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        for name in ("home", "tmp"):
            (place / name).mkdir()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def died(self) -> bool:
        """Whether it ended of its own accord."""
        return self._process is not None and self._process.poll() is not None

    def start(self) -> None:
        """Begins; `up` says when it takes work."""
        home, temporary = str(self.place / "home"), str(self.place / "tmp")
        command = [sys.executable, "-m", "assay", "serve", "--json", "--port", str(self.port), "--rate", "0"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--data", str(self.data), *self._options],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=home,
                env=os.environ | {"HOME": home, "TMPDIR": temporary, "PYTHONDONTWRITEBYTECODE": "1"},
                start_new_session=True,
            )
        assert self._process.stdout is not None
        threading.Thread(target=self._listen, args=(self._process, self._process.stdout), daemon=True).start()

    def _listen(self, process: subprocess.Popen[bytes], out: IO[bytes]) -> None:
        with out:
            line = out.readline()
        if line and process is self._process:
            self.port = int(json.loads(line)["url"].rpartition(":")[2])
            self.up.set()

    def wait(self) -> None:
        """Until it takes work. Raises Stuck where it does not."""
        until(lambda: self.up.is_set() or self.died, "a server that takes work", 0.01)
        if self.died:
            raise Stuck(f"the server ended by itself: {self.said()[-1000:]}")

    def kill(self, whole: bool = True) -> None:
        """Kills it, with the processes that it began or without them."""
        assert self._process is not None
        self.up.clear()
        (os.killpg if whole else os.kill)(self.pid, signal.SIGKILL)
        self._process.wait()

    def end(self) -> int | None:
        """Tells it to stop. Its exit status; None where it does not stop."""
        assert self._process is not None
        self._process.terminate()
        try:
            return self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def said(self) -> str:
        """All that was written to standard error."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def ask(self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Answer:
        """Raises as `spoken`."""
        return spoken(self.port, (head(method, target, headers, len(body)), body))


def tracebacks(said: str) -> list[str]:
    """Tracebacks through our own code. A process whose parent is killed as it starts it dies with one of Python's."""
    own = str(Path(assay.__file__).parent)
    return ["Traceback" + each for each in said.split("Traceback")[1:] if own in each]


def group(leader: int) -> list[int]:
    """Processes of a group that live."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                state, _, its, *_ = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(its) == leader and state not in "ZX":
                    found.append(int(entry.name))
    return found


def until(happens: Callable[[], Any], what: str, step: float, seconds: float = PATIENCE) -> None:
    """Raises Stuck where it does not happen in time."""
    end = time.monotonic() + seconds
    while not happens():
        if time.monotonic() > end:
            raise Stuck(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(step)


def head(method: str, target: str, headers: Mapping[str, str] | None, size: int) -> bytes:
    """The head of a request with a body of that size."""
    told = {"Host": "localhost", "Connection": "close", "Content-Length": str(size), **(headers or {})}
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in told.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def spoken(port: int, pieces: Iterable[bytes], seconds: float = PATIENCE) -> Answer:
    """Sends pieces one by one, and reads the answer.

    Raises:
        OSError, http.client.HTTPException: there was none, or not in time.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        # A server that has heard enough answers, and closes.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for piece in pieces:
                connection.sendall(piece)
        with contextlib.closing(http.client.HTTPResponse(connection)) as answer:
            answer.begin()
            return Answer(answer.status, dict(answer.headers.items()), answer.read())


BOUNDARY = "frontier"


def form(files: Iterable[tuple[str, bytes]], boundary: str = BOUNDARY) -> bytes:
    """Files as multipart/form-data, their names as browsers write them."""
    body = b""
    for name, data in files:
        escaped = name.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")
        disposition = f'Content-Disposition: form-data; name="file"; filename="{escaped}"'
        body += f"--{boundary}\r\n{disposition}\r\n\r\n".encode("utf-8", "surrogateescape") + data + b"\r\n"
    return body + f"--{boundary}--\r\n".encode()


FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


# ── jobs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass(frozen=True)
class Work:
    """A job that is handed in: its inputs, and what becomes of them where nobody disturbs."""

    files: tuple[tuple[str, bytes], ...]
    query: str = ""
    expected: tuple[Mapping[str, Any], ...] = ()


def pictures(scratch: Path, count: int, draw: random.Random) -> list[tuple[str, bytes]]:
    """Names and bytes of small pictures, of which one in ten is broken."""
    kills.make(scratch, count, draw)
    paths = sorted(path for path in scratch.rglob("*") if path.is_file() and not path.is_symlink())
    return [(os.fsdecode(os.fsencode(path.name)), path.read_bytes()) for path in paths]


def film(path: Path, seconds: int = 20) -> bytes:
    """A video of noise that moves, 10 frames a second."""
    noise = np.random.default_rng(0).integers(0, 256, (240, 640, 3), np.uint8)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=10)
        stream.width, stream.height = 320, 240
        for number in range(10 * seconds):
            left = number % 320
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(noise[:, left : left + 320]))))
        file.mux(stream.encode(None))
    return path.read_bytes()


class Sender(threading.Thread):
    """Hands in a job, slowly, and again under the same name until it is accepted.

    Args:
        server: that is killed on the way.
        work: to hand in.
        name: of this request.
        seconds: that one upload lasts.
    """

    def __init__(self, server: Server, work: Work, name: str, seconds: float) -> None:
        super().__init__(daemon=True)
        self._server, self._seconds, self.work = server, seconds, work
        self._target, self._body = f"/v1/jobs{work.query}", form(work.files)
        self._headers = FORM | {"Idempotency-Key": name}
        self.share, self.attempts = 0.0, 0
        self.job, self.refusal = "", ""

    def run(self) -> None:
        end = time.monotonic() + PATIENCE
        while not self.job and time.monotonic() < end:
            if not self._server.up.wait(0.1):
                continue
            self.attempts += 1
            try:
                answer = spoken(self._server.port, self._pieces())
            except (OSError, http.client.HTTPException):
                time.sleep(0.01)
                continue
            if answer.status == 202:
                self.job = answer.json["id"]
            elif answer.status != 503:
                self.refusal = f"{answer.status} {answer.body[:300]!r}"
                return

    def _pieces(self, count: int = 20) -> Iterator[bytes]:
        self.share = 0.0
        yield head("POST", self._target, self._headers, len(self._body))
        step = len(self._body) // count + 1
        for start in range(0, len(self._body), step):
            time.sleep(self._seconds / count)
            yield self._body[start : start + step]
            self.share = min(1.0, (start + step) / len(self._body))


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A store of jobs as a kill left it.

    Args:
        sound: what SQLite says of it; "ok" where it is.
        jobs: by the name of the request: id and state of each job; more than one is one too many.
        claimed: (job, number) of inputs that were in work.
        inputs: how many each job has.
    """

    sound: str = "ok"
    jobs: Mapping[str, tuple[tuple[str, str], ...]] = dataclasses.field(default_factory=dict)
    claimed: frozenset[tuple[str, int]] = frozenset()
    inputs: Mapping[str, int] = dataclasses.field(default_factory=dict)


def snapshot(data: Path) -> Snapshot:
    """Reads a copy, so that what a kill left is the server's own to mend."""
    with tempfile.TemporaryDirectory() as scratch:
        for name in _STORE[:2]:
            if (data / name).exists():
                shutil.copy(data / name, scratch)
        copy = Path(scratch) / _STORE[0]
        if not copy.exists():
            return Snapshot()
        with contextlib.closing(sqlite3.connect(copy)) as store:
            try:
                [(sound,)] = store.execute("PRAGMA integrity_check(1)").fetchall()
                if not store.execute("SELECT 1 FROM sqlite_schema WHERE name = 'input_version'").fetchall():
                    return Snapshot(sound)
                rows = store.execute("SELECT idempotency, id, state FROM job").fetchall()
                claimed = store.execute(
                    "SELECT job.id, input.number FROM input JOIN job ON job.number = input.job"
                    " WHERE input.state = 'claimed'"
                ).fetchall()
                inputs = store.execute(
                    "SELECT job.id, count(*) FROM input JOIN job ON job.number = input.job GROUP BY job.id"
                ).fetchall()
            except sqlite3.DatabaseError as error:
                return Snapshot(str(error))
        jobs: dict[str, tuple[tuple[str, str], ...]] = {}
        for name, id, state in rows:
            jobs[name] = (*jobs.get(name, ()), (id, state))
        return Snapshot(sound, jobs, frozenset(claimed), dict(inputs))


def state_of(found: Snapshot, name: str, up: bool) -> str:
    """At which state of a job a kill fell."""
    if not up:
        return "starting"
    return _NAMES[found.jobs[name][0][1]] if name in found.jobs else "upload"


def compared(
    told: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    lines: Sequence[Mapping[str, Any]],
    expected: Sequence[Mapping[str, Any]],
    hit: Counter[int],
) -> Counter[str]:
    """What is amiss with a job that has ended.

    Args:
        told: the job.
        results: as its pages give them.
        lines: as its download gives them.
        expected: of the undisturbed run, in the order of the inputs.
        hit: how often each input was in work at a kill.
    """
    faults: Counter[str] = Counter()
    numbers = Counter(each["number"] for each in results)
    faults["lost"] += sum(not numbers[number] for number in range(len(expected)))
    faults["lost"] += sum(each["result"] is None for each in results)
    faults["doubled"] += sum(count > 1 for count in numbers.values())
    # In order, and of nothing else.
    faults["wrong"] += [each["number"] for each in results] != list(range(len(expected)))
    faults["lost"] += max(0, len(expected) - len(lines))
    faults["doubled"] += max(0, len(lines) - len(expected))
    for each, line in zip(results, lines, strict=False):
        faults["wrong"] += each["result"] != line
    for each in results:
        if each["number"] >= len(expected):
            continue
        wanted = expected[each["number"]]
        right = kills.alike(each["result"], wanted) and each["name"] == wanted["input"]
        if not right and not (given_up(each) and hit[each["number"]] >= TRIES):
            faults["wrong"] += 1
    counts = told["counts"]
    faults["wrong"] += told["state"] != "done" or told["total"] != len(expected)
    faults["wrong"] += told["finished"] != len(expected) or sum(counts.values()) != len(expected)
    faults["wrong"] += counts["failed"] != sum("error" in (each["result"] or {}) for each in results)
    return +faults


def given_up(each: Mapping[str, Any]) -> bool:
    """Whether that is the result of an input that kills were laid to."""
    result: Mapping[str, Any] = each["result"] or {}
    return "error" in result and result["error"]["kind"] == "crashed"


def ended(server: Server, job: str, work: Work, hit: Counter[int]) -> tuple[Counter[str], int]:
    """Waits for a job's end. What is amiss with it, and how many inputs were given up."""
    until(lambda: server.ask("GET", f"/v1/jobs/{job}").json.get("state") in ("done", None), "a job's end", 0.02)
    answer = server.ask("GET", f"/v1/jobs/{job}")
    if answer.status != 200:
        return Counter(lost=len(work.expected)), 0
    results: list[Mapping[str, Any]] = []
    while page := server.ask("GET", f"/v1/jobs/{job}/results?offset={len(results)}&limit=7").json["results"]:
        results += page
    lines = list(map(json.loads, server.ask("GET", f"/v1/jobs/{job}/results.jsonl").body.splitlines()))
    events = server.ask("GET", f"/v1/jobs/{job}/events").body.decode()
    faults = compared(answer.json, results, lines, work.expected, hit)
    faults["doubled"] += max(0, events.count("event: result\n") - len(work.expected))
    faults["lost"] += max(0, len(work.expected) - events.count("event: result\n"))
    given = sum(given_up(each) for each in results)  # no input of the undisturbed run was
    return +faults, given


def left_behind(server: Server) -> list[str]:
    """Files that should not be there while no job waits and none is handed in."""
    known = {server.data / name for name in _STORE} | {server.log}
    found = [path for path in server.place.rglob("*") if path.is_symlink() or not path.is_dir()]
    return sorted(str(path.relative_to(server.place)) for path in found if path not in known)


# ── kills ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass
class Tally:
    """What happened."""

    states: Counter[str] = dataclasses.field(default_factory=Counter)
    faults: Counter[str] = dataclasses.field(default_factory=Counter)
    jobs: int = 0
    inputs: int = 0
    again: int = 0
    given_up: int = 0
    """Inputs that were in work at `TRIES` kills."""
    resent: int = 0
    alone: int = 0
    longest: float = 0.0
    """Seconds that a process went on after the main one was killed."""

    @property
    def kills(self) -> int:
        return self.states.total()


def aim(server: Server, sender: Sender, start: float, life: float, draw: random.Random) -> None:
    """Waits for a moment at which to kill.

    Args:
        start: seconds that a server takes to start.
        life: seconds of a job where nobody disturbs, its upload included.
    """
    if not server.up.is_set():  # it was killed just now
        if draw.random() < 0.5:
            time.sleep(draw.uniform(0, start))
            return
        server.wait()

    def waiting() -> int:
        return sum(not path.name.startswith(".") for path in (server.data / "spool").iterdir())

    share, left = draw.random(), draw.randrange(max(1, waiting() if sender.job else len(sender.work.files)))
    goals: list[Callable[[], bool]] = [
        lambda: False,
        lambda: bool(sender.job) and waiting() <= left,  # a result is being written
        lambda: bool(sender.job) and not waiting(),
    ]
    if not sender.job:
        goals += [lambda: sender.share >= share, lambda: sender.share >= 1, lambda: bool(sender.job)]
    goal = draw.choice(goals)
    end = time.monotonic() + (draw.uniform(0, life) if goal is goals[0] else 3 * life + 5)
    while time.monotonic() < end and not goal():
        time.sleep(0.0005)
    time.sleep(draw.choice((0, draw.uniform(0, 0.005), draw.uniform(0, 0.05))))


class Orphans(threading.Thread):
    """Watches what a killed server left behind until that ends by itself, or for `ORPHAN` seconds."""

    def __init__(self, leader: int) -> None:
        super().__init__(daemon=True)
        self.leader, self.seconds, self.left = leader, 0.0, 0

    def run(self) -> None:
        begun = time.monotonic()
        with contextlib.suppress(Stuck):
            until(lambda: not group(self.leader), "orphans", 0.02, ORPHAN)
        self.seconds, self.left = time.monotonic() - begun, len(group(self.leader))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.leader, signal.SIGKILL)


def killed(server: Server, tally: Tally, draw: random.Random) -> Orphans:
    """Kills a server, and half of the times all that belongs to it. What watches over the rest."""
    if server.died:
        raise Stuck(f"the server ended by itself: {server.said()[-1000:]}")
    leader, whole = server.pid, draw.random() < 0.5
    server.kill(whole)
    orphans = Orphans(leader)
    orphans.start()
    tally.alone += not whole
    if whole:
        orphans.join()
    return orphans


def round_of(
    server: Server, work: Work, name: str, moments: int, times: tuple[float, float], draw: random.Random, tally: Tally
) -> str:
    """Hands in a job, kills the server on the way, and looks at what became of the job. Its id."""
    server.wait()
    hit: Counter[int] = Counter()
    orphans: list[Orphans] = []
    sender = Sender(server, work, name, draw.uniform(0.1, 1.0))
    sender.start()
    for _ in range(moments):
        aim(server, sender, *times, draw)
        up = server.up.is_set()
        orphans.append(killed(server, tally, draw))
        found = snapshot(server.data)
        server.start()
        tally.states[state_of(found, name, up)] += 1
        tally.faults["damaged"] += found.sound != "ok"
        tally.again += len(found.claimed)
        hit.update(number for job, number in found.claimed if job in dict(found.jobs.get(name, ())))
    server.wait()
    for each in orphans:
        each.join()
        tally.longest = max(tally.longest, each.seconds)
        tally.faults["orphans"] += each.left
    sender.join(PATIENCE)
    if not sender.job:
        raise Stuck(f"{name} was never accepted: {sender.refusal}")
    tally.resent += sender.attempts - 1
    faults, given = ended(server, sender.job, work, hit)
    end = time.monotonic() + 5  # an upload goes after the result that says so
    while (stray := left_behind(server)) and time.monotonic() < end:
        time.sleep(0.02)
    faults["stray"] += len(stray)
    if faults.total():
        print(f"{name}: {dict(+faults)} {' '.join(stray[:5])}", file=sys.stderr)
    tally.faults.update(faults)
    tally.jobs, tally.inputs, tally.given_up = tally.jobs + 1, tally.inputs + len(work.expected), tally.given_up + given
    return sender.job


def undisturbed(server: Server, work: Work, name: str) -> tuple[Work, float]:
    """The same work with its results, and the seconds that it took."""
    begun = time.monotonic()
    sender = Sender(server, work, name, 0)
    sender.run()
    if not sender.job:
        raise Stuck(f"the undisturbed job was not accepted: {sender.refusal}")
    until(lambda: server.ask("GET", f"/v1/jobs/{sender.job}").json["state"] == "done", "the undisturbed job", 0.02)
    seconds = time.monotonic() - begun
    told = server.ask("GET", f"/v1/jobs/{sender.job}/results?limit=1000").json["results"]
    return dataclasses.replace(work, expected=tuple(each["result"] for each in told)), seconds


def run(asked: argparse.Namespace, place: Path, tally: Tally) -> None:
    """All rounds."""
    draw = random.Random(asked.seed)
    pool = pictures(place / "pool", asked.pool, draw)
    video = film(place / "film.mp4")
    (place / "server").mkdir()
    options = ["--decoders", "2", "--threads", "1", *(["--detector", asked.detector] if asked.detector else [])]
    server = Server(place / "server", options)
    try:
        begun = time.monotonic()
        server.start()
        server.wait()
        start = time.monotonic() - begun
        known, seconds = undisturbed(server, Work(tuple(pool)), "pictures")
        life = seconds * asked.pictures / len(pool) + 0.5
        watched, film_life = undisturbed(server, Work((("film.mp4", video),), "?every=0.5"), "film")
        by_name = dict(zip(pool, known.expected, strict=True))
        done: list[tuple[str, Work]] = []
        while tally.kills < asked.kills:
            number = tally.jobs
            if number % 5 == 4:
                work, seconds = watched, film_life + 0.5
            else:
                files = draw.sample(pool, min(asked.pictures, len(pool)))
                work, seconds = Work(tuple(files), "", tuple(by_name[each] for each in files)), life
            moments = min(draw.randint(1, 4), asked.kills - tally.kills)
            done.append((round_of(server, work, f"round-{number}", moments, (start, seconds), draw, tally), work))
        _close(server, done, tally)
    finally:
        if not server.died:
            server.kill()


def _close(server: Server, done: Sequence[tuple[str, Work]], tally: Tally) -> None:
    """Looks at all jobs once more, ends the server, and looks at what is left."""
    for job, work in done:
        if server.ask("GET", f"/v1/jobs/{job}").json.get("finished") != len(work.expected):
            tally.faults["lost"] += 1
    stopped = server.end()
    found = snapshot(server.data)
    tally.faults["damaged"] += found.sound != "ok"
    tally.faults["doubled"] += sum(len(jobs) - 1 for jobs in found.jobs.values())
    tally.faults["doubled"] += max(0, sum(map(len, found.jobs.values())) - len(done) - 2)
    with contextlib.suppress(Stuck):
        until(lambda: not group(server.pid), "the end of its processes", 0.02, ORPHAN)
    tally.faults["orphans"] += len(group(server.pid))
    tally.faults["stuck"] += stopped != 0
    through = tracebacks(server.said())
    tally.faults["tracebacks"] += len(through)
    print("".join(through)[-4000:], end="", file=sys.stderr)


def table(tally: Tally, seconds: float) -> str:
    """The figures in Markdown."""
    rows: list[tuple[str, object]] = [("kills", tally.kills)]
    rows += [(f"– {state}", tally.states[state]) for state in STATES]
    rows += [
        ("– of the main process alone", tally.alone),
        ("longest that an orphan went on, s", f"{tally.longest:.2f}"),
        ("jobs", tally.jobs),
        ("inputs", tally.inputs),
        ("uploads sent again", tally.resent),
        ("inputs judged again after a kill", tally.again),
        ("inputs given up after three kills", tally.given_up),
        *((name, tally.faults[name]) for name in FAULTS),
        ("seconds", f"{seconds:.0f}"),
    ]
    return "\n".join(["| | |", "|---|---:|", *(f"| {name} | {value} |" for name, value in rows)])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--pictures", type=int, default=30, help="of one job")
    parser.add_argument("--pool", type=int, default=80, help="pictures that jobs are drawn from")
    parser.add_argument("--detector", help="a name or a folder; the default detector otherwise")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="8 kills of jobs of 10 pictures")
    parser.add_argument("--json", type=Path, metavar="FILE")
    asked = parser.parse_args(arguments)
    if asked.quick:
        asked.kills, asked.pictures, asked.pool = min(asked.kills, 8), min(asked.pictures, 10), min(asked.pool, 20)
    if asked.detector and Path(asked.detector).is_dir():
        asked.detector = str(Path(asked.detector).absolute())
    begun, tally = time.monotonic(), Tally()
    with tempfile.TemporaryDirectory() as scratch:
        try:
            run(asked, Path(scratch), tally)
        except (Stuck, OSError, http.client.HTTPException) as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            tally.faults["stuck"] += 1
    seconds = time.monotonic() - begun
    print(table(tally, seconds))
    if asked.json:
        told = vars(tally) | {"kills": tally.kills, "seed": asked.seed, "seconds": round(seconds, 1)}
        asked.json.write_text(json.dumps(told, indent=1) + "\n")
    return 1 if tally.faults.total() else 0


if __name__ == "__main__":
    sys.exit(main())
