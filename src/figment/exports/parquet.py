"""Parquet shards in the Hugging Face layout: the images folder of a run, with only what is exported in it.

The shards have a folder to themselves, since pandas takes every file of a folder for one.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from figment import files, shards
from figment.exports.card import PLAIN, card
from figment.exports.croissant import croissant
from figment.exports.source import Source
from figment.progress import progress

LAYOUT = (
    "Parquet shards in `data/`; `datasets.load_dataset` opens them with images and class labels as they are, and `pandas.read_parquet`"
    " opens `data/`. `croissant.json` says what the columns are, in the words of MLCommons' Croissant."
)
WITH_REJECTED = (
    " Rejected images are among them: `datasets.load_dataset` leaves them out unless it is asked for the configuration `with_rejected`;"
    " whoever reads the shards otherwise takes those whose `kept` is true."
)
KEPT_UNASKED: Mapping[str, Mapping[str, Any]] = {"default": {"filters": [["kept", "==", True]]}, "with_rejected": {}}


def write(out: Path, source: Source, resuming: bool) -> None:
    schema = shards.with_features(_schema(source), source.class_names)
    rows_of = source.records()
    portions = source.shards()
    with progress("export", len(source)) as advance:
        for index, indices in enumerate(portions):
            path = out / "data" / f"train-{index:05d}-of-{len(portions):05d}.parquet"
            own = list(islice(rows_of, len(indices)))
            if not (resuming and path.is_file()):
                rows = [
                    {**record, "image": {"bytes": source.data(i), "path": f"{record['id']}{source.suffix}"}}
                    for i, record in zip(indices, own, strict=True)
                ]
                files.write_atomic(path, shards.parquet(pa.Table.from_pylist(rows, schema)))
            advance(len(indices))
    files.write_atomic(out / "croissant.json", croissant(source, schema, "data/*.parquet"))
    mixed = source.kept.any() and not source.kept.all()  # `datasets` opens no configuration without a row
    layout, readers = (LAYOUT + WITH_REJECTED, KEPT_UNASKED) if mixed else (LAYOUT, PLAIN)
    files.write_atomic(out / "README.md", card(source, ["data/train-*.parquet"], layout, readers))


def _schema(source: Source) -> pa.Schema:
    columns = [
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("label", pa.int64()),
        *((name, pa.string()) for name in ("class_name", "prompt", "id")),
        ("seed", pa.int64()),
        *((name, pa.string()) for name in ("group", "init", "digest", *source.images.attributes)),
        ("kept", pa.bool_()),
        ("reason", pa.string()),
        *((f"score_{name}", pa.float64()) for name in source.scores),
    ]
    return pa.schema(columns)
