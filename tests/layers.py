"""A network of a few layers, for tests of what is done to layers."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 16
"""Of its views, in px."""


def convolutions(wild: int | None = None, *, explain: bool = True) -> onnx.ModelProto:
    """Three convolutions and a matrix; the first channel that the one of number `wild` sees is a thousand times larger,
    and weighs as much less."""
    rng = np.random.default_rng(0)
    widths, weights, nodes = (3, 16, 16, 16), [], []
    value = "views"
    for number in range(3):
        kernel = rng.normal(size=(widths[number + 1], widths[number], 3, 3)).astype(np.float32)
        kernel /= 3 * np.sqrt(widths[number])
        if wild is not None and number == wild:
            kernel[:, 0] /= 1000
        if wild is not None and number == wild - 1:
            kernel[0] *= 1000
        weights.append(numpy_helper.from_array(kernel, f"kernel{number}"))
        out = "features" if number == 2 else f"mid{number}"
        nodes.append(helper.make_node("Conv", [value, f"kernel{number}"], [f"sum{number}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"sum{number}"], [out]))
        value = out
    weights.append(numpy_helper.from_array(rng.normal(size=(16, 20)).astype(np.float32), "matrix"))
    nodes += [
        helper.make_node("ReduceMean", ["features"], ["means"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["means", "matrix"], ["embedding"]),
    ]
    outputs = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 20])]
    if explain:
        outputs.append(helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 16, SIDE, SIDE]))
    inputs = [helper.make_tensor_value_info("views", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])]
    made = helper.make_graph(nodes, "convolutions", inputs, outputs, weights)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
