"""A web server on loopback that answers what it was told to, and remembers who asked."""

from __future__ import annotations

import dataclasses
import http.server
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from PIL import Image

from assay.data import remote


def encoded(form: str, seed: int = 0) -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((40 + seed, 30)).convert("RGB").save(file, form)
    return file.getvalue()


JPEG = encoded("JPEG")


@dataclasses.dataclass
class Reply:
    """What the server answers; `cut` bytes of the body are announced, but not sent."""

    body: bytes = JPEG
    status: int = 200
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    cut: int = 0
    before: Callable[[], object] = lambda: None


class Server(http.server.ThreadingHTTPServer):
    """Answers of each path, the last for ever; who asked for what, when; and how many were asked for at once."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies: dict[str, list[Reply]] = {}
        self.asked: list[tuple[str, str, float]] = []
        self.agents: set[str] = set()
        self.open: dict[str, int] = {}
        self.most = 0
        self.lock = threading.Lock()

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that went away, as some here do on purpose

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.server_address[1]}{path}"

    def put(self, path: str, *replies: Reply) -> str:
        self.replies[path] = list(replies)
        return self.url(path)

    def count(self, path: str) -> int:
        return sum(path == one for _, one, _ in self.asked)


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        host = self.headers["Host"].partition(":")[0]
        with self.server.lock:
            self.server.asked.append((host, self.path, time.monotonic()))
            self.server.agents.add(self.headers["User-Agent"])
            self.server.open[host] = self.server.open.get(host, 0) + 1
            self.server.most = max(self.server.most, self.server.open[host])
            left = self.server.replies.get(self.path, [Reply(b"", 404)])
            reply = left.pop(0) if len(left) > 1 else left[0]
        reply.before()
        self.send_response(reply.status)
        for name, value in ({"Content-Length": str(len(reply.body))} | reply.headers).items():
            self.send_header(name, value)
        self.end_headers()
        with self.server.lock:
            self.server.open[host] -= 1
        self.wfile.write(reply.body[: len(reply.body) - reply.cut])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """On loopback, which every name that ends in .test stands for; no other name is looked up."""

    def looked_up(host: str, port: int, *given: Any, **named: Any) -> Any:
        if host.endswith(".test"):
            host = "127.0.0.1"
        elif not (host[0].isdigit() or ":" in host):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return usual(host, port, *given, **named)

    usual = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", looked_up)
    monkeypatch.setattr(remote, "WAITS", (0.0, 0.0, 0.0))
    monkeypatch.setenv("no_proxy", "*")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def outside(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server, at an address that counts as public, the only one that does."""
    monkeypatch.setattr(remote, "is_public", lambda address: address == "127.0.0.1")
    return server
