"""What a training step asks of a device's memory, by arithmetic: nothing of that size is made.

Parameters are counted; what a forward pass keeps for the way back is what autograd says that it would keep, of a
network whose tensors have shapes and no contents. Kernels' own scratch and what an allocator leaves unused are not in
it: leave a tenth.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from assay.learn.nn.backbones import Trunk
from assay.learn.nn.blocks import blocks, recompute
from assay.learn.nn.network import network, settle
from assay.learn.objective import objective
from assay.learn.recipe import Descent, InfoNCE, Stream
from assay.learn.views import LOCAL, names

_FLOAT = 4
_REMEMBERED = {"adamw": 2, "sgd": 1}
"""Numbers that each optimiser remembers of a parameter."""


@dataclasses.dataclass(frozen=True)
class Footprint:
    """Bytes on one device.

    Args:
        rows: views that go through the network at a time.
        parameters, trained: how many there are, in the whole network and the loss's layers.
        weights: with buffers; a device's piece where they are laid out over several.
        gradients: of what is trained; likewise.
        moments: what the optimiser remembers; likewise.
        together: of a network in pieces what is put together at a time: what is in no block, the block that is computed
            and the one that is fetched ahead, with the gradients of one.
        kept: from the forward pass for the way back.
        again: of the block that is computed again, where that is done.
    """

    rows: int
    parameters: int
    trained: int
    weights: int
    gradients: int
    moments: int
    together: int
    kept: int
    again: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.moments + self.together + self.kept + self.again


def footprint(
    stream: Stream, stage: Descent, *, bf16: bool, ranks: int = 1, shard: bool = False, recomputed: bool = False
) -> Footprint:
    """Of a step of a recipe's stage, on the device that has the most to do.

    Args:
        ranks: devices that share a batch.
        shard, recomputed: as `assay.learn.descend.Machine` has them.
    """
    with torch.device("meta"):
        trunk = network(stream)
        aside = objective(stage.loss, trunk.dim)
    trunk.train()
    trains = stage.optimiser.trunk != 0
    if not trains:
        trunk.network.requires_grad_(False)
    settle(trunk, trained=trains)
    pairs = -(-(stage.pairs // stage.accumulate) // ranks)
    views = names(stage)
    local = sum(name.startswith(LOCAL) for name in views) if isinstance(stage.loss, InfoNCE) else 0
    rows = {stream.view.size: 2 * pairs * (len(views) - local)}
    if local:
        rows[stage.crops.local] = rows.get(stage.crops.local, 0) + 2 * pairs * local
    inner, outer = _kept(trunk, rows, bf16)
    again = 0
    if recomputed:
        again = max(inner, default=0)
        recompute(trunk.network)
        inner, outer = _kept(trunk, rows, bf16)
    every = [*trunk.parameters(), *aside.parameters()]
    trained = [p for p in every if p.requires_grad]
    pieces, buffers = ranks if shard else 1, _bytes([*trunk.buffers(), *aside.buffers()])
    gradients = _bytes(trained)
    return Footprint(
        rows=sum(rows.values()),
        parameters=sum(p.numel() for p in every),
        trained=sum(p.numel() for p in trained),
        weights=math.ceil(_bytes(every) / pieces) + buffers,
        gradients=math.ceil(gradients / pieces),
        moments=math.ceil(gradients * _REMEMBERED[stage.optimiser.kind] / pieces),
        together=_together(trunk, aside) if shard else 0,
        kept=sum(inner) + outer,
        again=again,
    )


def _together(trunk: Trunk, aside: nn.Module) -> int:
    parts = [list(block.parameters()) for block in blocks(trunk)]
    inside = {id(p) for part in parts for p in part}
    rest = [p for p in (*trunk.parameters(), *aside.parameters()) if id(p) not in inside]
    largest = max(parts, key=_bytes, default=[])
    return _bytes(rest) + 2 * _bytes(largest) + _bytes(p for p in largest if p.requires_grad)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(x.numel() * x.element_size() for x in tensors)


def _kept(trunk: Trunk, rows: Mapping[int, int], bf16: bool) -> tuple[list[int], int]:
    """Bytes kept inside each block, and outside all."""
    found: dict[int, tuple[torch.UntypedStorage, int, int]] = {}
    within = -1

    def enter(at: int, *_: Any) -> None:
        nonlocal within
        within = at

    parts = blocks(trunk.network)
    hooks = [block.register_forward_pre_hook(functools.partial(enter, at)) for at, block in enumerate(parts)]
    hooks += [block.register_forward_hook(functools.partial(enter, -1)) for block in parts]
    try:
        with FakeTensorMode():
            state = {
                name: torch.empty(x.shape, dtype=x.dtype, device="cpu").requires_grad_(x.requires_grad)
                for name, x in (*trunk.named_parameters(), *trunk.named_buffers())
            }
            own = {x.untyped_storage()._cdata for x in state.values()}

            def note(x: Tensor) -> Tensor:
                storage = x.untyped_storage()
                # Held, so that no other takes its address.
                if storage._cdata not in own:
                    found.setdefault(storage._cdata, (storage, storage.nbytes(), within))
                return x

            out = []
            for side, count in rows.items():
                # The processor's kernels: attention keeps what a GPU's does, and so do the others. As in training, each
                # pass has copies of the weights in bfloat16.
                with (
                    torch.autograd.graph.saved_tensors_hooks(note, lambda x: x),
                    torch.autocast("cpu", torch.bfloat16, enabled=bf16),
                ):
                    pictures = torch.empty(count, 3, side, side)
                    out.append(torch.func.functional_call(trunk, state, (pictures,)))
    finally:
        for hook in hooks:
            hook.remove()
    inner = [sum(size for _, size, at in found.values() if at == place) for place in range(len(parts))]
    return inner, sum(size for _, size, at in found.values() if at < 0)
