"""By how much one classifier is better than another, for other test images and other generated sets of the same kind.

The interval of `figment.evaluate.accuracy.paired_difference` is about other test images alone. A generated set is one draw of its
generator: two sets of one recipe "differ" in 18 % of studies at 10,000 test images if that is forgotten.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from figment.errors import FigmentError

#: For plans, where nothing is measured yet: the share of test images that just one of two classifiers gets right, and the standard
#: deviation of accuracy between sets of one recipe. What comparisons on the starter had.
PLANNED_DISCORDANCE, PLANNED_SET_SE = 0.05, 0.002
REACH = 2.80  # 1.96 + 0.84: standard errors at which four of five studies have an interval above zero


def smallest_visible(n: int, discordance: float = PLANNED_DISCORDANCE, set_se: float = PLANNED_SET_SE) -> float:
    """The difference, in [0, 1], that ``n`` test images show in four of five studies."""
    least = 2 / n if n <= 100 else 0.0  # the two images that the interval adds
    return REACH * math.sqrt(max(discordance, least) / n + set_se**2)


def images_for(effect: float, discordance: float = PLANNED_DISCORDANCE, set_se: float = PLANNED_SET_SE) -> int | None:
    """How many test images show a difference of ``effect`` in four of five studies; None where no number does, since sets of one
    recipe differ by as much."""
    left = (effect / REACH) ** 2 - set_se**2
    return math.ceil(discordance / left) if left > 0 else None


@dataclass(frozen=True)
class Difference:
    """``value`` is the mean difference, ``ci`` its interval (of 95 % unless another was asked for), both in [-1, 1]; ``p`` is one-sided, of "not better".

    ``image_se`` and ``set_se`` are the two parts of the standard error: the test images, and the draw of the set (or of the
    placebo's labels). ``discordance`` is the mean squared difference: for single classifiers the share of images that just one
    gets right.
    """

    value: float
    ci: tuple[float, float]
    p: float
    image_se: float
    set_se: float
    discordance: float

    def smallest_visible(self, n: int) -> float:
        """The difference that so many test images show in four of five studies."""
        return smallest_visible(n, self.discordance, self.set_se)


def difference(
    d: np.ndarray,
    *,
    resampled: np.ndarray | None = None,
    shuffles: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    level: float = 0.95,
) -> Difference:
    """The mean of ``d``, with an interval for the kind of set, or for these very classifiers.

    The image part is Bonett and Price's (2012), on differences in [-1, 1]; with ``groups`` it is at least that of the groups'
    sums. With ``resampled`` the variance between sets is added, less the noise of test images that it holds as well (which the
    image part has already). With ``shuffles``, K placebos, the right labels count as one more shuffle: their luck is in.

    Args:
        d: float (n,), the difference on each test image: correct here less correct there, means over seeds if there are several.
        resampled: float (B, n), the same of B sets drawn again, each with its own training seed. None: the claim is about
            these classifiers.
        shuffles: bool or float (K, n), correctness of K placebos, where ``d`` is to their mean and there is no ``resampled``.
        groups: int (n,), which burst, video or patient a test image is of.
        level: of the interval; above .95 where it is one of many.

    Raises FigmentError for arrays that do not fit.
    """
    d = np.asarray(d, np.float64)
    n = len(d)
    others = [a for a in (resampled, shuffles, groups) if a is not None]
    if d.ndim != 1 or not n or any(np.shape(a)[-1] != n for a in others):
        raise FigmentError("A difference needs one number for each test image, the same images everywhere.")
    centre = d.sum() / (n + 2)
    image = float(((d @ d + 2) / (n + 2) - centre**2) / (n + 2))
    parts: list[tuple[float, int]] = []  # variances that are estimates themselves, with their degrees of freedom
    if groups is not None:
        sums = np.bincount(np.unique(groups, return_inverse=True)[1], weights=d)
        g = len(sums)
        if g < 2:
            raise FigmentError("All test images are of one group: nothing can be said of others.")
        of_groups = float(g / (g - 1) * np.square(sums - sums.mean()).sum() / n**2)
        image = max(image, of_groups)
        parts.append((image, g - 1))
    sets = 0.0
    if resampled is not None:
        sets = variance_between(np.asarray(resampled, np.float64))
        parts.append((sets, len(resampled) - 1))
    elif shuffles is not None:
        k = len(shuffles)
        sets = variance_between(np.asarray(shuffles, np.float64)) * (1 + 1 / k)
        parts.append((sets, k - 1))
    variance = image + sets
    estimated = sum(v**2 / f for v, f in parts if f > 0)
    freedom = variance**2 / estimated if estimated > 0 else math.inf
    half = float(stdtrit(freedom, (1 + level) / 2)) * math.sqrt(variance)
    p = float(stdtr(freedom, -centre / math.sqrt(variance)))
    ci = (max(-1.0, float(centre - half)), min(1.0, float(centre + half)))
    return Difference(float(d.mean()), ci, p, math.sqrt(image), math.sqrt(sets), float(d @ d / n))


def variance_between(rows: np.ndarray) -> float:
    """The variance of the rows' means beyond what their test images alone would give: (B, n), 0 with one row."""
    if len(rows) < 2:
        return 0.0
    return max(0.0, float(rows.mean(1).var(ddof=1) - rows.var(axis=0, ddof=1).mean() / rows.shape[1]))
