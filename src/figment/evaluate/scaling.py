"""How accuracy moves as generated images are added to real ones: where it turns, from where on it hurts, and when to stop.

More helps at first and then less, or hurts (Azizi et al. 2023, Table 4; the best share of generated images has a U of error around
it, 2510.08095). The stopping rule is that of marginal value (2605.11231): enough is where the last block was not worth making.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from figment.errors import FigmentError
from figment.evaluate.accuracy import paired_difference
from figment.types import Result

RESAMPLES = 2_000
AT_ONCE = 100  # resamples, whose weights are n numbers each


@dataclass(frozen=True)
class Scaling:
    """A curve: which test images were right with each number of generated ones.

    Args:
        images: P numbers of generated images in all, rising; the first may be 0.
        right: float (P, S, n) in [0, 1], for each number and seed.
        groups: int (n,), which burst, video or patient a test image is of; None: all are independent.
    """

    images: Sequence[int]
    right: np.ndarray
    groups: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.right.ndim != 3 or len(self.right) != len(self.images) or len(self.images) < 2:
            raise FigmentError(
                "A scaling curve needs two numbers of images or more, and for each which test images were right, (S, n): it was"
                f" given {len(self.images)} numbers and an array of {self.right.shape}."
            )
        if any(a >= b for a, b in pairwise(self.images)):
            raise FigmentError(f"The numbers of images of a scaling curve must rise, and are {list(self.images)[:20]}.")

    def difference(self, a: int, b: int) -> Result:
        """By how much the b-th number of images is better than the a-th, paired by test image and seed."""
        return paired_difference(self.right[a], self.right[b], "gain", groups=self.groups)


@dataclass(frozen=True)
class Turning:
    """Where adding stops helping: the place of the best number in the curve, and the 95 % interval of that place. At the last
    place, the curve had not turned yet."""

    at: int
    ci: tuple[int, int]


@dataclass(frozen=True)
class Stop:
    """What the stopping rule says: from the ``at``-th number on, a block brings ``rate``, less than it should; None where all were
    worth it. To know, it looked at the next number too. ``was_right`` tells, from the rest of the curve, that nothing later was worth its
    images; ``missed`` is what the best later one gained."""

    at: int | None
    rate: float
    ci: tuple[float, float]
    was_right: bool
    missed: float


def turning_point(curve: Scaling, *, resamples: int = RESAMPLES, seed: int = 0) -> Turning:
    """The number of images with the highest accuracy, of equals the smallest, and its interval.

    The interval resamples test images (or their groups) and seeds, and takes the middle 95 % of the places that the maximum has then. Of
    S seeds S - 1 are drawn, so that their spread is not underestimated.
    """
    rng, n_seeds = np.random.default_rng(seed), curve.right.shape[1]
    of_units = _sums(curve)  # (P, S, G)
    places = []
    for start in range(0, resamples, AT_ONCE):
        count = min(AT_ONCE, resamples - start)
        n_units = of_units.shape[2]
        weights = rng.multinomial(n_units, np.full(n_units, 1 / n_units), count)  # (B, G)
        chosen = rng.multinomial(max(1, n_seeds - 1), np.full(n_seeds, 1 / n_seeds), count)  # (B, S)
        drawn = np.einsum("psb,bs->pb", of_units @ weights.T, chosen)
        places += [drawn.argmax(0)]
    low, high = np.quantile(np.concatenate(places), (0.025, 0.975), method="inverted_cdf")
    return Turning(int(curve.right.mean((1, 2)).argmax()), (int(low), int(high)))


def _sums(curve: Scaling) -> np.ndarray:
    """Right answers of each group of test images, or of each image, float (P, S, G)."""
    if curve.groups is None:
        return curve.right
    of_group = np.unique(curve.groups, return_inverse=True)[1]
    sums = np.stack([np.bincount(of_group, weights=row) for row in curve.right.reshape(-1, len(of_group))])
    return sums.reshape(*curve.right.shape[:2], -1)


def hurts_from(curve: Scaling) -> int | None:
    """The place from which on every number of images is surely worse than none; None where there is no such, or no point at 0."""
    if curve.images[0] != 0:
        return None
    worse = [curve.difference(0, b).ci[1] < 0 for b in range(1, len(curve.images))]
    not_worse = [b for b, is_worse in enumerate(worse, start=1) if not is_worse]
    first = (not_worse[-1] if not_worse else 0) + 1
    return first if first < len(curve.images) else None


def stopping_rule(curve: Scaling, worth: float = 0.002, block: int = 100) -> Stop:
    """Stop at the first number of images from which the next one brings less than ``worth`` (of accuracy) for each ``block`` images.

    It is sequential: it needs no later number than the one that it looked at. What came later only judges it.
    """
    n = np.asarray(curve.images)
    for at in range(len(n) - 1):
        blocks = (n[at + 1] - n[at]) / block
        gain = curve.difference(at, at + 1)
        if gain.value / blocks < worth:
            later = [(curve.difference(at, b).value, (n[b] - n[at]) / block) for b in range(at + 1, len(n))]
            was_right = all(value / of < worth for value, of in later)
            ci = (gain.ci[0] / blocks, gain.ci[1] / blocks)
            return Stop(at, gain.value / blocks, ci, was_right, max(0.0, *(value for value, _ in later)))
    gain, blocks = curve.difference(-2, -1), (n[-1] - n[-2]) / block
    return Stop(None, gain.value / blocks, (gain.ci[0] / blocks, gain.ci[1] / blocks), True, 0.0)
