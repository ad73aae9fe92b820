from __future__ import annotations

import threading

import numpy as np
import pytest

from assay.errors import BundleError
from assay.judge.engine import Engine


@pytest.fixture
def views():
    return np.random.default_rng(0).standard_normal((11, 3, 32, 32)).astype(np.float32)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("count", [1, 2, 11])
@pytest.mark.parametrize("crops", [1, 4, 32])
def test_each_view_keeps_its_place_however_a_batch_is_shared_among_threads(bundle_folder, views, threads, count, crops):
    engine = Engine(bundle_folder, "tiny", threads=threads, device="cpu", crops=crops)
    expected = views[:count].mean(axis=(2, 3))
    assert np.allclose(engine.run(views[:count])[:, :3], expected, atol=1e-6)
    explained = engine.explain(views[:count])
    assert np.allclose(explained["embedding"][:, :3], expected, atol=1e-6)
    assert explained["features"].shape == (count, 3, 4, 4)


@pytest.mark.parametrize(("threads", "together"), [(1, 1), (2, 2)])
def test_two_cores_run_two_halves_of_a_batch_side_by_side_and_one_core_runs_one(
    bundle_folder, views, monkeypatch, threads, together
):
    engine = Engine(bundle_folder, "tiny", threads=threads, device="cpu")
    engine.run(views)
    met = threading.Barrier(together)
    sizes = []

    class Watched:
        def __init__(self, session):
            self.session = session

        def run(self, names, inputs):
            met.wait(timeout=30)
            sizes.append(len(inputs["views"]))
            return self.session.run(names, inputs)

    session = engine._session("judge")
    monkeypatch.setattr(engine, "_session", lambda kind: Watched(session))
    engine.run(views[:10])
    assert sizes == [10 // together] * together


@pytest.mark.parametrize("allowed", [1, 4])
def test_no_more_crops_are_in_work_than_were_allowed(bundle_folder, views, monkeypatch, allowed):
    engine = Engine(bundle_folder, "tiny", threads=2, device="cpu", crops=allowed)
    call, lock, now, most = engine._call, threading.Lock(), [0], [0]

    def counted(kind, session, names, part):
        with lock:
            now[0] += len(part)
            most[0] = max(most[0], now[0])
        try:
            return call(kind, session, names, part)
        finally:
            with lock:
                now[0] -= len(part)

    monkeypatch.setattr(engine, "_call", counted)
    engine.run(views)
    assert 1 <= most[0] <= allowed


def test_a_part_that_fails_fails_the_batch(bundle_folder):
    engine = Engine(bundle_folder, "tiny", threads=2, device="cpu")
    with pytest.raises(BundleError, match=r"tiny\.judge\.onnx can't be run"):
        engine.run(np.zeros((6, 4, 32, 32), np.float32))
