"""CoDE's contrastive loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional


def info_nce(anchor: Tensor, positive: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """InfoNCE of paired anchors and positives against shared negatives.

    For each anchor a with its positive p: −log( e^{a·p/τ} / (e^{a·p/τ} + Σ_j e^{a·n_j/τ}) ), then the mean.
    Other anchors' positives are not negatives: they are of the same class.

    Args:
        anchor, positive: (n, d), paired by row.
        negatives: (m, d).
        temperature: τ > 0.

    All rows are L2-normalised here (CoDE: cosine similarity, no projection head).
    """
    anchor, positive, negatives = (functional.normalize(_full(x), dim=-1) for x in (anchor, positive, negatives))
    pulled = (anchor * positive).sum(dim=-1, keepdim=True)
    logits = torch.cat([pulled, anchor @ negatives.T], dim=1) / temperature
    return functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))


def _full(x: Tensor) -> Tensor:
    """In float32 at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def code_loss(
    reals: Mapping[str, Tensor],
    fakes: Mapping[str, Tensor],
    *,
    temperature: float = 0.1,
    multi_scale: float = 0.5,
    halves: Sequence[str] = ("real", "fake"),
    shuffle: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """The loss of CoDE (arXiv 2407.20337, section 3): the sum of a real and a fake half.

    Each half is (1 − s) · global + s · multi-scale, s = `multi_scale`:

    - global: a clean view against a transformed view of *any* picture of its class (`shuffle`); negatives are the
      transformed views of the other class.
    - multi-scale: a local view against the global view of *the same* picture; negatives are the other class's global
      views. Of several local views, the mean.

    The authors' released code loses the fake half; both are here.

    Args:
        reals, fakes: "clean", "transformed", "global" and "local" embeddings (further local views as "local 2", …),
            each (n, d); row i is picture i.
        shuffle: a permutation of the reals' and one of the fakes' rows; None keeps the order.

    Returns:
        A scalar.
    """
    classes = {"real": (reals, fakes, 0), "fake": (fakes, reals, 1)}
    total = torch.zeros((), dtype=_full(reals["clean"]).dtype, device=reals["clean"].device)
    for half in halves:
        own, other, place = classes[half]
        positive = own["transformed"] if shuffle is None else own["transformed"][shuffle[place]]
        if multi_scale < 1:
            total = total + (1 - multi_scale) * info_nce(own["clean"], positive, other["transformed"], temperature)
        if multi_scale > 0:
            near = [x for name, x in own.items() if name.startswith("local")]
            terms = [info_nce(x, own["global"], other["global"], temperature) for x in near]
            total = total + multi_scale * torch.stack(terms).mean()
    return total
