"""Changing one field of a frozen value by its name, as `--set KEY=VALUE` does."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, TypeVar, cast

import pydantic

from assay.errors import RecipeError, unknown

Part = TypeVar("Part")


def replaced(part: Part, place: str, value: Any, whole: str = "") -> Part:
    """A copy with the field at a dotted place changed, checked as if it had been made so.

    Args:
        part: a pydantic model, a dataclass, a mapping, or a tuple of parts whose `kind` tells them apart; so are the
            parts on the way to the field.
        place: dotted, as in "search.score"; a part of a tuple goes by its kind, as in "heads.nearest.most".
        value: of the field's type, or text as a command line gives it: JSON ("null", "[1, 2]", "0.5"), else the text
            itself.
        whole: the place as the user named it, where `place` is the rest of it.

    Raises:
        RecipeError: no such field (the nearest are named), or the value does not fit it.
    """
    whole = whole or place
    first, _, rest = place.partition(".")
    fields = _fields(part)
    if fields is None:
        above = whole.removesuffix(f".{place}")
        raise RecipeError(f"cannot set {whole!r}: {above} is {part!r} and has no fields; set {above} itself")
    if first not in fields and not isinstance(part, dict):
        raise RecipeError(f"cannot set {whole!r}: " + unknown("field", first, fields))
    if rest:
        return _made(part, fields | {first: replaced(fields.get(first), rest, value, whole)}, whole, value)
    if not isinstance(value, str):
        return _made(part, fields | {first: value}, whole, value)
    try:
        parsed = json.loads(value)
    except ValueError:
        return _made(part, fields | {first: value}, whole, value)
    try:
        return _made(part, fields | {first: parsed}, whole, value)
    except RecipeError as refusal:
        # A text may look like JSON: a name such as "16".
        try:
            return _made(part, fields | {first: value}, whole, value)
        except RecipeError:
            raise refusal from None


def _fields(part: Any) -> dict[str, Any] | None:
    if isinstance(part, pydantic.BaseModel):
        return {name: getattr(part, name) for name in type(part).model_fields}
    if dataclasses.is_dataclass(part):
        return {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
    if isinstance(part, tuple):
        kinds = {item.kind: item for item in part if isinstance(getattr(item, "kind", None), str)}
        return kinds if kinds and len(kinds) == len(part) else None
    return dict(part) if isinstance(part, dict) else None


def _made(part: Part, fields: dict[str, Any], whole: str, value: Any) -> Part:
    """Another of `part`'s type, checked."""
    if isinstance(part, dict):
        return cast(Part, fields)
    try:
        if isinstance(part, tuple):
            parts = zip(part, fields.values(), strict=True)
            return cast(Part, tuple(pydantic.TypeAdapter(type(was)).validate_python(now) for was, now in parts))
        return pydantic.TypeAdapter(type(part)).validate_python(fields)
    except pydantic.ValidationError as error:
        raise RecipeError(f"cannot set {whole} to {value!r}: {error.errors()[0]['msg'].lower()}") from None
    except RecipeError as error:
        raise RecipeError(f"cannot set {whole} to {value!r}: {error}") from None
