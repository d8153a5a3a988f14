"""The verdict in many small studies whose truth is known; `tools/calibrate.py` does the same on the starter, for hours."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from figment.bias import bias_of
from figment.evaluate.content import content_gate
from figment.evaluate.kind import difference
from figment.evaluate.placebo import resample, spread_labels
from figment.evaluate.verdict import BIAS_REMOVED, PLACEBO, UNTUNED, judge
from figment.learners.clip_head.discriminant import discriminant

N_CLASSES, D, PLACEBOS, RESAMPLES = 6, 12, 4, 8
CENTRES = np.random.default_rng(0).normal(size=(N_CLASSES, D))
#: Words that know the classes a little, and like the first one.
WORDS = 1.2 * (CENTRES + 1.5 * np.random.default_rng(1).normal(size=CENTRES.shape)) + 2.0 * np.eye(N_CLASSES)[0][
    :, None
] * CENTRES.mean(0)


def images(n_a_class: int, rng: np.random.Generator, centres: np.ndarray = CENTRES) -> tuple[np.ndarray, np.ndarray]:
    labels = np.tile(np.arange(N_CLASSES), n_a_class)
    x = centres[labels] + 1.3 * rng.normal(size=(len(labels), D))
    return x / np.linalg.norm(x, axis=1, keepdims=True), labels


def word_of(kind: str, seed: int, n: int = 100) -> str:
    """Words and images together, judged as a run judges it."""
    rng = np.random.default_rng([seed, 5])
    x, labels = images(
        30, rng, CENTRES if kind != "other things" else np.random.default_rng([seed, 9]).normal(size=CENTRES.shape)
    )
    if kind == "shuffled labels":
        labels = spread_labels(labels, rng)
    test, y = images(n, rng)
    zero, seen = 10 * test @ WORDS.T, 10 * x @ WORDS.T

    every = np.arange(len(x))
    again = [resample(labels, rng) for _ in range(RESAMPLES)]
    first, *others = [zero + bias_of(seen[rows]) for rows in (every, *again)]  # labels change nothing of it

    def right(rows: np.ndarray, named: np.ndarray, words: np.ndarray) -> np.ndarray:
        return (discriminant(x[rows], named, N_CLASSES).predict(test) + words).argmax(1) == y

    own = right(every, labels, first).astype(float)
    sets = np.stack([right(r, labels[r], w) for r, w in zip(again, others, strict=True)]).astype(float)
    placebos = np.stack([right(every, spread_labels(labels, rng), first) for _ in range(PLACEBOS)])
    of_sets = np.stack([right(r, spread_labels(labels[r], rng), w) for r, w in zip(again, others, strict=True)])
    unbiased = np.stack([words.argmax(1) == y for words in (first, *others)])
    untuned = zero.argmax(1) == y
    only = discriminant(x, labels, N_CLASSES).predict(test).argmax(1)
    differences = {
        UNTUNED: difference(own - untuned, resampled=sets - untuned),
        BIAS_REMOVED: difference(own - unbiased[0], resampled=sets - unbiased[1:]),
        PLACEBO: difference(own - placebos.mean(0), resampled=sets - of_sets),
    }
    return judge(differences, content_gate(only, y, N_CLASSES), len(y)).word


@pytest.mark.slow
def test_nothing_does_not_help_and_something_does():
    said = {
        kind: Counter(word_of(kind, seed) for seed in range(15))
        for kind in ("right labels", "shuffled labels", "other things")
    }
    assert said["right labels"]["helps"] >= 13, said
    assert said["shuffled labels"]["helps"] == 0 and said["other things"]["helps"] <= 1, said
