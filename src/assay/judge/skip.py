"""Leaving out streams that cannot change the verdict: cheap ones first, the others only while they matter.

After each step the streams that are still out are supposed to say something between two bounds: the mean of what was
said so far, less and more as much as they strayed from it on tuning rows. Where the verdict is the same at both bounds,
and where they abstain, they are left out.

Source: a question that drift (arXiv 2604.25889) leaves open; the rule is *ours*. Bounds of a whole 1 to either side
never change a verdict; narrower ones save more, and change a stated share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt
import pydantic

from assay.types import Ruling

if TYPE_CHECKING:
    from assay.judge.rule import Judge

Floats = npt.NDArray[np.float64]

QUANTILES = (0.0, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1)
"""Of how far streams stray, tried as bounds: shares of tuning rows beyond each bound."""

MONOTONE = ("mean", "plain_mean", "majority", "levels", "tenths")
"""Rules whose vote never falls when a stream's score rises; only of these, two bounds speak for all between."""


class Skip(pydantic.BaseModel):
    """When streams are left out.

    Args:
        order: the streams in the order in which they run; those of one group share a run, and are never parted.
        reach: for each group but the last, how far the streams after it may lie (below, above) the mean so far.
        budget: the share of verdicts that may change.
        changed, saved: on tuning rows, the share of verdicts that changed, and of runs that were left out.
        rows: how many tuning rows these are.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    order: tuple[tuple[str, ...], ...] = pydantic.Field(min_length=2)
    reach: tuple[tuple[float, float], ...]
    budget: float = pydantic.Field(ge=0, lt=1)
    changed: float = pydantic.Field(ge=0, le=1)
    saved: float = pydantic.Field(ge=0, le=1)
    rows: int = pydantic.Field(ge=1)

    @pydantic.model_validator(mode="after")
    def _a_reach_for_each_step(self) -> Self:
        if len(self.reach) != len(self.order) - 1:
            raise ValueError(f"{len(self.order)} groups of streams have {len(self.order) - 1} reaches between them")
        return self

    def settled(self, rules: Judge, done: int, scores: Mapping[str, float]) -> float | None:
        """The score of a picture whose other streams cannot matter; None while they may.

        Args:
            rules: the judge whose streams these are.
            done: groups that have run.
            scores: of the streams that ran and apply.
        """
        waiting = [name for group in self.order[done:] for name in group]
        if not scores or not waiting:
            return None
        mean = float(np.mean(list(scores.values())))
        below, above = self.reach[done - 1]
        bounds = (max(0.0, mean - below), mean, min(1.0, mean + above))
        filled = [dict(scores) | dict.fromkeys(waiting, bound) for bound in bounds]
        votes = [rules.vote(each) for each in filled]
        words = {_word(rules, each, vote) for each, vote in zip(filled, votes, strict=True)}
        # They may also abstain, each by itself or all of them.
        fewer = [dict(scores)]
        if rules.ensemble.method == "plain_mean":
            # Before calibration a bound is another number for each stream: the vote lies furthest out where those
            # abstain that say least to that side.
            low = sorted(waiting, key=lambda name: float(rules.streams[name].plain(bounds[0])))
            high = sorted(waiting, key=lambda name: -float(rules.streams[name].plain(bounds[2])))
            for left in range(1, len(waiting)):
                fewer += [fewer[0] | dict.fromkeys(low[:left], bounds[0])]
                fewer += [fewer[0] | dict.fromkeys(high[:left], bounds[2])]
        words |= {_word(rules, each, rules.vote(each)) for each in fewer}
        return votes[1] if len(words) == 1 else None


def _word(rules: Judge, scores: Mapping[str, float], vote: float) -> Ruling:
    return rules.bar(scores).ruling(vote)


def choose(
    rules: Judge, order: Sequence[Sequence[str]], scores: Mapping[str, Floats], *, budget: float = 0.005
) -> Skip | None:
    """The bounds that leave out the most runs on tuning rows while no more verdicts change there than the budget lets.

    Args:
        rules: of the streams.
        order: groups of streams, the cheapest first.
        scores: of each stream, calibrated, (rows,), NaN where it does not apply.
        budget: share of verdicts that may change, in [0, 1).

    Returns:
        None where there is but one group, or the vote is not one of `MONOTONE`.
    """
    groups = tuple(tuple(group) for group in order)
    if len(groups) < 2 or rules.ensemble.method not in MONOTONE:
        return None
    rows = [
        {name: float(mine[row]) for name, mine in scores.items() if np.isfinite(mine[row])}
        for row in range(len(next(iter(scores.values()))))
    ]
    rows = [row for row in rows if row]
    best: Skip | None = None
    for quantile in QUANTILES:
        reach = tuple(_reach(groups, done, rows, quantile) for done in range(1, len(groups)))
        tried = Skip(order=groups, reach=reach, budget=budget, changed=0, saved=0, rows=len(rows))
        changed, saved = outcome(tried, rules, rows)
        if changed <= budget and (best is None or saved > best.saved):
            best = tried.model_copy(update={"changed": changed, "saved": saved})
    return best


def outcome(skip: Skip, rules: Judge, rows: Sequence[Mapping[str, float]]) -> tuple[float, float]:
    """The share of verdicts that change, and the share of runs that are left out, where all streams' scores are known.

    Args:
        rows: of each picture, the scores of the streams that apply.
    """
    changed = left = 0
    for row in rows:
        whole = _word(rules, row, rules.vote(row))
        for done in range(1, len(skip.order)):
            ran = {name: row[name] for group in skip.order[:done] for name in group if name in row}
            score = skip.settled(rules, done, ran)
            if score is not None:
                left += len(skip.order) - done
                changed += ruled(rules, score) != whole
                break
    return changed / len(rows), left / (len(rows) * len(skip.order))


def ruled(rules: Judge, score: float) -> Ruling:
    """The word of a score that all streams stand behind, those that were left out among them."""
    return _word(rules, dict.fromkeys(rules.voting, score), score)


def _reach(
    groups: Sequence[Sequence[str]], done: int, rows: Sequence[Mapping[str, float]], quantile: float
) -> tuple[float, float]:
    strays = []
    for row in rows:
        ran = [row[name] for group in groups[:done] for name in group if name in row]
        if ran:
            strays += [row[name] - float(np.mean(ran)) for group in groups[done:] for name in group if name in row]
    if not strays:
        return 1.0, 1.0
    low, high = np.quantile(strays, [quantile, 1 - quantile])
    return round(max(0.0, -float(low)), 6), round(max(0.0, float(high)), 6)
