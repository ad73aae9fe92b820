"""Whether the maps and the crops' scores of a detector mean anything, and what an explanation costs.

    python bench/explain.py
    python bench/explain.py --data MANIFEST --most 60 --json FILE

Without a manifest the pictures are those of samples/, six a class; with one, its test rows (all, where it has no
splits), drawn at random. All pictures are explained toward fake, each stream's map by itself and then in the mean.

- **seconds**: one picture after another, `--threads` threads; judging and the maps, not the files. Seconds of the
  processor, of all threads together, are told too: other work on the machine does not lengthen them much.
- **few for all**: Pearson's correlation, over what was seen, of the map of the default number of channels with that of
  all channels, on `--whole` pictures.
- **random weights**: Spearman's correlation of the map with that of the same network after the numbers of each of its
  weights were shuffled (Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018). Near 1 the map says nothing
  of what was learnt.
- **deletion** (Petsiuk et al., "RISE", BMVC 2018): cells of 16 px give way to the view's mean colour, up to half of
  what was seen, in the map's order, in two random orders and from the middle outwards; the figure is the mean raw score
  on the way, in the map's order less the others'. Below 0 what the map marks matters more.
- **localisation**: a square of a fake, half as wide as a real picture's shorter side and of the fake's own pixels,
  pasted into the real picture at a random place. The AUC of the crops' P(fake) between pixels inside and outside the
  square, of those that were seen; and how often the crop that says fake most is the one that shows most of the square.
  The same with squares of other real pictures in place of fakes: what that gives is owed to the pasting.

Intervals are the middle 95 % of 2,000 bootstrap rounds over pictures; of hits, Wilson's.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from scipy import stats

from assay.data import manifest
from assay.errors import InputError
from assay.image.decode import decode
from assay.judge import bundle
from assay.judge.detector import Detector
from assay.judge.engine import runtime
from assay.judge.explain import Explanation, explain
from assay.judge.scorecam import CHANNELS
from assay.metrics import Interval, auc, wilson
from assay.types import Label, Pixels

SAMPLES = Path(__file__).parent.parent / "samples"
CELL = 16
SHARES = np.linspace(0, 0.5, 6)

Floats = npt.NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", help="a name or a bundle's folder; the one that ships unless given")
    parser.add_argument("--data", type=Path, metavar="MANIFEST")
    parser.add_argument("--most", type=int, default=60, help="pictures of each class")
    parser.add_argument("--whole", type=int, default=4, help="pictures explained with all channels")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--card", action="store_true", help="put the headline into the bundle's card")
    parser.add_argument("--json", type=Path, metavar="FILE")
    asked = parser.parse_args()
    rng = np.random.default_rng(asked.seed)
    read = bundle.read(bundle.find(asked.detector))
    detector = Detector(read, threads=asked.threads, device="cpu")
    reals, fakes = (drawn(asked.data, label, asked.most, rng) for label in (Label.REAL, Label.FAKE))
    found: dict[str, Any] = {"detector": f"{detector.name} {detector.version}", "engine": runtime()}
    found |= {"reals": len(reals), "fakes": len(fakes), "channels": CHANNELS, "threads": asked.threads}
    explain(detector, reals[0])
    explanations, seconds, worked = [], [], []
    for pixels in (*reals, *fakes):
        begun, before = time.perf_counter(), time.process_time()
        explanations.append(explain(detector, pixels))
        seconds.append(time.perf_counter() - begun)
        worked.append(time.process_time() - before)
    for name, each in (("seconds a picture", seconds), ("seconds of the processor", worked)):
        found[name] = {"median": statistics.median(each), "longest": max(each), "n": len(each)}
    found["crops a picture"] = statistics.fmean(len(each.drawn[0].boxes) for each in explanations if each.drawn)
    drawings = [each for each in explanations if each.map is not None and each.map.any()]
    step = max(1, len(drawings) // max(1, asked.whole))
    found["few for all"] = told(
        [alike(each, explain(detector, each.pixels, channels=None), np.corrcoef) for each in drawings[::step]]
    )
    with tempfile.TemporaryDirectory() as scratch:
        other = shuffled(read, Path(scratch), asked.threads, asked.seed)
        found["random weights"] = told([alike(each, explain(other, each.pixels), rank) for each in drawings])
    for name, several in (("reals", explanations[: len(reals)]), ("fakes", explanations[len(reals) :])):
        areas = [deletion(detector, each, rng) for each in several if each.map is not None and each.map.any()]
        for order in ("random", "middle"):
            found[f"deletion, map less {order}, {name}"] = told([area["map"] - area[order] for area in areas])
            less = [area["map"] < area[order] for area in areas]
            found[f"deletion, faster than {order}, {name}"] = wilson(sum(less), len(less)).to_dict()
    for name, donors in (("fakes", fakes), ("reals", [*reals[1:], reals[0]])):
        places = [located(detector, *pair, rng) for pair in zip(reals, donors, strict=False)]
        known = [place for place in places if place is not None]
        found[f"localisation, AUC, squares of {name}"] = told([place.auc for place in known])
        hits = [place.hit for place in known if place.crops > 1]
        found[f"localisation, hits, squares of {name}"] = wilson(sum(hits), len(hits)).to_dict()
        found[f"localisation, hits by chance, squares of {name}"] = statistics.fmean(
            1 / place.crops for place in known if place.crops > 1
        )
    for key, value in found.items():
        print(f"{key}: {shown(value)}")
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")
    if asked.card:
        carded(read, found)


LIMIT = "Where it looked: "
"""How the sentence about maps begins on a card."""

KEPT = (
    "random weights",
    "deletion, map less random, fakes",
    "deletion, map less middle, fakes",
    "localisation, AUC, squares of fakes",
    "localisation, hits, squares of fakes",
)
"""Figures that the card keeps."""


def carded(read: bundle.Bundle, found: dict[str, Any]) -> None:
    """Put what maps and crops' scores are worth onto the card, in place of an earlier word on it."""
    place, hits = found["localisation, AUC, squares of fakes"], found["localisation, hits, squares of fakes"]
    good = place["low"] is not None and place["low"] > 0.5
    told = (
        f"{LIMIT}a square of a fake picture pasted into a real one {'is' if good else 'is not'} found by its crops' "
        f"scores (the highest lies on it in {hits['value']:.0%} of {hits['n']} pictures, by chance in "
        f"{found['localisation, hits by chance, squares of fakes']:.0%}); a map shows what the score rests on, not "
        "what was altered."
    )
    others = [limit for limit in read.card.limits if not limit.startswith(LIMIT)]
    figures = {**read.card.figures, "explanations": {name: found[name] for name in KEPT}}
    bundle.amend(read.folder, figures=figures, limits=(*others, told))


