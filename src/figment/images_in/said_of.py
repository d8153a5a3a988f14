"""What a set of images says that each shows."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from figment.errors import FigmentError
from figment.files import is_remote, read_text
from figment.images_in.folder import FileImages
from figment.images_in.rows import RowImages
from figment.images_in.shards import ShardImages
from figment.types import Images

COLUMNS = ("prompt", "caption", "text", "txt")  # how it may be called, the first that there is


def texts_beside(images: Images) -> list[str]:
    """The prompt or caption beside each image, ``""`` where one has none; a table, Parquet or a data set has a column of them, a tar a
    ``.txt`` in each sample, and a class folder perhaps a ``.txt`` beside each file."""
    if isinstance(images, FileImages | RowImages | ShardImages):
        for name in COLUMNS:
            found = images.column(name)
            if found is not None:
                values = found.to_pylist() if isinstance(found, pa.ChunkedArray) else found
                return [value.strip() if isinstance(value, str) else "" for value in values]
    if isinstance(images, FileImages) and not images.table:
        return [_text_beside(path) for path in images.paths]
    return [""] * len(images)


def _text_beside(path: Path) -> str:
    text = path.with_suffix(".txt")
    if is_remote(path) or not text.is_file():  # a request for each is too much
        return ""
    try:
        return read_text(text, "annotation").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise FigmentError(f"{text} cannot be read ({error}). Save it again as UTF-8, or take it away.") from error
