"""`assay train`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from assay.cli.making import (
    Cache,
    Device,
    Name,
    Precision,
    Resume,
    Seed,
    Settings,
    Size,
    Workers,
    chosen,
    making,
    sized,
)
from assay.cli.shell import Json, say, settings_of

EXAMPLES = (
    "assay train code24 --data manifest.csv --out my-detector --minutes 60",
    "assay train code24 --data manifest.csv --out my-detector --set descend.pairs=64",
)


def train(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A recipe, or one of its variants as RECIPE:VARIANT.")
    ],
    data: Annotated[
        str,
        typer.Option(
            metavar="MANIFEST|SHARDS",
            help="A table with path, label and split, a folder that holds one, or a folder or address of shards.",
        ),
    ],
    out: Annotated[str, typer.Option(metavar="FOLDER", help="Where the bundle and the checkpoints go.")],
    secondary: Annotated[
        str | None,
        typer.Option(
            metavar="MANIFEST",
            help="A second data set that is trained on too; descend.secondary_weight says how much it weighs.",
        ),
    ] = None,
    size: Size = "small",
    minutes: Annotated[float | None, typer.Option(min=0, help="Stop training after so long and finish.")] = None,
    resume: Resume = True,
    settings: Settings = None,
    workers: Workers = None,
    device: Device = "auto",
    seed: Seed = 0,
    name: Name = "",
    precision: Precision = "fp16",
    cache: Cache = None,
    as_json: Json = False,
) -> None:
    """Train a recipe on labelled pictures and write the detector as a bundle."""
    of = sized(size)
    given = chosen(device=device, precision=precision, name=name, seed=seed, workers=workers, cache=cache)

    from assay.cli import sources
    from assay.learn.recipe import find

    asked = find(recipe, of)
    for key, value in settings_of(settings, "descend.pairs=64").items():
        asked = asked.with_field(key, value)
    given |= {} if secondary is None else {"secondary": sources.rows(secondary)}
    rows = sources.opened(data)
    with making("training", out, resume=resume):
        bundle = _trainer()(asked, rows, Path(out), minutes=minutes, resume=resume, **given)
    if as_json:
        print(json.dumps({"bundle": str(bundle), "recipe": recipe}))
    say(f"next: assay evaluate {bundle} --data MANIFEST", prefix="")


def _trainer() -> Callable[..., Any]:
    from assay.learn.train import train

    return train
