"""CoDE's published weights give here the embeddings that they give in transformers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import ViTForImageClassification

from assay.errors import RecipeError
from assay.image.view import IMAGENET_MEAN, IMAGENET_STD
from assay.learn.nn import backbones
from assay.learn.recipe import Shown
from assay.learn.released import Plan, code24, find, systems
from assay.learn.weights import Weights, read

Made = Callable[..., Any]
Floats = np.ndarray[Any, Any]


def planned(place: Path) -> Plan:
    return code24.plan(read(str(place)), "")


def ours(plan: Plan, views: torch.Tensor) -> Floats:
    """What the recipe's network embeds with the plan's parameters."""
    [stream] = plan.recipe.streams
    trunk = backbones.build(stream.backbone, stream.view.size)
    backbones.load(trunk.network, plan.tensors, stream.backbone.name, "a test")
    with torch.no_grad():
        return np.asarray(trunk.eval()(views))


def theirs(model: Any, views: torch.Tensor) -> Floats:
    """The released code's embedding: the class token after the last norm, not normalised."""
    with torch.no_grad():
        return np.asarray(model(views).last_hidden_state[:, 0])


def views(size: int = 32) -> torch.Tensor:
    return torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(9))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"num_attention_heads": 8},
        {"num_hidden_layers": 3, "intermediate_size": 192, "patch_size": 16},
        {"qkv_bias": False},
        {"layer_norm_eps": 1e-3},
    ],
    ids=str,
)
def test_embeddings_are_those_of_transformers(fields: dict[str, Any], vit: Made, tmp_path: Path) -> None:
    model = vit(1, **fields)
    model.save_pretrained(tmp_path)
    assert np.abs(ours(planned(tmp_path), views()) - theirs(model, views())).max() < 1e-4


def test_epsilon_of_the_norms_is_taken_over_where_it_counts(vit: Made, tmp_path: Path) -> None:
    model = vit(2)
    with torch.no_grad():
        # Tokens whose spread is as small as timm's own epsilon, 1e-6.
        for parameter in model.embeddings.parameters():
            parameter.mul_(1e-3)
    model.save_pretrained(tmp_path)
    plan = planned(tmp_path)
    assert np.abs(ours(plan, views()) - theirs(model, views())).max() < 1e-4
    [stream] = plan.recipe.streams
    assert stream.backbone.norm_eps == 1e-12
    usual = plan.recipe.with_field("code.backbone.norm_eps", None)
    apart = ours(Plan(usual, plan.tensors, plan.naming), views()) - theirs(model, views())
    assert np.abs(apart).max() > 1e-2


def test_the_published_size_is_the_papers_network_and_fits_it_strictly(vit: Made, tmp_path: Path) -> None:
    size = {"hidden_size": 192, "num_hidden_layers": 12, "num_attention_heads": 3, "intermediate_size": 768}
    model = vit(3, **size, image_size=224, patch_size=16)
    model.save_pretrained(tmp_path)
    plan = planned(tmp_path)
    [stream] = plan.recipe.streams
    assert (stream.backbone.name, stream.backbone.fields) == ("vit_tiny_patch16_224", {})
    assert sum(tensor.numel() for tensor in plan.tensors.values()) == 5_524_416
    batch = views(224)[:1]
    expected = theirs(model, batch)
    assert np.abs(ours(plan, batch) - expected).max() < 1e-4 * max(1, np.abs(expected).max())


def test_pictures_are_seen_as_the_release_sees_them(release: Path) -> None:
    [stream] = planned(release).recipe.streams
    assert (stream.view.layout, stream.view.size) == ("centre", 32)
    assert (stream.view.mean, stream.view.std) == (IMAGENET_MEAN, IMAGENET_STD)


def test_nothing_trains_the_network_and_the_heads_are_those_of_the_recipe(release: Path) -> None:
    from assay.recipes.code24 import RECIPE

    recipe = planned(release).recipe
    assert [stage.stage for stage in recipe.stages] == ["fit", "calibrate"]
    assert recipe.streams[0].heads == RECIPE.streams[0].heads
    assert recipe.fit("code").records == RECIPE.fit("code").records
    ours, trained = recipe.shown("code"), RECIPE.shown("code")
    assert ours == Shown(**{field: getattr(trained, field) for field in Shown.model_fields})
    assert ours.decode == "always"
    assert recipe.expects == ()


