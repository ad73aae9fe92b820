"""A small residual network for generator traces."""

from __future__ import annotations

from torch import Tensor, nn

from assay.errors import RecipeError

LEAST = 8
"""Channels of the narrowest stage. On a CPU torch 2.15 writes past its memory when it goes back through a 1 × 1
convolution of stride 2 from 2 to 7 channels that lie last, as training has them, and the process dies."""


class Convolutional(nn.Module):
    """A network whose embedding is the mean of its last map over places."""

    body: nn.Module
    drop: nn.Module
    num_features: int

    def forward_features(self, x: Tensor) -> Tensor:
        """(n, in_chans, h, w) to (n, num_features, rows, columns)."""
        features: Tensor = self.body(x)
        return features

    def forward_head(self, features: Tensor, pre_logits: bool = True) -> Tensor:
        """(n, num_features, rows, columns) to (n, num_features)."""
        pooled: Tensor = self.drop(features.mean(dim=(2, 3)))
        return pooled


class TraceCNN(Convolutional):
    """Plain 3 × 3 residual blocks, no pooling before the end; the feature map is 1/16 of the input.

    Dense convolutions are what CPUs run fastest. The finest details, where traces of a generator sit, reach the
    network through the residual front, so that the first convolution can afford to halve the picture.

    Args:
        in_chans: input channels.
        widths: channels of the first convolution, which halves the picture, and of each further halving stage; each
            `LEAST` or more.
        blocks: residual blocks in each of those stages.

    Raises:
        RecipeError: a stage is narrower.
    """

    def __init__(
        self,
        in_chans: int = 3,
        widths: tuple[int, ...] = (32, 64, 128, 192),
        blocks: tuple[int, ...] = (1, 2, 1),
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if min(widths) < LEAST:
            raise RecipeError(f"trace_cnn cannot be {min(widths)} channels wide; give widths of {LEAST} or more")
        self.num_features = widths[-1]
        layers: list[nn.Module] = [conv(in_chans, widths[0], 2), nn.ReLU(inplace=True)]
        for before, width, count in zip(widths, widths[1:], blocks, strict=False):
            layers.append(Block(before, width, stride=2))
            layers.extend(Block(width, width, stride=1) for _ in range(count - 1))
        self.body = nn.Sequential(*layers)
        self.drop = nn.Dropout(drop_rate)


class Block(nn.Module):
    """Two convolutions beside a shortcut; `side` is that of their kernels."""

    def __init__(self, before: int, width: int, stride: int, side: int = 3) -> None:
        super().__init__()
        self.first = conv(before, width, stride, side)
        self.second = conv(width, width, 1, side)
        self.skip = conv(before, width, stride, side=1) if stride > 1 or before != width else nn.Identity()
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.second(self.act(self.first(x))) + self.skip(x))
        return out


def conv(before: int, width: int, stride: int, side: int = 3) -> nn.Sequential:
    """A convolution and its batch normalisation."""
    return nn.Sequential(
        nn.Conv2d(before, width, side, stride, padding=side // 2, bias=False),
        nn.BatchNorm2d(width),
    )
