"""A server around a tiny detector, asked within the process."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image
from starlette.testclient import TestClient

from assay.serve.app import create
from assay.serve.service import Service
from assay.serve.settings import Settings
from assay.serve.spool import Spool, Spooled

Serve = Callable[..., contextlib.AbstractContextManager[TestClient]]
"""`serve(**changes)`: a client of a server with changed settings, once it is ready."""


def png(pixels: np.ndarray[Any, Any]) -> bytes:
    """A PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@contextlib.contextmanager
def served(settings: Settings, **changes: Any) -> Iterator[TestClient]:
    app = create(dataclasses.replace(settings, **changes))
    with TestClient(app, base_url="http://localhost") as client:
        until = time.monotonic() + 60
        while client.get("/ready").status_code != 200:
            assert app.state.service.failed is None, app.state.service.failed
            assert time.monotonic() < until
            time.sleep(0.02)
        yield client


def service_of(client: TestClient) -> Service:
    service: Service = client.app.state.service  # type: ignore[attr-defined]
    return service


def judge(client: TestClient, data: bytes, name: str = "a.png", **query: Any) -> Any:
    return client.post("/v1/judge", files={"file": (name, data)}, params=query)


def kind(answer: Any) -> tuple[int, str]:
    assert set(answer.json()) == {"error"}, answer.text
    assert set(answer.json()["error"]) == {"kind", "message"}
    assert answer.status_code not in (429, 503) or int(answer.headers["Retry-After"]) >= 1
    return answer.status_code, answer.json()["error"]["kind"]


def several(*files: tuple[str, bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("file", file) for file in files]


def until(happens: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.01)


def finished(client: TestClient, id: str) -> dict[str, Any]:
    """A job, once it is done."""
    until(lambda: client.get(f"/v1/jobs/{id}").json()["state"] == "done", 30)
    return dict(client.get(f"/v1/jobs/{id}").json())


def put(spool: Spool, data: bytes) -> Spooled:
    with spool.writer() as writer:
        writer.write(data)
        return writer.finish()


def spooled(client: TestClient) -> list[str]:
    return sorted(path.name for path in service_of(client).spool.folder.iterdir())


@contextlib.contextmanager
def halted(client: TestClient) -> Iterator[None]:
    """Nothing is decoded as long as the block lasts."""
    pids = service_of(client).decoders.pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def gif(*greys: int) -> bytes:
    file = io.BytesIO()
    frames = [Image.new("L", (64, 48), grey) for grey in greys]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    return file.getvalue()
