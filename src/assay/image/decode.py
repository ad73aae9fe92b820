"""Reads pictures and videos: from a path, bytes, a Pillow image or an array to the pixels that a person sees.

A file gives a `Picture` or an `InputError` with a kind; nothing else comes out, and nothing is half decoded. Content
decides what a file is, never its name. Only JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF and (with the extra `heic`) HEIC are
read, each by its own Pillow decoder, and (with the extra `video`) videos by PyAV, so that no other decoder and no
outside program is ever reached. Pillow's global settings are neither changed nor needed, and threads may decode at
once. Where only parts of a picture will be looked at, no more than these are decoded of a JPEG (with the extra `crops`:
`assay.image.region`), and converted of others.

What is shown, where a file leaves a choice:

- **Orientation**: all eight Exif orientations are applied. The same tag inside XMP is not, as in browsers.
- **Colours, depth, transparency**: see `assay.image.colour`.
- **Animations** (GIF, WebP, APNG, AVIF): frames as composited on screen, on the canvas of the first. The default image
  of an APNG that is not part of its animation is left out.
- **Pages** of a TIFF: those with the shape of the first. A page that Pillow cannot read is passed over.
- **Several pictures in one file** (MPO of phones, HEIC): the main one.
- **Videos** (MP4, MOV, WebM, MKV, AVI, MPEG, FLV; with the extra `video`): see `assay.image.video`.

Limits of what can be seen: libjpeg fills in what is missing or damaged inside a JPEG's entropy-coded data as long as
the file's markers are in order, and does not say so. Of an MPEG or FLV stream any beginning is a whole stream.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import io
import os
import stat
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
    features,
)

from assay.errors import InputError, MissingExtra, words
from assay.image import colour, container, markers, place, region, video
from assay.image.quiet import quiet
from assay.types import Box, Picture, Pixels

Source = str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image | npt.NDArray[Any]

Needed = Callable[[int, int], Sequence[Box] | None]
"""Of an upright picture of that width and height in px, the boxes inside it that will be looked at; None for all."""

_WALK = 10
"""An animation's frames build on one another, so frame 900 costs 900 frames. Frames are taken from as many of the first
as this times `Limits.pixels` allows."""

PART = 8
"""Most frames of a video that `parts` holds at a time."""

_HEAD = 1 << 16
"""Bytes of a file that tell whether it is a video."""

_VIDEO_WALK = 100
"""The same for what is decoded to get at a video's frames: 4,800 frames of 1920 x 1080, which take seconds."""


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What one file may cost. All are checked before pixels are unpacked.

    Args:
        bytes: of the file. 256 MiB: an uncompressed 85-megapixel picture; files are held in memory whole, but for
            videos that are given as a path.
        pixels: width times height of a frame. 100 million: twice what phones and most cameras write by default, and
            300 MB as an array; the 102 and 200 megapixels of a few need a higher limit. Pillow's own ceiling, twice
            `PIL.Image.MAX_IMAGE_PIXELS` (179 million unless the host program changed it), can hold as well. All
            frames together take at most twice this many; where they would not fit, fewer frames are decoded.
        side: the longer side in pixels. 60,000: twice the 30,000 of a large panorama, below JPEG's 65,535.
        frames: how many frames of an animation, or pages of a TIFF, are decoded; evenly spaced, always with the first.
            16: a video's worth of evidence at the cost of 16 pictures.
        video_frames: how many frames of a video are decoded, where `frames` does not say fewer; evenly spaced, with the
            first and the last. 15: as GenConViT and its followers judge a clip.
        total_frames: an animation, or a TIFF, that claims more is refused. 10,000: five minutes at 30 frames a second.
            Videos have an index and may be longer: `assay.image.container.MOST_FRAMES`.
        video_bytes: of a video given as a path, which is read from the open file. 64 GiB: nine hours of a camera's
            1920 x 1080. What it bounds is the time for its hash.

    Raises:
        ValueError: a limit below 1.
    """

    bytes: int = 256 << 20
    pixels: int = 100_000_000
    side: int = 60_000
    frames: int = 16
    video_frames: int = 15
    total_frames: int = 10_000
    video_bytes: int = 64 << 30

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if getattr(self, field.name) < 1:
                raise ValueError(f"limit {field.name!r} is {getattr(self, field.name)}; give 1 or more")


DEFAULT = Limits()


def decode(source: Source, limits: Limits = DEFAULT, *, needed: Needed | None = None) -> Picture:
    """The picture in `source`, as a person sees it.

    Args:
        source: a path; a file's content as bytes; a Pillow image (its current frame); or an array of uint8, shape
            (height, width) grey, (height, width, 1) grey, (height, width, 3) RGB or (height, width, 4) RGBA.
        limits: what it may cost.
        needed: tells which parts of a file's picture will be looked at. The pixels there are the same, as is every
            error; the rest may be black, and then costs neither time nor memory. Without it all is decoded.

    Returns:
        A `Picture`: frames (height, width, 3) uint8 sRGB, upright, all of one shape, sharing no memory with `source`;
        `times` for videos. `sha256` is of the file's bytes; of the shape and the decoded pixels for Pillow images and
        arrays, whose `format` is "image" and "array".

    Raises:
        InputError: with `kind` missing, permission, not_a_file, unreadable, empty, not_an_image, unsupported,
            truncated, corrupt, too_many_bytes, too_many_pixels, too_many_frames or needs_extra.
        TypeError: `source` is none of the above.
    """
    if isinstance(source, Image.Image):
        return _from_image(source, limits)
    if isinstance(source, np.ndarray):
        return _from_array(source, limits)
    with _opened(source, limits) as found:
        if isinstance(found, bytes):
            return _from_bytes(found, limits, needed=needed)
        clip = video.read(
            found.file,
            found.form,
            frames=min(limits.frames, limits.video_frames),
            pixels=2 * limits.pixels,
            work=_VIDEO_WALK * limits.pixels,
            check=lambda size: _check_size(size, limits),
        )
        return Picture(clip.frames, found.sha256, found.form, clip.numbers, clip.count, clip.times)


def parts(
    source: Source, limits: Limits = DEFAULT, *, every: float | None = None, needed: Needed | None = None
) -> Generator[Picture]:
    """The picture in `source`, a video in parts of at most `PART` frames, so that a long one takes no more memory.

    The frames are those of `decode`, except that a video gives `Limits.video_frames` of them however large they are. A
    part whose first frame does not lie behind the last part's begins the clip anew, and what came before is void
    (`assay.image.video.walk`).

    Args:
        source, limits, needed: as for `decode`.
        every: a video gives the first frame at or after each multiple of so many seconds instead, over its whole
            length; `assay.image.video.LEAST_STEP` or more.

    Yields:
        Pictures of one shape and with one hash, one for anything but a video. To be closed where it is left early.

    Raises:
        InputError: as `decode` does, a video's also at its end; unsupported, where a video does not tell its seconds.
        ValueError: `every` is out of range.
    """
    wanted = video.Wanted(min(limits.frames, limits.video_frames) if every is None else None, every)
    if isinstance(source, Image.Image | np.ndarray):
        yield decode(source, limits)
        return
    with _opened(source, limits) as found:
        if isinstance(found, bytes):
            yield _from_bytes(found, limits, needed=needed)
        else:
            yield from _parts(found, wanted, limits)


def one(source: Source, limits: Limits = DEFAULT, *, frame: int | None = None, time: float | None = None) -> Picture:
    """One frame of a video, an animation or a TIFF, by its number or by the second at which it is shown.

    Args:
        source, limits: as for `decode`. To get at it a video may be decoded from its start.
        frame: counted from 0; a still picture has frame 0.
        time: seconds since the first frame, of a video.

    Raises:
        InputError: as `decode` does; missing (it has no such frame or second) or unsupported (it does not tell its
            seconds, or a page that is not read).
        ValueError: neither or both are given.
    """
    wanted = video.Wanted(number=frame, time=time)
    if not isinstance(source, Image.Image | np.ndarray):
        with _opened(source, limits) as found:
            if not isinstance(found, bytes):
                return next(_parts(found, wanted, limits))
            if frame is not None:
                return _from_bytes(found, limits, frame)
    if time is not None:
        raise InputError("only a video tells at which second a frame is shown; ask by number", kind="unsupported")
    if frame != 0:
        raise _no_frame(frame, 1)
    return decode(source, limits)


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass(frozen=True, slots=True)
class _Video:
    """A video that can be read: where from, its format and the hash of its bytes."""

    file: BinaryIO
    form: str
    sha256: str


@contextlib.contextmanager
def _opened(source: Source, limits: Limits) -> Iterator[bytes | _Video]:
    """A file's content; a video that can be read in its place, and never whole."""
    if isinstance(source, bytes | bytearray | memoryview):
        _check_bytes(memoryview(source).nbytes, limits.bytes)
        yield _of_content(bytes(source), limits)
    elif isinstance(source, str) and place.split(source)[1]:
        data = place.read(source, limits.bytes + 1)
        _check_bytes(len(data), limits.bytes)
        yield _of_content(data, limits)
    elif isinstance(source, str | os.PathLike):
        with _of_path(source, limits) as found:
            yield found
    else:
        raise TypeError(f"cannot decode a {type(source).__name__}; give a path, bytes, a Pillow image or a uint8 array")


