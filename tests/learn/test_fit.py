"""Fitting a head: scikit-learn's numbers, on rows drawn as training draws them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from assay.errors import ManifestError
from assay.learn.descend import Data
from assay.learn.fit import fit, linear
from assay.learn.recipe import Fit, Linear, Recipe
from assay.types import Label


@pytest.mark.parametrize("settings", [{}, {"C": 3.0, "balanced": False}])
def test_the_head_is_scikit_learns_decision_function(settings: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    labels = (np.arange(300) % 5 == 0).astype(np.int64)
    embeddings = rng.normal(size=(300, 12)) + labels[:, None] * rng.normal(size=12)
    head = linear(embeddings, labels, Linear(**settings))
    options = {"C": 0.316, "balanced": True} | settings
    model = LogisticRegression(
        C=options["C"], class_weight="balanced" if options["balanced"] else None, max_iter=1500
    ).fit(embeddings, labels)
    assert np.allclose(head.raw(embeddings), model.decision_function(embeddings), atol=1e-9)
    assert np.mean(head.raw(embeddings)[labels == 1]) > np.mean(head.raw(embeddings)[labels == 0])


def fitted(recipe: Recipe, data: Data, engine: Any, stage: Fit, seed: int = 0) -> Any:
    return fit(recipe.streams[0], stage, recipe.descend("a"), data.samples, data.store, engine, seed=seed, workers=2)


@pytest.mark.parametrize("altered", [0, 1, 3])
def test_classes_count_alike_and_every_row_gives_its_views(
    recipe: Recipe, data: Callable[[str], Data], mean_engine: Any, altered: int
) -> None:
    stage = Fit(stream="a", records=10, altered=altered)
    head, embeddings, labels = fitted(recipe, data("train"), mean_engine, stage)
    assert embeddings.shape == (10 * (1 + altered), 3)
    assert labels.tolist() == [0] * 5 * (1 + altered) + [1] * 5 * (1 + altered)
    assert head.width == 3


def test_no_more_rows_are_taken_than_the_smaller_class_has(
    recipe: Recipe, data: Callable[[str], Data], mean_engine: Any
) -> None:
    train = data("train")
    rows = [row for row, sample in enumerate(train.samples) if sample.label == Label.REAL or row == 1 or row == 3]
    samples = [dataclasses.replace(s, label=s.label if row in rows else None) for row, s in enumerate(train.samples)]
    _, embeddings, labels = fitted(
        recipe, Data(samples, train.store), mean_engine, Fit(stream="a", records=1000, altered=0)
    )
    assert len(embeddings) == 4
    assert labels.tolist() == [0, 0, 1, 1]


def test_the_seed_and_nothing_else_decides_what_a_head_is_fitted_on(
    recipe: Recipe, data: Callable[[str], Data], mean_engine: Any
) -> None:
    # All rows, so that the seed can show in where they are cut only, not in which are taken.
    stage = Fit(stream="a", records=16, altered=1)
    one, again, other = (fitted(recipe, data("train"), mean_engine, stage, seed)[1] for seed in (0, 0, 1))
    assert np.array_equal(one, again)
    assert not np.allclose(np.sort(one, axis=0), np.sort(other, axis=0))


def test_a_head_cannot_be_fitted_on_one_class(recipe: Recipe, data: Callable[[str], Data], mean_engine: Any) -> None:
    train = data("train")
    reals = [dataclasses.replace(sample, label=Label.REAL) for sample in train.samples]
    with pytest.raises(ManifestError, match="both classes"):
        fitted(recipe, Data(reals, train.store), mean_engine, Fit(stream="a"))
