"""`assay import`."""

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
    "assay import code24 aimagelab/CoDE --data manifest.csv --out code",
    "assay import code24 downloads/CoDE --data manifest.csv --out code",
    "assay import timm:vit_base_patch16_224 model.safetensors --data manifest.csv --out vit-base",
)


def import_(
    system: Annotated[str, typer.Argument(metavar="SYSTEM", help="code24, or timm:NAME for any network of timm.")],
    weights: Annotated[
        str,
        typer.Argument(
            metavar="WEIGHTS",
            help="A folder with config.json and model.safetensors, a safetensors file, or a repository of the Hugging "
            "Face hub as OWNER/NAME or OWNER/NAME@REVISION. Only a repository uses the network.",
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            metavar="MANIFEST|SHARDS",
            help="Pictures that heads are fitted on (split train) and thresholds chosen on (split tune).",
        ),
    ],
    out: Annotated[str, typer.Option(metavar="FOLDER", help="Where the bundle and the network's parameters go.")],
    resume: Annotated[
        bool, typer.Option("--resume/--fresh", help="Go on with the same import in FOLDER, or begin anew.")
    ] = True,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a field of the recipe; may be repeated."),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=0, help="Processes that prepare pictures.")] = None,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="What to compute on.")] = "auto",
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    name: Annotated[str, typer.Option(help="Of the detector; the recipe's where none is given.")] = "",
    precision: Annotated[str, typer.Option(metavar="fp32|fp16", help="How the bundle stores weights.")] = "fp16",
    cache: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Where decoded tiles are kept, for several runs to share.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a detector of published weights: the network as it is, heads fitted and calibrated on your pictures.

    Pickles are never opened: heads that were published as such (.sav, .joblib) are fitted anew.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise typer.BadParameter(f"{device!r} is none of auto, cpu, cuda", param_hint="--device")
    if precision not in ("fp32", "fp16"):
        raise typer.BadParameter(f"{precision!r} is neither fp32 nor fp16", param_hint="--precision")

    from assay.cli.sources import opened

    chosen = settings_of(settings, "fit.records=10000")
    rows = opened(data)
    given: dict[str, Any] = {"settings": chosen, "name": name, "precision": precision, "device": device, "seed": seed}
    given |= {} if workers is None else {"workers": workers}
    given |= {} if cache is None else {"cache": Path(cache)}
    try:
        with kept(out) if resume else contextlib.nullcontext():
            bundle = _importer()(system, weights, rows, Path(out), resume=resume, **given)
    except ModuleNotFoundError as error:
        if (error.name or "assay").partition(".")[0] == "assay":
            raise
        raise MissingExtra("importing weights", "train") from error
    if as_json:
        print(json.dumps({"bundle": str(bundle), "system": system, "weights": weights}))
    say(f"next: assay evaluate {bundle} --data MANIFEST", prefix="")


def _importer() -> Callable[..., Any]:
    from assay.learn.importing import import_weights

    return import_weights
