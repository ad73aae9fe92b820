"""Nobody waits for all that somebody else sent."""

from __future__ import annotations

import threading
import time

import pytest

from assay.serve import queue
from assay.serve.queue import Full, Gate, Rate, Turns, batches


class Clock:
    """Time that passes when it is told to."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


# ── turns ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def filled(**lines: int) -> Turns[str]:
    turns: Turns[str] = Turns()
    for client, count in lines.items():
        for number in range(count):
            turns.put(client, f"{client}{number}")
    return turns


def test_clients_take_turns_however_much_one_of_them_sent() -> None:
    turns = filled(a=5, b=1, c=2)
    assert [turns.take(0) for _ in range(9)] == ["a0", "b0", "c0", "a1", "c1", "a2", "a3", "a4", None]


def test_whoever_comes_later_waits_for_one_and_not_for_all() -> None:
    turns = filled(a=100)
    turns.take(0)
    turns.put("late", "mine")
    assert [turns.take(0), turns.take(0)] == ["a1", "mine"]


def test_what_is_another_ones_to_take_is_passed_over() -> None:
    turns = filled(a=2, b=1)
    assert turns.take(0, lambda item: item != "a0") == "b0"
    assert turns.take(0, lambda item: item != "a0") is None
    assert len(turns) == 2


def test_a_closed_queue_gives_what_waits_and_takes_no_more() -> None:
    turns = filled(a=1)
    turns.close()
    with pytest.raises(RuntimeError):
        turns.put("a", "more")
    assert [turns.take(), turns.take()] == ["a0", None]


def test_whoever_waits_is_woken_by_what_comes_and_by_the_end() -> None:
    turns: Turns[str] = Turns()
    taken: list[str | None] = []
    waiting = [threading.Thread(target=lambda: taken.append(turns.take())) for _ in range(2)]
    for thread in waiting:
        thread.start()
    turns.put("a", "one")
    turns.close()
    for thread in waiting:
        thread.join(10)
    assert sorted(taken, key=str) == [None, "one"]


# ── batches ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def sizes(text: str) -> int:
    return int(text[1:])


def run(turns: Turns[str], most: int, linger: float = 0.0) -> list[list[str]]:
    turns.close()
    return list(batches(turns, sizes, lambda item: item[0].isupper(), most, linger))


def test_a_batch_is_what_waits_until_it_is_full_client_by_client() -> None:
    turns: Turns[str] = Turns()
    for client, item in (("one", "a3"), ("one", "b3"), ("two", "c3"), ("one", "d3"), ("two", "e1")):
        turns.put(client, item)
    assert run(turns, 6) == [["a3", "c3"], ["b3", "e1", "d3"]]


def test_what_is_larger_than_a_batch_is_not_parted() -> None:
    turns: Turns[str] = Turns()
    for item in ("a9", "b9"):
        turns.put("one", item)
    assert run(turns, 6) == [["a9"], ["b9"]]


def test_only_what_is_alike_goes_together() -> None:
    turns: Turns[str] = Turns()
    for client, item in (("one", "a1"), ("two", "B1"), ("three", "c1"), ("four", "D1")):
        turns.put(client, item)
    assert run(turns, 9) == [["a1", "c1"], ["B1", "D1"]]


def test_the_first_one_waits_a_little_for_others_and_no_longer() -> None:
    turns: Turns[str] = Turns()
    coming = batches(turns, sizes, lambda item: None, 8, 5.0)
    turns.put("one", "a1")
    threading.Timer(0.1, turns.put, ("two", "b7")).start()
    assert next(coming) == ["a1", "b7"]  # full, so before its time
    coming = batches(turns, sizes, lambda item: None, 8, 0.05)
    turns.put("one", "a1")
    begun = time.monotonic()
    assert next(coming) == ["a1"]
    assert 0.04 < time.monotonic() - begun < 1


# ── the gate ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_gate_lets_in_so_many_and_of_one_client_fewer(clock: Clock) -> None:
    gate = Gate(3, 2, clock)
    with gate.entered("a"), gate.entered("a"):
        with pytest.raises(Full), gate.entered("a"):
            pass
        with gate.entered("b"):
            assert len(gate) == 3
            with pytest.raises(Full), gate.entered("c"):
                pass
        with gate.entered("c"):
            pass
    assert len(gate) == 0


def test_whoever_is_refused_holds_no_place(clock: Clock) -> None:
    gate = Gate(1, 1, clock)
    with gate.entered("a"):
        for _ in range(3):
            with pytest.raises(Full), gate.entered("a"):
                pass
    with gate.entered("a"):
        pass


@pytest.mark.parametrize(("each", "seconds"), [(0.1, 1), (4.0, 16), (100.0, 60)])
def test_when_to_come_again_follows_from_the_rate_at_which_others_left(clock: Clock, each: float, seconds: int) -> None:
    gate = Gate(8, 8, clock)
    for _ in range(5):
        with gate.entered("a"):
            clock.now += each
    places = [gate.entered("a") for _ in range(8)]
    for place in places:
        place.__enter__()
    clock.now += each
    with pytest.raises(Full) as full, gate.entered("b"):
        pass
    assert full.value.seconds == seconds


def test_places_are_left_however_the_block_ends(clock: Clock) -> None:
    gate = Gate(1, 1, clock)
    for _ in range(2):
        with pytest.raises(KeyError), gate.entered("a"):
            raise KeyError
    assert len(gate) == 0


# ── the rate ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def rated(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock, by which rates are measured."""
    monkeypatch.setattr("throttled.utils.now_mono_f", clock)
    return clock


def test_a_rate_allows_a_burst_and_then_a_steady_stream(rated: Clock) -> None:
    rate = Rate(60, 3)
    for _ in range(3):
        rate.take("a")
    with pytest.raises(Full) as full:
        rate.take("a")
    assert full.value.seconds == 1
    rate.take("b")
    rated.now += 1
    rate.take("a")
    with pytest.raises(Full):
        rate.take("a")
    rated.now += 3_600
    for _ in range(3):
        rate.take("a")
    with pytest.raises(Full):
        rate.take("a")


def test_asking_in_vain_costs_nothing_and_is_told_when_to_come_again(rated: Clock) -> None:
    rate = Rate(6, 1)
    rate.take("")
    for passed in range(1, 10):
        rated.now += 1
        with pytest.raises(Full) as full:
            rate.take("")
        assert full.value.seconds == 10 - passed
    rated.now += 1.01
    rate.take("")


def test_a_rate_of_nothing_is_no_limit() -> None:
    rate = Rate(0, 1)
    for _ in range(100):
        rate.take("a")


def test_clients_that_come_once_do_not_pile_up(rated: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "_CLIENTS", 50)
    rate = Rate(60, 1)
    for number in range(1_000):
        rate.take(f"client {number}")
    assert rate._limit is not None
    assert len(rate._limit.limiter._store._backend._client) == 50
    with pytest.raises(Full):
        rate.take("client 999")
