"""Whether the full-size backbones of DFCon work here: their size, their weights, a training step, a judgement.

    python bench/backbones.py [--only maxvit_base_tf_224] [--small] [--batch 4] [--precision fp32] [--json FILE]

*Paper* (DFCon, arXiv 2501.16704): MaxViT, CoAtNet and EVA-02; which of timm's networks they are is *inferred* from the
parameter counts. Parameters (without a classifier) and the embedding's width stand beside the expected ones. A training
step is a forward pass of a small batch in training mode, the supervised contrastive loss on the embeddings, the
backward pass and AdamW; the first convolution must have moved. A judgement is a picture of the samples through the
engine, after export. Its parity with torch is the largest difference relative to the largest embedding: of both graphs
on that picture, and of the judging one on random views in batches of 1, 3 and 8. Weights are saved in timm's naming and
loaded into a fresh network, which must then be equal bit for bit.

Each network has a process of its own, because what is read is the most memory that a process ever held: after the
training step, and at the end, export included. Weights are random. Seconds are of a first time; where other work runs
beside, the processor seconds of the step say more. The exit status is 1 where anything is not as it should be.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file

from assay.image.decode import decode
from assay.image.view import View
from assay.judge.engine import Engine
from assay.learn.export import export, parity
from assay.learn.nn.backbones import Trunk, build
from assay.learn.nn.supcon import sup_con
from assay.learn.recipe import Backbone

FULL = {
    "maxvit_base_tf_224": (118.7, 768),
    "coatnet_2_rw_224": (72.8, 1024),
    "eva02_base_patch14_224": (85.8, 768),
}
SMALL = {
    "maxvit_rmlp_pico_rw_256": (7.3, 256),
    "coatnet_pico_rw_224": (10.3, 512),
    "eva02_tiny_patch14_224": (5.5, 192),
}
"""Millions of parameters, and the width of the embedding."""

SIZE = 224
PARITY = {"fp32": 1e-4, "fp16": 5e-3}
SAMPLES = Path(__file__).parent.parent / "samples" / "real"
ENDS = 3
"""Parameters named from either end."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=(*FULL, *SMALL), metavar="NAME", help="one of the networks")
    parser.add_argument("--small", action="store_true", help="the small siblings instead")
    parser.add_argument("--batch", type=int, default=4, help="pictures of the training step, an even number")
    parser.add_argument(
        "--precision", choices=tuple(PARITY), default="fp32", help="how the exported weights are stored"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    names = asked.only or list(SMALL if asked.small else FULL)
    if asked.here:
        torch.set_num_threads(asked.threads)
        print(json.dumps(measured(names[0], asked.batch, asked.precision, asked.threads)))
        return 0
    rows = [_apart(name, asked) for name in names]
    show(rows)
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n")
    return int(any(row["wrong"] for row in rows))


def _apart(name: str, asked: argparse.Namespace) -> dict[str, Any]:
    """The row of a network, from a process of its own."""
    print(f"{name} …", file=sys.stderr, flush=True)
    command = [sys.executable, __file__, "--here", "--only", name]
    for option in ("batch", "precision", "threads"):
        command += [f"--{option}", str(getattr(asked, option))]
    environment = os.environ | {"OMP_NUM_THREADS": str(asked.threads)}
    done = subprocess.run(command, stdout=subprocess.PIPE, env=environment, check=False)
    if done.returncode:
        return {"network": name, "wrong": [f"its process ended with {done.returncode}"]}
    row: dict[str, Any] = json.loads(done.stdout)
    return row


def measured(name: str, batch: int, precision: Any, threads: int) -> dict[str, Any]:
    """Every figure of one network, and what of it is wrong."""
    torch.manual_seed(0)
    backbone = Backbone(name=name)
    trunk = build(backbone, SIZE)
    parameters = sum(parameter.numel() for parameter in trunk.parameters())
    told = [f"{key} {tuple(value.shape)}" for key, value in trunk.network.named_parameters()]
    row: dict[str, Any] = {
        "network": name,
        "parameters": parameters,
        "width": trunk.dim,
        "expected_millions": (FULL | SMALL)[name][0],
        "expected_width": (FULL | SMALL)[name][1],
        "tensors": len(told),
        "first_tensors": told[:ENDS],
        "last_tensors": told[-ENDS:],
        "batch": batch,
        "threads": threads,
        "precision": precision,
    }
    row |= trained(trunk, batch)
    with tempfile.TemporaryDirectory() as scratch:
        row |= judged(trunk, Path(scratch), precision, threads)
        row["weights_equal"] = loaded(trunk, backbone, Path(scratch) / "weights.safetensors")
    row["peak_bytes"] = peak()
    row["wrong"] = wrong(row)
    return row


def wrong(row: dict[str, Any]) -> list[str]:
    """What is not as it should be."""
    should = {
        "parameters": round(row["parameters"] / 1e6, 1) == row["expected_millions"],
        "width": row["width"] == row["expected_width"],
        "first layer did not move": row["moved"] > 0,
        "weights": row["weights_equal"],
        "parity": row["parity"] < PARITY[row["precision"]],
    }
    return [what for what, holds in should.items() if not holds]


def trained(trunk: Trunk, batch: int) -> dict[str, Any]:
    """One training step of a fresh network, as training runs it: channels last, half of the pictures fake."""
    trunk.to(memory_format=torch.channels_last).train()
    # Without weight decay, so that what moves has a gradient.
    optimiser = torch.optim.AdamW(trunk.parameters(), lr=1e-4, weight_decay=0)
    first = next(parameter for parameter in trunk.parameters() if parameter.ndim == 4)
    before = first.detach().clone()
    views = torch.randn(batch, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
    began, worked = time.perf_counter(), time.process_time()
    loss = sup_con(trunk(views), torch.arange(batch) % 2)
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    seconds, processor = time.perf_counter() - began, time.process_time() - worked
    return {
        "loss": loss.item(),
        "step_seconds": seconds,
        "step_processor_seconds": processor,
        "moved": float((first.detach() - before).abs().max()),
        "peak_bytes_of_training": peak(),
    }


def judged(trunk: Trunk, folder: Path, precision: Any, threads: int) -> dict[str, Any]:
    """Export, and one picture through the engine: the first run, which loads the graph, and one after it."""
    # The step's gradients are of no more use, and as large as the network.
    trunk.zero_grad(set_to_none=True)
    trunk.to(memory_format=torch.contiguous_format)
    settle(trunk)
    began = time.perf_counter()
    files = export(trunk, SIZE, "t", precision)
    exported = time.perf_counter() - began
    for name, content in files.items():
        (folder / name).write_bytes(content)
    size = sum(map(len, files.values()))
    del files
    picture = pictures()[:1]
    engine = Engine(folder, "t", threads=threads, device="cpu")
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        embedding = engine.run(picture)
        seconds.append(time.perf_counter() - began)
    with torch.no_grad():
        expected = trunk(torch.from_numpy(picture)).numpy()
    explained = engine.explain(picture)
    apart = [float(abs(found - expected).max() / abs(expected).max()) for found in (embedding, explained["embedding"])]
    apart += [parity(trunk, engine.run, SIZE, count) for count in (1, 3, 8)]
    return {
        "export_seconds": exported,
        "first_judgement_seconds": seconds[0],
        "judgement_seconds": seconds[1],
        "bundle_bytes": size,
        "parity": max(apart),
        "explained": {key: list(value.shape) for key, value in explained.items()},
    }


def settle(trunk: Trunk) -> None:
    """The norms know what pictures give, as after training: with the statistics of a fresh network MaxViT is so badly
    conditioned that fp16 moves its embedding by several per cent."""
    norms = [module for module in trunk.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        # The plain mean over the batches.
        norm.momentum = None
    views = torch.from_numpy(pictures())
    trunk.train()
    with torch.no_grad():
        for _ in range(4):
            trunk(views[torch.randperm(len(views))[:4]])
    trunk.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def pictures() -> npt.NDArray[np.float32]:
    """Views of the samples, (n, 3, size, size)."""
    view = View(size=SIZE, layout="grid", across=2)
    return np.concatenate([view.tensor(view.crops(decode(path).pixels)) for path in sorted(SAMPLES.glob("*.jpg"))])


def loaded(trunk: Trunk, backbone: Backbone, file: Path) -> bool:
    """Whether a fresh network with the saved weights is this one."""
    saved = {key: value.contiguous() for key, value in trunk.network.state_dict().items()}
    save_file(saved, file)
    fresh = build(backbone.model_copy(update={"weights": str(file)}), SIZE).network.state_dict()
    return fresh.keys() == saved.keys() and all(torch.equal(fresh[key], value) for key, value in saved.items())


def peak() -> int:
    """Most memory that this process ever held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def show(rows: list[dict[str, Any]]) -> None:
    """One line a network, and what stands at either end of it."""
    print(
        "| network | M parameters (expected) | width (expected) | tensors | weights equal | step s (processor) "
        "| peak of step GiB | export s | judgement s, first · next | bundle MB | parity | peak GiB | wrong |"
    )
    print("|---" * 13 + "|")
    for row in rows:
        faults, equal = "; ".join(row["wrong"]) or "nothing", "yes" if row.get("weights_equal") else "no"
        if "parameters" not in row:
            print(f"| {row['network']} |" + " |" * 11 + f" {faults} |")
            continue
        print(
            f"| {row['network']} | {row['parameters'] / 1e6:.1f} ({row['expected_millions']}) "
            f"| {row['width']} ({row['expected_width']}) | {row['tensors']} | {equal} "
            f"| {row['step_seconds']:.1f} ({row['step_processor_seconds']:.1f}) "
            f"| {row['peak_bytes_of_training'] / 2**30:.2f} | {row['export_seconds']:.0f} "
            f"| {row['first_judgement_seconds']:.2f} · {row['judgement_seconds']:.2f} "
            f"| {row['bundle_bytes'] / 1e6:.1f} | {row['parity']:.1e} | {row['peak_bytes'] / 2**30:.2f} | {faults} |"
        )
    for row in rows:
        if "tensors" in row:
            print(f"{row['network']}: {', '.join([*row['first_tensors'], '…', *row['last_tensors']])}")


if __name__ == "__main__":
    sys.exit(main())
