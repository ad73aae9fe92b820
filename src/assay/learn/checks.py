"""The check list that ends a training: signs that a method has failed, each with its figure, its bound and a remedy.

Source: the failure signs of the four papers. Bounds are ours: where a figure crosses one, look before you trust.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from assay.measure.embedding import OVERLAP, overlap
from assay.metrics import auc, balanced_accuracy, rates

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


CORRELATED = 0.5
"""Errors of two streams correlate where they do so by more than this."""


@dataclasses.dataclass(frozen=True)
class Check:
    """One sign.

    Args:
        name: what is looked for.
        on: the rows it was measured on.
        figure: as measured.
        bound: the largest (or least, where `least`) figure that passes.
        remedy: what to try where it does not.
    """

    name: str
    on: str
    figure: float
    bound: float
    remedy: str
    least: bool = False

    @property
    def passed(self) -> bool:
        return self.figure >= self.bound if self.least else self.figure <= self.bound

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "on": self.on,
            "figure": round(self.figure, 4),
            "bound": self.bound,
            "passed": self.passed,
        }


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What the signs of one stream are measured on.

    Args:
        embeddings: of tuning rows that the stream applies to, (n, d).
        labels: of the same rows, (n,), 1 = fake.
        clean, altered: raw scores of them as they are and after T, (n,).
        fitted, fitted_labels: raw scores of the rows the head was fitted on, most of them altered, (m,).
    """

    embeddings: Floats
    labels: Labels
    clean: Floats
    altered: Floats
    fitted: Floats
    fitted_labels: Labels


def checks(evidence: Evidence, labels: Labels, scores: Floats, *, threshold: float, fpr: float) -> list[Check]:
    """The signs of a trained stream.

    Args:
        labels: of all tuning rows, (rows,), 1 = fake.
        scores: their calibrated scores, (rows,), NaN where the stream does not apply.
        threshold, fpr: of the stream's rule.
    """
    clean_auc, altered_auc = auc(evidence.labels, evidence.clean), auc(evidence.labels, evidence.altered)
    applies = np.isfinite(scores)
    at_threshold = rates(labels[applies], scores[applies], threshold)
    return [
        Check(
            "overlap of real and fake in the embedding",
            "tuning rows",
            overlap(evidence.embeddings, evidence.labels),
            OVERLAP,
            "train longer or on more sources; look at the loss of both halves",
        ),
        Check(
            "clean-transformed gap, AUC",
            "tuning rows",
            clean_auc - altered_auc,
            0.05,
            "raise descend.alter.max_ops, or align more of the pictures",
        ),
        Check(
            "augmented-plain gap, AUC",
            "training against tuning rows",
            auc(evidence.fitted_labels, evidence.fitted) - clean_auc,
            0.10,
            "the network knows its training pictures: more sources, more weight decay, fewer epochs",
        ),
        Check(
            "false alarms at the threshold",
            "tuning rows",
            at_threshold.fpr,
            1.5 * fpr,
            "more tuning rows of real sources; calibrate again",
        ),
        Check(
            "recall at the threshold",
            "tuning rows",
            at_threshold.tpr,
            0.30,
            "a better embedding, or a higher calibrate.fpr if more false alarms can be borne",
            least=True,
        ),
        Check(
            "balanced accuracy at one half",
            "tuning rows",
            balanced_accuracy(labels[applies], scores[applies], 0.5),
            0.60,
            "a better embedding; compare with the controls of `assay evaluate`",
            least=True,
        ),
    ]


def together(labels: Labels, scores: Mapping[str, Floats], vote: Floats) -> list[Check]:
    """The signs of streams that vote together: an ensemble no better than its best stream, and streams whose errors
    correlate (DFCon's failure sign), named.

    Args:
        labels: of tuning rows, (n,), 1 = fake.
        scores: of each stream, calibrated, (n,), NaN where it does not apply.
        vote: of all together, (n,).

    Returns:
        The signs on the rows that all streams apply to; none where these are not of both classes.
    """
    everywhere = np.isfinite(np.stack(list(scores.values()))).all(axis=0)
    truth = labels[everywhere]
    if len(np.unique(truth)) < 2:
        return []
    alone = {name: auc(truth, mine[everywhere]) for name, mine in scores.items()}
    best = max(alone, key=lambda name: alone[name])
    found = [
        Check(
            f"AUC of the vote less that of its best stream, {best}",
            "tuning rows",
            auc(truth, vote[everywhere]) - alone[best],
            0.0,
            "the streams err together: views, networks or data that differ more",
            least=True,
        )
    ]
    for one, other in itertools.combinations(scores, 2):
        found.append(
            Check(
                f"correlation of errors, {one} and {other}",
                "tuning rows",
                correlation(truth, scores[one][everywhere], scores[other][everywhere]),
                CORRELATED,
                f"{one} and {other} are wrong on the same pictures, so the second adds little: let their views or "
                "networks differ more",
            )
        )
    return found


def correlation(labels: npt.NDArray[Any], one: Floats, other: Floats) -> float:
    """How far two streams err on the same pictures: the correlation (phi) of being wrong at one half, in each class by
    itself, then the mean of both. 0: no more than by chance; 1: on just the same ones; 0 where one is always right or
    always wrong.

    Within classes, because two streams that call everything fake would agree in their errors without looking.

    Args:
        labels: (n,), 1 = fake; both present.
        one, other: P(fake), (n,).
    """
    found = []
    for label in (0, 1):
        mine = labels == label
        wrong = [(scores[mine] >= 0.5) != bool(label) for scores in (one, other)]
        spread = [float(errors.std()) for errors in wrong]
        shared = float(np.mean(wrong[0] & wrong[1]) - wrong[0].mean() * wrong[1].mean())
        found.append(shared / (spread[0] * spread[1]) if all(spread) else 0.0)
    return float(np.mean(found))


def show(found: Sequence[Check], console: Console) -> None:
    """The list as a table, failed signs with their remedy."""
    table = Table(title="signs of failure", title_justify="left", box=None, pad_edge=False)
    for column in ("", "sign", "measured on", "figure", "bound", "what to try"):
        table.add_column(column, justify="right" if column in ("figure", "bound") else "left")
    for check in found:
        bound = f"{'≥' if check.least else '≤'} {check.bound:g}"
        mark = "[green]ok[/]" if check.passed else "[red]look[/]"
        table.add_row(mark, check.name, check.on, f"{check.figure:.3f}", bound, "" if check.passed else check.remedy)
    console.print(table)
