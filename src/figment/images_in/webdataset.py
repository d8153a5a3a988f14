"""Images in WebDataset tars: files that share a name up to its first dot are one sample."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np

from figment.errors import FigmentError
from figment.files import is_remote, read_range
from figment.guard import MOST, check, check_size, parse_json
from figment.images_in.folder import SUFFIXES, is_hidden
from figment.images_in.labels import labels_of, listed
from figment.images_in.rows import RowImages
from figment.images_in.unreadable import Unreadable
from figment.words import printable, storable

LABEL_FIELDS = ("class_name", "class")  # of a sample's .json: names, which are right in any order of the classes


@dataclass(frozen=True)
class TarRows:
    """Where each image lies: one read without looking at the rest of its tar."""

    tars: Sequence[Path]
    keys: Sequence[str]
    places: np.ndarray  # int64 (rows, 3): tar, offset, length
    texts: np.ndarray  # the same of each sample's .txt; of length 0 where it has none

    def read(self, row: int) -> bytes:
        return self._read(row, self.places)

    def _read(self, row: int, places: np.ndarray) -> bytes:
        tar, start, length = (int(x) for x in places[row])
        if length > MOST["image"]:
            raise Unreadable(self.where(row), f"more than {MOST['image']:,} bytes")
        try:
            if is_remote(self.tars[tar]):
                return read_range(self.tars[tar], start, length)
            check(self.tars[tar])
            with open(self.tars[tar], "rb") as file:
                file.seek(start)
                return file.read(length)
        except OSError as error:
            raise Unreadable(self.where(row), error.strerror or str(error)) from error

    def where(self, row: int) -> str:
        return f"{self.tars[int(self.places[row, 0])]}, sample {self.keys[row]},"

    def column(self, name: str) -> list[str] | None:
        """``txt``: what each sample's ``.txt`` says, where any has one."""
        if name != "txt" or not self.texts[:, 2].any():
            return None
        lengths = self.texts[:, 2].tolist()
        return [self._read(row, self.texts).decode("utf-8", "replace") if n else "" for row, n in enumerate(lengths)]


def open_tars(tars: Sequence[Path], class_names: Sequence[str]) -> RowImages:
    """The images of WebDataset tars, one a sample: of several the one without a prefix, ``png`` before ``mask.png``.

    The class of a sample is ``class_name`` or ``class`` in its ``.json``, else its ``.cls``, else ``label`` in its ``.json``: a
    name of the task or its number, from 0. Raises FigmentError where a tar is damaged, a sample has no class or another
    one than the task's or several images that might be meant, and where there are no images.
    """
    keys: list[str] = []
    values: list[object] = []
    places: list[tuple[int, int, int]] = []
    texts: list[tuple[int, int, int]] = []
    for i, tar in enumerate(tars):
        for key, place, text, value in _read_index(tar):
            keys.append(key)
            values.append(value)
            places.append((i, *place))
            texts.append((i, *text))
    if not keys:
        raise FigmentError(
            f"{_named(tars)} holds no images. A sample's image is a file such as 000000000.png, beside 000000000.cls."
        )
    labels = labels_of(values, class_names, _named(tars))
    rows = TarRows(list(tars), keys, np.array(places, np.int64), np.array(texts, np.int64))
    ids = [f"{tars[place[0]].stem}/{key}" for key, place in zip(keys, places, strict=True)]
    return RowImages(rows, np.arange(len(keys)), labels, ids)


def _named(tars: Sequence[Path]) -> Path:
    return tars[0] if len(tars) == 1 else tars[0].parent


def _read_index(path: Path) -> list[tuple[str, tuple[int, int], tuple[int, int], object]]:
    """Key, places of image and text, and class of each sample with an image, from the headers and the small files of one tar."""
    found = []
    for sample in samples_of(path):
        image = _image_of(path, sample.key, [field for field in sample.fields if _is_image(field)])
        if image:
            text = sample.fields.get("txt", (0, 0))
            found.append((storable(sample.key), sample.fields[image], text, _class_of(sample)))
    return found


