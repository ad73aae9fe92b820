"""One manifest of the pictures that the shipped detector is trained, tuned and tested on.

    python bench/gather.py CORE_MANIFEST POOL_MANIFEST OUT

CORE_MANIFEST is a manifest with train, val and test rows. POOL_MANIFEST lists further pictures, all of them for
training, with a `note` column: a note that starts with "CROP left,top,right,bottom" gives the box to cut first, one
that starts with "2x2 COLLAGE" means four pictures in one file, of which one is cut. OUT gets manifest.csv and the cut
pictures. Running it again changes nothing.

Whole kinds of generators and whole real sources are left out together, in five folds (`FAMILIES`, `REALS`), so that
what is chosen is chosen on kinds of pictures that no network of that fold saw; `bench/search.py` goes by them. Core's
val rows are the tuning split, and belong to a fold as well. Core's test rows belong to none and choose nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import re
from pathlib import Path

from PIL import Image

from assay.data import manifest
from assay.types import Label, Sample

FAMILIES = (
    ("gan", ("stylegan", "generated-faces", "this", "biggan", "gan family", "unknown ai face")),
    ("sd1", ("sd1", "stable diffusion 1", "elsa-d3", "realistic-vision")),
    ("gpt", ("gpt", "nano-banana", "gemini")),
    ("web", ("unknown-mix", "unknown (brockwebb")),
)
"""A generator's family is the first of these with a word that its name begins with, or the last, "modern": diffusion
and flow models since 2022, and whatever is not named."""

MODERN = "modern"

REALS = {
    "chandrikadeb7/Face-Mask-Detection": "gan",
    "kurlyto/ai-or-not": "gan",
    "jbhuang0604/SelfExSR": "gan",
    "declan-wright/Image-Dataset": "gan",
    "alexeygrigorev/clothing-dataset": "sd1",
    "Li-Chongyi/Zero-DCE": "sd1",
    "CompVis/taming-transformers": "sd1",
    "marcusklasson/GroceryStoreDataset": "gpt",
    "drewnoakes/metadata-extractor-images": "gpt",
    "google/dreambooth": "gpt",
    "brockwebb/ai-or-not": "gpt",
    "Laboratoriet/real-or-ai-game": "web",
    "codebasics/py": "web",
    "luanfujun/deep-photo-styletransfer": "web",
    "xuebinqin/U-2-Net": "web",
    "emanhamed/Houses-dataset": MODERN,
    "ML72/AI-Image-Classifier-Playground": MODERN,
    "datitran/raccoon_dataset": MODERN,
    "xigua7105/FerretNet": MODERN,
}
"""The fold of each real source. EliSchwartz/imagenet-sample-images is in none: it is always there to learn from, and
the makers of pseudo-fakes learn from it alone, so that no fold's decoders have seen what the fold leaves out."""

LEFT_OUT = {
    "muxspace/facial_expressions": "94 % grey, and only reals: grey would come to mean real",
    "mu4dian/AI_UI": "labels without provenance, retouched",
}

SMALLEST = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("core", type=Path)
    parser.add_argument("pool", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    samples = []
    for sample in manifest.read(arguments.core):
        samples.append(_placed(sample, "core"))
    for sample in manifest.read(arguments.pool):
        if sample.source in LEFT_OUT:
            continue
        place = _cut(sample, arguments.out / "cut")
        if place is not None:
            samples.append(_placed(dataclasses.replace(sample, place=place), "pool"))
    manifest.write(arguments.out / "manifest.csv", samples)
    for split in ("train", "tune", "test"):
        print(split, len(manifest.select(samples, split=split)))


def family(sample: Sample) -> str:
    """Of a fake, what its generator is akin to; empty for a real."""
    if sample.label is not Label.FAKE:
        return ""
    name = sample.generator.lower()
    return next((family for family, words in FAMILIES if name.startswith(words)), MODERN)


def _placed(sample: Sample, collection: str) -> Sample:
    kind = family(sample)
    fold = "" if sample.split == "test" else kind or REALS.get(sample.source, "")
    kept = {name: sample.groups[name] for name in ("unseen", "kind", "licence") if name in sample.groups}
    return dataclasses.replace(sample, groups=kept | {"family": kind, "fold": fold, "collection": collection})


def _cut(sample: Sample, folder: Path) -> str | None:
    """Where the picture of a row is: its file, or the part of it that is the picture; None where that is too small."""
    note = sample.groups.get("note", "")
    with Image.open(sample.place) as image:
        if found := re.match(r"CROP (\d+),(\d+),(\d+),(\d+)", note):
            left, top, right, bottom = (int(x) for x in found.groups())
            box = (left, top, right, bottom)
        elif note.startswith("2x2 COLLAGE"):
            # A margin keeps the seam out; which of the four is taken depends on the picture alone.
            which = hashlib.sha256(sample.origin.encode()).digest()[0] % 4
            w, h = image.width // 2, image.height // 2
            left, top = (which % 2) * w, (which // 2) * h
            box = (left + 8, top + 8, left + w - 8, top + h - 8)
        else:
            return sample.place if min(image.size) >= SMALLEST else None
        target = folder / f"{Path(sample.place).stem}.png"
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_suffix(".part")
            image.convert("RGB").crop(box).save(part, "PNG", compress_level=1)
            part.rename(target)
    return str(target)


if __name__ == "__main__":
    main()
