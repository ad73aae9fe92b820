"""Drift: what the paper and its release say and its recipes have, and the whole of both in small."""

from __future__ import annotations

import dataclasses
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

import assay
from assay.image import mtcnn
from assay.image.degrade import Degrade
from assay.image.faces import Face, Found
from assay.image.view import View
from assay.judge import bundle
from assay.judge.engine import Engine
from assay.learn.calibrate import METHODS
from assay.learn.nn.backbones import build
from assay.learn.nn.network import Necked, network
from assay.learn.recipe import (
    Backbone,
    Beside,
    Calibrate,
    Conv,
    Crops,
    CrossEntropy,
    Linear,
    LoRA,
    Pooled,
    Projection,
    Recipe,
    Text,
    Tiles,
    find,
)
from assay.learn.train import train
from assay.recipes import drift26
from assay.types import Box, Label, Pixels, Sample, Verdict

STREAMS = ("global", "face", "fusion")
NAMES = ["drift26", *(f"drift26:{name}" for name in drift26.VARIANTS)]

pytestmark = pytest.mark.usefixtures("one_thread")


# ── the recipe ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_paper_has_three_streams_over_one_frozen_network() -> None:
    paper = drift26.RECIPE
    assert tuple(stream.name for stream in paper.streams) == STREAMS
    for stream in paper.streams:
        assert stream.backbone == Backbone(name="vit_giant_patch14_dinov2", pretrained=True)
        assert stream.view.size == 252
        assert stream.heads == (Linear(trained=True),)
        assert stream.beside is None
        assert paper.descend(stream.name).optimiser.trunk == 0
    whole, face, fusion = paper.streams
    assert [stream.view.layout for stream in paper.streams] == ["whole", "faces", "whole"]
    # Views that are equal share a run.
    assert whole.view == fusion.view
    assert face.view.margin == 1.3
    assert face.pool == "max"
    # A shallow one over the picture, a deeper one over the face.
    assert isinstance(whole.neck, Conv)
    assert isinstance(face.neck, Conv)
    assert len(whole.neck.widths) < len(face.neck.widths)
    assert isinstance(fusion.neck, Text)
    assert fusion.neck.prompts == ("real face", "synthetic face")
    assert fusion.neck.weights == "openai/clip-vit-large-patch14"
    assert paper.shared
    assert paper.calibrate() == Calibrate(
        scaling="temperature", rule="levels", weights={"global": 2, "face": 1, "fusion": 2}
    )
    assert [row.value for row in paper.expects] == [96.3, 89.1]
    assert {row.source for row in paper.expects} == {"secondary, not verified"}


def test_the_release_adapts_each_network_and_looks_with_clip_beside_the_third() -> None:
    release = drift26.VARIANTS["release"]
    for stream in release.streams:
        assert stream.backbone.name == "vit_giant_patch14_dinov2"
        lora = stream.backbone.lora
        assert lora is not None
        assert (lora.rank, lora.alpha, lora.dropout) == (32, 64, 0.15)
        assert stream.heads == (Linear(trained=True),)
        optimiser = release.descend(stream.name).optimiser
        assert (optimiser.learning_rate, optimiser.trunk, optimiser.weight_decay) == (1e-4, 1e-6, 0)
    whole, face, fusion = release.streams
    assert [(stream.view.size, stream.view.layout) for stream in release.streams] == [
        (252, "whole"),
        (252, "faces"),
        (224, "whole"),
    ]
    assert face.view.margin == 1.3
    assert whole.neck == face.neck == Pooled()
    assert fusion.neck == Projection(widths=(512,))
    assert fusion.beside == Beside(
        backbone=Backbone(name="vit_large_patch14_clip_quickgelu_224.openai", pretrained=True)
    )
    assert (whole.beside, face.beside) == (None, None)
    calibration = release.calibrate()
    assert (calibration.rule, calibration.scaling) == ("tenths", "temperature")
    assert calibration.weights == {"global": 2, "face": 1, "fusion": 2}


