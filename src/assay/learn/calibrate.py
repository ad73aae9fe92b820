"""Calibration: raw scores of tuning rows to probabilities, a threshold and a doubt band."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from assay.errors import ManifestError
from assay.image.decode import decode
from assay.image.view import View
from assay.judge.engine import Engine
from assay.judge.heads import Head
from assay.judge.rule import DIGITS, EnsembleRule, HeadKind, Judge, Pool, Rows, StreamRule, choose, pool
from assay.learn.embed import embed
from assay.learn.recipe import Calibrate
from assay.measure import logistic
from assay.types import Pixels, Sample

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


def raw_scores(
    samples: Sequence[Sample], view: View, engine: Engine, heads: Mapping[str, Head], how: Pool, *, workers: int
) -> dict[str, Floats]:
    """One raw score a picture and head, as judging makes it: decoded, cut by the view, pooled over crops and frames.

    Returns:
        For each head (samples,); NaN where the view does not apply to the picture. The trunk runs once for all heads.

    Raises:
        InputError: a picture cannot be decoded.
    """

    def crops(sample: Sample) -> Pixels:
        picture = decode(sample.place)
        if view.why_not(picture.width, picture.height):
            return np.empty((0, view.size, view.size, 3), np.uint8)
        return np.concatenate([view.crops(frame) for frame in picture.frames])

    parts = embed(samples, crops, view, engine, what="scoring tuning rows", workers=workers)
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


def calibrate(
    raws: Mapping[str, Floats],
    labels: Labels,
    pools: Mapping[str, Pool],
    stage: Calibrate,
    *,
    voters: Collection[str] = (),
    alternatives: Mapping[HeadKind, Collection[str]] | None = None,
) -> Judge:
    """The judge of a bundle, every number of it from tuning rows.

    Args:
        raws: raw scores of each stream, (rows,), NaN where a stream does not apply to a row.
        labels: (rows,), 1 = fake.
        pools: how each stream's views were pooled.
        stage: the false-positive rate and the share to decide.
        voters: the streams that vote; empty: all.
        alternatives: by kind of head, the streams that vote where that head is asked for instead.

    Raises:
        ManifestError: a stream applies to no real or to no fake.
    """
    rules: dict[str, StreamRule] = {}
    scores: dict[str, Floats] = {}
    for name, raw in raws.items():
        there = np.isfinite(raw)
        _both_classes(labels[there], f"the stream {name!r} applies to")
        slope, offset = slope_and_offset(raw[there], labels[there])
        rule = StreamRule(pool=pools[name], slope=slope, offset=offset, threshold=0.5, doubt_low=0.5, fpr=stage.fpr)
        scores[name] = np.full(len(raw), np.nan)
        scores[name][there] = np.round(rule.probability(raw[there]), DIGITS)
        choice = choose(labels[there], scores[name][there], fpr=stage.fpr, decided=stage.decided)
        rules[name] = rule.model_copy(update={"threshold": choice.threshold, "doubt_low": choice.doubt_low})

    def together(names: Collection[str]) -> EnsembleRule:
        return _together(np.stack([scores[name] for name in names]), labels, stage)

    return Judge(
        streams=rules,
        voters=tuple(voters),
        ensemble=together(voters or rules),
        alternatives={kind: together(names) for kind, names in (alternatives or {}).items()},
    )


def _together(scores: Floats, labels: Labels, stage: Calibrate) -> EnsembleRule:
    """The rule of streams that vote together, from their scores, (streams, rows)."""
    # A stream that judges alone where there are several is held to its own threshold, so such rows say nothing here.
    voted = np.isfinite(scores).sum(axis=0) >= min(2, len(scores))
    _both_classes(labels[voted], "two streams apply to")
    choice = choose(labels[voted], np.nanmean(scores[:, voted], axis=0), fpr=stage.fpr, decided=stage.decided)
    fake = int(labels[voted].sum())
    return EnsembleRule(
        threshold=choice.threshold,
        doubt_low=choice.doubt_low,
        fpr=stage.fpr,
        errors=choice.errors,
        rows=Rows(real=int(voted.sum()) - fake, fake=fake),
        notes=(
            f"class-conditional split conformal: a real is called fake with probability at most {stage.fpr:g}, "
            f"a fake is called real with probability at most {choice.beta:g}, the least rate at which "
            f"{stage.decided:.0%} of tuning rows get a verdict; both hold for pictures like the tuning rows"
        ),
    )


def _both_classes(labels: Labels, which: str) -> None:
    if len(np.unique(labels)) < 2:
        raise ManifestError(f"the tuning rows that {which} are not of both classes; add tuning pictures of the other")
