"""The studies that readers of CoDE ask for (arXiv 2407.20337), each as values.

Every arm is the recipe `code24` with a few fields changed. Published rows stand beside the arms that repeat them; all
other arms, the budgets and the conditions are *ours*.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from assay.learn.recipe import Backbone, Recipe
from assay.recipes.code24 import COMPARED, PRETRAINED
from assay.studies.study import Arm, Study

VIT_TINY = "vit_tiny"
"""`--weights vit_tiny=FILE`: pre-trained weights of timm's vit_tiny_patch16_224."""

NO_T: Mapping[str, Any] = MappingProxyType({"descend__alter__max_ops": 0})

CLIP: Mapping[str, Any] = MappingProxyType(
    {"code__view__mean": (0.48145466, 0.4578275, 0.40821073), "code__view__std": (0.26862954, 0.26130258, 0.27577711)}
)

FULL = Arm("full", "CoDE as published: global and multi-scale terms, both directions", paper="CoDE")


def _compared(name: str, paper: str = "") -> Arm:
    """One of the recipe's variants, as an arm; where it wants weights, `--weights vit_tiny=…` says which."""
    what, changes = COMPARED[name]
    weights = VIT_TINY if PRETRAINED.items() <= changes.items() else ""
    changes = {place: value for place, value in changes.items() if place not in PRETRAINED}
    return Arm(name, what, changes=changes, weights=weights, paper=paper)


def _frozen(name: str, network: str, what: str, changes: Mapping[str, Any] = MappingProxyType({})) -> Arm:
    """A network as its weights are, on the views that it was made for; `--weights NAME=FILE` gives them."""
    made = {"code__view__size": 224, "code__backbone": Backbone(name=network), **changes}
    return Arm(name, what, changes=made, frozen=True, weights=name)


def _backbone(arm: str, what: str, paper: str = "", **fields: Any) -> Arm:
    return Arm(arm, what, changes={"code__backbone": Backbone(**fields)}, paper=paper)


def _of_view(share: float) -> Callable[[Recipe], int]:
    """So many px: a share of the side of the stream's view. Paper: 96 of 224; release: 224 of 224."""
    return lambda recipe: round(share * recipe.stream("code").view.size)


ABLATION = Study(
    name="code24-ablation",
    question="what do the multi-scale term, the second direction of the loss and pre-trained weights each add?",
    table="ablation",
    arms=(
        FULL,
        _compared("global-only"),
        _compared("global-only-real-to-fake", paper="w/ global only (real to fake)"),
        _compared("pretrained"),
        _compared("global-only-pretrained", paper="w/ global only (pre-trained)"),
        _compared("global-only-real-to-fake-pretrained"),
    ),
    note="the paper does not say which directions its pre-trained row has; ours beside it has both",
)

HEADS = Study(
    name="code24-heads",
    question="on one embedding, which head is right more often: linear, nearest neighbour or one-class SVM?",
    table="seen",
    arms=(FULL,),
)

CROPS = Study(
    name="code24-crops",
    question="how should the local crop relate to the global one, in area and in pixels?",
    table="seen",
    arms=(
        FULL,
        Arm(
            "local-64-of-224",
            "local crops of 64 px where the view has 224",
            changes={"descend__crops__local": _of_view(64 / 224)},
        ),
        Arm(
            "local-224-of-224",
            "local crops as large in px as the view, as in the authors' release",
            changes={"descend__crops__local": _of_view(1)},
        ),
        Arm(
            "local-area-05-20",
            "local crops of 5 to 20 % of the area",
            changes={"descend__crops__local_area": (0.05, 0.2)},
        ),
        Arm(
            "local-area-20-40",
            "local crops of 20 to 40 % of the area",
            changes={"descend__crops__local_area": (0.2, 0.4)},
        ),
        Arm("two-locals", "two local crops of each picture", changes={"descend__crops__count": 2}),
        Arm("four-locals", "four local crops of each picture", changes={"descend__crops__count": 4}),
        Arm(
            "plain-local",
            "no operation of T in local crops",
            changes={"descend__crops__altered": ("transformed", "global")},
        ),
        Arm("one-to-one", "local crops of the area of global ones", changes={"descend__crops__local_area": (0.4, 1.0)}),
        Arm(
            "global-area-70-100",
            "global crops of 70 to 100 % of the area",
            changes={"descend__crops__global_area": (0.7, 1.0)},
        ),
    ),
    note="views are counted, not pixels: a larger local crop costs more time for the same number",
)

