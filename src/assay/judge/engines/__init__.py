"""Runtimes that can run a bundle's graphs, one file each. `assay.judge.engine.Engine` stands above them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

Batch = npt.NDArray[np.float32]
Runtime = Literal["onnxruntime", "openvino", "openvino-bf16"]
"""What runs graphs. "openvino-bf16" multiplies in bfloat16, where the processor can; its scores differ."""

Choice = Literal["auto", Runtime]
"""What may be asked for: a runtime, or the one that is taken unless something else was found to be faster here."""

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
