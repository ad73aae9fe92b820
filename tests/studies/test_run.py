"""A study from a manifest to its tables: fair budgets, resume, and nothing that is missing passed over."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import assay
from assay import studies
from assay.data.table import Table
from assay.errors import RecipeError
from assay.judge import bundle
from assay.learn.batches import TEACHER
from assay.learn.descend import Training
from assay.learn.recipe import Recipe, find
from assay.learn.rows import learning_rows
from assay.learn.run import Run
from assay.studies import output, run
from assay.studies import table as tables
from assay.studies.result import Result
from assay.studies.rows import few
from assay.studies.run import Report
from assay.studies.study import DEFAULT, Arm, Study


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


def test_what_differs_in_calibration_alone_takes_the_networks_of_what_was_trained(
    study: Study, table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    advance = Training.advance
    monkeypatch.setattr(Training, "advance", lambda *given: steps.append("step") or advance(*given))
    base = study.arms[0].base
    arms = (
        Arm("platt", "slope and offset", base=base),
        Arm("temperature", "a slope", base=base, changes={"calibrate__scaling": "temperature"}),
        Arm("wide", "another network", base=base, changes={"descend__pairs": 8}),
    )
    same = dataclasses.replace(study, arms=arms, heads=("linear",))
    options: dict[str, Any] = {"views": 64, "workers": 0, "device": "cpu"}
    shared, seen = tmp_path / "shared", []
    report = run.run(
        same, table, tmp_path / "out", shared=shared, finished=lambda report: seen.append(len(steps)), **options
    )
    assert not report.missing
    # Two steps, none, and one with twice the pictures.
    assert seen == [2, 2, 3]
    results = {arm: found[0] for arm, found in report.results.items()}
    costs = {arm: result.cost for arm, result in results.items()}
    assert {arm: cost.steps for arm, cost in costs.items()} == {"platt": 2, "temperature": 2, "wide": 1}
    # What the networks took is known of who trained them.
    assert {arm: cost.cpu_seconds is None for arm, cost in costs.items()} == {
        "platt": False,
        "temperature": True,
        "wide": False,
    }
    made = [bundle.read(home / bundle.MADE).card for home in sorted((shared / "runs").iterdir())]
    assert len(made) == 3
    assert len({card.files["a.weights"] for card in made}) == 2
    # Calibration is each one's own: the same order of pictures, other probabilities.
    mine, theirs = (results[arm].scores["linear"]["clean"] for arm in ("platt", "temperature"))
    assert mine != theirs
    assert np.argsort(mine, kind="stable").tolist() == np.argsort(theirs, kind="stable").tolist()
    # Alone, without a folder in common, each trains its own.
    alone = run.run(same, table, tmp_path / "alone", only=("temperature",), **options)
    assert len(steps) == 5
    assert alone.results["temperature"][0].cost.cpu_seconds is not None


@pytest.fixture(scope="module")
def school(recipe: Recipe) -> Study:
    """A teacher of two streams that vote, a student of it, and one that never comes to be trained."""
    first, stages = recipe.streams[0], recipe.stages
    of_b = [stage.model_copy(update={"stream": "b"}) for stage in stages[:2]]
    teacher = recipe.set(
        streams=(first, first.model_copy(update={"name": "b"})), stages=(*stages[:2], *of_b, stages[2])
    )
    small = {
        "student__backbone__name": "trace_cnn",
        "student__backbone__fields": dict(first.backbone.fields),
        "descend__tiles": recipe.descend("a").tiles,
        "descend__pairs": 4,
        "fit__records": 20,
        "calibrate__fpr": 0.25,
    }
    return Study(
        name="school",
        question="what is left of the vote?",
        arms=(
            Arm("full", "two that vote", base=teacher),
            Arm("student", "taught", base="distilled", changes=small, teacher="full"),
            Arm("other", "taught as well", base="distilled", changes=small | {"fit__records": 8}, teacher="full"),
        ),
        heads=(DEFAULT, "mean", "a", "b"),
        streams=("a", "b"),
        conditions=("clean",),
        embedding=True,
        fairness=True,
        by="domain",
    )


def test_a_teacher_is_trained_once_judges_once_and_its_students_are_taught_by_it(
    school: Study, table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: dict[str, dict[str, Any]] = {}
    judged: list[list[str]] = []
    real, judging = run.train, assay.Detector.judge_many

    def train(recipe: Recipe, rows: Table, home: Path, **options: Any) -> Path:
        assert options["name"] not in trained
        trained[options["name"]] = {"recipe": recipe, "rows": rows, "home": home, **options}
        if options["name"] == "other-0":
            raise RecipeError("not trained here")
        return real(recipe, rows, home, **options)

    def judge(self: assay.Detector, places: Any, **options: Any) -> Any:
        judged.append(list(places))
        return judging(self, places, **options)

    monkeypatch.setattr(run, "train", train)
    monkeypatch.setattr(assay.Detector, "judge_many", judge)
    out, shared = tmp_path / "out", tmp_path / "shared"
    report = run.run(school, table, out, views=32, workers=0, device="cpu", shared=shared)
    assert report.missing == {"other": "not trained here"}
    assert list(trained) == ["full-0", "student-0", "other-0"]
    # Once for both students: every training picture and no other.
    train_places = [sample.place for sample in table if sample.split == "train"]
    assert judged == [train_places]
    assert (out / "full" / "seed-0" / "taught.csv").exists()

    teacher = assay.load(trained["full-0"]["home"] / bundle.MADE, device="cpu")
    full, student = trained["full-0"], trained["student-0"]
    assert full["teacher"] is None
    assert TEACHER not in full["rows"].columns
    for each in (student, trained["other-0"]):
        assert each["teacher"].sha256 == teacher.sha256
        cells = dict(zip(each["rows"].column("path").tolist(), each["rows"].column(TEACHER).tolist(), strict=True))
        assert {place for place, cell in cells.items() if cell} == set(train_places)
        assert float(cells[train_places[3]]) == teacher.judge(train_places[3]).score
        # Views as large as the teacher's first, not as the recipe has them.
        assert each["recipe"].streams[0].view.size == 32
        assert each["recipe"].descend("student").crops.base == 37
    untaught = Run.of(student["recipe"], learning_rows(table), 0).key
    keys = [each["home"].name for each in trained.values()]
    assert len({*keys, untaught}) == 4
    card = bundle.read(student["home"] / bundle.MADE).card
    assert card.training["teacher"] == {"name": "full-0", "version": "1", "sha256": teacher.sha256}

    mine, theirs = report.results["full"][0], report.results["student"][0]
    assert set(mine.scores) == {DEFAULT, "mean", "a", "b"}
    assert set(theirs.scores) == {DEFAULT}
    assert [row.place for row in theirs.rows] == [sample.place for sample in table if sample.split == "test"]
    assert (list(mine.embedding), list(theirs.embedding)) == (["a", "b"], ["student"])
    assert (out / "student" / "seed-0" / "embedding" / "student.label.svg").exists()
    assert set(mine.thresholds) == set(mine.scores)
    assert mine.thresholds["a"] == teacher.rules.streams["a"].threshold
    found = output.write(report, out, "assay study school", rounds=20)
    text = tables.text(found)
    for title in ("streams whose errors correlate", "the embedding of the test rows", "errors at the detector's own"):
        assert title in text
    told = json.loads((out / "report.json").read_text())
    assert len(told["fairness"]) == 5
    # Taken up again nothing is trained or judged: what is there is there.
    trained.clear()
    judged.clear()
    again = run.run(school, table, out, views=32, only=("student",), workers=0, device="cpu", shared=shared)
    assert again.results == report.results
    assert (trained, judged) == ({}, [])


def test_a_student_alone_has_its_teacher_trained_first(
    school: Study, table: Table, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Path] = []

    def train(recipe: Recipe, rows: Table, home: Path, **options: Any) -> Path:
        begun.append(home)
        raise RecipeError("no such network")

    monkeypatch.setattr(run, "train", train)
    report = run.run(school, table, out, views=32, only=("student",), workers=0)
    assert begun == [out / "full" / "seed-0"]
    # What keeps the teacher from being trained keeps the student from being taught.
    assert report.missing["student"] == "no such network"


@pytest.mark.parametrize(("base", "size"), [("dfcon25", 128), ("dfcon25:pocket", 64)])
def test_students_of_dfcon_see_what_its_first_stream_sees(
    table: Table, out: Path, base: str, size: int, pretended: list[tuple[str, Recipe, Table]]
) -> None:
    run.run(studies.find("dfcon25-distill"), table, out, base=base, views=960, workers=0)
    recipes = {arm: recipe for arm, recipe, _ in pretended}
    assert len(recipes) == 5
    assert recipes["full"].stream("maxvit").view.size == size
    for arm, recipe in recipes.items():
        if arm == "full":
            continue
        assert recipe.streams[0].view.size == size != find("distilled").streams[0].view.size
        assert recipe.descend("student").crops.base == round(size * 8 / 7)
        # The same number of views as the three networks together.
        assert run.budget.length(recipe) == 960 // (2 * recipe.descend("student").pairs)
    assert recipes["mobilenet"].descend("student").loss != recipes["mobilenet-labels"].descend("student").loss
    assert recipes["trace"].streams[0].backbone.name == "trace_cnn"


def test_arms_without_a_value_are_made_for_each_arm_where_the_study_says_so(
    study: Study, table: Table, out: Path, pretended: list[tuple[str, Recipe, Table]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "FEWEST", 5)
    both = dataclasses.replace(study, arms=study.arms[:2], leave="generator", leave_each=True)
    run.run(both, table, out, views=160, workers=0)
    noted = {arm: (recipe, rows) for arm, recipe, rows in pretended}
    values = ("bars", "dots")
    assert list(noted) == [
        *("full", "wide"),
        *(name for value in values for name in (f"without-{value}", f"wide-without-{value}")),
    ]
    for value in values:
        recipe, rows = noted[f"wide-without-{value}"]
        assert recipe.descend("a").pairs == 8
        assert not [row for row in rows if row.generator == value and row.split in ("train", "tune")]


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
