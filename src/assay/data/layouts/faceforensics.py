"""FaceForensics++ with FaceShifter and DeepFakeDetection: clips, or the frames that were taken from them.

Sources:
    ondyari/FaceForensics@b952e41cba01: dataset/README.md (folders, file names), dataset/splits/*.json (the lists),
    dataset/extract_compressed_videos.py (`images/VIDEO/0000.png`);
    SCLBD/DeepfakeBench@8a4a7bf5e966: preprocessing/preprocess.py (`frames/VIDEO/000.png`), preprocessing/rearrange.py
    (how the lists are applied).

There are no class numbers here: what lies in `original_sequences` is real, what lies in `manipulated_sequences` is
fake, and the folder of the method is the generator. `033_097` is video 033 (target) with the face or expression of 097
(source), so its subject is "033+097"; DeepFakeDetection names `TARGET_SOURCE__SCENE__EXPERIMENT` by actor, and its
subjects are "actor-NN". Two methods manipulate the same pairs, so a clip's `video` is METHOD/COMPRESSION/NAME, as in
"Deepfakes/c23/033_097"; the group "original" is the name of the target's untouched clip.

*Release*: the split lists hold pairs of youtube numbers; a pair's two originals and its manipulations share its split,
and val is our "tune". DeepFakeDetection is in no list and has no split. *Ours*: the lists are read from the user's
copy, not kept here: a result is comparable only under the lists that were really used, and where they are missing that
is told (as something left out) and every split stays empty. `c0` and `raw` are one compression (README) and read "raw".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from assay.data.clips import Clip, clips, listing, load_json
from assay.data.layouts import Layout, LeftOut
from assay.errors import LayoutError, unknown
from assay.types import Label, Sample

METHODS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures", "FaceShifter", "DeepFakeDetection")
ACTORS_ONLY = "DeepFakeDetection"
COMPRESSIONS = {"raw": "raw", "c0": "raw", "c23": "c23", "c40": "c40"}
LISTS = {"train.json": "train", "val.json": "tune", "test.json": "test"}

_YOUTUBE = re.compile(r"(\d{3})(?:_(\d{3}))?")
_ACTORS = re.compile(r"(\d{2})(?:_(\d{2}))?__(.+)")


def who(name: str) -> tuple[str, str] | None:
    """Subject and original of a clip, from its name; None where the name is of no published form.

    "033_097" gives ("033+097", "033"), "01_02__walk__ABCDEFGH" gives ("actor-01+actor-02", "01__walk").
    """
    if match := _YOUTUBE.fullmatch(name):
        target, donor = match.groups()
        return "+".join(filter(None, (target, donor))), target
    if match := _ACTORS.fullmatch(name):
        target, donor, scene = match.groups()
        if donor is None:
            return f"actor-{target}", name
        return f"actor-{target}+actor-{donor}", f"{target}__{scene.rpartition('__')[0] or scene}"
    return None


def _choice(text: str, known: tuple[str, ...], what: str) -> tuple[str, ...]:
    chosen = tuple(part.strip() for part in text.split(",") if part.strip())
    for part in chosen:
        if part not in known:
            raise LayoutError(unknown(what, part, known), kind="unknown")
    return chosen


def _splits(root: Path, folder: str) -> dict[str, str]:
    """Split by youtube number; empty where no list is there."""
    places = [Path(folder)] if folder else [root, root / "splits", root / "dataset" / "splits"]
    place = next((p for p in places if any((p / name).is_file() for name in LISTS)), None)
    if place is None:
        if folder:
            raise LayoutError(f"{folder} holds none of {', '.join(LISTS)}; give the folder of the official split lists")
        return {}
    table: dict[str, str] = {}
    for name, split in LISTS.items():
        if not (place / name).is_file():
            raise LayoutError(f"{place} holds only some of the split lists: {name} is missing; copy all three there")
        pairs = load_json(place / name)
        if not isinstance(pairs, list) or not all(
            isinstance(pair, list) and len(pair) == 2 and all(isinstance(number, str) for number in pair)
            for pair in pairs
        ):
            raise LayoutError(f'{place / name} is not a list of pairs as in [["071", "054"], …]; use the official file')
        for number in (number for pair in pairs for number in pair):
            if table.setdefault(number, split) != split:
                raise LayoutError(f"{place}: video {number} is in the lists of two splits; use the official files")
    return table


def _split(name: str, table: dict[str, str]) -> str | None:
    """The split that all videos in a name share; None where they are in different ones."""
    splits = {table.get(number, "") for number in name.split("_")}
    return splits.pop() if len(splits) == 1 else None


def _sequences(root: Path, methods: tuple[str, ...]) -> Iterator[tuple[Path, str, str] | LeftOut]:
    """Each sequence's folder, its name, and its generator (empty for originals)."""
    wanted = methods or METHODS
    sources = {"youtube": any(method != ACTORS_ONLY for method in wanted), "actors": ACTORS_ONLY in wanted}
    for name in ("original_sequences", "manipulated_sequences"):
        for path in listing(root / name) if (root / name).is_dir() else []:
            original = name == "original_sequences"
            if path.name not in (sources if original else METHODS) or not path.is_dir():
                yield LeftOut(str(path), f"not a part of {name} as published")
            elif not (sources[path.name] if original else path.name in wanted):
                yield LeftOut(str(path), "of a method that was not asked for")
            else:
                yield path, path.name, "" if original else path.name


