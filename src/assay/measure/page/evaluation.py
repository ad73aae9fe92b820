"""An evaluation's section of a report, of one detector or of several: figures, curves, groups, conditions, controls."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from assay.judge import markup
from assay.judge.markup import name
from assay.measure import clips as cutting
from assay.measure import columns, curves, report
from assay.measure.beside import Beside
from assay.measure.block import Block
from assay.measure.evaluate import Evaluation
from assay.measure.page import plots
from assay.measure.page.frame import Section, figure, grid, of_block
from assay.measure.page.stored import Found
from assay.metrics import Interval

_PARTS = 60
"""Most parts of the rows that one plot shows; the table has them all."""

_CONTROL = "control (no detector)"

_POINTS: Mapping[str, str] = {
    "tpr": "at its threshold",
    "tpr_at_fpr_1": "at 1 % FPR at most on these rows",
    "tpr_at_fpr_5": "at 5 % FPR at most on these rows",
}


def section(found: Found, heading: str, identity: str) -> Section:
    """The section of figures.

    Args:
        heading: plain text.
        identity: begins what is named in the page: letters, digits and "-".

    Raises:
        ValueError: the detectors' figures do not fit together.
    """
    evaluations = found.evaluations
    several = len(evaluations) > 1
    try:
        if several:
            blocks = list(columns.blocks(Beside(evaluations, found.compared)))
        else:
            [only] = evaluations.values()
            blocks = list(report.blocks(only))
        of_clips = [block for each in found.clips.values() for block in cutting.blocks(each)]
        body = [*_head(evaluations), "<h3>Figures</h3>", *of_block(blocks[0])]
        body += _curves(found, identity)
        body += _conditions(evaluations, identity)
        body += _parts(evaluations, identity)
    except (KeyError, IndexError) as error:
        raise ValueError(f"{error} is missing") from error
    body += _tables("Further tables", blocks[1:])
    body += _tables("Clips", of_clips)
    for title, evaluation in evaluations.items():
        if lines := report.troubles(evaluation):
            body += [f"<h3>Without a score{f' of {name(title)}' if several else ''}</h3>", *markup.listed(lines)]
    for each in found.clips.values():
        body += markup.listed(cutting.troubles(each))
    kind = "comparison" if several else "evaluation"
    rows = next(iter(evaluations.values())).rows.n
    return Section(heading, body, {"kind": kind, "detectors": list(evaluations), "rows": rows})


def _head(evaluations: Mapping[str, Evaluation]) -> Iterator[str]:
    for title, evaluation in evaluations.items():
        told = report.heading(evaluation)
        called = f"{name(title)}: " if title != evaluation.detector.get("name") else ""
        yield f"<p>{called}{name(told)}<br>{name(report.counts(evaluation))}</p>"


def _tables(heading: str, blocks: Sequence[Block]) -> Iterator[str]:
    if blocks:
        yield f"<h3>{heading}</h3>"
        for block in blocks:
            yield from of_block(block)


def _curves(found: Found, identity: str) -> Iterator[str]:
    """The ROC curves, and how far scores mean what they say."""
    yield "<h3>Curves</h3>"
    points = {title: _points(evaluation) for title, evaluation in found.evaluations.items()}
    drawn = {title: shape.roc for title, shape in found.shapes.items()}
    rows = [
        (f"{title} {words}", report.both(fpr, "fpr"), report.both(tpr, "tpr"))
        for title, of in points.items()
        for words, (fpr, tpr) in of.items()
    ]
    numbers = [*grid("Points of the curve", ("detector and point", "reals called fake", "fakes called fake"), rows)]
    for title, corners in drawn.items():
        cells = [
            ("–" if math.isnan(corner.threshold) else f"{corner.threshold:.4f}", *map(_share, corner[:2]))
            for corner in corners
        ]
        columns_of = ("fake from", "reals called fake", "fakes called fake")
        numbers += grid(f"Corners of the curve of {title}", columns_of, cells)
    lacking = [title for title in found.evaluations if not drawn.get(title)]
    told = "ROC: the share of fakes called fake against that of reals, at every threshold"
    if lacking:
        told = (
            "ROC: the share of fakes called fake against that of reals. The file holds no curve of "
            f"{', '.join(lacking)}, only these points of it"
        )
    told += "; filled marks: at the detector's own threshold, lines through them: 95 % intervals; dashed: chance"
    svg = plots.roc(drawn, {title: list(of.values()) for title, of in points.items()}, "ROC")
    yield from figure(svg, told, numbers, f"{identity}-roc")
    bins = {title: shape.reliability for title, shape in found.shapes.items() if shape.reliability}
    if not bins:
        yield "<p>The file holds no scores to draw their reliability from; the calibration error is in the table.</p>"
        return
    numbers = []
    for title, each in bins.items():
        cells = [(f"{one.score:.3f}", report.both(one.fakes, "tpr"), f"{one.fakes.n}") for one in each]
        numbers += grid(f"Reliability of {title}", ("mean score", "share of fakes", "rows"), cells)
    told = (
        "Reliability: among rows of about equal scores the share that is fake, with 95 % intervals; on the dashed line "
        "a score is the share of fakes among these rows, whose mix of both is not that of anybody's pictures"
    )
    yield from figure(plots.reliability(bins, "Reliability"), told, numbers, f"{identity}-reliability")


def _points(evaluation: Evaluation) -> dict[str, tuple[Interval, Interval]]:
    """Points of the ROC curve that the figures tell, the detector's own first."""
    figures = evaluation.metrics
    at = {"tpr": figures["fpr"], "tpr_at_fpr_1": Interval(0.01, math.nan, math.nan, figures["fpr"].n)}
    at["tpr_at_fpr_5"] = Interval(0.05, math.nan, math.nan, figures["fpr"].n)
    return {words: (at[figure], figures[figure]) for figure, words in _POINTS.items()}


