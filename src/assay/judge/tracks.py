"""Following faces through the judged frames of a clip: which of them are one person's.

Two frames that are close in time with no cut between them show a person at about the same place, so there a face goes
to the track whose last box it overlaps most. After a cut, after frames without the face, and where faces cross, looks
decide: the face as a small grey picture, set upright on its landmarks, against what the track looked like so far. A
track gets one face of a frame at most, so that two people who are seen together are never one. At the end tracks that
are never seen together and look alike on the whole are one: somebody who was lost for a pose is found again.

**Looks of this kind are no face recognition.** They are pixels, not features that were learnt to tell people apart: the
same person turned away or in another light becomes a second track, and two people of one pose and light may become one
where they are never seen together. Tracks serve to weigh the faces of a clip; they say nothing of who somebody is.

Source: all of it is *ours*. GenConViT (arXiv 2307.07036) and the masked-eye study on it (arXiv 2410.05466) take the
mean over the frames of a clip and do not ask how many people are in it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from assay.image.cut import cut
from assay.image.faces import Face, crop_box
from assay.types import Box, Pixels

Looks = npt.NDArray[np.float32]

NEAR = 2.0
"""Seconds between two frames in which a face may be followed by its place."""

NEAR_FRAMES = 2
"""The same in judged frames, where a clip does not tell its seconds."""

OVERLAP = 0.3
"""Least part of the union of two boxes that both cover, for one place."""

ALIKE = 0.7
"""Least correlation of looks for one person who is followed by looks alone."""

STRANGE = 0.2
"""Where looks correlate less than this, one place is not enough either: a cut that was not seen."""

WEIGHT = 2.0
"""Of looks against overlap, where several faces could go to a track: people who cross stand at each other's place."""

CUT = 0.12
"""Mean difference of two frames' coarse colours, of their range, from which on a cut lies between them. A flash and a
fast pan are taken for cuts too, and looks decide there."""

_SIDE = 24
_COARSE = 8
_REMEMBERED = 8

