"""Images in Parquet shards, ours or anybody's: any one of them can be read without the others."""

from __future__ import annotations

import os
import resource
import shlex
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from figment import plain_yaml, png
from figment.errors import FigmentError
from figment.files import is_remote, open_parquet, read_range
from figment.images_in.ahead import Ahead
from figment.images_in.columns import columns_of, file_of, has_image, labels_in
from figment.images_in.decode import decode, on_all_cores
from figment.images_in.tones import White
from figment.images_in.unreadable import Unreadable
from figment.layout import Run, Study, first_shard, shard_files
from figment.records import digest
from figment.shards import ATTRIBUTE, ROWS, image_places
from figment.types import Indices

OPEN_FILES = max(64, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)  # kept open at a time; the process may have 4x
TOGETHER = 64  # images decoded at a time
LARGE = 2**14  # bytes of a file, on average, from which on an image is worth a thread's turn
AHEAD_BYTES = 2**28  # of files that are read before they are asked for
PIECE_BYTES = 2**22  # read by one request, where rows are asked for in the order in which they lie
GAP_BYTES = 2**12  # between two of them: a page's header, or an attempt that failed
OPENERS = 8  # footers read at a time: waiting, mostly, where they are remote
OF_THE_PROCESS = ("_open", "_groups", "_columns", "_ahead")


