"""The starter's pictures in one of its looks: each is rendered as it is asked for, and none is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from figment import png
from figment.records import digest
from figment.starter.looks import render
from figment.types import Indices

if TYPE_CHECKING:
    from figment.images_in.provenance import Stored
    from figment.images_in.tones import White

VERSION = 1  # of all looks: goes up with any change to their pixels, which a test holds


@dataclass(frozen=True)
class Rendered:
    """``images`` as ``look`` (see :data:`figment.starter.looks.LOOKS`) shows them."""

    images: Stored
    look: str

    def __len__(self) -> int:
        return len(self.images)

    @property
    def labels(self) -> np.ndarray:
        return self.images.labels

    @property
    def ids(self) -> Sequence[str]:
        return self.images.ids

    @property
    def white(self) -> White:
        return self.images.white

    @cached_property
    def digests(self) -> list[str]:
        """Of what decides the pixels: the picture and the look."""
        look = f"\0{self.look} {VERSION}"
        return [digest((own + look).encode()) if own else "" for own in self.images.digests]

    def data(self, index: int) -> bytes:
        """As a PNG file."""
        return png.encode(self.load([index])[0])

    def load(self, indices: Indices) -> list[np.ndarray]:
        grey = [image[..., 0] for image in self.images.load(indices)]
        return list(np.repeat(render(grey, self.look)[..., None], 3, axis=-1)) if grey else []

    def take(self, indices: Indices) -> Rendered:
        return Rendered(self.images.take(indices), self.look)  # type: ignore[arg-type]
