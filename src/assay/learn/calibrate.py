"""Calibration: raw scores of tuning rows to probabilities, a threshold and a doubt band."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import optimize

from assay.errors import ManifestError
from assay.image.decode import decode
from assay.image.mtcnn import look
from assay.image.view import View
from assay.judge import vote
from assay.judge.engine import Engine
from assay.judge.heads import Head
from assay.judge.rule import DIGITS, EnsembleRule, Errors, HeadKind, Judge, Pool, Rows, StreamRule, cast, choose, pool
from assay.learn.embed import embed
from assay.learn.recipe import Calibrate, Scaling
from assay.measure import logistic
from assay.metrics import auc, balanced_accuracy
from assay.types import Pixels, Sample

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


METHODS: tuple[vote.Method, ...] = ("modified_majority", "majority", "mean", "plain_mean", "levels", "tenths")
BEST = "best"
"""Beside these, by what a bundle calls it: the one stream that orders the tuning rows best, alone."""


def raw_scores(
    samples: Sequence[Sample],
    view: View,
    engine: Engine,
    heads: Mapping[str, Head],
    how: Pool,
    *,
    workers: int,
    kept: Path | None = None,
) -> dict[str, Floats]:
    """One raw score a picture and head, as judging makes it: decoded, cut by the view, pooled over crops and frames.

    Args:
        kept: see `assay.learn.embed.embed`.

    Returns:
        For each head (samples,); NaN where the view does not apply to the picture. The trunk runs once for all heads.

    Raises:
        InputError: a picture cannot be decoded.
    """

    def crops(sample: Sample) -> Pixels:
        shown = []
        for frame in decode(sample.place).frames:
            height, width = frame.shape[:2]
            faces = look(frame) if view.layout == "faces" else ()
            if not view.why_not(width, height, faces):
                shown.append(view.crops(frame, faces))
        return np.concatenate(shown) if shown else np.empty((0, view.size, view.size, 3), np.uint8)

    parts = embed(samples, crops, view, engine, what="scoring tuning rows", workers=workers, kept=kept)
    return {
        name: np.array([pool(head.raw(part), how) if len(part) else np.nan for part in parts])
        for name, head in heads.items()
    }


def slope_and_offset(raws: Floats, labels: Labels) -> tuple[float, float]:
    """Platt's map from raw score to P(fake), classes weighted alike.

    Weighted so, a score of one half means that reals and fakes of equal number score so; the share of fakes in the
    tuning rows says nothing about the user's. A slope that comes out negative (the stream orders tuning rows
    wrongly) is held at a small positive value: calibration must not turn a verdict round.

    Source: Platt, "Probabilistic outputs for support vector machines", 1999; drift (arXiv 2604.25889) fits the slope
    alone, as a temperature.
    """
    model = logistic.fit(raws[:, None], labels, ridge=1.0, balanced=True)
    slope = max(float(model.weights[0] / model.scale[0]), 1e-3 / (float(raws.std()) or 1.0))
    # The mean raw score keeps the probability that the fit gave it, whichever slope is taken.
    return slope, model.offset - slope * float(model.mean[0])


def scaled(raws: Floats, labels: Labels, how: Scaling) -> tuple[float, float]:
    """Slope and offset of P(fake) = sigmoid(slope · raw + offset), by the way that a recipe asks for."""
    if how == "none":
        return 1.0, 0.0
    return (1 / temperature(raws, labels), 0.0) if how == "temperature" else slope_and_offset(raws, labels)


def temperature(raws: Floats, labels: Labels) -> float:
    """The T of P(fake) = sigmoid(raw / T) whose log-loss is the least, classes weighted alike, in [1/100, 100].

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 4.2; drift (arXiv 2604.25889),
    which fits one for each stream on validation data. One half stays where the head has it.

    Args:
        raws: logits, (rows,).
        labels: (rows,), 1 = fake; both present.
    """
    truth = labels == 1
    signed = np.where(truth, -raws, raws)

    def loss(log: float) -> float:
        lost = np.logaddexp(0.0, signed * math.exp(-log))
        return float(lost[truth].mean() + lost[~truth].mean())

    bound = math.log(100)
    found = optimize.minimize_scalar(loss, bounds=(-bound, bound), method="bounded", options={"xatol": 1e-8})
    return math.exp(float(found.x))


def reliability(scores: Mapping[str, Floats], labels: Labels) -> dict[str, float]:
    """How far each stream can be relied upon: its balanced accuracy at one half beyond chance, divided so that the mean
    is 1 (*ours*; drift does not say how it weighs). A stream no better than chance keeps a hundredth of a sure one's.

    Args:
        scores: of each stream, calibrated, (rows,), of rows that it was not trained on; NaN where it does not apply.
        labels: (rows,), 1 = fake.
    """
    beyond = {}
    for name, mine in scores.items():
        there = np.isfinite(mine)
        beyond[name] = max(0.005, balanced_accuracy(labels[there], mine[there], vote.HALF) - 0.5)
    mean = sum(beyond.values()) / len(beyond)
    return {name: round(value / mean, DIGITS) for name, value in beyond.items()}


def calibrate(
    raws: Mapping[str, Floats],
    labels: Labels,
    pools: Mapping[str, Pool],
    stage: Calibrate,
    *,
    voters: Collection[str] = (),
    alternatives: Mapping[HeadKind, Collection[str]] | None = None,
    chosen_on: str = "tuning rows",
) -> Judge:
    """The judge of a bundle, every number of it from rows that no weight was fitted to.

    Args:
        raws: raw scores of each stream, (rows,), NaN where a stream does not apply to a row.
        labels: (rows,), 1 = fake.
        pools: how each stream's views were pooled.
        stage: the false-positive rate and the share to decide.
        voters: the streams that vote; empty: all.
        alternatives: by kind of head, the streams that vote where that head is asked for instead.
        chosen_on: what the rows are called in the rule's notes, after "of" and "like the".

    Raises:
        ManifestError: a stream applies to no real or to no fake.
    """
    rules: dict[str, StreamRule] = {}
    scores: dict[str, Floats] = {}
    for name, raw in raws.items():
        there = np.isfinite(raw)
        _both_classes(labels[there], f"the stream {name!r} applies to")
        slope, offset = scaled(raw[there], labels[there], stage.scaling)
        rule = StreamRule(pool=pools[name], slope=slope, offset=offset, threshold=0.5, doubt_low=0.5, fpr=stage.fpr)
        scores[name] = np.full(len(raw), np.nan)
        scores[name][there] = np.round(rule.probability(raw[there]), DIGITS)
        choice = choose(labels[there], scores[name][there], fpr=stage.fpr, decided=stage.decided)
        rules[name] = rule.model_copy(update={"threshold": choice.threshold, "doubt_low": choice.doubt_low})

    def together(names: Collection[str], method: vote.Method = stage.rule) -> EnsembleRule:
        # One stream alone has nothing to vote on.
        method = method if len(names) > 1 else "mean"
        mine = {name: scores[name] for name in names}
        weights: dict[str, float] = {}
        if method == "levels":
            weights = reliability(mine, labels)
        elif method == "tenths":
            weights = {name: stage.weights[name] for name in names if name in stage.weights}
        return _together(method, rules, mine, labels, stage, weights, chosen_on)

    voting = tuple(voters) or tuple(rules)
    ways: dict[str, EnsembleRule] = {}
    if len(voting) > 1:
        ways = {method: together(voting, method) for method in METHODS if method != stage.rule}
        alone = {name: together([name], "mean").model_copy(update={"voters": (name,)}) for name in voting}
        ways |= {BEST: alone[best(labels, {name: scores[name] for name in voting})]} | alone
    return Judge(
        streams=rules,
        voters=tuple(voters),
        ensemble=together(voting),
        alternatives={kind: together(names) for kind, names in (alternatives or {}).items()},
        rules=ways,
    )


def best(labels: Labels, scores: Mapping[str, Floats]) -> str:
    """The stream whose scores order the rows it applies to best, by AUC; of equals the first.

    Args:
        labels: (rows,), 1 = fake.
        scores: of each stream, (rows,), NaN where it does not apply.
    """
    return max(scores, key=lambda name: auc(labels[np.isfinite(scores[name])], scores[name][np.isfinite(scores[name])]))


def steepness(values: Floats, labels: Labels) -> float:
    """The slope of P(fake) = sigmoid(slope · (value − 1/2)) that fits votes best, classes weighted alike.

    One half stays where it is, so the winner of a vote is never turned round: as in drift (arXiv 2604.25889), which
    fits a temperature alone. Where votes tell the classes apart without a fault, the best slope would be endless; P is
    held as far from 0 and 1 as so many rows can tell.

    Args:
        values: of votes, in [0, 1], (rows,).
        labels: (rows,), 1 = fake; both present.
    """
    away, truth = values - vote.HALF, labels == 1

    def loss(slope: float) -> float:
        lost = np.logaddexp(0.0, np.where(truth, -1.0, 1.0) * slope * away)
        return float(lost[truth].mean() + lost[~truth].mean())

    steepest = 2 * math.log(len(labels) + 1)
    return float(optimize.minimize_scalar(loss, bounds=(1e-2, steepest), method="bounded").x)


def _together(
    method: vote.Method,
    rules: Mapping[str, StreamRule],
    scores: Mapping[str, Floats],
    labels: Labels,
    stage: Calibrate,
    weights: dict[str, float],
    chosen_on: str,
) -> EnsembleRule:
    """The rule of streams that vote together, from their scores, each (rows,)."""
    # A stream that judges alone where there are several is held to its own threshold, so such rows say nothing here.
    voted = np.isfinite(np.stack(list(scores.values()))).sum(axis=0) >= min(2, len(scores))
    truth = labels[voted]
    _both_classes(truth, "two streams apply to")
    values = cast(method, rules, {name: mine[voted] for name, mine in scores.items()}, weights)
    # Means of probabilities are some already, and the release takes its tenths for one.
    slope = None if method in ("mean", "tenths") else steepness(values, truth)
    fake = int(truth.sum())
    rule = EnsembleRule(
        method=method,
        slope=slope,
        weights=weights,
        threshold=0.5,
        doubt_low=0.5,
        fpr=stage.fpr,
        errors=Errors(false_fake=0, false_real=0, decided=0),
        rows=Rows(real=int(voted.sum()) - fake, fake=fake),
    )
    choice = choose(truth, rule.probability(values), fpr=stage.fpr, decided=stage.decided)
    notes = (
        f"class-conditional split conformal: a real is called fake with probability at most {stage.fpr:g}, "
        f"a fake is called real with probability at most {choice.beta:g}, the least rate at which "
        f"{stage.decided:.0%} of {chosen_on} get a verdict; both hold for pictures like the {chosen_on}"
    )
    if slope is not None or method == "tenths":
        notes += (
            f". A vote takes few values: {choice.errors.false_fake:.1%} of the reals among them were called fake, "
            f"where {stage.fpr:.1%} was asked for"
        )
    chosen = {"threshold": choice.threshold, "doubt_low": choice.doubt_low, "errors": choice.errors, "notes": notes}
    return rule.model_copy(update=chosen)


def _both_classes(labels: Labels, which: str) -> None:
    if len(np.unique(labels)) < 2:
        raise ManifestError(f"the tuning rows that {which} are not of both classes; add tuning pictures of the other")
