"""The page in a browser against a server of its own: whatever is chosen gets a verdict in words, by keys and by ear
too, and nothing but the server is asked for anything."""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin

from assay.image.view import View
from assay.judge import bundle
from assay.judge.card import Card, HeadCard, StreamCard
from assay.judge.heads import LinearHead
from assay.judge.rule import EnsembleRule, Errors, Judge, Rows, StreamRule
from assay.judge.seen import Seen
from tiny import WEIGHTS, tiny_graph
from webpage import Read

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, which the group dev installs")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the path")

expect = playwright.expect
expect.set_options(timeout=20_000)  # machines that test are busy
File = dict[str, Any]

SHARE = {"low": 0.1, "high": 0.3, "n": 90}
FIGURES = {
    "unseen": {
        "metrics": {
            "false_fake": {"value": 0.25, **SHARE},
            "false_real": {"value": 0.7, **SHARE},
            "coverage": {"value": 0.6, **SHARE},
            "base_rate_precision": {"value": 0.0102, **SHARE},
        }
    }
}


# ── a server, a browser, files ───────────────────────────────────────────────────────────────────────────────────────


def tiny(folder: Path, name: str, figures: dict[str, Any]) -> Path:
    """A bundle that calls bright pictures fake."""
    head = HeadCard(kind="linear", settings={})
    view = View(size=32, layout="grid", across=3, minimum=16)
    stream = {"view": view, "trunk": "tiny", "head": head, "embedding": 4, "backbone": "mean colour"}
    card = Card(
        name=name,
        version="1",
        description="Calls bright pictures fake. It knows nothing of pictures.",
        recipe="none",
        created=datetime.date(2026, 1, 2),
        assay="0",
        streams=tuple(StreamCard(name=each, parameters=WEIGHTS.size, **stream) for each in ("grey", "red")),
        figures=figures,
        limits=("It can't tell real from fake.",),
        engine="onnxruntime",
    )
    bar = {"threshold": 0.7, "doubt_low": 0.3, "fpr": 0.05}
    errors, rows = Errors(false_fake=0.04, false_real=0.1, decided=0.8), Rows(real=100, fake=90)
    rule = EnsembleRule(errors=errors, rows=rows, **bar)
    bundle.write(
        folder,
        card,
        Judge(streams={"grey": StreamRule(**bar), "red": StreamRule(**bar)}, ensemble=rule),
        files={
            "tiny.judge.onnx": tiny_graph(),
            "tiny.explain.onnx": tiny_graph(explain=True),
            "tiny.weights": WEIGHTS.tobytes(),
        },
        heads={"grey": LinearHead(np.array([0, 0, 0, 4.0]), 0.0), "red": LinearHead(np.array([4.0, 0, 0, 0]), 0.0)},
        seen=Seen.of(files=["ab" * 32], origins=["cd" * 32], phashes=[1]),
    )
    return folder


@contextlib.contextmanager
def serving(folder: Path, *options: str) -> Iterator[str]:
    """The address of a server in a process of its own."""
    options = ("--port", "0", "--json", "--data", str(folder / "data"), "--threads", "1", "--decoders", "1", *options)
    command = [sys.executable, "-m", "assay", "serve", *options]
    path = os.pathsep.join(each for each in sys.path if each)
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    with (
        (folder / "errors.txt").open("w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (folder / "errors.txt").read_text()
        try:
            yield json.loads(line)["url"]
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("bundles")
    made = [tiny(folder / "tiny", "tiny", FIGURES), tiny(folder / "other", "other", {})]
    return [option for each in made for option in ("-d", str(each))]


@pytest.fixture(scope="module")
def server(bundles: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("server"), *bundles) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Any, server: str) -> Iterator[Callable[..., Any]]:
    """`visit(path, url, **context)`: a page that is read. It must ask only its own server, and nothing in it fails."""
    asked, wrong, contexts = [], [], []

    def go(path: str = "/", url: str = server, **options: Any) -> Any:
        context = browser.new_context(accept_downloads=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("request", lambda request: asked.append((url, request.url)))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda told: wrong.append(told.text) if told.type in ("error", "warning") else None)
        page.goto(url + path)
        return page

    yield go
    for context in contexts:
        context.close()
    for url, each in asked:
        assert each.startswith((f"{url}/", "data:", f"blob:{url}/")), each
    # That an answer is no 200 is told to the console whatever the page does with it.
    assert [each for each in wrong if not each.startswith("Failed to load resource")] == []


def png(name: str, grey: int, width: int = 90, height: int = 60, spread: int = 0) -> File:
    """A file to choose: one grey, brighter to the right by `spread`."""
    ramp = np.linspace(-spread, spread, width)[None, :, None]
    noise = np.random.default_rng(grey).integers(-3, 4, (height, width, 3))
    file = io.BytesIO()
    Image.fromarray(np.clip(grey + ramp + noise, 0, 255).astype(np.uint8)).save(file, "PNG")
    return {"name": name, "mimeType": "image/png", "buffer": file.getvalue()}


def choose(page: Any, *files: File) -> None:
    page.set_input_files("#files", list(files))


def open_job(page: Any, name: str = "x") -> None:
    """The page anew, at a job. It is left first: still beginning, it would follow the job and be the first to ask."""
    address = page.url.partition("#")[0]
    page.goto("about:blank")
    page.goto(f"{address}#job={name}")


def judged(page: Any, *files: File) -> None:
    choose(page, *files)
    expect(page.locator("#result")).to_be_visible()


def until(true: Callable[[], Any]) -> None:
    """Waits for what comes about; the page's policy forbids Playwright's own way."""
    for _ in range(400):
        if true():
            return
        time.sleep(0.05)
    pytest.fail("it never came about")


def focused(page: Any) -> str:
    return str(page.evaluate("document.activeElement.id"))


def drawn(page: Any, selector: str) -> int:
    """How many pixels of a canvas are not transparent."""
    return int(
        page.eval_on_selector(
            selector,
            "each => each.getContext('2d').getImageData(0, 0, each.width, each.height).data"
            ".filter((value, at) => at % 4 === 3 && value > 0).length",
        )
    )


# ── one picture ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("grey", "word", "wrong", "heading"),
    [
        (
            220,
            "Probably generated",
            "25 in 100 (likely between 10 and 30) were called generated",
            "Before you rely on it",
        ),
        (20, "Probably a real photograph", "70 in 100 (likely between 10 and 30) were called real", "Before you rely"),
        (122, "Can't tell: too close to call", "it could not tell for 40 in 100", "What to do next"),
    ],
    ids=["fake", "real", "uncertain"],
)
def test_a_picture_gets_a_verdict_in_words_and_how_often_it_is_wrong(
    visit: Any, grey: int, word: str, wrong: str, heading: str
) -> None:
    page = visit()
    judged(page, png("a.png", grey))
    expect(page.locator("#verdict")).to_have_text(word)
    assert focused(page) == "verdict"
    assert page.title().startswith(word)
    expect(page.locator("#wrong")).to_contain_text(wrong)
    expect(page.locator("#next-title")).to_contain_text(heading)
    expect(page.locator("#meaning")).to_contain_text("On a scale from 0 (real) to 1 (generated)")
    scale = page.locator("#scale svg")
    score = scale.locator(".at").text_content()
    assert scale.get_attribute("aria-label") == f"Scale from 0, real, to 1, generated: score {score}"

    def at(selector: str, *sides: str) -> list[float]:
        return [float(scale.locator(selector).get_attribute(side).rstrip("%")) for side in sides]

    assert at(".marker", "x1", "x2") == pytest.approx(2 * [100 * float(score)], abs=1)
    assert at(".line", "x1") == [70]
    assert at(".zone.uncertain", "x", "width") == [30, 40]
    assert at(".zone.fake", "x", "width") == [70, 30]
    assert scale.locator(".called").all_text_contents() == ["real", "can't tell", "generated"]
    assert page.locator("#streams tbody tr").all_inner_texts()[0].startswith("grey\tpieces from all over the picture")
    assert page.locator("#streams tbody tr").count() == 2


