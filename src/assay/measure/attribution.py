"""What is measured of maps: how they and the embedding hold under noise, where on a face they lie, how alike two are.

Source: the analyses of "drift" (arXiv 2604.25889): Score-CAM of each stream with the share of attribution inside the
face, the eyes, the mouth and the background, on clean and degraded pictures; cosine between streams' maps; cosine
between the embeddings of the clean and the noisy picture over noise of 0 to 1. *Ours*: the top tenth that stays, how
far the centroid moves, and the boxes of the eyes (`assay.image.eyes`) and the mouth, which the paper does not give.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.image.decode import decode
from assay.image.eyes import EYES_TO_MOUTH, boxes_of_centres
from assay.image.faces import Face
from assay.judge.detector import Detector
from assay.judge.explain import Explanation, Look, Progress, explain
from assay.measure.robustness import damaged
from assay.metrics import finite
from assay.types import Box, Pixels

Map = npt.NDArray[Any]
"""(height, width), >= 0."""

LEVELS = tuple(part / 10 for part in range(11))
"""Strengths of noise that embeddings are compared at."""

STRENGTHS = (0.5, 1.0)
"""Strengths of noise that maps are made again at; each costs as much as the first."""

TOP = 0.1
"""Share of the pixels whose overlap is told."""

NOISE = "gaussian_noise"

MOUTH = np.array([[-0.45, 0.0], [0.0, -0.10], [0.45, 0.0], [0.0, 0.245]])
"""An average mouth: its corners, the upper lip's top and the lower lip's bottom, from the middle between the corners,
in distances between the eyes' middles. Rounded from the mean face that `assay.image.eyes` has its eye of."""

_GROWN = 1.5
"""Of the mouth's box, both sides: a map is coarser than a lip."""


@dataclasses.dataclass(frozen=True, slots=True)
class Shares:
    """The share of a map in each part of the faces of a picture, in [0, 1]; NaN where the map is zero all over.

    Args:
        face: inside the boxes of the faces; eyes and mouth included, as far as they lie inside.
        eyes, mouth: inside their boxes.
        background: outside the boxes of the faces.
    """

    face: float
    eyes: float
    mouth: float
    background: float

    def to_dict(self) -> dict[str, float | None]:
        """A JSON-ready object; null for what is NaN."""
        return {name: finite(value) for name, value in dataclasses.asdict(self).items()}


