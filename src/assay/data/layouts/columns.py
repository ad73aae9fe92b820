"""Tables of pictures: CSV, TSV or Parquet with named columns, one row a picture.

*Ours*, for the many data sets that come as a table, and for those of the Hugging Face Hub, whose Parquet files hold
the pictures themselves (a column of bytes, or of structs with a field `bytes`): a cell is then the sample's place.

- **Which column is what** is said by options; without them, columns of the names below are taken where they exist.
- **Label**: words and numbers are told by the options `real` and `fake` (values joined by commas), else: real, false
  and 0 are real, fake, true and 1 are fake, with the synonyms of `assay.data.layouts.CLASSES`. In a column whose name
  says real (`is_real`), 1 and true are real. Where a Parquet file carries class names (the Hub's `ClassLabel`), they
  decide and not the numbers: a table with the names fake, real has 0 = fake. An empty cell is an unknown label. Any
  other value is refused before the first row, with all of them listed: none is guessed.
- **Split**: train, val, valid, validation, dev, test. Without such a column, the name of a Parquet file that holds
  pictures says the split where the Hub gave it (`train-00000-of-00007.parquet`).
- **Every other column** of text, numbers or dates becomes a group; a group that would bear the name of a manifest's own
  column gets `table_` in front.

Parquet is read in batches and without the pictures' bytes, so that the size of a file does not matter.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

from assay.data.layouts import CLASSES, SPLITS, Layout, LeftOut, files, told
from assay.errors import LayoutError, MissingExtra, unknown, words
from assay.image import place
from assay.types import Label, Sample

TABLES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet")

PATHS = ("path", "file", "filename", "file_name", "filepath", "file_path", "image_path", "img_path", "image", "img")
LABELS = ("label", "labels", "class", "target", "is_fake", "fake", "is_real", "real")
NONE = "none"
"""Value of the option `label` for a table without labels."""

_OWN = ("path", "label", "generator", "source", "subject", "video", "frame", "origin", "sha256", "split")
_HASH = re.compile(r"[0-9a-f]{64}\Z")
_IS = re.compile(r"is[_ -]?", re.IGNORECASE)
_NUMBER = re.compile(r"(-?\d+)\.0+\Z")
_ROWS = 4096
"""Rows of a Parquet file that are held at a time."""


class _Table(Protocol):
    """A table that can be gone through more than once."""

    place: Path
    names: Sequence[str]
    """Columns with text, numbers or dates in them."""
    pictures: Sequence[str]
    """Columns with pictures in them."""
    classes: Mapping[str, Sequence[str]]
    """Names of the classes 0, 1, … of columns that have such names."""

    def rows(self, names: Sequence[str], picture: str) -> Iterator[tuple[str, dict[str, str] | None]]:
        """Name of each row and its cells, None where it cannot be taken for one. Of the column `picture` only "" for an
        empty cell and "1" for another is given."""


def read(
    table: Path,
    /,
    *,
    path: str = "",
    label: str = "",
    real: str = "",
    fake: str = "",
    split: str = "",
    generator: str = "",
    source: str = "",
    subject: str = "",
    video: str = "",
    root: str = "",
) -> Iterator[Sample | LeftOut]:
    """Samples of all rows of a table, or of all tables below a folder.

    Raises:
        LayoutError: the table cannot be read, a column that is needed or named is not there, or a label or split has a
            value that cannot be told.
        MissingExtra: Parquet without the extra "data".
    """
    options = {
        "path": path,
        "label": label,
        "split": split,
        "generator": generator,
        "source": source,
        "subject": subject,
        "video": video,
    }
    values = _values(real, fake)
    found = [entry for entry in files(table) if entry.name.lower().endswith(TABLES)]
    if not found:
        raise LAYOUT.mismatch(table, "there is no table in it")
    for entry in found:
        opened: _Table = _Parquet(entry) if entry.suffix.lower() == ".parquet" else _Text(entry)
        columns = _columns(opened, {name: value for name, value in options.items() if value})
        meanings = _meanings(opened, columns, values)
        yield from _samples(opened, columns, meanings, Path(root) if root else entry.parent)


def _values(real: str, fake: str) -> dict[str, Label]:
    """Values that the options give a class, in lower case."""
    given = {Label.REAL: _list(real), Label.FAKE: _list(fake)}
    both = sorted(set(given[Label.REAL]) & set(given[Label.FAKE]))
    if both:
        raise LayoutError(f"real= and fake= both name the value {both[0]!r}; give it to one of them")
    return {value: label for label, values in given.items() for value in values}


def _list(text: str) -> list[str]:
    return [_plain(value) for value in text.split(",") if value.strip()]


def _plain(value: str) -> str:
    """A label's value without case, blanks and the ".0" that a numeric column with gaps gets."""
    return _NUMBER.sub(r"\1", value.strip().lower())


