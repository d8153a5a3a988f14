"""Do the generated images reach every kind of real image there is? Coverage and density (Naeem et al. 2020, arXiv 2002.09797).

Around each real image lies a ball that reaches to its k-th nearest real neighbour. Coverage is the share of balls that hold a generated
image. Density counts the balls around each generated image, over k: it rises where images are all alike and near the middle of the real
ones, which is no merit for training. Of all that is measured without a training, coverage follows most closely what a classifier learns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from figment.errors import FigmentError
from figment.evaluate.accuracy import wilson
from figment.evaluate.fidelity import jackknife
from figment.neighbours import slices
from figment.types import Result

K = 5  # the paper's
FEWEST = 20  # images on each side, without which an interval is not worth its name
MOST = 10_000  # images on each side: the cost grows with their square
BLOCK = 512  # real images whose distances to all others are held at a time: 80 MB of them at the most
QUANTILE = 1.96  # of a 95 % interval
GROUPS = 20  # of images left out in turn, for the interval


@dataclass(frozen=True)
class Covered:
    """``coverage`` in [0, 1]; ``density`` from 0, about 1 for images of the same kind as the real ones."""

    coverage: float
    density: float


def covered(real: np.ndarray, generated: np.ndarray, k: int = K) -> Covered:
    """Coverage and density of real images by generated ones, as the paper has them.

    Both depend on how many images there are, so compare only sets of equal sizes. Of images of one kind, as many on both
    sides, about ``1 - 1 / 2^k`` are covered. A real image that is there more than k times has a ball without any room, which
    nothing can lie in.

    Args:
        real: features, float (n, D), n above k.
        generated: features, float (m, D) of the same encoder.
        k: which real neighbour a ball reaches to; at least 1.

    Raises FigmentError for arrays that do not fit, too few rows, or features that are not finite.
    """
    own = np.full(len(real), -1), np.full(len(generated), -1)
    return _without_groups(*_checked(real, generated, k), k, own, 0)[0]


def coverage(
    real: np.ndarray, generated: np.ndarray, extractor: str, seed: int = 0, k: int = K, most: int = MOST
) -> list[Result]:
    """`covered`, of as many real as generated images, with 95 % intervals: the results ``coverage`` and ``density``.

    Of the larger set as many are drawn as the smaller one has, and never more than ``most`` of either. The interval is a
    jackknife: both sets are dealt into groups, and the spread without each of them in turn is the standard error; that of
    coverage is never narrower than Wilson's. It is for other sets of these sizes, and rather too wide than too narrow, but for
    densities near 0. A bootstrap would not do: a real image drawn twice is its own nearest neighbour, and shrinks its ball.

    Args:
        real, generated: features, float (n, D) and (m, D); at least `FEWEST` rows and four times k each.
        extractor: what made the features, as an encoder's name.
        seed: of the draw and of the groups.

    Returns:
        Two results whose ``n`` is the number of images of each kind. ``details`` holds ``extractor``, ``k``, ``n_real`` and
        ``n_generated`` (how many there were to draw from), ``standard_error`` and ``repeated``, the share of real images that
        are there more than k times, which nothing covers.

    Raises FigmentError as `covered` does, and for too few images.
    """
    real, generated = _checked(real, generated, k)
    n, fewest = min(len(real), len(generated), most), max(FEWEST, 4 * k)
    if n < fewest:
        raise FigmentError(
            f"Coverage with k = {k} needs {fewest} real and {fewest} generated images or more, and there are {len(real):,} and"
            f" {len(generated):,}. Give more of them."
        )
    rng = np.random.default_rng(seed)
    drawn = [x[np.sort(rng.permutation(len(x))[:n])] for x in (real, generated)]
    groups = min(GROUPS, n // 2)
    dealt = rng.permutation(n) % groups, rng.permutation(n) % groups
    whole, *without = _without_groups(drawn[0], drawn[1], k, dealt, groups)
    told: dict[str, Any] = {"extractor": extractor, "k": k, "n_real": len(real), "n_generated": len(generated)}
    counts = np.unique(drawn[0], axis=0, return_counts=True)[1]
    told["repeated"] = float(counts[counts > k].sum()) / n
    results = []
    for metric in ("coverage", "density"):
        value = float(getattr(whole, metric))
        error, half = jackknife(np.array([getattr(one, metric) for one in without]))
        low, high = max(0.0, value - half), value + half
        if metric == "coverage":  # where all or none are covered, no group makes a difference
            at_least = wilson(value, n, QUANTILE)
            low, high = min(low, at_least[0]), min(1.0, max(high, at_least[1]))
        results.append(Result(metric, value, n, (low, high), details={**told, "standard_error": error}))
    return results


def _checked(real: np.ndarray, generated: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """In float64 and around the real images' mean, where the squares of distances lose the least."""
    real, generated = (np.asarray(x, dtype=np.float64) for x in (real, generated))
    if real.ndim != 2 or generated.ndim != 2 or real.shape[1] != generated.shape[1] or not len(generated):
        raise FigmentError(
            "Coverage needs real and generated images with features of the same encoder: arrays of shape (n, D) and (m, D)."
            f" It was given {real.shape} and {generated.shape}."
        )
    if not 1 <= k < len(real):
        raise FigmentError(
            f"Coverage with k = {k} needs more than {max(k, 1)} real images, and there are {len(real):,}."
        )
    if not (np.isfinite(real).all() and np.isfinite(generated).all()):
        raise FigmentError("Some features are NaN or infinite: no distance can be measured. Check the encoder.")
    middle = real.mean(axis=0)
    return real - middle, generated - middle


def _without_groups(
    real: np.ndarray, generated: np.ndarray, k: int, groups: tuple[np.ndarray, np.ndarray], n_groups: int
) -> list[Covered]:
    """Of all images, and then without each group in turn; ``groups`` are int (n,) and (m,) in [0, n_groups)."""
    of_real, of_generated = groups
    balls, held = np.zeros(n_groups + 1), np.zeros(n_groups + 1)  # that hold an image; images in balls
    for rows, near, made in _distances(real, generated):
        for g in range(-1, n_groups):
            stay, others = (of_real[rows] != g) | (g < 0), (of_real != g) | (g < 0)
            radius = np.partition(near[stay][:, others], k - 1, axis=1)[:, k - 1]
            inside = made[stay][:, (of_generated != g) | (g < 0)] < radius[:, None]
            balls[g + 1] += inside.any(axis=1).sum()
            held[g + 1] += inside.sum()
    found = []
    for g in range(-1, n_groups):
        n, m = (int(((own != g) | (g < 0)).sum()) for own in groups)
        found.append(Covered(float(balls[g + 1]) / n, float(held[g + 1]) / (k * m)))
    return found


def _distances(real: np.ndarray, generated: np.ndarray) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Block by block of real images: which they are, and their squared distances to the other real images and to the generated ones."""
    squares = np.square(real).sum(axis=1)
    of_generated = np.square(generated).sum(axis=1)
    for rows in slices(len(real), BLOCK):
        own = squares[rows, None]
        near = own + squares - 2 * real[rows] @ real.T  # (b, n)
        near[np.arange(len(near)), np.arange(rows.start, rows.start + len(near))] = np.inf  # itself
        yield rows, near, own + of_generated - 2 * real[rows] @ generated.T  # (b, m)
