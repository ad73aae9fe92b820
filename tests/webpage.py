"""Reads a web page strictly: what its tags and attributes are, and whether it keeps what assay's pages promise."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import itertools
import re
from typing import Any

SHAPES = ("rect", "line", "circle", "path", "polygon", "polyline")
"""Of SVG: they close themselves, or are closed at once."""
VOID = ("meta", "img", "input", "br", *SHAPES)
"""Without an end."""


class Read(html.parser.HTMLParser):
    """Tags with their attributes, text by the tag it is in, and tags that were never closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.whole = text
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), (tag, names)
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert tag in SHAPES or self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append((self.open[-1] if self.open else "", data))

    def inside(self, tag: str) -> list[str]:
        return [text for where, text in self.text if where == tag]

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def words(self) -> str:
        """All that is read on the page."""
        return " ".join(" ".join(text for where, text in self.text if where not in ("style", "script")).split())


def check_closed(read: Read) -> None:
    """It asks nobody for anything, and its policy allows only what it carries."""
    for tag, attributes in read.tags:
        assert not {"srcset", "action", "style"} & set(attributes), tag
        assert not [name for name in attributes if name.startswith("on")], tag
        assert (attributes.get("src") or "data:").startswith("data:")
        assert (attributes.get("href") or "#").startswith("#")
        assert tag not in ("link", "base", "iframe", "object", "embed", "form", "image", "use", "foreignobject")
    assert all(link.startswith('"data:') for link in re.findall(r"url\(([^)]{0,9})", read.whole))
    assert "http" not in read.whole.replace("http-equiv", "")
    [policy] = [tag["content"] for tag in read.all("meta") if "http-equiv" in tag]
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    wanted = {"default-src": "'none'", "img-src": "data:", "base-uri": "'none'", "form-action": "'none'"}
    for tag in ("style", "script"):
        for content in read.inside(tag):
            digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
            wanted[f"{tag}-src"] = f"'sha256-{digest}'"
    assert rules == wanted


def check_readable(read: Read) -> None:
    """Everything is closed, named once, and reached by ear and by keys."""
    assert read.open == []
    identities = [str(tag["id"]) for _, tag in read.tags if "id" in tag]
    assert len(set(identities)) == len(identities)
    for _, attributes in read.tags:
        named = [attributes.get("aria-labelledby"), attributes.get("for"), (attributes.get("href") or "").lstrip("#")]
        assert {word for each in named if each for word in each.split()} <= set(identities)
    levels = [int(name[1]) for name, _ in read.tags if re.fullmatch("h[1-6]", name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert len(read.all("caption")) == len(read.all("table"))
    assert all(tag.get("scope") in ("row", "col") for tag in read.all("th"))
    assert all("alt" in tag for tag in read.all("img"))
    assert len(read.all("desc")) == len(read.all("svg")) == len(read.inside("desc"))
    assert all(tag.get("role") == "img" and tag.get("aria-labelledby") for tag in read.all("svg"))
