"""From a trained trunk to the files of a bundle: two ONNX graphs over one file of weights.

The explaining graph gives the feature map and, where the network has a class token, the last block's attention beside
the embedding; the judging graph is the same graph with those outputs taken off, so the two cannot drift apart. What
both store is what is measured: a precision below fp32 is applied to the weights here, before any figure is taken.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor, nn

from assay.image.quiet import hushed
from assay.image.view import View
from assay.learn.graph import INLINE as INLINE
from assay.learn.graph import Precision as Precision
from assay.learn.graph import files, narrow
from assay.learn.nn.backbones import Trunk

OPSET = 20

_LOUD = ("torch.onnx", "onnxscript")
"""Loggers that tell of every export what is no fault."""


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
    narrow(model, precision)
    return files(model, stem)


def parity(
    trunk: Trunk, run: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]], size: int, count: int = 3
) -> float:
    """The largest difference between torch's embeddings and a runtime's, relative to the largest embedding.

    Measured on views of random pixels.

    Args:
        run: views (count, 3, size, size) to embeddings (count, dim).
    """
    pixels = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    views = View(size=size).tensor(pixels)
    with _at_rest(trunk), torch.no_grad():
        expected = trunk(torch.from_numpy(views)).numpy()
    return float(np.abs(run(views) - expected).max() / max(1e-6, np.abs(expected).max()))


def _traced(trunk: Trunk, size: int) -> onnx.ModelProto:
    explained = Explained(trunk)
    with _at_rest(trunk), _plain_attention(trunk), warnings.catch_warnings(), hushed(_LOUD, logging.ERROR):
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
