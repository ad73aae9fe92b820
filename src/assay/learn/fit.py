"""Fitting a head on frozen embeddings of training rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from assay.errors import ManifestError
from assay.judge.engine import Engine
from assay.judge.heads import LinearHead
from assay.learn.batches import Balanced
from assay.learn.embed import embed
from assay.learn.recipe import Descend, Fit, Linear, Stream
from assay.learn.rows import labels_of
from assay.learn.tiles import TileStore
from assay.learn.views import random_crop, random_region, sized
from assay.types import Label, Pixels, Sample

Floats = npt.NDArray[np.float64]


def linear(embeddings: Floats, labels: npt.NDArray[np.int64], head: Linear) -> LinearHead:
    """Logistic regression on un-normalised embeddings (CoDE, released code: C 0.316, balanced, 1,500 iterations).

    Args:
        embeddings: (n, d).
        labels: (n,), 1 = fake; both classes present.
    """
    weight = "balanced" if head.balanced else None
    model = LogisticRegression(C=head.C, class_weight=weight, max_iter=head.iterations)
    model.fit(embeddings, labels)
    return LinearHead(model.coef_[0], float(model.intercept_[0]))


def fit(
    stream: Stream,
    stage: Fit,
    descend: Descend,
    samples: Sequence[Sample],
    store: TileStore,
    engine: Engine,
    *,
    seed: int,
    workers: int,
) -> tuple[LinearHead, Floats, npt.NDArray[np.int64]]:
    """Fit a stream's head.

    Rows are drawn as training drew them (classes alike, sources by `descend.source_power`), so that the head does not
    lean to the largest source. Each row gives one plain crop, and `stage.altered` more that went through alignment
    and T.

    Returns:
        The head, and what it was fitted on: embeddings (n, d) and labels (n,).

    Raises:
        ManifestError: a class is absent.
    """
    pairs = min(stage.records // 2, *(sum(sample.label == label for sample in samples) for label in Label))
    if not pairs:
        raise ManifestError("a head needs labelled training rows of both classes; check the manifest's label column")
    rows = Balanced(samples, descend.source_power).draw(pairs, np.random.default_rng([seed, 1]))
    size = stream.view.size

    def crops(row: int) -> Pixels:
        chance = np.random.default_rng([seed, 2, row])
        tile = store.tile(row, int(chance.integers(store.count(row))))
        out = [random_crop(tile, size, chance)]
        for _ in range(stage.altered):
            region = random_region(tile, descend.crops.base, chance)
            if descend.align is not None:
                region = descend.align(region, chance)
            out.append(sized(descend.alter, size)(region, chance))
        return np.stack(out)

    what = f"embedding rows for {stream.name}"
    parts = embed([int(row) for row in rows], crops, stream.view, engine, what=what, workers=workers)
    embeddings = np.concatenate(parts).astype(np.float64)
    labels = np.repeat(labels_of([samples[row] for row in rows]), [len(part) for part in parts])
    return linear(embeddings, labels, stream.head), embeddings, labels
