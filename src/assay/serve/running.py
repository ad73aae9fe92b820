"""A server from its start to its end: uvicorn, told to finish what was accepted."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from assay.errors import AssayError
from assay.serve import refusal
from assay.serve.app import create
from assay.serve.guard import HEADERS
from assay.serve.service import Service
from assay.serve.settings import Settings

CONNECTIONS = 1_000
"""At a time; requests on more get 503."""


def run(settings: Settings, ready: Callable[[str, list[str]], None] = lambda url, detectors: None) -> None:
    """Serves until a signal ends it (SIGINT, SIGTERM): then new work gets 503, what was accepted is finished, and jobs
    that are not done are kept for the next start. A second signal does not wait.

    Args:
        ready: told the server's address and the names of its detectors, once it takes work.

    Raises:
        AssayError: it cannot begin; the message says why.
    """
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it tells of every malformed form
    app = create(settings)
    service: Service = app.state.service
    config = uvicorn.Config(
        app,
        # In Python alone, and timers can be added to it.
        http=functools.partial(_Protocol, settings.stall),  # type: ignore[arg-type]
        ws="none",
        access_log=False,
        log_level="error",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=5,
    )
    with _listening(settings.host, settings.port) as listening:
        port = listening.getsockname()[1]
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        service.on_ready = lambda: ready(f"http://{host}:{port}", list(service.bundles))
        _Server(config, service).run(sockets=[listening])
    if service.failed is not None:
        raise service.failed


def _listening(host: str, port: int) -> socket.socket:
    # Its protocol by name, as asyncio sends small answers at once (TCP_NODELAY) only where it is told that this is TCP;
    # else a client waits 40 ms for each.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name != "nt":  # where it would let two listen at once
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(CONNECTIONS)
    except OSError as error:
        listening.close()
        raise AssayError(
            f"cannot listen on {host}, port {port} ({error.strerror or error}); choose another --port or --host",
            kind="address",
        ) from error
    return listening


class _Server(uvicorn.Server):
    """Stops in two steps: no new work, and then, once all that was accepted is done, no new connections."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._draining: asyncio.Task[None] | None = None
        service.on_failure = self._fail

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._service.stopping:
            self.should_exit = self.force_exit = True
        self._service.stopping = True

    async def on_tick(self, counter: int) -> bool:
        if self._service.stopping and self._draining is None:
            self._draining = asyncio.create_task(self._drain())
        return await super().on_tick(counter)

    async def _drain(self) -> None:
        await self._service.drain()
        self.should_exit = True

    def _fail(self) -> None:
        self.should_exit = True


class _Protocol(H11Protocol):
    """HTTP/1.1, for clients that say in time what they want: uvicorn waits for a request's head for ever."""

    def __init__(self, seconds: float, *more: Any, **named: Any) -> None:
        super().__init__(*more, **named)
        self._seconds = seconds
        self._waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # uvicorn's own limit answers without what stands on every answer.
        self.app_state = {**self.app_state, "crowded": len(self.connections) > CONNECTIONS}
        self._watch()

    def send_400_response(self, msg: str) -> None:
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):  # its answer has begun
            self.transport.close()
            return
        told = refusal.told(400, "request", "this is no HTTP/1.1; send a request as RFC 9112 says")
        headers = [*told.raw_headers, *((name.encode(), value.encode()) for name, value in HEADERS.items())]
        response = h11.Response(status_code=400, headers=[*headers, (b"connection", b"close")])
        for event in (response, h11.Data(data=bytes(told.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event))
        self.transport.close()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Counts from the first byte of a head, or the beginning of the connection, to the head's end."""
        if self.conn.their_state is not h11.IDLE:
            self._forget()
        elif self._waiting is None:
            self._waiting = self.loop.call_later(self._seconds, self._hang_up)

    def _forget(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _hang_up(self) -> None:
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()
