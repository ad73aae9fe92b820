"""Networks trained before streams have them: once, kept, and shared by every run and stream that begins with them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from assay.errors import RecipeError
from assay.image.view import View
from assay.judge import bundle
from assay.learn import pretrain as module
from assay.learn.descend import Data, Machine, Training
from assay.learn.nn.network import network
from assay.learn.pretrain import FILE, FOLDER, pretrained
from assay.learn.recipe import (
    Backbone,
    Calibrate,
    Conv,
    CrossEntropy,
    Descend,
    Fit,
    LoRA,
    Optimiser,
    Pretrain,
    Recipe,
    Stream,
)
from assay.learn.train import train
from assay.types import Sample

CPU = Machine("cpu", bf16=False, workers=0)
NETWORK = Backbone(name="trace_cnn", fields={"widths": (8, 16), "blocks": (1,)})
LORA = LoRA(rank=2, alpha=4, targets=r"body\.\d+\.first\.0")
VIEW = View(size=32, layout="grid", across=2)

Split = Callable[[str], Data]


@pytest.fixture
def begun(recipe: Recipe) -> Recipe:
    """Three streams over one network, one of them adapted and one under a neck, and a fourth over another."""
    shown = recipe.descend("a")
    fields = {name: getattr(shown, name) for name in ("crops", "alter", "tiles")}
    stage = Pretrain(stream="a", pairs=4, steps=2, epochs=1, optimiser=Optimiser(learning_rate=1e-2), **fields)
    other = NETWORK.model_copy(update={"fields": {"widths": (8, 24), "blocks": (1,)}})
    streams = (
        Stream(name="a", view=VIEW, backbone=NETWORK),
        Stream(name="b", view=View(size=32), backbone=NETWORK.model_copy(update={"lora": LORA})),
        Stream(name="c", view=VIEW, backbone=NETWORK, neck=Conv(widths=(4,))),
        Stream(name="d", view=VIEW, backbone=other),
    )
    return recipe.model_copy(update={"streams": streams, "stages": (stage, *recipe.stages)})


def asked(recipe: Recipe, data: Split, folder: Path, **options: Any) -> tuple[Recipe, dict[str, Any]]:
    def shown(stream: Stream, stage: Pretrain) -> Mapping[str, Data]:
        return {split: data(split) for split in ("train", "tune")}

    given: dict[str, Any] = {"rows": "rows", "machine": CPU, "seed": 0} | options
    return pretrained(recipe, shown, given["rows"], folder, given["machine"], seed=given["seed"])


@pytest.fixture
def descents(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What descents are given; they end with the weights that they began with."""
    given: list[dict[str, Any]] = []

    def descend(stream: Stream, stage: Pretrain, train: Data, tune: Data, folder: Path, *_: Any, seed: int) -> Training:
        given.append({"stream": stream, "stage": stage, "train": train, "tune": tune, "folder": folder, "seed": seed})
        training = Training(stream, stage, CPU, seed=seed, total=2)
        training.step, training.best_step, training.best, training.seconds = 2, 1, 0.75, 90.0
        return training

    monkeypatch.setattr(module, "descend", descend)
    return given


def never(*_: Any, **__: Any) -> Any:
    raise AssertionError("trained again")


def same(state: Mapping[str, torch.Tensor], file: Path) -> bool:
    held = load_file(file)
    return set(held) == set(state) and all(torch.equal(x, held[name]) for name, x in state.items())