class Shards:
    """All rows of a folder of shards: labels and places of the images in memory (20 bytes a row), the rest on disk.

    Every table must have a column of images and one of classes: see :func:`figment.images_in.columns.columns_of`, which ``class_names``
    are for. Each file may number its classes in its own way; here all are numbered alike, by the names of the first and then new ones.
    Files of this project say where each image starts, so one is read by one seek; of other files the row groups last used are kept in
    memory.
    """

    def __init__(self, files: Sequence[Path], class_names: Sequence[str] = ()):
        self.files = list(files)
        with ThreadPoolExecutor(OPENERS) as pool:
            footers = list(pool.map(partial(_read_footer, class_names=class_names), self.files))
        self.class_names, labels = _numbered_alike(self.files, footers)
        self.image_columns = [footer.image for footer in footers]
        self.start = [0, *accumulate(map(len, labels))]  # the first row of each file, and the end
        self.labels = np.concatenate(labels)  # int64 (rows,), -1 where there is none
        self.offsets = np.concatenate([footer.offsets for footer in footers])  # int64 (rows,), -1 where it is not known
        self.lengths = np.concatenate([footer.lengths for footer in footers])  # int32 (rows,), in bytes; 0: no image
        self._remote = np.array([is_remote(file) for file in self.files])
        self.is_far = bool(self._remote.any())
        self._reset()

    def _reset(self) -> None:
        self._open: OrderedDict[int, int] = OrderedDict()  # file -> descriptor, the least recently used first
        self._groups: OrderedDict[tuple[int, int], tuple[int, pa.Array]] = OrderedDict()
        self._columns: dict[str, pa.ChunkedArray] = {}
        self._ahead = Ahead(AHEAD_BYTES)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in OF_THE_PROCESS}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def __del__(self) -> None:
        for descriptor in getattr(self, "_open", {}).values():
            os.close(descriptor)

    def with_image(self) -> np.ndarray:
        """The rows that have an image, ``int64 (n,)``."""
        return np.flatnonzero(self.lengths)

    @cached_property
    def white(self) -> White:
        return White(self.read, len(self.labels))

    def read(self, row: int) -> bytes:
        """The stored bytes of one row's image. Raises :class:`figment.images_in.Unreadable` where there is none."""
        data = self._ahead.take(row)
        if data is not None:
            return data
        file = bisect_right(self.start, row) - 1
        offset, length = self.offsets.item(row), self.lengths.item(row)
        if not length:
            raise Unreadable(self.where(row), "a row without an image")
        if offset < 0:
            return self._from_group(file, row - self.start[file])
        if is_remote(self.files[file]):
            return read_range(self.files[file], offset, length)
        return os.pread(self._descriptor(file), length, offset)

    def ahead(self, rows: np.ndarray) -> None:
        """Begin to read these rows, ``int64 (n,)``, in this order, where they lie in an object store: as many as :data:`AHEAD_BYTES` hold."""
        if not self.is_far:
            return
        file = np.searchsorted(self.start, rows, "right") - 1
        far = rows[self._remote[file] & (self.offsets[rows] >= 0) & (self.lengths[rows] > 0)]
        far = far[np.cumsum(self.lengths[far], dtype=np.int64) <= AHEAD_BYTES]
        if len(far):
            for piece in self._pieces(self._ahead.lacks(far.tolist())):
                self._ahead.begin(piece, self.lengths[piece].tolist(), self._read_piece)

    def begun(self, row: int) -> bool:
        return self._ahead.has(row)

    def _pieces(self, rows: Sequence[int]) -> list[list[int]]:
        """Rows that follow one another here and in a file, up to :data:`PIECE_BYTES`, are one piece."""
        pieces: list[list[int]] = []
        for row in rows:
            piece = pieces[-1] if pieces else [row]
            first, last, end = piece[0], piece[-1], self.offsets.item(row) + self.lengths.item(row)
            gap = self.offsets.item(row) - self.offsets.item(last) - self.lengths.item(last)
            together = bisect_right(self.start, last) == bisect_right(self.start, row) and 0 <= gap <= GAP_BYTES
            if together and end - self.offsets.item(first) <= PIECE_BYTES:
                piece.append(row)
            else:
                pieces.append([row])
        return pieces

    def _read_piece(self, rows: Sequence[int]) -> list[bytes]:
        file = bisect_right(self.start, rows[0]) - 1
        offsets, lengths = self.offsets[rows].tolist(), self.lengths[rows].tolist()
        start = offsets[0]
        data = read_range(self.files[file], start, offsets[-1] + lengths[-1] - start)
        return [data[at - start : at - start + length] for at, length in zip(offsets, lengths, strict=True)]

    def where(self, row: int) -> str:
        """A row's file and its number there, for messages."""
        file = bisect_right(self.start, row) - 1
        return f"{self.files[file]}, row {row - self.start[file]},"

    def is_own(self, row: int) -> bool:
        """Whether figment wrote the file that the row is in."""
        return bool(self.offsets[row] >= 0)

    def _descriptor(self, file: int) -> int:
        found = self._open.get(file)
        if found is None:
            found = self._open[file] = os.open(self.files[file], os.O_RDONLY)
            if len(self._open) > OPEN_FILES:
                os.close(self._open.popitem(last=False)[1])
        self._open.move_to_end(file)
        return found

    def _from_group(self, file: int, row: int) -> bytes:
        first, images = self._group(file, row)
        return file_of(images[row - first].as_py(), self.files[file].parent, self.where(self.start[file] + row))

    def _group(self, file: int, row: int) -> tuple[int, pa.Array]:
        """The first row of the row group that a row is in, and its images."""
        for (own, group), (first, images) in reversed(self._groups.items()):
            if own == file and 0 <= row - first < len(images):
                self._groups.move_to_end((own, group))
                return first, images
        parquet, first, group = open_parquet(self.files[file]), 0, 0
        while row - first >= (rows := parquet.metadata.row_group(group).num_rows):
            first, group = first + rows, group + 1
        column = self.image_columns[file]
        images = parquet.read_row_group(group, columns=[column])[column].combine_chunks()
        self._groups[file, group] = first, images
        if len(self._groups) > 4:
            self._groups.popitem(last=False)
        return first, images

    def column(self, name: str) -> pa.ChunkedArray | None:
        """A column of all rows, as it is stored; None where the files do not have it."""
        if name not in self._columns:
            with ThreadPoolExecutor(OPENERS) as pool:
                parts = list(pool.map(partial(_read_column, name=name), self.files))
            found = [part for part in parts if part is not None]
            if len(found) < len(parts):
                return None
            whole = pa.chunked_array([chunk for part in found for chunk in part.chunks], found[0].type)
            self._columns[name] = pa.chunked_array([whole.combine_chunks()], whole.type)
        return self._columns[name]


