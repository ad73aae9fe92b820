"""Robustness as a figure: every family, level, detector and interval at its place."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable
from xml.etree import ElementTree

import pytest

from assay.errors import RecipeError
from assay.measure.curves import STATISTICS, families, svg
from assay.measure.robustness import SWEEPS
from assay.metrics import Interval

SVG = "{http://www.w3.org/2000/svg}"
NAMES = ("clean", "jpeg100", "jpeg50", "jpeg5", "noise0", "noise30", "noise60", "webp80", "half+jpeg50", "social")
LOST = dict(zip(NAMES, (0, 0, 0.1, 0.3, 0, 0.1, 0.2, 0.05, 0.1, 0.2), strict=True))


def figures(best: float, names: Iterable[str] = NAMES, missing: tuple[str, ...] = ()) -> dict[str, dict[str, Interval]]:
    """A detector that loses `LOST` of its AUC and calls as many more reals fake."""
    found = {}
    for name in names:
        auc, more = best - LOST.get(name, 0.1), LOST.get(name, 0.1)
        if name in missing:
            auc = math.nan
        found[name] = {
            statistic: Interval(auc, auc - 0.04, auc + 0.02, 90)
            if "auc" in statistic or "accuracy" in statistic
            else Interval(more, max(0.0, more - 0.04), more + 0.02, 90)
            for statistic in STATISTICS
        }
    return found


def panels(text: str) -> list[ElementTree.Element]:
    return ElementTree.fromstring(text).findall(f"{SVG}g")


def words(element: ElementTree.Element) -> list[str]:
    return [each.text or "" for each in element.iter(f"{SVG}text")]


def corners(element: ElementTree.Element) -> list[tuple[float, float]]:
    pairs = [corner.split(",") for corner in str(element.get("points")).split()]
    return [(float(x), float(y)) for x, y in pairs]


def frame(panel: ElementTree.Element) -> tuple[float, float, float, float]:
    found = panel.find(f"{SVG}rect")
    assert found is not None
    left, top, width, height = (float(str(found.get(name))) for name in ("x", "y", "width", "height"))
    return left, top, left + width, top + height


def lines(panel: ElementTree.Element) -> list[list[tuple[float, float]]]:
    return [corners(each) for each in panel.iter(f"{SVG}polyline")]


def test_families_are_those_with_several_levels_from_the_mildest_to_the_worst() -> None:
    assert families(["noise60", "clean", "jpeg5", "noise0", "jpeg100", "webp80", "social", "half+jpeg50"]) == {
        "noise": [(0, "noise0"), (60, "noise60")],
        "jpeg": [(100, "jpeg100"), (5, "jpeg5")],
    }
    assert families(["scale2", "scale0.5", "scale1.0"])["scale"][-1] == (0.5, "scale0.5")
    assert set(families(SWEEPS["full"])) == {"jpeg", "noise", "gaussian_blur", "motion_blur", "mix"}
    assert families([]) == {}


def test_there_is_a_panel_a_family_and_one_for_the_others() -> None:
    jpeg, noise, points = panels(svg({"a": figures(0.9)}))
    assert "jpeg: quality" in words(jpeg)
    assert {"100", "50", "5"} <= set(words(jpeg))
    assert "noise: sigma in levels of 0-255" in words(noise)
    named = [word for word in words(points) if word in NAMES]
    assert named == ["clean", "webp80", "half+jpeg50", "social"]
    left, top, right, bottom = frame(jpeg)
    assert (right - left, bottom - top) == (300, 200)
    # Beside, not upon each other.
    assert frame(noise)[0] > right
    assert frame(points)[1] > bottom


def test_lines_go_through_the_values_and_worse_pictures_lie_to_the_right() -> None:
    for panel, lost in zip(
        panels(svg({"a": figures(0.9), "b": figures(0.8)})), ((0, 0.1, 0.3), (0, 0.1, 0.2)), strict=False
    ):
        first, second = lines(panel)
        assert [x for x, _ in first] == sorted(x for x, _ in first)
        # All panels have one scale: what holds the lowest and the highest end, 0.46 and 0.92.
        _, top, _, bottom = frame(panel)

        def value(y: float, top: float = top, bottom: float = bottom) -> float:
            return 0.45 + 0.5 * (bottom - y) / (bottom - top)

        assert [value(y) for _, y in first] == pytest.approx([0.9 - each for each in lost], abs=1e-3)
        assert [value(y) for _, y in second] == pytest.approx([0.8 - each for each in lost], abs=1e-3)
        band, _ = (corners(each) for each in panel.findall(f"{SVG}polygon") if each.get("fill-opacity") == "0.13")
        upper, lower = band[:3], band[3:][::-1]
        assert [x for x, _ in upper] == [x for x, _ in lower] == [x for x, _ in first]
        assert [value(y) for _, y in upper] == pytest.approx([0.92 - each for each in lost], abs=1e-3)
        assert [value(y) for _, y in lower] == pytest.approx([0.86 - each for each in lost], abs=1e-3)


def test_levels_stand_at_their_numbers() -> None:
    jpeg, noise, _ = panels(svg({"a": figures(0.9)}))
    for panel, share in ((jpeg, 50 / 95), (noise, 0.5)):
        [line] = lines(panel)
        assert (line[1][0] - line[0][0]) / (line[2][0] - line[0][0]) == pytest.approx(share, abs=0.002)


def test_detectors_are_told_apart_without_colour_and_named_once() -> None:
    text = svg({f"d{number}": figures(0.9 - 0.05 * number) for number in range(5)})
    jpeg, *_ = panels(text)
    drawn = list(jpeg.iter(f"{SVG}polyline"))
    assert len({each.get("stroke-dasharray") for each in drawn}) == 5
    assert len({each.get("stroke") for each in drawn}) == 5
    assert [word for word in words(ElementTree.fromstring(text)) if re.fullmatch(r"d\d", word)] == [
        f"d{number}" for number in range(5)
    ]


def test_the_value_of_the_pictures_as_they_are_is_a_faint_line_in_every_family() -> None:
    text = svg({"a": figures(0.9)})
    for panel in panels(text)[:2]:
        [level] = [each for each in panel.iter(f"{SVG}line") if each.get("stroke-dasharray") == "1 4"]
        assert float(str(level.get("y1"))) == float(str(level.get("y2"))) == lines(panel)[0][0][1]
    assert "faint dots" in text
    without = svg({"a": figures(0.9, NAMES[1:])})
    assert "faint dots" not in without
    assert 'stroke-dasharray="1 4"' not in without.replace("'", '"')


def test_points_and_bars_stand_in_their_rows() -> None:
    *_, points = panels(svg({"a": figures(0.9), "b": figures(0.8)}))
    left, top, right, bottom = frame(points)
    bars = [each for each in points.iter(f"{SVG}line") if each.get("stroke") not in ("#eeeeee", "#cccccc")]
    assert len(bars) == 2 * 4
    spots = [(float(str(each.get("cx"))), float(str(each.get("cy")))) for each in points.iter(f"{SVG}circle")]
    assert [0.45 + 0.5 * (x - left) / (right - left) for x, _ in spots] == pytest.approx(
        [0.9, 0.85, 0.8, 0.7], abs=1e-3
    )
    height = (bottom - top) / 4
    assert [int((y - top) // height) for _, y in spots] == [0, 1, 2, 3]
    first = bars[0]
    assert float(str(first.get("x1"))) < spots[0][0] < float(str(first.get("x2")))


@pytest.mark.parametrize("statistic", STATISTICS)
def test_each_statistic_can_be_drawn_and_rates_start_at_nothing(statistic: str) -> None:
    text = svg({"a": figures(0.9)}, statistic)
    assert f"{STATISTICS[statistic]} after alteration, n = 90" in text
    jpeg, *_ = panels(text)
    rates = statistic in ("fpr", "ece", "flips")
    assert ("0" in words(jpeg)) == rates
    [line] = lines(jpeg)
    assert (line[-1][1] < line[0][1]) == rates
    high = {name: {statistic: Interval(0.8, 0.75, 0.85, 90)} for name in NAMES}
    assert ("0" in words(panels(svg({"a": high}, statistic))[0])) == rates


def test_what_is_not_defined_leaves_a_gap() -> None:
    jpeg, _, points = panels(svg({"a": figures(0.9, missing=("jpeg50", "social"))}))
    assert [len(line) for line in lines(jpeg)] == [1, 1]
    assert len(list(points.iter(f"{SVG}circle"))) == 3
    assert "social" in words(points)
    none = svg({"a": figures(0.9, missing=NAMES)})
    assert "nan" not in none
    assert [lines(panel) for panel in panels(none)] == [[], [], []]


def test_a_value_without_an_interval_is_a_line_without_a_band() -> None:
    bare = {name: {"auc": Interval(each["auc"].value, math.nan, math.nan, 90)} for name, each in figures(0.9).items()}
    text = svg({"a": bare})
    assert "nan" not in text
    assert [len(lines(panel)) for panel in panels(text)] == [1, 1, 0]


def test_single_levels_alone_have_no_curves_and_one_family_alone_no_points() -> None:
    assert len(panels(svg({"a": figures(0.9, ["jpeg50", "half"])}))) == 1
    assert len(panels(svg({"a": figures(0.9, ["jpeg50", "jpeg5"])}))) == 1
    assert panels(svg({})) == []


def test_marks_of_many_detectors_do_not_cover_each_other() -> None:
    *_, points = panels(svg({f"d{number}": figures(0.9) for number in range(6)}))
    bars = [each for each in points.iter(f"{SVG}line") if each.get("stroke") not in ("#eeeeee", "#cccccc")]
    levels = sorted(float(str(each.get("y1"))) for each in bars)
    assert min(after - before for before, after in itertools.pairwise(levels)) >= 8


def test_everything_stays_on_the_page_and_no_name_breaks_out() -> None:
    text = svg({"<script>\x1b[31m": figures(0.9, SWEEPS["full"]), "b": figures(0.8, SWEEPS["full"])})
    root = ElementTree.fromstring(text)
    assert not [each for each in root.iter() if "script" in each.tag]
    assert "\x1b" not in text
    assert not re.search(r"(href|url\(|@import)", text)
    width, height = float(str(root.get("width"))), float(str(root.get("height")))
    for panel in panels(text):
        _, _, right, bottom = frame(panel)
        assert right < width
        assert bottom + 40 < height


def test_a_statistic_that_does_not_exist_is_refused() -> None:
    with pytest.raises(RecipeError, match="no statistic called 'acu'; did you mean auc"):
        svg({"a": figures(0.9)}, "acu")