def test_nobody_measured_is_said_where_nobody_did(visit: Any) -> None:
    page = visit()
    page.click("#options summary")
    page.select_option("#detector", "other")
    judged(page, png("a.png", 220))
    expect(page.locator("#about")).to_contain_text("judged by other 1")
    expect(page.locator("#wrong")).to_contain_text("Nobody has measured how often this detector is wrong")
    expect(page.locator("#wrong")).to_contain_text("at most 5 in 100 real pictures")
    page.click("#card summary")
    expect(page.locator("#card-body")).to_contain_text("It can't tell real from fake.")
    expect(page.locator("#card-body")).to_contain_text("Nothing yet.")


def test_what_no_stream_can_judge_has_no_score(visit: Any) -> None:
    page = visit()
    judged(page, png("a.png", 220, 8, 8))
    expect(page.locator("#verdict")).to_have_text("Can't tell: there is nothing to judge")
    expect(page.locator("#meaning")).to_contain_text(re.compile(r"16 px .*\. So there is no score"))
    assert page.locator(".marker").count() == 0
    assert "has no part in this" in page.locator("#streams tbody tr").first.inner_text()
    for each in ("#wrong-part", "#alter"):
        expect(page.locator(each)).to_be_hidden()


def test_what_the_browser_cannot_show_is_shown_by_the_server(visit: Any) -> None:
    page, file = visit(), io.BytesIO()
    Image.new("RGB", (60, 40), (220, 220, 220)).save(file, "TIFF")
    judged(page, {"name": "a.tiff", "mimeType": "image/tiff", "buffer": file.getvalue()})
    expect(page.locator("#picture")).to_have_attribute("src", re.compile("^data:image/jpeg"))
    expect(page.locator("#map")).to_be_visible()


def test_the_map_lies_over_the_picture_and_obeys(visit: Any) -> None:
    page = visit()
    judged(page, png("a.png", 120, spread=90))
    expect(page.locator("#map")).to_be_visible()
    assert drawn(page, "#map") > 100
    places = [page.locator(each).bounding_box() for each in ("#map", "#picture")]
    assert places[0] == places[1]
    assert page.evaluate("[...document.querySelector('#which').options].map(each => each.value)") == ["", "grey", "red"]
    page.fill("#strength", "25")
    assert page.locator("#map").evaluate("each => each.style.opacity") == "0.25"
    expect(page.locator("#picture")).to_have_class("grey")
    page.fill("#strength", "0")
    expect(page.locator("#picture")).not_to_have_class("grey")
    before = page.locator("#map").evaluate("each => each.toDataURL()")
    with page.expect_response(lambda answer: "toward=real" in answer.url):
        page.select_option("#toward", "real")
    expect(page.locator("#map-words")).to_contain_text("what speaks for real to grey")
    until(lambda: page.locator("#map").evaluate("each => each.toDataURL()") != before)
    page.select_option("#which", "red")
    page.click("#map-tools summary")
    shares = [int(each) for each in re.findall(r": (\d+) %", page.inner_text("#map-table"))]
    assert len(shares) == 9
    assert 90 <= sum(shares) <= 110


