"""What the pictures of a data set say against it: files that cannot be read, and pictures that look the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator

import numpy as np
import numpy.typing as npt

from assay.data.keys import Bools, Ints, keys
from assay.data.split import SPLITS, codes
from assay.data.table import TEXT, Table
from assay.errors import InputError
from assay.image.fingerprint import near_pairs_in_parts
from assay.measure.check_table import originals
from assay.measure.controls import Facts, look_at_all
from assay.measure.findings import Finding, Severity
from assay.types import Label

Progress = Callable[[str, int, int], None]

_BLOCK = 2048


@dataclasses.dataclass
class Seen:
    """What looking at every picture leaves: little a row, and all facts of the rows that were drawn."""

    sha256: list[str]
    phash: npt.NDArray[np.uint64]
    hashable: Bools
    errors: dict[int, InputError]
    facts: dict[int, Facts]

    def hashed(self, samples: Table) -> Table:
        """The table with the hashes of the files that could be read."""
        mine = np.array(self.sha256, TEXT)
        return samples.with_column("sha256", np.where(mine == "", samples.column("sha256"), mine).astype(TEXT))

    def findings(self, samples: Table) -> Iterator[Finding]:
        by_kind: dict[str, list[int]] = {}
        for row, error in self.errors.items():
            by_kind.setdefault(error.kind, []).append(row)
        for kind, rows in sorted(by_kind.items()):
            blind = kind == "needs_extra"
            yield Finding(
                kind,
                Severity.WARNING if blind else Severity.ERROR,
                "pictures that this installation cannot decode, so nothing was looked at"
                if blind
                else "pictures that cannot be read; fetch them again, or drop their rows",
                samples.row_numbers[rows],
                details=[f"{samples.column('path')[row]}: {self.errors[row]}" for row in rows],
            )
        said, mine = np.strings.lower(samples.column("sha256")), np.array(self.sha256, TEXT)
        changed = (said != "") & (mine != "") & (said != mine)
        if changed.any():
            yield Finding(
                "changed_file",
                Severity.ERROR,
                "the file is not the one whose sha256 the manifest gives; fetch it again, or read the data set anew",
                samples.row_numbers[changed],
                details=samples.column("path")[changed].tolist(),
            )


def look(samples: Table, kept: Collection[int], workers: int | None, progress: Progress | None) -> Seen:
    """Decode every picture once; of the rows `kept` all facts are kept."""
    count = len(samples)
    seen = Seen([""] * count, np.zeros(count, np.uint64), np.zeros(count, np.bool_), {}, {})
    paths = samples.column("path")
    for start in range(0, count, _BLOCK):

        def step(done: int, _total: int, start: int = start) -> None:
            if progress is not None:
                progress("looking", start + done, count)

        for row, facts in enumerate(look_at_all(paths[start : start + _BLOCK].tolist(), step, workers), start):
            if isinstance(facts, InputError):
                seen.errors[row] = facts
                continue
            seen.sha256[row] = facts.sha256
            if facts.phash is not None:
                seen.phash[row] = facts.phash
                seen.hashable[row] = True
            if row in kept:
                seen.facts[row] = facts
    return seen


def of_looks(samples: Table, seen: Seen, near: int) -> Iterator[Finding]:
    known = keys(samples.with_column("origin", originals(samples)), "origin")
    # Rows of one original are told of as such; a row without any is like no other.
    identity = np.arange(len(known.names), len(known.names) + len(samples))
    identity[known.rows] = known.keys
    hashes, place = np.unique(seen.phash, return_inverse=True)
    split = np.where(seen.hashable, codes(samples.column("split")), -1)
    first = _two_each(place, split, identity, len(hashes), len(SPLITS))
    bits = np.full(len(samples), 255, np.uint8)
    other = np.full(len(samples), -1, np.int64)
    every = np.arange(len(hashes))
    apart = [(a, b) for a in range(len(SPLITS)) for b in range(len(SPLITS)) if a != b]

    def note(left: Ints, right: Ints, distance: npt.NDArray[np.uint8]) -> None:
        for a, b in apart:
            rows, twins, inside = _differing(first[left, a], first[right, b], identity)
            if a < b:
                rows, twins = twins, rows
            nearer = distance[inside] < bits[rows]
            rows, twins, found = rows[nearer], twins[nearer], distance[inside][nearer]
            order = np.argsort(-found.astype(np.int16), kind="stable")
            bits[rows[order]], other[rows[order]] = found[order], twins[order]

    note(every, every, np.zeros(len(hashes), np.uint8))
    # Only pictures that stand in a split are compared.
    inside = np.flatnonzero((first[:, :, 0] >= 0).any(axis=1))
    for pairs in near_pairs_in_parts(hashes[inside], near):
        left, right = inside[pairs[:, 0]], inside[pairs[:, 1]]
        note(left, right, np.bitwise_count(hashes[left] ^ hashes[right]).astype(np.uint8))
    rows = np.flatnonzero(other >= 0)
    if rows.size:
        path, splits = samples.column("path"), samples.column("split")
        yield Finding(
            "near_duplicate_across_splits",
            Severity.ERROR,
            f"pictures that look the same (at most {near} of 64 bits apart) stand in several splits, and no origin "
            "says that they are one; keep one side, or give them one origin and split by it",
            samples.row_numbers[rows],
            samples.row_numbers[other[rows]],
            [
                f"{path[row]} ({splits[row]}) and {path[twin]} ({splits[twin]}), {bits[row]} bits apart"
                for row, twin in zip(rows.tolist(), other[rows].tolist(), strict=True)
            ],
        )
    label = np.where(seen.hashable, samples.labels, -1).astype(np.int64)
    first = _two_each(place, label, identity, len(hashes), 2)
    fakes, reals, _ = _differing(first[:, Label.FAKE], first[:, Label.REAL], identity)
    # Equal bytes are a contradiction already.
    sha = samples.column("sha256")
    kept = sha[fakes] != sha[reals]
    if kept.any():
        yield Finding(
            "looks_real_and_fake",
            Severity.WARNING,
            "a fake and a real look the same to the last bit of their perceptual hash, and no origin ties them: if "
            "the fake was made from the real, give both one origin; if not, a label is wrong",
            samples.row_numbers[fakes[kept]],
            samples.row_numbers[reals[kept]],
            samples.column("path")[fakes[kept]].tolist(),
        )


def _two_each(place: Ints, group: Ints, identity: Ints, hashes: int, groups: int) -> Ints:
    """Of each hash and group two rows of different identity, as far as there are such; shape (hashes, groups, 2).

    Two suffice to find, for two hashes and two groups, a pair of rows of different identity wherever there is one.
    """
    found = np.full((hashes * groups, 2), -1, np.int64)
    rows = np.flatnonzero(group >= 0)[::-1]
    cell = place[rows] * groups + group[rows]
    found[cell, 0] = rows
    other = identity[rows] != identity[found[cell, 0]]
    found[cell[other], 1] = rows[other]
    return found.reshape(hashes, groups, 2)


def _differing(left: Ints, right: Ints, identity: Ints) -> tuple[Ints, Ints, Ints]:
    """Where a line of `left` and of `right`, (n, 2), have rows of different identity: those rows, and the lines."""
    rows, twins = np.full(len(left), -1, np.int64), np.full(len(left), -1, np.int64)
    for i in range(2):
        for j in range(2):
            a, b = left[:, i], right[:, j]
            good = (rows < 0) & (a >= 0) & (b >= 0) & (identity[a] != identity[b])
            rows[good], twins[good] = a[good], b[good]
    lines = np.flatnonzero(rows >= 0)
    return rows[lines], twins[lines], lines
