"""What a run is: YAML in, strict pydantic models, resolved YAML out."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

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

from figment import plain_yaml
from figment.classify.settings import TuneSettings
from figment.errors import FigmentError, nearest
from figment.files import as_path
from figment.generate.adapt_settings import AdaptSettings
from figment.task import PathText, RealPictures, Strict, Task, Template, Text, builtin


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
    per_class: int | None = Field(
        None, ge=1, description="different prompts for each class; None = 50, or as many as the task's words make"
    )
    templates: list[Template] = ["a photo of a {}"]
    synonyms: bool = Field(True, description="also use the task's other words for a class")


class Seq2Seq(Strict):
    """Sentences from a word-to-sentence model, with the settings of He et al. 2023 ("LE")."""

    kind: Literal["seq2seq"] = "seq2seq"
    model: PathText = Field(
        "mrm8488/t5-base-finetuned-common_gen", description="a sequence-to-sequence model: a folder or Hub id"
    )
    per_class: int = Field(200, ge=1, description="different sentences for each class")
    template: Template = Field("a photo of {}", description="{} is the sentence")
    article: bool = Field(True, description="give the model 'a forest', not 'forest'")
    temperature: float = Field(1.0, gt=0)
    top_k: int = Field(50, ge=0, description="tokens to choose from; 0 = all")
    top_p: float = Field(1.0, gt=0, le=1, description="share of the probability to choose from")
    max_length: int | None = Field(None, ge=2, description="of a sentence, in tokens; None = the model's own")
    max_tries: int = Field(10, ge=1, description="x per_class sentences are drawn at most; then templates fill in")
    require_name: bool = Field(True, description="a sentence has to say its class, or a synonym")
    batch_size: int = Field(64, ge=1, description="sentences; changes the speed alone")
    allow_pickle: bool = Field(False, description="load weights stored as pickles, which can run code")


class Chat(Strict):
    """Captions from a language model behind an OpenAI-compatible server: vLLM, llama.cpp, Ollama, or a hosted one."""

    kind: Literal["chat"] = "chat"
    base_url: str = Field(description="such as http://localhost:8000/v1")
    model: str = Field(min_length=1, description="as the server calls it")
    api_key_env: str | None = Field(
        None, description="name of the environment variable that holds the key; the key itself is never stored"
    )
    per_class: int = Field(100, ge=1, description="different captions for each class")
    per_request: int = Field(20, ge=1, le=200, description="captions asked for at a time")
    temperature: float | None = Field(0.8, ge=0, description="None = the server's own")
    top_p: float | None = Field(0.9, gt=0, le=1, description="None = the server's own")
    max_tokens: int | None = Field(2048, ge=1, description="of an answer; None = the server's own")
    extra: dict[str, JsonValue] = Field(
        {}, description="further fields of a request; null takes one out, such as seed: null"
    )
    max_tries: int = Field(4, ge=1, description="x the requests that per_class needs, at most; then templates fill in")
    require_name: bool = Field(True, description="a caption has to say its class, or a synonym")
    parallel: int = Field(8, ge=1, le=256, description="requests at a time; changes the speed alone")
    timeout: float = Field(120.0, gt=0, description="in seconds without a byte from the server")
    retries: int = Field(6, ge=0, description="of a request, after a lost connection, HTTP 429 or 5xx")

    @field_validator("base_url")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        # The message does not repeat the address: it may hold a password.
        try:
            parts = urlsplit(url)
            fine = parts.scheme in ("http", "https") and parts.hostname and not (parts.query or parts.fragment)
            _ = parts.port
        except ValueError:
            fine = False
        if not fine or not url.isascii() or any(c.isspace() for c in url):
            raise ValueError("an address such as http://localhost:8000/v1 is needed here")
        if parts.username or parts.password:
            raise ValueError(
                "no user or password goes here: the recipe is stored. Name an environment variable in api_key_env"
            )
        return url

    @field_validator("api_key_env")
    @classmethod
    def _is_a_name(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,99}", name):  # a key would be shown
            raise ValueError(
                "this is the name of an environment variable, such as OPENAI_API_KEY, never the key itself"
            )
        return name

    @field_validator("extra")
    @classmethod
    def _leaves_the_answer(cls, extra: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if taken := sorted(extra.keys() & {"model", "messages", "stream"}):
            raise ValueError(f"{', '.join(taken)} cannot be set here")
        return extra


class Captions(Strict):
    """Captions of the real training pictures by an image-to-text model, varied."""

    kind: Literal["captions"] = "captions"
    model: PathText = Field(
        "microsoft/git-large-coco", description="an image-to-text model (GIT, BLIP, ViT-GPT2): a folder or Hub id"
    )
    per_class: int = Field(50, ge=1, description="different captions for each class")
    prefix: Template = Field(
        "a photo of {}", description="before captions that do not say their class; {} is its name, with an article"
    )
    vary: bool = Field(True, description="fill up with the task's attributes and contexts put into captions")
    temperature: float = Field(1.0, gt=0)
    top_k: int = Field(0, ge=0, description="tokens to choose from; 0 = all")
    top_p: float = Field(0.9, gt=0, le=1, description="share of the probability to choose from")
    max_new_tokens: int = Field(40, ge=1, description="of a caption")
    max_tries: int = Field(3, ge=1, description="x per_class captions are drawn at most; then vary, then templates")
    batch_size: int = Field(16, ge=1, description="pictures; changes the speed alone")
    allow_pickle: bool = Field(False, description="load weights stored as pickles, which can run code")


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
    negative_prompt: Text = ""
    height: int | None = Field(None, ge=8, description="in pixels; None = the pipeline's own")
    width: int | None = Field(None, ge=8, description="in pixels; None = the pipeline's own")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    batch_size: int | Literal["auto"] = Field("auto", description="halved by itself when memory runs out")
    shard_size: int = Field(256, ge=1, description="images a file; an interrupted run loses at most the one it is at")
    allow_pickle: bool = Field(False, description="load weights stored as pickles, which can run code")
    adapt: AdaptSettings | None = Field(
        None,
        description="tune the model on task.real.train first (DataDream's LoRA); {} = with the defaults, None = do not",
    )


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


FilterModel = Annotated[PathText | None, Field(description="a CLIP folder or Hub id; None = train.encoder")]


class ClipFilter(Strict):
    """Drops pictures that CLIP does not take for their own class."""

    kind: Literal["clip"] = "clip"
    model: FilterModel = None
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


class ArgmaxFilter(Strict):
    """Drops pictures that CLIP would rather call another class."""

    kind: Literal["argmax"] = "argmax"
    model: FilterModel = None
    templates: list[Template] | None = Field(None, description="None = the task's")


class RealFilter(Strict):
    """Drops pictures that lie close to real training pictures of other classes. Needs task.real.train."""

    kind: Literal["real"] = "real"
    model: FilterModel = None
    quantile: float = Field(
        0.95,
        ge=0,
        le=1,
        description="close = closer than this share of the real pictures is to another class; as many real ones would pass",
    )
    threshold: float | None = Field(None, ge=-1, le=1, description="a cosine in place of the quantile's")


class CentroidFilter(Strict):
    """Drops the pictures farthest from the centre of their class, or the most typical ones."""

    kind: Literal["centroid"] = "centroid"
    model: FilterModel = None
    of: Literal["generated", "real"] = Field("generated", description="whose centre; real needs task.real.train")
    drop_farthest: float = Field(
        0.2, ge=0, lt=1, description="share of each class; much less than HistoGAN's half, since variety trains"
    )
    drop_nearest: float = Field(0.0, ge=0, lt=1, description="share of each class: the most typical, least informative")

    @model_validator(mode="after")
    def _leaves_some(self) -> CentroidFilter:
        if self.drop_farthest + self.drop_nearest >= 1:
            raise ValueError("drop_farthest and drop_nearest together must be below 1, or nothing is left")
        return self


class DuplicateFilter(Strict):
    """Drops what is nearly the same as an earlier picture of its class."""

    kind: Literal["duplicate"] = "duplicate"
    model: FilterModel = None
    threshold: float = Field(
        0.99,
        ge=-1,
        le=1,
        description="cosine above which two pictures are the same; high, since distinct photographs reach 0.98 with some encoders. 1 = exact copies only",
    )


class MemorisedFilter(Strict):
    """Drops copies of real training pictures, and of test pictures."""

    kind: Literal["memorised"] = "memorised"
    model: FilterModel = None
    quantile: float = Field(
        0.99,
        ge=0,
        le=1,
        description="a copy = nearer to a real picture than this share of the training pictures is to others",
    )
    threshold: float | None = Field(
        None, ge=-1, le=1, description="a cosine in place of the quantile's; needed without task.real.train"
    )
    test: Literal["drop", "report", "off"] = Field(
        "drop", description="copies of test pictures: drop, keep and report, or do not look; exact pixels always count"
    )


class Train(TuneSettings):
    """The CLIP classifier: a head that starts as the class names' text features, tuned on the kept pictures."""

    model_config = ConfigDict(allow_inf_nan=False)

    encoder: PathText = Field("starter/clip", description="'starter/clip', a CLIP folder, or a Hub id")
    ensemble: bool = Field(False, description="start the head from task.ensemble in place of task.templates")
    seeds: int = Field(3, ge=1, description="tunings, averaged in the result")
    allow_pickle: bool = Field(False, description="load weights stored as pickles, which can run code")


