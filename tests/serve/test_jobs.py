"""Jobs: every input gets one result, whoever stops or listens on the way."""

from __future__ import annotations

import concurrent.futures
import csv
import dataclasses
import io
import json
import math
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import ExifTags, Image, PngImagePlugin

import assay
from assay.errors import OutputError
from assay.judge import sink
from assay.serve import backlog, models
from assay.serve.settings import Settings
from assay.serve.store import Store
from serving import Serve, finished, halted, kind, served, service_of, several, spooled

Picture = Callable[..., bytes]


def test_a_job_gives_each_input_its_verdict_or_its_error(
    serve: Serve, detector: assay.Detector, picture: Picture
) -> None:
    inputs = [("a.png", picture(20)), ("b.png", picture(220)), ("../c.png", picture(120)), ("d.png", b"no")]
    inputs += [("e.png", picture(90)[:80]), ("f.png", picture(90) + bytes(300_000))]
    with serve(pictures=100_000) as client:
        answer = client.post("/v1/jobs", files=several(*inputs))
        assert answer.status_code == 202
        models.Job.model_validate(answer.json())
        assert (answer.json()["total"], answer.json()["kind"]) == (6, "pictures")
        job = finished(client, answer.json()["id"])
        assert job["counts"] == {"fake": 1, "real": 1, "uncertain": 1, "failed": 3}
        assert (job["finished"], job["state"]) == (6, "done")
        assert job["created"] <= job["started"] <= job["ended"] <= time.time()
        told = client.get(f"/v1/jobs/{job['id']}/results").json()
        models.Results.model_validate(told)
        assert told["total"] == 6
        assert [(each["number"], each["name"]) for each in told["results"]] == [
            (number, name) for number, (name, _) in enumerate(inputs)
        ]
        for each, (name, data) in zip(told["results"][:3], inputs, strict=False):
            assert each["result"] == {**detector.judge(data).to_dict(), "input": name}
        kinds = [each["result"]["error"]["kind"] for each in told["results"][3:]]
        assert kinds == ["not_an_image", "truncated", "too_many_bytes"]
        page = client.get(f"/v1/jobs/{job['id']}/results", params={"offset": 4, "limit": 1}).json()
        assert [each["number"] for each in page["results"]] == [4]
        assert spooled(client) == []


def test_downloads_are_what_a_scan_writes(
    serve: Serve, detector: assay.Detector, picture: Picture, tmp_path: Path
) -> None:
    inputs = [("a.png", picture(20)), ('b, "c".png', picture(220)), ("=d.png", b"no")]
    with serve() as client:
        id = finished(client, client.post("/v1/jobs", files=several(*inputs)).json()["id"])["id"]
        lines = client.get(f"/v1/jobs/{id}/results.jsonl")
        assert lines.headers["Content-Type"] == "application/x-ndjson"
        assert lines.headers["Content-Disposition"] == f'attachment; filename="{id}.jsonl"'
        names = [json.loads(line)["input"] for line in lines.text.splitlines()]
        rows = client.get(f"/v1/jobs/{id}/results.csv")
        (tmp_path / "out.jsonl").write_bytes(lines.content)
        (tmp_path / "out.csv").write_bytes(rows.content)
        for name, format in (("out.jsonl", "json"), ("out.csv", "csv")):
            with sink.Results(tmp_path / name, format, detector.sha256) as results:
                assert [results.holds(each) for each in names] == ["judged", "judged", "failed"]
        read = list(csv.DictReader(io.StringIO(rows.text)))
        assert [row["verdict"] for row in read] == ["real", "fake", ""]
        assert read[0]["score"] == str(detector.judge(inputs[0][1]).score)
        report = client.get(f"/v1/jobs/{id}/report")
        assert report.headers["Content-Type"] == "text/html; charset=utf-8"
        assert report.text.startswith("<!doctype html>")
        assert "a.png" in report.text


def made_by(says: str) -> bytes:
    """A picture whose file says where it comes from: "camera" or "generated"; "" for nothing."""
    file, exif, info = io.BytesIO(), Image.Exif(), PngImagePlugin.PngInfo()
    if says == "camera":
        exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = "Canon", "EOS R5"
    if says == "generated":
        info.add_text("parameters", "a cat\nSteps: 20, Sampler: Euler a, Seed: 42")
    Image.new("RGB", (40, 40)).save(file, "PNG", exif=exif, pnginfo=info)
    return file.getvalue()


