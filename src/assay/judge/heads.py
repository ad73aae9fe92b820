"""Heads: from an embedding to a raw score, in NumPy.

Each of the three heads of CoDE (Baraldi et al., ECCV 2024, section 3.3: linear, nearest neighbour, one-class SVM) and
DFCon's perceptron (arXiv 2501.16704, stage 2) is here as plain arrays. Whatever fitted them, a raw score is any real
number, higher = more likely fake; calibration makes a probability of it.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

# Similarities held at one time by `NearestHead`: 32 MiB of float32.
_PAIRS = 1 << 23

# Kinds of array that hold real numbers: signed, unsigned, floating.
_REAL = "iuf"


class Head(Protocol):
    """What every head does."""

    kind: ClassVar[str]

    @property
    def width(self) -> int:
        """Width d of the embeddings it takes."""

    def raw(self, embedding: Array) -> Floats:
        """Raw scores, shape (n,), of embeddings, shape (n, d); higher = more fake."""

    def to_arrays(self, name: str) -> dict[str, Array]:
        """The head as named arrays, `name.field`."""

    @classmethod
    def from_arrays(cls, name: str, arrays: Mapping[str, Array]) -> Self:
        """The head whose fields are `arrays[name.field]`. Raises ValueError where they make no head."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class LinearHead:
    """A logit: embedding · weights + bias.

    Args:
        weights: shape (d,).
        bias: added to every logit.
    """

    kind: ClassVar[str] = "linear"

    weights: Floats
    bias: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", _finite("weights", self.weights, 1))
        object.__setattr__(self, "bias", _number("bias", self.bias))

    @classmethod
    def standardised(cls, weights: npt.ArrayLike, bias: float, mean: npt.ArrayLike, scale: npt.ArrayLike) -> Self:
        """The head that first takes `(embedding - mean) / scale`, all of shape (d,), folded into one product."""
        folded = np.asarray(weights, np.float64) / np.asarray(scale, np.float64)
        return cls(folded, float(bias - np.asarray(mean, np.float64) @ folded))

    @property
    def width(self) -> int:
        return len(self.weights)

    def raw(self, embedding: Array) -> Floats:
        """Logits, shape (n,), of embeddings, shape (n, d)."""
        scores: Floats = embedding.astype(np.float64) @ self.weights + self.bias
        return scores

    def to_arrays(self, name: str) -> dict[str, Array]:
        return {f"{name}.weights": self.weights, f"{name}.bias": np.asarray(self.bias)}

    @classmethod
    def from_arrays(cls, name: str, arrays: Mapping[str, Array]) -> Self:
        return cls(_taken(arrays, name, "weights"), float(_scalar(arrays, name, "bias")))


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class NearestHead:
    """Cosine distance to the nearest known real minus that to the nearest known fake, in [-2, 2].

    Its sign is the verdict of a 1-nearest-neighbour classifier, and its size says how clear the case is.

    Args:
        reals: references, shape (r, d), r >= 1; rows need not have length 1. float16 stores half and costs little.
        fakes: references, shape (f, d), f >= 1.
    """

    kind: ClassVar[str] = "nearest"

    reals: Array
    fakes: Array
    _unit: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] = dataclasses.field(init=False, repr=False)

    def __post_init__(self) -> None:
        for field in ("reals", "fakes"):
            object.__setattr__(self, field, _finite(field, getattr(self, field), 2, keep=True))
        if self.reals.shape[1] != self.fakes.shape[1]:
            raise ValueError(f"reals are {self.reals.shape[1]} wide, fakes {self.fakes.shape[1]}")
        object.__setattr__(self, "_unit", (_directions(self.reals), _directions(self.fakes)))

    @property
    def width(self) -> int:
        return int(self.reals.shape[1])

    def raw(self, embedding: Array) -> Floats:
        """Differences of distance, shape (n,), of embeddings, shape (n, d). Exact: every reference is looked at."""
        reals, fakes = self._unit
        queries = _directions(embedding)
        scores = np.empty(len(queries))
        step = max(1, _PAIRS // max(len(reals), len(fakes)))
        for start in range(0, len(queries), step):
            part = queries[start : start + step]
            to_fake = (part @ fakes.T).max(axis=1).astype(np.float64)
            scores[start : start + step] = to_fake - (part @ reals.T).max(axis=1)
        return scores

    def to_arrays(self, name: str) -> dict[str, Array]:
        return {f"{name}.reals": self.reals, f"{name}.fakes": self.fakes}

    @classmethod
    def from_arrays(cls, name: str, arrays: Mapping[str, Array]) -> Self:
        return cls(_taken(arrays, name, "reals"), _taken(arrays, name, "fakes"))


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class OneClassHead:
    """A one-class SVM fitted on reals: minus its decision value, so that outliers score high.

    Decision: Σ_i dual_i (gamma · embedding · support_i + coef0) ^ degree + intercept (Schölkopf et al., "Estimating
    the Support of a High-Dimensional Distribution", 2001, with a polynomial kernel).

    Args:
        support: support vectors, shape (s, d), s >= 1.
        dual: their coefficients, shape (s,).
        intercept, gamma, coef0, degree: as above; degree >= 1.
    """

    kind: ClassVar[str] = "one_class"

    support: Floats
    dual: Floats
    intercept: float
    gamma: float
    degree: int = 3
    coef0: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "support", _finite("support", self.support, 2))
        object.__setattr__(self, "dual", _finite("dual", self.dual, 1))
        for field in ("intercept", "gamma", "coef0"):
            object.__setattr__(self, field, _number(field, getattr(self, field)))
        if len(self.support) != len(self.dual):
            raise ValueError(f"{len(self.support)} support vectors for {len(self.dual)} coefficients")
        if self.degree < 1:
            raise ValueError(f"degree must be at least 1, not {self.degree}")

    @property
    def width(self) -> int:
        return int(self.support.shape[1])

    def raw(self, embedding: Array) -> Floats:
        """Minus the decision values, shape (n,), of embeddings, shape (n, d)."""
        kernel = (self.gamma * (embedding.astype(np.float64) @ self.support.T) + self.coef0) ** self.degree
        scores: Floats = -(kernel @ self.dual + self.intercept)
        return scores

    def to_arrays(self, name: str) -> dict[str, Array]:
        numbers = {field: np.asarray(getattr(self, field)) for field in ("intercept", "gamma", "degree", "coef0")}
        arrays = {"support": self.support, "dual": self.dual, **numbers}
        return {f"{name}.{field}": array for field, array in arrays.items()}

    @classmethod
    def from_arrays(cls, name: str, arrays: Mapping[str, Array]) -> Self:
        return cls(
            support=_taken(arrays, name, "support"),
            dual=_taken(arrays, name, "dual"),
            intercept=float(_scalar(arrays, name, "intercept")),
            gamma=float(_scalar(arrays, name, "gamma")),
            degree=int(_scalar(arrays, name, "degree")),
            coef0=float(_scalar(arrays, name, "coef0")),
        )


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class MLPHead:
    """A multi-layer perceptron: affine layers with a rectifier between them; the last one gives a logit.

    Args:
        weights: of each layer, shape (in, out), the first (d, ·), the last (·, 1).
        biases: of each layer, shape (out,).
    """

    kind: ClassVar[str] = "mlp"

    weights: tuple[Floats, ...]
    biases: tuple[Floats, ...]

    def __post_init__(self) -> None:
        for field, axes in (("weights", 2), ("biases", 1)):
            layers = tuple(_finite(f"{field}{n}", array, axes) for n, array in enumerate(getattr(self, field)))
            object.__setattr__(self, field, layers)
        if not self.weights or len(self.weights) != len(self.biases):
            raise ValueError(f"{len(self.weights)} layers have weights, {len(self.biases)} have biases")
        widths = [self.width, *(len(bias) for bias in self.biases)]
        for number, (layer, shape) in enumerate(zip(self.weights, itertools.pairwise(widths), strict=True)):
            if layer.shape != shape:
                raise ValueError(f"layer {number} has weights of shape {layer.shape}, not {shape}")
        if widths[-1] != 1:
            raise ValueError(f"the last layer gives {widths[-1]} numbers, not one logit")

    @classmethod
    def standardised(
        cls,
        weights: Sequence[npt.ArrayLike],
        biases: Sequence[npt.ArrayLike],
        mean: npt.ArrayLike,
        scale: npt.ArrayLike,
    ) -> Self:
        """The head that first takes `(embedding - mean) / scale`, all of shape (d,), folded into the first layer."""
        first = np.asarray(weights[0], np.float64) / np.asarray(scale, np.float64)[:, None]
        shifted = np.asarray(biases[0], np.float64) - np.asarray(mean, np.float64) @ first
        rest = [np.asarray(array, np.float64) for array in weights[1:]]
        return cls((first, *rest), (shifted, *(np.asarray(array, np.float64) for array in biases[1:])))

    @property
    def width(self) -> int:
        return len(self.weights[0])

    def raw(self, embedding: Array) -> Floats:
        """Logits, shape (n,), of embeddings, shape (n, d)."""
        values: Floats = embedding.astype(np.float64)
        for number, (weights, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            values = (np.maximum(values, 0) if number else values) @ weights + bias
        return values[:, 0]

    def to_arrays(self, name: str) -> dict[str, Array]:
        arrays: dict[str, Array] = {f"{name}.layers": np.asarray(len(self.weights))}
        for number, (weights, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            arrays |= {f"{name}.weights{number}": weights, f"{name}.biases{number}": bias}
        return arrays

    @classmethod
    def from_arrays(cls, name: str, arrays: Mapping[str, Array]) -> Self:
        layers = range(int(_scalar(arrays, name, "layers")))
        return cls(
            tuple(_taken(arrays, name, f"weights{number}") for number in layers),
            tuple(_taken(arrays, name, f"biases{number}") for number in layers),
        )


KINDS: dict[str, type[LinearHead] | type[NearestHead] | type[OneClassHead] | type[MLPHead]] = {
    "linear": LinearHead,
    "nearest": NearestHead,
    "one_class": OneClassHead,
    "mlp": MLPHead,
}
"""The heads by the word that a card uses for them."""


def _directions(rows: Array) -> npt.NDArray[np.float32]:
    """Rows scaled to length 1, float32; a row of zeros has no direction and stays zero."""
    vectors: npt.NDArray[np.float32] = rows.astype(np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors /= np.where(lengths > 0, lengths, np.float32(1))
    return vectors


def _finite(field: str, values: npt.ArrayLike, axes: int, *, keep: bool = False) -> Array:
    array = np.asarray(values)
    if array.ndim != axes or not array.size:
        raise ValueError(f"{field} must have {axes} axes and at least one value, not shape {array.shape}")
    if array.dtype.kind not in _REAL or not np.isfinite(array).all():
        raise ValueError(f"{field} must hold finite numbers only")
    return array if keep else array.astype(np.float64)


def _number(field: str, value: float) -> float:
    if not np.isfinite(value):
        raise ValueError(f"{field} must be a finite number, not {value}")
    return float(value)


def _taken(arrays: Mapping[str, Array], name: str, field: str) -> Array:
    key = f"{name}.{field}"
    if key not in arrays:
        raise ValueError(f"array {key!r} is missing")
    return arrays[key]


def _scalar(arrays: Mapping[str, Array], name: str, field: str) -> Any:
    array = _taken(arrays, name, field)
    if array.shape != () or array.dtype.kind not in _REAL or not np.isfinite(array):
        raise ValueError(f"array '{name}.{field}' must be one finite number, not {array.dtype} of shape {array.shape}")
    return array.item()
