"""`/v1/explain`: where a detector looked."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Query, Request
from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from assay.judge import heat
from assay.judge.explain import Explanation
from assay.judge.scorecam import Toward
from assay.serve.models import Explained
from assay.serve.routes.shared import UPLOADED, Client, TheService, Which, form, uri
from assay.serve.uploads import Uploads

LONGEST = 512
"""Longer side of a map in px."""

router = APIRouter(tags=["explain"])


@router.post("/v1/explain", response_model=Explained, responses=UPLOADED, openapi_extra=form())
async def explain(
    request: Request,
    service: TheService,
    client: Client,
    detector: Which = None,
    toward: Annotated[Toward, Query(description="Show what speaks for this.")] = "fake",
) -> JSONResponse:
    """Judge one picture and show where the detector looked. Takes seconds to minutes; one at a time.

    Of a clip the frame is looked into that says most clearly what is asked.
    """
    number = service.number(detector)
    with service.accepted(client, service.explaining):
        async with Uploads(request, service.spool, service.caps()) as uploads:
            found = await service.explain(client, uploads.one, number, toward, gone=uploads.gone)
        return JSONResponse(await run_in_threadpool(_told, found))


def _told(found: Explanation) -> dict[str, Any]:
    height, width = found.pixels.shape[:2]
    return {
        "explanation": found.to_dict(),
        "width": width,
        "height": height,
        "maps": {look.name: _drawn(look.map) for look in found.drawn if look.map is not None},
        "map": None if found.map is None else _drawn(found.map),
    }


def _drawn(map: npt.NDArray[np.float32]) -> str:
    """A map, (height, width) in [0, 1], as a grey picture."""
    image = Image.fromarray(np.rint(255 * np.clip(map, 0, 1)).astype(np.uint8))
    image.thumbnail((LONGEST, LONGEST), Image.Resampling.BOX)
    return uri("image/png", heat.png(np.asarray(image)))
