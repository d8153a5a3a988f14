"""The images behind a name in a recipe, with the labels of its task."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from figment.errors import FigmentError
from figment.files import as_path
from figment.images_in.datasets import PREFIX, is_saved, open_named, open_saved
from figment.images_in.folder import open_class_folders
from figment.images_in.labels import check_range, match_classes
from figment.images_in.provenance import Stored
from figment.images_in.shards import ShardImages, open_shards
from figment.images_in.table import open_csv, open_metadata
from figment.images_in.webdataset import open_tars
from figment.layout import shard_files


def open_images(where: Path | str, class_names: Sequence[str], own_names: Sequence[str] = ()) -> Stored:
    """Real images of a task, however they are kept.

    ``where`` is a folder of class folders, one with a ``metadata.jsonl`` that names classes, one of Parquet shards, one of
    WebDataset tars, or one of ``Dataset.save_to_disk``; a ``.csv`` of paths, or one ``.tar``; or ``datasets:NAME[:SPLIT]``. Classes are
    matched by name, in any order; case, spaces, hyphens and underscores do not matter. Raises FigmentError where nothing of
    the kind is there, or the classes are others than ``class_names``. Where ``own_names`` is given, in the same order, the
    images may name their classes by those instead, such as ``n01440764`` of ImageNet.
    """
    try:
        return _open(where, class_names)
    except FigmentError:  # it says what is wrong in the words of the task, so it is the one to show
        with suppress(FigmentError):
            if own_names:
                return _open(where, own_names)
        raise


def _open(where: Path | str, class_names: Sequence[str]) -> Stored:
    if str(where).startswith(PREFIX):
        return open_named(str(where), class_names)
    path = as_path(where)
    if path.is_file():
        return _open_file(path, class_names)
    if not path.is_dir():
        raise FigmentError(
            f"The folder of real images {path} does not exist. Give one with one sub-folder of images a class."
        )
    if is_saved(path):
        return open_saved(path, class_names)
    if shard_files(path):
        return _open_labelled_shards(path, class_names)
    if tars := sorted(path.glob("[!.]*.tar")):
        return open_tars(tars, class_names)
    return open_metadata(path, class_names) or open_class_folders(path, class_names)


def _open_file(path: Path, class_names: Sequence[str]) -> Stored:
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return open_csv(path, class_names)
    if suffix == ".tar":
        return open_tars([path], class_names)
    raise FigmentError(
        f"{path} is a file that real images cannot be read from. Give a folder, a .csv of paths and classes, a .tar of"
        " samples, or datasets:NAME."
    )


def _open_labelled_shards(folder: Path, class_names: Sequence[str]) -> ShardImages:
    """Shards whose labels are those of the task: by the names they bring along, else taken as they are."""
    shards, names = open_shards(folder)
    if not len(shards):
        raise FigmentError(f"{folder} holds no images: the image column of its Parquet shards is empty.")
    # A row without an image is a failed attempt in files of ours. In others it is one that cannot be read, and counts as such.
    table = shards.shards
    rows = np.flatnonzero((table.lengths > 0) | (table.offsets < 0))
    labels = check_range(table.labels[rows], len(names or class_names), folder)
    if names:
        labels = np.array(match_classes(names, class_names, folder), np.int64)[labels]
    return ShardImages(table, rows, labels)
