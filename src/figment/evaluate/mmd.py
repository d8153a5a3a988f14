"""Maximum mean discrepancy of two sets of features (Gretton et al. 2012): KID and CMMD.

Both are means of a kernel over pairs of images. One pass over the pairs sums it between every two groups of images; the whole, and
what it is without any group, are sums of these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from figment.evaluate.sets import GROUPS, dealt, floor, jackknife, pair, unit
from figment.neighbours import slices
from figment.types import Result

BLOCK = 1024  # images whose products with all others are held at a time: 80 MB of them for 10,000
FEWEST = 4  # images of each kind: two halves of two
SIGMA = 10.0  # of CMMD's kernel
SCALE = 1000.0  # what CMMD is multiplied by, to be readable

#: Products (b, m), which may be overwritten, and the squared lengths of both sides, (b, 1) and (m,), to the kernel, float32 (b, m).
Kernel = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def kid(real: np.ndarray, generated: np.ndarray, extractor: str, seed: int = 0) -> Result:
    """Kernel distance: the unbiased squared MMD with the kernel ``(x y / D + 1)^3`` (Binkowski et al. 2018, section 4).

    KID on the 2048 features of FID's Inception network. The mean is over all pairs; torch-fidelity's default takes it over 100 random
    subsets of 1,000, which has the same expectation and more noise. It may be negative for images of one kind.

    Args:
        real, generated: features, float (n, D) and (m, D), at least `FEWEST` rows each.
        extractor: what made the features.
        seed: of the groups.

    Returns:
        The result ``kid/<extractor>``, ``n`` the size of the smaller set, with a 95 % interval (jackknife over groups);
        ``details`` as `figment.evaluate.sets.floor` has them, with ``n_real``, ``n_generated`` and ``standard_error``.

    Raises FigmentError for arrays that do not fit, too few rows, or features that are not finite.
    """
    real, generated = pair(real, generated, "A kernel distance", FEWEST)
    dimensions = real.shape[1]

    def polynomial(products: np.ndarray, _: np.ndarray, __: np.ndarray) -> np.ndarray:
        products /= dimensions
        products += 1
        return products * products * products

    return _measured("kid", real, generated, polynomial, extractor, seed, unbiased=True)


def cmmd(real: np.ndarray, generated: np.ndarray, extractor: str, seed: int = 0) -> Result:
    """CMMD: 1,000 times the squared MMD of unit features with a Gaussian kernel of width 10, every image paired with itself too
    (Jayasumana et al. 2024, section 4.2).

    Published numbers are those of CLIP ViT-L/14 at 336 pixels; on another encoder it is the same distance with other numbers.
    Arguments, result (``cmmd/<extractor>``) and errors as `kid` has them.
    """
    real, generated = (unit(x) for x in pair(real, generated, "CMMD", FEWEST))
    gamma = -0.5 / SIGMA**2

    def gaussian(products: np.ndarray, of_rows: np.ndarray, of_columns: np.ndarray) -> np.ndarray:
        products *= -2
        products += of_rows
        products += of_columns
        products *= gamma
        return np.expm1(
            products, out=products
        )  # less 1, which cancels in the distance: float32 keeps the digits that count

    return _measured("cmmd", real, generated, gaussian, extractor, seed, unbiased=False, scale=SCALE)


@dataclass(frozen=True)
class _Sums:
    """Of a kernel, between groups of real (x) and generated (y) images: float (G, G); ``xx_self`` (G,) are of images with themselves,
    which ``xx`` leaves out; ``n`` and ``m`` (G,) count images."""

    xx: np.ndarray
    yy: np.ndarray
    xy: np.ndarray
    xx_self: np.ndarray
    yy_self: np.ndarray
    n: np.ndarray
    m: np.ndarray

    def distance(self, x: np.ndarray, y: np.ndarray, unbiased: bool) -> float:
        """Of the real images in some groups to the generated ones in others, bool (G,) each."""
        own = _mean_within(self.xx, self.xx_self, self.n, x, unbiased)
        theirs = _mean_within(self.yy, self.yy_self, self.m, y, unbiased)
        return own + theirs - 2 * float(self.xy[np.ix_(x, y)].sum() / (self.n[x].sum() * self.m[y].sum()))


def _mean_within(sums: np.ndarray, itself: np.ndarray, counts: np.ndarray, of: np.ndarray, unbiased: bool) -> float:
    n = counts[of].sum()
    total = sums[np.ix_(of, of)].sum()
    return float(total / (n * (n - 1)) if unbiased else (total + itself[of].sum()) / n**2)


def _measured(
    metric: str,
    real: np.ndarray,
    generated: np.ndarray,
    kernel: Kernel,
    extractor: str,
    seed: int,
    *,
    unbiased: bool,
    scale: float = 1.0,
) -> Result:
    groups = min(GROUPS, len(real) // 2, len(generated) // 2)
    sums, of = _sums(real, generated, kernel, seed, groups), np.arange(groups)
    without = [scale * sums.distance(of != g, of != g, unbiased) for g in of]
    error, half = jackknife(np.array(without))

    def distance(x: np.ndarray, y: np.ndarray) -> float:
        whole = np.ones(1, bool)
        return scale * _sums(x, y, kernel, seed, 1).distance(whole, whole, unbiased)

    details: dict[str, Any] = {
        "extractor": extractor,
        "n_real": len(real),
        "n_generated": len(generated),
        "standard_error": error,
        **floor(distance, real, generated, seed),
    }
    value = scale * sums.distance(of >= 0, of >= 0, unbiased)
    n = min(len(real), len(generated))
    return Result(f"{metric}/{extractor}", value, n, (value - half, value + half), details=details)


def _sums(real: np.ndarray, generated: np.ndarray, kernel: Kernel, seed: int, groups: int) -> _Sums:
    """The products are float32, as in torch-fidelity; the sums are not."""
    rng = np.random.default_rng(seed)
    sets = []
    for x in (real, generated):
        of = dealt(len(x), groups, rng)
        order = np.argsort(of, kind="stable")  # so that a group is one piece of the columns
        sets.append((np.ascontiguousarray(x[order], np.float32), np.searchsorted(of[order], np.arange(groups))))
    (x, x_starts), (y, y_starts) = sets
    xx, xx_self = _within(x, x_starts, kernel)
    yy, yy_self = _within(y, y_starts, kernel)
    xy = np.zeros((groups, groups))
    of_x = np.square(x).sum(axis=1)
    of_y = np.square(y).sum(axis=1)
    for rows in slices(len(x), BLOCK):
        values = kernel(x[rows] @ y.T, of_x[rows, None], of_y)
        _add(xy, values, rows, x_starts, y_starts)
    n, m = (np.diff([*starts, len(part)]) for part, starts in sets)
    return _Sums(xx, yy, xy, xx_self, yy_self, n, m)


def _within(x: np.ndarray, starts: np.ndarray, kernel: Kernel) -> tuple[np.ndarray, np.ndarray]:
    """The sums between groups of one set without the diagonal, (G, G), and those of the diagonal, (G,)."""
    groups, of_x = len(starts), np.square(x).sum(axis=1)
    sums, itself = np.zeros((groups, groups)), np.zeros(len(x))
    for rows in slices(len(x), BLOCK):
        # Pairs of this block with itself and with what comes after: a kernel is symmetric
        values = kernel(x[rows] @ x[rows.start :].T, of_x[rows, None], of_x[rows.start :])
        n = values.shape[0]
        itself[rows] = values[np.arange(n), np.arange(n)]
        values[np.arange(n), np.arange(n)] = 0
        values[:, :n] /= 2  # it has both (i, j) and (j, i)
        half = np.zeros((groups, groups))
        columns = np.maximum(starts - rows.start, 0)
        _add(half, values, rows, starts, columns)
        sums += half + half.T
    return sums, np.add.reduceat(itself, starts)


def _add(sums: np.ndarray, values: np.ndarray, rows: slice, of_rows: np.ndarray, columns: np.ndarray) -> None:
    """Add a block's values (b, m) to the sums between groups: those that start at ``of_rows`` among all rows, and at ``columns``."""
    ends = np.append(columns[1:], values.shape[1])
    kept = np.flatnonzero(ends > columns)  # groups before this block have no columns in it
    by_column = np.add.reduceat(values, columns[kept], axis=1, dtype=np.float64)  # (b, kept)
    group = np.searchsorted(of_rows, np.arange(rows.start, rows.start + len(values)), side="right") - 1
    for g in np.unique(group):
        sums[g, kept] += by_column[group == g].sum(axis=0)
