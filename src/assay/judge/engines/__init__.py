"""Runtimes that can run a bundle's graphs, one file each. `assay.judge.engine.Engine` stands above them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from assay.types import Runtime

Batch = npt.NDArray[np.float32]

RUNTIMES: tuple[Runtime, ...] = ("onnxruntime", "openvino", "openvino-bf16")

EXACT: tuple[Runtime, ...] = ("onnxruntime", "openvino")
"""Those that compute in float32, and can be held to the same scores."""


class Session(Protocol):
    """A graph that is loaded. Several threads may run it at a time."""

    @property
    def inputs(self) -> tuple[str, ...]: ...
    @property
    def outputs(self) -> tuple[str, ...]: ...
    def run(self, names: Sequence[str], inputs: Mapping[str, Batch]) -> list[Batch]:
        """The outputs of these names, in their order. What it raises has no common root but Exception."""
