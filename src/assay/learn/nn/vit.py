"""A Vision Transformer as files hold it: the names of transformers and of timm, and the network that is meant.

Source: Dosovitskiy et al., "An Image is Worth 16x16 Words" (arXiv 2010.11929); huggingface/transformers `ViTModel`
(the names of files that versions 4 and 5 write, and those that version 5 has in memory) and
huggingface/pytorch-image-models `VisionTransformer`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from assay.errors import RecipeError
from assay.learn.recipe import Backbone

Naming = Literal["transformers", "timm"]

EPSILON = 1e-12
"""`layer_norm_eps` of transformers' ViT where no config says another; timm's networks have 1e-6."""

_ALONE = {
    "embeddings.cls_token": "cls_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection.weight": "patch_embed.proj.weight",
    "embeddings.patch_embeddings.projection.bias": "patch_embed.proj.bias",
    "layernorm.weight": "norm.weight",
    "layernorm.bias": "norm.bias",
}
_LAYER = re.compile(r"(?:encoder\.layer|layers)\.(\d+)\.(.+)\.(weight|bias)")
_IN_LAYER = {
    "attention.output.dense": "attn.proj",
    "attention.o_proj": "attn.proj",
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
_QKV = [
    ("attention.attention.query", "attention.q_proj"),
    ("attention.attention.key", "attention.k_proj"),
    ("attention.attention.value", "attention.v_proj"),
]
"""In the order in which timm's one matrix holds them."""

_UNUSED = ("pooler.", "classifier.", "decoder.", "embeddings.mask_token")
"""What an embedding is made without."""


class _Known(NamedTuple):
    name: str
    heads: int
    depth: int = 12
    patch: int = 16
    ratio: float = 4.0


_BY_WIDTH = {
    64: _Known("test_vit", 2, depth=6, ratio=3.0),
    192: _Known("vit_tiny_patch16_224", 3),
    384: _Known("vit_small_patch16_224", 6),
    768: _Known("vit_base_patch16_224", 12),
    1024: _Known("vit_large_patch16_224", 16, depth=24),
    1280: _Known("vit_huge_patch14_224", 16, depth=32, patch=14),
}
"""timm's networks, one for each width: what of a file differs from it becomes a field."""


def naming(tensors: Mapping[str, Tensor]) -> Naming | None:
    """Whose names these are; None where they are no Vision Transformer's."""
    if any(name.removeprefix("vit.") == "embeddings.patch_embeddings.projection.weight" for name in tensors):
        return "transformers"
    return "timm" if {"cls_token", "pos_embed", "patch_embed.proj.weight", "norm.weight"} <= set(tensors) else None


