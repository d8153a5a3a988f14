"""What a run is: YAML in, strict pydantic models, resolved YAML out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from figment.classify.settings import TuneSettings
from figment.errors import FigmentError, nearest
from figment.files import as_path
from figment.task import PathText, RealPictures, Strict, Task, Template, builtin


class Plugin(Strict):
    """Your own object: ``kind: package.module:Name``, called with ``options``."""

    kind: str = Field(pattern=r"^[\w.]+:\w+$")
    options: dict[str, JsonValue] = {}


class Templates(Strict):
    """Template and class name, nothing else (strategy B of He et al. 2023)."""

    kind: Literal["templates"] = "templates"
    templates: list[Template] | None = Field(None, description="None = the task's")


class Attributes(Strict):
    """Class x attributes x context, all different."""

    kind: Literal["attributes"] = "attributes"
    per_class: int = Field(50, ge=1, description="different prompts for each class")
    templates: list[Template] = ["a photo of a {}"]
    synonyms: bool = Field(True, description="also use the task's other words for a class")


class Diffusers(Strict):
    """A diffusers text-to-image pipeline and how it samples. Names are those of diffusers."""

    kind: Literal["diffusers"] = "diffusers"
    model: PathText = Field(
        "starter", description="'starter', a pipeline folder, or a Hub id (owner/name, owner/name@revision)"
    )
    images_per_class: int = Field(200, ge=1, description="attempts for each class, spread evenly over its prompts")
    guidance_scale: float = Field(2.0, ge=0, description="1 = no guidance; training gains from less than looks do")
    guidance_stop: float = Field(1.0, gt=0, le=1, description="share of the steps after which guidance ends")
    num_inference_steps: int = Field(20, ge=1)
    scheduler: str | None = Field(None, description="a diffusers scheduler class; None = the pipeline's own")
    negative_prompt: str = ""
    height: int | None = Field(None, ge=8, description="in pixels; None = the pipeline's own")
    width: int | None = Field(None, ge=8, description="in pixels; None = the pipeline's own")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    batch_size: int | Literal["auto"] = Field("auto", description="halved by itself when memory runs out")
    shard_size: int = Field(256, ge=1, description="images a file; an interrupted run loses at most the one it is at")
    allow_pickle: bool = Field(False, description="load weights stored as pickles, which can run code")


class Procedural(Strict):
    """Pictures drawn by arithmetic: the whole path without a model."""

    kind: Literal["procedural"] = "procedural"
    images_per_class: int = Field(200, ge=1, description="attempts for each class, spread evenly over its prompts")
    height: int = Field(32, ge=1, description="in pixels")
    width: int = Field(32, ge=1, description="in pixels")
    noise: float = Field(8.0, ge=0, description="standard deviation, in grey levels")
    shard_size: int = Field(256, ge=1, description="images a file; an interrupted run loses at most the one it is at")


class GeneratorPlugin(Plugin):
    """Your own generator: ``kind: package.module:Name``, called with ``options``."""

    images_per_class: int = Field(200, ge=1, description="attempts for each class, spread evenly over its prompts")
    shard_size: int = Field(256, ge=1, description="images a file; an interrupted run loses at most the one it is at")


class BlankFilter(Strict):
    """Drops black and constant pictures."""

    kind: Literal["blank"] = "blank"
    minimum_std: float = Field(2.0, ge=0, description="in grey levels, 0 to 255")


class ClipFilter(Strict):
    """Drops pictures that CLIP does not take for their own class."""

    kind: Literal["clip"] = "clip"
    model: PathText | None = Field(None, description="a CLIP folder or Hub id; None = train.encoder")
    rule: Literal["threshold", "top_k", "threshold_else_top_k"] = "threshold"
    threshold: float | None = Field(
        None, ge=0, lt=1, description="on the softmax probability of the own class; None = 1/N"
    )
    k: int | None = Field(None, ge=1, description="images to keep of each class, for the top_k rules")
    templates: list[Template] | None = Field(None, description="None = the task's")

    @model_validator(mode="after")
    def _needs_k(self) -> ClipFilter:
        if self.rule != "threshold" and self.k is None:
            raise ValueError(f"rule {self.rule!r} needs k, the number of images to keep of each class")
        return self


class Train(TuneSettings):
    """The CLIP classifier: a head that starts as the class names' text features, tuned on the kept pictures."""

    model_config = ConfigDict(allow_inf_nan=False)

    encoder: PathText = Field("starter/clip", description="'starter/clip', a CLIP folder, or a Hub id")
    seeds: int = Field(3, ge=1, description="tunings, averaged in the result")
    allow_pickle: bool = Field(False, description="load weights stored as pickles, which can run code")


