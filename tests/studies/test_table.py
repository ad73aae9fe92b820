"""The tables: the paper's shape, and the paper's cells on lines of their own."""

from __future__ import annotations

import csv
import dataclasses
import importlib.resources
from collections.abc import Callable
from xml.etree import ElementTree

import pytest

from assay import studies
from assay.studies import figure, published
from assay.studies import table as tables
from assay.studies.result import Cost, Result, Row
from assay.studies.run import Asked, Plan, Report
from assay.studies.study import Arm, Study

ROWS = tuple(
    Row(
        place=f"{number}",
        label=int(number >= 4),
        source=f"s{number % 2}",
        group="sdxl" if number >= 6 else "odd" * (number >= 4),
    )
    for number in range(8)
)
RIGHT = (0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9)
"""Every row on its side."""

WRONG = (0.6, *RIGHT[1:7], 0.1)
"""The first real and the last fake, an sdxl, are not."""


def result(arm: str, values: tuple[float, ...], conditions: tuple[str, ...], seed: int = 0) -> Result:
    return Result(
        study="s",
        arm=arm,
        seed=seed,
        detector="0" * 64,
        rows=ROWS,
        scores={"linear": dict.fromkeys(conditions, values)},
        cost=Cost(parameters=5_000_000, steps=10, views=320, cpu_seconds=90),
    )


@pytest.fixture
def report() -> Callable[..., Report]:
    """`report(study, {arm: scores})`"""

    def make(study: Study, values: dict[str, tuple[float, ...]], missing: dict[str, str] | None = None) -> Report:
        asked = Asked(
            study=study.name,
            size="small",
            settings={},
            quick=False,
            minutes=None,
            views=320,
            equal="views",
            manifest="",
        )
        results = {arm: (result(arm, given, study.conditions),) for arm, given in values.items()}
        return Report(study, results, missing or {}, (), (4, 4), Plan(asked=asked, amount=320), 1)

    return make


@pytest.fixture
def study() -> Study:
    return Study(
        name="s",
        question="which?",
        arms=(Arm("full", "all", paper="CoDE"), Arm("less", "less")),
        heads=("linear",),
        table="ablation",
    )


def lines(text: str, title: str) -> list[list[str]]:
    """The cells of a block, its header first."""
    block = next(part for part in text.split("\n\n") if part.startswith(title))
    return [[cell for cell in line.split("  ") if cell.strip()] for line in block.splitlines()[1:]]


def test_ours_and_the_papers_stand_on_lines_of_their_own_in_the_papers_columns(
    study: Study, report: Callable[..., Report]
) -> None:
    text = tables.text(tables.tables(report(study, {"full": RIGHT, "less": WRONG}), rounds=20))
    header, full, paper, less, *_ = lines(text, "with transforms: accuracy")
    names = [cell.strip() for cell in header]
    assert names[:8] == ["arm", "head", "whose", "overall", "real", "fake", "odd (n 2)", "sdxl (n 2)"]
    assert names[8:] == ["deepfloyd-if", "sd-1.4", "sd-2.1", "AUC"]
    mine = dict(zip(names, (cell.strip() for cell in full), strict=True))
    assert mine["whose"] == "ours"
    assert mine["overall"].startswith("100.0 (")
    assert (mine["sdxl (n 2)"], mine["sd-1.4"]) == ("100.0", "–")
    theirs = dict(zip(names, (cell.strip() for cell in paper), strict=True))
    assert (theirs["whose"], theirs["arm"], theirs["overall"], theirs["real"]) == ("paper", "CoDE", "95.7", "95.6")
    assert (theirs["sdxl (n 2)"], theirs["odd (n 2)"], theirs["AUC"]) == ("97.5", "–", "–")
    other = dict(zip(names, (cell.strip() for cell in less), strict=True))
    assert (other["overall"].split()[0], other["real"], other["fake"]) == ("75.0", "75.0", "75.0")
    assert other["sdxl (n 2)"] == "50.0"


def test_the_sizes_and_the_budget_stand_above_the_tables(study: Study, report: Callable[..., Report]) -> None:
    head = tables.heading(tables.tables(report(study, {"full": RIGHT}), rounds=0))
    assert "test rows: 4 real, 4 fake (odd 2, sdxl 2); 1 seeds an arm" in head
    assert "each arm was given the same 320 views" in head


