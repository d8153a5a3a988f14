"""Features for measures that compare two sets."""

from __future__ import annotations

import numpy as np


def pair(
    n: int, m: int, d: int, shift: float = 0.3, scale: float = 0.9, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Real and generated features, float32 (n, d) and (m, d)."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)).astype(np.float32), (shift + scale * rng.normal(size=(m, d))).astype(np.float32)