class ShardImages:
    """Some rows of :class:`Shards`, in any order, as :class:`figment.types.Images`."""

    def __init__(self, shards: Shards, rows: np.ndarray, labels: np.ndarray):
        self.shards, self.rows, self.labels = shards, rows, labels

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def ids(self) -> list[str]:
        known = self.column("id")
        if known is not None:
            return known.to_pylist()
        files = np.searchsorted(self.shards.start, self.rows, "right") - 1
        return [
            f"{self.shards.files[f].stem}/{row - self.shards.start[f]}" for f, row in zip(files, self.rows, strict=True)
        ]

    @cached_property
    def digests(self) -> list[str]:
        known = self.column("digest")
        return [self._digest(row) for row in self.rows] if known is None else known.to_pylist()

    @cached_property
    def prompts(self) -> list[str]:
        """The text each was made from; empty for images that were not made from texts."""
        known = self.column("prompt")
        return [] if known is None else known.to_pylist()

    @cached_property
    def attributes(self) -> dict[str, pa.ChunkedArray]:
        """The columns that say what each image was asked to show, by their names (``attribute_tone``)."""
        names = open_parquet(self.shards.files[0]).schema_arrow.names
        found = {name: self.column(name) for name in names if name.startswith(ATTRIBUTE)}
        return {name: column for name, column in found.items() if column is not None}

    @cached_property
    def groups(self) -> np.ndarray:
        """``int64 (N,)``, the same number for images of one group: those that show one caption.

        Raises FigmentError for files that do not say.
        """
        known = self.column("group")
        if known is None:
            raise FigmentError(
                f"{self.shards.files[0].parent} has no column 'group', which says what images show one caption."
                " Images that figment generates have it."
            )
        return np.unique(known.to_numpy(zero_copy_only=False), return_inverse=True)[1]

    def column(self, name: str) -> pa.ChunkedArray | None:
        """A column of the files, for these images in this order; None where the files do not have it."""
        known = self.shards.column(name)
        return None if known is None else known.take(pa.array(self.rows))

    @property
    def white(self) -> White:
        return self.shards.white

    def data(self, index: int) -> bytes:
        """The stored bytes of one image, undecoded."""
        return self.shards.read(self.rows[index])

    def load(self, indices: Indices) -> list[np.ndarray]:
        rows = self.rows[np.asarray(indices, np.int64)].tolist()
        images: list[np.ndarray] = []
        for at in range(0, len(rows), TOGETHER):
            part = rows[at : at + TOGETHER]
            if self.shards.is_far and not all(map(self.shards.begun, part)):
                self.shards.ahead(np.array(rows[at : at + 4 * TOGETHER]))  # what lies together is one request
            images += self._images(part)
        return images

    def ahead(self, indices: Indices) -> None:
        """Begin to read these, which will be asked for in this order, where they lie in an object store."""
        self.shards.ahead(self.rows[np.asarray(indices, np.int64)])

    def _images(self, rows: list[int]) -> list[np.ndarray]:
        data = [self._read(row) for row in rows]
        if sum(map(len, data)) >= LARGE * len(data):
            return on_all_cores(self._image, data, rows)
        found = zip(png.decode_many(data), data, rows, strict=True)
        return [self._other(one, row) if image is None else image for image, one, row in found]

    def _image(self, data: bytes, row: int) -> np.ndarray:
        image = png.decode(data)
        return self._other(data, row) if image is None else image

    def _digest(self, row: int) -> str:
        """Empty where the file is damaged; :meth:`load` says so."""
        try:
            file = self._read(row)
            return digest(file + self.shards.white.key(file))
        except Unreadable:
            return ""

    def _read(self, row: int) -> bytes:
        try:
            return self.shards.read(row)
        except (OSError, pa.ArrowException) as error:
            raise Unreadable(self.shards.where(row), "its file is damaged or gone", "Copy the file again.") from error

    def _other(self, data: bytes, row: int) -> np.ndarray:
        """The pixels of a file that is not of our own making, or damaged."""
        try:
            return decode(data, self.shards.where(row), self.shards.white)
        except Unreadable as error:
            if not self.shards.is_own(row):
                raise
            folder = shlex.quote(str(self.shards.files[0].parent))
            raise Unreadable(error.where, "damaged since it was written", f"Run: figment verify {folder}") from error

    def take(self, indices: Indices) -> ShardImages:
        index = np.asarray(indices, np.int64)
        return ShardImages(self.shards, self.rows[index], self.labels[index])


@dataclass(frozen=True)
class _Footer:
    """What has to be known of one file before any image is read: see :class:`Shards`."""

    image: str  # its column
    labels: np.ndarray
    names: tuple[str, ...]  # that the labels stand for; empty where they are mere numbers
    offsets: np.ndarray
    lengths: np.ndarray


def _read_footer(path: Path, class_names: Sequence[str] = ()) -> _Footer:
    with _explained(path):
        parquet = open_parquet(path)
        columns = columns_of(path, parquet.schema_arrow, class_names)
        labels, names = labels_in(parquet.read(columns=[columns.label])[columns.label])
        places = image_places(parquet.metadata.metadata or {})
        if places is not None:
            offsets, lengths = places[:, 0].copy(), places[:, 1].astype(np.int32)
        else:  # which rows have an image is not in the footer of files that others made
            parts = [has_image(batch[columns.image]) for batch in parquet.iter_batches(256, columns=[columns.image])]
            has = np.concatenate(parts) if parts else np.zeros(0, bool)
            offsets, lengths = np.full(len(has), -1), has.astype(np.int32)
    return _Footer(columns.image, labels, columns.names or names, offsets, lengths)