class Evaluate(Strict):
    """Real pictures decide. The test pictures are read here and nowhere else."""

    real_all: bool = Field(True, description="also tune on all real training pictures: the ceiling")
    exchange_rate: bool = Field(
        True, description="also tune on 1, 2, 4 ... real pictures a class: what is the synthetic set worth?"
    )
    shots: list[int] = Field([1, 2, 4, 8, 16, 32, 64], min_length=1)
    draws: int = Field(5, ge=2, description="random choices of the real pictures at each number of shots")


def _kind_of(value: Any) -> str:
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return PLUGIN if isinstance(kind, str) and ":" in kind else str(kind)


def _generator_kind(value: Any) -> str:
    """Most recipes name a diffusers model and no kind."""
    return "diffusers" if isinstance(value, dict) and "kind" not in value else _kind_of(value)


PLUGIN = "package.module:Name"  # how messages name the kind of a plug-in
Prompts = Annotated[
    Annotated[Templates, Tag("templates")] | Annotated[Attributes, Tag("attributes")] | Annotated[Plugin, Tag(PLUGIN)],
    Discriminator(_kind_of),
]
Generate = Annotated[
    Annotated[Diffusers, Tag("diffusers")]
    | Annotated[Procedural, Tag("procedural")]
    | Annotated[GeneratorPlugin, Tag(PLUGIN)],
    Discriminator(_generator_kind),
]
Filter = Annotated[
    Annotated[BlankFilter, Tag("blank")] | Annotated[ClipFilter, Tag("clip")] | Annotated[Plugin, Tag(PLUGIN)],
    Discriminator(_kind_of),
]