UNSEEN = Study(
    name="code24-unseen",
    question="how much is lost on a generator that training never met?",
    table="unseen",
    arms=(Arm("all", "trained on every generator", paper="CoDE"),),
    leave="generator",
    note="the paper's unseen generators are other ones: its networks met four, and were tested on eleven others",
)

WITHOUT_T = Arm(
    "without-transforms",
    "no operation of T in any view, nor for the heads",
    changes={**NO_T, "fit__altered": 0},
)

TRANSFORMS = Study(
    name="code24-transforms",
    question="what does T in training change on plain and on transformed pictures?",
    table="seen",
    arms=(
        FULL,
        Arm("one-operation", "at most one operation of T", changes={"descend__alter__max_ops": 1}),
        WITHOUT_T,
    ),
)

COMPRESSION = Study(
    name="code24-compression",
    question="how does accuracy fall with JPEG quality and with size, trained with T and without?",
    arms=(
        FULL,
        WITHOUT_T,
    ),
    conditions=(
        "clean",
        *(f"jpeg{quality}" for quality in range(50, 100, 5)),
        *(f"size{side}" for side in (256, 384, 512, 768, 1024)),
    ),
    figure="curve",
    note="sizeN: the shorter side becomes N px, smaller pictures are enlarged; the view then crops without rescaling",
)

BCE = Study(
    name="code24-bce",
    question="at equal compute, does the contrastive loss beat a plain cross-entropy?",
    table="seen",
    equal="compute",
    arms=(
        FULL,
        _compared("bce", paper="ViT-T (BCE)"),
        Arm("both", "the contrastive loss and a cross-entropy of weight 1", changes={"descend__loss__bce": 1.0}),
    ),
)

FOUNDATION = Study(
    name="code24-foundation",
    question="does a small embedding trained here beat large frozen ones under the same heads?",
    table="seen",
    arms=(
        FULL,
        _frozen("clip-vit-b16", "vit_base_patch16_clip_quickgelu_224.openai", "CLIP ViT-B/16, 86 M, frozen", CLIP),
        _frozen("clip-vit-l14", "vit_large_patch14_clip_quickgelu_224.openai", "CLIP ViT-L/14, 303 M, frozen", CLIP),
        _frozen("dinov2-s14", "vit_small_patch14_dinov2", "DINOv2 ViT-S/14, 22 M, frozen"),
        _frozen("dinov2-b14", "vit_base_patch14_dinov2", "DINOv2 ViT-B/14, 86 M, frozen"),
        _frozen("resnet50", "resnet50", "ResNet-50, 24 M, frozen"),
    ),
    figure="parameters",
    note="frozen networks train nothing, so the budget is the first arm's alone",
)

DOMAINS = Study(
    name="code24-domains",
    question="does what is learned carry to a domain (medical, satellite, …) that training never met?",
    arms=(Arm("all", "trained on every domain"),),
    leave="domain",
    by="domain",
    note="the manifest says which domain a picture is of, in a column of that name",
)

BACKBONE = Study(
    name="code24-backbone",
    question="what does a smaller or faster network, a convolutional stem or a residual input cost or gain?",
    table="seen",
    equal="compute",
    arms=(
        _backbone("vit-tiny", "ViT-Tiny, the paper's network", paper="CoDE", name="vit_tiny_patch16_224"),
        _backbone("vit-tiny-6", "half the blocks of ViT-Tiny", name="vit_tiny_patch16_224", fields={"depth": 6}),
        _backbone("conv-stem", "ViT-Tiny behind a convolutional stem", name="vit_tiny_r_s16_p8_224"),
        _backbone("regnety", "RegNetY-200MF", name="regnety_002"),
        _backbone("trace", "TraceCNN on pixels and residual", name="trace_cnn", front="both"),
        _backbone("mobilenet", "MobileNetV3-small", name="mobilenetv3_small_100"),
        _backbone("residual", "ViT-Tiny on the high-pass residual", name="vit_tiny_patch16_224", front="residual"),
        _backbone("pixels-and-residual", "ViT-Tiny on pixels and residual", name="vit_tiny_patch16_224", front="both"),
    ),
    figure="parameters",
    note="at equal compute: the faster networks take more steps; --equal views gives all as many",
)

STUDIES = (
    ABLATION,
    HEADS,
    CROPS,
    UNSEEN,
    TRANSFORMS,
    COMPRESSION,
    BCE,
    FOUNDATION,
    DOMAINS,
    BACKBONE,
)
