"""Fitting heads: scikit-learn's numbers, on rows drawn as training draws them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import OneClassSVM

from assay.errors import ManifestError, RecipeError
from assay.image.alter import T
from assay.image.augment import Augment, Transform
from assay.image.view import View
from assay.judge.heads import Head, LinearHead, MLPHead, NearestHead, OneClassHead
from assay.learn import tiles
from assay.learn.descend import Data
from assay.learn.embed import Kept
from assay.learn.fit import Fitted, fit, linear, mlp, nearest, one_class
from assay.learn.recipe import MLP, Backbone, Fit, Linear, Nearest, OneClass, Recipe, Stream, Tiles
from assay.metrics import auc
from assay.types import Label
from tiny import OfViews

ALL = (Linear(), Nearest(), OneClass(), MLP(hidden=(4,), epochs=2))


def drawn(rows: int = 300, width: int = 12, seed: int = 0) -> tuple[Any, Any]:
    """Embeddings of two overlapping classes, un-normalised, a fifth of them fakes; and their labels."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(rows) % 5 == 0).astype(np.int64)
    centre = np.where(labels[:, None] == 1, rng.normal(size=width), rng.normal(size=width))
    return 2 * centre + rng.normal(size=(rows, width)) * rng.uniform(0.5, 2, (rows, 1)), labels


# ── linear ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("settings", [{}, {"C": 3.0, "balanced": False}])
def test_the_linear_head_is_scikit_learns_decision_function(settings: dict[str, Any]) -> None:
    embeddings, labels = drawn()
    head = linear(embeddings, labels, Linear(**settings))
    options = {"C": 0.316, "balanced": True} | settings
    model = LogisticRegression(
        C=options["C"], class_weight="balanced" if options["balanced"] else None, max_iter=1500
    ).fit(embeddings, labels)
    assert np.allclose(head.raw(embeddings), model.decision_function(embeddings), atol=1e-9)
    assert np.mean(head.raw(embeddings)[labels == 1]) > np.mean(head.raw(embeddings)[labels == 0])


def test_a_row_that_weighs_double_counts_as_two() -> None:
    embeddings, labels = drawn()
    weights = np.where(np.arange(len(labels)) % 3 == 0, 2.0, 1.0)
    twice = np.concatenate([np.arange(len(labels)), np.flatnonzero(weights == 2)])
    settings = Linear(C=1.0, balanced=False)
    weighed = linear(embeddings, labels, settings, weights=weights)
    repeated = linear(embeddings[twice], labels[twice], settings)
    assert weighed.raw(embeddings) == pytest.approx(repeated.raw(embeddings), abs=1e-3)
    # Targets that are the labels change nothing of it.
    told = linear(embeddings, labels, settings, targets=labels.astype(np.float64), weights=weights)
    assert told.raw(embeddings) == pytest.approx(weighed.raw(embeddings), abs=1e-3)


def test_a_standardised_head_does_not_care_for_the_scale_of_any_number() -> None:
    embeddings, labels = drawn()
    settings = Linear(C=0.01, standardised=True)
    stretched = embeddings * np.linspace(1, 8, embeddings.shape[1]) + 3
    one, other = linear(embeddings, labels, settings), linear(stretched, labels, settings)
    assert other.raw(stretched) == pytest.approx(one.raw(embeddings), abs=1e-4)
    plain = Linear(C=0.01)
    apart = linear(stretched, labels, plain).raw(stretched) - linear(embeddings, labels, plain).raw(embeddings)
    assert np.abs(apart).max() > 0.1


def test_a_number_that_hardly_ever_differs_does_not_decide_alone() -> None:
    embeddings, labels = drawn()
    embeddings[:, 0] = 0
    embeddings[0, 0] = 1e-6
    head = linear(embeddings, labels, Linear(C=0.01, standardised=True))
    far = embeddings[:1].copy()
    far[0, 0] = 1
    assert np.abs(head.raw(far) - head.raw(embeddings[:1])) < 1e2


