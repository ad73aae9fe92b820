"""An embedding on a plane."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from assay.errors import MissingExtra
from assay.measure.embedding import overlap
from assay.measure.tsne import ready, tsne

LABELS = np.arange(60) % 2
VECTORS = np.random.default_rng(0).normal(size=(60, 8)) + 8 * np.eye(8)[LABELS]


def test_what_lies_apart_stays_apart_the_same_each_time() -> None:
    plane = tsne(VECTORS, seed=3)
    assert plane.points.shape == (60, 2)
    assert overlap(plane.points - plane.points.mean(axis=0), LABELS) < 0.1
    assert (tsne(VECTORS, seed=3).points == plane.points).all()


def test_lengths_do_not_matter() -> None:
    lengths = 2.0 ** np.random.default_rng(1).integers(-3, 4, (60, 1))
    assert tsne(VECTORS * lengths).points == pytest.approx(tsne(VECTORS).points)


def test_perplexity_is_bounded_by_a_third_of_the_rows() -> None:
    assert tsne(VECTORS, perplexity=5).perplexity == 5
    assert tsne(VECTORS, perplexity=500).perplexity == pytest.approx(59 / 3)


@pytest.mark.filterwarnings("error")
def test_rows_that_are_all_the_same_have_a_plane_and_too_few_have_none() -> None:
    assert np.isfinite(tsne(np.ones((10, 4))).points).all()
    with pytest.raises(ValueError, match="too few"):
        tsne(VECTORS[:7])


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtra, match=r'pip install "assay\[measure\]"'):
        ready()