def test_faces_are_boxed_where_there_are_any(visit: Any) -> None:
    page = visit()

    def faces(route: Any) -> None:
        told = route.fetch().json()
        told["faces"] = [[9, 6, 36, 36], [45, -6, 90, 30]]
        one = {"box": [9, 6, 36, 36], "score": 0.91, "verdict": "fake"}
        told["verdict"]["streams"][1]["faces"] = [one]
        route.fulfill(json=told)

    page.route("**/v1/judge*", faces)
    judged(page, png("a.png", 220))
    assert page.locator(".box").count() == 2
    stage, box = page.locator("#stage").bounding_box(), page.locator(".box").first.bounding_box()
    assert (box["x"] - stage["x"]) / stage["width"] == pytest.approx(0.1, abs=0.01)
    assert box["height"] / stage["height"] == pytest.approx(0.5, abs=0.02)
    assert page.locator(".box").first.get_attribute("aria-label") == "Face 1: probably generated, 0.91"
    assert "probably generated" in page.locator("#faces tbody tr").first.inner_text()
    page.uncheck("#boxes-shown")
    expect(page.locator(".box").first).to_be_hidden()


def test_what_the_file_says_stands_apart_and_that_it_says_nothing_says_nothing(visit: Any) -> None:
    page = visit()
    judged(page, png("a.png", 20))
    expect(page.locator("#origin")).to_contain_text("that there is none says nothing of the picture")
    expect(page.locator("#origin-words")).to_contain_text("Nothing in this file says where it comes from.")
    exif, file = Image.Exif(), io.BytesIO()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = "Canon", "<b>EOS</b> R5"
    Image.new("RGB", (40, 40)).save(file, "JPEG", exif=exif)
    judged(page, {"name": "<img src=x>.jpg", "mimeType": "image/jpeg", "buffer": file.getvalue()})
    expect(page.locator("#signs")).to_contain_text("<b>EOS</b> R5")
    expect(page.locator("#signs")).to_contain_text("from a camera")
    expect(page.locator("#about")).to_contain_text("<img src=x>.jpg")
    assert page.locator("#origin b, #about img").count() == 0


def test_what_is_signed_says_whether_it_holds_and_a_generators_settings_are_shown(visit: Any) -> None:
    page = visit()
    texts, file = PngImagePlugin.PngInfo(), io.BytesIO()
    texts.add_text("parameters", "a cat\nSteps: 20, Sampler: Euler a, Seed: 42, Model: xl")
    Image.new("RGB", (40, 40)).save(file, "PNG", pnginfo=texts)
    judged(page, {"name": "a.png", "mimeType": "image/png", "buffer": file.getvalue()})
    expect(page.locator(".sign h4")).to_have_text("A generator's settings")
    expect(page.locator(".sign .tag")).to_have_text("says: generated")
    page.click(".sign summary")
    assert "seed\n42" in page.inner_text(".sign dl")
    # The dark picture stays what its pixels say.
    expect(page.locator("#verdict")).to_have_text("Probably a real photograph")

    sign = {"kind": "c2pa", "title": "It is signed.", "detail": {}}
    states = ("valid", "untrusted", "invalid")
    signs = [sign | {"verified": state, "says": "nothing certain"} for state in states]

    def signed(route: Any) -> None:
        route.fulfill(json=route.fetch().json() | {"provenance": {"signs": signs, "unread": ["XMP"], "told": ""}})

    page.route("**/v1/judge*", signed)
    judged(page, png("b.png", 20))
    told = page.locator(".sign .tag:nth-child(2)").all_inner_texts()
    assert [words.split(":")[0] for words in told] == list(states)
    assert len(set(told)) == len(states)
    expect(page.locator("#signs")).to_contain_text("Could not be read: XMP")


def test_a_picture_is_judged_again_after_changes_and_the_last_one_counts(visit: Any) -> None:
    page = visit()
    judged(page, png("a.png", 122))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/v1/alter" in request.url else None)
    for quality in (90, 60, 40):
        page.fill("#jpeg", str(quality))
    expect(page.locator("#preview-words")).to_contain_text("JPEG 40")
    assert [re.findall(r"jpeg=(\d+)", each) for each in asked] == [["40"]]
    expect(page.locator("#alter-words")).to_contain_text("The verdict stays: can't tell")
    assert page.get_attribute("#preview", "src").startswith("data:image/jpeg")
    assert page.get_attribute("#jpeg", "aria-valuetext") == "40"

    # An answer that comes too late is not shown.
    held: list[Any] = []
    page.route("**/v1/alter?*scale=0.5*", lambda route: held.append(route))
    page.fill("#resize", "50")
    while not held:
        page.wait_for_timeout(20)
    page.fill("#resize", "100")
    page.fill("#blur", "1.5")
    expect(page.locator("#preview-words")).to_contain_text("blur 1.5 px, JPEG 40")
    with contextlib.suppress(playwright.Error):
        held[0].continue_()
    page.wait_for_timeout(300)
    expect(page.locator("#preview-words")).to_contain_text("Change: blur 1.5 px, JPEG 40")
    assert page.locator("#altered tbody th").all_inner_texts() == ["blur 1.5 px, JPEG 40", "JPEG 40"]
    page.click("#alter-reset")
    expect(page.locator("#preview-words")).to_contain_text("Change: none; 90 × 60 px")

    asked.clear()
    page.unroute("**/v1/alter?*scale=0.5*")
    page.click("#alter-common")
    expect(page.locator("#alter-words")).to_have_text(re.compile("“can't tell” stays after [0-5] of 5 common changes"))
    assert len(asked) == 5
    assert page.locator("#altered tbody tr").count() == 8


def test_a_result_can_be_kept(visit: Any) -> None:
    page = visit()
    judged(page, png("holiday.png", 220))
    expect(page.locator("#map")).to_be_visible()
    with page.expect_download() as coming:
        page.click("#keep-json")
    assert coming.value.suggested_filename == "holiday.png.json"
    told = json.loads(Path(coming.value.path()).read_text("utf-8"))
    assert set(told) == {"verdict", "provenance", "faces", "explanation", "altered"}
    assert told["verdict"]["verdict"] == "fake"
    assert told["explanation"]["toward"] == "fake"

    # The row is the one that the server writes.
    with page.expect_download() as coming:
        page.click("#keep-csv")
    kept = Path(coming.value.path()).read_bytes()
    choose(page, png("holiday.png", 220), png("b.png", 20))
    expect(page.locator("#job-rows tr")).to_have_count(2)
    expect(page.locator("#job-going")).to_be_hidden()
    with page.expect_download() as coming:
        page.click("#job [data-keep='results.csv']")
    assert Path(coming.value.path()).read_bytes().splitlines()[:2] == kept.splitlines()


