"""Images as people keep them: a file each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from figment.errors import FigmentError
from figment.files import is_remote
from figment.images_in.decode import decode
from figment.images_in.labels import match_classes
from figment.images_in.rows import digests_of
from figment.images_in.unreadable import Unreadable
from figment.types import Indices

#: Names of images. The last few cannot be read here, which is better said than passed over.
SUFFIXES: tuple[str, ...]
SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
SUFFIXES += (".pnm", ".jp2", ".avif", ".heic", ".heif", ".jxl", ".svg")


@dataclass(frozen=True)
class FileImages:
    """Image files with a label each, such as torchvision's ImageFolder has them."""

    paths: list[Path]
    labels: np.ndarray
    ids: list[str]
    _digests: list[str] = field(default_factory=list, repr=False)
    table: Sequence[Mapping[str, Any]] = ()  # a row for each, where a table names them

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def digests(self) -> list[str]:
        if not self._digests:
            self._digests.extend(digests_of(self.data, len(self)))
        return self._digests

    def data(self, index: int) -> bytes:
        """The stored bytes of one image, undecoded. Raises :class:`figment.images_in.Unreadable`."""
        path = self.paths[index]
        try:
            if not is_remote(path):
                _check_regular(path)
            return path.read_bytes()
        except OSError as error:
            raise Unreadable(str(path), (error.strerror or str(error)).lower()) from error

    def load(self, indices: Indices) -> list[np.ndarray]:
        return [decode(self.data(i), str(self.paths[i])) for i in indices]

    def take(self, indices: Indices) -> FileImages:
        known = [self._digests[i] for i in indices] if self._digests else []
        rows = [self.table[i] for i in indices] if self.table else ()
        return FileImages(
            [self.paths[i] for i in indices], self.labels[list(indices)], [self.ids[i] for i in indices], known, rows
        )

    def column(self, name: str) -> list[Any] | None:
        """A column of the table that names the images; None where there is no such table or column."""
        for known in (name, name.strip().lower()):  # a CSV's headings are read in small letters
            if any(known in row for row in self.table):
                return [row.get(known) for row in self.table]
        return None


def _check_regular(path: Path) -> None:
    """Raise :class:`figment.images_in.Unreadable` for what is there and no file: reading a named pipe would wait for ever."""
    if path.is_symlink() and not path.exists():
        raise Unreadable(str(path), "a link that leads nowhere")
    if path.exists() and not path.is_file():
        raise Unreadable(str(path), "not a regular file")


def images_below(folder: Path) -> list[Path]:
    """All image files of a folder, at any depth, sorted. Raises FigmentError where there is none."""
    files = sorted(p for p in folder.rglob("[!.]*") if p.suffix.lower() in SUFFIXES and not p.is_dir())
    if not files:
        raise FigmentError(f"{folder} holds no images. Allowed file names end in {', '.join(SUFFIXES)}.")
    return files


def open_class_folders(folder: Path, class_names: Sequence[str]) -> FileImages:
    """A folder with one sub-folder of images a class. Raises FigmentError where the classes differ or one is empty."""
    classes = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    labels_of = match_classes(classes, class_names, folder)
    paths: list[Path] = []
    labels: list[int] = []
    for name, label in zip(classes, labels_of, strict=True):
        files = images_below(folder / name)
        paths += files
        labels += [label] * len(files)
    return FileImages(paths, np.array(labels, np.int64), [str(p.relative_to(folder)) for p in paths])
