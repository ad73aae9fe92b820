"""Measuring a bundle: what is judged, what is left out, and what is kept of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import assay
from assay.data.table import Table
from assay.errors import ManifestError, RecipeError
from assay.studies.conditions import conditions
from assay.studies.result import Cost, Result, heads_of, measure
from assay.types import Label, Pixels, Sample, Verdict


def grey(level: int) -> Pixels:
    noise = np.random.default_rng(level).integers(-3, 4, (64, 80, 3))
    return np.clip(level + noise, 0, 255).astype(np.uint8)


@pytest.fixture
def rows(tmp_path: Path) -> list[Sample]:
    """A dark real, a bright fake, a real whose original the tiny detector has seen, and a file that is no picture."""
    samples = []
    for number, (level, label, origin) in enumerate(((40, 0, ""), (220, 1, ""), (60, 0, "cd" * 32))):
        place = tmp_path / f"{number}.png"
        Image.fromarray(grey(level)).save(place)
        samples.append(Sample(str(place), Label(label), "lamp" * label, "s", origin=origin, split="test"))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    return [*samples, Sample(str(tmp_path / "broken.png"), Label.REAL, split="test")]


def test_rows_that_were_seen_or_cannot_be_decoded_are_counted_and_have_no_score(
    bundle_folder: Path, rows: list[Sample]
) -> None:
    found = measure(bundle_folder, Table.of(rows), conditions(["clean"]), ("linear", "nearest"), "generator")
    assert (found.seen, found.failed) == (1, 1)
    assert [(row.place, row.label, row.group) for row in found.rows] == [
        (rows[0].place, 0, ""),
        (rows[1].place, 1, "lamp"),
    ]
    assert list(found.scores) == ["linear"]
    with pytest.raises(ManifestError, match="1 were seen in training, 1 cannot be decoded"):
        measure(bundle_folder, Table.of(rows[2:]), conditions(["clean"]), ("linear",), "generator")


def test_scores_are_those_that_the_detector_gives(bundle_folder: Path, rows: list[Sample]) -> None:
    found = measure(bundle_folder, Table.of(rows), conditions(["clean", "jpeg50"]), ("linear",), "generator")
    detector = assay.load(bundle_folder, threads=1, device="cpu")
    for number, sample in enumerate(rows[:2]):
        verdict = detector.judge(sample.place)
        assert isinstance(verdict, Verdict)
        assert found.scores["linear"]["clean"][number] == verdict.score
        altered = detector.judge(conditions(["jpeg50"])["jpeg50"](grey((40, 220)[number])))
        assert found.scores["linear"]["jpeg50"][number] == altered.score


def test_a_bundle_without_any_head_asked_for_is_refused(bundle_folder: Path) -> None:
    with pytest.raises(RecipeError, match="holds linear and none of the heads asked for: nearest"):
        heads_of(bundle_folder, ("nearest",))


def test_a_result_is_kept_as_it_is(tmp_path: Path) -> None:
    result = Result(
        study="s",
        arm="a",
        seed=1,
        detector="d",
        rows=(),
        scores={"linear": {"clean": (0.25, None)}},
        cost=Cost(parameters=1, steps=2, views=3),
    )
    result.save(tmp_path)
    assert Result.load(tmp_path) == result
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]
