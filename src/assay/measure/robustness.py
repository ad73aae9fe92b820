"""The same rows after what happens to pictures on their way: compression, resizing, blur, noise and mixtures of them.

A condition is a function of the pixels alone. Those that need chance are seeded by the picture itself, so that every
run and every detector sees the same pixels, and strengths of one kind differ in strength only.
"""

from __future__ import annotations

import dataclasses
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
from PIL import Image, ImageFilter

from assay.errors import InputError, RecipeError, unknown
from assay.image.align import codec_round_trip
from assay.image.damage import OPERATIONS
from assay.image.decode import decode
from assay.image.degrade import Mix, apply
from assay.measure.evaluate import Judging, Progress, figures, sort_answers
from assay.metrics import Interval
from assay.types import Failure, Pixels, Sample, Verdict

Condition = Callable[[Pixels], Pixels]


def clean(pixels: Pixels) -> Pixels:
    """The picture as it is: what the other conditions are compared with."""
    return pixels


def saved(codec: str, quality: int) -> Condition:
    """Saved once as `codec` ("JPEG" or "WEBP") at `quality`, and opened again."""
    return lambda pixels: codec_round_trip(pixels, codec, quality)


def scaled(factor: float) -> Condition:
    """Both sides times `factor`, bicubic (antialiased where it shrinks)."""

    def resize(pixels: Pixels) -> Pixels:
        height, width = pixels.shape[:2]
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))

    return resize


def blurred(sigma: float) -> Condition:
    """Gaussian blur of `sigma` px."""
    return lambda pixels: np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(sigma)))


def chance(pixels: Pixels, purpose: str) -> np.random.Generator:
    """Random numbers that depend on the picture's pixels and a purpose, and on nothing else."""
    content = zlib.crc32(np.ascontiguousarray(pixels).data, zlib.crc32(repr(pixels.shape).encode()))
    return np.random.default_rng((content, zlib.crc32(purpose.encode())))


def damaged(operation: str, strength: float) -> Condition:
    """One operation of the degradation engine at a strength in [0, 1]; the size stays.

    Raises:
        RecipeError: no such operation, or a strength beyond [0, 1].
    """
    if operation not in OPERATIONS:
        raise RecipeError(unknown("operation", operation, OPERATIONS))
    chosen = OPERATIONS[operation]
    chosen.draw(np.random.default_rng(0), strength)
    return lambda pixels: apply(pixels, [(chosen, chosen.draw(chance(pixels, operation), strength))])


def noisy(sigma: float) -> Condition:
    """Gaussian noise of `sigma` levels of 0–255, each channel of each pixel for itself, cut to 0–255."""

    def add(pixels: Pixels) -> Pixels:
        seed = int(chance(pixels, "noise").integers(2**32))
        return OPERATIONS["gaussian_noise"].apply(pixels, {"sigma": sigma, "grey": 0, "seed": seed})

    return add


def moved(length: int) -> Condition:
    """Motion blur along a line of `length` px, at any angle."""

    def blur(pixels: Pixels) -> Pixels:
        degrees = float(chance(pixels, "motion").uniform(0, 180))
        return OPERATIONS["motion_blur"].apply(pixels, {"length": length, "degrees": degrees})

    return blur


def mixed(strength: float) -> Condition:
    """The random mix of the drift paper's sweep at a strength in [0, 1]; 0 leaves the picture as it is.

    Raises:
        RecipeError: a strength beyond [0, 1].
    """
    mix = Mix(strength)
    return lambda pixels: mix(pixels, chance(pixels, "mix"))


CONDITIONS: dict[str, Condition] = {
    "clean": clean,
    "jpeg95": saved("JPEG", 95),
    "jpeg75": saved("JPEG", 75),
    "jpeg50": saved("JPEG", 50),
    "webp80": saved("WEBP", 80),
    "half": scaled(0.5),
    "double": scaled(2.0),
    "blur1": blurred(1.0),
}
"""Each takes and gives uint8 pixels of shape (height, width, 3); the sides may change."""


@dataclasses.dataclass(frozen=True)
class Family:
    """Conditions that differ by a number.

    Args:
        make: the condition of a number.
        what: the number's meaning and unit.
        low, high: its bounds, both included; whole numbers only where both are int.
    """

    make: Callable[..., Condition]
    what: str
    low: float
    high: float

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)


