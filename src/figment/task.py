"""A task: the class names, how to say them in a sentence, and where their real images are (if there are any)."""

from __future__ import annotations

import os
import re
from copy import deepcopy
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, ClassVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from figment.errors import FigmentError, nearest
from figment.files import as_path
from figment.words import OVERRIDES, comparable, is_control


class Strict(BaseModel):
    """A part of a recipe: unknown fields are errors, values are not guessed at."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _text(text: str) -> str:
    wrong = next((c for c in text if c == "\0" or "\ud800" <= c <= "\udfff"), None)
    if wrong:
        raise ValueError(f"no text can hold the character {wrong!r}; it stands in {text[:60]!r}. Take it out")
    return text


#: Any words at all. NUL and halves of surrogate pairs are none: no file and no tokenizer takes them.
Text = Annotated[str, AfterValidator(_text)]


def _class_name(text: str) -> str:
    wrong = next((c for c in text if is_control(c) or c in OVERRIDES), None)
    if wrong:
        raise ValueError(
            f"a class name is one line of text, and {text[:60]!r} holds the control character {wrong!r}. Take it out"
        )
    if not comparable(text):
        raise ValueError("a class name is empty" + (f", or nothing of it can be seen: {text[:60]!r}" if text else ""))
    return text


ClassName = Annotated[str, AfterValidator(_class_name)]


def _template(text: str) -> str:
    if text.count("{}") != 1:
        raise ValueError(f"a template holds {{}} once, where the class name goes; {text[:80]!r} does not")
    return text


Template = Annotated[Text, AfterValidator(_template)]


def _path(text: str) -> str:
    if "\0" in text or len(text) > 1024 or any(len(os.fsencode(part)) > 255 for part in Path(text).parts):
        raise ValueError("no folder can have this name: it is too long or holds a zero byte")
    try:
        Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError("there is no home folder of that name") from error
    return text


PathText = Annotated[str, AfterValidator(_path)]


class Groups(Strict):
    """How to tell which real images belong together, such as those of one burst, video or patient. One of the three."""

    column: Text | None = Field(
        None, description="a column of the images' table (Parquet, CSV, metadata.jsonl, datasets)"
    )
    pattern: Text | None = Field(
        None,
        description="a regular expression that is searched in an image's id (for files the path below their folder), with the"
        " group's name in its one pair of parentheses: '(.+)_frame'",
    )
    csv: PathText | None = Field(
        None, description="a CSV of two columns, for images of all splits: the image's id or file name, its group"
    )

    @model_validator(mode="after")
    def _one(self) -> Groups:
        given = [name for name, value in self if value is not None]
        if len(given) != 1:
            raise ValueError(
                f"groups takes one of column, pattern and csv; here are {' and '.join(given) or 'none of them'}"
            )
        if self.pattern is not None:
            try:
                parentheses = re.compile(self.pattern).groups
            except re.error as error:
                raise ValueError(
                    f"groups.pattern is not a regular expression ({error}): {self.pattern[:80]!r}"
                ) from error
            if parentheses != 1:
                raise ValueError(
                    "groups.pattern needs one pair of parentheses, around the name of the group, such as '(.+)_frame';"
                    f" {self.pattern[:80]!r} has {parentheses}. Others are written (?:...)"
                )
        return self


class RealImages(Strict):
    """Where the real images of each split are; ``starter/pool`` and ``starter/test`` are built in, and ``starter/sketch/test`` and others
    of its looks.

    A folder with one sub-folder a class, or with a ``metadata.jsonl``, Parquet shards, WebDataset tars or a saved data set;
    a ``.csv`` of paths and classes; one ``.tar``; or ``datasets:NAME:SPLIT`` for what ``datasets.load_dataset`` opens. Where several
    splits lie together, ``WHERE:SPLIT`` is one of them. Where nobody has split them, ``folder`` and ``test_share`` stand for ``train``,
    ``val`` and ``test``: see :func:`figment.images_in.deal.deal`.
    """

    SPLITS: ClassVar[tuple[str, ...]] = ("train", "val", "test", "unlabelled")
    DEALT: ClassVar[tuple[str, ...]] = ("test", "val", "train")

    train: PathText | None = Field(
        None, description="photographs one has: few-shot, the exchange rate; never tested on"
    )
    val: PathText | None = Field(None, description="chooses the epoch where train.select is 'validation'")
    test: PathText | None = Field(
        None, description="read for the final evaluation, and by the filter memorised, which takes copies of them out"
    )
    unlabelled: PathText | None = Field(
        None,
        description="a folder of photographs that nobody has labelled, of classes about equally frequent, 100 or more: the bias"
        " of the untrained classifier is removed on them, in place of generated or few labelled images",
    )
    folder: PathText | None = Field(
        None,
        description="photographs that nobody has split, in place of train, val and test: each class is dealt into these by content"
        " hash, the same images on every machine; photographs that are the same, or of one group, stay together",
    )
    test_share: float | None = Field(None, gt=0, lt=1, description="of each class in folder: what is tested on")
    val_share: float | None = Field(
        None, gt=0, lt=1, description="of each class in folder: what chooses the epoch; None = no validation images"
    )
    split_seed: int = Field(0, ge=0, lt=2**32, description="another one deals folder in another way")
    groups: Groups | None = Field(
        None,
        description="which images are not independent of one another: bursts, videos, patients. Intervals then count groups, and the"
        " test images may share none with train or val",
    )

    @model_validator(mode="after")
    def _split_once(self) -> RealImages:
        given = [split for split in self.DEALT if getattr(self, split)]
        shares = [name for name in ("test_share", "val_share") if getattr(self, name) is not None]
        if self.folder is None and shares:
            raise ValueError(
                f"{shares[0]} deals the photographs of folder, and there is none: give folder, such as photos"
            )
        if self.folder is None:
            return self
        if given:
            raise ValueError(
                f"folder is dealt into train and test, and {' and '.join(given)} {'are' if len(given) > 1 else 'is'} given as well:"
                " give either folder, or the places of the splits"
            )
        if self.test_share is None:
            raise ValueError("folder needs test_share, the share of each class that is tested on, such as 0.3")
        if sum(self.shares.values()) >= 1:
            raise ValueError("test_share and val_share leave nothing to learn from: they must add up to less than 1")
        return self

    @property
    def shares(self) -> dict[str, float]:
        """Split -> the share of ``folder`` that it gets; the rest is ``train``'s."""
        told = {"test": self.test_share, "val": self.val_share}
        return {split: share for split, share in told.items() if share is not None}

    @property
    def places(self) -> dict[str, str]:
        """Split -> where its images are, of those there are: a place to be opened, or in words which part of ``folder``."""
        if self.folder is None:
            dealt = {}
        else:
            told = ", ".join(f"{split} {share:g}" for split, share in self.shares.items())
            part = f"of {self.folder} (shares: {told}; split_seed {self.split_seed})"
            dealt = {split: f"{split} {part}" for split in (*self.shares, "train")}
        return {split: where for split in self.SPLITS if (where := dealt.get(split) or getattr(self, split))}


