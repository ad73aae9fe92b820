"""Reports: what the page tells of scans, evaluations and comparisons, what it promises, and what it refuses."""

from __future__ import annotations

import base64
import dataclasses
import io
import itertools
import json
import math
import re
import shutil
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from assay.errors import InputError
from assay.judge.sink import FORMATS, Stream
from assay.measure import clips as cutting
from assay.measure import curves, page
from assay.measure.beside import Beside, beside
from assay.measure.block import Block
from assay.measure.evaluate import Table, Trouble
from assay.measure.page import plots, stored, tally
from assay.measure.page.tally import Bar
from assay.measure.robustness import conditions
from assay.measure.shape import Corner, shape
from assay.metrics import Interval
from assay.types import Box, Failure, Glimpse, Ruling, Sample, StreamScore, Track, Verdict
from webpage import Read, check_closed, check_readable

HOSTILE = "'\"><script>alert(1)</script><img src=x onerror=alert(1)>\u202e-->]]></title></style>"
RIGHT_TO_LEFT = "שלום.png"
SHA256 = "ab" * 32


def verdict(name: str, score: float | None, **other: Any) -> Verdict:
    word = Ruling.UNCERTAIN
    if score is not None and not 0.5 <= score < 0.7:
        word = Ruling.FAKE if score >= 0.7 else Ruling.REAL
    told: dict[str, Any] = {
        "verdict": word,
        "score": score,
        "threshold": 0.7,
        "doubt": (0.5, 0.7),
        "fpr": 0.05,
        "streams": (StreamScore("grey", score, "" if score is not None else "too small"),),
        "reasons": (f"a reason for {name}",),
        "detector": {"name": "tiny", "version": "1", "sha256": SHA256},
        "input": name,
        "sha256": "cd" * 32,
        "width": 80,
        "height": 64,
    }
    return Verdict(**(told | other))


RESULTS = (
    verdict("low.png", 0.12),
    verdict("high.png", 0.93),
    Failure("torn.png", "truncated", "cut off; fetch it again"),
    verdict("doubtful.png", 0.55),
    verdict("small.png", None),
    verdict("higher.png", 1.0),
    verdict(RIGHT_TO_LEFT, 0.31),
    Failure("gone.png", "missing", "no such file"),
    Failure("also gone.png", "missing", "no such file"),
)


def written(path: Path, results: Sequence[Verdict | Failure] = RESULTS) -> Path:
    """A results file, as the scan's own sink writes it."""
    with path.open("wb") as file:
        sink = Stream(file, "csv" if path.suffix == ".csv" else "json")
        for result in results:
            sink.write(result)
    return path


def shown(section: page.Section, title: str = "Report") -> Read:
    read = Read(page.report([section], title))
    check_closed(read)
    check_readable(read)
    return read


def rows_of(read: Read) -> list[str]:
    """The inputs of the results' table, in order."""
    whole = read.whole.partition("<h3>Results</h3>")[2].partition("<h3>")[0]
    return re.findall(r'<th scope="row"[^>]*><bdi>(.*?)</bdi>', whole)


# ── scans ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["r.jsonl", "r.csv"])
def test_a_scan_is_counted_and_listed_from_fake_to_real_whichever_way_it_was_written(tmp_path: Path, name: str) -> None:
    section = page.of_file(written(tmp_path / name), picture=None)
    read = shown(section)
    assert section.told == {
        "kind": "scan",
        "fake": 2,
        "uncertain": 2,
        "real": 2,
        "failed": 3,
        "shown": 6,
        "failures_shown": 3,
        "thumbnails": 0,
        "unfinished": False,
    }
    assert "9 inputs: 6 judged, 3 could not be judged." in read.words
    assert rows_of(read) == ["higher.png", "high.png", "doubtful.png", "small.png", RIGHT_TO_LEFT, "low.png"]
    assert "fake from a score of 0.700, uncertain from 0.500" in read.words
    assert "at most 5.0 % of real pictures" in read.words
    assert "1 of the uncertain ones have no score" in read.words
    assert "a reason for low.png" in read.words
    for line in ("cut off; fetch it again", "no such file", "truncated"):
        assert line in read.words
    assert "80 × 64" in read.words
    assert ("grey: too small" in read.words) == name.endswith("jsonl")


