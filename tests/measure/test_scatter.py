"""A scatter as SVG."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from assay.measure.scatter import COLOURS, GROUPS, OTHERS, svg

SVG = "{http://www.w3.org/2000/svg}"
POINTS = np.random.default_rng(0).normal(size=(40, 2))
WORDS = ["real", "fake"] * 20


def marks(text: str) -> list[ElementTree.Element]:
    """The points, without those of the legend."""
    group = ElementTree.fromstring(text).find(f"{SVG}g")
    assert group is not None
    return list(group)


def words(text: str) -> str:
    return "\n".join(each.text or "" for each in ElementTree.fromstring(text).iter(f"{SVG}text"))


def look(mark: ElementTree.Element) -> tuple[str, str, int]:
    """Colour and shape."""
    paint = mark.get("fill") if mark.get("fill") != "none" else mark.get("stroke")
    return str(paint), mark.tag, len(str(mark.get("points", "")).split())


def test_every_point_is_drawn_and_counted() -> None:
    text = svg(POINTS, WORDS, title="an embedding", note="seed 0")
    assert len(marks(text)) == 40
    told = words(text)
    assert "an embedding, n = 40" in told
    assert "seed 0" in told
    assert "real (n = 20)" in told
    assert "fake (n = 20)" in told


def test_groups_differ_by_colour_and_by_shape() -> None:
    looks = {look(mark) for mark in marks(svg(POINTS, WORDS, title=""))}
    assert len(looks) == len({colour for colour, *_ in looks}) == len({(tag, corners) for _, tag, corners in looks})
    assert len(looks) == 2
    names = [str(number) for number in range(GROUPS)]
    many = marks(svg(np.arange(2.0 * GROUPS).reshape(-1, 2), names, title=""))
    assert len({(mark.get("fill"), mark.tag, shape_of(mark)) for mark in many}) == GROUPS


def shape_of(mark: ElementTree.Element) -> tuple[tuple[float, float], ...]:
    """The corners, from the first of them."""
    corners = [tuple(map(float, corner.split(","))) for corner in str(mark.get("points", "")).split()]
    return tuple((round(x - corners[0][0]), round(y - corners[0][1])) for x, y in corners)


def test_the_smallest_groups_are_drawn_as_one_where_looks_run_out() -> None:
    names = ["large"] * 5 + [f"small {number}" for number in range(GROUPS + 10)]
    text = svg(np.zeros((len(names), 2)), names, title="")
    assert "large (n = 5)" in words(text)
    assert f"{OTHERS} (n = 12)" in words(text)


def test_a_group_keeps_its_look_where_it_comes_first() -> None:
    text = svg(POINTS[:5], ["b", "b", "b", "real", "a"], title="", first=("real",))
    assert words(text).index("real (") < words(text).index("b (") < words(text).index("a (")
    reals = [mark for mark in marks(text) if look(mark)[0] == COLOURS[0]]
    assert len(reals) == 1


def test_marked_points_are_outlines_and_the_legend_says_what_they_are() -> None:
    hollow = np.arange(40) < 7
    text = svg(POINTS, WORDS, title="", hollow=hollow, hollow_means="seen before")
    assert sum(mark.get("fill") == "none" for mark in marks(text)) == 7
    assert "seen before (n = 7)" in words(text)
    assert "seen before" not in svg(POINTS, WORDS, title="", hollow=hollow & False, hollow_means="seen before")


def test_places_keep_their_proportions_and_stay_in_the_frame() -> None:
    text = svg([[0, 0], [10, 0], [0, 5]], ["a"] * 3, title="")
    at = {(float(str(mark.get("cx"))), float(str(mark.get("cy")))) for mark in marks(text)}
    left, right = min(x for x, _ in at), max(x for x, _ in at)
    top, bottom = min(y for _, y in at), max(y for _, y in at)
    assert (right - left) == pytest.approx(2 * (bottom - top), abs=0.2)
    # Upwards is up.
    assert (left, top) in at
    assert (right, top) not in at
    frame = next(each for each in ElementTree.fromstring(text).iter(f"{SVG}rect") if each.get("x"))
    x, y, width, height = (float(str(frame.get(name))) for name in ("x", "y", "width", "height"))
    assert x < left < right < x + width
    assert y < top < bottom < y + height
    assert (left - x) == pytest.approx(x + width - right, abs=0.2)


def test_no_group_lies_on_top_of_all_others() -> None:
    text = svg(POINTS, ["a"] * 20 + ["b"] * 20, title="")
    drawn = [look(mark)[0] for mark in marks(text)]
    assert len(set(drawn[-8:])) == 2


def test_names_cannot_break_out_of_the_picture() -> None:
    bad = ['<script>alert("x")</script>', "\x1b[31m", "caf\udce9"]
    text = svg(POINTS[:3], bad, title="a & b <c>", note="&")
    text.encode("utf-8")
    assert not [each for each in ElementTree.fromstring(text).iter() if "script" in each.tag]
    assert r"\x1b[31m (n = 1)" in words(text)
    assert not re.search(r"(href|url\(|@import)", text)


def test_the_same_points_make_the_same_file_and_none_make_one_too() -> None:
    assert svg(POINTS, WORDS, title="") == svg(POINTS, WORDS, title="")
    assert "n = 0" in svg(np.zeros((0, 2)), [], title="nothing")


def test_points_that_have_no_place_are_refused() -> None:
    with pytest.raises(ValueError, match="finite points"):
        svg([[np.nan, 0]], ["a"], title="")
    with pytest.raises(ValueError, match="finite points"):
        svg(POINTS, ["a"], title="")
    with pytest.raises(ValueError, match="hollow"):
        svg(POINTS, WORDS, title="", hollow=[True])
