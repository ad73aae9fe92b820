"""Detectors side by side: each as it is alone, compared on shared rows, paired; pixels made once for all."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay import metrics
from assay.errors import ManifestError, OverlapError
from assay.image.decode import decode
from assay.judge.seen import Seen
from assay.measure import beside as module
from assay.measure.beside import UNDER, Beside, beside
from assay.measure.evaluate import evaluate
from assay.measure.paired import delong, mcnemar, newcombe
from assay.measure.robustness import conditions, robustness
from assay.types import Failure, Label, Pixels, Ruling, Sample, Verdict


@dataclasses.dataclass
class Noisy:
    """A detector whose scores are another's with noise of their own, and which fails on some files."""

    of: Any
    noise: float = 0.15
    drops: tuple[str, ...] = ()
    threshold: float = 0.55
    doubt: tuple[float, float] = (0.5, 0.55)
    fpr: float = 0.05
    name: str = "noisy"
    seen: Seen = dataclasses.field(default_factory=Seen)

    def judge_many(self, sources: Iterable[Any]) -> Iterator[Verdict | Failure]:
        for answer in self.of.judge_many(sources):
            if isinstance(answer, Failure) or answer.score is None or Path(answer.input).name in self.drops:
                yield Failure(answer.input, "corrupt", "dropped")
                continue
            drawn = np.random.default_rng(int(1e9 * answer.score)).normal()
            score = float(np.clip(answer.score + self.noise * drawn, 0, 1))
            word = (
                Ruling.FAKE if score >= self.threshold else Ruling.REAL if score < self.doubt[0] else Ruling.UNCERTAIN
            )
            yield dataclasses.replace(answer, score=score, threshold=self.threshold, verdict=word)


def measured(*detectors: Any, samples: list[Sample], **changed: Any) -> Beside:
    options = {"rounds": 40, "with_controls": False, **changed}
    return beside({f"d{number}": each for number, each in enumerate(detectors)}, samples, **options)


def scores_of(detector: Any, samples: list[Sample]) -> Any:
    return np.array([answer.score for answer in detector.judge_many([sample.place for sample in samples])])


def test_each_evaluation_is_that_of_the_detector_alone(detector, samples: list[Sample]) -> None:
    other = Noisy(detector)
    found = measured(detector, other, samples=samples, by=["kind"], with_controls=True)
    for judge, each in zip((detector, other), found.evaluations.values(), strict=True):
        assert each.to_dict() == evaluate(judge, samples, by=["kind"], rounds=40).to_dict()
    assert found.evaluations["d0"].controls is found.evaluations["d1"].controls
    assert [(each.first, each.second) for each in found.compared] == [("d0", "d1")]
    assert measured(detector, samples=samples).compared == ()


def test_differences_are_those_of_the_detectors_own_scores_and_thresholds(detector, samples: list[Sample]) -> None:
    other = Noisy(detector)
    labels = np.array([int(sample.label) for sample in samples])
    first, second = scores_of(detector, samples), scores_of(other, samples)
    [found] = measured(detector, other, samples=samples).compared
    calls = [first >= 0.6, second >= 0.55]
    one, two = ((called == labels) for called in calls)
    told = {
        "auc": [metrics.auc(labels, scores) for scores in (first, second)],
        "balanced_accuracy": [
            metrics.balanced_accuracy(labels, scores, bar) for scores, bar in ((first, 0.6), (second, 0.55))
        ],
        "accuracy": [one.mean(), two.mean()],
        "fpr": [called[labels == 0].mean() for called in calls],
        "tpr": [called[labels == 1].mean() for called in calls],
        "ece": [metrics.expected_calibration_error(labels, scores) for scores in (first, second)],
        "brier": [metrics.brier(labels, scores) for scores in (first, second)],
    }
    assert {name: less.value for name, less in found.differences.items()} == pytest.approx(
        {name: after - before for name, (before, after) in told.items()}
    )
    assert all(less.low < less.value < less.high for less in found.differences.values())
    assert (found.differences["fpr"].n, found.differences["auc"].n) == (24, 48)
    assert (found.n_real, found.n_fake, found.left_out) == (24, 24, 0)
    assert found.delong == delong(labels, first, second)
    assert found.mcnemar == {
        "all": mcnemar(one, two),
        "real": mcnemar(one[labels == 0], two[labels == 0]),
        "fake": mcnemar(one[labels == 1], two[labels == 1]),
    }
    assert found.mcnemar["all"].first_only > 0


def test_intervals_are_paired_and_bootstrapped_by_source(detector, samples: list[Sample]) -> None:
    other = Noisy(detector)
    labels = np.array([int(sample.label) for sample in samples])
    both = np.stack([scores_of(detector, samples), scores_of(other, samples)])
    told = metrics.bootstrap(
        lambda truth, rows: float(np.diff([metrics.auc(truth, each[rows.astype(int)]) for each in both])[0]),
        labels,
        np.arange(48.0),
        clusters=[sample.source for sample in samples],
        rounds=40,
        seed=3,
    )
    less = measured(detector, other, samples=samples, seed=3).compared[0].differences["auc"]
    assert (less.value, less.low, less.high) == pytest.approx((told.value, told.low, told.high), abs=1e-12)