def test_the_scores_are_drawn_with_their_bars_and_the_numbers_behind_them(tmp_path: Path) -> None:
    read = shown(page.of_file(written(tmp_path / "r.jsonl"), picture=None))
    table = read.whole.partition("Scores by step")[2].partition("</table>")[0]
    rows = [re.findall("<bdi>(.*?)</bdi>", row) for row in table.split("<tr>")[2:]]
    assert len(rows) == 20
    assert {tuple(row) for row in rows if row[1:] != ["0", "0", "0"]} == {
        ("0.10 to 0.15", "0", "0", "1"),
        ("0.30 to 0.35", "0", "0", "1"),
        ("0.55 to 0.60", "0", "1", "0"),
        ("0.90 to 0.95", "1", "0", "0"),
        ("0.95 to 1.00", "1", "0", "0"),
    }
    drawn = [tag for tag in read.all("rect") if tag["fill"] != "#ffffff"]
    assert len(drawn) == 3 + 5
    assert {tag["height"] for tag in drawn[3:]} == {f"{plots.HEIGHT:.1f}"}
    lines = [tag for tag in read.all("line") if tag["stroke"] == "#000000"]
    width = plots.WIDTH - 24 - plots.LEFT
    assert [float(str(tag["x1"])) for tag in lines] == [
        pytest.approx(plots.LEFT + width * value, abs=0.06) for value in (0.7, 0.5)
    ]
    assert "fake from 0.700" in read.inside("desc")[0]


def test_verdicts_are_words_beside_their_colours(tmp_path: Path) -> None:
    read = shown(page.of_file(written(tmp_path / "r.jsonl"), picture=None))
    words = [(tag["class"], text) for (name, tag), text in zip(marks(read), marked(read), strict=True) if name]
    assert {(str(css).split()[-1], text) for css, text in words} == {
        (word, word) for word in ("fake", "uncertain", "real", "failed")
    }


def marks(read: Read) -> list[tuple[str, dict[str, str | None]]]:
    return [(name, tag) for name, tag in read.tags if name == "span"]


def marked(read: Read) -> list[str]:
    return read.inside("span")


def test_no_more_rows_than_asked_for_are_shown_the_rest_is_counted(tmp_path: Path) -> None:
    file = written(tmp_path / "r.jsonl")
    read = shown(page.of_file(file, rows=2, picture=None))
    assert rows_of(read) == ["higher.png", "high.png"]
    assert "2 of 6 results" in read.words
    assert "The other 4 are counted above and not listed" in read.words
    assert "The first 2 of 3 in the file; 1 more are counted above" in read.words
    assert "also gone.png" not in read.words
    nothing = shown(page.of_file(file, rows=0, picture=None))
    assert rows_of(nothing) == []
    assert "0 of 6 results" in nothing.words
    assert "torn.png" not in nothing.words


def test_memory_does_not_grow_with_the_number_of_results() -> None:
    def lines(count: int) -> Iterator[Any]:
        for number in range(count):
            about = {"name": "tiny", "version": f"{number}", "sha256": f"{number}"}
            yield verdict(f"{number}.png", number / count, threshold=number / count, detector=about).to_dict()
            yield Failure(f"{number}", f"kind {number}", "no").to_dict()

    def peak(count: int) -> int:
        tracemalloc.start()
        found = tally.tally(lines(count), 50)
        assert (found.judged, found.failed, len(found.rows), len(found.failures)) == (count, count, 50, 50)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    # What is made once, such as caches, is there after the first.
    peak(1000)
    few = peak(400)
    assert peak(8000) < 2 * few


