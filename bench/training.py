"""How fast a recipe trains: pictures a second, its share of what the machine's matrix product does, and where the time
goes.

    python bench/training.py [--recipe code24] [--size small] [--set KEY=VALUE …] [--device auto] [--rounds 5]
    python bench/training.py --devices 1 2 [--quick] [--shard] [--checkpoint-activations] [--compile]
    python bench/training.py --full [--devices 1 8] [--quick] …

Of one step: making its batch (one process), forward pass and loss, backward pass and optimiser. Of training as it runs:
pictures a second with loader processes, and the share of the time that it waits for them. The share of the matrix rate
is the step's floating-point operations (counted by torch, convolutions and matrix products alone, backward ones
included) over its time, over those of a square matrix product in the same precision on the same device and threads.
Channels last is set against contiguous memory.

What is compared takes turns, round by round, because such machines are shared; ratios are taken within a round, and
their middle and extremes are printed. Pictures are the repository's samples, drawn again and again: what a step takes
does not depend on what they show. On a GPU the clock is read when the GPU is done.

`--devices` trains on so many devices at once, as `assay train --devices` does, and says for each number how many
pictures a second go through all of them, and the share of the time that rank 0 waits for its loader processes.

`--full` takes steps of three networks at full size and random weights, on batches of noise: CoDE's ViT-Tiny (1,024
pictures a step), DFCon's EVA-02 base, and drift's DINOv2-giant with LoRA. It gives each device's share of its matrix
rate, of its peak (as its maker states it for dense bfloat16, or `--peak`), and its memory at the most. It needs GPUs;
with `--quick` it takes small networks of each family wherever it is, to see that it runs. What is computed again on the
way back counts as work.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from assay.image import memory
from assay.learn import launch, ranks, tiles
from assay.learn.batches import Batch, Batches, own
from assay.learn.descend import Machine, Training
from assay.learn.recipe import Descend, Recipe, Stream, find
from assay.learn.views import LOCAL, names
from assay.types import Label, Sample

FULL: dict[str, tuple[str, str, dict[str, Any]]] = {
    "ViT-Tiny": ("code24", "code", {"descend.pairs": 512, "descend.accumulate": 1}),
    "EVA-02 base": ("dfcon25", "eva02", {"descend.pairs": 128, "descend.accumulate": 1}),
    "DINOv2-giant, LoRA": ("drift26:release", "global", {"descend.pairs": 256, "descend.accumulate": 16}),
}
"""Recipe, stream and fields of each network at full size."""

PEAKS = {"H200": 989.0, "H100": 989.0, "A100": 312.0, "L40S": 362.0}
"""Tera-operations a second of dense bfloat16 products, by a word of the GPU's name; an H100 as the SXM board has it."""

SAMPLES = Path(__file__).parent.parent / "samples"
SIDE = {"cpu": 1024, "cuda": 8192}
"""Of the square matrices."""
WARM_UP = 2
"""Steps before the clock is read: kernels are chosen, loaders start."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="code24")
    parser.add_argument("--size", choices=("small", "paper"), default="small")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a field of the recipe")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1), help="loader processes")
    parser.add_argument("--steps", type=int, default=6, help="in a row with loader processes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--devices", type=int, nargs="+", default=[], metavar="N", help="train on so many at once")
    parser.add_argument("--full", action="store_true", help="three networks at full size")
    parser.add_argument("--quick", action="store_true", help="few and short rounds, small networks: claims nothing")
    parser.add_argument("--peak", type=float, metavar="TFLOPS", help="of a device, with --full")
    parser.add_argument("--shard", action="store_true")
    parser.add_argument("--checkpoint-activations", action="store_true", dest="recompute")
    parser.add_argument("--compile", action="store_true", dest="compiled")
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--give-back", action="store_true", help="let the C library give memory back to the system")
    asked = parser.parse_args()
    if asked.give_back:
        memory.keep = functools.cache(lambda **_: False)
    recipe = find(asked.recipe, asked.size)
    for setting in asked.set:
        place, _, value = setting.partition("=")
        recipe = recipe.with_field(place, value)
    if asked.quick:
        asked.rounds, asked.steps = min(asked.rounds, 1), min(asked.steps, 2)
    if asked.out is not None:
        as_rank(recipe, asked)
        return 0
    if asked.devices or asked.full:
        return on_devices(asked)
    with tempfile.TemporaryDirectory() as scratch:
        found = measured(recipe, Machine.here(asked.device, asked.workers), Path(scratch), asked.steps, asked.rounds)
    told = {"recipe": asked.recipe, "size": asked.size, "set": asked.set, "rounds": asked.rounds}
    told |= {"gives_memory_back": asked.give_back} | found
    show(told)
    print(json.dumps(told))
    return 0


def measured(recipe: Recipe, machine: Machine, scratch: Path, steps: int, rounds: int) -> dict[str, Any]:
    """Every figure, of the recipe's first stream."""
    stream = recipe.streams[0]
    stage = recipe.descend(stream.name)
    samples = _samples()
    store = tiles.build(samples, stage.tiles, scratch, seed=0, workers=0)
    batches = Batches(store, samples, stage, stream.view, 0)
    last, plain = (Training(stream, stage, machine, seed=0, total=1_000_000) for _ in range(2))
    plain.trunk = plain.trunk.to(memory_format=torch.contiguous_format)
    batch = batches[0]
    for training in (last, plain):
        for _ in range(WARM_UP):
            training.advance(batch)
    with FlopCounterMode(display=False) as counter:
        last.advance(batch)
    operations = counter.get_total_flops()
    pictures = 2 * stage.pairs

    clock = _clock(machine.device)
    rows: list[dict[str, float]] = []
    for number in range(rounds):
        making = clock(functools.partial(batches.__getitem__, number + 1))
        step = clock(lambda: last.advance(batch))
        forward = clock(lambda: last.loss(batch, 0))
        contiguous = clock(lambda: plain.advance(batch))
        rate = product(machine, clock)
        waited, ran = flowing(last, batches, number, steps, machine)
        rows.append(
            {
                "matrix_flops": rate,
                "step_seconds": step,
                "pictures_a_second_of_steps": pictures / step,
                "pictures_a_second_with_loaders": steps * pictures / (waited + ran),
                "share_of_matrix_rate": operations / step / rate,
                "share_making_batch": making / (making + step),
                "share_forward": forward / (making + step),
                "share_backward": (step - forward) / (making + step),
                "share_waiting_for_loaders": waited / (waited + ran),
                "contiguous_over_channels_last": contiguous / step,
            }
        )
        print(f"round {number + 1}: {pictures / step:.1f} pictures/s", file=sys.stderr, flush=True)
    return {
        "network": stream.backbone.name,
        "parameters": sum(p.numel() for p in last.trunk.parameters()),
        "pictures_a_step": pictures,
        "views_a_step": sum(len(views) for views in batch.views.values()),
        "operations_a_step": operations,
        "machine": _machine(machine),
        "figures": {name: _spread([row[name] for row in rows]) for name in rows[0]},
    }


