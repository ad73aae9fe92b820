"""DFCon's whole bundle at its full size, with random weights: built, saved, loaded, judged.

    python bench/ensemble.py [--small] [--threads 1] [--precision fp32] [--out FOLDER] [--json FILE]

The streams are those of the recipe `dfcon25` at the paper's size: MaxViT, CoAtNet and EVA-02, a perceptron on each, the
modified majority vote. Nothing is learnt, so its verdicts mean nothing; what is measured is that such a bundle holds
together, and what it costs: bytes, memory, seconds to load it and to judge a picture. The exit status is 1 where the
loaded detector does not judge every sample, or a stream of it says something else than its trunk and head do in torch.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import assay
from assay.image.decode import decode
from assay.judge import bundle
from assay.judge.card import Card, HeadCard, StreamCard
from assay.judge.engine import runtime
from assay.judge.heads import MLPHead
from assay.judge.rule import EnsembleRule, Errors, Judge, Rows, StreamRule
from assay.judge.seen import Seen
from assay.learn.export import export
from assay.learn.nn.backbones import Trunk, build
from assay.learn.recipe import MLP, Recipe, Stream, find
from backbones import peak

SAMPLES = Path(__file__).parent.parent / "samples"
APART = 1e-3
"""Largest difference of P(fake) between the bundle and torch. fp16 can move it further: random weights are badly
conditioned."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="the small size of the recipe")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", choices=("fp32", "fp16"), default="fp32")
    parser.add_argument("--out", type=Path, help="keep the bundle in this folder")
    parser.add_argument("--json", type=Path, metavar="FILE")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    recipe = find("dfcon25", "small" if asked.small else "paper")
    with tempfile.TemporaryDirectory() as scratch:
        row = measured(recipe, asked.out or Path(scratch) / "bundle", asked.precision, asked.threads)
    print("\n".join(f"{name}: {told}" for name, told in row.items()))
    if asked.json:
        asked.json.write_text(json.dumps(row, indent=1) + "\n")
    return int(row["judged"] < row["pictures"] or not row["apart_from_torch"] < APART)


def measured(recipe: Recipe, folder: Path, precision: Any, threads: int) -> dict[str, Any]:
    """Every figure of the bundle."""
    torch.manual_seed(0)
    began = time.perf_counter()
    expected: dict[str, float] = {}
    picture = sorted((SAMPLES / "real").glob("*.jpg"))[0]
    files: dict[str, bytes] = {}
    heads: dict[str, MLPHead] = {}
    cards = []
    for stream in recipe.streams:
        trunk, heads[stream.name] = made(stream)
        files |= export(trunk, stream.view.size, stream.name, precision)
        cards.append(card_of(stream, trunk))
        expected[stream.name] = in_torch(trunk, heads[stream.name], stream, picture)
        print(
            f"{stream.name}: {stream.backbone.name}, {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True
        )
        del trunk
    bundle.write(folder, whole(recipe, tuple(cards), precision), judge(recipe), files=files, heads=heads, seen=Seen())
    built = time.perf_counter() - began
    del files
    began = time.perf_counter()
    detector = assay.load(folder, threads=threads, device="cpu")
    loaded = time.perf_counter() - began
    verdict = detector.judge(picture)
    first = time.perf_counter() - began - loaded
    pictures = sorted([*(SAMPLES / "real").iterdir(), *(SAMPLES / "fake").iterdir()])
    began = time.perf_counter()
    verdicts = [answer for answer in detector.judge_many(pictures) if isinstance(answer, assay.Verdict)]
    seconds = time.perf_counter() - began
    scores = {part.name: part.score for part in verdict.streams}
    return {
        "recipe": recipe.name,
        "streams": {card.name: f"{card.backbone}, {card.parameters / 1e6:.1f} M, {card.embedding}" for card in cards},
        "parameters_millions": round(sum(card.parameters for card in cards) / 1e6, 1),
        "precision": precision,
        "threads": threads,
        "build_seconds": round(built, 1),
        "megabytes": round(sum(path.stat().st_size for path in folder.iterdir()) / 1e6, 1),
        "load_seconds": round(loaded, 2),
        "first_judgement_seconds": round(first, 2),
        "seconds_a_picture": round(seconds / len(pictures), 2),
        "pictures": len(pictures),
        "judged": sum(answer.score is not None for answer in verdicts),
        "scores": scores,
        "apart_from_torch": max(abs(expected[name] - (score or 0)) for name, score in scores.items()),
        "vote": detector.rules.ensemble.method,
        "peak_gibibytes": round(peak() / 2**30, 2),
    }


def made(stream: Stream) -> tuple[Trunk, MLPHead]:
    """A trunk with random weights whose norms have seen a batch, and a perceptron with random weights, scaled so that
    scores do not all lie at 0 or 1, where they could not differ."""
    trunk = build(stream.backbone, stream.view.size)
    with torch.no_grad():
        for _ in range(2):
            embedding = trunk.train()(torch.randn(4, 3, stream.view.size, stream.view.size))
    head = stream.heads[0]
    assert isinstance(head, MLP)
    rng = np.random.default_rng(0)
    widths = (trunk.dim, *head.hidden, 1)
    scale = max(1e-6, float(embedding.norm(dim=1).mean()) / trunk.dim**0.5)
    weights = [rng.standard_normal(shape) / shape[0] ** 0.5 for shape in itertools.pairwise(widths)]
    weights[0] /= scale
    return trunk.eval(), MLPHead(tuple(weights), tuple(np.zeros(width) for width in widths[1:]))


def in_torch(trunk: Trunk, head: MLPHead, stream: Stream, picture: Path) -> float:
    """P(fake) of a picture by torch and the head, uncalibrated."""
    views = stream.view.tensor(stream.view.crops(decode(picture).pixels))
    with torch.no_grad():
        embedding = trunk(torch.from_numpy(views)).numpy()
    return StreamRule(threshold=0.5, doubt_low=0.5, fpr=0.05).score(head.raw(embedding))


def card_of(stream: Stream, trunk: Trunk) -> StreamCard:
    return StreamCard(
        name=stream.name,
        view=stream.view,
        trunk=stream.name,
        head=HeadCard(kind="mlp"),
        parameters=sum(parameter.numel() for parameter in trunk.parameters()),
        embedding=trunk.dim,
        backbone=stream.backbone.name,
    )


def judge(recipe: Recipe) -> Judge:
    bar = {"threshold": 0.5, "doubt_low": 0.5, "fpr": 0.05}
    rule = EnsembleRule(
        method=recipe.calibrate().rule,
        slope=4.0,
        errors=Errors(false_fake=0, false_real=0, decided=0),
        rows=Rows(real=0, fake=0),
        notes="chosen on nothing",
        **bar,
    )
    return Judge(streams={stream.name: StreamRule(**bar) for stream in recipe.streams}, ensemble=rule)


def whole(recipe: Recipe, streams: tuple[StreamCard, ...], precision: Any) -> Card:
    return Card(
        name="random",
        version="0",
        description="Random weights: its verdicts mean nothing.",
        recipe=recipe.name,
        created=datetime.date.today(),
        assay=assay.__version__,
        streams=streams,
        limits=("It was never trained.",),
        engine=runtime(),
        precision=precision,
    )


if __name__ == "__main__":
    sys.exit(main())