def _of_content(data: bytes, limits: Limits) -> bytes | _Video:
    form = container.identify(data) if data else ""
    if form not in container.VIDEOS:
        return data
    container.outline(form, data, limits.total_frames)
    return _Video(io.BytesIO(data), form, hashlib.sha256(data).hexdigest())


@contextlib.contextmanager
def _of_path(path: str | os.PathLike[str], limits: Limits) -> Iterator[bytes | _Video]:
    try:
        _check_regular(os.stat(path))  # noqa: PTH116 (a bytes path is allowed here, and Path would refuse it)
        # The file may have been exchanged since: with O_NONBLOCK even a named pipe opens at once, and is then refused.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError as error:  # a NUL inside the name
        raise InputError(f"no such file: {error}", kind="missing") from None
    except OSError as error:
        raise _cannot_read(error) from None
    with os.fdopen(handle, "rb", buffering=0) as file:
        try:
            status = os.fstat(handle)
            _check_regular(status)
            form = _video_form(file.read(_HEAD))
            if form:
                _check_bytes(status.st_size, limits.video_bytes)
                sliced: Any = _Sliced(file, status.st_size)  # all that the walk over a video does to its bytes
                container.outline(form, sliced, limits.total_frames)
                file.seek(0)
                yield _Video(file, form, hashlib.file_digest(file, "sha256").hexdigest())
                return
            _check_bytes(status.st_size, limits.bytes)
            file.seek(0)
            data = _read_all(file, status.st_size, limits.bytes + 1)
        except OSError as error:
            raise _cannot_read(error) from None
    _check_bytes(len(data), limits.bytes)
    yield _of_content(data, limits)


