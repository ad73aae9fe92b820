"""Detectors side by side: right figures on shared rows, paired, with costs; no seen row, no failure for a score."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import assay
from assay import metrics
from assay.errors import ManifestError, OverlapError, RecipeError
from assay.image.decode import decode
from assay.image.view import View
from assay.judge.seen import Seen
from assay.measure import tradeoff as module
from assay.measure.evaluate import Judging
from assay.measure.robustness import robustness
from assay.measure.tradeoff import Contender, contender, tradeoff
from assay.types import Failure, Label, Sample, Verdict


@dataclasses.dataclass
class Changed:
    """A detector whose scores are another's with noise of their own; it takes time, and passes some rows over."""

    of: Any
    noise: float = 0.0
    takes: float = 0.0
    drops: tuple[str, ...] = ()
    seen: Seen = dataclasses.field(default_factory=Seen)
    clock: list[float] = dataclasses.field(default_factory=lambda: [0.0])
    rounds: list[str] = dataclasses.field(default_factory=list)
    name: str = "changed"
    threshold: float = 0.6
    doubt: tuple[float, float] = (0.5, 0.6)
    fpr: float = 0.05

    def judge_many(self, sources: Iterable[Any]) -> Iterator[Verdict | Failure]:
        self.rounds.append(self.name)
        for answer in self.of.judge_many(sources):
            self.clock[0] += self.takes
            if isinstance(answer, Failure) or answer.score is None:
                yield answer
                continue
            drawn = np.random.default_rng(int(answer.sha256[:8], 16)).normal()
            score = float(np.clip(answer.score + self.noise * drawn, 0, 1))
            dropped = Path(answer.input).name in self.drops
            yield dataclasses.replace(answer, score=None if dropped else score)


def side_by_side(*detectors: Judging, samples: list[Sample], **changed: Any) -> Any:
    contenders = [Contender(f"d{number}", each, 10**number, 100) for number, each in enumerate(detectors)]
    return tradeoff(contenders, samples, **{"conditions": (), "rounds": 40, "turns": 0, **changed})


def scores_of(detector: Judging, samples: list[Sample]) -> Any:
    return np.array([verdict.score for verdict in detector.judge_many([sample.place for sample in samples])])


def labels_of(samples: list[Sample]) -> Any:
    return np.array([int(sample.label) for sample in samples])


# ── figures ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_figure_is_that_of_the_detectors_own_scores(detector, samples: list[Sample]) -> None:
    worse = Changed(detector, noise=0.2)
    labels = labels_of(samples)
    first, second = scores_of(detector, samples), scores_of(worse, samples)
    found = side_by_side(detector, worse, samples=samples)
    assert (found.n_real, found.n_fake, found.left_out, found.unlabelled) == (24, 24, 0, 0)
    for row, scores in zip(found.rows, (first, second), strict=True):
        assert {name: figure.value for name, figure in row.metrics.items()} == pytest.approx(
            {
                "auc": metrics.auc(labels, scores),
                "balanced_accuracy": metrics.balanced_accuracy(labels, scores, 0.5),
                "ece": metrics.expected_calibration_error(labels, scores),
                "brier": metrics.brier(labels, scores),
            }
        )
        for figure in row.metrics.values():
            assert figure.low <= figure.value <= figure.high
    one, two = (row.metrics for row in found.rows)
    assert found.rows[0].differences == found.rows[0].kept == {}
    told = found.rows[1]
    for name, less in told.differences.items():
        assert less.value == pytest.approx(two[name].value - one[name].value)
    assert told.differences["auc"].value < -0.05
    assert told.kept["auc"].value == pytest.approx((two["auc"].value - 0.5) / (one["auc"].value - 0.5))
    ratio = two["balanced_accuracy"].value / one["balanced_accuracy"].value
    assert told.kept["balanced_accuracy"].value == pytest.approx(ratio)


def test_intervals_are_those_of_the_bootstrap_by_source(detector, samples: list[Sample]) -> None:
    found = side_by_side(detector, samples=samples, seed=3)
    sources = [sample.source for sample in samples]
    told = metrics.bootstrap(
        metrics.auc, labels_of(samples), scores_of(detector, samples), clusters=sources, rounds=40, seed=3
    )
    assert found.rows[0].metrics["auc"] == told


def test_differences_are_paired(detector, samples: list[Sample]) -> None:
    """The same detector twice differs by nothing in any round; with a little noise by less than its own interval."""
    alone = [dataclasses.replace(sample, source="") for sample in samples]
    same = side_by_side(detector, detector, samples=alone).rows[1]
    for less in same.differences.values():
        assert less.value == less.low == less.high == 0
    assert same.kept["auc"].low == same.kept["auc"].high == 1
    near = side_by_side(detector, Changed(detector, noise=0.02), samples=alone, rounds=200).rows[1]
    less, own = near.differences["auc"], near.metrics["auc"]
    assert less.low < less.high
    assert less.high - less.low < 0.5 * (own.high - own.low)


