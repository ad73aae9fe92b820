"""Any network of timm, from a file of weights: a frozen trunk under CoDE's heads.

*Paper* (CoDE, arXiv 2407.20337): frozen CLIP, DINO and ResNet-50 under the same heads are what it is compared with.
*Ours*: crops at native resolution, as CoDE's view cuts them, of the size that the weights were made for, normalised as
timm says of that name (`timm.get_pretrained_cfg`) or the config beside the weights does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import timm

from assay.errors import RecipeError, unknown
from assay.learn.nn import vit
from assay.learn.recipe import Backbone
from assay.learn.released import Plan, System, under_code_heads
from assay.learn.weights import Weights


def plan(weights: Weights, rest: str) -> Plan:
    """The network called `rest` over these weights. Raises RecipeError where timm has none of that name."""
    if not rest:
        raise RecipeError("say which network: timm:NAME, for example timm:vit_base_patch16_224")
    if not timm.is_model(rest):
        raise RecipeError(unknown("network", rest, timm.list_models()))
    tensors, naming, backbone = dict(weights.tensors), "timm", Backbone(name=rest)
    if vit.naming(tensors) == "transformers":
        tensors, naming = vit.to_timm(tensors), "transformers"
        # Which network it is, is the user's word; what no tensor shows is the config's.
        found, _ = vit.backbone(tensors, weights.config, "transformers")
        heads = weights.config.get("num_attention_heads")
        fields = {} if heads is None else {"num_heads": heads}
        backbone = Backbone(name=rest, norm_eps=found.norm_eps, fields=fields)
    says = _says(rest, weights.config)
    positions = vit.image_size(tensors)
    size = positions or int(says["input_size"][-1])
    stream = rest.partition(".")[0]
    recipe = under_code_heads(
        f"timm:{rest}",
        f"{rest} as it is, its weights from a file, under CoDE's heads",
        stream,
        backbone,
        size,
    )
    [frozen] = recipe.streams
    seen = frozen.view.model_copy(update={"mean": tuple(says["mean"]), "std": tuple(says["std"])})
    return Plan(
        recipe.model_copy(update={"streams": (frozen.model_copy(update={"view": seen}),)}),
        tensors,
        naming,
        positions,
        ("What its network was trained on is not among what it remembers, so a test on such pictures is not refused.",),
    )


def _says(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Input size, mean and deviation: of the config beside the weights where it is timm's, else of the name."""
    known = timm.get_pretrained_cfg(name)
    if known is None:
        raise RecipeError(f"timm does not say how {name} wants its pictures; name a network with weights of timm's")
    fields = ("input_size", "mean", "std")
    beside = config.get("pretrained_cfg", config)
    own = {field: beside[field] for field in fields if isinstance(beside, Mapping) and field in beside}
    says = {field: getattr(known, field) for field in fields} | own
    for field, value in says.items():
        if not isinstance(value, list | tuple) or len(value) != 3 or not all(isinstance(x, int | float) for x in value):
            raise RecipeError(f"config.json says {field} {value!r}; three numbers were expected")
    return says


SYSTEM = System(
    name="timm",
    summary="any network of timm, named as timm:NAME, under CoDE's heads",
    weights="a safetensors file in timm's naming, a folder that holds it, or a repository such as timm/NAME",
    source="huggingface/pytorch-image-models: timm/models/_pretrained.py",
    plan=plan,
)
