"""Find what still works on generators and sources never met: many trials, on folds that leave both out.

    python bench/search.py MANIFEST OUT                 # all rungs; repeat the command to go on
    python bench/search.py MANIFEST OUT --rung screen --only base --only remade
    python bench/search.py MANIFEST OUT --report        # tables from what is there

MANIFEST is the one that bench/gather.py writes, with the pseudo-fakes that bench/pseudo.py adds. Test rows are never
read.

Each trial of a rung trains every arm for the same processor time of one core, on the rows outside a fold, and scores
the rows of the fold, as they are and after JPEG 75. Arms that are not among the best of a rung do not come into the
next (successive halving; Jamieson and Talwalkar, AISTATS 2016). What decides is the mean over folds and over both
conditions of the AUC of left-out fakes against left-out reals. Beside it stands what the files' facts and thumbnails
tell of the same rows (bench/facts.py).
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

import facts
from assay import load
from assay.data import manifest
from assay.data.table import Table
from assay.image.alter import T
from assay.image.decode import decode
from assay.image.degrade import Degrade
from assay.image.view import View
from assay.judge.rule import Floats, Pool
from assay.learn import tiles
from assay.learn.crossfit import FOLD, PSEUDO, Scored, drawn, folds_of, joined, kind_of, left_out
from assay.learn.distill import TAUGHT as TAUGHT_ROWS
from assay.learn.distill import taught
from assay.learn.recipe import (
    MLP,
    Backbone,
    Crops,
    CrossEntropy,
    Descend,
    InfoNCE,
    Linear,
    Nearest,
    OneClass,
    Optimiser,
    Recipe,
    Shown,
    SupCon,
    find,
)
from assay.learn.train import train
from assay.measure.block import line
from assay.measure.robustness import conditions
from assay.metrics import auc
from assay.recipes.dfcon25 import SMALL, THIN
from assay.recipes.distilled import TAUGHT
from assay.studies import budget
from assay.types import Label, Sample


@dataclasses.dataclass(frozen=True)
class Arm:
    """One thing to try.

    Args:
        about: the question that it belongs to.
        what: what it changes in the base.
        changes: fields of the recipe, `__` for the dot.
        pseudo: kinds of pseudo-fakes that it learns from.
        generated: whether it learns from generated pictures too.
        trained: it has a network that is trained, and a stage that trains it.
        teacher: the arm whose detector says what this one's network is trained towards; both without the fold.
        adapted: embeddings of the judged rows are brought to the mean and the deviation of those that were learned
            from, without looking at labels.
    """

    about: str
    what: str
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    pseudo: tuple[str, ...] = ()
    generated: bool = True
    trained: bool = False
    teacher: str = ""
    adapted: bool = False

    def recipe(self) -> Recipe:
        # What a network is shown follows from the stream's view.
        of_stream = {field: value for field, value in self.changes.items() if field.startswith("texture__")}
        recipe = _BASE.set(**of_stream)
        if self.trained:
            recipe = _descending(recipe)
        return recipe.set(**{field: value for field, value in self.changes.items() if field not in of_stream})


def _descending(recipe: Recipe) -> Recipe:
    """The recipe with a stage that trains its network on what its heads are fitted on."""
    fitting, side = recipe.fit("texture"), recipe.stream("texture").view.size
    shown = {name: getattr(fitting.shown, name) for name in Shown.model_fields}
    stage = Descend(
        stream="texture",
        loss=CrossEntropy(views=1),
        optimiser=Optimiser(learning_rate=3e-3, weight_decay=0.05, warmup=0.05),
        pairs=48,
        **shown
        | {
            "crops": Crops(base=side * 3 // 2, local=side // 2),
            "alter": T(max_ops=1, size=side, resize=None, crop="random"),
        },
    )
    return recipe.set(stages=(stage, fitting.model_copy(update={"shown": Shown()}), recipe.calibrate()))


_BASE = find("texture").set(
    texture__backbone__fields={},
    texture__heads=(Linear(C=0.003, standardised=True), Nearest(most=4000), OneClass(most=2000)),
    fit__drawing="balanced",
    fit__records=2000,
)
_SHOWN = "fit__shown__"
_NO_T: dict[str, Any] = {f"{_SHOWN}alter__max_ops": 0}
_EVERY: dict[str, Any] = {"fit__drawing": "weighted", "fit__records": 20_000}
_COUNTS_ALONE: dict[str, Any] = {"texture__backbone__fields": {"moments": False}}
_TRACE: Mapping[str, Any] = {"widths": [16, 32, 64, 128], "blocks": [1, 1, 1]}
_OTHERS = _BASE.stream("texture").heads[1:]
_WEAK: dict[str, Any] = {"texture__heads": (Linear(C=0.03, standardised=True), *_OTHERS)}


def _view(size: int, across: int) -> View:
    return _BASE.stream("texture").view.model_copy(update={"size": size, "across": across})


def _regression(penalty: float) -> Linear:
    return Linear(C=penalty, standardised=True)


def _counts(what: str, **fields: Any) -> Arm:
    return Arm("features", what, {"texture__backbone__fields": fields})


def _network(name: str, what: str, front: str = "pixels", size: int = 64, **fields: Any) -> Arm:
    """An arm that trains a network on crops of `size` px, by cross-entropy where no other loss is named."""
    return Arm("network", what, {
        "texture__view": _view(size, across=4 if size < 128 else 3),
        "texture__backbone": Backbone(name=name, front=front, fields=fields),
    }, trained=True)  # fmt: skip


def _coded(arm: Arm) -> Arm:
    """The arm with CoDE's loss and a cross-entropy."""
    loss = {"descend__loss": InfoNCE(bce=1.0), "descend__pairs": 24, "descend__optimiser__learning_rate": 1e-3}
    return dataclasses.replace(arm, changes={**arm.changes, **loss})


