"""A bundle as a torch module: the detector's scores, and the gradient they have."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from assay.errors import AssayError, BundleError, MissingExtra
from assay.image.view import View
from assay.judge import bundle
from assay.judge.detector import Detector
from assay.judge.engine import Engine
from assay.judge.heads import LinearHead, MLPHead, NearestHead
from assay.judge.rule import Judge, pool
from assay.learn.export import export
from assay.learn.mirror import Mirror, Views, layers, pooled, trunk
from assay.learn.nn.backbones import build
from assay.learn.recipe import Backbone
from assay.types import Pixels

NETWORKS = {
    "trace_cnn": (Backbone(name="trace_cnn", front="both", fields={"widths": (8, 16, 24), "blocks": (1, 1)}), 48),
    "test_vit": (Backbone(name="test_vit"), 48),
    "eva02": (Backbone(name="eva02_tiny_patch14_224", fields={"embed_dim": 48, "depth": 2, "num_heads": 3}), 56),
}

SHIPPED = [folder for folder in bundle.installed() if folder.parent.name == "bundles"]


def noise(seed: int, height: int, width: int, low: int = 0, high: int = 256) -> Pixels:
    return np.random.default_rng(seed).integers(low, high, (height, width, 3), dtype=np.uint8)


def batch(*pictures: Pixels) -> torch.Tensor:
    """Pictures of one size as a mirror takes them."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


