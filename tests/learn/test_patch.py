"""PatchCNN: how far a place of its map has seen, and what is refused."""

from __future__ import annotations

import pytest
import torch

from assay.errors import RecipeError
from assay.learn.nn.backbones import build
from assay.learn.nn.patch import PatchCNN
from assay.learn.recipe import Backbone


def test_a_place_of_its_map_sees_seventeen_pixels_and_no_more() -> None:
    network = PatchCNN().eval()
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    features = network.forward_features(x)
    assert features.shape == (1, 96, 16, 16)
    features[0, :, 8, 8].sum().backward()
    assert x.grad is not None
    rows, columns = (x.grad[0].abs().sum(0) > 0).nonzero(as_tuple=True)
    assert rows.max() - rows.min() + 1 == 17
    assert columns.max() - columns.min() + 1 == 17


def test_its_embedding_is_the_mean_over_places() -> None:
    trunk = build(Backbone(name="patch_cnn", front="chroma"), 32).eval()
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(trunk(x), trunk.features(x).mean(dim=(2, 3)))
    assert trunk.dim == 96


@pytest.mark.parametrize("widths", [(16, 32, 64), (16, 32, 64, 7)])
def test_other_widths_are_refused(widths: tuple[int, ...]) -> None:
    with pytest.raises(RecipeError, match="four widths of 8 or more"):
        build(Backbone(name="patch_cnn", fields={"widths": widths}), 32)
