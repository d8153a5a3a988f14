"""A recipe from a YAML file."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from figment import files, limits, plain_yaml
from figment.errors import FigmentError, nearest
from figment.files import as_path
from figment.generate.speed_settings import TINY
from figment.layout import OLD_RECIPE, Run
from figment.recipe.old_names import renewed, renewed_changes
from figment.recipe.recipe import Recipe, default_of, put, validate
from figment.task import PathText

IS_PATH = get_args(PathText)[1]
#: How fields are called that may name a model's folder.
MODELS = ("model", "encoder", "denoiser", "weights", "timm", "pretrained", "tokenizer", "lora", "vae")
BUILT_IN = ("starter", TINY)  # also where a folder is called so
#: Fields that name a file or folder, and none of a model.
FILES = (
    "few_shot.split",
    "prompts.contexts",
    "prompts.source",
    "prompts.backgrounds",
    "generate.finetune.contexts",
    "generate.path",
)
#: Fields that name a built-in task, or else a file. Of the last one these are keys.
LISTS = ("prompts.places", "prompts.textures", "prompts.concepts")


def load_recipe(path: str | Path, changes: Sequence[str] = (), variant: str | None = None) -> Recipe:
    """Read a YAML recipe; ``changes`` are ``field.name=value`` strings that win over it.

    ``variant`` names one of the recipe's ``variants``: fields and values that are put in place of its own, as for a scale
    model of a costly study.

    Paths in the file are relative to the file. Raises FigmentError with every mistake at once.
    """
    path = as_path(path)
    try:
        if path.is_dir():  # of a run, or of one that is still to be made, where the user's recipe lies
            path = next((p for p in (Run(path).recipe, path / OLD_RECIPE) if p.is_file()), path)
        text = files.read_text(path, "recipe")
    except FileNotFoundError:
        raise FigmentError(
            f"There is no recipe {path}. Write a first one with: figment init {shlex.quote(str(path))}"
        ) from None
    except IsADirectoryError:
        raise FigmentError(
            f"{path} is a folder without a recipe (resolved.yaml). Name a recipe, or the folder of a run."
        ) from None
    except UnicodeDecodeError as error:
        raise FigmentError(f"The recipe {path} cannot be read: {error}. Save it as text in UTF-8.") from error
    except OSError as error:
        raise FigmentError(
            f"The recipe {str(path)[:300]} cannot be read: {(error.strerror or str(error)).lower()}."
        ) from error
    data = plain_yaml.parse(text, f"The recipe {path}")
    if not isinstance(data, dict):
        raise FigmentError(
            f"The recipe {path} must be a mapping with fields such as task, prompts, generate; see figment init."
        )
    variants = _variants(data.pop("variants", None), path)
    if variant is not None:
        if variant not in variants:
            raise FigmentError(
                f"The recipe {path} has no variant {variant!r}.{nearest(variant, variants)} It has: {', '.join(variants) or 'none'}."
            )
        data = renewed(data)
        for field, value in renewed_changes(variants[variant]).items():
            _put(data, field, value)
    data = renewed(data)
    for change in sorted(changes, key=lambda change: not change.startswith("task.class_names_from")):  # in any order
        field, equals, value = change.partition("=")
        if not equals:
            raise FigmentError(f"--set takes field=value, such as generate.guidance_scale=3; {change!r} has no '='.")
        given = {field.strip(): plain_yaml.parse(value, f"--set {change[:200]!r}: the value")}
        for name, new in renewed_changes(given).items():
            _put(data, name, new)
    recipe = validate(data, str(path))
    return with_absolute_paths(recipe, path.parent)


def _variants(given: Any, path: Path) -> dict[str, dict[str, Any]]:
    """The recipe's variants by name. Raises FigmentError where they are something else, also when none is asked for."""
    if given is None:
        return {}
    if not isinstance(given, dict) or not all(isinstance(changes, dict) for changes in given.values()):
        raise FigmentError(
            f"The variants of the recipe {path} must be mappings from a name to fields and values, such as variants: {{small:"
            f" {{generate.images_per_class: 20}}}}; this is {str(given)[:100]!r}."
        )
    if len(given) > limits.VARIANTS:
        raise FigmentError(
            f"The recipe {path} has {len(given):,} variants, and {limits.VARIANTS} are the most. Make several recipes of it."
        )
    return {str(name): {str(field): value for field, value in own.items()} for name, own in given.items()}


