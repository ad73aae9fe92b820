"""That a map means something: on a network that was taught to find a patch, maps lie on it.

Reals are soft colours under a little noise; a fake has a patch of a fine texture at a random place. The checks are
those of Adebayo et al., "Sanity Checks for Saliency Maps" (NeurIPS 2018: a network with random weights must give
another map) and of Petsiuk et al., "RISE" (BMVC 2018: what a map marks must matter, the deletion curve).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torch.nn import functional

import assay
from assay.image.view import View
from assay.judge.explain import explain
from assay.judge.heads import LinearHead
from assay.learn.export import export
from assay.learn.nn.backbones import Trunk, build
from assay.learn.recipe import Backbone
from assay.types import Pixels

SIZE, PATCH = 64, 20
NETWORK = Backbone(name="trace_cnn", front="both", fields={"widths": (12, 16, 24), "blocks": (1, 1)})
GREY = np.array([124, 116, 104])
"""The colour that normalised zeros stand for."""


def made(seed: int, patch: tuple[int, int] | None = None, side: int = SIZE) -> Pixels:
    """A picture of `side` px, with a patch whose upper left corner is at (row, column)."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(60, 180, (5, 5, 3), dtype=np.uint8))
    pixels = np.array(coarse.resize((side, side), Image.Resampling.BICUBIC)).astype(np.int64)
    pixels += rng.integers(-6, 7, pixels.shape)
    if patch is not None:
        row, column = patch
        pixels[row : row + PATCH : 2, column : column + PATCH : 2] += 40
    return np.clip(pixels, 0, 255).astype(np.uint8)


def place(seed: int, side: int = SIZE) -> tuple[int, int]:
    row, column = np.random.default_rng((seed, 1)).integers(0, side - PATCH, 2).tolist()
    return row, column


Made = tuple[dict[str, bytes], LinearHead, int]


def exported(trunk: Trunk, last: torch.nn.Linear) -> Made:
    head = LinearHead(last.weight[0].detach().numpy(), float(last.bias.item()))
    return export(trunk, SIZE, "tiny", "fp32"), head, trunk.dim


@pytest.fixture(scope="module")
def networks(one_thread: None) -> dict[str, Made]:
    """A network with random weights, and the same after it was taught."""
    torch.manual_seed(0)
    trunk = build(NETWORK, SIZE)
    last = torch.nn.Linear(trunk.dim, 1)
    # Statistics of a fresh network: those of the pictures.
    view = View(size=SIZE)
    count = 160
    pictures = np.stack([made(seed, place(seed) if seed % 2 else None) for seed in range(count)])
    views, labels = torch.from_numpy(view.tensor(pictures)), torch.arange(count) % 2
    trunk.train()
    with torch.no_grad():
        for _ in range(5):
            trunk(views[:64])
    found = {"random": exported(trunk, last)}
    optimiser = torch.optim.AdamW([*trunk.parameters(), *last.parameters()], lr=3e-3)
    for _ in range(8):
        for rows in torch.randperm(count).split(32):
            loss = functional.binary_cross_entropy_with_logits(last(trunk(views[rows]))[:, 0], labels[rows].float())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    found["taught"] = exported(trunk.eval(), last)
    return found


@pytest.fixture
def detectors(networks: dict[str, Made], parts: Any, tmp_path: Path) -> dict[str, assay.Detector]:
    """Detectors of both networks; a picture is shown in crops of 64 px, at most 3 × 3."""
    found = {}
    for name, (files, head, width) in networks.items():
        view = View(size=SIZE, layout="grid", across=3)
        card = parts.card.streams[0].model_copy(update={"view": view, "embedding": width})
        parts.card = parts.card.model_copy(update={"streams": (card,)})
        parts.files, parts.heads = dict(files), {"grey": head}
        found[name] = assay.load(parts.write(tmp_path / name).folder, threads=1, device="cpu")
    return found


def raw(detector: assay.Detector, pixels: Pixels) -> float:
    view = detector.streams[0].view
    return float(detector.raw("grey", detector.engine("grey").run(view.tensor(view.crops(pixels)))).mean())


