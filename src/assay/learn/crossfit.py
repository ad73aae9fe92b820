"""What a recipe makes of pictures that it has not met: networks trained without a fold, judging the rows of that fold.

A fold is a kind of generators and some whole sources of reals (the column "fold"), left out together, so that neither a
generator nor a camera of what is judged was ever seen. What is chosen (a recipe, a threshold, a calibration) is chosen
on such scores; test rows have no part in it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from assay.data.table import Table
from assay.errors import ManifestError, RecipeError
from assay.image.decode import decode
from assay.judge.engine import Engine
from assay.judge.rule import Floats, Pool, pool
from assay.learn import tiles
from assay.learn.calibrate import raw_scores
from assay.learn.descend import Data, Machine, descend
from assay.learn.embed import Kept, embed
from assay.learn.fit import Fitted, fit
from assay.learn.nn.network import merge, network
from assay.learn.recipe import Recipe, Stream
from assay.learn.rows import labels_of, learning_rows
from assay.learn.train import LeftOut, Met, exported
from assay.types import Pixels, Sample

FOLD = "fold"
"""The group that says which fold a row belongs to; empty: always there to learn from."""

PSEUDO = ("remade", "resampled", "blended")
"""The groups that mark a copy of a real picture as a fake made of it: by a small generator, by resampling, by blending
a face with itself."""

Condition = Callable[[Pixels], Pixels]

CLEAN: Mapping[str, Condition] = {"clean": lambda pixels: pixels}


@dataclasses.dataclass(frozen=True)
class Scored:
    """Raw scores of rows whose fold the network was trained without.

    Args:
        samples: the rows that were judged.
        folds: of each.
        raws: by condition and by head, one array of raw scores a row, each (crops,); empty where the view does not
            apply to the picture.
        steps: that each fold's network took, by fold.
        scale: by fold and head, mean and deviation of the pooled raw scores of the tuning rows outside the fold, whose
            sources the network has met: what networks can be compared by.
    """

    samples: tuple[Sample, ...]
    folds: tuple[str, ...]
    raws: Mapping[str, Mapping[str, tuple[Floats, ...]]]
    steps: Mapping[str, int]
    scale: Mapping[str, Mapping[str, tuple[float, float]]]

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """(rows,), 1 = fake."""
        return labels_of(self.samples)

    def pooled(self, head: str, how: Pool = "mean", condition: str = "clean") -> Floats:
        """One raw score a row, (rows,); NaN where the view does not apply."""
        return np.array([pool(raw, how) if len(raw) else np.nan for raw in self.raws[condition][head]])

    def levels(self, head: str, how: Pool = "mean", condition: str = "clean") -> Floats:
        """Scores as `pooled` gives them, of all folds' networks on one scale: less the mean of that network's scores of
        the tuning rows, over their deviation."""
        scale = np.array([self.scale[fold][head] for fold in self.folds])
        levels: Floats = (self.pooled(head, how, condition) - scale[:, 0]) / scale[:, 1]
        return levels

    def save(self, file: Path) -> None:
        """Write the scores, not the rows, to an npz file that appears whole or not at all."""
        arrays: dict[str, npt.NDArray[np.float64] | npt.NDArray[np.int64]] = {}
        for condition, heads in self.raws.items():
            for head, raws in heads.items():
                arrays[f"{condition}/{head}/raw"] = np.concatenate([*raws, np.empty(0)])
                arrays[f"{condition}/{head}/count"] = np.array([len(raw) for raw in raws], np.int64)
        facts = {
            "places": [sample.place for sample in self.samples],
            "folds": list(self.folds),
            "steps": dict(self.steps),
            "scale": {fold: dict(heads) for fold, heads in self.scale.items()},
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part")
        with part.open("wb") as out:
            np.savez(out, facts=np.frombuffer(json.dumps(facts).encode(), np.uint8), allow_pickle=False, **arrays)
        part.replace(file)

    @classmethod
    def load(cls, file: Path, samples: Iterable[Sample]) -> Scored:
        """What `save` wrote, with its rows found among `samples`."""
        rows = {sample.place: sample for sample in samples}
        with np.load(file, allow_pickle=False) as stored:
            facts = json.loads(stored["facts"].tobytes())
            raws: dict[str, dict[str, tuple[Floats, ...]]] = {}
            for key in stored.files:
                condition, _, rest = key.partition("/")
                head, _, what = rest.rpartition("/")
                if what == "raw":
                    ends = np.cumsum(stored[f"{condition}/{head}/count"])[:-1]
                    raws.setdefault(condition, {})[head] = tuple(np.split(stored[key], ends))
        missing = [place for place in facts["places"] if place not in rows]
        if missing:
            raise ManifestError(f"{file} has scores of {missing[0]}, which is in the manifest no more; remove the file")
        scale = {
            fold: {head: (mean, deviation) for head, (mean, deviation) in heads.items()}
            for fold, heads in facts["scale"].items()
        }
        samples = tuple(rows[place] for place in facts["places"])
        return cls(samples, tuple(facts["folds"]), raws, facts["steps"], scale)


def joined(parts: Sequence[Scored]) -> Scored:
    """The scores of several folds as one."""
    first = parts[0].raws
    raws = {
        condition: {head: tuple(raw for part in parts for raw in part.raws[condition][head]) for head in heads}
        for condition, heads in first.items()
    }
    samples = tuple(sample for part in parts for sample in part.samples)
    steps = {fold: count for part in parts for fold, count in part.steps.items()}
    scale = {fold: heads for part in parts for fold, heads in part.scale.items()}
    return Scored(samples, tuple(fold for part in parts for fold in part.folds), raws, steps, scale)


def on_scale(scored: Scored, how: Pool = "mean", *, most: int = 60) -> LeftOut:
    """The scores of rows that fold networks had not met, for a network trained on all: what `train` calibrates on.

    Networks trained apart do not give scores on one scale. Each fold's are shifted and stretched so that those of the
    tuning rows have the mean and the deviation that the last network's have. Of each source and generator at most
    `most` rows count, so that the threshold holds for a source as they come, not for the largest.

    Args:
        how: the stream pools its crops.
    """
    chosen = {sample.place for sample in drawn(scored.samples, most)}
    rows = np.array([sample.place in chosen for sample in scored.samples])

    def met(tuned: Mapping[str, Floats], labels: npt.NDArray[np.int64]) -> Met:
        raws = {}
        for head, mine in tuned.items():
            mean, deviation = float(np.nanmean(mine)), float(np.nanstd(mine))
            raws[head] = (scored.levels(head, how) * deviation + mean)[rows]
        truth = scored.labels[rows]
        told = {
            "on": "rows of folds that networks of the same recipe were trained without",
            "folds": sorted(set(scored.folds)),
            "real": int((truth == 0).sum()),
            "fake": int((truth == 1).sum()),
            "most": most,
        }
        return Met(raws, truth, told)

    return met


def folds_of(rows: Iterable[Sample]) -> list[str]:
    """The folds that there are, sorted.

    Raises:
        ManifestError: fewer than two.
    """
    table = Table.of(rows)
    found = sorted(set(table.column(FOLD).tolist()) - {""}) if FOLD in table.groups else []
    if len(found) < 2:
        raise ManifestError("the manifest's column fold must name two folds or more; bench/gather.py writes it")
    return found


def left_out(
    recipe: Recipe,
    rows: Iterable[Sample],
    judged: Sequence[Sample],
    folds: Collection[str],
    out: Path,
    *,
    seed: int = 0,
    conditions: Mapping[str, Condition] = CLEAN,
    cache: Path | None = None,
    adapted: bool = False,
    machine: Machine | None = None,
) -> Scored:
    """Train a recipe without some folds, and score rows of theirs by each of its streams; taken up where it stopped.

    Rows of these folds have no part in training, in choosing the epoch, or in fitting heads.

    Args:
        rows: training and tuning rows with the group "fold".
        judged: the rows to score, of those folds.
        folds: that are left out, all at once.
        out: for checkpoints, graphs and `scores.npz`.
        conditions: what the judged pictures go through, by name.
        cache: where decoded tiles are kept, and beside it embeddings by networks that nothing trains.
        adapted: bring each number of the judged rows' embeddings to the mean and the deviation that it has among those
            that the heads were fitted on: adaptation to unlabelled pictures, which asks for many of them at once.

    Raises:
        ManifestError: too few rows of a class are left, or a judged row is of another fold.
        RecipeError: a stream looks at faces.
        InputError: a picture cannot be decoded.
    """
    if any(stream.view.layout == "faces" for stream in recipe.streams):
        raise RecipeError("streams of faces are not cross-fitted; leave them out of the recipe")
    if strangers := [sample.place for sample in judged if sample.groups.get(FOLD) not in folds]:
        raise ManifestError(f"{strangers[0]} is of a fold that is learned from", strangers)
    result = out / "scores.npz"
    if result.exists():
        return Scored.load(result, judged)
    table = Table.of(rows)
    learning = learning_rows(table[~np.isin(table.column(FOLD), list(folds))])
    machine = machine or Machine.here(workers=0)
    raws: dict[str, dict[str, tuple[Floats, ...]]] = {name: {} for name in conditions}
    scale: dict[str, tuple[float, float]] = {}
    steps = 0
    for stream in recipe.streams:
        made = _Made.of(stream, recipe, learning, out, cache or out / "tiles", seed, machine)
        steps += made.steps
        for name, condition in conditions.items():
            parts = made.embeddings(judged, name, condition)
            if adapted:
                there, known = np.concatenate([part for part in parts if len(part)]), made.fitted.embeddings
                gain = known.std(0) / np.maximum(there.std(0), 1e-6)
                parts = [(part - there.mean(0)) * gain + known.mean(0) if len(part) else part for part in parts]
            for head, of in made.fitted.heads.items():
                raws[name][head] = tuple(of.raw(part) if len(part) else np.empty(0) for part in parts)
        tuned = raw_scores(learning["tune"], stream.view, made.engine, made.fitted.heads, stream.pool, workers=1)
        scale |= {head: (float(np.nanmean(raw)), float(np.nanstd(raw))) for head, raw in tuned.items()}
    left = sorted(folds)
    mine = tuple(sample.groups[FOLD] for sample in judged)
    scored = Scored(tuple(judged), mine, raws, dict.fromkeys(left, steps), dict.fromkeys(left, scale))
    scored.save(result)
    return scored


@dataclasses.dataclass(frozen=True)
class _Made:
    """A stream's network, as it is judged by, and its heads."""

    stream: Stream
    engine: Engine
    fitted: Fitted
    steps: int
    kept: Path | None
    """Where embeddings are kept for other recipes that ask for the same of the same network; None where no other has
    it, because it was trained."""
    upstream: str

    @classmethod
    def of(
        cls,
        stream: Stream,
        recipe: Recipe,
        learning: Mapping[str, Table],
        out: Path,
        cache: Path,
        seed: int,
        machine: Machine,
    ) -> Self:
        shown = recipe.shown(stream.name)
        data = {
            split: Data(part, tiles.build(part, shown.tiles, cache, seed=0, workers=2, view=stream.view))
            for split, part in learning.items()
        }
        steps, train = 0, data["train"]
        if recipe.frozen(stream.name):
            trunk = network(stream)
        else:
            training = descend(stream, recipe.descend(stream.name), train, data["tune"], out, machine, seed=seed)
            trunk, steps = merge(training.trunk), training.step
        graphs, engine, _ = exported(stream, trunk, out, "fp16")
        upstream = hashlib.sha256(b"".join(graphs[name] for name in sorted(graphs))).hexdigest()
        folder = cache.parent / "embeddings" if recipe.frozen(stream.name) else None
        kept = _kept(folder, stream, upstream, train.samples, shown.model_dump_json())
        fitted = fit(
            stream, recipe.fit(stream.name), shown, train.samples, train.store, engine, seed=seed, workers=1, kept=kept
        )
        return cls(stream, engine, fitted, steps, folder, upstream)

    def embeddings(self, rows: Sequence[Sample], name: str, condition: Condition) -> list[npt.NDArray[np.float32]]:
        """Of the crops of each row after a condition; empty where the view does not apply."""
        view = self.stream.view

        def crops(sample: Sample) -> Pixels:
            pixels = condition(decode(sample.place).pixels)
            if view.why_not(pixels.shape[1], pixels.shape[0]):
                return np.empty((0, view.size, view.size, 3), np.uint8)
            return view.crops(pixels)

        kept = _kept(self.kept, self.stream, self.upstream, rows, name)
        file = None if kept is None else kept.file("judged", view=view.model_dump(mode="json"))
        return embed(rows, crops, view, self.engine, what=f"judging {name}", workers=1, kept=file)


