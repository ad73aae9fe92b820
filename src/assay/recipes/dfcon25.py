"""DFCon: supervised contrastive learning on three backbones, and a vote (arXiv 2501.16704).

Sees: face crops of DFWild-Cup, 42,690 reals and 219,470 fakes of eight DeepfakeBench sets, augmented copies of half of
the reals, and a secondary data set; in training two augmented views of each picture, as many reals as fakes.

Claims: 95.83 % of the validation pictures, by three backbones that look at a face locally (MaxViT), at several scales
(CoAtNet) and as a whole (EVA-02), each trained to draw its class together, and a modified majority vote.

Learns: (1) each backbone, by the supervised contrastive loss on projections of its embedding; (2) with the backbone
frozen, a perceptron on the embedding by cross-entropy; (3) slope, threshold and doubt band of each, and the vote, on
tuning rows.

Expects: 95.83 % for the three together.

Departs: the paper names no network, size, temperature, perceptron, augmentation or rule of the vote. *Ours*: the
networks, by their numbers of parameters; 224 px; tau 0.07; `assay.image.augment.DFCON`; the vote
(`assay.judge.vote`). Views are cut at native resolution, as everywhere here. The small size has the smallest network of
each family, and sends both classes through one codec in training.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay.image.align import Align
from assay.image.alter import T
from assay.image.augment import DFCON
from assay.image.view import View
from assay.learn.recipe import (
    MLP,
    Backbone,
    Calibrate,
    Crops,
    CrossEntropy,
    Descend,
    Expected,
    Fit,
    Optimiser,
    Recipe,
    Stream,
    SupCon,
    Tiles,
)

NETWORKS: Mapping[str, str] = {
    "maxvit": "maxvit_base_tf_224",
    "coatnet": "coatnet_2_rw_224",
    "eva02": "eva02_base_patch14_224",
}
"""What each stream's network is called in timm: 118.7, 72.8 and 85.8 M parameters."""

SMALL: Mapping[str, str] = {
    "maxvit": "maxvit_rmlp_pico_rw_256",
    "coatnet": "coatnet_pico_rw_224",
    "eva02": "eva02_tiny_patch14_224",
}
"""The smallest of each family: 7.3, 10.3 and 5.5 M."""

THIN: Mapping[str, Any] = {"embed_dim": [32, 64, 96, 128], "depths": [1, 1, 2, 1], "stem_width": 16}
"""Fields that shrink CoAtNet to 0.4 M, for views of 64 px."""


def _descend(stream: str) -> Descend:
    return Descend(
        stream=stream,
        loss=SupCon(temperature=0.07, views=2, projection=(512, 128)),
        crops=Crops(base=256),
        alter=T(max_ops=0, size=224, resize=None, crop="random"),
        augment=DFCON,
        optimiser=Optimiser(learning_rate=1e-4, weight_decay=0.05, warmup=0.05),
        pairs=64,
        steps=2000,
        epochs=20,
        patience=4,
        tiles=Tiles(side=384, each=1, reduce_above=None),
    )


RECIPE = Recipe(
    name="dfcon25",
    summary="DFCon: supervised contrastive learning on MaxViT, CoAtNet and EVA-02, perceptrons, majority vote",
    derive=("augment",),
    streams=tuple(
        Stream(name=name, view=View(size=224, layout="centre"), backbone=Backbone(name=network), heads=(MLP(),))
        for name, network in NETWORKS.items()
    ),
    stages=(
        *(_descend(name) for name in NETWORKS),
        *(Fit(stream=name, records=100_000, altered=1) for name in NETWORKS),
        Calibrate(fpr=0.05, decided=0.70, rule="modified_majority"),
    ),
    expects=(
        Expected(
            table="validation", what="accuracy, modified majority vote of three", value=95.83, source="arXiv 2501.16704"
        ),
    ),
)


def small(recipe: Recipe) -> Recipe:
    """The same three stages within a few core-hours: the smallest network of each family, small batches and views."""
    for name, network in NETWORKS.items():
        if any(stream.backbone.name == network for stream in recipe.streams):
            recipe = recipe.set(**{f"{name}__backbone__name": SMALL[name], f"{name}__view": _view(name, 128)})
    size = max(stream.view.size for stream in recipe.streams)
    return recipe.set(
        descend__crops=Crops(base=round(size * 8 / 7)),
        descend__align=Align(probability=0.7, quality=(60, 98), scale=(0.6, 1.1), scale_probability=0.4),
        descend__source_power=0.5,
        descend__tiles=Tiles(side=320, each=2, reduce_above=640),
        descend__optimiser__learning_rate=5e-4,
        descend__pairs=24,
        descend__steps=100,
        descend__epochs=40,
        descend__patience=40,
        fit__records=4000,
    )


def _view(name: str, size: int) -> View:
    """Crops of about `size` px: EVA-02's patches have 14."""
    return View(size=size if name != "eva02" else round(size / 14) * 14, layout="grid", across=3)


def _pocket() -> Recipe:
    """The small networks under views of 64 px, so that minutes of one core teach them something: what the studies are
    run on where there is no GPU."""
    changes: dict[str, Any] = {}
    for name, network in SMALL.items():
        changes |= {f"{name}__backbone__name": network, f"{name}__view": _view(name, 64)}
    return RECIPE.set(
        summary="DFCon with the smallest networks and views of 64 px, for studies without a GPU", **changes
    )


def _thin() -> Recipe:
    """One stream, and its network very small: for questions that are asked of an embedding, in minutes of one core."""
    name = "coatnet"
    backbone = Backbone(name=SMALL[name], front="both", fields=dict(THIN))
    recipe = RECIPE.set(
        summary="DFCon's first two stages under one very small CoAtNet on pixels and residual, for studies",
        coatnet__backbone=backbone,
        coatnet__view=_view(name, 64),
    )
    stages = tuple(stage for stage in recipe.stages if getattr(stage, "stream", name) == name)
    return recipe.set(streams=(recipe.stream(name),), stages=stages)


COMPARED: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "focal": ("the contrastive loss weighed by how hard an anchor is, gamma 2", {"descend__loss__focal": 2.0}),
    "unified": ("fakes drawn to fakes of other methods alone", {"descend__loss__unified": True}),
    "bce": ("cross-entropy in place of the contrastive loss", {"descend__loss": CrossEntropy(views=2)}),
    "pretrained": (
        "from pre-trained weights",
        {f"{name}__backbone__pretrained": True for name in NETWORKS},
    ),
}
"""Variants of stage 1: what each is, and what it changes."""

VARIANTS = {"pocket": _pocket(), "thin": _thin()} | {
    name: RECIPE.set(summary=f"DFCon, {what}", **changes) for name, (what, changes) in COMPARED.items()
}
