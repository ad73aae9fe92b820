"""Running a study: every arm and seed is a training run of its own, in OUT/ARM/SEED, and taken up where it stopped.

    OUT/study.json            what was asked, and the steps of each arm; another question needs another folder
    OUT/ARM/SEED/             the run (`assay.learn.train`), its bundle, and result.json once it is measured
    SHARED/runs/KEY/          in its place, where studies share a folder: one run for all arms that ask for the same
    OUT/table.txt, table.md, report.json, figure.svg      made anew after every run, from what is finished

An arm that cannot run (no weights given, no such rows, a field that does not hold) is named with the reason; the others
go on.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import pydantic
from rich.console import Console

import assay
from assay.data import lock
from assay.data.table import Table
from assay.errors import AssayError, BundleError, MissingExtra, RecipeError
from assay.judge import bundle
from assay.judge.detector import Detector
from assay.learn.distill import TAUGHT, seeing, taught
from assay.learn.recipe import Recipe
from assay.learn.rows import learning_rows
from assay.learn.run import Run, lent
from assay.learn.train import train
from assay.measure.evaluate import Progress
from assay.studies import budget
from assay.studies.conditions import conditions
from assay.studies.probes import probe
from assay.studies.result import Cost, Result, measure
from assay.studies.rows import FEWEST, few, test_rows, values_of, without
from assay.studies.study import Arm, Equal, Study

NOTE = "study.json"
SPENT = "spent.json"
"""In a run's folder: the processor time that it took."""

QUICK_ARMS, QUICK_FEWEST = 2, 4
QUICK: Mapping[str, Any] = MappingProxyType(
    {"descend__pairs": 4, "descend__steps": 3, "descend__epochs": 2, "descend__patience": 2, "fit__records": 64}
)
"""What a quick study sets on every arm: minutes on two cores, and nothing learnt."""


