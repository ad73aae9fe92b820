"""DeepfakeBench's lists: one JSON file a data set, that names every frame of every clip.

Sources: SCLBD/DeepfakeBench@8a4a7bf5e966: preprocessing/rearrange.py (how the lists are written),
training/dataset/abstract_dataset.py (how they are read), training/config/train_config.yaml and
training/config/detector/lsda.yaml (`label_dict`, which label names are real and fake).

A list is {DATA SET: {LABEL NAME: {SPLIT: {[COMPRESSION:] {VIDEO: {"label": LABEL NAME, "frames": […]}}}}}}; the level
of compressions is there for FaceForensics++ and its parts. Labels are names, and a clip's own "label" decides, as in
the official loader; a clip filed under a name of the other polarity is an error. *Release*: the names in `label_dict`.
*Ours*: names outside it are understood where they are "real" or "fake", or end in "_real" or "_fake" in any case (lists
that others wrote to this form, such as DF40's, keep to that); any other name is refused until `real=`, `fake=` or
`unlabelled=` says what it is.

The data set is the source, the method the generator (FF-DF is Deepfakes, and so on). `video` is
LABEL NAME/[COMPRESSION/]VIDEO, since a clip's name alone is shared by the methods. Subjects and the group "original"
come from the names of FaceForensics++ and Celeb-DF clips, and stay empty where the list cannot tell who is shown.

**The lists repeat clips across splits**, and val is mostly test again: Celeb-DF lists its test clips in train too;
UADFV, DeepFakeDetection and DeeperForensics' reals list everything in all three. *Ours*: a clip is given once, in the
strictest of its splits (test, then val as our "tune", then train), and each further mention is left out with that
reason. So nothing that is listed for testing is trained on; figures of the official loader on these sets are of another
split.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from assay.data.clips import frame_number, load_json
from assay.data.layouts import Layout, LeftOut, celebdf, faceforensics
from assay.errors import LayoutError, unknown
from assay.types import Label, Sample

GENERATORS = {
    "DFD_fake": "DeepFakeDetection",
    "FF-SH": "FaceShifter",
    "FF-FH": "FaceShifter",
    "FaceShifter": "FaceShifter",
    "FF-F2F": "Face2Face",
    "FF-DF": "Deepfakes",
    "FF-FS": "FaceSwap",
    "FF-NT": "NeuralTextures",
    "CelebDFv1_fake": "Celeb-DF",
    "CelebDFv2_fake": "Celeb-DF",
    "DFDCP_FakeA": "DFDCP method A",
    "DFDCP_FakeB": "DFDCP method B",
    "DFDC_Fake": "DFDC",
    "DF_fake": "DeeperForensics",
    "UADFV_Fake": "UADFV",
    "roop_Fake": "roop",
    "1_fake": "",
}
"""Fakes of `label_dict`, and what made them; empty where only the data set's name tells."""

REALS = frozenset(
    {"DFD_real", "FF-real", "CelebDFv1_real", "CelebDFv2_real", "DFDCP_Real", "DFDC_Real", "DF_real", "UADFV_Real"}
    | {"roop_Real", "0_real"}
)
SPLITS = {"train": "train", "val": "tune", "test": "test"}
_ENDING = re.compile(r"(?:.*_)?(real|fake)", re.IGNORECASE)
STRICTNESS = ("train", "tune", "test")


class _Clip(NamedTuple):
    """One mention of a clip: `group` is the label name it is filed under, `label` the one it carries."""

    dataset: str
    group: str
    split: str
    compression: str
    name: str
    label: str
    frames: list[str]
    where: str


class _Names:
    """What each label name means."""

    def __init__(self, real: str, fake: str, unlabelled: str) -> None:
        self.said: dict[str, Label | None] = {}
        options: tuple[tuple[str, Label | None], ...] = ((real, Label.REAL), (fake, Label.FAKE), (unlabelled, None))
        for text, label in options:
            for name in (part.strip() for part in text.split(",")):
                if name and self.said.setdefault(name, label) is not label:
                    raise LayoutError(f"the label name {name!r} is given two meanings; name it in one option only")

    def knows(self, name: str) -> bool:
        return name in self.said or name in REALS or name in GENERATORS or bool(_ENDING.fullmatch(name))

    def meaning(self, name: str) -> Label | None:
        """The label of a name that is known."""
        if name in self.said:
            return self.said[name]
        if name in REALS:
            return Label.REAL
        ending = _ENDING.fullmatch(name)
        return Label.REAL if ending and ending[1].lower() == "real" else Label.FAKE


