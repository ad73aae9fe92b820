"""Compare candidates for the shipped detector on sources and generators that their training left out.

    python bench/choose.py MANIFEST OUT --arm code24 --arm code24:trace --minutes 5

MANIFEST is the one that bench/gather.py writes. For each fold, every arm is trained for the same minutes without that
fold's sources, tuned on core's val rows, and judged as a bundle on the fold's rows. Test rows are never opened. Runs
that are there already are taken up, so the command can be repeated with more arms. Prints one table.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

import assay
from assay.data import manifest
from assay.learn import tiles
from assay.learn.recipe import Descend, Recipe, find
from assay.metrics import auc, bootstrap
from assay.types import Sample, Verdict

FOLDS = ("A", "B")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--arm", action="append", required=True, help="a recipe, with settings after blanks")
    parser.add_argument("--minutes", type=float, default=5.0, help="of training, an arm and fold")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--together", type=int, default=1, help="arms trained at the same time, one thread each")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    samples = [s for s in manifest.read(arguments.manifest, check=False) if s.split != "test"]
    for arm in arguments.arm:
        # Once for all: the runs find their rows among these.
        descents = [stage for stage in _recipe(arm).stages if isinstance(stage, Descend)]
        for stage in descents:
            tiles.build(samples, stage.tiles, arguments.out / "tiles", seed=arguments.seed)
    jobs = [(arm, fold) for fold in FOLDS for arm in arguments.arm]
    for start in range(0, len(jobs), arguments.together):
        running = [_start(arm, fold, samples, arguments) for arm, fold in jobs[start : start + arguments.together]]
        # All of them are waited for, so that none is left behind where one fails.
        codes = [process.wait() for process in running if process is not None]
        if any(codes):
            sys.exit("an arm failed; see its log in the output folder")
    rows = [_row(arm, fold, samples, arguments) for arm, fold in jobs]
    (arguments.out / "choose.json").write_text(json.dumps(rows, indent=1))
    print("| arm | fold left out | AUC left out | 95 % | core val | 95 % | steps |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        left, val = row["left_out"], row["val"]
        cells = [row["arm"], f"{row['fold']} ({left['n']})", *_cells(left), *_cells(val), row["steps"]]
        print("| " + " | ".join(map(str, cells)) + " |")


def _cells(figure: dict[str, Any]) -> tuple[str, str]:
    return f"{figure['value']:.3f}", f"{figure['low']:.3f}–{figure['high']:.3f}"


def _recipe(arm: str) -> Recipe:
    name, *settings = arm.split()
    recipe = find(name)
    for setting in settings:
        place, _, value = setting.partition("=")
        recipe = recipe.with_field(place, value)
    return recipe


def _folder(arm: str, fold: str, out: Path) -> Path:
    safe = "".join(c if c.isalnum() else "-" for c in arm)
    return out / f"{safe}-{fold}"


def _start(arm: str, fold: str, samples: list[Sample], arguments: argparse.Namespace) -> subprocess.Popen[bytes] | None:
    folder = _folder(arm, fold, arguments.out)
    if (folder / "bundle" / "card.json").exists():
        return None
    left = [s for s in samples if s.groups.get("fold") != fold]
    left = [dataclasses.replace(s, split="train") if s.groups.get("fold") else s for s in left]
    table = arguments.out / f"without-{fold}.csv"
    manifest.write(table, left)
    recipe, *settings = arm.split()
    command = [sys.executable, "-m", "assay", "train", recipe, "--data", str(table), "--out", str(folder)]
    command += ["--minutes", str(arguments.minutes), "--seed", str(arguments.seed), "--workers", "1"]
    command += ["--cache", str(arguments.out / "tiles")]
    for setting in settings:
        command += ["--set", setting]
    environment = dict(os.environ)
    if arguments.together > 1:
        environment["OMP_NUM_THREADS"] = "1"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)


def _row(arm: str, fold: str, samples: list[Sample], arguments: argparse.Namespace) -> dict[str, Any]:
    folder = _folder(arm, fold, arguments.out)
    note = folder / "judged.json"
    if note.exists():
        row: dict[str, Any] = json.loads(note.read_text())
        return row
    detector = assay.load(folder / "bundle")
    training: Any = detector.card.training["streams"]
    steps = sum(stream["steps"] for stream in training.values())
    row = {"arm": arm, "fold": fold, "minutes": arguments.minutes, "seed": arguments.seed, "steps": steps}
    groups = {
        "left_out": [s for s in samples if s.groups.get("fold") == fold],
        "val": [s for s in samples if s.split == "tune" and not s.groups.get("fold")],
    }
    for name, part in groups.items():
        labels, scores, sources = [], [], []
        for sample, verdict in zip(part, detector.judge_many(s.place for s in part), strict=True):
            if isinstance(verdict, Verdict) and verdict.score is not None and sample.label is not None:
                labels.append(int(sample.label))
                scores.append(verdict.score)
                sources.append(sample.generator or sample.source)
        row[name] = bootstrap(auc, np.array(labels), np.array(scores), clusters=np.array(sources)).to_dict()
    note.write_text(json.dumps(row))
    return row


if __name__ == "__main__":
    main()
