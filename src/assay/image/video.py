"""Frames of a video: a few, evenly over the clip, each exactly the one its number says.

PyAV (the extra `video`) reads packets and decodes. What is ours is which frames, at what cost, and what is refused:

- **Which**: at most `frames` of them, at the numbers `linspace(0, count - 1, frames)`, rounded down. *Paper*: 15 frames
  a clip (GenConViT, arXiv 2307.07036, and the masked-eye study on it, arXiv 2410.05466); *release*: that very formula
  (erprogs/GenConViT@077e79b, model/pred_func.py, `extract_frames`). Frames are numbered from 0 in the order in which
  they are shown. At a constant rate even in number is even in time; at a variable rate it is number that is even. Or
  (*ours*) one every so many seconds by the time stamps, over the whole clip; or a single one, by number or second.
- **How**: all packets are read once, undecoded; their time stamps number the frames. Then each frame is reached from
  the key frame before it. Where time stamps are missing or double, or seeking does not arrive where it should, the clip
  is decoded from its start instead. Both give the same frames, one at a time, so that nobody has to hold them all.
- **Cost** (*ours*): for frames evenly over the clip no more is decoded than `work` pixels in all. A frame that lies too
  far behind its key frame gives its place to the last one within reach, so that a clip of hours with one key frame
  costs seconds as well. Frames by the second cost up to one pass over the clip.
- **Damage** (*ours*): a frame that the decoder could not decode, or filled in, is never shown, nor are those after it
  up to the next key frame, which are built on it. The next sound one takes its place, if it comes before the frame that
  was chosen next. Where less than half of the frames chosen are left, the clip is refused. So is a file that ends
  before its container says. What decoders don't notice isn't noticed here: bytes flipped within H.264, HEVC or VP9
  mostly decode to something.

What is shown, where a file leaves a choice:

- **Rotation and mirroring** by the track's display matrix are applied, in quarter turns.
- **Pixels** are those of the stored grid: a sample aspect ratio other than 1 is not stretched, because to scale is to
  blur what is looked for. Interlaced fields stay woven.
- **Colour**: the matrix (BT.601, BT.709, BT.2020) and the range that the stream states. Where it states none, BT.601
  and the limited range, as FFmpeg, OpenCV and decord take it, with which published frames are made. More than 8 bits
  are rounded, alpha is left out, and high dynamic range is not tone-mapped.
- **Several video tracks**: the one FFmpeg calls best; cover pictures don't count.

Only the bytes that were handed over are read. The demuxer is forced by what the content is, so playlists are not
followed, and any attempt to open a further file or address fails. Only decoders of ordinary codecs are let in.
"""

from __future__ import annotations

import bisect
import contextlib
import dataclasses
import io
import itertools
import math
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from assay.errors import InputError, MissingExtra
from assay.image import container
from assay.types import Pixels

_MOST_ERRORS = 100
"""Times that reading goes on after a packet could not be read."""

_DEMUXERS = {
    "MP4": "mov",
    "MOV": "mov",
    "MKV": "matroska",
    "WEBM": "matroska",
    "AVI": "avi",
    "MPEG": "mpeg",
    "MPEGTS": "mpegts",
    "FLV": "flv",
}

_CODECS = (
    *("h264", "hevc", "libdav1d", "av1", "vp8", "vp9", "libvpx", "libvpx-vp9", "vp6", "vp6f", "theora"),
    *("mpeg1video", "mpeg2video", "mpeg4", "h263", "h263p", "flv", "msmpeg4v1", "msmpeg4v2", "msmpeg4", "wmv1", "wmv2"),
    *("mjpeg", "mjpegb", "prores", "dnxhd", "dvvideo", "cfhd", "vc1", "wmv3", "svq1", "svq3", "cinepak", "qtrle"),
    *("ffv1", "huffyuv", "ffvhuff", "utvideo", "magicyuv", "lagarith", "rawvideo", "v210", "png"),
)
"""Decoders that FFmpeg may use, by its names. It has hundreds, of which most saw no hostile file in years."""

# SWS_BICUBIC | SWS_FULL_CHR_H_INT | SWS_ACCURATE_RND | SWS_BITEXACT: the same pixels on every machine, and each level
# within 3 of the formula. Numbers, because not every PyAV that is allowed has names for them.
_SCALER = 0x4 | 0x2000 | 0x40000 | 0x80000

