"""The supervised contrastive loss: pytorch-metric-learning's numbers, and loops written from the formula."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from pytorch_metric_learning.losses import SupConLoss
from torch import Tensor

from assay.learn.nn.supcon import sup_con

Floats = npt.NDArray[np.float64]


def drawn(rows: int, width: int = 16, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Projections of any length that lean towards their class, and labels: the first half real."""
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.arange(rows) >= rows // 2).float()
    centres = torch.randn(2, width, generator=generator)
    lengths = 0.1 + 5 * torch.rand(rows, 1, generator=generator)
    return lengths * (torch.randn(rows, width, generator=generator) + centres[labels.long()]), labels


def methods_of(labels: Tensor, kinds: int) -> Tensor:
    """-1 for reals; fakes by `kinds` methods in turn."""
    return torch.where(labels > 0, torch.arange(len(labels)) % kinds, -1)


def looped(
    projections: Tensor, labels: Tensor, temperature: float, focal: float = 0.0, methods: Tensor | None = None
) -> float:
    """The formula, row by row."""
    z = projections.detach().numpy().astype(np.float64)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    rows, terms = range(len(z)), []
    for i in rows:
        own = [j for j in rows if methods is not None and methods[i] >= 0 and methods[j] == methods[i]]
        others = [j for j in rows if j != i and j not in own]
        positives = [j for j in others if labels[j] == labels[i]]
        if not positives:
            continue
        whole = sum(math.exp(z[i] @ z[a] / temperature) for a in others)
        shares = [math.exp(z[i] @ z[p] / temperature) / whole for p in positives]
        terms.append((1 - sum(shares)) ** focal * -sum(math.log(share) for share in shares) / len(shares))
    return float(np.mean(terms)) if terms else 0.0


def gradient(projections: Tensor, labels: Tensor, loss: Any = sup_con, **settings: Any) -> Tensor:
    rows = projections.clone().requires_grad_()
    loss(rows, labels, **settings).backward()
    assert rows.grad is not None
    return rows.grad


@pytest.mark.parametrize("rows", [4, 10, 64, 192])
@pytest.mark.parametrize("temperature", [0.07, 0.1, 0.5, 1.0])
def test_loss_and_gradient_are_those_of_pytorch_metric_learning(rows: int, temperature: float) -> None:
    for seed in range(3):
        projections, labels = drawn(rows, seed=seed)
        # Double precision on their side, so that one rounding is compared and not two.
        theirs: Any = SupConLoss(temperature=temperature)
        expected = theirs(projections.double(), labels).item()
        assert sup_con(projections, labels, temperature=temperature).item() == pytest.approx(
            expected, rel=1e-6, abs=1e-6
        )
        found = gradient(projections, labels, temperature=temperature)
        assert torch.allclose(found, gradient(projections.double(), labels, theirs).float(), rtol=0, atol=1e-6)


def test_a_case_worked_out_by_hand() -> None:
    # Two reals along one axis, two fakes along the other, tau 1: e¹ for the one positive, e⁰ for the two of the other
    # class.
    projections = torch.tensor([[2.0, 0.0], [3.0, 0.0], [0.0, 1.0], [0.0, 5.0]])
    labels = torch.tensor([0.0, 0.0, 1.0, 1.0])
    share = math.e / (math.e + 2)
    assert sup_con(projections, labels, temperature=1.0).item() == pytest.approx(-math.log(share), rel=1e-6)
    focal = sup_con(projections, labels, temperature=1.0, focal=2.0).item()
    assert focal == pytest.approx(-((1 - share) ** 2) * math.log(share), rel=1e-6)


def test_only_directions_count() -> None:
    projections, labels = drawn(12)
    assert sup_con(7 * projections, labels).item() == pytest.approx(sup_con(projections, labels).item(), rel=1e-5)


@pytest.mark.parametrize("focal", [0.5, 1.0, 2.0, 5.0])
def test_focal_is_the_formula(focal: float) -> None:
    projections, labels = drawn(20)
    found = sup_con(projections, labels, temperature=0.5, focal=focal).item()
    assert found == pytest.approx(looped(projections, labels, 0.5, focal), rel=1e-5)


def test_without_gamma_the_focal_loss_is_the_plain_one() -> None:
    projections, labels = drawn(20)
    assert torch.equal(sup_con(projections, labels, focal=0.0), sup_con(projections, labels))
    # And little of it is next to none.
    assert sup_con(projections, labels, focal=1e-6).item() == pytest.approx(
        sup_con(projections, labels).item(), rel=1e-4
    )


