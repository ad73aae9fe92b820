"""Evaluations: right figures, no seen row, no failure taken for a score."""

from __future__ import annotations

import dataclasses
import io
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import assay
from assay import metrics
from assay.errors import ManifestError, OverlapError
from assay.image.decode import decode
from assay.image.fingerprint import perceptual_hash
from assay.judge.seen import Seen
from assay.measure.evaluate import Judged, evaluate, figures
from assay.types import Label, Ruling, Sample

QUICK = {"rounds": 50, "with_controls": False}


def scores_of(detector, samples: list[Sample]) -> tuple[np.ndarray, np.ndarray]:
    verdicts = list(detector.judge_many(sample.place for sample in samples))
    return np.array([int(sample.label) for sample in samples]), np.array([verdict.score for verdict in verdicts])


def test_every_figure_is_that_of_the_detectors_own_scores_and_verdicts(detector, samples: list[Sample]) -> None:
    labels, scores = scores_of(detector, samples)
    found = evaluate(detector, samples, **QUICK).metrics
    fpr, tpr = metrics.rates(labels, scores, 0.6)
    decided = (scores < 0.5) | (scores >= 0.6)
    expected = {
        "auc": metrics.auc(labels, scores),
        "balanced_accuracy": (tpr + 1 - fpr) / 2,
        "ece": metrics.expected_calibration_error(labels, scores),
        "brier": np.mean((labels - scores) ** 2),
        "fpr": fpr,
        "tpr": tpr,
        "tpr_at_fpr_1": metrics.tpr_at_fpr(labels, scores, 0.01),
        "tpr_at_fpr_5": metrics.tpr_at_fpr(labels, scores, 0.05),
        "coverage": decided.mean(),
        "false_fake": (scores >= 0.6)[(labels == 0) & decided].mean(),
        "false_real": (scores < 0.5)[(labels == 1) & decided].mean(),
        "base_rate_precision": 0.01 * tpr / (0.01 * tpr + 0.99 * fpr),
    }
    assert {name: interval.value for name, interval in found.items()} == pytest.approx(expected)
    assert 0 < fpr < 1
    assert 0 < tpr < 1
    for interval in found.values():
        assert interval.low <= interval.value <= interval.high
    assert found["false_fake"].n == int(((labels == 0) & decided).sum())


def test_a_file_that_cannot_be_judged_is_listed_and_moves_no_figure(detector, samples, tmp_path: Path) -> None:
    plain = evaluate(detector, samples, **QUICK)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    broken = Sample(str(tmp_path / "broken.png"), Label.FAKE, source="site 0")
    gone = Sample(str(tmp_path / "gone.png"), Label.REAL, source="camera 0")
    found = evaluate(detector, [broken, *samples, gone], **QUICK)
    assert found.metrics == plain.metrics
    assert found.groups == plain.groups
    assert [(trouble.place, bool(trouble.message)) for trouble in found.rows.failures] == [
        (broken.place, True),
        (gone.place, True),
    ]
    assert found.rows.failures[1].kind == "missing"
    assert (found.rows.n, found.rows.scored, found.rows.n_real, found.rows.n_fake) == (50, 48, 25, 25)


def test_a_row_to_which_nothing_applies_is_uncertain_and_not_scored(detector, samples, tmp_path: Path) -> None:
    plain = evaluate(detector, samples, **QUICK)
    green = np.zeros((64, 64, 3), np.uint8)
    green[..., 1] = np.random.default_rng(0).integers(120, 255, (64, 64))
    Image.fromarray(green).save(tmp_path / "green.png")
    found = evaluate(detector, [*samples, Sample(str(tmp_path / "green.png"), Label.FAKE)], **QUICK)
    (trouble,) = found.rows.not_applicable
    assert trouble.message == "level: too green"
    assert found.metrics["auc"].value == plain.metrics["auc"].value
    assert found.metrics["coverage"].value == pytest.approx(plain.metrics["coverage"].value * 48 / 49)
    assert (found.rows.scored, found.metrics["auc"].n, found.metrics["coverage"].n) == (48, 48, 49)


