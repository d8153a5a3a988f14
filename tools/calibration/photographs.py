"""The exchange rate to a learner without words: of sets that hold nothing, and whether its interval holds the truth of the kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from calibration.cases import Case, draw
from calibration.rows import Row, rate
from calibration.world import World
from figment.evaluate.exchange_rate import SHOTS, Curve, Draw, crossing, exchange_rate, real_curve
from figment.evaluate.placebo import resample
from figment.learners.clip_head.discriminant import discriminant

SETS = 20  # drawn again
PHOTOGRAPHS = 100  # a class, that a study has for its curve
DRAWS_OF_TRUTH = 40


def photographs(case: Case, w: World, n_studies: int, sizes: Sequence[int]) -> Iterator[Row]:
    """A study is a set, a hundred photographs a class and n test images, all drawn anew."""
    labels = w.of("test")[1]
    truth = _truth(case, w, n_studies)
    values: dict[int, list[float]] = {n: [] for n in sizes}
    holds, less, surely_less = (dict.fromkeys(sizes, 0) for _ in range(3))
    for s in range(n_studies):
        rng = np.random.default_rng([s, 43])
        own, again = _learnt(case, w, s, rng)
        curve = _curve(w, _some_of_the_pool(w, rng), draws=5, seed=s)
        for n in sizes:
            chosen = rng.integers(len(labels), size=n)
            here = replace(curve, correct=curve.correct[:, :, chosen])
            found = exchange_rate(here, own[:, chosen], seed=s, resampled=again[:, chosen])
            holds[n] += found.ci[0] <= truth <= found.ci[1]
            less[n] += found.value == 0
            surely_less[n] += found.ci[1] == 0
            values[n].append(found.value)
    for n in sizes:
        quartiles = np.quantile(np.minimum(values[n], 2 * SHOTS[-1]), (0.25, 0.5, 0.75))
        yield {
            "n": n,
            "studies": n_studies,
            "truth": round(truth, 1) if np.isfinite(truth) else "more than 64",
            "quartiles": [round(float(q), 1) if q <= SHOTS[-1] else "more than 64" for q in quartiles],
            "holds the kind": rate(holds[n], n_studies),
            "less than 1": rate(less[n], n_studies),
            "surely less than 1": rate(surely_less[n], n_studies),
        }


def _learnt(case: Case, w: World, seed: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Which test images are right after learning from a set, bool (1, n), and from it drawn again, bool (B, n)."""
    drawn = draw(case, w, seed)
    rows = [np.arange(len(drawn.labels)), *(resample(drawn.labels, rng) for _ in range(SETS))]
    right = np.stack([_right(w, drawn.features[r], drawn.labels[r]) for r in rows])
    return right[:1], right[1:]


def _right(w: World, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    test, labels = w.of("test")
    return discriminant(x, y, w.n_classes).predict(test).argmax(1) == labels


def _curve(w: World, rows: np.ndarray, draws: int, seed: int) -> Curve:
    """The curve of the real images ``rows`` of the pool."""
    (x, y), (test, labels) = w.of("pool"), w.of("test")
    x, y = x[rows], y[rows]

    def learn(trainings: Sequence[Draw]) -> Iterator[np.ndarray]:
        for t in trainings:
            yield discriminant(x[t.index], y[t.index], w.n_classes).predict(test).argmax(1)

    return real_curve(y, labels, learn, None, draws=draws, seed=seed)


def _some_of_the_pool(w: World, rng: np.random.Generator) -> np.ndarray:
    labels = w.of("pool")[1]
    return np.concatenate(
        [rng.choice(np.flatnonzero(labels == c), PHOTOGRAPHS, replace=False) for c in range(w.n_classes)]
    )


def _truth(case: Case, w: World, n_sets: int) -> float:
    """Where the mean accuracy of the sets meets the mean curve of many draws from all photographs."""
    curve = _curve(w, np.arange(len(w.of("pool")[1])), DRAWS_OF_TRUTH, seed=1_000).correct.mean((0, 2))
    accuracies = []
    for s in range(n_sets):
        drawn = draw(case, w, s)
        accuracies.append(_right(w, drawn.features, drawn.labels).mean())
    return float(crossing(SHOTS, curve[None], np.array([-np.inf]), np.array([np.mean(accuracies)]))[0])
