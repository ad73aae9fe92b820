"""Folds of whole sources."""

from __future__ import annotations

import numpy as np

from assay.measure.folds import by_source


def test_no_source_stands_in_two_folds_and_every_fold_can_be_fitted_without() -> None:
    random = np.random.default_rng(0)
    of = random.integers(0, 20, 300)
    labels = (of % 4 > 0).astype(int)
    sources = [f"site {number}" for number in of]
    folds = by_source(labels, sources)
    assert folds.whole
    assert folds.count == 5
    for source in set(sources):
        assert len({int(fold) for fold, name in zip(folds.number, sources, strict=True) if name == source}) == 1
    for fold in range(5):
        assert set(labels[folds.number == fold]) == set(labels[folds.number != fold]) == {0, 1}


def test_there_are_no_more_folds_than_sources_of_either_class() -> None:
    labels = [0] * 30 + [1] * 30
    sources = [f"camera {n % 2}" for n in range(30)] + [f"model {n % 9}" for n in range(30)]
    assert by_source(labels, sources).count == 2


def test_sources_of_both_classes_spread_both_evenly() -> None:
    labels = np.arange(200) % 2
    folds = by_source(labels, [f"prompt {number // 2}" for number in range(200)])
    counts = np.bincount(folds.number * 2 + labels).reshape(-1, 2)
    assert (counts == 20).all()


def test_a_class_of_a_single_source_is_dealt_by_row_and_said_so() -> None:
    labels = np.array([0] * 10 + [1] * 25)
    folds = by_source(labels, ["camera"] * 10 + [f"model {number}" for number in range(25)], seed=3)
    assert not folds.whole
    assert "a class has a single source" in str(folds)
    assert (np.bincount(folds.number * 2 + labels).reshape(-1, 2) == [2, 5]).all()
    again = by_source(labels, ["camera"] * 10 + [f"model {number}" for number in range(25)], seed=3)
    assert (again.number == folds.number).all()