def test_what_files_say_of_their_origin_stands_beside_the_results(serve: Serve, tmp_path: Path) -> None:
    inputs = [(f"{says}.png", made_by(says)) for says in ("camera", "generated", "")] + [("no.png", b"no")]
    with serve() as client:
        given = client.post("/v1/jobs", files=several(*inputs), params={"provenance": True}).json()
        plain = client.post("/v1/jobs", files=several(*inputs)).json()
        assert (given["provenance"], plain["provenance"]) == (True, False)
        told, without = (
            client.get(f"/v1/jobs/{finished(client, job['id'])['id']}/results").json()["results"]
            for job in (given, plain)
        )
        models.Results.model_validate({"results": told, "total": 4})
        assert [each["result"] for each in told] == [each["result"] for each in without], "no score has to do with it"
        assert [each["provenance"] for each in without] == [None] * 4
        assert all("provenance" not in each["result"] for each in told)
        said = [each["provenance"] and [sign["says"] for sign in each["provenance"]["signs"]] for each in told]
        assert said == [["camera"], ["generated"], [], None]
        listened = [
            each for name, _, each in events(client.get(f"/v1/jobs/{given['id']}/events").text) if name == "result"
        ]
        assert sorted(listened, key=lambda each: each["number"]) == told
        lines = list(map(json.loads, client.get(f"/v1/jobs/{given['id']}/results.jsonl").text.splitlines()))
        assert lines == [{**each["result"], "provenance": each["provenance"]} for each in told]
        rows = client.get(f"/v1/jobs/{given['id']}/results.csv").text
        assert [row["provenance"] for row in csv.DictReader(io.StringIO(rows))] == ["camera", "generated", "none", ""]
        flat = client.get(f"/v1/jobs/{plain['id']}/results.csv").text
        assert [line.rpartition(",")[0] for line in rows.splitlines()] == flat.splitlines()


def events(text: str) -> list[tuple[str, str, Any]]:
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append((fields["event"], fields.get("id", ""), json.loads(fields["data"])))
    return found


def test_events_tell_each_result_once_and_go_on_from_any_of_them(serve: Serve, picture: Picture) -> None:
    inputs = [(f"{grey}.png", picture(grey)) for grey in range(10, 240, 20)] + [("ü\n.png", b"no")]
    with serve() as client:
        id = client.post("/v1/jobs", files=several(*inputs)).json()["id"]
        answer = client.get(f"/v1/jobs/{id}/events")
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        told = events(answer.text)
        results = [each for each in told if each[0] == "result"]
        assert sorted(each[2]["number"] for each in results) == list(range(len(inputs)))
        assert told[-1][0] == "end"
        assert told[-1][2] == finished(client, id)
        assert [each[2]["finished"] for each in told if each[0] == "progress"][-1] == len(inputs)
        for _, last, _ in (results[0], results[5], results[-1]):
            rest = events(client.get(f"/v1/jobs/{id}/events", headers={"Last-Event-ID": last}).text)
            missed = [each for each in results if int(each[1]) > int(last)]
            assert [each for each in rest if each[0] == "result"] == missed
            assert rest[-1][0] == "end"
        assert kind(client.get(f"/v1/jobs/{id}/events", headers={"Last-Event-ID": "x"})) == (400, "field")
        assert len(service_of(client).listening) == 0


def test_events_show_that_they_live_and_end_when_the_job_is_deleted(serve: Serve, picture: Picture) -> None:
    with serve(ping=0.1) as client, halted(client), concurrent.futures.ThreadPoolExecutor(1) as pool:
        id = client.post("/v1/jobs", files={"file": picture(90)}).json()["id"]
        listening = pool.submit(client.get, f"/v1/jobs/{id}/events")
        while not len(service_of(client).listening):
            time.sleep(0.01)
        time.sleep(0.4)
        assert client.delete(f"/v1/jobs/{id}").status_code == 204
        text = listening.result(10).text
        assert ": still here\n\n" in text
        assert events(text)[-1] == ("end", "", {"id": id, "state": "deleted"})


