"""`/v1/fetch`: the picture at an address, where the server was told to fetch any."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from assay.serve.refusal import Refused
from assay.serve.routes.shared import Client, TheService, errors
from assay.serve.visit import visited

router = APIRouter(tags=["fetch"])

_BYTES = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}


@router.post("/v1/fetch", response_class=Response, responses={**errors(400, 403, 408, 413, 415, 422, 429), 200: _BYTES})
async def fetch(
    service: TheService,
    client: Client,
    url: Annotated[str, Query(max_length=2048, description="http or https, at its usual port.")],
) -> Response:
    """Get a picture or short clip from a public address, to send it to the other routes.

    Only on servers that were started with --allow-fetch. Nothing is kept.
    """
    if not service.settings.fetch:
        raise Refused(403, "not_allowed", "this server fetches nothing; save the picture and send the file")
    with service.accepted(client, service.fetching):
        data = await visited(url, service.settings.pictures, service.settings.visit)
    # Never shown as a page of this server's: no type of its own, and for keeping only.
    return Response(data, media_type="application/octet-stream", headers={"Content-Disposition": "attachment"})
