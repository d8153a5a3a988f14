"""Rows that lie in object stores, read before they are asked for: a store takes long to answer, but answers many at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Protocol, runtime_checkable

from figment.stores import AT_ONCE
from figment.types import Images, Indices


@runtime_checkable
class ReadsAhead(Protocol):
    """What images that lie far away can do besides what all :class:`figment.types.Images` do."""

    def ahead(self, indices: Indices) -> None:
        """Begin to read these, which will be asked for next, the first of them first."""
        ...


def ahead(images: Images, indices: Indices) -> None:
    """Say which images will be asked for next. To those that are at hand it means nothing."""
    if isinstance(images, ReadsAhead):
        images.ahead(indices)


class Ahead:
    """What is being read of some rows, ``most_bytes`` of it: beyond that, what was begun first is forgotten."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes, self._process, self._bytes, self._lock = most_bytes, 0, 0, Lock()
        # row -> the reading of its piece, its place in that, its bytes
        self._begun: dict[int, tuple[Future[list[bytes]], int, int]] = {}

    def lacks(self, rows: Iterable[int]) -> list[int]:
        """Those that were not begun, each once."""
        with self._lock:
            if self._process != os.getpid():  # threads do not survive a fork
                self._process, self._pool, self._begun, self._bytes = os.getpid(), ThreadPoolExecutor(AT_ONCE), {}, 0
            return [row for row in dict.fromkeys(rows) if row not in self._begun]

    def begin(self, piece: Sequence[int], lengths: Sequence[int], read: Callable[[Sequence[int]], list[bytes]]) -> None:
        """Have the rows of one piece read together."""
        with self._lock:
            future = self._pool.submit(read, piece)
            for place, (row, length) in enumerate(zip(piece, lengths, strict=True)):
                self._begun[row] = future, place, length
                self._bytes += length
            while self._bytes > self.most_bytes and self._begun:
                self._bytes -= self._begun.pop(next(iter(self._begun)))[2]

    def has(self, row: int) -> bool:
        return self._process == os.getpid() and row in self._begun

    def take(self, row: int) -> bytes | None:
        """The bytes of a row, once; None where it was not begun, or its piece could not be read: then whoever asks reads it by itself,
        and an error is that row's own."""
        if not self.has(row):
            return None
        with self._lock:
            future, place, length = self._begun.pop(row, (None, 0, 0))
            self._bytes -= length
        if future is None or future.exception() is not None:
            return None
        return future.result()[place]
