"""Which real images are to be checked, and what their classes are: of a recipe, or of places alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from figment.errors import FigmentError
from figment.files import as_path
from figment.images_in import open_images
from figment.images_in.folder import FileImages, is_hidden
from figment.images_in.labels import OtherClasses, normalised
from figment.images_in.open import class_names_in
from figment.images_in.provenance import Stored
from figment.images_in.rows import RowImages
from figment.images_in.shards import ShardImages
from figment.images_in.splits import named, parted, split_of
from figment.layout import Run
from figment.recipe.load import load_recipe
from figment.task import RealImages, Task, builtin_names, load_task, real_folder

UNSPLIT = "folder"  # what is checked as a whole where nobody has split it
#: What ``datasets`` calls a split -> what a recipe does.
SPLITS = {"train": "train", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class Places:
    """``places``: split -> where its images are. ``task`` is None where no recipe says what the classes are."""

    places: dict[str, str]
    task: Task | None = None


@dataclass(frozen=True)
class Opened:
    """``given``: split -> its images, labels being positions in ``class_names``; ``refused``: split -> why a run would not take it."""

    class_names: list[str]
    given: dict[str, Stored] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def places_of(reals: Sequence[str], variant: str | None = None) -> Places:
    """What the command line names: one recipe, run or built-in task; or places, each with its split as ``test=photos/b`` or in its name.

    A folder that holds ``train`` and ``test`` is these two. One place alone whose name is of no split is one that nobody has split.
    Raises FigmentError where a split is not known or named twice, and for a ``variant`` of what is no recipe.
    """
    if variant is not None and not (len(reals) == 1 and _is_recipe(reals[0])):
        raise FigmentError("--variant is of a recipe: name one, and nothing else, or leave it out.")
    if len(reals) == 1 and (task := _task(reals[0], variant)) is not None:
        real = task.real
        own = {split: where for split in RealImages.SPLITS[:3] if (where := getattr(real, split))}
        places = own if real.folder is None else {UNSPLIT: real.folder}
        if not places:
            raise FigmentError(
                f"The task of {reals[0]} has no real images: set task.real.train and task.real.test, or name them here."
            )
        return Places(places, task)
    found: dict[str, str] = {}
    for text in reals:
        for split, where in _splits_in(text, alone=len(reals) == 1):
            if found.setdefault(split, where) != where:
                raise FigmentError(
                    f"{found[split]} and {where} are both called {split}. Say which is which: test={where}"
                )
    return Places({split: found[split] for split in (*RealImages.SPLITS, UNSPLIT) if split in found})


def _is_recipe(text: str) -> bool:
    path = as_path(text)
    return path.suffix.lower() in (".yaml", ".yml") or Run(path).resolved.is_file()


def _task(text: str, variant: str | None) -> Task | None:
    if _is_recipe(text):
        return load_recipe(text, variant=variant).task
    return load_task(text) if text in builtin_names() and not as_path(text).exists() else None


def _splits_in(text: str, alone: bool) -> list[tuple[str, str]]:
    """The splits that one argument stands for."""
    name, equals, where = text.partition("=")
    if equals and name in (*SPLITS.values(), UNSPLIT):
        return [(name, where)]
    path = as_path(text)
    folders = [p for p in path.iterdir() if p.is_dir() and not is_hidden([p.name])] if path.is_dir() else []
    if len(own := {SPLITS[split]: str(p) for p in sorted(folders) if (split := named(p.name)) in SPLITS}) > 1:
        return list(own.items())
    place, split = parted(text)
    name = (
        named(Path(place).name) if as_path(place).is_dir() else split_of(Path(place).name)
    )  # train_station is a class
    if (split := split_of(split) or name) in SPLITS:
        return [(SPLITS[split], text)]
    if alone:
        return [(UNSPLIT, text)]
    raise FigmentError(
        f"Which split is {text}? Its name says nothing. Write it as train={text}, val={text} or test={text}; one place alone is split"
        " by figment."
    )


def open_places(asked: Places) -> Opened:
    """The images of all places under one list of class names. A set whose classes are others is opened as far as it goes.

    Raises FigmentError where nothing can be opened.
    """
    task, given, refused = asked.task, {}, {}
    found: dict[str, tuple[list[str], Stored]] = {}
    for split, where in asked.places.items():
        try:
            found[split] = _open(where, task)
        except OtherClasses as error:
            refused[split] = str(error)
            found[split] = _open(where, None)
        except FigmentError as error:
            refused[split] = str(error)
    if not found:
        raise FigmentError(next(iter(refused.values())))
    class_names = list(task.class_names) if task is not None else _all_names([names for names, _ in found.values()])
    known = {
        normalised(name): i for names in (task.own_names if task else [], class_names) for i, name in enumerate(names)
    }
    for split, (names, images) in found.items():
        labels = np.array([known.get(normalised(name), -1) for name in names], np.int64)[images.labels]
        if not (labels >= 0).any():
            refused.setdefault(split, f"{asked.places[split]} has no image of any class of the task.")
            continue
        given[split] = images if names == class_names else _under(labels, images)
    if not given:
        raise FigmentError(next(iter(refused.values())))
    return Opened(class_names, given, refused)


def _open(where: str, task: Task | None) -> tuple[list[str], Stored]:
    """A place's class names and images: those of the task, or (None) its own."""
    place = real_folder(where)
    if task is not None:
        return list(task.class_names), open_images(place, task.class_names, task.own_names)
    names = class_names_in(place)
    return names, open_images(place, names)


def _all_names(named: Sequence[Sequence[str]]) -> list[str]:
    """Every class once, in the order in which they occur."""
    first: dict[str, str] = {}
    for names in named:
        for name in names:
            first.setdefault(normalised(name), name)
    return list(first.values())


def _under(labels: np.ndarray, images: Stored) -> Stored:
    """The images under other labels, without those whose label is -1."""
    kept = np.flatnonzero(labels >= 0)
    own = images.take(kept)
    if isinstance(own, ShardImages):
        return ShardImages(own.shards, own.rows, labels[kept])
    assert isinstance(own, FileImages | RowImages)  # what else there is, the starter's, has the task's labels
    return replace(own, labels=labels[kept])


def task_of(class_names: Sequence[str], real: Mapping[str, Any]) -> Task:
    """A task of these classes with these real images. Raises FigmentError for names and settings that no task can have."""
    try:
        return Task.model_validate({"class_names": list(class_names), "real": real})
    except ValidationError as error:
        said = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise FigmentError(f"No recipe can have these images: {said}.") from error
