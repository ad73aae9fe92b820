"""A study's tables in the shape of the paper's: overall, real, fake, each generator, without and with transforms.

Published cells stand on lines of their own, marked "paper"; no line mixes the two, and nothing is computed from them.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from assay import metrics
from assay.measure.fairness import Audit
from assay.metrics import Interval
from assay.studies import factors, looks, published
from assay.studies.block import NONE, Block
from assay.studies.compare import Figure, Scores, Series, accuracy, balanced, figure, figures, paired, scores_of
from assay.studies.conditions import TRANSFORMS, WORDS
from assay.studies.run import Report

OURS, PAPER = "ours", "paper"
QUICK = "QUICK RUN: it proves that the path works. Its figures mean nothing and claim nothing."

Columns = Sequence[str]


@dataclasses.dataclass(frozen=True)
class Tables:
    """What a report says in figures.

    Args:
        report: what it was made from.
        scores: of each series that has some.
        figures: of each series, by name (`assay.studies.compare.figures`).
        unseen: balanced accuracy on a value of the study's `leave` column, by (arm, head, condition, value).
        against: accuracy and AUC of each series less those of the first arm (or head) on the same rows, by (series,
            statistic); an arm that never met a value is compared on the rows that show it.
        audits: of each series and seed, where the study asks for fairness.
        rounds: of the bootstrap.
    """

    report: Report
    scores: Mapping[Series, Scores]
    figures: Mapping[Series, Mapping[str, Figure]]
    unseen: Mapping[tuple[Series, str], Figure]
    against: Mapping[tuple[Series, str], tuple[Series, Interval]]
    audits: Mapping[tuple[Series, int], Audit] = dataclasses.field(default_factory=dict)
    rounds: int = 1000

    @functools.cached_property
    def blocks(self) -> tuple[Block, ...]:
        """The tables of the study, in order; made once, however many forms they are told in."""
        return tuple(_blocks(self))


def _statistics(report: Report) -> dict[str, metrics.Statistic]:
    """What arms are compared by; where something was left out, on the rows that show it."""
    if report.study.leave:
        return {"balanced accuracy": balanced, "auc": metrics.auc}
    return {"accuracy": accuracy, "auc": metrics.auc}


def tables(report: Report, *, rounds: int = 1000, seed: int = 0) -> Tables:
    """All figures of a report, with their intervals.

    Args:
        rounds, seed: of the bootstrap.
    """
    study = report.study
    scores: dict[Series, Scores] = {}
    for arm, results in report.results.items():
        for head in study.heads:
            for condition in study.conditions:
                found = scores_of(results, head, condition)
                if found is not None:
                    scores[Series(arm, head, condition)] = found
    return Tables(
        report,
        scores,
        {series: figures(found, rounds=rounds, seed=seed) for series, found in scores.items()},
        _unseen(report, scores, rounds, seed) if study.leave else {},
        _against(report, scores, rounds, seed),
        looks.audits(report, scores, rounds=rounds, seed=seed) if study.fairness else {},
        rounds,
    )


def _unseen(
    report: Report, scores: Mapping[Series, Scores], rounds: int, seed: int
) -> dict[tuple[Series, str], Figure]:
    found: dict[tuple[Series, str], Figure] = {}
    left_out = {arm.name: arm.without for arm in report.study.arms}
    values = list(dict.fromkeys(arm.without for arm in report.study.arms if arm.without))
    for series, part in scores.items():
        for value in values:
            if left_out[series.arm] not in ("", value):
                continue
            inside = _of_value(part, value)
            if inside is not None:
                found[series, value] = figure(inside, balanced, rounds=rounds, seed=seed)
    return found


def _of_value(part: Scores, value: str) -> Scores | None:
    """The rows that a value is judged by: a domain's own; a generator has no reals, so its fakes and all reals."""
    inside = np.array([group == value for group in part.groups])
    if not inside.any():
        return None
    if not (part.labels[inside] == 0).any():
        inside |= part.labels == 0
    return part.where(inside)


