"""The eye mask of "Herd mentality" (arXiv 2410.05466): networks that can't see the eyes must look elsewhere.

*Paper*: the eyes of training pictures, and only of those, are covered in black in the first stage. *Release*
(Monu-Khicher-1/multi-stage-learning@4d64ed8c63ef, `masking.py`): the bounding box of each eye's six landmarks of dlib's
68, grown to twice its width and three times its height around the same middle, for every face that is found. (Its
rectangles are one pixel wider and higher still, as OpenCV draws the far edge too; ours are not.)

*Ours*: a detector that gives only the eyes' middles serves as well. The six landmarks of an average eye are set around
each of them, scaled to the face and turned with it, and the same rule is applied to those.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from assay.image.faces import Face
from assay.types import Box, Pixels

EYES_OF_68 = (slice(36, 42), slice(42, 48))
"""dlib's (and iBUG's) numbers of the landmarks of the eye on the picture's left, and of the one on its right."""

EYE = np.array([[-0.20, 0.0], [-0.07, -0.07], [0.07, -0.07], [0.20, 0.0], [0.07, 0.055], [-0.07, 0.055]])
"""An average eye: two corners, four points of the lids, from its middle, in distances between the eyes' middles.
Rounded from a mean face of dlib's landmarks (ondyari/FaceForensics@b952e41cba01, faceswap-master/lib/aligner.py), in
which an eye is 0.402 wide and 0.125 high."""

EYES_TO_MOUTH = 1.1
"""Height of an average face from the eyes down to the corners of the mouth, in distances between the eyes (1.07 in that
mean face, rounded up). In a face turned to the side the eyes draw together and this height stays."""


def boxes_of_landmarks(points: npt.ArrayLike) -> tuple[Box, Box]:
    """What the release blackens of a face.

    Args:
        points: dlib's 68 landmarks, (68, 2), x and y in px; fractions are rounded.

    Returns:
        The eye on the picture's left, and the other. Boxes may reach beyond the picture.

    Raises:
        ValueError: not (68, 2).
    """
    marks = np.asarray(points)
    if marks.shape != (68, 2):
        raise ValueError(f"landmarks of shape {marks.shape}; give dlib's 68 points as (68, 2)")
    left, right = (_grown(np.round(marks[eye]).astype(np.int64)) for eye in EYES_OF_68)
    return left, right


def boxes_of_centres(face: Face) -> tuple[Box, Box]:
    """The same from the middles of the eyes, for detectors that give no more.

    The scale is the distance between the eyes, or what the height from eyes to mouth makes of it where that is more
    (faces turned to the side): rather a mask too large than an eye that can be seen. In an upright face seen from the
    front each box is 0.80 × 0.375 of the distance between the eyes.

    Returns:
        The eye on the picture's left, and the other. Boxes may reach beyond the picture.
    """
    marks = np.asarray(face.landmarks, np.float64)
    left, right = marks[0], marks[1]
    across = right - left
    down = (marks[3] + marks[4]) / 2 - (left + right) / 2
    scale = max(math.hypot(*across), math.hypot(*down) / EYES_TO_MOUTH)
    # Where a face is seen from the side, the line between its eyes says little about how it is turned; the line to the
    # mouth still does.
    tilt = math.atan2(across[1], across[0]) if math.hypot(*across) > scale / 2 else math.atan2(-down[0], down[1])
    turn = np.array([[math.cos(tilt), math.sin(tilt)], [-math.sin(tilt), math.cos(tilt)]])
    eye = scale * EYE @ turn
    low, high = eye.min(axis=0), eye.max(axis=0)
    middle, sides = (low + high) / 2, (high - low) * (2, 3)
    return _around(left + middle, sides), _around(right + middle, sides)


def mask(pixels: Pixels, boxes: Iterable[Box]) -> Pixels:
    """A copy with every box black.

    Args:
        pixels: (height, width, 3) uint8.
        boxes: of any number of faces; what lies beyond the picture is passed over.
    """
    masked = pixels.copy()
    for box in boxes:
        masked[max(0, box.top) : max(0, box.bottom), max(0, box.left) : max(0, box.right)] = 0
    return masked


def _grown(marks: npt.NDArray[np.int64]) -> Box:
    """The bounding box of one eye's landmarks, twice as wide and three times as high, as the release places it."""
    (left, top), (right, bottom) = marks.min(axis=0).tolist(), marks.max(axis=0).tolist()
    width, height = right - left + 1, bottom - top + 1
    left, top = left - width // 2, top - height
    return Box(left, top, left + 2 * width, top + 3 * height)


def _around(middle: npt.NDArray[np.float64], sides: npt.NDArray[np.float64]) -> Box:
    """Every pixel that a rectangle touches; the middle of the first pixel is (0, 0)."""
    left, top = np.floor(middle + 0.5 - sides / 2).astype(int).tolist()
    right, bottom = np.ceil(middle + 0.5 + sides / 2).astype(int).tolist()
    return Box(left, top, max(right, left + 1), max(bottom, top + 1))
