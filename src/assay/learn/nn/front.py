"""What a network is shown: pixels, or what is left of them when their neighbours' prediction is taken away."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

# Three residual filters of the spatial rich model (Fridrich & Kodovský, IEEE TIFS 2012): first order (horizontal +
# vertical), second order "square 3×3", and third order "square 5×5", each scaled to respond to noise alike.
_FIRST = [[0, 0, 0, 0, 0], [0, 0, -1, 0, 0], [0, -1, 4, -1, 0], [0, 0, -1, 0, 0], [0, 0, 0, 0, 0]]
_SECOND = [[0, 0, 0, 0, 0], [0, -1, 2, -1, 0], [0, 2, -4, 2, 0], [0, -1, 2, -1, 0], [0, 0, 0, 0, 0]]
_THIRD = [[-1, 2, -2, 2, -1], [2, -6, 8, -6, 2], [-2, 8, -12, 8, -2], [2, -6, 8, -6, 2], [-1, 2, -2, 2, -1]]
_NORMS = (4.0, 4.0, 12.0)


class Front(nn.Module):
    """Maps a normalised picture (n, 3, h, w) to the network's input (n, channels, h, w).

    "pixels" passes it on. "residual" applies three fixed high-pass filters to each channel, magnifies the residual and
    bounds it with tanh, so that edges do not drown the noise: 9 channels. "both" stacks the two: 12.
    """

    kernel: Tensor

    def __init__(self, kind: str, gain: float = 8.0) -> None:
        super().__init__()
        self.kind = kind
        self.gain = gain
        self.channels = {"pixels": 3, "residual": 9, "both": 12}[kind]
        filters = torch.tensor([_FIRST, _SECOND, _THIRD], dtype=torch.float32)
        filters = filters / torch.tensor(_NORMS)[:, None, None]
        # Written as one dense convolution, zero across channels: CPUs run that several times faster than grouped ones.
        kernel = torch.zeros(9, 3, 5, 5)
        for channel in range(3):
            kernel[3 * channel : 3 * channel + 3, channel] = filters
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "pixels":
            return x
        # In full precision: residuals are small differences of large numbers.
        with torch.autocast(x.device.type, enabled=False):
            padded = functional.pad(x.float(), (2, 2, 2, 2), mode="reflect")
            residual = torch.tanh(self.gain * functional.conv2d(padded, self.kernel))
        return residual if self.kind == "residual" else torch.cat([x.float(), residual], dim=1)
