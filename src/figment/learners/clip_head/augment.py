"""Standard augmentation: random crops and mirror images, the cheap way to more images that generated ones must beat."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torchvision.transforms import InterpolationMode, v2

from figment.encoders import Towers
from figment.types import Images


def random_views(image: np.ndarray, n: int, size: int, scale: tuple[float, float], seed: int) -> list[np.ndarray]:
    """``n`` crops of ``uint8 (H, W, 3)``, each ``uint8 (size, size, 3)``: the same for the same seed, whatever ``n`` is.

    A crop covers a share of the image's area in ``scale``, with sides of 3:4 to 4:3, resized by bicubic
    interpolation; every second one, by chance, is mirrored.
    """
    transform: Any = v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=scale, interpolation=InterpolationMode.BICUBIC, antialias=True),
            v2.RandomHorizontalFlip(),
        ]
    )
    x = torch.tensor(image).permute(2, 0, 1)
    with torch.random.fork_rng(devices=[]):  # torchvision draws from the CPU generator that everybody uses
        torch.default_generator.manual_seed(seed)
        return [transform(x).permute(1, 2, 0).numpy() for _ in range(n)]


def view_seed(*place: int) -> int:
    """A seed for one image at one time, of the numbers (at least 0) that say where it stands."""
    return int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0])


def augmented_features(
    encoder: Towers, images: Images, views: int, seed: int, *, scale: tuple[float, float] = (0.5, 1.0)
) -> tuple[np.ndarray, np.ndarray]:
    """Features of ``views`` random crops of each image, for heads that are tuned on features in memory.

    Returns float32 (n * views, D), L2-normalised, and labels int64 (n * views,): the views of an image one after
    another. A view depends on ``seed``, the image's position and the view's number alone, so more views hold those of
    fewer. The images as they are are not among them.
    """
    labels = np.repeat(np.asarray(images.labels, np.int64), views)
    if not len(images):
        return np.zeros((0, encoder.n_features), np.float32), labels
    size = encoder.pixels(images.load([0])).shape[-1]
    at_once = max(1, encoder.batch_size // views)
    parts = []
    for start in range(0, len(images), at_once):
        crops: list[np.ndarray] = []
        for i in range(start, min(start + at_once, len(images))):
            (image,) = images.load([i])
            crops += random_views(image, views, size, scale, view_seed(seed, i))
        parts.append(encoder.images(crops))
    return np.concatenate(parts), labels
