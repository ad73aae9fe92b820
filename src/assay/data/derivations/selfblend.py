"""Self-blended copies of real faces (arXiv 2204.08376; `assay.image.selfblend`): fakes like swaps, for training.

A copy is fake, of the generator "self-blended", though its picture is real; the group "blended" (1 for a copy, 0 for a
row of the source) keeps copies apart from the source's own fakes.

A copy has its original's format (`assay.data.derivations.augment.like`), place and split, and shares its origin. What
can still be seen of the copying itself: it was saved a second time, by the same tables on the same grid where it is a
JPEG, so that what lies outside the mask changes by a tenth of a grey level or so; a lossy WebP is saved anew at quality
90, which changes it by some two levels all over; metadata is not copied. Crops of faces (`faces`) leave the metadata
and the file's size behind; `align` takes reals and copies through one more codec alike.
"""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np

from assay.data.derivations import Outcome, Piece, Source
from assay.data.derivations.augment import like
from assay.data.derivations.faces import Searching
from assay.data.table import Table
from assay.errors import RecipeError
from assay.image.faces import Face
from assay.image.selfblend import SelfBlend
from assay.types import Box, Label, Pixels, Sample

GROUP = "blended"

WHY = "unblended"
"""The group of a picture that was looked at and got no copy: why."""

GENERATOR = "self-blended"


@dataclasses.dataclass(frozen=True)
class SelfBlended(Searching):
    """All rows of the source, and a self-blended copy of the real pictures that show a face.

    A picture without a face of that size gets no copy; nor does one of which blending leaves a face as it was (flat, or
    cut off where the mask would lie). The group "unblended" of its row says why.

    Args:
        share: of the n real pictures, in [0, 1]: just round(share × n) of them are looked at, chosen by content.
        least: longer side in px, from 16, of the box of a face that is blended. Every such face of a picture is: a crop
            of any of them is fake. Smaller ones stay as they were, and a crop of one is real, whatever its row says.
        blend: how faces are blended.

    Raises:
        RecipeError: a number that does not hold.
    """

    name = "selfblend"
    summary = "all rows, and self-blended copies of real faces: fakes like swaps"
    version = 2

    share: float = 1.0
    least: int = 32
    blend: SelfBlend = dataclasses.field(default_factory=SelfBlend)

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise RecipeError(f"share {self.share} does not hold; give 0 to 1")
        if self.least < 16:
            raise RecipeError(f"least {self.least} does not hold; give 16 px or more")

    @property
    def drawn(self) -> float:
        return self.share

    def unread(self, sample: Sample) -> Outcome | None:
        if sample.label != Label.REAL or sample.groups.get(GROUP) == "1":
            return Outcome(keep={GROUP: sample.groups.get(GROUP, "0")})
        return None

    def derive(self, source: Source, rng: np.random.Generator) -> Outcome:
        if not source.drawn:
            return Outcome(keep=_stays())
        pixels = source.still()
        found = self.search(source)
        faces = [face for face in found.faces if blends(face, self.least)]
        if not faces:
            return Outcome(keep=_stays(f"no face of {self.least} px" if found.faces else "no face found"))
        blended = self.blend(pixels, faces, rng)
        if any(np.array_equal(_within(blended, face.box), _within(pixels, face.box)) for face in faces):
            return Outcome(keep=_stays("blending left a face as it was"))
        data, suffix = like(source.data, source.picture, blended)
        piece = Piece(data, suffix, GENERATOR, groups={GROUP: "1", WHY: "", "found": found.how})
        return Outcome((piece,), keep=_stays())

    def tally(self, rows: Table) -> dict[str, int]:
        copies = rows[rows.column(GROUP) == "1"]
        # Without a copy there may be no group "found", which the tally of a search asks for.
        searched = super().tally(copies) if len(copies) else {}
        reasons = Counter(filter(None, rows.column(WHY).tolist())) if WHY in rows.groups else Counter()
        without = {f"real pictures without a copy: {why}": number for why, number in reasons.most_common()}
        return {"self-blended copies": len(copies), **searched, **without}


def blends(face: Face, least: int) -> bool:
    """Whether a face is large enough to be blended: the longer side of its box has `least` px."""
    return max(face.box.width, face.box.height) >= least


def _stays(why: str = "") -> dict[str, str]:
    """Groups of a real picture's own row."""
    return {GROUP: "0", WHY: why}


def _within(pixels: Pixels, box: Box) -> Pixels:
    return pixels[box.top : box.bottom, box.left : box.right]


DERIVATION = SelfBlended
