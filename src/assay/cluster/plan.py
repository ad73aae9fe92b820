"""What a scan on a cluster has to judge: written once, in chunks, before the first is judged.

    OUT/_plan/000000.jsonl     a chunk: one input a line
    OUT/_plan/plan.json        written last, which makes the plan whole; without it the inputs are gathered anew
    OUT/part-000000.parquet    the chunk's results, which show that it is done

A chunk that is done again gives its part again, under the same name, so that killed workers, lost machines and commands
that are run again leave every input in the results once. Readers of Parquet folders pass over names with "_" or "." in
front.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from assay.cluster.storage import Folder
from assay.errors import OutputError
from assay.types import Failure

FOLDER = "_plan"
PLAN = f"{FOLDER}/plan.json"
FORMAT = 1

LEAST, MOST = 32, 1024
"""Inputs of a chunk: a 64th of those before it, within these bounds. So a few thousand inputs keep dozens of workers
busy, millions make few files, and what a killed worker loses takes seconds to do again."""

_SHARE = 64
_PART = re.compile(r"part-\d{6,}\.parquet")


@dataclasses.dataclass(frozen=True, slots=True)
class Tar:
    """The pictures and clips in a tar file."""

    place: str


@dataclasses.dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a Parquet table whose column holds pictures' bytes.

    Args:
        place: the table.
        column: of bytes, or of structs with `bytes`.
        groups: the row groups, first and last (exclusive).
        first: number of the first row, from 0.
        count: how many rows.
    """

    place: str
    column: str
    groups: tuple[int, int]
    first: int
    count: int


Item = str | Failure | Tar | Rows
"""A path or an address; what cannot be judged, and why; or what holds many inputs, and then is a chunk alone."""


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """A plan that is whole.

    Args:
        id: drawn when it was made.
        detector: sha256 of the detector that judges.
        asked: what was named on the command line, paths made absolute.
        base: the folder that relative names are relative to.
        batch: pictures judged together; chunks hold a multiple of it, so that batches are those of an ordinary scan.
        chunks: how many.
        inputs: how many; None where tar files hide it.
    """

    id: str
    detector: str
    asked: tuple[str, ...]
    base: str
    batch: int
    chunks: int
    inputs: int | None


def part(number: int) -> str:
    """The name of a chunk's results."""
    return f"part-{number:06d}.parquet"


def is_part(name: str) -> bool:
    """Whether a file is called like a chunk's results."""
    return bool(_PART.fullmatch(name))


def number_of(name: str) -> int:
    """The chunk that a part is of."""
    return int(name[5:-8])


def find(folder: Folder, detector: str, asked: Iterable[str]) -> Plan | None:
    """The plan in a folder; None where none was finished.

    Raises:
        OutputError: it is of another detector or of other inputs, or the folder holds something else.
    """
    content = folder.read(PLAN)
    if content is None:
        strangers = [name for name in folder.names() if name != FOLDER and not name.startswith(".")]
        if strangers:
            raise OutputError(
                f"{folder.place}: holds {strangers[0]!r}, which is not of a scan that can go on; choose another --out"
            )
        return None
    plan = _parsed(folder, content)
    if plan.detector != detector:
        raise OutputError(
            f"{folder.place}: holds results of another detector ({plan.detector[:12]}…, not {detector[:12]}…); choose "
            "another --out, or --fresh to throw them away"
        )
    if plan.asked != tuple(asked):
        raise OutputError(
            f"{folder.place}: holds a scan of other inputs; choose another --out, or --fresh to throw it away"
        )
    return plan


def current(folder: Folder) -> str | None:
    """The id of the plan in a folder as it is now; None where there is none."""
    content = folder.read(PLAN)
    return None if content is None else _parsed(folder, content).id


