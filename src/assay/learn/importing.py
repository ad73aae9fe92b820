"""From published weights to a bundle: the network as it is, heads fitted and calibrated on the user's rows.

read      the weights, so that nothing in them can run
plan      the system's file says which network they are of
keep      the network's parameters, in timm's naming, beside the bundle
train     a recipe whose network nothing trains: export, parity, heads, calibration, bundle
say       on the card where the weights are from
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from safetensors.torch import save_file
from torch import Tensor

from assay.data.index import Index
from assay.data.table import Table
from assay.errors import RecipeError
from assay.judge import bundle
from assay.judge.sink import printable
from assay.learn import released
from assay.learn import weights as published
from assay.learn.hold import rows_of
from assay.learn.nn import backbones
from assay.learn.recipe import Recipe
from assay.learn.released import Plan
from assay.learn.rows import learning_rows
from assay.learn.run import Run, claim
from assay.learn.train import train
from assay.learn.weights import Weights
from assay.types import Sample

KEPT = "weights"
"""The folder of a run that holds the parameters."""


def import_weights(
    system: str,
    place: str,
    data: Iterable[Sample] | Index,
    out: Path,
    *,
    settings: Mapping[str, Any] | None = None,
    name: str = "",
    resume: bool = True,
    seed: int = 0,
    console: Console | None = None,
    **options: Any,
) -> Path:
    """Make a bundle of published weights, in `out/bundle`.

    Heads are fitted on rows of split "train", thresholds chosen on rows of split "tune"; other rows are never opened.

    Args:
        system: "code24", "genconvit", or "timm:NAME" with any network of timm (`assay.learn.released`).
        place: the weights, as `assay.learn.weights.read` takes them. A name of the hub alone uses the network.
        data, out, seed: as `assay.learn.train.train` takes them.
        settings: fields of the recipe to change, by their dotted place.
        name: of the detector; the recipe's where none is given.
        resume: go on in `out` where it holds the same import; else what an earlier one left is removed.
        console: standard error where none is given.
        options: passed on to `train`: version, workers, device, precision, cache.

    Returns:
        The bundle's folder.

    Raises:
        RecipeError: no such system, the weights are not of it or cannot be read, a setting does not hold, or `out`
            holds something else.
        ManifestError: rows are missing, unlabelled or cannot be decoded.
        MissingExtra: the weights are on the hub, and the library that asks it is not installed.
    """
    console = console or Console(stderr=True)
    chosen, rest = released.find(system)
    weights = published.read(place)
    if weights.closed:
        told = printable(", ".join(weights.closed))
        console.print(
            f"left closed, because unpickling can run code: {told}; heads are fitted on your training rows instead",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    plan = chosen.plan(weights, rest)
    recipe = plan.recipe
    for field, value in (settings or {}).items():
        recipe = recipe.with_field(field, value)
    _fits(plan, recipe, weights)
    kept = out / KEPT / f"{_key(weights)}.safetensors"
    recipe = _over(recipe, str(kept))
    source = data if isinstance(data, Index) else Table.of(data)
    rows = learning_rows(rows_of(source) if isinstance(source, Index) else source)
    claim(out, Run.of(recipe, rows, seed), resume=resume)
    _store(kept, plan.tensors)
    folder = train(recipe, source, out, name=name, resume=True, seed=seed, console=console, **options)
    _say(folder, plan, weights)
    return folder


def _fits(plan: Plan, recipe: Recipe, weights: Weights) -> None:
    """Raises RecipeError where the parameters are not those of the recipe's network, before any picture is opened."""
    for stream in recipe.streams:
        if plan.size is not None and stream.view.size != plan.size:
            raise RecipeError(
                f"the position embeddings of {weights.named} are for views of {plan.size} px, and are not stretched to "
                f"{stream.view.size}; leave {stream.name}.view.size as it is"
            )
        planned = plan.recipe.stream(stream.name).backbone
        if stream.backbone.model_copy(update={"fields": planned.fields}) != planned:
            raise RecipeError(
                f"{weights.named} says which network it is of; of {stream.name}.backbone only fields can be set"
            )
        trunk = backbones.build(stream.backbone, stream.view.size)
        backbones.load(trunk.network, plan.tensors, stream.backbone.name, weights.named)


def _over(recipe: Recipe, file: str) -> Recipe:
    """The recipe with its networks' weights in that file."""
    streams = tuple(
        stream.model_copy(update={"backbone": stream.backbone.model_copy(update={"weights": file})})
        for stream in recipe.streams
    )
    return recipe.model_copy(update={"streams": streams})


def _key(weights: Weights) -> str:
    """Of the files that were read: the same weights are kept under the same name, so that a run can be taken up."""
    return hashlib.sha256(json.dumps(dict(weights.files), sort_keys=True).encode()).hexdigest()[:16]


def _store(path: Path, tensors: Mapping[str, Tensor]) -> None:
    path.parent.mkdir(exist_ok=True)
    part = path.with_suffix(".part")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part)
    part.replace(path)


def _say(folder: Path, plan: Plan, weights: Weights) -> None:
    """Put on the card where the weights are from, and what that means."""
    card = bundle.read(folder).card
    origin = {
        "from": weights.source,
        "revision": weights.revision or "not recorded",
        "files": dict(weights.files),
        "naming": plan.naming,
        "licence": "not recorded here; see the source",
    }
    closed = f" {', '.join(weights.closed)} beside them were not opened." if weights.closed else ""
    note = (
        f"The network is published weights ({weights.source}), not trained here. Its heads were fitted on the training "
        f"rows under data and calibrated on the tuning rows; heads that were published with it are not used.{closed}"
    )
    bundle.amend(
        folder,
        data=card.data | {"weights": origin},
        limits=(*card.limits, *plan.limits),
        notes=f"{card.notes} {note}".strip(),
        training=_without_places(card.training),
    )


def _without_places(training: Mapping[str, Any]) -> dict[str, Any]:
    """Facts of the training, the file of weights by its name: where it lay says nothing to whoever reads the card."""
    told = json.loads(json.dumps(training))
    for stream in told["recipe"]["streams"]:
        stream["backbone"]["weights"] = Path(stream["backbone"]["weights"]).name
    return dict(told)
