"""`assay evaluate`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import assay
from assay.cli.shell import SOME_FAILED, Engine, Head, Json, Quiet, Vote, engine_of, say, stages
from assay.errors import OutputError

if TYPE_CHECKING:
    from assay.measure.beside import Beside
    from assay.measure.clips import Clips
    from assay.measure.robustness import Condition

EXAMPLES = (
    "assay evaluate NAME --data manifest.csv --condition jpeg30 --condition half+jpeg50+noise10",
    "assay evaluate NAME --data manifest.csv",
    "assay evaluate ./bundle --data manifest.csv --by camera --robustness --json",
    "assay evaluate NAME --data manifest.csv --by sex --by age --by 'sex*age'",
    "assay evaluate NAME ./bundle --data manifest.csv --sweep full --figure auc.svg --out table.md",
    "assay evaluate NAME --data celebdf.csv --clips --frames 15 --top 3",
)


def evaluate(
    detectors: Annotated[
        list[str], typer.Argument(metavar="DETECTOR", help="Names or bundles' folders; several are compared.")
    ],
    data: Annotated[
        str, typer.Option(metavar="MANIFEST", help="A table with path and label, or a folder that holds one.")
    ],
    head: Head = None,
    vote: Vote = None,
    split: Annotated[
        str | None, typer.Option(help="Which rows.  [default: test where the manifest has splits, else all]")
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COL",
            help="Break the figures down by a column and audit the gaps between its groups; sex*age crosses two, "
            "format needs no column; may be repeated.",
        ),
    ] = None,
    robustness: Annotated[
        bool,
        typer.Option("--robustness", help="Measure again after compression, resizing, blur and several of them."),
    ] = False,
    sweep: Annotated[
        str | None,
        typer.Option(
            metavar="everyday|full",
            help="What --robustness measures: what pictures meet every day, or drift's sweep as well, which takes "
            "three times as long.  [default: everyday]",
        ),
    ] = None,
    conditions: Annotated[
        list[str] | None,
        typer.Option(
            "--condition",
            metavar="NAME",
            help="Measure again after this, e.g. jpeg30, mix0.5, half+jpeg50+noise10 (one upon another), or sweep for "
            "the whole of drift's; may be repeated.",
        ),
    ] = None,
    figure: Annotated[
        str | None, typer.Option(metavar="FILE.svg", help="Draw the robustness: a line a detector, a panel a family.")
    ] = None,
    statistic: Annotated[
        str,
        typer.Option(metavar="auc|accuracy|balanced_accuracy|fpr|ece|flips", help="What the figure shows."),
    ] = "auc",
    out: Annotated[
        str | None, typer.Option(metavar="FILE.md|FILE.json", help="Write tables, or the JSON object, to a file too.")
    ] = None,
    train: Annotated[
        str | None,
        typer.Option(
            metavar="MANIFEST|SPLIT", help="Rows to fit the controls on.  [default: the tested rows, cross-fitted]"
        ),
    ] = None,
    allow_seen: Annotated[
        bool, typer.Option("--allow-seen", help="Measure on rows the detector was made with too; that is no test.")
    ] = False,
    by_clip: Annotated[
        bool,
        typer.Option(
            "--clips", help="Also measure by frame and by clip: rows are videos, or frames that the column video joins."
        ),
    ] = False,
    frames: Annotated[
        int | None, typer.Option(min=1, help="Of each clip, evenly, with --clips.  [default: 15]")
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(
            min=1, help="How many of a clip's highest frames one of its scores takes.  [default: a fifth, rounded up]"
        ),
    ] = None,
    retune: Annotated[
        bool,
        typer.Option("--retune", help="With --clips: choose thresholds for clips anew, on clips of the split tune."),
    ] = False,
    rounds: Annotated[int, typer.Option(min=0, help="Bootstrap rounds of the intervals.")] = 1000,
    threads: Annotated[int | None, typer.Option(min=1, help="For the network.  [default: all cores]")] = None,
    engine: Engine = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure detectors on labelled pictures and clips that they have never met.

    Several stand side by side, each compared with the first by paired tests. Rows that one was trained or tuned on are
    refused. Exit status: 0 all judged, 1 some could not be judged, 2 usage.
    """
    from assay.cli import sources
    from assay.data import manifest
    from assay.image.memory import keep
    from assay.measure import beside as measuring
    from assay.measure import clips as cutting

    _of_clips(by_clip, {"--frames": frames, "--top": top, "--retune": retune or None})
    under = _under(robustness, sweep, conditions or ())
    _drawable(figure, statistic, under)
    _writable(figure, (".svg",), "--figure")
    _writable(out, (".md", ".json"), "--out")
    rows = sources.rows(data)
    if split is None and (rows.column("split") != "").any():
        split = "test"
    chosen = sources.of_splits(rows, [split] if split is not None else [], data)
    control_fit = None
    if train is not None:
        elsewhere = train.endswith(manifest.SUFFIXES) or (Path(train) / manifest.NAME).is_file()
        control_fit = sources.rows(train) if elsewhere else sources.of_splits(rows, [train], data)
    tune = sources.of_splits(rows, ["tune"], data) if retune else ()
    keep()
    runs = engine_of(engine)
    loaded = [assay.load(detector, head=head, vote=vote, threads=threads, engine=runs) for detector in detectors]
    names = _names(detectors, loaded)
    noted = {name: cutting.Noted(each, frames or cutting.FRAMES) for name, each in zip(names, loaded, strict=True)}
    clips: dict[str, Clips] = {}
    with stages(quiet) as progress:
        found = measuring.beside(
            noted if by_clip else dict(zip(names, loaded, strict=True)),
            chosen,
            conditions=under,
            by=tuple(by or ()),
            allow_seen=allow_seen,
            control_fit=control_fit,
            rounds=rounds,
            progress=progress,
        )
        if by_clip:
            for name, each in noted.items():
                told = cutting.measure(each, chosen, top=top, tune=tune, rounds=rounds, progress=progress)
                clips[name] = dataclasses.replace(told, detector=name)
    _write(found, clips, figure, statistic, out)
    if as_json:
        print(_json(found, clips))
    else:
        from rich.console import Console

        from assay.measure import columns, report

        console = Console(highlight=False)
        if len(detectors) == 1:
            report.show(found.evaluations[names[0]], console)
        else:
            columns.show(found, console)
        for each_clips in clips.values():
            cutting.show(each_clips, console)
    failures = {trouble.place for each in found.evaluations.values() for trouble in each.rows.failures}
    if failures:
        say(f"{len(failures)} rows could not be judged; they are listed under rows.failures with --json")
        raise typer.Exit(SOME_FAILED)


