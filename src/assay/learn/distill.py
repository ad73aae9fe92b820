"""Distillation: what a detector says of training pictures becomes what a smaller one is trained towards.

    taught    the teacher's P(fake) of every training row, as the manifest's column "teacher"
    recipe    `distilled`, with the student's network and the teacher's view
    train     as ever: the student is an ordinary recipe, and its bundle an ordinary one

The teacher judges as it ships: calibrated streams, its own vote. On pictures that it was trained on itself it is surer
than elsewhere, and the student learns that too.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from assay.data import manifest
from assay.data.table import Table
from assay.errors import ManifestError, RecipeError
from assay.judge.detector import Detector
from assay.learn.batches import TEACHER
from assay.learn.nn.backbones import build
from assay.learn.progress import Progress
from assay.learn.recipe import Recipe, find
from assay.types import Failure, Label

RECIPE = "distilled"

TAUGHT = "taught.csv"
"""What the rows with a teacher's scores are called in a folder."""

_SHOWN = 20
_SLUG = re.compile(r"[^A-Za-z0-9._]+")


def taught(rows: Table, teacher: Detector, file: Path, *, workers: int = 2) -> Table:
    """The rows with the teacher's P(fake) of each training row in the column "teacher".

    Training rows to which none of its streams applies have no such score, and lose their split: they are not trained
    on. Other rows stay as they are.

    Args:
        rows: with splits; training rows labelled.
        file: where the rows are kept (CSV), so that they are judged once: taken where it is of the same teacher and
            rows, made anew where it is not.
        workers: threads that decode.

    Raises:
        ManifestError: a training row cannot be judged; all are listed in `problems`. Or a class has none left.
        OutputError: `file` cannot be written.
    """
    note = file.with_suffix(".json")
    key = {"teacher": teacher.sha256, "rows": _key(rows)}
    if file.exists() and note.exists() and json.loads(note.read_bytes()) == key:
        kept = manifest.read(file, check=False)
        # All else is taken from the rows as they are: the pictures may have moved since, and their groups have changed.
        return rows.with_column("split", kept.column("split")).with_column(TEACHER, kept.column(TEACHER))
    mine = np.flatnonzero(rows.column("split") == "train")
    places = rows.column("path")[mine].tolist()
    scores, problems = np.full(len(rows), "", dtype=object), []
    splits = rows.column("split").astype(object)
    with Progress(f"{teacher.name} judges training pictures", len(places)) as progress:
        for row, place, answer in zip(mine, places, teacher.judge_many(places, workers=max(1, workers)), strict=True):
            if isinstance(answer, Failure):
                problems.append(f"{place}: {answer.message}")
            elif answer.score is None:
                splits[row] = ""
            else:
                scores[row] = repr(answer.score)
            progress.step()
    if problems:
        shown = "\n  ".join(problems[:_SHOWN])
        count = "1 training picture" if len(problems) == 1 else f"{len(problems)} training pictures"
        raise ManifestError(f"{count} cannot be judged; leave them out of the manifest:\n  {shown}", problems)
    table = rows.with_column("split", splits.astype(str)).with_column(TEACHER, scores.astype(str))
    left = Counter(table.labels[table.column("split") == "train"].tolist())
    for label in Label:
        if not left[label]:
            raise ManifestError(f"{teacher.name} applies to no {label.name.lower()} training picture; nothing to teach")
    file.parent.mkdir(parents=True, exist_ok=True)
    note.unlink(missing_ok=True)
    manifest.write(file, table)
    part = note.with_suffix(".part")
    part.write_text(json.dumps(key))
    part.replace(note)
    return table


def recipe_of(
    student: str, teacher: Detector, size: Literal["small", "paper"] = "small", *, variant: str = ""
) -> Recipe:
    """The recipe of a student.

    Args:
        student: its network, any that `assay.learn.nn.backbones.build` makes; it sees crops as large as the teacher's
            first stream does.
        size: "small" or "paper".
        variant: of the recipe `distilled`; empty for itself.

    Raises:
        RecipeError: no such variant.
    """
    recipe = find(f"{RECIPE}:{variant}" if variant else RECIPE, size)
    return seeing(recipe.set(student__backbone__name=student), teacher.streams[0].view.size)


def seeing(recipe: Recipe, side: int) -> Recipe:
    """A student's recipe with views of `side` px, cut in training from regions a seventh larger."""
    (stream,) = recipe.streams
    changes = {f"{stream.name}__view__size": side, "descend__crops__base": max(32, round(side * 8 / 7))}
    return recipe.set(**changes)


def tried(recipe: Recipe) -> None:
    """Make the networks of a recipe once, so that one that cannot be made is told of before a teacher judges.

    Raises:
        RecipeError: no such network, or none for views of this size.
    """
    for stream in recipe.streams:
        build(stream.backbone, stream.view.size)


def folders(students: Sequence[str]) -> dict[str, str]:
    """A folder's name for each student, safe on every system and as part of a detector's name.

    Raises:
        RecipeError: two students would share one.
    """
    found: dict[str, str] = {}
    taken: dict[str, str] = {}
    for student in dict.fromkeys(students):
        found[student] = folder = _SLUG.sub("-", student).strip("-.") or "student"
        # There are file systems that know no capitals.
        other = taken.setdefault(folder.casefold(), student)
        if other != student:
            raise RecipeError(
                f"the students {other} and {student} would share the folder {folder}; teach one of them in a FOLDER of "
                "its own"
            )
    return found


def _key(rows: Table) -> str:
    digest = hashlib.sha256()
    columns = zip(rows.column("path").tolist(), rows.column("split").tolist(), rows.labels.tolist(), strict=True)
    for path, split, label in columns:
        digest.update(f"{Path(path).name}\0{split}\0{label}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]
