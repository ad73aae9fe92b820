"""Pictures at addresses: fetched where that is allowed, and never from a network of somebody's own."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from answering import JPEG, Reply, Server
from assay.errors import InputError
from assay.serve import visit
from assay.serve.refusal import Refused
from serving import Serve, judge, kind


@pytest.fixture
def public(outside: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server, at an address and a port that count as public and usual."""
    monkeypatch.setattr(visit, "PORTS", (*visit.PORTS, outside.server_address[1]))
    return outside


async def visited(address: str, most: int = 1 << 20, seconds: float = 20.0) -> bytes:
    return await visit.visited(address, most, seconds)


async def refused(address: str, **named: Any) -> tuple[int, str]:
    with pytest.raises(Refused) as error:
        await visited(address, **named)
    return error.value.status, error.value.kind


pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_a_picture_comes_as_it_is_over_redirections(public: Server) -> None:
    public.put("/b", Reply())
    assert await visited(public.put("/a", Reply(b"", 302, {"Location": "/b"}))) == JPEG
    assert public.agents == {"assay"}
    loop = public.put("/c", Reply(b"", 301, {"Location": "/c"}))
    assert await refused(loop) == (422, "unreachable")
    assert public.count("/c") == visit.HOPS + 1


async def test_only_public_machines_are_asked(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visit, "PORTS", (*visit.PORTS, server.server_address[1]))
    server.put("/a", Reply())
    for host in ("127.0.0.1", "2130706433", "within.test"):
        assert await refused(server.url("/a", host)) == (403, "private")
    for address in ("http://169.254.169.254/latest/meta-data", "http://[::1]/", "http://[::ffff:10.0.0.1]/"):
        assert await refused(address) == (403, "private")
    assert server.asked == []


async def test_a_redirection_is_looked_at_like_an_address(public: Server) -> None:
    port = public.server_address[1]
    public.put("/b", Reply())
    for onward, found in {
        f"http://127.0.0.2:{port}/b": (403, "private"),
        "http://127.0.0.1:9/b": (403, "private"),  # a port that is not asked
        "file:///etc/passwd": (400, "field"),
        f"http://me:secret@127.0.0.1:{port}/b": (400, "field"),
    }.items():
        assert await refused(public.put("/a", Reply(b"", 302, {"Location": onward}))) == found, onward
    assert public.count("/b") == 0


@pytest.mark.parametrize(
    "address",
    [
        "",
        "photo.jpg",
        "file:///etc/passwd",
        "ftp://example.org/a",
        "gopher://a/",
        "http://",
        "http://me:secret@a.test/",
    ],
)
async def test_what_is_no_such_address_is_said_to_be_none(address: str) -> None:
    assert await refused(address) == (400, "field")


async def test_ports_where_other_services_listen_are_not_asked(outside: Server) -> None:
    assert await refused(outside.put("/a", Reply())) == (403, "private")
    assert outside.asked == []


async def test_what_is_no_picture_is_not_taken_further(public: Server) -> None:
    for body, found in ((b"<html>" * 100_000, "not_an_image"), (b"", "empty"), (b"<html>", "not_an_image")):
        with pytest.raises(InputError) as error:
            await visited(public.put("/a", Reply(body)))
        assert error.value.kind == found
    with pytest.raises(InputError) as error:
        await visited(public.put("/a", Reply(JPEG + bytes(1000))), most=len(JPEG))
    assert error.value.kind == "too_many_bytes"
    assert await refused(public.put("/a", Reply(cut=10))) == (422, "unreachable")
    assert await refused(public.put("/a", Reply(status=404))) == (422, "unreachable")
    assert await refused("http://nowhere.example/") == (422, "unreachable")


async def test_a_server_that_takes_too_long_is_left(public: Server) -> None:
    over = threading.Event()
    url = public.put("/a", Reply(before=lambda: over.wait(20)))
    began = time.monotonic()
    assert await refused(url, seconds=0.3) == (408, "timeout")
    assert time.monotonic() - began < 10
    over.set()


def test_the_route_is_shut_unless_opened(serve: Serve, public: Server) -> None:
    url = public.put("/a", Reply())
    with serve() as client:
        assert kind(client.post("/v1/fetch", params={"url": url})) == (403, "not_allowed")
        assert client.get("/v1/detectors").json()["fetches"] is False
    assert public.asked == []
    with serve(fetch=True) as client:
        assert client.get("/v1/detectors").json()["fetches"] is True
        answer = client.post("/v1/fetch", params={"url": url})
        assert answer.content == JPEG
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["content-disposition"] == "attachment"
        assert judge(client, answer.content).status_code == 200
        assert kind(client.post("/v1/fetch", params={"url": "http://127.0.0.2/"})) == (403, "private")
        assert kind(client.post("/v1/fetch")) == (400, "field")
        assert kind(client.post("/v1/fetch", params={"url": public.put("/b", Reply(b"words"))})) == (
            415,
            "not_an_image",
        )
