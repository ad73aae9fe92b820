"""A folder that holds one run: which run it is stands in `run.json`, so that only that run is taken up there."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic

from assay.errors import RecipeError
from assay.learn.batches import TEACHER
from assay.learn.recipe import Descent, Recipe
from assay.learn.rows import SECONDARY
from assay.types import Sample

NOTE = "run.json"

HEADS = ("bundle", "graphs")
"""What a run makes after its networks."""

DONE = "bundle"
"""What stands there when all of a run is done."""

NETWORKS = ("*.checkpoint.safetensors", "*.best.safetensors", "*.epochs.jsonl")
"""What a run's training leaves."""

LEFT = (*HEADS, "embeddings", "separation", *NETWORKS)
"""What a run leaves in its folder. Decoded tiles are not among it: they depend on the pictures, not on the run."""


class Run(pydantic.BaseModel):
    """What makes a run: the same fields give the same losses.

    Args:
        recipe: its name, summary and expected figures are for the reader, and may differ.
        seed: of everything random.
        rows: how many rows each split has.
        manifest: hash of the rows in their order; empty in notes of earlier versions.
    """

    model_config = pydantic.ConfigDict(frozen=True)

    recipe: Recipe
    seed: int
    rows: dict[str, int]
    manifest: str = ""

    @classmethod
    def of(cls, recipe: Recipe, rows: Mapping[str, Sequence[Sample]], seed: int) -> Run:
        counts = {split: len(part) for split, part in rows.items()}
        return cls(recipe=recipe, seed=seed, rows=counts, manifest=_hash(itertools.chain(*rows.values())))

    @property
    def key(self) -> str:
        """Short name of what makes the run: runs of one key are one run."""
        # Without what is at its default, so that a field that a recipe gets later makes no other run of an earlier one.
        recipe = self.recipe.model_dump(mode="json", exclude={"name", "summary", "expects"}, exclude_defaults=True)
        told = {"recipe": recipe, "seed": self.seed, "rows": self.rows, "manifest": self.manifest}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]

    @staticmethod
    def told(note: Any, recipe: Recipe) -> bool:
        """Whether a card's or a note's recipe, as JSON, trains as this one does."""
        try:
            return _bare(Recipe.model_validate(note)) == _bare(recipe)
        except (pydantic.ValidationError, RecipeError):
            return False

    def same_networks(self, other: Run) -> bool:
        """Whether two runs part ways only after their networks are trained: in heads, fitting or calibration."""
        return self.differences(other) == ["recipe"] and _networks(self.recipe) == _networks(other.recipe)

    def differences(self, other: Run) -> list[str]:
        """What tells two runs apart, by name."""
        found = []
        if _bare(self.recipe) != _bare(other.recipe):
            found.append("recipe")
        if self.seed != other.seed:
            found.append("seed")
        if self.rows != other.rows or (self.manifest and other.manifest and self.manifest != other.manifest):
            found.append("manifest")
        return found


def claim(folder: Path, run: Run, *, resume: bool) -> bool:
    """Note in `folder` that it holds this run, or see that it does.

    Args:
        resume: keep what the run left there; else it is removed first. Nothing else in the folder is touched.

    Returns:
        Whether it held a run with the same networks and other heads: they are kept, and the rest is made anew.

    Raises:
        RecipeError: the folder holds another run, or something that is no run.
    """
    note, part = folder / NOTE, folder / f".{NOTE}.part"
    if note.exists() and resume:
        before = _read(note)
        differences = before.differences(run)
        if differences and before.same_networks(run):
            _clear(folder, HEADS)
            _write(note, part, run)
            return True
        if differences:
            raise RecipeError(
                f"{folder} holds a run with another {' and '.join(differences)}; give another folder, or --fresh"
            )
        return False
    if note.exists():
        _clear(folder, LEFT)
    elif folder.exists() and any(path != part for path in folder.iterdir()):
        raise RecipeError(f"{folder} is not empty and holds no run; give another folder")
    folder.mkdir(parents=True, exist_ok=True)
    _write(note, part, run)
    return False


def lent(folder: Path, run: Run, others: Iterable[Path]) -> bool:
    """Take the trained networks, and what was embedded by them, of a run that parts ways only after them.

    Args:
        folder: of this run, without networks.
        others: folders of other runs; those that hold none, cannot be read, or are not done with their networks, are
            passed over.

    Returns:
        Whether there was one.
    """
    for other in others:
        if not _lends(other, run):
            continue
        folder.mkdir(parents=True, exist_ok=True)
        for pattern in (*NETWORKS, "embeddings"):
            for path in other.glob(pattern):
                copy = shutil.copytree if path.is_dir() else shutil.copyfile
                copy(path, folder / path.name)
        _write(folder / NOTE, folder / f".{NOTE}.part", run)
        return True
    return False


def _lends(folder: Path, run: Run) -> bool:
    try:
        return (folder / NOTE).exists() and (folder / DONE).exists() and _read(folder / NOTE).same_networks(run)
    except (OSError, RecipeError):
        # What is wrong with another run's folder is no fault of this one.
        return False


def _write(note: Path, part: Path, run: Run) -> None:
    part.write_text(json.dumps(run.model_dump(mode="json"), indent=1), "utf-8")
    part.replace(note)


def _clear(folder: Path, patterns: Iterable[str]) -> None:
    for pattern in patterns:
        for path in folder.glob(pattern):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def _read(note: Path) -> Run:
    try:
        return Run.model_validate_json(note.read_bytes())
    except (OSError, pydantic.ValidationError, RecipeError) as error:
        raise RecipeError(
            f"{note} cannot be read, so its run cannot be taken up; give another folder, or --fresh"
        ) from error


def _bare(recipe: Recipe) -> dict[str, Any]:
    """What decides the losses. As JSON, which knows no tuples: a network's free fields may hold some."""
    return recipe.model_dump(mode="json", exclude={"name", "summary", "expects"})


def _networks(recipe: Recipe) -> dict[str, Any]:
    """What decides the networks: data, streams without their heads, and descents."""
    parts = {"name", "view", "backbone", "beside", "neck"}
    streams = [stream.model_dump(mode="json", include=parts) for stream in recipe.streams]
    descents = [stage.model_dump(mode="json") for stage in recipe.stages if isinstance(stage, Descent)]
    return {"derive": recipe.derive, "streams": streams, "descents": descents}


def _hash(samples: Iterable[Sample]) -> str:
    """Of names, labels and sources in their order: batches are drawn by row number. A data set may move as a whole."""
    rows = [_told(sample) for sample in samples]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def _told(sample: Sample) -> list[Any]:
    told: list[Any] = [Path(sample.place).name, sample.label, sample.generator, sample.source]
    return told + [f"{group} {sample.groups[group]}" for group in (SECONDARY, TEACHER) if sample.groups.get(group)]
