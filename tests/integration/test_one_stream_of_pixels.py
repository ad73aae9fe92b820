"""Pixels are prepared once: training, calibration, evaluation and judging hand a network the same bits."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

import assay
from assay.data import manifest, shards
from assay.data.stream import stream
from assay.image import place
from assay.image.align import encode
from assay.image.decode import decode
from assay.image.view import View
from assay.judge.heads import LinearHead
from assay.learn import tiles
from assay.learn.calibrate import raw_scores
from assay.learn.recipe import Tiles
from assay.measure.robustness import CONDITIONS, robustness
from assay.types import Label, Pixels, Sample
from tiny import OfViews

Batch = np.ndarray[Any, np.dtype[np.float32]]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """A photograph-like JPEG, a WebP, a PNG smaller than the view, and a large JPEG; half of them fake."""
    folder = tmp_path_factory.mktemp("pictures")
    rows = []
    for number, (size, codec) in enumerate(
        [((150, 97), "JPEG"), ((80, 80), "WEBP"), ((40, 20), "PNG"), ((301, 420), "JPEG")]
    ):
        rng = np.random.default_rng(number)
        coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
        path = folder / f"{number}.{codec.lower()}"
        path.write_bytes(encode(np.asarray(coarse.resize(size)), codec, 80))
        rows.append(Sample(str(path), Label(number % 2), split="test", source=f"s{number}"))
    return rows


@pytest.fixture(scope="module")
def view() -> View:
    """That of the tiny bundle's stream."""
    return View(size=32, layout="grid", across=3, minimum=16)


@pytest.fixture(scope="module")
def expected(samples: list[Sample], view: View) -> list[Pixels]:
    return [view.crops(decode(sample.place).pixels) for sample in samples]


class Recorder(OfViews):
    """Stands for an engine: keeps what the network would have been shown."""

    crops = 16

    def __init__(self) -> None:
        self.seen: list[Batch] = []

    def run(self, batch: Batch) -> Batch:
        self.seen.append(batch.copy())
        return np.asarray(batch.mean(axis=(2, 3)))

    def rows(self) -> Batch:
        return np.concatenate(self.seen)


def crops_in_worker(where: str, view: View) -> Pixels:
    return view.crops(decode(where).pixels)


def test_another_process_cuts_the_same_bits(samples: list[Sample], view: View, expected: list[Pixels]) -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = [pool.submit(crops_in_worker, sample.place, view).result() for sample in samples]
    assert all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))


def test_a_shard_gives_the_same_bits_read_through_or_by_address(
    samples: list[Sample], view: View, expected: list[Pixels], tmp_path: Path
) -> None:
    index = shards.write(samples, tmp_path / "shards")
    flowing = {sample.source: view.crops(decode(data).pixels) for sample, data in stream(index)}
    addressed = manifest.read(tmp_path / "shards" / "manifest.csv")
    for sample in addressed:
        assert place.split(sample.place)[1]
        which = int(sample.source[1:])
        assert np.array_equal(flowing[sample.source], expected[which])
        assert np.array_equal(view.crops(decode(sample.place).pixels), expected[which])


def test_a_parquet_cell_gives_the_same_bits(
    samples: list[Sample], view: View, expected: list[Pixels], tmp_path: Path
) -> None:
    path = tmp_path / "t.parquet"
    parquet.write_table(pa.table({"image": [{"bytes": Path(s.place).read_bytes(), "path": ""} for s in samples]}), path)
    for row, crops in enumerate(expected):
        assert np.array_equal(view.crops(decode(place.join(path, f"{row}/image")).pixels), crops)


def test_tiles_hold_the_same_bits(samples: list[Sample], tmp_path: Path) -> None:
    store = tiles.build(samples, Tiles(side=512, each=1), tmp_path, seed=0, workers=1)
    for row, sample in enumerate(samples):
        assert np.array_equal(store.tile(row, 0), decode(sample.place).pixels)


def test_calibration_judging_and_every_way_of_measuring_show_the_network_the_same_bits(
    samples: list[Sample],
    view: View,
    expected: list[Pixels],
    detector: assay.Detector,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = view.tensor(np.concatenate(expected))
    assert detector.card.streams[0].view == view

    def shown(use: Callable[[Recorder], object]) -> Batch:
        recorder = Recorder()
        monkeypatch.setattr(detector.engine("grey"), "run", lambda batch: _embedding(recorder.run(batch)))
        use(recorder)
        return recorder.rows()

    places = [sample.place for sample in samples]
    calibrated = Recorder()
    head = LinearHead(np.ones(3), 0.0)
    raw_scores(samples, view, calibrated, {"a": head}, "mean", workers=2)  # type: ignore[arg-type]
    assert np.array_equal(calibrated.rows(), wanted)
    assert np.array_equal(shown(lambda _: [detector.judge(where) for where in places]), wanted)
    assert np.array_equal(shown(lambda _: list(detector.judge_many(places))), wanted)
    contents = [Path(where).read_bytes() for where in places]
    assert np.array_equal(shown(lambda _: list(detector.judge_many(contents))), wanted)
    clean = {"clean": CONDITIONS["clean"]}
    assert np.array_equal(shown(lambda _: robustness(detector, samples, clean, rounds=1)), wanted)


def _embedding(means: Batch) -> Batch:
    """As the tiny trunk gives it: four numbers."""
    return np.concatenate([means, means.mean(axis=1, keepdims=True)], axis=1)
