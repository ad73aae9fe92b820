"""A bundle as a torch module: samples of pictures in, P(fake) out, with gradients.

A trunk's judging graph is turned into torch's layers as it stands (onnx2pytorch, extra "attack"). Building the network
of the card's recipe again would not do: the exporter has folded its norms into convolutions and renamed what it
transposed, and not every bundle has a recipe.

What a mirror gives differs from the detector's scores by the last bits of float32, by their rounding to six digits,
and, where a view resizes, by Pillow's rounding to whole levels. It was tried on the CPU alone.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn
from torch.nn import functional

from assay.errors import AssayError, BundleError, MissingExtra
from assay.image.cut import cut
from assay.image.view import View
from assay.judge.bundle import Bundle
from assay.judge.heads import Head, LinearHead, MLPHead
from assay.judge.rule import Pool
from assay.judge.vote import HALF, Method

VOTES: tuple[Method, ...] = ("mean", "plain_mean")
"""The votes that have a gradient; the others count."""

COUNTING = ("ScatterElements", "ScatterND")
"""What a graph counts by. Whole numbers go in, so that no gradient comes out; one of the rest alone would mislead."""

_EDGE = 1e-15
"""A vote's P(fake) so near to 0 or 1 has the log-odds of this one: float64 ends soon after."""


class Mirror(nn.Module):
    """The streams of a bundle that judge, from samples to their vote. Its parameters hold still.

    forward: pictures of one size, (n, 3, height, width) float32 in [0, 1], to P(fake), (n,) float64.

    Args:
        bundle: as read.
        head, vote: as of `assay.load`.

    Attributes:
        streams: names of the streams that judge.

    Raises:
        AssayError: kind "no_gradient": a trunk, a head, a view or the vote has none here; the message says which.
        BundleError: kind "unknown": it has no such head or rule; "invalid": a graph makes no torch module.
        MissingExtra: onnx2pytorch is not installed.
    """

    def __init__(self, bundle: Bundle, *, head: str | None = None, vote: str | None = None) -> None:
        super().__init__()
        rules = bundle.chosen(head, vote)
        self._ensemble = rules.ensemble
        cards = [card for card in bundle.card.streams if card.name in rules.streams]
        self.streams = tuple(card.name for card in cards)
        self._rules = tuple(rules.streams[name] for name in self.streams)
        self._parts = tuple(slice(*card.part) if card.part else slice(None) for card in cards)
        if self._ensemble.method not in VOTES:
            raise AssayError(
                f"{bundle.card.name}: the vote {self._ensemble.method!r} counts, so it has no gradient; "
                f"ask for one of {', '.join(VOTES)}, or for one stream",
                kind="no_gradient",
            )
        # Streams with one trunk and an equal view share a run of it, as in the detector.
        runs = list(dict.fromkeys((card.trunk, card.view) for card in cards))
        self._runs = tuple(runs.index((card.trunk, card.view)) for card in cards)
        self._shown = tuple(view for _, view in runs)
        self.views = nn.ModuleList(Views(view) for _, view in runs)
        self.heads = nn.ModuleList(layers(bundle.heads[name], name) for name in self.streams)
        made = {stem: trunk(bundle.folder, stem) for stem in dict.fromkeys(stem for stem, _ in runs)}
        self.trunks = nn.ModuleList(made[stem] for stem, _ in runs)
        self.requires_grad_(False).eval()

    def forward(self, pictures: Tensor) -> Tensor:
        return self.log_odds(pictures).sigmoid()

    def log_odds(self, pictures: Tensor) -> Tensor:
        """ln(P / (1 − P)) of P(fake), (n,) float64: its gradient does not fade where P nears 0 or 1.

        Raises:
            ValueError: no stream applies to pictures of this size.
        """
        height, width = pictures.shape[2], pictures.shape[3]
        reasons = [view.why_not(width, height) for view in self._shown]
        embeddings = [None if reason else self._embedded(run, pictures) for run, reason in enumerate(reasons)]
        plain, calibrated = [], []
        for run, part, head, rule in zip(self._runs, self._parts, self.heads, self._rules, strict=True):
            embedding = embeddings[run]
            if embedding is not None:
                raw = pooled(head(embedding[..., part].double()).squeeze(-1), rule.pool)
                plain.append(raw)
                calibrated.append(rule.slope * raw + rule.offset)
        if not calibrated:
            raise ValueError(f"no stream applies: {'; '.join(dict.fromkeys(reasons))}")
        slope, given = self._ensemble.slope, plain if self._ensemble.method == "plain_mean" else calibrated
        if len(calibrated) == 1 < len(self.streams):
            # A stream that judges alone where several vote keeps its score.
            slope, given = None, calibrated
        if len(given) == 1 and slope is None:
            return given[0]
        value = torch.stack(given).sigmoid().mean(dim=0)
        return torch.logit(value, _EDGE) if slope is None else slope * (value - HALF)

    def _embedded(self, run: int, pictures: Tensor) -> Tensor:
        """Embeddings of all crops, (n, crops, d) float32."""
        crops = self.views[run](pictures)
        embedding: Tensor = self.trunks[run](crops.flatten(0, 1))
        return embedding.reshape(*crops.shape[:2], -1)


