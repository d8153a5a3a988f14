"""Data sets that keep their splits side by side, by the names of files or in a column: one of them is meant, never all."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from figment.errors import FigmentError

#: How splits are called -> what ``datasets`` calls them.
NAMES = {"train": "train", "training": "train", "test": "test", "testing": "test", "eval": "test", "evaluation": "test"}
NAMES |= dict.fromkeys(("val", "valid", "validation", "dev"), "validation")
COLUMN = "split"


def split_of(name: str) -> str:
    """The split that a file's name says it is of: ``pets-val-000001.tar`` is of ``validation``; empty where it says none."""
    words = re.split(r"[^a-z]+", name.lower())
    return next((NAMES[word] for word in words if word in NAMES), "")


def named(value: object) -> str:
    """A split as a table or a user names it."""
    text = "" if value is None else str(value).strip().lower()
    return NAMES.get(text, text)


def parted(where: str) -> tuple[str, str]:
    """``photos.csv:test`` -> ``photos.csv``, ``test``; the second is empty where no split is named."""
    place, _, split = where.rpartition(":")
    is_word = re.fullmatch(r"[A-Za-z][\w-]*", split) is not None
    # Splits of tables may be numbers or hold spaces, and a path may hold a colon.
    is_split = is_word or (not re.search(r"[/\\]", split) and not Path(where).exists() and Path(place).exists())
    return (place, split) if place and split and is_split else (where, "")


def folder_of(folder: Path, asked: str) -> Path | None:
    """The sub-folder of a split, such as ``valid/`` for ``val``; None where there is no such one, or several."""
    own = [path for path in folder.iterdir() if path.is_dir() and named(path.name) == named(asked)]
    return own[0] if len(own) == 1 else None


def files_of(files: Sequence[Path], asked: str, where: object) -> list[Path]:
    """The files of the split that is asked for; all of them where they are of one and none is asked for.

    Raises FigmentError where they are of several and none is asked for, or of none of that name.
    """
    own = [split_of(path.stem) for path in files]
    check(own, asked, where)
    return [path for path, split in zip(files, own, strict=True) if not asked or split == named(asked)]


def rows_of(rows: Sequence[tuple[int, Mapping[str, Any]]], asked: str, where: object) -> list[tuple[int, Any]]:
    """The same of numbered rows, by their column ``split``."""
    own = [named(row.get(COLUMN)) for _, row in rows]
    check(own, asked, where)
    return [row for row, split in zip(rows, own, strict=True) if not asked or split == named(asked)]


def check(splits: Sequence[str], asked: str, where: object) -> None:
    """Raise FigmentError where one of several splits must be named, or there is none of the name."""
    there = sorted(set(splits) - {""})
    if asked and named(asked) not in there:
        raise FigmentError(f"{where} holds no split {asked!r}. {_there(there)}")
    if not asked and len(there) > 1:
        raise FigmentError(
            f"{where} holds several splits: {', '.join(there)}. Name the one that is meant: {where}:{there[0]}"
        )


def _there(splits: Sequence[str]) -> str:
    return (
        f"There are: {', '.join(splits)}."
        if splits
        else "Neither the names of its files nor a column called split say any."
    )
