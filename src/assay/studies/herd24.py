"""The studies that readers of the masked-eye paper ask for (arXiv 2410.05466), each as values.

Every arm is the recipe `herd24` with a few fields changed. The published figures are of other pictures; arms, budgets
and conditions are *ours*. What is asked of training is asked of net A alone, so that an arm's minutes go into one net.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from assay.image.augment import PLAIN, Augment, Transform
from assay.recipes.herd24 import CURRICULA, NETS, REAL_WEIGHT
from assay.studies.study import Arm, Study

BASE = "herd24:autoencoder"

FACTORS: Mapping[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "weight": ({"descend__loss__weights": {}}, {"descend__loss__weights": REAL_WEIGHT}),
    "augmentation": ({"descend__augment": "strong"}, {"descend__augment": "plain"}),
    "mask": ({"descend__curriculum": ()}, {"descend__curriculum": CURRICULA["paper"]}),
}
"""What the paper adds to GenConViT: fields without it and with it."""

ALL = tuple(FACTORS)


def _arm(factors: tuple[str, ...], paper: str = "") -> Arm:
    changes: dict[str, Any] = {}
    for name, settings in FACTORS.items():
        changes |= settings[name in factors]
    name = "-".join(factors) or "genconvit"
    what = f"GenConViT with {', '.join(factors)}" if factors else "GenConViT: plain loss, strong augmentation, no masks"
    return Arm(name, what, base=BASE, changes=changes, paper=paper, factors=factors)


PAPERS = {(): "GenConViT", ALL: "GenConViT, masked eyes"}

ABLATION = Study(
    name="herd24-ablation",
    question="what do weighted loss, plain augmentation and masked eyes do, each alone, in pairs and together?",
    table="celeb-df",
    arms=tuple(
        _arm(chosen, PAPERS.get(chosen, ""))
        for count in range(len(ALL) + 1)
        for chosen in itertools.combinations(ALL, count)
    ),
    heads=("linear",),
    conditions=("clean",),
    equal="compute",
    f1=True,
    factors=ALL,
    by="kind",
)

HERD = _arm(ALL)


def _with(name: str, what: str, **changes: Any) -> Arm:
    return Arm(name, what, base=BASE, changes={**HERD.changes, **changes})


def _plus(*more: Transform) -> Augment:
    return Augment((*PLAIN.transforms, *more), PLAIN.p)


AUGMENTATION = Study(
    name="herd24-augmentation",
    question="do noise, light and colour in training disturb what is looked for, and do turns and flips help?",
    arms=(
        _with("plain", "rotation and flips, as in the paper"),
        _with("none", "as they are", descend__augment=None),
        _with(
            "noise",
            "rotation, flips, noise",
            descend__augment=_plus(Transform("GaussNoise", 0.5, {"std_range": (0.01, 0.03)})),
        ),
        _with(
            "light",
            "rotation, flips, light and colour",
            descend__augment=_plus(Transform("RandomBrightnessContrast"), Transform("HueSaturationValue")),
        ),
        _with("strong", "GenConViT's own: all of these", descend__augment="strong"),
        _with("degrade", "drift's degradation engine", descend__augment="degrade"),
    ),
    heads=("linear",),
    conditions=("clean", "mix0.5", "noise20"),
    f1=True,
    by="kind",
)

RATIOS = (1, 5, 10, 20)


def _ratio(ratio: int) -> tuple[Arm, ...]:
    changes = {"imbalance": float(ratio), "descend__loss__weights": {}}
    drawn: dict[str, Any] = {**changes, "descend__sampling": "natural"}
    told = f"{ratio} fakes for every real"
    if ratio == 1:
        return (_with("1-none", told, **drawn),)
    return (
        _with(f"{ratio}-none", f"{told}, drawn as they come", **drawn),
        _with(
            f"{ratio}-weight", f"{told}, a real weighs {ratio}", **{**drawn, "descend__loss__weights": {"real": ratio}}
        ),
        _with(f"{ratio}-sampling", f"{told}, as many of each drawn", **changes),
    )


IMBALANCE = Study(
    name="herd24-imbalance",
    question="what does an imbalance of 1 : 1 to 20 : 1 cost, and is it met by weights, by sampling, or not at all?",
    arms=tuple(arm for ratio in RATIOS for arm in _ratio(ratio)),
    heads=("linear",),
    conditions=("clean",),
    f1=True,
    by="kind",
    note="the higher the ratio, the fewer reals there are to learn from: an arm less the first of its ratio tells of "
    "weights and sampling, not of that",
)

EYES = Study(
    name="herd24-eyes",
    question="does a detector look less at the eyes after lessons without them?",
    arms=(
        _with("whole", "eyes shown throughout", descend__curriculum=CURRICULA["whole"]),
        _with("paper", "masked, then shown"),
        _with("release", "masked, shown, masked", descend__curriculum=CURRICULA["release"]),
    ),
    heads=("linear",),
    conditions=("clean",),
    probes=("eyes",),
    by="kind",
)

TRANSFER = Study(
    name="herd24-transfer",
    question="what does training on one kind of fake, or one data set, tell of another?",
    arms=(
        HERD,
        _arm(()),
    ),
    heads=("linear",),
    conditions=("clean",),
    leave="kind",
    leave_each=True,
    by="kind",
    note="--by names another column, such as the data set of a row",
)

HYBRID = Study(
    name="herd24-hybrid",
    question="is the hybrid better than ConvNeXt alone or Swin alone, in the same time?",
    arms=(
        _with("both", "ConvNeXt and Swin"),
        *(_with(half, f"{half} alone", autoencoder__backbone__fields__halves=[half]) for half in ("convnext", "swin")),
    ),
    heads=("linear",),
    conditions=("clean",),
    equal="compute",
    f1=True,
    by="kind",
)

RECIPE = "herd24"

NETWORKS = Study(
    name="herd24-nets",
    question="are both nets together better than each alone, and does a latent near a normal one help net B?",
    arms=(
        Arm("full", "both nets", base=RECIPE),
        Arm("kl", "both nets, the latent's divergence weighed 0.001", base=f"{RECIPE}:kl"),
    ),
    heads=("mean", "plain_mean", "best", *NETS),
    streams=NETS,
    conditions=("clean", "mix0.5"),
    f1=True,
    by="kind",
)

STUDIES = (ABLATION, AUGMENTATION, IMBALANCE, EYES, TRANSFER, HYBRID, NETWORKS)
