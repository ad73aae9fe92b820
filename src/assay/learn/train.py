"""From a recipe and a manifest to a bundle: the stages of a recipe, in order.

    prepare   add secondary rows, derive (augmented copies, …), decode every training and tuning picture once
    pretrain  train networks that streams begin with, where the recipe says so; kept, and shared by runs
    descend   train each stream's network, neck and layer      (checkpoints, resume); a frozen one stays as it is
    separate  do real and fake lie apart in the embedding?     (figures, t-SNE, a warning where they do not)
    export    the network as graphs; all that follows runs these
    fit       each stream's heads, on embeddings of training rows, which are kept for the next fit
    calibrate slope, offset, threshold, doubt band of each head, and how the streams vote, on tuning rows
    checks    signs of failure, on tuning rows
    join      streams over one frozen network get one graph
    write     the bundle, with what it saw

Test rows are never opened. Of several ranks, rank 0 does all of this; the others take part in the descents.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import importlib.metadata
import json
import math
import platform
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console

import assay
from assay.data import remote
from assay.data.index import Index
from assay.data.table import Table, concatenated
from assay.errors import ManifestError, RecipeError
from assay.image.view import View
from assay.judge import bundle
from assay.judge.card import Card, HeadCard, StreamCard
from assay.judge.detector import Detector
from assay.judge.engine import Device, Engine, runtime
from assay.judge.heads import Head
from assay.judge.rule import DIGITS, HeadKind, Judge
from assay.judge.seen import Seen
from assay.judge.skip import Skip, choose
from assay.learn import checks, ranks, separation, tiles
from assay.learn.batches import TEACHER
from assay.learn.calibrate import BEST, METHODS, calibrate, raw_scores
from assay.learn.checks import Check, Evidence
from assay.learn.descend import CHECKPOINT_SECONDS, PROBE_ROWS, Data, Machine, Training, descend, follow
from assay.learn.embed import Kept, embed
from assay.learn.export import Precision, export, parity
from assay.learn.fit import fit
from assay.learn.flow import Flow
from assay.learn.hold import Memory, held, remember, rows_of
from assay.learn.nn.backbones import Trunk
from assay.learn.nn.network import joined, merge, network
from assay.learn.prepare import derived, imbalanced, with_secondary
from assay.learn.pretrain import pretrained
from assay.learn.recipe import Backbone, CrossEntropy, Descend, Descent, Fit, Recipe, Shown, Stream, Text
from assay.learn.recipe import Head as HeadRecipe
from assay.learn.rows import FEWEST, described, labels_of, learning_rows
from assay.learn.run import Run, claim
from assay.learn.views import changed, random_region
from assay.types import Label, Pixels, Sample

PARITY: Mapping[Precision, float] = {"fp32": 5e-3, "fp16": 5e-3, "int8": 5e-2}
"""Largest relative difference between torch's embedding and the stored graph's that is let pass; fp16 weights cost
about 5e-4, int8 ones some hundredths. What follows is fitted on what the graph gives."""

COUNTED = 1e-5
"""The same of what only counts, by graph or without: nothing may be rounded."""

RANDOM = "none: random ones"
"""What a card says of the weights of a frozen network that has none."""


@dataclasses.dataclass(frozen=True)
class Met:
    """Rows that slope, threshold and doubt band are chosen on, where they are not the tuning rows.

    Args:
        raws: raw scores of each stream and head, (rows,), on the scale of the networks that ship.
        labels: (rows,), 1 = fake.
        told: for the card.
    """

    raws: Mapping[str, npt.NDArray[np.float64]]
    labels: npt.NDArray[np.int64]
    told: Mapping[str, Any]


LeftOut = Callable[[Mapping[str, npt.NDArray[np.float64]], npt.NDArray[np.int64]], Met]
"""From the raw scores of the tuning rows, by stream and head, and their labels."""

LEFT_OUT_ROWS = "rows from sources and generators that were left out of training"

TOGETHER = "together"
"""Under which a card has the signs of all streams together."""


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
        graphs: its files, by name.
        cards: for each head its part of the bundle's card, the default one first.
        heads: fitted, by name.
        raws: of each head, raw scores of tuning rows, (rows,), NaN where the stream does not apply.
        evidence: of each head, for the check list.
        training: facts for the card.
        memories: of the rows it was trained and tuned on.
        limits: for the card.
        trunk: the network as it was exported.
        still: its trunk, where that was not trained: streams over equal ones can share a run.
    """

    graphs: dict[str, bytes]
    cards: tuple[StreamCard, ...]
    heads: Mapping[str, Head]
    raws: Mapping[str, npt.NDArray[np.float64]]
    evidence: Mapping[str, Evidence]
    training: dict[str, Any]
    memories: tuple[Memory, ...]
    limits: tuple[str, ...]
    trunk: Trunk
    still: Backbone | None


