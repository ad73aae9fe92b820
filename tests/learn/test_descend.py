"""Descent: fixed losses for fixed steps, exact resume, and when it stops."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from assay.errors import RecipeError
from assay.image.alter import T
from assay.image.view import View
from assay.learn import descend as module
from assay.learn import tiles
from assay.learn.batches import Batches
from assay.learn.descend import Data, Machine, Training, descend, learning_rate, tuning_auc, undecayed
from assay.learn.nn.backbones import build
from assay.learn.objective import CoDE
from assay.learn.recipe import (
    Backbone,
    Beside,
    Conv,
    Crops,
    CrossEntropy,
    Descend,
    InfoNCE,
    Linear,
    LoRA,
    Optimiser,
    Projection,
    Recipe,
    Stream,
    SupCon,
    Text,
    Tiles,
)
from assay.learn.rows import labels_of
from assay.metrics import auc
from assay.types import Sample

CPU = Machine("cpu", bf16=False, workers=0)
VIEW = View(size=32)

Split = Callable[[str], Data]


def run(recipe: Recipe, data: Split, folder: Path, **options: Any) -> Training:
    stream = recipe.streams[0]
    return descend(stream, recipe.descend(stream.name), data("train"), data("tune"), folder, CPU, seed=0, **options)


def epochs(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "a.epochs.jsonl").read_text().splitlines()]


def weights(training: Training) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in training.parameters().items()}


GOLDEN = [3.404674, 6.046786, 3.436796, 3.078677, 3.194966, 3.275235, 2.781157, 4.324062, 5.088094, 2.223134]
"""Losses of ten steps of CoDE's training in small; the same to 1e-5 whatever vector instructions the processor has.

To renew them, where a change means to move them (or a new Pillow or torch does): run the test below, copy the list that
it prints when it fails, and say in the change log why they moved."""


def test_ten_steps_of_the_papers_training_in_small_give_the_golden_losses(
    samples: list[Sample], tmp_path: Path
) -> None:
    stream = Stream(name="a", view=View(size=64), backbone=Backbone(name="test_vit"))
    stage = Descend(
        stream="a",
        loss=InfoNCE(temperature=0.1, multi_scale=0.5),
        crops=Crops(global_area=(0.4, 1.0), local_area=(0.05, 0.4), local=32),
        alter=T(max_ops=2, size=64, resize=71),
        optimiser=Optimiser(learning_rate=2e-3, weight_decay=2e-5, warmup=5 / 150),
        pairs=4,
    )
    # Tiles that hold their picture whole: where smaller ones are cut depends on how the encoder wrote the file.
    store = tiles.build(samples, Tiles(side=256), tmp_path, seed=42, workers=0)
    batches = Batches(store, samples, stage, stream.view, seed=42)
    # The first ten of three hundred: the rate is still rising. Further on, rounding grows into differences.
    training = Training(stream, stage, CPU, seed=42, total=300)
    losses = [training.advance(batches[step]) for step in range(10)]
    print([round(loss, 6) for loss in losses])
    assert losses == pytest.approx(GOLDEN, abs=1e-4)
    assert losses == training.losses


KILLED = """
import json, os, signal, sys

from pathlib import Path

import torch

from assay.learn import tiles
from assay.learn.descend import Data, Machine, Training, descend
from assay.learn.recipe import Recipe
from assay.types import Label, Sample

torch.set_num_threads(1)
job = json.load(sys.stdin)
stage = (recipe := Recipe.model_validate(job["recipe"])).descend("a")
data = []
for rows in job["rows"]:
    samples = [Sample(place, Label(label), generator, source) for place, label, generator, source in rows]
    data.append(Data(samples, tiles.build(samples, stage.tiles, Path(job["tiles"]), seed=0, workers=0)))
advance = Training.advance