class Recipe(Strict):
    """Everything that makes a run what it is."""

    name: str = "figment"
    seed: int = Field(0, ge=0, lt=2**32)
    task: Task
    prompts: Prompts = Attributes()
    generate: Generate = Diffusers()
    filters: list[Filter] = [BlankFilter(), ClipFilter()]
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    arms: dict[str, dict[str, JsonValue]] = Field(
        {}, description="name -> {field: value}: runs of this recipe with other settings, to compare with"
    )

    @field_validator("task", mode="before")
    @classmethod
    def _named_task(cls, value: Any) -> Any:
        """A built-in task may be given by its name alone."""
        if isinstance(value, str):
            try:
                return builtin(value)
            except FigmentError as error:
                raise ValueError(str(error)) from error
        return value

    def to_yaml(self) -> str:
        """The resolved recipe: every default written out. Running it again reproduces the run."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)

    def changed(self, changes: dict[str, Any], where: str = "the changed recipe") -> Recipe:
        """A copy with dotted fields replaced: ``recipe.changed({"generate.guidance_scale": 3.0})``. Raises FigmentError."""
        data = self.model_dump(mode="json")
        for field, value in changes.items():
            _put(data, field, value)
        return validate(data, where)


def load_recipe(path: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a YAML recipe; ``changes`` are ``field.name=value`` strings that win over it.

    Paths in the file are relative to the file. Raises FigmentError with every mistake at once.
    """
    path = as_path(path)
    if path.is_dir() and (path / "recipe.yaml").is_file():
        path = path / "recipe.yaml"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FigmentError(f"There is no recipe {path}. Write a first one with: figment init {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise FigmentError(f"The recipe {path} cannot be read: {error}.") from error
    data = _yaml(text, f"The recipe {path}")
    if not isinstance(data, dict):
        raise FigmentError(
            f"The recipe {path} must be a mapping with fields such as task, prompts, generate; see figment init."
        )
    for change in changes:
        field, equals, value = change.partition("=")
        if not equals:
            raise FigmentError(f"--set takes field=value, such as generate.guidance_scale=3; {change!r} has no '='.")
        field = field.strip()
        part = field.partition(".")[0]
        if part != field and part in Recipe.model_fields and part != "task" and data.get(part) is None:
            data[part] = _default(part)
        _put(data, field, _yaml(value, f"--set {change!r}: the value"))
    recipe = validate(data, str(path))
    return _with_absolute_paths(recipe, path.parent)


def _yaml(text: str, what: str) -> Any:
    try:
        return yaml.safe_load(text)
    except Exception as error:  # PyYAML lets KeyError, IndexError and AttributeError of its constructors through
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FigmentError(f"{what} is not YAML: {reason}.") from error


def _default(part: str) -> Any:
    """A part of a recipe whose every field is left out, as plain data."""
    value = Recipe.model_fields[part].get_default()
    if isinstance(value, list):
        return [item.model_dump(mode="json") for item in value]
    return value if isinstance(value, dict | str | int) else value.model_dump(mode="json")


def validate(data: Any, where: str) -> Recipe:
    """A recipe from plain data. Raises FigmentError that lists all mistakes, each with its field and the nearest allowed name."""
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        mistakes = list(dict.fromkeys(_mistake(e) for e in error.errors(include_url=False)))
        many = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        raise FigmentError(f"{where} has {many}:\n" + "\n".join(f"  - {m}" for m in mistakes)) from None
    except RecursionError:
        raise FigmentError(f"{where} is nested too deeply to be a recipe.") from None


def _put(data: Any, field: str, value: Any) -> None:
    """Set ``a.b.0.c`` in nested dicts and lists."""
    *parents, last = field.split(".")
    for i, name in enumerate(parents):
        if isinstance(data, list):
            data = _item(data, name, field)
            continue
        if isinstance(data.get(name), str) and name == "task":
            data[name] = builtin(data[name])
        data = data.setdefault(name, {})
        if not isinstance(data, dict | list):
            raise FigmentError(f"{field!r} cannot be set: {'.'.join(parents[: i + 1])!r} is a single value.")
    if not isinstance(data, dict | list):
        raise FigmentError(f"{field!r} cannot be set: {'.'.join(parents)!r} is a single value.")
    if isinstance(data, list):
        _item(data, last, field)
        data[int(last)] = value
    else:
        data[last] = value


def _item(data: list, index: str, field: str) -> Any:
    if not (index.isascii() and index.isdecimal()) or int(index) >= len(data):
        raise FigmentError(
            f"{field!r} cannot be set: {index!r} is no place in a list of {len(data)}; counting starts at 0."
        )
    return data[int(index)]


def _mistake(error: Any) -> str:
    """One line for one pydantic error: where, what, and what would be right."""
    tags = {"templates", "attributes", "diffusers", "procedural", PLUGIN, "blank", "clip"}
    loc = [str(p) for i, p in enumerate(error["loc"]) if not (str(p) in tags and i > 0 and _is_tag(error["loc"], i))]
    where = ".".join(loc) or "the recipe"
    kind = error["type"]
    if kind == "extra_forbidden":
        allowed = _fields_at(error["loc"][:-1])
        return f"{where}: there is no such field.{nearest(loc[-1], allowed)} Allowed here: {', '.join(allowed)}."
    if kind == "union_tag_invalid":
        own = error["input"]
        given = "none is given" if isinstance(own, dict) and "kind" not in own else f"got {error['ctx']['tag']!r}"
        return f"{where}: kind must be one of {error['ctx']['expected_tags']}; {given}."
    if kind == "missing":
        return f"{where}: this field is needed."
    message = error["msg"].removeprefix("Value error, ")
    given = "" if kind == "value_error" else f" (got {str(error.get('input'))[:60]!r})"
    return f"{where}: {message[0].lower()}{message[1:]}{given}."


def _is_tag(loc: tuple, i: int) -> bool:
    return (loc[0] in ("prompts", "generate") and i == 1) or (loc[0] == "filters" and i == 2)


_PARTS: dict[tuple[str, ...], type[Strict] | type[TuneSettings]] = {
    (): Recipe,
    ("task",): Task,
    ("task", "real"): RealPictures,
    ("prompts", "templates"): Templates,
    ("prompts", "attributes"): Attributes,
    ("prompts", PLUGIN): Plugin,
    ("generate", "diffusers"): Diffusers,
    ("generate", "procedural"): Procedural,
    ("generate", PLUGIN): GeneratorPlugin,
    ("filters", "blank"): BlankFilter,
    ("filters", "clip"): ClipFilter,
    ("filters", PLUGIN): Plugin,
    ("train",): Train,
    ("evaluate",): Evaluate,
}


def _fields_at(loc: Sequence[Any]) -> list[str]:
    part = _PARTS.get(tuple(p for p in loc if isinstance(p, str)))
    return list(part.model_fields) if part else []


def _with_absolute_paths(recipe: Recipe, base: Path) -> Recipe:
    """Folders named relative to the recipe file, made absolute, so that the resolved recipe works from anywhere."""
    real = recipe.task.real
    fields: dict[str, Any] = {f"task.real.{split}": getattr(real, split) for split in ("train", "val", "test")}
    fields |= {"train.encoder": recipe.train.encoder}
    if isinstance(recipe.generate, Diffusers):
        fields |= {"generate.model": recipe.generate.model}
    fields |= {f"filters.{i}.model": f.model for i, f in enumerate(recipe.filters) if isinstance(f, ClipFilter)}
    changes: dict[str, Any] = {field: _absolute(field, where, base) for field, where in fields.items()}
    changes["arms"] = {
        name: {field: _absolute(field, value, base) for field, value in arm.items()}
        for name, arm in recipe.arms.items()
    }
    return recipe.changed(changes)


def _absolute(field: str, value: Any, base: Path) -> Any:
    """The value of a field, made absolute where it is a relative folder; Hub ids and built-in names stay."""
    is_real, is_model = field.startswith("task.real."), field.rpartition(".")[2] in ("model", "encoder")
    if not isinstance(value, str) or not value or not (is_real or is_model) or value.startswith("starter/"):
        return value
    folder = (base / Path(value).expanduser()).resolve()
    if is_real or value.startswith((".", "/", "~")) or (value != "starter" and folder.is_dir()):
        return str(folder)
    return value
