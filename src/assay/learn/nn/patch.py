"""A network that sees small patches alone, and takes the mean of what it finds in them."""

from __future__ import annotations

from torch import nn

from assay.errors import RecipeError
from assay.learn.nn.trace import LEAST, Block, Convolutional, conv


class PatchCNN(Convolutional):
    """Each place of its feature map, a quarter of the input's side, has seen 17 × 17 px of the input and no more.

    Subjects do not fit into so little, so that a network of this kind has to go by texture and traces. Bounded fields:
    Brendel and Bethge, "Approximating CNNs with Bag-of-local-Features models works surprisingly well on ImageNet",
    ICLR 2019; for generated pictures: Cavia et al., "Real-Time Deepfake Detection in the Real-World", 2024 (LaDeDa).
    Widths and layers are *ours*.

    Args:
        in_chans: input channels.
        widths: channels of two convolutions, of a residual block over 3 × 3 and of one over single places; the second
            and the third halve the picture. Each `LEAST` or more.

    Raises:
        RecipeError: a stage is narrower, or there are not four.
    """

    def __init__(self, in_chans: int = 3, widths: tuple[int, ...] = (16, 32, 64, 96), drop_rate: float = 0.0) -> None:
        super().__init__()
        if len(widths) != 4 or min(widths) < LEAST:
            raise RecipeError(f"patch_cnn has four widths of {LEAST} or more, not {list(widths)}")
        first, second, third, last = widths
        self.num_features = last
        self.body = nn.Sequential(
            conv(in_chans, first, 1),
            nn.ReLU(inplace=True),
            conv(first, second, 2),
            nn.ReLU(inplace=True),
            Block(second, third, stride=2),
            Block(third, last, stride=1, side=1),
        )
        self.drop = nn.Dropout(drop_rate)
