"""Several sets of images as one, such as real ones and synthetic ones to train on together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from figment.images_in.ahead import ahead
from figment.types import Images, Indices


@dataclass(frozen=True)
class ConcatImages:
    """Some of the images of several sets. Ids begin with the number of the set, since two sets may use the same."""

    parts: tuple[Images, ...]
    rows: np.ndarray  # int64 (N,), positions in all parts one after another

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def labels(self) -> np.ndarray:
        return np.concatenate([part.labels for part in self.parts])[self.rows]

    @cached_property
    def ids(self) -> list[str]:
        own = [part.ids for part in self.parts]
        return [f"{p}/{own[p][i]}" for p, i in zip(*self._places(self.rows), strict=True)]

    @cached_property
    def digests(self) -> list[str]:
        own = [part.digests for part in self.parts]
        return [own[p][i] for p, i in zip(*self._places(self.rows), strict=True)]

    def load(self, indices: Indices) -> list[np.ndarray]:
        part, index = self._places(self.rows[np.asarray(indices, np.int64)])
        images: list[np.ndarray] = [np.empty(0)] * len(part)
        for p in np.unique(part):
            own = np.flatnonzero(part == p)
            for i, image in zip(own, self.parts[p].load(index[own]), strict=True):
                images[i] = image
        return images

    def ahead(self, indices: Indices) -> None:
        part, index = self._places(self.rows[np.asarray(indices, np.int64)])
        for p in np.unique(part):
            ahead(self.parts[p], index[part == p])

    def take(self, indices: Indices) -> ConcatImages:
        return ConcatImages(self.parts, self.rows[np.asarray(indices, np.int64)])

    def _places(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The part of each row, and its position there."""
        start = np.cumsum([0, *(len(part) for part in self.parts)])
        part = np.searchsorted(start, rows, "right") - 1
        return part, rows - start[part]


def concatenate(*parts: Images) -> ConcatImages:
    """The images of all parts, one part after another. Their labels must be indices into the same class names."""
    return ConcatImages(parts, np.arange(sum(len(part) for part in parts)))
