"""Labelled images to train a classifier on and to test it: a task of the house, wherever its images lie."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from figment.errors import FigmentError, nearest
from figment.files import as_path
from figment.images_in.folder import is_hidden
from figment.images_in.real import open_real
from figment.recipe.load import load_recipe
from figment.task import Task, builtin_names, load_task
from figment.types import Images

TRAIN, TEST = ("train", "training"), ("test", "val", "validation")  # how the folders of a split are called, best first


@dataclass(frozen=True)
class Labelled:
    """``train`` and ``test``, with labels in the order of ``class_names``; ``own_names`` are what the data set calls the classes.

    ``templates``: the task's sentences, with ``{}`` for a class's name.
    """

    class_names: list[str]
    train: Images
    test: Images
    own_names: list[str]
    templates: Sequence[str] = ("a photo of a {}.",)


def open_labelled(where: str) -> Labelled:
    """The images of a task.

    ``where`` is a recipe or any YAML file with a ``task`` whose ``real`` has ``train`` and ``test``; the folder of a run; a built-in task
    that has its images (``fashion``); or a folder with ``train`` and ``test`` (else ``val``) of class folders. Raises FigmentError.
    """
    return of_task(_task(where), where)


def of_task(task: Task, where: str) -> Labelled:
    missing = [f"task.real.{split}" for split in ("train", "test") if split not in task.real.places]
    if missing:
        raise FigmentError(
            f"The task of {where} says nothing of its images in {' and '.join(missing)}. A classifier on features learns from the real"
            " training images and is tested on the test images: write a file with task: {like: ..., real: {train: DIR, test: DIR}}."
        )
    real = open_real(task, ("train", "test"))
    return Labelled(task.class_names, real["train"], real["test"], task.own_names, task.templates)


def _task(where: str) -> Task:
    path = as_path(where)
    if path.is_file() or (path / "resolved.yaml").is_file():
        return load_recipe(path).task
    if path.is_dir():
        return _of_folders(path)
    if where in builtin_names():
        return load_task(where)
    raise FigmentError(
        f"There is no data set {where!r}.{nearest(where, builtin_names())} Give a folder with train and test of class folders, a recipe"
        f" (figment init {shlex.quote('pets.yaml')} writes one), or a built-in task that has its images: fashion, or one of its looks."
    )


def _of_folders(path: Path) -> Task:
    train, test = (next((path / name for name in names if (path / name).is_dir()), None) for names in (TRAIN, TEST))
    if train is None or test is None:
        raise FigmentError(
            f"{path} has no folder {'train' if train is None else 'test (or val)'}. It must hold train and test, each with one folder of"
            " images a class; images kept otherwise are named in a recipe, as task.real.train and task.real.test."
        )
    names = sorted(p.name for p in train.iterdir() if p.is_dir() and not is_hidden([p.name]))
    if len(names) < 2:
        raise FigmentError(
            f"{train} holds {len(names)} folders of classes, and a classifier needs two or more. Images kept otherwise (Parquet, CSV, tars)"
            " are named in a recipe, with their classes: task.class_names and task.real."
        )
    return Task.model_validate({"class_names": names, "real": {"train": str(train), "test": str(test)}})
