"""An input on its way from pixels to a verdict: what the networks will look at, and what is left when they have."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from assay.image.faces import Face
from assay.image.view import View
from assay.judge import tracks
from assay.judge.tracks import Sight
from assay.types import Box, Pixels

Raws = list[npt.NDArray[np.float64]]
"""Of each frame, the raw scores of its crops; a frame without a face has none."""

_NOTHING = np.empty(0, np.float64)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """One input reduced to what the networks will look at; a few crops instead of a camera's megapixels.

    Args:
        input: as the verdict will name it.
        sha256, width, height, frame_numbers, frame_count, times: of the `Picture`.
        crops: for each view that applies, shape (crops of all frames, S, S, 3) uint8, frame by frame.
        boxes: of each of these views, by frame, where its crops lie in px of the picture; a box may reach beyond it. A
            frame without a face has none.
        absent: why a view does not apply, for each of the others.
        later: the frames, where views are cut only when their streams are to run; else empty.
        sights: of clips and animations, by frame, what following faces needs; else empty.
        shown: of each view of faces that applies to a clip, by frame, the place in the sight of each crop's face; None
            for a whole frame that stands in for its faces.
    """

    input: str
    sha256: str
    width: int
    height: int
    frame_numbers: tuple[int, ...]
    frame_count: int
    crops: Mapping[View, Pixels]
    boxes: Mapping[View, tuple[tuple[Box, ...], ...]]
    absent: Mapping[View, str]
    later: tuple[Pixels, ...] = ()
    times: tuple[float, ...] = ()
    sights: tuple[Sight, ...] = ()
    shown: Mapping[View, tuple[tuple[int | None, ...], ...]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Watched:
    """A clip that the networks have seen: what is left of it, without crops, and the raw scores by stream."""

    picture: Prepared
    raws: dict[str, Raws]


def of_faces(view: View) -> bool:
    return view.layout == "faces"


def joined(seen: Sequence[Watched]) -> Watched:
    """The parts of one clip together. A view applies to it where it does to one of its frames."""
    pictures = [each.picture for each in seen]
    lengths = [len(picture.frame_numbers) for picture in pictures]
    boxes: dict[View, tuple[tuple[Box, ...], ...]] = {}
    shown: dict[View, tuple[tuple[int | None, ...], ...]] = {}
    for view in dict.fromkeys(itertools.chain(*(picture.boxes for picture in pictures))):
        pairs = [(picture, ((),) * length) for picture, length in zip(pictures, lengths, strict=True)]
        boxes[view] = tuple(itertools.chain(*(picture.boxes.get(view, none) for picture, none in pairs)))
        if of_faces(view):
            shown[view] = tuple(itertools.chain(*(picture.shown.get(view, none) for picture, none in pairs)))
    raws: dict[str, Raws] = {}
    for name in dict.fromkeys(itertools.chain(*(each.raws for each in seen))):
        parts = [each.raws.get(name, [_NOTHING] * length) for each, length in zip(seen, lengths, strict=True)]
        raws[name] = list(itertools.chain(*parts))
    whole = dataclasses.replace(
        pictures[0],
        frame_numbers=tuple(itertools.chain(*(picture.frame_numbers for picture in pictures))),
        times=tuple(itertools.chain(*(picture.times for picture in pictures))),
        sights=tuple(itertools.chain(*(picture.sights for picture in pictures))),
        boxes=boxes,
        shown=shown,
        absent={view: reason for view, reason in pictures[0].absent.items() if view not in boxes},
    )
    return Watched(whole, raws)


def sighted(picture: Prepared, views: Sequence[View], frames: Sequence[tuple[Pixels, tuple[Face, ...]]]) -> Prepared:
    """Frames of a clip with what is kept of the faces that one of these views shows."""
    sights: list[Sight] = []
    shown: dict[View, list[tuple[int | None, ...]]] = {view: [] for view in views}
    alone = {view: view.model_copy(update={"fallback": False}) for view in views}

    def shows(view: View, face: Face) -> bool:
        return bool(alone[view].boxes(picture.width, picture.height, (face,)))

    for place, (pixels, found) in enumerate(frames):
        faces = [face for face in found if any(shows(view, face) for view in views)]
        sights.append(tracks.sight(pixels, faces, picture.times[place] if picture.times else None))
        for view in views:
            mine = tuple(number for number, face in enumerate(faces) if shows(view, face))
            shown[view].append(mine or (None,) * len(picture.boxes[view][place]))
    return dataclasses.replace(picture, sights=tuple(sights), shown={view: tuple(each) for view, each in shown.items()})
