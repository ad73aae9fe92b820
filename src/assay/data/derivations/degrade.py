"""A degraded copy of a data set, by the engine of "drift" (arXiv 2604.25889; `assay.image.degrade`).

For training, or as a test set that stays the same for every detector and every run. Stored losslessly: what the engine
did is the last thing that happened to the pixels, and no codec of ours lies on top of it. So files are several times as
large as JPEGs of the same pictures, and say nothing of the source's format; rows that `share` leaves as they are, and
both classes, are stored the same way.
"""

from __future__ import annotations

import copy
import dataclasses

import numpy as np

from assay.data.derivations import Derivation, Lossless, Outcome, Piece, Source, check_lossless, lossless
from assay.errors import RecipeError
from assay.image.degrade import Degrade, Mix

ALWAYS = Degrade(probability=1.0)


@dataclasses.dataclass(frozen=True)
class Degraded(Derivation):
    """Every picture once, degraded, at its own size.

    A row says in the group "degraded" whether anything was done to it (1 or 0), and in "damage" what, in order, as
    names of `assay.image.damage` joined by "+".

    Args:
        engine: what is done: a `Degrade` (its strengths drawn, or `.at(s)` for one strength), or a `Mix` as in the
            robustness sweep. By default the engine without its probability of .5, as `share` is there for that.
        share: of the rows that are degraded, in [0, 1]: each with this chance, by its content.
        form: "PNG", or lossless "WEBP".

    Raises:
        RecipeError: `share` is no probability, or no such form.
    """

    name = "degrade"
    summary = "a degraded copy of every picture, for training or as a harder test"

    engine: Degrade | Mix = ALWAYS
    share: float = 1.0
    form: Lossless = "PNG"

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise RecipeError(f"share {self.share} does not hold; give 0 to 1")
        check_lossless(self.form)

    def derive(self, source: Source, rng: np.random.Generator) -> Outcome:
        pixels = source.still()
        damage = ""
        if rng.random() < self.share:
            # The engine draws by itself; a copy of the generator says beforehand what.
            damage = "+".join(operation.name for operation, _ in self.engine.draw(copy.deepcopy(rng)))
            pixels = self.engine(pixels, rng)
        data, suffix = lossless(pixels, self.form)
        groups = {"degraded": "1" if damage else "0", "damage": damage}
        return Outcome((Piece(data, suffix, groups=groups),))


DERIVATION = Degraded
