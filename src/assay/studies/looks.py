"""What some studies look at beside scores: embeddings, rates of error by subgroup, and errors that streams share."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from assay import metrics
from assay.learn.checks import CORRELATED, correlation
from assay.measure.fairness import SMALL, Audit, Gap, audit
from assay.metrics import Interval
from assay.studies.block import NONE, Block
from assay.studies.compare import THRESHOLD, Scores, Series, accuracy, figure
from assay.studies.conditions import CLEAN
from assay.studies.run import Report

PROBED: Mapping[str, str] = {
    "attention": "maps: Score-CAM on the shipped graph, of test pictures, clean and under the random mix at .5. "
    "entropy: nats; top tenth kept: by chance .1; centroid moved: share of the diagonal; in face …: share of the map, "
    "on pictures that show one",
    "skip": "test rows; time: processor seconds with streams left out over those with all, faces searched for anew",
    "eyes": "Score-CAM on the shipped graph, of test pictures that show eyes; in eyes: share of the map inside the "
    "boxes that training masks; over their area: that share against the boxes' share of the picture, 1 by chance",
    "attack": "share of the pictures rightly called before; the AUC of all",
}
"""What a reader of a probe's table must know."""

FIGURES: Mapping[str, tuple[str, ...]] = {
    "probe AUC": ("metrics", "probe_auc"),
    "overlap": ("metrics", "overlap"),
    "silhouette, label": ("metrics", "silhouette_label"),
    "silhouette, generator": ("metrics", "silhouette_generator"),
    "purity of clusters": ("manifold", "metrics", "purity"),
    "by chance": ("manifold", "metrics", "purity_by_chance"),
    "near of its method": ("manifold", "metrics", "neighbours"),
    "by chance ": ("manifold", "metrics", "neighbours_by_chance"),
}
"""What is told of an embedding, and where it stands in an overview."""


def embeddings(report: Report) -> Block | None:
    """How far each stream sets the test rows apart, and how the fakes lie to one another."""
    rows = []
    for arm in report.study.arms:
        results = report.results.get(arm.name, ())
        for stream in dict.fromkeys(name for result in results for name in result.embedding):
            looks = [result.embedding[stream] for result in results if stream in result.embedding]
            counts = [look.get("manifold", {}).get("clusters") for look in looks]
            forms = [str(look.get("manifold", {}).get("form") or NONE) for look in looks]
            told = [_over_seeds([_at(look, place) for look in looks]) for place in FIGURES.values()]
            clusters = ", ".join(NONE if count is None else str(count) for count in counts)
            rows.append((arm.name, stream, *told, clusters, ", ".join(forms)))
    if not rows:
        return None
    return Block(
        "the embedding of the test rows",
        ("arm", "stream", *(name.strip() for name in FIGURES), "clusters", "fakes' form"),
        tuple(rows),
        left=2,
        note="one seed: 95 % interval; several: mean ± standard deviation, and clusters and form of each. overlap: "
        "rows among the other class, .5: no separation. form: one manifold, each method a cluster, or between",
    )


def probes(report: Report) -> Iterator[Block]:
    """What each probe found, a line for each figure."""
    for name in report.study.probes:
        rows = []
        for arm in report.study.arms:
            looks = [result.probes[name] for result in report.results.get(arm.name, ()) if name in result.probes]
            lines = dict.fromkeys((line, figure) for look in looks for line in look for figure in look[line])
            for line, what in lines:
                cells = [look.get(line, {}).get(what, {}) for look in looks]
                counts = ", ".join(str(cell.get("n", NONE)) for cell in cells)
                rows.append((arm.name, line, what, _over_seeds(cells), counts))
        if rows:
            yield Block(name, ("arm", "of", "figure", "value", "n"), tuple(rows), note=PROBED.get(name, ""))


def _at(look: Mapping[str, Any], place: Sequence[str]) -> Mapping[str, Any]:
    found: Any = look
    for key in place:
        found = found.get(key, {}) if isinstance(found, Mapping) else {}
    return found if isinstance(found, Mapping) else {}


def _over_seeds(cells: Sequence[Mapping[str, Any]]) -> str:
    there = [cell for cell in cells if cell.get("value") is not None]
    if not there:
        return NONE
    values = [cell["value"] for cell in there]
    if len(values) > 1:
        return f"{np.mean(values):.3f} ±{np.std(values, ddof=1):.3f}"
    low, high = there[0].get("low"), there[0].get("high")
    return f"{values[0]:.3f}" + ("" if low is None or high is None else f" ({low:.3f}–{high:.3f})")


def audits(
    report: Report, scores: Mapping[Series, Scores], *, rounds: int, seed: int
) -> dict[tuple[Series, int], Audit]:
    """The fairness audit of each series and seed, on clean rows, between the values of the study's column."""
    found = {}
    for series, mine in scores.items():
        if series.condition != CLEAN:
            continue
        results = {result.seed: result for result in report.results[series.arm]}
        for number, values in zip(mine.seeds, mine.values, strict=True):
            bar = results[number].thresholds.get(series.head)
            if bar is not None:
                found[series, number] = audit(
                    mine.labels,
                    list(mine.groups),
                    scores=values,
                    thresholds=np.full(len(values), bar),
                    sources=list(mine.sources),
                    rounds=rounds,
                    seed=seed,
                )
    return found


