"""A data set as a whole, of which nobody has said yet what splits it has."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from figment.files import as_path
from figment.images_in import splits
from figment.images_in.datasets import PREFIX, is_saved
from figment.images_in.folder import is_hidden
from figment.images_in.table import METADATA, read_table
from figment.layout import shard_files
from figment.starter import AS_IT_IS
from figment.starter import PREFIX as STARTER
from figment.starter.looks import LOOKS

#: What `figment.images_in.splits` calls a split -> the field of ``task.real``.
FIELDS = {"train": "train", "validation": "val", "test": "test"}


def splits_in(where: str) -> dict[str, str]:
    """Field of ``task.real`` -> the place of that split: folders called ``train``, ``val``, ``test`` and the like, files or rows that say
    so, ``starter`` or ``starter/LOOK``. Where nothing says any, the whole is ``test``. Raises FigmentError where nothing is there."""
    if where.startswith(PREFIX):
        return {"test": where}
    look = where.removeprefix(STARTER) if where.startswith(STARTER) else AS_IT_IS if where == "starter" else ""
    if look in LOOKS:
        return {field: f"{STARTER}{look}/{split}" for field, split in (("train", "pool"), ("test", "test"))}
    if where.startswith(STARTER):
        return {"test": where}
    path = as_path(where)
    if path.is_dir():
        below = [p.name for p in sorted(path.iterdir()) if p.is_dir() and not is_hidden([p.name])]
        named = {splits.named(name): str(path / name) for name in below if splits.named(name) in FIELDS}
        if {"train", "test"} & named.keys() and len(named) == len(below):
            return _by_field(named)
    return _by_field({split: f"{where}:{split}" for split in _said_inside(path)}) or {"test": where}


def _by_field(named: dict[str, str]) -> dict[str, str]:
    return {field: named[split] for split, field in FIELDS.items() if split in named}


def _said_inside(path: Path) -> set[str]:
    """The splits that the names of files say, or a column of a table."""
    tables = [path] if path.suffix.lower() == ".csv" else [path / name for name in METADATA]
    found: Iterable[str] = ()
    if path.is_dir() and not is_saved(path) and (files := [*shard_files(path), *path.glob("[!.]*.tar")]):
        found = map(splits.split_of, (file.stem for file in files))
    elif table := next((table for table in tables if table.is_file()), None):
        found = (splits.named(row.get(splits.COLUMN)) for _, row in read_table(table))
    own = set(found) & FIELDS.keys()
    return own if len(own) > 1 else set()