def test_the_larger_gamma_the_less_an_easy_anchor_weighs() -> None:
    labels = torch.tensor([0.0, 0.0, 1.0, 1.0])
    easy, hard = (
        torch.stack([angles.cos(), angles.sin()], dim=1)
        # Pairs near one another and far from the other class, and the other way about.
        for angles in (torch.tensor([0.0, 0.4, 1.2, 1.6]), torch.tensor([0.0, 1.2, 0.4, 1.6]))
    )
    gammas = (0.0, 1.0, 2.0, 4.0)
    left = {}
    for name, projections in (("easy", easy), ("hard", hard)):
        losses = [sup_con(projections, labels, temperature=0.5, focal=gamma).item() for gamma in gammas]
        assert losses == pytest.approx([looped(projections, labels, 0.5, gamma) for gamma in gammas], rel=1e-5)
        left[name] = np.array(losses) / losses[0]
    assert (np.diff(left["easy"]) < 0).all()
    assert (np.diff(left["easy"] / left["hard"]) < 0).all()
    assert left["easy"][-1] < 0.1 < left["hard"][-1]


@pytest.mark.parametrize("kinds", [1, 2, 3, 12])
@pytest.mark.parametrize("focal", [0.0, 2.0])
def test_fakes_of_one_method_are_neither_drawn_to_one_another_nor_away(kinds: int, focal: float) -> None:
    projections, labels = drawn(24)
    methods = methods_of(labels, kinds)
    found = sup_con(projections, labels, temperature=0.3, focal=focal, methods=methods).item()
    assert found == pytest.approx(looped(projections, labels, 0.3, focal, methods), rel=1e-5)
    plain = sup_con(projections, labels, temperature=0.3, focal=focal).item()
    # Twelve fakes of twelve methods have nothing to leave out.
    assert (found == pytest.approx(plain, rel=1e-3)) is (kinds == 12)


def test_how_near_fakes_of_one_method_lie_moves_nothing() -> None:
    """With reals that say the same of every fake, turning one of a method towards another changes no term."""
    projections = torch.eye(6)
    labels = torch.tensor([0.0, 0.0, 1.0, 1.0, 1.0, 1.0])
    methods = torch.tensor([-1, -1, 0, 0, 1, 1])
    nearer = projections.clone()
    # Of unit length, and still at right angles to all but row 2.
    nearer[3] = torch.tensor([0.0, 0.0, 0.8, 0.6, 0.0, 0.0])
    assert sup_con(nearer, labels, methods=methods).item() == pytest.approx(
        sup_con(projections, labels, methods=methods).item(), rel=1e-6
    )
    assert sup_con(nearer, labels).item() != pytest.approx(sup_con(projections, labels).item(), rel=1e-3)


@pytest.mark.parametrize(
    ("labels", "methods"),
    [
        ([0, 0, 1, 1], [-1, -1, 7, 7]),
        ([1, 1, 1, 1], [7, 7, 7, 7]),
        ([1, 1, 1, 0], [7, 7, 7, -1]),
        ([0, 1], [-1, 7]),
    ],
    ids=["fakes of one method", "nothing else", "a real alone", "one of each"],
)
def test_the_gradient_stays_finite_where_anchors_have_no_positives(labels: list[int], methods: list[int]) -> None:
    projections, _ = drawn(len(labels))
    truth, makers = torch.tensor(labels).float(), torch.tensor(methods)
    for focal in (0.0, 2.0):
        found = sup_con(projections, truth, focal=focal, methods=makers).item()
        assert found == pytest.approx(looped(projections, truth, 0.07, focal, makers), rel=1e-5)
        assert gradient(projections, truth, focal=focal, methods=makers).isfinite().all()


def test_the_gradient_stays_finite_where_the_classes_lie_apart() -> None:
    projections = torch.tensor([[1.0, 0.0]] * 3 + [[-1.0, 0.0]] * 3) + 1e-4 * torch.randn(6, 2)
    labels = torch.tensor([0.0, 0, 0, 1, 1, 1])
    for focal in (0.0, 0.5, 2.0):
        assert gradient(projections, labels, focal=focal).isfinite().all()


def test_embeddings_in_half_precision_are_compared_in_full() -> None:
    projections, labels = drawn(12)
    half = projections.to(torch.bfloat16)
    assert sup_con(half, labels).dtype == torch.float32
    assert torch.equal(sup_con(half, labels), sup_con(half.float(), labels))