def train(
    recipe: Recipe,
    data: Iterable[Sample] | Index,
    out: Path,
    *,
    secondary: Iterable[Sample] | None = None,
    teacher: Detector | None = None,
    left_out: LeftOut | None = None,
    name: str = "",
    version: str = "1",
    minutes: float | None = None,
    resume: bool = True,
    workers: int = 2,
    device: str = "auto",
    shard: bool = False,
    recompute: bool = False,
    compiled: bool = False,
    seed: int = 0,
    precision: Precision = "fp16",
    cache: Path | None = None,
    console: Console | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Path:
    """Train a recipe and write its bundle to `out/bundle`.

    Where the environment speaks of several ranks (`torchrun`, `assay.learn.launch`) each calls this. What the others
    than rank 0 give but for device, workers and the like is not looked at.

    Args:
        data: rows with split "train" and "tune", labelled, both classes in each, or shards of such rows; rows of other
            splits are left alone.
        out: for checkpoints, logs and the bundle.
        secondary: rows of a second data set that are trained on too (`assay.learn.prepare.with_secondary`), weighed by
            the stages' `secondary_weight`.
        teacher: the detector that the column "teacher" comes from, for the card. What it was made with counts as seen
            by its student too.
        left_out: what the same recipe made of rows that it had not met (`assay.learn.crossfit.on_scale`); slope,
            threshold and doubt band are then chosen on these in place of the tuning rows.
        name, version: of the detector; the recipe's name where none is given.
        minutes: budget of the descent (all streams together); None takes the recipe's own length. Frozen networks
            need none.
        resume: go on from the last checkpoint in `out` where there is one, also to fit other heads on networks that are
            trained already; else what an earlier run left is removed.
        workers: loader processes, of each rank.
        device: "auto", "cpu" or "cuda".
        shard, recompute, compiled: as `assay.learn.descend.Machine`.
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
        RankLost: another rank has ended.
    """
    folder = out / bundle.MADE
    with ranks.joined(Machine.here(device).device) as found:
        machine = Machine.here(device, workers, ranks=found, shard=shard, recompute=recompute, compiled=compiled)
        if not found.lead:
            follow(machine)
            return folder
        _made(
            recipe,
            data,
            Settings(out, machine, seed, minutes, resume, precision, cache or out / "tiles", checkpoint_seconds),
            secondary=secondary,
            teacher=teacher,
            left_out=left_out,
            name=name,
            version=version,
            console=console or Console(stderr=True),
        )
        found.tell(None)
    return folder


def _made(
    recipe: Recipe,
    data: Iterable[Sample] | Index,
    settings: Settings,
    *,
    secondary: Iterable[Sample] | None,
    teacher: Detector | None,
    left_out: LeftOut | None,
    name: str,
    version: str,
    console: Console,
) -> None:
    """See `train`."""
    out, seed, workers = settings.out, settings.seed, settings.machine.workers
    # Looked at before any work, so that a recipe that cannot end does not begin.
    shown = {stream.name: recipe.shown(stream.name) for stream in recipe.streams}
    trained = sum(not recipe.frozen(stream.name) for stream in recipe.streams)
    names = [name for stream in recipe.streams for name in stream.named]
    if len(set(names)) < len(names):
        raise RecipeError(f"two streams of the bundle would have one name: {', '.join(names)}; rename a stream")
    if taken := sorted(set(names) & {*METHODS, BEST}):
        raise RecipeError(f"a rule of the vote has the name of a stream: {', '.join(taken)}; rename the stream")
    calibration = recipe.calibrate()
    if settings.minutes is not None:
        settings = dataclasses.replace(settings, minutes=settings.minutes / max(1, trained))
    source = data if isinstance(data, Index) else Table.of(data)
    rows = learning_rows(rows_of(source) if isinstance(source, Index) else source)
    far = isinstance(source, Index) and remote.is_address(source.source)
    for stream, how in shown.items() if far else ():
        if how.decode == "once":
            field = "fit.shown.decode" if recipe.frozen(stream) else "descend.decode"
            raise RecipeError(
                f"shards at an address are too far away to be decoded once and kept; set {field} to always, or copy "
                "them here"
            )
    if secondary is not None:
        if isinstance(source, Index):
            raise RecipeError("shards cannot have a secondary data set beside them; give a manifest")
        rows = with_secondary(rows, secondary, source)
    if recipe.imbalance is not None and isinstance(source, Index):
        raise RecipeError("rows of shards cannot be left out by their class; give a manifest, or set imbalance to null")
    if recipe.derive and isinstance(source, Index):
        raise RecipeError(
            f"shards cannot be derived from ({', '.join(recipe.derive)}); give a manifest, or set derive to []"
        )
    if recipe.imbalance is not None:
        rows = imbalanced(rows, recipe.imbalance)
    _check_taught(recipe, rows["train"])
    if claim(out, Run.of(recipe, rows, seed), resume=settings.resume):
        console.print("the networks are trained already; heads are fitted anew", highlight=False)
    if recipe.derive:
        rows = derived(rows, recipe.derive, settings.cache, seed=seed, workers=workers)
    if recipe.derive or secondary is not None or recipe.imbalance is not None:
        source = concatenated(list(rows.values()))
    if far:
        rows["tune"] = held(source, rows["tune"], "tune", settings.cache, seed=seed)
    labels = labels_of(rows["tune"])
    asked = recipe
    before: dict[str, Any] = {}
    if recipe.pretrained:
        recipe, before = pretrained(
            recipe,
            lambda stream, stage: {split: _data(stream, part, stage, settings)[0] for split, part in rows.items()},
            Run.of(recipe, rows, seed).manifest,
            settings.cache,
            settings.machine,
            seed=seed,
        )
    learned = [_learn(stream, recipe, source, rows, settings, console) for stream in recipe.streams]
    if recipe.shared:
        learned = _joined(recipe, learned, settings)
    streams = [each for part in learned for each in part.cards]
    pools = {name: stream.pool for stream in recipe.streams for name in stream.named}
    defaults = [stream.name for stream in recipe.streams]
    several = len(streams) > len(defaults)
    kinds: dict[HeadKind, list[str]] = {}
    for each in streams:
        kinds.setdefault(each.head.kind, []).append(each.name)
    tuned = {name: raws for part in learned for name, raws in part.raws.items()}
    met = None if left_out is None else left_out(tuned, labels)
    judge = calibrate(
        *((tuned, labels) if met is None else (met.raws, met.labels)),
        pools,
        calibration,
        voters=defaults if several else (),
        alternatives={kind: alike for kind, alike in kinds.items() if several and alike != defaults},
        chosen_on="tuning rows" if met is None else LEFT_OUT_ROWS,
    )
    signs: dict[str, list[Check]] = {}
    scores: dict[str, npt.NDArray[np.float64]] = {}
    for part in learned:
        for stream, raws in part.raws.items():
            rule = judge.streams[stream]
            scores[stream] = np.round(rule.probability(raws), DIGITS)
            signs[stream] = checks.checks(
                part.evidence[stream], labels, scores[stream], threshold=rule.threshold, fpr=rule.fpr
            )
            if len(streams) > 1:
                console.print(f"\n[bold]{stream}[/]", highlight=False)
            checks.show(signs[stream], console)
    judge = judge.model_copy(update={"skip": _skip(judge, streams, scores, calibration.skip)})
    if len(judge.voting) > 1:
        # No vote comes of pictures that no stream applies to.
        some = np.isfinite(np.stack([scores[stream] for stream in judge.voting])).any(axis=0)
        votes = {stream: scores[stream][some] for stream in judge.voting}
        signs[TOGETHER] = checks.together(labels[some], votes, judge.votes(votes))
        console.print("\n[bold]the streams together[/]", highlight=False)
        checks.show(signs[TOGETHER], console)
    card = Card(
        name=name or recipe.name.replace(":", "-"),
        version=version,
        description=recipe.summary + ".",
        recipe=recipe.name,
        created=datetime.date.today(),
        assay=assay.__version__,
        streams=tuple(streams),
        data=described(rows),
        figures={"signs": {stream: [check.to_dict() for check in found] for stream, found in signs.items()}},
        limits=tuple(limit for part in learned for limit in part.limits),
        notes=" ".join(filter(None, [_of_heads(recipe), *_of_precision(recipe, learned)])),
        engine=f"numpy {np.__version__}" if all(stream.runs is not None for stream in streams) else runtime(),
        precision=settings.precision if any("precision" not in part.training for part in learned) else "fp32",
        training=_training(asked, learned, settings, before)
        | ({} if met is None else {"calibrated": dict(met.told)})
        | ({} if teacher is None else {"teacher": _signature(teacher)}),
    )
    folder = out / bundle.MADE
    bundle.write(
        folder,
        card,
        judge,
        files={file: content for part in learned for file, content in part.graphs.items()},
        heads={stream: head for part in learned for stream, head in part.heads.items()},
        seen=_seen(learned) if teacher is None else _seen(learned).joined(teacher.seen),
    )
    console.print(f"wrote {folder}", highlight=False)


def _check_taught(recipe: Recipe, train: Table) -> None:
    """Raises ManifestError where a stage asks for a teacher's scores and a training row has none."""
    asked = ["fit.teacher" for stage in recipe.stages if isinstance(stage, Fit) and stage.teacher]
    losses = [stage.loss for stage in recipe.stages if isinstance(stage, Descend)]
    asked += ["descend.loss.teacher" for loss in losses if isinstance(loss, CrossEntropy) and loss.teacher]
    if asked and (TEACHER not in train.groups or (train.column(TEACHER) == "").any()):
        raise ManifestError(
            f"{asked[0]} asks for the column {TEACHER}, and training rows have none; make it with assay distill, or "
            f"set {asked[0]} to 0"
        )


def _learn(
    stream: Stream,
    recipe: Recipe,
    source: Index | Table,
    rows: Mapping[str, Table],
    settings: Settings,
    console: Console,
) -> Learned:
    """Train one stream's network unless it is frozen, export it, and fit its heads on what the exported graph gives."""
    workers = settings.machine.workers
    shown, fitting = recipe.shown(stream.name), recipe.fit(stream.name)
    stage = None if recipe.frozen(stream.name) else recipe.descend(stream.name)
    flow = None
    memories: list[Memory] = []
    if shown.decode == "always":
        most = fitting.records
        if stage is not None:
            flow = Flow(source, stage, stream.view, settings.seed)
            memories.append(remember(source, settings.cache, workers=workers))
            most = max(most, PROBE_ROWS)
        rows = dict(rows) | {
            "train": held(source, rows["train"], "train", settings.cache, most=most, seed=settings.seed)
        }
    data: dict[str, Data] = {}
    for split, part in rows.items():
        data[split], memory = _data(stream, part, shown, settings)
        memories.append(memory)
    if stage is None:
        torch.manual_seed(settings.seed)
        trunk, facts, layer = network(stream), _frozen(stream.backbone), None
    else:
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
        facts = _descended(training)
        facts["separation"] = separation.look(training, data["tune"], settings.out / separation.FOLDER, console)
        layer = training.layer if stream.keeps_layer else None
        trunk = merge(training.trunk)
    graphs, engine, precision = exported(stream, trunk, settings.out, settings.precision, settings.machine.device)
    if precision != settings.precision:
        facts["precision"] = precision
        console.print(f"{stream.name} is stored as {precision}: {settings.precision} would move its embedding")
    kept = Kept(settings.out / "embeddings", stream.name, _hash(graphs))
    train, tune = data["train"], data["tune"]
    fitted = fit(
        stream,
        fitting,
        shown,
        train.samples,
        train.store,
        engine,
        seed=settings.seed,
        workers=workers,
        kept=kept,
        trained=layer,
    )
    known = labels_of(tune.samples)
    embeddings, altered = _probes(stream, shown, tune, engine, settings.seed, workers, kept)
    scored = kept.file("scored", view=stream.view.model_dump(mode="json"), pictures=list(tune.store.sha256))
    return Learned(
        graphs=graphs,
        cards=tuple(_stream_card(stream, name, head, fitting, trunk) for name, head in stream.named.items()),
        heads=fitted.heads,
        raws=raw_scores(rows["tune"], stream.view, engine, fitted.heads, stream.pool, workers=workers, kept=scored),
        evidence={
            name: Evidence(embeddings, known, head.raw(embeddings), head.raw(altered), *fitted.known(name))
            for name, head in fitted.heads.items()
        },
        training=facts,
        memories=tuple(memories),
        limits=tuple(_limits(stream, facts)),
        trunk=trunk,
        still=None if stage is not None and stage.optimiser.trunk != 0 else stream.backbone,
    )


def _limits(stream: Stream, facts: Mapping[str, Any]) -> Iterator[str]:
    if facts.get("weights") == RANDOM:
        yield f"The network of {stream.name} was never trained."
    if isinstance(stream.neck, Text) and not stream.neck.weights:
        yield f"The texts of {stream.name} were not embedded by a language model: their directions mean nothing."


def _data(stream: Stream, part: Table, shown: Shown, settings: Settings) -> tuple[Data, Memory]:
    """The pictures of a split that a stream has something to see of, with their tiles; and a memory of all of them.

    Raises:
        ManifestError: a class has too few of them.
    """
    store = tiles.build(
        part,
        shown.tiles,
        settings.cache,
        seed=settings.seed,
        workers=settings.machine.workers,
        view=stream.view,
        eyes=isinstance(shown, Descent) and shown.masks,
    )
    memory = Memory(store.sha256, tuple(sample.origin for sample in part), store.phashes)
    there = store.shown
    if len(there) == len(part):
        return Data(part, store), memory
    mine = part[there]
    for label in Label:
        count = int((mine.labels == label).sum())
        if count < FEWEST:
            raise ManifestError(
                f"{stream.name} judges faces, and only {count} {label.name.lower()} rows of one split show any; add "
                "such pictures, or leave that stream out"
            )
    return Data(mine, store.of(there)), memory


def _skip(
    judge: Judge, streams: Sequence[StreamCard], scores: Mapping[str, npt.NDArray[np.float64]], budget: float
) -> Skip | None:
    """When streams may be left out: those that share a run together, faces last, else the smaller network first."""
    groups: dict[tuple[str, View], list[StreamCard]] = {}
    for stream in streams:
        if stream.name in judge.voting:
            groups.setdefault((stream.trunk, stream.view), []).append(stream)
    # The search for faces takes longer than any small network.
    order = sorted(groups.values(), key=lambda group: (group[0].view.layout == "faces", group[0].parameters))
    names = [[stream.name for stream in group] for group in order]
    voting = {name: scores[name] for name in judge.voting}
    return choose(judge.of(judge.voting, judge.ensemble), names, voting, budget=budget)


def _joined(recipe: Recipe, learned: Sequence[Learned], settings: Settings) -> list[Learned]:
    """The streams, those over one frozen network with one graph for all of them; those of one view then share a run.

    Raises:
        RecipeError: the graph does not give what their own gave.
    """
    groups: dict[str, list[int]] = {}
    for place, (stream, part) in enumerate(zip(recipe.streams, learned, strict=True)):
        alike = part.still is not None and part.still.lora is None and stream.beside is None
        told = [stream.view.size, part.still and part.still.model_dump(mode="json")]
        key = json.dumps(told, sort_keys=True) if alike else stream.name
        groups.setdefault(key, []).append(place)
    found = list(learned)
    for places in groups.values():
        if len(places) < 2:
            continue
        mine = [learned[place] for place in places]
        trunk = joined([part.trunk for part in mine])
        stem = "-".join(recipe.streams[place].name for place in places)
        whole = recipe.streams[places[0]].model_copy(update={"name": stem})
        graphs, _, _ = exported(whole, trunk, settings.out, settings.precision, settings.machine.device)
        parameters = sum(p.numel() for p in trunk.parameters())
        start = 0
        for number, (place, part) in enumerate(zip(places, mine, strict=True)):
            span = (start, start + part.trunk.dim)
            change = {"trunk": stem, "part": span, "parameters": parameters}
            cards = tuple(card.model_copy(update=change) for card in part.cards)
            found[place] = dataclasses.replace(part, cards=cards, graphs=graphs if number == 0 else {})
            start = span[1]
    return found


def _descended(training: Training) -> dict[str, Any]:
    """What a card says of a descent."""
    return {
        "steps": training.step,
        "kept_step": training.best_step,
        "minutes": round(training.seconds / 60, 1),
        "tuning_auc": round(training.best, 4),
        "loss": round(float(np.mean(training.losses[-50:])), 4),
    }


def _frozen(backbone: Backbone) -> dict[str, Any]:
    """What a card says of a network that no stage trained: where its weights come from."""
    if backbone.weights:
        path = Path(backbone.weights)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"frozen": True, "weights": f"{path.name}, sha256 {digest}"}
    return {"frozen": True, "weights": "timm's pre-trained ones" if backbone.pretrained else RANDOM}