@pytest.mark.parametrize("balanced", [True, False])
def test_targets_that_are_the_labels_give_the_head_of_the_labels(balanced: bool) -> None:
    embeddings, labels = drawn()
    settings = Linear(balanced=balanced)
    hard, soft = linear(embeddings, labels, settings), linear(embeddings, labels, settings, labels.astype(np.float64))
    # The rows come in another order, which moves the last digits.
    assert soft.raw(embeddings) == pytest.approx(hard.raw(embeddings), abs=1e-3)


def test_a_head_fitted_to_targets_says_what_they_say() -> None:
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(4000, 3))
    logits = embeddings @ np.array([1.0, -0.5, 0.0]) + 0.25
    targets = 1 / (1 + np.exp(-logits))
    labels = (targets >= 0.5).astype(np.int64)
    head = linear(embeddings, labels, Linear(C=1e6, balanced=False), targets)
    assert head.raw(embeddings) == pytest.approx(logits, abs=1e-2)
    # Labels alone would be told apart without a doubt.
    hard = linear(embeddings, labels, Linear(C=1e6, balanced=False))
    assert np.abs(hard.raw(embeddings)).mean() > 10 * np.abs(logits).mean()


# ── nearest ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
def test_the_sign_of_the_nearest_head_is_scikit_learns_nearest_neighbour(scale: float) -> None:
    embeddings, labels = drawn()
    head = nearest(scale * embeddings, labels, Nearest())
    model = KNeighborsClassifier(1, metric="cosine").fit(embeddings, labels)
    queries, _ = drawn(400, seed=1)
    raw = head.raw(scale * queries)
    # References in float16 are off by 5e-4 of their length at most.
    clear = np.abs(raw) > 1e-3
    assert clear.mean() > 0.97
    assert np.array_equal((raw > 0)[clear], model.predict(queries)[clear] == 1)
    assert 0.1 < np.mean(raw > 0) < 0.9


def test_the_nearest_head_keeps_every_row_as_a_direction_in_float16() -> None:
    embeddings, labels = drawn()
    head = nearest(embeddings, labels, Nearest())
    assert (len(head.reals), len(head.fakes)) == (240, 60)
    assert head.reals.dtype == head.fakes.dtype == np.float16
    assert np.linalg.norm(head.fakes.astype(np.float64), axis=1) == pytest.approx(1, abs=1e-3)
    # A row among the references is its own neighbour.
    assert np.array_equal(head.raw(embeddings) > 0, labels == 1)


def test_of_more_rows_than_wanted_references_each_class_keeps_its_share() -> None:
    embeddings, labels = drawn()
    few, again, other = (nearest(embeddings, labels, Nearest(most=50), seed) for seed in (0, 0, 1))
    assert (len(few.reals), len(few.fakes)) == (40, 10)
    assert np.array_equal(few.reals, again.reals)
    assert not np.array_equal(few.reals, other.reals)
    everything = nearest(embeddings, labels, Nearest())
    assert {row.tobytes() for row in few.fakes} <= {row.tobytes() for row in everything.fakes}
    rare = np.zeros_like(labels)
    rare[7] = 1
    assert len(nearest(embeddings, rare, Nearest(most=10)).fakes) == 1


# ── one-class ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "settings", [{}, {"nu": 0.3, "degree": 2, "coef0": 1.0}, {"gamma": "scale"}, {"gamma": 0.5, "degree": 1}]
)
def test_the_one_class_head_is_minus_scikit_learns_decision_function_fitted_on_reals(settings: dict[str, Any]) -> None:
    embeddings, labels = drawn()
    head = one_class(embeddings, labels, OneClass(**settings))
    model = OneClassSVM(kernel="poly", **({"nu": 0.1, "gamma": "auto"} | settings)).fit(embeddings[labels == 0])
    queries, _ = drawn(200, seed=1)
    expected = model.decision_function(queries)
    assert head.raw(queries) == pytest.approx(-expected, abs=1e-6 * np.abs(expected).max())
    assert np.array_equal(head.raw(queries) > 0, model.predict(queries) == -1)


