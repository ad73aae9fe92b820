"""How often small differences of colour and texture stand beside each other: statistics that nobody has to train."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from assay.image.runs import COLOUR_UNITS, LEVELS, LUMA_UNITS, MIX, Runs, members
from assay.image.view import IMAGENET_MEAN, IMAGENET_STD

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

    - Runs of residuals of Cb, Cr and luma, as `assay.image.runs.Runs` says, which counts the same without a network:
      845 numbers.
    - Of all three, at full, half, quarter and eighth size: logarithms of the root mean square of the residual "square
      3 × 3", of the mean magnitude over it, and of the share of residuals that are large. 36 numbers.

    Turning the picture by 90 degrees or mirroring it changes nothing. Pixels are brought back to whole numbers first,
    and what is made of them until it is counted is whole and below 2²⁴, which float32 holds exactly.

    Args:
        in_chans: 3; anything else is refused.
        colour, luma: as in `Runs`.
        moments: whether the moments are there.

    Attributes:
        runs: what is counted, where that is all; None with moments.
    """

    members: Tensor
    mix: Tensor
    scale: Tensor
    shift: Tensor
    square: Tensor

    def __init__(self, in_chans: int = 3, colour: float = 0.5, luma: float = 4.0, moments: bool = True) -> None:
        super().__init__()
        if in_chans != 3:
            raise ValueError("cooccurrence looks at pixels; set backbone.front to pixels")
        if not (colour or luma or moments):
            raise ValueError("cooccurrence has nothing to count; set colour, luma or moments")
        counted = Runs(colour=colour, luma=luma)
        self.colour, self.luma, self.moments = round(colour * COLOUR_UNITS), round(luma * LUMA_UNITS), moments
        self.counted, self.kinds = counted.width, len(members())
        self.num_features = self.counted + _MOMENTS * moments
        self.runs = None if moments else counted
        self.register_buffer("members", torch.from_numpy(np.array(members())), persistent=False)
        self.register_buffer("mix", torch.tensor(MIX, dtype=torch.float32), persistent=False)
        # The picture arrives normalised, of samples in [0, 1].
        self.register_buffer("scale", 255 * torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)
        self.register_buffer("shift", 255 * torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("square", torch.tensor(_SQUARE)[None, None], persistent=False)

    def forward_features(self, x: Tensor) -> Tensor:
        """(n, 3, h, w) to (n, channels, ⌈h / 32⌉, ⌈w / 32⌉): what each cell of 32 px adds to the shares and means
        of the whole view. A run belongs to the cell that its first residual lies in."""
        with torch.autocast(x.device.type, enabled=False):
            pixels = torch.clamp(torch.round(x.float() * self.scale + self.shift), 0, 255)
            planes = torch.einsum("oi,nihw->nohw", self.mix, pixels)
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
        found = [torch.sqrt(whole[:, : self.counted])]
        if self.moments:
            square, size, large = whole[:, self.counted :].reshape(-1, _SCALES, 3, 3).unbind(2)
            root = torch.sqrt(square) + 0.1
            each = [torch.log(root), torch.log((size + 0.1) / root), torch.log(large + 0.01)]
            found.append(torch.stack(each, 2).flatten(1))
        return torch.cat(found, 1)

    def _shares(self, cells: tuple[int, int], *, along_rows: Tensor, along_columns: Tensor) -> Tensor:
        """Shares of runs of residuals (n, h, w) along rows of the one and columns of the other, all together:
        (n, kinds, rows of cells, columns of cells)."""
        number, runs = cells[0] * cells[1], LEVELS**4
        # Not by len(): the number of views would be fixed when the network is exported.
        counts = along_rows.new_zeros(along_rows.shape[0], number * runs)
        places = 0
        for residual, down in ((along_rows, False), (along_columns, True)):
            # In floating point until the end: it holds such numbers, and machines do more of them at once.
            level = torch.clamp(torch.round(residual), -2, 2) + 2
            level = level.transpose(1, 2) if down else level
            run = level[:, :, :-3]
            for step in range(1, 4):
                run = run * LEVELS + level[:, :, step : level.shape[2] - 3 + step]
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
        units = planes.new_tensor([LUMA_UNITS, COLOUR_UNITS, COLOUR_UNITS])
        planes = planes / units[:, None, None]
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
