"""The house's own detector: what held best on generators and sources that its training had left out.

Sees: up to four crops of 192 px at native resolution, and of them how often small residuals of colour and luma stand
    beside each other (`assay.learn.nn.cooccurrence`). Nothing of it is trained but the heads.
Claims: nothing; what it reached is in docs/search.md and on the card of the bundle that ships.
Learns: real pictures and generated ones.
Expects: nothing published.
Departs: it is no published method. Its parts are those of the four systems and of the papers that the modules name;
    which of them it has was found by `bench/search.py`. It decides on 40 % of pictures like those it had not met, not
    on 70 % as the other recipes do: there one fake in two would be called real.
"""

from __future__ import annotations

from assay.image.align import Align
from assay.image.alter import T
from assay.image.view import View
from assay.learn.recipe import (
    Backbone,
    Calibrate,
    Crops,
    Fit,
    Linear,
    Recipe,
    Shown,
    Stream,
    Tiles,
)

RECIPE = Recipe(
    name="texture",
    summary="co-occurrences of colour and luma residuals under a regression",
    streams=(
        Stream(
            name="texture",
            view=View(size=192, layout="grid", across=2),
            backbone=Backbone(name="cooccurrence", fields={"moments": False}),
            heads=(Linear(C=0.03, standardised=True),),
        ),
    ),
    stages=(
        Fit(
            stream="texture",
            records=20_000,
            drawing="weighted",
            altered=1,
            shown=Shown(
                crops=Crops(base=224),
                alter=T(max_ops=1, size=192, resize=None, crop="random"),
                align=Align(probability=0.7, quality=(60, 98), scale=(0.6, 1.1), scale_probability=0.4),
                source_power=0.5,
                secondary_weight=0.5,
                tiles=Tiles(side=320, each=2, reduce_above=640),
            ),
        ),
        Calibrate(fpr=0.05, decided=0.40),
    ),
)


def small(recipe: Recipe) -> Recipe:
    """The same: it is made for one small machine."""
    return recipe


VARIANTS: dict[str, Recipe] = {}
