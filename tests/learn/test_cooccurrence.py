"""Co-occurrences against a count by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from assay.errors import RecipeError
from assay.image.runs import Runs
from assay.image.view import View
from assay.judge.engine import Engine
from assay.learn.export import export
from assay.learn.nn.backbones import build
from assay.learn.nn.network import network
from assay.learn.recipe import Backbone, Linear, Projection, Stream
from assay.learn.train import exported
from assay.types import Pixels

SIDE = 24
COUNTING = Backbone(name="cooccurrence", fields={"moments": False})


def picture() -> Pixels:
    rng = np.random.default_rng(0)
    return np.clip(rng.normal(120, 2, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("fields", [{}, {"colour": 0}, {"luma": 0}, {"colour": 0.328125, "luma": 1.0625}], ids=str)
def test_it_counts_what_is_counted_without_a_network(fields: dict[str, float]) -> None:
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    crops = np.stack([picture(), noise, np.repeat(picture()[..., :1], 3, -1)])
    trunk = build(Backbone(name="cooccurrence", fields=fields | {"moments": False}), SIDE)
    embedding = trunk(torch.from_numpy(View(size=SIDE).tensor(crops)))
    runs = Runs(**fields)
    assert trunk.runs == runs
    assert embedding.numpy() == pytest.approx(runs.embedding(runs.count(crops)), abs=1e-6)


def test_with_moments_or_a_neck_counting_is_not_all() -> None:
    assert build(Backbone(name="cooccurrence"), SIDE).runs is None
    assert network(Stream(name="a", view=View(size=SIDE), backbone=COUNTING, heads=(Linear(),))).runs == Runs()
    stream = Stream(name="a", view=View(size=SIDE), backbone=COUNTING, heads=(Linear(),), neck=Projection())
    assert network(stream).runs is None


def test_a_transposed_picture_gives_the_same() -> None:
    trunk = build(Backbone(name="cooccurrence"), SIDE)
    first = trunk(torch.from_numpy(View(size=SIDE).tensor(picture()[None])))
    second = trunk(torch.from_numpy(View(size=SIDE).tensor(np.ascontiguousarray(picture().transpose(1, 0, 2))[None])))
    assert torch.allclose(first, second, atol=1e-4)


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


def test_what_counts_otherwise_than_its_graph_is_not_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream(name="a", view=View(size=32), backbone=COUNTING, heads=(Linear(),))
    trunk = network(stream)
    _, engine, precision = exported(stream, trunk, tmp_path, "fp16")
    crops = np.random.default_rng(2).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    runs = Runs()
    assert precision == "fp16"
    assert np.array_equal(engine.embed(stream.view, crops), runs.embedding(runs.count(crops)))
    right = Runs.count

    def one_off(self: Runs, crops: Pixels) -> npt.NDArray[np.int64]:
        counts = right(self, crops)
        counts[:, 0, 0] += 1
        return counts

    monkeypatch.setattr(Runs, "count", one_off)
    with pytest.raises(RecipeError, match=r"the exported graph of a differs from torch by"):
        exported(stream, trunk, tmp_path, "fp16")
