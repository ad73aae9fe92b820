"""Rows to be checked, and what a check said of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from assay.data.table import Table
from assay.measure.check import Finding, Report, Severity, check
from assay.types import Label, Sample

REAL, FAKE = Label.REAL, Label.FAKE
ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE

Put = Callable[..., Sample]
Many = Callable[..., list[Sample]]


def row(number: int, label: Label | None = REAL, **about: object) -> Sample:
    """A row whose file nobody looks at."""
    groups = {name: about.pop(name) for name in list(about) if name not in Sample.__slots__}
    return Sample(f"{number}.png", label, groups=groups, **about)


def both(split: str, start: int, **about: object) -> list[Sample]:
    return [row(start, REAL, split=split, **about), row(start + 1, FAKE, split=split, generator="g", **about)]


def read(rows: list[Sample], **options: object) -> Report:
    return check(Table.of(rows), look=False, **options)


def kinds(report: Report, *severities: Severity) -> set[str]:
    return {found.kind for found in report.findings if not severities or found.severity in severities}


def only(report: Report, kind: str) -> Finding:
    (found,) = [found for found in report.findings if found.kind == kind]
    return found


def where(found: Finding) -> list[tuple[int, int]]:
    others = found.others if len(found.others) else np.zeros(len(found.rows), np.int64)
    return list(zip(found.rows.tolist(), others.tolist(), strict=True))
