"""What may end its process without a word, in a process of its own.

Ray's core ends the process of a driver that has lost its cluster, with status 1 and nothing said, and prints as it
likes before. Here that is an error like others. What passes between the two processes is pickled; both are ours.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Generator, Iterable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from assay.errors import AssayError

_CONTEXT = multiprocessing.get_context("spawn")
"""A process begins anew: Ray's core does not survive a fork."""

_LEAVE = 30.0
"""Seconds that the process has to end what it started, before it is killed."""

Told = TypeVar("Told")


def each(lost: str, produce: Callable[..., Iterable[Told]], *given: object) -> Generator[Told]:
    """What `produce(*given)` gives in a process of its own, whose standard streams lead nowhere. To be closed, which
    ends the process; it ends with this one too, however that ends.

    Args:
        lost: what to tell where the process ends without a word.
        produce: a function of a module, as it has to be found there.

    Raises:
        AssayError: those that it raises, with their kinds; kind "cluster" where the process ended without a word.
        RuntimeError: it raised another; the message is its traceback.
    """
    here, there = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=_work, args=(there, produce, given), name="assay-driver", daemon=True)
    process.start()
    there.close()
    try:
        while True:
            try:
                word, told = here.recv()
            except (EOFError, OSError):
                raise AssayError(lost, kind="cluster") from None
            match word:
                case "told":
                    yield told
                case "done":
                    return
                case "stopped":
                    message, kind = told
                    raise AssayError(message, kind=kind)
                case _:
                    raise RuntimeError(told)
    finally:
        here.close()
        process.join(_LEAVE)
        if process.is_alive():
            process.kill()
            process.join()


def _work(pipe: Connection[Any, Any], produce: Callable[..., Iterable[Any]], given: tuple[Any, ...]) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    # Ctrl-C reaches both processes. This one ends by the pipe, and lets go in order.
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    threading.Thread(target=_until_closed, args=(pipe,), daemon=True).start()
    # Nobody hears what comes after that.
    with contextlib.suppress(BrokenPipeError):
        try:
            for one in produce(*given):
                pipe.send(("told", one))
            pipe.send(("done", None))
        except AssayError as error:
            pipe.send(("stopped", (str(error), error.kind)))
        except BrokenPipeError:
            raise
        except Exception:
            pipe.send(("broke", traceback.format_exc()))


def _until_closed(pipe: Connection[Any, Any]) -> None:
    with contextlib.suppress(EOFError, OSError):
        pipe.recv()
    os.kill(os.getpid(), signal.SIGTERM)
