"""Add pseudo-fakes to a manifest: copies of its real training pictures, made here.

    python bench/pseudo.py MANIFEST OUT [--steps-each 1500] [--most 300]

MANIFEST is the one that bench/gather.py writes. Small generators learn from its real training rows of no fold, so that
none of them has seen what a fold leaves out; where all rows have a fold, from all. Copies are made of at most so many
pictures of a source: half of them pass through a generator, a quarter through a resampling chain, and faces are
self-blended. OUT/manifest.csv has all rows of MANIFEST and the copies, each of its original's fold. Running it again
goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

from assay.data import manifest
from assay.data.derivations import Derivation
from assay.data.derivations.resample import Resampled
from assay.data.derivations.selfblend import SelfBlended
from assay.data.derive import derive
from assay.learn.crossfit import FOLD, drawn, kind_of
from assay.learn.remake import Remake, makers_in, train_makers
from assay.types import Label, Sample

STEPS = 1500
"""About a minute of one core each."""

LEAST_PSNR = 24.0
"""dB on pictures held out that a generator needs for its copies to be used."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps-each", type=int, default=STEPS, help="that a generator is trained")
    parser.add_argument("--most", type=int, default=300, help="pictures of a source that copies are made of")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    add(
        arguments.manifest, arguments.out, steps_each=arguments.steps_each, most=arguments.most,
        seed=arguments.seed, workers=arguments.workers,
    )  # fmt: skip


def add(source: Path, out: Path, *, most: int, steps_each: int = STEPS, seed: int = 0, workers: int = 2) -> Path:
    """Makes the copies and the manifest, and says where that is."""
    rows = manifest.read(source, check=False)
    reals = [s for s in rows if s.label is Label.REAL and s.split == "train" and not kind_of(s)]
    always = [s for s in reals if not s.groups.get(FOLD)] or reals
    train_makers(always, out / "makers", steps_each=steps_each, seed=seed)
    makers = [folder for folder in makers_in(out / "makers") if _faithful(Path(folder))]
    chosen = drawn(reals, most, seed=seed)
    ways: dict[str, Derivation] = {
        "remade": Remake(tuple(makers), share=0.5),
        "resampled": Resampled(share=0.25),
        "blended": SelfBlended(),
    }
    copies: list[Sample] = []
    for kind, way in ways.items():
        made = derive(chosen, out / kind, way, seed=seed, workers=workers, skip=True)
        copies += [sample for sample in made.table if kind_of(sample) == kind]
    target = out / manifest.NAME
    manifest.write(target, [*rows, *copies])
    for (kind, generator), count in sorted(Counter((kind_of(s), s.generator) for s in copies).items()):
        print(f"{count} {kind}, {generator}", file=sys.stderr)
    return target


def _faithful(folder: Path) -> bool:
    """Whether what a generator decodes resembles what went in. Of one whose training failed, any detector would learn
    the failure."""
    psnr = json.loads((folder / "maker.json").read_text("utf-8"))["record"]["psnr"]
    if psnr < LEAST_PSNR:
        print(f"{folder.name} is left out: {psnr:.1f} dB on pictures held out", file=sys.stderr)
    return bool(psnr >= LEAST_PSNR)


if __name__ == "__main__":
    main()