_LATE = 32
"""Packets that a decoder may hold back before it gives a frame: 16 in H.264 and HEVC, and as many again of margin."""

_DISCARD_ALL = 48  # AVDISCARD_ALL

LEAST_STEP = 0.001
"""Seconds between frames that may be asked for."""

_NEARLY = 1e-6
"""Seconds by which a frame may miss the one that is asked for: less than any time stamp's unit."""


@dataclasses.dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a video.

    Args:
        pixels: (height, width, 3) uint8 sRGB, upright; of one shape in all frames of a clip.
        number: its place in the clip, counted from 0 in the order they are shown.
        time: its seconds since the first frame of the clip, from the time stamps; None where the clip has none.
        count: frames of the whole clip: its packets, which are not decoded to be counted.
    """

    pixels: Pixels
    number: int
    time: float | None
    count: int


@dataclasses.dataclass(frozen=True, slots=True)
class Clip:
    """Some frames of a video, all at once.

    Args:
        frames, numbers: as in `Frame`, in ascending order; at least one.
        times: of each; empty where the clip has none.
        count: as in `Frame`.
    """

    frames: tuple[Pixels, ...]
    numbers: tuple[int, ...]
    times: tuple[float, ...]
    count: int


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """Which frames of a video; one of these.

    Args:
        frames: at most so many, >= 1, evenly over the clip.
        every: one every so many seconds, `LEAST_STEP` or more: the first frame at or after each multiple.
        number: the frame of this number.
        time: the frame that is shown at this second.

    Raises:
        ValueError: none or several are given, or a value is out of range.
    """

    frames: int | None = None
    every: float | None = None
    number: int | None = None
    time: float | None = None

    def __post_init__(self) -> None:
        if sum(getattr(self, field.name) is not None for field in dataclasses.fields(self)) != 1:
            raise ValueError("frames, every, number, time: give one of them")
        if self.frames is not None and self.frames < 1:
            raise ValueError(f"{self.frames} frames show nothing; give 1 or more")
        if self.every is not None and not LEAST_STEP <= self.every < math.inf:
            raise ValueError(f"a frame every {self.every} s does not hold; give {LEAST_STEP} or more")


Check = Callable[[tuple[int, int]], None]
"""Raises for a (width, height) that is not to be decoded."""


def read(data: bytes | BinaryIO, form: str, *, frames: int, pixels: int, work: int, check: Check) -> Clip:
    """Up to `frames` frames of a video, evenly over it, all of them held at once.

    Args:
        data: the file, or its content.
        form: what `container.identify` calls it, one of `container.VIDEOS`.
        frames: how many, >= 1.
        pixels: of all frames that are given, together; at least one is given.
        work: pixels that may be decoded to get at them.
        check: called with the size before anything of it is decoded.

    Raises:
        InputError: needs_extra (PyAV is not installed), not_an_image (no video in it, as in a sound recording), empty
            (no frame in it), unsupported (a codec that is not read), truncated, corrupt, too_many_frames, or what
            `check` raises.
    """
    taken = list[Frame]()
    for frame in walk(data, form, Wanted(frames), pixels=pixels, work=work, check=check, together=True):
        if taken and frame.number <= taken[-1].number:
            taken.clear()
        taken.append(frame)
    times = tuple(frame.time for frame in taken if frame.time is not None)
    return Clip(
        frames=tuple(frame.pixels for frame in taken),
        numbers=tuple(frame.number for frame in taken),
        times=times,
        count=taken[0].count,
    )


def walk(
    data: bytes | BinaryIO, form: str, wanted: Wanted, *, pixels: int, work: int, check: Check, together: bool = False
) -> Iterator[Frame]:
    """Frames of a video one at a time, in the order in which they are shown; none is held here.

    The clip is decoded once at most. Only where its time stamps prove wrong, or seeking does, on the way, the walk
    begins anew: a frame whose number is not above the last one's says so, and what came before it is void.

    Args:
        data, form, check: as in `read`. A file is read from where it is needed, never whole, and not closed.
        wanted: which frames.
        pixels: of one frame.
        work: pixels that may be decoded to get at `Wanted.frames`. For the others it may be the whole clip.
        together: the frames are held, and are no more than fit into `pixels`.

    Raises:
        InputError: as `read` does; also missing (the clip has no such frame or second) and unsupported (it has no
            times where seconds are asked for). At the end too: corrupt, where less than half of the frames that were
            chosen could be decoded.
        OSError: the file could not be read.
    """
    try:
        import av  # noqa: F401
    except ImportError:
        raise InputError(str(MissingExtra("a video", "video")), kind="needs_extra") from None
    file = io.BytesIO(data) if isinstance(data, bytes) else data
    with _faults(form):
        index, (width, height) = _survey(file, form, pixels, check)
        area = width * height
        given = most = 0
        for attempt in (index, index.without_seeking(), index.without_stamps()):
            if wanted.frames is None:
                numbers, left = attempt.wanted(wanted), index.count
                most = len(numbers)
            else:
                most = min(wanted.frames, max(1, pixels // area) if together else wanted.frames, index.count)
                numbers, left = attempt.chosen(most, max(1, work // area // most)), work // area
            try:
                budget = _Budget(pixels, left * area, together)
                for number, shown in _take(file, form, attempt, numbers, budget, check):
                    given += 1
                    yield Frame(shown, number, attempt.time(number), index.count)
                break
            except _Astray:
                given = 0
    if given < (most + 1) // 2:
        raise container.corrupt(form, f"only {given} of the {most} frames looked for can be decoded")


@contextlib.contextmanager
def _faults(form: str) -> Iterator[None]:
    """Whatever goes wrong with a file becomes an InputError, or stays the OSError of a disk."""
    import av

    try:
        yield
    except InputError:
        raise
    except MemoryError as error:
        raise InputError("not enough memory to decode it; free some, or set lower limits", kind="unreadable") from error
    except Exception as error:  # FFmpeg's own, mostly; whatever it is, this file is the cause
        if isinstance(error, OSError) and not isinstance(error, av.FFmpegError):
            raise
        words = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise container.corrupt(form, " ".join(words.split())[:100]) from error


@dataclasses.dataclass(frozen=True, slots=True)
class _Budget:
    """As in `walk`; `work` in pixels, whatever is wanted."""

    pixels: int
    work: int
    together: bool


# ── what the packets say ─────────────────────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass(frozen=True, slots=True)
class _Key:
    """A packet from which decoding can start.

    Args:
        number: of the first frame that can be decoded from here.
        packet: its place in the file's order, counted from 0.
        pts, dts: its time stamps, in units of the stream's time base; None where it is the start of the file.
    """

    number: int
    packet: int
    pts: int | None = None
    dts: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class _Index:
    """Every packet of a stream.

    Args:
        packets: place in the file's order of each frame, by number, shape (count,).
        numbers: number of each packet's frame, shape (packets,); of the next one for a packet that is not shown.
        stamps: time stamp of each frame in units of the time base, ascending, shape (count,); empty where they don't
            tell the frames apart, and then frames are numbered as they come.
        keys: where decoding can start, in ascending order.
        second: seconds in one unit of the time base.
        rate: frames a second as the file states it, for times where there are no `stamps`; 0 where it does not.
    """

    packets: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.int64]
    stamps: npt.NDArray[np.int64]
    keys: tuple[_Key, ...]
    second: float
    rate: float

    @property
    def count(self) -> int:
        return len(self.packets)

    def key(self, number: int) -> _Key:
        """Where to start decoding to get at a frame."""
        return self.keys[max(0, bisect.bisect_right(self.keys, number, key=lambda key: key.number) - 1)]

    def number(self, stamp: int | None, following: int) -> int | None:
        """The number of a decoded frame. `following`: how many frames came before it, for files without stamps."""
        if not len(self.stamps):
            return following
        if stamp is None:
            return None
        place = int(np.searchsorted(self.stamps, stamp))
        return place if place < self.count and self.stamps[place] == stamp else None

    def chosen(self, most: int, reach: int) -> list[int]:
        """Numbers of the frames to give: `most` of them, evenly, unless reaching them all takes too long.

        Args:
            reach: packets that may be decoded for each. Where they can't be had for `most * reach` packets, those that
                lie further than `reach` behind their key frame, or the one chosen before, are moved forward to there.
        """
        even: list[int] = np.linspace(0, self.count - 1, most, dtype=int).tolist()
        if self._walk(even) <= most * reach:
            return even
        near, behind = set[int](), -1
        for number in even:
            start = max(self.key(number).packet - 1, behind)
            behind = min(int(self.packets[number]), start + reach)
            near.add(min(int(self.numbers[behind]), self.count - 1))
        return sorted(near)

    def _walk(self, numbers: Sequence[int]) -> int:
        """How many packets have to be decoded to get at frames."""
        total, behind = 0, -1
        for number in numbers:
            packet = int(self.packets[number])
            total += max(0, packet - max(self.key(number).packet - 1, behind))
            behind = max(behind, packet)
        return total

    def without_seeking(self) -> _Index:
        return dataclasses.replace(self, keys=(_Key(0, 0),))

    def without_stamps(self) -> _Index:
        order = np.arange(self.count, dtype=np.int64)
        return _Index(order, order, np.empty(0, np.int64), (_Key(0, 0),), self.second, self.rate)

    def time(self, number: int) -> float | None:
        """Seconds of a frame since the first."""
        if len(self.stamps):
            return float(self.stamps[number] - self.stamps[0]) * self.second
        return number / self.rate if self.rate else None

    def wanted(self, wanted: Wanted) -> list[int]:
        """Numbers of the frames that are wanted by their second or their number."""
        if wanted.number is not None:
            if not 0 <= wanted.number < self.count:
                raise InputError(
                    f"no frame {wanted.number} in it; it has {self.count:,}, counted from 0", kind="missing"
                )
            return [wanted.number]
        times = self._times()
        if wanted.every is not None:
            # A frame is the first at or after a multiple where more multiples lie behind it than behind the one before.
            steps = np.floor((times + _NEARLY) / wanted.every)
            even: list[int] = np.flatnonzero(np.diff(steps, prepend=-1) > 0).tolist()
            return even
        assert wanted.time is not None
        length = float(times[-1]) * (1 + 1 / max(1, self.count - 1))  # the last frame is shown for as long as the mean
        if not 0 <= wanted.time <= length + _NEARLY:
            raise InputError(
                f"no second {wanted.time:g} in it; its frames run from 0 to {times[-1]:.2f} s", kind="missing"
            )
        return [int(np.searchsorted(times, wanted.time + _NEARLY, "right")) - 1]

    def _times(self) -> npt.NDArray[np.float64]:
        if len(self.stamps):
            return np.asarray((self.stamps - self.stamps[0]) * self.second, np.float64)
        if self.rate:
            return np.arange(self.count) / self.rate
        raise InputError(
            "a video that does not say at which second a frame is shown; ask by number", kind="unsupported"
        )


def _survey(data: BinaryIO, form: str, pixels: int, check: Check) -> tuple[_Index, tuple[int, int]]:
    """The index of a file's video, and its (width, height)."""
    with _opened(data, form, pixels) as (file, stream):
        size = stream.codec_context.width, stream.codec_context.height
        if min(size) < 1:
            raise container.corrupt(form, "its video has no size")
        check(size)
        stamps, dts, flags = list[int | None](), list[int | None](), bytearray()
        for packet in _packets(file, stream):
            if len(flags) >= container.MOST_FRAMES:
                raise container.too_long()
            stamps.append(packet.pts)
            dts.append(packet.dts)
            flags.append(packet.is_keyframe | packet.is_discard << 1)
        shown = np.frombuffer(bytes(flags), np.uint8) < 2
        if not shown.any():
            raise InputError(f"a video ({form}) without a single frame; {container.AGAIN}", kind="empty")
        rate = float(stream.average_rate or 0)
        second = float(stream.time_base or 0)
    if second and None not in stamps:
        index = _stamped(
            np.array(stamps, np.int64), dts, shown, np.frombuffer(bytes(flags), np.uint8) % 2 == 1, second, rate
        )
        if index is not None:
            return index, size
    order = np.arange(int(shown.sum()), dtype=np.int64)
    return _Index(order, order, np.empty(0, np.int64), (_Key(0, 0),), second, rate), size


