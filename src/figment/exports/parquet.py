"""Parquet shards in the Hugging Face layout: the images folder of a run, with only what is exported in it."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pyarrow as pa

from figment import files, shards
from figment.exports.card import card
from figment.exports.source import Source
from figment.progress import progress

LAYOUT = "Parquet shards; `datasets.load_dataset` opens them with images and class labels as they are."


def write(out: Path, source: Source, resuming: bool) -> None:
    schema = shards.with_features(_schema(source), source.class_names)
    rows_of = source.records()
    portions = source.shards()
    with progress("export", len(source)) as advance:
        for index, indices in enumerate(portions):
            path = out / f"train-{index:05d}-of-{len(portions):05d}.parquet"
            own = list(islice(rows_of, len(indices)))
            if not (resuming and path.is_file()):
                rows = [
                    {**record, "image": {"bytes": source.data(i), "path": f"{record['id']}{source.suffix}"}}
                    for i, record in zip(indices, own, strict=True)
                ]
                files.write_atomic(path, shards.parquet(pa.Table.from_pylist(rows, schema)))
            advance(len(indices))
    files.write_atomic(out / "README.md", card(source, ["train-*.parquet"], LAYOUT))


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
