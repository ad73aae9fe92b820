"""Samples as columns: what a data set of millions of rows is held in.

A row becomes a `Sample` only when somebody asks for it; everything that looks at all rows (checks, splits, counts)
looks at whole columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from assay.errors import ManifestError, unknown
from assay.types import Label, Sample

Text = npt.NDArray[Any]
"""A column of text, shape (rows,), NumPy's variable-width strings; empty where nothing is known."""

TEXT = np.dtypes.StringDType()

FIELDS = ("generator", "source", "subject", "video", "frame", "origin", "sha256", "split")
"""Columns beside path and label that are fields of a `Sample`; every other column is one of its groups."""

OWN = ("path", "label", *FIELDS)

UNKNOWN = -1
"""In `Table.labels`: not known."""

WORDS = {UNKNOWN: "", int(Label.REAL): "real", int(Label.FAKE): "fake"}

_BLOCK = 1 << 16


class Table(Sequence[Sample]):
    """Rows of a data set.

    Args:
        columns: text by column's name, "path" (the place of the picture) among them and "label" not; all of one
            length. Columns that are not there are empty.
        labels: (rows,), 0 real, 1 fake, -1 not known.
        row_numbers: (rows,), where each row stands in the file that it was read from (its header is row 1); counted
            from 2 where there is none.
        problems: what was wrong with rows that a lenient reading kept or dropped.
    """

    def __init__(
        self,
        columns: Mapping[str, Text],
        labels: npt.NDArray[np.int8],
        row_numbers: npt.NDArray[np.int64] | None = None,
        problems: Sequence[str] = (),
    ) -> None:
        self._columns = dict(columns)
        self.labels = labels
        self.row_numbers = np.arange(2, len(labels) + 2) if row_numbers is None else row_numbers
        self.problems = tuple(problems)

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> Table:
        """The same rows as columns; a table is given back as it is."""
        if isinstance(samples, Table):
            return samples
        blocks: list[tuple[dict[str, Text], npt.NDArray[np.int8]]] = []
        block: list[Sample] = []
        for sample in samples:
            block.append(sample)
            if len(block) == _BLOCK:
                blocks.append(_columns_of(block))
                block = []
        if block or not blocks:
            blocks.append(_columns_of(block))
        return cls.joined(
            [columns for columns, _ in blocks], np.concatenate([labels for _, labels in blocks]).astype(np.int8)
        )

    @classmethod
    def joined(
        cls,
        blocks: Sequence[Mapping[str, Text]],
        labels: npt.NDArray[np.int8],
        row_numbers: npt.NDArray[np.int64] | None = None,
    ) -> Table:
        """One table from blocks of columns, of which some may lack some."""
        names = dict.fromkeys(name for block in blocks for name in block)
        columns = {
            name: np.concatenate([block.get(name, _empty(len(block["path"]))) for block in blocks]) for name in names
        }
        return cls(columns, labels, row_numbers)

    def __len__(self) -> int:
        return len(self.labels)

    @overload
    def __getitem__(self, which: int | np.integer[Any]) -> Sample: ...
    @overload
    def __getitem__(self, which: slice | npt.NDArray[Any] | Sequence[int]) -> Table: ...
    def __getitem__(self, which: Any) -> Any:
        if isinstance(which, int | np.integer):
            row = range(len(self))[which]
            return self._sample({name: str(column[row]) for name, column in self._columns.items()}, self.labels[row])
        if isinstance(which, slice):
            which = np.arange(len(self))[which]
        which = np.asarray(which)
        if which.size == 0:
            which = which.astype(np.int64)
        columns = {name: column[which] for name, column in self._columns.items()}
        return Table(columns, self.labels[which], self.row_numbers[which])

    def __iter__(self) -> Iterator[Sample]:
        for start in range(0, len(self), _BLOCK):
            stop = start + _BLOCK
            names = tuple(self._columns)
            rows = zip(*(column[start:stop].tolist() for column in self._columns.values()), strict=True)
            for cells, label in zip(rows, self.labels[start:stop].tolist(), strict=True):
                yield self._sample(dict(zip(names, cells, strict=True)), label)

    def __repr__(self) -> str:
        return f"Table of {len(self)} rows: {', '.join(self.columns)}"

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that hold anything, label among them."""
        named = ["path", "label", *(name for name in self._columns if name != "path")]
        return tuple(name for name in named if name in ("path", "label") or bool((self._columns[name] != "").any()))

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the columns that are no fields of a sample."""
        return tuple(name for name in self._columns if name not in OWN)

    def column(self, name: str) -> Text:
        """Text of a column, (rows,); of "label": "real", "fake" or empty.

        Raises:
            ManifestError: no such column. One that a sample has as a field is empty where the file lacks it.
        """
        if name == "label":
            words = np.array(["real", "fake", ""], TEXT)
            return np.asarray(words[self.labels])
        if name in self._columns:
            return self._columns[name]
        if name not in OWN:
            raise ManifestError(unknown("column", name, {*OWN, *self._columns}))
        return _empty(len(self))

    def with_column(self, name: str, values: npt.ArrayLike) -> Table:
        """A copy with a column (not the label) put in place or added; `values` are text, (rows,)."""
        column = np.asarray(values).astype(TEXT)
        if column.shape != (len(self),):
            raise ValueError(f"{name} must have shape ({len(self)},), not {column.shape}")
        return Table(self._columns | {name: column}, self.labels, self.row_numbers, self.problems)

    def _sample(self, cells: dict[str, str], label: int) -> Sample:
        frame = cells.pop("frame", "")
        return Sample(
            place=cells.pop("path"),
            label=None if label < 0 else Label(label),
            frame=int(frame) if frame else None,
            generator=cells.pop("generator", ""),
            source=cells.pop("source", ""),
            subject=cells.pop("subject", ""),
            video=cells.pop("video", ""),
            origin=cells.pop("origin", ""),
            sha256=cells.pop("sha256", ""),
            split=cells.pop("split", ""),
            groups={name: cell for name, cell in cells.items() if cell},
        )


