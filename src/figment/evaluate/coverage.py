"""Do the generated images reach every kind of real image there is, and are they among them? Balls around images (Kynkaanniemi et al.
2019, arXiv 1904.06991; Naeem et al. 2020, arXiv 2002.09797).

Around each image lies a ball that reaches to its k-th nearest neighbour of its own kind. Precision is the share of generated images that
lie in the ball of a real one, recall that of real ones in the ball of a generated one. Coverage is the share of real balls that hold a
generated image, which a few outliers with large balls do not spoil. Density counts the balls around each generated image, over k: it
rises where images are all alike and near the middle of the real ones, which is no merit for training. Of all that is measured
without a training, coverage follows most closely what a classifier learns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from figment.errors import FigmentError
from figment.evaluate.accuracy import wilson
from figment.evaluate.sets import GROUPS, QUANTILE, as_many, by_class, dealt, floor, floors, jackknife, pair
from figment.neighbours import slices
from figment.types import Result

K = 5  # Naeem et al.'s, and of the package prdc
FEWEST = 20  # images on each side, without which an interval is not worth its name
MOST = 10_000  # images on each side: the cost grows with their square
BLOCK = 512  # images whose distances to all others are held at a time: 80 MB of them at the most
METRICS = ("coverage", "density", "precision", "recall")


@dataclass(frozen=True)
class Covered:
    """``density`` from 0, about 1 for images of the same kind as the real ones; the others in [0, 1]. ``recall`` is NaN where there
    are not more than k generated images."""

    coverage: float
    density: float
    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


def covered(real: np.ndarray, generated: np.ndarray, k: int = K) -> Covered:
    """Coverage, density, precision and recall, as the papers have them (Naeem et al. 2020, equations 3, 4; Kynkaanniemi et al. 2019,
    equations 1, 2), each image strictly inside of a ball or outside, as in the package prdc.

    All depend on how many images there are, so compare only sets of equal sizes. Of images of one kind, as many on both
    sides, about ``1 - 1 / 2^k`` are covered. An image that is there more than k times has a ball without any room, which
    nothing can lie in.

    Args:
        real: features, float (n, D), n above k.
        generated: features, float (m, D) of the same encoder.
        k: which neighbour a ball reaches to; at least 1.

    Raises FigmentError for arrays that do not fit, too few rows, or features that are not finite.
    """
    real, generated = _checked(real, generated, k)
    own = np.full(len(real), -1), np.full(len(generated), -1)
    return _without_groups(real, generated, k, own, 0)[0]


def coverage(
    real: np.ndarray, generated: np.ndarray, extractor: str, seed: int = 0, k: int = K, most: int = MOST
) -> list[Result]:
    """`covered`, of as many real as generated images, with 95 % intervals and floors: a result for each of `METRICS`.

    Of the larger set as many are drawn as the smaller one has, and never more than ``most`` of either. The interval is a
    jackknife: both sets are dealt into groups, and the spread without each of them in turn is the standard error; those of
    shares are never narrower than Wilson's. It is for other sets of these sizes, and rather too wide than too narrow, but for
    densities near 0. A bootstrap would not do: a real image drawn twice is its own nearest neighbour, and shrinks its ball.

    Args:
        real, generated: features, float (n, D) and (m, D); at least `FEWEST` rows and four times k each.
        extractor: what made the features, as an encoder's name.
        seed: of the draw, of the groups and of the halves.

    Returns:
        Results whose ``n`` is the number of images of each kind. ``details`` holds ``extractor``, ``k``, ``n_real`` and
        ``n_generated`` (how many there were to draw from), ``standard_error``, ``repeated``, the share of real images that
        are there more than k times, which nothing covers, and the `figment.evaluate.sets.floor`.

    Raises FigmentError as `covered` does, and for too few images.
    """
    real, generated = _checked(real, generated, k)
    fewest = max(FEWEST, 4 * k)
    if min(len(real), len(generated), most) < fewest:
        raise FigmentError(
            f"Coverage with k = {k} needs {fewest} real and {fewest} generated images or more, and there are {len(real):,} and"
            f" {len(generated):,}. Give more of them."
        )
    rng = np.random.default_rng(seed)
    first, second = as_many(real, generated, most, rng)
    n = len(first)
    groups = min(GROUPS, n // 2)
    whole, *without = _without_groups(first, second, k, (dealt(n, groups, rng), dealt(n, groups, rng)), groups)
    told: dict[str, Any] = {"extractor": extractor, "k": k, "n_real": len(real), "n_generated": len(generated)}
    counts = np.unique(first, axis=0, return_counts=True)[1]
    told["repeated"] = float(counts[counts > k].sum()) / n
    at = floors(lambda a, b: asdict(covered(a, b, k)), first, second, seed)
    results = []
    for metric in METRICS:
        value = float(getattr(whole, metric))
        error, ci = _interval(value, np.array([getattr(one, metric) for one in without]), n, metric != "density")
        results.append(Result(metric, value, n, ci, details={**told, "standard_error": error, **at[metric]}))
    return results


def within_classes(
    real: np.ndarray,
    generated: np.ndarray,
    labels: tuple[np.ndarray, np.ndarray],
    class_names: Sequence[str],
    extractor: str,
    seed: int = 0,
    k: int = K,
) -> Result:
    """The harmonic mean of precision and recall (their F1) among the images of each class, and its mean over classes.

    Over all images a set can look right with its labels mixed up; within classes it cannot. Each class is measured on as
    many real as generated images. The interval is a jackknife, for these classes.

    Args:
        real, generated: features, float (n, D) and (m, D).
        labels: int (n,) and (m,) in [0, N), of the real and of the generated images.
        class_names: N names.

    Returns:
        The result ``precision_recall_f1``, with ``per_class``; ``n`` is the number of real images. ``details`` holds ``extractor``,
        ``k``, ``standard_error``, for every class ``precision`` and ``recall``, and the mean over classes of
        `figment.evaluate.sets.floor`: what halves of the images of each class reach is here the most that can be hoped for.

    Raises FigmentError where a class of generated images has no real ones, and where one has fewer than k + 2 of either kind.
    """
    real, generated = _checked(real, generated, k)
    of_class = by_class(labels, class_names, k + 2)  # so that more than k are left without one group
    rng, groups = np.random.default_rng(seed), min(GROUPS, *(len(own) for both in of_class.values() for own in both))
    found: dict[str, Covered] = {}
    variance = 0.0
    for name, (own, made) in of_class.items():
        first, second = as_many(real[own], generated[made], MOST, rng)
        dealt_to = dealt(len(first), groups, rng), dealt(len(first), groups, rng)
        found[name], *without = _without_groups(first, second, k, dealt_to, groups)
        variance += jackknife(np.array([one.f1 for one in without]))[0] ** 2
    value, error = float(np.mean([one.f1 for one in found.values()])), variance**0.5 / len(found)
    n = sum(len(own) for own, _ in of_class.values())
    low, high = wilson(value, n, QUANTILE)  # where all classes are at 0, no group makes a difference
    details = {
        "extractor": extractor,
        "k": k,
        "standard_error": error,
        "precision": {name: one.precision for name, one in found.items()},
        "recall": {name: one.recall for name, one in found.items()},
        **_floor_of_classes([(real[own], generated[made]) for own, made in of_class.values()], k, seed),
    }
    ci = min(low, max(0.0, value - QUANTILE * error)), max(high, min(1.0, value + QUANTILE * error))
    return Result("precision_recall_f1", value, n, ci, {name: one.f1 for name, one in found.items()}, details=details)


def _floor_of_classes(classes: list[tuple[np.ndarray, np.ndarray]], k: int, seed: int) -> dict[str, Any]:
    """`figment.evaluate.sets.floor` of F1, the mean over the classes with enough images for it; all None where there are no such."""
    told = [
        floor(lambda a, b: covered(a, b, k).f1, real, generated, seed)
        for real, generated in classes
        if min(len(real), len(generated)) >= 2 * (k + 1)
    ]
    names = "floor_n", "at_floor_n", "floor_real", "floor_generated"
    return {name: float(np.mean([one[name] for one in told])) if told else None for name in names}


def _interval(value: float, without: np.ndarray, n: int, is_share: bool) -> tuple[float, tuple[float, float]]:
    """The standard error of a number, from what it is without each group, and its 95 % interval."""
    error, half = jackknife(without)
    low, high = max(0.0, value - half), value + half
    if is_share:  # where all or none are covered, no group makes a difference
        at_least = wilson(value, n, QUANTILE)
        low, high = min(low, at_least[0]), min(1.0, max(high, at_least[1]))
    return error, (low, high)


def _checked(real: np.ndarray, generated: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """In float64 and around the real images' mean, where the squares of distances lose the least."""
    real, generated = pair(real, generated, "Coverage")
    if not 1 <= k < len(real):
        raise FigmentError(
            f"Coverage with k = {k} needs more than {max(k, 1)} real images, and there are {len(real):,}."
        )
    middle = real.mean(axis=0)
    return real - middle, generated - middle


