"""The degradation engine of "drift" (arXiv 2604.25889): what a picture meets between its making and its judging.

Constants are the release's (khoalephanminh/ntire26-deepfake-challenge@364d5a3): training/config/detector/
dinov2_252.yaml and training/dataset/noise_augment_wrapper.py. `assay.image.damage` holds the operations and says how
each differs from the release's.

A picture is degraded with probability 0.5. Then, each step with probability 0.3 and a strength of its own from
Beta(1.2, 1.2):

- *compression* (stage A), one step as a whole: 1 to 5 rounds of JPEG and resizing by turns, either first;
- *damage* (stage B): the 15 `STEPS` in random order. A step of several operations takes one of them by chance.

At last the picture gets the size that it came with.

Ours: the distractor's step has its probability (0.15) instead of 0.3 (the release asks for both to hold, 0.045 in all:
`distract=0.045`); all rounds together make a picture at most twice as large as it came (the release sets no bound).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from assay.errors import RecipeError, unknown
from assay.image.damage import OPERATIONS, Operation
from assay.types import Pixels

Drawn = Sequence[tuple[Operation, Mapping[str, float]]]
"""Operations in order, each with its parameters."""

STAGES = ("compression", "damage")

STEPS: tuple[Mapping[str, float], ...] = (
    {"gaussian_blur": 2 / 3, "box_blur": 1 / 3},
    {"motion_blur": 1.0},
    {"speckle": 1 / 3, "poisson": 1 / 3, "salt_and_pepper": 1 / 3},
    {"resize": 1.0},
    {"colour_shift": 1.0},
    {"gaussian_noise": 1.0},
    {"jpeg": 1.0},
    {"chroma_subsampling": 1.0},
    {"banding": 1.0},
    {"over_enhancement": 1.0},
    {"chromatic_aberration": 1.0},
    {"moire": 1.0},
    {"glitch": 1.0},
    {"vignette": 1.0},
    {"text": 0.9, "patch": 0.1},
)
"""The 15 steps of stage B (release): the share of each operation in its step. The last is the distractor's."""

LARGEST = 2.0
"""All resizing together enlarges the sides at most by this."""

MIXED = (
    "gaussian_blur",
    "motion_blur",
    "gaussian_noise",
    "chroma_subsampling",
    "chromatic_aberration",
    "moire",
    "glitch",
    "vignette",
    "speckle",
    "banding",
)
"""The ten operations of `Mix` (release)."""

BACK = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.BOX)
"""What a picture is brought back to its size with, equally likely (release: bilinear, bicubic, area)."""


def apply(pixels: Pixels, drawn: Drawn, back: Image.Resampling = Image.Resampling.BICUBIC) -> Pixels:
    """The operations in order, then back to the size that came in.

    Args:
        pixels: uint8, shape (height, width, 3), any size from 1 × 1; stays as it is.
        drawn: as `Degrade.draw` gives them.
        back: resampling filter of the last resize, where the size has changed.

    Returns:
        A new array of the same shape.

    Raises:
        InputError: a side is longer than the 65,500 px that JPEG holds, and "jpeg" was drawn.
    """
    damaged = pixels
    for operation, parameters in drawn:
        damaged = operation.apply(damaged, parameters)
    if damaged.shape != pixels.shape:
        return np.array(Image.fromarray(damaged).resize(pixels.shape[1::-1], back))
    return pixels.copy() if damaged is pixels else damaged


def _known(names: Sequence[str], known: Sequence[str], what: str) -> None:
    for name in names:
        if name not in known:
            raise RecipeError(unknown(what, name, known))
    if len(set(names)) < len(names):
        raise RecipeError(f"{what} stands twice in {', '.join(names)}; name each once")
    if not names:
        raise RecipeError(f"no {what} to degrade with; name one, or leave the degradation out")


