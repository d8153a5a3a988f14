"""By how much one classifier is better than another, for other test images and other generated sets of the same kind.

The interval of `figment.evaluate.accuracy.paired_difference` is about other test images alone. A generated set is one draw of its
generator: two sets of one recipe "differ" in 18 % of studies at 10,000 test images if that is forgotten.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from scipy.special import ndtri, stdtr, stdtrit

from figment.errors import FigmentError
from figment.evaluate.grouped import variance_of_mean

#: For plans, where nothing is measured yet: the share of test images that just one of two classifiers gets right, and the standard
#: deviation of accuracy between sets of one recipe. What comparisons on the starter had.
PLANNED_DISCORDANCE, PLANNED_SET_SE = 0.05, 0.002
LEVEL = 0.025  # of a one-sided test: half of what a 95 % interval leaves out
REACH = 2.80  # 1.96 + 0.84: standard errors at which four of five studies have an interval above zero


def smallest_visible(
    n: int, discordance: float = PLANNED_DISCORDANCE, set_se: float = PLANNED_SET_SE, level: float = LEVEL
) -> float:
    """The difference, in [0, 1], that ``n`` test images show in four of five studies."""
    least = 2 / n if n <= 100 else 0.0  # the two images that the interval adds
    return _reach(level) * math.sqrt(max(discordance, least) / n + set_se**2)


def images_for(
    effect: float,
    discordance: float = PLANNED_DISCORDANCE,
    set_se: float = PLANNED_SET_SE,
    level: float = LEVEL,
) -> int | None:
    """How many test images show a difference of ``effect`` in four of five studies; None where no number does, since sets of one
    recipe differ by as much."""
    left = (effect / _reach(level)) ** 2 - set_se**2
    return math.ceil(discordance / left) if left > 0 else None


def _reach(level: float) -> float:
    return REACH + float(ndtri(1 - level) - ndtri(1 - LEVEL))


@dataclass(frozen=True)
class Difference:
    """``value`` is the mean difference, ``ci`` its interval (95 % unless ``level`` is another), both in [-1, 1]; ``p`` is one-sided,
    of "not better".

    ``image_se`` and ``set_se`` are the two parts of the standard error: the test images, and the draw of the set (or of the
    placebo's labels). ``discordance`` is the mean squared difference: for single classifiers the share of images that just one
    gets right. ``centre`` and ``freedom`` (Student's degrees) make intervals of other levels; ``design`` is how many times
    the images' variance grows because they come in groups.
    """

    value: float
    ci: tuple[float, float]
    p: float
    image_se: float
    set_se: float
    discordance: float
    centre: float = math.nan
    freedom: float = math.inf
    level: float = LEVEL
    design: float = 1.0

    @property
    def se(self) -> float:
        """The standard error."""
        return math.hypot(self.image_se, self.set_se)

    def told(self) -> dict[str, Any]:
        """JSON-able, without numbers that are not finite; see `of`."""
        own = {name: value for name, value in asdict(self).items() if name == "ci" or math.isfinite(value)}
        return {**own, "ci": list(self.ci)}

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Difference:
        """What `told` gave."""
        known = {f.name: told[f.name] for f in fields(cls) if f.name in told}
        return cls(**{**known, "ci": tuple(told["ci"])})

    def smallest_visible(self, n: int) -> float:
        """The difference that so many test images show in four of five studies."""
        return smallest_visible(n, self.discordance * self.design, self.set_se, self.level)


def difference(
    d: np.ndarray,
    *,
    resampled: np.ndarray | None = None,
    shuffles: np.ndarray | None = None,
    sets: Sequence[tuple[float, int]] = (),
    groups: np.ndarray | None = None,
    level: float = LEVEL,
) -> Difference:
    """The mean of ``d``, with an interval for the kind of set, or for these very classifiers.

    The image part is Bonett and Price's (2012), on differences in [-1, 1]; with ``groups`` it is at least the
    groups' own. With ``resampled`` the variance between sets is added, less the noise of test images that it holds as well (which the
    image part has already). With ``shuffles``, K placebos, the right labels count as one more shuffle: their luck is in.

    Args:
        d: float (n,), the difference on each test image: correct here less correct there, means over seeds if there are several.
        resampled: float (B, n), the same of B sets drawn again, each with its own training seed. None: the claim is about
            these classifiers.
        shuffles: bool or float (K, n), correctness of K placebos, where ``d`` is to their mean and there is no ``resampled``.
        sets: what is known of the sets on either side already, each the standard error of its draw and of how many draws that is from,
            where ``d`` is between two recipes. In place of ``resampled``.
        groups: int (n,), which burst, video or patient a test image is of.
        level: of each side of the interval.

    Raises FigmentError for arrays that do not fit.
    """
    d = np.asarray(d, np.float64)
    n = len(d)
    others = [a for a in (resampled, shuffles, groups) if a is not None]
    if d.ndim != 1 or not n or any(np.shape(a)[-1] != n for a in others):
        raise FigmentError("A difference needs one number for each test image, the same images everywhere.")
    centre = d.sum() / (n + 2)
    image = alone = float(((d @ d + 2) / (n + 2) - centre**2) / (n + 2))
    parts: list[tuple[float, int]] = []  # variances that are estimates themselves, with their degrees of freedom
    if groups is not None:
        of_groups, more = variance_of_mean(d, groups)
        if not more:
            raise FigmentError("All test images are of one group: nothing can be said of others.")
        image = max(image, of_groups)
        parts.append((image, more))
    of_sets = [(se**2, draws - 1) for se, draws in sets]
    if resampled is not None:
        of_sets = [(variance_between(np.asarray(resampled, np.float64)), len(resampled) - 1)]
    elif shuffles is not None:
        k = len(shuffles)
        of_sets = [(variance_between(np.asarray(shuffles, np.float64)) * (1 + 1 / k), k - 1)]
    parts += of_sets
    between = sum(one for one, _ in of_sets)
    variance = image + between
    freedom = satterthwaite(variance, parts)
    p = float(stdtr(freedom, -centre / math.sqrt(variance)))
    return Difference(
        value=float(d.mean()),
        ci=interval(float(centre), math.sqrt(variance), freedom, level),
        p=p,
        image_se=math.sqrt(image),
        set_se=math.sqrt(between),
        discordance=float(d @ d / n),
        centre=float(centre),
        freedom=float(freedom),
        level=level,
        design=image / alone,
    )


def satterthwaite(variance: float, parts: Sequence[tuple[float, int]]) -> float:
    """Student's degrees of freedom of a variance, of which only ``parts`` have an error themselves: each with its own degrees."""
    estimated = sum(v**2 / f for v, f in parts if f > 0)
    return variance**2 / estimated if estimated > 0 else math.inf


def interval(centre: float, se: float, freedom: float, level: float) -> tuple[float, float]:
    """Student's, with ``level`` left out on each side, within [-1, 1]."""
    half = float(stdtrit(freedom, 1 - level)) * se
    return max(-1.0, centre - half), min(1.0, centre + half)


def variance_between(rows: np.ndarray) -> float:
    """The variance of the rows' means beyond what their test images alone would give: (B, n), 0 with one row."""
    if len(rows) < 2:
        return 0.0
    return max(0.0, float(rows.mean(1).var(ddof=1) - rows.var(axis=0, ddof=1).mean() / rows.shape[1]))
