"""Ways to make a derived data set: one file a derivation, each of which turns a picture into pieces.

A derivation's file holds `DERIVATION`, a frozen dataclass whose fields are its parameters, and the folder is the
registry: nothing else names it. `assay.data.derive` runs one over a data set.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import hashlib
import importlib
import io
import json
import pkgutil
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import numpy as np
from PIL import Image

from assay.data.table import Table
from assay.errors import InputError, RecipeError, unknown
from assay.image.align import encode
from assay.image.decode import Limits, decode
from assay.types import Label, Picture, Pixels, Sample

Lossless = Literal["PNG", "WEBP"]
"""Formats that keep every pixel. WebP's files are smaller and take longer to write."""

SUFFIXES = {"JPEG": ".jpg", "WEBP": ".webp", "PNG": ".png"}

_SUFFIX = re.compile(r"\.[a-z0-9]{1,5}\Z")


@dataclasses.dataclass(frozen=True, slots=True)
class Piece:
    """One file that is made of a picture.

    Args:
        data: the file's bytes.
        suffix: of its name, ".png".
        generator: what made it; a piece that has one is a fake, whatever its row is. Empty leaves label and generator
            as the sample's own.
        video, frame: put in place of the sample's own; empty and None leave these as they are.
        groups: added to the sample's own.
    """

    data: bytes
    suffix: str
    generator: str = ""
    video: str = ""
    frame: int | None = None
    groups: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _SUFFIX.match(self.suffix):
            raise ValueError(f"{self.suffix!r} is no suffix; give a dot and up to five small letters or digits")


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of one row.

    Args:
        pieces: the files made of it.
        keep: the row itself stays in the derived set, its file where it is, with these groups added; None drops it.
        reason: why nothing came of it, in words that are the same for all of its kind, so that they can be counted.
    """

    pieces: tuple[Piece, ...] = ()
    keep: Mapping[str, str] | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        if not self.pieces and self.keep is None and not self.reason:
            raise ValueError("a row cannot vanish without a reason")


class Source:
    """A row that is being derived, and its file.

    Args:
        sample: the row.
        data: the file's bytes.
        limits: of what decoding may cost.
        drawn: whether the row is of the share that `Derivation.drawn` asks for.
    """

    def __init__(self, sample: Sample, data: bytes, limits: Limits, *, drawn: bool = False) -> None:
        self.sample = sample
        self.data = data
        self.drawn = drawn
        self.limits = limits
        self.sha256 = hashlib.sha256(data).hexdigest()

    @functools.cached_property
    def picture(self) -> Picture:
        """The file decoded, when somebody first asks. Raises InputError."""
        return decode(self.data, self.limits)

    def still(self) -> Pixels:
        """The pixels of a file with one frame, uint8 (height, width, 3).

        Raises:
            InputError: it cannot be decoded; or it holds several frames (kind "too_many_frames"), of which taking the
                first would silently lose the others.
        """
        if len(self.picture.frames) > 1:
            raise InputError("holds several frames; take its frames first (assay data frames)", kind="too_many_frames")
        return self.picture.pixels


class Derivation(abc.ABC):
    """A way to make pieces of a picture. A subclass is a frozen dataclass, validated when it is made.

    `name` and `summary` are as the command line shows them. `version` goes up when the same parameters begin to give
    other files, so that one folder never holds both.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    version: ClassVar[int] = 1

    @abc.abstractmethod
    def derive(self, source: Source, rng: np.random.Generator) -> Outcome:
        """What becomes of one row. `rng` is all the chance there is: seeded by the run's seed and the file's content.

        Raises:
            InputError: the file cannot be used; it is listed as a problem, and the others go on.
        """

    def unread(self, sample: Sample) -> Outcome | None:
        """What becomes of a row without a look at its file; None where the file is needed."""
        return None

    @property
    def drawn(self) -> float | None:
        """Share in [0, 1] of the rows that `unread` leaves open for which `Source.drawn` is true: of n just
        round(share × n), chosen by content. None where nothing hangs on it."""
        return None

    def ready(self) -> None:  # noqa: B027 (most have nothing to check)
        """Whether all that is needed is installed, told before any work. Raises MissingExtra."""

    def beside(self, manifest: str) -> Self:
        """The same derivation, which may use and keep beside that manifest what it learns of the set's pictures.

        It makes the same files as without.
        """
        return self

    def tally(self, rows: Table) -> dict[str, int]:
        """What can be said in numbers of the rows of a finished set, by the words that follow the number."""
        return {}

    @property
    def limits(self) -> Limits:
        """What decoding one file may cost. Two frames are enough to know that a file holds several."""
        return limits_for(2)

    def settings(self) -> dict[str, Any]:
        """Every field as JSON holds it: what `--set` reaches. Needs nothing that may not be installed."""
        assert dataclasses.is_dataclass(self)
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}

    def parameters(self) -> dict[str, Any]:
        """All that the files hang on, as JSON holds it. Raises MissingExtra where that is known only by asking it."""
        return self.settings()

    def fingerprint(self) -> str:
        """SHA-256 of name, version and parameters, 64 hexadecimal digits: equal where the same files come out."""
        content = [self.name, self.version, self.parameters()]
        return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()


def passed_over(sample: Sample, group: str) -> Outcome | None:
    """What becomes of a row that no fake copy is made of, because it is no real picture of the training split: it stays
    as it is, with the group that tells copies at "0" unless it is one. None for those that copies are made of."""
    if sample.label is Label.REAL and sample.split == "train":
        return None
    return Outcome(keep={group: sample.groups.get(group, "0")})


def derivations() -> dict[str, type[Derivation]]:
    """Every derivation by name."""
    modules = sorted(info.name for info in pkgutil.iter_modules(__path__))
    found = (importlib.import_module(f"{__name__}.{module}").DERIVATION for module in modules)
    return {derivation.name: derivation for derivation in found}


def find(name: str) -> type[Derivation]:
    """The derivation of that name. Raises RecipeError naming the nearest."""
    known = derivations()
    if name not in known:
        raise RecipeError(unknown("derivation", name, known))
    return known[name]


def limits_for(frames: int, **others: int) -> Limits:
    """The usual limits, with that many frames of an animation or a clip."""
    return Limits(frames=frames, video_frames=frames, **others)


def lossless(pixels: Pixels, form: Lossless = "PNG") -> tuple[bytes, str]:
    """A file that keeps every pixel, and its suffix.

    Raises:
        InputError: a side is longer than the format can hold (kind "unsupported").
    """
    if form == "PNG":
        return encode(pixels, "PNG", 100), SUFFIXES[form]
    if max(pixels.shape[:2]) > 16_383:
        raise InputError("WebP holds at most 16,383 px a side; store it as PNG", kind="unsupported")
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", lossless=True, quality=50, method=2)
    return file.getvalue(), SUFFIXES[form]


def check_lossless(form: str) -> None:
    """Raises RecipeError where that format is not one of `Lossless`."""
    if form not in ("PNG", "WEBP"):
        raise RecipeError(unknown("lossless format", form, ("PNG", "WEBP")))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