class Task(Strict):
    """A label space. Labels are indices into ``class_names``."""

    name: Text = "task"
    class_names: list[ClassName] = Field(description="in label order; two or more, no two alike")
    own_names: list[ClassName] = Field(
        [],
        description="what the data set itself calls the classes, in label order, where that is something else: n01440764, "
        "AnnualCrop. Real images may name their classes by either",
    )
    synonyms: dict[str, list[Text]] = Field({}, description="class name -> other words for it, for prompts")
    templates: list[Template] = Field(
        ["a photo of a {}."], description="sentences for zero-shot and basic prompts; {} is the class name"
    )
    ensemble: list[Template] = Field(
        [], description="more sentences, whose mean the classifier starts from where train.ensemble is set"
    )
    attributes: dict[Text, list[Text]] = Field(
        {}, description="kind of attribute -> words that may stand before a class name"
    )
    contexts: list[Text] = Field([], description="phrases that may follow a class name, such as 'on a table'")
    real: RealImages = RealImages()

    @model_validator(mode="after")
    def _check(self) -> Task:
        if len(self.class_names) < 2:
            raise ValueError(f"a recogniser needs two classes or more; class_names has {len(self.class_names)}")
        seen: dict[str, str] = {}
        for name in self.class_names:
            key = comparable(name)
            if key in seen:
                raise ValueError(
                    f"class_names holds {seen[key][:60]!r} and {name[:60]!r}: each class once (case, spaces and ways of"
                    " writing the same letter do not matter)"
                )
            seen[key] = name
        if self.own_names and not (len(set(self.own_names)) == len(self.own_names) == len(self.class_names)):
            raise ValueError(
                f"own_names needs a different name for each of the {len(self.class_names)} class_names; it holds "
                f"{len(set(self.own_names))} different ones in {len(self.own_names)}"
            )
        for name in self.synonyms:
            if name not in self.class_names:
                raise ValueError(
                    f"synonyms names {name[:60]!r}, which is not in class_names.{nearest(name, self.class_names)}"
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


def builtin(name: str, names_from: str | None = None) -> dict:
    """The fields of a built-in task, such as ``fashion``, with the class names that ``names_from`` has for it: ``coop``.

    Raises FigmentError for an unknown name, and where the task has no class names from there.
    """
    if name not in builtin_names():
        raise FigmentError(
            f"There is no built-in task {name!r}.{nearest(name, builtin_names())} Built in: {', '.join(builtin_names())}. Or give class_names."
        )
    own = deepcopy(_parsed(name))
    like, others = own.pop("like", None), own.pop("other_class_names", {})
    own = own if like is None else {**builtin(like), **own}
    if names_from is None:
        return own
    if names_from not in others:
        there = f"It has some from: {', '.join(others)}" if others else "It has one list of them"
        raise FigmentError(
            f"The task {name!r} has no class names from {names_from!r}. {there}. Leave class_names_from out for its own."
        )
    return _renamed(own, others[names_from])


@cache
def _parsed(name: str) -> dict:
    """What the file of a built-in task holds: a table reads it for each of its cells, and a thousand names take long to parse."""
    return yaml.safe_load((resources.files("figment") / "tasks" / f"{name}.yaml").read_text(encoding="utf-8"))


def _renamed(own: dict, names: list[str]) -> dict:
    """The fields of a task under other class names, in the same order. Folders of real images may keep the names they had."""
    new = dict(zip(own["class_names"], names, strict=True))
    synonyms = {
        new[name]: [word for word in words if comparable(word) != comparable(new[name])]
        for name, words in own.get("synonyms", {}).items()
    }
    return {
        **own,
        "class_names": names,
        "own_names": own.get("own_names") or own["class_names"],
        "synonyms": {name: words for name, words in synonyms.items() if words},
    }


def load_task(name: str, names_from: str | None = None) -> Task:
    """A built-in task by its name, with its own class names or those from somewhere else: see `builtin`."""
    return Task.model_validate(builtin(name, names_from))


def real_folder(where: str) -> Path | str:
    """What :func:`figment.images_in.open_images` takes for a place in :class:`RealImages`: a path, or what is none as it is."""
    return where if where.startswith(("datasets:", "starter/")) else as_path(where)
