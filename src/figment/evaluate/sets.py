"""Two sets of features that are compared: what all such measures check, and what they would say of no difference at all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import stdtrit

from figment.errors import FigmentError

QUANTILE = 1.96  # of a 95 % interval
GROUPS = 20  # of images left out in turn, for an interval
CHUNK = 1_024  # images at a time, or four times the dimensions where that is more: what is looked through is never copied whole
FLOOR_MOST = 2_000  # images in each half: more cost time and hardly move a floor


def finite(features: np.ndarray, what: str, fewest: int = 1) -> np.ndarray:
    """One set as float64 (n, D). Raises FigmentError for another shape, fewer rows than ``fewest``, NaN and infinity."""
    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2 or not x.shape[1] or len(x) < fewest:
        raise FigmentError(
            f"{what} needs features of {fewest:,} images or more, an array of shape (n, D). It was given {x.shape}."
        )
    _check_finite(x, what)
    return x


def chunks(x: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """The rows of a set (n, D), some at a time as float64 (m, D), and where they are."""
    size = max(CHUNK, 4 * x.shape[1])
    for start in range(0, len(x), size):
        rows = slice(start, start + size)
        yield rows, np.asarray(x[rows], dtype=np.float64)


def _check_finite(x: np.ndarray, what: str) -> None:
    bad = sum(int((~np.isfinite(some)).any(axis=1).sum()) for _, some in chunks(x))
    if bad:
        raise FigmentError(
            f"{what}: the features of {bad:,} of {len(x):,} images are NaN or infinite, so no distance can be measured. Check the"
            " encoder: half precision may be too little for it (dtype float32)."
        )


def pair(real: np.ndarray, generated: np.ndarray, what: str, fewest: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Two sets as float64 (n, D) and (m, D). Raises FigmentError as `finite` does, and where D differs."""
    real, generated = fitting(real, generated, what, fewest)
    return np.asarray(real, dtype=np.float64), np.asarray(generated, dtype=np.float64)


