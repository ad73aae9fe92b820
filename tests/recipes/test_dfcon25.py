"""DFCon: what the paper says and its recipe has, and the whole of it in small, from pictures to a detector."""

from __future__ import annotations

import dataclasses
import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import assay
from assay.errors import RecipeError
from assay.image.augment import DFCON
from assay.image.view import View
from assay.judge import bundle
from assay.learn.descend import Training
from assay.learn.recipe import MLP, Calibrate, CrossEntropy, InfoNCE, Linear, Recipe, SupCon, Tiles, find
from assay.learn.train import train
from assay.recipes import dfcon25
from assay.types import Label, Pixels, Sample, Verdict

STREAMS = ("maxvit", "coatnet", "eva02")


# ── the recipe ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_three_backbones_are_trained_by_the_contrastive_loss_and_judged_by_perceptrons_that_vote() -> None:
    paper = dfcon25.RECIPE
    assert tuple(stream.name for stream in paper.streams) == STREAMS
    for stream in paper.streams:
        assert stream.heads == (MLP(),)
        stage = paper.descend(stream.name)
        assert stage.loss == SupCon(temperature=0.07, views=2, projection=(512, 128), focal=0.0, unified=False)
        assert stage.augment == DFCON
        assert stage.alter.max_ops == 0
    assert paper.calibrate() == Calibrate(fpr=0.05, decided=0.70, rule="modified_majority")
    # Augmented copies of half of the reals.
    assert paper.derive == ("augment",)
    assert [row.value for row in paper.expects] == [95.83]


@pytest.mark.parametrize("name", ["dfcon25", "dfcon25:pocket", "dfcon25:focal", "dfcon25:unified", "dfcon25:bce"])
def test_the_small_size_is_the_same_method_on_the_smallest_network_of_each_family(name: str) -> None:
    small, paper = find(name), find(name, "paper")
    assert {stream.name: stream.backbone.name for stream in small.streams} == dfcon25.SMALL
    assert (small.derive, small.calibrate()) == (paper.derive, paper.calibrate())
    for stream in small.streams:
        stage, theirs = small.descend(stream.name), paper.descend(stream.name)
        assert (stage.loss, stage.augment) == (theirs.loss, theirs.augment)
        assert stage.pairs < theirs.pairs
        # Views are cut at native resolution from regions a seventh larger, and EVA-02's patches have 14 px.
        assert stage.crops.base is not None
        assert stream.view.size < stage.crops.base
        assert stream.view.size % (14 if stream.name == "eva02" else 32) == 0


@pytest.mark.parametrize(
    ("name", "loss"),
    [
        ("focal", SupCon(focal=2.0)),
        ("unified", SupCon(unified=True)),
        ("bce", CrossEntropy(views=2)),
        ("pretrained", SupCon()),
    ],
)
def test_a_variant_is_the_recipe_with_one_thing_changed(name: str, loss: Any) -> None:
    for stream in STREAMS:
        variant = dfcon25.VARIANTS[name]
        assert variant.descend(stream).loss == loss
        assert variant.stream(stream).backbone.pretrained is (name == "pretrained")
        back = variant.set(descend__loss=SupCon(), summary=dfcon25.RECIPE.summary)
        assert back.set(**{f"{each}__backbone__pretrained": False for each in STREAMS}) == dfcon25.RECIPE


# ── the whole of it in small ─────────────────────────────────────────────────────────────────────────────────────────


def tiny() -> Recipe:
    """Every stage of the small recipe, on networks and views that take seconds."""
    networks: dict[str, Any] = {
        "maxvit__backbone__name": "trace_cnn",
        "maxvit__backbone__fields": {"widths": (8, 16), "blocks": (1,)},
        "coatnet__backbone__name": "trace_cnn",
        "coatnet__backbone__fields": {"widths": (8, 24), "blocks": (1,)},
        "eva02__backbone__name": "test_vit",
        "eva02__backbone__fields": {"depth": 1},
    }
    views = {f"{name}__view": View(size=32, layout="grid", across=2) for name in STREAMS}
    return find("dfcon25:pocket").set(
        **networks,
        **views,
        descend__crops__base=40,
        descend__tiles=Tiles(side=64, each=1, reduce_above=None),
        descend__loss__projection=(16, 8),
        descend__pairs=6,
        descend__steps=4,
        descend__epochs=2,
        fit__records=32,
        calibrate__fpr=0.2,
    )