class Evaluate(Strict):
    """Real pictures decide. The test pictures are read here; besides, the filter ``memorised`` takes copies of them out."""

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
    Annotated[Templates, Tag("templates")]
    | Annotated[Attributes, Tag("attributes")]
    | Annotated[Seq2Seq, Tag("seq2seq")]
    | Annotated[Chat, Tag("chat")]
    | Annotated[Captions, Tag("captions")]
    | Annotated[Plugin, Tag(PLUGIN)],
    Discriminator(_kind_of),
]
Generate = Annotated[
    Annotated[Diffusers, Tag("diffusers")]
    | Annotated[Procedural, Tag("procedural")]
    | Annotated[GeneratorPlugin, Tag(PLUGIN)],
    Discriminator(_generator_kind),
]
Filter = Annotated[
    Annotated[BlankFilter, Tag("blank")]
    | Annotated[ClipFilter, Tag("clip")]
    | Annotated[ArgmaxFilter, Tag("argmax")]
    | Annotated[RealFilter, Tag("real")]
    | Annotated[CentroidFilter, Tag("centroid")]
    | Annotated[DuplicateFilter, Tag("duplicate")]
    | Annotated[MemorisedFilter, Tag("memorised")]
    | Annotated[Plugin, Tag(PLUGIN)],
    Discriminator(_kind_of),
]


