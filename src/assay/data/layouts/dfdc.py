"""The Deepfake Detection Challenge (DFDC): parts with a metadata.json, and a test set with a labels.csv.

Sources:
    selimsef/dfdc_deepfake_challenge@89c6290490ba: preprocessing/utils.py and generate_folds.py (metadata.json with
    "label" and "original"; a fake and its original lie in one part);
    SCLBD/DeepfakeBench@8a4a7bf5e966: preprocessing/rearrange.py (train/dfdc_train_part_N/metadata.json,
    test/labels.csv with the columns filename and label, `frames/VIDEO/000.png`).

Labels are words in metadata.json, "FAKE" and "REAL". In labels.csv they are numbers, **1 = fake** (rearrange.py takes
its label from ["DFDC_Real", "DFDC_Fake"][label]), as ours. Other forms of the test set's labels were not confirmed and
are not read.

All fakes of one clip must stay in one split. DFDC does not name its actors, so the original clip stands in for who is
shown: a fake's subject and its group "original" are the name of the clip it was made from, a real's are its own. One
actor appears in several originals: subjects keep clips together, they do not keep people apart. The methods are not
told apart either: every fake's generator is "DFDC". The group "part" is the folder. The metadata's "split" is kept
("validation" is our "tune"; it says "train" throughout as published); what labels.csv names is "test".
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from assay.data.clips import clips, listing, load_json
from assay.data.layouts import Layout, LeftOut
from assay.errors import LayoutError
from assay.types import Label, Sample

LABELS = {"REAL": Label.REAL, "FAKE": Label.FAKE}
SPLITS = {"train": "train", "validation": "tune", "valid": "tune", "val": "tune", "test": "test"}


class _Entry(NamedTuple):
    label: Label
    split: str
    original: str


def _parts(root: Path) -> list[Path]:
    """Folders with a list of labels: `root`, those in it, and those in these."""
    near = [folder for folder in listing(root) if folder.is_dir()] if root.is_dir() else []
    folders = [root, *near, *(folder for above in near for folder in listing(above) if folder.is_dir())]
    return [folder for folder in folders if any((folder / name).is_file() for name in ("metadata.json", "labels.csv"))]


def _metadata(path: Path) -> dict[str, _Entry]:
    found = load_json(path)
    if not isinstance(found, dict) or not all(isinstance(entry, dict) for entry in found.values()):
        raise LayoutError(
            f'{path} is not of the form {{"name.mp4": {{"label": "FAKE", …}}, …}}; use the published file'
        )
    entries = {}
    for name, entry in found.items():
        label, split, original = entry.get("label"), entry.get("split", "train"), entry.get("original") or ""
        if not isinstance(label, str) or label not in LABELS:
            raise LayoutError(f'{path}: {name} has the label {label!r}; expected "REAL" or "FAKE"')
        if not isinstance(split, str) or split not in SPLITS:
            raise LayoutError(f"{path}: {name} is in the split {split!r}; expected one of {', '.join(SPLITS)}")
        if not isinstance(original, str) or (original and label == "REAL"):
            raise LayoutError(f"{path}: {name} is {label} and has the original {original!r}; only fakes have one")
        entries[Path(name).stem] = _Entry(LABELS[label], SPLITS[split], Path(original).stem if original else "")
    return entries


def _labels(path: Path) -> dict[str, _Entry]:
    entries = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            if not {"filename", "label"} <= set(rows.fieldnames or ()):
                raise LayoutError(
                    f"{path} has the columns {', '.join(rows.fieldnames or ()) or '(none)'}; expected filename and "
                    "label, with label 1 = fake, 0 = real"
                )
            for row in rows:
                if row["label"] not in ("0", "1") or not row["filename"]:
                    raise LayoutError(
                        f"{path} line {rows.line_num}: {row['filename']!r} has the label {row['label']!r}; expected 1 "
                        "(fake) or 0 (real)"
                    )
                entries[Path(row["filename"]).stem] = _Entry(Label(int(row["label"])), "test", "")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LayoutError(f"{path} cannot be read as CSV ({error}); fetch it again") from error
    return entries


def read(root: Path, *, form: str = "") -> Iterator[Sample | LeftOut]:
    """See the module; options as in `LAYOUT`."""
    parts = _parts(root)
    if not parts:
        raise LAYOUT.mismatch(root, "there is no metadata.json and no labels.csv in it, nor one or two folders below")
    known: dict[str, _Entry] = {}
    for part in parts:
        both = [name for name in ("metadata.json", "labels.csv") if (part / name).is_file()]
        if len(both) > 1:
            raise LAYOUT.mismatch(
                part, "it has a metadata.json and a labels.csv; keep the one that belongs to its clips"
            )
        entries = _metadata(part / both[0]) if both[0] == "metadata.json" else _labels(part / both[0])
        first: dict[str, _Entry] = {}
        for name, entry in entries.items():
            if name in known and known[name].label is not entry.label:
                raise LayoutError(
                    f"{part / both[0]}: {name} is {entry.label.name.lower()} here and "
                    f"{known[name].label.name.lower()} in another part; fetch both lists again"
                )
            if name not in known:
                known[name] = first[name] = entry
        holding = {folder for other in parts if other != part for folder in (other, *other.parents)}
        for item in _samples(part, both[0], entries, first, form):
            # A folder of further parts is no clip of this one: it is read in its turn.
            if isinstance(item, Sample) or Path(item.place) not in holding:
                yield item


def _samples(
    part: Path, source: str, entries: dict[str, _Entry], first: dict[str, _Entry], form: str
) -> Iterator[Sample | LeftOut]:
    unseen = set(entries)
    for clip in clips(part, form, beside=(source,)):
        if isinstance(clip, LeftOut):
            yield clip
            continue
        if clip.name not in entries:
            yield LeftOut(str(clip.place), f"no entry in {source}")
            continue
        unseen.discard(clip.name)
        if clip.name not in first:
            yield LeftOut(str(clip.place), "the same clip is in another part")
            continue
        entry = first[clip.name]
        original = entry.original or (clip.name if entry.label is Label.REAL else "")
        yield Sample(
            place=str(clip.place),
            label=entry.label,
            generator="DFDC" if entry.label is Label.FAKE else "",
            source="DFDC",
            subject=original,
            video=clip.name,
            frame=clip.frame,
            split=entry.split,
            groups={"original": original, "part": part.name},
        )
    for name in sorted(unseen):
        yield LeftOut(f"{part / source}: {name}", f"in {source}, but not there")


LAYOUT = Layout(
    name="dfdc",
    summary="Deepfake Detection Challenge, parts with metadata.json and test set with labels.csv",
    shape="""ROOT/
    metadata.json                      ({"a.mp4": {"label": "FAKE", "split": "train", "original": "b.mp4"}, …})
    a.mp4
or ROOT/dfdc_train_part_N/ or ROOT/train/dfdc_train_part_N/ of that shape, and
ROOT/test/
    labels.csv                         (filename,label; 1 = fake)
    c.mp4
Instead of the clips: videos/*.mp4, or frames/VIDEO/000.png""",
    source="SCLBD/DeepfakeBench@8a4a7bf5e966: preprocessing/rearrange.py",
    read=read,
    options={"form": "videos, images or frames, where several are there; default: the first of these"},
)
