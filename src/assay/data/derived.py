"""The folder of a derived data set: what belongs in it, which rows are done, and under which names.

    derivation.json          what is made here, with which parameters, of which rows
    .derive/journal.jsonl    one line a finished row, only ever added to
    .derive/*.part           files that have no name yet
    train/real/3f/3fa94c….png …
    manifest.csv             written last, when every row is done

A row is done when its line stands in the journal whole; its files were given their names just before. So a run that is
killed at any moment leaves finished rows, and at most a few files that the next run makes again under the same names.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
import pydantic

from assay.data import lock
from assay.data.table import Table
from assay.errors import OutputError
from assay.image import place
from assay.types import Label

PLAN = "derivation.json"
WORK = ".derive"
FORMAT = 1

SPLITS = {"": "unsplit", "train": "train", "tune": "tune", "test": "test"}
LABELS = {-1: "unknown", 0: "real", 1: "fake"}
"""Folders of the pieces, by split and label."""

_DIGITS = 16
_STEM = rf"(unsplit|train|tune|test)/(unknown|real|fake)/[0-9a-f]{{2}}/[0-9a-f]{{{_DIGITS}}}(b[0-9]+)?"
_FILE = rf"^{_STEM}-[0-9]{{2,}}\.[a-z0-9]{{1,5}}$"
"""Names of pieces. A journal that somebody changed cannot name a file outside of the folder."""


class _Line(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", strict=True)


class File(_Line):
    """One piece: its name below the folder, and what the sample says otherwise than its source.

    One with a generator is a fake.
    """

    file: str = pydantic.Field(pattern=_FILE)
    sha256: str
    generator: str = ""
    video: str = ""
    frame: int | None = None
    groups: dict[str, str] = {}


class Entry(_Line):
    """A finished row.

    Args:
        row: its index.
        sha256: of its file.
        stat: size in bytes and time of change in ns of the file that was opened for it.
        files: its pieces.
        keep: groups added to the row itself where it stays; None where it does not.
        reason: why nothing came of it.
        drawn: as its `Source` said.
    """

    row: int = pydantic.Field(ge=0)
    sha256: str
    stat: tuple[int, int]
    files: list[File] = []
    keep: dict[str, str] | None = None
    reason: str = ""
    drawn: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Unnamed:
    """A piece that a worker has written and that has no name yet."""

    part: Path
    suffix: str
    sha256: str
    generator: str
    video: str
    frame: int | None
    groups: Mapping[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class Made:
    """What a worker made of one row; as in `Entry`, but for the pieces."""

    row: int
    sha256: str
    stat: tuple[int, int]
    pieces: tuple[Unnamed, ...]
    keep: Mapping[str, str] | None
    reason: str
    drawn: bool


class Folder:
    """A derived data set's folder, open for one run.

    Args:
        root: made where it is not there.
        plan: what is made, as JSON holds it, by the words of a message ("seed", "the column label of the rows" …).
        table: the rows.

    Raises:
        OutputError: it holds something else, or another plan's work (kind "output"); another process writes to it
            (kind "output"); it cannot be written (kind "disk").
    """

    def __init__(self, root: Path, plan: Mapping[str, Any], table: Table) -> None:
        self.root = root
        self._table = table
        self._stems: set[str] = set()
        self._offsets = np.full(len(table), -1, np.int64)
        self._stats: dict[str, tuple[int, int]] = {}
        with contextlib.ExitStack() as opened:
            try:
                self._claim(plan)
                path = self.work / "journal.jsonl"
                # Unbuffered, so that one line is one write, and a line that failed is not written later.
                self._append = opened.enter_context(path.open("ab", buffering=0))
                lock.take(self._append.fileno(), root)
                self._tidy(path)
                self._read: BinaryIO = opened.enter_context(path.open("rb"))
                self._verify()
            except OSError as error:
                raise disk(root, error) from error
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    @property
    def work(self) -> Path:
        """Where workers write pieces that have no name yet."""
        return self.root / WORK

    @property
    def done(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which rows are finished, (rows,)."""
        return self._offsets >= 0

    def finish(self, made: Made) -> None:
        """Names the pieces of a row and writes down that it is done. Raises OutputError (kind "disk")."""
        own = int(self._table.labels[made.row])
        split = SPLITS[str(self._table.column("split")[made.row])]
        labels = [int(Label.FAKE) if piece.generator else own for piece in made.pieces]
        stems = {
            label: self._stem(f"{split}/{LABELS[label]}/{made.sha256[:2]}/{made.sha256[:_DIGITS]}")
            for label in set(labels)
        }
        files = []
        try:
            for stem in stems.values():
                (self.root / stem).parent.mkdir(parents=True, exist_ok=True)
            for number, (label, piece) in enumerate(zip(labels, made.pieces, strict=True)):
                name = f"{stems[label]}-{number:02d}{piece.suffix}"
                piece.part.replace(self.root / name)
                files.append(
                    File(
                        file=name,
                        sha256=piece.sha256,
                        generator=piece.generator,
                        video=piece.video,
                        frame=piece.frame,
                        groups=dict(piece.groups),
                    )
                )
            entry = Entry(
                row=made.row,
                sha256=made.sha256,
                stat=made.stat,
                files=files,
                keep=None if made.keep is None else dict(made.keep),
                reason=made.reason,
                drawn=made.drawn,
            )
            offset = self._added(entry.model_dump_json(exclude_defaults=True).encode() + b"\n")
        except OSError as error:
            raise disk(self.root, error) from error
        self._stems.update(stems.values())
        self._offsets[made.row] = offset

    def forget(self, entry: Entry) -> None:
        """Takes a finished row's files away; the row is then to be done again."""
        self._offsets[entry.row] = -1
        for file in entry.files:
            (self.root / file.file).unlink(missing_ok=True)

    def entry(self, row: int) -> Entry | None:
        """What the journal says of a row; None where it is not done."""
        if self._offsets[row] < 0:
            return None
        self._read.seek(self._offsets[row])
        return Entry.model_validate_json(self._read.readline())

    def _added(self, line: bytes) -> int:
        """Adds a line to the journal and gives its offset."""
        offset = self._append.seek(0, os.SEEK_END)
        try:
            if self._append.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            # What a full disk took of the line is taken back.
            os.ftruncate(self._append.fileno(), offset)
            raise
        return offset

    def _source_stat(self, row: int) -> tuple[int, int]:
        """`source_stat` of a row's place; of the many rows of one archive it is taken once."""
        opened, _ = place.split(str(self._table.column("path")[row]))
        if opened not in self._stats:
            self._stats[opened] = source_stat(opened)
        return self._stats[opened]

    def _stem(self, wanted: str) -> str:
        """A name that no other row has. Only pieces of one split and label, of rows of one content, want the same."""
        stem, number = wanted, 1
        while stem in self._stems:
            number += 1
            stem = f"{wanted}b{number}"
        return stem

    def _claim(self, plan: Mapping[str, Any]) -> None:
        """Takes an empty folder, or one in which the same plan was begun."""
        path = self.root / PLAN
        text = json.dumps(plan, indent=1, sort_keys=True, allow_nan=False) + "\n"
        if path.exists():
            _compare(self.root, path, json.loads(text))
        elif self.root.exists() and (not self.root.is_dir() or any(self.root.iterdir())):
            raise OutputError(f"{self.root} holds other files and no {PLAN}; give a new or an empty folder as --out")
        else:
            self.root.mkdir(parents=True, exist_ok=True)
            # Beside the folder's own name until it is whole: a torn plan would be nobody's.
            part = self.root.with_name(f".{self.root.name}.{os.getpid()}.part")
            try:
                part.write_text(text, encoding="utf-8")
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
        self.work.mkdir(exist_ok=True)

    def _tidy(self, path: Path) -> None:
        """Finds the finished rows in the journal; what a kill left unfinished goes."""
        for part in self.work.glob("*.part"):
            part.unlink()
        offset = 0
        with path.open("rb") as journal:
            for line in journal:
                if not line.endswith(b"\n"):
                    os.ftruncate(self._append.fileno(), offset)
                    break
                if (entry := _parsed(line)) is not None and entry.row < len(self._table):
                    self._offsets[entry.row] = offset
                offset += len(line)

    def _verify(self) -> None:
        """Looks whether what the journal says is done is there still, and made of the same file."""
        for row in np.flatnonzero(self.done).tolist():
            entry = self.entry(row)
            assert entry is not None
            if entry.stat == self._source_stat(row) and all(self._whole(file) for file in entry.files):
                self._stems.update(file.file.rpartition("-")[0] for file in entry.files)
            else:
                self.forget(entry)

    def _whole(self, file: File) -> bool:
        try:
            with (self.root / file.file).open("rb") as data:
                return hashlib.file_digest(data, "sha256").hexdigest() == file.sha256
        except OSError:
            return False


