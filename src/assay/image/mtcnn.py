"""MTCNN, a small face detector for CPUs: three networks, each of which looks harder at what the one before let through.

*Paper*: Zhang, Zhang, Li and Qiao, "Joint Face Detection and Alignment Using Multitask Cascaded Convolutional
Networks", IEEE Signal Processing Letters 23 (2016), section II. The first network slides a 12 px window over a pyramid
of the picture, the second (24 px) sorts out its proposals, the third (48 px) gives the score and five landmarks; boxes
are corrected and thinned out (non-maximum suppression) after each.

*Release*: the networks are the three ONNX files in the wheel of mtcnn-runtime (extra "faces"), and the cascade's
constants are those of its detector (SAKURA-CAT/mtcnn-runtime 1.0.0, `mtcnnruntime/detector.py`). Only the files are
used: that package's code needs OpenCV, fails on some pictures without a face, and moves faces that leave the picture,
as it clips a square after the network has looked at all of it. The graphs take RGB, scaled to
(x - 127.5) / 128, as (n, 3, height, width), and turn the axes themselves where the trained networks want them turned.

*Ours*: only faces of a score of 0.9 and above are given; large pictures are shrunk before the search; the pyramid is
resampled with an anti-aliasing filter; proposals are limited in number, so that no picture takes for ever.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from PIL import Image

from assay.errors import MissingExtra, RecipeError
from assay.image.faces import Face, find, shrunk
from assay.types import Box, Pixels

Floats = npt.NDArray[np.float32]

SCORE = 0.9
"""Least score of a face that is given. At 0.7, the release's own, one picture in ten without a face shows one, at 0.9
one in thirty (`bench/faces.py`)."""

SMALLEST = 20
"""Shorter side in px of the smallest face that is looked for, in the picture as it is searched."""

LONGEST = 1024
"""Longest side in px of a picture as it is searched: a face of 80 px is still found in a photograph of 4096."""

CASCADE = 1
"""Raised whenever a change here may change what is found, so that what was found before is not mistaken for it."""

_CELL, _STRIDE, _STEP = 12, 2, 0.707
_SCORES = (0.7, 0.7)
"""Of the first two networks: what scores no more goes no further."""

_PROPOSALS = 512
"""Most boxes that any step passes on; photographs have tens to a few hundred."""

_BATCH = 64


class Mtcnn:
    """The detector. Calls from several threads are safe.

    Args:
        score: least score in [0.7, 1] of a face that is given.
        smallest: shorter side in px, 12 or more, of the smallest face that is looked for, in the picture as it is
            searched. The time goes with (longest / smallest)².
        longest: a picture with a longer side than this, in px, is shrunk to it first.
        threads: cores for one picture. One is best where several pictures are searched side by side.

    Raises:
        MissingExtra: the networks are not installed (extra "faces").
        RecipeError: a setting is out of range.
    """

    def __init__(
        self, *, score: float = SCORE, smallest: int = SMALLEST, longest: int = LONGEST, threads: int = 1
    ) -> None:
        if not _SCORES[1] <= score <= 1:
            raise RecipeError(f"a face's least score of {score} does not hold; give {_SCORES[1]} to 1")
        if smallest < _CELL:
            raise RecipeError(f"faces of {smallest} px can't be found; give {_CELL} px or more")
        if longest < smallest or threads < 1:
            raise RecipeError(f"longest {longest} and threads {threads} do not hold; give {smallest} and 1, or more")
        self._score, self._smallest, self._longest = score, smallest, longest
        graphs = [graph.read_bytes() for graph in _graphs()]
        digest = hashlib.sha256(b"".join(graphs)).hexdigest()[:8]
        self.name = f"mtcnn-{CASCADE} {digest} score {score:g} smallest {smallest} longest {longest}"
        self._proposing, self._refining, self._placing = (_session(graph, threads) for graph in graphs)

    def detect(self, pixels: Pixels) -> list[Face]:
        """The faces in a picture, the best score first.

        Args:
            pixels: (height, width, 3) uint8, one pixel or more.

        Returns:
            Boxes clipped to the picture, scores in [score, 1], landmarks that may lie outside where a face is cut off.
        """
        height, width = pixels.shape[:2]
        image = shrunk(pixels, self._longest)
        boxes = self._proposals(image)
        boxes = self._refined(image, boxes)
        boxes, points = self._placed(image, boxes)
        return _faces(boxes, points, (width / image.width, height / image.height), (width, height))

    def _proposals(self, image: Image.Image) -> Floats:
        """Squares that may hold a face, shape (n, 5)."""
        found = [self._level(image, scale) for scale in _scales(min(image.size), self._smallest)]
        if not found:
            return np.zeros((0, 5), np.float32)
        boxes = np.concatenate(found)
        boxes = boxes[thinned(boxes[:, :5], 0.6)]
        return _squared(_corrected(boxes[:, :5], boxes[:, 5:]))

    def _level(self, image: Image.Image, scale: float) -> Floats:
        """What one level of the pyramid proposes: boxes, scores and corrections, shape (n, 9)."""
        level = _resized(image, (math.ceil(image.width * scale), math.ceil(image.height * scale)))
        shifts, scores = self._proposing.run(["output1", "output2"], {"input": _tensor(level[None])})
        face = scores[0, 1]
        rows, columns = np.nonzero(face > _SCORES[0])
        best = _best(face[rows, columns])
        rows, columns = rows[best], columns[best]
        left, top = _STRIDE * columns + 1, _STRIDE * rows + 1
        corners = np.stack([left, top, left + _CELL, top + _CELL], axis=1) / scale
        boxes = np.concatenate(
            [np.round(corners), face[rows, columns][:, None], shifts[0][:, rows, columns].T], axis=1, dtype=np.float32
        )
        return boxes[thinned(boxes[:, :5], 0.5)]

    def _refined(self, image: Image.Image, boxes: Floats) -> Floats:
        shifts, scores = _run(self._refining, ["output1", "output2"], image, boxes, 24)
        keep = np.flatnonzero(scores[:, 1] > _SCORES[1])
        boxes = np.column_stack([boxes[keep, :4], scores[keep, 1]])
        best = thinned(boxes, 0.7)
        return _squared(_corrected(boxes[best], shifts[keep][best]))

    def _placed(self, image: Image.Image, boxes: Floats) -> tuple[Floats, Floats]:
        """Boxes (n, 5) and landmarks (n, 5, 2)."""
        points, shifts, scores = _run(self._placing, ["output1", "output2", "output3"], image, boxes, 48)
        keep = np.flatnonzero(scores[:, 1] >= self._score)
        boxes = np.column_stack([boxes[keep, :4], scores[keep, 1]])
        sides = boxes[:, 2:4] - boxes[:, :2] + 1
        # Five xs and then five ys, as shares of the square that was looked at.
        places = boxes[:, None, :2] + points[keep].reshape(-1, 2, 5).transpose(0, 2, 1) * sides[:, None, :]
        boxes = _corrected(boxes, shifts[keep])
        best = thinned(boxes, 0.8, of_smaller=True)
        return boxes[best], places[best]


KEPT = 8192
"""Pictures whose faces are kept, a kilobyte or so each."""

_found: dict[bytes, tuple[Face, ...]] = {}
_keeping = threading.Lock()


@functools.cache
def shared(score: float = SCORE) -> Mtcnn:
    """One for each process: sessions cannot be sent to another. Raises as `Mtcnn` does."""
    return Mtcnn(score=score)


def look(pixels: Pixels) -> tuple[Face, ...]:
    """The faces in a picture, the best score first, looked for a second time on enhanced copies where it shows none
    (`assay.image.faces.find`): what views of faces are cut by, in training as in judging.

    What was found of the last `KEPT` pictures is kept: an evaluation shows the same pixels to one detector after
    another, and the search takes longer than judging.

    Args:
        pixels: (height, width, 3) uint8, one pixel or more.

    Raises:
        MissingExtra: the networks are not installed (extra "faces").
    """
    key = hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=16).digest() + repr(pixels.shape).encode()
    faces = _found.get(key)
    if faces is None:
        faces = find(pixels, shared()).faces
        with _keeping:
            if len(_found) >= KEPT:
                del _found[next(iter(_found))]
            _found[key] = faces
    return faces


def forget() -> None:
    """Drop what `look` kept, so that the next search takes its time."""
    with _keeping:
        _found.clear()


def thinned(boxes: Floats, overlap: float, *, of_smaller: bool = False) -> npt.NDArray[np.intp]:
    """Non-maximum suppression: which boxes stay when each takes away the worse ones that it overlaps.

    Args:
        boxes: (n, 5): left, top, right, bottom (both included) in px, and the score.
        overlap: what is shared, as part of the union of two boxes, that is still allowed.
        of_smaller: as part of the smaller box instead: a box inside another always goes.

    Returns:
        Indices into `boxes`, the best score first, at most 512.
    """
    order = _best(boxes[:, 4])
    left, top, right, bottom = boxes[order, :4].T.astype(np.float64)
    area = (right - left + 1) * (bottom - top + 1)
    kept = []
    alive = np.ones(len(order), np.bool_)
    for place in range(len(order)):
        if not alive[place]:
            continue
        kept.append(order[place])
        rest = np.flatnonzero(alive[place + 1 :]) + place + 1
        across = np.minimum(right[place], right[rest]) - np.maximum(left[place], left[rest]) + 1
        down = np.minimum(bottom[place], bottom[rest]) - np.maximum(top[place], top[rest]) + 1
        shared = np.maximum(across, 0) * np.maximum(down, 0)
        whole = np.minimum(area[place], area[rest]) if of_smaller else area[place] + area[rest] - shared
        alive[rest[shared > overlap * whole]] = False
    return np.array(kept, np.intp)


def _best(scores: Floats) -> npt.NDArray[np.intp]:
    return np.argsort(-scores, kind="stable")[:_PROPOSALS]


def _graphs() -> list[Path]:
    # Found, not imported: the package imports OpenCV.
    found = importlib.util.find_spec("mtcnnruntime")
    for folder in (found.submodule_search_locations or ()) if found else ():
        graphs = [Path(folder, "weights", f"{name}.onnx") for name in ("pnet", "rnet", "onet")]
        if all(graph.is_file() for graph in graphs):
            return graphs
    raise MissingExtra("finding faces", "faces")


def _session(graph: bytes, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Every level of every picture has another size; a plan of memory for each of them would be kept for nothing.
    options.enable_mem_pattern = False
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _scales(side: int, smallest: int) -> list[float]:
    """Factors of the pyramid: from the one that makes the smallest face one cell, as long as a cell fits in `side`."""
    scales, scale = [], _CELL / smallest
    while side * scale > _CELL:
        scales.append(scale)
        scale *= _STEP
    return scales


def _tensor(pixels: Pixels) -> Floats:
    """(n, height, width, 3) uint8 to (n, 3, height, width) float32, -1 to 1."""
    return (np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).astype(np.float32) - 127.5) * np.float32(1 / 128)


def _run(session: Any, outputs: list[str], image: Image.Image, boxes: Floats, size: int) -> list[Floats]:
    """What a network says of each box, cut out and resized to `size` px; black where a box leaves the picture."""
    widths = [output.shape[1] for output in session.get_outputs()]
    parts = [[np.zeros((0, width), np.float32) for width in widths]]
    for start in range(0, len(boxes), _BATCH):
        cuts = [_cut(image, box, size) for box in boxes[start : start + _BATCH]]
        parts.append(session.run(outputs, {"input": _tensor(np.stack(cuts))}))
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def _resized(image: Image.Image, size: tuple[int, int]) -> Pixels:
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR))


def _cut(image: Image.Image, box: Floats, size: int) -> Pixels:
    left, top, right, bottom = (int(edge) for edge in box[:4])
    part = image.crop((left, top, right + 1, bottom + 1))
    sampling = Image.Resampling.BOX if part.width > size else Image.Resampling.BILINEAR
    return np.asarray(part.resize((size, size), sampling))


def _corrected(boxes: Floats, shifts: Floats) -> Floats:
    """Boxes whose edges are moved by shares of their sides, as a network asks."""
    moved = boxes.copy()
    sides = boxes[:, 2:4] - boxes[:, :2] + 1
    moved[:, :4] += np.tile(sides, 2) * shifts
    return moved


def _squared(boxes: Floats) -> Floats:
    """The square around each box's middle that has its longer side, in whole px."""
    square = boxes.copy()
    sides = boxes[:, 2:4] - boxes[:, :2] + 1
    side = sides.max(axis=1, keepdims=True)
    square[:, :2] = boxes[:, :2] + (sides - side) / 2
    square[:, 2:4] = square[:, :2] + side - 1
    square[:, :4] = np.round(square[:, :4])
    return square


def _faces(boxes: Floats, points: Floats, scale: tuple[float, float], size: tuple[int, int]) -> list[Face]:
    """Faces in px of the picture, `scale` times larger than what was searched."""
    faces = []
    for (left, top, right, bottom, score), places in zip(boxes.tolist(), points.tolist(), strict=True):
        box = Box(
            max(0, round(left * scale[0])),
            max(0, round(top * scale[1])),
            min(size[0], round((right + 1) * scale[0])),
            min(size[1], round((bottom + 1) * scale[1])),
        )
        if box.width > 0 and box.height > 0:
            one, two, three, four, five = (
                (round((x + 0.5) * scale[0] - 0.5, 2), round((y + 0.5) * scale[1] - 0.5, 2)) for x, y in places
            )
            faces.append(Face(box, round(score, 6), (one, two, three, four, five)))
    return faces
