"""How often a classifier is right, whether two differ, and how sure one can be of either.

Two things are left to chance: which images are in the test set, and the seed of the training. Every interval here
adds the variances of both; test images that come in ``groups`` (bursts, videos, patients) count for no more than these do. The few seeds one can afford say little about their own spread, so the normal quantile gives
way to Student's with Satterthwaite's degrees of freedom: they are few where the seeds make up most of the variance, and
infinite where there is one seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from typing import Any, Literal

import numpy as np
from scipy.special import stdtrit

from figment.errors import FigmentError
from figment.evaluate.grouped import variance_of_mean
from figment.types import Result

#: Logits, float (n, N), or predictions, int (n,); or one such array for each of S seeds.
Answers = np.ndarray | Sequence[np.ndarray]


def predicted(logits: np.ndarray) -> np.ndarray:
    """The class each image is taken for: int32 (n,) of float (n, N). Raises FigmentError for logits that are not finite."""
    _check_finite(logits)
    return np.asarray(logits).argmax(axis=-1).astype(np.int32)


def correctness(answers: Answers, labels: np.ndarray) -> np.ndarray:
    """Which test images each training seed got right: bool (S, n).

    Args:
        answers: logits, float (n, N), or predictions, int (n,); or one such array for each of S seeds. Whole numbers are
            always taken for predictions.
        labels: int (n,) in [0, N).

    Raises:
        FigmentError: for arrays that do not fit, labels out of range, no images, or logits that are not finite.
    """
    return _predictions(answers, labels)[0] == np.asarray(labels)


def accuracy(
    answers: Answers,
    labels: np.ndarray,
    class_names: Sequence[str],
    metric: str = "accuracy",
    seeds: Sequence[int] = (),
    groups: np.ndarray | None = None,
) -> Result:
    """Top-1 accuracy, the mean over seeds, with a 95 % interval.

    The interval is Wilson's over the n test images. With S seeds of standard deviation s it is widened: s^2 / S is
    added to the variance p (1 - p) / n by way of a smaller effective n. It is never narrower than one run's. With
    ``groups`` the variance is at least theirs, also within each class.

    Args:
        answers: logits, float (n, N), or predictions, int (n,); or one such array for each of S seeds.
        labels: int (n,) in [0, N).
        class_names: N names.
        metric: the name the result goes by.
        seeds: the S seeds, for the record.
        groups: int (n,), which burst, video or patient a test image is of. None: all are independent.

    Returns:
        ``per_class`` holds the accuracy within each class that has test images. ``details`` holds ``per_seed`` (S
        numbers), ``confusion`` (N rows of true classes, N columns of predicted ones; counts of images, the mean over
        seeds), ``classes`` (for each name ``n`` and ``ci``, the interval as above, None without images) and, with
        ``groups``, their number.

    Raises:
        FigmentError: as `correctness` does, and for names or seeds that do not match the answers in number.
    """
    found, n_classes = _predictions(answers, labels, len(class_names))
    labels, (n_seeds, n) = np.asarray(labels), found.shape
    if len(class_names) != n_classes:
        raise FigmentError(
            f"The logits have {n_classes} classes, but there are {len(class_names)} class names: they are of two tasks."
        )
    if seeds and len(seeds) != n_seeds:
        raise FigmentError(
            f"There are {len(seeds)} seeds ({list(seeds)}) for the logits of {n_seeds} runs: give one seed for each."
        )
    confusion = np.stack([_confusion(of_seed, labels, n_classes) for of_seed in found])  # (S, N, N)
    hits = confusion.diagonal(axis1=1, axis2=2)  # (S, N)
    counts = confusion[0].sum(axis=1)  # (N,)
    per_seed = hits.sum(axis=1) / n
    per_class: dict[str, float] = {}
    classes: dict[str, Any] = {name: {"n": 0, "ci": None} for name in class_names}
    right = (found == labels).mean(axis=0)  # (n,)
    for c in np.flatnonzero(counts).tolist():
        shares = hits[:, c] / counts[c]
        per_class[class_names[c]] = float(shares.mean())
        of_class = None if groups is None else variance_of_mean(right[labels == c], groups[labels == c])
        classes[class_names[c]] = {"n": int(counts[c]), "ci": list(interval(shares, int(counts[c]), of_class))}
    details = {"per_seed": per_seed.tolist(), "confusion": confusion.mean(axis=0).tolist(), "classes": classes}
    of_groups = None if groups is None else variance_of_mean(right, groups)
    if of_groups is not None:
        details["groups"] = of_groups[1] + 1
    ci = interval(per_seed, n, of_groups)
    return Result(metric, float(per_seed.mean()), n, ci, per_class, tuple(seeds), details=details)


def paired_difference(
    correct_a: np.ndarray,
    correct_b: np.ndarray,
    metric: str = "accuracy difference",
    seeds: Sequence[int] = (),
    groups: np.ndarray | None = None,
) -> Result:
    """By how much b is more often right than a on the same images: ``mean(b) - mean(a)``, with a 95 % interval.

    The interval is the adjusted Wald interval for paired proportions (Bonett and Price 2012), which adds one image to
    each of the two ways to disagree: one that only a gets right and one that only b does. It is written on the
    differences d = b - a in [-1, 1], where those are the values -1 and +1, and so holds for means over seeds too. With
    S seeds the variance of the S differences over S is added; the i-th seed of a is paired with the i-th of b, which is
    right whether or not they have anything (such as the draw of the real images) in common. With ``groups`` the
    images' variance is at least theirs.

    Args:
        correct_a, correct_b: bool or float in [0, 1], (n,) for one run or a mean over seeds, or (S, n); one of them may
            have a single seed where the other has S, as the untuned classifier has.
        metric: the name the result goes by.
        seeds: the S seeds, for the record.
        groups: int (n,), which burst, video or patient a test image is of. None: all are independent.

    Returns:
        ``value`` and ``ci`` in [-1, 1]. ``details`` holds ``per_seed`` (S differences), ``only_a`` and ``only_b`` (the
        share of images that just one gets right, the mean over seeds), ``image_se`` and ``seed_se`` (the two parts
        of the standard error).

    Raises:
        FigmentError: for arrays that do not fit, are empty, or leave [0, 1].
    """
    a, b = (np.atleast_2d(np.asarray(correct, dtype=np.float64)) for correct in (correct_a, correct_b))
    if (
        a.ndim != 2
        or b.ndim != 2
        or a.shape[1] != b.shape[1]
        or not a.shape[1]
        or (len(a) != len(b) and 1 not in (len(a), len(b)))
    ):
        raise FigmentError(
            "A paired difference needs the same images in the same order, and as many seeds on both sides or one on "
            f"one: arrays of shape (n,) or (S, n). It was given {np.shape(correct_a)} and {np.shape(correct_b)}."
        )
    if not all(((x >= 0) & (x <= 1)).all() for x in (a, b)):
        raise FigmentError(
            "A paired difference takes how often each image was right, between 0 and 1, and was given other values."
        )
    differences = b - a  # (S, n)
    per_seed, n = differences.mean(axis=1), differences.shape[1]
    d = differences.mean(axis=0)  # (n,)
    centre = d.sum() / (n + 2)
    image_variance = ((np.square(d).sum() + 2) / (n + 2) - centre**2) / (n + 2)
    seed_variance = _variance_of_mean(per_seed)
    parts = [(seed_variance, len(per_seed) - 1)]
    if groups is not None:
        of_groups, freedom = variance_of_mean(d, groups)
        if not freedom:
            raise FigmentError("All test images are of one group: nothing can be said of others.")
        image_variance = max(image_variance, of_groups)
        parts.append((image_variance, freedom))
    variance = image_variance + seed_variance
    half = _quantile(variance, parts) * math.sqrt(variance)
    details = {
        "per_seed": per_seed.tolist(),
        "only_a": float(np.maximum(-differences, 0).mean()),
        "only_b": float(np.maximum(differences, 0).mean()),
        "image_se": math.sqrt(image_variance),
        "seed_se": math.sqrt(seed_variance),
    }
    ci = (max(-1.0, float(centre - half)), min(1.0, float(centre + half)))
    return Result(metric, float(d.mean()), n, ci, seeds=tuple(seeds), details=details)


def verdict(difference: Result) -> Literal["better", "worse", "no evidence"]:
    """What a paired difference allows one to say: a side is taken only where the interval excludes zero.

    Better than an untuned classifier is also what shuffled labels are: that images *help* takes the rivals of
    `figment.evaluate.verdict.judge`.
    """
    low, high = difference.ci
    return "better" if low > 0 else "worse" if high < 0 else "no evidence"


def wilson(share: float, n: float, quantile: float) -> tuple[float, float]:
    """Wilson's score interval for a proportion ``share`` of ``n``, not always whole; ``quantile`` is 1.96 for 95 %."""
    z2 = quantile**2 / n
    centre = (share + z2 / 2) / (1 + z2)
    half = math.sqrt(share * (1 - share) * z2 + z2**2 / 4) / (1 + z2)
    return max(0.0, centre - half), min(1.0, centre + half)


