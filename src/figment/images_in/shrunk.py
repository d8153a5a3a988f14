"""Images in the low resolution of others, without touching them: what a data set of small photographs looks like to an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

from figment import records
from figment.types import Images, Indices


@dataclass(frozen=True)
class Shrunk:
    """``images`` whose shorter side has ``side`` pixels at the most; smaller ones are as they are."""

    images: Images
    side: int

    def __len__(self) -> int:
        return len(self.images)

    @property
    def labels(self) -> np.ndarray:
        return self.images.labels

    @property
    def ids(self) -> Sequence[str]:
        return self.images.ids

    @cached_property
    def digests(self) -> list[str]:
        """Others than those of the images as they are: no cache takes one for the other."""
        return [records.fingerprint([digest, "shrunk", self.side]) for digest in self.images.digests]

    def load(self, indices: Indices) -> list[np.ndarray]:
        return [shrink(image, self.side) for image in self.images.load(indices)]

    def take(self, indices: Indices) -> Shrunk:
        return Shrunk(self.images.take(indices), self.side)


def shrink(image: np.ndarray, side: int) -> np.ndarray:
    """uint8 (H, W, 3) to one whose shorter side has ``side`` pixels, as torchvision's ``Resize(side)`` does it; never enlarged."""
    height, width = image.shape[:2]
    shorter = min(height, width)
    if shorter <= side:
        return image
    size = side * width // shorter, side * height // shorter
    return np.array(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