def _columns(table: _Table, said: Mapping[str, str]) -> dict[str, str]:
    """The column of each of our fields. Options name columns that must be there; the rest goes by name."""
    for option, column in said.items():
        known = [*table.names, *(table.pictures if option == "path" else ())]
        if column not in known and (option, column) != ("label", NONE):
            raise LAYOUT.mismatch(table.place, f"{option}={column}: {unknown('column', column, known)}")
    columns = {field: field for field in _OWN if field in table.names and field not in ("path", "label")}
    if table.pictures:
        columns["path"] = table.pictures[0]
    elif candidates := [name for name in PATHS if name in table.names]:
        columns["path"] = candidates[0]
    if candidates := [name for name in LABELS if name in table.names]:
        columns["label"] = candidates[0]
    columns.update(said)
    for field in ("path", "label"):
        if field not in columns:
            more = f", or {field}={NONE} where no row has one" if field == "label" else ""
            raise LAYOUT.mismatch(
                table.place,
                f"no column is known to hold the {field}; say {field}=COLUMN{more} (of {', '.join(table.names)})",
            )
    if columns["label"] == NONE:
        del columns["label"]
    return columns


def _meanings(table: _Table, columns: Mapping[str, str], values: Mapping[str, Label]) -> dict[str, dict[str, Any]]:
    """What each value of the label and the split means, after a look at all of them."""
    wanted = [columns[field] for field in ("label", "split") if field in columns]
    counts: dict[str, Counter[str]] = {name: Counter() for name in wanted}
    for _, cells in table.rows(wanted, "") if wanted else ():
        if cells is not None:
            for name in wanted:
                counts[name][_plain(cells[name])] += 1
    meanings: dict[str, dict[str, Any]] = {}
    if "label" in columns:
        name = columns["label"]
        labels: dict[str, Any] = {
            value: _label_of(value, name, table.classes.get(name, ()), values) for value in counts[name]
        }
        # The Hub's library writes −1 where a test set's class is not told.
        known = {**labels, "-1": Label.REAL} if name in table.classes else labels
        _refuse_others(table, name, counts[name], known, "say which is which by real=VALUES and fake=VALUES")
        meanings["label"] = labels
    if "split" in columns:
        name = columns["split"]
        splits = {value: SPLITS.get(value) for value in counts[name]}
        _refuse_others(table, name, counts[name], splits, f"write {', '.join(SPLITS)} there, or leave the cell empty")
        meanings["split"] = splits
    return meanings


def _label_of(value: str, column: str, classes: Sequence[str], values: Mapping[str, Label]) -> Label | None:
    name = classes[int(value)] if value.isdecimal() and int(value) < len(classes) else value
    if values:
        return values.get(value, values.get(_plain(name)))
    if name in ("0", "1", "true", "false"):
        fake = Label(name in ("1", "true"))
        return Label(1 - fake) if told(_IS.sub("", column))[1] is Label.REAL else fake
    return CLASSES.get(name.lower(), told(name)[1])


def _refuse_others(table: _Table, column: str, counts: Counter[str], meaning: Mapping[str, Any], advice: str) -> None:
    others = [value for value, _ in counts.most_common() if value and meaning[value] is None]
    if others:
        names = {str(number): f" = {name}" for number, name in enumerate(table.classes.get(column, ()))}
        shown = ", ".join(f"{value!r}{names.get(value, '')} ({counts[value]} rows)" for value in others[:10])
        more = f" and {len(others) - 10} others" if len(others) > 10 else ""
        raise LAYOUT.mismatch(table.place, f"column {column} holds values that are not known: {shown}{more}; {advice}")


