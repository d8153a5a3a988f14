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
) -> Result:
    """The standard deviation of the features inside a class, the mean over dimensions and then over classes.

    Deviations are of the kind of image, not of the set: variances are divided by n - 1, so few images do not look alike.

    Args:
        real, generated: features, float (n, D) and (m, D).
        labels: int (n,) and (m,) in [0, N), of the real and of the generated images.
        class_names: N names.

    Returns:
        The result ``diversity``, with ``per_class`` and a 95 % interval (the deviation's derivative to each image's weight). ``details``
        holds ``extractor``, ``standard_error``, and ``of_real``, the same of the real images of these classes, with ``real_error``.

    Raises FigmentError for features that do not fit or are not finite, a class that has no real images, and one with fewer than two.
    """
    real, generated = pair(real, generated, "Within-class diversity", FEWEST)
    of_class = by_class(labels, class_names, FEWEST)
    made = {name: _deviation(generated[there]) for name, (_, there) in of_class.items()}
    own = {name: _deviation(real[there]) for name, (there, _) in of_class.items()}
    (value, error), (of_real, real_error) = (_mean(list(found.values())) for found in (made, own))
    ci = max(0.0, value - QUANTILE * error), value + QUANTILE * error
    details = {"extractor": extractor, "standard_error": error, "of_real": of_real, "real_error": real_error}
    return Result(
        "diversity", value, len(generated), ci, {name: one[0] for name, one in made.items()}, details=details
    )


def _deviation(x: np.ndarray) -> tuple[float, float]:
    """The mean over dimensions of the standard deviation of one class, float (n, D), and the variance of that mean."""
    squares = np.square(x - x.mean(axis=0))
    deviations = np.sqrt(squares.sum(axis=0) / (len(x) - 1))  # (D,)
    moved = deviations > 0  # a dimension that does not move has no derivative, and no part in it
    influence = ((squares[:, moved] - squares[:, moved].mean(axis=0)) / (2 * deviations[moved])).sum(axis=1) / x.shape[1]
    return float(deviations.mean()), float(influence.var(ddof=1)) / len(x)


def _mean(found: list[tuple[float, float]]) -> tuple[float, float]:
    """The mean over classes, and its standard error."""
    values, variances = np.array(found).T
    return float(values.mean()), float(variances.sum() ** 0.5 / len(values))
