"""Drift's and herd's streams at their full size, with random weights: built, trained for a step, exported, judged by.

    python bench/giant.py [--form paper] [--size giant] [--threads 2] [--precision int8 …] [--out FOLDER] [--json FILE]
    python bench/giant.py --fit 80 [--form release] [--devices 8]

"paper" is drift's one frozen DINOv2 under three necks; "release" its fusion stream, the largest: LoRA on DINOv2, CLIP
ViT-L beside; "herd" GenConViT's two nets. Nothing is learnt, so scores mean nothing; what is measured is that it holds
together, and what it costs: seconds and memory of a step, bytes at each precision, seconds to load and to judge a
picture, by the vote and by each stream alone, with one run for streams that see the same and with a run for each.
Making and judging have a process each, and so a peak of memory each. The exit status is 1 where an exported network
differs from torch by more than its precision may.

`--fit` makes nothing: it says by arithmetic (`assay.learn.footprint`) what a training step of the paper's batch asks of
each device's memory, as the recipe has it and with the network trained whole: on one device, with inner values computed
again, and laid out in pieces over several; and the fewest parts of the batch that fit into so many gigabytes (10^9
bytes, of which a tenth is left to kernels and allocator). The exit status is 1 where the recipe's own parts do not fit
on one device.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import gc
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import assay
from assay.image.decode import decode
from assay.image.mtcnn import look
from assay.judge import bundle
from assay.judge.card import Card, HeadCard, StreamCard
from assay.judge.engine import Engine, runtime
from assay.judge.heads import LinearHead
from assay.judge.rule import EnsembleRule, Errors, Judge, Rows, StreamRule
from assay.judge.seen import Seen
from assay.learn.batches import Batch
from assay.learn.descend import Machine, Training
from assay.learn.export import Precision, export, parity
from assay.learn.footprint import footprint
from assay.learn.nn import network
from assay.learn.nn.backbones import Trunk, build
from assay.learn.nn.network import joined, merge
from assay.learn.recipe import Backbone, Descend, Recipe, Stream, Text, find
from assay.learn.train import PARITY
from assay.recipes.drift26 import CLIP, SIZES
from assay.recipes.herd24 import NETS
from backbones import peak

PICTURE = Path(__file__).parent.parent / "samples" / "real" / "astronaut.jpg"
"""A picture with a face."""

PAIRS, PARTS = 2, 2
"""Pairs of the measured step, and the parts that they go through in."""

MARGIN = 0.9
"""Of a device's memory, what a training may take by arithmetic."""

STREAMS = {"paper": ("global", "face", "fusion"), "release": ("fusion",), "herd": NETS}

