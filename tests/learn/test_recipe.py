"""Recipes: found by name, changed by name, and the paper's constants where the paper gives them."""

from __future__ import annotations

import importlib
import json
import pkgutil
from typing import Any

import pytest

import assay.recipes
from assay.errors import RecipeError
from assay.image.align import Align
from assay.image.alter import OPERATIONS, T
from assay.image.view import View
from assay.learn.recipe import (
    MLP,
    Calibrate,
    Crops,
    CrossEntropy,
    Fit,
    InfoNCE,
    Linear,
    Nearest,
    OneClass,
    Recipe,
    Shown,
    SupCon,
    Tiles,
    find,
    names,
)
from assay.recipes import code24

MODULES = [info.name for info in pkgutil.iter_modules(assay.recipes.__path__)]


@pytest.fixture
def recipe() -> Recipe:
    return find("code24")


# ── by name ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_recipe_and_variant_is_found_under_the_name_it_is_listed_by() -> None:
    listed = names()
    assert {"code24", "code24:trace", "code24:residual", "code24:regnet"} <= set(listed)
    for name, summary in listed.items():
        for size in ("small", "paper"):
            found = find(name, size)
            assert (found.name, found.summary) == (name, summary)
            assert len(summary) < 100
            for stream in found.streams:
                assert found.fit(stream.name).stream == stream.name
                assert found.frozen(stream.name) or found.descend(stream.name).stream == stream.name
                assert found.shown(stream.name).tiles.each >= 1
            assert found.calibrate().fpr == 0.05


