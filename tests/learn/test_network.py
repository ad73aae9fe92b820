"""A stream's whole network: low-rank adaptation that leaves no trace, a second network beside it, one for several."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from assay.errors import MissingExtra, RecipeError
from assay.image.view import View
from assay.judge.engine import Engine
from assay.learn.export import export
from assay.learn.nn import backbones
from assay.learn.nn.backbones import Trunk, build
from assay.learn.nn.network import Necked, joined, merge, network, settle
from assay.learn.recipe import Backbone, Beside, Conv, LoRA, Neck, Pooled, Projection, Stream, Text

SIZE = 32
VIEW = View(size=SIZE)

BACKBONES = {
    "vit": Backbone(name="test_vit", fields={"depth": 2}),
    "cnn": Backbone(name="trace_cnn", front="both", fields={"widths": (8, 8, 16), "blocks": (1, 1)}),
}
LORA = {
    "vit": LoRA(rank=4, alpha=12, dropout=0.0),
    "cnn": LoRA(rank=4, alpha=12, dropout=0.0, targets=r"body\.\d+\.(first|second)\.0"),
}
ADAPTED = {
    "vit": [f"blocks.{block}.attn.{layer}" for block in (0, 1) for layer in ("qkv", "proj")],
    "cnn": [f"body.{block}.{layer}.0" for block in (2, 3) for layer in ("first", "second")],
}
KINDS = list(BACKBONES)


def stream(kind: str, *, lora: bool = False, **fields: Any) -> Stream:
    backbone = BACKBONES[kind].model_copy(update={"lora": LORA[kind] if lora else None})
    return Stream(name="a", view=VIEW, backbone=backbone, **fields)


def made(asked: Stream, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return network(asked).eval()


def views(count: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def adapted(kind: str, **fields: Any) -> Any:
    """A network whose matrices are not those of a fresh adaptation, which add nothing, nor its norms' statistics."""
    trunk = made(stream(kind, lora=True, **fields))
    with torch.no_grad():
        for name, parameter in trunk.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
        trunk.train()(2 * views(8, seed=9))
    return trunk.eval()


def ran(trunk: Trunk, x: Tensor) -> Tensor:
    with torch.no_grad():
        embedding: Tensor = trunk(x)
    return embedding


