"""What a scan costs as work grows: with the number of files, and with the size of a picture.

    python bench/growth.py
    python bench/growth.py --full                          # 100,000 files too
    python bench/growth.py --only pixels --detector ./bundle

Every figure is of a real `assay scan` into a results file, in a process of its own: the time that it scanned, and the
most memory that it held.

- *files*: 100, 1,000 and 10,000 files. They are a hundred different pictures of 96 px under many names (hard links), so
  disk and decoder have little to do, and what grows with the number of files is seen.
- *pixels*: pictures of 0.3, 2, 12 and 50 megapixels, as JPEG (quality 90) and PNG; several names for one file, fewer of
  the larger ones.

What a process takes until it scans is not counted. What its first small file takes, with the networks to load, is
measured in each round and taken off before seconds are divided. Sizes take turns, round by round, and ratios to the
first size are taken within a round. Prints a table on standard error and one JSON object on standard output, and writes
nothing but a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

import assay
from assay.errors import AssayError
from speed import Measured, machine, photographs, spread

FILES = (100, 1_000, 10_000)
FULL = 100_000
SMALL = 96
"""Side in pixels of the pictures of which there are many."""

DISTINCT = 100

MEGAPIXELS = {0.3: 64, 2.0: 24, 12.0: 8, 50.0: 3}
"""Sizes of one picture, and how many of that size one process judges."""

FORMATS: dict[str, dict[str, Any]] = {"JPEG": {"quality": 90}, "PNG": {"compress_level": 1}}
"""What pictures are saved as. PNG quickly: the level says how hard compressing is, hardly how hard reading is."""

_TILE = 512

_SCAN = """
import pathlib, resource, sys, time
from assay.cli import main
from assay.judge import scan
seconds = 0.0
scanned = scan.scan
def timed(*given, **named):
    global seconds
    begun = time.perf_counter()
    found = scanned(*given, **named)
    seconds = time.perf_counter() - begun
    return found
scan.scan = timed
try:
    main()
finally:
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss, which begins at what the parent held when it started this process.
        peak = next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    print(seconds, peak)
