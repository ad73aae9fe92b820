"""A look at the embedding after the contrastive stage: do real and fake lie apart in it?

DFCon's failure sign (arXiv 2501.16704) is an overlap after stage 1: no head that is fitted later can mend it. Training
says so at once, on tuning rows, with a t-SNE picture to look at.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from assay.learn.descend import Data, Training, embeddings_of
from assay.measure.gather import Embedding
from assay.measure.overview import overview
from assay.metrics import Interval

FOLDER = "separation"
"""In a run's folder, what is written here."""

MOST = 600
"""Rows in the t-SNE picture."""

ROUNDS = 200
"""Of the intervals' bootstrap."""


def look(training: Training, tune: Data, folder: Path, console: Console) -> dict[str, Any]:
    """Measure how far a trained network sets tuning rows apart, print it, and write arrays and t-SNE pictures.

    Args:
        tune: rows that gradient steps never used. The steps to keep were chosen on them, so this is no test.
        folder: made where it is missing.

    Returns:
        For the card: the figures, None where rows are too few for one, and whether the classes lie apart.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = training.stream.name
    vectors = embeddings_of(training, tune, range(len(tune.samples))).astype(np.float32)
    part = Embedding(name, (name,), vectors, tuple(tune.samples), np.ones(len(vectors), np.bool_))
    view = overview(part, folder, title=f"{name} after training", most=MOST, seed=training.seed, rounds=ROUNDS)
    figures = view.figures
    told = ", ".join(
        _words(what, figures.metrics[key])
        for key, what in (("probe_auc", "linear probe AUC"), ("silhouette_label", "silhouette of the label"))
    )
    console.print(Text(f"\n{name}: embedding of {len(vectors)} tuning rows: {told}"))
    console.print(Text(f"  {figures.sign}"))
    if figures.overlapping:
        console.print(
            Text(
                f"WARNING: the embedding of {name} has not separated; heads fitted on it will do little better than "
                "chance. Train longer, on larger batches or on more sources, or lower descend.loss.temperature",
                style="bold red",
            )
        )
    if view.drawn:
        console.print(Text(f"  t-SNE: {', '.join(str(folder / file) for file in view.files if file.endswith('.svg'))}"))
    return {
        **{key: _number(figures.metrics[key]) for key in ("overlap", "probe_auc", "silhouette_label")},
        "separated": not figures.overlapping,
    }


def _words(what: str, found: Interval) -> str:
    if math.isnan(found.value):
        return f"{what} not known from so few rows"
    within = "" if math.isnan(found.low) else f" ({found.low:.3f} to {found.high:.3f})"
    return f"{what} {found.value:.3f}{within}"


def _number(found: Interval) -> float | None:
    """As a card can hold it, which knows no NaN."""
    return None if math.isnan(found.value) else round(found.value, 4)
