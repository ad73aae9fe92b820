"""The studies that readers of DFCon ask for (arXiv 2501.16704), each as values.

Every arm is the recipe `dfcon25` with a few fields changed, or a student of it. The one published figure stands beside
the arm that repeats it; all other arms, the budgets and the conditions are *ours*.
"""

from __future__ import annotations

from assay.recipes.dfcon25 import COMPARED, NETWORKS
from assay.studies.study import DEFAULT, VOTES, Arm, Study

STREAMS = tuple(NETWORKS)
BASE = "dfcon25"

FULL = Arm("full", "DFCon: supervised contrastive loss, perceptrons, vote", base=BASE, paper="DFCon")


def _compared(name: str) -> Arm:
    what, changes = COMPARED[name]
    return Arm(name, what, base=BASE, changes=changes)


ENSEMBLE = Study(
    name="dfcon25-ensemble",
    question="is the vote of three better than the best of them, and which way of voting is best?",
    table="validation",
    arms=(FULL,),
    heads=("best", *VOTES[:-1], *STREAMS),
    streams=STREAMS,
    note="best: the stream that orders the tuning rows best, alone; the lines below it are compared with it",
)

SEPARATION = Study(
    name="dfcon25-separation",
    question="do real and fake lie apart in the embedding after stage 1, and does another loss set them further apart?",
    arms=(FULL, _compared("focal"), _compared("bce")),
    heads=(DEFAULT, *STREAMS),
    conditions=("clean",),
    embedding=True,
    note="t-SNE pictures lie in ARM/SEED/embedding; those of tuning rows, made by training itself, in its run",
)

MANIFOLD = Study(
    name="dfcon25-manifold",
    question="do fakes form one manifold or a cluster for each method, and is an unseen method found better if they do "
    "not cluster?",
    arms=(FULL, _compared("unified")),
    heads=(DEFAULT, *STREAMS),
    conditions=("clean",),
    leave="generator",
    leave_each=True,
    embedding=True,
)

FAIRNESS = Study(
    name="dfcon25-fairness",
    question="does the detector err more on some subgroups than on others?",
    arms=(FULL,),
    heads=("modified_majority", "mean", *STREAMS),
    conditions=("clean",),
    by="domain",
    fairness=True,
    note="the manifest says which subgroup a picture is of; --by names another column: skin tone, age, sex, camera, …",
)


def _student(name: str, what: str, network: str, variant: str = "") -> Arm:
    return Arm(
        name,
        what,
        base=f"distilled:{variant}" if variant else "distilled",
        changes={"student__backbone__name": network},
        teacher="full",
    )


DISTILL = Study(
    name="dfcon25-distill",
    question="how much of the three networks' accuracy does one small network keep, and does a teacher help it?",
    arms=(
        FULL,
        _student("mobilenet", "MobileNetV3-small, taught by the vote", "mobilenetv3_small_100"),
        _student("mobilenet-labels", "MobileNetV3-small, taught by labels", "mobilenetv3_small_100", "labels"),
        _student("trace", "TraceCNN, taught by the vote", "trace_cnn"),
        _student("trace-labels", "TraceCNN, taught by labels", "trace_cnn", "labels"),
    ),
    heads=(DEFAULT,),
    conditions=("clean", "transforms", "jpeg50", "half", "blur1"),
    figure="parameters",
    note="assay distill also tells milliseconds, bytes and calibration",
)

STUDIES = (ENSEMBLE, SEPARATION, MANIFOLD, FAIRNESS, DISTILL)
