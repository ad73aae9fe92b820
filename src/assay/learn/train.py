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

import dataclasses
import datetime
import importlib.metadata
import platform
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

import assay
from assay.data import remote
from assay.data.index import Index
from assay.data.table import Table
from assay.errors import RecipeError
from assay.judge import bundle
from assay.judge.card import Card, HeadCard, StreamCard
from assay.judge.engine import Engine, runtime
from assay.judge.heads import Head
from assay.judge.rule import DIGITS
from assay.judge.seen import Seen
from assay.learn import checks, tiles
from assay.learn.calibrate import calibrate, raw_scores
from assay.learn.checks import Check, Evidence
from assay.learn.descend import CHECKPOINT_SECONDS, PROBE_ROWS, Data, Machine, Training, descend
from assay.learn.embed import embed
from assay.learn.export import Precision, export, parity
from assay.learn.fit import fit
from assay.learn.flow import Flow
from assay.learn.hold import Memory, held, remember, rows_of
from assay.learn.recipe import Descend, Fit, Recipe, Stream
from assay.learn.rows import described, labels_of, learning_rows
from assay.learn.run import Run, claim
from assay.learn.views import random_region, sized
from assay.types import Pixels, Sample

PARITY = 5e-3
"""Largest relative difference between torch's embedding and the stored graph's that is let pass; fp16 weights cost
about 5e-4."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the streams of a run share."""

    out: Path
    machine: Machine
    seed: int
    minutes: float | None
    resume: bool
    precision: Precision
    cache: Path
    checkpoint_seconds: float


@dataclasses.dataclass(frozen=True)
class Learned:
    """A stream that is trained and fitted: what calibration, check list and bundle need of it.

    Args:
        card: its part of the bundle's card.
        graphs: its files, by name.
        head: fitted.
        raws: raw scores of tuning rows, (rows,), NaN where the stream does not apply.
        evidence: for the check list.
        training: facts for the card.
        memories: of the rows it was trained and tuned on.
    """

    card: StreamCard
    graphs: dict[str, bytes]
    head: Head
    raws: npt.NDArray[np.float64]
    evidence: Evidence
    training: dict[str, Any]
    memories: tuple[Memory, ...]


