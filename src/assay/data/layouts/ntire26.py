"""NTIRE 2026 Robust Deepfake Detection Challenge: folders of pictures, the training one with its labels in the names.

Sources, all by participants (the organisers' report, arXiv 2604.24163, describes the data but no files):
    khoalephanminh/ntire26-deepfake-challenge@364d5a37fcfd (fourth place, arXiv 2604.25889):
    preprocessing/build_ntire_train_json.py, build_ntire_test_json.py, build_ntire_label.py, and its dataset_json/;
    rinamishra/CVPR_Deepfake_Detection_2026@09fc7bd79dfe: ntire_dataset.py (names without an underscore).

Certain (the release's lists name every file): `training_data_final` holds 1,000 pictures, 500 `NNNN_real.png` and 500
`NNNN_fake.png`; `publictest_data_final` holds 1,000 pictures `NNNN.png` without labels; submissions are P(fake), one a
line, by file name. Also from the release: its truth for the public test is a text file with one 0 (real) or 1 (fake) a
line, where line i, counted from 0, is the picture with the number i; and pictures whose names hold "_face" are crops
that its own preprocessing wrote beside the originals, which are left out here.

Inferred: `validation_data_final` and `privatetest_data_final` have the shape of the public test (several participants'
scripts name them); `{train,val,test}/{real,fake}/` and label files with names (CSV, JSON) are what users make of such
data. Numbers in label files are **1 = fake** as in the scores; `polarity=real` says that 1 = real. Words need no
polarity. A label file that contradicts a picture's own name or folder is an error.

*Ours*: training folders are the split "train", validation "tune", both tests "test". What made a fake and whom a
picture shows was not published: generator and subject stay empty. The folder is the group "part".
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from assay.data.clips import listing, load_json
from assay.data.layouts import PICTURES, Layout, LeftOut
from assay.errors import LayoutError
from assay.types import Label, Sample

WORDS = {"real": Label.REAL, "fake": Label.FAKE}
SPLITS = {"train": "train", "val": "tune", "publictest": "test", "privatetest": "test", "test": "test"}
LABEL_FILES = ("labels.csv", "labels.txt", "labels.json")
NAME_COLUMNS = ("name", "filename", "file", "image", "image_name", "path")
LABEL_COLUMNS = ("label", "target")

_PART = re.compile(
    r"(train|val|publictest|privatetest|test)(?:ing|idation|id)?(?:[_-](?:data|set))?(?:_final)?", re.IGNORECASE
)
_NAMED = re.compile(r"(?:.*[_-]|\d+)(real|fake)", re.IGNORECASE)


class _Picture(NamedTuple):
    path: Path
    part: Path
    split: str
    said: Label | None
    """Label of the picture's own name or class folder."""


