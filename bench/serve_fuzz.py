"""Sends `assay serve` what nobody should send, and checks that it stands.

    python bench/serve_fuzz.py
    python bench/serve_fuzz.py --examples 0 --count 1000000 --seconds 600
    python bench/serve_fuzz.py --quick

Two parts, each against the real command on this machine, with a data folder of its own:

1. Schemathesis makes requests from the server's own OpenAPI description, right ones and wrong ones, and holds the
   answers against it: `--examples` for each operation beside the fixed ones. Keys are needed, so that a missing one is
   tried.
2. `--count` requests of `bench/serve_cases.py`: damaged pictures, videos and records of origin, odd forms and heads,
   cut and slow bodies, names that are paths, bombs; to judge, explain, alter and jobs, from several clients at a time.

A fault is: a status of 5xx; no answer where there must be one; an answer that is not as described, or that tells a path
of the server's; a verdict without a score in [0, 1], or with an error beside it; a whole file that is not judged; a
request that is not over in its time; a job that does not end; a file that appears or changes outside the data folder,
or is left in the spool; a server that is not ready afterwards, has fallen, wrote a traceback, holds on to its
connections, or does not stop when told to.

Prints tables in Markdown; exit status 1 where there is a fault. The same case again: `--first NUMBER --count 1`; its
bytes: `--save NUMBER FILE`. Looks into /proc, so Linux only; needs the extras "serve", "video" and "provenance".
"""

from __future__ import annotations

import argparse
import base64
import concurrent.futures
import contextlib
import dataclasses
import http.client
import io
import itertools
import json
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic
from PIL import Image

import serve_cases
from assay.judge import bundle
from assay.serve import models
from assay.serve.guard import HEADERS
from serve_cases import Case
from serve_kills import ORPHAN, PATIENCE, Answer, Server, Stuck, group, snapshot, tracebacks, until

FAULTS_SHOWN = 20

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "positive_data_acceptance",
    "unsupported_method",
    "allow_header_conformance",
    "use_after_free",
    "ensure_resource_availability",
    "ignored_auth",
)
"""Of Schemathesis."""

_REFUSED = ["2xx", "401", "403", "404", "409", "413", "415", "422", "429"]
"""A file may be no picture, or one that cannot be judged, though its request is as described."""

_NO_REQUEST = b"Invalid HTTP request received."
"""What the server's HTTP says where that is not even broken."""

_SLOW, _FOLLOWED = 8, 3.0


# ── one request ──────────────────────────────────────────────────────────────────────────────────────────────────────


def sent(port: int, case: Case) -> Answer | None:
    """The answer to a case; None where the connection ended without one, or the client left.

    Raises:
        TimeoutError: neither, in the case's time.
        OSError: the server takes no connection.
    """
    until = time.monotonic() + case.seconds
    with socket.create_connection(("127.0.0.1", port), timeout=case.seconds) as connection:
        # A server that has heard enough answers, and closes.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for place, piece in enumerate(case.pieces):
                if place and select.select([connection], [], [], case.pause)[0]:
                    break
                connection.sendall(piece)
        if case.half:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
        if case.away:
            return None
        connection.settimeout(max(0.1, until - time.monotonic()))
        try:
            with contextlib.closing(http.client.HTTPResponse(connection)) as answer:
                answer.begin()
                return Answer(answer.status, dict(answer.headers.items()), answer.read())
        except (ConnectionError, http.client.HTTPException):
            return None


def read(body: bytes) -> Any:
    """JSON as it is written down: without NaN and infinities. Raises ValueError."""

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is no JSON")

    return json.loads(body, parse_constant=refuse)


