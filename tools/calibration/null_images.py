"""Images of no class of the task: of nothing, and of other things that differ by class just as well."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.datasets import load_digits

from figment.images_in.memory import MemoryImages

SIDE = 32
PATTERNS, EACH = 10, 400  # as many of each as there are generated images of a class


def grey(patterns: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    return [_bytes(rng.normal(128, 4, (SIDE, SIDE, 3))) for _ in patterns]


def black(patterns: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    return [np.zeros((SIDE, SIDE, 3), np.uint8) for _ in patterns]


def noise(patterns: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    return [rng.integers(256, size=(SIDE, SIDE, 3), dtype=np.uint8) for _ in patterns]


def stripes(patterns: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Each image has a pattern of its own."""
    return [_striped(rng.integers(2), rng.uniform(0.3, 0.8), rng) for _ in patterns]


def stripes_by_class(patterns: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """A width and a direction a pattern."""
    return [_striped(pattern % 2, 0.3 + 0.12 * (pattern // 2), rng) for pattern in patterns]


def digits_by_class(patterns: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    data = load_digits()
    chosen = [rng.choice(np.flatnonzero(data.target == pattern)) for pattern in patterns]
    return [np.repeat(np.kron(data.images[i] * 15, np.ones((4, 4)))[..., None], 3, 2).astype(np.uint8) for i in chosen]


NULL_IMAGES: dict[str, Callable[[np.ndarray, np.random.Generator], list[np.ndarray]]] = {
    "grey": grey,
    "black": black,
    "noise": noise,
    "stripes": stripes,
    "stripes by class": stripes_by_class,
    "digits by class": digits_by_class,
}


def null_images(kind: str) -> MemoryImages:
    """400 images of each of ten patterns, labelled by it. What a pattern is called is for whoever draws a set to say."""
    patterns = np.repeat(np.arange(PATTERNS), EACH)
    return MemoryImages(NULL_IMAGES[kind](patterns, np.random.default_rng(0)), patterns)


def _striped(direction: int, frequency: float, rng: np.random.Generator) -> np.ndarray:
    wave = np.sin((np.arange(SIDE) + rng.integers(SIDE)) * frequency)
    shades = np.tile(128 + 80 * wave, (SIDE, 1)) + rng.normal(0, 20, (SIDE, SIDE))
    return _bytes(np.repeat((shades if direction else shades.T)[..., None], 3, 2))


def _bytes(shades: np.ndarray) -> np.ndarray:
    return shades.clip(0, 255).astype(np.uint8)