def _loss(what: str, loss: Any, **changes: Any) -> Arm:
    patch = _network("patch_cnn", what, "chroma")
    return dataclasses.replace(patch, about="loss", changes={**patch.changes, "descend__loss": loss, **changes})


ARMS: Mapping[str, Arm] = {
    "base": Arm("", "co-occurrences of colour and luma, moments; logistic regression; T and one codec for all"),
    "colour": _counts("colour alone", luma=0, moments=False),
    "luma": _counts("luma alone", colour=0, moments=False),
    "moments": _counts("moments alone", colour=0, luma=0),
    "no-moments": _counts("without moments", moments=False),
    "centre": Arm("crops", "the middle alone", {"texture__view": _view(192, across=1)}),
    "small-crops": Arm("crops", "up to 9 crops of 128 px", {"texture__view": _view(128, across=3)}),
    "large-crops": Arm("crops", "up to 4 crops of 256 px", {"texture__view": _view(256, across=2)}),
    "perceptron": Arm("head", "a perceptron", {"texture__heads": (MLP(hidden=(64,)), *_OTHERS)}),
    "strong-penalty": Arm("head", "a regression with C .0003", {"texture__heads": (_regression(0.0003), *_OTHERS)}),
    "weak-penalty": Arm("head", "a regression with C .03", _WEAK),
    "not-standardised": Arm("head", "CoDE's regression as released", {"texture__heads": (Linear(), *_OTHERS)}),
    "degrade": Arm("degradation", "drift's engine in place of T", _NO_T | {f"{_SHOWN}augment": Degrade()}),
    "plain": Arm("degradation", "herd's rotations and flips in place of T", _NO_T | {f"{_SHOWN}augment": "plain"}),
    "codec-only": Arm("degradation", "no T", _NO_T),
    "nothing": Arm("degradation", "neither T nor one codec for all", _NO_T | {f"{_SHOWN}align": None}),
    "every-picture": Arm("drawing", "every picture, weighed as it would be drawn", _EVERY),
    "every-picture-alike": Arm(
        "drawing", "every picture, each weighing the same in its class", _EVERY | {f"{_SHOWN}source_power": 1.0}
    ),
    "every-picture-weak": Arm("drawing", "every picture, weighed, and C .03", _EVERY | _WEAK),
    "every-picture-no-moments": Arm("drawing", "every picture, weighed, without moments", _EVERY | _COUNTS_ALONE),
    "every-picture-no-moments-weak": Arm(
        "drawing", "every picture, weighed, without moments, and C .03", _EVERY | _COUNTS_ALONE | _WEAK
    ),
    "every-picture-four-views": Arm(
        "drawing", "the same with three altered views of each picture, not one",
        _EVERY | _COUNTS_ALONE | _WEAK | {"fit__altered": 3, "fit__records": 40_000},
    ),
    "sources-alike": Arm("drawing", "sources drawn alike, whatever their size", {f"{_SHOWN}source_power": 0.0}),
    "pictures-alike": Arm("drawing", "pictures drawn alike", {f"{_SHOWN}source_power": 1.0}),
    "remade": Arm("pseudo-fakes", "and reals through small generators", pseudo=("remade",)),
    "resampled": Arm("pseudo-fakes", "and reals through resampling chains", pseudo=("resampled",)),
    "blended": Arm("pseudo-fakes", "and self-blended faces", pseudo=("blended",)),
    "all-pseudo": Arm("pseudo-fakes", "and all three kinds", pseudo=PSEUDO),
    "only-remade": Arm("pseudo-fakes", "the first of them, no generated picture", pseudo=("remade",), generated=False),
    "adapted": Arm("adaptation", "embeddings of unlabelled pictures brought to those learned from", adapted=True),
    "patch": _network("patch_cnn", "PatchCNN on the residual of luma and colour", "chroma"),
    "patch-residual": _network("patch_cnn", "PatchCNN on the residual of red, green and blue", "residual"),
    "patch-pixels": _network("patch_cnn", "PatchCNN on pixels", "pixels"),
    "patch-both": _network("patch_cnn", "PatchCNN on pixels and residual", "both"),
    "trace": _network("trace_cnn", "TraceCNN, which sees the whole crop", "chroma", **_TRACE),
    "regnet": _network("regnety_002", "RegNetY-200MF on pixels and residual, what shipped before", "both", 128),
    "regnet-code": _coded(
        _network("regnety_002", "the same by CoDE's loss and cross-entropy, as what shipped before", "both", 128)
    ),
    "vit": _network("vit_tiny_patch16_224", "ViT-Tiny, patches of 8 px", patch_size=8),
    "conv-stem": _network("vit_tiny_r_s16_p8_224", "ViT-Tiny behind a convolutional stem", size=128),
    "maxvit": _network(
        SMALL["maxvit"], "thin MaxViT", "both",
        embed_dim=[32, 64, 96], depths=[1, 1, 1], stem_width=[8, 16], transformer_rel_pos_dim=64,
    ),
    "coatnet": _network(SMALL["coatnet"], "thin CoAtNet", "both", **dict(THIN)),
    "eva02": _network(SMALL["eva02"], "thin EVA-02", "both", patch_size=8, embed_dim=96, depth=4, num_heads=3),
    "focal": _loss("focal cross-entropy, gamma 2", CrossEntropy(focal=2)),
    "supcon": _loss("SupCon, two views", SupCon(projection=(64,)), descend__pairs=24),
    "code": _loss("CoDE's contrastive loss", InfoNCE(), descend__pairs=12),
    "code+bce": _loss("CoDE's loss and cross-entropy", InfoNCE(bce=1.0), descend__pairs=12),
    "student": dataclasses.replace(
        _loss(
            "PatchCNN taught by every-picture, a tenth by labels", CrossEntropy(views=1, teacher=TAUGHT),
            fit__teacher=TAUGHT, texture__heads=(_regression(0.003),),
        ),
        about="distillation", teacher="every-picture",
    ),
}  # fmt: skip
"""The first ones change the base; those of "network" and "loss" train a network, the latter PatchCNN."""


