"""Measuring a bundle: what is judged, what is left out, and what is kept of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

import assay
from assay.data.table import Table
from assay.errors import ManifestError, RecipeError
from assay.image.view import View
from assay.studies.conditions import conditions
from assay.studies.result import Cost, Result, heads_of, measure
from assay.studies.study import DEFAULT, VOTES
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


def test_heads_are_taken_by_kind_by_rule_by_stream_or_as_the_bundle_ships(voters: Path, rows: list[Sample]) -> None:
    place = rows[0].place
    wanted = (DEFAULT, "best", *VOTES[:-1], "grey", "blue", "linear", "mlp", "nearest")
    found = heads_of(voters, wanted)
    assert list(found) == [name for name in wanted if name not in ("mlp", "nearest")]
    bars = {name: detector.threshold for name, detector in found.items()}
    rules = {"modified_majority": 0.7, "majority": 0.65, "mean": 0.6, "plain_mean": 0.55, "best": 0.85}
    assert bars == rules | {"grey": 0.8, "blue": 0.9, DEFAULT: 0.7, "linear": 0.7}
    assert [stream.name for stream in found["blue"].streams] == ["blue"]
    assert [stream.name for stream in found["best"].streams] == ["red"]
    for name in ("majority", "blue", "best"):
        asked = assay.load(voters, vote=name, device="cpu")
        assert (found[name].sha256, found[name].judge(place).score) == (asked.sha256, asked.judge(place).score)
    shipped = assay.load(voters, device="cpu")
    assert found[DEFAULT].sha256 == found["modified_majority"].sha256 == found["linear"].sha256 == shipped.sha256
    with pytest.raises(RecipeError, match="none of the heads asked for: nearest, mlp") as told:
        heads_of(voters, ("nearest", "mlp"))
    assert DEFAULT not in str(told.value)


def test_heads_of_several_kinds_are_told_apart(parts: Any, tmp_path: Path) -> None:
    parts.add_heads()
    folder = parts.write(tmp_path / "heads").folder
    found = heads_of(folder, (DEFAULT, "linear", "one_class"))
    assert [stream.head.kind for stream in found["one_class"].streams] == ["one_class"]
    assert found["one_class"].threshold == 0.6
    assert found["linear"].sha256 == found[DEFAULT].sha256 != found["one_class"].sha256


def test_measuring_gives_each_heads_own_threshold_and_no_embeddings_unless_asked(
    voters: Path, rows: list[Sample]
) -> None:
    heads = ("modified_majority", "mean", "blue", DEFAULT, "nearest")
    found = measure(voters, Table.of(rows), conditions(["clean"]), heads, "generator")
    assert found.thresholds == {"modified_majority": 0.7, "mean": 0.6, "blue": 0.9, DEFAULT: 0.7}
    assert set(found.scores) == set(found.thresholds)
    assert found.embedding == {}
    assert found.scores["mean"]["clean"] != found.scores["blue"]["clean"]


def test_embeddings_are_looked_at_stream_by_stream_and_drawn(
    parts: Any, tmp_path: Path, flat: Callable[..., Any]
) -> None:
    parts.add("red", view=View(size=32, layout="grid", across=3, minimum=24))
    two = parts.write(tmp_path / "two").folder
    samples = []
    for number in range(24):
        fake = bool(number % 2)
        place = tmp_path / f"row-{number}.png"
        Image.fromarray(flat(4 * number + 130 * fake)).save(place)
        samples.append(Sample(str(place), Label(fake), "lamp" * fake, f"s{number % 6}", split="test"))
    folder = tmp_path / "arm" / "embedding"
    found = measure(two, Table.of(samples), conditions(["clean"]), (DEFAULT,), "generator", overviews=folder)
    assert list(found.embedding) == ["grey", "red"]
    for stream, look in found.embedding.items():
        # Dark lies apart from bright.
        assert look["metrics"]["overlap"]["value"] == 0
        assert look["metrics"]["silhouette_label"]["value"] > 0.5
        assert look["n"] == 24
        assert {f"{stream}.npz", f"{stream}.label.svg", f"{stream}.generator.svg"} == set(look["files"])
        drawn = ElementTree.fromstring((folder / f"{stream}.label.svg").read_text())
        assert drawn.tag.endswith("svg")
        title = next(drawn.iter("{http://www.w3.org/2000/svg}text")).text
        assert (title or "").startswith(stream)
    result = Result(
        study="s",
        arm="a",
        seed=0,
        detector=found.detector,
        rows=found.rows,
        scores=found.scores,
        thresholds=found.thresholds,
        embedding=found.embedding,
        cost=Cost(parameters=1, steps=2, views=3),
    )
    result.save(tmp_path)
    assert Result.load(tmp_path) == result


def test_a_result_of_before_thresholds_and_embeddings_is_still_read(tmp_path: Path) -> None:
    earlier = {
        "study": "s",
        "arm": "a",
        "seed": 0,
        "without": "",
        "detector": "d",
        "rows": [{"place": "0.png", "label": 1, "source": "s", "group": "g"}],
        "scores": {"linear": {"clean": [0.25]}},
        "seen": 0,
        "failed": 0,
        "cost": {"parameters": 1, "steps": 2, "views": 3, "cpu_seconds": None},
    }
    (tmp_path / "result.json").write_text(json.dumps(earlier))
    result = Result.load(tmp_path)
    assert result is not None
    assert (result.thresholds, result.embedding) == ({}, {})
    assert result.scores == {"linear": {"clean": (0.25,)}}


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
