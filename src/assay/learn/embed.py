"""Embeddings by the shipped graph: what a head is fitted on and calibrated with is what judges."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from assay.image.view import View
from assay.judge.engine import Engine
from assay.learn.progress import Progress
from assay.types import Pixels

Item = TypeVar("Item")


def embed(
    items: Sequence[Item],
    crops_of: Callable[[Item], Pixels],
    view: View,
    engine: Engine,
    *,
    what: str,
    workers: int = 2,
) -> list[npt.NDArray[np.float32]]:
    """The embeddings of each item's crops, in order.

    Args:
        crops_of: an item's crops, (n, size, size, 3) uint8, n >= 0; called in threads.
        what: for the progress line.

    Returns:
        One array an item, (n, dim); (0, 0) for an item without crops.
    """
    out = []
    with Progress(what, len(items)) as progress, ThreadPoolExecutor(max(1, workers)) as pool:
        for crops in _ahead(pool, crops_of, items, 4 * max(1, workers)):
            out.append(engine.run(view.tensor(crops)) if len(crops) else np.empty((0, 0), np.float32))
            progress.step()
    return out


def _ahead(
    pool: ThreadPoolExecutor, work: Callable[[Item], Pixels], items: Sequence[Item], most: int
) -> Iterator[Pixels]:
    """`map` that never holds more than `most` results: crops of a whole data set would not fit into memory."""
    rest = iter(items)
    pending: deque[Future[Pixels]] = deque(pool.submit(work, item) for item in islice(rest, most))
    while pending:
        yield pending.popleft().result()
        pending.extend(pool.submit(work, item) for item in islice(rest, 1))
