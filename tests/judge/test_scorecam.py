"""Score-CAM on exported graphs, against the paper's algorithm written out in torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.nn import functional

from assay.judge.engine import Engine
from assay.judge.heads import LinearHead
from assay.judge.scorecam import Toward, ask, enlarged, scaled
from assay.learn.export import export
from assay.learn.nn.backbones import Trunk, build
from assay.learn.recipe import Backbone

NETWORKS = {
    "trace_cnn": Backbone(name="trace_cnn", front="both", fields={"widths": (8, 16, 24), "blocks": (1, 1)}),
    "test_vit": Backbone(name="test_vit"),
}
SIZE = 48


@pytest.fixture(scope="module", params=list(NETWORKS))
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Any:
    """A trunk in torch, its engine, a head and three views."""
    torch.manual_seed(5)
    trunk = build(NETWORKS[request.param], SIZE)
    with torch.no_grad():
        for parameter in trunk.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    trunk.eval()
    folder = tmp_path_factory.mktemp(request.param)
    for name, content in export(trunk, SIZE, "t", "fp32").items():
        (folder / name).write_bytes(content)
    rng = np.random.default_rng(2)
    head = LinearHead(rng.standard_normal(trunk.dim), 0.3)
    views = rng.standard_normal((3, 3, SIZE, SIZE)).astype(np.float32)
    return trunk, Engine(folder, "t", threads=1, device="cpu"), head, views


def by_the_paper(trunk: Trunk, head: LinearHead, view: npt.NDArray[np.float32], sign: int, count: int) -> Any:
    """Algorithm 1 for one view, channel by channel: the map at the size of the features."""
    x = torch.from_numpy(view)[None]

    def score(batch: torch.Tensor) -> torch.Tensor:
        return sign * (trunk(batch).double() @ torch.from_numpy(head.weights) + head.bias)[0]

    with torch.no_grad():
        features = trunk.as_map(trunk.features(x), x)
        baseline = score(torch.zeros_like(x))
        order = features[0].var(dim=(1, 2)).argsort(descending=True)[:count]
        increases = []
        # A channel of a rectifier that is nowhere on masks nothing.
        order = order[[bool(features[0, channel].max() > features[0, channel].min()) for channel in order]]
        for channel in order:
            mask = functional.interpolate(
                features[:, channel, None], size=(SIZE, SIZE), mode="bilinear", align_corners=False
            )
            mask = (mask - mask.min()) / (mask.max() - mask.min())
            increases.append(score(x * mask) - baseline)
        weights = torch.stack(increases).softmax(0)
        return functional.relu((weights[:, None, None] * features[0, order]).sum(0)).numpy()


@pytest.mark.parametrize("toward", ["fake", "real"])
@pytest.mark.parametrize("channels", [None, 7])
def test_maps_are_those_of_the_paper(network: Any, toward: Toward, channels: int | None) -> None:
    trunk, engine, head, views = network
    features = engine.explain(views)["features"]
    masked = ask(engine, views, features, channels=channels)
    maps = masked.maps(head.raw, toward)
    alive = (np.ptp(features, axis=(2, 3)) > 0).sum(axis=1)
    assert np.bincount(masked.asked[:, 0]).tolist() == np.minimum(alive, channels or features.shape[1]).tolist()
    for view, found in zip(views, maps, strict=True):
        expected = by_the_paper(trunk, head, view, 1 if toward == "fake" else -1, channels or features.shape[1])
        assert expected.max() > 0.01
        assert np.abs(found - expected).max() < 1e-4


def test_what_speaks_for_real_is_something_else_than_what_speaks_for_fake(network: Any) -> None:
    _, engine, head, views = network
    masked = ask(engine, views, engine.explain(views)["features"])
    assert np.abs(masked.maps(head.raw, "fake") - masked.maps(head.raw, "real")).max() > 1e-3


@pytest.mark.parametrize("size", [(5, 7), (48, 31), (3, 2), (1, 1)])
def test_maps_are_enlarged_as_torch_does_it(size: tuple[int, int]) -> None:
    maps = np.random.default_rng(0).standard_normal((2, 4, 3, 5)).astype(np.float32)
    expected = functional.interpolate(torch.from_numpy(maps), size=size, mode="bilinear", align_corners=False)
    assert np.abs(enlarged(maps, *size) - expected.numpy()).max() < 1e-5


def test_scaled_maps_fill_the_range_and_flat_ones_are_empty() -> None:
    maps = np.stack([np.arange(6).reshape(2, 3) - 3, np.full((2, 3), 7)]).astype(np.float32)
    found = scaled(maps)
    assert (found[0].min(), found[0].max()) == (0, 1)
    assert not found[1].any()


class Counting:
    """An engine whose embedding is the mean of each channel of a view; it notes how many views came at a time."""

    crops = 4

    def __init__(self) -> None:
        self.batches: list[npt.NDArray[np.float32]] = []

    def run(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        self.batches.append(batch)
        return batch.mean(axis=(2, 3))


def features_of(*scales: float) -> npt.NDArray[np.float32]:
    """One view's features: channels that rise to the right, by so much."""
    return np.stack([scale * np.arange(4) * np.ones((4, 1)) for scale in scales])[None].astype(np.float32)