RECIPES = {"paper": "drift26", "release": "drift26:release", "herd": "herd24"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--form", choices=tuple(STREAMS), default="paper")
    parser.add_argument("--size", choices=tuple(SIZES), default="giant")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=tuple(PARITY), nargs="+", default=["fp32", "fp16", "int8"])
    parser.add_argument(
        "--out", type=Path, help="where bundles lie for the while; a temporary folder where none is given"
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--fit", type=float, metavar="GB", help="memory of a device")
    parser.add_argument("--devices", type=int, default=8, help="that a network in pieces lies on, with --fit")
    parser.add_argument("--phase", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    if asked.fit:
        rows = fitting(asked.form, asked.size, asked.fit * 1e9, asked.devices)
        print(json.dumps(rows, indent=1))
        return int(
            not all(row["fits"] for row in rows if row["devices"] == 1 and row["trained"] == "as the recipe has it")
        )
    if asked.phase:
        name, folder = asked.phase[0], Path(asked.phase[1])
        told = (
            made(asked.form, asked.size, folder, asked.precision) if name == "make" else judged(folder, asked.threads)
        )
        print(json.dumps(told))
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.out or Path(scratch)
        row = phase(asked, "make", folder, asked.precision)
        for precision in asked.precision:
            row["precisions"][precision] |= phase(asked, "judge", folder / precision, [precision])
    print(json.dumps(row, indent=1))
    if asked.json:
        asked.json.write_text(json.dumps(row, indent=1) + "\n")
    return int(any(told["apart_from_torch"] > PARITY[name] for name, told in row["precisions"].items()))


def phase(asked: argparse.Namespace, name: str, folder: Path, precisions: list[Precision]) -> dict[str, Any]:
    """A part of the work in a process of its own."""
    command = [sys.executable, __file__, "--form", asked.form, "--size", asked.size, "--threads", str(asked.threads)]
    command += ["--precision", *precisions, "--phase", name, str(folder)]
    told = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    found: dict[str, Any] = json.loads(told.splitlines()[-1])
    return found


def recipe_of(form: str, size: str) -> Recipe:
    """The recipe at the paper's size, its networks' weights random."""
    recipe = find(RECIPES[form], "paper")
    for stream in recipe.streams:
        name = stream.backbone.name if form == "herd" else SIZES[size]
        backbone = stream.backbone.model_copy(update={"name": name, "pretrained": False})
        recipe = recipe.with_field(f"{stream.name}.backbone", backbone)
        if stream.beside is not None:
            recipe = recipe.with_field(f"{stream.name}.beside.backbone", Backbone(name=CLIP))
        if isinstance(stream.neck, Text):
            recipe = recipe.with_field(f"{stream.name}.neck.weights", "")
    return recipe


def fitting(form: str, size: str, memory: float, devices: int) -> list[dict[str, Any]]:
    """What a step of the largest stream asks of each device, in several ways."""
    recipe = recipe_of(form, size)
    name = STREAMS[form][-1]
    whole = recipe.with_field(f"{name}.backbone.lora", None).set(descend__optimiser__trunk=1e-6)
    forms = {"as the recipe has it": recipe, "the whole network": whole}
    ways: list[dict[str, Any]] = [
        {"ranks": 1},
        {"ranks": 1, "recomputed": True},
        {"ranks": devices, "shard": True},
        {"ranks": devices, "shard": True, "recomputed": True},
    ]
    rows = []
    for trained, of in forms.items():
        for way in ways:
            rows.append({"trained": trained} | fitted(of.stream(name), of.descend(name), way, MARGIN * memory))
            print(rows[-1], file=sys.stderr, flush=True)
    return rows


def fitted(stream: Stream, stage: Descend, way: dict[str, Any], most: float) -> dict[str, Any]:
    """A step's memory in the recipe's parts, and the fewest parts that fit."""
    found = footprint(stream, stage, bf16=True, **way)
    # What is kept grows with the rows that go through at a time, and nothing else does.
    grows = found.kept + found.again
    own = stage.pairs // stage.accumulate
    parts = [n for n in range(1, stage.pairs + 1) if stage.pairs % n == 0 and stage.pairs // n >= way["ranks"]]
    fewest = next((n for n in parts if found.total + grows * (stage.pairs / n / own - 1) <= most), None)
    return {
        "devices": way["ranks"],
        "in_pieces": way.get("shard", False),
        "computed_again": way.get("recomputed", False),
        "pictures": 2 * stage.pairs,
        "parts": stage.accumulate,
        "views_at_a_time": found.rows,
        "gigabytes": {
            field.name: round(getattr(found, field.name) / 1e9, 2)
            for field in dataclasses.fields(found)
            if field.name not in ("rows", "parameters", "trained")
        },
        "total_gigabytes": round(found.total / 1e9, 1),
        "fits": found.total <= most,
        "fewest_parts": fewest,
    }


def made(form: str, size: str, folder: Path, precisions: list[Precision]) -> dict[str, Any]:
    """Build the streams, take a step of each, export them together at each precision, and write bundles."""
    recipe = recipe_of(form, size).set(descend__accumulate=PARTS).set(descend__pairs=PAIRS)
    chosen = [recipe.stream(name) for name in STREAMS[form]]
    if form == "paper":
        # Streams over one frozen network: built once, as one file of weights would be read.
        kept: dict[str, Trunk] = {}

        def once(backbone: Backbone, size: int) -> Trunk:
            if backbone.name not in kept:
                kept[backbone.name] = build(backbone, size)
            return kept[backbone.name]

        network.build = once  # type: ignore[attr-defined]
    machine = Machine("cpu", bf16=False, workers=0)
    row: dict[str, Any] = {"form": form, "streams": {}, "precisions": {}}
    parts, layers = [], {}
    for stream in chosen:
        began = time.perf_counter()
        training = Training(stream, recipe.descend(stream.name), machine, seed=0, total=10)
        built = time.perf_counter() - began
        shape = (2 * PAIRS, stream.view.size, stream.view.size, 3)
        pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        batch = Batch({"view 1": pixels}, np.repeat([-1, 0], PAIRS), np.full(2 * PAIRS, np.nan))
        began, clock = time.perf_counter(), time.process_time()
        loss = training.advance(batch)
        row["streams"][stream.name] = {
            "parameters_millions": round(sum(p.numel() for p in training.trunk.parameters()) / 1e6, 1),
            "trained_millions": round(sum(p.numel() for p in training.parameters().values()) / 1e6, 2),
            "build_seconds": round(built, 1),
            "step_seconds": round(time.perf_counter() - began, 1),
            "step_processor_seconds": round(time.process_time() - clock, 1),
            "loss": round(loss, 4),
            "peak_gibibytes": round(peak() / 2**30, 2),
        }
        print(stream.name, row["streams"][stream.name], file=sys.stderr, flush=True)
        layers[stream.name] = training.layer
        parts.append(merge(training.trunk))
        del training
    # Streams over one network are exported together, others each for itself.
    runs: dict[str, tuple[Trunk, list[Stream]]] = (
        {"drift": (joined(parts), chosen)}
        if form == "paper"
        else {stream.name: (part, [stream]) for stream, part in zip(chosen, parts, strict=True)}
    )
    widths = {stream.name: part.dim for stream, part in zip(chosen, parts, strict=True)}
    del parts
    gc.collect()
    for precision in precisions:
        files: dict[str, bytes | Path] = {}
        seconds = 0.0
        for stem, (trunk, streams) in runs.items():
            began = time.perf_counter()
            files |= export(trunk, streams[0].view.size, stem, precision)
            seconds += time.perf_counter() - began
        written(runs, layers, widths, files, folder / precision, precision)
        del files
        gc.collect()
        apart = 0.0
        for stem, (trunk, streams) in runs.items():
            engine = Engine(folder / precision, stem, threads=torch.get_num_threads(), device="cpu")
            apart = max(apart, parity(trunk, engine.run, streams[0].view.size, count=1))
            del engine
            gc.collect()
        told = {
            "megabytes": round(sum(path.stat().st_size for path in (folder / precision).iterdir()) / 1e6, 1),
            "export_seconds": round(seconds, 1),
            "apart_from_torch": apart,
        }
        row["precisions"][precision] = told
        print(precision, told, file=sys.stderr, flush=True)
    row["peak_gibibytes"] = round(peak() / 2**30, 2)
    return row


def written(
    runs: dict[str, tuple[Trunk, list[Stream]]],
    layers: dict[str, LinearHead],
    widths: dict[str, int],
    files: dict[str, bytes | Path],
    folder: Path,
    precision: Precision,
) -> None:
    """The bundle of these streams, by the network that they share; nothing is calibrated."""
    cards = []
    for stem, (trunk, streams) in runs.items():
        start = 0
        for stream in streams:
            width = widths[stream.name]
            cards.append(
                StreamCard(
                    name=stream.name,
                    view=stream.view,
                    trunk=stem,
                    head=HeadCard(kind="linear"),
                    parameters=sum(p.numel() for p in trunk.parameters()),
                    embedding=width,
                    part=(start, start + width) if len(streams) > 1 else None,
                    backbone=stream.backbone.name,
                )
            )
            start += width
    streams = [stream for _, part in runs.values() for stream in part]
    bar = {"threshold": 0.5, "doubt_low": 0.5, "fpr": 0.05}
    rule = EnsembleRule(errors=Errors(false_fake=0, false_real=0, decided=1), rows=Rows(real=0, fake=0), **bar)
    alone = {name: rule.model_copy(update={"voters": (name,)}) for name in layers}
    judge = Judge(
        streams={stream.name: StreamRule(pool=stream.pool, **bar) for stream in streams},
        ensemble=rule,
        rules=alone if len(streams) > 1 else {},
    )
    card = Card(
        name="of-chance",
        version="0",
        description="Random weights, to measure what such a bundle costs.",
        recipe="none",
        created=datetime.date.today(),
        assay=assay.__version__,
        streams=tuple(cards),
        engine=runtime(),
        precision=precision,
    )
    bundle.write(folder, card, judge, files=files, heads=layers, seen=Seen())


def judged(folder: Path, threads: int) -> dict[str, Any]:
    """Seconds to load the bundle and to judge a picture: by all streams, and by each alone."""
    look(decode(PICTURE).pixels)  # the search for faces is no part of what is compared
    row: dict[str, Any] = {}
    ways: dict[str, dict[str, Any]] = {"vote": {}}
    streams = bundle.read(folder).card.streams
    ways |= {stream.name: {"vote": stream.name} for stream in streams if len(streams) > 1}
    for name, options in ways.items():
        began = time.perf_counter()
        detector = assay.load(folder, threads=threads, device="cpu", **options)
        verdict = detector.judge(PICTURE)
        first = time.perf_counter() - began
        began = time.perf_counter()
        verdict = detector.judge(PICTURE)
        seconds = time.perf_counter() - began
        row[name] = {"seconds": round(seconds, 2), "first_seconds": round(first, 1), "score": verdict.score}
        row["peak_gibibytes"] = round(peak() / 2**30, 2)
        del detector
        gc.collect()
    if len(streams) > 1:
        alone = sum(row[stream.name]["seconds"] for stream in streams)
        first = row[streams[0].name]["seconds"]
        row["vote_over_first"] = round(row["vote"]["seconds"] / first, 2)
        row["apart_over_first"] = round(alone / first, 2)
    return {"judging": row}


if __name__ == "__main__":
    sys.exit(main())
