"""Throws damaged pictures at the decoder and counts what comes out.

    python bench/mutate.py --count 100000 --seed 0 --processes 2

Small pictures of every format are damaged in many ways (flipped bits, cut ends, spliced files, edited header fields,
repeated chunks, …) and decoded in worker processes under a memory limit. A valid `Picture` and an `InputError` of a
known kind are the only right answers; a crash, a hang, another exception, a wrong `Picture` or a word on stderr is a
fault.

Mutant `n` of seed `s` is always the same bytes on the same libraries: `python bench/mutate.py --seed s --save n FILE`.
Prints one JSON object, exits 1 where there was a fault.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import functools
import importlib
import io
import json
import os
import pathlib
import random
import resource
import selectors
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageCms

# ── seeds ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@functools.cache
def seeds() -> dict[str, bytes]:
    """Small whole pictures, name to bytes: every format, mode and container feature that the decoder handles."""
    picture = _picture(96, 64)
    frames = [_picture(64, 48, shift) for shift in (0, 9, 18, 27)]
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "maker"
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    deep = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    alpha = picture.copy()
    alpha.putalpha(picture.convert("L"))
    palette = picture.quantize(32)
    animated: dict[str, Any] = {"save_all": True, "append_images": frames[1:], "duration": 40}
    made = {
        "baseline.jpg": _file(picture, "JPEG", quality=80, exif=exif, icc_profile=icc),
        "progressive.jpg": _file(picture, "JPEG", progressive=True),
        "grey.jpg": _file(picture.convert("L"), "JPEG", restart_marker_blocks=3),
        "cmyk.jpg": _file(picture.convert("CMYK"), "JPEG"),
        "two.mpo": _file(frames[0], "MPO", save_all=True, append_images=[frames[1].copy()]),
        "rgb.png": _file(picture, "PNG", exif=exif, icc_profile=icc),
        "alpha.png": _file(alpha, "PNG"),
        "palette.png": _file(palette, "PNG", transparency=3),
        "deep.png": _file(deep, "PNG"),
        "bit.png": _file(picture.convert("1"), "PNG"),
        "animated.png": _file(frames[0], "PNG", **animated, default_image=False),
        "lossy.webp": _file(picture, "WEBP", exif=exif, icc_profile=icc),
        "lossless.webp": _file(alpha, "WEBP", lossless=True),
        "animated.webp": _file(frames[0], "WEBP", **animated),
        "still.gif": _file(palette, "GIF", transparency=0),
        "animated.gif": _file(frames[0], "GIF", **animated, disposal=2),
        "rgb.bmp": _file(picture, "BMP"),
        "palette.bmp": _file(palette, "BMP"),
        "alpha.bmp": _file(alpha, "BMP"),
        "rle.bmp": _rle_bmp(),
        "raw.tif": _file(picture, "TIFF", icc_profile=icc),
        "lzw.tif": _file(picture, "TIFF", compression="tiff_lzw"),
        "deflate.tif": _file(alpha, "TIFF", compression="tiff_adobe_deflate"),
        "jpeg.tif": _file(picture, "TIFF", compression="jpeg"),
        "fax.tif": _file(picture.convert("1"), "TIFF", compression="group4"),
        "packbits.tif": _file(palette, "TIFF", compression="packbits"),
        "deep.tif": _file(deep, "TIFF"),
        "float.tif": _file(picture.convert("F"), "TIFF"),
        "cmyk.tif": _file(picture.convert("CMYK"), "TIFF"),
        "pages.tif": _file(frames[0], "TIFF", save_all=True, append_images=frames[1:]),
        "big.tif": _file(picture, "TIFF", big_tiff=True),
        "still.avif": _file(picture, "AVIF", speed=10, exif=exif, icc_profile=icc),
        "alpha.avif": _file(alpha, "AVIF", speed=10),
        "animated.avif": _file(frames[0], "AVIF", **animated, speed=10),
    }
    try:
        import pillow_heif
    except ImportError:
        return made
    heif = pillow_heif.from_pillow(picture)
    buffer = io.BytesIO()
    heif.save(buffer, quality=60)
    return made | {"still.heic": buffer.getvalue()}


def _picture(width: int, height: int, shift: int = 0) -> Image.Image:
    """Smooth colours, an edge and some noise: something for every part of an encoder to do."""
    y, x = np.mgrid[0:height, 0:width]
    planes = np.stack([x * 255 // width, y * 255 // height, (x + y + shift) * 3 % 256], axis=-1)
    planes[:, width // 2 + shift :] = 255 - planes[:, width // 2 + shift :]
    planes += np.random.default_rng(shift).integers(-9, 10, planes.shape)
    return Image.fromarray(planes.clip(0, 255).astype(np.uint8))


def _file(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image = image.copy()  # saving leaves the encoder's settings on an image, and they upset the next format
    image.save(buffer, form, **options)
    return buffer.getvalue()


def _rle_bmp() -> bytes:
    width, height = 64, 48  # Pillow reads run-length BMP, but writes none
    rows = b"".join(bytes([32, row, 32, 255 - row, 0, 0]) for row in range(height)) + b"\0\1"
    palette = b"".join(bytes([level, 255 - level, level // 2, 0]) for level in range(256))
    header = b"".join(number.to_bytes(4, "little") for number in (40, width, height, 1 | 8 << 16, 1, len(rows)))
    start = 14 + 40 + len(palette)
    file = b"BM" + b"".join(number.to_bytes(4, "little") for number in (start + len(rows), 0, start))
    return file + header + bytes(16) + palette + rows


# ── mutations ────────────────────────────────────────────────────────────────────────────────────────────────────────

Mutation = Callable[[bytearray, random.Random], bytearray]

_EDGES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def _somewhere(data: bytearray, rng: random.Random) -> int:
    """A place in the file; in half of the cases near the start, where the headers are."""
    return rng.randrange(min(len(data), 256) if rng.random() < 0.5 else len(data))


def flip_bits(data: bytearray, rng: random.Random) -> bytearray:
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        data[_somewhere(data, rng)] ^= 1 << rng.randrange(8)
    return data


def set_bytes(data: bytearray, rng: random.Random) -> bytearray:
    for _ in range(rng.choice((1, 2, 8))):
        data[_somewhere(data, rng)] = rng.choice((0, 0xFF, 0x7F, 0x80, rng.randrange(256)))
    return data


def cut_end(data: bytearray, rng: random.Random) -> bytearray:
    return data[: _somewhere(data, rng)]


def cut_middle(data: bytearray, rng: random.Random) -> bytearray:
    start = _somewhere(data, rng)
    del data[start : start + rng.choice((1, 2, 4, 16, 256))]
    return data


def insert(data: bytearray, rng: random.Random) -> bytearray:
    start = _somewhere(data, rng)
    data[start:start] = rng.randbytes(rng.choice((1, 2, 4, 16, 256)))
    return data


def repeat(data: bytearray, rng: random.Random) -> bytearray:
    start = _somewhere(data, rng)
    data[start:start] = data[start : start + rng.choice((4, 12, 64, 512))] * rng.choice((1, 1, 2, 50))
    return data


def move(data: bytearray, rng: random.Random) -> bytearray:
    start, size = _somewhere(data, rng), rng.choice((4, 12, 64, 512))
    block = data[start : start + size]
    del data[start : start + size]
    at = rng.randrange(len(data) + 1)
    data[at:at] = block
    return data


def edit_field(data: bytearray, rng: random.Random) -> bytearray:
    """Puts a number that programs stumble over where a header field may be."""
    for _ in range(rng.choice((1, 1, 2))):
        size = rng.choice((1, 2, 4))
        at = _somewhere(data, rng)
        value = rng.choice(_EDGES) & (256**size - 1)
        data[at : at + size] = value.to_bytes(size, rng.choice(("big", "little")))
    return data


def splice(data: bytearray, rng: random.Random) -> bytearray:
    """The start of one file and the end of another, often of the same format."""
    other = seeds()[rng.choice(list(seeds()))]
    return data[: _somewhere(data, rng)] + other[rng.randrange(len(other)) :]


def repeat_chunk(data: bytearray, rng: random.Random) -> bytearray:
    """Doubles, drops or swaps whole PNG chunks, RIFF chunks or ISO boxes; blocks elsewhere."""
    chunks = list(_chunks(data))
    if len(chunks) < 2:
        return repeat(data, rng)
    (start, end), (other, stop) = rng.choice(chunks), rng.choice(chunks)
    action = rng.randrange(3)
    if action == 0:
        data[other:other] = data[start:end] * rng.choice((1, 2, 40))
    elif action == 1:
        del data[start:end]
    else:
        data[start:end] = data[other:stop]
    return data


def _chunks(data: bytearray) -> Iterator[tuple[int, int]]:
    if data.startswith(b"\x89PNG"):
        at, order, extra, tag = 8, "big", 12, 0
    elif data.startswith(b"RIFF"):
        at, order, extra, tag = 12, "little", 8, 4
    elif data[4:8] == b"ftyp":
        at, order, extra, tag = 0, "big", 0, 0
    else:
        return
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + tag : at + tag + 4], "little" if order == "little" else "big") + extra
        if size < 8 or at + size > len(data):
            return
        yield at, at + size
        at += size


MUTATIONS: tuple[Mutation, ...] = (
    flip_bits,
    set_bytes,
    cut_end,
    cut_middle,
    insert,
    repeat,
    move,
    edit_field,
    edit_field,
    splice,
    repeat_chunk,
)


def mend_checksums(data: bytearray) -> bytearray:
    """Right checksums for a damaged PNG, so that the damage gets past the first check."""
    if data.startswith(b"\x89PNG"):
        for start, end in _chunks(data):
            data[end - 4 : end] = zlib.crc32(data[start + 4 : end - 4]).to_bytes(4, "big")
    return data


def mutant(seed: int, number: int) -> tuple[str, bytes]:
    """The name of the file it is made of, and the damaged bytes."""
    rng = random.Random(f"{seed}:{number}")
    names = list(seeds())
    name = names[number % len(names)]
    data = bytearray(seeds()[name])
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if data:
            data = rng.choice(MUTATIONS)(data, rng)
    if rng.random() < 0.7:
        data = mend_checksums(data)
    return name, bytes(data)


# ── worker ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def work(options: argparse.Namespace) -> None:
    """Decodes mutants `first`, `first + step`, … and prints one line of JSON for each."""
    from assay.errors import InputError
    from assay.image.decode import Limits

    module, _, function = options.decoder.partition(":")
    decode = getattr(importlib.import_module(module), function)
    limits = Limits(pixels=options.pixels)
    seeds()
    limit = options.memory << 20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    say({"ready": True})
    for number in range(options.first, options.count, options.step):
        name, data = mutant(options.seed, number)
        started = time.perf_counter()
        line: dict[str, Any] = {"number": number, "name": name}
        try:
            wrong = fault_of(decode(data, limits), limits)
            line |= {"fault": wrong} if wrong else {"picture": True}
        except InputError as error:
            known = error.kind in KINDS and 0 < len(str(error)) < 300 and "\n" not in str(error)
            line |= {"refused": error.kind} if known else {"fault": f"odd refusal: {error.kind}: {error}"}
        except Exception as error:
            line |= {"fault": f"{type(error).__name__}: {error}"}
        line |= {"seconds": time.perf_counter() - started, "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
        say(line)


KINDS = frozenset(
    {
        "empty",
        "not_an_image",
        "unsupported",
        "truncated",
        "corrupt",
        "too_many_pixels",
        "too_many_bytes",
        "too_many_frames",
        "needs_extra",
        "unreadable",
    }
)


def fault_of(picture: Any, limits: Any) -> str:
    """What is wrong with a `Picture`; empty where nothing is."""
    frames = picture.frames
    if not 1 <= len(frames) <= limits.frames or len(frames) != len(picture.frame_numbers):
        return f"{len(frames)} frames, {len(picture.frame_numbers)} numbers"
    if list(picture.frame_numbers) != sorted(set(picture.frame_numbers)) or picture.frame_numbers[0] != 0:
        return f"frame numbers {picture.frame_numbers}"
    if picture.frame_numbers[-1] >= picture.frame_count:
        return f"frame {picture.frame_numbers[-1]} of {picture.frame_count}"
    for frame in frames:
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or frame.shape != frames[0].shape:
            return f"frame of {frame.dtype} {frame.shape}"
        if not 0 < frame.shape[0] * frame.shape[1] <= limits.pixels or not frame.flags.c_contiguous:
            return f"frame of shape {frame.shape}, strides {frame.strides}"
    return ""


def say(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


# ── master ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass
class Worker:
    """One worker process: its own share of numbers, and when it last spoke."""

    process: subprocess.Popen[bytes]
    following: int
    heard: float
    ready: bool = False
    rest: bytes = b""

    @property
    def out(self) -> Any:
        return self.process.stdout


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Shares the mutants among worker processes, restarts those that die or hang, and counts."""
    kinds: collections.Counter[str] = collections.Counter()
    counts: collections.Counter[str] = collections.Counter()
    slowest: dict[str, Any] = {"seconds": 0.0}
    faults: list[dict[str, Any]] = []
    rss = 0
    started = time.perf_counter()
    selector = selectors.DefaultSelector()
    with tempfile.TemporaryFile() as stderr:

        def start(first: int) -> None:
            if first < options.count:
                process = subprocess.Popen(_command(options, first), stdout=subprocess.PIPE, stderr=stderr)
                worker = Worker(process, first, time.perf_counter())
                selector.register(worker.out, selectors.EVENT_READ, worker)

        def stop(worker: Worker, kind: str, detail: str) -> None:
            selector.unregister(worker.out)
            worker.process.kill()
            code = worker.process.wait()
            worker.out.close()
            if not worker.ready:
                raise SystemExit(f"a worker could not start ({detail or code}); run it by hand: {_command(options, 0)}")
            counts["files"] += 1
            counts[kind] += 1
            faults.append({"number": worker.following, "what": f"{kind}: {detail or code}"})
            start(worker.following + options.processes)

        for first in range(options.processes):
            start(first)
        while selector.get_map():
            for key, _ in selector.select(timeout=0.2):
                worker: Worker = key.data
                data = os.read(key.fd, 1 << 16)
                if not data:
                    if worker.following >= options.count and worker.process.wait() == 0:
                        selector.unregister(worker.out)
                        worker.out.close()
                    else:
                        stop(worker, "crashes", f"exit status {worker.process.wait()}")
                    continue
                worker.heard = time.perf_counter()
                *lines, worker.rest = (worker.rest + data).split(b"\n")
                for line in map(json.loads, lines):
                    if "ready" in line:
                        worker.ready = True
                        continue
                    worker.following += options.processes
                    counts["files"] += 1
                    rss = max(rss, line["rss"])
                    if line["seconds"] > slowest["seconds"]:
                        slowest = {key: line[key] for key in ("seconds", "number", "name")}
                    if "picture" in line:
                        counts["pictures"] += 1
                    elif "refused" in line:
                        kinds[line["refused"]] += 1
                    else:
                        counts["others"] += 1
                        faults.append({"number": line["number"], "what": line["fault"]})
            for key in list(selector.get_map().values()):
                patience = options.seconds if key.data.ready else 60
                if time.perf_counter() - key.data.heard > patience and key.data.following < options.count:
                    stop(key.data, "hangs", f"over {patience} s")
        stderr.seek(0)
        leaked = stderr.read()
    return {
        "files": counts["files"],
        "pictures": counts["pictures"],
        "refusals": dict(sorted(kinds.items())),
        "crashes": counts["crashes"],
        "hangs": counts["hangs"],
        "others": counts["others"],
        "stderr_bytes": len(leaked),
        "stderr": leaked[:300].decode(errors="replace"),
        "faults": faults[:20],
        "slowest": slowest,
        "seconds": round(time.perf_counter() - started, 1),
        "max_rss": rss * 1024,
    }