# ── low-rank adaptation ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_matrices_beside_the_layers_that_are_named_and_the_neck_get_gradients(kind: str) -> None:
    trunk = made(stream(kind, lora=True, neck=Conv(widths=(5,))))
    trunk.train()(views()).sum().backward()
    moved = {name for name, p in trunk.named_parameters() if p.grad is not None}
    assert moved == {name for name, p in trunk.named_parameters() if p.requires_grad}
    matrices = {f"network.{layer}.lora_{half}.lora.weight" for layer in ADAPTED[kind] for half in "AB"}
    neck = {f"necks.0.{name}" for name, _ in trunk.necks[0].named_parameters()}
    assert len(neck) == 3
    assert moved == matrices | neck
    ranks = [p.shape[0] for name, p in trunk.named_parameters() if "lora_A" in name]
    assert ranks == [4] * len(ADAPTED[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_a_fresh_adaptation_leaves_the_network_as_it_was(kind: str) -> None:
    assert torch.equal(ran(made(stream(kind, lora=True)), views()), ran(made(stream(kind)), views()))


@pytest.mark.parametrize("kind", KINDS)
def test_merged_the_network_is_a_plain_one_that_gives_what_the_adapted_one_gave(kind: str) -> None:
    trunk, plain = adapted(kind), made(stream(kind))
    before = ran(trunk, views())
    assert (before - ran(plain, views())).abs().max() > 1e-2
    names = set(dict(trunk.network.named_parameters()))
    assert merge(trunk) is trunk
    torch.testing.assert_close(ran(trunk, views()), before, rtol=0, atol=1e-5)
    # As timm and every reader of its weights know it, by parameters and by modules.
    assert set(trunk.network.state_dict()) == set(plain.network.state_dict()) != names
    kinds = {name: type(module) for name, module in trunk.network.named_modules()}
    assert kinds == {name: type(module) for name, module in plain.network.named_modules()}
    backbones.load(plain.network, trunk.network.state_dict(), "a", "a test")
    torch.testing.assert_close(ran(plain, views()), before, rtol=0, atol=1e-5)


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtra, match=r"adapting a network by LoRA needs an extra: .*assay\[train\]"):
        made(stream("vit", lora=True))
    # What is not adapted does without.
    assert ran(made(stream("vit")), views()).shape == (3, 64)


def test_the_product_of_the_matrices_counts_alpha_over_rank() -> None:
    trunk = adapted("vit")
    held = {name: p.detach().clone() for name, p in trunk.network.named_parameters()}
    merge(trunk)
    for layer in ADAPTED["vit"]:
        product = held[f"{layer}.lora_B.lora.weight"] @ held[f"{layer}.lora_A.lora.weight"]
        expected = held[f"{layer}.base_layer.weight"] + 12 / 4 * product
        torch.testing.assert_close(trunk.network.get_parameter(f"{layer}.weight"), expected)


def test_what_goes_into_the_matrices_is_dropped_in_training_only() -> None:
    lora = LORA["vit"].model_copy(update={"dropout": 0.5})
    trunk = made(Stream(name="a", view=VIEW, backbone=BACKBONES["vit"].model_copy(update={"lora": lora})))
    with torch.no_grad():
        for name, parameter in trunk.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    assert torch.equal(ran(trunk, views()), ran(trunk, views()))
    trunk.train()
    assert not torch.equal(ran(trunk, views()), ran(trunk, views()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_without_matrices_is_merged_into_itself(kind: str) -> None:
    trunk = made(stream(kind))
    before = {name: x.clone() for name, x in trunk.state_dict().items()}
    assert merge(trunk) is trunk
    assert all(torch.equal(x, before[name]) for name, x in trunk.state_dict().items())


@pytest.mark.parametrize(
    ("kind", "targets"),
    [("vit", "nothing"), ("cnn", LoRA().targets), ("vit", r"attn\.qkv"), ("vit", r"blocks\.0\.norm1")],
)
def test_a_pattern_that_fits_no_layer_is_refused_with_the_field_to_set(kind: str, targets: str) -> None:
    backbone = BACKBONES[kind].model_copy(update={"lora": LoRA(targets=targets)})
    with pytest.raises(RecipeError, match=r"LoRA finds no layer called '.*'.*set backbone\.lora\.targets"):
        network(Stream(name="a", view=VIEW, backbone=backbone))


@pytest.mark.parametrize("kind", KINDS)
def test_the_graph_of_a_merged_network_gives_what_the_adapted_one_gave(kind: str, tmp_path: Path) -> None:
    trunk = adapted(kind)
    expected = ran(trunk, views(5))
    for name, content in export(merge(trunk), SIZE, "a", "fp32").items():
        (tmp_path / name).write_bytes(content)
    engine = Engine(tmp_path, "a", threads=1, device="cpu")
    for count in (1, 5):
        assert engine.run(views(5)[:count].numpy()) == pytest.approx(expected[:count].numpy(), abs=1e-4)
    assert not [path for path in tmp_path.iterdir() if b"lora" in path.read_bytes()]


# ── a network beside another ─────────────────────────────────────────────────────────────────────────────────────────


BESIDE = Beside(backbone=BACKBONES["cnn"].model_copy(update={"front": "pixels"}))


def test_the_second_networks_embedding_follows_the_first_ones_of_pictures_as_it_wants_them() -> None:
    trunk = made(stream("vit", beside=BESIDE))
    shown = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
    found = ran(trunk, torch.from_numpy(VIEW.tensor(shown)))
    # CLIP's own figures, by hand.
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    clips = ((shown / 255 - mean) / std).astype(np.float32).transpose(0, 3, 1, 2)
    alone = build(BESIDE.backbone, SIZE).eval()
    alone.load_state_dict(trunk.beside.trunk.state_dict())
    first = made(stream("vit"))
    assert trunk.dim == first.dim + alone.dim
    torch.testing.assert_close(found[:, : first.dim], ran(first, torch.from_numpy(VIEW.tensor(shown))))
    torch.testing.assert_close(found[:, first.dim :], ran(alone, torch.from_numpy(clips)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("trained", [True, False])
def test_the_second_network_is_never_trained_and_stays_in_evaluation_mode(trained: bool) -> None:
    trunk = made(stream("cnn", beside=BESIDE, neck=Projection(widths=(5,))))
    before = {name: x.clone() for name, x in trunk.beside.state_dict().items()}
    trunk.train()
    settle(trunk, trained=trained)
    trunk(views()).sum().backward()
    assert all(torch.equal(x, before[name]) for name, x in trunk.beside.state_dict().items())
    assert all(not p.requires_grad and p.grad is None for p in trunk.beside.parameters())
    assert not any(module.training for module in trunk.beside.modules())
    assert all(module.training is trained for module in trunk.network.modules())
    assert all(module.training for module in trunk.necks.modules())


def test_the_graph_of_two_networks_under_a_projection_gives_torchs_embedding(tmp_path: Path) -> None:
    trunk = made(stream("vit", beside=BESIDE, neck=Projection(widths=(5,))))
    for name, content in export(trunk, SIZE, "a", "fp32").items():
        (tmp_path / name).write_bytes(content)
    engine = Engine(tmp_path, "a", threads=1, device="cpu")
    for count in (1, 2, 5):
        found = engine.run(views(count).numpy())
        assert found.shape == (count, 5)
        assert found == pytest.approx(ran(trunk, views(count)).numpy(), abs=1e-4)


# ── necks over a network ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_stream_that_has_neither_is_the_bare_network() -> None:
    assert type(made(stream("vit"))) is Trunk
    assert type(made(stream("vit", neck=Conv(widths=(4,))))) is Necked


@pytest.mark.parametrize("kind", KINDS)
def test_a_neck_is_made_for_the_networks_map_and_the_network_is_as_without_one(kind: str) -> None:
    asked = stream(kind, neck=Conv(widths=(4,)))
    torch.manual_seed(0)
    trunk = network(asked)
    torch.manual_seed(0)
    plain = network(stream(kind))
    # What it takes to learn the map's width leaves no trace: neither in statistics nor in the mode.
    assert trunk.network.training is plain.network.training
    state = trunk.network.state_dict()
    assert all(torch.equal(x, state[name]) for name, x in plain.network.state_dict().items())
    assert trunk.dim == 4
    assert ran(trunk.eval(), views()).shape == (3, 4)


@pytest.mark.parametrize("kind", KINDS)
def test_several_necks_over_one_network_give_their_embeddings_one_after_another(kind: str) -> None:
    asked: list[Neck] = [Conv(widths=(6, 5)), Pooled(), Text(width=4, heads=2), Projection(widths=(3,))]
    parts = [made(stream(kind, neck=neck)) for neck in asked]
    for part in parts[1:]:
        part.network.load_state_dict(parts[0].network.state_dict())
    together = joined(parts).eval()
    assert together.network is parts[0].network
    assert together.dim == sum(part.dim for part in parts)
    expected = torch.cat([ran(part, views()) for part in parts], dim=1)
    torch.testing.assert_close(ran(together, views()), expected, rtol=0, atol=1e-6)
    # The features are the network's, so that one map explains all of them.
    with torch.no_grad():
        torch.testing.assert_close(together.features(views()), parts[0].features(views()))


def test_a_bare_network_may_be_the_first_of_several() -> None:
    parts = [made(stream("vit")), made(stream("vit", neck=Projection(widths=(3,))))]
    together = joined(parts).eval()
    expected = torch.cat([ran(part, views()) for part in parts], dim=1)
    torch.testing.assert_close(ran(together, views()), expected, rtol=0, atol=1e-6)
