"""What some studies look at beside the scores of test rows: where a detector looks, what skipping saves, attacks.

A probe looks at a bundle and a few test rows, and gives lines of figures, each with a 95 % interval and a count.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import assay
from assay.data.table import Table
from assay.errors import InputError, RecipeError, unknown
from assay.image import mtcnn
from assay.image.decode import decode
from assay.image.faces import Face
from assay.judge import bundle
from assay.judge.detector import Detector
from assay.judge.explain import Explanation, explain
from assay.judge.skip import Skip
from assay.learn import attack as attacks
from assay.learn.mirror import Mirror
from assay.measure import attribution
from assay.measure.robustness import mixed
from assay.metrics import Floats, Interval, exact
from assay.types import Label, Pixels

Cells = dict[str, Interval]
"""A line's figures, by name."""

Lines = dict[str, Cells]

LOOKED, CHANNELS = 40, 32
"""Pictures whose maps are made, half of each class, and most channels asked of a crop."""

DEGRADED = "mix0.5"
STRENGTH = 0.5
"""Of the random mix that maps are compared under."""

NOISE = (0.2, 0.5, 1.0)
"""Strengths of Gaussian noise that embeddings are compared at."""

TIMED = 60
"""Pictures that time is taken on."""

ATTACKED = 16
"""Pictures that are attacked, half of each class."""

ATTACKS = (attacks.Noise(0), attacks.Noise(8), attacks.PGD(2), attacks.PGD(8), attacks.Square(8, 50))
"""Nothing and noise to compare with, then those that follow a gradient, and one that only asks."""

ROUNDS = 1000


def attention(folder: Path, tested: Table) -> Lines:
    """Where each stream looks, clean and degraded: entropy of the class token's attention, how maps and embeddings
    hold, shares of the maps on faces, how alike the streams' maps are."""
    detector = assay.load(folder)
    found: dict[tuple[str, str], list[float]] = {}

    def note(line: str, figure: str, value: float | None) -> None:
        if value is not None and math.isfinite(value):
            found.setdefault((line, figure), []).append(value)

    for pixels in _pictures(tested, LOOKED):
        clean = explain(detector, pixels, channels=CHANNELS)
        rough = explain(detector, mixed(STRENGTH)(pixels), channels=CHANNELS)
        for name, cosines in attribution.stability(detector, pixels, levels=NOISE).items():
            for level, cosine in zip(NOISE, cosines, strict=True):
                note(name, f"embedding, noise {level:g}", cosine)
        after = {look.name: look for look in rough.drawn}
        for look in clean.drawn:
            note(look.name, "entropy", look.entropy)
            if look.name in after:
                note(look.name, "entropy, degraded", after[look.name].entropy)
                moved = attribution.drift(look, after[look.name])
                note(look.name, "top tenth kept", moved.overlap)
                note(look.name, "centroid moved", moved.shift)
        for (one, other), cosine in attribution.between(clean).items():
            note(f"{one} and {other}", "maps' cosine", cosine)
        faces = mtcnn.look(pixels)
        for when, explanation in (("", clean), (", degraded", rough)) if faces else ():
            for name, line in _shares(explanation, faces):
                for part, value in line.items():
                    note(name, f"in {part}{when}", value)
    return _lines(found)


def _shares(explanation: Explanation, faces: Sequence[Face]) -> Iterator[tuple[str, dict[str, float]]]:
    for look in explanation.drawn:
        if look.map is not None:
            shares = attribution.shares(look.map, faces)
            parts = ("face", "eyes", "mouth", "background")
            yield look.name, {part: getattr(shares, part) for part in parts}


def _lines(found: Mapping[tuple[str, str], Sequence[float]]) -> Lines:
    lines: Lines = {}
    for (line, figure), values in found.items():
        lines.setdefault(line, {})[figure] = mean(np.array(values))
    return lines


def mean(values: Floats) -> Interval:
    """The mean of one number a picture, with the bootstrap's 95 % interval over pictures."""
    if len(values) < 2:
        return Interval(float(values.mean()) if len(values) else math.nan, math.nan, math.nan, len(values))
    rows = np.random.default_rng(0).integers(len(values), size=(ROUNDS, len(values)))
    low, high = np.quantile(values[rows].mean(axis=1), [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high), len(values))


def skip(folder: Path, tested: Table) -> Lines:
    """What is saved where streams that cannot matter are left out, and how many verdicts change, on test rows: by the
    bundle's own bounds, and by bounds that never change one."""
    whole = assay.load(folder)
    own = whole.rules.skip
    if own is None:
        raise RecipeError(f"{folder}: no stream of it can be left out")
    sure = own.model_copy(update={"reach": tuple((1.0, 1.0) for _ in own.reach)})
    lines: Lines = {}
    for condition, change in (("clean", _as_it_is), (DEGRADED, mixed(STRENGTH))):
        pictures = [change(pixels) for pixels in _pictures(tested, len(tested))]
        all_said = [whole.judge(pixels) for pixels in pictures]
        for name, bounds in (("bounds for 0.5 %", own), ("bounds that never err", sure)):
            detector = skipping(folder, bounds)
            said = [detector.judge(pixels) for pixels in pictures]
            changed = sum(one.verdict != other.verdict for one, other in zip(all_said, said, strict=True))
            left = sum(
                any(not part.applies and part.reason.startswith("left out") for part in verdict.streams)
                for verdict in said
            )
            n = len(pictures)
            lines[f"{name}, {condition}"] = {
                "verdicts changed": exact(changed, n),
                "pictures with streams left out": exact(left, n),
                "time of all streams": _time_saved(whole, detector, pictures[:TIMED]),
            }
    return lines


