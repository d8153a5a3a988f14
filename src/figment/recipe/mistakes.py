"""What is wrong with a recipe, in words: one line a mistake, with its field, and what would be right."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError

from figment.errors import nearest
from figment.recipe.plugin import PLUGIN

MOST_MISTAKES = 20  # are shown: a thousand classes may all be numbers
QUOTES = "YAML takes yes, no, on, off, true, null, numbers and dates for something else than words: put them in quotes."


def explain(error: ValidationError, where: str, root: type[BaseModel]) -> str:
    """All mistakes of data that is no ``root``, in lines; ``where`` says what they are in."""
    errors = _joined(error.errors(include_url=False), root)
    mistakes = list(dict.fromkeys(_mistake(e, root) for e in errors))
    many = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes):,} mistakes"
    shown = [f"  - {m}" for m in mistakes[:MOST_MISTAKES]]
    if len(mistakes) > MOST_MISTAKES:
        shown.append(f"  and {len(mistakes) - MOST_MISTAKES:,} more")
    if any(e["type"] == "string_type" and _is_yaml_scalar(e["input"]) for e in errors):
        shown.append(QUOTES)
    return "\n".join([f"{where} has {many}:", *shown])


def _joined(errors: Sequence[Any], root: type[BaseModel]) -> list[Any]:
    """One error in the place of those that each alternative of "a number, or a word" gives, under pydantic's names for them."""
    left: dict[Any, Any] = {}
    for number, e in enumerate(errors):
        place = e["loc"][:-1] if _is_alternative(root, e["loc"]) else number
        alike = left.get(place)
        if alike is None:
            left[place] = e
        else:
            said = f"{alike['msg']}, or {e['msg'].removeprefix('Input should be ')}"
            left[place] = {**alike, "loc": e["loc"][:-1], "msg": said}
    return list(left.values())


def _is_alternative(root: type[BaseModel], loc: Sequence[Any]) -> bool:
    """Whether a place is one of the things that a field may be, a word among them."""
    _, models = _follow(root, loc[:-2])
    own = next((m.model_fields[loc[-2]] for m in models if len(loc) > 1 and loc[-2] in m.model_fields), None)
    return own is not None and any(get_origin(part) is Literal for part in get_args(own.annotation))


def _mistake(error: Any, root: type[BaseModel]) -> str:
    """One line for one pydantic error: where, what, and what would be right."""
    field, _ = _follow(root, error["loc"])
    where = ".".join(field)[:200] or "the recipe"
    kind = error["type"]
    if kind == "extra_forbidden":
        allowed = fields_at(root, error["loc"][:-1])
        others = _kinds_with(root, error["loc"])
        hint = f" It is one of kind: {' and of kind: '.join(others)}." if others else nearest(field[-1], allowed)
        return f"{where}: there is no such field.{hint} Allowed here: {', '.join(allowed)}."
    if kind == "union_tag_invalid":
        own = error["input"]
        given = "none is given" if isinstance(own, dict) and "kind" not in own else f"got {error['ctx']['tag']!r}"
        return f"{where}: kind must be one of {error['ctx']['expected_tags']}; {given}."
    if kind == "missing":
        return f"{where}: this field is needed."
    if kind == "model_type" and field and (allowed := fields_at(root, error["loc"])):
        example = f"{field[-1]}: {{{allowed[0]}: ...}}"
        return (
            f"{where}: these are fields with values, such as {example}; got {str(error['input'])[:60]!r}."
            f" Allowed here: {', '.join(allowed)}."
        )
    message = error["msg"].removeprefix("Value error, ").removesuffix(".")
    given = "" if kind == "value_error" else f" (got {str(error.get('input'))[:60]!r})"
    return f"{where}: {message[0].lower()}{message[1:]}{given}."


def _is_yaml_scalar(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | date)


def fields_at(root: type[BaseModel], loc: Sequence[Any]) -> list[str]:
    """The fields that are allowed at a place of a recipe."""
    _, models = _follow(root, loc)
    return list(models[0].model_fields) if models else []


def _kinds_with(root: type[BaseModel], loc: Sequence[Any]) -> list[str]:
    """The kinds, beside the one that is given, of which a field that is not allowed is one."""
    _, models = _follow(root, loc[:-2])
    return [_tag(m) for m in models if len(models) > 1 and loc[-1] in m.model_fields]


def _follow(root: type[BaseModel], loc: Sequence[Any]) -> tuple[list[str], list[type[BaseModel]]]:
    """The place as a user writes it, without pydantic's tags of unions, and the models that may stand there."""
    field: list[str] = []
    models, tags = [root], set[str]()
    for part in loc:
        tagged = [m for m in models if _tag(m) == part] if len(models) > 1 else []
        if tagged or part in tags:
            models, tags = tagged or models, set()
            continue
        field.append(str(part))
        if isinstance(part, str):
            own = next((m.model_fields[part] for m in models if part in m.model_fields), None)
            models, tags = (models_in(own.annotation), _tags_in(own.annotation)) if own is not None else ([], set())
    return field, models


def _tags_in(annotation: Any) -> set[str]:
    """Pydantic's names for the parts of a union that is told apart by a function."""
    own = {part.tag for part in getattr(annotation, "__metadata__", ()) if isinstance(part, Tag)}
    return own.union(*(_tags_in(part) for part in get_args(annotation)))


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models that an annotation such as ``list[A | B] | None`` speaks of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in models_in(part)]


def _tag(model: type[BaseModel]) -> str:
    """What pydantic calls a model of a union by: its ``kind``."""
    kind = model.model_fields.get("kind")
    return PLUGIN if kind is None or kind.is_required() else kind.default