def test_no_fake_has_a_say_in_a_one_class_head() -> None:
    embeddings, labels = drawn()
    moved = np.where(labels[:, None] == 1, 100.0, embeddings)
    one, other = (one_class(rows, labels, OneClass()) for rows in (embeddings, moved))
    assert np.array_equal(one.raw(embeddings), other.raw(embeddings))


@pytest.mark.parametrize("scale", [1e-1, 1e-2])
def test_a_one_class_head_on_small_numbers_says_what_it_says_of_large_ones(scale: float) -> None:
    embeddings, labels = drawn()
    queries, _ = drawn(200, seed=1)
    expected = one_class(embeddings, labels, OneClass()).raw(queries)
    found = one_class(scale * embeddings, labels, OneClass()).raw(scale * queries)
    # The kernel, and the decision with it, shrinks by the sixth power.
    assert found / scale**6 == pytest.approx(expected, abs=2e-2 * np.abs(expected).max())


def test_a_one_class_head_is_fitted_on_so_many_reals_at_most() -> None:
    embeddings, labels = drawn()
    few, again, other = (one_class(embeddings, labels, OneClass(nu=0.9, most=40), seed) for seed in (0, 0, 1))
    # With nu 0.9 nine reals of ten that it saw are support vectors, or more.
    assert 36 <= len(few.support) <= 40
    assert np.array_equal(few.support, again.support)
    assert not np.array_equal(few.support, other.support)


@pytest.mark.parametrize("rows", [np.zeros((4, 3)), np.ones((4, 3)), np.eye(4)[:, :3], np.full((4, 3), 1e4)])
def test_a_one_class_head_on_hardly_anything_still_gives_numbers(rows: Any) -> None:
    head = one_class(rows, np.array([0, 0, 0, 1]), OneClass())
    assert np.isfinite(head.raw(rows)).all()


def test_numbers_that_run_out_of_range_end_in_advice() -> None:
    embeddings, labels = drawn()
    with pytest.raises(RecipeError, match=r"heads.one_class.gamma to scale"):
        one_class(embeddings * 1e100, labels, OneClass())


# ── perceptron ───────────────────────────────────────────────────────────────────────────────────────────────────────


def crossed(rows: int = 400, seed: int = 0) -> tuple[Any, Any]:
    """Embeddings whose label is the exclusive or of two signs, far from 0 and of unlike scales; and the labels."""
    rng = np.random.default_rng(seed)
    signs = rng.integers(0, 2, (rows, 2))
    around = 2 * signs - 1 + 0.3 * rng.normal(size=(rows, 2))
    return np.array([100.0, -3.0]) + around * np.array([50.0, 1e-3]), signs[:, 0] ^ signs[:, 1]


def test_a_perceptron_learns_an_exclusive_or_that_no_linear_head_can() -> None:
    embeddings, labels = crossed()
    fresh, truth = crossed(seed=1)
    assert auc(truth, mlp(embeddings, labels, MLP(hidden=(16,), learning_rate=1e-2)).raw(fresh)) > 0.99
    assert auc(truth, linear(embeddings, labels, Linear()).raw(fresh)) < 0.65


def test_a_perceptron_is_its_seeds() -> None:
    embeddings, labels = crossed()
    settings = MLP(hidden=(8, 4), epochs=3)
    one, again, other = (mlp(embeddings, labels, settings, seed).raw(embeddings) for seed in (0, 0, 1))
    assert np.array_equal(one, again)
    assert not np.allclose(one, other)


def test_a_perceptron_has_the_shape_that_its_recipe_says() -> None:
    embeddings, labels = crossed(40)
    head = mlp(embeddings, labels, MLP(hidden=(8, 4), epochs=2))
    assert [layer.shape for layer in head.weights] == [(2, 8), (8, 4), (4, 1)]
    assert head.width == 2


