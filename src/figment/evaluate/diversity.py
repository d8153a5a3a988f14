"""How different the images of one class are (Fan et al. 2024, arXiv 2312.04567, section 3: within-class diversity)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from figment.evaluate.sets import QUANTILE, by_class, pair
from figment.types import Result

FEWEST = 2  # images of each class


def diversity(
    real: np.ndarray,
    generated: np.ndarray,
    labels: tuple[np.ndarray, np.ndarray],
    class_names: Sequence[str],
    extractor: str,
    seed: int = 0,
) -> Result:
    """The standard deviation of the features inside a class, the mean over dimensions and then over classes.

    Deviations are of the kind of image, not of the set: variances are divided by n - 1, so few images do not look alike.

    Args:
        real, generated: features, float (n, D) and (m, D).
        labels: int (n,) and (m,) in [0, N), of the real and of the generated images.
        class_names: N names.

    Returns:
        The result ``diversity``, with ``per_class`` and a 95 % interval (the deviation's derivative to each image's weight). ``details``
        holds ``extractor``, ``standard_error``, ``of_real``, the same of the real images of these classes, and by how much two halves of the
        images of every class differ, of those with four: ``floor_real`` and ``floor_generated``.

    Raises FigmentError for features that do not fit or are not finite, a class that has no real images, and one with fewer than two.
    """
    real, generated = pair(real, generated, "Within-class diversity", FEWEST)
    of_class = by_class(labels, class_names, FEWEST)
    made = [generated[there] for _, there in of_class.values()]
    own = [real[there] for there, _ in of_class.values()]
    found = [_deviation(x) for x in made]
    value, error = float(np.mean([d for d, _ in found])), float(np.sum([v for _, v in found]) ** 0.5 / len(found))
    rng = np.random.default_rng(seed)
    details = {
        "extractor": extractor,
        "standard_error": error,
        "of_real": float(np.mean([_deviation(x)[0] for x in own])),
        "floor_real": _floor(own, rng),
        "floor_generated": _floor(made, rng),
    }
    ci = max(0.0, value - QUANTILE * error), value + QUANTILE * error
    per_class = dict(zip(of_class, (d for d, _ in found), strict=True))
    return Result("diversity", value, len(generated), ci, per_class, details=details)


def _floor(classes: list[np.ndarray], rng: np.random.Generator) -> float | None:
    """By how much two halves of every class differ in the mean; None where no class has two images for each half."""
    of = [(x, rng.permutation(len(x)) % 2) for x in classes if len(x) >= 2 * FEWEST]
    if not of:
        return None
    first, second = (float(np.mean([_deviation(x[part == half])[0] for x, part in of])) for half in (0, 1))
    return abs(first - second)


def _deviation(x: np.ndarray) -> tuple[float, float]:
    """The mean over dimensions of the standard deviation of one class, float (n, D), and the variance of that mean."""
    squares = np.square(x - x.mean(axis=0))
    deviations = np.sqrt(squares.sum(axis=0) / (len(x) - 1))  # (D,)
    moved = deviations > 0  # a dimension that does not move has no derivative, and no part in it
    influence = ((squares[:, moved] - squares[:, moved].mean(axis=0)) / (2 * deviations[moved])).sum(axis=1) / x.shape[
        1
    ]
    return float(deviations.mean()), float(influence.var(ddof=1)) / len(x)
