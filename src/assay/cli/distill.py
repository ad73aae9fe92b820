"""`assay distill`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

import assay
from assay.cli.making import Cache, Device, Precision, Resume, Seed, Settings, Size, Workers, chosen, making, sized
from assay.cli.shell import Json, Quiet, Vote, say, settings_of, stages

EXAMPLES = (
    "assay distill ./teacher --student mobilenetv3_small_100 --data manifest.csv --out students --minutes 60",
    "assay distill ./teacher --student trace_cnn --student regnety_002 --data manifest.csv --out students",
)

SUMMARY = ("tradeoff.json", "tradeoff.md", "tradeoff.svg")


def distill(
    teacher: Annotated[str, typer.Argument(metavar="TEACHER", help="A detector's name, or a bundle's folder.")],
    student: Annotated[
        list[str],
        typer.Option(metavar="NETWORK", help="Any network of timm, or trace_cnn; may be repeated, for a curve."),
    ],
    data: Annotated[
        str,
        typer.Option(metavar="MANIFEST", help="A table with path, label and split (train, tune, test), or its folder."),
    ],
    out: Annotated[str, typer.Option(metavar="FOLDER", help="Where soft labels, students and the trade-off go.")],
    vote: Vote = None,
    size: Size = "small",
    minutes: Annotated[
        float | None, typer.Option(min=0, help="Stop training each student after so long and finish.")
    ] = None,
    resume: Resume = True,
    conditions: Annotated[
        list[str] | None,
        typer.Option(
            "--condition", metavar="NAME", help="Of the robustness in the trade-off, e.g. jpeg50; repeatable."
        ),
    ] = None,
    settings: Settings = None,
    workers: Workers = None,
    device: Device = "auto",
    seed: Seed = 0,
    precision: Precision = "fp16",
    cache: Cache = None,
    rounds: Annotated[int, typer.Option(min=0, help="Bootstrap rounds of the intervals.")] = 1000,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Teach a small network what a detector says, and show what that keeps and what it saves.

    Each student becomes an ordinary detector in FOLDER/NETWORK/bundle. Where the manifest has test rows, teacher and
    students are compared on them: accuracy, calibration and robustness against parameters, time and size.
    """
    of = sized(size)
    given = chosen(device=device, precision=precision, name="", seed=seed, workers=workers, cache=cache)
    changes = settings_of(settings, "descend.pairs=64")

    from assay.cli import sources

    rows = sources.rows(data)
    loaded = assay.load(teacher, vote=vote)
    folder = Path(out)
    made: dict[str, Path] = {}
    with making("distillation", out, resume=resume):
        from assay.learn import distill as distilling
        from assay.learn.train import train

        names = distilling.folders(student)
        # Looked at before the teacher judges: a student that cannot be made is told at once.
        recipes = {name: distilling.recipe_of(name, loaded, of) for name in names}
        for name, recipe in recipes.items():
            for key, value in changes.items():
                recipe = recipe.with_field(key, value)
            distilling.tried(recipe)
            recipes[name] = recipe
        taught = distilling.taught(rows, loaded, folder / distilling.TAUGHT)
        for name, recipe in recipes.items():
            given["name"] = f"{loaded.name}-{names[name]}"[:64]
            given.setdefault("cache", folder / "tiles")
            made[name] = train(
                recipe, taught, folder / names[name], teacher=loaded, minutes=minutes, resume=resume, **given
            )
    found = None
    if (rows.column("split") == "test").any():
        found = _compared(loaded, teacher, made, sources.of_splits(rows, ["test"], data), conditions, rounds, quiet)
        _write(found, folder)
    if as_json:
        told: dict[str, Any] = {"bundles": {name: str(path) for name, path in made.items()}}
        print(json.dumps(told | {"tradeoff": None if found is None else found.to_dict()}, allow_nan=False))
    elif found is not None:
        from rich.console import Console

        from assay.measure import pareto

        pareto.show(found, Console(highlight=False))
    else:
        say("the manifest has no test rows, so teacher and students were not compared", prefix="")
    say(f"next: assay scan PATH -d {next(iter(made.values()))}", prefix="")


def _compared(
    loaded: assay.Detector,
    teacher: str,
    made: dict[str, Path],
    tested: Any,
    conditions: list[str] | None,
    rounds: int,
    quiet: bool,
) -> Any:
    from assay.judge import bundle
    from assay.measure import tradeoff as trading

    contenders = [trading.contender(loaded, bundle.find(teacher), "teacher")]
    contenders += [trading.contender(assay.load(path), path, name) for name, path in made.items()]
    under = trading.CONDITIONS if conditions is None else tuple(conditions)
    with stages(quiet) as progress:
        return trading.tradeoff(contenders, list(tested), conditions=under, rounds=rounds, progress=progress)


def _write(found: Any, folder: Path) -> None:
    from assay.measure import overview, pareto

    contents = (
        json.dumps(found.to_dict(), indent=1, allow_nan=False) + "\n",
        pareto.markdown(found),
        pareto.figure(found),
    )
    for name, content in zip(SUMMARY, contents, strict=True):
        overview.write(folder / name, content)