def test_a_perceptron_on_numbers_that_never_change_still_gives_numbers() -> None:
    embeddings, labels = crossed(40)
    embeddings[:, 1] = 5.0
    assert np.isfinite(mlp(embeddings, labels, MLP(epochs=2)).raw(embeddings)).all()


# ── a stream's heads ─────────────────────────────────────────────────────────────────────────────────────────────────


def fitted(recipe: Recipe, data: Data, engine: Any, stage: Fit, seed: int = 0) -> Fitted:
    return fit(recipe.streams[0], stage, recipe.shown("a"), data.samples, data.store, engine, seed=seed, workers=2)


@pytest.mark.parametrize("altered", [0, 1, 3])
def test_classes_count_alike_and_every_row_gives_its_views(
    recipe: Recipe, data: Callable[[str], Data], mean_engine: Any, altered: int
) -> None:
    stage = Fit(stream="a", records=10, altered=altered)
    found = fitted(recipe, data("train"), mean_engine, stage)
    assert found.embeddings.shape == (10 * (1 + altered), 3)
    assert found.labels.tolist() == [0] * 5 * (1 + altered) + [1] * 5 * (1 + altered)
    assert len(np.unique(found.pictures)) == 10
    assert found.heads["a"].width == 3


def test_all_heads_of_a_stream_are_fitted_on_one_set_of_embeddings(
    recipe: Recipe, data: Callable[[str], Data], mean_engine: Any
) -> None:
    found = fitted(recipe.set(a__heads=ALL), data("train"), mean_engine, Fit(stream="a", records=16, altered=1))
    assert list(found.heads) == ["a", "a-nearest", "a-one_class", "a-mlp"]
    expected: dict[str, Head] = {
        "a": linear(found.embeddings, found.labels, Linear()),
        "a-nearest": nearest(found.embeddings, found.labels, Nearest()),
        "a-one_class": one_class(found.embeddings, found.labels, OneClass()),
        "a-mlp": mlp(found.embeddings, found.labels, MLP(hidden=(4,), epochs=2)),
    }
    for name, head in found.heads.items():
        assert type(head) is type(expected[name])
        assert np.array_equal(head.raw(found.embeddings), expected[name].raw(found.embeddings))


def test_a_nearest_head_is_checked_on_pictures_that_are_not_among_its_references() -> None:
    rng = np.random.default_rng(0)
    # Two views of each picture, labels by lot: whoever looks a picture up knows it, everybody else is at a loss.
    embeddings = np.repeat(rng.normal(size=(800, 8)), 2, axis=0) + 0.01 * rng.normal(size=(1600, 8))
    labels, pictures = np.repeat(rng.integers(0, 2, 800), 2), np.repeat(np.arange(800), 2)
    named = Stream(name="a", view=View(size=32), backbone=Backbone(), heads=ALL).named
    heads: dict[str, Head] = {
        "a": linear(embeddings, labels, Linear()),
        "a-nearest": nearest(embeddings, labels, Nearest()),
    }
    found = Fitted(named, heads, embeddings, labels, pictures)
    raw, truth = found.known("a-nearest")
    assert len(raw) == len(truth) == 200
    assert np.mean((raw > 0) == (truth == 1)) == pytest.approx(0.5, abs=0.12)
    raw, truth = found.known("a")
    assert np.array_equal(raw, heads["a"].raw(embeddings))
    assert np.array_equal(truth, labels)


def test_no_more_rows_are_taken_than_the_smaller_class_has(
    recipe: Recipe, data: Callable[[str], Data], mean_engine: Any
) -> None:
    train = data("train")
    rows = [row for row, sample in enumerate(train.samples) if sample.label == Label.REAL or row == 1 or row == 3]
    samples = [dataclasses.replace(s, label=s.label if row in rows else None) for row, s in enumerate(train.samples)]
    stage = Fit(stream="a", records=1000, altered=0)
    found = fitted(recipe, Data(samples, train.store), mean_engine, stage)
    assert len(found.embeddings) == 4
    assert found.labels.tolist() == [0, 0, 1, 1]