@dataclasses.dataclass(frozen=True)
class Rung:
    """How thorough a round of trials is.

    Args:
        folds: what is left out in turn; several joined by "+" at once. Empty: each fold.
        seconds: of one core's processor time that a network is trained, an arm, fold and seed.
        seeds: how many.
        arms: how many of the rung before come into this one; 0: all that there are, in "screen" those that train
            nothing, in "networks" the others.
        reference: the arm that the others are compared with, and on whose scores the decision rules are tried.
    """

    folds: tuple[str, ...]
    seconds: float
    seeds: int
    arms: int
    reference: str


RUNGS: Mapping[str, Rung] = {
    "screen": Rung(("gan", "gpt"), 0, 1, 0, "base"),
    "networks": Rung(("gan", "gpt"), 240, 1, 0, "patch"),
    "select": Rung((), 240, 1, 4, "every-picture"),
    "confirm": Rung((), 240, 3, 2, "every-picture"),
}
SHIPPED = "every-picture-no-moments-weak"
"""The arm whose recipe ships: would another gain by its company, or add to it?"""
CONDITIONS = ("clean", "jpeg75")
"""Under which arms are compared."""
SCALES = ("half",)
"""Under which they are scored besides, for the question whether two sizes are better than one."""
POWERS = (0.0, 0.5, 1.0, 2.0, 4.0)
"""How strongly attention over crops may go by how sure a crop is; chosen on the folds that are not scored."""
HEADS = {"linear": "texture", "nearest": "texture-nearest", "one-class": "texture-one_class"}
POOLS: tuple[Pool, ...] = ("mean", "median", "top", "max")
JUDGED = 30
"""Rows that are judged of each left-out generator or source, at most."""


