"""Class by class: which classes got worse, and what the mean over classes says beside the accuracy on all images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import stdtr

from figment.evaluate.grouped import variance_of_mean
from figment.evaluate.kind import LEVEL, Difference, difference, interval, satterthwaite, variance_between


@dataclass(frozen=True)
class OfClass:
    """By how much a class is more often right: ``n`` test images, ``value`` and ``ci`` in [-1, 1]."""

    name: str
    n: int
    value: float
    ci: tuple[float, float]


def classes_that_got_worse(
    d: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    resampled: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> list[OfClass]:
    """The classes whose difference is surely below zero, the worst first.

    With Bonferroni's correction: each of N classes has an interval of level 1 - .05 / N, so that in 19 of 20 studies no class is
    named that did not get worse. A class with few test images has a wide one and is rarely named.

    Args:
        d: float (n,), the difference on each test image, as `figment.evaluate.kind.difference` takes it.
        labels: int (n,), the class of each.
        class_names: N names.
        resampled: float (B, n) or None, as there.
        groups: int (n,) or None, as there. A class whose test images are all of one group is never named.
    """
    there = np.unique(labels)
    worse = []
    for c in there.tolist():
        own = labels == c
        sets = None if resampled is None else resampled[:, own]
        together = None if groups is None else groups[own]
        if together is not None and len(np.unique(together)) < 2:
            continue
        of_class = difference(d[own], resampled=sets, groups=together, level=LEVEL / len(there))
        if of_class.ci[1] < 0:
            worse.append(OfClass(class_names[c], int(own.sum()), of_class.value, of_class.ci))
    return sorted(worse, key=lambda one: one.value)


def mean_over_classes(
    d: np.ndarray, labels: np.ndarray, resampled: np.ndarray | None = None, groups: np.ndarray | None = None
) -> Difference:
    """The mean over classes of their differences, each class counting the same however many test images it has.

    The classes are strata: the variance of the test images is the sum of theirs, each as `difference` has it, over N^2; with groups it is
    at least the groups' own. Classes without test images are left out. Arguments as of `classes_that_got_worse`.
    """
    weights, classes = _weights(labels), np.unique(labels)
    image = sum(difference(d[labels == c]).image_se ** 2 for c in classes) / len(classes) ** 2
    parts = []  # variances that are estimates themselves, with their degrees of freedom
    if groups is not None:
        of_groups, more = variance_of_mean(d * weights, groups)
        image = max(image, of_groups)
        parts.append((image, more))
    sets = 0.0 if resampled is None else variance_between(np.asarray(resampled, np.float64) * weights)
    value, variance = float((d * weights).mean()), image + sets
    if resampled is not None:
        parts.append((sets, len(resampled) - 1))
    freedom = satterthwaite(variance, parts)
    ci = interval(value, math.sqrt(variance), freedom, LEVEL)
    p = float(stdtr(freedom, -value / math.sqrt(variance)))
    discordance = float(np.square(d * weights).mean())
    return Difference(value, ci, p, math.sqrt(image), math.sqrt(sets), discordance, value, freedom)


def balanced(correct: np.ndarray, labels: np.ndarray) -> float:
    """The mean over classes of how often their images are right: ``correct`` float (n,) in [0, 1]."""
    return float((correct * _weights(labels)).mean())


def _weights(labels: np.ndarray) -> np.ndarray:
    """What each image counts so that all classes count the same: float (n,), 1 on average."""
    _, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return np.asarray(len(labels) / (len(counts) * counts[place]))


def disagreement(all_images: Difference, over_classes: Difference) -> Literal["falls", "rises", ""]:
    """What the mean over classes does where the accuracy on all images does the opposite, and one of the two for sure."""
    sure = any(d.ci[0] > 0 or d.ci[1] < 0 for d in (all_images, over_classes))
    if not sure or all_images.value * over_classes.value >= 0:
        return ""
    return "rises" if over_classes.value > 0 else "falls"
