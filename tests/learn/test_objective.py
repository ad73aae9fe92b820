"""What a descent makes small: each loss of a recipe, through the layers that are thrown away after training."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from assay.errors import RecipeError
from assay.learn.batches import Batch
from assay.learn.nn.supcon import sup_con
from assay.learn.objective import Classified, CoDE, Projected, cross_entropy, objective, truth
from assay.learn.recipe import CrossEntropy, InfoNCE, SupCon

PAIRS, DIM = 4, 6
LABELS = torch.tensor([0.0] * PAIRS + [1.0] * PAIRS)
CHANCE = torch.Generator()


def embeddings(views: int, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {f"view {n}": torch.randn(2 * PAIRS, DIM, generator=generator) for n in range(1, views + 1)}


def batch(methods: list[int] | None = None, teacher: list[float] | None = None) -> Batch:
    """A batch of which only methods and the teacher's scores are looked at."""
    return Batch(
        {},
        np.array(methods or [-1] * PAIRS + [5] * PAIRS, np.int64),
        np.array(teacher or [math.nan] * 2 * PAIRS, np.float64),
    )


def made(loss: Any) -> Any:
    torch.manual_seed(0)
    return objective(loss, DIM)


def test_each_loss_of_a_recipe_has_its_layers() -> None:
    assert isinstance(made(InfoNCE()), CoDE)
    assert isinstance(made(CrossEntropy()), Classified)
    projected = made(SupCon(projection=(5, 3), norm=False))
    assert isinstance(projected, Projected)
    assert [tuple(p.shape) for p in projected.parameters()] == [(5, DIM), (5,), (3, 5), (3,)]
    assert [type(layer).__name__ for layer in projected.layers] == ["Linear", "ReLU", "Linear"]
    normalised = [type(layer).__name__ for layer in made(SupCon(projection=(5, 3))).layers]
    assert normalised == ["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d"]
    assert [type(layer).__name__ for layer in made(SupCon(projection=(3,), norm=False)).layers] == ["Linear"]


@pytest.mark.parametrize("norm", [True, False])
def test_normalised_projections_lie_apart_where_all_embeddings_have_fallen_onto_one_point(norm: bool) -> None:
    loss = made(SupCon(projection=(5, 3), norm=norm))
    fallen = torch.ones(2 * PAIRS, DIM) + 1e-2 * embeddings(1)["view 1"]
    directions = functional.normalize(loss.layers(fallen), dim=1)
    assert ((directions @ directions.T).min() < 0.5) == norm


@pytest.mark.parametrize("views", [2, 3])
@pytest.mark.parametrize("settings", [{}, {"temperature": 0.5, "focal": 2.0}, {"unified": True}, {"norm": False}])
def test_all_views_of_all_pictures_are_rows_of_one_supervised_contrastive_loss(
    views: int, settings: dict[str, Any]
) -> None:
    loss, given = made(SupCon(views=views, projection=(5, 3), **settings)), embeddings(views)
    makers = [-1] * PAIRS + [5, 5, 8, 9]
    expected = sup_con(
        loss.layers(torch.cat(list(given.values()))),
        torch.cat([LABELS] * views),
        temperature=settings.get("temperature", 0.07),
        focal=settings.get("focal", 0.0),
        methods=torch.tensor(makers * views) if settings.get("unified") else None,
    )
    assert torch.equal(loss(given, batch(makers), CHANCE), expected)


def test_methods_count_in_the_unified_variant_alone() -> None:
    one, other = batch([-1] * PAIRS + [5, 5, 8, 9]), batch([-1] * PAIRS + [5, 6, 7, 9])
    for unified in (False, True):
        loss, given = made(SupCon(projection=(3,), unified=unified)), embeddings(2)
        assert torch.equal(loss(given, one, CHANCE), loss(given, other, CHANCE)) is not unified


def test_a_batch_of_one_method_gives_the_unified_variant_a_gradient_without_faults() -> None:
    loss, given = made(SupCon(projection=(3,), unified=True)), embeddings(2)
    rows = {name: x.requires_grad_() for name, x in given.items()}
    loss(rows, batch(), CHANCE).backward()
    assert all(x.grad is not None and x.grad.isfinite().all() and x.grad.any() for x in rows.values())


@pytest.mark.parametrize("views", [1, 3])
def test_the_cross_entropy_of_all_views_is_that_with_the_labels(views: int) -> None:
    loss, given = made(CrossEntropy(views=views)), embeddings(views)
    logits = torch.cat([loss.layer(x)[:, 0] for x in given.values()])
    expected = functional.binary_cross_entropy_with_logits(logits, LABELS.repeat(views))
    assert loss(given, batch(), CHANCE).item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("weight", [0.25, 1.0])
