from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

from assay.judge import heads
from assay.judge.heads import LinearHead, MLPHead, NearestHead, OneClassHead


@pytest.fixture
def embeddings():
    random = np.random.default_rng(3)
    labels = np.arange(300) % 2
    rows = random.normal(size=(300, 24)) * np.linspace(0.1, 5, 24) + 0.6 * labels[:, None] + 2
    return rows.astype(np.float32), labels


def test_linear_head_gives_the_logit_of_a_logistic_regression(embeddings):
    rows, labels = embeddings
    fitted = LogisticRegression(C=0.316, max_iter=2000).fit(rows, labels)
    head = LinearHead(fitted.coef_[0], fitted.intercept_[0])
    np.testing.assert_allclose(head.raw(rows), fitted.decision_function(rows), rtol=1e-5, atol=1e-5)


def test_linear_head_folds_the_scaling_of_features_into_its_weights(embeddings):
    rows, labels = embeddings
    scaler = StandardScaler().fit(rows)
    fitted = LogisticRegression(max_iter=2000).fit(scaler.transform(rows), labels)
    head = LinearHead.standardised(fitted.coef_[0], fitted.intercept_[0], scaler.mean_, scaler.scale_)
    np.testing.assert_allclose(head.raw(rows), fitted.decision_function(scaler.transform(rows)), rtol=1e-4, atol=1e-4)


def test_nearest_head_is_the_difference_of_the_distances_to_the_nearest_real_and_fake(embeddings):
    rows, labels = embeddings
    known, queries = rows[:200], rows[200:]
    reals, fakes = known[labels[:200] == 0], known[labels[:200] == 1]
    expected = [
        NearestNeighbors(n_neighbors=1, metric="cosine").fit(of).kneighbors(queries)[0] for of in (reals, fakes)
    ]
    raw = NearestHead(reals, fakes).raw(queries)
    np.testing.assert_allclose(raw, (expected[0] - expected[1])[:, 0], atol=1e-6)


def test_the_sign_of_nearest_head_is_the_verdict_of_one_nearest_neighbour(embeddings):
    rows, labels = embeddings
    fitted = KNeighborsClassifier(n_neighbors=1, metric="cosine").fit(rows[:200], labels[:200])
    head = NearestHead(rows[:200][labels[:200] == 0], rows[:200][labels[:200] == 1])
    np.testing.assert_array_equal(head.raw(rows[200:]) > 0, fitted.predict(rows[200:]) == 1)


def test_nearest_head_gives_the_same_in_small_steps_as_at_once(embeddings, monkeypatch):
    rows, _ = embeddings
    head = NearestHead(rows[:50], rows[50:120])
    at_once = head.raw(rows)
    monkeypatch.setattr(heads, "_PAIRS", 1000)
    np.testing.assert_allclose(head.raw(rows), at_once, atol=1e-6)


def test_nearest_head_stored_as_float16_moves_scores_by_little(embeddings):
    rows, _ = embeddings
    exact = NearestHead(rows[:50], rows[50:120]).raw(rows[120:])
    stored = NearestHead(rows[:50].astype(np.float16), rows[50:120].astype(np.float16))
    assert stored.to_arrays("s")["s.reals"].dtype == np.float16
    np.testing.assert_allclose(stored.raw(rows[120:]), exact, atol=1e-3)


def test_nearest_head_calls_a_reference_real_nearest_to_itself_and_an_embedding_of_zeros_neither():
    head = NearestHead(np.eye(4)[:2], np.eye(4)[2:])
    assert head.raw(np.array([[5.0, 0, 0, 0]])) == pytest.approx(-1)
    assert head.raw(np.array([[0, 0, 0.1, 0]])) == pytest.approx(1)
    assert head.raw(np.zeros((1, 4))) == 0


