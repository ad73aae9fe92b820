"""Faces: what a detector gives, when to look a second time, and what a stream that judges faces is shown.

The rules are those of the local stream of "drift" (arXiv 2604.25889). *Paper*: the face is cropped with a margin of
1.3, and the original is kept where no face is found or where it covers less than 1/9 of the picture. *Release*
(khoalephanminh/ntire26-deepfake-challenge@364d5a37fcfd, `preprocessing/preprocess.py`): the crop is the square of 1.3
times the box's longer side; faces need a score of 0.9; where none is found, the search is repeated on eleven enhanced
copies (smoothed, restored by a face-restoring network, sharpened, equalised, doubled in size, padded).

*Ours*: the short list of `RETRIES`, without a network that would draw the face it is meant to find; of several faces
the largest is shown (the release takes the best score, and the one at the middle where scores are close).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from assay.image.cut import cut
from assay.types import Box, Pixels

Point = tuple[float, float]
"""x and y in px; (0, 0) is the middle of the first pixel."""

MARGIN = 1.3
LEAST = 1 / 9

PLAIN = "plain"
"""In `Found.how`: on the picture as it is."""

_RETRIED_AT = 384
"""Longest side in px of the picture that copies are made of. The faces that count on them are large: one that covers
1/9 of it is still 60 px high in a picture three times as wide as high."""

_SMALL = 96


@dataclasses.dataclass(frozen=True, slots=True)
class Face:
    """A face in a picture.

    Args:
        box: around it, clipped to the picture, in whole px.
        score: how sure the detector is, in [0, 1].
        landmarks: left eye, right eye, nose, left and right corner of the mouth, as seen in an upright picture (the
            left eye is the person's right one). A point of a face that is cut off may lie outside the picture.
    """

    box: Box
    score: float
    landmarks: tuple[Point, Point, Point, Point, Point]

    @property
    def area(self) -> int:
        return self.box.width * self.box.height

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready object; `from_dict` gives the same face back."""
        box = self.box
        return {
            "box": [box.left, box.top, box.right, box.bottom],
            "score": self.score,
            "landmarks": [list(point) for point in self.landmarks],
        }

    @classmethod
    def from_dict(cls, line: Mapping[str, Any]) -> Face:
        """Raises ValueError where `line` is not what `to_dict` gives."""
        try:
            left, top, right, bottom = (int(edge) for edge in line["box"])
            one, two, three, four, five = ((float(x), float(y)) for x, y in line["landmarks"])
            return cls(Box(left, top, right, bottom), float(line["score"]), (one, two, three, four, five))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"no face: {line!r:.80}") from error


