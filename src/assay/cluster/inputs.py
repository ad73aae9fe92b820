"""What the arguments of a scan on a cluster stand for.

Beside files, folders, patterns and "-", as `assay.judge.scan.expand` has them:

- an address of a file, a folder (`s3://bucket/photos/`) or, but for http, a pattern (`s3://bucket/**/*.jpg`);
- NAME.tar: the pictures and clips in it, as in WebDataset's shards;
- NAME.parquet: rows whose column holds pictures' bytes, or structs with `bytes`; or paths and addresses;
- NAME.csv: a manifest, or any table with a column of paths and addresses;
- NAME.txt: one path or address a line.

Each of these may be at a path or an address. Paths inside a table or a list are relative to its folder.
"""

from __future__ import annotations

import csv
import glob
import io
import os
import posixpath
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

import pyarrow
from pyarrow import parquet

from assay.cluster.plan import MOST, Item, Rows, Tar
from assay.cluster.storage import cannot, is_address, local, opened, system
from assay.errors import InputError, ManifestError, words
from assay.image.place import SEPARATOR
from assay.judge.scan import PICTURES, STDIN, VIDEOS, expand
from assay.judge.sink import Keys
from assay.types import Failure

COLUMNS = ("image", "bytes", "path", "url")
"""The column of a table that is taken where none is asked for: the first of these that it has."""

HOLDERS = (".tar", ".parquet", ".csv", ".txt")
"""Endings of files that hold inputs and are none. A folder's walk passes them over, as it does in an ordinary scan."""

_WEB = ("http://", "https://")
_CHUNK = 1 << 16

Add = Callable[[Item], None]


def gather(
    paths: Iterable[str | os.PathLike[str]],
    add: Add,
    *,
    column: str | None = None,
    stdin: BinaryIO | None = None,
    null: bool = False,
    rows: int = MOST,
) -> None:
    """Hand on everything that paths stand for, once and in a stable order.

    What cannot be read is handed on as a `Failure`. Memory grows by 16 bytes for each name that is not an entry of a
    folder, and with one listing of a folder or pattern at an address.

    Args:
        paths: see above.
        add: takes the items.
        column: of tables; None takes the first of `COLUMNS` that a table has.
        stdin: binary; needed where a path is "-".
        null: names on stdin are separated by NUL bytes instead of line ends.
        rows: most rows of a table in one item, unless a row group has more.

    Raises:
        ManifestError: a table has no such column, or one of another type.
        AssayError: kind "needs_extra": a kind of address needs a library that is not installed.
    """
    _Gatherer(add, column, stdin, null, rows).run(paths)


