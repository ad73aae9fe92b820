"""GenConViT's checkpoints: the names that its code gives parameters, and what becomes of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from assay.errors import RecipeError
from assay.learn import released
from assay.learn.nn import backbones
from assay.learn.nn.genconvit import GenConViT
from assay.learn.released import genconvit
from assay.learn.weights import read


def published(net: str) -> dict[str, Tensor]:
    """Names and shapes of a checkpoint, as the release's classes make them; without storage."""
    with torch.device("meta"):
        ours = GenConViT(net=net, halves=["convnext"])  # type: ignore[arg-type]
        swin = timm.create_model("swin_tiny_patch4_window7_224")
    convnext = "backbone" if net == "autoencoder" else "convnext_backbone"
    found: dict[str, Tensor] = {}
    for name, tensor in ours.state_dict().items():
        found[name.removeprefix("generator.").replace("convnext.", f"{convnext}.", 1)] = tensor
    for name, tensor in swin.state_dict().items():
        found[f"embedder.{name}"] = found[f"{convnext}.patch_embed.backbone.{name}"] = tensor
    with torch.device("meta"):
        found[f"{convnext}.patch_embed.proj.weight"] = torch.empty(768, 1000, 1, 1)
        layers: dict[str, nn.Linear] = {"fc2": nn.Linear(500, 2)}
        if net == "variational":
            layers |= {"fc3": nn.Linear(1000, 500), "encoder.fc1": nn.Linear(25088, 256)}
            layers |= {"encoder.fc2": nn.Linear(256, 128)}
    for layer, module in layers.items():
        found |= {f"{layer}.{name}": tensor for name, tensor in module.state_dict().items()}
    return found


@pytest.mark.parametrize("net", ["autoencoder", "variational"])
def test_every_parameter_of_ours_has_one_of_the_release_and_no_dead_one_is_taken(net: str) -> None:
    given = published(net)
    assert genconvit.net_of(given) == net
    taken = genconvit.renamed(given, net)  # type: ignore[arg-type]
    with torch.device("meta"):
        ours = GenConViT(net=net, halves=["convnext"]).state_dict()  # type: ignore[arg-type]
    assert {name: x.shape for name, x in taken.items()} == {name: x.shape for name, x in ours.items()}


def test_a_checkpoint_computes_what_the_release_does(tmp_path: Path) -> None:
    torch.manual_seed(0)
    filled = {name: 0.02 * torch.randn(x.shape) for name, x in published("autoencoder").items()}
    path = tmp_path / "genconvit_ed.safetensors"
    save_file(filled, path)
    plan = released.find("genconvit")[0].plan(read(str(path)), "")
    [stream] = plan.recipe.streams
    assert plan.recipe.frozen("autoencoder")
    trunk = backbones.build(stream.backbone, stream.view.size)
    backbones.load(trunk.network, plan.tensors, "genconvit", "a test")
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        drawing: Any = x
        for number in (0, 3, 6, 9, 12):
            weight, bias = (filled[f"encoder.features.{number}.{part}"] for part in ("weight", "bias"))
            drawing = nn.functional.max_pool2d(nn.functional.conv2d(drawing, weight, bias, padding=1).relu(), 2)
        for number in (0, 2, 4, 6, 8):
            weight, bias = (filled[f"decoder.features.{number}.{part}"] for part in ("weight", "bias"))
            drawing = nn.functional.conv_transpose2d(drawing, weight, bias, stride=2).relu()
        convnext = timm.create_model("convnext_tiny")
        own = {n.removeprefix("backbone."): x for n, x in filled.items() if n.startswith("backbone.")}
        convnext.load_state_dict({n: x for n, x in own.items() if not n.startswith("patch_embed")})
        both = nn.functional.gelu(torch.cat([convnext.eval()(drawing), convnext(x)], dim=1))
        expected = nn.functional.gelu(nn.functional.linear(both, filled["fc.weight"], filled["fc.bias"]))
        torch.testing.assert_close(trunk.eval()(x), expected, atol=1e-5, rtol=1e-4)


def test_weights_of_something_else_and_of_the_other_net_are_refused(tmp_path: Path) -> None:
    save_file({"head.weight": torch.zeros(2, 2)}, tmp_path / "other.safetensors")
    with pytest.raises(RecipeError, match="is not a net of GenConViT"):
        genconvit.plan(read(str(tmp_path / "other.safetensors")), "")
    few = {"encoder.mu.weight": torch.zeros(1), "convnext_backbone.stem.0.weight": torch.zeros(1)}
    save_file(few, tmp_path / "vae.safetensors")
    with pytest.raises(RecipeError, match="is GenConViT's variational net, not its autoencoder one"):
        genconvit.plan(read(str(tmp_path / "vae.safetensors")), "autoencoder")