def killed(training, batch):
    loss = advance(training, batch)
    if training.step == job["kill"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return loss


Training.advance = killed
descend(recipe.streams[0], stage, *data, Path(job["out"]), Machine("cpu", False, 0), seed=0)
"""


def test_a_run_that_was_killed_goes_on_to_the_losses_of_one_that_was_not(
    recipe: Recipe, data: Split, tmp_path: Path
) -> None:
    """Killed two steps after the second of four epochs, so two steps are lost and gone through again."""
    recipe = recipe.set(descend__epochs=4)
    sets = [data("train"), data("tune")]
    job = {
        "recipe": recipe.model_dump(mode="json"),
        "rows": [[(s.place, int(s.label or 0), s.generator, s.source) for s in part.samples] for part in sets],
        "tiles": str(sets[0].store.file.parent),
        "out": str(tmp_path),
        "kill": 8,
    }
    done = subprocess.run(
        [sys.executable, "-c", KILLED], input=json.dumps(job), capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [entry["step"] for entry in epochs(tmp_path)] == [3, 6]
    advanced = []
    with pytest.MonkeyPatch.context() as patch:
        advance = Training.advance

        def counted(training: Training, batch: Any) -> float:
            advanced.append(training.step)
            return advance(training, batch)

        patch.setattr(Training, "advance", counted)
        resumed = run(recipe, data, tmp_path)
    assert advanced == [6, 7, 8, 9, 10, 11]
    (tmp_path / "whole").mkdir()
    unbroken = run(recipe, data, tmp_path / "whole")
    assert resumed.losses == pytest.approx(unbroken.losses, abs=1e-5)
    assert len(unbroken.losses) == 12
    assert [entry["step"] for entry in epochs(tmp_path)] == [3, 6, 9, 12]
    assert (resumed.best, resumed.best_step) == (unbroken.best, unbroken.best_step)
    for name, x in weights(unbroken).items():
        assert torch.allclose(x, weights(resumed)[name], atol=1e-5)


def test_checkpoints_come_within_the_seconds_asked_for(
    recipe: Recipe, data: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[tuple[str, int]] = []
    save = Training.save

    def noting(training: Training, path: Path) -> None:
        saved.append((path.name, training.step))
        save(training, path)

    monkeypatch.setattr(Training, "save", noting)
    run(recipe, data, tmp_path, checkpoint_seconds=0.0)
    assert [step for name, step in saved if name == "a.checkpoint.safetensors"] == [1, 2, 3, 4, 5, 6]
    saved.clear()
    run(recipe, data, tmp_path, resume=False, checkpoint_seconds=1e9)
    assert [step for name, step in saved if name == "a.checkpoint.safetensors"] == [3, 6]


def test_a_run_stops_at_its_last_step_with_the_best_weights(recipe: Recipe, data: Split, tmp_path: Path) -> None:
    training = run(recipe, data, tmp_path)
    assert training.step == training.total == len(training.losses) == 6
    log = epochs(tmp_path)
    assert [entry["step"] for entry in log] == [3, 6]
    best = max(log, key=lambda entry: entry["tuning_auc"])
    assert (training.best, training.best_step) == (best["tuning_auc"], best["step"])
    assert log[0]["loss"] == pytest.approx(np.mean(training.losses[:3]))
    again = Training(recipe.streams[0], recipe.descend("a"), CPU, seed=1, total=6)
    again.load(tmp_path / "a.best.safetensors")
    assert all(torch.equal(x, weights(training)[name]) for name, x in weights(again).items())


def test_a_finished_run_is_taken_up_without_a_step(
    recipe: Recipe, data: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(recipe, data, tmp_path)
    monkeypatch.setattr(Training, "advance", None)
    second = run(recipe, data, tmp_path)
    assert second.losses == first.losses
    assert (second.best, second.best_step, second.step) == (first.best, first.best_step, first.step)
    assert all(torch.equal(x, weights(second)[name]) for name, x in weights(first).items())
    assert len(epochs(tmp_path)) == 2


def test_a_fresh_run_does_not_look_at_a_checkpoint(recipe: Recipe, data: Split, tmp_path: Path) -> None:
    first = run(recipe, data, tmp_path)
    (tmp_path / "a.checkpoint.safetensors").write_bytes(b"torn")
    second = run(recipe, data, tmp_path, resume=False)
    assert second.losses == pytest.approx(first.losses, abs=1e-5)
    assert [entry["step"] for entry in epochs(tmp_path)] == [3, 6]


def test_a_torn_checkpoint_is_refused_with_a_way_out(recipe: Recipe, data: Split, tmp_path: Path) -> None:
    (tmp_path / "a.checkpoint.safetensors").write_bytes(b"torn")
    with pytest.raises(RecipeError, match="begin anew with --fresh"):
        run(recipe, data, tmp_path)


def test_a_checkpoint_holds_all_of_a_training(recipe: Recipe, data: Split, tmp_path: Path) -> None:
    stream, stage, train = recipe.streams[0], recipe.descend("a"), data("train")
    batches = Batches(train.store, train.samples, stage, VIEW, seed=0)
    one = Training(stream, stage, CPU, seed=0, total=6)
    for step in range(3):
        one.advance(batches[step])
    one.best, one.best_step, one.seconds = 0.75, 3, 12.5
    one.save(tmp_path / "a.safetensors")
    other = Training(stream, stage, CPU, seed=99, total=1)
    other.load(tmp_path / "a.safetensors")
    assert (other.step, other.total, other.best, other.best_step, other.seconds) == (3, 6, 0.75, 3, 12.5)
    assert other.losses == one.losses
    other.seed = one.seed
    assert [other.advance(batches[step]) for step in (3, 4)] == [one.advance(batches[step]) for step in (3, 4)]
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Tuning figures that the next epochs will have."""
    coming: list[float] = []
    monkeypatch.setattr(module, "tuning_auc", lambda *_: coming.pop(0))
    return coming


def test_patience_counts_epochs_without_a_better_figure(
    recipe: Recipe, data: Split, tmp_path: Path, figures: list[float]
) -> None:
    patient = recipe.set(descend__steps=1, descend__epochs=20, descend__patience=3)
    figures += [0.6, 0.5, 0.7, 0.7, 0.65, 0.69, 0.9]
    training = run(patient, data, tmp_path)
    assert (training.step, training.best_step, training.best) == (6, 3, 0.7)
    assert figures == [0.9]


def test_a_resumed_run_has_only_the_patience_that_was_left(
    recipe: Recipe, data: Split, tmp_path: Path, figures: list[float]
) -> None:
    patient = recipe.set(descend__steps=1, descend__epochs=20, descend__patience=3)
    figures += [0.6, 0.5, 0.4]
    with pytest.raises(IndexError):
        run(patient, data, tmp_path)
    figures += [0.3, 0.9]
    assert run(patient, data, tmp_path).step == 4
    # And a run whose patience is spent stays so.
    assert run(patient, data, tmp_path).step == 4
    assert figures == [0.9]


def test_minutes_set_the_number_of_steps_from_the_speed_measured(
    recipe: Recipe, data: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    advance = Training.advance

    def slow(training: Training, batch: Any) -> float:
        # The first two of the trial are slower: loaders start.
        clock[0] += 50.0 if training.step < 2 and training.total == 6 else 2.0
        return advance(training, batch)

    monkeypatch.setattr(Training, "advance", slow)
    monkeypatch.setattr(module, "time", types.SimpleNamespace(monotonic=lambda: clock[0]))
    training = run(recipe, data, tmp_path, minutes=0.3)
    assert training.step == training.total == 9
    untimed = run(recipe.set(descend__epochs=3), data, tmp_path, resume=False)
    assert training.losses == pytest.approx(untimed.losses, abs=1e-5)
    assert run(recipe, data, tmp_path / "none", minutes=0.0).step == module.PROBE_STEPS


def test_a_resumed_run_keeps_the_number_of_steps_it_began_with(
    recipe: Recipe, data: Split, tmp_path: Path, figures: list[float]
) -> None:
    figures += [0.5]
    with pytest.raises(IndexError):
        run(recipe, data, tmp_path)
    figures += [0.6]
    assert run(recipe, data, tmp_path, minutes=1000.0).step == 6


def test_a_loss_that_is_no_number_stops_the_run_before_it_spoils_the_weights(recipe: Recipe, data: Split) -> None:
    stream, stage, train = recipe.streams[0], recipe.descend("a"), data("train")
    training = Training(stream, stage, CPU, seed=0, total=6)
    assert isinstance(training.aside, CoDE)
    layer = training.aside.layer
    with torch.no_grad():
        layer.weight.fill_(math.inf)
    before = weights(training)
    with pytest.raises(RecipeError, match=r"the loss is (nan|inf) at step 0; .*learning_rate"):
        training.advance(Batches(train.store, train.samples, stage, VIEW, seed=0)[0])
    assert all(torch.equal(x, before[name]) for name, x in weights(training).items())
    assert training.losses == []


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RecipeError, match="say --device cpu"):
        Machine.here("cuda")
    assert Machine.here("auto", workers=3).device == "cpu"
    assert Machine.here("auto", workers=3).workers == 3


def test_a_gpu_is_taken_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for has in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda has=has: has)
        assert Machine.here("auto") == Machine("cuda", has, 2)
    assert Machine.here("cpu", bf16=False) == Machine("cpu", False, 2)