@dataclasses.dataclass(frozen=True, slots=True)
class Drift:
    """How far a map of a degraded picture is from that of the clean one; NaN where one of them does not vary.

    Args:
        overlap: the share of the clean map's top tenth that is in the degraded one's top tenth, in [0, 1]; by chance
            it is a tenth.
        shift: the distance of their centroids as a share of the picture's diagonal.
        cosine: of the two maps, in [0, 1].
        entropy: of the class token's attention on the degraded picture, in nats; None where there is none.
    """

    overlap: float
    shift: float
    cosine: float
    entropy: float | None = None

    def to_dict(self) -> dict[str, float | None]:
        """A JSON-ready object; null for what is NaN."""
        numbers = {"overlap": self.overlap, "shift": self.shift, "cosine": self.cosine}
        told = {name: finite(value) for name, value in numbers.items()}
        return told if self.entropy is None else told | {"entropy": self.entropy}


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Noisy:
    """How an explanation holds under noise.

    Args:
        stability: for each stream, the cosine between its embeddings of the clean and the noisy picture, at each of
            `LEVELS`; NaN where it does not apply to the noisy one.
        explanations: of the noisy picture, by strength.
        drifts: for each stream that has a map on the clean and the noisy picture, by strength.
    """

    stability: Mapping[str, tuple[float, ...]]
    explanations: Mapping[float, Explanation]
    drifts: Mapping[str, Mapping[float, Drift]]

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready object, without the maps."""
        return {
            name: {
                "stability": [[level, finite(cosine)] for level, cosine in zip(LEVELS, cosines, strict=True)],
                "drift": [{"strength": at, **drift.to_dict()} for at, drift in self.drifts.get(name, {}).items()],
            }
            for name, cosines in self.stability.items()
        }


def noisy(
    detector: Detector,
    clean: Explanation,
    *,
    strengths: Sequence[float] = STRENGTHS,
    progress: Progress | None = None,
) -> Noisy:
    """Explain a picture again under Gaussian noise, and see what stays.

    Args:
        clean: of this detector; its picture, streams, channels and question are asked again.
        strengths: of the noise, each in [0, 1].
        progress: as for `assay.judge.explain.explain`.

    Raises:
        RecipeError: a strength beyond [0, 1].
    """
    names = [look.name for look in clean.streams]
    explanations = {
        strength: explain(
            detector,
            damaged(NOISE, strength)(clean.pixels),
            streams=names,
            channels=clean.channels,
            toward=clean.toward,
            progress=progress,
        )
        for strength in strengths
    }
    drifts: dict[str, dict[float, Drift]] = {look.name: {} for look in clean.drawn}
    for strength, explanation in explanations.items():
        after = {look.name: look for look in explanation.drawn}
        for look in clean.drawn:
            if look.name in after:
                drifts[look.name][strength] = drift(look, after[look.name])
    return Noisy(stability(detector, clean.pixels, names), explanations, drifts)


def stability(
    detector: Detector, pixels: Pixels, streams: Collection[str] | None = None, levels: Sequence[float] = LEVELS
) -> dict[str, tuple[float, ...]]:
    """For each stream, the cosine between its embeddings of a picture and of the same with Gaussian noise.

    The embedding of a picture is the mean over its crops.

    Args:
        pixels: (height, width, 3) uint8.
        streams: by name; None for all that judge. A stream that does not apply to the clean picture is left out.
        levels: strengths of the noise, each in [0, 1]; 0 leaves the picture as it is.

    Raises:
        RecipeError: a level beyond [0, 1].
    """
    before = _embeddings(detector, pixels, streams)
    found: dict[str, list[float]] = {name: [] for name in before}
    for level in levels:
        after = _embeddings(detector, damaged(NOISE, level)(pixels), streams)
        for name, embedding in before.items():
            found[name].append(cosine(embedding, after[name]) if name in after else math.nan)
    return {name: tuple(cosines) for name, cosines in found.items()}


def drift(clean: Look, degraded: Look) -> Drift:
    """How far one stream's map moved, on the pixels that it was shown both times. The pictures have one size.

    Raises:
        ValueError: one of them has no map, or the sizes differ.
    """
    if clean.map is None or degraded.map is None or clean.seen is None or degraded.seen is None:
        raise ValueError(f"{clean.name} has no map on one of the pictures")
    if clean.map.shape != degraded.map.shape:
        raise ValueError(f"maps of shapes {clean.map.shape} and {degraded.map.shape} are not of one picture")
    both = clean.seen & degraded.seen
    return Drift(
        overlap(clean.map, degraded.map, both),
        shift(clean.map, degraded.map),
        cosine(clean.map, degraded.map),
        degraded.entropy,
    )


def overlap(clean: Map, degraded: Map, seen: npt.NDArray[np.bool_] | None = None) -> float:
    """The share of the clean map's top tenth of pixels that is in the degraded one's, in [0, 1].

    Args:
        clean, degraded: (height, width). Of equal values the upper left one counts as larger.
        seen: the pixels that count; None for all.

    Returns:
        NaN where nothing was seen, or a map does not vary there.
    """
    where = np.ones(clean.shape, np.bool_) if seen is None else seen
    values = [map[where] for map in (clean, degraded)]
    if not where.any() or any(each.min() == each.max() for each in values):
        return math.nan
    count = math.ceil(TOP * len(values[0]))
    before, after = (np.argsort(-each, kind="stable")[:count] for each in values)
    return len(np.intersect1d(before, after)) / count


def shift(clean: Map, degraded: Map) -> float:
    """The distance of two maps' centroids as a share of the picture's diagonal; NaN where a map is zero all over."""
    height, width = clean.shape
    return math.dist(_centroid(clean), _centroid(degraded)) / math.hypot(height, width)


def cosine(one: Map, other: Map) -> float:
    """Between two arrays of one shape, taken as vectors; NaN where one is zero all over."""
    a, b = np.ravel(one).astype(np.float64), np.ravel(other).astype(np.float64)
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / lengths if lengths > 0 else math.nan


def between(explanation: Explanation) -> dict[tuple[str, str], float]:
    """The cosine between the maps of every two streams that have one: how far they look at the same places."""
    pairs = itertools.combinations([(look.name, look.map) for look in explanation.drawn if look.map is not None], 2)
    return {(one, other): cosine(mine, theirs) for (one, mine), (other, theirs) in pairs}


def shares(map: Map, faces: Sequence[Face]) -> Shares:
    """Where on the faces of a picture a map lies. A map alike all over gives the shares of the area.

    Args:
        map: (height, width), >= 0.
        faces: of this picture, at least one. Where several overlap, a pixel counts once.
    """
    size = map.shape
    face = _inside([each.box for each in faces], size)
    eyes = _inside([box for each in faces for box in boxes_of_centres(each)], size)
    mouth = _inside([box_of_mouth(each) for each in faces], size)
    values, total = map.astype(np.float64), float(map.sum(dtype=np.float64))
    if not total > 0:
        return Shares(math.nan, math.nan, math.nan, math.nan)
    inside, in_eyes, in_mouth = (float(values[part].sum()) / total for part in (face, eyes, mouth))
    return Shares(inside, in_eyes, in_mouth, float(values[~face].sum()) / total)


def box_of_mouth(face: Face) -> Box:
    """A box around the mouth, made as `assay.image.eyes.boxes_of_centres` makes those of the eyes: an average mouth
    around the middle between its corners, scaled to the face and turned with it. It may reach beyond the picture."""
    marks = np.asarray(face.landmarks, np.float64)
    left, right = marks[3], marks[4]
    across, eyes = right - left, marks[1] - marks[0]
    down = (left + right) / 2 - (marks[0] + marks[1]) / 2
    # In a face turned to the side eyes and corners draw together, and the height from eyes to mouth stays.
    scale = max(math.hypot(*eyes), math.hypot(*down) / EYES_TO_MOUTH)
    tilt = math.atan2(across[1], across[0]) if math.hypot(*across) > scale / 2 else math.atan2(-down[0], down[1])
    turn = np.array([[math.cos(tilt), math.sin(tilt)], [-math.sin(tilt), math.cos(tilt)]])
    mouth = scale * MOUTH @ turn
    low, high = mouth.min(axis=0), mouth.max(axis=0)
    middle, half = (left + right) / 2 + (low + high) / 2, _GROWN * (high - low) / 2
    first = np.floor(middle + 0.5 - half).astype(int).tolist()
    last = np.ceil(middle + 0.5 + half).astype(int).tolist()
    return Box(first[0], first[1], max(last[0], first[0] + 1), max(last[1], first[1] + 1))


def _embeddings(
    detector: Detector, pixels: Pixels, streams: Collection[str] | None
) -> dict[str, npt.NDArray[np.float64]]:
    """Of each stream that applies to a picture, the mean over its crops, (d,)."""
    found = detector.embed_prepared([detector.cut(decode(pixels), "")])
    means = {}
    for card in detector.streams:
        if (card.trunk, card.view) in found and (streams is None or card.name in streams):
            means[card.name] = card.own(found[card.trunk, card.view]).mean(axis=0, dtype=np.float64)
    return means


def _centroid(map: Map) -> tuple[float, float]:
    """Row and column, in px; NaN where the map is zero all over."""
    total = float(map.sum(dtype=np.float64))
    if not total > 0:
        return math.nan, math.nan
    rows, columns = map.sum(axis=1, dtype=np.float64), map.sum(axis=0, dtype=np.float64)
    return float(np.arange(len(rows)) @ rows) / total, float(np.arange(len(columns)) @ columns) / total


def _inside(boxes: Sequence[Box], size: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """The pixels inside any of the boxes, (height, width)."""
    inside = np.zeros(size, np.bool_)
    for box in boxes:
        inside[max(0, box.top) : max(0, box.bottom), max(0, box.left) : max(0, box.right)] = True
    return inside
