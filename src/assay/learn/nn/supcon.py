"""The supervised contrastive loss, with a focal weight and a variant that keeps fakes from clustering by method."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def sup_con(
    projections: Tensor,
    labels: Tensor,
    *,
    temperature: float = 0.07,
    focal: float = 0.0,
    methods: Tensor | None = None,
) -> Tensor:
    """Supervised contrastive loss (Khosla et al., NeurIPS 2020, equation 2: the sum over positives outside the log).

    For each anchor i with positives P(i), all other rows of its class, and all other rows A(i):
    −1 / |P(i)| · Σ_{p∈P(i)} log( e^{z_i·z_p/τ} / Σ_{a∈A(i)} e^{z_i·z_a/τ} ), then the mean over anchors that have
    positives.

    Args:
        projections: (n, d); L2-normalised here.
        labels: class of each row, (n,).
        temperature: τ > 0.
        focal: γ ≥ 0. An anchor's term is weighed by (1 − p)^γ, p the share of its softmax that its positives have
            (*ours*, after Lin et al., "Focal Loss for Dense Object Detection", 2017).
        methods: what made each row, (n,), negative for rows that nothing made (reals). Where given, a fake's positives
            are the fakes of other methods, and rows of its own method are not in A(i): it is neither drawn to them nor
            away (*ours*).

    Returns:
        A scalar; 0 where no row has a positive.
    """
    # In float32 at least.
    z = functional.normalize(projections.to(torch.promote_types(projections.dtype, torch.float32)), dim=-1)
    logits = z @ z.T / temperature
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    positives = (labels[:, None] == labels) & ~itself
    others = ~itself
    if methods is not None:
        own = (methods[:, None] == methods) & (methods[:, None] >= 0)
        positives, others = positives & ~own, others & ~own
    # A row that has nothing to be compared with is NaN here, and masked wherever it is used, its gradient too.
    log_shares = functional.log_softmax(logits.masked_fill(~others, -torch.inf), dim=1)
    count = positives.sum(dim=1)
    terms = -log_shares.masked_fill(~positives, 0).sum(dim=1) / count.clamp(min=1)
    if focal:
        mass = log_shares.exp().masked_fill(~positives, 0).sum(dim=1)
        terms = terms * (1 - mass).clamp(min=0) ** focal
    there = count > 0
    return terms[there].mean() if bool(there.any()) else (0 * terms).sum()
