"""Shows where each millisecond of judging goes: a profile by stage, for kinds and sizes of pictures.

    python bench/stages.py
    python bench/stages.py --detector ./bundle --megapixels 0.3 12 --format JPEG --rounds 9 --json
    python bench/stages.py --overlap 50        # and whether decoding and networks keep all cores busy

Three detectors, unless one is named: the one that ships, and a ViT-Tiny of random weights that is shown the middle of a
picture, or a grid of three by three (these need the extra "train"). One picture is judged at a time and its verdict
written to a results file, through the very functions that a scan runs: while a round is timed they are wrapped, and a
stage's time is what it took less what the stages inside it took. What no stage accounts for is a line of its own.

Rounds take turns with rounds in which the whole picture is decoded whatever the views need, and the ratio between the
two is taken within a round. The stages are those of the round in the middle. On a busy machine `--cpu` tells more: the
processor time of all threads instead of the time on the clock. Pictures are photographs of `samples/real`, enlarged and
laid side by side under a little noise, always the same.

Prints tables on standard error and one JSON object on standard output, and writes nothing but a temporary folder.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import json
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image, ImageFile, WebPImagePlugin
from rich.console import Console
from rich.table import Table

import assay
from assay.image import container, counting, decode, fingerprint, markers, memory, region
from assay.image.view import View
from assay.judge import bundle
from assay.judge.detector import Detector
from assay.judge.engine import Engine
from assay.judge.seen import Seen
from assay.judge.sink import Results
from speed import Measured, machine, made_up, photographs, spread

FORMATS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 90},
    "PNG": {"compress_level": 3},
    "WEBP": {"quality": 85, "method": 1},
}

MEGAPIXELS = (0.3, 2.0, 12.0, 50.0)

VIEWS = {
    "ViT-Tiny, centre": View(size=224, layout="centre"),
    "ViT-Tiny, grid": View(size=224, layout="grid", across=3),
}

STAGES: dict[str, list[tuple[Any, str]]] = {
    "read": [(decode, "_read_all")],
    "hash": [(hashlib, "sha256")],
    "container checks": [(container, "identify"), (container, "outline"), (markers, "read")],
    "decoder": [
        (decode, "_decoder"),
        (ImageFile.ImageFile, "load"),
        (WebPImagePlugin.WebPImageFile, "load"),
        (region, "decoded"),
    ],
    "orientation and colour": [(decode, "_upright"), (decode, "_part")],
    "perceptual hash, what was seen": [(fingerprint, "perceptual_hash"), (Seen, "overlaps")],
    "cutting": [(View, "crops")],
    "normalising": [(View, "tensor")],
    "network": [(Engine, "embed")],
    "head and rule": [(Detector, "_raws"), (Detector, "_verdict")],
    "writing": [(Results, "write")],
}
"""The functions that make up a stage, and where their callers find them."""

# ── what is measured on ──────────────────────────────────────────────────────────────────────────────────────────────


def picture(megapixels: float, seed: int = 0) -> Image.Image:
    """A picture of 4 : 3 of about so many megapixels."""
    draw = np.random.default_rng(seed)
    found = photographs()
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    width = height * 4 // 3
    whole = Image.new("RGB", (width, height))
    half = (-(-width // 2), -(-height // 2))
    for left in (0, width // 2):
        for top in (0, height // 2):
            photograph = found[int(draw.integers(len(found)))]
            whole.paste(photograph.resize(half, Image.Resampling.BICUBIC), (left, top))
    pixels = np.array(whole)
    for top in range(0, height, 256):  # enlarged photographs have no grain, and compress too well
        band = pixels[top : top + 256]
        band[:] = np.clip(band + draw.integers(-6, 7, band.shape, np.int16), 0, 255)
    return Image.fromarray(pixels)


def files(folder: Path, sizes: Sequence[float], formats: Sequence[str]) -> dict[tuple[str, float], Path]:
    """A file of each format and size in megapixels."""
    found = {}
    for megapixels in sizes:
        shown = picture(megapixels)
        for form in formats:
            found[form, megapixels] = folder / f"{megapixels:g}.{form.lower()}"
            shown.save(found[form, megapixels], form, **FORMATS[form])
    return found


def seen_as(made: bundle.Bundle, folder: Path, view: View) -> Path:
    """A bundle of one stream as another one, with another view of pictures."""
    streams = tuple(stream.model_copy(update={"view": view}) for stream in made.card.streams)
    graphs = {path.name: path for path in made.folder.iterdir() if path.suffix in (".onnx", ".weights")}
    card = made.card.model_copy(update={"streams": streams})
    bundle.write(folder, card, made.judge, files=dict(graphs), heads=made.heads, seen=made.seen)
    return folder


# ── the profile ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Clock:
    """Takes the seconds of functions, by stage, each less those of the functions that it calls in turn."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._now = now
        self._inside: list[float] = []

    def timed(self, stage: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def wrapped(*given: Any, **named: Any) -> Any:
            self._inside.append(0.0)
            begun = self._now()
            try:
                return call(*given, **named)
            finally:
                took = self._now() - begun
                self.seconds[stage] += took - self._inside.pop()
                if self._inside:
                    self._inside[-1] += took

        return wrapped

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """All stages wrapped as long as the block lasts."""
        with contextlib.ExitStack() as stack:
            for stage, functions in STAGES.items():
                for owner, name in functions:
                    if owner is hashlib:  # for decoding alone
                        hashing = types.SimpleNamespace(**vars(hashlib))
                        hashing.sha256 = self.timed(stage, hashlib.sha256)
                        stack.enter_context(mock.patch.object(decode, "hashlib", hashing))
                    elif name == "_decoder":
                        stack.enter_context(mock.patch.object(decode, name, self._opening(stage)))
                    else:
                        whole = self.timed(stage, getattr(owner, name))
                        stack.enter_context(mock.patch.object(owner, name, whole))
            yield

    def _opening(self, stage: str) -> Callable[[str], Callable[..., Any]]:
        """`decode._decoder`, whose answer is what takes the time."""
        chosen = decode._decoder
        return lambda form: self.timed(stage, chosen(form))


def profile(
    detector: Detector,
    file: Path,
    results: Results,
    rounds: int,
    now: Callable[[], float] = time.perf_counter,
) -> Measured:
    """One picture's way through a detector, in milliseconds."""

    def judged() -> tuple[float, dict[str, float]]:
        """Seconds that it took, and of each stage."""
        clock = Clock(now)
        with clock.running():
            begun = now()
            results.write(detector.judge(file))
            return now() - begun, clock.seconds

    def whole() -> tuple[float, dict[str, float]]:
        with mock.patch.object(View, "needed", return_value=None):
            return judged()

    judged()
    whole()
    timed: list[tuple[float, dict[str, float]]] = []
    ratios: list[float] = []
    for number in range(rounds):
        first, second = (judged, whole) if number % 2 else (whole, judged)
        one, other = first(), second()
        parts, entire = (one, other) if first is judged else (other, one)
        timed.append(parts)
        ratios.append(entire[0] / parts[0])
    took, stages = sorted(timed, key=lambda one: one[0])[rounds // 2]
    told = {stage: round(1000 * seconds, 3) for stage, seconds in stages.items()}
    return {
        "bytes": file.stat().st_size,
        "stages_ms": told,
        "unaccounted_ms": round(1000 * took - sum(told.values()), 3),
        "whole_ms": round(1000 * took, 3),
        "rounds_ms": spread([1000 * seconds for seconds, _ in timed]),
        "times_decoding_all": spread(ratios),
    }


def overlap(detector: Detector, file: Path, rounds: int, count: int = 12) -> Measured:
    """Whether more threads that decode make `judge_many` faster, and how many cores it keeps busy."""
    found: dict[str, list[float]] = {"1": [], "2": []}
    busy: dict[str, list[float]] = {"1": [], "2": []}
    for number in range(rounds):
        for workers in ("1", "2") if number % 2 else ("2", "1"):
            begun, used = time.perf_counter(), time.process_time()
            answers = list(detector.judge_many([file] * count, workers=int(workers), batch=2))
            found[workers].append((time.perf_counter() - begun) / len(answers))
            busy[workers].append((time.process_time() - used) / len(answers) / found[workers][-1])
    return {
        "seconds_per_picture": {workers: spread(took) for workers, took in found.items()},
        "cores_busy": {workers: spread(cores) for workers, cores in busy.items()},
        "times_one_worker": spread([one / two for one, two in zip(found["1"], found["2"], strict=True)]),
    }


# ── telling ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def show(name: str, found: dict[tuple[str, float], Measured], console: Console) -> None:
    """One detector's profile as a table, in milliseconds."""
    table = Table("ms", *(f"{form} {size:g} MP" for form, size in found), title=name)
    for stage in STAGES:
        table.add_row(stage, *(f"{each['stages_ms'][stage]:.2f}" for each in found.values()))
    table.add_row("not accounted for", *(f"{each['unaccounted_ms']:.2f}" for each in found.values()), end_section=True)
    table.add_row("measured whole", *(f"{each['whole_ms']:.1f}" for each in found.values()))
    ratios = (each["times_decoding_all"] for each in found.values())
    table.add_row("times as fast as decoding all", *(f"{r['value']} ({r['low']}-{r['high']})" for r in ratios))
    console.print(table)


def main() -> int:
    memory.keep()  # as a command that judges does
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", metavar="NAME|FOLDER", help="this one alone")
    parser.add_argument("--megapixels", type=float, nargs="+", default=MEGAPIXELS)
    parser.add_argument("--format", nargs="+", choices=tuple(FORMATS), default=tuple(FORMATS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, help="cores for a network; as many as there are unless given")
    parser.add_argument("--overlap", type=float, metavar="MEGAPIXELS", help="also many JPEGs of that size at once")
    parser.add_argument("--cpu", action="store_true", help="processor time")
    parser.add_argument("--json", action="store_true", help="no tables")
    asked = parser.parse_args()
    if asked.rounds < 1:
        parser.error("--rounds must be 1 or more")
    console = Console(stderr=True, highlight=False, width=200, quiet=asked.json)
    now = time.process_time if asked.cpu else time.perf_counter
    told: list[Measured] = []
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        places: dict[str, str | Path | None] = {asked.detector or "the one that ships": asked.detector}
        if not asked.detector:
            made = bundle.read(made_up(scratch / "vit", "vit"))
            places |= {name: seen_as(made, scratch / name, view) for name, view in VIEWS.items()}
        detectors = {name: assay.load(place, device="cpu", threads=asked.threads) for name, place in places.items()}
        if any(detector.card.counts for detector in detectors.values()):
            console.print(f"runs are counted by {counting.settle()}")
        shown = files(scratch, asked.megapixels, asked.format)
        many = files(scratch, [asked.overlap], ["JPEG"]) if asked.overlap else {}
        for name, detector in detectors.items():
            with Results(scratch / "results.jsonl", "json", detector.sha256) as results:
                found = {kind: profile(detector, file, results, asked.rounds, now) for kind, file in shown.items()}
            (scratch / "results.jsonl").unlink()
            show(name, found, console)
            one: Measured = {
                "name": name,
                "sha256": detector.sha256,
                "pictures": [{"format": form, "megapixels": size} | each for (form, size), each in found.items()],
            }
            for file in many.values():
                one["overlap"] = {"megapixels": asked.overlap, **overlap(detector, file, asked.rounds)}
                console.print(f"{name}: {one['overlap']}")
            told.append(one)
    print(json.dumps({"machine": machine(), "time": "processor" if asked.cpu else "clock", "detectors": told}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
