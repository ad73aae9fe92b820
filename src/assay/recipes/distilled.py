"""Distillation of a detector into one small network (Hinton, Vinyals, Dean, 2015, arXiv 1503.02531).

Sees: the pictures that a teacher's P(fake) is known of, in the manifest's column "teacher" (`assay.learn.distill`).

Claims: a small network taught by a large one, or by several that vote, comes closer to it than one taught by labels.

Learns: (1) the network, by cross-entropy with what the teacher says of each picture, a tenth of it with the label;
(2) a linear head, to the same; (3) slope, threshold and doubt band, on the labels of tuning rows.

Expects: nothing; the papers here publish no distillation.

Departs: a picture has one soft label, the calibrated P(fake) of the teacher's vote, not one a view; its temperature is
1, as calibrated scores are soft already. Views, augmentation and sizes are *ours*.
"""

from __future__ import annotations

from assay.image.align import Align
from assay.image.alter import T
from assay.image.augment import DFCON
from assay.image.view import View
from assay.learn.recipe import (
    Backbone,
    Calibrate,
    Crops,
    CrossEntropy,
    Descend,
    Fit,
    Linear,
    Optimiser,
    Recipe,
    Stream,
    Tiles,
)

TAUGHT = 0.9
"""Weight of the teacher against the label."""

RECIPE = Recipe(
    name="distilled",
    summary="one small network taught by a detector",
    streams=(
        Stream(
            name="student",
            view=View(size=224, layout="centre"),
            backbone=Backbone(name="mobilenetv3_small_100"),
            heads=(Linear(),),
        ),
    ),
    stages=(
        Descend(
            stream="student",
            loss=CrossEntropy(views=1, teacher=TAUGHT),
            crops=Crops(base=256),
            alter=T(max_ops=0, size=224, resize=None, crop="random"),
            augment=DFCON,
            optimiser=Optimiser(learning_rate=1e-3, weight_decay=0.02, warmup=0.05),
            pairs=64,
            steps=1000,
            epochs=30,
            patience=6,
            tiles=Tiles(side=384, each=1, reduce_above=None),
        ),
        Fit(stream="student", records=50_000, altered=1, teacher=TAUGHT),
        Calibrate(fpr=0.05, decided=0.70),
    ),
)


def small(recipe: Recipe) -> Recipe:
    """The same within minutes to hours of a few cores: small batches, tiles on disk, several crops judged."""
    return recipe.set(
        student__view=recipe.stream("student").view.model_copy(update={"layout": "grid"}),
        descend__align=Align(probability=0.7, quality=(60, 98), scale=(0.6, 1.1), scale_probability=0.4),
        descend__source_power=0.5,
        descend__tiles=Tiles(side=320, each=2, reduce_above=640),
        descend__pairs=24,
        descend__steps=100,
        descend__epochs=40,
        descend__patience=40,
        fit__records=4000,
    )


VARIANTS = {
    "labels": RECIPE.set(
        summary="the same small network taught by labels alone: what distillation is measured against",
        descend__loss__teacher=0.0,
        fit__teacher=0.0,
    ),
}
