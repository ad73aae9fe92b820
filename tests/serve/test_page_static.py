"""The pages' files hold what the policy allows and no more, name only what there is, and are all given out."""

from __future__ import annotations

import copy
import json
import re
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest

import assay
from assay.errors import InputError
from assay.image.provenance import Says
from assay.judge import heat, sink
from assay.serve import guard
from assay.serve.app import create
from assay.serve.routes import page
from assay.serve.settings import Settings
from assay.types import Ruling
from webpage import Read, check_readable

FOLDER = Path(assay.__file__).parent / "serve" / "page"
FILES = {path.name: path.read_text("utf-8") for path in sorted(FOLDER.iterdir())}
PAGES = {"index.html": ("index.html", "page.js"), "docs.html": ("docs.html", "docs.js")}
SCRIPTS = {name: text for name, text in FILES.items() if name.endswith(".js")}
OWN = {"/", "/docs", "/openapi.json"}

Page = pytest.mark.parametrize("name", PAGES)


def imported(name: str) -> set[str]:
    """A script with all that it imports, and what that imports."""
    found, left = set[str](), [name]
    while left:
        each = left.pop()
        if each not in found:
            found.add(each)
            left += re.findall(r'from "\./([\w.]+)"', FILES[each])
    return found


def test_the_list_of_assets_is_the_folder() -> None:
    assert set(page._ASSETS) == set(FILES)
    assert {path.suffix for path in page._ASSETS.values()} <= set(page.TYPES)


def test_every_asset_is_in_the_wheel() -> None:
    wheel = pytest.importorskip("hatchling.builders.wheel", reason="needs hatchling, which the group dev installs")
    root = Path(__file__).parents[2]
    held = {file.distribution_path for file in wheel.WheelBuilder(str(root)).recurse_included_files()}
    assert {f"assay/serve/page/{name}" for name in FILES} <= held


def test_every_asset_is_used_and_every_one_that_is_named_is_there() -> None:
    named = set(PAGES)
    for name in PAGES:
        for _, attributes in Read(FILES[name]).tags:
            for address in (attributes.get("src"), attributes.get("href")):
                if address and address.startswith("/static/"):
                    named.add(address.removeprefix("/static/"))
    for _, script in PAGES.values():
        named |= imported(script)
    assert named == set(FILES)


@Page
def test_pages_carry_no_script_no_style_and_no_handler(name: str) -> None:
    read = Read(FILES[name])
    for tag, attributes in read.tags:
        assert tag not in ("style", "iframe", "object", "embed", "base", "template")
        assert "style" not in attributes
        assert not [each for each in attributes if each.startswith("on")]
        assert not {"srcset", "action", "formaction", "http-equiv", "integrity"} & set(attributes)
        for each in ("src", "href"):
            address = attributes.get(each) or "/"
            assert address in OWN or re.fullmatch(r"#[\w-]+|/static/[\w.]+", address), address
    assert "".join(read.inside("script")).strip() == ""
    assert [each["type"] for each in read.all("script")] == ["module"]


def test_nothing_names_an_address_elsewhere() -> None:
    for name, text in FILES.items():
        left = text.replace("http://www.w3.org/2000/svg", "") if name in ("make.js", "icon.svg") else text
        assert not re.search(r"\bhttps?:|\bwss?:|[\"'(]//", left), name
        assert "@import" not in text
        assert not re.findall(r"url\((?!#)", text), name


