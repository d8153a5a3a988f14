"""A task: the class names, how to say them in a sentence, and where their real pictures are (if there are any)."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from figment.errors import FigmentError, nearest


class Strict(BaseModel):
    """A part of a recipe: unknown fields are errors, values are not guessed at."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _template(text: str) -> str:
    if text.count("{}") != 1:
        raise ValueError(f"a template holds {{}} once, where the class name goes; {text[:80]!r} does not")
    return text


Template = Annotated[str, AfterValidator(_template)]


def _path(text: str) -> str:
    if "\0" in text or len(text) > 1024 or any(len(part.encode()) > 255 for part in Path(text).parts):
        raise ValueError("no folder can have this name: it is too long or holds a zero byte")
    try:
        Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError("there is no home folder of that name") from error
    return text


PathText = Annotated[str, AfterValidator(_path)]


class RealPictures(Strict):
    """Folders of real pictures: one sub-folder a class, or Parquet shards. ``starter/pool`` and ``starter/test`` are built in."""

    train: PathText | None = Field(
        None, description="photographs one has: few-shot, the exchange rate; never tested on"
    )
    val: PathText | None = Field(None, description="chooses the epoch where train.select is 'validation'")
    test: PathText | None = Field(None, description="read for the final evaluation only")


class Task(Strict):
    """A label space. Labels are indices into ``class_names``."""

    name: str = "task"
    class_names: list[str] = Field(description="in label order; two or more, no two alike")
    synonyms: dict[str, list[str]] = Field({}, description="class name -> other words for it, for prompts")
    templates: list[Template] = Field(
        ["a photo of a {}."], description="sentences for zero-shot and basic prompts; {} is the class name"
    )
    attributes: dict[str, list[str]] = Field(
        {}, description="kind of attribute -> words that may stand before a class name"
    )
    contexts: list[str] = Field([], description="phrases that may follow a class name, such as 'on a table'")
    real: RealPictures = RealPictures()

    @model_validator(mode="after")
    def _check(self) -> Task:
        if len(self.class_names) < 2:
            raise ValueError(f"a recogniser needs two classes or more; class_names has {len(self.class_names)}")
        seen: dict[str, str] = {}
        for name in self.class_names:
            key = " ".join(name.lower().split())
            if not key:
                raise ValueError("a class name is empty")
            if key in seen:
                raise ValueError(
                    f"class_names holds {seen[key][:60]!r} and {name[:60]!r}: each class once (case and spaces do not matter)"
                )
            seen[key] = name
        for name in self.synonyms:
            if name not in self.class_names:
                raise ValueError(
                    f"synonyms names {name!r}, which is not in class_names.{nearest(name, self.class_names)}"
                )
        if not self.templates:
            raise ValueError("templates is empty; leave it out for 'a photo of a {}.'")
        return self


def builtin_names() -> list[str]:
    """The tasks that ship with figment."""
    return sorted(
        p.name.removesuffix(".yaml")
        for p in (resources.files("figment") / "tasks").iterdir()
        if p.name.endswith(".yaml")
    )


def builtin(name: str) -> dict:
    """The fields of a built-in task, such as ``fashion``. Raises FigmentError for an unknown name."""
    if name not in builtin_names():
        raise FigmentError(
            f"There is no built-in task {name!r}.{nearest(name, builtin_names())} Built in: {', '.join(builtin_names())}. Or give class_names."
        )
    return yaml.safe_load((resources.files("figment") / "tasks" / f"{name}.yaml").read_text(encoding="utf-8"))


def load_task(name: str) -> Task:
    """A built-in task by its name."""
    return Task.model_validate(builtin(name))


def real_folder(where: str) -> Path:
    """The folder behind a path of :class:`RealPictures`."""
    if where in ("starter/pool", "starter/test"):
        from figment import starter

        return starter.folder(where.removeprefix("starter/"))
    return Path(where).expanduser()
