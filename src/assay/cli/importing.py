"""`assay import`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from assay.cli.making import Cache, Name, Precision, Seed, Settings, chosen, making
from assay.cli.shell import Json, say, settings_of

EXAMPLES = (
    "assay import code24 aimagelab/CoDE --data manifest.csv --out code",
    "assay import code24 downloads/CoDE --data manifest.csv --out code",
    "assay import genconvit genconvit_ed_inference.pth --data crops --out genconvit",
    "assay import timm:vit_base_patch16_224 model.safetensors --data manifest.csv --out vit-base",
)


def import_(
    system: Annotated[
        str, typer.Argument(metavar="SYSTEM", help="code24, genconvit, or timm:NAME for any network of timm.")
    ],
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
    settings: Settings = None,
    workers: Annotated[int | None, typer.Option(min=0, help="Processes that prepare pictures.")] = None,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="What to compute on.")] = "auto",
    seed: Seed = 0,
    name: Name = "",
    precision: Precision = "fp16",
    cache: Cache = None,
    as_json: Json = False,
) -> None:
    """Make a detector of published weights: the network as it is, heads fitted and calibrated on your pictures.

    Pickles are never opened: heads that were published as such (.sav, .joblib) are fitted anew.
    """
    given = chosen(device=device, precision=precision, name=name, seed=seed, workers=workers, cache=cache)

    from assay.cli.sources import opened

    given["settings"] = settings_of(settings, "fit.records=10000")
    rows = opened(data)
    with making("importing weights", out, resume=resume):
        bundle = _importer()(system, weights, rows, Path(out), resume=resume, **given)
    if as_json:
        print(json.dumps({"bundle": str(bundle), "system": system, "weights": weights}))
    say(f"next: assay evaluate {bundle} --data MANIFEST", prefix="")


def _importer() -> Callable[..., Any]:
    from assay.learn.importing import import_weights

    return import_weights