def test_a_kept_report_is_one_file_that_asks_for_nothing(visit: Any, tmp_path: Path) -> None:
    page = visit()
    judged(page, png("<b>holiday.png", 122, spread=90))
    expect(page.locator("#map")).to_be_visible()
    page.fill("#jpeg", "50")
    expect(page.locator("#altered-part")).to_be_visible()
    with page.expect_download() as coming:
        page.click("#keep-report")
    file = tmp_path / "kept.html"
    coming.value.save_as(file)
    read = Read(file.read_text("utf-8"))
    assert not {"script", "button", "input", "select", "canvas", "video"} & {tag for tag, _ in read.tags}
    assert not [name for _, attributes in read.tags for name in attributes if name == "style" or name.startswith("on")]

    asked: list[str] = []
    page = page.context.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda told: asked.append(told.text))
    page.goto(file.as_uri())
    assert [each for each in asked if not each.startswith("data:")] == [file.as_uri()]
    expect(page.locator("#verdict")).to_have_text("Can't tell: too close to call")
    assert page.locator(".flat").evaluate("each => each.naturalWidth") == 90
    for words in ("<b>holiday.png", "JPEG 50", "It can't tell real from fake.", "upper left"):
        expect(page.locator("body")).to_contain_text(words)
    assert page.locator(".zone.fake").first.evaluate("each => getComputedStyle(each).fill") != "rgb(0, 0, 0)"
    assert faults(page) == []


def test_pictures_can_be_dropped_and_pasted(visit: Any) -> None:
    page = visit()
    data = """([bytes, kind, place]) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], `${kind}.png`, { type: "image/png" }));
        const key = kind === "paste" ? "clipboardData" : "dataTransfer";
        const event = new (kind === "paste" ? ClipboardEvent : DragEvent)(kind, { [key]: data, bubbles: true });
        document.querySelector(place).dispatchEvent(event);
    }"""
    for kind, grey in (("drop", 20), ("paste", 220)):
        page.evaluate(data, [list(png("", grey)["buffer"]), kind, "#drop"])
        expect(page.locator("#about")).to_contain_text(f"{kind}.png")
    expect(page.locator("#verdict")).to_have_text("Probably generated")


def test_a_picture_is_got_from_an_address_where_the_server_does_that(visit: Any) -> None:
    page = visit()
    expect(page.locator("#link-form")).to_be_hidden()
    asked = []

    def getting(route: Any) -> None:
        asked.append(route.request.url)
        told = {"error": {"kind": "private", "message": "that address is not on the public internet, and is not asked"}}
        if len(asked) == 1:
            route.fulfill(status=403, json=told)
        else:
            route.fulfill(body=png("", 220)["buffer"], content_type="application/octet-stream")

    page.route("**/v1/fetch*", getting)
    page.route("**/v1/detectors", lambda route: route.fulfill(json=route.fetch().json() | {"fetches": True}))
    page.reload()
    page.fill("#link", "http://192.168.0.1/a.png")
    page.click("#link-form button")
    expect(page.locator("#problem-title")).to_have_text("That address is not asked")
    page.fill("#link", "https://example.org/bright%20sky.png?size=full")
    page.press("#link", "Enter")
    expect(page.locator("#verdict")).to_have_text("Probably generated")
    expect(page.locator("#about")).to_contain_text("bright sky.png")
    until(lambda: page.locator("#picture").evaluate("each => each.naturalWidth") == 90)
    assert asked[-1].endswith("/v1/fetch?url=https%3A%2F%2Fexample.org%2Fbright%2520sky.png%3Fsize%3Dfull")


# ── many, and videos ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_folder_can_be_dropped(visit: Any, tmp_path: Path) -> None:
    (tmp_path / "trip" / "day 2").mkdir(parents=True)
    for name, grey in (("trip/b.png", 20), ("trip/day 2/a.png", 220), ("trip/.hidden.png", 90)):
        (tmp_path / name).write_bytes(png("", grey)["buffer"])
    page = visit()
    place = page.locator("#drop").bounding_box()
    data = {"items": [], "files": [str(tmp_path / "trip")], "dragOperationsMask": 1}
    at = {"x": place["x"] + 20, "y": place["y"] + 20, "data": data}
    devtools = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver"):
        devtools.send("Input.dispatchDragEvent", {"type": kind, **at})
    expect(page.locator("#drop")).to_have_class("drop over")
    devtools.send("Input.dispatchDragEvent", {"type": "drop", **at})
    expect(page.locator("#job-rows tr")).to_have_count(2)
    assert page.locator("#job-rows th").all_inner_texts() == ["trip/b.png", "trip/day 2/a.png"]
    expect(page.locator("#drop")).to_have_class("drop")


def test_a_folder_can_be_chosen_and_what_is_no_picture_stays_at_home(visit: Any, tmp_path: Path) -> None:
    (tmp_path / "trip" / ".cache").mkdir(parents=True)
    for name, grey in (("a10.png", 20), ("a9.png", 220), (".cache/c.png", 90)):
        (tmp_path / "trip" / name).write_bytes(png("", grey)["buffer"])
    (tmp_path / "trip" / "notes.txt").write_text("no picture")
    page = visit()
    page.set_input_files("#folder", str(tmp_path / "trip"))
    expect(page.locator("#job-rows tr")).to_have_count(2)
    assert page.locator("#job-rows th").all_inner_texts() == ["trip/a9.png", "trip/a10.png"]
    expect(page.locator("#job-left")).to_have_text("Not sent, as no picture or video by its kind: 1 file.")


