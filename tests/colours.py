"""Images whose class is their colour, in noise: what any network learns within a few steps."""

from __future__ import annotations

import numpy as np

from conftest import COLOURS
from figment.images_in.memory import MemoryImages

NAMES = list(COLOURS)


def coloured(n: int, seed: int = 0, height: int = 24, width: int = 20) -> MemoryImages:
    """``n`` images, classes in turns."""
    rng, labels = np.random.default_rng(seed), np.arange(n) % len(NAMES)
    tones = np.array(list(COLOURS.values()))[labels]
    return MemoryImages([rng.normal(t, 40, (height, width, 3)).clip(0, 255).astype(np.uint8) for t in tones], labels)