def test_channels_that_do_not_vary_are_never_asked_and_the_most_varying_ones_first() -> None:
    engine: Any = Counting()
    views = np.ones((1, 3, 8, 8), np.float32)
    features = features_of(1, 0, 3, 0.1, 2)
    assert ask(engine, views, features, channels=None).asked.tolist() == [[0, 0], [0, 2], [0, 3], [0, 4]]
    assert ask(engine, views, features, channels=2).asked.tolist() == [[0, 2], [0, 4]]


def test_masks_are_multiplied_with_the_view_and_no_batch_is_larger_than_the_engine_takes() -> None:
    engine: Any = Counting()
    views = np.stack([np.full((3, 8, 8), 2), np.full((3, 8, 8), -1)]).astype(np.float32)
    features = np.concatenate([features_of(1, 2, 3)] * 2)
    told: list[tuple[int, int]] = []
    masked = ask(engine, views, features, progress=lambda done, total: told.append((done, total)))
    assert [len(batch) for batch in engine.batches] == [4, 2]
    assert told == [(4, 6), (6, 6)]
    first = engine.batches[0]
    assert np.allclose(first[0, 0], 2 * scaled(enlarged(features[0, 0], 8, 8)))
    assert first[3].min() == -1
    assert masked.embeddings.shape == (6, 3)


def test_a_view_without_a_channel_that_varies_has_an_empty_map() -> None:
    engine: Any = Counting()
    features = np.concatenate([features_of(0, 0), features_of(0, 1)])
    masked = ask(engine, np.ones((2, 3, 8, 8), np.float32), features)
    maps = masked.maps(lambda rows: rows.sum(axis=1).astype(np.float64))
    assert not maps[0].any()
    assert maps[1].max() == 3
    nothing = ask(engine, np.ones((1, 3, 8, 8), np.float32), features_of(0))
    assert not nothing.maps(lambda rows: rows.sum(axis=1).astype(np.float64)).any()


def test_a_map_is_rectified() -> None:
    engine: Any = Counting()
    masked = ask(engine, np.ones((1, 3, 8, 8), np.float32), features_of(-1))
    assert masked.maps(lambda rows: rows.sum(axis=1).astype(np.float64)).max() == 0


def test_a_score_that_is_no_number_is_an_error_and_no_map() -> None:
    engine: Any = Counting()
    masked = ask(engine, np.ones((1, 3, 8, 8), np.float32), features_of(1, 2))
    with pytest.raises(ValueError, match="no finite number"):
        masked.maps(lambda rows: np.full(len(rows), np.nan))
