"""Whether fakes form one manifold or a cluster for each method."""

from __future__ import annotations

import collections
import json
import sys
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import adjusted_mutual_info_score

from assay.errors import MissingExtra
from assay.measure import manifold as module
from assay.measure.embedding import silhouette
from assay.measure.manifold import FEWEST, METRICS, common, figures, kin

ROWS = 120
METHODS = [f"method {number % 4}" for number in range(ROWS)]
ALONE = [str(number) for number in range(ROWS)]


def blobs(places: Any, seed: int = 0, width: int = 16) -> Any:
    """Rows about centres, one for each value of `places`."""
    random = np.random.default_rng(seed)
    centres = 4 * random.normal(size=(max(places) + 1, width))
    return centres[np.asarray(places)] + random.normal(size=(len(places), width))


ONE = blobs([0] * ROWS)
EACH = blobs([number % 4 for number in range(ROWS)])
PAIRS = blobs([number % 4 // 2 for number in range(ROWS)])


def seen_through(vectors: Any, **changed: Any) -> Any:
    return figures(vectors, **{"sources": ALONE, "generators": METHODS, "rounds": 30, **changed})


# ── known answers ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_cloud_of_all_methods_is_one_manifold() -> None:
    found = seen_through(ONE)
    assert (found.clusters, found.form) == (1, "one")
    assert found.sign.startswith("the fakes form one manifold: 4 methods, 1 cluster; ")
    assert found.metrics["purity"].value == found.metrics["purity_by_chance"].value == pytest.approx(0.25)
    assert found.metrics["mutual_information"].value == pytest.approx(0, abs=1e-9)
    for name in ("neighbours", "purity_at_generators"):
        assert found.metrics[name].value == pytest.approx(found.metrics[f"{name}_by_chance"].value, abs=0.08)
    assert found.metrics["neighbours_by_chance"].value == pytest.approx(29 / 119)
    assert found.metrics["silhouette_generator"].value < 0.05


def test_a_cloud_for_each_method_is_a_cluster_for_each_method() -> None:
    found = seen_through(EACH)
    assert (found.clusters, found.form) == (4, "each")
    assert found.sign.startswith("a cluster for each method: 4 methods, 4 clusters; 100 % ")
    assert max(found.silhouettes, key=found.silhouettes.__getitem__) == 4
    for name in ("purity", "purity_at_generators", "mutual_information", "mutual_information_at_generators"):
        assert found.metrics[name].value == pytest.approx(1)
    assert found.metrics["neighbours"].value == 1
    assert found.metrics["silhouette_generator"].value > 0.5


def test_two_clouds_of_two_methods_each_lie_between() -> None:
    found = seen_through(PAIRS)
    assert (found.clusters, found.form) == (2, "between")
    assert found.sign.startswith("between one manifold and a cluster for each method: 4 methods, 2 clusters; ")
    assert found.metrics["purity"].value == pytest.approx(0.5)
    assert found.metrics["neighbours"].value == pytest.approx(0.5, abs=0.06)
    assert found.metrics["mutual_information"].value < module.APART


def test_methods_that_lie_apart_within_clusters_of_clusters_still_lie_apart() -> None:
    random = np.random.default_rng(3)
    far, near = 40 * random.normal(size=(2, 16)), 2 * random.normal(size=(4, 16))
    number = np.arange(ROWS) % 4
    found = seen_through(far[number // 2] + near[number] + random.normal(size=(ROWS, 16)))
    assert (found.clusters, found.form) == (2, "each")


def test_mixed_methods_in_two_clouds_are_no_one_manifold_and_one_cloud_of_sorted_ones_is_none_either() -> None:
    assert seen_through(blobs([number // 4 % 2 for number in range(ROWS)])).form == "between"
    random = np.random.default_rng(1)
    lean = np.arange(ROWS) % 4
    sorted_in_one = random.normal(size=(ROWS, 64)) + 4 * np.eye(64)[lean] + 12 * np.eye(64)[9]
    found = seen_through(sorted_in_one)
    assert found.clusters == 1
    assert found.metrics["neighbours"].value > 0.5
    assert found.form != "one"


# ── against the plain way ────────────────────────────────────────────────────────────────────────────────────────────


def test_purity_is_the_share_of_the_commonest_of_each_cluster() -> None:
    random = np.random.default_rng(0)
    parts, made = random.integers(0, 5, 200), random.integers(0, 3, 200)
    told = sum(max(collections.Counter(made[parts == part].tolist()).values()) for part in range(5))
    assert common(parts, made).mean() == pytest.approx(told / 200)
    assert common(["b", "b", "a", "b"], ["x", "x", "y", "y"]).tolist() == [1, 1, 1, 0]


def test_purity_by_chance_is_that_of_dealt_names_in_the_same_clusters() -> None:
    found = seen_through(PAIRS)
    parts = np.arange(ROWS) % 4 // 2
    random = np.random.default_rng(7)
    told = np.mean([common(parts, random.permutation(METHODS)).mean() for _ in range(400)])
    assert found.metrics["purity_by_chance"].value == pytest.approx(told, abs=0.006)
    assert found.metrics["mutual_information"].value == pytest.approx(adjusted_mutual_info_score(METHODS, parts))
    assert found.metrics["silhouette_generator"].value == pytest.approx(silhouette(PAIRS, METHODS).mean(), abs=1e-4)
    assert found.silhouettes[2] == pytest.approx(silhouette(PAIRS, parts).mean(), abs=1e-4)


@pytest.mark.parametrize("block", [7, 1024])
def test_neighbours_are_those_found_one_by_one(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)
    random = np.random.default_rng(5)
    rows = random.normal(size=(60, 6))
    made = random.integers(0, 4, 60)
    # The generators 0 and 1 have sources of their own, one of them a single one.
    place = np.where(made == 0, 9, random.integers(0, 3, 60))
    near, chance = kin(rows, made, [str(number) for number in place])
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    for row in range(60):
        kinds = [other for other in range(60) if place[other] != place[row] and made[other] == made[row]]
        among = [other for other in range(60) if other != row and (place[other] != place[row] or not kinds)]
        among.sort(key=lambda other: -float(unit[row] @ unit[other]))
        assert near[row] == pytest.approx(np.mean(made[among[:5]] == made[row]))
        assert chance[row] == pytest.approx(np.mean(made[among] == made[row]))


def test_twins_of_one_source_do_not_vouch_for_each_other() -> None:
    random = np.random.default_rng(0)
    twins = random.normal(size=(30, 16)).repeat(4, axis=0) + 0.01 * random.normal(size=(ROWS, 16))
    made = [f"method {number // 4 % 3}" for number in range(ROWS)]
    assert kin(twins, made, ALONE)[0].mean() > 0.6
    near, chance = kin(twins, made, [f"site {number // 4}" for number in range(ROWS)])
    assert near.mean() == pytest.approx(chance.mean(), abs=0.15)


def test_fewer_neighbours_than_asked_for_are_shares_of_those_there_are() -> None:
    points = np.array([[1, 0], [1, 0.1], [1, 0.2], [1, 0.3]])
    near, chance = kin(points, ["x", "x", "y", "y"], ["a", "b", "a", "b"])
    assert near.tolist() == chance.tolist() == [0.5, 0.5, 0.5, 0.5]
    assert kin(points[:2], ["x", "y"], ["a", "b"])[0].tolist() == [0, 0]


# ── what moves nothing, and what there is not enough of ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize("vectors", [ONE, EACH, PAIRS])
def test_the_order_of_the_rows_and_their_lengths_move_nothing(vectors: Any) -> None:
    random = np.random.default_rng(4)
    order = random.permutation(ROWS)
    sites = [f"site {number // 6}" for number in range(ROWS)]
    lengths = random.uniform(0.5, 2, (ROWS, 1))
    told = seen_through(vectors, sources=sites)
    shuffled = seen_through(
        (vectors * lengths)[order],
        sources=[sites[row] for row in order],
        generators=[METHODS[row] for row in order],
    )
    assert shuffled == told
    assert seen_through(vectors, sources=sites) == told


def test_intervals_hold_the_values_and_are_wider_where_rows_come_in_sources() -> None:
    random = np.random.default_rng(2)
    made = [f"method {number // 10 % 4}" for number in range(400)]
    vectors = 2 * random.normal(size=(40, 8)).repeat(10, axis=0) + random.normal(size=(400, 8))
    by_row, by_site = (
        figures(vectors, names, made, rounds=100).metrics
        for names in ([str(number) for number in range(400)], [f"site {number // 10}" for number in range(400)])
    )
    for name in ("purity", "purity_at_generators", "silhouette_generator", "neighbours"):
        for found in (by_row[name], by_site[name]):
            assert found.low <= found.value <= found.high
    assert by_row["silhouette_generator"].value == by_site["silhouette_generator"].value
    wide, narrow = by_site["silhouette_generator"], by_row["silhouette_generator"]
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_rows_without_a_name_are_left_out_and_counted() -> None:
    named = seen_through(PAIRS)
    more = np.concatenate([PAIRS, 50 * np.eye(16)])
    found = seen_through(more, sources=[*ALONE, *map(str, range(16))], generators=[*METHODS, *[""] * 16])
    assert (found.n, found.unnamed) == (ROWS, 16)
    assert found.metrics == named.metrics


@pytest.mark.parametrize(("rows", "methods"), [(0, 4), (FEWEST - 1, 4), (ROWS, 1)])
def test_too_few_rows_or_generators_give_no_answer(rows: int, methods: int) -> None:
    made = [f"method {number % methods}" for number in range(rows)]
    found = figures(ONE[:rows], ALONE[:rows], made)
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert told["clusters"] is told["form"] is None
    assert set(told["metrics"]) == set(METRICS)
    assert {figure["value"] for figure in told["metrics"].values()} == {None}
    assert "not known, as it takes 20 fakes, of two or more named generators" in told["sign"]


@pytest.mark.filterwarnings("error")
def test_rows_that_are_all_the_same_make_one_cluster_and_few_points_few() -> None:
    same = seen_through(np.ones((ROWS, 4)))
    assert (same.clusters, same.silhouettes) == (1, {})
    three = seen_through(np.eye(4)[np.arange(ROWS) % 3], generators=[f"method {n % 9}" for n in range(ROWS)])
    assert (three.clusters, set(three.silhouettes)) == (3, {2, 3})
    assert three.silhouettes[3] == 1
    assert three.metrics["purity"] == three.metrics["purity_at_generators"]


def test_machines_get_every_figure_in_order() -> None:
    told = json.loads(json.dumps(seen_through(EACH).to_dict(), allow_nan=False))
    assert tuple(told["metrics"]) == METRICS
    assert told["form"] == "each"
    assert list(told["silhouettes"]) == [str(count) for count in range(2, 13)]
    assert told["metrics"]["purity_by_chance"]["low"] is None


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(MissingExtra, match=r'pip install "assay\[measure\]"'):
        seen_through(ONE)