def _lists(root: Path, dataset: str) -> list[Path]:
    if root.is_file():
        return [root]
    there = {path.name.removesuffix(".json"): path for path in sorted(root.glob("*.json"))}
    wanted = [part.strip() for part in dataset.split(",") if part.strip()]
    for name in wanted:
        if name not in there:
            raise LayoutError(unknown("list of DeepfakeBench", name, there), kind="unknown")
    if not there:
        raise LAYOUT.mismatch(root, "there is no JSON file in it")
    if not wanted and len(there) > 1:
        raise LayoutError(
            f"{root} holds the lists of {', '.join(there)}, and several of them name the same clips; choose with "
            "dataset=A,B or give the path of one"
        )
    return [there[name] for name in wanted] or [*there.values()]


def _clips(path: Path) -> Iterator[_Clip | LeftOut]:
    """Every mention of a clip in one list, in the list's order."""
    found = load_json(path)
    if not isinstance(found, dict) or not found:
        raise LAYOUT.mismatch(path, "it is not an object of data sets")
    for dataset, groups in found.items():
        if not isinstance(groups, dict) or not all(isinstance(group, dict) for group in groups.values()):
            raise LAYOUT.mismatch(path, f"{dataset!r} does not hold label names with their splits")
        for group, splits in groups.items():
            for split, held in splits.items():
                where = f"{path}: {dataset}/{group}/{split}"
                if split not in SPLITS or not isinstance(held, dict):
                    raise LAYOUT.mismatch(path, f"{where} is not one of the splits {', '.join(SPLITS)}")
                for name, value in held.items():
                    inner = name in faceforensics.COMPRESSIONS and isinstance(value, dict) and "frames" not in value
                    level = faceforensics.COMPRESSIONS[name] if inner else ""
                    for clip, entry in value.items() if inner else ((name, value),):
                        spot = f"{where}/{name}/{clip}" if inner else f"{where}/{name}"
                        if not _is_clip(entry):
                            # rearrange.py writes one bare clip over the val split of DFDC.
                            yield LeftOut(spot, "not a clip with a label and frames")
                        else:
                            yield _Clip(
                                dataset, group, SPLITS[split], level, clip, entry["label"], entry["frames"], spot
                            )


def _is_clip(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("label"), str)
        and isinstance(entry.get("frames"), list)
        and all(isinstance(frame, str) for frame in entry["frames"])
    )


def _slashes(path: str) -> str:
    # The released lists were written on Windows.
    return path.replace("\\", "/")


def _keys(clip: _Clip) -> list[tuple[str, ...]]:
    """What a clip is recognised by: its name within its label, and its first frame in whichever data set."""
    named = (clip.dataset, clip.label, clip.compression, clip.name)
    return [named, (min(map(_slashes, clip.frames)),)] if clip.frames else [named]


def read(
    place: Path,
    /,
    *,
    root: str = "",
    prefix: str = "",
    dataset: str = "",
    compression: str = "",
    real: str = "",
    fake: str = "",
    unlabelled: str = "",
) -> Iterator[Sample | LeftOut]:
    """See the module; options as in `LAYOUT`."""
    names = _Names(real, fake, unlabelled)
    levels = {part.strip() for part in compression.split(",") if part.strip()}
    for level in levels - set(faceforensics.COMPRESSIONS):
        raise LayoutError(unknown("compression", level, faceforensics.COMPRESSIONS), kind="unknown")
    levels = {faceforensics.COMPRESSIONS[level] for level in levels}

    clips: list[_Clip] = []
    strictest: dict[tuple[str, ...], int] = {}
    meanings: dict[tuple[str, ...], Label] = {}
    for path in _lists(place, dataset):
        for clip in _clips(path):
            if isinstance(clip, LeftOut):
                yield clip
                continue
            label = _label(clip, names)
            for key in _keys(clip):
                if label is not None and meanings.setdefault(key, label) is not label:
                    raise LayoutError(f"{clip.where} is real in one place of the lists and fake in another; choose one")
                strictest[key] = max(strictest.get(key, 0), STRICTNESS.index(clip.split))
            clips.append(clip)

    folder = Path(root) if root else (place if place.is_dir() else place.parent)
    there = functools.lru_cache(maxsize=64)(_names_in)
    given: set[tuple[str, ...]] = set()
    for clip in clips:
        keys = _keys(clip)
        split = STRICTNESS[max(strictest[key] for key in keys)]
        if levels and clip.compression and clip.compression not in levels:
            yield LeftOut(clip.where, "of a compression that was not asked for")
        elif not clip.frames:
            yield LeftOut(clip.where, "a clip without frames")
        elif split != clip.split:
            yield LeftOut(clip.where, f"listed for {split} as well, which is the stricter split")
        elif any(key in given for key in keys):
            yield LeftOut(clip.where, "listed twice")
        else:
            given.update(keys)
            label = names.meaning(clip.label)
            for frame, number in _frames(clip, folder, prefix, bool(root)):
                if frame.name in there(str(frame.parent)):
                    yield _sample(clip, frame, number, label)
                else:
                    yield LeftOut(
                        str(frame),
                        "listed, but not there; say where the frames are with root=FOLDER, and what to cut from the "
                        "front of the listed paths with prefix=TEXT",
                    )


