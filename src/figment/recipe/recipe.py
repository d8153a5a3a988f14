"""What a run is: strict pydantic models, every field with its unit and default."""

from __future__ import annotations

import sys
from typing import Any

import yaml
from pydantic import Field, JsonValue, ValidationError, field_validator, model_validator

from figment import limits
from figment.errors import FigmentError
from figment.learners.settings import LearnerSettings
from figment.recipe.encoder import Encoder, TimmEncoderSettings
from figment.recipe.filters import BlankFilterSettings, ClipFilterSettings, Filter
from figment.recipe.generate import MANY, DiffusersSettings, Generate, GeneratorSettings
from figment.recipe.mistakes import explain
from figment.recipe.old_names import renewed, renewed_changes
from figment.recipe.plugin import Plugin
from figment.recipe.prices import Prices
from figment.recipe.prompts import AttributesSettings, Prompts
from figment.recipe.table import Table
from figment.recipe.train import Evaluate, FewShot, Train, WordsAndImagesSettings, learner_kind
from figment.task import Strict, Task, Text, builtin
from figment.tracking import Tracker

HEADS = ("words_and_images", "clip_head", "images_only")  # on features of images, which are worked out once
STARTER = "starter/clip"
OF_A_CLASS, OF_A_PROMPT = "generate.images_per_class", "generate.images_per_prompt"  # of which a recipe gives one
OF_ALL_KINDS = GeneratorSettings.model_fields.keys() | LearnerSettings.model_fields.keys()