def _samples(
    table: _Table, columns: Mapping[str, str], meanings: Mapping[str, Mapping[str, Any]], folder: Path
) -> Iterator[Sample | LeftOut]:
    embedded = columns["path"] if columns["path"] in table.pictures else ""
    groups = {name: _group_name(name) for name in table.names if name not in columns.values()}
    split_of_file = told(table.place.name.split("-")[0])[0] if embedded else ""
    for row, cells in table.rows(table.names, embedded):
        if cells is None:
            yield LeftOut(row, "the row has another number of fields than the header")
            continue
        found, why = _place(table, row, cells[columns["path"]], embedded, folder)
        if why:
            yield LeftOut(row, why)
            continue
        said = {field: cells[column].strip() for field, column in columns.items() if column != embedded}
        extra = {ours: cells[name].strip() for name, ours in groups.items()}
        for field in ("origin", "sha256"):
            if said.get(field) and not _HASH.match(said[field].lower()):
                extra[_group_name(field)] = said.pop(field)
        if said.get("frame") and not said["frame"].isdecimal():
            extra[_group_name("frame")] = said.pop("frame")
        label = meanings["label"].get(_plain(said["label"])) if "label" in said else None
        yield Sample(
            place=found,
            label=label,
            generator=said.get("generator", "") if label is not Label.REAL else "",
            source=said.get("source", ""),
            subject=said.get("subject", ""),
            video=said.get("video", ""),
            frame=int(said["frame"]) if said.get("frame") else None,
            origin=said.get("origin", "").lower(),
            sha256=said.get("sha256", "").lower(),
            split=(meanings["split"].get(_plain(said["split"])) or "") if "split" in said else split_of_file,
            groups=extra,
        )


def _group_name(column: str) -> str:
    return f"table_{column}" if column in _OWN else column


def _place(table: _Table, row: str, cell: str, embedded: str, folder: Path) -> tuple[str, str]:
    """Where the row's picture is, or why there is none."""
    if not cell:
        return "", "the row has no picture"
    if embedded:
        return f"{row}/{embedded}", ""
    if "://" in cell:
        return "", "a URL, not a file; download the pictures and put their paths in the table"
    found = str(folder / cell)
    try:
        here = Path(place.split(found)[0]).is_file()
    except ValueError:  # a NUL
        here = False
    return (found, "") if here else ("", "no such file; say root=FOLDER, which the paths start from")


class _Text:
    """A CSV or TSV file, plain or gzipped, in UTF-8."""

    def __init__(self, entry: Path) -> None:
        self.place = entry
        self.pictures: Sequence[str] = ()
        self.classes: Mapping[str, Sequence[str]] = {}
        with self._lines() as lines:
            self.names: Sequence[str] = [name.strip() for name in next(lines, (1, []))[1]]
        twice = [name for name, count in Counter(self.names).items() if count > 1]
        if not self.names or twice:
            what = f"the column {twice[0]!r} stands there twice" if twice else "the file is empty"
            raise LAYOUT.mismatch(entry, what)

    def rows(self, names: Sequence[str], picture: str) -> Iterator[tuple[str, dict[str, str] | None]]:
        with self._lines() as lines:
            next(lines, None)
            for number, line in lines:
                row = place.join(self.place, f"line {number}")
                whole = len(line) == len(self.names)
                yield row, dict(zip(self.names, line, strict=True)) if whole else None

    @contextlib.contextmanager
    def _lines(self) -> Iterator[Iterator[tuple[int, list[str]]]]:
        """Lines that are not blank, each with the number of the line it ends in."""
        try:
            with self._open() as file:
                first = file.readline()
                file.seek(0)
                reader = csv.reader(file, delimiter=max("\t;,", key=first.count), strict=True)
                yield ((reader.line_num, line) for line in reader if line)
        except UnicodeDecodeError as error:
            raise LAYOUT.mismatch(self.place, f"not UTF-8 at byte {error.start}; save the table in UTF-8") from None
        except csv.Error as error:
            raise LAYOUT.mismatch(self.place, f"not a table ({error}); check its quotes") from None
        except (OSError, EOFError, zlib.error) as error:
            raise LAYOUT.mismatch(self.place, f"it cannot be read ({error}); fetch it again") from None

    def _open(self) -> IO[str]:
        if self.place.suffix.lower() == ".gz":
            return gzip.open(self.place, "rt", encoding="utf-8-sig", newline="")
        return self.place.open(encoding="utf-8-sig", newline="")