def _video_form(head: bytes) -> str:
    """Which kind of video a file with this beginning is; empty where it is none, or needs a longer look."""
    try:
        form = container.identify(head)
    except InputError:
        return ""
    return form if form in container.VIDEOS else ""


class _Sliced:
    """A file that is sliced and measured like the bytes in it."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, place: int | slice) -> int | bytes:
        if isinstance(place, int):
            return self[place : place + 1][0]  # type: ignore[index]
        start, stop, _ = place.indices(self._size)
        self._file.seek(start)
        return self._file.read(max(0, stop - start))


def _read_all(file: io.FileIO, size: int, most: int) -> bytes:
    # One read gives all of a regular file, as one object without copies; more are needed only where it is still growing
    # or lies on an odd file system, which may also call it empty.
    parts = []
    while most > 0 and (part := file.read(min(most, max(size, 1 << 16)))):
        parts.append(part)
        most -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _check_regular(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise InputError("a folder, not a file; give the files in it", kind="not_a_file")
    if not stat.S_ISREG(status.st_mode):
        raise InputError("a device, pipe or socket, not a file; save its content to a file first", kind="not_a_file")


def _cannot_read(error: OSError) -> InputError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return InputError("no such file; it was moved, removed or misspelt", kind="missing")
    if isinstance(error, PermissionError):
        return InputError("no permission to read it; ask its owner, or run as a user who may", kind="permission")
    if isinstance(error, IsADirectoryError):
        return InputError("a folder, not a file; give the files in it", kind="not_a_file")
    if error.errno == errno.ELOOP:
        return InputError("a loop of symbolic links; link to the file itself", kind="unreadable")
    return InputError(f"could not be read ({error.strerror or error}); check the disk and try again", kind="unreadable")


def _check_bytes(count: int, most: int) -> None:
    if count > most:
        raise InputError(
            f"more than {most:,} bytes; make it smaller or raise the limit on bytes", kind="too_many_bytes"
        )


def _check_size(size: tuple[int, int], limits: Limits) -> None:
    width, height = size
    if max(size) > limits.side:
        raise InputError(
            f"{width} x {height} pixels, a side above {limits.side:,}; make it smaller or raise the limit on side",
            kind="too_many_pixels",
        )
    if width * height > limits.pixels:
        raise InputError(
            f"{width} x {height} pixels, more than {limits.pixels:,}; make it smaller or raise the limit on pixels",
            kind="too_many_pixels",
        )


def _from_bytes(data: bytes, limits: Limits, number: int | None = None, needed: Needed | None = None) -> Picture:
    """A picture of any kind but a video; only the frame `number`, where it is given."""
    if not data:
        raise InputError(f"empty, not one byte; {container.AGAIN}", kind="empty")
    form = container.identify(data)
    found = markers.read(data) if form == "JPEG" else None
    outline = container.Outline(found.whole) if found else container.outline(form, data, limits.total_frames)
    if outline.size:
        _check_size(outline.size, limits)
    decoder = _decoder(form)
    image: ImageFile.ImageFile | None = None
    try:
        with quiet(tiff=form == "TIFF"):
            image = decoder(io.BytesIO(data))
            count, shown = _select(form, image, outline.frames, limits)
            shown = shown if number is None else _only(number, count, shown)
            part = _part(data, found, image, limits, needed) if found and needed else None
            frames, numbers = ((part,), (0,)) if part is not None else _frames(image, shown, limits, needed)
    except InputError:
        raise
    except Exception as error:
        raise _explain(error, form, outline.whole and not _strips_missing(image, len(data))) from error
    return Picture(
        frames=frames,
        sha256=hashlib.sha256(data).hexdigest(),
        format=form,
        frame_numbers=numbers,
        frame_count=count,
    )


def _parts(found: _Video, wanted: video.Wanted, limits: Limits) -> Iterator[Picture]:
    def part() -> Picture:
        times = tuple(frame.time for frame in held if frame.time is not None)
        numbers = tuple(frame.number for frame in held)
        return Picture(tuple(frame.pixels for frame in held), found.sha256, found.form, numbers, held[0].count, times)

    held: list[video.Frame] = []
    frames = video.walk(
        found.file,
        found.form,
        wanted,
        pixels=2 * limits.pixels,
        work=_VIDEO_WALK * limits.pixels,
        check=lambda size: _check_size(size, limits),
    )
    for frame in frames:
        if held and frame.number <= held[-1].number:
            held.clear()
        held.append(frame)
        if len(held) == PART or (len(held) + 1) * frame.pixels[..., 0].size > 2 * limits.pixels:
            yield part()
            held.clear()
    if held:
        yield part()


def _decoder(form: str) -> Callable[[io.BytesIO], ImageFile.ImageFile]:
    # The classes themselves instead of `Image.open`: no other plugin is tried, errors keep their own words, the main
    # picture of an MPO is what JPEG sees, and HEIC needs no entry in Pillow's global registry.
    if form == "HEIF":
        try:
            import pillow_heif
        except ImportError:
            raise InputError(str(MissingExtra("a HEIC picture", "heic")), kind="needs_extra") from None
        heif: Callable[[io.BytesIO], ImageFile.ImageFile] = pillow_heif.HeifImageFile
        return heif
    if form in ("AVIF", "WEBP") and not features.check(form.lower()):
        raise InputError(f"the installed Pillow was built without {form}; install its wheel", kind="unsupported")
    return {
        "JPEG": JpegImagePlugin.JpegImageFile,
        "PNG": PngImagePlugin.PngImageFile,
        "WEBP": WebPImagePlugin.WebPImageFile,
        "GIF": GifImagePlugin.GifImageFile,
        "BMP": BmpImagePlugin.BmpImageFile,
        "TIFF": TiffImagePlugin.TiffImageFile,
        "AVIF": AvifImagePlugin.AvifImageFile,
    }[form]


# ── frames ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass(frozen=True, slots=True)
class _Shown:
    """Which of Pillow's frames to decode: `numbers` are those of the picture, Pillow's are `first` higher."""

    numbers: Sequence[int]
    first: int = 0
    cumulative: bool = False


def _select(form: str, image: ImageFile.ImageFile, counted: int | None, limits: Limits) -> tuple[int, _Shown]:
    """How many frames the file holds, and which are shown."""
    if form == "TIFF":
        pages = counted or 1
        return pages, _Shown(_spread(_pages_alike(image, pages), image.size, limits))
    if form in ("JPEG", "BMP", "HEIF"):
        return 1, _Shown((0,), first=image.tell())
    held = counted if counted is not None else int(getattr(image, "n_frames", 1))
    first = 1 if held > 1 and getattr(image, "default_image", False) else 0
    count = held - first
    if count > limits.total_frames:
        raise container.too_many_frames(limits.total_frames)
    width, height = image.size
    reach = max(1, min(count, _WALK * limits.pixels // (width * height)))
    return count, _Shown(_spread(range(reach), image.size, limits), first, cumulative=True)


def _only(number: int, count: int, shown: _Shown) -> _Shown:
    """The frame of that number alone."""
    if not 0 <= number < count:
        raise _no_frame(number, count)
    return dataclasses.replace(shown, numbers=(number,))


def _no_frame(number: int | None, count: int) -> InputError:
    return InputError(f"no frame {number} in it; it has {count:,}, counted from 0", kind="missing")


def _spread(candidates: Sequence[int], size: tuple[int, int], limits: Limits) -> list[int]:
    most = max(1, min(limits.frames, 2 * limits.pixels // (size[0] * size[1]), len(candidates)))
    return [candidates[place * len(candidates) // most] for place in range(most)]


def _pages_alike(image: ImageFile.ImageFile, count: int) -> list[int]:
    """The pages of a TIFF that have the shape of the first. Reads tags only."""
    tags = image.tag_v2  # type: ignore[attr-defined]
    if tags.get(ExifTags.Base.NewSubfileType, 0) & 1 or ExifTags.Base.DNGVersion in tags:
        raise InputError("a camera's raw file, with a preview in front; develop it to JPEG first", kind="unsupported")
    size, alike = image.size, [0]
    for page in range(1, count):
        try:
            image.seek(page)
        except SyntaxError:  # a kind of page that Pillow cannot read
            continue
        if image.size == size:
            alike.append(page)
    image.seek(0)
    return alike


def _frames(
    image: ImageFile.ImageFile, shown: _Shown, limits: Limits, needed: Needed | None
) -> tuple[tuple[Pixels, ...], tuple[int, ...]]:
    size = image.size
    wanted = set(shown.numbers)
    frames: list[Pixels] = []
    for number in range(max(wanted) + 1) if shown.cumulative else shown.numbers:
        image.seek(number + shown.first)
        _check_size(image.size, limits)  # of each: a frame may reach beyond the canvas, and then Pillow enlarges it
        if number in wanted:
            image.load()
            if not frames and image.size != size:  # libheif may know better than the header
                size = image.size
                _check_size(size, limits)
            frames.append(_upright(image, size, needed))
    return tuple(frames), tuple(shown.numbers)


def _upright(image: Image.Image, size: tuple[int, int], needed: Needed | None = None) -> Pixels:
    """The loaded picture's colours, turned as Exif says. `size`: (width, height) to take, from the upper left."""
    orientation = _orientation(image)
    boxes = _stored_boxes(size, orientation, needed)
    if boxes is None or sum(box.width * box.height for box in boxes) > size[0] * size[1] // 2:
        pixels = np.empty(_upright_shape(size, orientation), np.uint8)
        colour.paint(image, _as_stored(pixels, orientation))
        return pixels
    return _sparse(image, size, orientation, [(box, image.crop(_corners(box))) for box in boxes])