def _without_groups(
    real: np.ndarray, generated: np.ndarray, k: int, groups: tuple[np.ndarray, np.ndarray], n_groups: int
) -> list[Covered]:
    """Of all images, and then without each group in turn; ``groups`` are int (n,) and (m,) in [0, n_groups)."""
    of_real, of_generated = groups
    order = np.argsort(of_generated, kind="stable")  # so that a group is one piece of the columns
    generated, of_generated = generated[order], of_generated[order]
    radii, made_radii = _radii(real, of_real, k, n_groups), _radii(generated, of_generated, k, n_groups)
    balls, held, near = (
        np.zeros(n_groups + 1) for _ in range(3)
    )  # with an image; images in balls; in a generated ball
    among = np.zeros((n_groups + 1, len(generated)), bool)  # generated images in a real ball
    for rows, distances in _distances(real, generated):
        for g in range(n_groups + 1):
            gone = slice(*np.searchsorted(of_generated, [g - 1, g])) if g else slice(0)
            inside = distances < radii[rows, g, None]  # (b, m)
            inside[:, gone] = False
            held[g] += np.count_nonzero(inside)
            balls[g] += inside.any(axis=1).sum()
            among[g] |= inside.any(axis=0)
            there = (of_real[rows] != g - 1) | (g == 0)
            near[g] += np.any(distances[there] < made_radii[:, g], axis=1).sum()
    found = []
    for g in range(n_groups + 1):
        n, m = (int(((own != g - 1) | (g == 0)).sum()) for own in groups)
        recall = near[g] / n if np.isfinite(made_radii).any() else np.nan
        found.append(Covered(*(float(x) for x in (balls[g] / n, held[g] / (k * m), among[g].sum() / m, recall))))
    return found


