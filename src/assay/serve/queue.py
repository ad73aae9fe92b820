"""Who waits, and who comes next: clients take turns, a gate bounds how many are let in, and pictures that wait together
are judged together.

*Ours*: dynamic batching as serving systems do it (a run begins when it is full, or when its first picture has waited a
few milliseconds), filled client by client, so that whoever sends a thousand pictures does not hold up whoever sends
one.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import throttled

Item = TypeVar("Item")


class Full(Exception):
    """No room for more.

    Args:
        seconds: after which there may be some.
    """

    def __init__(self, seconds: int) -> None:
        super().__init__(f"no room for more; try again in {seconds} s")
        self.seconds = seconds


class Over(Exception):
    """Nobody waits for it any more."""


class Turns(Generic[Item]):
    """A queue in which clients take turns, each with its own line. Usable from several threads."""

    def __init__(self) -> None:
        self._lines: collections.OrderedDict[str, collections.deque[Item]] = collections.OrderedDict()
        self._changed = threading.Condition()
        self._closed = False
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, client: str, item: Item) -> None:
        """Raises RuntimeError once closed."""
        with self._changed:
            if self._closed:
                raise RuntimeError("this queue is closed")
            self._lines.setdefault(client, collections.deque()).append(item)
            self._count += 1
            self._changed.notify_all()  # not all who wait take everything

    def take(self, timeout: float | None = None, fits: Callable[[Item], bool] = lambda item: True) -> Item | None:
        """The next item of the client whose turn it is; None where none came in time, or that is closed and empty.

        Args:
            timeout: seconds to wait; None for ever.
            fits: passes over clients whose next item is another's to take.
        """
        until = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while True:
                for client, line in self._lines.items():
                    if fits(line[0]):
                        item = line.popleft()
                        self._count -= 1
                        # Whoever was served goes to the end.
                        del self._lines[client]
                        if line:
                            self._lines[client] = line
                        return item
                left = None if until is None else until - time.monotonic()
                if self._closed or (left is not None and left <= 0):
                    return None
                self._changed.wait(left)

    def close(self) -> None:
        """Nothing more comes in; what waits can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def batches(
    turns: Turns[Item],
    size: Callable[[Item], int],
    alike: Callable[[Item], object],
    most: int,
    linger: float,
    coming: Callable[[], bool] = lambda: True,
) -> Iterator[list[Item]]:
    """What is to be worked on together, until the queue is closed and empty.

    Args:
        size: of an item.
        alike: items go together where this is equal.
        most: size of a batch at which it is full. The item that fills it may reach beyond.
        linger: seconds that the first item waits for others.
        coming: whether any are on their way; it waits for none otherwise.
    """
    while (first := turns.take()) is not None:
        batch, filled = [first], size(first)
        until = time.monotonic() + (linger if coming() else 0)
        fits = functools.partial(_alike, alike, alike(first))
        while filled < most:
            item = turns.take(max(0.0, until - time.monotonic()), fits)
            if item is None:
                break
            batch.append(item)
            filled += size(item)
        yield batch


def _alike(alike: Callable[[Item], object], kind: object, item: Item) -> bool:
    return alike(item) == kind


class Gate:
    """Lets so many in at a time, and tells the others when to come again. Usable from several threads.

    Args:
        most: that are inside at a time.
        each: of these, of one client.
        clock: seconds, from anywhere.
    """

    def __init__(self, most: int, each: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._each, self._clock = most, each, clock
        self._inside: collections.Counter[str] = collections.Counter()
        self._left: collections.deque[float] = collections.deque(maxlen=_MEASURED)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._inside.total()

    @contextlib.contextmanager
    def entered(self, client: str) -> Iterator[None]:
        """Inside as long as the block lasts.

        Raises:
            Full: there is no room.
        """
        with self._lock:
            if len(self) >= self._most or self._inside[client] >= self._each:
                raise Full(self._wait(self._inside[client] if len(self) < self._most else len(self)))
            self._inside[client] += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside[client] -= 1
                if not self._inside[client]:
                    del self._inside[client]
                self._left.append(self._clock())

    def _wait(self, ahead: int) -> int:
        """Whole seconds in which half of those ahead will have left, by the rate at which the last ones did."""
        if len(self._left) < 2:
            return 1
        span = max(self._clock() - self._left[0], 1e-3)
        return min(_LONGEST, max(1, math.ceil(ahead / 2 * span / len(self._left))))


class Rate:
    """How often each client may ask: at a steady rate, and some at once. Usable from several threads.

    By `throttled` (GCRA, the leaky bucket as a meter). The better known `limits` keeps an entry for ever of every
    client that came once (its moving window in memory), or counts by the clock's own windows.

    Args:
        rate: a minute; 0 for any.
        burst: at once.
    """

    def __init__(self, rate: int, burst: int) -> None:
        self._limit: throttled.Throttled | None = None
        if rate:
            store = throttled.MemoryStore(options={"MAX_SIZE": _CLIENTS})
            self._limit = throttled.Throttled(using="gcra", quota=throttled.per_min(rate, burst), store=store)

    def take(self, client: str) -> None:
        """Counts a request.

        Raises:
            Full: it is one too many, and not counted.
        """
        if self._limit is not None and (found := self._limit.limit(f"of {client}")).limited:
            raise Full(max(1, math.ceil(found.state.retry_after)))


_MEASURED, _LONGEST = 32, 60
_CLIENTS = 100_000
"""Whose requests are counted; of more, those that stayed away longest are forgotten."""