_PLACES = np.array([0.30 + 0.34j, 0.70 + 0.34j, 0.50 + 0.56j, 0.34 + 0.78j, 0.66 + 0.78j])
"""Where the landmarks of a face come to lie, in sides of its small picture: x + y i."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """What following faces needs of one judged frame; no picture of it is kept.

    Args:
        coarse: (8, 8, 3) uint8: the frame's colours, by which cuts are told.
        boxes: of its faces, in px.
        looks: of each face, shape (24 · 24,), mean 0 and length 1; all 0 where there is nothing to see.
        time: seconds since the first frame; None where the clip does not tell.
    """

    coarse: Pixels
    boxes: tuple[Box, ...] = ()
    looks: tuple[Looks, ...] = ()
    time: float | None = None


def sight(pixels: Pixels, faces: Sequence[Face] = (), time: float | None = None) -> Sight:
    """What is kept of a frame, (height, width, 3) uint8, and of the faces in it."""
    coarse = Image.fromarray(pixels).resize((_COARSE, _COARSE), Image.Resampling.BOX)
    looks = tuple(looks_of(pixels, face) for face in faces)
    return Sight(np.asarray(coarse), tuple(face.box for face in faces), looks, time)


def looks_of(pixels: Pixels, face: Face) -> Looks:
    """A face as a small grey picture: turned, scaled and shifted so that its landmarks lie where those of all faces do
    (least squares), without its brightness, its contrast and the fall of its light.

    Args:
        pixels: (height, width, 3) uint8, the frame that it is in.

    Returns:
        Shape (24 · 24,), mean 0 and length 1; all 0 where the landmarks are one point or the face has no contrast.
    """
    box = crop_box(face)
    side = 2 * _SIDE
    marks = np.array([complex(x - box.left, y - box.top) for x, y in face.landmarks]) * (side / box.width)
    spread = _PLACES - _PLACES.mean()
    found = marks - marks.mean()
    # A turn and a scale are one complex number: that of the small picture's points to those in the crop.
    turn = (np.conj(spread) * found).sum() / (np.abs(spread) ** 2).sum()
    if abs(turn) < 1:
        return np.zeros(_SIDE * _SIDE, np.float32)
    start = marks.mean() - turn * _PLACES.mean()
    turn = turn / _SIDE
    small = Image.fromarray(cut(pixels, box)).convert("L").resize((side, side), Image.Resampling.BOX)
    matrix = (turn.real, -turn.imag, start.real, turn.imag, turn.real, start.imag)
    upright = small.transform((_SIDE, _SIDE), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    grey = np.asarray(upright, np.float64).ravel()
    grey = grey - _LIGHT @ (_LIGHT.T @ grey)
    length = float(np.linalg.norm(grey))
    return np.asarray(grey / length if length > _SIDE else np.zeros_like(grey), np.float32)


def overlap(one: Box, other: Box) -> float:
    """What both boxes cover, as part of what either does, in [0, 1]."""
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    both = max(0, width) * max(0, height)
    return both / (one.width * one.height + other.width * other.height - both)


def is_cut(one: Sight, other: Sight) -> bool:
    """Whether one frame is no continuation of the other, as far as their coarse colours tell."""
    return float(np.abs(one.coarse.astype(np.float64) - other.coarse).mean()) > 255 * CUT


def link(sights: Sequence[Sight]) -> tuple[tuple[int, ...], ...]:
    """The track of each face of each frame: numbers from 0, in the order in which tracks begin.

    Args:
        sights: of the judged frames, in their order.
    """
    trails: list[_Trail] = []
    found: list[tuple[int, ...]] = []
    shot = 0
    for place, seen in enumerate(sights):
        if place and is_cut(sights[place - 1], seen):
            shot += 1
        now = _Now(place, seen.time, shot)
        mine = _matched(trails, seen, now)
        numbers = []
        for face, (box, looks) in enumerate(zip(seen.boxes, seen.looks, strict=True)):
            if face not in mine:
                mine[face] = len(trails)
                trails.append(_Trail(box, looks, now, looks))
            else:
                trails[mine[face]].go_on(box, looks, now)
            numbers.append(mine[face])
        found.append(tuple(numbers))
    return _as_one(found, trails)


def _as_one(found: Sequence[tuple[int, ...]], trails: Sequence[_Trail]) -> tuple[tuple[int, ...], ...]:
    """The same with tracks joined that look alike on the whole and are never in one frame, the most alike first."""
    if not trails:
        return tuple(found)
    means = np.stack([trail.total / (float(np.linalg.norm(trail.total)) or 1.0) for trail in trails])
    alike = np.triu(means @ means.T, 1)
    pairs = np.argwhere(alike >= ALIKE)
    group = list(range(len(trails)))
    frames = [{place for place, numbers in enumerate(found) if number in numbers} for number in group]
    for one, other in pairs[np.argsort(-alike[tuple(pairs.T)], kind="stable")].tolist():
        first, second = sorted((group[one], group[other]))
        if first != second and not frames[first] & frames[second]:
            frames[first] |= frames[second]
            group = [first if number == second else number for number in group]
    order = {number: place for place, number in enumerate(dict.fromkeys(group[n] for each in found for n in each))}
    return tuple(tuple(order[group[number]] for number in each) for each in found)


@dataclasses.dataclass(frozen=True, slots=True)
class _Now:
    """Which judged frame, at which second, in which shot."""

    place: int
    time: float | None
    shot: int

    def follows(self, last: _Now) -> bool:
        """Whether a face may still be where it was seen last."""
        if self.shot != last.shot:
            return False
        if self.time is None or last.time is None:
            return self.place - last.place <= NEAR_FRAMES
        return self.time - last.time <= NEAR


@dataclasses.dataclass(slots=True, eq=False)
class _Trail:
    """A track as it stands: where and when it was seen last, the running mean of its looks, of length 1, and their
    sum."""

    box: Box
    looks: Looks
    last: _Now
    total: Looks
    count: int = 1

    def go_on(self, box: Box, looks: Looks, now: _Now) -> None:
        self.count += 1
        share = 1 / min(self.count, _REMEMBERED)
        mixed = (1 - share) * self.looks + share * looks
        self.box, self.last, self.total = box, now, self.total + looks
        self.looks = np.asarray(mixed / (float(np.linalg.norm(mixed)) or 1.0), np.float32)


def _matched(trails: Sequence[_Trail], seen: Sight, now: _Now) -> dict[int, int]:
    """The trail of each face that has one, the surest pairs first."""
    if not trails or not seen.boxes:
        return {}
    alike = np.stack([trail.looks for trail in trails]) @ np.stack(seen.looks).T
    shared = np.zeros_like(alike)
    for number, trail in enumerate(trails):
        if now.follows(trail.last):
            shared[number] = [overlap(trail.box, box) for box in seen.boxes]
    blind = ~np.outer([trail.looks.any() for trail in trails], [looks.any() for looks in seen.looks])
    by_place = (shared >= OVERLAP) & (blind | (alike >= STRANGE))
    pairs = np.argwhere(by_place | (alike >= ALIKE))
    sure = (shared + WEIGHT * alike)[tuple(pairs.T)]
    mine: dict[int, int] = {}
    for number, face in pairs[np.argsort(-sure, kind="stable")].tolist():
        if face not in mine and number not in mine.values():
            mine[face] = number
    return mine


def _light() -> npt.NDArray[np.float64]:
    """An orthonormal basis of what light alone does to a small picture: a level, and a slope across and down."""
    down, across = np.mgrid[:_SIDE, :_SIDE].reshape(2, -1)
    basis: npt.NDArray[np.float64] = np.linalg.qr(np.stack([np.ones(_SIDE * _SIDE), across, down], axis=1))[0]
    return basis


_LIGHT = _light()
