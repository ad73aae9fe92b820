"""The studies that readers of drift ask for (arXiv 2604.25889), each as values.

Every arm is the recipe `drift26` with a few fields changed. Its figures come from a secondary source, so no table of
the paper stands beside ours; arms, budgets and conditions are *ours*.
"""

from __future__ import annotations

from typing import Any

from assay.learn.recipe import Backbone
from assay.recipes.drift26 import STREAMS, VIT
from assay.studies.study import DEFAULT, Arm, Study

BASE = "drift26"

CONDITIONS = ("clean", "mix0.5", "jpeg20", "noise20")
"""Clean, the sweep's random mix at half its strength, and two of its single degradations."""

RULES = ("best", "levels", "tenths", "mean", "plain_mean", "majority", "modified_majority")
"""The best stream alone, both published rules, and what they are compared with."""

MEAN = {"calibrate__rule": "mean"}


def _over(backbone: Backbone) -> dict[str, Any]:
    """Changes that put every stream over another network."""
    return {f"{name}__backbone": backbone for name in STREAMS}


FULL = Arm("full", "the paper's form: necks over one frozen network, degraded in training", base=BASE)

STREAMS_ALONE = Study(
    name="drift26-streams",
    question="is the vote better than the best of its streams, by which rule, and does it hold under degradation?",
    arms=(FULL,),
    heads=(*RULES, *STREAMS),
    streams=STREAMS,
    conditions=CONDITIONS,
    note="best: the stream that orders the tuning rows best, alone; the lines below it are compared with it. face: on "
    "the rows that show one",
)

CALIBRATION = Study(
    name="drift26-calibration",
    question="what does calibration do to false positives and to the error of P(fake)?",
    arms=(
        Arm("none", "P(fake) as the trained layers give it", base=BASE, changes={"calibrate__scaling": "none"}),
        Arm("temperature", "a temperature for each stream, as in drift", base=BASE),
        Arm("platt", "slope and offset for each stream", base=BASE, changes={"calibrate__scaling": "platt"}),
    ),
    heads=("levels", "tenths", "mean", *STREAMS),
    conditions=("clean", "mix0.5"),
    calibration=True,
    note="the arms have the same networks",
)

DEGRADATION = Study(
    name="drift26-degradation",
    question="does degradation in training pay on degraded pictures, and what does it cost on clean ones?",
    arms=(FULL, Arm("undegraded", "without degradation, in pre-training too", base="drift26:undegraded")),
    heads=("levels", "mean", *STREAMS),
    conditions=CONDITIONS,
    calibration=True,
)

FORMS = Study(
    name="drift26-forms",
    question="does the paper's form or that of the authors' release do better at the same length of training?",
    arms=(FULL, Arm("release", "LoRA, linear layers, a second network beside", base="drift26:release")),
    heads=("levels", "tenths", "mean", *STREAMS),
    conditions=("clean", "mix0.5"),
    streams=STREAMS,
)

ATTENTION = Study(
    name="drift26-attention",
    question="where does each stream look, how widely, and does it hold when the picture is degraded?",
    arms=(
        Arm("full", "over a small transformer, degraded in training", base=BASE, changes=_over(VIT)),
        Arm("undegraded", "the same, without degradation", base="drift26:undegraded", changes=_over(VIT)),
    ),
    heads=("levels", *STREAMS),
    conditions=("clean", "mix0.5"),
    streams=STREAMS,
    probes=("attention",),
)

SKIP = Study(
    name="drift26-skip",
    question="how much is saved where streams are left out that cannot change the verdict, and how many change?",
    arms=(
        FULL,
        Arm("tenths", "voting by the release's rule", base=BASE, changes={"calibrate__rule": "tenths"}),
        Arm("mean", "voting by the mean", base=BASE, changes=MEAN),
    ),
    heads=(DEFAULT,),
    conditions=("clean",),
    probes=("skip",),
    note="the arms have the same networks",
)

ATTACK = Study(
    name="drift26-attack",
    question="how little does it take to turn a verdict on purpose, and is the vote harder to turn than one stream?",
    arms=(FULL, Arm("undegraded", "without degradation in training", base="drift26:undegraded")),
    heads=("levels", "mean", "global"),
    conditions=("clean",),
    probes=("attack",),
    note="PGD follows the gradient of the global stream alone, whichever judges",
)

STUDIES = (STREAMS_ALONE, CALIBRATION, DEGRADATION, FORMS, ATTENTION, SKIP, ATTACK)