def train(
    recipe: Recipe,
    data: Iterable[Sample] | Index,
    out: Path,
    *,
    name: str = "",
    version: str = "1",
    minutes: float | None = None,
    resume: bool = True,
    workers: int = 2,
    device: str = "auto",
    seed: int = 0,
    precision: Precision = "fp16",
    cache: Path | None = None,
    console: Console | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Path:
    """Train a recipe and write its bundle to `out/bundle`.

    Args:
        data: rows with split "train" and "tune", labelled, both classes in each, or shards of such rows; rows of other
            splits are left alone.
        out: for checkpoints, logs and the bundle.
        name, version: of the detector; the recipe's name where none is given.
        minutes: budget of the descent (all streams together); None takes the recipe's own length.
        resume: go on from the last checkpoint in `out` where there is one; else what an earlier run left is removed.
        workers: loader processes.
        device: "auto", "cpu" or "cuda".
        precision: how the bundle stores weights.
        cache: where decoded tiles (and copies of shards at an address) are kept; runs on the same rows share them.
            `out/tiles` where none is given.
        console: for the check list; standard error where none is given.
        checkpoint_seconds: at most so long lies between two checkpoints.

    Returns:
        The bundle's folder.

    Raises:
        ManifestError: rows are missing, unlabelled or cannot be decoded.
        RecipeError: the recipe does not hold, or `out` holds another run.
    """
    console = console or Console(stderr=True)
    # Looked at before any work, so that a recipe that cannot end does not begin.
    plans = [(stream, recipe.descend(stream.name), recipe.fit(stream.name)) for stream in recipe.streams]
    calibration = recipe.calibrate()
    settings = Settings(
        out,
        Machine.here(device, workers),
        seed,
        None if minutes is None else minutes / len(plans),
        resume,
        precision,
        cache or out / "tiles",
        checkpoint_seconds,
    )
    source = data if isinstance(data, Index) else Table.of(data)
    rows = learning_rows(rows_of(source) if isinstance(source, Index) else source)
    far = isinstance(source, Index) and remote.is_address(source.source)
    if far and any(stage.decode == "once" for _, stage, _ in plans):
        raise RecipeError(
            "shards at an address are too far away to be decoded once and kept; set descend.decode to always, or copy "
            "them here"
        )
    claim(out, Run.of(recipe, rows, seed), resume=resume)
    if far:
        rows["tune"] = held(source, rows["tune"], "tune", settings.cache, seed=seed)
    labels = labels_of(rows["tune"])
    learned = {stream.name: _learn(stream, stage, fitting, source, rows, settings) for stream, stage, fitting in plans}
    pools = {stream.name: stream.pool for stream in recipe.streams}
    judge = calibrate({name: part.raws for name, part in learned.items()}, labels, pools, calibration)
    signs: dict[str, list[Check]] = {}
    for stream, part in learned.items():
        rule = judge.streams[stream]
        scores = np.round(rule.probability(part.raws), DIGITS)
        signs[stream] = checks.checks(part.evidence, labels, scores, threshold=rule.threshold, fpr=rule.fpr)
        checks.show(signs[stream], console)
    card = Card(
        name=name or recipe.name.replace(":", "-"),
        version=version,
        description=recipe.summary + ".",
        recipe=recipe.name,
        created=datetime.date.today(),
        assay=assay.__version__,
        streams=tuple(part.card for part in learned.values()),
        data=described(rows),
        figures={"signs": {stream: [check.to_dict() for check in found] for stream, found in signs.items()}},
        engine=runtime(),
        precision=precision,
        training=_training(recipe, learned, settings),
    )
    folder = out / bundle.MADE
    bundle.write(
        folder,
        card,
        judge,
        files={file: content for part in learned.values() for file, content in part.graphs.items()},
        heads={stream: part.head for stream, part in learned.items()},
        seen=_seen(learned),
    )
    console.print(f"wrote {folder}", highlight=False)
    return folder


def _learn(
    stream: Stream,
    stage: Descend,
    fitting: Fit,
    source: Index | Table,
    rows: Mapping[str, Table],
    settings: Settings,
) -> Learned:
    """Train one stream's network, export it, and fit its head on what the exported graph gives."""
    workers = settings.machine.workers
    flow = None
    memories: list[Memory] = []
    if stage.decode == "always":
        flow = Flow(source, stage, stream.view.size, settings.seed)
        memories.append(remember(source, settings.cache, workers=workers))
        most = max(fitting.records, PROBE_ROWS)
        rows = dict(rows) | {
            "train": held(source, rows["train"], "train", settings.cache, most=most, seed=settings.seed)
        }
    data = {
        split: Data(part, tiles.build(part, stage.tiles, settings.cache, seed=settings.seed, workers=workers))
        for split, part in rows.items()
    }
    memories += [
        Memory(part.store.sha256, tuple(sample.origin for sample in part.samples), part.store.phashes)
        for part in data.values()
    ]
    training = descend(
        stream,
        stage,
        data["train"],
        data["tune"],
        settings.out,
        settings.machine,
        seed=settings.seed,
        flow=flow,
        minutes=settings.minutes,
        resume=settings.resume,
        checkpoint_seconds=settings.checkpoint_seconds,
    )
    graphs, engine = _exported(training, settings)
    head, fitted, fitted_labels = fit(
        stream,
        fitting,
        stage,
        data["train"].samples,
        data["train"].store,
        engine,
        seed=settings.seed,
        workers=workers,
    )
    embeddings, altered = _probes(stream, stage, data["tune"], engine, settings.seed, workers)
    return Learned(
        card=_stream_card(training, fitting),
        graphs=graphs,
        head=head,
        raws=raw_scores(rows["tune"], stream.view, engine, head, stream.pool, workers=workers),
        evidence=Evidence(embeddings, head.raw(embeddings), head.raw(altered), head.raw(fitted), fitted_labels),
        training={
            "steps": training.step,
            "kept_step": training.best_step,
            "minutes": round(training.seconds / 60, 1),
            "tuning_auc": round(training.best, 4),
            "loss": round(float(np.mean(training.losses[-50:])), 4),
        },
        memories=tuple(memories),
    )


def _exported(training: Training, settings: Settings) -> tuple[dict[str, bytes], Engine]:
    """The trunk's files, and what runs them. Raises RecipeError where they do not give torch's embeddings."""
    stream = training.stream
    graphs = export(training.trunk, stream.view.size, stream.name, settings.precision)
    folder = settings.out / "graphs"
    folder.mkdir(exist_ok=True)
    for name, content in graphs.items():
        (folder / name).write_bytes(content)
    engine = Engine(folder, stream.name, device="cpu" if settings.machine.device == "cpu" else "auto")
    apart = parity(training.trunk, engine.run, stream.view.size)
    if not apart <= PARITY:
        raise RecipeError(f"the exported graph of {stream.name} differs from torch by {apart:.1e}; store it as fp32")
    return graphs, engine


def _probes(
    stream: Stream, stage: Descend, tune: Data, engine: Engine, seed: int, workers: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Embeddings of tuning rows as they are and after T, one crop each, (rows, dim): what the check list compares."""
    view = stream.view.model_copy(update={"layout": "centre"})

    def both(row: int) -> Pixels:
        rng = np.random.default_rng([seed, 3, row])
        tile = tune.store.tile(row, 0)
        altered = sized(stage.alter, stream.view.size)(random_region(tile, stage.crops.base, rng), rng)
        return np.concatenate([view.crops(tile), altered[None]])

    rows = range(len(tune.samples))
    parts = np.stack(embed(rows, both, view, engine, what="looking for signs of failure", workers=workers))
    return parts[:, 0].astype(np.float64), parts[:, 1].astype(np.float64)


def _stream_card(training: Training, fitting: Fit) -> StreamCard:
    stream = training.stream
    settings = stream.head.model_dump(exclude={"kind"}) | {"records": fitting.records}
    return StreamCard(
        name=stream.name,
        view=stream.view,
        trunk=stream.name,
        head=HeadCard(kind=stream.head.kind, settings=settings),
        parameters=sum(p.numel() for p in training.trunk.parameters()),
        embedding=training.trunk.dim,
        backbone=f"{stream.backbone.name} on {stream.backbone.front}",
    )


def _seen(learned: Mapping[str, Learned]) -> Seen:
    memories = [memory for part in learned.values() for memory in part.memories]
    return Seen.of(
        files=[sha256 for memory in memories for sha256 in memory.files],
        origins=[origin for memory in memories for origin in memory.origins],
        phashes=[phash for memory in memories for phash in memory.phashes],
    )


def _training(recipe: Recipe, learned: Mapping[str, Learned], settings: Settings) -> dict[str, Any]:
    machine = settings.machine
    return {
        "recipe": recipe.model_dump(mode="json", exclude={"expects"}),
        "commit": _commit(),
        "seed": settings.seed,
        "streams": {name: part.training for name, part in learned.items()},
        "machine": f"{machine.device}, {'bfloat16' if machine.bf16 else 'float32'} forward, {platform.machine()}",
        "torch": importlib.metadata.version("torch"),
    }


def _commit() -> str:
    """The commit that the running source stands at, marked where files differ from it; empty outside a checkout."""
    # Installed below somebody else's checkout, this file is not one of theirs.
    if not _git("ls-files", Path(__file__).name):
        return ""
    return _git("describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return told.stdout.strip()
