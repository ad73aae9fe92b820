"""GenConViT: a ConvNeXt and a Swin transformer that look at a picture and at what an autoencoder makes of it.

*Paper*: Wodajo, Lambert and Atnafu, "Generative Convolutional Vision Transformer" (arXiv 2307.07036), which the
masked-eye study (arXiv 2410.05466) trains. Net A draws the picture again with an autoencoder, net B with a variational
one; a ConvNeXt-Swin hybrid gives 1,000 numbers of the picture and 1,000 of the drawing, and layers of 2000 → 500 → 2
judge the two together.

*Release* (erprogs/GenConViT@0061425d401d, model/genconvit_ed.py and genconvit_vae.py): widths, kernels and activations
below are its own, names of parameters too, so that its weights fit (`assay.learn.released.genconvit`). Three things in
it are not what the paper means, and are otherwise here:

- The Swin half is dead: it is hung where ConvNeXt never looks. *Ours*: each half gives its 1,000 numbers and their mean
  goes on, so that both learn, both are used, and weights pre-trained for either fit as they are. `halves` leaves one
  out; ("convnext",) is what the release computes.
- Its spread around the latent's mean is taken from the mean's own layer. Here it is taken from the layer that is made
  for it, as a variational autoencoder does, and a picture is judged by the mean: its score does not depend on chance.
- The variational drawing is half as large as the picture, and ConvNeXt looks at it so. Swin takes one size; here it is
  resized first.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from assay.errors import RecipeError

Kind = Literal["autoencoder", "variational"]

REDUCTION = 32
"""Pixels of a picture for one of the smallest map that an autoencoder has."""

HALVES = ("convnext", "swin")

CONVNEXT, SWIN = "convnext_tiny", "swin_tiny_patch4_window7_224"


class Autoencoder(nn.Module):
    """Net A's: five convolutions with pooling, five transposed ones. (n, c, s, s) to a drawing of the same shape.

    As in the release it ends in a rectifier, so that of a normalised picture what is darker than the mean is not drawn.
    """

    def __init__(self, channels: int, widths: Sequence[int] = (16, 32, 64, 128, 256)) -> None:
        super().__init__()
        down: list[nn.Module] = []
        for before, width in itertools.pairwise((channels, *widths)):
            down += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
        self.encoder = _Features(down)
        self.decoder = _Features(_drawn((*reversed(widths), channels), lambda: nn.ReLU(inplace=True)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """The drawing, and no divergence."""
        return self.decoder(self.encoder(x)), None


class Variational(nn.Module):
    """Net B's: four convolutions that halve the picture, a latent with a mean and a spread, four transposed ones.

    Args:
        channels: of a picture.
        size: side of a picture in px, a multiple of 32.
        widths: of the convolutions.
        latent: channels of the latent, which has (size / 32)² places: 256 and 224 px give 12,544 numbers (*release*).
    """

    def __init__(self, channels: int, size: int, widths: Sequence[int] = (16, 32, 64, 128), latent: int = 256) -> None:
        super().__init__()
        down: list[nn.Module] = []
        for before, width in itertools.pairwise((channels, *widths)):
            down += [nn.Conv2d(before, width, 3, 2, padding=1), nn.BatchNorm2d(width), nn.LeakyReLU()]
        side = size // REDUCTION
        self.shape = (latent, side, side)
        self.encoder = _Encoder(down, widths[-1] * (2 * side) ** 2, latent * side**2)
        self.decoder = _Features(_drawn((latent, *reversed(widths[:-1]), channels), nn.LeakyReLU))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """The drawing, half as large as the picture, and the latent's divergence from a standard normal: the mean over
        pictures of the sum over its numbers (Kingma and Welling, ICLR 2014, appendix B)."""
        seen = self.encoder(x).flatten(1)
        mean: Tensor = self.encoder.mu(seen)
        spread: Tensor = self.encoder.var(seen)
        latent = mean
        if self.training:
            latent = mean + torch.randn_like(mean) * torch.exp(0.5 * spread)
        mean, spread = mean.float(), spread.float()
        divergence = 0.5 * (mean**2 + spread.exp() - 1 - spread).sum(dim=1).mean()
        return self.decoder(latent.reshape(-1, *self.shape)), divergence


class GenConViT(nn.Module):
    """One of the two nets, up to the layer that judges: (n, in_chans, size, size) to (n, hidden).

    Args:
        in_chans: input channels.
        size: side of a picture in px, a multiple of 32.
        net: "autoencoder" (net A) or "variational" (net B).
        halves: of the hybrid: "convnext", "swin" or both.
        convnext, swin: timm's names of the two.
        convnext_fields, swin_fields: further keyword arguments of their constructors.
        features: numbers that each half gives of a picture.
        hidden: numbers that the layer over both pictures gives.
        widths, latent: of the autoencoder; None keeps the release's.
        drop_rate: of the hidden numbers, in training.
        pretrained: the halves begin with timm's weights from its hub (asks the network).

    Attributes:
        penalties: of the last forward pass in training, 0 before: "reconstruction", the mean squared difference of
            drawing and picture, and "kl", the latent's divergence (net B).

    Raises:
        RecipeError: a size or a choice that does not hold.
    """

    def __init__(
        self,
        in_chans: int = 3,
        size: int = 224,
        *,
        net: Kind = "autoencoder",
        halves: Sequence[str] = HALVES,
        convnext: str = CONVNEXT,
        swin: str = SWIN,
        convnext_fields: Mapping[str, Any] | None = None,
        swin_fields: Mapping[str, Any] | None = None,
        features: int = 1000,
        hidden: int = 500,
        widths: Sequence[int] | None = None,
        latent: int = 256,
        drop_rate: float = 0.0,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        if size % REDUCTION:
            raise RecipeError(f"GenConViT takes no views of {size} px: their side must be a multiple of {REDUCTION}")
        if not halves or set(halves) - set(HALVES):
            raise RecipeError(f"halves {tuple(halves)} do not hold; give convnext, swin or both")
        drawn = {} if widths is None else {"widths": tuple(widths)}
        if net == "autoencoder":
            made: nn.Module = Autoencoder(in_chans, **drawn)
        elif net == "variational":
            made = Variational(in_chans, size, **drawn, latent=latent)
        else:
            raise RecipeError(f"net {net!r} does not exist; give autoencoder or variational")
        self.generator = made
        common: dict[str, Any] = {"in_chans": in_chans, "num_classes": features, "pretrained": pretrained}
        # As modules even where there is one half, so that parameters have one name.
        if "convnext" in halves:
            self.convnext: Any = timm.create_model(convnext, **common, **(convnext_fields or {}))
        if "swin" in halves:
            fields = {"img_size": size, **(swin_fields or {})}
            self.swin: Any = timm.create_model(swin, **common, **fields)
        self.halves = tuple(half for half in HALVES if half in halves)
        self.fc = nn.Linear(2 * features, hidden)
        # *Release*: the one net has this, the other that.
        self.act: nn.Module = nn.GELU() if net == "autoencoder" else nn.ReLU()
        self.drop = nn.Dropout(drop_rate)
        self.num_features = hidden
        asked = ("reconstruction",) if net == "autoencoder" else ("reconstruction", "kl")
        self.penalties = {name: torch.zeros(()) for name in asked}

    def forward_features(self, x: Tensor) -> Tensor:
        """Maps of drawing and picture by each half, one after another: (n, c, h, w)."""
        drawing, divergence = self.generator(x)
        if drawing.shape[-1] != x.shape[-1]:
            drawing = functional.interpolate(drawing, size=x.shape[-2:], mode="bilinear", align_corners=False)
        if self.training:
            self.penalties = {"reconstruction": functional.mse_loss(drawing.float(), x.float())}
            if divergence is not None:
                self.penalties["kl"] = divergence
        both = self._maps(torch.cat([drawing, x]))
        # Not in two chunks: an export would take their size for a fixed one.
        return torch.cat([both[: x.shape[0]], both[x.shape[0] :]], dim=1)

    def forward_head(self, features: Tensor, pre_logits: bool = True) -> Tensor:
        """Maps to what the judging layer sees, (n, hidden)."""
        numbers = [self._numbers(part) for part in features.chunk(2, dim=1)]
        hidden: Tensor = self.drop(self.act(self.fc(self.act(torch.cat(numbers, dim=1)))))
        return hidden

    def no_weight_decay(self) -> set[str]:
        """Parameters that the halves ask to be spared weight decay."""
        return {
            f"{half}.{name}"
            for half in self.halves
            for name in getattr(self.get_submodule(half), "no_weight_decay", set)()
        }

    def _maps(self, x: Tensor) -> Tensor:
        maps = []
        if "convnext" in self.halves:
            maps.append(self.convnext.forward_features(x))
        if "swin" in self.halves:
            maps.append(self.swin.forward_features(x).permute(0, 3, 1, 2))
        if len({each.shape[-2:] for each in maps}) > 1:
            raise RecipeError(
                f"the halves' maps are {' and '.join(str(tuple(each.shape[-2:])) for each in maps)}; give both as many "
                "stages"
            )
        return torch.cat(maps, dim=1)

    def _numbers(self, maps: Tensor) -> Tensor:
        """What the halves say of one picture, their mean: (n, features)."""
        said, start = [], 0
        for half in self.halves:
            network: Any = self.get_submodule(half)
            own = maps[:, start : start + network.num_features]
            start += network.num_features
            said.append(network.forward_head(own if half == "convnext" else own.permute(0, 2, 3, 1)))
        return torch.stack(said).mean(dim=0)


class _Features(nn.Module):
    """Layers under the name that the release gives them."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.features = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.features(x)
        return out


class _Encoder(_Features):
    """The same with a latent's mean and the logarithm of its variance beside it."""

    def __init__(self, layers: Sequence[nn.Module], seen: int, latent: int) -> None:
        super().__init__(layers)
        self.mu = nn.Linear(seen, latent)
        self.var = nn.Linear(seen, latent)


def _drawn(widths: Sequence[int], act: Any) -> list[nn.Module]:
    """Transposed convolutions that each double a map's side."""
    layers: list[nn.Module] = []
    for before, width in itertools.pairwise(widths):
        layers += [nn.ConvTranspose2d(before, width, 2, stride=2), act()]
    return layers