class Recipe(Strict):
    """Everything that makes a run what it is."""

    name: Text = "figment"
    seed: int = Field(0, ge=0, lt=2**32)
    task: Task
    prompts: Prompts = AttributesSettings()
    generate: Generate = DiffusersSettings()
    filters: list[Filter] = Field([BlankFilterSettings(), ClipFilterSettings()], max_length=limits.FILTERS)
    few_shot: FewShot | None = Field(
        None,
        description="real images that may be learnt from; None = the classifier learns from generated ones alone",
    )
    encoder: Encoder | None = Field(
        None,
        description="the encoder that filters and measures look with: a CLIP, or {timm: architecture, weights: file}, which reads no"
        " words, so that filters which go by these take the next; None = train.encoder, or starter/clip where the learner has none",
    )
    train: Train = WordsAndImagesSettings()
    evaluate: Evaluate = Evaluate()
    prices: Prices | None = Field(
        None, description="what an hour of generating and a labelled photograph cost, for forecast and report"
    )
    track: Tracker | None = Field(
        None,
        description="show losses while something is trained, and results at the end: tensorboard, mlflow, trackio or wandb, which must"
        " be installed",
    )
    arms: dict[Text, dict[str, JsonValue]] = Field(
        {},
        max_length=limits.ARMS,
        description="name -> {field: value}: runs of this recipe with other settings, to compare with",
    )
    table: Table | None = Field(None, description="rows and columns of changes: a whole table of runs")

    @field_validator("task", mode="before")
    @classmethod
    def _named_task(cls, value: Any) -> Any:
        """A built-in task may be given by its name alone, or as ``like`` beside the fields that are to differ.

        ``class_names_from`` beside ``like`` chooses among the lists of class names that the task has.
        """
        beside = dict(value) if isinstance(value, dict) else {}
        name = beside.pop("like", None) if isinstance(value, dict) else value
        names_from = beside.pop("class_names_from", None)
        if not isinstance(name, str):
            if names_from is not None:
                raise ValueError(
                    "class_names_from chooses among the class names of a built-in task: name it in like, such as"
                    " task: {like: eurosat, class_names_from: coop}, or give class_names"
                )
            return value
        if not isinstance(names_from, str | None):
            raise ValueError(f"class_names_from is the name of a list, such as coop; it is {str(names_from)[:60]!r}")
        try:
            own = builtin(name, names_from)
        except FigmentError as error:
            raise ValueError(str(error)) from error
        return {**own, **beside}

    @model_validator(mode="before")
    @classmethod
    def _costly_only_if_asked_for(cls, data: Any) -> Any:
        """Dozens of trainings take seconds with a head on features, and days with most others."""
        if not isinstance(data, dict) or not isinstance(data.get("train"), dict):
            return data
        evaluate = data.get("evaluate", {})
        if learner_kind(data["train"]) in HEADS or not isinstance(evaluate, dict):
            return data
        return {**data, "evaluate": {"exchange_rate": False, **evaluate}}

    @model_validator(mode="before")
    @classmethod
    def _images_bring_their_prompts(cls, data: Any) -> Any:
        """A set that is there already says itself what it was made from."""
        generate = data.get("generate") if isinstance(data, dict) else None
        if isinstance(generate, dict) and generate.get("kind") == "folder":
            return {"prompts": {"kind": "of_images"}, **data}
        return data

    @model_validator(mode="after")
    def _so_many_of_each_prompt(self) -> Recipe:
        """``images_per_class`` follows from ``images_per_prompt``, where that is given."""
        if self.generate.images_per_prompt is not None:
            counted = self.generate.of_prompts(self.prompts.n_prompts(0), self.prompts.kind)
            object.__setattr__(self, "generate", counted)
        return self

    @model_validator(mode="after")
    def _goes_together(self) -> Recipe:
        """Settings of one part that need another."""
        if (self.generate.kind == "folder") != (self.prompts.kind == "of_images"):
            raise ValueError(
                f"generate.kind: {self.generate.kind} with prompts.kind: {self.prompts.kind} does not go: a folder of images brings its own"
                " prompts (leave prompts out, or prompts: {kind: of_images}), and nothing else does"
            )
        if self.few_shot is None:
            for wants, field in (
                (self.generate.guided, "generate.real_guidance"),
                (self.evaluate.baselines, "evaluate.baselines"),
                (self.evaluate.shot_draws, "evaluate.shot_draws"),
            ):
                if wants:
                    raise ValueError(
                        f"{field} needs few real images to start from: give few_shot, such as few_shot: {{shots: 16}}"
                    )
        if self.evaluate.shot_draws is not None and self.evaluate.resamples is not None:
            raise ValueError(
                "each of evaluate.shot_draws is learnt from with a set drawn again, so there are as many: leave evaluate.resamples out"
            )
        if not self.prompts.has_classes:
            self._needs_no_classes()
        if "inception" in (
            self.encoder,
            self.evaluate.encoder,
            *(getattr(settings, "model", None) for settings in self.filters),
        ):
            raise ValueError(
                "inception is FID's network, whose rows are features and logits and not of unit length: it is there for fid, kid and"
                " inception_score in evaluate.measures. As encoder name a CLIP, or {timm: architecture, weights: file}"
            )
        self.train.goes_with(self)
        scaling = None if self.table is None else self.table.scaling
        if scaling is not None and hasattr(self.train, "epochs") and getattr(self.train, "steps", None) is None:
            raise ValueError(
                "table.scaling compares trainings on sets of different size, which must be equally long: give train.steps, such as"
                " train.steps: 2000, of train.kind: network; or take a learner in closed form, such as words_and_images"
            )
        if self.table is not None and self.arms:
            raise ValueError("a recipe has arms or a table, not both: make the arms rows of the table")
        return self

    def _needs_no_classes(self) -> None:
        """Raise ValueError for what reads the class of generated images, where they have none."""
        readers = [f"the filter {own.kind!r}" for own in self.filters if own.reads_labels]
        readers += [f"train.kind: {self.train.kind}"] * self.train.reads_labels
        readers += ["generate.real_guidance"] * self.generate.guided
        readers += ["generate.finetune.per_class"] * bool(
            getattr(getattr(self.generate, "finetune", None), "per_class", False)
        )
        if readers:
            raise ValueError(
                f"prompts.kind: {self.prompts.kind} writes prompts of no class here, and {' and '.join(readers)} read"
                f"{'s' if len(readers) == 1 else ''} the classes of generated images. Pre-train a backbone on them, such as train: {{kind:"
                " stablerep}, with filters: [{kind: blank}]; or give the prompts classes"
            )

    @model_validator(mode="after")
    def _large_files_of_many_small_images(self) -> Recipe:
        """Where nothing is said of it. A store is asked for names by the file, and a run of a hundred million has 400,000 of 256."""
        generate = self.generate
        if "shard_size" not in generate.model_fields_set and self.n_labels * generate.images_per_class >= MANY:
            sized = generate.model_copy(update={"shard_size": generate.shard_size_of_many})
            object.__setattr__(self, "generate", sized)  # it is frozen for everybody else
        return self

    @model_validator(mode="after")
    def _is_not_too_much(self) -> Recipe:
        """Each number is in its range; here are those that multiply."""
        n_classes, generate = self.n_labels, self.generate
        prompts = self.prompts.n_prompts(generate.images_per_class)
        height, width, batch_size = (getattr(generate, name, None) for name in ("height", "width", "batch_size"))
        pixels_at_once = (
            getattr(part, "image_size", 0) ** 2 * getattr(part, "batch_size", 0) for part in self.train.parts
        )
        pixels = (height or 0) * (width or 0)
        has_steps = getattr(self.train, "steps", None) is not None
        length = "train.steps x batch_size" if has_steps else "train.epochs x generated images"
        learnt = min(generate.images_per_class, self.train.images_per_class or generate.images_per_class)
        for what, n, most in (
            (
                "task.class_names x generate.images_per_class: images",
                n_classes * generate.images_per_class,
                limits.IMAGES,
            ),
            (
                "task.class_names x prompts of each",
                0 if prompts == sys.maxsize else n_classes * prompts,
                limits.PROMPTS,
            ),
            (
                "generate.height x width x batch_size: pixels",
                pixels * batch_size if isinstance(batch_size, int) else 0,
                limits.PIXELS,
            ),
            ("generate.height x width x shard_size: pixels", pixels * generate.shard_size, limits.SHARD_PIXELS),
            ("train.image_size squared x batch_size: pixels", max(pixels_at_once), limits.PIXELS),
            (f"{length}: images shown", self.train.shown(n_classes * learnt), limits.SHOWN),
        ):
            if n > most:
                raise ValueError(f"{what} are {n:,}, and at most {most:,} are allowed: lower one of them")
        return self

    @property
    def n_labels(self) -> int:
        """How many labels the generated images share: ``images_per_class`` are made of each. 1 where they are of no class."""
        return len(self.task.class_names) if self.prompts.has_classes else 1

    @property
    def looks_with(self) -> str | TimmEncoderSettings:
        """The encoder that filters and measures look with, where they name none of their own."""
        return getattr(self.train, "encoder", STARTER) if self.encoder is None else self.encoder

    @property
    def encoder_name(self) -> str:
        """Of ``looks_with``."""
        return self.looks_with if isinstance(self.looks_with, str) else self.looks_with.name

    @property
    def words_encoder(self) -> str:
        """The CLIP that filters read class names with, where they name none of their own."""
        named = (self.encoder, getattr(self.train, "encoder", None))
        return next((own for own in named if isinstance(own, str)), STARTER)

    @property
    def encoder_pickles(self) -> bool:
        """Whether encoders whose weights are stored as pickles may be opened."""
        return getattr(self.train, "allow_pickle", False)

    @property
    def plugins(self) -> list[str]:
        """The code of users' own that a run of this recipe would import, without that of its arms and cells."""
        parts = (self.prompts, self.generate, *self.filters, self.train)
        return [part.kind for part in parts if isinstance(part, Plugin)]

    @property
    def training_seeds(self) -> tuple[int, ...]:
        """Of the recipe's trainings: ``train.seeds`` of them, and others for another ``seed``."""
        n = self.train.seeds
        return tuple(range(self.seed * n, (self.seed + 1) * n))

    def to_yaml(self) -> str:
        """The resolved recipe: every default written out. Running it again reproduces the run."""
        return as_yaml(self.model_dump(mode="json"))

    def changed(self, changes: dict[str, Any], where: str = "the changed recipe") -> Recipe:
        """A copy with dotted fields replaced: ``recipe.changed({"generate.guidance_scale": 3.0})``. Raises FigmentError."""
        changes = renewed_changes(changes)
        of_task = any(field.partition(".")[0] == "task" for field in changes)
        # A thousand class names take long to check again, and a table has hundreds of cells.
        task = self.task.model_dump(mode="json") if of_task else self.task
        data = {**self.model_dump(mode="json", exclude={"task"}), "task": task}
        _count_anew(data["generate"], changes)
        for field, value in changes.items():
            try:
                put(data, field, value)
            except FigmentError as error:
                raise FigmentError(f"{where[:1].upper()}{where[1:]}: {error}") from None
        return validate(data, where)


