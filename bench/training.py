"""How fast a recipe trains: pictures a second, its share of what the machine's matrix product does, and where the time
goes.

    python bench/training.py [--recipe code24] [--size small] [--set KEY=VALUE …] [--device auto] [--rounds 5]

Of one step: making its batch (one process), forward pass and loss, backward pass and optimiser. Of training as it runs:
pictures a second with loader processes, and the share of the time that it waits for them. The share of the matrix rate
is the step's floating-point operations (counted by torch, convolutions and matrix products alone, backward ones
included) over its time, over those of a square matrix product in the same precision on the same device and threads.
Channels last is set against contiguous memory.

What is compared takes turns, round by round, because such machines are shared; ratios are taken within a round, and
their middle and extremes are printed. Pictures are the repository's samples, drawn again and again: what a step takes
does not depend on what they show. On a GPU the clock is read when the GPU is done.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from assay.learn import memory, tiles
from assay.learn.batches import Batches
from assay.learn.descend import Machine, Training
from assay.learn.recipe import Recipe, find
from assay.types import Label, Sample

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
    parser.add_argument("--give-back", action="store_true", help="let the C library give memory back to the system")
    asked = parser.parse_args()
    if asked.give_back:
        memory.keep = functools.cache(lambda: False)
    recipe = find(asked.recipe, asked.size)
    for setting in asked.set:
        place, _, value = setting.partition("=")
        recipe = recipe.with_field(place, value)
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
    samples = [
        Sample(str(path), label, source=label.name.lower(), generator="samples" * int(label))
        for label, folder in ((Label.REAL, "real"), (Label.FAKE, "fake"))
        for path in sorted((SAMPLES / folder).glob("*.jpg"))
    ]
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
        "figures": {
            name: {"middle": statistics.median(row[name] for row in rows)}
            | {"least": min(row[name] for row in rows), "most": max(row[name] for row in rows)}
            for name in rows[0]
        },
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
