"""TraceCNN: how narrow it may be."""

from __future__ import annotations

import pytest
import torch

from assay.errors import RecipeError
from assay.learn.nn.backbones import build
from assay.learn.recipe import Backbone


def of(*widths: int) -> Backbone:
    return Backbone(name="trace_cnn", front="both", fields={"widths": widths, "blocks": (1,) * (len(widths) - 1)})


@pytest.mark.parametrize("widths", [(7, 16), (16, 4, 16), (16, 2)])
def test_a_narrower_network_than_torch_can_train_is_refused_before_it_is_made(widths: tuple[int, ...]) -> None:
    with pytest.raises(
        RecipeError, match=rf"trace_cnn cannot be {min(widths)} channels wide; give widths of 8 or more"
    ):
        build(of(*widths), 32)


def test_the_narrowest_is_trained_with_its_channels_last() -> None:
    trunk = build(of(8, 8, 8), 32).to(memory_format=torch.channels_last).train()
    views = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    trunk(views.contiguous(memory_format=torch.channels_last)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trunk.parameters())
