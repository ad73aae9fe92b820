"""What a network is shown: pixels, or what is left of them when their neighbours' prediction is taken away."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from assay.image.view import IMAGENET_STD

# Three residual filters of the spatial rich model (Fridrich & Kodovský, IEEE TIFS 2012): first order (horizontal +
# vertical), second order "square 3×3", and third order "square 5×5", each scaled to respond to noise alike.
_FIRST = [[0, 0, 0, 0, 0], [0, 0, -1, 0, 0], [0, -1, 4, -1, 0], [0, 0, -1, 0, 0], [0, 0, 0, 0, 0]]
_SECOND = [[0, 0, 0, 0, 0], [0, -1, 2, -1, 0], [0, 2, -4, 2, 0], [0, -1, 2, -1, 0], [0, 0, 0, 0, 0]]
_THIRD = [[-1, 2, -2, 2, -1], [2, -6, 8, -6, 2], [-2, 8, -12, 8, -2], [2, -6, 8, -6, 2], [-1, 2, -2, 2, -1]]
_NORMS = (4.0, 4.0, 12.0)

YCC = [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
"""Luma and the two colour differences of JPEG (ITU-T T.871), from red, green and blue."""

# How much the residual of each is magnified, per level of 0–255: colour differences are several times quieter.
_YCC_GAINS = (0.15, 0.5, 0.5)


class Front(nn.Module):
    """Maps a normalised picture (n, 3, h, w) to the network's input (n, channels, h, w).

    "pixels" passes it on. "residual" applies three fixed high-pass filters to each channel, magnifies the residual and
    bounds it with tanh, so that edges do not drown the noise: 9 channels. "both" stacks the two: 12. "chroma" does as
    "residual" does with luma and two colour differences, these magnified more: 9 channels.
    """

    kernel: Tensor

    def __init__(self, kind: str, gain: float = 8.0) -> None:
        super().__init__()
        self.kind = kind
        self.channels = {"pixels": 3, "residual": 9, "both": 12, "chroma": 9}[kind]
        filters = torch.tensor([_FIRST, _SECOND, _THIRD], dtype=torch.float32)
        filters = filters / torch.tensor(_NORMS)[:, None, None]
        mixed = gain * torch.eye(3)
        if kind == "chroma":
            # The picture arrives divided by its deviations, of samples in [0, 1].
            mixed = torch.tensor(_YCC_GAINS)[:, None] * torch.tensor(YCC) * 255 * torch.tensor(IMAGENET_STD)
        # Written as one dense convolution, zero across channels: CPUs run that several times faster than grouped ones.
        kernel = torch.einsum("oi,fyx->ofiyx", mixed, filters).reshape(9, 3, 5, 5)
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "pixels":
            return x
        # In full precision: residuals are small differences of large numbers.
        with torch.autocast(x.device.type, enabled=False):
            padded = functional.pad(x.float(), (2, 2, 2, 2), mode="reflect")
            residual = torch.tanh(functional.conv2d(padded, self.kernel))
        return torch.cat([x.float(), residual], dim=1) if self.kind == "both" else residual
