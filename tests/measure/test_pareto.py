"""A trade-off as tables and as a figure."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from assay.measure.pareto import figure, front, markdown, table
from assay.measure.tradeoff import Row, Tradeoff
from assay.metrics import Interval

SVG = "{http://www.w3.org/2000/svg}"


def row(name: str, auc: float, parameters: int, pace: float, **changed: Any) -> Row:
    first = name == "teacher"
    interval = Interval(auc, auc - 0.03, min(1.0, auc + 0.02), 200)
    made = Row(
        name=name,
        sha256="",
        metrics={
            "auc": interval,
            "balanced_accuracy": Interval(auc - 0.1, auc - 0.15, auc - 0.05, 200),
            "ece": Interval(0.05, 0.04, 0.06, 200),
            "brier": Interval(0.1, 0.09, 0.11, 200),
            "robust_auc": Interval(auc - 0.2, auc - 0.3, auc - 0.1, 200),
        },
        differences={}
        if first
        else dict.fromkeys(("auc", "balanced_accuracy", "robust_auc"), Interval(-0.01, -0.03, 0.02, 200)),
        kept={}
        if first
        else {"auc": Interval(0.975, 0.9, 1.01, 200), "balanced_accuracy": Interval(0.981, 0.95, 1.0, 200)},
        conditions={"jpeg50": Interval(auc - 0.2, math.nan, math.nan, 200)},
        parameters=parameters,
        bytes=4 * parameters,
        milliseconds=(pace, pace, 2 * pace),
        times_faster=1.0 if first else 3.5,
        unscored=0,
        seen=0,
    )
    return dataclasses.replace(made, **changed)


ROWS = (
    row("teacher", 0.95, 25_000_000, 120.0),
    row("student", 0.93, 3_000_000, 30.0),
    row("clumsy", 0.85, 12_000_000, 60.0),
)
FOUND = Tradeoff(ROWS, n_real=100, n_fake=100, left_out=2, unlabelled=1, timed=32)


# ── the front ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_front_holds_what_nothing_beats() -> None:
    assert front([25, 3, 12], [0.95, 0.93, 0.85]) == [1, 0]
    assert front([1, 1, 2, 2], [0.5, 0.6, 0.6, 0.7]) == [1, 3]
    assert front([2, 2], [0.5, 0.5]) == [0]
    assert front([], []) == []


def test_the_front_is_that_found_pair_by_pair() -> None:
    random = np.random.default_rng(0)
    costs, values = random.integers(1, 8, 40).tolist(), random.integers(1, 8, 40).tolist()

    def beaten(one: int) -> bool:
        return any(
            costs[other] <= costs[one]
            and values[other] >= values[one]
            and ((costs[other], values[other]) != (costs[one], values[one]) or other < one)
            for other in range(40)
            if other != one
        )

    told = sorted((number for number in range(40) if not beaten(number)), key=lambda number: costs[number])
    assert front(costs, values) == told


# ── tables ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_tables_hold_every_figure() -> None:
    text = table(FOUND, width=180)
    assert "200 rows: 100 real, 100 fake; 2 left out" in text
    assert "1 without a label left out" in text
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert any(
        line.startswith("student 0.930 (0.900 to 0.950) 0.830 (0.780 to 0.880) 0.730 (0.630 to 0.830) 0.050")
        for line in lines
    )
    assert any(line.startswith("student -0.010 (-0.030 to +0.020)") for line in lines)
    assert any(line.endswith("97.5 (90.0 to 101.0) % 98.1 (95.0 to 100.0) %") for line in lines)
    assert "student 3.00 M 12.00 30 3.5" in lines
    assert "teacher 25.00 M 100.00 120 1" in lines
    assert "student 0.730" in lines
    assert "more than teacher, on the same pictures" in lines
    assert "times: the median of 3 rounds of 32 pictures, in turn" in lines
    assert not re.search(r"\bnan\b", text)
    assert "\x1b" not in text


def test_markdown_tables_are_rectangular_and_hold_the_same() -> None:
    text = markdown(FOUND, level=3)
    tables = [[line for line in part.splitlines() if line.startswith("|")] for part in text.split("\n\n")]
    tables = [lines for lines in tables if lines]
    assert len(tables) == 4
    for lines in tables:
        assert len({line.count("|") for line in lines}) == 1
    assert text.count("### ") == 4
    assert "| student | 3.00 M | 12.00 | 30 | 3.5 |" in text


def test_a_single_detector_without_conditions_and_times_has_two_tables() -> None:
    first = ROWS[0].metrics
    plain = {name: first[name] for name in ("auc", "balanced_accuracy", "ece", "brier")}
    alone = dataclasses.replace(ROWS[0], metrics=plain, conditions={}, milliseconds=(), times_faster=math.nan)
    text = markdown(Tradeoff((alone,), 10, 10, 0, 0, 0))
    assert text.count("## ") == 2
    assert "| teacher | 25.00 M | 100.00 | – | – |" in text
    assert "rounds" not in text


def test_seen_rows_are_named_everywhere() -> None:
    seen = dataclasses.replace(FOUND, rows=(ROWS[0], dataclasses.replace(ROWS[1], seen=4)))
    for text in (table(seen, width=180), markdown(seen)):
        assert "4 SEEN in making student, so this is no test" in text
    assert "no test" in figure(seen)
    assert "no test" not in figure(FOUND)


# ── the figure ───────────────────────────────────────────────────────────────────────────────────────────────────────


def panels(text: str) -> list[ElementTree.Element]:
    return ElementTree.fromstring(text).findall(f"{SVG}g")


def spots(panel: ElementTree.Element) -> list[tuple[float, float]]:
    return [(float(str(each.get("cx"))), float(str(each.get("cy")))) for each in panel.iter(f"{SVG}circle")]


def step(panel: ElementTree.Element) -> list[tuple[float, float]]:
    line = panel.find(f"{SVG}polyline")
    assert line is not None
    pairs = [corner.split(",") for corner in str(line.get("points")).split()]
    return [(float(x), float(y)) for x, y in pairs]


def words(element: ElementTree.Element) -> list[str]:
    return [each.text or "" for each in element.iter(f"{SVG}text")]


def test_each_panel_shows_every_detector_by_name_within_its_frame() -> None:
    found = panels(figure(FOUND))
    assert [
        next(word for word in words(each) if word in ("parameters", "ms a picture", "bytes")) for each in found
    ] == [
        "parameters",
        "ms a picture",
        "bytes",
    ]
    for panel in found:
        assert {"teacher", "student", "clumsy"} <= set(words(panel))
        frame = panel.find(f"{SVG}rect")
        assert frame is not None
        left, top, width, height = (float(str(frame.get(name))) for name in ("x", "y", "width", "height"))
        assert len(spots(panel)) == 3
        for x, y in spots(panel):
            assert left < x < left + width
            assert top <= y <= top + height


def test_costs_are_on_logarithmic_axes_and_better_is_higher() -> None:
    (teacher, student, clumsy), *_ = (spots(panel) for panel in panels(figure(FOUND)))
    assert student[0] < clumsy[0] < teacher[0]
    assert teacher[1] < student[1] < clumsy[1]
    told = math.log(12 / 3) / math.log(25 / 3)
    assert (clumsy[0] - student[0]) / (teacher[0] - student[0]) == pytest.approx(told, abs=0.01)
    assert "10 M" in words(panels(figure(FOUND))[0])


def test_the_step_line_goes_through_the_front_and_past_the_others() -> None:
    for panel in panels(figure(FOUND)):
        teacher, student, clumsy = spots(panel)
        corners = step(panel)
        assert corners[0] == student
        assert corners[1] == (teacher[0], student[1])
        assert corners[2] == teacher
        assert clumsy not in corners
        assert corners[-1][1] == teacher[1]


def test_a_detector_without_the_cost_or_an_auc_is_not_in_the_panel() -> None:
    untimed = dataclasses.replace(ROWS[1], milliseconds=())
    none = Interval(math.nan, math.nan, math.nan, 0)
    blank = dataclasses.replace(ROWS[2], metrics={**ROWS[2].metrics, "auc": none})
    found = panels(figure(dataclasses.replace(FOUND, rows=(ROWS[0], untimed, blank))))
    assert [len(spots(panel)) for panel in found] == [2, 1, 2]
    empty = panels(figure(dataclasses.replace(FOUND, rows=(blank,))))
    assert [len(spots(panel)) for panel in empty] == [0, 0, 0]


@pytest.mark.parametrize("auc", [0.0, 0.5, 1.0])
def test_detectors_that_are_alike_can_be_drawn_and_their_names_do_not_cover_each_other(auc: float) -> None:
    same = Interval(auc, math.nan, math.nan, 200)
    rows = tuple(
        dataclasses.replace(ROWS[1], name=f"student {number}", metrics={**ROWS[1].metrics, "auc": same})
        for number in range(3)
    )
    for panel in panels(figure(dataclasses.replace(FOUND, rows=rows))):
        named = [each for each in panel.iter(f"{SVG}text") if (each.text or "").startswith("student")]
        levels = sorted(float(str(each.get("y"))) for each in named)
        assert min(after - before for before, after in itertools.pairwise(levels)) >= 12


def test_names_cannot_break_out_of_figure_or_table() -> None:
    bad = dataclasses.replace(ROWS[1], name="<script>|[red]\x1b[31m")
    found = dataclasses.replace(FOUND, rows=(ROWS[0], bad))
    text = figure(found)
    assert not [each for each in ElementTree.fromstring(text).iter() if "script" in each.tag]
    assert not re.search(r"(href|url\(|@import)", text)
    assert "\x1b" not in text + table(found, width=180) + markdown(found)
    assert "<script>" in table(found, width=180)
    assert r"\<script\>\|\[red\]" in markdown(found)
