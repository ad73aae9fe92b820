"""Robustness: the same rows, altered as named, under the detector's own threshold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from assay.errors import InputError
from assay.image.decode import decode
from assay.measure.evaluate import evaluate
from assay.measure.robustness import CONDITIONS, robustness
from assay.types import Label, Pixels, Sample


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
    assert found["clean"] == evaluate(detector, samples, rounds=30, with_controls=False).metrics


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