def test_rows_kept_are_those_of_the_highest_scores_and_equal_ones_stay_in_order() -> None:
    order = np.random.default_rng(0).permutation(500)
    found = tally.tally((verdict(f"{at}", at // 2 / 250).to_dict() for at in order.tolist()), 30)
    assert [row.score for row in found.rows] == sorted((at // 2 / 250 for at in range(470, 500)), reverse=True)
    pairs = [(row.score, row.number) for row in found.rows]
    assert all(one[1] < other[1] for one, other in itertools.pairwise(pairs) if one[0] == other[0])


def test_a_long_text_is_cut_and_says_so(tmp_path: Path) -> None:
    long = verdict("n" * 5000, 0.9, reasons=("x" * 9000,))
    read = shown(page.of_file(written(tmp_path / "r.jsonl", [long]), picture=None))
    assert "(7000 more characters)" in read.words
    assert "(4000 more characters)" in read.words
    assert "x" * 2001 not in read.words


def test_a_clip_tells_its_frames_and_faces(tmp_path: Path) -> None:
    track = Track(1, (Glimpse(0, 0.0, Box(0, 0, 9, 9), 0.9),), 0.9, Ruling.FAKE, 0.0)
    clip = verdict("clip.mp4", 0.8, frames=((0, 0.72), (5, 0.9)), times=(0.0, 0.2), tracks=(track,))
    words = shown(page.of_file(written(tmp_path / "r.jsonl", [clip]), picture=None)).words
    assert "2 frames judged, from 0.72 to 0.90" in words
    assert "1 faces followed" in words


def test_an_unfinished_last_record_is_left_out_and_told_and_a_torn_one_inside_is_refused(tmp_path: Path) -> None:
    for name, tail in (("r.jsonl", b'{"input": "x.png", "verd'), ("r.csv", b"x.png,fake,0.9"), ("r.jsonl", b"\0" * 90)):
        file = written(tmp_path / name)
        whole = file.read_bytes()
        file.write_bytes(whole + tail)
        section = page.of_file(file, picture=None)
        assert section.told["unfinished"]
        assert section.told["fake"] == 2
        assert "the last record was cut off" in shown(section).words
        file.write_bytes(whole + tail + b"\r\n" + whole[len(FORMATS["csv" if name == "r.csv" else "json"]().header) :])
        with pytest.raises(InputError, match=r"(line|row) \d+ is not a result of assay scan"):
            page.of_file(file, picture=None)


def test_a_last_row_of_which_only_the_last_cell_is_cut_is_unfinished_and_a_whole_line_without_an_end_is_not(
    tmp_path: Path,
) -> None:
    results = RESULTS[:2]
    for name, cut, judged, unfinished in (("r.csv", 10, 1, True), ("r.csv", 2, 1, True), ("r.jsonl", 1, 2, False)):
        file = written(tmp_path / name, results)
        file.write_bytes(file.read_bytes()[:-cut])
        told = page.of_file(file, picture=None).told
        assert (int(str(told["fake"])) + int(str(told["real"])), told["unfinished"]) == (judged, unfinished)


def test_names_that_csv_stores_encoded_are_themselves_again(tmp_path: Path) -> None:
    names = ["a\udcff\\b.png", "a\\u0041.png", 'two\nlines, "and" commas.png', "plain\\path.png"]
    file = written(tmp_path / "r.csv", [verdict(name, 0.9 - at / 100) for at, name in enumerate(names)])
    held, opened = stored.open_file(file)
    with opened:
        assert isinstance(held, stored.Results)
        assert [line["input"] for line in held.lines if line is not None] == names


# ── thumbnails ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_thumbnails_show_what_is_still_there_and_still_the_same(tmp_path: Path, detector: Any) -> None:
    exif = Image.Exif()
    exif[0x010F] = "a camera's name"
    names = [str(tmp_path / f"{number}.jpg") for number in range(4)]
    for number, name in enumerate(names):
        Image.new("RGB", (300, 150), (200, 40 * number, 0)).save(name, exif=exif)
    results = list(detector.judge_many(names))
    Image.new("RGB", (300, 150), (0, 0, 0)).save(names[1])
    Path(names[2]).unlink()
    Path(names[3]).write_bytes(b"no picture")
    file = written(tmp_path / "r.jsonl", results)
    read = shown(page.of_file(file))
    [image] = read.all("img")
    content = base64.b64decode(str(image["src"]).removeprefix("data:image/jpeg;base64,"))
    small = Image.open(io.BytesIO(content))
    assert (small.format, small.size) == ("JPEG", (96, 48))
    assert not small.getexif()
    assert np.abs(np.asarray(small).mean(axis=(0, 1)) - (200, 0, 0)).max() < 3
    for why in ("changed since", "no longer there", "cannot be read here"):
        assert read.words.count(why) == 1
    assert [tag["scope"] for tag in read.all("th")].count("col") > 0


def test_without_thumbnails_no_picture_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(*_: object) -> None:
        raise AssertionError("opened")

    monkeypatch.setattr("assay.measure.page.picture.decode", decode)
    read = shown(page.of_file(written(tmp_path / "r.jsonl"), picture=None))
    assert not read.all("img")
    assert "picture" not in read.inside("th")
    with pytest.raises(AssertionError, match="opened"):
        page.of_file(tmp_path / "r.jsonl")


def test_results_that_are_no_file_make_a_section_with_pictures_of_their_own() -> None:
    asked: list[tuple[str, str]] = []

    def picture(name: str, sha256: str) -> str:
        asked.append((name, sha256))
        return "not kept"

    section = page.of_results((result.to_dict() for result in RESULTS), "a job", picture=picture, rows=1)
    assert asked == [("higher.png", "cd" * 32)]
    assert "not kept" in shown(section).words
    with pytest.raises(ValueError, match="result 1 is not one of assay scan"):
        page.of_results([{"input": "x"}], "a job")


# ── the detector's card ──────────────────────────────────────────────────────────────────────────────────────────────


def test_the_card_is_shown_where_a_bundle_of_that_very_hash_is_installed(
    parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = {"value": 0.612, "low": 0.55, "high": 0.7, "n": 120}
    parts.card = parts.card.model_copy(update={"figures": {"headline": {"AUC on unseen sources": figure}}})
    made = parts.write(tmp_path / "tiny")
    monkeypatch.setenv("ASSAY_BUNDLES", str(tmp_path))
    about = {"name": "tiny", "version": "1", "sha256": made.card.sha256}
    results = [verdict("a", 0.9, detector=about), verdict("b", 0.9, detector={**about, "sha256": SHA256})]
    read = shown(page.of_file(written(tmp_path / "r.jsonl", results), picture=None))
    assert read.words.count("It can't tell real from fake.") == 1
    assert "AUC on unseen sources 0.612 0.550 to 0.700 120" in read.words
    assert read.words.count("Its card is not installed here") == 1
    asked = {**about, "sha256": SHA256, "card": made.card.sha256}
    with_head = page.of_file(written(tmp_path / "r.jsonl", [verdict("a", 0.9, detector=asked)]), picture=None)
    assert "It can't tell real from fake." in shown(with_head).words


# ── evaluations ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def found(detector: Any, samples: list[Sample]) -> Beside:
    """Two detectors on the same rows, after two alterations, by groups."""
    strict = dataclasses.replace(detector, name="strict", threshold=0.75)
    named = {"brightness": detector, "strict": strict}
    return beside(named, samples, conditions=conditions(["clean", "jpeg30", "half"]), by=["kind"], rounds=8)


@pytest.fixture
def one(found: Beside) -> dict[str, Any]:
    return plain(found)["detectors"][0]


def plain(found: Beside) -> dict[str, Any]:
    """As the file holds it, with the curves that were measured."""
    told: dict[str, Any] = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    for each, evaluation in zip(told["detectors"], found.evaluations.values(), strict=True):
        scored = Table.of(evaluation.judged).scored
        each["curves"] = shape(scored.labels, scored.scores).to_dict()
    return told


def saved(tmp_path: Path, told: object, **options: Any) -> Path:
    file = tmp_path / "told.json"
    file.write_text(json.dumps(told, **options))
    return file


def without_curves(told: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in told.items() if key != "curves"}


def test_figures_are_read_back_as_they_were_written(found: Beside) -> None:
    told = plain(found)
    read = stored.found(told)
    again = Beside(read.evaluations, read.compared).to_dict()
    assert again["compared"] == told["compared"]
    assert again["detectors"] == [without_curves(each) for each in told["detectors"]]
    assert {name: each.to_dict() for name, each in read.shapes.items()} == {
        each["name"]: each["curves"] for each in told["detectors"]
    }


def test_an_evaluation_shows_its_figures_curves_groups_conditions_and_controls(
    tmp_path: Path, found: Beside, one: dict[str, Any]
) -> None:
    section = page.of_file(saved(tmp_path, one))
    assert section.told == {"kind": "evaluation", "detectors": ["brightness"], "rows": 48}
    read = shown(section)
    evaluation = found.evaluations["brightness"]
    auc = evaluation.metrics["auc"]
    assert f"AUC {auc.value:.3f} {auc.low:.3f} to {auc.high:.3f} 48" in read.words
    assert evaluation.base_rate_line in read.words.replace("&quot;", '"')
    titles = read.inside("title")[1:]
    assert titles == ["ROC", "Reliability", "AUC after alteration, n = 48", "AUC of parts and controls"]
    for part in ("generator: common", "kind: crop", "16 px thumbnail", "jpeg30", "48 rows: 24 real, 24 fake"):
        assert part in read.words
    for caption in (
        "by generator, against all reals",
        "after alteration",
        "controls: what file and subject alone tell",
    ):
        assert caption in read.inside("bdi")
    assert not read.all("script")
    assert "The file holds no" not in read.words


def test_a_comparison_has_the_paired_tests_and_both_curves(tmp_path: Path, found: Beside) -> None:
    section = page.of_file(saved(tmp_path, plain(found), indent=1))
    assert section.told["kind"] == "comparison"
    assert section.told["detectors"] == ["brightness", "strict"]
    read = shown(section)
    [compared] = found.compared
    assert "tests against brightness" in read.words
    assert f"strict {compared.delong.z:.2f}" in read.words or "strict – –" in read.words
    assert "more than brightness, on the rows that both have a score for" in read.words
    drawn = read.whole.partition("-roc-title")[2].partition("</svg>")[0]
    curves = re.findall('<polyline points="([^"]*)"', drawn)
    assert len([curve for curve in curves if len(curve.split()) > 2]) == 2


def test_the_roc_curve_lies_where_it_was_measured() -> None:
    corners = [Corner(0, 0, math.nan), Corner(0, 0.5, 0.9), Corner(0.25, 1, 0.4), Corner(1, 1, 0.1)]
    at = Interval(0.25, 0.1, 0.5, 9), Interval(1.0, 0.8, 1.0, 9)
    read = Read(plots.roc({"d": corners}, {"d": [at]}, "ROC"))
    curve = str(read.all("polyline")[1]["points"]).split()
    x, y = np.array([point.split(",") for point in curve], np.float64).T
    assert ((x - plots.LEFT) / plots.SIDE).tolist() == [0, 0, 0.25, 1]
    assert ((y[0] - y) / plots.SIDE).tolist() == [0, 0.5, 1, 1]
    [mark] = read.all("circle")[1:]
    assert (float(str(mark["cx"])), float(str(mark["cy"]))) == (x[2], y[2])


def test_without_curves_in_the_file_the_page_says_so_and_draws_the_points_that_are_known(
    tmp_path: Path, one: dict[str, Any]
) -> None:
    read = shown(page.of_file(saved(tmp_path, without_curves(one))))
    assert "The file holds no curve of brightness, only these points of it" in read.words
    assert "The file holds no scores to draw their reliability from" in read.words
    assert "Reliability" not in read.inside("title")
    assert f"{100 * one['metrics']['tpr']['value']:.1f} %" in read.words


def test_clips_have_their_tables(tmp_path: Path, one: dict[str, Any]) -> None:
    figures = {name: Interval(0.8, 0.7, 0.9, 12) for name in cutting.FIGURES}
    steady = {
        label: {name: Interval(0.1, math.nan, math.nan, 6) for name in cutting.STEADY} for label in ("real", "fake")
    }
    trouble = Trouble("clip.mp4", "not_applicable", "no face in it")
    by_clip = {"mean": figures, "top": figures}
    clips = cutting.Clips(
        *("brightness", 0.6, 0.05, 15, None, 6, 6, 90, 1),
        without=(trouble,),
        failures=(),
        by_frame=figures,
        by_clip=by_clip,
        steady=steady,
        chosen={"mean": 0.7, "top": 1.5},
        tuned=(30, 20),
        by_clip_chosen=by_clip,
    )
    told = {**one, "clips": clips.to_dict()}
    assert stored.found(told).clips["brightness"].to_dict() == told["clips"]
    read = shown(page.of_file(saved(tmp_path, told)))
    assert "clips: by frame, and by clip as the frames' scores are put together" in read.words
    assert "clip.mp4: no face in it" in read.words


# ── what the page promises ───────────────────────────────────────────────────────────────────────────────────────────


def test_several_files_make_a_section_each_that_is_led_to(tmp_path: Path, one: dict[str, Any]) -> None:
    files = [written(tmp_path / "r.jsonl"), saved(tmp_path, one), written(tmp_path / "r.csv")]
    read = Read(page.report([page.of_file(file, at, picture=None) for at, file in enumerate(files, 1)], "Three"))
    check_closed(read)
    check_readable(read)
    assert [tag["id"] for tag in read.all("section")] == ["part-1", "part-2", "part-3"]
    assert [tag["href"] for tag in read.all("a")] == ["#main", "#part-1", "#part-2", "#part-3"]
    assert len(read.all("script")) == 1
    assert read.inside("title")[0] == "Three"
    assert not Read(page.report([page.of_file(files[0], picture=None)])).all("nav")


def test_without_the_script_all_rows_show_and_its_tools_do_not(tmp_path: Path) -> None:
    read = shown(page.of_file(written(tmp_path / "r.jsonl"), picture=None))
    hidden = [(name, tag) for name, tag in read.tags if "hidden" in tag]
    assert [(name, tag["class"]) for name, tag in hidden] == [("div", "tools")]
    assert not read.all("button")
    [script] = read.inside("script")
    for word in ("data-results", ".tools", "aria-sort"):
        assert word in script
    assert [tag["data-word"] for name, tag in read.tags if name == "tr" and "data-word" in tag] == [
        *(["fake"] * 2),
        *(["uncertain"] * 2),
        *(["real"] * 2),
    ]
    sorts = {text: tag["data-sort"] for (_, tag), text in zip(heads(read), words_of(heads(read), read), strict=True)}
    assert sorts == {"record": "number", "input": "text", "verdict": "text", "score": "number"}
    style = read.inside("style")[0]
    for rule in ("prefers-color-scheme: dark", "@media print", ":focus-visible", ".tools[hidden]"):
        assert rule in style


def heads(read: Read) -> list[tuple[str, dict[str, str | None]]]:
    return [(name, tag) for name, tag in read.tags if name == "th" and "data-sort" in tag]


def words_of(_: object, read: Read) -> list[str]:
    return re.findall(r"<th[^>]*data-sort[^>]*>(.*?)</th>", read.whole)


def test_tables_that_scroll_are_reached_by_keys_and_names_are_isolated(tmp_path: Path) -> None:
    read = shown(page.of_file(written(tmp_path / "r.jsonl"), picture=None))
    wide = [tag for tag in read.all("div") if tag.get("class") == "wide"]
    assert len(wide) >= 4
    assert all(tag["tabindex"] == "0" and tag["role"] == "group" and tag["aria-label"] for tag in wide)
    assert f"<bdi>{RIGHT_TO_LEFT}</bdi>" in read.whole
    assert re.sub(r"<bdi>[^<]*</bdi>", "", read.whole).count(RIGHT_TO_LEFT) == 0


def test_rows_of_results_say_what_their_parts_are_however_they_are_laid_out(tmp_path: Path) -> None:
    read = shown(page.of_file(written(tmp_path / "r.jsonl"), picture=lambda *_: "gone"))
    whole = read.whole.partition('<table class="results" role="table">')[2].partition("</table>")[0]
    assert whole.count('role="columnheader"') == 7
    assert whole.count('role="row"') == 7
    assert whole.count('role="rowheader"') == 6
    assert whole.count('role="cell"') == whole.count("<td") == 36


def test_no_two_verdicts_are_told_apart_by_colour_alone() -> None:
    words = (*map(str, Ruling), "failed")
    rules = [re.findall(rf"\.{word}::before {{(.*?)}}", page.frame.STYLE, re.DOTALL) for word in words]
    assert all(len(each) == 1 for each in rules)
    assert len({each[0] for each in rules}) == len(words)


def test_a_table_without_rows_is_told_to_have_none() -> None:
    lines = [*page.frame.of_block(Block("Gaps", ("gap", "high"), [], note="too few"))]
    assert lines == ["<p><bdi>Gaps</bdi>: none</p>", '<p class="soft"><bdi>too few</bdi></p>']


def test_a_detector_has_the_same_dashes_in_every_plot() -> None:
    each = Interval(0.5, 0.4, 0.6, 9)
    names = [f"{number}" for number in range(6)]
    conditions = {"jpeg90": {"auc": each}, "jpeg50": {"auc": each}}
    one = Read(curves.svg(dict.fromkeys(names, conditions)))
    other = Read(plots.roc({}, {key: [(each, each)] for key in names}, "t"))
    keys = [[tag.get("stroke-dasharray") for tag in read.all("polyline")][:6] for read in (one, other)]
    assert keys[0] == keys[1] == [None, "7 3", "2 3", "9 3 2 3", "5 5", None]


# ── in a browser ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, which the group dev installs")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs chromium on the path")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


LARGE = {"viewport": {"width": 1200, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "color_scheme": "dark"}


def visited(browser: Any, file: Path, **how: Any) -> Any:
    """A page that is read. It must ask for nothing but itself, and nothing in it fails."""
    opened = browser.new_context(**how).new_page()
    asked: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("console", lambda told: asked.append(told.text))
    opened.on("pageerror", lambda error: asked.append(str(error)))
    opened.goto(file.as_uri())
    assert [each for each in asked if not each.startswith("data:")] == [file.as_uri()]
    return opened


def small(*_: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (90, 60), "grey").save(file, "JPEG")
    return file.getvalue()


@pytest.mark.parametrize("how", [LARGE, PHONE], ids=["light", "dark phone"])
def test_reports_stand_in_nobodys_way(
    browser: Any, tmp_path: Path, one: dict[str, Any], found: Beside, how: dict[str, Any]
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    scan = page.of_file(written(tmp_path / "r.jsonl"), 1, picture=small)
    file = tmp_path / "report.html"
    sections = [scan, page.of_evaluation(one, "one", 2), page.of_evaluation(plain(found), "two", 3)]
    file.write_text(page.report(sections, "All"), "utf-8")
    opened = visited(browser, file, **how)
    opened.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    violations = axe.Axe().run(opened).response["violations"]
    assert [each["id"] for each in violations if each["impact"] in ("serious", "critical")] == []
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
    # Words beside a plot are inside of it.
    outside = (
        "[...document.querySelectorAll('svg text')].filter(each => each.getBoundingClientRect().left <"
        " each.ownerSVGElement.getBoundingClientRect().left - 1).map(each => each.textContent)"
    )
    assert opened.evaluate(outside) == []
    opened.context.close()


def test_thousands_of_results_are_sorted_and_filtered_in_a_moment(browser: Any, tmp_path: Path) -> None:
    results = [verdict(f"{number}.png", (7 * number % 2000) / 2000).to_dict() for number in range(2000)]
    section = page.of_results(results, "many", rows=2000, picture=None)
    (tmp_path / "r.html").write_text(page.report([section]), "utf-8")
    opened = visited(browser, tmp_path / "r.html", **PHONE)
    rows = opened.locator("tbody tr[data-word]")
    assert rows.count() == 2000
    began = time.monotonic()
    opened.locator("th[data-sort] button", has_text="score").click()
    assert rows.first.locator(".score").inner_text() == "0.000"
    opened.locator("input[type=search]").fill("1999.png")
    assert opened.inner_text("output") == "1 of 2000 rows"
    assert opened.locator("tbody tr[data-word]:visible").count() == 1
    assert time.monotonic() - began < 5
    # On a phone a row is no wider than the page.
    assert rows.nth(0).evaluate("each => each.scrollWidth <= innerWidth")
    opened.context.close()


# ── hostile inputs ───────────────────────────────────────────────────────────────────────────────────────────────────


def spoilt(told: Any, names: frozenset[str] = frozenset()) -> Any:
    """Every text a piece of markup, and every key that is one of `names`; the same one for the same text."""
    if isinstance(told, str):
        return f"{told}{HOSTILE}"
    if isinstance(told, list):
        return [spoilt(each, names) for each in told]
    if isinstance(told, dict):
        free = names - {"kind"} if "place" in told else names
        return {f"{key}{HOSTILE}" if key in free else key: spoilt(each, names) for key, each in told.items()}
    return told


def free_names(told: dict[str, Any]) -> frozenset[str]:
    """Keys of an evaluation that a manifest, or whoever ran it, has chosen."""
    found = {*told["robustness"], *told["fairness"], *told["controls"]["alone"]}
    for column, parts in told["groups"].items():
        found |= {column, *parts}
    return frozenset(found - {"generator", "source"})


def tags(read: Read) -> list[tuple[str, list[str]]]:
    return [(name, sorted(tag)) for name, tag in read.tags]


def check_harmless(made: page.Section, tame: page.Section) -> Read:
    read = shown(made, f"title{HOSTILE}")
    assert tags(read) == tags(shown(tame))
    assert "\u202e" not in read.whole
    assert "alert(1)" in read.words
    # Of markup nothing but words is left: every opening bracket of it is escaped.
    assert "<script>alert" not in read.whole
    assert "<img src=x" not in read.whole
    return read


def test_no_field_of_a_result_is_taken_for_markup() -> None:
    track = Track(1, (Glimpse(0, 0.0, Box(0, 0, 9, 9), 0.9),), 0.9, Ruling.FAKE, 0.0)
    absent = StreamScore("face", None, "no face")
    seen = StreamScore("eyes", 0.9, views=(0.9,), faces=((Box(0, 0, 9, 9), Ruling.FAKE),))
    rich = verdict("a.mp4", 0.9, frames=((0, 0.9), (4, 0.8)), tracks=(track,), streams=(seen, absent))
    for tame in (rich.to_dict(), Failure("b", "missing", "gone").to_dict()):
        bad = spoilt(tame)
        if "verdict" in tame:
            bad["verdict"] = tame["verdict"]
        made, plainly = (
            page.of_results([line], heading, picture=lambda *_: f"x{HOSTILE}")
            for line, heading in ((bad, f"file{HOSTILE}"), (tame, "file"))
        )
        read = check_harmless(made, plainly)
        wanted = 7 if "verdict" in tame else 3
        assert read.words.count("alert(1)</script>") >= wanted


@pytest.mark.parametrize("several", [False, True])
def test_no_field_of_an_evaluation_is_taken_for_markup(found: Beside, one: dict[str, Any], several: bool) -> None:
    told = plain(found) if several else one
    for each in told["detectors"] if several else [told]:
        each["rows"]["failures"] = [{"place": "p", "kind": "k", "message": "m"}]
    names = free_names(one)
    assert len(names) > 12
    bad = spoilt(told, names)
    read = check_harmless(page.of_evaluation(bad, f"file{HOSTILE}"), page.of_evaluation(told, "file"))
    for text in (*names, "brightness", "m", "p"):
        assert f"{text}'\"><script>alert(1)" in read.words.replace("_", " ") or "_" in text


# ── what is refused ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds nothing yet"),
        (b" \n\n", "holds nothing yet"),
        (b"hello\n", "holds neither results of assay scan"),
        (b"\xff\xfe\x00", "holds neither results of assay scan"),
        (b"[" * 100_000, "holds neither results of assay scan"),
        (b'{"name": "card"}', "holds neither results of assay scan"),
        (b"path,label\na.png,fake\n", "holds neither results of assay scan"),
        (b'{"metrics": {}}', "is not what this assay's evaluate --json writes"),
        (b'{"detectors": [], "compared": []}', "detectors are missing"),
        (b'{"detectors": 3, "compared": []}', "detectors is no array"),
        (b'{"input": "a"}\n', "result 1 is not one of assay scan ('verdict' is missing)"),
        (b'{"input": 7, "error": {}}\n', "result 1 is not one of assay scan"),
        (b'{"input": "a", "error": {"kind": "k", "message": "m"}}\n{"x": 1}\n{"x": 1}\n', "line 2 is not a result"),
    ],
)
def test_what_is_no_report_of_ours_is_refused_with_a_reason(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "f"
    file.write_bytes(content)
    with pytest.raises(InputError, match=re.escape(message)) as refused:
        page.of_file(file)
    assert str(refused.value).startswith(f"{file}: ")


@pytest.mark.parametrize(
    "change",
    [
        *({"score": value} for value in (1.2, -0.1, math.nan, math.inf, "0.5", True)),
        *({"verdict": value} for value in ("maybe", None, ["fake"])),
        *({"threshold": None}, {"doubt": [0.5]}, {"doubt": None}, {"fpr": 3}, {"detector": {}}, {"detector": None}),
        *(
            {"reasons": "all"},
            {"reasons": [1]},
            {"streams": {"a": 1}},
            {"streams": [3]},
            {"frames": 3},
            {"sha256": None},
        ),
    ],
    ids=str,
)
def test_a_result_that_does_not_hold_is_refused_and_never_counted(change: dict[str, Any]) -> None:
    good = verdict("a", 0.9).to_dict()
    with pytest.raises(ValueError, match="result 2 is not one of assay scan"):
        tally.tally([good, good | change], 10)


def test_a_line_without_an_end_in_sight_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "LINE", 1000)
    for name in ("r.jsonl", "r.csv"):
        with pytest.raises(InputError, match="more than 1,000 bytes"):
            page.of_file(written(tmp_path / name, [*RESULTS, verdict("x" * 5000, 0.9)]))
    monkeypatch.setattr(stored, "WHOLE", 2000)
    (tmp_path / "big.json").write_text("{\n" * 3000)
    with pytest.raises(InputError, match="more than 2,000 bytes"):
        page.of_file(tmp_path / "big.json")


def test_files_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    for name, kind in ((str(tmp_path / "none"), "missing"), (str(tmp_path), "not_a_file"), ("a\0b", "missing")):
        with pytest.raises(InputError) as refused:
            page.of_file(name)
        assert refused.value.kind == kind


def paths(told: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Places of an object's parts, of each kind of part the first few."""
    if place:
        yield place
    items = list(told.items()) if isinstance(told, dict) else list(enumerate(told)) if isinstance(told, list) else []
    for key, each in items[:14]:
        yield from paths(each, (*place, key))


def test_an_evaluation_of_which_any_part_is_something_else_is_shown_or_refused_and_nothing_worse(found: Beside) -> None:
    told = plain(found)
    for each in told["detectors"]:
        each["curves"] = {name: part[:2] for name, part in each["curves"].items()}
    whole = json.dumps(told)
    places = list(paths(told))
    refused = 0
    for number, place in enumerate(places):
        bad = json.loads(whole)
        *above, last = place
        part = bad
        for key in above:
            part = part[key]
        value = [None, "text", -3, {}, [], 1e400, True, {"a": "b"}][number % 8]
        if number % 9 == 8 and isinstance(part, dict):
            del part[last]
        else:
            part[last] = value
        try:
            stored_found = stored.found(bad)
            if number % 5 == 0:
                page.report([page.of_evaluation(bad, "x")])
            assert stored_found.evaluations
        except ValueError:
            refused += 1
    assert len(places) > 200
    assert refused > len(places) / 2


def test_detectors_that_were_not_measured_alike_are_refused(found: Beside) -> None:
    for change in (
        lambda told: told["detectors"][1]["robustness"].pop("half"),
        lambda told: told["detectors"][1].update(name="brightness"),
        lambda told: told["compared"].pop(),
        lambda told: told["compared"][0].update(first="other"),
        lambda told: told["detectors"][1]["metrics"].pop("auc"),
        lambda told: told["compared"][0]["differences"].update(charm={"value": 0, "low": 0, "high": 0, "n": 1}),
    ):
        told = plain(found)
        change(told)
        with pytest.raises(ValueError, match=r"\w"):
            page.of_evaluation(told, "x")


def test_bars_beyond_every_score_are_told_and_not_drawn() -> None:
    bins = {word: [1] * tally.BINS for word in tally.WORDS}
    never = Read(plots.histogram(bins, Bar(math.nextafter(1.0, 2), 0.4, 0.01), "t"))
    assert [tag.get("stroke-dasharray") for tag in never.all("line") if tag["stroke"] == "#000000"] == ["4 3"]
    without = Read(plots.histogram(bins, None, "t"))
    assert not [tag for tag in without.all("line") if tag["stroke"] == "#000000"]
