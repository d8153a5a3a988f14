"""Do the generated images hold the classes? A classifier that learnt from them without words must know the real ones."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri, stdtrit

from figment.evaluate.accuracy import wilson
from figment.evaluate.grouped import variance_of_mean
from figment.evaluate.kind import LEVEL

PERMUTATIONS = 9_999
NUMBERS_AT_ONCE = 1_000_000  # of the permutations: bounds the memory where classes are many
FEW_CLASSES = 4  # with so few, 1/N! permutations cannot be rare enough


@dataclass(frozen=True)
class Content:
    """``p``: how likely so many right answers are if classes and names had nothing to do with one another. ``accuracy`` in [0, 1]
    is the mean over classes. ``by_permutation``: whether p is of a permutation test; with up to four classes it cannot be, and the
    accuracy's lower end above 1/N has to do, which a chance likeness can reach too. ``independent`` is how many images the accuracy
    is of: fewer than there are, where these come in groups."""

    passed: bool
    p: float
    accuracy: float
    by_permutation: bool
    independent: float = math.nan


def content_gate(
    predicted: np.ndarray,
    labels: np.ndarray,
    n_classes: int,
    seed: int = 0,
    groups: np.ndarray | None = None,
    level: float = LEVEL,
) -> Content:
    """Whether predictions int (n,) of a classifier that never saw a class name agree with ``labels`` int (n,).

    The right answers are counted again under 9,999 permutations of the classes' names. Images of anything that merely differs
    by class (digits, stripes of a colour each) teach a consistent classifier, and no shuffle of their labels shows that it is
    about other things; here it fails. Permuted are names, not images: that these come in ``groups`` changes nothing of it.

    ``level`` is the p that passes, but for one that no permutation test of this size can reach: the smallest then does.
    """
    confusion = np.bincount(labels * n_classes + predicted, minlength=n_classes**2).reshape(n_classes, n_classes)
    counts = confusion.sum(1)
    there = counts > 0
    balanced = float((confusion.diagonal()[there] / counts[there]).mean())
    independent = float(len(labels)) if groups is None else _independent(predicted == labels, labels, counts, groups)
    if n_classes <= FEW_CLASSES:
        low, _ = wilson(balanced, independent, -float(ndtri(level)))
        # Wilson's end lies above 1/N where the score test, whose variance is that of 1/N, has a p below the level.
        p = float(ndtr((1 / n_classes - balanced) / math.sqrt((1 / n_classes) * (1 - 1 / n_classes) / independent)))
        return Content(low > 1 / n_classes, p, balanced, False, independent)
    rng, classes, right, as_many = np.random.default_rng(seed), np.arange(n_classes), np.trace(confusion), 0
    at_once = max(1, NUMBERS_AT_ONCE // n_classes)
    for start in range(0, PERMUTATIONS, at_once):
        rows = min(at_once, PERMUTATIONS - start)
        names = rng.permuted(np.tile(classes, (rows, 1)), axis=1)
        as_many += int((confusion[classes, names].sum(1) >= right).sum())
    p = (1 + as_many) / (1 + PERMUTATIONS)
    return Content(p <= max(level, 1 / (1 + PERMUTATIONS)), p, balanced, True, independent)


def _independent(correct: np.ndarray, labels: np.ndarray, counts: np.ndarray, groups: np.ndarray) -> float:
    """How many independent images would give the mean over classes as surely: as `figment.evaluate.accuracy.interval` has it, with
    Student's quantile in it."""
    n, hits = len(labels), np.bincount(labels, weights=correct, minlength=len(counts))
    share = hits / np.maximum(counts, 1)
    # What an image moves the mean over classes by, times n.
    moves = (correct - share[labels]) * n / (counts[labels] * (counts > 0).sum())
    of_groups, freedom = variance_of_mean(moves, groups)
    if not freedom:
        return 1.0
    balanced = float(share[counts > 0].mean())
    alone = balanced * (1 - balanced) / n
    if (
        not of_groups
    ):  # of no class some are right and some wrong: nothing shows how alike a group is, and so the groups count
        n = freedom + 1
    widened = float(stdtrit(freedom, 0.975)) / float(stdtrit(math.inf, 0.975))
    return n * min(1.0, alone / of_groups if of_groups else 1.0) / widened**2
