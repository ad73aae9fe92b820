"""A study from a manifest to its tables: fair budgets, resume, and nothing that is missing passed over."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from assay.data.table import Table
from assay.errors import RecipeError
from assay.learn.recipe import Recipe
from assay.studies import output, run
from assay.studies import table as tables
from assay.studies.result import Result
from assay.studies.rows import few
from assay.studies.run import Report
from assay.studies.study import Arm, Study


@pytest.fixture(scope="module")
def done(study: Study, table: Table, tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    """The whole study with two seeds, killed on its way and taken up."""
    out = tmp_path_factory.mktemp("study") / "out"
    trained: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        real = run.train

        def killed(recipe: Recipe, data: Any, folder: Path, **options: Any) -> Path:
            trained.append(f"{folder.parent.name} {folder.name}")
            if len(trained) == 2:
                raise KeyboardInterrupt
            return real(recipe, data, folder, **options)

        patch.setattr(run, "train", killed)
        with pytest.raises(KeyboardInterrupt):
            run.run(study, table, out, views=160, seeds=2, workers=0, device="cpu")
        report = run.run(study, table, out, views=160, seeds=2, workers=0, device="cpu")
    assert not report.failed, report.missing
    assert trained == ["full seed-0", "wide seed-0", "wide seed-0", "full seed-1", "wide seed-1"]
    output.write(report, out, "assay study tiny", rounds=20)
    return report, out


def test_a_study_that_was_stopped_goes_on_and_trains_no_finished_run_again(
    done: tuple[Report, Path], study: Study, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    report, out = done
    assert {arm: [result.seed for result in found] for arm, found in report.results.items()} == {
        "full": [0, 1],
        "wide": [0, 1],
    }
    monkeypatch.setattr(run, "train", None)
    again = run.run(study, table, out, views=160, seeds=2, workers=0, device="cpu")
    assert again.results == report.results


def test_a_run_that_is_trained_but_not_measured_is_only_measured(
    done: tuple[Report, Path], study: Study, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, out = done
    file = out / "wide" / "seed-1" / "result.json"
    before = json.loads(file.read_text())
    file.unlink()
    monkeypatch.setattr(run, "train", None)
    run.run(study, table, out, views=160, seeds=2, workers=0, device="cpu")
    after = json.loads(file.read_text())
    # What it took is not known any more; what it says is the same.
    assert after.pop("cost") | {"cpu_seconds": 0} == before.pop("cost") | {"cpu_seconds": 0}
    assert after == before


def test_every_arm_is_shown_the_same_number_of_views(done: tuple[Report, Path]) -> None:
    report, _ = done
    costs = {arm: found[0].cost for arm, found in report.results.items()}
    # 160 views: 5 steps of 4 pairs, 4 views each picture; the larger batch gets fewer steps.
    assert {arm: cost.steps for arm, cost in costs.items()} == {"full": 5, "wide": 2}
    assert costs["full"].views == 160
    assert costs["wide"].views == 128
    assert report.plan.steps == {"full": 5, "wide": 2}


def test_test_rows_are_scored_under_each_condition_and_no_other_row_is(done: tuple[Report, Path], table: Table) -> None:
    report, _ = done
    test = [sample.place for sample in table if sample.split == "test"]
    for results in report.results.values():
        for result in results:
            assert [row.place for row in result.rows] == test
            assert set(result.scores["linear"]) == {"clean", "transforms"}
            assert all(score is not None for score in result.scores["linear"]["clean"])
            assert result.scores["linear"]["clean"] != result.scores["linear"]["transforms"]


def test_an_arm_without_its_weights_and_a_head_that_no_bundle_holds_are_named(done: tuple[Report, Path]) -> None:
    report, out = done
    assert report.missing == {"given": "not run: give --weights tiny=FILE"}
    assert report.failed == ()
    text = (out / "table.txt").read_text()
    assert "given: not run: give --weights tiny=FILE" in text
    assert "full: its bundle holds no head nearest" in text
    assert json.loads((out / "report.json").read_text())["missing"][0] == "given: not run: give --weights tiny=FILE"


def test_what_a_study_leaves_is_readable_by_machines_and_people(done: tuple[Report, Path]) -> None:
    _, out = done
    told = json.loads((out / "report.json").read_text())
    assert {(one["arm"], one["condition"]) for one in told["figures"]} == {
        (arm, condition) for arm in ("full", "wide") for condition in ("clean", "transforms")
    }
    assert {one["statistic"] for one in told["paired"]} == {"accuracy", "auc"}
    drawing = ElementTree.fromstring((out / "figure.svg").read_text())
    assert drawing.tag.endswith("svg")
    assert not list(drawing.iter("{http://www.w3.org/2000/svg}script"))
    row = (out / "log.md").read_text()
    assert row.count(" | ") == 4
    assert "`assay study tiny`" in row
    assert str(out) not in row


def test_a_folder_is_not_taken_up_by_another_study(done: tuple[Report, Path], study: Study, table: Table) -> None:
    _, out = done
    with pytest.raises(RecipeError, match="holds a study with another views; give another folder"):
        run.run(study, table, out, views=320, seeds=2, workers=0, device="cpu")
    with pytest.raises(RecipeError, match="another manifest"):
        run.run(study, table[:39], out, views=160, seeds=2, workers=0, device="cpu")


def test_a_folder_with_something_else_in_it_is_left_alone(study: Study, table: Table, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RecipeError, match="is not empty and holds no study"):
        run.run(study, table, tmp_path, workers=0)


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Recipe, Table]]:
    """Puts notes in place of training, and a result in place of measuring."""
    noted: list[tuple[str, Recipe, Table]] = []

    def record(self: Any, arm: Arm, seed: int, progress: Any) -> None:
        rows = run.without(self.data, self.study.leave, arm.without) if arm.without else self.data
        noted.append((arm.name, self.planned(arm, rows), rows))

    monkeypatch.setattr(run._Runner, "run", record)
    return noted


def test_at_equal_compute_the_slower_network_takes_fewer_steps(
    study: Study, table: Table, out: Path, pretended: list[tuple[str, Recipe, Table]], monkeypatch: pytest.MonkeyPatch
) -> None:
    paces = iter((0.5, 2.0))
    monkeypatch.setattr(run.budget, "seconds_a_step", lambda *_, **__: next(paces))
    run.run(study, table, out, minutes=1, equal="compute", workers=0)
    lengths = {arm: run.budget.length(recipe) for arm, recipe, _ in pretended}
    assert lengths == {"full": 120, "wide": 30}
    plan = json.loads((out / "study.json").read_text())
    assert plan["amount"] == 60
    assert plan["seconds_a_step"] == {"full": 0.5, "wide": 2.0}


def test_a_quick_study_runs_two_arms_on_few_rows_and_says_that_it_claims_nothing(
    study: Study, table: Table, out: Path, pretended: list[tuple[str, Recipe, Table]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(run, "few", lambda rows: few(rows, {"train": 5, "tune": 4, "test": 3}))
    third = Arm("third", "as it is", base=study.arms[0].base)
    report = run.run(
        dataclasses.replace(study, arms=(*study.arms[:2], third)),
        table,
        out,
        quick=True,
        workers=0,
        finished=lambda report: seen.append(sum(report.tested)),
    )
    assert seen == [6, 6]
    assert [len(rows) for *_, rows in pretended] == [24, 24]
    assert [arm for arm, *_ in pretended] == ["full", "wide"]
    assert all(recipe.fit("a").records == 64 for _, recipe, _ in pretended)
    assert report.missing["third"].startswith("not run: a quick study runs 2 arms")
    assert tables.text(tables.tables(report)).startswith("QUICK RUN")


def test_an_arm_that_fails_is_named_and_the_others_go_on(
    study: Study, table: Table, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def fails(self: Any, arm: Arm, seed: int, progress: Any) -> None:
        tried.append(f"{arm.name} {seed}")
        if arm.name == "full":
            raise RecipeError("no such network")

    monkeypatch.setattr(run._Runner, "run", fails)
    report = run.run(study, table, out, seeds=2, workers=0)
    assert tried == ["full 0", "wide 0", "wide 1"]
    assert report.missing["full"] == "no such network"
    assert report.failed == ("full",)


def test_only_the_arms_that_are_named_run(
    study: Study, table: Table, out: Path, pretended: list[tuple[str, Recipe, Table]]
) -> None:
    report = run.run(study, table, out, only=("wide",), workers=0)
    assert [arm for arm, *_ in pretended] == ["wide"]
    assert report.missing["full"] == "not asked for"
    # The budget is the first arm's all the same: 4 steps of 4 pairs.
    assert pretended[0][1].descend("a").pairs == 8
    assert run.budget.length(pretended[0][1]) == 2
    with pytest.raises(RecipeError, match="did you mean wide"):
        run.run(study, table, out, only=("wode",), workers=0)


def test_leaving_out_makes_an_arm_for_each_generator_that_never_meets_it(
    study: Study, table: Table, out: Path, pretended: list[tuple[str, Recipe, Table]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "FEWEST", 5)
    run.run(dataclasses.replace(study, arms=study.arms[:1], leave="generator"), table, out, workers=0)
    assert [arm for arm, *_ in pretended] == ["full", "without-bars", "without-dots"]
    for arm, _, rows in pretended[1:]:
        value = arm.removeprefix("without-")
        assert not [s for s in rows if s.generator == value and s.split in ("train", "tune")]
        assert [s for s in rows if s.generator not in ("", value) and s.split == "train"]


def test_studies_that_share_a_folder_train_what_they_have_in_common_once(
    study: Study, table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared"
    options: dict[str, Any] = {"views": 64, "workers": 0, "device": "cpu", "shared": shared}
    first = run.run(study, table, tmp_path / "first", only=("full",), **options)
    assert {path.name for path in shared.iterdir()} == {"tiles", "runs"}
    trained: list[str] = []
    real = run.train
    monkeypatch.setattr(run, "train", lambda *given, **more: trained.append(more["name"]) or real(*given, **more))
    other = dataclasses.replace(study, name="other", arms=(study.arms[0], dataclasses.replace(study.arms[1], name="x")))
    second = run.run(other, table, tmp_path / "second", **options)
    assert trained == ["x-0"]
    [mine], [theirs] = second.results["full"], first.results["full"]
    assert mine.detector == theirs.detector
    assert mine.scores == theirs.scores
    # What training took is known though this study did not train it.
    assert mine.cost == theirs.cost
    assert mine.cost.cpu_seconds is not None


def test_another_base_and_column_make_another_study(
    study: Study, table: Table, out: Path, pretended: list[tuple[str, Recipe, Table]]
) -> None:
    named = dataclasses.replace(study, arms=(Arm("full", "as it is"),))
    report = run.run(named, table, out, base="code24:pocket", by="domain", views=192, workers=0)
    assert pretended[0][1].streams[0].view.size == 64
    assert report.study.by == "domain"
    with pytest.raises(RecipeError, match="another base and by"):
        run.run(named, table, out, views=192, workers=0)


def test_a_result_that_cannot_be_read_says_what_to_do(tmp_path: Path) -> None:
    assert Result.load(tmp_path) is None
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(RecipeError, match="remove it, and the run is measured again"):
        Result.load(tmp_path)
