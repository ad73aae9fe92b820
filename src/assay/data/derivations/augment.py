"""DFCon's offline augmentation: changed copies of some reals, to narrow the imbalance (arXiv 2501.16704, data).

*Paper*: 21,335 of DFWild-Cup's 42,690 training reals, ten short of half, get one augmented copy; fakes get none. Which
operations made the copies is not published. *Ours*: just half of the reals, 21,345 of those (a share of 0.49977 gives
the paper's number), drawn by content; and the vocabulary `PLAIN`.

A copy has its original's size (around the middle, cut off or mirrored at the edges where an operation changed it) and
format, because all copies are of one class, and any size or format of their own would give that class away: JPEG with
the original's quantisation tables and subsampling, lossy WebP at quality 90 (a WebP file does not say its quality), the
rest losslessly, WebP as WebP and everything else as PNG. Metadata is not copied. That a copy was saved a second time,
and that it has no metadata, can still be seen by a detector that looks for it: derive an aligned set from this one
(`align`), which takes originals, copies and fakes through one more codec alike. The group "augmented" (1 for a copy, 0
for a row of the source) keeps the two apart, so that a detector that learned the augmentation can be told from one that
learned the task.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile, get_sampling

from assay.data.derivations import SUFFIXES, Derivation, Outcome, Piece, Source, lossless
from assay.errors import RecipeError, unknown
from assay.image import augment
from assay.image.align import encode
from assay.image.alter import OPERATIONS, Operation
from assay.image.cut import cut
from assay.image.quiet import quiet
from assay.types import Box, Label, Picture, Pixels, Sample

GROUP = "augmented"

Ranges = Mapping[str, tuple[float, float]]

PLAIN: Mapping[str, Ranges] = {
    "horizontal_flip": {},
    "rotation": {"degrees": (-10.0, 10.0)},
    "shift": {"x": (-0.1, 0.1), "y": (-0.1, 0.1)},
    "scale": {"factor": (0.8, 1.2)},
    "brightness": {"factor": (0.8, 1.2)},
    "contrast": {"factor": (0.8, 1.2)},
    "saturation": {"factor": (0.8, 1.2)},
    "blur": {"sigma": (0.2, 1.0)},
    "noise": {"sigma": (1.0, 8.0), "seed": (0, 2**32 - 1)},
    "jpeg": {"quality": (60, 95)},
}
"""Operations by name, with the bounds of their parameters. Ours: mild enough that a face stays a face."""


def _shift(pixels: Pixels, x: float, y: float) -> Pixels:
    """Moved by a share of its sides; what comes in is mirrored."""
    height, width = pixels.shape[:2]
    left, top = round(x * width), round(y * height)
    return cut(pixels, Box(left, top, left + width, top + height))


def _noise(pixels: Pixels, sigma: float, seed: int) -> Pixels:
    """Gaussian noise, `sigma` in grey levels, for each sample on its own."""
    noise = np.random.default_rng(seed).standard_normal(pixels.shape, np.float32)
    noise *= np.float32(sigma)
    noise += pixels
    return np.clip(np.rint(noise, out=noise), 0, 255, out=noise).astype(np.uint8)


VOCABULARY: Mapping[str, Operation] = {
    **OPERATIONS,
    "shift": Operation("shift", _shift, {"x": (-0.1, 0.1), "y": (-0.1, 0.1)}),
    "noise": Operation("noise", _noise, {"sigma": (0.0, 25.0), "seed": (0, 2**32 - 1)}),
}
"""What `Augmented.operations` may name: CoDE's 19 operations, shift and noise.