@dataclasses.dataclass(frozen=True)
class Job:
    """One training run."""

    rung: str
    arm: str
    fold: str
    seed: int
    seconds: float

    def folder(self, out: Path) -> Path:
        # The same seconds, fold and seed are the same run, whichever rung asks.
        return out / "runs" / f"{self.arm}-{self.fold}-{self.seed}-{self.seconds:g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rung", choices=list(RUNGS), help="this rung alone; by default all, one after another")
    parser.add_argument("--only", action="append", default=[], choices=list(ARMS), help="these arms")
    parser.add_argument("--most", type=int, default=300, help="pictures of a generator or source that are learned from")
    parser.add_argument("--scale", type=float, default=1.0, help="of the seconds of every rung")
    parser.add_argument("--together", type=int, default=2, help="runs at the same time, one thread each")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.job:
        _work(Job(**json.loads(arguments.job)), arguments)
        return
    rungs = [arguments.rung] if arguments.rung else list(RUNGS)
    if not arguments.report:
        tiles.build(_rows(arguments), _BASE.shown("texture").tiles, arguments.out / "tiles", seed=0, workers=2)
        for rung in rungs:
            _climb(rung, arguments)
    print(_report(arguments))


def _rows(arguments: argparse.Namespace) -> list[Sample]:
    """Training and tuning rows, at most so many of a generator or source."""
    return _drawn_rows(arguments.manifest, arguments.most)


@functools.cache
def _drawn_rows(file: Path, most: int) -> list[Sample]:
    rows = manifest.read(file, check=False)
    return drawn([sample for sample in rows if sample.split in ("train", "tune")], most)


def learned(rows: Sequence[Sample], arm: Arm) -> list[Sample]:
    """The rows that an arm may learn from; pseudo-fakes weigh less than generated pictures (`secondary_weight`)."""
    chosen = []
    for sample in rows:
        kind = kind_of(sample)
        if kind and kind not in arm.pseudo:
            continue
        if not kind and sample.label is Label.FAKE and not arm.generated and sample.split == "train":
            continue
        second = "1" if kind and arm.generated else ""
        chosen.append(dataclasses.replace(sample, groups=dict(sample.groups) | {"secondary": second}))
    return chosen