class Views(nn.Module):
    """A view's crops, normalised: pictures (n, 3, height, width) in [0, 1] to (n, crops, 3, size, size).

    Raises:
        AssayError: kind "no_gradient": the view is of faces, and where these lie has none.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, view: View) -> None:
        super().__init__()
        if view.layout == "faces":
            raise AssayError(
                "a view of faces has no gradient: where they lie changes in leaps; ask for a stream without",
                kind="no_gradient",
            )
        self.view = view
        mean, std = torch.tensor(view.mean), torch.tensor(view.std)
        self.register_buffer("scale", (1 / std)[:, None, None], persistent=False)
        self.register_buffer("shift", (mean / std)[:, None, None], persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        crops = self._resized(pictures)[:, None] if self.view.resized else self._cut(pictures)
        return crops * self.scale - self.shift

    def _resized(self, pictures: Tensor) -> Tensor:
        size = (self.view.size, self.view.size)
        if pictures.shape[2:] == size:
            return pictures
        # With antialiasing torch's bicubic kernel is Pillow's; without, it is another one.
        resized = functional.interpolate(pictures, size, mode="bicubic", antialias=True, align_corners=False)
        return resized.clamp(0, 1)

    def _cut(self, pictures: Tensor) -> Tensor:
        height, width = pictures.shape[2:]
        # Cut from a picture of the places of pixels, so that there is one way to cut and to mirror.
        places: Any = np.arange(height * width).reshape(height, width, 1)
        crops = np.stack([cut(places, box) for box in self.view.boxes(width, height)])
        index = torch.from_numpy(crops.ravel()).to(pictures.device)
        taken = pictures.flatten(2).index_select(2, index)
        return taken.reshape(*pictures.shape[:2], *crops.shape[:3]).transpose(1, 2)


def trunk(folder: str | os.PathLike[str], stem: str) -> nn.Module:
    """A bundle's trunk: views (n, 3, size, size) float32 to embeddings (n, d) float32, as `Engine.run` gives them.

    Args:
        folder: a bundle's folder whose hashes have been checked (see `bundle.read`).
        stem: the trunk.

    Raises:
        AssayError: kind "no_gradient": it counts.
        BundleError: kind "invalid": the graph can't be read, or torch has no layer for a part of it.
        MissingExtra: onnx2pytorch is not installed.
    """
    try:
        import onnx2pytorch  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingExtra("a detector as a torch module", "attack") from error
    graph = Path(folder) / f"{stem}.judge.onnx"
    # The two libraries' errors share no root but Exception.
    try:
        model = onnx.load(graph)
        if any(node.op_type in COUNTING for node in model.graph.node):
            raise AssayError(f"{graph.name} counts, so that nothing of it has a gradient", kind="no_gradient")
        _fold(model)
        made = Converted(onnx2pytorch.ConvertModel(model))
    except AssayError:
        raise
    except Exception as error:
        raise BundleError(f"{graph.name} can't be made a torch module: {error}", kind="invalid") from error
    return made.requires_grad_(False).eval()


class Converted(nn.Module):
    """A graph made a module, without its library's warnings of how it indexes."""

    def __init__(self, graph: nn.Module) -> None:
        super().__init__()
        self.graph = graph

    def forward(self, views: Tensor) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            embedding: Tensor = self.graph(views)
        return embedding


def _fold(model: onnx.ModelProto) -> None:
    """Make weights of what follows from weights alone, such as those that are stored narrow and widened: layers are
    made of weights, not of what comes out of a node."""
    known = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    kept, found = [], []
    for node in model.graph.node:
        if node.input and all(name in known for name in node.input):
            values = ReferenceEvaluator(node).run(None, {name: known[name] for name in node.input})
            known |= dict(zip(node.output, values, strict=True))
            found += node.output
        else:
            kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    used = {name for node in kept for name in node.input}
    model.graph.initializer.extend(numpy_helper.from_array(known[name], name) for name in found if name in used)
    weights = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(weights)


def layers(head: Head, name: str) -> nn.Sequential:
    """A head's layers, in float64: embeddings (…, d) to raw scores (…, 1).

    Args:
        name: of its stream, for the message.

    Raises:
        AssayError: kind "no_gradient": the head is neither linear nor a perceptron.
    """
    if isinstance(head, LinearHead):
        parts = [(head.weights[:, None], np.array([head.bias]))]
    elif isinstance(head, MLPHead):
        parts = list(zip(head.weights, head.biases, strict=True))
    else:
        raise AssayError(
            f"the stream {name} has a head of kind {head.kind!r}, which has no gradient here; "
            "ask for a linear head or a perceptron (mlp)",
            kind="no_gradient",
        )
    made: list[nn.Module] = []
    for weights, biases in parts:
        affine = nn.Linear(weights.shape[0], weights.shape[1], dtype=torch.float64)
        with torch.no_grad():
            affine.weight.copy_(torch.from_numpy(weights.T))
            affine.bias.copy_(torch.from_numpy(biases))
        made += [nn.ReLU(), affine] if made else [affine]
    return nn.Sequential(*made)


def pooled(raws: Tensor, how: Pool) -> Tensor:
    """Raw scores of crops, (n, crops), to one a picture, (n,): `assay.judge.rule.pool`, with a gradient."""
    values = raws.sort(dim=1).values
    count = values.shape[1]
    parts: dict[Pool, Sequence[int]] = {
        "mean": (0, count),
        "median": ((count - 1) // 2, count // 2 + 1),
        "top": (count - math.ceil(count / 3), count),
        "max": (count - 1, count),
    }
    start, stop = parts[how]
    return values[:, start:stop].mean(dim=1)
