"""What networks make of folds that they were trained without."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.errors import ManifestError, RecipeError
from assay.learn import crossfit
from assay.learn.crossfit import Scored, drawn, folds_of, joined, kind_of, left_out, on_scale
from assay.learn.descend import Machine
from assay.learn.recipe import Backbone, Recipe, Shown
from assay.learn.train import train
from assay.types import Label, Sample


@pytest.fixture(scope="module")
def folded(samples: list[Sample]) -> list[Sample]:
    """Reals and fakes of two folds, and some of none."""
    names = ("one", "one", "two", "two", "", "")
    return [dataclasses.replace(sample, groups={"fold": names[number % 6]}) for number, sample in enumerate(samples)]


@pytest.fixture(scope="module")
def scored(folded: list[Sample], recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scored]:
    folder = tmp_path_factory.mktemp("crossfit")
    return {
        fold: left_out(
            recipe, folded, of(folded, fold), [fold], folder / fold, cache=folder / "tiles",
            machine=Machine("cpu", False, 0), conditions=crossfit.CLEAN | {"dark": lambda pixels: pixels // 2},
        )
        for fold in folds_of(folded)
    }  # fmt: skip


def of(rows: list[Sample], fold: str) -> list[Sample]:
    return [sample for sample in rows if sample.groups["fold"] == fold]


def test_no_row_of_the_fold_is_learned_from(
    folded: list[Sample], recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    met: list[str] = []

    def spy(stream: Any, stage: Any, train: Any, tune: Any, *rest: Any, **options: Any) -> Any:
        met.extend(sample.groups.get("fold", "") for part in (train, tune) for sample in part.samples)
        raise RuntimeError("enough")

    monkeypatch.setattr(crossfit, "descend", spy)
    with pytest.raises(RuntimeError, match="enough"):
        left_out(recipe, folded, of(folded, "one"), ["one"], tmp_path, machine=Machine("cpu", False, 0))
    assert set(met) == {"two", ""}


def test_rows_that_are_learned_from_cannot_be_judged(folded: list[Sample], recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="is of a fold that is learned from"):
        left_out(recipe, folded, folded, ["one"], tmp_path)


def test_each_stream_of_a_recipe_has_its_say(
    folded: list[Sample], recipe: Recipe, scored: dict[str, Scored], tmp_path: Path
) -> None:
    counting = recipe.streams[0].model_copy(update={"name": "b", "backbone": Backbone(name="cooccurrence")})
    shown = Shown(**{name: getattr(recipe.descend("a"), name) for name in Shown.model_fields})
    fitting = recipe.fit("a").model_copy(update={"stream": "b", "shown": shown})
    both = recipe.set(streams=(*recipe.streams, counting), stages=(*recipe.stages[:-1], fitting, recipe.stages[-1]))
    found = left_out(both, folded, of(folded, "one"), ["one"], tmp_path, machine=Machine("cpu", False, 0))
    assert found.steps == {"one": 6}
    assert set(found.scale["one"]) == {"a", "b"}
    assert found.pooled("a") == pytest.approx(scored["one"].pooled("a"), abs=1e-3)
    assert not np.allclose(found.pooled("a"), found.pooled("b"))
    assert (tmp_path / "embeddings").exists()


def test_streams_of_faces_are_refused(folded: list[Sample], recipe: Recipe, tmp_path: Path) -> None:
    faces = recipe.set(a__view=recipe.streams[0].view.model_copy(update={"layout": "faces"}))
    with pytest.raises(RecipeError, match="streams of faces"):
        left_out(faces, folded, of(folded, "one"), ["one"], tmp_path)


def test_scores_are_kept_and_taken_up(
    scored: dict[str, Scored], folded: list[Sample], recipe: Recipe, tmp_path: Path
) -> None:
    scored["one"].save(tmp_path / "scores.npz")
    # No training: the result is there.
    again = left_out(recipe, [], of(folded, "one"), ["one"], tmp_path)
    assert again.samples == scored["one"].samples
    assert again.steps == {"one": 6}
    for condition in ("clean", "dark"):
        assert np.array_equal(again.pooled("a", condition=condition), scored["one"].pooled("a", condition=condition))
    assert not np.array_equal(again.pooled("a", condition="dark"), again.pooled("a"))
    assert again.scale == scored["one"].scale
    with pytest.raises(ManifestError, match="in the manifest no more"):
        Scored.load(tmp_path / "scores.npz", of(folded, "two"))


def test_folds_are_joined_in_order(scored: dict[str, Scored]) -> None:
    both = joined(list(scored.values()))
    assert both.folds == ("one",) * len(scored["one"].samples) + ("two",) * len(scored["two"].samples)
    assert np.array_equal(both.pooled("a"), np.concatenate([part.pooled("a") for part in scored.values()]))
    assert both.steps == {"one": 6, "two": 6}


def test_scores_of_networks_trained_apart_come_onto_one_scale(scored: dict[str, Scored]) -> None:
    both = joined(list(scored.values()))
    tuned = np.array([1.0, 3.0, 5.0, 7.0])
    met = on_scale(both)({"a": tuned}, np.array([0, 1, 0, 1]))
    first = met.raws["a"][: len(scored["one"].samples)]
    mean, deviation = scored["one"].scale["one"]["a"]
    assert first == pytest.approx((scored["one"].pooled("a") - mean) / deviation * tuned.std() + 4)
    assert met.labels.tolist() == both.labels.tolist()
    few = on_scale(both, most=1)({"a": tuned}, np.array([0, 1, 0, 1]))
    assert len(few.labels) < len(met.labels)


def test_training_chooses_its_threshold_on_what_networks_had_not_met(
    samples: list[Sample], scored: dict[str, Scored], recipe: Recipe, tmp_path: Path
) -> None:
    import assay

    seen: list[int] = []

    def met(tuned: Any, labels: Any) -> Any:
        seen.append(len(labels))
        return on_scale(joined(list(scored.values())))(tuned, labels)

    folder = train(recipe, samples, tmp_path, workers=0, device="cpu", left_out=met)
    detector = assay.load(folder)
    assert seen == [8]
    assert detector.card.training["calibrated"]["folds"] == ["one", "two"]
    real = int((joined(list(scored.values())).labels == 0).sum())
    assert detector.rules.ensemble.rows.real == real
    assert "pictures like the rows from sources and generators that were left out" in detector.rules.ensemble.notes


def test_rows_are_drawn_by_source_whatever_else_there_is(samples: list[Sample]) -> None:
    two = drawn(samples, 2)
    names = [(sample.label, sample.generator or sample.source) for sample in two]
    assert max(names.count(name) for name in names) == 2
    others = [dataclasses.replace(s, generator="else", place=s.place + "x", label=Label.FAKE) for s in samples]
    assert [s for s in drawn([*others, *samples], 2) if s.generator != "else"] == two
    assert drawn(samples, 2, seed=1) != two


def test_copies_of_reals_are_told_from_found_pictures(samples: list[Sample]) -> None:
    assert kind_of(samples[0]) == ""
    assert kind_of(dataclasses.replace(samples[0], groups={"remade": "1"})) == "remade"
    assert kind_of(dataclasses.replace(samples[0], groups={"remade": "0", "blended": "1"})) == "blended"


def test_a_manifest_without_folds_is_refused(samples: list[Sample]) -> None:
    with pytest.raises(ManifestError, match="two folds or more"):
        folds_of(samples)
