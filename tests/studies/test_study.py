"""The studies as values: every arm is a recipe that holds, and weights are asked for, never made up."""

from __future__ import annotations

import dataclasses
import re

import pytest
import timm

from assay import studies
from assay.errors import RecipeError
from assay.learn.recipe import Recipe
from assay.learn.run import Run
from assay.studies import published
from assay.studies.conditions import conditions
from assay.studies.study import HUB, Arm, Study

ALL = studies.studies()
ARMS = [(study, arm) for study in ALL.values() for arm in study.arms]


def test_codes_ten_dfcons_five_drifts_and_herds_seven_are_there_in_the_order_of_their_files() -> None:
    assert [name.removeprefix("code24-") for name in ALL if name.startswith("code24-")] == [
        "ablation",
        "heads",
        "crops",
        "unseen",
        "transforms",
        "compression",
        "bce",
        "foundation",
        "domains",
        "backbone",
    ]
    assert [name.removeprefix("dfcon25-") for name in list(ALL)[10:15]] == [
        "ensemble",
        "separation",
        "manifold",
        "fairness",
        "distill",
    ]
    assert list(ALL)[15:19] == ["drift26-streams", "drift26-calibration", "drift26-degradation", "drift26-forms"]
    assert [name.partition("-")[0] for name in list(ALL)[15:]] == 7 * ["drift26"] + 7 * ["herd24"]


def test_an_unknown_study_is_answered_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match="did you mean code24-ablation"):
        studies.find("code24-ablatoin")


@pytest.mark.parametrize(("study", "arm"), ARMS, ids=lambda value: value.name)
@pytest.mark.parametrize("size", ["small", "paper"])
def test_every_arm_is_a_recipe_that_holds(study: Study, arm: Arm, size: str) -> None:
    recipe = arm.recipe(size, {arm.weights: "w.safetensors"} if arm.weights else {})  # type: ignore[arg-type]
    assert re.fullmatch(r"[A-Za-z0-9.-]+", arm.name)
    assert bool(arm.weights) == (recipe.streams[0].backbone.weights == "w.safetensors")
    for stream in recipe.streams:
        assert arm.frozen == recipe.frozen(stream.name)
        recipe.fit(stream.name)
    recipe.calibrate()
    # An arm differs from the others of its study.
    others = [a.recipe(size, {a.weights: "o.safetensors"} if a.weights else {}) for a in study.arms if a is not arm]  # type: ignore[arg-type]
    assert recipe not in others


@pytest.mark.parametrize("study", ALL.values(), ids=lambda study: study.name)
def test_conditions_and_published_rows_exist(study: Study) -> None:
    assert list(conditions(study.conditions)) == list(study.conditions)
    models = {cells.model for cells in published.rows(study.table)}
    assert {arm.paper for arm in study.arms if arm.paper and study.table} <= models
    assert not study.table or models
    assert len({arm.name for arm in study.arms}) == len(study.arms)


def test_an_arm_without_its_weights_says_how_to_give_them(recipe: Recipe) -> None:
    arm = Arm("a", "", base=recipe, weights="vit")
    with pytest.raises(RecipeError, match="give --weights vit=FILE"):
        arm.recipe()
    assert arm.recipe(weights={"vit": "v.safetensors"}).streams[0].backbone.weights == "v.safetensors"
    fetched = arm.recipe(weights={"vit": HUB}).streams[0].backbone
    assert (fetched.pretrained, fetched.weights) == (True, "")


def test_a_frozen_arm_fits_its_heads_on_what_training_would_have_been_shown(recipe: Recipe) -> None:
    frozen = Arm("a", "", base=recipe, frozen=True).recipe()
    stage = recipe.descend("a")
    assert frozen.frozen("a")
    assert (frozen.shown("a").tiles, frozen.shown("a").crops) == (stage.tiles, stage.crops)