def result(number: int, score: float) -> dict[str, Any]:
    """One of a job's results, as the server tells it."""
    verdict = "fake" if score >= 0.7 else "uncertain" if score >= 0.3 else "real"
    told = {"input": f"{number}.png", "sha256": "", "verdict": verdict, "score": score, "threshold": 0.7, "fpr": 0.05}
    told |= {"doubt": [0.3, 0.7], "streams": [], "reasons": ["so it is"], "width": 9, "height": 9, "detector": {}}
    return {"number": number, "name": f"{number}.png", "result": told}


def events(results: list[dict[str, Any]], job: dict[str, Any] | None) -> dict[str, Any]:
    """The answer that gives them, and ends the job where there is one."""
    lines = [f"event: result\nid: {at}\ndata: {json.dumps(each)}\n\n" for at, each in enumerate(results, 1)]
    if job:
        lines.append(f"event: end\ndata: {json.dumps(job)}\n\n")
    return {"body": "".join(lines), "headers": {"Content-Type": "text/event-stream"}}


def a_job(total: int, **counts: int) -> dict[str, Any]:
    counted = {word: counts.get(word, 0) for word in ("fake", "real", "uncertain", "failed")}
    return {"id": "x", "kind": "pictures", "total": total, "finished": sum(counted.values()), "counts": counted}


def test_thousands_of_results_are_sorted_and_filtered_at_once(visit: Any) -> None:
    page = visit()
    job = a_job(2000, real=2000)
    page.route("**/v1/jobs/x", lambda route: route.fulfill(json=job))
    results = [result(number, (7 * number % 2000) / 2000) for number in range(2000)]
    page.route("**/v1/jobs/x/events", lambda route: route.fulfill(**events(results, job)))
    open_job(page)
    rows = page.locator("#job-rows tr")
    expect(rows).to_have_count(200)
    expect(page.locator("#job-shown")).to_have_text("2,000 of 2,000 shown, the first 200 of them at once")
    began = time.monotonic()
    page.click("[data-sort=score] button")
    assert rows.first.locator(".number").inner_text() == "0.000"
    page.fill("#job-search", "199")
    assert rows.count() == 12
    page.fill("#job-search", "")
    page.click("#job-more")
    assert rows.count() == 400
    assert time.monotonic() - began < 5
    # Whoever goes by keys is where the new rows begin.
    assert page.evaluate("[...document.querySelectorAll('#job-rows tr')].indexOf(document.activeElement)") == 200


def test_a_job_is_followed_through_a_lost_connection_and_nobody_loses_their_place(visit: Any) -> None:
    page = visit()
    asked: list[str | None] = []
    away = True

    def coming(route: Any) -> None:
        asked.append(route.request.headers.get("last-event-id"))
        if len(asked) == 1:
            route.fulfill(**events([result(2, 0.5), result(5, 0.9)], None))
        elif away:
            route.abort()
        else:
            route.fulfill(**events([result(at, at / 10) for at in range(6)], a_job(6, real=3, uncertain=3)))

    page.route("**/v1/jobs/x", lambda route: route.fulfill(json=a_job(6, uncertain=2)))
    page.route("**/v1/jobs/x/events", coming)
    open_job(page)
    expect(page.locator("#job-rows tr")).to_have_count(2)
    page.click("[data-sort=score] button")
    page.focus("[aria-label='Look closer at 5.png']")
    expect(page.locator("#wait")).to_contain_text("The connection to the server is lost.")
    away = False
    expect(page.locator("#job-rows tr")).to_have_count(6)
    expect(page.locator("#wait")).to_be_hidden()
    expect(page.locator("#job-going")).to_be_hidden()
    assert asked[0] is None
    assert set(asked[1:]) == {"2"}
    assert len(asked) >= 3
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Look closer at 5.png"


def test_many_files_become_a_table_that_sorts_filters_and_tells_what_failed(visit: Any) -> None:
    page = visit()
    told: list[str] = []
    page.expose_function("heard", lambda words: told.append(words))
    page.evaluate(
        "new MutationObserver(() => heard(document.querySelector('#said').textContent))"
        ".observe(document.querySelector('#said'), { childList: true, characterData: true, subtree: true })"
    )
    greys = {"b10.png": 20, "b9.png": 220, "a.png": 122, **{f"c{at}.png": 40 + 10 * at for at in range(6)}}
    files = [png(name, grey) for name, grey in greys.items()]
    torn = {**png("torn.png", 90), "buffer": png("torn.png", 90)["buffer"][:300]}
    choose(page, *files, torn)
    expect(page.locator("#job-title")).to_have_text("10 files")
    assert focused(page) == "job-title"
    expect(page.locator("#job-going")).to_be_hidden()
    rows = page.locator("#job-rows tr")
    expect(rows).to_have_count(10)
    assert rows.locator("th").all_inner_texts()[:3] == ["b10.png", "b9.png", "a.png"]
    thumbnails = "[...document.querySelectorAll('#job-rows canvas')].filter(each => each.width === 96).length"
    until(lambda: page.evaluate(thumbnails) > 2)
    assert page.locator("#job-counts").inner_text().split("\n")[0].endswith("probably generated 1")

    page.click("[data-sort=score] button")
    scores = [cell for cell in page.locator("#job-rows td.number").all_inner_texts() if cell != "–"]
    assert scores == sorted(scores)
    assert page.get_attribute("[data-sort=score]", "aria-sort") == "ascending"
    page.click("[data-sort=score] button")
    assert page.locator("#job-rows td.number").all_inner_texts() == [*reversed(scores), "–"]
    page.click("[data-sort=name] button")
    assert rows.locator("th").first.inner_text() == "a.png"
    page.fill("#job-search", "B9")
    expect(rows).to_have_count(1)
    expect(page.locator("#job-shown")).to_have_text("1 of 10 shown")
    page.fill("#job-search", "")
    page.select_option("#job-word", "failed")
    expect(rows).to_have_count(1)
    assert "The file is cut off" in rows.first.inner_text()
    assert "get the file again" in rows.first.inner_text()
    assert rows.locator("button").count() == 0
    # It tells of quarters and of the end, not of each file.
    assert 1 <= len(told) <= 5
    assert told[-1].startswith("Done. 1 probably generated")


