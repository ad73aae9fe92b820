"""A data set as a table: one row a picture, read whole and checked before any work starts.

A manifest is a CSV file (UTF-8, `.csv` or `.csv.gz`) whose first row names the columns:

| column | holds |
|---|---|
| `path` | the picture's file, relative to the manifest's folder (required) |
| `label` | `real` or `fake` (or `0`, `1`); empty where it is not known (required) |
| `generator` | what made a fake |
| `source` (or `source_repo`) | where it was collected |
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
import re
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from assay.errors import ManifestError, unknown
from assay.types import Label, Sample

LABELS = {"real": Label.REAL, "fake": Label.FAKE, "0": Label.REAL, "1": Label.FAKE, "": None}
SPLITS = {"train": "train", "tune": "tune", "val": "tune", "test": "test", "": ""}
OWN = ("path", "label", "generator", "source", "origin", "split")

_HASH = re.compile(r"[0-9a-fA-F]{64}\Z")
_SHOWN = 20
_HEAD = 4096


def read(path: str | os.PathLike[str], *, check: bool = True) -> list[Sample]:
    """Read a manifest, in the order of its rows.

    Args:
        path: a `.csv` or `.csv.gz` file.
        check: also look at the files themselves: that each exists, and that no file of the training or tuning rows
            stands, byte for byte, among the test rows. Everything the table alone can tell is always checked.

    Returns:
        One sample a row; `place` is the file's path with the manifest's folder in front.

    Raises:
        ManifestError: the table cannot be read, or any row is at fault. `problems` lists every fault found, with its
            row; the header is row 1, as in a spreadsheet.
    """
    table = Path(path)
    header, lines = _table(table)
    problems = _header_problems(header)
    if problems:
        raise _refusal(table, problems)
    numbered: list[tuple[int, Sample]] = []
    for row, line in lines:
        if len(line) != len(header):
            problems.append(
                f"row {row}: {len(line)} fields under {len(header)} columns; quote fields that hold a comma"
            )
            continue
        cells = dict(
            zip(
                header,
                (cell.strip() if name != "path" else cell for name, cell in zip(header, line, strict=True)),
                strict=True,
            )
        )
        sample = _sample(cells, table.parent, row, problems)
        if sample is not None:
            numbered.append((row, sample))
    if not lines:
        problems.append("no rows under the header")
    problems += _repeated_paths(numbered)
    problems += _shared_across_splits(numbered, "origin", lambda sample: sample.origin)
    problems += _shared_across_splits(numbered, "sha256", lambda sample: sample.groups.get("sha256", ""))
    if check:
        problems += _file_problems(numbered)
    if problems:
        raise _refusal(table, problems)
    return [sample for _, sample in numbered]


def write(path: str | os.PathLike[str], samples: Iterable[Sample]) -> None:
    """Write a manifest that `read` gives back as the same samples.

    Files below the manifest's folder are named relative to it, so that the folder can move; others by their absolute
    path. The file appears whole or not at all.

    Raises:
        ManifestError: a group has the name of one of the manifest's own columns, or a path is not valid Unicode.
    """
    table = Path(path)
    rows = list(samples)
    extra = list(dict.fromkeys(name for sample in rows for name in sample.groups))
    clash = sorted(set(extra) & set(OWN))
    if clash:
        raise ManifestError(f"a group cannot be called {clash[0]!r}, which is a column of every manifest; rename it")
    text = io.StringIO(newline="")
    # RFC 4180's line ends, because the csv module quotes a stray \r or \n only where the line end holds it.
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow([*OWN, *extra])
    for sample in rows:
        label = "" if sample.label is None else sample.label.name.lower()
        place = _relative(Path(sample.place), table.parent)
        own = [place, label, sample.generator, sample.source, sample.origin, sample.split]
        writer.writerow([*own, *(sample.groups.get(name, "") for name in extra)])
    try:
        data = text.getvalue().encode()
    except UnicodeEncodeError as error:
        raise ManifestError(
            f"{table}: a name is not valid Unicode ({error.object[error.start :][:40]!r}); rename the file"
        ) from error
    if table.suffix == ".gz":
        data = gzip.compress(data, mtime=0)
    table.parent.mkdir(parents=True, exist_ok=True)
    temporary = table.with_name(f".{table.name}.{os.getpid()}.part")
    try:
        temporary.write_bytes(data)
        temporary.replace(table)
    finally:
        temporary.unlink(missing_ok=True)


def select(
    samples: Sequence[Sample],
    *,
    split: str | Collection[str] | None = None,
    label: Label | None = None,
    **groups: str | Collection[str],
) -> list[Sample]:
    """The samples for which everything named holds, in their order.

    Args:
        split: one split or several.
        label: a class; None takes all rows, those of unknown class too.
        groups: `generator`, `source`, `origin` or any group, each with the value or values wanted.

    Raises:
        ManifestError: no sample has a group of that name.
    """
    known = {"generator", "source", "origin"}.union(*(sample.groups for sample in samples))
    for name in groups:
        if samples and name not in known:
            raise ManifestError(unknown("group", name, known))
    wanted = {name: _values(value) for name, value in groups.items()}
    if split is not None:
        wanted["split"] = _values(split)
    return [
        sample
        for sample in samples
        if (label is None or sample.label == label)
        and all(field(sample, name) in values for name, values in wanted.items())
    ]


def field(sample: Sample, name: str) -> str:
    """What a sample says under a column's name: `generator`, `source`, `origin`, `split` or a group; else empty."""
    if name in ("generator", "source", "origin", "split"):
        return str(getattr(sample, name))
    return sample.groups.get(name, "")