def _stamped(
    stamps: npt.NDArray[np.int64],
    dts: Sequence[int | None],
    shown: npt.NDArray[np.bool_],
    keyed: npt.NDArray[np.bool_],
    second: float,
    rate: float,
) -> _Index | None:
    """The index by time stamps; None where two frames have the same."""
    places = np.flatnonzero(shown)
    packets = places[np.argsort(stamps[places], kind="stable")]
    ascending = stamps[packets]
    if (np.diff(ascending) < 1).any():
        return None
    numbers = np.searchsorted(ascending, stamps)
    keys = [
        _Key(int(numbers[packet]), packet, int(stamps[packet]), dts[packet])
        for packet in np.flatnonzero(keyed).tolist()
    ]
    keys.sort(key=lambda key: (key.number, key.packet))
    start = [] if keys and keys[0].packet == 0 else [_Key(0, 0)]
    return _Index(packets, numbers, ascending, (*start, *keys), second, rate)


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def _opened(data: BinaryIO, form: str, pixels: int) -> Iterator[tuple[Any, Any]]:
    """The file and its video stream, as PyAV's objects, at their start."""
    import av

    data.seek(0)
    options = {"codec_whitelist": ",".join(_CODECS), "max_pixels": str(min(pixels, 0x7FFF_FFFF))}
    with av.open(_Handed(data), format=_DEMUXERS[form], options=options, io_open=_refuse) as file:
        file.flags &= ~1  # AVFMT_FLAG_GENPTS, PyAV's default: AVI's missing time stamps would be guessed, and wrong
        stream = _video(file, form)
        stream.codec_context.options = options
        streams: Any = file.streams
        for other in streams:
            if other.index != stream.index:
                with contextlib.suppress(AttributeError):  # an older PyAV: read, and passed over
                    other.discard = _DISCARD_ALL
        yield file, stream