def test_a_row_is_looked_at_closer_and_left_again(visit: Any) -> None:
    page = visit()
    choose(page, png("a.png", 20), png("b.png", 220))
    page.locator("#job-rows button").nth(1).click()
    expect(page.locator("#verdict")).to_have_text("Probably generated")
    expect(page.locator("#origin-words")).to_contain_text("Nothing in this file")
    expect(page.locator("#job")).to_be_hidden()
    page.click("#back")
    expect(page.locator("#result")).to_be_hidden()
    expect(page.locator("#job")).to_be_visible()
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Look closer at b.png"


def test_results_are_kept_found_again_and_deleted(visit: Any) -> None:
    page = visit()
    choose(page, png("a.png", 20), png("b.png", 220))
    expect(page.locator("#job-rows tr")).to_have_count(2)
    expect(page.locator("#job-going")).to_be_hidden()
    found = {}
    for what in ("report", "results.csv", "results.jsonl"):
        with page.expect_download() as coming:
            page.click(f"#job [data-keep='{what}']")
        found[Path(coming.value.suggested_filename).suffix] = Path(coming.value.path()).read_text("utf-8")
    assert found[".html"].startswith("<!doctype html>")
    assert [json.loads(line)["verdict"] for line in found[".jsonl"].splitlines()] == ["real", "fake"]
    assert found[".csv"].count("\n") == 3
    page.reload()
    expect(page.locator("#job-rows tr")).to_have_count(2)
    page.locator("#job-rows button").first.click()
    expect(page.locator("#verdict")).to_have_text("Probably a real photograph")
    expect(page.locator("#look")).to_be_hidden()
    expect(page.locator("#origin-words")).to_contain_text("Nothing in this file")
    page.click("#back")
    page.focus("#job-delete")
    page.keyboard.press("Enter")
    assert focused(page) == "sure-no"
    page.keyboard.press("Escape")
    assert focused(page) == "job-delete"
    page.click("#job-delete")
    page.click("#sure-yes")
    expect(page.locator("#job")).to_be_hidden()
    expect(page.locator("#problem")).to_be_hidden()
    assert "#" not in page.url
    assert focused(page) == "files"


def test_a_videos_score_is_shown_over_time_and_walked_by_keys(visit: Any, tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="needs av, which the extra video installs")
    with av.open(str(tmp_path / "clip.webm"), "w") as file:
        stream = file.add_stream("libvpx", rate=10)
        stream.width = stream.height = 64
        for grey in range(30):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((64, 64, 3), 8 * grey, np.uint8))))
        file.mux(stream.encode(None))
    page = visit()
    page.click("#options summary")
    page.fill("#every", "0.5")
    judged(page, {"name": "clip.webm", "mimeType": "video/webm", "buffer": (tmp_path / "clip.webm").read_bytes()})
    points = page.locator("#chart .point")
    assert points.count() == 6
    assert page.locator("#chart-table tbody tr").count() == 6
    expect(page.locator("#alter")).to_be_hidden()
    crossings = page.locator("#chart .crossing").count()
    assert crossings >= 1
    expect(page.locator("#chart-crossings")).to_contain_text(
        re.compile(rf"It crosses the line {crossings} times? \(up at")
    )
    points.first.focus()
    for key, at in (("ArrowRight", 1), ("End", 5), ("ArrowRight", 5), ("ArrowLeft", 4)):
        page.keyboard.press(key)
        assert page.evaluate("[...document.querySelectorAll('.point')].indexOf(document.activeElement)") == at
    assert page.locator("#chart [tabindex='0']").count() == 1
    said = points.nth(4).get_attribute("aria-label")
    assert re.fullmatch(r"2\.00 s, frame 20: score 0\.\d\d, [\w ']+", said)
    expect(page.locator("#chart-words")).to_have_text(f"{said}.")
    expect(page.locator("#video")).to_be_visible()
    page.keyboard.press("Enter")
    until(lambda: abs(page.locator("#video").evaluate("each => each.currentTime") - 2) < 0.05)
    head = page.locator("#chart .playhead")
    until(lambda: head.get_attribute("x1") == points.nth(4).get_attribute("cx"))
    chart = page.locator("#chart svg").bounding_box()
    page.mouse.click(chart["x"] + chart["width"] - 20, chart["y"] + 20)
    assert page.evaluate("[...document.querySelectorAll('.point')].indexOf(document.activeElement)") == 5
    until(lambda: page.locator("#video").evaluate("each => each.currentTime") > 2.4)
    page.click("#look-ask")
    expect(page.locator("#map")).to_be_visible()
    expect(page.locator("#picture")).to_have_attribute("src", re.compile("^data:image/jpeg"))
    expect(page.locator("#keep-words")).to_contain_text("this page's address leads back to it")
    page.click("#keep-delete")
    page.click("#sure-yes")
    expect(page.locator("#result")).to_be_hidden()
    assert "#" not in page.url


