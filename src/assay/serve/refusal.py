"""What a client is told when it gets no answer: a status, a kind for machines, and a message that says what to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

from assay.errors import AssayError, BundleError, InputError, JobError, OutputError

_INPUT = {"too_many_bytes": 413, "not_an_image": 415, "unsupported": 415, "needs_extra": 415}
_JOB = {"missing": 404, "conflict": 409}

NO_PROCESS = "decoder"
"""Kind of the error where no process can be begun to decode an input. It is not the input's fault."""


class Refused(AssayError):
    """A request that is not answered.

    Args:
        status: of HTTP.
        kind: for machines.
        message: what to do.
        seconds: after which to try again; None where that changes nothing.
        close: ends the connection, as more of the request may be coming.
    """

    def __init__(
        self, status: int, kind: str, message: str, *, seconds: int | None = None, close: bool = False
    ) -> None:
        super().__init__(message, kind=kind)
        self.status = status
        self.headers: dict[str, str] = {}
        if seconds is not None:
            self.headers["Retry-After"] = str(seconds)
        if close:
            self.headers["Connection"] = "close"
        if status == 401:
            self.headers["WWW-Authenticate"] = "Bearer"


def stopping() -> Refused:
    """Of a server that takes no more work."""
    return Refused(503, "stopping", "the server is stopping; try again in a moment", seconds=5)


def busy(why: str, seconds: int) -> Refused:
    """Of a request that there is no room for."""
    return Refused(429, "busy", f"{why}; try again in {seconds} s", seconds=seconds)


def gone() -> Refused:
    """Of work whose client left; nobody reads it."""
    return Refused(400, "disconnected", "the connection broke off; send it again", close=True)


def late() -> Refused:
    """Of work that took too long."""
    return Refused(408, "timeout", "it took too long; send it in a job, or try again when less is going on", seconds=10)


def status_of(error: AssayError) -> int:
    """The status that an error has in HTTP."""
    match error:
        case Refused():
            return error.status
        case InputError():
            return _INPUT.get(error.kind, 422)
        case JobError():
            return _JOB.get(error.kind, 404)
        case OutputError():
            return 503
        case BundleError(kind="unknown"):
            return 400
        case BundleError(kind="missing"):  # it cannot explain
            return 422
    return 503 if error.kind == NO_PROCESS else 500


def answer(error: AssayError) -> JSONResponse:
    """An error as a client gets it. What it says of the server's own folders stays here."""
    message = str(error)
    if isinstance(error, OutputError):
        message = "the server cannot write now; try again in a moment"
    elif isinstance(error, BundleError) and error.kind not in ("unknown", "missing"):
        message = "the detector cannot be run; tell whoever runs this server"
    status = status_of(error)
    headers = error.headers if isinstance(error, Refused) else {"Retry-After": "10"} if status == 503 else {}
    return told(status, error.kind, message, headers)


def told(status: int, kind: str, message: str, headers: Mapping[str, Any] | None = None) -> JSONResponse:
    """An error in JSON."""
    return JSONResponse({"error": {"kind": kind, "message": message}}, status, dict(headers or {}))
