"""GenConViT's published weights (Wodajo et al., arXiv 2307.07036): net A or net B, as torch files.

*Release* (erprogs/GenConViT@0061425d401d, model/genconvit_ed.py, model/genconvit_vae.py; the masked-eye study's
Monu-Khicher-1/multi-stage-learning@4d64ed8c63ef saves the same names): a checkpoint of one net, whose Swin half and
some further layers nothing computes with. They are left out, so the network has ConvNeXt alone and computes what the
release does, but for net B's drawing, which is resized, and its latent, which is judged by its mean.

*Ours*: the last layer (500 to 2) is a head, and heads are fitted on the user's training rows and calibrated on the
user's tuning rows.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from assay.errors import RecipeError
from assay.learn.nn.genconvit import Kind
from assay.learn.recipe import Backbone, Descend, Fit, Linear, Recipe, Shown
from assay.learn.recipe import find as recipe_of
from assay.learn.released import Plan, System
from assay.learn.weights import Weights

CONVNEXT: Mapping[Kind, str] = {"autoencoder": "backbone.", "variational": "convnext_backbone."}
"""Where each net's checkpoint has the half that it computes with."""

KEPT: Mapping[str, str] = {
    "encoder.features.": "generator.encoder.features.",
    "encoder.mu.": "generator.encoder.mu.",
    "encoder.var.": "generator.encoder.var.",
    "decoder.": "generator.decoder.",
    "fc.": "fc.",
}
"""Prefixes of the release's names, and ours."""

DEAD = "patch_embed."
"""Under which the release hangs its Swin into ConvNeXt, where nothing looks."""


def net_of(names: Mapping[str, Tensor]) -> Kind | None:
    """Which net's checkpoint has these names; None for neither."""
    for net, prefix in CONVNEXT.items():
        if any(name.startswith(prefix + "stem.") for name in names) and any(n.startswith("encoder.") for n in names):
            return net
    return None


def renamed(tensors: Mapping[str, Tensor], net: Kind) -> dict[str, Tensor]:
    """The parameters that are computed with, by our names (`assay.learn.nn.genconvit`)."""
    prefixes = {**KEPT, CONVNEXT[net]: "convnext."}
    found = {}
    for name, tensor in tensors.items():
        for theirs, ours in prefixes.items():
            rest = name.removeprefix(theirs)
            if rest != name and not rest.startswith(DEAD):
                found[ours + rest] = tensor
    return found


def plan(weights: Weights, rest: str) -> Plan:
    """A net's stream over these weights. Raises RecipeError where they are of neither net, or of another than asked."""
    net = net_of(weights.tensors)
    if net is None or rest not in ("", net):
        asked = "a net of GenConViT" if net is None else f"GenConViT's {net} net, not its {rest} one"
        raise RecipeError(
            f"{weights.named} is {'not ' if net is None else ''}{asked} (its first parameter is "
            f"{next(iter(weights.tensors))}); give genconvit_ed or genconvit_vae as the authors publish them"
        )
    return Plan(
        _recipe(net),
        renamed(weights.tensors, net),
        "release",
        limits=(
            "What its network was trained on (for the authors' release: DFDC, FaceForensics++, TrustedMedia, "
            "Celeb-DF) is not among what it remembers, so a test on such clips is not refused.",
        ),
    )


def _recipe(net: Kind) -> Recipe:
    """The masked-eye recipe's stream of that net with ConvNeXt alone, nothing trained, a linear head fitted."""
    herd = recipe_of(f"herd24:{net}", "paper")
    shown = Shown(**{field: getattr(herd.descend(net), field) for field in Shown.model_fields})
    backbone = Backbone(name="genconvit", fields={"net": net, "halves": ["convnext"]})
    stream = herd.stream(net).model_copy(update={"backbone": backbone, "heads": (Linear(),)})
    stages = tuple(
        stage.model_copy(update={"shown": shown}) if isinstance(stage, Fit) else stage
        for stage in herd.stages
        if not isinstance(stage, Descend)
    )
    return herd.model_copy(
        update={
            "name": f"genconvit:{net}",
            "summary": f"GenConViT's {net} net as published, its head fitted and calibrated here",
            "streams": (stream,),
            "stages": stages,
            "expects": (),
        }
    )


SYSTEM = System(
    name="genconvit",
    summary="GenConViT: net A or net B as published; its head fitted and calibrated on your rows",
    weights="genconvit_ed or genconvit_vae, a .pth file (read without unpickling code) or safetensors",
    source="erprogs/GenConViT@0061425d401d: model/genconvit_ed.py, model/genconvit_vae.py",
    plan=plan,
)
