"""Robustness: the same rows, altered as named, under the detector's own threshold."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import itertools
import math
import multiprocessing
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage import data

from assay import metrics
from assay.errors import InputError, RecipeError
from assay.image.align import codec_round_trip
from assay.image.damage import OPERATIONS
from assay.image.decode import decode
from assay.measure.evaluate import Judged, evaluate
from assay.measure.robustness import (
    CHAINS,
    COMPOUND,
    CONDITIONS,
    FAMILIES,
    FLIPS,
    SWEEP,
    SWEEPS,
    after,
    conditions,
    damaged,
    passes,
    robustness,
)
from assay.metrics import Interval
from assay.types import Label, Pixels, Ruling, Sample

PHOTO: Pixels = data.astronaut()[60:157, 170:259]

PUBLISHED = """
    jpeg100 jpeg80 jpeg60 jpeg40 jpeg20 jpeg10 jpeg5
    noise0 noise10 noise20 noise30 noise40 noise50 noise60
    gaussian_blur0 gaussian_blur0.2 gaussian_blur0.4 gaussian_blur0.6 gaussian_blur0.8 gaussian_blur1
    motion_blur0 motion_blur0.2 motion_blur0.4 motion_blur0.6 motion_blur0.8 motion_blur1
    mix0 mix0.2 mix0.4 mix0.6 mix0.8 mix1
