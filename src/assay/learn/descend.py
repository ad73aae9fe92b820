"""Training a network by gradient descent on contrastive views, with checkpoints and exact resume."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from assay.errors import RecipeError
from assay.image.view import View
from assay.learn.batches import Batch, Batches
from assay.learn.nn.backbones import Trunk, build
from assay.learn.nn.losses import code_loss
from assay.learn.progress import Progress
from assay.learn.recipe import Descend, Optimiser, Stream
from assay.learn.tiles import TileStore
from assay.metrics import auc
from assay.types import Label, Sample

CHECKPOINT_SECONDS = 60.0
PROBE_STEPS = 6


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


def _cpu_has_bf16() -> bool:
    # Without the instructions bfloat16 is emulated, and slower than float32.
    capabilities: dict[str, Any] = (
        torch.backends.cpu.get_capabilities() if hasattr(torch.backends.cpu, "get_capabilities") else {}
    )
    if "avx512_bf16" in capabilities:
        return bool(capabilities["avx512_bf16"])
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


class Training:
    """One network in training: the state that a checkpoint holds.

    Args:
        stream, stage: of the recipe.
        seed: of weights, batches and shuffles.
        total: steps of the whole run; the learning rate depends on it.
    """

    def __init__(self, stream: Stream, stage: Descend, machine: Machine, *, seed: int, total: int) -> None:
        torch.manual_seed(seed)
        self.stream, self.stage, self.machine, self.seed, self.total = stream, stage, machine, seed, total
        self.trunk: Trunk = build(stream.backbone, stream.view.size).to(machine.device)
        if machine.device == "cpu" and machine.bf16:
            self.trunk = self.trunk.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # Only the auxiliary term looks through it; the head that judges is fitted later, on frozen embeddings.
        self.aside = torch.nn.Linear(self.trunk.dim, 1).to(machine.device)
        self.optimiser = torch.optim.AdamW(
            _groups(self.parameters(), stage.optimiser), lr=stage.optimiser.learning_rate
        )
        self.step = 0
        self.losses: list[float] = []
        self.best = -math.inf
        self.best_step = 0
        self.seconds = 0.0

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """Everything that is trained, by name."""
        trunk = {f"trunk.{name}": p for name, p in self.trunk.named_parameters()}
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
        """The loss of a batch."""
        embeddings = self.embed(batch)
        pairs = self.stage.pairs
        chance = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        shuffle = (torch.randperm(pairs, generator=chance), torch.randperm(pairs, generator=chance))
        loss = code_loss(
            {name: x[:pairs] for name, x in embeddings.items()},
            {name: x[pairs:] for name, x in embeddings.items()},
            temperature=self.stage.loss.temperature,
            multi_scale=self.stage.loss.multi_scale,
            halves=self.stage.loss.halves,
            shuffle=shuffle,
        )
        if self.stage.loss.bce > 0:
            logits = torch.cat([self.aside(x).reshape(2, pairs) for x in embeddings.values()], dim=1)
            truth = torch.tensor([0.0, 1.0], device=logits.device)[:, None].expand_as(logits)
            loss = loss + self.stage.loss.bce * functional.binary_cross_entropy_with_logits(logits, truth)
        return loss

    def advance(self, batch: Batch) -> float:
        """One step; returns its loss.

        Raises:
            RecipeError: the loss is no number any more.
        """
        self.trunk.train()
        # Dropout and the like draw from here, so a resumed run draws what an unbroken one would.
        torch.manual_seed(self.seed * 2_000_003 + self.step)
        rate = learning_rate(self.stage.optimiser, self.step, self.total)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        loss = self.loss(batch, self.step)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.parameters().values(), self.stage.optimiser.clip)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise RecipeError(
                f"the loss is {value} at step {self.step}; lower descend.optimiser.learning_rate and --resume"
            )
        self.optimiser.step()
        self.step += 1
        self.losses.append(value)
        return value

    def save(self, path: Path) -> None:
        """Weights, optimiser and place in the run, in one safetensors file that appears whole or not at all."""
        tensors = {f"trunk.{name}": x.contiguous() for name, x in self.trunk.state_dict().items()}
        tensors |= {f"aside.{name}": x.contiguous() for name, x in self.aside.state_dict().items()}
        names = _indices(self.parameters(), self.optimiser)
        for index, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"adam.{names[index]}.{key}": x.contiguous() for key, x in state.items()}
        place = {
            "step": self.step,
            "total": self.total,
            "seed": self.seed,
            "best": self.best,
            "best_step": self.best_step,
        }
        facts = json.dumps(place | {"losses": self.losses, "seconds": self.seconds, "stream": self.stream.name})
        part = path.with_suffix(".part")
        save_file(tensors, part, {"assay": facts})
        part.replace(path)

    def load(self, path: Path) -> None:
        """Take up where `save` left off."""
        with safe_open(path, "pt") as file:
            place = json.loads(file.metadata()["assay"])
        tensors = load_file(path)
        for module, prefix in ((self.trunk, "trunk."), (self.aside, "aside.")):
            module.load_state_dict({k.removeprefix(prefix): x for k, x in tensors.items() if k.startswith(prefix)})
        state = self.optimiser.state_dict()
        for index, name in _indices(self.parameters(), self.optimiser).items():
            mine = {
                key: tensors[f"adam.{name}.{key}"]
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"adam.{name}.{key}" in tensors
            }
            if mine:
                state["state"][index] = mine
        self.optimiser.load_state_dict(state)
        self.step, self.total, self.losses = place["step"], place["total"], place["losses"]
        self.best, self.best_step, self.seconds = place["best"], place["best_step"], place["seconds"]


def saved_total(path: Path) -> int:
    """The length of the run that a checkpoint belongs to, in steps."""
    with safe_open(path, "pt") as file:
        return int(json.loads(file.metadata()["assay"])["total"])


def descend(
    stream: Stream,
    stage: Descend,
    train: Data,
    tune: Data,
    folder: Path,
    machine: Machine,
    *,
    seed: int,
    minutes: float | None,
    resume: bool,
) -> Training:
    """Run a stage; returns the training with the best weights by tuning AUC.

    Args:
        train, tune: gradient steps use `train` alone; the epoch to keep and the time to stop are chosen on `tune`.
        folder: for checkpoints.
        minutes: budget; sets the number of steps from the speed measured here. None takes the recipe's.
        resume: take up a checkpoint in `folder` where there is one.
    """
    checkpoint = folder / f"{stream.name}.checkpoint.safetensors"
    kept = folder / f"{stream.name}.best.safetensors"
    batches = Batches(train.store, train.samples, stage, stream.view.size, seed)
    if resume and checkpoint.exists():
        training = Training(stream, stage, machine, seed=seed, total=saved_total(checkpoint))
        training.load(checkpoint)
    else:
        total = stage.steps * stage.epochs
        if minutes is not None:
            total = _affordable(Training(stream, stage, machine, seed=seed, total=total), batches, minutes)
        training = Training(stream, stage, machine, seed=seed, total=total)
    patience_left = stage.patience
    started = saved = time.monotonic()
    before = training.seconds
    stream_of = batches.stream(training.step, training.total, machine.workers)
    with Progress(f"training {stream.name}", training.total, training.step) as progress:
        for batch in stream_of:
            training.advance(batch)
            now = time.monotonic()
            training.seconds = before + now - started
            progress.step(
                f"loss {np.mean(training.losses[-20:]):.3f}  rate {training.optimiser.param_groups[0]['lr']:.1e}  tuning AUC {max(training.best, 0):.3f}"
            )
            if training.step % stage.steps == 0 or training.step == training.total:
                figure = tuning_auc(training, train, tune)
                if figure > training.best:
                    training.best, training.best_step = figure, training.step
                    training.save(kept)
                    patience_left = stage.patience
                else:
                    patience_left -= 1
                with (folder / f"{stream.name}.epochs.jsonl").open("a") as log:
                    entry = {
                        "step": training.step,
                        "loss": float(np.mean(training.losses[-stage.steps :])),
                        "tuning_auc": figure,
                        "seconds": round(training.seconds, 1),
                    }
                    log.write(json.dumps(entry) + "\n")
                if patience_left <= 0:
                    break
            if now - saved > CHECKPOINT_SECONDS or training.step == training.total:
                training.save(checkpoint)
                saved = now
    done = {"losses": training.losses, "seconds": training.seconds, "step": training.step}
    training.load(kept)
    training.losses, training.seconds, training.step = done["losses"], done["seconds"], done["step"]  # type: ignore[assignment]
    return training


def _affordable(training: Training, batches: Batches, minutes: float) -> int:
    """Steps that fit into a budget at the speed of a few trial steps, whose effect is thrown away."""
    stream: Iterator[Batch] = batches.stream(0, PROBE_STEPS + 2, training.machine.workers)
    seconds = []
    clock = time.monotonic()
    for batch in stream:
        training.advance(batch)
        now = time.monotonic()
        seconds.append(now - clock)
        clock = now
    # The first two steps wait for the loaders to start and the kernels to be chosen.
    return max(PROBE_STEPS, int(minutes * 60 / float(np.mean(seconds[2:]))))


def to_tensor(pixels: npt.NDArray[np.uint8], view: View, machine: Machine) -> Tensor:
    """Views as the network takes them, by the same normalisation as judging."""
    return torch.from_numpy(view.tensor(pixels)).to(machine.device)


def embeddings_of(training: Training, data: Data, rows: Sequence[int]) -> npt.NDArray[np.float64]:
    """Embeddings of the centre of each row's first tile, (rows, dim)."""
    view = training.stream.view.model_copy(update={"layout": "centre"})
    out = []
    training.trunk.eval()
    with torch.no_grad():
        for start in range(0, len(rows), 64):
            crops = np.concatenate([view.crops(data.store.tile(row, 0)) for row in rows[start : start + 64]])
            with torch.autocast(training.machine.device, torch.bfloat16, enabled=training.machine.bf16):
                out.append(training.trunk(to_tensor(crops, view, training.machine)).float().cpu().numpy())
    return np.concatenate(out).astype(np.float64)


