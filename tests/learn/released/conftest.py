"""Weights as the authors of CoDE publish theirs, but small: transformers' own ViT with random parameters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import ViTConfig, ViTModel

MARK = "opened"


def vit_of(seed: int = 0, **fields: Any) -> ViTModel:
    """Every parameter is random, biases and norms too, so that none can be lost or swapped unseen."""
    small = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    model = ViTModel(ViTConfig(**small | {"image_size": 32, "patch_size": 8} | fields)).eval()
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=chance))
    return model


@pytest.fixture(scope="session")
def vit() -> Callable[..., ViTModel]:
    """`vit(seed, **fields)`: two layers of width 64 on 32 px, unless said otherwise."""
    return vit_of


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as it is published: config, safetensors, and heads that only joblib opens."""
    folder = tmp_path_factory.mktemp("hub") / "CoDE"
    vit_of().save_pretrained(folder)
    (folder / "sklearn").mkdir()
    (folder / "sklearn" / "linear_tot_classifier_epoch-32.sav").write_bytes(b"\x80\x04}.")
    return folder