class Asked(pydantic.BaseModel):
    """What makes two calls the same study.

    Args:
        study: its name.
        base: the recipe that the arms start from, where it is not the study's own.
        by: the column that figures are broken down by, where it is not the study's own.
        size, settings, quick, minutes, views, equal: as given.
        manifest: hash of the rows: names, labels, splits, and the columns the study looks at.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    study: str
    base: str = ""
    by: str = ""
    size: Literal["small", "paper"]
    settings: dict[str, str]
    quick: bool
    minutes: float | None
    views: int | None
    equal: Equal
    manifest: str


class Plan(pydantic.BaseModel):
    """How much each arm may spend, written before it begins.

    Args:
        asked: see `Asked`.
        amount: views, or seconds of processor time, for each arm; None until the first arm is planned.
        steps: of each arm's run, once planned.
        seconds_a_step: processor time of one step, where it was measured.
    """

    model_config = pydantic.ConfigDict(extra="forbid")

    asked: Asked
    amount: float | None = None
    steps: dict[str, int] = {}
    seconds_a_step: dict[str, float] = {}

    def save(self, out: Path) -> None:
        part = out / f".{NOTE}.part"
        part.write_text(json.dumps(self.model_dump(mode="json"), indent=1), "utf-8")
        part.replace(out / NOTE)


@dataclasses.dataclass(frozen=True)
class Report:
    """What is finished of a study, and what is missing.

    Args:
        study: with its arms for this manifest.
        results: finished runs by arm, in the order of their seeds.
        missing: why an arm has no run, or fewer than asked for, by arm.
        failed: the arms of `missing` that were asked for and could have run.
        tested: (reals, fakes) among the test rows.
        plan: what each arm could spend.
        seeds: asked for.
    """

    study: Study
    results: Mapping[str, tuple[Result, ...]]
    missing: Mapping[str, str]
    failed: tuple[str, ...]
    tested: tuple[int, int]
    plan: Plan
    seeds: int


def run(
    study: Study,
    data: Table,
    out: Path,
    *,
    minutes: float | None = None,
    views: int | None = None,
    equal: Equal | None = None,
    seeds: int = 1,
    quick: bool = False,
    only: Sequence[str] = (),
    base: str = "",
    by: str = "",
    size: Literal["small", "paper"] = "small",
    settings: Mapping[str, str] = MappingProxyType({}),
    weights: Mapping[str, str] = MappingProxyType({}),
    shared: Path | None = None,
    workers: int = 2,
    device: str = "auto",
    console: Console | None = None,
    progress: Progress | None = None,
    finished: Callable[[Report], object] | None = None,
) -> Report:
    """Run what is not yet finished of a study.

    Args:
        data: rows with the splits train, tune and test; test rows are measured and nothing else.
        out: made where it is missing; a study that was stopped there goes on.
        minutes: of processor time that the first arm may train (the other arms get as many views, or as much time);
            None takes the length of the first arm's recipe.
        views: for each arm, in place of `minutes`.
        equal: what arms get the same of; the study's own choice where none is given.
        seeds: 0 … seeds - 1; all arms of a seed run before the next one begins.
        quick: two arms, few rows, few steps: proves the path, claims nothing.
        only: arms to run; all where none is named.
        base: the recipe that the arms start from, in place of the study's own: "recipe" or "recipe:variant".
        by: the column that figures are broken down by, in place of the study's own; a study that leaves values out
            leaves out this column's.
        settings: fields of every arm's recipe, as text.
        weights: files by name, for arms that need some.
        shared: a folder for decoded pictures and trained runs that several studies have in common, also ones that run
            at the same time; made where it is missing. An arm that asks for what another study has trained takes it.
        workers: processes that prepare batches.
        progress: told how far measuring is.
        finished: called after every run with what there is.

    Raises:
        ManifestError: a split or a class is missing.
        RecipeError: no such arm, or `out` holds another study.
        MissingExtra: an optional dependency is missing.
    """
    if views is not None and minutes is not None:
        raise RecipeError("give either minutes or views, not both")
    if quick:
        data = few(data)
    if base:
        study = study.over(base)
    if by:
        study = study.by_column(by)
    if study.leave:
        study = study.with_left_out(values_of(data, study.leave, QUICK_FEWEST if quick else FEWEST))
    data.column(study.by)
    for name in only:
        study.arm(name)
    tested = test_rows(data)
    asked = Asked(
        study=study.name,
        base=base,
        by=by,
        size=size,
        settings=dict(settings),
        quick=quick,
        minutes=minutes,
        views=views,
        equal=equal or study.equal,
        manifest=_hash(data, {study.by, study.leave} - {""}),
    )
    runner = _Runner(
        study,
        data,
        out,
        _claimed(out, asked),
        size,
        settings,
        weights,
        shared or out,
        workers,
        device,
        console or Console(stderr=True),
    )
    missing: dict[str, str] = {}
    failed: list[str] = []
    chosen = _chosen(study, only, quick, weights, missing)

    def report() -> Report:
        results = {arm.name: tuple(runner.finished(arm, seeds)) for arm in study.arms}
        counts = int((tested.labels == 0).sum()), int((tested.labels == 1).sum())
        there = {name: found for name, found in results.items() if found}
        open_ = {name: why for name, why in missing.items() if len(results[name]) < seeds}
        return Report(study, there, open_, tuple(n for n in failed if n in open_), counts, runner.plan, seeds)

    for seed in range(seeds):
        for arm in chosen:
            if arm.name in failed:
                continue
            try:
                runner.run(arm, seed, progress)
            except MissingExtra:
                raise
            except AssayError as error:
                missing[arm.name] = str(error)
                failed.append(arm.name)
            if finished is not None:
                finished(report())
    return report()


@dataclasses.dataclass
class _Runner:
    """What the runs of a study share."""

    study: Study
    data: Table
    out: Path
    plan: Plan
    size: Literal["small", "paper"]
    settings: Mapping[str, str]
    weights: Mapping[str, str]
    common: Path
    workers: int
    device: str
    console: Console

    @property
    def cache(self) -> Path:
        return self.common / "tiles"

    def folder(self, arm: Arm, seed: int) -> Path:
        return self.out / arm.name / f"seed-{seed}"

    def finished(self, arm: Arm, seeds: int) -> Iterator[Result]:
        for seed in range(seeds):
            result = Result.load(self.folder(arm, seed))
            if result is not None:
                yield result

    def run(self, arm: Arm, seed: int, progress: Progress | None) -> None:
        folder = self.folder(arm, seed)
        if Result.load(folder) is not None:
            return
        rows = without(self.data, self.study.leave, arm.without) if arm.without else self.data
        recipe = self.planned(arm, rows)
        self.console.print(f"{self.study.name}: {arm.name}, seed {seed}", highlight=False)
        folder.mkdir(parents=True, exist_ok=True)
        teacher = self.teacher(arm, seed, rows)
        if teacher is not None:
            rows = taught(rows, teacher, self.folder(self.study.arm(arm.teacher), seed) / TAUGHT)
        home = self.home(folder, recipe, rows, seed)
        made, spent = self.trained(recipe, rows, home, f"{arm.name}-{seed}", seed, teacher)
        found = measure(
            made,
            test_rows(rows),
            conditions(self.study.conditions),
            self.study.heads,
            self.study.by,
            progress,
            overviews=folder / "embedding" if self.study.embedding else None,
        )
        looked = {
            name: {
                line: {figure: cell.to_dict() for figure, cell in cells.items()}
                for line, cells in probe(name)(made, test_rows(rows)).items()
            }
            for name in self.study.probes
        }
        trunks = {stream.trunk: stream.parameters for stream in bundle.read(made).card.streams}
        steps = budget.length(recipe)
        Result(
            study=self.study.name,
            arm=arm.name,
            seed=seed,
            without=arm.without,
            detector=found.detector,
            rows=found.rows,
            scores=found.scores,
            thresholds=found.thresholds,
            embedding=found.embedding,
            probes=looked,
            seen=found.seen,
            failed=found.failed,
            cost=Cost(
                parameters=sum(trunks.values()),
                steps=steps,
                views=steps * budget.views_a_step(recipe),
                cpu_seconds=spent,
            ),
        ).save(folder)

    def home(self, folder: Path, recipe: Recipe, rows: Table, seed: int) -> Path:
        """Where a run is trained."""
        if self.common == self.out:
            return folder
        return self.common / "runs" / Run.of(recipe, learning_rows(rows), seed).key

    def teacher(self, arm: Arm, seed: int, rows: Table) -> Detector | None:
        """What teaches an arm, trained if it is not there; None where nothing does."""
        if not arm.teacher:
            return None
        of = self.study.arm(arm.teacher)
        recipe = self.planned(of, rows)
        home = self.home(self.folder(of, seed), recipe, rows, seed)
        return assay.load(self.trained(recipe, rows, home, f"{of.name}-{seed}", seed)[0])

    def trained(
        self, recipe: Recipe, rows: Table, home: Path, name: str, seed: int, teacher: Detector | None = None
    ) -> tuple[Path, float | None]:
        """The run's bundle, trained if it is not there, and the processor seconds that it took, where they are known.

        Another study that is just training the same is waited for.
        """
        home.mkdir(parents=True, exist_ok=True)
        made, note = home / bundle.MADE, home / SPENT
        with lock.held(home, wait=True):
            if not _made(made, recipe, seed):
                fresh, began = not any(home.iterdir()), _processor_time()
                if fresh and self.common != self.out:
                    asked = Run.of(recipe, learning_rows(rows), seed)
                    # What differs in heads or calibration alone needs no new networks.
                    fresh = not lent(home, asked, sorted(set(home.parent.iterdir()) - {home}))
                train(
                    recipe,
                    rows,
                    home,
                    teacher=teacher,
                    name=name[:64],
                    seed=seed,
                    workers=self.workers,
                    device=self.device,
                    cache=self.cache,
                    console=self.console,
                )
                if fresh:
                    note.write_text(json.dumps({"cpu_seconds": round(_processor_time() - began, 1)}), "utf-8")
            return made, json.loads(note.read_bytes())["cpu_seconds"] if note.exists() else None

    def planned(self, arm: Arm, rows: Table) -> Recipe:
        """The arm's recipe with the steps it may take, which are noted before it begins."""
        recipe = self.recipe(arm)
        if not budget.descents(recipe):
            return recipe
        if arm.name not in self.plan.steps:
            self.plan.steps[arm.name] = self.steps(arm, recipe, rows)
            self.plan.save(self.out)
        return budget.with_steps(recipe, self.plan.steps[arm.name])

    def recipe(self, arm: Arm) -> Recipe:
        recipe = arm.recipe(self.size, self.weights)
        if arm.teacher:
            recipe = seeing(recipe, self.recipe(self.study.arm(arm.teacher)).streams[0].view.size)
        if self.plan.asked.quick:
            keys = {"descend"} if budget.descents(recipe) else set()
            keys |= {stage.stage for stage in recipe.stages}
            recipe = recipe.set(**{place: value for place, value in QUICK.items() if place.partition("__")[0] in keys})
        for place, value in self.settings.items():
            recipe = recipe.with_field(place, value)
        return recipe

    def steps(self, arm: Arm, recipe: Recipe, rows: Table) -> int:
        """Steps of an arm; the first one planned sets the amount that the others are given too."""
        asked = self.plan.asked
        if self.plan.amount is None:
            self.plan.amount = self.amount()
        if asked.equal == "compute":
            return max(1, round(self.plan.amount / self.pace(arm.name, recipe, rows)))
        return max(1, round(self.plan.amount / budget.views_a_step(recipe)))

    def amount(self) -> float:
        """What each arm gets: from the study's first arm, whichever is run first."""
        asked = self.plan.asked
        first = next(arm for arm in self.study.arms if not arm.weights and not arm.frozen)
        recipe = self.recipe(first)
        timed = asked.equal == "compute" or asked.minutes is not None
        pace = self.pace(first.name, recipe, self.data) if timed else math.nan
        if asked.equal == "compute":
            if asked.minutes is not None:
                return 60 * asked.minutes
            return pace * (budget.length(recipe) if asked.views is None else asked.views / budget.views_a_step(recipe))
        if asked.views is not None:
            return asked.views
        steps = budget.length(recipe) if asked.minutes is None else max(1, round(60 * asked.minutes / pace))
        return steps * budget.views_a_step(recipe)

    def pace(self, name: str, recipe: Recipe, rows: Table) -> float:
        if name not in self.plan.seconds_a_step:
            self.plan.seconds_a_step[name] = budget.seconds_a_step(
                recipe, rows, self.cache, seed=0, device=self.device, workers=self.workers
            )
        return self.plan.seconds_a_step[name]