@pytest.mark.parametrize(
    ("flags", "has"), [("avx2 avx512_bf16", True), ("amx_bf16 amx_tile", True), ("avx2 avx512f", False), (None, False)]
)
def test_bfloat16_is_taken_where_the_processor_has_it(
    flags: str | None, has: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    if flags is not None:
        cpuinfo.write_text(f"flags : fpu {flags}\n")
    found = module._cpu_has_bf16(cpuinfo)
    assert found is has
    monkeypatch.setattr(module, "_cpu_has_bf16", lambda: found)
    assert Machine.here("cpu").bf16 is has
    assert Machine.here("cpu", bf16=not has).bf16 is not has


def test_bfloat16_keeps_weights_in_full_and_comes_near_the_loss_of_float32(recipe: Recipe, data: Split) -> None:
    stream, stage, train = recipe.streams[0], recipe.descend("a"), data("train")
    batch = Batches(train.store, train.samples, stage, VIEW, seed=0)[0]
    full, half = (Training(stream, stage, Machine("cpu", bf16, 0), seed=0, total=6) for bf16 in (False, True))
    losses = full.advance(batch), half.advance(batch)
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    assert {p.dtype for p in half.parameters().values()} == {torch.float32}


def test_the_rate_rises_in_a_line_and_falls_in_a_cosine() -> None:
    optimiser = Optimiser(learning_rate=1.0, warmup=0.2)
    rates = [learning_rate(optimiser, step, 50) for step in range(50)]
    assert rates[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert rates[10:] == pytest.approx([0.5 * (1 + math.cos(math.pi * step / 40)) for step in range(40)])
    assert rates[-1] < 0.01


def test_norms_and_biases_are_free_of_weight_decay(recipe: Recipe) -> None:
    training = Training(recipe.streams[0], recipe.descend("a"), CPU, seed=0, total=6)
    decayed, free = training.optimiser.param_groups
    assert decayed["weight_decay"] == recipe.descend("a").optimiser.weight_decay
    assert free["weight_decay"] == 0
    assert {p.ndim for p in decayed["params"]} == {2, 4}
    assert {p.ndim for p in free["params"]} == {1}
    assert len(decayed["params"]) + len(free["params"]) == len(training.parameters())


def test_the_auxiliary_term_rewards_calling_fakes_fake(recipe: Recipe, data: Split) -> None:
    train, stream, stage = data("train"), recipe.streams[0], recipe.descend("a")
    batch = Batches(train.store, train.samples, stage, VIEW, seed=0)[0]
    training = Training(stream, stage, CPU, seed=0, total=6)
    bare = Training(stream, recipe.set(descend__loss__bce=0.0).descend("a"), CPU, seed=0, total=6).loss(batch, 0).item()
    assert isinstance(training.aside, CoDE)
    layer = training.aside.layer
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.fill_(3.0)
        # A layer that calls everything fake is right of one half and wrong of the other.
        expected = (math.log1p(math.exp(3.0)) + math.log1p(math.exp(-3.0))) / 2
        assert training.loss(batch, 0).item() - bare == pytest.approx(expected, abs=1e-4)
        # A small step from fair coin towards the mean fake lowers the term, and one towards the mean real raises it.
        layer.bias.zero_()
        seen = torch.stack([*training.embed(batch.views).values()])
        apart = seen[:, 4:].mean(dim=(0, 1)) - seen[:, :4].mean(dim=(0, 1))
        losses = []
        for direction in (apart, -apart):
            layer.weight.copy_(0.01 * direction / apart.norm())
            losses.append(training.loss(batch, 0).item() - bare)
    assert losses[0] < losses[1]


def test_the_tuning_figure_is_that_of_a_linear_probe(recipe: Recipe, data: Split) -> None:
    training = Training(recipe.streams[0], recipe.descend("a"), CPU, seed=0, total=6)
    training.trunk.train()
    figure = tuning_auc(training, data("train"), data("tune"))
    # Dots at every second pixel are plain to see, even for random weights.
    assert figure > 0.9
    turned = Data(list(reversed(data("tune").samples)), data("tune").store)
    assert tuning_auc(training, data("train"), turned) == pytest.approx(1 - figure)


def test_tokens_and_position_embeddings_are_free_of_weight_decay() -> None:
    trunk = build(Backbone(name="test_vit", fields={"depth": 1}), 32)
    assert undecayed(trunk) >= {"trunk.network.cls_token", "trunk.network.pos_embed"}
    named = {f"trunk.{name}" for name, _ in trunk.named_parameters()}
    assert {"trunk.network.cls_token", "trunk.network.pos_embed"} <= named


def test_without_its_weight_nothing_of_the_contrastive_loss_is_left(recipe: Recipe, data: Split) -> None:
    train = data("train")
    batch = Batches(train.store, train.samples, recipe.descend("a"), VIEW, seed=0)[0]
    parts = {}
    for contrastive, bce in ((1.0, 0.0), (0.0, 1.0), (2.0, 3.0)):
        stage = recipe.set(descend__loss__bce=1.0).set(descend__loss__contrastive=contrastive, descend__loss__bce=bce)
        parts[contrastive, bce] = Training(recipe.streams[0], stage.descend("a"), CPU, seed=0, total=6).loss(batch, 0)
    both = 2 * parts[1.0, 0.0] + 3 * parts[0.0, 1.0]
    assert parts[2.0, 3.0].item() == pytest.approx(both.item(), rel=1e-6)
    assert parts[0.0, 1.0].item() == pytest.approx(math.log(2), rel=0.5)
    with pytest.raises(RecipeError, match="cannot both weigh nothing"):
        recipe.set(descend__loss__bce=0.0, descend__loss__contrastive=0.0)


# ── what is trained, and at which rate ───────────────────────────────────────────────────────────────────────────────


LORA = LoRA(rank=2, alpha=4, dropout=0.1, targets=r"body\.\d+\.(first|second)\.0")


def necked(recipe: Recipe, trunk: float | None = None, **fields: Any) -> Recipe:
    """The recipe with a neck over its network, trained by a cross-entropy with a trunk's rate of its own."""
    stream = recipe.streams[0].model_copy(update={"neck": Conv(widths=(6,))} | fields)
    optimiser = Optimiser(learning_rate=1e-2, trunk=trunk, warmup=0.2)
    changed = recipe.set(descend__loss=CrossEntropy(), descend__optimiser=optimiser)
    return changed.model_copy(update={"streams": (stream,)})


def begun(recipe: Recipe, seed: int = 0, total: int = 6) -> Training:
    return Training(recipe.streams[0], recipe.descend("a"), CPU, seed=seed, total=total)


def advanced(training: Training, data: Split, steps: int) -> Training:
    train = data("train")
    batches = Batches(train.store, train.samples, training.stage, VIEW, seed=training.seed)
    for step in range(training.step, training.step + steps):
        training.advance(batches[step])
    return training


def state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: x.detach().clone() for name, x in module.state_dict().items()}


def moved(before: dict[str, torch.Tensor], module: torch.nn.Module) -> set[str]:
    return {name for name, x in module.state_dict().items() if not torch.equal(x, before[name])}


def test_a_rate_of_nothing_freezes_the_network_and_its_statistics_while_the_neck_learns(
    recipe: Recipe, data: Split
) -> None:
    training = begun(necked(recipe, trunk=0.0))
    trunk: Any = training.trunk
    network, neck, aside = state(trunk.network), state(trunk.necks), state(training.aside)
    assert {"body.0.1.running_mean", "body.0.1.num_batches_tracked"} <= set(network)
    advanced(training, data, 2)
    assert moved(network, trunk.network) == set()
    # Its own statistics among them.
    assert moved(neck, trunk.necks) == set(neck)
    assert moved(aside, training.aside) == set(aside)
    assert {name for name in training.parameters() if name.startswith("trunk.network.")} == set()
    # With any rate of its own, all of it moves.
    training = begun(necked(recipe, trunk=1e-4))
    before = state(training.trunk)
    assert moved(before, advanced(training, data, 2).trunk) == set(before) - {
        name for name in before if name.startswith("front.")
    }


@pytest.mark.parametrize("trunk", [None, 1e-4, 3e-2])
def test_the_network_has_its_share_of_the_rate_at_every_step(trunk: float | None, recipe: Recipe, data: Split) -> None:
    training = begun(necked(recipe, trunk=trunk))
    network = {id(p) for p in training.trunk.network.parameters()}
    share = 1.0 if trunk is None else trunk / 1e-2
    names = {id(p): name for name, p in training.parameters().items()}
    for step in range(6):
        advanced(training, data, 1)
        rate = learning_rate(training.stage.optimiser, step, 6)
        found = {names[id(p)]: group["lr"] for group in training.optimiser.param_groups for p in group["params"]}
        assert set(found) == set(training.parameters())
        for name, p in training.parameters().items():
            assert found[name] == pytest.approx(rate * (share if id(p) in network else 1.0))
    decayed = {names[id(p)] for g in training.optimiser.param_groups if g["weight_decay"] for p in g["params"]}
    assert decayed == {name for name, p in training.parameters().items() if p.ndim > 1}


def test_of_an_adapted_network_only_its_matrices_move(recipe: Recipe, data: Split) -> None:
    backbone = recipe.streams[0].backbone.model_copy(update={"lora": LORA})
    training = begun(necked(recipe, trunk=1e-2, backbone=backbone))
    trunk: Any = training.trunk
    parameters = dict(trunk.network.named_parameters())
    matrices = {name for name in parameters if "lora_" in name}
    assert len(matrices) == 8
    network, neck = state(trunk.network), state(trunk.necks)
    advanced(training, data, 2)
    assert moved(network, trunk.network) & set(parameters) == matrices
    assert moved(neck, trunk.necks) == set(neck)
    assert {name for name in training.parameters() if name.startswith("trunk.network.")} == {
        f"trunk.network.{name}" for name in matrices
    }


@pytest.mark.parametrize("loss", [InfoNCE(), SupCon()])
def test_a_training_of_nothing_that_judges_is_refused(loss: InfoNCE | SupCon, recipe: Recipe) -> None:
    frozen = recipe.set(descend__optimiser__trunk=0.0)
    with pytest.raises(RecipeError, match="nothing of a would be trained: its network is frozen"):
        begun(frozen.set(descend__loss=loss))
    for judged in (InfoNCE(bce=1.0), CrossEntropy()):
        assert set(begun(frozen.set(descend__loss=judged)).parameters()) == {"aside.layer.weight", "aside.layer.bias"}
    assert begun(necked(recipe, trunk=0.0).set(descend__loss=loss)).parameters()


# ── a batch in parts ─────────────────────────────────────────────────────────────────────────────────────────────────


def gradients(training: Training, data: Split) -> dict[str, torch.Tensor]:
    """Of the first step, before they are clipped and taken."""
    found: dict[str, torch.Tensor] = {}

    def kept(parameters: Any, most: float) -> None:
        found.update({name: p.grad.clone() for name, p in training.parameters().items() if p.grad is not None})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.utils, "clip_grad_norm_", kept)
        advanced(training, data, 1)
    return found


