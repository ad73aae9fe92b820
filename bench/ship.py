"""Train, measure and install the detector that ships.

    python bench/ship.py --data MANIFEST [--recipe code24:regnet] [--minutes 45] [--out .runs/ship] [--name NAME]

MANIFEST is the one that bench/gather.py writes. Training resumes where an earlier call stopped. The test rows are
opened once, when the bundle is there: their figures go into its card, and nothing is chosen on them. --measure-only
measures again what is there; --trial stops before the test rows.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

import assay
from assay.data import manifest
from assay.judge import bundle
from assay.judge.detector import Detector
from assay.learn.recipe import find
from assay.learn.train import train
from assay.measure.evaluate import Evaluation, evaluate
from assay.measure.report import markdown
from assay.measure.robustness import CONDITIONS, robustness
from assay.types import Label, Sample

CONDITIONS_SHOWN = ("clean", "jpeg95", "jpeg75", "jpeg50", "half", "blur1")
KEPT = ("auc", "balanced_accuracy", "ece", "fpr", "tpr", "tpr_at_fpr_1", "tpr_at_fpr_5", "coverage", "false_fake",
        "false_real", "base_rate_precision")  # fmt: skip

LIMITS = (
    "It cannot prove that a picture is real, nor that it is fake; on kinds of pictures that it was not trained on it "
    "is hardly better than chance.",
    "It was not trained on face swaps or on pictures that are fake only in a part.",
    "Drawings, screenshots, scans of text and heavily edited photographs are out of its scope; "
    "its verdict on them means nothing.",
    "Its scores hardly move under compression and blur, so it goes by content and coarse texture more than by the "
    "fine traces of a generator; a new subject can mislead it.",
    "Its threshold lets more real pictures be called fake than it was set for where the pictures differ from the "
    "tuning rows: see the false-positive rates of single sources.",
    "Pictures reach it without metadata: it knows neither cameras, nor signatures, nor where a picture was published.",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--recipe", default="code24:regnet")
    parser.add_argument("--minutes", type=float, default=45.0)
    parser.add_argument("--out", type=Path, default=Path(".runs/ship"))
    parser.add_argument("--cache", type=Path, default=None)
    parser.add_argument("--name", default="assay-code24")
    parser.add_argument("--version", default="1")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--trial", action="store_true", help="stop before the test rows are opened")
    parser.add_argument("--measure-only", action="store_true", help="measure the bundle that is there")
    arguments = parser.parse_args()
    samples = manifest.read(arguments.data, check=False)
    folder = arguments.out / "bundle"
    if not arguments.measure_only:
        known = [sample for sample in samples if sample.split != "test"]
        train(
            find(arguments.recipe), known, arguments.out, name=arguments.name, version=arguments.version,
            minutes=arguments.minutes, workers=arguments.workers, cache=arguments.cache,
        )  # fmt: skip
    if arguments.trial:
        return
    console = Console(stderr=True)
    tests = manifest.select(samples, split="test")
    groups = {
        "seen": [sample for sample in tests if sample.groups.get("unseen") != "1"],
        "unseen": [sample for sample in tests if sample.groups.get("unseen") == "1"],
    }
    detector = assay.load(folder)
    measured = {name: _measure(detector, rows, samples, console) for name, rows in groups.items()}
    bundle.amend(
        folder,
        description=_description(measured["seen"][0], measured["unseen"][0]),
        limits=LIMITS,
        data=detector.card.data | {"summary": _summary(samples)},
        figures={
            "headline": _headline(measured),
            "signs": detector.card.figures["signs"],
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
    conditions = {name: CONDITIONS[name] for name in CONDITIONS_SHOWN}
    after = robustness(detector, rows, conditions)
    evaluation = dataclasses.replace(evaluation, robustness=after)
    told = evaluation.to_dict()
    figures = {
        "rows": told["rows"],
        "metrics": {name: told["metrics"][name] for name in KEPT if name in told["metrics"]},
        "generators": told["groups"].get("generator", {}),
        "real_sources": told["groups"].get("source", {}),
        "controls": told["controls"],
        "after": {
            name: {"auc": table["auc"].to_dict(), "fpr": table["fpr"].to_dict()} for name, table in after.items()
        },
    }
    return evaluation, figures


def _headline(measured: Mapping[str, tuple[Evaluation, dict[str, Any]]]) -> dict[str, Any]:
    return {
        f"{what} on {name} sources": figures["metrics"][metric]
        for name, (_, figures) in measured.items()
        for metric, what in (("auc", "AUC"), ("fpr", "false-positive rate"), ("tpr", "fakes found"))
    }


def _summary(samples: Sequence[Sample]) -> str:
    """What the detector was made from, in a line."""
    parts = []
    for split, what in (("train", "trained"), ("tune", "tuned")):
        rows = manifest.select(samples, split=split)
        reals = [row for row in rows if row.label == Label.REAL]
        fakes = [row for row in rows if row.label == Label.FAKE]
        parts.append(
            f"{what} on {len(reals):,} reals from {len({row.source for row in reals})} sources "
            f"and {len(fakes):,} fakes under {len({row.generator for row in fakes})} generator names"
        )
    return "; ".join(parts)


def _description(seen: Evaluation, unseen: Evaluation) -> str:
    """Five sentences for a layperson, with the figures that were measured."""
    auc, fresh = seen.metrics["auc"], unseen.metrics["auc"]
    return (
        "It looks at small pieces of a picture, at full resolution, and was trained from nothing on a few thousand "
        "photographs and generated pictures, mostly faces, scenes and products. "
        f"Of a real and a fake picture from sources like those it puts the right one first {auc.value:.0%} of the "
        f"time; from sources and generators it has never met, {fresh.value:.0%} of the time, where chance is 50 %. "
        "Where it knows nothing else to go by, its word is a hint, never a proof. "
        "It says uncertain where it would be wrong too often, and it will still be wrong often. "
        "Do not use it to accuse anybody."
    )


if __name__ == "__main__":
    main()
