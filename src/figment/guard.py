"""Every file is looked at before it is opened: whether it is a file at all, and no larger than one of its kind can be.

Opening a named pipe waits for ever, a device may never end, and a file of another kind fills the memory before anybody
sees that it is none. JSON from outside is bounded in depth as well: Python's own limit is a traceback.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from figment.errors import FigmentError

MIB = 2**20
#: Kind of file -> the most bytes one may have: several times what the largest honest one takes.
MOST = {
    "recipe": 16 * MIB,
    "model configuration": 64 * MIB,
    "model card": 16 * MIB,
    "split file": 1024 * MIB,
    "table of images": 1024 * MIB,
    "annotation": 16 * MIB,
    "table of captions": 1024 * MIB,
    "list of names": 256 * MIB,
    "image": 1024 * MIB,
    "sample of a tar": 16 * MIB,
    "Parquet footer": 256 * MIB,
    "answer of a server": 16 * MIB,
    "certificate or key": 1 * MIB,
    "record": 4096 * MIB,  # that of an export names every image
}
MOST_DEPTH = 64  # of JSON: objects and lists within one another

KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def problem(path: Path, kind: str | None = None) -> str:
    """Why a local file is not to be opened, in a few words; empty where it may be.

    ``kind`` is one of :data:`MOST`, or None for a file of ours that may have any size. Raises OSError where there is none.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        return f"not a regular file but {KINDS.get(stat.S_IFMT(found.st_mode), 'something else')}"
    return "" if kind is None else _too_large(found.st_size, kind)


def check(path: Path, kind: str | None = None) -> None:
    """Raise FigmentError where :func:`problem` finds one. Raises OSError where there is nothing, or a folder."""
    found = problem(path, kind)
    if found.endswith(KINDS[stat.S_IFDIR]):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if found:
        raise FigmentError(f"{path} is {found}, and was not opened. Give a file of the right kind.")


def check_size(size: int, where: object, kind: str) -> None:
    """Raise FigmentError for more bytes than a file of this ``kind`` may have."""
    found = _too_large(size, kind)
    if found:
        raise FigmentError(f"{where} is {found}, and was not read. Give a file of the right kind.")


def _too_large(size: int, kind: str) -> str:
    return (
        ""
        if size <= MOST[kind]
        else f"too large: {size:,} bytes, and the most for a file of this kind ({kind}) is {MOST[kind]:,}"
    )


def check_folder(folder: Path, what: str) -> None:
    """Raise FigmentError, beginning with ``what``, where a folder that a library will open holds pipes, devices or sockets."""
    check_files(folder.rglob("*"), folder, what)


def check_files(paths: Iterable[Path], folder: Path, what: str) -> None:
    """The same of some files below the folder."""
    for path in paths:
        try:
            mode = path.stat().st_mode
        except OSError:
            continue  # a link that leads nowhere, or to itself: nothing is opened
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise FigmentError(
                f"{what} holds {path.relative_to(folder)}, which is no file but {KINDS.get(stat.S_IFMT(mode), 'something else')}:"
                " it was not opened. Take it out."
            )


def parse_json(data: bytes | str, where: object, kind: str) -> Any:
    """The one reader of JSON from outside. Raises ValueError for what is no JSON, as ``json.loads`` does, and FigmentError, naming
    ``where`` it is and the bound, for what is larger than its ``kind`` may be or nested deeper than :data:`MOST_DEPTH`."""
    check_size(len(data), where, kind)
    try:
        value = json.loads(data)
        deep = _is_deep(value)
    except RecursionError:
        deep = True
    if deep:
        raise FigmentError(
            f"{where} is JSON nested more than {MOST_DEPTH} deep, which no {kind} is. Is it another file?"
        )
    return value


def _is_deep(value: Any) -> bool:
    """Level by level: no recursion, and as many steps as there are values."""
    level = [value]
    for _ in range(MOST_DEPTH):
        level = [inner for one in level for inner in _inside(one)]
        if not level:
            return False
    return True


def _inside(value: Any) -> list[Any]:
    """The lists and objects in a list or object."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [one for one in inner if isinstance(one, dict | list)]
