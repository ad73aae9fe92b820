"""A server answers as the detector would, loses nothing that it accepted, and keeps nothing that it need not."""

from __future__ import annotations

import base64
import concurrent.futures
import errno
import hashlib
import io
import json
import os
import re
import signal
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from PIL import ExifTags, Image
from starlette.testclient import TestClient

import assay
from assay.errors import BundleError, OutputError
from assay.image.alter import OPERATIONS
from assay.image.view import View
from assay.serve import backlog, models, service
from assay.serve.app import create
from assay.serve.service import Service
from assay.serve.settings import Settings
from serving import Serve, finished, gif, halted, judge, kind, served, service_of, several, spooled, until

Picture = Callable[..., bytes]


# ── one picture ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_verdicts_are_those_of_the_detector(
    serve: Serve, detector: assay.Detector, picture: Picture, clip: bytes
) -> None:
    inputs = [picture(20), picture(220, 300, 40), picture(130, 20, 18), picture(90, 8, 8), gif(10, 100, 250), clip]
    with serve(in_memory=20_000) as client:
        for data in inputs:
            answer = judge(client, data, "said.png")
            assert answer.status_code == 200, answer.text
            assert answer.json()["verdict"] == {**detector.judge(data).to_dict(), "input": "said.png"}
            models.Judged.model_validate(answer.json())
        assert spooled(client) == []


def test_verdicts_of_several_streams_and_detectors_are_theirs(
    serve: Serve,
    detector: assay.Detector,
    bundle_folder: Path,
    voters: Path,
    parts: Any,
    tmp_path: Path,
    picture: Picture,
) -> None:
    parts.card = parts.card.model_copy(update={"name": "voters"})
    several_streams = assay.load(parts.write(tmp_path / "named").folder, threads=1, device="cpu")
    with serve(detectors=(str(bundle_folder), str(tmp_path / "named"))) as client:
        for size in ((80, 64), (20, 20), (40, 30)):
            data = picture(150, *size)
            for name, judging in (("tiny", detector), ("voters", several_streams)):
                told = judge(client, data, "<bytes>", detector=name).json()["verdict"]
                assert told == judging.judge(data).to_dict()
        listed = client.get("/v1/detectors").json()["detectors"]
        assert [(each["name"], each["default"]) for each in listed] == [("tiny", True), ("voters", False)]
        assert kind(judge(client, picture(20), detector="tine")) == (400, "unknown")
        assert "tiny" in judge(client, picture(20), detector="tine").json()["error"]["message"]
        assert kind(judge(client, picture(20), detector=str(bundle_folder))) == (400, "unknown")
        card = client.get("/v1/detectors/voters").json()
        models.Card.model_validate(card)
        judging_by = json.loads((tmp_path / "named" / "judge.json").read_text())["ensemble"]
        for name in ("threshold", "fpr", "errors", "rows"):
            assert card[name] == judging_by[name]
        assert "folder" not in card
        assert str(tmp_path) not in json.dumps(card)
        assert kind(client.get("/v1/detectors/none")) == (404, "missing")


def test_pictures_that_wait_are_judged_together_and_as_if_alone(
    serve: Serve, detector: assay.Detector, picture: Picture, clip: bytes
) -> None:
    inputs = [*(picture(grey) for grey in range(20, 200, 20)), clip, picture(130, 20, 18), clip]
    expected = [{**detector.judge(data).to_dict(), "input": "a.png"} for data in inputs]
    with serve(linger=0.3, crops=1_000) as client:
        with halted(client), concurrent.futures.ThreadPoolExecutor(len(inputs)) as pool:
            waiting = [pool.submit(judge, client, data) for data in inputs]
            while len(service_of(client).gate) < len(inputs):
                time.sleep(0.01)
            for pid in service_of(client).decoders.pids:
                os.kill(pid, signal.SIGCONT)
            assert [each.result().json()["verdict"] for each in waiting] == expected
        text = client.get("/metrics").text
        runs = int(float(re.findall(r"assay_batch_pictures_count (\S+)", text)[0]))
        seen = int(float(re.findall(r"assay_batch_pictures_sum (\S+)", text)[0]))
        assert runs < seen / 2


