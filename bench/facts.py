"""What the file and a thumbnail tell of rows that a fold leaves out: the controls beside every trial on folds.

A detector that does no better than these on the same rows may go by format, size or subject, not by a trace. Both
classifiers (`assay.measure.controls`) are fitted on rows outside the fold, as a detector is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from assay.errors import InputError
from assay.learn.crossfit import FOLD, drawn, kind_of
from assay.measure.block import line
from assay.measure.controls import Row, controls, look_at_all
from assay.types import Label, Sample

MOST = 60
"""Rows of each generator or source that the classifiers are fitted on, at most."""
CONTROLS = {"metadata": "facts of the file", "thumbnail": "a thumbnail of 16 px"}


def by_fold(rows: Sequence[Sample], judged: Sequence[Sample], file: Path) -> dict[str, Any]:
    """AUC of the controls on each fold's judged rows, by fold and control, as `Interval.to_dict` gives it.

    Args:
        rows: training and tuning rows; pseudo-fakes are left aside.
        judged: some of them, of the folds that are reported; the pictures as they came, not cut.
        file: where the answer is kept, and taken from where it is of the same rows.
    """
    known = drawn([row for row in rows if not kind_of(row)], MOST)
    places = list(dict.fromkeys(row.place for row in [*known, *judged]))
    key = hashlib.sha256("\n".join([*places, "", *(row.place for row in judged)]).encode()).hexdigest()
    if file.exists() and (kept := json.loads(file.read_text()))["rows"] == key:
        found: dict[str, Any] = kept["controls"]
        return found
    looked = dict(zip(places, look_at_all(places), strict=True))

    def of(samples: Sequence[Sample]) -> list[Row]:
        table = []
        for sample in samples:
            facts = looked[sample.place]
            if not isinstance(facts, InputError):
                table.append(Row(sample.label or Label.REAL, sample.generator or sample.source, facts))
        return table

    found = {}
    for fold in sorted({row.groups[FOLD] for row in judged}):
        measured = controls(
            of([row for row in judged if row.groups[FOLD] == fold]),
            of([row for row in known if row.groups.get(FOLD) != fold]),
            rounds=300,
        )
        found[fold] = {name: getattr(measured, name).to_dict() for name in CONTROLS}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"rows": key, "controls": found}, indent=1) + "\n")
    return found


def told(found: Mapping[str, Any]) -> list[str]:
    """The same as the lines of a table in Markdown."""
    lines = [line(["told by", *found]), "|" + "---|" * (len(found) + 1)]
    for name, what in CONTROLS.items():
        lines.append(line([what, *(cell(found[fold][name]) for fold in found)]))
    return lines


def cell(interval: Mapping[str, Any]) -> str:
    """An interval, as `Interval.to_dict` gives it, in a cell."""
    bounds = [interval[key] for key in ("value", "low", "high")]
    return "–" if None in bounds else "{:.3f} ({:.3f}–{:.3f})".format(*bounds)
