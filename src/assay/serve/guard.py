"""What stands before every route: who asks, by which name, from which page, and the headers of every answer.

A browser on this machine can be made to ask a server on this machine. So a request must call the server by a name that
is its own (a page elsewhere may point its own name here, and be the same origin), and one that changes something must
not come from a page elsewhere. API keys are random, 256 bits, and kept as SHA-256: there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from assay.errors import OutputError
from assay.serve import refusal
from assay.serve.metrics import Metrics
from assay.serve.refusal import Refused
from assay.serve.settings import Settings

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src blob:; "
        "connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}
"""On every answer."""

PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST, DELETE",
    "Access-Control-Allow-Headers": "Authorization, Idempotency-Key, Last-Event-ID",
    "Access-Control-Max-Age": "600",
}
"""What a browser is told that asks beforehand whether a page elsewhere may ask; only of pages that were named."""

OPEN = ("/health", "/ready", "/openapi.json", "/docs", "/", "/static/")
"""What needs no key: paths, and the beginnings of paths that end in a slash."""

_log = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LINE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63}) ([0-9a-f]{64})")
_PREFIX = "assay_"
_CHANGES = frozenset(("POST", "PUT", "PATCH", "DELETE"))


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Keys:
    """API keys: a file with one line for each, its name and its SHA-256. Read again whenever it changes.

    Args:
        file: None where everybody may ask; then everybody is one owner, "".

    Raises:
        OutputError: the file cannot be read, or holds another line.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._hashes: frozenset[str] = frozenset()
        self._read: tuple[int, int] | None = None
        if file is not None:
            self._read = _stamp(file)  # first: what changes meanwhile is read again
            self._hashes = frozenset(_hashes(file))

    def __bool__(self) -> bool:
        """Whether a key is needed."""
        return self._file is not None

    def owner(self, key: str) -> str | None:
        """Whose key it is: its hash, 64 hexadecimal digits; None for nobody's. Where no key is needed, ""."""
        if self._file is None:
            return ""
        self._look(self._file)
        given = hash_of(key)
        found = None
        for known in self._hashes:  # all of them, whichever it is
            if hmac.compare_digest(known, given):
                found = known
        return found

    def _look(self, file: Path) -> None:
        stamp = _stamp(file)
        if stamp == self._read:
            return
        self._read = stamp
        try:
            self._hashes = frozenset(_hashes(file))
        except OutputError as error:  # half written, perhaps: the keys from before hold
            _log.warning("%s", error)


def hash_of(key: str) -> str:
    """SHA-256 of a key, 64 hexadecimal digits."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def new_key(file: Path, name: str) -> str:
    """A new key, whose hash is added to a file, which is made where it is not there (readable by its owner alone).

    Args:
        name: of whoever gets it; letters, digits, ".", "_" and "-".

    Raises:
        OutputError: the file holds other lines or that name, or cannot be written.
        ValueError: that is no name.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r}: a key's name has up to 64 letters, digits, '.', '_' and '-'")
    key = _PREFIX + secrets.token_urlsafe(32)
    begun = ""
    if file.exists():
        if name in _hashes(file).values():
            raise OutputError(f"{file}: has a key called {name} already; take another name, or delete its line")
        begun = "" if file.read_bytes()[-1:] in (b"", b"\n") else "\n"
    try:
        handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(handle, "a", encoding="ascii") as out:
            out.write(f"{begun}{name} {hash_of(key)}\n")
    except OSError as error:
        raise OutputError(f"{file}: cannot be written ({error.strerror})", kind="disk") from error
    return key


def _hashes(file: Path) -> dict[str, str]:
    """The names of the keys, by their hashes."""
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise OutputError(f"{file}: the keys cannot be read ({error})") from error
    found = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.rstrip())
        if match is None:
            raise OutputError(f"{file}: line {number} is no key; make one with: assay serve --keys FILE --new-key NAME")
        found[match[2]] = match[1]
    return found


def _stamp(file: Path) -> tuple[int, int] | None:
    """What changes with a file; None where it is not there."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


# ── names and pages ──────────────────────────────────────────────────────────────────────────────────────────────────


class Names:
    """By which names a server may be called, and from which pages it may be asked to do something.

    Args:
        hosts, origins: as in `Settings`.
        loopback: whether only this machine reaches it.
    """

    def __init__(self, hosts: Iterable[str], origins: Iterable[str], loopback: bool) -> None:
        self._hosts = frozenset(host.lower().rstrip(".") for host in (*hosts, "localhost"))
        self._origins = frozenset(origin.lower().rstrip("/") for origin in origins)
        self._loopback = loopback

    def known(self, host: str) -> bool:
        """Whether that is the server, as a Host header has it. A name must be known; an address has no other owner,
        and is let through, on loopback only loopback's."""
        name = _without_port(host)
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return name in self._hosts
        return address.is_loopback or not self._loopback

    def invited(self, origin: str | None) -> bool:
        """Whether that is a page elsewhere that was named."""
        return origin is not None and origin.lower() in self._origins

    def may_ask(self, host: str, origin: str | None, site: str | None) -> bool:
        """Whether a page may have a request sent that changes something.

        Args:
            host: the request's Host.
            origin: its Origin; None where there is none, as of programs.
            site: its Sec-Fetch-Site, the same.
        """
        if origin is None:
            return site in (None, "same-origin", "none")
        scheme, _, rest = origin.lower().partition("://")
        return self.invited(origin) or (scheme in ("http", "https") and rest == host.lower())


