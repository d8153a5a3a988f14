"""Do generated images look like the real ones? What He et al. 2023 report in Table A.16.

Neither number says what a classifier learns from the images: in that table the CLIP filter, which helps the
classifier, makes the distance larger. They describe a set; the classification accuracy score judges it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.special import stdtrit

from figment.errors import FigmentError
from figment.evaluate.accuracy import Answers, accuracy
from figment.types import Result


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Fréchet distance between two Gaussians with the means and covariances of two sets of features (Heusel et al. 2017).

    ``|mean_a - mean_b|^2 + tr(C_a) + tr(C_b) - 2 tr((C_a C_b)^(1/2))``, in float64. A set's centred features, divided by
    the square root of n - 1, are a root of its covariance, and the last trace is the sum of the singular values of the
    product of two such roots. Nothing is squared on the way, so that directions without variance add no noise.

    A finite set is always some way from its own kind: the distance is too large by about a constant times
    ``1 / n + 1 / m``, for unit Gaussians ``D + D (D + 1) / 4``. Sets of different sizes are therefore not comparable,
    and with fewer images than D the number says more about their count than about the images. `frechet` estimates
    the excess.

    Args:
        a: features, float (n, D), n at least 2.
        b: features, float (m, D), m at least 2.

    Returns:
        The distance, in squared units of the features, 0 for equal means and covariances. FID is this on the 2048
        features of one certain Inception network; on an encoder's normalised features it lies in [0, 4].

    Raises:
        FigmentError: for arrays that do not fit, too few rows, or features that are not finite.
    """
    a, b = (np.asarray(x, dtype=np.float64) for x in (a, b))
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(*a.shape, *b.shape) < 1 or min(len(a), len(b)) < 2:
        raise FigmentError(
            "A Fréchet distance needs two sets of at least 2 images, with features of the same encoder: arrays of "
            f"shape (n, D) and (m, D). It was given {a.shape} and {b.shape}."
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise FigmentError("Some features are NaN or infinite: no distance can be measured. Check the encoder.")
    root_a, root_b = _root(a), _root(b)
    gap = a.mean(axis=0) - b.mean(axis=0)
    overlap = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    distance = gap @ gap + np.square(root_a).sum() + np.square(root_b).sum() - 2 * overlap
    return max(0.0, float(distance))  # rounding may leave -1e-15


def frechet(
    features_a: np.ndarray, features_b: np.ndarray, extractor: str, seed: int = 0, n_groups: int = 20
) -> Result:
    """`frechet_distance` of generated images and real ones, with a 95 % interval.

    The interval is a jackknife: both sets are dealt into groups, the distance is measured again without each group in
    turn, and the spread of these gives the standard error. It covers what sets of these sizes measure on average, with
    their excess. A bootstrap would not do: images drawn twice are an excess of their own, and its distances lie
    mostly above the one measured.

    Args:
        features_a: of generated images, float (n, D).
        features_b: of real images, float (m, D), from the same extractor.
        extractor: what made the features, as an encoder's name. Call the result FID only where it is that Inception.
        seed: of the grouping.
        n_groups: at least 2; there are as many distances to measure, each of them O(D^3).

    Returns:
        ``value`` as others report it, not corrected; named ``frechet/<extractor>``; ``n`` is the size of the smaller
        set. ``details`` holds ``extractor``, ``n_a``, ``n_b``, ``dimensions``, ``standard_error``, ``without_excess``
        (the value less the excess that the jackknife estimates; near 0, and at times below it, for images of one
        kind) and ``note``, which is not empty where there are fewer images than dimensions.

    Raises:
        FigmentError: as `frechet_distance` does, and for fewer images than groups.
    """
    value = frechet_distance(features_a, features_b)
    n_a, n_b, dimensions = len(features_a), len(features_b), np.shape(features_a)[1]
    smaller = min(n_a, n_b)
    if not 2 <= n_groups <= smaller or smaller - math.ceil(smaller / n_groups) < 2:
        raise FigmentError(
            f"The interval of a Fréchet distance needs at least 2 groups, none of them empty, and 2 images without "
            f"any one of them. There are {n_groups} groups for {n_a} and {n_b} images: set n_groups, or take more images."
        )
    a, b = np.asarray(features_a, dtype=np.float64), np.asarray(features_b, dtype=np.float64)
    rng = np.random.default_rng(seed)
    group_a, group_b = (rng.permutation(n) % n_groups for n in (n_a, n_b))
    without = np.array([frechet_distance(a[group_a != g], b[group_b != g]) for g in range(n_groups)])
    error, half = jackknife(without)
    note = (
        f"{smaller:,} images for {dimensions:,} dimensions: most of the distance may be excess"
        if smaller <= dimensions
        else ""
    )
    details = {
        "extractor": extractor,
        "n_a": n_a,
        "n_b": n_b,
        "dimensions": dimensions,
        "standard_error": error,
        # The excess falls as 1 / n: what leaving out a group adds, times the groups that are left, is all of it.
        "without_excess": value - (n_groups - 1) * (float(without.mean()) - value),
        "note": note,
    }
    return Result(f"frechet/{extractor}", value, smaller, (max(0.0, value - half), value + half), details=details)


def jackknife(without: np.ndarray) -> tuple[float, float]:
    """The standard error of a number, and half of its 95 % interval (Student's), from what it is without each of G groups: float (G,)."""
    n = len(without)
    error = math.sqrt((n - 1) / n * float(np.square(without - without.mean()).sum()))
    return error, float(stdtrit(n - 1, 0.975)) * error


def recognisability(answers: Answers, labels: np.ndarray, class_names: Sequence[str], classifier: str) -> Result:
    """Share of generated images that a classifier calls by the class they were asked for ("CLIP accuracy").

    He et al. 2023 ask the zero-shot ViT-B/16, another than the one they tune. It is a check on label noise, not on
    usefulness: what is easiest to recognise is not the best to learn from.

    Args:
        answers: of the generated images: logits, float (n, N), or predictions, int (n,).
        labels: int (n,) in [0, N), the classes that were asked for.
        class_names: N names.
        classifier: whose answers these are.

    Returns:
        As `figment.evaluate.accuracy.accuracy`, in [0, 1], with ``details["classifier"]``. The interval is for more images of the same kind, and
        takes them to be independent of one another.

    Raises:
        FigmentError: as `figment.evaluate.accuracy.accuracy` does.
    """
    result = accuracy(answers, labels, class_names, "recognisability")
    return replace(result, details={**result.details, "classifier": classifier})


def _root(features: np.ndarray) -> np.ndarray:
    """R with ``R^T R`` = the covariance: (n, D) to (min(n, D), D)."""
    centred = features - features.mean(axis=0)
    return np.asarray(np.linalg.qr(centred, mode="r")) / math.sqrt(len(features) - 1)
