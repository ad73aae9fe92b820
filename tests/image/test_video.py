"""A video gives the very frames it is asked for, upright and in their colours; what can't be trusted is refused."""

from __future__ import annotations

import contextlib
import dataclasses
import fractions
import gc
import hashlib
import io
import itertools
import struct
import sys
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import assay
from assay.errors import InputError
from assay.image import container, video
from assay.image import decode as decoding
from assay.image.decode import PART, Limits, decode, one, parts
from assay.types import Pixels

av = pytest.importorskip("av")

WIDTH, HEIGHT = 64, 48
BITS = 8
Frames = Sequence[np.ndarray[Any, np.dtype[np.uint8]]]

CONTAINERS = [
    ("mp4", "libx264", "MP4"),
    ("mov", "mpeg4", "MOV"),
    ("webm", "libvpx-vp9", "WEBM"),
    ("webm", "libvpx", "WEBM"),
    ("matroska", "libx264", "MKV"),
    ("avi", "mjpeg", "AVI"),
    ("avi", "mpeg4", "AVI"),
    ("avi", "libx264", "AVI"),
    ("mpeg", "mpeg2video", "MPEG"),
    ("mpegts", "libx264", "MPEGTS"),
    ("flv", "flv1", "FLV"),
]


def numbered(number: int, width: int = WIDTH, height: int = HEIGHT) -> Pixels:
    """A picture that tells its number: bit by bit, in columns of black and white."""
    picture = np.zeros((height, width, 3), np.uint8)
    for bit in range(BITS):
        picture[:, bit * width // BITS : (bit + 1) * width // BITS] = 255 * (number >> bit & 1)
    return picture


def number_of(picture: Pixels) -> int:
    height, width = picture.shape[:2]
    middles = [picture[height // 2, (2 * bit + 1) * width // (2 * BITS)].mean() for bit in range(BITS)]
    assert all(level < 60 or level > 195 for level in middles), middles
    return sum((level > 128) << bit for bit, level in enumerate(middles))


def clip(
    count: int = 30,
    form: str = "mp4",
    codec: str = "libx264",
    *,
    pictures: Frames | None = None,
    gop: int = 10,
    b_frames: int = 2,
    milliseconds: Sequence[int] | None = None,
    pixel_format: str = "",
    options: dict[str, str] | None = None,
    path: Any = None,
) -> bytes:
    """A file of `count` numbered pictures, or of `pictures`, at 30 a second or at the times given.

    Key frames stand every `gop` frames and nowhere else. `path`: by way of a file, where a format needs one.
    """
    buffer = io.BytesIO()
    steady = {"libx264": {"x264-params": "scenecut=0"}, "mpeg4": {"sc_threshold": "1000000000"}}
    shown = [numbered(number) for number in range(count)] if pictures is None else pictures
    with av.open(path or buffer, "w", format=form, container_options=options or {}) as file:
        stream = file.add_stream(codec, rate=30, options=steady.get(codec, {}))
        if milliseconds is not None:
            stream.codec_context.time_base = fractions.Fraction(1, 1000)
        stream.height, stream.width = shown[0].shape[:2]
        stream.pix_fmt = pixel_format or ("yuvj420p" if codec == "mjpeg" else "yuv420p")
        stream.codec_context.gop_size = gop
        if codec in ("libx264", "mpeg4", "mpeg2video"):
            stream.codec_context.max_b_frames = b_frames
        for number, picture in enumerate(shown):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=stream.pix_fmt)
            frame.pts = number if milliseconds is None else milliseconds[number]
            if milliseconds is not None:
                frame.time_base = fractions.Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path.read_bytes() if path else buffer.getvalue()


def refused(data: bytes, kind: str, **limits: int) -> str:
    with pytest.raises(InputError) as caught:
        decode(data, Limits(**limits))
    message = str(caught.value)
    assert caught.value.kind == kind, message
    assert 0 < len(message) < 300
    assert "\n" not in message
    return message


def evenly(count: int, frames: int) -> tuple[int, ...]:
    """As the release of GenConViT chooses them."""
    return tuple(np.linspace(0, count - 1, frames, dtype=int).tolist())


# ── which frames ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("form", "codec", "name"), CONTAINERS)
def test_fifteen_frames_come_evenly_and_each_is_the_one_its_number_says(form: str, codec: str, name: str) -> None:
    data = clip(50, form, codec)
    picture = decode(data)
    assert picture.format == name
    assert picture.sha256 == hashlib.sha256(data).hexdigest()
    assert picture.frame_count == 50
    assert picture.frame_numbers == evenly(50, 15)
    assert [number_of(frame) for frame in picture.frames] == list(picture.frame_numbers)
    assert picture.times == pytest.approx([number / 30 for number in picture.frame_numbers], abs=2e-3)
    assert all(frame.shape == (HEIGHT, WIDTH, 3) and frame.flags.c_contiguous for frame in picture.frames)


@pytest.mark.parametrize("b_frames", [0, 1, 3])
@pytest.mark.parametrize("gop", [1, 7, 300])
def test_key_frames_and_reordering_do_not_shift_a_frame(b_frames: int, gop: int) -> None:
    picture = decode(clip(41, b_frames=b_frames, gop=gop))
    assert [number_of(frame) for frame in picture.frames] == list(evenly(41, 15))


def test_a_short_clip_gives_every_frame_and_one_frame_is_a_clip() -> None:
    assert decode(clip(4)).frame_numbers == (0, 1, 2, 3)
    single = decode(clip(1))
    assert (single.frame_numbers, single.frame_count, single.times) == ((0,), 1, (0.0,))


def test_limits_ask_for_fewer_frames_or_for_more() -> None:
    data = clip(30)
    assert decode(data, Limits(frames=4)).frame_numbers == evenly(30, 4)
    assert decode(data, Limits(video_frames=1)).frame_numbers == (0,)
    assert decode(data, Limits(frames=20, video_frames=20)).frame_numbers == evenly(30, 20)


def test_all_frames_together_take_at_most_twice_the_pixels_of_one() -> None:
    assert len(decode(clip(30), Limits(pixels=WIDTH * HEIGHT)).frames) == 2


def test_at_a_variable_rate_frames_are_even_in_number_and_times_are_true() -> None:
    times = list(itertools.accumulate(range(20), lambda at, step: at + 10 + 7 * step, initial=0))
    picture = decode(clip(len(times), milliseconds=times, form="matroska"))
    assert picture.frame_numbers == evenly(len(times), 15)
    assert [number_of(frame) for frame in picture.frames] == list(picture.frame_numbers)
    assert picture.times == pytest.approx([times[number] / 1000 for number in picture.frame_numbers], abs=2e-3)


def test_packets_without_content_between_the_frames_are_no_frames() -> None:
    # What AVI has where the frame before is shown on.
    times = [0, 10, 40, 50, 60, 61, 62, 63, 64, 65, 90]
    picture = decode(clip(len(times), "avi", "mjpeg", milliseconds=times), Limits(frames=6))
    assert picture.frame_count == len(times)
    assert [number_of(frame) for frame in picture.frames] == list(picture.frame_numbers) == list(evenly(len(times), 6))
    assert picture.times == pytest.approx([times[number] / 1000 for number in picture.frame_numbers], abs=2e-3)


def test_a_fragmented_file_counts_all_its_fragments() -> None:
    picture = decode(clip(30, options={"movflags": "frag_keyframe+empty_moov"}))
    assert picture.frame_count == 30
    assert [number_of(frame) for frame in picture.frames] == list(evenly(30, 15))


def test_time_stamps_that_do_not_tell_frames_apart_leave_them_numbered_as_they_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(video, "_stamped", lambda *_: None)
    picture = decode(clip(30))
    assert [number_of(frame) for frame in picture.frames] == list(picture.frame_numbers) == list(evenly(30, 15))
    assert picture.times == pytest.approx([number / 30 for number in picture.frame_numbers])


def test_time_stamps_that_are_not_those_of_the_frames_are_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    original = video._opened

    @contextlib.contextmanager
    def opened(*arguments: Any) -> Iterator[tuple[Any, Any]]:
        with original(*arguments) as (file, stream):
            file.flags |= 1  # FFmpeg's guesses, which for AVI with reordered frames are wrong
            yield file, stream

    monkeypatch.setattr(video, "_opened", opened)
    picture = decode(clip(50, "avi", "libx264"))
    assert [number_of(frame) for frame in picture.frames] == list(picture.frame_numbers) == list(evenly(50, 15))


# ── how they are reached ─────────────────────────────────────────────────────────────────────────────────────────────


def read(data: bytes, form: str = "MP4", *, frames: int = 15, work: int = 10_000) -> video.Clip:
    """`work` in frames."""
    area = WIDTH * HEIGHT
    return video.read(data, form, frames=frames, pixels=100 * area, work=work * area, check=lambda size: None)


@pytest.mark.parametrize(("form", "codec", "name"), CONTAINERS)
def test_seeking_and_decoding_from_the_start_give_the_same_pixels(
    form: str, codec: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = clip(60, form, codec)
    sought = read(data, name, frames=7)
    original = video._Reader._packets
    asked = list[bool]()

    def packets(self: video._Reader, key: video._Key) -> Any:
        asked.append(key.pts is None)
        if key.pts is not None:
            raise video._Astray
        return original(self, key)

    monkeypatch.setattr(video._Reader, "_packets", packets)
    walked = read(data, name, frames=7)
    assert asked[-1]
    assert sought.numbers == walked.numbers == evenly(60, 7)
    assert sought.times == walked.times
    assert all(np.array_equal(*pair) for pair in zip(sought.frames, walked.frames, strict=True))


class Lying:
    """A file whose seeks go elsewhere."""

    def __init__(self, file: Any, where: int | None) -> None:
        self.file, self.where, self.seeks = file, where, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def seek(self, stamp: int, *, stream: Any) -> None:
        self.seeks += 1
        if self.where is None:
            raise av.error.PermissionError(1, "no seeking")
        self.file.seek(self.where, stream=stream)


@pytest.mark.parametrize("where", [0, 10**6, None])
def test_a_seek_that_fails_or_lands_elsewhere_does_not_change_the_frames(
    where: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = clip(60)
    seeks, original = list[Lying](), video._Reader.__init__

    def start(self: video._Reader, file: Any, *rest: Any) -> None:
        seeks.append(Lying(file, where))
        original(self, seeks[-1], *rest)

    monkeypatch.setattr(video._Reader, "__init__", start)
    found = read(data, frames=7)
    assert sum(file.seeks for file in seeks) > 0
    assert [number_of(frame) for frame in found.frames] == list(found.numbers) == list(evenly(60, 7))


def test_a_long_clip_costs_what_lies_between_key_frames_and_frames() -> None:
    # 2 frames of 200 with key frames every 10: some 20 packets, where all of them would be 200.
    found = read(clip(200, gop=10), frames=2, work=30)
    assert found.numbers == (0, 199)
    assert number_of(found.frames[1]) == 199


def test_a_clip_that_would_cost_too_much_gives_frames_from_as_far_as_work_reaches() -> None:
    found = read(clip(200, gop=1000, b_frames=0), frames=5, work=50)
    assert found.count == 200
    assert found.numbers == (0, 10, 20, 30, 40)
    assert [number_of(frame) for frame in found.frames] == list(found.numbers)


def test_no_more_is_decoded_than_work_allows_however_bad_the_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = list[int]()
    original = video._Index.number

    def number(self: video._Index, stamp: int | None, following: int) -> int | None:
        decoded.append(following)
        return None  # never one that is known

    monkeypatch.setattr(video._Index, "number", number)
    data = clip(250, gop=1000, b_frames=0)
    with pytest.raises(InputError):
        read(data, frames=2, work=40)
    assert 40 <= len(decoded) <= 40 + 2 * 32
    monkeypatch.setattr(video._Index, "number", original)


# ── one at a time ────────────────────────────────────────────────────────────────────────────────────────────────────


def walked(data: bytes, form: str = "MP4", **wanted: Any) -> list[video.Frame]:
    return list(
        video.walk(
            data, form, video.Wanted(**wanted), pixels=10**6, work=10**9, check=lambda size: None, together=False
        )
    )


@pytest.mark.parametrize(("form", "codec", "name"), CONTAINERS)
def test_a_frame_comes_for_each_step_in_time_over_the_whole_clip(form: str, codec: str, name: str) -> None:
    frames = walked(clip(50, form, codec), name, every=0.3)
    assert [frame.number for frame in frames] == [0, 9, 18, 27, 36, 45]
    assert [number_of(frame.pixels) for frame in frames] == [frame.number for frame in frames]
    assert [frame.time for frame in frames] == pytest.approx([0.3 * step for step in range(6)], abs=2e-3)
    assert {frame.count for frame in frames} == {50}


def test_at_a_variable_rate_it_is_the_first_frame_at_or_after_each_multiple() -> None:
    times = [0, 90, 100, 101, 350, 399, 400, 1000, 1010, 1099, 1200]
    frames = walked(clip(len(times), milliseconds=times, form="matroska"), "MKV", every=0.1)
    # At or after 0, 100, 200 and 300, 400, 500 to 1000, 1100 and 1200 ms.
    assert [times[frame.number] for frame in frames] == [0, 100, 350, 400, 1000, 1200]


def test_a_step_shorter_than_a_frame_gives_every_frame() -> None:
    assert [frame.number for frame in walked(clip(20), every=0.001)] == list(range(20))


@pytest.mark.parametrize("step", [0.0, -1.0, 0.0009, float("nan"), float("inf")])
def test_a_step_that_is_none_is_refused(step: float) -> None:
    with pytest.raises(ValueError, match=r"give 0\.001 or more"):
        video.Wanted(every=step)


def test_frames_are_wanted_in_one_way_only() -> None:
    for wanted in ({}, {"frames": 1, "every": 1.0}, {"number": 1, "time": 1.0}):
        with pytest.raises(ValueError, match="give one of them"):
            video.Wanted(**wanted)
    with pytest.raises(ValueError, match="0 frames"):
        video.Wanted(frames=0)


def test_where_frames_have_no_stamps_the_rate_tells_seconds_and_without_it_there_are_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(video, "_stamped", lambda *_: None)
    data = clip(30)
    assert [frame.number for frame in walked(data, every=0.5)] == [0, 15]
    survey = video._survey

    def unrated(*arguments: Any) -> Any:
        index, size = survey(*arguments)
        return dataclasses.replace(index, rate=0.0), size

    monkeypatch.setattr(video, "_survey", unrated)
    assert {frame.time for frame in walked(data, frames=3)} == {None}
    assert decode(data).times == ()
    for wanted in ({"every": 0.5}, {"time": 0.5}):
        with pytest.raises(InputError) as caught:
            walked(data, **wanted)
        assert caught.value.kind == "unsupported"


@pytest.mark.parametrize("gop", [5, 1000])
def test_a_walk_through_a_clip_decodes_it_once_at_most(gop: int, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = list[int]()
    original = video._Index.number

    def number(self: video._Index, stamp: int | None, following: int) -> int | None:
        found = original(self, stamp, following)
        decoded.append(-1 if found is None else found)
        return found

    monkeypatch.setattr(video._Index, "number", number)
    data = clip(200, gop=gop, b_frames=0)
    # Far less work than the clip is would do for a few frames, and is no bound for frames by the second.
    frames = video.walk(
        data, "MP4", video.Wanted(every=0.1), pixels=10**6, work=10 * WIDTH * HEIGHT, check=lambda size: None
    )
    assert [frame.number for frame in frames] == list(range(0, 200, 3))
    assert len(decoded) == len(set(decoded)) <= 200


def test_a_single_frame_is_had_by_its_number_or_by_the_second_it_is_shown_at() -> None:
    data = clip(50, b_frames=2, gop=20)
    for number in (0, 1, 19, 20, 37, 49):
        picture = one(data, frame=number)
        assert (number_of(picture.pixels), picture.frame_numbers, picture.frame_count) == (number, (number,), 50)
        assert picture.times == pytest.approx((number / 30,), abs=1e-6)
        assert one(data, time=number / 30).frame_numbers == (number,)
        assert one(data, time=(number + 0.9) / 30).frame_numbers == (number,)
    assert np.array_equal(one(data, frame=42).pixels, walked(data, every=0.001)[42].pixels)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"frame": 50}, "no frame 50 in it; it has 50, counted from 0"),
        ({"frame": -1}, "no frame -1 in it"),
        ({"time": 1.7}, "no second 1.7 in it; its frames run from 0 to 1.63 s"),
        ({"time": -0.1}, "no second -0.1 in it"),
    ],
)
def test_a_frame_that_a_clip_does_not_have_is_told_with_those_it_has(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        one(clip(50), **asked)
    assert caught.value.kind == "missing"


def test_an_animations_frames_are_had_by_number_and_a_still_has_one() -> None:
    buffer = io.BytesIO()
    first, *rest = [Image.fromarray(np.full((8, 8, 3), 10 * level, np.uint8)) for level in range(20)]
    first.save(buffer, "GIF", save_all=True, append_images=rest)
    picture = one(buffer.getvalue(), frame=13)
    assert (int(picture.pixels[0, 0, 0]), picture.frame_numbers, picture.frame_count) == (130, (13,), 20)
    for source in (first, np.asarray(first.convert("RGB"))):
        assert one(source, frame=0).frame_count == 1
        with pytest.raises(InputError, match="no frame 1 in it; it has 1"):
            one(source, frame=1)
    with pytest.raises(InputError, match="it has 20"):
        one(buffer.getvalue(), frame=20)
    for source in (buffer.getvalue(), first):
        with pytest.raises(InputError, match="only a video tells"):
            one(source, time=0.0)
    with pytest.raises(ValueError, match="give one of them"):
        one(first)


def test_parts_are_the_frames_of_the_whole_a_few_at_a_time() -> None:
    data = clip(50)
    whole, found = decode(data), list(parts(data))
    assert [len(part.frames) for part in found] == [PART, 15 - PART]
    assert tuple(itertools.chain(*(part.frame_numbers for part in found))) == whole.frame_numbers
    assert tuple(itertools.chain(*(part.times for part in found))) == whole.times
    frames = itertools.chain(*(part.frames for part in found))
    assert all(np.array_equal(*pair) for pair in zip(frames, whole.frames, strict=True))
    assert {(part.sha256, part.format, part.frame_count) for part in found} == {(whole.sha256, "MP4", 50)}
    assert [len(part.frames) for part in parts(data, Limits(frames=3))] == [3]
    assert sum(len(part.frames) for part in parts(data, every=0.1)) == 17


def test_large_frames_come_in_smaller_parts_and_all_the_same() -> None:
    found = list(parts(clip(30), Limits(pixels=WIDTH * HEIGHT)))
    assert [len(part.frames) for part in found] == [2] * 7 + [1]


def test_what_is_no_video_is_one_part() -> None:
    picture = numbered(5)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    for source in (picture, Image.fromarray(picture), buffer.getvalue()):
        [part] = parts(source, every=1.0)
        assert np.array_equal(part.pixels, picture)


def test_a_walk_that_goes_astray_begins_anew_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    data = clip(60)
    original = video._Reader.find
    asked = list[int]()

    def find(self: video._Reader, number: int, following: int) -> Any:
        asked.append(number)
        if len(asked) == 12:
            raise video._Astray
        return original(self, number, following)

    monkeypatch.setattr(video._Reader, "find", find)
    found = [part.frame_numbers for part in parts(data)]
    even = evenly(60, 15)
    # Three of a part that was never full are given up, and eight are told again.
    assert found == [even[:PART], even[:PART], even[PART:]]
    asked.clear()
    assert decode(data).frame_numbers == even


def test_frames_that_were_given_before_a_walk_began_anew_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    data = spoilt(clip(60, codec="mpeg4", b_frames=0), [number for number in range(60) if number >= 10])
    original = video._Reader.find
    asked = list[int]()

    def find(self: video._Reader, number: int, following: int) -> Any:
        asked.append(number)
        if asked.count(59) in (1, 2) and number == 59:
            raise video._Astray
        return original(self, number, following)

    monkeypatch.setattr(video._Reader, "find", find)
    # Three times three of fifteen are no more than three.
    refused(data, "corrupt")
    assert asked.count(0) == 3


def test_decoded_frames_are_let_go_without_waiting_for_the_collector() -> None:
    alive = list[int]()
    gc.collect()
    gc.disable()
    try:
        for _ in video.walk(
            clip(60), "MP4", video.Wanted(every=0.001), pixels=10**6, work=10**9, check=lambda size: None
        ):
            # By type: to ask a weak reference whose object is gone for its class is an error.
            alive.append(sum(issubclass(type(each), av.VideoFrame) for each in gc.get_objects()))
    finally:
        gc.enable()
    assert len(alive) == 60
    assert max(alive) < 8


def test_a_clip_of_which_most_is_broken_is_refused_at_its_end_too() -> None:
    data = spoilt(clip(60, codec="mpeg4", b_frames=0), [number for number in range(60) if number >= 10])
    coming = parts(data)
    with pytest.raises(InputError, match="of the 15 frames"):
        list(coming)
    with pytest.raises(InputError, match="of the 20 frames"):
        walked(data, every=0.1)


# ── from a file ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("form", "codec", "name"), CONTAINERS)
def test_a_file_gives_what_its_bytes_give(form: str, codec: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / "clip"
    path.write_bytes(clip(50, form, codec))
    told, read_whole = decode(path), decode(path.read_bytes())
    assert (told.sha256, told.format, told.frame_numbers, told.frame_count, told.times) == (
        *(read_whole.sha256, name, read_whole.frame_numbers, 50, read_whole.times),
    )
    assert all(np.array_equal(*pair) for pair in zip(told.frames, read_whole.frames, strict=True))
    assert hashlib.sha256(path.read_bytes()).hexdigest() == told.sha256


def test_a_file_is_never_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 120, 160, 3), np.uint8)
    path = tmp_path / "clip.avi"
    path.write_bytes(clip(pictures=list(noise) * 6, form="avi", codec="rawvideo", pixel_format="bgr24"))
    assert path.stat().st_size > 13_000_000
    monkeypatch.setattr(decoding, "_read_all", None)
    for shown in (lambda: decode(path), lambda: next(parts(path)), lambda: one(path, frame=200)):
        tracemalloc.start()
        try:
            shown()
            assert tracemalloc.get_traced_memory()[1] < 2_500_000
        finally:
            tracemalloc.stop()


def test_the_limit_on_bytes_is_one_on_memory_and_a_videos_file_has_its_own(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip(5))
    size = path.stat().st_size
    assert decode(path, Limits(bytes=size - 1)).frame_count == 5
    refused(path.read_bytes(), "too_many_bytes", bytes=size - 1)
    for limits in (Limits(video_bytes=size - 1), Limits(video_bytes=1)):
        with pytest.raises(InputError) as caught:
            decode(path, limits)
        assert caught.value.kind == "too_many_bytes"


@pytest.mark.parametrize(("form", "codec"), [("mp4", "libx264"), ("matroska", "libx264"), ("avi", "mjpeg")])
@pytest.mark.parametrize("share", [0.5, 0.97])
def test_a_file_that_was_cut_off_is_never_taken_for_whole(form: str, codec: str, share: float, tmp_path: Path) -> None:
    noise = list(np.random.default_rng(5).integers(0, 256, (10, HEIGHT, WIDTH, 3), np.uint8))
    data = clip(form=form, codec=codec, pictures=noise, gop=5, path=tmp_path / "whole")
    (tmp_path / "cut").write_bytes(data[: int(share * len(data))])
    assert decode(tmp_path / "whole").frame_count == 10
    for reading in (lambda: decode(tmp_path / "cut"), lambda: next(parts(tmp_path / "cut"))):
        with pytest.raises(InputError) as caught:
            reading()
        assert caught.value.kind == "truncated"


def test_a_disk_that_fails_is_no_damaged_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip(60))

    class Failing:
        def __init__(self, file: Any) -> None:
            self.seek, self.tell = file.seek, file.tell

        def read(self, count: int) -> bytes:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(video, "_Handed", Failing)
    with pytest.raises(InputError, match="check the disk") as caught:
        decode(path)
    assert caught.value.kind == "unreadable"


