"""Do the generated images hold the classes? A classifier that learnt from them without words must know the real ones."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from figment.evaluate.accuracy import wilson

PERMUTATIONS, LEVEL = 9_999, 0.025
NUMBERS_AT_ONCE = 1_000_000  # of the permutations: bounds the memory where classes are many
FEW_CLASSES = 4  # with so few, 1/N! permutations cannot be rare enough


@dataclass(frozen=True)
class Content:
    """``p``: how likely so many right answers are if classes and names had nothing to do with one another. ``accuracy`` in [0, 1]
    is the mean over classes. ``by_permutation``: whether p is of a permutation test; with up to four classes it cannot be, and the
    accuracy's lower end above 1/N has to do, which a chance likeness can reach too."""

    passed: bool
    p: float
    accuracy: float
    by_permutation: bool


def content_gate(predicted: np.ndarray, labels: np.ndarray, n_classes: int, seed: int = 0) -> Content:
    """Whether predictions int (n,) of a classifier that never saw a class name agree with ``labels`` int (n,).

    The right answers are counted again under 9,999 permutations of the classes' names. Images of anything that merely differs
    by class (digits, stripes of a colour each) teach a consistent classifier, and no shuffle of their labels shows that it is
    about other things; here it fails.
    """
    confusion = np.bincount(labels * n_classes + predicted, minlength=n_classes**2).reshape(n_classes, n_classes)
    counts = confusion.sum(1)
    there = counts > 0
    balanced = float((confusion.diagonal()[there] / counts[there]).mean())
    if n_classes <= FEW_CLASSES:
        low, _ = wilson(balanced, int(counts.sum()), float(stdtrit(math.inf, 0.975)))
        return Content(low > 1 / n_classes, 1.0 if low <= 1 / n_classes else LEVEL, balanced, False)
    rng, classes, right, as_many = np.random.default_rng(seed), np.arange(n_classes), np.trace(confusion), 0
    at_once = max(1, NUMBERS_AT_ONCE // n_classes)
    for start in range(0, PERMUTATIONS, at_once):
        rows = min(at_once, PERMUTATIONS - start)
        names = rng.permuted(np.tile(classes, (rows, 1)), axis=1)
        as_many += int((confusion[classes, names].sum(1) >= right).sum())
    p = (1 + as_many) / (1 + PERMUTATIONS)
    return Content(p <= LEVEL, p, balanced, True)