@pytest.mark.parametrize("form", ["memory", "classifier", "half", "shards", "torch", "timm", "alone"])
def test_every_form_of_the_file_gives_the_same_embeddings(form: str, vit: Made, tmp_path: Path) -> None:
    # Two heads are what timm's network of this width has: a file alone does not say.
    model = vit(4, num_attention_heads=2)
    place, near = tmp_path, 1e-5
    if form == "shards":
        model.save_pretrained(tmp_path, max_shard_size="60KB")
        assert len(list(tmp_path.glob("*.safetensors"))) > 2
    elif form == "classifier":
        whole = ViTForImageClassification(model.config)
        whole.vit.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("pooler.")})
        whole.save_pretrained(tmp_path)
    elif form == "torch":
        model.save_pretrained(tmp_path)
        torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "pytorch_model.bin")
        (tmp_path / "model.safetensors").unlink()
    else:
        model.save_pretrained(tmp_path)
        tensors = load_file(tmp_path / "model.safetensors")
        if form == "memory":
            # As the installed version names them while it runs, which version 5 undoes when it saves.
            tensors = dict(model.state_dict())
        elif form == "half":
            tensors, near = {name: tensor.half() for name, tensor in tensors.items()}, 0.1
        elif form == "timm":
            plan = planned(tmp_path)
            tensors, place = dict(plan.tensors), tmp_path / "timm.safetensors"
        elif form == "alone":
            place = tmp_path / "alone.safetensors"
        if place == tmp_path:
            (tmp_path / "model.safetensors").unlink()
            place = tmp_path / "model.safetensors"
        save_file(tensors, place)
    plan = planned(place)
    assert plan.naming == ("timm" if form == "timm" else "transformers")
    # A file in timm's naming means timm's epsilon.
    near = 1e-3 if form == "timm" else near
    assert np.abs(ours(plan, views()) - theirs(model, views())).max() < near


def spoilt(release: Path, place: Path, **config: Any) -> Path:
    shutil.copytree(release, place)
    content = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(content | config))
    return place


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model_type", "dinov2"),
        ("hidden_act", "gelu_new"),
        ("hidden_size", 128),
        ("num_hidden_layers", 3),
        ("intermediate_size", 256),
        ("num_channels", 1),
        ("patch_size", 4),
        ("image_size", 64),
        ("qkv_bias", False),
        ("num_attention_heads", 5),
        ("layer_norm_eps", 0),
    ],
)
def test_a_config_of_another_network_is_refused_by_the_field(
    field: str, value: Any, release: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=rf"config\.json says .*{value}"):
        planned(spoilt(release, tmp_path / "x", **{field: value}))


def changed(release: Path, place: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    shutil.copytree(release, place)
    tensors = load_file(place / "model.safetensors")
    change(tensors)
    save_file(tensors, place / "model.safetensors")
    return place


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.pop("encoder.layer.1.attention.attention.key.weight"),
            "layer 1 lacks the weight of query, key or value",
        ),
        (lambda t: t.update({"encoder.layer.0.layer_scale1.lambda1": torch.ones(64)}), "layer_scale1.* is no param"),
        (lambda t: t.update({"embeddings.distillation_token": torch.ones(1, 1, 64)}), "distillation_token is no param"),
        (
            lambda t: t.update({"embeddings.position_embeddings": torch.zeros(1, 16, 64)}),
            "15 patches; only three channels and a square",
        ),
        (lambda t: t.pop("encoder.layer.0.intermediate.dense.weight"), "make no Vision Transformer"),
    ],
)
def test_weights_that_are_no_vit_are_refused_by_the_parameter(
    change: Callable[[dict[str, torch.Tensor]], None], message: str, release: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=message):
        planned(changed(release, tmp_path / "x", change))


def test_another_network_is_sent_to_the_verb_for_it(tmp_path: Path) -> None:
    save_file({"stem.weight": torch.ones(2)}, tmp_path / "cnn.safetensors")
    with pytest.raises(RecipeError, match=r"first parameter is stem\.weight.*timm:NAME"):
        planned(tmp_path / "cnn.safetensors")


def test_the_folder_is_the_registry_and_a_slip_is_answered_with_the_nearest() -> None:
    assert {"code24", "timm"} <= set(systems())
    assert all(system.summary and system.weights and system.source for system in systems().values())
    assert find("timm:vit_tiny_patch16_224")[1] == "vit_tiny_patch16_224"
    with pytest.raises(RecipeError, match="did you mean code24"):
        find("code42")
    with pytest.raises(RecipeError, match="nothing can follow the colon"):
        code24.plan(Weights({}, {}, "x", "x"), "linear")