def interval(shares: np.ndarray, n: int, of_groups: tuple[float, int] | None = None) -> tuple[float, float]:
    """The 95 % interval that `accuracy` describes. ``shares`` (S,) in [0, 1], each of the same ``n`` images; ``of_groups``: their
    `figment.evaluate.grouped.variance_of_mean`, where they come in groups. Of one group nothing is known."""
    share = float(np.mean(shares))
    image_variance, seed_variance = share * (1 - share) / n, _variance_of_mean(shares)
    parts = [(seed_variance, len(shares) - 1)]
    # Seeds that agree leave n as it is, also where all shares are 0 or 1 and both variances are nought.
    effective_n, variance = float(n), image_variance + seed_variance
    if of_groups is not None:
        if not of_groups[1]:
            return 0.0, 1.0
        if not image_variance:  # all right or all wrong: nothing shows how alike a group is, and so the groups count
            effective_n = of_groups[1] + 1
        least = max(image_variance, of_groups[0])
        variance = least + seed_variance
        parts.append((least, of_groups[1]))
    if variance != image_variance:
        effective_n = n * image_variance / variance
    return wilson(share, effective_n, _quantile(variance, parts))


def _variance_of_mean(values: np.ndarray) -> float:
    return float(np.var(values, ddof=1)) / len(values) if len(values) > 1 else 0.0


