"""The pictures behind a name in a recipe, with the labels of its task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from figment.errors import FigmentError, nearest
from figment.pictures.folder import SUFFIXES, FilePictures
from figment.pictures.shards import ShardPictures, open_shards
from figment.types import Pictures


def _normalised(name: str) -> str:
    return " ".join(name.replace("_", " ").replace("-", " ").lower().split())


def _match_classes(found: Sequence[str], class_names: Sequence[str], folder: Path) -> list[int]:
    """The task's label of each class found on disk. Raises FigmentError where the two sets differ."""
    exact = {n: i for i, n in enumerate(class_names)}  # wins where two names differ by a hyphen alone
    wanted = {_normalised(n): i for i, n in enumerate(class_names)}
    labels = [exact.get(n, wanted.get(_normalised(n), -1)) for n in found]
    missing = [n for i, n in enumerate(class_names) if i not in labels]
    strange = [n for n, label in zip(found, labels, strict=True) if label < 0]
    if missing or strange:
        hint = nearest(_normalised(strange[0]), wanted) if strange else ""
        raise FigmentError(
            f"The classes of {folder} are not those of the task."
            + (f" Missing there: {_listed(missing)}." if missing else "")
            + (f" Not in the task: {_listed(strange)}.{hint}" if strange else "")
            + " Rename the class folders, or change task.class_names (case, spaces, hyphens and underscores do not matter)."
        )
    return labels


def _listed(names: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(repr(n[:60]) for n in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def open_pictures(folder: Path, class_names: Sequence[str]) -> Pictures:
    """Real pictures of a task: a folder of class folders, or a folder of Parquet shards with class names.

    Raises FigmentError where the folder is missing, empty, or holds other classes than ``class_names``.
    """
    if not folder.is_dir():
        raise FigmentError(
            f"The folder of real pictures {folder} does not exist. Give one with one sub-folder of pictures a class."
        )
    if any(folder.glob("*.parquet")):
        return _open_labelled_shards(folder, class_names)
    classes = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    labels_of = _match_classes(classes, class_names, folder)
    paths, labels = [], []
    for name, label in zip(classes, labels_of, strict=True):
        files = sorted(p for p in (folder / name).rglob("[!.]*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not files:
            raise FigmentError(f"{folder / name} holds no pictures. Allowed file names end in {', '.join(SUFFIXES)}.")
        paths += files
        labels += [label] * len(files)
    return FilePictures(paths, np.array(labels, np.int64), [str(p.relative_to(folder)) for p in paths])


def _open_labelled_shards(folder: Path, class_names: Sequence[str]) -> ShardPictures:
    """Shards whose labels are those of the task: by the names they bring along, else taken as they are."""
    shards, names = open_shards(folder)
    if not len(shards):
        raise FigmentError(f"{folder} holds no pictures: the image column of its Parquet shards is empty.")
    known = names or list(class_names)
    outside = sorted(set(shards.labels.tolist()) - set(range(len(known))))
    if outside:
        raise FigmentError(
            f"{folder} holds the label {outside[0]}, which none of its {len(known)} classes has (-1 means unlabelled)."
            f" Labels run from 0 to {len(known) - 1}. Take those rows out."
        )
    if not names:
        return shards
    labels = np.array(_match_classes(names, class_names, folder), np.int64)[shards.labels]
    return ShardPictures(shards.shards, shards.rows, labels)
