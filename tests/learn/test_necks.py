"""Necks: what a stream makes of its network's map and embedding, by hand where a hand can do it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import pytest
import torch
from torch import Tensor, nn

from assay.image.view import View
from assay.judge.engine import Engine
from assay.learn.export import export
from assay.learn.nn import necks
from assay.learn.nn.network import network
from assay.learn.recipe import Backbone, Conv, Neck, Pooled, Projection, Stream, Text
from assay.learn.text import embeddings

CHANNELS, WIDTH = 6, 7
TEXT = Text(prompts=("real face", "synthetic face"), width=8, heads=2, depth=2, dropout=0.0)


def made(neck: Neck, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return necks.build(neck, CHANNELS, WIDTH).eval()


def given(count: int = 3, seed: int = 0, side: int = 4) -> tuple[Tensor, Tensor]:
    """A map and an embedding."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, CHANNELS, side, side, generator=generator)
    return features, torch.randn(count, WIDTH, generator=generator)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    ("neck", "width"),
    [(Pooled(), WIDTH), (Conv(widths=(5, 4)), 4), (TEXT, 16), (Projection(widths=(9, 3)), 3)],
    ids=["pooled", "conv", "text", "projection"],
)
def test_a_neck_makes_an_embedding_as_long_as_it_says_of_any_batch(neck: Neck, width: int, count: int) -> None:
    module = made(neck)
    features, embedding = given()
    whole = module(features, embedding)
    assert whole.shape == (3, module.width) == (3, width)
    # A picture's embedding is its own, whatever comes in its batch.
    torch.testing.assert_close(module(features[:count], embedding[:count]), whole[:count], rtol=0, atol=1e-6)


def test_the_networks_own_embedding_passes_as_it_is() -> None:
    features, embedding = given()
    assert made(Pooled())(features, embedding) is embedding


@pytest.mark.parametrize("neck", [Conv(widths=(5, 4)), TEXT], ids=["conv", "text"])
def test_necks_over_the_map_do_not_look_at_the_embedding(neck: Neck) -> None:
    module, (features, embedding) = made(neck), given()
    assert torch.equal(module(features, embedding), module(features, embedding + 1))
    assert not torch.allclose(module(features, embedding), module(features + 1, embedding), atol=1e-3)


# ── convolutions ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_convolutions_have_the_widths_of_the_recipe_each_with_a_norm_and_no_bias() -> None:
    module = made(Conv(widths=(5, 4, 3)))
    kernels = {name: tuple(p.shape) for name, p in module.named_parameters() if p.ndim > 1}
    assert list(kernels.values()) == [(5, CHANNELS, 3, 3), (4, 5, 3, 3), (3, 4, 3, 3)]
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert [layer.num_features for layer in norms] == [5, 4, 3]
    assert len(list(module.parameters())) == 3 + 2 * 3


def test_a_convolution_that_copies_leaves_the_rectified_maps_mean_over_places() -> None:
    module, (features, embedding) = made(Conv(widths=(CHANNELS,))), given()
    with torch.no_grad():
        (kernel,) = (p for p in module.parameters() if p.ndim == 4)
        kernel.zero_()
        kernel[:, :, 1, 1] = torch.eye(CHANNELS)
    expected = features.clamp(min=0).mean(dim=(2, 3)) / np.sqrt(1 + 1e-5)
    torch.testing.assert_close(module(features, embedding), expected)


@pytest.mark.parametrize(
    "neck",
    [Conv(widths=(8,), dropout=0.5), Text(width=8, heads=2, dropout=0.5), Projection(widths=(8,), dropout=0.5)],
    ids=["conv", "text", "projection"],
)
def test_what_is_dropped_is_dropped_in_training_only(neck: Neck) -> None:
    module, (features, embedding) = made(neck), given()
    assert torch.equal(module(features, embedding), module(features, embedding))
    for layer in module.modules():
        if isinstance(layer, nn.Dropout):
            layer.train()
    assert not torch.equal(module(features, embedding), module(features, embedding))


# ── projection ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_projections_are_layers_over_the_embedding_each_with_a_rectifier() -> None:
    module, (features, embedding) = made(Projection(widths=(9, 3))), given()
    first, second = (layer for layer in module.modules() if isinstance(layer, nn.Linear))
    hidden = (embedding @ first.weight.T + first.bias).clamp(min=0)
    expected = (hidden @ second.weight.T + second.bias).clamp(min=0)
    torch.testing.assert_close(module(features, embedding), expected)
    assert torch.equal(module(features, embedding), module(features + 1, embedding))


# ── texts ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def halves(module: Any, features: Tensor) -> list[Tensor]:
    """What became of each text."""
    return list(module(features, features).split(TEXT.width, dim=1))


