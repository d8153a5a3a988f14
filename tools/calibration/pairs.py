"""Sets of one generator against each other, where nobody is better: two of them, and ten against an eleventh."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from calibration.answers import answers_of
from calibration.cases import Case
from calibration.rows import Row, rate
from calibration.verdicts import study
from calibration.world import World
from figment.evaluate.holm import holm
from figment.evaluate.kind import LEVEL, Difference, difference, variance_between

ARMS = 10


def spread(case: Case, w: World, n_sets: int, folder: Path) -> Iterator[Row]:
    """The standard deviation of accuracy between sets, and what drawing each of them again says it is: of all test images, and
    without the noise of these."""
    right = _right(case, w, n_sets, folder)
    told = np.sqrt(np.mean([variance_between(again[1:].astype(np.float64)) for again in right]))
    yield {
        "sets": n_sets,
        "standard deviation in points": round(
            100 * float(np.sqrt(variance_between(right[:, 0].astype(np.float64)))), 3
        ),
        "said to be": round(100 * float(told), 3),
        "accuracy %": round(100 * float(right[:, 0].mean()), 2),
        "of sets drawn again %": round(100 * float(right[:, 1:].mean()), 2),
    }


def two_sets(case: Case, w: World, n_sets: int, n_studies: int, sizes: Sequence[int], folder: Path) -> Iterator[Row]:
    """How often the first is surely better, and surely worse: with the noise of test images alone, and with that of both sets."""
    right = _right(case, w, n_sets, folder)
    for n in sizes:
        rng = np.random.default_rng([n, 23])
        said = np.zeros((2, 2), int)  # (images only, with both sets) x (better, worse)
        for _ in range(n_studies):
            a, b = rng.choice(n_sets, 2, replace=False)
            chosen = rng.integers(right.shape[2], size=n)
            for i, found in enumerate(_differences(right, a, b, chosen)):
                low, high = found.ci
                said[i] += low > 0, high < 0
        yield {
            "n": n,
            "studies": n_studies,
            "sets": n_sets,
            "images alone": [rate(int(k), n_studies) for k in said[0]],
            "with both sets": [rate(int(k), n_studies) for k in said[1]],
        }


def ten_arms(case: Case, w: World, n_sets: int, n_studies: int, sizes: Sequence[int], folder: Path) -> Iterator[Row]:
    """How often any of ten is called better than the eleventh, at 2.5 % one-sided."""
    right = _right(case, w, n_sets, folder)
    for n in sizes:
        rng = np.random.default_rng([n, 29])
        alone = uncorrected = corrected = 0
        for _ in range(n_studies):
            control, *arms = rng.choice(n_sets, ARMS + 1, replace=False)
            chosen = rng.integers(right.shape[2], size=n)
            of_images, p = np.array([[d.p for d in _differences(right, arm, control, chosen)] for arm in arms]).T
            alone += bool((of_images <= LEVEL).any())
            uncorrected += bool((p <= LEVEL).any())
            corrected += any(holm(p))
        yield {
            "n": n,
            "studies": n_studies,
            "sets": n_sets,
            "images alone": rate(alone, n_studies),
            "with both sets": rate(uncorrected, n_studies),
            "Holm": rate(corrected, n_studies),
        }


def ten_verdicts(
    case: Case, w: World, n_sets: int, n_studies: int, sizes: Sequence[int], folder: Path
) -> Iterator[Row]:
    """How often any of ten recipes that do not help is said to, by the p of its own verdict: the largest of its parts'."""
    sets, labels = [answers_of(case, w, s, folder) for s in range(n_sets)], w.of("test")[1]
    for n in sizes:
        rng = np.random.default_rng([n, 31])
        uncorrected = corrected = 0
        for _ in range(n_studies):
            chosen = rng.integers(len(labels), size=n)
            arms = rng.choice(n_sets, ARMS, replace=False)
            p = np.array([study(sets[arm], labels, w.n_classes, chosen).judgement.p for arm in arms])
            uncorrected += bool((p <= LEVEL).any())
            corrected += any(holm(p))
        yield {
            "n": n,
            "studies": n_studies,
            "sets": n_sets,
            "no correction": rate(uncorrected, n_studies),
            "Holm": rate(corrected, n_studies),
        }


def _right(case: Case, w: World, n_sets: int, folder: Path) -> np.ndarray:
    """bool (sets, 1 + B, n): of every set its own classifier, and those of it drawn again."""
    found = []
    for s in range(n_sets):
        a = answers_of(case, w, s, folder)
        found.append(np.concatenate([a["own"], a["sets"]]) == w.of("test")[1])
    return np.stack(found)


def _differences(right: np.ndarray, a: int, b: int, chosen: np.ndarray) -> tuple[Difference, Difference]:
    """With the noise of test images alone; and with that of both sets, which were drawn again independently of each other, so
    that the variance of the difference is that of both."""
    d = right[a][:, chosen].astype(np.float32) - right[b][:, chosen]
    return difference(d[0]), difference(d[0], resampled=d[1:])
