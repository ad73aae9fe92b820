"""Changing one field by its name, through models, dataclasses, mappings and tuples of parts."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

import pydantic
import pytest

from assay.errors import RecipeError
from assay.settings import replaced


class Round(pydantic.BaseModel):
    kind: Literal["round"] = "round"
    radius: float = pydantic.Field(1.0, gt=0)


class Square(pydantic.BaseModel):
    kind: Literal["square"] = "square"
    side: int = 2


@dataclasses.dataclass(frozen=True)
class Look:
    colour: str = "red"


class Box(pydantic.BaseModel):
    shapes: tuple[Annotated[Round | Square, pydantic.Field(discriminator="kind")], ...] = (Round(), Square())
    sizes: tuple[int, ...] = (1, 2)
    look: Look = Look()
    free: dict[str, Any] = {}


@pytest.mark.parametrize(
    ("place", "value", "changed"),
    [
        ("shapes.square.side", "5", {"shapes": (Round(), Square(side=5))}),
        ("shapes.round.radius", 3, {"shapes": (Round(radius=3), Square())}),
        ("shapes.round", '{"radius": 4}', {"shapes": (Round(radius=4), Square())}),
        ("shapes", '[{"kind": "square"}]', {"shapes": (Square(),)}),
        ("sizes", "[3]", {"sizes": (3,)}),
        ("look.colour", "16", {"look": Look("16")}),
        ("free.any", "null", {"free": {"any": None}}),
    ],
)
def test_a_field_is_changed_wherever_it_lies_and_nothing_else(place: str, value: Any, changed: dict[str, Any]) -> None:
    assert replaced(Box(), place, value) == Box(**changed)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("shapes.sqare.side", "5", "cannot set 'shapes.sqare.side': no field called 'sqare'; did you mean square"),
        ("shapes.square.sid", "5", "no field called 'sid'; did you mean side"),
        ("shapes.round.radius", "0", "cannot set shapes.round.radius to '0': input should be greater than 0"),
        ("shapes.round", '{"radius": -1}', "cannot set shapes.round to .*greater than 0"),
        ("sizes.0", "5", r"sizes is \(1, 2\) and has no fields; set sizes itself"),
    ],
)
def test_what_cannot_be_changed_says_why(place: str, value: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        replaced(Box(), place, value)


def test_parts_of_one_kind_are_not_told_apart() -> None:
    with pytest.raises(RecipeError, match="set shapes itself"):
        replaced(Box(shapes=(Square(side=1), Square(side=2))), "shapes.square.side", "3")
