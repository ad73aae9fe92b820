"""A stream's whole network: trunk, low-rank adaptation, a second network beside it, neck; and one trunk for several."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from assay.errors import MissingExtra, RecipeError
from assay.image.runs import Runs
from assay.image.view import View
from assay.learn.nn import necks
from assay.learn.nn.backbones import Trunk, build
from assay.learn.nn.necks import NeckModule
from assay.learn.recipe import Beside, LoRA, Stream

_ADAPTER = "lora"


class Necked(Trunk):
    """A trunk under the necks of one or several streams: the embedding is theirs, one after another.

    Args:
        trunk: the network.
        over: the necks (`assay.learn.nn.necks`), at least one.
        beside: a second trunk with what it wants of pictures; its embedding follows the first one's.
    """

    def __init__(self, trunk: Trunk, over: Sequence[NeckModule], beside: Aside | None = None) -> None:
        super().__init__(trunk.front, trunk.network, sum(neck.width for neck in over))
        self.necks = nn.ModuleList(over)
        self.beside = beside
        self.own = trunk.dim

    @property
    def runs(self) -> Runs | None:
        """Nothing: a neck stands over what is counted."""
        return None

    def embed(self, features: Tensor, x: Tensor) -> Tensor:
        """Features of pictures `x` to the embeddings of all necks, (n, dim)."""
        embedding = super().embed(features, x)
        if self.beside is not None:
            embedding = torch.cat([embedding, self.beside(x)], dim=1)
        places = self.as_map(features, x)
        return torch.cat([neck(places, embedding) for neck in self.necks], dim=1)


class Aside(nn.Module):
    """A network that is never trained: pictures normalised for another one, (n, 3, h, w), to its embedding (n, dim)."""

    scale: Tensor
    shift: Tensor

    def __init__(self, beside: Beside, view: View) -> None:
        super().__init__()
        self.trunk = frozen(build(beside.backbone, view.size))
        scale, shift = [], []
        for mine, other, spread, others in zip(view.mean, beside.mean, view.std, beside.std, strict=True):
            scale.append(spread / others)
            shift.append((mine - other) / others)
        self.register_buffer("scale", torch.tensor(scale)[:, None, None], persistent=False)
        self.register_buffer("shift", torch.tensor(shift)[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        embedding: Tensor = self.trunk(x * self.scale + self.shift)
        return embedding


def network(stream: Stream) -> Trunk:
    """The network of a recipe's stream, for views of its size.

    Raises:
        RecipeError: see `assay.learn.nn.backbones.build`; or LoRA finds no layer of such names.
        MissingExtra: its texts are to be embedded and transformers is not installed, or it has LoRA and peft is not.
    """
    trunk = build(stream.backbone, stream.view.size)
    channels = 0
    if not stream.bare:
        was_training = trunk.training
        with torch.no_grad():
            blank = torch.zeros(1, 3, stream.view.size, stream.view.size)
            channels = trunk.eval().as_map(trunk.features(blank), blank).shape[1]
        trunk.train(was_training)
    if stream.backbone.lora is not None:
        _adapt(trunk.network, stream.backbone.lora)
    if stream.bare:
        return trunk
    beside = None if stream.beside is None else Aside(stream.beside, stream.view)
    width = trunk.dim + (0 if beside is None else beside.trunk.dim)
    return Necked(trunk, [necks.build(stream.neck, channels, width)], beside)


def joined(parts: Sequence[Trunk]) -> Necked:
    """One network for several that have the same trunk and nothing beside it: the first one's, under all their necks.

    The embedding holds theirs in their order.
    """
    over: list[Any] = []
    for part in parts:
        over += list(part.necks) if isinstance(part, Necked) else [necks.Pass(part.dim)]
    first = parts[0]
    own = first.own if isinstance(first, Necked) else first.dim
    return Necked(Trunk(first.front, first.network, own), over)


def frozen(module: Trunk) -> Trunk:
    """The network, in evaluation mode and without gradients."""
    return module.requires_grad_(False).eval()


def settle(trunk: Trunk, *, trained: bool) -> None:
    """Set what holds still in evaluation mode, after a network was put into training mode: what stands beside it
    always, the network under the necks where it is not `trained`."""
    if not trained:
        trunk.network.eval()
    if isinstance(trunk, Necked) and trunk.beside is not None:
        trunk.beside.eval()


def merge(trunk: Trunk) -> Trunk:
    """The same network with LoRA's matrices merged into the layers they stand beside; as it is where there are none."""
    adapted: list[tuple[str, Any]] = [
        (name, module) for name, module in trunk.network.named_modules() if hasattr(module, "lora_A")
    ]
    for name, module in adapted:
        module.merge(safe_merge=True)
        parent, _, last = name.rpartition(".")
        setattr(trunk.network.get_submodule(parent), last, module.get_base_layer())
    return trunk


def _adapt(network: Any, lora: LoRA) -> None:
    """Put low-rank matrices beside a network's layers; the network's own parameters hold still."""
    # It takes seconds to import, and few networks want it.
    try:
        import peft
    except ImportError as error:
        raise MissingExtra("adapting a network by LoRA", "train") from error
    fields: dict[str, Any] = {"r": lora.rank, "lora_alpha": lora.alpha, "lora_dropout": lora.dropout}
    config = peft.LoraConfig(target_modules=lora.targets, **fields)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            peft.inject_adapter_in_model(config, network, adapter_name=_ADAPTER)
    except ValueError as error:
        raise RecipeError(
            f"LoRA finds no layer called {lora.targets!r} in this network; set backbone.lora.targets"
        ) from error
    for name, parameter in network.named_parameters():
        parameter.requires_grad_("lora_" in name)