def _part(
    data: bytes, found: markers.Markers, image: ImageFile.ImageFile, limits: Limits, needed: Needed
) -> Pixels | None:
    """What is needed of a JPEG that is not loaded yet; None where it has to be."""
    if image.size != found.size:
        return None
    _check_size(image.size, limits)
    orientation = _orientation(image)
    boxes = _stored_boxes(image.size, orientation, needed)
    bands = region.bands(boxes, found) if boxes else []
    shown = region.decoded(data, image.mode, bands) if bands else None
    if shown is None:
        return None
    parts = []
    for box in boxes or ():
        place, band = next((place, band) for place, band in enumerate(bands) if band.top <= box.top < band.bottom)
        left, top = box.left - band.left, box.top - band.top
        parts.append((box, Image.fromarray(shown[place][top : top + box.height, left : left + box.width])))
    return _sparse(image, image.size, orientation, parts)


def _sparse(
    image: Image.Image, size: tuple[int, int], orientation: int, shown: Sequence[tuple[Box, Image.Image]]
) -> Pixels:
    """An upright picture of that stored size with the colours of some parts of it, each with its box as stored."""
    pixels = np.zeros(_upright_shape(size, orientation), np.uint8)  # whose pages exist once they are written to
    stored = _as_stored(pixels, orientation)
    paint = colour.painter(image)
    for box, part in shown:
        paint(part, stored[box.top : box.bottom, box.left : box.right])
    return pixels