class _Labels:
    """A label file: labels by name, or by the number of the line."""

    def __init__(self, path: Path, ones: Label) -> None:
        self.path = path
        self.ones = ones
        self.names: dict[str, Label] = {}
        self.lines: list[Label] = []
        self.seen: set[str] = set()
        if path.suffix.lower() == ".json":
            self._read_json()
        else:
            self._read_text()

    def _label(self, value: object, where: str) -> Label:
        text = str(value).strip().lower()
        if text in WORDS:
            return WORDS[text]
        if text in ("0", "1"):
            # The one place where a file's polarity meets ours.
            return self.ones if text == "1" else Label(1 - self.ones)
        raise LayoutError(f"{self.path} {where}: the label {value!r} is none of 0, 1, real, fake; correct the file")

    def _add(self, name: str, value: object, where: str) -> None:
        label = self._label(value, where)
        if self.names.setdefault(_key(name), label) is not label:
            raise LayoutError(f"{self.path} {where}: {name} is named twice, as real and as fake; correct the file")

    def _read_json(self) -> None:
        found = load_json(self.path)
        if not isinstance(found, dict) or not all(isinstance(value, int | str) for value in found.values()):
            raise LayoutError(f'{self.path} is not of the form {{"0000.png": 1, …}}')
        for name, value in found.items():
            self._add(name, int(value) if isinstance(value, bool) else value, name)

    def _read_text(self) -> None:
        try:
            text = self.path.read_text(encoding="utf-8-sig")
        except (OSError, ValueError) as error:
            raise LayoutError(f"{self.path} cannot be read as text ({error}); give a CSV, TXT or JSON file") from error
        rows = [(number, _cells(line)) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
        if not rows:
            raise LayoutError(f"{self.path} is empty; it should hold a label for each picture")
        if all(len(cells) == 1 for _, cells in rows):
            self.lines = [self._label(cells[0], f"line {number}") for number, cells in rows]
            return
        name, label = 0, 1
        header = [cell.lower() for cell in rows[0][1]]
        if set(header) & {*NAME_COLUMNS, *LABEL_COLUMNS}:
            try:
                name = next(header.index(column) for column in NAME_COLUMNS if column in header)
                label = next(header.index(column) for column in LABEL_COLUMNS if column in header)
            except StopIteration:
                raise LayoutError(
                    f"{self.path} has the columns {', '.join(rows[0][1])}; expected one of "
                    f"{', '.join(NAME_COLUMNS)} and one of {', '.join(LABEL_COLUMNS)}"
                ) from None
            rows = rows[1:]
        for number, cells in rows:
            if len(cells) <= max(name, label):
                raise LayoutError(f"{self.path} line {number}: a name or a label is missing")
            self._add(cells[name], cells[label], f"line {number}")

    def of(self, picture: _Picture) -> Label | None:
        """The label of a picture; None where the file has none for it."""
        if self.lines:
            number = int(picture.path.stem) if re.fullmatch(r"[0-9]{1,12}", picture.path.stem) else len(self.lines)
            return self.lines[number] if number < len(self.lines) else None
        path = _key(picture.path.as_posix())
        parts = path.split("/")
        # A name may be given with any number of the folders above it.
        for start in range(len(parts)):
            tail = "/".join(parts[start:])
            if tail in self.names:
                self.seen.add(tail)
                return self.names[tail]
        return None


def _cells(line: str) -> list[str]:
    cells = next(csv.reader([line])) if "," in line else line.split("\t") if "\t" in line else line.rsplit(None, 1)
    return [cell.strip() for cell in cells]


def _key(name: str) -> str:
    name = name.replace("\\", "/").removeprefix("./")
    suffix = Path(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in PICTURES else name


def _split(folder: Path) -> str | None:
    match = _PART.fullmatch(folder.name)
    return SPLITS[match[1].lower()] if match else None


def _parts(root: Path) -> list[tuple[Path, str]]:
    """Folders of one split each, with the split: below `root`, one folder further down, or `root` itself."""
    near = [folder for folder in listing(root) if folder.is_dir()]
    for folders in (near, [folder for above in near for folder in listing(above) if folder.is_dir()]):
        found = [(folder, split) for folder in folders if (split := _split(folder)) is not None]
        if found:
            return found
    return [(root, _split(root.resolve()) or "")]


def _pictures(part: Path, split: str) -> Iterator[_Picture | LeftOut]:
    classes = [path for path in listing(part) if path.is_dir() and path.name.lower() in WORDS]
    for folder in [part, *classes]:
        said = None if folder == part else WORDS[folder.name.lower()]
        for path in listing(folder):
            if path in classes:
                continue
            if not path.is_file() or path.suffix.lower() not in PICTURES:
                if path.name not in LABEL_FILES:
                    yield LeftOut(str(path), "not a picture")
            elif "_face" in path.stem:
                yield LeftOut(str(path), "a face crop that a participant's preprocessing wrote")
            else:
                match = _NAMED.fullmatch(path.stem)
                name = WORDS[match[1].lower()] if match else None
                if said is not None and name is not None and said is not name:
                    raise LayoutError(f"{path} is named {name.name.lower()} and lies in {folder.name}; put it right")
                yield _Picture(path, part, split, name if said is None else said)


def read(root: Path, *, labels: str = "", polarity: str = "fake") -> Iterator[Sample | LeftOut]:
    """See the module; options as in `LAYOUT`."""
    if polarity not in WORDS:
        raise LayoutError(f"polarity={polarity}: say which of real and fake is 1 in the label file")
    if not root.is_dir():
        raise LAYOUT.mismatch(root, "it is not a folder")
    parts = _parts(root)
    if not parts[0][1] and not labels and not any((root / name).is_file() for name in LABEL_FILES):
        labelled = any(isinstance(item, _Picture) and item.said is not None for item in _pictures(*parts[0]))
        if not labelled:
            raise LAYOUT.mismatch(
                root, "no training, validation or test folder is there, no real or fake in any name, and no label file"
            )
    given = _Labels(Path(labels), WORDS[polarity]) if labels else None
    if given:
        _check_fits(given, parts)
    for part, split in parts:
        own = next((part / name for name in LABEL_FILES if (part / name).is_file()), None)
        table = given or (_Labels(own, WORDS[polarity]) if own else None)
        for item in _pictures(part, split):
            yield item if isinstance(item, LeftOut) else _sample(item, table)
        if table and table is not given:
            yield from _unused(table)
    if given:
        yield from _unused(given)


def _check_fits(table: _Labels, parts: list[tuple[Path, str]]) -> None:
    """Raises LayoutError where one label would go to pictures of several folders."""
    pictures = [item for part in parts for item in _pictures(*part) if isinstance(item, _Picture) and item.said is None]
    folders = sorted({str(picture.part) for picture in pictures})
    if len(folders) < 2:
        return
    counts = Counter(_key(picture.path.name) for picture in pictures)
    if table.lines or any(counts[name] > 1 for name in table.names):
        raise LayoutError(
            f"{table.path} does not say which of {', '.join(folders)} its labels are for; give the path of that folder "
            "instead of the folder above"
        )


def _sample(picture: _Picture, table: _Labels | None) -> Sample | LeftOut:
    listed = table.of(picture) if table else None
    if listed is not None and picture.said is not None and listed is not picture.said:
        assert table is not None
        raise LayoutError(
            f"{picture.path} is {picture.said.name.lower()} by its name or folder and {listed.name.lower()} in "
            f"{table.path}; if 1 = real in that file, say polarity=real"
        )
    label = picture.said if listed is None else listed
    if label is None and table is not None:
        return LeftOut(str(picture.path), "not in the label file")
    if label is None and picture.split == "train":
        return LeftOut(str(picture.path), "a training picture without real or fake in its name")
    return Sample(
        place=str(picture.path),
        label=label,
        source="NTIRE 2026",
        split=picture.split,
        groups={"part": picture.part.name},
    )


def _unused(table: _Labels) -> Iterator[LeftOut]:
    for name in table.names:
        if name not in table.seen:
            yield LeftOut(f"{table.path}: {name}", "labelled, but no such picture is there")


LAYOUT = Layout(
    name="ntire26",
    summary="NTIRE 2026 Robust Deepfake Detection Challenge",
    shape="""ROOT/
    training_data_final/0000_real.png, 0003_fake.png, …
    validation_data_final/0000.png, …          (labels only where you have a label file)
    publictest_data_final/0000.png, …
or one of these folders, or {train,val,test}/{real,fake}/*.png, or pictures with a label file:
    labels.csv, labels.txt or labels.json    (name and label, 1 = fake; or a label a line, by the picture's number)""",
    source="khoalephanminh/ntire26-deepfake-challenge@364d5a37fcfd: preprocessing/build_ntire_train_json.py",
    read=read,
    options={
        "labels": "label file (CSV, TXT or JSON) of the pictures; default: labels.csv, .txt or .json beside them",
        "polarity": "what 1 means in the label file: fake (default) or real",
    },
)
