"""Running a trunk: ONNX Runtime behind two calls, one to judge and one to explain."""

from __future__ import annotations

import concurrent.futures
import functools
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnxruntime

from assay.errors import AssayError, BundleError

Batch = npt.NDArray[np.float32]
Device = Literal["auto", "cpu", "cuda"]

CROPS, CROPS_GPU = 16, 32
"""Most crops in work at a time. More take memory in proportion and are no faster on a CPU: runs of 4 to 8 are the
fastest, as their activations stay in its caches."""

LANES = 2
"""Parts of a batch that a CPU runs side by side. Cores that share the layers of one run wait for each other after each
layer: on two cores, two runs of one thread each took 11 % less processor time than one run of two threads."""


def runtime() -> str:
    """Name and version of what runs the graphs, for a card."""
    return f"onnxruntime {onnxruntime.__version__}"


def length_of(graph: Path) -> int | None:
    """Length of the embedding that a graph gives; None where it leaves that open.

    Raises:
        BundleError: it is no graph that can be run.
    """
    options = onnxruntime.SessionOptions()
    # Nothing will be run: as it is on disk, the graph is known in milliseconds, and no weights are read.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        shapes = {output.name: output.shape for output in session.get_outputs()}
    except Exception as error:  # ONNX Runtime's errors share no root
        raise BundleError(f"{graph.name} can't be run: {error}", kind="invalid") from error
    length = (shapes.get("embedding") or [None])[-1]
    return length if isinstance(length, int) else None


class Engine:
    """One trunk of a bundle. Sessions are made on first use; calls from several threads are safe.

    Args:
        folder: a bundle's folder whose hashes have been checked (see `bundle.read`). ONNX Runtime itself refuses
            weights that lie outside it.
        stem: the trunk.
        threads: cores for one batch; None for all physical ones that this process may use.
        device: "auto" takes a CUDA GPU where this ONNX Runtime has one.
        crops: most crops in work at a time; None for `CROPS`, or `CROPS_GPU` on a GPU.

    Raises:
        AssayError: kind "device": "cuda" was asked for and is not there.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        stem: str,
        threads: int | None = None,
        device: Device = "auto",
        crops: int | None = None,
    ) -> None:
        self._graphs = {kind: Path(folder) / f"{stem}.{kind}.onnx" for kind in ("judge", "explain")}
        self._providers = _providers(device)
        cores = threads or _cores()
        on_cpu = len(self._providers) == 1
        self.crops = crops or (CROPS if on_cpu else CROPS_GPU)
        self._lanes = min(LANES, cores, self.crops) if on_cpu else 1
        # The threads that call share a session's own, and work with them.
        self._threads = cores - self._lanes + 1
        self._pool = concurrent.futures.ThreadPoolExecutor(self._lanes, thread_name_prefix="assay-run")
        self._sessions: dict[str, Any] = {}
        self._making = threading.Lock()

    def run(self, batch: Batch) -> npt.NDArray[np.float32]:
        """Embeddings, shape (n, d) float32, of views, shape (n, 3, S, S) float32, n >= 1.

        Raises:
            BundleError: kind "invalid": the graph can't be loaded or doesn't take such views.
        """
        return self._outputs("judge", self._session("judge"), ["embedding"], batch)["embedding"]

    def explain(self, batch: Batch) -> dict[str, npt.NDArray[np.float32]]:
        """What the explaining graph gives for views, shape (n, 3, S, S) float32, n >= 1.

        Returns:
            "embedding" (n, d), "features" (n, c, h, w) and, where the trunk has a class token, "attention"
            (n, heads, tokens, tokens) of its last block.

        Raises:
            BundleError: kind "missing" (the bundle has no explaining graph) or "invalid".
        """
        if not self._graphs["explain"].is_file():
            raise BundleError(
                f"this detector has no {self._graphs['explain'].name}, so it can't show where it looked", kind="missing"
            )
        session = self._session("explain")
        names = [output.name for output in session.get_outputs()]
        return self._outputs("explain", session, names, batch)

    def _outputs(self, kind: str, session: Any, names: list[str], batch: Batch) -> dict[str, npt.NDArray[np.float32]]:
        call = functools.partial(self._call, kind, session, names)
        parts = self._parts(batch)
        done = list(map(call, parts) if min(self._lanes, len(parts)) == 1 else self._pool.map(call, parts))
        return {name: np.concatenate([part[place] for part in done]) for place, name in enumerate(names)}

    def _parts(self, batch: Batch) -> list[Batch]:
        size = min(-(-len(batch) // self._lanes), self.crops // self._lanes)
        return [batch[start : start + size] for start in range(0, len(batch), size)]

    def _session(self, kind: str) -> Any:
        with self._making:
            if kind not in self._sessions:
                self._sessions[kind] = self._guarded(kind, lambda: self._load(self._graphs[kind]))
            return self._sessions[kind]

    def _load(self, graph: Path) -> Any:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        # Idle threads that spin take the cores that decode the next pictures.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Batches differ in size; a plan of memory for each of them would be kept for nothing.
        options.enable_mem_pattern = False
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(str(graph), options, providers=self._providers)
        inputs = [value.name for value in session.get_inputs()]
        outputs = [value.name for value in session.get_outputs()]
        if inputs != ["views"] or "embedding" not in outputs:
            raise ValueError(f"it takes {inputs} and gives {outputs}, not views and an embedding")
        return session

    def _call(self, kind: str, session: Any, names: list[str], part: Batch) -> list[npt.NDArray[np.float32]]:
        outputs: list[npt.NDArray[np.float32]] = self._guarded(kind, lambda: session.run(names, {"views": part}))
        return outputs

    def _guarded(self, kind: str, work: Callable[[], Any]) -> Any:
        """ONNX Runtime's errors share no root but Exception."""
        try:
            return work()
        except Exception as error:
            raise BundleError(f"{self._graphs[kind].name} can't be run: {error}", kind="invalid") from error


def _cores() -> int:
    """Physical cores that this process may use: two threads of one core share its arithmetic."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    mine = os.sched_getaffinity(0)
    cores = set()
    for number in mine:
        try:
            siblings = Path(f"/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list").read_text()
        except OSError:
            siblings = str(number)
        cores.add(siblings)
    return len(cores)


def _providers(device: Device) -> list[Any]:
    cpu = "CPUExecutionProvider"
    if device not in ("auto", "cpu", "cuda"):
        raise AssayError(f"no device called {device!r}; known: auto, cpu, cuda", kind="device")
    found = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if device == "cuda" and not found:
        raise AssayError(
            "this ONNX Runtime can't use a GPU: install onnxruntime-gpu in place of onnxruntime, or take device cpu",
            kind="device",
        )
    if device == "cpu" or not found:
        return [cpu]
    # TF32 would move scores by more than the parity that bundles are held to.
    return [("CUDAExecutionProvider", {"use_tf32": "0"}), cpu]
