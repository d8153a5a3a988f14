"""Images under other labels, without touching them: what a placebo is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

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

    def load(self, indices: Indices) -> list[np.ndarray]:
        return self.images.load(indices)

    def take(self, indices: Indices) -> Relabelled:
        return Relabelled(self.images.take(indices), self.labels[np.asarray(indices, np.int64)])