def test_one_picture_that_the_networks_cannot_take_does_not_disturb_others(
    serve: Serve, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(linger=0.3) as client:
        (judging,) = service_of(client).networks.detectors
        embed = judging.embed_prepared

        def fails(pictures: Any, runs: Any = ()) -> Any:
            if any(each.width == 33 for each in pictures):
                raise BundleError("tiny.judge.onnx can't be run", kind="invalid")
            return embed(pictures, runs)

        monkeypatch.setattr(judging, "embed_prepared", fails)
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            data = [picture(20), picture(20, 33, 40), picture(30), picture(40)]
            answers = list(pool.map(lambda each: judge(client, each), data))
        assert [answer.status_code for answer in answers] == [200, 500, 200, 200]
        assert kind(answers[1]) == (500, "invalid")
        assert "tiny.judge.onnx" not in answers[1].text


def test_what_the_file_says_of_its_origin_stands_beside_the_verdict(serve: Serve) -> None:
    exif, file = Image.Exif(), io.BytesIO()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = "Canon", "EOS R5"
    Image.new("RGB", (40, 40)).save(file, "JPEG", exif=exif)
    with serve() as client:
        told = judge(client, file.getvalue()).json()
        assert [sign["says"] for sign in told["provenance"]["signs"]] == ["camera"]
        without = judge(client, file.getvalue(), provenance=False).json()
        assert without["provenance"] is None
        assert without["verdict"] == told["verdict"]


def test_faces_are_told_where_a_stream_looks_for_them(
    serve: Serve, parts: Any, tmp_path: Path, picture: Picture
) -> None:
    pytest.importorskip("mtcnnruntime")
    parts.add("face", view=View(size=32, layout="faces"))
    folder = parts.write(tmp_path / "faces").folder
    with serve() as client:
        assert judge(client, picture(90)).json()["faces"] is None
    with serve(detectors=(str(folder),)) as client:
        told = judge(client, picture(90)).json()
        assert told["faces"] == []
        assert told["verdict"]["streams"][1] == {"name": "face", "applies": False, "reason": "no face found"}


def test_what_cannot_be_judged_is_an_error_and_never_a_score(serve: Serve, picture: Picture) -> None:
    whole = picture(90)
    with serve(pictures=30_000, pixels=100_000) as client:
        assert kind(judge(client, b"nothing")) == (415, "not_an_image")
        assert kind(judge(client, b"%PDF-1.7 and so on")) == (415, "unsupported")
        assert kind(judge(client, b"")) == (422, "empty")
        assert kind(judge(client, whole[:100])) == (422, "truncated")
        spoiled = whole[:60] + bytes([whole[60] ^ 255]) + whole[61:]
        assert kind(judge(client, spoiled)) == (422, "corrupt")
        file = io.BytesIO()
        Image.new("L", (2_000, 100)).save(file, "PNG")
        assert kind(judge(client, file.getvalue())) == (422, "too_many_pixels")
        assert kind(judge(client, whole + bytes(30_000))) == (413, "too_many_bytes")
        assert kind(judge(client, whole + bytes(300_000))) == (413, "too_many_bytes")
        text = client.get("/metrics").text
        assert 'assay_failures_total{kind="truncated"} 1.0' in text
        assert 'assay_verdicts_total{verdict="real"}' not in text
        assert judge(client, whole).status_code == 200


def test_a_form_that_is_none_is_refused_with_what_to_send(serve: Serve, picture: Picture) -> None:
    with serve() as client:
        post = client.post
        assert kind(post("/v1/judge")) == (400, "field")
        assert kind(post("/v1/judge", content=picture(90))) == (400, "field")
        assert kind(post("/v1/judge", json={"file": "a"})) == (400, "field")
        assert kind(post("/v1/judge", files={"picture": picture(90)})) == (400, "field")
        assert kind(post("/v1/judge", files=several(("a", picture(90)), ("b", picture(20))))) == (400, "field")
        form = {"Content-Type": "multipart/form-data; boundary=x"}
        for body in (b"", b"--x\r\n", b"nonsense", b"--x\r\n\r\n\r\n--x--\r\n", b"--x\r\nA: " + b"b" * 9_000):
            assert kind(post("/v1/judge", content=body, headers=form)) == (400, "field")
        assert kind(post("/v1/judge", content=b"a", headers={"Content-Type": "multipart/form-data"})) == (400, "field")
        long = {"Content-Type": "multipart/form-data; boundary=" + "x" * 999}
        assert kind(post("/v1/judge", content=b"a", headers=long)) == (400, "field")
        assert kind(judge(client, picture(90), provenance="perhaps")) == (400, "field")
        assert kind(post("/v1/judge", data={"note": "x" * 99_999}, files={"file": picture(90)})) == (413, "too_large")
        assert spooled(client) == []


def test_names_are_data_and_no_more(serve: Serve, picture: Picture, tmp_path: Path) -> None:
    names = ["../../../etc/passwd", "/etc/passwd", "a\x00b.png", "ü – 雨.webp", "x" * 2_000, "=cmd()", "con", "."]
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    with serve(in_memory=0) as client:
        before = sorted(tmp_path.rglob("*"))
        for name in names:
            head = f'--x\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
            body = head.encode() + picture(90) + b"\r\n--x--\r\n"
            answer = client.post("/v1/judge", content=body, headers=form)
            assert answer.json()["verdict"]["input"] == name[:255]
            id = client.post("/v1/jobs", content=body, headers=form).json()["id"]
            finished(client, id)
            (told,) = client.get(f"/v1/jobs/{id}/results").json()["results"]
            assert (told["name"], told["result"]["input"]) == (name[:255], name[:255])
        assert sorted(tmp_path.rglob("*")) == before


def test_fields_that_nobody_asked_for_are_not_read_without_end(serve: Serve, picture: Picture) -> None:
    other = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n'
    mine = b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + picture(90) + b"\r\n--x--\r\n"
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    with serve() as client:
        assert client.post("/v1/judge", content=99 * other + mine, headers=form).status_code == 200
        assert kind(client.post("/v1/judge", content=999 * other + mine, headers=form)) == (413, "too_large")


@pytest.mark.parametrize("slow", ["write", "fsync", "fsync of the folder"])
def test_an_upload_that_takes_too_long_to_reach_the_disk_leaves_nothing(
    serve: Serve, picture: Picture, monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    name = slow.split()[0]
    real, seen = getattr(os, name), list[bool]()

    def waits(handle: int, *more: Any) -> Any:
        if stat.S_ISDIR(os.fstat(handle).st_mode) == ("folder" in slow):
            before = os.fstat(handle)
            time.sleep(0.4)
            seen.append(os.path.samestat(before, os.fstat(handle)))  # it is not closed, and no other file's by now
        return real(handle, *more)

    with serve(upload=0.2, in_memory=0) as client:
        monkeypatch.setattr(os, name, waits)
        assert kind(judge(client, picture(90))) == (408, "slow")
        until(lambda: bool(seen))
        time.sleep(0.05)
        assert seen == [True]
        assert spooled(client) == []


@pytest.mark.parametrize("path", ["/v1/judge", "/v1/alter", "/v1/explain"])
def test_a_client_that_leaves_is_not_waited_for(serve: Serve, picture: Picture, path: str) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + picture(90) + b"\r\n--x--\r\n"

    async def ask(app: Any, leaves: Any) -> None:
        coming = iter([{"type": "http.request", "body": body}])

        async def receive() -> Any:
            if (message := next(coming, None)) is not None:
                return message
            while not leaves():
                await anyio.sleep(0.01)
            return {"type": "http.disconnect"}

        async def answer(message: Any) -> None:
            pass

        headers = [(b"host", b"localhost"), (b"content-type", b"multipart/form-data; boundary=x")]
        scope = {"type": "http", "method": "POST", "path": path, "headers": headers, "query_string": b""}
        await app({**scope, "client": ("127.0.0.1", 1)}, receive, answer)

    with serve(in_memory=0) as client:
        places = service_of(client).explaining if path == "/v1/explain" else service_of(client).gate
        with halted(client):
            assert client.portal is not None
            asking = client.portal.start_task_soon(ask, client.app, lambda: len(places) and spooled(client))
            asking.result(10)
            assert len(places) == 0
            assert spooled(client) == []
        assert judge(client, picture(20)).status_code == 200


def test_a_client_that_is_too_slow_is_left(serve: Serve, picture: Picture) -> None:
    async def send(app: Any, pause: float, chunks: list[bytes]) -> tuple[int, dict[str, str]]:
        told: dict[str, Any] = {}
        coming = iter(chunks)

        async def receive() -> Any:
            await anyio.sleep(pause)
            return {"type": "http.request", "body": next(coming), "more_body": True}

        async def answer(message: Any) -> None:
            if message["type"] == "http.response.start":
                told["status"] = message["status"]
                told["headers"] = {name.decode(): value.decode() for name, value in message["headers"]}

        headers = [(b"host", b"localhost"), (b"content-type", b"multipart/form-data; boundary=x")]
        scope = {"type": "http", "method": "POST", "path": "/v1/judge", "headers": headers, "query_string": b""}
        await app({**scope, "client": ("127.0.0.1", 1)}, receive, answer)
        return told["status"], told["headers"]

    start = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    with serve(stall=0.3, upload=1.0, in_memory=0) as client:
        assert client.portal is not None
        for pause in (5.0, 0.05):  # silent; never silent for long, and never done
            chunks = [start, *[picture(90)] * 1_000]
            status, headers = client.portal.call(send, client.app, pause, chunks)
            assert status == 408
            assert headers["connection"] == "close"
        assert spooled(client) == []
        assert len(service_of(client).gate) == 0


# ── the queue ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_over_is_told_when_to_come_again_and_nothing_accepted_is_lost(serve: Serve, picture: Picture) -> None:
    with serve(queue=3, queue_client=3) as client, concurrent.futures.ThreadPoolExecutor(3) as pool:
        with halted(client):
            waiting = [pool.submit(judge, client, picture(grey)) for grey in (20, 120, 220)]
            while len(service_of(client).gate) < 3:
                time.sleep(0.01)
            for _ in range(3):
                refused = judge(client, picture(90))
                assert kind(refused) == (429, "busy")
                assert int(refused.headers["Retry-After"]) >= 1
            assert client.get("/health").status_code == 200
        assert [each.result().json()["verdict"]["verdict"] for each in waiting] == ["real", "uncertain", "fake"]
        assert judge(client, picture(90)).status_code == 200


def test_what_takes_too_long_is_answered_and_not_judged_later(serve: Serve, picture: Picture) -> None:
    with serve(answer=0.3) as client:
        with halted(client):
            assert kind(judge(client, picture(90))) == (408, "timeout")
            assert kind(judge(client, picture(90))) == (408, "timeout")
        until(lambda: judge(client, picture(20)).status_code == 200)
        assert len(service_of(client).gate) == 0


def test_a_decoder_that_hangs_costs_its_own_input_and_is_counted(serve: Serve, picture: Picture) -> None:
    with serve(decode=0.4) as client:
        (pid,) = service_of(client).decoders.pids
        os.kill(pid, signal.SIGSTOP)
        assert kind(judge(client, picture(90))) == (422, "too_slow")
        assert judge(client, picture(90)).status_code == 200
        text = client.get("/metrics").text
        assert "assay_decoder_restarts_total 1.0" in text
        assert 'assay_failures_total{kind="too_slow"} 1.0' in text


def test_where_no_process_can_be_begun_nothing_is_said_of_the_input(
    serve: Serve, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "_AGAIN", 0.1)
    with serve() as client:
        decoders, (pid,) = service_of(client).decoders, service_of(client).decoders.pids
        begin = decoders._begin

        def fails() -> Any:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

        monkeypatch.setattr(decoders, "_begin", fails)
        os.kill(pid, signal.SIGKILL)
        until(lambda: pid not in decoders.pids or not any(each.alive for each in decoders._processes))
        refused = judge(client, picture(90))
        assert kind(refused) == (503, "decoder")
        assert refused.headers["Retry-After"]
        id = client.post("/v1/jobs", files={"file": picture(20)}).json()["id"]
        time.sleep(0.3)
        assert client.get(f"/v1/jobs/{id}").json()["finished"] == 0
        monkeypatch.setattr(decoders, "_begin", begin)
        assert finished(client, id)["counts"]["real"] == 1


# ── altered and explained ────────────────────────────────────────────────────────────────────────────────────────────


def test_an_altered_picture_is_judged_as_if_it_had_been_sent_so(
    serve: Serve, detector: assay.Detector, flat: Any, picture: Picture
) -> None:
    pixels = OPERATIONS["jpeg"].apply(OPERATIONS["scale"].apply(flat(130), {"factor": 0.5}), {"quality": 10})
    with serve() as client:
        answer = client.post("/v1/alter", files={"file": picture(130)}, params={"jpeg": 10, "scale": 0.5})
        told = answer.json()
        models.Altered.model_validate(told)
        assert told["verdict"]["score"] == detector.judge(pixels).score
        assert told["verdict"]["sha256"] == hashlib.sha256(picture(130)).hexdigest()
        head, _, data = told["preview"].partition(",")
        assert head == "data:image/jpeg;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as shown:
            assert shown.size == (40, 32)
        plain = client.post("/v1/alter", files={"file": ("a.png", picture(130))}).json()
        assert plain["verdict"] == judge(client, picture(130)).json()["verdict"]
        for bad in ({"jpeg": 9}, {"jpeg": 101}, {"scale": 0.2}, {"scale": 3}, {"blur": -1}, {"blur": 5}, {"jpeg": "x"}):
            assert kind(client.post("/v1/alter", files={"file": picture(130)}, params=bad)) == (400, "field")


def drawn(uri: str) -> Any:
    head, _, data = uri.partition(",")
    assert head == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert image.mode == "L"
        return np.asarray(image)


def halves(width: int, height: int) -> bytes:
    """Dark on the left, bright on the right."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, width // 2 :] = 240
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("toward", ["fake", "real"])
def test_an_explanation_is_the_detectors_with_its_maps_as_pictures(
    serve: Serve, detector: assay.Detector, toward: str
) -> None:
    data = halves(90, 60)
    expected = detector.explain(data, toward=toward)
    with serve() as client:
        answer = client.post("/v1/explain", files={"file": ("<bytes>", data)}, params={"toward": toward})
        told = answer.json()
        models.Explained.model_validate(told)
        assert told["explanation"] == json.loads(json.dumps(expected.to_dict()))
        assert (told["width"], told["height"]) == (90, 60)
        assert list(told["maps"]) == ["grey"]
        assert expected.map is not None
        np.testing.assert_allclose(drawn(told["map"]), np.rint(255 * expected.map), atol=1)
        assert drawn(told["maps"]["grey"]).max() == 255
        large = client.post("/v1/explain", files={"file": halves(1_200, 300)}).json()
        assert drawn(large["map"]).shape == (128, 512)
        assert kind(client.post("/v1/explain", files={"file": data}, params={"toward": "x"})) == (400, "field")
        assert kind(client.post("/v1/explain", files={"file": b"no"})) == (415, "not_an_image")
        assert spooled(client) == []


def test_of_a_clip_the_frame_is_explained_that_says_it_most_clearly(
    serve: Serve, detector: assay.Detector, tmp_path: Path, clip: bytes
) -> None:
    with serve(in_memory=0) as client:
        for toward, data in (("fake", clip), ("real", clip), ("fake", gif(10, 250, 30))):
            expected = detector.explain(data, toward=toward).to_dict()
            answer = client.post("/v1/explain", files={"file": ("<bytes>", data)}, params={"toward": toward})
            told = answer.json()["explanation"]
            assert told["frame"] == expected["frame"]
            assert told["verdict"] == json.loads(json.dumps(expected["verdict"]))
            assert told["streams"][0]["score"] == expected["streams"][0]["score"]


def test_a_picture_that_is_too_large_to_explain_is_judged_all_the_same(serve: Serve, picture: Picture) -> None:
    with serve(explained=80 * 64) as client:
        for data, status in ((picture(220, 80, 64), 200), (picture(220, 81, 64), 422)):
            assert client.post("/v1/explain", files={"file": ("a.png", data)}).status_code == status
        assert "cut out what matters" in client.post("/v1/explain", files={"file": ("a.png", data)}).text
        assert judge(client, data).status_code == 200


def test_a_detector_that_cannot_explain_says_so(serve: Serve, bundle_folder: Path, parts: Any, tmp_path: Path) -> None:
    parts.files.pop("tiny.explain.onnx")
    folder = parts.write(tmp_path / "mute").folder
    with serve(detectors=(str(folder),)) as client:
        answer = client.post("/v1/explain", files={"file": halves(90, 60)})
        assert kind(answer) == (422, "missing")
        assert "tiny.explain.onnx" in answer.json()["error"]["message"]


def test_an_explanation_that_takes_too_long_is_given_up(
    serve: Serve, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from assay.serve import worker

    ended: list[bool] = []

    def slow(detector: Any, pixels: Any, *, toward: str, progress: Any) -> Any:
        try:
            for step in range(1_000):
                time.sleep(0.02)
                progress("tiny", step, 1_000)
        except BaseException:
            ended.append(True)
            raise

    monkeypatch.setattr(worker, "explain", slow)
    with serve(explain=0.3, explanations=1) as client, concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.post, "/v1/explain", files={"file": picture(90)})
        while not len(service_of(client).explaining):
            time.sleep(0.01)
        assert kind(client.post("/v1/explain", files={"file": picture(90)})) == (429, "busy")
        assert judge(client, picture(90)).status_code == 200
        assert kind(waiting.result()) == (408, "timeout")
        until(lambda: bool(ended))


# ── the server ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_server_that_stops_takes_no_more_work_and_still_tells_of_it(serve: Serve, picture: Picture) -> None:
    with serve() as client:
        id = client.post("/v1/jobs", files={"file": picture(90)}).json()["id"]
        service_of(client).stopping = True
        for path in ("/v1/judge", "/v1/explain", "/v1/alter", "/v1/jobs"):
            refused = client.post(path, files={"file": picture(90)})
            assert kind(refused) == (503, "stopping")
            assert refused.headers["Retry-After"]
        assert kind(client.get("/ready")) == (503, "stopping")
        assert client.get("/health").status_code == 200
        assert client.get(f"/v1/jobs/{id}").status_code == 200


def test_a_server_that_is_not_ready_says_so(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, opens = threading.Event(), Service._open
    monkeypatch.setattr(Service, "_open", lambda self: (loaded.wait(20), opens(self)))
    with TestClient(create(settings), base_url="http://localhost") as client:
        assert client.get("/health").status_code == 200
        for path in ("/ready", "/v1/detectors", "/v1/jobs/x"):
            refused = client.get(path)
            assert kind(refused) == (503, "starting")
            assert refused.headers["Retry-After"]
        loaded.set()
        until(lambda: client.get("/ready").status_code == 200)


def test_a_stop_while_it_loads_leaves_nothing(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    real, loading = service.bundle.read, threading.Event()

    def slow(folder: Path) -> Any:
        loading.set()
        time.sleep(0.3)
        return real(folder)

    monkeypatch.setattr(service.bundle, "read", slow)
    stopped = create(settings)
    with TestClient(stopped, base_url="http://localhost"):
        assert loading.wait(10)
    assert stopped.state.service.decoders.pids == []
    monkeypatch.undo()
    with served(settings) as client:
        assert client.get("/ready").status_code == 200


def test_a_folder_has_one_server(settings: Settings, serve: Serve) -> None:
    with serve(), pytest.raises(AssertionError, match="another process"), served(settings):
        pass


def test_a_disk_that_fails_is_told_without_the_servers_folders(
    serve: Serve, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve() as client:

        def full(*_: object, **__: object) -> Any:
            raise OutputError("/secret/jobs.sqlite: the disk is full", kind="disk")

        monkeypatch.setattr(service_of(client).store, "create", full)
        answer = client.post("/v1/jobs", files={"file": picture(90)})
        assert kind(answer) == (503, "disk")
        assert "secret" not in answer.text
        assert spooled(client) == []


def test_what_the_server_counts_is_there_to_be_asked(serve: Serve, picture: Picture) -> None:
    with serve() as client:
        judge(client, picture(20), "secret name.png")
        text = client.get("/metrics").text
        for line in (
            'assay_requests_total{method="POST",route="/v1/judge",status="200"} 1.0',
            'assay_request_seconds_count{route="/v1/judge"} 1.0',
            'assay_verdicts_total{verdict="real"} 1.0',
            "assay_batch_pictures_count 1.0",
            "assay_batch_crops_sum 4.0",
            'assay_queue{what="decode"} 0.0',
            'assay_queue{what="jobs"} 0.0',
            "assay_spool_bytes 0.0",
            "assay_decoder_restarts_total 0.0",
        ):
            assert line in text
        assert "secret" not in text


def test_the_description_names_every_error_and_asks_nobody_for_anything(serve: Serve) -> None:
    with serve() as client:
        told = client.get("/openapi.json").json()
        assert set(told["paths"]) >= {"/v1/judge", "/v1/explain", "/v1/alter", "/v1/jobs", "/v1/jobs/{id}/events"}
        for path, routes in told["paths"].items():
            for method, route in routes.items():
                assert {"401", "403", "500", "503"} <= set(route["responses"]), path
                assert route["description"], path
                for status, answer in route["responses"].items():
                    schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
                    if int(status) >= 400:
                        assert schema == {"$ref": "#/components/schemas/Error"}, (path, status)
                if method == "post" and path != "/v1/fetch":
                    content = route["requestBody"]["content"]["multipart/form-data"]["schema"]
                    assert content["required"] == ["file"]
                    assert {"400", "408", "413", "429"} <= set(route["responses"])
        assert "HTTPValidationError" not in json.dumps(told)


def test_the_description_names_this_servers_detectors_and_each_paths_methods(serve: Serve) -> None:
    with serve() as client:
        told = client.get("/openapi.json").json()
        names = [each for each in told["paths"]["/v1/judge"]["post"]["parameters"] if each["name"] == "detector"]
        assert names[0]["schema"]["enum"] == ["tiny"]
        refused = client.patch("/v1/jobs/x")
        assert kind(refused) == (405, "method")
        assert refused.headers["Allow"] == "DELETE, GET"
        assert kind(client.get("/v1/jobs/")) == (404, "missing")


def test_only_what_lies_in_the_page_is_given_and_no_path_is_joined(serve: Serve) -> None:
    with serve() as client:
        for path in ("/static/..%2fapp.py", "/static/%2e%2e/app.py", "/static/app.py", "/static/", "/static/a/b"):
            assert client.get(path).status_code == 404
        assert "swagger" not in client.get("/docs").text.lower()


def test_the_page_is_given_with_all_that_it_is_made_of(serve: Serve) -> None:
    with serve() as client:
        for path in ("/", "/docs"):
            text = client.get(path).text
            assert text.lower().startswith("<!doctype html>")
            wanted = re.findall(r'(?:src|href)="(/static/[^"]+)"', text)
            assert wanted
            for asset in wanted:
                answer = client.get(asset)
                assert answer.status_code == 200
                kind_of = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}[asset.rpartition(".")[2]]
                assert answer.headers["Content-Type"].startswith(kind_of)
