"""A small run without a model, and ways to harm it: for the tests of verify and repair."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from figment import layout, shards
from figment.recipe import Recipe, validate
from figment.run import make_images
from figment.types import Prompt

NAMES = ["red thing", "blue thing"]
SHARDS = 3  # of 8, 8 and 4 rows


def recipe(**changes: Any) -> Recipe:
    """Two classes, four prompts and ten images of each, drawn by arithmetic."""
    data = {
        "task": {"class_names": NAMES, "contexts": ["a", "b", "c", "d"]},
        "prompts": {"kind": "attributes", "per_class": 4},
        "generate": {"kind": "procedural", "images_per_class": 10, "shard_size": 8, "height": 8, "width": 8},
        "filters": [{"kind": "blank"}],
        "train": {"epochs": 1, "seeds": 1},
    }
    return validate(data, "test").changed(changes)


def make(folder: Path | str, **changes: Any) -> Path:
    """The prompts and images of the recipe."""
    return make_images(recipe(**changes), folder, allow_plugins=True).parent


def shard(run: Path, index: int = 0) -> Path:
    return layout.shard_path(run / "images", index)


def sidecar(run: Path, index: int = 0) -> Path:
    """The last shard is not full, which its sidecar's name says."""
    return layout.sidecar_path(run / "images", index, partial=index == SHARDS - 1)


def flip(path: Path, position: int, bit: int = 1) -> None:
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[position] ^= bit
    path.write_bytes(bytes(data))


def image_at(path: Path, row: int) -> int:
    """Where the image of a row starts in a shard."""
    places = shards.image_places(shards.shard_metadata(path))
    assert places is not None
    return int(places[row, 0])


def edit(path: Path, change: Any) -> None:
    """Change the rows of a shard, a list of dicts, and write it as another tool of ours would: with its right checksums."""
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows = change(rows) or rows
    path.write_bytes(shards.parquet(pa.Table.from_pylist(rows, table.schema)))


def content(run: Path) -> dict[str, bytes]:
    """Every shard of prompts and images with its sidecar, to the byte."""
    files = (p for part in ("prompts", "images") for p in (run / part).rglob("*") if p.suffix in (".parquet", ".json"))
    return {str(p.relative_to(run)): p.read_bytes() for p in files if p.name != "stage.json"}


class Wordy:
    """A writer of prompts that never writes the same twice."""

    def __call__(self, task: Any, n: int, rng: Any) -> list[Prompt]:
        return [
            Prompt(f"{label:03d}-x/{i:05d}", f"{name} {uuid.uuid4()}", label, f"{label}-{i}")
            for label, name in enumerate(task.class_names)
            for i in range(12)
        ]