def skipping(folder: Path, bounds: Skip) -> Detector:
    """The detector of a bundle with other bounds for leaving out streams."""
    read = bundle.read(folder)
    changed = dataclasses.replace(read, judge=read.judge.model_copy(update={"skip": bounds}))
    return Detector(changed, skip=True)


def _time_saved(whole: Detector, some: Detector, pictures: Sequence[Pixels]) -> Interval:
    """Processor time with streams left out over that with all of them, faces searched anew for both."""
    taken = []
    for pixels in pictures:
        pair = []
        for detector in (whole, some):
            mtcnn.forget()
            began = time.process_time()
            detector.judge(pixels)
            pair.append(time.process_time() - began)
        taken.append(pair)
    both = np.array(taken)
    rows = np.random.default_rng(0).integers(len(both), size=(ROUNDS, len(both)))
    sums = both[rows].sum(axis=1)
    low, high = np.quantile(sums[:, 1] / sums[:, 0], [0.025, 0.975])
    return Interval(float(both[:, 1].sum() / both[:, 0].sum()), float(low), float(high), len(both))


def attack(folder: Path, tested: Table) -> Lines:
    """What attacks do to the first stream that has a gradient, to the vote by that stream's gradient, and to the vote
    by its scores alone, each at its own threshold: see `assay.learn.attack`."""
    read = bundle.read(folder)
    one = next(stream.name for stream in read.card.streams if stream.view.layout != "faces")
    alone: dict[str, Any] = {"vote": one} if len(read.judge.voting) > 1 else {}
    mirror = Mirror(read, **alone)
    pictures, labels = [], []
    for pixels, label in _labelled(tested, ATTACKED, attacks.middle):
        pictures.append(pixels)
        labels.append(int(label))
    lines: Lines = {}
    ways: dict[str, dict[str, Any]] = {one: alone, "vote": {}} if alone else {one: {}}
    for name, options in ways.items():
        target = attacks.Target(Detector(read, **options), mirror)
        for outcome in attacks.measure(target, np.stack(pictures), labels, ATTACKS):
            lines[f"{name}: {outcome.attack}"] = {
                "turned": outcome.turned,
                "fakes hidden": outcome.hidden,
                "reals accused": outcome.accused,
                "turned after JPEG": outcome.saved,
                "AUC": outcome.auc,
            }
    return lines


def eyes(folder: Path, tested: Table) -> Lines:
    """How much of each stream's map lies on the eyes, as they are masked in training, and how much that is against the
    share of the picture that they take up."""
    detector = assay.load(folder)
    found: dict[tuple[str, str], list[float]] = {}
    for pixels in _pictures(tested, LOOKED):
        faces = mtcnn.look(pixels)
        whole = attribution.shares(np.ones(pixels.shape[:2]), faces).eyes if faces else 0.0
        for name, line in _shares(explain(detector, pixels, channels=CHANNELS), faces) if whole else ():
            if math.isfinite(line["eyes"]):
                found.setdefault((name, "in eyes"), []).append(line["eyes"])
                found.setdefault((name, "over their area"), []).append(line["eyes"] / whole)
    return _lines(found)


PROBES: Mapping[str, Callable[[Path, Table], Lines]] = {
    "attention": attention,
    "skip": skip,
    "attack": attack,
    "eyes": eyes,
}


def probe(name: str) -> Callable[[Path, Table], Lines]:
    """A probe by name. Raises RecipeError naming the nearest."""
    if name not in PROBES:
        raise RecipeError(unknown("probe", name, PROBES))
    return PROBES[name]


def _as_it_is(pixels: Pixels) -> Pixels:
    return pixels


def _pictures(tested: Table, most: int) -> Iterator[Pixels]:
    for pixels, _ in _labelled(tested, most, _as_it_is):
        yield pixels


def _labelled(tested: Table, most: int, cut: Callable[[Pixels], Pixels | None]) -> Iterator[tuple[Pixels, Label]]:
    """Test pictures that can be decoded and cut, at most so many, as many of each class, the same for every bundle."""
    classes = [tested[np.flatnonzero(tested.labels == label)] for label in Label]
    order = np.random.default_rng(0)
    for rows in classes:
        count = 0
        for row in order.permutation(len(rows)):
            if count >= math.ceil(most / 2):
                break
            sample = rows[int(row)]
            try:
                pixels = cut(decode(sample.place).pixels)
            except InputError:
                continue
            if pixels is not None:
                count += 1
                yield pixels, Label(int(sample.label or 0))
