"""How large images are, by their headers: nothing is decoded."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from figment.images_in.provenance import Stored
from figment.images_in.unreadable import Unreadable

LOOKED_AT = 200  # images of a set, evenly spaced


@dataclass(frozen=True)
class Sizes:
    """Of the shorter side, in pixels: the median, and the least and greatest."""

    usual: int
    least: int
    most: int

    def __str__(self) -> str:
        return (
            f"{self.usual} pixels" if self.least == self.most else f"{self.usual} pixels ({self.least} to {self.most})"
        )


def sizes_of(images: Stored) -> Sizes | None:
    """Of some images of a set; None where no header can be read."""
    sides = []
    for index in np.unique(np.linspace(0, len(images) - 1, LOOKED_AT).astype(int)).tolist():
        try:
            with Image.open(io.BytesIO(images.data(index))) as image:
                sides.append(min(image.size))
        except (Unreadable, OSError, ValueError, Image.DecompressionBombError):  # said when it is decoded
            continue
    return Sizes(int(np.median(sides)), min(sides), max(sides)) if sides else None
