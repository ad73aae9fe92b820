"""`assay evaluate`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

import assay
from assay.cli.shell import SOME_FAILED, Head, Json, Quiet, Vote, say, stages

EXAMPLES = (
    "assay evaluate NAME --data manifest.csv --condition jpeg30 --condition noise20",
    "assay evaluate NAME --data manifest.csv",
    "assay evaluate ./bundle --data manifest.csv --by camera --robustness --json",
    "assay evaluate NAME --data manifest.csv --by sex --by age --by 'sex*age'",
)


def evaluate(
    detector: Annotated[str, typer.Argument(metavar="DETECTOR", help="A name or a bundle's folder.")],
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
        bool, typer.Option("--robustness", help="Measure again after compression, resizing and blur.")
    ] = False,
    conditions: Annotated[
        list[str] | None,
        typer.Option(
            "--condition",
            metavar="NAME",
            help="Measure again after this, e.g. jpeg30, noise20, mix0.5, or sweep for the whole of drift's; may be "
            "repeated.",
        ),
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
    rounds: Annotated[int, typer.Option(min=0, help="Bootstrap rounds of the intervals.")] = 1000,
    threads: Annotated[int | None, typer.Option(min=1, help="For the network.  [default: all cores]")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure a detector on labelled pictures that it has never met.

    Rows that it was trained or tuned on are refused. Exit status: 0 all judged, 1 some could not be judged, 2 usage.
    """
    from assay.cli import sources
    from assay.data import manifest
    from assay.measure import evaluate as measuring
    from assay.measure import robustness as hardening

    under = hardening.CONDITIONS if robustness else {}
    named = [part for name in conditions or () for part in (hardening.SWEEP if name == "sweep" else (name,))]
    under = {**under, **hardening.conditions(named)}
    rows = sources.rows(data)
    if split is None and (rows.column("split") != "").any():
        split = "test"
    chosen = sources.of_splits(rows, [split] if split is not None else [], data)
    control_fit = None
    if train is not None:
        elsewhere = train.endswith(manifest.SUFFIXES) or (Path(train) / manifest.NAME).is_file()
        control_fit = sources.rows(train) if elsewhere else sources.of_splits(rows, [train], data)
    loaded = assay.load(detector, head=head, vote=vote, threads=threads)
    with stages(quiet) as progress:
        found = measuring.evaluate(
            loaded,
            chosen,
            by=tuple(by or ()),
            allow_seen=allow_seen,
            control_fit=control_fit,
            rounds=rounds,
            progress=progress,
        )
        if under:
            measured = hardening.robustness(loaded, chosen, under, rounds=rounds, progress=progress)
            found = dataclasses.replace(found, robustness=measured)
    if as_json:
        print(json.dumps(found.to_dict(), allow_nan=False))
    else:
        from rich.console import Console

        from assay.measure import report

        report.show(found, Console(highlight=False))
    if found.rows.failures:
        say(f"{len(found.rows.failures)} rows could not be judged; they are listed under rows.failures with --json")
        raise typer.Exit(SOME_FAILED)
