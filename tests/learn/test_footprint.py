"""A step's memory by arithmetic, against what is really kept; and that the largest network fits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from assay.learn.batches import Batch
from assay.learn.descend import Machine, Training
from assay.learn.footprint import footprint
from assay.learn.recipe import Backbone, CrossEntropy, InfoNCE, LoRA, Optimiser, Recipe, find
from assay.learn.views import names

Changed = Callable[..., Recipe]


@pytest.fixture
def of(recipe: Recipe) -> Changed:
    """The recipe with a small transformer, and other fields."""

    def changed(lora: LoRA | None = None, **fields: Any) -> Recipe:
        backbone = Backbone(name="test_vit", fields={"depth": 3, "embed_dim": 32}, lora=lora)
        stream = recipe.streams[0].model_copy(update={"backbone": backbone})
        start = recipe.set(descend__crops__local=16, **fields)
        return start.model_copy(update={"streams": (stream,)})

    return changed


def really_kept(recipe: Recipe, bf16: bool, recomputed: bool) -> tuple[Training, int]:
    """A training, and the bytes that its network keeps of a batch in one part."""
    stage = recipe.descend("a")
    training = Training(recipe.streams[0], stage, Machine("cpu", bf16, 0, recompute=recomputed), seed=0, total=6)
    training.trunk.train()
    rng = np.random.default_rng(0)
    local = stage.crops.local
    views = {
        name: rng.integers(0, 256, (2 * stage.pairs, side, side, 3), np.uint8)
        for name in names(stage)
        for side in [local if name.startswith("local") else 32]
    }
    batch = Batch(views, np.repeat([-1, 0], stage.pairs), np.full(2 * stage.pairs, np.nan))
    part = next(batch.parts(stage.accumulate))
    own = {p.untyped_storage().data_ptr() for p in training.trunk.parameters()}
    found: dict[int, tuple[torch.UntypedStorage, int]] = {}

    def note(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = (storage, storage.nbytes())
        return x

    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        training.embed(part.views)
    return training, sum(size for _, size in found.values())


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("recomputed", [False, True])
@pytest.mark.parametrize("loss", [InfoNCE(), CrossEntropy(views=2)])
def test_what_is_counted_is_what_is_kept(loss: Any, recomputed: bool, bf16: bool, of: Changed) -> None:
    recipe = of(descend__loss=loss, descend__accumulate=2)
    training, kept = really_kept(recipe, bf16, recomputed)
    found = footprint(recipe.streams[0], recipe.descend("a"), bf16=bf16, recomputed=recomputed)
    assert found.kept == pytest.approx(kept, rel=0.02)
    assert (found.again > 0) == recomputed
    parameters = training.parameters()
    assert found.trained == sum(p.numel() for p in parameters.values())
    assert found.gradients == 4 * found.trained
    assert found.moments == 8 * found.trained
    assert found.rows == (16 if isinstance(loss, InfoNCE) else 8)


def test_only_matrices_that_are_trained_have_gradients(of: Changed) -> None:
    lora = LoRA(rank=2, targets=r"blocks\.\d+\.attn\.(qkv|proj)")
    recipe = of(lora, descend__loss=CrossEntropy(), descend__optimiser=Optimiser(kind="sgd"))
    training, kept = really_kept(recipe, False, False)
    found = footprint(recipe.streams[0], recipe.descend("a"), bf16=False)
    assert found.trained == sum(p.numel() for p in training.parameters().values()) < found.parameters / 10
    assert found.moments == found.gradients == 4 * found.trained
    assert found.kept == pytest.approx(kept, rel=0.02)


def test_devices_share_rows_and_in_pieces_weights_too(of: Changed) -> None:
    recipe = of(descend__loss=CrossEntropy())
    one, copies, pieces = (
        footprint(recipe.streams[0], recipe.descend("a"), bf16=False, ranks=ranks, shard=shard)
        for ranks, shard in ((1, False), (4, False), (4, True))
    )
    assert (one.rows, copies.rows, pieces.rows) == (8, 2, 2)
    assert copies.weights == one.weights > 3 * pieces.weights
    assert pieces.moments == one.moments // 4
    assert copies.kept == pieces.kept < one.kept / 2
    assert (one.together, copies.together) == (0, 0)
    # Two of three blocks, the gradients of one, and what is in none.
    assert 0.8 < pieces.together / one.weights < 1.3
    assert pieces.total == sum(getattr(pieces, field.name) for field in dataclasses.fields(pieces)[3:])


@pytest.mark.parametrize(
    ("ranks", "recomputed", "most"), [(1, False, 72e9), (8, True, 5e9)], ids=["one", "pieces on eight"]
)
def test_the_giant_fits_into_80_gigabytes_at_the_papers_batch_by_its_parts(
    ranks: int, recomputed: bool, most: float
) -> None:
    """All of the release's fusion stream: LoRA on DINOv2-giant, CLIP's ViT-L beside; 512 pictures in 32 parts."""
    recipe = find("drift26:release", "paper")
    stream, stage = recipe.stream("fusion"), recipe.descend("fusion")
    beside = stream.beside
    assert beside is not None
    assert (2 * stage.pairs, stage.accumulate) == (512, 32)
    bare = stream.model_copy(
        update={
            "backbone": stream.backbone.model_copy(update={"pretrained": False}),
            "beside": beside.model_copy(update={"backbone": beside.backbone.model_copy(update={"pretrained": False})}),
        }
    )
    found = footprint(bare, stage, bf16=True, ranks=ranks, shard=ranks > 1, recomputed=recomputed)
    assert found.parameters > 1.4e9
    assert found.total < most
