"""The house's own detector: what held best on generators and sources that its training had left out.

Sees: crops of 64 px at native resolution, of which only the high-pass residual of luma and colour differences reaches
    the network, and of that no more than 21 px at a time, so that subjects cannot be learned.
Claims: nothing; what it reached is in docs/search.md and on the card of the bundle that ships.
Learns: real pictures, generated ones, and copies of the reals through small generators (`assay data remake`), which
    share subject, camera and format with them and differ in a decoder's trace alone (Rajan et al., "Aligned Datasets
    Improve Detection of Latent Diffusion-Generated Images", ICLR 2025).
Expects: nothing published.
Departs: it is no published method. Its parts are those of the four systems and of the papers that the modules name;
    which of them it has was found by `bench/search.py`.
"""

from __future__ import annotations

from assay.image.align import Align
from assay.image.alter import T
from assay.image.view import View
from assay.learn.recipe import (
    Backbone,
    Calibrate,
    Crops,
    CrossEntropy,
    Descend,
    Fit,
    Linear,
    Nearest,
    OneClass,
    Optimiser,
    Recipe,
    Stream,
    Tiles,
)

RECIPE = Recipe(
    name="aligned",
    summary="a small network that sees patches of the colour residual, trained on reals, fakes and remade reals",
    streams=(
        Stream(
            name="patches",
            view=View(size=64, layout="grid", across=4),
            backbone=Backbone(name="patch_cnn", front="chroma"),
            heads=(Linear(), Nearest(most=4000), OneClass(most=2000)),
        ),
    ),
    stages=(
        Descend(
            stream="patches",
            loss=CrossEntropy(views=1),
            crops=Crops(base=96),
            alter=T(max_ops=1, size=64, resize=None, crop="random"),
            align=Align(probability=0.7, quality=(60, 98), scale=(0.6, 1.1), scale_probability=0.4),
            optimiser=Optimiser(learning_rate=3e-3, weight_decay=0.05, warmup=0.05),
            source_power=0.5,
            secondary_weight=0.5,
            tiles=Tiles(side=320, each=2, reduce_above=640),
            pairs=48,
            steps=250,
            epochs=40,
            patience=40,
        ),
        Fit(stream="patches", records=8000, altered=1),
        Calibrate(fpr=0.05, decided=0.70),
    ),
)


def small(recipe: Recipe) -> Recipe:
    """The same: it is made for one small machine."""
    return recipe


VARIANTS: dict[str, Recipe] = {}
