"""One line of progress on standard error."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self


class Progress:
    """Counts steps towards a total; redraws on a terminal, prints every half minute elsewhere.

    Args:
        what: what is being done, in the present participle.
        total: how many steps there are.
        done: how many were done before (a resumed run).
    """

    def __init__(self, what: str, total: int, done: int = 0) -> None:
        self.what, self.total, self.done = what, total, done
        self._first = done
        self._started = time.monotonic()
        self._shown = 0.0
        self._note = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._show(last=True)

    def step(self, note: str = "") -> None:
        """One step further; `note` stands at the end of the line."""
        self.done += 1
        self._note = note
        now = time.monotonic()
        if now - self._shown > (0.2 if sys.stderr.isatty() else 30):
            self._shown = now
            self._show()

    def _show(self, last: bool = False) -> None:
        spent = time.monotonic() - self._started
        rate = (self.done - self._first) / max(spent, 1e-9)
        left = (self.total - self.done) / rate if rate > 0 else 0
        line = f"{self.what} {self.done}/{self.total}  {rate:.3g}/s  {_clock(spent if last else left)}"
        line += (" spent" if last else " left") + (f"  {self._note}" if self._note else "")
        if sys.stderr.isatty():
            print(f"\r\x1b[K{line}", end="\n" if last else "", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
