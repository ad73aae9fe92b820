"""Kills scans at random moments and checks that nothing is lost: each input once, no torn line, the same results.

    python bench/kills.py --kills 1000
    python bench/kills.py --kills 20 --cli 20 --detector ./bundle

A folder of small pictures and broken files is scanned once without disturbance. Then scans of it into a results file
are killed (SIGKILL) and started again until one comes to its end; the file must then equal the undisturbed one, line by
line. Half of the moments are uniform over the whole life of a scan, its start included; the other half are aimed: the
kill comes as soon as the file has grown by a random number of bytes, which is while a result is being written.

Most scans run in forked children of a process that has loaded the detector, because starting Python costs as long as
judging some dozens of pictures; `--cli` of the kills hit the real command. Prints one JSON object; exit status 1 where
anything was lost, doubled, torn or different.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import json
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import assay
from assay.judge.scan import expand, scan
from assay.judge.sink import Results

TOLERANCE = 2e-6
"""Scores may differ by this: a resumed scan batches pictures differently, and the sum of floats depends on that."""

FORMATS = (("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp"), ("BMP", "bmp"), ("TIFF", "tif"), ("GIF", "gif"))

Start = Callable[[Path], int]
"""Starts a scan into a file; gives the process id."""


def make(folder: Path, count: int, draw: random.Random) -> None:
    """`count` inputs in nested folders: pictures of six formats, and every tenth broken in one of eight ways."""
    noise = np.random.default_rng(draw.getrandbits(32))
    for number in range(count):
        place = folder / f"{number // 100:02}"
        place.mkdir(parents=True, exist_ok=True)
        container, suffix = FORMATS[number % len(FORMATS)]
        name = f"{number:05}.{suffix}" if number % 17 else f"{number:05}\nline.{suffix}"
        base = noise.integers(0, 256, (6, 8, 3), np.uint8)
        side = draw.randrange(32, 160)
        picture = Image.fromarray(base).resize((side, draw.randrange(32, 160)), Image.Resampling.BICUBIC)
        data = io.BytesIO()
        picture.save(data, container)
        content = data.getvalue()
        if number % 10 == 7:
            broken(place, name, content, number // 10 % 8)
        else:
            (place / name).write_bytes(content)


def broken(place: Path, name: str, content: bytes, way: int) -> None:
    """One input that cannot be judged."""
    path = place / name
    match way:
        case 0:
            path.write_bytes(content[: len(content) // 2])
        case 1:
            path.write_bytes(b"")
        case 2:
            path.write_text("This is no picture.\n")
        case 3:
            path.write_bytes(bomb())
        case 4:
            path.write_bytes(content)
            path.chmod(0)
            if os.access(path, os.R_OK):  # The superuser reads anything; a broken link stands in.
                path.unlink()
                path.symlink_to("nowhere")
        case 5:
            path.symlink_to(path.name)
        case 6:
            os.mkfifo(path)
        case _:
            (place / os.fsdecode(b"odd \xff\xfe " + os.fsencode(name))).write_bytes(b"\xff\xd8\xff")


def bomb() -> bytes:
    """A PNG of a few hundred bytes that claims 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )


def forked(detector: assay.Detector, folder: Path) -> Start:
    """Scans in a child of this process. The network is loaded in the child: its threads do not outlive a fork."""

    def start(out: Path) -> int:
        child = os.fork()
        if child:
            return child
        status = 70
        try:
            with Results(out, "json", detector.sha256) as results:
                scan(detector, expand([str(folder)]), results)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    return start


def commanded(detector: str, folder: Path, processes: dict[int, subprocess.Popen[bytes]]) -> Start:
    """Scans by the real command."""

    def start(out: Path) -> int:
        arguments = [sys.executable, "-m", "assay", "scan", "-q", "-d", detector, str(folder), "--out", str(out)]
        process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL)
        processes[process.pid] = process
        return process.pid

    return start


def wait(child: int, seconds: float | None, enough: Callable[[], bool] | None = None) -> int | None:
    """A child's exit status, or None where it still runs after that time, or once `enough` says so."""
    end = None if seconds is None else time.monotonic() + seconds
    while True:
        gone, status = os.waitpid(child, os.WNOHANG)
        if gone:
            return os.waitstatus_to_exitcode(status)
        if (end is not None and time.monotonic() >= end) or (enough is not None and enough()):
            return None
        time.sleep(0 if enough is not None else 0.0005)