def recompressed(sample: Sample, folder: Path) -> Sample:
    """The same picture in another file, of no stated origin."""
    file = io.BytesIO()
    Image.open(sample.place).convert("RGB").save(file, "JPEG", quality=75)
    place = folder / "copy.jpg"
    place.write_bytes(file.getvalue())
    return dataclasses.replace(sample, place=str(place))


@pytest.mark.parametrize("way", ["file", "origin", "look"])
def test_a_row_the_detector_was_made_with_is_refused_before_anything_is_judged(
    detector, samples, tmp_path: Path, way: str
) -> None:
    seen = decode(samples[5].place)
    tested = list(samples)
    if way == "file":
        detector.seen = Seen.of(files=[seen.sha256])
    elif way == "origin":
        detector.seen = Seen.of(origins=["0a" * 32])
        tested[5] = dataclasses.replace(samples[5], origin="0a" * 32)
    else:
        detector.seen = Seen.of(files=[seen.sha256], phashes=[perceptual_hash(seen.pixels)])
        tested[5] = recompressed(samples[5], tmp_path)
    with pytest.raises(OverlapError, match="made with 1 of these 48 rows") as caught:
        evaluate(detector, tested, **QUICK)
    assert caught.value.rows == (tested[5].place,)
    assert tested[5].place in str(caught.value)
    assert detector.asked == []


def test_seen_rows_are_measured_and_counted_where_that_is_allowed(detector, samples) -> None:
    detector.seen = Seen.of(files=[decode(sample.place).sha256 for sample in samples[:7]])
    found = evaluate(detector, samples, allow_seen=True, **QUICK)
    assert (found.rows.seen, found.rows.scored) == (7, 48)


def test_rows_without_a_label_are_left_out_and_counted(detector, samples, put: Callable[..., Sample]) -> None:
    found = evaluate(detector, [*samples, put("unknown.png", 0.9, None)], **QUICK)
    assert (found.rows.n, found.rows.unlabelled) == (48, 1)
    assert not any("unknown" in str(place) for place in detector.asked)


def test_a_table_without_any_label_is_refused(detector, put: Callable[..., Sample]) -> None:
    with pytest.raises(ManifestError, match="no row has a label"):
        evaluate(detector, [put("unknown.png", 0.9, None)])


def test_a_generator_is_measured_against_all_reals(detector, samples) -> None:
    found = evaluate(detector, samples, **QUICK).groups["generator"]
    labels, scores = scores_of(detector, samples)
    assert set(found) == {"common", "rare"}
    for name in found:
        inside = np.array([sample.generator == name for sample in samples])
        expected = metrics.auc(labels[inside | (labels == 0)], scores[inside | (labels == 0)])
        assert found[name].figures["auc"].value == pytest.approx(expected)
        assert found[name].figures["tpr"].value == pytest.approx(np.mean(scores[inside] >= 0.6))
        assert set(found[name].figures) == {"auc", "tpr"}
    assert (found["common"].n_fake, found["common"].small) == (21, False)
    assert (found["rare"].n_fake, found["rare"].small) == (3, True)
    assert found["common"].figures["auc"].low < found["common"].figures["auc"].high
    assert math.isnan(found["rare"].figures["auc"].low)


def test_sources_of_reals_get_their_false_positive_rate(detector, samples) -> None:
    found = evaluate(detector, samples, **QUICK).groups["source"]
    _, scores = scores_of(detector, samples)
    assert set(found) == {"camera 0", "camera 1"}
    inside = np.array([sample.source == "camera 1" for sample in samples])
    assert found["camera 1"].figures["fpr"].value == pytest.approx(np.mean(scores[inside] >= 0.6))
    assert (found["camera 1"].n_real, found["camera 1"].small) == (12, True)


def test_a_further_column_is_broken_down_within_itself(detector, samples) -> None:
    found = evaluate(detector, samples, by=["kind"], **QUICK).groups["kind"]
    labels, scores = scores_of(detector, samples)
    inside = np.array([sample.groups["kind"] == "crop" for sample in samples])
    assert found["crop"].figures["auc"].value == pytest.approx(metrics.auc(labels[inside], scores[inside]))
    assert (found["crop"].n_real, found["crop"].n_fake, found["crop"].small) == (4, 4, True)
    assert (found["whole"].n_real, found["whole"].n_fake, found["whole"].small) == (20, 20, False)


