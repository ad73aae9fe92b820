"""Herd: what the paper and its release say and its recipes have, and the whole of it in small."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import assay
from assay.errors import RecipeError
from assay.image import eyes, mtcnn
from assay.image.augment import PLAIN, STRONG
from assay.image.faces import Face, Found
from assay.judge import bundle
from assay.learn import batches
from assay.learn.nn.network import network
from assay.learn.recipe import CrossEntropy, Lesson, Linear, Recipe, Tiles, find
from assay.learn.train import train
from assay.recipes import herd24
from assay.types import Box, Label, Pixels, Sample

NETS = ("autoencoder", "variational")
NAMES = ["herd24", *(f"herd24:{name}" for name in herd24.VARIANTS)]

pytestmark = pytest.mark.usefixtures("one_thread")


# ── the recipe ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_paper_weighs_real_masks_first_and_turns_and_flips() -> None:
    paper = herd24.RECIPE
    assert tuple(stream.name for stream in paper.streams) == NETS
    for net in NETS:
        stage = paper.descend(net)
        assert isinstance(stage.loss, CrossEntropy)
        assert stage.loss.weights == {"real": 1.85}
        assert stage.loss.kl == 0
        assert stage.augment == PLAIN
        assert stage.curriculum == (Lesson(eyes="masked"), Lesson(eyes="shown"))
        assert (stage.pairs, stage.sampling, stage.degrade) == (16, "balanced", None)
        assert (stage.crops.base, stage.alter.max_ops) == (None, 0)
        rate = stage.optimiser
        assert (rate.kind, rate.learning_rate, rate.momentum, rate.weight_decay) == ("sgd", 1e-4, 0.9, 0.05)
        assert (rate.schedule, rate.every, rate.factor, rate.warmup) == ("steps", 5, 0.1, 0)
    assert [paper.descend(net).loss.reconstruction for net in NETS] == [0, 1]  # type: ignore[union-attr]
    for stream in paper.streams:
        assert (stream.view.size, stream.view.layout, stream.view.margin) == (224, "faces", 1.3)
        assert stream.heads == (Linear(trained=True),)
        assert stream.backbone.pretrained
    assert paper.calibrate().rule == "mean"
    assert {expected.value for expected in paper.expects} == {95.21, 98.36}


def test_variants_are_what_they_are_called() -> None:
    release = find("herd24:release", "paper").descend("variational")
    assert [(lesson.eyes, lesson.share) for lesson in release.curriculum] == [
        ("masked", 20),
        ("shown", 15),
        ("masked", 15),
    ]
    assert [end for _, end in release.lessons(release.steps * release.epochs)] == [20 * 2000, 35 * 2000, 50 * 2000]
    plain = find("herd24:genconvit", "paper").descend("autoencoder")
    assert (plain.augment, plain.curriculum, plain.loss.weights) == (STRONG, (), {})  # type: ignore[union-attr]
    for net in NETS:
        assert [stream.name for stream in find(f"herd24:{net}", "paper").streams] == [net]
    divergent = find("herd24:kl", "paper")
    assert [divergent.descend(net).loss.kl for net in NETS] == [0, 1e-3]  # type: ignore[union-attr]
    for half in ("convnext", "swin"):
        assert all(s.backbone.fields["halves"] == [half] for s in find(f"herd24:{half}", "paper").streams)


@pytest.mark.parametrize("name", NAMES)
def test_every_variant_has_a_small_size_that_changes_neither_lessons_nor_loss(name: str) -> None:
    paper, small = find(name, "paper"), find(name)
    for mine, theirs in zip(small.streams, paper.streams, strict=True):
        assert mine.backbone.fields["net"] == theirs.backbone.fields["net"]
        assert mine.backbone.fields.get("halves") == theirs.backbone.fields.get("halves")
        assert (mine.heads, mine.pool, mine.view.layout) == (theirs.heads, theirs.pool, "faces")
        one, other = small.descend(mine.name), paper.descend(mine.name)
        assert (one.loss, one.curriculum, one.augment) == (other.loss, other.curriculum, other.augment)
        trunk = network(mine)
        assert trunk.dim == 64
        assert sum(p.numel() for p in trunk.parameters()) < 1e6


# ── the whole of it in small ─────────────────────────────────────────────────────────────────────────────────────────

EYES = ((28.0, 24.0), (44.0, 24.0), (36.0, 34.0), (30.0, 42.0), (42.0, 42.0))


def found(pixels: Pixels, *_: Any, **__: Any) -> Found:
    return Found((Face(Box(16, 8, 56, 52), 0.99, EYES),))


def picture(seed: int, fake: bool) -> Pixels:
    """Soft colours under a little noise; a fake has a grid of brighter dots besides. Nothing in it is black."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(80, 180, (4, 4, 3), dtype=np.uint8))
    pixels = np.array(coarse.resize((72, 64), Image.Resampling.BICUBIC)).astype(np.int64)
    pixels += rng.integers(-6, 7, pixels.shape)
    if fake:
        pixels[::2, ::2] += 60
    return np.clip(pixels, 20, 255).astype(np.uint8)