def test_nothing_is_kept_of_a_first_detector_that_is_no_better_than_chance(detector, samples: list[Sample]) -> None:
    mirrored = [dataclasses.replace(sample, label=Label(1 - int(sample.label))) for sample in samples]
    found = side_by_side(detector, detector, samples=mirrored).rows[1]
    assert math.isnan(found.kept["auc"].value)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["kept"]["auc"]["value"] is None


# ── rows ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_only_rows_that_all_have_a_score_for_are_compared(detector, samples: list[Sample], tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"broken")
    rows = [Sample(str(tmp_path / "broken.png"), Label.FAKE), *samples, Sample(samples[0].place, None)]
    picky = Changed(detector, drops=("real0.png", "fake23.png"))
    found = side_by_side(detector, picky, samples=rows)
    assert (found.n_real, found.n_fake, found.left_out, found.unlabelled) == (23, 23, 3, 1)
    assert [row.unscored for row in found.rows] == [1, 3]
    shared = [sample for sample in samples if Path(sample.place).name not in picky.drops]
    for row in found.rows:
        assert row.metrics["auc"].n == 46
        assert row.metrics["auc"].value == pytest.approx(metrics.auc(labels_of(shared), scores_of(detector, shared)))


def test_rows_that_any_detector_was_made_with_are_refused(detector, samples: list[Sample]) -> None:
    made_with = [decode(sample.place).sha256 for sample in samples[:3]]
    forgetful, other = Changed(detector), Changed(detector, seen=Seen.of(files=made_with))
    with pytest.raises(OverlapError, match=r"3 of these 48 rows .*\n.*real0\.png: d1: ") as told:
        side_by_side(forgetful, other, samples=samples)
    assert list(told.value.rows) == [sample.place for sample in samples[:3]]
    assert forgetful.rounds == []
    found = side_by_side(forgetful, other, samples=samples, allow_seen=True)
    assert [row.seen for row in found.rows] == [0, 3]
    assert found.seen
    assert found.to_dict()["seen"] is True
    assert not side_by_side(forgetful, samples=samples).seen


def test_what_cannot_be_compared_is_refused(detector, samples: list[Sample]) -> None:
    with pytest.raises(ManifestError, match="no row has a label"):
        side_by_side(detector, samples=[Sample(samples[0].place, None)])
    with pytest.raises(ValueError, match="different names"):
        tradeoff([Contender("a", detector, 1, 1)] * 2, samples)
    with pytest.raises(ValueError, match="different names"):
        tradeoff([], samples)
    with pytest.raises(RecipeError, match="no condition called 'jpg50'"):
        side_by_side(detector, samples=samples, conditions=["jpg50"])


def test_rows_of_no_score_at_all_leave_every_figure_open(detector, put: Callable[..., Sample]) -> None:
    rows = [put(f"{label}.png", 0.5, Label(label)) for label in (0, 1)]
    found = side_by_side(Changed(detector, drops=("0.png", "1.png")), samples=rows, turns=2)
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert told["detectors"][0]["metrics"]["auc"] == {"value": None, "low": None, "high": None, "n": 0}
    assert told["detectors"][0]["milliseconds"] is None
    assert told["timed"] == 0


# ── robustness ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_robustness_is_the_mean_over_the_conditions_of_what_robustness_measures(
    detector, samples: list[Sample]
) -> None:
    names = ("jpeg50", "blur1", "noise40")
    worse = Changed(detector, noise=0.1)
    found = side_by_side(detector, worse, samples=samples, conditions=names)
    for row, judge in zip(found.rows, (detector, worse), strict=True):
        told = robustness(judge, samples, module.robustness.conditions(names), rounds=0)
        assert {name: figure.value for name, figure in row.conditions.items()} == pytest.approx(
            {name: told[name]["auc"].value for name in names}
        )
        mean = np.mean([told[name]["auc"].value for name in names])
        assert row.metrics["robust_auc"].value == pytest.approx(mean)
    first, second = (row.metrics["robust_auc"] for row in found.rows)
    less = found.rows[1].differences["robust_auc"]
    assert less.value == pytest.approx(second.value - first.value)
    assert less.low <= less.value <= less.high
    assert "robust_auc" not in side_by_side(detector, samples=samples).rows[0].metrics