def test_a_value_may_follow_from_the_recipe_that_an_arm_starts_from(recipe: Recipe) -> None:
    arm = Arm("a", "", base=recipe, changes={"descend__crops__local": lambda recipe: recipe.stream("a").view.size // 2})
    assert arm.recipe().descend("a").crops.local == 16


def test_arms_start_from_another_recipe_by_name_and_keep_one_of_their_own(recipe: Recipe) -> None:
    own = Arm("own", "", base=recipe)
    over = dataclasses.replace(ALL["code24-crops"], arms=(*ALL["code24-crops"].arms, own)).over("code24:pocket")
    assert over.arm("own") == own
    views = {arm.name: arm.recipe().streams[0].view.size for arm in over.arms}
    assert {size for name, size in views.items() if name != "own"} == {64}
    locals_ = {arm.name: arm.recipe().descend("code").crops.local for arm in over.arms if arm is not own}
    assert (locals_["full"], locals_["local-64-of-224"], locals_["local-224-of-224"]) == (32, 18, 64)


def test_over_another_recipe_only_what_starts_where_the_first_arm_does_starts_there(recipe: Recipe) -> None:
    arms = (
        Arm("full", "", base="dfcon25"),
        Arm("student", "", base="distilled", teacher="full"),
        Arm("bce", "", base="dfcon25"),
        Arm("labels", "", base="distilled:labels", teacher="full"),
        Arm("own", "", base=recipe),
    )
    study = Study("s", "?", arms)
    assert [arm.base for arm in study.over("dfcon25:pocket").arms] == [
        "dfcon25:pocket",
        "distilled",
        "dfcon25:pocket",
        "distilled:labels",
        recipe,
    ]
    # Nothing else of an arm changes, and a study that starts from a recipe as it is stays as it is.
    assert study.over("x").over("dfcon25") == study
    assert Study("s", "?", arms[4:]).over("dfcon25").arms == arms[4:]


@pytest.mark.parametrize("base", ["dfcon25", "dfcon25:pocket"])
@pytest.mark.parametrize("size", ["small", "paper"])
@pytest.mark.parametrize(
    "study", [study for study in ALL.values() if study.name.startswith("dfcon25")], ids=lambda s: s.name
)
def test_dfcons_studies_hold_over_its_small_networks_too(study: Study, size: str, base: str) -> None:
    over = study.over(base)
    assert {arm.base for arm in over.arms if not arm.teacher} == {base}
    recipes = [arm.recipe(size) for arm in over.arms]  # type: ignore[arg-type]
    for number, recipe in enumerate(recipes):
        assert recipe not in recipes[:number]
        for stream in recipe.streams:
            recipe.shown(stream.name)
            recipe.fit(stream.name)
        recipe.calibrate()
    assert [stream.name for stream in recipes[0].streams] == ["maxvit", "coatnet", "eva02"]
    if base == "dfcon25:pocket":
        assert recipes[0].stream("maxvit").view.size == 64
    for arm, recipe in zip(over.arms, recipes, strict=True):
        assert bool(arm.teacher) == (recipe.streams[0].name == "student")
        assert not arm.teacher or over.arm(arm.teacher) == over.arms[0]
        assert set(over.streams) <= {stream.name for stream in recipe.streams}


def test_another_column_breaks_figures_down_and_is_left_out_where_one_is() -> None:
    heads, unseen = (ALL[name].by_column("family") for name in ("code24-heads", "code24-unseen"))
    assert (heads.by, heads.leave) == ("family", "")
    assert (unseen.by, unseen.leave) == ("family", "family")


@pytest.mark.parametrize("name", ["clip-vit-b16", "clip-vit-l14", "dinov2-s14", "dinov2-b14", "resnet50"])
def test_a_frozen_network_sees_the_views_it_was_made_for_under_the_same_heads(name: str) -> None:
    study = ALL["code24-foundation"].over("code24:pocket")
    recipe = study.arm(name).recipe(weights={name: "w.safetensors"})
    stream = recipe.streams[0]
    assert (stream.view.size, stream.heads) == (224, study.arms[0].recipe().streams[0].heads)
    known = timm.get_pretrained_cfg(stream.backbone.name)
    assert known is not None
    assert stream.view.mean == pytest.approx(known.mean)
    assert stream.view.std == pytest.approx(known.std)


def test_values_left_out_become_arms_with_names_of_their_own(study: Study) -> None:
    made = dataclasses.replace(study, leave="generator").with_left_out(["SD 1.4", "SD/1.4", "…"])
    assert [arm.name for arm in made.arms[3:]] == ["without-SD-1.4", "without-SD-1.4-2", "without-unnamed"]
    assert [arm.without for arm in made.arms[3:]] == ["SD 1.4", "SD/1.4", "…"]
    assert all(arm.paper == "" for arm in made.arms[3:])


def test_each_arm_loses_each_value_where_that_is_asked_for() -> None:
    study = ALL["dfcon25-manifold"]
    made = study.with_left_out(["SD 1.4", "SD/1.4", "unified"])
    assert made.arms[:2] == study.arms
    assert [(arm.whole, arm.without) for arm in made.arms[2:]] == [
        (whole, value) for value in ("SD 1.4", "SD/1.4", "unified") for whole in ("full", "unified")
    ]
    names = [arm.name for arm in made.arms]
    assert names == [
        *("full", "unified", "without-SD-1.4", "unified-without-SD-1.4", "without-SD-1.4-2"),
        *("unified-without-SD-1.4-2", "without-unified", "unified-without-unified"),
    ]
    assert len(set(names)) == len(names)
    for arm in made.arms[2:]:
        whole = made.arm(arm.whole)
        assert arm.recipe() == whole.recipe()
        assert arm.paper == ""
        assert arm.what == f"{whole.what}, trained without generator {arm.without}"


def test_the_first_arm_alone_loses_values_where_nothing_else_is_asked_for(study: Study) -> None:
    made = dataclasses.replace(study, leave="generator").with_left_out(["dots"])
    assert [(arm.name, arm.whole, arm.what) for arm in made.arms[3:]] == [
        ("without-dots", "full", "trained without generator dots")
    ]


def test_arms_that_lose_something_never_take_the_name_of_an_arm_that_is_there(recipe: Recipe) -> None:
    arms = (Arm("a", "", base=recipe), Arm("without-x", "", base=recipe), Arm("a-without-x", "", base=recipe))
    made = Study("s", "?", arms, leave="generator", leave_each=True).with_left_out(["x", "x."])
    names = [arm.name for arm in made.arms]
    assert len(set(names)) == len(names) == 9


def test_the_arms_of_drifts_calibration_differ_in_what_follows_their_networks_alone() -> None:
    arms = [arm.recipe() for arm in ALL["drift26-calibration"].arms]
    assert [recipe.calibrate().scaling for recipe in arms] == ["none", "temperature", "platt"]
    runs = [Run(recipe=recipe, seed=0, rows={}) for recipe in arms]
    for number, run in enumerate(runs):
        for other in runs[:number]:
            assert run.key != other.key
            assert run.same_networks(other)