class Recipe(Strict):
    """Everything that makes a run what it is."""

    name: Text = "figment"
    seed: int = Field(0, ge=0, lt=2**32)
    task: Task
    prompts: Prompts = Attributes()
    generate: Generate = Diffusers()
    filters: list[Filter] = [BlankFilter(), ClipFilter()]
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    arms: dict[Text, dict[str, JsonValue]] = Field(
        {}, description="name -> {field: value}: runs of this recipe with other settings, to compare with"
    )

    @field_validator("task", mode="before")
    @classmethod
    def _named_task(cls, value: Any) -> Any:
        """A built-in task may be given by its name alone, or as ``like`` beside the fields that are to differ."""
        name = value.get("like") if isinstance(value, dict) else value
        if not isinstance(name, str):
            return value
        try:
            own = builtin(name)
        except FigmentError as error:
            raise ValueError(str(error)) from error
        return own if isinstance(value, str) else {**own, **{k: v for k, v in value.items() if k != "like"}}

    @model_validator(mode="after")
    def _has_ensemble(self) -> Recipe:
        if self.train.ensemble and not self.task.ensemble:
            raise ValueError(
                f"train.ensemble is set, and the task {self.task.name!r} has no ensemble. Give it sentences in "
                "task.ensemble, or leave train.ensemble out"
            )
        return self

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
    try:
        if path.is_dir() and (path / "recipe.yaml").is_file():
            path = path / "recipe.yaml"
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(plain_yaml.MOST_CHARACTERS + 1)  # one that is too long is refused there
    except FileNotFoundError:
        raise FigmentError(
            f"There is no recipe {path}. Write a first one with: figment init {shlex.quote(str(path))}"
        ) from None
    except IsADirectoryError:
        raise FigmentError(
            f"{path} is a folder without a recipe.yaml. Name a recipe, or the folder of a run."
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
    for change in changes:
        field, equals, value = change.partition("=")
        if not equals:
            raise FigmentError(f"--set takes field=value, such as generate.guidance_scale=3; {change!r} has no '='.")
        field = field.strip()
        part = field.partition(".")[0]
        if part != field and part in Recipe.model_fields and part != "task" and data.get(part) is None:
            data[part] = _default(part)
        _put(data, field, plain_yaml.parse(value, f"--set {change[:200]!r}: the value"))
    recipe = validate(data, str(path))
    return _with_absolute_paths(recipe, path.parent)


def _default(part: str) -> Any:
    """A part of a recipe whose every field is left out, as plain data."""
    value = Recipe.model_fields[part].get_default()
    if isinstance(value, list):
        return [item.model_dump(mode="json") for item in value]
    return value if isinstance(value, dict | str | int) else value.model_dump(mode="json")


MOST_MISTAKES = 20  # are shown: a thousand classes may all be numbers
QUOTES = "YAML takes yes, no, on, off, true, null, numbers and dates for something else than words: put them in quotes."


def validate(data: Any, where: str) -> Recipe:
    """A recipe from plain data. Raises FigmentError that lists all mistakes, each with its field and the nearest allowed name."""
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        mistakes = list(dict.fromkeys(_mistake(e) for e in errors))
        many = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes):,} mistakes"
        shown = [f"  - {m}" for m in mistakes[:MOST_MISTAKES]]
        if len(mistakes) > MOST_MISTAKES:
            shown.append(f"  and {len(mistakes) - MOST_MISTAKES:,} more")
        if any(e["type"] == "string_type" and _is_yaml_scalar(e["input"]) for e in errors):
            shown.append(QUOTES)
        raise FigmentError("\n".join([f"{where} has {many}:", *shown])) from None
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
        if data.get(name) is None:  # left out, or null as generate.adapt may be
            data[name] = {}
        data = data[name]
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
    tags |= {"argmax", "real", "centroid", "duplicate", "memorised", "seq2seq", "chat", "captions"}
    loc = [str(p) for i, p in enumerate(error["loc"]) if not (str(p) in tags and i > 0 and _is_tag(error["loc"], i))]
    where = ".".join(loc)[:200] or "the recipe"
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