def test_files_are_closed_when_a_walk_is_left(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip(60))
    coming = parts(path)
    next(coming)
    open_files = Path("/proc/self/fd")
    if not open_files.is_dir():
        pytest.skip("this system does not tell which files are open")
    assert path in {Path(entry).resolve() for entry in open_files.iterdir()}
    coming.close()
    assert path not in {Path(entry).resolve() for entry in open_files.iterdir()}


# ── what a frame looks like ──────────────────────────────────────────────────────────────────────────────────────────

# 3 by 3 in the track header, 16.16 and 2.30 fixed: what a file says to get from its pixels to the upright picture.
QUARTERS = [
    ((1, 0, 0, 1), lambda stored: stored),
    ((0, 1, -1, 0), lambda stored: np.rot90(stored, -1)),
    ((-1, 0, 0, -1), lambda stored: np.rot90(stored, 2)),
    ((0, -1, 1, 0), lambda stored: np.rot90(stored, 1)),
    ((-1, 0, 0, 1), lambda stored: stored[:, ::-1]),
    ((1, 0, 0, -1), lambda stored: stored[::-1]),
    ((0, 1, 1, 0), lambda stored: stored.transpose(1, 0, 2)),
    ((0, -1, -1, 0), lambda stored: stored[::-1, ::-1].transpose(1, 0, 2)),
]


