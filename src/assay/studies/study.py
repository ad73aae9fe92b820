"""The nouns of a study: a question, the arms that answer it, and what they are measured under.

All of it is *ours*: papers publish tables, not how a comparison is held fair.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType, MappingProxyType
from typing import Any, Literal

from assay.errors import RecipeError, unknown
from assay.learn.recipe import Descend, Recipe, Shown, find

Equal = Literal["views", "compute"]
"""What all arms of a study get the same of: views that their networks are shown, or seconds of processor time."""

HUB = "hub"
"""In place of a weights file: timm's own weights of that network, from its hub (asks the network)."""

HEADS = ("linear", "nearest", "one_class")
"""CoDE's three heads, as a bundle's card names their kinds."""

DEFAULT = "default"
"""A bundle as it ships, whatever head and vote it has."""

VOTES = ("modified_majority", "majority", "mean", "plain_mean", "best")
"""DFCon's vote, and what it is compared with: rules that a bundle of several streams can judge by."""

_SLUG = re.compile(r"[^A-Za-z0-9._]+")


@dataclasses.dataclass(frozen=True)
class Arm:
    """One side of a comparison.

    Args:
        name: letters, digits, dots and hyphens: also the name of its folder.
        what: what it is, in one line.
        base: the recipe it starts from: a name, taken at the size that is asked for, or a recipe as it is.
        changes: fields of the recipe, by dotted place with `__` for the dot, as `Recipe.set` takes them. A function
            gives the value for the recipe that the arm starts from: what is a share of its view, say.
        frozen: leave the network as its weights are, and fit heads only.
        weights: the name under which a weights file must be given; empty where the arm needs none. Without its file
            an arm is not run: random weights are never shown as a result.
        paper: the model of `published.csv` that it repeats; empty where the paper has no such row.
        factors: those of the study's `factors` that it has.
        without: the value of the study's `leave` column that it is not trained on; empty: trained on all.
        whole: the arm that it is a copy of, where it is one that leaves something out.
        teacher: the arm whose run of the same seed says P(fake) of every training picture first, and whose first view
            sets the side of this arm's views; empty: none.
    """

    name: str
    what: str
    base: str | Recipe = "code24"
    changes: Mapping[str, Any | Callable[[Recipe], Any]] = dataclasses.field(default_factory=dict)
    frozen: bool = False
    weights: str = ""
    paper: str = ""
    factors: tuple[str, ...] = ()
    without: str = ""
    whole: str = ""
    teacher: str = ""

    def recipe(
        self, size: Literal["small", "paper"] = "small", weights: Mapping[str, str] = MappingProxyType({})
    ) -> Recipe:
        """The recipe that it trains.

        Args:
            weights: files (safetensors, in timm's naming) by name, or `HUB`.

        Raises:
            RecipeError: the file that it needs is not given, or a field does not exist.
        """
        recipe = find(self.base, size) if isinstance(self.base, str) else self.base
        # Not whatever is callable: an augmentation is, and is a value.
        changes = {
            place: value(recipe) if isinstance(value, FunctionType) else value for place, value in self.changes.items()
        }
        recipe = recipe.set(**changes)
        if self.weights:
            if self.weights not in weights:
                raise RecipeError(f"give --weights {self.weights}=FILE (or ={HUB} to fetch timm's)")
            given = weights[self.weights]
            for stream in recipe.streams:
                place, value = ("pretrained", True) if given == HUB else ("weights", given)
                recipe = recipe.with_field(f"{stream.name}.backbone.{place}", value)
        return frozen(recipe) if self.frozen else recipe


def frozen(recipe: Recipe) -> Recipe:
    """The recipe without training; its heads are fitted on what training would have been shown."""
    for stage in recipe.stages:
        if isinstance(stage, Descend):
            shown = Shown(**{field: getattr(stage, field) for field in Shown.model_fields})
            recipe = recipe.set(fit__shown=shown)
    return recipe.set(stages=tuple(stage for stage in recipe.stages if not isinstance(stage, Descend)))


