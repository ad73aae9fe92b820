"""How little it takes to turn a detector's verdict on purpose, on test pictures.

    python bench/attack.py --data MANIFEST [--pictures 40] [--detector NAME] [--card] [--json FILE]

MANIFEST is the one that bench/gather.py writes; half of the pictures are real, half fake, drawn by the seed from the
rows of split "test", and cut to the square of 256 px in their middle, at full resolution; smaller ones are passed over.
Attacks are those of assay.learn.attack: nothing and noise to compare with, PGD (20 steps, 2 starts), Square. With
--card the headline goes into the bundle's card, in place of an earlier one. Nothing is chosen on these figures.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from assay.data import manifest
from assay.errors import AssayError, InputError
from assay.image.decode import decode
from assay.judge import bundle
from assay.judge.detector import Detector
from assay.learn.attack import ATTACKS, QUALITY, SIDE, Outcome, Pictures, Target, limits, measure, middle
from assay.learn.mirror import Mirror
from assay.measure.block import Block, show
from assay.measure.controls import look_at_all
from assay.measure.evaluate import overlaps
from assay.metrics import Interval
from assay.types import Label, Pixels, Sample

KEPT = ("hidden", "accused", "turned", "saved", "auc")
"""Figures of an attack that the card keeps."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=40)
    parser.add_argument("--detector", default=None, help="its name, or a bundle's folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--card", action="store_true", help="put the headline into the bundle's card")
    parser.add_argument("--json", type=Path, metavar="FILE")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    read = bundle.read(bundle.find(asked.detector))
    detector = Detector(read, threads=asked.threads, device="cpu")
    samples, pictures = drawn(manifest.read(asked.data, check=False), asked.pictures, asked.seed)
    if seen := overlaps(detector, samples, look_at_all([sample.place for sample in samples])):
        print(f"the detector was made with {len(seen)} of the pictures, {seen[0][1]}", file=sys.stderr)
        return 1
    mirror = None
    try:
        mirror = Mirror(read)
    except AssayError as error:
        if error.kind != "no_gradient":
            raise
        print(f"no attack follows the gradient: {error}", file=sys.stderr)
    outcomes = measure(
        Target(detector, mirror),
        pictures,
        [int(sample.label or 0) for sample in samples],
        [attack for attack in ATTACKS if attack.knows != "files" or mirror is not None],
        clusters=[sample.generator or sample.source for sample in samples],
        seed=asked.seed,
        progress=lambda name, done, total: print(f"{done}/{total} {name}", file=sys.stderr, flush=True),
    )
    told = about(read, samples, detector, mirror, pictures)
    show(table(outcomes, told), Console(width=220))
    if asked.json:
        whole = {"about": told, "outcomes": [outcome.to_dict() for outcome in outcomes]}
        asked.json.write_text(json.dumps(whole, indent=1) + "\n")
    if asked.card:
        amend(read, outcomes, told)
    return 0


def drawn(rows: Sequence[Sample], count: int, seed: int) -> tuple[list[Sample], Pictures]:
    """Test rows with their pictures, half of each class where there are as many that are large enough."""
    kept: list[Sample] = []
    pictures: list[Pixels] = []
    tests = manifest.select(rows, split="test")
    for label in Label:
        mine = [row for row in tests if row.label == label]
        wanted = len(pictures) + (count + 1 - label) // 2
        for place in np.random.default_rng(seed).permutation(len(mine)):
            if len(pictures) == wanted:
                break
            try:
                picture = middle(decode(mine[place].place).pixels)
            except InputError:
                continue
            if picture is not None:
                kept.append(mine[place])
                pictures.append(picture)
    return kept, np.stack(pictures)


def about(
    read: bundle.Bundle, samples: Sequence[Sample], detector: Detector, mirror: Mirror | None, pictures: Pictures
) -> str:
    """What was measured, and with what, in a few words."""
    fakes = sum(sample.label == Label.FAKE for sample in samples)
    told = (
        f"{read.card.name}: {len(samples) - fakes} real and {fakes} fake test pictures, {SIDE} px; "
        f"adversarial-robustness-toolbox {importlib.metadata.version('adversarial-robustness-toolbox')}"
    )
    if mirror is None:
        return told
    scores = Target(detector).judge(pictures).scores
    with torch.no_grad():
        parts = [mirror(torch.from_numpy(picture.transpose(2, 0, 1)[None] / np.float32(255))) for picture in pictures]
    apart = np.abs(torch.cat(parts).numpy() - scores).max()
    return f"{told}; scores of the mirror and the detector differ by {apart:.1e} at most"


def table(outcomes: Sequence[Outcome], told: str) -> Block:
    columns = (
        "attack", "fakes hidden", "reals accused", "turned", f"after JPEG {QUALITY}", "survived", "AUC",
        "AUC, JPEG", "L-inf", "L2", "PSNR", "queries", "s/picture",
    )  # fmt: skip
    rows = []
    for one in outcomes:
        shares = (one.hidden, one.accused, one.turned, one.saved, one.survived)
        queries = "" if not one.asked else f"{_number(one.queries, 0)} of {one.asked}"
        rows.append(
            (
                one.attack,
                *(_share(share) for share in shares),
                *(_figure(figure) for figure in (one.auc, one.auc_saved)),
                f"{one.linf:g}",
                f"{one.l2:.2f}",
                _number(one.psnr, 1),
                queries,
                f"{one.seconds:.1f}",
            )
        )
    return Block("Verdicts turned, of pictures rightly called", columns, rows, told)


def _share(share: Interval) -> str:
    hit = round(share.value * share.n) if share.n else 0
    return f"{hit}/{share.n} ({share.low:.0%}–{share.high:.0%})" if share.n else "none"


def _figure(figure: Interval) -> str:
    return f"{figure.value:.3f} ({figure.low:.3f}–{figure.high:.3f})"


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def amend(read: bundle.Bundle, outcomes: Sequence[Outcome], told: str) -> None:
    """Put what was measured on the card, in place of what an earlier run put there."""
    figures: dict[str, Any] = {"how": told}
    for outcome in outcomes:
        whole = outcome.to_dict()
        figures[outcome.attack] = {name: whole[name] for name in KEPT}
    bundle.amend(
        read.folder,
        figures=dict(read.card.figures) | {"attacks": figures},
        limits=limits(read.card.limits, outcomes),
    )


if __name__ == "__main__":
    sys.exit(main())