def _corners(box: Box) -> tuple[int, int, int, int]:
    return box.left, box.top, box.right, box.bottom


def _upright_shape(size: tuple[int, int], orientation: int) -> tuple[int, int, int]:
    width, height = size
    return (width, height, 3) if orientation >= 5 else (height, width, 3)


def _stored_boxes(size: tuple[int, int], orientation: int, needed: Needed | None) -> list[Box] | None:
    """The boxes that are needed of a picture of that stored size, as they are stored; None for all of it."""
    height, width, _ = _upright_shape(size, orientation)
    boxes = needed(width, height) if needed is not None else None
    return None if boxes is None else [_stored_box(box, width, height, orientation) for box in boxes]


def _stored_box(box: Box, width: int, height: int, orientation: int) -> Box:
    """Where a box of an upright picture lies in a file of that Exif orientation: `_as_stored`, of a box."""
    left, top, right, bottom = _corners(box)
    if orientation in (2, 3, 6, 7):
        left, right = width - right, width - left
    if orientation in (3, 4, 7, 8):
        top, bottom = height - bottom, height - top
    return Box(top, left, bottom, right) if orientation >= 5 else Box(left, top, right, bottom)


def _as_stored(upright: Pixels, orientation: int) -> Pixels:
    """A view of an upright array in the order in which a file of that Exif orientation stores it (Exif 2.32, 4.6.4)."""
    turned = {
        2: lambda: upright[:, ::-1],
        3: lambda: upright[::-1, ::-1],
        4: lambda: upright[::-1],
        5: lambda: upright.transpose(1, 0, 2),
        6: lambda: np.rot90(upright, 1),
        7: lambda: upright[::-1, ::-1].transpose(1, 0, 2),
        8: lambda: np.rot90(upright, -1),
    }
    return turned[orientation]() if orientation in turned else upright