def test_listeners_are_limited(serve: Serve, picture: Picture) -> None:
    with serve(streams=1, stop=1) as client, halted(client), concurrent.futures.ThreadPoolExecutor(1) as pool:
        id = client.post("/v1/jobs", files={"file": picture(90)}).json()["id"]
        listening = pool.submit(client.get, f"/v1/jobs/{id}/events")
        while not len(service_of(client).listening):
            time.sleep(0.01)
        assert kind(client.get(f"/v1/jobs/{id}/events")) == (429, "busy")
        client.delete(f"/v1/jobs/{id}")
        listening.result(10)
        assert len(service_of(client).listening) == 0


def test_a_video_is_a_job_of_its_own_kind(serve: Serve, detector: assay.Detector, clip: bytes) -> None:
    with serve() as client:
        for query, every in (({}, None), ({"every": 0.5}, 0.5)):
            answer = client.post("/v1/jobs", files={"file": ("clip.mp4", clip)}, params=query).json()
            assert (answer["kind"], answer["every"]) == ("video", every)
            finished(client, answer["id"])
            (told,) = client.get(f"/v1/jobs/{answer['id']}/results").json()["results"]
            assert told["result"] == {**detector.judge(clip, every=every).to_dict(), "input": "clip.mp4"}
        for every in (0, -1, 1e9, "x"):
            assert kind(client.post("/v1/jobs", files={"file": clip}, params={"every": every})) == (400, "field")


def test_a_film_of_too_many_frames_is_a_failure(serve: Serve, clip: bytes) -> None:
    with serve(clip_frames=10) as client:
        id = client.post("/v1/jobs", files={"file": clip}, params={"every": 0.1}).json()["id"]
        assert finished(client, id)["counts"]["failed"] == 1
        (told,) = client.get(f"/v1/jobs/{id}/results").json()["results"]
        assert told["result"]["error"]["kind"] == "too_many_frames"


def test_a_job_that_is_sent_again_is_the_same_job(serve: Serve, picture: Picture) -> None:
    with serve() as client:

        def send(*files: tuple[str, bytes], name: str = "mine") -> Any:
            return client.post("/v1/jobs", files=several(*files), headers={"Idempotency-Key": name})

        first = send(("a.png", picture(20)))
        assert send(("a.png", picture(20))).json()["id"] == first.json()["id"]
        assert kind(send(("a.png", picture(30)))) == (409, "conflict")
        assert send(("a.png", picture(20)), name="other").json()["id"] != first.json()["id"]
        assert kind(send(("a.png", picture(20)), name="")) == (400, "field")
        finished(client, first.json()["id"])
        time.sleep(0.1)
        assert spooled(client) == []


def test_uploads_are_kept_only_where_that_is_asked_for_and_go_with_the_job(serve: Serve, picture: Picture) -> None:
    with serve() as client:
        for keep in (False, True):
            answer = client.post("/v1/jobs", files={"file": picture(90)}, params={"keep": keep})
            job = finished(client, answer.json()["id"])
            assert job["keep"] is keep
            assert len(spooled(client)) == keep
        assert f"assay_spool_bytes {len(picture(90)):.1f}" in client.get("/metrics").text
        assert client.delete(f"/v1/jobs/{job['id']}").status_code == 204
        assert spooled(client) == []
        assert kind(client.get(f"/v1/jobs/{job['id']}")) == (404, "missing")
        assert kind(client.delete(f"/v1/jobs/{job['id']}")) == (404, "missing")


def test_whatever_goes_wrong_with_one_look_jobs_go_on(
    serve: Serve, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "_AGAIN", 0.1)
    monkeypatch.setattr(backlog, "_IDLE", 0.1)
    faults: list[Exception] = [sqlite3.OperationalError("locking protocol"), OutputError("full", kind="disk")]

    def failing(call: Callable[..., Any], errors: list[Exception]) -> Callable[..., Any]:
        def first_fails(*given: Any, **named: Any) -> Any:
            if errors:
                raise errors.pop()
            return call(*given, **named)

        return first_fails

    with serve() as client:
        store = service_of(client).store
        for name in ("claim", "finish", "expire"):
            monkeypatch.setattr(store, name, failing(getattr(store, name), [*faults[name == "finish" :]]))
        id = client.post("/v1/jobs", files={"file": picture(20)}).json()["id"]
        assert finished(client, id)["counts"]["real"] == 1