@pytest.mark.parametrize("name", NAMES)
def test_every_stream_is_trained_by_the_focal_loss_on_degraded_pictures_512_to_a_step(name: str) -> None:
    recipe = find(name, "paper")
    for stream in STREAMS:
        stage = recipe.descend(stream)
        assert stage.loss == CrossEntropy(focal=2.0, views=1)
        assert 2 * stage.pairs == 512
        assert stage.pairs % stage.accumulate == 0
        assert stage.optimiser.learning_rate == 1e-4
        assert stage.degrade == (None if name == "drift26:undegraded" else Degrade())
        # Nothing but degradation comes between a picture and its view, and no regions are cut.
        assert (stage.alter.max_ops, stage.augment, stage.align, stage.crops.base) == (0, None, None, None)
        assert recipe.stream(stream).view.size % 14 == 0
    degrade = Degrade()
    assert (degrade.probability, degrade.each, degrade.beta) == (0.5, 0.3, (1.2, 1.2))


@pytest.mark.parametrize(
    ("size", "width", "millions"), [("giant", 1536, 1136), ("large", 1024, 304), ("base", 768, 86), ("small", 384, 22)]
)
def test_each_size_is_dinov2s_in_its_own_size(size: str, width: int, millions: int) -> None:
    # On a device that holds shapes alone.
    with torch.device("meta"):
        trunk = build(Backbone(name=drift26.SIZES[size]), 252)
    assert trunk.dim == width
    assert sum(p.numel() for p in trunk.parameters()) / 1e6 == pytest.approx(millions, rel=0.02)
    assert trunk.network.patch_embed.grid_size == (18, 18)
    for form in ("", "release"):
        parts = [part for part in (form, "" if size == "giant" else size) if part]
        recipe = find(":".join(filter(None, ["drift26", "-".join(parts)])), "paper")
        assert {stream.backbone.name for stream in recipe.streams} == {f"vit_{size}_patch14_dinov2"}
        assert [stream.backbone.lora for stream in recipe.streams] == [LoRA() if form else None] * 3


def test_a_variant_is_the_recipe_with_one_thing_changed() -> None:
    paper, variants = drift26.RECIPE, drift26.VARIANTS
    assert variants["undegraded"].set(descend__degrade=Degrade(), summary=paper.summary) == paper
    for form, name in ((paper, "{}"), (variants["release"], "release-{}")):
        for size in ("large", "base", "small"):
            back = {f"{stream}__backbone__name": drift26.SIZES["giant"] for stream in STREAMS}
            assert variants[name.format(size)].set(**back, summary=form.summary) == form
    assert len({variant.summary for variant in variants.values()}) == len(variants) == 8


def without_weights(recipe: Recipe) -> Recipe:
    """As the paper has it, of networks that nobody trained, with fewer blocks, as CLIP alone takes a gigabyte."""
    changes: dict[str, Any] = {f"{name}__backbone__pretrained": False for name in STREAMS}
    changes |= {f"{name}__backbone__fields": {"depth": 2} for name in STREAMS}
    if recipe.stream("fusion").beside is not None:
        changes["fusion__beside__backbone__pretrained"] = False
        changes["fusion__beside__backbone__fields"] = {"depth": 1}
    else:
        changes["fusion__neck__weights"] = ""
    return recipe.set(**changes)


@pytest.mark.parametrize(("name", "widths"), [("small", (256, 256, 512)), ("release-small", (384, 384, 512))])
def test_the_smallest_dinov2_goes_through_the_papers_streams(name: str, widths: tuple[int, ...]) -> None:
    recipe = without_weights(find(f"drift26:{name}", "paper"))
    for stream, width in zip(recipe.streams, widths, strict=True):
        trunk = network(stream).eval()
        with torch.no_grad():
            found = trunk(torch.randn(1, 3, stream.view.size, stream.view.size))
        assert found.shape == (1, trunk.dim) == (1, width)
        adapted = [module for module in trunk.modules() if hasattr(module, "lora_A")]
        # Two layers of each of two blocks.
        assert len(adapted) == (4 if stream.backbone.lora else 0)
        if stream.beside is not None:
            assert isinstance(trunk, Necked)
            assert trunk.beside is not None
            # CLIP's 1,024 follow DINOv2's, of which the giant has 1,536.
            assert trunk.beside.trunk.dim == 1024
            (layer,) = (p for name, p in trunk.named_parameters() if name.startswith("necks") and p.ndim == 2)
            assert layer.shape == (512, 384 + 1024)


