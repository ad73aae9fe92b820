"""Data sets as they were published: one file a layout, each of which turns a folder into samples.

A layout's file holds `LAYOUT`, and the folder is the registry: nothing else names it. Whatever the outside world says
(class numbers, folder names, polarity) is converted there, and only there, to 1 = fake.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from assay.errors import LayoutError, unknown
from assay.types import Sample

PICTURES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".heif"}
)
VIDEOS = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg"})
"""Suffixes, in lower case, of files that are taken for pictures and for clips."""


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

    samples: list[Sample]
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


def read(name: str, root: str | Path, **options: str) -> Found:
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
    samples: list[Sample] = []
    reasons: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for item in layout.read(place, **options):
        if isinstance(item, Sample):
            samples.append(item)
        else:
            reasons[item.reason] += 1
            examples.setdefault(item.reason, item.place)
    if not samples:
        why = "; ".join(f"{reason} ({count})" for reason, count in reasons.most_common(3)) or "it is empty"
        raise layout.mismatch(place, f"no sample was found: {why}")
    return Found(samples, reasons, examples)


def files(folder: Path, suffixes: Iterable[str]) -> Iterator[Path]:
    """Files of those suffixes below a folder, sorted by path; hidden files and folders are passed over."""
    wanted = frozenset(suffixes)
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and path.suffix.lower() in wanted and path.is_file():
            yield path