def _chosen(
    study: Study, only: Sequence[str], quick: bool, weights: Mapping[str, str], missing: dict[str, str]
) -> list[Arm]:
    """The arms to run; why the others are not goes to `missing`."""
    chosen: list[Arm] = []
    for arm in study.arms:
        if only and arm.name not in only:
            missing[arm.name] = "not asked for"
        elif arm.weights and arm.weights not in weights:
            missing[arm.name] = f"not run: give --weights {arm.weights}=FILE"
        elif quick and not only and len(chosen) == QUICK_ARMS:
            missing[arm.name] = f"not run: a quick study runs {QUICK_ARMS} arms; name others with --arm"
        else:
            chosen.append(arm)
    return chosen


def _claimed(out: Path, asked: Asked) -> Plan:
    """The plan that `out` holds, or a new one.

    Raises:
        RecipeError: it holds another study, or something that is none.
    """
    note = out / NOTE
    if not note.exists():
        if out.exists() and any(path.name != f".{NOTE}.part" for path in out.iterdir()):
            raise RecipeError(f"{out} is not empty and holds no study; give another folder")
        out.mkdir(parents=True, exist_ok=True)
        plan = Plan(asked=asked)
        plan.save(out)
        return plan
    try:
        plan = Plan.model_validate_json(note.read_bytes())
    except pydantic.ValidationError as error:
        raise RecipeError(f"{note} cannot be read, so its study cannot be taken up; give another folder") from error
    before, now = plan.asked.model_dump(), asked.model_dump()
    differing = [field for field in now if before[field] != now[field]]
    if differing:
        raise RecipeError(f"{out} holds a study with another {' and '.join(differing)}; give another folder")
    return plan


def _made(folder: Path, recipe: Recipe, seed: int) -> bool:
    """Whether training is over: the bundle is there, whole, and of this recipe and seed."""
    try:
        told = bundle.read(folder).card.training
    except BundleError:
        return False
    return told.get("seed") == seed and Run.told(told.get("recipe"), recipe)


def _processor_time() -> float:
    """Seconds of processor time of this process and of its children that have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def _hash(table: Table, columns: set[str]) -> str:
    """Of the rows in their order. A data set may move as a whole."""
    digest = hashlib.sha256()
    names = sorted({"label", "split", "generator", "source"} | {name for name in columns if name in table.columns})
    cells = [table.column(name).tolist() for name in names]
    for row in zip((Path(place).name for place in table.column("path").tolist()), *cells, strict=True):
        digest.update(json.dumps(row).encode())
    return digest.hexdigest()[:16]
