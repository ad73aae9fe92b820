"""The temporal head: missing frames do not matter, flicker is seen, and nobody is in fit and test at once."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import assay
from assay import metrics
from assay.errors import BundleError, ManifestError, OverlapError, RecipeError
from assay.image.faces import Face
from assay.image.view import View
from assay.judge import detector as judging
from assay.learn import temporal
from assay.learn.temporal import Embedded, Learning, Temporal, compare, embed, fit, joined, split
from assay.measure import folds as folding
from assay.measure.clips import aggregate
from assay.measure.paired import delong
from assay.types import Box, Label, Sample

QUICK = Learning(steps=60, every=20, decays=(0.01,), ridges=(1.0, 100.0), folds=3)
DIM = 6


def clips(
    count: int = 48, *, shift: float = 0.0, flicker: float = 0.0, missing: float = 0.2, seed: int = 0
) -> Embedded:
    """Clips of twelve people, real and fake in turn; of a fake one number is higher by `shift` in all frames, and goes
    up and down by `flicker` from frame to frame."""
    random = np.random.default_rng(seed)
    labels = (np.arange(count) % 2).astype(np.int8)
    people = np.arange(count) // 2 % 12
    looks = random.normal(size=(12, DIM))
    vectors = looks[people][:, None] + 0.3 * random.normal(size=(count, 10, DIM))
    vectors[:, :, 0] += labels[:, None] * (shift + flicker * (-1.0) ** np.arange(10))
    there = random.random((count, 10)) >= missing
    there[:, 0] = True
    return Embedded(
        vectors=np.where(there[:, :, None], vectors, 0).astype(np.float32),
        there=there,
        labels=labels,
        people=tuple(f"id{who}" for who in people.tolist()),
        names=tuple(f"clip {number}" for number in range(count)),
        own=np.where(there, vectors[:, :, 0], np.nan),
    )


# ── the head ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def head() -> Temporal:
    torch.manual_seed(0)
    return Temporal(DIM).eval()


def logits(head: Temporal, vectors: Any, there: Any) -> Any:
    with torch.no_grad():
        return head(torch.as_tensor(vectors, dtype=torch.float32), torch.as_tensor(there)).numpy()


def test_what_stands_where_a_frame_is_missing_does_not_matter(head: Temporal) -> None:
    some = clips()
    head.standardise(torch.from_numpy(some.vectors), torch.from_numpy(some.there))
    plain = logits(head, some.vectors, some.there)
    filled = np.where(some.there[:, :, None], some.vectors, 1e6)
    np.testing.assert_array_equal(logits(head, filled, some.there), plain)
    longer = np.pad(filled, [(0, 0), (0, 5), (0, 0)])
    np.testing.assert_allclose(logits(head, longer, np.pad(some.there, [(0, 0), (0, 5)])), plain, atol=1e-5)


def test_no_slope_comes_of_frames_that_are_missing() -> None:
    some = clips()
    head = Temporal(DIM)
    head(
        torch.from_numpy(np.where(some.there[:, :, None], some.vectors, np.nan)), torch.from_numpy(some.there)
    ).sum().backward()
    assert all(torch.isfinite(part.grad).all() for part in head.parameters() if part.grad is not None)


def test_clips_of_one_batch_do_not_hear_of_each_other(head: Temporal) -> None:
    some = clips()
    whole = logits(head, some.vectors, some.there)
    np.testing.assert_allclose(logits(head, some.vectors[3:4], some.there[3:4]), whole[3:4], atol=1e-5)


def test_the_order_of_frames_matters(head: Temporal) -> None:
    some = clips(missing=0.0)
    back = np.ascontiguousarray(some.vectors[:, ::-1])
    assert not np.allclose(logits(head, back, some.there), logits(head, some.vectors, some.there))


def test_a_clip_of_one_frame_has_a_logit_and_a_slope() -> None:
    head = Temporal(DIM)
    loss = head(torch.randn(2, 1, DIM), torch.ones(2, 1, dtype=torch.bool)).sum()
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(part.grad).all() for part in head.parameters() if part.grad is not None)


def test_numbers_are_measured_by_the_frames_that_are_there() -> None:
    some = clips()
    head = Temporal(DIM)
    spoilt = np.where(some.there[:, :, None], some.vectors, 99)
    spoilt[:, :, 1] = 7
    head.standardise(torch.from_numpy(spoilt.astype(np.float32)), torch.from_numpy(some.there))
    frames = some.vectors[some.there]
    assert head.mean[0] == pytest.approx(frames[:, 0].mean(), abs=1e-5)
    assert head.scale[0] == pytest.approx(frames[:, 0].std(), rel=1e-4)
    assert head.scale[1] == 1


# ── fitting ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_flicker_that_no_mean_shows_is_seen() -> None:
    told = compare(*split(clips(flicker=1.5, missing=0.0)), QUICK, rounds=50)
    assert told.auc["temporal"].value > 0.9
    assert told.auc["mean"].value < 0.8
    lead = told.difference["mean"]
    assert lead.value == pytest.approx(told.auc["temporal"].value - told.auc["mean"].value)
    assert 0 < lead.low <= lead.value <= lead.high


def test_what_every_frame_shows_both_heads_see() -> None:
    told = compare(*split(clips(shift=5.0)), QUICK, rounds=50)
    assert min(told.auc["temporal"].value, told.auc["mean"].value, told.auc["own"].value) > 0.9


def test_no_person_stands_in_two_folds_and_the_folds_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    some = clips(shift=1.0)
    asked: list[tuple[str, ...]] = []
    plain = folding.by_source

    def noting(labels: Any, sources: Any, **options: Any) -> Any:
        asked.append(tuple(sources))
        return plain(labels, sources, **options)

    monkeypatch.setattr(temporal, "by_source", noting)
    fitted = fit(some, QUICK)
    assert asked == [some.people]
    assert fitted.chosen.folds == "3 folds, whole sources in one fold"
    assert fitted.chosen.steps in (20, 40, 60)
    # Of labels that nothing tells, the shortest training and the strongest ridge do the least harm.
    nothing = fit(clips(), dataclasses.replace(QUICK, rate=0.02)).chosen
    assert (nothing.steps, nothing.ridge) == (20, 100.0)
    assert nothing.loss > fitted.chosen.loss


def test_what_the_folds_choose_is_what_does_best_on_people_left_out() -> None:
    some = clips(shift=0.7)
    folds = folding.by_source(some.labels, some.people, most=3)
    losses = {}
    for ridge in QUICK.ridges:
        total = 0.0
        for fold in range(folds.count):
            others, held = (some.take(np.flatnonzero(part)) for part in (folds.number != fold, folds.number == fold))
            one = fit_linear(others, ridge)
            means = [one.predict(row[known]).mean() for row, known in zip(held.vectors, held.there, strict=True)]
            right = np.where(held.labels == 1, means, 1 - np.array(means))
            total += len(held) / len(some) * (-np.log(right)).mean()
        losses[ridge] = total
    chosen = fit(some, QUICK).chosen
    assert chosen.ridge == min(losses, key=losses.__getitem__)
    assert chosen.linear_loss == pytest.approx(min(losses.values()))


def fit_linear(some: Embedded, ridge: float) -> Any:
    from assay.measure import logistic

    return logistic.fit(some.vectors[some.there], np.repeat(some.labels, some.there.sum(axis=1)), ridge=ridge)


def test_the_same_seed_gives_the_same_heads_and_leaves_the_process_s_generator_alone() -> None:
    some = clips(shift=1.0)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = fit(some, QUICK, seed=4).scores(some)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    second = fit(some, QUICK, seed=4).scores(some)
    for name, scores in first.items():
        np.testing.assert_array_equal(second[name], scores)
    assert not np.array_equal(fit(some, QUICK, seed=5).scores(some)["temporal"], first["temporal"])


def test_the_linear_head_s_frames_are_put_together_as_clips_are() -> None:
    some = clips(shift=1.0)
    fitted = fit(some, QUICK)
    scores = fitted.scores(some, top=2)
    for row in (0, 7):
        frames = fitted.linear.predict(some.vectors[row][some.there[row]])
        for way in temporal.WAYS:
            assert scores[way][row] == pytest.approx(aggregate(frames, way, 2))


def test_few_clips_and_numbers_that_do_not_hold_are_refused() -> None:
    with pytest.raises(ManifestError, match="two or more of each class"):
        fit(clips().take(np.array([0, 2, 4, 1])), QUICK)
    for bad in ({"steps": 5}, {"rate": 0.0}, {"folds": 1}, {"decays": ()}, {"ridges": (0.0,)}):
        with pytest.raises(RecipeError):
            dataclasses.replace(QUICK, **bad)
    with pytest.raises(RecipeError, match="no middle"):
        Temporal(DIM, kernel=4)


# ── comparing ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_people_are_met_once_or_the_comparison_is_refused() -> None:
    some = clips()
    first, second = split(some, 0.5, seed=3)
    assert len(set(first.people)) == len(set(second.people)) == 6
    assert not set(first.people) & set(second.people)
    assert sorted(first.names + second.names) == sorted(some.names)
    with pytest.raises(OverlapError, match="8 of 48 clips") as caught:
        compare(first.take(np.arange(4)), some, QUICK)
    assert set(caught.value.rows) <= set(some.names)


def test_what_is_compared_are_the_scores_of_both_heads_on_the_same_clips() -> None:
    first, second = split(clips(shift=0.7))
    told = compare(first, second, QUICK, rounds=100, seed=2)
    scores = fit(first, QUICK, seed=2).scores(second)
    for name, found in scores.items():
        assert told.auc[name].value == metrics.auc(second.labels, found)
    assert told.delong["top"] == delong(second.labels, scores["top"], scores["temporal"])
    assert told.difference["top"].low <= told.difference["top"].value <= told.difference["top"].high
    assert set(told.difference) == {*temporal.WAYS, "own"}
    assert (told.n_real, told.n_fake, told.fitted) == (12, 12, (12, 12))
    line = json.loads(json.dumps(told.to_dict(), allow_nan=False))
    assert set(line["auc"]) == {*temporal.WAYS, "temporal", "own"}
    assert line["chosen"]["folds"].startswith("3 folds")


def test_clips_of_several_sets_are_joined_though_some_are_shorter() -> None:
    some = clips()
    short = dataclasses.replace(
        some, vectors=some.vectors[:, :4], there=some.there[:, :4], own=some.own[:, :4], people=("x",) * len(some)
    )
    both = joined([short, some])
    assert both.vectors.shape == (96, 10, DIM)
    assert not both.there[:48, 4:].any()
    np.testing.assert_array_equal(both.vectors[48:], some.vectors)
    assert both.people[0] == "x"
    with pytest.raises(ValueError, match="without a frame"):
        dataclasses.replace(some, there=np.zeros_like(some.there))


# ── embedding ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def frames(flat: Callable[..., Any], tmp_path: Path) -> list[Sample]:
    """Two clips of three frames, as files; the second frame of the first is torn, a further crop is of the third."""
    samples = []
    for number, grey in enumerate((30, 60, 90, 180, 200, 220)):
        place = tmp_path / f"{number}-00.png"
        Image.fromarray(flat(grey)).save(place)
        clip = number // 3
        samples.append(Sample(str(place), Label(clip), video=f"clip{clip}", frame=number % 3, subject=f"id{clip}+id7"))
    Path(samples[1].place).write_bytes(b"torn")
    crop = tmp_path / "2-01.png"
    Image.fromarray(flat(250)).save(crop)
    return [*samples, dataclasses.replace(samples[2], place=str(crop)), Sample(str(crop), None, video="clip0")]


def test_frames_keep_their_places_and_are_what_the_network_makes_of_them(
    detector: assay.Detector, frames: list[Sample]
) -> None:
    found = embed(detector, frames)
    assert found.there.tolist() == [[True, False, True], [True, True, True]]
    assert found.vectors.shape == (2, 3, 4)
    assert (found.labels.tolist(), found.people, found.names) == ([0, 1], ("id0", "id1"), ("clip0", "clip1"))
    for row, place, sample in ((0, 0, frames[0]), (0, 2, frames[2]), (1, 1, frames[4])):
        prepared = detector.prepare(sample.place)
        [embedding] = detector.embed_prepared([prepared]).values()
        np.testing.assert_allclose(found.vectors[row, place], embedding.mean(axis=0), rtol=1e-5)
        assert found.own[row, place] == pytest.approx(detector.raw("grey", embedding).mean(), rel=1e-5)
    assert found.vectors[0, 1].tolist() == [0] * 4
    assert np.isnan(found.own[0, 1])


def test_of_a_clip_s_faces_the_largest_counts_and_a_frame_without_one_is_missing(
    parts: Any, frames: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts.add("face", view=View(size=32, layout="faces", least=0, minimum=1))
    detector = assay.load(parts.write(tmp_path / "faces").folder, threads=1, device="cpu")
    marks = ((10.0, 10.0), (16.0, 10.0), (13.0, 13.0), (11.0, 16.0), (15.0, 16.0))
    small, large = Face(Box(2, 2, 26, 26), 0.9, marks), Face(Box(30, 10, 76, 56), 0.8, marks)

    def look(pixels: Any) -> tuple[Face, ...]:
        return (small, large) if pixels.mean() < 100 else (large,) if pixels.mean() < 190 else ()

    monkeypatch.setattr(judging, "look", look)
    found = embed(detector, frames, stream="face")
    assert found.there.tolist() == [[True, False, True], [True, False, False]]
    prepared = detector.prepare(frames[0].place)
    view = detector.streams[1].view
    [boxes] = prepared.boxes[view]
    largest = max(range(2), key=lambda place: boxes[place].width)
    crops = detector.embed_prepared([prepared])["tiny", view]
    np.testing.assert_allclose(found.vectors[0, 0], crops[largest], rtol=1e-5)


def test_clips_of_which_nothing_is_left_are_listed_and_none_at_all_is_an_error(
    detector: assay.Detector, frames: list[Sample], tmp_path: Path
) -> None:
    gone = Sample(str(tmp_path / "gone.mp4"), Label.REAL)
    found = embed(detector, [*frames, gone])
    [without] = found.without
    assert without.place == gone.place
    assert "no such file" in without.message
    with pytest.raises(ManifestError, match=r"of 1 labelled clips none could be embedded: .*no such file"):
        embed(detector, [gone])
    with pytest.raises(BundleError, match="no stream called 'gray'; did you mean grey"):
        embed(detector, frames, stream="gray")
