"""InfoNCE and CoDE's sum of it, against loops written from the paper's formula."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from pytorch_metric_learning.losses import NTXentLoss
from torch import Tensor

from assay.learn.nn.losses import code_loss, info_nce

VIEWS = ("clean", "transformed", "global", "local")
Floats = npt.NDArray[np.float64]


def embeddings(seed: int, rows: int = 5, width: int = 7) -> dict[str, Tensor]:
    rng = np.random.default_rng(seed)
    return {view: torch.tensor(rng.normal(size=(rows, width)) * 3, requires_grad=True) for view in VIEWS}


def cosine(a: Floats, b: Floats) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def looped_info_nce(anchors: Floats, positives: Floats, negatives: Floats, temperature: float) -> float:
    losses = []
    for anchor, positive in zip(anchors, positives, strict=True):
        pulled = np.exp(cosine(anchor, positive) / temperature)
        pushed = sum(np.exp(cosine(anchor, negative) / temperature) for negative in negatives)
        losses.append(-np.log(pulled / (pulled + pushed)))
    return float(np.mean(losses))


def looped_code_loss(
    reals: dict[str, Tensor], fakes: dict[str, Tensor], orders: tuple[Sequence[int], Sequence[int]], **settings: Any
) -> float:
    temperature, share = settings["temperature"], settings["multi_scale"]
    total = 0.0
    for half, own, other, order in (("real", reals, fakes, orders[0]), ("fake", fakes, reals, orders[1])):
        if half not in settings["halves"]:
            continue
        mine = {view: x.detach().numpy() for view, x in own.items()}
        others = {view: x.detach().numpy() for view, x in other.items()}
        shuffled = np.stack([mine["transformed"][row] for row in order])
        total += (1 - share) * looped_info_nce(mine["clean"], shuffled, others["transformed"], temperature)
        total += share * looped_info_nce(mine["local"], mine["global"], others["global"], temperature)
    return total


def test_info_nce_is_the_formula() -> None:
    a, b, c = (embeddings(seed, rows)["clean"] for seed, rows in ((0, 4), (1, 4), (2, 9)))
    expected = looped_info_nce(a.detach().numpy(), b.detach().numpy(), c.detach().numpy(), 0.2)
    assert info_nce(a, b, c, 0.2).item() == pytest.approx(expected, rel=1e-5)


def test_info_nce_is_that_of_pytorch_metric_learning() -> None:
    a, b, c = (embeddings(seed, rows)["clean"] for seed, rows in ((0, 4), (1, 4), (2, 9)))
    # One table of all rows; of each anchor its positive, and every negative with every anchor.
    table, labels = torch.cat([a, b, c]), torch.zeros(4 + 4 + 9)
    anchors = torch.arange(4)
    pairs = (anchors, anchors + 4, anchors.repeat_interleave(9), torch.arange(8, 17).repeat(4))
    expected = NTXentLoss(temperature=0.2)(table, labels, pairs).item()
    assert info_nce(a, b, c, 0.2).item() == pytest.approx(expected, rel=1e-5)


def test_info_nce_does_not_see_the_length_of_an_embedding() -> None:
    a, b, c = (embeddings(seed)["clean"] for seed in range(3))
    assert info_nce(7 * a, 0.1 * b, c * 3, 0.1).item() == pytest.approx(info_nce(a, b, c, 0.1).item(), rel=1e-5)


@pytest.mark.parametrize("halves", [("real", "fake"), ("real",), ("fake",)])
@pytest.mark.parametrize("multi_scale", [0.5, 0.0, 1.0, 0.3])
def test_the_loss_is_the_sum_of_its_halves_and_terms(halves: tuple[str, ...], multi_scale: float) -> None:
    reals, fakes = embeddings(3), embeddings(4)
    orders = ([2, 0, 1, 4, 3], [4, 3, 2, 1, 0])
    settings: dict[str, Any] = {"temperature": 0.1, "multi_scale": multi_scale, "halves": halves}
    shuffle = (torch.tensor(orders[0]), torch.tensor(orders[1]))
    found = code_loss(reals, fakes, shuffle=shuffle, **settings)
    assert found.item() == pytest.approx(looped_code_loss(reals, fakes, orders, **settings), rel=1e-5)


ALL = {f"{side} {view}" for side in ("real", "fake") for view in VIEWS}
GLOBAL = {f"{side} {view}" for side in ("real", "fake") for view in ("clean", "transformed")}


@pytest.mark.parametrize(
    ("settings", "moved"),
    [
        ({}, ALL),
        ({"multi_scale": 0.0}, GLOBAL),
        ({"multi_scale": 1.0}, ALL - GLOBAL),
        ({"halves": ("real",)}, ALL - {"fake clean", "fake local"}),
        ({"halves": ("fake",)}, ALL - {"real clean", "real local"}),
    ],
)
def test_gradient_reaches_every_view_that_a_setting_uses_and_no_other(
    settings: dict[str, Any], moved: set[str]
) -> None:
    reals, fakes = embeddings(5), embeddings(6)
    loss: Any = code_loss(reals, fakes, **settings)
    loss.backward()
    reached = {
        f"{side} {view}"
        for side, views in (("real", reals), ("fake", fakes))
        for view, x in views.items()
        if x.grad is not None and bool((x.grad.abs().sum(dim=1) > 1e-8).all())
    }
    untouched = {
        f"{side} {view}"
        for side, views in (("real", reals), ("fake", fakes))
        for view, x in views.items()
        if x.grad is None or not x.grad.any()
    }
    assert reached == moved
    assert untouched == ALL - moved


@pytest.mark.parametrize("half", ["real", "fake"])
def test_negatives_are_of_the_other_class_only(half: str) -> None:
    """Were pictures of the own class negatives, the loss of five would not be the mean of the losses of each alone."""
    own, other = embeddings(7), embeddings(8)

    def loss(rows: list[int]) -> float:
        some = {view: x[rows] for view, x in own.items()}
        return code_loss(*((some, other) if half == "real" else (other, some)), halves=(half,)).item()

    assert loss([0, 1, 2, 3, 4]) == pytest.approx(np.mean([loss([row]) for row in range(5)]), rel=1e-6)


def test_the_two_classes_are_treated_alike() -> None:
    reals, fakes = embeddings(9), embeddings(10)
    assert code_loss(reals, fakes).item() == pytest.approx(code_loss(fakes, reals).item(), rel=1e-6)


def test_shuffling_changes_the_global_term_and_leaves_the_multi_scale_one() -> None:
    reals, fakes = embeddings(11), embeddings(12)
    shuffle = (torch.tensor([1, 2, 3, 4, 0]), torch.tensor([4, 0, 1, 2, 3]))
    for share, same in ((1.0, True), (0.0, False)):
        plain = code_loss(reals, fakes, multi_scale=share).item()
        shuffled = code_loss(reals, fakes, multi_scale=share, shuffle=shuffle).item()
        assert (plain == pytest.approx(shuffled, rel=1e-6)) is same


def test_several_local_views_weigh_as_much_as_one() -> None:
    generator = torch.Generator().manual_seed(0)

    def views() -> dict[str, Tensor]:
        return {
            name: torch.randn(4, 8, generator=generator)
            for name in ("clean", "transformed", "global", "local", "local 2")
        }

    reals, fakes = views(), views()

    def loss(local: str | None) -> Tensor:
        chosen = [
            {name: x for name, x in part.items() if not name.startswith("local")}
            | ({"local": part[local]} if local else {name: part[name] for name in ("local", "local 2")})
            for part in (reals, fakes)
        ]
        return code_loss(*chosen, multi_scale=1.0)

    assert torch.allclose(loss(None), (loss("local") + loss("local 2")) / 2)
