"""The index of a set of shards: which tars there are, what each holds, and what they were made from.

`shards.json` stands beside the tars. It is read from a folder or over HTTP and never trusted: every value is bounded,
names lead nowhere else, and a tar is held against the size and SHA-256 that it names.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Literal

import pydantic

from assay.data import remote
from assay.errors import InputError, ManifestError
from assay.types import Label

INDEX = "shards.json"
UNFINISHED = "unfinished.json"
"""Stands in place of the index until all shards are there."""

FORMAT, VERSION = "assay-shards", 1

LARGEST_SAMPLE = 1 << 30
"""Bytes of one sample. A clip of a gigabyte is better cut into frames first: samples are held in memory whole."""

LARGEST_SHARD = 64 << 30
"""Bytes of one tar that an index may claim."""

LARGEST_INDEX = 64 << 20
"""Bytes of `shards.json`: about 200,000 shards."""

SUFFIXES = {
    "JPEG": "jpg",
    "PNG": "png",
    "WEBP": "webp",
    "GIF": "gif",
    "BMP": "bmp",
    "TIFF": "tif",
    "AVIF": "avif",
    "HEIF": "heic",
    "MP4": "mp4",
    "MOV": "mov",
    "MKV": "mkv",
    "WEBM": "webm",
    "AVI": "avi",
    "MPEG": "mpg",
    "MPEGTS": "ts",
    "FLV": "flv",
}
"""What a member is called, by the format that `assay.image.container.identify` sees in its bytes."""

_SHOWN = 20

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.tar\Z")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_HEX = r"^[0-9a-f]{64}$"


def _label(said: object) -> object:
    return {"real": Label.REAL, "fake": Label.FAKE}.get(said, said) if isinstance(said, str) else said


def word(label: Label | None) -> str | None:
    """How an index and the notes in its tars write a label."""
    return None if label is None else label.name.lower()


def _plain(name: str) -> str:
    if not _NAME.match(name):
        raise ValueError("a shard's name must be a plain file name that ends in .tar")
    return name


class Shard(pydantic.BaseModel):
    """One tar.

    Args:
        name: of the file, in the folder of the index.
        split: of all its samples; empty where they have none.
        label: of all its samples; None where it is not known.
        samples: how many it holds.
        bytes: of the file.
        sha256: of the file, 64 hexadecimal digits.
        first, rows: which rows of its split and class it was made of, in their shuffled order; those left out count.
    """

    model_config = pydantic.ConfigDict(frozen=True)

    name: Annotated[str, pydantic.AfterValidator(_plain)]
    split: Literal["train", "tune", "test", ""]
    label: Annotated[Label | None, pydantic.BeforeValidator(_label)]
    samples: int = pydantic.Field(ge=1)
    bytes: int = pydantic.Field(ge=1, le=LARGEST_SHARD)
    sha256: str = pydantic.Field(pattern=_HEX)
    first: int = pydantic.Field(0, ge=0)
    rows: int = pydantic.Field(0, ge=0)


class LeftOutRow(pydantic.BaseModel):
    """A row that could not be read: its number in the manifest (the header is row 1), and the kind of `InputError`."""

    model_config = pydantic.ConfigDict(frozen=True)

    row: int
    kind: str


class Plan(pydantic.BaseModel):
    """What decides the shards: the same plan gives the same bytes.

    Args:
        rows: how many there were.
        rows_sha256: of what is known of them, and the files' sizes. The data set may have moved as a whole.
        seed: of the shuffle.
        largest: bytes that a tar may have, unless one sample alone has more.
        most: samples that a tar may have.
    """

    model_config = pydantic.ConfigDict(frozen=True)

    rows: int
    rows_sha256: str
    seed: int
    largest: int
    most: int

    def differences(self, other: Plan) -> list[str]:
        """What tells two plans apart, with both values."""
        found = [
            f"{name} {getattr(self, name):,}, now {getattr(other, name):,}"
            for name in ("rows", "seed", "largest", "most")
            if getattr(self, name) != getattr(other, name)
        ]
        if self.rows == other.rows and self.rows_sha256 != other.rows_sha256:
            found.append("other rows (their order, what is said of them, or the files' sizes)")
        return found


class Document(pydantic.BaseModel):
    """What `shards.json` holds, finished or not."""

    format: str = FORMAT
    version: int = VERSION
    plan: Plan
    shards: tuple[Shard, ...]
    left_out: tuple[LeftOutRow, ...] = ()

    @pydantic.model_validator(mode="after")
    def _no_name_twice(self) -> Document:
        names = [shard.name for shard in self.shards]
        if len(set(names)) < len(names):
            raise ValueError("a shard stands there twice")
        return self


@dataclasses.dataclass(frozen=True)
class Index:
    """A set of shards.

    Args:
        source: path or address of its `shards.json`.
        plan: what they were made from.
        shards: every tar, those of one split and class together.
        left_out: rows that could not be read and were left out on request.
    """

    source: str
    plan: Plan
    shards: tuple[Shard, ...]
    left_out: tuple[LeftOutRow, ...] = ()

    @classmethod
    def open(cls, where: str | os.PathLike[str]) -> Index:
        """The index of shards that `write` made.

        Args:
            where: their folder, its `shards.json`, or the http or https address of either. Only an address opens a
                connection; no other scheme is known.

        Raises:
            ManifestError: there is none; it is not finished, not valid or of a later version; a tar beside it is
                missing or has another size.
        """
        text = os.fspath(where)
        if remote.is_address(text):
            return cls._fetched(text)
        if _SCHEME.match(text) and not Path(text).exists():
            raise ManifestError(f"{text}: shards are read from a folder or an http(s) address; copy them to one")
        file = Path(text) / INDEX if Path(text).is_dir() else Path(text)
        if not file.exists() and file.with_name(UNFINISHED).exists():
            raise ManifestError(f"{file.parent}: its shards are not finished; run the command that writes them again")
        index = cls._of(str(file), read(file))
        problems = [problem for shard in index.shards if (problem := misfit(file.with_name(shard.name), shard))]
        if problems:
            raise refusal(f"{file}: ", problems, "; copy them again, or run the command that wrote them again")
        return index

    @classmethod
    def _fetched(cls, address: str) -> Index:
        if not address.partition("?")[0].endswith(".json"):
            address = remote.beside(address.partition("?")[0].rstrip("/") + "/" + _query(address), INDEX)
        try:
            return cls._of(address, _parsed(address, remote.fetch(address, LARGEST_INDEX)))
        except InputError as error:
            raise ManifestError(str(error)) from None

    @classmethod
    def _of(cls, source: str, document: Document) -> Index:
        if not document.shards:
            raise ManifestError(f"{source}: names no shard; write the shards again")
        return cls(source, document.plan, document.shards, document.left_out)

    @property
    def samples(self) -> int:
        """How many samples all shards hold."""
        return sum(shard.samples for shard in self.shards)

    def place(self, shard: Shard) -> str:
        """Path or address of a shard."""
        if remote.is_address(self.source):
            return remote.beside(self.source, shard.name)
        return str(Path(self.source).with_name(shard.name))

    def select(self, *, split: str | Collection[str] | None = None, label: Label | None = None) -> tuple[Shard, ...]:
        """The shards of a split (or several) and a class; None takes all.

        Raises:
            ManifestError: there are none.
        """
        splits = None if split is None else {split} if isinstance(split, str) else set(split)
        chosen = tuple(
            shard
            for shard in self.shards
            if (splits is None or shard.split in splits) and (label is None or shard.label == label)
        )
        if not chosen:
            there = sorted({group(shard.split, shard.label) for shard in self.shards})
            wanted = f"{' or '.join(sorted(splits)) if splits else 'any split'}, {word(label) or 'any class'}"
            raise ManifestError(f"{self.source}: no shard of {wanted}; there are {', '.join(there)}")
        return chosen


def group(split: str, label: Label | None) -> str:
    """How shards of a split and a class are called, without their number."""
    return f"{split or 'none'}-{word(label) or 'unlabelled'}"


# ── on disk ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def save(file: Path, document: Document) -> None:
    """Writes a document so that it is there whole or not at all. Raises OSError."""
    told = document.model_dump(mode="json")
    for written, shard in zip(told["shards"], document.shards, strict=True):
        # Not by a serializer of the field: a Ctrl-C that falls into one comes out as an error of pydantic's.
        written["label"] = word(shard.label)
    part = file.with_name(f"{file.name}.part")
    with part.open("wb") as raw:
        raw.write(json.dumps(told, indent=1).encode())
        raw.flush()
        os.fsync(raw.fileno())
    part.replace(file)


def read(file: Path) -> Document:
    """The document in a file.

    Raises:
        ManifestError: there is none; it cannot be read, is not valid or of a later version.
    """
    try:
        if not file.is_file():
            raise ManifestError(f"{file}: no such index; give the folder that holds {INDEX}, or write the shards first")
        with file.open("rb") as raw:
            data = raw.read(LARGEST_INDEX + 1)
    except OSError as error:
        raise ManifestError(f"{file}: cannot be read ({error.strerror}); check its permissions") from error
    if len(data) > LARGEST_INDEX:
        raise ManifestError(f"{file} is longer than {LARGEST_INDEX:,} bytes, which no index is; write the shards again")
    return _parsed(str(file), data)


def _parsed(source: str, data: bytes) -> Document:
    again = "copy it again, or write the shards again to another folder"
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{source} is torn or no JSON ({error}); {again}") from None
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        raise ManifestError(f"{source} is no index of shards; {again}")
    if raw.get("version") != VERSION:
        raise ManifestError(
            f"{source} has version {raw.get('version')!r}, and this assay reads {VERSION}; get a later assay"
        )
    try:
        return Document.model_validate(raw)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        at = ".".join(str(part) for part in first["loc"])
        raise ManifestError(f"{source} is not valid at {at or 'its top'}: {first['msg']}; {again}") from None


def misfit(file: Path, shard: Shard) -> str:
    """What is wrong with a shard's file as far as its size tells; empty where nothing is."""
    try:
        size = file.stat().st_size if file.is_file() else None
    except OSError as error:
        return f"{shard.name}: cannot be looked at ({error.strerror})"
    if size is None:
        return f"{shard.name}: no such file"
    return "" if size == shard.bytes else f"{shard.name}: {size:,} bytes, not {shard.bytes:,}"


def _query(address: str) -> str:
    return "".join(address.partition("?")[1:])


def refusal(before: str, problems: Sequence[str], advice: str) -> ManifestError:
    shown = "\n".join(f"  {problem}" for problem in problems[:_SHOWN])
    more = f"\n  … and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return ManifestError(f"{before}{count}{advice}:\n{shown}{more}", problems)