def picture(seed: int, fake: bool, side: int = 56) -> Pixels:
    """Soft colours under a little noise; a fake has a grid of brighter dots besides."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(60, 180, (4, 4, 3), dtype=np.uint8))
    pixels = np.array(coarse.resize((side, side), Image.Resampling.BICUBIC)).astype(np.int64)
    pixels += rng.integers(-6, 7, pixels.shape)
    if fake:
        pixels[::2, ::2] += 60
    return np.clip(pixels, 0, 255).astype(np.uint8)


def rows(folder: Path, split: str, numbers: range, **groups: str) -> list[Sample]:
    found = []
    for number in numbers:
        fake = bool(number % 2)
        place = folder / f"{number:03d}.png"
        Image.fromarray(picture(number, fake)).save(place)
        method = f"method {number // 2 % 2}" if fake else ""
        found.append(Sample(str(place), Label(fake), method, f"source {number // 2 % 3}", split=split, groups=groups))
    return found


@dataclasses.dataclass
class Trained:
    """A run, and what it said."""

    out: Path
    data: list[Sample]
    secondary: list[Sample]
    said: str

    @property
    def bundle(self) -> bundle.Bundle:
        return bundle.read(self.out / "bundle")

    def again(self, recipe: Recipe) -> str:
        said = io.StringIO()
        run(recipe, self.data, self.secondary, self.out, said)
        return said.getvalue()


def run(recipe: Recipe, data: list[Sample], secondary: list[Sample], out: Path, said: io.StringIO) -> None:
    options: dict[str, Any] = {"workers": 0, "device": "cpu", "precision": "fp32"}
    train(recipe, data, out, secondary=secondary, console=Console(file=said, width=200), **options)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder, out, said = tmp_path_factory.mktemp("pictures"), tmp_path_factory.mktemp("run") / "out", io.StringIO()
    data = [*rows(folder, "train", range(24)), *rows(folder, "tune", range(24, 44))]
    # Too small for any of the views: it is tuned on by none of the streams.
    Image.fromarray(picture(99, False, 20)).save(folder / "small.png")
    data.append(Sample(str(folder / "small.png"), Label.REAL, source="source 0", split="tune"))
    secondary = rows(folder, "", range(60, 68))
    run(tiny(), data, secondary, out, said)
    return Trained(out, data, secondary, said.getvalue())


def test_the_bundle_judges_by_the_votes_of_three_perceptrons(trained: Trained, tmp_path: Path) -> None:
    read = trained.bundle
    assert [(stream.name, stream.head.kind) for stream in read.card.streams] == [(name, "mlp") for name in STREAMS]
    assert read.judge.ensemble.method == "modified_majority"
    assert set(read.judge.rules) == {"majority", "mean", "plain_mean", "levels", "tenths", "best", *STREAMS}
    for number, fake in ((200, False), (201, True)):
        Image.fromarray(picture(number, fake)).save(tmp_path / f"{number}.png")
        for vote in (None, "majority", "best", "eva02"):
            judged = assay.load(read.folder, vote=vote, threads=1, device="cpu").judge(tmp_path / f"{number}.png")
            assert isinstance(judged, Verdict)
            assert judged.score is not None
            assert 0 <= judged.score <= 1
            # Dots at every second pixel are plain to see, even for networks that hardly learned.
            assert (judged.score > 0.5) is fake


def test_the_card_tells_of_each_stage(trained: Trained) -> None:
    card = trained.bundle.card
    facts: Any = card.training["streams"]
    assert set(facts) == set(STREAMS)
    for name in STREAMS:
        assert facts[name]["steps"] == 8
        assert set(facts[name]["separation"]) == {"overlap", "probe_auc", "silhouette_label", "separated"}
        assert (trained.out / "separation" / f"{name}.label.svg").exists()
        assert f"{name}: embedding of 21 tuning rows" in trained.said
    signs: Any = card.figures["signs"]
    assert set(signs) == {*STREAMS, "together"}
    assert len(signs["together"]) == 1 + 3
    # Tuning rows that no stream applies to are counted nowhere.
    assert (trained.bundle.judge.ensemble.rows.real, trained.bundle.judge.ensemble.rows.fake) == (10, 10)


def test_half_of_the_reals_of_both_sets_got_a_copy_and_all_that_was_seen_is_remembered(trained: Trained) -> None:
    copies = list((trained.out / "tiles").glob("augment-*/train/**/*.png"))
    assert len(copies) == (12 + 4) // 2
    seen = [*(sample.place for sample in (*trained.data, *trained.secondary)), *copies]
    for place in seen:
        sha256 = hashlib.sha256(Path(place).read_bytes()).hexdigest()
        assert trained.bundle.seen.overlaps(sha256=sha256) is not None
    assert len(trained.bundle.seen.files) == len(seen)


def test_other_heads_on_the_same_networks_take_no_step_and_run_no_network(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError("trained again")

    monkeypatch.setattr(Training, "advance", never)
    kept = {path: path.stat().st_mtime_ns for path in (trained.out / "embeddings").iterdir()}
    assert len(kept) == 3 * 3
    before = trained.bundle
    said = trained.again(tiny().set(calibrate__rule="majority", **{f"{name}__heads": [Linear()] for name in STREAMS}))
    assert "the networks are trained already; heads are fitted anew" in said
    assert {path: path.stat().st_mtime_ns for path in (trained.out / "embeddings").iterdir()} == kept
    after = trained.bundle
    assert [stream.head.kind for stream in after.card.streams] == ["linear"] * 3
    assert after.judge.ensemble.method == "majority"
    same = {name for name in before.card.files if name.endswith((".onnx", ".weights"))}
    assert {after.card.files[name] for name in same} == {before.card.files[name] for name in same}
    with pytest.raises(RecipeError, match="holds a run with another recipe"):
        trained.again(tiny().set(descend__loss=InfoNCE()))