def test_the_seed_and_nothing_else_decides_what_a_head_is_fitted_on(
    recipe: Recipe, data: Callable[[str], Data], mean_engine: Any
) -> None:
    # All rows, so that the seed can show in where they are cut only, not in which are taken.
    stage = Fit(stream="a", records=16, altered=1)
    one, again, other = (fitted(recipe, data("train"), mean_engine, stage, seed).embeddings for seed in (0, 0, 1))
    assert np.array_equal(one, again)
    assert not np.allclose(np.sort(one, axis=0), np.sort(other, axis=0))


def test_a_head_cannot_be_fitted_on_one_class(recipe: Recipe, data: Callable[[str], Data], mean_engine: Any) -> None:
    train = data("train")
    reals = [dataclasses.replace(sample, label=Label.REAL) for sample in train.samples]
    with pytest.raises(ManifestError, match="both classes"):
        fitted(recipe, Data(reals, train.store), mean_engine, Fit(stream="a"))


def test_fitted_heads_come_back_from_their_arrays_as_they_were() -> None:
    embeddings, labels = drawn()
    made: list[LinearHead | NearestHead | OneClassHead | MLPHead] = [
        linear(embeddings, labels, Linear()),
        mlp(embeddings, labels, MLP(epochs=2)),
        nearest(embeddings, labels, Nearest()),
        one_class(embeddings, labels, OneClass()),
    ]
    for head in made:
        again = type(head).from_arrays("a", head.to_arrays("a"))
        assert np.array_equal(again.raw(embeddings), head.raw(embeddings))


# ── a teacher ────────────────────────────────────────────────────────────────────────────────────────────────────────


def taught(data: Data, scores: list[str]) -> Data:
    rows = [dataclasses.replace(s, groups={"teacher": told}) for s, told in zip(data.samples, scores, strict=True)]
    return Data(rows, data.store)


def test_a_linear_head_is_fitted_to_what_a_teacher_says_and_other_heads_to_labels(
    recipe: Recipe, data: Callable[[str], Data], mean_engine: Any
) -> None:
    train = data("train")
    scores = np.round(np.random.default_rng(0).uniform(size=len(train.samples)), 3)
    told, both = taught(train, [str(score) for score in scores]), recipe.set(a__heads=[Linear(), Nearest()])
    for weight in (1.0, 0.25):
        found = fitted(both, told, mean_engine, Fit(stream="a", records=16, altered=1, teacher=weight))
        targets = (1 - weight) * found.labels + weight * scores[found.pictures]
        expected = linear(found.embeddings, found.labels, Linear(), targets)
        assert np.array_equal(found.heads["a"].raw(found.embeddings), expected.raw(found.embeddings))
        by_label = nearest(found.embeddings, found.labels, Nearest())
        assert np.array_equal(found.heads["a-nearest"].raw(found.embeddings), by_label.raw(found.embeddings))
    plain = fitted(both, told, mean_engine, Fit(stream="a", records=16, altered=1))
    assert not np.allclose(plain.heads["a"].raw(plain.embeddings), expected.raw(plain.embeddings))


@pytest.mark.parametrize("scores", [["0.5"] * 15 + [""], [""] * 16])
def test_a_teacher_that_said_nothing_of_some_rows_is_refused(
    scores: list[str], recipe: Recipe, data: Callable[[str], Data], mean_engine: Any
) -> None:
    stage = Fit(stream="a", records=16, altered=0, teacher=0.5)
    with pytest.raises(ManifestError, match=r"fit\.teacher asks for the column teacher, .* make it with assay distill"):
        fitted(recipe, taught(data("train"), scores), mean_engine, stage)


# ── kept embeddings ──────────────────────────────────────────────────────────────────────────────────────────────────


