"""`/health`, `/ready`, `/metrics`: for whoever watches over the server. And `/v1/detectors`: what it judges with."""

from __future__ import annotations

import re
from typing import Any

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from assay.judge import about
from assay.judge.bundle import Bundle
from assay.serve import metrics, refusal
from assay.serve.models import Card, Detectors, State
from assay.serve.refusal import Refused
from assay.serve.routes.shared import TheService, errors

router = APIRouter(tags=["server"])


@router.get("/health", response_model=State, responses=errors())
async def health() -> JSONResponse:
    """The process lives."""
    return JSONResponse({"state": "live"})


@router.get("/ready", response_model=State, responses=errors())
async def ready(service: TheService) -> JSONResponse:
    """It takes work: its detector is loaded, and it is not stopping."""
    if service.stopping:
        raise refusal.stopping()
    if not service.ready:
        raise Refused(503, "starting", "the server is loading its detector; try again in a moment", seconds=2)
    return JSONResponse({"state": "ready"})


@router.get(
    "/metrics",
    response_class=Response,
    responses={**errors(), 200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def counts(service: TheService) -> Response:
    """What was counted, in Prometheus's text format."""
    return Response(service.metrics.text(), headers={"Content-Type": metrics.TYPE})


@router.get("/v1/detectors", response_model=Detectors, responses=errors())
async def detectors(service: TheService) -> JSONResponse:
    """What this server judges with, the default one first."""
    told = [_short(read, place == 0) for place, read in enumerate(service.bundles.values())]
    return JSONResponse({"detectors": told, "fetches": service.settings.fetch})


@router.get("/v1/detectors/{name}", response_model=Card, responses=errors(404))
async def detector(service: TheService, name: str) -> JSONResponse:
    """One detector with its whole card: what it saw, what was measured, what it can't do."""
    if name not in service.bundles:
        raise Refused(404, "missing", "this server has no such detector; see /v1/detectors")
    read = service.bundles[name]
    rule = read.judge.ensemble
    told = about.described(read) | {"errors": rule.errors.model_dump(), "rows": rule.rows.model_dump()}
    del told["folder"]  # the server's own business
    return JSONResponse({**_short(read, name == next(iter(service.bundles))), **told})


def _short(read: Bundle, default: bool) -> dict[str, Any]:
    card = read.card
    summary = re.split(r"(?<=[.!?])\s", card.description.strip(), maxsplit=1)[0]
    return {
        "name": card.name,
        "version": card.version,
        "sha256": card.sha256,
        "summary": summary,
        "default": default,
    }