@pytest.mark.parametrize("name", NAMES)
def test_the_small_size_is_the_same_method_and_every_network_of_it_can_be_made(name: str) -> None:
    small, paper = find(name), find(name, "paper")
    assert small.name == name
    assert small.calibrate() == paper.calibrate()
    (before,) = small.pretrained
    assert small.stages[0] is before
    plain = {stream.backbone.model_copy(update={"lora": None}).model_dump_json() for stream in small.streams}
    # One network, trained here, is what all three begin with.
    assert len(plain) == 1
    for mine, theirs in zip(small.streams, paper.streams, strict=True):
        stage, published = small.descend(mine.name), paper.descend(mine.name)
        assert (stage.loss, stage.degrade) == (published.loss, published.degrade)
        # Beside what lies over it, a network that is trained on moves as slowly.
        slower = [each.optimiser.trunk / each.optimiser.learning_rate for each in (stage, published)]
        assert slower[0] == pytest.approx(slower[1])
        assert type(mine.neck) is type(theirs.neck)
        assert (mine.heads, mine.pool) == (theirs.heads, theirs.pool)
        assert (mine.beside is None, mine.backbone.lora is None) == (
            theirs.beside is None,
            theirs.backbone.lora is None,
        )
        assert (mine.view.layout == "faces") is (theirs.view.layout == "faces")
        assert not mine.backbone.pretrained
        trunk = network(mine).eval()
        with torch.no_grad():
            assert trunk(torch.randn(1, 3, 64, 64)).shape == (1, trunk.dim)
    assert before.degrade == paper.descend("global").degrade
    # A recipe that is small already stays as it is.
    assert drift26.small(small) is small


# ── the whole of it in small ─────────────────────────────────────────────────────────────────────────────────────────


def tiny(name: str) -> Recipe:
    """Every stage of the small recipe, on networks and views that take seconds."""
    recipe = find(name)
    view, tiles = View(size=32, layout="grid", across=2), Tiles(side=64, each=1, reduce_above=None)
    changes: dict[str, Any] = {
        "global__view": view,
        "fusion__view": view,
        "face__view": View(size=32, layout="faces", minimum=16),
        "pretrain__crops": Crops(base=48, local=24),
        "descend__crops": Crops(base=48),
        "pretrain__tiles": tiles,
        "descend__tiles": tiles,
        "pretrain__pairs": 4,
        "pretrain__steps": 2,
        "pretrain__epochs": 1,
        "descend__pairs": 6,
        "descend__accumulate": 2,
        "descend__steps": 1,
        "descend__epochs": 2,
        "fit__records": 16,
        "calibrate__fpr": 0.2,
    }
    changes |= {f"{stream}__backbone__fields": {"widths": [8, 16], "blocks": [1]} for stream in STREAMS}
    if recipe.stream("fusion").beside is None:
        changes |= {"global__neck__widths": (8,), "face__neck__widths": (8, 12), "fusion__neck__width": 8}
    else:
        fields = {"patch_size": 8, "embed_dim": 32, "depth": 1, "num_heads": 2}
        changes |= {"fusion__beside__backbone__fields": fields, "fusion__neck__widths": (8,)}
    return recipe.set(**changes)


FACELESS, FACED, TWO = 52, 56, 60
"""The height of a picture says how many faces are found in it."""


