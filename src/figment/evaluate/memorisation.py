"""Does the generator hand its training images back? Generated images that are nearer to one than photographs are to one another."""

from __future__ import annotations

import numpy as np

from figment.evaluate.accuracy import wilson
from figment.evaluate.leaks import Near, near_copies
from figment.evaluate.sets import QUANTILE, floor, pair, unit
from figment.types import Result

FEWEST = 4  # images of each kind: two halves of two


def memorised_share(real: np.ndarray, generated: np.ndarray, seed: int = 0) -> float:
    """The share of generated images that are nearer to a real one than 999 of 1,000 real ones are to another real one.

    By cosine, as `figment.evaluate.leaks.near_copies` and the filter `memorised` look for copies. New photographs of the same kind
    would pass once in 1,000 where there are many thousands of real ones to be near to, and oftener where there are few: of 100, twice in 100.

    Args:
        real: features of what the generator may have learnt from, float (n, D), n above 1.
        generated: features, float (m, D).

    Raises FigmentError for arrays that do not fit, too few rows, or features that are not finite.
    """
    return len(_near(*pair(real, generated, "Memorisation"), seed).pairs) / len(generated)


def memorisation(real: np.ndarray, generated: np.ndarray, extractor: str, seed: int = 0) -> Result:
    """`memorised_share` with Wilson's 95 % interval and its floors: one half of the real images looked at as if generated from the other.

    Returns:
        The result ``memorisation``, in [0, 1]; ``details`` holds ``extractor``, ``n_real``, ``by_chance``, the share among new
        photographs as so few real ones can tell it, ``p``, how likely so many are among such, and `figment.evaluate.sets.floor`.

    Raises FigmentError as `memorised_share` does, and for fewer than `FEWEST` images of either kind.
    """
    real, generated = pair(real, generated, "Memorisation", FEWEST)
    near, n = _near(real, generated, seed), len(generated)
    value = len(near.pairs) / n
    details = {
        "extractor": extractor,
        "n_real": len(real),
        "by_chance": near.by_chance / n,
        "p": near.p,
        **floor(lambda a, b: memorised_share(a, b, seed), real, generated, seed),
    }
    return Result("memorisation", value, n, wilson(value, n, QUANTILE), details=details)


def _near(real: np.ndarray, generated: np.ndarray, seed: int) -> Near:
    real, generated = (unit(x).astype(np.float32) for x in (real, generated))
    return near_copies(generated, real, seed)
