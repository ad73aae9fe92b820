"""What a study looks at beside scores: embeddings, errors by subgroup, errors that streams share."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from assay.measure import fairness
from assay.studies import looks, output
from assay.studies import table as tables
from assay.studies.compare import Series
from assay.studies.result import Cost, Result, Row
from assay.studies.run import Asked, Plan, Report
from assay.studies.study import Arm, Study

LABELS = (0, 0, 0, 0, 1, 1, 1, 1)

A = (0.9, 0.8, 0.1, 0.2, 0.3, 0.9, 0.8, 0.7)
B = (0.7, 0.1, 0.2, 0.3, 0.1, 0.9, 0.6, 0.8)
RIGHT = (0.1, 0.1, 0.1, 0.1, 0.9, 0.9, 0.9, 0.9)

SHARED = (0.125 / (0.5 * 0.1875**0.5) + 1) / 2
"""Of A and B. Of four reals A has two wrong and B one of these: (1/4 - 1/2 * 1/4) / (1/2 * sqrt(3/16)). Of four fakes
both have the same one wrong: 1."""


def rows(labels: Sequence[int], groups: Sequence[str] = ()) -> tuple[Row, ...]:
    return tuple(
        Row(place=f"{number}.png", label=label, source=f"s{number % 7}", group=groups[number] if groups else "")
        for number, label in enumerate(labels)
    )


def result(scores: dict[str, tuple[float | None, ...]], given: tuple[Row, ...] | None = None, **fields: Any) -> Result:
    told: dict[str, Any] = {"study": "s", "arm": "full", "seed": 0, "detector": "0" * 64} | fields
    return Result(
        **told,
        rows=rows(LABELS) if given is None else given,
        scores={head: {"clean": values} for head, values in scores.items()},
        cost=Cost(parameters=1, steps=1, views=1),
    )


def report(*results: Result, **fields: Any) -> Report:
    told: dict[str, Any] = {"arms": (Arm("full", "all"),), "conditions": ("clean",), "heads": tuple(results[0].scores)}
    study = Study("s", "?", **(told | fields))
    asked = Asked(study="s", size="small", settings={}, quick=False, minutes=None, views=1, equal="views", manifest="")
    by = {arm.name: tuple(one for one in results if one.arm == arm.name) for arm in study.arms}
    there = {name: found for name, found in by.items() if found}
    return Report(study, there, {}, (), (4, 4), Plan(asked=asked), max(map(len, there.values())))


def shared(given: Report) -> dict[str, tuple[str, ...]]:
    """The rows of the table of shared errors, by their pair."""
    block = looks.errors(given, tables.tables(given, rounds=0).scores)
    return {} if block is None else {row[1]: row for row in block.rows}


# ── errors that streams share ────────────────────────────────────────────────────────────────────────────────────────


def test_streams_that_err_on_the_same_pictures_are_named_with_how_far_they_do() -> None:
    found = shared(report(result({"mean": RIGHT, "a": A, "b": B, "c": RIGHT}), streams=("a", "b", "c")))
    assert found == {
        "a and b": ("full", "a and b", "clean", f"{SHARED:.2f}", "they err together"),
        "a and c": ("full", "a and c", "clean", "0.00", ""),
        "b and c": ("full", "b and c", "clean", "0.00", ""),
    }


def test_over_seeds_shared_errors_have_a_mean_and_a_spread() -> None:
    # All wrong on the same pictures, then on none of them.
    seeds = (result({"a": A, "b": A}), result({"a": A, "b": RIGHT}, seed=1))
    assert shared(report(*seeds, streams=("a", "b")))["a and b"][3:] == ("0.50 ±0.71", "")


def test_shared_errors_are_those_on_pictures_to_which_both_streams_apply() -> None:
    more = rows((*LABELS, 0, 1))
    found = shared(report(result({"a": (*A, None, 0.1), "b": (*B, 0.9, None)}, more), streams=("a", "b")))
    assert found["a and b"][3] == "0.79"
    none = (0.5,) * 4 + (None,) * 4
    assert shared(report(result({"a": A, "b": none}), streams=("a", "b"))) == {}


def test_a_bundle_without_the_streams_and_a_study_without_any_have_no_such_table() -> None:
    assert shared(report(result({"mean": A}), heads=("mean", "a", "b"), streams=("a", "b"))) == {}
    assert shared(report(result({"a": A, "b": B}))) == {}
    text = tables.text(tables.tables(report(result({"a": A, "b": B})), rounds=0))
    assert "streams whose errors correlate" not in text


# ── errors by subgroup ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def audited() -> Report:
    """25 reals and 25 fakes of "indoor" and of "outdoor", 3 of "at sea"; of the outdoor reals 10 lie above the
    threshold of "mean", .4, of the indoor ones 2; two seeds."""
    groups, labels, values = [], [], []
    for group, wrong in (("indoor", 2), ("outdoor", 10)):
        groups += [group] * 50
        labels += [0] * 25 + [1] * 25
        values += [0.45] * wrong + [0.1] * (25 - wrong) + [0.3] * 5 + [0.9] * 20
    groups += ["at sea"] * 3
    labels += [0, 0, 1]
    values += [0.1, 0.9, 0.9]
    given = rows(labels, groups)
    other = tuple(1 - value for value in values)
    return report(
        result({"mean": tuple(values), "a": other}, given, thresholds={"mean": 0.4, "a": 0.6}),
        result({"mean": other, "a": other}, given, thresholds={"mean": 0.4, "a": 0.6}, seed=1),
        fairness=True,
        by="domain",
    )


def test_a_studys_audit_is_that_of_fairness_at_the_detectors_own_threshold(audited: Report) -> None:
    found = tables.tables(audited, rounds=50).audits
    assert {(series.head, seed) for series, seed in found} == {("mean", 0), ("mean", 1), ("a", 0), ("a", 1)}
    for (series, seed), each in found.items():
        one = audited.results["full"][seed]
        expected = fairness.audit(
            [row.label for row in one.rows],
            [row.group for row in one.rows],
            scores=one.scores[series.head]["clean"],
            thresholds=one.thresholds[series.head],
            sources=[row.source for row in one.rows],
            rounds=50,
        )
        assert each.to_dict() == expected.to_dict()
    first = found[Series("full", "mean", "clean"), 0]
    assert (first.groups["indoor"].fpr.value, first.groups["outdoor"].fpr.value) == (0.08, 0.4)
    gap = first.gaps["fpr"]
    assert gap is not None
    assert gap.gap.value == pytest.approx(0.32)


def test_rates_and_gaps_of_subgroups_are_told_and_small_ones_marked(audited: Report) -> None:
    found = tables.tables(audited, rounds=50)
    rates, gaps = looks.fairness(audited, found.audits)
    assert rates.title == "errors at the detector's own threshold, by domain, %"
    mine = {row[3]: row[4:] for row in rates.rows if row[1:3] == ("mean", "0")}
    assert list(mine) == ["at sea *", "indoor", "outdoor"]
    assert mine["outdoor"][0].startswith("40.0 (")
    assert mine["outdoor"][0].endswith(" (n 25)")
    assert mine["indoor"][1].startswith("20.0 (")
    told = {row[3]: row[4:] for row in gaps.rows if row[1:3] == ("mean", "0")}
    assert told["FPR"][0].startswith("32.0 (")
    # 8 % of reals over 40 %; what the three at sea have does not count.
    assert told["FPR"][1:4] == ("0.20", "indoor", "outdoor")
    assert told["FNR"][4] == "yes"
    text = tables.text(found)
    assert "gaps between values of domain" in text


def test_a_gap_that_cannot_be_told_is_a_dash(audited: Report) -> None:
    small = report(result({"mean": A}, rows(LABELS, ("x", "y") * 4), thresholds={"mean": 0.5}), fairness=True)
    _, gaps = looks.fairness(small, tables.tables(small, rounds=0).audits)
    assert [row[4:] for row in gaps.rows] == [("–",) * 5] * 2


def test_runs_that_kept_no_threshold_are_not_audited() -> None:
    earlier = report(result({"mean": A}), fairness=True)
    found = tables.tables(earlier, rounds=0)
    assert found.audits == {}
    assert "own threshold" not in tables.text(found)


def test_the_reports_json_holds_audits_and_no_nan(audited: Report, tmp_path: Path) -> None:
    output.write(audited, tmp_path, "assay study s", rounds=20)

    def refused(word: str) -> float:
        raise AssertionError(word)

    told = json.loads((tmp_path / "report.json").read_text(), parse_constant=refused)
    assert [(each["head"], each["seed"]) for each in told["fairness"]] == [("mean", 0), ("mean", 1), ("a", 0), ("a", 1)]
    first = told["fairness"][0]["audit"]
    assert first["groups"]["outdoor"]["fpr"]["value"] == 0.4
    assert set(first["groups"]) == {"indoor", "outdoor", "at sea"}
    # One class of three rows gives rates that are not defined, which are null.
    lone = report(result({"mean": A[:4]}, rows(LABELS[:4]), thresholds={"mean": 0.5}), fairness=True)
    output.write(lone, tmp_path, "assay study s", rounds=20)
    told = json.loads((tmp_path / "report.json").read_text(), parse_constant=refused)
    [audit] = [each["audit"] for each in told["fairness"]]
    assert audit["groups"]["(not named)"]["fnr"]["value"] is None
    plain = dataclasses.replace(lone, study=dataclasses.replace(lone.study, fairness=False))
    output.write(plain, tmp_path, "assay study s", rounds=0)
    assert json.loads((tmp_path / "report.json").read_text())["fairness"] == []


# ── embeddings ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def look() -> Callable[..., dict[str, Any]]:
    """`look(value)`: what an overview says of a stream whose every figure is `value`."""

    def make(value: float | None, low: float | None = None, clusters: int | None = 2) -> dict[str, Any]:
        cell = {"value": value, "low": low, "high": None if low is None or value is None else 2 * value - low}
        names = ("probe_auc", "overlap", "silhouette_label", "silhouette_generator")
        others = ("purity", "purity_by_chance", "neighbours", "neighbours_by_chance")
        manifold = {"metrics": dict.fromkeys(others, cell), "clusters": clusters, "form": "one manifold"}
        return {"metrics": dict.fromkeys(names, cell), "manifold": manifold}

    return make


def test_one_seed_has_an_interval_and_several_a_spread(look: Callable[..., dict[str, Any]]) -> None:
    other = {"arms": (Arm("full", "all"), Arm("focal", "focal"))}
    found = looks.embeddings(
        report(
            result({"a": A}, embedding={"a": look(0.9, 0.85), "b": look(0.5)}),
            result({"a": A}, embedding={"a": look(0.9), "b": look(None)}, arm="focal"),
            result({"a": A}, embedding={"a": look(0.8, 0.7, 5), "b": look(0.25, 0.125)}, arm="focal", seed=1),
            **other,
        )
    )
    assert found is not None
    assert len(found.columns) == len(found.rows[0]) == 2 + len(looks.FIGURES) + 2
    told = {row[:2]: row[2:] for row in found.rows}
    figures = len(looks.FIGURES)
    assert told["full", "a"] == (*["0.900 (0.850–0.950)"] * figures, "2", "one manifold")
    assert told["full", "b"][0] == "0.500"
    assert told["focal", "a"] == (*["0.850 ±0.071"] * figures, "2, 5", "one manifold, one manifold")
    # A seed of which nothing is known is left out, with its interval.
    assert told["focal", "b"][0] == "0.250 (0.125–0.375)"


def test_each_figure_is_the_overviews_of_that_name(look: Callable[..., dict[str, Any]]) -> None:
    told = look(0.0)
    expected = []
    for number, place in enumerate(looks.FIGURES.values()):
        part = told
        for key in place[:-1]:
            part[key] = part = dict(part[key])
        part[place[-1]] = {"value": number / 8}
        expected.append(f"{number / 8:.3f}")
    found = looks.embeddings(report(result({"a": A}, embedding={"a": told})))
    assert found is not None
    assert list(found.rows[0][2:-2]) == expected


def test_what_was_not_measured_is_a_dash_and_without_a_look_there_is_no_table() -> None:
    bare = {"metrics": {"overlap": {"value": 0.5, "low": 0.4, "high": 0.6}}, "manifold": {"skipped": "no fakes"}}
    found = looks.embeddings(report(result({"a": A}, embedding={"a": bare})))
    assert found is not None
    assert found.rows[0][2:5] == ("–", "0.500 (0.400–0.600)", "–")
    assert found.rows[0][-2:] == ("–", "–")
    assert looks.embeddings(report(result({"a": A}))) is None


# ── scores as probabilities ──────────────────────────────────────────────────────────────────────────────────────────


def probabilities(given: Report, rounds: int = 10) -> dict[tuple[str, ...], tuple[str, ...]]:
    """The rows of the table of calibration, by arm, head and condition."""
    block = looks.calibration(given, tables.tables(given, rounds=0).scores, rounds=rounds)
    assert all(len(row) == len(block.columns) == 7 for row in block.rows)
    return {row[:3]: row[3:] for row in block.rows}


def point(cell: str) -> float:
    return float(cell.split(" ")[0])


def test_calibration_tells_the_error_of_probabilities_and_the_reals_called_fake_at_both_bars() -> None:
    # Each of .2 and .6 is half right: of four rows of .2 two are fake, of four of .6 two.
    values = (0.2, 0.2, 0.6, 0.6, 0.2, 0.2, 0.6, 0.6)
    heads = {"mean": values, "a": RIGHT, "b": (0.5,) * 8}
    found = probabilities(report(result(heads, thresholds={"mean": 0.7, "a": 0.05, "b": 0.5}), calibration=True))
    assert list(found) == [("full", name, "clean") for name in heads]
    told = {head: [point(cell) for cell in cells[:3]] for (_, head, _), cells in found.items()}
    # |.2 - .5| and |.6 - .5|; .1 off throughout; one half where half are fake.
    assert told == {"mean": [20.0, 50.0, 0.0], "a": [10.0, 0.0, 100.0], "b": [0.0, 100.0, 100.0]}
    assert {cells[3] for cells in found.values()} == {"8"}


def test_a_real_at_the_threshold_is_called_fake() -> None:
    seen = {
        bar: point(probabilities(report(result({"a": A}, thresholds={"a": bar})))["full", "a", "clean"][2])
        for bar in (0.9, 0.900001, 0.8, 0.1)
    }
    assert seen == {0.9: 25.0, 0.900001: 0.0, 0.8: 50.0, 0.1: 100.0}


def test_each_seed_is_held_to_its_own_threshold_and_seeds_have_a_spread() -> None:
    seeds = (
        result({"a": A}, thresholds={"a": 0.85}),
        result({"a": A}, thresholds={"a": 0.15}, seed=1),
    )
    error, half, own, rows_ = probabilities(report(*seeds))["full", "a", "clean"]
    # Of four reals one lies above .85 and three above .15: 25 and 75.
    assert (point(own), own.endswith(" ±35.4")) == (50.0, True)
    assert half.endswith(" ±0.0")
    assert error.endswith(" ±0.0")
    assert rows_ == "8"
    (alone,) = probabilities(report(seeds[0])).values()
    assert "±" not in "".join(alone)


def test_calibration_is_told_of_each_condition_and_arm_on_the_rows_that_were_scored() -> None:
    other = (None, *A[1:])
    first = result({"a": A}, thresholds={"a": 0.85})
    first = first.model_copy(update={"scores": {"a": {"clean": A, "noise20": other}}})
    second = result({"a": RIGHT}, arm="platt", thresholds={"a": 0.85})
    arms = (Arm("full", "all"), Arm("platt", "scaled"))
    found = probabilities(report(first, second, arms=arms, conditions=("clean", "noise20")))
    assert list(found) == [("full", "a", "clean"), ("full", "a", "noise20"), ("platt", "a", "clean")]
    assert [cells[3] for cells in found.values()] == ["8", "7", "8"]
    # What is left out is the only real above .85.
    assert [point(cells[2]) for cells in found.values()] == [25.0, 0.0, 0.0]


def test_intervals_are_drawn_from_rows_and_hold_what_was_measured() -> None:
    (cells,) = probabilities(report(result({"a": A}, thresholds={"a": 0.85})), rounds=200).values()
    for cell in cells[:3]:
        value, low, high = (float(part) for part in cell.replace("(", "").replace(")", "").replace("–", " ").split())
        assert 0 <= low <= value <= high <= 100
        assert low < high


def test_the_table_of_calibration_is_there_where_the_study_asks_for_it() -> None:
    one = result({"a": A}, thresholds={"a": 0.85})
    title = "scores as probabilities, %"
    assert title in tables.text(tables.tables(report(one, calibration=True), rounds=0))
    assert title not in tables.text(tables.tables(report(one), rounds=0))
