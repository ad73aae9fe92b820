"""Running a trunk: a runtime behind two calls, one to judge and one to explain."""

from __future__ import annotations

import concurrent.futures
import functools
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from assay.errors import AssayError, BundleError, unknown
from assay.image.counting import Counter
from assay.image.runs import Runs
from assay.image.view import View
from assay.judge.engines import RUNTIMES, Session, onnxruntime, openvino
from assay.judge.engines import Batch as Batch
from assay.types import Pixels, Runtime

Device = Literal["auto", "cpu", "cuda"]
Found = TypeVar("Found")

CROPS, CROPS_GPU = 16, 32
"""Most crops in work at a time. More take memory in proportion and are no faster on a CPU: runs of 4 to 8 are the
fastest, as their activations stay in its caches."""

LANES = 2
"""Parts of a batch that a CPU runs side by side. Cores that share the layers of one run wait for each other after each
layer: on two cores, two runs of one thread each took 11 % less processor time than one run of two threads."""


def runtime() -> str:
    """Name and version of what runs the graphs unless asked otherwise, for a card."""
    return onnxruntime.version()


def length_of(graph: Path) -> int | None:
    """Length of the embedding that a graph gives; None where it leaves that open.

    Raises:
        BundleError: it is no graph that can be run.
    """
    try:
        shapes = onnxruntime.outputs_of(graph)
    except Exception as error:  # ONNX Runtime's errors share no root
        raise BundleError(f"{graph.name} can't be run: {error}", kind="invalid") from error
    length = (shapes.get("embedding") or [None])[-1]
    return length if isinstance(length, int) else None


