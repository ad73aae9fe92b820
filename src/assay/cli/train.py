"""`assay train`."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
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
from assay.cli.shell import INTERRUPTED, Json, say, settings_of
from assay.errors import AssayError

EXAMPLES = (
    "assay train code24 --data manifest.csv --out my-detector --minutes 60",
    "assay train code24 --data manifest.csv --out my-detector --set descend.pairs=64",
    "assay train code24 --size paper --data shards/ --out my-detector --devices 8",
)

_GRACE = 2.0
"""Seconds that a rank waits before it tells of its end: where all end for one reason, or because another one has, the
first has stopped them by then, and one message is enough."""


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
    devices: Annotated[
        int, typer.Option(min=1, metavar="N", help="Train on so many GPUs, or so many processes of a machine without.")
    ] = 1,
    shard: Annotated[
        bool, typer.Option("--shard", help="Lay the network out over the devices, in place of a copy on each.")
    ] = False,
    recompute: Annotated[
        bool, typer.Option("--checkpoint-activations", help="Compute inner values again, in place of keeping them.")
    ] = False,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Let torch compile the network: a slow start, faster steps.")
    ] = False,
    seed: Seed = 0,
    name: Name = "",
    precision: Precision = "fp16",
    cache: Cache = None,
    as_json: Json = False,
) -> None:
    """Train a recipe on labelled pictures and write the detector as a bundle."""
    of = sized(size)
    rank, ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if 1 < devices != ranks > 1:
        raise typer.BadParameter(f"there are {ranks} processes already; leave it out", param_hint="--devices")
    given = chosen(device=device, precision=precision, name=name, seed=seed, workers=workers, cache=cache)

    from assay.cli import sources
    from assay.learn.recipe import find

    asked = find(recipe, of)
    for key, value in settings_of(settings, "descend.pairs=64").items():
        asked = asked.with_field(key, value)
    if devices > ranks:
        with making("training", out, resume=resume):
            _start(devices, device, out, resume=resume)
        return
    ways = {"shard": shard, "recompute": recompute, "compiled": compiled}
    given |= {way: True for way, wanted in ways.items() if wanted}
    if ranks > 1 and rank > 0:
        # The first reads what there is to read.
        with making("training", out, resume=resume), _one_of_several(leads=False):
            _trainer()(asked, (), Path(out), **given)
        return
    given |= {} if secondary is None else {"secondary": sources.rows(secondary)}
    rows = sources.opened(data)
    with making("training", out, resume=resume), _one_of_several(leads=True):
        bundle = _trainer()(asked, rows, Path(out), minutes=minutes, resume=resume, **given)
    if as_json:
        print(json.dumps({"bundle": str(bundle), "recipe": recipe}))
    say(f"next: assay evaluate {bundle} --data MANIFEST", prefix="")


def _start(devices: int, device: str, out: str, *, resume: bool) -> None:
    """Run this command once for each device; whatever is to be said of a training, rank 0 says."""
    from assay.learn import launch

    launch.fit(devices, device)
    status, told = launch.start(devices, sys.argv[1:])
    if status:
        kept = f"; what is done is kept in {out}: run the same command again to go on" if resume else ""
        if status != INTERRUPTED:
            say((f"{told}, and the others were stopped" if told else "stopped") + kept)
        raise typer.Exit(status)


@contextlib.contextmanager
def _one_of_several(*, leads: bool) -> Iterator[None]:
    """Where several processes train together, what ended all of them is told once."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if leads:
            raise
        raise typer.Exit(INTERRUPTED) from stop
    except AssayError as error:
        lost = error.kind == "rank"
        if lost or not leads:
            time.sleep(_GRACE)
        if lost:
            from assay.learn.ranks import LOST

            raise typer.Exit(LOST) from error
        raise


def _trainer() -> Callable[..., Any]:
    from assay.learn.train import train

    return train