@dataclasses.dataclass(frozen=True)
class Degrade:
    """The engine, called as degrade(pixels, rng).

    Args:
        probability: chance in [0, 1] that a picture is degraded at all.
        each: chance in [0, 1] of stage A, and of each step of stage B.
        beta: both parameters of the Beta distribution of strengths, above 0.
        rounds: fewest and most rounds of stage A, uniform, both included.
        distract: chance in [0, 1] of a distractor, text or patch, in place of `each`.
        stages: names out of `STAGES`.
        operations: names out of `assay.image.damage.OPERATIONS`. What is left out happens in neither stage; the
            other operations of its step share its part.
        strength: of all operations, in [0, 1]; None draws each from `beta`.

    Raises:
        RecipeError: a stage or an operation that does not exist or stands twice, or numbers that do not hold.
    """

    probability: float = 0.5
    each: float = 0.3
    beta: tuple[float, float] = (1.2, 1.2)
    rounds: tuple[int, int] = (1, 5)
    distract: float = 0.15
    stages: tuple[str, ...] = STAGES
    operations: tuple[str, ...] = tuple(OPERATIONS)
    strength: float | None = None

    def __post_init__(self) -> None:
        for name in ("probability", "each", "distract"):
            if not 0 <= getattr(self, name) <= 1:
                raise RecipeError(f"{name} {getattr(self, name)} is not a probability; give 0 to 1")
        if len(self.beta) != 2 or not all(0 < part < math.inf for part in self.beta):
            raise RecipeError(f"beta {self.beta} does not hold; give two numbers above 0, such as (1.2, 1.2)")
        if (
            len(self.rounds) != 2
            or not all(isinstance(bound, int) for bound in self.rounds)
            or not 1 <= self.rounds[0] <= self.rounds[1]
        ):
            raise RecipeError(f"rounds {self.rounds} do not hold; give (fewest, most), whole numbers from 1")
        _known(self.stages, STAGES, "stage")
        _known(self.operations, tuple(OPERATIONS), "operation")
        if self.stages == ("compression",) and not {"jpeg", "resize"} & set(self.operations):
            raise RecipeError('the stage "compression" alone does nothing without "jpeg" or "resize"; name one of them')
        if self.strength is not None and not 0 <= self.strength <= 1:
            raise RecipeError(f"strength {self.strength} does not hold; give 0 to 1, or None to draw it")

    def at(self, strength: float) -> Degrade:
        """The same engine for every picture, all operations at one strength in [0, 1]."""
        return dataclasses.replace(self, probability=1.0, strength=strength)

    def draw(self, rng: np.random.Generator) -> list[tuple[Operation, dict[str, float]]]:
        """What is done to the next picture, whichever it is, in order; empty where it stays as it is."""
        if rng.random() >= self.probability:
            return []
        steps = []
        if "compression" in self.stages and rng.random() < self.each:
            steps += self._compression(rng)
        if "damage" in self.stages:
            steps += self._damage(rng)
        factor = 1.0
        for operation, parameters in steps:
            if operation.name == "resize":
                parameters["factor"] = min(parameters["factor"], LARGEST / factor)
                factor *= parameters["factor"]
        return steps

    def __call__(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        """One picture, uint8 (height, width, 3), degraded: the same shape, a new array. `rng` is all its randomness.

        Raises:
            InputError: a side is longer than the 65,500 px that JPEG holds, and "jpeg" was drawn.
        """
        return apply(pixels, self.draw(rng), BACK[rng.integers(len(BACK))])

    def _strength(self, rng: np.random.Generator) -> float:
        drawn = float(rng.beta(*self.beta))
        return drawn if self.strength is None else self.strength

    def _compression(self, rng: np.random.Generator) -> list[tuple[Operation, dict[str, float]]]:
        count = int(rng.integers(self.rounds[0], self.rounds[1] + 1))
        order = ("jpeg", "resize") if rng.random() < 0.5 else ("resize", "jpeg")
        # One strength for all resizing; each JPEG has its own, as in the release, where its quality is uniform.
        resizing = self._strength(rng)
        drawn = []
        for name in order * count:
            strength = self._strength(rng) if name == "jpeg" else resizing
            if name in self.operations:
                drawn.append((OPERATIONS[name], OPERATIONS[name].draw(rng, strength)))
        return drawn

    def _damage(self, rng: np.random.Generator) -> list[tuple[Operation, dict[str, float]]]:
        drawn = []
        for place in rng.permutation(len(STEPS)):
            happens, strength, which = rng.random(), self._strength(rng), rng.random()
            parts = {name: part for name, part in STEPS[place].items() if name in self.operations}
            if parts and happens < (self.distract if place == len(STEPS) - 1 else self.each):
                reached = np.cumsum(list(parts.values()))
                name = list(parts)[int(np.searchsorted(reached, which * reached[-1], side="right"))]
                drawn.append((OPERATIONS[name], OPERATIONS[name].draw(rng, strength)))
        return drawn


@dataclasses.dataclass(frozen=True)
class Mix:
    """The random mix of the robustness sweep: many operations at one strength, called as mix(pixels, rng).

    Release (@3c68994, training/dataset/customize_noise_augment.py): one to three times, each with probability 0.5, JPEG
    of quality U{100 − 70 s … 100}; then eight of the ten `MIXED` operations in random order, Gaussian noise with σ
    U{2 … 60 s + 2}. Strength 0 leaves the picture as it is. The release seeds by Python's hash of a name, which changes
    from run to run; ours is all in `rng`, and one seed gives the same operations in the same order at any strength.

    Args:
        strength: s, in [0, 1].

    Raises:
        RecipeError: a strength beyond [0, 1].
    """

    strength: float

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise RecipeError(f"strength {self.strength} of the mix does not hold; give 0 to 1")

    def draw(self, rng: np.random.Generator) -> list[tuple[Operation, dict[str, float]]]:
        """What is done to the next picture, whichever it is, in order."""
        if self.strength == 0:
            return []
        drawn: list[tuple[Operation, dict[str, float]]] = []
        for _ in range(int(rng.integers(1, 4))):
            saved, part = rng.random(2)
            if saved < 0.5:
                worst = round(100 - 70 * self.strength)
                drawn.append((OPERATIONS["jpeg"], {"quality": worst + int(part * (101 - worst))}))
        for place in rng.permutation(len(MIXED))[:8]:
            operation = OPERATIONS[MIXED[place]]
            parameters = operation.draw(rng, self.strength)
            if operation.name == "gaussian_noise":
                parameters["sigma"] = 2 + int(rng.random() * (round(60 * self.strength) + 1))
            drawn.append((operation, parameters))
        return drawn

    def __call__(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        """One picture, uint8 (height, width, 3), degraded: the same shape, a new array. `rng` is all its randomness.

        Raises:
            InputError: a side is longer than the 65,500 px that JPEG holds, and JPEG was drawn.
        """
        return apply(pixels, self.draw(rng))
