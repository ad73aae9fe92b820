"""One manifest of the pictures that the shipped detector is trained, tuned and tested on.

    python bench/gather.py CORE_MANIFEST POOL_MANIFEST OUT

CORE_MANIFEST is a manifest with train, val and test rows. POOL_MANIFEST lists further pictures, all of them for
training, with a `note` column: a note that starts with "CROP left,top,right,bottom" gives the box to cut first, one
that starts with "2x2 COLLAGE" means four pictures in one file, of which one is cut. OUT gets manifest.csv and the cut
pictures. Running it again changes nothing.

Whole sources and generators are set apart, so that what is chosen and tuned is chosen on kinds of pictures that no
network saw: fold A is the tuning split (with core's val rows), fold B a second such group for comparing candidates.
Core's test rows stay test rows and choose nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import re
from pathlib import Path

from PIL import Image

from assay.data import manifest
from assay.types import Sample

FOLDS = {
    "CompVis/taming-transformers": "A",
    "google/dreambooth": "A",
    "ML72/AI-Image-Classifier-Playground": "A",
    "xuebinqin/U-2-Net": "A",
    "declan-wright/Image-Dataset": "A",
    "ArkDevelopmentLabs/Nexora-vision-dataset-v1-mini": "A",
    "freestylefly/awesome-gpt-image-2": "A",
    "nicholasgriffintn/ai-image-generation-comparison": "A",
    "Evolink-AI/awesome-seedream-5-pro-guide-and-prompt": "A",
    "jbhuang0604/SelfExSR": "B",
    "luanfujun/deep-photo-styletransfer": "B",
    "Li-Chongyi/Zero-DCE": "B",
    "datitran/raccoon_dataset": "B",
    "brycedrennan/imaginAIry": "B",
    "comfyanonymous/ComfyUI_examples": "B",
    "jamez-bondos/awesome-gpt4o-images": "B",
}
"""Which sources are left out together. Every generator of a source goes with it."""

LEFT_OUT = {
    "muxspace/facial_expressions": "94 % grey, and only reals: grey would come to mean real",
    "mu4dian/AI_UI": "labels without provenance, retouched",
}

FOLD_B_GENERATORS = ("thisrentaldoesnotexist.com",)
SMALLEST = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("core", type=Path)
    parser.add_argument("pool", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    samples = []
    for sample in manifest.read(arguments.core):
        fold = "" if sample.split == "test" else FOLDS.get(sample.source, "")
        samples.append(_placed(sample, fold, "core"))
    for sample in manifest.read(arguments.pool):
        if sample.source in LEFT_OUT:
            continue
        fold = "B" if sample.generator in FOLD_B_GENERATORS else FOLDS.get(sample.source, "")
        place = _cut(sample, arguments.out / "cut")
        if place is not None:
            samples.append(_placed(dataclasses.replace(sample, place=place), fold, "pool"))
    manifest.write(arguments.out / "manifest.csv", samples)
    for split in ("train", "tune", "test"):
        print(split, len(manifest.select(samples, split=split)))


def _placed(sample: Sample, fold: str, collection: str) -> Sample:
    split = "tune" if fold == "A" and sample.split == "train" else sample.split
    kept = {name: sample.groups[name] for name in ("unseen", "kind", "licence") if name in sample.groups}
    return dataclasses.replace(sample, split=split, groups=kept | {"fold": fold, "collection": collection})


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
