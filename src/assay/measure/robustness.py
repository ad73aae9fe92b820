"""The same rows after what happens to pictures on their way: compression, resizing, blur, noise and mixtures of them.

A condition is a function of the pixels alone. Those that need chance are seeded by the picture itself, so that every
run and every detector sees the same pixels, and strengths of one kind differ in strength only. Conditions follow one
upon another where their names are joined by "+".
"""

from __future__ import annotations

import collections
import dataclasses
import functools
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
from assay.measure.evaluate import Judged, Judging, Options, Progress, Table, figures, sort_answers
from assay.metrics import Interval
from assay.types import Failure, Pixels, Ruling, Sample, Verdict

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


def fitted(side: int) -> Condition:
    """The longer side at most `side` px, bicubic; smaller pictures stay as they are."""

    def resize(pixels: Pixels) -> Pixels:
        longest = max(pixels.shape[:2])
        return pixels if longest <= side else scaled(side / longest)(pixels)

    return resize


def trimmed(share: float) -> Condition:
    """Cut off at each edge: this share of the picture's height or width, in [0, 0.5)."""

    def cut(pixels: Pixels) -> Pixels:
        height, width = pixels.shape[:2]
        down, across = int(height * share), int(width * share)
        return pixels[down : height - down, across : width - across]

    return cut


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


def chained(steps: Sequence[Condition]) -> Condition:
    """One condition after another."""
    return lambda pixels: functools.reduce(lambda changed, step: step(changed), steps, pixels)


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
    "fit": Family(fitted, "longest side in px", 16, 65_500),
    "trim": Family(trimmed, "share cut off at each edge", 0.0, 0.45),
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


CHAINS: Mapping[str, str] = {
    "screenshot": "scale0.8+trim0.02+jpeg90",
    "social": "fit1080+jpeg75+fit720+jpeg75",
}
"""Chains that have a name (*ours*): shown smaller on a screen, cut out and saved; passed on twice by networks that make
pictures smaller and save them anew."""

COMPOUND: tuple[str, ...] = (
    "jpeg75+jpeg50",
    "half+jpeg75",
    "half+jpeg50+noise10",
    "blur1+noise10+jpeg50",
    *CHAINS,
)
"""Several things at once (*ours*): double JPEG, smaller and saved, blurred and noisy and saved, and `CHAINS`."""

SWEEPS: Mapping[str, tuple[str, ...]] = {
    "everyday": (*CONDITIONS, *COMPOUND),
    "full": (*CONDITIONS, *SWEEP, *COMPOUND),
}
"""Conditions that are measured together."""


def conditions(names: Iterable[str]) -> dict[str, Condition]:
    """Conditions by name, in the order given: those of `CONDITIONS` and of `CHAINS`, a word of `FAMILIES` with its
    number, and any of them joined by "+", from first to last: "half+jpeg50+noise10".

    Raises:
        RecipeError: a name that is not known, or a number that its family does not take.
    """
    return {name: _named(name) for name in names}


def _named(name: str) -> Condition:
    steps = CHAINS.get(name, name).split("+")
    return chained([_named(step) for step in steps]) if len(steps) > 1 else CONDITIONS.get(name) or _numbered(name)


def _numbered(name: str) -> Condition:
    match = re.fullmatch(r"([a-z_]*)([0-9]+(?:\.[0-9]+)?)?", name)
    word, number = match.groups() if match else (name, None)
    if word not in FAMILIES:
        known = [*CONDITIONS, *CHAINS, *(f"{family}{number or ''}" for family in FAMILIES)]
        raise RecipeError(unknown("condition", name, known))
    family = FAMILIES[word]
    takes = f"{family.what}, {'a whole number ' if family.whole else ''}from {family.low:g} to {family.high:g}"
    if number is None:
        raise RecipeError(f"{name!r} needs a number behind it ({takes}), such as {word}{family.high:g}")
    if not family.low <= float(number) <= family.high or (family.whole and "." in number):
        raise RecipeError(f"{name!r} does not hold: {word} takes its {takes}")
    return family.make(int(number) if family.whole else float(number))


FLIPS: Mapping[str, Callable[[Ruling, Ruling], bool]] = {
    "flips": lambda before, now: True,
    "real_to_fake": lambda before, now: (before, now) == (Ruling.REAL, Ruling.FAKE),
    "fake_to_real": lambda before, now: (before, now) == (Ruling.FAKE, Ruling.REAL),
    "to_uncertain": lambda before, now: now is Ruling.UNCERTAIN,
    "from_uncertain": lambda before, now: before is Ruling.UNCERTAIN,
}
"""Which changes of a verdict's word count, against that on the same picture as it is: all, and each kind. The first is
the sum of the others; each is a share of the rows that were judged both times."""


