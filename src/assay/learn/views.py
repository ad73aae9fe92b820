"""The views that a loss compares, drawn from one picture.

Source: CoDE (arXiv 2407.20337), section 3, for its loss; several augmented views of each picture for the supervised
contrastive one (Khosla et al., NeurIPS 2020). Where views are cut at native resolution is ours (`Crops.base`).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import numpy as np
from PIL import Image

from assay.image.alter import T
from assay.image.cut import cut
from assay.image.view import View
from assay.learn.recipe import Descent, InfoNCE, Shown
from assay.types import Box, Pixels

LOCAL = "local"
"""The first local view; further ones are "local 2", "local 3", …"""

ASPECTS = (3 / 4, 4 / 3)
"""Width over height of a resized crop, least and most."""


def names(stage: Descent) -> tuple[str, ...]:
    """What the views of a picture are called."""
    if not isinstance(stage.loss, InfoNCE):
        return tuple(f"view {number}" for number in range(1, stage.loss.views + 1))
    crops = stage.crops
    further = (f"{LOCAL} {number}" for number in range(2, crops.count + 1))
    return ("clean", "transformed", "global", LOCAL, *further)


def draw(
    tile: Pixels, stage: Descent, size: int, rng: np.random.Generator, *, whole: bool = False
) -> dict[str, Pixels]:
    """The views of a picture.

    Args:
        tile: (height, width, 3) uint8.
        size: side of the clean, transformed and global views; local views have `stage.crops.local`.
        rng: the only source of chance: the same state gives the same views.
        whole: views of the large size show all of the region, resized, in place of a crop (`View.resized`).

    Returns:
        In the order of `names`. "view 1" and on: the region augmented, then T, each drawn for itself. For CoDE's loss,
        "clean": a crop; "transformed": the same of the region; "global" and "local": the same of resized crops of the
        region. Views that `stage.crops.altered` leaves out go without augmentation and T's operations.
        The views of one picture share its region, and its alignment and degradation where the stage has them.
    """
    region = random_region(tile, stage.crops.base, rng)
    if stage.align is not None:
        region = stage.align(region, rng)
    if stage.degrade is not None:
        region = stage.degrade(region, rng)
    crops = stage.crops
    if not isinstance(stage.loss, InfoNCE):
        return {name: changed(region, stage, size, rng, whole=whole) for name in names(stage)}

    def altered(name: Literal["transformed", "global", "local"], pixels: Pixels, side: int) -> Pixels:
        if name in crops.altered:
            return changed(pixels, stage, side, rng, whole=whole)
        if whole:
            return View(size=side).fitted(pixels)
        return dataclasses.replace(sized(stage.alter, side), max_ops=0)(pixels, rng)

    views = {
        "clean": plain(region, size, rng, whole=whole),
        "transformed": altered("transformed", region, size),
        "global": altered("global", resized_crop(region, size, crops.global_area, rng), size),
    }
    for name in names(stage)[len(views) :]:
        views[name] = altered("local", resized_crop(region, crops.local, crops.local_area, rng), crops.local)
    return views


def plain(region: Pixels, size: int, rng: np.random.Generator, *, whole: bool) -> Pixels:
    """A region as it is: a crop of it at native resolution, or all of it, resized: (size, size, 3) uint8."""
    return View(size=size).fitted(region) if whole else random_crop(region, size, rng)


def changed(pixels: Pixels, shown: Shown, size: int, rng: np.random.Generator, *, whole: bool = False) -> Pixels:
    """A picture after a stage's online augmentation and T: (size, size, 3) uint8. See `draw` for `whole`."""
    if shown.augment is not None:
        pixels = shown.augment(pixels, rng)
    if whole:
        return View(size=size).fitted(shown.alter.operate(pixels, rng))
    return sized(shown.alter, size)(pixels, rng)


def sized(alter: T, size: int) -> T:
    """The operator with another output size; its resize keeps the same ratio to it (248 : 224 in the paper)."""
    resize = None if alter.resize is None else round(alter.resize * size / alter.size)
    return dataclasses.replace(alter, size=size, resize=resize)


def random_region(pixels: Pixels, side: int | None, rng: np.random.Generator) -> Pixels:
    """A region at native resolution of at most `side` px an axis; None gives the whole, and takes no chance."""
    if side is None:
        return pixels
    height, width = pixels.shape[:2]
    h, w = min(side, height), min(side, width)
    top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
    return cut(pixels, Box(left, top, left + w, top + h))


def random_crop(region: Pixels, size: int, rng: np.random.Generator) -> Pixels:
    """A square at native resolution; a smaller region is mirrored at its edges."""
    height, width = region.shape[:2]
    top, left = _start(height - size, rng), _start(width - size, rng)
    return cut(region, Box(left, top, left + size, top + size))


def _start(slack: int, rng: np.random.Generator) -> int:
    return int(rng.integers(slack + 1)) if slack >= 0 else slack // 2


def resized_crop(region: Pixels, size: int, area: tuple[float, float], rng: np.random.Generator) -> Pixels:
    """A rectangle of the region, resized (bicubic) to a square.

    Args:
        area: range of the rectangle's share of the region's area; its aspect ratio lies within `ASPECTS`. Where ten
            draws do not fit into a narrow region, the largest centred square is taken.

    Returns:
        (size, size, 3) uint8.
    """
    height, width = region.shape[:2]
    for _ in range(10):
        share = rng.uniform(*area) * height * width
        aspect = math.exp(rng.uniform(math.log(ASPECTS[0]), math.log(ASPECTS[1])))
        w, h = round(math.sqrt(share * aspect)), round(math.sqrt(share / aspect))
        if 0 < w <= width and 0 < h <= height:
            top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
            break
    else:
        w = h = min(height, width)
        top, left = (height - h) // 2, (width - w) // 2
    image = Image.fromarray(region[top : top + h, left : left + w])
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))
