"""Sliced Wasserstein distance between two sets of features (Bonneel et al. 2015), as MIND takes it (arXiv 2605.06797)."""

from __future__ import annotations

import numpy as np

from figment.evaluate.sets import GROUPS, as_many, dealt, floor, jackknife, pair
from figment.neighbours import slices
from figment.types import Result

FEWEST = 4  # images of each kind: two halves of two
PROJECTIONS = 512
MOST = 20_000  # images on each side
BLOCK = 64  # projections held at a time: 10 MB of each set of 20,000


def mind_distance(real: np.ndarray, generated: np.ndarray, seed: int = 0, projections: int = PROJECTIONS) -> float:
    """The mean, over random directions, of the squared distance between sorted projections.

    In one dimension the optimal transport between two sets of equal size pairs the smallest with the smallest. It needs no
    covariance, so a tenth of the images that a Fréchet distance takes are enough; the excess of small sets falls as 1 / n too.

    Args:
        real, generated: features, float (n, D) and (m, D); of the larger set as many are drawn as the smaller has.
        seed: of the directions and the draw.

    Returns:
        The distance, in squared units of the features; D times it is the squared gap of two sets that are shifted alone.

    Raises FigmentError for arrays that do not fit, or features that are not finite.
    """
    real, generated = pair(real, generated, "MIND")
    return float(_without_groups(real, generated, seed, projections, 0)[0][0])


def mind(real: np.ndarray, generated: np.ndarray, extractor: str, seed: int = 0) -> Result:
    """`mind_distance` with a 95 % interval (jackknife over groups of images) and a floor.

    Args:
        real, generated: features, float (n, D) and (m, D), at least `FEWEST` rows each.

    Returns:
        The result ``mind``; ``n`` images of each kind. ``details`` holds ``extractor``, ``projections``, ``standard_error`` and
        `figment.evaluate.sets.floor`.

    Raises FigmentError as `mind_distance` does, and for too few rows.
    """
    real, generated = pair(real, generated, "MIND", FEWEST)
    groups = min(GROUPS, len(real) // 2, len(generated) // 2)
    found, n = _without_groups(real, generated, seed, PROJECTIONS, groups)
    value, (error, half) = float(found[0]), jackknife(found[1:])
    details = {
        "extractor": extractor,
        "projections": PROJECTIONS,
        "standard_error": error,
        **floor(lambda a, b: mind_distance(a, b, seed), real, generated, seed),
    }
    return Result("mind", value, n, (max(0.0, value - half), value + half), details=details)


def _without_groups(
    real: np.ndarray, generated: np.ndarray, seed: int, projections: int, groups: int
) -> tuple[np.ndarray, int]:
    """The distance of all images, and without each group in turn: float (groups + 1,); and how many there are of each kind.

    What is sorted once stays sorted when a group is taken out of it.
    """
    rng = np.random.default_rng(seed)
    first, second = as_many(real, generated, MOST, rng)
    n = len(first)
    of = dealt(n, max(groups, 1), rng), dealt(n, max(groups, 1), rng)
    directions = rng.normal(size=(projections, first.shape[1]))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    sums = np.zeros(groups + 1)
    for part in slices(projections, BLOCK):
        along = [directions[part] @ x.T for x in (first, second)]  # (p, n) each
        order = [np.argsort(values, axis=1) for values in along]
        sorted_ = [np.take_along_axis(v, o, axis=1) for v, o in zip(along, order, strict=True)]
        group = [own[o] for own, o in zip(of, order, strict=True)]
        sums[0] += np.square(sorted_[0] - sorted_[1]).mean(axis=1).sum()
        for g in range(groups):
            left = [v[own != g].reshape(len(v), -1) for v, own in zip(sorted_, group, strict=True)]
            sums[g + 1] += np.square(left[0] - left[1]).mean(axis=1).sum()
    return sums / projections, n
