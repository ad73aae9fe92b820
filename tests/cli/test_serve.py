"""`assay serve`: a real server in a process of its own, which is told to stop, or killed."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from typer.testing import CliRunner

import assay
from assay import cli
from assay.serve import guard, running
from assay.serve.settings import Settings
from serving import png

Running = tuple[subprocess.Popen[str], httpx.Client]
Start = Callable[..., contextlib.AbstractContextManager[Running]]


def run(*line: object) -> Any:
    return CliRunner().invoke(cli.app, ["serve", *map(str, line)], catch_exceptions=False)


@contextlib.contextmanager
def begun(*command: object) -> Iterator[Running]:
    process = subprocess.Popen(
        [sys.executable, *map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise AssertionError(process.communicate()[1])
        with httpx.Client(base_url=json.loads(line)["url"], timeout=60) as client:
            yield process, client
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def start(bundle_folder: Path, tmp_path: Path) -> Start:
    """`start(*options)`: a server of the tiny detector with one process that decodes, once it takes work."""
    line = ("-m", "assay", "serve", "--json", "--port", 0, "--decoders", 1, "--threads", 1)
    return lambda *options: begun(*line, "--detector", bundle_folder, "--data", tmp_path / "data", *options)


def children(pid: int) -> list[int]:
    """The processes that decode. Beside them there may be one that keeps count of shared resources."""
    mine: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread may end meanwhile
            mine += map(int, (task / "children").read_text().split())
    return [child for child in mine if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def until(happens: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.02)


def several(*data: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("file", (f"{number}.png", each)) for number, each in enumerate(data)]


linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


# ── a real server ────────────────────────────────────────────────────────────────────────────────────────────────────


@linux
def test_a_stop_finishes_what_was_accepted_and_takes_no_more(start: Start, flat: Any) -> None:
    with start() as (process, client), concurrent.futures.ThreadPoolExecutor(2) as pool:
        judged = client.post("/v1/judge", files={"file": png(flat(220))})
        assert judged.json()["verdict"]["verdict"] == "fake"
        (decoder,) = children(process.pid)
        os.kill(decoder, signal.SIGSTOP)
        waiting = pool.submit(httpx.post, f"{client.base_url}/v1/judge", files={"file": png(flat(20))}, timeout=60)
        until(lambda: 'assay_queue{what="at once"} 1.0' in client.get("/metrics").text)
        job = client.post("/v1/jobs", files=several(png(flat(30)))).json()["id"]
        process.send_signal(signal.SIGTERM)
        os.kill(decoder, signal.SIGTERM)  # as a service manager does to all
        until(lambda: client.get("/ready").status_code == 503)
        refused = client.post("/v1/judge", files={"file": png(flat(20))})
        assert (refused.status_code, refused.json()["error"]["kind"]) == (503, "stopping")
        assert client.get(f"/v1/jobs/{job}").status_code == 200
        assert not waiting.done()
        os.kill(decoder, signal.SIGCONT)
        assert waiting.result().json()["verdict"]["verdict"] == "real"
        assert process.wait(20) == 0
        assert gone(decoder)
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{client.base_url}/health")
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


@linux
def test_a_second_signal_does_not_wait(start: Start, flat: Any) -> None:
    with start() as (process, client), concurrent.futures.ThreadPoolExecutor(1) as pool:
        (decoder,) = children(process.pid)
        os.kill(decoder, signal.SIGSTOP)
        pool.submit(httpx.post, f"{client.base_url}/v1/judge", files={"file": png(flat(20))}, timeout=60)
        until(lambda: 'assay_queue{what="at once"} 1.0' in client.get("/metrics").text)
        process.send_signal(signal.SIGINT)
        until(lambda: client.get("/ready").status_code == 503)
        process.send_signal(signal.SIGINT)
        process.wait(15)
        until(lambda: gone(decoder))


@linux
def test_a_kill_loses_nothing_and_doubles_nothing(
    start: Start, flat: Any, detector: assay.Detector, tmp_path: Path
) -> None:
    data = [png(flat(grey)) for grey in range(10, 250, 8)]
    with start() as (process, client):
        job = client.post("/v1/jobs", files=several(*data)).json()["id"]
        until(lambda: client.get(f"/v1/jobs/{job}").json()["finished"] >= 3)
        decoders = children(process.pid)
        process.kill()
        process.wait(20)
        until(lambda: all(map(gone, decoders)))
    with start() as (process, client):
        until(lambda: client.get(f"/v1/jobs/{job}").json()["state"] == "done")
        told = client.get(f"/v1/jobs/{job}/results").json()["results"]
        assert [each["result"]["score"] for each in told] == [detector.judge(each).score for each in data]
        assert client.get(f"/v1/jobs/{job}").json()["finished"] == len(data)
        assert list((tmp_path / "data" / "spool").iterdir()) == []


def test_events_come_as_they_happen_and_a_stop_ends_them(start: Start, flat: Any) -> None:
    with start() as (process, client):
        job = client.post("/v1/jobs", files=several(*[png(flat(grey)) for grey in (20, 120, 220)])).json()["id"]
        with client.stream("GET", f"/v1/jobs/{job}/events") as coming:
            lines = [line for line in coming.iter_lines() if line.startswith("event: ")]
        assert lines.count("event: result") == 3
        assert lines[-1] == "event: end"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def settings(bundle_folder: Path, tmp_path: Path, **changes: object) -> list[str]:
    """The command of a server with limits that no option sets."""
    code = (
        "import json, os, pathlib, sys\n"
        "from assay.serve import running, settings\n"
        "given = json.loads(sys.argv[1])\n"
        "running.CONNECTIONS = given.pop('connections', running.CONNECTIONS)\n"
        "made = settings.Settings(pathlib.Path(given.pop('data')), detectors=(given.pop('detector'),), **given)\n"
        "running.run(made, lambda url, detectors: print(json.dumps({'url': url}), flush=True))"
    )
    given = {"data": str(tmp_path / "data"), "detector": str(bundle_folder), "port": 0, "decoders": 1, **changes}
    return ["-c", code, json.dumps(given)]


def test_a_client_that_never_says_what_it_wants_is_left(bundle_folder: Path, tmp_path: Path, flat: Any) -> None:
    with begun(*settings(bundle_folder, tmp_path, stall=0.5)) as (_, client):
        place = (client.base_url.host, client.base_url.port)
        for said in (b"", b"POST /v1/judge HTTP/1.1\r\nHost: loc"):
            with socket.create_connection(place, timeout=10) as silent:
                silent.sendall(said)
                assert silent.recv(100) == b""
        head = b"POST /v1/judge HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n"
        head += b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x"
        with socket.create_connection(place, timeout=10) as slow:
            slow.sendall(head)
            answer = b""
            while part := slow.recv(10_000):
                answer += part
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"kind":"slow"' in answer
        assert client.post("/v1/judge", files={"file": png(flat(20))}).status_code == 200


def said(place: tuple[str, int], *parts: bytes) -> bytes:
    """What a server says to bytes, which come one after the other, until it hangs up."""
    with socket.create_connection(place, timeout=10) as line:
        answer = b""
        for part in parts:
            line.sendall(part)
            answer += line.recv(10_000)
        while part := line.recv(10_000):
            answer += part
    return answer


def test_what_is_no_request_and_what_is_one_too_many_are_told_with_all_the_headers(
    bundle_folder: Path, tmp_path: Path
) -> None:
    with begun(*settings(bundle_folder, tmp_path, connections=1)) as (process, client):
        assert client.get("/health").status_code == 200
        place = (client.base_url.host, client.base_url.port)
        crowded = said(place, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for answer, status, kind in ((said(place, b"\0\r\n\r\n"), 400, "request"), (crowded, 503, "busy")):
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.startswith(f"HTTP/1.1 {status} ".encode())
            assert json.loads(body)["error"]["kind"] == kind
            told = head.decode().lower()
            assert all(f"{name}: {value}".lower() in told for name, value in guard.HEADERS.items())
        assert b"retry-after: 5" in crowded.lower()
        # An answer that has begun is not spoiled by what comes after it.
        head = b"POST /v1/judge HTTP/1.1\r\nHost: evil.example\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert said(place, head, b"no chunk\r\n").count(b"HTTP/1.1") == 1
        assert client.get("/health").status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_small_answers_are_sent_at_once(start: Start) -> None:
    with start() as (_, client):
        seconds = []
        for _ in range(15):
            begun = time.perf_counter()
            client.get("/health")
            seconds.append(time.perf_counter() - begun)
        assert sorted(seconds)[7] < 0.03  # a kernel that waits for an acknowledgement takes 0.04


def test_a_server_that_cannot_begin_says_why_in_one_line(bundle_folder: Path, tmp_path: Path) -> None:
    (bundle_folder / "heads.npz").write_bytes(b"spoiled")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for free, folder, said in (
            (0, tmp_path / "none", "none"),
            (0, bundle_folder, "heads.npz"),
            (port, bundle_folder, f"port {port}"),
        ):
            done = run("--data", tmp_path / "data", "--port", free, "--detector", folder)
            assert (done.exit_code, done.stdout) == (2, "")
            assert said in done.stderr
            assert done.stderr.count("\n") == 1


def test_without_the_extra_it_is_named() -> None:
    code = (
        "import sys; sys.modules['fastapi'] = None\nfrom assay.cli import main; sys.argv = ['assay', 'serve']; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.endswith('needs an extra: pip install "assay[serve]"\n')


# ── options ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """What a server would be started with."""
    found: list[Settings] = []
    monkeypatch.setattr(running, "run", lambda settings, ready: found.append(settings))
    return found


def test_options_reach_the_server(given: list[Settings], tmp_path: Path) -> None:
    line = ["--port", 9, "-d", "one", "-d", "two", "--keep-hours", 0.5, "--max-bytes", "5M", "--rate", 0]
    line += ["--allow-host", "a.example", "--allow-origin", "https://b.example", "--queue", 7, "--data", tmp_path]
    assert run(*line).exit_code == 0
    (made,) = given
    assert (made.port, made.detectors, made.keep, made.pictures) == (9, ("one", "two"), 1_800, 5 << 20)
    assert (made.hosts, made.origins, made.queue, made.queue_client) == (("a.example",), ("https://b.example",), 7, 3)
    assert (made.rate, made.data, made.host) == (0, tmp_path, "127.0.0.1")


def test_a_server_that_all_may_reach_and_use_is_warned_of(given: list[Settings], tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.touch()
    for line, warned in (([], False), (["--host", "::1"], False), (["--host", "0.0.0.0"], True)):
        assert ("warning" in run(*line).stderr) is warned
        assert "warning" not in run(*line, "--keys", keys).stderr


def test_a_new_key_is_printed_once_and_only_its_hash_is_kept(given: list[Settings], tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    done = run("--keys", keys, "--new-key", "alice")
    key = done.stdout.strip()
    assert done.exit_code == 0
    assert key.startswith("assay_")
    assert key not in keys.read_text()
    assert keys.read_text().startswith("alice ")
    told = json.loads(run("--keys", keys, "--new-key", "bob", "--json").stdout)
    assert set(told) == {"name", "key"}
    assert run("--keys", keys, "--new-key", "bob").exit_code == 2
    assert run("--keys", keys, "--new-key", "no name").exit_code == 2
    assert run("--new-key", "alice").exit_code == 2
    assert given == []


def test_limits_that_hold_nothing_are_refused(tmp_path: Path) -> None:
    for name in ("queue", "files", "decoders", "memory", "stall"):
        with pytest.raises(ValueError, match=name):
            Settings(tmp_path, **{name: -1})  # type: ignore[arg-type]
