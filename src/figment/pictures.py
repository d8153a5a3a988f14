"""Labelled pictures from where they lie: a folder of our own shards, any Parquet data set, or class folders of files.

Each is a :class:`figment.types.Pictures`: labels and content hashes at once, pixels only when asked for.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageOps

from figment.errors import FigmentError, nearest
from figment.store import digest
from figment.types import Indices, Pictures

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")


def decode(data: bytes, where: str) -> np.ndarray:
    """Any image file to ``uint8 (H, W, 3)`` RGB: upright by its EXIF, transparency on white, the first frame of several.

    Raises FigmentError, naming ``where``, for what is not a readable image.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
            if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA"):
                rgba = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
            elif image.mode.startswith("I"):  # 16-bit grey: PIL would clip it to white
                image = Image.fromarray((np.asarray(image, np.float64) / 257).clip(0, 255).astype(np.uint8))
            return np.array(image.convert("RGB"))  # a copy: torch wants arrays it may write to
    except Exception as error:  # PIL raises a different type for every way a file can be broken
        raise FigmentError(
            f"{where} is not an image that can be read ({type(error).__name__}: {error}). Mend it or take it out."
        ) from error


@dataclass(frozen=True)
class FilePictures:
    """Image files in one folder a class, as torchvision's ImageFolder has them."""

    paths: list[Path]
    labels: np.ndarray
    ids: list[str]
    _digests: list[str] = field(default_factory=list, repr=False)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def digests(self) -> list[str]:
        if not self._digests:
            self._digests.extend(digest(p.read_bytes()) for p in self.paths)
        return self._digests

    def load(self, indices: Indices) -> list[np.ndarray]:
        return [decode(self.paths[i].read_bytes(), str(self.paths[i])) for i in indices]

    def take(self, indices: Indices) -> FilePictures:
        known = [self._digests[i] for i in indices] if self._digests else []
        return FilePictures(
            [self.paths[i] for i in indices], self.labels[list(indices)], [self.ids[i] for i in indices], known
        )


@lru_cache(maxsize=4)
def _images_of(path: Path, size: int, modified: int) -> pa.ChunkedArray:
    return pq.read_table(path, columns=["image"])["image"].combine_chunks()


@dataclass(frozen=True)
class ShardPictures:
    """Rows of Parquet shards with an ``image{bytes, path}`` and a ``label`` column; rows without an image are left out."""

    files: list[Path]
    labels: np.ndarray
    ids: list[str]
    digests: list[str]
    places: np.ndarray  # int64 (N, 2): shard, row in it
    prompts: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    def png(self, index: int) -> bytes:
        """The stored bytes of one picture, undecoded."""
        shard, row = self.places[index]
        path = self.files[shard]
        stat = path.stat()
        return _images_of(path, stat.st_size, stat.st_mtime_ns)[int(row)]["bytes"].as_py()

    def load(self, indices: Indices) -> list[np.ndarray]:
        return [decode(self.png(i), self.ids[i]) for i in indices]

    def take(self, indices: Indices) -> ShardPictures:
        index = np.asarray(indices, np.int64)
        prompts = [self.prompts[i] for i in index] if self.prompts else []
        return replace(
            self,
            labels=self.labels[index],
            ids=[self.ids[i] for i in index],
            digests=[self.digests[i] for i in index],
            places=self.places[index],
            prompts=prompts,
        )


def open_shards(folder: Path) -> tuple[ShardPictures, list[str]]:
    """The pictures of a folder of Parquet shards, and its class names (empty if the files do not say)."""
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise FigmentError(
            f"{folder} holds no Parquet shards. Name a folder with one sub-folder of pictures a class, or a Parquet data set."
        )
    ids, labels, digests, prompts, places = [], [], [], [], []
    for number, path in enumerate(files):
        schema = _schema(path)
        wanted = [c for c in ("label", "id", "digest", "prompt") if c in schema.names]
        table = pq.read_table(path, columns=wanted)
        known = table["digest"].to_pylist() if "digest" in wanted else _hash_rows(path)
        rows = [i for i, d in enumerate(known) if d]
        own_ids = table["id"].to_pylist() if "id" in wanted else [f"{path.stem}/{i}" for i in range(len(known))]
        texts = table["prompt"].to_pylist() if "prompt" in wanted else []
        label = np.array([-1 if y is None else y for y in table["label"].to_pylist()], np.int64)
        ids += [own_ids[i] for i in rows]
        digests += [known[i] for i in rows]
        prompts += [texts[i] for i in rows] if texts else []
        labels.append(label[rows])
        places += [(number, i) for i in rows]
    names = _class_names(pq.read_schema(files[0]))
    where = np.array(places, np.int64).reshape(-1, 2)
    return ShardPictures(files, np.concatenate(labels), ids, digests, where, prompts), names


def _schema(path: Path) -> pa.Schema:
    """The columns of a shard. Raises FigmentError where they are not those of labelled pictures."""
    try:
        schema = pq.read_schema(path)
    except (OSError, pa.ArrowException) as error:
        raise FigmentError(f"{path} is not a Parquet file that can be read ({error}). Copy it again.") from error
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
    return schema


def _hash_rows(path: Path) -> list[str]:
    images = pq.read_table(path, columns=["image"])["image"].to_pylist()
    return ["" if i is None or i["bytes"] is None else digest(i["bytes"]) for i in images]


def _class_names(schema: pa.Schema) -> list[str]:
    info = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    return info.get("info", {}).get("features", {}).get("label", {}).get("names", [])


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
    return replace(shards, labels=np.array(_match_classes(names, class_names, folder), np.int64)[shards.labels])