@pytest.fixture(scope="module", autouse=True)
def faces() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mtcnn, "find", found)
        patch.setattr(mtcnn, "_found", {})
        yield


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    folder = tmp_path_factory.mktemp("pictures")
    made = []
    for number in range(36):
        place = folder / f"{number:02d}.png"
        Image.fromarray(picture(number, bool(number % 2))).save(place)
        split = "train" if number < 20 else "tune"
        generator = "dots" if number % 2 else ""
        made.append(Sample(str(place), Label(number % 2), generator, f"source {number % 3}", split=split))
    return made


def tiny(name: str = "herd24") -> Recipe:
    return find(name).set(
        pretrain__pairs=4,
        pretrain__steps=1,
        pretrain__epochs=1,
        pretrain__align=None,
        pretrain__tiles=Tiles(side=64, each=1, reduce_above=None),
        descend__pairs=4,
        descend__steps=2,
        descend__epochs=2,
        descend__align=None,
        descend__tiles=Tiles(side=64, each=1, reduce_above=None),
        fit__records=16,
        calibrate__fpr=0.2,
    )


MADE: list[tuple[bool, Pixels]] = []
"""Whether eyes were masked in a training picture, and what it became before augmentation."""


@pytest.fixture(scope="module")
def out(rows: list[Sample], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("herd") / "out"
    with pytest.MonkeyPatch.context() as patch:
        draw = batches.draw

        def noted(tile: Pixels, *arguments: Any, **options: Any) -> Any:
            MADE.append((bool((tile == 0).all(axis=-1).any()), tile))
            return draw(tile, *arguments, **options)

        patch.setattr(batches, "draw", noted)
        train(tiny(), rows, out, workers=0, device="cpu", precision="fp32", console=Console(file=io.StringIO()), seed=1)
    return out


def test_the_first_lesson_masks_eyes_and_the_second_does_not(out: Path) -> None:
    # A step of 8 pictures for each net before, then four.
    assert len(MADE) == 2 * 8 + 2 * 4 * 8
    assert [masked for masked, _ in MADE] == 16 * [False] + 2 * (16 * [True] + 16 * [False])
    masked = next(tile for was, tile in MADE if was)
    # The square that the view cuts: 1.3 x 44 px.
    box = Box(36 - 29, 30 - 29, 36 + 28, 30 + 28)
    assert masked.shape[:2] == (57, 57)
    expected = np.zeros(masked.shape[:2], np.bool_)
    for eye in eyes.boxes_of_centres(found(masked).faces[0]):
        rows = slice(eye.top - box.top, eye.bottom - box.top)
        expected[rows, eye.left - box.left : eye.right - box.left] = True
    np.testing.assert_array_equal((masked == 0).all(axis=-1), expected)


def test_judging_never_masks(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError("eyes were masked where a picture is judged")

    monkeypatch.setattr(eyes, "mask", never)
    monkeypatch.setattr(batches, "mask", never)
    detector = assay.load(out / "bundle", threads=1, device="cpu")
    pixels = picture(90, True)
    verdict = detector.judge(pixels)
    assert verdict.score is not None
    prepared = detector.prepare(pixels)
    [(view, crops)] = prepared.crops.items()
    np.testing.assert_array_equal(crops, view.crops(pixels, found(pixels).faces))
    assert (crops > 0).all()


def test_each_net_judges_alone_and_both_by_their_mean(out: Path) -> None:
    pixels = picture(91, True)
    both = assay.load(out / "bundle", threads=1, device="cpu").judge(pixels)
    alone = {net: assay.load(out / "bundle", threads=1, device="cpu", vote=net).judge(pixels) for net in NETS}
    scores = [part.score for part in both.streams if part.score is not None]
    assert both.score == pytest.approx(np.mean(scores), abs=1e-6)
    assert [alone[net].score for net in NETS] == scores
    card = bundle.read(out / "bundle").card
    assert [stream.trunk for stream in card.streams] == list(NETS)


def test_a_penalty_that_the_network_does_not_have_is_refused(rows: list[Sample], tmp_path: Path) -> None:
    recipe = tiny("herd24:autoencoder").set(descend__loss__kl=0.1)
    with pytest.raises(RecipeError, match=r"descend\.loss\.kl asks for; set it to 0"):
        train(recipe, rows, tmp_path / "out", workers=0, device="cpu", console=Console(file=io.StringIO()))
