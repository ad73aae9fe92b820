"""`assay train`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from assay.cli.shell import Json, kept, say, settings_of
from assay.errors import MissingExtra

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
    size: Annotated[str, typer.Option(metavar="small|paper", help="For one small machine, or the paper's.")] = "small",
    minutes: Annotated[float | None, typer.Option(min=0, help="Stop training after so long and finish.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume/--fresh", help="Go on from the checkpoints in FOLDER, or begin anew.")
    ] = True,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a field of the recipe; may be repeated."),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=0, help="Processes that prepare batches.")] = None,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="What to train on.")] = "auto",
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    name: Annotated[str, typer.Option(help="Of the detector; the recipe's where none is given.")] = "",
    precision: Annotated[str, typer.Option(metavar="fp32|fp16", help="How the bundle stores weights.")] = "fp16",
    cache: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Where decoded tiles are kept, for several runs to share.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a recipe on labelled pictures and write the detector as a bundle."""
    if size not in ("small", "paper"):
        raise typer.BadParameter(f"{size!r} is neither small nor paper", param_hint="--size")
    if device not in ("auto", "cpu", "cuda"):
        raise typer.BadParameter(f"{device!r} is none of auto, cpu, cuda", param_hint="--device")
    if precision not in ("fp32", "fp16"):
        raise typer.BadParameter(f"{precision!r} is neither fp32 nor fp16", param_hint="--precision")

    from assay.cli.sources import opened
    from assay.learn.recipe import find

    chosen = find(recipe, "paper" if size == "paper" else "small")
    for key, value in settings_of(settings, "descend.pairs=64").items():
        chosen = chosen.with_field(key, value)
    rows = opened(data)
    given: dict[str, Any] = {"name": name, "precision": precision}
    given |= {} if workers is None else {"workers": workers}
    given |= {} if cache is None else {"cache": Path(cache)}
    try:
        with kept(out) if resume else contextlib.nullcontext():
            bundle = _trainer()(
                chosen, rows, Path(out), minutes=minutes, resume=resume, device=device, seed=seed, **given
            )
    except ModuleNotFoundError as error:
        if (error.name or "assay").partition(".")[0] == "assay":
            raise
        raise MissingExtra("training", "train") from error
    if as_json:
        print(json.dumps({"bundle": str(bundle), "recipe": recipe}))
    say(f"next: assay evaluate {bundle} --data MANIFEST", prefix="")


def _trainer() -> Callable[..., Any]:
    from assay.learn.train import train

    return train
