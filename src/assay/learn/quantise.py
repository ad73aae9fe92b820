"""A trunk's graph in int8: layers that multiply 8-bit views of their input by 8-bit weights (extra "export").

ONNX Runtime's own tools write it, as pairs of nodes that quantise and dequantise (QDQ), which ONNX Runtime and OpenVINO
both read. NNCF was tried beside them and left out: on a trained RegNet its graphs moved scores further and ran no
faster, and it brings ten libraries and tells its makers of each call over the network. What was chosen, and why:

- activations as unsigned bytes, weights as signed ones of 7 bits: without VNNI a processor adds up products of 8 bits
  in 16 and overflows in silence, and a graph must mean the same everywhere;
- a scale for each channel of the weights, and for each activation the whole range that calibration rows show;
- the output of a matrix product is not quantised once more, which is most of what a transformer loses otherwise;
- products of two activations (attention) stay in float.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnxruntime import quantization

from assay.judge.engines import Batch
from assay.judge.engines.onnxruntime import CPU
from assay.learn import graph

KINDS = ("Conv", "MatMul", "Gemm")
"""The layers that are quantised, where one factor is stored."""

_PREPARED = "onnx.quant.pre_process"


class Quantiser:
    """Makes int8 graphs of one trunk, with any of its layers kept in float.

    Args:
        model: the trunk, with its weights, as `assay.learn.graph.load` gives it; taken apart.
        views: gives the batches that calibrate it, (n, 3, S, S) float32, anew each time.
        scratch: a folder of its own, for files meanwhile.
    """

    def __init__(self, model: onnx.ModelProto, views: Callable[[], Iterator[Batch]], scratch: Path) -> None:
        self._views = views
        self._scratch = scratch
        self._flat = scratch / "flat.onnx"
        self.layers = self._flatten(model)
        """Names of its layers, in order."""

    def quantised(self, keep: Collection[str]) -> onnx.ModelProto:
        """The graph in int8 but for the layers that `keep` names, with its weights."""
        return onnx.load(self._make("whole.onnx", nodes_to_exclude=list(keep)))

    def frailest(
        self, told: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float64]], step: Callable[[], None]
    ) -> list[str]:
        """Its layers, first the one that, quantised alone, moves most what is told of embeddings.

        Args:
            told: embeddings (n, d) to numbers (n, any).
            step: called after each layer.
        """
        views = next(self._views())
        expected = told(_run(self._flat, views))
        moved = {}
        for layer in self.layers:
            alone = self._make("alone.onnx", nodes_to_quantize=[layer])
            moved[layer] = float(np.abs(told(_run(alone, views)) - expected).mean())
            step()
        return sorted(moved, key=lambda layer: -moved[layer])

    def _flatten(self, model: onnx.ModelProto) -> tuple[str, ...]:
        """Write the graph as ONNX Runtime simplifies it: constants folded, norms taken into the layers before."""
        graph.widen(model)
        plain = self._scratch / "plain.onnx"
        (self._scratch / "plain.weights").write_bytes(graph.externalise(model, "plain.weights"))
        plain.write_bytes(model.SerializeToString())
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(self._flat)
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "flat.weights")
        options.add_session_config_entry(
            "session.optimized_model_external_initializers_min_size_in_bytes", str(graph.INLINE)
        )
        options.log_severity_level = 4
        onnxruntime.InferenceSession(str(plain), options, providers=[CPU])
        flat = onnx.load(self._flat, load_external_data=False)
        # Says that it was simplified already; else the tools ask for that in the root logger.
        flat.metadata_props.add(key=_PREPARED, value="onnxruntime.quant")
        stored = {weight.name for weight in flat.graph.initializer}
        for number, node in enumerate(flat.graph.node):
            node.name = f"{number}-{node.op_type}"
        self._flat.write_bytes(flat.SerializeToString())
        return tuple(node.name for node in flat.graph.node if node.op_type in KINDS and set(node.input[1:2]) & stored)

    def _make(self, name: str, **which: Any) -> Path:
        out = self._scratch / name
        for old in (out, out.with_name(f"{name}.data")):
            old.unlink(missing_ok=True)
        quantization.quantize_static(
            self._flat,
            out,
            _Reader(self._views()),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=list(KINDS),
            per_channel=True,
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            use_external_data_format=True,
            # The ranges are those of the float graph, whichever layers are kept: they are looked for once.
            calibration_cache_path=self._scratch / "ranges.json",
            extra_options={"MatMulConstBOnly": True, "OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"]},
            **which,
        )
        return out


class _Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, views: Iterator[Batch]) -> None:
        self._left = views

    def get_next(self) -> dict[str, Batch] | None:
        views = next(self._left, None)
        return None if views is None else {"views": views}


def _run(file: Path, views: Batch) -> npt.NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(file), options, providers=[CPU])
    found: npt.NDArray[np.float32] = session.run(["embedding"], {"views": views})[0]
    return found