def test_the_small_size_is_the_same_method_with_less_of_it() -> None:
    small, paper = find("code24"), find("code24", "paper")
    assert paper == code24.RECIPE
    assert small.descend("code").pairs < paper.descend("code").pairs
    assert small.descend("code").loss == paper.descend("code").loss
    assert small.streams[0].backbone == paper.streams[0].backbone
    # No disk holds 11.5 million pictures decoded; a small machine's few are decoded once.
    assert (small.descend("code").decode, paper.descend("code").decode) == ("once", "always")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("code23", "no recipe called 'code23'; did you mean code24"),
        ("code24:trase", "no variant called 'trase'; did you mean trace"),
        ("zzz", "no recipe called 'zzz'; known: code24, code24:bce"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        find(name)


# ── fields ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("place", "text", "value"),
    [
        ("descend.pairs", "7", 7),
        ("descend.optimiser.learning_rate", "5e-4", 5e-4),
        ("descend.source_power", "1", 1.0),
        ("descend.crops.base", "null", None),
        ("descend.crops.base", "96", 96),
        ("descend.crops.local_area", "[0.1, 0.2]", (0.1, 0.2)),
        ("descend.loss.halves", '["fake"]', ("fake",)),
        ("descend.loss", '{"kind": "sup_con", "views": 3}', SupCon(views=3)),
        ("descend.loss", '{"kind": "cross_entropy", "teacher": 0.5}', CrossEntropy(teacher=0.5)),
        ("descend.loss", '{"temperature": 0.2}', InfoNCE(temperature=0.2)),
        ("descend.secondary_weight", "0.25", 0.25),
        ("descend.align", "null", None),
        ("descend.align", "{}", Align()),
        ("descend.align.quality", "[70, 80]", (70, 80)),
        ("descend.align.codecs", '["PNG"]', ("PNG",)),
        ("descend.alter.max_ops", "0", 0),
        ("descend.alter.resize", "null", None),
        ("descend.alter.operations", '["blur", "jpeg"]', ("blur", "jpeg")),
        ("descend.tiles.reduce_above", "null", None),
        ("code.heads.linear.balanced", "false", False),
        ("code.heads.linear.balanced", "true", True),
        ("code.heads.nearest.most", "500", 500),
        ("code.heads.one_class.gamma", "scale", "scale"),
        ("code.heads.one_class.gamma", "0.25", 0.25),
        ("code.heads.one_class", '{"nu": 0.2}', OneClass(nu=0.2)),
        ("code.heads", '[{"kind": "mlp", "hidden": [8, 4]}]', (MLP(hidden=(8, 4)),)),
        ("code.heads", '[{"kind": "nearest"}, {"kind": "linear"}]', (Nearest(), Linear())),
        ("code.backbone.name", "test_vit", "test_vit"),
        ("code.backbone.name", "16", "16"),
        ("code.backbone.weights", "null", "null"),
        ("code.backbone.fields", '{"depth": 3}', {"depth": 3}),
        ("code.backbone.fields.depth", "3", 3),
        ("code.view.layout", "centre", "centre"),
        ("code.pool", "top", "top"),
        ("calibrate.fpr", "0.01", 0.01),
        ("calibrate.rule", "majority", "majority"),
        ("derive", '["augment"]', ("augment",)),
        ("fit.teacher", "0.5", 0.5),
        ("fit.altered", "2", 2),
        ("fit.shown.tiles.side", "64", 64),
        ("fit.shown.decode", "always", "always"),
        ("summary", "another", "another"),
    ],
)
def test_every_kind_of_field_is_set_from_the_text_of_a_command_line(
    recipe: Recipe, place: str, text: str, value: Any
) -> None:
    def read(of: Recipe) -> Any:
        part: Any = {stage.stage: stage for stage in of.stages} | {"code": of.stream("code")}
        part |= {"summary": of.summary, "derive": of.derive}
        for name in place.split("."):
            if isinstance(part, tuple):
                part = {item.kind: item for item in part}
            part = part[name] if isinstance(part, dict) else getattr(part, name)
        return part

    changed = recipe.with_field(place, text)
    assert read(changed) == value
    assert type(read(changed)) is type(value)
    # The same from Python, with `__` for the dot, and nothing else changes.
    assert recipe.set(**{place.replace(".", "__"): value}) == changed
    assert recipe == find("code24")
    before, after = recipe.model_dump(), changed.model_dump()
    assert sum(before[key] != after[key] for key in before) <= 1


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("descend.pairz", "3", "cannot set 'descend.pairz': no field called 'pairz'; did you mean pairs"),
        ("descent.pairs", "3", "no field called 'descent'; did you mean descend"),
        ("descend.loss.tempereture", "3", "did you mean temperature"),
        ("descend.alter.max_op", "1", "did you mean max_ops"),
        ("descend", "{}", "cannot set 'descend' as a whole; name a field of it"),
        ("descend.pairs.x", "1", "descend.pairs is 24 and has no fields; set descend.pairs itself"),
        ("descend.pairs", "many", "cannot set descend.pairs to 'many': input should be a valid integer"),
        ("descend.pairs", "1", "cannot set descend.pairs to '1': input should be greater than or equal to 2"),
        ("descend.optimiser.learning_rate", "null", "cannot set descend.optimiser.learning_rate to 'null'"),
        ("descend.crops.global_area", "[1, 0.4]", "0 < low <= high <= 1"),
        ("descend.loss.halves", "[]", "at least 1 item"),
        ("descend.loss.halves", '["both"]', "input should be 'real' or 'fake'"),
        ("descend.loss", '{"kind": "supcon"}', "'info_nce', 'sup_con', 'cross_entropy'"),
        ("descend.loss", '{"kind": "sup_con", "views": 1}', "greater than or equal to 2"),
        ("descend.loss", '{"kind": "sup_con", "halves": ["fake"]}', "extra inputs are not permitted"),
        ("descend.secondary_weight", "0", "greater than 0"),
        ("calibrate.rule", "vote", "'mean', 'plain_mean', 'majority', 'modified_majority', 'levels' or 'tenths'"),
        ("descend.alter.operations", '["blurr"]', "cannot set descend.alter.operations.*no operation called 'blurr'"),
        ("descend.align.quality", "[90, 10]", r"cannot set descend.align.quality.*quality \(90, 10\) does not hold"),
        ("code.view.size", "4", "greater than or equal to 8"),
        ("code.front", "pixels", "cannot set 'code.front': no field called 'front'"),
        ("streams", "[]", "at least 1 item"),
        ("code.heads", "[]", "at least 1 item"),
        ("code.heads", '[{"kind": "linear"}, {"kind": "linear", "C": 1}]', "differ in kind, not linear, linear"),
        ("code.heads", '[{"kind": "linaer"}]', "'linear', 'nearest', 'one_class'"),
        ("code.heads.nearst.most", "3", "no field called 'nearst'; did you mean nearest"),
        ("code.heads.nearest.mots", "3", "no field called 'mots'; did you mean most"),
        ("code.heads.one_class.nu", "0", "cannot set code.heads.one_class.nu to '0': input should be greater than 0"),
        ("code.heads.one_class.gamma", "-1", "cannot set code.heads.one_class.gamma"),
    ],
)
def test_what_cannot_be_set_says_why_and_what_could(recipe: Recipe, place: str, value: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe.with_field(place, value)


def test_a_field_of_a_part_that_is_not_there_says_which() -> None:
    with pytest.raises(RecipeError, match=r"descend.align is None and has no fields; set descend.align itself"):
        find("code24", "paper").with_field("descend.align.minimum", "32")


def test_a_name_for_stages_reaches_all_of_the_kind() -> None:
    two = find("code24").set(streams=[*find("code24").streams, find("code24").streams[0]])
    both = two.set(stages=[*two.stages, *two.stages[:2]]).set(descend__pairs=5)
    assert [stage.pairs for stage in both.stages if stage.stage == "descend"] == [5, 5]
    with pytest.raises(RecipeError, match="exactly one descend stage for the stream 'code'; this one has 2"):
        both.descend("code")


def test_heads_go_by_the_streams_name_and_by_their_kind(recipe: Recipe) -> None:
    assert {name: head.kind for name, head in recipe.stream("code").named.items()} == {
        "code": "linear",
        "code-nearest": "nearest",
        "code-one_class": "one_class",
    }
    turned = recipe.set(code__heads=[OneClass(), Linear()]).stream("code")
    assert list(turned.named) == ["code", "code-linear"]


def test_a_stream_without_a_descend_stage_is_frozen_and_shown_what_its_fit_stage_says(recipe: Recipe) -> None:
    assert not recipe.frozen("code")
    assert recipe.shown("code") == recipe.descend("code")
    fitting = Fit(stream="code", shown=Shown(tiles=Tiles(side=128), decode="always"))
    frozen = recipe.set(stages=[fitting, Calibrate()])
    assert frozen.frozen("code")
    assert frozen.shown("code") == fitting.shown
    assert frozen.set(fit__shown__tiles__side=96).shown("code").tiles.side == 96


def test_a_trained_stream_with_two_says_of_what_it_is_shown_is_told_which_to_set(recipe: Recipe) -> None:
    with pytest.raises(RecipeError, match=r"fit\.shown is for a frozen network, and 'code' has a descend stage"):
        recipe.set(fit__shown__source_power=0.5).shown("code")


def test_a_recipe_that_lacks_a_stage_says_which(recipe: Recipe) -> None:
    bare = recipe.set(stages=[])
    for lookup, kind in ((lambda: bare.descend("code"), "descend"), (lambda: bare.fit("code"), "fit")):
        with pytest.raises(RecipeError, match=f"exactly one {kind} stage for the stream 'code'; this one has 0"):
            lookup()
    with pytest.raises(RecipeError, match="exactly one calibrate stage; this one has 0"):
        bare.calibrate()
    with pytest.raises(RecipeError, match="no stream called 'cod'; did you mean code"):
        recipe.stream("cod")


@pytest.mark.parametrize("name", list(names()))
@pytest.mark.parametrize("size", ["small", "paper"])
def test_a_recipe_comes_back_from_json_as_it_was(name: str, size: Any) -> None:
    found = find(name, size)
    assert Recipe.model_validate_json(found.model_dump_json()) == found
    assert Recipe.model_validate(json.loads(json.dumps(found.model_dump(mode="json")))) == found


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.2, "multi_scale": 0.0}])
def test_a_recipe_from_before_there_were_other_losses_has_codes(recipe: Recipe, settings: dict[str, Any]) -> None:
    told = recipe.set(descend__loss=InfoNCE(**settings)).model_dump(mode="json")
    del told["stages"][0]["loss"]["kind"]
    for read in (Recipe.model_validate(told), Recipe.model_validate_json(json.dumps(told))):
        assert read.descend("code").loss == InfoNCE(**settings)


