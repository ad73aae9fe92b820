"""ONNX Runtime: comes with assay, reads every bundle, and is what figures are measured with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnxruntime

from assay.errors import AssayError
from assay.judge.engines import Batch

# `assay` keeps ONNX Runtime from reporting to its makers; this does too, where it was imported before assay.
onnxruntime.disable_telemetry_events()

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def version() -> str:
    """Name and version."""
    return f"onnxruntime {onnxruntime.__version__}"


def providers(device: str) -> list[Any]:
    """What runs on a device, by preference.

    Raises:
        AssayError: kind "device": no such device, or "cuda" is not there.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise AssayError(f"no device called {device!r}; known: auto, cpu, cuda", kind="device")
    found = CUDA in onnxruntime.get_available_providers()
    if device == "cuda" and not found:
        raise AssayError(
            "this ONNX Runtime can't use a GPU: install onnxruntime-gpu in place of onnxruntime, or take device cpu",
            kind="device",
        )
    if device == "cpu" or not found:
        return [CPU]
    # TF32 would move scores by more than the parity that bundles are held to.
    return [(CUDA, {"use_tf32": "0"}), CPU]


class Loaded:
    """A graph, as `assay.judge.engines.Session` has it.

    Args:
        threads: of one run, the one that calls included.
        providers: from `providers`.
    """

    def __init__(self, graph: Path, *, threads: int, providers: Sequence[Any]) -> None:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Idle threads that spin take the cores that decode the next pictures.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Batches differ in size; a plan of memory for each of them would be kept for nothing.
        options.enable_mem_pattern = False
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(str(graph), options, providers=list(providers))
        self.inputs = tuple(value.name for value in self._session.get_inputs())
        self.outputs = tuple(value.name for value in self._session.get_outputs())

    def run(self, names: Sequence[str], inputs: Mapping[str, Batch]) -> list[Batch]:
        outputs: list[Batch] = self._session.run(list(names), dict(inputs))
        return outputs


def outputs_of(graph: Path) -> dict[str, list[int | str | None]]:
    """The shape of each output, by name; open dimensions are names or None."""
    options = onnxruntime.SessionOptions()
    # Nothing will be run: as it is on disk, the graph is known in milliseconds, and no weights are read.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(graph), options, providers=[CPU])
    return {output.name: output.shape for output in session.get_outputs()}