class _Gatherer:
    """One gathering. Names wait in a stack of iterators, so that what a list holds comes where the list stands; all
    paths go through one `expand`, which knows what came before."""

    def __init__(self, add: Add, column: str | None, stdin: BinaryIO | None, null: bool, rows: int) -> None:
        self._add, self._column, self._rows = add, column, rows
        self._stdin, self._null = stdin, null
        self._waiting: list[Iterator[str]] = []
        self._known = Keys()
        self._walked: set[str] = set()

    def run(self, paths: Iterable[str | os.PathLike[str]]) -> None:
        self._waiting.append(local(os.fspath(path)) for path in paths)
        for item in expand(self._names()):
            if isinstance(item, str) and _suffix(item) in HOLDERS:
                self._open(item)
            else:
                self._add(item)

    def _names(self) -> Iterator[str]:
        """Paths; addresses are dealt with on the way."""
        while self._waiting:
            name = next(self._waiting[-1], None)
            if name is None:
                self._waiting.pop()
            elif name == STDIN:
                self._waiting.append(self._from_stdin())
            elif is_address(name):
                self._address(name, outright=len(self._waiting) == 1)
            else:
                yield name

    def _from_stdin(self) -> Iterator[str]:
        if self._stdin is None:
            raise ValueError("a path is '-', but there is no stdin")
        return _listed(self._stdin, b"\0" if self._null else b"\n", "")

    # ── addresses ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _address(self, name: str, *, outright: bool) -> None:
        try:
            files, path = system(name)
            web = name.lower().startswith(_WEB)
            if not web and glob.has_magic(path) and not files.exists(path):
                self._pattern(name, files, path)
            elif not web and (name.endswith("/") or (outright and files.isdir(path))):
                self._folder(files, path)
            else:
                self._file(name, name if web else files.unstrip_protocol(path))
        except InputError as error:
            self._add(Failure(name, error.kind, str(error)))
        except OSError as error:
            self._add(_failure(name, error))

    def _pattern(self, name: str, files: Any, path: str) -> None:
        matches = sorted(files.glob(path))
        files.invalidate_cache()
        for match in matches:
            address = files.unstrip_protocol(match)
            self._file(address, address)
        if not matches:
            self._add(Failure(name, "missing", "nothing matches this pattern; check the address"))

    def _folder(self, files: Any, top: str) -> None:
        folders = [top.rstrip("/")]
        while folders:
            folder = folders.pop()
            place = files.unstrip_protocol(folder)
            if place in self._walked:
                continue
            self._walked.add(place)
            try:
                entries = sorted(files.ls(folder, detail=True), key=lambda entry: str(entry["name"]))
                files.invalidate_cache()  # else all listings are kept
            except OSError as error:
                self._add(_failure(place, error))
                continue
            below = []
            for entry in entries:
                path = entry["name"].rstrip("/")
                last = path.rpartition("/")[2]
                if path == folder or last.startswith("."):
                    continue
                if entry["type"] == "directory":
                    below.append(path)
                elif _suffix(last) in PICTURES | VIDEOS:
                    address = files.unstrip_protocol(path)
                    if not len(self._known) or address not in self._known:
                        self._add(address)
            folders += reversed(below)

    def _file(self, name: str, address: str) -> None:
        """A file at an address, once."""
        folder, _, last = address.rpartition("/")
        if address in self._known:
            return
        if folder in self._walked and _suffix(last) in PICTURES | VIDEOS and not last.startswith("."):
            return
        self._known.add(address)
        if _suffix(urllib.parse.urlsplit(name).path) in HOLDERS:
            self._open(name)
        else:
            self._add(name)

    # ── what holds inputs ────────────────────────────────────────────────────────────────────────────────────────────

    def _open(self, name: str) -> None:
        suffix = _suffix(urllib.parse.urlsplit(name).path if is_address(name) else name)
        if suffix == ".tar":
            self._add(Tar(name))
        elif suffix == ".txt":
            self._waiting.append(self._guarded(name, self._list(name)))
        elif suffix == ".csv":
            self._waiting.append(self._guarded(name, self._csv(name)))
        else:
            self._waiting.append(self._guarded(name, self._table(name)))

    def _guarded(self, name: str, names: Iterator[str]) -> Iterator[str]:
        """A list or table that breaks off is an input that failed; what it held until then stays."""
        try:
            yield from names
        except InputError as error:
            self._add(Failure(name, error.kind, str(error)))

    def _list(self, name: str) -> Iterator[str]:
        with opened(name, through=True) as file:
            yield from _listed(file, b"\n", name)

    def _csv(self, name: str) -> Iterator[str]:
        with opened(name) as file:
            lines = csv.DictReader(io.TextIOWrapper(file, "utf-8-sig", newline=""))
            try:
                column = self._chosen(name, lines.fieldnames or ())
                for cells in lines:
                    if cells[column]:
                        yield _beside(name, cells[column])
            except (csv.Error, UnicodeDecodeError) as error:
                raise InputError(f"no table ({error}); mend it, or fetch it again", kind="corrupt") from None

    def _table(self, name: str) -> Iterator[str]:
        with opened(name) as file:
            try:
                table = parquet.ParquetFile(file)
                schema = table.schema_arrow
                column = self._chosen(name, schema.names)
                if _holds_bytes(schema.field(column).type):
                    self._cells(name, table.metadata, column)
                    return
                if not _holds_text(schema.field(column).type):
                    raise ManifestError(
                        f"{name}: its column {column!r} holds {schema.field(column).type}, neither bytes nor paths; "
                        "name another with --column"
                    )
                for batch in table.iter_batches(batch_size=_CHUNK, columns=[column]):
                    yield from (_beside(name, cell) for cell in batch.column(0).to_pylist() if cell)
            except pyarrow.ArrowException as error:
                raise InputError(f"torn or no Parquet table ({words(error)}); fetch it again", kind="corrupt") from None

    def _cells(self, name: str, metadata: Any, column: str) -> None:
        """Row groups, small ones together: a row group is read whole by whoever judges some of it."""
        counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        begin = first = held = 0
        for group, count in enumerate(counts):
            if held and held + count > self._rows:
                self._add(Rows(name, column, (begin, group), first, held))
                begin, first, held = group, first + held, 0
            held += count
        if held:
            self._add(Rows(name, column, (begin, len(counts)), first, held))

    def _chosen(self, name: str, columns: Iterable[str]) -> str:
        there = list(columns)
        for column in (self._column,) if self._column else COLUMNS:
            if column in there:
                return column
        wanted = repr(self._column) if self._column else " or ".join(COLUMNS)
        raise ManifestError(f"{name}: no column {wanted}; it has {', '.join(there)}; name one with --column")


def _listed(file: Any, separator: bytes, where: str) -> Iterator[str]:
    """The names in a list, as it is read; those in a file are relative to its folder."""
    rest = b""
    read = getattr(file, "read1", file.read)
    while True:
        chunk = read(_CHUNK)
        *parts, rest = (rest + chunk).split(separator)
        if not chunk and rest:
            parts = [rest]
        for part in parts:
            name = os.fsdecode(part.rstrip(b"\r") if where else part)
            if name:
                # In a list it is a file of that name.
                yield _beside(where, f"./{name}" if name == STDIN else local(name))
        if not chunk:
            return


def _beside(where: str, name: str) -> str:
    """A name in a file as it is from outside."""
    name = local(name)
    if not where or is_address(name):
        return name
    if is_address(where):
        return f"{where.rpartition('/')[0]}/{name}" if not name.startswith("/") else name
    return os.path.join(os.path.dirname(where), name)  # noqa: PTH118, PTH120 (pathlib would rewrite it)


def _suffix(name: str) -> str:
    # What is inside an archive is an input, whatever it is called.
    return posixpath.splitext(name)[1].lower() if SEPARATOR not in name else ""


def _failure(name: str, error: OSError) -> Failure:
    told = cannot(error)
    return Failure(name, told.kind, str(told))


def _holds_bytes(kind: Any) -> bool:
    types = pyarrow.types
    if types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _holds_bytes(kind.field("bytes").type)
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind))


def _holds_text(kind: Any) -> bool:
    types = pyarrow.types
    if types.is_dictionary(kind):
        return _holds_text(kind.value_type)
    return bool(types.is_string(kind) or types.is_large_string(kind))