@pytest.mark.parametrize("loss", [InfoNCE(), SupCon(), CrossEntropy()])
@pytest.mark.parametrize("head", [Linear(), Nearest(), OneClass(), MLP()])
def test_what_is_written_without_defaults_still_tells_which_part_it_is(recipe: Recipe, loss: Any, head: Any) -> None:
    changed = recipe.set(descend__loss=loss, code__heads=[head])
    bare = changed.model_dump(mode="json", exclude_defaults=True)
    # The first of each are what a recipe has where it says nothing.
    assert bare["stages"][0].get("loss", {"kind": "info_nce"}) == {"kind": loss.kind}
    assert bare["streams"][0].get("heads", [{"kind": "linear"}]) == [{"kind": head.kind}]
    assert Recipe.model_validate(bare) == changed


def test_a_recipe_is_frozen_and_refuses_unknown_fields(recipe: Recipe) -> None:
    with pytest.raises(ValueError, match="frozen"):
        recipe.name = "other"  # type: ignore[misc]
    with pytest.raises(ValueError, match="extra"):
        Crops(loca=3)  # type: ignore[call-arg]


# ── the paper's constants, from its description in arXiv 2407.20337 and its released code ────────────────────────────


def test_the_view_and_the_network_are_the_papers() -> None:
    (stream,) = code24.RECIPE.streams
    assert stream.backbone.name == "vit_tiny_patch16_224"
    assert (stream.backbone.pretrained, stream.backbone.weights, stream.backbone.front) == (False, "", "pixels")
    assert (stream.view.size, stream.view.layout) == (224, "centre")
    assert stream.view == View(size=224, layout="centre")