class _Handed:
    """A file as PyAV may have it: without its name, and left open."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


def _refuse(*_: object) -> Any:
    raise InputError(
        "a video that refers to other files, which are never opened; make one file of them first: "
        "ffmpeg -i IN -c copy OUT.mp4",
        kind="unsupported",
    )


def _video(file: Any, form: str) -> Any:
    best = file.streams.best("video")
    ranked = ([] if best is None else [best]) + list(file.streams.video)
    for stream in ranked:
        if not stream.disposition & 0x400:  # AV_DISPOSITION_ATTACHED_PIC, a cover
            break
    else:
        raise InputError(
            f"a {form} file without a video in it, perhaps of sound alone; give one with pictures", kind="not_an_image"
        )
    if stream.codec_context is None or stream.codec_context.name not in _CODECS:
        name = "an unknown codec" if stream.codec_context is None else stream.codec_context.name
        raise InputError(
            f"a {form} video of a kind that is not read ({name}); convert it first: ffmpeg -i IN -crf 10 OUT.mp4",
            kind="unsupported",
        )
    return stream


def _packets(file: Any, stream: Any) -> Iterator[Any]:
    """The stream's packets from where the file stands."""
    import av

    for _ in range(_MOST_ERRORS):
        try:
            # An empty packet, such as AVI has for a frame that repeats, would tell the decoder that this is the end.
            yield from (packet for packet in file.demux(stream) if packet.size)
        except av.FFmpegError:  # of this packet; the next may be right
            continue
        return
    raise container.corrupt("video", "its packets cannot be read")


