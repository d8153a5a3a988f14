"""Shards on disk: the one place that knows how a stage's rows are written, found again and told apart from stale ones.

A stage is a folder of Parquet shards in the Hugging Face layout (``train-00003-of-00016.parquet``) and a ``stage.json``
that is written last. Each shard carries the stage's fingerprint and settings in its schema metadata, so that an
interrupted stage is recognised as well as a finished one. See ``docs/format.md``.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from figment import png
from figment.errors import FigmentError
from figment.files import legible, open_parquet, read_bytes, read_json, write_atomic, write_json
from figment.types import Prompt, Sample, Verdict

FORMAT_VERSION = 3
FINGERPRINT, IDENTITY, IMAGES = b"figment.fingerprint", b"figment.identity", b"figment.images"
ROW_GROUP = 256
OPENERS = 8  # footers read at a time: waiting, mostly, where they are remote


# ---- content and its hashes ------------------------------------------------------------------------------------------


def fingerprint(value: Any) -> str:
    """A 16-digit hash of anything JSON-able, the same on every machine."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def digest(data: bytes) -> str:
    """The content hash of one image's stored bytes."""
    return hashlib.sha256(data).hexdigest()[:32]


# ---- a stage ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stage:
    """A folder of shards made from known inputs with known settings.

    ``settings`` is everything the rows depend on, under the names the recipe uses, so that a change can be named;
    ``inputs`` maps the stages and models it reads to their fingerprints.
    """

    folder: Path
    n_shards: int
    settings: Mapping[str, Any]
    inputs: Mapping[str, str]

    @property
    def fingerprint(self) -> str:
        return fingerprint({"format": FORMAT_VERSION, **self.identity()})

    def identity(self) -> dict[str, Any]:
        """Settings, inputs and number of shards as plain data: what the fingerprint is of."""
        return json.loads(
            json.dumps({"settings": self.settings, "inputs": self.inputs, "shards": self.n_shards}, default=str)
        )

    def shard(self, index: int) -> Path:
        return self.folder / f"train-{index:05d}-of-{self.n_shards:05d}.parquet"

    @property
    def marker(self) -> Path:
        return self.folder / "stage.json"

    def is_complete(self) -> bool:
        """Finished, from these inputs and settings."""
        return self.marker.is_file() and read_json(self.marker).get("fingerprint") == self.fingerprint

    def missing(self) -> list[int]:
        """Shards that still have to be made."""
        there = {path.name for path in self.folder.glob("train-*.parquet")}
        return [i for i in range(self.n_shards) if self.shard(i).name not in there]

    def check_not_stale(self) -> None:
        """Raise FigmentError, naming the fields that changed, where the folder holds shards of other settings."""
        paths = sorted(self.folder.glob("train-*.parquet"))
        with ThreadPoolExecutor(OPENERS) as pool:
            footers = list(pool.map(shard_metadata, paths))
        own = self.fingerprint
        for metadata in footers:
            if metadata.get(FINGERPRINT, b"").decode() == own:
                continue
            before = json.loads(metadata.get(IDENTITY, b"{}"))
            raise FigmentError(
                f"{self.folder} was made with other settings: {what_changed(before, self.identity())}. Old images are never mixed with new ones. "
                f"Write to another folder with --out, put the old setting back, or move {self.folder} away yourself."
            )

    def write(self, index: int, table: pa.Table) -> Written:
        """Write one shard atomically, with the stage's identity in its metadata."""
        own = {FINGERPRINT: self.fingerprint.encode(), IDENTITY: json.dumps(self.identity()).encode()}
        data = parquet(table.replace_schema_metadata({**(table.schema.metadata or {}), **own}))
        write_atomic(self.shard(index), data)
        return Written(len(table), len(data), hashlib.sha256(data).hexdigest())

    def finish(self, written: Mapping[int, Written] | None = None, **record: Any) -> None:
        """Write the marker: fingerprint, identity, the checksum of every file, and what the stage has to report.

        ``written`` are the shards whose checksums are known. A marker that is there already knows those of the others;
        what it does not know is read from the disk.
        """
        known, before = dict(written or {}), self._recorded()
        for i in set(range(self.n_shards)) - set(known):
            # One of another size was written anew, by a run that ended before it could say so. Damage that changes the
            # size of a file keeps it from being opened.
            size = self.shard(i).stat().st_size
            known[i] = before[i] if i in before and before[i].bytes == size else checksum(self.shard(i))
        files = {self.shard(i).name: asdict(known[i]) for i in range(self.n_shards)}
        write_json(
            self.marker,
            {
                "format": FORMAT_VERSION,
                "fingerprint": self.fingerprint,
                **self.identity(),
                **record,
                "files": files,
                "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            },
        )

    def _recorded(self) -> dict[int, Written]:
        """Shards as the marker has them: a file that was damaged since must not get a new checksum that hides it."""
        if not self.is_complete():
            return {}
        files = read_json(self.marker).get("files", {})
        names = {i: self.shard(i).name for i in range(self.n_shards)}
        return {i: Written(**files[name]) for i, name in names.items() if name in files}

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows of all shards, in order."""
        return pa.concat_tables(list(self.tables(columns)))

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """One shard after another: the memory of one of them, however many there are."""
        for i in range(self.n_shards):
            yield read_shard(self.shard(i), columns)


@dataclass(frozen=True)
class Written:
    """What a shard's file was when it was written: rows, bytes, and the SHA-256 of all of it."""

    rows: int
    bytes: int
    sha256: str


def checksum(path: Path) -> Written:
    """Read a shard's file for its :class:`Written`. Raises FigmentError for a damaged one."""
    with legible(path):
        return written(read_bytes(path))


def written(data: bytes) -> Written:
    """What is recorded of a shard's file. Raises what pyarrow raises for a damaged one."""
    return Written(pq.read_metadata(io.BytesIO(data)).num_rows, len(data), hashlib.sha256(data).hexdigest())


# ---- Parquet ---------------------------------------------------------------------------------------------------------


def shard_metadata(path: Path) -> dict[bytes, bytes]:
    """The key-value metadata of a shard's footer. Raises FigmentError for a damaged one."""
    with legible(path):
        return open_parquet(path).metadata.metadata or {}


def read_shard(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of a shard. Raises FigmentError for a damaged one."""
    with legible(path):
        return open_parquet(path).read(columns=columns)


def parquet(table: pa.Table) -> bytes:
    """A Parquet file. Images are stored as they are, and where each of them starts is said in the footer.

    They are compressed already; stored plainly, one of them can be read from the middle of the file with a single seek,
    by :func:`image_places`. Everything else about the file is ordinary.
    """
    table = table.replace_schema_metadata({k: v for k, v in (table.schema.metadata or {}).items() if k != IMAGES})
    sink = io.BytesIO()
    leaves = [path for field in table.schema for path in _leaves(field)]
    others = [path for path in leaves if path != "image.bytes"]
    with pq.ParquetWriter(
        sink,
        table.schema,
        compression={path: "zstd" if path in others else "none" for path in leaves},
        use_dictionary=others,
        write_statistics=others,
        write_page_checksum=True,
    ) as writer:
        writer.write_table(table, row_group_size=ROW_GROUP)
        if "image" in table.schema.names:
            images = [None if i is None else i["bytes"] for i in table["image"].to_pylist()]
            places = _find(images, sink.getvalue())
            writer.add_key_value_metadata({IMAGES: base64.b64encode(places.astype("<i8").tobytes())})
    return sink.getvalue()


def _leaves(field: pa.Field) -> list[str]:
    if pa.types.is_struct(field.type):
        return [f"{field.name}.{inner.name}" for inner in field.type]
    return [field.name]


def _find(images: Sequence[bytes | None], data: bytes) -> np.ndarray:
    """Offset and length of each image in a file that holds them in this order: ``int64 (n, 2)``; length 0 for None."""
    places = np.zeros((len(images), 2), np.int64)
    position = 0
    for row, image in enumerate(images):
        if image is not None:
            position = data.index(image, position)
            places[row] = position, len(image)
            position += len(image)
    return places


def image_places(metadata: Mapping[bytes, bytes]) -> np.ndarray | None:
    """Offset and length in the file of each row's image, ``int64 (rows, 2)``; None for files that do not say.

    A row without an image has length 0.
    """
    if IMAGES not in metadata:
        return None
    return np.frombuffer(base64.b64decode(metadata[IMAGES]), "<i8").reshape(-1, 2)


def what_changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """``generate.guidance_scale was 2.0 and is now 3.0; ...``."""
    old, new = _flat(before), _flat(now)
    changes = [
        f"{key} was {_short(old.get(key))} and is now {_short(new.get(key))}"
        for key in sorted(old | new)
        if old.get(key) != new.get(key)
    ]
    return "; ".join(changes[:5]) or "its format version"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}..."


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in value.items():
        name = key if key in ("settings", "inputs") and not prefix else f"{prefix}{key}"
        if isinstance(item, Mapping):
            flat.update(_flat(item, "" if name in ("settings", "inputs") else f"{name}."))
        else:
            flat[name] = item
    return flat


# ---- rows ------------------------------------------------------------------------------------------------------------


def with_features(schema: pa.Schema, class_names: Sequence[str]) -> pa.Schema:
    """Say in the metadata what the ``datasets`` library needs to know: which column is an image, what labels are called."""
    kinds = {"string": "string", "int64": "int64", "bool": "bool", "double": "float64"}
    features: dict[str, Any] = {f.name: {"dtype": kinds.get(str(f.type), "string"), "_type": "Value"} for f in schema}
    features["label"] = {"names": list(class_names), "_type": "ClassLabel"}
    if "image" in features:
        features["image"] = {"_type": "Image"}
    return schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})


PROMPT_COLUMNS = pa.schema(
    [
        ("text", pa.string()),
        ("label", pa.int64()),
        ("id", pa.string()),
        ("group", pa.string()),
        ("source", pa.string()),
    ]
)
IMAGE_COLUMNS = pa.schema(
    [
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("label", pa.int64()),
        ("prompt", pa.string()),
        ("id", pa.string()),
        ("prompt_id", pa.string()),
        ("seed", pa.int64()),
        ("group", pa.string()),
        ("init", pa.string()),
        ("digest", pa.string()),
        ("error", pa.string()),
    ]
)
SCORE_COLUMNS = pa.schema([("id", pa.string()), ("label", pa.int64()), ("keep", pa.bool_()), ("reason", pa.string())])


def prompt_table(prompts: Sequence[Prompt], class_names: Sequence[str]) -> pa.Table:
    rows = [{"text": p.text, "label": p.label, "id": p.id, "group": p.group, "source": p.source} for p in prompts]
    return pa.Table.from_pylist(rows, with_features(PROMPT_COLUMNS, class_names))


def read_prompts(table: pa.Table) -> list[Prompt]:
    """``source`` is empty in shards that were written before there was one."""
    return [Prompt(r["id"], r["text"], r["label"], r["group"], r.get("source") or "") for r in table.to_pylist()]


def sample_rows(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """One row for each attempt, its image as PNG; a failed one has no image and says why."""
    rows = []
    for s in samples:
        data = None if s.image is None else png.encode(s.image)
        rows.append(
            {
                "image": None if data is None else {"bytes": data, "path": f"{s.id}.png"},
                "label": s.label,
                "prompt": s.prompt,
                "id": s.id,
                "prompt_id": s.prompt_id,
                "seed": s.seed,
                "group": s.group,
                "init": s.init,
                "digest": "" if data is None else digest(data),
                "error": s.error or "",
            }
        )
    return rows


def sample_table(rows: Sequence[Mapping[str, Any]], class_names: Sequence[str]) -> pa.Table:
    """The table of a shard from the rows of :func:`sample_rows`."""
    return pa.Table.from_pylist(list(rows), with_features(IMAGE_COLUMNS, class_names))


def score_table(
    ids: Sequence[str], labels: Sequence[int], verdicts: Sequence[Verdict], class_names: Sequence[str]
) -> pa.Table:
    """A filter's verdicts, one column for each score; rows the filter never saw have no verdict row."""
    names = sorted({name for v in verdicts for name in v.scores})
    schema = pa.schema([*SCORE_COLUMNS, *((name, pa.float64()) for name in names)])
    rows = [
        {"id": i, "label": int(y), "keep": v.keep, "reason": v.reason, **{n: v.scores.get(n) for n in names}}
        for i, y, v in zip(ids, labels, verdicts, strict=True)
    ]
    return pa.Table.from_pylist(rows, with_features(schema, class_names))
