"""A network by its repeated blocks: computed again instead of kept, or laid out in pieces over several devices."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from timm.layers.norm_act import convert_sync_batchnorm
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.utils.checkpoint import checkpoint

from assay.learn.nn.backbones import Trunk

_ROWS = (nn.Sequential, nn.ModuleList)


def blocks(network: nn.Module) -> list[nn.Module]:
    """The innermost composite members of a network's rows of modules: a transformer's blocks, the blocks of a
    convolutional network's stages; where it has no rows (RegNet), the children that are of one class with another."""
    return _in_rows(network) or _alike(network)


def _in_rows(module: nn.Module) -> list[nn.Module]:
    found = []
    for child in module.children():
        if isinstance(child, _ROWS):
            for member in child.children():
                inner = _in_rows(nn.ModuleList([member]) if isinstance(member, _ROWS) else member)
                found += inner or ([member] if _composite(member) and not isinstance(member, _ROWS) else [])
        else:
            found += _in_rows(child)
    return found


def _alike(module: nn.Module) -> list[nn.Module]:
    children = [child for child in module.children() if _composite(child)]
    kinds = [type(child) for child in children]
    if any(kinds.count(kind) > 1 for kind in kinds):
        return [child for child in children if kinds.count(type(child)) > 1]
    return [block for child in children for block in _alike(child)]


def _composite(module: nn.Module) -> bool:
    return any(True for _ in module.children())


def recompute(network: nn.Module) -> None:
    """Let each block keep its input alone, and compute the rest again on the way back (Chen et al., "Training Deep Nets
    with Sublinear Memory Cost", 2016): about a third more arithmetic, for memory of one block at a time.

    What comes of it is the same: chance is drawn as before, and statistics of batch normalisation are taken once.
    """
    for block in blocks(network):
        _recomputed(block)


def _recomputed(block: nn.Module) -> None:
    compute = block.forward
    norms = [module for module in block.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    further: dict[str, Any] = {"context_fn": lambda: (contextlib.nullcontext(), _still(norms))} if norms else {}

    def forward(*given: Any, **named: Any) -> Any:
        if not torch.is_grad_enabled() or not any(x.requires_grad for x in (*_tensors(given), *block.parameters())):
            return compute(*given, **named)
        return checkpoint(compute, *given, use_reentrant=False, **further, **named)

    block.forward = forward


def _tensors(given: tuple[Any, ...]) -> list[torch.Tensor]:
    return [x for x in given if isinstance(x, torch.Tensor)]


@contextlib.contextmanager
def _still(norms: list[nn.modules.batchnorm._BatchNorm]) -> Iterator[None]:
    """Batch normalisation by the batch that notes nothing of it."""
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count


def shard(device: str, ranks: int, trunk: Trunk, *others: nn.Module) -> None:
    """Lay parameters, gradients and the optimiser's memory out over devices, in place.

    Each block, and what is left of each module, is put together where it is computed and taken apart again (torch's
    `fully_shard`; Zhao et al., "PyTorch FSDP", VLDB 2023). Parameters keep their names; a module is called as a whole.
    """
    mesh = init_device_mesh(device, (ranks,))
    for block in blocks(trunk):
        fully_shard(block, mesh=mesh)
    for module in (trunk, *others):
        # Taken apart at once too: whoever asks for parameters then has the same ones, whatever was computed before.
        fully_shard(module, mesh=mesh, reshard_after_forward=True)


def synchronised(trunk: Trunk) -> Trunk:
    """The network with batch normalisation by the rows of all ranks. On GPUs: torch has none for processors."""
    found: Trunk = convert_sync_batchnorm(trunk)  # type: ignore[no-untyped-call]
    return found
