"""The same rows after what happens to pictures on their way: compression, resizing, blur."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from PIL import Image, ImageFilter

from assay.errors import InputError
from assay.image.align import codec_round_trip
from assay.image.decode import decode
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

    def apply(pixels: Pixels) -> Pixels:
        height, width = pixels.shape[:2]
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))

    return apply


def blurred(sigma: float) -> Condition:
    """Gaussian blur of `sigma` px."""
    return lambda pixels: np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(sigma)))


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
