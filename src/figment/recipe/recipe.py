"""What a run is: strict pydantic models, every field with its unit and default."""

from __future__ import annotations

from typing import Any

import yaml
from pydantic import Field, JsonValue, ValidationError, field_validator, model_validator

from figment.errors import FigmentError
from figment.recipe.filters import BlankFilterSettings, ClipFilterSettings, Filter
from figment.recipe.generate import DiffusersSettings, Generate
from figment.recipe.mistakes import explain
from figment.recipe.prompts import AttributesSettings, Prompts
from figment.recipe.table import Table
from figment.recipe.train import Evaluate, FewShot, Train
from figment.task import Strict, Task, Text, builtin


class Recipe(Strict):
    """Everything that makes a run what it is."""

    name: Text = "figment"
    seed: int = Field(0, ge=0, lt=2**32)
    task: Task
    prompts: Prompts = AttributesSettings()
    generate: Generate = DiffusersSettings()
    filters: list[Filter] = [BlankFilterSettings(), ClipFilterSettings()]
    few_shot: FewShot | None = Field(
        None,
        description="real images that may be learnt from; None = the classifier learns from generated ones alone",
    )
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    arms: dict[Text, dict[str, JsonValue]] = Field(
        {}, description="name -> {field: value}: runs of this recipe with other settings, to compare with"
    )
    table: Table | None = Field(None, description="rows and columns of changes: a whole table of runs")

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
    def _goes_together(self) -> Recipe:
        """Settings of one part that need another."""
        guided = isinstance(self.generate, DiffusersSettings) and self.generate.real_guidance is not None
        if self.few_shot is None:
            for wants, field in ((guided, "generate.real_guidance"), (self.evaluate.baselines, "evaluate.baselines")):
                if wants:
                    raise ValueError(
                        f"{field} needs few real images to start from: give few_shot, such as few_shot: {{shots: 16}}"
                    )
            if self.train.order != "mix":
                raise ValueError(
                    f"train.order: {self.train.order} learns from real images besides generated ones: give few_shot, such as"
                    " few_shot: {shots: 16}, or leave train.order out"
                )
        if self.train.unfrozen is not None and self.evaluate.exchange_rate:
            raise ValueError(
                "train.unfrozen runs the encoder in every training, and the exchange rate takes dozens of them. Set "
                "evaluate.exchange_rate: false"
            )
        if self.table is not None and self.arms:
            raise ValueError("a recipe has arms or a table, not both: make the arms rows of the table")
        return self

    @model_validator(mode="after")
    def _has_ensemble(self) -> Recipe:
        if self.train.ensemble and not self.task.ensemble:
            raise ValueError(
                f"train.ensemble is set, and the task {self.task.name!r} has no ensemble. Give it sentences in "
                "task.ensemble, or leave train.ensemble out"
            )
        return self

    @property
    def training_seeds(self) -> tuple[int, ...]:
        """Of the recipe's tunings: ``train.seeds`` of them, and others for another ``seed``."""
        n = self.train.seeds
        return tuple(range(self.seed * n, (self.seed + 1) * n))

    def to_yaml(self) -> str:
        """The resolved recipe: every default written out. Running it again reproduces the run."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)

    def changed(self, changes: dict[str, Any], where: str = "the changed recipe") -> Recipe:
        """A copy with dotted fields replaced: ``recipe.changed({"generate.guidance_scale": 3.0})``. Raises FigmentError."""
        data = self.model_dump(mode="json")
        for field, value in changes.items():
            try:
                put(data, field, value)
            except FigmentError as error:
                raise FigmentError(f"{where[:1].upper()}{where[1:]}: {error}") from None
        return validate(data, where)


def validate(data: Any, where: str) -> Recipe:
    """A recipe from plain data. Raises FigmentError that lists all mistakes, each with its field and the nearest allowed name."""
    try:
        return Recipe.model_validate(data)
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
                data[name] = builtin(data[name])
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
    else:
        data[last] = value


def _item(data: list, index: str, field: str) -> Any:
    if not (index.isascii() and index.isdecimal()) or int(index) >= len(data):
        raise FigmentError(
            f"{field!r} cannot be set: {index!r} is no place in a list of {len(data)}; counting starts at 0."
        )
    return data[int(index)]