def _orientation(image: Image.Image) -> int:
    exif = image.info.get("exif")
    if not isinstance(exif, bytes):
        return 1  # no Exif; or a TIFF, which Pillow turns by itself
    try:
        tags = Image.Exif()
        tags.load(exif)
        value = tags.get(ExifTags.Base.Orientation)
    except Exception:  # a broken Exif block says nothing about the pixels
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


# ── what went wrong ──────────────────────────────────────────────────────────────────────────────────────────────────


_UNREAD = ("unknown pixel mode", "cannot handle", "Unsupported BMP", "Windows Media", "Unsupported feature")
"""How Pillow and libheif begin when a file may be right, but is of a kind that they do not read."""


def _explain(error: Exception, form: str, whole: bool) -> InputError:
    told = words(error)
    if isinstance(error, MemoryError):
        return InputError(
            "not enough memory to decode it; free some, or set a lower limit on pixels", kind="unreadable"
        )
    if isinstance(error, Image.DecompressionBombError):
        return InputError(
            "more pixels than Pillow allows; make it smaller, or raise PIL.Image.MAX_IMAGE_PIXELS",
            kind="too_many_pixels",
        )
    if "MAX_TEXT" in told:
        return InputError(
            "a compressed profile or text unpacks to more than Pillow allows; save it again without metadata",
            kind="too_many_bytes",
        )
    short = "truncated" in told.lower() or "not enough image data" in told
    if not whole or (short and form not in ("PNG", "GIF")):  # of these two the end was seen
        return container.truncated(form)
    if isinstance(error, KeyError) or told.startswith(_UNREAD):
        return InputError(
            f"a rare kind of {form} that is not read ({told}); save it as PNG or ordinary JPEG",
            kind="unsupported",
        )
    if isinstance(error, EOFError):
        told = "frames that it claims are not there"
    return container.corrupt(form, told or type(error).__name__)


