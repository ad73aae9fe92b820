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

_CELL = 32
"""Side of a cell in px: the finest place that an explanation can name. Halved by each scale of the moments, it stays
whole."""

_SCALES = 4
_MOMENTS = 9 * _SCALES
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

    members: Tensor
    mix: Tensor
    square: Tensor

    def __init__(self, in_chans: int = 3, colour: float = 0.5, luma: float = 4.0, moments: bool = True) -> None:
        super().__init__()
        if in_chans != 3:
            raise ValueError("cooccurrence looks at pixels; set backbone.front to pixels")
        if not (colour or luma or moments):
            raise ValueError("cooccurrence has nothing to count; set colour, luma or moments")
        self.colour, self.luma, self.moments = colour, luma, moments
        members = _members()
        self.kinds = len(members)
        self.num_features = self.kinds * (4 * bool(colour) + bool(luma)) + _MOMENTS * moments
        self.register_buffer("members", torch.from_numpy(members), persistent=False)
        # The picture arrives divided by its deviations, of samples in [0, 1].
        self.register_buffer("mix", torch.tensor(YCC) * 255 * torch.tensor(IMAGENET_STD), persistent=False)
        self.register_buffer("square", torch.tensor(_SQUARE)[None, None], persistent=False)

    def forward_features(self, x: Tensor) -> Tensor:
        """(n, 3, h, w) to (n, channels, ⌈h / 32⌉, ⌈w / 32⌉): what each cell of 32 px adds to the shares and means
        of the whole view. A run belongs to the cell that its first residual lies in."""
        with torch.autocast(x.device.type, enabled=False):
            planes = torch.einsum("oi,nihw->nohw", self.mix, x.float())
            cells = (-(-x.shape[2] // _CELL), -(-x.shape[3] // _CELL))
            found = []
            if self.colour:
                for plane in planes[:, 1:].unbind(1):
                    across = (plane[:, :, 1:] - plane[:, :, :-1]) / self.colour
                    down = (plane[:, 1:] - plane[:, :-1]) / self.colour
                    found.append(self._shares(cells, along_rows=across, along_columns=down))
                    found.append(self._shares(cells, along_rows=down, along_columns=across))
            if self.luma:
                residual = functional.conv2d(planes[:, :1], self.square)[:, 0] / self.luma
                found.append(self._shares(cells, along_rows=residual, along_columns=residual))
            if self.moments:
                found += self._moments(planes, cells)
        return torch.cat(found, 1)

    def forward_head(self, features: Tensor, pre_logits: bool = True) -> Tensor:
        """(n, num_features)."""
        whole = features.sum(dim=(2, 3))
        counted = self.num_features - _MOMENTS * self.moments
        found = [torch.sqrt(whole[:, :counted])]
        if self.moments:
            square, size, large = whole[:, counted:].reshape(-1, _SCALES, 3, 3).unbind(2)
            root = torch.sqrt(square) + 0.1
            each = [torch.log(root), torch.log((size + 0.1) / root), torch.log(large + 0.01)]
            found.append(torch.stack(each, 2).flatten(1))
        return torch.cat(found, 1)

    def _shares(self, cells: tuple[int, int], *, along_rows: Tensor, along_columns: Tensor) -> Tensor:
        """Shares of runs of residuals (n, h, w) along rows of the one and columns of the other, all together:
        (n, kinds, rows of cells, columns of cells)."""
        number, runs = cells[0] * cells[1], _LEVELS**4
        # Not by len(): the number of views would be fixed when the network is exported.
        counts = along_rows.new_zeros(along_rows.shape[0], number * runs)
        places = 0
        for residual, down in ((along_rows, False), (along_columns, True)):
            # In floating point until the end: it holds such numbers, and machines do more of them at once.
            level = torch.clamp(torch.round(residual), -2, 2) + 2
            level = level.transpose(1, 2) if down else level
            run = level[:, :, :-3]
            for step in range(1, 4):
                run = run * _LEVELS + level[:, :, step : level.shape[2] - 3 + step]
            line, start = (torch.arange(side, device=run.device) // _CELL * runs for side in run.shape[1:])
            # Added one after the other: their sum would be a constant as large as the view in the exported graph.
            run = run + (line if down else line * cells[1])[:, None]
            run = (run + (start * cells[1] if down else start)).long().flatten(1)
            counts = counts.scatter_add(1, run, torch.ones_like(run, dtype=counts.dtype))
            places += run.shape[1]
        # A last column of nothing, for classes of fewer members than others.
        counts = functional.pad(counts.reshape(-1, *cells, runs), (0, 1))
        return counts[..., self.members].sum(-1).permute(0, 3, 1, 2) / places

    def _moments(self, planes: Tensor, cells: tuple[int, int]) -> list[Tensor]:
        """Of each scale the mean square, the mean size and the share of large residuals: (n, 3, …) each, by cell."""
        found = []
        for scale in range(_SCALES):
            if scale:
                planes = functional.avg_pool2d(planes, 2)
            each = planes.flatten(0, 1)[:, None]
            residual = functional.conv2d(each, self.square)
            residual = residual.reshape(-1, 3, *residual.shape[2:])
            size, side = residual.abs(), _CELL >> scale
            height, width = residual.shape[2:]
            # The first residual is that of the second sample.
            margin = (1, cells[1] * side - width - 1, 1, cells[0] * side - height - 1)
            for values in (residual.square(), size, (size > _LARGE).to(size.dtype)):
                summed = functional.avg_pool2d(functional.pad(values, margin), side) * side**2
                found.append(summed / (height * width))
        return found


def classes() -> npt.NDArray[np.int64]:
    """The class of each run of four levels, (625,), the first level the most significant digit to base 5: a run, its
    mirror image and the negatives of both are one class. There are 169."""
    runs = np.arange(_LEVELS**4).reshape((_LEVELS,) * 4)
    negative, mirrored = runs[::-1, ::-1, ::-1, ::-1], runs.transpose(3, 2, 1, 0)
    both = negative.transpose(3, 2, 1, 0)
    least = np.minimum(np.minimum(runs, negative), np.minimum(mirrored, both)).ravel()
    _, place = np.unique(least, return_inverse=True)
    return np.asarray(place, np.int64).ravel()


def _members() -> npt.NDArray[np.int64]:
    """The runs of each class, (169, 4); 5⁴, which is none, where a class has fewer."""
    place = classes()
    found = np.full((place.max() + 1, 4), len(place))
    for kind, row in enumerate(found):
        (mine,) = np.nonzero(place == kind)
        row[: len(mine)] = mine
    return found