class Engine:
    """One trunk of a bundle. Sessions are made on first use; calls from several threads are safe.

    Args:
        folder: a bundle's folder whose hashes have been checked (see `bundle.read`). The runtimes themselves refuse
            weights that lie outside it.
        stem: the trunk.
        threads: cores for one batch; None for all physical ones that this process may use.
        device: "auto" takes a CUDA GPU where this ONNX Runtime has one.
        crops: most crops in work at a time; None for `CROPS`, or `CROPS_GPU` on a GPU.
        engine: the runtime. OpenVINO runs on the CPU alone, also where "auto" would have found a GPU.
        counting: what the trunk counts, if that is all it does and no runtime is to do it; explaining does with one.

    Raises:
        AssayError: kind "device": "cuda" was asked for and is not there, or not with this runtime; or bfloat16, which
            the processor has no arithmetic for.
        MissingExtra: OpenVINO is not installed.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        stem: str,
        threads: int | None = None,
        device: Device = "auto",
        crops: int | None = None,
        engine: Runtime = "onnxruntime",
        counting: Runs | None = None,
    ) -> None:
        self.runtime = _checked(engine, device)
        self._graphs = {kind: Path(folder) / f"{stem}.{kind}.onnx" for kind in ("judge", "explain")}
        self._providers = onnxruntime.providers("cpu" if _of_openvino(engine) else device)
        self._cores = threads or cores()
        self._counter = None if counting is None else Counter(counting)
        on_cpu = len(self._providers) == 1 or counting is not None
        self.crops = crops or (CROPS if on_cpu else CROPS_GPU)
        # Counting has no layers that cores could share.
        lanes = LANES if counting is None else self._cores
        self._lanes = min(lanes, self._cores, self.crops) if on_cpu else 1
        self._pool = concurrent.futures.ThreadPoolExecutor(self._lanes, thread_name_prefix="assay-run")
        self._sessions: dict[str, Session] = {}
        self._making = threading.Lock()

    def embed(self, view: View, crops: Pixels) -> npt.NDArray[np.float32]:
        """Embeddings, shape (n, d) float32, of a view's crops, shape (n, S, S, 3) uint8, n >= 1.

        Raises:
            BundleError: kind "invalid": the graph can't be loaded or doesn't take such views.
        """
        # Part by part: as float32 tensors the crops take four times the memory.
        parts = [crops[start : start + self.crops] for start in range(0, len(crops), self.crops)]
        if self._counter is not None:
            return np.concatenate([done for part in parts for done in self._spread(self._counter.embed, part)])
        return np.concatenate([self.run(view.tensor(part)) for part in parts])

    def run(self, batch: Batch) -> npt.NDArray[np.float32]:
        """Embeddings, shape (n, d) float32, of views, shape (n, 3, S, S) float32, n >= 1.

        Raises:
            BundleError: kind "invalid": the graph can't be loaded or doesn't take such views.
        """
        if self._counter is not None:
            return np.concatenate(self._spread(self._counter.embed_views, batch))
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
        return self._outputs("explain", session, session.outputs, batch)

    def _outputs(
        self, kind: str, session: Session, names: Sequence[str], batch: Batch
    ) -> dict[str, npt.NDArray[np.float32]]:
        done = self._spread(functools.partial(self._call, kind, session, names), batch)
        return {name: np.concatenate([part[place] for part in done]) for place, name in enumerate(names)}

    def _spread(self, call: Callable[[Any], Found], batch: npt.NDArray[Any]) -> list[Found]:
        """What a call makes of parts of a batch, side by side."""
        size = min(-(-len(batch) // self._lanes), self.crops // self._lanes)
        parts = [batch[start : start + size] for start in range(0, len(batch), size)]
        return list(map(call, parts) if min(self._lanes, len(parts)) == 1 else self._pool.map(call, parts))

    def _session(self, kind: str) -> Session:
        with self._making:
            if kind not in self._sessions:
                self._sessions[kind] = self._guarded(kind, lambda: self._load(self._graphs[kind]))
            return self._sessions[kind]

    def _load(self, graph: Path) -> Session:
        session: Session
        if _of_openvino(self.runtime):
            session = openvino.Loaded(graph, cores=self._cores, lanes=self._lanes, bf16=self.runtime == "openvino-bf16")
        else:
            # The threads that call share a session's own, and work with them.
            threads = self._cores - self._lanes + 1
            session = onnxruntime.Loaded(graph, threads=threads, providers=self._providers)
        if session.inputs != ("views",) or "embedding" not in session.outputs:
            found = f"{list(session.inputs)} and gives {list(session.outputs)}"
            raise ValueError(f"it takes {found}, not views and an embedding")
        return session

    def _call(self, kind: str, session: Session, names: Sequence[str], part: Batch) -> list[npt.NDArray[np.float32]]:
        outputs: list[npt.NDArray[np.float32]] = self._guarded(kind, lambda: session.run(names, {"views": part}))
        return outputs

    def _guarded(self, kind: str, work: Callable[[], Any]) -> Any:
        """The runtimes' errors share no root but Exception."""
        try:
            return work()
        except Exception as error:
            raise BundleError(f"{self._graphs[kind].name} can't be run: {error}", kind="invalid") from error


def cores() -> int:
    """Physical cores that this process may use: two threads of one core share its arithmetic."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    mine = os.sched_getaffinity(0)
    found = set()
    for number in mine:
        try:
            siblings = Path(f"/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list").read_text()
        except OSError:
            siblings = str(number)
        found.add(siblings)
    return len(found)


def on_gpu(device: Device) -> bool:
    """Whether ONNX Runtime would take a GPU for this device. Raises AssayError as `Engine` does."""
    return len(onnxruntime.providers(device)) > 1


def runtimes() -> tuple[Runtime, ...]:
    """Those that can be asked for here."""
    if not openvino.installed():
        return ("onnxruntime",)
    return RUNTIMES if openvino.has_bf16() else RUNTIMES[:2]


def _checked(engine: Runtime, device: Device) -> Runtime:
    if engine not in RUNTIMES:
        raise AssayError(unknown("engine", engine, ("auto", *RUNTIMES)), kind="device")
    if _of_openvino(engine):
        if device == "cuda":
            raise AssayError(f"{engine} runs on the CPU; take engine onnxruntime with device cuda", kind="device")
        openvino.check(bf16=engine == "openvino-bf16")
    return engine


def _of_openvino(engine: Runtime) -> bool:
    return engine != "onnxruntime"
