"""Bytes over HTTP, for a data set or a list of pictures that the user gave; nothing else opens a connection.

Only http and https, redirections included: no files, no FTP, no commands. What comes is never trusted; whoever reads
checks it against a size and a hash. `fetch` and `Remote` go where the user pointed. `Lines` goes where strangers point,
who wrote the addresses of a list or send elsewhere, and so by default only to public machines.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from assay.errors import InputError

SCHEMES = ("http", "https")

TIMEOUT = 30.0
"""Seconds without a byte after which a connection counts as lost."""

WAITS = (0.5, 2.0, 8.0)
"""Seconds before each further try."""

_CHUNK = 1 << 20

_T = TypeVar("_T")


def is_address(place: str) -> bool:
    """Whether a place is an http or https address."""
    return place.lower().startswith(tuple(f"{scheme}://" for scheme in SCHEMES))


def sendable(text: str) -> str:
    """An address as it may be sent: characters that are not ASCII encoded, no fragment.

    Raises:
        ValueError: it is none, not http or https, or carries a password.
    """
    parts = urllib.parse.urlsplit(text)
    if parts.scheme not in SCHEMES or not parts.hostname:
        raise ValueError("it is no http or https address")
    if "@" in parts.netloc:
        raise ValueError("it carries a user name")
    numeric = ":" in parts.hostname
    host = f"[{parts.hostname}]" if numeric else parts.hostname.encode("idna").decode("ascii")
    place = host if parts.port is None else f"{host}:{parts.port}"
    path = urllib.parse.quote(parts.path or "/", safe="%/:@!$&'()*+,;=~")
    query = urllib.parse.quote(parts.query, safe="%/:@!$&'()*+,;=~?[]|")
    return urllib.parse.urlunsplit((parts.scheme, place, path, query, ""))


def beside(address: str, name: str) -> str:
    """The address of the file `name` in the folder of the file at `address`; a query (an access token) is kept."""
    parts = urllib.parse.urlsplit(address)
    folder = parts.path.rpartition("/")[0]
    return urllib.parse.urlunsplit(parts._replace(path=f"{folder}/{urllib.parse.quote(name)}", fragment=""))


def fetch(address: str, most: int) -> bytes:
    """The whole of a small document.

    Args:
        address: http or https.
        most: bytes it may have.

    Raises:
        InputError: it cannot be fetched (missing, permission, unreadable) or is longer (too_many_bytes).
    """

    def whole() -> bytes:
        with _request(address, 0) as response:
            data: bytes = response.read(most + 1)
            if response.length and len(data) <= most:
                raise ConnectionError("the connection was cut")
            return data

    data = _tried(address, whole)
    if len(data) > most:
        raise InputError(
            f"{address} is longer than {most:,} bytes; check that the address is right", kind="too_many_bytes"
        )
    return data


class Remote:
    """A file over HTTP, read once from front to back. A lost connection is taken up again where it was lost.

    Args:
        address: http or https.
        size: bytes the file should have: one that ends before, though its server announced more, was cut.

    Raises:
        InputError: it cannot be opened or gone on with (missing, permission, unreadable).
    """

    def __init__(self, address: str, size: int) -> None:
        self._address, self._size = address, size
        self._at = 0
        self._response: Any = _tried(address, lambda: _request(address, 0))

    def read(self, count: int) -> bytes:
        """At most `count` bytes, and none at the end of the file."""
        data = _tried(self._address, lambda: self._some(count))
        self._at += len(data)
        return data

    def close(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None

    def _some(self, count: int) -> bytes:
        try:
            if self._response is None:
                self._response = _request(self._address, self._at)
            data: bytes = self._response.read(count)
            if not data and self._at < self._size and self._response.length:
                # The server announced more than it sent. A server that announces less has a shorter file.
                raise ConnectionError("the connection was cut")
        except (OSError, http.client.HTTPException):
            self.close()
            raise
        return data


class _Redirection(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not is_address(newurl) or (req.type == "https" and not newurl.lower().startswith("https://")):
            raise urllib.error.HTTPError(req.full_url, code, f"leads to {newurl}, which is not followed", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    # `build_opener` would add file, data and FTP, which a redirection could then reach.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        _Redirection(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _request(address: str, start: int) -> Any:
    """The open response, its next byte being `start` of the file."""
    headers = {"User-Agent": "assay", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    response = _opener().open(urllib.request.Request(address, headers=headers), timeout=TIMEOUT)
    try:
        left = start if response.status != http.HTTPStatus.PARTIAL_CONTENT else 0
        while left:  # a server that knows no ranges sends all of it again
            passed = len(response.read(min(left, _CHUNK)))
            if not passed:
                raise ConnectionError("the connection was cut")
            left -= passed
    except BaseException:
        response.close()
        raise
    return response


def _tried(address: str, attempt: Callable[[], _T]) -> _T:
    """What the attempt gives, after some more where the fault may pass."""
    for wait in (*WAITS, None):
        try:
            return attempt()
        except urllib.error.HTTPError as error:
            error.close()
            passing = error.code in (408, 425, 429) or error.code >= 500
            if not passing or wait is None:
                raise _refused(address, error) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            if wait is None or isinstance(error, ValueError | http.client.InvalidURL):
                words = getattr(error, "reason", None) or error
                raise InputError(
                    f"{address} could not be fetched ({words}); check the address and the connection, and try again",
                    kind="unreadable",
                ) from None
        time.sleep(wait)
    raise AssertionError("unreachable")


def _refused(address: str, error: urllib.error.HTTPError) -> InputError:
    if error.code in (404, 410):
        return InputError(f"{address}: nothing is there (HTTP {error.code}); check the address", kind="missing")
    if error.code in (401, 403, 407):
        return InputError(
            f"{address}: the server wants to know who asks (HTTP {error.code}); fetch it yourself and give the folder",
            kind="permission",
        )
    then = "try again later" if error.code >= 500 or error.code == 429 else "check the address"
    return InputError(f"{address}: the server answers {error.code} ({error.reason}); {then}", kind="unreadable")


# ── addresses that strangers wrote ───────────────────────────────────────────────────────────────────────────────────

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class NotPublic(OSError):
    """A name stands for no public address: for this machine, its network, or nobody's."""


