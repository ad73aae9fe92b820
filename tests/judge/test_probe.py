"""What is measured, what is remembered of it, and what "auto" makes of that."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import assay
from assay.errors import BundleError, OutputError
from assay.judge import bundle, probe
from assay.judge.engine import CROPS, Engine, cores, runtimes
from assay.judge.engines import openvino
from assay.judge.probe import Probed, Setting, Timing

needs_openvino = pytest.mark.skipif(not openvino.installed(), reason="needs the extra openvino")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that is remembered in; not there yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "assay" / "engines.json"


def timing(engine: str = "onnxruntime", threads: int = 1, crops: int = 8, **more: Any) -> Timing:
    given = {"rate": 100.0, "low": 90.0, "high": 110.0, "times": 1.0, "least": 1.0, "moves": 0.0} | more
    return Timing(engine, threads, crops, **given)  # type: ignore[arg-type]


def probed(sha256: str, *others: Timing) -> Probed:
    return Probed(sha256, (timing(threads=cores(), crops=CROPS), *others), 3)


@pytest.fixture
def sha256(bundle_folder: Path) -> str:
    return bundle.read(bundle_folder).card.sha256


# ── measuring ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_only_counts_is_not_timed_with_runtimes() -> None:
    with pytest.raises(BundleError, match="assay-texture only counts, which takes no runtime") as caught:
        probe.probe(bundle.read(bundle.find("assay-texture")))
    assert caught.value.kind == "unknown"


def test_every_runtime_is_timed_with_all_cores_and_one_in_several_batches(bundle_folder: Path) -> None:
    told: list[tuple[int, int]] = []
    found = probe.probe(bundle.read(bundle_folder), seconds=0.1, progress=lambda *done: told.append(done))
    first, *others = found.timings
    assert (first.engine, first.threads, first.crops, first.times, first.moves) == (
        "onnxruntime", cores(), CROPS, 1.0, 0.0
    )  # fmt: skip
    ways = {(each.engine, each.threads, each.crops) for each in found.timings}
    assert ways == {(engine, n, crops) for engine in runtimes() for n in {1, cores()} for crops in (4, 8, 16)}
    assert len(others) == len(ways) - 1
    for each in found.timings:
        assert 0 < each.low <= each.rate <= each.high
        assert 0 < each.least <= each.times
        assert each.same == (each.engine != "openvino-bf16" or each.moves <= probe.SAME)
    assert found.rounds >= 3
    assert told[-1] == (len(runtimes()) * len({1, cores()}),) * 2
    json.dumps([each.to_dict() for each in found.timings], allow_nan=False)


def scaled(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO's embeddings, multiplied."""
    run = Engine.run
    monkeypatch.setattr(
        Engine, "run", lambda self, batch: run(self, batch) * np.float32(factor if self.runtime != "onnxruntime" else 1)
    )


@needs_openvino
@pytest.mark.parametrize(("factor", "same"), [(1 + 1e-6, True), (1.01, False)])
def test_a_runtime_that_moves_scores_is_measured_and_never_taken(
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch, factor: float, same: bool
) -> None:
    scaled(factor, monkeypatch)
    found = [each for each in probe.probe(bundle.read(bundle_folder), seconds=0.1).timings if each.engine == "openvino"]
    assert [each.same for each in found] == [same] * len(found)
    assert all(each.rate > 0 for each in found)


