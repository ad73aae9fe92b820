"""Frames of clips as still pictures, evenly over each clip, without loss.

GenConViT and the masked-eye paper (arXiv 2410.05466) judge a clip by the mean over 15 frames; 15 is the default here.
Stored as PNG, so that a frame is what the decoder showed and no second codec lies on top of the clip's own.
"""

from __future__ import annotations

import dataclasses
from pathlib import PurePath

import numpy as np

from assay.data.derivations import Derivation, Lossless, Outcome, Piece, Source, check_lossless, limits_for, lossless
from assay.errors import RecipeError
from assay.image import container, place
from assay.image.decode import Limits


@dataclasses.dataclass(frozen=True)
class Frames(Derivation):
    """Each clip, and each animation, as rows of frames; still pictures stay as they are, their files where they are.

    A frame's row has `video` (the clip's own where it was given; else its file's name and the first digits of its
    SHA-256, as many clips are called 0001.mp4), `frame` (number in the clip, from 0), the group "time" (seconds, three
    decimals; absent where the file has no times) and the clip's origin. Fewer frames come of a clip that has fewer.

    Args:
        count: frames of each clip, evenly spaced.
        form: how they are stored, "PNG" or (lossless) "WEBP".
        largest: the most bytes a clip may have; each worker holds one in memory.

    Raises:
        RecipeError: `count` or `largest` is below 1, or no such form.
    """

    name = "frames"
    summary = "15 frames of every clip as still pictures"

    count: int = 15
    form: Lossless = "PNG"
    largest: int = 2 << 30

    def __post_init__(self) -> None:
        if self.count < 1 or self.largest < 1:
            raise RecipeError(f"count {self.count} and largest {self.largest} must both be 1 or more")
        check_lossless(self.form)

    @property
    def limits(self) -> Limits:
        return limits_for(self.count, bytes=self.largest)

    def derive(self, source: Source, rng: np.random.Generator) -> Outcome:
        picture = source.picture
        # A TIFF's further pages may be thumbnails, which are no frames; asked for one frame, nobody can tell.
        one = len(picture.frames) == 1 and (self.count > 1 or picture.frame_count == 1)
        if one and picture.format not in container.VIDEOS:
            return Outcome(keep={})
        video = source.sample.video or f"{_stem(source.sample.place)}-{source.sha256[:8]}"
        pieces = []
        for index, (number, pixels) in enumerate(zip(picture.frame_numbers, picture.frames, strict=True)):
            data, suffix = lossless(pixels, self.form)
            groups = {"time": f"{picture.times[index]:.3f}"} if picture.times else {}
            pieces.append(Piece(data, suffix, video=video, frame=number, groups=groups))
        return Outcome(tuple(pieces))


def _stem(address: str) -> str:
    opened, member = place.split(address)
    return PurePath(member or opened).stem


DERIVATION = Frames
