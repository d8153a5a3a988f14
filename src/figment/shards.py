"""Parquet shards on disk: the one place that knows how rows are written, found again and told apart from stale ones.

A data set of images is a folder of shards in the Hugging Face layout with a sidecar each, and a record that is written
last. Each shard carries the identity of its set in its schema metadata, so that an interrupted one is recognised as well
as a finished one. See ``docs/format.md``.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from figment import layout, records
from figment.errors import FigmentError
from figment.files import is_remote, legible, open_parquet, read_bytes, remove, write_atomic
from figment.guard import parse_json
from figment.records import Record, Written
from figment.saving import PNG, Saving, suffix
from figment.types import Prompt, Sample, Verdict

FINGERPRINT, IDENTITY, IMAGES = b"figment.fingerprint", b"figment.identity", b"figment.images"
ROW_GROUP = 256
ROWS = "train.parquet"  # the one file of a stage whose rows are few


# ---- a folder of shards ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sidecar:
    """What vouches for one shard: its file, and how many of its rows failed, by reason."""

    written: Written
    failed: Mapping[str, int]
    fingerprint: str

    @property
    def rows(self) -> int:
        return self.written.rows or 0

    def dumped(self) -> bytes:
        """As it lies on disk."""
        own = {"fingerprint": self.fingerprint, **self.written.plain(), "failed": dict(sorted(self.failed.items()))}
        return (json.dumps(own, ensure_ascii=False) + "\n").encode(errors="backslashreplace")


@dataclass(frozen=True)
class Listing:
    """What the names alone tell of a folder of shards."""

    shards: frozenset[int]  # with a Parquet file
    vouched: frozenset[int]  # with a sidecar
    partial: frozenset[int]  # whose sidecar says that there is more to do


@dataclass(frozen=True)
class ShardFolder:
    """A set of images that can grow: shards of ``shard_size`` rows, made from what ``record`` says.

    A shard is written whole, then its sidecar; one without a sidecar was written by somebody who was stopped just then, and
    is looked at before it counts.
    """

    record: Record
    shard_size: int
    saving: Saving = PNG  # of the images that are written to it

    @property
    def folder(self) -> Path:
        return self.record.folder

    @property
    def fingerprint(self) -> str:
        return self.record.fingerprint

    def shard(self, index: int) -> Path:
        return layout.shard_path(self.folder, index)

    def sidecar(self, index: int, partial: bool = False) -> Path:
        return layout.sidecar_path(self.folder, index, partial)

    def write(self, index: int, table: pa.Table) -> Sidecar:
        """One shard, atomically, with the identity of the set in its metadata."""
        for partial in (False, True):
            remove(self.sidecar(index, partial))
        data = parquet(with_identity(table, self.record))
        write_atomic(self.shard(index), data)
        return self.vouch(index, Written.of(data, len(table)), failures(table))

    def vouch(self, index: int, written: Written, failed: Mapping[str, int]) -> Sidecar:
        """Write the sidecar of a shard that is there."""
        own = Sidecar(written, dict(failed), self.fingerprint)
        partial = bool(failed) or own.rows < self.shard_size
        remove(self.sidecar(index, not partial))
        write_atomic(self.sidecar(index, partial), own.dumped())
        return own

    def adopt(self, index: int) -> Sidecar | None:
        """Vouch for a shard whose writer was stopped before it could; None where it is not whole, or of another set."""
        try:
            data = read_bytes(self.shard(index))
            file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
            table = file.read()
            if (file.metadata.metadata or {}).get(FINGERPRINT, b"").decode() != self.fingerprint:
                return None
            return self.vouch(index, Written.of(data, len(table)), failures(table))
        except FigmentError:
            raise
        except Exception:  # damage can make pyarrow fail in any way
            return None

    def read_sidecar(self, index: int) -> Sidecar | None:
        """None where there is none, or a damaged one."""
        for partial in (False, True):
            try:
                # Its size is not asked for first where that is a request of its own: a run may have a million.
                raw = read_bytes(self.sidecar(index, partial), None if is_remote(self.folder) else "record")
                told = parse_json(raw, self.sidecar(index, partial), "record")
                own = Sidecar(Written(told["bytes"], told["sha256"], told["rows"]), told["failed"], told["fingerprint"])
                return own if own.dumped() == raw else None
            except FileNotFoundError:
                continue
            except Exception:  # damage, or an object store's own errors
                return None
        return None

    def listing(self) -> Listing:
        """Lists, and opens nothing."""
        shards, vouched, partial = set(), set(), set()
        for below, name in layout.names_of_shards(self.folder):
            if shard := layout.named_in(below, name, layout.SHARD):
                shards.add(int(shard[1]))
            elif sidecar := layout.named_in(below, name, layout.SIDECAR):
                vouched.add(int(sidecar[1]))
                if sidecar[2]:
                    partial.add(int(sidecar[1]))
        return Listing(frozenset(shards), frozenset(vouched), frozenset(partial))

    def is_finished(self, there: Listing) -> bool:
        """Whether the record is right, as far as it and the names tell: whoever writes a shard takes it away first."""
        told = records.read(self.folder).data.get("shards")
        return self.record.is_finished() and isinstance(told, dict) and told["count"] == len(there.shards)

    def check_not_stale(self) -> None:
        """Raise FigmentError, naming the fields that changed, where the folder holds shards of other settings.

        Looks at the record, or else into one shard: a folder is never of two sets, unless by hand, and then verify says so.
        """
        self.record.check_not_of_old()
        found = records.read(self.folder)
        before = found.data if found.state == "finished" else self._identity_on_disk()
        if before and before.get("fingerprint") != self.fingerprint:
            changes = records.what_changed(_identity(before), self.record.identity())
            raise FigmentError(
                f"{self.folder} was made with other settings: {changes}. Old images are never mixed with new ones. "
                f"Write to another folder with --out, put the old setting back, or move {self.folder} away yourself."
            )

    def _identity_on_disk(self) -> dict[str, Any] | None:
        path = layout.first_shard(self.folder)
        metadata = {} if path is None else shard_metadata(path)
        if path is None or FINGERPRINT not in metadata:
            return None
        own = parse_json(metadata.get(IDENTITY, b"{}"), path, "Parquet footer")
        return {**own, "fingerprint": metadata[FINGERPRINT].decode()}

    def finish(self, sidecars: Sequence[Sidecar], files: Mapping[str, Written], **facts: Any) -> None:
        """Write the record. A million shards are not named in it: it has the checksum of all their sidecars, in order."""
        self.record.finish(files, shards=shards_told(sidecars), **facts)


def shards_told(sidecars: Iterable[Sidecar]) -> dict[str, Any]:
    """What a record says of its shards."""
    own = list(sidecars)
    known = hashlib.sha256()
    for sidecar in own:
        known.update(sidecar.dumped())
    return {"count": len(own), "rows": sum(s.rows for s in own), "sidecars_sha256": known.hexdigest()}


def _identity(told: Mapping[str, Any]) -> dict[str, Any]:
    return {key: told[key] for key in ("kind", "settings", "inputs") if key in told}


def failures(table: pa.Table) -> dict[str, int]:
    """Reason -> how many rows of a shard failed for it."""
    return dict(Counter(e for e in table["error"].to_pylist() if e)) if "error" in table.column_names else {}


def with_identity(table: pa.Table, record: Record) -> pa.Table:
    """The table with the identity of what it belongs to in its metadata."""
    own = {FINGERPRINT: record.fingerprint.encode(), IDENTITY: json.dumps(record.identity()).encode()}
    return table.replace_schema_metadata({**(table.schema.metadata or {}), **own})


def write_rows(record: Record, table: pa.Table) -> dict[str, Written]:
    """The one file of a stage whose rows are few, for its record."""
    return {ROWS: record.write(ROWS, parquet(with_identity(table, record)), len(table))}


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
#: Before the kind, in the names of the columns for what an image was asked to show. They come last, and only where a writer says so.
ATTRIBUTE = "attribute_"
ATTRIBUTES = ATTRIBUTE, pa.string()
SCORE_COLUMNS = pa.schema([("id", pa.string()), ("label", pa.int64()), ("keep", pa.bool_()), ("reason", pa.string())])


def prompt_table(prompts: Sequence[Prompt], class_names: Sequence[str]) -> pa.Table:
    columns = [pa.array([getattr(p, f.name) for p in prompts], f.type) for f in PROMPT_COLUMNS]
    own = [dict(p.attributes) for p in prompts]
    kinds = list(dict.fromkeys(kind for one in own for kind in one))
    columns += [pa.array([one.get(kind, "") for one in own], pa.string()) for kind in kinds]
    schema = _with_attributes(PROMPT_COLUMNS, [f"{ATTRIBUTE}{kind}" for kind in kinds])
    return pa.Table.from_arrays(columns, schema=with_features(schema, class_names))


def _with_attributes(schema: pa.Schema, names: Iterable[str]) -> pa.Schema:
    return pa.schema([*schema, *((name, pa.string()) for name in names)])


def attributes_in(table: pa.Table) -> list[tuple[tuple[str, str], ...]]:
    """The attributes of each row, as a prompt has them; none in tables without such columns."""
    names = [name for name in table.column_names if name.startswith(ATTRIBUTE)]
    if not names:
        return [()] * len(table)
    kinds = [name.removeprefix(ATTRIBUTE) for name in names]
    rows = zip(*(table[name].to_pylist() for name in names), strict=True)
    return [tuple((kind, word or "") for kind, word in zip(kinds, row, strict=True)) for row in rows]


def read_prompts(table: pa.Table) -> list[Prompt]:
    """``source`` is empty in shards that were written before there was one."""
    columns = [table[name].to_pylist() for name in ("id", "text", "label", "group")]
    sources = table["source"].to_pylist() if "source" in table.column_names else [""] * len(table)
    once: dict[str, str] = {}  # many prompts have the same source, and most are a group of their own
    return [
        Prompt(id, text, label, id if group == id else group, once.setdefault(source or "", source or ""), attributes)
        for id, text, label, group, source, attributes in zip(*columns, sources, attributes_in(table), strict=True)
    ]


def prompts_in(folder: Path) -> list[Prompt]:
    """The prompts of a folder, of this version or an old one. Raises FigmentError where they cannot be read."""
    paths = sorted(folder.glob("*.parquet"))
    if not paths:
        raise FigmentError(f"{folder} holds no prompts. Run the recipe that writes them: figment run.")
    return [prompt for path in paths for prompt in read_prompts(read_shard(path))]


def sample_row(sample: Sample, saving: Saving = PNG) -> dict[str, Any]:
    """The row of an attempt, its image as a file, by default PNG; a failed one has no image and says why."""
    data = None if sample.image is None else saving.encode(sample.image)
    return {
        "image": None if data is None else {"bytes": data, "path": f"{sample.id}{suffix(data)}"},
        "label": sample.label,
        "prompt": sample.prompt,
        "id": sample.id,
        "prompt_id": sample.prompt_id,
        "seed": sample.seed,
        "group": sample.group,
        "init": sample.init,
        "digest": "" if data is None else records.digest(data),
        "error": sample.error or "",
        **{f"{ATTRIBUTE}{kind}": word for kind, word in sample.attributes},
    }


def sample_table(rows: Sequence[Mapping[str, Any]], class_names: Sequence[str]) -> pa.Table:
    """The table of a shard from the rows of :func:`sample_row`."""
    attributes = [name for name in (rows[0] if rows else ()) if name.startswith(ATTRIBUTE)]
    return pa.Table.from_pylist(list(rows), with_features(_with_attributes(IMAGE_COLUMNS, attributes), class_names))


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