class Counted(OfViews):
    """An engine that counts the views it was shown."""

    def __init__(self, engine: Any) -> None:
        self.engine, self.views = engine, 0

    def run(self, batch: Any) -> Any:
        self.views += len(batch)
        return self.engine.run(batch)


def refitted(recipe: Recipe, data: Data, engine: Any, folder: Path, upstream: str = "graph", seed: int = 0) -> Fitted:
    stage, kept = recipe.fit("a"), Kept(folder, "a", upstream)
    shown = recipe.shown("a")
    return fit(recipe.streams[0], stage, shown, data.samples, data.store, engine, seed=seed, workers=1, kept=kept)


def test_another_head_on_the_same_network_is_fitted_without_running_it(
    recipe: Recipe, data: Callable[[str], Data], mean_engine: Any, tmp_path: Path
) -> None:
    train, engine = data("train"), Counted(mean_engine)
    first = refitted(recipe, train, engine, tmp_path)
    assert engine.views == 32
    again = refitted(recipe, train, engine, tmp_path)
    other = refitted(recipe.set(a__heads=[Nearest()]), train, engine, tmp_path)
    assert engine.views == 32
    assert np.array_equal(again.embeddings, first.embeddings)
    assert np.array_equal(again.heads["a"].raw(first.embeddings), first.heads["a"].raw(first.embeddings))
    # What is kept is what a head is fitted on, to the bit.
    fresh = fit(
        recipe.streams[0],
        recipe.fit("a"),
        recipe.shown("a"),
        train.samples,
        train.store,
        mean_engine,
        seed=0,
        workers=1,
    )
    assert np.array_equal(other.embeddings, fresh.embeddings)
    assert np.array_equal(other.pictures, fresh.pictures)


GREY = Augment((Transform("ToGray", 1.0, {}),))