def _strips_missing(image: Image.Image | None, size: int) -> bool:
    """Whether a TIFF's tags place pixels behind the end of the file."""
    tags: Any = getattr(image, "tag_v2", None)
    if tags is None:
        return False
    try:
        offsets, counts = (tags.get(strips) or tags.get(tiles, ()) for strips, tiles in ((273, 324), (279, 325)))
        return any(offset + count > size for offset, count in zip(offsets, counts, strict=False))
    except Exception:  # tags of the wrong type: damaged, but not by a missing end
        return False


# ── memory ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _from_image(image: Image.Image, limits: Limits) -> Picture:
    if not all(image.size):
        raise InputError("a Pillow image without pixels; give one of 1 x 1 or more", kind="empty")
    _check_size(image.size, limits)
    try:
        with quiet(tiff=isinstance(image, TiffImagePlugin.TiffImageFile)):
            image.load()
            pixels = _upright(image, image.size)
    except Exception as error:
        raise _explain(error, "Pillow image's", whole=True) from error
    return _in_memory(pixels, "image")


def _from_array(array: npt.NDArray[Any], limits: Limits) -> Picture:
    if array.dtype != np.uint8:
        raise InputError(
            f"an array of {array.dtype}; give uint8 levels 0…255 (from floats in 0…1: "
            '(array * 255).round().astype("uint8"))',
            kind="unsupported",
        )
    channels = array.shape[2] if array.ndim == 3 else 1 if array.ndim == 2 else 0
    if channels not in (1, 3, 4):
        raise InputError(
            f"an array of shape {array.shape}; give one picture of (height, width) or (height, width, 1, 3 or 4)",
            kind="unsupported",
        )
    if not array.size:
        raise InputError(f"an array of shape {array.shape}, without a pixel; give 1 x 1 or more", kind="empty")
    _check_size((array.shape[1], array.shape[0]), limits)
    if channels == 4:
        pixels = np.empty((*array.shape[:2], 3), np.uint8)
        colour.paint(Image.fromarray(np.ascontiguousarray(array)), pixels)
    else:
        pixels = np.array(
            np.broadcast_to(array if array.ndim == 3 else array[..., None], (*array.shape[:2], 3)), order="C"
        )
    return _in_memory(pixels, "array")


def _in_memory(pixels: Pixels, form: str) -> Picture:
    digest = hashlib.sha256(f"{pixels.shape}".encode())
    digest.update(pixels.data)
    return Picture(frames=(pixels,), sha256=digest.hexdigest(), format=form)
