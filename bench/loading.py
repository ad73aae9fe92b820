"""How fast a data set is loaded for training: from files and from shards, by 1, 2 and N processes, with what is done to
the pictures on the way, against decoding them and nothing else.

    python bench/loading.py MANIFEST [--seconds 6] [--rounds 3]

Every figure is pictures per second of a torch DataLoader in its steady state (the processes have started and filled
their queues before the clock does). What is compared takes turns, round by round, because these machines are shared;
ratios are taken within a round, and their middle and extremes are printed.

- *decode*: the file's bytes read, decoded, and one 224 px view cut. The bare rate.
- *T*: and CoDE's transform operator on the way to the view, as published: on the whole picture, resized at the end.
- *T native*: the operator on a region of at most 320 px, cropped without resizing, as the small recipes do.
- *degrade*: and drift's degradation engine on the view's pixels (about half of the pictures pass it).
- *degrade whole*: the engine on the whole picture, before the view is cut.
- *CoDE*: the four views of CoDE's loss, T on three of them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from assay.data import manifest, shards
from assay.data.stream import Data, Share, stream
from assay.image.alter import T
from assay.image.decode import decode
from assay.image.degrade import Degrade
from assay.image.view import View
from assay.learn.batches import as_is, one_thread
from assay.learn.recipe import Descend
from assay.learn.views import draw, random_region
from assay.types import Pixels

VIEW = View(size=224)
ALTER = T()
NATIVE = T(resize=None, crop="random")
DEGRADE = Degrade()
CODE = Descend(stream="code")
BATCH = 16


def _plain(pixels: Pixels, rng: np.random.Generator) -> Any:
    return VIEW.crops(pixels)


def _alter(pixels: Pixels, rng: np.random.Generator) -> Any:
    return ALTER(pixels, rng)


def _native(pixels: Pixels, rng: np.random.Generator) -> Any:
    return NATIVE(random_region(pixels, 320, rng), rng)


def _degrade(pixels: Pixels, rng: np.random.Generator) -> Any:
    return DEGRADE(VIEW.crops(pixels)[0], rng)


def _degrade_whole(pixels: Pixels, rng: np.random.Generator) -> Any:
    return VIEW.crops(DEGRADE(pixels, rng))


def _code(pixels: Pixels, rng: np.random.Generator) -> Any:
    return draw(pixels, CODE, VIEW.size, rng)


ARMS: dict[str, Callable[[Pixels, np.random.Generator], Any]] = {
    "decode": _plain,
    "T": _alter,
    "T native": _native,
    "degrade": _degrade,
    "degrade whole": _degrade_whole,
    "CoDE": _code,
}


class Endless(IterableDataset[int]):
    """Batches without end; what comes out is only how many pictures were made, so that nothing but the work counts."""

    def __init__(self, data: Data, arm: str) -> None:
        self.data, self.arm = data, arm

    def __iter__(self) -> Iterator[int]:
        info = get_worker_info()
        share = Share(info.id, info.num_workers) if info else Share()
        work, rng = ARMS[self.arm], np.random.default_rng(share.number)
        done = 0
        for epoch in range(1_000_000):
            for _, data in stream(self.data, epoch=epoch, share=share):
                work(decode(data).pixels, rng)
                done += 1
                if done % BATCH == 0:
                    yield BATCH


def rate(data: Data, arm: str, workers: int, seconds: float) -> float:
    """Pictures per second."""
    loader = DataLoader(
        Endless(data, arm),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=2,
        multiprocessing_context="spawn",
        worker_init_fn=one_thread,
        collate_fn=as_is,
    )
    batches = iter(loader)
    for _ in range(6 * workers):
        next(batches)
    done, started = 0, time.perf_counter()
    while (spent := time.perf_counter() - started) < seconds:
        done += next(batches)
    del batches, loader
    return done / spent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each figure")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="*", default=sorted({1, 2, os.cpu_count() or 1}))
    parser.add_argument("--json", action="store_true", help="for machines")
    asked = parser.parse_args()
    table = manifest.read(asked.manifest)
    rates: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as scratch:
        sources: dict[str, Data] = {"files": table, "shards": shards.write(table, Path(scratch) / "shards", most=500)}
        for number in range(asked.rounds):
            for workers in asked.workers:
                for arm in ARMS:
                    for name, data in sources.items():
                        found = rate(data, arm, workers, asked.seconds)
                        rates[name, arm, workers].append(found)
                        print(f"round {number + 1}: {name}, {arm}, {workers}: {found:.0f}/s", file=sys.stderr)
    told = _told(rates, asked.workers)
    if asked.json:
        machine = f"{os.cpu_count()} cores, {platform.machine()}"
        print(json.dumps({"pictures": len(table), "machine": machine, "figures": told}))
        return 0
    print(f"{len(table)} pictures, {os.cpu_count()} cores, {asked.rounds} rounds of {asked.seconds:g} s")
    print(f"{'from':<7} {'what':<14} {'processes':>9} {'a second':>9} {'of one':>17} {'cost : decoding':>20}")
    for row in told:
        print(
            f"{row['from']:<7} {row['what']:<14} {row['processes']:>9} {row['rate']:>9.0f} "
            f"{_spread(row['speed_up']):>17} {_spread(row['cost']):>20}"
        )
    return 0


def _told(rates: dict[tuple[str, str, int], list[float]], workers: list[int]) -> list[dict[str, Any]]:
    rows = []
    for (source, arm, count), found in rates.items():
        one, bare = rates[source, arm, workers[0]], rates[source, "decode", count]
        rows.append(
            {
                "from": source,
                "what": arm,
                "processes": count,
                "rate": statistics.median(found),
                "speed_up": [a / b for a, b in zip(found, one, strict=True)],
                # Time a picture takes beyond decoding it, over the time decoding takes.
                "cost": [b / a - 1 for a, b in zip(found, bare, strict=True)],
            }
        )
    return rows


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


if __name__ == "__main__":
    sys.exit(main())
