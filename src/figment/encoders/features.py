"""Features of images, computed once and kept by content; and the features of classes, from their words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from figment import records, shards
from figment.encoders.reading import Reader
from figment.errors import FigmentError
from figment.images_in import Unreadable
from figment.neighbours import nearest
from figment.progress import progress
from figment.types import Encoder, Images

ROUNDING = 1e-5  # of a unit text feature's components; another word moves them by a hundred times as much


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
    encoder, other weights, other preprocessing or half precision is another folder, so stale features cannot be met.
    """

    def __init__(self, encoder: Encoder, folder: Path | None = None, chunk: int = 1024):
        self.encoder, self.chunk = encoder, chunk
        dtype = str(getattr(encoder, "dtype", "float32")).removeprefix("torch.")
        own = [_slug(getattr(encoder, "name", "encoder")), encoder.fingerprint[:12], dtype]
        self.folder = None if folder is None else folder / "-".join(own[: 2 if dtype == "float32" else 3])
        self._known: dict[str, np.ndarray] = {}
        self._stored: dict[Path, pa.ChunkedArray] = {  # file -> whose features it holds
            path: shards.read_shard(path, ["digest"])["digest"]
            for path in (sorted(self.folder.glob("*.parquet")) if self.folder else [])
            if records.IS_FINGERPRINT.fullmatch(path.stem)
            and path.with_suffix(".json").is_file()  # else its writer was stopped, and it is written again
        }

    def __call__(self, images: Images, description: str = "encode") -> np.ndarray:
        """``float32 (N, D)``, in the order of ``images``. Raises :class:`figment.images_in.Unreadable` where one cannot be read."""
        for error in self._encode(images, description).values():
            raise error
        if not len(images):
            return np.zeros((0, 1), np.float32)
        return np.stack([self._known[d] for d in images.digests])

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
        self._recall({d for d in digests if d not in self._known})
        new = [i for i, d in enumerate(digests) if d not in self._known]
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
        """Read what the folder has of these images, and of no others: it may hold millions, of several tasks."""
        asked = pa.array(sorted(wanted), pa.string())
        for path, stored in self._stored.items() if wanted else []:
            own = pc.is_in(stored, value_set=asked)
            if pc.any(own).as_py():
                self._remember(shards.read_shard(path).filter(own))

    def _add(self, digests: list[str], features: np.ndarray) -> None:
        values = pa.FixedSizeListArray.from_arrays(pa.array(features.ravel(), pa.float32()), features.shape[1])
        table = pa.table({"digest": digests, "feature": values})
        self._remember(table)
        if self.folder is not None:
            sink = pa.BufferOutputStream()
            pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
            path = self.folder / f"{records.fingerprint(digests)}.parquet"
            records.write_beside(path, sink.getvalue().to_pybytes(), len(table))

    def _remember(self, table: pa.Table) -> None:
        column = table["feature"].combine_chunks()
        values = column.flatten().to_numpy().reshape(len(table), -1)
        self._known.update(zip(table["digest"].to_pylist(), values, strict=True))


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name.lower()).strip("-")[-60:] or "encoder"