def both(folder: Path, *pictures: Pixels, **choice: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """P(fake) of pictures by the mirror, and by the detector."""
    read = bundle.read(folder)
    detector = Detector(read, threads=1, device="cpu", **choice)
    scores = [detector.judge(picture).score for picture in pictures]
    return Mirror(read, **choice)(batch(*pictures)).numpy(), np.array(scores, np.float64)


# ── the trunk ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module", params=[*NETWORKS, "trace_cnn fp32"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """The graphs of a network whose norms have seen a batch, and the side of its views."""
    name, _, precision = request.param.partition(" ")
    backbone, size = NETWORKS[name]
    torch.manual_seed(0)
    made = build(backbone, size).train()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        made(torch.randn(8, 3, size, size))
    folder = tmp_path_factory.mktemp(name)
    for file, content in export(made.eval(), size, "t", precision or "fp16").items():
        (folder / file).write_bytes(content)
    return folder, size


def test_a_trunk_gives_what_the_engine_gives_for_any_batch(exported: tuple[Path, int]) -> None:
    folder, size = exported
    made, engine = trunk(folder, "t"), Engine(folder, "t", threads=1, device="cpu")
    for count in (1, 3, 5):
        views = np.random.default_rng(count).standard_normal((count, 3, size, size)).astype(np.float32)
        expected = engine.run(views)
        found = made(torch.from_numpy(views)).numpy()
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_a_trunk_s_gradient_is_the_engine_s_slope(exported: tuple[Path, int]) -> None:
    folder, size = exported
    made, engine = trunk(folder, "t"), Engine(folder, "t", threads=1, device="cpu")
    views = np.random.default_rng(0).standard_normal((1, 3, size, size)).astype(np.float32)
    given = torch.from_numpy(views).requires_grad_()
    made(given).sum().backward()
    assert given.grad is not None
    gradient = given.grad.numpy()
    step = (0.02 * gradient / np.linalg.norm(gradient)).astype(np.float32)
    rise = engine.run(views + step).astype(np.float64).sum() - engine.run(views - step).astype(np.float64).sum()
    assert rise == pytest.approx(float((gradient * 2 * step).sum()), rel=0.05)


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_a_shipped_detector_counts_and_is_refused(folder: Path) -> None:
    assert "counts" in refusal(lambda: Mirror(bundle.read(folder)))


def test_a_graph_that_is_none_or_has_an_operator_of_its_own_makes_no_trunk(tmp_path: Path) -> None:
    (tmp_path / "t.judge.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(BundleError, match=r"t\.judge\.onnx can't be made a torch module") as caught:
        trunk(tmp_path, "t")
    assert caught.value.kind == "invalid"


def test_without_the_library_the_extra_is_named(bundle_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx2pytorch", None)
    with pytest.raises(MissingExtra, match=r"assay\[attack\]"):
        Mirror(bundle.read(bundle_folder))


# ── the whole ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("layout", ["grid", "centre"])
@pytest.mark.parametrize("size", [(64, 80), (20, 90), (17, 16), (32, 32)])
@pytest.mark.parametrize("how", ["mean", "median", "top", "max"])
def test_crops_mirrored_edges_pooling_and_calibration_are_the_detector_s(
    parts: Any, tmp_path: Path, layout: Any, size: tuple[int, int], how: Any
) -> None:
    # Streams differ where crops and edges do: pictures are noise of a level that changes across them.
    [card], rule = parts.card.streams, parts.judge.streams["grey"]
    view = card.view.model_copy(update={"layout": layout})
    parts.card = parts.card.model_copy(update={"streams": (card.model_copy(update={"view": view}),)})
    changed = rule.model_copy(update={"pool": how, "slope": 0.7, "offset": 0.4})
    parts.judge = parts.judge.model_copy(update={"streams": {"grey": changed}})
    pictures = [np.sort(noise(seed, *size), axis=1) for seed in range(3)]
    found, expected = both(parts.write(tmp_path / "b").folder, *pictures)
    assert np.abs(found - expected).max() < 2e-6


@pytest.mark.parametrize("name", ["mean", "plain_mean", "best", "red"])
@pytest.mark.parametrize("side", [80, 40, 20])
def test_streams_vote_as_in_the_detector_also_where_some_do_not_apply(voters: Path, name: str, side: int) -> None:
    # From 60 px three streams apply, from 24 px two, below it "grey" alone.
    pictures = [noise(seed, side, side, 90, 160) // 40 * 40 for seed in range(3)]
    if side < 24 and name in ("best", "red"):
        with pytest.raises(ValueError, match="no stream applies: the picture is 20 x 20 px"):
            Mirror(bundle.read(voters), vote=name)(batch(*pictures))
        return
    found, expected = both(voters, *pictures, vote=name)
    assert np.abs(found - expected).max() < 2e-6
    assert 0.01 < expected.min() < expected.max() < 0.99


def test_an_ensemble_s_mean_without_a_slope_is_the_mean_of_scores(parts: Any, tmp_path: Path) -> None:
    parts.add("red")
    found, expected = both(parts.write(tmp_path / "b").folder, noise(0, 64, 64), noise(1, 64, 64, 0, 128))
    assert np.abs(found - expected).max() < 2e-6


def test_a_stream_has_its_own_part_of_an_embedding(parts: Any, tmp_path: Path) -> None:
    [card] = parts.card.streams
    card = card.model_copy(update={"part": (1, 3), "embedding": 2})
    parts.card = parts.card.model_copy(update={"streams": (card,)})
    parts.heads = {"grey": LinearHead(np.array([2.0, -3.0]), 0.1)}
    found, expected = both(parts.write(tmp_path / "b").folder, noise(0, 64, 64), noise(1, 64, 64, 0, 128))
    assert np.abs(found - expected).max() < 2e-6


@pytest.mark.parametrize("size", [(90, 61), (20, 27), (64, 33), (32, 32)])
def test_a_view_of_the_whole_is_resized_as_pillow_does_but_for_its_rounding(size: tuple[int, int]) -> None:
    view = View(size=32, layout="whole")
    picture = np.sort(noise(0, *size), axis=0)
    expected = view.tensor(view.crops(picture))
    given = batch(picture).requires_grad_()
    found = Views(view)(given)
    apart = np.abs(found[0].detach().numpy() - expected)
    # In levels of 0–255: each of Pillow's two passes rounds by half a level, and bicubic weights spread that.
    assert (255 * min(view.std) * apart).max() < (1.6 if size != (32, 32) else 1e-3)
    found.sum().backward()
    assert given.grad is not None
    assert bool((given.grad != 0).all())


@pytest.mark.parametrize("width", [25, 90])
def test_what_resizing_overshoots_is_cut_as_pillow_cuts_it(width: int) -> None:
    view = View(size=32, layout="whole")
    stripes = np.where(np.arange(width)[:, None] // 5 % 2, np.uint8(255), np.uint8(0))
    picture = np.broadcast_to(stripes, (32, width, 3))
    expected = view.tensor(view.crops(np.ascontiguousarray(picture)))
    found = Views(view)(batch(picture))[0].numpy()
    assert (255 * min(view.std) * np.abs(found - expected)).max() < 0.6


def test_the_gradient_reaches_every_sample_that_a_crop_shows_and_no_other(bundle_folder: Path) -> None:
    mirror = Mirror(bundle.read(bundle_folder))
    given = batch(noise(0, 32, 40), noise(1, 32, 40)).requires_grad_()
    mirror.log_odds(given)[0].backward()
    assert given.grad is not None
    # The head weighs the mean grey of the normalised crop by four; the one crop of 32 px lies at columns 4 to 36.
    slope = 4 / (3 * 32 * 32) / np.array([0.229, 0.224, 0.225])
    assert np.allclose(given.grad[0, :, :, 4:36].numpy(), slope[:, None, None], rtol=1e-5)
    assert not given.grad[0, :, :, :4].any()
    assert not given.grad[0, :, :, 36:].any()
    assert not given.grad[1].any()


def test_log_odds_do_not_saturate_where_the_probability_does(parts: Any, tmp_path: Path) -> None:
    parts.heads = {"grey": LinearHead(np.array([0, 0, 0, 400.0]), 0.0)}
    mirror = Mirror(bundle.read(parts.write(tmp_path / "b").folder))
    given = batch(noise(0, 32, 32, 200)).requires_grad_()
    odds = mirror.log_odds(given)
    assert float(odds.detach().sigmoid()) == 1.0
    odds.backward()
    assert given.grad is not None
    assert float(given.grad.abs().min()) > 0.1


def test_nothing_of_a_mirror_learns(bundle_folder: Path) -> None:
    mirror = Mirror(bundle.read(bundle_folder))
    assert not any(parameter.requires_grad for parameter in mirror.parameters())
    assert not mirror.training


# ── parts ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("how", ["mean", "median", "top", "max"])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_pooling_is_the_rule_s(how: Any, count: int) -> None:
    raws = np.random.default_rng(count).standard_normal((5, count))
    expected = [pool(row, how) for row in raws]
    assert np.allclose(pooled(torch.from_numpy(raws), how).numpy(), expected, rtol=1e-12)


def heads() -> dict[str, LinearHead | MLPHead]:
    rng = np.random.default_rng(0)
    widths = [6, 5, 4, 1]
    weights = tuple(rng.standard_normal((a, b)) for a, b in itertools.pairwise(widths))
    return {
        "linear": LinearHead(rng.standard_normal(6), 0.3),
        "mlp": MLPHead(weights, tuple(rng.standard_normal(width) for width in widths[1:])),
    }


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_a_head_s_layers_give_its_raw_scores(kind: str) -> None:
    head = heads()[kind]
    embedding = np.random.default_rng(1).standard_normal((9, 6))
    found = layers(head, "a")(torch.from_numpy(embedding)).squeeze(-1).detach().numpy()
    assert np.allclose(found, head.raw(embedding), rtol=1e-12)


# ── what has no gradient ─────────────────────────────────────────────────────────────────────────────────────────────


def refusal(make: Callable[[], object]) -> str:
    with pytest.raises(AssayError) as caught:
        make()
    assert caught.value.kind == "no_gradient"
    return str(caught.value)


def test_a_network_that_counts_is_refused(tmp_path: Path) -> None:
    for name, content in export(build(Backbone(name="cooccurrence"), 32), 32, "a", "fp16").items():
        (tmp_path / name).write_bytes(content)
    assert refusal(lambda: trunk(tmp_path, "a")) == "a.judge.onnx counts, so that nothing of it has a gradient"


@pytest.mark.parametrize("name", ["majority", "modified_majority"])
def test_a_vote_that_counts_is_refused(voters: Path, name: str) -> None:
    read = bundle.read(voters)
    assert f"the vote '{name}' counts" in refusal(lambda: Mirror(read, vote=name))


@pytest.mark.parametrize("method", ["levels", "tenths"])
def test_a_vote_that_rounds_is_refused(parts: Any, tmp_path: Path, method: Any) -> None:
    rule = parts.judge.ensemble.model_copy(update={"method": method})
    parts.judge = Judge(streams=parts.judge.streams, ensemble=rule)
    read = parts.write(tmp_path / "b")
    assert f"the vote '{method}' counts" in refusal(lambda: Mirror(read))


@pytest.mark.parametrize("kind", ["nearest", "one_class"])
def test_a_head_without_a_gradient_is_refused_where_it_judges_and_only_there(
    parts: Any, tmp_path: Path, kind: str
) -> None:
    parts.add_heads()
    read = parts.write(tmp_path / "b")
    assert Mirror(read).streams == ("grey",)
    assert f"the stream grey-{kind} has a head of kind '{kind}'" in refusal(lambda: Mirror(read, head=kind))
    ones = np.ones((1, 4))
    assert "the stream a has a head of kind 'nearest'" in refusal(lambda: layers(NearestHead(ones, -ones), "a"))


def test_a_view_of_faces_is_refused() -> None:
    assert "a view of faces" in refusal(lambda: Views(View(layout="faces")))