def make(
    folder: Folder,
    gather: Callable[[Callable[[Item], None]], None],
    *,
    detector: str,
    asked: Iterable[str],
    base: str,
    batch: int,
    most: int = MOST,
) -> Plan:
    """Write a plan. One chunk of it is held at a time.

    Args:
        gather: hands each input once to what it is given.
        most: inputs of a chunk, except of what is a chunk alone.
        detector, asked, base, batch: see `Plan`.

    Raises:
        OutputError: it cannot be written.
    """
    clear(folder)
    folder.make(FOLDER)
    writer = _Writer(folder, batch, most)
    gather(writer.add)
    writer.flush()
    inputs = None if writer.hidden else writer.inputs
    plan = Plan(secrets.token_hex(8), detector, tuple(asked), base, batch, writer.chunks, inputs)
    folder.write(PLAN, json.dumps({"format": FORMAT, **dataclasses.asdict(plan)}, indent=2).encode("ascii"))
    return plan


def clear(folder: Folder) -> None:
    """Remove a plan and its results, and nothing else. What makes it whole goes first."""
    folder.remove(PLAN)
    for name in folder.names():
        if is_part(name):
            folder.remove(name)
    for name in folder.names(FOLDER):
        folder.remove(f"{FOLDER}/{name}")


def chunk(folder: Folder, number: int) -> Iterator[Item]:
    """The inputs of a chunk, in order.

    Raises:
        OutputError: it is not there.
    """
    content = folder.read(_chunk(number))
    if content is None:
        raise OutputError(f"{folder.place}: the plan lacks chunk {number}; run with --fresh to begin anew")
    for line in content.splitlines():
        match json.loads(line):
            case str(name):
                yield name
            case {"input": str(name), "error": {"kind": str(kind), "message": str(message)}}:
                yield Failure(name, kind, message)
            case {"tar": str(place)}:
                yield Tar(place)
            case {"table": str(place), "column": str(column), "groups": [int(a), int(b)], **more}:
                yield Rows(place, column, (a, b), int(str(more["first"])), int(str(more["count"])))
            case _:
                raise OutputError(f"{folder.place}: chunk {number} of the plan is damaged; run with --fresh")


class _Writer:
    """Fills chunks and writes them."""

    def __init__(self, folder: Folder, batch: int, most: int) -> None:
        self.chunks = self.inputs = 0
        self.hidden = False
        self._folder, self._batch, self._most = folder, batch, most
        self._lines: list[str] = []
        self._names = 0

    def add(self, item: Item) -> None:
        if isinstance(item, Tar | Rows):
            self.flush()
            self._lines.append(_line(item))
            self.flush()
            self.hidden |= isinstance(item, Tar)
            self.inputs += item.count if isinstance(item, Rows) else 0
            return
        self._lines.append(_line(item))
        self.inputs += 1
        self._names += isinstance(item, str)
        size = min(self._most, max(min(LEAST, self._most), self.inputs // _SHARE))
        # Failures take no place in a batch; a chunk of little else ends all the same.
        if len(self._lines) >= size and (self._names % self._batch == 0 or len(self._lines) >= 4 * size + self._batch):
            self.flush()

    def flush(self) -> None:
        if self._lines:
            self._folder.write(_chunk(self.chunks), "".join(self._lines).encode("ascii"))
            self.chunks += 1
            self._lines, self._names = [], 0


def _line(item: Item) -> str:
    told: Any = item
    if isinstance(item, Failure):
        told = item.to_dict()
    elif isinstance(item, Tar):
        told = {"tar": item.place}
    elif isinstance(item, Rows):
        told = {"table": item.place} | {name: getattr(item, name) for name in ("column", "groups", "first", "count")}
    # ASCII only: bytes of a file name that are no UTF-8 stay as \udcXX escapes.
    return json.dumps(told, ensure_ascii=True) + "\n"


def _chunk(number: int) -> str:
    return f"{FOLDER}/{number:06d}.jsonl"


def _parsed(folder: Folder, content: bytes) -> Plan:
    try:
        told = json.loads(content)
        if told.pop("format") != FORMAT:
            raise ValueError("it is of another format")
        return Plan(**told | {"asked": tuple(told["asked"])})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise OutputError(
            f"{folder.place}: {PLAN} is no plan of this assay ({error}); choose another --out, or --fresh"
        ) from error


def absolute(name: str, base: str) -> str:
    """A path as it is from anywhere; an address as it is."""
    return name if "://" in name else os.path.join(base, name)  # noqa: PTH118 (pathlib would rewrite it)