def test_a_column_that_no_row_has_is_refused_before_any_work(detector, samples) -> None:
    with pytest.raises(ManifestError, match="no column called 'knd'; did you mean kind"):
        evaluate(detector, samples, by=["knd"])
    assert detector.asked == []


def test_each_column_asked_for_is_audited_at_the_detectors_own_threshold(detector, samples, put) -> None:
    green = np.zeros((64, 64, 3), np.uint8)
    green[..., 1] = np.random.default_rng(0).integers(120, 255, (64, 64))
    Image.fromarray(green).save(Path(samples[0].place).parent / "green.png")
    odd = Sample(str(Path(samples[0].place).parent / "green.png"), Label.REAL, groups={"kind": "crop"})
    found = evaluate(detector, [odd, *samples], by=["kind", "generator", "kind"], **QUICK)
    labels, scores = scores_of(detector, samples)
    assert list(found.fairness) == ["kind", "generator"]
    assert list(evaluate(detector, samples, **QUICK).fairness) == []
    parts = found.fairness["kind"].groups
    for name in ("crop", "whole"):
        inside = np.array([sample.groups["kind"] == name for sample in samples])
        assert parts[name].fpr.value == pytest.approx(np.mean(scores[inside & (labels == 0)] >= 0.6))
        assert parts[name].fnr.value == pytest.approx(np.mean(scores[inside & (labels == 1)] < 0.6))
    inside = np.array([sample.groups["kind"] == "crop" for sample in samples])
    unsure = ((scores >= 0.5) & (scores < 0.6) & inside).sum()
    assert (parts["crop"].n_real, parts["crop"].uncertain) == (4, pytest.approx((unsure + 1) / 9))
    assert found.groups["kind"] == evaluate(detector, samples, by=["kind"], **QUICK).groups["kind"]
    whole = scores[~inside & (labels == 0)]
    assert parts["whole"].own.threshold == metrics.threshold_at_fpr(whole, 0.05)
    assert found.fairness["generator"].groups["(not named)"].n_real == 24
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["fairness"]["kind"]["gaps"]["fpr"] is None


def test_the_format_needs_no_column_and_a_column_of_that_name_wins(detector, put: Callable[..., Sample]) -> None:
    rows = [put(f"{n}.{'jpg' if n % 3 else 'png'}", 0.3 + 0.1 * (n % 4), Label(n % 2)) for n in range(12)]
    found = evaluate(detector, rows, by=["format"], **QUICK)
    sizes = {name: (part.n_real, part.n_fake) for name, part in found.fairness["format"].groups.items()}
    assert sizes == {"JPEG": (4, 4), "PNG": (2, 2)}
    assert set(found.groups["format"]) == {"JPEG", "PNG"}
    named = [dataclasses.replace(row, groups={"format": "raw"}) for row in rows]
    assert list(evaluate(detector, named, by=["format"], **QUICK).fairness["format"].groups) == ["raw"]


def test_columns_joined_by_a_star_are_crossed_and_a_row_that_lacks_one_is_not_named(detector, samples) -> None:
    cells = [("f", "old"), ("f", "young"), ("m", "old"), ("m", "")]
    rows = [
        dataclasses.replace(sample, groups=dict(zip(("sex", "age"), cells[number % 4], strict=True)))
        for number, sample in enumerate(samples)
    ]
    found = evaluate(detector, rows, by=["sex*age", "sex * format"], **QUICK)
    sizes = {name: part.n_real for name, part in found.fairness["sex*age"].groups.items()}
    assert sizes == {"f*old": 6, "f*young": 6, "m*old": 6, "(not named)": 6}
    assert set(found.groups["sex*age"]) == set(sizes)
    assert set(found.fairness["sex * format"].groups) == {"f*PNG", "m*PNG"}
    with pytest.raises(ManifestError, match="no column called 'agee'; did you mean age"):
        evaluate(detector, rows, by=["sex*agee"], **QUICK)