def _values(value: str | Collection[str]) -> frozenset[str]:
    return frozenset([value] if isinstance(value, str) else value)


def _table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header and the rows that are not blank, each with its number (the header's is 1)."""
    if path.suffix.lower() not in (".csv", ".gz"):
        raise ManifestError(f"{path}: a manifest is a .csv or .csv.gz file; export this table as CSV")
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix.lower() == ".gz" else data).decode("utf-8-sig")
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except FileNotFoundError as error:
        raise ManifestError(f"{path}: no such manifest; check the path") from error
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: not UTF-8 at byte {error.start}; save the table as CSV in UTF-8") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ManifestError(f"{path}: the gzip file is torn or is none ({error}); make it again") from error
    except csv.Error as error:
        raise ManifestError(f"{path}: not a CSV table ({error}); check its quotes") from error
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error
    if not rows:
        raise ManifestError(f"{path}: the file is empty; its first row must name the columns path and label")
    header = [name.strip() for name in rows[0]]
    return header, [(row, line) for row, line in enumerate(rows[1:], start=2) if line]


def _header_problems(header: Sequence[str]) -> list[str]:
    problems = [
        f"row 1: no column {name!r}; the header names: {', '.join(header)}"
        for name in ("path", "label")
        if name not in header
    ]
    problems += [
        f"row 1: column {name!r} stands there twice" for name in dict.fromkeys(header) if header.count(name) > 1
    ]
    return problems


def _sample(cells: Mapping[str, str], folder: Path, row: int, problems: list[str]) -> Sample | None:
    """A row as a sample; what is wrong with it goes to `problems`."""
    before = len(problems)
    groups = dict(cells)
    place = groups.pop("path")
    label = groups.pop("label").lower()
    split = groups.pop("split", "").lower()
    if not place:
        problems.append(f"row {row}: no path")
    if "\0" in place:
        problems.append(f"row {row}: the path holds a NUL byte")
    if label not in LABELS:
        problems.append(f"row {row}: {unknown('label', label, ('real', 'fake', '0', '1'))}")
    if split not in SPLITS:
        problems.append(f"row {row}: {unknown('split', split, ('train', 'tune', 'val', 'test'))}")
    for name in ("origin", "sha256"):
        if groups.get(name) and not _HASH.match(groups[name]):
            problems.append(f"row {row}: {name} must be 64 hexadecimal digits, not {groups[name]!r}")
    origin = groups.pop("origin").lower() if "origin" in groups else _origin_of(groups)
    origin = origin or groups.get("sha256", "").lower()
    source = groups.pop("source") if "source" in groups else groups.pop("source_repo", "")
    if len(problems) > before:
        return None
    return Sample(
        place=str(folder / place),
        label=LABELS[label],
        generator=groups.pop("generator", ""),
        source=source,
        origin=origin,
        split=SPLITS[split],
        groups=groups,
    )