def source_stat(address: str) -> tuple[int, int]:
    """Size in bytes and time of change in ns of the file that an address lies in; (-1, -1) where there is none."""
    try:
        status = Path(place.split(address)[0]).stat()
    except (OSError, ValueError):
        return -1, -1
    return status.st_size, status.st_mtime_ns


def disk(folder: Path, error: OSError) -> OutputError:
    """The error of a folder that cannot be written to."""
    return OutputError(
        f"{folder}: cannot be written ({error.strerror or error}); free some space or mend the folder, then run the "
        "same command again: it goes on where it stopped",
        kind="disk",
    )


def _parsed(line: bytes) -> Entry | None:
    try:
        return Entry.model_validate_json(line)
    except pydantic.ValidationError:
        # A power cut may leave a line of NUL bytes; its row is done again.
        return None


def _compare(root: Path, path: Path, plan: Mapping[str, Any]) -> None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise OutputError(f"{path} is damaged ({error}); give a new folder as --out") from error
    differs = list(_differences(found, plan))
    if differs:
        raise OutputError(
            f"{root} holds another derived set: {'; '.join(differs[:5])}. Give another folder as --out, or repeat the "
            "run that began this one"
        )


def _differences(found: Any, wanted: Any, name: str = "") -> Iterator[str]:
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in dict.fromkeys([*wanted, *found]):
            yield from _differences(found.get(key), wanted.get(key), f"{name}.{key}" if name else key)
    elif found != wanted and name.startswith("rows.") and name != "rows.count":
        yield f"the column {name.removeprefix('rows.')} of the rows differs"
    elif found != wanted:
        yield f"{name} is {_short(found)} there and {_short(wanted)} here"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}…"


def rows_of(table: Table) -> dict[str, Any]:
    """What tells one set of rows from another: their number, and a hash of each column."""
    digests = {}
    for name in table.columns:
        digest = hashlib.sha256()
        for cell in table.column(name).tolist():
            text = _absolute(cell) if name == "path" else cell
            digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
        digests[name] = digest.hexdigest()[:_DIGITS]
    return {"count": len(table), **digests}


def _absolute(address: str) -> str:
    return os.path.abspath(address)  # noqa: PTH100 (a place may be an address, and links must stay as they are)
