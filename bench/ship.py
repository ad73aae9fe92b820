"""Train, measure and install the detector that ships.

    python bench/ship.py --data MANIFEST [--out .runs/ship]

MANIFEST is the one that bench/gather.py writes. In order, each taken up where an earlier call stopped:

1. pseudo-fakes of its real pictures (bench/pseudo.py), where it learns from any;
2. for each fold a detector of the same recipe that has not met the fold and scores its rows, several at a time;
3. the detector that ships, made from all rows, whose slope, threshold and doubt band are chosen on what the others made
   of rows that they had not met;
4. the test rows, opened once, when the bundle is there: their figures go into its card, and nothing is chosen on them.

--measure-only measures again what is there; --trial stops before the test rows.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import assay
import facts
import pseudo
from assay.data import manifest
from assay.judge import bundle
from assay.judge.detector import Detector
from assay.learn import tiles
from assay.learn.crossfit import FOLD, Scored, drawn, folds_of, joined, kind_of, left_out, on_scale
from assay.learn.recipe import Recipe, find
from assay.learn.train import train
from assay.measure.block import line
from assay.measure.evaluate import Evaluation, evaluate
from assay.measure.report import markdown
from assay.measure.robustness import conditions, robustness
from assay.metrics import auc, bootstrap, threshold_at_fpr, tpr_at_fpr, wilson
from assay.types import Label, Sample
from facts import cell

KINDS: tuple[str, ...] = ()
"""Kinds of pseudo-fakes that it learns from (`assay.learn.crossfit.PSEUDO`): none, since all did harm
(docs/search.md)."""

CONDITIONS_SHOWN = (
    "clean", "jpeg95", "jpeg75", "jpeg50", "jpeg30", "webp80", "half", "double", "blur1", "screenshot", "social",
)  # fmt: skip
KEPT = ("auc", "balanced_accuracy", "ece", "fpr", "tpr", "tpr_at_fpr_1", "tpr_at_fpr_5", "coverage", "false_fake",
        "false_real", "base_rate_precision")  # fmt: skip
CROSSED = ("clean", "jpeg75")
"""What the rows of left-out folds go through."""

JUDGED = 60
"""Rows of each left-out generator or source that are scored, at most."""
FEWEST = 50
"""Fakes among them that a family needs for a figure of its own."""
FPR = 0.05

LIMITS = (
    "It cannot prove that a picture is real, nor that it is fake; on kinds of pictures that it has not met it is "
    "little better than chance.",
    "It was not trained on face swaps, or on pictures that are fake only in a part.",
    "Drawings, screenshots, scans of text and heavily edited photographs are out of its scope; "
    "its verdict on them means nothing.",
    "It goes by fine texture and colour: strong compression, resizing and blur take away what it goes by.",
    "Its threshold lets more real pictures be called fake than it was set for where the pictures differ from those "
    "that it was chosen on: see the false-positive rates of single sources.",
    "Pictures reach it without metadata: it knows neither cameras, nor signatures, nor where a picture was published.",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--recipe", default="texture")
    parser.add_argument("--most", type=int, default=300, help="pictures of a generator or source")
    parser.add_argument("--out", type=Path, default=Path(".runs/ship"))
    parser.add_argument("--name", default="assay-texture")
    parser.add_argument("--version", default="2")
    parser.add_argument("--together", type=int, default=2, help="folds at the same time")
    parser.add_argument("--trial", action="store_true", help="stop before the test rows are opened")
    parser.add_argument("--measure-only", action="store_true", help="measure the bundle that is there")
    parser.add_argument("--fold", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    recipe = find(arguments.recipe)
    if arguments.fold:
        _crossed(arguments.fold, recipe, _learned(arguments), arguments)
        return
    began = time.monotonic()
    if KINDS and not arguments.measure_only:
        pseudo.add(arguments.data, arguments.out / "pseudo", most=arguments.most)
    rows = _learned(arguments)
    if not arguments.measure_only:
        tiles.build(rows, recipe.shown(recipe.streams[0].name).tiles, _cache(arguments), seed=0, workers=2)
        _cross(rows, arguments)
    scored = joined([_crossed(fold, recipe, rows, arguments) for fold in folds_of(rows)])
    if not arguments.measure_only:
        train(
            recipe, rows, arguments.out / "run", name=arguments.name, version=arguments.version, workers=2,
            cache=_cache(arguments), left_out=on_scale(scored, recipe.streams[0].pool),
        )  # fmt: skip
        print(f"made in {(time.monotonic() - began) / 60:.0f} minutes", file=sys.stderr)
    folder = arguments.out / "run" / "bundle"
    crossed = held(scored, recipe.streams[0].name)
    crossed["controls"] = facts.by_fold(rows, scored.samples, arguments.out / "controls.json")
    bundle.amend(folder, figures=dict(bundle.read(folder).card.figures) | {"left_out": crossed})
    print(told(crossed))
    if not arguments.trial:
        _measured(arguments, folder, rows, crossed)


def _cache(arguments: argparse.Namespace) -> Path:
    place: Path = arguments.out / "tiles"
    return place


def _learned(arguments: argparse.Namespace) -> list[Sample]:
    """The rows that are learned from: at most so many of a generator or source. Pseudo-fakes weigh less than generated
    pictures (`Shown.secondary_weight`)."""
    every = manifest.read(arguments.out / "pseudo" / manifest.NAME if KINDS else arguments.data, check=False)
    rows = [row for row in every if row.split in ("train", "tune") and kind_of(row) in ("", *KINDS)]
    return [
        dataclasses.replace(row, groups=dict(row.groups) | {"secondary": "1" if kind_of(row) else ""})
        for row in drawn(rows, arguments.most)
    ]


def _judged(fold: str, rows: Sequence[Sample]) -> list[Sample]:
    return drawn([row for row in rows if row.groups.get(FOLD) == fold and not kind_of(row)], JUDGED, seed=1)


def _crossed(fold: str, recipe: Recipe, rows: Sequence[Sample], arguments: argparse.Namespace) -> Scored:
    return left_out(
        recipe, rows, _judged(fold, rows), [fold], arguments.out / "folds" / fold,
        conditions=conditions(CROSSED), cache=_cache(arguments),
    )  # fmt: skip


def _cross(rows: Sequence[Sample], arguments: argparse.Namespace) -> None:
    """Score each fold by a detector that has not met it, several at a time."""
    waiting = [fold for fold in folds_of(rows) if not (arguments.out / "folds" / fold / "scores.npz").exists()]
    while waiting:
        now, waiting = waiting[: arguments.together], waiting[arguments.together :]
        command = [sys.executable, __file__, "--data", str(arguments.data), "--out", str(arguments.out)]
        command += ["--recipe", arguments.recipe, "--most", str(arguments.most), "--fold"]
        running = [subprocess.Popen([*command, fold]) for fold in now]
        # All are waited for, so that none is left behind where one fails.
        codes = [process.wait() for process in running]
        if any(codes):
            sys.exit("a fold failed; what it said is above")


def held(scored: Scored, head: str) -> dict[str, Any]:
    """What holds on rows that had not been met: by family AUC and fakes found where 5 % of the fold's reals are called
    fake, and for each real source how many of it are called fake at the threshold that 5 % of the *other* folds' reals
    exceed."""
    labels, folds = scored.labels, np.array(scored.folds)
    raw = {name: scored.pooled(head, condition=name) for name in scored.raws}
    names = np.array([s.groups.get("family") or s.source for s in scored.samples])
    generators = np.array([s.generator or s.source for s in scored.samples])
    families: dict[str, Any] = {}
    for fold in sorted(set(scored.folds)):
        mine = folds == fold
        families[fold] = {
            name: {
                "auc": bootstrap(auc, labels[mine], score[mine], clusters=generators[mine].tolist()).to_dict(),
                "tpr_at_fpr_5": bootstrap(
                    lambda truth, found: tpr_at_fpr(truth, found, FPR), labels[mine], score[mine],
                    clusters=generators[mine].tolist(),
                ).to_dict(),
            }
            for name, score in raw.items()
        }  # fmt: skip
        for generator in sorted({str(g) for g in generators[mine & (labels == 1)]}):
            each = mine & ((labels == 0) | (generators == generator))
            if int((generators == generator).sum()) >= FEWEST:
                families[fold].setdefault("generators", {})[generator] = bootstrap(
                    auc, labels[each], raw["clean"][each], clusters=names[each].tolist()
                ).to_dict()
    sources = {}
    # On one scale, so that a threshold can be carried from fold to fold.
    level = scored.levels(head)
    for fold in sorted(set(scored.folds)):
        others = (folds != fold) & (labels == 0)
        threshold = threshold_at_fpr(level[others], FPR)
        for source in sorted(set(generators[(folds == fold) & (labels == 0)].tolist())):
            part = level[(generators == source) & (folds == fold) & (labels == 0)]
            sources[source] = wilson(int((part >= threshold).sum()), len(part)).to_dict()
    return {"families": families, "real_sources": sources}


def told(crossed: Mapping[str, Any]) -> str:
    """The same as a table in Markdown, with mean and worst."""
    lines = ["| left out | AUC | after JPEG 75 | fakes found at 5 % FPR | n |", "|---|---|---|---|---|"]
    for fold, part in crossed["families"].items():
        clean, jpeg = part["clean"], part["jpeg75"]
        cells = [cell(clean["auc"]), cell(jpeg["auc"]), cell(clean["tpr_at_fpr_5"]), clean["auc"]["n"]]
        lines.append(line([fold, *map(str, cells)]))
        lines += [
            f"| {fold}: {name} | {cell(found)} | | | {found['n']} |"
            for name, found in part.get("generators", {}).items()
        ]
    for under in CROSSED:
        values = [part[under]["auc"]["value"] for part in crossed["families"].values()]
        lines.append(f"\nAUC of families, {under}: mean {np.mean(values):.3f}, worst {min(values):.3f}")
    lines += ["", "Without looking for a trace, on the same rows:", "", *facts.told(crossed["controls"])]
    rates = {name: found["value"] for name, found in crossed["real_sources"].items()}
    worst = max(rates, key=lambda name: rates[name])
    mean = np.mean(list(rates.values()))
    lines.append(f"\nLeft-out real sources called fake: mean {mean:.3f}, worst {rates[worst]:.3f} ({worst})")
    lines += [f"- {name}: {cell(found)}, n {found['n']}" for name, found in crossed["real_sources"].items()]
    return "\n".join(lines)


def _measured(arguments: argparse.Namespace, folder: Path, rows: Sequence[Sample], crossed: Mapping[str, Any]) -> None:
    """Open the test rows, write the card and install the bundle."""
    samples = manifest.read(arguments.data, check=False)
    console = Console(stderr=True)
    tests = manifest.select(samples, split="test")
    groups = {
        "seen": [sample for sample in tests if sample.groups.get("unseen") != "1"],
        "unseen": [sample for sample in tests if sample.groups.get("unseen") == "1"],
    }
    detector = assay.load(folder)
    measured = {name: _measure(detector, part, samples, console) for name, part in groups.items()}
    card = detector.card
    bundle.amend(
        folder,
        description=_description(measured["seen"][0], measured["unseen"][0]),
        limits=LIMITS,
        data=card.data | {"summary": _summary(rows), "manifest_sha256": _sha256(arguments.data)},
        figures={
            "headline": _headline(measured),
            "signs": card.figures["signs"],
            "left_out": dict(crossed),
            **{name: figures for name, (_, figures) in measured.items()},
        },
    )
    for name, (evaluation, _) in measured.items():
        print(f"# {name}\n\n{markdown(evaluation)}\n")
    shelf = Path(bundle.__file__).parent.parent / "bundles" / arguments.name
    shutil.rmtree(shelf, ignore_errors=True)
    shutil.copytree(folder, shelf)
    bundle.read(shelf)
    print(f"installed {shelf}", file=sys.stderr)


def _measure(
    detector: Detector, rows: Sequence[Sample], samples: Sequence[Sample], console: Console
) -> tuple[Evaluation, dict[str, Any]]:
    """The evaluation of some test rows, and the part of it that the card keeps."""
    console.print(f"measuring on {len(rows)} rows")
    fit = [sample for sample in samples if sample.split == "train" and sample.groups.get("collection") == "core"]
    evaluation = evaluate(detector, rows, by=("kind",), control_fit=fit)
    after = robustness(detector, rows, conditions(CONDITIONS_SHOWN))
    evaluation = dataclasses.replace(evaluation, robustness=after)
    told = evaluation.to_dict()
    figures = {
        "rows": told["rows"],
        "metrics": {name: told["metrics"][name] for name in KEPT if name in told["metrics"]},
        "generators": told["groups"].get("generator", {}),
        "real_sources": told["groups"].get("source", {}),
        "controls": told["controls"],
        "after": {
            name: {figure: table[figure].to_dict() for figure in ("auc", "fpr", "coverage")}
            for name, table in after.items()
        },
    }
    return evaluation, figures


def _headline(measured: Mapping[str, tuple[Evaluation, dict[str, Any]]]) -> dict[str, Any]:
    return {
        f"{what} on {name} sources": figures["metrics"][metric]
        for name, (_, figures) in measured.items()
        for metric, what in (("auc", "AUC"), ("fpr", "false-positive rate"), ("tpr", "fakes found"))
    }


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _summary(rows: Sequence[Sample]) -> str:
    """What the detector was made from, in a line."""
    reals = [row for row in rows if row.label is Label.REAL]
    copies = [row for row in rows if kind_of(row)]
    fakes = [row for row in rows if row.label is Label.FAKE and not kind_of(row)]
    told = (
        f"{len(reals):,} reals from {len({row.source for row in reals})} sources and {len(fakes):,} fakes under "
        f"{len({row.generator for row in fakes})} generator names"
    )
    return told + (f"; and {len(copies):,} copies of the reals made into fakes" if copies else "")


def _description(seen: Evaluation, unseen: Evaluation) -> str:
    """Five sentences for a layperson, with the figures that were measured."""
    auc, fresh = seen.metrics["auc"], unseen.metrics["auc"]
    return (
        "It looks at the finest texture and colour of pieces of a picture, never at what the picture shows. "
        f"Of a real and a fake picture from sources like those it learned from it puts the right one first "
        f"{auc.value:.0%} of the time; from sources and generators it has never met, {fresh.value:.0%} of the time, "
        "where chance is 50 %. "
        "It is good for a first sorting of many pictures as they came from a camera or a generator, and its word is "
        "a hint, never a proof. "
        "It is not good for pictures that were made smaller, compressed strongly or photographed from a screen, nor "
        "for pictures that are fake in a part, and it says uncertain where it would be wrong too often. "
        "Do not use it to accuse anybody."
    )


if __name__ == "__main__":
    main()