@needs_openvino
def test_how_far_a_score_could_move_does_not_hide_where_scores_are_sure(
    parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = parts.judge.streams["grey"].model_copy(update={"offset": 40.0, "slope": 2.0})
    parts.judge = parts.judge.model_copy(update={"streams": {"grey": rule}})
    read = parts.write(tmp_path / "sure")
    scaled(1.01, monkeypatch)
    # Every score is 1 by either runtime. The head weighs the grey, at most 2.7 in a normalised view, by 4.
    moves = max(each.moves for each in probe.probe(read, seconds=0.1).timings)
    assert 0.001 < moves <= 0.01 * 2.7 * 4 * 2 / 4


@needs_openvino
def test_a_runtime_that_fails_is_named_and_the_others_are_timed(
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*given: Any, **more: Any) -> None:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(openvino, "Loaded", failing)
    found = probe.probe(bundle.read(bundle_folder), seconds=0.1)
    lost = [each for each in found.timings if each.engine == "openvino"]
    assert lost
    for each in lost:
        assert "no such kernel" in each.failed
        assert not each.same
        assert math.isnan(each.rate)
        assert each.to_dict()["rate"] is None
    assert all(each.rate > 0 for each in found.timings if each.engine == "onnxruntime")


@pytest.mark.parametrize(
    ("others", "taken"),
    [
        ([timing("openvino", times=1.5, least=1.2)], 1),
        ([timing("openvino", times=1.5, least=1.2), timing(times=1.6, least=1.1)], 2),
        ([timing("openvino", times=1.04, least=1.01)], 0),
        ([timing("openvino", times=1.5, least=0.9)], 0),
        ([timing("openvino", times=1.5, least=1.2, moves=2e-4)], 0),
        ([timing("openvino-bf16", times=1.5, least=1.2, moves=0.0)], 0),
        ([timing("openvino", times=math.nan, least=math.nan, moves=math.nan, failed="no")], 0),
    ],
)
def test_the_fastest_that_keeps_scores_and_is_surely_faster_is_chosen(others: list[Timing], taken: int) -> None:
    found = probed("0" * 64, *others)
    assert found.chosen is found.timings[taken]


# ── remembering ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_judging_writes_nothing_and_takes_onnx_runtime_where_nothing_is_remembered(
    bundle_folder: Path, flat: Callable[..., Any], cache: Path
) -> None:
    detector = assay.load(bundle_folder)
    detector.judge(flat(100))
    assert detector.engine("grey").runtime == "onnxruntime"
    assert detector.engine("grey").crops == CROPS
    assert not cache.parent.exists()


@needs_openvino
def test_what_is_remembered_is_taken_unless_asked_otherwise(bundle_folder: Path, sha256: str, cache: Path) -> None:
    setting = probe.remember(probed(sha256, timing("openvino", threads=1, crops=4, times=2.0, least=1.5)))
    assert setting == Setting(engine="openvino", threads=1, crops=4) == probe.recall(sha256)
    assert [path.name for path in cache.parent.iterdir()] == ["engines.json"]
    engine = assay.load(bundle_folder).engine("grey")
    assert (engine.runtime, engine.crops, engine._cores) == ("openvino", 4, 1)
    asked = assay.load(bundle_folder, threads=2).engine("grey")
    assert (asked.runtime, asked.crops, asked._cores) == ("openvino", 4, 2)
    other = assay.load(bundle_folder, engine="onnxruntime").engine("grey")
    assert (other.runtime, other.crops) == ("onnxruntime", CROPS)


@needs_openvino
def test_a_gpu_is_taken_before_what_is_remembered(
    bundle_folder: Path, sha256: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe.remember(probed(sha256, timing("openvino", times=2.0, least=1.5)))
    there = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: there)
    assert assay.load(bundle_folder).engine("grey").runtime == "onnxruntime"
    assert assay.load(bundle_folder, device="cpu").engine("grey").runtime == "openvino"


