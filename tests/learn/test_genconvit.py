"""GenConViT: what its release's parts are and give, that both halves of the hybrid work, and its own penalties."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from assay.errors import RecipeError
from assay.judge.engine import Engine
from assay.learn.export import export, parity
from assay.learn.nn.backbones import build
from assay.learn.nn.genconvit import GenConViT, Variational
from assay.learn.recipe import Backbone

NETS = ("autoencoder", "variational")

SMALL: dict[str, Any] = {
    "convnext": "convnext_atto",
    "convnext_fields": {"output_stride": 16, "dims": [8, 8, 16, 16], "depths": [1, 1, 1, 1]},
    "swin_fields": {"window_size": 4, "embed_dim": 8, "depths": [1, 1, 1], "num_heads": [1, 2, 2]},
    "features": 12,
    "hidden": 6,
    "widths": [4, 4, 6, 8],
    "latent": 2,
}


def small(net: str, **fields: Any) -> GenConViT:
    torch.manual_seed(0)
    given = SMALL | ({"widths": [4, 4, 6, 8, 8]} if net == "autoencoder" else {}) | fields
    return GenConViT(3, 64, net=net, **given)


def embed(network: GenConViT, x: Tensor) -> Tensor:
    return network.forward_head(network.forward_features(x))


@pytest.fixture
def pictures() -> Tensor:
    return torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("net", "millions"), [("autoencoder", 58.445105), ("variational", 687.484817)])
def test_at_full_size_it_has_the_parts_that_are_published(net: str, millions: float) -> None:
    with torch.device("meta"):
        network = GenConViT(net=net)  # type: ignore[arg-type]
    shapes = {name: tuple(p.shape) for name, p in network.named_parameters()}
    assert sum(p.numel() for p in network.parameters()) == round(1e6 * millions)
    assert shapes["fc.weight"] == (500, 2000)
    assert shapes["convnext.head.fc.weight"] == shapes["swin.head.fc.weight"] == (1000, 768)
    drawing = [shape for name, shape in shapes.items() if "generator" in name and name.endswith("weight")]
    drawing = [shape for shape in drawing if len(shape) == 4]
    if net == "autoencoder":
        assert drawing == [
            *((16, 3, 3, 3), (32, 16, 3, 3), (64, 32, 3, 3), (128, 64, 3, 3), (256, 128, 3, 3)),
            *((256, 128, 2, 2), (128, 64, 2, 2), (64, 32, 2, 2), (32, 16, 2, 2), (16, 3, 2, 2)),
        ]
    else:
        assert drawing == [
            *((16, 3, 3, 3), (32, 16, 3, 3), (64, 32, 3, 3), (128, 64, 3, 3)),
            *((256, 64, 2, 2), (64, 32, 2, 2), (32, 16, 2, 2), (16, 3, 2, 2)),
        ]
        assert shapes["generator.encoder.mu.weight"] == shapes["generator.encoder.var.weight"] == (12544, 25088)


@pytest.mark.parametrize("net", NETS)
def test_each_half_learns(net: str, pictures: Tensor) -> None:
    network = small(net).train()
    embed(network, pictures).square().sum().backward()
    for half in ("convnext", "swin"):
        silent = [
            name
            for name, p in network.get_submodule(half).named_parameters()
            if p.grad is None or not p.grad.abs().sum()
        ]
        # A key's bias moves every score of a row alike, which softmax takes back; the rest of that vector is not so.
        assert not silent, silent
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.generator.parameters())


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("half", ["convnext", "swin"])
def test_each_half_is_used(net: str, half: str, pictures: Tensor) -> None:
    network = small(net).eval()
    before = embed(network, pictures)
    dead = copy.deepcopy(network)
    for p in dead.get_submodule(half).parameters():
        p.data.zero_()
    assert (embed(dead, pictures) - before).abs().max() > 1e-3
    alone = small(net, halves=[half]).eval()
    assert {name for name, _ in alone.named_children()} & {"convnext", "swin"} == {half}
    other = "swin" if half == "convnext" else "convnext"
    taken = {name: x for name, x in network.state_dict().items() if not name.startswith(other)}
    alone.load_state_dict(taken)
    assert (embed(alone, pictures) - before).abs().max() > 1e-3


@pytest.mark.parametrize("net", NETS)
def test_with_convnext_alone_it_computes_what_the_release_does(net: str, pictures: Tensor) -> None:
    network: Any = small(net, halves=["convnext"]).eval()
    drawing, _ = network.generator(pictures)
    drawing = torch.nn.functional.interpolate(drawing, size=64, mode="bilinear", align_corners=False)
    both = torch.cat([network.convnext(drawing), network.convnext(pictures)], dim=1)
    expected = network.act(network.fc(network.act(both)))
    assert isinstance(network.act, torch.nn.GELU if net == "autoencoder" else torch.nn.ReLU)
    torch.testing.assert_close(embed(network, pictures), expected, atol=1e-5, rtol=1e-5)


def test_the_two_halves_count_alike(pictures: Tensor) -> None:
    network: Any = small("autoencoder").eval()
    drawing, _ = network.generator(pictures)
    said = [(network.convnext(x) + network.swin(x)) / 2 for x in (drawing, pictures)]
    expected = network.act(network.fc(network.act(torch.cat(said, dim=1))))
    torch.testing.assert_close(embed(network, pictures), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("net", NETS)
def test_what_the_drawing_misses_is_the_mean_squared_difference(net: str, pictures: Tensor) -> None:
    network: Any = small(net).train()
    torch.manual_seed(7)
    network.forward_features(pictures)
    torch.manual_seed(7)
    drawing, _ = network.generator(pictures)
    drawing = torch.nn.functional.interpolate(drawing, size=64, mode="bilinear", align_corners=False)
    assert float(network.penalties["reconstruction"]) == pytest.approx(float(((drawing - pictures) ** 2).mean()))
    assert set(network.penalties) == ({"reconstruction"} if net == "autoencoder" else {"reconstruction", "kl"})


def test_the_latents_divergence_is_that_of_torch(pictures: Tensor) -> None:
    torch.manual_seed(0)
    net = Variational(3, 64, widths=(4, 4, 6, 8), latent=2).eval()
    seen = net.encoder(pictures).flatten(1)
    own = Normal(net.encoder.mu(seen), torch.exp(0.5 * net.encoder.var(seen)))
    expected = kl_divergence(own, Normal(0.0, 1.0)).sum(dim=1).mean()
    torch.testing.assert_close(net(pictures)[1], expected)


def test_chance_has_a_part_in_training_and_none_in_judging(pictures: Tensor) -> None:
    network = small("variational").eval()
    assert torch.equal(embed(network, pictures), embed(network, pictures))
    network.train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    assert not torch.equal(embed(network, pictures), embed(network, pictures))


@pytest.mark.parametrize("net", NETS)
def test_it_judges_as_a_graph_as_it_does_in_torch(net: str, tmp_path: Path) -> None:
    fields = SMALL | {"net": net} | ({"widths": [4, 4, 6, 8, 8]} if net == "autoencoder" else {})
    trunk = build(Backbone(name="genconvit", front="both", fields=fields), 64)
    for name, content in export(trunk, 64, "a", "fp32").items():
        (tmp_path / name).write_bytes(content)
    assert parity(trunk, Engine(tmp_path, "a", threads=1, device="cpu").run, 64) < 1e-4


def test_halves_begin_with_weights_of_their_own(tmp_path: Path, pictures: Tensor) -> None:
    other = small("autoencoder")
    for p in other.parameters():
        p.data += 0.01
    files = {}
    for half in ("convnext", "swin"):
        files[half] = str(tmp_path / f"{half}.safetensors")
        save_file({name: x.contiguous() for name, x in other.get_submodule(half).state_dict().items()}, files[half])
    fields = SMALL | {"widths": [4, 4, 6, 8, 8], "weights": files}
    trunk = build(Backbone(name="genconvit", fields=fields), 64)
    for half in files:
        mine, theirs = (network.get_submodule(half).state_dict() for network in (trunk.network, other))
        assert all(torch.equal(mine[name], x) for name, x in theirs.items())
    with pytest.raises(RecipeError, match="did you mean convnext"):
        build(Backbone(name="genconvit", fields=fields | {"weights": {"convnex": files["convnext"]}}), 64)
    with pytest.raises(RecipeError, match="does not fit swin"):
        build(Backbone(name="genconvit", fields=fields | {"weights": {"swin": files["convnext"]}}), 64)


def test_a_whole_network_begins_with_the_weights_of_a_file(tmp_path: Path) -> None:
    other = small("variational")
    path = tmp_path / "whole.safetensors"
    save_file({name: x.contiguous() for name, x in other.state_dict().items()}, path)
    trunk = build(Backbone(name="genconvit", weights=str(path), fields=SMALL | {"net": "variational"}), 64)
    assert all(torch.equal(trunk.network.state_dict()[name], x) for name, x in other.state_dict().items())


@pytest.mark.parametrize(
    ("fields", "size", "message"),
    [
        ({}, 70, "must be a multiple of 32"),
        ({"halves": ["resnet"]}, 64, "give convnext, swin or both"),
        ({"halves": []}, 64, "give convnext, swin or both"),
        ({"net": "diffusion"}, 64, "give autoencoder or variational"),
        ({"convnext_fields": {"dims": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}}, 64, "give both as many stages"),
        ({"colour": "red"}, 64, "colour"),
    ],
)
def test_what_does_not_hold_is_refused(fields: dict[str, Any], size: int, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build(Backbone(name="genconvit", fields=SMALL | {"widths": [4, 4, 6, 8, 8]} | fields), size)
