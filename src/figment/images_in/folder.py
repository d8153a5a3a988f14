"""Images as people keep them: a file each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from figment import guard
from figment.errors import FigmentError
from figment.files import is_remote, read_bytes
from figment.images_in.decode import decode
from figment.images_in.labels import listed, match_classes
from figment.images_in.rows import digests_of
from figment.images_in.splits import NAMES as SPLITS
from figment.images_in.tones import White
from figment.images_in.unreadable import Unreadable
from figment.types import Indices
from figment.words import storable

#: Names of images. The last few cannot be read here, which is better said than passed over.
SUFFIXES: tuple[str, ...]
SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
SUFFIXES += (".pnm", ".jp2", ".avif", ".heic", ".heif", ".jxl", ".svg")
#: Folders of thumbnails, previews and deleted files, beside those whose names begin with a dot.
OF_PROGRAMS = {"__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found"}


@dataclass(frozen=True)
class FileImages:
    """Image files with a label each, such as torchvision's ImageFolder has them."""

    paths: list[Path]
    labels: np.ndarray
    ids: list[str]
    _digests: list[str] = field(default_factory=list, repr=False)
    table: Sequence[Mapping[str, Any]] = ()  # a row for each, where a table names them
    _whole: White | None = field(default=None, repr=False, compare=False)  # of the set that these were taken from

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def white(self) -> White:
        return self._whole or White(self.data, len(self))

    @property
    def digests(self) -> list[str]:
        if not self._digests:
            self._digests.extend(digests_of(self.data, len(self), self.white))
        return self._digests

    def data(self, index: int) -> bytes:
        """The stored bytes of one image, undecoded. Raises :class:`figment.images_in.Unreadable`."""
        return read_file(self.paths[index])

    def load(self, indices: Indices) -> list[np.ndarray]:
        return [decode(self.data(i), str(self.paths[i]), self.white) for i in indices]

    def take(self, indices: Indices) -> FileImages:
        known = [self._digests[i] for i in indices] if self._digests else []
        rows = [self.table[i] for i in indices] if self.table else ()
        paths, ids = [self.paths[i] for i in indices], [self.ids[i] for i in indices]
        return FileImages(paths, self.labels[list(indices)], ids, known, rows, self.white)

    def column(self, name: str) -> list[Any] | None:
        """A column of the table that names the images; None where there is no such table or column."""
        for known in (name, name.strip().lower()):  # a CSV's headings are read in small letters
            if any(known in row for row in self.table):
                return [row.get(known) for row in self.table]
        return None


def read_file(path: Path) -> bytes:
    """The stored bytes of an image's file. Raises :class:`figment.images_in.Unreadable` where there is nothing to read, no file, or
    one too large to be an image: it is not opened."""
    try:
        if is_remote(path):
            return read_bytes(path, "image")
        if path.is_symlink() and not path.exists():
            raise Unreadable(str(path), "a link that leads nowhere")
        if reason := guard.problem(path, "image"):
            raise Unreadable(str(path), reason)
        return path.read_bytes()
    except OSError as error:
        raise Unreadable(str(path), (error.strerror or str(error)).lower()) from error


def is_hidden(parts: Iterable[str]) -> bool:
    """Whether a path leads into, or to, what programs keep for themselves: ``.thumbnails``, ``@eaDir``, ``__MACOSX``."""
    return any(part in OF_PROGRAMS or (part.startswith(".") and part not in (".", "..")) for part in parts)


def images_below(folder: Path) -> list[Path]:
    """All image files of a folder, at any depth, sorted; not those in hidden folders. Raises FigmentError where there is none."""
    depth = len(folder.parts)
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and not is_hidden(path.parts[depth:]) and not path.is_dir()
    )
    if not files:
        raise FigmentError(f"{folder} holds no images. Allowed file names end in {', '.join(SUFFIXES)}.")
    return files


def open_class_folders(folder: Path, class_names: Sequence[str]) -> FileImages:
    """A folder with one sub-folder of images a class. Raises FigmentError where the classes differ or one is empty."""
    classes = sorted(p.name for p in folder.iterdir() if p.is_dir() and not is_hidden([p.name]))
    if len(splits := {name for name in classes if name.lower() in SPLITS}) > 1 and not splits & set(class_names):
        raise FigmentError(f"{folder} holds several splits: {listed(classes)}. Name the folder of one of them.")
    if not classes and (loose := [p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES]):
        raise FigmentError(
            f"{folder} holds {len(loose):,} image{'s' * (len(loose) != 1)} and no sub-folders, so nothing says of which class each is."
            " Put them into one sub-folder a class, or name them in a .csv of paths and classes."
        )
    labels_of = match_classes(classes, class_names, folder)
    paths: list[Path] = []
    labels: list[int] = []
    for name, label in zip(classes, labels_of, strict=True):
        files = images_below(folder / name)
        paths += files
        labels += [label] * len(files)
    return FileImages(paths, np.array(labels, np.int64), ids_below(folder, paths))


def ids_below(folder: Path, paths: Sequence[Path]) -> list[str]:
    """What files are called: their paths below the folder, as text that every file can hold."""
    return [storable(str(path.relative_to(folder))) for path in paths]
