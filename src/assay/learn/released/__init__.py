"""Systems whose authors published weights: one file a system, which says what becomes of them here.

A system's file holds `SYSTEM`, and the folder is the registry: nothing else names it. `assay.learn.importing` carries
a plan out.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from assay.errors import RecipeError, unknown
from assay.learn.recipe import Backbone, Descend, Fit, Recipe, Shown, Stream
from assay.learn.recipe import find as recipe_of

if TYPE_CHECKING:
    from torch import Tensor

    from assay.learn.weights import Weights


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is made of published weights.

    Args:
        recipe: one stream whose network nothing trains; its `backbone.weights` is filled in when they are stored.
        tensors: the network's parameters, in timm's naming.
        naming: of the file they are from, for the card.
        size: side in pixels of the views that the weights are for; None where any will do.
        limits: sentences for the card.
    """

    recipe: Recipe
    tensors: Mapping[str, Tensor]
    naming: str
    size: int | None = None
    limits: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class System:
    """A system whose weights can be had.

    Args:
        name: as the command line names it.
        summary: one line.
        weights: what to give, for people.
        source: where its facts are from, as "repository@commit: file".
        plan: weights, and what follows the colon after the name (empty where nothing does), to a plan. Raises
            RecipeError where the weights are not of this system.
    """

    name: str
    summary: str
    weights: str
    source: str
    plan: Callable[[Weights, str], Plan]


def systems() -> dict[str, System]:
    """Every system by name."""
    modules = sorted(info.name for info in pkgutil.iter_modules(__path__))
    found = (importlib.import_module(f"{__name__}.{module}").SYSTEM for module in modules)
    return {system.name: system for system in found}


def find(name: str) -> tuple[System, str]:
    """The system of that name, and what follows its colon. Raises RecipeError naming the nearest."""
    base, _, rest = name.partition(":")
    known = systems()
    if base not in known:
        raise RecipeError(unknown("system with published weights", base, known))
    return known[base], rest


def under_code_heads(name: str, summary: str, stream: str, backbone: Backbone, size: int) -> Recipe:
    """CoDE's recipe at the paper's size, its heads and calibration kept, over a network that is not trained.

    Args:
        name, summary: of the recipe.
        stream: what its stream is called.
        size: side of the view in pixels.
    """
    code = recipe_of("code24", "paper")
    [ours] = code.streams
    # What the heads are shown is what they are shown after a training of ours.
    shown = Shown(**{field: getattr(code.shown(ours.name), field) for field in Shown.model_fields})
    view = ours.view.model_copy(update={"size": size})
    frozen: Stream = ours.model_copy(update={"name": stream, "backbone": backbone, "view": view})
    stages = tuple(
        stage.model_copy(update={"stream": stream, "shown": shown}) if isinstance(stage, Fit) else stage
        for stage in code.stages
        if not isinstance(stage, Descend)
    )
    return code.model_copy(
        update={"name": name, "summary": summary, "streams": (frozen,), "stages": stages, "expects": ()}
    )
