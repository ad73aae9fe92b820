"""Variants in another precision: written where scores stay, not written where they move, told on the card."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper
from PIL import Image

import assay
from assay.data.table import Table
from assay.errors import BundleError, ManifestError
from assay.image.view import View
from assay.judge import about, bundle
from assay.judge.bundle import Bundle
from assay.judge.card import HeadCard
from assay.judge.heads import OneClassHead
from assay.judge.rule import Judge
from assay.learn import graph, variant
from assay.learn.quantise import Quantiser
from assay.types import Label, Sample
from layers import convolutions


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """Dark reals and bright fakes: 8 rows to train, 12 to tune, 4 to test, which are no pictures."""
    folder = tmp_path_factory.mktemp("rows")
    made = []
    for number in range(24):
        fake, split = bool(number % 2), "train" if number < 8 else "tune" if number < 20 else "test"
        place = folder / f"{number:02d}.png"
        level = np.random.default_rng(number).integers(0, 256, (5, 5, 3), dtype=np.uint8) // 2 + 120 * fake
        Image.fromarray(level.astype(np.uint8)).resize((48, 40)).save(place)
        if split == "test":
            place.write_bytes(b"never opened")
        made.append(Sample(str(place), Label(fake), "lamp" * fake, f"s{number % 4}", split=split))
    return made


@pytest.fixture
def original(parts: Any, tmp_path: Path) -> Bundle:
    """A bundle whose trunk is three convolutions and a matrix, on crops of 16 px."""
    parts.files = dict(graph.files(convolutions(), "tiny"))
    view = View(size=16, layout="grid", across=2)
    stream = parts.card.streams[0].model_copy(update={"view": view, "embedding": 20})
    parts.card = parts.card.model_copy(update={"streams": (stream,), "figures": {"auc": 0.9}, "training": {"seed": 7}})
    parts.heads = {"grey": type(parts.heads["grey"])(np.linspace(-2, 2, 20), 0.1)}
    made: Bundle = parts.write(tmp_path / "original")
    return made


def make(read: Bundle, rows: list[Sample], out: Path, precision: Any, **options: Any) -> variant.Made:
    return variant.variant(read, rows, out, precision, **({"rounds": 50, "calibrate": 8} | options))


def scores(folder: Path, rows: list[Sample]) -> list[float]:
    detector = assay.load(folder, threads=1, device="cpu")
    found = [detector.judge(sample.place).score for sample in rows if sample.split == "tune"]
    assert None not in found
    return [score for score in found if score is not None]


@pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-6), ("fp16", 0.02), ("int8", 0.02)])
def test_a_variant_says_what_the_original_says_within_the_bound_and_its_card_says_how_far(
    precision: str, bound: float, original: Bundle, rows: list[Sample], tmp_path: Path
) -> None:
    made = make(original, rows, tmp_path / "out", precision, bound=bound)
    assert made.folder == tmp_path / "out"
    assert made.taken is made.attempts[-1]
    apart = np.abs(np.subtract(scores(tmp_path / "out", rows), scores(original.folder, rows)))
    assert made.taken.change.largest == pytest.approx(apart.max(), abs=1e-9)
    assert made.taken.change.mean == pytest.approx(apart.mean(), abs=1e-9)
    assert apart.max() <= bound
    assert (precision == "fp32") == (apart.max() == 0)
    read = bundle.read(tmp_path / "out")
    assert read.judge == original.judge
    np.testing.assert_array_equal(
        read.heads["grey"].raw(np.ones((1, 20))), original.heads["grey"].raw(np.ones((1, 20)))
    )
    card = read.card
    assert (card.name, card.precision, card.streams) == (f"tiny-{precision}", precision, original.card.streams)
    told: Any = card.training["variant"]
    assert told["of"]["sha256"] == original.card.sha256
    assert (told["bound"], told["rows"], told["verdicts_changed"]) == (bound, {"split": "tune", "judged": 12}, 0)
    assert told["largest_change"] == made.taken.change.largest
    assert told["auc_change"]["n"] == 12
    assert card.training["seed"] == 7
    # Figures of the original were not measured of this one.
    assert "auc" not in card.figures
    assert original.card.sha256[:12] in card.notes
    assert "thresholds are the original's" in card.notes
    assert "AUC change" in about.whole(read)


def test_int8_is_smaller_and_computes_in_int8(original: Bundle, rows: list[Sample], tmp_path: Path) -> None:
    make(original, rows, tmp_path / "out", "int8")
    kinds = {node.op_type for node in graph.load(tmp_path / "out", "tiny").graph.node}
    assert "DequantizeLinear" in kinds
    sizes = [(folder / "tiny.weights").stat().st_size for folder in (original.folder, tmp_path / "out")]
    assert sizes[1] < sizes[0] / 3
    assert bundle.read(tmp_path / "out").card.training["variant"]["layers"] == {"tiny": 4}  # type: ignore[index, call-overload]


def test_where_scores_move_too_far_nothing_is_written(original: Bundle, rows: list[Sample], tmp_path: Path) -> None:
    made = make(original, rows, tmp_path / "out", "int8", bound=1e-6)
    assert (made.folder, made.taken) == (None, None)
    assert [attempt.what for attempt in made.attempts] == [
        "int8",
        "int8, first and last layer in float",
        "int8, 10% of the layers in float",
        "int8, 25% of the layers in float",
        "int8, 50% of the layers in float",
    ]
    assert all(attempt.change.largest > 1e-6 for attempt in made.attempts)
    assert [len(attempt.kept["tiny"]) for attempt in made.attempts] == [0, 2, 1, 1, 2]
    assert made.attempts[1].kept["tiny"] == (1, 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["original"]


def test_layers_stay_in_float_until_scores_stay_and_the_card_says_which(
    original: Bundle, rows: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In bytes, the second layer gives three times what it should.
    quantised = Quantiser.quantised

    def spoiling(self: Quantiser, keep: Any) -> Any:
        model = quantised(self, keep)
        for weight in model.graph.initializer:
            if weight.name == "kernel1_scale":
                weight.CopyFrom(numpy_helper.from_array(3 * numpy_helper.to_array(weight), weight.name))
        return model

    monkeypatch.setattr(Quantiser, "quantised", spoiling)
    monkeypatch.setattr(Quantiser, "frailest", lambda self, told, step: [self.layers[1], self.layers[0]])
    made = make(original, rows, tmp_path / "out", "int8")
    assert [attempt.kept["tiny"] for attempt in made.attempts] == [(), (1, 4), (2,)]
    assert [attempt.change.largest > 0.02 for attempt in made.attempts] == [True, True, False]
    told: Any = bundle.read(tmp_path / "out").card.training["variant"]
    assert (told["layers_in_float"], told["what"]) == ({"tiny": [2]}, "int8, 10% of the layers in float")


def test_other_ways_to_judge_that_do_not_hold_the_bound_are_left_out(
    parts: Any, rows: list[Sample], tmp_path: Path
) -> None:
    parts.add_heads()
    # So steep about one picture's raw score that a hair's breadth in the embedding is a world to this head.
    plain = assay.load(parts.write(tmp_path / "plain").folder, head="one_class", threads=1, device="cpu")
    shown = plain.prepare(rows[8].place)
    (embedding,) = plain.embed_prepared([shown]).values()
    raw = float(plain.raw("grey-one_class", embedding).mean())
    steep = parts.judge.streams["grey-one_class"].model_copy(update={"slope": 1e5, "offset": -1e5 * raw})
    parts.judge = parts.judge.model_copy(update={"streams": {**parts.judge.streams, "grey-one_class": steep}})
    read = parts.write(tmp_path / "heads")
    made = make(read, rows, tmp_path / "out", "int8")
    assert made.taken is not None
    assert list(made.taken.changes) == ["", "head nearest", "head one_class"]
    assert made.taken.beyond(0.02) == ("head one_class",)
    variant_of = bundle.read(tmp_path / "out")
    assert list(variant_of.judge.alternatives) == ["nearest"]
    assert "Left out, as scores moved further: head one_class." in variant_of.card.notes
    assert assay.load(tmp_path / "out", head="nearest").judge(rows[8].place).score is not None
    with pytest.raises(BundleError, match="one_class"):
        assay.load(tmp_path / "out", head="one_class")


@pytest.mark.parametrize(
    ("moves", "taken", "left"),
    [
        ([(0.01, 0.5), (0.01, 0.01)], 1, ()),
        ([(0.01, 0.5), (0.5, 0.01), (0.01, 0.3)], 0, ("head one_class",)),
        ([(0.5, 0.5), (0.01, 0.5), (0.5, 0.5)], 1, ("head one_class",)),
    ],
)
def test_a_try_that_every_way_to_judge_holds_is_taken_before_an_earlier_one_that_loses_some(
    moves: list[tuple[float, float]],
    taken: int,
    left: tuple[str, ...],
    original: Bundle,
    parts: Any,
    rows: list[Sample],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = original.card.streams[0]
    another = stream.model_copy(update={"name": "grey-one_class", "head": HeadCard(kind="one_class")})
    parts.card = parts.card.model_copy(update={"streams": (stream, another)})
    parts.heads["grey-one_class"] = OneClassHead(np.ones((1, 20)), np.ones(1), intercept=0.0, gamma=1.0, degree=1)
    streams = dict.fromkeys(("grey", "grey-one_class"), parts.judge.streams["grey"])
    parts.judge = Judge(
        streams=streams,
        ensemble=parts.judge.ensemble,
        voters=("grey",),
        alternatives={"one_class": parts.judge.ensemble},
    )
    told = iter([move for each in [*moves, *[(0.5, 0.5)] * 5] for move in each])
    same = variant.compared

    def moving(*given: Any) -> variant.Change:
        return dataclasses.replace(same(*given), largest=next(told))

    monkeypatch.setattr(variant, "compared", moving)
    made = make(parts.write(tmp_path / "heads"), rows, tmp_path / "out", "int8")
    assert made.taken is made.attempts[taken]
    assert made.taken.beyond(0.02) == left
    assert list(bundle.read(tmp_path / "out").judge.alternatives) == ([] if left else ["one_class"])


def test_votes_are_ways_to_judge_too(voters: Path, rows: list[Sample], tmp_path: Path) -> None:
    made = make(bundle.read(voters), rows, tmp_path / "out", "fp16")
    assert made.taken is not None
    assert set(made.taken.changes) >= {"", "vote majority", "vote red", "vote plain_mean"}


def test_a_score_that_is_lost_is_no_small_change() -> None:
    labels = np.array([0, 1, 0, 1], np.int8)
    before = np.array([0.1, 0.9, 0.2, math.nan]), ("real", "fake", "real", "uncertain")
    after = np.array([0.1, 0.9, math.nan, math.nan]), ("real", "fake", "uncertain", "uncertain")
    change = variant.compared(before, after, labels, "abcd", 20, 0)
    assert (change.largest, change.flips, change.rows) == (math.inf, 1, 2)
    assert change.to_dict()["largest"] is None
    same = variant.compared(before, before, labels, "abcd", 20, 0)
    assert (same.largest, same.flips, same.rows, same.auc.value) == (0, 0, 3, 0)


def test_the_change_of_the_auc_is_paired() -> None:
    labels = np.tile([0, 1], 30).astype(np.int8)
    first = np.random.default_rng(0).uniform(0, 0.6, 60) + 0.4 * labels * (np.arange(60) % 3 > 0)
    words = ("real",) * 60
    change = variant.compared((first, words), (first**2, words), labels, [f"{n}" for n in range(60)], 100, 0)
    # The order is the same, so the AUC is, in every round.
    assert (change.auc.value, change.auc.low, change.auc.high) == (0, 0, 0)
    worse = variant.compared((first, words), (1 - first, words), labels, [f"{n}" for n in range(60)], 100, 0)
    assert worse.auc.low < worse.auc.value < worse.auc.high < 0


def test_test_rows_are_never_opened_and_what_was_used_counts_as_seen(
    original: Bundle, rows: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    decode = variant.decode
    monkeypatch.setattr(variant, "decode", lambda place: opened.append(place) or decode(place))
    made = make(original, rows, tmp_path / "out", "int8", calibrate=4)
    used = {sample.split for sample in rows if sample.place in opened}
    assert used == {"train", "tune"}
    assert made.failed == ()
    calibrating = [sample for sample in rows if sample.split == "train" and sample.place in opened]
    assert [sum(sample.label is label for sample in calibrating) for label in Label] == [2, 2]
    seen = bundle.read(tmp_path / "out").seen
    for sample in rows:
        if sample.split == "test":
            continue
        sha256 = hashlib.sha256(Path(sample.place).read_bytes()).hexdigest()
        assert (seen.overlaps(sha256) is not None) == (sample.place in opened)
    assert seen.overlaps("ab" * 32) is not None


def test_pixels_for_ranges_are_those_that_judging_sees(
    original: Bundle, rows: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Any] = []
    begin = Quantiser.__init__

    def watching(self: Quantiser, model: Any, views: Callable[[], Any], scratch: Path) -> None:
        shown.extend(np.concatenate(list(views())))
        begin(self, model, views, scratch)

    monkeypatch.setattr(Quantiser, "__init__", watching)
    make(original, rows, tmp_path / "out", "int8")
    detector = assay.load(original.folder, threads=1, device="cpu")
    view = original.card.streams[0].view
    expected = [
        crop.tobytes()
        for sample in rows
        if sample.split == "train"
        for crop in view.tensor(detector.prepare(sample.place).crops[view])
    ]
    assert sorted(crop.tobytes() for crop in shown) == sorted(expected)


def test_a_row_that_cannot_be_judged_is_named_and_counts_for_nothing(
    original: Bundle, rows: list[Sample], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    made = make(original, [*rows, Sample(str(broken), Label.FAKE, split="tune")], tmp_path / "out", "fp16")
    assert made.taken is not None
    assert made.taken.change.rows == 12
    assert len(made.failed) == 1
    assert made.failed[0].startswith(str(broken))


def only(rows: list[Sample], split: str, label: Label | None = None) -> list[Sample]:
    return [sample for sample in rows if sample.split == split and label in (None, sample.label)]


def test_what_cannot_be_measured_is_refused(original: Bundle, rows: list[Sample], tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no labelled row of the split tune is fake"):
        make(original, [*only(rows, "train"), *only(rows, "tune", Label.REAL)], tmp_path / "out", "fp16")
    with pytest.raises(ManifestError, match="no row has the split train"):
        make(original, only(rows, "tune"), tmp_path / "out", "int8")
    assert make(original, only(rows, "tune"), tmp_path / "fp16", "fp16").folder is not None


def test_the_original_and_other_folders_are_not_written_over(
    original: Bundle, rows: list[Sample], tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter").write_text("")
    for folder in (original.folder, tmp_path / "mine"):
        with pytest.raises(BundleError, match="choose another folder"):
            make(original, rows, folder, "fp16")
    assert bundle.read(original.folder).card == original.card


def test_an_int8_bundle_is_no_original(original: Bundle, rows: list[Sample], tmp_path: Path) -> None:
    make(original, rows, tmp_path / "int8", "int8")
    with pytest.raises(BundleError, match="computes in int8 already; export from the original"):
        make(bundle.read(tmp_path / "int8"), rows, tmp_path / "out", "fp16")


def test_rows_may_come_as_a_table(original: Bundle, rows: list[Sample], tmp_path: Path) -> None:
    made = variant.variant(original, Table.of(rows), tmp_path / "out", "fp16", rounds=10)
    assert made.folder is not None