def robustness(
    detector: Judging,
    samples: Sequence[Sample],
    conditions: Mapping[str, Condition] = CONDITIONS,
    *,
    rounds: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, dict[str, Interval]]:
    """The figures of the same rows under each condition, as `after` names them.

    The threshold stays the detector's own. Nothing is refused here: hand in rows that `evaluate` has accepted. Rows
    without a label are left out, and so, condition by condition, are rows that cannot be decoded, altered or judged:
    `n` of each figure says how many remain. Of an animated file the first frame is altered and judged.

    Args:
        samples: labelled rows.
        conditions: alterations of the decoded pixels, by name.
        rounds, seed: of the bootstrap.
        progress: told (condition, done, total).
    """
    return {
        name: after(judged, words, rounds=rounds, seed=seed)
        for name, [(judged, words)] in passes([detector], samples, conditions, progress=progress)
        if name in conditions
    }


Words = Mapping[str, Ruling]
"""The word of the verdict on each picture as it is, by the row's place."""


def passes(
    detectors: Sequence[Judging],
    samples: Sequence[Sample],
    conditions: Mapping[str, Condition],
    *,
    progress: Progress | None = None,
) -> Iterator[tuple[str, list[tuple[list[Judged], Words]]]]:
    """Condition by condition what each detector says: its name, and for each detector the rows it judged and its words
    on them as they are. "clean" comes first, also where it is not among the conditions.

    Each picture is decoded and altered once a pass, and all detectors are shown those pixels. As many pictures are held
    as a detector draws ahead, whatever the number of rows.
    """
    known = [sample for sample in samples if sample.label is not None]
    words: list[Words] = []
    for name, condition in {"clean": clean, **conditions}.items():
        kept: list[Sample] = []
        answers: list[list[Verdict | Failure]] = [[] for _ in detectors]
        shown = _shared(_altered(known, condition, kept), len(detectors))
        judging = [detector.judge_many(pictures) for detector, pictures in zip(detectors, shown, strict=True)]
        for row in zip(*judging, strict=True):
            for mine, answer in zip(answers, row, strict=True):
                mine.append(answer)
            if progress is not None:
                progress(name, len(answers[0]), len(known))
        judged = [sort_answers(kept, mine)[0] for mine in answers]
        if not words:
            words = [{row.sample.place: row.verdict for row in rows} for rows in judged]
        yield name, list(zip(judged, words, strict=True))


def after(judged: Sequence[Judged], words: Words, *, rounds: int = 1000, seed: int = 0) -> dict[str, Interval]:
    """The figures under a condition: those of `assay.measure.evaluate.figures`, "accuracy", the share of all rows on
    the right side of the threshold, and `FLIPS`, with intervals as there."""
    options = Options(rounds, seed)
    scored = [row for row in judged if row.score is not None]
    twice = [row for row in judged if row.sample.place in words]
    before = [words[row.sample.place] for row in twice]
    changed = {
        name: [row.verdict is not word and asked(word, row.verdict) for row, word in zip(twice, before, strict=True)]
        for name, asked in FLIPS.items()
    }
    return {
        **figures(judged, rounds=rounds, seed=seed),
        "accuracy": _share([row.right for row in scored], scored, options),
        **{name: _share(flags, twice, options) for name, flags in changed.items()},
    }


def _share(flags: Sequence[bool], rows: Sequence[Judged], options: Options) -> Interval:
    return options.share(np.array(flags, np.bool_), Table.of(rows), np.ones(len(rows), np.bool_))


def _altered(samples: Sequence[Sample], condition: Condition, kept: list[Sample]) -> Iterator[Pixels]:
    """Altered pixels, one picture at a time; each sample that gave some goes to `kept`."""
    for sample in samples:
        try:
            pixels = condition(decode(sample.place).pixels)
        except InputError:
            continue
        kept.append(sample)
        yield pixels


def _shared(pictures: Iterator[Pixels], count: int) -> list[Iterator[Pixels]]:
    """The same pictures for several; each is let go as soon as all have drawn it, which `itertools.tee` puts off."""
    waiting: list[collections.deque[Pixels]] = [collections.deque() for _ in range(count)]

    def one(mine: collections.deque[Pixels]) -> Iterator[Pixels]:
        while True:
            if not mine:
                picture = next(pictures, None)
                if picture is None:
                    return
                for each in waiting:
                    each.append(picture)
                del picture
            yield mine.popleft()

    return [one(mine) for mine in waiting]
