"""Whatever becomes of a process that decodes, its input alone fails."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import math
import os
import platform
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

import assay
from assay.errors import AssayError, InputError
from assay.image.decode import DEFAULT, Limits, decode
from assay.image.view import View
from assay.judge.prepared import Prepared
from assay.judge.tracks import Sight
from assay.serve import decoder, decoding, wire
from assay.serve.decoding import Decoded, Decoders, Task
from assay.serve.queue import Over
from assay.types import Box
from serving import gif, until

Begin = Callable[..., contextlib.AbstractContextManager[Decoders]]


@pytest.fixture
def begin(detector: assay.Detector, bundle_folder: Path) -> Begin:
    """`begin(**options)`: one process, unless more are asked for."""

    @contextlib.contextmanager
    def make(limits: Limits = DEFAULT, **options: Any) -> Iterator[Decoders]:
        decoders = Decoders([detector], [bundle_folder], limits, **{"count": 1, **options})
        decoders.start()
        try:
            yield decoders
        finally:
            decoders.stop(now=True)

    return make


def done(decoders: Decoders, task: Task) -> Decoded:
    return decoders.submit("me", task).result(60)


def failed(decoders: Decoders, task: Task) -> str:
    with pytest.raises(InputError) as error:
        done(decoders, task)
    return error.value.kind


def same(one: Prepared, other: Prepared) -> bool:
    assert list(one.crops) == list(other.crops)
    for view, crops in one.crops.items():
        np.testing.assert_array_equal(crops, other.crops[view])
    fields = ("sha256", "width", "height", "frame_numbers", "frame_count", "times", "boxes", "absent", "shown")
    return all(getattr(one, name) == getattr(other, name) for name in fields)


def clip(path: Path, count: int) -> Path:
    """A video of so many frames, ten a second."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        for grey in range(count):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((64, 64, 3), 5 * grey, np.uint8))))
        file.mux(stream.encode(None))
    return path


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@contextlib.contextmanager
def halted(decoders: Decoders) -> Iterator[int]:
    """The one process, which does not get on."""
    (pid,) = decoders.pids
    os.kill(pid, signal.SIGSTOP)
    yield pid


# ── what comes back ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_pictures_are_cut_as_the_detector_cuts_them(
    begin: Begin, detector: assay.Detector, picture: Callable[..., bytes], tmp_path: Path
) -> None:
    small, large = picture(90, 20, 18), picture(200, 300, 90)
    (tmp_path / "large").write_bytes(large)
    with begin() as decoders:
        for source, data in ((small, small), (tmp_path / "large", large)):
            found = done(decoders, Task("cut", source, name="said.png"))
            assert found.still is not None
            assert found.still.input == "said.png"
            assert same(found.still, detector.cut(decode(data), ""))
            assert found.provenance is None


def test_a_clip_comes_in_parts_with_the_frames_that_are_judged(
    begin: Begin, detector: assay.Detector, tmp_path: Path
) -> None:
    path = clip(tmp_path / "clip.mp4", 30)
    parts: list[Prepared] = []
    with begin() as decoders:
        assert done(decoders, Task("cut", path, each=parts.append)).still is None
        whole = detector.cut(decode(path), "")
        assert [number for part in parts for number in part.frame_numbers] == list(whole.frame_numbers)
        assert len(parts) > 1
        np.testing.assert_array_equal(
            np.concatenate([next(iter(part.crops.values())) for part in parts]), next(iter(whole.crops.values()))
        )
        parts.clear()
        done(decoders, Task("cut", path, every=0.5, each=parts.append))
        assert [number for part in parts for number in part.frame_numbers] == [0, 5, 10, 15, 20, 25]


def test_what_cannot_be_judged_says_why_and_the_process_goes_on(begin: Begin, picture: Callable[..., bytes]) -> None:
    with begin(Limits(pixels=10_000)) as decoders:
        pids = decoders.pids
        whole = picture(90)
        assert failed(decoders, Task("cut", whole[:100])) == "truncated"
        assert failed(decoders, Task("cut", b"GIF89a")) == "truncated"
        assert failed(decoders, Task("cut", picture(90, 200, 100))) == "too_many_pixels"
        assert failed(decoders, Task("cut", Path("/nowhere"))) == "missing"
        assert done(decoders, Task("cut", whole)).still is not None
        assert decoders.pids == pids