def test_the_people_of_a_video_are_followed(visit: Any) -> None:
    page = visit()
    scores = [0.2, 0.9, 0.5]
    frames = [{"frame": 10 * at, "time": float(at), "score": score} for at, score in enumerate(scores)]
    faces = [{**frame, "box": [0, 0, 9, 9]} for frame in frames[:2]]
    track = {"score": 0.8, "verdict": "fake", "counts": True, "consistency": {"deviation": 0.35, "change": 0.7}}
    quiet = {"score": 0.5, "verdict": "uncertain", "counts": False, "consistency": {"deviation": 0, "change": 0}}
    tracks = [
        {"track": 1, **track, "faces": faces},
        {"track": 2, **quiet, "faces": [{**frames[2], "box": [1, 1, 2, 2]}]},
    ]

    def told(route: Any) -> None:
        text = route.fetch().text()
        verdict = json.loads(re.findall(r"event: result\nid: \d+\ndata: (.*)\n", text)[0])
        verdict["result"] |= {"frames": frames, "tracks": tracks}
        body = f"event: result\nid: 1\ndata: {json.dumps(verdict)}\n\nevent: end\ndata: {{}}\n\n"
        route.fulfill(body=body, headers={"Content-Type": "text/event-stream"})

    page.route("**/events", told)
    judged(page, {**png("a.mp4", 20), "mimeType": "video/mp4"})
    rows = page.locator("#tracks tbody tr")
    assert "0.00 s to 1.00 s, 2 frames" in rows.first.inner_text()
    assert "no, seen too little" in rows.nth(1).inner_text()
    assert page.locator("#chart .point").count() == 3
    page.select_option("#series", "1")
    assert page.locator("#chart .point").count() == 2


# ── when the server says no ──────────────────────────────────────────────────────────────────────────────────────────


def test_what_cannot_be_judged_is_told_in_words_and_has_no_verdict(visit: Any) -> None:
    page = visit()
    choose(page, {"name": "notes.png", "mimeType": "image/png", "buffer": b"no picture"})
    expect(page.locator("#problem-title")).to_have_text("This is no picture or video")
    expect(page.locator("#problem-words")).to_contain_text("notes.png: not a picture or video by its content")
    assert focused(page) == "problem-title"
    expect(page.locator("#result")).to_be_hidden()
    page.route("**/v1/judge*", lambda route: route.abort())
    choose(page, png("a.png", 20))
    expect(page.locator("#problem-title")).to_have_text("The server can't be reached")
    page.unroute("**/v1/judge*")
    # It looks by itself whether the server is there again.
    expect(page.locator("#problem-next")).to_have_text("The server is there again.")
    page.click("#problem-again")
    expect(page.locator("#verdict")).to_have_text("Probably a real photograph")
    expect(page.locator("#problem")).to_be_hidden()


def test_what_takes_long_can_be_stopped(visit: Any) -> None:
    page = visit()
    page.route("**/v1/judge*", lambda route: None)
    choose(page, png("a.png", 20))
    expect(page.locator("#busy-words")).to_have_text("a.png")
    page.click("#busy-stop")
    expect(page.locator("#busy")).to_be_hidden()
    assert focused(page) == "files"
    page.route(
        "**/v1/jobs/x", lambda route: route.fulfill(json=a_job(6), status=200 if route.request.method == "GET" else 204)
    )
    page.route("**/v1/jobs/x/events", lambda route: None)
    page.evaluate("location.hash = 'job=x'")
    expect(page.locator("#job-words")).to_have_text("0 of 6 files done")
    expect(page.locator("#job-delete")).to_have_text("Stop, and delete from the server")
    page.click("#job-delete")
    page.click("#sure-yes")
    expect(page.locator("#job")).to_be_hidden()


def test_a_verdict_stands_though_nobody_can_say_where_it_looked(visit: Any) -> None:
    page = visit()
    error = {"error": {"kind": "timeout", "message": "it took too long; try again"}}
    page.route("**/v1/explain*", lambda route: route.fulfill(status=408, json=error))
    judged(page, png("a.png", 20))
    expect(page.locator("#look-words")).to_have_text("It took too long: it took too long; try again.")
    expect(page.locator("#verdict")).to_have_text("Probably a real photograph")
    expect(page.locator("#picture")).to_be_visible()
    expect(page.locator("#map-tools")).to_be_hidden()


def test_a_server_that_is_busy_is_asked_again_when_it_says(visit: Any) -> None:
    page = visit()
    times: list[float] = []

    def busy(route: Any) -> None:
        times.append(time.monotonic())
        if len(times) > 1:
            route.continue_()
            return
        error = {"error": {"kind": "busy", "message": "too much is waiting; try again in 1 s"}}
        route.fulfill(status=429, headers={"Retry-After": "1"}, json=error)

    page.route("**/v1/judge*", busy)
    choose(page, png("a.png", 20))
    expect(page.locator("#wait")).to_have_text("The server is busy. Trying again in 1 s.")
    expect(page.locator("#said")).to_contain_text("Trying again in 1 seconds")
    expect(page.locator("#verdict")).to_have_text("Probably a real photograph")
    expect(page.locator("#wait")).to_be_hidden()
    assert times[1] - times[0] >= 1


def test_a_key_is_asked_for_only_where_the_server_asks_for_one(visit: Any, bundles: list[str], tmp_path: Path) -> None:
    from assay.serve import guard

    page = visit()
    expect(page.locator("#card")).to_be_visible()
    expect(page.locator("#key")).to_be_hidden()
    key = guard.new_key(tmp_path / "keys", "alice")
    with serving(tmp_path, *bundles, "--keys", str(tmp_path / "keys"), "--max-bytes", "50K") as url:
        page = visit(url=url)
        expect(page.locator("#key")).to_be_visible()
        assert focused(page) == "key-title"
        assert faults(page) == []
        page.fill("#key-field", "wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#key-why")).to_have_text("That key is not known here.")
        page.fill("#key-field", key)
        page.keyboard.press("Enter")
        expect(page.locator("#card")).to_be_visible()
        expect(page.locator("#key")).to_be_hidden()
        choose(page, png("a.png", 20), png("b.png", 220))
        expect(page.locator("#job-rows tr")).to_have_count(2)
        with page.expect_download() as coming:
            page.click("#job [data-keep='results.csv']")
        assert "b.png" in Path(coming.value.path()).read_text("utf-8")
        choose(page, png("large.png", 122, 400, 300))
        expect(page.locator("#problem-title")).to_have_text("The file is too large")
        expect(page.locator("#problem-words")).to_contain_text("large.png: more than 51,200 bytes")
        page.close()


