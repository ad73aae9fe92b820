"""Silence around libraries that speak past what they raise; around Pillow for the calling thread alone.

Pillow answers odd files with Python warnings and log lines. In a scan they would land between the results on a
terminal, say nothing that the typed error does not say, and turn into exceptions where the host program runs with
`-W error`. `warnings.catch_warnings` is no way out: it swaps one list for the whole process, so two threads that decode
at once can leave it in the other's state. Hence one filter that asks which thread is warning, and stays in place.

libtiff writes its errors to stderr by itself, past Python. Its handler is a process-wide pointer without a notion of
threads; it is taken away while at least one thread is quiet about TIFF, and put back after the last (`Exchange`).
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import logging
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

from PIL import Image

_thread = threading.local()
_lock = threading.Lock()


def _quiet_here() -> bool:
    return getattr(_thread, "depth", 0) > 0


class _ThisThread:
    """Stands where the warnings filter expects a module pattern: matches in quiet threads, whatever the module."""

    def match(self, module: str) -> bool:
        return _quiet_here()


_FILTER = ("ignore", None, Warning, _ThisThread(), 0)


def _install() -> None:
    # The list is replaced by every `catch_warnings` of the host (pytest does it for each test), so look each time.
    filters = cast(list[Any], warnings.filters)
    if filters and filters[0] is _FILTER:
        return
    with _lock:
        with contextlib.suppress(ValueError):
            filters.remove(_FILTER)
        filters.insert(0, _FILTER)


def _loud(record: logging.LogRecord) -> bool:
    return not _quiet_here()


# The one place among the formats we read where Pillow logs above debug level; with no logging set up, Python would
# print it to stderr.
logging.getLogger("PIL.TiffImagePlugin").addFilter(_loud)


@contextlib.contextmanager
def quiet(*, tiff: bool = False) -> Iterator[None]:
    """No warning and no Pillow log line leaves this thread inside the block; other threads are untouched.

    Args:
        tiff: silence libtiff as well, for the whole process as long as the block lasts.
    """
    _install()
    _thread.depth = getattr(_thread, "depth", 0) + 1
    try:
        with _libtiff() if tiff else contextlib.nullcontext():
            yield
    finally:
        _thread.depth -= 1


@functools.cache
def _set_handler() -> Any:
    """libtiff's `TIFFSetErrorHandler`, from the library that Pillow has loaded; None where it cannot be reached."""
    try:
        function = ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler  # type: ignore[attr-defined]
    except (AttributeError, OSError):  # linked into Pillow without a name, as in its wheels for Windows
        return None
    function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_void_p
    return function


class Exchange:
    """Something of the whole process that is another as long as at least one thread is inside.

    Args:
        change: to a value; returns what was there.
        meanwhile: the value.
    """

    def __init__(self, change: Callable[[Any], Any], meanwhile: Any) -> None:
        self._change, self._meanwhile = change, meanwhile
        self._lock = threading.Lock()
        self._users, self._saved = 0, None

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        with self._lock:
            if self._users == 0:
                self._saved = self._change(self._meanwhile)
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    self._change(self._saved)


@functools.cache
def _handler() -> Exchange | None:
    change = _set_handler()
    return None if change is None else Exchange(change, None)


def _libtiff() -> contextlib.AbstractContextManager[None]:
    with _lock:  # two of them would put back each other's
        handler = _handler()
    return contextlib.nullcontext() if handler is None else handler.inside()


@contextlib.contextmanager
def hushed(names: Iterable[str], level: int) -> Iterator[None]:
    """Loggers say nothing below a level; in the whole process."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, before in zip(loggers, levels, strict=True):
            logger.setLevel(before)
