"""`/v1/judge` and `/v1/alter`: the verdict on one upload, as it is and after what happens to pictures on their way."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse

from assay.judge.prepared import of_faces
from assay.serve.models import Altered, Judged
from assay.serve.routes.shared import UPLOADED, Client, TheService, Which, form, uri
from assay.serve.service import Service
from assay.serve.uploads import Uploads
from assay.types import Verdict

router = APIRouter(tags=["judge"])


@router.post("/v1/judge", response_model=Judged, responses=UPLOADED, openapi_extra=form())
async def judge(
    request: Request,
    service: TheService,
    client: Client,
    detector: Which = None,
    provenance: Annotated[bool, Query(description="Also read what the file says of its own origin.")] = True,
) -> JSONResponse:
    """Judge one picture, or a short clip: real, fake or uncertain.

    The upload is deleted as soon as it is judged.
    """
    number = service.number(detector)
    with service.accepted(client, service.gate):
        async with Uploads(request, service.spool, service.caps()) as uploads:
            answer = await service.judge(client, uploads.one, number, origin=provenance, gone=uploads.gone)
    told = {
        "verdict": answer.verdict.to_dict(),
        "provenance": answer.provenance,
        "faces": _faces(service, number, answer.verdict),
    }
    return JSONResponse(told)


@router.post("/v1/alter", response_model=Altered, responses=UPLOADED, openapi_extra=form())
async def alter(
    request: Request,
    service: TheService,
    client: Client,
    detector: Which = None,
    jpeg: Annotated[int | None, Query(ge=10, le=100, description="Save as JPEG of this quality, last.")] = None,
    scale: Annotated[float, Query(ge=0.25, le=2, description="Resize both sides by this factor, first.")] = 1,
    blur: Annotated[float, Query(ge=0, le=4, description="Gaussian blur of this sigma in px.")] = 0,
) -> JSONResponse:
    """Judge one picture after it was resized, blurred and saved again, as happens to pictures on their way.

    Of a clip the first frame is taken. No side is made longer than 4,096 px.
    """
    number = service.number(detector)
    changes: dict[str, float] = {} if jpeg is None else {"jpeg": jpeg}
    changes |= {"scale": scale} if scale != 1 else {}
    changes |= {"blur": blur} if blur else {}
    with service.accepted(client, service.gate):
        async with Uploads(request, service.spool, service.caps()) as uploads:
            answer = await service.alter(client, uploads.one, number, changes, gone=uploads.gone)
    return JSONResponse({"verdict": answer.verdict.to_dict(), "preview": uri("image/jpeg", answer.preview)})


def _faces(service: Service, number: int, verdict: Verdict) -> list[list[int]] | None:
    """Where faces were judged, each once; None for clips, whose tracks say it, and where no stream looks at faces."""
    looking = any(of_faces(stream.view) for stream in service.networks.detectors[number].streams)
    if not looking or verdict.frames:
        return None
    boxes = dict.fromkeys(box for stream in verdict.streams for box, _ in stream.faces)
    return [[box.left, box.top, box.right, box.bottom] for box in boxes]
