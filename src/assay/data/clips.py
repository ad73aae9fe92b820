"""Clips as data sets keep them: video files, or a folder of frames for each, as extraction scripts leave them.

What the layouts of video data sets share. Sources of the shapes: ondyari/FaceForensics@b952e41cba01
(dataset/extract_compressed_videos.py: `images/VIDEO/0000.png`) and SCLBD/DeepfakeBench@8a4a7bf5e966
(preprocessing/preprocess.py: `frames/VIDEO/000.png`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from assay.data.layouts import PICTURES, VIDEOS, LeftOut
from assay.errors import LayoutError, unknown

FORMS = ("videos", "images", "frames")


class Clip(NamedTuple):
    """A clip, or one frame of it: where it is, the clip's name, and the frame's number (None for the whole clip)."""

    place: Path
    name: str
    frame: int | None


def clips(folder: Path, form: str = "", beside: Iterable[str] = ()) -> Iterator[Clip | LeftOut]:
    """The clips of a folder in the shapes that the extraction scripts of this field leave, sorted by name.

    Clips are video files in `folder` or `folder/videos`, or folders of pictures in `folder/images` or `folder/frames`.
    Where the same clips are there in several forms only one is taken, and the others are left out.

    Args:
        folder: what holds the clips.
        form: one of FORMS; empty for the first of them that is there.
        beside: names of files in `folder` that the caller reads itself.

    Raises:
        LayoutError: no such form.
    """
    if form and form not in FORMS:
        raise LayoutError(unknown("form of clips", form, FORMS), kind="unknown")
    loose = {path for path in listing(folder) if path.is_file() and path.suffix.lower() in VIDEOS}
    there = [name for name in FORMS if (folder / name).is_dir() or (name == "videos" and loose)]
    chosen = form if form in there else "" if form else next(iter(there), "")
    for path in listing(folder):
        if path.is_dir() and path.name in FORMS and path.name != chosen:
            yield LeftOut(str(path), "another form of the same clips; choose it with the option form")
        elif path.is_dir() and path.name not in FORMS:
            yield LeftOut(str(path), "a folder that holds no clips (masks, landmarks, models)")
        elif path in loose and chosen != "videos":
            yield LeftOut(str(path), "another form of the same clips; choose it with the option form")
        elif path.is_file() and path not in loose and path.name not in beside:
            yield LeftOut(str(path), "not a clip")
    if chosen == "videos":
        for path in [*sorted(loose), *(listing(folder / "videos") if (folder / "videos").is_dir() else [])]:
            if path.suffix.lower() in VIDEOS and path.is_file():
                yield Clip(path, path.stem, None)
            else:
                yield LeftOut(str(path), "not a video")
    elif chosen:
        for clip in listing(folder / chosen):
            yield from _frames(clip)


def _frames(folder: Path) -> Iterator[Clip | LeftOut]:
    if not folder.is_dir():
        yield LeftOut(str(folder), "a file where a folder of frames was expected")
        return
    pictures = []
    for path in listing(folder):
        if path.suffix.lower() in PICTURES and path.is_file():
            pictures.append((frame_number(path.stem), path))
        else:
            yield LeftOut(str(path), "not a picture")
    if not pictures:
        yield LeftOut(str(folder), "a clip without frames")
    for number, path in sorted(pictures, key=lambda pair: (-1 if pair[0] is None else pair[0], pair[1].name)):
        yield Clip(path, folder.name, number)


def frame_number(stem: str) -> int | None:
    """The number in a frame's name ("0012", "frame12"), or None where there is none or more than one."""
    numbers = re.findall(r"[0-9]+", stem)
    return int(numbers[0]) if len(numbers) == 1 else None


def listing(folder: Path) -> list[Path]:
    """What lies in a folder, sorted, but for what is hidden. Raises LayoutError where it cannot be listed."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise LayoutError(f"{folder}: cannot be listed ({error.strerror}); check its permissions") from error


def load_json(path: Path) -> Any:
    """What a JSON file holds. Raises LayoutError where it cannot be read as JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise LayoutError(f"{path} cannot be read as JSON ({error}); fetch it again") from error