def _against(
    report: Report, scores: Mapping[Series, Scores], rounds: int, seed: int
) -> dict[tuple[Series, str], tuple[Series, Interval]]:
    found: dict[tuple[Series, str], tuple[Series, Interval]] = {}
    arms = dict.fromkeys(series.arm for series in scores)
    left_out = {arm.name: arm.without for arm in report.study.arms}
    for series, part in scores.items():
        # Arms under the same head; where there is only one arm, its heads.
        mates = [
            other
            for other in scores
            if other.condition == series.condition and (len(arms) < 2 or other.head == series.head)
        ]
        if mates[0] == series:
            continue
        value = left_out[series.arm]
        # A copy of another arm stands against the first arm's copy that never met the same value.
        alike = series._replace(arm=_first_without(report, series.arm, value))
        mate = alike if alike in scores else mates[0]
        judged = _of_value(part, value) if value else part
        if judged is None:
            continue
        for name, statistic in _statistics(report).items():
            difference = paired(scores[mate], judged, statistic, rounds=rounds, seed=seed)
            if difference is not None:
                found[series, name] = mate, difference
    return found


def _first_without(report: Report, name: str, value: str) -> str:
    """The first arm's copy without a value, for the copy of another arm; empty for all other arms."""
    first = report.study.arms[0].name
    if not value or report.study.arm(name).whole in ("", first):
        return ""
    return next((arm.name for arm in report.study.arms if arm.without == value and arm.whole == first), "")


def _blocks(tables: Tables) -> Iterator[Block]:
    study = tables.report.study
    for condition in study.conditions:
        if condition in WORDS and not study.leave:
            yield _paper_shape(tables, condition)
    others = [condition for condition in study.conditions if condition not in WORDS]
    if others:
        yield _by_condition(tables, [c for c in study.conditions if c != TRANSFORMS])
    if study.leave:
        for condition in study.conditions:
            yield _left_out(tables, condition)
    if tables.against:
        yield _differences(tables)
    if (shared := looks.errors(tables.report, tables.scores)) is not None:
        yield shared
    if study.f1:
        yield looks.f1(tables.scores, rounds=tables.rounds)
    if study.factors:
        yield from factors.effects(study, tables.scores, rounds=tables.rounds)
    if study.calibration:
        yield looks.calibration(tables.report, tables.scores, rounds=tables.rounds)
    yield from looks.probes(tables.report)
    if (apart := looks.embeddings(tables.report)) is not None:
        yield apart
    if tables.audits:
        yield from looks.fairness(tables.report, tables.audits)
    yield _costs(tables)


def _paper_shape(tables: Tables, condition: str) -> Block:
    study = tables.report.study
    groups, sizes = _groups(tables)
    cells = [cell for cell, _ in _published(tables, condition)]
    extra = [name for cell in cells for name in cell.values if name not in ("overall", "real", "fake", *groups)]
    columns = ["overall", "real", "fake", *groups, *dict.fromkeys(extra)]
    rows = []
    for arm in study.arms:
        for head in study.heads:
            series = Series(arm.name, head, condition)
            if series in tables.figures:
                mine = tables.figures[series]
                told = [_percent(mine.get(name) or mine.get(f"group:{name}"), name == "overall") for name in columns]
                rows.append((arm.name, head, OURS, *told, _auc(mine["auc"])))
        for cell, (name, head) in _published(tables, condition):
            if name == arm.name:
                told = [_fact(cell.values[column]) if column in cell.values else NONE for column in columns]
                rows.append((cell.model, head, PAPER, *told, NONE))
    titles = [f"{name} (n {sizes[name]})" if name in sizes else name for name in columns]
    return Block(
        f"{WORDS[condition]}: accuracy at one half, %",
        ("arm", "head", "whose", *titles, "AUC"),
        tuple(rows),
        note=f"paper: other pictures ({published.PICTURES[study.table]}) and far longer training; "
        "beside ours, not against it"
        if cells
        else "",
    )


