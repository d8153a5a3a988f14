"""A test set that is looked at while it grows: at which level a look may speak, so that all of them together err in 2.5 %.

Whoever tests again after every hundred new images, and stops where the answer pleases, is falsely pleased in 8 % of studies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.signal import fftconvolve
from scipy.special import ndtr, ndtri

from figment.evaluate.kind import LEVEL

#: Of the integration, in Brownian time: bounds lie near 2.2 whatever the look, but for the very first, which spend nothing.
GRID = np.linspace(-7, 7, 16_385)
NOTHING = 1e-10  # of the level, below which a look spends none of it


@dataclass(frozen=True)
class Look:
    """The ``number``-th look, after those at ``before`` images; of ``planned`` images, if that was said; ``level`` is one-sided."""

    number: int
    before: tuple[int, ...]
    planned: int | None
    level: float

    @property
    def said(self) -> bool:
        """Whether there is anything to say: one look at all images there will be needs no word."""
        return self.number > 1 or self.planned is not None


def look_at(n: int, looked_at: Sequence[int], planned: int | None) -> Look:
    """This look at ``n`` test images, after those at fewer. Other looks at as many, or at more, were not at a set that grew to this."""
    before = tuple(sorted({m for m in looked_at if m < n}))
    number = len(before) + 1
    if planned is not None:
        level = float(ndtr(-obrien_fleming([min(1.0, m / planned) for m in (*before, n)])[-1]))
    else:
        level = LEVEL if number == 1 else LEVEL / (number * (number + 1))
    return Look(number, before, planned, level)


def spent(fraction: float) -> float:
    """How much of the level may be spent by the time that ``fraction`` of the images is there: the spending function of Lan and
    DeMets (1983) in the manner of O'Brien and Fleming (1979), on one side."""
    return float(2 * ndtr(ndtri(LEVEL / 2) / math.sqrt(fraction)))


def obrien_fleming(fractions: Sequence[float]) -> list[float]:
    """The z that each look must pass, at these fractions of the planned images, in (0, 1] and rising.

    The sums of independent images are a Brownian motion: its density below the bounds of all looks so far is carried on to the next one
    (Armitage, McPherson and Rowe 1969), whose bound leaves out what may be spent by then. Infinite where nothing is left to spend.
    """
    bounds: list[float] = []
    used, time = 0.0, 0.0
    density = np.zeros(0)
    for fraction in fractions:
        now = spent(fraction) - used
        if now < NOTHING:  # such a look leaves the density as it was
            bounds.append(math.inf)
            continue
        kernel = np.exp(-np.square(GRID) / (2 * (fraction - time)))
        kernel /= kernel.sum()
        if time:
            density = fftconvolve(density, kernel, mode="same")
            beyond = np.cumsum(density[::-1])[::-1] - density / 2  # the chance of what lies above each point
            bound = float(np.interp(-now, -beyond, GRID))
        else:
            density, bound = kernel, -float(ndtri(now)) * math.sqrt(fraction)
        density = np.where(bound > GRID, density, 0.0)
        bounds.append(bound / math.sqrt(fraction))
        used, time = used + now, fraction
    return bounds
