"""Batches: a function of the seed and the step, whoever makes them; classes alike."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from assay.errors import ManifestError
from assay.image.view import View
from assay.learn.batches import Balanced, Batch, Batches, method_of, teacher_of
from assay.learn.descend import Data
from assay.learn.recipe import CrossEntropy, Descend, Recipe, SupCon
from assay.types import Label, Sample

VIEW = View(size=32)

FIRST, LAST = 2, 5


@pytest.fixture(scope="module")
def batches(data: Callable[[str], Data], recipe: Recipe) -> Batches:
    train = data("train")
    return Batches(train.store, train.samples, recipe.descend("a"), VIEW, seed=7)


@pytest.fixture(scope="module")
def expected(batches: Batches) -> list[Batch]:
    return [batches[step] for step in range(FIRST, LAST)]


def same(one: Batch, other: Batch) -> bool:
    if one.views.keys() != other.views.keys() or not np.array_equal(one.methods, other.methods):
        return False
    return all(np.array_equal(pixels, other.views[view]) for view, pixels in one.views.items())


def test_a_batch_has_as_many_fakes_as_reals_of_every_view(batches: Batches) -> None:
    shapes = {view: pixels.shape for view, pixels in batches[0].views.items()}
    assert shapes == {
        "clean": (8, 32, 32, 3),
        "transformed": (8, 32, 32, 3),
        "global": (8, 32, 32, 3),
        "local": (8, 24, 24, 3),
    }


def test_a_step_gives_the_same_batch_in_any_order(batches: Batches, expected: list[Batch]) -> None:
    for step in (LAST - 1, FIRST, FIRST + 1):
        assert same(batches[step], expected[step - FIRST])
    assert not same(batches[FIRST], batches[FIRST + 1])


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_step_gives_the_same_batch_in_any_number_of_processes(
    batches: Batches, expected: list[Batch], workers: int
) -> None:
    made = list(batches.stream(FIRST, LAST, workers))
    assert len(made) == len(expected)
    assert all(same(*pair) for pair in zip(made, expected, strict=True))


def test_another_seed_gives_other_batches(data: Callable[[str], Data], recipe: Recipe, expected: list[Batch]) -> None:
    train = data("train")
    assert not same(Batches(train.store, train.samples, recipe.descend("a"), VIEW, seed=8)[FIRST], expected[0])


def test_a_stream_without_steps_ends_at_once(batches: Batches) -> None:
    assert list(batches.stream(5, 5, workers=2)) == []


def test_fakes_come_after_the_reals(data: Callable[[str], Data], recipe: Recipe) -> None:
    """A grid of dots is what made a picture fake, and only alternate columns of such a picture differ so much."""
    train = data("train")
    stage: Descend = recipe.descend("a")
    clean = Batches(train.store, train.samples, stage, VIEW, seed=0)[0].views["clean"].astype(int)
    rough = np.abs(np.diff(clean, axis=2)).mean(axis=(1, 2, 3))
    assert rough[:4].max() < rough[4:].min()


def rows(*sizes: int) -> list[Sample]:
    """Reals of one source, and fakes of as many generators as sizes are given."""
    reals = [Sample("real", Label.REAL, source="all") for _ in range(sum(sizes))]
    fakes = [
        Sample("fake", Label.FAKE, generator=f"g{number}") for number, size in enumerate(sizes) for _ in range(size)
    ]
    return reals + fakes


def shares(samples: list[Sample], power: float) -> dict[str, float]:
    balanced, rng = Balanced(samples, power), np.random.default_rng(0)
    counts = Counter(samples[balanced.draw(1, rng)[1]].generator for _ in range(3000))
    return {name: count / 3000 for name, count in counts.items()}


def test_pictures_are_drawn_alike_at_power_1_and_sources_alike_at_power_0() -> None:
    samples = rows(90, 10)
    assert shares(samples, 1)["g1"] == pytest.approx(0.1, abs=0.03)
    assert shares(samples, 0)["g1"] == pytest.approx(0.5, abs=0.04)
    assert shares(samples, 0.5)["g1"] == pytest.approx(10**0.5 / (10**0.5 + 90**0.5), abs=0.04)


def test_a_batch_repeats_no_picture_where_there_are_enough() -> None:
    samples = rows(30, 6)
    for seed in range(20):
        drawn = Balanced(samples, 0.5).draw(20, np.random.default_rng(seed))
        assert len(set(drawn.tolist())) == 40
        assert [samples[row].label for row in drawn] == [Label.REAL] * 20 + [Label.FAKE] * 20


def test_a_batch_repeats_pictures_where_there_are_too_few() -> None:
    samples = [*rows(3)[:3], *[Sample("fake", Label.FAKE) for _ in range(50)]]
    drawn = Balanced(samples, 1).draw(10, np.random.default_rng(0))
    assert set(drawn[:10].tolist()) <= {0, 1, 2}
    assert len(set(drawn[10:].tolist())) == 10


def test_rows_without_a_label_are_never_drawn() -> None:
    samples = [Sample("?", None), *rows(2), Sample("?", None)]
    drawn = Balanced(samples, 1).draw(2, np.random.default_rng(0))
    assert all(samples[row].label is not None for row in drawn)


def test_as_many_reals_as_fakes_are_drawn_however_few_of_a_class_there_are() -> None:
    samples = [*rows(95)[:5], *rows(95)[95:]]
    for seed in range(10):
        drawn = Balanced(samples, 1).draw(8, np.random.default_rng(seed))
        assert [samples[row].label for row in drawn] == [Label.REAL] * 8 + [Label.FAKE] * 8


# ── a secondary data set ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("weight", [0.25, 1.0, 3.0])
def test_a_secondary_picture_is_drawn_so_many_times_as_often(weight: float) -> None:
    first = [Sample("first", label) for label in Label for _ in range(60)]
    second = [Sample("second", label, groups={"secondary": "1"}) for label in Label for _ in range(20)]
    samples = [*first, *second]
    balanced, rng = Balanced(samples, 1, weight), np.random.default_rng(0)
    for half in (0, 1):
        count = Counter(samples[balanced.draw(1, rng)[half]].place for _ in range(4000))
        odds = count["second"] / count["first"]
        assert odds == pytest.approx(weight * 20 / 60, rel=0.12)


def test_sources_and_the_secondary_set_are_weighed_together() -> None:
    samples = [
        *rows(90, 10),
        *[dataclasses.replace(sample, groups={"secondary": "1"}) for sample in rows(10) if sample.label == Label.FAKE],
    ]
    # "g0" has 100 fakes, ten of them of the secondary set, "g1" ten: at power 0 both weigh alike before that.
    balanced, rng = Balanced(samples, 0, 5.0), np.random.default_rng(0)
    drawn = [samples[balanced.draw(1, rng)[1]] for _ in range(4000)]
    count = Counter((sample.generator, bool(sample.groups)) for sample in drawn)
    assert count["g0", True] / count["g0", False] == pytest.approx(5 * 10 / 90, rel=0.15)
    assert count["g0", False] / count["g1", False] == pytest.approx(0.9, rel=0.12)


# ── what else a batch tells ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_batch_tells_what_made_each_picture(data: Callable[[str], Data], recipe: Recipe) -> None:
    train = data("train")
    named = [
        dataclasses.replace(sample, generator=f"g{row % 3}" if sample.label else "camera")
        for row, sample in enumerate(train.samples)
    ]
    batch = Batches(train.store, named, recipe.descend("a"), VIEW, seed=0)[0]
    assert batch.methods[:4].tolist() == [-1] * 4
    assert set(batch.methods[4:].tolist()) <= {method_of(sample) for sample in named if sample.label}
    assert len({method_of(sample) for sample in named}) == 4


def test_a_generator_has_its_number_in_any_process() -> None:
    assert method_of(Sample("a", Label.FAKE, generator="dots")) == 0x0517CF1A
    assert method_of(Sample("b", Label.FAKE, generator="dots", source="other")) == 0x0517CF1A
    assert method_of(Sample("a", Label.REAL, generator="dots")) == -1


def test_a_batch_tells_what_a_teacher_said(data: Callable[[str], Data], recipe: Recipe) -> None:
    train = data("train")
    told = {sample.place: f"{row / 100}" for row, sample in enumerate(train.samples) if row % 4}
    taught = [dataclasses.replace(sample, groups={"teacher": told.get(sample.place, "")}) for sample in train.samples]
    batches = Batches(train.store, taught, recipe.descend("a"), VIEW, seed=0)
    rows = batches.balanced.draw(4, np.random.default_rng([0, 0]))
    expected = [row / 100 if row % 4 else math.nan for row in rows.tolist()]
    assert batches[0].teacher.tolist() == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("told", ["1.5", "-0.1", "nan", "fake"])
def test_a_teachers_column_that_holds_no_probability_is_refused(told: str) -> None:
    with pytest.raises(ManifestError, match=f"a.png: teacher is '{told}', not a P.fake. from 0 to 1"):
        teacher_of(Sample("a.png", Label.FAKE, groups={"teacher": told}))
    assert math.isnan(teacher_of(Sample("a.png", Label.FAKE)))


# ── other losses ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("loss", [SupCon(views=2), CrossEntropy(views=3)])
def test_other_losses_have_as_many_views_as_they_say_no_two_alike(
    data: Callable[[str], Data], recipe: Recipe, loss: SupCon | CrossEntropy
) -> None:
    train = data("train")
    batch = Batches(train.store, train.samples, recipe.set(descend__loss=loss).descend("a"), VIEW, seed=7)[0]
    assert list(batch.views) == [f"view {number}" for number in range(1, loss.views + 1)]
    assert {pixels.shape for pixels in batch.views.values()} == {(8, 32, 32, 3)}
    first, *others = batch.views.values()
    for other in others:
        assert not any(np.array_equal(*pair) for pair in zip(first, other, strict=True))


def test_both_views_of_a_step_are_the_same_in_another_process(data: Callable[[str], Data], recipe: Recipe) -> None:
    train = data("train")
    batches = Batches(train.store, train.samples, recipe.set(descend__loss=SupCon()).descend("a"), VIEW, seed=7)
    (made,) = batches.stream(FIRST, FIRST + 1, workers=1)
    assert same(made, batches[FIRST])


def test_loader_processes_are_not_sent_the_rows(batches: Batches) -> None:
    held = vars(batches)
    own = {"store", "stage", "view", "seed", "total", "share"}
    assert set(held) == own | {"balanced", "with_eyes", "methods", "teacher"}
    drawn = batches.balanced.draw(batches.stage.pairs, np.random.default_rng([batches.seed, 0]))
    assert batches[0].methods.tolist() == batches.methods[drawn].tolist()


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_rows_weigh_as_often_as_they_would_be_drawn(samples: list[Sample], power: float) -> None:
    uneven = [dataclasses.replace(sample, source=f"source {number % 3 % 2}") for number, sample in enumerate(samples)]
    uneven = [sample for number, sample in enumerate(uneven) if sample.label is Label.REAL or number % 3]
    balanced = Balanced(uneven, power)
    rows, weights = balanced.weighted(1000, np.random.default_rng(0))
    assert rows.tolist() == list(range(len(uneven)))
    assert weights.mean() == pytest.approx(1)
    labels = np.array([int(sample.label or 0) for sample in uneven])
    assert weights[labels == 0].sum() == pytest.approx(weights[labels == 1].sum())
    for label in Label:
        mine = balanced.rows[label]
        assert weights[mine] / weights[mine].sum() == pytest.approx(balanced.chances[label])
    few, lighter = balanced.weighted(7, np.random.default_rng(0))
    assert len(few) == 7
    assert sorted(few.tolist()) == few.tolist()
    assert lighter[labels[few] == 0].sum() == pytest.approx(lighter[labels[few] == 1].sum())
