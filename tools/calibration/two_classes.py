"""A placebo of two classes is right in about half of the cases. If nobody kept the own label it would be the swapped classes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from calibration.cases import drawn_rows
from calibration.rows import Row
from calibration.world import World
from figment.evaluate.placebo import spread_labels
from figment.learners.clip_head.head import Head
from figment.learners.clip_head.settings import TuneSettings
from figment.learners.clip_head.tune import Chosen, tune_many

NAMES = ("sneaker", "sandal")
STEPS = (150, 300, 1_000)  # of a batch of all images each


def two_classes(w: World, n_sets: int, steps: int) -> Iterator[Row]:
    """Accuracy on the real images of the two classes, trained hard, by what the labels are."""
    settings = TuneSettings(learning_rate=0.01, soft_weight=0.0, epochs=steps)
    pair = [w.class_names.index(name) for name in NAMES]
    (x, y), (test, labels) = _only(w, "generated", pair), _only(w, "test", pair)
    start = Head.from_texts(w.prototypes[pair], w.logit_scale)
    chosen = []
    for s in range(n_sets):
        rng = np.random.default_rng([s, 41])
        rows = drawn_rows(y, rng)
        chosen += [Chosen(rows, y[rows]), Chosen(rows, spread_labels(y[rows], rng)), Chosen(rows, 1 - y[rows])]
    tuned = tune_many(start, x, chosen, settings, [i // 3 for i in range(len(chosen))])
    right = np.array([(t.head.predict(test).argmax(1) == labels).mean() for t in tuned]).reshape(n_sets, 3) * 100
    for name, found in zip(("right", "placebo", "swapped"), right.T, strict=True):
        yield {
            "steps": steps,
            "labels": name,
            "sets": n_sets,
            "mean %": round(float(found.mean()), 1),
            "standard deviation": round(float(found.std(ddof=1)), 1),
            "range %": [round(float(found.min()), 1), round(float(found.max()), 1)],
            "draws within 40 to 65 %": round(100 * float(((found >= 40) & (found <= 65)).mean()), 1),
        }


def _only(w: World, which: str, pair: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Features, and 0 or 1, of the images of two classes."""
    x, y = w.of(which)
    rows = np.flatnonzero(np.isin(y, pair))
    return x[rows], (y[rows] == pair[1]).astype(np.int64)
