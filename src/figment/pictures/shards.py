"""Pictures in Parquet shards, ours or anybody's: any one of them can be read without the others."""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from figment import png
from figment.errors import FigmentError
from figment.files import is_remote, open_parquet, read_range
from figment.pictures.decode import decode
from figment.store import digest, image_places
from figment.types import Indices

OPEN_FILES = 256  # kept open at a time, well below what a process may have
OPENERS = 8  # footers read at a time: waiting, mostly, where they are remote


class Shards:
    """All rows of a folder of shards: labels and places of the pictures in memory (28 bytes a row), the rest on disk.

    Every table must have an ``image{bytes, path}`` and a ``label`` column. Files of this project say where each picture
    starts, so one is read by one seek; of other files the row groups last used are kept in memory.
    """

    def __init__(self, files: Sequence[Path]):
        self.files = list(files)
        with ThreadPoolExecutor(OPENERS) as pool:
            footers = list(pool.map(_read_footer, self.files))
        self.class_names = footers[0].class_names
        self.labels = np.concatenate([f.labels for f in footers])  # int64 (rows,), -1 where there is none
        self.places = np.concatenate([f.places for f in footers])  # int64 (rows, 2); offset -1: not known
        self.start = np.cumsum([0] + [len(f.labels) for f in footers])  # int64 (files + 1,)
        self._reset()

    def _reset(self) -> None:
        self._open: OrderedDict[int, int] = OrderedDict()  # file -> descriptor, the least recently used first
        self._groups: OrderedDict[tuple[int, int], tuple[int, pa.Array]] = OrderedDict()
        self._columns: dict[str, list[Any]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_open", "_groups", "_columns")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def __del__(self) -> None:
        for descriptor in getattr(self, "_open", {}).values():
            os.close(descriptor)

    def with_image(self) -> np.ndarray:
        """The rows that have a picture, ``int64 (n,)``."""
        return np.flatnonzero(self.places[:, 1] > 0)

    def read(self, row: int) -> bytes:
        """The stored bytes of one row's picture."""
        file = int(np.searchsorted(self.start, row, "right")) - 1
        offset, length = self.places[row]
        if offset < 0:
            return self._from_group(file, row - int(self.start[file]))
        if is_remote(self.files[file]):
            return read_range(self.files[file], int(offset), int(length))
        return os.pread(self._descriptor(file), int(length), int(offset))

    def where(self, row: int) -> str:
        """A row's file and its number there, for messages."""
        file = int(np.searchsorted(self.start, row, "right")) - 1
        return f"{self.files[file]}, row {row - self.start[file]},"

    def _descriptor(self, file: int) -> int:
        found = self._open.get(file)
        if found is None:
            found = self._open[file] = os.open(self.files[file], os.O_RDONLY)
            if len(self._open) > OPEN_FILES:
                os.close(self._open.popitem(last=False)[1])
        self._open.move_to_end(file)
        return found

    def _from_group(self, file: int, row: int) -> bytes:
        for (own, group), (first, images) in reversed(self._groups.items()):
            if own == file and 0 <= row - first < len(images):
                self._groups.move_to_end((own, group))
                return images[row - first]["bytes"].as_py()
        parquet, first, group = open_parquet(self.files[file]), 0, 0
        while row - first >= (rows := parquet.metadata.row_group(group).num_rows):
            first, group = first + rows, group + 1
        images = parquet.read_row_group(group, columns=["image"])["image"].combine_chunks()
        self._groups[file, group] = first, images
        if len(self._groups) > 4:
            self._groups.popitem(last=False)
        return images[row - first]["bytes"].as_py()

    def column(self, name: str) -> list[Any] | None:
        """A column of all rows; None where the files do not have it."""
        if name not in self._columns:
            parts: list[Any] = []
            for path in self.files:
                parquet = open_parquet(path)
                if name not in parquet.schema_arrow.names:
                    return None
                parts += parquet.read(columns=[name])[name].to_pylist()
            self._columns[name] = parts
        return self._columns[name]


class ShardPictures:
    """Some rows of :class:`Shards`, in any order, as :class:`figment.types.Pictures`."""

    def __init__(self, shards: Shards, rows: np.ndarray, labels: np.ndarray):
        self.shards, self.rows, self.labels = shards, rows, labels

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def ids(self) -> list[str]:
        known = self.shards.column("id")
        if known is not None:
            return [known[row] for row in self.rows]
        files = np.searchsorted(self.shards.start, self.rows, "right") - 1
        return [
            f"{self.shards.files[f].stem}/{row - self.shards.start[f]}" for f, row in zip(files, self.rows, strict=True)
        ]

    @cached_property
    def digests(self) -> list[str]:
        known = self.shards.column("digest")
        return [digest(self.shards.read(row)) if known is None else known[row] for row in self.rows]

    @cached_property
    def prompts(self) -> list[str]:
        """The text each was made from; empty for pictures that were not made from texts."""
        known = self.shards.column("prompt")
        return [] if known is None else [known[row] for row in self.rows]

    def data(self, index: int) -> bytes:
        """The stored bytes of one picture, undecoded."""
        return self.shards.read(self.rows[index])

    def load(self, indices: Indices) -> list[np.ndarray]:
        return [self._image(self.rows[i]) for i in indices]

    def _image(self, row: int) -> np.ndarray:
        data = self.shards.read(row)
        image = png.decode(data)
        return decode(data, self.shards.where(row)) if image is None else image

    def take(self, indices: Indices) -> ShardPictures:
        index = np.asarray(indices, np.int64)
        return ShardPictures(self.shards, self.rows[index], self.labels[index])


class _Footer:
    """What has to be known of one file before any picture is read."""

    def __init__(self, labels: np.ndarray, places: np.ndarray, class_names: list[str]):
        self.labels, self.places, self.class_names = labels, places, class_names


def _read_footer(path: Path) -> _Footer:
    try:
        parquet = open_parquet(path)
        metadata = parquet.metadata.metadata or {}
        _check_schema(path, parquet.schema_arrow)
        labels = parquet.read(columns=["label"])["label"].fill_null(-1).to_numpy().astype(np.int64)
        places = image_places(metadata)
        if places is None:
            # Which rows have a picture is not in the footer of files that others made.
            parts = [_has_bytes(batch["image"]) for batch in parquet.iter_batches(256, columns=["image"])]
            has = np.concatenate(parts) if parts else np.zeros(0, bool)
            places = np.stack([np.full(len(has), -1), has.astype(np.int64)], axis=1)
    except (OSError, pa.ArrowException) as error:
        raise FigmentError(f"{path} is not a Parquet file that can be read ({error}). Copy it again.") from error
    names = json.loads(metadata.get(b"huggingface", b"{}"))
    names = names.get("info", {}).get("features", {}).get("label", {}).get("names", [])
    return _Footer(labels, places, names)


def _has_bytes(images: pa.StructArray) -> np.ndarray:
    return pc.struct_field(images, "bytes").is_valid().to_numpy(zero_copy_only=False)


def open_shards(folder: Path) -> tuple[ShardPictures, list[str]]:
    """The pictures of a folder of Parquet shards, and its class names (empty if the files do not say).

    Rows without a picture are left out. Raises FigmentError where there are no shards, or not of labelled pictures.
    """
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise FigmentError(
            f"{folder} holds no Parquet shards. Name a folder with one sub-folder of pictures a class, or a Parquet data set."
        )
    shards = Shards(files)
    rows = shards.with_image()
    return ShardPictures(shards, rows, shards.labels[rows]), shards.class_names


def _check_schema(path: Path, schema: pa.Schema) -> None:
    """Raise FigmentError where the columns of a shard are not those of labelled pictures."""
    if not {"image", "label"} <= set(schema.names):
        raise FigmentError(
            f"{path} lacks a column: a data set of pictures needs 'image' and 'label', this has {', '.join(schema.names)}."
        )
    image, label = schema.field("image").type, schema.field("label").type
    if not (pa.types.is_struct(image) and image.get_field_index("bytes") >= 0 and pa.types.is_integer(label)):
        raise FigmentError(
            f"{path} does not hold pictures with labels: 'image' must be a struct with 'bytes', and 'label' whole numbers;"
            f" here they are {image} and {label}. Save it with the datasets library, or use class folders of files."
        )
