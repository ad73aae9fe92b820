"""From what a network gives to a stream's embedding: the streams' own parts of "drift" (arXiv 2604.25889)."""

from __future__ import annotations

import itertools

from torch import Tensor, nn
from torch.nn import functional

from assay.learn.recipe import Conv, Neck, Pooled, Projection, Text
from assay.learn.text import embeddings


class NeckModule(nn.Module):
    """A neck, called as neck(features (n, channels, h, w), embedding (n, d)): (n, width)."""

    width: int


class Pass(NeckModule):
    """The network's own embedding."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, features: Tensor, embedding: Tensor) -> Tensor:
        return embedding


class ConvNeck(NeckModule):
    """3 x 3 convolutions over the feature map, (n, channels, h, w), and the mean over places: (n, width)."""

    def __init__(self, neck: Conv, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, width in itertools.pairwise((channels, *neck.widths)):
            layers += [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.drop = nn.Dropout(neck.dropout)
        self.width = neck.widths[-1]

    def forward(self, features: Tensor, embedding: Tensor) -> Tensor:
        pooled: Tensor = self.drop(self.body(features).mean(dim=(2, 3)))
        return pooled


class TextNeck(NeckModule):
    """Texts that attend to one another and to the places of the feature map, (n, channels, h, w).

    Gives (n, texts · width).
    """

    text: Tensor

    def __init__(self, neck: Text, channels: int) -> None:
        super().__init__()
        self.register_buffer("text", embeddings(neck.prompts, neck.weights))
        self.ask = nn.Linear(self.text.shape[1], neck.width)
        self.tell = nn.Linear(channels, neck.width)
        self.blocks = nn.ModuleList(_Block(neck) for _ in range(neck.depth))
        self.norm = nn.LayerNorm(neck.width)
        self.width = neck.width * len(neck.prompts)

    def forward(self, features: Tensor, embedding: Tensor) -> Tensor:
        places = self.tell(features.flatten(2).transpose(1, 2))
        texts = self.ask(self.text).expand(features.shape[0], -1, -1)
        for block in self.blocks:
            texts = block(texts, places)
        told: Tensor = self.norm(texts).flatten(1)
        return told


class _Block(nn.Module):
    """Attention among texts, then to places, then a perceptron; each after a norm and beside the identity."""

    def __init__(self, neck: Text) -> None:
        super().__init__()
        width = neck.width
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.among, self.across = _Attention(width, neck.heads), _Attention(width, neck.heads)
        self.perceptron = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.drop = nn.Dropout(neck.dropout)

    def forward(self, texts: Tensor, places: Tensor) -> Tensor:
        own = self.norms[0](texts)
        texts = texts + self.drop(self.among(own, own))
        texts = texts + self.drop(self.across(self.norms[1](texts), places))
        out: Tensor = texts + self.drop(self.perceptron(self.norms[2](texts)))
        return out


class _Attention(nn.Module):
    """Attention of (n, q, width) to (n, k, width), over several heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, asking: Tensor, asked: Tensor) -> Tensor:
        query, key, value = (
            layer(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer, x in ((self.query, asking), (self.key, asked), (self.value, asked))
        )
        found = functional.scaled_dot_product_attention(query, key, value)
        mixed: Tensor = self.out(found.transpose(1, 2).flatten(2))
        return mixed


class ProjectionNeck(NeckModule):
    """Layers over the embedding, (n, width), each with a rectifier."""

    def __init__(self, neck: Projection, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, following in itertools.pairwise((width, *neck.widths)):
            layers += [nn.Dropout(neck.dropout), nn.Linear(before, following), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.width = neck.widths[-1]

    def forward(self, features: Tensor, embedding: Tensor) -> Tensor:
        projected: Tensor = self.body(embedding)
        return projected


def build(neck: Neck, channels: int, width: int) -> NeckModule:
    """A recipe's neck, over features of `channels` and an embedding of `width` numbers.

    Raises:
        RecipeError: its texts cannot be embedded.
    """
    match neck:
        case Pooled():
            return Pass(width)
        case Conv():
            return ConvNeck(neck, channels)
        case Text():
            return TextNeck(neck, channels)
        case Projection():
            return ProjectionNeck(neck, width)
