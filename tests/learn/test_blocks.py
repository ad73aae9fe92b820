"""A network by its blocks: which they are, and that training goes the same way however they are computed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.layers.norm_act import BatchNormAct2d, SyncBatchNormAct
from torch import Tensor, nn

from assay.learn import descend
from assay.learn.batches import Batches
from assay.learn.descend import Data, Machine, Training, embeddings_of
from assay.learn.nn.backbones import build
from assay.learn.nn.blocks import blocks, recompute, synchronised
from assay.learn.nn.trace import TraceCNN
from assay.learn.recipe import Backbone, Recipe

Split = Callable[[str], Data]


@pytest.mark.parametrize(
    ("name", "kind", "count"),
    [
        ("vit_tiny_patch16_224", "Block", 12),
        ("eva02_tiny_patch14_224", "EvaBlock", 12),
        ("swin_tiny_patch4_window7_224", "SwinTransformerBlock", 12),
        ("convnext_atto", "ConvNeXtBlock", 12),
        ("maxvit_rmlp_pico_rw_256", "MaxxVitBlock", 11),
        ("resnet18", "BasicBlock", 8),
        ("regnety_002", "RegStage", 4),
    ],
)
def test_blocks_are_what_a_network_repeats(name: str, kind: str, count: int) -> None:
    with torch.device("meta"):
        network = timm.create_model(name, num_classes=0)
    assert [type(block).__name__ for block in blocks(network)] == [kind] * count


def test_blocks_of_a_network_of_ours() -> None:
    assert [type(block).__name__ for block in blocks(TraceCNN(3, (8, 8, 16), (1, 2)))] == ["Block"] * 3


def kept(training: Training, batches: Batches) -> int:
    """Bytes that a forward pass keeps for the way back, without the parameters."""
    own = {p.untyped_storage().data_ptr() for p in training.parameters().values()}
    found: dict[int, int] = {}

    def note(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        held = training.loss(batches[0], 0)
    assert held.requires_grad
    return sum(found.values())


NETWORKS = {
    "convolutions with batch normalisation": Backbone(name="trace_cnn", fields={"widths": [8, 8, 8], "blocks": [2, 2]}),
    "a transformer with dropout": Backbone(
        name="test_vit", fields={"depth": 4, "proj_drop_rate": 0.3, "drop_path_rate": 0.2}
    ),
}


@pytest.fixture(params=NETWORKS)
def varied(request: pytest.FixtureRequest, recipe: Recipe) -> Recipe:
    stream = recipe.streams[0].model_copy(update={"backbone": NETWORKS[request.param]})
    return recipe.set(descend__crops__local=16).model_copy(update={"streams": (stream,)})


def begun(recipe: Recipe, data: Split, bf16: bool = False, **ways: bool) -> tuple[Training, Batches]:
    stream, stage, train = recipe.streams[0], recipe.descend("a"), data("train")
    training = Training(stream, stage, Machine("cpu", bf16, 0, **ways), seed=0, total=6)
    return training, Batches(train.store, train.samples, stage, stream.view, seed=0)


@pytest.mark.parametrize("bf16", [False, True])
def test_what_is_computed_again_comes_out_the_same_and_is_not_kept(
    bf16: bool, varied: Recipe, data: Split, tmp_path: Path
) -> None:
    """To the bit: the same kernels on the same numbers, chance and running statistics included."""
    (plain, batches), (again, _) = begun(varied, data, bf16), begun(varied, data, bf16, recompute=True)
    assert kept(again, batches) < 0.75 * kept(plain, batches)
    for step in range(3):
        assert again.advance(batches[step]) == plain.advance(batches[step])
    mine, other = again.trunk.state_dict(), plain.trunk.state_dict()
    assert mine.keys() == other.keys()
    assert all(torch.equal(x, other[name]) for name, x in mine.items())
    # And what is exported knows nothing of it.
    again.save(tmp_path / "a.safetensors")
    bare = again.plain(tmp_path / "a.safetensors")
    assert bare.machine == plain.machine
    assert ["forward" in vars(block) for block in blocks(bare.trunk.network)] == [False] * len(
        blocks(bare.trunk.network)
    )
    assert all(torch.equal(x, mine[name]) for name, x in bare.trunk.state_dict().items())
    assert plain.plain(tmp_path / "a.safetensors") is plain


def test_nothing_is_computed_again_where_nothing_goes_back() -> None:
    network = TraceCNN(3, (8, 8), (1,)).eval()
    (block,) = blocks(network)
    plain = block.forward
    calls = []

    def counted(x: Tensor) -> Tensor:
        calls.append(x.requires_grad)
        return plain(x)

    block.forward = counted  # type: ignore[method-assign]
    recompute(network)
    pictures = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        network.forward_features(pictures)
    assert len(calls) == 1
    network.forward_features(pictures).sum().backward()
    assert len(calls) == 3
    network.requires_grad_(False)
    network.forward_features(pictures)
    assert len(calls) == 4


def test_a_compiled_network_goes_the_same_steps(recipe: Recipe, data: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced and taken apart as by --compile, without writing C++ that takes half a minute to build."""
    given: list[dict[str, Any]] = []
    compiling = nn.Module.compile

    def compiled(module: nn.Module, **options: Any) -> None:
        given.append(options)
        compiling(module, backend="aot_eager", **options)

    monkeypatch.setattr(nn.Module, "compile", compiled)
    (plain, batches), (other, _) = begun(recipe, data), begun(recipe, data, compiled=True)
    assert given == [{"dynamic": False}]
    for step in range(3):
        assert other.advance(batches[step]) == pytest.approx(plain.advance(batches[step]), abs=1e-5)
    assert other.parameters().keys() == plain.parameters().keys()
    for name, x in plain.parameters().items():
        assert torch.allclose(other.parameters()[name], x, atol=1e-5)
    rows = range(5)
    traced = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert embeddings_of(other, data("tune"), rows) == pytest.approx(embeddings_of(plain, data("tune"), rows), abs=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == traced


def test_batch_normalisation_is_by_the_rows_of_all_ranks_where_it_is_made_so() -> None:
    """Those of timm that act too, with their act; nothing is learnt anew."""
    for name, fields, kinds in (
        ("trace_cnn", {"widths": [8, 8], "blocks": [1]}, {nn.SyncBatchNorm}),
        ("mobilenetv3_small_050", {}, {SyncBatchNormAct}),
    ):
        trunk = build(Backbone(name=name, fields=fields), 32)
        before = {key: x.clone() for key, x in trunk.state_dict().items()}
        made = synchronised(trunk)
        norms = [module for module in made.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        assert {type(norm) for norm in norms} == kinds
        assert not any(isinstance(module, BatchNormAct2d) for module in made.modules())
        assert made.state_dict().keys() == before.keys()
        assert all(torch.equal(x, before[key]) for key, x in made.state_dict().items())


def test_a_training_on_gpus_has_it_made_so(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    monkeypatch.setattr(descend.blocks, "synchronised", lambda trunk: made.append("synchronised") or trunk)
    monkeypatch.setattr(nn.Module, "to", lambda module, *_, **__: module)
    lay = functools.partial(descend._laid_out, build(recipe.streams[0].backbone, 32), nn.Identity())
    lay(Machine("cpu", False, 0, descend.Ranks(0, 2)))
    lay(Machine("cuda", False, 0))
    assert made == []
    lay(Machine("cuda", False, 0, descend.Ranks(0, 2)))
    assert made == ["synchronised"]
