"""Compiled loops against NumPy, and when they take over."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator

import numba
import numpy as np
import pytest

from assay.image import counting
from assay.image.runs import Runs
from assay.image.view import View

RUNS = [Runs(), Runs(colour=0), Runs(luma=0), Runs(colour=0.328125, luma=1.0625)]


@pytest.fixture(autouse=True)
def afresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a process that has counted nothing yet."""
    for name, value in (("_counted", 0), ("_loops", None), ("_compiling", None)):
        monkeypatch.setattr(counting, name, value)
    yield
    if counting._compiling is not None:
        counting._compiling.join()


@pytest.fixture(scope="module")
def loops() -> Callable[..., None]:
    compiled: Callable[..., None] = numba.njit(nogil=True)(counting._count)
    return compiled


def crops(count: int = 6, height: int = 40, width: int = 33) -> np.ndarray:
    rng = np.random.default_rng(0)
    soft = np.clip(rng.normal(120, 3, (count // 2, height, width, 3)), 0, 255)
    return np.concatenate([soft, rng.integers(0, 256, (count - count // 2, height, width, 3))]).astype(np.uint8)


@pytest.mark.parametrize("runs", RUNS, ids=str)
def test_loops_count_what_numpy_counts(runs: Runs, loops: Callable[..., None]) -> None:
    black_and_white = np.uint8(255) * (np.indices((6, 40, 33)).sum(0) % 2).astype(np.uint8)
    for shown in (crops(), np.repeat(black_and_white[..., None], 3, -1), crops()[:, ::2, ::3]):
        assert np.array_equal(counting._compiled(loops, runs, shown), runs.count(shown))


def test_nothing_is_compiled_for_a_few_pictures() -> None:
    counting.Counter(Runs()).embed(crops())
    assert counting._compiling is None


def test_loops_take_over_once_there_is_much_to_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "WORTH", 10)
    counter = counting.Counter(Runs())
    first = counter.embed(crops())
    assert counting._compiling is None
    counter.embed(crops())
    assert counting._compiling is not None
    counting._compiling.join()
    assert counting._loops is not None
    monkeypatch.setattr(Runs, "count", None)
    assert np.array_equal(counter.embed(crops()), first)
    assert np.array_equal(counter.embed_views(View(size=40).tensor(crops())), first)


def test_threads_that_ask_at_once_compile_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    monkeypatch.setattr(numba, "njit", lambda **options: lambda function: made.append(function) or function)
    asking = [threading.Thread(target=counting.settle) for _ in range(4)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert made == [counting._count]


def test_without_numba_numpy_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "installed", lambda: False)
    monkeypatch.setattr(counting, "WORTH", 1)
    counter = counting.Counter(Runs())
    assert np.array_equal(counter.embed(crops()), counter.embed(crops()))
    assert counting.settle() == "numpy"


def test_a_numba_that_fails_is_told_of_and_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(**options: object) -> object:
        raise RuntimeError("it wants another NumPy")

    monkeypatch.setattr(numba, "njit", fail)
    with caplog.at_level(logging.WARNING):
        assert counting.settle() == "numpy"
    assert "it wants another NumPy" in caplog.text
    assert counting.Counter(Runs()).embed(crops()).shape == (6, 845)
