"""A data set as a file: one row a picture, read whole and checked before any work starts.

A manifest is a CSV table (UTF-8, `.csv` or `.csv.gz`) whose first row names the columns, or a Parquet table
(`.parquet`, with the extra "data"):

| column | holds |
|---|---|
| `path` | the picture: a file, or an address inside an archive, relative to the manifest's folder (required) |
| `label` | `real` or `fake` (or `0`, `1`); empty where it is not known (required) |
| `generator` | what made a fake |
| `source` (or `source_repo`) | where it was collected |
| `subject` | who or what it shows; several joined by `+` |
| `video`, `frame` | the clip it is a frame of, and which, counted from 0 |
| `split` | `train`, `tune` (or `val`), `test`, or empty |
| `origin` | SHA-256 of the picture it was derived from; shared by its crops, re-encodings and degraded copies |
| `sha256` | SHA-256 of the file; also its origin where nothing else says it |

Every other column becomes one of the sample's `groups`. Without an `origin` column, `source_repo`, `commit` and
`source_path` together name the original.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from assay.data import faults
from assay.data.table import FIELDS, OWN, TEXT, UNKNOWN, Table, Text, among, distinct
from assay.errors import ManifestError, MissingExtra, OutputError, unknown
from assay.types import Label, Sample

LABELS = {"real": Label.REAL, "fake": Label.FAKE, "0": Label.REAL, "1": Label.FAKE, "": None}
SPLITS = {"train": "train", "tune": "tune", "val": "tune", "test": "test", "": ""}
SUFFIXES = (".csv", ".gz", ".parquet")

NAME = "manifest.csv"
"""What a manifest is called in a folder that was written with it."""

Block = tuple[dict[str, Text], npt.NDArray[np.int64]]
"""Columns of consecutive rows, and the rows' numbers."""

_SHOWN = 20
_BLOCK = 1 << 16


def read(path: str | os.PathLike[str], *, check: bool = True, strict: bool = True) -> Table:
    """Read a manifest, in the order of its rows.

    Args:
        path: a `.csv`, `.csv.gz` or `.parquet` file, or the folder of shards or of a derived set.
        check: also look at the files themselves: that each exists, and that no file of the training or tuning rows
            stands, byte for byte, among the test rows. Everything the table alone can tell is always checked.
        strict: refuse a table with any fault. Otherwise what can be read is kept (an unknown label or split as not
            known, a row without a path not at all), and `problems` of the table lists the faults.

    Returns:
        One sample a row; `place` is the file's path with the manifest's folder in front.

    Raises:
        ManifestError: the table cannot be read, or any row is at fault. `problems` lists every fault found, with its
            row; the header is row 1, as in a spreadsheet.
        MissingExtra: a Parquet table, without the extra "data".
    """
    file = Path(path)
    if (file / NAME).is_file():
        file /= NAME
    elif file.is_dir():
        raise ManifestError(
            f"{file}: a folder without a {NAME}; read the data set in it first: assay data read LAYOUT {file} --out "
            f"{NAME} (assay data layouts shows what can be read)"
        )
    problems: list[str] = []
    blocks, labels, numbers = [], [], []
    for columns, rows in _blocks(file, problems):
        kept, block, known = _settled(columns, rows, file.parent, problems, strict=strict)
        blocks.append(block)
        labels.append(known)
        numbers.append(rows[kept])
    if not blocks:
        problems.append("no rows under the header")
        raise _refusal(file, problems)
    table = Table.joined(blocks, np.concatenate(labels), np.concatenate(numbers))
    problems += faults.repeated_paths(table)
    for name in faults.HASHES:
        problems += faults.shared_across_splits(table, name)
    if check:
        problems += faults.of_files(table)
    if problems and strict:
        raise _refusal(file, problems)
    table.problems = tuple(problems)
    return table


