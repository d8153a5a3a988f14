"""The exchange rate: how many real photographs a class a synthetic set is worth.

Real images alone are learnt from at growing numbers of shots; where the synthetic set's accuracy meets that curve is
its worth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from figment.errors import FigmentError
from figment.evaluate.kind import variance_between
from figment.types import Result

SHOTS = (1, 2, 4, 8, 16, 32, 64)
ROUNDING = 1e-9  # accuracies closer than this are the same
LEVEL = "as much as any number of real photographs: more of them do not help it here"
REPLICATES_AT_ONCE = 250  # of the bootstrap: bounds its memory at 250 counts for each test image


@dataclass(frozen=True)
class Draw:
    """What one training of the curve learns from: ``index`` int (k * N,), k real images of each class, by their places
    among all; and the training's seed."""

    index: np.ndarray
    seed: int


@dataclass(frozen=True)
class Curve:
    """Which test images are right after learning from real images alone, at each number of shots.

    ``correct`` is bool (draws, shots, n); ``zero_shot`` is bool (n,), before any learning, or None where there is no
    classifier before; ``note`` says why shots are missing.
    """

    shots: tuple[int, ...]
    correct: np.ndarray
    zero_shot: np.ndarray | None
    note: str = ""


def real_curve(
    labels: np.ndarray,
    test_labels: np.ndarray,
    learn: Callable[[Sequence[Draw]], Iterable[np.ndarray]],
    zero_shot: np.ndarray | None,
    *,
    shots: Sequence[int] = SHOTS,
    draws: int = 5,
    seed: int = 0,
) -> Curve:
    """Learn from 1, 2, 4... real images a class and mark the test images each time.

    A draw shuffles every class once and takes its first k images, so within a draw each set holds the smaller ones.
    Where the largest k is most of a class, the draws share most of their images and their spread understates that of
    new photographs.

    Args:
        labels: of the real images, int (n,).
        test_labels: of the test images, int (m,).
        learn: is handed all trainings of the curve, so that it can run them at once, and gives what each of them takes
            the test images for, int (m,), in order.
        zero_shot: what the untrained classifier takes them for, int (m,); None where there is none.
        shots: images a class. Those above the size of the smallest class are left out, and ``note`` says so.
        draws: how many times to choose the images; each has its own training seed too.
        seed: of the choice and, plus the number of the draw, of the training.

    Raises:
        FigmentError: where no number of shots is left, or ``draws`` is not positive.
    """
    sizes = np.bincount(labels, minlength=int(np.max(test_labels)) + 1)
    wanted = sorted({int(k) for k in shots})
    kept = tuple(k for k in wanted if k <= sizes.min())
    if not kept or kept[0] < 1 or draws < 1:
        raise FigmentError(
            f"The curve of real images needs at least 1 draw (given: {draws}) and shots from 1 to {sizes.min()}, the "
            f"size of the smallest class of real images (given: {wanted}). Give more images or fewer shots."
        )
    left_out = [str(k) for k in wanted if k not in kept]
    note = (
        f"Left out {', '.join(left_out)} shots: the smallest class has {sizes.min()} real images." if left_out else ""
    )
    trainings = []
    for draw in range(draws):
        ranks = _ranks_within_class(labels, np.random.default_rng([seed, draw]))
        trainings += [Draw(np.flatnonzero(ranks < k), seed + draw) for k in kept]
    correct = np.stack([np.asarray(predicted) == test_labels for predicted in learn(trainings)])
    before = None if zero_shot is None else zero_shot == test_labels
    return Curve(kept, correct.reshape(draws, len(kept), -1), before, note)


