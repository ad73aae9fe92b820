"""Running a recipe's stages where no stage trains the network: heads alone are fitted, on the weights it came with."""

from __future__ import annotations

import dataclasses
import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from rich.console import Console
from safetensors.torch import save_file

import assay
from assay.data.index import Index
from assay.errors import ManifestError, RecipeError
from assay.image.view import View
from assay.judge import bundle
from assay.learn.nn.backbones import build
from assay.learn.recipe import (
    Backbone,
    Calibrate,
    CrossEntropy,
    Fit,
    Linear,
    Nearest,
    OneClass,
    Recipe,
    Shown,
    Stream,
    Tiles,
)
from assay.learn.train import train
from assay.types import Pixels, Sample

NETWORK = Backbone(name="test_vit", fields={"depth": 1})


@pytest.fixture
def frozen(small_tiles: Tiles) -> Recipe:
    """A small ViT that nothing trains, under CoDE's three heads."""
    return Recipe(
        name="frozen",
        summary="A frozen network",
        streams=(
            Stream(
                name="a", view=View(size=32), backbone=NETWORK, heads=(Nearest(), Linear(), OneClass(gamma="scale"))
            ),
        ),
        stages=(
            Fit(stream="a", records=16, altered=1, shown=Shown(tiles=small_tiles)),
            Calibrate(fpr=0.25),
        ),
    )


def made(recipe: Recipe, samples: list[Sample], out: Path, **options: Any) -> bundle.Bundle:
    given: dict[str, Any] = {
        "workers": 0,
        "device": "cpu",
        "precision": "fp32",
        "console": Console(file=io.StringIO()),
    } | options
    return bundle.read(train(recipe, samples, out, **given))


def test_a_frozen_network_judges_with_the_weights_it_came_with(
    frozen: Recipe, samples: list[Sample], tmp_path: Path, picture: Callable[..., Pixels]
) -> None:
    torch.manual_seed(7)
    network = timm.create_model("test_vit", img_size=32, dynamic_img_size=True, num_classes=0, depth=1)
    state = {name: value + 0.01 for name, value in network.state_dict().items()}
    save_file(state, tmp_path / "vit.safetensors")
    recipe = frozen.set(a__backbone__weights=str(tmp_path / "vit.safetensors"))
    read = made(recipe, samples, tmp_path / "out")
    view = recipe.streams[0].view.tensor(np.stack([picture(seed, False, 32, 32) for seed in range(3)]))
    network.load_state_dict(state)
    with torch.no_grad():
        expected = network.eval()(torch.from_numpy(view)).numpy()
    found = assay.load(read.folder, threads=1, device="cpu").engine("a").run(view)
    assert found == pytest.approx(expected, abs=1e-4)
    digest = hashlib.sha256((tmp_path / "vit.safetensors").read_bytes()).hexdigest()
    facts: Any = read.card.training["streams"]
    assert facts["a"] == {"frozen": True, "weights": f"vit.safetensors, sha256 {digest}"}
    assert read.card.limits == ()
    # Nothing of a descent was begun.
    assert not [path for path in (tmp_path / "out").iterdir() if path.suffix in (".safetensors", ".jsonl")]


def test_a_random_network_is_the_seeds_and_its_card_says_that_it_was_never_trained(
    frozen: Recipe, samples: list[Sample], tmp_path: Path, picture: Callable[..., Pixels]
) -> None:
    read = made(frozen, samples, tmp_path / "out", seed=3)
    assert read.card.limits == ("The network of a was never trained.",)
    torch.manual_seed(3)
    trunk = build(NETWORK, 32).eval()
    view = frozen.streams[0].view.tensor(picture(0, False, 32, 32)[None])
    with torch.no_grad():
        expected = trunk(torch.from_numpy(view)).numpy()
    assert assay.load(read.folder, threads=1, device="cpu").engine("a").run(view) == pytest.approx(expected, abs=1e-4)


def test_the_first_head_is_the_default_and_the_others_judge_where_they_are_asked_for(
    frozen: Recipe, samples: list[Sample], tmp_path: Path
) -> None:
    read = made(frozen, samples, tmp_path / "out")
    assert [stream.name for stream in read.card.streams] == ["a", "a-linear", "a-one_class"]
    assert list(read.choices) == ["nearest", "linear", "one_class"]
    assert "the nearest head judges by default" in read.card.notes
    for head, name in ((None, "a"), ("nearest", "a"), ("linear", "a-linear"), ("one_class", "a-one_class")):
        verdict = assay.load(read.folder, head=head, threads=1, device="cpu").judge(samples[0].place)
        assert [stream.name for stream in verdict.streams] == [name]
        assert verdict.score is not None


def test_where_pictures_are_not_kept_only_those_that_heads_are_fitted_on_are_read(
    frozen: Recipe, samples: list[Sample], tmp_path: Path
) -> None:
    recipe = frozen.set(fit__shown__decode="always", fit__records=8)
    read = made(recipe, samples, tmp_path / "out")
    # Eight to fit on, eight to tune on, and nothing remembered that was never looked at.
    assert len(read.seen.files) == 8 + 8


