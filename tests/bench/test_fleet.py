"""The fleet bench's arithmetic against figures reckoned by hand, its simulation against closed forms."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import assay
from assay.cluster import plan
from assay.cluster.storage import Folder
from benches import loaded

STEADY = {"pictures": (0.8,), "sample": 8}
"""A picture takes a tenth of a second, always, and nothing else takes any time."""


@pytest.fixture(scope="module")
def bench(beside: None) -> ModuleType:
    pytest.importorskip("simpy")
    return loaded("fleet")


def run(bench: ModuleType, fleet: dict[str, Any], chunks: list[int], seed: int = 0, **times: Any) -> Any:
    told = bench.Times(**STEADY | times)
    return bench.simulated(told, bench.Fleet(**{"cores": fleet["workers"]} | fleet), chunks, seed)


# ── the simulation ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("count", "most", "batch"),
    [(1, 1024, 8), (31, 1024, 8), (5_000, 1024, 8), (90_000, 1024, 8), (700, 8, 8), (9, 1, 1)],
)
def test_chunks_are_those_that_a_plan_has(bench: ModuleType, tmp_path: Path, count: int, most: int, batch: int) -> None:
    folder = Folder(str(tmp_path))

    def gather(add: Any) -> None:
        for number in range(count):
            add(str(number))

    made = plan.make(folder, gather, detector="", asked=[], base="/", batch=batch, most=most)
    found = bench.sizes(count, most, batch)
    assert found == [len(list(plan.chunk(folder, number))) for number in range(made.chunks)]
    assert sum(found) == count


def test_one_worker_takes_the_sum_of_all_there_is(bench: ModuleType) -> None:
    found = run(
        bench,
        {"workers": 1},
        [8, 16, 4],
        chunk=0.5,
        hand=0.25,
        name=0.01,
        block=0.02,
        begin=3.0,
        end=2.0,
        start=(5.0,),
    )
    before = 3 + 28 * 0.01 + 3 * 0.02 + 5
    assert found.seconds == pytest.approx(before + 3 * (0.5 + 0.25) + 2.8 + 2)
    assert (found.inputs, found.useful, found.wasted, found.idle) == (28, pytest.approx(2.8), 0, 0)
    assert found.rate == pytest.approx(28 / found.seconds)
    assert found.efficiency == pytest.approx(2.8 / found.seconds)


@pytest.mark.parametrize(("chunks", "workers", "rounds"), [(12, 4, 3), (13, 4, 4), (3, 4, 1)])
def test_equal_chunks_go_round_by_round(bench: ModuleType, chunks: int, workers: int, rounds: int) -> None:
    found = run(bench, {"workers": workers}, [8] * chunks)
    assert found.seconds == pytest.approx(rounds * 0.8)
    assert found.waiting == pytest.approx(1 - chunks / (rounds * workers))
    assert found.efficiency == pytest.approx(chunks / (rounds * workers))


def test_the_driver_hands_out_one_chunk_at_a_time(bench: ModuleType) -> None:
    found = run(bench, {"workers": 50}, [8] * 50, hand=0.5)
    assert found.seconds == pytest.approx(50 * 0.5 + 0.8)


def test_workers_that_want_more_cores_than_there_are_share_them(bench: ModuleType) -> None:
    assert run(bench, {"workers": 4, "cores": 2}, [8] * 4).seconds == pytest.approx(2 * 0.8)
    assert run(bench, {"workers": 2, "cores": 2}, [8] * 2, drawn=1.5).seconds == pytest.approx(1.5 * 0.8)
    assert run(bench, {"workers": 1, "cores": 2}, [8], drawn=1.5).seconds == pytest.approx(0.8)
    # Each machine's cores are its own.
    assert run(bench, {"workers": 4, "machines": 2, "cores": 2}, [8] * 4).seconds == pytest.approx(0.8)


def test_a_kill_in_the_middle_costs_half_a_chunk_and_a_start(bench: ModuleType) -> None:
    found = run(bench, {"workers": 1, "killed": (0.8 + 0.4,)}, [8] * 3, again=(7.0,))
    assert found.seconds == pytest.approx(3 * 0.8 + 0.4 + 7)
    assert (found.kills, found.repeated, found.inputs) == (1, 1, 24)
    assert found.wasted == pytest.approx(0.4)
    assert found.twice == pytest.approx(0.4 / 2.8)


def test_other_workers_go_on_while_a_killed_one_starts_again(bench: ModuleType) -> None:
    found = run(bench, {"workers": 2, "killed": (0.4,)}, [8] * 10, again=(2.0,))
    # One is back at 2.4 and has its chunk at 3.2, when the other has done four; five are left, three rounds of them.
    assert found.seconds == pytest.approx(3.2 + 3 * 0.8)
    assert found.inputs == 80


def test_a_chunk_that_ended_two_processes_is_judged_one_by_one(bench: ModuleType) -> None:
    once = run(bench, {"workers": 1, "killed": (0.4,)}, [8], careful=3.0)
    twice = run(bench, {"workers": 1, "killed": (0.4, 0.8)}, [8], careful=3.0)
    assert once.seconds == pytest.approx(0.4 + 0.8)
    assert twice.seconds == pytest.approx(0.4 + 0.4 + 3 * 0.8)


def test_a_worker_that_starts_is_killed_too_but_has_nothing_to_lose(bench: ModuleType) -> None:
    found = run(bench, {"workers": 1, "killed": (1.0,)}, [8], start=(3.0,), again=(2.0,))
    assert found.seconds == pytest.approx(1 + 2 + 0.8)
    assert (found.kills, found.repeated, found.wasted) == (1, 0, 0)


def test_a_lost_machines_chunk_waits_until_others_find_no_more_to_do(bench: ModuleType) -> None:
    lost = {"workers": 2, "machines": 2, "cores": 1, "lost": (0.4,)}
    found = run(bench, lost, [8] * 6, again=(2.0,))
    # The one that is left judges five by 4.0; then the other starts on its core.
    assert found.seconds == pytest.approx(5 * 0.8 + 2 + 0.8)
    assert (found.losses, found.kills, found.repeated, found.inputs) == (1, 0, 1, 48)
    spare = run(bench, lost | {"cores": 2}, [8] * 6, again=(2.0,))
    assert spare.seconds == pytest.approx(0.4 + 2 + 2 * 0.8)
    back = run(bench, lost | {"back": 0.6}, [8] * 6, again=(0.6,))
    # Back at 1.0 and started at 1.6, it does its own; by then the other has done two of five, and they share the rest.
    assert back.seconds == pytest.approx(1.6 + 2 * 0.8)


def test_without_any_machine_left_it_is_said_that_nothing_ends(bench: ModuleType) -> None:
    with pytest.raises(ValueError, match="every machine is lost"):
        run(bench, {"workers": 2, "machines": 2, "cores": 1, "lost": (0.1, 0.2), "kills": 10.0}, [8] * 6)


@pytest.mark.parametrize("seed", range(5))
def test_every_input_is_done_once_whatever_happens(bench: ModuleType, seed: int) -> None:
    chunks = bench.sizes(20_000)
    fleet = {"workers": 8, "machines": 4, "cores": 2, "kills": 1500.0, "losses": 10.0, "back": 30.0}
    found = run(bench, fleet, chunks, seed, again=(3.0, 9.0), start=(4.0,), careful=2.0)
    # `simulated` itself sees to it that no chunk is done twice.
    assert found.inputs == 20_000
    assert found.kills > 0
    assert found.losses > 0
    assert found.repeated > 0
    assert found.useful >= 2_000 - 1e-6
    assert found.wasted > 0


def test_the_seed_alone_draws(bench: ModuleType) -> None:
    times = {"pictures": (0.5, 0.9, 0.7, 2.0, 0.1), "again": (1.0, 2.0)}
    fleet = {"workers": 3, "kills": 2000.0}
    first, again, other = (run(bench, fleet, [32] * 40, seed, **times) for seed in (1, 1, 2))
    assert first == again
    assert first.seconds != other.seconds


def test_service_times_are_the_samples_not_their_mean(bench: ModuleType) -> None:
    sample = tuple(np.random.default_rng(0).gamma(2.0, 0.4, 50))
    # A chunk of a sample and a half, thrice the sample that two neighbours are.
    seconds = [run(bench, {"workers": 1}, [12], seed, pictures=sample).useful for seed in range(1500)]
    mean, variance = statistics.mean(sample), statistics.pvariance(sample)
    assert statistics.mean(seconds) == pytest.approx(1.5 * mean, rel=0.05)
    assert statistics.variance(seconds) == pytest.approx(1.25 * variance, rel=0.15)
    # What is slow stays slow for a while: neighbours go together.
    halves = (0.2,) * 25 + (1.0,) * 25
    pairs = [run(bench, {"workers": 1}, [16], seed, pictures=halves).useful for seed in range(300)]
    assert statistics.variance(pairs) == pytest.approx(4 * statistics.pvariance(halves), rel=0.15)
    alike = [run(bench, {"workers": 1}, [8 * 1000], seed, pictures=sample).useful for seed in range(50)]
    assert statistics.mean(alike) == pytest.approx(1000 * mean, rel=0.02)
    assert statistics.stdev(alike) == pytest.approx(math.sqrt(1000 * variance), rel=0.4)


def test_kills_come_as_often_as_is_said(bench: ModuleType) -> None:
    fleet = {"workers": 10, "kills": 1440.0}  # one a minute each
    found = run(bench, fleet, [8] * 10_000)
    assert found.kills == pytest.approx(found.seconds / 6, rel=0.25)


# ── what loads need ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def figures(bench: ModuleType) -> tuple[Any, Any, Any]:
    cost = bench.Cost("d", 2.0, 0.001, 0.009, 0.02, 0.0005, 0.0015, size=1e6, result=100.0)
    site = bench.Site(cores=16, busy=0.5, gbit=8.0, prefix=5000.0, requests=2.0, tar=1000)
    return cost, site, bench.Driver(name=1e-4, block=0.001, hand=0.004, held=2000.0)


def test_where_each_piece_is_full(bench: ModuleType, figures: tuple[Any, Any, Any]) -> None:
    cost, site, driver = figures
    assert cost.core == pytest.approx(0.032)
    found = bench.limits(cost, site, driver)
    assert found.cores == pytest.approx(8 / 0.032)
    assert found.decoding == pytest.approx(800)
    assert found.network == pytest.approx(1000)
    assert (found.machine, found.first, found.gpu) == (pytest.approx(250), "cores", None)
    assert found.prefix == pytest.approx((5000 / (2 + 8 / 1024), 5000 / 0.01))
    assert found.driver == pytest.approx((1 / (1e-4 + 0.005 / 1024), 1000 / (1e-4 + 0.005)))
    thin = bench.limits(cost, dataclasses.replace(site, gbit=1.0), driver)
    assert (thin.machine, thin.first) == (pytest.approx(125), "network")


def test_beside_a_gpu_the_cores_do_all_but_the_networks(bench: ModuleType, figures: tuple[Any, Any, Any]) -> None:
    cost, site, driver = figures
    rates = {rate: bench.limits(cost, dataclasses.replace(site, gpu=rate), driver).gpu for rate in (100.0, 5000.0)}
    assert rates == {100.0: 100.0, 5000.0: pytest.approx(8 / 0.012)}


def test_what_a_billion_a_day_needs(bench: ModuleType, figures: tuple[Any, Any, Any]) -> None:
    cost, site, driver = figures
    found = bench.need(cost, dataclasses.replace(site, gpu=400.0), driver, 86_400_000_000 // 100)
    # 10,000 a second.
    assert found.rate == pytest.approx(10_000)
    assert found.cores == pytest.approx(320)
    assert (found.machines, found.gpus) == (40, 25)
    assert found.gbit == pytest.approx(80)
    assert found.written == pytest.approx(86.4e9)
    assert found.requests == pytest.approx((10_000 * (2 + 8 / 1024), 100))
    assert found.prefixes == (5, 1)
    # Planned in 86,400 s + 843.75 s as files, in 950.4 s as tars, at most 300 s of which are one scan's.
    assert found.scans == (math.ceil((86_400 + 843.75) / 300), 4)


def test_a_drivers_idle_time_is_not_laid_on_its_chunks(bench: ModuleType) -> None:
    def scan(chunks: int, seconds: float, driver: float) -> Any:
        return bench.Real(9.0, 0.1, (), (), chunks=chunks, lasted=seconds, judging=1.0, driver=driver)

    # 4 ms a chunk, and a tenth of every second.
    assert bench.handing(scan(100, 2.0, 0.6), scan(10, 20.0, 2.04)) == pytest.approx(0.004)
    # Where the two tell of nothing less, all of it.
    assert bench.handing(scan(100, 2.0, 0.6), scan(10, 20.0, 40.0)) == pytest.approx(0.006)
    assert bench.handing(scan(100, 2.0, 0.6), scan(100, 2.0, 0.6)) == pytest.approx(0.006)


# ── measuring and telling ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_picture_is_measured_piece_by_piece(bench: ModuleType, bundle_folder: Path, tmp_path: Path) -> None:
    files = bench.pictures(tmp_path / "in", 0.05, 16)
    assert len({file.read_bytes() for file in files}) == 16
    found = bench.cost(assay.load(bundle_folder, threads=1), files, 0.05, 1)
    assert min(found.read, found.decode, found.network, found.row) > 0
    assert found.core > 0
    assert found.size == statistics.mean(file.stat().st_size for file in files)
    assert 50 < found.result < 2000


def test_tables_say_what_was_found(bench: ModuleType, figures: tuple[Any, Any, Any]) -> None:
    cost, site, driver = figures
    told = bench.of_costs([cost]) + bench.of_limits([cost], site, driver) + bench.of_needs([cost], site, driver)
    assert "| d | 2 | 1,000 | 1 | 9 | 20.0 | 0.5 | 1.5 | 32.0 | 31.2 | 100 |" in told
    assert "| d | 2 | 250 | 800 | 1,000 | cores | – |" in told
    assert "| 10^9 | d | 2 | 11,574 | 370 | 47 | – | 92.6 | 100 | 23,239, 116 | 5, 1 | 337, 4 |" in told
    checks = [bench.Check(100, 1, None, 0, 10.0, (11.0, 10.0, 12.0)), bench.Check(90, 2, 6.0, 3, 20.0, (17.0, 16, 18))]
    told = bench.of_checks(checks, 30.0, 33.0)
    assert "| 100 | 1 | – | 10.0 | 11.0 (10.0–12.0) | +10.0 % |" in told
    assert "| 90 | 2 | every 6 s: 3 | 20.0 | 17.0 (16.0–18.0) | -15.0 % |" in told
    assert "Mean absolute error 12.5 %, largest 15.0 %." in told
    assert "took 30.0 s, once more after the others 33.0 s." in told


def test_what_was_measured_comes_back_from_json(bench: ModuleType) -> None:
    times = bench.Times(pictures=(0.5, 0.25), sample=32, start=(1.0,), again=(2.0, 3.0), chunk=0.1)
    assert bench.Times.of(json.loads(json.dumps(dataclasses.asdict(times)))) == times
    assert times.picture == pytest.approx(0.375 / 32)