def _is_yaml_scalar(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | date)


def _is_tag(loc: tuple, i: int) -> bool:
    return (loc[0] in ("prompts", "generate") and i == 1) or (loc[0] == "filters" and i == 2)


_PARTS: dict[tuple[str, ...], type[Strict] | type[TuneSettings]] = {
    (): Recipe,
    ("task",): Task,
    ("task", "real"): RealPictures,
    ("prompts", "templates"): Templates,
    ("prompts", "attributes"): Attributes,
    ("prompts", "seq2seq"): Seq2Seq,
    ("prompts", "chat"): Chat,
    ("prompts", "captions"): Captions,
    ("prompts", PLUGIN): Plugin,
    ("generate", "diffusers"): Diffusers,
    ("generate", "diffusers", "adapt"): AdaptSettings,
    ("generate", "procedural"): Procedural,
    ("generate", PLUGIN): GeneratorPlugin,
    ("filters", "blank"): BlankFilter,
    ("filters", "clip"): ClipFilter,
    ("filters", "argmax"): ArgmaxFilter,
    ("filters", "real"): RealFilter,
    ("filters", "centroid"): CentroidFilter,
    ("filters", "duplicate"): DuplicateFilter,
    ("filters", "memorised"): MemorisedFilter,
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
    if isinstance(recipe.prompts, Seq2Seq | Captions):
        fields |= {"prompts.model": recipe.prompts.model}
    fields |= {f"filters.{i}.model": f.model for i, f in enumerate(recipe.filters) if hasattr(f, "model")}
    changes: dict[str, Any] = {field: _absolute(field, where, base) for field, where in fields.items()}
    changes["arms"] = {
        name: {field: _absolute(field, value, base) for field, value in arm.items()}
        for name, arm in recipe.arms.items()
    }
    return recipe.changed(changes)


def _absolute(field: str, value: Any, base: Path) -> Any:
    """The value of a field, made absolute where it is a relative folder; Hub ids and built-in names stay."""
    is_real, is_model = field.startswith("task.real."), field.rpartition(".")[2] in ("model", "encoder")
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
    if is_real or value.startswith((".", "/", "~")) or (value != "starter" and folder.is_dir()):
        return str(folder)
    return value
