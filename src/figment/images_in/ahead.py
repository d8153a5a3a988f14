"""Rows that lie in object stores, read before they are asked for: a store takes long to answer, but answers many at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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
    """What is being read of some rows. An error waits until its row is taken."""

    def __init__(self) -> None:
        self._process = 0
        self._begun: dict[int, tuple[Future[list[bytes]], int]] = {}  # row -> its piece's reading, its place in that

    def keep(self, rows: Iterable[int]) -> list[int]:
        """Forget what was begun besides these rows, so that memory stays bounded. Returns those that were not begun."""
        if self._process != os.getpid():  # threads do not survive a fork
            self._process, self._pool, self._begun = os.getpid(), ThreadPoolExecutor(AT_ONCE), {}
        rows = list(dict.fromkeys(rows))
        kept = {row: self._begun[row] for row in rows if row in self._begun}
        for future in {future for future, _ in self._begun.values()} - {future for future, _ in kept.values()}:
            future.cancel()
        self._begun = kept
        return [row for row in rows if row not in kept]

    def begin(self, piece: Sequence[int], read: Callable[[Sequence[int]], list[bytes]]) -> None:
        """Have the rows of one piece read together."""
        future = self._pool.submit(read, piece)
        self._begun |= {row: (future, place) for place, row in enumerate(piece)}

    def has(self, row: int) -> bool:
        return self._process == os.getpid() and row in self._begun

    def take(self, row: int) -> bytes:
        """The bytes of a row that was begun, once."""
        future, place = self._begun.pop(row)
        return future.result()[place]
