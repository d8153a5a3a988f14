"""Test images from bursts: neighbours agree, and count as one another's repetition only if the interval is told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from calibration.answers import answers_of
from calibration.cases import Case
from calibration.rows import Row, rate
from calibration.world import World
from figment.evaluate.kind import difference

BURST, AGREE = 5, 0.9


def bursts(case: Case, w: World, n_studies: int, sizes: Sequence[int], folder: Path) -> Iterator[Row]:
    """Which of the two classifiers (the recipe's, and the bias-removed one) is which is decided anew for each image, so that
    neither is better. Nine in ten of a burst are as its first image is, the tenth is any other image."""
    a, labels = answers_of(case, w, 0, folder), w.of("test")[1]
    right = [(a[name][0] == labels).astype(np.float32) for name in ("own", "unbiased")]
    for n in sizes:
        rng, said = np.random.default_rng([n, 37]), np.zeros(2, int)
        for _ in range(n_studies):
            groups = np.repeat(np.arange(n // BURST), BURST)
            one, other = ((right[0] - right[1])[rng.integers(len(labels), size=k)] for k in (n // BURST, n))
            one, other = (d * rng.choice((-1, 1), size=len(d)) for d in (one, other))
            d = np.where(rng.random(n) < AGREE, one[groups], other)
            said += difference(d).ci[0] > 0, difference(d, groups=groups).ci[0] > 0
        yield {
            "n": n,
            "studies": n_studies,
            "burst": BURST,
            "without groups": rate(int(said[0]), n_studies),
            "with groups": rate(int(said[1]), n_studies),
        }
