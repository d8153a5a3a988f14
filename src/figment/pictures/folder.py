"""Image files that lie about on a disk, one by one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from figment.pictures.decode import decode
from figment.store import digest
from figment.types import Indices

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")


@dataclass(frozen=True)
class FilePictures:
    """Image files with a label each, such as torchvision's ImageFolder has them."""

    paths: list[Path]
    labels: np.ndarray
    ids: list[str]
    _digests: list[str] = field(default_factory=list, repr=False)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def digests(self) -> list[str]:
        if not self._digests:
            self._digests.extend(digest(p.read_bytes()) for p in self.paths)
        return self._digests

    def load(self, indices: Indices) -> list[np.ndarray]:
        return [decode(self.paths[i].read_bytes(), str(self.paths[i])) for i in indices]

    def take(self, indices: Indices) -> FilePictures:
        known = [self._digests[i] for i in indices] if self._digests else []
        return FilePictures(
            [self.paths[i] for i in indices], self.labels[list(indices)], [self.ids[i] for i in indices], known
        )