def fault_of(case: Case, answer: Answer | None, secrets: Iterable[str] = ()) -> str:
    """What is wrong with an answer; empty where nothing is.

    Args:
        secrets: what no answer may tell.
    """
    if answer is None:
        return "" if case.away or case.silent else "no answer"
    if answer.status >= 500:
        return f"status {answer.status}: {answer.body[:200]!r}"
    for secret in secrets:
        if secret.encode() in answer.body:
            return f"tells of {secret}"
    if answer.status == 400 and answer.body == _NO_REQUEST:
        return "" if case.silent else "no HTTP"
    if missing := [name for name in HEADERS if name not in {each.title() for each in answer.headers}]:
        return f"without {missing[0]}"
    if case.whole and not (answer.status < 300 or answer.status == 429):
        return f"a whole file, and status {answer.status}: {answer.body[:200]!r}"
    try:
        if answer.status >= 400:
            models.Error.model_validate(read(answer.body))
            return ""
        return _fault_of_result(case.endpoint, answer)
    except (ValueError, pydantic.ValidationError) as error:
        return f"status {answer.status}, not as described: {str(error)[:200]}"


def _fault_of_result(endpoint: str, answer: Answer) -> str:
    told = read(answer.body) if answer.headers.get("content-type") == "application/json" else {}
    if answer.status == 202:
        models.Job.model_validate(told)
    elif "verdict" in told and "preview" in told:
        models.Altered.model_validate(told)
        return fault_of_verdict(told["verdict"]) or _fault_of_picture(told["preview"])
    elif "verdict" in told:
        models.Judged.model_validate(told)
        return fault_of_verdict(told["verdict"])
    elif "explanation" in told:
        models.Explained.model_validate(told)
        maps = [*told["maps"].values(), *filter(None, [told["map"]])]
        return fault_of_verdict(told["explanation"]["verdict"]) or next(filter(None, map(_fault_of_picture, maps)), "")
    elif endpoint != "other":
        return f"status {answer.status} without a verdict"
    return ""


def fault_of_verdict(told: Mapping[str, Any]) -> str:
    """What is wrong with a verdict that should be one."""
    models.Verdict.model_validate(told)
    if "error" in told:
        return "a verdict with an error"
    if told["score"] is None and (told["verdict"] != "uncertain" or any("score" in each for each in told["streams"])):
        return "a verdict without a score"
    low, high = told["doubt"]
    if not 0 <= low <= high <= 1:
        return f"doubt from {low} to {high}"
    return ""


def fault_of_input(told: Mapping[str, Any]) -> str:
    """What is wrong with the result of a job's input: a verdict or an error, never both and never neither."""
    if ("error" in told) == ("verdict" in told) or ("error" in told and "score" in told):
        return f"neither a verdict nor an error: {str(told)[:200]}"
    if "error" in told:
        models.Failure.model_validate(told)
        return ""
    return fault_of_verdict(told)


def _fault_of_picture(uri: str) -> str:
    kind, _, data = uri.partition(",")
    if kind not in ("data:image/jpeg;base64", "data:image/png;base64"):
        return f"a picture of {kind[:60]!r}"
    try:
        with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as image:
            image.load()
            return "" if max(image.size) <= 512 else f"a picture of {image.size}"
    except (OSError, ValueError) as error:
        return f"a picture that is none: {error}"


def word_of(answer: Answer | None, case: Case) -> str:
    """How a request ended: a status, "left" or "ended"."""
    if answer is None:
        return "left" if case.away else "ended"
    return f"{answer.status}"


def kind_of(answer: Answer | None) -> str:
    """The kind of an error; empty where there is none."""
    if answer is None or answer.status < 400:
        return ""
    if answer.body == _NO_REQUEST:
        return "no HTTP"
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return str(read(answer.body)["error"]["kind"])
    return "?"


# ── many requests ────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass
class Tally:
    """What came back."""

    endings: Counter[tuple[str, str]] = dataclasses.field(default_factory=Counter)
    """(endpoint, how it ended)."""
    kinds: Counter[tuple[str, str]] = dataclasses.field(default_factory=Counter)
    """(endpoint, kind of error); those of a job's inputs count under "job's input"."""
    cases: Counter[tuple[str, str]] = dataclasses.field(default_factory=Counter)
    """(kind of case, how it ended)."""
    words: Counter[str] = dataclasses.field(default_factory=Counter)
    """Verdicts."""
    slowest: dict[str, tuple[float, int]] = dataclasses.field(default_factory=dict)
    """By kind of case: seconds, number."""
    faults: list[str] = dataclasses.field(default_factory=list)
    about: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def sent(self) -> int:
        return self.cases.total()


