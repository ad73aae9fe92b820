"""Folders named after classes, as torchvision's ImageFolder, CNNDetection (ForenSynths) and GenConViT read them.

Classes are told **by name, never by number**: ImageFolder numbers folders in alphabetical order, so GenConViT's `fake`,
`real` are 0 and 1, CNNDetection's `0_real`, `1_fake` the other way round. Here `fake` is 1 in both.

Sources:
    erprogs/GenConViT@077e79b6dddb: dataset/loader.py (`{train,valid,test}/{fake,real}` through ImageFolder).
    PeterWang512/CNNDetection, as kept in GenImage-Dataset/GenImage@746781bfa446:
    detector_codes/CNNDetection-master/README.md and data/datasets.py (`GENERATOR/0_real`, `GENERATOR/1_fake` or, with
    object classes, `GENERATOR/CLASS/0_real`; its training and validation sets are `CLASS/0_real` without a generator).

What a path says, each folder by its own name:

- **class**: the folder that names one (`assay.data.layouts.told`, or the options `real` and `fake`). A path that says
  both, or none, is refused with the folder's name.
- **split**: train; val, valid, validation or dev become "tune"; test. *Release*: CNNDetection's sets hold an object
  class called `train` (`progan/train/0_real`, trains on rails), and test pictures of it must not become training rows:
  among folders of its other object classes it is taken for the object.
- **group "subset"**: the first other folder above the class, for reals too, so that each generator can be evaluated
  against its own reals. **Group "category"**: the folders between that and the class. **Group "folder"**: what lies
  below the class.
- **generator** of fakes: the subset where classes are named CNNDetection's way (`1_fake`); else the option `generator`.
  A folder of one of CNNDetection's 20 object classes is a category and never a generator; its training and validation
  fakes are all ProGAN's: say generator=progan.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from assay.data.layouts import PICTURES, VIDEOS, Layout, LeftOut, files, told
from assay.errors import LayoutError
from assay.types import Label, Sample

_OBJECTS = (
    "airplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person pottedplant sheep "
    "sofa train tvmonitor"
)
_LSUN = frozenset(_OBJECTS.split())
"""CNNDetection's object classes."""

_SHOWN = 5


@dataclasses.dataclass(frozen=True, slots=True)
class _Said:
    """What the folders between the root and a file say."""

    label: Label | None
    split: str
    generator: str
    groups: dict[str, str]


def read(root: Path, *, real: str = "", fake: str = "", generator: str = "") -> Iterator[Sample | LeftOut]:
    """Samples of all pictures and clips in class folders below `root`.

    Raises:
        LayoutError: a folder's class cannot be told or is told twice, `real` and `fake` share a name or name a folder
            that is not there, or no folder names a class.
    """
    named = _named(real, fake)
    kept = PICTURES | VIDEOS
    folders = {path.parent.relative_to(root).parts for path in files(root, kept)} if root.is_dir() else set()
    said = _all_said(root, sorted(folders), named, generator)
    for path in files(root):
        inside = path.relative_to(root)
        if path.suffix.lower() not in kept:
            yield LeftOut(str(path), "neither a picture nor a clip by its suffix")
            continue
        here = said[inside.parent.parts]
        if here.label is None:
            yield LeftOut(str(path), "it lies beside the class folders, not in one")
            continue
        yield Sample(
            place=str(path),
            label=here.label,
            generator=here.generator,
            split=here.split,
            video=inside.as_posix() if path.suffix.lower() in VIDEOS else "",
            groups=here.groups,
        )


def _named(real: str, fake: str) -> dict[str, Label]:
    """Folder names, in lower case, that the options give a class."""
    given = [(Label.REAL, real), (Label.FAKE, fake)]
    pairs = [(name.strip().lower(), label) for label, names in given for name in names.split(",") if name.strip()]
    for name, label in pairs:
        if (name, Label(1 - label)) in pairs:
            raise LayoutError(f"real= and fake= both name {name!r}; give it to one of them")
    return dict(pairs)