class _Astray(Exception):
    """A seek did not arrive where it should, or the time stamps are not those of the frames."""


class _Reader:
    """Decodes a file's video from wherever it is told, and keeps count of what that costs.

    Args:
        work: pixels that may be decoded; behind them the clip ends.
    """

    def __init__(self, file: Any, stream: Any, index: _Index, work: int) -> None:
        self._file, self._stream, self._index, self._left = file, stream, index, work
        self._frames: Iterator[tuple[int, Any]] = iter(())
        self._begun = False
        self._last: tuple[int, Any] | None = None  # as read
        self._given = -1

    def find(self, number: int, following: int) -> tuple[int, Any] | None:
        """A frame and its number: the one asked for, or the next sound one before `following`.

        At the clip's end it may be the last before, if that was not given yet. To be called with rising numbers. Raises
        _Astray.
        """
        if not self._begun or self._last is None or self._last[0] < number:
            key = self._index.key(number)
            if not self._begun or (self._last is not None and key.number > self._last[0]):
                self._frames, self._begun = self._from(key), True
            self._last = next((frame for frame in self._frames if self._passes(frame, number)), self._last)
        if self._last is None or not self._given < self._last[0] < following:
            return None
        self._given = self._last[0]
        return self._last

    def _passes(self, frame: tuple[int, Any], number: int) -> bool:
        self._last = frame
        return frame[0] >= number

    def _from(self, key: _Key) -> Iterator[tuple[int, Any]]:
        """The sound frames from a key frame on, with their numbers."""
        import av

        context = self._stream.codec_context
        area = context.width * context.height
        sound, passed, before = True, 0, -1
        for packet in itertools.chain(self._packets(key), (None,)):
            self._left -= area
            if self._left < 0:
                return
            try:
                frames = context.decode(packet)
            except av.FFmpegError:
                sound = False
                continue
            for frame in frames:
                self._left -= max(0, frame.width * frame.height - area)
                number = self._index.number(frame.pts, passed)
                passed += 1
                if number is not None:
                    if number <= before:
                        raise _Astray
                    before = number
                sound = (sound or frame.key_frame) and not frame.is_corrupt
                if sound and number is not None:
                    yield number, frame

    def _packets(self, key: _Key) -> Iterator[Any]:
        import av

        if key.pts is None:
            return _packets(self._file, self._stream)
        # Some demuxers look for the one, some for the other.
        for stamp in dict.fromkeys((key.pts, key.dts)):
            with contextlib.suppress(av.FFmpegError):
                if stamp is not None:
                    self._file.seek(stamp, stream=self._stream)
                    packets = itertools.dropwhile(
                        lambda packet: packet.pts != key.pts, _packets(self._file, self._stream)
                    )
                    for first in packets:
                        return itertools.chain((first,), packets)
        raise _Astray