def _radii(x: np.ndarray, of: np.ndarray, k: int, n_groups: int) -> np.ndarray:
    """The squared distance to the k-th nearest other image, among all and without each group: float (n, n_groups + 1).

    -inf for an image of the very group, in whose ball nothing is then; NaN where there are not more than k.
    """
    radii = np.full((len(x), n_groups + 1), np.nan)
    if len(x) <= k:
        return radii
    few = min(len(x) - 1, 4 * k + 12)  # neighbours that are enough for nearly every image, whichever group is left out
    for rows, distances in _distances(x, x):
        itself = np.arange(len(distances)), np.arange(rows.start, rows.start + len(distances))
        distances[itself] = np.inf
        nearest = np.argpartition(distances, few - 1, axis=1)[:, :few]
        values = np.take_along_axis(distances, nearest, axis=1)
        by_distance = np.argsort(values, axis=1)
        values, nearest = (np.take_along_axis(part, by_distance, axis=1) for part in (values, nearest))
        radii[rows, 0] = values[:, k - 1]
        for g in range(n_groups):
            ranks = np.cumsum(of[nearest] != g, axis=1)
            own = np.take_along_axis(values, (ranks >= k).argmax(axis=1)[:, None], axis=1)[:, 0]
            for i in np.flatnonzero(ranks[:, -1] < k):
                own[i] = np.partition(distances[i, of != g], k - 1)[k - 1]
            radii[rows, g + 1] = np.where(of[rows] == g, -np.inf, own)
    return radii


def _distances(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Block by block of x: which rows, and their squared distances to all of y, (b, m)."""
    of_x, of_y = np.square(x).sum(axis=1), np.square(y).sum(axis=1)
    for rows in slices(len(x), BLOCK):
        yield rows, of_x[rows, None] + of_y - 2 * x[rows] @ y.T
