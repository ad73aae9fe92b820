"""A data set of a million rows: reading, table checks, splitting and the first batch, each with its time and memory.

    python bench/million.py [--rows 1000000]

Every stage runs in a process of its own that begins with reading the manifest, so that its peak memory is what a user
would see. The rows are made up; their pictures are real, 32 px a side, and lie as cells of one Parquet table, a
thousand of them over and over.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from PIL import Image
from pyarrow import parquet

from assay.data import manifest
from assay.data.split import assign
from assay.data.table import TEXT, Table, distinct
from assay.image import place
from assay.measure.check import check

DISTINCT = 1_000
LIMIT = 2 << 30
"""Bytes of memory that every stage must stay within."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true", help="for machines")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        files = _make(folder, asked.rows)
        found = [_alone(stage, file) for file in files for stage in [_read]]
        found += [_alone(stage, files[1]) for stage in (_check, _split, _first_batch)]
    if asked.json:
        print(json.dumps({"rows": asked.rows, "stages": found}))
    else:
        for row in found:
            print(f"{row['stage']:<34} {row['seconds']:6.1f} s  {row['peak'] / 2**20:6.0f} MiB  {row['note']}")
    over = [row["stage"] for row in found if row["peak"] > LIMIT]
    if over:
        print(f"more than {LIMIT >> 20} MiB: {', '.join(over)}", file=sys.stderr)
    return 1 if over else 0


def _make(folder: Path, rows: int) -> list[Path]:
    """Pictures, and the manifest of them as CSV and as Parquet."""
    cells = [_png(number) for number in range(DISTINCT)]
    pictures = pyarrow.array([cells[row % DISTINCT] for row in range(rows)], pyarrow.binary())
    table = folder / "pictures.parquet"
    parquet.write_table(pyarrow.table({"image": pictures}), table, row_group_size=1_000)
    number = np.arange(rows)

    def text(of: Callable[[int], str]) -> Any:
        return np.array([of(row) for row in range(rows)], TEXT)

    samples = Table(
        {
            "path": text(lambda row: place.join(table, f"{row}/image")),
            "generator": text(lambda row: f"generator {row % 23}" if row % 2 else ""),
            "source": text(lambda row: f"source {row % 41}"),
            "subject": text(lambda row: f"person {row // 40}"),
            "video": text(lambda row: f"clip {row // 10}"),
            "frame": text(lambda row: str(row % 10)),
            "origin": text(lambda row: hashlib.sha256(str(row // 10).encode()).hexdigest()),
            "split": text(lambda row: ("train", "train", "tune", "test")[row // 40 % 4]),
            "compression": text(lambda row: f"c{row % 3}"),
        },
        (number % 2).astype(np.int8),
    )
    files = [folder / "manifest.csv", folder / "manifest.parquet"]
    for file in files:
        manifest.write(file, samples)
    return files


def _png(number: int) -> bytes:
    rng = np.random.default_rng(number)
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def _alone(stage: Callable[[Path], str], file: Path) -> dict[str, Any]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_timed, stage, file).result()


def _timed(stage: Callable[[Path], str], file: Path) -> dict[str, Any]:
    started = time.perf_counter()
    note = stage(file)
    name = f"{stage.__name__.strip('_').replace('_', ' ')} ({file.name})"
    return {"stage": name, "seconds": time.perf_counter() - started, "peak": _peak(), "note": note}


def _peak() -> int:
    """Most memory this process ever held, in bytes."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    # What rusage says of a spawned process includes what its parent held.
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def _read(file: Path) -> str:
    return f"{len(manifest.read(file, check=False)):,} rows"


def _check(file: Path) -> str:
    report = check(manifest.read(file, check=False, strict=False), look=False)
    return f"{len(report.findings)} findings, honest: {report.honest}"


def _split(file: Path) -> str:
    found = assign(manifest.read(file, check=False), by=("subject", "video"))
    return ", ".join(f"{name} {count:,}" for name, count in zip(*_counted(found.table.column("split")), strict=True))


def _counted(column: Any) -> tuple[list[str], list[int]]:
    names, place = distinct(column)
    return [str(name) for name in names], np.bincount(place).tolist()


def _first_batch(file: Path) -> str:
    from assay.image.view import View
    from assay.learn.flow import Flow
    from assay.learn.recipe import Descend
    from assay.learn.rows import learning_rows

    rows = learning_rows(manifest.read(file, check=False))["train"]
    stage = Descend(stream="code", decode="always", pairs=32)
    batch = next(Flow(rows, stage, View(size=224), seed=0).stream(0, 1, workers=0))
    return f"{len(batch.views['clean'])} pictures, {len(batch.views)} views each"


if __name__ == "__main__":
    sys.exit(main())
