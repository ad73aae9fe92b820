"""What a check of a data set says: findings, shortcuts, and the report that holds them."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from assay.data.keys import Ints
from assay.measure.controls import Control


class Severity(enum.StrEnum):
    """How grave a finding is; the module's text says where the lines are drawn."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclasses.dataclass(frozen=True)
class Finding:
    """All problems of one kind.

    Args:
        kind: a stable word for machines, such as "origin_across_splits".
        severity: error, warning or note.
        message: what it means and what to do.
        rows: shape (n,), int64: the row of each problem in its file, where the header is row 1; empty where a finding
            is not about rows.
        others: shape (n,): the row that `rows` is in conflict with, 0 where there is none.
        details: one text a problem.
    """

    kind: str
    severity: Severity
    message: str
    rows: Ints = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    others: Ints = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    details: Sequence[str] = ()

    @property
    def count(self) -> int:
        """How many problems there are."""
        return max(len(self.rows), len(self.details))

    def problems(self, most: int | None = None) -> Iterator[str]:
        """One line a problem, such as "row 7, as row 3: …"."""
        for index in range(self.count if most is None else min(most, self.count)):
            detail = self.details[index] if len(self.details) else ""
            if not len(self.rows) or self.rows[index] == 0:
                yield detail
                continue
            other = f", as row {self.others[index]}" if len(self.others) and self.others[index] else ""
            yield f"row {self.rows[index]}{other}" + (f": {detail}" if detail else "")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with every problem."""
        found = []
        for index in range(self.count):
            row = int(self.rows[index]) if len(self.rows) else 0
            other = int(self.others[index]) if len(self.others) else 0
            detail = self.details[index] if len(self.details) else ""
            found.append({"row": row or None, "other": other or None, "detail": detail})
        return {
            "kind": self.kind,
            "severity": str(self.severity),
            "message": self.message,
            "count": self.count,
            "problems": found,
        }


@dataclasses.dataclass(frozen=True, slots=True)
class Shortcut:
    """How far one thing that is no trace of a generator tells the classes apart.

    Args:
        name: "format", "pixels", "squareness", "bytes_per_pixel", "jpeg_quality", "exif"; "metadata" (a classifier on
            all of these) or "thumbnail" (one on 16 × 16 px of the picture).
        part: which rows: "all rows", or "test rows" by what is fitted on train rows.
        control: the AUC, 1 = fake, with its interval, drawn by source.
        severity: error, warning or note.
        reals, fakes: how many rows of each class `control` rests on; None where some could not be scored.
        fitted: what a classifier was fitted on; empty for a fact alone.
    """

    name: str
    part: str
    control: Control
    severity: Severity
    reals: int | None
    fakes: int | None
    fitted: str = ""

    @property
    def surely(self) -> float:
        """The lower end of the interval, on the side above .5; NaN where there is none."""
        return surely(self.control)

    def to_dict(self) -> dict[str, Any]:
        told = {"name": self.name, "part": self.part, "severity": str(self.severity), "fitted": self.fitted}
        return told | {"reals": self.reals, "fakes": self.fakes} | self.control.to_dict()


@dataclasses.dataclass(frozen=True)
class Report:
    """What a check found.

    Args:
        rows: how many rows there are.
        counts: rows by split ("train", "tune", "test", or "" for none) and class ("real", "fake", "" for not known).
        looked: whether the pictures were decoded; without it only the table speaks.
        findings: errors first.
        shortcuts: empty where nothing was looked at, or a class is missing.
        near: in bits.
        bound: above which a shortcut is an error.
    """

    rows: int
    counts: dict[str, dict[str, int]]
    looked: bool
    findings: tuple[Finding, ...]
    shortcuts: tuple[Shortcut, ...]
    near: int
    bound: float

    @property
    def honest(self) -> bool:
        """Whether no finding is an error. It speaks of what was looked at, and of nothing else."""
        return all(finding.severity is not Severity.ERROR for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready object."""
        return {
            "honest": self.honest,
            "rows": self.rows,
            "counts": self.counts,
            "looked": self.looked,
            "near": self.near,
            "bound": self.bound,
            "findings": [finding.to_dict() for finding in self.findings],
            "shortcuts": [shortcut.to_dict() for shortcut in self.shortcuts],
        }


def surely(control: Control) -> float:
    """The lower end of a control's interval, on the side above .5; below .5 where it may be either; NaN without one."""
    return max(control.auc.low, 1 - control.auc.high)
