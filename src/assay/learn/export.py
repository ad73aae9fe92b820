"""From a trained trunk to the files of a bundle: two ONNX graphs over one file of weights.

The explaining graph gives the feature map and, where the network has a class token, the last block's attention beside
the embedding; the judging graph is the same graph with those outputs taken off, so the two cannot drift apart. What
both store is what is measured: a precision below fp32 is applied to the weights here, before any figure is taken.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from assay.learn.nn.backbones import Trunk

Precision = Literal["fp32", "fp16", "int8"]
"""How weights are stored. fp16 halves the file and int8 quarters it; arithmetic is float32 either way."""

OPSET = 20

INLINE = 1024
"""Tensors of fewer bytes stay in the graph, where shape arithmetic needs them."""


class Explained(nn.Module):
    """A trunk with what an explanation needs.

    forward: (n, 3, size, size) to embedding (n, dim), features (n, c, h, w) and, for networks with a class token,
    attention (n, heads, tokens, tokens) of the last block.
    """

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.trunk = trunk
        self.names = ["embedding", "features"] + (["attention"] if trunk.class_token else [])

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        attention: list[Tensor] = []
        hook = None
        if self.trunk.class_token:
            # Without fused attention, timm passes the softmax of the scores through this layer.
            last: Any = self.trunk.network.blocks[-1].attn.attn_drop
            hook = last.register_forward_hook(lambda module, args, output: attention.append(output))
        features = self.trunk.features(x)
        if hook is not None:
            hook.remove()
        return (self.trunk.embed(features, x), self.trunk.as_map(features, x), *attention)


def export(trunk: Trunk, size: int, stem: str, precision: Precision = "fp16") -> dict[str, bytes]:
    """The files of a trunk: `<stem>.judge.onnx`, `<stem>.explain.onnx` and `<stem>.weights`.

    Args:
        size: side of the views in pixels; batches may have any length.
    """
    model = _traced(trunk, size)
    if precision != "fp32":
        _narrow(model, _half if precision == "fp16" else _byte)
    weights = _externalise(model, f"{stem}.weights")
    explaining = model.SerializeToString()
    embedding = [output for output in model.graph.output if output.name == "embedding"]
    del model.graph.output[:]
    model.graph.output.extend(embedding)
    _prune(model)
    return {
        f"{stem}.judge.onnx": model.SerializeToString(),
        f"{stem}.explain.onnx": explaining,
        f"{stem}.weights": weights,
    }


def parity(
    trunk: Trunk, run: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]], size: int, count: int = 3
) -> float:
    """The largest difference between torch's embeddings and a runtime's, relative to the largest embedding.

    Measured on random views.

    Args:
        run: views (count, 3, size, size) to embeddings (count, dim).
    """
    views = np.random.default_rng(0).standard_normal((count, 3, size, size)).astype(np.float32)
    with _at_rest(trunk), torch.no_grad():
        expected = trunk(torch.from_numpy(views)).numpy()
    return float(np.abs(run(views) - expected).max() / max(1e-6, np.abs(expected).max()))


def _traced(trunk: Trunk, size: int) -> onnx.ModelProto:
    explained = Explained(trunk)
    with _at_rest(trunk), _plain_attention(trunk), warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            explained.eval(),
            (torch.randn(2, 3, size, size),),
            input_names=["views"],
            output_names=explained.names,
            dynamic_shapes=({0: torch.export.Dim("n", min=1)},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    # Names of source files and lines of the machine that exported it do not belong in a bundle.
    del model.graph.value_info[:]
    del model.metadata_props[:]
    graph = model.graph
    for part in (graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        del part.metadata_props[:]
        part.doc_string = ""
    return model


@contextlib.contextmanager
def _at_rest(trunk: Trunk) -> Iterator[None]:
    """The trunk on the CPU and in evaluation mode for the while."""
    was_training, device = trunk.training, next(itertools.chain(trunk.parameters(), trunk.buffers())).device
    trunk.eval().cpu()
    try:
        yield
    finally:
        trunk.train(was_training).to(device)


@contextlib.contextmanager
def _plain_attention(trunk: Trunk) -> Iterator[None]:
    """Attention as separate steps for the while, so that its softmax can be read."""
    modules: list[Any] = [module for module in trunk.modules() if hasattr(module, "fused_attn")]
    before = [module.fused_attn for module in modules]
    for module in modules:
        module.fused_attn = False
    try:
        yield
    finally:
        for module, fused in zip(modules, before, strict=True):
            module.fused_attn = fused


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


Array = npt.NDArray[Any]


def _narrow(model: onnx.ModelProto, narrower: Callable[[Array], tuple[Array, Array | None] | None]) -> None:
    """Store large float32 weights in fewer bytes, widened again by nodes that the runtime folds away when it loads.

    Args:
        narrower: values to fewer bytes, and what these are to be multiplied with; None leaves them as they are.
    """
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


def _externalise(model: onnx.ModelProto, file: str) -> bytes:
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


def _prune(model: onnx.ModelProto) -> None:
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