SEEDS = range(1001, 1013)


@pytest.fixture
def maps(detectors: dict[str, assay.Detector]) -> dict[str, list[Any]]:
    """Of fakes that neither network has met."""
    return {
        name: [explain(detector, made(seed, place(seed))).map for seed in SEEDS] for name, detector in detectors.items()
    }


def test_the_taught_network_tells_what_it_never_met(detectors: dict[str, assay.Detector]) -> None:
    reals = [raw(detectors["taught"], made(seed)) for seed in SEEDS]
    fakes = [raw(detectors["taught"], made(seed, place(seed))) for seed in SEEDS]
    assert max(reals) < min(fakes)


def test_maps_lie_on_the_patch_and_those_of_random_weights_less_often(maps: dict[str, list[Any]]) -> None:
    hits = dict.fromkeys(maps, 0)
    for name, found in maps.items():
        for seed, map in zip(SEEDS, found, strict=True):
            row, column = np.unravel_index(np.argmax(map), map.shape)
            top, left = place(seed)
            # A cell of the feature map is 8 px, so a peak may lie half of one beside it.
            hits[name] += top - 4 <= row < top + PATCH + 4 and left - 4 <= column < left + PATCH + 4
    assert hits["taught"] >= len(SEEDS) - 1
    assert hits["random"] <= hits["taught"] - 3


def test_with_random_weights_the_map_is_another(maps: dict[str, list[Any]]) -> None:
    alike = [
        stats.spearmanr(one.ravel(), other.ravel()).statistic
        for one, other in zip(maps["taught"], maps["random"], strict=True)
    ]
    assert np.mean(alike) < 0.5


def area(detector: assay.Detector, pixels: Pixels, order: Any) -> float:
    """Under the deletion curve: the mean raw score while pixels give way to grey in that order, over its first."""
    ranks = np.argsort(np.argsort(-order.ravel(), kind="stable")).reshape(order.shape)
    scores = []
    for share in np.linspace(0, 0.5, 6):
        left = pixels.copy()
        left[ranks < share * ranks.size] = GREY
        scores.append(raw(detector, left))
    return float(np.mean(scores) - scores[0])


def test_taking_away_what_the_map_marks_lowers_the_score_faster_than_anything_else(
    detectors: dict[str, assay.Detector], maps: dict[str, list[Any]]
) -> None:
    found: dict[str, list[float]] = {"map": [], "random": [], "middle": [], "last": []}
    rows, columns = np.mgrid[:SIZE, :SIZE]
    middle = -np.hypot(rows - SIZE / 2, columns - SIZE / 2)
    for seed, map in zip(SEEDS, maps["taught"], strict=True):
        # Cells of 8 px, as fine as the map, so that chance makes no texture of its own.
        cells = np.random.default_rng(seed).permutation(64).reshape(8, 8)
        orders = {"map": map, "random": np.kron(cells, np.ones((8, 8))), "middle": middle, "last": -map}
        for name, order in orders.items():
            found[name].append(area(detectors["taught"], made(seed, place(seed)), order))
    means = {name: np.mean(areas) for name, areas in found.items()}
    assert means["map"] < 0
    for other in ("random", "middle", "last"):
        assert means["map"] < means[other]
        # Picture by picture, not by a few of them.
        assert np.mean(np.less(found["map"], found[other])) >= 0.75


def test_a_patch_in_a_large_real_picture_is_where_the_tiles_are_most_fake(detectors: dict[str, assay.Detector]) -> None:
    side = 3 * SIZE
    for seed in range(1101, 1107):
        tile = seed % 9
        row, column = (SIZE * (tile // 3) + place(seed)[0], SIZE * (tile % 3) + place(seed)[1])
        [look] = explain(detectors["taught"], made(seed, (row, column), side), channels=4).streams
        assert int(np.argmax(look.scores)) == tile
        assert look.tiles is not None
        assert look.tiles[row, column] == look.tiles.max()