def _put(data: dict[str, Any], field: str, value: Any) -> None:
    """Set a field of a recipe that may leave whole parts out."""
    part = field.partition(".")[0]
    if part != field and part in Recipe.model_fields and part != "task" and data.get(part) is None:
        data[part] = {} if part == "train" else default_of(part)  # what is set may tell which kind of learner is meant
    put(data, field, value)


def with_absolute_paths(recipe: Recipe, base: Path) -> Recipe:
    """Folders named relative to the recipe file, made absolute, so that the resolved recipe works from anywhere."""
    changes: dict[str, Any] = {field: _absolute(field, where, base) for field, where, _ in paths_in(recipe)}
    if concepts := getattr(recipe.prompts, "concepts", None):
        changes["prompts.concepts"] = _absolute("prompts.concepts", concepts, base)
    changes["arms"] = _absolute_changes(recipe.arms, base)
    if recipe.table is not None:
        changes["table.rows"] = _absolute_changes(recipe.table.rows, base)
        changes["table.columns"] = _absolute_changes(recipe.table.columns, base)
        if recipe.table.sweep is not None:
            changes["table.sweep.fields"] = {
                field: [_absolute(field, value, base) for value in values]
                for field, values in recipe.table.sweep.fields.items()
            }
    return recipe.changed(changes)


def paths_in(settings: BaseModel, where: str = "") -> Iterator[tuple[str, str, BaseModel]]:
    """The fields below these settings that may name a folder (those annotated as ``PathText``), what they name, and whose they are."""
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        parts = value if isinstance(value, list) else [value]
        for i, part in enumerate(parts):
            at = f"{where}{name}" + (f".{i}" if isinstance(value, list) else "")
            if isinstance(part, BaseModel):
                yield from paths_in(part, f"{at}.")
            elif isinstance(part, str) and (IS_PATH in field.metadata or _is_path(field.annotation)):
                yield at, part, settings


def _is_path(annotation: Any) -> bool:
    """Whether it is ``PathText``, or a union that has it."""
    return IS_PATH in getattr(annotation, "__metadata__", ()) or any(map(_is_path, get_args(annotation)))


def _absolute_changes(named: dict[str, dict[str, Any]], base: Path) -> dict[str, dict[str, Any]]:
    return {
        name: {field: _absolute(field, value, base) for field, value in changes.items()}
        for name, changes in named.items()
    }


def _absolute(field: str, value: Any, base: Path) -> Any:
    """The value of a field, made absolute where it is a relative folder, also inside of it; Hub ids and built-in names stay."""
    if isinstance(value, dict) and field in LISTS:
        return {_absolute(field, where, base): share for where, share in value.items()}
    if isinstance(value, dict):  # a table's row may change a whole part
        return {name: v if name == "options" else _absolute(f"{field}.{name}", v, base) for name, v in value.items()}
    if isinstance(value, list):
        return [_absolute(f"{field}.{i}", v, base) for i, v in enumerate(value)]
    is_real = field.startswith("task.real.") or field in FILES
    if field in ("task.real.groups.column", "task.real.groups.pattern"):
        return value
    is_model = field.rpartition(".")[2] in MODELS or field in LISTS
    if not isinstance(value, str) or not value or not (is_real or is_model):
        return value
    if value.startswith("starter/") or "://" in value:
        return value
    if is_real and value.startswith("datasets:"):
        name, colon, split = value.removeprefix("datasets:").partition(":")
        return f"datasets:{_absolute('model', name, base)}{colon}{split}"  # a folder, or a name on the Hub
    try:
        folder = (base / Path(value).expanduser()).resolve()
    except (ValueError, RuntimeError, OSError):  # no folder can be called so; whoever opens it says why
        return value
    is_there = folder.is_file() if field in LISTS else value not in BUILT_IN and folder.exists()
    if is_real or value.startswith((".", "/", "~")) or is_there:
        return str(folder)
    return value
