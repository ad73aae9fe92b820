"""The page of an explanation: one file, no request, nothing of the input unescaped, usable without a mouse."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import assay
from assay.judge.explain import Explanation, explain
from assay.judge.page import page
from webpage import Read, check_closed

HOSTILE = "a'\"><script>alert(1)</script>\u202e.png"


@pytest.fixture
def found(detector: assay.Detector) -> Explanation:
    pixels = np.random.default_rng(0).integers(20, 200, (60, 140, 3), dtype=np.uint8)
    return explain(detector, pixels)


def test_the_page_is_well_formed_and_tells_verdict_streams_and_crops(found: Explanation) -> None:
    read = Read(page(found, {"Further": [("a", "1")]}))
    assert read.open == []
    words = " ".join(text for _, text in read.text)
    assert f"{found.verdict.verdict}, P(fake) {found.verdict.score:.3f}" in words
    for line in (*found.verdict.reasons, *found.sentences):
        assert line in words
    assert f"{len(found.streams[0].boxes)} crops" in words
    assert f"{found.streams[0].scores[0]:.3f}" in words
    assert read.inside("h2")[-1] == "Further"
    assert read.inside("td")[-1] == "1"


def test_it_asks_nobody_for_anything_and_its_policy_allows_only_what_it_carries(found: Explanation) -> None:
    check_closed(Read(page(found)))


def test_nothing_of_the_input_is_taken_for_markup(found: Explanation) -> None:
    verdict = dataclasses.replace(found.verdict, input=HOSTILE, reasons=(HOSTILE,))
    look = dataclasses.replace(found.streams[0], name="<b>", map=None, reason=HOSTILE)
    text = page(dataclasses.replace(found, verdict=verdict, streams=(look,)), {HOSTILE: [(HOSTILE, HOSTILE)]})
    read = Read(text)
    assert [name for name, _ in read.tags].count("script") == 1
    assert "b" not in [name for name, _ in read.tags]
    assert "\u202e" not in text
    assert "alert(1)" in " ".join(read.inside("li"))


def test_maps_lie_over_the_picture_and_are_described(found: Explanation) -> None:
    read = Read(page(found))
    images = [tag for name, tag in read.tags if name == "img"]
    assert [tag["alt"] for tag in images] == [
        "grey: What speaks for fake (Score-CAM)",
        "grey: P(fake) of the crops that show a place",
    ]
    for tag in images:
        content = base64.b64decode((tag["src"] or "").partition(",")[2])
        assert Image.open(io.BytesIO(content)).size == (140, 60)
    [style] = read.inside("style")
    [under] = re.findall(r'url\("data:image/png;base64,([^"]+)"\)', style)
    assert Image.open(io.BytesIO(base64.b64decode(under))).size == (140, 60)
    assert "aspect-ratio: 140 / 60" in style


def test_the_strength_of_the_colours_is_a_labelled_slider_that_keys_can_move(found: Explanation) -> None:
    read = Read(page(found))
    [slider] = [tag for name, tag in read.tags if name == "input"]
    assert (slider["type"], slider["min"], slider["max"]) == ("range", "0", "100")
    assert [tag["for"] for name, tag in read.tags if name == "label"] == [slider["id"]]
    assert f'getElementById("{slider["id"]}")' in read.inside("script")[0]
    assert "focus-visible" in read.inside("style")[0]
    assert "prefers-color-scheme: dark" in read.inside("style")[0]


def test_a_stream_without_a_map_has_its_reason_and_no_picture(detector: assay.Detector) -> None:
    read = Read(page(explain(detector, np.zeros((9, 40, 3), np.uint8))))
    assert "no score" in read.inside("h1")[0]
    assert any("needs 16 px" in text for text in read.inside("li"))
    assert not [name for name, _ in read.tags if name == "img"]


def test_the_page_of_a_large_picture_stays_small(detector: assay.Detector, tmp_path: Path) -> None:
    found = explain(detector, np.full((200, 3000, 3), 90, np.uint8))
    assert len(page(found)) < 100_000