def to_timm(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parameters of transformers' ViT under timm's names.

    Query, key and value become one matrix, (3 d, d). Pooler, classifier and mask token have no part in the embedding
    and are left out.

    Raises:
        RecipeError: a parameter is not one of ViT's, or query, key or value is missing.
    """
    found: dict[str, Tensor] = {}
    parts: dict[tuple[str, str], dict[int, Tensor]] = {}
    for name, tensor in tensors.items():
        bare = name.removeprefix("vit.")
        layer = _LAYER.fullmatch(bare)
        if bare in _ALONE:
            found[_ALONE[bare]] = tensor
        elif layer is None:
            if not bare.startswith(_UNUSED):
                raise RecipeError(_foreign(name))
        else:
            number, part, kind = layer.groups()
            which = [index for index, names in enumerate(_QKV) if part in names]
            if which:
                parts.setdefault((number, kind), {})[which[0]] = tensor
            elif part in _IN_LAYER:
                found[f"blocks.{number}.{_IN_LAYER[part]}.{kind}"] = tensor
            else:
                raise RecipeError(_foreign(name))
    for (number, kind), three in parts.items():
        if len(three) < len(_QKV):
            raise RecipeError(f"layer {number} lacks the {kind} of query, key or value; download the weights again")
        found[f"blocks.{number}.attn.qkv.{kind}"] = torch.cat([three[index] for index in range(len(_QKV))])
    return found


def image_size(tensors: Mapping[str, Tensor]) -> int | None:
    """Side in pixels of the pictures that timm's position embeddings are for; None where there are none."""
    positions, patches = tensors.get("pos_embed"), tensors.get("patch_embed.proj.weight")
    if positions is None or patches is None or positions.ndim != 3 or patches.ndim != 4:
        return None
    # Before the patches stand the class token and its like, if any, and never enough of them for a larger square.
    return math.isqrt(positions.shape[1]) * int(patches.shape[-1])


def backbone(tensors: Mapping[str, Tensor], config: Mapping[str, Any], named: Naming) -> tuple[Backbone, int]:
    """The network that these parameters, under timm's names, are of, and the side of its pictures in pixels.

    Args:
        tensors: with a class token; of floating point.
        config: transformers' `config.json`, held against the tensors; empty where there is none: then the number of
            heads is that of timm's network of the same width, and epsilon that of the naming.
        named: whose names the file had.

    Raises:
        RecipeError: the tensors make no ViT on three channels and square pictures, or the config says otherwise.
    """
    try:
        positions, patches = tensors["pos_embed"], tensors["patch_embed.proj.weight"]
        inner = tensors["blocks.0.mlp.fc1.weight"]
        (_, tokens, width), (_, channels, patch, _) = positions.shape, patches.shape
        hidden = int(inner.shape[0])
    except (KeyError, ValueError) as error:
        raise RecipeError(f"these weights make no Vision Transformer ({error}); download them again") from error
    depth = 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("blocks."))
    size = math.isqrt(tokens - 1) * patch
    if (size // patch) ** 2 != tokens - 1 or channels != 3:
        raise RecipeError(
            f"these weights take pictures of {channels} channels in {tokens - 1} patches; only three channels and a "
            "square are supported"
        )
    biased = "blocks.0.attn.qkv.bias" in tensors
    known = _BY_WIDTH.get(width)
    if known is None:
        raise RecipeError(
            f"no ViT of width {width} is known; known widths: {', '.join(map(str, _BY_WIDTH))}. For another network "
            "give timm:NAME and a file in timm's naming"
        )
    heads, epsilon = known.heads, None
    if named == "transformers":
        _agrees(
            config,
            model_type="vit",
            hidden_act="gelu",
            hidden_size=width,
            num_hidden_layers=depth,
            intermediate_size=hidden,
            num_channels=channels,
            patch_size=patch,
            image_size=size,
            qkv_bias=biased,
        )
        heads, epsilon = config.get("num_attention_heads", heads), config.get("layer_norm_eps", EPSILON)
        if not isinstance(heads, int) or heads < 1 or width % heads:
            raise RecipeError(f"config.json says {heads!r} attention heads, which do not divide a width of {width}")
        if not isinstance(epsilon, float) or not 0 < epsilon < 1:
            raise RecipeError(f"config.json says layer_norm_eps {epsilon!r}; a small positive number was expected")
    fields: dict[str, Any] = {}
    if depth != known.depth:
        fields["depth"] = depth
    if patch != known.patch:
        fields["patch_size"] = int(patch)
    if heads != known.heads:
        fields["num_heads"] = heads
    if hidden != int(width * known.ratio):
        fields["mlp_ratio"] = hidden / width
    if not biased:
        fields["qkv_bias"] = False
    return Backbone(name=known.name, fields=fields, norm_eps=epsilon), int(size)


def _agrees(config: Mapping[str, Any], **ours: Any) -> None:
    """Every field that a config has says what is."""
    for field, value in ours.items():
        said = config.get(field, value)
        if said not in (value, [value, value]):
            raise RecipeError(
                f"config.json says {field} {said!r}, and the weights can only be read with {value!r}; give the config "
                "that belongs to them, or timm:NAME and a file in timm's naming for another network"
            )


def _foreign(name: str) -> str:
    return (
        f"{name} is no parameter of transformers' ViT; for another network give timm:NAME and a file in timm's naming"
    )