def _alone(operation: str) -> Family:
    return Family(lambda strength: damaged(operation, strength), "strength", 0.0, 1.0)


FAMILIES: Mapping[str, Family] = {
    "jpeg": Family(lambda quality: saved("JPEG", quality), "quality", 1, 100),
    "webp": Family(lambda quality: saved("WEBP", quality), "quality", 1, 100),
    "scale": Family(scaled, "factor of both sides", 0.05, 4.0),
    "blur": Family(blurred, "sigma in px", 0.0, 50.0),
    "motion": Family(moved, "length in px", 1, 99),
    "noise": Family(noisy, "sigma in levels of 0-255", 0.0, 255.0),
    "mix": Family(mixed, "strength", 0.0, 1.0),
    **{name: _alone(name) for name in OPERATIONS if name != "jpeg"},
}
"""Conditions by the word before their number: "jpeg30", "noise20", "mix0.5"; and each operation of the degradation
engine alone, at a strength: "moire0.5" (JPEG goes by its quality instead)."""

SWEEP: tuple[str, ...] = (
    *(f"jpeg{quality}" for quality in (100, 80, 60, 40, 20, 10, 5)),
    *(f"noise{sigma}" for sigma in range(0, 61, 10)),
    *(f"{family}{part / 10:g}" for family in ("gaussian_blur", "motion_blur", "mix") for part in range(0, 11, 2)),
)
"""The robustness sweep of drift (arXiv 2604.25889; release khoalephanminh/ntire26-deepfake-challenge@3c68994,
training/run_robustness_inference.py), in its order: five families, each from nearly nothing to its worst."""


def conditions(names: Iterable[str]) -> dict[str, Condition]:
    """Conditions by name, in the order given: those of `CONDITIONS`, and a word of `FAMILIES` with its number.

    Raises:
        RecipeError: a name that is not known, or a number that its family does not take.
    """
    return {name: CONDITIONS[name] if name in CONDITIONS else _numbered(name) for name in names}


def _numbered(name: str) -> Condition:
    match = re.fullmatch(r"([a-z_]*)([0-9]+(?:\.[0-9]+)?)?", name)
    word, number = match.groups() if match else (name, None)
    if word not in FAMILIES:
        known = [*CONDITIONS, *(f"{family}{number or ''}" for family in FAMILIES)]
        raise RecipeError(unknown("condition", name, known))
    family = FAMILIES[word]
    takes = f"{family.what}, {'a whole number ' if family.whole else ''}from {family.low:g} to {family.high:g}"
    if number is None:
        raise RecipeError(f"{name!r} needs a number behind it ({takes}), such as {word}{family.high:g}")
    if not family.low <= float(number) <= family.high or (family.whole and "." in number):
        raise RecipeError(f"{name!r} does not hold: {word} takes its {takes}")
    return family.make(int(number) if family.whole else float(number))


def robustness(
    detector: Judging,
    samples: Sequence[Sample],
    conditions: Mapping[str, Condition] = CONDITIONS,
    *,
    rounds: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, dict[str, Interval]]:
    """The figures of the same rows under each condition, as `assay.measure.evaluate.figures` names them.

    The threshold stays the detector's own. Nothing is refused here: hand in rows that `evaluate` has accepted. Rows
    without a label are left out, and so, condition by condition, are rows that cannot be decoded, altered or judged:
    `n` of each figure says how many remain. Of an animated file the first frame is altered and judged.

    Args:
        samples: labelled rows.
        conditions: alterations of the decoded pixels, by name.
        rounds, seed: of the bootstrap.
        progress: told (condition, done, total).
    """
    known = [sample for sample in samples if sample.label is not None]
    found = {}
    for name, condition in conditions.items():
        kept: list[Sample] = []
        answers: list[Verdict | Failure] = []
        for answer in detector.judge_many(_altered(known, condition, kept)):
            answers.append(answer)
            if progress is not None:
                progress(name, len(answers), len(known))
        judged, _ = sort_answers(kept, answers)
        found[name] = figures(judged, rounds=rounds, seed=seed)
    return found


def _altered(samples: Sequence[Sample], condition: Condition, kept: list[Sample]) -> Iterator[Pixels]:
    """Altered pixels, one picture at a time; each sample that gave some goes to `kept`."""
    for sample in samples:
        try:
            pixels = condition(decode(sample.place).pixels)
        except InputError:
            continue
        kept.append(sample)
        yield pixels