def exported(
    stream: Stream, trunk: Trunk, out: Path, precision: Precision, device: str = "cpu"
) -> tuple[dict[str, bytes], Engine, Precision]:
    """The trunk's files, in `out/graphs` too, what runs them, and how they store weights: in full where less would move
    embeddings.

    Raises:
        RecipeError: they do not give torch's embeddings.
    """
    folder = out / "graphs"
    folder.mkdir(parents=True, exist_ok=True)
    apart = math.nan
    precisions: tuple[Precision, ...] = (precision, "fp32")
    for kept in dict.fromkeys(precisions):
        graphs = export(trunk, stream.view.size, stream.name, kept)
        for name, content in graphs.items():
            (folder / name).write_bytes(content)
        on: Device = "cpu" if device == "cpu" else "auto"
        engine = Engine(folder, stream.name, device=on)
        apart = parity(trunk, engine.run, stream.view.size)
        if trunk.runs is not None:
            engine = Engine(folder, stream.name, device=on, counting=trunk.runs)
            apart = max(apart, parity(trunk, engine.run, stream.view.size))
        if apart <= (PARITY[kept] if trunk.runs is None else COUNTED):
            return graphs, engine, kept
    raise RecipeError(f"the exported graph of {stream.name} differs from torch by {apart:.1e}, in full precision too")


