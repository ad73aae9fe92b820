"""What figures are drawn with."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest

from assay.measure.draw import SHAPES, mark, page, span, steps, stroke, text
from assay.metrics import Interval


def parsed(part: str) -> ElementTree.Element:
    return ElementTree.fromstring(page(10, 10, "", [part]))[-1]


def test_a_page_is_one_picture_of_its_size_with_its_title_and_parts() -> None:
    root = ElementTree.fromstring(page(30, 20, "a < b\x1b", [stroke(1, 2, 3, 4, "#123456")]))
    assert (root.get("width"), root.get("height"), root.get("viewBox")) == ("30", "20", "0 0 30 20")
    assert root[0].text == r"a < b\x1b"
    assert root[-1].attrib == {"x1": "1.0", "y1": "2.0", "x2": "3.0", "y2": "4.0", "stroke": "#123456"}


def test_words_cannot_become_markup() -> None:
    made = parsed(text(5, 6, '<script>&"\x00', "end", "fill='#555555'"))
    assert made.text == r'<script>&"\x00'
    assert (made.get("x"), made.get("text-anchor"), made.get("fill")) == ("5.0", "end", "#555555")


def test_shapes_differ_and_outlines_are_empty() -> None:
    filled = [mark(5, 5, "#123456", shape, hollow=False) for shape in SHAPES]
    assert len({part.replace("#123456", "") for part in filled}) == len(SHAPES)
    assert all(parsed(part).get("fill") == "#123456" for part in filled)
    hollow = parsed(mark(5, 5, "#123456", "circle", hollow=True))
    assert (hollow.get("fill"), hollow.get("stroke")) == ("none", "#123456")


@pytest.mark.parametrize(
    ("ends", "told"),
    [
        ([(0.8, 0.71, 0.93)], (0.7, 0.95)),
        ([(0.8, math.nan, math.nan), (0.62, 0.6, 0.7)], (0.55, 0.8)),
        ([(1.0, 1.0, 1.0)], (0.95, 1.0)),
        ([(0.0, 0.0, 0.0)], (0.0, 0.05)),
        ([(math.nan, math.nan, math.nan)], (0.45, 1.0)),
        ([], (0.45, 1.0)),
    ],
)
def test_an_axis_holds_every_interval(ends: list[tuple[float, float, float]], told: tuple[float, float]) -> None:
    assert span(Interval(*each, 1) for each in ends) == pytest.approx(told)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.7, 0.95), (0.95, 1.0), (0.0, 0.05), (0.3, 0.45)])
def test_steps_are_round_and_few_and_within(low: float, high: float) -> None:
    found = steps(low, high)
    assert 3 <= len(found) <= 7
    assert all(low - 1e-9 <= step <= high + 1e-9 for step in found)
    assert all(round(step, 2) == pytest.approx(step) for step in found)
