"""What a set of images says that each shows."""

from __future__ import annotations

import pyarrow as pa

from figment.images_in.folder import FileImages
from figment.images_in.rows import RowImages
from figment.images_in.shards import ShardImages
from figment.types import Images

COLUMNS = ("prompt", "caption", "text", "txt")  # how it may be called, the first that there is


def texts_beside(images: Images) -> list[str]:
    """The prompt or caption beside each image, ``""`` where one has none; a table, Parquet or a data set has a column of them, a tar a
    ``.txt`` in each sample."""
    if isinstance(images, FileImages | RowImages | ShardImages):
        for name in COLUMNS:
            found = images.column(name)
            if found is not None:
                values = found.to_pylist() if isinstance(found, pa.ChunkedArray) else found
                return [value.strip() if isinstance(value, str) else "" for value in values]
    return [""] * len(images)