@pytest.mark.parametrize(("matrix", "turn"), QUARTERS, ids=[str(matrix) for matrix, _ in QUARTERS])
def test_frames_are_upright(matrix: tuple[int, ...], turn: Callable[[Pixels], Pixels]) -> None:
    corner = np.full((HEIGHT, WIDTH, 3), 30, np.uint8)
    corner[: HEIGHT // 2, : WIDTH // 2] = (255, 0, 0)
    corner[: HEIGHT // 2, WIDTH // 2 :] = (0, 0, 255)
    data = bytearray(clip(pictures=[corner] * 3))
    plain = decode(bytes(data)).pixels
    a, b, c, d = (value << 16 for value in matrix)
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    turned = decode(bytes(data))
    assert np.array_equal(turned.pixels, turn(plain))
    assert (turned.height, turned.width) == turn(corner).shape[:2]


COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (120, 80, 200), (200, 150, 30)]
MATRICES = {"601": (0.299, 0.114, 5), "709": (0.2126, 0.0722, 1), "2020": (0.2627, 0.0593, 9)}


def levels(colour: tuple[int, int, int], matrix: str, *, full: bool, bits: int) -> list[int]:
    """Y'CbCr of a colour (ITU-R BT.601, BT.709, BT.2020; H.273, equations 8.3)."""
    red_share, blue_share, _ = MATRICES[matrix]
    red, green, blue = (value / 255 for value in colour)
    luma = red_share * red + (1 - red_share - blue_share) * green + blue_share * blue
    chroma = (blue - luma) / (2 * (1 - blue_share)), (red - luma) / (2 * (1 - red_share))
    if full:
        top = (1 << bits) - 1
        values = [luma * top, *(part * top + (1 << bits - 1) for part in chroma)]
    else:
        step = 1 << bits - 8
        values = [(16 + 219 * luma) * step, *((128 + 224 * part) * step for part in chroma)]
    return [min(round(value), (1 << bits) - 1) for value in values]


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p", "yuv420p10le"])
@pytest.mark.parametrize(
    ("matrix", "full"), [*itertools.product(MATRICES, (False, True)), ("none", False)], ids=lambda value: str(value)
)
def test_colours_come_out_by_the_matrix_and_range_that_the_stream_states(
    matrix: str, full: bool, pixel_format: str
) -> None:
    bits = 10 if pixel_format.endswith("10le") else 8
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as file:
        stream = file.add_stream("ffv1", rate=30)
        stream.width, stream.height, stream.pix_fmt = 63, 47, pixel_format  # odd, so that chroma has half a column
        if matrix != "none":
            stream.codec_context.colorspace, stream.codec_context.color_range = MATRICES[matrix][2], 2 if full else 1
        for number, colour in enumerate(COLOURS):
            frame = av.VideoFrame(63, 47, pixel_format)
            values = levels(colour, "601" if matrix == "none" else matrix, full=full, bits=bits)
            for plane, value in zip(frame.planes, values, strict=True):
                np.frombuffer(plane, np.uint8 if bits == 8 else np.uint16)[:] = value
            if matrix != "none":
                frame.colorspace, frame.color_range = MATRICES[matrix][2], 2 if full else 1
            frame.pts = number
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    picture = decode(buffer.getvalue())
    assert (picture.width, picture.height) == (63, 47)
    for frame, colour in zip(picture.frames, COLOURS, strict=True):
        assert np.abs(frame.astype(int) - colour).max() <= 3, (colour, frame[0, 0])


def test_a_frame_shares_no_memory_with_its_neighbours() -> None:
    picture = decode(clip(5, "avi", "rawvideo", pixel_format="rgb24"))
    picture.frames[0][:] = 77
    assert [number_of(frame) for frame in picture.frames[1:]] == [1, 2, 3, 4]


# ── what a file is ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("brand", [b"isom", b"iso2", b"iso5", b"mp41", b"mp42", b"avc1", b"M4V ", b"3gp4", b"dash"])
def test_every_brand_of_mp4_is_a_video(brand: bytes) -> None:
    data = clip(3)
    assert decode(data[:8] + brand + data[12:]).format == "MP4"


def test_quicktime_from_before_it_had_brands_is_a_video() -> None:
    data = clip(3, "mov", "mpeg4")
    for kind in (b"wide", b"free", b"skip"):
        assert decode(data[:4] + kind + data[8:]).format == "MOV"


def test_text_that_happens_to_say_free_is_no_video() -> None:
    refused(b"I'm free and happy, and long enough to be a file.", "not_an_image")
    refused(b"G" + bytes(187) + b"G" + bytes(3000), "not_an_image")


def test_a_discs_transport_stream_with_time_codes_is_a_video() -> None:
    plain = clip(20, "mpegts")
    packets = [plain[at : at + 188] for at in range(0, len(plain), 188)]
    picture = decode(b"".join(bytes(4) + packet for packet in packets))
    assert picture.format == "MPEGTS"
    assert [number_of(frame) for frame in picture.frames] == list(picture.frame_numbers)


def test_raw_files_and_foreign_videos_are_named() -> None:
    assert "camera's raw" in refused(b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(64), "unsupported")
    assert "ffmpeg" in refused(b"\x30\x26\xb2\x75\x8e\x66\xcf\x11" + bytes(64), "unsupported")
    assert "ffmpeg" in refused(b"OggS" + bytes(64), "unsupported")


def test_without_the_extra_the_message_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    data = clip(2)
    monkeypatch.setitem(sys.modules, "av", None)
    assert 'pip install "assay[video]"' in refused(data, "needs_extra")


def sound(form: str = "mp4", cover: bool = False) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=form) as file:
        stream = file.add_stream("aac", rate=16_000, layout="mono")
        if cover:
            picture = file.add_stream("mjpeg", rate=1)
            picture.width, picture.height, picture.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
            picture.disposition = 0x400
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16_000
        for part in range(8):
            frame.pts = 1024 * part
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
        if cover:
            file.mux(
                picture.encode(av.VideoFrame.from_ndarray(numbered(1), format="rgb24").reformat(format="yuvj420p"))
            )
            file.mux(picture.encode(None))
    return buffer.getvalue()