def _label(clip: _Clip, names: _Names) -> Label | None:
    if not names.knows(clip.label):
        raise LayoutError(
            f"{clip.where}: the label name {clip.label!r} is not one of DeepfakeBench's; say what it is with "
            f"real={clip.label}, fake={clip.label} or unlabelled={clip.label}"
        )
    label = names.meaning(clip.label)
    # A group may have any name; only where it is known to be of the other polarity is something wrong.
    filed = names.meaning(clip.group) if names.knows(clip.group) else label
    if label is not None and filed is not None and filed is not label:
        raise LayoutError(
            f"{clip.where} has the label {clip.label!r} and is filed under {clip.group!r}, of the other polarity; "
            "write the list again"
        )
    return label


def _names_in(folder: str) -> frozenset[str]:
    try:
        return frozenset(path.name for path in Path(folder).iterdir())
    except OSError:
        return frozenset()


def _frames(clip: _Clip, folder: Path, prefix: str, moved: bool) -> Iterator[tuple[Path, int | None]]:
    """Place and number of each frame, by number."""
    listed = []
    for text in clip.frames:
        path = _slashes(text)
        if prefix and not path.startswith(_slashes(prefix)):
            raise LayoutError(f"{clip.where}: {text!r} does not begin with {prefix!r}; correct the option prefix")
        path = path.removeprefix(_slashes(prefix)).removeprefix("./")
        absolute = path.startswith("/") or bool(re.match(r"[A-Za-z]:/", path))
        if absolute and moved and not prefix:
            raise LayoutError(
                f"{clip.where}: {text!r} is a path from the root of some machine; say with prefix=TEXT what to cut "
                "from its front before the rest is looked for in the folder of the option root"
            )
        place = Path(path) if absolute and not prefix else folder / path.lstrip("/")
        number = frame_number(PurePosixPath(path).stem)
        listed.append((-1 if number is None else number, place))
    for number, place in sorted(listed):
        yield place, None if number < 0 else number


def _sample(clip: _Clip, place: Path, number: int | None, label: Label | None) -> Sample:
    groups = {"compression": clip.compression} if clip.compression else {}
    subject = ""
    if clip.label.startswith("CelebDF") and (celeb := celebdf.who(clip.name)):
        _, subject, groups["original"] = celeb
    elif clip.label.startswith(("FF-", "DFD_", "FaceShifter")) and (shown := faceforensics.who(clip.name)):
        subject, groups["original"] = shown
    return Sample(
        place=str(place),
        label=label,
        generator=_generator(clip) if label is Label.FAKE else "",
        source=clip.dataset,
        subject=subject,
        video="/".join(filter(None, (clip.label, clip.compression, clip.name))),
        frame=number,
        split=clip.split,
        groups=groups,
    )


def _generator(clip: _Clip) -> str:
    known = GENERATORS.get(clip.label)
    return (re.sub(r"(?i)_?fake$", "", clip.label) if known is None else known) or clip.dataset


LAYOUT = Layout(
    name="deepfakebench",
    summary="the JSON lists of DeepfakeBench (and of what keeps to their form), with the frames they name",
    shape="""ROOT is a list, or a folder of lists (then choose with dataset=NAME):
    {"FF-DF": {"FF-real": {"train": {"c23": {"033": {"label": "FF-real", "frames": ["…/033/000.png", …]}}},
                           "val": …, "test": …},
               "FF-DF": …}}
The level "c23" is there for FaceForensics++ only.""",
    source="SCLBD/DeepfakeBench@8a4a7bf5e966: preprocessing/rearrange.py",
    read=read,
    options={
        "root": "folder that the listed paths are relative to; default: the folder of the list",
        "prefix": "what to cut from the front of every listed path, where it was written on another machine",
        "dataset": "which lists of a folder (names without .json, joined by commas)",
        "compression": "only these of raw, c23, c40 (joined by commas); default: all that are listed",
        "real": "label names (joined by commas) that mean real",
        "fake": "label names (joined by commas) that mean fake",
        "unlabelled": "label names (joined by commas) of clips whose label is not known",
    },
)