def test_published_cells_are_those_of_the_file_whatever_was_measured(
    study: Study, report: Callable[..., Report]
) -> None:
    file = importlib.resources.files("assay.studies") / "published.csv"
    facts = {
        float(line["value"]) for line in csv.DictReader(file.read_text().splitlines()) if line["table"] == "ablation"
    }
    for values in (RIGHT, WRONG):
        told = tables.to_dict(tables.tables(report(study, {"full": values}), rounds=0))
        assert {cell for row in told["paper"] for cell in row["values"].values()} == facts
        assert all("paper" not in one for one in told["figures"])


def test_arms_are_compared_with_the_first_on_the_same_rows(study: Study, report: Callable[..., Report]) -> None:
    found = tables.tables(report(study, {"full": RIGHT, "less": WRONG}), rounds=20)
    text = tables.text(found)
    _, line, *_ = lines(text, "against the first")
    assert [cell.strip() for cell in line][:4] == ["less", "linear", "clean", "full linear"]
    assert line[4].strip().startswith("-25.0 (")
    # Of 16 pairs the fake of .1 loses 4, and the real of .6 ties one and loses none it should not.
    assert line[5].strip().startswith("-0.281 (")


def test_what_is_missing_is_named_below(study: Study, report: Callable[..., Report]) -> None:
    given = report(study, {"full": RIGHT}, {"less": "not run: give --weights vit=FILE"})
    given = dataclasses.replace(given, seeds=2)
    gaps = tables.missing(tables.tables(given, rounds=0))
    assert gaps == [
        "less: not run: give --weights vit=FILE",
        "full: 1 of 2 seeds are finished; run the same command again",
    ]
    assert "missing\n  less: not run" in tables.text(tables.tables(given, rounds=0))


def test_what_was_left_out_has_a_column_each_beside_the_arm_that_met_it(report: Callable[..., Report]) -> None:
    whole = Study(
        name="s",
        question="unseen?",
        arms=(Arm("all", "all", paper="CoDE"),),
        heads=("linear",),
        table="unseen",
        leave="generator",
    ).with_left_out(["sdxl", "odd"])
    given = report(whole, {"all": RIGHT, "without-sdxl": WRONG, "without-odd": RIGHT})
    text = tables.text(tables.tables(given, rounds=20))
    header, unseen, seen, paper = lines(text, "without transforms: balanced accuracy")[:4]
    assert [cell.strip() for cell in header][3:6] == ["sdxl (n 6)", "odd (n 6)", "average"]
    assert [line[0].strip() for line in (unseen, seen)] == ["left out", "seen (all)"]
    # Three of four reals and one of two fakes; then all.
    assert [cell.strip().split()[0] for cell in unseen][3:6] == ["62.5", "100.0", "81.2"]
    assert [cell.strip().split()[0] for cell in seen][3:6] == ["100.0", "100.0", "100.0"]
    assert [cell.strip() for cell in paper][2:6] == ["paper", "–", "–", "78.0"]
    # The arm that never met sdxl is compared on reals and sdxl, not on what it did meet.
    _, compared, *_ = lines(text, "against the first")
    assert [cell.strip().split()[0] for cell in compared][4::2] == ["-37.5", "6"]


def test_each_arm_that_lost_something_stands_above_the_arm_that_it_is_a_copy_of(report: Callable[..., Report]) -> None:
    whole = Study(
        name="s",
        question="unseen?",
        arms=(Arm("all", "all"), Arm("other", "other")),
        heads=("linear",),
        conditions=("clean",),
        leave="generator",
        leave_each=True,
    ).with_left_out(["sdxl", "odd"])
    given = report(
        whole,
        {"all": RIGHT, "other": WRONG, "without-sdxl": WRONG, "without-odd": RIGHT, "other-without-odd": RIGHT},
        {"other-without-sdxl": "not yet run"},
    )
    _, *told = lines(tables.text(tables.tables(given, rounds=20)), "without transforms: balanced accuracy")
    found = {line[0].strip(): [cell.strip().split()[0] for cell in line[3:6]] for line in told[:4]}
    # On sdxl: three of four reals and one of two fakes; on odd: three of four reals and both fakes.
    assert found == {
        "left out (all)": ["62.5", "100.0", "81.2"],
        "seen (all)": ["100.0", "100.0", "100.0"],
        "left out (other)": ["–", "100.0", "100.0"],
        "seen (other)": ["62.5", "87.5", "75.0"],
    }
    # An average of one cell is told as such.
    assert told[2][5].strip() == "100.0 of 1"
    # A copy of another arm stands against the first arm's copy that never met the same value.
    against = {series.arm: mate.arm for (series, _), (mate, _) in tables.tables(given, rounds=0).against.items()}
    assert against == {
        "other": "all",
        "without-sdxl": "all",
        "without-odd": "all",
        "other-without-odd": "without-odd",
    }


