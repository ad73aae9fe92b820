"""The profile of judging, on the tiny detector: stages add up to the whole, and are those of the real way."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

import assay
from assay.image import container, decode
from assay.image.view import View
from assay.judge import bundle
from assay.judge.sink import Results
from benches import loaded


@pytest.fixture(scope="module")
def stages() -> Iterator[ModuleType]:
    yield loaded("stages")
    del sys.modules["bench_stages"]


@pytest.fixture
def results(detector: assay.Detector, tmp_path: Path) -> Iterator[Results]:
    with Results(tmp_path / "r.jsonl", "json", detector.sha256) as results:
        yield results


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_stages_and_what_they_leave_out_add_up_to_the_whole(
    stages: ModuleType, detector: assay.Detector, results: Results, flat: Callable[..., Any], tmp_path: Path, form: str
) -> None:
    file = tmp_path / "picture"
    Image.fromarray(flat(200, 400, 300)).save(file, form)
    found = stages.profile(detector, file, results, 3)
    assert set(found["stages_ms"]) == set(stages.STAGES)
    assert sum(found["stages_ms"].values()) + found["unaccounted_ms"] == pytest.approx(found["whole_ms"], abs=0.01)
    never = "perceptual hash, what was seen"
    assert all(took > 0 for stage, took in found["stages_ms"].items() if stage != never)
    assert found["stages_ms"][never] == 0
    assert 0 <= found["unaccounted_ms"] < found["whole_ms"]


def test_a_stage_is_what_it_took_less_what_others_took_inside_it(stages: ModuleType) -> None:
    clock = stages.Clock(time.perf_counter)
    inner = clock.timed("decoder", lambda: time.sleep(0.05))

    def outer() -> None:
        time.sleep(0.02)
        inner()

    clock.timed("read", outer)()
    assert 0.05 <= clock.seconds["decoder"] < 0.5
    assert 0.02 <= clock.seconds["read"] < clock.seconds["decoder"]


def test_nothing_stays_wrapped(stages: ModuleType) -> None:
    before = (decode._decoder, decode.hashlib, container.identify, View.crops, Results.write)
    with stages.Clock(time.perf_counter).running():
        assert View.crops is not before[3]
    assert (decode._decoder, decode.hashlib, container.identify, View.crops, Results.write) == before


def test_a_bundle_is_given_another_view(stages: ModuleType, bundle_folder: Path, tmp_path: Path) -> None:
    view = View(size=48)
    place = stages.seen_as(bundle.read(bundle_folder), tmp_path / "other", view)
    (stream,) = assay.load(place).card.streams
    assert stream.view == view


def test_pictures_are_made_the_same_each_time(stages: ModuleType, tmp_path: Path) -> None:
    found = stages.files(tmp_path, [0.02], ["JPEG", "PNG"])
    assert set(found) == {("JPEG", 0.02), ("PNG", 0.02)}
    with Image.open(found["PNG", 0.02]) as image:
        assert image.size == (162, 122)
        assert image.tobytes() == stages.picture(0.02).tobytes()


def test_the_table_has_a_column_for_each_picture(
    stages: ModuleType, detector: assay.Detector, results: Results, tmp_path: Path
) -> None:
    shown = stages.files(tmp_path, [0.02], ["JPEG", "PNG"])
    console = Console(record=True, width=160, quiet=False)
    stages.show("tiny", {kind: stages.profile(detector, file, results, 1) for kind, file in shown.items()}, console)
    text = console.export_text()
    assert all(word in text for word in ("JPEG 0.02 MP", "PNG 0.02 MP", "not accounted for", *stages.STAGES))


def test_decoding_with_more_threads_is_measured_beside_one(
    stages: ModuleType, detector: assay.Detector, tmp_path: Path
) -> None:
    (file,) = stages.files(tmp_path, [0.02], ["JPEG"]).values()
    found = stages.overlap(detector, file, rounds=1, count=3)
    assert found["times_one_worker"]["value"] > 0
    assert set(found["cores_busy"]) == {"1", "2"}