@pytest.mark.parametrize(("form", "cover"), [("mp4", False), ("mp4", True), ("matroska", False)])
def test_a_sound_recording_is_no_video_even_with_a_cover(form: str, cover: bool) -> None:
    assert "without a video" in refused(sound(form, cover), "not_an_image")


def test_a_rare_codec_is_named_and_not_run() -> None:
    assert "zmbv" in refused(clip(3, "avi", "zmbv", pixel_format="bgr0"), "unsupported")


@pytest.mark.parametrize(
    "script",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{}'\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\n",
        '<?xml version="1.0"?><MPD><BaseURL>{}</BaseURL></MPD>',
    ],
)
def test_a_playlist_under_a_videos_name_reaches_no_file(script: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.ts"
    secret.write_bytes(clip(5, "mpegts"))
    playlist = tmp_path / "clip.mp4"
    playlist.write_text(script.format(secret))
    with pytest.raises(InputError) as caught:
        decode(playlist)
    assert caught.value.kind in ("not_an_image", "unsupported")


def test_even_a_demuxer_that_follows_references_may_not_open_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The second wall: content never gets as far as a playlist's demuxer.
    secret = tmp_path / "secret.ts"
    secret.write_bytes(clip(5, "mpegts"))
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n".encode()
    monkeypatch.setitem(video._DEMUXERS, "MP4", "hls")
    with pytest.raises(InputError) as caught:
        read(playlist)
    assert caught.value.kind in ("unsupported", "corrupt", "not_an_image")
    monkeypatch.setitem(video._DEMUXERS, "MP4", "concat")
    with pytest.raises(InputError):
        read(f"ffconcat version 1.0\nfile '{secret}'\n".encode())


# ── damage ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("form", "codec", "options"),
    [
        ("mp4", "libx264", {"movflags": "faststart"}),
        ("mp4", "libx264", {"movflags": "frag_keyframe+empty_moov"}),
        ("mov", "mpeg4", {}),
        ("matroska", "libx264", {}),
        ("webm", "libvpx-vp9", {}),
        ("avi", "mjpeg", {}),
    ],
)
@pytest.mark.parametrize("share", [0.5, 0.9, 0.96])
def test_a_clip_that_was_cut_off_is_never_taken_for_whole(
    form: str, codec: str, options: dict[str, str], share: float, tmp_path: Path
) -> None:
    pictures = list(
        np.random.default_rng(5).integers(0, 256, (10, HEIGHT, WIDTH, 3), np.uint8)
    )  # large, for small ends
    data = clip(form=form, codec=codec, pictures=pictures, gop=5, options=options, path=tmp_path / "clip")
    decode(data)
    assert "again" in refused(data[: int(share * len(data))], "truncated")


