"""How often small differences of colour and texture stand beside each other: statistics that nobody has to train."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from assay.image.view import IMAGENET_STD
from assay.learn.nn.front import YCC

_LEVELS = 5
"""A residual is one of these many: -2 to 2 steps, what is beyond them counted as 2."""

_SQUARE = [[-1.0, 2.0, -1.0], [2.0, -4.0, 2.0], [-1.0, 2.0, -1.0]]

_SCALES = 4
_LARGE = 4.0
"""Levels of 0-255 beyond which a residual of the moments counts as large."""


class CoOccurrence(nn.Module):
    """Co-occurrences of four neighbouring residuals, and moments of residuals at four scales.

    - Of Cb and Cr: first differences, in steps of `colour`; runs in the direction of the difference, and runs at right
      angles to it. 4 × 169 numbers.
    - Of luma: the residual "square 3 × 3", in steps of `luma`; runs along rows and columns together. 169 numbers.
    - Of all three, at full, half, quarter and eighth size: logarithms of the root mean square of that residual, of the
      mean magnitude over it, and of the share of residuals that are large. 36 numbers.

    Residuals are rounded to -2 … 2 steps, and counted is how often each of the 5⁴ runs of four comes up; a run, its
    mirror image and its negative are one. The square root of each share makes the embedding (Hellinger). Turning the
    picture by 90 degrees or mirroring it changes nothing. Source: the spatial rich model (Fridrich and Kodovský, IEEE
    TIFS 2012), of which these are a few submodels; that colour differences tell generated faces by such counts: Li et
    al., "Identification of deep network generated images using disparities in color components", Signal Processing
    2020. Steps, moments and the choice of submodels are *ours*.

    Args:
        in_chans: 3; anything else is refused.
        colour, luma: steps of rounding, in levels of 0–255; 0 leaves these runs out.
        moments: whether the moments are there.
    """

    classes: Tensor
    mix: Tensor
    square: Tensor

    def __init__(self, in_chans: int = 3, colour: float = 0.5, luma: float = 4.0, moments: bool = True) -> None:
        super().__init__()
        if in_chans != 3:
            raise ValueError("cooccurrence looks at pixels; set backbone.front to pixels")
        if not (colour or luma or moments):
            raise ValueError("cooccurrence has nothing to count; set colour, luma or moments")
        self.colour, self.luma, self.moments = colour, luma, moments
        place = classes()
        self.kinds = int(place.max()) + 1
        self.num_features = self.kinds * (4 * bool(colour) + bool(luma)) + 9 * _SCALES * moments
        self.register_buffer("classes", torch.from_numpy(place), persistent=False)
        # The picture arrives divided by its deviations, of samples in [0, 1].
        self.register_buffer("mix", torch.tensor(YCC) * 255 * torch.tensor(IMAGENET_STD), persistent=False)
        self.register_buffer("square", torch.tensor(_SQUARE)[None, None], persistent=False)

    def forward_features(self, x: Tensor) -> Tensor:
        """(n, 3, h, w) to (n, num_features, 1, 1): what is counted, is counted over the whole view."""
        with torch.autocast(x.device.type, enabled=False):
            planes = torch.einsum("oi,nihw->nohw", self.mix, x.float())
            found = []
            if self.colour:
                for plane in planes[:, 1:].unbind(1):
                    steps = [(turned[:, :, 1:] - turned[:, :, :-1]) / self.colour for turned in _both_ways(plane)]
                    found.append(self._shares(steps))
                    found.append(self._shares([step.transpose(1, 2) for step in steps]))
            if self.luma:
                residual = functional.conv2d(planes[:, :1], self.square)[:, 0] / self.luma
                found.append(self._shares(list(_both_ways(residual))))
            if self.moments:
                found.append(self._moments(planes))
        return torch.cat(found, 1)[:, :, None, None]

    def forward_head(self, features: Tensor, pre_logits: bool = True) -> Tensor:
        """(n, num_features)."""
        return features.mean(dim=(2, 3))

    def _shares(self, residuals: list[Tensor]) -> Tensor:
        """Square roots of the shares of runs along the last axis of residuals (n, h, w), all together: (n, kinds)."""
        # Not by len(): the number of views would be fixed when the network is exported.
        counts = residuals[0].new_zeros(residuals[0].shape[0], self.kinds)
        places = 0
        for residual in residuals:
            level = torch.clamp(torch.round(residual), -2, 2).long() + 2
            run = level[:, :, :-3]
            for step in range(1, 4):
                run = run * _LEVELS + level[:, :, step : level.shape[2] - 3 + step]
            kind = self.classes[run.flatten(1)]
            counts = counts.scatter_add(1, kind, torch.ones_like(kind, dtype=counts.dtype))
            places += kind.shape[1]
        return torch.sqrt(counts / places)

    def _moments(self, planes: Tensor) -> Tensor:
        found = []
        for scale in range(_SCALES):
            if scale:
                planes = functional.avg_pool2d(planes, 2)
            each = planes.flatten(0, 1)[:, None]
            residual = functional.conv2d(each, self.square).reshape(*planes.shape[:2], -1)
            root, size = torch.sqrt(residual.square().mean(2)) + 0.1, residual.abs()
            large = (size > _LARGE).to(size.dtype).mean(2)
            found += [torch.log(root), torch.log((size.mean(2) + 0.1) / root), torch.log(large + 0.01)]
        return torch.cat(found, 1)


def _both_ways(plane: Tensor) -> tuple[Tensor, Tensor]:
    return plane, plane.transpose(1, 2)


def classes() -> npt.NDArray[np.int64]:
    """The class of each run of four levels, (625,), the first level the most significant digit to base 5: a run, its
    mirror image and the negatives of both are one class. There are 169."""
    runs = np.arange(_LEVELS**4).reshape((_LEVELS,) * 4)
    negative, mirrored = runs[::-1, ::-1, ::-1, ::-1], runs.transpose(3, 2, 1, 0)
    both = negative.transpose(3, 2, 1, 0)
    least = np.minimum(np.minimum(runs, negative), np.minimum(mirrored, both)).ravel()
    _, place = np.unique(least, return_inverse=True)
    return np.asarray(place, np.int64).ravel()