def size_of(path: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def kill_once(start: Start, out: Path, life: float, whole: int, draw: random.Random) -> int | None:
    """Start a scan and kill it at a random moment. Its exit status, or None where it was killed."""
    child = start(out)
    if draw.random() < 0.5:
        status = wait(child, draw.uniform(0, life))
    else:
        goal = size_of(out) + draw.uniform(0, whole / 4)
        status = wait(child, None, lambda: size_of(out) > goal)
    if status is not None:
        return status
    os.kill(child, signal.SIGKILL)
    _, ended = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(ended)
    return None if code == -signal.SIGKILL else code


def compare(found: bytes, expected: list[dict[str, Any]], inputs: list[str]) -> Counter[str]:
    """What is wrong with a results file."""
    faults: Counter[str] = Counter()
    lines = []
    for line in found.splitlines(keepends=True):
        try:
            lines.append(json.loads(line))
            faults["torn"] += not line.endswith(b"\n")
        except ValueError:
            faults["torn"] += 1
    counts = Counter(line.get("input") for line in lines)
    faults["lost"] += sum(counts[name] == 0 for name in inputs)
    faults["doubled"] += sum(count > 1 for count in counts.values())
    faults["differing"] += sum(not alike(a, b) for a, b in zip(lines, expected, strict=False))
    faults["differing"] += len(lines) != len(expected)
    return faults


def alike(one: Any, other: Any) -> bool:
    """Equal, but for the last digit of floats."""
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= TOLERANCE
    return bool(one == other)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000, help="in forked children")
    parser.add_argument("--cli", type=int, default=20, help="further kills, of the real command")
    parser.add_argument("--files", type=int, default=400)
    parser.add_argument("--detector", help="a name or a folder; the default detector otherwise")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    draw = random.Random(asked.seed)
    begun = time.monotonic()
    detector = assay.load(asked.detector, threads=1)
    named = str(asked.detector or detector.name)
    faults: Counter[str] = Counter(lost=0, doubled=0, torn=0, differing=0)
    kills = rounds = 0
    processes: dict[int, subprocess.Popen[bytes]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "in"
        make(folder, asked.files, draw)
        inputs = [item for item in expand([str(folder)]) if isinstance(item, str)]
        gc.freeze()
        for start, wanted in (
            (forked(detector, folder), asked.kills),
            (commanded(named, folder, processes), asked.cli),
        ):
            if not wanted:
                continue
            reference = Path(scratch) / "reference.jsonl"
            reference.unlink(missing_ok=True)
            before = time.monotonic()
            if wait(start(reference), None) not in (0, 1):
                raise SystemExit("the undisturbed scan failed")
            life = time.monotonic() - before
            undisturbed = reference.read_bytes()
            expected = [json.loads(line) for line in undisturbed.splitlines()]
            faults.update(compare(undisturbed, expected, inputs))
            done = 0
            while done < wanted:
                out = Path(scratch) / f"{rounds}.jsonl"
                status: int | None = None
                while status is None:
                    # The last round goes to its end without a further kill.
                    if done < wanted:
                        status = kill_once(start, out, life, len(undisturbed), draw)
                        done += status is None
                    else:
                        status = wait(start(out), None)
                if status not in (0, 1):
                    raise SystemExit(f"a scan ended with status {status}")
                found = compare(out.read_bytes(), expected, inputs)
                if found.total():
                    print(f"round {rounds}: {dict(+found)}", file=sys.stderr)
                faults.update(found)
                rounds += 1
                out.unlink()
            kills += done
        for process in processes.values():
            process.returncode = 0  # Waited for above, by its id.
    failed = sum("error" in line for line in expected)
    print(
        json.dumps(
            {
                "kills": kills,
                "rounds": rounds,
                "inputs": len(inputs),
                "failures": failed,
                **faults,
                "seconds": round(time.monotonic() - begun, 1),
                "detector": {"name": detector.name, "version": detector.version, "sha256": detector.sha256},
            }
        )
    )
    return 1 if faults.total() else 0


if __name__ == "__main__":
    sys.exit(main())