@pytest.mark.parametrize("parts", [2, 4])
def test_a_batch_in_parts_has_the_loss_and_the_gradient_of_the_whole(parts: int, recipe: Recipe, data: Split) -> None:
    vit = {"neck": Projection(widths=(6,)), "backbone": Backbone(name="test_vit", fields={"depth": 1})}
    asked = necked(recipe, **vit).set(descend__loss=CrossEntropy(focal=2.0))
    whole, apart = begun(asked), begun(asked.set(descend__accumulate=parts))
    expected, found = gradients(whole, data), gradients(apart, data)
    assert set(found) == set(whole.parameters())
    for name, grad in found.items():
        torch.testing.assert_close(grad, expected[name], rtol=0, atol=1e-6)
    assert apart.losses == pytest.approx(whole.losses, abs=1e-6)
    assert apart.step == 1


@pytest.mark.parametrize("parts", [2, 4])
def test_a_step_in_parts_is_the_step_of_the_whole(parts: int, recipe: Recipe, data: Split) -> None:
    # Without batch normalisation in training mode, which would see a part alone.
    asked = necked(recipe, trunk=0.0, neck=Projection(widths=(6,)))
    whole = advanced(begun(asked), data, 1)
    apart = advanced(begun(asked.set(descend__accumulate=parts)), data, 1)
    start = weights(begun(asked))
    for name, x in weights(apart).items():
        torch.testing.assert_close(x, weights(whole)[name], rtol=0, atol=1e-6)
        assert (x - start[name]).abs().max() > 1e-4


