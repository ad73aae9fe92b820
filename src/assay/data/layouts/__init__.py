"""Data sets as they were published: one file a layout, each of which turns a folder into samples.

A layout's file holds `LAYOUT`, and the folder is the registry: nothing else names it. Whatever the outside world says
(class numbers, folder names, polarity) is converted there, and only there, to 1 = fake.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import pkgutil
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from assay.data.table import Table
from assay.errors import LayoutError, unknown
from assay.types import Label, Sample

PICTURES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".heif"}
)
VIDEOS = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg"})
"""Suffixes, in lower case, of files that are taken for pictures and for clips."""

SPLITS = {
    "train": "train",
    "training": "train",
    "val": "tune",
    "valid": "tune",
    "validation": "tune",
    "dev": "tune",
    "tune": "tune",
    "test": "test",
    "testing": "test",
}
"""Names of splits in the wild, in lower case, and ours."""

_CLASSES = {
    Label.REAL: "real reals original originals pristine genuine authentic natural nature bonafide",
    Label.FAKE: "fake fakes deepfake deepfakes ai aigc aigenerated artificial generated synthetic synthesized "
    "synthesised manipulated forged tampered",
}
CLASSES = {word: label for label, words in _CLASSES.items() for word in words.split()}
"""Names of classes in the wild, in lower case, and ours."""

_PADDING = (
    "image images img imgs picture pictures photo photos face faces video videos frame frames data dataset set deep"
)
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")


DANGLING = "a link to a file that is not there; fetch what it points to (git annex get, dvc pull), or remove it"
NOT_UNICODE = "its name is not valid Unicode, which no manifest can hold; rename it"


@dataclasses.dataclass(frozen=True, slots=True)
class LeftOut:
    """A file or row that gave no sample.

    Args:
        place: what it is.
        reason: why, in words that are the same for all of its kind, so that they can be counted.
    """

    place: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Layout:
    """A published shape of a data set.

    Args:
        name: as the command line names it.
        summary: one line.
        shape: the tree that is expected, as text for people; an error quotes it.
        source: the loader or description it was read from, as "repository@commit: file".
        read: root and options by name, to samples and what was left out, lazily, in an order that does not depend on
            the file system. Raises LayoutError where the root has another shape.
        options: name of each option that `read` takes as a keyword (always text), and what it does.
    """

    name: str
    summary: str
    shape: str
    source: str
    read: Callable[..., Iterable[Sample | LeftOut]]
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def mismatch(self, root: Path, found: str) -> LayoutError:
        """The error for a root of another shape; `found` says what is wrong or missing there."""
        return LayoutError(f"{root} is not laid out as {self.name}: {found}. Expected:\n{self.shape}")


@dataclasses.dataclass(frozen=True)
class Found:
    """What a layout gave: samples, and how often each reason left something out, with an example of each."""

    samples: Table
    left_out: Counter[str]
    examples: dict[str, str]


def layouts() -> dict[str, Layout]:
    """Every layout by name."""
    modules = sorted(info.name for info in pkgutil.iter_modules(__path__))
    found = (importlib.import_module(f"{__name__}.{module}").LAYOUT for module in modules)
    return {layout.name: layout for layout in found}


def find(name: str) -> Layout:
    """The layout of that name. Raises LayoutError (kind "unknown") naming the nearest."""
    known = layouts()
    if name not in known:
        raise LayoutError(unknown("layout", name, known), kind="unknown")
    return known[name]


def read(name: str, root: str | Path, /, **options: str) -> Found:
    """All samples of the data set under `root`.

    Args:
        name: of the layout.
        root: the folder (or the file, where the layout is one) as it was published and unpacked.
        options: of that layout.

    Raises:
        LayoutError: no such layout or option; the root does not exist, has another shape, or holds no sample at all.
    """
    layout = find(name)
    for option in options:
        if option not in layout.options:
            raise LayoutError(unknown(f"option of {name}", option, layout.options), kind="unknown")
    place = Path(root)
    if not place.exists():
        raise LayoutError(f"{place}: no such file or folder; give the place where {name} was unpacked")
    reasons: Counter[str] = Counter()
    examples: dict[str, str] = {}

    def kept() -> Iterator[Sample]:
        for item in layout.read(place, **options):
            if isinstance(item, Sample) and _broken(item.place):
                item = LeftOut(item.place, DANGLING)
            if isinstance(item, Sample):
                try:
                    item.place.encode()
                except UnicodeEncodeError:
                    item = LeftOut(os.fsencode(item.place).decode(errors="replace"), NOT_UNICODE)
                else:
                    yield item
                    continue
            reasons[item.reason] += 1
            examples.setdefault(item.reason, item.place)

    samples = Table.of(kept())
    if not len(samples):
        why = "; ".join(f"{reason} ({count})" for reason, count in reasons.most_common(3)) or "it is empty"
        raise layout.mismatch(place, f"no sample was found: {why}")
    return Found(samples, reasons, examples)


def files(folder: Path, suffixes: Iterable[str] | None = None) -> Iterator[Path]:
    """Files below a folder, lazily, sorted by path; hidden files and folders are passed over.

    Folders that are symbolic links are followed, but never back into a folder that they lie in. A link to nothing is
    given as a file, so that it is counted. A `folder` that is itself a file gives that file.

    Args:
        folder: where to look.
        suffixes: only files of these, in lower case; None gives all.

    Raises:
        LayoutError: a folder cannot be listed. What cannot be seen cannot be counted as left out.
    """
    wanted = None if suffixes is None else frozenset(suffixes)
    if folder.is_file():
        found: Iterator[Path] = iter([folder])
    else:
        found = _below(folder, frozenset())
    return (path for path in found if wanted is None or path.suffix.lower() in wanted)


def _below(folder: Path, above: frozenset[str]) -> Iterator[Path]:
    here = os.path.realpath(folder)
    if here in above:
        return
    try:
        with os.scandir(folder) as entries:
            found = sorted(
                (entry.name, _is(entry.is_dir), _is(entry.is_file), not _is(entry.is_file) and _broken(entry.path))
                for entry in entries
            )
    except OSError as error:
        raise LayoutError(f"{folder}: cannot be listed ({error.strerror}); check its permissions") from None
    for name, is_folder, is_file, is_broken in found:
        if name.startswith("."):
            continue
        if is_folder:
            yield from _below(folder / name, above | {here})
        elif is_file or is_broken:
            yield folder / name


def _broken(link: str) -> bool:
    # Not pathlib's questions: these also answer for a name that no file can have.
    return not os.path.exists(link) and os.path.islink(link)  # noqa: PTH110, PTH114


def _is(question: Callable[[], bool]) -> bool:
    # A symbolic link to itself is neither a folder nor a file, and the operating system says so by an error.
    try:
        return question()
    except OSError:
        return False


def told(name: str) -> tuple[str, Label | None]:
    """The split and the class that a folder's name says; empty and None where it does not say one.

    Case, digits, punctuation and words like "images" are passed over: "0_real", "Train-Fake" and "ai_images" all say
    something. A name with any other word in it says nothing, since "not_real" and "real_vs_fake" are names too.
    """
    split, label = "", None
    for word in re.findall("[a-z]+", _HUMP.sub(" ", name).lower()):
        if word in SPLITS and split in ("", SPLITS[word]):
            split = SPLITS[word]
        elif word in CLASSES and label in (None, CLASSES[word]):
            label = CLASSES[word]
        elif word not in _PADDING.split():
            return "", None
    return split, label
