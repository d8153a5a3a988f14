"""Images drawn by arithmetic, without a model: for tests, for scale, and to try a pipeline before paying for images."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from figment import records
from figment.errors import FigmentError


class ProceduralGenerator:
    """Stripes whose colours, width and direction come from the prompt, and whose place and noise come from the seed.

    Images of one prompt look alike and those of two do not, so a classifier can learn them. ``noise`` is the standard
    deviation in grey levels; ``height`` and ``width`` are in pixels.
    """

    batch_size = 64  # nothing is gained from more at a time

    def __init__(self, *, height: int = 32, width: int = 32, noise: float = 8.0):
        self.height, self.width, self.noise = height, width, noise

    @property
    def settings(self) -> dict[str, Any]:
        return {"height": self.height, "width": self.width, "noise": self.noise}

    @property
    def fingerprint(self) -> str:
        return records.fingerprint(["procedural", 1, self.settings])

    def __call__(
        self, prompts: Sequence[str], seeds: Sequence[int], init: np.ndarray | None = None
    ) -> list[np.ndarray | None]:
        """One ``uint8 (H, W, 3)`` image for each prompt and seed."""
        if init is not None:
            raise FigmentError("The procedural generator takes no start images (init). Leave them out.")
        return [self._draw(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]

    def _draw(self, prompt: str, seed: int) -> np.ndarray:
        own = np.frombuffer(hashlib.blake2b(prompt.encode("utf-8", "surrogatepass"), digest_size=8).digest(), np.uint8)
        rng = np.random.Generator(np.random.SFC64(seed))
        dark, light = own[:3].astype(np.float32) / 2, 127 + own[3:6].astype(np.float32) / 2
        angle, period = own[6] / 255 * np.pi, 0.15 + own[7] / 255 * 0.35  # the period is a share of the height
        y = np.arange(self.height, dtype=np.float32)[:, None] / self.height
        x = np.arange(self.width, dtype=np.float32) / self.height
        phase = (np.cos(angle) * x + np.sin(angle) * y) / period + rng.random(dtype=np.float32)
        stripe = (phase % 1 < 0.5)[..., None]
        image = np.where(stripe, light, dark) + self.noise * rng.standard_normal(
            (self.height, self.width, 1), dtype=np.float32
        )
        return image.clip(0, 255).astype(np.uint8)

    def describe(self) -> dict[str, Any]:
        """For the dataset card."""
        return {
            "model": "procedural",
            "licence": "no model: drawn by arithmetic",
            "sampler": f"stripes of {self.width}x{self.height} pixels, noise {self.noise:g}",
            **self.settings,
        }