# ── checkpoints of a network that holds still ────────────────────────────────────────────────────────────────────────


BESIDE = Beside(backbone=Backbone(name="trace_cnn", fields={"widths": (8, 8), "blocks": (1,)}))
STILL = {
    "frozen": {"trunk": 0.0},
    "text": {"trunk": 0.0, "neck": Text(width=8, heads=2)},
    "adapted": {"trunk": 1e-2, "lora": LORA},
    "beside": {"beside": BESIDE, "neck": Projection(widths=(6,), dropout=0.2)},
}


def still(recipe: Recipe, kind: str) -> Recipe:
    fields = dict(STILL[kind])
    backbone = recipe.streams[0].backbone.model_copy(update={"lora": fields.pop("lora", None)})
    return necked(recipe, backbone=backbone, **fields)


@pytest.mark.parametrize("kind", list(STILL))
def test_a_checkpoint_leaves_out_what_holds_still_and_the_run_goes_on_to_the_same_losses(
    kind: str, recipe: Recipe, data: Split, tmp_path: Path
) -> None:
    asked = still(recipe, kind)
    unbroken = advanced(begun(asked), data, 3)
    unbroken.save(tmp_path / "a.safetensors")
    held = {name for name, p in unbroken.trunk.named_parameters() if not p.requires_grad}
    assert held
    kept = {name for name in load_file(tmp_path / "a.safetensors") if name.startswith("trunk.")}
    # All the rest is there: what is trained, statistics, and the numbers of texts.
    assert kept == {f"trunk.{name}" for name in set(unbroken.trunk.state_dict()) - held}
    assert any("running_mean" in name for name in kept)
    resumed = begun(asked)
    resumed.load(tmp_path / "a.safetensors")
    assert moved(state(unbroken.trunk), resumed.trunk) == set()
    advanced(unbroken, data, 3)
    advanced(resumed, data, 3)
    assert resumed.losses == pytest.approx(unbroken.losses, abs=1e-6)
    best = begun(asked)
    best.load_weights(tmp_path / "a.safetensors")
    assert best.step == 0