def tuning_auc(training: Training, train: Data, tune: Data, most: int = 1024) -> float:
    """How well a quick linear probe on training rows orders the tuning rows: cheap, and what the head will do."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(training.seed)
    half = rng.permutation(len(train.samples))[:most].tolist()
    labels = np.array([int(_label(train.samples[row])) for row in half])
    probe = LogisticRegression(C=0.316, class_weight="balanced", max_iter=300)
    probe.fit(embeddings_of(training, train, half), labels)
    scores = probe.decision_function(embeddings_of(training, tune, range(len(tune.samples))))
    labels = np.array([int(_label(sample)) for sample in tune.samples])
    if len({sample.groups.get("fold", "") for sample in tune.samples}) > 1:
        m = np.array([bool(sample.groups.get("fold", "")) for sample in tune.samples])
        print("   fold", auc(labels[m], scores[m]), "val", auc(labels[~m], scores[~m]), flush=True)
    return float(auc(labels, scores))


def _label(sample: Sample) -> Label:
    if sample.label is None:
        raise RecipeError(f"{sample.place} has no label; training and tuning rows need one")
    return sample.label


def learning_rate(optimiser: Optimiser, step: int, total: int) -> float:
    """Linear warm-up, then a cosine to zero; `step` counts from 0."""
    warmup = max(1, round(optimiser.warmup * total))
    if step < warmup:
        return optimiser.learning_rate * (step + 1) / warmup
    return optimiser.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def _groups(parameters: Mapping[str, torch.nn.Parameter], optimiser: Optimiser) -> list[dict[str, Any]]:
    """Weight decay on matrices and kernels alone; norms, biases and tokens are left free."""
    decayed = [p for p in parameters.values() if p.ndim > 1]
    free = [p for p in parameters.values() if p.ndim <= 1]
    return [{"params": decayed, "weight_decay": optimiser.weight_decay}, {"params": free, "weight_decay": 0.0}]


def _indices(parameters: Mapping[str, torch.nn.Parameter], optimiser: torch.optim.Optimizer) -> dict[int, str]:
    """The optimiser's index of each parameter, to its name."""
    names = {id(p): name for name, p in parameters.items()}
    ordered = [p for group in optimiser.param_groups for p in group["params"]]
    return {index: names[id(p)] for index, p in enumerate(ordered)}