def _by_condition(tables: Tables, conditions: Sequence[str]) -> Block:
    rows = []
    for arm in tables.report.study.arms:
        for head in tables.report.study.heads:
            for condition in conditions:
                mine = tables.figures.get(Series(arm.name, head, condition))
                if mine is not None:
                    told = [_percent(mine[name], name == "overall") for name in ("overall", "real", "fake")]
                    rows.append((arm.name, head, condition, *told, _auc(mine["auc"]), str(mine["auc"].interval.n)))
    columns = ("arm", "head", "condition", "overall", "real", "fake", "AUC", "rows")
    return Block("condition by condition: accuracy at one half, %", columns, tuple(rows))


def _left_out(tables: Tables, condition: str) -> Block:
    """A column for each value: what an arm that never met it makes of it, and what the arm that did makes of it."""
    report = tables.report
    study = report.study
    values = list(dict.fromkeys(arm.without for arm in study.arms if arm.without))
    # Each arm that has copies without a value, the first one among them.
    copies = {(arm.whole or study.arms[0].name, arm.without): arm.name for arm in study.arms if arm.without}
    wholes = list(dict.fromkeys(whole for whole, _ in copies))
    extra: list[str] = []
    rows = []
    for head in study.heads:
        lines = []
        for whole in wholes:
            of = f" ({whole})" if len(wholes) > 1 else ""
            unseen = {
                value: tables.unseen.get((Series(copies.get((whole, value), ""), head, condition), value))
                for value in values
            }
            seen = {value: tables.unseen.get((Series(whole, head, condition), value)) for value in values}
            lines += [(f"left out{of}", unseen), (f"seen ({whole})", seen)]
        for told, line in lines:
            there = [cell.interval.value for cell in line.values() if cell is not None]
            if there:
                mean = f"{100 * float(np.mean(there)):.1f} of {len(there)}"
                rows.append((told, head, OURS, *(_percent(cell, True) for cell in line.values()), mean))
        cells = published.of(study.table, study.arms[0].paper, head, "") if study.table else None
        if cells is not None and condition == study.conditions[0]:
            extra = [name for name in cells.values if name not in (*values, "average")]
            told_paper = [_fact(cells.values[name]) if name in cells.values else NONE for name in values]
            rest = [_fact(cells.values[name]) for name in extra]
            rows.append((cells.model, head, PAPER, *told_paper, _fact(cells.values["average"]), *rest))
    width = 3 + len(values) + 1 + len(extra)
    padded = tuple((*row, *[NONE] * (width - len(row))) for row in rows)
    sizes = _unseen_sizes(tables, condition)
    titles = [f"{value} (n {sizes[value]})" if value in sizes else value for value in values]
    return Block(
        f"{WORDS.get(condition, condition)}: balanced accuracy at one half, %, by {study.leave}",
        (study.leave, "head", "whose", *titles, "average", *extra),
        padded,
        note="left out: of each column another network, which was not trained on it; chance is 50. n counts its rows"
        + (" and the reals beside it" if study.leave == "generator" else ""),
    )