def test_the_loss_is_the_papers() -> None:
    assert code24.RECIPE.descend("code").loss == InfoNCE(
        temperature=0.1, multi_scale=0.5, halves=("real", "fake"), bce=0.0
    )


def test_the_views_of_one_picture_are_the_papers() -> None:
    crops = code24.RECIPE.descend("code").crops
    assert (crops.global_area, crops.local_area, crops.local) == ((0.4, 1.0), (0.05, 0.4), 96)
    assert crops.base is None
    assert code24.RECIPE.descend("code").align is None


def test_the_transform_operator_is_the_papers() -> None:
    alter = code24.RECIPE.descend("code").alter
    assert alter == T(max_ops=2, size=224, resize=248, crop="centre", operations=tuple(OPERATIONS))
    ranges = {name: operation.ranges for name, operation in OPERATIONS.items()}
    assert len(ranges) == 19
    assert ranges["blur"]["sigma"] == (0.1, 2)
    assert ranges["brightness"]["factor"] == (0.5, 2)
    assert ranges["aspect_ratio"]["ratio"] == (0.75, 2)
    assert ranges["pixelisation"]["ratio"] == (0.3, 1)
    assert ranges["rotation"]["degrees"] == (90, 270)
    assert ranges["contrast"]["factor"] == ranges["saturation"]["factor"] == ranges["scale"]["factor"] == (0.5, 1.5)
    assert ranges["jpeg"]["quality"] == (40, 100)
    assert ranges["opacity"]["level"] == (0.2, 1)
    assert ranges["stripes"]["width"] == (0.05, 0.35)
    assert ranges["pad"]["fraction"] == (0.01, 0.25)
    assert ranges["resize"]["side"] == ranges["crop"]["side"] == (64, 512)
    assert ranges["sharpen"]["factor"] == (1.2, 2)
    assert ranges["shuffle"]["fraction"] == (0, 0.35)
    assert ranges["skew"]["factor"] == (-1, 1)
    assert not ranges["greyscale"]
    assert not ranges["horizontal_flip"]


def test_the_training_is_that_of_the_release() -> None:
    stage = code24.RECIPE.descend("code")
    assert (stage.optimiser.learning_rate, stage.optimiser.weight_decay) == (2e-3, 2e-5)
    assert stage.optimiser.warmup * stage.epochs == pytest.approx(5)
    # Four devices of 256: as many reals as fakes, 1,024 in all.
    assert 2 * stage.pairs == 4 * 256
    assert (stage.steps, stage.epochs, stage.patience) == (1700, 150, 6)


def test_the_heads_are_those_of_the_release_and_the_papers_main_one_is_first() -> None:
    assert code24.RECIPE.streams[0].heads == (
        Linear(C=0.316, balanced=True, iterations=1500),
        Nearest(most=50_000),
        OneClass(nu=0.1, degree=3, gamma="auto", coef0=0.0, most=10_000),
    )
    # 9,600 records of five pictures.
    assert code24.RECIPE.fit("code") == Fit(stream="code", records=9_600 * 5, altered=0)
    assert code24.RECIPE.calibrate() == Calibrate(fpr=0.05, decided=0.70)


def test_the_expected_figures_are_the_papers() -> None:
    assert [(row.table, row.value) for row in code24.RECIPE.expects] == [
        ("seen", 98.0),
        ("seen", 95.7),
        ("unseen", 78.0),
    ]


# ── the form of a recipe file ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", MODULES)
def test_a_recipe_file_has_its_parts_and_a_docstring_in_five_words(name: str) -> None:
    module = importlib.import_module(f"assay.recipes.{name}")
    assert isinstance(module.RECIPE, Recipe)
    assert module.RECIPE.name == name
    assert all(isinstance(variant, Recipe) for variant in module.VARIANTS.values())
    assert isinstance(module.small(module.RECIPE), Recipe)
    assert module.__doc__
    places = [module.__doc__.find(f"\n{word}") for word in ("Sees", "Claims", "Learns", "Expects", "Departs")]
    assert -1 not in places
    assert places == sorted(places)