def _quantile(variance: float, parts: Sequence[tuple[float, int]]) -> float:
    """Student's 97.5 % quantile at Satterthwaite's degrees of freedom: of ``variance``, only these parts, each with its own degrees,
    have an error themselves."""
    freedoms = [freedom * (variance / part) ** 2 for part, freedom in parts if part]
    freedom = reduce(lambda a, b: a * b / (a + b), freedoms) if freedoms else np.inf
    return float(stdtrit(freedom, 0.975))


def _confusion(predicted: np.ndarray, labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Counts, int (N, N): a row for each true class, a column for each predicted one."""
    return np.bincount(labels * n_classes + predicted, minlength=n_classes**2).reshape(n_classes, n_classes)


def _predictions(answers: Answers, labels: np.ndarray, n_classes: int | None = None) -> tuple[np.ndarray, int]:
    """One array of predictions, int (S, n), that fits ``labels`` (n,), and the number of classes.

    Predictions do not say it themselves: it is ``n_classes`` then, or (None) as many as they and the labels show.
    """
    shapes = {np.shape(one) for one in answers} if not isinstance(answers, np.ndarray) else set()
    given = np.asarray(answers) if len(shapes) <= 1 else np.empty(0)
    are_logits = not np.issubdtype(given.dtype, np.integer)
    given = given[None] if given.ndim == 1 + are_logits else given
    labels = np.asarray(labels)
    if given.ndim != 2 + are_logits or not given.size or labels.shape != (given.shape[1],):
        raise FigmentError(
            f"Accuracy needs logits of shape (n, N), the same for every seed, or whole numbers of shape (n,), the classes"
            f" predicted; and n labels, n at least 1. It was given {shapes or np.shape(answers)} and labels of {labels.shape}."
        )
    whole = np.issubdtype(labels.dtype, np.integer)
    most = given.shape[2] if are_logits else n_classes or int(max(given.max(), labels.max())) + 1
    if not whole or labels.min() < 0 or labels.max() >= most:
        raise FigmentError(f"Test labels must be whole numbers from 0 to {most - 1}, the classes of the answers.")
    if not are_logits and (given.min() < 0 or given.max() >= most):
        raise FigmentError(f"Predictions must be whole numbers from 0 to {most - 1}, the classes there are.")
    if not are_logits:
        return given, most
    _check_finite(given)
    return given.argmax(axis=-1), most


def _check_finite(logits: np.ndarray) -> None:
    if not np.isfinite(logits).all():
        raise FigmentError("Some logits are NaN or infinite: no class can be read from them. Check the test features.")
