"""From a recipe and a manifest to a bundle: the stages of a recipe, in order.

    prepare   decode every training and tuning picture once
    descend   train each stream's network                      (checkpoints, resume)
    export    the network as graphs; all that follows runs these
    fit       each stream's head, on embeddings of training rows
    calibrate slope, offset, threshold, doubt band, on tuning rows
    checks    signs of failure, on tuning rows
    write     the bundle, with what it saw

Test rows are never opened.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import platform
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from rich.console import Console

import assay
from assay.data.manifest import select
from assay.errors import ManifestError, RecipeError
from assay.image.view import View
from assay.judge import bundle
from assay.judge.card import Card, HeadCard, StreamCard
from assay.judge.engine import Engine, runtime
from assay.judge.heads import Head
from assay.judge.seen import Seen
from assay.learn import checks, tiles
from assay.learn.calibrate import calibrate, raw_scores
from assay.learn.descend import Data, Machine, Training, descend
from assay.learn.embed import embed
from assay.learn.export import export, parity
from assay.learn.fit import fit
from assay.learn.recipe import Calibrate, Descend, Fit, Recipe, Stage, Stream
from assay.learn.views import random_region, sized
from assay.types import Label, Pixels, Sample

PARITY = 5e-3
"""Largest relative difference between torch's embedding and the stored graph's that is let pass; fp16 weights cost
about 5e-4."""


def train(
    recipe: Recipe,
    samples: Sequence[Sample],
    out: Path,
    *,
    name: str = "",
    version: str = "1",
    minutes: float | None = None,
    resume: bool = True,
    workers: int = 2,
    device: str = "auto",
    seed: int = 0,
    precision: Literal["fp32", "fp16"] = "fp16",
    cache: Path | None = None,
    console: Console | None = None,
) -> Path:
    """Train a recipe and write its bundle to `out/bundle`.

    Args:
        samples: rows with split "train" and "tune", labelled, both classes in each; rows of other splits are left
            alone.
        out: for checkpoints, logs and the bundle.
        name, version: of the detector; the recipe's name where none is given.
        minutes: budget of the descent (all streams together); None takes the recipe's own length.
        resume: go on from the last checkpoint in `out` where there is one; else what an earlier run left is removed.
        workers: loader processes.
        device: "auto", "cpu" or "cuda".
        precision: how the bundle stores weights.
        cache: where decoded tiles are kept; runs on the same rows share them. `out/tiles` where none is given.

    Returns:
        The bundle's folder.

    Raises:
        ManifestError: rows are missing, unlabelled or cannot be decoded.
        RecipeError: the recipe does not hold, or `out` holds another run.
    """
    console = console or Console(stderr=True)
    rows = _rows(samples)
    machine = Machine.here(device, workers)
    _claim(out, recipe, rows, seed, resume)
    descents = {stage.stream: stage for stage in recipe.stages if isinstance(stage, Descend)}
    fits = {stage.stream: stage for stage in recipe.stages if isinstance(stage, Fit)}
    calibration = _one(recipe.stages)
    heads: dict[str, Head] = {}
    files: dict[str, bytes] = {}
    cards: list[StreamCard] = []
    raws: dict[str, npt.NDArray[np.float64]] = {}
    evidence: dict[str, dict[str, Any]] = {}
    seen: dict[str, Data] = {}
    labels = np.array([int(sample.label or 0) for sample in rows["tune"]])
    for stream in recipe.streams:
        if stream.name not in descents or stream.name not in fits:
            raise RecipeError(f"stream {stream.name!r} needs a descend and a fit stage")
        stage = descents[stream.name]
        data = {
            split: Data(
                part, tiles.build(part, stage.tiles, cache or out / "tiles", seed=seed, workers=max(1, workers))
            )
            for split, part in rows.items()
        }
        seen |= data
        share = None if minutes is None else minutes / len(recipe.streams)
        training = descend(
            stream, stage, data["train"], data["tune"], out, machine, seed=seed, minutes=share, resume=resume
        )
        graphs, engine = _exported(training, stream, out, precision)
        files |= graphs
        head, fitted, fitted_labels = fit(
            stream,
            fits[stream.name],
            stage,
            data["train"].samples,
            data["train"].store,
            engine,
            seed=seed,
            workers=machine.workers,
        )
        heads[stream.name] = head
        raws[stream.name] = raw_scores(rows["tune"], stream.view, engine, head, stream.pool, workers=machine.workers)
        evidence[stream.name] = _evidence(stream, stage, data["tune"], engine, head, seed, machine.workers) | {
            "fitted": head.raw(fitted),
            "fitted_labels": fitted_labels,
            "training": training,
        }
        cards.append(_stream_card(stream, training, fits[stream.name]))
    judge = calibrate(raws, labels, {stream.name: stream.pool for stream in recipe.streams}, calibration)
    signs: dict[str, Any] = {}
    for stream in recipe.streams:
        found = evidence[stream.name]
        rule = judge.streams[stream.name]
        signs[stream.name] = checks.checks(
            embeddings=found["embeddings"],
            labels=labels,
            clean=found["clean"],
            altered=found["altered"],
            fitted=found["fitted"],
            fitted_labels=found["fitted_labels"],
            scores=rule.probability(raws[stream.name]),
            threshold=rule.threshold,
            fpr=rule.fpr,
        )
        checks.show(signs[stream.name], console)
    card = Card(
        name=name or recipe.name.replace(":", "-"),
        version=version,
        description=recipe.summary + ".",
        recipe=recipe.name,
        created=datetime.date.today(),
        assay=assay.__version__,
        streams=tuple(cards),
        data=_data(rows),
        figures={"signs": {stream: [check.to_dict() for check in found] for stream, found in signs.items()}},
        engine=runtime(),
        precision=precision,
        training=_training(recipe, {name: found["training"] for name, found in evidence.items()}, machine, seed),
    )
    known = [data for data in seen.values()]
    folder = out / "bundle"
    bundle.write(
        folder,
        card,
        judge,
        files=files,
        heads=heads,
        seen=Seen.of(
            files=[sha for data in known for sha in data.store.sha256],
            origins=[sample.origin for data in known for sample in data.samples],
            phashes=[phash for data in known for phash in data.store.phashes],
        ),
    )
    console.print(f"wrote {folder}", highlight=False)
    return folder


def _rows(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    rows = {split: select(samples, split=split) for split in ("train", "tune")}
    problems = []
    for split, part in rows.items():
        problems += [f"{sample.place}: no label" for sample in part if sample.label is None]
        for label in Label:
            if sum(sample.label == label for sample in part) < 2:
                problems.append(
                    f"split {split!r} has fewer than two {label.name.lower()} rows; training needs both classes"
                )
    if problems:
        raise ManifestError("cannot train on this manifest:\n  " + "\n  ".join(problems[:20]), problems)
    return rows


def _claim(out: Path, recipe: Recipe, rows: dict[str, list[Sample]], seed: int, resume: bool) -> None:
    """Note in `out` which run it holds, or see that it holds this one."""
    counts = {split: len(part) for split, part in rows.items()}
    plan = {"recipe": recipe.model_dump(mode="json"), "seed": seed, "rows": counts}
    note = out / "run.json"
    if note.exists() and not resume:
        shutil.rmtree(out)
    if note.exists():
        if json.loads(note.read_text()) != plan:
            raise RecipeError(f"{out} holds a run of another recipe, seed or manifest; give another folder, or --fresh")
        return
    if out.exists() and any(out.iterdir()):
        raise RecipeError(f"{out} is not empty and holds no run; give another folder")
    out.mkdir(parents=True, exist_ok=True)
    part = note.with_suffix(".part")
    part.write_text(json.dumps(plan, indent=1))
    part.replace(note)


def _one(stages: Sequence[Stage]) -> Calibrate:
    found = [stage for stage in stages if isinstance(stage, Calibrate)]
    if len(found) != 1:
        raise RecipeError("a recipe needs exactly one calibrate stage")
    return found[0]


def _exported(
    training: Training, stream: Stream, out: Path, precision: Literal["fp32", "fp16"]
) -> tuple[dict[str, bytes], Engine]:
    graphs = export(training.trunk, stream.view.size, stream.name, precision)
    folder = out / "graphs"
    folder.mkdir(exist_ok=True)
    for name, content in graphs.items():
        (folder / name).write_bytes(content)
    engine = Engine(folder, stream.name)
    apart = parity(training.trunk, engine.run, stream.view.size)
    if apart > PARITY:
        raise RecipeError(f"the exported graph of {stream.name} differs from torch by {apart:.1e}; store it as fp32")
    return graphs, engine


def _evidence(
    stream: Stream, stage: Descend, tune: Data, engine: Engine, head: Head, seed: int, workers: int
) -> dict[str, npt.NDArray[np.float64]]:
    """Tuning rows as they are and after T, one crop each: what the check list compares."""
    view = View(**stream.view.model_dump() | {"layout": "centre"})

    def both(row: int) -> Pixels:
        rng = np.random.default_rng([seed, 3, row])
        tile = tune.store.tile(row, 0)
        altered = sized(stage.alter, stream.view.size)(random_region(tile, stage.crops, rng), rng)
        return np.concatenate([view.crops(tile), altered[None]])

    parts = np.stack(
        embed(range(len(tune.samples)), both, view, engine, what="looking for signs of failure", workers=workers)
    )
    clean, altered = parts[:, 0], parts[:, 1]
    return {"embeddings": clean.astype(np.float64), "clean": head.raw(clean), "altered": head.raw(altered)}


def _stream_card(stream: Stream, training: Training, stage: Fit) -> StreamCard:
    return StreamCard(
        name=stream.name,
        view=stream.view,
        trunk=stream.name,
        head=HeadCard(
            kind=stream.head.kind, settings=stream.head.model_dump(exclude={"kind"}) | {"records": stage.records}
        ),
        parameters=sum(p.numel() for p in training.trunk.parameters()),
        embedding=training.trunk.dim,
        backbone=f"{stream.backbone.name} on {stream.backbone.front}",
    )


def _data(rows: dict[str, list[Sample]]) -> dict[str, Any]:
    """Counts by class, source and licence, for the card."""
    table: dict[str, Any] = {}
    for split, part in rows.items():
        counts = Counter((s.label.name.lower() if s.label is not None else "", s.generator or s.source) for s in part)
        table[split] = {
            label: {name: n for (of, name), n in sorted(counts.items()) if of == label} for label in ("real", "fake")
        }
    licences = Counter(s.groups.get("licence", "") or "not recorded" for part in rows.values() for s in part)
    return table | {"licences": dict(sorted(licences.items()))}


def _training(recipe: Recipe, trainings: dict[str, Training], machine: Machine, seed: int) -> dict[str, Any]:
    return {
        "recipe": recipe.model_dump(mode="json", exclude={"expects"}),
        "commit": _commit(),
        "seed": seed,
        "streams": {
            name: {
                "steps": training.step,
                "kept_step": training.best_step,
                "minutes": round(training.seconds / 60, 1),
                "tuning_auc": round(training.best, 4),
                "loss": round(float(np.mean(training.losses[-50:])), 4),
            }
            for name, training in trainings.items()
        },
        "machine": f"{machine.device}, {'bfloat16' if machine.bf16 else 'float32'} forward, {platform.machine()}",
        "torch": importlib.metadata.version("torch"),
    }


def _commit() -> str:
    """The commit that the running source stands at, with a mark where files differ from it; empty outside a checkout."""
    here = Path(__file__).parent
    try:
        told = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except OSError:
        return ""
    return told.stdout.strip()