def _hash(graphs: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name in sorted(graphs):
        digest.update(name.encode() + hashlib.sha256(graphs[name]).digest())
    return digest.hexdigest()


def _probes(
    stream: Stream, shown: Shown, tune: Data, engine: Engine, seed: int, workers: int, kept: Kept
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Embeddings of tuning rows as they are and after T, one crop each, (rows, dim): what the check list compares."""
    view = stream.view.of_region()

    def both(row: int) -> Pixels:
        rng = np.random.default_rng([seed, 3, row])
        tile = tune.store.tile(row, 0)
        region = random_region(tile, shown.crops.base, rng)
        altered = changed(region, shown, stream.view.size, rng, whole=stream.view.resized)
        return np.concatenate([view.crops(tile), altered[None]])

    rows = range(len(tune.samples))
    file = kept.file(
        "probed",
        view=view.model_dump(mode="json"),
        shown=shown.model_dump(mode="json", include=set(Shown.model_fields)),
        pictures=list(tune.store.sha256),
        seed=seed,
    )
    parts = np.stack(embed(rows, both, view, engine, what="looking for signs of failure", workers=workers, kept=file))
    return parts[:, 0].astype(np.float64), parts[:, 1].astype(np.float64)


def _stream_card(stream: Stream, name: str, head: HeadRecipe, fitting: Fit, trunk: Trunk) -> StreamCard:
    return StreamCard(
        name=name,
        view=stream.view,
        trunk=stream.name,
        head=HeadCard(
            kind=head.kind, settings=head.model_dump(mode="json", exclude={"kind"}) | {"records": fitting.records}
        ),
        parameters=sum(p.numel() for p in trunk.parameters()),
        embedding=trunk.dim,
        runs=trunk.runs,
        backbone=f"{stream.backbone.name} on {stream.backbone.front}",
    )


def _of_heads(recipe: Recipe) -> str:
    """Which head judges and why, where there are several to choose from."""
    told = []
    for stream in recipe.streams:
        first, *others = (head.kind for head in stream.heads)
        if others:
            told.append(
                f"{stream.name}: the {first} head judges by default, as the first that the recipe "
                f"{recipe.name} names; {' and '.join(others)} where it is asked for."
            )
    return " ".join(told)


def _of_precision(recipe: Recipe, learned: Sequence[Learned]) -> list[str]:
    """Which networks are stored otherwise than was asked for."""
    return [
        f"{stream.name} is stored as {part.training['precision']}, because less would move its embedding by more than "
        "the bound."
        for stream, part in zip(recipe.streams, learned, strict=True)
        if "precision" in part.training
    ]


def _seen(learned: Sequence[Learned]) -> Seen:
    memories = [memory for part in learned for memory in part.memories]
    return Seen.of(
        files=[sha256 for memory in memories for sha256 in memory.files],
        origins=[origin for memory in memories for origin in memory.origins],
        phashes=[phash for memory in memories for phash in memory.phashes],
    )


def _training(
    recipe: Recipe, learned: Sequence[Learned], settings: Settings, pretrained: Mapping[str, Any]
) -> dict[str, Any]:
    machine = settings.machine
    return {
        "recipe": recipe.model_dump(mode="json", exclude={"expects"}),
        "commit": _commit(),
        "seed": settings.seed,
        **({"pretrained": dict(pretrained)} if pretrained else {}),
        "streams": {stream.name: part.training for stream, part in zip(recipe.streams, learned, strict=True)},
        "machine": f"{machine.device}, {'bfloat16' if machine.bf16 else 'float32'} forward, {platform.machine()}"
        + (f", {machine.ranks.count} devices" if machine.ranks.count > 1 else ""),
        "torch": importlib.metadata.version("torch"),
    }


def _signature(teacher: Detector) -> dict[str, str]:
    return {"name": teacher.name, "version": teacher.version, "sha256": teacher.sha256}


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
