"""t-SNE: an embedding on a plane, to look at. It uses scikit-learn (extra "measure"), as `manifold` does.

van der Maaten and Hinton, "Visualizing data using t-SNE", JMLR 2008. Neighbourhoods are kept; distances between
clusters, and their sizes, mean nothing.
"""

from __future__ import annotations

import importlib.util
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from assay.errors import MissingExtra

PERPLEXITY = 30.0
FEWEST = 8
"""Rows below which there is nothing to see."""


class Plane(NamedTuple):
    """Where each row lies, (n, 2) float64, and the perplexity that was used."""

    points: npt.NDArray[np.float64]
    perplexity: float


def ready() -> None:
    """Whether there is a scikit-learn, told before the work that would be lost.

    Raises:
        MissingExtra: there is none.
    """
    try:
        found = importlib.util.find_spec("sklearn") is not None
    except ValueError:
        found = False
    if not found:
        raise MissingExtra("a t-SNE picture (--most 0 goes without)", "measure")


def tsne(embeddings: npt.NDArray[Any], *, perplexity: float = PERPLEXITY, seed: int = 0) -> Plane:
    """Embeddings on a plane, by cosine: vectors are scaled to length 1 first.

    Args:
        embeddings: (n, d), n >= `FEWEST`.
        perplexity: about how many neighbours a row has, >= 1; at most (n − 1) / 3 is used, so that neighbourhoods
            stay smaller than the whole.
        seed: the same rows and seed give the same plane on the same machine.

    Raises:
        MissingExtra: there is no scikit-learn.
        ValueError: fewer than `FEWEST` rows.
    """
    ready()
    from sklearn.manifold import TSNE

    rows = np.asarray(embeddings, np.float64)
    if len(rows) < FEWEST:
        raise ValueError(f"{len(rows)} rows are too few for a t-SNE; it takes {FEWEST}")
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    used = max(1.0, min(perplexity, (len(rows) - 1) / 3))
    # Principal components start the same way each time and keep the large distances; a flat start has none.
    flat = rows.shape[1] < 2 or not np.ptp(unit, axis=0).any()
    found = TSNE(perplexity=used, init="random" if flat else "pca", random_state=seed).fit_transform(unit)
    return Plane(np.asarray(found, np.float64), used)