class _Parquet:
    """A Parquet file, whose pictures stay where they are."""

    def __init__(self, entry: Path) -> None:
        self.place = entry
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise MissingExtra("reading Parquet tables", "data") from None
        try:
            self._file = pyarrow.parquet.ParquetFile(entry)
        except (OSError, pyarrow.ArrowException) as error:
            raise self._torn(error) from None
        types = pyarrow.types
        schema = self._file.schema_arrow
        self.names: Sequence[str] = [
            field.name for field in schema if not types.is_nested(field.type) and not _is_bytes(field.type)
        ]
        self.pictures: Sequence[str] = [field.name for field in schema if _holds_bytes(field.type)]
        self._other = {  # a field beside the bytes, which tells an empty cell without reading pictures
            field.name: f"{field.name}.{child.name}"
            for field in schema
            if types.is_struct(field.type)
            for child in field.type
            if not _is_bytes(child.type) and not types.is_nested(child.type)
        }
        self.classes: Mapping[str, Sequence[str]] = _class_names(schema.metadata or {})

    def rows(self, names: Sequence[str], picture: str) -> Iterator[tuple[str, dict[str, str] | None]]:
        from pyarrow import ArrowException

        leaves = [*names, *([self._other[picture]] if picture in self._other else [])]
        first = 0
        batches = self._file.iter_batches(batch_size=_ROWS, columns=leaves)
        while True:
            try:
                batch = next(batches, None)
            except (OSError, ArrowException) as error:
                raise self._torn(error) from None
            if batch is None:
                return
            columns = {name: _texts(batch.column(name)) for name in names}
            if picture:
                there = [True] * batch.num_rows
                if picture in self._other:
                    there = batch.column(picture).is_valid().to_pylist()
                columns[picture] = ["1" if one else "" for one in there]
            for index in range(batch.num_rows):
                row = place.join(self.place, str(first + index))
                yield row, {name: column[index] for name, column in columns.items()}
            first += batch.num_rows

    def _torn(self, error: Exception) -> LayoutError:
        return LAYOUT.mismatch(self.place, f"it is torn or no Parquet table ({words(error)}); fetch it again")


def _is_bytes(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind))


def _holds_bytes(kind: Any) -> bool:
    from pyarrow import types

    return _is_bytes(kind) or (types.is_struct(kind) and any(c.name == "bytes" and _is_bytes(c.type) for c in kind))


def _texts(column: Any) -> list[str]:
    return ["" if value is None else str(value) for value in column.to_pylist()]


def _class_names(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """Names of the classes, as the Hub's library writes them into a Parquet file's schema."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return {
            column: [str(name) for name in feature["names"]]
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (KeyError, TypeError, AttributeError, ValueError):
        return {}


LAYOUT = Layout(
    name="columns",
    summary="a CSV, TSV or Parquet table with named columns; pictures by path, or inside the Parquet file",
    shape=f"""a file {", ".join(TABLES)} with one row a picture, or a folder of such files
  path: a column called {", ".join(PATHS[:4])}, … (or path=COLUMN), or a Parquet column of bytes
  label: a column called {", ".join(LABELS[:4])}, … (or label=COLUMN)""",
    source="ours; Parquet of the Hub as in huggingface/datasets (Image: a struct of bytes and path; ClassLabel: names)",
    read=read,
    options={
        "path": "column of the pictures' paths, or of the pictures",
        "label": f"column of the labels; {NONE} where there is none",
        "real": "values of the label that mean real, joined by commas",
        "fake": "values of the label that mean fake, joined by commas",
        "split": "column of the split",
        "generator": "column of what made a fake",
        "source": "column of where a picture was collected",
        "subject": "column of who or what it shows",
        "video": "column of the clip it is a frame of",
        "root": "folder that the paths start from; the table's own where it is not said",
    },
)
