"""Training a network by gradient descent on contrastive views, with checkpoints and exact resume.

A run that was killed and taken up again goes through the losses of one that was not, within 1e-5 in float32 on one
kind of CPU: weights, optimiser and the number of the step lie in the checkpoint, and everything random follows from
the seed and the step. (What is left is the order in which threads add up.) On a GPU, or in bfloat16, the two part ways
slowly, as two unbroken runs do.

Several ranks (`assay.learn.ranks`) go through the same function together: each computes the embeddings of its share of
every batch, all compute the whole batch's loss, gradients are averaged, and rank 0 decides, measures and writes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from assay.errors import RecipeError
from assay.image import memory
from assay.image.view import View
from assay.judge.heads import LinearHead
from assay.learn.batches import Batch, Batches
from assay.learn.flow import Flow
from assay.learn.nn import blocks
from assay.learn.nn.backbones import Trunk
from assay.learn.nn.network import network, settle
from assay.learn.objective import Classified, CoDE, objective
from assay.learn.progress import Progress
from assay.learn.ranks import ALONE, Ranks
from assay.learn.recipe import CrossEntropy, Descent, Optimiser, Stream
from assay.learn.rows import labels_of
from assay.learn.tiles import TileStore
from assay.metrics import auc
from assay.types import Sample

CHECKPOINT_SECONDS = 60.0
PROBE_STEPS = 6
"""Steps that a budget in minutes is measured on."""

PROBE_ROWS = 1024
"""Training rows that the linear probe behind the tuning figure is fitted on."""

_PROBE_WARM_UP = 2
_STATE = {"adamw": ("step", "exp_avg", "exp_avg_sq"), "sgd": ("momentum_buffer",)}
"""What each optimiser remembers of a parameter."""


@dataclasses.dataclass(frozen=True)
class Data:
    """Samples with their tiles."""

    samples: Sequence[Sample]
    store: TileStore


@dataclasses.dataclass(frozen=True)
class Machine:
    """What a run computes with.

    Args:
        device: "cpu" or "cuda".
        bf16: whether the forward pass runs in bfloat16 (weights, loss and optimiser stay in float32).
        workers: loader processes (of each rank); 0 makes the batches in the training process.
        ranks: the processes that train together.
        shard: lays weights, gradients and the optimiser's memory out over the ranks, in place of a copy on each: for
            networks that do not fit.
        recompute: computes what lies inside a network's blocks again on the way back in place of keeping it: less
            memory for a third more arithmetic.
        compiled: lets torch compile the network: minutes at the start, faster steps.
    """

    device: str
    bf16: bool
    workers: int
    ranks: Ranks = ALONE
    shard: bool = False
    recompute: bool = False
    compiled: bool = False

    @classmethod
    def here(
        cls, device: str = "auto", workers: int = 2, bf16: bool | None = None, ranks: Ranks = ALONE, **how: bool
    ) -> Machine:
        """What this machine has; "auto" takes a GPU where there is one.

        Args:
            bf16: None takes bfloat16 where the processor has instructions for it.
            how: `shard`, `recompute`, `compiled`.

        Raises:
            RecipeError: a GPU is asked for and there is none, or a network is to be shared out and there is one rank.
        """
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device == "cuda" and not torch.cuda.is_available():
            raise RecipeError("no GPU that torch can use; say --device cpu")
        if bf16 is None:
            bf16 = torch.cuda.is_bf16_supported() if device == "cuda" else _cpu_has_bf16()
        if how.get("shard") and ranks.count == 1:
            raise RecipeError(
                "--shard lays a network out over several devices; give --devices 2 or more, or leave it out"
            )
        return cls(device, bf16, workers, ranks, **how)

    @property
    def plain(self) -> Machine:
        """The same with nothing done to the network that only training wants."""
        return Machine(self.device, self.bf16, self.workers)


def _cpu_has_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    # Without the instructions bfloat16 is emulated, and slower than float32.
    try:
        flags = cpuinfo.read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


class Forward(nn.Module):
    """From a rank's views to the whole batch's loss, as one module: what torch wraps to average gradients."""

    def __init__(
        self, trunk: Trunk, aside: nn.Module, penalties: Mapping[str, float], pairs: int, view: View, machine: Machine
    ) -> None:
        super().__init__()
        self.trunk, self.aside, self.penalties, self.pairs = trunk, aside, penalties, pairs
        self.view, self.machine = view, machine

    def embed(self, views: Mapping[str, npt.NDArray[np.uint8]]) -> dict[str, Tensor]:
        """Embeddings of batches of views by name, those of one size in one pass (BatchNorm then sees them together)."""
        embeddings: dict[str, Tensor] = {}
        sides = sorted({pixels.shape[1] for pixels in views.values()}, reverse=True)
        for side in sides:
            names = [name for name, pixels in views.items() if pixels.shape[1] == side]
            stacked = np.concatenate([views[name] for name in names])
            with torch.autocast(self.machine.device, torch.bfloat16, enabled=self.machine.bf16):
                out = self.trunk(to_tensor(stacked, self.view, self.machine)).float()
            for name, part in zip(names, out.split([len(views[name]) for name in names]), strict=True):
                embeddings[name] = part
        return embeddings

    def forward(self, batch: Batch, chance: torch.Generator) -> Tensor:
        embeddings = self.embed(batch.views)
        ranks, own = self.machine.ranks, len(batch.methods) // 2
        if ranks.count > 1:
            every = ranks.whole(torch.stack(list(embeddings.values())), self.pairs)
            embeddings = dict(zip(embeddings, every, strict=True))
            # Both are numbers that float64 holds exactly, and small.
            told = torch.from_numpy(np.stack([batch.methods.astype(np.float64), batch.teacher], axis=1))
            methods, teacher = ranks.whole(told.to(every.device), self.pairs).cpu().numpy().T
            batch = Batch({}, methods.astype(np.int64), teacher)
        loss: Tensor = self.aside(embeddings, batch, chance)
        for name, weight in self.penalties.items():
            # A mean over this rank's rows, of which there may be more than elsewhere.
            share = own * ranks.count / self.pairs if ranks.count > 1 else 1.0
            loss = loss + weight * ranks.mean(share * self.trunk.penalties()[name])
        return loss


class Training:
    """One network in training: the state that a checkpoint holds.

    Args:
        stream, stage: of the recipe.
        seed: of weights, batches and shuffles.
        total: steps of the whole run; the learning rate depends on it.

    Attributes:
        step: steps done.
        losses: one a step.
        best, best_step: the best tuning figure so far, and after which step.
        seconds: spent so far, broken runs included.
    """

    def __init__(self, stream: Stream, stage: Descent, machine: Machine, *, seed: int, total: int) -> None:
        if machine.device == "cpu":
            memory.keep(everything=True)
        torch.manual_seed(seed)
        self.stream, self.stage, self.machine, self.seed, self.total = stream, stage, machine, seed, total
        trunk = network(stream)
        aside = objective(stage.loss, trunk.dim)
        machine.ranks.spread(trunk, aside)
        self.trains_trunk = stage.optimiser.trunk != 0
        if not self.trains_trunk:
            trunk.network.requires_grad_(False)
        self.trunk, self.aside = _laid_out(trunk, aside, machine)
        if not any(name.startswith("trunk.") for name in self.parameters()) and not self._classifies:
            raise RecipeError(
                f"nothing of {stream.name} would be trained: its network is frozen (descend.optimiser.trunk 0), and "
                "it has no neck and no cross-entropy"
            )
        self.optimiser = _optimiser(_groups(self.parameters(), stage.optimiser, undecayed(self.trunk)), stage.optimiser)
        self.penalties = stage.loss.penalties if isinstance(stage.loss, CrossEntropy) else {}
        if missing := set(self.penalties) - set(self.trunk.penalties()):
            raise RecipeError(
                f"{stream.name} has a network that draws nothing of what descend.loss.{' and '.join(sorted(missing))} "
                "asks for; set it to 0"
            )
        pairs = stage.pairs // stage.accumulate
        self._forward = Forward(self.trunk, self.aside, self.penalties, pairs, stream.view, machine)
        self._averaged: nn.Module = self._forward
        self._acquainted = False
        if machine.ranks.count > 1 and not machine.shard:
            # Some parameters have no part in a recipe's loss (the tail of a network under a neck, a layer), the same
            # ones at every step.
            self._averaged = DistributedDataParallel(
                self._forward,
                broadcast_buffers=False,
                init_sync=False,
                static_graph=True,
                gradient_as_bucket_view=True,
            )
        self.step = 0
        self.losses: list[float] = []
        self.best = -math.inf
        self.best_step = 0
        self.seconds = 0.0

    @property
    def stale(self) -> int:
        """Epochs of the last lesson since the best."""
        _, begun, _ = self.stage.lesson(self.total, self.total)
        return (self.step - max(self.best_step, begun)) // self.stage.steps

    @property
    def lesson(self) -> tuple[int, int]:
        """The steps that the lesson of the next step begins with and ends before."""
        _, begun, end = self.stage.lesson(self.step, self.total)
        return begun, end

    @property
    def done(self) -> bool:
        """Whether all steps are done, or patience is at its end."""
        return self.step >= self.total or self.stale >= self.stage.patience

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """Everything that is trained, by name."""
        trunk = {f"trunk.{name}": p for name, p in self.trunk.named_parameters() if p.requires_grad}
        return trunk | {f"aside.{name}": p for name, p in self.aside.named_parameters()}

    def embed(self, views: Mapping[str, npt.NDArray[np.uint8]]) -> dict[str, Tensor]:
        """Embeddings of batches of views by name."""
        return self._forward.embed(views)

    def loss(self, batch: Batch, step: int) -> Tensor:
        """The loss of a batch, a scalar; of all ranks' batches together, on each of them."""
        loss: Tensor = self._averaged(batch, torch.Generator().manual_seed(self.seed * 1_000_003 + step))
        return loss

    def begin_lesson(self, kept: Path) -> None:
        """Go on from the best weights of the lesson before, with a new optimiser; none of its epochs counts as the
        best any more."""
        self.load_weights(kept)
        self.optimiser.state.clear()
        self.best, self.best_step = -math.inf, self.step

    @property
    def layer(self) -> LinearHead:
        """The layer of the loss's cross-entropy, as a head.

        Raises:
            RecipeError: the loss has none.
        """
        if not self._classifies:
            raise RecipeError(
                f"heads.linear.trained asks for the layer that {self.stream.name} is trained with, and its loss has "
                "none; set descend.loss to a cross-entropy, or trained to false"
            )
        layer: Any = self.aside.layer
        weight, bias = _entire(layer.weight), _entire(layer.bias)
        return LinearHead(weight.detach().double().cpu().numpy()[0], float(bias.detach()))

    @property
    def _classifies(self) -> bool:
        """Whether the loss has a cross-entropy, and its layer is trained."""
        return isinstance(self.aside, Classified) or (isinstance(self.aside, CoDE) and self.aside.loss.bce > 0)

    def advance(self, batch: Batch) -> float:
        """One step; returns its loss.

        Raises:
            RecipeError: the loss is no number any more. The weights are those of the step before.
        """
        self.trunk.train()
        settle(self.trunk, trained=self.trains_trunk)
        # Dropout and the like draw from here, so a resumed run draws what an unbroken one would; ranks draw their own.
        torch.manual_seed(self.seed * 2_000_003 + self.step + self.machine.ranks.number * 1_000_000_007)
        begun, end = self.lesson
        rate = learning_rate(self.stage.optimiser, self.step - begun, end - begun, self.stage.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["share"]
        self.optimiser.zero_grad(set_to_none=True)
        value = 0.0
        for number, part in enumerate(batch.parts(self.stage.accumulate), 1):
            with self._on_its_own(last=number == self.stage.accumulate):
                loss = self.loss(part, self.step) / self.stage.accumulate
                value += float(loss.detach())
                if not math.isfinite(value):
                    raise RecipeError(
                        f"the loss is {value} at step {self.step}; begin anew (--fresh) with a lower "
                        "descend.optimiser.learning_rate"
                    )
                loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.parameters().values(), self.stage.optimiser.clip)
        self.optimiser.step()
        self._acquainted = True
        self.step += 1
        self.losses.append(value)
        return value

    def _on_its_own(self, *, last: bool) -> contextlib.AbstractContextManager[None]:
        """Copies of a network exchange gradients once a step, with those of the last part (but for the first step, in
        which torch learns which parameters have a part); a network in pieces after each part, so that no device ever
        holds gradients of the whole."""
        if last or not self._acquainted or not isinstance(self._averaged, DistributedDataParallel):
            return contextlib.nullcontext()
        alone: contextlib.AbstractContextManager[None] = self._averaged.no_sync()
        return alone

    def save(self, path: Path) -> None:
        """Weights, optimiser and place in the run, in one safetensors file that appears whole or not at all: the same
        file however many ranks there are. All of them call this; the leader writes."""
        ranks = self.machine.ranks
        if ranks.lead or self.machine.shard:
            tensors = {f"trunk.{name}": x for name, x in self._trunk_state().items()}
            tensors |= {f"aside.{name}": x for name, x in self.aside.state_dict().items()}
            names = _indices(self.parameters(), self.optimiser)
            for index, state in self.optimiser.state_dict()["state"].items():
                tensors |= {f"adam.{names[index]}.{key}": x for key, x in state.items()}
            if self.machine.shard:
                # One after another, so that no device ever holds the whole; only the leader keeps what is put together.
                whole = ((name, _entire(x)) for name, x in tensors.items())
                tensors = {name: x.cpu() for name, x in whole if ranks.lead}
            if ranks.lead:
                self._write({name: x.contiguous() for name, x in tensors.items()}, path)
        ranks.wait()

    def _write(self, tensors: dict[str, Tensor], path: Path) -> None:
        facts = {
            "step": self.step,
            "total": self.total,
            "seed": self.seed,
            "best": self.best,
            "best_step": self.best_step,
            "losses": self.losses,
            "seconds": self.seconds,
            "stream": self.stream.name,
            "ranks": self.machine.ranks.count,
        }
        part = path.with_suffix(".part")
        save_file(tensors, part, {"assay": json.dumps(facts)})
        part.replace(path)

    def load(self, path: Path) -> None:
        """Take up where `save` left off."""
        facts, tensors = _facts(path), load_file(path)
        self._take_weights(tensors)
        state, parameters = self.optimiser.state_dict(), self.parameters()
        for index, name in _indices(parameters, self.optimiser).items():
            keys = _STATE[self.stage.optimiser.kind]
            mine = {key: tensors[f"adam.{name}.{key}"] for key in keys if f"adam.{name}.{key}" in tensors}
            mine = {key: x if key == "step" else _like(x, parameters[name]) for key, x in mine.items()}
            if mine:
                state["state"][index] = mine
        self.optimiser.load_state_dict(state)
        self.step, self.total, self.losses = facts["step"], facts["total"], facts["losses"]
        self.best, self.best_step, self.seconds = facts["best"], facts["best_step"], facts["seconds"]

    def load_weights(self, path: Path) -> None:
        """Take the weights that `save` left, and how good they were; the place in the run stays."""
        facts = _facts(path)
        self._take_weights(load_file(path))
        self.best, self.best_step = facts["best"], facts["best_step"]

    def plain(self, kept: Path) -> Training:
        """At the weights in `kept`, on this process alone and as it was before it was laid out for training."""
        if self.machine == self.machine.plain:
            self.load_weights(kept)
            return self
        other = Training(self.stream, self.stage, self.machine.plain, seed=self.seed, total=self.total)
        other.step, other.losses, other.seconds = self.step, self.losses, self.seconds
        other.load_weights(kept)
        return other

    def _trunk_state(self) -> dict[str, Tensor]:
        """The trunk's state without the parameters that hold still: a checkpoint need not repeat them."""
        still = {name for name, p in self.trunk.named_parameters() if not p.requires_grad}
        return {name: x for name, x in self.trunk.state_dict().items() if name not in still}

    def _take_weights(self, tensors: Mapping[str, Tensor]) -> None:
        for module, prefix in ((self.trunk, "trunk."), (self.aside, "aside.")):
            mine = {k.removeprefix(prefix): x for k, x in tensors.items() if k.startswith(prefix)}
            have = module.state_dict()
            mine = {k: _like(x, have[k]) if k in have else x for k, x in mine.items()}
            if module is self.trunk:
                mine = {k: x for k, x in have.items() if k not in self._trunk_state()} | mine
            try:
                module.load_state_dict(mine)
            except RuntimeError as error:
                raise RecipeError(
                    f"the checkpoint of {self.stream.name} is of another network or loss; begin anew with --fresh"
                ) from error


