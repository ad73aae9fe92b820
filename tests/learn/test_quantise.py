"""Graphs in other precisions: narrowed, widened again, and in int8. (What of it is shipped: test_variant.py.)"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from assay.judge.engine import Engine
from assay.learn import graph
from assay.learn.graph import Precision
from assay.learn.quantise import Quantiser
from layers import SIDE, convolutions

Views = npt.NDArray[np.float32]


@pytest.fixture
def views() -> Views:
    return np.random.default_rng(1).standard_normal((12, 3, SIDE, SIDE)).astype(np.float32)


def engine(model: onnx.ModelProto, folder: Path) -> Engine:
    folder.mkdir(exist_ok=True)
    for name, content in graph.files(model, "t").items():
        (folder / name).write_bytes(content)
    return Engine(folder, "t", threads=1, device="cpu")


def quantiser(model: onnx.ModelProto, views: Views, folder: Path) -> Quantiser:
    def batches() -> Iterator[Views]:
        yield views[:8]
        yield views[8:]

    folder.mkdir()
    return Quantiser(model, batches, folder)


def apart(found: Views, expected: Views) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


# ── as weights are stored


@pytest.mark.parametrize(("precision", "bound"), [("fp32", 0.0), ("fp16", 1e-3), ("int8", 3e-2)])
def test_a_narrowed_graph_is_widened_to_what_it_computed(
    precision: Precision, bound: float, views: Views, tmp_path: Path
) -> None:
    plain = engine(convolutions(), tmp_path / "plain").run(views)
    model = convolutions()
    graph.narrow(model, precision)
    narrow = engine(model, tmp_path / "narrow").run(views)
    assert apart(narrow, plain) <= bound
    assert (precision == "fp32") == np.array_equal(narrow, plain)
    again = graph.load(tmp_path / "narrow", "t")
    graph.widen(again)
    assert {weight.data_type for weight in again.graph.initializer} == {TensorProto.FLOAT}
    assert {node.op_type for node in again.graph.node} == {"Conv", "Relu", "ReduceMean", "MatMul"}
    np.testing.assert_array_equal(engine(again, tmp_path / "wide").run(views), narrow)


def test_a_graph_without_explanations_stays_one(views: Views, tmp_path: Path) -> None:
    made = engine(convolutions(explain=False), tmp_path / "t")
    assert sorted(path.name for path in (tmp_path / "t").iterdir()) == ["t.judge.onnx", "t.weights"]
    assert [output.name for output in graph.load(tmp_path / "t", "t").graph.output] == ["embedding"]
    assert made.run(views).shape == (12, 20)


# ── what layers compute in


def test_all_layers_compute_in_bytes_and_both_graphs_stay_near(views: Views, tmp_path: Path) -> None:
    plain = engine(convolutions(), tmp_path / "plain")
    made = quantiser(convolutions(), views, tmp_path / "scratch")
    assert len(made.layers) == 4
    model = made.quantised(())
    stored = {weight.name: weight for weight in model.graph.initializer}
    layers = [node for node in model.graph.node if node.op_type in ("Conv", "MatMul")]
    dequantised = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    for layer in layers:
        weights = numpy_helper.to_array(stored[dequantised[layer.input[1]]])
        assert weights.dtype == np.int8
        # Seven bits: products of eight overflow where a processor adds them up in sixteen.
        assert np.abs(weights).max() <= 64
        assert layer.input[0] in dequantised
    # A product's sum is not rounded once more.
    assert [node.op_type for node in model.graph.node if node.output[0] == "embedding"] == ["MatMul"]
    small = engine(model, tmp_path / "small")
    assert 0 < apart(small.run(views), plain.run(views)) < 0.05
    explained = small.explain(views)
    assert apart(explained["features"], plain.explain(views)["features"]) < 0.1
    np.testing.assert_allclose(explained["embedding"], small.run(views), atol=1e-6)
    assert (tmp_path / "small" / "t.weights").stat().st_size < (tmp_path / "plain" / "t.weights").stat().st_size / 3


def test_layers_that_are_kept_stay_as_they_were(views: Views, tmp_path: Path) -> None:
    made = quantiser(convolutions(), views, tmp_path / "scratch")
    plain = engine(convolutions(), tmp_path / "plain").run(views)
    model = made.quantised(made.layers)
    assert not [node for node in model.graph.node if "Quantize" in node.op_type]
    assert apart(engine(model, tmp_path / "kept").run(views), plain) < 1e-6
    some = made.quantised(made.layers[:2])
    floats = [weight for weight in some.graph.initializer if weight.data_type == TensorProto.FLOAT and weight.dims[1:]]
    assert sorted(tuple(weight.dims) for weight in floats) == [(16, 3, 3, 3), (16, 16, 3, 3)]


@pytest.mark.parametrize("wild", [1, 2])
def test_the_layers_on_both_sides_of_what_bytes_fit_worst_are_the_frailest(
    wild: int, views: Views, tmp_path: Path
) -> None:
    made = quantiser(convolutions(wild), views, tmp_path / "scratch")
    steps: list[int] = []
    order = made.frailest(lambda embedding: embedding.astype(np.float64), lambda: steps.append(1))
    assert sorted(order) == sorted(made.layers)
    assert set(order[:2]) == {made.layers[wild - 1], made.layers[wild]}
    assert len(steps) == 4
    plain = engine(convolutions(wild), tmp_path / "plain").run(views)
    lost, kept = (
        apart(engine(made.quantised(keep), tmp_path / f"{len(keep)}").run(views), plain) for keep in ((), order[:2])
    )
    assert kept < lost / 2


def test_weights_that_are_stored_in_fewer_bytes_are_layers_all_the_same(views: Views, tmp_path: Path) -> None:
    model = convolutions()
    graph.narrow(model, "fp16")
    made = quantiser(model, views, tmp_path / "scratch")
    assert len(made.layers) == 4
    plain = engine(convolutions(), tmp_path / "plain").run(views)
    assert apart(engine(made.quantised(()), tmp_path / "small").run(views), plain) < 0.05


def test_the_tools_say_nothing_in_the_root_logger(
    views: Views, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        quantiser(convolutions(), views, tmp_path / "scratch").quantised(())
    assert not caplog.records
