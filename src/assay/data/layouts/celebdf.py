"""Celeb-DF, versions 1 and 2: clips, or the frames that were taken from them.

Sources:
    yuezunli/celeb-deepfakeforensics@713a4419fdd5: README.md and Celeb-DF-v1/README.md (folders and test list);
    SCLBD/DeepfakeBench@8a4a7bf5e966: preprocessing/preprocess.py and rearrange.py (`Celeb-real/frames/VIDEO/000.png`,
    and `Celeb-real/videos/*.mp4`). GenConViT (erprogs/GenConViT@077e79b6dddb: prediction.py) reads the clips where they
    were published and leaves no frames.

**Polarity: in List_of_testing_videos.txt 1 = real and 0 = fake**, the opposite of ours. The folder alone decides the
label here; each line of the list is checked against its folder, and a line that contradicts it is an error, since a
list of the other polarity means that somebody rewrote it.

`id0_0003` in Celeb-real is celebrity "id0". `id0_id1_0003` in Celeb-synthesis is the clip id0_0003 with the face of id1
(the data set's author: the first is the original's identity, the second the one swapped in), so its subject is
"id0+id1", target first, and the group "original" of both is "id0_0003". The people of YouTube-real are not named: each
clip is its own subject, "youtube-00003". The one synthesis method of the data set is the generator "Celeb-DF". The
folder is kept as the group "part".

*Release*: what the list names is the test set, the rest is for training, and people of the test clips are in training
clips too. *Ours*: option `tune=FRACTION` holds out whole people for "tune", chosen by a hash of the subject, so that
the choice is the same everywhere; a synthesis of one who is held out and one who is not would leak a face, and is left
out. Those people are still in test clips, as all of the training set's are.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from assay.data.clips import clips, listing
from assay.data.layouts import Layout, LeftOut
from assay.errors import LayoutError
from assay.types import Label, Sample

FOLDERS = {"Celeb-real": Label.REAL, "YouTube-real": Label.REAL, "Celeb-synthesis": Label.FAKE}
LIST = "List_of_testing_videos.txt"

_NAMES = {
    "Celeb-real": re.compile(r"(?P<target>id\d+)_(?P<clip>\d+)"),
    "YouTube-real": re.compile(r"(?P<clip>\d+)"),
    "Celeb-synthesis": re.compile(r"(?P<target>id\d+)_(?P<donor>id\d+)_(?P<clip>\d+)"),
}


def who(name: str) -> tuple[str, str, str] | None:
    """Folder, subject and original of a clip, from its name; None where the name is of no published form.

    "id0_id1_0003" gives ("Celeb-synthesis", "id0+id1", "id0_0003").
    """
    for folder, pattern in _NAMES.items():
        if match := pattern.fullmatch(name):
            found = match.groupdict()
            if folder == "YouTube-real":
                return folder, f"youtube-{name}", name
            subject = "+".join(found[key] for key in ("target", "donor") if key in found)
            return folder, subject, f"{found['target']}_{found['clip']}"
    return None


def _folders(root: Path) -> dict[str, Path]:
    """Published name to folder; the case of a name is not looked at, since copies differ in it."""
    there = {path.name.lower(): path for path in listing(root) if path.is_dir()} if root.is_dir() else {}
    missing = [name for name in FOLDERS if name.lower() not in there]
    if missing:
        raise LAYOUT.mismatch(root, f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing")
    return {name: there[name.lower()] for name in FOLDERS}


def _listed(path: Path) -> dict[tuple[str, str], str]:
    """Folder and clip of each test video, with its line. Raises LayoutError where a line contradicts its folder."""
    names = {name.lower(): name for name in FOLDERS}
    listed: dict[tuple[str, str], str] = {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise LayoutError(f"{path} cannot be read ({error}); fetch the published list again") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        word, _, place = line.strip().partition(" ")
        folder, _, clip = place.strip().partition("/")
        if word not in ("0", "1") or folder.lower() not in names or not clip:
            raise LayoutError(f'{path} line {number}: {line.strip()!r} is not of the form "1 Celeb-real/id0_0000.mp4"')
        name = names[folder.lower()]
        # The one place where this list's polarity (1 = real) meets ours (1 = fake).
        said = Label.REAL if word == "1" else Label.FAKE
        if said is not FOLDERS[name]:
            raise LayoutError(
                f"{path} line {number}: {line.strip()!r} says {said.name.lower()} (in this list 1 = real, 0 = fake), "
                f"but {name} holds {FOLDERS[name].name.lower()} clips; restore the published list"
            )
        listed[name, Path(clip).stem] = line.strip()
    return listed


def _fraction(text: str) -> float:
    try:
        value = float(text or 0)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise LayoutError(f"tune={text}: give the share of people to hold out, from 0 to below 1, as in tune=0.1")
    return value


def _held(subject: str, fraction: float) -> bool:
    return int(hashlib.sha256(f"celebdf {subject}".encode()).hexdigest()[:12], 16) < fraction * 16**12


def read(root: Path, *, testing: str = "", tune: str = "", form: str = "") -> Iterator[Sample | LeftOut]:
    """See the module; options as in `LAYOUT`."""
    fraction = _fraction(tune)
    folders = _folders(root)
    path = Path(testing) if testing else root / LIST
    if not path.is_file():
        raise LAYOUT.mismatch(
            root,
            f"{path} is missing, and without it test clips would be trained on; it comes with the data set "
            "(say where it is with the option testing)",
        )
    listed = _listed(path)
    unseen = dict(listed)
    for folder, place in folders.items():
        for clip in clips(place, form):
            if isinstance(clip, LeftOut):
                yield clip
                continue
            shown = who(clip.name)
            if shown is None or shown[0] != folder:
                yield LeftOut(str(clip.place), "its name is not of the form that this folder's clips have")
                continue
            _, subject, original = shown
            held = {_held(person, fraction) for person in subject.split("+")}
            test = (folder, clip.name) in listed
            unseen.pop((folder, clip.name), None)
            if len(held) > 1 and not test:
                yield LeftOut(str(clip.place), "a swap between a person held out for tuning and one who is not")
                continue
            yield Sample(
                place=str(clip.place),
                label=FOLDERS[folder],
                generator="Celeb-DF" if FOLDERS[folder] is Label.FAKE else "",
                source="Celeb-DF",
                subject=subject,
                video=clip.name,
                frame=clip.frame,
                split="test" if test else "tune" if held == {True} else "train",
                groups={"part": folder, "original": original},
            )
    for line in unseen.values():
        yield LeftOut(f"{path}: {line}", "listed for testing, but not there")


LAYOUT = Layout(
    name="celebdf",
    summary="Celeb-DF v1 or v2, as clips or frames, with its official test list (1 = real there)",
    shape="""ROOT/
    Celeb-real/id0_0000.mp4
    YouTube-real/00000.mp4
    Celeb-synthesis/id0_id1_0000.mp4
    List_of_testing_videos.txt         (lines such as "1 Celeb-real/id0_0000.mp4"; 1 = real)
Instead of the clips in each folder: videos/*.mp4, or frames/VIDEO/000.png""",
    source="yuezunli/celeb-deepfakeforensics@713a4419fdd5: README.md",
    read=read,
    options={
        "testing": "the published List_of_testing_videos.txt, where it is not in ROOT",
        "tune": "share of people (0 to below 1) whose training clips become the split tune; default: none",
        "form": "videos, images or frames, where several are there; default: the first of these",
    },
)