def test_scripts_do_nothing_that_the_policy_forbids() -> None:
    policy = guard.HEADERS["Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    for kind in ("script-src", "style-src", "connect-src"):
        assert rules[kind] == "'self'"
    assert set(rules["img-src"].split()) == {"'self'", "data:", "blob:"}
    assert rules["media-src"] == "blob:"
    forbidden = (
        r"\beval\b|\bFunction\(|innerHTML|outerHTML\s*[+?|]*=|insertAdjacentHTML|document\.write|"
        r"createContextualFragment|"
        r"DOMParser|setHTML|setTimeout\(\s*[\"'`]|\bimport\(|importScripts|Worker\(|WebSocket|EventSource|sendBeacon|"
        r"cssText\s*=|[{\s,]style:|(?:[sS]etAttribute|make|draw)\(\s*\"style\"|localStorage|sessionStorage|document\.cookie|window\.open"
    )
    for name, text in SCRIPTS.items():
        assert not re.search(forbidden, text), (name, re.search(forbidden, text))


def test_only_paths_are_asked_for_that_the_server_has(settings: Settings) -> None:
    paths = set(create(settings).openapi()["paths"])
    asked = set()
    for text in SCRIPTS.values():
        for path in re.findall(r"[\"`](/v1/[^\"`?]*)", text):
            path = re.sub(r"\$\{query\(.*", "", path)
            path = re.sub(r"\$\{encodeURIComponent\((\w+)\)\}", r"{\1}", path)
            asked.add(path)
    kept = {str(each["data-keep"]) for each in Read(FILES["index.html"]).all("button") if "data-keep" in each}
    assert asked >= {"/v1/judge", "/v1/explain", "/v1/alter", "/v1/jobs", "/v1/jobs/{id}/events"}
    for path in asked - {"/v1/jobs/{id}/${what}"}:
        assert path in paths, path
    assert {f"/v1/jobs/{{id}}/{what}" for what in kept} <= paths


@Page
def test_pages_are_closed_named_once_and_labelled(name: str) -> None:
    read = Read(FILES[name])
    inside = copy.copy(read)
    # Where links lead to, the test of what is named looks.
    inside.tags = [(tag, {each: told for each, told in tags.items() if each != "href"}) for tag, tags in read.tags]
    check_readable(inside)
    ids = {str(attributes["id"]) for _, attributes in read.tags if attributes.get("id")}
    pointed = ("for", "aria-labelledby", "aria-describedby", "aria-controls")
    for tag, attributes in read.tags:
        for each in pointed:
            assert set((attributes.get(each) or "").split()) <= ids, (tag, attributes)
    labelled = {each["for"] for each in read.all("label")}
    for tag in ("input", "select", "progress"):
        for attributes in read.all(tag):
            assert attributes.get("id") in labelled or attributes.get("aria-labelledby"), attributes
    for attributes in read.all("section"):
        assert attributes.get("aria-labelledby")
    assert all(each.get("type") in ("button", "submit") for each in read.all("button"))
    assert [len(read.all(tag)) for tag in ("main", "header")] == [1, 1]
    assert {"lang": "en"} in read.all("html")


@Page
def test_scripts_look_only_for_what_is_on_their_page(name: str) -> None:
    ids = {str(attributes["id"]) for _, attributes in Read(FILES[name]).tags if attributes.get("id")}
    for script in imported(PAGES[name][1]) - {"make.js"}:
        wanted = set(re.findall(r"(?:byId|show)\(\"([\w-]+)\"", SCRIPTS[script]))
        for list in re.findall(r"const id of \[([^\]]+)\]", SCRIPTS[script]):
            wanted |= set(re.findall(r"\"([\w-]+)\"", list))
        assert wanted <= ids, (script, wanted - ids)


@Page
def test_scripts_import_what_there_is_and_use_it(name: str) -> None:
    for script in imported(PAGES[name][1]):
        for names, source in re.findall(r"import \{([^}]+)\} from \"\./([\w.]+)\"", SCRIPTS[script]):
            for each in (part.strip() for part in names.split(",") if part.strip()):
                assert re.search(rf"export (?:const|class|function\*?|async function) {each}\b", SCRIPTS[source]), each
                assert len(re.findall(rf"\b{each}\b", SCRIPTS[script])) > 1, (script, each)


def test_the_heat_has_the_colours_of_all_heat() -> None:
    [told] = re.findall(r"ANCHORS = (\[.*?\n\]);", FILES["heat.js"], re.DOTALL)
    assert json.loads(re.sub(r",\s*\]", "]", told)) == [list(colour) for colour in heat.ANCHORS]


def test_every_verdict_and_the_commonest_failures_have_words() -> None:
    [told] = re.findall(r"SHAPES = \{(.*?)\n\};", FILES["words.js"], re.DOTALL)
    assert set(re.findall(r"^  (\w+):", told, re.MULTILINE)) == {*map(str, Ruling), "failed"}
    [kinds] = re.findall(r"KINDS = \{(.*?)\n\};", FILES["words.js"], re.DOTALL)
    words = set(re.findall(r"^  (\w+):", kinds, re.MULTILINE))
    documented = set(
        re.findall(r"\b(?:not_an_image|unsupported|too_many_\w+|truncated|corrupt)\b", str(InputError.__doc__))
    )
    assert documented <= words


def test_forced_colours_leave_none_of_our_own() -> None:
    _, _, forced = re.findall(r":root \{(.*?)\}", FILES["page.css"], re.DOTALL)
    ours = re.findall(r"--([\w-]+): #", FILES["page.css"])
    told = dict(re.findall(r"--([\w-]+): (\w+);", forced))
    assert set(told) == set(ours)
    assert set(told.values()) <= {"Canvas", "CanvasText", "LinkText"}


def test_no_two_verdicts_look_alike() -> None:
    [told] = re.findall(r"SHAPES = \{(.*?)\n\};", FILES["words.js"], re.DOTALL)
    shapes = re.split(r"^  \w+: \(\) => ", told, flags=re.MULTILINE)[1:]
    outer = [re.findall(r'draw\("(\w+)"', shape)[0] for shape in shapes]
    assert len({re.sub(r"\s", "", shape) for shape in shapes}) == len(shapes) == 4
    assert outer.count("circle") == 1
    for colours in re.findall(r":root \{(.*?)\}", FILES["page.css"], re.DOTALL)[:2]:
        words = re.findall(rf"--(?:{'|'.join(Ruling)}): (#\w+)", colours)
        assert len(set(words)) == len(Ruling)


def test_a_kept_table_has_the_columns_of_all_tables() -> None:
    [told] = re.findall(r"CELLS = \{(.*?)\n\};", FILES["keep.js"], re.DOTALL)
    assert tuple(re.findall(r"^  (\w+):", told, re.MULTILINE)) == (*sink.COLUMNS, "provenance")
    [says] = re.findall(r"SAYS = (\[.*?\]);", FILES["keep.js"])
    assert tuple(json.loads(says)) == get_args(Says)


def test_nothing_moves_and_no_font_is_fetched() -> None:
    css = FILES["page.css"]
    assert not re.search(r"\b(transition|animation|@keyframes|scroll-behavior|@font-face)", css)
    assert "system-ui" in css
    for text in SCRIPTS.values():
        assert not re.search(r"behavior: \"smooth\"|\.animate\(", text)


def _luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    """WCAG 2, 1.4.3."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_words_stand_out_in_light_and_in_dark(dark: bool) -> None:
    blocks: list[Any] = re.findall(r":root \{(.*?)\}", FILES["page.css"], re.DOTALL)
    assert len(blocks) == 3
    colours = dict(re.findall(r"--([\w-]+): (#\w{6});", blocks[dark]))
    for ground in ("ground", "raised"):
        for ink in ("ink", "soft", "accent", *map(str, Ruling), "failed"):
            assert _contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
        assert _contrast(colours["edge"], colours[ground]) >= 3
    assert _contrast(colours["on-accent"], colours["accent"]) >= 4.5


def test_what_the_browser_tests_need_is_in_the_group_of_developers() -> None:
    told = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))
    names = [re.split(r"[<>=]", each)[0] for each in told["dependency-groups"]["dev"]]
    assert {"playwright", "axe-playwright-python"} <= set(names)