def picture(seed: int, fake: bool, height: int = FACED) -> Pixels:
    """Soft colours under a little noise; a fake has a grid of brighter dots besides."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(60, 180, (4, 4, 3), dtype=np.uint8))
    pixels = np.array(coarse.resize((72, height), Image.Resampling.BICUBIC)).astype(np.int64)
    pixels += rng.integers(-6, 7, pixels.shape)
    if fake:
        pixels[::2, ::2] += 60
    return np.clip(pixels, 0, 255).astype(np.uint8)


def found(pixels: Pixels, *_: Any, **__: Any) -> Found:
    boxes = [Box(8, 10, 32, 34), Box(36, 20, 66, 50)][: {FACELESS: 0, FACED: 1, TWO: 2}[pixels.shape[0]]]
    return Found(tuple(Face(box, 0.99, ((20.0, 20.0),) * 5) for box in boxes))


def rows(folder: Path, split: str, numbers: range) -> list[Sample]:
    made = []
    for number in numbers:
        fake, height = bool(number % 2), (FACELESS, FACED, TWO, FACED)[number // 2 % 4]
        place = folder / f"{number:03d}.png"
        Image.fromarray(picture(number, fake, height)).save(place)
        made.append(Sample(str(place), Label(fake), "dots" if fake else "", f"source {number % 3}", split=split))
    return made


@dataclasses.dataclass
class Trained:
    """A run, and the data it had."""

    recipe: Recipe
    out: Path
    data: list[Sample]
    cache: Path

    @property
    def bundle(self) -> bundle.Bundle:
        return bundle.read(self.out / "bundle")

    def judged(self, number: int, fake: bool, height: int = FACED, **options: Any) -> Verdict:
        detector = assay.load(self.out / "bundle", threads=1, device="cpu", **options)
        return detector.judge(picture(number, fake, height))


def run(recipe: Recipe, data: list[Sample], out: Path, cache: Path) -> Trained:
    options: dict[str, Any] = {"workers": 0, "device": "cpu", "precision": "fp32", "cache": cache}
    train(recipe, data, out, console=Console(file=io.StringIO()), **options)
    return Trained(recipe, out, data, cache)


@pytest.fixture(scope="module", autouse=True)
def faces() -> Iterator[None]:
    """Faces are found where the pictures say so."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mtcnn, "find", found)
        patch.setattr(mtcnn, "_found", {})
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    folder = tmp_path_factory.mktemp("pictures")
    return [*rows(folder, "train", range(16)), *rows(folder, "tune", range(16, 40))]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def paper(data: list[Sample], cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return run(tiny("drift26"), data, tmp_path_factory.mktemp("paper") / "out", cache)


@pytest.fixture(scope="module")
def apart(paper: Trained, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The same networks, each stream with its own copy."""
    out = tmp_path_factory.mktemp("apart") / "out"
    shutil.copytree(paper.out, out)
    return run(paper.recipe.set(shared=False), paper.data, out, paper.cache)


def runs(trained: Trained, height: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many crops each run of a network gets when one picture is judged."""
    counts: list[int] = []
    whole = Engine.run

    def counted(engine: Engine, batch: Any) -> Any:
        counts.append(len(batch))
        return whole(engine, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "run", counted)
        trained.judged(200, False, height)
    return counts


def test_the_papers_streams_have_parts_of_one_network_that_runs_once_for_each_view(
    paper: Trained, apart: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = paper.bundle.card.streams
    assert [card.name for card in cards] == list(STREAMS)
    assert {card.trunk for card in cards} == {"global-face-fusion"}
    assert [card.part for card in cards] == [(0, 8), (8, 20), (20, 36)]
    assert {card.part for card in apart.bundle.card.streams} == {None}
    assert [card.trunk for card in apart.bundle.card.streams] == list(STREAMS)
    graphs = [name for name in paper.bundle.card.files if name.endswith(".judge.onnx")]
    assert graphs == ["global-face-fusion.judge.onnx"]
    # Of 52 x 72 px there are 2 x 2 crops, for two streams at once; of each face there is one more.
    assert runs(paper, FACELESS, monkeypatch) == [4]
    assert sorted(runs(paper, TWO, monkeypatch)) == [2, 4]
    assert runs(apart, FACELESS, monkeypatch) == [4, 4]
    assert sorted(runs(apart, TWO, monkeypatch)) == [2, 4, 4]


@pytest.mark.parametrize(("height", "applies"), [(FACED, 3), (TWO, 3), (FACELESS, 2)])
def test_streams_that_share_a_network_say_what_they_say_apart(
    paper: Trained, apart: Trained, height: int, applies: int
) -> None:
    for number, fake in ((200, False), (201, True)):
        one, other = (trained.judged(number, fake, height) for trained in (paper, apart))
        for mine, theirs in zip(one.streams, other.streams, strict=True):
            assert (mine.score is None) is (theirs.score is None)
            if mine.score is not None:
                assert mine.score == pytest.approx(theirs.score, abs=1e-5)
                assert mine.views == pytest.approx(theirs.views, abs=1e-5)
        assert sum(stream.score is not None for stream in one.streams) == applies
        assert one.score == pytest.approx(other.score, abs=1e-5)


def test_the_streams_vote_by_every_rule(paper: Trained) -> None:
    judge = paper.bundle.judge
    assert judge.ensemble.method == "levels"
    assert set(judge.ensemble.weights) == set(STREAMS)
    assert judge.rules["tenths"].weights == {"global": 2, "face": 1, "fusion": 2}
    for rule in judge.streams.values():
        assert rule.offset == 0
    assert set(judge.rules) == {*METHODS, "best", *STREAMS} - {"levels"}
    for vote in (None, *judge.rules):
        judged = paper.judged(201, True, TWO, vote=vote)
        assert judged.score is not None
        assert 0 <= judged.score <= 1
        if vote == "tenths":
            assert 10 * judged.score == pytest.approx(round(10 * judged.score), abs=1e-6)
        if vote in STREAMS:
            assert [stream.name for stream in judged.streams if stream.score is not None] == [vote]


def test_the_card_says_how_it_came_to_be_and_what_it_cannot(paper: Trained) -> None:
    card = paper.bundle.card
    assert card.limits == ("The texts of fusion were not embedded by a language model: their directions mean nothing.",)
    facts: Any = card.training
    assert set(facts["pretrained"]) == {"global"}
    assert facts["pretrained"]["global"]["steps"] == 2
    assert {name: told["steps"] for name, told in facts["streams"].items()} == dict.fromkeys(STREAMS, 2)
    for path in (paper.out / "bundle").iterdir():
        assert str(paper.cache.parent).encode() not in path.read_bytes()
    # Pictures without a face are left out of the face stream alone, and all are remembered.
    assert len(paper.bundle.seen.files) == len(paper.data)
    assert [head.settings["trained"] for head in (stream.head for stream in card.streams)] == [True] * 3


def test_the_face_streams_verdict_is_that_of_the_most_fake_face(paper: Trained) -> None:
    (face,) = (stream for stream in paper.judged(201, True, TWO).streams if stream.name == "face")
    assert len(face.views) == len(face.faces) == 2
    assert face.score == pytest.approx(max(face.views), abs=1e-6)


@pytest.fixture(scope="module")
def release(data: list[Sample], cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return run(tiny("drift26:release"), data, tmp_path_factory.mktemp("release") / "out", cache)


def test_the_release_has_three_networks_of_its_own_with_nothing_left_of_their_adaptation(
    release: Trained, paper: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = release.bundle
    assert [(card.trunk, card.part) for card in read.card.streams] == [(name, None) for name in STREAMS]
    assert [card.embedding for card in read.card.streams] == [16, 16, 8]
    whole, face, fusion = (card.parameters for card in read.card.streams)
    # No matrices are left beside the layers, and the third has a second network.
    plain = build(release.recipe.stream("global").backbone.model_copy(update={"lora": None}), 32)
    assert whole == face == sum(p.numel() for p in plain.parameters())
    assert fusion > whole
    for path in (release.out / "bundle").iterdir():
        assert path.suffix != ".onnx" or b"lora" not in path.read_bytes()
    assert read.card.limits == ()
    assert sorted(runs(release, TWO, monkeypatch)) == [2, 4, 4]
    # The network that both forms begin with was trained once.
    facts: Any = read.card.training
    assert facts["pretrained"] == paper.bundle.card.training["pretrained"]


def test_the_release_votes_by_tenths(release: Trained) -> None:
    judge = release.bundle.judge
    assert (judge.ensemble.method, judge.ensemble.slope) == ("tenths", None)
    assert judge.ensemble.weights == {"global": 2, "face": 1, "fusion": 2}
    judged = release.judged(200, False, FACED)
    scores = {stream.name: stream.score for stream in judged.streams}
    total = sum(judge.ensemble.weights[name] * round(float(score or 0), 1) for name, score in scores.items())
    assert judged.score == pytest.approx(round(round(total / 5, 9), 1), abs=1e-9)