"""
"""The sweep of the release, written down a second time."""

ALONE = tuple(f"{name}0.5" for name in OPERATIONS if name != "jpeg")


def test_every_condition_gives_pixels_and_leaves_its_input_alone(paint: Callable[..., Pixels]) -> None:
    noise = np.random.default_rng(0).integers(0, 30, (64, 64, 3), dtype=np.uint8)
    pixels = paint(0.5, 3) + noise
    before = pixels.copy()
    for name, condition in CONDITIONS.items():
        altered = condition(pixels)
        assert altered.dtype == np.uint8, name
        assert altered.ndim == 3, name
        assert np.array_equal(pixels, before), name
        assert np.array_equal(altered, pixels) == (name == "clean"), name


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (33, 17)])
def test_every_condition_takes_any_size(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    for name, condition in CONDITIONS.items():
        factor = {"half": 0.5, "double": 2.0}.get(name, 1.0)
        assert condition(pixels).shape == (max(1, round(shape[0] * factor)), max(1, round(shape[1] * factor)), 3)


def test_stronger_compression_loses_more() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)

    def lost(name: str) -> float:
        return float(np.abs(CONDITIONS[name](pixels).astype(float) - pixels).mean())

    assert 0 < lost("jpeg95") < lost("jpeg75") < lost("jpeg50")


def test_a_blur_of_one_pixel_spreads_a_point_by_one_pixel() -> None:
    pixels = np.zeros((41, 41, 3), np.uint8)
    pixels[20, 20] = 255
    weight = CONDITIONS["blur1"](np.kron(pixels, np.ones((1, 1, 1), np.uint8)))[..., 0].astype(float)
    place = np.arange(41) - 20
    variance = (weight.sum(axis=0) * place**2).sum() / weight.sum()
    assert variance == pytest.approx(1.0, abs=0.35)


def test_clean_figures_are_those_of_the_evaluation(detector, samples: list[Sample]) -> None:
    found = robustness(detector, samples, {"clean": CONDITIONS["clean"]}, rounds=30)
    told = evaluate(detector, samples, rounds=30, with_controls=False).metrics
    assert {name: found["clean"][name] for name in told} == told
    assert set(found["clean"]) == {*told, "accuracy", *FLIPS}


def test_a_condition_that_the_detector_does_not_survive_shows(detector, samples: list[Sample]) -> None:
    def darkened(pixels: Pixels) -> Pixels:
        return pixels // 2

    found = robustness(detector, samples, {"clean": CONDITIONS["clean"], "darkened": darkened}, rounds=30)
    assert found["clean"]["tpr"].value > 0.3
    assert found["darkened"]["tpr"].value == 0.0


def test_rows_that_cannot_be_altered_are_left_out_and_the_others_keep_their_labels(
    detector, put: Callable[..., Sample], tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"broken")
    rows = [Sample(str(tmp_path / "broken.png"), Label.FAKE)]
    rows += [put(f"{n}.png", 0.8 if n % 2 else 0.3, Label(n % 2)) for n in range(8)]
    third = decode(rows[3].place).pixels

    def refuses_one(pixels: Pixels) -> Pixels:
        if np.array_equal(pixels, third):
            raise InputError("too large for the codec", kind="unsupported")
        return pixels

    steps: list[tuple[str, int, int]] = []
    found = robustness(
        detector,
        rows,
        {"x": refuses_one},
        rounds=0,
        progress=lambda name, done, total: steps.append((name, done, total)),
    )
    assert (found["x"]["auc"].value, found["x"]["auc"].n) == (1.0, 7)
    assert (found["x"]["tpr"].value, found["x"]["fpr"].value) == (1.0, 0.0)
    assert steps[-1] == ("x", 7, 9)


def under(names: tuple[str, ...], pixels: Pixels) -> list[Pixels]:
    """The pixels under each condition, built from the names anew: what another process does too."""
    return [condition(pixels) for condition in conditions(names).values()]


def test_the_sweep_is_that_of_the_paper_in_order() -> None:
    assert tuple(PUBLISHED.split()) == SWEEP
    assert tuple(conditions(SWEEP)) == SWEEP


def test_a_name_says_what_happens() -> None:
    jpeg, webp, same, half, scale = under(("jpeg30", "webp40", "clean", "half", "scale0.5"), PHOTO)
    np.testing.assert_array_equal(jpeg, codec_round_trip(PHOTO, "JPEG", 30))
    np.testing.assert_array_equal(webp, codec_round_trip(PHOTO, "WEBP", 40))
    np.testing.assert_array_equal(same, PHOTO)
    np.testing.assert_array_equal(half, scale)

    grey = np.full((200, 200, 3), 128, np.uint8)
    assert (under(("noise20",), grey)[0].astype(int) - 128).std() == pytest.approx(20, rel=0.02)

    point = np.zeros((81, 81, 3), np.uint8)
    point[40, 40] = 255
    blurred, moved = under(("blur2", "motion19"), point)
    spread = blurred[..., 0].sum(axis=0) / blurred[..., 0].sum()
    assert (spread * (np.arange(81) - 40) ** 2).sum() == pytest.approx(4, rel=0.2)
    rows, columns = np.nonzero(moved[..., 0])
    assert np.hypot(np.ptp(rows), np.ptp(columns)) == pytest.approx(18, abs=1)


def test_names_of_the_default_conditions_are_those_conditions() -> None:
    assert conditions(CONDITIONS) == CONDITIONS


def test_every_operation_of_the_engine_is_a_condition_alone() -> None:
    assert set(OPERATIONS) - {"jpeg"} <= set(FAMILIES)
    for name, changed in zip(ALONE, under(ALONE, PHOTO), strict=True):
        assert changed.shape == PHOTO.shape
        # One resize in ten leaves the size.
        assert (changed != PHOTO).any() or name == "resize0.5", name


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (33, 17)])
def test_every_named_condition_takes_any_size_and_leaves_its_input_alone(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    before = pixels.copy()
    for changed in under((*SWEEP, *ALONE), pixels):
        assert (changed.shape, changed.dtype) == (pixels.shape, np.uint8)
    np.testing.assert_array_equal(pixels, before)


def test_repeated_runs_here_and_in_another_process_see_the_same_pixels() -> None:
    names = (*SWEEP, *ALONE)
    here = under(names, PHOTO)
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        there = pool.submit(under, names, PHOTO).result()
    np.testing.assert_array_equal(here, under(names, PHOTO))
    np.testing.assert_array_equal(here, there)


def test_how_a_picture_lies_in_memory_does_not_matter_and_what_it_shows_does() -> None:
    names = ("noise20", "mix0.5", "motion9", "glitch1")
    turned = np.asfortranarray(PHOTO)
    np.testing.assert_array_equal(under(names, PHOTO), under(names, turned))
    first = np.full((50, 50, 3), 100, np.uint8)
    second = first.copy()
    second[0, 0, 0] = 101
    patterns = [under(("noise20",), pixels)[0].astype(int) - pixels for pixels in (first, second)]
    assert abs(np.corrcoef(patterns[0].ravel(), patterns[1].ravel())[0, 1]) < 0.1
    tall, wide = (under(("noise20",), np.full(shape, 100, np.uint8))[0] for shape in ((50, 40, 3), (40, 50, 3)))
    assert (tall.ravel() != wide.ravel()).any()


def test_strengths_of_one_kind_differ_in_strength_alone() -> None:
    grey = np.full((60, 60, 3), 128, np.uint8)
    weak, strong = (noise.astype(int) - 128 for noise in under(("noise10", "noise20"), grey))
    assert np.abs(strong - 2 * weak).max() <= 2


def test_each_family_of_the_sweep_grows_from_nearly_nothing() -> None:
    change = {
        name: np.abs(condition(PHOTO).astype(int) - PHOTO).mean() for name, condition in conditions(SWEEP).items()
    }
    for family in ("jpeg", "noise", "gaussian_blur", "motion_blur", "mix"):
        steps = [change[name] for name in SWEEP if name.rstrip("0123456789.") == family]
        assert steps[0] < 2
        assert steps == sorted(steps)
        assert steps[-1] > 1.5 * steps[1] > 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("moir0.5", "no condition called 'moir0.5'; did you mean moire0.5"),
        ("cleen", "no condition called 'cleen'; did you mean clean"),
        ("noise", "'noise' needs a number behind it"),
        ("jpeg0", "jpeg takes its quality, a whole number from 1 to 100"),
        ("jpeg101", "jpeg takes its quality, a whole number from 1 to 100"),
        ("jpeg30.5", "jpeg takes its quality, a whole number from 1 to 100"),
        ("mix1.5", "mix takes its strength, from 0 to 1"),
        ("blur-1", "no condition called 'blur-1'; did you mean blur1"),
        ("jpeg30\n", "no condition called"),
        ("", "no condition called ''; known: "),
    ],
)
def test_a_name_that_does_not_hold_is_refused_with_what_would(name: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        conditions(["clean", name])


def test_damage_that_does_not_exist_is_refused() -> None:
    with pytest.raises(RecipeError, match="did you mean moire"):
        damaged("moir", 0.5)
    with pytest.raises(RecipeError, match="give 0 to 1"):
        damaged("moire", 2.0)


def test_figures_under_chance_are_the_same_in_every_run(detector, samples: list[Sample]) -> None:
    chosen = conditions(["noise20", "mix0.4"])
    first, second = (robustness(detector, samples, chosen, rounds=20) for _ in range(2))
    assert first == second
    assert list(first) == ["noise20", "mix0.4"]


# ── chains ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_names_joined_by_a_plus_happen_one_upon_another() -> None:
    half, jpeg, noise = (conditions([name])[name] for name in ("half", "jpeg50", "noise10"))
    chain, turned = under(("half+jpeg50+noise10", "noise10+jpeg50+half"), PHOTO)
    np.testing.assert_array_equal(chain, noise(jpeg(half(PHOTO))))
    np.testing.assert_array_equal(turned, half(jpeg(noise(PHOTO))))
    assert (chain != turned).any()
    twice = codec_round_trip(codec_round_trip(PHOTO, "JPEG", 75), "JPEG", 50)
    np.testing.assert_array_equal(under(("jpeg75+jpeg50",), PHOTO)[0], twice)


def test_chains_with_a_name_are_what_they_stand_for() -> None:
    large = np.random.default_rng(0).integers(0, 256, (700, 1400, 3), dtype=np.uint8)
    for name, chain in CHAINS.items():
        np.testing.assert_array_equal(*under((name, chain), large))
    social, screenshot = under(("social", "screenshot"), large)
    assert social.shape == (360, 720, 3)
    assert screenshot.shape == (560 - 2 * 11, 1120 - 2 * 22, 3)
    small = PHOTO[:40, :40]
    np.testing.assert_array_equal(under(("social",), small)[0], under(("jpeg75+jpeg75",), small)[0])
    np.testing.assert_array_equal(under(("social+half",), small)[0], under(("jpeg75+jpeg75+half",), small)[0])


def test_pictures_are_fitted_by_their_longer_side_and_trimmed_at_each_edge() -> None:
    fitted, same, trimmed, whole = under(("fit48", "fit97", "trim0.1", "trim0"), PHOTO)
    assert fitted.shape == (48, round(89 * 48 / 97), 3)
    np.testing.assert_array_equal(same, PHOTO)
    np.testing.assert_array_equal(trimmed, PHOTO[9:88, 8:81])
    np.testing.assert_array_equal(whole, PHOTO)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (33, 17)])
def test_every_compound_takes_any_size_and_leaves_its_input_alone(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    before = pixels.copy()
    for changed in under((*COMPOUND, "trim0.45+jpeg50"), pixels):
        assert changed.dtype == np.uint8
        assert min(changed.shape[:2]) >= 1
    np.testing.assert_array_equal(pixels, before)


def test_the_everyday_sweep_is_a_part_of_the_full_one_and_both_can_be_made() -> None:
    assert set(SWEEPS["everyday"]) == {*CONDITIONS, *COMPOUND}
    assert set(SWEEPS["full"]) == {*CONDITIONS, *SWEEP, *COMPOUND}
    for names in SWEEPS.values():
        assert names[0] == "clean"
        assert tuple(conditions(names)) == names


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("half+", "no condition called ''"),
        ("half+jpg50", "no condition called 'jpg50'; did you mean jpeg50"),
        ("jpeg50+noise", "'noise' needs a number behind it"),
        ("sociall", "did you mean social"),
        ("fit8", "fit takes its longest side in px, a whole number from 16"),
        ("trim0.5", "trim takes its share cut off at each edge, from 0 to 0.45"),
    ],
)
def test_a_chain_that_does_not_hold_is_refused_by_its_part(name: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        conditions([name])


# ── verdicts that change ─────────────────────────────────────────────────────────────────────────────────────────────


def row(number: int, word: Ruling, score: float | None = 0.5, label: Label = Label.REAL, source: str = "") -> Judged:
    return Judged(Sample(str(number), label, source=source), score, 0.6, word)


def test_each_kind_of_change_is_counted_against_the_same_rows_word() -> None:
    real, fake, unsure = Ruling.REAL, Ruling.FAKE, Ruling.UNCERTAIN
    changes = [(real, real)] * 3 + [(real, fake)] * 2 + [(fake, real)] + [(real, unsure)] * 2 + [(fake, unsure)]
    changes += [(unsure, fake), (unsure, unsure)]
    # The rows come in another order, and one was not judged as it is.
    rows = [row(number, now) for number, (_, now) in reversed(list(enumerate(changes)))] + [row(99, fake)]
    words = {str(number): before for number, (before, _) in enumerate(changes)}
    found = after(rows, words, rounds=20)
    counts = {name: round(found[name].value * 11) for name in FLIPS}
    told = {"flips": 7, "real_to_fake": 2, "fake_to_real": 1, "to_uncertain": 3, "from_uncertain": 1}
    assert counts == told
    assert {found[name].n for name in FLIPS} == {11}
    assert found["fpr"].n == 12


def test_accuracy_is_that_of_all_rows_at_their_own_threshold() -> None:
    rows = [row(number, Ruling.REAL, score) for number, score in enumerate((0.1, 0.59, 0.6))]
    rows += [row(9, Ruling.FAKE, 0.7, Label.FAKE), row(10, Ruling.UNCERTAIN, None, Label.FAKE)]
    found = after(rows, {}, rounds=20)
    assert (found["accuracy"].value, found["accuracy"].n) == (0.75, 4)
    assert found["balanced_accuracy"].value == pytest.approx((2 / 3 + 1) / 2)
    assert found["flips"].n == 0
    assert math.isnan(found["flips"].value)


def test_no_change_on_few_rows_is_not_taken_for_certainty_and_sources_flip_together() -> None:
    def changed(every: int, sources: int) -> Interval:
        words = {str(number): Ruling.REAL for number in range(200)}
        rows = [
            row(number, Ruling.FAKE if number % 20 < every else Ruling.REAL, source=f"s{number % sources}")
            for number in range(200)
        ]
        return after(rows, words, rounds=200)["flips"]

    assert changed(0, 200) == metrics.wilson(0, 200)
    apart, together = changed(10, 200), changed(10, 20)
    assert apart.value == together.value == 0.5
    assert together.high - together.low > 2 * (apart.high - apart.low)


def test_verdicts_are_compared_with_the_pictures_as_they_are_also_where_these_are_no_condition(
    detector, samples: list[Sample]
) -> None:
    def darkened(pixels: Pixels) -> Pixels:
        return (pixels * 0.6).astype(np.uint8)

    before = {answer.input: answer.verdict for answer in detector.judge_many([sample.place for sample in samples])}
    now = [
        answer.verdict for answer in detector.judge_many([darkened(decode(sample.place).pixels) for sample in samples])
    ]
    told = np.mean([before[sample.place] is not word for sample, word in zip(samples, now, strict=True)])
    found = robustness(detector, samples, {"darkened": darkened}, rounds=20)
    assert list(found) == ["darkened"]
    assert found["darkened"]["flips"].value == pytest.approx(told)
    assert found["darkened"]["fake_to_real"].value > 0.1
    assert found["darkened"]["real_to_fake"].value == 0
    clean = robustness(detector, samples, {"clean": CONDITIONS["clean"]}, rounds=20)["clean"]
    assert clean["flips"].value == 0


class Forgetful(list[object]):
    def append(self, _: object) -> None: ...


def test_pictures_are_let_go_as_soon_as_every_detector_has_drawn_them(detector, samples: list[Sample]) -> None:
    alive, most = [0], [0]

    def count(change: int) -> None:
        alive[0] += change
        most[0] = max(most[0], alive[0])

    class Watched(np.ndarray[Any, Any]):
        pass

    def watched(pixels: Pixels) -> Pixels:
        made = pixels.copy().view(Watched)
        count(1)
        weakref.finalize(made, count, -1)
        return made

    @dataclasses.dataclass
    class Ahead:
        """Draws a few pictures ahead, as detectors do."""

        name: str = "ahead"
        threshold: float = 0.6

        def judge_many(self, sources: Any) -> Any:
            drawing = iter(sources)
            while held := [np.array(each) for each in itertools.islice(drawing, 4)]:
                yield from judge.judge_many(held)

    judge = dataclasses.replace(detector, asked=Forgetful())
    judged = 0
    for _, found in passes([Ahead(), Ahead()], samples, {"x": watched}):
        judged += len(found[0][0])
    assert judged == 2 * 48
    assert 4 <= most[0] <= 8
