"""Features of images, computed once and kept by content; and the features of classes, from their words."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from figment import records, shards
from figment.encoders.reading import Reader
from figment.errors import FigmentError
from figment.files import explained, is_remote
from figment.images_in import Unreadable
from figment.neighbours import nearest
from figment.progress import progress
from figment.types import Encoder, Images

ROUNDING = 1e-5  # of a unit text feature's components; another word moves them by a hundred times as much
HELD_BYTES = 2**30  # of features in memory: those of 350,000 images with 768 a piece


def class_prototypes(encoder: Encoder, class_names: Sequence[str], templates: Sequence[str]) -> np.ndarray:
    """One unit text feature a class, ``float32 (N, D)``: each template encoded and normalised, their mean normalised again.

    Raises FigmentError where the encoder reads two class names alike: no classifier can be made of them.
    """
    texts = [template.replace("{}", name) for name in class_names for template in templates]
    features = encoder.texts(texts).reshape(len(class_names), len(templates), -1).mean(1)  # (N, D)
    prototypes = features / np.linalg.norm(features, axis=1, keepdims=True)
    same = _coinciding(prototypes)
    if same:
        raise FigmentError(f"The encoder {getattr(encoder, 'name', '')} {_alike(same, class_names)}")
    return prototypes


def _alike(same: Sequence[tuple[int, int]], class_names: Sequence[str]) -> str:
    if len(same) == len(class_names) and len({name.casefold() for name in class_names}) > 1:
        return (
            "reads all class names alike, so no word can tell them apart. A CLIP does so whose text tower looks for an end token"
            " (eos_token_id in its config.json) that its tokenizer does not write: fetch it again, or take another encoder."
        )
    first, second = (class_names[i] for i in same[0])
    return (
        f"reads the class names {first!r} and {second!r} alike, so words cannot tell them apart. Give them names that differ in more"
        " than case, and within the first words that it reads."
    )


def _coinciding(prototypes: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of a class and the nearest other one, where their prototypes are the same up to rounding."""
    pairs = enumerate(nearest(prototypes, prototypes, (np.arange(len(prototypes)),) * 2)[1])
    return [(i, int(j)) for i, j in pairs if j >= 0 and np.abs(prototypes[i] - prototypes[j]).max() <= ROUNDING]