It may name Albumentations' transforms too (`assay.image.augment.OPERATIONS`).
"""


def _at_size(pixels: Pixels, width: int, height: int) -> Pixels:
    """Around the middle, cut off or mirrored at its edges."""
    left, top = (pixels.shape[1] - width) // 2, (pixels.shape[0] - height) // 2
    return cut(pixels, Box(left, top, left + width, top + height))


@dataclasses.dataclass(frozen=True)
class Augmented(Derivation):
    """All rows of the source, and one changed copy of some.

    Args:
        share: of the n rows of that label and split that get a copy, in [0, 1]: just round(share × n) of them, chosen
            by content. Another order of rows changes nothing, and rows added or taken away change it only for a few of
            the others, at the edge of the choice. Copies that stand among the rows already are not counted.
        label: "real" or "fake".
        split: rows of other splits get none. Empty takes rows without a split.
        operations: names out of `VOCABULARY`, equally likely, each with the bounds of its parameters; or
            Albumentations' names, which have defaults for the bounds that are left out.
        most: a copy gets 1 to so many distinct operations, in random order.

    Raises:
        RecipeError: an operation, parameter, label or split that does not exist, or numbers that do not hold.
    """

    name = "augment"
    summary = "all rows, and augmented copies of half of the training reals"
    version = 2

    share: float = 0.5
    label: str = "real"
    split: str = "train"
    operations: Mapping[str, Ranges] = dataclasses.field(default_factory=lambda: dict(PLAIN))
    most: int = 3

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise RecipeError(f"share {self.share} does not hold; give 0 to 1")
        if self.label not in ("real", "fake"):
            raise RecipeError(unknown("label", self.label, ("real", "fake")))
        if self.split not in ("train", "tune", "test", ""):
            raise RecipeError(unknown("split", self.split, ("train", "tune", "test")))
        if not 1 <= self.most <= len(self.operations):
            raise RecipeError(f"most {self.most} does not hold; give 1 to {len(self.operations)}, the operations named")
        for name, ranges in self.operations.items():
            if name in augment.OPERATIONS:
                augment.Transform(name, 1.0, ranges)
                continue
            if name not in VOCABULARY:
                raise RecipeError(unknown("operation", name, {*VOCABULARY, *augment.OPERATIONS}))
            parameters = VOCABULARY[name].ranges
            for parameter in {*ranges, *parameters}:
                if parameter not in parameters or parameter not in ranges:
                    raise RecipeError(f"{name} takes bounds of {', '.join(parameters) or 'nothing'}; give just these")
                if not ranges[parameter][0] <= ranges[parameter][1]:
                    raise RecipeError(f"{parameter} of {name} is {ranges[parameter]}; give (low, high)")

    @property
    def drawn(self) -> float:
        return self.share

    def unread(self, sample: Sample) -> Outcome | None:
        wanted = Label[self.label.upper()]
        if sample.label != wanted or sample.split != self.split or sample.groups.get(GROUP) == "1":
            return Outcome(keep={GROUP: sample.groups.get(GROUP, "0")})
        return None

    def derive(self, source: Source, rng: np.random.Generator) -> Outcome:
        if not source.drawn:
            return Outcome(keep={GROUP: "0"})
        pixels = source.still()
        names = tuple(self.operations)
        chosen = rng.permutation(len(names))[: int(rng.integers(1, self.most + 1))]
        for name in (names[index] for index in chosen.tolist()):
            pixels = self._changed(pixels, name, rng)
        data, suffix = like(source.data, source.picture, _at_size(pixels, source.picture.width, source.picture.height))
        return Outcome((Piece(data, suffix, groups={GROUP: "1"}),), keep={GROUP: "0"})

    def _changed(self, pixels: Pixels, name: str, rng: np.random.Generator) -> Pixels:
        ranges = self.operations[name]
        if name in augment.OPERATIONS:
            return augment.Augment((augment.Transform(name, 1.0, ranges),))(pixels, rng)
        operation = dataclasses.replace(VOCABULARY[name], ranges=ranges)
        return operation.apply(pixels, operation.draw(rng))


def like(data: bytes, picture: Picture, pixels: Pixels) -> tuple[bytes, str]:
    """A file of `pixels` in the format of another, and its suffix.

    Args:
        data, picture: the other file, and what it decodes to.
        pixels: uint8 (height, width, 3).

    Raises:
        InputError: a side is longer than the format can hold (kind "unsupported").
    """
    if picture.format == "JPEG":
        return _like_jpeg(data, pixels), SUFFIXES["JPEG"]
    if picture.format == "WEBP":
        # A VP8L chunk is lossless; it comes first, or after an extended header.
        if b"VP8L" in data[12:16] or (b"VP8X" in data[12:16] and b"VP8 " not in data[30:]):
            return lossless(pixels, "WEBP")
        return encode(pixels, "WEBP", 90), SUFFIXES["WEBP"]
    return lossless(pixels)


def _like_jpeg(data: bytes, pixels: Pixels) -> bytes:
    file = io.BytesIO()
    with quiet(), Image.open(io.BytesIO(data), formats=["JPEG"]) as original:
        assert isinstance(original, JpegImageFile)
        tables, grey, sampling = original.quantization, original.mode == "L", get_sampling(original)
    image = Image.fromarray(pixels)
    if grey:
        image = image.convert("L")
    # -1: components that Pillow has no name for; 4:2:0 is what most encoders write.
    options = {} if grey else {"subsampling": sampling if sampling >= 0 else 2}
    image.save(file, "JPEG", qtables=[tables[number] for number in sorted(tables)][: 1 if grey else 2], **options)
    return file.getvalue()


DERIVATION = Augmented