def is_public(address: str) -> bool:
    """Whether a numeric IPv4 or IPv6 address can be anybody's on the internet.

    Loopback, private, link-local (cloud metadata too), shared, reserved and multicast ones are not; neither is an IPv6
    address that only carries such an IPv4 address (mapped, NAT64, 6to4, Teredo).
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    carried: list[ipaddress.IPv4Address | None] = []
    if isinstance(found, ipaddress.IPv6Address):
        carried = [found.ipv4_mapped, found.sixtofour, *(found.teredo or ())]
        if found in _NAT64:
            carried.append(ipaddress.IPv4Address(int(found) & 0xFFFFFFFF))
        if found.ipv4_mapped:
            return is_public(str(found.ipv4_mapped))
    return found.is_global and not found.is_multicast and all(is_public(str(one)) for one in carried if one)


class Lines:
    """Connections for single requests, that can be cut off together from another thread.

    Args:
        private: go to addresses that are not public too, and through the proxy that the environment names. Without it
            every name is resolved once, and the connection goes to one of the public addresses found, so that no
            later answer of a name server can lead elsewhere. A proxy would resolve names itself; hence none is used.
        headers: sent with every request.
    """

    def __init__(self, private: bool, headers: dict[str, str]) -> None:
        self._private, self._headers = private, headers
        self._opened: weakref.WeakKeyDictionary[socket.socket, float] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()
        self._ended = False
        self._opener = urllib.request.OpenerDirector()
        proxies = urllib.request.ProxyHandler(None if private else {})
        for handler in (proxies, _Plain(self), _Secure(self), urllib.request.UnknownHandler()):
            self._opener.add_handler(handler)

    def ask(self, address: str) -> Any:
        """The open answer to one GET, whatever its status; a redirection is an answer like any other.

        Raises:
            OSError, http.client.HTTPException, ValueError: there is none. Where the cause is a `NotPublic` or a
                `socket.gaierror`, it is the `reason` of a `urllib.error.URLError`.
        """
        return self._opener.open(urllib.request.Request(address, headers=self._headers), timeout=TIMEOUT)

    def cut(self, older: float = 0.0) -> None:
        """Ends connections that are open for more than this many seconds; their readers get an error."""
        now = time.monotonic()
        with self._lock:
            overdue = [line for line, since in self._opened.items() if now - since >= older]
        for line in overdue:
            with contextlib.suppress(OSError):
                # Ends one that is still being made too, at least on Linux. Not SSLSocket's own method, which would take
                # the session from under its reader.
                socket.socket.shutdown(line, socket.SHUT_RDWR)

    def end(self) -> None:
        """Ends all connections, and those that are still to come."""
        self._ended = True
        self.cut()

    def reach(self, host: str, port: int, timeout: float) -> socket.socket:
        """A connection to a public address of a host.

        Raises:
            NotPublic: it has none.
            OSError: none of them answers, or there is no such host (`socket.gaierror`).
        """
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        public = [one for one in found if is_public(str(one[4][0]))]
        if not public:
            raise NotPublic(f"{host} stands for {found[0][4][0]}, which is not public")
        failed: OSError | None = None
        for family, kind, protocol, _, place in public:
            line = socket.socket(family, kind, protocol)
            try:
                line.settimeout(timeout)
                self.watch(line)
                line.connect(place)
                return line
            except OSError as error:
                line.close()
                failed = error
        raise failed or OSError(f"{host} does not answer")

    def watch(self, line: socket.socket) -> None:
        with self._lock:
            self._opened[line] = time.monotonic()
        if self._ended:
            raise ConnectionAbortedError("no more connections are made")

    def connect(self, connection: http.client.HTTPConnection, usual: Callable[[], None]) -> None:
        """What a connection does in place of its usual way."""
        if self._private:
            usual()
        else:
            connection.sock = self.reach(connection.host, connection.port, TIMEOUT)
        self.watch(connection.sock)


class _PlainConnection(http.client.HTTPConnection):
    lines: Lines

    def connect(self) -> None:
        self.lines.connect(self, super().connect)


class _SecureConnection(http.client.HTTPSConnection, _PlainConnection):
    def connect(self) -> None:
        super().connect()  # which goes through _PlainConnection's, and then speaks TLS with the name that was asked for
        self.lines.watch(self.sock)


class _Plain(urllib.request.HTTPHandler):
    def __init__(self, lines: Lines) -> None:
        super().__init__()
        self._lines = lines

    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(_made(_PlainConnection, self._lines), req)


class _Secure(urllib.request.HTTPSHandler):
    def __init__(self, lines: Lines) -> None:
        super().__init__()
        self._lines = lines

    def https_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(_made(_SecureConnection, self._lines), req)


def _made(kind: type[_PlainConnection], lines: Lines) -> Any:
    def make(*given: Any, **named: Any) -> _PlainConnection:
        connection = kind(*given, **named)
        connection.lines = lines
        return connection

    return make
