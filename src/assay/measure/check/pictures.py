"""What opening the files of a data set says against it: those that are missing, torn or not what they were."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator

import numpy as np
import numpy.typing as npt

from assay.data.keys import Bools
from assay.data.table import TEXT, Table
from assay.errors import InputError
from assay.measure.check.findings import Finding, Severity
from assay.measure.controls import Facts, look_at_all

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
