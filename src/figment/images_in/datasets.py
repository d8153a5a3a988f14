"""Images of a data set that the ``datasets`` library opens: by its name on the Hub, or saved in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from figment.errors import FigmentError, missing_extra
from figment.files import open_parquet
from figment.guard import check_folder
from figment.images_in.columns import IMAGE_COLUMNS, class_column, features_of, file_of, names_of, only_image
from figment.images_in.labels import CLASS_COLUMNS, labels_by_code, labels_of
from figment.images_in.rows import RowImages
from figment.images_in.unreadable import Unreadable

PREFIX = "datasets:"


@dataclass(frozen=True)
class DatasetRows:
    """One split, its images undecoded."""

    images: Any  # a datasets.Dataset of one column, memory-mapped
    image_column: str
    name: str
    others: Any  # a datasets.Dataset of the other columns

    def read(self, row: int) -> bytes:
        image = self.images[row][self.image_column]
        if image is None:
            raise Unreadable(self.where(row), "there is no image", "Take that row out.")
        return file_of(image, Path(), self.where(row))

    def where(self, row: int) -> str:
        return f"{self.name}, row {row},"

    def column(self, name: str) -> list[Any] | None:
        return list(self.others[name]) if name in self.others.features else None


def open_named(where: str, class_names: Sequence[str]) -> RowImages:
    """``datasets:NAME`` or ``datasets:NAME:SPLIT``: what ``datasets.load_dataset(NAME, split=SPLIT)`` opens.

    Raises FigmentError where that fails, where there are several splits and none is named, and where the columns are not
    those of labelled images.
    """
    return _images(library_of_datasets(), named_table(where), class_names, where)


def open_saved(folder: Path, class_names: Sequence[str]) -> RowImages:
    """A folder that ``Dataset.save_to_disk`` wrote. Raises FigmentError as :func:`open_named` does."""
    return _images(library_of_datasets(), saved_table(folder), class_names, str(folder))


def named_table(where: str) -> Any:
    """The ``datasets.Dataset`` of one split behind ``datasets:NAME`` or ``datasets:NAME:SPLIT``. Raises FigmentError."""
    library = library_of_datasets()
    name, _, split = where.removeprefix(PREFIX).partition(":")
    if is_saved(Path(name)):
        check_folder(Path(name), f"The data set {name}")
        found = library.load_from_disk(name)
        return _only(library, _split(library, found, split, where) if split else found, where)
    _check_alike(name)
    try:
        found = library.load_dataset(name, split=split or None)
    except Exception as error:  # the library and the Hub raise a different type for every way this fails
        reason = " ".join(str(error).split())[:400]
        raise FigmentError(
            f"datasets cannot open {name!r}{f', split {split!r}' if split else ''} ({type(error).__name__}: {reason})."
            " Check the name and the split (datasets:NAME:SPLIT), and that there is a network or a copy in the cache."
        ) from error
    return _only(library, found, where)


def saved_table(folder: Path) -> Any:
    """The ``datasets.Dataset`` of one split that ``save_to_disk`` wrote. Raises FigmentError."""
    library = library_of_datasets()
    check_folder(folder, f"The data set {folder}")
    try:
        found = library.load_from_disk(str(folder))
    except Exception as error:
        raise FigmentError(
            f"datasets cannot open {folder} ({type(error).__name__}: {error}). Save it again."
        ) from error
    return _only(library, found, str(folder))


def _only(library: Any, found: Any, where: str) -> Any:
    """The one split there is, in Python's own types: what it was saved to be shown as (tensors, a frame) is nothing to its readers."""
    if not isinstance(found, library.DatasetDict):
        return found.with_format(None)
    if len(found) != 1:
        way = f"{where}:{next(iter(found))}" if where.startswith(PREFIX) else f"{where}/{next(iter(found))}"
        raise FigmentError(f"{where} has several splits: {', '.join(found)}. Choose one, such as {way}")
    return next(iter(found.values())).with_format(None)


def is_saved(folder: Path) -> bool:
    """Whether ``save_to_disk`` wrote this folder."""
    return (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file()


def library_of_datasets() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise missing_extra("datasets", "datasets") from error
    return datasets


def _split(library: Any, found: Any, split: str, where: str) -> Any:
    if isinstance(found, library.DatasetDict) and split in found:
        return found[split]
    raise FigmentError(f"{where}: there is no split {split!r}.{_splits(library, found)}")


def _splits(library: Any, found: Any) -> str:
    return f" There are: {', '.join(found)}." if isinstance(found, library.DatasetDict) else ""


def _images(library: Any, found: Any, class_names: Sequence[str], where: str) -> RowImages:
    if not len(found):
        raise FigmentError(f"{where} holds no images: the data set is empty.")
    image = _image_column(library, found.features, where)
    labels = _labels(library, found, class_names, where)
    images = found.select_columns([image]).cast_column(image, library.Image(decode=False))
    rows = DatasetRows(images, image, where, found.remove_columns([image]))
    return RowImages(rows, np.arange(len(found)), labels, [str(i) for i in range(len(found))])


def _check_alike(name: str) -> None:
    """Raise FigmentError for a folder of Parquet files that number their classes differently: ``datasets`` reads all by the first's names."""
    first: dict[str, tuple[Path, list[str]]] = {}
    for path in sorted(Path(name).rglob("*.parquet")) if Path(name).is_dir() else []:
        with suppress(OSError, pa.ArrowException):  # said by the library
            features = features_of(open_parquet(path).schema_arrow.metadata or {})
            for column, names in ((name, own) for name, feature in features.items() if (own := names_of(feature))):
                before, others = first.setdefault(column, (path, names))
                if names != others:
                    raise FigmentError(
                        f"{path} numbers the classes of {column!r} differently from {before}, and datasets reads both by the names of one"
                        f" of them. Give the folder itself, {path.parent}: each file is then read by its own names."
                    )


def _image_column(library: Any, features: Any, where: str) -> str:
    columns = [name for name, feature in features.items() if isinstance(feature, library.Image)]
    texts = [name for name, f in features.items() if name in IMAGE_COLUMNS and getattr(f, "dtype", "") == "string"]
    column = only_image(columns or texts)  # a column of paths can be cast to images
    if column is None:
        many = (
            f"several columns of images ({', '.join(columns)}) and none called image"
            if columns
            else "no column of images"
        )
        raise FigmentError(
            f"{where} has {many}; its columns are {', '.join(features)}. Cast or rename the column to image, and save it with save_to_disk."
        )
    return column


def _labels(library: Any, found: Any, class_names: Sequence[str], where: str) -> np.ndarray:
    """The task's labels, by the column of classes; of several such columns, of the one whose classes are the task's."""
    told = {
        n: {"_type": "ClassLabel", "names": f.names}
        for n, f in found.features.items()
        if isinstance(f, library.ClassLabel)
    }
    column = class_column(told, list(found.features), class_names)
    if column is None:
        raise FigmentError(
            f"{where} has no column of classes: none is a ClassLabel, and none is called {', '.join(CLASS_COLUMNS)}."
            f" Its columns are {', '.join(found.features)}. Rename or cast one, and save it with save_to_disk."
        )
    if column not in told:
        return labels_of(list(found[column]), class_names, where)
    own = np.array([-1 if value is None else value for value in found[column]], np.int64)
    return labels_by_code(own, told[column]["names"], class_names, where)