def _unseen_sizes(tables: Tables, condition: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for (series, value), cell in tables.unseen.items():
        if series.condition == condition and any(
            arm.name == series.arm and arm.without == value for arm in tables.report.study.arms
        ):
            found[value] = cell.interval.n
    return found


def _differences(tables: Tables) -> Block:
    statistics = _statistics(tables.report)
    rows: dict[Series, list[str]] = {}
    for (series, name), (first, found) in tables.against.items():
        line = rows.setdefault(
            series, [series.arm, series.head, series.condition, f"{first.arm} {first.head}", NONE, NONE, str(found.n)]
        )
        place = 4 + list(statistics).index(name)
        factor, digits = (1, 3) if name == "auc" else (100, 1)
        low, high = (f"{factor * bound:+.{digits}f}" for bound in (found.low, found.high))
        line[place] = f"{factor * found.value:+.{digits}f} ({low} to {high})"
    return Block(
        "against the first, on the same rows (paired)",
        ("arm", "head", "condition", "less", f"{next(iter(statistics))}, points", "AUC", "rows"),
        tuple(tuple(line) for line in rows.values()),
        left=4,
        note="an interval that holds 0 tells nothing; with many lines some leave it out by chance",
    )


def _costs(tables: Tables) -> Block:
    rows = []
    for arm in tables.report.study.arms:
        results = tables.report.results.get(arm.name, ())
        if not results:
            continue
        spent = [result.cost.cpu_seconds for result in results if result.cost.cpu_seconds is not None]
        cost = results[0].cost
        minutes = f"{float(np.mean(spent)) / 60:.1f}" if spent else NONE
        seen, failed = max(r.seen for r in results), max(r.failed for r in results)
        count = f"{len(results)} of {tables.report.seeds}"
        rows.append(
            (
                arm.name,
                f"{cost.parameters / 1e6:.2f}",
                str(cost.steps),
                str(cost.views),
                minutes,
                count,
                str(seen),
                str(failed),
            )
        )
    return Block(
        "what the arms took",
        ("arm", "parameters, M", "steps", "views", "processor minutes", "seeds", "rows seen", "rows failed"),
        tuple(rows),
        left=1,
        note="processor minutes: the whole run, decoding included in the first; – where a run was taken up again",
    )


def heading(tables: Tables) -> list[str]:
    """What was asked and on what, line by line."""
    report = tables.report
    plan = report.plan
    lines = [QUICK] if plan.asked.quick else []
    lines += [f"{report.study.name}: {report.study.question}"]
    real, fake = report.tested
    groups, sizes = _groups(tables)
    named = ", ".join(f"{name} {sizes[name]}" for name in groups)
    lines.append(f"test rows: {real} real, {fake} fake{f' ({named})' if named else ''}; {report.seeds} seeds an arm")
    if plan.amount is not None:
        what = "seconds of processor time" if plan.asked.equal == "compute" else "views"
        lines.append(f"each arm was given the same {plan.amount:,.0f} {what}")
    if report.study.note:
        lines.append(report.study.note)
    return lines


def missing(tables: Tables) -> list[str]:
    """What the tables lack, a line each."""
    report = tables.report
    lines = [f"{arm}: {why}" for arm, why in report.missing.items()]
    for arm in report.study.arms:
        results = report.results.get(arm.name, ())
        if arm.name not in report.missing and len(results) < report.seeds:
            lines.append(f"{arm.name}: {len(results)} of {report.seeds} seeds are finished; run the same command again")
        lines += [
            f"{arm.name}: its bundle holds no head {head}"
            for head in report.study.heads
            if results and not any(head in result.scores for result in results)
        ]
    return lines


def text(tables: Tables) -> str:
    """For a terminal or a file: aligned, without colour, never wrapped."""
    parts = ["\n".join(heading(tables))]
    for block in tables.blocks:
        parts.append("\n".join([block.title, *_aligned(block), *([block.note] if block.note else [])]))
    if gaps := missing(tables):
        parts.append("\n".join(["missing", *(f"  {line}" for line in gaps)]))
    return "\n\n".join(parts) + "\n"


def _aligned(block: Block) -> Iterator[str]:
    lines = [block.columns, *block.rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(block.columns))]
    for line in lines:
        cells = [
            cell.ljust(width) if place < block.left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        yield "  " + "  ".join(cells).rstrip()


def markdown(tables: Tables) -> str:
    """The same as Markdown, with the row for docs/log.md at its end."""
    parts = ["\n\n".join(_escaped(line) for line in heading(tables))]
    for block in tables.blocks:
        rule = ["---" if place < block.left else "---:" for place in range(len(block.columns))]
        lines = [f"### {_escaped(block.title)}", "", _line(block.columns), _line(rule), *map(_line, block.rows)]
        parts.append("\n".join(lines + (["", _escaped(block.note)] if block.note else [])))
    if gaps := missing(tables):
        parts.append("\n".join(["### Missing", "", *(f"- {_escaped(line)}" for line in gaps)]))
    return "\n\n".join(parts) + "\n"


def log_row(tables: Tables, date: str, command: str) -> str:
    """A row of docs/log.md: date, what and why, command, figure; the verdict is left to whoever reads it."""
    told = []
    for series, mine in tables.figures.items():
        if series.condition in WORDS:
            cell = f"{_percent(mine['overall'], True)} % AUC {_auc(mine['auc'])}"
            told.append(f"{series.arm} {series.head} {WORDS[series.condition]} {cell}")
    real, fake = tables.report.tested
    figure = "; ".join([*told, f"n = {real} real, {fake} fake, {tables.report.seeds} seeds"])
    verdict = "quick run, claims nothing" if tables.report.plan.asked.quick else "(verdict to be written)"
    return _line([date, tables.report.study.question, f"`{command}`", figure, verdict])


def to_dict(tables: Tables) -> dict[str, Any]:
    """A JSON-ready object: what is not defined is None, never NaN. "paper" holds published cells, percent."""
    report = tables.report
    study = report.study
    return {
        "study": study.name,
        "question": study.question,
        "quick": report.plan.asked.quick,
        "plan": report.plan.model_dump(mode="json"),
        "tested": {"real": report.tested[0], "fake": report.tested[1]},
        "seeds": report.seeds,
        "arms": [
            {
                "name": arm.name,
                "what": arm.what,
                "runs": [
                    result.cost.model_dump()
                    | {"seed": result.seed, "detector": result.detector, "embedding": result.embedding}
                    for result in report.results.get(arm.name, ())
                ],
            }
            for arm in study.arms
        ],
        "figures": [
            series._asdict() | {"figures": {name: cell.to_dict() for name, cell in mine.items()}}
            for series, mine in tables.figures.items()
        ],
        "left_out": [
            series._asdict() | {"value": value, "balanced_accuracy": cell.to_dict()}
            for (series, value), cell in tables.unseen.items()
        ],
        "paired": [
            series._asdict() | {"less": first._asdict(), "statistic": name, "difference": found.to_dict()}
            for (series, name), (first, found) in tables.against.items()
        ],
        "fairness": [
            series._asdict() | {"seed": seed, "audit": found.to_dict()}
            for (series, seed), found in tables.audits.items()
        ],
        "paper": [
            {"table": study.table, "model": cell.model, "head": cell.head, "condition": cell.condition}
            | {"values": dict(cell.values)}
            for cell in published.rows(study.table)
        ],
        "missing": missing(tables),
    }


def _published(tables: Tables, condition: str) -> list[tuple[published.Cells, tuple[str, str]]]:
    """Published rows that stand beside the study's arms, each with (arm, head)."""
    study = tables.report.study
    found = []
    for arm in study.arms:
        for head in study.heads:
            cells = published.of(study.table, arm.paper, head, condition) if study.table and arm.paper else None
            if cells is not None:
                found.append((cells, (arm.name, cells.head or NONE)))
    return found


def _groups(tables: Tables) -> tuple[list[str], dict[str, int]]:
    """Values of the column that figures are broken down by, and how many test rows have each."""
    sizes: dict[str, int] = {}
    whole = {arm.name for arm in tables.report.study.arms if not arm.without}
    for series, mine in tables.figures.items():
        # An arm that left something out is tested on more of it.
        for name, cell in mine.items() if series.arm in whole else ():
            if name.startswith("group:"):
                value = name.removeprefix("group:")
                sizes[value] = max(sizes.get(value, 0), cell.interval.n)
    return sorted(sizes), sizes


def _percent(cell: Figure | None, whole: bool = False) -> str:
    """93.1, and where the whole is asked for its interval and spread: 93.1 (90.2–95.4) ±1.1."""
    return _shown(cell, whole, lambda value: f"{100 * value:.1f}")


def _fact(value: float) -> str:
    """A published cell with the digits that it was published with, one at least."""
    return f"{value:.1f}" if round(value, 1) == value else f"{value:g}"


def _auc(cell: Figure) -> str:
    return _shown(cell, True, lambda value: f"{value:.3f}")


def _shown(cell: Figure | None, whole: bool, put: Callable[[float], str]) -> str:
    if cell is None or math.isnan(cell.interval.value):
        return NONE
    told = put(cell.interval.value)
    if whole and not math.isnan(cell.interval.low):
        told += f" ({put(cell.interval.low)}–{put(cell.interval.high)})"
    if len(cell.seeds) > 1 and not math.isnan(cell.spread):
        told += f" ±{put(cell.spread)}"
    return told


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(_escaped(cell) for cell in cells) + " |"


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")