@dataclass(frozen=True)
class TarSample:
    """One sample of a tar that is open: what its files are called after the first dot, and where each lies: offset, length."""

    path: Path
    file: BinaryIO
    key: str
    fields: Mapping[str, tuple[int, int]]

    def read(self, field: str) -> bytes:
        """One of its small files. Raises FigmentError for a large one."""
        start, length = self.fields[field]
        check_size(length, f"{self.path}: {self.key}.{field}", "sample of a tar")
        self.file.seek(start)
        return self.file.read(length)

    def record(self) -> dict[str, Any]:
        """Its ``.json``; empty where it has none. Raises FigmentError for what is no JSON."""
        if "json" not in self.fields:
            return {}
        try:
            record = parse_json(self.read("json"), f"{self.path}: {self.key}.json", "sample of a tar")
        except ValueError as error:
            raise FigmentError(f"{self.path}: {self.key}.json is not JSON ({error}).") from error
        return record if isinstance(record, dict) else {}


def samples_of(path: Path) -> Iterator[TarSample]:
    """The samples of one tar in their order. Of the files only the headers are read. Raises FigmentError for a damaged tar."""
    samples: dict[str, dict[str, tuple[int, int]]] = {}
    try:
        if not is_remote(path):
            check(path)
        with path.open("rb") as file:
            for name, place in _members(path, file):
                folder, slash, base = name.rpartition("/")
                stem, _, extension = base.partition(".")
                fields = samples.setdefault(folder + slash + stem, {})
                if extension.lower() in fields:
                    raise FigmentError(f"{path} holds {name} twice. Each sample must have a name of its own.")
                fields[extension.lower()] = place
            for key, fields in samples.items():
                yield TarSample(path, file, key, fields)
    except (OSError, tarfile.TarError) as error:
        raise _damaged(path, error) from error


def _image_of(path: Path, key: str, images: Sequence[str]) -> str:
    """The field of a sample that is its image, empty where it has none. Raises FigmentError where it could be several."""
    plain = [field for field in images if "." not in field] or images
    if len(plain) > 1:
        raise FigmentError(
            f"{path}: the sample {printable(key)} has several images, and which is meant is not known: {listed(plain)}. Leave one, or"
            f" call it {printable(key)}.{plain[0].rpartition('.')[2]} and give the others a prefix: what stands before the first dot"
            " of a name is the sample."
        )
    return plain[0] if plain else ""


def _members(path: Path, file: BinaryIO) -> list[tuple[str, tuple[int, int]]]:
    """Name and place of every ordinary file. Raises FigmentError where the end of the tar is missing, or an image's bytes are not in
    one piece in it."""
    with tarfile.open(fileobj=file, mode="r:") as tar:
        members = [m for m in tar if not is_hidden(PurePosixPath(m.name).parts)]
        file.seek(tar.offset)  # where the last member ends
    if file.read(512) != bytes(512):  # a tar ends in zeros; Python takes a missing end for the end
        raise _damaged(path, "its end is missing")
    for m in members:
        odd = "a sparse file" if m.issparse() else "a link" if m.islnk() or m.issym() else ""
        if odd and PurePosixPath(m.name).suffix.lower() in SUFFIXES:
            raise FigmentError(
                f"{path}: {printable(m.name)} is {odd}, which cannot be read in place. Write the tar again without --sparse and with"
                " --dereference --hard-dereference."
            )
    return [(m.name, (m.offset_data, m.size)) for m in members if m.isfile()]


def _is_image(extension: str) -> bool:
    return "." + extension.rpartition(".")[2] in SUFFIXES


def _damaged(path: Path, reason: object) -> FigmentError:
    return FigmentError(
        f"{path} is not a whole, uncompressed tar ({reason}). Copy it again, or unpack it from .gz first."
    )


def _class_of(sample: TarSample) -> object:
    record, key = sample.record(), sample.key
    for name in LABEL_FIELDS:
        if name in record:
            return record[name]
    if "cls" in sample.fields:
        return sample.read("cls").decode("utf-8", "replace").strip()
    if "label" in record:
        return record["label"]
    raise FigmentError(
        f"{sample.path}: the sample {key} has no class. Put it into {key}.cls, or as class_name into {key}.json."
    )
