"""What each of several factors does, where a study's arms have or lack them in all combinations.

A factor's effect is the mean over all settings of the others of the figure with it, less the figure without it: a 2³
table gives each of three effects four comparisons a seed in place of one. Pictures are drawn together for all arms.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from assay import metrics
from assay.metrics import Interval, Labels
from assay.studies.block import Block
from assay.studies.compare import THRESHOLD, Scores, Series, accuracy, drawn
from assay.studies.study import Study

STATISTICS: Mapping[str, tuple[metrics.Statistic, float, int]] = {
    "accuracy, points": (accuracy, 100, 1),
    "mean F1, points": (lambda labels, values: metrics.macro_f1(labels, values, THRESHOLD), 100, 1),
    "AUC": (metrics.auc, 1, 3),
}
"""What effects are told of, with the factor and the digits that they are shown with."""


def effect(
    arms: Mapping[str, Scores],
    having: set[str],
    statistic: metrics.Statistic,
    *,
    rounds: int = 1000,
    seed: int = 0,
) -> Interval:
    """How much more of a statistic arms with a factor have than arms without it, with a 95 % interval over pictures.

    Args:
        arms: the scores of every arm, by name.
        having: those with the factor; as many others stand against them.
    """
    shared = set.intersection(*(set(scores.places) for scores in arms.values()))
    first, *_ = arms.values()
    first = first.where(np.array([place in shared for place in first.places]))
    values = {}
    for name, scores in arms.items():
        at = {place: row for row, place in enumerate(scores.places)}
        values[name] = scores.values[:, [at[place] for place in first.places]]

    def more(labels: Labels, rows: npt.NDArray[np.intp]) -> float:
        means = {name: np.mean([statistic(labels, one[rows]) for one in each]) for name, each in values.items()}
        with_it = np.mean([mean for name, mean in means.items() if name in having])
        return float(with_it - np.mean([mean for name, mean in means.items() if name not in having]))

    return drawn(more, first, rounds, seed)


def effects(study: Study, scores: Mapping[Series, Scores], *, rounds: int = 500) -> Iterator[Block]:
    """A line for each factor, under each head and condition of which every arm has a run."""
    rows = []
    for head in study.heads:
        for condition in study.conditions:
            arms = {
                arm.name: scores[Series(arm.name, head, condition)]
                for arm in study.arms
                if Series(arm.name, head, condition) in scores
            }
            if len(arms) < len(study.arms):
                continue
            for factor in study.factors:
                having = {arm.name for arm in study.arms if factor in arm.factors}
                cells = []
                for statistic, scale, digits in STATISTICS.values():
                    found = effect(arms, having, statistic, rounds=rounds)
                    low, high = (f"{scale * bound:+.{digits}f}" for bound in (found.low, found.high))
                    cells.append(f"{scale * found.value:+.{digits}f} ({low} to {high})")
                rows.append((factor, head, condition, *cells))
    if rows:
        yield Block(
            "what each factor does, over all settings of the others",
            ("factor", "head", "condition", *STATISTICS),
            tuple(rows),
            note="with it less without it, paired by picture and seed; an interval that holds 0 tells nothing",
        )