def _origin_of(cells: Mapping[str, str]) -> str:
    """The identity of an original that is named by repository, commit and path, so that two crops of it share it."""
    parts = [cells.get(name, "") for name in ("source_repo", "commit", "source_path")]
    if not all(parts):
        return ""
    return hashlib.sha256("{}@{}:{}".format(*parts).encode()).hexdigest()


def _repeated_paths(numbered: Iterable[tuple[int, Sample]]) -> list[str]:
    problems = []
    first: dict[str, int] = {}
    for row, sample in numbered:
        place = os.path.normpath(sample.place)
        if place in first:
            problems.append(f"row {row}: the same path as row {first[place]}: {sample.place}")
        else:
            first[place] = row
    return problems


def _shared_across_splits(numbered: Iterable[tuple[int, Sample]], what: str, key: Callable[[Sample], str]) -> list[str]:
    """Test rows that share `key` with a training or tuning row."""
    seen: dict[str, tuple[int, str]] = {}
    tested: list[tuple[int, str]] = []
    for row, sample in numbered:
        name = key(sample).lower()
        if not name:
            continue
        if sample.split == "test":
            tested.append((row, name))
        elif sample.split:
            seen.setdefault(name, (row, sample.split))
    return [
        f"row {row}: a test row with the same {what} as row {seen[name][0]} ({seen[name][1]})"
        for row, name in tested
        if name in seen
    ]


def _file_problems(numbered: Sequence[tuple[int, Sample]]) -> list[str]:
    problems = []
    sizes: dict[int, list[tuple[int, Sample]]] = {}
    for row, sample in numbered:
        path = Path(sample.place)
        try:
            if not path.is_file():
                state = "not a file" if path.exists() else "no such file"
                problems.append(f"row {row}: {state}: {sample.place}")
                continue
            sizes.setdefault(path.stat().st_size, []).append((row, sample))
        except OSError as error:
            problems.append(f"row {row}: cannot be looked at ({error.strerror}): {sample.place}")
    for group in sizes.values():
        problems += _twins_across_splits(group)
    return problems


def _twins_across_splits(group: Sequence[tuple[int, Sample]]) -> list[str]:
    """Test files with the bytes of a training or tuning file, among files of one size.

    Reads the head of each file first: files of equal size are common, files of equal head are not.
    """
    if not _across(sample for _, sample in group):
        return []
    heads: dict[str, list[tuple[int, Sample]]] = {}
    for row, sample in group:
        heads.setdefault(_digest(sample.place, whole=False), []).append((row, sample))
    alike = sorted(
        (pair for part in heads.values() if _across(sample for _, sample in part) for pair in part),
        key=lambda pair: pair[0],
    )
    return _shared_across_splits(alike, "bytes", lambda sample: _digest(sample.place, whole=True))


def _across(samples: Iterable[Sample]) -> bool:
    """Whether some are test rows and some are training or tuning rows."""
    return len({sample.split == "test" for sample in samples if sample.split}) == 2


def _digest(place: str, *, whole: bool) -> str:
    try:
        with Path(place).open("rb") as file:
            if whole:
                return hashlib.file_digest(file, "sha256").hexdigest()
            return hashlib.sha256(file.read(_HEAD)).hexdigest()
    except OSError:
        # A file that cannot be read is the judging's to report; here it is only unlike every other.
        return f"unreadable {place}"


def _relative(place: Path, folder: Path) -> str:
    with contextlib.suppress(ValueError):
        return place.relative_to(folder).as_posix()
    with contextlib.suppress(ValueError):
        return place.resolve().relative_to(folder.resolve()).as_posix()
    return str(place.resolve())


def _refusal(table: Path, problems: Sequence[str]) -> ManifestError:
    shown = "\n".join(f"  {problem}" for problem in problems[:_SHOWN])
    more = len(problems) - _SHOWN
    rest = f"\n  … and {more} more" if more > 0 else ""
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return ManifestError(f"{table}: {count}; nothing was done. Mend the rows and run again:\n{shown}{rest}", problems)
