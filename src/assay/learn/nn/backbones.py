"""Networks by name: a front, a timm model or ours, an embedding."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.layers.patch_embed import PatchEmbed
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models import eva, maxxvit
from timm.models.eva import Eva
from timm.models.maxxvit import MaxxVit
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from assay.errors import RecipeError, unknown
from assay.image.runs import Runs
from assay.learn.nn.cooccurrence import CoOccurrence
from assay.learn.nn.front import Front
from assay.learn.nn.genconvit import GenConViT
from assay.learn.nn.patch import PatchCNN
from assay.learn.nn.trace import TraceCNN
from assay.learn.recipe import Backbone

Made = Callable[[int, int, bool, Mapping[str, Any]], nn.Module]
"""From input channels, side of a view in px, whether weights come from timm's hub, and further fields, to a network."""

OURS: Mapping[str, Made] = {
    "trace_cnn": lambda channels, size, hub, fields: TraceCNN(channels, **fields),
    "cooccurrence": lambda channels, size, hub, fields: CoOccurrence(channels, **fields),
    "patch_cnn": lambda channels, size, hub, fields: PatchCNN(channels, **fields),
    "genconvit": lambda channels, size, hub, fields: GenConViT(channels, size, pretrained=hub, **fields),
}

READABLE = (VisionTransformer, Eva)
"""Networks whose last block attends over all tokens, the class token among them."""

PARTS = "weights"
"""The field of a network of ours whose value is a mapping from parts of it to safetensors files, in timm's naming."""

_CLASSIFIERS = ("head.", "fc.", "classifier.")

_LEAST = 32
"""Side in pixels of the smallest views that timm makes a MaxViT or CoAtNet for; below it fails without saying so."""


class Trunk(nn.Module):
    """A front and a network: (n, 3, size, size) to an embedding (n, dim).

    Attributes:
        dim: length of the embedding.
        class_token: whether the network has one, and attention of it to patches that can be read.
    """

    def __init__(self, front: Front, network: Any, dim: int) -> None:
        super().__init__()
        self.front = front
        self.network = network
        self.dim = dim
        self.class_token = isinstance(network, READABLE) and network.cls_token is not None

    @property
    def runs(self) -> Runs | None:
        """What is counted, where the network does nothing else and its embedding is the whole."""
        return self.network.runs if isinstance(self.network, CoOccurrence) else None

    def features(self, x: Tensor) -> Tensor:
        """The network's last feature map (n, c, h, w), or its tokens (n, tokens, c)."""
        features: Tensor = self.network.forward_features(self.front(x))
        return features

    def embed(self, features: Tensor, x: Tensor) -> Tensor:
        """Features of pictures `x` to the embedding (n, dim)."""
        embedding: Tensor = self.network.forward_head(features, pre_logits=True)
        return embedding

    def as_map(self, features: Tensor, x: Tensor) -> Tensor:
        """Features of pictures `x` as a map (n, c, h, w): tokens (n, prefix + h·w, c) in their places."""
        if features.ndim == 4:
            # timm says so of networks such as Swin, whose maps are (n, h, w, c).
            last = getattr(self.network, "output_fmt", "NCHW") == "NHWC"
            return features.permute(0, 3, 1, 2) if last else features
        prefix = self.network.num_prefix_tokens
        height, width = self.network.patch_embed.dynamic_feat_size((x.shape[2], x.shape[3]))
        return features[:, prefix:].transpose(1, 2).reshape(-1, features.shape[2], height, width)

    def penalties(self) -> dict[str, Tensor]:
        """What the network itself is to keep small, by name, as of its last pass in training; empty for most."""
        found: dict[str, Tensor] = getattr(self.network, "penalties", {})
        return found

    def forward(self, x: Tensor) -> Tensor:
        return self.embed(self.features(x), x)


