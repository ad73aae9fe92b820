"""A chunk's results as a Parquet file, and back.

One row a result: what `Verdict.to_dict` and `Failure.to_dict` say, flattened. Names are those of the CSV that
`assay scan` writes; what is no single value is JSON. Text that UTF-8 cannot hold is written as it is there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow
from pyarrow import parquet

from assay.errors import InputError, words
from assay.judge.scan import Summary
from assay.judge.sink import Csv, Result, State
from assay.types import Failure

if TYPE_CHECKING:
    from assay.cluster.storage import Folder

_TEXT, _FLOAT, _INT = pyarrow.string(), pyarrow.float64(), pyarrow.int64()

SCHEMA = pyarrow.schema(
    [
        *((name, _TEXT) for name in ("input", "sha256", "verdict")),
        *((name, _FLOAT) for name in ("score", "threshold", "doubt_low", "doubt_high", "fpr")),
        *((name, _TEXT) for name in ("streams", "reasons")),
        *((name, _TEXT) for name in ("detector", "version", "detector_sha256", "detector_card", "head", "vote")),
        *((name, _INT) for name in ("width", "height")),
        *((name, _TEXT) for name in ("frames", "consistency", "tracks", "error_kind", "error_message")),
    ]
)
"""Columns of every part. `streams`, `reasons`, `frames`, `consistency` and `tracks` are JSON. What a result does not
have is null: a failure has `input`, `error_kind` and `error_message` alone."""

_JSON = ("streams", "reasons", "frames", "consistency", "tracks")
_SIGNATURE = {"name": "detector", "version": "version", "sha256": "detector_sha256", "card": "detector_card"}
_SIGNATURE |= {"head": "head", "vote": "vote"}
_NOTE = b"assay"
_ROWS = 256
_ESCAPED = re.compile(r"\\u[0-9a-f]{4}")
_ESCAPE = re.compile(r"\\(\\|u[0-9a-f]{4})")
_key = Csv().key


@dataclasses.dataclass(frozen=True, slots=True)
class Tally:
    """What a part holds.

    Args:
        plan: id of the plan it is of.
        chunk: its number.
        judged, failed: how many results of each kind.
        verdicts: how many of `judged` got each verdict.
    """

    plan: str
    chunk: int
    judged: int
    failed: int
    verdicts: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


class Part:
    """Takes a chunk's results; a sink. Some hundred rows are held as objects, the rest compressed."""

    def __init__(self) -> None:
        self._file = io.BytesIO()
        self._writer = parquet.ParquetWriter(self._file, SCHEMA, compression="zstd")
        self._rows: list[dict[str, Any]] = []

    def holds(self, name: str) -> State | None:
        return None

    def write(self, result: Result) -> None:
        self._rows.append(row(result))
        if len(self._rows) == _ROWS:
            self._flush()

    def close(self) -> None:
        self._writer.close()

    def finished(self, plan: str, chunk: int, summary: Summary) -> tuple[Tally, bytes]:
        """The whole file, with what it holds noted in its footer."""
        tally = Tally(plan, chunk, summary.judged, summary.failed, dict(summary.verdicts))
        self._flush()
        self._writer.add_key_value_metadata({_NOTE: json.dumps(tally.to_dict()).encode()})
        self._writer.close()
        return tally, self._file.getvalue()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pyarrow.Table.from_pylist(self._rows, SCHEMA))
            self._rows = []


def tally(folder: Folder, name: str) -> Tally | None:
    """What a part holds, by its footer; None where it is not there, or torn."""
    try:
        with folder.opened(name) as file:
            note = (parquet.read_metadata(file).metadata or {})[_NOTE]
        return Tally(**json.loads(note))
    except FileNotFoundError:
        return None
    except (pyarrow.ArrowException, ValueError, KeyError, TypeError):  # what a store that tears files may leave
        return None


def row(result: Result) -> dict[str, Any]:
    """A result as a row under `SCHEMA`."""
    told = result.to_dict()
    if isinstance(result, Failure):
        error = told["error"]
        return {"input": _key(result.input), "error_kind": error["kind"], "error_message": _key(error["message"])}
    cells: dict[str, Any] = {name: told[name] for name in ("sha256", "verdict", "score", "threshold", "fpr")}
    cells |= {"input": _key(told["input"]), "width": told["width"], "height": told["height"]}
    cells["doubt_low"], cells["doubt_high"] = told["doubt"]
    cells |= {_SIGNATURE[key]: value for key, value in told["detector"].items()}
    return cells | {name: json.dumps(told[name], allow_nan=False) for name in _JSON if name in told}


def result(cells: Mapping[str, Any]) -> dict[str, Any]:
    """What `to_dict` gave for the result that a row is of."""
    name = _plain(cells["input"])
    if cells["error_kind"] is not None:
        return {"input": name, "error": {"kind": cells["error_kind"], "message": _plain(cells["error_message"])}}
    told = {key: cells[key] for key in ("sha256", "verdict", "score", "threshold", "fpr", "width", "height")}
    told |= {"input": name, "doubt": [cells["doubt_low"], cells["doubt_high"]]}
    told |= {key: json.loads(cells[key]) for key in _JSON if cells[key] is not None}
    signature = {key: cells[column] for key, column in _SIGNATURE.items() if cells[column] is not None}
    return told | {"detector": signature}


def results(folder: Path) -> Iterator[dict[str, Any]]:
    """The results in a folder of parts, in the inputs' order, as `to_dict` gave them; of a scan that was stopped, those
    of the chunks that are done. Some hundred are held at a time.

    Raises:
        InputError: a part is torn, or is none.
    """
    for file in sorted(folder.glob("part-*.parquet")):
        try:
            with contextlib.closing(parquet.ParquetFile(file)) as table:
                for batch in table.iter_batches(batch_size=_ROWS, columns=SCHEMA.names):
                    yield from map(result, batch.to_pylist())
        except (pyarrow.ArrowException, OSError, ValueError, KeyError) as error:
            raise InputError(
                f"{file} is torn or no part of a scan ({words(error)}); run the scan again", kind="corrupt"
            ) from None


def _plain(text: str) -> str:
    """Text as it was before `Csv.key` made it fit for UTF-8."""
    if not _ESCAPED.search(text):
        return text
    return _ESCAPE.sub(lambda found: "\\" if found[1] == "\\" else chr(int(found[1][1:], 16)), text)