def test_a_checkpoint_of_another_neck_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    begun(still(recipe, "frozen")).save(tmp_path / "a.safetensors")
    with pytest.raises(RecipeError, match="the checkpoint of a is of another network or loss; begin anew with --fresh"):
        begun(still(recipe, "text")).load(tmp_path / "a.safetensors")


@pytest.mark.parametrize("kind", list(STILL))
def test_a_stopped_descent_takes_up_where_it_was(
    kind: str, recipe: Recipe, data: Split, tmp_path: Path, figures: list[float]
) -> None:
    asked = still(recipe, kind)
    figures += [0.5]
    with pytest.raises(IndexError):
        run(asked, data, tmp_path)
    figures += [0.7]
    resumed = run(asked, data, tmp_path)
    figures += [0.5, 0.7]
    unbroken = run(asked, data, tmp_path / "whole")
    assert resumed.losses == pytest.approx(unbroken.losses, abs=1e-6)
    assert len(resumed.losses) == 6
    for name, x in unbroken.trunk.state_dict().items():
        torch.testing.assert_close(resumed.trunk.state_dict()[name], x, rtol=0, atol=1e-5)


# ── the layer that is trained ────────────────────────────────────────────────────────────────────────────────────────


def test_the_trained_layer_is_a_head_that_gives_its_logits(recipe: Recipe, data: Split) -> None:
    training = advanced(begun(necked(recipe)), data, 2)
    rows = torch.randn(5, training.trunk.dim)
    layer: Any = training.aside.layer
    expected = layer(rows)[:, 0].detach().numpy()
    assert training.layer.raw(rows.double().numpy()) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("loss", [InfoNCE(), SupCon()])