def test_a_recording_without_its_index_says_so() -> None:
    data = clip(5)
    assert "index is missing" in refused(data[: data.index(b"moov") - 4], "truncated")


def test_bytes_behind_the_last_box_do_no_harm() -> None:
    assert decode(clip(5) + b"\0\0\0\0appended by a camera").frame_count == 5


def packets_of(data: bytes, form: str = "mov") -> list[tuple[int, int]]:
    """Place and size of each packet, in the file's order."""
    with av.open(io.BytesIO(data), format=form) as file:
        return [(packet.pos, packet.size) for packet in file.demux(video=0) if packet.size]


def spoilt(data: bytes, numbers: Sequence[int]) -> bytes:
    """With nothing left of some packets but their places."""
    changed = bytearray(data)
    places = packets_of(data)
    for number in numbers:
        at, size = places[number]
        changed[at : at + size] = b"\xff" * size
    return bytes(changed)


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_frames_that_cannot_be_decoded_are_left_out_and_no_other_is_changed(codec: str) -> None:
    # Without B-frames, packet number = frame number; 13 is spoilt, so 14 to 19 are built on nothing.
    data = clip(60, codec=codec, b_frames=0)
    whole, found = read(data, frames=60), read(spoilt(data, [13]), frames=60)
    assert found.count == 60
    assert set(range(13)) | set(range(20, 60)) <= set(found.numbers)
    assert 13 not in found.numbers
    if codec == "mpeg4":
        assert not set(range(13, 20)) & set(found.numbers)
    for number, frame in zip(found.numbers, found.frames, strict=True):
        if number < 13 or number >= 20:
            assert np.array_equal(frame, whole.frames[whole.numbers.index(number)])