def _ranks_within_class(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The place of each image in a random order of its class: int (n,), from 0."""
    ranks = np.empty(len(labels), dtype=np.int64)
    for c in np.unique(labels):
        members = np.flatnonzero(labels == c)
        ranks[rng.permutation(members)] = np.arange(len(members))
    return ranks


def exchange_rate(
    curve: Curve,
    correct_synthetic: np.ndarray,
    n_bootstrap: int = 2000,
    seed: int = 0,
    resampled: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> Result:
    """The number of real images a class at which real images alone do as well as the synthetic set.

    The accuracies of the draws are averaged, made to rise (isotonic regression; the true curve does, the measured one
    may not), and joined by straight lines over log2(shots). The answer is the smallest number of shots whose accuracy
    is that of the synthetic set. The untuned classifier, where there is one, counts as no images at all: a set that does
    not beat it is worth nothing.

    The 95 % interval is a bootstrap of everything that chance decided. The test images are resampled (whole ``groups``, where
    they come in such). Of draws and of
    synthetic seeds there are too few for that, so they are given Student's t instead; what each moves is added up. What
    draws disagree on image by image is counted in both, so the interval errs on the wide side. One draw or seed
    alone shows no spread, and the interval then lacks it.

    Args:
        curve: from `real_curve`.
        correct_synthetic: bool (n,) or (S, n), the same test images after learning from the synthetic set, for each
            seed.
        n_bootstrap: number of resamplings.
        seed: of the resampling.
        resampled: bool (B, n), the same after learning from B sets drawn again: the interval then holds for other sets too.
        groups: int (n,), which burst, video or patient a test image is of. None: all are independent.

    Returns:
        ``value`` and ``ci`` in images a class: 0 means "less than the smallest number of shots", infinity "more than
        the largest". ``details`` is finite throughout: ``text`` is the answer in words, such as "about 11 real photographs a class (6 to 19)";
        ``synthetic`` and ``zero_shot`` (or None) are accuracies; ``curve`` has for each number of ``shots`` the mean
        ``accuracy``, its ``ci`` and ``per_draw``; ``below`` and ``beyond`` are the shares of resamplings that fell off
        either end; ``note`` is the curve's.

    Raises:
        FigmentError: where the test images differ in number.
    """
    synthetic = np.atleast_2d(np.asarray(correct_synthetic, dtype=bool))
    n = curve.correct.shape[2]
    if synthetic.ndim != 2 or synthetic.shape[1] != n:
        raise FigmentError(
            f"The curve was measured on {n} test images and the synthetic set on {synthetic.shape[-1]}. "
            "Both must be tested on the same ones."
        )
    per_draw = curve.correct.mean(axis=2)  # (draws, shots)
    zero_shot = None if curve.zero_shot is None else float(curve.zero_shot.mean())
    made = float(synthetic.mean())
    measured = per_draw.mean(axis=0)
    floor = np.array([-math.inf if zero_shot is None else zero_shot])
    value = float(crossing(curve.shots, measured[None], floor, np.array([made]))[0])

    rng = np.random.default_rng(seed)
    curves, zeros, mades = _resample(curve, synthetic, n_bootstrap, rng, groups)
    if resampled is not None and len(resampled) > 1:
        spread = math.sqrt(variance_between(np.asarray(resampled, np.float64)))
        mades = mades + spread * rng.standard_t(len(resampled) - 1, n_bootstrap)
    values = np.sort(crossing(curve.shots, curves, zeros, mades))
    low, high = _percentiles(values)
    ci = (min(float(low), value), max(float(high), value))
    bands = np.clip(np.stack(_percentiles(np.sort(curves, axis=0)), axis=1), 0.0, 1.0)  # (shots, 2)
    points = [
        {"shots": k, "accuracy": float(measured[i]), "ci": bands[i].tolist(), "per_draw": per_draw[:, i].tolist()}
        for i, k in enumerate(curve.shots)
    ]
    level = len(curve.shots) > 1 and np.ptp(measured) <= ROUNDING
    details = {
        "text": LEVEL if level and 0 < value < math.inf else _text(value, ci, curve.shots),
        "synthetic": made,
        "zero_shot": zero_shot,
        "curve": points,
        "below": float((values == 0).mean()),
        "beyond": float(np.isinf(values).mean()),
        "note": curve.note,
    }
    return Result("exchange rate", value, n, ci, details=details)


def crossing(shots: Sequence[int], curves: np.ndarray, zero_shot: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The smallest number of shots at which each of B curves reaches its target.

    Args:
        shots: K rising numbers.
        curves: accuracies, float (B, K); made to rise here.
        zero_shot: float (B,), the accuracy at no shots; minus infinity where there is none.
        target: float (B,).

    Returns:
        float (B,): 0 where the target is below the first point or not above ``zero_shot``, infinity where it is above
        the last one.
    """
    risen = _isotonic(curves)
    above = (risen < target[:, None] - ROUNDING).sum(axis=1)  # (B,) index of the first point that reaches the target
    rows, right = np.arange(len(risen)), np.clip(above, 1, max(len(shots) - 1, 1))
    answer = np.full(len(risen), float(shots[0]))
    if len(shots) > 1:
        x, left = np.log2(np.asarray(shots, dtype=np.float64)), right - 1
        rise = risen[rows, right] - risen[rows, left]
        share = (target - risen[rows, left]) / np.where(rise > 0, rise, 1.0)
        answer = np.exp2(x[left] + np.clip(share, 0.0, 1.0) * (x[right] - x[left]))
    answer[above == len(shots)] = np.inf
    answer[(target < risen[:, 0] - ROUNDING) | (target <= zero_shot + ROUNDING)] = 0.0
    return answer


def _isotonic(curves: np.ndarray) -> np.ndarray:
    """The nearest non-decreasing curves in least squares, float (B, K), by the min-max formula: no loop over B."""
    n_points = curves.shape[1]
    sums = np.concatenate([np.zeros((len(curves), 1)), np.cumsum(curves, axis=1)], axis=1)
    first, last = np.arange(n_points)[:, None], np.arange(n_points)[None, :]
    means = (sums[:, None, 1:] - sums[:, :-1, None]) / np.maximum(
        last - first + 1, 1
    )  # (B, K, K): of the points first..last
    fitted = [means[:, : j + 1, j:].min(axis=2).max(axis=1) for j in range(n_points)]
    return np.stack(fitted, axis=1)


def _resample(
    curve: Curve, synthetic: np.ndarray, n_bootstrap: int, rng: np.random.Generator, groups: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bootstrap accuracies: of the curve (B, shots), of the untuned classifier (B,) and of the synthetic set (B,)."""
    n_draws, _, n = curve.correct.shape
    zero_shot = np.zeros(n, bool) if curve.zero_shot is None else curve.zero_shot
    # Counts over draws and over seeds, not means: whole numbers, which float32 adds up without error.
    hits = np.concatenate([curve.correct.sum(axis=0), zero_shot[None], synthetic.sum(axis=0, keepdims=True)])
    runs = np.array([n_draws] * len(curve.shots) + [1, len(synthetic)])
    rows = np.concatenate([hits, np.ones((1, n))]).T.astype(np.float32)  # (n, shots + 3); the last counts images
    if groups is not None:
        of_group = np.unique(groups, return_inverse=True)[1]
        rows = np.stack([np.bincount(of_group, weights=column) for column in rows.T], axis=1).astype(np.float32)
    sizes = [min(REPLICATES_AT_ONCE, n_bootstrap - start) for start in range(0, n_bootstrap, REPLICATES_AT_ONCE)]
    drawn = np.concatenate([_image_counts(size, len(rows), rng) @ rows for size in sizes]).astype(np.float64)
    drawn = drawn[:, :-1] / (drawn[:, -1:] * runs)
    curves = drawn[:, :-2] + _deviations(curve.correct.mean(axis=2), n_bootstrap, rng)
    zeros = np.full(n_bootstrap, -math.inf) if curve.zero_shot is None else drawn[:, -2]
    return curves, zeros, drawn[:, -1] + _deviations(synthetic.mean(axis=1)[:, None], n_bootstrap, rng)[:, 0]


def _image_counts(n_rows: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """How often each of n images, or groups, is drawn in n draws with replacement: float32 (n_rows, n)."""
    counts = np.empty((n_rows, n), np.float32)
    for into, drawn in zip(counts, rng.integers(n, size=(n_rows, n)), strict=True):
        into[:] = np.bincount(drawn, minlength=n)  # row by row: the counts stay in a cache
    return counts


def _deviations(values: np.ndarray, n_bootstrap: int, rng: np.random.Generator) -> np.ndarray:
    """How far the mean of M rows may be off: (M, K) to (B, K), Student's t times each column's standard error.

    Normal multipliers on the rows keep the columns' correlation; 0 where there is one row.
    """
    freedom = len(values) - 1
    if not freedom:
        return np.zeros((n_bootstrap, values.shape[1]))
    student = rng.normal(size=(n_bootstrap, len(values))) * np.sqrt(freedom / rng.chisquare(freedom, (n_bootstrap, 1)))
    return student @ (values - values.mean(axis=0)) / math.sqrt(len(values) * freedom)


def _percentiles(ordered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 2.5th and 97.5th of values sorted along axis 0, without interpolating: there may be infinities among them."""
    return ordered[math.floor(0.025 * (len(ordered) - 1))], ordered[math.ceil(0.975 * (len(ordered) - 1))]


def _text(value: float, ci: tuple[float, float], shots: Sequence[int]) -> str:
    """The answer in words. Off the ends of the curve there are no numbers: there it is one end, or a range."""
    low, high = (_words(end, shots) for end in ci)
    if 0 < value < math.inf:
        return f"{_photographs(f'about {_words(value, shots)}')} ({low} to {high})"
    if ci == (0, math.inf):
        return f"anything from {low} to {_photographs(high)}, as far as these test images show"
    if low == high:
        return _photographs(low)
    far = f"{high} at the most" if value == 0 else f"{low} at the least"
    return f"{_photographs(_words(value, shots))} ({far})"


def _photographs(number: str) -> str:
    return f"{number} real photograph{'' if number.split()[-1] == '1' else 's'} a class"


def _words(value: float, shots: Sequence[int]) -> str:
    if value == 0:
        return f"less than {shots[0]}"
    if value == math.inf:
        return f"more than {shots[-1]}"
    return f"{value:.1f}".removesuffix(".0") if value < 10 else f"{value:.0f}"
