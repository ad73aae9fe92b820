"""The network of the detector that tests make: its embedding is a picture's mean colour."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from assay.image.view import View
from assay.types import Pixels

WEIGHTS = np.array([[1, 0, 0, 1 / 3], [0, 1, 0, 1 / 3], [0, 0, 1, 1 / 3]], np.float32)
"""The tiny trunk's embedding: mean red, green, blue and grey of the normalised view."""


class OfViews:
    """Stands for an engine: what it makes of crops is what `run` makes of their views."""

    def embed(self, view: View, crops: Pixels) -> Any:
        return self.run(view.tensor(crops))  # type: ignore[attr-defined]


def tiny_graph(location: str = "tiny.weights", *, explain: bool = False, views: str = "views") -> bytes:
    """An ONNX graph whose one matrix lies in the external file `location`."""
    matrix = TensorProto(name="matrix", data_type=TensorProto.FLOAT, dims=WEIGHTS.shape)
    matrix.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(WEIGHTS.nbytes))):
        matrix.external_data.add(key=key, value=value)
    nodes = [
        helper.make_node("AveragePool", [views], ["features"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("ReduceMean", ["features"], ["means"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["means", "matrix"], ["embedding"]),
    ]
    outputs = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 4])]
    if explain:
        outputs.append(helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 3, "h", "w"]))
    inputs = [helper.make_tensor_value_info(views, TensorProto.FLOAT, ["n", 3, "height", "width"])]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, [matrix])
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()