def build(backbone: Backbone, size: int) -> Trunk:
    """The network of a recipe, for square inputs of `size` pixels, whatever size its name says.

    In training other sizes work too, but for MaxViT's and CoAtNet's, whose windows and tables of relative positions
    are made for one.

    Raises:
        RecipeError: no such network, one that takes no views of this size (the message says which it takes) or whose
            features make no map, or its weights do not fit or cannot be had (the message says how to get them).
    """
    front = Front(backbone.front)
    hub = backbone.pretrained and not backbone.weights
    ours = backbone.name in OURS
    if not ours and not timm.is_model(backbone.name):
        raise RecipeError(unknown("network", backbone.name, [*timm.list_models(), *OURS]))
    fields = dict(backbone.fields)
    parts: Mapping[str, str] = fields.pop(PARTS, {}) if ours else {}
    try:
        if ours:
            network: Any = OURS[backbone.name](front.channels, size, hub, fields)
        else:
            fields = {"in_chans": front.channels, "num_classes": 0} | _sized(backbone.name, size) | fields
            network = timm.create_model(backbone.name, pretrained=hub, **fields)
    except (AssertionError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise RecipeError(
            f"cannot make {backbone.name}: {error}. Without a network, download its safetensors file elsewhere "
            "and set backbone.weights to its path"
        ) from error
    _check_size(network, backbone.name, size)
    dim = _embedding_length(network, backbone.name, front.channels, size)
    for part, path in parts.items():
        if not hasattr(network, part):
            raise RecipeError(unknown(f"part of {backbone.name}", part, [name for name, _ in network.named_children()]))
        load(getattr(network, part), _read(Path(path), part), part, path)
    if backbone.norm_eps is not None:
        for module in network.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = backbone.norm_eps
    if backbone.weights:
        weights = _read(Path(backbone.weights), backbone.name)
        try:
            weights = _resampled(network, weights)
        except (AssertionError, AttributeError, LookupError, RuntimeError, ValueError) as error:
            raise RecipeError(f"{backbone.weights} does not fit {backbone.name}: {error}") from error
        load(network, weights, backbone.name, backbone.weights)
    return Trunk(front, network, dim)


def _sized(name: str, size: int) -> dict[str, Any]:
    """What timm wants to know of views of this size."""
    family = timm.model_entrypoint(name).__module__
    if family == maxxvit.__name__:
        return {"img_size": max(size, _LEAST)}
    if family == eva.__name__ or name.startswith(("vit_", "test_vit")):
        return {"img_size": size, "dynamic_img_size": True}
    return {}


def _check_size(network: Any, name: str, size: int) -> None:
    step, hint = 1, ""
    if isinstance(network, MaxxVit):
        # Windows are this share of a view, and divide every map.
        step = math.lcm(network.feature_info[-1]["reduction"], network.partition_ratio)
    elif isinstance(network, READABLE) and isinstance(network.patch_embed, PatchEmbed):
        # Unless told to pad, timm drops what is left over at the edges, or fails.
        step = 1 if network.patch_embed.dynamic_img_pad else math.lcm(*network.patch_embed.patch_size)
        hint = ", or backbone.fields.patch_size another"
    if size % step:
        near = " or ".join(str(side) for side in (size // step * step, -(-size // step) * step) if side)
        raise RecipeError(
            f"{name} takes no views of {size} px: their side must be a multiple of {step}, for example {near}{hint}"
        )


def _embedding_length(network: Any, name: str, channels: int, size: int) -> int:
    # Some networks (MobileNetV3) widen between `num_features` and the embedding, so ask the network itself.
    was_training = network.training
    network.eval()
    with torch.no_grad():
        try:
            features = network.forward_features(torch.zeros(1, channels, size, size))
        except (AssertionError, RuntimeError) as error:
            raise RecipeError(f"{name} takes no views of {size} px with these fields: {error}") from error
        # Said now, not after hours of training.
        if features.ndim != 4 and not hasattr(getattr(network, "patch_embed", None), "dynamic_feat_size"):
            raise RecipeError(f"the features of {name} make no map, so a detector could not show where it looked")
        length = int(network.forward_head(features, pre_logits=True).shape[1])
    network.train(was_training)
    return length


def _read(path: Path, name: str) -> dict[str, Tensor]:
    if not path.is_file():
        raise RecipeError(f"no weights at {path}; give a safetensors file in timm's naming for {name}")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise RecipeError(f"{path} is not a safetensors file: {error}") from None


def _resampled(network: Any, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights for views of another size, resampled as timm does for weights from its hub: position embeddings, tables
    of relative positions and, of EVA's, patch projections. EVA's may have their authors' names."""
    for family, kind in ((maxxvit, MaxxVit), (eva, Eva)):
        if isinstance(network, kind):
            filtered: dict[str, Tensor] = family.checkpoint_filter_fn(weights, network)
            return filtered
    key = "pos_embed"
    mine, given = getattr(network, key, None), weights.get(key)
    if mine is None or given is None or given.ndim != 3 or given.shape == mine.shape:
        return weights
    before = 0 if getattr(network, "no_embed_class", False) else network.num_prefix_tokens
    grid = network.patch_embed.grid_size
    return weights | {key: resample_abs_pos_embed(given, list(grid), num_prefix_tokens=before)}


def load(network: nn.Module, weights: Mapping[str, Tensor], name: str, source: str) -> None:
    """Put all parameters of a network in place, in timm's naming; a classifier among them is left aside.

    Args:
        name, source: the network, and where the weights are from, for the message.

    Raises:
        RecipeError: one is missing, of another shape, or not the network's.
    """
    have = network.state_dict()
    # Some networks (ConvNeXt) keep their last norm under the prefix of a classifier.
    weights = {key: value for key, value in weights.items() if key in have or not key.startswith(_CLASSIFIERS)}
    wrong = [key for key in have if key not in weights or weights[key].shape != have[key].shape]
    wrong += [key for key in weights if key not in have]
    if wrong:
        raise RecipeError(f"{source} does not fit {name}: {len(wrong)} parameters differ, first {wrong[0]}")
    network.load_state_dict(weights)
