"""Networks that are trained before any stream has them, and kept: runs on the same rows share what they began with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from assay.data import lock
from assay.errors import RecipeError
from assay.learn.descend import Data, Machine, descend
from assay.learn.recipe import Backbone, Pretrain, Recipe, Stream

FOLDER = "pretrained"
"""In the folder that runs share."""

FILE = "network.safetensors"


def pretrained(
    recipe: Recipe,
    data: Callable[[Stream, Pretrain], Mapping[str, Data]],
    rows: str,
    folder: Path,
    machine: Machine,
    *,
    seed: int,
) -> tuple[Recipe, dict[str, Any]]:
    """The recipe with its pre-trained networks' files for weights, trained where they are not there yet.

    A run that was stopped goes on; another run that is training the same network is waited for.

    Args:
        data: tiles of the training and tuning rows, by split, as a stage shows them to a stream.
        rows: hash of the rows.
        folder: where networks are kept.

    Returns:
        The recipe, and facts for a card by the stream that each stage names.

    Raises:
        RecipeError: a stage's network has weights already, or no stage is for a stream.
    """
    facts: dict[str, Any] = {}
    for stage in recipe.pretrained:
        stream = recipe.stream(stage.stream)
        backbone = plain(stream.backbone)
        if backbone.weights or backbone.pretrained:
            raise RecipeError(
                f"{stream.name} has weights already; take the stage pretrain out of the recipe, or the weights"
            )
        told = [stage.model_dump(mode="json"), backbone.model_dump(mode="json"), stream.view.model_dump(mode="json")]
        key = hashlib.sha256(json.dumps([*told, rows, seed, machine.bf16], sort_keys=True).encode()).hexdigest()[:16]
        home = folder / FOLDER / key
        home.mkdir(parents=True, exist_ok=True)
        note = home / "facts.json"
        with lock.held(home, wait=True):
            if not note.exists():
                shown = data(stream, stage)
                bare = Stream(name=stream.name, view=stream.view, backbone=backbone)
                training = descend(bare, stage, shown["train"], shown["tune"], home, machine, seed=seed)
                state = {name: x.contiguous().cpu() for name, x in training.trunk.network.state_dict().items()}
                part = home / f"{FILE}.part"
                save_file(state, part)
                part.replace(home / FILE)
                note.write_text(
                    json.dumps(
                        {
                            "steps": training.step,
                            "kept_step": training.best_step,
                            "minutes": round(training.seconds / 60, 1),
                            "tuning_auc": round(training.best, 4),
                        }
                    )
                )
        facts[stage.stream] = json.loads(note.read_bytes())
        recipe = _begun(recipe, backbone, home / FILE)
    return recipe, facts


def plain(backbone: Backbone) -> Backbone:
    """The network without what is trained beside its layers."""
    return backbone.model_copy(update={"lora": None})


def _begun(recipe: Recipe, backbone: Backbone, file: Path) -> Recipe:
    """The recipe, every stream over that network beginning with the file's weights."""
    streams = tuple(
        stream.model_copy(update={"backbone": stream.backbone.model_copy(update={"weights": str(file)})})
        if plain(stream.backbone) == backbone
        else stream
        for stream in recipe.streams
    )
    return recipe.model_copy(update={"streams": streams})