def descend(
    stream: Stream,
    stage: Descent,
    train: Data,
    tune: Data,
    folder: Path,
    machine: Machine,
    *,
    seed: int,
    flow: Flow | None = None,
    minutes: float | None = None,
    resume: bool = True,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Training:
    """Run a stage; returns the training with the best weights by tuning AUC.

    Args:
        train, tune: gradient steps use `train` alone; the epoch to keep and the time to stop are chosen on `tune`.
        flow: what gradient steps use instead, where the pictures are too many to hold; `train` then holds some of
            them for the tuning figure.
        folder: for checkpoints and the log of epochs; made where it is missing.
        minutes: budget; sets the number of steps from the speed measured here. None takes the recipe's. A run that
            is resumed keeps the number that it began with.
        resume: take up a checkpoint in `folder` where there is one.
        checkpoint_seconds: at most so long lies between two checkpoints; each epoch ends with one besides.

    Of several ranks, rank 0 is called, and the others take part by `follow`.

    Raises:
        RecipeError: the loss is no number any more, or a checkpoint cannot be read, or the run goes on with another
            number of ranks where pictures were dealt out among them.
        RankLost: another rank has ended.
    """
    ranks = machine.ranks
    if ranks.lead:
        job = {"stream": stream, "stage": stage, "train": train, "tune": tune, "folder": folder, "seed": seed}
        job |= {"flow": flow, "minutes": minutes, "resume": resume}
        ranks.tell(job)
        folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / f"{stream.name}.checkpoint.safetensors"
    kept = folder / f"{stream.name}.best.safetensors"
    log = folder / f"{stream.name}.epochs.jsonl"
    with ranks.among(), contextlib.ExitStack() as shown:
        batches = (flow or Batches(train.store, train.samples, stage, stream.view, seed)).of(ranks.share)
        training = _begun(stream, stage, machine, batches, checkpoint, seed=seed, minutes=minutes, resume=resume)
        batches = batches.over(training.total)
        lessons = {end for _, end in stage.lessons(training.total)}
        progress = None
        if ranks.lead:
            _forget_after(training.step, log)
            progress = shown.enter_context(Progress(f"training {stream.name}", training.total, training.step))
        started = saved = time.monotonic()
        before = training.seconds
        last = training.step if training.done else training.total
        for batch in batches.stream(training.step, last, machine.workers):
            training.advance(batch)
            training.seconds = before + time.monotonic() - started
            if progress is not None:
                progress.step(_note(training))
            ended = training.step % stage.steps == 0 or training.step in lessons
            if ended:
                _end_epoch(training, train, tune, kept, log)
            if training.step in lessons and training.step < training.total:
                training.begin_lesson(kept)
            # Ranks have clocks of their own.
            if ended or ranks.agreed(time.monotonic() - saved > checkpoint_seconds):
                training.save(checkpoint)
                saved = time.monotonic()
            if training.done:
                break
    return training.plain(kept) if ranks.lead else training


def follow(machine: Machine) -> None:
    """Take part in the descents that rank 0 begins, until it says that there are no more.

    Raises:
        RankLost: another rank has ended.
    """
    while (job := machine.ranks.told()) is not None:
        descend(machine=machine, **job)


def _begun(
    stream: Stream,
    stage: Descent,
    machine: Machine,
    batches: Batches | Flow,
    checkpoint: Path,
    *,
    seed: int,
    minutes: float | None,
    resume: bool,
) -> Training:
    """A training at its first step, or where the checkpoint left it."""
    if machine.ranks.agreed(resume and checkpoint.exists()):
        facts = _facts(checkpoint)
        before = facts.get("ranks", 1)
        if isinstance(batches, Flow) and before != machine.ranks.count:
            raise RecipeError(
                f"the pictures of {stream.name} were dealt out among {before} devices, and would come twice or never "
                f"among {machine.ranks.count}; go on with --devices {before}, or begin anew with --fresh"
            )
        training = Training(stream, stage, machine, seed=seed, total=facts["total"])
        training.load(checkpoint)
        return training
    total = stage.steps * stage.epochs
    if minutes is not None:
        total = _affordable(Training(stream, stage, machine, seed=seed, total=total), batches, minutes)
    return Training(stream, stage, machine, seed=seed, total=total)


def _affordable(training: Training, batches: Batches | Flow, minutes: float) -> int:
    """Steps that fit into a budget at the speed of a few trial steps, whose effect is thrown away."""
    stream: Iterator[Batch] = batches.stream(0, PROBE_STEPS + _PROBE_WARM_UP, training.machine.workers)
    seconds = []
    clock = time.monotonic()
    for batch in stream:
        training.advance(batch)
        now = time.monotonic()
        seconds.append(now - clock)
        clock = now
    # The first steps wait for the loaders to start and the kernels to be chosen.
    steps = max(PROBE_STEPS, int(minutes * 60 / float(np.mean(seconds[_PROBE_WARM_UP:]))))
    return int(training.machine.ranks.agreed(steps))


def _end_epoch(training: Training, train: Data, tune: Data, kept: Path, log: Path) -> None:
    """Look at the tuning rows, keep the weights where they are the best yet, and note it."""
    ranks = training.machine.ranks
    figure = ranks.agreed(tuning_auc(training, train, tune))
    if figure > training.best:
        training.best, training.best_step = figure, training.step
        training.save(kept)
    if not ranks.lead:
        return
    entry = {
        "step": training.step,
        "loss": float(np.mean(training.losses[-training.stage.steps :])),
        "tuning_auc": figure,
        "seconds": round(training.seconds, 1),
    }
    with log.open("a") as lines:
        lines.write(json.dumps(entry) + "\n")


def _forget_after(step: int, log: Path) -> None:
    """Drop the epochs that a broken run noted and a resumed one will go through again."""
    if log.exists():
        lines = [line for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]
        log.write_text("".join(line for line in lines if json.loads(line)["step"] <= step))


def _note(training: Training) -> str:
    rate = max(group["lr"] for group in training.optimiser.param_groups)
    return f"loss {np.mean(training.losses[-20:]):.3f}  rate {rate:.1e}  tuning AUC {max(training.best, 0):.3f}"


def to_tensor(pixels: npt.NDArray[np.uint8], view: View, machine: Machine) -> Tensor:
    """Views as the network takes them, by the same normalisation as judging."""
    return torch.from_numpy(view.tensor(pixels)).to(machine.device)


def embeddings_of(training: Training, data: Data, rows: Sequence[int]) -> npt.NDArray[np.float64]:
    """Embeddings of the centre of each row's first tile, (rows, dim); of several ranks each embeds a part, and all have
    them all."""
    view, ranks = training.stream.view.of_region(), training.machine.ranks
    out = []
    training.trunk.eval()
    mine = ranks.dealt(rows)
    # Not for each size of a last batch anew.
    uncompiled = torch.compiler.set_stance("force_eager") if training.machine.compiled else contextlib.nullcontext()
    with torch.no_grad(), uncompiled:
        for start in range(0, len(mine), 64):
            crops = np.concatenate([view.crops(data.store.tile(row, 0)) for row in mine[start : start + 64]])
            with torch.autocast(training.machine.device, torch.bfloat16, enabled=training.machine.bf16):
                out.append(training.trunk(to_tensor(crops, view, training.machine)).float().cpu().numpy())
    return ranks.collected(np.concatenate(out), len(rows)).astype(np.float64)


def tuning_auc(training: Training, train: Data, tune: Data, most: int = PROBE_ROWS) -> float:
    """How well a quick linear probe on training rows orders the tuning rows: cheap, and what the head will do. Where
    the head is the layer that is trained, how well that does. All ranks embed, and the leader has the figure.

    Args:
        most: training rows that the probe is fitted on.
    """
    if training.stream.keeps_layer:
        # Its own layer judges: nothing is fitted.
        scores = training.layer.raw(embeddings_of(training, tune, range(len(tune.samples))))
        return auc(labels_of(tune.samples), scores)
    chosen = np.random.default_rng(training.seed).permutation(len(train.samples))[:most].tolist()
    known, asked = embeddings_of(training, train, chosen), embeddings_of(training, tune, range(len(tune.samples)))
    if not training.machine.ranks.lead:
        return math.nan
    probe = LogisticRegression(C=0.316, class_weight="balanced", max_iter=300)
    probe.fit(known, labels_of([train.samples[row] for row in chosen]))
    return auc(labels_of(tune.samples), probe.decision_function(asked))


def _laid_out(trunk: Trunk, aside: nn.Module, machine: Machine) -> tuple[Trunk, nn.Module]:
    """A network and the layers of its loss as a machine trains them."""
    ranks = machine.ranks
    if machine.recompute:
        blocks.recompute(trunk.network)
    if machine.compiled:
        # A network in pieces is put together between its blocks, where compiled code would break off.
        for part in blocks.blocks(trunk.network) if machine.shard else [trunk]:
            part.compile(dynamic=False)
    if machine.shard:
        # From the processor's memory, so that no device has to hold the whole. Pieces lie as they are cut.
        blocks.shard(machine.device, ranks.count, trunk, aside)
        return trunk, aside
    if ranks.count > 1 and machine.device == "cuda":
        trunk = blocks.synchronised(trunk)
    # Convolutions run faster so, in float32 too (docs/log.md).
    return trunk.to(machine.device).to(memory_format=torch.channels_last), aside.to(machine.device)


def _entire(x: Tensor) -> Tensor:
    """A tensor that may lie in pieces on all ranks, as one; all of them call this."""
    if not isinstance(x, DTensor):
        return x
    whole: Tensor = x.full_tensor()
    return whole


def _like(x: Tensor, other: Tensor) -> Tensor:
    """A tensor that every rank has, laid out as another of its shape is."""
    if not isinstance(other, DTensor):
        return x
    return distribute_tensor(x.to(other.device), other.device_mesh, other.placements, src_data_rank=None)


def _optimiser(groups: list[dict[str, Any]], asked: Optimiser) -> torch.optim.Optimizer:
    if asked.kind == "sgd":
        return torch.optim.SGD(groups, lr=asked.learning_rate, momentum=asked.momentum)
    return torch.optim.AdamW(groups, lr=asked.learning_rate)


def learning_rate(optimiser: Optimiser, step: int, total: int, epoch: int = 1) -> float:
    """Linear warm-up, then a cosine to zero, or a step down after every so many epochs; `step` counts from 0.

    Args:
        epoch: steps of one.
    """
    warmup = max(1, round(optimiser.warmup * total))
    if step < warmup:
        return optimiser.learning_rate * (step + 1) / warmup
    if optimiser.schedule == "steps":
        return float(optimiser.learning_rate * optimiser.factor ** (step // (optimiser.every * epoch)))
    return optimiser.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def _facts(path: Path) -> dict[str, Any]:
    """What a checkpoint says of itself.

    Raises:
        RecipeError: it cannot be read.
    """
    try:
        with safe_open(path, "pt") as file:
            facts: dict[str, Any] = json.loads(file.metadata()["assay"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise RecipeError(f"{path} cannot be read ({error}); begin anew with --fresh") from error
    return facts


def undecayed(trunk: Trunk) -> set[str]:
    """Names of the parameters that a network asks to be spared weight decay: its tokens and position embeddings."""
    asked = getattr(trunk.network, "no_weight_decay", set)
    return {f"trunk.network.{name}" for name in asked()}


def _groups(
    parameters: Mapping[str, torch.nn.Parameter], optimiser: Optimiser, spared: Set[str]
) -> list[dict[str, Any]]:
    """Weight decay on whatever has two axes or more and is not `spared`; norms and biases go free (*release*). The
    network under the necks has the share of the learning rate that the recipe gives it."""
    trunk = 1.0 if optimiser.trunk is None else optimiser.trunk / optimiser.learning_rate
    groups = []
    for share in dict.fromkeys((trunk, 1.0)):
        mine = {n: p for n, p in parameters.items() if (trunk if n.startswith("trunk.network.") else 1.0) == share}
        decayed = [p for name, p in mine.items() if p.ndim > 1 and name not in spared]
        free = [p for name, p in mine.items() if p.ndim <= 1 or name in spared]
        groups += [
            {"params": decayed, "weight_decay": optimiser.weight_decay, "share": share},
            {"params": free, "weight_decay": 0.0, "share": share},
        ]
    return groups


def _indices(parameters: Mapping[str, torch.nn.Parameter], optimiser: torch.optim.Optimizer) -> dict[int, str]:
    """The optimiser's index of each parameter, to its name."""
    names = {id(p): name for name, p in parameters.items()}
    ordered = [p for group in optimiser.param_groups for p in group["params"]]
    return {index: names[id(p)] for index, p in enumerate(ordered)}