def test_a_result_that_cannot_be_kept_is_a_failure(
    serve: Serve, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "_AGAIN", 0.1)
    with serve() as client:
        (judging,) = service_of(client).networks.detectors
        judge = judging.judge_embedded

        def no_number(*given: Any) -> Any:
            return [dataclasses.replace(verdict, score=math.nan) for verdict in judge(*given)]

        monkeypatch.setattr(judging, "judge_embedded", no_number)
        id = client.post("/v1/jobs", files={"file": picture(20)}).json()["id"]
        assert finished(client, id)["counts"]["failed"] == 1
        (told,) = client.get(f"/v1/jobs/{id}/results").json()["results"]
        assert told["result"]["error"]["kind"] == "internal"


def test_a_job_that_runs_can_be_deleted(serve: Serve, picture: Picture) -> None:
    with serve() as client:
        with halted(client):
            id = client.post("/v1/jobs", files=several(*[("a", picture(90))] * 20)).json()["id"]
            while client.get(f"/v1/jobs/{id}").json()["state"] != "running":
                time.sleep(0.01)
            assert client.delete(f"/v1/jobs/{id}").status_code == 204
        assert kind(client.get(f"/v1/jobs/{id}")) == (404, "missing")
        next = client.post("/v1/jobs", files={"file": picture(20)}).json()["id"]
        assert finished(client, next)["counts"]["real"] == 1
        assert spooled(client) == []


def test_a_jobs_time_is_over_some_day(serve: Serve, picture: Picture) -> None:
    with serve(keep=0.0, sweep=0.2) as client:
        id = client.post("/v1/jobs", files={"file": picture(90)}, params={"keep": True}).json()["id"]
        until = time.monotonic() + 10
        while client.get(f"/v1/jobs/{id}").status_code == 200:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert spooled(client) == []


def test_a_job_has_limits(serve: Serve, picture: Picture, tmp_path: Path) -> None:
    data = picture(90)
    with serve(files=3, job_bytes=40_000, pictures=40_000) as client:
        assert kind(client.post("/v1/jobs", files=several(*[("a", data)] * 4))) == (413, "too_many_files")
        assert kind(client.post("/v1/jobs", files=several(*[("a", data + bytes(39_000))] * 3))) == (
            413,
            "too_many_bytes",
        )
        assert kind(client.post("/v1/jobs")) == (400, "field")
        assert spooled(client) == []
    with serve(backlog=1) as client, halted(client):
        assert client.post("/v1/jobs", files=several(*[("a", data)] * 12)).json()["total"] == 12
        assert kind(client.post("/v1/jobs", files={"file": data})) == (429, "busy")
    with serve(spool_bytes=1, data=tmp_path / "other") as client:
        assert client.post("/v1/jobs", files={"file": data}, params={"keep": True}).status_code == 202
        assert kind(client.post("/v1/jobs", files={"file": data})) == (429, "busy")


def test_what_a_stop_leaves_goes_on_at_the_next_start(
    settings: Settings, picture: Picture, detector: assay.Detector
) -> None:
    data = [picture(grey) for grey in range(10, 250, 12)]
    with served(settings, stop=1) as client:
        pids = service_of(client).decoders.pids
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        id = client.post("/v1/jobs", files=several(*[(f"{at}.png", each) for at, each in enumerate(data)])).json()["id"]
        assert client.get(f"/v1/jobs/{id}").json()["finished"] == 0
        (settings.data / "spool" / ("ab" * 16)).write_bytes(b"an upload that was judged at once, before a kill")
    with served(settings) as client:
        job = finished(client, id)
        assert job["counts"]["failed"] == 0
        told = client.get(f"/v1/jobs/{id}/results").json()["results"]
        assert [each["result"]["score"] for each in told] == [detector.judge(each).score for each in data]
        assert spooled(client) == []


def test_an_input_that_brings_the_server_down_is_given_up(settings: Settings, picture: Picture) -> None:
    with served(settings, stop=1) as client:
        for pid in service_of(client).decoders.pids:
            os.kill(pid, signal.SIGSTOP)
        id = client.post("/v1/jobs", files={"file": picture(90)}).json()["id"]
    store = Store(settings.data / "jobs.sqlite", service_of(client).spool)
    for _ in range(settings.tries):
        store.claim()
        store.give_back(tried=True)  # as after a kill
    store.close()
    with served(settings) as client:
        finished(client, id)
        (told,) = client.get(f"/v1/jobs/{id}/results").json()["results"]
        assert told["result"]["error"]["kind"] == "crashed"
