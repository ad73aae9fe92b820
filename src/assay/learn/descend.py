"""Training a network by gradient descent on contrastive views, with checkpoints and exact resume.

A run that was killed and taken up again goes through the losses of one that was not, within 1e-5 in float32 on one
kind of CPU: weights, optimiser and the number of the step lie in the checkpoint, and everything random follows from
the seed and the step. (What is left is the order in which threads add up.) On a GPU, or in bfloat16, the two part ways
slowly, as two unbroken runs do.
"""

from __future__ import annotations

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
from torch import Tensor

from assay.errors import RecipeError
from assay.image.view import View
from assay.judge.heads import LinearHead
from assay.learn import memory
from assay.learn.batches import Batch, Batches
from assay.learn.flow import Flow
from assay.learn.nn.backbones import Trunk
from assay.learn.nn.network import network, settle
from assay.learn.objective import Classified, CoDE, objective
from assay.learn.progress import Progress
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
        workers: loader processes; 0 makes the batches in the training process.
    """

    device: str
    bf16: bool
    workers: int

    @classmethod
    def here(cls, device: str = "auto", workers: int = 2, bf16: bool | None = None) -> Machine:
        """What this machine has; "auto" takes a GPU where there is one.

        Args:
            bf16: None takes bfloat16 where the processor has instructions for it.

        Raises:
            RecipeError: a GPU is asked for and there is none.
        """
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device == "cuda" and not torch.cuda.is_available():
            raise RecipeError("no GPU that torch can use; say --device cpu")
        if bf16 is None:
            bf16 = torch.cuda.is_bf16_supported() if device == "cuda" else _cpu_has_bf16()
        return cls(device, bf16, workers)


def _cpu_has_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    # Without the instructions bfloat16 is emulated, and slower than float32.
    try:
        flags = cpuinfo.read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


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
            memory.keep()
        torch.manual_seed(seed)
        self.stream, self.stage, self.machine, self.seed, self.total = stream, stage, machine, seed, total
        trunk: Trunk = network(stream).to(machine.device)
        # Convolutions run faster so, in float32 too (docs/log.md).
        self.trunk = trunk.to(memory_format=torch.channels_last)
        self.aside = objective(stage.loss, self.trunk.dim).to(machine.device)
        self.trains_trunk = stage.optimiser.trunk != 0
        if not self.trains_trunk:
            self.trunk.network.requires_grad_(False)
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

    def embed(self, views: dict[str, npt.NDArray[np.uint8]]) -> dict[str, Tensor]:
        """Embeddings of batches of views by name, those of one size in one pass (BatchNorm then sees them together)."""
        embeddings: dict[str, Tensor] = {}
        sides = sorted({pixels.shape[1] for pixels in views.values()}, reverse=True)
        for side in sides:
            names = [name for name, pixels in views.items() if pixels.shape[1] == side]
            stacked = np.concatenate([views[name] for name in names])
            with torch.autocast(self.machine.device, torch.bfloat16, enabled=self.machine.bf16):
                out = self.trunk(to_tensor(stacked, self.stream.view, self.machine)).float()
            for name, part in zip(names, out.split([len(views[name]) for name in names]), strict=True):
                embeddings[name] = part
        return embeddings

    def loss(self, batch: Batch, step: int) -> Tensor:
        """The loss of a batch, a scalar."""
        chance = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        loss: Tensor = self.aside(self.embed(batch.views), batch, chance)
        for name, weight in self.penalties.items():
            loss = loss + weight * self.trunk.penalties()[name]
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
        return LinearHead(layer.weight.detach().double().cpu().numpy()[0], float(layer.bias.detach()))

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
        # Dropout and the like draw from here, so a resumed run draws what an unbroken one would.
        torch.manual_seed(self.seed * 2_000_003 + self.step)
        begun, end = self.lesson
        rate = learning_rate(self.stage.optimiser, self.step - begun, end - begun, self.stage.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["share"]
        self.optimiser.zero_grad(set_to_none=True)
        value = 0.0
        for part in batch.parts(self.stage.accumulate):
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
        self.step += 1
        self.losses.append(value)
        return value

    def save(self, path: Path) -> None:
        """Weights, optimiser and place in the run, in one safetensors file that appears whole or not at all."""
        tensors = {f"trunk.{name}": x.contiguous() for name, x in self._trunk_state().items()}
        tensors |= {f"aside.{name}": x.contiguous() for name, x in self.aside.state_dict().items()}
        names = _indices(self.parameters(), self.optimiser)
        for index, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"adam.{names[index]}.{key}": x.contiguous() for key, x in state.items()}
        facts = {
            "step": self.step,
            "total": self.total,
            "seed": self.seed,
            "best": self.best,
            "best_step": self.best_step,
            "losses": self.losses,
            "seconds": self.seconds,
            "stream": self.stream.name,
        }
        part = path.with_suffix(".part")
        save_file(tensors, part, {"assay": json.dumps(facts)})
        part.replace(path)

    def load(self, path: Path) -> None:
        """Take up where `save` left off."""
        facts, tensors = _facts(path), load_file(path)
        self._take_weights(tensors)
        state = self.optimiser.state_dict()
        for index, name in _indices(self.parameters(), self.optimiser).items():
            keys = _STATE[self.stage.optimiser.kind]
            mine = {key: tensors[f"adam.{name}.{key}"] for key in keys if f"adam.{name}.{key}" in tensors}
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

    def _trunk_state(self) -> dict[str, Tensor]:
        """The trunk's state without the parameters that hold still: a checkpoint need not repeat them."""
        still = {name for name, p in self.trunk.named_parameters() if not p.requires_grad}
        return {name: x for name, x in self.trunk.state_dict().items() if name not in still}

    def _take_weights(self, tensors: Mapping[str, Tensor]) -> None:
        for module, prefix in ((self.trunk, "trunk."), (self.aside, "aside.")):
            mine = {k.removeprefix(prefix): x for k, x in tensors.items() if k.startswith(prefix)}
            if module is self.trunk:
                mine = {k: x for k, x in self.trunk.state_dict().items() if k not in self._trunk_state()} | mine
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

    Raises:
        RecipeError: the loss is no number any more, or a checkpoint cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / f"{stream.name}.checkpoint.safetensors"
    kept = folder / f"{stream.name}.best.safetensors"
    log = folder / f"{stream.name}.epochs.jsonl"
    batches = flow or Batches(train.store, train.samples, stage, stream.view, seed)
    training = _begun(stream, stage, machine, batches, checkpoint, seed=seed, minutes=minutes, resume=resume)
    batches = batches.over(training.total)
    lessons = {end for _, end in stage.lessons(training.total)}
    _forget_after(training.step, log)
    started = saved = time.monotonic()
    before = training.seconds
    last = training.step if training.done else training.total
    with Progress(f"training {stream.name}", training.total, training.step) as progress:
        for batch in batches.stream(training.step, last, machine.workers):
            training.advance(batch)
            training.seconds = before + time.monotonic() - started
            progress.step(_note(training))
            ended = training.step % stage.steps == 0 or training.step in lessons
            if ended:
                _end_epoch(training, train, tune, kept, log)
            if training.step in lessons and training.step < training.total:
                training.begin_lesson(kept)
            if ended or time.monotonic() - saved > checkpoint_seconds:
                training.save(checkpoint)
                saved = time.monotonic()
            if training.done:
                break
    training.load_weights(kept)
    return training


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
    if resume and checkpoint.exists():
        training = Training(stream, stage, machine, seed=seed, total=_facts(checkpoint)["total"])
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
    return max(PROBE_STEPS, int(minutes * 60 / float(np.mean(seconds[_PROBE_WARM_UP:]))))


