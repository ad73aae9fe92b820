"""A picture at an address that a client names: only where the server was told to, and only from public machines.

A server that fetches what it is asked for can be turned against the network that it stands in (server-side request
forgery). So the address is http or https, at the usual port and without a password; its name is resolved once, and the
connection goes to one of the public addresses that it stands for (`assay.data.remote.Lines`); every redirection is
looked at in the same way, and none leads from https back to http. Nothing of the client's request goes along. What
comes must begin as a picture or a video does, and has a limit of bytes and of time.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import ssl
import time
import urllib.parse
from typing import Any

from starlette.concurrency import run_in_threadpool

from assay.data import remote
from assay.errors import InputError
from assay.image import container
from assay.serve.refusal import Refused

PORTS = (None, 80, 443)
"""That an address may name. Others are where a network's own services listen."""

HOPS = 5
"""Redirections that are followed."""

_HEADERS = {"User-Agent": "assay", "Accept": "image/*, video/*", "Accept-Encoding": "identity"}
_REDIRECTIONS = (301, 302, 303, 307, 308)
_HEAD = 1 << 16
"""Bytes that tell what a file is."""
_CHUNK = 1 << 16


async def visited(address: str, most: int, seconds: float) -> bytes:
    """The picture or video at an address.

    Args:
        address: as the client named it.
        most: bytes it may have.
        seconds: it may take.

    Raises:
        Refused: 400 (it is no such address), 403 (it is not public), 408 (too slow), 422 (nothing came).
        InputError: what came is no picture or video, or has more bytes.
    """
    lines, until = remote.Lines(private=False, headers=_HEADERS), time.monotonic() + seconds
    # Cuts the connection under a reader that may wait, which cannot be cancelled.
    timer = asyncio.get_running_loop().call_later(seconds, lines.end)
    try:
        data = await run_in_threadpool(_read, lines, address, most)
        if time.monotonic() < until:  # what was cut may look as if it had ended
            return data
        raise TimeoutError
    except (OSError, http.client.HTTPException) as error:
        raise _late() if time.monotonic() >= until else _refusal(error) from None
    finally:
        timer.cancel()
        lines.end()


def _read(lines: remote.Lines, address: str, most: int) -> bytes:
    at = _usual(address)
    for _ in range(HOPS + 1):
        with contextlib.closing(lines.ask(at)) as response:
            if response.status not in _REDIRECTIONS:
                return _body(response, most)
            onward = _usual(urllib.parse.urljoin(at, response.headers["Location"] or ""))
        if at.startswith("https:") and not onward.startswith("https:"):
            raise Refused(422, "unreachable", "it leads from https back to http; save the picture and send the file")
        at = onward
    raise Refused(422, "unreachable", "it leads elsewhere without end; save the picture and send the file")


def _usual(address: str) -> str:
    try:
        found = remote.sendable(address.strip())
        port = urllib.parse.urlsplit(found).port
    except ValueError as error:
        raise Refused(400, "field", f"{error}; give an address as https://example.org/photo.jpg") from None
    if port not in PORTS:
        raise Refused(403, "private", f"port {port} is not asked; save the picture and send the file")
    return found


def _body(response: Any, most: int) -> bytes:
    if response.status != http.HTTPStatus.OK:
        raise Refused(422, "unreachable", f"that server answers {response.status}; save the picture and send the file")
    data, form = bytearray(), ""
    while chunk := response.read1(_CHUNK):
        data += chunk
        if len(data) > most:
            raise InputError(f"more than {most:,} bytes; save a smaller one and send the file", kind="too_many_bytes")
        if not form and len(data) >= _HEAD:
            form = container.identify(bytes(data[:_HEAD]))
    if response.length:  # the server announced more
        raise ConnectionError("the connection was cut")
    if not data:
        raise InputError(f"empty, not one byte; {container.AGAIN}", kind="empty")
    if not form:
        container.identify(bytes(data))
    return bytes(data)


def _late() -> Refused:
    return Refused(408, "timeout", "that server took too long; save the picture and send the file", seconds=10)


def _refusal(error: Exception) -> Refused:
    cause = getattr(error, "reason", error)
    match cause:
        case remote.NotPublic():
            return Refused(403, "private", "that address is not on the public internet, and is not asked")
        case socket.gaierror():
            told = "there is no such host, or its name cannot be looked up now"
        case ssl.SSLCertVerificationError():
            told = "that server's certificate does not hold"
        case TimeoutError():
            return _late()
        case _:
            told = "that server cannot be reached, or broke off"
    return Refused(422, "unreachable", f"{told}; check the address, or save the picture and send the file")
