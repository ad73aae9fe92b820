"""Co-occurrences against a count by hand."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from assay.errors import RecipeError
from assay.image.view import View
from assay.judge.engine import Engine
from assay.learn.export import export
from assay.learn.nn.backbones import build
from assay.learn.nn.cooccurrence import classes
from assay.learn.recipe import Backbone
from assay.types import Pixels

SIDE = 24


def picture() -> Pixels:
    rng = np.random.default_rng(0)
    return np.clip(rng.normal(120, 2, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)


def counted(plane: npt.NDArray[np.float64], across: bool, step: float = 0.5) -> list[float]:
    """Shares of the classes of runs, sorted, by a loop over all places of a plane and of its transpose."""
    found: Counter[tuple[int, ...]] = Counter()
    total = 0
    for turned in (plane, plane.T):
        levels = np.clip(np.rint((turned[:, 1:] - turned[:, :-1]) / step), -2, 2).astype(int)
        lines = levels.T if across else levels
        for line in lines:
            for start in range(len(line) - 3):
                run = tuple(line[start : start + 4].tolist())
                same = [run, run[::-1], tuple(-x for x in run), tuple(-x for x in run[::-1])]
                found[min(same)] += 1
                total += 1
    return sorted(count / total for count in found.values())


@pytest.mark.parametrize(("place", "row", "across"), [(0, 1, False), (1, 1, True), (2, 2, False), (3, 2, True)])
def test_it_counts_what_a_loop_counts(place: int, row: int, across: bool) -> None:
    mix = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    plane = picture().astype(np.float64) @ mix[row]
    trunk = build(Backbone(name="cooccurrence"), SIDE)
    embedding = trunk(torch.from_numpy(View(size=SIDE).tensor(picture()[None])))[0]
    assert embedding.shape == (881,)
    shares = embedding[:845].reshape(5, 169)[place].double().square().numpy()
    expected = counted(plane, across)
    there = np.sort(shares)[-len(expected) :]
    assert there == pytest.approx(expected, abs=2e-3)
    assert shares.sum() == pytest.approx(1, abs=1e-3)


def test_a_transposed_picture_gives_the_same() -> None:
    trunk = build(Backbone(name="cooccurrence"), SIDE)
    first = trunk(torch.from_numpy(View(size=SIDE).tensor(picture()[None])))
    second = trunk(torch.from_numpy(View(size=SIDE).tensor(np.ascontiguousarray(picture().transpose(1, 0, 2))[None])))
    assert torch.allclose(first, second, atol=1e-4)


def test_runs_that_are_mirrored_or_negative_are_one_class() -> None:
    kinds = classes()
    assert kinds.shape == (625,)
    assert sorted(set(kinds.tolist())) == list(range(169))
    number = {run: index for index, run in enumerate(itertools.product(range(5), repeat=4))}
    for run in [(0, 1, 2, 3), (4, 4, 0, 2)]:
        same = (run, run[::-1], tuple(4 - x for x in run), tuple(4 - x for x in run[::-1]))
        assert len({kinds[number[one]] for one in same}) == 1
    assert kinds[number[0, 1, 2, 3]] != kinds[number[0, 1, 3, 2]]


def test_runs_of_the_luma_residual_are_counted_too() -> None:
    trunk = build(Backbone(name="cooccurrence", fields={"colour": 0, "moments": False}), SIDE)
    embedding = trunk(torch.from_numpy(View(size=SIDE).tensor(picture()[None])))[0]
    luma = picture().astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    kernel = np.array([[-1, 2, -1], [2, -4, 2], [-1, 2, -1]])
    windows = np.lib.stride_tricks.sliding_window_view(luma, (3, 3))
    levels = np.clip(np.rint((windows * kernel).sum((2, 3)) / 4), -2, 2).astype(int) + 2
    kinds, counts = classes(), np.zeros(169)
    for lines in (levels, levels.T):
        for line in lines:
            for start in range(len(line) - 3):
                a, b, c, d = line[start : start + 4].tolist()
                counts[kinds[125 * a + 25 * b + 5 * c + d]] += 1
    assert embedding.double().square().numpy() == pytest.approx(counts / counts.sum(), abs=2e-3)


def test_moments_follow_the_strength_of_noise_at_each_scale() -> None:
    trunk = build(Backbone(name="cooccurrence", fields={"colour": 0, "luma": 0}), 64)
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, (64, 64, 3))
    calm, loud = (np.clip(np.rint(128 + sigma * noise), 0, 255).astype(np.uint8) for sigma in (2, 8))
    first, second = (trunk(torch.from_numpy(View(size=64).tensor(one[None])))[0] for one in (calm, loud))
    assert first.shape == (36,)
    roots = [number for scale in range(4) for number in range(9 * scale, 9 * scale + 3)]
    assert (second - first)[roots].numpy() == pytest.approx(np.log(4), abs=0.15)


@pytest.mark.parametrize(("height", "width"), [(96, 96), (70, 100)])
def test_what_is_counted_is_told_apart_by_cells_of_32_px(height: int, width: int) -> None:
    calm = np.full((height, width, 3), 120, np.uint8)
    noisy = calm.copy()
    noisy[40:58, 72:90] = np.random.default_rng(0).integers(0, 256, (18, 18, 3))
    trunk = build(Backbone(name="cooccurrence"), SIDE)
    calm_map, noisy_map = (trunk.features(torch.from_numpy(View(size=SIDE).tensor(one[None]))) for one in (calm, noisy))
    assert noisy_map.shape == (1, 881, -(-height // 32), -(-width // 32))
    # Runs, and the moments at full size; at an eighth a residual reaches 8 px into the next cell.
    changed = (noisy_map - calm_map)[0, : 845 + 9].abs()
    assert (changed[:, 1, 2] > 1e-6).sum() > 100
    changed[:, 1, 2] = 0
    assert float(changed.max()) < 1e-6
    # The shares of a view are the sum over its cells.
    assert noisy_map[0, :845].reshape(5, 169, -1).sum((1, 2)).numpy() == pytest.approx(np.ones(5), abs=1e-4)


def test_it_looks_at_pixels_alone() -> None:
    with pytest.raises(RecipeError, match=r"set backbone\.front to pixels"):
        build(Backbone(name="cooccurrence", front="residual"), SIDE)


def test_its_graph_takes_any_number_of_views(tmp_path: Path) -> None:
    trunk = build(Backbone(name="cooccurrence"), SIDE)
    for name, content in export(trunk, SIDE, "a", "fp16").items():
        (tmp_path / name).write_bytes(content)
    engine = Engine(tmp_path, "a", device="cpu")
    for views in (1, 3):
        shown = View(size=SIDE).tensor(np.stack([picture()[::-1]] * views))
        assert engine.run(shown) == pytest.approx(trunk(torch.from_numpy(shown)).numpy(), abs=1e-4)
