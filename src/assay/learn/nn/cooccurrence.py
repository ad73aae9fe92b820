"""How often small differences of colour stand beside each other: statistics that nobody has to train."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from assay.image.view import IMAGENET_STD
from assay.learn.nn.front import YCC

_LEVELS = 5
"""A difference is one of these many: -2 to 2 steps, what is beyond them counted as 2."""


class CoOccurrence(nn.Module):
    """Co-occurrences of four neighbouring first differences of Cb and Cr, along a line and across it.

    Of each colour difference the differences of neighbours are rounded to -2 … 2 steps; counted is how often each of
    the 5⁴ runs of four comes up, in the direction of the difference and at right angles to it, a run, its mirror image
    and its negative counted as one. The square root of each share makes the embedding (Hellinger). It holds as much for
    both axes. Source: the spatial rich model (Fridrich and Kodovský, IEEE TIFS 2012), submodels of first order; that
    colour differences tell generated faces by them: Li et al., "Identification of deep network generated images using
    disparities in color components", Signal Processing 2020. Steps and the choice of submodels are *ours*.

    Args:
        in_chans: 3; anything else is refused.
        step: of rounding, in levels of 0–255.
    """

    gather: Tensor

    def __init__(self, in_chans: int = 3, step: float = 0.5) -> None:
        super().__init__()
        if in_chans != 3:
            raise ValueError("cooccurrence looks at pixels; set backbone.front to pixels")
        merged = _merged()
        self.num_features = 4 * merged.shape[1]
        self.register_buffer("gather", torch.from_numpy(merged), persistent=False)
        mix = torch.tensor(YCC)[1:] * 255 * torch.tensor(IMAGENET_STD) / step
        self.register_buffer("mix", mix, persistent=False)

    def forward_features(self, x: Tensor) -> Tensor:
        """(n, 3, h, w) to (n, num_features, 1, 1): what is counted, is counted over the whole view."""
        with torch.autocast(x.device.type, enabled=False):
            colour = torch.einsum("oi,nihw->nohw", self.mix, x.float())
            found = []
            for one in colour.unbind(1):
                across = torch.zeros(())
                along = torch.zeros(())
                for picture in (one, one.transpose(1, 2)):
                    step = picture[:, :, 1:] - picture[:, :, :-1]
                    levels = torch.clamp(torch.round(step), -2, 2)
                    hot = torch.stack([(levels == level).float() for level in range(-2, 3)], 1)
                    along = along + _runs(hot)
                    across = across + _runs(hot.transpose(2, 3))
                found += [along / 2, across / 2]
            shares = torch.cat([each.flatten(1) @ self.gather for each in found], 1)
        return torch.sqrt(shares + 1e-8)[:, :, None, None]

    def forward_head(self, features: Tensor, pre_logits: bool = True) -> Tensor:
        """(n, num_features)."""
        return features.mean(dim=(2, 3))


def _runs(hot: Tensor) -> Tensor:
    """Shares of runs of four along the last axis, (n, 25, 25), from one-hot levels (n, 5, h, w): the product of the
    first two places' pairs with the last two's, summed over all places."""
    pairs = (hot[:, :, None, :, :-1] * hot[:, None, :, :, 1:]).flatten(1, 2)
    first, second = pairs[..., :-2].flatten(2), pairs[..., 2:].flatten(2)
    return first @ second.transpose(1, 2) / first.shape[2]


def _merged() -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """(625, 169): which class each run belongs to; a class has a run, its mirror image and the negatives of both."""
    runs = np.arange(_LEVELS**4).reshape((_LEVELS,) * 4)
    negative, mirrored = runs[::-1, ::-1, ::-1, ::-1], runs.transpose(3, 2, 1, 0)
    both = negative.transpose(3, 2, 1, 0)
    least = np.minimum(np.minimum(runs, negative), np.minimum(mirrored, both)).ravel()
    _, place = np.unique(least, return_inverse=True)
    table = np.zeros((_LEVELS**4, place.max() + 1), np.float32)
    table[np.arange(_LEVELS**4), place] = 1
    return table
