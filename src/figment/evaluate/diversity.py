"""How different the images of one class are (Fan et al. 2024, arXiv 2312.04567, section 3: within-class diversity)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

from figment.evaluate.sets import by_class, pair
from figment.types import Result

FEWEST = 3  # images of each class: of two, nothing tells how much their difference varies


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
        The result ``diversity``, with ``per_class`` and a 95 % interval (Student's; a jackknife over the images of each class). ``details``
        holds ``extractor``, ``standard_error``, ``of_real``, the same of the real images of these classes, and by how much two halves of the
        images of every class differ, of those with six: ``floor_real`` and ``floor_generated``.

    Raises FigmentError for features that do not fit or are not finite, a class that has no real images, and one with fewer than `FEWEST`.
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
    half = float(stdtrit(len(generated) - len(found), 0.975)) * error
    ci = max(0.0, value - half), value + half
    per_class = dict(zip(of_class, (d for d, _ in found), strict=True))
    return Result("diversity", value, len(generated), ci, per_class, details=details)


def _floor(classes: list[np.ndarray], rng: np.random.Generator) -> float | None:
    """By how much two halves of every class differ in the mean; None where no class has `FEWEST` for each half."""
    of = [(x, rng.permutation(len(x)) % 2) for x in classes if len(x) >= 2 * FEWEST]
    if not of:
        return None
    first, second = (float(np.mean([_deviation(x[part == half])[0] for x, part in of])) for half in (0, 1))
    return abs(first - second)


def _deviation(x: np.ndarray) -> tuple[float, float]:
    """The mean over dimensions of the standard deviation of one class, float (n, D), and the variance of that mean: a jackknife."""
    n, squares = len(x), np.square(x - x.mean(axis=0))
    total = squares.sum(axis=0)  # (D,)
    left = np.maximum(total - n / (n - 1) * squares, 0.0)  # without each image in turn, (n, D)
    without = np.sqrt(left / (n - 2)).mean(axis=1)
    return float(np.sqrt(total / (n - 1)).mean()), (n - 1) / n * float(np.square(without - without.mean()).sum())
