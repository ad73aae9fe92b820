"""Export: graphs that give torch's numbers, share one file of weights, and tell nothing of where they were made."""

from __future__ import annotations

import copy
import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper

from assay.judge.engine import Engine
from assay.learn.export import INLINE, Explained, export, parity
from assay.learn.nn.backbones import Trunk, build
from assay.learn.recipe import Backbone

SIZE = 48
"""Side of the views, but of networks that do not take it."""

SIZES = {"maxvit": 64, "coatnet": 64, "eva02": 56}

NETWORKS = {
    "trace_cnn": Backbone(name="trace_cnn", front="both", fields={"widths": (8, 16, 24), "blocks": (1, 1)}),
    "test_vit": Backbone(name="test_vit"),
    "test_convnext": Backbone(name="test_convnext", front="residual"),
    "maxvit": Backbone(
        name="maxvit_rmlp_pico_rw_256",
        fields={"embed_dim": [32], "depths": [1], "stem_width": 16, "transformer_rel_pos_dim": 16},
    ),
    "coatnet": Backbone(
        name="coatnet_pico_rw_224",
        fields={"embed_dim": [32, 64], "depths": [1, 1], "stem_width": 16, "block_type": ["C", "T"]},
    ),
    "eva02": Backbone(name="eva02_tiny_patch14_224", fields={"embed_dim": 48, "depth": 2, "num_heads": 3}),
}


@dataclasses.dataclass
class Exported:
    """A network, what torch makes of eight views, and its graphs on disk."""

    trunk: Trunk
    views: npt.NDArray[np.float32]
    embedding: npt.NDArray[np.float32]
    features: npt.NDArray[np.float32]
    folder: Path

    @property
    def engine(self) -> Engine:
        return Engine(self.folder, "t", threads=1, device="cpu")

    def graph(self, kind: str) -> onnx.ModelProto:
        return onnx.load(self.folder / f"t.{kind}.onnx", load_external_data=False)

    def files(self) -> list[Path]:
        return sorted(self.folder.iterdir())


def size_of(name: str) -> int:
    return SIZES.get(name, SIZE)


def network(name: str) -> Trunk:
    """With statistics and norms that are not those of a fresh network."""
    torch.manual_seed(3)
    size = size_of(name)
    trunk = build(NETWORKS[name], size)
    trunk.train()
    with torch.no_grad():
        for parameter in trunk.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        for _ in range(3):
            trunk(2 * torch.randn(8, 3, size, size))
    return trunk.eval()


@pytest.fixture(scope="module", params=list(NETWORKS))
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    trunk, size = network(request.param), size_of(request.param)
    views = np.random.default_rng(0).standard_normal((8, 3, size, size)).astype(np.float32)
    with torch.no_grad():
        features = trunk.features(torch.from_numpy(views))
        embedding = trunk.embed(features, torch.from_numpy(views))
    folder = tmp_path_factory.mktemp(request.param)
    for name, content in export(trunk, size, "t", "fp32").items():
        (folder / name).write_bytes(content)
    return Exported(trunk, views, embedding.numpy(), features.numpy(), folder)


