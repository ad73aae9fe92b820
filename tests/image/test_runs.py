"""Counts of runs against a loop over all places, in whole numbers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pydantic
import pytest

from assay.image.runs import MIX, Runs, classes, members, pixels
from assay.image.view import View
from assay.types import Pixels


def photograph(side: int = 24, seed: int = 0) -> Pixels:
    return np.clip(np.random.default_rng(seed).normal(120, 2, (side, side, 3)), 0, 255).astype(np.uint8)


def chequered(side: int = 16) -> Pixels:
    """The strongest contrasts there are, in each channel by itself."""
    place = np.indices((side, side)).sum(0)
    return (255 * np.stack([place % 2, place // 2 % 2, (place + 1) % 2], -1)).astype(np.uint8)


def by_hand(crop: Pixels, runs: Runs) -> npt.NDArray[np.int64]:
    """(sets, 625): Python's own numbers, place by place."""
    planes = [[[sum(w * int(v) for w, v in zip(mix, px, strict=True)) for px in row] for row in crop] for mix in MIX]
    sets: list[list[list[list[float]]]] = []
    if runs.colour:
        for plane in planes[1:]:
            across = [[(b - a) / 64 / runs.colour for a, b in itertools.pairwise(row)] for row in plane]
            down = [
                [(b - a) / 64 / runs.colour for a, b in zip(one, two, strict=True)]
                for one, two in itertools.pairwise(plane)
            ]
            sets += [[across, list(zip(*down, strict=True))], [down, list(zip(*across, strict=True))]]
    if runs.luma:
        kernel = ((-1, 2, -1), (2, -4, 2), (-1, 2, -1))
        height, width = crop.shape[0] - 2, crop.shape[1] - 2
        residual = [
            [
                sum(kernel[i][j] * planes[0][y + i][x + j] for i in range(3) for j in range(3)) / 16 / runs.luma
                for x in range(width)
            ]
            for y in range(height)
        ]
        sets.append([residual, list(zip(*residual, strict=True))])
    counts = np.zeros((len(sets), 625), np.int64)
    for number, lines in enumerate(sets):
        for line in itertools.chain(*lines):
            # Python rounds halves to the even number too.
            level = [max(-2, min(2, round(value))) + 2 for value in line]
            for a, b, c, d in zip(level, level[1:], level[2:], level[3:], strict=False):
                counts[number, 125 * a + 25 * b + 5 * c + d] += 1
    return counts


def crops() -> Iterator[Pixels]:
    yield photograph()
    yield chequered()
    yield np.random.default_rng(1).integers(0, 256, (12, 17, 3), dtype=np.uint8)
    yield np.repeat(photograph()[..., :1], 3, -1)  # grey: residuals of luma are whole levels, and many lie on a half


@pytest.mark.parametrize("runs", [Runs(), Runs(colour=0), Runs(luma=0), Runs(colour=0.328125, luma=1.0625)])
def test_it_counts_what_a_loop_counts(runs: Runs) -> None:
    for crop in crops():
        assert np.array_equal(runs.count(crop[None])[0], by_hand(crop, runs))


def test_crops_are_counted_apart_however_many_there_are() -> None:
    many = np.stack([photograph(16, seed) for seed in range(9)])
    alone = np.concatenate([Runs().count(one[None]) for one in many])
    assert np.array_equal(Runs().count(many), alone)
    assert len(np.unique(alone.reshape(9, -1), axis=0)) == 9


def test_turning_and_mirroring_change_nothing() -> None:
    for crop in crops():
        first = Runs().embedding(Runs().count(crop[None]))
        for other in (crop[::-1], crop[:, ::-1], crop.transpose(1, 0, 2)):
            assert np.array_equal(Runs().embedding(Runs().count(np.ascontiguousarray(other)[None])), first)


def test_the_embedding_is_roots_of_shares() -> None:
    runs = Runs()
    embedding = runs.embedding(runs.count(photograph()[None]))
    assert embedding.shape == (1, runs.width) == (1, 845)
    assert embedding.dtype == np.float32
    shares = np.square(embedding.astype(np.float64)).reshape(5, 169)
    assert shares.sum(1) == pytest.approx(np.ones(5), abs=1e-6)
    counts = runs.count(photograph()[None])[0]
    merged = np.stack([np.bincount(classes(), counts[number], 169) for number in range(5)])
    assert shares == pytest.approx(merged / merged.sum(1, keepdims=True), abs=1e-6)


def test_runs_that_are_mirrored_or_negative_are_one_class() -> None:
    kinds = classes()
    assert kinds.shape == (625,)
    assert sorted(set(kinds.tolist())) == list(range(169))
    number = {run: index for index, run in enumerate(itertools.product(range(5), repeat=4))}
    for run in [(0, 1, 2, 3), (4, 4, 0, 2)]:
        same = (run, run[::-1], tuple(4 - x for x in run), tuple(4 - x for x in run[::-1]))
        assert len({kinds[number[one]] for one in same}) == 1
    assert kinds[number[0, 1, 2, 3]] != kinds[number[0, 1, 3, 2]]
    assert sorted(run for row in members().tolist() for run in row if run < 625) == list(range(625))


def test_a_view_gives_its_pixels_back() -> None:
    every = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    shown = np.concatenate([every, np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)])
    assert np.array_equal(pixels(View(size=16).tensor(shown)), shown)


@pytest.mark.parametrize("steps", [{"colour": 0.3}, {"luma": 0.1}, {"colour": -1}, {"luma": 256}, {"colour": "nan"}])
def test_steps_are_whole_in_their_units(steps: dict[str, object]) -> None:
    with pytest.raises(pydantic.ValidationError):
        Runs.model_validate(steps)
