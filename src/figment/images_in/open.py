"""The images behind a name in a recipe, with the labels of its task."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from figment import starter
from figment.errors import FigmentError
from figment.files import as_path, is_remote
from figment.guard import check
from figment.images_in import splits
from figment.images_in.changed import in_look
from figment.images_in.datasets import PREFIX, is_saved, open_named, open_saved
from figment.images_in.folder import is_hidden, open_class_folders
from figment.images_in.labels import WHOLE_NUMBER, OtherClasses, labels_by_code
from figment.images_in.provenance import Stored
from figment.images_in.shards import ShardImages, Shards
from figment.images_in.table import METADATA, names_images, open_csv, open_metadata
from figment.images_in.webdataset import open_tars
from figment.layout import EXPORT, shard_files

#: Where the tables of a data set may lie in its folder: as the Hub has them (and images in COCO's words), and NeMo Data Designer, beside
#: images/.
TABLES = ("data", "parquet-files")
LABELS = "labels.csv"  # of images that lie in one folder, as figment exports them


def open_images(where: Path | str, class_names: Sequence[str], own_names: Sequence[str] = ()) -> Stored:
    """Real images of a task, however they are kept.

    ``where`` is a folder of class folders, one with a ``metadata.jsonl`` that names classes, one of Parquet shards, one of
    WebDataset tars, or one of ``Dataset.save_to_disk``; a ``.csv`` of paths, or one ``.tar``; or ``datasets:NAME[:SPLIT]``. Of files
    or lines of several splits, or folders called as they are, ``WHERE:SPLIT`` reads one. ``starter/LOOK/SPLIT`` is the starter's ``pool`` or ``test`` in one of its
    looks. Classes are matched by name, in any order; case, spaces, hyphens and
    underscores do not matter; numbers are positions in ``class_names``. Raises FigmentError where nothing of the kind is there, or
    the classes that have images are others than ``class_names``. Where ``own_names`` is given, in the same order, the images may
    name their classes by those instead, such as ``n01440764`` of ImageNet, or ``1`` where numbers are names.
    """
    if own_names and all(
        WHOLE_NUMBER.fullmatch(name) for name in own_names
    ):  # else these numbers would be taken for positions
        class_names, own_names = own_names, class_names
    try:
        return _open(where, class_names)
    except FigmentError:  # it says what is wrong in the words of the task, so it is the one to show
        with suppress(FigmentError):
            if own_names:
                return _open(where, own_names)
        raise


def class_names_in(where: Path | str) -> list[str]:
    """What the images of a place call their classes, whatever kind of place it is; numbers as they are. In the order in which the place
    numbers them, or else names them.

    Raises FigmentError as :func:`open_images` does, and where nothing tells the classes but the names of columns, one for each.
    """
    try:
        _open(where, ())  # no class is one of none, so whoever reads the classes says which there are
    except OtherClasses as told:
        return told.found
    raise FigmentError(f"{where} holds no images of any class. Give a folder with one sub-folder of images a class.")


def _open(where: Path | str, class_names: Sequence[str]) -> Stored:
    if str(where).startswith(PREFIX):
        return open_named(str(where), class_names)
    if isinstance(where, str) and where.startswith(starter.PREFIX):  # a path is a folder of the user's own
        look, split = starter.look_and_split(str(where))
        images = _open(starter.folder(split), class_names)
        return images if look == starter.AS_IT_IS else in_look(images, look)
    path, split = as_path(where), ""
    if not path.exists():
        place, split = splits.parted(str(where))
        path = as_path(place)
    if path.is_file():
        return _open_file(path, split, class_names)
    if not path.is_dir():
        if not is_remote(path) and path.exists():
            check(path)
        raise FigmentError(
            f"The folder of images {path} does not exist. Give one with one sub-folder of images a class."
        )
    if is_saved(path):
        return open_saved(path / split, class_names)
    if split and (own := splits.folder_of(path, split)):
        return _open(own, class_names)
    if splits.named(split) == "train" and (path / EXPORT).is_file():
        split = ""  # all that figment exports is of that split, as its cards say
    path = _images_of(path)
    if path.is_file():
        return _open_file(path, split, class_names)
    if shards := shard_files(path):
        return _open_labelled_shards(splits.files_of(shards, split, path), class_names)
    if tars := sorted(path.glob("[!.]*.tar")):
        return open_tars(splits.files_of(tars, split, path), class_names)
    if found := open_metadata(path, class_names, split):
        return found
    if split:
        raise FigmentError(f"{path} holds no split {split!r}: give the folder that has its images.")
    return open_class_folders(path, class_names)


def _images_of(folder: Path) -> Path:
    """Where in the folder of a data set its images and tables lie: in one of :data:`TABLES`, where :data:`LABELS` says, or below the
    only split that there is (``train/``, as Ultralytics has it); else in the folder itself."""
    for place in (folder, *(folder / name for name in TABLES)):
        if shard_files(place):
            return place
    if any(folder.glob("[!.]*.tar")) or _has_table(folder):
        return folder
    below = [path for path in folder.iterdir() if path.is_dir() and not is_hidden([path.name])]
    if len(below) > 1:  # one alone cannot be the classes
        return folder
    if (folder / LABELS).is_file() and names_images(folder / LABELS):
        return folder / LABELS
    is_all = [path.name.lower() in splits.NAMES or (path.name in TABLES and _has_table(path)) for path in below]
    return below[0] if any(is_all) else folder


def _has_table(folder: Path) -> bool:
    return any((folder / name).is_file() for name in METADATA)


def _open_file(path: Path, split: str, class_names: Sequence[str]) -> Stored:
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return open_csv(path, class_names, split)
    if suffix == ".tar" and not split:
        return open_tars([path], class_names)
    raise FigmentError(
        f"{path} is a file that real images cannot be read from. Give a folder, a .csv of paths and classes, a .tar of"
        " samples, or datasets:NAME."
    )


def _open_labelled_shards(files: Sequence[Path], class_names: Sequence[str]) -> ShardImages:
    """Shards whose labels are those of the task: by the names that each file brings along, else taken as positions."""
    table, folder = Shards(files, class_names), files[0].parent
    if not len(table.with_image()):
        raise FigmentError(f"{folder} holds no images: the image column of its Parquet shards is empty.")
    # A row without an image is a failed attempt in files of ours. In others it is one that cannot be read, and counts as such.
    rows = np.flatnonzero((table.lengths > 0) | (table.offsets < 0))
    values, own = table.class_names, table.labels[rows]
    if not values:
        numbers, own = np.unique(own, return_inverse=True)
        values = numbers.tolist()
    return ShardImages(table, rows, labels_by_code(own, values, class_names, folder))
