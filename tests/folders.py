"""Folders of images and verdicts as figment leaves them, from samples that a test makes by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from figment import files, layout, records, shards
from figment.records import Record
from figment.shards import ShardFolder
from figment.types import Sample


def write_images(
    folder: Path, parts: Sequence[Sequence[Sample]], class_names: Sequence[str], *, finished: bool = True, **facts: Any
) -> ShardFolder:
    """A shard for each part, and the record, which says ``facts`` too."""
    images = ShardFolder(Record(folder, "images", {"made": "by hand"}, {}), max(len(parts[0]), 1))
    told = [
        images.write(i, shards.sample_table([shards.sample_row(s) for s in p], class_names))
        for i, p in enumerate(parts)
    ]
    if finished:
        images.finish(told, {}, **facts)
    return images


def write_scores(folder: Path, images: ShardFolder, table: pa.Table, **facts: Any) -> None:
    """One filter's verdicts on these images."""
    record = Record(folder, "scores", {}, {"images": images.fingerprint})
    record.finish(shards.write_rows(record, table), **facts)


def write_selection(run: Path, steps: Sequence[str], **facts: Any) -> None:
    """Say which filters a run has."""
    Record(run / "scores", "selection", {"filters": list(steps)}, {}).finish({}, steps=list(steps), **facts)


def rows(folder: Path | str) -> list[dict[str, Any]]:
    """All rows of a folder of images in order, images' bytes and all."""
    return [row for path in shard_files(folder) for row in files.open_parquet(path).read().to_pylist()]


def shard_files(folder: Path | str) -> list[Path]:
    return layout.shard_files(files.as_path(folder))


def record(folder: Path) -> dict[str, Any]:
    """What a finished record says."""
    found = records.read(folder)
    assert found.state == "finished", found
    return dict(found.data)
