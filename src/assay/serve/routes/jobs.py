"""`/v1/jobs`: many pictures, or a video, judged in their own time; progress, results, downloads."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Header, Path, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from assay.errors import JobError
from assay.image.provenance import Says
from assay.image.video import LEAST_STEP
from assay.judge import sink
from assay.measure import page
from assay.serve import jobs, models
from assay.serve.jobs import Input
from assay.serve.queue import Full
from assay.serve.refusal import Refused
from assay.serve.routes.shared import Client, Owner, TheService, Which, errors, form
from assay.serve.service import Service
from assay.serve.uploads import Uploads
from assay.types import Failure, Ruling, Verdict

LONGEST_STEP = 3_600.0
"""Seconds between two judged frames of a video, at most."""

PAGE = 1_000
"""Results in one answer, at most."""

EVENT = {
    "type": "object",
    "properties": {
        "event": {"type": "string", "enum": ["result", "progress", "end"]},
        "id": {"type": "string", "description": "to go on from, as Last-Event-ID"},
        "data": {"type": "string", "description": "JSON: one of the results, or the job"},
    },
}
"""One event of a stream."""

_AT_ONCE = 100
"""Results that a stream of events looks for at a time."""

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

Id = Annotated[str, Path(min_length=1, max_length=64, description="as POST /v1/jobs gave it")]


@router.post(
    "",
    status_code=202,
    response_model=models.Job,
    responses=errors(400, 408, 409, 413, 429),
    openapi_extra=form(many=True),
)
async def create(
    request: Request,
    service: TheService,
    owner: Owner,
    client: Client,
    detector: Which = None,
    keep: Annotated[bool, Query(description="Keep the uploads until the job is deleted.")] = False,
    every: Annotated[
        float | None,
        Query(ge=LEAST_STEP, le=LONGEST_STEP, description="Of a video, judge one frame every so many seconds."),
    ] = None,
    provenance: Annotated[
        bool, Query(description="Also read what each file says of its own origin; it stands beside the results.")
    ] = False,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=255,
            description="A client's name for this request: sent again, it makes no second job.",
        ),
    ] = None,
) -> JSONResponse:
    """Hand in many pictures, or a video. Each gets a verdict, or an error of its own.

    Once this answers, nothing of it is lost, whatever happens to the server. An upload is deleted as soon as it is
    judged unless `keep`; the job and its results, some time after its end.
    """
    name = list(service.bundles)[service.number(detector)]
    options = {"detector": name, "every": every, "provenance": provenance}
    await service.jobs.room()
    with service.accepted(client, service.uploading):
        async with Uploads(request, service.spool, service.caps(job=True)) as uploads:
            uploads.kept = True  # by the job, if one comes of it
            try:
                job = await service.jobs.create(owner, uploads.files, options, keep=keep, idempotency=idempotency_key)
            except Exception:
                uploads.kept = False
                raise
        return JSONResponse(_job(job), 202)


@router.get("/{id}", response_model=models.Job, responses=errors(404))
def get(service: TheService, owner: Owner, id: Id) -> JSONResponse:
    """How far a job is."""
    return JSONResponse(_job(service.store.job(id, owner)))


@router.delete("/{id}", status_code=204, response_class=Response, responses=errors(404))
async def delete(service: TheService, owner: Owner, id: Id) -> Response:
    """Cancel a job where it runs, and delete it with its results and uploads."""
    await service.jobs.delete(id, owner)
    return Response(status_code=204)


@router.get("/{id}/results", response_model=models.Results, responses=errors(400, 404))
def results(
    service: TheService,
    owner: Owner,
    id: Id,
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=PAGE)] = 100,
) -> JSONResponse:
    """Its inputs in their order, each with its result, or null."""
    job = service.store.job(id, owner)
    found = service.store.results(id, owner, offset, limit)
    return JSONResponse({"results": [_told(each) for each in found], "total": job.total})


@router.get(
    "/{id}/results.jsonl",
    response_class=Response,
    responses={**errors(404), 200: {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}}},
)
def lines(service: TheService, owner: Owner, id: Id) -> Response:
    """Those that are done, one JSON object a line, as `assay scan --json` writes them.

    Where the job asked for it, with "provenance" beside them.
    """
    asked = service.store.job(id, owner).options.get("provenance")

    def coming() -> Iterator[bytes]:
        for each, result in _done(service, id, owner):
            told = {**result, "provenance": each.provenance} if asked else result
            yield json.dumps(told, ensure_ascii=True, allow_nan=False).encode() + b"\n"

    return _download(coming(), "application/x-ndjson", f"{id}.jsonl")


@router.get(
    "/{id}/results.csv",
    response_class=Response,
    responses={**errors(404), 200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
)
def rows(service: TheService, owner: Owner, id: Id) -> Response:
    """Those that are done, one CSV row each, as `assay scan --csv` writes them.

    Where the job asked for it, with a last column "provenance": what the file's signs say, each once, or "none".
    """
    asked = service.store.job(id, owner).options.get("provenance")

    def coming() -> Iterator[bytes]:
        format = sink.Csv()
        yield _wider(format.header, "provenance") if asked else format.header
        for each, result in _done(service, id, owner):
            row = format.encode(_result(result))
            yield _wider(row, _said(each)) if asked else row

    return _download(coming(), "text/csv; charset=utf-8", f"{id}.csv")


@router.get(
    "/{id}/report",
    response_class=Response,
    responses={**errors(404), 200: {"content": {"text/html": {"schema": {"type": "string"}}}}},
)
def report(service: TheService, owner: Owner, id: Id) -> Response:
    """Those that are done as a web page in one file, to keep or to send on; it asks nobody for anything."""
    job = service.store.job(id, owner)
    title = (
        f"{job.total:,} input{'s' * (job.total > 1)}, {time.strftime('%Y-%m-%d %H:%M', time.gmtime(job.created))} UTC"
    )
    section = page.of_results((result for _, result in _done(service, id, owner)), title, picture=None)
    headers = {"Content-Disposition": f'attachment; filename="{id}.html"', "Content-Type": "text/html; charset=utf-8"}
    return Response(page.report([section], title), headers=headers)


@router.get(
    "/{id}/events",
    response_class=Response,
    responses={**errors(400, 404, 429), 200: {"content": {"text/event-stream": {"schema": EVENT}}}},
)
async def events(
    service: TheService,
    owner: Owner,
    client: Client,
    id: Id,
    last_event_id: Annotated[
        int, Header(ge=0, description="Goes on after this event; without it, all there was comes first.")
    ] = 0,
) -> Response:
    """Server-sent events: `result` (one of the results), `progress` (the job), `end` (the job, which has ended)."""
    await run_in_threadpool(service.store.job, id, owner)
    place = contextlib.ExitStack()
    try:
        place.enter_context(service.listening.entered(client))
    except Full as full:
        raise Refused(429, "busy", "too many listen already; close one", seconds=full.seconds) from None
    return _Listened(_events(service, id, owner, last_event_id), place)


class _Listened(StreamingResponse):
    """A stream of events that has its place among the listeners until it ends, whether or not it began."""

    def __init__(self, events: AsyncIterator[bytes], place: contextlib.ExitStack) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._place:
            await super().__call__(scope, receive, send)


async def _events(service: Service, id: str, owner: str, version: int) -> AsyncIterator[bytes]:
    with service.jobs.listener(id) as changed:
        while not service.stopping:
            changed.clear()
            try:
                news = await run_in_threadpool(service.store.since, id, owner, version, _AT_ONCE)
            except JobError:
                yield _event("end", None, {"id": id, "state": "deleted"})
                return
            for each in news.inputs:
                yield _event("result", each.version, _told(each))
            if news.version > version or not version:
                yield _event("progress", news.version, _job(news.job))
            version = news.version
            if news.job.finished is not None and version >= news.job.version:
                yield _event("end", version, _job(news.job))
                return
            if news.inputs:
                continue
            try:
                await asyncio.wait_for(changed.wait(), service.settings.ping)
            except TimeoutError:
                yield b": still here\n\n"


def _event(name: str, number: int | None, data: Mapping[str, Any]) -> bytes:
    # ASCII, so that no name of a file can end a line.
    text = json.dumps(data, ensure_ascii=True, allow_nan=False)
    head = f"event: {name}\n" + ("" if number is None else f"id: {number}\n")
    return f"{head}data: {text}\n\n".encode("ascii")


def _job(job: jobs.Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "kind": job.kind,
        "state": job.state,
        "total": job.total,
        "finished": job.done,
        "created": job.created,
        "started": job.started,
        "ended": job.finished,
        "counts": job.counts,
        "keep": job.kept,
        **job.options,
    }


def _told(each: Input) -> dict[str, Any]:
    return {"number": each.number, "name": each.name, "result": each.result, "provenance": each.provenance}


def _done(service: Service, id: str, owner: str) -> Iterator[tuple[Input, Mapping[str, Any]]]:
    offset = 0
    while found := service.store.results(id, owner, offset, PAGE):
        yield from ((each, each.result) for each in found if each.result is not None)
        offset += len(found)


def _said(each: Input) -> str:
    """What the signs of a file's origin say, in the words that there are; empty where it was not read."""
    if each.provenance is None:
        return ""
    said = {sign["says"] for sign in each.provenance["signs"]}
    return "; ".join(word for word in get_args(Says) if word in said) or "none"


def _wider(row: bytes, cell: str) -> bytes:
    return row.removesuffix(b"\r\n") + f",{cell}\r\n".encode("ascii")


def _result(told: Mapping[str, Any]) -> Verdict | Failure:
    """A result as far as a table holds it."""
    if "error" in told:
        return Failure(told["input"], told["error"]["kind"], told["error"]["message"])
    low, high = told["doubt"]
    return Verdict(
        verdict=Ruling(told["verdict"]),
        score=told["score"],
        threshold=told["threshold"],
        doubt=(low, high),
        fpr=told["fpr"],
        streams=(),
        reasons=tuple(told["reasons"]),
        detector=told["detector"],
        input=told["input"],
        sha256=told["sha256"],
        width=told["width"],
        height=told["height"],
    )


def _download(coming: Iterator[bytes], kind: str, name: str) -> Response:
    # The id is ours, and fit for a header.
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Content-Type": kind}
    return StreamingResponse(coming, headers=headers)
