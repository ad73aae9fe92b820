"""What a descent makes small: the loss of a recipe, with the layers that only the loss looks through.

These layers are thrown away after training; the head that judges is fitted later, on frozen embeddings.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from assay.errors import RecipeError
from assay.learn.batches import TEACHER, Batch
from assay.learn.nn.losses import code_loss
from assay.learn.nn.supcon import sup_con
from assay.learn.recipe import CrossEntropy, InfoNCE, SupCon
from assay.types import Label

Embeddings = Mapping[str, Tensor]
"""Of each view, (2 * pairs, dim): the reals first."""


class Objective(Protocol):
    """A loss of a batch."""

    def __call__(self, embeddings: Embeddings, batch: Batch, chance: torch.Generator) -> Tensor:
        """The loss, a scalar; `chance` is all its randomness."""


class CoDE(nn.Module):
    """CoDE's loss, and a cross-entropy of all views through a linear layer where the recipe asks for one."""

    def __init__(self, loss: InfoNCE, dim: int) -> None:
        super().__init__()
        self.loss = loss
        self.layer = nn.Linear(dim, 1)

    def forward(self, embeddings: Embeddings, batch: Batch, chance: torch.Generator) -> Tensor:
        terms = []
        if self.loss.contrastive:
            terms.append(self.loss.contrastive * self._contrastive(embeddings, chance))
        if self.loss.bce:
            logits = [self.layer(x)[:, 0] for x in embeddings.values()]
            terms.append(self.loss.bce * cross_entropy(logits, truth(logits[0])))
        return torch.stack(terms).sum()

    def _contrastive(self, embeddings: Embeddings, chance: torch.Generator) -> Tensor:
        pairs = len(embeddings["clean"]) // 2
        shuffle = (torch.randperm(pairs, generator=chance), torch.randperm(pairs, generator=chance))
        return code_loss(
            {name: x[:pairs] for name, x in embeddings.items()},
            {name: x[pairs:] for name, x in embeddings.items()},
            temperature=self.loss.temperature,
            multi_scale=self.loss.multi_scale,
            halves=self.loss.halves,
            shuffle=shuffle,
        )


class Projected(nn.Module):
    """The supervised contrastive loss of all views, on projections of their embeddings."""

    def __init__(self, loss: SupCon, dim: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width, following in itertools.pairwise((dim, *loss.projection)):
            layers += [nn.Linear(width, following), *([nn.BatchNorm1d(following)] if loss.norm else []), nn.ReLU()]
        self.loss = loss
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, embeddings: Embeddings, batch: Batch, chance: torch.Generator) -> Tensor:
        projections = self.layers(torch.cat(list(embeddings.values())))
        views = len(embeddings)
        methods = torch.from_numpy(batch.methods).to(projections.device).repeat(views)
        return sup_con(
            projections,
            truth(next(iter(embeddings.values()))).repeat(views),
            temperature=self.loss.temperature,
            focal=self.loss.focal,
            methods=methods if self.loss.unified else None,
        )


class Classified(nn.Module):
    """A cross-entropy of all views with the label, with a teacher's P(fake), or with something between; a picture
    weighs what its class does."""

    def __init__(self, loss: CrossEntropy, dim: int) -> None:
        super().__init__()
        self.loss = loss
        self.layer = nn.Linear(dim, 1)

    def forward(self, embeddings: Embeddings, batch: Batch, chance: torch.Generator) -> Tensor:
        logits = [self.layer(x)[:, 0] for x in embeddings.values()]
        known = torch.from_numpy(batch.labels).to(logits[0])
        target = known
        if self.loss.teacher:
            taught = torch.from_numpy(batch.teacher).to(target)
            if bool(taught.isnan().any()):
                raise RecipeError(
                    f"descend.loss.teacher asks for the manifest's column {TEACHER}, and a picture has none; make it "
                    "with assay distill, or set descend.loss.teacher to 0"
                )
            target = (1 - self.loss.teacher) * target + self.loss.teacher * taught
        weights = None
        if self.loss.weights:
            real, fake = self.loss.weights.get("real", 1.0), self.loss.weights.get("fake", 1.0)
            weights = torch.where(known == Label.FAKE, fake, real)
        return cross_entropy(logits, target, self.loss.focal, weights)


def objective(loss: InfoNCE | SupCon | CrossEntropy, dim: int) -> nn.Module:
    """A recipe's loss for embeddings of length `dim`; see `Objective`."""
    match loss:
        case InfoNCE():
            return CoDE(loss, dim)
        case SupCon():
            return Projected(loss, dim)
        case CrossEntropy():
            return Classified(loss, dim)


def truth(rows: Tensor) -> Tensor:
    """Labels of a batch, (n,): its first half is real."""
    return (torch.arange(len(rows), device=rows.device) >= len(rows) // 2).float()


def cross_entropy(logits: list[Tensor], target: Tensor, focal: float = 0.0, weights: Tensor | None = None) -> Tensor:
    """The mean over views of the binary cross-entropy with P(fake) `target`, (n,); with the focal weight
    (1 - p) ** `focal` of Lin et al. (ICCV 2017, equation 4), p the probability given to the target, where it is not 0.

    Args:
        weights: of each picture, (n,), > 0: the mean is weighted by them. None weighs all alike.
    """
    views = torch.stack(logits)
    wanted = target.expand(len(logits), -1)
    losses = functional.binary_cross_entropy_with_logits(views, wanted, reduction="none")
    if focal:
        given = views.sigmoid()
        right = given * wanted + (1 - given) * (1 - wanted)
        losses = (1 - right) ** focal * losses
    if weights is None:
        return losses.mean()
    return (losses * weights).sum() / (weights.sum() * len(logits))