def test_a_frame_that_the_decoder_filled_in_is_not_shown() -> None:
    noise = list(np.random.default_rng(5).integers(0, 256, (20, HEIGHT, WIDTH, 3), np.uint8))
    data = clip(codec="mpeg4", b_frames=0, gop=1, pictures=noise)
    at, size = packets_of(data)[7]
    changed = bytearray(data)
    changed[at + size // 2 : at + size] = bytes(size - size // 2)
    whole, found = read(data, frames=20), read(bytes(changed), frames=20)
    assert found.numbers == (*range(7), *range(8, 20))
    pairs = zip(found.numbers, found.frames, strict=True)
    assert all(np.array_equal(frame, whole.frames[number]) for number, frame in pairs)


def test_the_next_sound_frame_stands_in_for_one_that_is_broken() -> None:
    data = clip(60, codec="mpeg4", b_frames=0)
    found = read(spoilt(data, [25]), frames=3)  # 0, 29 and 59 are asked for
    assert found.numbers == (0, 30, 59)
    assert [number_of(frame) for frame in found.frames] == [0, 30, 59]


def test_a_clip_of_which_most_is_broken_is_refused() -> None:
    data = clip(60, codec="mpeg4", b_frames=0)
    message = refused(spoilt(data, [number for number in range(60) if number >= 10]), "corrupt")
    assert "of the 15 frames" in message


def test_frames_of_another_size_than_the_first_are_left_out() -> None:
    small, large = clip(10, "mpegts"), clip(pictures=[numbered(1, 128, 96)] * 10, form="mpegts")
    picture = decode(small + large)
    assert {frame.shape for frame in picture.frames} == {(HEIGHT, WIDTH, 3)}


def test_a_picture_size_above_the_limits_is_refused_before_it_is_decoded() -> None:
    data = clip(3)
    refused(data, "too_many_pixels", side=WIDTH - 1)
    refused(data, "too_many_pixels", pixels=WIDTH * HEIGHT - 1)
    refused(data, "too_many_bytes", bytes=len(data) - 1)


def claims(data: bytes, box: bytes, at: int, *values: int) -> bytes:
    changed = bytearray(data)
    start = data.index(box) + 4 + at
    changed[start : start + 4 * len(values)] = struct.pack(f">{len(values)}I", *values)
    return bytes(changed)


def test_an_index_that_claims_what_is_not_there_costs_nothing() -> None:
    data = clip(10)
    fragments = clip(10, options={"movflags": "frag_keyframe+empty_moov"})
    tracemalloc.start()
    try:
        assert "1,000,000" in refused(claims(data, b"stsz", 4, 1, 100_000_000), "too_many_frames")
        assert "1,000,000" in refused(claims(fragments, b"trun", 0, 0, 100_000_000), "too_many_frames")
        assert "more than the file holds" in refused(claims(data, b"stsz", 4, 1, 900_000), "corrupt")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_compressed_index_is_not_unpacked() -> None:
    data = clip(5)
    at = data.index(b"mvhd")
    refused(data[:at] + b"cmov" + data[at + 4 :], "unsupported")


def test_a_clip_longer_than_any_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "MOST_FRAMES", 20)
    for form, codec in (("mp4", "libx264"), ("matroska", "libx264"), ("avi", "mjpeg")):
        decode(clip(20, form, codec))
        assert "cut it into parts" in refused(clip(21, form, codec), "too_many_frames")


def test_nothing_is_said_but_by_the_error(capfd: pytest.CaptureFixture[str]) -> None:
    data = clip(30)
    capfd.readouterr()  # what the encoder said
    for number in range(0, len(data), 97):
        changed = bytearray(data)
        changed[number : number + 4] = b"\xff\x00\xff\x7f"
        try:
            decode(bytes(changed))
        except InputError as error:
            assert "\n" not in str(error)  # noqa: PT017 (either will do; what counts is what is printed)
    assert capfd.readouterr() == ("", "")


# ── judged ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_detector_judges_a_clip_frame_by_frame(detector: assay.Detector, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip(pictures=[np.full((HEIGHT, WIDTH, 3), grey, np.uint8) for grey in (10, 10, 250, 250)]))
    verdict = detector.judge(str(path))
    assert [number for number, _ in verdict.frames] == [0, 1, 2, 3]
    dark, bright = verdict.frames[0][1], verdict.frames[3][1]
    assert dark < 0.5 < bright
    assert any("4 of 4 frames" in reason for reason in verdict.reasons)