def test_dfcons_published_figure_stands_beside_the_arm_that_repeats_it_and_nowhere_else(
    report: Callable[..., Report],
) -> None:
    told = 0
    for study in studies.studies().values():
        if not study.name.startswith("dfcon25-"):
            continue
        given = report(study, {arm.name: RIGHT for arm in study.arms})
        each = {head: dict.fromkeys(study.conditions, RIGHT) for head in study.heads}
        results = {
            name: tuple(result.model_copy(update={"scores": each}) for result in found)
            for name, found in given.results.items()
        }
        found = tables.tables(dataclasses.replace(given, results=results), rounds=0)
        text, marked = tables.text(found), tables.markdown(found)
        cells = [line.split() for line in text.splitlines() if "95.8" in line]
        assert [line[:4] for line in cells] == [["DFCon", "modified_majority", "paper", "95.83"]] * len(cells)
        assert marked.count("95.83") == len(cells)
        if study.name != "dfcon25-ensemble":
            assert cells == []
            assert tables.to_dict(found)["paper"] == []
            continue
        told += len(cells)
        block = next(part for part in text.split("\n\n") if "95.83" in part)
        assert block.startswith("without transforms")
        assert "the validation set of DFWild-Cup" in block
        assert [row["values"] for row in tables.to_dict(found)["paper"]] == [{"overall": 95.83}]
        # Under its own head's line, not the first one's.
        mine = [line.split()[:3] for line in block.splitlines() if line.startswith("  full")]
        assert ["full", "modified_majority", "ours"] in mine
    assert told == 1


def test_conditions_with_numbers_become_curves(report: Callable[..., Report]) -> None:
    whole = Study(
        name="s",
        question="how fast?",
        arms=(Arm("full", "all"),),
        heads=("linear",),
        conditions=("clean", "jpeg50", "jpeg90", "size256"),
        figure="curve",
    )
    found = tables.tables(report(whole, {"full": WRONG}), rounds=20)
    text = tables.text(found)
    assert [line[2].strip() for line in lines(text, "condition by condition")[1:]] == list(whole.conditions)
    drawn = figure.svg(found)
    assert drawn.count("<polyline") == 2
    assert "jpeg: accuracy at one half, %" in drawn


def test_accuracy_stands_against_parameters(report: Callable[..., Report], study: Study) -> None:
    whole = dataclasses.replace(study, figure="parameters")
    small, large = result("full", RIGHT, ("clean",)), result("less", WRONG, ("clean",))
    large = large.model_copy(update={"cost": large.cost.model_copy(update={"parameters": 80_000_000})})
    told = dataclasses.replace(report(whole, {}), results={"full": (small,), "less": (large,)})
    drawn = ElementTree.fromstring(figure.svg(tables.tables(told, rounds=20)))
    places = {
        text.text: float(text.get("x", "nan")) for text in drawn.iter("{http://www.w3.org/2000/svg}text") if text.text
    }
    assert places["full · 5.0 M"] < places["less · 80.0 M"]
    dots = [float(dot.get("cy", "nan")) for dot in drawn.iter("{http://www.w3.org/2000/svg}circle")]
    # The legend's, then all of eight right above six of eight.
    assert len(dots) == 3
    assert dots[1] < dots[2]
    empty = figure.svg(tables.tables(report(whole, {}), rounds=0))
    assert ElementTree.fromstring(empty).tag.endswith("svg")


def test_markdown_escapes_what_would_break_a_table(report: Callable[..., Report], study: Study) -> None:
    odd = dataclasses.replace(study, question="a | b <script>")
    found = tables.tables(report(odd, {"full": RIGHT}), rounds=0)
    assert "a \\| b" in tables.log_row(found, "2026-01-02", "assay study s")
    assert "<script>" not in figure.svg(found)


def test_a_paper_row_stands_only_under_its_own_head() -> None:
    assert published.of("seen", "ViT-T (BCE)", "linear", "clean") is not None
    assert published.of("seen", "ViT-T (BCE)", "nearest", "clean") is None
    nearest = published.of("ablation", "CoDE", "nearest", "transforms")
    assert nearest is not None
    assert nearest.values["overall"] == 95.8
    assert published.rows("no such table") == ()