def drawn(data: Path | None, label: Label, most: int, rng: np.random.Generator) -> list[Pixels]:
    """Pictures of a class."""
    samples = manifest.select(manifest.read(data or SAMPLES / "manifest.csv", check=False), label=label)
    tests = [sample for sample in samples if sample.split == "test"] or list(samples)
    found: list[Pixels] = []
    for row in rng.permutation(len(tests)).tolist():
        if len(found) == most:
            break
        try:
            found.append(decode(tests[row].place).pixels)
        except InputError:
            continue
    return found


def shuffled(read: bundle.Bundle, folder: Path, threads: int, seed: int) -> Detector:
    """The detector with the numbers of each stored weight shuffled; norms keep what they have in the graph itself."""
    rng = np.random.default_rng(seed)
    for file in read.folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    for trunk in {stream.trunk for stream in read.card.streams}:
        graph = onnx.load(read.folder / f"{trunk}.explain.onnx", load_external_data=False).graph
        blob = bytearray((folder / f"{trunk}.weights").read_bytes())
        for tensor in graph.initializer:
            if tensor.data_location != onnx.TensorProto.EXTERNAL:
                continue
            entries = {entry.key: entry.value for entry in tensor.external_data}
            start, length = int(entries["offset"]), int(entries["length"])
            kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
            values = np.frombuffer(bytes(blob[start : start + length]), kind)
            blob[start : start + length] = rng.permutation(values).tobytes()
        (folder / f"{trunk}.weights").write_bytes(blob)
    # By its graph: what counts without one has no weights.
    return Detector(dataclasses.replace(read, folder=folder), threads=threads, device="cpu", engine="onnxruntime")


def alike(one: Explanation, other: Explanation, measure: Callable[[Floats, Floats], Any]) -> float:
    """The correlation of two maps of one picture, at every fourth pixel that was seen; NaN where one does not vary."""
    if one.map is None or other.map is None:
        return math.nan
    seen = (one.seen & other.seen)[::4, ::4]
    values = [map[::4, ::4][seen].astype(np.float64) for map in (one.map, other.map)]
    if any(np.ptp(each) == 0 for each in values):
        return math.nan
    return float(np.asarray(measure(*values)).ravel()[-1 if measure is rank else 1])


def rank(one: Floats, other: Floats) -> float:
    """Spearman's correlation."""
    return float(stats.spearmanr(one, other).statistic)