class Features:
    """An encoder that remembers: each image is encoded once, by the hash of its bytes.

    With a ``folder`` the features also survive the process, in ``<folder>/<name>-<fingerprint>/*.parquet``. Another
    encoder, other weights, other preprocessing, half precision or features that are not of unit length is another folder, so
    stale features cannot be met.
    Of what lies there, ``HELD_BYTES`` stay in memory; the rest is read again, a file at a time, when it is asked for.
    """

    def __init__(self, encoder: Encoder, folder: Path | None = None, chunk: int = 1024):
        self.encoder, self.chunk = encoder, chunk
        dtype = str(getattr(encoder, "dtype", "float32")).removeprefix("torch.")
        own = [_slug(getattr(encoder, "name", "encoder")), encoder.fingerprint[:12]]
        own += [*([] if dtype == "float32" else [dtype]), *([] if getattr(encoder, "unit", True) else ["raw"])]
        self.folder = None if folder is None else folder / "-".join(own)
        self._parts: list[Path | np.ndarray] = [  # features (n, D), or the file that holds them
            path
            for path in (sorted(self.folder.glob("*.parquet")) if self.folder else [])
            if records.IS_FINGERPRINT.fullmatch(path.stem)
            and path.with_suffix(".json").is_file()  # else its writer was stopped, and it is written again
        ]
        self._digests = [shards.read_shard(path, ["digest"])["digest"].combine_chunks() for path in self._parts]  # type: ignore[arg-type]
        self._rows: dict[str, int] = {}  # of what was asked for: digest -> row, counted through all parts

    @property
    def held_bytes(self) -> int:
        """Of features in memory, those not counted that were handed out."""
        return sum(part.nbytes for part in self._parts if isinstance(part, np.ndarray))

    def __call__(self, images: Images, description: str = "encode") -> np.ndarray:
        """``float32 (N, D)``, in the order of ``images``; of more than ``HELD_BYTES`` as a memory map, of a file without a name beside
        the features. Raises :class:`figment.images_in.Unreadable` where one cannot be read."""
        for error in self._encode(images, description).values():
            raise error
        if not len(images):
            return np.zeros((0, 1), np.float32)
        rows = np.array([self._rows[d] for d in images.digests])  # (N,)
        starts = np.array(list(accumulate(map(len, self._digests), initial=0)))
        part = np.searchsorted(starts, rows, "right") - 1  # (N,)
        order = np.argsort(part, kind="stable")
        found = self._room(len(rows), self._values(part[0]).shape[1])
        for own in np.split(order, np.flatnonzero(np.diff(part[order])) + 1):
            found[own] = self._values(part[own[0]])[rows[own] - starts[part[own[0]]]]
        return found

    def readable(self, images: Images, description: str = "encode") -> tuple[Images, dict[str, str]]:
        """The images that can be read, which are encoded then, and of the others id -> reason."""
        failed = self._encode(images, description)
        if not failed:
            return images, {}
        good = [i for i in range(len(images)) if i not in failed]
        return images.take(good), {images.ids[i]: error.reason for i, error in failed.items()}

    def _encode(self, images: Images, description: str) -> dict[int, Unreadable]:
        """Encode those that are not known yet, each decoded once. Returns position -> error of those that cannot be read."""
        digests = images.digests
        self._recall({d for d in digests if d not in self._rows})
        new = [i for i, d in enumerate(digests) if d not in self._rows]
        if not new:
            return {}
        reader = Reader(images, new, self.chunk, self._prepare if hasattr(self.encoder, "image_tower") else None)
        with progress(description, len(new)) as advance:
            for index, arrays in reader:
                self._add([digests[i] for i in index], self._features(arrays))
                advance(len(index))
        return reader.failed

    def _prepare(self, image: np.ndarray) -> np.ndarray:
        """One image as the tower takes it, ``float32 (3, S, S)``."""
        return self.encoder.pixels([image])[0].numpy()  # type: ignore[attr-defined]

    def _features(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """``float32 (B, D)`` of decoded images, or of prepared ones."""
        if arrays[0].dtype == np.uint8:
            return self.encoder.images(arrays)
        from figment.encoders.towers import prepared_features

        return prepared_features(self.encoder, arrays)  # type: ignore[arg-type]

    def _recall(self, wanted: set[str]) -> None:
        """Find these images among those of the folder: it may hold millions, of several tasks."""
        asked = pa.array(sorted(wanted), pa.string())
        found = pc.index_in(asked, value_set=pa.chunked_array(self._digests, pa.string())) if wanted else pa.nulls(0)
        known = found.is_valid()
        self._rows.update(zip(asked.filter(known).to_pylist(), found.filter(known).to_pylist(), strict=True))

    def _add(self, digests: list[str], features: np.ndarray) -> None:
        features = np.asarray(features, np.float32)
        first = sum(map(len, self._digests))
        self._rows.update(zip(digests, range(first, first + len(digests)), strict=True))
        self._digests.append(pa.array(digests, pa.string()))
        self._parts.append(features if self.folder is None else self._write(digests, features))
        self._hold(len(self._parts) - 1, features)

    def _write(self, digests: list[str], features: np.ndarray) -> Path:
        assert self.folder is not None
        values = pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), features.shape[1])
        sink = pa.BufferOutputStream()
        table = pa.table({"digest": digests, "feature": values})
        pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
        path = self.folder / f"{records.fingerprint(digests)}.parquet"
        records.write_beside(path, sink.getvalue().to_pybytes(), len(table))
        return path

    def _values(self, k: int) -> np.ndarray:
        """The features of a part, ``float32 (n, D)``."""
        part = self._parts[k]
        if isinstance(part, np.ndarray):
            return part
        column = shards.read_shard(part, ["feature"])["feature"].combine_chunks()
        values = column.flatten().to_numpy().reshape(len(column), -1)
        self._hold(k, values)
        return values

    def _hold(self, k: int, values: np.ndarray) -> None:
        """Keep the features of a part in memory, while there is room."""
        if not isinstance(self._parts[k], np.ndarray) and self.held_bytes + values.nbytes <= HELD_BYTES:
            self._parts[k] = values

    def _room(self, n: int, width: int) -> np.ndarray:
        """``float32 (n, width)`` to be filled."""
        size = n * width * np.dtype(np.float32).itemsize
        if size <= HELD_BYTES:
            return np.empty((n, width), np.float32)
        here = Path(tempfile.gettempdir()) if self.folder is None or is_remote(self.folder) else self.folder
        # Without a name: whenever this process ends, and however, it is gone.
        with explained(here / "features"), tempfile.TemporaryFile(dir=here) as file:
            os.posix_fallocate(file.fileno(), 0, size)  # a full disk says so here, and not by a signal later
            return np.memmap(file, np.float32, "r+", shape=(n, width))


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name.lower()).strip("-")[-60:] or "encoder"