"""
"""`assay scan` and, on standard output, which is otherwise empty, the seconds that it scanned and the most memory that
its process held, in KiB."""


def scanned(folder: Path, count: int, detector: str, engine: str) -> tuple[float, float]:
    """Seconds and MiB of one process that scans a folder of so many files.

    Raises:
        SystemExit: it failed, or did not judge them all, once each.
    """
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "results.jsonl"
        told = ["scan", str(folder), "--out", str(out), "--detector", detector, "--engine", engine, "--quiet"]
        ended = subprocess.run([sys.executable, "-c", _SCAN, *told], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        if ended.returncode:
            raise SystemExit(f"the scan of {count} files ended with status {ended.returncode}")
        with out.open() as lines:
            done = len({json.loads(line)["input"] for line in lines})
    if done != count:
        raise SystemExit(f"the scan of {count} files gave {done} results")
    seconds, peak = map(float, ended.stdout.split())
    return seconds, peak / 1024


def small(folder: Path, count: int, seed: int = 0) -> None:
    """Different pictures of SMALL x SMALL px: pieces of photographs, PNG."""
    draw = np.random.default_rng(seed)
    found = photographs()
    folder.mkdir()
    for number in range(count):
        photograph = found[number % len(found)]
        left, top = (int(draw.integers(extent - SMALL + 1)) for extent in photograph.size)
        photograph.crop((left, top, left + SMALL, top + SMALL)).save(folder / f"{number:03}.png")


def large(file: Path, megapixels: float, format: str, seed: int = 0) -> float:
    """A picture of about so many megapixels, three wide and two high; returns how many it has.

    A photograph enlarged, under noise of two levels at most, so that there is something to decode everywhere.
    """
    draw = np.random.default_rng(seed)
    unit = (megapixels * 1e6 / 6) ** 0.5
    width, height = int(3 * unit), int(2 * unit)
    pixels = np.asarray(photographs()[seed].resize((width, height), Image.Resampling.BICUBIC)).copy()
    noise = draw.integers(-2, 3, (_TILE, _TILE, 3), np.int16)
    for top in range(0, height, _TILE):
        for left in range(0, width, _TILE):
            part = pixels[top : top + _TILE, left : left + _TILE]
            part[:] = np.clip(part + noise[: part.shape[0], : part.shape[1]], 0, 255)
    Image.fromarray(pixels).save(file, format, **FORMATS[format])
    return float(width * height / 1e6)


def linked(originals: Sequence[Path], folder: Path, count: int) -> Path:
    """A folder of so many names for these files, a thousand a folder."""
    for number in range(count):
        place = folder / f"{number // 1000:03}"
        if not number % 1000:
            place.mkdir(parents=True)
        original = originals[number % len(originals)]
        (place / f"{number:06}{original.suffix}").hardlink_to(original)
    return folder


def rounds(
    sizes: dict[str, tuple[Path, int]], first: Path, repeat: int, scan: Callable[[Path, int], tuple[float, float]]
) -> dict[str, tuple[list[float], list[float]]]:
    """Each size once a round, in turns.

    Args:
        sizes: folders and how many files they hold, two or more, by name.
        first: a folder of one small file, whose seconds are taken off.

    Returns:
        By name, of each round, seconds a file and MiB. "first" is that of `first`.

    Raises:
        SystemExit: so many files took no longer than one.
    """
    scan(first, 1)
    found: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in ("first", *sizes)}
    for number in range(repeat):
        once, mib = scan(first, 1)
        found["first"][0].append(once)
        found["first"][1].append(mib)
        # Back and forth, so that a load that rises or falls favours none.
        for name in reversed(sizes) if number % 2 else sizes:
            folder, count = sizes[name]
            seconds, mib = scan(folder, count)
            if seconds <= once:
                raise SystemExit(f"{count} files took {seconds:.2f} s, one {once:.2f} s: measure on a quieter machine")
            found[name][0].append((seconds - once) / (count - 1))
            found[name][1].append(mib)
    return found


def by_files(sizes: Sequence[int], scratch: Path, repeat: int, scan: Any, note: Callable[[str], None]) -> Measured:
    """Scans of more and more small files."""
    small(scratch / "small", min(DISTINCT, max(sizes)))
    originals = sorted((scratch / "small").iterdir())
    note(f"linking {max(sizes)} names")
    folders = {str(size): (linked(originals, scratch / f"{size}", size), size) for size in sizes}
    found = rounds(folders, linked(originals, scratch / "one", 1), repeat, scan)
    seconds, mib = found[str(sizes[0])]
    rows = []
    for size in sizes:
        mine, held = found[str(size)]
        rows.append(
            {
                "files": size,
                "seconds_per_file": spread(mine),
                "times_first": spread(_over(mine, seconds)),
                "mib": spread(held),
                "mib_times_first": spread(_over(held, mib)),
            }
        )
    first = {"seconds": spread(found["first"][0]), "mib": spread(found["first"][1])}
    return {"first": first, "side": SMALL, "rounds": repeat, "sizes": rows}


def by_pixels(sizes: dict[float, int], scratch: Path, repeat: int, scan: Any, note: Callable[[str], None]) -> Measured:
    """Scans of larger and larger pictures."""
    small(scratch / "first", 1)
    first = linked(sorted((scratch / "first").iterdir()), scratch / "one-of-them", 1)
    rows = []
    for format in FORMATS:
        note(f"making {format} pictures of {', '.join(f'{size:g}' for size in sizes)} megapixels")
        folders, exact, weight = {}, {}, {}
        for size, count in sizes.items():
            file = scratch / f"{size:g}.{format.lower()}"
            exact[size] = large(file, size, format)
            weight[size] = file.stat().st_size
            folders[f"{size:g}"] = (linked([file], scratch / f"{format}-{size:g}", count), count)
        found = rounds(folders, first, repeat, scan)
        smallest = next(iter(sizes))
        before, mib = found[f"{smallest:g}"]
        for size, count in sizes.items():
            mine, held = found[f"{size:g}"]
            pace = [seconds / exact[size] for seconds in mine]
            rows.append(
                {
                    "format": format,
                    "megapixels": round(exact[size], 2),
                    "bytes": weight[size],
                    "pictures": count,
                    "seconds_per_picture": spread(mine),
                    "seconds_per_megapixel": spread(pace),
                    "per_megapixel_times_first": spread(
                        [a * exact[smallest] / b for a, b in zip(pace, before, strict=True)]
                    ),
                    "mib": spread(held),
                    "mib_times_first": spread(_over(held, mib)),
                }
            )
    return {"rounds": repeat, "sizes": rows}


def _over(some: Sequence[float], others: Sequence[float]) -> list[float]:
    return [a / b for a, b in zip(some, others, strict=True)]


def show(found: Measured, console: Console) -> None:
    """The figures as tables."""
    name, cpu = found["detector"]["name"], found["machine"]["cpu"]
    if "files" in found:
        table = Table("files", "ms a file", "times the first", "MiB at most", "times", title=f"{name} on {cpu}")
        for row in found["files"]["sizes"]:
            cells = (_told(row["seconds_per_file"], 1000), _told(row["times_first"]))
            table.add_row(f"{row['files']:,}", *cells, _told(row["mib"]), _told(row["mib_times_first"]))
        console.print(table)
    if "pixels" in found:
        table = Table("", "MP", "ms a picture", "ms a megapixel", "times", "MiB at most", title=f"{name} on {cpu}")
        for row in found["pixels"]["sizes"]:
            paces = (_told(row[f"seconds_per_{what}"], 1000) for what in ("picture", "megapixel"))
            more = (_told(row["per_megapixel_times_first"]), _told(row["mib"]))
            table.add_row(row["format"], f"{row['megapixels']:g}", *paces, *more)
        console.print(table)


def _told(figure: Measured, scale: float = 1) -> str:
    value, low, high = (f"{scale * figure[key]:.3g}" for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", metavar="NAME|FOLDER", help="the default detector where none is named")
    parser.add_argument("--engine", default="auto", help="as assay scan takes it")
    parser.add_argument("--only", choices=("files", "pixels"))
    parser.add_argument("--repeat", type=int, default=3, help="rounds")
    parser.add_argument("--full", action="store_true", help=f"{FULL:,} files too")
    parser.add_argument("--quick", action="store_true", help="the smaller sizes, one round: claims nothing")
    asked = parser.parse_args()
    if asked.repeat < 1:
        parser.error("--repeat must be 1 or more")
    files = [*FILES, *[FULL] * asked.full]
    megapixels, repeat = MEGAPIXELS, asked.repeat
    if asked.quick:
        files, megapixels, repeat = files[:2], {size: MEGAPIXELS[size] for size in (0.3, 2.0, 12.0)}, 1

    console = Console(stderr=True, highlight=False)
    begun = machine()
    try:
        detector = assay.load(asked.detector)
    except AssayError as error:
        raise SystemExit(str(error)) from None
    named = asked.detector or detector.name

    def scan(folder: Path, count: int) -> tuple[float, float]:
        told = scanned(folder, count, named, asked.engine)
        console.print(f"{count} files of {folder.name}: {told[0]:.2f} s, {told[1]:.0f} MiB")
        return told

    found: Measured = {
        "detector": {"name": detector.name, "version": detector.version, "sha256": detector.sha256},
        "machine": begun,
    }
    with tempfile.TemporaryDirectory() as scratch:
        if asked.only != "pixels":
            (Path(scratch) / "files").mkdir()
            found["files"] = by_files(files, Path(scratch) / "files", repeat, scan, console.print)
        if asked.only != "files":
            (Path(scratch) / "pixels").mkdir()
            found["pixels"] = by_pixels(megapixels, Path(scratch) / "pixels", repeat, scan, console.print)
    show(found, console)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
