"""Face crops, as the local stream of "drift" sees them (arXiv 2604.25889; the rules stand in `assay.image.faces`).

Stored losslessly at native resolution, so that no second codec lies on a crop. Detectors of pictures and of crops can
then be compared on the same rows: a crop has its picture's origin.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal

import numpy as np

from assay.data.derivations import Derivation, Lossless, Outcome, Piece, Source, check_lossless, lossless
from assay.errors import RecipeError, unknown
from assay.image import faces
from assay.image.faces import LEAST, MARGIN, FaceDetector
from assay.image.mtcnn import SCORE, Mtcnn
from assay.types import Box, Pixels

Which = Literal["largest", "all"]


@functools.cache
def _mtcnn(score: float) -> Mtcnn:
    """One for each process: sessions cannot be sent to another."""
    return Mtcnn(score=score)


@dataclasses.dataclass(frozen=True)
class Search:
    """How faces are found.

    Args:
        score: least score of a face by `assay.image.mtcnn`, in [0.7, 1].
        retry: also look on enhanced copies of pictures that show none.
        detector: instead of `assay.image.mtcnn`; must be fit for being sent to other processes.
    """

    score: float = SCORE
    retry: bool = True
    detector: FaceDetector | None = None

    @property
    def name(self) -> str:
        """Changes wherever other faces may be found. Raises MissingExtra."""
        found = self.detector or _mtcnn(self.score)
        return f"{found.name} {faces.RETRIES_NAME}" if self.retry else found.name

    def __call__(self, pixels: Pixels) -> tuple[faces.Face, ...]:
        """The faces in a picture, uint8 (height, width, 3), the best score first."""
        detector = self.detector or _mtcnn(self.score)
        return faces.find(pixels, detector, retries=faces.RETRIES if self.retry else ()).faces


PLAIN = Search()


@dataclasses.dataclass(frozen=True)
class FaceCrops(Derivation):
    """Crops of faces.

    A crop's row has the group "face": the edges of the crop in px of its picture, "left top right bottom", which may
    reach beyond it (that part is mirrored). Where the picture is kept whole, "face" is empty and the group "reason"
    says why.

    Args:
        which: "largest" gives one file a picture: the crop of the largest face, or the whole picture where no face is
            found or the largest covers less than `least` (*paper*). "all" (*ours*) gives a crop of every face, the
            largest first; pictures without a face are left out and counted.
        margin: side of the crop over the longer side of the face's box (*release*: 1.3), at least 1.
        least: share of the picture's area, in [0, 1] (*paper*: 1/9).
        search: how faces are found.
        form: "PNG", or lossless "WEBP".

    Raises:
        RecipeError: no such choice or form, or a number that does not hold.
    """

    name = "faces"
    summary = "crops of the largest face, or of every face"

    which: Which = "largest"
    margin: float = MARGIN
    least: float = LEAST
    search: Search = PLAIN
    form: Lossless = "PNG"

    def __post_init__(self) -> None:
        if self.which not in ("largest", "all"):
            raise RecipeError(unknown("choice of faces", self.which, ("largest", "all")))
        if not 1 <= self.margin <= 10:
            raise RecipeError(f"margin {self.margin} does not hold; give 1 to 10")
        if not 0 <= self.least <= 1:
            raise RecipeError(f"least {self.least} does not hold; give a share from 0 to 1")
        check_lossless(self.form)

    def ready(self) -> None:
        _ = self.search.name

    def parameters(self) -> dict[str, Any]:
        return super().parameters() | {"search": self.search.name}

    def derive(self, source: Source, rng: np.random.Generator) -> Outcome:
        pixels = source.still()
        found = self.search(pixels)
        if self.which == "largest":
            view = faces.face_or_whole(pixels, found, self.margin, self.least)
            return Outcome((self._piece(view.pixels, view.box, view.reason),))
        if not found:
            return Outcome(reason="no face found")
        ordered = sorted(found, key=lambda face: -face.area)
        return Outcome(
            tuple(
                self._piece(faces.crop(pixels, face, self.margin), faces.crop_box(face, self.margin))
                for face in ordered
            )
        )

    def _piece(self, pixels: Pixels, box: Box | None, reason: str = "") -> Piece:
        data, suffix = lossless(pixels, self.form)
        edges = "" if box is None else f"{box.left} {box.top} {box.right} {box.bottom}"
        return Piece(data, suffix, groups={"face": edges, "reason": reason})


DERIVATION = FaceCrops
