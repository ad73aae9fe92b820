"""GenImage: eight generators, each with its own ImageNet reals (Zhu et al., arXiv 2306.08571).

Source: GenImage-Dataset/GenImage@746781bfa446: Readme.md (the tree, and `imagenet_ai`, the eight put together). There
is no loader of its own; its baselines read the tree through timm's and torchvision's image folders, which number `ai`
0 and `nature` 1. Here `ai` is fake, 1, and `nature` is real, 0, by name.

*Release*: `val` is the published test set. The Readme speaks of "the training set and testing set", the tree holds
`train` and `val` and nothing else, and its tables are measured there. So `val` becomes "test", and rows for early
stopping, calibration and thresholds ("tune") have to be split off from `train`.

What names say, beyond the Readme (seen in the published archives, and so taken only where it is there):

- **generator**: the folder, in any of the spellings in use (`Stable Diffusion V1.4`, `stable_diffusion_v_1_4`,
  `imagenet_ai_0419_sdv4`), or the file's name where the eight are put together (`000_sdv4_00012.png`).
- **group "synset"** of reals of the training set: `n01440764_1234.JPEG` is a picture of ImageNet's n01440764. The
  names of its validation pictures (`ILSVRC2012_val_00000004.JPEG`) do not say one.
- **group "class_index"** of fakes: the number before the generator's name, as it stands there. Whether all eight
  count from the same class is not documented, so it is not turned into a synset.
- **group "record"** of reals: ImageNet's name of the picture, which keeps one that several generators use together.

Beware: reals are JPEG of any size, fakes are mostly PNG of a generator's few sizes, and a detector that learns only
that scores high (Grommelt et al., arXiv 2403.17608). Judge it beside the metadata-only control of an evaluation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from assay.data.layouts import PICTURES, Layout, LeftOut, files
from assay.types import Label, Sample

GENERATORS = {
    "adm": "adm",
    "biggan": "biggan",
    "glide": "glide",
    "midjourney": "midjourney",
    "sdv4": "sd-1.4",
    "sdv14": "sd-1.4",
    "stablediffusionv14": "sd-1.4",
    "sdv5": "sd-1.5",
    "sdv15": "sd-1.5",
    "stablediffusionv15": "sd-1.5",
    "vqdm": "vqdm",
    "wukong": "wukong",
}
"""Spellings of folders and files, without case and punctuation, and ours."""

CLASSES = {"ai": Label.FAKE, "nature": Label.REAL}
SPLITS = {"train": "train", "val": "test"}
MIXED = "imagenet_ai"
"""The folder that the Readme puts all generators together in."""

_ARCHIVE = re.compile(r"imagenet_(ai_)?(\d{4}_)?", re.IGNORECASE)
_SYNSET = re.compile(r"(n\d{8})_\d+\Z")
_INDEX = re.compile(r"(\d+)_[a-z]", re.IGNORECASE)


def read(root: Path) -> Iterator[Sample | LeftOut]:
    """Samples of all generators below `root`, which may also be one generator's folder.

    Raises:
        LayoutError: no `{train,val}/{ai,nature}` is there.
    """
    found = False
    for path in files(root) if root.is_dir() else ():
        inside = path.relative_to(root).parts[:-1]
        if path.suffix.lower() not in PICTURES:
            yield LeftOut(str(path), "not a picture by its suffix")
        elif len(inside) < 2 or inside[-2].lower() not in SPLITS or inside[-1].lower() not in CLASSES:
            yield LeftOut(str(path), "not in {train,val}/{ai,nature}")
        else:
            found = True
            yield _sample(
                path, (root.absolute().name, *inside[:-2]), SPLITS[inside[-2].lower()], CLASSES[inside[-1].lower()]
            )
    if not found:
        raise LAYOUT.mismatch(root, "there is no picture in a folder train/ai, train/nature, val/ai or val/nature")


def generator_of(names: tuple[str, ...], stem: str) -> str:
    """The generator that folders or, where they are silent, a file's name say; empty where none is known.

    Args:
        names: of folders, from the root down; the deepest that is known counts.
        stem: the file's name without its suffix.
    """
    plain = [re.sub("[^a-z0-9]", "", _ARCHIVE.sub("", name).lower()) for name in reversed(names)]
    plain += re.findall("[a-z]+[0-9]*", stem.lower())
    return next((GENERATORS[name] for name in plain if name in GENERATORS), "")


def _sample(path: Path, names: tuple[str, ...], split: str, label: Label) -> Sample:
    generator = generator_of(names, path.stem if label is Label.FAKE else "")
    if not generator and len(names) > 1 and names[-1].lower() != MIXED:
        generator = names[-1].lower()  # a generator that joined later
    groups = {"subset": generator} if generator else {}
    if label is Label.REAL:
        groups["record"] = path.stem
        if synset := _SYNSET.match(path.stem):
            groups["synset"] = synset[1]
    elif index := _INDEX.match(path.stem):
        groups["class_index"] = str(int(index[1]))
    return Sample(
        place=str(path),
        label=label,
        generator=generator if label is Label.FAKE else "",
        source="ImageNet" if label is Label.REAL else "GenImage",
        split=split,
        groups=groups,
    )


LAYOUT = Layout(
    name="genimage",
    summary="GenImage: eight generators with ImageNet reals; its val is the published test set",
    shape="""GENERATOR/[imagenet_ai_0419_biggan, …/]{train,val}/{ai,nature}/*.png, .JPEG
  or one generator's {train,val}/{ai,nature}, or imagenet_ai/{train,val}/{ai,nature}""",
    source="GenImage-Dataset/GenImage@746781bfa446: Readme.md",
    read=read,
)
