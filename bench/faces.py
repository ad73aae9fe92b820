"""How well and how fast faces and eyes are found.

    python bench/faces.py --data MANIFEST
    python bench/faces.py --data MANIFEST --every 5 --json

The manifest (CSV) has, beside `path`, a column `face`: "yes" for pictures that show a face, "no" for pictures that were
looked at and show none; other rows are passed over. Columns `source` (or `source_repo`) and `kind` part the tables.

Counted are pictures: found and missed where there is a face, false alarms where there is none, each with Wilson's 95 %
interval, at several least scores, with and without retries. "Croppable" is what the face stream is about: a largest
face of 1/9 of the picture's area and more. Time is of one thread, beside the time to decode the same pictures.

Eyes, in shares of the distance between them:

- on scikit-image's astronaut, against middles of the irises marked by hand;
- against themselves, mirrored, at half the size, turned by 10 degrees and saved as JPEG of quality 40;
- with `--aligned NAME`, on the originals of that source, against where alignment as in FFHQ puts the eyes on average
  (0.376 and 0.625 of the width, 0.469 of the height: an average, from which each face departs).

Needs the extra "faces" and scikit-image. No picture is shown or written.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
from PIL import Image

from assay.errors import InputError
from assay.image.decode import decode
from assay.image.faces import LEAST, PLAIN, Face, Found, find, share
from assay.image.mtcnn import Mtcnn
from assay.types import Pixels

SCORES = (0.7, 0.8, 0.9, 0.95, 0.99)

ASTRONAUT = ((203.3, 100.8), (246.2, 102.8))
"""Middles of the irises in px, marked by hand at four times the size."""

ALIGNED = ((0.376, 0.469), (0.625, 0.469))

Eyes = tuple[tuple[float, float], ...]


def wilson(hits: int, of: int) -> tuple[float, float]:
    """95 % interval of a share."""
    if not of:
        return 0.0, 1.0
    z = 1.959964
    middle = (hits + z * z / 2) / (of + z * z)
    half = z / (of + z * z) * math.sqrt(hits * (of - hits) / of + z * z / 4)
    return max(0.0, middle - half), min(1.0, middle + half)


def part(hits: int, of: int) -> dict[str, Any]:
    low, high = wilson(hits, of)
    return {"count": hits, "of": of, "share": hits / of if of else None, "low": low, "high": high}


def rows(manifest: Path, every: int) -> Iterator[dict[str, str]]:
    with manifest.open(newline="", encoding="utf-8") as file:
        known = [row for row in csv.DictReader(file) if row.get("face") in ("yes", "no")]
    yield from known[::every]


def best(found: Found) -> float:
    return max((face.score for face in found.faces), default=0.0)


def croppable(found: Found, pixels: Pixels) -> bool:
    height, width = pixels.shape[:2]
    return any(share(face, width, height) >= LEAST for face in found.faces)


def eyes(face: Face) -> Eyes:
    return face.landmarks[:2]


def distance(seen: Eyes, true: Eyes) -> float:
    """Mean distance of two eyes, in distances between the true ones."""
    return statistics.fmean(math.dist(a, b) for a, b in zip(seen, true, strict=True)) / math.dist(*true)


def transforms(width: int, height: int) -> dict[str, tuple[Callable[[Pixels], Pixels], Callable[[Eyes], Eyes]]]:
    """Pictures made from one whose eyes are known, and where the eyes are then."""
    angle = math.radians(10)
    middle = ((width - 1) / 2, (height - 1) / 2)

    def turned(point: tuple[float, float]) -> tuple[float, float]:
        x, y = point[0] - middle[0], point[1] - middle[1]
        # Pillow turns counter-clockwise, with y pointing down.
        return (
            x * math.cos(angle) + y * math.sin(angle) + middle[0],
            -x * math.sin(angle) + y * math.cos(angle) + middle[1],
        )

    def jpeg(pixels: Pixels) -> Pixels:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=40)
        return decode(file.getvalue()).pixels

    half = (max(1, width // 2), max(1, height // 2))
    return {
        "mirrored": (
            lambda pixels: np.ascontiguousarray(pixels[:, ::-1]),
            lambda points: tuple((width - 1 - x, y) for x, y in reversed(points)),
        ),
        "half size": (
            lambda pixels: np.asarray(Image.fromarray(pixels).resize(half, Image.Resampling.BOX)),
            lambda points: tuple(
                ((x + 0.5) * half[0] / width - 0.5, (y + 0.5) * half[1] / height - 0.5) for x, y in points
            ),
        ),
        "turned 10°": (
            lambda pixels: np.asarray(Image.fromarray(pixels).rotate(10, Image.Resampling.BICUBIC)),
            lambda points: tuple(turned(point) for point in points),
        ),
        "JPEG 40": (jpeg, lambda points: points),
    }


def spread(values: list[float]) -> dict[str, Any]:
    if not values:
        return {"n": 0}
    return {"n": len(values), "median": float(np.median(values)), "p90": float(np.quantile(values, 0.9))}


def measure(manifest: Path, every: int, aligned: str) -> dict[str, Any]:
    detectors = {least: Mtcnn(score=least) for least in SCORES}
    detector = detectors[SCORES[0]]
    seen: list[dict[str, Any]] = []
    unread: list[str] = []
    apart: dict[str, list[float]] = defaultdict(list)
    lost: dict[str, int] = defaultdict(int)
    for number, row in enumerate(rows(manifest, every)):
        begun = time.perf_counter()
        try:
            pixels = decode(manifest.parent / row["path"]).pixels
        except InputError as error:
            unread.append(error.kind)
            continue
        decoded = time.perf_counter()
        plain = Found(tuple(detector.detect(pixels)))
        searched = time.perf_counter()
        strict = Found(tuple(face for face in plain.faces if face.score >= 0.9))
        height, width = pixels.shape[:2]
        record: dict[str, Any] = {
            "face": row["face"],
            "source": row.get("source") or row.get("source_repo") or "",
            "kind": row.get("kind", ""),
            "score": best(plain),
            "croppable": croppable(strict, pixels),
            "decode": decoded - begun,
            "search": searched - decoded,
            "again": 0.0,
            "retried": {},
        }
        for least, stricter in detectors.items():
            if best(plain) < least:
                begun = time.perf_counter()
                found = find(pixels, stricter)
                record["retried"][least] = found.how
                if least == 0.9:
                    record["again"] = max(0.0, time.perf_counter() - begun - record["search"])
                    record["croppable"] |= croppable(found, pixels)
        seen.append(record)
        if row["face"] == "yes" and len(strict.faces) == 1 and number % 4 == 0:
            for name, (change, move) in transforms(width, height).items():
                faces = detector.detect(change(pixels))
                wanted = move(eyes(strict.faces[0]))
                near = min((distance(eyes(face), wanted) for face in faces), default=9.9)
                if near < 1:
                    apart[name].append(near)
                else:
                    lost[name] += 1
        if aligned and aligned in record["source"] and row.get("kind") != "crop" and strict.faces:
            wanted = tuple((x * width, y * height) for x, y in ALIGNED)
            apart["aligned as FFHQ"].append(distance(eyes(strict.faces[0]), wanted))
        if number % 50 == 49 and sys.stderr.isatty():
            print(f"\r{number + 1} pictures", end="", file=sys.stderr)
    return {
        "detector": Mtcnn().name,
        "pictures": len(seen),
        "unread": len(unread),
        "counts": counts(seen),
        "sources": sources(seen),
        "retries": retries(seen),
        "ms": {
            "decode": statistics.median(record["decode"] for record in seen) * 1e3,
            "search": statistics.median(record["search"] for record in seen) * 1e3,
            "retries, where none was found": statistics.median(
                [record["again"] for record in seen if record["score"] < 0.9] or [0.0]
            )
            * 1e3,
            "search / decode": sum(record["search"] for record in seen) / sum(record["decode"] for record in seen),
            "512 × 512": at_512(),
        },
        "eyes": {
            "astronaut": astronaut(),
            **{name: {**spread(values), "lost": lost[name]} for name, values in apart.items()},
        },
    }


def counts(seen: list[dict[str, Any]]) -> list[dict[str, Any]]:
    lines = []
    for least in SCORES:
        line: dict[str, Any] = {"least score": least}
        for face, name in (("yes", "found"), ("no", "false alarms")):
            of = [record for record in seen if record["face"] == face]
            plain = [record for record in of if record["score"] >= least]
            again = [record for record in of if record["retried"].get(least)]
            line[name] = part(len(plain), len(of))
            line[f"{name}, with retries"] = part(len(plain) + len(again), len(of))
        lines.append(line)
    return lines


def sources(seen: list[dict[str, Any]]) -> list[dict[str, Any]]:
    keys = sorted({(record["face"], record["source"], record["kind"]) for record in seen})
    lines = []
    for key in keys:
        of = [record for record in seen if (record["face"], record["source"], record["kind"]) == key]
        plain = sum(record["score"] >= 0.9 for record in of)
        again = sum(bool(record["retried"].get(0.9)) for record in of)
        lines.append(
            {
                "face": key[0],
                "source": key[1],
                "kind": key[2],
                "n": len(of),
                "plain": plain,
                "with retries": plain + again,
                "croppable": sum(record["croppable"] for record in of),
            }
        )
    return lines


def retries(seen: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    table: dict[str, dict[str, int]] = defaultdict(lambda: {"yes": 0, "no": 0})
    for record in seen:
        how = PLAIN if record["score"] >= 0.9 else record["retried"].get(0.9) or "not found"
        table[how][record["face"]] += 1
    return dict(table)


def at_512() -> float:
    """Milliseconds for the astronaut at 512 × 512, one thread; the median of 21."""
    detector, pixels = Mtcnn(), portrait()
    times = []
    for _ in range(21):
        begun = time.perf_counter()
        detector.detect(pixels)
        times.append(time.perf_counter() - begun)
    return statistics.median(times) * 1e3


def portrait() -> Pixels:
    load: Callable[[], Pixels] = skimage.data.astronaut
    return load()


def astronaut() -> dict[str, float]:
    pixels, detector = portrait(), Mtcnn()
    seen = {"as it is": distance(eyes(detector.detect(pixels)[0]), ASTRONAUT)}
    for name, (change, move) in transforms(512, 512).items():
        if faces := detector.detect(change(pixels)):
            seen[name] = min(distance(eyes(face), move(ASTRONAUT)) for face in faces)
    return seen


def show(result: dict[str, Any]) -> None:
    print(f"{result['detector']}: {result['pictures']} pictures, {result['unread']} could not be read\n")
    print("least score   found                  with retries           false alarms           with retries")
    for line in result["counts"]:
        cells = (
            f"{line[name]['count']}/{line[name]['of']} [{line[name]['low']:.3f}, {line[name]['high']:.3f}]"
            for name in ("found", "found, with retries", "false alarms", "false alarms, with retries")
        )
        print(f"{line['least score']:<13} " + " ".join(f"{cell:<22}" for cell in cells))
    print("\nat 0.9: face  n    plain  with retries  croppable  kind      source")
    for line in result["sources"]:
        print(
            f"        {line['face']:<5} {line['n']:<4} {line['plain']:<6} {line['with retries']:<13} "
            f"{line['croppable']:<10} {line['kind']:<9} {line['source']}"
        )
    print(
        "\nfound by     " + "   ".join(f"{how} {of['yes']} (false {of['no']})" for how, of in result["retries"].items())
    )
    print("milliseconds " + "   ".join(f"{name} {value:.1f}" for name, value in result["ms"].items()))
    print("\neyes, in distances between them")
    for name, values in result["eyes"].items():
        print(f"  {name}: " + "   ".join(f"{key} {value:.3g}" for key, value in values.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="MANIFEST")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only each Nth of the rows")
    parser.add_argument("--aligned", default="", metavar="NAME", help="a source whose originals are aligned as FFHQ")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    given = parser.parse_args()
    result = measure(given.data, given.every, given.aligned)
    if given.json:
        print(json.dumps(result))
    else:
        show(result)


if __name__ == "__main__":
    main()
