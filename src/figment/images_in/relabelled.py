"""Images under other labels, without touching them: what a placebo is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from figment.images_in.ahead import ahead
from figment.types import Images, Indices


@dataclass(frozen=True)
class Relabelled:
    """``images`` with ``labels`` int64 (N,) in place of their own."""

    images: Images
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def ids(self) -> Sequence[str]:
        return self.images.ids

    @property
    def digests(self) -> Sequence[str]:
        return self.images.digests

    @cached_property
    def source(self) -> np.ndarray:
        """The image that each takes its label from, ``int64 (N,)``: each gives its own to one, where ``labels`` are those of the images
        in another order. Whatever else an image has beside its pixels, such as its caption, goes along."""
        rng = np.random.default_rng(np.asarray(self.labels, np.int64))  # of equal labels any may go anywhere
        source = np.empty(len(self.labels), np.int64)
        for c in np.unique(self.labels):
            givers, takers = np.flatnonzero(self.images.labels == c), np.flatnonzero(self.labels == c)
            source[takers] = np.resize(rng.permutation(givers if len(givers) else len(source)), len(takers))
        return source

    def load(self, indices: Indices) -> list[np.ndarray]:
        return self.images.load(indices)

    def ahead(self, indices: Indices) -> None:
        ahead(self.images, indices)

    def take(self, indices: Indices) -> Relabelled:
        return Relabelled(self.images.take(indices), self.labels[np.asarray(indices, np.int64)])