def with_texts(rows: Tensor) -> Any:
    """The same neck with other texts."""
    module = made(TEXT)
    module.text.copy_(rows)
    return module


def test_a_neck_holds_its_texts_as_numbers_that_are_not_trained() -> None:
    module = made(TEXT)
    assert torch.equal(module.text, embeddings(TEXT.prompts, ""))
    assert "text" in module.state_dict()
    assert "text" not in dict(module.named_parameters())
    assert len(module.blocks) == TEXT.depth


def test_every_text_matters_and_each_knows_of_the_others() -> None:
    module, (features, _) = made(TEXT), given()
    before = halves(module, features)
    for changed in (0, 1):
        rows = module.text.clone()
        rows[changed] = embeddings(["a drawing"], "")[0]
        after = halves(with_texts(rows), features)
        # Its own part moves, and by attention among texts the other one's too.
        for part in (0, 1):
            assert not torch.allclose(before[part], after[part], atol=1e-3)


def test_texts_have_no_order_but_that_of_their_parts() -> None:
    module, (features, _) = made(TEXT), given()
    one, two = halves(module, features)
    turned = halves(with_texts(module.text.flip(0)), features)
    torch.testing.assert_close(turned[0], two, rtol=0, atol=1e-5)
    torch.testing.assert_close(turned[1], one, rtol=0, atol=1e-5)
    assert not torch.allclose(one, two, atol=1e-2)


def test_places_are_a_set_as_they_have_no_position_codes() -> None:
    module, (features, _) = made(TEXT), given()
    order = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    shuffled = features.flatten(2)[:, :, order].reshape(features.shape)
    torch.testing.assert_close(module(shuffled, features), module(features, features), rtol=0, atol=1e-5)


def test_what_lies_at_one_place_matters() -> None:
    module, (features, _) = made(TEXT), given()
    moved = features.clone()
    moved[:, :, 2, 3] += 3
    assert not torch.allclose(module(moved, features), module(features, features), atol=1e-2)


def test_maps_of_other_sides_serve_too() -> None:
    assert made(TEXT)(given(2, side=7)[0], torch.zeros(2, WIDTH)).shape == (2, 16)


def test_attention_is_torchs_own() -> None:
    mine = made(TEXT).blocks[0].across
    theirs = nn.MultiheadAttention(TEXT.width, TEXT.heads, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([mine.query.weight, mine.key.weight, mine.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([mine.query.bias, mine.key.bias, mine.value.bias]))
        theirs.out_proj.load_state_dict(mine.out.state_dict())
    texts, places = torch.randn(3, 2, TEXT.width), torch.randn(3, 16, TEXT.width)
    torch.testing.assert_close(mine(texts, places), theirs(texts, places, places)[0])


def test_each_part_of_the_embedding_is_normalised() -> None:
    for part in halves(made(TEXT), given()[0]):
        torch.testing.assert_close(part.mean(dim=1), torch.zeros(3), rtol=0, atol=1e-5)
        torch.testing.assert_close(part.square().mean(dim=1), torch.ones(3), rtol=0, atol=1e-3)


def test_a_width_that_heads_cannot_share_is_refused() -> None:
    with pytest.raises(pydantic.ValidationError, match="a width of 10 cannot be shared by 4 heads"):
        Text(width=10, heads=4)


# ── graphs ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("neck", [Conv(widths=(5, 4)), TEXT], ids=["conv", "text"])
def test_the_judging_graph_gives_torchs_embedding_for_any_batch(neck: Neck, tmp_path: Path) -> None:
    backbone = Backbone(name="test_vit", fields={"depth": 1})
    torch.manual_seed(0)
    trunk = network(Stream(name="a", view=View(size=32), backbone=backbone, neck=neck))
    with torch.no_grad():
        # Statistics that are not those of a fresh network.
        trunk.train()(torch.randn(8, 3, 32, 32))
    trunk.eval()
    for name, content in export(trunk, 32, "a", "fp32").items():
        (tmp_path / name).write_bytes(content)
    engine = Engine(tmp_path, "a", threads=1, device="cpu")
    for count in (1, 2, 5):
        views = np.random.default_rng(count).standard_normal((count, 3, 32, 32)).astype(np.float32)
        with torch.no_grad():
            expected = trunk(torch.from_numpy(views)).numpy()
        assert engine.run(views) == pytest.approx(expected, abs=1e-4)
    explained = engine.explain(views)
    assert explained["embedding"] == pytest.approx(expected, abs=1e-4)
    # Two patches of 16 px a side, seen by the class token and one another: what a neck looks at can be shown.
    assert explained["features"].shape == (5, 64, 2, 2)
    assert explained["attention"].shape[2:] == (5, 5)
