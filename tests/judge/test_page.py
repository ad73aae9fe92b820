"""The page of an explanation: one file, no request, nothing of the input unescaped, usable without a mouse."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import html.parser
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import assay
from assay.judge.explain import Explanation, explain
from assay.judge.page import page

HOSTILE = "a'\"><script>alert(1)</script>\u202e.png"


class Read(html.parser.HTMLParser):
    """Tags with their attributes, text by the tag it is in, and tags that were never closed."""

    VOID = ("meta", "img", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append((self.open[-1] if self.open else "", data))

    def inside(self, tag: str) -> list[str]:
        return [text for where, text in self.text if where == tag]


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
    text = page(found)
    read = Read(text)
    for _, attributes in read.tags:
        assert not {"href", "srcset", "action", "style", "onclick", "oninput"} & set(attributes)
        assert (attributes.get("src") or "data:").startswith("data:")
    assert all(link.startswith('"data:') for link in re.findall(r"url\(([^)]{0,9})", text))
    assert "http" not in text.replace("http-equiv", "")
    [policy] = [tag["content"] for name, tag in read.tags if name == "meta" and "http-equiv" in tag]
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; ")
    for tag in ("style", "script"):
        [content] = read.inside(tag)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


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
