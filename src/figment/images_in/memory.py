"""Labelled images that are in memory, decoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from figment import records
from figment.types import Images, Indices


@dataclass(frozen=True)
class MemoryImages:
    """``images`` ``uint8 (H, W, 3)`` of any sizes, ``labels`` ``int64 (N,)``."""

    images: Sequence[np.ndarray]
    labels: np.ndarray

    @cached_property
    def ids(self) -> list[str]:
        return [str(i) for i in range(len(self.images))]

    @cached_property
    def digests(self) -> list[str]:
        return [records.digest(repr(image.shape).encode() + image.tobytes()) for image in self.images]

    def __len__(self) -> int:
        return len(self.images)

    def load(self, indices: Indices) -> list[np.ndarray]:
        return [self.images[i] for i in indices]

    def take(self, indices: Indices) -> MemoryImages:
        return MemoryImages(self.load(indices), self.labels[np.asarray(indices, np.int64)])


def in_memory(images: Images, most: int) -> Images:
    """The images decoded, where they take ``most`` bytes or fewer; as they are otherwise, after about as many were decoded."""
    decoded: list[np.ndarray] = []
    left = most
    for start in range(0, len(images), 256):
        some = images.load(range(start, min(start + 256, len(images))))
        left -= sum(image.nbytes for image in some)
        # An estimate by the first few saves decoding many gigabytes for nothing.
        if left < 0 or (start == 0 and (most - left) / len(some) * len(images) > 2 * most):
            return images
        decoded += some
    return MemoryImages(decoded, images.labels)
