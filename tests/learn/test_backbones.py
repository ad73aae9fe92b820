"""Networks by name, and weights from a local file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from assay.errors import RecipeError
from assay.learn.nn.backbones import build
from assay.learn.nn.front import Front
from assay.learn.recipe import Backbone


@pytest.mark.parametrize(
    ("backbone", "dim"),
    [
        (Backbone(name="trace_cnn", fields={"widths": (8, 16, 24), "blocks": (1, 1)}), 24),
        (Backbone(name="test_vit", front="both"), 64),
        (Backbone(name="test_convnext", front="residual"), 64),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_network_gives_embeddings_of_the_length_it_states_at_any_size(backbone: Backbone, dim: int) -> None:
    trunk = build(backbone, 48).eval()
    assert trunk.dim == dim
    with torch.no_grad():
        for size in (48, 32):
            x = torch.randn(2, 3, size, size)
            assert trunk(x).shape == (2, dim)
            assert torch.equal(trunk.embed(trunk.features(x)), trunk(x))


def test_attention_is_read_from_vision_transformers_with_a_class_token() -> None:
    told = {
        "test_vit": {},
        "eva02_tiny_patch14_224": {"img_size": 56, "depth": 1},
        "vit_wee_patch16_reg1_gap_256": {"depth": 1},
        "test_convnext": {},
    }
    sizes = {name: 56 if name.startswith("eva") else 48 for name in told}
    found = {name: build(Backbone(name=name, fields=fields), sizes[name]).class_token for name, fields in told.items()}
    assert list(found.values()) == [True, True, False, False]


def test_the_papers_network_has_its_parameters_and_its_class_token() -> None:
    trunk = build(Backbone(), 224)
    assert trunk.dim == 192
    assert sum(p.numel() for p in trunk.parameters()) == pytest.approx(5.5e6, rel=0.02)
    tokens = trunk.eval().features(torch.zeros(1, 3, 224, 224))
    assert tokens.shape == (1, 197, 192)
    assert torch.equal(trunk.embed(tokens), tokens[:, 0])


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        (Backbone(name="vit_tini_patch16_224"), "no network called .*did you mean.* vit_tiny_patch16_224"),
        (Backbone(name="test_vit", fields={"dept": 3}), "cannot make test_vit"),
        (Backbone(name="test_vit", weights="/nowhere.safetensors"), "no weights at /nowhere.safetensors"),
        (Backbone(name="xcit_nano_12_p16_224", fields={"depth": 1}), "features of xcit_nano_12_p16_224 make no map"),
    ],
)
def test_a_network_that_cannot_be_made_says_why(backbone: Backbone, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build(backbone, 48)


@pytest.mark.parametrize("name", ["test_vit", "test_convnext"])
def test_weights_come_from_a_file_with_or_without_a_classifier(name: str, tmp_path: Path) -> None:
    fields: dict[str, Any] = {"img_size": 48} if name == "test_vit" else {}
    donor = timm.create_model(name, num_classes=7, **fields)
    save_file(donor.state_dict(), tmp_path / "w.safetensors")
    trunk = build(Backbone(name=name, weights=str(tmp_path / "w.safetensors")), 48)
    for key, value in trunk.network.state_dict().items():
        assert torch.equal(value, donor.state_dict()[key]), key


@pytest.mark.parametrize("name", ["test_vit", "vit_wee_patch16_reg1_gap_256"])
def test_position_embeddings_of_a_file_are_resampled_as_timm_resamples_them(name: str, tmp_path: Path) -> None:
    fields = {} if name == "test_vit" else {"depth": 1}
    donor = timm.create_model(name, img_size=96, num_classes=0, **fields)
    save_file(donor.state_dict(), tmp_path / "w.safetensors")
    theirs = timm.create_model(
        name,
        img_size=48,
        num_classes=0,
        pretrained=True,
        pretrained_cfg_overlay={"file": str(tmp_path / "w.safetensors"), "num_classes": 0},
        **fields,
    )
    trunk = build(Backbone(name=name, weights=str(tmp_path / "w.safetensors"), fields=fields), 48)
    assert theirs.pos_embed.shape != donor.pos_embed.shape
    for key, value in trunk.network.state_dict().items():
        assert torch.equal(value, theirs.state_dict()[key]), key


def test_where_a_file_is_given_the_hub_is_not_asked(tmp_path: Path) -> None:
    donor = timm.create_model("test_vit", img_size=48, num_classes=0)
    save_file(donor.state_dict(), tmp_path / "w.safetensors")
    trunk = build(Backbone(name="test_vit", pretrained=True, weights=str(tmp_path / "w.safetensors")), 48)
    assert torch.equal(trunk.network.norm.weight, donor.norm.weight)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    donor = timm.create_model("test_vit", img_size=48, num_classes=0).state_dict()
    donor["norm.weight"] = torch.zeros(3)
    save_file(donor, tmp_path / "w.safetensors")
    with pytest.raises(RecipeError, match=r"1 parameters differ, first norm\.weight"):
        build(Backbone(name="test_vit", weights=str(tmp_path / "w.safetensors")), 48)
    (tmp_path / "w.safetensors").write_bytes(b"torn")
    with pytest.raises(RecipeError, match="is not a safetensors file"):
        build(Backbone(name="test_vit", weights=str(tmp_path / "w.safetensors")), 48)


def test_the_residual_front_sees_noise_and_neither_flat_colour_nor_slopes() -> None:
    front = Front("residual")
    slope = torch.arange(16.0)[None, None, None, :].expand(1, 3, 16, 16) / 16
    inside = (slice(None), slice(None), slice(3, -3), slice(3, -3))
    assert front(torch.ones(1, 3, 16, 16)).abs().max() < 1e-5
    assert front(slope)[inside].abs().max() < 1e-5
    noise = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert front(noise).abs().mean() > 0.3
    assert front(noise).shape == (1, 9, 16, 16)


def test_both_fronts_stacked_show_the_pixels_first() -> None:
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    both = Front("both")(x)
    assert torch.equal(both[:, :3], x)
    assert torch.equal(both[:, 3:], Front("residual")(x))
    assert torch.equal(Front("pixels")(x), x)


def test_each_residual_comes_from_one_channel() -> None:
    red = torch.zeros(1, 3, 16, 16)
    red[:, 0] = torch.randn(16, 16, generator=torch.Generator().manual_seed(0))
    residual = Front("residual")(red)
    assert residual[:, :3].abs().mean() > 0.1
    assert not residual[:, 3:].any()