def deletion(detector: Detector, explanation: Explanation, rng: np.random.Generator) -> dict[str, float]:
    """Under each order's curve of the raw score, in the mean over the streams: the mean less the first value."""
    assert explanation.map is not None
    pixels, map = explanation.pixels, explanation.map
    height, width = map.shape
    rows, columns = (np.arange(extent) // CELL for extent in (height, width))
    count = columns[-1] + 1
    cell = rows[:, None] * count + columns
    sizes = np.asarray(np.bincount(cell.ravel(), explanation.seen.ravel().astype(float)), np.float64)
    marked = np.bincount(cell.ravel(), (map * explanation.seen).ravel().astype(float)) / np.maximum(sizes, 1)
    numbers = np.arange(len(sizes))
    far = np.asarray(np.hypot(numbers // count - rows[-1] / 2, numbers % count - columns[-1] / 2), np.float64)
    orders: dict[str, list[Floats]] = {"map": [marked], "random": [rng.random(len(sizes)) for _ in range(2)]}
    orders["middle"] = [-far]
    return {
        name: statistics.fmean(_area(detector, pixels, cell, sizes, order) for order in several)
        for name, several in orders.items()
    }


def _area(detector: Detector, pixels: Pixels, cell: npt.NDArray[Any], sizes: Floats, order: Floats) -> float:
    # What was never seen cannot be taken away.
    ranked = [number for number in np.argsort(-order, kind="stable").tolist() if sizes[number] > 0]
    reached = np.cumsum(sizes[ranked]) / sizes.sum()
    colour = np.rint(255 * np.array(detector.streams[0].view.mean)).astype(np.uint8)
    scores = []
    for share in SHARES:
        gone = np.zeros(len(sizes), np.bool_)
        gone[[number for number, at in zip(ranked, reached, strict=True) if at <= share + 1e-9]] = True
        left = pixels.copy()
        left[gone[cell]] = colour
        scores.append(raw(detector, left))
    return float(np.mean(scores) - scores[0])


def raw(detector: Detector, pixels: Pixels) -> float:
    """The mean raw score over all streams that apply and their crops."""
    prepared = detector.cut(decode(pixels), "")
    embeddings = detector.embed_prepared([prepared])
    streams = [card for card in detector.streams if (card.trunk, card.view) in embeddings]
    return statistics.fmean(
        float(detector.raw(card.name, embeddings[card.trunk, card.view]).mean()) for card in streams
    )


@dataclasses.dataclass(frozen=True)
class Place:
    """How well a square was found: the AUC of its pixels, whether the right crop says fake most, how many there are."""

    auc: float
    hit: bool
    crops: int


def located(detector: Detector, real: Pixels, donor: Pixels, rng: np.random.Generator) -> Place | None:
    """Paste a square of `donor` into `real`, and see whether the first stream's crops tell where; None where the square
    is too small, or there is no pixel outside or inside it that was seen."""
    height, width = real.shape[:2]
    side = min(height, width) // 2
    if side < CELL or min(donor.shape[:2]) < side:
        return None
    top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    row, column = int(rng.integers(donor.shape[0] - side + 1)), int(rng.integers(donor.shape[1] - side + 1))
    pixels = real.copy()
    pixels[top : top + side, left : left + side] = donor[row : row + side, column : column + side]
    look = explain(detector, pixels, channels=1).streams[0]
    if look.tiles is None or look.seen is None:
        return None
    inside = np.zeros((height, width), np.int8)
    inside[top : top + side, left : left + side] = 1
    labels, scores = inside[look.seen], look.tiles[look.seen]
    if labels.all() or not labels.any():
        return None
    covered = [
        int(inside[max(0, box.top) : max(0, box.bottom), max(0, box.left) : max(0, box.right)].sum())
        for box in look.boxes
    ]
    hit = covered[int(np.argmax(look.scores))] == max(covered)
    return Place(auc(labels, scores.astype(np.float64)), hit, len(look.boxes))


def told(values: Sequence[float]) -> dict[str, Any]:
    """The mean and its interval over pictures; NaN are left out, and `n` counts the others."""
    known = np.array([value for value in values if math.isfinite(value)])
    if not len(known):
        return Interval(math.nan, math.nan, math.nan, 0).to_dict()
    rows = np.random.default_rng(0).integers(len(known), size=(2000, len(known)))
    low, high = np.quantile(known[rows].mean(axis=1), [0.025, 0.975])
    return Interval(float(known.mean()), float(low), float(high), len(known)).to_dict()


def shown(value: Any) -> str:
    if isinstance(value, dict) and "low" in value:
        numbers = [value[name] for name in ("value", "low", "high")]
        middle, low, high = ("–" if number is None else f"{number:.3f}" for number in numbers)
        return f"{middle} ({low} to {high}), n = {value['n']}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {shown(part)}" for name, part in value.items())
    return f"{value:.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
