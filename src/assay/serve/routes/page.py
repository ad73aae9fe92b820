"""`/`, `/docs` and `/static/{name}`: the web page and its assets, which lie in `assay/serve/page`.

They are listed once, when this is imported: what is asked for is looked up among their names, and never joined to a
path.
"""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse

from assay.serve.refusal import Refused

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".woff2": "font/woff2",
    ".json": "application/json",
}

_FOLDER = Path(__file__).parent.parent / "page"
_ASSETS = {path.name: path for path in sorted(_FOLDER.glob("*.*")) if path.suffix in TYPES}

router = APIRouter(include_in_schema=False)


@router.get("/")
def index() -> FileResponse:
    """The page."""
    return _asset("index.html")


@router.get("/docs")
def docs() -> FileResponse:
    """The API in words."""
    return _asset("docs.html")


@router.get("/static/{name}")
def asset(name: str) -> FileResponse:
    """What the pages are made of."""
    return _asset(name)


def _asset(name: str) -> FileResponse:
    if name not in _ASSETS:
        raise Refused(404, "missing", "there is nothing here; see /openapi.json")
    path = _ASSETS[name]
    return FileResponse(path, headers={"Content-Type": TYPES[path.suffix], "Cache-Control": "no-cache"})