def test_a_row_that_one_detector_misses_under_one_condition_is_left_out_of_all_conditions(
    detector, samples: list[Sample], tmp_path: Path
) -> None:
    """The second detector fails on two of the pictures where they are halved."""

    @dataclasses.dataclass
    class Short(Changed):
        def judge_many(self, sources: Iterable[Any]) -> Iterator[Verdict | Failure]:
            for answer in super().judge_many(sources):
                small = isinstance(answer, Verdict) and answer.width < 64 and answer.sha256 in lost
                yield Failure(answer.input, "corrupt", "too small") if small else answer

    half = module.robustness.CONDITIONS["half"]
    lost = {decode(half(decode(sample.place).pixels)).sha256 for sample in samples[:2]}
    found = side_by_side(detector, Short(detector), samples=samples, conditions=["jpeg50", "half"])
    for row in found.rows:
        assert row.metrics["auc"].n == 48
        assert row.metrics["robust_auc"].n == row.conditions["jpeg50"].n == row.conditions["half"].n == 46


# ── costs ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_detectors_take_turns_and_times_are_medians_over_rounds(
    detector, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])
    order: list[str] = []
    slow, fast = (
        Changed(detector, takes=takes, clock=clock, rounds=order, name=name)
        for name, takes in (("slow", 0.040), ("fast", 0.010))
    )
    found = side_by_side(slow, fast, samples=samples, turns=3, timed=10)
    assert [row.pace for row in found.rows] == pytest.approx([40, 10])
    assert [row.times_faster for row in found.rows] == pytest.approx([1, 4])
    assert [len(row.milliseconds) for row in found.rows] == [3, 3]
    assert found.timed == 10
    # Judged once each, then in turn, each round from the next of them on.
    assert order == ["slow", "fast", "slow", "fast", "fast", "slow", "slow", "fast"]
    none = side_by_side(slow, fast, samples=samples)
    assert math.isnan(none.rows[1].pace)
    assert math.isnan(none.rows[1].times_faster)
    assert none.timed == 0


def test_load_that_hits_a_whole_round_moves_the_ratio_less_than_the_times(
    detector, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])

    @dataclasses.dataclass
    class Loaded(Changed):
        hiccup: int = 0

        def judge_many(self, sources: Iterable[Any]) -> Iterator[Verdict | Failure]:
            once = 10 if self.hiccup and len(self.rounds) == self.hiccup else 1
            takes, self.takes = self.takes, self.takes * 2 ** len(self.rounds) * once
            yield from super().judge_many(sources)
            self.takes = takes

    slow, fast = Loaded(detector, takes=0.04, clock=clock), Loaded(detector, takes=0.01, clock=clock, hiccup=1)
    found = side_by_side(slow, fast, samples=samples, turns=3)
    assert found.rows[0].milliseconds == pytest.approx((80, 160, 320))
    assert found.rows[1].milliseconds == pytest.approx((200, 40, 80))
    assert found.rows[1].times_faster == pytest.approx(4)


def test_a_bundle_counts_each_trunk_once_and_all_its_files(parts: Any, tmp_path: Path, flat: Any) -> None:
    parts.add("second")
    parts.add("third", view=View(size=32, layout="centre", minimum=16))
    folder = parts.write(tmp_path / "bundle").folder
    loaded = assay.load(folder, threads=1, device="cpu")
    one = contender(loaded, folder)
    assert one.name == "tiny"
    assert one.parameters == 12
    assert one.bytes == sum(path.stat().st_size for path in folder.iterdir())
    assert one.sha256 == loaded.sha256
    rows = []
    for number in range(12):
        place = tmp_path / f"{number}.png"
        Image.fromarray(flat(60 + 100 * (number % 2) + number)).save(place)
        rows.append(Sample(str(place), Label(number % 2), source=f"site {number}"))
    found = tradeoff([one, contender(loaded, folder, "again")], rows, conditions=["jpeg50"], rounds=10, turns=2)
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert [each["name"] for each in told["detectors"]] == ["tiny", "again"]
    assert told["detectors"][1]["differences"]["robust_auc"]["value"] == 0
    assert told["detectors"][0]["metrics"]["auc"]["value"] == 1
    assert told["detectors"][0]["milliseconds"] > 0


def test_progress_is_told_by_detector_and_condition(detector, samples: list[Sample]) -> None:
    told: list[tuple[str, int, int]] = []
    side_by_side(
        detector,
        samples=samples[20:30],
        conditions=["jpeg50"],
        turns=2,
        progress=lambda stage, done, total: told.append((stage, done, total)),
    )
    for last in (("looking", 10, 10), ("d0: clean", 10, 10), ("d0: jpeg50", 10, 10), ("timing", 2, 2)):
        assert last in told