def _all_said(
    root: Path, folders: list[tuple[str, ...]], named: dict[str, Label], generator: str
) -> dict[tuple[str, ...], _Said]:
    beside: dict[tuple[str, ...], set[str]] = {}
    for folder in folders:
        for depth, name in enumerate(folder):
            beside.setdefault(folder[:depth], set()).add(name.lower())
    missing = sorted(set(named) - set[str]().union(*beside.values()))
    if missing:
        raise LAYOUT.mismatch(root, f"no folder with pictures in it is called {missing[0]!r}, which an option names")
    if not folders:
        raise LAYOUT.mismatch(root, "there is no picture or clip in it, by its suffix")
    said = {folder: _said(root, folder, beside, named, generator) for folder in folders}
    lost = ["/".join(folder) for folder, here in said.items() if here.label is None and here.groups]
    if all(here.label is None for here in said.values()):
        there = f"; there is {', '.join(lost[:_SHOWN])}" if lost else ""
        raise LAYOUT.mismatch(root, f"no folder of pictures is named after a class{there}")
    if lost:
        more = f" and {len(lost) - _SHOWN} more" if len(lost) > _SHOWN else ""
        raise LAYOUT.mismatch(
            root,
            f"the class cannot be told of {', '.join(lost[:_SHOWN])}{more}; say it by real=NAME or fake=NAME (several "
            "joined by commas), or move the folder away",
        )
    return said


def _said(
    root: Path,
    folder: tuple[str, ...],
    beside: dict[tuple[str, ...], set[str]],
    named: dict[str, Label],
    generator: str,
) -> _Said:
    split, other, below = "", list[str](), list[str]()
    by_option, by_name = dict[str, Label](), dict[str, Label]()
    styled = False
    for depth, name in enumerate(folder):
        own_split, own_label = told(name)
        if len(beside[folder[:depth]] & _LSUN) > 1 and name.lower() in _LSUN:
            own_split = ""
        if name.lower() in named:
            by_option[name] = named[name.lower()]
        elif own_label is not None:
            by_name[name] = own_label
            styled = styled or name.lower() in ("0_real", "1_fake")
        elif not own_split:
            (below if by_option or by_name else other).append(name)
        if own_split and split not in ("", own_split):
            raise LAYOUT.mismatch(root, f"{'/'.join(folder)} says {split} and {own_split} both; rename one of the two")
        split = own_split or split
    labels = by_option or by_name
    if len(set(labels.values())) > 1:
        raise LAYOUT.mismatch(
            root, f"{'/'.join(folder)} says real and fake both; say which holds by real=NAME or fake=NAME"
        )
    label = next(iter(labels.values()), None)
    category = other if other and other[0].lower() in _LSUN else other[1:]
    subset = "" if category == other else other[0]
    maker = generator or (subset if styled else "")
    groups = {"subset": subset, "category": "/".join(category), "folder": "/".join(below)}
    return _Said(
        label=label,
        split=split,
        generator=maker if label is Label.FAKE else "",
        groups={name: value for name, value in groups.items() if value},
    )


LAYOUT = Layout(
    name="imagefolder",
    summary="folders named after classes, in any order, with splits and generators above them (ForenSynths, GenConViT)",
    shape="""[train|val|valid|validation|test/][GENERATOR/[CATEGORY/]]CLASS/**/*.jpg, .png, .mp4, …
  CLASS for real: real, 0_real, original, nature, authentic, genuine, pristine, …
  CLASS for fake: fake, 1_fake, ai, generated, synthetic, deepfake, manipulated, …""",
    source=(
        "erprogs/GenConViT@077e79b6dddb: dataset/loader.py; PeterWang512/CNNDetection in "
        "GenImage-Dataset/GenImage@746781bfa446: detector_codes/CNNDetection-master/README.md"
    ),
    read=read,
    options={
        "real": "names of further folders whose pictures are real, joined by commas",
        "fake": "names of further folders whose pictures are fake, joined by commas",
        "generator": "what made the fakes, where no folder says it",
    },
)