def _end_epoch(training: Training, train: Data, tune: Data, kept: Path, log: Path) -> None:
    """Look at the tuning rows, keep the weights where they are the best yet, and note it."""
    figure = tuning_auc(training, train, tune)
    if figure > training.best:
        training.best, training.best_step = figure, training.step
        training.save(kept)
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
    """Embeddings of the centre of each row's first tile, (rows, dim)."""
    view = training.stream.view.of_region()
    out = []
    training.trunk.eval()
    with torch.no_grad():
        for start in range(0, len(rows), 64):
            crops = np.concatenate([view.crops(data.store.tile(row, 0)) for row in rows[start : start + 64]])
            with torch.autocast(training.machine.device, torch.bfloat16, enabled=training.machine.bf16):
                out.append(training.trunk(to_tensor(crops, view, training.machine)).float().cpu().numpy())
    return np.concatenate(out).astype(np.float64)


def tuning_auc(training: Training, train: Data, tune: Data, most: int = PROBE_ROWS) -> float:
    """How well a quick linear probe on training rows orders the tuning rows: cheap, and what the head will do. Where
    the head is the layer that is trained, how well that does.

    Args:
        most: training rows that the probe is fitted on.
    """
    if training.stream.keeps_layer:
        # Its own layer judges: nothing is fitted.
        scores = training.layer.raw(embeddings_of(training, tune, range(len(tune.samples))))
        return auc(labels_of(tune.samples), scores)
    chosen = np.random.default_rng(training.seed).permutation(len(train.samples))[:most].tolist()
    probe = LogisticRegression(C=0.316, class_weight="balanced", max_iter=300)
    probe.fit(embeddings_of(training, train, chosen), labels_of([train.samples[row] for row in chosen]))
    scores = probe.decision_function(embeddings_of(training, tune, range(len(tune.samples))))
    return auc(labels_of(tune.samples), scores)


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
