"""`assay train` on shards behind an address: nothing but what it is told to fetch, and the same detector in the end."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import assay
from assay import cli
from assay.data import shards
from assay.data.index import Index
from assay.judge import bundle
from assay.learn.flow import Flow
from assay.learn.hold import remember, rows_of
from assay.types import Label, Sample

SETTINGS = {
    "code.view.size": "48",
    "code.backbone.fields": '{"widths": [8, 16, 24], "blocks": [1, 1]}',
    "descend.crops.base": "64",
    "descend.crops.local": "32",
    "descend.alter.max_ops": "1",
    "descend.degrade": '{"probability": 0.2}',
    "descend.decode": "always",
    "descend.source_power": "1",
    "descend.optimiser.learning_rate": "0.003",
    "descend.pairs": "4",
    "descend.steps": "5",
    "descend.epochs": "3",
    "fit.records": "8",
    "calibrate.fpr": "0.2",
}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of 24 training, 12 tuning and 4 test pictures; a fake has a grid of brighter dots."""
    root = tmp_path_factory.mktemp("set")
    rows = []
    for number in range(40):
        rng = np.random.default_rng(number)
        coarse = Image.fromarray(rng.integers(60, 180, (5, 6, 3), dtype=np.uint8))
        pixels = np.array(coarse.resize((96, 80), Image.Resampling.BICUBIC)).astype(np.int64)
        pixels += rng.integers(-6, 7, pixels.shape)
        if number % 2:
            pixels[::2, ::2] += 60
        place = root / f"{number:02d}.png"
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(place)
        split = "train" if number < 24 else "tune" if number < 36 else "test"
        rows.append(Sample(str(place), Label(number % 2), source=f"source {number % 3}", split=split))
    shards.write(rows, root / "shards", most=5)
    return root / "shards"


class Quiet(SimpleHTTPRequestHandler):
    asked: ClassVar[list[str]] = []

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()


@pytest.fixture
def address(folder: Path) -> Iterator[str]:
    Quiet.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/shards.json"
    server.shutdown()
    thread.join()


def test_shards_at_an_address_make_a_detector_that_remembers_every_row(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Far fewer rows are held for the head and the tuning figure than flow through training.
    monkeypatch.setattr("assay.learn.train.PROBE_ROWS", 8)
    flowed: list[tuple[int, int]] = []
    stream = Flow.stream
    monkeypatch.setattr(
        Flow,
        "stream",
        lambda flow, first, last, workers: (flowed.append((first, last)), stream(flow, first, last, workers))[1],
    )
    arguments = ["train", "code24:trace", "--data", address, "--out", str(tmp_path / "out"), "--workers", "0"]
    arguments += [word for place, value in SETTINGS.items() for word in ("--set", f"{place}={value}")]
    arguments += ["--precision", "fp32", "--device", "cpu"]
    result = CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    read = bundle.read(tmp_path / "out" / "bundle")
    assert len(read.seen.files) == 36
    assert flowed == [(0, 15)]
    assert len(list((tmp_path / "out" / "tiles").rglob("*.png"))) == 8 + 12
    assert len(read.seen.phashes) > 0
    assert (read.judge.ensemble.rows.real, read.judge.ensemble.rows.fake) == (6, 6)
    assert not [path for path in Quiet.asked if path.startswith("/test-")]
    fetched = {path.rpartition(".")[2] for path in Quiet.asked}
    assert fetched == {"json", "csv", "tar"}
    detector = assay.load(tmp_path / "out" / "bundle", threads=1)
    assert detector.seen.overlaps(sha256=read.card.sha256) is None


def test_a_recipe_that_keeps_pictures_decoded_is_told_that_an_address_is_too_far(address: str, tmp_path: Path) -> None:
    arguments = ["train", "code24:trace", "--data", address, "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
    assert result.exit_code == 2
    assert "set descend.decode to always" in result.stderr


def test_what_is_remembered_of_shards_is_what_is_remembered_of_their_files(folder: Path, tmp_path: Path) -> None:
    index = Index.open(folder)
    rows = rows_of(index)
    from_shards = remember(index, tmp_path / "a", workers=0)
    from_rows = remember(rows, tmp_path / "b", workers=0)
    assert sorted(from_shards.files) == sorted(from_rows.files)
    assert len(set(from_shards.files)) == 24
    assert sorted(from_shards.origins) == sorted(from_rows.origins)
    assert remember(index, tmp_path / "a", workers=0) == from_shards