def _command(options: argparse.Namespace, first: int) -> list[str]:
    numbers = {
        "--first": first,
        "--step": options.processes,
        "--count": options.count,
        "--seed": options.seed,
        "--memory": options.memory,
        "--pixels": options.pixels,
    }
    pairs = [str(word) for pair in numbers.items() for word in pair]
    return [sys.executable, str(pathlib.Path(__file__).resolve()), "--worker", "--decoder", options.decoder, *pairs]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=100_000, help="how many mutants")
    parser.add_argument("--seed", type=int, default=0, help="which mutants")
    parser.add_argument("--processes", type=int, default=2, help="how many workers")
    parser.add_argument("--seconds", type=float, default=10, help="a file that takes longer is a hang")
    parser.add_argument("--memory", type=int, default=3072, help="address space of a worker in MiB")
    parser.add_argument("--pixels", type=int, default=16_000_000, help="the decoder's limit on pixels")
    parser.add_argument("--decoder", default="assay.image.decode:decode", help="module:function to test")
    parser.add_argument("--save", nargs=2, metavar=("NUMBER", "FILE"), help="write one mutant to a file, and stop")
    for hidden in ("--first", "--step"):
        parser.add_argument(hidden, type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.save:
        number, path = options.save
        pathlib.Path(path).write_bytes(mutant(options.seed, int(number))[1])
        return 0
    if options.worker:
        work(options)
        return 0
    summary = run(options)
    print(json.dumps(summary))
    return 1 if summary["crashes"] or summary["hangs"] or summary["others"] or summary["stderr_bytes"] else 0


if __name__ == "__main__":
    sys.exit(main())