def _kept(folder: Path | None, stream: Stream, upstream: str, rows: Iterable[Sample], how: str) -> Kept | None:
    if folder is None:
        return None
    told = hashlib.sha256("\n".join([upstream, how, *(row.place for row in rows)]).encode()).hexdigest()[:16]
    return Kept(folder / told, stream.name, upstream)


def kind_of(sample: Sample) -> str:
    """Which kind of pseudo-fake a row is; empty for a picture that was found."""
    return next((kind for kind in PSEUDO if sample.groups.get(kind) == "1"), "")


def drawn(rows: Iterable[Sample], most: int, *, seed: int = 0) -> list[Sample]:
    """At most `most` rows of each generator (of a real: source), in the rows' order. Which ones hangs on the seed and
    on their origins, so that further rows of other generators change nothing."""
    samples = list(rows)

    def chance(row: int) -> bytes:
        return hashlib.sha256(f"{seed} {samples[row].origin or samples[row].place}".encode()).digest()

    taken: Counter[tuple[int, str]] = Counter()
    chosen = []
    for row in sorted(range(len(samples)), key=chance):
        sample = samples[row]
        key = (int(sample.label or 0), sample.generator or sample.source)
        taken[key] += 1
        if taken[key] <= most:
            chosen.append(row)
    return [samples[row] for row in sorted(chosen)]