def test_a_picture_is_altered_cut_and_shown(
    begin: Begin, detector: assay.Detector, picture: Callable[..., bytes]
) -> None:
    data = picture(120, 800, 100)
    with begin() as decoders:
        found = done(decoders, Task("alter", data, changes={"jpeg": 10, "scale": 0.5, "blur": 2.0}))
        assert found.still is not None
        assert (found.still.width, found.still.height) == (400, 50)
        assert found.still.sha256 == hashlib.sha256(data).hexdigest()
        as_it_is = done(decoders, Task("alter", data, changes={}))
        assert as_it_is.still is not None
        assert same(as_it_is.still, detector.cut(decode(data), ""))
        with Image.open(io.BytesIO(as_it_is.preview)) as shown:
            assert (shown.format, shown.size) == ("JPEG", (512, 64))


def test_a_frame_is_given_by_its_number(begin: Begin) -> None:
    data = gif(10, 100, 200)
    with begin() as decoders:
        first = done(decoders, Task("frame", data))
        assert first.pixels is not None
        assert (first.about["frames"], first.about["frame"], int(first.pixels.mean())) == (3, 0, 10)
        last = done(decoders, Task("frame", data, number=2))
        assert last.pixels is not None
        assert (last.about["frame"], int(last.pixels.mean())) == (2, 200)
        assert failed(decoders, Task("frame", data, number=3)) == "missing"


def test_what_a_file_says_of_its_origin_is_read_in_the_process_too(begin: Begin) -> None:
    info, file = PngImagePlugin.PngInfo(), io.BytesIO()
    info.add_text("parameters", "a cat\nSteps: 20, Sampler: Euler a, Seed: 42")
    Image.new("RGB", (40, 40)).save(file, "PNG", pnginfo=info)
    with begin() as decoders:
        found = done(decoders, Task("cut", file.getvalue(), origin=True)).provenance
        assert found is not None
        assert [sign["says"] for sign in found["signs"]] == ["generated"]


