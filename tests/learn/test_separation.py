"""The look at an embedding after the contrastive stage: a warning where it overlaps, and never a failure."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from assay.learn import separation
from assay.learn.descend import Data, Machine, Training
from assay.learn.recipe import Recipe
from assay.types import Label, Sample

WARNING = "WARNING: the embedding of a has not separated"


@dataclasses.dataclass
class Looked:
    """What a look told, printed and wrote."""

    told: dict[str, Any]
    said: str
    files: list[str]


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch, recipe: Recipe, tmp_path: Path) -> Callable[..., Looked]:
    """`look(rows, distance)`: at an embedding of as many reals as fakes that lie so far apart."""

    class Named:
        stream = recipe.streams[0]
        seed = 0

    def run(rows: int, distance: float) -> Looked:
        rng = np.random.default_rng(0)
        samples = [Sample(f"{n}.png", Label(n % 2), "dots" if n % 2 else "", f"source {n // 4}") for n in range(rows)]
        vectors = rng.normal(size=(rows, 8))
        vectors[:, 0] += np.where(np.arange(rows) % 2, distance, -distance)
        monkeypatch.setattr(separation, "embeddings_of", lambda training, tune, rows: vectors[list(rows)])
        training, store, file = Named(), None, io.StringIO()
        folder, console = tmp_path / "separation", Console(file=file, width=200)
        told = separation.look(training, Data(samples, store), folder, console)  # type: ignore[arg-type]
        return Looked(told, file.getvalue(), sorted(path.name for path in folder.iterdir()))

    return run


def test_an_embedding_that_overlaps_is_warned_of(look: Callable[..., Looked]) -> None:
    found = look(80, 0.0)
    assert WARNING in found.said
    assert "lower descend.loss.temperature" in found.said
    assert found.told["separated"] is False
    assert found.told["overlap"] > 0.35
    assert found.told["probe_auc"] == pytest.approx(0.5, abs=0.2)


def test_an_embedding_that_lies_apart_is_not(look: Callable[..., Looked]) -> None:
    found = look(80, 6.0)
    assert "WARNING" not in found.said
    assert found.told == {
        "overlap": 0.0,
        "probe_auc": 1.0,
        "silhouette_label": pytest.approx(0.9, abs=0.1),
        "separated": True,
    }
    assert "a: embedding of 80 tuning rows: linear probe AUC 1.000 (1.000 to 1.000), silhouette of the label" in (
        found.said
    )


def test_a_picture_by_label_and_one_by_generator_are_drawn(look: Callable[..., Looked], tmp_path: Path) -> None:
    found = look(40, 6.0)
    assert found.files == ["a.generator.svg", "a.label.svg", "a.npz"]
    assert "dots" in (tmp_path / "separation" / "a.generator.svg").read_text()
    assert str(tmp_path / "separation" / "a.label.svg") in found.said.replace("\n", "")


@pytest.mark.parametrize("rows", [4, 6, 8, 40])
@pytest.mark.parametrize("distance", [0.0, 6.0])
def test_few_rows_are_no_failure_and_what_is_not_known_is_not_said(
    rows: int, distance: float, look: Callable[..., Looked]
) -> None:
    found = look(rows, distance)
    # What stands on a card may hold no NaN.
    json.dumps(found.told, allow_nan=False)
    assert "nan" not in found.said
    assert (found.told["probe_auc"] is None) is (rows < 40)
    assert ("a.label.svg" in found.files) is (rows >= 8)


def test_a_trained_network_is_looked_at_on_one_crop_of_each_tuning_row(
    recipe: Recipe, data: Callable[[str], Data], tmp_path: Path
) -> None:
    training = Training(recipe.streams[0], recipe.descend("a"), Machine("cpu", False, 0), seed=0, total=1)
    told = separation.look(training, data("tune"), tmp_path / "new", Console(file=io.StringIO()))
    assert set(told) == {"overlap", "probe_auc", "silhouette_label", "separated"}
    with np.load(tmp_path / "new" / "a.npz", allow_pickle=False) as kept:
        assert len(kept["labels"]) == 8