def flowing(training: Training, batches: Batches, number: int, steps: int, machine: Machine) -> tuple[float, float]:
    """Seconds waited for batches and seconds of steps, while loader processes make the batches."""
    first = number * (steps + WARM_UP)
    waited = ran = 0.0
    before = time.perf_counter()
    for place, batch in enumerate(batches.stream(first, first + steps + WARM_UP, machine.workers)):
        there = time.perf_counter()
        training.advance(batch)
        _wait(machine.device)
        done = time.perf_counter()
        if place >= WARM_UP:
            waited, ran = waited + there - before, ran + done - there
        before = done
    return waited, ran


def on_devices(asked: argparse.Namespace) -> int:
    """This script again, by the ranks of each number of devices in turn."""
    found = []
    status = 0
    for count in asked.devices or [1]:
        with tempfile.TemporaryDirectory() as scratch:
            out = Path(scratch) / "figures.json"
            command = (sys.executable, str(Path(__file__)), *sys.argv[1:], "--out", str(out))
            status, ended = launch.start(count, (), command)
            if status:
                print(f"{count} devices: {ended}", file=sys.stderr)
                break
            found.append({"devices": count} | json.loads(out.read_text()))
    print(json.dumps(found))
    return status


def as_rank(recipe: Recipe, asked: argparse.Namespace) -> None:
    """What one of several ranks does; rank 0 writes the figures."""
    device = Machine.here(asked.device).device
    ways = {"recompute": asked.recompute, "compiled": asked.compiled}
    with ranks.joined(device) as found, tempfile.TemporaryDirectory() as scratch:
        machine = Machine.here(device, asked.workers, ranks=found, shard=asked.shard and found.count > 1, **ways)
        told = full(machine, asked) if asked.full else together(recipe, machine, Path(scratch), asked)
        if found.lead:
            asked.out.write_text(json.dumps(told | {"machine": _machine(machine)}))