def fitting(real: np.ndarray, generated: np.ndarray, what: str, fewest: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """`pair` of sets too large to be copied: as they are, in memory or mapped."""
    real, generated = np.asarray(real), np.asarray(generated)
    fits = real.ndim == generated.ndim == 2 and real.shape[1] == generated.shape[1] > 0
    if not fits or min(len(real), len(generated)) < fewest:
        raise FigmentError(
            f"{what} needs two sets of at least {fewest:,} image{'s' * (fewest != 1)}, with features of the same encoder: arrays of"
            f" shape (n, D) and (m, D). It was given {real.shape} and {generated.shape}."
        )
    for x in (real, generated):
        _check_finite(x, what)
    return real, generated


def unit(features: np.ndarray) -> np.ndarray:
    """Each row divided by its length; rows of zeros stay."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.maximum(lengths, np.finfo(np.float64).tiny)


def as_many(
    real: np.ndarray, generated: np.ndarray, most: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """As many rows of the larger set as the smaller one has, and never more than ``most`` of either, drawn in their order."""
    n = min(len(real), len(generated), most)
    first, second = (x[np.sort(rng.permutation(len(x))[:n])] for x in (real, generated))
    return first, second


def by_class(
    labels: tuple[np.ndarray, np.ndarray], class_names: Sequence[str], fewest: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Name -> the positions of its real and of its generated images, of the classes that were generated. Raises FigmentError where one
    of them has no real image, or fewer than ``fewest`` of either kind."""
    real, generated = (np.asarray(of) for of in labels)
    found = {
        class_names[label]: (np.flatnonzero(real == label), np.flatnonzero(generated == label))
        for label in np.unique(generated)
    }
    if unknown := [name for name, (own, _) in found.items() if not len(own)]:
        raise FigmentError(
            f"{len(unknown):,} of {len(found):,} generated classes have no real images to be compared with: {', '.join(unknown[:5])}."
            " Add real images of them to task.real.train, or leave out what compares class by class."
        )
    if few := [name for name, both in found.items() if min(map(len, both)) < fewest]:
        own, made = (len(part) for part in found[few[0]])
        raise FigmentError(
            f"What compares class by class needs {fewest} real and {fewest} generated images of each; {few[0]!r} has {own} and"
            f" {made}{f', and {len(few) - 1:,} others have too few' if few[1:] else ''}. Give more, or leave it out."
        )
    return found


def floors(
    measure: Callable[[np.ndarray, np.ndarray], Mapping[str, float]],
    real: np.ndarray,
    generated: np.ndarray,
    seed: int = 0,
    most: int = FLOOR_MOST,
) -> dict[str, dict[str, Any]]:
    """What numbers are where there is nothing to find: between two halves of the real set, and between two of the generated one.

    Few distances are 0 for two sets of one kind, and all depend on n. So a third number stands beside the two floors: that
    of real and generated images at the same size, the mean over both pairs of halves.

    Args:
        measure: of real features, float (n, D), and generated ones, (m, D): name -> number.
        most: images in each half, at most.

    Returns:
        For each name ``floor_n``, images in each half; ``at_floor_n``, real to generated; ``floor_real`` and ``floor_generated``.
    """
    first, second, made, made_too = _halves(real, generated, seed, most)
    pairs = (first, made), (second, made_too), (first, second), (made, made_too)
    one, other, of_real, of_generated = (measure(*both) for both in pairs)
    return {
        name: {
            "floor_n": len(first),
            "at_floor_n": (float(one[name]) + float(other[name])) / 2,
            "floor_real": float(of_real[name]),
            "floor_generated": float(of_generated[name]),
        }
        for name in one
    }


def floor(
    distance: Callable[[np.ndarray, np.ndarray], float],
    real: np.ndarray,
    generated: np.ndarray,
    seed: int = 0,
    most: int = FLOOR_MOST,
) -> dict[str, Any]:
    """`floors` of one number."""
    return floors(lambda a, b: {"": distance(a, b)}, real, generated, seed, most)[""]


def floor_of_score(
    score: Callable[[np.ndarray], float],
    real: np.ndarray,
    generated: np.ndarray,
    seed: int = 0,
    most: int = FLOOR_MOST,
) -> dict[str, Any]:
    """`floor` for a number of one set: by how much it differs between two halves of each kind.

    Returns what `floor` does, with ``at_floor_n`` the score of a generated half, and ``of_real``, that of a real one.
    """
    first, second, made, made_too = (float(score(x)) for x in _halves(real, generated, seed, most))
    return {
        "floor_n": min(len(real) // 2, len(generated) // 2, most),
        "at_floor_n": made,
        "of_real": first,
        "floor_real": abs(first - second),
        "floor_generated": abs(made - made_too),
    }


def _halves(real: np.ndarray, generated: np.ndarray, seed: int, most: int) -> tuple[np.ndarray, ...]:
    """Two halves of the real set and two of the generated one, of one size."""
    n = min(len(real) // 2, len(generated) // 2, most)
    rng = np.random.default_rng([seed, n])
    drawn = [(x, rng.permutation(len(x))) for x in (real, generated)]
    return tuple(x[np.sort(order[part])] for x, order in drawn for part in (slice(n), slice(n, 2 * n)))


def jackknife(without: np.ndarray) -> tuple[float, float]:
    """The standard error of a number, and half of its 95 % interval (Student's), from what it is without each of G groups: float (G,)."""
    n = len(without)
    error = math.sqrt((n - 1) / n * float(np.square(without - without.mean()).sum()))
    return error, float(stdtrit(n - 1, 0.975)) * error


def dealt(n: int, groups: int, rng: np.random.Generator) -> np.ndarray:
    """Which group each of n images is in, int (n,), groups of equal sizes but for one."""
    return rng.permutation(n) % groups
