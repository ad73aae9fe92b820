"""What arms may spend."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from assay.data.table import Table
from assay.learn.descend import Training
from assay.learn.recipe import Recipe
from assay.studies import budget


@pytest.mark.parametrize("total", [1, 7, 8, 100, 101, 185, 4096, 9973])
def test_steps_are_spread_over_epochs_without_a_step_too_many(total: int) -> None:
    steps, epochs = budget.spread(total)
    assert 1 <= steps * epochs <= total
    assert total - steps * epochs < 8
    assert epochs <= 12


def test_a_recipe_gets_its_steps_and_never_stops_before_their_end(recipe: Recipe) -> None:
    given = budget.with_steps(recipe, 96)
    stage = given.descend("a")
    assert stage.steps * stage.epochs == budget.length(given) == 96
    assert stage.patience == stage.epochs


def test_views_are_pictures_of_a_batch_times_views_of_a_picture(recipe: Recipe) -> None:
    assert budget.views_a_step(recipe) == 2 * 4 * 4
    assert budget.views_a_step(recipe.set(descend__pairs=8, descend__crops__count=3)) == 2 * 8 * 6


def test_a_frozen_network_has_nothing_to_spend(recipe: Recipe) -> None:
    frozen = recipe.set(stages=recipe.stages[1:])
    assert (budget.views_a_step(frozen), budget.length(frozen)) == (0, 0)
    assert budget.with_steps(frozen, 100) == frozen


def test_a_step_is_timed_by_the_processor_and_not_by_the_clock(
    recipe: Recipe, table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other work on the machine makes a step wait, not cost more."""
    advance = Training.advance

    def waits(self: Training, batch: Any) -> float:
        time.sleep(0.2)
        return advance(self, batch)

    monkeypatch.setattr(Training, "advance", waits)
    seconds = budget.seconds_a_step(recipe, table, tmp_path, seed=0, device="cpu", workers=0)
    assert 0 < seconds < 0.19
