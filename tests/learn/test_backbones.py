"""Networks by name, and weights from a local file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from assay.errors import RecipeError
from assay.image.view import IMAGENET_STD
from assay.learn.nn.backbones import build
from assay.learn.nn.front import Front
from assay.learn.recipe import Backbone

MAXVIT = {"embed_dim": [32, 64], "depths": [1, 1], "stem_width": 16, "transformer_rel_pos_dim": 16}
MAXVIT_TF = {"embed_dim": [32, 64], "depths": [1, 1], "stem_width": 16, "head_hidden_size": 48}
COATNET = {"embed_dim": [32, 64], "depths": [1, 1], "stem_width": 16, "block_type": ["C", "T"]}
EVA = {"embed_dim": 48, "depth": 1, "num_heads": 2}


@pytest.mark.parametrize(
    ("backbone", "dim"),
    [
        (Backbone(name="trace_cnn", fields={"widths": (8, 16, 24), "blocks": (1, 1)}), 24),
        (Backbone(name="test_vit", front="both"), 64),
        (Backbone(name="test_convnext", front="residual"), 64),
        (Backbone(name="eva02_tiny_patch14_224", front="both", fields=EVA | {"patch_size": 16}), 48),
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
            assert torch.equal(trunk.embed(trunk.features(x), x), trunk(x))


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


@pytest.mark.parametrize(
    ("name", "parameters", "dim"),
    [
        ("maxvit_rmlp_pico_rw_256", 7.26e6, 256),
        ("coatnet_pico_rw_224", 10.34e6, 512),
        ("eva02_tiny_patch14_224", 5.50e6, 192),
    ],
)
def test_a_network_under_its_own_name_has_its_parameters_and_its_width(name: str, parameters: float, dim: int) -> None:
    trunk = build(Backbone(name=name), 224)
    assert sum(p.numel() for p in trunk.parameters()) == pytest.approx(parameters, rel=0.002)
    assert trunk.dim == dim


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        (
            "maxvit_rmlp_pico_rw_256",
            {"embed_dim": [32, 64, 96], "depths": [1, 1, 1], "stem_width": [8, 16], "transformer_rel_pos_dim": 64},
        ),
        (
            "maxvit_base_tf_224",
            {"embed_dim": [16, 32, 48, 64], "depths": [1, 1, 1, 1], "stem_width": 16}
            | {"transformer_dim_head": 16, "head_hidden_size": 64},
        ),
        ("coatnet_pico_rw_224", {"embed_dim": [32, 64, 96, 128], "depths": [1, 1, 2, 1], "stem_width": 16}),
        ("eva02_tiny_patch14_224", {"patch_size": 8, "embed_dim": 96, "depth": 4, "num_heads": 3}),
    ],
)
def test_the_shrunk_networks_of_the_docs_have_less_than_600_000_parameters(name: str, fields: dict[str, Any]) -> None:
    trunk = build(Backbone(name=name, fields=fields), 64)
    assert sum(p.numel() for p in trunk.parameters()) < 600_000
    assert trunk(torch.zeros(2, 3, 64, 64)).isfinite().all()


@pytest.mark.parametrize(
    ("name", "fields", "size", "shape"),
    [
        ("maxvit_rmlp_pico_rw_256", MAXVIT, 96, (2, 64, 12, 12)),
        ("maxvit_base_tf_224", MAXVIT_TF, 96, (2, 64, 12, 12)),
        ("coatnet_2_rw_224", COATNET, 64, (2, 64, 8, 8)),
        ("eva02_base_patch14_224", EVA, 70, (2, 26, 48)),
        ("eva02_base_patch14_224", EVA | {"patch_size": 8}, 64, (2, 65, 48)),
    ],
)
def test_a_network_is_made_and_trained_for_views_of_another_size_than_its_names(
    name: str, fields: dict[str, Any], size: int, shape: tuple[int, ...]
) -> None:
    trunk = build(Backbone(name=name, fields=fields), size).to(memory_format=torch.channels_last)
    views = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    features = trunk.features(views.contiguous(memory_format=torch.channels_last))
    assert features.shape == shape
    embedding = trunk.embed(features, views)
    assert embedding.shape == (2, trunk.dim)
    embedding.square().mean().backward()
    still = [key for key, value in trunk.named_parameters() if value.grad is None or not value.grad.isfinite().all()]
    assert not [key for key in still if key != "network.cls_token"]


def test_maxvits_windows_follow_the_size_of_the_views() -> None:
    windows = {}
    for size in (64, 96):
        network = build(Backbone(name="maxvit_base_tf_224", fields=MAXVIT_TF), size).network
        windows[size] = network.stages[0].blocks[0].attn_block.partition_size
    assert windows == {64: (2, 2), 96: (3, 3)}


def test_eva_takes_its_own_size_as_timm_does() -> None:
    trunk = build(Backbone(name="eva02_tiny_patch14_224", fields=EVA), 56).eval()
    theirs = timm.create_model("eva02_tiny_patch14_224", img_size=56, num_classes=0, **EVA).eval()
    theirs.load_state_dict(trunk.network.state_dict())
    views = torch.randn(2, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(trunk(views), theirs(views), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "fields", "size", "message"),
    [
        ("test_maxvit", {}, 48, "test_maxvit takes no views of 48 px: .* multiple of 32, for example 32 or 64$"),
        ("maxvit_base_tf_224", MAXVIT_TF, 16, "multiple of 32, for example 32$"),
        ("test_coatnet", {}, 100, "multiple of 32, for example 96 or 128$"),
        ("eva02_tiny_patch14_224", EVA, 64, "multiple of 14, for example 56 or 70, or backbone.fields.patch_size anot"),
        ("test_vit", {}, 50, "multiple of 16, for example 48 or 64"),
        ("coatnet_pico_rw_224", COATNET | {"embed_dim": [24, 48]}, 64, "takes no views of 64 px with these fields"),
    ],
)
def test_a_size_that_does_not_suit_is_refused_with_one_that_does(
    name: str, fields: dict[str, Any], size: int, message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        build(Backbone(name=name, fields=fields), size)


def test_the_papers_network_has_its_parameters_and_its_class_token() -> None:
    trunk = build(Backbone(), 224)
    assert trunk.dim == 192
    assert sum(p.numel() for p in trunk.parameters()) == pytest.approx(5.5e6, rel=0.02)
    views = torch.zeros(1, 3, 224, 224)
    tokens = trunk.eval().features(views)
    assert tokens.shape == (1, 197, 192)
    assert torch.equal(trunk.embed(tokens, views), tokens[:, 0])


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        (Backbone(name="vit_tini_patch16_224"), "no network called .*did you mean.* vit_tiny_patch16_224"),
        (Backbone(name="test_vit", fields={"dept": 3}), "cannot make test_vit"),
        (Backbone(name="maxvit_base_tf_224", fields=MAXVIT_TF | {"embed_dim": [24, 48]}), "cannot make .*head_dim"),
        (Backbone(name="test_coatnet", fields={"embed_dim": [32] * 5, "depths": [1] * 5}), "cannot make test_coatnet"),
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


@pytest.mark.parametrize(
    ("name", "fields", "changed", "made_for", "size", "resampled"),
    [
        ("maxvit_base_tf_224", MAXVIT_TF, {}, 96, 64, 4),
        ("coatnet_2_rw_224", COATNET, {}, 96, 64, 1),
        ("coatnet_2_rw_224", COATNET, {}, 64, 96, 1),
        ("maxvit_rmlp_pico_rw_256", MAXVIT, {}, 96, 64, 0),
        ("eva02_base_patch14_224", EVA, {}, 70, 56, 1),
        ("eva02_base_patch14_224", EVA, {"patch_size": 8}, 56, 64, 2),
    ],
)
def test_weights_for_other_views_or_patches_are_resampled_as_timm_resamples_those_of_its_hub(
    name: str,
    fields: dict[str, Any],
    changed: dict[str, Any],
    made_for: int,
    size: int,
    resampled: int,
    tmp_path: Path,
) -> None:
    donor = timm.create_model(name, img_size=made_for, num_classes=5, **fields).state_dict()
    fields = fields | changed
    file = str(tmp_path / "w.safetensors")
    save_file(donor, file)
    overlay = {"pretrained_cfg_overlay": {"file": file, "num_classes": 5}}
    hub = build(Backbone(name=name, pretrained=True, fields=fields | overlay), size).network.state_dict()
    mine = build(Backbone(name=name, weights=file, fields=fields), size).network.state_dict()
    assert sum(donor[key].shape != value.shape for key, value in mine.items()) == resampled
    for key, value in mine.items():
        assert torch.equal(value, hub[key]), key
        assert value.shape != donor[key].shape or torch.equal(value, donor[key]), key


def test_evas_weights_may_have_their_authors_names_and_what_only_pretraining_needs(tmp_path: Path) -> None:
    donor = build(Backbone(name="eva02_tiny_patch14_224", fields=EVA), 56).network.state_dict()
    theirs = {
        key.replace("fc_norm.", "norm.").replace("mlp.fc1_g", "mlp.w1").replace("mlp.fc1_x", "mlp.w2"): value
        for key, value in donor.items()
    }
    theirs |= {"mask_token": torch.zeros(1, 1, 48), "lm_head.weight": torch.zeros(8, 48)}
    assert theirs.keys() & {"norm.weight", "blocks.0.mlp.w1.weight"}
    save_file(theirs, tmp_path / "w.safetensors")
    mine = build(Backbone(name="eva02_tiny_patch14_224", weights=str(tmp_path / "w.safetensors"), fields=EVA), 56)
    for key, value in mine.network.state_dict().items():
        assert torch.equal(value, donor[key]), key


@pytest.mark.parametrize(
    ("name", "fields", "changed", "made_for"),
    [
        ("coatnet_2_rw_224", COATNET, {"depths": [1, 2]}, 64),
        ("coatnet_2_rw_224", COATNET, {"transformer_dim_head": 16}, 64),
        ("coatnet_2_rw_224", COATNET, {"transformer_dim_head": 16}, 96),
        ("maxvit_base_tf_224", MAXVIT_TF, {"head_hidden_size": 32}, 64),
        ("eva02_base_patch14_224", EVA | {"patch_size": 16}, {"depth": 2}, 64),
        ("eva02_base_patch14_224", EVA | {"patch_size": 16}, {"scale_mlp": False}, 96),
    ],
)
def test_weights_of_another_network_of_the_family_are_refused(
    name: str, fields: dict[str, Any], changed: dict[str, Any], made_for: int, tmp_path: Path
) -> None:
    donor = build(Backbone(name=name, fields=fields | changed), made_for).network
    save_file(donor.state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(RecipeError, match=rf"w\.safetensors does not fit {name}: "):
        build(Backbone(name=name, fields=fields, weights=str(tmp_path / "w.safetensors")), 64)


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


def test_the_colour_front_tells_luma_from_colour() -> None:
    front = Front("chroma")
    noise = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.02
    grey = noise / torch.tensor(IMAGENET_STD)[None, :, None, None]
    seen = front(grey)
    assert seen.shape == (1, 9, 16, 16)
    assert seen[:, :3].abs().mean() > 0.1
    assert seen[:, 3:].abs().max() < 1e-3
    red = torch.zeros(1, 3, 16, 16)
    red[:, :1] = noise / IMAGENET_STD[0]
    assert front(red)[:, 6:].abs().mean() > front(red)[:, :3].abs().mean()