def write(path: str | os.PathLike[str], samples: Iterable[Sample]) -> None:
    """Write a manifest that `read` gives back as the same samples; the suffix names the format, as there.

    Files below the manifest's folder are named relative to it, so that the folder can move; others by their absolute
    path. The file appears whole or not at all.

    Raises:
        ManifestError: a group has the name of one of the manifest's own columns, or a path is not valid Unicode.
        MissingExtra: a Parquet table, without the extra "data".
        OutputError: the file cannot be written (kind "disk").
    """
    file = Path(path)
    check_suffix(file)
    table = Table.of(samples)
    columns = {"path": _relative(table.column("path"), file.parent), "label": table.column("label")}
    columns |= {name: table.column(name) for name in (*FIELDS, *table.groups)}
    temporary = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix.lower() == ".parquet":
            pyarrow, parquet = _parquet()
            parquet.write_table(pyarrow.table(columns), temporary, compression="zstd")
        else:
            with temporary.open("wb") as raw:
                _write_csv(raw, columns, zipped=file.suffix.lower() == ".gz")
        temporary.replace(file)
    except OSError as error:
        raise _unwritable(file, error.strerror or str(error)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def ready(path: str | os.PathLike[str]) -> None:
    """Whether a manifest can be written there, told before the work that would be lost; makes its folder.

    Raises:
        ManifestError: the file's suffix names no format.
        MissingExtra: a Parquet table, without the extra "data".
        OutputError: the file cannot be written (kind "disk").
    """
    file = Path(path)
    check_suffix(file)
    if file.suffix.lower() == ".parquet":
        _parquet()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(file, error.strerror) from error
    if file.is_dir():
        raise _unwritable(file, "it is a folder")
    if not os.access(file.parent, os.W_OK | os.X_OK):
        raise _unwritable(file, "no permission")


def select(
    samples: Iterable[Sample],
    *,
    split: str | Collection[str] | None = None,
    label: Label | None = None,
    **groups: str | Collection[str],
) -> Table:
    """The samples for which everything named holds, in their order.

    Args:
        split: one split or several.
        label: a class; None takes all rows, those of unknown class too.
        groups: any column, each with the value or values wanted.

    Raises:
        ManifestError: there is no such column.
    """
    table = Table.of(samples)
    wanted = dict(groups) if split is None else {"split": split, **groups}
    kept = np.ones(len(table), np.bool_) if label is None else table.labels == int(label)
    for name, value in wanted.items():
        if len(table) and name not in (*OWN, *table.groups):
            raise ManifestError(unknown("column", name, {*OWN, *table.groups}))
        if len(table):
            kept &= among(table.column(name), [value] if isinstance(value, str) else value)
    return table[kept]


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def check_suffix(path: str | os.PathLike[str]) -> None:
    """Raises ManifestError where the file's suffix names no format that a manifest has."""
    file = Path(path)
    if file.suffix.lower() not in SUFFIXES:
        raise ManifestError(f"{file}: a manifest is a .csv, .csv.gz or .parquet file; export this table as one")


def _blocks(file: Path, problems: list[str]) -> Iterator[Block]:
    """The table's text, some thousand rows at a time."""
    check_suffix(file)
    try:
        if file.suffix.lower() == ".parquet":
            yield from _parquet_blocks(file)
        elif file.suffix.lower() == ".gz":
            with gzip.open(file, "rt", encoding="utf-8-sig", newline="") as lines:
                yield from _csv_blocks(file, lines, problems)
        else:
            with file.open(encoding="utf-8-sig", newline="") as lines:
                yield from _csv_blocks(file, lines, problems)
    except FileNotFoundError as error:
        raise ManifestError(f"{file}: no such manifest; check the path") from error
    except UnicodeDecodeError as error:
        raise ManifestError(f"{file}: not UTF-8 ({error.reason}); save the table as CSV in UTF-8") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ManifestError(f"{file}: the gzip file is torn or is none ({error}); make it again") from error
    except csv.Error as error:
        raise ManifestError(f"{file}: not a CSV table ({error}); check its quotes") from error
    except OSError as error:
        raise ManifestError(f"{file}: cannot be read ({error.strerror}); check the path and its permissions") from error


def _csv_blocks(file: Path, lines: IO[str], problems: list[str]) -> Iterator[Block]:
    reader = csv.reader(lines, strict=True)
    header = [name.strip() for name in next(reader, [])]
    if not header:
        raise ManifestError(f"{file}: the file is empty; its first row must name the columns path and label")
    _check_header(file, header)
    rows: list[list[str]] = []
    numbers: list[int] = []
    for number, line in enumerate(reader, start=2):
        if not line:
            continue
        if len(line) != len(header):
            problems.append(
                f"row {number}: {len(line)} fields under {len(header)} columns; quote fields that hold a comma"
            )
            continue
        rows.append(line)
        numbers.append(number)
        if len(rows) == _BLOCK:
            yield _block(header, rows), np.array(numbers)
            rows, numbers = [], []
    if rows or problems:
        yield _block(header, rows), np.array(numbers, np.int64)


def _block(header: Sequence[str], rows: list[list[str]]) -> dict[str, Text]:
    if not rows:
        return {name: np.zeros(0, TEXT) for name in header}
    columns = {name: np.array(cells, TEXT) for name, cells in zip(header, zip(*rows, strict=True), strict=True)}
    return {name: column if name == "path" else np.strings.strip(column) for name, column in columns.items()}


def _parquet_blocks(file: Path) -> Iterator[Block]:
    pyarrow, parquet = _parquet()
    try:
        with parquet.ParquetFile(file) as table:
            types = {name: table.schema_arrow.field(name).type for name in table.schema_arrow.names}
            _check_header(file, list(types))
            for name, kind in types.items():
                if (
                    pyarrow.types.is_nested(kind)
                    or pyarrow.types.is_binary(kind)
                    or pyarrow.types.is_large_binary(kind)
                ):
                    raise ManifestError(
                        f"{file}: column {name!r} holds {kind}, not text; a table with pictures inside is read by "
                        "`assay data read columns`"
                    )
            start = 2
            for batch in table.iter_batches(_BLOCK):
                columns = {name: _as_text(batch.column(name), pyarrow) for name in types}
                yield columns, np.arange(start, start + len(batch))
                start += len(batch)
    except pyarrow.ArrowInvalid as error:
        raise ManifestError(f"{file}: torn or no Parquet table ({str(error)[:100]}); write it again") from error


def _as_text(column: Any, pyarrow: Any) -> Text:
    if pyarrow.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pyarrow.types.is_boolean(column.type):
        column = column.cast(pyarrow.int8())
    cells = column.cast(pyarrow.string()).fill_null("")
    return np.strings.strip(cells.to_numpy(zero_copy_only=False).astype(TEXT))


def _parquet() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingExtra("a manifest in Parquet", "data") from None
    return pyarrow, parquet


def _check_header(file: Path, header: Sequence[str]) -> None:
    problems = [
        f"row 1: no column {name!r}; the header names: {', '.join(header)}"
        for name in ("path", "label")
        if name not in header
    ]
    problems += [
        f"row 1: column {name!r} stands there twice" for name in dict.fromkeys(header) if header.count(name) > 1
    ]
    if "path" not in header or "label" not in header:
        problems.append(
            "a table with other names is read by: assay data read columns TABLE --set path=COLUMN --set label=COLUMN "
            f"--out {NAME}"
        )
    if problems:
        raise _refusal(file, problems)


def _settled(
    columns: Mapping[str, Text], rows: Any, folder: Path, problems: list[str], *, strict: bool
) -> tuple[Any, dict[str, Text], Any]:
    """A block in our own words: which rows are kept, their columns, their labels; faults go to `problems`."""
    own = dict(columns)
    label = np.strings.lower(own.pop("label"))
    split = np.strings.lower(own.pop("split", np.zeros(len(label), TEXT)))
    found = {
        "path": faults.of_paths(own["path"]),
        "label": faults.of_values("label", label, LABELS),
        "split": faults.of_values("split", split, SPLITS),
        "frame": faults.of_frames(own["frame"]) if "frame" in own else {},
        **{name: faults.of_hash(name, own[name]) for name in faults.HASHES if name in own},
    }
    problems += [
        f"row {rows[i]}: {told}" for i, told in sorted((i, told) for part in found.values() for i, told in part.items())
    ]
    for name in ("frame", *faults.HASHES):
        if found.get(name):
            own[name] = own[name].copy()
            own[name][list(found[name])] = ""
    numbers = {word: UNKNOWN if value is None else int(value) for word, value in LABELS.items()}
    labels = _mapped(label, numbers, UNKNOWN, np.int8)
    own["split"] = _mapped(split, SPLITS, "", TEXT)
    digest = np.strings.lower(own["sha256"]) if "sha256" in own else np.zeros(len(label), TEXT)
    if "sha256" in own:
        own["sha256"] = digest
    origin = np.strings.lower(own["origin"]) if "origin" in own else _origins(own)
    own["origin"] = np.where(origin == "", digest, origin)
    if "source" not in own and "source_repo" in own:
        own["source"] = own.pop("source_repo")
    own["path"] = _placed(own["path"], folder)
    kept = np.ones(len(label), np.bool_)
    # A row at fault would only cause faults that follow from it; a lenient reading keeps what names a file.
    kept[list(set().union(*found.values()) if strict else found["path"])] = False
    return kept, {name: column[kept] for name, column in own.items()}, labels[kept]


def _mapped(column: Text, values: Mapping[str, Any], otherwise: Any, dtype: Any) -> Any:
    words, places = distinct(column)
    return np.array([values.get(str(word), otherwise) for word in words], dtype)[places]


def _origins(columns: Mapping[str, Text]) -> Text:
    """The identity of an original that is named by repository, commit and path, so that two crops of it share it."""
    rows = len(columns["path"])
    named = [columns.get(name) for name in ("source_repo", "commit", "source_path")]
    if any(column is None for column in named):
        return np.zeros(rows, TEXT)
    return np.array(
        [
            hashlib.sha256("{}@{}:{}".format(*parts).encode()).hexdigest() if all(parts) else ""
            for parts in zip(*(column.tolist() for column in named if column is not None), strict=True)
        ],
        TEXT,
    )


def _placed(paths: Text, folder: Path) -> Text:
    """Paths with the manifest's folder in front, as pathlib would write them."""
    plain = np.strings.find(paths, "./") < 0
    plain &= ~np.strings.startswith(paths, "/") & (np.strings.find(paths, "//") < 0) & ~np.strings.endswith(paths, "/")
    front = f"{folder}/" if str(folder) != "." else ""
    placed = np.strings.add(front, paths) if front else paths.copy()
    for row in np.flatnonzero(~plain if os.sep == "/" else np.ones(len(paths), np.bool_)):
        placed[row] = str(folder / str(paths[row]))
    return np.asarray(placed, TEXT)


# ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _write_csv(raw: IO[bytes], columns: Mapping[str, Text], *, zipped: bool) -> None:
    with contextlib.ExitStack() as stack:
        # No name and no time of writing inside: the same rows give the same bytes.
        out: Any = stack.enter_context(gzip.GzipFile("", "wb", 6, raw, mtime=0)) if zipped else raw
        text = stack.enter_context(io.TextIOWrapper(out, encoding="utf-8", newline="", write_through=False))
        # RFC 4180's line ends, because the csv module quotes a stray \r or \n only where the line end holds it.
        writer = csv.writer(text, lineterminator="\r\n")
        writer.writerow(columns)
        for start in range(0, len(columns["path"]), _BLOCK):
            cells = (column[start : start + _BLOCK].tolist() for column in columns.values())
            writer.writerows(zip(*cells, strict=True))


def _relative(paths: Text, folder: Path) -> Text:
    """Paths as a manifest in `folder` names them."""
    front = f"{folder}/"
    told = np.zeros(len(paths), TEXT)
    inside = np.strings.startswith(paths, front) & (np.strings.find(paths, "./") < 0)
    told[inside] = np.strings.slice(paths[inside], len(front), None)
    resolved = folder.resolve()
    for row in np.flatnonzero(~inside):
        told[row] = _one_relative(Path(str(paths[row])), folder, resolved)
    return told


def _one_relative(path: Path, folder: Path, resolved: Path) -> str:
    with contextlib.suppress(ValueError):
        return path.relative_to(folder).as_posix()
    with contextlib.suppress(ValueError):
        return path.resolve().relative_to(resolved).as_posix()
    return str(path.resolve())


def _unwritable(file: Path, why: str | None) -> OutputError:
    advice = "make room, or name a file in a folder that can be written to"
    return OutputError(f"{file}: cannot be written ({why}); {advice}", kind="disk")


def _refusal(file: Path, problems: Sequence[str]) -> ManifestError:
    shown = "\n".join(f"  {problem}" for problem in problems[:_SHOWN])
    more = len(problems) - _SHOWN
    rest = f"\n  … and {more} more" if more > 0 else ""
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return ManifestError(f"{file}: {count}; nothing was done. Mend the rows and run again:\n{shown}{rest}", problems)
