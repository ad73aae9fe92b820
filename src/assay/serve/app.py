"""The application: the service behind its guard and its routes."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

import assay
from assay.errors import AssayError
from assay.serve import refusal
from assay.serve.guard import Guard, open_to_all
from assay.serve.routes import explain, fetch, health, jobs, judge, page
from assay.serve.service import Service
from assay.serve.settings import Settings

ABOUT = """
Tells real pictures from fake ones, and says how sure it is. A score is P(fake), in [0, 1]; 1 is fake everywhere. A
verdict can be "uncertain". A picture that cannot be judged has an error, never a score.

Every error is `{"error": {"kind": ..., "message": ...}}`; the message says what to do. Where the server was started
with keys, send `Authorization: Bearer KEY`.
"""

_KINDS = {404: "missing", 405: "method"}
_WORDS = {404: "there is nothing here; see /openapi.json", 405: "not with this method; see /openapi.json"}


def create(settings: Settings) -> FastAPI:
    """A server, which loads its detector once it runs.

    Raises:
        BundleError: there is no such detector.
        OutputError: the file of keys cannot be read.
    """
    service = Service(settings)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        try:
            yield
        finally:
            await service.stop()

    app = FastAPI(
        title="assay",
        version=assay.__version__,
        description=ABOUT.strip(),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        separate_input_output_schemas=False,
    )
    app.state.service = service
    for router in (judge.router, explain.router, jobs.router, fetch.router, health.router, page.router):
        app.include_router(router)
    app.add_middleware(Guard, settings=settings, keys=service.keys, metrics=service.metrics, closed=service.refusal)
    app.add_exception_handler(AssayError, _assay_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _field_error)
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        return _described(copy.deepcopy(describe()), list(service.bundles), bool(service.keys))

    app.openapi = openapi  # type: ignore[method-assign]
    return app


def _assay_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, AssayError)
    return refusal.answer(error)


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status, headers = error.status_code, dict(error.headers or {})
    path = request.app.openapi()["paths"].get(getattr(request.scope.get("route"), "path", ""))
    if status == 405 and path:  # of all routes of this path; the first of them knows only its own
        headers["Allow"] = ", ".join(sorted(map(str.upper, path)))
    return refusal.told(status, _KINDS.get(status, "http"), _WORDS.get(status, error.detail), headers)


def _field_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    told = "; ".join(f"{'.'.join(map(str, each['loc'][1:]))}: {each['msg']}" for each in error.errors())
    return refusal.told(400, "field", told)


def _described(schema: dict[str, Any], detectors: list[str], keys: bool) -> dict[str, Any]:
    """The description, with what this server has; without the answer 422 that FastAPI adds of itself: a field that does
    not hold is told of by 400 here."""
    for path, route in ((path, route) for path, routes in schema["paths"].items() for route in routes.values()):
        answers = route["responses"]
        if keys and open_to_all(path):
            route["security"] = []
        if "HTTPValidationError" in str(answers.get("422")):
            del answers["422"]
            answers.setdefault("400", answers["500"] | {"description": "A field that does not hold."})
        for parameter in route.get("parameters", ()):
            if parameter["name"] == "detector" and detectors:
                parameter["schema"] = {"type": "string", "enum": detectors, "default": detectors[0]}
    for name in ("HTTPValidationError", "ValidationError"):
        schema["components"]["schemas"].pop(name, None)
    if keys:
        schema["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        schema["security"] = [{"key": []}]
    return schema
