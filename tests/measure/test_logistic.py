"""The logistic regression against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest

from assay.measure import logistic


def problem(n: int, features: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    table = random.normal(size=(n, features)) * random.uniform(0.1, 50, features) + random.normal(size=features)
    odds = (table - table.mean(0)) / table.std(0) @ random.normal(size=features) - 1.5
    return table, (random.random(n) < 1 / (1 + np.exp(-odds))).astype(int)


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize(("n", "features", "ridge"), [(300, 4, 1.0), (80, 200, 10.0), (500, 3, 1e-3)])
def test_it_predicts_what_scikit_learn_predicts(n: int, features: int, ridge: float, balanced: bool) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    pipeline = pytest.importorskip("sklearn.pipeline")
    table, labels = problem(n, features)
    reference = pipeline.make_pipeline(
        preprocessing.StandardScaler(),
        linear_model.LogisticRegression(
            C=1 / ridge, class_weight="balanced" if balanced else None, max_iter=10_000, tol=1e-10
        ),
    ).fit(table, labels)
    model = logistic.fit(table, labels, ridge=ridge, balanced=balanced)
    further, _ = problem(50, features, seed=9)
    assert model.predict(further) == pytest.approx(reference.predict_proba(further)[:, 1], abs=1e-4)
    assert model.weights == pytest.approx(reference[-1].coef_[0], rel=1e-3, abs=1e-4)


def test_the_solution_has_no_slope_left() -> None:
    table, labels = problem(200, 5)
    model = logistic.fit(table, labels, ridge=2.0, balanced=False)
    standard = (table - table.mean(0)) / table.std(0)
    error = model.predict(table) - labels
    assert standard.T @ error + 2.0 * model.weights == pytest.approx(np.zeros(5), abs=1e-6)
    assert error.sum() == pytest.approx(0, abs=1e-6)


def test_classes_that_can_be_separated_still_have_a_finite_answer() -> None:
    model = logistic.fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1], ridge=1e-6)
    assert np.isfinite(model.weights).all()
    assert model.predict([[0.0], [3.0]]) == pytest.approx([0, 1], abs=0.01)


def test_a_constant_feature_gets_no_weight_and_large_numbers_do_not_overflow() -> None:
    table = np.array([[7.1, 1e12], [7.1, 2e12], [7.1, 3e12], [7.1, 9e12]])
    model = logistic.fit(table, [0, 1, 0, 1])
    assert model.weights[0] == 0
    assert np.isfinite(model.predict(table * 1e6)).all()


def test_balanced_classes_put_an_average_row_of_useless_features_at_one_half() -> None:
    table = np.random.default_rng(0).normal(size=(1000, 1))
    labels = np.arange(1000) % 10 == 0
    assert logistic.fit(table, labels, ridge=1e6, balanced=True).predict([[0.0]])[0] == pytest.approx(0.5, abs=0.01)
    assert logistic.fit(table, labels, ridge=1e6, balanced=False).predict([[0.0]])[0] == pytest.approx(0.1, abs=0.01)


def test_a_missing_class_is_refused() -> None:
    with pytest.raises(ValueError, match="rows of both classes"):
        logistic.fit([[1.0], [2.0]], [1, 1])
