"""Copies with the eyes masked: the first stage of "Herd mentality" (arXiv 2410.05466; `assay.image.eyes`).

*Paper*: training only. Rows of other splits are left out here, so that no evaluation runs on masked pictures by
mistake. Complete faces for the later stages are the rows that these came from; both share an origin.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from assay.data.derivations import Lossless, Outcome, Piece, Source, check_lossless, lossless
from assay.data.derivations.faces import Searching
from assay.image import eyes
from assay.types import Sample


@dataclasses.dataclass(frozen=True)
class MaskedEyes(Searching):
    """Every picture of the training rows (and of rows without a split) with the eyes of all its faces black.

    Pictures in which no face is found are left out and counted: unmasked they would be what this stage must not see.

    Args:
        form: "PNG", or lossless "WEBP"; no codec smears the mask's edges.

    Raises:
        RecipeError: no such form.
    """

    name = "eyes"
    summary = "training pictures with the eyes masked"

    form: Lossless = "PNG"

    def __post_init__(self) -> None:
        check_lossless(self.form)

    def unread(self, sample: Sample) -> Outcome | None:
        if sample.split not in ("train", ""):
            return Outcome(reason="not a training row; eyes are masked in training only")
        return None

    def derive(self, source: Source, rng: np.random.Generator) -> Outcome:
        pixels = source.still()
        found = self.search(source)
        if not found.faces:
            return Outcome(reason="no face found")
        boxes = [box for face in found.faces for box in eyes.boxes_of_centres(face)]
        data, suffix = lossless(eyes.mask(pixels, boxes), self.form)
        return Outcome((Piece(data, suffix, groups={"eyes": "masked", "found": found.how}),))


DERIVATION = MaskedEyes