def distinct(cells: Text) -> tuple[Text, npt.NDArray[np.int64]]:
    """The texts of a column, sorted, each once; and the place of each cell among them, shape (cells,).

    Text is sorted nowhere else: only with `return_index` NumPy sorts it stably, and its other sort ends the process on
    some columns of a few hundred thousand texts (NumPy 2.4.6).
    """
    names, _, place = np.unique(cells, return_index=True, return_inverse=True)
    return names, place.astype(np.int64)


def among(cells: Text, values: Iterable[str]) -> npt.NDArray[np.bool_]:
    """Which cells of a column are one of `values`, shape (cells,)."""
    names, place = distinct(cells)
    wanted = set(values)
    return np.array([name in wanted for name in names.tolist()], np.bool_)[place]


def field(sample: Sample, name: str) -> str:
    """What a sample says under a column's name, as text; empty where it says nothing."""
    if name == "path":
        return sample.place
    if name == "label":
        return WORDS[UNKNOWN if sample.label is None else int(sample.label)]
    if name == "frame":
        return "" if sample.frame is None else str(sample.frame)
    if name in FIELDS:
        return str(getattr(sample, name))
    return sample.groups.get(name, "")


def _text(cells: list[str]) -> Text:
    try:
        return np.array(cells, TEXT)
    except UnicodeEncodeError as error:
        raise ManifestError(
            f"a name is not valid Unicode ({error.object[error.start :][:40]!r}); rename the file"
        ) from error


def _columns_of(samples: Sequence[Sample]) -> tuple[dict[str, Text], npt.NDArray[np.int8]]:
    """Columns that hold anything, and the labels."""
    groups = dict.fromkeys(name for sample in samples for name in sample.groups)
    clash = sorted(set(groups) & set(OWN))
    if clash:
        raise ManifestError(f"a group cannot be called {clash[0]!r}, which is a column of every manifest; rename it")
    columns = {"path": _text([sample.place for sample in samples])}
    for name in (*FIELDS, *groups):
        cells = [field(sample, name) for sample in samples]
        if name in groups or any(cells):
            columns[name] = _text(cells)
    labels = [UNKNOWN if sample.label is None else int(sample.label) for sample in samples]
    return columns, np.array(labels, np.int8)


def _empty(rows: int) -> Text:
    return np.zeros(rows, TEXT)


def concatenated(tables: Sequence[Table]) -> Table:
    """The rows of several tables, one after the other."""
    blocks = [{name: table.column(name) for name in ("path", *FIELDS, *table.groups)} for table in tables]
    return Table.joined(blocks, np.concatenate([table.labels for table in tables]))