@pytest.mark.parametrize(
    "change",
    [
        {"upstream": "another graph"},
        {"seed": 1},
        {"fit__altered": 2},
        {"fit__records": 8},
        {"descend__alter__max_ops": 2},
        {"descend__augment": GREY},
        {"descend__crops__base": 40},
        {"descend__source_power": 0.5},
        {"descend__secondary_weight": 2.0},
        {"a__view__layout": "centre"},
        {"a__view__size": 24},
        {"rows": True},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_embeddings_follow_from_makes_them_anew_and_the_old_ones_go(
    change: dict[str, Any], recipe: Recipe, data: Callable[[str], Data], mean_engine: Any, tmp_path: Path
) -> None:
    train, engine = data("train"), Counted(mean_engine)
    refitted(recipe, train, engine, tmp_path)
    (tmp_path / "a.scored.0.npz").write_bytes(b"of tuning rows")
    (before,) = tmp_path.glob("a.fitted.*.npz")
    seen, given = engine.views, dict(change)
    options = {name: given.pop(name) for name in ("upstream", "seed") if name in given}
    if given.pop("rows", False):
        other = tuple(sha256[::-1] for sha256 in train.store.sha256)
        train = Data(train.samples, dataclasses.replace(train.store, sha256=other))
    refitted(recipe.set(**given), train, engine, tmp_path, **options)
    assert engine.views > seen
    (after,) = tmp_path.glob("a.fitted.*.npz")
    assert after != before
    assert sorted(path.name for path in tmp_path.iterdir()) == [after.name, "a.scored.0.npz"]


def test_another_seed_cuts_the_same_pictures_elsewhere_so_it_has_embeddings_of_its_own(
    recipe: Recipe, data: Callable[[str], Data], mean_engine: Any, tmp_path: Path
) -> None:
    train, engine = data("train"), Counted(mean_engine)
    # With one picture of each class, no seed draws others.
    two = [dataclasses.replace(s, label=s.label if row < 2 else None) for row, s in enumerate(train.samples)]
    one, other = (refitted(recipe, Data(two, train.store), engine, tmp_path, seed=seed) for seed in (0, 1))
    assert engine.views == 8
    assert not np.array_equal(one.embeddings, other.embeddings)


@pytest.mark.parametrize(
    "change",
    [
        {"a__heads": [Nearest()]},
        {"a__pool": "top"},
        {"calibrate__fpr": 0.1},
        {"descend__optimiser__learning_rate": 1.0},
        {"fit__teacher": 0.0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_embeddings_do_not_follow_from_leaves_them(
    change: dict[str, Any], recipe: Recipe, data: Callable[[str], Data], mean_engine: Any, tmp_path: Path
) -> None:
    engine = Counted(mean_engine)
    refitted(recipe, data("train"), engine, tmp_path)
    refitted(recipe.set(**change), data("train"), engine, tmp_path)
    assert engine.views == 32


# ── a layer that was trained with the network ────────────────────────────────────────────────────────────────────────


def test_a_trained_layer_is_the_head_as_it_is_and_others_are_fitted_beside_it(
    recipe: Recipe, data: Callable[[str], Data], mean_engine: Any
) -> None:
    asked = recipe.set(a__heads=[Linear(trained=True), Nearest()])
    layer, train = LinearHead(np.array([1.0, -2.0, 0.5]), 0.25), data("train")
    stage, shown = Fit(stream="a", records=16, altered=1), asked.shown("a")
    found = fit(
        asked.streams[0], stage, shown, train.samples, train.store, mean_engine, seed=0, workers=1, trained=layer
    )
    assert found.heads["a"] is layer
    assert np.array_equal(
        found.heads["a-nearest"].raw(found.embeddings),
        nearest(found.embeddings, found.labels, Nearest()).raw(found.embeddings),
    )
    # A regression is made where none is asked for, whatever was trained.
    plain = fit(
        recipe.streams[0], stage, shown, train.samples, train.store, mean_engine, seed=0, workers=1, trained=layer
    )
    expected = linear(plain.embeddings, plain.labels, Linear())
    assert np.array_equal(plain.heads["a"].raw(plain.embeddings), expected.raw(plain.embeddings))


def test_a_trained_layer_that_there_is_not_is_refused(
    recipe: Recipe, data: Callable[[str], Data], mean_engine: Any
) -> None:
    with pytest.raises(RecipeError, match=r"heads\.linear\.trained asks for a trained layer, and the network is not"):
        fitted(recipe.set(a__heads=[Linear(trained=True)]), data("train"), mean_engine, Fit(stream="a"))


# ── views of the whole ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_view_of_the_whole_is_fitted_on_whole_pictures_plain_and_altered(
    recipe: Recipe, data: Callable[[str], Data], tmp_path: Path
) -> None:
    shown = []

    class Kept(OfViews):
        def run(self, batch: Any) -> Any:
            shown.append(batch)
            return batch.mean(axis=(2, 3))

    samples, view = data("train").samples, View(size=32, layout="whole")
    grey = T(max_ops=1, size=32, resize=None, crop="random", operations=("greyscale",))
    asked = recipe.set(a__view=view, descend__alter=grey, descend__crops__base=None)
    store = tiles.build(samples, Tiles(side=64), tmp_path, seed=0, workers=0, view=view)
    stage, engine = Fit(stream="a", records=16, altered=2), Kept()
    found: Any = engine
    fit(asked.streams[0], stage, asked.shown("a"), samples, store, found, seed=0, workers=1)
    expected = [view.tensor(view.fitted(store.tile(row, 0))[None])[0] for row in range(len(samples))]
    assert len(shown) == 16
    for batch in shown:
        assert len(batch) == 3
        assert any(np.array_equal(batch[0], whole) for whole in expected)
        # Without chance to draw an operation it is the plain view, with one it is grey: never a part of it.
        (whole,) = (whole for whole in expected if np.array_equal(batch[0], whole))
        for other in batch[1:]:
            same = np.array_equal(other, whole)
            levels = other * np.array(view.std)[:, None, None] + np.array(view.mean)[:, None, None]
            assert same or np.ptp(levels, axis=0).max() < 0.02
