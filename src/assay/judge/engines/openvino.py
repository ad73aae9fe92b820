"""OpenVINO (extra "openvino"): other kernels for the same graphs, faster for some networks on some processors.

Three things it does by itself are undone here. It multiplies in bfloat16 wherever the processor can, so the precision
is always said. It rounds activations to 8 bits in front of weights that are stored in 8, so that is switched off. Its
import tells its makers of it over the network and leaves a folder in the user's home, so the module that does that is
kept out meanwhile.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from assay.errors import AssayError, MissingExtra
from assay.judge.engines import Batch
from assay.judge.engines import onnxruntime as reference

_TELLING = "openvino_telemetry"

NEAR = 0.1
"""An int8 graph is refused where OpenVINO's embeddings of made-up views are further from ONNX Runtime's than this share
of the largest number. Where it was seen to go wrong, on a processor without VNNI, it was by a quarter and more."""

_MADE_UP = 4

_readying = threading.Lock()


def installed() -> bool:
    """Whether it can be imported; it is not imported for that."""
    return importlib.util.find_spec("openvino") is not None


def check(*, bf16: bool) -> None:
    """Whether it can do what is asked for.

    Raises:
        MissingExtra: it is not installed.
        AssayError: kind "device": bfloat16 is asked for, and the processor has no such arithmetic.
    """
    if not installed():
        raise MissingExtra("judging with OpenVINO", "openvino")
    if bf16 and not has_bf16():
        raise AssayError(
            "this processor has no arithmetic for bfloat16 (AMX or AVX-512 BF16); take engine openvino", kind="device"
        )


def has_bf16() -> bool:
    """Whether the processor multiplies bfloat16; elsewhere OpenVINO would silently take float32."""
    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class Loaded:
    """A graph, as `assay.judge.engines.Session` has it.

    Args:
        cores: for all lanes together.
        lanes: runs at a time.
        bf16: multiply in bfloat16.

    Raises:
        ValueError: it computes in int8, and OpenVINO makes something else of it here than ONNX Runtime does.
    """

    def __init__(self, graph: Path, *, cores: int, lanes: int, bf16: bool) -> None:
        model = _core().read_model(str(graph))
        self._compiled = _core().compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
                "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
                "INFERENCE_NUM_THREADS": cores,
                "NUM_STREAMS": lanes,
                # Pinned threads would hold on to the cores that decode the next pictures.
                "ENABLE_CPU_PINNING": False,
            },
        )
        self._own = threading.local()
        self.inputs = tuple(port.get_any_name() for port in self._compiled.inputs)
        self.outputs = tuple(port.get_any_name() for port in self._compiled.outputs)
        if any(node.get_type_name() == "FakeQuantize" for node in model.get_ops()):
            self._agree(graph, model)

    def run(self, names: Sequence[str], inputs: Mapping[str, Batch]) -> list[Batch]:
        # A request holds its outputs until the next run, so no two threads may share one.
        if not hasattr(self._own, "request"):
            self._own.request = self._compiled.create_infer_request()
        found = self._own.request.infer(dict(inputs), share_inputs=True)
        return [found[name] for name in names]

    def _agree(self, graph: Path, model: Any) -> None:
        shape = model.input(0).get_partial_shape()
        views = np.random.default_rng(0).standard_normal((_MADE_UP, *(side.get_length() for side in list(shape)[1:])))
        given, names = {"views": views.astype(np.float32)}, ["embedding"]
        (expected,) = reference.Loaded(graph, threads=1, providers=[reference.CPU]).run(names, given)
        (found,) = self.run(names, given)
        apart = float(np.abs(found - expected).max() / max(1e-6, float(np.abs(expected).max())))
        if not apart <= NEAR:
            raise ValueError(
                f"it computes in 8 bits, and OpenVINO's embeddings are {apart:.0%} away from ONNX Runtime's on this "
                "processor; take engine onnxruntime"
            )


def _core() -> Any:
    with _readying:
        return _ready()


@functools.cache
def _ready() -> Any:
    with _untold():
        import openvino
        from openvino import opset8

    core = openvino.Core()
    # Its Python part makes tables on first use. Two threads that are the first to run a graph then wait for each other
    # for ever: one has Python's lock, the other that of a table.
    views = opset8.parameter([1], np.float32)
    tiny = core.compile_model(openvino.Model([opset8.relu(views)], [views]), "CPU")
    tiny.create_infer_request().infer({0: np.zeros(1, np.float32)}, share_inputs=True)
    return core


@contextlib.contextmanager
def _untold() -> Iterator[None]:
    """Keeps out what tells OpenVINO's makers that it was imported; without it, OpenVINO has a stub in its place."""
    there = _TELLING in sys.modules
    if not there:
        sys.modules[_TELLING] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if not there:
            del sys.modules[_TELLING]
