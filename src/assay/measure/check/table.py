"""What the table of a data set alone says against it. Whole columns are looked at; no file is touched."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from assay.data.keys import Bools, Ints, Keys, first_said, keys, repeated_paths
from assay.data.split import SPLITS, codes, split_counts
from assay.data.table import UNKNOWN, WORDS, Table, field
from assay.measure.check.findings import Finding, Severity
from assay.types import Label, Sample

_TOLD_ELSEWHERE = re.compile(r"the same path as row \d|a test row with the same \w+ as row \d")
"""What reading a manifest also finds and the checks here tell in full."""


def of_reading(samples: Table) -> Iterator[Finding]:
    told = [line for line in samples.problems if not _TOLD_ELSEWHERE.search(line)]
    if told:
        numbered = [re.match(r"row (\d+): (.*)", line, re.DOTALL) for line in told]
        yield Finding(
            "faulty_row",
            Severity.ERROR,
            "rows of the manifest are at fault; mend them",
            np.array([int(found[1]) if found else 0 for found in numbered], np.int64),
            details=[found[2] if found else line for found, line in zip(numbered, told, strict=True)],
        )


def of_labels(samples: Table) -> Iterator[Finding]:
    labels = samples.labels
    if (labels == UNKNOWN).any():
        yield Finding(
            "unknown_label",
            Severity.WARNING,
            "the class is not known: neither training nor measuring uses these rows",
            samples.row_numbers[labels == UNKNOWN],
        )
    generators = samples.column("generator")
    named = (generators != "") & (labels == Label.REAL)
    if named.any():
        yield Finding(
            "generator_of_real",
            Severity.WARNING,
            "real pictures name a generator: either the label is wrong, or the column says something else",
            samples.row_numbers[named],
            details=generators[named].tolist(),
        )
    nameless = (generators == "") & (labels == Label.FAKE)
    if nameless.any():
        yield Finding(
            "fake_without_generator",
            Severity.NOTE,
            "fakes do not say what made them: no figure by generator, and none can be left out for the test",
            samples.row_numbers[nameless],
        )
    found = keys(samples, "source")
    if len(found.names) > 1 and len(np.unique(labels[labels != UNKNOWN])) == 2:
        held = _label_counts(samples, found) > 0
        if not held.all(axis=1).any():
            yield Finding(
                "one_sided_sources",
                Severity.NOTE,
                f"each of {len(found.names)} sources holds one class alone: whatever tells sources apart (camera, "
                "site, codec) tells the classes apart too",
            )


def of_splits(samples: Table) -> Iterator[Finding]:
    by_split = counts(samples)
    named = {name: part for name, part in by_split.items() if name}
    if not named:
        yield Finding(
            "no_split", Severity.NOTE, "no row has a split, so nothing can leak from one; run: assay data split"
        )
    elif "" in by_split:
        yield Finding(
            "without_split",
            Severity.NOTE,
            "rows stand in no split: neither training nor measuring uses them",
            samples.row_numbers[samples.column("split") == ""],
        )
    lacking = [
        f"{name or 'all rows'}: {part['real']} real, {part['fake']} fake"
        for name, part in (named or by_split).items()
        if not part["real"] or not part["fake"]
    ]
    if lacking or not len(samples):
        yield Finding(
            "lacking_class",
            Severity.ERROR,
            "a class is missing, and without both nothing can be learned or measured; add rows of it, or split anew",
            details=lacking or ["no rows"],
        )
    found = keys(samples, "generator")
    inside = split_counts(samples, found)
    for kind, only, meaning in (
        ("generators_in_test_only", inside[:, :2].sum(axis=1) == 0, "training never meets them: a test on the unseen"),
        ("generators_without_test", inside[:, 2] == 0, "they are trained on and not tested"),
    ):
        there = only & (inside.sum(axis=1) > 0)
        if there.any() and "test" in by_split and len(named) > 1:
            yield Finding(kind, Severity.NOTE, meaning, details=found.names[there].tolist())


def of_files(samples: Table) -> Iterator[Finding]:
    """Files that stand in several rows, under one name or, byte for byte, under several."""
    again, other = repeated_paths(samples)
    if again.size:
        yield Finding(
            "repeated_path",
            Severity.ERROR,
            "a file stands in several rows; keep one",
            samples.row_numbers[again],
            samples.row_numbers[other],
            [_told(samples[row], samples[twin]) for row, twin in zip(again.tolist(), other.tolist(), strict=True)],
        )
    found = keys(samples, "sha256")
    across = _across(samples, found)
    if across.rows.size:
        yield Finding(
            "bytes_across_splits",
            Severity.ERROR,
            "one file, byte for byte, stands in several splits; keep one copy, or split by sha256",
            samples.row_numbers[across.rows],
            samples.row_numbers[across.others],
            across.details,
        )
    labels = samples.labels[found.rows]
    both = (_label_counts(samples, found) > 0).all(axis=1)
    if both.any():
        fake = _first(found, labels == Label.FAKE)[both]
        real = _first(found, labels == Label.REAL)[both]
        yield Finding(
            "contradictory_label",
            Severity.ERROR,
            "one file, byte for byte, is labelled real and fake; find out which it is, or drop both",
            samples.row_numbers[fake],
            samples.row_numbers[real],
            samples.column("path")[fake].tolist(),
        )
    # A file that is named twice is told of already.
    single = ~np.isin(found.rows, again)
    cell = found.keys * (len(SPLITS) + 1) + codes(samples.column("split"))[found.rows] + 1
    first = np.full(len(found.names) * (len(SPLITS) + 1), -1, np.int64)
    first[cell[single][::-1]] = found.rows[single][::-1]
    twin = single & (first[cell] != found.rows)
    if twin.any():
        rows = found.rows[twin]
        yield Finding(
            "same_bytes",
            Severity.WARNING,
            "copies of one file within a split: they count twice, and intervals come out too narrow; keep one",
            samples.row_numbers[rows],
            samples.row_numbers[first[cell[twin]]],
            samples.column("path")[rows].tolist(),
        )


def of_related(samples: Table, related: Sequence[str]) -> Iterator[Finding]:
    there = set(samples.columns)
    for column in dict.fromkeys(related):
        if column == "origin":
            # A file that names no original is its own.
            found = first_said(samples, ("origin", "sha256"), np.ones(len(samples), np.bool_))
        elif column in there:
            found = keys(samples, column)
        else:
            continue
        across = _across(samples, found, _of_one_file(samples, found) if column == "origin" else None)
        if across.rows.size:
            yield Finding(
                f"{column}_across_splits",
                Severity.ERROR,
                f"one {column} stands in several splits, so what is tested was trained or tuned on in another form; "
                f"run: assay data split --by {column}",
                samples.row_numbers[across.rows],
                samples.row_numbers[across.others],
                across.details,
            )


def _of_one_file(samples: Table, found: Keys) -> Bools:
    """Keys all of whose rows are known to be one file, byte for byte: those are told of as such."""
    hashes = keys(samples, "sha256")
    number = np.full(len(samples), -1, np.int64)
    number[hashes.rows] = hashes.keys
    mine = number[found.rows]
    first = np.full(len(found.names), -1, np.int64)
    first[found.keys[::-1]] = mine[::-1]
    one = np.ones(len(found.names), np.bool_)
    one[found.keys[(mine != first[found.keys]) | (mine < 0)]] = False
    return one


class _Across(NamedTuple):
    """Keys that stand in several splits: a row in the last of these, the first row in the first, and how many rows."""

    rows: Ints
    others: Ints
    details: list[str]


def _across(samples: Table, found: Keys, left_out: Bools | None = None) -> _Across:
    inside = split_counts(samples, found)
    bad = (inside > 0).sum(axis=1) > 1
    if left_out is not None:
        bad &= ~left_out
    split = codes(samples.column("split"))[found.rows]
    first = np.stack([_first(found, split == number)[bad] for number in range(len(SPLITS))], axis=1)
    counts = inside[bad]
    there = counts > 0
    line = np.arange(len(first))
    rows = first[line, len(SPLITS) - 1 - np.argmax(there[:, ::-1], axis=1)]
    others = first[line, np.argmax(there, axis=1)]
    details = [
        f"{name} ({', '.join(f'{n} {split}' for n, split in zip(part, SPLITS, strict=True) if n)})"
        for name, part in zip(found.names[bad].tolist(), counts.tolist(), strict=True)
    ]
    return _Across(rows, others, details)


def _told(here: Sample, there: Sample) -> str:
    """A file that stands in two rows, and what these say differently of it."""
    told = here.place
    for mine, yours, none in (
        (field(here, "label"), field(there, "label"), "no label"),
        (here.split, there.split, "no split"),
    ):
        if mine != yours:
            told += f" ({mine or none} here, {yours or none} there)"
    return told


def _first(found: Keys, where: Bools) -> Ints:
    """The first row of each key among the pairs `where`; -1 where there is none."""
    first = np.full(len(found.names), -1, np.int64)
    # Of several values for one place the last stays, so the rows are written backwards.
    first[found.keys[where][::-1]] = found.rows[where][::-1]
    return first


def _label_counts(samples: Table, found: Keys) -> Ints:
    """Real and fake rows of each key, shape (keys, 2)."""
    labels = samples.labels[found.rows].astype(np.int64)
    known = labels != UNKNOWN
    flat = np.bincount(found.keys[known] * 2 + labels[known], minlength=len(found.names) * 2)
    return flat.reshape(-1, 2).astype(np.int64)


def counts(samples: Table) -> dict[str, dict[str, int]]:
    """Rows by split and class, for every split that has any; "" for rows of none, and for those of unknown class."""
    split = codes(samples.column("split"))
    found = {}
    for number, name in [*enumerate(SPLITS), (-1, "")]:
        labels = samples.labels[split == number]
        if labels.size:
            found[name] = {WORDS[label]: int((labels == label).sum()) for label in (Label.REAL, Label.FAKE, UNKNOWN)}
    return found
