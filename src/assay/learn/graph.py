"""A trunk's graphs as a bundle holds them: two over one file of weights, stored in the precision that is asked for.

The judging graph is the explaining one with all outputs but the embedding taken off, so the two cannot drift apart.
Nothing here needs torch.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Precision = Literal["fp32", "fp16", "int8"]
"""How weights are stored. fp16 halves the file and int8 quarters it; arithmetic is float32 either way."""

INLINE = 1024
"""Tensors of fewer bytes stay in the graph, where shape arithmetic needs them."""

Array = npt.NDArray[Any]


def files(model: onnx.ModelProto, stem: str) -> dict[str, bytes]:
    """The files of a trunk: `<stem>.judge.onnx`, `<stem>.weights` and, where the graph explains, `<stem>.explain.onnx`.

    Args:
        model: gives the embedding, and what explanations need; it is taken apart.
    """
    weights = externalise(model, f"{stem}.weights")
    explaining = {f"{stem}.explain.onnx": model.SerializeToString()} if len(model.graph.output) > 1 else {}
    embedding = [output for output in model.graph.output if output.name == "embedding"]
    del model.graph.output[:]
    model.graph.output.extend(embedding)
    prune(model)
    return {f"{stem}.judge.onnx": model.SerializeToString(), **explaining, f"{stem}.weights": weights}


def load(folder: Path, stem: str) -> onnx.ModelProto:
    """A trunk's graph with its weights in it: the explaining one where the bundle has it, else the judging one."""
    explaining = folder / f"{stem}.explain.onnx"
    return onnx.load(explaining if explaining.is_file() else folder / f"{stem}.judge.onnx")


def widen(model: onnx.ModelProto) -> None:
    """Undo `narrow`: weights in float32 again, as the runtime would make them when it loads."""
    weights = {initializer.name: initializer for initializer in model.graph.initializer}
    kept: list[onnx.NodeProto] = []
    gone: set[str] = set()
    for node in model.graph.node:
        wide = None
        if node.op_type == "Cast" and node.input[0] in weights and node.attribute[0].i == TensorProto.FLOAT:
            wide = numpy_helper.to_array(weights[node.input[0]]).astype(np.float32)
        elif node.op_type == "Mul" and node.input[0] in gone and node.input[1] in weights:
            wide = numpy_helper.to_array(weights[node.input[0]]) * numpy_helper.to_array(weights[node.input[1]])
        if wide is None:
            kept.append(node)
            continue
        gone.update((*node.input, node.output[0]))
        weights[node.output[0]] = numpy_helper.from_array(wide, node.output[0])
    del model.graph.node[:]
    model.graph.node.extend(kept)
    used = {name for node in kept for name in node.input} | {output.name for output in model.graph.output}
    del model.graph.initializer[:]
    model.graph.initializer.extend(weight for name, weight in weights.items() if name in used)


def narrow(model: onnx.ModelProto, precision: Precision) -> None:
    """Store large float32 weights in fewer bytes, widened again by nodes that the runtime folds away when it loads."""
    if precision == "fp32":
        return
    narrower = _half if precision == "fp16" else _byte
    wider, scales = [], []
    for initializer in model.graph.initializer:
        if initializer.data_type != TensorProto.FLOAT or _bytes(initializer) < INLINE:
            continue
        name = initializer.name
        found = narrower(numpy_helper.to_array(initializer))
        if found is None:
            continue
        values, scale = found
        initializer.CopyFrom(numpy_helper.from_array(values, f"{name}.narrow"))
        wide = name if scale is None else f"{name}.wide"
        wider.append(helper.make_node("Cast", [f"{name}.narrow"], [wide], name=f"{name}.widen", to=TensorProto.FLOAT))
        if scale is not None:
            scales.append(numpy_helper.from_array(scale, f"{name}.scale"))
            wider.append(helper.make_node("Mul", [wide, f"{name}.scale"], [name], name=f"{name}.rescale"))
    model.graph.initializer.extend(scales)
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(wider + nodes)


def _half(values: Array) -> tuple[Array, Array | None] | None:
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    return (half, None) if np.isfinite(half).all() else None


def _byte(values: Array) -> tuple[Array, Array | None] | None:
    """Whole numbers from -127 to 127 with a scale for each row or column, whichever loses less; vectors as float16."""
    if values.ndim < 2:
        return _half(values)
    best: tuple[float, Array, Array] | None = None
    for axis in range(2 if values.ndim == 2 else 1):
        others = tuple(other for other in range(values.ndim) if other != axis)
        largest = np.abs(values).max(axis=others, keepdims=True)
        scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
        whole = np.round(values / scale).astype(np.int8)
        lost = float(np.square(values - whole * scale).sum())
        if best is None or lost < best[0]:
            best = lost, whole, scale
    assert best is not None
    return best[1], best[2]


def externalise(model: onnx.ModelProto, file: str) -> bytes:
    """Move large weights into one blob that graphs point into; returns it."""
    # Its content is handed over without a copy: the largest networks fit into memory once, hardly twice.
    blob = io.BytesIO()
    for initializer in model.graph.initializer:
        if _bytes(initializer) < INLINE:
            continue
        raw = np.ascontiguousarray(numpy_helper.to_array(initializer)).tobytes()
        # Aligned as memory maps like it.
        blob.write(b"\0" * (-blob.tell() % 64))
        place = {"location": file, "offset": str(blob.tell()), "length": str(len(raw))}
        blob.write(raw)
        for field in ("raw_data", "float_data", "int64_data", "int32_data", "double_data"):
            initializer.ClearField(field)
        initializer.data_location = TensorProto.EXTERNAL
        del initializer.external_data[:]
        for key, value in place.items():
            entry = initializer.external_data.add()
            entry.key, entry.value = key, value
    return blob.getvalue()


def prune(model: onnx.ModelProto) -> None:
    """Drop nodes and weights that no output needs."""
    needed = {output.name for output in model.graph.output}
    kept = []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    del model.graph.node[:]
    model.graph.node.extend(reversed(kept))
    weights = [initializer for initializer in model.graph.initializer if initializer.name in needed]
    del model.graph.initializer[:]
    model.graph.initializer.extend(weights)


def _bytes(initializer: onnx.TensorProto) -> int:
    return int(np.prod(initializer.dims)) * helper.tensor_dtype_to_np_dtype(initializer.data_type).itemsize
