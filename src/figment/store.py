"""Shards on disk: the one place that knows how a stage's rows are written, found again and told apart from stale ones.

A stage is a folder of Parquet shards in the Hugging Face layout (``train-00003-of-00016.parquet``) and a ``stage.json``
that is written last. Each shard carries the stage's fingerprint and settings in its schema metadata, so that an
interrupted stage is recognised as well as a finished one. See ``docs/format.md``.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from figment.errors import FigmentError
from figment.types import Prompt, Sample, Verdict

FORMAT_VERSION = 1


# ---- content and its hashes ------------------------------------------------------------------------------------------


def fingerprint(value: Any) -> str:
    """A 16-digit hash of anything JSON-able, the same on every machine."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def digest(data: bytes) -> str:
    """The content hash of one picture's stored bytes."""
    return hashlib.sha256(data).hexdigest()[:32]


def encode_png(image: np.ndarray) -> bytes:
    """``uint8 (H, W, 3)`` to PNG. Lossless: what a filter or classifier sees later is what the generator made."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


# ---- writing that survives -------------------------------------------------------------------------------------------


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals into one paragraph that says what is safe and what to do."""
    try:
        yield
    except OSError as error:
        again = "What was finished before is safe; run the same command again and it goes on from there."
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise FigmentError(
                f"No space left on the disk of {path.parent} while writing {path.name}. Free some space. {again}"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG):
            reason = os.strerror(error.errno).lower()
            raise FigmentError(
                f"Cannot write to {path.parent}: {reason}. Choose another folder with --out, or change its permissions."
            ) from error
        raise


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that it is either the old one or the whole new one: temporary name, sync, rename."""
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the rename itself must survive a power cut
        finally:
            os.close(folder)


def write_json(path: Path, value: Any) -> None:
    write_atomic(path, (json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n").encode())


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold a run folder: a second run on it is told so instead of harming the first. Freed when the process ends."""
    path = folder / ".lock"
    with _explained(path):
        folder.mkdir(parents=True, exist_ok=True)
        file = open(path, "w")  # noqa: SIM115 - closed below
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise FigmentError(
            f"Another figment is working in {folder}. Wait for it to end, or choose another folder with --out."
        ) from error
    try:
        yield
    finally:
        file.close()


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
        return fingerprint({"format": FORMAT_VERSION, **self._identity()})

    def _identity(self) -> dict[str, Any]:
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
        return [i for i in range(self.n_shards) if not self.shard(i).is_file()]

    def check_not_stale(self) -> None:
        """Raise FigmentError, naming the fields that changed, where the folder holds shards of other settings."""
        for path in sorted(self.folder.glob("train-*.parquet")):
            metadata = pq.read_schema(path).metadata or {}
            if metadata.get(b"figment.fingerprint", b"").decode() == self.fingerprint:
                continue
            before = json.loads(metadata.get(b"figment.identity", b"{}"))
            raise FigmentError(
                f"{self.folder} was made with other settings: {_what_changed(before, self._identity())}. Old images are never mixed with new ones. "
                f"Write to another folder with --out, put the old setting back, or move {self.folder} away yourself."
            )

    def write(self, index: int, table: pa.Table) -> None:
        """Write one shard atomically, with the stage's identity in its metadata."""
        own = {"figment.fingerprint": self.fingerprint, "figment.identity": json.dumps(self._identity())}
        table = table.replace_schema_metadata(
            {**(table.schema.metadata or {}), **{k.encode(): v.encode() for k, v in own.items()}}
        )
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd", row_group_size=256)
        write_atomic(self.shard(index), sink.getvalue().to_pybytes())

    def finish(self, **record: Any) -> None:
        """Write the marker: fingerprint, identity and whatever the stage has to report (counts, seconds, versions ...)."""
        write_json(
            self.marker,
            {
                "format": FORMAT_VERSION,
                "fingerprint": self.fingerprint,
                **self._identity(),
                **record,
                "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            },
        )

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows of all shards, in order."""
        return pa.concat_tables([pq.read_table(self.shard(i), columns=columns) for i in range(self.n_shards)])


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _what_changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
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


_PROMPTS = pa.schema([("text", pa.string()), ("label", pa.int64()), ("id", pa.string()), ("group", pa.string())])
_IMAGES = pa.schema(
    [
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("label", pa.int64()),
        ("prompt", pa.string()),
        ("id", pa.string()),
        ("prompt_id", pa.string()),
        ("seed", pa.int64()),
        ("group", pa.string()),
        ("digest", pa.string()),
        ("error", pa.string()),
    ]
)
_SCORES = pa.schema([("id", pa.string()), ("label", pa.int64()), ("keep", pa.bool_()), ("reason", pa.string())])


def prompt_table(prompts: Sequence[Prompt], class_names: Sequence[str]) -> pa.Table:
    rows = [{"text": p.text, "label": p.label, "id": p.id, "group": p.group} for p in prompts]
    return pa.Table.from_pylist(rows, with_features(_PROMPTS, class_names))


def read_prompts(table: pa.Table) -> list[Prompt]:
    return [Prompt(r["id"], r["text"], r["label"], r["group"]) for r in table.to_pylist()]


def sample_table(samples: Sequence[Sample], class_names: Sequence[str]) -> pa.Table:
    """One row for each attempt; a failed one has no image and says why."""
    rows = []
    for s in samples:
        png = None if s.image is None else encode_png(s.image)
        rows.append(
            {
                "image": None if png is None else {"bytes": png, "path": f"{s.id}.png"},
                "label": s.label,
                "prompt": s.prompt,
                "id": s.id,
                "prompt_id": s.prompt_id,
                "seed": s.seed,
                "group": s.group,
                "digest": "" if png is None else digest(png),
                "error": s.error or "",
            }
        )
    return pa.Table.from_pylist(rows, with_features(_IMAGES, class_names))


def score_table(
    ids: Sequence[str], labels: Sequence[int], verdicts: Sequence[Verdict], class_names: Sequence[str]
) -> pa.Table:
    """A filter's verdicts, one column for each score; rows the filter never saw have no verdict row."""
    names = sorted({name for v in verdicts for name in v.scores})
    schema = pa.schema([*_SCORES, *((name, pa.float64()) for name in names)])
    rows = [
        {"id": i, "label": int(y), "keep": v.keep, "reason": v.reason, **{n: v.scores.get(n) for n in names}}
        for i, y, v in zip(ids, labels, verdicts, strict=True)
    ]
    return pa.Table.from_pylist(rows, with_features(schema, class_names))
