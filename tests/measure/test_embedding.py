"""How far real and fake lie apart in an embedding."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import silhouette_samples

from assay import metrics
from assay.measure import embedding as module
from assay.measure import logistic
from assay.measure.embedding import alike, figures, overlap, silhouette, strays, votes
from assay.measure.folds import by_source

LABELS = np.arange(80) % 2


def clouds(distance: float, seed: int = 0, rows: int = 80) -> Any:
    rng = np.random.default_rng(seed)
    centres = np.zeros((rows, 8))
    centres[:, 0] = np.where(np.arange(rows) % 2, distance, -distance)
    return centres + rng.normal(size=(rows, 8))


def sources_of(rows: int, each: int = 4) -> list[str]:
    return [f"site {number // each}" for number in range(rows)]


def seen_through(vectors: Any, sources: list[str], **changed: Any) -> Any:
    labels = np.arange(len(vectors)) % 2
    generators = [("", "dog")[label] for label in labels]
    return figures(vectors, labels, sources, **{"generators": generators, "rounds": 50, **changed})


# ── overlap ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_classes_that_lie_apart_do_not_overlap_and_mixed_ones_do_by_half() -> None:
    labels = np.arange(800) % 2
    assert overlap(clouds(6, rows=800), labels) == 0
    assert overlap(clouds(0, rows=800), labels) == pytest.approx(0.5, abs=0.06)
    assert 0.02 < overlap(clouds(1, rows=800), labels) < 0.4


def test_overlap_weighs_classes_alike() -> None:
    """Among 95 reals, 5 scattered fakes have real neighbours only: half of the classes is lost, not a twentieth."""
    labels = np.array([0] * 95 + [1] * 5)
    assert overlap(np.random.default_rng(0).normal(size=(100, 8)), labels) == pytest.approx(0.5, abs=0.1)


def test_overlap_does_not_depend_on_the_size_of_its_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = strays(clouds(0.5), LABELS)
    monkeypatch.setattr(module, "_BLOCK", 7)
    assert (strays(clouds(0.5), LABELS) == whole).all()


def test_overlap_looks_at_directions_not_lengths() -> None:
    lengths = np.random.default_rng(1).uniform(0.1, 10, (80, 1))
    assert overlap(clouds(0.5) * lengths, LABELS) == overlap(clouds(0.5), LABELS)


# ── neighbours of other sources ──────────────────────────────────────────────────────────────────────────────────────


def test_neighbours_of_the_same_source_have_no_vote() -> None:
    """Twins of one source lie together, far from all else: only by them could their label be known."""
    random = np.random.default_rng(0)
    twins = random.normal(size=(20, 16)).repeat(4, axis=0) + 0.01 * random.normal(size=(80, 16))
    labels = (np.arange(80) // 4) % 2
    alone = [f"row {number}" for number in range(80)]
    assert metrics.balanced_accuracy(labels, votes(twins, labels, alone, neighbours=3), 0.5) == 1
    assert metrics.balanced_accuracy(labels, votes(twins, labels, sources_of(80), neighbours=3), 0.5) < 0.75


def test_the_vote_is_the_share_of_fakes_among_the_nearest() -> None:
    angles = np.array([0, 1, 2, 3, 4, 90, 91, 92])
    points = np.stack([np.cos(np.radians(angles)), np.sin(np.radians(angles))], axis=1)
    labels = [1, 0, 0, 1, 1, 0, 0, 0]
    assert votes(points, labels, [str(angle) for angle in angles], neighbours=3)[0] == pytest.approx(1 / 3)


def test_fewer_neighbours_than_asked_for_vote_by_an_odd_number_and_none_gives_no_vote() -> None:
    points = np.array([[1, 0], [1, 0.1], [1, 0.2], [1, 0.3], [1, 0.4]])
    # Of two rows of other sources the nearer one decides.
    assert votes(points[:3], [0, 1, 0], ["a", "b", "c"])[0] == 1
    # The first has the two of "b" only.
    assert votes(points, [0, 0, 0, 1, 0], ["a", "a", "a", "b", "b"]).tolist() == [1, 1, 1, 0, 0]
    assert np.isnan(votes(points, [0, 0, 1, 1, 1], ["a"] * 5)).all()


# ── silhouette ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("clusters", [LABELS, np.arange(80) % 7, np.array([9] + [0] * 30 + [1] * 49)])
def test_silhouettes_are_those_of_scikit_learn(clusters: Any) -> None:
    assert silhouette(clouds(1), clusters) == pytest.approx(silhouette_samples(clouds(1), clusters, metric="cosine"))


def test_one_cluster_has_no_silhouette() -> None:
    assert np.isnan(silhouette(clouds(1), np.zeros(80))).all()


# ── all figures ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_classes_apart_and_classes_mixed_are_told_in_every_figure_and_in_words() -> None:
    apart = seen_through(clouds(4, rows=200), sources_of(200))
    mixed = seen_through(clouds(0, rows=200), sources_of(200))
    for name in ("probe_auc", "probe_balanced_accuracy", "knn_balanced_accuracy"):
        assert apart.metrics[name].value > 0.98
        assert mixed.metrics[name].low < 0.5 < mixed.metrics[name].high + 0.1
    assert apart.metrics["silhouette_label"].value > 0.3 > mixed.metrics["silhouette_label"].value
    assert not apart.overlapping
    assert mixed.overlapping
    assert "OVERLAP: real and fake overlap" in mixed.sign
    assert apart.sign.startswith("no overlap")
    for interval in apart.metrics.values():
        if not math.isnan(interval.value):
            assert interval.low <= interval.value <= interval.high
    assert apart.metrics["probe_auc"].n == 200


def test_the_probe_is_never_asked_about_a_source_it_was_fitted_on() -> None:
    """Each source has a direction of its own that tells its class: known sources are easy, new ones a guess."""
    random = np.random.default_rng(0)
    vectors = 5 * random.normal(size=(30, 40)).repeat(10, axis=0) + random.normal(size=(300, 40))
    labels = (np.arange(300) // 10) % 2
    by_row = figures(vectors, labels, [str(n) for n in range(300)], [""] * 300, rounds=0)
    whole = figures(vectors, labels, sources_of(300, 10), [""] * 300, rounds=0)
    assert by_row.metrics["probe_auc"].value > 0.95
    assert whole.metrics["probe_auc"].value < 0.8
    assert "whole sources in one fold" in whole.fitted


def test_the_probe_is_the_ridge_logistic_regression_of_the_other_folds() -> None:
    vectors, sources = clouds(0.5, rows=200), sources_of(200)
    labels = np.arange(200) % 2
    folds = by_source(labels, sources)
    scores = np.zeros(200)
    for fold in range(folds.count):
        inside = folds.number == fold
        model = logistic.fit(vectors[~inside], labels[~inside], ridge=1 / 0.316)
        scores[inside] = model.predict(vectors[inside])
    found = seen_through(vectors, sources)
    assert found.metrics["probe_auc"].value == pytest.approx(metrics.auc(labels, scores))


def test_each_generator_is_set_against_all_reals() -> None:
    vectors = clouds(0, rows=400)
    labels = np.arange(400) % 2
    easy = np.arange(400) % 4 == 1
    vectors[easy, 0] += 6
    generators = ["easy" if each else "hard" if label else "" for each, label in zip(easy, labels, strict=True)]
    found = figures(vectors, labels, [str(n) for n in range(400)], generators, rounds=20)
    assert set(found.generators) == {"easy", "hard"}
    assert found.generators["easy"].auc.value > 0.95
    assert found.generators["hard"].auc.value < 0.65
    assert found.generators["easy"].n_fake == 100
    assert found.generators["easy"].auc.n == 300
    assert found.metrics["silhouette_generator"].n == 200
    assert found.metrics["silhouette_generator"].value > 0.05


def test_a_generator_of_few_fakes_has_no_interval_and_one_without_a_name_is_told() -> None:
    generators = ["", "rare", *([""] * 78)]
    found = seen_through(clouds(1), sources_of(80), generators=generators)
    assert found.generators["rare"].small
    assert math.isnan(found.generators["rare"].auc.low)
    assert found.generators["(not named)"].n_fake == 39


def test_what_is_not_defined_is_null_for_machines() -> None:
    reals = figures(clouds(1), np.zeros(80, int), sources_of(80), [""] * 80)
    told = json.loads(json.dumps(reals.to_dict(), allow_nan=False))
    assert told["metrics"]["probe_auc"]["value"] is told["metrics"]["overlap"]["value"] is None
    assert not told["overlapping"]
    assert "both classes" in told["sign"]
    few = seen_through(clouds(1)[:12], sources_of(12, 2))
    assert math.isnan(few.metrics["probe_auc"].value)
    assert "10 rows of each class" in few.fitted
    assert figures(np.zeros((0, 4)), [], [], []).metrics["overlap"].n == 0


def test_intervals_are_wider_where_rows_come_in_sources() -> None:
    random = np.random.default_rng(2)
    vectors = random.normal(size=(40, 8)).repeat(10, axis=0) + 0.1 * random.normal(size=(400, 8))
    labels = (np.arange(400) // 10) % 2
    by_row, by_site = (
        figures(vectors, labels, names, [""] * 400, rounds=100).metrics["silhouette_label"]
        for names in ([str(n) for n in range(400)], sources_of(400, 10))
    )
    assert by_row.value == by_site.value
    assert by_site.high - by_site.low > 2 * (by_row.high - by_row.low)


# ── rows to draw ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_as_many_of_each_class_are_drawn_the_same_each_time() -> None:
    labels = np.array([0] * 30 + [1] * 100)
    drawn = alike(labels, 40, seed=1)
    assert np.bincount(labels[drawn]).tolist() == [20, 20]
    assert (np.diff(drawn) > 0).all()
    assert (alike(labels, 40, seed=1) == drawn).all()
    assert (alike(labels, 40, seed=2) != drawn).any()
    assert np.bincount(labels[alike(labels, 2000)]).tolist() == [30, 30]
    assert len(alike(labels, 0)) == len(alike(np.zeros(5, int), 10)) == 0