def _take(
    data: BinaryIO, form: str, index: _Index, wanted: Sequence[int], budget: _Budget, check: Check
) -> Iterator[tuple[int, Pixels]]:
    """The frames that are wanted, as far as they can be decoded, with their numbers. Raises _Astray."""
    shape: tuple[int, ...] = ()
    turn = b""
    held = 0
    with _opened(data, form, budget.pixels) as (file, stream):
        # Decoders give frames late, so each run takes a few packets more than it needs.
        area = stream.codec_context.width * stream.codec_context.height
        reader = _Reader(file, stream, index, budget.work + _LATE * len(wanted) * area)
        for number, following in itertools.pairwise([*wanted, index.count]):
            found = reader.find(number, following)
            if found is None:
                continue
            size = found[1].width, found[1].height
            if not shape:
                check(size)
            elif budget.together and held + size[0] * size[1] > budget.pixels:
                break
            if not shape:
                # Of the first alone: a frame that was asked for it is in a cycle with it, and waits for the collector.
                matrix = found[1].side_data.get("DISPLAYMATRIX")
                turn = b"" if matrix is None else bytes(matrix)
            pixels = _shown(found[1], turn)
            shape = shape or pixels.shape
            if pixels.shape == shape:
                held += size[0] * size[1]
                yield found[0], pixels


# ── pixels ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _shown(frame: Any, matrix: bytes) -> Pixels:
    """A frame's colours, turned as the track says by its display matrix; empty where it has none."""
    pixels: Pixels = frame.reformat(format="rgb24", interpolation=_SCALER).to_ndarray()
    # Always a copy of its own: what PyAV hands out may share the frame's memory.
    return np.array(_turned(pixels, matrix), order="C")


def _turned(pixels: Pixels, matrix: bytes) -> Pixels:
    """A view turned and mirrored by a display matrix (ISO/IEC 14496-12, 6.2.2); quarter turns, others are left out.

    Column x, row y of the pixels goes to column a x + c y, row b x + d y.
    """
    if len(matrix) < 20:
        return pixels
    a, b, _, c, d = struct.unpack_from("=5i", matrix)
    if abs(a) + abs(d) < abs(b) + abs(c):
        pixels = pixels.transpose(1, 0, 2)
        across, down = c, b
    else:
        across, down = a, d
    return pixels[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]