def _chosen(rows: Sequence[Sample], folds: Sequence[str]) -> list[Sample]:
    """The rows of folds that are judged, as they came."""
    mine = [sample for sample in rows if not kind_of(sample) and sample.groups.get(FOLD) in folds]
    return drawn(mine, JUDGED, seed=1)


def _judged(folds: str, arguments: argparse.Namespace) -> list[Sample]:
    """The rows of folds that are judged, none a pseudo-fake: at most 512 px from the middle of each picture, cut once
    and kept without loss, so that a trial need not decode photographs."""
    return _cut_rows(arguments.manifest, arguments.most, arguments.out, folds)


@functools.cache
def _cut_rows(file: Path, most: int, out: Path, folds: str) -> list[Sample]:
    found = []
    for sample in _chosen(_drawn_rows(file, most), folds.split("+")):
        name = hashlib.sha256(sample.place.encode()).hexdigest()[:16]
        place = out / "judged" / f"{name}.png"
        if not place.exists():
            place.parent.mkdir(exist_ok=True)
            pixels = decode(sample.place).pixels
            (height, width), side = pixels.shape[:2], 512
            top, left = max(0, (height - side) // 2), max(0, (width - side) // 2)
            part = place.with_suffix(f".{os.getpid()}.part")
            Image.fromarray(pixels[top : top + side, left : left + side]).save(part, "PNG", compress_level=1)
            part.replace(place)
        found.append(dataclasses.replace(sample, place=str(place)))
    return found


def _work(job: Job, arguments: argparse.Namespace) -> None:
    arm, cache = ARMS[job.arm], arguments.out / "tiles"
    recipe = arm.recipe()
    rows: Iterable[Sample] = learned(_rows(arguments), arm)
    if arm.teacher:
        rows = _taught(job, rows, arguments)
    if budget.descents(recipe):
        # Written down before it begins, so that a run that was killed goes on to the same end.
        note = job.folder(arguments.out) / "steps"
        if not note.exists():
            pace = budget.seconds_a_step(recipe, Table.of(rows), cache, seed=0)
            note.parent.mkdir(parents=True, exist_ok=True)
            note.write_text(str(max(4, round(job.seconds / pace))))
        recipe = budget.with_steps(recipe, int(note.read_text()))
    left_out(
        recipe, rows, _judged(job.fold, arguments), job.fold.split("+"), job.folder(arguments.out), seed=job.seed,
        conditions=conditions((*CONDITIONS, *SCALES)), cache=cache, adapted=arm.adapted,
    )  # fmt: skip


def _taught(job: Job, rows: Iterable[Sample], arguments: argparse.Namespace) -> Table:
    """The rows outside the fold, with what a detector made of them says of each: the arm's teacher."""
    cache, folder = arguments.out / "tiles", job.folder(arguments.out) / "teacher"
    table = Table.of(rows)
    outside = table[~np.isin(table.column(FOLD), job.fold.split("+"))]
    recipe = ARMS[ARMS[job.arm].teacher].recipe()
    teacher = train(recipe, outside, folder, seed=job.seed, workers=0, cache=cache)
    return taught(outside, load(teacher), folder / TAUGHT_ROWS, workers=1)


def _climb(rung: str, arguments: argparse.Namespace) -> None:
    """Run what is open of a rung."""
    plan = RUNGS[rung]
    rows = _rows(arguments)
    arms = _admitted(rung, arguments)
    jobs = [
        Job(rung, arm, fold, seed, plan.seconds * arguments.scale)
        for seed in range(plan.seeds)
        for arm in arms
        for fold in plan.folds or folds_of(rows)
    ]
    waiting = [job for job in jobs if not (job.folder(arguments.out) / "scores.npz").exists()]
    running: list[tuple[Job, subprocess.Popen[bytes]]] = []
    while waiting or running:
        while waiting and len(running) < arguments.together:
            job = waiting.pop(0)
            running.append((job, _start(job, arguments)))
        time.sleep(0.5)
        for job, process in list(running):
            if process.poll() is not None:
                running.remove((job, process))
                told = "done" if process.returncode == 0 else f"failed; see {job.folder(arguments.out)}.log"
                print(f"{rung}: {job.arm} without {job.fold}, seed {job.seed}: {told}", file=sys.stderr, flush=True)


def _start(job: Job, arguments: argparse.Namespace) -> subprocess.Popen[bytes]:
    folder = job.folder(arguments.out)
    folder.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, str(arguments.manifest), str(arguments.out), "--most", str(arguments.most)]
    command += ["--job", json.dumps(dataclasses.asdict(job))]
    environment = dict(os.environ) | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with folder.with_name(folder.name + ".log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)


def _admitted(rung: str, arguments: argparse.Namespace) -> list[str]:
    """The arms of a rung: all, or the best of the rung before; the base is always one."""
    plan = RUNGS[rung]
    if arguments.only:
        return list(arguments.only)
    if not plan.arms:
        return [name for name, arm in ARMS.items() if arm.trained == (rung == "networks")]
    before = ["screen", "networks"] if rung == "select" else [list(RUNGS)[list(RUNGS).index(rung) - 1]]
    results = {name: value for earlier in before for name, value in _results(earlier, arguments).items()}
    best = sorted(results, key=lambda name: -results[name])[: plan.arms]
    return list(dict.fromkeys([*best, "base"])) if rung == "select" else best


def _scored(rung: str, name: str, arguments: argparse.Namespace, seed: int = 0) -> Scored | None:
    """The scores of an arm's runs of a rung, all folds together; None where one is missing."""
    plan = RUNGS[rung]
    parts = []
    for fold in plan.folds or folds_of(_rows(arguments)):
        file = Job(rung, name, fold, seed, plan.seconds * arguments.scale).folder(arguments.out) / "scores.npz"
        if not file.exists():
            return None
        parts.append(Scored.load(file, _judged(fold, arguments)))
    return joined(parts)


def by_fold(scored: Scored, head: str = "linear", pool: Pool = "mean", condition: str = "clean") -> dict[str, float]:
    """AUC of each fold's fakes against its reals."""
    raws, labels, folds = scored.pooled(HEADS[head], pool, condition), scored.labels, np.array(scored.folds)
    return {fold: auc(labels[mine], raws[mine]) for fold in sorted(set(scored.folds)) if (mine := folds == fold).any()}


def merit(scored: Scored, head: str = "linear", pool: Pool = "mean") -> float:
    """What decides: the mean over folds and conditions."""
    return float(np.mean([value for name in CONDITIONS for value in by_fold(scored, head, pool, name).values()]))


def _results(rung: str, arguments: argparse.Namespace) -> dict[str, float]:
    found = {}
    for name in ARMS:
        scored = [s for seed in range(RUNGS[rung].seeds) if (s := _scored(rung, name, arguments, seed)) is not None]
        if scored:
            found[name] = float(np.mean([merit(each) for each in scored]))
    return found


def _report(arguments: argparse.Namespace) -> str:
    """Tables of the rungs that are there: arms, then what can be made of their scores without training anything."""
    lines = []
    for rung, plan in RUNGS.items():
        found = {
            name: scored
            for name in ARMS
            if (scored := [s for seed in range(plan.seeds) if (s := _scored(rung, name, arguments, seed)) is not None])
        }
        if not found:
            continue
        folds = [fold for part in plan.folds or folds_of(_rows(arguments)) for fold in part.split("+")]
        lines += [f"## {rung}", "", *compared(found, folds, plan.reference, _scored(rung, SHIPPED, arguments))]
        # Rungs of the same folds judge the same rows.
        kept = arguments.out / f"controls-{'-'.join(sorted(folds))}.json"
        beside = facts.by_fold(_rows(arguments), _chosen(_rows(arguments), folds), kept)
        lines += ["", "Without looking for a trace, on the same rows:", "", *facts.told(beside)]
        if reference := found.get(plan.reference):
            lines += ["", f"Decision rules, of {plan.reference}:", "", *_ruled(reference)]
        if len(found) > 1:
            lines += ["", "Two arms together, the mean of their scores on one scale:", "", *_paired(found)]
        lines.append("")
    return "\n".join(lines)


def compared(
    found: Mapping[str, Sequence[Scored]], folds: Sequence[str], reference: str, shipped: Scored | None
) -> list[str]:
    """Arms, the best first. `found` has the seeds of each. Beside the mean over seeds stand the lead of every seed over
    the reference (how far seeds differ says what a lead is worth), the other heads, and the first seed's scores
    together with those of what ships."""
    names = [f"{fold} {under}" for fold in folds for under in CONDITIONS]
    told = ("AUC", f"less {reference}", *names, "nearest", "one-class", f"with {SHIPPED}")
    lines = _head("arm", "what", "seeds", "steps", *told)
    for name in _ranked(found):
        scored = found[name]
        steps = round(_mean(count for one in scored for count in one.steps.values()))
        leads = [_lead(one, found[reference][0]) for one in scored] if reference in set(found) - {name} else ["–"]
        each = [
            f"{_mean(by_fold(one, condition=under)[fold] for one in scored):.3f}"
            for fold in folds
            for under in CONDITIONS
        ]
        heads = [
            f"{_mean(merit(one, head) for one in scored):.3f}"
            if all(HEADS[head] in one.raws["clean"] for one in scored)
            else "–"
            for head in ("nearest", "one-class")
        ]
        both = f"{_together(scored[0], shipped):.3f}" if shipped and name != SHIPPED else "–"
        cells = [name, ARMS[name].what, len(scored), steps or "–", f"{_mean(map(merit, scored)):.3f}"]
        lines.append(_row(*cells, ", ".join(leads), *each, *heads, both))
    return lines


def _ruled(scored: Sequence[Scored]) -> list[str]:
    """How an arm's crops may be pooled."""
    rules = {f"crops by {pool}": [merit(one, pool=pool) for one in scored] for pool in POOLS}
    rules["crops by how sure"] = [_merit_of(one, _sure(one)) for one in scored]
    rules["crops by attention"] = [_merit_of(one, _attention(one)) for one in scored]
    rules["full and half size, clean"] = [_merit_of(one, _two_sizes(one)) for one in scored]
    return [*_head("rule", "AUC"), *(_row(rule, f"{_mean(values):.3f}") for rule, values in rules.items())]


def _paired(found: Mapping[str, Sequence[Scored]]) -> list[str]:
    """The best four arms, and the best that trains a network, by pairs."""
    ranked = _ranked(found)
    best = [name for name in ranked if not ARMS[name].adapted][:4]
    trained = [name for name in ranked if ARMS[name].trained][:1]
    pairs = itertools.combinations(dict.fromkeys([*best, *trained]), 2)
    both = {f"{one} + {other}": _together(found[one][0], found[other][0]) for one, other in pairs}
    rows = [_row(pair, f"{value:.3f}") for pair, value in sorted(both.items(), key=lambda item: -item[1])]
    return [*_head("arms", "AUC"), *rows]


def _ranked(found: Mapping[str, Sequence[Scored]]) -> list[str]:
    return sorted(found, key=lambda name: -_mean(merit(each) for each in found[name]))


def _head(*names: str) -> list[str]:
    return [_row(*names), "|" + "---|" * len(names)]


def _row(*cells: object) -> str:
    return line([str(cell) for cell in cells])


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _head_merit(scored: Sequence[Scored], head: str) -> str:
    """`merit` of another head, where the recipe has it."""
    there = all(HEADS[head] in one.raws["clean"] for one in scored)
    return f"{_mean(merit(one, head) for one in scored):.3f}" if there else "–"


def _levels(scored: Scored, condition: str) -> Floats:
    """Scores of networks trained apart on one scale."""
    return scored.levels(HEADS["linear"], condition=condition)


def _merit_of(scored: Scored, levels: Mapping[str, Floats], among: npt.NDArray[np.bool_] | None = None) -> float:
    """`merit` of scores that were made of others, by condition; of some of the rows, where they are named."""
    labels, folds = scored.labels, np.array(scored.folds)
    inside = np.ones(len(folds), dtype=bool) if among is None else among
    return _mean(
        auc(labels[mine], of[mine])
        for of in levels.values()
        for fold in sorted(set(scored.folds))
        if (mine := inside & (folds == fold)).any()
    )


def _sure(scored: Scored, power: float = 1.0) -> dict[str, Floats]:
    """Crops weighed by e to the power of how far their score lies from the middle: attention with one parameter."""
    found = {}
    for name in CONDITIONS:
        scale = [scored.scale[fold][HEADS["linear"]] for fold in scored.folds]
        rows = zip(scored.raws[name][HEADS["linear"]], scale, strict=True)
        levels = [(raw - mean) / deviation for raw, (mean, deviation) in rows]
        found[name] = np.array([np.average(level, weights=np.exp(power * np.abs(level))) for level in levels])
    return found


def _attention(scored: Scored) -> dict[str, Floats]:
    """The same, with the power that does best on the other folds."""
    by_power = {power: _sure(scored, power) for power in POWERS}
    folds = np.array(scored.folds)
    found = {name: np.empty(len(folds)) for name in CONDITIONS}
    for fold in sorted(set(scored.folds)):
        mine = folds == fold
        best = max(POWERS, key=lambda power: _merit_of(scored, by_power[power], ~mine))
        for name in CONDITIONS:
            found[name][mine] = by_power[best][name][mine]
    return found


def _two_sizes(scored: Scored) -> dict[str, Floats]:
    """The mean of the scores at full and at half size, of pictures as they are."""
    return {"clean": (_levels(scored, "clean") + _levels(scored, "half")) / 2}


def _together(one: Scored, other: Scored) -> float:
    place = {sample.place: row for row, sample in enumerate(other.samples)}
    order = np.array([place[sample.place] for sample in one.samples])
    return _merit_of(one, {name: _levels(one, name) + _levels(other, name)[order] for name in CONDITIONS})


def _lead(one: Scored, base: Scored, rounds: int = 300) -> str:
    """How much better an arm is than another, with the interval of a bootstrap over whole generators and sources that
    draws the same rows for both."""
    place = {sample.place: row for row, sample in enumerate(base.samples)}
    order = np.array([place[sample.place] for sample in one.samples])
    mine = {name: _levels(one, name) for name in CONDITIONS}
    theirs = {name: _levels(base, name)[order] for name in CONDITIONS}
    folds, labels = np.array(one.folds), one.labels
    names = np.array([sample.generator or sample.source for sample in one.samples])
    # Of each fold and class the rows of each generator or source.
    units: dict[str, list[list[npt.NDArray[np.intp]]]] = {}
    for fold in sorted(set(one.folds)):
        classes = [(folds == fold) & (labels == label) for label in (0, 1)]
        units[fold] = [[np.flatnonzero(of & (names == name)) for name in np.unique(names[of])] for of in classes]
    chance = np.random.default_rng(0)

    def difference(drawn: bool) -> float:
        found = []
        for classes in units.values():
            picked = [[of[i] for i in chance.integers(len(of), size=len(of))] if drawn else of for of in classes]
            rows = np.concatenate([np.concatenate(of) for of in picked])
            found += [
                auc(labels[rows], mine[name][rows]) - auc(labels[rows], theirs[name][rows]) for name in CONDITIONS
            ]
        return _mean(found)

    low, high = np.quantile([difference(True) for _ in range(rounds)], [0.025, 0.975])
    return f"{difference(False):+.3f} ({low:+.3f} to {high:+.3f})"


if __name__ == "__main__":
    main()