def _numbered_alike(files: Sequence[Path], footers: Sequence[_Footer]) -> tuple[list[str], list[np.ndarray]]:
    """The names of all files, and the labels of each as positions among them; no names where all labels are mere numbers.

    Raises FigmentError where some files have names and others do not: those would be read by the names of these.
    """
    full = [i for i, footer in enumerate(footers) if len(footer.labels)]
    named = [i for i in full if footers[i].names]
    if bare := sorted(set(full) - set(named)) if named else []:
        raise FigmentError(
            f"{files[bare[0]]} has no class names, and {files[named[0]]} has: what its numbers stand for is not known. Give all files"
            " class names, or none, or read them apart."
        )
    position: dict[str, int] = {}
    for own in dict.fromkeys(footer.names for footer in footers):
        for name in own:
            position.setdefault(name, len(position))
    names = tuple(position)
    return list(names), [_renumbered(footer, names, position) for footer in footers]


def _renumbered(footer: _Footer, names: tuple[str, ...], position: Mapping[str, int]) -> np.ndarray:
    own = footer.names
    if own == names[: len(own)]:
        return footer.labels
    there = (footer.labels >= 0) & (footer.labels < len(own))
    # What none of its own names stands for stays without a class.
    return np.where(there, np.array([position[name] for name in own])[np.where(there, footer.labels, 0)], -1)


def _read_column(path: Path, name: str) -> pa.ChunkedArray | None:
    with _explained(path):
        parquet = open_parquet(path)
        return parquet.read(columns=[name])[name] if name in parquet.schema_arrow.names else None


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """What pyarrow raises on a damaged file, in one paragraph."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise FigmentError(f"{path} is not a Parquet file that can be read ({error}). Copy it again.") from error


def open_shards(folder: Path, first: int | None = None) -> tuple[ShardImages, list[str]]:
    """The images of a folder of Parquet shards, and its class names (empty if the files do not say).

    Rows without an image are left out. ``first`` takes only so many rows from the start, of a set that has grown. Raises FigmentError where there are no shards, or not of labelled images.
    """
    files = shard_files(folder)
    if not files:
        raise FigmentError(
            f"{folder} holds no Parquet shards. Name a folder with one sub-folder of images a class, or a Parquet data set."
        )
    shards = Shards(files)
    rows = shards.with_image()
    rows = rows if first is None else rows[rows < first]
    labels = shards.labels if len(rows) == len(shards.labels) else shards.labels[rows]
    return ShardImages(shards, rows, labels), shards.class_names


def open_run_images(run: Run) -> ShardImages:
    """The images of a run: of a set that has grown for another recipe, the first ones, as many as this one asks for.

    Raises FigmentError where there is none.
    """
    images = open_shards(run.images, wanted_rows(run))[0]
    if not len(images):
        raise no_image(run)
    return images


def no_image(run: Run) -> FigmentError:
    """The error for a run without a single image."""
    return FigmentError(f"No image was made; {run.images} holds the reasons in its error column.")


def made_before(run: Run) -> frozenset[str]:
    """The content hashes of all images that lie in the folder of a run or of its study."""
    folders: dict[Path, None] = {}
    for own in (run, *Study(run.root).runs()):
        with suppress(FigmentError):  # a damaged run of the study is not this one's business; verify finds it
            folders[own.images] = None
    files = [path for folder in folders for path in shard_files(folder)]
    with ThreadPoolExecutor(OPENERS) as pool:
        columns = pool.map(partial(_read_column, name="digest"), files)
        return frozenset(digest for column in columns if column is not None for digest in column.to_pylist() if digest)


def _are_of_no_class(run: Run) -> bool:
    """Whether images were made from captions without classes: then all of them have the label -1."""
    first = first_shard(run.images) or next(iter(shard_files(run.images)), None)
    labels = None if first is None else _read_column(first, "label")
    return labels is not None and len(labels) > 0 and labels[0].as_py() == -1


def wanted_rows(run: Run) -> int | None:
    """How many attempts the recipe of a run asks for; None where there is no recipe that says."""
    if not run.recipe.is_file():
        return None
    try:
        recipe = plain_yaml.read(run.recipe)
        if of_each := recipe["generate"].get("images_per_prompt"):
            prompts = _read_column(run.prompts / ROWS, "label")
            return None if prompts is None else int(of_each) * len(prompts)
        n = int(recipe["generate"]["images_per_class"])
        if recipe["generate"].get("kind") == "folder":  # has as many of each class as there are
            labels = _read_column(run.prompts / ROWS, "label")
            return None if labels is None else int(np.minimum(np.bincount(labels.to_numpy()), n).sum())
        return n * (1 if _are_of_no_class(run) else len(recipe["task"]["class_names"]))
    except (KeyError, TypeError, ValueError):
        return None  # of an unresolved recipe