def read(
    root: Path, *, compression: str = "", methods: str = "", splits: str = "", form: str = ""
) -> Iterator[Sample | LeftOut]:
    """See the module; options as in `LAYOUT`."""
    levels = {COMPRESSIONS[level] for level in _choice(compression, tuple(COMPRESSIONS), "compression")}
    wanted = _choice(methods, METHODS, "method of FaceForensics++")
    if not any((root / name).is_dir() for name in ("original_sequences", "manipulated_sequences")):
        raise LAYOUT.mismatch(root, "neither original_sequences nor manipulated_sequences is there")
    for method in wanted:
        if not (root / "manipulated_sequences" / method).is_dir():
            raise LAYOUT.mismatch(root, f"manipulated_sequences/{method} was asked for and is not there")
    table = _splits(root, splits)
    if not table:
        yield LeftOut(
            str(root / "splits"),
            "the split lists (train.json, val.json, test.json) are not there, so every split is empty; copy them from "
            "dataset/splits of ondyari/FaceForensics",
        )
    for sequence in _sequences(root, wanted):
        if isinstance(sequence, LeftOut):
            yield sequence
            continue
        folder, name, generator = sequence
        for level in listing(folder):
            if level.name not in COMPRESSIONS or not level.is_dir():
                yield LeftOut(str(level), "not a compression (raw, c0, c23, c40)")
            elif levels and COMPRESSIONS[level.name] not in levels:
                yield LeftOut(str(level), "of a compression that was not asked for")
            else:
                for clip in clips(level, form):
                    yield clip if isinstance(clip, LeftOut) else _sample(clip, name, generator, level.name, table)


def _sample(clip: Clip, sequence: str, generator: str, level: str, table: dict[str, str]) -> Sample | LeftOut:
    actors = sequence in ("actors", ACTORS_ONLY)
    shown = who(clip.name)
    if shown is None or ("+" in shown[0]) != bool(generator) or shown[0].startswith("actor-") != actors:
        return LeftOut(str(clip.place), "its name is not of the published form")
    split = "" if actors else _split(clip.name, table)
    if split is None:
        return LeftOut(str(clip.place), "its two videos are in different splits")
    compression = COMPRESSIONS[level]
    return Sample(
        place=str(clip.place),
        label=Label.FAKE if generator else Label.REAL,
        generator=generator,
        source="DeepFakeDetection" if actors else "FaceForensics++",
        subject=shown[0],
        video=f"{sequence}/{compression}/{clip.name}",
        frame=clip.frame,
        split=split,
        groups={"compression": compression, "original": shown[1]},
    )


LAYOUT = Layout(
    name="faceforensics",
    summary="FaceForensics++ with FaceShifter and DeepFakeDetection, as clips or frames",
    shape="""ROOT/
    original_sequences/{youtube,actors}/{raw,c23,c40}/videos/*.mp4
    manipulated_sequences/{Deepfakes,Face2Face,FaceSwap,NeuralTextures,FaceShifter,DeepFakeDetection}/
        {raw,c23,c40}/videos/*.mp4
    splits/{train,val,test}.json       (or beside original_sequences)
Instead of videos/*.mp4: images/VIDEO/0000.png or frames/VIDEO/000.png""",
    source="ondyari/FaceForensics@b952e41cba01: dataset/README.md",
    read=read,
    options={
        "compression": "only these of raw, c23, c40 (joined by commas); default: all that are there",
        "methods": "only these manipulations (joined by commas) and the originals they were made from; default: all",
        "splits": "folder of the official train.json, val.json, test.json; default: ROOT, ROOT/splits",
        "form": "videos, images or frames, where several are there; default: the first of these",
    },
)
