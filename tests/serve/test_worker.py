"""What is judged together has the verdicts of what is judged alone."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import assay
from assay.errors import BundleError, InputError
from assay.image.decode import decode
from assay.judge.prepared import Prepared
from assay.serve.queue import Over
from assay.serve.worker import Networks
from serving import gif


@pytest.fixture
def ran() -> list[int]:
    """How many pictures each run took."""
    return []


@pytest.fixture
def networks(detector: assay.Detector, ran: list[int]) -> Iterator[Networks]:
    made = Networks([detector], crops=1_000, linger=0.0, ran=lambda pictures, crops, seconds: ran.append(pictures))
    yield made
    made.stop()


def test_stills_and_parts_of_clips_share_a_run_and_keep_their_own(
    networks: Networks, ran: list[int], detector: assay.Detector, picture: Callable[..., bytes]
) -> None:
    stills = [picture(20), picture(220, 200, 40), picture(120, 8, 8)]
    clips = [gif(10, 200, 100), gif(250, 30)]
    watched = [networks.watch(f"client {number}", 0) for number in range(len(clips))]
    cut = [detector.cut(decode(data), "<bytes>") for data in clips]
    takers = [threading.Thread(target=clip.take, args=(part, 99)) for clip, part in zip(watched, cut, strict=True)]
    for taker in takers:
        taker.start()
    while len(networks) < len(clips):
        time.sleep(0.01)
    waiting = [networks.judge("me", 0, detector.cut(decode(data), "<bytes>")) for data in stills]
    networks.start()
    for taker in takers:
        taker.join()
    assert [each.result(10) for each in waiting] == [detector.judge(data) for data in stills]
    assert [clip.verdict() for clip in watched] == [detector.judge(data) for data in clips]
    assert ran == [len(stills) + len(clips)]


def split(prepared: Prepared, *ends: int) -> list[Prepared]:
    """Parts of a clip, its frames up to each end."""
    found = []
    for start, end in zip((0, *ends), ends, strict=False):
        frames = slice(start, end)
        taken = {view: (sum(map(len, b[:start])), sum(map(len, b[:end]))) for view, b in prepared.boxes.items()}
        found.append(
            dataclasses.replace(
                prepared,
                frame_numbers=prepared.frame_numbers[frames],
                times=prepared.times[frames],
                sights=prepared.sights[frames],
                crops={view: crops[slice(*taken[view])] for view, crops in prepared.crops.items()},
                boxes={view: boxes[frames] for view, boxes in prepared.boxes.items()},
            )
        )
    return found


def test_a_clip_in_parts_is_the_clip(networks: Networks, detector: assay.Detector) -> None:
    networks.start()
    data = gif(10, 60, 200, 100, 250)
    clip = networks.watch("me", 0)
    for part in split(detector.cut(decode(data), "<bytes>"), 2, 3, 5):
        clip.take(part, 5)
    assert clip.verdict() == detector.judge(data)


def test_a_clip_that_begins_anew_forgets_what_came_before(networks: Networks, detector: assay.Detector) -> None:
    networks.start()
    data, clip = gif(10, 60, 200), networks.watch("me", 0)
    whole = detector.cut(decode(data), "<bytes>")
    for part in (*split(whole, 1, 2), *split(whole, 2, 3)):
        clip.take(part, 3)
    assert clip.verdict() == detector.judge(data)


def test_more_frames_than_allowed_are_refused(networks: Networks, detector: assay.Detector) -> None:
    networks.start()
    clip = networks.watch("me", 0)
    first, second = split(detector.cut(decode(gif(10, 60, 200)), "<bytes>"), 2, 3)
    clip.take(first, 2)
    with pytest.raises(InputError) as error:
        clip.take(second, 2)
    assert error.value.kind == "too_many_frames"


def test_a_run_that_gives_too_little_fails_alone_and_the_next_goes_on(
    networks: Networks, detector: assay.Detector, picture: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    networks.start()
    with monkeypatch.context() as patch:
        patch.setattr(detector, "judge_embedded", lambda *given: [])
        with pytest.raises(ValueError, match="zip"):
            networks.judge("me", 0, detector.cut(decode(picture(20)), "")).result(10)
    assert str(networks.judge("me", 0, detector.cut(decode(picture(20)), "")).result(10).verdict) == "real"


def test_a_stop_judges_what_waits(networks: Networks, detector: assay.Detector, picture: Callable[..., bytes]) -> None:
    waiting = [networks.judge("me", 0, detector.cut(decode(picture(grey)), "")) for grey in (20, 120, 220)]
    networks.start()
    networks.stop()
    assert [str(each.result(0).verdict) for each in waiting] == ["real", "uncertain", "fake"]
    with pytest.raises(RuntimeError):
        networks.judge("me", 0, detector.cut(decode(picture(20)), ""))


def test_whoever_left_the_queue_is_not_judged(
    networks: Networks, ran: list[int], detector: assay.Detector, picture: Callable[..., bytes]
) -> None:
    waiting = [networks.judge("me", 0, detector.cut(decode(picture(grey)), "")) for grey in (20, 220)]
    assert waiting[0].cancel()
    networks.start()
    assert str(waiting[1].result(10).verdict) == "fake"
    assert ran == [1]


def test_a_network_that_cannot_be_run_is_told_at_the_start(networks: Networks, bundle_folder: Any) -> None:
    (bundle_folder / "tiny.judge.onnx").write_bytes(b"spoiled")
    with pytest.raises(BundleError):
        networks.start()


def test_an_explanation_that_nobody_waits_for_ends(networks: Networks, flat: Any) -> None:
    over = threading.Event()
    over.set()
    with pytest.raises(Over):
        networks.explain(0, flat(90), "fake", over).result(10)