def test_a_star_in_a_cell_merges_no_crossings(detector, samples) -> None:
    cells = [{"x": "a*b", "y": "c"}, {"x": "a", "y": "b*c"}]
    rows = [dataclasses.replace(sample, groups=cells[number % 2]) for number, sample in enumerate(samples)]
    assert len(evaluate(detector, rows, by=["x*y"], **QUICK).fairness["x*y"].groups) == 2


def test_a_row_that_fails_shifts_no_other_rows_group(detector, samples, tmp_path: Path) -> None:
    plain = evaluate(detector, samples, by=["kind", "kind*source"], **QUICK)
    (tmp_path / "broken.png").write_bytes(b"broken")
    broken = Sample(str(tmp_path / "broken.png"), Label.REAL, groups={"kind": "other"})
    found = evaluate(detector, [broken, *samples], by=["kind", "kind*source"], **QUICK)
    assert found.fairness == plain.fairness
    assert found.groups == plain.groups


def test_any_column_that_is_filled_can_be_asked_for(detector, samples) -> None:
    rows = [dataclasses.replace(sample, subject=f"s{number % 2}") for number, sample in enumerate(samples)]
    assert set(evaluate(detector, rows, by=["subject"], **QUICK).fairness["subject"].groups) == {"s0", "s1"}
    with pytest.raises(ManifestError, match="no column called 'subject'"):
        evaluate(detector, samples, by=["subject"], **QUICK)


def test_the_controls_stand_beside_the_figures(detector, put: Callable[..., Sample]) -> None:
    random = np.random.default_rng(0)
    rows = [
        put(f"{n}.{'jpg' if n % 2 else 'png'}", random.uniform(0.3, 0.7), Label(n % 2), source=f"s{n % 12}")
        for n in range(72)
    ]
    found = evaluate(detector, rows, rounds=20)
    assert found.controls is not None
    assert found.controls.alone["format"].auc.value == 1.0
    assert found.controls.metadata.auc.value > 0.9
    assert abs(found.metrics["auc"].value - 0.5) < 0.25


def test_controls_can_be_fitted_on_other_rows_and_never_on_the_evaluated(detector, samples, put) -> None:
    others = [put(f"other{n}.png", 0.5, Label(n % 2)) for n in range(30)]
    found = evaluate(detector, samples, rounds=20, control_fit=[*others, samples[0]])
    assert found.controls is not None
    assert found.controls.fitted == "on 30 other rows"


def test_the_result_is_json_without_nan_even_where_a_class_is_absent(detector, samples) -> None:
    reals = [sample for sample in samples if sample.label is Label.REAL]
    line = json.loads(json.dumps(evaluate(detector, reals, rounds=20).to_dict(), allow_nan=False))
    assert line["metrics"]["auc"] == {"value": None, "low": None, "high": None, "n": 24}
    assert line["metrics"]["fpr"]["value"] is not None
    assert line["groups"]["generator"] == {}
    assert {"rows", "metrics", "groups", "controls", "detector"} <= set(line)
    assert line["detector"] == {"name": "brightness", "version": "1", "sha256": "ab" * 32}


def test_an_evaluation_in_which_every_row_fails_says_so(detector, tmp_path: Path) -> None:
    found = evaluate(detector, [Sample(str(tmp_path / "gone.png"), Label.REAL)], rounds=20)
    assert (found.rows.scored, len(found.rows.failures)) == (0, 1)
    assert found.detector == {"name": "brightness"}
    json.dumps(found.to_dict(), allow_nan=False)


def judged(real: list[tuple[float, Ruling]], fake: list[tuple[float, Ruling]]) -> list[Judged]:
    rows = [(Label.REAL, *row) for row in real] + [(Label.FAKE, *row) for row in fake]
    return [
        Judged(Sample(str(number), label), score, 0.6, ruling) for number, (label, score, ruling) in enumerate(rows)
    ]