def _conditions(evaluations: Mapping[str, Evaluation], identity: str) -> Iterator[str]:
    robustness = {title: each.robustness for title, each in evaluations.items() if each.robustness}
    if not robustness:
        return
    conditions = list(next(iter(robustness.values())))
    rows = [
        (condition, *(report.both(of[condition]["auc"], "auc") for of in robustness.values()))
        for condition in conditions
    ]
    yield "<h3>After alteration</h3>"
    told = "AUC after each alteration, a line or a point a detector, with 95 % intervals"
    numbers = grid("AUC after alteration", ("condition", *robustness), rows)
    yield from figure(curves.svg(robustness), told, [*numbers], f"{identity}-conditions")


def _parts(evaluations: Mapping[str, Evaluation], identity: str) -> Iterator[str]:
    """The AUC of all rows, of parts of them, and of what file and subject alone tell."""
    rows: dict[str, dict[str, Interval]] = {"all rows": {}}
    for title, evaluation in evaluations.items():
        rows["all rows"][title] = evaluation.metrics["auc"]
        for column, groups in evaluation.groups.items():
            for part, group in groups.items():
                if "auc" in group.figures:
                    rows.setdefault(f"{column}: {part}", {})[title] = group.figures["auc"]
    controls = next(iter(evaluations.values())).controls
    left_out = max(0, len(rows) - _PARTS)
    drawn = list(rows.items())[:_PARTS]
    if controls is not None:
        alone = {f"{key.replace('_', ' ')} alone": each.auc for key, each in controls.alone.items()}
        named = alone | {"all facts of the file": controls.metadata.auc, "16 px thumbnail": controls.thumbnail.auc}
        drawn += [(key, {_CONTROL: auc}) for key, auc in named.items()]
    if len(drawn) < 2:
        return
    yield "<h3>Groups and controls</h3>"
    told = "AUC of all rows, of parts of them, and of controls, which know file and subject alone; 95 % intervals; "
    told += f"dashed: chance; {left_out} more parts are in the tables" if left_out else "dashed: chance"
    names = list(dict.fromkeys(title for _, of in drawn for title in of))
    cells = [(part, *(report.both(of.get(title), "auc") for title in names)) for part, of in drawn]
    numbers = grid("AUC of parts and controls", ("", *names), cells)
    yield from figure(plots.intervals(drawn, "AUC of parts and controls", "AUC"), told, [*numbers], f"{identity}-parts")


def _share(value: float) -> str:
    return f"{value:.4f}"
