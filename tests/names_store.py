"""A store with as many names as you like and hardly a byte: what a run asks of it is counted, and it can be told to be troublesome.

``names://<shelf>/...`` is of the shelf that :func:`shelf` made. Shards are names alone, unless somebody wrote one; sidecars are made up when
they are read. A listing counts once for each thousand names, as object stores give them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

import fsspec
from fsspec.spec import AbstractFileSystem

PAGE = 1_000  # names that a store gives at a time
SHELVES: dict[str, Shelf] = {}


class Shelf:
    """Files by folder. Shards that are planted are there without having been written."""

    def __init__(self, trouble: Callable[[str, str], None] | None = None):
        self.folders: dict[str, dict[str, bytes]] = {}
        self.counts: Counter[str] = Counter()
        self.images, self.sidecar = "", b""
        self.planted: Collection[int] = ()
        self.trouble = trouble or (lambda what, path: None)  # may raise

    def asked(self, what: str, path: str, n: int = 1) -> None:
        self.counts[what] += n
        self.trouble(what, path)

    def plant(self, images: str, planted: Collection[int], sidecar: bytes) -> None:
        """Shards of the images in a folder, by number, each full and vouched for."""
        self.images, self.planted, self.sidecar = images, planted, sidecar

    def below(self, folder: str) -> dict[str, str]:
        """Name -> what it is."""
        found = dict.fromkeys(self.folders.get(folder, {}), "file")
        start = f"{folder}/"
        found |= {name[len(start) :].partition("/")[0]: "directory" for name in self.folders if name.startswith(start)}
        if folder == self.images:
            found |= {f"{i:05d}": "directory" for i in {i // 1_000 for i in self.planted}}
        elif self.planted and re.fullmatch(rf"{re.escape(self.images)}/\d{{5}}", folder):
            first = int(folder[-5:]) * 1_000
            for i in range(first, first + 1_000):
                if i in self.planted:
                    found[f"train-{i:07d}.parquet"] = found[f"{i:07d}.json"] = "file"
        return found

    def get(self, path: str) -> bytes | None:
        folder, _, name = path.rpartition("/")
        own = self.folders.get(folder, {}).get(name)
        if own is None and (found := re.fullmatch(r"(\d{7})\.json", name)) and int(found[1]) in self.planted:
            return self.sidecar
        return own


class Names(AbstractFileSystem):
    protocol = "names"
    cachable = False

    def _shelf(self, path: str) -> Shelf:
        return SHELVES[path.partition("/")[0]]

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        path = self._strip_protocol(path)
        shelf = self._shelf(path)
        found = shelf.below(path)
        shelf.asked("lists", path, -(-len(found) // PAGE) or 1)
        if not found:
            raise FileNotFoundError(path)
        names = [f"{path}/{name}" for name in found]
        if not detail:
            return names
        return [{"name": name, "size": 0, "type": kind} for name, kind in zip(names, found.values(), strict=True)]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        path = self._strip_protocol(path)
        shelf = self._shelf(path)
        shelf.asked("looks", path)
        data = shelf.get(path)
        if data is not None:
            return {"name": path, "size": len(data), "type": "file"}
        if shelf.below(path):
            return {"name": path, "size": 0, "type": "directory"}
        raise FileNotFoundError(path)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        path = self._strip_protocol(path)
        shelf = self._shelf(path)
        shelf.asked("reads", path)
        data = shelf.get(path)
        if data is None:
            raise FileNotFoundError(path)
        return data[start:end]

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        path = self._strip_protocol(path)
        shelf = self._shelf(path)
        shelf.asked("writes", path)
        if mode == "create" and shelf.get(path) is not None:
            raise FileExistsError(path)
        folder, _, name = path.rpartition("/")
        shelf.folders.setdefault(folder, {})[name] = value

    def rm_file(self, path: str) -> None:
        path = self._strip_protocol(path)
        shelf = self._shelf(path)
        shelf.asked("deletes", path)
        folder, _, name = path.rpartition("/")
        if shelf.folders.get(folder, {}).pop(name, None) is None:
            raise FileNotFoundError(path)

    _rm = rm_file

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        from io import BytesIO

        return BytesIO(self.cat_file(path))


fsspec.register_implementation("names", Names, clobber=True)


def shelf(name: str, trouble: Callable[[str, str], None] | None = None) -> Shelf:
    """A new one, at ``names://<name>``."""
    SHELVES[name] = Shelf(trouble)
    return SHELVES[name]