def _count_anew(generate: dict[str, Any], changes: dict[str, Any]) -> None:
    """Of images of each class and of each prompt one follows from the other: it follows anew, or takes the other's place."""
    if generate["images_per_prompt"] is not None:
        del generate["images_per_prompt" if OF_A_CLASS in changes else "images_per_class"]
    elif changes.get(OF_A_PROMPT) is not None:
        del generate["images_per_class"]


def as_yaml(data: Any) -> str:
    """Plain data as figment writes recipes."""
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)


def validate(data: Any, where: str) -> Recipe:
    """A recipe from plain data. Raises FigmentError that lists all mistakes, each with its field and the nearest allowed name."""
    try:
        return Recipe.model_validate(renewed(data))
    except ValidationError as error:
        raise FigmentError(explain(error, where, Recipe)) from None
    except RecursionError:
        raise FigmentError(f"{where} is nested too deeply to be a recipe.") from None


def default_of(part: str) -> Any:
    """A part of a recipe whose every field is left out, as plain data."""
    value = Recipe.model_fields[part].get_default()
    if isinstance(value, list):
        return [item.model_dump(mode="json") for item in value]
    if value is None:
        return {}
    return value if isinstance(value, dict | str | int) else value.model_dump(mode="json")


def put(data: Any, field: str, value: Any) -> None:
    """Set ``a.b.0.c`` in nested dicts and lists."""
    *parents, last = field.split(".")
    for i, name in enumerate(parents):
        if isinstance(data, list):
            data = _item(data, name, field)
        else:
            if isinstance(data.get(name), str) and name == "task":
                data[name] = {"like": data[name]} if last == "class_names_from" else builtin(data[name])
            if data.get(name) is None:  # left out, or null as generate.finetune may be
                data[name] = {}
            data = data[name]
        if not isinstance(data, dict | list):
            raise FigmentError(f"{field!r} cannot be set: {'.'.join(parents[: i + 1])!r} is a single value.")
    if not isinstance(data, dict | list):
        raise FigmentError(f"{field!r} cannot be set: {'.'.join(parents)!r} is a single value.")
    if isinstance(data, list):
        _item(data, last, field)
        data[int(last)] = value
        return
    if last == "kind" and data.get("kind", value) != value:  # what only the old kind had goes with it
        for name in data.keys() - OF_ALL_KINDS:
            del data[name]
    data[last] = value


def _item(data: list, index: str, field: str) -> Any:
    if not (index.isascii() and index.isdecimal()) or int(index) >= len(data):
        raise FigmentError(
            f"{field!r} cannot be set: {index!r} is no place in a list of {len(data)}; counting starts at 0."
        )
    return data[int(index)]