def test_a_teacher_has_its_weight_in_the_target_and_the_label_the_rest(weight: float) -> None:
    loss, given = made(CrossEntropy(views=2, teacher=weight)), embeddings(2)
    taught = [0.1, 0.4, 0.0, 0.2, 0.9, 1.0, 0.3, 0.7]
    target = (1 - weight) * LABELS + weight * torch.tensor(taught)
    logits = torch.cat([loss.layer(x)[:, 0] for x in given.values()])
    expected = functional.binary_cross_entropy_with_logits(logits, target.repeat(2))
    assert loss(given, batch(teacher=taught), CHANCE).item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_teacher_that_said_nothing_of_a_picture_is_refused_where_it_is_asked_for() -> None:
    silent = batch(teacher=[0.5] * 7 + [math.nan])
    with pytest.raises(RecipeError, match=r"column teacher, and a picture has none; make it with assay distill, or"):
        made(CrossEntropy(teacher=0.5))(embeddings(1), silent, CHANCE)
    assert made(CrossEntropy())(embeddings(1), silent, CHANCE).isfinite()


def test_the_first_half_of_a_batch_is_real() -> None:
    assert truth(torch.zeros(2 * PAIRS)).tolist() == LABELS.tolist()


@pytest.mark.parametrize("focal", [0.5, 2.0, 5.0])
@pytest.mark.parametrize("soft", [False, True])
def test_the_focal_loss_is_torchvisions_and_so_is_its_gradient(focal: float, soft: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(2 * PAIRS, generator=generator) if soft else LABELS
    logits = [3 * torch.randn(2 * PAIRS, generator=generator) for _ in range(3)]
    rows = torch.cat(logits).requires_grad_()
    expected = sigmoid_focal_loss(rows, target.repeat(3), alpha=-1, gamma=focal, reduction="mean")
    expected.backward()
    mine = [x.requires_grad_() for x in logits]
    found = cross_entropy(mine, target, focal)
    found.backward()
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    grads = [x.grad for x in mine if x.grad is not None]
    torch.testing.assert_close(torch.cat(grads), rows.grad)


@pytest.mark.parametrize("soft", [False, True])
def test_without_gamma_the_focal_loss_is_the_cross_entropy(soft: bool) -> None:
    logits = torch.tensor([[-40.0, -1.0, 0.0, 2.0, 3.0, -2.0, 60.0, 1.0]])
    target = torch.linspace(0, 1, 8) if soft else LABELS
    expected = functional.binary_cross_entropy_with_logits(logits[0], target)
    assert cross_entropy([logits[0]], target).item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_recipe_that_asks_for_it_is_trained_by_the_focal_loss_through_its_layer() -> None:
    given, taught = embeddings(2), [0.1, 0.4, 0.0, 0.2, 0.9, 1.0, 0.3, 0.7]
    for teacher in (0.0, 0.5):
        loss = made(CrossEntropy(views=2, focal=2.0, teacher=teacher))
        logits = torch.cat([loss.layer(x)[:, 0] for x in given.values()])
        target = ((1 - teacher) * LABELS + teacher * torch.tensor(taught)).repeat(2)
        expected = sigmoid_focal_loss(logits, target, alpha=-1, gamma=2.0, reduction="mean")
        assert loss(given, batch(teacher=taught), CHANCE).item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_logit_beyond_all_doubt_gives_the_focal_loss_no_fault() -> None:
    rows = torch.tensor([-200.0, 200.0, 200.0, -200.0], requires_grad=True)
    loss = cross_entropy([rows], torch.tensor([0.0, 1.0, 0.0, 1.0]), 2.0)
    loss.backward()
    assert loss.item() == pytest.approx(100.0)
    assert rows.grad is not None
    assert rows.grad.isfinite().all()


@pytest.mark.parametrize("weights", [{"real": 1.85}, {"fake": 3.0}, {"real": 2.0, "fake": 0.5}])
@pytest.mark.parametrize("mixed", [False, True])
def test_classes_weigh_by_their_names_as_in_torchs_cross_entropy(weights: dict[Any, float], mixed: bool) -> None:
    methods = [3, -1, -1, 9, -1, 3, 9, 3] if mixed else None
    loss, views = made(CrossEntropy(views=2, weights=weights)), embeddings(2)
    labels = torch.tensor([float(m >= 0) for m in methods]) if methods else LABELS
    logits = torch.cat([loss.layer(x)[:, 0] for x in views.values()])
    # Two classes, real 0 and fake 1, by a layer of two outputs.
    two = torch.stack([torch.zeros_like(logits), logits], dim=1)
    by_index = torch.tensor([weights.get("real", 1.0), weights.get("fake", 1.0)])
    expected = functional.cross_entropy(two, labels.repeat(2).long(), weight=by_index)
    assert loss(views, batch(methods), CHANCE).item() == pytest.approx(expected.item(), rel=1e-5)
    assert made(CrossEntropy(views=2))(views, batch(methods), CHANCE).item() != pytest.approx(expected.item(), rel=1e-3)


def test_a_class_that_does_not_exist_has_no_weight() -> None:
    with pytest.raises(ValueError, match="real"):
        CrossEntropy(weights={"0": 1.85})  # type: ignore[dict-item]


def test_what_a_network_is_to_keep_small_counts_where_it_weighs() -> None:
    assert CrossEntropy(reconstruction=1.0).penalties == {"reconstruction": 1.0}
    assert CrossEntropy(kl=0.5, reconstruction=2.0).penalties == {"reconstruction": 2.0, "kl": 0.5}
    assert CrossEntropy().penalties == {}
