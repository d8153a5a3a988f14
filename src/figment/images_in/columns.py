"""Tables that others made: which column holds the images, which one the classes, and what the classes are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from figment.errors import FigmentError
from figment.files import is_remote
from figment.guard import parse_json
from figment.images_in.folder import read_file
from figment.images_in.labels import CLASS_COLUMNS, normalised
from figment.images_in.unreadable import Unreadable

IMAGE_COLUMNS = ("image", "img")


@dataclass(frozen=True)
class Columns:
    """The columns of one Parquet file; ``names``, where it says them, are what the numbers in ``label`` stand for."""

    image: str
    label: str
    names: tuple[str, ...] = ()


def columns_of(path: Path, schema: pa.Schema, class_names: Sequence[str] = ()) -> Columns:
    """What is what in a Parquet file; of several columns of classes the one whose classes are ``class_names``.

    Raises FigmentError where a column is missing, or is not of images or classes.
    """
    features = features_of(schema.metadata or {})
    image = _image_column(schema, features)
    label = class_column({n: f for n, f in features.items() if n in schema.names}, schema.names, class_names)
    if image is None or label is None:
        what = (
            "one column of images, called 'image' where there are several" if image is None else "a column of classes"
        )
        raise FigmentError(
            f"{path} lacks a column: a data set of images needs {what}{'' if image is None else ', called ' + ' or '.join(CLASS_COLUMNS)};"
            f" this has {', '.join(schema.names)}. Rename it there."
        )
    images, labels = schema.field(image).type, schema.field(label).type
    if not _is_image(images):
        raise FigmentError(
            f"{path} does not hold images: {image!r} must be a struct with 'bytes' or 'path', bytes, or paths; here it is {images}."
            " Save it with the datasets library, or use class folders of files."
        )
    if not (pa.types.is_integer(labels) or _is_text(labels)):
        raise FigmentError(
            f"{path} does not hold classes: {label!r} must be names or whole numbers; here it is {labels}. Cast it there."
        )
    return Columns(image, label, tuple(names_of(features.get(label, {}))) if pa.types.is_integer(labels) else ())


def features_of(metadata: Mapping[bytes, bytes]) -> dict[str, Mapping[str, Any]]:
    """Column -> what the ``datasets`` library wrote of it into the footer; empty where that is not there, or not in its shape."""
    return _features(metadata.get(b"huggingface", b"{}"))


@lru_cache(maxsize=4)  # the files of one data set say the same
def _features(raw: bytes) -> dict[str, Mapping[str, Any]]:
    try:
        told: Any = parse_json(raw, "the footer", "Parquet footer")
    except (ValueError, FigmentError):
        return {}
    for key in ("info", "features"):
        told = told.get(key) if isinstance(told, dict) else None
    return {name: own for name, own in told.items() if isinstance(own, dict)} if isinstance(told, dict) else {}


def names_of(feature: Mapping[str, Any]) -> list[str]:
    """The names of a ``ClassLabel``; empty for any other feature."""
    names = feature.get("names") if feature.get("_type") == "ClassLabel" else None
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else []


def class_column(
    features: Mapping[str, Mapping[str, Any]], columns: Sequence[str], class_names: Sequence[str]
) -> str | None:
    """The column of classes: of those with class names the one whose names are the task's, else the first; else the one called so."""
    named = {name: own for name, feature in features.items() if (own := names_of(feature))}
    wanted = {normalised(name) for name in class_names}
    fitting = [name for name, own in named.items() if {normalised(n) for n in own} == wanted]
    return next(iter([*fitting, *named, *(name for name in CLASS_COLUMNS if name in columns)]), None)


def only_image(columns: Sequence[str]) -> str | None:
    """The column of images among several: the only one, or the one that is called so."""
    return columns[0] if len(columns) == 1 else next((name for name in IMAGE_COLUMNS if name in columns), None)


def _image_column(schema: pa.Schema, features: Mapping[str, Mapping[str, Any]]) -> str | None:
    said = [name for name, feature in features.items() if feature.get("_type") == "Image" and name in schema.names]
    structs = [field.name for field in schema if pa.types.is_struct(field.type) and _is_image(field.type)]
    return only_image(said or structs or [name for name in IMAGE_COLUMNS if name in schema.names])


def _is_image(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(kind.get_field_index(part) >= 0 for part in ("bytes", "path"))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):  # of one path, as NeMo Data Designer writes it
        return _is_text(kind.value_type)
    return _is_text(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _is_text(kind: pa.DataType) -> bool:
    return (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or (pa.types.is_dictionary(kind) and _is_text(kind.value_type))
    )


def has_image(cells: pa.Array) -> np.ndarray:
    """Which cells of a column of images hold one, bytes or a path: ``bool (n,)``."""
    if not pa.types.is_struct(cells.type):
        return cells.is_valid().to_numpy(zero_copy_only=False)
    parts = [cells.flatten()[i] for part in ("bytes", "path") if (i := cells.type.get_field_index(part)) >= 0]
    return np.any([part.is_valid().to_numpy(zero_copy_only=False) for part in parts], axis=0)


def file_of(cell: Any, folder: Path, where: str) -> bytes:
    """The image file that a cell holds, or names: a relative path starts at ``folder``, or at the one above it where that has the file.
    Raises :class:`figment.images_in.Unreadable`."""
    if isinstance(cell, list):
        if len(cell) != 1:
            raise Unreadable(where, f"a row with {len(cell):,} images", "Write a row for each.")
        (cell,) = cell
    data, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
    if isinstance(data, str):
        data, path = None, data
    if data is not None:
        return data
    if not path:
        raise Unreadable(where, "a row without an image")
    above = folder.parent / path
    return read_file(
        above if not is_remote(folder) and not (folder / path).exists() and above.is_file() else folder / path
    )


def labels_in(column: pa.ChunkedArray) -> tuple[np.ndarray, tuple[str, ...]]:
    """A column of classes as numbers, ``int64 (n,)``, -1 where there is none, and the names that they stand for, if it holds names."""
    if pa.types.is_integer(column.type):
        return column.cast(pa.int64(), safe=False).fill_null(-1).to_numpy().astype(np.int64), ()
    own = column.cast(pa.string()).combine_chunks().dictionary_encode()
    own = own.combine_chunks() if isinstance(own, pa.ChunkedArray) else own
    return own.indices.cast(pa.int64()).fill_null(-1).to_numpy().astype(np.int64), tuple(own.dictionary.to_pylist())
