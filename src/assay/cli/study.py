"""`assay study`."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from assay.cli.shell import SOME_FAILED, Json, Quiet, kept, say, settings_of, stages
from assay.errors import MissingExtra

if TYPE_CHECKING:
    from assay.studies.study import Equal, Study

EXAMPLES = (
    "assay study",
    "assay study code24-ablation --data manifest.csv --out ablation --quick",
    "assay study code24-ablation --data manifest.csv --out ablation --minutes 60 --seeds 3",
)

EQUAL = ("views", "compute")


def study(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One study; none lists them.")] = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="MANIFEST", help="A table with path, label and split (train, tune, test), or its folder."),
    ] = None,
    out: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Where runs, tables and figure go; run again to go on.")
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(min=0.01, help="Processor minutes of training for the first arm; the others get as many views."),
    ] = None,
    views: Annotated[int | None, typer.Option(min=1, help="Views for each arm, in place of --minutes.")] = None,
    equal: Annotated[
        str | None, typer.Option(metavar="views|compute", help="What all arms get the same of.  [default: the study's]")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each arm.")] = 1,
    quick: Annotated[
        bool, typer.Option("--quick", help="Two arms, few rows and steps: proves the path, claims nothing.")
    ] = False,
    arm: Annotated[
        list[str] | None, typer.Option("--arm", metavar="NAME", help="Only this arm; may be repeated.")
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "--weights", metavar="NAME=FILE", help="Weights that arms need (NAME=hub fetches timm's); may be repeated."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a field of every arm's recipe; may be repeated."),
    ] = None,
    base: Annotated[
        str,
        typer.Option(metavar="RECIPE[:VARIANT]", help="The recipe that the arms start from.  [default: the study's]"),
    ] = "",
    by: Annotated[
        str,
        typer.Option(
            metavar="COLUMN",
            help="Break figures down by (and leave out values of) this column.  [default: the study's]",
        ),
    ] = "",
    shared: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Where studies keep pictures and trained runs that they have in common."),
    ] = None,
    size: Annotated[str, typer.Option(metavar="small|paper", help="For one small machine, or the paper's.")] = "small",
    workers: Annotated[int, typer.Option(min=0, help="Processes that prepare batches.")] = 2,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="What to train on.")] = "auto",
    rounds: Annotated[int, typer.Option(min=0, help="Bootstrap rounds of the intervals.")] = 1000,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """A paper's open question as a runnable comparison: arms trained alike, measured on the same test rows.

    Exit status: 0 all that could run is finished, 1 an arm failed, 2 usage. Ctrl-C leaves what is done for the next
    run.
    """
    if name is None:
        _list(as_json)
        return
    from assay import studies

    chosen = studies.find(name)
    if data is None and out is None:
        _describe(chosen, as_json)
        return
    if data is None or out is None:
        raise typer.BadParameter("a study needs both: --data MANIFEST --out FOLDER")
    for value, known, option in (
        (equal, (None, *EQUAL), "--equal"),
        (size, ("small", "paper"), "--size"),
        (device, ("auto", "cpu", "cuda"), "--device"),
    ):
        if value not in known:
            raise typer.BadParameter(f"{value!r} is none of {', '.join(filter(None, known))}", param_hint=option)
    if base:
        from assay.learn.recipe import find

        find(base)
    given, changes = _files(weights), settings_of(settings, "descend.pairs=64")

    from assay.cli import sources

    rows = sources.rows(data)
    options = {
        "base": base or None,
        "by": by or None,
        "minutes": minutes,
        "views": views,
        "equal": equal,
        "seeds": seeds,
    }
    command = _command(chosen.name, options, quick, changes)
    try:
        from assay.studies import output, table
        from assay.studies.run import run

        with kept(out), stages(quiet) as progress:
            report = run(
                chosen,
                rows,
                Path(out),
                minutes=minutes,
                views=views,
                equal=cast("Equal | None", equal),
                seeds=seeds,
                quick=quick,
                only=tuple(arm or ()),
                base=base,
                by=by,
                shared=Path(shared) if shared else None,
                size=cast('Literal["small", "paper"]', size),
                settings=changes,
                weights=given,
                workers=workers,
                device=device,
                progress=progress,
                # Intervals take a while: they are for the end.
                finished=lambda report: output.write(report, Path(out), command, rounds=0),
            )
    except ModuleNotFoundError as error:
        if (error.name or "assay").partition(".")[0] == "assay":
            raise
        raise MissingExtra("training", "train") from error
    found = output.write(report, Path(out), command, rounds=rounds)
    if as_json:
        print(json.dumps(table.to_dict(found), allow_nan=False))
    else:
        print(table.text(found), end="")
    say(f"wrote {', '.join(output.FILES)} in {out}", prefix="")
    if report.failed:
        raise typer.Exit(SOME_FAILED)


def _list(as_json: bool) -> None:
    from assay import studies

    for chosen in studies.studies().values():
        if as_json:
            print(json.dumps(_told(chosen)))
        else:
            print(f"{chosen.name:<19} {chosen.question}\n{'':<19} arms: {', '.join(_arms(chosen))}")


def _describe(chosen: Study, as_json: bool) -> None:
    if as_json:
        print(json.dumps(_told(chosen)))
        return
    print(f"{chosen.name}: {chosen.question}\n")
    for arm in chosen.arms:
        needs = f"; needs --weights {arm.weights}=FILE" if arm.weights else ""
        print(f"  {arm.name:<36} {arm.what}{needs}")
    if chosen.leave:
        print(f"  {f'without-{chosen.leave.upper()}':<36} for each {chosen.leave}: trained without it")
    print(f"\nconditions: {', '.join(chosen.conditions)}\nall arms get the same: {chosen.equal}")
    if chosen.note:
        print(chosen.note)


def _arms(chosen: Study) -> list[str]:
    each = [f"without each {chosen.leave}"] if chosen.leave else []
    return [*(arm.name for arm in chosen.arms), *each]


def _told(chosen: Study) -> dict[str, Any]:
    arms = [{"name": arm.name, "what": arm.what, "weights": arm.weights} for arm in chosen.arms]
    told: dict[str, Any] = {"name": chosen.name, "question": chosen.question, "arms": arms, "leave": chosen.leave}
    return told | {"conditions": list(chosen.conditions), "heads": list(chosen.heads), "equal": chosen.equal}


def _files(given: list[str] | None) -> dict[str, str]:
    """NAME=FILE by name; every file has to be there, so that no run ends in hours for want of it."""
    from assay.studies.study import HUB

    found: dict[str, str] = {}
    for text in given or ():
        name, equals, file = text.partition("=")
        if not (name and equals and file):
            raise typer.BadParameter(f"{text!r}: write NAME=FILE, or NAME={HUB}", param_hint="--weights")
        if file != HUB and not Path(file).is_file():
            raise typer.BadParameter(f"no file {file}", param_hint="--weights")
        found[name] = file
    return found


def _command(name: str, numbers: dict[str, Any], quick: bool, changes: dict[str, str]) -> str:
    """The command as a log shows it: without places of this machine."""
    words = ["assay", "study", name]
    words += [
        word
        for key, value in numbers.items()
        if value is not None
        for word in (f"--{key}", f"{value:g}" if key == "minutes" else f"{value}")
    ]
    words += ["--quick"] if quick else []
    return shlex.join([*words, *(word for key, value in changes.items() for word in ("--set", f"{key}={value}"))])