@dataclasses.dataclass(frozen=True)
class Study:
    """A question and how it is put.

    Args:
        name: as `assay study` calls it.
        question: in one sentence.
        arms: the first is what the others are compared with.
        conditions: what the test rows go through (`assay.studies.conditions`).
        heads: what judges: kinds of head, rules that streams vote by, or streams alone, by name; one that a bundle
            lacks is named as missing.
        streams: those of `heads` that are streams, whose errors are compared.
        table: the table of `published.csv` that the arms' `paper` rows stand in; empty where there is none.
        equal: what the arms get the same of.
        leave: a column; for each of its values with enough training pictures there is one more arm that is trained
            without it. Empty: no such arms.
        leave_each: such arms for every arm, not for the first alone.
        embedding: also look at the embeddings of test rows (`assay.measure.overview`).
        calibration: also tell how far scores are probabilities, and the false-positive rates.
        probes: what else is looked at (`assay.studies.probes`), on each bundle.
        f1: also tell F1 of both classes and their mean.
        factors: what arms have or lack, in all combinations; the effect of each over the others is told.
        fairness: also compare rates of error between the values of `by`, at the detector's own threshold.
        by: the column that figures are broken down by.
        figure: "points" (a line for each arm), "curve" (conditions along the axis) or "parameters" (of each arm's
            networks, along the axis).
        note: what a reader of the table must know.
    """

    name: str
    question: str
    arms: tuple[Arm, ...]
    conditions: tuple[str, ...] = ("clean", "transforms")
    heads: tuple[str, ...] = HEADS
    streams: tuple[str, ...] = ()
    table: str = ""
    equal: Equal = "views"
    leave: str = ""
    leave_each: bool = False
    embedding: bool = False
    calibration: bool = False
    probes: tuple[str, ...] = ()
    f1: bool = False
    factors: tuple[str, ...] = ()
    fairness: bool = False
    by: str = "generator"
    figure: Literal["points", "curve", "parameters"] = "points"
    note: str = ""

    def over(self, base: str) -> Study:
        """The study with its arms over another recipe, by name ("recipe" or "recipe:variant"). An arm that starts from
        another recipe than the first arm does keeps its own."""
        first = self.arms[0].base
        arms = tuple(
            dataclasses.replace(arm, base=base) if isinstance(first, str) and arm.base == first else arm
            for arm in self.arms
        )
        return dataclasses.replace(self, arms=arms)

    def by_column(self, column: str) -> Study:
        """The study with its figures broken down by another column, whose values are left out where some are."""
        return dataclasses.replace(self, by=column, leave=column if self.leave else "")

    def with_left_out(self, values: Sequence[str]) -> Study:
        """The study with an arm for each value of `leave`: the first arm without it, or with `leave_each` each arm."""
        taken = {arm.name for arm in self.arms}
        arms = list(self.arms)
        for value in values:
            for whole in self.arms if self.leave_each else self.arms[:1]:
                part = "without-" + (_SLUG.sub("-", value).strip("-.") or "unnamed")
                stem = name = part if whole is self.arms[0] else f"{whole.name}-{part}"
                number = 2
                while name in taken:
                    name, number = f"{stem}-{number}", number + 1
                taken.add(name)
                what = (
                    f"{whole.what}, trained without {self.leave} {value}"
                    if self.leave_each
                    else (f"trained without {self.leave} {value}")
                )
                arms.append(dataclasses.replace(whole, name=name, what=what, without=value, whole=whole.name, paper=""))
        return dataclasses.replace(self, arms=tuple(arms))

    def arm(self, name: str) -> Arm:
        """The arm of that name.

        Raises:
            RecipeError: there is none; the nearest are named.
        """
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise RecipeError(unknown("arm", name, [arm.name for arm in self.arms]))
