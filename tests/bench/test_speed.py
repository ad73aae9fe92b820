"""The bench of speed: which rate is divided by which, and what becomes of what cannot be compared."""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import assay
from assay.image.view import View
from benches import loaded

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def speed(beside: None) -> ModuleType:
    return loaded("speed")


@pytest.fixture
def folder(speed: ModuleType, tmp_path: Path) -> Path:
    speed.pictures(tmp_path / "few", 4)
    return tmp_path / "few"


SECONDS = {"scan": 2.0, "decode": 0.5, "pillow": 0.25, "network": 1.0, "eager": 8.0, "batched": 4.0}


@pytest.fixture
def timed(speed: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """`timed(detector, folder)`: the figures of rounds in which everything takes `SECONDS`."""

    class Eager:
        macs, threads, networks = 500_000_000, 2, ()

        @classmethod
        def of(cls, detector: object, note: object) -> Eager:
            return cls()

        def took(self, files: list[Path]) -> float:
            return SECONDS["eager"]

    class Batched:
        failed, seconds = "no compiler", 1.0

        def __init__(self, eager: object, files: object) -> None:
            pass

        def took(self, files: list[Path]) -> float:
            return SECONDS["batched"]

    monkeypatch.setattr(speed, "Eager", Eager)
    monkeypatch.setattr(speed, "Batched", Batched)
    monkeypatch.setattr(speed, "_REST", 0.0)
    monkeypatch.setattr(speed, "product", lambda: 1e10)
    monkeypatch.setattr(speed, "scanned", lambda detector, folder, scratch: SECONDS["scan"])
    monkeypatch.setattr(speed, "embedded", lambda detector, pictures: SECONDS["network"])
    monkeypatch.setattr(speed, "decoded", lambda files, read: SECONDS["pillow" if read is speed.opened else "decode"])

    def run(detector: assay.Detector, folder: Path) -> dict[str, Any]:
        found: dict[str, Any] = speed.speed(detector, folder, folder.parent, 2, lambda told: None)
        return found

    return run


def test_shares_and_ratios_are_of_the_rates_of_one_round(
    timed: Callable[..., dict[str, Any]], detector: assay.Detector, folder: Path
) -> None:
    found = timed(detector, folder)
    assert (found["files"], found["rounds"]) == (4, 2)
    assert found["pictures_per_second"] == {"value": 2.0, "low": 2.0, "high": 2.0}
    assert found["slower"] == "network"
    shares = {name: found[name]["value"] for name in found if isinstance(found[name], dict) and "value" in found[name]}
    assert shares["times_eager"] == 4
    assert shares["times_batched"] == 2
    assert shares["decode_times_pillow"] == 0.5
    assert shares["share_of_slower"] == 0.5
    # Decoding takes half a second and the networks one, where the scan takes two.
    assert shares["share_of_both"] == 0.75
    assert shares["share_of_product"] == pytest.approx(2 * 5e8 * 2 / 1e10)
    assert shares["network_share_of_product"] == pytest.approx(2 * 5e8 * 4 / 1e10)
    assert found["batched"]["note"] == "no compiler"
    assert not found["batched"]["compiled"]
    assert found["published"] == [
        {"name": "FerretNet-S", "note": "not given"},
        {"name": "Tiny-LaDeDa (WildRF)", "note": "not given"},
    ]


def test_where_decoding_is_slower_it_is_the_limit(
    timed: Callable[..., dict[str, Any]], detector: assay.Detector, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SECONDS, "decode", 1.6)
    found = timed(detector, folder)
    assert (found["slower"], found["share_of_slower"]["value"]) == ("decode", 0.8)


def test_a_checkout_that_lacks_its_files_stops_the_bench(speed: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="FerretNet-S cannot be had"):
        speed.published({"ferretnet": tmp_path, "ladeda": None})


def test_a_published_detector_sees_every_file_once(speed: ModuleType, folder: Path) -> None:
    sizes: list[int] = []

    class Network(nn.Module):
        def forward(self, views: Any) -> Any:
            sizes.append(len(views))
            return views.mean((1, 2, 3))

    def prepare(image: Any) -> Any:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float()

    one = speed.Published("theirs", 3, Network(), prepare)
    files = sorted(folder.iterdir())
    assert one.took(files) > 0
    assert one.took(files, one.batch) > 0
    assert sizes == [1, 1, 1, 1, 3, 1]


def test_work_is_done_in_order_and_only_a_little_ahead(speed: ModuleType) -> None:
    lock, begun, most = threading.Lock(), [0], 0

    def work(number: int) -> int:
        with lock:
            begun[0] += 1
        time.sleep(0.002 * (number % 3))
        return number * number

    found = []
    for made in speed.ahead(range(20), work):
        # Whoever takes it has time to run far ahead.
        time.sleep(0.02 if len(found) < 5 else 0.0)
        most = max(most, begun[0] - len(found))
        found.append(made)
    assert found == [number * number for number in range(20)]
    assert 0 < most <= 2 * speed.WORKERS + 1


class Mean(nn.Module):
    def forward(self, views: Any) -> Any:
        return views.mean((2, 3))


def networks() -> argparse.Namespace:
    return argparse.Namespace(networks=[(View(size=64, layout="grid", across=2), Mean())])


def test_what_torch_compiled_is_taken_where_it_gives_the_same(
    speed: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Mean()
    monkeypatch.setattr(torch, "compile", lambda network, **options: made)
    batched = speed.Batched(networks(), sorted(folder.iterdir()))
    assert not batched.failed
    assert batched._networks[0][1] is made
    # Four files fill a batch of eight up.
    assert batched.took(sorted(folder.iterdir())) > 0


@pytest.mark.parametrize("fault", ["wrong", "raises"])
def test_what_torch_compiled_wrongly_is_not_taken(
    speed: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    class Wrong(nn.Module):
        def forward(self, views: Any) -> Any:
            if fault == "raises":
                raise RuntimeError("no compiler is here\nand more")
            return 1.01 * views.mean((2, 3))

    eager = networks()
    monkeypatch.setattr(torch, "compile", lambda network, **options: Wrong())
    batched = speed.Batched(eager, sorted(folder.iterdir()))
    assert (
        batched.failed
        == {
            "wrong": "ValueError: what it compiled gives something else",
            "raises": "RuntimeError: no compiler is here",
        }[fault]
    )
    assert batched._networks is eager.networks
