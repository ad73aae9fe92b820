"""How far the classes of a data set are told apart by what has nothing to do with being fake."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from assay.data.keys import Ints
from assay.data.table import Table
from assay.measure.check.findings import Finding, Severity, Shortcut, surely
from assay.measure.controls import FEWEST, Control, Controls, Facts, Row, controls
from assay.types import Label

WORTH_A_LOOK = 0.65
"""A fact of the file that tells the classes apart with an AUC surely above this is a warning."""

MOST = 5_000
"""Rows of a class, drawn at random, that the shortcuts of a part are measured on, so that time and memory stay bounded
however large the data set is."""

_ALIGNED = frozenset({"format", "pixels", "squareness", "jpeg_quality", "exif"})
"""What aligning makes equal. How many bytes a pixel takes it makes equal only as far as it comes from these."""

_ALIGN = "put both classes through one draw of codec, quality and size: assay data align"
_NO_ALIGN = (
    "no size, format, quality or EXIF does, so aligning files cures nothing: the pixels themselves compress "
    "differently; match noise, sharpness and earlier compression, or give this control beside every figure"
)


def parts(samples: Table, seed: int) -> dict[str, Ints]:
    """The rows that shortcuts are measured on: all rows, and train and test rows where there are both."""
    random = np.random.default_rng(seed)
    split = samples.column("split")
    found = {}
    for name, inside in (
        ("all", np.ones(len(samples), np.bool_)),
        ("train", split == "train"),
        ("test", split == "test"),
    ):
        drawn = []
        for label in Label:
            rows = np.flatnonzero(inside & (samples.labels == label))
            drawn.append(rows if len(rows) <= MOST else np.sort(random.choice(rows, MOST, replace=False)))
        found[name] = np.concatenate(drawn)
    return found


def shortcuts(
    samples: Table, drawn: Mapping[str, Ints], facts: Mapping[int, Facts], bound: float, rounds: int, seed: int
) -> Iterator[Shortcut]:
    source = samples.column("source")

    def rows_of(part: str, without: frozenset[str] = frozenset()) -> list[Row]:
        return [
            Row(Label(int(samples.labels[row])), str(source[row]), facts[row])
            for row in drawn[part].tolist()
            if row in facts and facts[row].sha256 not in without
        ]

    everything, tested = rows_of("all"), rows_of("test")
    if _enough(everything):
        found = controls(everything, rounds=rounds, seed=seed)
        yield from _judged("all rows", found, everything, bound)
    # What stands in both splits is a finding of its own, and nothing may be fitted on what it is measured on.
    fitting = rows_of("train", frozenset(row.facts.sha256 for row in tested))
    if _enough(tested) and _enough(fitting):
        found = controls(tested, fitting, rounds=rounds, seed=seed)
        yield from _judged("test rows", found, tested, bound)


def _classes(rows: Sequence[Row]) -> tuple[int, int]:
    """How many reals there are, and how many fakes."""
    fakes = sum(row.label == Label.FAKE for row in rows)
    return len(rows) - fakes, fakes


def _enough(rows: Sequence[Row]) -> bool:
    return min(_classes(rows)) >= FEWEST


def _judged(part: str, found: Controls, rows: Sequence[Row], bound: float) -> Iterator[Shortcut]:
    for name, control in found.alone.items():
        measured = [row for row in rows if name != "jpeg_quality" or row.facts.jpeg_quality is not None]
        grave = _severity(control, bound) if _enough(measured) else Severity.NOTE
        reals, fakes = _classes(measured)
        yield Shortcut(name, part, control, grave, reals, fakes)
    for name, control in (("metadata", found.metadata), ("thumbnail", found.thumbnail)):
        # Of rows that no classifier could be fitted for it is not known which they are.
        known = control.auc.n == len(rows)
        grave = _severity(control, bound)
        if name == "thumbnail" and grave is Severity.ERROR:
            # Classes that show different things can be honest, and no rewriting of files mends them where they are not.
            grave = Severity.WARNING
        reals, fakes = _classes(rows)
        yield Shortcut(name, part, control, grave, reals if known else None, fakes if known else None, found.fitted)


def _severity(control: Control, bound: float) -> Severity:
    least = surely(control)
    if math.isnan(least):
        return Severity.NOTE
    return Severity.ERROR if least > bound else Severity.WARNING if least > WORTH_A_LOOK else Severity.NOTE


def findings(shortcuts: Sequence[Shortcut], bound: float) -> Iterator[Finding]:
    graves = [found for found in shortcuts if found.severity is not Severity.NOTE]
    telling = {found.name for found in graves}
    cure = _ALIGN if telling & _ALIGNED or "bytes_per_pixel" not in telling else _NO_ALIGN
    for severity in (Severity.ERROR, Severity.WARNING):
        of_file = [found for found in graves if found.severity is severity and found.name != "thumbnail"]
        if of_file:
            limit = bound if severity is Severity.ERROR else WORTH_A_LOOK
            yield Finding(
                "shortcut",
                severity,
                f"the file alone tells the classes apart (AUC surely above {limit:g}), so a detector need not look at "
                f"the picture; {cure}",
                details=[_told(found) for found in of_file],
            )
    of_subject = [found for found in graves if found.name == "thumbnail"]
    if of_subject:
        yield Finding(
            "subject_shortcut",
            Severity.WARNING,
            "16 × 16 px of the picture tell the classes apart, so they show different things; match what they show, "
            "or give this control beside every figure",
            details=[_told(found) for found in of_subject],
        )


def _told(found: Shortcut) -> str:
    rows = f"{found.control.auc.n} rows" if found.reals is None else f"{found.reals} real, {found.fakes} fake"
    return (
        f"{found.name.replace('_', ' ')}, {found.part}: AUC {found.control.oriented:.3f} either way "
        f"({found.surely:.3f} at least), {rows}"
    )