def test_the_base_rate_line_says_what_a_fake_verdict_is_worth(detector, samples) -> None:
    rows = judged(
        [(0.1, Ruling.REAL)] * 95 + [(0.9, Ruling.FAKE)] * 5, [(0.9, Ruling.FAKE)] * 80 + [(0.1, Ruling.REAL)] * 20
    )
    precision = figures(rows, rounds=50)["base_rate_precision"]
    assert precision.value == pytest.approx(0.008 / (0.008 + 0.0495))
    found = dataclasses.replace(evaluate(detector, samples, **QUICK), metrics={"base_rate_precision": precision})
    assert 'where 1 picture in 100 is fake, a "fake" verdict is right 13.9 % of the time' in found.base_rate_line


def test_no_error_on_few_rows_is_not_taken_for_certainty() -> None:
    rows = judged([(0.1, Ruling.REAL)] * 30, [(0.9, Ruling.FAKE)] * 30)
    found = figures(rows, rounds=50)
    assert found["fpr"].value == 0.0
    assert found["fpr"].high == pytest.approx(metrics.wilson(0, 30).high)
    assert found["base_rate_precision"].value == 1.0
    assert found["base_rate_precision"].low < 0.1


def test_uncertain_verdicts_count_against_coverage_and_not_as_errors() -> None:
    rows = judged(
        [(0.1, Ruling.REAL)] * 2 + [(0.55, Ruling.UNCERTAIN)] * 2, [(0.9, Ruling.FAKE)] * 3 + [(0.1, Ruling.REAL)]
    )
    found = figures(rows, rounds=20)
    assert found["coverage"].value == 0.75
    assert (found["false_fake"].value, found["false_fake"].n) == (0.0, 2)
    assert (found["false_real"].value, found["false_real"].n) == (0.25, 4)


def test_rows_of_one_source_that_err_together_make_a_wider_interval() -> None:
    def rows(apart: bool) -> list[Judged]:
        made = []
        for number in range(200):
            score = 0.9 if number // 20 % 2 else 0.1
            source = f"s{number}" if apart else f"s{number // 20}"
            ruling = Ruling.FAKE if score > 0.5 else Ruling.REAL
            made.append(Judged(Sample(str(number), Label.REAL, source=source), score, 0.6, ruling))
        return made

    together, single = (figures(rows(apart), rounds=300)["fpr"] for apart in (False, True))
    assert together.value == single.value == 0.5
    assert together.high - together.low > 2 * (single.high - single.low)


def test_the_same_seed_gives_the_same_evaluation(detector, samples) -> None:
    assert evaluate(detector, samples, **QUICK).to_dict() == evaluate(detector, samples, **QUICK).to_dict()


def test_progress_is_told_stage_by_stage(detector, samples) -> None:
    steps: list[tuple[str, int, int]] = []
    evaluate(detector, samples[:3], progress=lambda *step: steps.append(step), **QUICK)
    assert steps == [(stage, done, 3) for stage in ("looking", "judging") for done in (1, 2, 3)]


def test_nothing_called_fake_leaves_the_worth_of_such_a_verdict_open(detector, samples) -> None:
    detector.threshold, detector.doubt = 2.0, (2.0, 2.0)
    found = evaluate(detector, samples, **QUICK)
    assert math.isnan(found.metrics["base_rate_precision"].value)
    assert "is not known" in found.base_rate_line


def test_a_row_is_called_by_the_threshold_of_its_own_verdict() -> None:
    # Where a stream does not apply to a picture, the verdict rests on another bar.
    rows = [
        Judged(Sample("a", Label.REAL, source="s"), 0.65, 0.7, Ruling.REAL),
        Judged(Sample("b", Label.REAL, source="s"), 0.65, 0.6, Ruling.FAKE),
        Judged(Sample("c", Label.FAKE, source="s"), 0.9, 0.95, Ruling.REAL),
        Judged(Sample("d", Label.FAKE, source="s"), 0.8, 0.7, Ruling.FAKE),
    ]
    found = figures(rows, rounds=20)
    assert (found["fpr"].value, found["tpr"].value, found["balanced_accuracy"].value) == (0.5, 0.5, 0.5)


def test_a_loaded_bundle_can_be_evaluated(bundle_folder: Path, samples) -> None:
    found = evaluate(assay.load(bundle_folder, threads=1, device="cpu"), samples, **QUICK)
    assert found.rows.scored == 48
    assert found.metrics["auc"].value > 0.7
    assert found.detector["name"] == "tiny"
