"""What the verbs that make a detector share: options of `assay train` and `assay import`, and how both end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from assay.cli.shell import kept
from assay.errors import MissingExtra

Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a field of the recipe; may be repeated."),
]
Size = Annotated[str, typer.Option(metavar="small|paper", help="For one small machine, or the paper's.")]
Resume = Annotated[bool, typer.Option("--resume/--fresh", help="Go on from the checkpoints in FOLDER, or begin anew.")]
Workers = Annotated[int | None, typer.Option(min=0, help="Processes that prepare batches.")]
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="What to train on.")]
Seed = Annotated[int, typer.Option(help="Of everything random.")]
Name = Annotated[str, typer.Option(help="Of the detector; the recipe's where none is given.")]
Precision = Annotated[str, typer.Option(metavar="fp32|fp16|int8", help="How the bundle stores weights.")]
Cache = Annotated[
    str | None, typer.Option(metavar="FOLDER", help="Where decoded tiles are kept, for several runs to share.")
]


def sized(size: str) -> Literal["small", "paper"]:
    """The size of a recipe that is asked for."""
    if size not in ("small", "paper"):
        raise typer.BadParameter(f"{size!r} is neither small nor paper", param_hint="--size")
    return "paper" if size == "paper" else "small"


def chosen(
    *, device: str, precision: str, name: str, seed: int, workers: int | None, cache: str | None
) -> dict[str, Any]:
    """The options as keywords; those that were not given are left to what is called."""
    if device not in ("auto", "cpu", "cuda"):
        raise typer.BadParameter(f"{device!r} is none of auto, cpu, cuda", param_hint="--device")
    if precision not in ("fp32", "fp16", "int8"):
        raise typer.BadParameter(f"{precision!r} is none of fp32, fp16 and int8", param_hint="--precision")
    given: dict[str, Any] = {"name": name, "precision": precision, "device": device, "seed": seed}
    given |= {} if workers is None else {"workers": workers}
    return given | ({} if cache is None else {"cache": Path(cache)})


@contextlib.contextmanager
def making(what: str, out: str, *, resume: bool) -> Iterator[None]:
    """Says on Ctrl-C that what is done is kept, and names the extra where a library is missing."""
    try:
        with kept(out) if resume else contextlib.nullcontext():
            yield
    except ModuleNotFoundError as error:
        if (error.name or "assay").partition(".")[0] == "assay":
            raise
        raise MissingExtra(what, "train") from error
