"""Curricula: which step belongs to which lesson, what is masked, and how lessons go on from each other; and batches of
classes as they come."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from assay.data.table import Table
from assay.errors import ManifestError, RecipeError
from assay.image.view import View
from assay.learn import tiles
from assay.learn.batches import Batches
from assay.learn.descend import Data, Machine, Training, descend, learning_rate
from assay.learn.flow import Flow
from assay.learn.recipe import CrossEntropy, Descend, Lesson, Optimiser, Recipe, Tiles
from assay.types import Label, Sample

Split = Callable[[str], Data]
CPU = Machine("cpu", bf16=False, workers=0)
MASKED, SHOWN = Lesson(eyes="masked"), Lesson()
EYES = [[4, 6, 14, 12], [20, 6, 30, 12]]


def stage(recipe: Recipe, **fields: Any) -> Descend:
    changes = {f"descend__{name}": value for name, value in fields.items()}
    plain = {"descend__loss": CrossEntropy(), "descend__crops__base": None, "descend__alter__max_ops": 0}
    return recipe.set(**{**plain, **changes}).descend("a")


def with_eyes(data: Data, seen: Callable[[int], bool] = lambda row: True) -> Data:
    """The same with eyes in every tile of the samples that have some."""
    boxes = []
    for row in range(len(data.samples)):
        boxes += [np.array(EYES if seen(row) else [], np.int64).reshape(-1, 4)] * data.store.count(row)
    return Data(data.samples, dataclasses.replace(data.store, eyes=tuple(boxes)))


@pytest.mark.parametrize(
    ("shares", "total", "ends"),
    [
        ((1, 1), 10, [5, 10]),
        ((20, 15, 15), 50, [20, 35, 50]),
        ((20, 15, 15), 100, [40, 70, 100]),
        ((1, 99), 10, [1, 10]),
        ((99, 1), 10, [9, 10]),
        ((), 7, [7]),
    ],
)
def test_lessons_share_the_steps_and_each_has_one(shares: tuple[float, ...], total: int, ends: list[int]) -> None:
    curriculum = tuple(Lesson(share=share) for share in shares)
    assert [end for _, end in Descend(stream="a", curriculum=curriculum).lessons(total)] == ends


def test_eyes_are_black_in_masked_lessons_alone(recipe: Recipe, data: Split) -> None:
    rows = with_eyes(data("train"))
    asked = stage(recipe, curriculum=(MASKED, SHOWN))
    view = View(size=64, layout="whole")
    batches = Batches(rows.store, rows.samples, asked, view, seed=3).over(4)
    assert [batches.masked(step) for step in range(4)] == [True, True, False, False]
    plain = Batches(rows.store, rows.samples, stage(recipe), view, seed=3)
    for step in range(4):
        masked, whole = batches[step].views["view 1"], plain[step].views["view 1"]
        assert (masked.shape, masked.dtype) == (whole.shape, whole.dtype)
        # Tiles are at most 64 px and stretched to it, so a box's middle is black however it was stretched.
        black = (masked == 0).all(axis=-1).mean(axis=(1, 2))
        assert ((black > 0.005) == (step < 2)).all()
        assert (masked == whole).all() == (step >= 2)


def test_pictures_without_eyes_are_left_out_of_masked_lessons_alone(recipe: Recipe, data: Split) -> None:
    rows = with_eyes(data("train"), lambda row: row >= 8)
    asked = stage(recipe, curriculum=(MASKED, SHOWN), pairs=3)
    batches = Batches(rows.store, rows.samples, asked, View(size=32, layout="whole"), seed=0)
    seen = [set[int](), set[int]()]
    for number, drawn in enumerate((batches.with_eyes, batches.balanced)):
        for step in range(40):
            seen[number] |= set(drawn.draw(3, np.random.default_rng(step)).tolist())
    assert seen[0] == set(range(8, 16))
    assert seen[1] == set(range(16))
    only = with_eyes(data("train"), lambda row: row % 2 == 0)
    with pytest.raises(ManifestError, match="no picture of one class shows any"):
        Batches(only.store, only.samples, asked, View(size=32, layout="whole"), seed=0)


def test_lessons_go_on_from_the_best_weights_of_the_one_before(recipe: Recipe, data: Split, tmp_path: Path) -> None:
    rows = with_eyes(data("train"))
    asked = stage(recipe, curriculum=(MASKED, SHOWN), steps=2, epochs=4, patience=9)
    begun: list[tuple[int, dict[str, torch.Tensor]]] = []
    begin = Training.begin_lesson

    def noted(training: Training, kept: Path) -> None:
        begin(training, kept)
        assert not training.optimiser.state
        assert training.best == -np.inf
        begun.append((training.step, {n: p.detach().clone() for n, p in training.parameters().items()}))
        other = Training(recipe.streams[0], asked, CPU, seed=0, total=8)
        other.load_weights(kept)
        assert all(torch.equal(p, begun[-1][1][name]) for name, p in other.parameters().items())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "begin_lesson", noted)
        training = descend(recipe.streams[0], asked, rows, data("tune"), tmp_path, CPU, seed=0)
    assert [step for step, _ in begun] == [4]
    assert training.step == 8
    log = [json.loads(line) for line in (tmp_path / "a.epochs.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log] == [2, 4, 6, 8]
    # What is kept is of the last lesson, whatever an earlier one had.
    best = max(log[2:], key=lambda entry: entry["tuning_auc"])
    assert (training.best, training.best_step) == (best["tuning_auc"], best["step"])


def test_patience_counts_in_the_last_lesson(recipe: Recipe) -> None:
    asked = stage(recipe, curriculum=(SHOWN, SHOWN), steps=2, epochs=10, patience=3)
    training = Training(recipe.streams[0], asked, CPU, seed=0, total=20)
    training.step = 10
    assert not training.done
    training.step = 16
    assert training.done


def test_each_lesson_runs_through_the_rate_anew(recipe: Recipe) -> None:
    asked = stage(recipe, curriculum=(SHOWN, Lesson(share=3)), steps=5, epochs=4)
    training = Training(recipe.streams[0], asked, CPU, seed=0, total=20)
    found = []
    for step in (0, 4, 5, 19):
        training.step = step
        found.append(training.lesson)
    assert found == [(0, 5), (0, 5), (5, 20), (5, 20)]


def test_the_rate_falls_in_steps_where_asked() -> None:
    asked = Optimiser(learning_rate=1.0, warmup=0.0, schedule="steps", every=2, factor=0.1)
    rates = [learning_rate(asked, step, 100, 3) for step in range(0, 100, 3)]
    # Warm-up is one step at least, and the first is at the full rate.
    assert rates[:6] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_sgd_is_torchs_and_goes_on_from_a_checkpoint(recipe: Recipe, data: Split, tmp_path: Path) -> None:
    asked = stage(recipe, optimiser=Optimiser(kind="sgd", learning_rate=1e-2, momentum=0.9, weight_decay=0.05))
    rows = data("train")
    batches = Batches(rows.store, rows.samples, asked, recipe.streams[0].view, seed=0)
    training = Training(recipe.streams[0], asked, CPU, seed=0, total=6)
    assert isinstance(training.optimiser, torch.optim.SGD)
    for step in range(3):
        training.advance(batches[step])
    training.save(tmp_path / "c.safetensors")
    resumed = Training(recipe.streams[0], asked, CPU, seed=0, total=6)
    resumed.load(tmp_path / "c.safetensors")
    assert [t.advance(batches[3]) for t in (training, resumed)] == pytest.approx([training.losses[3]] * 2, abs=1e-6)
    for name, p in training.parameters().items():
        assert torch.allclose(p, resumed.parameters()[name], atol=1e-6)


def test_classes_come_as_they_are_where_asked(recipe: Recipe, data: Split) -> None:
    rows = data("train")
    # Twelve of sixteen are fakes.
    samples = [dataclasses.replace(s, label=Label(row >= 4), generator="x") for row, s in enumerate(rows.samples)]
    asked = stage(recipe, sampling="natural", pairs=8)
    batches = Batches(rows.store, samples, asked, recipe.streams[0].view, seed=0)
    shares = [batches[step].labels.mean() for step in range(6)]
    assert shares == pytest.approx([0.75] * 6)
    balanced = Batches(rows.store, samples, stage(recipe, pairs=8), recipe.streams[0].view, seed=0)
    assert [balanced[step].labels.tolist() for step in range(2)] == [[0] * 8 + [1] * 8] * 2
    with pytest.raises(ValueError, match="set sampling to balanced"):
        Descend(stream="a", sampling="natural")


def test_a_flow_has_neither_lessons_without_eyes_nor_classes_as_they_come(
    recipe: Recipe, samples: list[Sample]
) -> None:
    for fields, message in (
        ({"curriculum": (MASKED,)}, "where faces or eyes are"),
        ({"sampling": "natural"}, "set descend.sampling to balanced"),
    ):
        with pytest.raises(RecipeError, match=message):
            Flow(Table.of(samples), stage(recipe, **fields), recipe.streams[0].view, seed=0)


def test_eyes_are_not_looked_for_in_regions(samples: list[Sample], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="set curriculum to"):
        tiles.build(samples, Tiles(side=64), tmp_path, seed=0, workers=0, eyes=True)