# ── for everybody ────────────────────────────────────────────────────────────────────────────────────────────────────


def faults(page: Any) -> list[str]:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    found = axe.Axe().run(page).response["violations"]
    serious = [each for each in found if each["impact"] in ("serious", "critical")]
    return [f"{each['id']}: {[node['html'][:200] for node in each['nodes']]}" for each in serious]


LARGE = {"viewport": {"width": 1200, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True, "color_scheme": "dark"}


@pytest.mark.parametrize("how", [LARGE, PHONE], ids=["light", "dark phone"])
def test_nothing_stands_in_anybodys_way(visit: Any, how: dict[str, Any]) -> None:
    page = visit(**how)

    def check() -> None:
        page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        assert faults(page) == []

    expect(page.locator("#card")).to_be_visible()
    check()
    judged(page, png("a.png", 122, spread=90))
    expect(page.locator("#map")).to_be_visible()
    page.fill("#blur", "2")
    expect(page.locator("#altered-part")).to_be_visible()
    check()
    frames = io.BytesIO()
    still = [Image.new("L", (64, 48), grey) for grey in (10, 120, 240)]
    still[0].save(frames, "GIF", save_all=True, append_images=still[1:])
    judged(page, {"name": "a.gif", "mimeType": "image/gif", "buffer": frames.getvalue()})
    expect(page.locator("#chart .point")).to_have_count(3)
    check()
    broken = {**png("c.png", 9), "buffer": b"no"}
    choose(page, broken)
    expect(page.locator("#problem")).to_be_visible()
    check()
    choose(page, png("a.png", 20), png("b.png", 220), broken)
    expect(page.locator("#job-rows tr")).to_have_count(3)
    expect(page.locator("#job-going")).to_be_hidden()
    check()
    page.click("#job-delete")
    check()
    if how is LARGE:  # it is long
        page = visit("/docs")
        expect(page.locator("#routes h2").first).to_have_text(re.compile("^POST /v1/judge"))
        assert faults(page) == []


def test_forced_colours_and_less_motion_are_obeyed(visit: Any) -> None:
    page = visit(forced_colors="active", reduced_motion="reduce")
    page.route("**/v1/judge*", lambda route: None)
    choose(page, png("a.png", 20))
    expect(page.locator("#busy")).to_be_visible()
    expect(page.locator("#busy-bar")).to_be_hidden()
    page.unroute("**/v1/judge*")
    judged(page, png("a.png", 122))
    look = "each => [getComputedStyle(each).color, getComputedStyle(each).backgroundColor]"
    ink, ground = page.locator("#drop .first").evaluate(look)
    assert ink != ground == page.locator("body").evaluate(look)[1]
    assert page.locator(".hatch").first.evaluate("each => getComputedStyle(each).stroke") == ink


def test_paper_gets_the_verdict_and_nothing_to_press(visit: Any) -> None:
    page = visit()
    judged(page, png("a.png", 122))
    page.emulate_media(media="print")
    for each in ("#verdict", "#scale svg", "#stage", "#origin"):
        expect(page.locator(each)).to_be_visible()
    for each in ("#drop", "#alter", "#keep-title", "footer"):
        expect(page.locator(each)).to_be_hidden()
    assert page.locator("button:visible, input:visible, select:visible").count() == 0


@pytest.mark.parametrize("larger", [1, 2])
def test_a_phone_shows_all_of_it_without_scrolling_sideways(visit: Any, larger: int) -> None:
    page = visit(viewport={"width": 320, "height": 640}, is_mobile=True, has_touch=True)
    page.evaluate("larger => { document.documentElement.style.fontSize = `${100 * larger}%` }", larger)

    def fits() -> bool:
        page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        return bool(page.evaluate("document.documentElement.scrollWidth <= 320 && innerWidth === 320"))

    expect(page.locator("#card")).to_be_visible()
    assert fits()
    judged(page, png("a-name-that-is-long-" * 12 + ".png", 122, 400, 90, spread=90))
    expect(page.locator("#map")).to_be_visible()
    page.fill("#jpeg", "50")
    expect(page.locator("#altered-part")).to_be_visible()
    assert fits()
    choose(page, png("a-name-that-is-long-" * 12 + ".png", 20), png("b.png", 220))
    expect(page.locator("#job-rows tr")).to_have_count(2)
    assert fits()
    # What was a table is a card each, and still a table to those who hear it.
    row = page.locator("#job-rows tr").first
    assert row.evaluate("each => each.scrollWidth <= document.querySelector('#job').clientWidth")
    assert page.locator("#job-rows").get_by_role("row").get_by_role("rowheader").count() == 2


def test_keys_alone_reach_everything(visit: Any) -> None:
    page = visit()
    expect(page.locator("#card")).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert focused(page) == "files"
    judged(page, png("a.png", 122, spread=90))
    expect(page.locator("#map-tools")).to_be_visible()
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(focused(page))
    wanted = ["strength", "which", "toward", "jpeg", "resize", "blur", "alter-reset", "keep-json"]
    assert [each for each in reached if each in wanted][: len(wanted)] == wanted
    page.focus("#jpeg")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#preview-words")).to_contain_text("JPEG 100")