def test_streams_that_would_have_one_name_in_the_bundle_are_refused_before_any_work(
    frozen: Recipe, samples: list[Sample], tmp_path: Path
) -> None:
    other = frozen.streams[0].model_copy(update={"name": "a-linear", "heads": (Linear(),)})
    stages = [*frozen.stages, Fit(stream="a-linear")]
    with pytest.raises(RecipeError, match="a, a-linear, a-one_class, a-linear; rename a stream"):
        made(frozen.set(streams=[*frozen.streams, other], stages=stages), samples, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ── what is trained on ───────────────────────────────────────────────────────────────────────────────────────────────


class Stopped(Exception):
    """In place of a descent."""


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What a descent is given; it ends there."""
    given: list[dict[str, Any]] = []

    def descend(stream: Any, stage: Any, train: Any, tune: Any, *_: Any, **options: Any) -> Any:
        given.append({"train": train.samples, "tune": tune.samples} | options)
        raise Stopped

    monkeypatch.setattr("assay.learn.train.descend", descend)
    return given


def second(samples: list[Sample]) -> list[Sample]:
    """Four of the pictures under a source of their own, without splits."""
    return [dataclasses.replace(sample, source="second", split="", origin="") for sample in samples[:4]]


@pytest.mark.parametrize("decode", ["once", "always"])
@pytest.mark.parametrize("derive", [(), ("augment",)])
def test_secondary_rows_and_copies_are_descended_on_and_nothing_but_the_first_set_is_tuned_on(
    decode: str,
    derive: tuple[str, ...],
    recipe: Recipe,
    samples: list[Sample],
    begun: list[dict[str, Any]],
    tmp_path: Path,
) -> None:
    asked = recipe.set(descend__decode=decode, derive=derive)
    with pytest.raises(Stopped):
        made(asked, samples, tmp_path / "out", secondary=second(samples))
    (given,) = begun
    # Of ten reals, five get a copy.
    count = 16 + 4 + (5 if derive else 0)
    descended = given["train"] if decode == "once" else [s for s in given["flow"].data if s.split == "train"]
    assert len(descended) == count
    marked = [sample for sample in descended if sample.groups.get("secondary") == "1"]
    assert {sample.source for sample in marked} == {"second"}
    assert len(marked) >= 4
    assert [sample.place for sample in given["tune"]] == [s.place for s in samples if s.split == "tune"]


def test_shards_have_no_secondary_set_beside_them_and_nothing_is_derived_from_them(
    recipe: Recipe, samples: list[Sample], index: Index, tmp_path: Path
) -> None:
    given: Any = index
    with pytest.raises(RecipeError, match="shards cannot have a secondary data set beside them; give a manifest"):
        made(recipe, given, tmp_path / "out", secondary=second(samples))
    with pytest.raises(RecipeError, match=r"shards cannot be derived from \(augment\); .*set derive to \[\]"):
        made(recipe.set(derive=["augment"]), given, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("field", ["fit.teacher", "descend.loss.teacher"])
def test_a_teacher_that_said_nothing_of_some_rows_is_refused_before_any_work(
    field: str, recipe: Recipe, samples: list[Sample], begun: list[dict[str, Any]], tmp_path: Path
) -> None:
    changes: dict[str, Any] = {"fit__teacher": 0.5}
    if field != "fit.teacher":
        changes = {"descend__loss": CrossEntropy(teacher=0.5)}
    told = [dataclasses.replace(sample, groups={"teacher": "0.5"}) for sample in samples]
    for rows in (samples, [dataclasses.replace(told[0], groups={}), *told[1:]]):
        with pytest.raises(ManifestError, match=rf"{field} asks for the column teacher, .* make it with assay distill"):
            made(recipe.set(**changes), rows, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    # Tuning rows need no teacher.
    taught = [row if row.split == "train" else dataclasses.replace(row, groups={}) for row in told]
    with pytest.raises(Stopped):
        made(recipe.set(**changes), taught, tmp_path / "out")
    assert len(begun) == 1


def test_a_secondary_row_without_a_label_is_refused_before_any_work(
    recipe: Recipe, samples: list[Sample], tmp_path: Path
) -> None:
    rows = [dataclasses.replace(second(samples)[0], label=None), *second(samples)[1:]]
    with pytest.raises(ManifestError, match="no label"):
        made(recipe, samples, tmp_path / "out", secondary=rows)
    assert not (tmp_path / "out").exists()


def test_a_network_that_half_precision_would_move_is_stored_in_full(
    frozen: Recipe, samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay.learn.train.PARITY", dict.fromkeys(("fp32", "fp16", "int8"), 1e-5))
    read = made(frozen, samples, tmp_path / "out", precision="fp16")
    assert read.card.precision == "fp32"
    assert "a is stored as fp32" in read.card.notes


def test_a_graph_that_differs_in_full_precision_too_is_refused(
    frozen: Recipe, samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay.learn.train.parity", lambda *_: float("nan"))
    with pytest.raises(RecipeError, match="differs from torch by nan, in full precision too"):
        made(frozen, samples, tmp_path / "out", precision="fp16")
