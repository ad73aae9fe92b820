"""Score-CAM: which parts of a view a raw score rests on, told by what the network makes of masked copies of it.

*Paper*: Wang et al., "Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural Networks", CVPR workshops
2020, algorithm 1. Each channel of the last feature map, enlarged to the view (bilinear) and scaled to [0, 1], masks the
view. How far the score of the masked view lies above that of a baseline is the channel's increase of confidence; the
softmax of these over the channels weighs them, and the map is the rectified weighted sum of the channels. It needs no
gradients, so the graph that ships is asked itself.

*Release* (haofanwang/Score-CAM@80326cbb1b39, `cam/scorecam.py`): channels are weighed by the class's probability
without a softmax over them; channels that do not vary are passed over.

*Ours*: the paper's weights, of a stream's raw score, or of its negative where the question is what speaks for real.
The mask multiplies the normalised view, so what it hides turns to zeros: a grey that says nothing. The baseline is such
zeros all over; its score is the same for every channel of a view and the softmax cancels it, so it is never run.
Channels that do not vary are passed over, as in the release, and of many channels only those that vary most are asked.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt

from assay.judge.engine import Batch, Engine

Toward = Literal["fake", "real"]
Raw = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float64]]
"""A stream's raw scores, shape (n,), of its trunk's embeddings, shape (n, d); higher = more fake."""

CHANNELS = 64
"""Channels asked a view unless told otherwise. Each is one more run of the trunk; `bench/explain.py` says how near that
comes to asking all."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Masked:
    """What a trunk made of views and of their masked copies. Streams that share the trunk and the views share it.

    Args:
        features: of the views, (n, c, h, w) float32.
        asked: (p, 2): the view and the channel of each masked copy.
        embeddings: of the masked copies, (p, d) float32.
    """

    features: npt.NDArray[np.float32]
    asked: npt.NDArray[np.intp]
    embeddings: npt.NDArray[np.float32]

    def maps(self, raw: Raw, toward: Toward = "fake") -> npt.NDArray[np.float32]:
        """The map of each view for one stream, (n, h, w) float32, >= 0: where what speaks for fake lies, or for real.

        A view without a channel that varies has a map of zeros.

        Raises:
            ValueError: a masked view has no finite score.
        """
        increase = np.full(self.features.shape[:2], -np.inf)
        if len(self.asked):
            scores = raw(self.embeddings)
            if not np.isfinite(scores).all():
                raise ValueError("its network gave no finite number for a masked view")
            increase[self.asked[:, 0], self.asked[:, 1]] = scores if toward == "fake" else -scores
        weights = _softmax(increase)
        summed = np.einsum("nc,nchw->nhw", weights, self.features)
        return np.asarray(np.maximum(summed, 0), np.float32)


def ask(
    engine: Engine,
    views: Batch,
    features: npt.NDArray[np.float32],
    *,
    channels: int | None = CHANNELS,
    progress: Callable[[int, int], None] | None = None,
) -> Masked:
    """Run a trunk on masked copies of views.

    Args:
        views: (n, 3, S, S) float32, normalised, n >= 1.
        features: of these views, (n, c, h, w) float32, as `Engine.explain` gives them.
        channels: most channels asked a view, those of the largest variance over its map; None for all that vary.
        progress: told (done, total) masked copies.

    Raises:
        BundleError: the trunk can't be run.
    """
    asked = _chosen(features, channels)
    size = views.shape[-1]
    found = []
    # Part by part: all copies together would take gigabytes.
    for start in range(0, len(asked), engine.crops):
        part = asked[start : start + engine.crops]
        masks = scaled(enlarged(features[part[:, 0], part[:, 1]], size, size))
        found.append(engine.run(views[part[:, 0]] * masks[:, None]))
        if progress is not None:
            progress(min(start + engine.crops, len(asked)), len(asked))
    return Masked(features, asked, np.concatenate(found) if found else np.empty((0, 0), np.float32))


def enlarged(maps: npt.NDArray[np.float32], height: int, width: int) -> npt.NDArray[np.float32]:
    """Maps (..., h, w) as (..., height, width), bilinear: samples stand for the middles of their pixels, and the edge
    goes on beyond the outermost ones (`align_corners=False` in torch). Nothing is smoothed where a side shrinks."""
    rows, columns = _weights(maps.shape[-2], height), _weights(maps.shape[-1], width)
    return np.asarray(rows @ maps @ columns.T, np.float32)


def scaled(maps: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Each map (..., h, w) stretched to [0, 1]; one that does not vary becomes zeros."""
    low = maps.min(axis=(-2, -1), keepdims=True)
    extent = maps.max(axis=(-2, -1), keepdims=True) - low
    return np.asarray((maps - low) / np.where(extent > 0, extent, 1), np.float32)


def _chosen(features: npt.NDArray[np.float32], channels: int | None) -> npt.NDArray[np.intp]:
    """Views and channels to ask, (p, 2), view by view."""
    variance = features.astype(np.float64).var(axis=(2, 3))
    # Rounding leaves a channel of one value a variance of nearly nothing.
    variance[features.max(axis=(2, 3)) <= features.min(axis=(2, 3))] = 0
    order = np.argsort(-variance, axis=1, kind="stable")[:, :channels]
    wanted = np.zeros(variance.shape, np.bool_)
    np.put_along_axis(wanted, order, True, axis=1)
    return np.argwhere(wanted & (variance > 0))


def _softmax(increase: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Over the channels, (n, c); -inf weighs nothing, and a row of nothing else stays zeros."""
    top = increase.max(axis=1, keepdims=True)
    weights: npt.NDArray[np.float64] = np.exp(increase - np.where(np.isfinite(top), top, 0))
    total = weights.sum(axis=1, keepdims=True)
    return np.asarray(weights / np.where(total > 0, total, 1), np.float64)


def _weights(before: int, after: int) -> npt.NDArray[np.float32]:
    """What each of `before` samples adds to each of `after`, (after, before)."""
    places = np.clip((np.arange(after) + 0.5) * before / after - 0.5, 0, before - 1)
    low = np.floor(places).astype(np.intp)
    share = places - low
    weights = np.zeros((after, before), np.float32)
    rows = np.arange(after)
    weights[rows, low] += 1 - share
    weights[rows, np.minimum(low + 1, before - 1)] += share
    return weights