def together(recipe: Recipe, machine: Machine, scratch: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """Pictures a second of all ranks, and rank 0's share of waiting."""
    stream = recipe.streams[0]
    stage = recipe.descend(stream.name)
    if asked.quick:
        stage = stage.model_copy(update={"pairs": 8, "accumulate": 1})
    samples = _samples()
    store = tiles.build(samples, stage.tiles, scratch, seed=0, workers=0)
    batches = Batches(store, samples, stage, stream.view, 0).of(machine.ranks.share)
    training = Training(stream, stage, machine, seed=0, total=1_000_000)
    rows = []
    for number in range(asked.rounds):
        waited, ran = flowing(training, batches, number, asked.steps, machine)
        rows.append({"rate": 2 * stage.pairs * asked.steps / (waited + ran), "waiting": waited / (waited + ran)})
    figures = {"pictures_a_second": "rate", "share_waiting_for_loaders": "waiting"}
    return {
        "network": stream.backbone.name,
        "pictures_a_step": 2 * stage.pairs,
        "figures": {name: _spread([row[key] for row in rows]) for name, key in figures.items()},
    }


def full(machine: Machine, asked: argparse.Namespace) -> dict[str, Any]:
    """Steps of each network on noise."""
    if machine.device == "cpu" and not asked.quick:
        raise SystemExit("no GPU that torch can use; --quick takes small networks")
    found: dict[str, Any] = {}
    for name, (base, stream, fields) in FULL.items():
        recipe = find(base, "small" if asked.quick else "paper")
        place = f"{stream}.backbone.pretrained"
        recipe = recipe.with_field(place, False)
        for key, value in ({"descend.pairs": 8, "descend.accumulate": 2} if asked.quick else fields).items():
            recipe = recipe.with_field(key, value)
        found[name] = stepped(recipe.stream(stream), recipe.descend(stream), machine, asked)
        if machine.ranks.lead:
            print(f"{name}: {found[name]}", file=sys.stderr, flush=True)
    return {"networks": found}


def stepped(stream: Stream, stage: Descend, machine: Machine, asked: argparse.Namespace) -> dict[str, Any]:
    """A network's steps on a rank's share of a batch: pictures a second, shares of what its device can, memory."""
    if machine.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    training = Training(stream, stage, machine, seed=0, total=1_000_000)
    rows = 2 * len(own(stage, machine.ranks.share))
    rng = np.random.default_rng(machine.ranks.number)
    views = {}
    for view in names(stage):
        side = stage.crops.local if view.startswith(LOCAL) else stream.view.size
        views[view] = rng.integers(0, 256, (rows, side, side, 3), np.uint8)
    batch = Batch(views, np.repeat([-1, 0], rows // 2), np.full(rows, np.nan))
    # What is compiled does not say how much it computes.
    with FlopCounterMode(display=False) as counter, torch.compiler.set_stance("force_eager"):
        training.advance(batch)
    for _ in range(WARM_UP):
        training.advance(batch)
    clock = _clock(machine.device)
    seconds, shares = [], []
    for _ in range(asked.rounds):
        seconds.append(clock(lambda: [training.advance(batch) for _ in range(asked.steps)]) / asked.steps)
        shares.append(counter.get_total_flops() / seconds[-1] / product(machine, clock))
    rate = counter.get_total_flops() / statistics.median(seconds)
    return {
        "network": stream.backbone.name,
        "parameters": sum(p.numel() for p in training.trunk.parameters()),
        "pictures_a_step": 2 * stage.pairs,
        "parts": stage.accumulate,
        "pictures_a_second": _spread([2 * stage.pairs / each for each in seconds]),
        "share_of_matrix_rate": _spread(shares),
        "share_of_peak": None
        if _peak(machine, asked.peak) is None
        else rate / 1e12 / (_peak(machine, asked.peak) or 1),
        "gigabytes_at_most": torch.cuda.max_memory_allocated() / 1e9 if machine.device == "cuda" else None,
    }


def _peak(machine: Machine, given: float | None) -> float | None:
    if given is not None or machine.device == "cpu":
        return given
    name = torch.cuda.get_device_name()
    return next((peak for word, peak in PEAKS.items() if word in name), None)


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"middle": statistics.median(values), "least": min(values), "most": max(values)}


def _samples() -> list[Sample]:
    return [
        Sample(str(path), label, source=label.name.lower(), generator="samples" * int(label))
        for label, folder in ((Label.REAL, "real"), (Label.FAKE, "fake"))
        for path in sorted((SAMPLES / folder).glob("*.jpg"))
    ]


def product(machine: Machine, clock: Callable[[Callable[[], object]], float]) -> float:
    """Floating-point operations a second of a square matrix product, in the precision of the forward pass."""
    side = SIDE[machine.device]
    kind = torch.bfloat16 if machine.bf16 else torch.float32
    left, right = (torch.randn(side, side, device=machine.device, dtype=kind) for _ in range(2))
    torch.matmul(left, right)
    times = 20

    def multiply() -> None:
        for _ in range(times):
            torch.matmul(left, right)

    return times * 2 * side**3 / clock(multiply)


def _clock(device: str) -> Callable[[Callable[[], object]], float]:
    def seconds(work: Callable[[], object]) -> float:
        _wait(device)
        began = time.perf_counter()
        work()
        _wait(device)
        return time.perf_counter() - began

    return seconds


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _machine(machine: Machine) -> str:
    name = torch.cuda.get_device_name() if machine.device == "cuda" else f"{platform.machine()}, {os.cpu_count()} cores"
    precision = "bfloat16" if machine.bf16 else "float32"
    return f"{name}, {torch.get_num_threads()} threads, {precision} forward, {machine.workers} loader processes"


def show(told: dict[str, Any]) -> None:
    """For people, on standard error."""
    print(
        f"{told['recipe']} ({told['size']}): {told['network']}, {told['parameters'] / 1e6:.2f} M parameters, "
        f"{told['pictures_a_step']} pictures and {told['views_a_step']} views a step, "
        f"{told['operations_a_step'] / 1e9:.1f} G operations a step; {told['machine']}",
        file=sys.stderr,
    )
    for name, figure in told["figures"].items():
        print(
            f"  {name.replace('_', ' '):<34} {figure['middle']:>12.4g}  ({figure['least']:.4g}–{figure['most']:.4g})",
            file=sys.stderr,
        )


if __name__ == "__main__":
    sys.exit(main())