def calibration(report: Report, scores: Mapping[Series, Scores], *, rounds: int = 500) -> Block:
    """How far each series' scores are probabilities, and how many reals it calls fake."""
    rows = []
    for series, mine in scores.items():
        bars = {result.seed: result.thresholds.get(series.head, np.nan) for result in report.results[series.arm]}
        above = dataclasses.replace(mine, values=mine.values - np.array([[bars[seed]] for seed in mine.seeds]))
        cells = (
            figure(mine, metrics.expected_calibration_error, rounds=rounds),
            figure(mine, lambda labels, values: metrics.rates(labels, values, 0.5).fpr, rounds=rounds),
            figure(above, lambda labels, values: metrics.rates(labels, values, 0.0).fpr, rounds=rounds),
        )
        told = [_rate(cell.interval) + _spread(cell.spread) for cell in cells]
        rows.append((series.arm, series.head, series.condition, *told, str(len(mine.labels))))
    return Block(
        "scores as probabilities, %",
        ("arm", "head", "condition", "calibration error", "reals fake at one half", "at its own threshold", "rows"),
        tuple(rows),
        note="expected calibration error of P(fake), these rows' share of fakes; intervals 95 %, ± over seeds",
    )


def f1(scores: Mapping[Series, Scores], *, rounds: int = 500) -> Block:
    """F1 of each class and their mean, for whoever compares with a paper that does not say which it means."""
    rows = []
    for series, mine in scores.items():
        statistics: tuple[metrics.Statistic, ...] = (
            lambda labels, values: metrics.f1(labels, values, THRESHOLD, 1),
            lambda labels, values: metrics.f1(labels, values, THRESHOLD, 0),
            lambda labels, values: metrics.macro_f1(labels, values, THRESHOLD),
            accuracy,
        )
        cells = [figure(mine, statistic, rounds=rounds) for statistic in statistics]
        told = [_rate(cell.interval) + _spread(cell.spread) for cell in cells]
        rows.append((series.arm, series.head, series.condition, *told, str(len(mine.labels))))
    return Block(
        "F1 at one half, %",
        ("arm", "head", "condition", "of fakes", "of reals", "their mean", "accuracy", "rows"),
        tuple(rows),
        note="intervals 95 %, ± over seeds",
    )


def _spread(spread: float) -> str:
    return f" ±{100 * spread:.1f}" if math.isfinite(spread) else ""


def fairness(report: Report, found: Mapping[tuple[Series, int], Audit]) -> Iterator[Block]:
    """Rates by subgroup, and the gaps between them."""
    by = report.study.by
    rows, gaps = [], []
    for (series, seed), each in found.items():
        for name, part in each.groups.items():
            small = " *" if min(part.n_real, part.n_fake) < SMALL else ""
            rates = [f"{_rate(rate)} (n {n})" for rate, n in ((part.fpr, part.n_real), (part.fnr, part.n_fake))]
            rows.append((series.arm, series.head, str(seed), name + small, *rates))
        for rate, gap in each.gaps.items():
            gaps.append((series.arm, series.head, str(seed), rate.upper(), *_gap(gap)))
    yield Block(
        f"errors at the detector's own threshold, by {by}, %",
        ("arm", "head", "seed", by, "reals called fake", "fakes not called fake"),
        tuple(rows),
        left=4,
        note=f"intervals 95 %; * fewer than {SMALL} rows of a class: means little, and no gap is taken from it",
    )
    yield Block(
        f"gaps between values of {by}",
        ("arm", "head", "seed", "rate", "gap, points", "ratio", "least", "most", "may be chance"),
        tuple(gaps),
        left=4,
    )


def _rate(rate: Interval) -> str:
    if math.isnan(rate.value):
        return NONE
    return f"{100 * rate.value:.1f} ({100 * rate.low:.1f}–{100 * rate.high:.1f})"


def _gap(gap: Gap | None) -> tuple[str, ...]:
    if gap is None:
        return (NONE,) * 5
    low, high = 100 * gap.gap.low, 100 * gap.gap.high
    told = NONE if math.isnan(gap.ratio) else f"{gap.ratio:.2f}"
    return (
        f"{100 * gap.gap.value:.1f} ({low:.1f}–{high:.1f})",
        told,
        gap.lowest,
        gap.highest,
        "yes" if gap.chance else "no",
    )


def errors(report: Report, scores: Mapping[Series, Scores]) -> Block | None:
    """Which streams err on the same pictures: DFCon's sign of an ensemble that cannot help."""
    rows = []
    for arm in report.study.arms:
        for condition in report.study.conditions:
            for one, other in itertools.combinations(report.study.streams, 2):
                pair = [scores.get(Series(arm.name, name, condition)) for name in (one, other)]
                values = [] if pair[0] is None or pair[1] is None else _correlations(pair[0], pair[1])
                if not values:
                    continue
                spread = f" ±{np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
                mean = float(np.mean(values))
                told = "they err together" if mean > CORRELATED else ""
                rows.append((arm.name, f"{one} and {other}", condition, f"{mean:.2f}{spread}", told))
    if not rows:
        return None
    return Block(
        "streams whose errors correlate",
        ("arm", "streams", "condition", "correlation", ""),
        tuple(rows),
        note=f"of being wrong at one half, within each class; above {CORRELATED:g} a stream adds little to the other",
    )


def _correlations(one: Scores, other: Scores) -> list[float]:
    """Of each seed, on the rows to which both streams apply; none where there are no such rows of a class."""
    shared = set(one.places) & set(other.places)
    one, other = (part.where(np.array([place in shared for place in part.places])) for part in (one, other))
    if len(set(one.labels.tolist())) < 2:
        return []
    return [correlation(one.labels, *both) for both in zip(one.values, other.values, strict=True)]