@runtime_checkable
class FaceDetector(Protocol):
    """Whatever finds faces."""

    @property
    def name(self) -> str:
        """Of the model and its settings: another name wherever another result is possible."""
        ...

    def detect(self, pixels: Pixels) -> list[Face]:
        """Every face in a picture, (height, width, 3) uint8 of 1 × 1 px and more, the best score first."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """What a search gave.

    Args:
        faces: the best score first.
        how: `PLAIN`, the name of the retry that found them, or empty where none did.
    """

    faces: tuple[Face, ...]
    how: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Retry:
    """A copy on which a face may be found that was not found in the picture.

    Args:
        name: for `Found.how`.
        make: the copy, from an RGB image.
        scale: px of the copy for each px of the image.
        border: px of the copy left and above the image, as a share of the image's longer side.
        small_only: worth it only for pictures with a shorter side below 96 px.
    """

    name: str
    make: Callable[[Image.Image], Image.Image]
    scale: int = 1
    border: float = 0
    small_only: bool = False


def _pad(image: Image.Image) -> Image.Image:
    return ImageOps.expand(image, _border(image.size, 0.5), (128, 128, 128))


def _border(size: tuple[int, int], share: float) -> int:
    return round(max(size) * share)


RETRIES = (
    Retry("padded", _pad, border=0.5),
    Retry("stretched", lambda image: ImageOps.autocontrast(image, cutoff=1)),
    Retry("smoothed", lambda image: image.filter(ImageFilter.GaussianBlur(2))),
    Retry("despeckled", lambda image: image.filter(ImageFilter.MedianFilter(3))),
    Retry(
        "doubled",
        lambda image: image.resize((2 * image.width, 2 * image.height), Image.Resampling.BICUBIC),
        scale=2,
        small_only=True,
    ),
)
"""In the order in which they are tried; the first that shows a face ends the search. *Ours*, chosen by what they
brought back with `mtcnn` on faces that were cut off (padded), dark or foggy (stretched: levels spread over the whole
range, 1 % at each end given up), noisy (smoothed), speckled (despeckled) or smaller than what is looked for (doubled).
Sharpening and gamma brought nothing that these did not."""

RETRIES_NAME = "retries-1"
"""Changes with `RETRIES`, for whoever keeps what was found."""


def find(pixels: Pixels, detector: FaceDetector, *, retries: Sequence[Retry] = RETRIES, least: float = LEAST) -> Found:
    """The faces in a picture, looked for again on enhanced copies where the picture shows none.

    Copies show more false faces too, nearly all of them small. So a face that only a copy shows counts only from the
    size on at which it would be cropped.

    Args:
        pixels: (height, width, 3) uint8, 1 × 1 px and more.
        retries: copies to try, in this order; () searches the picture alone.
        least: share of the picture's area, in [0, 1], that a face found on a copy must cover. Copies are made of the
            picture shrunk to 384 px, so that values far below 1/9 bring little.

    Returns:
        Faces in px of the picture.
    """
    faces = tuple(detector.detect(pixels))
    if faces:
        return Found(faces, PLAIN)
    height, width = pixels.shape[:2]
    image = shrunk(pixels, _RETRIED_AT)
    for retry in retries:
        if retry.small_only and min(image.size) >= _SMALL:
            continue
        border = _border(image.size, retry.border)
        scale = (retry.scale * image.width / width, retry.scale * image.height / height)
        copy = np.asarray(retry.make(image))
        brought = [_in_picture(face, scale, border, (width, height)) for face in detector.detect(copy)]
        faces = tuple(face for face in brought if face is not None and share(face, width, height) >= least)
        if faces:
            return Found(faces, retry.name)
    return Found(())


def _in_picture(face: Face, scale: tuple[float, float], border: int, size: tuple[int, int]) -> Face | None:
    """A face of a copy in px of the picture; None where no part of its box lies inside."""

    def x(place: float) -> float:
        return round((place - border + 0.5) / scale[0] - 0.5, 2)

    def y(place: float) -> float:
        return round((place - border + 0.5) / scale[1] - 0.5, 2)

    one, two, three, four, five = ((x(point[0]), y(point[1])) for point in face.landmarks)
    box = Box(
        max(0, round((face.box.left - border) / scale[0])),
        max(0, round((face.box.top - border) / scale[1])),
        min(size[0], round((face.box.right - border) / scale[0])),
        min(size[1], round((face.box.bottom - border) / scale[1])),
    )
    if box.width < 1 or box.height < 1:
        return None
    return Face(box, face.score, (one, two, three, four, five))


def shrunk(pixels: Pixels, longest: int) -> Image.Image:
    """A picture with no side above `longest` px: itself, or an averaged copy with the sides' ratio kept."""
    image = Image.fromarray(pixels)
    scale = longest / max(image.size)
    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BOX, reducing_gap=2.0)


def share(face: Face, width: int, height: int) -> float:
    """How much of a picture of that size in px a face's box covers, in [0, 1]."""
    return face.area / (width * height)


def crop_box(face: Face, margin: float = MARGIN) -> Box:
    """The square around a face's middle whose side is `margin` times its box's longer side (*release*).

    It may reach beyond the picture.
    """
    box = face.box
    side = max(1, round(margin * max(box.width, box.height)))
    left = math.floor((box.left + box.right - side) / 2)
    top = math.floor((box.top + box.bottom - side) / 2)
    return Box(left, top, left + side, top + side)


def crop(pixels: Pixels, face: Face, margin: float = MARGIN) -> Pixels:
    """A face with what surrounds it, at native resolution.

    Where the square reaches beyond the picture, the picture is mirrored at its edges (*ours*, and an option of the
    release, which pads with black: a black bar would say that the face lay at the edge).

    Returns:
        (side, side, 3) uint8, a copy; the square is `crop_box`.
    """
    return cut(pixels, crop_box(face, margin))


@dataclasses.dataclass(frozen=True, slots=True)
class FaceView:
    """What a stream that judges faces is shown.

    Args:
        pixels: (height, width, 3) uint8: a crop, or the whole picture.
        box: the crop, which may reach beyond the picture; None where the picture is kept whole.
        reason: why it is kept whole; empty for a crop.
    """

    pixels: Pixels
    box: Box | None
    reason: str = ""


def face_or_whole(pixels: Pixels, faces: Sequence[Face], margin: float = MARGIN, least: float = LEAST) -> FaceView:
    """The largest face, or the picture as it is where there is none or where it is too small to judge (*paper*).

    Args:
        pixels: (height, width, 3) uint8.
        faces: of that picture.
        margin: as in `crop_box`.
        least: share of the picture's area that the face's box must cover.
    """
    if not faces:
        return FaceView(pixels, None, "no face found")
    height, width = pixels.shape[:2]
    largest = max(faces, key=lambda face: (face.area, face.score))
    covered = share(largest, width, height)
    if covered < least:
        return FaceView(pixels, None, f"the largest face covers {covered:.1%} of the picture, less than {least:.1%}")
    return FaceView(crop(pixels, largest, margin), crop_box(largest, margin))