class Fuzzer:
    """Sends cases from several threads.

    Args:
        server: that takes work.
        seed: of the cases.
        secrets: what no answer may tell.
        make: gives the case of a seed and a number.
    """

    def __init__(
        self,
        server: Server,
        seed: int,
        secrets: Sequence[str] = (),
        make: Callable[[int, int], Case] = serve_cases.case,
    ) -> None:
        self.tally = Tally()
        self._server, self._seed, self._secrets, self._make = server, seed, secrets, make
        self._lock = threading.Lock()
        self._jobs: deque[tuple[float, str, int]] = deque()

    def run(self, numbers: Iterable[int], clients: int, until: float) -> None:
        """Sends these cases, as far as it comes by a moment of `time.monotonic`."""
        coming = iter(numbers)
        slow = concurrent.futures.ThreadPoolExecutor(_SLOW)

        def work() -> None:
            while time.monotonic() < until and not self._server.died:
                with self._lock:
                    number = next(coming, None)
                if number is None:
                    return
                case = self._make(self._seed, number)
                if case.kind == "slow":
                    slow.submit(self._one, number, case)
                else:
                    self._one(number, case)
                self._follow(time.monotonic() - _FOLLOWED)

        with slow, concurrent.futures.ThreadPoolExecutor(clients) as pool:
            for done in [pool.submit(work) for _ in range(clients)]:
                done.result()
        end = time.monotonic() + PATIENCE
        while self._jobs and time.monotonic() < end and not self._server.died:
            self._follow(time.monotonic())
            time.sleep(0.02)
        for _, job, number in self._jobs:
            self._fault(number, f"job {job} does not end")

    def _one(self, number: int, case: Case) -> None:
        begun = time.monotonic()
        answer = None
        try:
            answer = sent(self._server.port, case)
            ending, fault = word_of(answer, case), fault_of(case, answer, self._secrets)
        except TimeoutError:
            ending, fault = "hangs", f"not over in {case.seconds:.0f} s"
        except Exception as error:  # no connection, or a fault of ours: of this case alone
            ending, fault = "fails", f"{type(error).__name__}: {error}"
        seconds = time.monotonic() - begun
        with self._lock:
            tally = self.tally
            tally.endings[case.endpoint, ending] += 1
            tally.cases[case.kind, ending] += 1
            if kind := kind_of(answer):
                tally.kinds[case.endpoint, kind] += 1
            tally.slowest[case.kind] = max(tally.slowest.get(case.kind, (0.0, 0)), (seconds, number))
        if fault:
            self._fault(number, f"{case.kind} to {case.endpoint} ({case.about}): {fault}")
        elif answer is not None and answer.status == 202:
            with self._lock:
                self._jobs.append((time.monotonic(), answer.json["id"], number))

    def _fault(self, number: int, what: str) -> None:
        with self._lock:
            self.tally.faults.append(f"case {number}: {what}")

    def _follow(self, before: float) -> None:
        """Looks at the oldest job where it was made before that moment, and deletes it where it has ended."""
        with self._lock:
            if not self._jobs or self._jobs[0][0] > before:
                return
            made, job, number = self._jobs.popleft()
        try:
            told = self._server.ask("GET", f"/v1/jobs/{job}")
            if told.status == 200 and told.json["state"] in ("queued", "running"):
                with self._lock:
                    self._jobs.append((made, job, number))
                return
            results: list[Any] = []
            while True:
                found = self._server.ask("GET", f"/v1/jobs/{job}/results?limit=1000&offset={len(results)}")
                models.Results.model_validate(page := read(found.body))
                results += page["results"]
                if not page["results"] or len(results) >= page["total"]:
                    break
            fault = self._fault_of_job(told.json, results)
            if self._server.ask("DELETE", f"/v1/jobs/{job}").status != 204:
                fault = fault or "cannot be deleted"
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            fault = f"{type(error).__name__}: {str(error)[:200]}"
        if fault:
            self._fault(number, f"job {job}: {fault}")

    def _fault_of_job(self, job: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> str:
        if [each["number"] for each in results] != list(range(job["total"])) or job["finished"] != job["total"]:
            return f"{len(results)} results, {job['finished']} finished, of {job['total']}"
        for each in results:
            if fault := fault_of_input(each["result"]):
                return fault
            with self._lock:
                if "error" in each["result"]:
                    self.tally.kinds["job's input", each["result"]["error"]["kind"]] += 1
                else:
                    self.tally.words[each["result"]["verdict"]] += 1
        return ""


# ── around them ──────────────────────────────────────────────────────────────────────────────────────────────────────


def seen(*folders: Path, but: Sequence[Path] = ()) -> dict[str, tuple[int, int]]:
    """Size and time of all files in folders, but not of those in or at some places."""
    found = {}
    for folder in folders:
        for path in folder.rglob("*"):
            if not path.is_dir() and not any(path.is_relative_to(place) for place in but):
                status = path.lstat()
                found[str(path)] = status.st_size, status.st_mtime_ns
    return found


def held(pid: int) -> dict[str, int]:
    """What a process holds: open files, threads, and MiB at most so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    return {
        "files": sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()),
        "threads": int(status.split("Threads:")[1].split()[0]),
        "mib": int(status.split("VmHWM:")[1].split()[0]) >> 10,
    }


def fuzzed(asked: argparse.Namespace, place: Path, options: Sequence[str]) -> Tally:
    """The second part."""
    server = Server(place, options)
    server.start()
    try:
        server.wait()
        folder = bundle.find(asked.detector)
        outside = seen(place, folder, but=(server.data, server.log))
        for number in range(4):  # what it opens once and keeps
            server.ask("GET", ("/health", "/v1/detectors", "/metrics", "/")[number])
        before = held(server.pid)
        fuzzer = Fuzzer(server, asked.seed, (str(place), str(folder)))
        numbers = itertools.islice(itertools.count(asked.first), asked.count)
        begun = time.monotonic()
        fuzzer.run(numbers, asked.clients, begun + asked.seconds)
        tally = fuzzer.tally
        tally.about["seconds"] = round(time.monotonic() - begun, 1)
        tally.faults += _afterwards(server, before, outside, (place, folder), tally)
        return tally
    finally:
        if not server.died:
            server.kill()


def _afterwards(
    server: Server,
    before: Mapping[str, int],
    outside: Mapping[str, tuple[int, int]],
    folders: tuple[Path, ...],
    tally: Tally,
) -> list[str]:
    """What is wrong with a server after all that."""
    faults = []
    if server.died:
        return [f"the server fell: {server.said()[-1000:]}"]
    if server.ask("GET", "/ready").status != 200:
        faults.append("not ready")
    metrics = server.ask("GET", "/metrics").body.decode()
    tally.about["restarts of decoders"] = _metric(metrics, "assay_decoder_restarts_total")
    time.sleep(1)
    after = held(server.pid)
    for name, size in before.items():
        tally.about[f"{name} before and after"] = f"{size}, {after[name]}"
    if after["files"] > before["files"] + 40 or after["threads"] > before["threads"] + 60:
        faults.append(f"holds on to what it opened: {before} before, {after} after")
    spool = server.data / "spool"
    with contextlib.suppress(Stuck):
        until(lambda: not any(spool.iterdir()), "an empty spool", 0.1, 10)
    faults += [f"left in the spool: {path.name}" for path in spool.iterdir()]
    pid, stopped = server.pid, server.end()
    if stopped != 0:
        faults.append(f"told to stop, it ended with {stopped}")
    with contextlib.suppress(Stuck):
        until(lambda: not group(pid), "the end of its processes", 0.02, ORPHAN)
    if left := group(pid):
        faults.append(f"{len(left)} processes are left")
    if (found := snapshot(server.data)).sound != "ok":
        faults.append(f"its store is damaged: {found.sound}")
    changed = set(outside.items()) ^ set(seen(*folders, but=(server.data, server.log)).items())
    faults += [f"outside the data folder: {path}" for path in sorted({path for path, _ in changed})]
    faults += [each[-3000:] for each in tracebacks(server.said())]
    return faults


def _metric(text: str, name: str) -> float | None:
    return next((float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} ")), None)


# ── from the description ─────────────────────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass
class Described:
    """What Schemathesis found."""

    statuses: Counter[tuple[str, int]] = dataclasses.field(default_factory=Counter)
    """(operation, status)."""
    checks: Counter[str] = dataclasses.field(default_factory=Counter)
    failures: Counter[tuple[str, str, str]] = dataclasses.field(default_factory=Counter)
    """(operation, check, what)."""
    seconds: float = 0.0


def described(asked: argparse.Namespace, place: Path, options: Sequence[str]) -> Described:
    """The first part."""
    keys = place / "keys"
    made = [sys.executable, "-m", "assay", "serve", "--keys", str(keys), "--new-key", "fuzz", "--json"]
    key = json.loads(subprocess.run(made, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout)["key"]
    server = Server(place, [*options, "--keys", str(keys)])
    server.start()
    found = Described()
    begun = time.monotonic()
    try:
        server.wait()
        _explored(f"http://127.0.0.1:{server.port}/openapi.json", key, asked, found)
        if server.died or server.ask("GET", "/ready").status != 200:
            found.failures["server", "ready", "not ready afterwards"] += 1
        if server.end() != 0:
            found.failures["server", "stop", "did not stop when told to"] += 1
    finally:
        if not server.died:
            server.kill()
    for each in tracebacks(server.said()):
        found.failures["server", "stderr", each[-3000:]] += 1
    found.seconds = time.monotonic() - begun
    return found


def _explored(address: str, key: str, asked: argparse.Namespace, found: Described) -> None:
    import schemathesis
    from schemathesis.engine import Status, events, from_schema
    from schemathesis.engine.run import PhaseName

    config = schemathesis.Config.from_dict(
        {
            "seed": asked.seed,
            "headers": {"Authorization": f"Bearer {key}"},
            "continue-on-failure": True,
            "request-timeout": PATIENCE,
            "workers": 1,  # in several threads Python's own parser fails at times, and an operation is left out
            "generation": {"max-examples": asked.examples, "database": "none", "no-shrink": True},
            "checks": {
                "enabled": False,
                **{name: {"enabled": True} for name in CHECKS},
                "positive_data_acceptance": {"enabled": True, "expected-statuses": _REFUSED},
            },
            # One at a time, and each for seconds.
            "operations": [
                {"include-name": "POST /v1/explain", "generation": {"max-examples": max(1, asked.examples // 10)}}
            ],
        }
    )
    schema = schemathesis.openapi.from_url(address, config=config)
    made: Counter[str] = Counter()
    for event in from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            if event.phase == PhaseName.FUZZING:
                made[event.recorder.label] += len(event.recorder.cases)
            for id, node in event.recorder.cases.items():
                label = node.value.operation.label
                interaction = event.recorder.interactions.get(id)
                response = None if interaction is None else interaction.response
                found.statuses[label, 0 if response is None else response.status_code] += 1
                for check in event.recorder.checks.get(id, ()):
                    found.checks[check.name] += 1
                    if check.status == Status.FAILURE:
                        assert check.failure_info is not None
                        failure = check.failure_info.failure
                        found.failures[label, check.name, f"{failure.title}: {failure.message}"[:300]] += 1
        elif isinstance(event, events.NonFatalError):
            found.failures[event.label, "error", str(event.value)[:300]] += 1
        elif isinstance(event, events.FatalError):
            found.failures["all", "error", str(event.exception)[:300]] += 1
    for label in {label for label, _ in found.statuses}:
        if not made[label]:
            found.failures[label, "fuzzing", "no request was made up for it"] += 1


# ── tables ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def crossed(counts: Mapping[tuple[str, Any], int], first: str) -> str:
    """Counts by two things as a table in Markdown."""
    rows = sorted({row for row, _ in counts})
    columns = sorted({column for _, column in counts}, key=str)
    lines = [f"| {first} | {' | '.join(map(str, columns))} | all |", f"|---|{'---:|' * (len(columns) + 1)}"]
    for row in rows:
        found = [counts.get((row, column), 0) for column in columns]
        lines.append(f"| {row} | {' | '.join(str(each or '') for each in found)} | {sum(found)} |")
    return "\n".join(lines)


def told_described(found: Described) -> str:
    """The first part in Markdown."""
    failures = [f"- {count} × {label}, {check}: {what}" for (label, check, what), count in found.failures.items()]
    checks = ", ".join(f"{name} {count:,}" for name, count in sorted(found.checks.items()))
    return "\n\n".join(
        [
            f"Requests from the description: {found.statuses.total():,} in {found.seconds:.0f} s, "
            f"{found.failures.total()} failures. Status 0 is no answer.",
            crossed(found.statuses, "operation"),
            f"Checks: {checks}.",
            *(["\n".join(failures)] if failures else []),
        ]
    )


def told_fuzzed(tally: Tally) -> str:
    """The second part in Markdown."""
    slowest = ", ".join(f"{kind} {seconds:.1f} s (case {number})" for kind, (seconds, number) in tally.slowest.items())
    about = ", ".join(f"{name} {value}" for name, value in tally.about.items())
    words = ", ".join(f"{word} {count:,}" for word, count in sorted(tally.words.items()))
    return "\n\n".join(
        [
            f"Odd requests: {tally.sent:,}, {len(tally.faults)} faults. “ended”: the connection was ended without an "
            "answer; “left”: the client went away.",
            crossed(tally.endings, "endpoint"),
            crossed(tally.cases, "case"),
            crossed(
                dict(sorted({(kind, endpoint): n for (endpoint, kind), n in tally.kinds.items()}.items())), "error"
            ),
            f"Verdicts on inputs of jobs: {words}. Slowest: {slowest}. {about}.",
            *(["\n".join(f"- {fault}" for fault in tally.faults[:FAULTS_SHOWN])] if tally.faults else []),
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=100, help="for each operation; 0 leaves the first part out")
    parser.add_argument("--count", type=int, default=20_000, help="odd requests; 0 leaves the second part out")
    parser.add_argument("--seconds", type=float, default=600, help="for the odd requests; what is begun is finished")
    parser.add_argument("--first", type=int, default=0, help="number of the first of them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--detector", help="a name or a folder; the default detector otherwise")
    parser.add_argument("--quick", action="store_true", help="2 examples, 300 odd requests")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--save", nargs=2, metavar=("NUMBER", "FILE"), help="write a case's bytes to a file, and stop")
    asked = parser.parse_args(arguments)
    if asked.save:
        Path(asked.save[1]).write_bytes(b"".join(serve_cases.case(asked.seed, int(asked.save[0])).pieces))
        return 0
    if asked.quick:
        asked.examples, asked.count = min(asked.examples, 2), min(asked.count, 300)
    if asked.detector and Path(asked.detector).is_dir():
        asked.detector = str(Path(asked.detector).absolute())
    options = ["--decoders", "2", "--threads", "1", *(["--detector", asked.detector] if asked.detector else [])]
    told: dict[str, Any] = {"seed": asked.seed}
    faults = 0
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("described", "fuzzed"):
            (Path(scratch) / name).mkdir()
        if asked.examples:
            found = described(asked, Path(scratch) / "described", options)
            print(told_described(found), end="\n\n", flush=True)
            told["described"] = {
                "statuses": {f"{label}, {status}": count for (label, status), count in sorted(found.statuses.items())},
                "checks": found.checks,
                "failures": {", ".join(key): count for key, count in found.failures.items()},
                "seconds": round(found.seconds, 1),
            }
            faults += found.failures.total()
        if asked.count:
            tally = fuzzed(asked, Path(scratch) / "fuzzed", options)
            print(told_fuzzed(tally))
            told["fuzzed"] = {
                name: {", ".join(key): count for key, count in sorted(getattr(tally, name).items())}
                for name in ("endings", "kinds", "cases")
            }
            told["fuzzed"] |= {"sent": tally.sent, "words": tally.words, "slowest": tally.slowest}
            told["fuzzed"] |= {"faults": tally.faults, "about": tally.about}
            faults += len(tally.faults)
    if asked.json:
        asked.json.write_text(json.dumps(told, indent=1) + "\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
