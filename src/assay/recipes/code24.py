"""CoDE: contrastive deepfake embeddings (Baraldi et al., ECCV 2024, arXiv 2407.20337).

Sees: whole pictures, 224 px from the centre without resize; in training a clean view, a transformed one (T: up to two
of 19 operations), a global and a local crop of each picture, as many reals as fakes.

Claims: an embedding learned from scratch tells seen generators apart under transforms, with 5 M parameters against the
86 M and more of frozen foundation models.

Learns: (1) the embedding, by InfoNCE on classes (global) and on crops of one picture (multi-scale), for reals and for
fakes; (2) three heads on frozen, un-normalised embeddings, each by itself: linear, the paper's main one, which
therefore stands first and judges by default; nearest neighbour; one-class SVM on reals alone; (3) slope, threshold and
doubt band of each head on tuning rows.

Expects: linear head, seen generators, accuracy 98.0 without and 95.7 with transforms; unseen generators, mean 78.0.

Departs: the small size (`small`) and the variants are ours: native-resolution crops, because the pictures at hand are
few and differ in size; alignment of codec and scale in training; several crops of a picture judged and averaged. At
both sizes the heads are fitted on as many reals as fakes (release: 9,600 records of one real and four fakes), and each
gives P(fake) by a slope and an offset of its own (paper: its plain verdict).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay.image.align import Align
from assay.image.alter import T
from assay.image.view import View
from assay.learn.recipe import (
    Backbone,
    Calibrate,
    Crops,
    Descend,
    Expected,
    Fit,
    InfoNCE,
    Linear,
    Nearest,
    OneClass,
    Optimiser,
    Recipe,
    Stream,
    Tiles,
)

RECIPE = Recipe(
    name="code24",
    summary="CoDE: contrastive embeddings from scratch, global and local, linear head",
    streams=(
        Stream(
            name="code",
            view=View(size=224, layout="centre"),
            backbone=Backbone(name="vit_tiny_patch16_224"),
            heads=(
                Linear(C=0.316, balanced=True, iterations=1500),
                Nearest(most=50_000),
                OneClass(nu=0.1, degree=3, gamma="auto", most=10_000),
            ),
        ),
    ),
    stages=(
        Descend(
            stream="code",
            loss=InfoNCE(temperature=0.1, multi_scale=0.5),
            crops=Crops(global_area=(0.4, 1.0), local_area=(0.05, 0.4), local=96),
            alter=T(max_ops=2, size=224, resize=248),
            decode="always",
            optimiser=Optimiser(learning_rate=2e-3, weight_decay=2e-5, warmup=5 / 150),
            pairs=512,
            steps=1700,
            epochs=150,
            patience=6,
        ),
        Fit(stream="code", records=48_000, altered=0),
        Calibrate(fpr=0.05, decided=0.70),
    ),
    expects=(
        Expected(table="seen", what="accuracy, linear, without transforms", value=98.0, source="poster"),
        Expected(table="seen", what="accuracy, linear, with transforms", value=95.7, source="poster"),
        Expected(table="unseen", what="accuracy, linear, mean of 11 generators", value=78.0, source="poster"),
    ),
)


def small(recipe: Recipe) -> Recipe:
    """The same method within a few core-hours: small batches, short epochs, tiles on disk."""
    return recipe.set(
        code__view=recipe.stream("code").view.model_copy(update={"layout": "grid"}),
        descend__align=Align(probability=0.7, quality=(60, 98), scale=(0.6, 1.1), scale_probability=0.4),
        descend__decode="once",
        descend__source_power=0.5,
        descend__tiles=Tiles(side=320, each=2, reduce_above=640),
        descend__pairs=24,
        descend__steps=100,
        descend__epochs=40,
        descend__patience=40,
        descend__optimiser__learning_rate=1e-3,
        descend__optimiser__weight_decay=0.05,
        fit__altered=1,
    )


GLOBAL: Mapping[str, Any] = {"descend__loss__multi_scale": 0.0}
ONE_WAY: Mapping[str, Any] = {**GLOBAL, "descend__loss__halves": ("real",)}
PRETRAINED: Mapping[str, Any] = {"code__backbone__pretrained": True}

COMPARED: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "global-only": ("without the multi-scale term, both directions", GLOBAL),
    "global-only-real-to-fake": ("without the multi-scale term, reals as anchors only", ONE_WAY),
    "bce": ("binary cross-entropy of all views alone", {"descend__loss__bce": 1.0, "descend__loss__contrastive": 0.0}),
    "pretrained": ("from pre-trained weights", PRETRAINED),
    "global-only-pretrained": ("global only, both directions, from pre-trained weights", {**GLOBAL, **PRETRAINED}),
    "global-only-real-to-fake-pretrained": (
        "global only, reals as anchors only, from pre-trained weights",
        {**ONE_WAY, **PRETRAINED},
    ),
    "local-224": ("local crops of 224 px, as in the authors' release", {"descend__crops__local": 224}),
}
"""The models that the paper compares CoDE with, and the release's crops: what each is, and what it changes."""


def _native(summary: str, backbone: Backbone, size: int = 128) -> Recipe:
    """Crops at native resolution under another network: the traces that resampling would wipe out stay.

    The auxiliary cross-entropy is ours: without it the embedding hardly moved in the minutes that a CPU has.
    """
    return RECIPE.set(
        summary=summary,
        code__view=View(size=size, layout="grid", across=3),
        code__backbone=backbone,
        descend__loss=InfoNCE(temperature=0.1, multi_scale=0.5, bce=1.0),
        descend__crops=Crops(base=192, global_area=(0.4, 1.0), local_area=(0.05, 0.4), local=64),
        descend__alter=T(max_ops=2, size=size, resize=None, crop="random"),
    )


def _pocket() -> Recipe:
    """The paper's loss, and no other, under a network and views so small that minutes of one core teach it something:
    what the studies are run on where there is no GPU."""
    thin = Backbone(name="trace_cnn", front="both", fields={"widths": [16, 32, 64, 128], "blocks": [1, 1, 1]})
    recipe = _native("CoDE's loss under a very small CNN and views of 64 px, for studies without a GPU", thin, size=64)
    return recipe.set(
        descend__loss=RECIPE.descend("code").loss,
        descend__crops=Crops(base=128, global_area=(0.4, 1.0), local_area=(0.05, 0.4), local=32),
    )


VARIANTS = {
    "trace": _native(
        "CoDE's training under a small CNN that sees pixels and residual at native resolution",
        Backbone(name="trace_cnn", front="both"),
    ),
    "residual": _native(
        "CoDE's training under a small CNN that sees the high-pass residual alone",
        Backbone(name="trace_cnn", front="residual"),
    ),
    "regnet": _native(
        "CoDE's training under RegNetY-200MF that sees pixels and residual at native resolution",
        Backbone(name="regnety_002", front="both"),
    ),
    "pocket": _pocket(),
} | {name: RECIPE.set(summary=f"CoDE, {what}", **changes) for name, (what, changes) in COMPARED.items()}
