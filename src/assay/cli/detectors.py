"""`assay detectors`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from assay.cli.shell import USAGE, Json, say, seen, stages

if TYPE_CHECKING:
    from assay.judge.bundle import Bundle
    from assay.judge.probe import Probed, Timing

EXAMPLES = (
    "assay detectors",
    "assay detectors NAME",
    "assay detectors --json",
    "assay detectors --probe",
)


def detectors(
    detector: Annotated[
        str | None, typer.Argument(metavar="[NAME|FOLDER]", help="One detector, with its whole card.")
    ] = None,
    probe: Annotated[
        bool,
        typer.Option(
            "--probe",
            help="Measure what runs them fastest on this machine, a few seconds each, and judge that way from now on "
            "where it moves no score.",
        ),
    ] = False,
    forget: Annotated[bool, typer.Option("--forget", help="Forget what --probe found.")] = False,
    as_json: Json = False,
) -> None:
    """What is installed, and what each detector claims."""
    from assay.errors import BundleError
    from assay.judge import about, bundle

    if probe and forget:
        raise typer.BadParameter("--probe and --forget: choose one")
    if forget:
        _forget(detector, as_json)
        return
    folders = bundle.installed() if detector is None else [bundle.find(detector)]
    broken = False
    for number, folder in enumerate(folders):
        try:
            read = bundle.read(folder)
            if probe:
                _probe(read, as_json)
                continue
        except BundleError as error:
            if detector is not None:
                raise
            broken = True
            say(str(error))
            continue
        if as_json:
            print(json.dumps(about.described(read)))
            continue
        text = about.short(read) if detector is None else about.whole(read)
        print(("\n" if number else "") + text)
    if not folders:
        say(f"no detector is installed; name a bundle's folder, or a folder of bundles in {bundle.SEARCH}")
    if broken:
        raise typer.Exit(USAGE)


def _probe(read: Bundle, as_json: bool) -> None:
    from assay.judge import engine, probe

    if read.card.counts:
        say(f"{seen(read.card.name)} only counts, which takes no runtime: there is nothing to choose")
        if as_json:
            print(json.dumps({"name": read.card.name, "sha256": read.card.sha256, "taken": None, "timings": []}))
        return
    if engine.on_gpu("auto"):
        say("judging takes the GPU here; what is measured is what judges with device cpu")
    with stages(as_json) as progress:
        stage = None if progress is None else lambda done, total: progress(f"timing {read.card.name}", done, total)
        found = probe.probe(read, progress=stage)
    probe.remember(found)
    if as_json:
        taken = found.chosen.to_dict()
        told = {"name": read.card.name, "sha256": found.detector, "rounds": found.rounds, "taken": taken}
        print(json.dumps(told | {"timings": [timing.to_dict() for timing in found.timings]}, allow_nan=False))
    else:
        _show(read.card.name, found)


def _show(name: str, found: Probed) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    console.print(Text(f"{seen(name)}: crops a second, median of {found.rounds} rounds or more", style="bold"))
    table = Table(box=box.SIMPLE_HEAD)
    for number, column in enumerate(("engine", "threads", "crops", "a second", "lowest to highest", "times", "")):
        table.add_column(column, justify="left" if number in (0, 6) else "right", overflow="fold")
    for timing in found.timings:
        table.add_row(*_cells(timing, found.chosen))
    console.print(table)


def _cells(timing: Timing, chosen: Timing) -> Sequence[str]:
    from assay.judge import probe

    way = timing.engine, str(timing.threads), str(timing.crops)
    if timing.failed:
        return (*way, "–", "–", "–", seen(timing.failed))
    note = "taken" if timing is chosen else ""
    if not timing.same:
        note = f"moves scores by up to {timing.moves:.2g}, more than {probe.SAME:g}: never taken by itself"
    return (*way, f"{timing.rate:.4g}", f"{timing.low:.4g} to {timing.high:.4g}", f"{timing.times:.2f}", note)


def _forget(detector: str | None, as_json: bool) -> None:
    from assay.judge import bundle, probe

    sha256 = None if detector is None else bundle.read(bundle.find(detector)).card.sha256
    count = probe.forget(sha256)
    if as_json:
        print(json.dumps({"forgotten": count}))
    say(f"forgotten: {count}" if count else "nothing was remembered", prefix="")
