"""DFWild-Cup: faces of eight data sets with names taken away (IEEE Signal Processing Cup 2025).

Source: the competition's page, sites.google.com/view/dfwild-cup/home (there is no official loader).

*Certain* (the page): pictures come from eight data sets of DeepfakeBench, prepared alike, with anonymised file names;
there are labelled training and validation sets and an unlabelled evaluation set; a **score is higher for real**.
*Certain* (DFCon, arXiv 2501.16704): 42,690 real and 219,470 fake training pictures, 1,548 and 1,524 validation ones.
*Inferred* (from participants' code, since the archives are not open): the folders are called `train_real`,
`train_fake`, `valid_real`, `valid_fake`, or `train/real` and so on. Case, the spelling of the split and one folder
around it all do not matter here; folders below the class become the group "dataset", for copies that still have them.

- Classes are told by name: fake is 1.
- The validation set becomes "tune"; DFCon reports its accuracy on it, so option `validation=test` makes it the test
  set, and rows to tune on have to be split off from the training set.
- Pictures of a folder `eval`, `evaluation` or `test` that says no class have no label, and the split "test".
- Option `key=FILE` labels them. A key is a table (CSV, or words parted by blanks) of file name and value: the words
  real and fake, or numbers **of the challenge's polarity**, 1 = real and 0 = fake, which are turned round here. Scores
  between them are no key and are refused. *Inferred*: no key has been published.

The clip that a picture was taken from is not published, so nothing here can show that training and validation share
none; neither is the generator.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from assay.data.layouts import PICTURES, Layout, LeftOut, files, told
from assay.errors import LayoutError, unknown
from assay.types import Label, Sample

_EVALUATION = re.compile("eval(uation)?", re.IGNORECASE)
_VALUES = {"real": Label.REAL, "fake": Label.FAKE, "1": Label.REAL, "0": Label.FAKE}
"""Of a key: the challenge's numbers are higher for real."""


def read(root: Path, *, validation: str = "tune", key: str = "") -> Iterator[Sample | LeftOut]:
    """Samples of the training, validation and evaluation sets below `root`, whichever are there.

    Raises:
        LayoutError: none of them is there, `validation` is neither "tune" nor "test", or the key cannot be used.
    """
    if validation not in ("tune", "test"):
        raise LayoutError(unknown("split for the validation set", validation, ("tune", "test")), kind="unknown")
    labels = _key(Path(key)) if key else {}
    found = False
    for path in files(root) if root.is_dir() else ():
        inside = path.relative_to(root).parts[:-1]
        if path.suffix.lower() not in PICTURES:
            yield LeftOut(str(path), "not a picture by its suffix")
            continue
        split, label, below = _said(inside)
        if not split:
            yield LeftOut(str(path), "in no folder of the training, validation or evaluation set")
            continue
        if label is None:
            label = labels.get(path.name, labels.get(path.stem))
            if key and label is None:
                yield LeftOut(str(path), "an evaluation picture that the key does not name")
                continue
        found = True
        yield Sample(
            place=str(path),
            label=label,
            source="DFWild-Cup",
            split=validation if split == "tune" else split,
            groups={"dataset": "/".join(below)} if below else {},
        )
    if not found:
        raise LAYOUT.mismatch(root, "there is no train_real, train_fake, valid_real, valid_fake or evaluation folder")


def _said(folders: tuple[str, ...]) -> tuple[str, Label | None, tuple[str, ...]]:
    """Split, class and the folders below, as the uppermost folder says that says a split."""
    for depth, name in enumerate(folders):
        split, label = told(_EVALUATION.sub("test", name))
        below = folders[depth + 1 :]
        if split and label is None and below:
            inner_split, inner_label = told(below[0])
            if inner_label is not None and inner_split in ("", split):
                return split, inner_label, below[1:]
        if split == "test" or (split and label is not None):
            return split, label, below
    return "", None, ()


def _key(path: Path) -> dict[str, Label]:
    """Labels of a key by file name."""
    labels: dict[str, Label] = {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LayoutError(f"key {path} cannot be read ({error}); give a text file in UTF-8") from None
    for number, line in enumerate(lines, start=1):
        cells = [cell.strip() for cell in (next(csv.reader([line])) if "," in line else line.split())]
        if not any(cells):
            continue
        value = re.sub(r"\A([01])\.0*\Z", r"\1", cells[1].lower()) if len(cells) == 2 else ""
        if value in _VALUES:
            labels[cells[0]] = _VALUES[value]
        elif number > 1 or re.search(r"\d", cells[-1]):  # the first line may name the columns
            raise LayoutError(
                f"key {path}, line {number}: {line[:80]!r} is not a file name and one of real, fake, 1 (real), 0 (fake)"
                "; a list of scores is no key"
            )
    if not labels:
        raise LayoutError(
            f"key {path} names no picture; each line holds a file name and real, fake, 1 (real) or 0 (fake)"
        )
    return labels


LAYOUT = Layout(
    name="dfwildcup",
    summary="DFWild-Cup (IEEE SP Cup 2025): anonymised faces; its numbers are higher for real and are turned round",
    shape="""[ANY/]{train,valid}_{real,fake}/[DATASET/]*.png, .jpg
  or [ANY/]{train,valid}/{real,fake}/[DATASET/]*; evaluation pictures without a label in eval/, evaluation/ or test/""",
    source="sites.google.com/view/dfwild-cup/home; DFCon, arXiv 2501.16704 (counts)",
    read=read,
    options={
        "validation": "tune (the default), or test to measure on it as DFCon does",
        "key": "file of evaluation names and real, fake, 1 (real) or 0 (fake)",
    },
)
