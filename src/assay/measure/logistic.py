"""Ridge-penalised logistic regression, small enough to fit wherever an evaluation runs."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True)
class Logistic:
    """A fitted model: P(fake) = σ(weights · (x − mean) / scale + offset).

    Args:
        weights, mean, scale: shape (features,).
        offset: the log-odds of an average row.
    """

    weights: Floats
    mean: Floats
    scale: Floats
    offset: float

    def predict(self, features: npt.ArrayLike) -> Floats:
        """P(fake) of each row of `features`, shape (n, features); the answer has shape (n,)."""
        standard = (np.asarray(features, dtype=np.float64) - self.mean) / self.scale
        return _sigmoid(standard @ self.weights + self.offset)


def fit(
    features: npt.ArrayLike, labels: npt.ArrayLike, *, ridge: float = 1.0, balanced: bool = True, steps: int = 100
) -> Logistic:
    """Minimise Σ wᵢ · log-loss + ½ · ridge · ‖weights‖² over standardised features, by Newton's method.

    The same objective as scikit-learn's `LogisticRegression(C=1 / ridge)` behind a `StandardScaler`: the offset is not
    penalised, and a constant feature gets no weight.

    Args:
        features: shape (n, features).
        labels: 0 or 1, shape (n,), both present.
        ridge: strength of the penalty, above 0, so that separable classes have an answer too.
        balanced: weigh the rows so that both classes count alike; else every row counts 1.
        steps: Newton steps at most; a handful is usual.

    Raises:
        ValueError: a class is absent.
    """
    table = np.asarray(features, dtype=np.float64)
    truth = np.asarray(labels, dtype=np.float64)
    counts = np.array([(truth == 0).sum(), (truth == 1).sum()])
    if not counts.all():
        raise ValueError("a logistic regression needs rows of both classes")
    importance = (len(truth) / (2 * counts))[truth.astype(np.intp)] if balanced else np.ones(len(truth))
    mean, scale = table.mean(axis=0), table.std(axis=0)
    # A constant column's deviation is zero but for rounding.
    scale[scale <= 1e-12 * np.maximum(1.0, np.abs(mean))] = 1.0
    standard = (table - mean) / scale
    basis = _row_space(standard) if standard.shape[1] > standard.shape[0] else None
    design = np.hstack([standard if basis is None else standard @ basis, np.ones((len(table), 1))])
    penalty = np.full(design.shape[1], ridge)
    penalty[-1] = 0.0

    def loss(solution: Floats) -> float:
        odds = design @ solution
        return float(importance @ (np.logaddexp(0, odds) - truth * odds) + 0.5 * penalty @ solution**2)

    solution = np.zeros(design.shape[1])
    before = loss(solution)
    for _ in range(steps):
        probability = _sigmoid(design @ solution)
        gradient = design.T @ (importance * (probability - truth)) + penalty * solution
        curvature = importance * probability * (1 - probability)
        # A matrix times its own transpose takes half the work.
        half = design * np.sqrt(curvature)[:, None]
        hessian = half.T @ half + np.diag(penalty)
        # On separable classes the offset's own curvature can vanish; a trace of it keeps the system solvable.
        hessian[-1, -1] += 1e-9
        direction = np.linalg.solve(hessian, gradient)
        pace = 1.0
        while (after := loss(solution - pace * direction)) > before and pace > 1e-6:
            pace /= 2
        if after > before:
            break
        solution = solution - pace * direction
        if before - after <= 1e-12 * max(1.0, abs(before)):
            break
        before = after
    weights = solution[:-1] if basis is None else basis @ solution[:-1]
    return Logistic(weights, mean, scale, float(solution[-1]))


def _row_space(table: Floats) -> Floats:
    """An orthonormal basis of the space the rows span, shape (features, rank).

    The best weights are a mix of the rows, so with more features than rows the problem is solved in this space.
    """
    values, vectors = np.linalg.eigh(table @ table.T)
    kept = values > 1e-10 * max(values[-1], 0.0)
    basis: Floats = table.T @ (vectors[:, kept] / np.sqrt(values[kept]))
    return basis


def _sigmoid(odds: Floats) -> Floats:
    # exp only ever sees a number below zero, so nothing overflows.
    small = np.exp(-np.abs(odds))
    probability: Floats = np.where(odds >= 0, 1, small) / (1 + small)
    return probability
