"""Images that are rows of something larger: a tar, a table of the ``datasets`` library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from figment.images_in.decode import decode
from figment.images_in.tones import White
from figment.images_in.unreadable import Unreadable
from figment.records import digest
from figment.types import Indices


def digests_of(data: Callable[[int], bytes], n: int, white: White) -> list[str]:
    """The content hash of each of n images; empty where one cannot be read, which is said when it is loaded.

    It is of all that decides the pixels, as caches need it: of the file, and of what is ``white`` where that is not its own matter.
    """
    found = []
    for index in range(n):
        try:
            file = data(index)
            found.append(digest(file + white.key(file)))
        except Unreadable:
            found.append("")
    return found


class Rows(Protocol):
    """Where rows lie. Survives pickling: nothing is held open."""

    def read(self, row: int) -> bytes:
        """The stored bytes of one row's image. Raises :class:`figment.images_in.Unreadable`."""
        ...

    def where(self, row: int) -> str:
        """For messages."""
        ...

    def column(self, name: str) -> Sequence[Any] | None:
        """What else is known of all rows; None where there is no such column."""
        ...


@dataclass(frozen=True)
class RowImages:
    """Some rows, in any order, as :class:`figment.types.Images`; each is read when it is asked for."""

    source: Rows
    rows: np.ndarray  # int64 (N,)
    labels: np.ndarray
    ids: Sequence[str]
    _digests: list[str] = field(default_factory=list, repr=False)
    _whole: White | None = field(default=None, repr=False, compare=False)  # of the set that these were taken from

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def white(self) -> White:
        return self._whole or White(self.data, len(self))

    @property
    def digests(self) -> list[str]:
        if not self._digests:
            self._digests.extend(digests_of(self.data, len(self), self.white))
        return self._digests

    def data(self, index: int) -> bytes:
        """The stored bytes of one image, undecoded."""
        return self.source.read(int(self.rows[index]))

    def column(self, name: str) -> list[Any] | None:
        """A column of the table that these are rows of; None where there is none."""
        found = self.source.column(name)
        return None if found is None else [found[row] for row in self.rows]

    def load(self, indices: Indices) -> list[np.ndarray]:
        return [decode(self.data(i), self.source.where(int(self.rows[i])), self.white) for i in indices]

    def take(self, indices: Indices) -> RowImages:
        index = np.asarray(indices, np.int64)
        known = [self._digests[i] for i in index] if self._digests else []
        ids = [self.ids[i] for i in index]
        return RowImages(self.source, self.rows[index], self.labels[index], ids, known, self.white)
