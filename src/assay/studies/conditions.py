"""What test rows go through in a study: CoDE's T, sizes, and everything that `assay.measure.robustness` names.

A condition depends on a picture's pixels alone, so that every arm and every seed is shown the same ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
from PIL import Image

from assay.errors import RecipeError
from assay.image.alter import T
from assay.measure import robustness
from assay.measure.robustness import Condition
from assay.types import Pixels

CLEAN, TRANSFORMS = "clean", "transforms"

WORDS = {CLEAN: "without transforms", TRANSFORMS: "with transforms"}
"""The two conditions of CoDE's tables, in their words."""

SIDES = (16, 4096)
"""Least and most px of "sizeN"."""


def transformed(pixels: Pixels) -> Pixels:
    """CoDE's T without its crop: up to two of 19 operations, drawn by the picture itself.

    Paper: the same operator alters test pictures. Ours: which operations a picture gets follows from its pixels.
    """
    return T().operate(pixels, robustness.chance(pixels, TRANSFORMS))


def sized(side: int) -> Condition:
    """The shorter side becomes `side` px, bicubic, the aspect ratio kept; smaller pictures are enlarged."""

    def resize(pixels: Pixels) -> Pixels:
        height, width = pixels.shape[:2]
        factor = side / min(height, width)
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))

    return resize


def conditions(names: Iterable[str]) -> dict[str, Condition]:
    """Conditions by name, in the order given.

    Raises:
        RecipeError: a name that is not known.
    """
    found: dict[str, Condition] = {}
    for name in names:
        match = re.fullmatch(r"size(\d+)", name)
        if name == TRANSFORMS:
            found[name] = transformed
        elif match:
            if not SIDES[0] <= int(match[1]) <= SIDES[1]:
                raise RecipeError(
                    f"{name!r} does not hold: size takes px of the shorter side, {SIDES[0]} to {SIDES[1]}"
                )
            found[name] = sized(int(match[1]))
        else:
            found |= robustness.conditions([name])
    return found


def number_of(name: str) -> float | None:
    """The number in a condition's name, None where it has none: where it stands on the axis of a curve."""
    match = re.fullmatch(r"[a-z_]+([0-9.]+)", name)
    return float(match[1]) if match else None


def family_of(name: str) -> str:
    """The word before the number of a condition's name: one curve each."""
    return re.sub(r"[0-9.]+$", "", name)
