"""Images under a change of their pixels, without touching them: rendered in a look, or shrunk to the resolution of others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from PIL import Image

from figment import png, records
from figment.images_in.tones import White
from figment.starter.looks import render
from figment.types import Images, Indices

LOOKS_VERSION = 1  # goes up with any change to the pixels of a look, which a test holds

#: uint8 (H, W, 3) each, to the same of any sizes. It must survive pickling, for workers.
Change = Callable[[list[np.ndarray]], list[np.ndarray]]


@dataclass(frozen=True)
class Changed:
    """``images`` as ``change`` makes them. ``name`` says all that decides it: images that are changed otherwise have other digests."""

    images: Images
    change: Change
    name: str

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
        return [records.digest(f"{own} {self.name}".encode()) if own else "" for own in self.images.digests]

    @cached_property
    def white(self) -> White:
        """Of images of 8 bits: not asked for."""
        return White(self.data, len(self))

    def data(self, index: int) -> bytes:
        """As a PNG file."""
        return png.encode(self.load([index])[0])

    def load(self, indices: Indices) -> list[np.ndarray]:
        return self.change(self.images.load(indices))

    def take(self, indices: Indices) -> Changed:
        return Changed(self.images.take(indices), self.change, self.name)


def in_look(images: Images, look: str) -> Changed:
    """The starter's pictures as a look shows them: see :data:`figment.starter.looks.LOOKS`."""
    return Changed(images, partial(_rendered, look=look), f"look {look} {LOOKS_VERSION}")


def shrunk(images: Images, side: int) -> Changed:
    """Images whose shorter side has ``side`` pixels at the most; smaller ones are as they are."""
    return Changed(images, partial(_all_shrunk, side=side), f"shrunk {side}")


def _rendered(images: list[np.ndarray], look: str) -> list[np.ndarray]:
    return list(np.repeat(render([i[..., 0] for i in images], look)[..., None], 3, axis=-1)) if images else []


def _all_shrunk(images: list[np.ndarray], side: int) -> list[np.ndarray]:
    return [shrink(image, side) for image in images]


def shrink(image: np.ndarray, side: int) -> np.ndarray:
    """uint8 (H, W, 3) to one whose shorter side has ``side`` pixels, as torchvision's ``Resize(side)`` does it; never enlarged."""
    height, width = image.shape[:2]
    shorter = min(height, width)
    if shorter <= side:
        return image
    size = side * width // shorter, side * height // shorter
    return np.array(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