def _under(robustness: bool, sweep: str | None, asked: Sequence[str]) -> dict[str, Condition]:
    """The conditions to measure under, by name."""
    from assay.measure import robustness as hardening

    names: list[str] = []
    if robustness or sweep is not None:
        chosen = sweep or "everyday"
        if chosen not in hardening.SWEEPS:
            raise typer.BadParameter(f"{chosen!r} is neither everyday nor full", param_hint="--sweep")
        names += hardening.SWEEPS[chosen]
    for name in asked:
        names += hardening.SWEEP if name == "sweep" else (name,)
    return hardening.conditions(names)


def _of_clips(by_clip: bool, given: Mapping[str, object]) -> None:
    for option, value in given.items():
        if value is not None and not by_clip:
            raise typer.BadParameter("it is for clips; give --clips too", param_hint=option)


def _drawable(figure: str | None, statistic: str, under: Mapping[str, Condition]) -> None:
    from assay.measure import curves

    if statistic not in curves.STATISTICS:
        raise typer.BadParameter(f"{statistic!r} is none of {', '.join(curves.STATISTICS)}", param_hint="--statistic")
    if figure is not None and not under:
        raise typer.BadParameter("it draws robustness; give --robustness or --condition too", param_hint="--figure")


def _writable(file: str | None, endings: tuple[str, ...], option: str) -> None:
    """Told before the work, not after it."""
    if file is None:
        return
    if Path(file).suffix not in endings:
        raise typer.BadParameter(f"{file!r} does not end in {' or '.join(endings)}", param_hint=option)
    if not Path(file).parent.is_dir():
        raise OutputError(f"{Path(file).parent}: there is no such folder; make it or give {option} another")


def _names(given: Sequence[str], loaded: Sequence[assay.Detector]) -> list[str]:
    """What the tables call the detectors: their names, and where two share one, also what they were given as."""
    hashes = [each.sha256 for each in loaded]
    for number, each in enumerate(hashes):
        if each in hashes[:number]:
            earlier = given[hashes.index(each)]
            raise typer.BadParameter(f"{given[number]} and {earlier} are the same detector", param_hint="DETECTOR")
    names = [each.name for each in loaded]
    return [name if names.count(name) == 1 else f"{name} ({word})" for name, word in zip(names, given, strict=True)]


def _json(found: Beside, clips: Mapping[str, Clips]) -> str:
    told = found.to_dict()
    for each in told["detectors"]:
        each |= {"clips": clips[each["name"]].to_dict()} if clips else {}
    if len(told["detectors"]) == 1:
        [told] = told["detectors"]
        del told["name"]
    return json.dumps(told, allow_nan=False)


def _write(found: Beside, clips: Mapping[str, Clips], figure: str | None, statistic: str, out: str | None) -> None:
    from assay.measure import clips as cutting
    from assay.measure import columns, curves, overview, report

    if figure is not None:
        robustness = {name: each.robustness for name, each in found.evaluations.items()}
        overview.write(Path(figure), curves.svg(robustness, statistic))
    if out is not None:
        if out.endswith(".json"):
            text = _json(found, clips) + "\n"
        elif len(found.evaluations) == 1:
            [evaluation] = found.evaluations.values()
            text = report.markdown(evaluation)
        else:
            text = columns.markdown(found)
        if not out.endswith(".json"):
            text = "\n".join([text, *(cutting.markdown(each) for each in clips.values())])
        overview.write(Path(out), text)