def test_it_holds_for_this_bundle_this_processor_and_these_versions_alone(
    sha256: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe.remember(probed(sha256, timing(times=2.0, least=1.5)))
    assert probe.recall("0" * 64) is None
    for change in (
        lambda patch: patch.setattr("importlib.metadata.version", lambda library: "0.1"),
        lambda patch: patch.setattr(probe, "_processor", lambda: {"model name": "another"}),
        lambda patch: patch.setattr(probe, "cores", lambda: 64),
    ):
        with monkeypatch.context() as patch:
            change(patch)
            assert probe.recall(sha256) is None
    assert probe.recall(sha256) is not None


def test_the_processor_is_known_by_its_model_and_flags_not_by_its_speed_of_the_moment() -> None:
    told = probe._processor()
    assert told
    assert not {name for name in told if "MHz" in name or "bogomips" in name or name == "processor"} or len(told) == 1
    assert probe.machine() == probe.machine()


def test_a_later_probe_replaces_the_earlier_and_others_stay(sha256: str) -> None:
    probe.remember(probed("1" * 64, timing(crops=4, times=2.0, least=1.5)))
    probe.remember(probed(sha256, timing(crops=4, times=2.0, least=1.5)))
    probe.remember(probed(sha256))
    assert probe.recall(sha256) == Setting(engine="onnxruntime", threads=cores(), crops=CROPS)
    assert probe.recall("1" * 64) == Setting(engine="onnxruntime", threads=1, crops=4)


def test_forgetting_one_or_all(sha256: str, cache: Path) -> None:
    assert probe.forget() == 0
    for each in (sha256, "1" * 64):
        probe.remember(probed(each))
    assert probe.forget(sha256) == 1
    assert probe.recall(sha256) is None
    assert probe.recall("1" * 64) is not None
    assert probe.forget() == 1
    assert not cache.exists()


def entry(sha256: str, **more: Any) -> str:
    setting = {"engine": "openvino", "threads": 1, "crops": 4} | more
    return json.dumps({"format": 1, "entries": [{"detector": sha256, "machine": probe.machine(), "setting": setting}]})


@pytest.mark.parametrize(
    "spoilt",
    [
        lambda sha256: "",
        lambda sha256: "{",
        lambda sha256: "[]",
        lambda sha256: "\xff\xfe",
        lambda sha256: entry(sha256)[:-9],
        lambda sha256: entry(sha256).replace('"format": 1', '"format": 2'),
        lambda sha256: entry(sha256, engine="openvino-bf16"),
        lambda sha256: entry(sha256, engine="os.system"),
        lambda sha256: entry(sha256, threads=0),
        lambda sha256: entry(sha256, crops=1_000_000),
        lambda sha256: entry(sha256, more=1),
        lambda sha256: entry(sha256) + " " * (1 << 20),
    ],
)
def test_a_file_that_is_not_ours_is_ignored_with_a_warning_and_forgetting_removes_it(
    spoilt: Callable[[str], str],
    bundle_folder: Path,
    sha256: str,
    cache: Path,
    flat: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text(spoilt(sha256), encoding="latin-1")
    before = cache.read_bytes()
    with caplog.at_level(logging.WARNING):
        detector = assay.load(bundle_folder)
    assert "is not what assay remembers" in caplog.text
    assert detector.engine("grey").runtime == "onnxruntime"
    assert detector.judge(flat(200)).score is not None
    assert cache.read_bytes() == before
    assert probe.forget() == 0
    assert not cache.exists()


def test_a_sound_file_is_the_spoilt_ones_before_they_were_spoilt(sha256: str, cache: Path) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text(entry(sha256))
    assert probe.recall(sha256) == Setting(engine="openvino", threads=1, crops=4)


def test_a_folder_in_the_files_place_is_said_and_ignored(
    sha256: str, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.mkdir(parents=True)
    assert probe.recall(sha256) is None
    assert "cannot be read" in caplog.text
    with pytest.raises(OutputError) as caught:
        probe.remember(probed(sha256))
    assert caught.value.kind == "disk"
    assert [path.name for path in cache.parent.iterdir()] == ["engines.json"]


def test_a_user_without_a_home_judges_and_is_told_where_it_would_be_remembered(
    bundle_folder: Path, sha256: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    assert assay.load(bundle_folder).engine("grey").runtime == "onnxruntime"
    for work in (lambda: probe.remember(probed(sha256)), probe.forget):
        with pytest.raises(OutputError, match="set XDG_CACHE_HOME"):
            work()