def test_a_network_is_trained_once_and_every_stream_over_it_begins_with_its_weights(
    begun: Recipe, data: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, facts = asked(begun, data, tmp_path)
    (file,) = (tmp_path / FOLDER).glob(f"*/{FILE}")
    assert [stream.backbone.weights for stream in found.streams] == [str(file)] * 3 + [""]
    assert found.model_copy(update={"streams": begun.streams}) == begun
    torch.manual_seed(0)
    fresh = network(begun.streams[0]).network.state_dict()
    assert not any(torch.equal(x, fresh[name]) for name, x in load_file(file).items() if x.ndim == 4)
    for name in ("a", "c"):
        assert same(network(found.stream(name)).network.state_dict(), file)
    # An adapted network stands on the same weights.
    adapted = network(found.stream("b")).network.state_dict()
    held = load_file(file)
    assert torch.equal(adapted["body.2.first.0.base_layer.weight"], held["body.2.first.0.weight"])
    assert set(facts) == {"a"}
    assert set(facts["a"]) == {"steps", "kept_step", "minutes", "tuning_auc"}
    assert facts["a"]["steps"] == 2
    monkeypatch.setattr(module, "descend", never)
    assert asked(begun, data, tmp_path) == (found, facts)


def test_what_is_trained_is_the_bare_network_by_the_stage_on_its_streams_rows(
    begun: Recipe, data: Split, tmp_path: Path, descents: list[dict[str, Any]]
) -> None:
    second = begun.pretrained[0].model_copy(update={"stream": "d"})
    recipe = begun.model_copy(update={"stages": (begun.pretrained[0], second, *begun.stages[1:])})
    # Named by the stream with a neck and an adaptation, it is the same network.
    recipe = recipe.set(a__neck=Conv(widths=(4,)), a__backbone__lora=LORA)
    found, facts = asked(recipe, data, tmp_path, seed=3)
    assert [given["stream"] for given in descents] == [
        Stream(name="a", view=VIEW, backbone=NETWORK),
        Stream(name="d", view=VIEW, backbone=begun.stream("d").backbone),
    ]
    assert [given["stage"] for given in descents] == list(recipe.pretrained)
    for given in descents:
        assert (given["train"], given["tune"], given["seed"]) == (data("train"), data("tune"), 3)
        # Its checkpoints lie where its weights will, so that a run that was stopped goes on there.
        assert (given["folder"] / FILE).exists()
    assert facts["a"] == facts["d"] == {"steps": 2, "kept_step": 1, "minutes": 1.5, "tuning_auc": 0.75}
    places = [stream.backbone.weights for stream in found.streams]
    assert places[0] == places[1] == places[2] != places[3]


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"rows": "others"},
        {"machine": Machine("cpu", bf16=True, workers=0)},
        {"pretrain__steps": 3},
        {"pretrain__loss": CrossEntropy()},
        {"a__view__size": 40},
        {"a__backbone__front": "both"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_its_weights_follow_from_makes_another_network(
    change: dict[str, Any], begun: Recipe, data: Split, tmp_path: Path, descents: list[dict[str, Any]]
) -> None:
    options = {name: value for name, value in change.items() if name in ("seed", "rows", "machine")}
    fields = {name: value for name, value in change.items() if name not in options}
    asked(begun, data, tmp_path)
    asked(begun.set(**fields), data, tmp_path, **options)
    assert len(descents) == 2
    assert len({given["folder"] for given in descents}) == 2


@pytest.mark.parametrize(
    "change",
    [{"descend__pairs": 5}, {"c__neck": Conv(widths=(8,))}, {"fit__records": 8}, {"machine": Machine("cpu", False, 2)}],
    ids=lambda change: next(iter(change)),
)
def test_what_comes_after_leaves_it(
    change: dict[str, Any], begun: Recipe, data: Split, tmp_path: Path, descents: list[dict[str, Any]]
) -> None:
    options = {name: value for name, value in change.items() if name == "machine"}
    asked(begun, data, tmp_path)
    asked(begun.set(**{k: v for k, v in change.items() if k not in options}), data, tmp_path, **options)
    assert len(descents) == 1


def test_a_network_that_was_not_finished_is_gone_on_with(
    begun: Recipe, data: Split, tmp_path: Path, descents: list[dict[str, Any]]
) -> None:
    whole = module.save_file

    def torn(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "save_file", torn)
        with pytest.raises(KeyboardInterrupt):
            asked(begun, data, tmp_path)
    assert module.save_file is whole
    assert not list((tmp_path / FOLDER).glob(f"*/{FILE}"))
    found, _ = asked(begun, data, tmp_path)
    assert len(descents) == 2
    assert descents[0]["folder"] == descents[1]["folder"] == Path(found.streams[0].backbone.weights).parent


@pytest.mark.parametrize("has", [{"a__backbone__weights": "some.safetensors"}, {"a__backbone__pretrained": True}])
def test_a_network_that_has_weights_is_not_trained_before(
    has: dict[str, Any], begun: Recipe, data: Split, tmp_path: Path, descents: list[dict[str, Any]]
) -> None:
    with pytest.raises(RecipeError, match="a has weights already; take the stage pretrain out of the recipe, or the"):
        asked(begun.set(**has), data, tmp_path)
    twice = begun.model_copy(update={"stages": (begun.stages[0], *begun.stages)})
    with pytest.raises(RecipeError, match="a has weights already"):
        asked(twice, data, tmp_path)


def test_a_stage_for_no_stream_is_refused(begun: Recipe, data: Split, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no stream"):
        asked(begun.set(pretrain__stream="nobody"), data, tmp_path)


def test_a_card_tells_of_it_without_a_place_on_this_machine_and_another_run_shares_it(
    begun: Recipe, samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned = Descend(
        stream="c",
        loss=CrossEntropy(),
        optimiser=Optimiser(trunk=0.0),
        pairs=4,
        steps=1,
        epochs=1,
        **{name: getattr(begun.pretrained[0], name) for name in ("alter", "tiles")},
    )
    stages = (begun.pretrained[0], tuned, Fit(stream="c", records=16), Calibrate(fpr=0.25))
    recipe = begun.model_copy(update={"streams": (begun.stream("c"),), "stages": stages}).set(pretrain__stream="c")
    options: dict[str, Any] = {"workers": 0, "device": "cpu", "precision": "fp32", "cache": tmp_path / "cache"}

    def made(name: str) -> bundle.Bundle:
        return bundle.read(train(recipe, samples, tmp_path / name, console=Console(file=io.StringIO()), **options))

    card = made("one").card
    (file,) = (tmp_path / "cache" / FOLDER).glob(f"*/{FILE}")
    facts: Any = card.training["pretrained"]
    assert facts == {"c": json.loads((file.parent / "facts.json").read_bytes())}
    assert card.training["recipe"] == json.loads(recipe.model_dump_json(exclude={"expects"}))
    for path in (tmp_path / "one" / "bundle").iterdir():
        assert str(tmp_path).encode() not in path.read_bytes()
    monkeypatch.setattr(module, "descend", never)
    assert made("two").card.training["pretrained"] == facts