def _without_port(host: str) -> str:
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() else host).rstrip(".")


# ── in front of the routes ───────────────────────────────────────────────────────────────────────────────────────────


def client_of(address: str) -> str:
    """Who asks from an address. Of IPv6 its network of 2^64 counts, which is one subscriber's at least."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if found.version == 4:
        return address
    return str(found.ipv4_mapped or ipaddress.ip_network((found, 64), strict=False))


class Guard:
    """ASGI in front of a server's routes. A request that it lets through has "owner" (see `Keys.owner`) and "client"
    (its owner, or else `client_of` its address) in its state. HEAD is answered as GET is, without the body.

    Args:
        app: what is guarded.
        settings: of the server.
        keys: who may ask.
        metrics: that count what was asked.
        closed: of a path and a method, why nothing can be asked now; None where it can.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        keys: Keys,
        metrics: Metrics,
        closed: Callable[[str, str], Refused | None],
    ) -> None:
        self._app, self._keys, self._metrics, self._closed = app, keys, metrics, closed
        self._names = Names((*settings.hosts, settings.host), settings.origins, settings.loopback)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # nothing else is spoken here
            return
        begun, status, method = time.perf_counter(), 0, scope["method"]
        asked = Headers(scope=scope)
        if method == "HEAD":
            scope = {**scope, "method": "GET"}

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
                self._open_to(asked.get("origin"), headers)
                await send(message)
                if method == "HEAD":
                    await send({"type": "http.response.body"})
            elif method != "HEAD":
                await send(message)

        try:
            refused = self._refusal(scope)
            if refused is None and method == "OPTIONS" and self._names.invited(asked.get("origin")):
                await Response(status_code=204, headers=PREFLIGHT)(scope, receive, answer)
            elif refused is not None:
                await refusal.answer(refused)(scope, receive, answer)
            else:
                await self._app(scope, receive, answer)
        except Exception:
            _log.exception("a request failed")
            if not status:
                failed = refusal.told(500, "internal", "the server failed; tell whoever runs it")
                await failed(scope, receive, answer)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(_method(method), route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - begun)

    def _open_to(self, origin: str | None, headers: MutableHeaders) -> None:
        """Lets a page elsewhere that was named read the answer."""
        if origin is not None and self._names.invited(origin):
            headers["Access-Control-Allow-Origin"] = origin
            headers["Access-Control-Expose-Headers"] = "Retry-After"
            headers.add_vary_header("Origin")

    def _refusal(self, scope: Scope) -> Refused | None:
        """Why a request goes no further; None where it does."""
        headers, changes = Headers(scope=scope), scope["method"] in _CHANGES
        host = headers.get("host", "")
        if not self._names.known(host):
            return Refused(403, "host", "this server has another name; start it with --allow-host NAME to call it so")
        if scope.get("state", {}).get("crowded"):
            return Refused(503, "busy", "too many are connected; try again in a moment", seconds=5, close=True)
        if changes and not self._names.may_ask(host, headers.get("origin"), headers.get("sec-fetch-site")):
            return Refused(403, "origin", "a page elsewhere may not send this; use the server's own page")
        state = scope.setdefault("state", {})
        state["owner"], state["client"] = "", client_of((scope.get("client") or ("",))[0])
        # What a browser asks beforehand has no key.
        if self._keys and not open_to_all(scope["path"]) and scope["method"] != "OPTIONS":
            word, _, key = headers.get("authorization", "").partition(" ")
            owner = self._keys.owner(key.strip()) if word.lower() == "bearer" else None
            if owner is None:
                return Refused(401, "key", "no key, or not a known one; send Authorization: Bearer KEY")
            state["owner"] = state["client"] = owner
        return self._closed(scope["path"], scope["method"])


def open_to_all(path: str) -> bool:
    """Whether a path needs no key where others do."""
    return any(path == each or (each != "/" and each.endswith("/") and path.startswith(each)) for each in OPEN)


def _method(method: str) -> str:
    """A client may call its method whatever it likes, and each would be counted."""
    return method if method in (*_CHANGES, "GET", "HEAD", "OPTIONS") else "other"