@pytest.mark.parametrize(("degree", "coef0"), [(3, 0.0), (2, 1.0)])
def test_one_class_head_is_minus_the_decision_of_a_one_class_svm(embeddings, degree, coef0):
    rows, labels = embeddings
    fitted = OneClassSVM(kernel="poly", nu=0.1, gamma="auto", degree=degree, coef0=coef0).fit(rows[labels == 0])
    head = OneClassHead(
        support=fitted.support_vectors_,
        dual=fitted.dual_coef_[0],
        intercept=fitted.intercept_[0],
        gamma=1 / rows.shape[1],
        degree=degree,
        coef0=coef0,
    )
    expected = -fitted.decision_function(rows)
    np.testing.assert_allclose(head.raw(rows), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("hidden", [(7,), (9, 5, 3)])
def test_mlp_head_gives_the_output_of_a_fitted_perceptron(embeddings, hidden):
    rows, labels = embeddings
    fitted = MLPRegressor(hidden_layer_sizes=hidden, max_iter=20, random_state=0).fit(rows.astype(np.float64), labels)
    head = MLPHead(tuple(fitted.coefs_), tuple(fitted.intercepts_))
    expected = fitted.predict(rows.astype(np.float64))
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(head.raw(rows), expected, rtol=0, atol=1e-9)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_mlp_head_folds_the_scaling_of_features_into_its_first_layer(embeddings):
    rows, labels = embeddings
    scaler = StandardScaler().fit(rows.astype(np.float64))
    scaled = scaler.transform(rows.astype(np.float64))
    fitted = MLPRegressor(hidden_layer_sizes=(8, 4), max_iter=20, random_state=0).fit(scaled, labels)
    head = MLPHead.standardised(fitted.coefs_, fitted.intercepts_, scaler.mean_, scaler.scale_)
    assert (head.width, len(head.weights)) == (24, 3)
    np.testing.assert_allclose(head.raw(rows), fitted.predict(scaled), rtol=0, atol=1e-9)


def test_an_mlp_head_of_one_layer_is_a_linear_head(embeddings):
    rows, _ = embeddings
    weights = np.linspace(-1, 1, 24)
    raw = MLPHead((weights[:, None],), (np.array([0.5]),)).raw(rows)
    # No rectifier after the last layer.
    assert raw.min() < 0 < raw.max()
    np.testing.assert_allclose(raw, LinearHead(weights, 0.5).raw(rows), rtol=1e-12)


def some_head(kind: str, random: np.random.Generator) -> heads.Head:
    if kind == "linear":
        return LinearHead(random.normal(size=5), 0.25)
    if kind == "nearest":
        return NearestHead(random.normal(size=(4, 5)), random.normal(size=(3, 5)))
    if kind == "mlp":
        return MLPHead(
            (random.normal(size=(5, 4)), random.normal(size=(4, 1))), (random.normal(size=4), random.normal(size=1))
        )
    return OneClassHead(random.normal(size=(4, 5)), random.normal(size=4), 0.5, 0.2, 3, 0.1)


@pytest.mark.parametrize("kind", heads.KINDS)
def test_a_head_survives_its_arrays(kind):
    random = np.random.default_rng(0)
    head = some_head(kind, random)
    arrays = head.to_arrays("code") | {"other.weights": np.ones(3)}
    again = heads.KINDS[kind].from_arrays("code", arrays)
    rows = random.normal(size=(7, 5)).astype(np.float32)
    assert again.width == 5
    assert again.kind == kind
    np.testing.assert_array_equal(again.raw(rows), head.raw(rows))


@pytest.mark.parametrize("kind", heads.KINDS)
def test_a_head_refuses_to_be_made_of_arrays_with_one_missing_not_finite_or_of_another_shape(kind):
    arrays = some_head(kind, np.random.default_rng(0)).to_arrays("code")
    for key, array in arrays.items():
        alike = (np.full(array.shape, np.nan), np.full(array.shape, 1j))
        for spoilt in (None, *alike, np.ones((2, 2, 2)), np.array(["a"])):
            changed = {name: value for name, value in arrays.items() if name != key}
            if spoilt is not None:
                changed[key] = spoilt
            with pytest.raises(ValueError, match=key.split(".")[1]):
                heads.KINDS[kind].from_arrays("code", changed)


def test_heads_refuse_parts_that_do_not_fit_together():
    with pytest.raises(ValueError, match="wide"):
        NearestHead(np.ones((2, 3)), np.ones((2, 4)))
    with pytest.raises(ValueError, match="coefficients"):
        OneClassHead(np.ones((2, 3)), np.ones(3), 0, 1)
    with pytest.raises(ValueError, match="degree"):
        OneClassHead(np.ones((2, 3)), np.ones(2), 0, 1, degree=0)


@pytest.mark.parametrize(
    ("weights", "biases", "message"),
    [
        ([], [], "0 layers have weights"),
        ([(5, 1)], [1, 1], "1 layers have weights, 2 have biases"),
        ([(5, 4), (3, 1)], [4, 1], r"layer 1 has weights of shape \(3, 1\), not \(4, 1\)"),
        ([(5, 4), (4, 1)], [3, 1], r"layer 0 has weights of shape \(5, 4\), not \(5, 3\)"),
        ([(5, 4), (4, 2)], [4, 2], "the last layer gives 2 numbers, not one logit"),
    ],
)
def test_layers_that_do_not_fit_together_make_no_mlp_head(weights, biases, message):
    with pytest.raises(ValueError, match=message):
        MLPHead(tuple(np.ones(shape) for shape in weights), tuple(np.ones(width) for width in biases))


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("layers", "message"),
    [(10**18, "weights2"), (3, "weights2"), (1, "the last layer gives 4"), (0, "0 layers"), (-1, "0 layers")],
)
def test_an_mlp_head_of_another_number_of_layers_than_it_has_is_refused_at_once(layers, message):
    arrays = some_head("mlp", np.random.default_rng(0)).to_arrays("code") | {"code.layers": np.asarray(layers)}
    with pytest.raises(ValueError, match=message):
        MLPHead.from_arrays("code", arrays)
