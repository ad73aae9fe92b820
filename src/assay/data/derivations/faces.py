"""Face crops, as the local stream of "drift" sees them (arXiv 2604.25889; the rules stand in `assay.image.faces`).

Stored losslessly at native resolution, so that no second codec lies on a crop. Detectors of pictures and of crops can
then be compared on the same rows: a crop has its picture's origin.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal, Self

import numpy as np
import pydantic

from assay.data.derivations import Derivation, Lossless, Outcome, Piece, Source, check_lossless, lossless
from assay.data.faces import FaceCache, can_keep, faces_in, searcher
from assay.data.table import Table, among
from assay.errors import RecipeError, unknown
from assay.image import faces, mtcnn
from assay.image.faces import LEAST, MARGIN, FaceDetector, FaceView, Found
from assay.image.mtcnn import SCORE

Which = Literal["largest", "all"]


@functools.cache
def _cache(manifest: str, searcher: str) -> FaceCache:
    """One for each process, for as long as it lives: the file's lines are read once."""
    return FaceCache(manifest, searcher)


@dataclasses.dataclass(frozen=True)
class Search:
    """How faces are found.

    Args:
        score: least score of a face by `assay.image.mtcnn`, in [0.7, 1].
        retry: also look on enhanced copies of pictures that show none.
        detector: instead of `assay.image.mtcnn`; must be fit for being sent to other processes.
        cache: path of the manifest beside which `assay.data.faces` keeps what was found, so that no picture is searched
            twice (but for copies of one file that two processes come to in the same moment). It changes no file that
            is made. Empty keeps nothing.
    """

    __pydantic_config__ = pydantic.ConfigDict(arbitrary_types_allowed=True)

    score: float = SCORE
    retry: bool = True
    detector: FaceDetector | None = None
    cache: str = ""

    @property
    def name(self) -> str:
        """Changes wherever other faces may be found. Raises MissingExtra or RecipeError."""
        return searcher(self._detector, retry=self.retry)

    @property
    def _detector(self) -> FaceDetector:
        return self.detector or mtcnn.shared(self.score)

    def __call__(self, source: Source) -> Found:
        """The faces in a still picture, the best score first. Raises OutputError where the cache cannot be used."""
        cache = _cache(self.cache, self.name) if self.cache else None
        found, _ = faces_in(source.picture, self._detector, cache, retry=self.retry, limits=source.limits)
        return found.first


PLAIN = Search()


@dataclasses.dataclass(frozen=True)
class Searching(Derivation):
    """A derivation that needs the faces of its pictures.

    The group "found" of its rows says on what the face was found: "plain", or the name of an enhanced copy
    (`assay.image.faces.RETRIES`); it is empty where there is none.

    Args:
        search: how faces are found.
    """

    search: Search = PLAIN

    def ready(self) -> None:
        _ = self.search.name

    def settings(self) -> dict[str, Any]:
        return super().settings() | {"search": {"score": self.search.score, "retry": self.search.retry}}

    def parameters(self) -> dict[str, Any]:
        return super().parameters() | {"search": self.search.name}

    def beside(self, manifest: str) -> Self:
        kept = self.search.cache or (manifest if can_keep(manifest) else "")
        return dataclasses.replace(self, search=dataclasses.replace(self.search, cache=kept))

    def tally(self, rows: Table) -> dict[str, int]:
        on_copy = ~among(rows.column("found"), ("", faces.PLAIN))
        return {"with a face that only an enhanced copy shows": int(on_copy.sum())}


@dataclasses.dataclass(frozen=True)
class FaceCrops(Searching):
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
        form: "PNG", or lossless "WEBP".

    Raises:
        RecipeError: no such choice or form, or a number that does not hold.
    """

    name = "faces"
    summary = "crops of the largest face, or of every face"

    which: Which = "largest"
    margin: float = MARGIN
    least: float = LEAST
    form: Lossless = "PNG"

    def __post_init__(self) -> None:
        if self.which not in ("largest", "all"):
            raise RecipeError(unknown("choice of faces", self.which, ("largest", "all")))
        if not 1 <= self.margin <= 10:
            raise RecipeError(f"margin {self.margin} does not hold; give 1 to 10")
        if not 0 <= self.least <= 1:
            raise RecipeError(f"least {self.least} does not hold; give a share from 0 to 1")
        check_lossless(self.form)

    def derive(self, source: Source, rng: np.random.Generator) -> Outcome:
        pixels = source.still()
        found = self.search(source)
        if self.which == "largest":
            views = [faces.face_or_whole(pixels, found.faces, self.margin, self.least)]
        elif not found.faces:
            return Outcome(reason="no face found")
        else:
            ordered = sorted(found.faces, key=lambda face: -face.area)
            views = [faces.face_or_whole(pixels, [face], self.margin, least=0) for face in ordered]
        return Outcome(tuple(self._piece(view, found.how) for view in views))

    def tally(self, rows: Table) -> dict[str, int]:
        cropped, found = rows.column("face") != "", rows.column("found") != ""
        return {
            "crops of faces": int(cropped.sum()),
            **super().tally(rows),
            "pictures kept whole in which no face was found": int((~found).sum()),
            "pictures kept whole whose largest face is too small": int((found & ~cropped).sum()),
        }

    def _piece(self, view: FaceView, how: str) -> Piece:
        data, suffix = lossless(view.pixels, self.form)
        box = view.box
        edges = "" if box is None else f"{box.left} {box.top} {box.right} {box.bottom}"
        return Piece(data, suffix, groups={"face": edges, "reason": view.reason, "found": how})


DERIVATION = FaceCrops
