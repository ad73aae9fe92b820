"""What the routes share: who asks, which detector, the form that uploads come in, and the errors that are declared."""

from __future__ import annotations

import base64
from typing import Annotated, Any

from fastapi import Depends, Query, Request

from assay.serve.models import Error
from assay.serve.service import Service
from assay.serve.uploads import FIELD

_SAID = {
    400: "A field that does not hold.",
    401: "No key, or not a known one.",
    403: "Another host's name, or a page elsewhere.",
    404: "There is no such thing.",
    405: "Another method.",
    408: "The upload was too slow, or the work took too long.",
    409: "The Idempotency-Key was used for another request.",
    413: "Too large.",
    415: "Not a picture or video that is read.",
    422: "A picture that cannot be judged; `kind` says why. It has no score.",
    429: "Too much is waiting, or too many requests; Retry-After says when to come again.",
    500: "The server failed.",
    503: "Starting, stopping, or the disk is full; try again.",
}
ALWAYS = (401, 403, 500, 503)


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors that a route may give, for its description."""
    return {status: {"model": Error, "description": _SAID[status]} for status in sorted({*statuses, *ALWAYS})}


UPLOADED = errors(400, 408, 413, 415, 422, 429)


def form(many: bool = False) -> dict[str, Any]:
    """The body of a request with a file, or with many, for its description."""
    file: dict[str, Any] = {"type": "string", "format": "binary", "description": "a picture or a video"}
    field = {"type": "array", "items": file, "minItems": 1} if many else file
    schema = {"type": "object", "required": [FIELD], "properties": {FIELD: field}}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


# As coroutines, as FastAPI calls a plain function in a thread of its own, for each request again.
async def service_of(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def owner_of(request: Request) -> str:
    return str(request.state.owner)


async def client_of(request: Request) -> str:
    return str(request.state.client)


TheService = Annotated[Service, Depends(service_of)]
Owner = Annotated[str, Depends(owner_of)]
Client = Annotated[str, Depends(client_of)]
Which = Annotated[
    str | None, Query(description="The name of a detector that this server has; its first one unless given.")
]


def uri(kind: str, data: bytes) -> str:
    """A data URI."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
