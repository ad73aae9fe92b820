"""Any network of timm from a file: its own weights, its own normalisation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from assay.errors import RecipeError
from assay.learn.nn import backbones
from assay.learn.released import Plan
from assay.learn.released import timm as released
from assay.learn.weights import read


def planned(name: str, place: Path) -> Plan:
    return released.plan(read(str(place)), name)


def embedded(plan: Plan, views: torch.Tensor) -> np.ndarray[Any, Any]:
    [stream] = plan.recipe.streams
    trunk = backbones.build(stream.backbone, stream.view.size)
    backbones.load(trunk.network, plan.tensors, stream.backbone.name, "a test")
    with torch.no_grad():
        return np.asarray(trunk.eval()(views))


@pytest.mark.parametrize(("name", "fields"), [("test_vit", {"img_size": 48}), ("test_convnext", {})])
def test_the_network_embeds_as_in_timm_without_its_classifier(
    name: str, fields: dict[str, Any], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=5, **fields).eval()
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    plan = planned(name, tmp_path / "w.safetensors")
    views = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        expected = network.forward_head(network.forward_features(views), pre_logits=True).numpy()
    assert np.abs(embedded(plan, views) - expected).max() < 1e-5


def test_views_are_of_the_size_the_weights_are_for_and_normalised_as_timm_says(tmp_path: Path) -> None:
    save_file(timm.create_model("test_vit", img_size=48).state_dict(), tmp_path / "vit.safetensors")
    save_file(timm.create_model("test_convnext").state_dict(), tmp_path / "cnn.safetensors")
    vit, cnn = planned("test_vit", tmp_path / "vit.safetensors"), planned("test_convnext", tmp_path / "cnn.safetensors")
    assert (vit.size, vit.recipe.streams[0].view.size) == (48, 48)
    assert (cnn.size, cnn.recipe.streams[0].view.size) == (None, 160)
    assert vit.recipe.streams[0].view.mean == timm.get_pretrained_cfg("test_vit").mean == (0.5, 0.5, 0.5)


def test_the_config_beside_the_weights_has_the_last_word(tmp_path: Path) -> None:
    save_file(timm.create_model("test_convnext").state_dict(), tmp_path / "model.safetensors")
    beside = {"mean": [0.1, 0.2, 0.3], "std": [1, 1, 1], "input_size": [3, 64, 64]}
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "test_convnext", "pretrained_cfg": beside}))
    [stream] = planned("test_convnext", tmp_path).recipe.streams
    assert (stream.view.size, stream.view.mean, stream.view.std) == (64, (0.1, 0.2, 0.3), (1, 1, 1))
    (tmp_path / "config.json").write_text(json.dumps({"mean": 0.5}))
    with pytest.raises(RecipeError, match=r"config\.json says mean 0\.5; three numbers"):
        planned("test_convnext", tmp_path)


def test_weights_of_transformers_go_under_timms_name(vit: Callable[..., Any], tmp_path: Path) -> None:
    model = vit(5, num_hidden_layers=6, intermediate_size=192, patch_size=16)
    model.save_pretrained(tmp_path)
    views = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = model(views).last_hidden_state[:, 0].numpy()
    assert np.abs(embedded(planned("test_vit", tmp_path), views) - expected).max() < 1e-4


def test_its_stream_has_the_networks_name_and_codes_heads(release: Path) -> None:
    from assay.recipes.code24 import RECIPE

    recipe = planned("vit_tiny_patch16_224.augreg_in21k", release).recipe
    [stream] = recipe.streams
    assert (recipe.name, stream.name) == ("timm:vit_tiny_patch16_224.augreg_in21k", "vit_tiny_patch16_224")
    assert stream.heads == RECIPE.streams[0].heads
    assert recipe.fit(stream.name).stream == stream.name
    assert recipe.frozen(stream.name)


@pytest.mark.parametrize(
    ("name", "message"), [("", "say which network: timm:NAME"), ("vit_tini_patch16_224", "did you mean")]
)
def test_a_name_that_timm_does_not_know_is_refused(name: str, message: str, release: Path) -> None:
    with pytest.raises(RecipeError, match=message):
        planned(name, release)
