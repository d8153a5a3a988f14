"""How many different images a set is worth (Friedman and Dieng 2023, arXiv 2210.02410: the Vendi score)."""

from __future__ import annotations

import math

import numpy as np

from figment.evaluate.sets import GROUPS, dealt, finite, floor_of_score, jackknife, pair, unit
from figment.types import Result

FEWEST = 4  # images of each kind: two halves of two
TINY = 1e-12  # of the eigenvalues, which are 1 together: rounding


def vendi_score(features: np.ndarray) -> float:
    """The exponential of the entropy of the eigenvalues of ``K / n``, K the cosines of n images (Friedman and Dieng 2023, definition 3.1).

    The eigenvalues are those of the smaller of K / n, (n, n), and the second moments of the unit features, (D, D).

    Args:
        features: float (n, D).

    Returns:
        1 for copies of one image, n for images that have nothing in common.

    Raises FigmentError for no rows, or features that are not finite.
    """
    x = unit(finite(features, "The Vendi score"))
    return _of_moments(x @ x.T if len(x) < x.shape[1] else x.T @ x, len(x))


def vendi(real: np.ndarray, generated: np.ndarray, extractor: str, seed: int = 0) -> Result:
    """`vendi_score` of generated images, with a 95 % interval, and that of as many real ones beside it.

    The interval is a jackknife over groups of images, on the logarithm. (The entropy's derivative to an image's weight, ``-x^T log(C) x``,
    is cheaper, and a third too narrow where n is near D.) It is for what sets of this size score on average; the score grows with n, so
    compare equal ones.

    Args:
        real, generated: features, float (n, D) and (m, D), at least `FEWEST` rows each.

    Returns:
        The result ``vendi``; ``details`` holds ``extractor``, ``standard_error`` (of the logarithm) and
        `figment.evaluate.sets.floor_of_score`.

    Raises FigmentError for arrays that do not fit, too few rows, or features that are not finite.
    """
    real, generated = pair(real, generated, "The Vendi score", FEWEST)
    value, x = vendi_score(generated), unit(generated)
    if len(x) < x.shape[1]:  # the same cosines in n dimensions
        x = np.asarray(np.linalg.qr(x.T, mode="r")).T
    whole, groups = x.T @ x, min(GROUPS, len(x))
    of = dealt(len(x), groups, np.random.default_rng(seed))
    parts = (x[of == g] for g in range(groups))
    without = [_of_moments(whole - part.T @ part, len(x) - len(part)) for part in parts]
    error, half = jackknife(np.log(without))
    details = {"extractor": extractor, "standard_error": error, **floor_of_score(vendi_score, real, generated, seed)}
    ci = value * math.exp(-half), value * math.exp(half)
    return Result("vendi", value, len(generated), ci, details=details)


def _of_moments(moments: np.ndarray, n: int) -> float:
    """Of the sum of ``x x^T`` over n unit features, or of their cosines: the other eigenvalues are 0."""
    eigenvalues = np.linalg.eigvalsh(moments / n)
    p = eigenvalues[eigenvalues > TINY]
    return math.exp(-float((p * np.log(p)).sum()))