def test_a_loss_without_a_layer_has_none_to_give(loss: InfoNCE | SupCon, recipe: Recipe) -> None:
    with pytest.raises(RecipeError, match=r"heads\.linear\.trained asks for the layer .* its loss has none"):
        _ = begun(recipe.set(descend__loss=loss)).layer
    assert begun(recipe.set(descend__loss=InfoNCE(bce=0.5))).layer.width == 16


def test_where_the_trained_layer_judges_the_tuning_figure_is_its_own(recipe: Recipe, data: Split) -> None:
    asked = necked(recipe, heads=(Linear(trained=True),))
    training = advanced(begun(asked), data, 2)
    train, tune = data("train"), data("tune")
    probed = tuning_auc(begun(necked(recipe)), train, tune)
    assert probed > 0.9
    layer: Any = training.aside.layer
    rows = module.embeddings_of(training, tune, range(len(tune.samples)))
    scores = layer(torch.from_numpy(rows).float())[:, 0].detach().numpy()
    figure = tuning_auc(training, train, tune)
    assert figure == auc(labels_of(tune.samples), scores)
    # A layer turned round orders them the other way; a probe would not mind.
    with torch.no_grad():
        layer.weight.neg_()
    assert tuning_auc(training, train, tune) == pytest.approx(1 - figure)
