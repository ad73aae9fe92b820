"""Measures runtimes and precisions of detectors side by side: how fast, and what becomes of their scores.

    python bench/engines.py assay-texture ./bundle --data manifest.csv
    python bench/engines.py ./bundle --data manifest.csv --split tune --rows 400 --rounds 9
    python bench/engines.py assay-texture --made-up vit --precision fp32 --precision int8

Every bundle is measured as fp32, fp16 and, where it holds the bound of `assay export` on the manifest's tuning rows,
int8, each by every runtime that is here. A made-up one (`bench/speed.py`) has no verdicts to spoil, so it holds any
bound. Two questions:

1. Pictures per second through the networks, decoded and cut beforehand, as a ratio to ONNX Runtime in float32. All ways
   take turns, round by round, and the ratio is taken within a round. Where torch tells how many products the networks
   take, also as a share of what the machine's own float32 matrix product could do (`bench/speed.py`); int8 and bfloat16
   may exceed it.
2. Verdicts that say another word than ONNX Runtime's in float32, and the change of the AUC, on rows of the manifest. It
   is a comparison of runtimes, not a test of the detector: rows that it was made with are not refused.

Without a manifest the rows are pieces of the pictures in `samples`: enough to time on; their verdicts tell nothing.

Prints a table on standard error and one JSON object on standard output, and writes nothing but a temporary folder.
Needs the extra "export"; "openvino" and "train" are measured with where they are there.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table as Shown

import assay
from assay.data import manifest
from assay.data.order import permutation
from assay.data.table import Table
from assay.errors import AssayError, BundleError, InputError
from assay.image import counting, memory
from assay.judge import bundle
from assay.judge.detector import Detector
from assay.judge.engine import runtimes
from assay.judge.prepared import Prepared
from assay.learn.graph import Precision
from assay.learn.variant import BOUND, Way, compared, variant
from assay.types import EngineName, Verdict
from speed import SAMPLES, Eager, Measured, machine, made_up, product, spread

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")

PIECE, PIECES = 256, 8
"""Side in pixels of the pieces of a sample picture, and how many of each there are."""

BATCH = 8
"""Pictures in one run of the networks, as `assay scan` judges them."""


@dataclasses.dataclass(frozen=True)
class Runner:
    """A detector by one runtime in one precision; the first of a bundle is ONNX Runtime in float32."""

    precision: Precision
    engine: str
    detector: Detector

    def took(self, pictures: Sequence[Prepared]) -> float:
        """Seconds for the networks to look at these."""
        begun = time.perf_counter()
        for start in range(0, len(pictures), BATCH):
            self.detector.embed_prepared(pictures[start : start + BATCH])
        return time.perf_counter() - begun

    def judged(self, rows: Table) -> Way:
        answers = list(self.detector.judge_many([sample.place for sample in rows]))
        scores = [answer.score if isinstance(answer, Verdict) else None for answer in answers]
        words = tuple(answer.verdict.value if isinstance(answer, Verdict) else "" for answer in answers)
        return np.array([math.nan if score is None else score for score in scores]), words


def runners(
    name: str, rows: Table, scratch: Path, bound: float, note: Any, precisions: Sequence[Precision] = PRECISIONS
) -> tuple[list[Runner], dict[str, str]]:
    """All ways of running a bundle, and which there are not, with the reason."""
    read = bundle.read(bundle.find(name))
    found: list[Runner] = []
    missing: dict[str, str] = {}
    for precision in precisions:
        try:
            made = variant(read, rows, scratch / precision, precision, bound=bound if precision == "int8" else 1.0)
        except BundleError as error:
            missing[precision] = str(error)
            continue
        if made.folder is None:
            least = min(attempt.change.largest for attempt in made.attempts)
            missing[precision] = f"scores move by {least:.3g} at least, more than {bound:g}"
            continue
        ways: dict[str, EngineName] = {engine: engine for engine in runtimes()}
        if bundle.read(made.folder).card.counts:
            ways[f"counted by {counting.settle()}"] = "auto"
        for engine, asked in ways.items():
            try:
                runner = Runner(precision, engine, assay.load(made.folder, engine=asked, device="cpu"))
                runner.took(_prepared(runner.detector, rows[:1]))
            except AssayError as error:
                missing[f"{precision}, {engine}"] = str(error)
            else:
                found.append(runner)
    for what, why in missing.items():
        note(f"{read.card.name}: not {what}: {why}")
    return found, missing


def measured(name: str, rows: Table, asked: argparse.Namespace, scratch: Path, note: Any) -> Measured:
    """One bundle."""
    found, missing = runners(name, rows, scratch, asked.bound, note, asked.precision or PRECISIONS)
    if not found:
        raise SystemExit(f"{name} cannot be run in any way: {missing}")
    chosen = _chosen(rows, asked.split, asked.rows, asked.seed)
    pictures = _prepared(found[0].detector, chosen[: asked.pictures])
    note(f"{name}: timing {len(found)} ways on {len(pictures)} pictures")
    rates: list[list[float]] = [[] for _ in found]
    products: list[float] = []
    for number in range(asked.rounds):
        products.append(product())
        # Back and forth, so that a load that rises or falls favours none.
        for place in range(len(found)) if number % 2 == 0 else reversed(range(len(found))):
            rates[place].append(len(pictures) / found[place].took(pictures))
        note(f"round {number + 1} of {asked.rounds}")
    eager = Eager.of(found[0].detector, note)
    work = 2 * eager.macs if eager is not None else 0
    note(f"{name}: judging {len(chosen)} rows {len(found)} times")
    before = found[0].judged(chosen)
    labels = chosen.labels.astype(np.int8)
    sources = [sample.source or f"\0{number}" for number, sample in enumerate(chosen)]
    ways = []
    for runner, rate in zip(found, rates, strict=True):
        change = compared(before, runner.judged(chosen), labels, sources, asked.resamples, asked.seed)
        ways.append(
            {
                "precision": runner.precision,
                "engine": runner.engine,
                "pictures_per_second": spread(rate),
                "times_fp32": spread([a / b for a, b in zip(rate, rates[0], strict=True)]),
                "share_of_product": spread([work * a / b for a, b in zip(rate, products, strict=True)])
                if work
                else None,
                **change.to_dict(),
            }
        )
    card = bundle.read(bundle.find(name)).card
    return {
        "detector": {"name": card.name, "version": card.version, "sha256": card.sha256},
        "rows": len(chosen),
        "pictures": len(pictures),
        "rounds": asked.rounds,
        "macs_per_picture": work // 2,
        "ways": ways,
        "missing": missing,
    }


def pieces(folder: Path, seed: int = 0) -> Path:
    """A manifest of pieces of the sample pictures, PIECE px a side where they are so large, in all three splits."""
    draw = np.random.default_rng(seed)
    files = sorted(SAMPLES.parent.glob("*/*.jpg"))
    if not files:
        raise SystemExit(f"no pictures in {SAMPLES.parent}; run from a checkout that has its samples, or give --data")
    folder.mkdir()
    rows = ["path,label,source,split"]
    for place, file in enumerate(files):
        with Image.open(file) as image:
            whole = image.convert("RGB")
        for number in range(PIECES):
            left, top = (int(draw.integers(max(1, extent - PIECE + 1))) for extent in whole.size)
            name = f"{file.parent.name}-{file.stem}-{number}.png"
            whole.crop((left, top, min(left + PIECE, whole.width), min(top + PIECE, whole.height))).save(folder / name)
            # A picture's pieces stay together.
            rows.append(f"{name},{file.parent.name},{file.stem},{('train', 'tune', 'test')[place % 3]}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder / "manifest.csv"


def _chosen(rows: Table, split: str, most: int, seed: int) -> Table:
    """Labelled rows of a split, at most so many, drawn."""
    there = manifest.select(rows, split=split)
    there = there[there.labels >= 0]
    if not len(there):
        raise SystemExit(f"no labelled row has the split {split}")
    return there[np.sort(permutation(len(there), "engines", seed)[:most])]


def _prepared(detector: Detector, rows: Table) -> list[Prepared]:
    found = []
    for sample in rows:
        try:
            found.append(detector.prepare(sample.place))
        except InputError:
            continue
    if not found:
        raise SystemExit("none of the pictures can be decoded")
    return found


def show(found: Measured, console: Console) -> None:
    """A table for each bundle."""
    for each in found["bundles"]:
        title = f"{each['detector']['name']} on {found['machine']['cpu']}, {each['rows']} rows"
        table = Shown("", "pictures a second", "times", "share of product", "moves by", "flips", "AUC", title=title)
        for way in each["ways"]:
            times, share, auc = way["times_fp32"], way["share_of_product"], way["auc_change"]
            table.add_row(
                f"{way['precision']}, {way['engine']}",
                f"{way['pictures_per_second']['value']:.4g}",
                f"{times['value']:.2f} ({times['low']:.2f} to {times['high']:.2f})",
                f"{100 * share['value']:.3g} %" if share else "–",
                "–" if way["largest"] is None else f"{way['largest']:.2g}",
                str(way["flips"]),
                "–" if auc["value"] is None else f"{auc['value']:+.4f} ({auc['low']:+.4f} to {auc['high']:+.4f})",
            )
        console.print(table)
        for what, why in each["missing"].items():
            console.print(f"not {what}: {why}")


def main() -> int:
    memory.keep()  # as a command that judges does
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detectors", nargs="*", metavar="DETECTOR", help="names or bundles' folders")
    parser.add_argument("--made-up", choices=("trace", "vit"), help="one with random weights too (needs torch)")
    parser.add_argument("--data", metavar="MANIFEST", help="with training, tuning and test rows")
    parser.add_argument("--precision", choices=PRECISIONS, action="append", help="once or more; all unless given")
    parser.add_argument("--split", default="test", help="whose verdicts are compared")
    parser.add_argument("--rows", type=int, default=500, help="of that split at most")
    parser.add_argument("--pictures", type=int, default=32, help="of these that are timed")
    parser.add_argument("--rounds", type=int, default=5, help="of timing")
    parser.add_argument("--resamples", type=int, default=1000, help="rounds of the bootstrap")
    parser.add_argument("--bound", type=float, default=BOUND, help="of int8, as assay export takes it")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    if min(asked.rows, asked.pictures, asked.rounds) < 1:
        parser.error("--rows, --pictures and --rounds must be 1 or more")
    if not asked.detectors and not asked.made_up:
        parser.error("name a detector, or say --made-up")
    if asked.precision and asked.precision[0] != "fp32":
        parser.error("all is compared with fp32: name it first")
    console = Console(stderr=True, highlight=False)
    begun = machine()
    bundles = []
    with tempfile.TemporaryDirectory() as temporary:
        rows = manifest.read(asked.data or pieces(Path(temporary) / "pieces"))
        names = [(name, asked.bound) for name in asked.detectors]
        if asked.made_up:
            names.append((str(made_up(Path(temporary) / "made-up", asked.made_up)), 1.0))
        for name, bound in names:
            with tempfile.TemporaryDirectory() as scratch:
                told = argparse.Namespace(**vars(asked) | {"bound": bound})
                bundles.append(measured(name, rows, told, Path(scratch), console.print))
    found: Measured = {"machine": begun, "data": "manifest" if asked.data else "samples", "bundles": bundles}
    show(found, console)
    print(json.dumps(found, allow_nan=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