def test_the_same_detector_twice_differs_by_nothing_and_shares_keep_a_width(detector, samples: list[Sample]) -> None:
    [found] = measured(detector, detector, samples=samples).compared
    for name in ("auc", "ece", "brier", "balanced_accuracy"):
        less = found.differences[name]
        assert less.value == less.low == less.high == 0
    called = scores_of(detector, samples[:24]) >= 0.6
    assert found.differences["fpr"] == newcombe(called, called)
    assert (found.delong.p, found.mcnemar["all"].p) == (1, 1)


def test_rows_that_one_has_no_score_for_are_left_out_of_the_comparison_alone(detector, samples: list[Sample]) -> None:
    other = Noisy(detector, noise=0.0, drops=("real3.png", "fake7.png", "fake8.png"))
    found = measured(detector, other, samples=samples)
    [compared] = found.compared
    assert (compared.n_real, compared.n_fake, compared.left_out) == (23, 22, 3)
    assert compared.differences["auc"].value == 0
    assert found.evaluations["d0"].rows.scored == 48
    assert [trouble.message for trouble in found.evaluations["d1"].rows.failures] == ["dropped"] * 3


def test_robustness_of_each_is_that_of_it_alone_and_pixels_are_made_once(
    detector, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Noisy(detector)
    under = conditions(["jpeg20", "half+noise40"])
    alone = [robustness(each, samples, under, rounds=40) for each in (detector, other)]
    decoded: list[str] = []
    made: list[Pixels] = []

    def counted(place: str) -> Any:
        decoded.append(place)
        return decode(place)

    def watched(pixels: Pixels) -> Pixels:
        made.append(pixels)
        return under["jpeg20"](pixels)

    monkeypatch.setattr(module.robustness, "decode", counted)
    found = measured(detector, other, samples=samples, conditions={**under, "jpeg20": watched})
    assert [each.robustness for each in found.evaluations.values()] == alone
    # The pictures as they are, which verdicts are compared with, and each condition.
    assert len(decoded) == 3 * 48
    assert len(made) == 48


def test_differences_under_a_condition_are_paired_too(detector, samples: list[Sample]) -> None:
    other = Noisy(detector)
    found = measured(detector, other, samples=samples, conditions=conditions(["noise40", "clean"]))
    first, second = (each.robustness for each in found.evaluations.values())
    [compared] = found.compared
    assert list(compared.robustness) == ["clean", "noise40"]
    for condition, differences in compared.robustness.items():
        assert set(differences) == set(UNDER)
        for name, less in differences.items():
            assert less.value == pytest.approx(second[condition][name].value - first[condition][name].value), name
            assert less.n == (24 if name == "fpr" else 48)
    assert compared.robustness["clean"]["auc"] == compared.differences["auc"]
    assert compared.robustness["noise40"]["flips"].value != 0


def test_progress_is_told_for_each(detector, samples: list[Sample]) -> None:
    steps: list[tuple[str, int, int]] = []
    options = {"conditions": conditions(["half"]), "progress": lambda *step: steps.append(step)}
    measured(detector, Noisy(detector), samples=samples[:3], **options)
    stages = ("looking", "judging 1/2", "judging 2/2", "clean", "half")
    assert steps == [(stage, done, 3) for stage in stages for done in (1, 2, 3)]


def test_rows_that_any_of_them_was_made_with_are_refused_before_anything_is_judged(
    detector, samples: list[Sample]
) -> None:
    other = Noisy(detector, seen=Seen.of(files=[decode(samples[5].place).sha256]))
    with pytest.raises(OverlapError, match="noisy was made with 1 of these 48 rows"):
        measured(detector, other, samples=samples)
    assert detector.asked == []
    found = measured(detector, other, samples=samples, allow_seen=True)
    assert [each.rows.seen for each in found.evaluations.values()] == [0, 1]
    with pytest.raises(ManifestError, match="no row has a label"):
        measured(detector, other, samples=[Sample("a", None)])
    with pytest.raises(ValueError, match="no detector"):
        measured(samples=samples)


def test_the_result_is_json_without_nan(detector, samples: list[Sample]) -> None:
    reals = [sample for sample in samples if sample.label is Label.REAL]
    found = measured(detector, Noisy(detector), samples=reals, conditions=conditions(["half"]))
    line = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert [each["name"] for each in line["detectors"]] == ["d0", "d1"]
    assert line["detectors"][0]["robustness"]["half"]["flips"]["n"] == 24
    [compared] = line["compared"]
    assert compared["differences"]["auc"]["value"] is None
    assert compared["delong"]["p"] is None
    assert compared["mcnemar"]["fake"] == {"first_only": 0, "second_only": 0, "p": 1.0, "n": 0}
    assert compared["robustness"]["half"]["fpr"]["n"] == 24