def test_whatever_goes_wrong_with_its_origin_a_picture_is_judged(
    monkeypatch: pytest.MonkeyPatch, picture: Callable[..., bytes], detector: assay.Detector
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise IndexError

    monkeypatch.setattr(decoder, "provenance", fails)
    asked = {"do": "cut", "path": None, "detector": 0, "every": None, "changes": {}, "number": None, "origin": True}
    data = np.frombuffer(picture(90), np.uint8)
    *_, end = decoder._answers(asked, [data], [detector], DEFAULT, "")
    assert wire.unpack(end)[0]["end"]["origin"] is None


def test_a_frame_may_be_as_large_as_its_limit_of_pixels(
    begin: Begin, picture: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "_LARGEST", 1_000)
    with begin(Limits(pixels=200 * 100)) as decoders:
        found = done(decoders, Task("frame", picture(90, 200, 100)))
        assert found.pixels is not None
        assert found.pixels.shape == (100, 200, 3)


@pytest.mark.parametrize(
    "told", [7, [], {"signs": [], "unread": []}, {"signs": [{"says": "=1"}], "unread": [], "told": ""}]
)
def test_what_is_no_provenance_is_not_passed_on(begin: Begin, told: Any, picture: Callable[..., bytes]) -> None:
    def broken(process: Any, message: bytes, seconds: float) -> bytes:
        return wire.pack({"end": {"origin": told, "about": {}}})

    with begin() as decoders:
        (process,) = decoders._processes
        process.ask = functools.partial(broken, process)  # type: ignore[method-assign]
        assert failed(decoders, Task("cut", picture(90), origin=True)) == "crashed"


# ── what goes wrong ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_that_takes_too_long_is_killed_and_replaced(begin: Begin, picture: Callable[..., bytes]) -> None:
    restarts: list[None] = []
    with begin(seconds=0.5, restarted=lambda: restarts.append(None)) as decoders:
        with halted(decoders) as pid:
            slow = decoders.submit("me", Task("cut", picture(90)))
            after = decoders.submit("me", Task("cut", picture(100)))
            with pytest.raises(InputError) as error:
                slow.result(60)
        assert error.value.kind == "too_slow"
        assert after.result(60).still is not None
        until(lambda: gone(pid))
        assert decoders.pids != [pid]
        assert len(restarts) == 1


def test_one_that_breaks_down_is_replaced_and_the_others_are_not_disturbed(
    begin: Begin, picture: Callable[..., bytes]
) -> None:
    with begin(count=2) as decoders:
        assert done(decoders, Task("cut", picture(90))).still is not None
        while len(decoders.pids) < 2:
            time.sleep(0.01)
        before = decoders.pids
        for pid in before:
            os.kill(pid, signal.SIGSTOP)
        tasks = [decoders.submit("me", Task("cut", picture(grey))) for grey in (10, 20, 30, 40)]
        while not (tasks[0].running() and tasks[1].running()):
            time.sleep(0.01)
        os.kill(before[0], signal.SIGKILL)
        os.kill(before[1], signal.SIGCONT)
        ends = [task.exception(60) for task in tasks]
        assert [None if end is None else end.kind for end in ends if end is None or isinstance(end, InputError)].count(
            "crashed"
        ) == 1
        assert ends.count(None) == 3


def test_one_that_died_while_idle_fails_nobody(begin: Begin, picture: Callable[..., bytes]) -> None:
    with begin() as decoders:
        (pid,) = decoders.pids
        os.kill(pid, signal.SIGKILL)
        while any(process.alive for process in decoders._processes):
            time.sleep(0.01)
        assert done(decoders, Task("cut", picture(90))).still is not None


def test_memory_is_limited_and_a_picture_that_fits_goes_on(begin: Begin, picture: Callable[..., bytes]) -> None:
    file = io.BytesIO()
    Image.new("1", (7_000, 7_000)).save(file, "PNG")
    with begin(memory=250 << 20) as decoders:
        assert failed(decoders, Task("cut", file.getvalue())) == "too_much_memory"
        assert done(decoders, Task("cut", picture(90))).still is not None
    with begin() as decoders:
        assert done(decoders, Task("cut", file.getvalue())).still is not None


def test_a_film_does_not_keep_a_picture_waiting(begin: Begin, picture: Callable[..., bytes], tmp_path: Path) -> None:
    path = clip(tmp_path / "clip.mp4", 30)
    with begin(count=2) as decoders:
        seen = []

        def each(part: Prepared) -> None:
            if not seen:
                seen.append(done(decoders, Task("cut", picture(90))).still is not None)

        films = [decoders.submit("films", Task("cut", path, each=each, long=True)) for _ in range(2)]
        assert [film.result(60).still for film in films] == [None, None]
        assert seen == [True]


def test_a_film_that_nobody_waits_for_is_left(begin: Begin, picture: Callable[..., bytes], tmp_path: Path) -> None:
    path, parts = clip(tmp_path / "clip.mp4", 40), list[Prepared]()
    with begin(Limits(video_frames=40, frames=40)) as decoders:
        task = Task("cut", path)

        def each(part: Prepared) -> None:
            parts.append(part)
            task.over.set()

        task = dataclasses.replace(task, each=each)
        with pytest.raises(Over):
            done(decoders, task)
        assert len(parts) == 1
        assert done(decoders, Task("cut", picture(90))).still is not None


def test_what_a_part_raises_comes_out(begin: Begin, tmp_path: Path, picture: Callable[..., bytes]) -> None:
    def each(part: Prepared) -> None:
        raise KeyError("mine")

    with begin() as decoders:
        with pytest.raises(KeyError):
            done(decoders, Task("cut", clip(tmp_path / "clip.mp4", 30), each=each))
        assert done(decoders, Task("cut", picture(90))).still is not None


def test_an_end_finishes_what_was_submitted(begin: Begin, picture: Callable[..., bytes]) -> None:
    with begin() as decoders:
        tasks = [decoders.submit("me", Task("cut", picture(grey))) for grey in range(0, 200, 20)]
        pids = decoders.pids
        decoders.stop()
        assert all(task.result(0).still is not None for task in tasks)
        until(lambda: all(map(gone, pids)))
        decoders.stop()


def test_a_hint_to_all_processes_does_not_cut_short_what_was_accepted(
    begin: Begin, picture: Callable[..., bytes]
) -> None:
    with begin() as decoders:
        (pid,) = decoders.pids
        for stop in (signal.SIGINT, signal.SIGTERM):
            os.kill(pid, stop)
        time.sleep(0.1)
        assert done(decoders, Task("cut", picture(90))).still is not None
        assert decoders.pids == [pid]


def test_a_detector_that_cannot_be_read_there_is_told_at_once(detector: assay.Detector, bundle_folder: Path) -> None:
    (bundle_folder / "heads.npz").write_bytes(b"spoiled")
    with pytest.raises(AssayError, match=r"heads\.npz"):
        Decoders([detector], [bundle_folder], Limits(), count=1).start()


# ── the messages ─────────────────────────────────────────────────────────────────────────────────────────────────────


def prepared() -> tuple[Prepared, list[View]]:
    """Two frames of a clip with three faces, one view of two absent."""
    views = [View(size=8, layout="faces"), View(size=8, minimum=99)]
    rng = np.random.default_rng(0)
    boxes = ((Box(-3, 0, 9, 12), Box(1, 2, 3, 4)), (Box(5, 6, 7, 8),))
    sights = tuple(
        Sight(
            rng.integers(0, 256, (8, 8, 3), np.uint8),
            frame,
            tuple(rng.normal(size=576).astype(np.float32) for _ in frame),
            time,
        )
        for frame, time in zip(boxes, (None, 0.5), strict=True)
    )
    picture = Prepared(
        input="clip",
        sha256="ab" * 32,
        width=40,
        height=30,
        frame_numbers=(3, 7),
        frame_count=90,
        crops={views[0]: rng.integers(0, 256, (3, 8, 8, 3), np.uint8)},
        boxes={views[0]: boxes},
        absent={views[1]: "too small"},
        times=(0.0, 0.5),
        sights=sights,
        shown={views[0]: ((0, 1), (None,))},
    )
    return picture, views


def test_a_picture_arrives_as_it_was_sent() -> None:
    sent, views = prepared()
    came = wire.unpack_picture(*wire.unpack(wire.pack_picture(sent, views)), views, "clip")
    assert same(came, sent)
    assert [sight.boxes for sight in came.sights] == [sight.boxes for sight in sent.sights]
    assert [sight.time for sight in came.sights] == [None, 0.5]
    for one, other in zip(came.sights, sent.sights, strict=True):
        np.testing.assert_array_equal(one.coarse, other.coarse)
        np.testing.assert_array_equal(one.looks, other.looks)


def test_a_message_that_was_tampered_with_raises_value_error_and_nothing_else() -> None:
    sent, views = prepared()
    whole = wire.pack_picture(sent, views)
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(500):
        spoiled = bytearray(whole)
        for place in rng.integers(0, 800, rng.integers(1, 4)):
            spoiled[place] = rng.integers(0, 256)
        try:
            wire.unpack_picture(*wire.unpack(bytes(spoiled)), views, "clip")
        except ValueError:
            refused += 1
    assert refused > 250
    odd = [{"arrays": [["u1", [size]]]} for size in (-1, 10**30, math.inf)] + [{"arrays": 7}, [], {"arrays": [[7, 7]]}]
    odd.append({"picture": {"times": [math.nan]}, "arrays": []})
    texts = [json.dumps(each).encode() for each in odd] + [b"[" * 100_000]
    heads = [len(text).to_bytes(4, "little") + text for text in texts]
    for spoiled in (b"", b"\0", whole[:-1], whole + b"\0", whole[:200], *heads):
        with pytest.raises(ValueError, match=r"."):
            wire.unpack(spoiled)


def test_nothing_that_travels_is_pickled() -> None:
    sent, views = prepared()
    whole = wire.pack_picture(sent, views)
    end = 4 + int.from_bytes(whole[:4], "little")
    assert set(json.loads(whole[4:end])) == {"picture", "arrays"}
    with pytest.raises(KeyError):
        wire.pack({}, [np.array([object()])])


def test_views_have_one_order_in_all_processes(detector: assay.Detector, bundle_folder: Path) -> None:
    assert wire.views_of(detector) == wire.views_of(assay.load(bundle_folder)) == [detector.streams[0].view]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is another")
def test_a_process_keeps_its_memory_for_the_next_picture(begin: Begin, picture: Callable[..., bytes]) -> None:
    data = picture(90, 700, 500)
    with begin() as decoders:
        (pid,) = decoders.pids

        def pages() -> int:
            """That the system had to find for it so far."""
            return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])

        for _ in range(5):
            done(decoders, Task("cut", data))
        before = pages()
        for _ in range(10):
            done(decoders, Task("cut", data))
        assert pages() - before < 1_000


@pytest.mark.parametrize("breaks", ["send_bytes", "recv_bytes"])
def test_one_whose_server_was_killed_ends_without_a_word(
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch, breaks: str
) -> None:
    def broken(*given: object) -> bytes:
        raise ConnectionResetError

    for what in ("_bound", "_keep", "_end_with_parent"):  # of a process of its own
        monkeypatch.setattr(decoder, what, lambda *given: None)
    monkeypatch.setattr(signal, "signal", lambda *given: None)
    connection: Any = SimpleNamespace(send_bytes=lambda data: None, recv_bytes=broken)
    setattr(connection, breaks, broken)
    decoder.work(connection, [str(bundle_folder)], DEFAULT, "", 1 << 30)
