"""Bytes over HTTP, for a data set that the user gave an address of; nothing else here opens a connection.

Only http and https, redirections included: no files, no FTP, no commands. What comes is never trusted; whoever reads
checks it against a size and a hash.
"""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.parse
import urllib.request
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