@pytest.fixture(scope="module", params=["trace_cnn", "test_vit", "maxvit", "coatnet", "eva02"])
def halved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trunk, int, Path]:
    trunk, size = network(request.param), size_of(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    for name, content in export(trunk, size, "t", "fp16").items():
        (folder / name).write_bytes(content)
    return trunk, size, folder


def apart(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_the_judging_graph_gives_torchs_embedding_for_any_batch(exported: Exported, batch: int) -> None:
    found = exported.engine.run(exported.views[:batch])
    assert found.shape == (batch, exported.trunk.dim)
    assert apart(found, exported.embedding[:batch]) < 1e-4


def test_the_explaining_graph_gives_the_same_embedding_and_torchs_feature_map(exported: Exported) -> None:
    found = exported.engine.explain(exported.views[:3])
    assert apart(found["embedding"], exported.engine.run(exported.views[:3])) < 1e-6
    expected = exported.features[:3]
    if expected.ndim == 3:
        # One class token, then a square of patches.
        across = round((expected.shape[1] - 1) ** 0.5)
        expected = expected[:, 1:].transpose(0, 2, 1).reshape(3, -1, across, across)
    assert found["features"].shape == expected.shape
    assert apart(found["features"], expected) < 1e-4


def test_attention_comes_from_networks_with_a_class_token_only_and_its_rows_sum_to_one(exported: Exported) -> None:
    found = exported.engine.explain(exported.views[:2])
    if exported.trunk.class_token:
        assert found.keys() == {"embedding", "features", "attention"}
        heads = exported.trunk.network.blocks[-1].attn.num_heads
        tokens = exported.features.shape[1]
        assert found["attention"].shape == (2, heads, tokens, tokens)
        assert np.allclose(found["attention"].sum(axis=-1), 1, atol=1e-5)
        assert found["attention"].min() >= 0
        assert found["attention"].std() > 1e-4
    else:
        assert found.keys() == {"embedding", "features"}


def test_only_vision_transformers_have_a_class_token() -> None:
    assert {name: network(name).class_token for name in NETWORKS} == {
        "trace_cnn": False,
        "test_vit": True,
        "test_convnext": False,
        "maxvit": False,
        "coatnet": False,
        "eva02": True,
    }


def test_both_graphs_point_into_one_file_of_weights_and_hold_small_tensors_only(exported: Exported) -> None:
    assert [path.name for path in exported.files()] == ["t.explain.onnx", "t.judge.onnx", "t.weights"]
    places: dict[str, set[str]] = {}
    for kind in ("judge", "explain"):
        inside = 0
        for tensor in exported.graph(kind).graph.initializer:
            if tensor.data_location == TensorProto.EXTERNAL:
                entries = {entry.key: entry.value for entry in tensor.external_data}
                assert entries["location"] == "t.weights"
                assert int(entries["offset"]) % 64 == 0
                places.setdefault(kind, set()).add(f"{tensor.name} {entries['offset']} {entries['length']}")
            else:
                assert numpy_helper.to_array(tensor).nbytes < INLINE
                inside += numpy_helper.to_array(tensor).nbytes
        assert inside < 32 * 1024
    assert places["judge"] <= places["explain"]
    assert places["judge"]
    large = sum(p.numel() * 4 for p in exported.trunk.parameters() if p.numel() * 4 >= INLINE)
    assert (exported.folder / "t.weights").stat().st_size >= large


def test_no_file_tells_of_the_machine_that_exported_it(exported: Exported) -> None:
    words = [
        str(Path.cwd()),
        str(Path(__file__).parent),
        sys.prefix,
        "site-packages",
        ".py",
        "/home/",
        "/root/",
        "/tmp/",
    ]
    for path in (exported.folder / "t.judge.onnx", exported.folder / "t.explain.onnx"):
        content = path.read_bytes()
        assert [word for word in words if word.encode() in content] == []


def test_graphs_are_valid_and_of_one_input(exported: Exported) -> None:
    for kind, outputs in (("judge", ["embedding"]), ("explain", ["embedding", "features"])):
        path = exported.folder / f"t.{kind}.onnx"
        onnx.checker.check_model(str(path))
        graph = exported.graph(kind).graph
        assert [value.name for value in graph.input] == ["views"]
        assert [value.name for value in graph.output][: len(outputs)] == outputs
        assert graph.input[0].type.tensor_type.shape.dim[0].dim_param


def test_stored_in_half_the_bytes_the_embedding_moves_by_less_than_the_stated_bound(
    halved: tuple[Trunk, int, Path],
) -> None:
    trunk, size, folder = halved
    engine = Engine(folder, "t", threads=1, device="cpu")
    assert 0 < parity(trunk, engine.run, size) < 5e-3
    large = sum(p.numel() for p in trunk.parameters() if p.numel() * 4 >= INLINE)
    assert (folder / "t.weights").stat().st_size < 2.5 * large
    views = np.random.default_rng(1).standard_normal((2, 3, size, size)).astype(np.float32)
    assert apart(engine.explain(views)["embedding"], engine.run(views)) < 1e-6


def test_a_weight_too_large_for_half_precision_is_kept_whole(tmp_path: Path) -> None:
    trunk = network("test_vit")
    with torch.no_grad():
        # Undone by the norm before it, but for what overflows in storage.
        block = trunk.network.blocks[0]
        block.attn.qkv.weight.mul_(1e7)
        block.norm1.weight.mul_(1e-7)
        block.norm1.bias.mul_(1e-7)
    for name, content in export(trunk, SIZE, "t", "fp16").items():
        (tmp_path / name).write_bytes(content)
    assert parity(trunk, Engine(tmp_path, "t", threads=1, device="cpu").run, SIZE) < 5e-3


def test_exporting_leaves_the_network_as_it_was(exported: Exported) -> None:
    trunk = exported.trunk
    assert not trunk.training
    assert next(trunk.parameters()).device.type == "cpu"
    fused = [module.fused_attn for module in trunk.modules() if hasattr(module, "fused_attn")]
    assert all(fused)
    with torch.no_grad():
        assert torch.equal(trunk(torch.from_numpy(exported.views)), torch.from_numpy(exported.embedding))


def test_parity_sees_a_graph_that_gives_something_else() -> None:
    trunk = network("trace_cnn").train()
    shipped = copy.deepcopy(trunk).eval()

    def run(views: Any) -> Any:
        with torch.no_grad():
            return shipped(torch.from_numpy(views)).numpy()

    assert parity(trunk, run, SIZE) < 1e-6
    assert parity(trunk, lambda views: 1.1 * run(views), SIZE) == pytest.approx(0.1, rel=0.01)
    assert trunk.training


def test_a_network_that_keeps_channels_last_is_explained_with_channels_in_front() -> None:
    swin = build(
        Backbone(
            name="swin_tiny_patch4_window7_224",
            fields={"img_size": 32, "embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2), "window_size": 4},
        ),
        32,
    ).eval()
    views = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        embedding, features = Explained(swin)(views)
        assert torch.equal(embedding, swin(views))
    assert features.shape == (2, 16, 4, 4)
    assert torch.allclose(features.mean(dim=(2, 3)), embedding, atol=1e-5)
